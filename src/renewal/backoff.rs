//! How long to wait after a failure, and how far a time named by the other side is believed.

use super::id::Mix;
use super::limits::{DAY, Limits};
use std::time::Duration;

/// Past the deadline no cap is less than so many times the base: there is nothing left to be in time for, and a service whose
/// servers rest after failures, for everybody, never gets up again while it is asked at every minute of its rest.
const OVERDUE: u32 = 15;

/// Waiting with full jitter: uniform between zero and `base · 2^(failures − 1)`, no more than the cap. The cap shrinks
/// with the slack, to an eighth of it: however often a slot has failed, it is asked several times more before its deadline;
/// and after it, within a quarter of an hour where the base is a minute.
pub(super) fn backoff(limits: &Limits, cap: Duration, failures: u32, slack: Duration, seed: Mix) -> Duration {
    let doubled = doubled(limits.backoff_base, failures);
    let cap = cap.min((slack / 8).max(least(limits, slack))).max(limits.backoff_base);
    let millis = u64::try_from(doubled.min(cap).as_millis()).unwrap_or(u64::MAX);
    // Never nothing at all: the scheduler counts in seconds.
    Duration::from_millis(seed.up_to(millis)).max(Duration::from_secs(1))
}

/// A wait that keeps a day's budget: once a quarter of it is spent, the wait is no shorter than what spends half of it in a
/// day. So trouble that lasts for days never uses the budget up, however close the deadline, and there is something left for
/// the hour in which it ends.
pub(super) fn spread(drawn: Duration, spent: u32, budget: u32) -> Duration {
    if spent < budget.div_ceil(4) {
        return drawn;
    }
    let least = DAY * 2 / budget.max(2);
    // Jitter on top, or all that wait would do so in step.
    drawn.max(least + drawn.min(least / 8))
}

/// A Retry-After, as far as it is believed: no more than a quarter of the slack, so that a bad value cannot outlive the
/// signer, and no more than a day. Past the deadline there is nothing left that it could outlive, and it is believed as far
/// as polls become rare by themselves: one slot that is late, or a new issuer that waits for its CA's approval, must not
/// have an overloaded service asked all the time.
pub(super) fn believed(limits: &Limits, asked: Duration, slack: Duration) -> Duration {
    let least = if slack.is_zero() { limits.poll_cap.max(limits.backoff_base) } else { limits.backoff_base };
    asked.min((slack / 4).max(least)).min(DAY)
}

/// The wait before a poll of an order the CA has accepted: what it said, as a minimum; it grows as polls go unanswered.
pub(super) fn poll(limits: &Limits, asked: Option<Duration>, polls: u32, slack: Duration, seed: Mix) -> Duration {
    let named = believed(limits, asked.unwrap_or(limits.backoff_base), slack);
    let cap = limits.poll_cap.min((slack / 8).max(least(limits, slack))).max(limits.backoff_base);
    let grown = doubled(limits.backoff_base, polls).min(cap);
    // A tenth of jitter on top, so that what was ordered together is not polled together.
    let wait = named.max(grown);
    let tenth = u64::try_from((wait / 10).as_millis()).unwrap_or(0);
    (wait + Duration::from_millis(seed.up_to(tenth))).max(Duration::from_secs(1))
}

/// What no cap is less than.
fn least(limits: &Limits, slack: Duration) -> Duration {
    limits.backoff_base * if slack.is_zero() { OVERDUE } else { 1 }
}

fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(1_u32.checked_shl(times.saturating_sub(1).min(30)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renewal::DayCount;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(1 << 30);

    #[test]
    fn jitter_is_full_and_grows_with_the_failures() {
        let limits = Limits::default();
        let mean = |failures| {
            let all = (0..1_000).map(|n| backoff(&limits, limits.backoff_cap, failures, LONG, Mix::new(n)));
            all.sum::<Duration>().as_secs_f64() / 1_000.0
        };
        for (failures, expected) in [(1, 30.0), (2, 60.0), (5, 480.0), (9, 7_680.0), (10, 10_800.0), (99, 10_800.0)] {
            let mean = mean(failures);
            assert!((0.9..1.1).contains(&(mean / expected)), "{failures}: {mean} instead of {expected}");
        }
    }

    #[test]
    fn past_the_deadline_a_long_silence_is_asked_about_every_few_minutes() {
        let limits = Limits::default();
        let all = |failures, slack| {
            let wait = |n| backoff(&limits, limits.breaker_cap, failures, slack, Mix::new(n));
            (0..1_000).map(wait).max().unwrap_or_default()
        };
        assert!(all(1, Duration::ZERO) <= 60 * SECOND, "the first time as always");
        assert!((800..=900).contains(&all(50, Duration::ZERO).as_secs()), "{:?}", all(50, Duration::ZERO));
        assert!(
            all(50, 60 * SECOND) <= 60 * SECOND,
            "a minute before the deadline there is still something to be in time for"
        );
    }

    #[test]
    fn a_retry_after_is_a_minimum_and_cannot_outlive_the_signer() {
        let limits = Limits::default();
        let hour = 3_600 * SECOND;
        assert_eq!(believed(&limits, hour, LONG), hour);
        assert_eq!(believed(&limits, 1_000 * hour, 8 * hour), 2 * hour);
        assert_eq!(believed(&limits, Duration::MAX, LONG), DAY);
        assert_eq!(
            believed(&limits, hour, 60 * SECOND),
            limits.backoff_base,
            "there is still something to be in time for"
        );
        // It was a minute once, and a CA that was busy, or that took its time over a new issuer, was asked at every one.
        assert_eq!(believed(&limits, hour, Duration::ZERO), hour);
        assert_eq!(believed(&limits, 9 * hour, Duration::ZERO), limits.poll_cap);
    }

    #[test]
    fn polls_become_rarer_but_not_rarer_than_their_cap() {
        let limits = Limits::default();
        let wait = |polls| poll(&limits, Some(SECOND), polls, LONG, Mix::new(1));
        assert!(wait(1) >= limits.backoff_base && wait(1) < 2 * limits.backoff_base);
        assert!(wait(50) >= limits.poll_cap && wait(50) <= limits.poll_cap * 11 / 10);
        assert!(poll(&limits, Some(7_200 * SECOND), 1, LONG, Mix::new(1)) >= 7_200 * SECOND);
        let overdue = poll(&limits, None, 50, Duration::ZERO, Mix::new(1));
        assert!((900..=990).contains(&overdue.as_secs()), "{overdue:?}");
    }

    proptest! {
        #[test]
        fn trouble_that_lasts_never_uses_a_days_budget_up(budget in 8_u32..5_000, draws in proptest::collection::vec(1_u64..61, 500)) {
            let (mut now, mut spent) = (Timestamp::from_unix(1_800_000_000), DayCount::default());
            for drawn in draws {
                prop_assert!(spent.within_a_day(now) < budget, "nothing is left of {budget}");
                spent.add(now);
                let wait = spread(Duration::from_secs(drawn), spent.within_a_day(now), budget);
                prop_assert!(wait >= Duration::from_secs(drawn));
                now = now.plus(wait);
            }
        }

        #[test]
        fn however_often_it_failed_a_slot_with_slack_is_asked_again_in_time(
            failures: u32, slack in 600_u64..100_000_000, seed: u64, asked: u64,
        ) {
            let (limits, slack) = (Limits::default(), Duration::from_secs(slack));
            let wait = backoff(&limits, limits.backoff_cap, failures, slack, Mix::new(seed));
            prop_assert!(wait >= SECOND && wait <= (slack / 8).max(limits.backoff_base));
            let asked = Some(Duration::from_secs(asked));
            prop_assert!(poll(&limits, asked, failures, slack, Mix::new(seed)) <= slack / 3);
        }
    }
}
