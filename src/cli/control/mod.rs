//! What operators are answered: from the agent, the registry, the responder and the audit trail.
//!
//! The agent and the registry are asked through two traits, so that the same answers can be given, and tested, over a
//! renewal core without a thread.

mod advice;
mod convert;
mod served;
pub(super) mod wire;

use crate::admin::PASS_OVERDUE;
use crate::admin::control::{
    AgentReport, AuditReport, Caller, Command, Control, Explained, FilesReport, Impact, Order, PlanReport,
    PresignReport, Quarantine, Refusal, RefusalKind, RegistryReport, SlotReport, Status, Taken, Target,
};
use crate::audit::{About, AuditEvent, Filter, History, Outcome, Trail, What, Whom, Witness, history};
use crate::config::Renewal;
use crate::presign::PresignStats;
use crate::registry;
use crate::renewal::{self, Explanation, Ignored, Plan, Reach, RegistryView, SlotId, Snapshot, Standing};
use crate::responder::IssuerReport;
use crate::time::{Clock, Timestamp};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Events beside an explanation: what happened last.
const RECENT: usize = 5;

/// Why the agent did not do what it was asked.
#[derive(Debug)]
pub(super) enum AgentError {
    /// It changes nothing, and why.
    Ignored(Ignored),
    /// It does not answer, or could not write it down.
    Failed(String),
}

/// The renewal agent, as far as operators are concerned.
pub(super) trait Renewals: Send + Sync + 'static {
    fn snapshot(&self) -> Arc<Snapshot>;
    fn report(&self) -> AgentReport;
    /// Our own client certificates that cannot be used now, by CA service, with the reason.
    fn credential_faults(&self) -> Vec<(String, String)>;
    fn plan(&self) -> impl Future<Output = Result<Plan, AgentError>> + Send;
    fn explain(&self, slot: SlotId) -> impl Future<Output = Result<Explanation, AgentError>> + Send;
    fn impact(&self, view: RegistryView) -> impl Future<Output = Result<renewal::Impact, AgentError>> + Send;
    /// Carries the command out, and tells the audit trail. The answer is how many slots it concerned.
    fn command(
        &self,
        command: renewal::Command,
        who: String,
        reason: String,
    ) -> impl Future<Output = Result<usize, AgentError>> + Send;
}

/// The registry, as far as operators are concerned.
pub(super) trait Registries: Send + Sync + 'static {
    fn report(&self) -> RegistryReport;
    /// Reads a registry as if it were the one in use.
    fn examine(&self, file: PathBuf) -> impl Future<Output = Result<Examined, String>> + Send;
    /// Lets a held generation into use. It is for the caller to tell the audit trail.
    fn approve(&self, generation: u64, who: String) -> impl Future<Output = Result<(), String>> + Send;
}

/// A registry that is not in use.
pub(super) struct Examined {
    pub(super) view: RegistryView,
    /// What would change beside the generation in use, all issuers counted.
    pub(super) changes: registry::Impact,
    pub(super) quarantined: Vec<Quarantine>,
    /// Why it would not be used.
    pub(super) refused: Vec<String>,
    /// Why it would be held.
    pub(super) held: Option<String>,
}

/// What the service shows at a moment, beside the agent and the registry.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) reports: Arc<Vec<IssuerReport>>,
    pub(super) presign: PresignStats,
    /// When all files were last looked at.
    pub(super) last_pass: Option<Timestamp>,
    /// How long that is ago, or the start if there was none, whatever the time of day did meanwhile.
    pub(super) since_last_pass: Duration,
    /// Why the agent does not run, where it is wanted and does not.
    pub(super) agent_fault: Option<String>,
    /// How clients are turned away.
    pub(super) worries: Vec<String>,
    /// Why the service is not ready, as `/readyz` says.
    pub(super) missing: Vec<String>,
    /// `[renewal]` of the configuration in use.
    pub(super) renewal: Renewal,
}

/// Has what is served for an issuer signed again.
pub(super) type Resign = dyn Fn(&str) -> Option<usize> + Send + Sync;

/// Looks at signers and sources; waits for no file for long.
pub(super) type Look = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// Answers operators.
pub(super) struct Desk<A, R> {
    pub(super) agent: Box<dyn Fn() -> Option<A> + Send + Sync>,
    pub(super) registry: R,
    pub(super) served: Box<dyn Fn() -> Served + Send + Sync>,
    pub(super) look: Box<Look>,
    /// How many slices that are, if there is such an issuer.
    pub(super) resign: Box<Resign>,
    /// `None`: it could not be opened at the start.
    pub(super) trail: Option<Arc<Trail>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Timestamp,
    /// Where operators are answered.
    pub(super) socket: PathBuf,
}

impl<A: Renewals, R: Registries> Desk<A, R> {
    fn agent(&self) -> Result<A, Refusal> {
        (self.agent)().ok_or_else(|| {
            let text = match (self.served)().agent_fault {
                Some(fault) => {
                    format!("the renewal agent does not run, and is tried again each minute; nothing was done: {fault}")
                }
                None => {
                    "this service renews no signer: its configuration has no [enrolment.*]; signers that are files are \
                         replaced by whoever owns them"
                        .to_owned()
                }
            };
            Refusal::new(RefusalKind::NoAgent, text)
        })
    }

    fn picture(&self) -> Status {
        let now = self.clock.now();
        let served = (self.served)();
        let (reports, presign) = (&served.reports, &served.presign);
        let agent = (self.agent)();
        let snapshot = agent.as_ref().map(Renewals::snapshot);
        let mut registry = self.registry.report();
        if let Some(snapshot) = &snapshot {
            registry.fresh = snapshot.evidence_is_fresh;
        }
        let oldest = reports.iter().filter_map(|r| Some((r.oldest_this_update?, r.id.clone()))).min();
        let mut report = agent.as_ref().map(Renewals::report);
        if report.is_none() {
            report = served.agent_fault.clone().map(AgentReport::not_running);
        }
        let faults = agent.as_ref().map(Renewals::credential_faults).unwrap_or_default();
        let (credentials, issuers) =
            convert::slots(snapshot.as_deref(), &served, &registry, report.as_ref(), &faults, now);
        let mut status = Status {
            now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            attention: false,
            socket: self.socket.clone(),
            agent: report,
            files: FilesReport { last_pass: served.last_pass, overdue: served.since_last_pass > PASS_OVERDUE },
            registry,
            pauses: snapshot.iter().flat_map(|s| &s.pauses).map(convert::pause).collect(),
            endpoints: snapshot.iter().flat_map(|s| &s.endpoints).map(convert::endpoint).collect(),
            credentials,
            issuers,
            presign: PresignReport {
                backlog: presign.backlog,
                missing: presign.missing,
                slices: presign.slices,
                signed: presign.signed,
                failures: presign.failures,
                oldest_this_update: oldest,
            },
            audit: self.audit(),
            next: Vec::new(),
        };
        status.next = advice::of(&status, &served.worries, &served.missing);
        status.attention = status.next.iter().any(|next| next.attention);
        status
    }

    fn audit(&self) -> AuditReport {
        match &self.trail {
            Some(trail) => AuditReport { lost: trail.lost(), fault: trail.fault() },
            None => {
                AuditReport { lost: 0, fault: Some("it could not be opened at the start; the log says why".into()) }
            }
        }
    }

    async fn read_history(&self, filter: Filter) -> Result<History, Refusal> {
        let failed =
            |text: String| Refusal::new(RefusalKind::Failed, format!("the audit trail cannot be read: {text}"));
        let Some(dir) = self.trail.as_ref().map(|trail| trail.dir().to_owned()) else {
            return Err(failed("it could not be opened at the start".into()));
        };
        match tokio::task::spawn_blocking(move || history(&dir, &filter)).await {
            Ok(Ok(history)) => Ok(history),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// No matter of the agent's: signers that are files are exposed too.
    async fn resign(&self, reach: &Target, who: String, reason: &str) -> Result<Taken, Refusal> {
        // A signer that was put in the place of another a moment ago is the one that is meant.
        (self.look)().await;
        let status = self.picture();
        let within = |slot: &&SlotReport| match reach {
            Target::All => true,
            Target::Endpoint(name) => slot.endpoint.as_ref() == Some(name),
            slot_of => slot.slot == *slot_of,
        };
        let reports = (self.served)().reports;
        let mut done = (0, 0);
        let mut without = Vec::new();
        for slot in status.issuers.iter().filter(within) {
            let Target::Issuer(id) = &slot.slot else { continue };
            match reports.iter().find(|report| report.id == *id) {
                Some(report) if report.signer.is_none() => without.push(id.as_str()),
                Some(_) => done = (self.resign)(id).map_or(done, |slices| (done.0 + 1, done.1 + slices)),
                None => {}
            }
        }
        let refusal = match done.0 {
            0 if without.is_empty() => Some(format!("{reach}: no issuer is served here that this could mean")),
            0 => Some(format!("{reach} has no signer, so that nothing can be signed: `stillgood explain` tells why")),
            _ => None,
        };
        let of = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let event = AuditEvent {
            outcome: Some(if refusal.is_none() { Outcome::Done } else { Outcome::Refused }),
            text: format!("resign {reach}{of}"),
            ..AuditEvent::new(self.clock.now(), who, What::Command, convert::about(reach))
        };
        if let Some(trail) = &self.trail {
            trail.saw(&event);
        }
        if let Some(text) = refusal {
            return Err(Refusal::new(RefusalKind::Refused, text));
        }
        let left =
            if without.is_empty() { String::new() } else { format!("; without a signer: {}", without.join(", ")) };
        let text = format!(
            "{reach}: {} slices of {} are signed again by the signer in use, in the background; what is held is served until \
             then{left}. A restart before that is done takes another `resign`.",
            done.1,
            if done.0 == 1 { "1 issuer".to_owned() } else { format!("{} issuers", done.0) },
        );
        Ok(Taken { text, until: None })
    }

    async fn approve_registry(&self, generation: u64, who: String, reason: &str) -> Result<Taken, Refusal> {
        let done = self.registry.approve(generation, who.clone()).await;
        let mut event = AuditEvent::new(self.clock.now(), who, What::Command, About::Registry);
        let of = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        event.text = match &done {
            Ok(()) => format!("approve generation {generation}{of}"),
            Err(why) => format!("approve generation {generation}{of}; {why}"),
        };
        event.outcome = Some(if done.is_ok() { Outcome::Done } else { Outcome::Refused });
        if let Some(trail) = &self.trail {
            trail.saw(&event);
        }
        match done {
            Ok(()) => Ok(Taken { text: format!("generation {generation} of the registry is in use"), until: None }),
            Err(why) => Err(Refusal::new(RefusalKind::Refused, why)),
        }
    }
}

impl<A: Renewals, R: Registries> Control for Desk<A, R> {
    async fn status(&self) -> Result<Status, Refusal> {
        Ok(self.picture())
    }

    async fn plan(&self) -> Result<PlanReport, Refusal> {
        let agent = self.agent()?;
        let plan = agent.plan().await.map_err(refused)?;
        let pauses = agent.snapshot().pauses.iter().map(convert::pause).collect();
        Ok(convert::plan(&plan, pauses))
    }

    async fn impact(&self, file: PathBuf) -> Result<Impact, Refusal> {
        let name = file.display().to_string();
        let examined = self.registry.examine(file).await.map_err(|text| Refusal::new(RefusalKind::Refused, text))?;
        let renewal = match (self.agent)() {
            Some(agent) => Some(agent.impact(examined.view.clone()).await.map_err(refused)?),
            None => None,
        };
        Ok(convert::impact(name, examined, self.registry.report().generation, renewal.as_ref()))
    }

    async fn explain(&self, slot: Target) -> Result<Explained, Refusal> {
        let status = self.picture();
        let found = status.issuers.iter().chain(&status.credentials).find(|report| report.slot == slot).cloned();
        let asked = match ((self.agent)(), convert::slot(&slot)) {
            (Some(agent), Some(id)) => Some(agent.explain(id).await),
            _ => None,
        };
        let whom = match &slot {
            Target::Issuer(id) => Some(Whom::Issuer(id.clone())),
            Target::Credential(name) => Some(Whom::Endpoint(name.clone())),
            Target::All | Target::Endpoint(_) => None,
        };
        let mut next = advice::of_explained(&status, &slot);
        let mut reasons = Vec::new();
        match (asked, &found) {
            (Some(Ok(explanation)), _) => reasons.extend(explanation.reasons),
            (Some(Err(AgentError::Failed(text))), Some(_)) => reasons.push(text),
            (_, Some(report)) if report.phase.is_none() => {
                if report.state == Standing::Watched.name() {
                    reasons
                        .push("its signer is not renewed by this service: whoever owns its files replaces them".into());
                }
            }
            (Some(Err(error)), None) => return Err(refused(error)),
            (_, Some(_)) => {}
            (None, None) => {
                let text = format!("{slot} is not known; the registry names no such issuer");
                return Err(Refusal::new(RefusalKind::Refused, text));
            }
        }
        let Some(report) = found else {
            return Err(Refusal::new(RefusalKind::Refused, format!("{slot} is not known")));
        };
        for reason in &report.reasons {
            // The agent has said in its own words what the snapshot says.
            let is_others = [served::RESPONDER, convert::RECORD].iter().any(|of| reason.starts_with(of));
            if report.phase.is_none() || is_others {
                reasons.push(reason.clone());
            }
        }
        if next.is_empty() && report.phase.as_deref() == Some("idle") && report.state == "active" {
            next.push(advice::renewable(&slot));
        }
        if report.state == "held" {
            next.extend(advice::held(&status));
        }
        let filter = Filter { about: whom, since: None, limit: RECENT };
        let history = self.read_history(filter).await.map(|h| h.events).unwrap_or_default();
        Ok(Explained { now: status.now, slot: report, reasons, history, next })
    }

    async fn history(&self, about: Option<Target>, since: Option<Timestamp>, limit: usize) -> Result<History, Refusal> {
        let about = match about {
            None | Some(Target::All) => None,
            Some(Target::Issuer(id)) => Some(Whom::Issuer(id)),
            Some(Target::Endpoint(name) | Target::Credential(name)) => Some(Whom::Endpoint(name)),
        };
        self.read_history(Filter { about, since, limit }).await
    }

    async fn command(&self, caller: Caller, command: Command) -> Result<Taken, Refusal> {
        let (who, reason) = (caller.to_string(), command.reason);
        if let Order::ApproveRegistry(generation) = command.order {
            return self.approve_registry(generation, who, &reason).await;
        }
        if let Order::Resign(target) = &command.order {
            return self.resign(target, who, &reason).await;
        }
        let agent = self.agent()?;
        let now = self.clock.now();
        let until = match &command.order {
            Order::Pause(_, span) => Some(now.plus(*span)),
            _ => None,
        };
        let reach = |target: &Target| convert::reach(target).map_err(|why| Refusal::new(RefusalKind::Refused, why));
        let (about, order) = match &command.order {
            Order::Pause(target, span) => {
                let (reach, until) = (reach(target)?, now.plus(*span));
                let pause = renewal::Pause { reach, until, reason: reason.clone(), who: who.clone(), since: None };
                (target, renewal::Command::Pause(pause))
            }
            Order::Resume(target) => (target, renewal::Command::Resume { reach: reach(target)? }),
            Order::Renew(target) => (target, renewal::Command::Renew { reach: reach(target)? }),
            Order::Unpark(target) => (target, renewal::Command::Unpark { reach: reach(target)? }),
            Order::ApproveSigner(target) => {
                let Reach::Slot(slot) = reach(target)? else {
                    return Err(Refusal::new(RefusalKind::Refused, "name one issuer or one credential"));
                };
                (target, renewal::Command::Approve { slot })
            }
            Order::ApproveRegistry(_) | Order::Resign(_) => {
                return Err(Refusal::new(RefusalKind::Failed, "not a command for the agent"));
            }
        };
        let done = agent.command(order, who, reason).await;
        let text = match (&command.order, done) {
            (Order::Renew(_), Ok(concerned)) => convert::renewed(about, concerned, &agent.snapshot(), now),
            // Whoever wants another signer gets that of the order that is under way.
            (Order::Renew(_), Err(error @ AgentError::Ignored(Ignored::NothingConcerned(_)))) => {
                convert::under_way(about, &agent.snapshot()).ok_or_else(|| refused(error))?
            }
            (_, done) => convert::taken(&command.order, about, done.map_err(refused)?),
        };
        Ok(Taken { text, until })
    }
}

fn refused(error: AgentError) -> Refusal {
    match error {
        AgentError::Ignored(why) => Refusal::new(RefusalKind::Refused, convert::ignored(&why)),
        AgentError::Failed(text) => Refusal::new(RefusalKind::Failed, text),
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests;
