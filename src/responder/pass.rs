//! One look at every issuer's files.
//!
//! A file system may hang (NFS, a stuck disk), and then whoever asks it anything waits as long. So the files are looked at by
//! threads that nobody waits for longer than [`Pace`] allows: an issuer at which one is held up keeps that thread, and another
//! goes on with the next. No issuer has more than two at the same files, one for its signer and one for its
//! sources, however often its record changes.

use super::managed::{Managed, Reader};
use crate::time::{Timestamp, monotonic};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that may be held up beyond two for each issuer: at files that a record named before.
const SPARE: usize = 64;
/// How soon a request to stop is noticed while a look lasts.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How long a thread that is at work is waited for when all stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long one issuer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Until another thread goes on with the next issuer.
    pub(super) patience: Duration,
    /// The same when one has been held up in this look already: they are likely to be on the same file system.
    pub(super) impatience: Duration,
    /// Until it is told as a fault.
    pub(super) late: Duration,
}

impl Default for Pace {
    /// An index of ten million lines is read within the patience; the largest there are, or so, before it is late.
    fn default() -> Self {
        Pace { patience: Duration::from_secs(5), impatience: Duration::from_secs(1), late: Duration::from_secs(30) }
    }
}

/// How a look ended.
pub(super) struct Looked {
    /// Statuses were read.
    pub(super) has_read: bool,
    /// An issuer held it up.
    pub(super) was_held_up: bool,
}

pub(super) struct Pass {
    issuers: Vec<Arc<Managed>>,
    reader: Arc<Reader>,
    now: Timestamp,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The issuer that is looked at next.
    next: usize,
    /// When the look at the present one began.
    began: Option<Instant>,
    /// Which thread's turn it is; one that was overtaken ends when it can.
    turn: u32,
    is_done: bool,
    has_read: bool,
}

impl Pass {
    pub(super) fn new(issuers: Vec<Arc<Managed>>, reader: Arc<Reader>, now: Timestamp) -> Arc<Self> {
        Arc::new(Pass { issuers, reader, now, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Looks at all of them, and gives back when that is done but for those that are held up. `None` if it could not be done.
    pub(super) fn run(self: &Arc<Self>, pace: &Pace, should_stop: impl Fn() -> bool) -> Option<Looked> {
        self.start(0)?;
        let mut held_up = 0;
        let mut state = self.lock();
        while !state.is_done {
            if should_stop() {
                self.stop(state);
                return None;
            }
            let patience = if held_up == 0 { pace.patience } else { pace.impatience };
            let taken = state.began.map_or(Duration::ZERO, |began| began.elapsed());
            if taken >= patience {
                held_up += 1;
                state.turn += 1;
                state.began = None;
                let turn = state.turn;
                drop(state);
                self.start(turn)?;
                state = self.lock();
            } else {
                let wait = STOP_LOOK.min(patience.saturating_sub(taken));
                state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        Some(Looked { has_read: state.has_read, was_held_up: held_up > 0 })
    }

    /// Lets the thread at work end with its present issuer, and waits for that if it is soon.
    fn stop(&self, mut state: MutexGuard<'_, State>) {
        state.next = self.issuers.len();
        let began = monotonic();
        while !state.is_done && began.elapsed() < STOP_GRACE {
            state = self.changed.wait_timeout(state, STOP_LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn start(self: &Arc<Self>, turn: u32) -> Option<()> {
        let pass = self.clone();
        let at_work = self.reader.at_work.clone();
        if Arc::strong_count(&at_work) > 2 * self.issuers.len() + SPARE {
            tracing::error!("too many threads are held up by file systems; files are not looked at");
            return None;
        }
        let work = move || {
            pass.work(turn);
            drop(at_work);
        };
        let started = thread::Builder::new().name("look".into()).spawn(work);
        started.map_err(|error| tracing::error!(%error, "cannot start the thread that looks at files")).ok().map(drop)
    }

    fn work(&self, turn: u32) {
        loop {
            let mut state = self.lock();
            let next = if state.turn == turn { self.issuers.get(state.next) } else { None };
            let Some(managed) = next else {
                state.is_done |= state.turn == turn; // and not overtaken
                drop(state);
                self.changed.notify_all();
                return;
            };
            state.next += 1;
            state.began = Some(monotonic());
            drop(state);
            let read = match catch_unwind(AssertUnwindSafe(|| self.look_at(managed))) {
                Ok(has_read) => has_read,
                Err(_) => {
                    managed.panicked(self.now);
                    false
                }
            };
            self.lock().has_read |= read;
        }
    }

    fn look_at(&self, managed: &Managed) -> bool {
        let has_read = managed.poll(&self.reader, self.now);
        managed.read_back(self.now);
        has_read
    }

    /// Only counters are in it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
