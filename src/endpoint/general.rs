//! One connection on the general path: hyper, with our deadlines under it and our rules for closing around it.

use super::connection::linger;
use super::fast::has_token;
use super::limits::Limits;
use super::stats::{Event, Shard};
use super::timer::{Deadline, extended};
use super::worker::{Activity, Phase, Worker};
use crate::time::monotonic;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// hyper's buffer beyond the largest head: one that fills both is too large, so that it is seen to be.
const BEYOND_HEAD: usize = 1_024;

/// Serves a connection to its end. `read` is what has been read of it and not answered, `served` how many requests were.
pub(super) async fn serve(
    stream: TcpStream,
    read: Vec<u8>,
    served: u32,
    worker: &Arc<Worker>,
    activity: Arc<Activity>,
) {
    let limits = worker.service().limits.clone();
    let shared =
        Arc::new(Shared { worker: worker.clone(), activity: activity.clone(), served: AtomicU32::new(served) });
    let begun = if read.is_empty() && served > 0 { limits.idle } else { limits.header_read };
    if !read.is_empty() {
        activity.set(Phase::Reading, worker.millis(monotonic()));
    }
    let io = Guarded {
        stream,
        read: Bytes::from(read),
        deadline: Deadline::after(monotonic(), begun),
        limits: limits.clone(),
        write_began: false,
        blocked: None,
        shared: shared.clone(),
    };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .auto_date_header(false)
        .title_case_headers(true)
        .header_read_timeout(None)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_header)
        .max_buf_size(limits.max_header + BEYOND_HEAD)
        .serve_connection(TokioIo::new(io), Served(shared));
    let result = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    match result {
        Err(error) if error.is_parse() => worker.shard.event(Event::HttpError),
        Err(_) => return,
        Ok(()) => {}
    }
    linger(connection.into_parts().io.into_inner().stream, b"", worker, &activity).await;
}

/// What the two sides of hyper, the IO below it and the service above it, know of each other.
struct Shared {
    worker: Arc<Worker>,
    activity: Arc<Activity>,
    served: AtomicU32,
}

impl Shared {
    fn set(&self, phase: Phase) {
        self.activity.set(phase, self.worker.millis(monotonic()));
    }

    fn shard(&self) -> &Shard {
        &self.worker.shard
    }
}

/// The service with the rules about when a connection ends.
struct Served(Arc<Shared>);

impl hyper::service::Service<Request<Incoming>> for Served {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let shared = self.0.clone();
        let service = shared.worker.service();
        shared.set(Phase::Body);
        Box::pin(async move {
            // hyper says nothing about the connection to an HTTP/1.0 client that it is about to leave.
            let leaves = request.version() == Version::HTTP_10 && !keeps_alive(request.headers());
            let mut response = service.answer_noting(request, || shared.set(Phase::Busy)).await;
            let served = shared.served.fetch_add(1, Relaxed).saturating_add(1);
            if leaves || shared.worker.draining() || served >= service.limits.max_requests_per_connection {
                response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            shared.set(Phase::Sending);
            Ok(response)
        })
    }
}

fn keeps_alive(headers: &HeaderMap) -> bool {
    let has = |token| headers.get_all(header::CONNECTION).iter().any(|v| has_token(v.as_bytes(), token));
    has(b"keep-alive") && !has(b"close")
}

/// The socket, with what was read before in front of it, and with deadlines.
struct Guarded {
    stream: TcpStream,
    read: Bytes,
    deadline: Deadline,
    limits: Arc<Limits>,
    /// A write is waiting for the client; the deadline is that of the write.
    write_began: bool,
    blocked: Option<Blocked>,
    shared: Arc<Shared>,
}

/// The client has not taken all that we want to send.
struct Blocked {
    since: Instant,
    /// By when it must have gone on.
    until: Instant,
    /// What the connection is at apart from that.
    behind: Phase,
}

impl Guarded {
    /// Notes that octets have come from the client.
    fn received(&mut self) {
        if matches!(self.shared.activity.phase(), Phase::Fresh | Phase::Idle) {
            self.shared.set(Phase::Reading);
            self.deadline.set(monotonic(), self.limits.header_read);
        }
    }

    /// Notes that octets have gone to the client, or that the client keeps us waiting.
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let phase = self.shared.activity.phase();
        match written {
            Poll::Ready(result) => {
                let now = monotonic();
                self.write_began = false;
                if phase == Phase::Sending {
                    self.shared.set(Phase::Idle);
                }
                if let (Some(blocked), Ok(taken)) = (&mut self.blocked, &result) {
                    blocked.until = extended(blocked.until, now, Limits::time_to_take(*taken), self.limits.write);
                }
                self.deadline.set(now, self.limits.idle);
                Poll::Ready(result)
            }
            Poll::Pending => {
                let now = monotonic();
                let write = self.limits.write;
                let until = now.checked_add(write).unwrap_or(now);
                let blocked = self.blocked.get_or_insert(Blocked { since: now, until, behind: Phase::Idle });
                if phase != Phase::Blocked {
                    // The next request may be at work behind the answer that is not taken.
                    let is_next = matches!(phase, Phase::Body | Phase::Busy);
                    blocked.behind = if is_next { phase } else { Phase::Idle };
                    let worker = &self.shared.worker;
                    self.shared.activity.set(Phase::Blocked, worker.millis(blocked.since));
                }
                if !self.write_began {
                    self.write_began = true;
                    self.deadline.set(now, blocked.until.saturating_duration_since(now));
                }
                self.deadline.poll(cx).map(|()| {
                    self.shared.shard().event(Event::WriteTimeout);
                    Err(io::ErrorKind::TimedOut.into())
                })
            }
        }
    }

    /// Notes that the client has taken all there was.
    fn flushed(&mut self) {
        if let Some(blocked) = self.blocked.take()
            && self.shared.activity.phase() == Phase::Blocked
        {
            self.shared.set(blocked.behind);
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read.is_empty() {
            let n = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read.split_to(n));
            this.received();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            if buf.filled().len() > before {
                this.received();
            }
            return polled;
        }
        // While a request is answered, and while its answer is sent, others watch the time.
        let phase = this.shared.activity.phase();
        if matches!(phase, Phase::Body | Phase::Busy | Phase::Sending) || this.write_began {
            return Poll::Pending;
        }
        this.deadline.poll(cx).map(|()| {
            if phase != Phase::Idle {
                this.shared.shard().event(Event::ReadTimeout);
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        if flushed.is_ready() {
            this.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
