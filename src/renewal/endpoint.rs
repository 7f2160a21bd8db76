//! One CA service as the core sees it: its rate, its places, its breaker, its budget, and who waits for it.

use super::backoff::{backoff, believed, spread};
use super::count::DayCount;
use super::event::{Cause, EndpointSpec};
use super::failure::Kind;
use super::gate::Gate;
use super::id::{Mix, SlotId};
use super::limits::{DAY, Limits};
use super::pace::Pace;
use super::record::EndpointRecord;
use super::slot::Rank;
use crate::ocsp::Serial;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The in-flight limit is counted in thousandths, so that it can grow slowly.
const WHOLE: u32 = 1_000;

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
    /// By this certificate of ours.
    refused_as: Option<Serial>,
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
        (self.hold, self.credential_hold, self.refused_as) = (record.hold, record.refused, record.refused_as);
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
            places: self.limit,
        }
    }

    /// What of the service itself stands in the way of a request now.
    pub(super) fn gate(&self, request: &Wish, limits: &Limits, now: Timestamp) -> Result<(), Gate> {
        let busy = !self.occupied.is_empty();
        if let (false, Some((until, text))) = (request.credential, &self.credential_hold) {
            if *until > now {
                return Err(Gate::CredentialRefused { until: *until, text: text.clone() });
            }
            if busy {
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
        let failed = |slot: &SlotId| self.turned_away.contains(slot) || self.silent.contains(slot);
        let other = if self.failures > 0 { wanting.clone().find(|slot| !failed(slot)) } else { None };
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

    /// The service does not accept us.
    pub(super) fn refused_us(&mut self, failure: &Trouble<'_>, own: Option<Serial>, limits: &Limits, now: Timestamp) {
        let wait = match failure.kind {
            // One request a day finds out whether it still does.
            Kind::Permanent => DAY,
            _ => backoff(limits, limits.breaker_cap, limits.breaker_failures, failure.slack, failure.seed),
        };
        self.credential_hold = Some((now.plus(wait), failure.text.to_owned()));
        self.refused_as = own;
    }

    /// Another credential is in place, or an operator lifts what holds the service.
    pub(super) fn pardon(&mut self, now: Timestamp) {
        self.failures = 0;
        self.hold = None;
        self.credential_hold = None;
        self.silent.clear();
        self.turned_away.clear();
        self.attempts.clear();
        self.pace.restart(now);
    }

    /// This is our certificate there now, and was not before, or it is not known what was. `true`: that lifts a hold.
    pub(super) fn credential_is(&mut self, own: Option<Serial>, is_first_word: bool, now: Timestamp) -> bool {
        let is_same = is_first_word && self.refused_as == own;
        if is_same || self.credential_hold.take().is_none() {
            return false;
        }
        self.pace.restart(now);
        true
    }

    /// Our password or shared key was last changed then. `true`: after it was refused, which lifts the hold.
    pub(super) fn secret_is_of(&mut self, changed: Timestamp, now: Timestamp) -> bool {
        let refused = self.credential_hold.as_ref().map(|(until, _)| until.minus(DAY));
        refused.is_some_and(|refused| changed >= refused) && self.credential_is(None, false, now)
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
    }

    fn most(&self) -> u32 {
        self.spec.max_in_flight.max(1).saturating_mul(WHOLE)
    }
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
