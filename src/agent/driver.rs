//! The agent's event loop: the core, what it is told, what it wants done.

use super::handle::{CommandError, Question, Shared};
use super::ledger::Ledger;
use super::order::{Job, Target, Unkept};
use super::parts::{Look, Parts, Reading, Service, Settings};
use super::tell::{TallyKey, Teller, about_reach};
use super::verify::{life_of, may_sign};
use super::view::{AgentView, view_of};
use super::work::{Threads, Workers};
use crate::audit::{AuditEvent, Outcome, What};
use crate::https::{Leave, Stamp};
use crate::registry::{Issuer, IssuerId, State};
use crate::renewal::{
    Command, Core, EndpointId, Event, Failure, Ignored, Kind, OrderId, Reach, Record, Scope, SignerLife, SlotId, Step,
};
use crate::time::{Timestamp, monotonic};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Reports that may wait for the loop; whoever has one more waits.
const REPORTS: usize = 256;
/// Reports that are taken in one pass.
const BATCH: usize = 256;
/// How long the first reading of the registry is waited for.
const FIRST_READING: Duration = Duration::from_secs(10);
/// Checking a signer that is in use.
const CHECK: Duration = Duration::from_secs(30);
/// What changes in quick succession is published once in so long.
pub(super) const PUBLISH: Duration = Duration::from_millis(100);

/// What a piece of work says when it is done.
pub(super) enum Report {
    /// Of an order.
    Step(Event),
    /// Of a request: it no longer takes a place on the wire.
    Answer { event: Event, tally: Option<TallyKey> },
    /// Of a look at the registry.
    Looked(Look),
    /// Of our own certificate: what it is, and why it cannot be used now.
    Credential { endpoint: EndpointId, seen: super::watch::Seen },
    /// Of the signer in use, which came of this order.
    Signer { slot: SlotId, of: String, life: Option<SignerLife>, fault: Option<String> },
    /// Of the file of a password or shared key.
    Secret { endpoint: EndpointId, stamp: Option<Stamp> },
    /// An order is over and its files are gone.
    Cleaned,
    /// The signers of an issuer that is gone are destroyed; the name of their slot.
    Emptied(String),
}

/// A request on the wire.
pub(super) struct Wire {
    pub order: OrderId,
    pub attempt: u32,
    pub endpoint: EndpointId,
    /// Until it is taken, nothing of the request has left.
    pub leave: Leave,
    pub drop: oneshot::Sender<()>,
    pub task: JoinHandle<()>,
}

pub(super) struct Driver {
    pub core: Core,
    pub ledger: Ledger,
    pub parts: Parts,
    pub shared: Arc<Shared>,
    pub teller: Teller,
    pub workers: Workers,
    /// Those for the requests of each service.
    pub threads: BTreeMap<EndpointId, Threads>,
    pub reports: mpsc::Sender<Report>,
    pub settings: Arc<Settings>,
    pub services: BTreeMap<EndpointId, Service>,
    /// The last usable record of each issuer.
    pub issuers: HashMap<IssuerId, Arc<Issuer>>,
    /// The registry in use.
    pub reading: Option<Reading>,
    /// Signers that the registry names, by enrolment: so many there are to be looked at.
    pub enrolled: BTreeSet<IssuerId>,
    /// Signers whose look has been begun.
    pub told: BTreeSet<SlotId>,
    /// Of these, the ones of which the core knows what the look showed.
    pub seen: BTreeSet<SlotId>,
    /// Of these, the ones of which it showed nothing, and why.
    pub unchecked: BTreeMap<SlotId, String>,
    pub wires: BTreeMap<SlotId, Wire>,
    /// Records that could not be written yet, by key.
    pub unsaved: BTreeMap<String, Record>,
    /// Ledger keys that were written before the start, with when.
    pub restored: BTreeMap<String, Timestamp>,
    pub ledger_fault: Option<String>,
    pub tallies: BTreeMap<TallyKey, u64>,
    pub credentials: BTreeMap<EndpointId, super::watch::Seen>,
    /// The passwords and shared keys by which we prove ourselves, as they were seen last.
    pub secrets: BTreeMap<EndpointId, Option<Stamp>>,
    /// Looks at what we prove ourselves by, whose threads have not ended.
    pub looking: BTreeMap<EndpointId, Weak<()>>,
    pub unkept: Unkept,
    /// Orders whose files are to be destroyed once the ledger no longer needs them.
    pub spent: Vec<(SlotId, OrderId)>,
    pub started: Timestamp,
    /// When the picture of everything was last published, and whether it has changed since.
    pub published: Option<Instant>,
    pub is_dirty: bool,
    /// When the work beside the core's was last done.
    pub housekept: Option<Instant>,
    pub retired: Timestamp,
    pub retiring: super::retire::Retiring,
    pub gone: super::retire::GoneHere,
}

impl Driver {
    pub(super) fn new(
        parts: Parts,
        settings: Settings,
        shared: Arc<Shared>,
        core: Core,
        ledger: Ledger,
        restored: BTreeMap<String, Timestamp>,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (reports, inbox) = mpsc::channel(REPORTS);
        let now = parts.clock.now();
        let teller = Teller { witness: parts.witness.clone(), clock: parts.clock.clone() };
        let settings = Arc::new(settings);
        let driver = Driver {
            core,
            ledger,
            shared,
            teller,
            workers: Workers::new(),
            threads: BTreeMap::new(),
            reports,
            services: by_name(&settings),
            settings,
            issuers: HashMap::new(),
            reading: None,
            enrolled: BTreeSet::new(),
            told: BTreeSet::new(),
            seen: BTreeSet::new(),
            unchecked: BTreeMap::new(),
            wires: BTreeMap::new(),
            unsaved: BTreeMap::new(),
            restored,
            ledger_fault: None,
            tallies: BTreeMap::new(),
            credentials: BTreeMap::new(),
            secrets: BTreeMap::new(),
            looking: BTreeMap::new(),
            unkept: Unkept::default(),
            spent: Vec::new(),
            started: now,
            published: None,
            is_dirty: true,
            housekept: None,
            retired: now,
            retiring: BTreeMap::new(),
            gone: BTreeMap::new(),
            parts,
        };
        (driver, inbox)
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<Question>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let began = monotonic();
        loop {
            let now = self.teller.now();
            if let Some(reading) = self.shared.take_registry() {
                self.registry(reading);
            }
            // What orders are for is in the registry: before it has been read, none could go on. One that cannot be read must
            // not hold up our own credentials.
            if self.reading.is_some() || monotonic().saturating_duration_since(began) >= FIRST_READING {
                self.pass(now);
            }
            self.housekeeping(now);
            let rest = self.rest(now);
            tokio::select! {
                biased;
                _ = &mut stop => break,
                question = questions.recv() => match question {
                    Some(question) => self.answer(question),
                    None => break,
                },
                report = inbox.recv() => {
                    let mut next = report;
                    let mut taken = 0;
                    while let Some(report) = next {
                        self.take(report);
                        taken += 1;
                        next = if taken < BATCH { inbox.try_recv().ok() } else { None };
                    }
                }
                () = self.shared.woken.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        for (_, wire) in std::mem::take(&mut self.wires) {
            let _ = wire.drop.send(());
            let _ = tokio::time::timeout(Duration::from_millis(200), wire.task).await;
        }
        self.save(Vec::new());
        self.teller.saw(&self.teller.event(What::Stopped, about_reach(&Reach::All)));
    }

    /// Everything to be done now.
    pub(super) fn pass(&mut self, now: Timestamp) {
        let actions = self.core.poll(now);
        if !actions.is_empty() {
            self.is_dirty = true;
        }
        self.carry_out(actions);
    }

    fn rest(&self, now: Timestamp) -> Duration {
        let pass = Duration::from_secs(AgentView::PASS_SECS);
        let rest = self.core.next_wakeup(now).map_or(pass, |at| at.since(now).min(pass));
        // What was just carried out may have failed at once; the core spaces its attempts, this spaces ours.
        let rest = rest.max(Duration::from_millis(20));
        if self.is_dirty { rest.min(PUBLISH) } else { rest }
    }

    /// Tells the core; what it ignores came too late and is no fault. `false`: it ignored it.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        let now = self.teller.now();
        self.is_dirty = true;
        let Err(ignored) = self.core.handle(event, now) else { return true };
        match ignored {
            Ignored::TooManySlots { .. } => self.teller.alarm(ignored.to_string()),
            Ignored::GenerationWentBack { .. } => tracing::error!("{ignored}"),
            _ => tracing::debug!("{ignored}"),
        }
        false
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Step(event) => {
                let activated = match &event {
                    Event::Activated { slot, .. } => Some(slot.clone()),
                    _ => None,
                };
                self.tell(event);
                // The record may have changed while it was made the current one.
                if let Some(slot) = activated {
                    self.tell_signer(slot);
                }
            }
            Report::Answer { event, tally } => {
                if let Event::Later { slot, order, .. }
                | Event::Issued { slot, order }
                | Event::Present { slot, order }
                | Event::NotSent { slot, order, .. }
                | Event::Failed { slot, order, .. } = &event
                    && self.wires.get(slot).is_some_and(|wire| wire.order == *order)
                {
                    self.wires.remove(slot);
                }
                if let Some(tally) = tally {
                    *self.tallies.entry(tally).or_default() += 1;
                }
                self.tell(event);
            }
            Report::Signer { slot, of, life, fault } => match &slot {
                // It may have been replaced meanwhile.
                SlotId::Signer(id)
                    if self.parts.slots.slot(id.as_str()).current().is_none_or(|current| current.order != of) =>
                {
                    self.tell_signer(slot);
                }
                _ => self.signer_seen(slot, life, fault),
            },
            Report::Looked(Look::Read(reading)) => self.registry(reading),
            Report::Looked(Look::Nothing(why)) => {
                let until = self.reading.as_ref().map(|r| r.synced_at.plus(self.settings.limits.evidence_max_age));
                match until.filter(|until| *until >= self.teller.now()) {
                    Some(until) => tracing::warn!(
                        "the registry could not be looked at before a request, which goes by what was read last, as others do \
                         until {until}, when that is too old: {why}"
                    ),
                    None => tracing::warn!("the registry could not be looked at before a request, which waits: {why}"),
                }
                self.tell(Event::NotConfirmed);
            }
            Report::Looked(Look::Unusable(why)) => {
                tracing::error!(
                    "what the registry's source says cannot be used, so nobody knows what is active: requests wait until it is \
                     put right: {why}"
                );
                self.tell(Event::Unusable(why));
            }
            Report::Credential { endpoint, seen } => self.credential_seen(endpoint, seen),
            Report::Secret { endpoint, stamp } => self.secret_seen(endpoint, stamp),
            Report::Cleaned => {}
            Report::Emptied(slot) => self.emptied(&slot),
        }
    }

    /// Takes over what the registry says, and tells the core of signers it has not heard of.
    pub(super) fn registry(&mut self, reading: Reading) {
        if self.reading.as_ref().is_some_and(|before| Arc::ptr_eq(&before.generation, &reading.generation)) {
            let (generation, at) = (reading.generation.number, reading.synced_at);
            self.reading = Some(reading);
            self.tell(Event::Confirmed { generation, at });
            return;
        }
        let view = view_of(&reading, &self.settings.renewal);
        let generation = reading.generation.clone();
        let active = view.issuers.iter().filter(|i| i.state == State::Active).map(|i| i.id.clone()).collect();
        self.enrolled = view.issuers.iter().map(|i| i.id.clone()).collect();
        self.forget_all_but(&view.quarantined);
        for issuer in &generation.issuers {
            if !self.enrolled.contains(&issuer.id) {
                continue;
            }
            let before = self.issuers.insert(issuer.id.clone(), issuer.clone());
            // Another CA key or profile under the same name: whether its signer may sign has to be asked again.
            if before.is_some_and(|before| {
                before.certificate.der() != issuer.certificate.der()
                    || before.response.profile != issuer.response.profile
            }) {
                self.look_anew(&SlotId::Signer(issuer.id.clone()));
            }
        }
        let slots: Vec<SlotId> = view.issuers.iter().map(|i| SlotId::Signer(i.id.clone())).collect();
        let is_first = self.reading.is_none();
        self.tell(Event::Registry(view));
        self.withdraw(&active);
        self.reading = Some(reading);
        for slot in slots {
            if !self.told.contains(&slot) {
                self.tell_signer(slot);
            }
        }
        if is_first {
            self.forget_what_is_long_gone();
        }
    }

    /// Tells the core of the signer in use. One that may not sign for this issuer (any more), because the CA has another key or
    /// the profile forbids it, is none.
    pub(super) fn tell_signer(&mut self, slot: SlotId) {
        let SlotId::Signer(id) = &slot else { return };
        self.told.insert(slot.clone());
        let (Some(current), Some(issuer)) = (self.parts.slots.slot(id.as_str()).current(), self.issuers.get(id)) else {
            self.signer_seen(slot, None, None);
            return;
        };
        let (issuer, workers, reports) = (issuer.clone(), self.workers.clone(), self.reports.clone());
        let of = current.order.clone();
        tokio::spawn(async move {
            let life = Some(life_of(&current.certificate));
            let may_sign = workers.compute("signer", CHECK, move || may_sign(&issuer, &current)).await;
            let (life, fault) = match may_sign {
                Ok(Ok(())) => (life, None),
                Ok(Err(why)) => {
                    tracing::error!("{slot}: the signer in use cannot sign for it, so another is ordered: {why}");
                    (None, None)
                }
                // It has passed before; that our own code fails now says nothing of it.
                Err(fault) => {
                    tracing::error!("{slot}: the signer in use was not checked: {fault}");
                    (life, Some(format!("the signer in use was not checked: {fault}")))
                }
            };
            let _ = reports.send(Report::Signer { slot, of, life, fault }).await;
        });
    }

    fn answer(&mut self, question: Question) {
        let now = self.teller.now();
        // Whoever asked may have stopped waiting.
        match question {
            Question::Plan(answer) => drop(answer.send(self.core.plan(now))),
            Question::Explain(slot, answer) => drop(answer.send(self.core.explain(&slot, now))),
            Question::Impact(view, answer) => drop(answer.send(self.core.impact(&view, now))),
            Question::Configure(settings, answer) => {
                self.configure(*settings);
                let _ = answer.send(());
            }
            Question::Command { command, who, reason, answer } => {
                let done = self.command(command, &who, &reason);
                let _ = answer.send(done);
            }
        }
    }

    fn command(&mut self, command: Command, who: &str, reason: &str) -> Result<usize, CommandError> {
        let now = self.teller.now();
        let (verb, about) = match &command {
            Command::Pause(pause) => (format!("pause until {}", pause.until), about_reach(&pause.reach)),
            Command::Resume { reach } => ("resume".to_owned(), about_reach(reach)),
            Command::Renew { reach } => ("renew".to_owned(), about_reach(reach)),
            Command::Unpark { reach } => ("unpark".to_owned(), about_reach(reach)),
            Command::Approve { slot } => ("approve".to_owned(), super::tell::about(slot)),
        };
        let handled = self.core.handle(Event::Command(command), now).map_err(CommandError::from);
        self.pass(now);
        self.publish(now);
        let done = match (handled, &self.ledger_fault) {
            (Ok(_), Some(fault)) => Err(CommandError::NotSaved(fault.clone())),
            (handled, _) => handled,
        };
        let outcome = match &done {
            Ok(_) | Err(CommandError::NotSaved(_)) => Outcome::Done, // it applies
            Err(_) => Outcome::Refused,
        };
        let but = done.as_ref().err().map_or_else(String::new, |error| format!(" ({error})"));
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        tracing::info!("{who}: {verb} {about}{reason}{but}");
        let event = AuditEvent::new(now, who, What::Command, about);
        self.teller.saw(&AuditEvent { outcome: Some(outcome), ..event.saying(format!("{verb}{reason}{but}")) });
        done
    }

    fn configure(&mut self, settings: Settings) {
        let now = self.teller.now();
        let settings = Arc::new(settings);
        let services = by_name(&settings);
        // A service that was replaced is not asked by two clients at a time.
        let is_kept = |endpoint: &EndpointId| match (self.services.get(endpoint), services.get(endpoint)) {
            (Some(before), Some(after)) => Arc::ptr_eq(&before.enrolment, &after.enrolment),
            _ => false,
        };
        let given_up: Vec<SlotId> =
            self.wires.iter().filter(|(_, w)| !is_kept(&w.endpoint)).map(|(slot, _)| slot.clone()).collect();
        for slot in given_up {
            if let Some(wire) = self.wires.remove(&slot) {
                let _ = wire.drop.send(());
                let text = "the configuration of the service has changed while it was being asked";
                let failure = Failure::new(Scope::Item, Kind::Unknown, text);
                self.tell(Event::Failed { slot, order: wire.order, step: Step::Submit(wire.attempt), failure });
            }
        }
        let margin_changed = settings.renewal.margin != self.settings.renewal.margin;
        self.core.set_limits(settings.limits.clone(), now);
        let specs = settings.services.iter().map(|service| service.spec.clone()).collect();
        self.credentials.retain(|endpoint, _| services.contains_key(endpoint));
        self.threads.retain(|endpoint, _| services.contains_key(endpoint));
        self.services = services;
        self.shared.settings.store(settings.clone());
        self.settings = settings;
        self.tell(Event::Endpoints(specs));
        if let (true, Some(reading)) = (margin_changed, self.reading.take()) {
            self.registry(reading);
        }
        self.look_at_credentials();
    }

    /// The order of a slot, with what is needed for its steps; `None`: the registry or the configuration lacks it.
    pub(super) fn job(&self, slot: &SlotId, order: OrderId) -> Option<Job> {
        let order = order.to_string();
        match slot {
            SlotId::Signer(issuer) => Some(Job {
                target: Target::Signer(self.issuers.get(issuer)?.clone()),
                slot: self.parts.slots.slot(issuer.as_str()),
                order,
                margin: self.settings.renewal.margin,
                renewal: self.settings.renewal.clone(),
                unkept: self.unkept.clone(),
            }),
            SlotId::Credential(endpoint) => {
                let service = self.services.get(endpoint)?;
                Some(Job {
                    target: Target::Credential(service.enrolment.credential()?.clone()),
                    slot: self.parts.credentials.slot(endpoint.as_str()),
                    order,
                    margin: service.spec.credential.as_ref()?.margin,
                    renewal: self.settings.renewal.clone(),
                    unkept: self.unkept.clone(),
                })
            }
        }
    }

    pub(super) fn publish(&mut self, now: Timestamp) {
        self.shared.snapshot.store(Arc::new(self.core.snapshot(now)));
        self.shared.view.store(Arc::new(self.view(now)));
        self.published = Some(monotonic());
        self.is_dirty = false;
    }
}

fn by_name(settings: &Settings) -> BTreeMap<EndpointId, Service> {
    settings.services.iter().map(|service| (service.spec.id.clone(), service.clone())).collect()
}
