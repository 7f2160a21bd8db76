//! The core: told what happens, asked what to do.

mod command;
mod denied;
mod dispatch;
mod outcome;
mod sources;

use super::endpoint::Endpoint;
use super::event::{Action, Event, Ignored, Notice, Pause, Reach, Step};
use super::failure::{Failure, Kind, Scope};
use super::id::{EndpointId, NodeId, SlotId};
use super::limits::Limits;
use super::rank::{Class, Placed, Rank};
use super::record::Record;
use super::schedule::Schedule;
use super::slot::{Known, Order, Phase, Slot, Standing};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Steps of the clock back by more than this are a discontinuity.
const CLOCK_TOLERANCE_SECS: i64 = 60;

/// All of renewal on one node, without a clock, IO, threads or randomness. See the [module](super).
///
/// `now` should not go back; where it does, by more than a minute, waits are cut to their longest and the rate begins anew.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) limits: Limits,
    pub(super) node: NodeId,
    pub(super) slots: BTreeMap<SlotId, Slot>,
    pub(super) endpoints: BTreeMap<EndpointId, Endpoint>,
    pub(super) pauses: BTreeMap<Reach, Pause>,
    pub(super) evidence: Evidence,
    /// This machine's own trouble: until when, how often in a row, what.
    local: Option<(Timestamp, u32, String)>,
    /// Endpoint records that came before their endpoint.
    restored_endpoints: BTreeMap<EndpointId, super::record::EndpointRecord>,
    timers: BTreeSet<(Timestamp, SlotId)>,
    actions: Vec<Action>,
    dirty: BTreeSet<SlotId>,
    dirty_endpoints: BTreeSet<EndpointId>,
    dirty_pauses: bool,
    /// When a gate opens that was closed at the last poll.
    gate_opens: Option<Timestamp>,
    /// Something has changed since the last poll.
    stirred: bool,
    latest: Option<Timestamp>,
}

/// What is known of the registry, and from when.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub generation: Option<u64>,
    /// The last successful look.
    pub synced: Option<Timestamp>,
    /// The last look, successful or not.
    pub looked: Option<Timestamp>,
    /// A look was asked for.
    pub asking: Option<Timestamp>,
    /// Why what the last successful look found cannot be used.
    pub unusable: Option<String>,
}

impl Core {
    /// A core that knows nothing yet. Tell it, in this order: [`Event::Endpoints`], [`Event::Restored`] for each ledger
    /// record, [`Event::Registry`], [`Event::Signer`] for each slot.
    ///
    /// Limits that contradict each other ([`Limits::faults`]) do not break it, but it may not do what was meant.
    pub fn new(limits: Limits, node: NodeId) -> Self {
        Core {
            limits,
            node,
            slots: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            pauses: BTreeMap::new(),
            evidence: Evidence::default(),
            local: None,
            restored_endpoints: BTreeMap::new(),
            timers: BTreeSet::new(),
            actions: Vec::new(),
            dirty: BTreeSet::new(),
            dirty_endpoints: BTreeSet::new(),
            dirty_pauses: false,
            gate_opens: None,
            stirred: false,
            latest: None,
        }
    }

    /// Takes note of an event. The answer is how many slots it concerned; or why it changed nothing, which is no fault of
    /// the caller: answers to cancelled orders come late.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Result<usize, Ignored> {
        self.observe(now);
        self.stirred = true;
        match event {
            Event::Endpoints(specs) => Ok(self.configure(specs, now)),
            Event::Restored(record) => self.restore(*record, now),
            Event::Registry(view) => self.registry(view, now),
            Event::Confirmed { generation, at } => self.confirmed(generation, at, now),
            Event::NotConfirmed => {
                self.evidence.looked = Some(now);
                self.evidence.asking = None;
                Ok(0)
            }
            Event::Unusable(why) => {
                self.evidence.looked = Some(now);
                self.evidence.asking = None;
                self.evidence.unusable = Some(why);
                Ok(0)
            }
            Event::Signer { slot, life } => self.signer(&slot, life, now),
            Event::Secret { endpoint, changed } => Ok(self.secret(&endpoint, changed, now)),
            Event::Prepared { slot, order } => self.prepared(&slot, order, now),
            Event::Later { slot, order, attempt, retry_after } => self.later(&slot, order, attempt, retry_after, now),
            Event::Issued { slot, order } => self.issued(&slot, order, true, now),
            Event::Present { slot, order } => self.issued(&slot, order, false, now),
            Event::Verified { slot, order, life } => self.verified(&slot, order, life, now),
            Event::Rejected { slot, order, text } => self.rejected(&slot, order, &text, now),
            Event::Staged { slot, order } => self.staged(&slot, order, now),
            Event::Activated { slot, order } => self.activated(&slot, order, now),
            Event::Failed { slot, order, step, failure } => self.failed(&slot, order, step, failure.cut(), true, now),
            Event::NotSent { slot, order, attempt, failure } => {
                self.failed(&slot, order, Step::Submit(attempt), failure.cut(), false, now)
            }
            Event::Command(command) => self.command(command, now),
        }
    }

    /// Everything to be done now, in order. Call it after events and at [`Core::next_wakeup`].
    pub fn poll(&mut self, now: Timestamp) -> Vec<Action> {
        self.observe(now);
        self.stirred = false;
        self.end_pauses(now);
        while let Some((at, slot)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.settle(&slot, now);
        }
        self.gate_opens = None;
        let endpoints: Vec<EndpointId> = self.endpoints.keys().cloned().collect();
        for endpoint in &endpoints {
            let opens = self.dispatch(endpoint, now);
            self.gate_opens = earlier(self.gate_opens, opens);
        }
        self.flush()
    }

    /// When to poll next if nothing happens before; `None`: only an event will change anything.
    pub fn next_wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        if self.stirred || !self.actions.is_empty() {
            return Some(now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let pause = self.pauses.values().map(|p| p.until).min();
        earlier(earlier(timer, self.gate_opens), pause).map(|at| at.max(now))
    }

    /// The bounds this core was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What has changed, on disk before anything is done.
    fn flush(&mut self) -> Vec<Action> {
        let mut records: Vec<Record> = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            if let Some(slot) = self.slots.get(&id) {
                records.push(Record::Slot(slot.record(&id)));
            }
        }
        for id in std::mem::take(&mut self.dirty_endpoints) {
            if let Some(endpoint) = self.endpoints.get(&id) {
                records.push(Record::Endpoint(endpoint.record()));
            }
        }
        if std::mem::take(&mut self.dirty_pauses) {
            records.push(Record::Pauses(self.pauses.values().cloned().collect()));
        }
        let mut actions = Vec::with_capacity(self.actions.len() + 1);
        if !records.is_empty() {
            actions.push(Action::Persist(records));
        }
        actions.append(&mut self.actions);
        actions
    }

    /// Notices a clock that went back.
    fn observe(&mut self, now: Timestamp) {
        let back = self.latest.is_some_and(|latest| latest.seconds_since(now) > CLOCK_TOLERANCE_SECS);
        if back {
            self.clock_went_back(now);
        }
        if back || self.latest.is_none_or(|latest| latest < now) {
            self.latest = Some(now);
        }
    }

    fn clock_went_back(&mut self, now: Timestamp) {
        let text = "the clock went back: waits are cut to their longest, and the rate begins anew".to_owned();
        self.tell(Reach::All, true, text);
        self.evidence.looked = None;
        self.evidence.asking = None;
        if let Some((until, ..)) = &mut self.local {
            *until = (*until).min(now.plus(self.limits.backoff_base));
        }
        for endpoint in self.endpoints.values_mut() {
            endpoint.clock_went_back(&self.limits, now);
        }
        for pause in self.pauses.values_mut() {
            self.dirty_pauses |= pause.not_ahead(now);
        }
        for slot in self.slots.values_mut() {
            slot.asked = slot.asked.map(|t| t.min(now));
            slot.cut_waits(&self.limits, now);
        }
        self.settle_all(now);
    }

    fn settle_all(&mut self, now: Timestamp) {
        let all: Vec<SlotId> = self.slots.keys().cloned().collect();
        all.iter().for_each(|id| self.settle(id, now));
    }

    /// Takes the steps of a slot that need nobody's leave, and puts it where it is to be found next: behind a timer, in an
    /// endpoint's queue, or nowhere, where an event will come.
    fn settle(&mut self, id: &SlotId, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match std::mem::replace(&mut slot.placed, Placed::Nowhere) {
            Placed::Nowhere => {}
            Placed::Timer(at) => {
                self.timers.remove(&(at, id.clone()));
            }
            Placed::Queue(endpoint, rank, until) => {
                if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                    endpoint.queue.remove(&rank);
                }
                if let Some(until) = until {
                    self.timers.remove(&(until, id.clone()));
                }
            }
        }
        self.give_up_waiting(id, now);
        self.advance(id, now);
        let placed = self.place(id, now);
        match &placed {
            Placed::Nowhere => {}
            Placed::Timer(at) => {
                self.timers.insert((*at, id.clone()));
            }
            Placed::Queue(endpoint, rank, until) => {
                if let Some(endpoint) = self.endpoints.get_mut(endpoint) {
                    endpoint.queue.insert(rank.clone());
                }
                if let Some(until) = until {
                    self.timers.insert((*until, id.clone()));
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.placed = placed;
        }
    }

    /// A step the driver was asked for and never reported counts as failed; a request, as of unknown outcome.
    fn give_up_waiting(&mut self, id: &SlotId, now: Timestamp) {
        let patience = self.limits.step_patience;
        let Some(slot) = self.slots.get_mut(id) else { return };
        let over = slot.asked.is_some_and(|asked| asked.plus(patience) <= now);
        let Some(order) = slot.phase.order().filter(|_| over).map(|o| o.id) else { return };
        let Some(step) = slot.phase.awaits() else { return };
        let (scope, kind) = match slot.phase {
            Phase::InFlight(_) => {
                // The clock may have leapt ahead, and then it is not even late.
                self.actions.push(Action::HangUp { slot: id.clone(), order });
                (Scope::Item, Kind::Unknown)
            }
            _ => (Scope::Local, Kind::Transient),
        };
        let text = format!("no report of the step \"{}\" within {} s", slot.phase.name(), patience.as_secs());
        // The order is the slot's own, and the phase is one that can fail.
        let _ = self.fail(id, order, step, Failure::new(scope, kind, &text), true, now);
    }

    /// A certificate that has come and was not used in time is no signer any more: it is never made the current one.
    fn give_up_spent(&mut self, id: &SlotId, now: Timestamp) {
        let Some(slot) = self.slots.get(id) else { return };
        let (Some(spent), Some(serial)) = (slot.spent_at().filter(|at| *at <= now), slot.next().map(|l| l.serial))
        else {
            return;
        };
        let waited = if matches!(slot.phase, Phase::Staged { approved: false, .. }) { "approved" } else { "in use" };
        let text = format!(
            "certificate {serial} was not {waited} by {spent}, from when on no response fits into its life: it is dropped"
        );
        self.drop_order(id, &text);
        self.tell(Reach::Slot(id.clone()), true, text);
    }

    fn advance(&mut self, id: &SlotId, now: Timestamp) {
        self.give_up_spent(id, now);
        let skew = self.limits.activation_skew;
        let Some(slot) = self.slots.get_mut(id) else { return };
        let renewable = slot.standing == Standing::Active && slot.terms.is_some();
        // After a start nothing goes on before the registry has said by which terms.
        let ready = slot.terms.is_some() && slot.steps_from().is_none_or(|from| from <= now);
        let idle = slot.asked.is_none() && ready;
        let (phase, action) = match &slot.phase {
            Phase::Idle if renewable && is_due(slot, now) => (Phase::Due, None),
            Phase::Due if !renewable || !is_due(slot, now) => (Phase::Idle, None),
            Phase::Issued(o) if idle => (slot.phase.clone(), Some(Action::Verify { slot: id.clone(), order: o.id })),
            Phase::Verified(o, _) if idle => {
                (slot.phase.clone(), Some(Action::Stage { slot: id.clone(), order: o.id }))
            }
            Phase::Staged { order, life, approved } if idle && *approved && life.not_before.plus(skew) <= now => {
                (Phase::Activating(order.clone(), *life), Some(Action::Activate { slot: id.clone(), order: order.id }))
            }
            Phase::Activating(o, _) if idle => {
                (slot.phase.clone(), Some(Action::Activate { slot: id.clone(), order: o.id }))
            }
            _ => return,
        };
        slot.phase = phase;
        if let Some(action) = action {
            slot.asked = Some(now);
            self.actions.push(action);
        }
    }

    fn place(&self, id: &SlotId, now: Timestamp) -> Placed {
        let Some(slot) = self.slots.get(id) else { return Placed::Nowhere };
        let patience = slot.asked.map(|asked| asked.plus(self.limits.step_patience));
        let timer = |at: Option<Timestamp>| at.map_or(Placed::Nowhere, |at| Placed::Timer(at.max(second_after(now))));
        match &slot.phase {
            Phase::Idle if slot.standing != Standing::Active => Placed::Nowhere,
            Phase::Idle => timer(slot.schedule.map(|s| s.due)),
            Phase::Due | Phase::Ordered(_) | Phase::Waiting(..) => {
                let Some(terms) = slot.terms.as_ref().filter(|_| slot.standing == Standing::Active) else {
                    return Placed::Nowhere;
                };
                let paused = self.pauses.get(&Reach::Slot(id.clone())).map(|p| p.until);
                if let Some(until) = slot.held_until().max(paused).filter(|until| *until > now) {
                    return Placed::Timer(until);
                }
                let rank = self.rank(id, slot, now);
                let until = slot.urgent_from().filter(|urgent| rank.round > 0 && *urgent > now);
                Placed::Queue(terms.endpoint.clone(), rank, until)
            }
            Phase::Preparing(_) | Phase::InFlight(_) => timer(patience),
            Phase::Issued(_) | Phase::Verified(..) | Phase::Staged { .. } | Phase::Activating(..)
                if slot.terms.is_none() =>
            {
                timer(patience)
            }
            Phase::Staged { approved: false, .. } => timer(slot.spent_at()),
            Phase::Staged { .. } => timer(earlier(self.active_from(slot), slot.spent_at())),
            Phase::Issued(_) | Phase::Verified(..) | Phase::Activating(..) => {
                timer(patience.or_else(|| slot.steps_from()))
            }
        }
    }

    /// From when on what is in place may become active, an approval apart.
    pub(super) fn active_from(&self, slot: &Slot) -> Option<Timestamp> {
        let Phase::Staged { life, .. } = &slot.phase else { return None };
        Some(life.not_before.plus(self.limits.activation_skew)).max(slot.steps_from())
    }

    fn rank(&self, id: &SlotId, slot: &Slot, now: Timestamp) -> Rank {
        let class = match (id, slot.is_parked()) {
            (_, true) => Class::Canary,
            (SlotId::Credential(_), _) => Class::Credential,
            (SlotId::Signer(_), _) => Class::Ordinary,
        };
        let urgent = slot.urgent_from().is_some_and(|from| from <= now);
        // What is urgent is not held to have failed with others in a short outage, but to have failed time and again.
        let round = (slot.turned_away / self.limits.breaker_failures.max(1)).saturating_sub(u32::from(urgent));
        Rank { class, round, deadline: slot.deadline(self.limits.new_issuer_grace), slot: id.clone() }
    }

    /// Reckons the slot's calendar anew.
    fn reschedule(&mut self, id: &SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.schedule = match (&slot.known, &slot.terms) {
            (Known::Present(life), Some(terms)) => {
                Some(Schedule::of(self.node, id, life, terms.reserve, self.limits.window, self.limits.urgent_share))
            }
            _ => None,
        };
    }

    /// Gives the place at its endpoint back.
    fn vacate(&mut self, id: &SlotId) -> Option<Timestamp> {
        let endpoint = self.slots.get_mut(id)?.occupies.take()?;
        self.endpoints.get_mut(&endpoint)?.occupied.remove(id)
    }

    /// Ends the slot's order without a signer.
    fn drop_order(&mut self, id: &SlotId, reason: &str) -> Option<Order> {
        let slot = self.slots.get_mut(id)?;
        let order = slot.phase.order().cloned()?;
        slot.phase = Phase::Idle;
        slot.asked = None;
        self.dirty.insert(id.clone());
        self.vacate(id);
        self.actions.push(Action::Cancel { slot: id.clone(), order: order.id, reason: reason.to_owned() });
        Some(order)
    }

    fn tell(&mut self, about: Reach, alarm: bool, text: String) {
        self.actions.push(Action::Tell(Notice { about, alarm, text }));
    }

    /// How long until the slot's deadline.
    fn slack(&self, id: &SlotId, now: Timestamp) -> Duration {
        self.slots.get(id).map_or(Duration::ZERO, |s| s.deadline(self.limits.new_issuer_grace).since(now))
    }

    /// Whether a command of this reach concerns this slot.
    fn within(&self, reach: &Reach, id: &SlotId) -> bool {
        match reach {
            Reach::All => true,
            Reach::Slot(slot) => slot == id,
            Reach::Endpoint(endpoint) => {
                self.slots.get(id).and_then(|s| s.terms.as_ref()).is_some_and(|t| t.endpoint == *endpoint)
            }
        }
    }
}

/// Whether the slot wants a new certificate. Where nothing is known of the present one, nothing is wanted.
pub(super) fn is_due(slot: &Slot, now: Timestamp) -> bool {
    match (&slot.known, &slot.schedule) {
        (Known::Nothing, _) => false,
        (Known::Absent, _) => true,
        (Known::Present(_), schedule) => slot.forced || schedule.is_some_and(|s| s.due <= now),
    }
}

pub(super) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn second_after(now: Timestamp) -> Timestamp {
    now.plus(Duration::from_secs(1))
}
