//! One CA service as the core sees it: its rate, its places, its breaker, its budget, and who waits for it.

use super::backoff::{backoff, believed, spread};
use super::count::DayCount;
use super::event::{Cause, EndpointSpec};
use super::failure::Kind;
use super::gate::Gate;
use super::id::{Mix, SlotId};
use super::limits::{DAY, Limits};
use super::pace::Pace;
use super::rank::Rank;
use super::record::EndpointRecord;
use crate::ocsp::Serial;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The in-flight limit is counted in thousandths, so that it can grow slowly.
const WHOLE: u32 = 1_000;
/// The first wait of a service that does not accept us.
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub spec: EndpointSpec,
    pub pace: Pace,
    /// Who takes a place, and since when.
    pub occupied: BTreeMap<SlotId, Timestamp>,
    pub queue: BTreeSet<Rank>,
    pub attempts: DayCount,
    /// Endpoint-scope failures in a row.
    pub failures: u32,
    /// Nothing before this, and why.
    hold: Option<(Timestamp, String)>,
    /// It does not accept us: nothing before this, and why.
    credential_hold: Option<(Timestamp, String)>,
    /// By this certificate of ours, and when it was refused last.
    refused_as: Option<Serial>,
    refused_at: Option<Timestamp>,
    /// Slots for which it did not accept us since the last answer to any; one puts it in doubt, two hold it.
    denied: BTreeSet<SlotId>,
    /// The in-flight limit in thousandths.
    limit: u32,
    halved: Option<Timestamp>,
    /// Slots whose requests went unanswered since the last answer to any.
    silent: BTreeSet<SlotId>,
    /// Slots for which the service failed as a whole since the last answer to any.
    turned_away: BTreeSet<SlotId>,
    /// Requests since the start, by cause.
    pub requests: BTreeMap<Cause, u64>,
}

impl Endpoint {
    pub(super) fn new(spec: EndpointSpec, limits: &Limits, now: Timestamp) -> Self {
        let mut pace = Pace::new(spec.rate, limits.ramp);
        pace.restart(now);
        let limit = spec.max_in_flight.max(1).saturating_mul(WHOLE);
        Endpoint {
            spec,
            pace,
            occupied: BTreeMap::new(),
            queue: BTreeSet::new(),
            attempts: DayCount::default(),
            failures: 0,
            hold: None,
            credential_hold: None,
            refused_as: None,
            refused_at: None,
            denied: BTreeSet::new(),
            limit,
            halved: None,
            silent: BTreeSet::new(),
            turned_away: BTreeSet::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Takes on new settings; what is known of the service stays.
    pub(super) fn reconfigure(&mut self, spec: EndpointSpec, now: Timestamp) {
        self.pace.set_rate(spec.rate);
        self.pace.restart(now);
        self.spec = spec;
        self.limit = self.limit.min(self.most());
    }

    /// What was written by a clock that has been set back since counts from `now`.
    pub(super) fn restore(&mut self, record: EndpointRecord, limits: &Limits, now: Timestamp) {
        self.attempts = record.attempts;
        self.attempts.not_ahead(now);
        self.pace.not_before(record.not_before);
        self.failures = record.failures;
        (self.hold, self.credential_hold) = (record.hold, record.refused);
        (self.refused_as, self.refused_at) = (record.refused_as, record.refused_at);
        self.denied = record.denied;
        if record.places > 0 {
            self.limit = record.places.clamp(WHOLE, self.most());
        }
        self.pace.clock_went_back(now);
        self.cut_holds(limits, now);
    }

    pub(super) fn record(&self) -> EndpointRecord {
        EndpointRecord {
            endpoint: self.spec.id.clone(),
            attempts: self.attempts.clone(),
            not_before: self.pace.carried(),
            failures: self.failures,
            hold: self.hold.clone(),
            refused: self.credential_hold.clone(),
            refused_as: self.refused_as,
            refused_at: self.refused_at,
            denied: self.denied.clone(),
            places: self.limit,
        }
    }

    /// What of the service itself stands in the way of a request now.
    pub(super) fn gate(&self, request: &Wish, limits: &Limits, now: Timestamp) -> Result<(), Gate> {
        let busy = !self.occupied.is_empty();
        if !request.credential {
            if let Some((until, text)) = self.credential_hold.as_ref().filter(|(until, _)| *until > now) {
                return Err(Gate::CredentialRefused { until: *until, text: text.clone() });
            }
            if busy && !(self.denied.is_empty() && self.credential_hold.is_none()) {
                return Err(Gate::Probing);
            }
        }
        if let Some((until, text)) = self.hold.as_ref().filter(|(until, _)| *until > now) {
            return Err(Gate::Held { until: *until, open: self.is_open(limits), text: text.clone() });
        }
        if self.failures > 0 && busy {
            return Err(Gate::Probing);
        }
        let kept = if request.credential { 0 } else { self.kept_for_credential(limits) };
        if let Some(until) = self.attempts.below(self.spec.attempts_per_day - kept, now) {
            return Err(Gate::Budget { until, limit: self.spec.attempts_per_day, kept });
        }
        let (places, taken) = (self.places(request.urgent), self.taken());
        if taken >= places {
            return Err(Gate::Full { taken, places, urgent_from: request.urgent_from.filter(|t| *t > now) });
        }
        match self.pace.ready_at(now) {
            Some(until) => Err(Gate::Rate { until, share: self.pace.share(now) }),
            None => Ok(()),
        }
    }

    /// The part of the day's budget that only our own credential may use: without it nothing else is of use.
    fn kept_for_credential(&self, limits: &Limits) -> u32 {
        if self.spec.credential.as_ref().is_none_or(|own| own.profile.is_none()) {
            return 0;
        }
        let budget = self.spec.attempts_per_day;
        (budget / 10).clamp(1, limits.submissions_per_day.max(1)).min(budget / 2)
    }

    /// Places for such a request; the last of several is kept for what is urgent.
    fn places(&self, urgent: bool) -> u32 {
        let places = (self.limit / WHOLE).max(1);
        if urgent || places == 1 { places } else { places - 1 }
    }

    /// The place for what is urgent is all that is left.
    pub(super) fn keeps_a_place_free(&self) -> bool {
        self.taken() < self.places(true)
    }

    pub(super) fn taken(&self) -> u32 {
        u32::try_from(self.occupied.len()).unwrap_or(u32::MAX)
    }

    /// The in-flight limit of the moment.
    pub(super) fn in_flight_limit(&self) -> u32 {
        (self.limit / WHOLE).max(1)
    }

    pub(super) fn is_open(&self, limits: &Limits) -> bool {
        self.failures >= limits.breaker_failures
    }

    /// A request leaves.
    pub(super) fn sent(&mut self, cause: Cause, now: Timestamp) {
        self.pace.take(now);
        self.attempts.add(now);
        let count = self.requests.entry(cause).or_default();
        *count = count.saturating_add(1);
    }

    /// The service has answered, whatever it said to this one request. `true`: it had been given up.
    pub(super) fn answered(&mut self, favourably: bool, limits: &Limits, now: Timestamp) -> bool {
        let was_out = self.is_open(limits) || self.credential_hold.is_some();
        self.failures = 0;
        self.hold = None;
        self.credential_hold = None;
        self.denied.clear();
        self.silent.clear();
        if favourably {
            // One more place per round of answers: additive growth.
            self.limit = self.limit.saturating_add(WHOLE * WHOLE / self.limit.max(WHOLE)).min(self.most());
        }
        if was_out {
            self.pace.restart(now);
        }
        was_out
    }

    /// No answer to the request of this slot. `true`: that is the service's trouble, since it is in doubt already, or so many
    /// slots have met with silence without one answer between.
    pub(super) fn unanswered(&mut self, slot: &SlotId, limits: &Limits) -> bool {
        self.silent.insert(slot.clone());
        self.failures > 0 || self.silent.len() >= limits.breaker_failures as usize
    }

    /// It failed as a whole when it was asked for this slot. `false`: it has answered others while it failed for this one,
    /// time and again, so that says nothing new of it.
    pub(super) fn turned_away(&mut self, slot: &SlotId, times: u32, limits: &Limits) -> bool {
        if self.failures == 0 && times >= limits.breaker_failures {
            return false;
        }
        self.turned_away.insert(slot.clone());
        true
    }

    /// Who is to be asked for next. While the service is in doubt, first one for whom it has not failed since its last answer:
    /// if it answers that one, the trouble was not the service's.
    pub(super) fn next(&self, leaves_out: impl Fn(&SlotId) -> bool) -> Option<&SlotId> {
        let mut wanting = self.queue.iter().map(|rank| &rank.slot).filter(|slot| !leaves_out(slot));
        let failed =
            |slot: &SlotId| self.turned_away.contains(slot) || self.silent.contains(slot) || self.denied.contains(slot);
        let other = if self.failures > 0 || !self.denied.is_empty() {
            wanting.clone().find(|slot| !failed(slot))
        } else {
            None
        };
        other.or_else(|| wanting.next())
    }

    /// Those for which it failed while it had answers for others; called when it has answered.
    pub(super) fn take_turned_away(&mut self) -> BTreeSet<SlotId> {
        std::mem::take(&mut self.turned_away)
    }

    /// The service itself failed a request that was sent at `sent`. `true`: the breaker opens.
    pub(super) fn failed(
        &mut self,
        failure: &Trouble<'_>,
        sent: Option<Timestamp>,
        limits: &Limits,
        now: Timestamp,
    ) -> bool {
        let was_open = self.is_open(limits);
        self.failures = self.failures.saturating_add(1);
        // Requests that left before the last halving say nothing new.
        if self.halved.is_none_or(|halved| sent.is_none_or(|sent| sent > halved)) {
            self.limit = (self.limit / 2).max(WHOLE);
            self.halved = Some(now);
        }
        let drawn = backoff(limits, limits.breaker_cap, self.failures, failure.slack, failure.seed);
        let asked = failure.retry_after.map_or(Duration::ZERO, |d| believed(limits, d, failure.slack));
        let until = now.plus(spread(drawn.max(asked), self.attempts.within_a_day(now), self.spec.attempts_per_day));
        let later = self.hold.as_ref().is_none_or(|(held, _)| *held < until);
        if later {
            self.hold = Some((until, failure.text.to_owned()));
        }
        !was_open && self.is_open(limits)
    }

    /// It did not accept us when it was asked for this slot. A label that has not been told of us says so as a service does that
    /// takes us for nobody: which of them it is, another slot shows.
    pub(super) fn denied(
        &mut self,
        slot: &SlotId,
        again: bool,
        failure: &Trouble<'_>,
        own: Option<Serial>,
        (limits, now): (&Limits, Timestamp),
    ) -> Denial {
        // What we have found out here, before anybody was asked, needs no second opinion.
        let is_ours = failure.kind != Kind::Permanent;
        if again && !is_ours && self.denied.is_empty() && self.credential_hold.is_none() {
            return Denial::OfSlot;
        }
        self.denied.insert(slot.clone());
        (self.refused_as, self.refused_at) = (own, Some(now));
        let wait = match (is_ours, self.denied.len()) {
            (true, _) => backoff(limits, limits.breaker_cap, limits.breaker_failures, failure.slack, failure.seed),
            (false, 0 | 1) => return if again { Denial::OfSlot } else { Denial::InDoubt },
            // An hour, then two, then four: each time another slot finds out whether it was those before.
            (false, slots) => HOUR * (1 << slots.saturating_sub(2).min(2)),
        };
        self.credential_hold = Some((now.plus(wait), failure.text.to_owned()));
        // Who is told so again has nothing to find out any more.
        if again && !is_ours { Denial::OfSlot } else { Denial::OfService }
    }

    /// Another credential is in place, or an operator lifts what holds the service.
    pub(super) fn pardon(&mut self, now: Timestamp) {
        self.failures = 0;
        self.hold = None;
        self.credential_hold = None;
        self.denied.clear();
        self.silent.clear();
        self.turned_away.clear();
        self.attempts.clear();
        self.pace.restart(now);
    }

    /// It is this certificate of ours that was refused last, if any was.
    pub(super) fn was_refused_as(&self, own: Option<Serial>) -> bool {
        self.refused_as == own
    }

    /// When it last did not accept us.
    pub(super) fn refused_at(&self) -> Option<Timestamp> {
        self.refused_at
    }

    /// Our credential there is another one. `true`: that lifts a hold, or a doubt.
    pub(super) fn credential_changed(&mut self, now: Timestamp) -> bool {
        let held = self.credential_hold.take().is_some();
        let doubted = !std::mem::take(&mut self.denied).is_empty();
        if held || doubted {
            self.pace.restart(now);
        }
        held || doubted
    }

    pub(super) fn clock_went_back(&mut self, limits: &Limits, now: Timestamp) {
        self.pace.clock_went_back(now);
        self.pace.restart(now);
        self.attempts.not_ahead(now);
        self.cut_holds(limits, now);
        self.halved = self.halved.map(|t| t.min(now));
        self.occupied.values_mut().for_each(|since| *since = (*since).min(now));
    }

    /// To the longest there are.
    fn cut_holds(&mut self, limits: &Limits, now: Timestamp) {
        let clamp = |hold: &mut Option<(Timestamp, String)>, longest: Duration| {
            if let Some((until, _)) = hold {
                *until = (*until).min(now.plus(longest));
            }
        };
        clamp(&mut self.hold, limits.breaker_cap.max(limits.backoff_base).max(DAY));
        clamp(&mut self.credential_hold, DAY);
        self.refused_at = self.refused_at.map(|t| t.min(now));
    }

    fn most(&self) -> u32 {
        self.spec.max_in_flight.max(1).saturating_mul(WHOLE)
    }
}

/// Whose trouble it is that the service did not accept us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// This slot's: it has accepted us for others since, or nobody else is there to be asked for.
    OfSlot,
    /// Not known yet: others are asked for first.
    InDoubt,
    /// The service's, or our credential's: nothing is asked for.
    OfService,
}

/// What a slot wants of an endpoint.
pub(super) struct Wish {
    pub credential: bool,
    pub urgent: bool,
    /// When it will be urgent.
    pub urgent_from: Option<Timestamp>,
}

/// A failure as an endpoint sees it.
pub(super) struct Trouble<'a> {
    pub kind: Kind,
    pub retry_after: Option<Duration>,
    pub text: &'a str,
    /// The least slack of those that wait: the breaker must not outlive it.
    pub slack: Duration,
    pub seed: Mix,
}
