//! What must hold at every step of the agent, whatever the world does. Reckoned from what the node was told and did, and not
//! from what its core thinks.

mod accept;
mod parks;
mod pauses;
mod told;
mod waits;

use self::accept::Acceptance;
use self::parks::Parks;
use self::pauses::Paused;
pub(super) use self::waits::Asked;
use self::waits::Waits;
use super::agenda::{DAY, Ms, SECOND};
use super::ca::Answer;
use super::setup::{CREDENTIAL, Setup, Slot};
use crate::registry::State;
use crate::renewal::{OrderId, Phase, RegistryView, SignerLife, SlotRecord};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::fmt;

/// More than this is one fault told many times.
const MOST_VIOLATIONS: usize = 20;
/// So many events are told with a violation.
const REMEMBERED: usize = 12;
/// Departures over which the rate is looked at.
const WINDOW: usize = 64;

/// Something that must not happen, and did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Of which world.
    pub seed: u64,
    /// In virtual time.
    pub at: Timestamp,
    /// On which node, from 1.
    pub node: usize,
    /// In which slot: 0 the credential, from 1 on the issuers.
    pub slot: usize,
    /// What.
    pub what: String,
    /// The last events of the node, the newest last.
    pub before: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {}, node {}, slot {}: {}", self.seed, self.at, self.node, self.slot, self.what)?;
        self.before.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// What the driver of a node has told its core of the registry.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub view: Option<RegistryView>,
    pub looked: Option<Timestamp>,
}

impl Heard {
    /// What was said of an issuer, from 0.
    pub(super) fn says_active(&self, issuer: Option<&crate::registry::IssuerId>) -> bool {
        let found = self.view.as_ref().and_then(|v| v.issuers.iter().find(|i| Some(&i.id) == issuer));
        found.is_some_and(|i| i.state == State::Active)
    }
}

#[derive(Debug)]
pub(super) struct Check {
    seed: u64,
    start: Timestamp,
    per_day: usize,
    attempts_per_day: usize,
    issuances_per_day: usize,
    max_in_flight: usize,
    max_age: i64,
    confirm_within: i64,
    rate: f64,
    ramp: f64,
    validity: i64,
    nodes: Vec<PerNode>,
    pub violations: Vec<Violation>,
}

#[derive(Debug)]
struct PerNode {
    departures: VecDeque<Ms>,
    /// The last of them by the node's clock, which the core counts by.
    seconds: VecDeque<i64>,
    begun: Option<(Ms, usize)>,
    slots: Vec<PerSlot>,
    orders: HashSet<OrderId>,
    recent: VecDeque<(Ms, Slot, &'static str, Option<OrderId>)>,
    pause: Paused,
    acceptance: Acceptance,
    parks: Parks,
    waits: Waits,
}

#[derive(Clone, Debug, Default)]
struct PerSlot {
    open: Option<OrderId>,
    prepared: bool,
    /// An operator has approved what came of it.
    approved: Option<OrderId>,
    sent: VecDeque<Ms>,
    issued: VecDeque<Ms>,
}

/// A certificate that is taken into use, and the one that was in use before.
pub(super) struct New<'a> {
    pub life: &'a SignerLife,
    pub present: Option<SignerLife>,
    /// Its issuer wants an operator to approve it.
    pub needs_approval: bool,
}

/// One request about to leave, as the world sees it.
pub(super) struct Leaving<'a> {
    pub ms: Ms,
    /// By the node's clock.
    pub now: Timestamp,
    pub node: usize,
    pub slot: Slot,
    pub order: OrderId,
    pub attempt: u32,
    /// Calls of the node that are open, this one included.
    pub in_flight: usize,
    pub heard: &'a Heard,
    pub issuer: Option<&'a crate::registry::IssuerId>,
    pub record: Option<&'a SlotRecord>,
    /// The node's own certificate at the service, where it has one.
    pub credential: Option<SignerLife>,
}

impl Check {
    pub(super) fn new(setup: &Setup, seed: u64) -> Self {
        let limits = &setup.agent.limits;
        let node = || PerNode {
            departures: VecDeque::new(),
            seconds: VecDeque::with_capacity(WINDOW + 1),
            begun: None,
            slots: vec![PerSlot::default(); setup.issuers + 1],
            orders: HashSet::new(),
            recent: VecDeque::with_capacity(REMEMBERED),
            pause: Paused::new(setup.agent.refresh.max(SECOND)),
            acceptance: Acceptance::default(),
            parks: Parks::new(setup.issuers + 1),
            waits: Waits::new(setup.issuers + 1),
        };
        Check {
            seed,
            start: setup.start,
            per_day: limits.submissions_per_day as usize,
            attempts_per_day: setup.agent.attempts_per_day as usize,
            issuances_per_day: limits.issuances_per_day as usize,
            max_in_flight: setup.agent.max_in_flight as usize,
            max_age: i64::try_from(limits.evidence_max_age.as_secs()).unwrap_or(i64::MAX),
            confirm_within: i64::try_from(limits.confirm_within.as_secs()).unwrap_or(i64::MAX),
            rate: f64::from(setup.agent.rate.count) / setup.agent.rate.per.as_secs_f64(),
            ramp: limits.ramp.as_secs_f64(),
            validity: i64::try_from(setup.validity.as_secs()).unwrap_or(i64::MAX),
            nodes: (0..setup.nodes).map(|_| node()).collect(),
            violations: Vec::new(),
        }
    }

    /// Something happened to a slot: it is told with what goes wrong after it.
    pub(super) fn note(&mut self, ms: Ms, node: usize, slot: Slot, what: &'static str, order: Option<OrderId>) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        if node.recent.len() >= REMEMBERED {
            node.recent.pop_front();
        }
        node.recent.push_back((ms, slot, what, order));
    }

    pub(super) fn violated(&mut self, ms: Ms, node: usize, slot: Slot, what: String) {
        if self.violations.len() >= MOST_VIOLATIONS {
            return;
        }
        let at = |ms: Ms| self.start.plus(std::time::Duration::from_millis(ms));
        let told = |(ms, slot, what, order): &(Ms, Slot, &str, Option<OrderId>)| match order {
            Some(order) => format!("{} slot {slot}: {what}, order {order}", at(*ms)),
            None => format!("{} slot {slot}: {what}", at(*ms)),
        };
        let before = self.nodes.get(node).map_or_else(Vec::new, |n| n.recent.iter().map(told).collect());
        self.violations.push(Violation { seed: self.seed, at: at(ms), node: node + 1, slot, what, before });
    }

    /// The process of a node begins: its rate is a ramp from here.
    pub(super) fn begins(&mut self, ms: Ms, node: usize) {
        self.note(ms, node, CREDENTIAL, "the process begins", None);
        if let Some(node) = self.nodes.get_mut(node) {
            node.pause.seen(ms);
        }
        self.ramp(ms, node);
    }

    /// Something else after which the rate begins anew: a reload, the end of a pause, a service that is back, new issuers.
    pub(super) fn ramp(&mut self, ms: Ms, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.begun = Some((ms, 0));
        }
    }

    /// The process of a node ends, and what it could not write is forgotten.
    pub(super) fn forgets(&mut self, node: usize) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.parks.lift_all();
        node.waits.begins_anew();
        node.acceptance.forgets(node.slots.len());
    }

    /// What the CA has said to the request of a slot, and how long it wants to be left alone.
    pub(super) fn answered(
        &mut self,
        ms: Ms,
        node: usize,
        slot: Slot,
        order: OrderId,
        (answer, asked): (&Answer, Asked),
    ) {
        match answer {
            Answer::Issued(_) => self.issued(ms, node, slot, order),
            Answer::Later(_) => self.note(ms, node, slot, "the CA decides later", Some(order)),
            Answer::Refused => self.note(ms, node, slot, "the CA says no", Some(order)),
            _ => self.note(ms, node, slot, "the request fails", Some(order)),
        }
        if let Some(node) = self.nodes.get_mut(node) {
            node.acceptance.answered(ms, slot, node.parks.is_parked(slot), answer);
            node.parks.answered(slot, answer);
            node.waits.answered(ms, slot, answer, asked);
        }
    }

    /// What the ledger says of a slot now.
    pub(super) fn written(&mut self, node: usize, slot: Slot, record: Option<&SlotRecord>) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.parks.written(slot, record);
        }
    }

    fn slot(&mut self, node: usize, slot: Slot) -> Option<&mut PerSlot> {
        self.nodes.get_mut(node)?.slots.get_mut(slot)
    }

    pub(super) fn prepares(&mut self, ms: Ms, node: usize, slot: Slot, order: OrderId) {
        self.note(ms, node, slot, "prepare", Some(order));
        let issuances = self.issuances_per_day;
        let Some(of) = self.slot(node, slot) else { return };
        let other = of.open.filter(|open| *open != order);
        let new = of.open.is_none();
        of.open = Some(order);
        of.prepared = false;
        let issued = within_a_day(&mut of.issued, ms);
        if let Some(open) = other {
            self.violated(ms, node, slot, format!("a second order {order} beside {open}, which is open"));
        }
        if issued >= issuances {
            self.violated(ms, node, slot, format!("{issued} certificates within a day, and another order"));
        }
        let known = self.nodes.get_mut(node).is_some_and(|n| !n.orders.insert(order));
        if new && known {
            self.violated(ms, node, slot, format!("order {order} had been closed and is opened again"));
        }
    }

    pub(super) fn prepared(&mut self, ms: Ms, node: usize, slot: Slot, order: OrderId) {
        self.note(ms, node, slot, "key and request are on disk", Some(order));
        if let Some(of) = self.slot(node, slot) {
            of.prepared |= of.open == Some(order);
        }
    }

    pub(super) fn issued(&mut self, ms: Ms, node: usize, slot: Slot, order: OrderId) {
        self.note(ms, node, slot, "a certificate comes", Some(order));
        if let Some(of) = self.slot(node, slot) {
            of.issued.push_back(ms);
        }
    }

    /// The order is over.
    pub(super) fn closes(&mut self, ms: Ms, node: usize, slot: Slot, order: OrderId, what: &'static str) {
        self.note(ms, node, slot, what, Some(order));
        if let Some(of) = self.slot(node, slot) {
            of.open = of.open.filter(|open| *open != order);
        }
        if let Some(node) = self.nodes.get_mut(node) {
            node.waits.freed(slot);
        }
    }

    /// `shown` is the time by the node's clock.
    pub(super) fn installs(&mut self, ms: Ms, shown: Timestamp, node: usize, slot: Slot, order: OrderId, new: New<'_>) {
        let New { life, present, needs_approval } = new;
        let same = present == Some(*life);
        let open = self.slot(node, slot).is_some_and(|of| of.open == Some(order));
        if !open && !same {
            self.violated(ms, node, slot, format!("the certificate of order {order}, which is not open, is used"));
        }
        let approved = self.slot(node, slot).is_some_and(|of| of.approved == Some(order));
        if needs_approval && !approved && !same {
            self.violated(
                ms,
                node,
                slot,
                format!("the certificate of order {order} is used, and nobody has approved it"),
            );
        }
        let now = self.start.plus(std::time::Duration::from_millis(ms));
        if life.not_before > now {
            self.violated(ms, node, slot, format!("a certificate is used that is valid from {} on", life.not_before));
        }
        let left = life.not_after.seconds_since(shown);
        let better = present.is_some_and(|present| present.not_after < life.not_after);
        if slot != CREDENTIAL && !same && !better && left <= self.validity {
            self.violated(
                ms,
                node,
                slot,
                format!("a signer is taken into use whose responses outlive it: {left} s left"),
            );
        }
        self.closes(ms, node, slot, order, "a new certificate is in use");
    }

    pub(super) fn leaves(&mut self, l: &Leaving<'_>) {
        let mut faults = Vec::new();
        self.note(l.ms, l.node, l.slot, "request", Some(l.order));
        self.evidence(l, &mut faults);
        self.order(l, &mut faults);
        self.rates(l, &mut faults);
        if let Some(node) = self.nodes.get_mut(l.node) {
            faults.extend(node.acceptance.leaves(l.ms, l.slot));
            faults.extend(node.parks.leaves(l.ms, l.slot, l.record));
            faults.extend(node.waits.leaves(l.ms, l.now, l.slot));
        }
        for fault in faults {
            self.violated(l.ms, l.node, l.slot, fault);
        }
    }

    /// Only on fresh evidence that the issuer is active.
    fn evidence(&self, l: &Leaving<'_>, faults: &mut Vec<String>) {
        if self.nodes.get(l.node).is_some_and(|n| n.pause.is_on(l.ms)) {
            faults.push("asked for in a pause".to_owned());
        }
        if l.credential.is_some_and(|own| own.not_after < l.now) {
            faults.push("asked for with a credential that has expired by the node's own clock".to_owned());
        }
        if l.slot == CREDENTIAL {
            return;
        }
        if !l.heard.says_active(l.issuer) {
            faults.push("asked for, and the registry does not say that it is active".to_owned());
        }
        let age = l.heard.view.as_ref().map_or(i64::MAX, |v| l.now.seconds_since(v.synced_at));
        if !(0..=self.max_age).contains(&age) {
            faults.push(format!("asked for by evidence that is {age} s old"));
        }
        let look = l.heard.looked.map_or(i64::MAX, |t| l.now.seconds_since(t));
        if !(0..=self.confirm_within).contains(&look) {
            faults.push(format!("asked for {look} s after the last look at the registry"));
        }
    }

    /// One order, on disk before it is sent, and so many a day.
    fn order(&mut self, l: &Leaving<'_>, faults: &mut Vec<String>) {
        let per_day = self.per_day;
        let Some(of) = self.slot(l.node, l.slot) else { return };
        if of.open != Some(l.order) {
            faults.push(format!("order {} is sent and is not the one that is open", l.order));
        } else if !of.prepared {
            faults.push(format!("order {} is sent before its key and request are on disk", l.order));
        }
        let written = l.record.map(|r| &r.phase);
        if !matches!(written, Some(Phase::InFlight(o)) if o.id == l.order && o.attempts == l.attempt) {
            faults.push(format!("order {} is sent before the ledger has it", l.order));
        }
        let sent = within_a_day(&mut of.sent, l.ms);
        of.sent.push_back(l.ms);
        if sent >= per_day {
            faults.push(format!("{sent} requests within a day, and another"));
        }
    }

    fn rates(&mut self, l: &Leaving<'_>, faults: &mut Vec<String>) {
        if l.in_flight > self.max_in_flight {
            faults.push(format!("{} requests at a time, and {} are allowed", l.in_flight, self.max_in_flight));
        }
        let (rate, ramp, attempts) = (self.rate, self.ramp, self.attempts_per_day);
        let Some(node) = self.nodes.get_mut(l.node) else { return };
        if let Some(ended) = node.pause.ended(l.ms)
            && node.begun.is_none_or(|(begun, _)| begun < ended)
        {
            node.begun = Some((ended, 0));
        }
        node.departures.push_back(l.ms);
        let day = within_a_day(&mut node.departures, l.ms);
        if day > attempts {
            faults.push(format!("{day} requests to the service within a day, and {attempts} are allowed"));
        }
        node.seconds.push_front(l.now.unix());
        node.seconds.truncate(WINDOW);
        for (n, from) in (1_u32..).zip(&node.seconds) {
            // Of a rate faster than one a second, what could not leave in one second leaves in the next.
            let seconds = (l.now.unix() - from) as f64 + if rate > 1.0 { 2.0 } else { 1.0 };
            if f64::from(n) > (rate * seconds).ceil() + 1.0 {
                faults.push(format!("{n} requests within {seconds:.0} s, beyond the rate"));
                break;
            }
        }
        if let Some((begun, count)) = &mut node.begun {
            *count += 1;
            let elapsed = l.ms.saturating_sub(*begun) as f64 / 1_000.0;
            let granted = rate * ramped(elapsed, ramp) + 2.0;
            if *count as f64 > granted {
                faults.push(format!("{count} requests in the first {elapsed:.0} s after a discontinuity: no ramp"));
            }
            if elapsed > ramp {
                node.begun = None;
            }
        }
    }
}

/// How many seconds at the whole rate the first `elapsed` of a ramp are worth: from a tenth to the whole.
fn ramped(elapsed: f64, ramp: f64) -> f64 {
    let floor = ramp / 10.0;
    if elapsed <= floor {
        elapsed / 10.0
    } else if elapsed <= ramp {
        floor / 10.0 + (elapsed * elapsed - floor * floor) / (2.0 * ramp)
    } else {
        floor / 10.0 + (ramp * ramp - floor * floor) / (2.0 * ramp) + (elapsed - ramp)
    }
}

/// How many of these are less than a day ago; the others are forgotten.
fn within_a_day(times: &mut VecDeque<Ms>, now: Ms) -> usize {
    while times.front().is_some_and(|at| at + DAY <= now) {
        times.pop_front();
    }
    times.len()
}

#[cfg(test)]
mod tests;
