//! One bounded rate, which begins slowly after every discontinuity.

use crate::config::Rate;
use crate::time::Timestamp;
use std::time::Duration;

const SECOND: i64 = 1_000_000;
/// Before all time, with room to reckon from.
const LONG_AGO: i64 = -(1 << 62);
/// After a discontinuity the rate is this part of the whole.
const FLOOR: f64 = 0.1;

/// Evenly spaced departures: nothing is saved up while nobody asks, so nothing bursts. Rates up to one a second are spaced
/// exactly; of faster ones, those of a second may leave together, since time is counted in seconds.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Microseconds between two departures at the whole rate.
    interval: i64,
    /// Microseconds since the epoch: no departure before.
    next: i64,
    ramp: Duration,
    ramp_from: Option<Timestamp>,
}

impl Pace {
    pub(super) fn new(rate: Rate, ramp: Duration) -> Self {
        Pace { interval: interval(rate), next: LONG_AGO, ramp, ramp_from: None }
    }

    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.interval = interval(rate);
    }

    /// The rate begins again at its floor.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.ramp_from = Some(now);
    }

    /// `None`: something may leave now; otherwise the first second in which something may.
    pub(super) fn ready_at(&self, now: Timestamp) -> Option<Timestamp> {
        let first = if self.interval < SECOND { self.next.div_euclid(SECOND) } else { ceiling(self.next) };
        let first = Timestamp::from_unix(first);
        (first > now).then_some(first)
    }

    /// Something leaves now.
    pub(super) fn take(&mut self, now: Timestamp) {
        let micros = now.unix().saturating_mul(SECOND);
        let stretched = (self.interval as f64 / self.share(now)) as i64;
        let longest = self.interval.saturating_add(micros_of(self.ramp));
        // Less than a second late is the fault of counting in seconds: it does not slow the rate.
        let from = if self.next > micros.saturating_sub(SECOND) { self.next } else { micros };
        self.next = from.saturating_add(stretched.min(longest).max(self.interval));
    }

    /// Nothing leaves before this: how a pace is carried over a restart.
    pub(super) fn not_before(&mut self, at: Timestamp) {
        self.next = self.next.max(at.unix().saturating_mul(SECOND));
    }

    /// The clock went back to `now`: what was reckoned from a later time is reckoned from this one.
    pub(super) fn clock_went_back(&mut self, now: Timestamp) {
        let longest = self.interval.saturating_add(micros_of(self.ramp));
        self.next = self.next.min(now.unix().saturating_mul(SECOND).saturating_add(longest));
    }

    /// Where [`Pace::not_before`] of the next process is to begin.
    pub(super) fn carried(&self) -> Timestamp {
        Timestamp::from_unix(ceiling(self.next))
    }

    /// The part of the whole rate that is granted now.
    pub(super) fn share(&self, now: Timestamp) -> f64 {
        match self.ramp_from {
            Some(from) if self.ramp > Duration::ZERO => {
                (now.since(from).as_secs_f64() / self.ramp.as_secs_f64()).clamp(FLOOR, 1.0)
            }
            _ => 1.0,
        }
    }
}

fn interval(rate: Rate) -> i64 {
    (micros_of(rate.per) / i64::from(rate.count.max(1))).max(1)
}

/// Whole seconds, rounded up.
fn ceiling(micros: i64) -> i64 {
    micros.saturating_add(SECOND - 1).div_euclid(SECOND)
}

fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u32, per: u64) -> Rate {
        Rate { count, per: Duration::from_secs(per) }
    }

    /// Everything that leaves in `seconds` when as much as possible wants to.
    fn departures(pace: &mut Pace, from: i64, seconds: i64) -> Vec<i64> {
        let mut times = Vec::new();
        for t in from..from + seconds {
            while pace.ready_at(Timestamp::from_unix(t)).is_none() {
                pace.take(Timestamp::from_unix(t));
                times.push(t);
            }
        }
        times
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut pace = Pace::new(rate(30, 60), Duration::ZERO);
        departures(&mut pace, 0, 1);
        assert_eq!(departures(&mut pace, 10_000, 60).len(), 30);
    }

    #[test]
    fn after_a_restart_the_rate_begins_at_a_tenth_and_reaches_the_whole() {
        let mut pace = Pace::new(rate(60, 60), Duration::from_secs(1_000));
        pace.restart(Timestamp::from_unix(0));
        let times = departures(&mut pace, 0, 2_000);
        let within = |from, to| times.iter().filter(|t| (from..to).contains(*t)).count();
        assert!(within(0, 100) <= 11, "{}", within(0, 100));
        assert!((450..600).contains(&within(0, 1_000)), "{}", within(0, 1_000));
        assert_eq!(within(1_000, 2_000), 1_000);
    }

    #[test]
    fn a_slow_rate_is_not_stretched_beyond_the_ramp() {
        let mut pace = Pace::new(rate(1, 3_600), Duration::from_secs(900));
        pace.restart(Timestamp::from_unix(0));
        pace.take(Timestamp::from_unix(0));
        assert_eq!(pace.ready_at(Timestamp::from_unix(1)), Some(Timestamp::from_unix(4_500)));
        assert_eq!(pace.carried(), Timestamp::from_unix(4_500));
    }

    proptest! {
        #[test]
        fn the_rate_holds_in_every_interval(count in 1_u32..20, per in 1_u64..100, restarts in proptest::collection::vec(0_i64..200, 0..4)) {
            let mut pace = Pace::new(rate(count, per), Duration::from_secs(50));
            let mut times = Vec::new();
            let mut from = 0;
            for at in restarts.into_iter().chain([200]) {
                times.extend(departures(&mut pace, from, (at - from).max(0)));
                from = from.max(at);
                pace.restart(Timestamp::from_unix(at));
            }
            for (i, from) in times.iter().enumerate() {
                for (n, to) in (1_u64..).zip(times.iter().skip(i)) {
                    let seconds = u64::try_from(to - from).unwrap() + 1;
                    let granted = (u64::from(count) * seconds).div_ceil(per) + 1;
                    prop_assert!(n <= granted, "{n} in {seconds} s");
                }
            }
        }
    }
}
