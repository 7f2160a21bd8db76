//! A node run by [`renewal::Core`](crate::renewal::Core) itself, with a driver that does in virtual time what the real one
//! does with files and sockets.

use super::agenda::{Ms, SECOND};
use super::authority::Reading;
use super::ca::Answer;
use super::check::Heard;
use super::node::{Here, News, Node, Wish};
use super::setup::{CREDENTIAL, Setup, Slot};
use crate::enrolment::{self, Met, met};
use crate::registry::{IssuerId, State};
use crate::renewal::{
    Action, Core, CredentialSpec, EndpointId, EndpointSpec, Event, Failure, IssuerSpec, Kind, Limits, NodeId, Notice,
    OrderId, Reach, Record, RegistryView, Request, Scope, SignerLife, SlotId, SlotRecord, Step,
};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

/// A certificate may begin to be valid so much later than now: the CA's clock may be ahead.
const EARLY: Duration = Duration::from_secs(600);

/// The slots of a node by name and by number.
#[derive(Debug)]
pub(super) struct Names {
    pub endpoint: EndpointId,
    ids: Vec<SlotId>,
    slots: HashMap<SlotId, Slot>,
}

impl Names {
    pub(super) fn new(endpoint: &EndpointId, issuers: &[IssuerSpec]) -> Self {
        let signers = issuers.iter().map(|i| SlotId::Signer(i.id.clone()));
        let ids: Vec<SlotId> = std::iter::once(SlotId::Credential(endpoint.clone())).chain(signers).collect();
        let slots = ids.iter().cloned().enumerate().map(|(n, id)| (id, n)).collect();
        Names { endpoint: endpoint.clone(), ids, slots }
    }

    pub(super) fn id(&self, slot: Slot) -> Option<&SlotId> {
        self.ids.get(slot)
    }

    fn of(&self, issuer: &IssuerSpec) -> Slot {
        self.of_issuer(&issuer.id)
    }

    fn of_issuer(&self, issuer: &IssuerId) -> Slot {
        self.slot(&SlotId::Signer(issuer.clone()))
    }

    /// The credential's included.
    fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn slot(&self, id: &SlotId) -> Slot {
        self.slots.get(id).copied().unwrap_or(usize::MAX)
    }
}

/// A node with the real core.
pub(super) struct Ours {
    core: Core,
    limits: Limits,
    node: NodeId,
    endpoint: EndpointSpec,
    names: Rc<Names>,
    refresh: Ms,
    /// Of the responses of each issuer, where it is said.
    refreshes: Vec<Duration>,
    phase: Ms,
    /// The last regular look at the registry that the core was told of.
    synced: Option<Ms>,
    wishes: Vec<Wish>,
    // On disk.
    slots: BTreeMap<Slot, SlotRecord>,
    others: BTreeMap<String, Record>,
    certificates: HashMap<OrderId, SignerLife>,
    disk_is_full: bool,
    // In memory.
    /// What could not be written, by key.
    unsaved: BTreeMap<String, Record>,
    /// Orders that are over, and the ledger does not know.
    dropped: Vec<(Slot, OrderId)>,
    /// Certificates that came while the disk was full.
    unkept: HashMap<OrderId, SignerLife>,
    /// Whose certificates the core has been told of.
    told: BTreeSet<Slot>,
    heard: Heard,
}

impl Ours {
    pub(super) fn new(setup: &Setup, names: &Rc<Names>, node: usize) -> Self {
        let agent = &setup.agent;
        let credential = setup.credential.map(|(life, _)| CredentialSpec {
            profile: Some("agent".to_owned()),
            margin: setup.credential_margin(life),
        });
        let id = NodeId::named(&format!("node-{}", node + 1));
        Ours {
            core: Core::new(agent.limits.clone(), id),
            limits: agent.limits.clone(),
            node: id,
            endpoint: EndpointSpec {
                id: names.endpoint.clone(),
                rate: agent.rate,
                max_in_flight: agent.max_in_flight,
                attempts_per_day: agent.attempts_per_day,
                credential,
            },
            names: Rc::clone(names),
            refresh: agent.refresh.max(SECOND),
            refreshes: setup.refreshes.clone(),
            // Nodes do not look at one moment.
            phase: (node as Ms * 7 * SECOND) % agent.refresh.max(SECOND),
            synced: None,
            wishes: Vec::new(),
            slots: BTreeMap::new(),
            others: BTreeMap::new(),
            certificates: HashMap::new(),
            disk_is_full: false,
            unsaved: BTreeMap::new(),
            dropped: Vec::new(),
            unkept: HashMap::new(),
            told: BTreeSet::new(),
            heard: Heard::default(),
        }
    }

    fn tell(&mut self, event: Event, here: &Here<'_>) {
        // What the core ignores, it ignores: answers to cancelled orders come late.
        let _ = self.core.handle(event, here.now);
    }

    /// The regular looks at the registry since the last time: only the newest matters, and it is told as of its own time.
    fn freshen(&mut self, here: &Here<'_>) {
        let Some(at) = here.authority.last_success(here.ms, self.phase, self.refresh) else { return };
        if self.synced.is_some_and(|synced| synced >= at) {
            return;
        }
        self.synced = Some(at);
        let shown = here.clock.at(at);
        let reading = here.authority.read(here.node, at);
        self.looked(reading, (at, shown), here);
    }

    /// A look at the registry, at this time by the node's clock.
    fn looked(&mut self, reading: Reading, (ms, at): (Ms, Timestamp), here: &Here<'_>) {
        self.heard.looked = Some(at);
        let Reading::Generation(generation) = reading else {
            let _ = self.core.handle(Event::NotConfirmed, at);
            return;
        };
        if self.core.handle(Event::Confirmed { generation, at }, at).is_ok() {
            if let Some(view) = &mut self.heard.view {
                view.synced_at = at;
            }
        } else if let Some(view) = here.authority.view(generation, at)
            && self.core.handle(Event::Registry(view.clone()), at).is_ok()
        {
            self.freed(&view);
            let before = self.heard.view.replace(view);
            if let (Some(before), Some(view)) = (before, &self.heard.view)
                && view.issuers.iter().any(|issuer| joins(issuer, &before))
            {
                self.wishes.push(Wish::Ramp { from: ms });
            }
            let new: Vec<Slot> =
                self.heard.view.iter().flat_map(|view| &view.issuers).map(|i| self.names.of(i)).collect();
            for slot in new {
                if self.told.insert(slot) {
                    self.signer(slot, here);
                }
            }
        }
    }

    /// Whose parks this generation lifts: who is back in it, or gone.
    fn freed(&mut self, view: &RegistryView) {
        let before = self.heard.view.as_ref();
        let is_back = |i: &IssuerSpec| before.is_some_and(|before| joins(i, before));
        let back = view.issuers.iter().filter(|i| i.state == State::Retired || is_back(i)).map(|i| self.names.of(i));
        let named: BTreeSet<Slot> =
            view.issuers.iter().map(|i| &i.id).chain(&view.quarantined).map(|id| self.names.of_issuer(id)).collect();
        let gone = (CREDENTIAL + 1..self.names.len()).filter(|slot| !named.contains(slot));
        let freed: Vec<Slot> = back.chain(gone).collect();
        self.wishes.extend(freed.into_iter().map(|slot| Wish::Freed { slot }));
    }

    /// Carries out what the core wants, until it wants nothing more. Where the ledger cannot be written, nothing that relies
    /// on it is done.
    fn run(&mut self, here: &Here<'_>) {
        loop {
            let actions = self.core.poll(here.now);
            if actions.is_empty() {
                return;
            }
            let mut saved = true;
            for action in actions {
                match action {
                    Action::Persist(records) => saved = self.save(records),
                    Action::Tell(notice) => self.notice(&notice),
                    Action::HangUp { slot, .. } => self.wishes.push(Wish::HangUp { slot: self.names.slot(&slot) }),
                    action if !saved => self.refuse(action, here),
                    Action::ConfirmActive => self.wishes.push(Wish::ReadRegistry),
                    Action::Prepare(r) => self.step(&r.slot, r.order, Step::Prepare),
                    Action::Submit(r) => self.submit(&r, here),
                    Action::Verify { slot, order } => self.step(&slot, order, Step::Verify),
                    Action::Stage { slot, order } => self.step(&slot, order, Step::Stage),
                    Action::Activate { slot, order } => self.step(&slot, order, Step::Activate),
                    Action::Cancel { slot, order, .. } => {
                        self.certificates.remove(&order);
                        self.unkept.remove(&order);
                        self.wishes.push(Wish::Cancel { slot: self.names.slot(&slot), order, hang_up: true });
                    }
                }
            }
        }
    }

    fn notice(&mut self, notice: &Notice) {
        if notice.alarm {
            let slot = match &notice.about {
                Reach::Slot(id) => Some(self.names.slot(id)),
                _ => None,
            };
            self.wishes.push(Wish::Alarm { slot });
        }
    }

    /// Writes these, and what could not be written before. `false`: not on disk.
    fn save(&mut self, records: Vec<Record>) -> bool {
        self.unsaved.extend(records.into_iter().map(|record| (record.key(), record)));
        if self.disk_is_full {
            return self.unsaved.is_empty();
        }
        for (key, record) in std::mem::take(&mut self.unsaved) {
            match record {
                Record::Slot(record) => drop(self.slots.insert(self.names.slot(&record.slot), record)),
                other => drop(self.others.insert(key, other)),
            }
        }
        for (slot, order) in std::mem::take(&mut self.dropped) {
            self.wishes.push(Wish::Cancel { slot, order, hang_up: false });
        }
        true
    }

    /// Reported for what would have been done.
    fn refuse(&mut self, action: Action, here: &Here<'_>) {
        let (slot, order, step) = match action {
            Action::ConfirmActive => {
                // A look in vain, as far as the core can know.
                self.heard.looked = Some(here.now);
                return self.tell(Event::NotConfirmed, here);
            }
            Action::Prepare(r) => (r.slot, r.order, Step::Prepare),
            Action::Submit(r) => (r.slot, r.order, Step::Submit(r.attempt)),
            Action::Verify { slot, order } => (slot, order, Step::Verify),
            Action::Stage { slot, order } => (slot, order, Step::Stage),
            Action::Activate { slot, order } => (slot, order, Step::Activate),
            // The ledger still has it: a process that ends now finds it again.
            Action::Cancel { slot, order, .. } => return self.dropped.push((self.names.slot(&slot), order)),
            Action::HangUp { .. } | Action::Persist(_) | Action::Tell(_) => return,
        };
        self.no_disk(self.names.slot(&slot), order, step, here);
    }

    /// One request, unless its answer is here already.
    fn submit(&mut self, r: &Request, here: &Here<'_>) {
        let (slot, order, attempt) = (self.names.slot(&r.slot), r.order, r.attempt);
        if let (false, Some(life)) = (self.disk_is_full, self.unkept.remove(&order)) {
            self.certificates.insert(order, life);
        }
        if self.certificates.contains_key(&order) {
            self.tell(Event::Present { slot: r.slot.clone(), order }, here);
        } else if self.unkept.contains_key(&order) {
            self.no_disk(slot, order, Step::Submit(attempt), here);
        } else {
            self.wishes.push(Wish::Call { slot, order, attempt, cause: Some(r.cause) });
        }
    }

    fn step(&mut self, id: &SlotId, order: OrderId, step: Step) {
        self.wishes.push(Wish::Step { slot: self.names.slot(id), order, step });
    }

    fn no_disk(&mut self, slot: Slot, order: OrderId, step: Step, here: &Here<'_>) {
        self.failed(slot, order, step, Failure::new(Scope::Local, Kind::Transient, "the disk is full"), here);
    }

    fn failed(&mut self, slot: Slot, order: OrderId, step: Step, failure: Failure, here: &Here<'_>) {
        let Some(id) = self.names.id(slot).cloned() else { return };
        self.tell(Event::Failed { slot: id, order, step, failure }, here);
    }

    fn signer(&mut self, slot: Slot, here: &Here<'_>) {
        if self.endpoint.credential.is_none() && slot == CREDENTIAL {
            return;
        }
        let Some(id) = self.names.id(slot).cloned() else { return };
        let life = here.lives.get(slot).copied().flatten();
        self.tell(Event::Signer { slot: id, life }, here);
    }

    fn done(&mut self, slot: Slot, order: OrderId, step: Step, here: &Here<'_>) {
        let Some(id) = self.names.id(slot).cloned() else { return };
        if self.disk_is_full && step != Step::Verify {
            return self.no_disk(slot, order, step, here);
        }
        let event = match step {
            Step::Prepare => Event::Prepared { slot: id, order },
            Step::Submit(_) => return,
            Step::Verify => match self.verified(slot, order, here) {
                Ok(life) => Event::Verified { slot: id, order, life },
                Err(text) => Event::Rejected { slot: id, order, text: text.to_owned() },
            },
            Step::Stage => Event::Staged { slot: id, order },
            Step::Activate => {
                // The certificate is in use before the core hears of it; a second time changes nothing.
                if let Some(life) = self.certificates.get(&order) {
                    self.wishes.push(Wish::Install { slot, order, life: *life });
                }
                Event::Activated { slot: id, order }
            }
        };
        self.report(slot, event, here);
    }

    /// A rejection is what the core must act upon, where it is about what it still has.
    fn report(&mut self, slot: Slot, event: Event, here: &Here<'_>) {
        let is_rejection = matches!(event, Event::Rejected { .. });
        if self.core.handle(event, here.now).is_ok() && is_rejection {
            self.wishes.push(Wish::Rejected { slot });
        }
    }

    /// The dates of a certificate that has come, by the node's clock and as the real driver judges them.
    fn verified(&self, slot: Slot, order: OrderId, here: &Here<'_>) -> Result<SignerLife, &'static str> {
        let life = *self.certificates.get(&order).ok_or("there is no certificate for it")?;
        let ahead = life.not_before > here.now && life.not_before <= here.now.plus(EARLY);
        let at = if ahead { life.not_before } else { here.now };
        if life.not_before > at || life.not_after < at {
            return Err("it is not valid now");
        }
        let reserve = match (slot, &self.endpoint.credential) {
            (CREDENTIAL, own) => own.as_ref().map_or(Duration::ZERO, |own| own.margin),
            _ => {
                let refresh = self.refreshes.get(slot - 1).copied();
                here.authority.issuers().get(slot - 1).map_or(Duration::ZERO, |i| super::setup::reserve(i, refresh))
            }
        };
        if life.not_after.since(at) <= reserve { Err("it has too little to live") } else { Ok(life) }
    }

    fn answered(&mut self, slot: Slot, order: OrderId, attempt: u32, answer: Answer, here: &Here<'_>) {
        let Some(id) = self.names.id(slot).cloned() else { return };
        let unreadable = here.ill_formed.get(slot).copied().unwrap_or(false);
        let what = match answer {
            Answer::Issued(_) if unreadable => Met::Unusable,
            Answer::Issued(life) if self.disk_is_full => {
                self.unkept.insert(order, life);
                return self.no_disk(slot, order, Step::Submit(attempt), here);
            }
            Answer::Issued(life) => {
                self.certificates.insert(order, life);
                return self.tell(Event::Issued { slot: id, order }, here);
            }
            Answer::Later(seconds) => {
                let retry_after = seconds.map(Duration::from_secs);
                return self.tell(Event::Later { slot: id, order, attempt, retry_after }, here);
            }
            answer => match answer.met() {
                Some(met) => met,
                None => return,
            },
        };
        self.failed(slot, order, Step::Submit(attempt), translated(&met(what)), here);
    }
}

/// One more to ask for than before. What could not be read meanwhile was no less known.
fn joins(issuer: &IssuerSpec, before: &RegistryView) -> bool {
    let active = |i: &IssuerSpec| i.state == State::Active;
    active(issuer)
        && !before.quarantined.contains(&issuer.id)
        && !before.issuers.iter().any(|i| i.id == issuer.id && active(i))
}

/// As the driver translates it.
fn translated(failure: &enrolment::Failure) -> Failure {
    let scope = match failure.scope {
        enrolment::Scope::Item => Scope::Item,
        enrolment::Scope::Issuer => Scope::Issuer,
        enrolment::Scope::Endpoint => Scope::Endpoint,
        enrolment::Scope::OwnCredential => Scope::OwnCredential,
        enrolment::Scope::Local => Scope::Local,
    };
    let kind = match failure.kind {
        enrolment::Kind::Transient => Kind::Transient,
        enrolment::Kind::Permanent => Kind::Permanent,
        enrolment::Kind::Unknown => Kind::Unknown,
    };
    Failure { retry_after: failure.retry_after, ..Failure::new(scope, kind, failure.message()) }
}

impl Node for Ours {
    fn start(&mut self, here: &Here<'_>) {
        self.core = Core::new(self.limits.clone(), self.node);
        self.wishes.clear();
        let open: BTreeSet<OrderId> = self.slots.values().filter_map(|r| r.phase.order()).map(|o| o.id).collect();
        self.certificates.retain(|order, _| open.contains(order));
        self.synced = Some(here.ms);
        self.tell(Event::Endpoints(vec![self.endpoint.clone()]), here);
        let records: Vec<Record> =
            self.others.values().cloned().chain(self.slots.values().cloned().map(Record::Slot)).collect();
        for record in records {
            self.tell(Event::Restored(Box::new(record)), here);
        }
        self.heard = Heard::default();
        self.told.clear();
        self.looked(here.authority.read(here.node, here.ms), (here.ms, here.now), here);
        self.signer(CREDENTIAL, here);
        self.run(here);
    }

    fn end(&mut self) {
        self.wishes.clear();
        self.unsaved.clear();
        self.dropped.clear();
        self.unkept.clear();
    }

    fn wake(&mut self, here: &Here<'_>) {
        self.save(Vec::new());
        self.freshen(here);
        self.run(here);
    }

    fn hear(&mut self, news: News, here: &Here<'_>) {
        self.freshen(here);
        match news {
            News::Registry(reading) => self.looked(reading, (here.ms, here.now), here),
            News::Done { slot, order, step } => self.done(slot, order, step, here),
            News::Answer { slot, order, attempt, answer } => self.answered(slot, order, attempt, answer, here),
            News::Replaced { slot } => self.signer(slot, here),
            News::Hung { slot, order } => {
                let Some(id) = self.names.id(slot).cloned() else { return };
                let text = "what checks it did not return".to_owned();
                self.report(slot, Event::Rejected { slot: id, order, text }, here);
            }
            News::Reload => self.tell(Event::Endpoints(vec![self.endpoint.clone()]), here),
            News::Command(command) => self.tell(Event::Command(command), here),
            News::ClockSet => {}
        }
        self.run(here);
    }

    fn next_wakeup(&self, here: &Here<'_>) -> Option<Timestamp> {
        self.core.next_wakeup(here.now)
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    fn record(&self, slot: Slot) -> Option<&SlotRecord> {
        self.slots.get(&slot)
    }

    fn heard(&self) -> Option<&Heard> {
        Some(&self.heard)
    }

    fn has_all_on_disk(&self) -> bool {
        self.unsaved.is_empty()
    }

    fn breaker_is_open(&self) -> bool {
        let open = |r: &Record| matches!(r, Record::Endpoint(r) if r.failures >= self.limits.breaker_failures);
        self.others.values().any(open)
    }

    fn explain(&self, slot: Slot, here: &Here<'_>) -> Option<Vec<String>> {
        self.core.explain(self.names.id(slot)?, here.now).ok().map(|explanation| explanation.reasons)
    }

    fn set_disk(&mut self, full: bool) {
        self.disk_is_full = full;
    }
}
