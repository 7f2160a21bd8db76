//! What became of an order's steps.

use super::super::endpoint::{Denial, Trouble};
use super::super::event::{Ignored, Reach, Step};
use super::super::failure::{Failure, Kind, Scope};
use super::super::id::{EndpointId, Mix, OrderId, SlotId};
use super::super::limits::DAY;
use super::super::schedule::SignerLife;
use super::super::slot::{Hold, Known, Park, Phase, Slot, Standing};
use super::super::{backoff, event::Cause};
use super::Core;
use crate::time::Timestamp;
use std::time::Duration;

/// The trouble of this machine holds everything back no longer than this at a time: the disk that was full is tried again,
/// and what was one slot's trouble after all does not hold up the others.
const LOCAL_CAP: Duration = Duration::from_secs(60);

impl Core {
    fn slot(&mut self, id: &SlotId) -> Result<&mut Slot, Ignored> {
        self.slots.get_mut(id).ok_or_else(|| Ignored::UnknownSlot(id.clone()))
    }

    pub(super) fn prepared(&mut self, id: &SlotId, order: OrderId, now: Timestamp) -> Result<usize, Ignored> {
        self.slot(id)?.phase.step(id, order, "prepared", |phase| match phase {
            Phase::Preparing(mut order) => {
                order.prepared = true;
                Ok(Phase::Ordered(order))
            }
            other => Err(other),
        })?;
        self.local = None;
        self.step_done(id, now);
        self.vacate(id);
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn later(
        &mut self,
        id: &SlotId,
        order: OrderId,
        attempt: u32,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<usize, Ignored> {
        let (slack, seed) = (self.slack(id, now), self.jitter("poll", id, now));
        let limits = self.limits.clone();
        let slot = self.slot(id)?;
        let spent = slot.submissions.within_a_day(now);
        slot.phase.step(id, order, "later", |phase| match phase {
            Phase::InFlight(mut order) if order.attempts == attempt => {
                order.polls = order.polls.saturating_add(1);
                let wait = backoff::poll(&limits, retry_after, order.polls, slack, seed);
                let wait = backoff::spread(wait, spent, limits.submissions_per_day);
                Ok(Phase::Waiting(order, now.plus(wait)))
            }
            other => Err(other),
        })?;
        self.favourable(id, true, now);
        let slot = self.slot(id)?;
        // A service that takes an order and refuses it later must not be asked more often than one that refuses it at once: what
        // is parked stays so until a certificate comes, and is polled as it is asked.
        if !slot.is_parked() {
            slot.lift_park();
        }
        self.settle(id, now);
        Ok(1)
    }

    /// `asked`: by the service, just now.
    pub(super) fn issued(
        &mut self,
        id: &SlotId,
        order: OrderId,
        asked: bool,
        now: Timestamp,
    ) -> Result<usize, Ignored> {
        self.slot(id)?.phase.step(id, order, "issued", |phase| match phase {
            // The answer to a request that was given up may come after all.
            Phase::InFlight(order) | Phase::Waiting(order, _) => Ok(Phase::Issued(order)),
            Phase::Ordered(order) if order.attempts > 0 => Ok(Phase::Issued(order)),
            other => Err(other),
        })?;
        self.favourable(id, asked, now);
        let slot = self.slot(id)?;
        slot.lift_park();
        slot.issuances.add(now);
        slot.failures = 0;
        if slot.standing.is_gone() {
            self.drop_order(id, "the issuer is gone from the registry");
        }
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn verified(
        &mut self,
        id: &SlotId,
        order: OrderId,
        life: SignerLife,
        now: Timestamp,
    ) -> Result<usize, Ignored> {
        self.slot(id)?.phase.step(id, order, "verified", |phase| match phase {
            Phase::Issued(order) => Ok(Phase::Verified(order, life)),
            other => Err(other),
        })?;
        self.step_done(id, now);
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn rejected(
        &mut self,
        id: &SlotId,
        order: OrderId,
        text: &str,
        now: Timestamp,
    ) -> Result<usize, Ignored> {
        self.slot(id)?.phase.step(id, order, "rejected", |phase| match phase {
            Phase::Issued(_) | Phase::Verified(..) | Phase::Staged { .. } | Phase::Activating(..) => Ok(phase),
            other => Err(other),
        })?;
        let failure = Failure::new(Scope::Item, Kind::Permanent, text);
        let order = self.drop_order(id, &failure.text);
        let slot = self.slot(id)?;
        if order.is_some_and(|order| slot.changed.is_some_and(|at| order.opened < at)) {
            // It was ordered by a record that is no more; what is ordered by the present one may pass.
            let text = format!("ordered before its registry record changed, and dropped: {}", failure.text);
            self.tell(Reach::Slot(id.clone()), false, text);
        } else {
            self.park(id, Park::Rejected, &failure.text, now);
        }
        let slot = self.slot(id)?;
        slot.failures = slot.failures.saturating_add(1);
        slot.last_failure = Some((now, failure));
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn staged(&mut self, id: &SlotId, order: OrderId, now: Timestamp) -> Result<usize, Ignored> {
        let slot = self.slot(id)?;
        let approved = !slot.terms.as_ref().is_some_and(|t| t.needs_approval);
        slot.phase.step(id, order, "staged", |phase| match phase {
            Phase::Verified(order, life) => Ok(Phase::Staged { order, life, approved }),
            other => Err(other),
        })?;
        self.local = None;
        self.step_done(id, now);
        if !approved {
            self.tell(Reach::Slot(id.clone()), false, "a new signer is in place and waits for approval".to_owned());
        }
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn activated(&mut self, id: &SlotId, order: OrderId, now: Timestamp) -> Result<usize, Ignored> {
        let slot = self.slot(id)?;
        let life = match &slot.phase {
            Phase::Activating(_, life) => Some(*life),
            _ => None,
        };
        slot.phase.step(id, order, "activated", |phase| match phase {
            Phase::Activating(..) => Ok(Phase::Idle),
            other => Err(other),
        })?;
        if let Some(life) = life {
            slot.knows(Known::Present(life));
        }
        slot.forced = false;
        slot.failures = 0;
        slot.last_failure = None;
        slot.changes = slot.changes.saturating_add(1);
        if !slot.is_parked() {
            slot.hold = Hold::None;
            slot.alarmed = false;
        }
        self.step_done(id, now);
        self.reschedule(id);
        if let SlotId::Credential(endpoint) = id {
            self.credential_is(endpoint, life.map(|life| life.serial), false, now);
        }
        self.settle(id, now);
        Ok(1)
    }

    pub(super) fn failed(
        &mut self,
        id: &SlotId,
        order: OrderId,
        step: Step,
        failure: Failure,
        asked: bool,
        now: Timestamp,
    ) -> Result<usize, Ignored> {
        self.fail(id, order, step, failure, asked, now)?;
        self.settle(id, now);
        Ok(1)
    }

    /// Attaches a failure to its scope and no wider; what was asked of nobody teaches nothing about its endpoint. The caller
    /// settles the slot.
    pub(super) fn fail(
        &mut self,
        id: &SlotId,
        order: OrderId,
        step: Step,
        failure: Failure,
        asked: bool,
        now: Timestamp,
    ) -> Result<(), Ignored> {
        let slot = self.slot(id)?;
        let (was_sent, at) = (asked && matches!(slot.phase, Phase::InFlight(_)), slot.occupies.clone());
        slot.phase.step(id, order, "failed", |phase| match phase {
            phase if phase.awaits() != Some(step) => Err(phase),
            Phase::Preparing(order) | Phase::InFlight(order) => Ok(Phase::Ordered(order)),
            other => Ok(other),
        })?;
        slot.asked = None;
        let denied_before = slot.denied_at().is_some();
        slot.last_failure = Some((now, failure.clone()));
        self.dirty.insert(id.clone());
        let sent = self.vacate(id).filter(|_| was_sent);
        let (mut its_own, mut in_doubt) = (false, false);
        match at.filter(|_| was_sent) {
            Some(endpoint) if failure.scope == Scope::OwnCredential => {
                let denial = self.denied(&endpoint, id, &failure, denied_before, now);
                (its_own, in_doubt) = (denial == Denial::OfSlot, denial == Denial::InDoubt);
            }
            Some(endpoint) => its_own = self.endpoint_learns(&endpoint, id, &failure, sent, now),
            None => {}
        }
        let is_credential = matches!(id, SlotId::Credential(_));
        match (failure.scope, failure.kind) {
            (Scope::Item | Scope::Issuer, Kind::Permanent) => self.refused(id, &failure, now),
            (Scope::Endpoint | Scope::OwnCredential, Kind::Permanent) if its_own => self.refused(id, &failure, now),
            (Scope::OwnCredential, Kind::Permanent) if is_credential => self.refused(id, &failure, now),
            (Scope::Item | Scope::Issuer, kind) => {
                // Silence takes a place for as long as a time-out: whoever meets with it time and again lets others go first.
                if let Some(slot) = self.slots.get_mut(id).filter(|_| was_sent && kind == Kind::Unknown) {
                    slot.turned_away = slot.turned_away.saturating_add(1);
                }
                self.back_off(id, &failure, now);
            }
            (Scope::OwnCredential, _) if is_credential => self.back_off(id, &failure, now),
            (Scope::Local, _) => {
                self.back_off(id, &failure, now);
                self.trouble_here(&failure, now);
            }
            // Not the slot's fault, as far as we know: the endpoint holds it. But if it is, others have their turn first.
            (Scope::Endpoint, _) if was_sent => self.turned_away(id, its_own, now),
            (Scope::OwnCredential, _) if in_doubt => self.turned_away(id, false, now),
            (Scope::OwnCredential, _) if was_sent => {}
            (Scope::Endpoint | Scope::OwnCredential, _) => self.back_off(id, &failure, now),
        }
        Ok(())
    }

    /// `true`: whatever it says, the trouble is the slot's, since the service answers others meanwhile.
    fn endpoint_learns(
        &mut self,
        endpoint_id: &EndpointId,
        id: &SlotId,
        failure: &Failure,
        sent: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let (slack, seed) = (self.least_slack(endpoint_id, id, now), self.endpoint_seed(endpoint_id, now));
        let limits = self.limits.clone();
        // A slot that fails anyway says nothing new about its endpoint by failing again.
        let (fresh, turned_away) = self.slots.get(id).map_or((false, 0), |s| (s.failures == 0, s.turned_away));
        let Some(endpoint) = self.endpoints.get_mut(endpoint_id) else { return false };
        let trouble = |text| Trouble { kind: failure.kind, retry_after: failure.retry_after, text, slack, seed };
        let mut alarm = None;
        let mut its_own = false;
        match (failure.scope, failure.kind) {
            (Scope::Endpoint, _) => {
                its_own = !endpoint.turned_away(id, turned_away, &limits);
                if !its_own && endpoint.failed(&trouble(&failure.text), sent, &limits, now) {
                    alarm = Some(format!("the breaker opens: {}", failure.text));
                }
            }
            (Scope::Item | Scope::Issuer, Kind::Unknown) => {
                // One that hangs is its own trouble; several in a row, without one answer between, are the service's.
                if fresh
                    && endpoint.unanswered(id, &limits)
                    && endpoint.failed(&trouble("several requests in a row went unanswered"), sent, &limits, now)
                {
                    alarm = Some("the breaker opens: several requests in a row went unanswered".to_owned());
                }
            }
            (Scope::Item | Scope::Issuer, _) => {
                let was_out = endpoint.answered(false, &limits, now);
                self.others_are_answered(endpoint_id, id, was_out, now);
            }
            (Scope::Local | Scope::OwnCredential, _) => {}
        }
        self.dirty_endpoints.insert(endpoint_id.clone());
        if let Some(text) = alarm {
            self.tell(Reach::Endpoint(endpoint_id.clone()), true, text);
        }
        its_own
    }

    /// How long until the first deadline of those that wait there, and of this slot.
    pub(super) fn least_slack(&self, endpoint_id: &EndpointId, id: &SlotId, now: Timestamp) -> Duration {
        let own = self.slack(id, now);
        let first = self.endpoints.get(endpoint_id).and_then(|endpoint| endpoint.queue.first());
        first.map_or(own, |rank| rank.deadline.since(now).min(own))
    }

    pub(super) fn endpoint_seed(&self, endpoint_id: &EndpointId, now: Timestamp) -> Mix {
        self.node.mix("endpoint").octets(endpoint_id.as_str().as_bytes()).number(now.unix().unsigned_abs())
    }

    /// The service has answered for `id`: where it failed for others meanwhile, the trouble is theirs, and they go behind. Where
    /// it had been given up, how often it did says nothing of them.
    fn others_are_answered(&mut self, endpoint_id: &EndpointId, id: &SlotId, was_out: bool, now: Timestamp) {
        let Some(endpoint) = self.endpoints.get_mut(endpoint_id) else { return };
        for other in endpoint.take_turned_away() {
            if let Some(slot) = self.slots.get_mut(&other).filter(|_| other != *id) {
                let doubtful = self.limits.breaker_failures;
                slot.turned_away = if was_out { doubtful } else { slot.turned_away.max(doubtful) };
                self.dirty.insert(other.clone());
                self.settle(&other, now);
            }
        }
    }

    /// The CA said no: the order is over, and the slot parks.
    fn refused(&mut self, id: &SlotId, failure: &Failure, now: Timestamp) {
        self.drop_order(id, &failure.text);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.failures = slot.failures.saturating_add(1);
        }
        self.park(id, Park::Refused, &failure.text, now);
    }

    fn back_off(&mut self, id: &SlotId, failure: &Failure, now: Timestamp) {
        let (slack, seed) = (self.slack(id, now), self.jitter("backoff", id, now));
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.failures = slot.failures.saturating_add(1);
        let drawn = backoff::backoff(&self.limits, self.limits.backoff_cap, slot.failures, slack, seed);
        let asked = failure.retry_after.map_or(Duration::ZERO, |d| backoff::believed(&self.limits, d, slack));
        let mut wait = drawn.max(asked);
        if matches!(slot.phase, Phase::Ordered(_)) {
            wait = backoff::spread(wait, slot.submissions.within_a_day(now), self.limits.submissions_per_day);
        }
        let until = now.plus(wait);
        slot.again = Some(until);
        match &mut slot.hold {
            // A parked slot has had its request of the day; a step of our own may be repeated, but not at once.
            Hold::Parked { canary, .. } => *canary = (*canary).max(until),
            hold => *hold = Hold::Backoff { until },
        }
    }

    /// The service failed as a whole when it was asked for this slot. No longer than the service itself is held, so that
    /// nobody waits for more than that when it is back; but as after a failure of its own where it is one (`its_own`).
    fn turned_away(&mut self, id: &SlotId, its_own: bool, now: Timestamp) {
        let (slack, seed) = (self.slack(id, now), self.jitter("turn", id, now));
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.turned_away = slot.turned_away.saturating_add(1);
        let cap = if its_own { self.limits.backoff_cap } else { self.limits.breaker_cap };
        let drawn = backoff::backoff(&self.limits, cap, slot.turned_away, slack, seed);
        // Where the service is held, that keeps the wait it has asked for.
        let asked = slot.last_failure.as_ref().and_then(|(_, failure)| failure.retry_after).filter(|_| its_own);
        let asked = asked.map_or(Duration::ZERO, |asked| backoff::believed(&self.limits, asked, slack));
        let wait =
            backoff::spread(drawn.max(asked), slot.submissions.within_a_day(now), self.limits.submissions_per_day);
        // A parked one has had its turn.
        if !slot.is_parked() {
            slot.hold = Hold::Backoff { until: now.plus(wait) };
        }
    }

    pub(super) fn park(&mut self, id: &SlotId, why: Park, text: &str, now: Timestamp) {
        let next = self.canary(id, now);
        // What is gone is not asked for again, parked or not.
        let Some(slot) = self.slots.get_mut(id).filter(|slot| !slot.standing.is_gone()) else { return };
        slot.forced = false;
        match &mut slot.hold {
            // What only an operator lifts is not turned into what a good answer lifts.
            Hold::Parked { why: Park::Governor, canary, .. } => *canary = (*canary).max(next),
            hold => {
                let since = match hold {
                    Hold::Parked { since, .. } => *since,
                    _ => now,
                };
                *hold = Hold::Parked { why, text: text.to_owned(), since, canary: next };
            }
        }
        self.dirty.insert(id.clone());
        if !std::mem::replace(&mut slot.alarmed, true) {
            self.tell(Reach::Slot(id.clone()), true, format!("parked: {text}"));
        }
    }

    /// The CA took the order well: if it was asked just now, its endpoint is in health.
    fn favourable(&mut self, id: &SlotId, asked: bool, now: Timestamp) {
        let at = self.slots.get(id).and_then(|s| s.occupies.clone()).filter(|_| asked);
        self.vacate(id);
        let limits = self.limits.clone();
        if let Some(endpoint_id) = at
            && let Some(endpoint) = self.endpoints.get_mut(&endpoint_id)
        {
            self.dirty_endpoints.insert(endpoint_id.clone());
            let was_out = endpoint.answered(true, &limits, now);
            self.others_are_answered(&endpoint_id, id, was_out, now);
            if was_out {
                self.tell(Reach::Endpoint(endpoint_id), false, "the service answers again: a ramp begins".to_owned());
            }
        }
        self.step_done(id, now);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.turned_away = 0;
        }
    }

    /// This machine's own trouble: everything pauses, briefly.
    fn trouble_here(&mut self, failure: &Failure, now: Timestamp) {
        let times = self.local.as_ref().map_or(1, |(_, times, _)| times.saturating_add(1));
        let seconds = 1_u64.checked_shl(times.min(16)).unwrap_or(u64::MAX);
        let until = now.plus(Duration::from_secs(seconds).min(LOCAL_CAP));
        if times == 1 {
            self.tell(Reach::All, true, format!("trouble of this machine: {}", failure.text));
        }
        self.local = Some((until, times, failure.text.clone()));
    }

    fn step_done(&mut self, id: &SlotId, _now: Timestamp) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.asked = None;
            slot.again = None;
        }
        self.dirty.insert(id.clone());
    }

    /// When a parked slot that is asked for now is asked for again: more than a day later, also by a clock finer than ours.
    pub(super) fn canary(&self, id: &SlotId, now: Timestamp) -> Timestamp {
        now.plus(DAY + Duration::from_secs(1 + self.jitter("canary", id, now).up_to(3_600)))
    }

    /// The seed of one draw: it differs by slot, by failure and by moment, and can be drawn again in a replay.
    pub(super) fn jitter(&self, purpose: &str, id: &SlotId, now: Timestamp) -> Mix {
        let failures = self.slots.get(id).map_or(0, |s| s.failures);
        self.node.mix(purpose).slot(id).number(u64::from(failures)).number(now.unix().unsigned_abs())
    }

    /// Why the slot's next request would be made.
    pub(in super::super) fn cause(&self, id: &SlotId, now: Timestamp) -> Cause {
        let Some(slot) = self.slots.get(id) else { return Cause::Scheduled };
        let probing = slot
            .terms
            .as_ref()
            .and_then(|t| self.endpoints.get(&t.endpoint))
            .is_some_and(|endpoint| endpoint.is_open(&self.limits));
        if slot.is_parked() || probing {
            Cause::Canary
        } else if slot.phase.order().is_some_and(|o| o.attempts > 0) {
            Cause::Retry
        } else if slot.forced {
            Cause::Operator
        } else if slot.known == Known::Absent && !slot.in_service {
            Cause::NewIssuer
        } else if slot.urgent_from().is_some_and(|urgent| urgent <= now) {
            Cause::Urgent
        } else {
            Cause::Scheduled
        }
    }

    pub(super) fn is_active(&self, id: &SlotId) -> bool {
        self.slots.get(id).is_some_and(|s| s.standing == Standing::Active)
    }
}
