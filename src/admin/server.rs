//! The admin listener: one thread, few connections, short requests.

use super::{State, pages};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

/// Connections at a time; operators and scrapers are few.
const MAX_CONNECTIONS: usize = 64;
/// From the first octet to the end of the header section.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The life of a connection, whatever it does.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The admin listener could not be started.
#[derive(Debug, thiserror::Error)]
#[error("[admin] listen {address}: {source}; choose another address, or stop what listens there")]
pub struct AdminError {
    /// In words where there is none yet.
    address: String,
    source: io::Error,
}

/// A running admin listener; stops when dropped.
#[derive(Debug)]
pub struct AdminHandle {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminHandle {
    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the admin listener on a thread of its own.
///
/// # Errors
/// If the address cannot be listened on.
pub fn start(address: SocketAddr, state: Arc<State>) -> Result<AdminHandle, AdminError> {
    let listener =
        std::net::TcpListener::bind(address).map_err(|source| AdminError { address: address.to_string(), source })?;
    start_on(listener, state)
}

/// Starts the admin listener on a socket that listens already.
///
/// # Errors
/// If the socket cannot be used.
pub fn start_on(listener: std::net::TcpListener, state: Arc<State>) -> Result<AdminHandle, AdminError> {
    let address = listener.local_addr();
    let name = address.as_ref().map_or_else(|_| "a socket handed over".to_owned(), ToString::to_string);
    let fault = |source| AdminError { address: name.clone(), source };
    listener.set_nonblocking(true).map_err(fault)?;
    let address = address.map_err(fault)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || {
            runtime.block_on(async {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "the admin listener cannot be used"),
                };
                tokio::select! {
                    () = accept(listener, state) => {}
                    _ = stopped => {}
                }
            });
        })
        .map_err(fault)?;
    Ok(AdminHandle { address, stop: Some(stop), thread: Some(thread) })
}

/// A browser says so; a command-line client that takes anything does not.
fn reads_html(headers: &http::HeaderMap) -> bool {
    let mut accepted = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.to_ascii_lowercase().contains("text/html"))
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let response =
                    pages::answer(&state, request.method(), request.uri().path(), reads_html(request.headers()));
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}
