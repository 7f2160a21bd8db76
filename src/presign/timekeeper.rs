//! Whether the clock can be believed. RFC 9919 §5 wants accurate time of a responder: what is signed by a clock that was set back has
//! run out for everyone else, and would take the place of what is good.
//!
//! A step back of more than an hour is held against the monotonic clock. It is believed if it puts right what was wrong: soon after
//! the start, when a machine has its clock set, and when it undoes a jump ahead. Otherwise the time before it is continued, by which
//! what is held is served, and nothing is signed until the clock agrees again. All this is kept in the process only: a restart
//! believes the clock.

use crate::time::{Clock, Timestamp, monotonic};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// A step of no more than this is followed.
const STEP: Duration = Duration::from_secs(3600);
/// For so long after the start every step is followed: a machine that boots with a wrong clock has it set by then.
const SETTLING: Duration = Duration::from_secs(600);

/// A jump ahead may be undone for so long.
const UNDONE_WITHIN: Duration = Duration::from_secs(86_400);
/// So many jumps ahead are remembered.
const JUMPS: usize = 4;

/// The clock was set back, and nothing says that it had been wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock was set back from {from} to {to}: nothing is signed until it is set right, and what is held is served by the time before; if the time now is the right one, restart"
)]
pub struct SetBack {
    /// What it should have shown.
    pub from: Timestamp,
    /// What it showed.
    pub to: Timestamp,
}

/// What a clock showed at a moment.
#[derive(Clone, Copy, Debug)]
struct Shown {
    time: Timestamp,
    at: Instant,
}

impl Shown {
    /// What it shows now if it has gone on since.
    fn continued(self, now: Instant) -> Timestamp {
        self.time.plus(now.saturating_duration_since(self.at))
    }
}

/// What is believed of a clock: pure.
#[derive(Debug)]
struct Belief {
    /// Until then it is followed whatever it shows.
    settled: Instant,
    last: Shown,
    /// What it showed before it jumped ahead, the latest time last; those that are a day old are forgotten, and of more than
    /// [`JUMPS`] the first.
    before_jumps: Vec<Shown>,
    set_back: Option<SetBack>,
}

impl Belief {
    fn new(time: Timestamp, now: Instant, settling: Duration) -> Self {
        let settled = now.checked_add(settling).unwrap_or(now);
        Belief { settled, last: Shown { time, at: now }, before_jumps: Vec::new(), set_back: None }
    }

    /// Takes a reading in.
    fn look(&mut self, shown: Timestamp, now: Instant) -> Result<Timestamp, SetBack> {
        let expected = self.last.continued(now);
        if shown.plus(STEP) < expected {
            let undoes = |before: Shown| {
                let then = before.continued(now);
                shown.since(then).max(then.since(shown)) <= STEP
            };
            self.before_jumps.retain(|before| now.saturating_duration_since(before.at) <= UNDONE_WITHIN);
            let undone = self.before_jumps.iter().copied().position(undoes);
            if now >= self.settled && undone.is_none() {
                return Err(*self.set_back.get_or_insert(SetBack { from: expected, to: shown }));
            }
            // What came after it has gone with it.
            self.before_jumps.truncate(undone.unwrap_or(0));
        } else if shown > expected.plus(STEP) && now >= self.settled {
            if self.before_jumps.len() == JUMPS {
                self.before_jumps.remove(0);
            }
            self.before_jumps.push(self.last);
        }
        self.set_back = None;
        self.last = Shown { time: shown, at: now };
        Ok(shown)
    }
}

/// A clock, and what is believed of it; as a [`Clock`] it shows what is believed. Clones share it.
#[derive(Clone)]
pub struct Timekeeper(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    belief: Mutex<Belief>,
    /// What was believed last, in seconds since the epoch.
    believed: AtomicI64,
    is_held: AtomicBool,
}

impl Timekeeper {
    /// Believes what the clock shows now.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let time = clock.now();
        Timekeeper(Arc::new(Inner {
            clock,
            belief: Mutex::new(Belief::new(time, monotonic(), SETTLING)),
            believed: AtomicI64::new(time.unix()),
            is_held: AtomicBool::new(false),
        }))
    }

    /// The same as if it had been started long ago.
    #[must_use]
    pub fn settled(self) -> Self {
        self.0.belief.lock().unwrap_or_else(PoisonError::into_inner).settled = monotonic();
        self
    }

    /// The time to sign by.
    ///
    /// # Errors
    /// While the clock is not believed.
    pub fn to_sign(&self) -> Result<Timestamp, SetBack> {
        let shown = self.0.clock.now();
        self.look(&mut self.0.belief.lock().unwrap_or_else(PoisonError::into_inner), shown)
    }

    fn look(&self, belief: &mut Belief, shown: Timestamp) -> Result<Timestamp, SetBack> {
        let looked = belief.look(shown, monotonic());
        let was_held = self.0.is_held.swap(looked.is_err(), Ordering::SeqCst);
        match looked {
            Ok(time) => {
                self.0.believed.store(time.unix(), Ordering::SeqCst);
                if was_held {
                    tracing::info!(now = %time, "the clock agrees again with the time before it was set back; signing goes on");
                }
            }
            Err(set_back) if !was_held => tracing::error!("{set_back}"),
            Err(_) => {}
        }
        looked
    }
}

impl Clock for Timekeeper {
    /// What is believed. As long as the clock goes on, without a lock; nobody is ever waited for.
    fn now(&self) -> Timestamp {
        let shown = self.0.clock.now();
        let believed = Timestamp::from_unix(self.0.believed.load(Ordering::SeqCst));
        if shown.plus(STEP) >= believed && !self.0.is_held.load(Ordering::SeqCst) {
            return shown;
        }
        let mut belief = match self.0.belief.try_lock() {
            Ok(belief) => belief,
            Err(TryLockError::Poisoned(belief)) => belief.into_inner(),
            Err(TryLockError::WouldBlock) => return believed,
        };
        match self.look(&mut belief, shown) {
            Ok(time) => time,
            Err(_) => {
                let time = belief.last.continued(monotonic());
                self.0.believed.store(time.unix(), Ordering::SeqCst);
                time
            }
        }
    }
}

impl From<Arc<dyn Clock>> for Timekeeper {
    fn from(clock: Arc<dyn Clock>) -> Self {
        Timekeeper::new(clock)
    }
}

impl<C: Clock> From<Arc<C>> for Timekeeper {
    fn from(clock: Arc<C>) -> Self {
        Timekeeper::new(clock)
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timekeeper").field(&self.0.belief).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    /// Readings: seconds of the monotonic clock, seconds that are shown, and whether that is believed.
    fn walk(settling: u64, readings: &[(u64, i64, bool)]) {
        let start = monotonic();
        let mut belief = Belief::new(Timestamp::from_unix(100 * DAY), start, Duration::from_secs(settling));
        for (n, (at, shown, is_believed)) in readings.iter().enumerate() {
            let shown = Timestamp::from_unix(100 * DAY + shown);
            let looked = belief.look(shown, start + Duration::from_secs(*at));
            assert_eq!(looked.ok(), is_believed.then_some(shown), "reading {n}: {looked:?}");
        }
    }

    #[test]
    fn a_small_step_is_followed_and_a_large_one_back_is_not_until_it_is_undone() {
        walk(0, &[(10, 10, true), (20, 20 - 3600, true), (30, 30, true)]);
        walk(0, &[(10, 10, true), (20, 20 - 3601, false), (30, 30 - 3601, false), (40, 40 - 3600, true)]);
        // Time goes on: what was near enough at first is not when it comes back to where it was.
        walk(0, &[(10, -10 * DAY, false), (5 * 3600, 0, false), (5 * 3600, 4 * 3600, true)]);
        // It comes in small steps that together are large.
        walk(0, &[(10, 10 - 3000, true), (20, 20 - 6000, true)]);
    }

    #[test]
    fn soon_after_the_start_every_step_is_followed() {
        walk(600, &[(599, -10 * DAY, true), (700, -10 * DAY + 101, true), (800, -20 * DAY, false)]);
        walk(600, &[(600, -10 * DAY, false)]);
    }

    #[test]
    fn a_step_back_that_undoes_a_jump_ahead_is_followed_once() {
        walk(0, &[(10, 10, true), (20, 10 * DAY, true), (7200, 7200 - 3000, true), (7210, -10 * DAY, false)]);
        walk(0, &[(10, 10, true), (20, 10 * DAY, true), (7200, -10 * DAY, false), (7210, 7210, true)]);
        walk(
            0,
            &[(10, 10 * DAY, true), (20, 30 * DAY, true), (30, 20 * DAY, false), (40, 40, true), (50, 30 * DAY, true)],
        );
        walk(0, &[(10, 10 * DAY, true), (20, 20, true), (30, -10 * DAY, false)]);
    }

    #[test]
    fn a_jump_soon_after_the_start_is_no_reason_to_follow_a_step_back_later() {
        let set_right = (10, 1000 * DAY, true);
        walk(600, &[set_right, (2000, 1000 * DAY + 1990, true), (2010, 2010, false), (2020, 1000 * DAY + 2010, true)]);
        // A later one is undone all the same.
        walk(600, &[set_right, (2000, 1010 * DAY, true), (2600, 1000 * DAY + 2590, true), (2610, 2610, false)]);
    }

    #[test]
    fn a_jump_can_be_undone_for_a_day_and_of_several_each() {
        walk(0, &[(10, 10 * DAY, true), (86_400, DAY, true)]);
        walk(0, &[(10, 10 * DAY, true), (86_401, DAY + 1, false)]);
        // The machine slept for two hours; days later there is a glitch.
        walk(0, &[(10, 7210, true), (20, 30 * DAY, true), (620, 7820, true), (630, 630, true), (640, -DAY, false)]);
        let jumps: Vec<_> = (1..=6_u8).map(|n| (10 * u64::from(n), 10 * i64::from(n) * DAY, true)).collect();
        walk(0, &[&jumps[..], &[(70, 20 * DAY + 50, true), (80, 10 * DAY + 60, false)]].concat());
    }

    #[test]
    fn what_is_shown_goes_on_while_the_clock_is_not_believed() {
        let clock = Arc::new(crate::time::ManualClock::at(Timestamp::from_unix(100 * DAY)));
        let keeper = Timekeeper::from(clock.clone()).settled();
        assert_eq!(keeper.to_sign(), Ok(Timestamp::from_unix(100 * DAY)));
        clock.set(Timestamp::from_unix(90 * DAY));
        let now = keeper.now();
        assert!((0..3600).contains(&now.seconds_since(Timestamp::from_unix(100 * DAY))), "{now}");
        let told = keeper.to_sign().unwrap_err();
        assert_eq!(told.to, Timestamp::from_unix(90 * DAY));
        assert!(told.to_string().contains("1970-04-01T00:00:00Z: nothing is signed"), "{told}");
        clock.set(Timestamp::from_unix(100 * DAY + 7));
        assert_eq!(
            (keeper.now(), keeper.to_sign()),
            (Timestamp::from_unix(100 * DAY + 7), Ok(Timestamp::from_unix(100 * DAY + 7)))
        );
    }
}
