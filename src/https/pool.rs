//! A client for one server and its few connections.

use super::connection::{Connection, Open, Stream};
use super::error::{Cause, Error, Progress, Stage};
use super::{IDLE, Leave, Limits, Reply, Request, Tls, Url, tls};
use crate::time::monotonic;
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// A client for one server.
///
/// Whoever holds a slot has at most one connection, and dials only when no idle one is left: so connections in use and
/// idle ones together are never more than the slots.
pub struct Client {
    url: Url,
    tls: Option<Tls>,
    limits: Limits,
    slots: Semaphore,
    idle: Arc<Mutex<Vec<Idle>>>,
    open: Arc<AtomicUsize>,
}

struct Idle {
    connection: Connection,
    since: Instant,
    config: Option<Arc<ClientConfig>>,
}

impl Client {
    /// A client for the server of `url`; `tls` is needed for `https` and not used otherwise.
    pub fn new(url: Url, tls: Option<Tls>, limits: Limits) -> Self {
        let slots = Semaphore::new(limits.max_connections.clamp(1, Semaphore::MAX_PERMITS));
        Client { url, tls, limits, slots, idle: Arc::default(), open: Arc::default() }
    }

    /// The server's host and port.
    pub fn server(&self) -> &str {
        &self.url.authority
    }

    /// How TLS is spoken, if it is.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Connections open now, idle ones included.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most connections there may be.
    pub fn max_connections(&self) -> usize {
        self.limits.max_connections.max(1)
    }

    /// Sends one request, once, and reads its response; by `deadline` at the latest.
    pub async fn exchange(&self, request: &Request, deadline: Instant) -> Result<Reply, Error> {
        self.exchange_if(request, &Leave::default(), deadline).await
    }

    /// The same, if it may still leave once there is a connection for it.
    pub async fn exchange_if(&self, request: &Request, leave: &Leave, deadline: Instant) -> Result<Reply, Error> {
        let progress = Arc::new(Progress::default());
        let attempt = Box::pin(self.attempt(request, leave, &progress));
        let cause = match timeout_at(tokio::time::Instant::from_std(deadline), attempt).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(cause)) => cause,
            Err(_) => Cause::TimedOut,
        };
        Err(progress.error(self.server(), cause))
    }

    async fn attempt(&self, request: &Request, leave: &Leave, progress: &Arc<Progress>) -> Result<Reply, Cause> {
        // What can be said without asking anyone is said first, even when every connection is taken.
        self.config()?;
        let slot = self.slots.acquire().await;
        let config = self.config()?;
        let target = format!("{}{}", self.url.path, request.path);
        loop {
            let (mut connection, reused) = match self.take_idle(config.as_ref()).await {
                Some(connection) => (connection, true),
                None => (self.dial(config.as_ref(), progress).await?, false),
            };
            if !leave.take() {
                return Err(Cause::Withdrawn);
            }
            let exchange = connection.exchange(request, &target, self.server(), self.limits.max_body, progress).await;
            match exchange {
                // The server closed it while it was idle, and knows nothing of this request.
                Err(Cause::Broken(_)) if reused && !progress.sent() => leave.put_back(),
                Err(cause) => return Err(cause),
                Ok(reply) => {
                    if connection.is_usable().await {
                        self.keep(connection, config);
                    }
                    // Not before the connection is put back or gone.
                    drop(slot);
                    return Ok(reply);
                }
            }
        }
    }

    fn config(&self) -> Result<Option<Arc<ClientConfig>>, Cause> {
        match (&self.tls, self.url.secure) {
            (Some(tls), true) => tls.config().map(Some),
            (None, true) => Err(Cause::Trust("no roots are configured for an https:// URL".to_owned())),
            (_, false) => Ok(None),
        }
    }

    /// One that still stands and was made with the roots and the certificate of now.
    async fn take_idle(&self, config: Option<&Arc<ClientConfig>>) -> Option<Connection> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let Idle { mut connection, since, config: made_with } = idle;
            let is_current = made_with.as_ref().map(Arc::as_ptr) == config.map(Arc::as_ptr);
            if is_current && since.elapsed() < IDLE && connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// Puts a connection aside for the next request, and sees to it that it does not stay longer than [`IDLE`].
    fn keep(&self, connection: Connection, config: Option<Arc<ClientConfig>>) {
        let idle = Idle { connection, since: monotonic(), config };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        let pool = Arc::downgrade(&self.idle);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            if let Some(pool) = pool.upgrade() {
                pool.lock().unwrap_or_else(PoisonError::into_inner).retain(|idle| idle.since.elapsed() < IDLE);
            }
        });
    }

    async fn dial(&self, config: Option<&Arc<ClientConfig>>, progress: &Arc<Progress>) -> Result<Connection, Cause> {
        progress.enter(Stage::Connecting);
        let open = Open::count(&self.open);
        let stream = timeout(self.limits.connect_timeout, async {
            let tcp = self.connect().await?;
            let Some(config) = config else { return Ok(Stream::Plain(tcp)) };
            progress.enter(Stage::Handshake);
            let name = ServerName::try_from(self.url.host.clone());
            let name = name
                .map_err(|_| Cause::NotTrusted(format!("{:?} is not a name a certificate can have", self.url.host)))?;
            let handshake = TlsConnector::from(config.clone()).connect(name, tcp).await;
            let stream = handshake.map_err(|e| tls::cause(&e).unwrap_or_else(|| Cause::Tls(e.to_string())))?;
            Ok(Stream::Tls(Box::new(stream)))
        });
        let stream = stream.await.map_err(|_| Cause::TimedOut)??;
        Connection::over(stream, open, progress).await
    }

    async fn connect(&self) -> Result<TcpStream, Cause> {
        let unreachable = |e: std::io::Error| Cause::Unreachable(e.to_string());
        let mut last = Cause::Unreachable("the name has no address".to_owned());
        for address in lookup_host((self.url.host.as_str(), self.url.port)).await.map_err(unreachable)? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // One small request at a time: nothing to wait for. A socket without it works too.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(e) => last = unreachable(e),
            }
        }
        Err(last)
    }
}
