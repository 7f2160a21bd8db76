//! The agent's thread: its beginning and its end.

use super::driver::Driver;
use super::handle::{Handle, QUESTIONS, Shared};
use super::ledger::{Ledger, LedgerError, Restored};
use super::parts::{Parts, Settings};
use super::tell::Teller;
use super::view::{AgentView, Coverage};
use super::watch::{open_order, staged_orders, sweep};
use super::work::panic_text;
use crate::audit::{About, What};
use crate::renewal::{Core, Event, NodeId, Record};
use crate::time::monotonic;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Why the agent cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The system gives no thread or no event queue.
    #[error("the renewal agent cannot be started: {0}")]
    System(io::Error),
    /// The limits contradict each other.
    #[error("the limits of renewal contradict each other: {0}")]
    Limits(String),
}

/// A running agent. Dropping it leaves it running; [`Agent::stop`] ends it.
pub struct Agent {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Agent {
    /// Opens the ledger and starts the thread. Nothing is asked for before [`Handle::registry`] has been called.
    ///
    /// # Errors
    /// The ledger cannot be opened for a reason other than damage, or the system gives no thread.
    pub fn start(settings: Settings, parts: Parts) -> Result<(Agent, Handle), AgentError> {
        let faults = settings.limits.faults();
        if !faults.is_empty() {
            return Err(AgentError::Limits(faults.join("; ")));
        }
        let now = parts.clock.now();
        let teller = Teller { witness: parts.witness.clone(), clock: parts.clock.clone() };
        let (mut ledger, mut restored) = Ledger::open(&parts.ledger, now)?;
        if restored.is_new {
            let staged = staged_orders(&parts.slots, now);
            ledger.write(&staged, now)?; // the next start destroys what it does not know
            restored.records.extend(staged.into_iter().map(|record| (record, now)));
        }
        for fault in &restored.faults {
            teller.alarm(fault.clone());
        }
        let mut core = Core::new(settings.limits.clone(), NodeId::named(&parts.node));
        let specs = settings.services.iter().map(|service| service.spec.clone()).collect();
        // The core is new: there is nothing that it could ignore.
        let _ = core.handle(Event::Endpoints(specs), now);
        let written = restore(&mut core, restored, &parts);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(core.snapshot(now)),
            view: ArcSwap::from_pointee(AgentView {
                started: now,
                last_pass: now,
                passed: monotonic(),
                coverage: Coverage::default(),
                requests: Vec::new(),
                credentials: Vec::new(),
                abandoned: 0,
                ledger_fault: None,
            }),
            settings: ArcSwap::from_pointee(settings.clone()),
            registry: Mutex::default(),
            woken: Notify::new(),
        });
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (stop, stopped) = oneshot::channel();
        let (over, ended) = std::sync::mpsc::sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::System)?;
        teller.saw(&teller.event(What::Started, About::All));
        let (driver, inbox) = Driver::new(parts, settings, shared.clone(), core, ledger, written);
        let thread = std::thread::Builder::new()
            .name("agent".to_owned())
            .spawn(move || {
                let run = AssertUnwindSafe(|| runtime.block_on(driver.run(inbox, asked, stopped)));
                if let Err(panic) = catch_unwind(run) {
                    let text = panic_text(panic.as_ref());
                    teller.alarm(format!("the renewal agent has died: {text}; signers are used while they last"));
                }
                runtime.shutdown_background();
                let _ = over.send(()); // nobody may be waiting
            })
            .map_err(AgentError::System)?;
        Ok((Agent { thread, stop, ended }, Handle { shared, questions }))
    }

    /// Whether its thread is over, by itself or by a panic. It can then be started anew on the same ledger.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it: requests on the wire are dropped, and asked again at the next start. Waits no longer than `grace`; `false`: it
    /// had not ended by then.
    pub fn stop(self, grace: Duration) -> bool {
        let _ = self.stop.send(()); // it may have ended by itself
        let is_over = self.ended.recv_timeout(grace) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if is_over {
            let _ = self.thread.join(); // what it said when it panicked has been told
        }
        is_over
    }
}

/// Tells the core what the ledger holds, and destroys orders that it does not know: not those of a slot whose record
/// was set aside, nor any when the ledger is new. Gives what was written when.
fn restore(core: &mut Core, restored: Restored, parts: &Parts) -> BTreeMap<String, crate::time::Timestamp> {
    let now = parts.clock.now();
    let mut written = BTreeMap::new();
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (record, at) in restored.records {
        written.insert(record.key(), at);
        if let Record::Slot(slot) = &record {
            open.extend(open_order(&slot.phase));
        }
        if let Err(ignored) = core.handle(Event::Restored(Box::new(record)), now) {
            tracing::error!("a ledger record is not used: {ignored}");
        }
    }
    if restored.is_new {
        tracing::warn!("the ledger is new: no order on disk is destroyed at this start");
        return written;
    }
    sweep(&parts.slots, "signer", &open, &restored.aside);
    sweep(&parts.credentials, "credential", &open, &restored.aside);
    written
}
