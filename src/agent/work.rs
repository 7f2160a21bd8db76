//! Work that may block, spin or panic: each piece alone on a thread, with a time limit.
//!
//! A thread that does not end in time is given up: its result is not waited for, and the thread is counted until it ends.
//! Each kind of work has [`Threads`] of its own, and each CA service too, so that what hangs takes none from anybody else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

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
    /// All threads of its kind are taken by what hangs.
    #[error("no thread for {what}: all {most} for {whose} are taken by what has not ended")]
    AllTaken {
        /// What.
        what: &'static str,
        /// Whose they are.
        whose: String,
        /// How many.
        most: usize,
    },
    /// The system gave no thread for it.
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
    steps: Threads,
    /// For looks at what lies on disks.
    looks: Threads,
    /// For looks at the registry, without which nothing is asked for.
    registry: Threads,
    abandoned: Arc<AtomicUsize>,
}

/// So many threads at a time, those that were given up included.
#[derive(Clone)]
pub(super) struct Threads {
    whose: Arc<str>,
    most: usize,
    free: Arc<Semaphore>,
}

impl Threads {
    pub(super) fn new(whose: &str, most: usize) -> Self {
        Threads { whose: whose.into(), most, free: Arc::new(Semaphore::new(most)) }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl Workers {
    /// Pieces of work that need the processor at a time.
    const PLACES: usize = 4;
    /// Four are enough until some hang.
    const STEPS: usize = 256;
    /// One for each CA service whose credential lies on a disk that hangs.
    const LOOKS: usize = 128;
    /// One, but for those that hang.
    const REGISTRY: usize = 8;
    /// A thread that was given up a moment ago may take so long to end.
    const FREED: Duration = Duration::from_secs(5);

    pub(super) fn new() -> Self {
        Workers {
            places: Arc::new(Semaphore::new(Self::PLACES)),
            steps: Threads::new("the steps of orders", Self::STEPS),
            looks: Threads::new("looks at what we prove ourselves by", Self::LOOKS),
            registry: Threads::new("looks at the registry", Self::REGISTRY),
            abandoned: Arc::default(),
        }
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
        self.run(&self.steps, what, limit, work).await
    }

    /// Runs a look at a disk at once.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFault> {
        self.run(&self.looks, what, limit, work).await
    }

    /// Runs a look at the registry at once.
    pub(super) async fn registry<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFault> {
        self.run(&self.registry, what, limit, work).await
    }

    /// Runs it on one of these threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        threads: &Threads,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkFault> {
        let no_thread = |why: String| WorkFault::NoThread { what, why };
        let Ok(Ok(ticket)) = tokio::time::timeout(Self::FREED, threads.free.clone().acquire_owned()).await else {
            return Err(WorkFault::AllTaken { what, whose: threads.whose.to_string(), most: threads.most });
        };
        let (done, result) = oneshot::channel();
        let ended = Arc::new(AtomicUsize::new(RUNNING));
        let (its_end, its_count) = (ended.clone(), self.abandoned.clone());
        std::thread::Builder::new()
            .name(format!("agent-{what}").chars().take(15).collect())
            .spawn(move || {
                let _ticket: OwnedSemaphorePermit = ticket;
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
        let hung = wait(workers.look("check", Duration::from_millis(50), move || released.recv().is_ok()));
        assert_eq!(hung, Err(WorkFault::TimedOut { what: "check", limit: Duration::from_millis(50) }));
        assert_eq!(workers.abandoned(), 1);
        assert_eq!(wait(workers.compute("check", limit, || 7)), Ok(7));
        release.send(()).unwrap();
        while workers.abandoned() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_hangs_at_one_service_takes_no_thread_from_another_nor_from_the_steps() {
        let workers = Workers::new();
        let (one, other) = (Threads::new("one", 3), Threads::new("other", 3));
        let limit = Duration::from_millis(50);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        for _ in 0..3 {
            let released = released.clone();
            let hung = wait(workers.run(&one, "submit", limit, move || released.lock().unwrap().recv().is_ok()));
            assert!(matches!(hung, Err(WorkFault::TimedOut { .. })), "{hung:?}");
        }
        let long = Duration::from_secs(20);
        let taken = wait(workers.run(&one, "submit", long, || 1));
        assert!(matches!(&taken, Err(WorkFault::AllTaken { whose, most: 3, .. }) if whose == "one"), "{taken:?}");
        assert_eq!(wait(workers.run(&other, "submit", long, || 2)), Ok(2));
        assert_eq!(wait(workers.compute("verify", long, || 3)), Ok(3));
        assert_eq!(wait(workers.registry("look", long, || 4)), Ok(4));
        for _ in 0..3 {
            release.send(()).unwrap();
        }
        assert_eq!(wait(workers.run(&one, "submit", long, || 5)), Ok(5), "they have ended");
    }
}
