//! The server: workers on threads of their own, and the handle that stops them.

use super::gate::Gate;
use super::listen::{self, StartError};
use super::pulse::Pulse;
use super::service::Service;
use super::stats::Stats;
use super::worker::{Stop, Worker};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// File descriptors left for everything but connections: segments, status files, the admin listener, runtimes.
const OTHER_FILES: usize = 256;

/// How the endpoint is run. The limits are the [`Service`]'s.
#[derive(Debug)]
pub struct Settings {
    /// Addresses to listen on; port 0 leaves the choice to the system. IPv6 addresses take no IPv4 connections: name
    /// `0.0.0.0:80` and `[::]:80` for both.
    pub listen: Vec<SocketAddr>,
    /// Addresses that were bound before, beside those in `listen`. For as many workers as are started.
    pub bound: Bound,
    /// Sockets that listen already (socket activation). All workers accept from each.
    pub sockets: Vec<TcpListener>,
    /// Worker threads, each with a listening socket of its own per address; 0 means one per core.
    pub workers: usize,
    /// Answer plain requests without hyper. The answers are the same and cost about a sixth less; turn it off for
    /// comparison, and in doubt.
    pub fast_path: bool,
    /// Listen even where another process, or an older server of this one, listens already, and share the port with it:
    /// for taking over without a gap.
    pub share_port: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: Vec::new(),
            bound: Bound::default(),
            sockets: Vec::new(),
            workers: 0,
            fast_path: true,
            share_port: false,
        }
    }
}

/// Sockets that listen, of each address one for each worker: for whoever binds with a privilege and gives it up before the
/// workers are started.
#[derive(Debug, Default)]
pub struct Bound(Vec<Vec<TcpListener>>);

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping it stops the server at once; [`Handle::shutdown`] stops it well.
pub struct Handle {
    addresses: Vec<SocketAddr>,
    stats: Stats,
    stop: watch::Sender<Stop>,
    gate: Arc<Gate>,
    workers: Vec<Arc<Worker>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// The most workers.
    pub const MAX_WORKERS: usize = 256;

    /// Binds all addresses for so many workers (0: one per core). Connections wait in the kernel until [`Server::start`].
    ///
    /// # Errors
    /// An address that cannot be bound, by name and with a remedy.
    pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Bound, StartError> {
        let count = count(workers);
        listen.iter().map(|address| listen::bind(*address, count, false)).collect::<Result<_, _>>().map(Bound)
    }

    /// Binds all addresses and serves until the handle says stop. Returns once every worker accepts connections.
    ///
    /// # Errors
    /// An address that cannot be bound, by name and with a remedy; nothing is left running then.
    pub fn start(service: &Service, settings: Settings) -> Result<Handle, StartError> {
        let count = count(settings.workers);
        let mut listeners: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        let mut deal = |sockets: Vec<TcpListener>| {
            addresses.extend(sockets.first().and_then(|s| s.local_addr().ok()));
            listeners.iter_mut().zip(sockets).for_each(|(of_worker, socket)| of_worker.push(socket));
        };
        settings.bound.0.into_iter().for_each(&mut deal);
        for address in &settings.listen {
            deal(listen::bind(*address, count, settings.share_port)?);
        }
        for (index, socket) in settings.sockets.iter().enumerate() {
            deal(listen::share(socket, count).map_err(|source| StartError::Socket { index, source })?);
        }
        if addresses.is_empty() {
            return Err(StartError::Nowhere);
        }
        let stats = Stats::new(count);
        let mut handle = Handle {
            gate: Arc::new(Gate::new(places(service, count, &addresses), service.limits.max_connections_per_client)),
            addresses,
            stats: stats.clone(),
            stop: watch::Sender::new(None),
            workers: Vec::new(),
            threads: Vec::new(),
        };
        for (index, sockets) in listeners.into_iter().enumerate() {
            let service = service.for_worker(&stats, index);
            let worker = Arc::new(Worker::new(service, handle.gate.clone(), settings.fast_path));
            let thread = spawn(index, worker.clone(), sockets, handle.stop.subscribe());
            handle.threads.push(thread.map_err(|source| StartError::Worker { index, source })?);
            handle.workers.push(worker);
        }
        Ok(handle)
    }
}

/// How many workers that is.
fn count(workers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if workers == 0 { cores } else { workers }.min(Server::MAX_WORKERS)
}

impl Handle {
    /// The addresses listened on, in the order of the settings, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counters of this server.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether every worker is at work. A worker never ends before it is told to.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Whether every worker is at work and its event loop has had a turn within `within`. Workers give a sign of life every
    /// second, so less than a few seconds says nothing.
    pub fn is_responsive(&self, within: Duration) -> bool {
        self.is_running() && self.pulse().fault(within).is_none()
    }

    /// The signs of life of the workers, for those who watch them.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.workers.clone().into())
    }

    /// Lets `service` answer every request that is read from now on, with its mounts and limits, for a new configuration.
    /// No connection is closed; deadlines that run already are kept. Counters go on.
    pub fn replace(&self, service: &Service) {
        let places = places(service, self.workers.len(), &self.addresses);
        self.gate.resize(places, service.limits.max_connections_per_client);
        for (index, worker) in self.workers.iter().enumerate() {
            worker.set_service(service.for_worker(&self.stats, index));
        }
    }

    /// Tells the workers to stop, and returns at once: no connection is accepted any more, idle ones are closed, a
    /// request in progress has `grace` to be answered. Said again, it changes nothing.
    pub fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|order| order.is_none() && order.replace(grace).is_none());
    }

    /// Stops and waits until the last worker has ended, a little more than `grace` at most. Blocks.
    pub fn shutdown(mut self, grace: Duration) {
        self.stop(grace);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker of the endpoint panicked");
            }
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addresses", &self.addresses).field("workers", &self.threads.len()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// How many connections there can be: as many as `service` wants, or fewer where the limit on open files cannot be raised
/// so far.
fn places(service: &Service, workers: usize, addresses: &[SocketAddr]) -> usize {
    let wanted = service.limits.max_connections;
    let others = workers.saturating_mul(addresses.len()).saturating_add(OTHER_FILES);
    let possible = listen::open_files(wanted.saturating_add(others)).saturating_sub(others).max(1);
    if possible < wanted {
        tracing::warn!(
            max_connections = wanted,
            possible,
            "the limit on open files allows fewer connections than configured; raise it (ulimit -Hn, LimitNOFILE=)"
        );
    }
    possible.min(wanted)
}

fn spawn(
    index: usize,
    worker: Arc<Worker>,
    sockets: Vec<TcpListener>,
    stop: watch::Receiver<Stop>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = {
        let _inside = runtime.enter();
        sockets.into_iter().map(tokio::net::TcpListener::from_std).collect::<std::io::Result<Vec<_>>>()?
    };
    std::thread::Builder::new().name(format!("endpoint-{index}")).spawn(move || {
        runtime.block_on(worker.run(listeners, stop));
    })
}
