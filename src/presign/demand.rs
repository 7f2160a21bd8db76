//! Answers that cannot lie ready: signed when first asked for, once, kept while they are fresh, under a budget.

use super::budget::Budget;
use super::decide::{Decision, decide};
use super::issuer::{Issuer, IssuerSettings};
use super::sign::{record, template};
use crate::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Request, Serial, Single, SingleCertId, nonce_extension};
use crate::store::Store;
use crate::time::{Clock, Timestamp};
use arc_swap::ArcSwap;
use bytes::Bytes;
use moka::sync::Cache;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// What one cached answer weighs beside its octets: its key and the cache's own bookkeeping.
const CACHE_OVERHEAD: usize = 400;

/// Signs answers on demand. Its threads end when it is dropped.
pub struct Demand {
    shared: Arc<Shared>,
}

/// Limits of on-demand signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandSettings {
    /// Signatures per interval, at most; requests with nonces get at most half of it.
    pub rate: u32,
    /// The interval, at least a second.
    pub per: Duration,
    /// Requests that may wait for a signature, at most.
    pub queue: usize,
    /// Octets the cache of signed answers may take, at most.
    pub cache: u64,
    /// A request that has waited longer is told `tryLater`.
    pub timeout: Duration,
    /// Signing threads; 0 means half of the cores, at least one.
    pub workers: usize,
}

impl Default for DemandSettings {
    /// A thousand signatures a second cost about two per cent of a core with ECDSA P-256.
    fn default() -> Self {
        DemandSettings {
            rate: 1000,
            per: Duration::from_secs(1),
            queue: 1024,
            cache: 64 << 20,
            timeout: Duration::from_secs(2),
            workers: 0,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A signed response that others may be given too.
    Shared(SignedAnswer),
    /// A signed response that is for this request alone: it echoes a nonce.
    Once(Bytes),
    /// An OCSP error.
    Refused(ErrorStatus),
    /// The budget is spent, or the queue is full.
    Busy,
}

/// A response signed on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAnswer {
    /// The DER of the OCSPResponse.
    pub response: Bytes,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// When it will be signed again if it is asked for.
    pub refresh_at: Timestamp,
    /// What it says of the (first) certificate.
    pub status: CertStatus,
}

/// Counters of on-demand signing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DemandStats {
    /// Signatures made since the start.
    pub signed: u64,
    /// Requests answered from the cache since the start.
    pub cached: u64,
    /// Requests turned away since the start because the budget was spent or the queue full.
    pub shed: u64,
    /// Requests waiting now.
    pub waiting: usize,
    /// Octets in the cache now, its own bookkeeping included.
    pub cache_weight: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    issuer: Arc<str>,
    algorithm: HashAlgorithm,
    serial: Serial,
}

#[derive(Clone)]
struct Cached {
    answer: SignedAnswer,
    settings: Arc<IssuerSettings>,
}

struct Job {
    request: Bytes,
    deadline: Timestamp,
    reply: oneshot::Sender<Outcome>,
}

struct Shared {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: DemandSettings,
    issuers: ArcSwap<HashMap<Arc<str>, Arc<Issuer>>>,
    cache: Cache<CacheKey, Cached>,
    state: Mutex<State>,
    wake: Condvar,
    signed: AtomicU64,
    cached: AtomicU64,
    shed: AtomicU64,
}

struct State {
    jobs: VecDeque<Job>,
    budget: Budget,
    nonces: Budget,
    stop: bool,
}

impl Demand {
    /// Starts the signing threads. Requests are routed by `store`.
    pub fn start(settings: DemandSettings, store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let weigh = |_: &CacheKey, cached: &Cached| {
            u32::try_from(cached.answer.response.len() + CACHE_OVERHEAD).unwrap_or(u32::MAX)
        };
        let shared = Arc::new(Shared {
            store,
            clock,
            settings,
            issuers: ArcSwap::default(),
            cache: Cache::builder().max_capacity(settings.cache).weigher(weigh).build(),
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                budget: Budget::new(settings.rate, settings.per, now),
                nonces: Budget::new(settings.rate.div_ceil(2), settings.per, now),
                stop: false,
            }),
            wake: Condvar::new(),
            signed: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        });
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { (cores / 2).max(1) } else { settings.workers };
        for n in 0..workers {
            let shared = shared.clone();
            if let Err(error) = thread::Builder::new().name(format!("demand-{n}")).spawn(move || shared.work()) {
                tracing::error!(%error, "cannot start an on-demand signing thread");
            }
        }
        Demand { shared }
    }

    /// Replaces the issuers it signs for.
    pub fn set_issuers(&self, issuers: impl IntoIterator<Item = Arc<Issuer>>) {
        let map = issuers.into_iter().map(|issuer| (issuer.slot().id().clone(), issuer)).collect();
        self.shared.issuers.store(Arc::new(map));
    }

    /// Answers a request, which [`Request::parse`] has accepted, from the cache or by signing.
    pub fn answer(&self, request: Bytes) -> impl Future<Output = Outcome> + Send + 'static {
        let now = self.shared.clock.now();
        let ready = match Request::parse(&request) {
            Err(error) => Some(Outcome::Refused(error.status())),
            Ok(parsed) => self.shared.without_signing(&parsed, now),
        };
        let timeout = self.shared.settings.timeout;
        let waiting = match ready {
            Some(outcome) => Err(outcome),
            None => self.shared.enqueue(request, now),
        };
        async move {
            match waiting {
                Err(outcome) => outcome,
                Ok(reply) => match tokio::time::timeout(timeout, reply).await {
                    Ok(Ok(outcome)) => outcome,
                    // The signing threads are gone, or slower than a client waits.
                    Ok(Err(_)) | Err(_) => Outcome::Busy,
                },
            }
        }
    }

    /// Counters of this moment.
    pub fn stats(&self) -> DemandStats {
        let waiting = self.shared.lock().jobs.len();
        DemandStats {
            signed: self.shared.signed.load(Ordering::Relaxed),
            cached: self.shared.cached.load(Ordering::Relaxed),
            shed: self.shared.shed.load(Ordering::Relaxed),
            waiting,
            cache_weight: self.shared.cache.weighted_size(),
        }
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, request: Bytes, now: Timestamp) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        let (reply, receiver) = oneshot::channel();
        let has_nonce = Request::parse(&request).is_ok_and(|parsed| parsed.nonce.is_some());
        let mut state = self.lock();
        let room = state.jobs.len() < self.settings.queue && !state.stop;
        if !room || (has_nonce && !state.nonces.take(now)) || !state.budget.take(now) {
            drop(state);
            self.shed.fetch_add(1, Ordering::Relaxed);
            return Err(Outcome::Busy);
        }
        state.jobs.push_back(Job { request, deadline: now.plus(self.settings.timeout), reply });
        drop(state);
        self.wake.notify_one();
        Ok(receiver)
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let job = loop {
                if state.stop {
                    return;
                }
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            let now = self.clock.now();
            if job.reply.is_closed() || now > job.deadline {
                let _ = job.reply.send(Outcome::Busy);
                continue;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| match Request::parse(&job.request) {
                Ok(request) => self.sign(&request, now),
                Err(error) => Outcome::Refused(error.status()),
            }));
            let _ = job.reply.send(outcome.unwrap_or_else(|_| {
                tracing::error!("signing on demand panicked; the request is told internalError");
                Outcome::Refused(ErrorStatus::InternalError)
            }));
        }
    }

    /// What can be said at once: an error, or an answer that is still fresh and still says what the sources say.
    fn without_signing(&self, request: &Request<'_>, now: Timestamp) -> Option<Outcome> {
        let issuers = self.issuers.load();
        let (issuer, decisions) = match decide(request, &self.store.routes(), &issuers, now) {
            Ok(decided) => decided,
            Err(status) => return Some(Outcome::Refused(status)),
        };
        let cached = self.cache.get(&cache_key(request, &issuer)?)?;
        let decision = decisions.first()?;
        (cached.answer.status == decision.status
            && (cached.answer.this_update..cached.answer.refresh_at).contains(&now)
            && cached.settings == issuer.view().settings)
            .then(|| {
                self.cached.fetch_add(1, Ordering::Relaxed);
                Outcome::Shared(cached.answer)
            })
    }

    fn sign(&self, request: &Request<'_>, now: Timestamp) -> Outcome {
        let issuers = self.issuers.load();
        let (issuer, decisions) = match decide(request, &self.store.routes(), &issuers, now) {
            Ok(decided) => decided,
            Err(status) => return Outcome::Refused(status),
        };
        let nonce = request.nonce.filter(|_| issuer.slot().live().policy.echoes_nonce_of(request));
        let Some(key) = cache_key(request, &issuer).filter(|_| nonce.is_none()) else {
            return match self.sign_now(request, &issuer, &decisions, nonce, now) {
                Ok(answer) if nonce.is_some() => Outcome::Once(answer.response),
                Ok(answer) => Outcome::Shared(answer),
                Err(status) => Outcome::Refused(status),
            };
        };
        if let Some(Outcome::Shared(answer)) = self.without_signing(request, now) {
            return Outcome::Shared(answer); // another request for it was signed while this one waited
        }
        // Whoever comes second for the same answer waits for the first one's signature.
        self.cache.invalidate(&key);
        let settings = issuer.view().settings.clone();
        let signed = self.cache.try_get_with(key, || {
            self.sign_now(request, &issuer, &decisions, None, now).map(|answer| Cached { answer, settings })
        });
        match signed {
            Ok(cached) => Outcome::Shared(cached.answer),
            Err(status) => Outcome::Refused(*status),
        }
    }

    fn sign_now(
        &self,
        request: &Request<'_>,
        issuer: &Issuer,
        decisions: &[Decision],
        nonce: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<SignedAnswer, ErrorStatus> {
        let view = issuer.view();
        let later = ErrorStatus::TryLater;
        let (Some(signer), Some(algorithm)) = (&view.signer, request.first.hash) else { return Err(later) };
        let cadence = view.settings.cadence();
        let newest = decisions.iter().map(Decision::event).max().unwrap_or(Timestamp::EPOCH);
        let dates = cadence.dates(now, signer.life(), newest).map_err(|_| later)?;
        let template = template(issuer, &view, signer, algorithm, &dates);
        let ids: Vec<_> = request.cert_ids().collect();
        let singles: Vec<Single<'_>> = ids
            .iter()
            .zip(decisions)
            .map(|(id, decision)| Single {
                // An answer for everyone writes the CertID as most clients do; one for this request alone as it was asked.
                cert_id: if nonce.is_none() && decisions.len() == 1 {
                    SingleCertId::Serial(&id.serial)
                } else {
                    SingleCertId::Verbatim(id.der)
                },
                status: decision.status,
            })
            .collect();
        let mut extensions = nonce.map(nonce_extension).unwrap_or_default();
        if decisions.iter().any(|decision| decision.extended_revoke) {
            extensions.extend_from_slice(crate::ocsp::EXTENDED_REVOKE);
        }
        let (mut tbs, mut signature, mut response) = (Vec::new(), Vec::new(), Vec::new());
        template.tbs(&singles, &extensions, &mut tbs);
        signer.key().sign_raw(&tbs, &mut signature).map_err(|error| {
            tracing::error!(issuer = issuer.id(), %error, "signing on demand failed");
            ErrorStatus::InternalError
        })?;
        template.response(&singles, &extensions, &signature, &mut response);
        self.signed.fetch_add(1, Ordering::Relaxed);
        record(issuer, &template, singles.len(), if nonce.is_some() { "on demand, with a nonce" } else { "on demand" });
        let place = crate::store::hash(&request.first.serial);
        Ok(SignedAnswer {
            response: Bytes::from(response),
            this_update: dates.this_update,
            next_update: dates.next_update,
            refresh_at: cadence.due(&dates, place),
            status: decisions.first().map_or(CertStatus::Unknown, |decision| decision.status),
        })
    }
}

/// Only answers about one certificate are kept: those about several are too many and too rare.
fn cache_key(request: &Request<'_>, issuer: &Issuer) -> Option<CacheKey> {
    let nonce = issuer.slot().live().policy.echoes_nonce_of(request);
    let algorithm = request.first.hash?;
    (request.count == 1 && !nonce).then(|| CacheKey {
        issuer: issuer.slot().id().clone(),
        algorithm,
        serial: request.first.serial,
    })
}
