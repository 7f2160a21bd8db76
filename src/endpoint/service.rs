//! The endpoint as a hyper service, to be mounted in one's own server or run by ours.

use super::conditions::Conditions;
use super::http::{Ask, Body, Core, Decision, Scratch, live_reply};
use super::limits::Limits;
use super::mount::Mounts;
use super::reply::Reply;
use super::sample::Sample;
use super::source::{Live, OnDemand, Source};
use super::stats::{Event, MethodKind, NonceResult, Outcome, Shard, Stats};
use crate::ocsp::ErrorStatus;
use crate::time::{Clock, SystemClock, monotonic};
use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Answers OCSP over HTTP. Cheap to clone.
///
/// It is a [`hyper::service::Service`] for any request body, so it can be mounted in any hyper server; [`super::Server`]
/// runs it on its own sockets, with the limits on time that a service cannot set.
#[derive(Clone)]
pub struct Service {
    pub(super) core: Arc<Core>,
    pub(super) limits: Arc<Limits>,
    pub(super) shard: Arc<Shard>,
    stats: Stats,
    /// Only in our own server, whose runtime surely has a timer.
    timed: bool,
}

/// A body could not be read to its end; the connection is closed.
enum BodyLost {
    /// It broke off or its chunks make no sense: 400.
    Broken,
    /// It did not come in time: 408.
    Late,
}

impl Service {
    /// A service that answers from `source`, by the machine's clock, at any path, and signs nothing.
    pub fn new(source: Arc<dyn Source>) -> Self {
        let stats = Stats::new(0);
        Service {
            core: Arc::new(Core {
                source,
                on_demand: None,
                clock: Arc::new(SystemClock),
                mounts: Mounts::default(),
                log_every: 0,
            }),
            limits: Arc::new(Limits::default()),
            shard: stats.shard(0),
            stats,
            timed: false,
        }
    }

    /// Asks `on_demand` for what the source does not hold ready.
    pub fn with_on_demand(self, on_demand: Arc<dyn OnDemand>) -> Self {
        self.with_core(|core| core.on_demand = Some(on_demand))
    }

    /// Takes the time from `clock`.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        self.with_core(|core| core.clock = clock)
    }

    /// Answers GET under these prefixes too.
    pub fn with_mounts(self, mounts: Mounts) -> Self {
        self.with_core(|core| core.mounts = mounts)
    }

    /// Writes a log line (target `request`, level info) for one request in `every`, counted by each worker for itself; 0, the default, for none.
    pub fn with_request_log(self, every: u32) -> Self {
        self.with_core(|core| core.log_every = every)
    }

    /// Sets the limits. Mounted in another server, only those on target and body have an effect.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits.bounded());
        self
    }

    /// The counters of this service and its clones. A [`super::Server`] has its own.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// The same service, counting into `stats` as worker number `worker`.
    pub(super) fn for_worker(&self, stats: &Stats, worker: usize) -> Self {
        Service { shard: stats.shard(worker), stats: stats.clone(), timed: true, ..self.clone() }
    }

    fn with_core(mut self, change: impl FnOnce(&mut Core)) -> Self {
        let mut core = Core {
            source: self.core.source.clone(),
            on_demand: self.core.on_demand.clone(),
            clock: self.core.clock.clone(),
            mounts: self.core.mounts.clone(),
            log_every: self.core.log_every,
        };
        change(&mut core);
        self.core = Arc::new(core);
        self
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: hyper::body::Body,
    {
        self.answer_noting(request, || {}).await
    }

    /// Answers one request; `whole` is told when there is no more of it to wait for.
    pub(super) async fn answer_noting<B>(&self, request: Request<B>, whole: impl FnOnce()) -> Response<Full<Bytes>>
    where
        B: hyper::body::Body,
    {
        let (parts, body) = request.into_parts();
        let method = MethodKind::of(parts.method.as_str());
        let body = self.body(method, body).await;
        whole();
        let body = match body {
            Ok(body) => body,
            Err(lost) => return self.without_body(lost),
        };
        let started = monotonic();
        let now = self.core.clock.now();
        let ask = Ask {
            method,
            target: parts.uri.path_and_query().map_or("", |p| p.as_str()).as_bytes(),
            max_target: self.limits.max_target,
            body: body.as_deref().map_or(Body::TooLong, Body::Whole),
            conditions: conditions(&parts.headers),
        };
        let (decision, signed, sample) = Scratch::with(|scratch| {
            let decision = self.core.decide(&ask, now, scratch, &self.shard);
            let bytes = match decision {
                Decision::Reply(Reply::Signed(_)) => Bytes::copy_from_slice(&scratch.signed),
                Decision::OnDemand { .. } if method != MethodKind::Post => Bytes::copy_from_slice(&scratch.decoded),
                _ => Bytes::new(),
            };
            (decision, bytes, Sample::of(self.core.log_every, &self.shard, &ask, scratch))
        });
        let (reply, signed, outcome) = match decision {
            Decision::Reply(reply) => (reply, signed, Outcome::of(&reply)),
            Decision::OnDemand { hash, nonce } => {
                self.shard.hash(hash);
                let der = if method == MethodKind::Post { body.clone().unwrap_or_default() } else { signed };
                let live = self.sign(der, now).await;
                let (reply, signed) = live_reply(&ask, live, self.core.clock.now(), &self.shard);
                if nonce {
                    self.shard.nonce(NonceResult::of(&reply));
                }
                (reply, signed, Outcome::of_live(&reply))
            }
        };
        let date = Scratch::with(|scratch| scratch.date.at(self.core.clock.now()));
        let mut response = reply.into_response(signed, method == MethodKind::Head, &date);
        if body.is_none() {
            // The rest of the body is not worth reading to keep the connection.
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        self.shard.request(method, outcome);
        if let Some(sample) = sample {
            sample.log(outcome);
        }
        self.shard.latency(monotonic().duration_since(started), 1);
        response
    }

    /// The body of a POST, `None` when it is longer than the limit. That of another method is nobody's concern.
    async fn body<B: hyper::body::Body>(&self, method: MethodKind, body: B) -> Result<Option<Bytes>, BodyLost> {
        if method != MethodKind::Post {
            return Ok(Some(Bytes::new()));
        }
        let max = self.limits.max_body;
        if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Ok(None);
        }
        let whole = collect(body, max);
        if !self.timed {
            return whole.await;
        }
        tokio::time::timeout(self.limits.body_read, whole).await.unwrap_or_else(|_| {
            self.shard.event(Event::ReadTimeout);
            Err(BodyLost::Late)
        })
    }

    fn without_body(&self, lost: BodyLost) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = match lost {
            BodyLost::Late => http::StatusCode::REQUEST_TIMEOUT,
            BodyLost::Broken => {
                self.shard.event(Event::HttpError);
                http::StatusCode::BAD_REQUEST
            }
        };
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        response
    }

    async fn sign(&self, der: Bytes, now: crate::time::Timestamp) -> Live {
        let Some(on_demand) = &self.core.on_demand else { return Live::Refused(ErrorStatus::Unauthorized) };
        let signing = on_demand.sign(der, now);
        if !self.timed {
            return signing.await;
        }
        tokio::time::timeout(self.limits.on_demand, signing).await.unwrap_or_else(|_| {
            self.shard.event(Event::OnDemandTimeout);
            Live::Refused(ErrorStatus::TryLater)
        })
    }
}

impl<B> hyper::service::Service<Request<B>> for Service
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("mounts", &self.core.mounts)
            .field("on_demand", &self.core.on_demand.is_some())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

async fn collect<B: hyper::body::Body>(body: B, max: usize) -> Result<Option<Bytes>, BodyLost> {
    let mut body = std::pin::pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(BodyLost::Broken) };
        if let Ok(data) = frame.into_data() {
            if data.remaining() > max.saturating_sub(whole.len()) {
                return Ok(None);
            }
            bytes::BufMut::put(&mut whole, data);
        }
    }
    Ok(Some(whole.freeze()))
}

fn conditions(headers: &header::HeaderMap) -> Conditions<'_> {
    let mut conditions = Conditions::default();
    headers.get_all(header::IF_NONE_MATCH).iter().for_each(|v| conditions.add_none_match(v.as_bytes()));
    headers.get_all(header::IF_MODIFIED_SINCE).iter().for_each(|v| conditions.add_modified_since(v.as_bytes()));
    conditions
}
