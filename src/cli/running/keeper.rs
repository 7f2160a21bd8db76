//! The thread that looks at what changes: the configuration, the registry's views, the agent and its ledger.
//!
//! A file system that hangs holds up this thread alone. Requests are answered meanwhile, the watchdog is fed and the process
//! can be stopped.

use crate::time::monotonic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Work that takes longer than this hangs: to read a configuration and start the agent takes a second.
const OVERDUE: Duration = Duration::from_secs(60);

/// What the thread does.
pub(super) trait Work: Send + 'static {
    /// Looks at everything that may have changed.
    fn look(&mut self);
    /// The registry has changed.
    fn registry_changed(&mut self);
    /// Reads the configuration again.
    fn reload(&mut self);
    /// Ends what changes things by itself; what only shows them goes on until the keeper is dropped.
    fn stop(&mut self);
}

/// What is to be done. Said twice before it was begun, it is done once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Look,
    Registry,
    Reload,
    Stop,
}

/// Gives the orders.
pub(super) struct Keeper(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    reloaded: Notify,
}

#[derive(Default)]
struct State {
    wanted: Wanted,
    busy_since: Option<Instant>,
    has_ended: bool,
    /// What is left when the thread has ended by order.
    left: Option<Box<dyn Send>>,
}

#[derive(Default)]
struct Wanted {
    look: bool,
    registry: bool,
    reload: bool,
    stop: bool,
}

impl Keeper {
    /// Starts the thread; what it does may spawn tasks of the runtime that this is called in.
    pub(super) fn start(work: impl Work) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let runtime = tokio::runtime::Handle::current();
        let ended = Ended(shared.clone());
        let run = move || {
            let _inside = runtime.enter();
            ended.0.run(work);
        };
        match std::thread::Builder::new().name("keeper".to_owned()).spawn(run) {
            Ok(_) => Ok(Keeper(shared)),
            Err(error) => Err(format!("the system gives no thread to look at files with: {error}")),
        }
    }

    pub(super) fn order(&self, order: Order) {
        let mut state = self.0.lock();
        match order {
            Order::Look => state.wanted.look = true,
            Order::Registry => state.wanted.registry = true,
            Order::Reload => state.wanted.reload = true,
            Order::Stop => state.wanted.stop = true,
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until a reload that was ordered is done.
    pub(super) async fn reloaded(&self) {
        self.0.reloaded.notified().await;
    }

    /// Whether the thread has ended: by order, or by a panic.
    pub(super) fn has_ended(&self) -> bool {
        self.0.lock().has_ended
    }

    /// Why what changes is not looked at, if it is not.
    pub(super) fn fault(&self) -> Option<String> {
        let busy = self.0.lock().busy_since.map(|since| monotonic().saturating_duration_since(since))?;
        (busy >= OVERDUE).then(|| {
            let secs = busy.as_secs();
            format!(
                "a look at the configuration, the registry and state_dir has taken {secs} s: a file system hangs, or a source \
                takes as long to read; requests are answered, and nothing that changes is taken over until it ends"
            )
        })
    }

    /// Orders the end and waits for it; `false` if it takes longer than `patience`.
    pub(super) fn stop(&self, patience: Duration) -> bool {
        self.order(Order::Stop);
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), patience, |state| !state.has_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.has_ended
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut work: impl Work) {
        loop {
            let wanted = self.next();
            if wanted.stop {
                work.stop();
                self.lock().left = Some(Box::new(work));
                return;
            }
            if wanted.registry {
                work.registry_changed();
            }
            if wanted.reload {
                work.reload();
                self.reloaded.notify_one();
            }
            if wanted.look {
                work.look();
            }
        }
    }

    fn next(&self) -> Wanted {
        let mut state = self.lock();
        state.busy_since = None;
        let nothing = |state: &mut State| {
            let Wanted { look, registry, reload, stop } = state.wanted;
            !(look || registry || reload || stop)
        };
        let mut state = self.changed.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        state.busy_since = Some(monotonic());
        std::mem::take(&mut state.wanted)
    }
}

/// Says so when the thread ends, however it does.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.has_ended, state.busy_since) = (true, None);
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Tells what it does; a look takes as long as the test wants.
    struct Told {
        told: SyncSender<&'static str>,
        go_on: Receiver<()>,
    }

    impl Work for Told {
        fn look(&mut self) {
            self.told.send("look").unwrap();
            self.go_on.recv().unwrap();
        }
        fn registry_changed(&mut self) {
            self.told.send("registry").unwrap();
        }
        fn reload(&mut self) {
            self.told.send("reload").unwrap();
        }
        fn stop(&mut self) {
            self.told.send("stop").unwrap();
        }
    }

    fn keeper() -> (Keeper, Receiver<&'static str>, SyncSender<()>) {
        let ((told, tells), (go, go_on)) = (sync_channel(16), sync_channel(16));
        (Keeper::start(Told { told, go_on }).unwrap(), tells, go)
    }

    #[tokio::test]
    async fn what_hangs_holds_up_nobody_and_what_is_wanted_meanwhile_is_done_once() {
        let (keeper, tells, go) = keeper();
        keeper.order(Order::Look);
        assert_eq!(tells.recv(), Ok("look"));
        for _ in 0..1_000 {
            keeper.order(Order::Reload);
            keeper.order(Order::Registry);
        }
        assert!(!keeper.stop(Duration::from_millis(50)) && !keeper.has_ended(), "it hangs, and is not waited for");
        assert_eq!(keeper.fault(), None, "not for long yet");
        keeper.0.lock().busy_since = monotonic().checked_sub(OVERDUE);
        assert!(keeper.fault().is_some_and(|fault| fault.contains("60 s")));
        go.send(()).unwrap();
        assert!(keeper.stop(Duration::from_secs(60)));
        assert_eq!(keeper.fault(), None);
        assert_eq!(tells.try_iter().collect::<Vec<_>>(), ["stop"], "what ends is not reloaded first");
    }

    #[tokio::test]
    async fn each_order_is_carried_out_and_the_end_of_a_reload_is_told() {
        let (keeper, tells, go) = keeper();
        keeper.order(Order::Reload);
        keeper.reloaded().await;
        keeper.order(Order::Registry);
        assert_eq!([tells.recv(), tells.recv()], [Ok("reload"), Ok("registry")]);
        keeper.order(Order::Look);
        assert_eq!(tells.recv(), Ok("look"));
        drop(go); // it panics
        assert!(keeper.stop(Duration::from_secs(60)) && keeper.has_ended());
    }
}
