//! When a source is looked at again. Pure.

use std::time::Duration;

/// Each look is this much of `refresh` early at most, so that machines that were started together do not ask together.
const SPREAD: f64 = 0.1;
/// A look on demand is answered by the last one if that began so recently.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// A source that has just failed is not asked on demand before this has passed.
pub(super) const RESPITE: Duration = Duration::from_secs(5);

/// How long to wait after `failures` looks in a row that failed. `draw` is random, from 0 to 1.
///
/// Without a failure about `refresh`. With each failure twice as long, drawn anew from the upper half of it, and never longer
/// than a quarter of `max_age`: the evidence must be able to come back before it is too old.
pub(super) fn wait(failures: u32, refresh: Duration, max_age: Duration, draw: f64) -> Duration {
    let draw = draw.clamp(0.0, 1.0);
    if failures == 0 {
        return refresh.mul_f64(1.0 - SPREAD * draw);
    }
    let longest = refresh.max(max_age / 4);
    let longer = refresh.saturating_mul(1_u32 << failures.min(16)).min(longest);
    longer.mul_f64(0.5 + 0.5 * draw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REFRESH: Duration = Duration::from_secs(30);
    const MAX_AGE: Duration = Duration::from_secs(900);

    #[test]
    fn a_source_that_fails_is_asked_less_and_less_often() {
        let waits: Vec<u64> = (0..6).map(|n| wait(n, REFRESH, MAX_AGE, 1.0).as_secs()).collect();
        assert_eq!(waits, [27, 60, 120, 225, 225, 225]);
        assert_eq!(wait(3, REFRESH, MAX_AGE, 0.0).as_millis(), 112_500);
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_half_of_refresh_or_longer_than_it_and_a_quarter_of_max_age(
            failures in 0_u32..1_000, refresh in 1_u64..86_400, age in 2_u64..604_800, draw in 0.0..1.0_f64,
        ) {
            let (refresh, age) = (Duration::from_secs(refresh), Duration::from_secs(age));
            let wait = wait(failures, refresh, age, draw);
            prop_assert!(wait >= refresh / 2 && wait <= refresh.max(age / 4), "{wait:?}");
        }
    }
}
