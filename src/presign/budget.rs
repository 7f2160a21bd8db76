//! A budget per interval, on a clock that is an argument.

use crate::time::Timestamp;
use std::time::Duration;

/// At most so many per interval; nothing is saved up.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    count: u32,
    per: Duration,
    left: u32,
    began: Timestamp,
}

impl Budget {
    /// A full budget; an interval is at least a second.
    pub fn new(count: u32, per: Duration, now: Timestamp) -> Self {
        Budget { count, per: per.max(Duration::from_secs(1)), left: count, began: now }
    }

    /// Takes one, if there is one. A clock that steps back begins the interval anew but gives nothing.
    pub fn take(&mut self, now: Timestamp) -> bool {
        if now < self.began {
            self.began = now;
        } else if now >= self.began.plus(self.per) {
            self.began = now;
            self.left = self.count;
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
    fn no_more_than_the_count_is_taken_in_any_interval() {
        let t = Timestamp::from_unix;
        let mut budget = Budget::new(3, Duration::from_secs(2), t(100));
        let taken = |budget: &mut Budget, at| (0..10).filter(|_| budget.take(t(at))).count();
        assert_eq!(taken(&mut budget, 100), 3);
        assert_eq!(taken(&mut budget, 101), 0);
        assert_eq!(taken(&mut budget, 102), 3);
        assert_eq!(taken(&mut budget, 50), 0, "a clock that steps back gives nothing");
        assert_eq!(taken(&mut budget, 1_000_000), 3, "a leap does not save up");
    }
}
