//! The control socket of a running service.

use super::{AgentError, Desk, Examined, Registries, Renewals, Served};
use crate::admin;
use crate::admin::control::{AgentReport, ControlHandle, Quarantine, RegistryReport, SocketError, start};
use crate::agent::{self, CommandError, Gone, Reading, view_of};
use crate::audit::Trail;
use crate::config::Config;
use crate::registry::{self, Document, Guard, Impact, MAX_LEN, RecordRules, would_refuse};
use crate::renewal::{self, Explanation, Plan, RegistryView, SlotId, Snapshot};
use crate::responder::Responder;
use crate::signer::files::MAX_CERTIFICATE_FILE_LEN;
use crate::time::{Clock, Timestamp, monotonic};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long an operator waits for files to be looked at.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// What the socket of a running service is made of.
pub(in crate::cli) struct Parts {
    /// The configuration in use, also after it has changed.
    pub(in crate::cli) config: Arc<ArcSwap<Config>>,
    /// The agent, where one runs now.
    pub(in crate::cli) agent: Box<dyn Fn() -> Option<agent::Handle> + Send + Sync>,
    pub(in crate::cli) registry: registry::Handle,
    pub(in crate::cli) responder: Responder,
    pub(in crate::cli) trail: Option<Arc<Trail>>,
    pub(in crate::cli) clock: Arc<dyn Clock>,
    /// Shows in a browser what operators are answered.
    pub(in crate::cli) page: Arc<admin::State>,
}

/// Opens the socket that the configuration names, and answers operators on it.
pub(in crate::cli) fn open(parts: Parts) -> Result<ControlHandle, SocketError> {
    let admin = parts.config.load().admin.clone();
    let responder = parts.responder;
    let started = parts.clock.now();
    let renewal = parts.config.clone();
    let registry = Followed { handle: parts.registry, config: parts.config, clock: parts.clock.clone() };
    let (signs, looks) = (responder.clone(), responder.clone());
    // The page holds whoever asks.
    let page = Arc::downgrade(&parts.page);
    let served = move || {
        let page = page.upgrade();
        Served {
            reports: responder.reports(),
            presign: responder.presign_stats(),
            last_pass: responder.last_pass(),
            since_last_pass: responder.since_last_pass(),
            agent_fault: page.as_ref().and_then(|page| page.agent_fault()),
            worries: page.as_ref().map(|page| page.worries()).unwrap_or_default(),
            missing: page.map(|page| page.not_ready()).unwrap_or_default(),
            renewal: renewal.load().renewal.clone(),
        }
    };
    let desk = Arc::new(Desk {
        agent: parts.agent,
        registry,
        served: Box::new(served),
        socket: std::path::absolute(&admin.socket).unwrap_or_else(|_| admin.socket.clone()),
        look: Box::new(move || look(looks.clone())),
        resign: Box::new(move |issuer| signs.resign(issuer)),
        trail: parts.trail,
        clock: parts.clock,
        started,
    });
    // Whether the socket can be had or not.
    let shown = desk.clone();
    parts.page.set_report(Box::new(move || shown.picture()));
    let handle = start(&admin.socket, admin.socket_mode, desk)?;
    tracing::info!("operators are answered on {}", admin.socket.display());
    Ok(handle)
}

/// Looks at all files of all issuers, and leaves those behind that keep their reader waiting.
fn look(responder: Responder) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let (done, is_done) = tokio::sync::oneshot::channel();
        let look = move || {
            responder.poll();
            let _ = done.send(()); // unless nobody waits any more
        };
        if std::thread::Builder::new().name("look-now".into()).spawn(look).is_ok() {
            let _ = tokio::time::timeout(LOOK_LIMIT, is_done).await;
        }
    })
}

impl Renewals for agent::Handle {
    fn snapshot(&self) -> Arc<Snapshot> {
        agent::Handle::snapshot(self)
    }

    fn report(&self) -> AgentReport {
        let view = self.view();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        AgentReport {
            last_pass: Some(view.last_pass),
            overdue: self.is_gone() || view.is_overdue(monotonic()),
            known: count(view.coverage.known),
            checked: count(view.coverage.checked),
            unreadable: view.coverage.unreadable.clone(),
            fault: view.ledger_fault.clone(),
            down: None,
        }
    }

    fn credential_faults(&self) -> Vec<(String, String)> {
        let view = self.view();
        let those = view.credentials.iter().filter_map(|c| Some((c.endpoint.to_string(), c.fault.clone()?)));
        those.collect()
    }

    async fn plan(&self) -> Result<Plan, AgentError> {
        Ok(agent::Handle::plan(self).await?)
    }

    async fn explain(&self, slot: SlotId) -> Result<Explanation, AgentError> {
        Ok(agent::Handle::explain(self, slot).await?)
    }

    async fn impact(&self, view: RegistryView) -> Result<renewal::Impact, AgentError> {
        Ok(agent::Handle::impact(self, view).await?)
    }

    async fn command(&self, command: renewal::Command, who: String, reason: String) -> Result<usize, AgentError> {
        Ok(agent::Handle::command(self, command, who, reason).await?)
    }
}

impl From<Gone> for AgentError {
    fn from(gone: Gone) -> Self {
        AgentError::Failed(gone.to_string())
    }
}

impl From<CommandError> for AgentError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Ignored(why) => AgentError::Ignored(why),
            other => AgentError::Failed(other.to_string()),
        }
    }
}

/// The registry that a service follows.
struct Followed {
    handle: registry::Handle,
    config: Arc<ArcSwap<Config>>,
    clock: Arc<dyn Clock>,
}

impl Registries for Followed {
    fn report(&self) -> RegistryReport {
        let view = self.handle.view();
        let max_age = self.config.load().registry.max_age;
        let now = self.clock.now();
        let quarantined = view.current.iter().flat_map(|generation| {
            let since: HashMap<_, _> = generation.served_on().map(|(issuer, since)| (&issuer.id, since)).collect();
            generation.quarantined.iter().map(move |q| {
                let served_on_since = q.id.as_ref().and_then(|id| since.get(id).copied());
                Quarantine { served_on_since, ..quarantine(q) }
            })
        });
        RegistryReport {
            generation: view.current.as_ref().map(|generation| generation.number),
            synced_at: view.synced,
            fresh: view.synced.is_some_and(|at| now.since(at) <= max_age),
            fault: view.fault.clone(),
            held: view.held.as_ref().map(|held| (held.generation.number, held.impact.to_string())),
            quarantined: quarantined.collect(),
        }
    }

    async fn examine(&self, file: PathBuf) -> Result<Examined, String> {
        let (config, current, now) = (self.config.load_full(), self.handle.view().current.clone(), self.clock.now());
        let look = move || examine(&file, &config, current.as_deref(), now);
        tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())?
    }

    async fn approve(&self, generation: u64, who: String) -> Result<(), String> {
        self.handle.approve(generation, &who).await.map_err(|error| error.to_string())
    }
}

fn examine(
    file: &Path,
    config: &Config,
    current: Option<&registry::Generation>,
    now: Timestamp,
) -> Result<Examined, String> {
    let bytes = read(file, MAX_LEN).map_err(|error| format!("{}: {error}", file.display()))?;
    let document = Document::parse(&bytes, file, &RecordRules::of(config)).map_err(|faults| faults.to_string())?;
    let refused = would_refuse(&config.state_dir, document.number(), &bytes);
    let generation = document.resolve(&mut |path| read(path, MAX_CERTIFICATE_FILE_LEN));
    let changes = current.map_or_else(Impact::default, |current| Impact::of(current, &generation));
    let registry = &config.registry;
    let guard = Guard { max_change: registry.max_change, small_change: registry.small_change };
    let reading = Reading { generation: Arc::new(generation), synced_at: now };
    Ok(Examined {
        view: view_of(&reading, &config.renewal),
        quarantined: reading.generation.quarantined.iter().map(quarantine).collect(),
        refused: refused.into_iter().collect(),
        held: guard.holds(&changes).then(|| changes.to_string()),
        changes,
    })
}

fn quarantine(quarantined: &registry::Quarantined) -> Quarantine {
    let faults = quarantined.faults.iter().map(ToString::to_string).collect();
    Quarantine { record: quarantined.name(), faults, served_on_since: None }
}

/// A regular file of at most `max` octets: no pipe makes it wait, no device makes it read for ever.
fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {max} octets")));
    }
    Ok(bytes)
}
