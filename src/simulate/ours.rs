//! A node run by [`renewal::Core`](crate::renewal::Core) itself, with a driver that does in virtual time what the real one
//! does with files and sockets.

use super::agenda::{Ms, SECOND};
use super::authority::Reading;
use super::ca::Answer;
use super::check::Heard;
use super::node::{Here, News, Node, Wish};
use super::setup::{CREDENTIAL, Setup, Slot};
use crate::renewal::{
    Action, Core, CredentialSpec, EndpointId, EndpointSpec, Event, Failure, IssuerSpec, Kind, Limits, NodeId, OrderId,
    Reach, Record, Scope, SignerLife, SlotId, SlotRecord, Step,
};
use crate::time::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

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
    phase: Ms,
    /// The last regular look at the registry that the core was told of.
    synced: Option<Ms>,
    wishes: Vec<Wish>,
    // On disk.
    slots: BTreeMap<Slot, SlotRecord>,
    others: BTreeMap<String, Record>,
    certificates: HashMap<OrderId, SignerLife>,
    disk_is_full: bool,
    heard: Heard,
}

impl Ours {
    pub(super) fn new(setup: &Setup, names: &Rc<Names>, node: usize) -> Self {
        let agent = &setup.agent;
        let credential =
            setup.credential.map(|(life, _)| CredentialSpec { profile: Some("agent".to_owned()), margin: life / 10 });
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
            // Nodes do not look at one moment.
            phase: (node as Ms * 7 * SECOND) % agent.refresh.max(SECOND),
            synced: None,
            wishes: Vec::new(),
            slots: BTreeMap::new(),
            others: BTreeMap::new(),
            certificates: HashMap::new(),
            disk_is_full: false,
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
        self.looked(reading, shown, here);
    }

    /// A look at the registry, at this time by the node's clock.
    fn looked(&mut self, reading: Reading, at: Timestamp, here: &Here<'_>) {
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
            self.heard.view = Some(view);
        }
    }

    /// Carries out what the core wants, until it wants nothing more.
    fn run(&mut self, here: &Here<'_>) {
        loop {
            let actions = self.core.poll(here.now);
            if actions.is_empty() {
                return;
            }
            let mut written = true;
            for action in actions {
                match action {
                    Action::Persist(records) if self.disk_is_full => {
                        written = false;
                        drop(records);
                    }
                    Action::Persist(records) => self.write(records),
                    Action::ConfirmActive => self.wishes.push(Wish::ReadRegistry),
                    Action::Tell(notice) => {
                        if notice.alarm {
                            let slot = match &notice.about {
                                Reach::Slot(id) => Some(self.names.slot(id)),
                                _ => None,
                            };
                            self.wishes.push(Wish::Alarm { slot });
                        }
                    }
                    Action::HangUp { slot, .. } => self.wishes.push(Wish::HangUp { slot: self.names.slot(&slot) }),
                    Action::Prepare(r) => self.step(&r.slot, r.order, Step::Prepare, written, here),
                    Action::Submit(r) if written => {
                        let slot = self.names.slot(&r.slot);
                        let (order, attempt, cause) = (r.order, r.attempt, Some(r.cause));
                        self.wishes.push(Wish::Call { slot, order, attempt, cause });
                    }
                    Action::Submit(r) => self.step(&r.slot, r.order, Step::Submit(r.attempt), false, here),
                    Action::Verify { slot, order } => self.step(&slot, order, Step::Verify, written, here),
                    Action::Stage { slot, order } => self.step(&slot, order, Step::Stage, written, here),
                    Action::Activate { slot, order } => self.step(&slot, order, Step::Activate, written, here),
                    Action::Cancel { slot, order, .. } => {
                        self.certificates.remove(&order);
                        self.wishes.push(Wish::Cancel { slot: self.names.slot(&slot), order });
                    }
                }
            }
        }
    }

    fn write(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Slot(record) => {
                    self.slots.insert(self.names.slot(&record.slot), record);
                }
                other => {
                    self.others.insert(other.key(), other);
                }
            }
        }
    }

    fn step(&mut self, id: &SlotId, order: OrderId, step: Step, written: bool, here: &Here<'_>) {
        let slot = self.names.slot(id);
        if written {
            self.wishes.push(Wish::Step { slot, order, step });
        } else {
            self.failed(slot, order, step, (Scope::Local, Kind::Transient), "the disk is full", here);
        }
    }

    fn failed(
        &mut self,
        slot: Slot,
        order: OrderId,
        step: Step,
        (scope, kind): (Scope, Kind),
        text: &str,
        here: &Here<'_>,
    ) {
        let Some(id) = self.names.id(slot).cloned() else { return };
        self.tell(Event::Failed { slot: id, order, step, failure: Failure::new(scope, kind, text) }, here);
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
        let event = match step {
            Step::Prepare => Event::Prepared { slot: id, order },
            Step::Submit(_) => return,
            Step::Verify => match self.certificates.get(&order) {
                Some(life) => Event::Verified { slot: id, order, life: *life },
                None => Event::Rejected { slot: id, order, text: "there is no certificate for it".to_owned() },
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
        self.tell(event, here);
    }

    fn answered(&mut self, slot: Slot, order: OrderId, attempt: u32, answer: Answer, here: &Here<'_>) {
        let step = Step::Submit(attempt);
        let (scope, kind, text) = match answer {
            Answer::Issued(_) if self.disk_is_full => (Scope::Local, Kind::Transient, "the disk is full"),
            Answer::Issued(life) => {
                let Some(id) = self.names.id(slot).cloned() else { return };
                self.certificates.insert(order, life);
                self.tell(Event::Issued { slot: id, order }, here);
                return;
            }
            Answer::Refused => (Scope::Issuer, Kind::Permanent, "the profile is disabled"),
            Answer::Error => (Scope::Endpoint, Kind::Transient, "HTTP 500"),
            Answer::Unreachable => (Scope::Endpoint, Kind::Transient, "no connection"),
            Answer::NotAccepted => (Scope::OwnCredential, Kind::Permanent, "the client certificate was not accepted"),
            Answer::TimedOut => (Scope::Item, Kind::Unknown, "no answer in time"),
        };
        self.failed(slot, order, step, (scope, kind), text, here);
    }
}

impl Node for Ours {
    fn start(&mut self, here: &Here<'_>) {
        self.core = Core::new(self.limits.clone(), self.node);
        self.wishes.clear();
        self.synced = Some(here.ms);
        self.tell(Event::Endpoints(vec![self.endpoint.clone()]), here);
        let records: Vec<Record> =
            self.others.values().cloned().chain(self.slots.values().cloned().map(Record::Slot)).collect();
        for record in records {
            self.tell(Event::Restored(Box::new(record)), here);
        }
        self.heard = Heard::default();
        self.looked(here.authority.read(here.node, here.ms), here.now, here);
        (0..here.lives.len()).for_each(|slot| self.signer(slot, here));
        self.run(here);
    }

    fn end(&mut self) {
        self.wishes.clear();
    }

    fn wake(&mut self, here: &Here<'_>) {
        self.freshen(here);
        self.run(here);
    }

    fn hear(&mut self, news: News, here: &Here<'_>) {
        self.freshen(here);
        match news {
            News::Registry(reading) => self.looked(reading, here.now, here),
            News::Done { slot, order, step } => self.done(slot, order, step, here),
            News::Answer { slot, order, attempt, answer } => self.answered(slot, order, attempt, answer, here),
            News::Replaced { slot } => self.signer(slot, here),
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

    fn set_disk(&mut self, full: bool) {
        self.disk_is_full = full;
    }
}
