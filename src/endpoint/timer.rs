//! A deadline that is moved far more often than it is reached.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A deadline whose timer is touched only when it fires or must fire earlier: moving it later costs a store.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(super) fn after(now: Instant, delay: Duration) -> Self {
        let at = later(now, delay);
        Deadline { at, timer: Box::pin(tokio::time::sleep_until(at.into())) }
    }

    pub(super) fn set(&mut self, now: Instant, delay: Duration) {
        self.at = later(now, delay);
    }

    /// Moves it later by `by`, but no later than `most` from now.
    pub(super) fn extend(&mut self, now: Instant, by: Duration, most: Duration) {
        self.at = extended(self.at, now, by, most);
    }

    /// Ready once the deadline has passed; wakes the task then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(self.at.into());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.at <= self.timer.deadline().into_std() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at.into());
        }
        Poll::Pending
    }
}

/// `until`, moved later by `by`, but no later than `most` from now.
pub(super) fn extended(until: Instant, now: Instant, by: Duration, most: Duration) -> Instant {
    later(until, by).min(later(now, most))
}

/// An overflow, which no sensible limit brings about, means at once rather than never.
fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_is_extended_by_what_was_earned_and_never_beyond_the_most() {
        const SECOND: Duration = Duration::from_secs(1);
        let now = crate::time::monotonic();
        let mut deadline = Deadline::after(now, 10 * SECOND);
        deadline.extend(now + 4 * SECOND, SECOND, 10 * SECOND);
        assert_eq!(deadline.at, now + 11 * SECOND);
        deadline.extend(now + 5 * SECOND, 60 * SECOND, 10 * SECOND);
        assert_eq!(deadline.at, now + 15 * SECOND);
        for second in 6..=14 {
            deadline.extend(now + second * SECOND, Duration::from_millis(1), 10 * SECOND);
        }
        assert_eq!(deadline.at, now + 15 * SECOND + Duration::from_millis(9), "a drop at a time buys no time");
    }
}
