//! Looks at the world from outside: the points of the curves, and whether everything is in order at the end.

use super::agenda::{DAY, HOUR, Ms};
use super::authority::Reading;
use super::node::NodeClock;
use super::setup::{CREDENTIAL, Deed, Slot};
use super::world::{Event, Policy, World};
use crate::renewal::{Hold, SignerLife, SlotRecord};
use crate::time::Timestamp;
use std::time::Duration;

impl World {
    pub(super) fn sample(&mut self) {
        let now = self.at(self.now);
        let mut slack: Option<i64> = None;
        for place in &self.nodes {
            for (slot, life) in place.lives.iter().enumerate() {
                let Some(life) = life else { continue };
                let left = match slot {
                    CREDENTIAL if self.setup.customers_need_credential => life.not_after.seconds_since(now),
                    CREDENTIAL => continue,
                    _ if !self.authority.is_active(slot.wrapping_sub(1)) => continue,
                    _ => life.not_after.minus(self.reserve(slot)).seconds_since(now),
                };
                slack = Some(slack.map_or(left, |least| least.min(left)));
            }
        }
        let unserved = self.nodes.iter().map(|n| n.unserved.iter().skip(1).flatten().count()).sum();
        self.measure.sample(self.now, self.ca.queue(), self.ca.connections, unserved, slack);
    }

    /// After the faults have ended, everything that was due has been renewed: how many slots were looked at. None: the run
    /// ends too early to ask.
    pub(super) fn check_progress(&mut self) -> Option<usize> {
        // Where a user's own signers wait for an approval, it comes regularly until the end, and is no fault.
        let counts = |deed: &Deed| self.setup.own.is_none() || !matches!(deed, Deed::Approve(_));
        let last = self.setup.script.iter().filter(|(_, deed)| counts(deed)).map(|(at, _)| *at).max().unwrap_or(0);
        let recovery = u64::try_from(self.setup.recovery.as_millis()).unwrap_or(DAY);
        if last + recovery > self.now {
            return None;
        }
        let now = self.at(self.now);
        let mut looked_at = 0;
        for node in 0..self.nodes.len() {
            for slot in CREDENTIAL..self.setup.issuers + 1 {
                if self.is_exempt(node, slot) {
                    continue;
                }
                looked_at += 1;
                let Some(place) = self.nodes.get(node) else { continue };
                let ordered = place.ordered.get(slot).copied().flatten().filter(|at| at + recovery <= self.now);
                let fault = match place.lives.get(slot).copied().flatten() {
                    None => Some("it has no signer, and nothing stands in the way".to_owned()),
                    Some(life) if life.not_after < now => {
                        Some(format!("its certificate expired at {}", life.not_after))
                    }
                    Some(life) => {
                        let overdue = self.overdue(slot, &life, now, recovery);
                        (overdue > 0).then(|| format!("overdue for {overdue} s, and nothing stands in the way"))
                    }
                };
                let fault = fault.or_else(|| {
                    ordered.map(|at| format!("an operator ordered it at {}, and it was not renewed", self.at(at)))
                });
                if let Some(fault) = fault {
                    let said = self.why(node, slot).unwrap_or_default();
                    self.check.violated(self.now, node, slot, format!("{fault}; the node says: {said}"));
                }
            }
        }
        Some(looked_at)
    }

    /// How long a response of this issuer is valid.
    fn validity(&self, slot: Slot) -> Duration {
        self.authority.issuers().get(slot.wrapping_sub(1)).map_or(self.setup.validity, |issuer| issuer.validity)
    }

    /// What must be left of its signer when the next one takes over.
    fn reserve(&self, slot: Slot) -> Duration {
        let issuer = self.authority.issuers().get(slot.wrapping_sub(1));
        self.validity(slot).saturating_add(issuer.map_or(self.setup.margin, |issuer| issuer.margin))
    }

    /// What a node says of a slot when it is asked why.
    pub(super) fn why(&mut self, node: usize, slot: Slot) -> Option<String> {
        let mut said = None;
        self.with(node, |process, here| said = process.explain(slot, here));
        said.map(|reasons| reasons.join("; "))
    }

    /// Seconds since its window has closed, and patience with it.
    fn overdue(&self, slot: Slot, life: &SignerLife, now: Timestamp, recovery: Ms) -> i64 {
        let whole = life.not_after.since(life.not_before);
        let reserve = match slot {
            CREDENTIAL => self.setup.credential_margin(whole),
            _ => self.reserve(slot),
        };
        let closes = life.not_before.plus(whole.saturating_sub(reserve).mul_f64(self.setup.agent.limits.window.end));
        now.seconds_since(closes.plus(Duration::from_millis(recovery.max(HOUR))))
    }

    /// Nothing can be wanted of this slot now.
    fn is_exempt(&self, node: usize, slot: Slot) -> bool {
        let signer = match slot {
            CREDENTIAL => self.setup.credential.is_none(),
            _ => {
                !self.authority.is_active(slot - 1)
                    || matches!(self.authority.read(node, self.now), Reading::Nothing)
                    || self.hangs_check.get(slot).copied().unwrap_or(false)
            }
        };
        let unreadable = self.ill_formed.get(slot).copied().unwrap_or(false);
        let parked = |r: &SlotRecord| matches!(r.hold, Hold::Parked { .. });
        let is_left = !self.setup.attended
            && (self.nodes.get(node).and_then(|n| n.process.record(slot)).is_some_and(parked)
                || self.check.is_paused(node, self.now));
        signer || is_left || unreadable || self.ca.cannot_issue(slot) || self.nodes.get(node).is_none_or(|n| !n.up)
    }

    /// Whether it is still this certificate that is in use, for an issuer that matters.
    fn is_in_use(&self, node: usize, slot: Slot, not_after: Timestamp) -> bool {
        let life = self.nodes.get(node).and_then(|n| n.lives.get(slot).copied().flatten());
        let matters = slot == CREDENTIAL || self.authority.is_active(slot.wrapping_sub(1));
        matters && life.is_some_and(|life| life.not_after == not_after)
    }

    /// A signer of which less than a response's validity is left: that is a fault if nothing was in the way of its renewal.
    pub(super) fn late(&mut self, node: usize, slot: Slot, not_after: Timestamp) {
        if !self.is_in_use(node, slot, not_after) {
            return;
        }
        self.measure.totals.late += 1;
        let Some(quiet) = self.setup.quiet.filter(|quiet| *quiet <= self.now) else { return };
        let troubled = self.setup.troubles.iter().any(|(from, to)| *from <= self.now && *to + quiet > self.now);
        let parked = |r: &SlotRecord| matches!(r.hold, Hold::Parked { .. });
        let is_held = self.nodes.get(node).and_then(|n| n.process.record(slot)).is_some_and(parked);
        if self.policy == Policy::Ours && !troubled && !is_held && !self.is_exempt(node, slot) {
            let said = self.why(node, slot).unwrap_or_default();
            let text =
                format!("its responses outlive it, and nothing has stood in the way for long; the node says: {said}");
            self.check.violated(self.now, node, slot, text);
        }
    }

    pub(super) fn expired(&mut self, node: usize, slot: Slot, not_after: Timestamp) {
        if !self.is_in_use(node, slot, not_after) {
            return;
        }
        self.measure.totals.expired += u64::from(slot != CREDENTIAL);
        self.not_served(node, slot);
    }

    /// From now on there is no valid signer.
    pub(super) fn not_served(&mut self, node: usize, slot: Slot) {
        let now = self.now;
        if let Some(since) = self.nodes.get_mut(node).and_then(|n| n.unserved.get_mut(slot)) {
            since.get_or_insert(now);
        }
    }

    /// The minutes without a signer end, if there were any.
    pub(super) fn served_again(&mut self, node: usize, slot: Slot) {
        let since = self.nodes.get_mut(node).and_then(|n| n.unserved.get_mut(slot)).and_then(Option::take);
        if let Some(since) = since.filter(|_| slot != CREDENTIAL) {
            self.measure.unserved += self.now - since;
        }
    }

    /// A certificate is in use from now on.
    pub(super) fn install(&mut self, node: usize, slot: Slot, life: SignerLife) {
        if let Some(place) = self.nodes.get_mut(node) {
            if let Some(present) = place.lives.get_mut(slot) {
                *present = Some(life);
            }
            if let Some(ordered) = place.ordered.get_mut(slot) {
                *ordered = None;
            }
        }
        if life.not_after >= self.at(self.now) {
            self.served_again(node, slot);
        }
        if slot == CREDENTIAL {
            self.check.proves_itself_anew(node);
        }
        self.watch(node, slot);
    }

    /// Notes when this certificate is late, and when it expires; at once, if it is.
    pub(super) fn watch(&mut self, node: usize, slot: Slot) {
        let Some(life) = self.nodes.get(node).and_then(|n| n.lives.get(slot).copied().flatten()) else { return };
        let true_clock = NodeClock { start: self.setup.start, offset: 0 };
        let not_after = life.not_after;
        let expired = true_clock.when(not_after).max(self.now);
        if expired <= self.setup.length {
            self.agenda.enter(expired, Event::Expired { node, slot, not_after });
        }
        let late = true_clock.when(not_after.minus(self.validity(slot))).max(self.now);
        if slot != CREDENTIAL && late <= self.setup.length {
            self.agenda.enter(late, Event::Late { node, slot, not_after });
        }
    }

    /// A slot that parks has done what it could; the operator has been told.
    pub(super) fn no_longer_ordered(&mut self, node: usize, slot: Option<Slot>) {
        let place = self.nodes.get_mut(node).zip(slot).and_then(|(n, slot)| n.ordered.get_mut(slot));
        if let Some(ordered) = place {
            *ordered = None;
        }
    }
}
