//! A token bucket on a clock that is an argument.

use crate::time::Timestamp;

/// At most `rate` a second, and never more than one second's worth at once.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rate: u32,
    left: u32,
    filled_at: Timestamp,
}

impl Budget {
    /// A full bucket.
    pub fn new(rate: u32, now: Timestamp) -> Self {
        Budget { rate, left: rate, filled_at: now }
    }

    /// Takes one, if there is one. A clock that steps back refills nothing; one that leaps forward fills the bucket once.
    pub fn take(&mut self, now: Timestamp) -> bool {
        if now != self.filled_at {
            if now > self.filled_at {
                self.left = self.rate;
            }
            self.filled_at = now;
        }
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_taken_in_any_second() {
        let t = Timestamp::from_unix;
        let mut budget = Budget::new(3, t(100));
        let taken = |budget: &mut Budget, at| (0..10).filter(|_| budget.take(t(at))).count();
        assert_eq!(taken(&mut budget, 100), 3);
        assert_eq!(taken(&mut budget, 101), 3);
        assert_eq!(taken(&mut budget, 50), 0, "a clock that steps back gives nothing");
        assert_eq!(taken(&mut budget, 1_000_000), 3, "a leap does not save up");
    }
}
