//! Work that may block, spin or panic: each piece alone on a thread, with a time limit.
//!
//! A thread that does not end in time is given up: its result is not waited for, the thread is counted until it ends, and
//! there are never more than [`Workers::MOST`] in all.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Why a piece of work has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WorkFault {
    /// It did not end within its time.
    #[error("{what} did not end within {} s and was given up", limit.as_secs())]
    TimedOut {
        /// What.
        what: &'static str,
        /// Its time.
        limit: Duration,
    },
    /// It panicked.
    #[error("{what} panicked: {text}")]
    Panicked {
        /// What.
        what: &'static str,
        /// With what words.
        text: String,
    },
    /// There was no thread for it.
    #[error("no thread for {what}: {why}")]
    NoThread {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// The threads.
#[derive(Clone)]
pub(super) struct Workers {
    /// Places for work that needs the processor.
    places: Arc<Semaphore>,
    running: Arc<AtomicUsize>,
    abandoned: Arc<AtomicUsize>,
}

impl Workers {
    /// The most threads at a time, those that were given up included.
    pub(super) const MOST: usize = 512;
    /// Pieces of work that need the processor at a time.
    const PLACES: usize = 4;

    pub(super) fn new() -> Self {
        Workers { places: Arc::new(Semaphore::new(Self::PLACES)), running: Arc::default(), abandoned: Arc::default() }
    }

    /// Threads that were given up and have not ended.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// Runs it when one of the few places is free; its time begins then.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFault> {
        let _place = self.places.acquire().await;
        self.run(what, limit, work).await
    }

    /// Runs it at once.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFault> {
        let no_thread = |why: String| WorkFault::NoThread { what, why };
        let Some(ticket) = Ticket::draw(&self.running) else {
            return Err(no_thread(format!("{} are running, of which {} hang", Self::MOST, self.abandoned())));
        };
        let (done, result) = oneshot::channel();
        let ended = Arc::new(AtomicUsize::new(RUNNING));
        let (its_end, its_count) = (ended.clone(), self.abandoned.clone());
        std::thread::Builder::new()
            .name(format!("agent-{what}").chars().take(15).collect())
            .spawn(move || {
                let _ticket = ticket;
                let value = catch_unwind(AssertUnwindSafe(work));
                if its_end.swap(ENDED, Ordering::SeqCst) == ABANDONED {
                    its_count.fetch_sub(1, Ordering::SeqCst);
                }
                let _ = done.send(value); // nobody may be waiting any more
            })
            .map_err(|e| no_thread(e.to_string()))?;
        let mut watch = Watch { state: ended, abandoned: self.abandoned.clone(), is_over: false };
        let result = tokio::time::timeout(limit, result).await;
        watch.is_over = result.is_ok();
        match result {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(panic))) => Err(WorkFault::Panicked { what, text: panic_text(panic.as_ref()) }),
            Ok(Err(_)) => Err(WorkFault::Panicked { what, text: "its thread ended without a word".to_owned() }),
            Err(_) => Err(WorkFault::TimedOut { what, limit }),
        }
    }
}

const RUNNING: usize = 0;
const ENDED: usize = 1;
const ABANDONED: usize = 2;

/// Counts the thread as given up when whoever waits for it stops waiting.
struct Watch {
    state: Arc<AtomicUsize>,
    abandoned: Arc<AtomicUsize>,
    is_over: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.abandoned.fetch_add(1, Ordering::SeqCst);
        if self.state.swap(ABANDONED, Ordering::SeqCst) == ENDED {
            self.abandoned.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One of the [`Workers::MOST`].
struct Ticket(Arc<AtomicUsize>);

impl Ticket {
    fn draw(running: &Arc<AtomicUsize>) -> Option<Ticket> {
        let drawn = running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < Workers::MOST).then_some(n + 1));
        drawn.ok().map(|_| Ticket(running.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_panic_and_a_piece_that_hangs_are_told_and_the_next_one_runs() {
        let workers = Workers::new();
        let limit = Duration::from_secs(20);
        let panicked = wait(workers.compute("check", limit, || assert_eq!(1, 2, "no")));
        assert!(matches!(&panicked, Err(WorkFault::Panicked { text, .. }) if text.contains("no")), "{panicked:?}");

        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let hung = wait(workers.run("check", Duration::from_millis(50), move || released.recv().is_ok()));
        assert_eq!(hung, Err(WorkFault::TimedOut { what: "check", limit: Duration::from_millis(50) }));
        assert_eq!(workers.abandoned(), 1);
        assert_eq!(wait(workers.compute("check", limit, || 7)), Ok(7));
        release.send(()).unwrap();
        while workers.abandoned() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn there_are_never_more_threads_than_the_limit() {
        let workers = Workers::new();
        workers.running.store(Workers::MOST, Ordering::SeqCst);
        let refused = wait(workers.run("check", Duration::from_secs(1), || ()));
        assert!(matches!(refused, Err(WorkFault::NoThread { .. })), "{refused:?}");
    }
}
