//! One connection, driven by whoever uses it: no task of its own, so dropping it closes it.

use super::error::{Cause, Progress, Stage};
use super::{MAX_FIELDS, MAX_HEAD, Reply, Request, tls};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection. It counts as open until it is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    progress: Arc<Mutex<Arc<Progress>>>,
    /// Dropped last: the socket is closed by then.
    _open: Open,
}

/// Counts an open connection.
pub(super) struct Open(Arc<AtomicUsize>);

/// What a connection runs over.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) async fn over(stream: Stream, open: Open, progress: &Arc<Progress>) -> Result<Self, Cause> {
        let shared = Arc::new(Mutex::new(progress.clone()));
        let io = TokioIo::new(Watched { stream, progress: shared.clone() });
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS).handshake(io).await;
        let (sender, driver) = handshake.map_err(|e| what(&e))?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)), progress: shared, _open: open })
    }

    /// Sends a request and reads all of its response.
    pub(super) async fn exchange(
        &mut self,
        request: &Request,
        target: &str,
        host: &str,
        max_body: usize,
        progress: &Arc<Progress>,
    ) -> Result<Reply, Cause> {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress.clone();
        progress.enter(Stage::Sending);
        let mut message = http::Request::new(Full::new(request.body.clone()));
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = target.parse().map_err(|_| Cause::NotHttp(format!("{target} is not a path")))?;
        *message.headers_mut() = request.fields.clone();
        let host = http::HeaderValue::from_str(host).map_err(|_| Cause::NotHttp("the host is not text".to_owned()))?;
        message.headers_mut().insert(http::header::HOST, host);

        let response = self.sender.send_request(message);
        let mut response = driven(&mut self.driver, response).await.map_err(|e| what(&e))?;
        progress.enter(Stage::Reading);
        let body = read(&mut self.driver, response.body_mut(), max_body).await?;
        let (head, _) = response.into_parts();
        Ok(Reply { status: head.status, fields: head.headers, body })
    }

    /// Whether another request can be sent; looks whether the server has closed it.
    pub(super) async fn is_usable(&mut self) -> bool {
        // Lets the event loop look at its sockets: what came while the connection lay idle is not known before that.
        tokio::task::yield_now().await;
        if let Some(driver) = &mut self.driver {
            let ended = poll_fn(|cx| Poll::Ready(driver.as_mut().poll(cx).is_ready())).await;
            if ended {
                self.driver = None;
            }
        }
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl Open {
    pub(super) fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Open(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits for `wanted` while the connection does its work.
async fn driven<T>(driver: &mut Option<Driver>, wanted: impl Future<Output = T>) -> T {
    tokio::pin!(wanted);
    poll_fn(|cx| {
        if let Poll::Ready(done) = wanted.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if let Some(running) = driver
            && running.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
        // The work just done may have been what was waited for.
        wanted.as_mut().poll(cx)
    })
    .await
}

async fn read(driver: &mut Option<Driver>, body: &mut Incoming, limit: usize) -> Result<Vec<u8>, Cause> {
    let too_large = || Cause::TooLarge { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut octets = Vec::new();
    while let Some(frame) = driven(driver, body.frame()).await {
        let frame = frame.map_err(|e| what(&e))?;
        if let Some(data) = frame.data_ref() {
            if octets.len().saturating_add(data.len()) > limit {
                return Err(too_large());
            }
            octets.extend_from_slice(data);
        }
    }
    Ok(octets)
}

/// What an error of hyper means: TLS first, since an alert about our certificate may come this late (RFC 8446 §4.4.2.4).
fn what(error: &hyper::Error) -> Cause {
    let mut source = error.source();
    let mut text = error.to_string();
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return tls::cause(io).unwrap_or_else(|| match io.kind() {
                io::ErrorKind::UnexpectedEof => Cause::Broken("the server closed it".to_owned()),
                _ => Cause::Broken(io.to_string()),
            });
        }
        text = format!("{text}: {e}");
        source = e.source();
    }
    if error.is_parse() { Cause::NotHttp(text) } else { Cause::Broken(text) }
}

/// A stream that notes when the first octet of a request leaves.
struct Watched {
    stream: Stream,
    progress: Arc<Mutex<Arc<Progress>>>,
}

impl Watched {
    fn wrote(&self) {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).sent_something();
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = ready!(match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        })?;
        self.wrote();
        Poll::Ready(Ok(wrote))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
