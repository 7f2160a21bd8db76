//! The server: workers on threads of their own, and the handle that stops them.

use super::gate::Gate;
use super::listen::{self, StartError};
use super::service::Service;
use super::stats::Stats;
use super::worker::{Stop, Worker};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How the endpoint is run. The limits are the [`Service`]'s.
#[derive(Debug, Default)]
pub struct Settings {
    /// Addresses to listen on; port 0 leaves the choice to the system. IPv6 addresses take no IPv4 connections: name
    /// `0.0.0.0:80` and `[::]:80` for both.
    pub listen: Vec<SocketAddr>,
    /// Sockets that listen already (socket activation). All workers accept from each.
    pub sockets: Vec<TcpListener>,
    /// Worker threads, each with a listening socket of its own per address; 0 means one per core.
    pub workers: usize,
    /// Leave every request to hyper. The answers are the same and cost about a sixth more; for comparison and for doubt.
    pub no_fast_path: bool,
    /// Listen even where another process, or an older server of this one, listens already, and share the port with it:
    /// for taking over without a gap.
    pub share_port: bool,
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. Dropping it stops the server at once; [`Handle::shutdown`] stops it well.
#[derive(Debug)]
pub struct Handle {
    addresses: Vec<SocketAddr>,
    stats: Stats,
    stop: watch::Sender<Stop>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// The most workers.
    pub const MAX_WORKERS: usize = 256;

    /// Binds all addresses and serves until the handle says stop. Returns once every worker accepts connections.
    ///
    /// # Errors
    /// An address that cannot be bound, by name and with a remedy; nothing is left running then.
    pub fn start(service: &Service, settings: Settings) -> Result<Handle, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if settings.workers == 0 { cores } else { settings.workers }.min(Self::MAX_WORKERS);
        let mut listeners: Vec<Vec<TcpListener>> = (0..count).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        let mut deal = |sockets: Vec<TcpListener>| {
            addresses.extend(sockets.first().and_then(|s| s.local_addr().ok()));
            listeners.iter_mut().zip(sockets).for_each(|(of_worker, socket)| of_worker.push(socket));
        };
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
        let gate = Arc::new(Gate::new(service.limits.max_connections, service.limits.max_connections_per_client));
        let mut handle =
            Handle { addresses, stats: stats.clone(), stop: watch::Sender::new(None), workers: Vec::new() };
        for (index, sockets) in listeners.into_iter().enumerate() {
            let worker = Worker::new(service.for_worker(&stats, index), gate.clone(), !settings.no_fast_path);
            let thread = spawn(index, worker, sockets, handle.stop.subscribe());
            handle.workers.push(thread.map_err(|source| StartError::Worker { index, source })?);
        }
        Ok(handle)
    }
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
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// Tells the workers to stop, and returns at once: no connection is accepted any more, idle ones are closed, a
    /// request in progress has `grace` to be answered. Said again, it changes nothing.
    pub fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|order| order.is_none() && order.replace(grace).is_none());
    }

    /// Stops and waits until the last worker has ended, a little more than `grace` at most. Blocks.
    pub fn shutdown(mut self, grace: Duration) {
        self.stop(grace);
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker of the endpoint panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

fn spawn(
    index: usize,
    worker: Worker,
    sockets: Vec<TcpListener>,
    stop: watch::Receiver<Stop>,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = {
        let _inside = runtime.enter();
        sockets.into_iter().map(tokio::net::TcpListener::from_std).collect::<std::io::Result<Vec<_>>>()?
    };
    std::thread::Builder::new().name(format!("endpoint-{index}")).spawn(move || {
        runtime.block_on(Arc::new(worker).run(listeners, stop));
    })
}
