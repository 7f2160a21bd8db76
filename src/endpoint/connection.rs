//! One connection on the fast path.
//!
//! A connection that waits owns no buffer: octets are read into, and answers are put together in, buffers of the worker.
//! Only what is left of a turn (half a request, answers that the client does not take) is kept here.
//!
//! A request is read in one turn of the event loop and answered in the next: so every connection that has a request is read
//! before the first answer leaves. What an answer takes is fetched from memory meanwhile, and whoever asks over many connections
//! (a proxy, mostly) is woken once for many answers, and not once for each. With one connection it is one more turn, a fraction
//! of a microsecond. Pipelined and conditional requests are answered when they are read, and only sent in the next turn.

use super::fast::{Begun, INPUT_LEN, Missing, Next, Turn, advance, begin, finish};
use super::http::Scratch;
use super::limits::Limits;
use super::service::Service;
use super::socket;
use super::stats::Event;
use super::timer::Deadline;
use super::worker::{Activity, Phase, Worker};
use crate::store::Hint;
use crate::time::{Timestamp, monotonic};
use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client that may be sending still is read after our last answer, and how much. Closing a socket with
/// unread data resets the connection, and a reset can overtake the answer.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// After so many buffers of pipelined requests the other connections of the worker have theirs. An ordinary client sends
/// its next request when it has the answer, and never gets here.
const TURNS: u32 = 2;
/// Octets read at a time. What was read and cannot be answered, because the client does not take the answers before, is kept
/// for each such connection; a request that is longer is read in several goes.
const READ: usize = 8 * 1024;
/// Buffers for requests and answers that a worker keeps between turns, each with room for a few.
const SPARES: usize = 64;
const SPARE_LEN: usize = 4 * 1024;

/// How the fast path ends.
enum End {
    /// The client has gone, or was cut.
    Gone,
    /// We have said that this was the last answer.
    Close { linger: bool },
    /// A body did not come in time.
    Late,
    /// The rest is for hyper.
    HandOver,
}

struct Buffers {
    input: Vec<u8>,
    /// For the answer to one request; empty.
    output: Vec<u8>,
    /// For requests and answers; empty.
    spares: Vec<Vec<u8>>,
    /// What has been begun in this turn.
    hints: Vec<Hint>,
    /// Whether a request has been read since the last answer.
    is_read: bool,
    /// The time of day when the first answer since then was put together. Those that follow have it too: seconds are the finest
    /// that an answer knows, and a turn takes a millisecond where it takes long.
    now: Timestamp,
}

/// What is done in the next turn.
struct Offer {
    started: Instant,
    what: Offered,
}

enum Offered {
    /// A request to be answered.
    Begun(Begun),
    /// So many answers in `unsent`.
    Answers(u32),
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers::new()) };
}

struct Connection<'a> {
    stream: TcpStream,
    worker: &'a Worker,
    activity: &'a Activity,
    /// The beginning of a request.
    carry: Vec<u8>,
    /// Answers that the client has not taken yet, and how much of them it has.
    unsent: Vec<u8>,
    sent: usize,
    /// To be answered or sent at the next turn.
    offer: Option<Offer>,
    next: Next,
    /// When the header section or the body that is being read began.
    began: Option<(Missing, Instant)>,
    deadline: Deadline,
    served: u32,
}

/// Serves a connection to its end.
pub(super) async fn serve(stream: TcpStream, worker: Arc<Worker>, activity: Arc<Activity>) {
    if !worker.fast_path {
        return Box::pin(super::general::serve(stream, Vec::new(), 0, &worker, activity)).await;
    }
    let accepted = monotonic();
    let mut service = worker.service_cache();
    let mut connection = Connection {
        stream,
        worker: &worker,
        activity: &activity,
        carry: Vec::new(),
        unsent: Vec::new(),
        sent: 0,
        offer: None,
        next: Next::Read(Missing::Everything),
        began: Some((Missing::Header, accepted)),
        deadline: Deadline::after(accepted, service.load().limits.header_read),
        served: 0,
    };
    let end = poll_fn(|cx| {
        let service = service.load();
        BUFFERS.with(|cell| match cell.try_borrow_mut() {
            Ok(mut buffers) => connection.poll(cx, &mut buffers, service),
            Err(_) => Poll::Ready(End::Gone), // tasks are polled one after the other
        })
    })
    .await;
    let Connection { stream, carry, served, .. } = connection;
    match end {
        End::Gone | End::Close { linger: false } => {}
        End::Close { linger: true } => linger(stream, b"", &worker, &activity).await,
        End::Late => linger(stream, REQUEST_TIMEOUT, &worker, &activity).await,
        End::HandOver => {
            worker.shard.event(Event::HandedOver);
            // Boxed, so that a connection that never gets here has no room for it.
            Box::pin(super::general::serve(stream, carry, served, &worker, activity)).await;
        }
    }
}

impl Connection<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers, service: &Service) -> Poll<End> {
        if let Some(offer) = self.offer.take()
            && let Err(end) = self.offer(cx, buffers, service, offer)
        {
            return Poll::Ready(end);
        }
        for _ in 0..TURNS {
            if let Err(end) = ready!(self.poll_send(cx, service)) {
                return Poll::Ready(end);
            }
            let filled = match self.next {
                Next::Read(_) => ready!(self.poll_fill(cx, buffers)),
                Next::Write => Ok(self.load_carry(buffers)),
                Next::Close { linger } => return Poll::Ready(End::Close { linger }),
                Next::HandOver => return Poll::Ready(End::HandOver),
            };
            match filled {
                Ok(len) => self.turn(buffers, service, len),
                Err(end) => return Poll::Ready(end),
            }
            if self.offer.is_some() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is left from an earlier turn.
    fn poll_send(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Result<(), End>> {
        while let Some(rest @ [_, ..]) = self.unsent.get(self.sent..) {
            match socket::poll_send(&self.stream, cx, rest) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.sent += n;
                    self.deadline.extend(monotonic(), Limits::time_to_take(n), service.limits.write);
                }
                Poll::Ready(_) => return Poll::Ready(Err(End::Gone)),
                Poll::Pending => {
                    ready!(self.deadline.poll(cx));
                    self.worker.shard.event(Event::WriteTimeout);
                    return Poll::Ready(Err(End::Gone));
                }
            }
        }
        if self.sent > 0 {
            self.unsent = Vec::new();
            self.sent = 0;
            self.settle(monotonic(), service);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads behind what is carried over; gives the number of octets in the input buffer.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buffers: &mut Buffers) -> Poll<Result<usize, End>> {
        let carried = self.load_carry(buffers);
        let end = carried.saturating_add(READ).min(INPUT_LEN);
        let free = buffers.input.get_mut(carried..end).unwrap_or_default();
        match socket::poll_receive(&self.stream, cx, free) {
            Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(carried + n)),
            // The client has closed its side within a body: what that deserves, hyper knows.
            Poll::Ready(Ok(_)) if self.next == Next::Read(Missing::Body) => Poll::Ready(Err(End::HandOver)),
            Poll::Ready(_) => Poll::Ready(Err(End::Gone)),
            Poll::Pending => {
                ready!(self.deadline.poll(cx));
                Poll::Ready(Err(self.timed_out()))
            }
        }
    }

    /// What becomes of a client that does not send: only one whose body is missing is told, as on the general path.
    fn timed_out(&self) -> End {
        if self.began.is_none() {
            return End::Gone;
        }
        self.worker.shard.event(Event::ReadTimeout);
        if self.next == Next::Read(Missing::Body) { End::Late } else { End::Gone }
    }

    fn load_carry(&self, buffers: &mut Buffers) -> usize {
        buffers.input.resize(INPUT_LEN, 0);
        buffers.input.iter_mut().zip(&self.carry).for_each(|(to, from)| *to = *from);
        self.carry.len().min(INPUT_LEN)
    }

    fn circumstances(&self, service: &Service, now: Timestamp) -> Turn {
        Turn {
            now,
            requests_left: service.limits.max_requests_per_connection.saturating_sub(self.served),
            draining: self.worker.draining(),
        }
    }

    /// Begins the request that is the first `len` octets of input, or answers what is complete among them.
    fn turn(&mut self, buffers: &mut Buffers, service: &Service, len: usize) {
        let Buffers { input, spares, hints, is_read, .. } = buffers;
        let input = input.get(..len).unwrap_or_default();
        let started = monotonic();
        *is_read = true;
        let spare = spares.pop().unwrap_or_default();
        let mut output = match Scratch::with(|scratch| begin(service, input, scratch, hints, spare)) {
            Ok(begun) => {
                self.carry = Vec::new();
                return self.put_off(Offer { started, what: Offered::Begun(begun) });
            }
            Err(spare) => spare,
        };
        let turn = self.circumstances(service, service.core.clock.now());
        let progress = Scratch::with(|scratch| advance(service, input, turn, scratch, &mut output));
        self.served = self.served.saturating_add(progress.answered);
        self.next = progress.next;
        let rest = input.get(progress.consumed..).unwrap_or_default();
        if !rest.is_empty() || !self.carry.is_empty() {
            self.carry = rest.to_vec();
        }
        if output.is_empty() {
            buffers.keep(output);
            return self.settle(started, service);
        }
        self.unsent = output;
        self.put_off(Offer { started, what: Offered::Answers(progress.answered) });
    }

    fn put_off(&mut self, offer: Offer) {
        self.began = None;
        // Not to be evicted before the answer has left.
        self.activity.set(Phase::Busy, self.worker.millis(offer.started));
        self.offer = Some(offer);
    }

    /// Answers what was begun, offers the answers to the client once and keeps what it does not take.
    fn offer(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        service: &Service,
        offer: Offer,
    ) -> Result<(), End> {
        if std::mem::take(&mut buffers.is_read) {
            // The first in a turn does for all of them what need not be done for each.
            buffers.now = service.core.clock.now();
            service.core.source.expect(&mut buffers.hints);
            buffers.hints.clear();
        }
        let answered = match offer.what {
            Offered::Answers(answered) => {
                let output = std::mem::take(&mut self.unsent);
                self.send(cx, &output)?;
                buffers.keep(output);
                answered
            }
            Offered::Begun(begun) => {
                let turn = self.circumstances(service, buffers.now);
                buffers.output.clear();
                let output = &mut buffers.output;
                self.next = Scratch::with(|scratch| finish(service, &begun, turn, scratch, output));
                let is_answered = self.next != Next::HandOver;
                let (mut octets, len) = begun.into_input();
                if is_answered {
                    self.served = self.served.saturating_add(1);
                    self.send(cx, output)?;
                    buffers.keep(octets);
                } else {
                    octets.truncate(len);
                    self.carry = octets;
                }
                u32::from(is_answered)
            }
        };
        let ended = monotonic();
        self.worker.shard.latency(ended.duration_since(offer.started), u64::from(answered));
        self.settle(ended, service);
        Ok(())
    }

    /// Offers octets to the client once and keeps what it does not take.
    fn send(&mut self, cx: &mut Context<'_>, output: &[u8]) -> Result<(), End> {
        let taken = match socket::poll_send(&self.stream, cx, output) {
            Poll::Ready(Ok(n)) if n > 0 => n,
            Poll::Ready(_) => return Err(End::Gone),
            Poll::Pending => 0,
        };
        if let Some(rest @ [_, ..]) = output.get(taken..) {
            self.unsent = rest.to_vec();
        }
        Ok(())
    }

    /// Sets the deadline and shows what this connection is at.
    fn settle(&mut self, now: Instant, service: &Service) {
        let limits = &service.limits;
        let phase = match self.next {
            _ if !self.unsent.is_empty() => {
                self.deadline.set(now, limits.write);
                Phase::Blocked
            }
            Next::Read(Missing::Everything) if self.served > 0 => {
                self.began = None;
                self.deadline.set(now, limits.idle);
                Phase::Idle
            }
            Next::Read(missing) => {
                let since = match self.began {
                    Some((same, since)) if same == missing => since,
                    _ => now,
                };
                self.began = Some((missing, since));
                let body = missing == Missing::Body;
                self.deadline.set(since, if body { limits.body_read } else { limits.header_read });
                Phase::Reading
            }
            Next::Write | Next::Close { .. } | Next::HandOver => Phase::Busy,
        };
        self.activity.set(phase, self.worker.millis(now));
    }
}

impl Buffers {
    const fn new() -> Self {
        Buffers {
            input: Vec::new(),
            output: Vec::new(),
            spares: Vec::new(),
            hints: Vec::new(),
            is_read: false,
            now: Timestamp::EPOCH,
        }
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES && buffer.capacity() <= SPARE_LEN {
            buffer.clear();
            self.spares.push(buffer);
        }
    }
}

/// Sends `farewell`, closes our side and reads what the client has still under way, so that it sees our last octet before
/// the end.
pub(super) async fn linger(mut stream: TcpStream, farewell: &[u8], worker: &Worker, activity: &Activity) {
    activity.set(Phase::Idle, worker.millis(monotonic()));
    let drain = async {
        stream.write_all(farewell).await?;
        stream.shutdown().await?;
        let mut sink = vec![0; 4096];
        let mut left = LINGER_OCTETS;
        while let n @ 1.. = stream.read(&mut sink).await? {
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // Whether the client closed, failed or talked on: the connection ends here.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_waits_costs_less_than_a_kibibyte() {
        let size = size_of_future(serve);
        assert!(size < 1_024, "{size}");
    }
}
