//! One worker: a thread with a runtime of its own, its listeners, its connections.

use super::gate::{Client, Gate};
use super::registry::Registry;
pub(super) use super::registry::{Activity, Phase};
use super::service::Service;
use super::stats::{Event, Shard};
use crate::time::monotonic;
use arc_swap::{ArcSwap, Cache, Guard};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a worker that stops goes on accepting what the kernel has accepted already.
const LAST_ACCEPTS: Duration = Duration::from_millis(50);
/// How long a worker that stops gives a client that has connected to begin its request.
const LAST_REQUESTS: Duration = Duration::from_millis(250);
/// How often a worker that stops looks for connections that have become idle.
const DRAIN_TICK: Duration = Duration::from_millis(10);
/// How often a worker gives a sign of life.
const BEAT: Duration = Duration::from_secs(1);
/// Pause after a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the connections of a worker share.
pub(super) struct Worker {
    pub shard: Arc<Shard>,
    pub fast_path: bool,
    service: ArcSwap<Service>,
    gate: Arc<Gate>,
    registry: Mutex<Registry>,
    draining: AtomicBool,
    began: Instant,
    /// When its event loop last had a turn, in milliseconds since it began.
    beat: AtomicU64,
}

/// A connection's place; leaves it when dropped, however the connection ends.
struct Place {
    worker: Arc<Worker>,
    client: Option<Client>,
    slot: usize,
}

/// The order to stop, and how long what is in progress may take.
pub(super) type Stop = Option<Duration>;

impl Worker {
    pub(super) fn new(service: Service, gate: Arc<Gate>, fast_path: bool) -> Self {
        Worker {
            shard: service.shard.clone(),
            fast_path,
            service: ArcSwap::from_pointee(service),
            gate,
            registry: Mutex::default(),
            draining: AtomicBool::new(false),
            began: monotonic(),
            beat: AtomicU64::new(0),
        }
    }

    /// What answers the next request, for a connection that asks again and again: a comparison as long as it is the same.
    pub(super) fn service_cache(&self) -> Cache<&ArcSwap<Service>, Arc<Service>> {
        Cache::new(&self.service)
    }

    /// What answers the next request.
    pub(super) fn service(&self) -> Guard<Arc<Service>> {
        self.service.load()
    }

    /// From now on, `service` answers.
    pub(super) fn set_service(&self, service: Service) {
        self.service.store(Arc::new(service));
    }

    /// Whether every answer is the last of its connection.
    pub(super) fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Milliseconds since the worker began.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// How long ago the event loop gave its last sign of life; it gives one every second until it has stopped.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(self.beat.load(Relaxed)))
    }

    async fn beat(&self) -> std::convert::Infallible {
        let mut tick = tokio::time::interval(BEAT);
        loop {
            tick.tick().await;
            self.live(monotonic());
        }
    }

    fn live(&self, now: Instant) {
        self.beat.store(self.millis(now), Relaxed);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until told to stop, and then until everything in progress is done or the grace is over.
    pub(super) async fn run(self: Arc<Self>, listeners: Vec<TcpListener>, mut stop: watch::Receiver<Stop>) {
        let acceptors: Vec<_> =
            listeners.into_iter().map(|listener| tokio::spawn(accept(self.clone(), listener, stop.clone()))).collect();
        let order = tokio::select! {
            order = stop.wait_for(Option::is_some) => order.ok().and_then(|order| *order),
            never = self.beat() => match never {},
        };
        let grace = order.unwrap_or_default();
        self.draining.store(true, Relaxed);
        let until = monotonic().checked_add(grace);
        for acceptor in acceptors {
            if let Err(error) = acceptor.await {
                tracing::error!(%error, "an accepting task of the endpoint failed");
            }
        }
        self.drain(until).await;
    }

    async fn drain(&self, until: Option<Instant>) {
        let patience = u64::try_from(LAST_REQUESTS.as_millis()).unwrap_or(0);
        loop {
            let now = monotonic();
            self.live(now);
            let over = until.is_none_or(|until| now >= until);
            let leaving = self.registry().take_tasks(self.millis(now), |phase, millis| match phase {
                _ if over => true,
                Phase::Idle => millis >= u64::try_from(DRAIN_TICK.as_millis()).unwrap_or(0),
                Phase::Fresh => millis >= patience,
                Phase::Reading | Phase::Body | Phase::Busy | Phase::Sending | Phase::Blocked => false,
            });
            leaving.iter().for_each(tokio::task::AbortHandle::abort);
            if over {
                // One turn of the runtime drops what was aborted.
                tokio::task::yield_now().await;
                return;
            }
            if self.registry().open() == 0 {
                return;
            }
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// Starts serving a connection, or closes it when there is no place for it.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let Ok(client) = self.gate.enter_client(from) else {
            return self.shard.event(Event::RefusedClient);
        };
        if !self.gate.enter() && !self.evict() {
            self.gate.leave();
            client.into_iter().for_each(|client| self.gate.leave_client(client));
            return self.shard.event(Event::RefusedFull);
        }
        let activity = Arc::new(Activity::fresh(self.millis(monotonic())));
        let slot = self.registry().insert(activity.clone());
        let place = Place { worker: self.clone(), client, slot };
        self.shard.event(Event::Opened);
        let task = tokio::spawn(async move {
            let place = place;
            super::connection::serve(stream, place.worker.clone(), activity).await;
        });
        self.registry().set_task(slot, task.abort_handle());
    }

    /// Closes the connection that has kept us waiting for longest; `false` when all are at work.
    fn evict(&self) -> bool {
        let idlest = self.registry().take_idlest();
        if let Some(idlest) = &idlest {
            idlest.abort();
            self.shard.event(Event::Evicted);
        }
        idlest.is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let worker = &self.worker;
        worker.registry().remove(self.slot);
        if let Some(client) = self.client {
            worker.gate.leave_client(client);
        }
        worker.gate.leave();
        worker.shard.event(Event::Closed);
        if std::thread::panicking() {
            worker.shard.event(Event::Panicked);
        }
    }
}

async fn accept(worker: Arc<Worker>, listener: TcpListener, mut stop: watch::Receiver<Stop>) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(Option::is_some) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                failing = false;
                take(&worker, stream, from).await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                worker.shard.event(Event::AcceptError);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; raise the limit on open files (ulimit -n, LimitNOFILE=) or lower max_connections");
                }
                worker.evict();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Connections that the kernel has accepted would be reset with the listener: their clients are served first.
    let last = async {
        while let Ok(Ok((stream, from))) = tokio::time::timeout(DRAIN_TICK, listener.accept()).await {
            take(&worker, stream, from).await;
        }
    };
    let _ = tokio::time::timeout(LAST_ACCEPTS, last).await;
}

async fn take(worker: &Arc<Worker>, stream: TcpStream, from: SocketAddr) {
    // Linux hands TCP_NODELAY down from the listener; elsewhere it is set for each connection.
    if !cfg!(target_os = "linux") && stream.set_nodelay(true).is_err() {
        return;
    }
    worker.admit(stream, from);
    // An evicted connection leaves at the runtime's next turn; do not accept faster than that.
    tokio::task::consume_budget().await;
}

/// Errors that say nothing about the listener (accept(2) passes on what befell one connection).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
