//! The operator's side: health, readiness, metrics and a page for people, on a listener of its own.
//!
//! Reads snapshots and never makes serving wait. Nothing here is reachable from the public listener.

mod config_file;
pub mod control;
mod exposition;
mod lives;
mod load;
mod metrics;
mod page;
mod pages;
mod renewal;
mod server;

pub use server::{AdminError, AdminHandle, start, start_on};

use crate::agent;
use crate::audit::Trail;
use crate::endpoint::{self, Pulse, Stats};
use crate::registry::{Generation, Held, Looks};
use crate::responder::Responder;
use crate::time::{Clock, Timestamp, monotonic};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A look at the files is due every half second; one that is this late means that something hangs.
pub const PASS_OVERDUE: Duration = Duration::from_secs(60);

/// The registry as the operator sees it.
#[derive(Clone, Debug, Default)]
pub struct RegistryView {
    /// What holds.
    pub generation: Option<Arc<Generation>>,
    /// What waits for an operator.
    pub held: Option<Arc<Held>>,
    /// When the source was last read and found usable.
    pub last_success: Option<Timestamp>,
    /// Why the last look was refused, if it was.
    pub fault: Option<String>,
    /// What looks have brought since the start.
    pub looks: Looks,
}

/// What the admin listener shows.
pub struct State {
    responder: Responder,
    endpoint: ArcSwap<Stats>,
    pulse: ArcSwap<Pulse>,
    registry: Arc<ArcSwap<RegistryView>>,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    agent: ArcSwapOption<agent::Handle>,
    agent_fault: ArcSwapOption<String>,
    report: ArcSwapOption<Report>,
    trail: ArcSwapOption<Trail>,
    lines_dropped: ArcSwapOption<Count>,
    meter: page::Meter,
    load: load::Load,
    config_file: ArcSwap<config_file::View>,
    /// Each issuer has been answered for, or it was known why not.
    has_started: AtomicBool,
}

/// Says how everything is; never waits.
pub type Report = Box<dyn Fn() -> control::Status + Send + Sync>;

/// Says how many there have been; never waits.
pub type Count = Box<dyn Fn() -> u64 + Send + Sync>;

impl State {
    /// Shows this responder, this endpoint and this registry.
    pub fn new(
        responder: Responder,
        endpoint: &endpoint::Handle,
        registry: Arc<ArcSwap<RegistryView>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let started = clock.now();
        State {
            responder,
            endpoint: ArcSwap::from_pointee(endpoint.stats().clone()),
            pulse: ArcSwap::from_pointee(endpoint.pulse()),
            registry,
            clock,
            started,
            agent: ArcSwapOption::empty(),
            agent_fault: ArcSwapOption::empty(),
            report: ArcSwapOption::empty(),
            trail: ArcSwapOption::empty(),
            lines_dropped: ArcSwapOption::empty(),
            meter: page::Meter::default(),
            load: load::Load::default(),
            config_file: ArcSwap::default(),
            has_started: AtomicBool::new(false),
        }
    }

    /// Shows another endpoint, after its listeners were replaced.
    pub fn set_endpoint(&self, endpoint: &endpoint::Handle) {
        self.endpoint.store(Arc::new(endpoint.stats().clone()));
        self.pulse.store(Arc::new(endpoint.pulse()));
    }

    /// Shows this renewal agent, or none; and why it does not run, where it is wanted and does not.
    pub fn set_agent(&self, handle: Option<agent::Handle>, fault: Option<&str>) {
        self.agent.store(handle.map(Arc::new));
        self.agent_fault.store(fault.map(|fault| Arc::new(fault.to_owned())));
    }

    /// Whether the renewal agent runs; `None`: it is not wanted.
    fn agent_runs(&self) -> Option<bool> {
        let agent = self.agent.load();
        let runs = agent.as_ref().map(|agent| !agent.is_gone());
        runs.or_else(|| self.agent_fault.load().as_ref().map(|_| false))
    }

    /// Why the renewal agent does not run, where it is wanted and does not.
    pub fn agent_fault(&self) -> Option<String> {
        self.agent_fault.load().as_ref().map(|fault| fault.as_str().to_owned())
    }

    /// Looks at how many clients are turned away, and whether the start is over; to be called every few seconds.
    pub fn look_at_load(&self) {
        let _ = self.serves_nobody();
        self.load.note(load::Counts::of(&self.endpoint.load().snapshot()), crate::time::monotonic());
    }

    /// How clients were turned away in the last minutes, and what of the configuration file does not apply, one line each.
    pub fn worries(&self) -> Vec<String> {
        let mut worries = self.load.worries();
        worries.extend(self.config_file.load().worries());
        worries
    }

    /// The configuration file as it is now is refused, and the configuration in use stays.
    pub fn config_is_refused(&self, why: &str) {
        self.config_file.rcu(|view| view.refused_for(why));
    }

    /// The configuration file is in use but for these changes, which take a restart.
    pub fn config_is_in_use(&self, takes_a_restart: &[&'static str]) {
        self.config_file.store(Arc::new(config_file::View::in_use(takes_a_restart)));
    }

    /// Makes the status page of this report.
    pub fn set_report(&self, report: Report) {
        self.report.store(Some(Arc::new(report)));
    }

    /// Counts what this audit trail loses.
    pub fn set_trail(&self, trail: Option<Arc<Trail>>) {
        self.trail.store(trail);
    }

    /// Shows this count of log lines that were lost.
    pub fn set_lines_dropped(&self, count: Count) {
        self.lines_dropped.store(Some(Arc::new(count)));
    }

    /// The renewal agent that is shown.
    pub fn agent(&self) -> Option<agent::Handle> {
        self.agent.load_full().map(|handle| agent::Handle::clone(&handle))
    }

    /// Issuers that answer with what is held and for which nothing can be signed, disabled ones that have come to their end, those
    /// whose record cannot be used, and a configuration file that is not in use, one line each: no reason to take the machine out
    /// of service, and one to look.
    fn living_on(&self) -> Vec<String> {
        let now = self.clock.now();
        let reports = self.responder.reports();
        let lines = reports.iter().filter_map(|report| {
            let ended = report.is_disabled.then(|| report.cannot_answer(now)).flatten();
            match ended {
                Some(why) => {
                    Some(format!("issuer {}: disabled, and no longer answered for: {why}; retire it", report.id))
                }
                None => Some(format!("issuer {}: {}", report.id, report.cannot_sign()?)),
            }
        });
        let registry = self.registry.load();
        let served_on = registry.generation.iter().flat_map(|generation| generation.served_on());
        let served_on = served_on.map(|(issuer, since)| {
            let id = &issuer.id;
            format!("issuer {id}: its registry record cannot be used since {since}: served as before, and not renewed; mend it")
        });
        lines.chain(served_on).chain(self.config_file.load().worries()).collect()
    }

    /// Why requests are not answered, or not all; `None` while every worker of the endpoint has its turns.
    fn not_alive(&self) -> Option<String> {
        self.pulse.load().fault(Pulse::OVERDUE)
    }

    /// Why nobody should be sent here, one line each; empty as long as any issuer is answered for, also where others are in
    /// trouble and the service is not ready: what their trouble is others share, who read the same files. During a start it is
    /// waited for everything that is on its way.
    pub fn serves_nobody(&self) -> Vec<String> {
        if let Some(fault) = self.not_alive() {
            return vec![fault];
        }
        if self.responder.last_pass().is_none() {
            return vec!["the files have not been read yet".to_owned()];
        }
        let registry = self.registry.load();
        let Some(generation) = &registry.generation else {
            let fault = registry.fault.as_ref().map(|fault| format!("registry: {fault}"));
            return vec![fault.unwrap_or_else(|| "the registry has not been read yet".to_owned())];
        };
        let (now, reports) = (self.clock.now(), self.responder.reports());
        let missing: Vec<_> = reports.iter().filter_map(|report| Some((report, report.cannot_answer(now)?))).collect();
        if missing.iter().all(|(report, _)| report.is_disabled || !report.is_under_way(now)) {
            self.has_started.store(true, Ordering::Relaxed);
        }
        let serves = match reports.len() {
            0 => generation.quarantined.is_empty(),
            all => missing.len() < all,
        };
        if serves && self.has_started.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let lines = missing.iter().map(|(report, why)| format!("issuer {}: {why}", report.id));
        let unusable = generation.quarantined.iter().filter(|_| reports.is_empty());
        lines.chain(unusable.map(|q| format!("issuer {}: its registry record cannot be used", q.name()))).collect()
    }

    /// Why the service is not ready, one line each; empty when it is.
    pub fn not_ready(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut missing = Vec::from_iter(self.not_alive());
        match self.responder.last_pass() {
            None => missing.push("the files have not been read yet".to_owned()),
            Some(at) if self.responder.since_last_pass() > PASS_OVERDUE => {
                missing.push(format!("the last complete look at the files was at {at}: the pass is overdue"));
            }
            Some(_) => {}
        }
        if let Some(agent) = &*self.agent.load() {
            let view = agent.view();
            if agent.is_gone() {
                missing.push("the renewal agent has died; the log says why, and it is started anew".to_owned());
            } else if view.is_overdue(monotonic()) {
                missing.push(format!("the last pass of the renewal agent was at {}: it is overdue", view.last_pass));
            } else if let unseen @ 1.. = view.coverage.unseen() {
                missing.push(format!("{unseen} of {} signers have not been looked at", view.coverage.known));
            }
        } else if let Some(fault) = &*self.agent_fault.load() {
            missing.push(format!("the renewal agent does not run, and is tried again each minute: {fault}"));
        }
        let registry = self.registry.load();
        match (&registry.generation, &registry.fault) {
            (None, Some(fault)) => missing.push(format!("registry: {fault}")),
            (None, None) => missing.push("the registry has not been read yet".to_owned()),
            (Some(_), _) => {}
        }
        let reports = self.responder.reports();
        for report in reports.iter().filter(|report| !report.is_disabled) {
            if let Some(why) = report.cannot_answer(now) {
                missing.push(format!("issuer {}: {why}", report.id));
            }
        }
        for quarantined in registry.generation.iter().flat_map(|generation| &generation.quarantined) {
            let name = quarantined.name();
            if !reports.iter().any(|report| report.id == name) {
                missing.push(format!("issuer {name}: its registry record cannot be used"));
            }
        }
        missing
    }
}
