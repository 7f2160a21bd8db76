//! The renewal agent of a running service: started where the configuration names a CA service, told of the registry, stopped.

use super::sync;
use crate::agent::{Agent, Followed, GONE_FOR, Handle, Parts, Reading, Settings, Trial};
use crate::audit::{AuditEvent, Trail, Witness};
use crate::config::{Config, Enrolment, Renewal};
use crate::registry::{self, Issuer, View};
use crate::responder::Responder;
use crate::signer::SigningKey;
use crate::signer::slots::{SlotFault, Slots};
use crate::time::{Clock, Timestamp, monotonic};
use crate::x509::Certificate;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the agent may take to stop; requests on the wire are dropped.
const STOP: Duration = Duration::from_secs(5);
/// After a start that failed it is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The agent, where there is one, and what it was told.
pub(super) struct RenewalAgent {
    state_dir: PathBuf,
    slots: Slots,
    faults: Vec<SlotFault>,
    responder: Responder,
    clock: Arc<dyn Clock>,
    trail: Option<Arc<Trail>>,
    registry: registry::Handle,
    running: Option<Running>,
    /// By the monotonic clock: one of the time of day that was ahead when it was noted would put it off for as long.
    next_try: Option<Instant>,
    /// Why it does not run though it is wanted.
    fault: Option<String>,
}

struct Running {
    agent: Agent,
    handle: Handle,
    config: Config,
    settings: Settings,
    handed: Option<Reading>,
}

impl RenewalAgent {
    pub(super) fn new(
        config: &Config,
        (slots, faults): (Slots, Vec<SlotFault>),
        responder: Responder,
        registry: registry::Handle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let dir = sync::audit_dir(&config.state_dir);
        let trail = match Trail::open(&dir, sync::trail_limits(config), clock.clone()) {
            Ok(trail) => Some(Arc::new(trail)),
            Err(error) => {
                tracing::error!("{}: there is no audit trail until the next start: {error}", dir.display());
                None
            }
        };
        RenewalAgent {
            state_dir: config.state_dir.clone(),
            slots,
            faults,
            responder,
            clock,
            trail,
            registry,
            running: None,
            next_try: None,
            fault: None,
        }
    }

    /// The audit trail, where it could be opened.
    pub(super) fn trail(&self) -> Option<Arc<Trail>> {
        self.trail.clone()
    }

    /// Reaches the agent, where it runs.
    pub(super) fn handle(&self) -> Option<Handle> {
        self.running.as_ref().map(|running| running.handle.clone())
    }

    /// Why the agent does not run though it is wanted.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Starts the agent where it is wanted and does not run, and tells it of the registry as it was last read.
    pub(super) fn follow(&mut self, config: &Config, reading: Option<Reading>) {
        self.follow_at(config, reading, monotonic());
    }

    fn follow_at(&mut self, config: &Config, reading: Option<Reading>, now: Instant) {
        self.bury(now);
        self.start(config, now);
        let Some(running) = &mut self.running else { return };
        let Some(reading) = reading else { return };
        let is_known = running.handed.as_ref().is_some_and(|handed| {
            Arc::ptr_eq(&handed.generation, &reading.generation) && handed.synced_at == reading.synced_at
        });
        if !is_known {
            running.handed = Some(reading.clone());
            running.handle.registry(reading);
        }
    }

    /// Takes over what has changed in the configuration.
    pub(super) fn change(&mut self, config: &Config) {
        let Some(running) = &mut self.running else { return };
        if renewal_of(&running.config) == renewal_of(config) {
            return;
        }
        match Settings::of(config, &self.clock, Some((&running.config, &running.settings))) {
            Ok(settings) => {
                running.settings = settings.clone();
                running.config = config.clone();
                let handle = running.handle.clone();
                tokio::spawn(async move {
                    if let Err(gone) = handle.configure(settings).await {
                        tracing::error!("the changed settings of renewal do not apply: {gone}");
                    }
                });
            }
            Err((name, error)) => tracing::error!("the settings of renewal in use stay: enrolment.{name}: {error}"),
        }
    }

    /// Ends the agent, waiting no longer than it may take.
    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take()
            && !running.agent.stop(STOP)
        {
            tracing::warn!("the renewal agent did not stop within {} s and is left behind", STOP.as_secs());
        }
    }

    fn start(&mut self, config: &Config, now: Instant) {
        if self.running.is_some() {
            return;
        }
        if config.enrolment.is_empty() {
            self.fault = None;
            return;
        }
        if self.next_try.is_some_and(|at| now < at) {
            return;
        }
        self.next_try = now.checked_add(AGAIN);
        match self.try_to_start(config) {
            Ok(running) => {
                self.running = Some(running);
                self.fault = None;
            }
            Err(error) => {
                tracing::error!("signers are not renewed: {error}; it is tried again in a minute");
                self.fault = Some(error);
            }
        }
    }

    /// Takes out an agent whose thread has ended by itself; another one is started a minute later.
    fn bury(&mut self, now: Instant) {
        let Some(dead) = self.running.take_if(|running| running.agent.has_ended()) else { return };
        let _ = dead.agent.stop(STOP); // it has ended: only what the thread had is given back
        tracing::error!("signers are not renewed: the renewal agent has died; it is started anew in a minute");
        self.fault = Some("it has died; the log says why".to_owned());
        self.next_try = now.checked_add(AGAIN);
    }

    fn try_to_start(&self, config: &Config) -> Result<Running, String> {
        let settings =
            Settings::of(config, &self.clock, None).map_err(|(name, error)| format!("enrolment.{name}: {error}"))?;
        let dir = self.state_dir.join("credentials");
        let (credentials, faults) = Slots::open(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        for fault in &faults {
            tracing::error!("{fault}");
        }
        let witness: Arc<dyn Witness> = match &self.trail {
            Some(trail) => trail.clone(),
            None => Arc::new(Nobody),
        };
        let parts = Parts {
            node: config.renewal.node.clone().unwrap_or_else(host_name),
            ledger: self.state_dir.join("ledger.redb"),
            slots: self.slots.clone(),
            credentials,
            faults: self.faults.clone(),
            trial: Arc::new(TryOut(self.responder.clone())),
            evidence: Arc::new(Followed::new(self.registry.clone())),
            witness,
            clock: self.clock.clone(),
            gone_for: GONE_FOR,
        };
        let node = parts.node.clone();
        let (agent, handle) = Agent::start(settings.clone(), parts).map_err(|error| error.to_string())?;
        tracing::info!(node, services = settings.services.len(), "renewing signers");
        Ok(Running { agent, handle, config: config.clone(), settings, handed: None })
    }
}

/// What of a configuration concerns renewal.
fn renewal_of(config: &Config) -> (&Renewal, &BTreeMap<String, Enrolment>, Duration, Duration) {
    (&config.renewal, &config.enrolment, config.registry.max_age, config.registry.refresh)
}

/// The host's name, as far as it can name a node.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// What the agent is told of the registry. As long as only the copy of a former process is known, there is no evidence that
/// anything is active.
pub(super) fn reading(view: &View) -> Option<Reading> {
    Some(Reading { generation: view.renewable.clone()?, synced_at: view.synced.unwrap_or(Timestamp::MIN) })
}

/// New signers are tried out by those who will use them.
struct TryOut(Responder);

impl Trial for TryOut {
    fn attempt(
        &self,
        issuer: &Arc<Issuer>,
        certificate: &Certificate,
        key: &Arc<SigningKey>,
        now: Timestamp,
    ) -> Result<(), String> {
        self.0.try_out(issuer.id.as_str(), certificate, key, now)
    }
}

/// Where there is no trail.
struct Nobody;

impl Witness for Nobody {
    fn saw(&self, event: &AuditEvent) {
        tracing::debug!(what = event.what.name(), about = %event.about, "{}", event.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Sync;
    use crate::responder::ResponderSettings;
    use crate::time::ManualClock;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    /// A clock that can be made to kill the agent's thread when it next looks at it.
    struct Deadly {
        clock: ManualClock,
        is_armed: AtomicBool,
    }

    impl Clock for Deadly {
        fn now(&self) -> Timestamp {
            if std::thread::current().name() == Some("agent") && self.is_armed.swap(false, Ordering::SeqCst) {
                panic!("for the test");
            }
            self.clock.now()
        }
    }

    #[test]
    fn an_agent_that_has_died_is_started_anew_a_minute_later() {
        let dir = tempfile::tempdir().unwrap();
        let text = "state_dir = \"state\"\n[registry]\nsource = \"issuers.json\"\n[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"keys\"\n";
        let config = Config::parse(text, &dir.path().join("stillgood.toml")).unwrap();
        crate::store::create_private(&config.state_dir).unwrap();
        let died = Timestamp::from_unix(1_800_000_000);
        let clock = Arc::new(Deadly { clock: ManualClock::at(died), is_armed: AtomicBool::new(true) });
        let responder = Responder::start(ResponderSettings {
            state_dir: None,
            presign_workers: 1,
            background_nice: 0,
            demand: sync::demand(&config),
            clock: clock.clone(),
        });
        let (_sync, registry) =
            Sync::start(registry::Settings::of(&config), Path::new(&config.state_dir), clock.clone()).unwrap();
        let slots = sync::slots(&config.state_dir).unwrap();
        let mut renewal = RenewalAgent::new(&config, slots, responder, registry, clock.clone());
        let began = Instant::now();
        renewal.follow_at(&config, None, began);
        while renewal.fault().is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not noticed");
            std::thread::sleep(Duration::from_millis(5));
            renewal.follow_at(&config, None, began);
        }
        assert!(renewal.handle().is_none() && renewal.fault().unwrap().contains("has died"));
        renewal.follow_at(&config, None, began + AGAIN - Duration::from_secs(1));
        assert!(renewal.handle().is_none(), "no sooner");
        // Whatever the time of day does meanwhile.
        clock.clock.set(died.minus(Duration::from_secs(365 * 86_400)));
        renewal.follow_at(&config, None, began + AGAIN);
        assert_eq!(renewal.fault(), None);
        assert!(!renewal.handle().unwrap().is_gone());
        renewal.stop();
    }
}
