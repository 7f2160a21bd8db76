//! How many times something happened within a day.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR: i64 = 3_600;
/// The hours that may hold something younger than a day: the present one and 24 before it.
const HOURS: i64 = 25;

/// A count over the last day, kept by hours: at most 25 numbers. What lies in an hour that began more than a day ago but
/// has not ended as long ago still counts, so it errs on the side of more, by less than an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCount(Vec<(i64, u32)>);

impl DayCount {
    /// How many within the last day.
    pub fn within_a_day(&self, now: Timestamp) -> u32 {
        let hour = now.unix().div_euclid(HOUR);
        // An hour yet to come is a clock that went back: it counts.
        self.0.iter().filter(|(h, _)| *h > hour - HOURS).fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// The first moment at which fewer than `limit` lie within a day; `None`: now.
    pub fn below(&self, limit: u32, now: Timestamp) -> Option<Timestamp> {
        let mut over = i64::from(self.within_a_day(now)) - i64::from(limit) + 1;
        if over <= 0 {
            return None;
        }
        let hour = now.unix().div_euclid(HOUR);
        for (h, n) in self.0.iter().filter(|(h, _)| *h > hour - HOURS) {
            over -= i64::from(*n);
            if over <= 0 {
                return Some(Timestamp::from_unix((h.min(&hour) + HOURS) * HOUR));
            }
        }
        Some(now.plus(Duration::from_secs(HOURS.unsigned_abs() * HOUR.unsigned_abs())))
    }

    pub(super) fn add(&mut self, now: Timestamp) {
        let hour = now.unix().div_euclid(HOUR);
        self.not_ahead(now);
        self.0.retain(|(h, _)| *h > hour - HOURS);
        match self.0.last_mut().filter(|(h, _)| *h == hour) {
            Some((_, n)) => *n = n.saturating_add(1),
            None => self.0.push((hour, 1)),
        }
    }

    /// Hours yet to come are taken for the present one, or a clock that once ran ahead would block until that time.
    pub(super) fn not_ahead(&mut self, now: Timestamp) {
        let hour = now.unix().div_euclid(HOUR);
        let ahead = self.0.iter().filter(|(h, _)| *h > hour).fold(0_u32, |sum, (_, n)| sum.saturating_add(*n));
        if ahead == 0 {
            return;
        }
        self.0.retain(|(h, _)| *h <= hour);
        match self.0.last_mut().filter(|(h, _)| *h == hour) {
            Some((_, n)) => *n = n.saturating_add(ahead),
            None => self.0.push((hour, ahead)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_count_is_never_less_than_the_truth_and_at_most_an_hour_more(steps in proptest::collection::vec(0_i64..20_000, 1..200)) {
            let (mut count, mut times, mut now) = (DayCount::default(), Vec::new(), 0);
            for step in steps {
                now += step;
                times.push(now);
                count.add(Timestamp::from_unix(now));
                let within = |seconds: i64| times.iter().filter(|t| now - **t < seconds).count() as u32;
                let counted = count.within_a_day(Timestamp::from_unix(now));
                prop_assert!(within(86_400) <= counted && counted <= within(90_000));
                prop_assert!(count.0.len() <= 25);
                for limit in [1, 3, counted] {
                    if let Some(at) = count.below(limit, Timestamp::from_unix(now)) {
                        prop_assert!(at.unix() > now);
                        prop_assert!(count.within_a_day(at) < limit);
                        prop_assert!(count.within_a_day(Timestamp::from_unix(at.unix() - 1)) >= limit);
                    } else {
                        prop_assert!(counted < limit);
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_that_went_back_neither_forgets_nor_blocks_for_ever() {
        let (mut count, late, early) =
            (DayCount::default(), Timestamp::from_unix(1 << 40), Timestamp::from_unix(1 << 20));
        (0..3).for_each(|_| count.add(late));
        assert_eq!(count.within_a_day(early), 3);
        count.add(early);
        assert_eq!(count.within_a_day(early), 4);
        assert_eq!(count.within_a_day(early.plus(Duration::from_secs(90_001))), 0);
    }

    #[test]
    fn what_was_counted_in_the_future_is_over_a_day_after_the_clock_was_set_right() {
        let (mut count, late, early) =
            (DayCount::default(), Timestamp::from_unix(1 << 40), Timestamp::from_unix(1 << 20));
        count.add(early);
        (0..3).for_each(|_| count.add(late));
        count.not_ahead(early);
        assert_eq!(count.within_a_day(early), 3);
        assert_eq!(count.below(3, early.plus(Duration::from_secs(90_001))), None);
    }
}
