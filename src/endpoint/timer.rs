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

/// An overflow, which no sensible limit brings about, means at once rather than never.
fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or(now)
}
