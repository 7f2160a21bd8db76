//! By what the others reach the agent's thread.

use super::parts::{Reading, Settings};
use super::view::AgentView;
use crate::renewal::{Command, Explanation, Ignored, Impact, Plan, RegistryView, SlotId, Snapshot};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Questions that may wait for the agent's thread; more would be a fault of whoever asks.
pub(super) const QUESTIONS: usize = 64;
/// How long a question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent's thread does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the renewal agent does not answer: its thread has ended or hangs; the log says why; a dead one is started anew within a minute, one that hangs takes a restart"
)]
pub struct Gone;

/// Why a command was not carried out, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The agent does not answer.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It changes nothing.
    #[error(transparent)]
    Ignored(#[from] Ignored),
    /// It holds now and would be forgotten at a restart.
    #[error("it applies now, but could not be written to the ledger and would be forgotten at a restart: {0}")]
    NotSaved(String),
}

/// What the agent's thread is asked.
pub(super) enum Question {
    Plan(oneshot::Sender<Plan>),
    Explain(SlotId, oneshot::Sender<Result<Explanation, Ignored>>),
    Impact(RegistryView, oneshot::Sender<Impact>),
    Command { command: Command, who: String, reason: String, answer: oneshot::Sender<Result<usize, CommandError>> },
    Configure(Box<Settings>, oneshot::Sender<()>),
}

/// What is published and handed over without waiting.
pub(super) struct Shared {
    pub snapshot: ArcSwap<Snapshot>,
    pub view: ArcSwap<AgentView>,
    pub settings: ArcSwap<Settings>,
    pub registry: Mutex<Option<Reading>>,
    pub woken: Notify,
}

impl Shared {
    /// The newest registry that was handed over and not yet taken.
    pub fn take_registry(&self) -> Option<Reading> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Reaches the agent; cheap to clone. Reading what was published waits for nobody.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) questions: mpsc::Sender<Question>,
}

impl Handle {
    /// The registry, new or read again. Only the newest counts; nothing waits.
    pub fn registry(&self, reading: Reading) {
        *self.shared.registry.lock().unwrap_or_else(PoisonError::into_inner) = Some(reading);
        self.shared.woken.notify_one();
    }

    /// The state of renewal at the last pass.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// The state of the agent at its last pass. It stays as it was when the thread hangs or dies:
    /// [`AgentView::is_overdue`] tells.
    pub fn view(&self) -> Arc<AgentView> {
        self.shared.view.load_full()
    }

    /// The connections open now to each CA service, and the most there may be.
    pub fn connections(&self) -> Vec<(String, usize, usize)> {
        let of = |s: &super::Service| {
            (s.enrolment.endpoint().to_owned(), s.enrolment.connections(), s.enrolment.max_connections())
        };
        self.shared.settings.load().services.iter().map(of).collect()
    }

    /// Whether the thread has ended.
    pub fn is_gone(&self) -> bool {
        self.questions.is_closed()
    }

    /// The calendar.
    pub async fn plan(&self) -> Result<Plan, Gone> {
        self.ask(Question::Plan).await
    }

    /// Why a slot is where it is.
    ///
    /// # Errors
    /// [`CommandError::Ignored`]: there is no such slot.
    pub async fn explain(&self, slot: SlotId) -> Result<Explanation, CommandError> {
        Ok(self.ask(|answer| Question::Explain(slot, answer)).await??)
    }

    /// What another registry would change ([`view_of`](super::view_of)).
    pub async fn impact(&self, view: RegistryView) -> Result<Impact, Gone> {
        self.ask(|answer| Question::Impact(view, answer)).await
    }

    /// Carries out a command of `who`; it is in the ledger when this returns. The answer is how many slots it concerned.
    pub async fn command(&self, command: Command, who: String, reason: String) -> Result<usize, CommandError> {
        self.ask(|answer| Question::Command { command, who, reason, answer }).await?
    }

    /// Takes over another configuration.
    pub async fn configure(&self, settings: Settings) -> Result<(), Gone> {
        self.ask(|answer| Question::Configure(Box::new(settings), answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.questions.send(question(answer)).await.map_err(|_| Gone)?;
            answered.await.map_err(|_| Gone)
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Gone)?
    }
}
