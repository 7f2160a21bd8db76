//! Answers that cannot lie ready: signed when first asked for, once, kept while they are fresh, under a budget.

use super::answer::{DemandStats, Outcome, SignedAnswer};
use super::budget::Budget;
use super::decide::{Decision, decide};
use super::early::Early;
use super::issuer::{Issuer, IssuerSettings};
use super::sign::{after, record, template};
use super::timekeeper::Timekeeper;
use super::waiting::Waiting;
use crate::ocsp::{
    CertStatus, ErrorStatus, HashAlgorithm, Request, RequestError, Serial, Single, SingleCertId, nonce_extension,
};
use crate::store::Store;
use crate::time::{Clock, Timestamp, monotonic};
use arc_swap::ArcSwap;
use bytes::Bytes;
use moka::sync::Cache;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CacheKey {
    /// [`Issuer::number`]: a CA that was re-keyed is another one, whatever its id.
    issuer: u64,
    algorithm: HashAlgorithm,
    serial: Serial,
}

#[derive(Clone)]
struct Cached {
    answer: SignedAnswer,
    decision: Decision,
    settings: Arc<IssuerSettings>,
    /// The issuer's when the signing began.
    epoch: u64,
}

/// What a request asks for, as of one moment.
struct Asked {
    issuer: Arc<Issuer>,
    decisions: Vec<Decision>,
    /// Only answers about one certificate are kept: those about several are too many and too rare.
    key: Option<CacheKey>,
    echoes_nonce: bool,
    /// The issuer's, read before its signer and its certificate are.
    epoch: u64,
}

pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    clock: Timekeeper,
    pub(super) settings: DemandSettings,
    pub(super) issuers: ArcSwap<HashMap<Arc<str>, Arc<Issuer>>>,
    cache: Cache<CacheKey, Cached>,
    state: Mutex<State>,
    wake: Condvar,
    /// Somebody has begun to wait.
    expiry: Condvar,
    signed: AtomicU64,
    cached: AtomicU64,
    pub(super) shed: AtomicU64,
    /// Requests that wait for the first look at their issuers' files.
    pub(super) early: AtomicUsize,
}

struct State {
    waiting: Waiting<(CacheKey, Decision, u64), oneshot::Sender<Outcome>>,
    budget: Budget,
    nonces: Budget,
    stop: bool,
}

impl Demand {
    /// Starts the signing threads. Requests are routed by `store`.
    pub fn start(settings: DemandSettings, store: Arc<Store>, clock: impl Into<Timekeeper>) -> Self {
        let clock = clock.into();
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
                waiting: Waiting::new(settings.queue),
                budget: Budget::new(settings.rate, settings.per, now),
                nonces: Budget::new(settings.rate.div_ceil(2), settings.per, now),
                stop: false,
            }),
            wake: Condvar::new(),
            expiry: Condvar::new(),
            signed: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            early: AtomicUsize::new(0),
        });
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { (cores / 2).max(1) } else { settings.workers };
        let spawn = |name: String, run: fn(&Shared)| {
            let shared = shared.clone();
            if let Err(error) = thread::Builder::new().name(name).spawn(move || run(&shared)) {
                tracing::error!(%error, "cannot start a thread of on-demand signing");
            }
        };
        (0..workers).for_each(|n| spawn(format!("demand-{n}"), Shared::work));
        spawn("demand-late".into(), Shared::expire);
        Demand { shared }
    }

    /// Replaces the issuers it signs for.
    pub fn set_issuers(&self, issuers: impl IntoIterator<Item = Arc<Issuer>>) {
        let map = issuers.into_iter().map(|issuer| (issuer.slot().id().clone(), issuer)).collect();
        self.shared.issuers.store(Arc::new(map));
    }

    /// Forgets the answers that were signed for an issuer, and those that are being signed: each is signed anew when it is asked
    /// for from now on.
    pub fn forget(&self, issuer: &str) {
        let issuers = self.shared.issuers.load();
        let Some(issuer) = issuers.get(issuer) else { return };
        issuer.begin_epoch();
        let number = issuer.number();
        for (key, _) in self.shared.cache.iter().filter(|(key, _)| key.issuer == number) {
            self.shared.cache.invalidate(&*key);
        }
    }

    /// Answers a request, which [`Request::parse`] has accepted, from the cache or by signing; after a start, once its issuer's
    /// files have been looked at. The future needs no particular runtime and no timer.
    pub fn answer(&self, request: Bytes) -> impl Future<Output = Outcome> + Send + 'static {
        let asked = Early::of(&self.shared, &request).ok_or_else(|| self.shared.ask(request));
        async move {
            let asked = match asked {
                Ok(early) => early.ask().await,
                Err(asked) => asked,
            };
            match asked {
                Err(outcome) => outcome,
                // The signing threads are gone.
                Ok(reply) => reply.await.unwrap_or(Outcome::Busy),
            }
        }
    }

    /// Counters of this moment.
    pub fn stats(&self) -> DemandStats {
        let waiting = self.shared.lock().waiting.len() + self.shared.early.load(Ordering::Relaxed);
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
        let mut state = self.shared.lock();
        state.stop = true;
        let waiting = std::mem::replace(&mut state.waiting, Waiting::new(0));
        drop(state);
        drop(waiting); // whoever waits is told at once
        self.shared.wake.notify_all();
        self.shared.expiry.notify_all();
    }
}

impl Shared {
    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said at once, or where the answer will come from.
    pub(super) fn ask(&self, request: Bytes) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        let now = self.clock.now();
        let parsed = Request::parse(&request).map_err(|error| Outcome::Refused(error.status()))?;
        let asked = self.look(&parsed, now).map_err(Outcome::Refused)?;
        let held = self.held(&asked, now);
        let has_fresh = held.as_ref().is_some_and(|held| self.is_fresh(held, &asked, now));
        if !asked.echoes_nonce && has_fresh {
            return Err(self.give(held, Outcome::Busy));
        }
        if asked.issuer.view().signer.is_none() {
            return Err(self.give(held, Outcome::Refused(ErrorStatus::TryLater)));
        }
        // What the sources say is part of it: nobody is given what was decided before they had changed.
        let what = asked.key.zip(asked.decisions.first().copied()).filter(|_| !asked.echoes_nonce);
        let flight = what.map(|(key, decision)| (key, decision, asked.epoch));
        let (reply, receiver) = oneshot::channel();
        let began = monotonic();
        let until = began.checked_add(self.settings.timeout).unwrap_or(began);
        let mut state = self.lock();
        let mut has_room = state.waiting.has_room() && !state.stop;
        let reply = match &flight {
            Some(flight) if has_room => state.waiting.join(flight, until, reply),
            _ => Err(reply),
        };
        if let Err(reply) = reply {
            // One signature is one of the budget, however many wait for it.
            has_room = has_room && (!asked.echoes_nonce || state.nonces.take(now)) && state.budget.take(now);
            if has_room {
                state.waiting.begin(flight, request, until, reply);
            }
        }
        let is_first = state.waiting.len() == 1;
        drop(state);
        if !has_room {
            self.shed.fetch_add(1, Ordering::Relaxed);
            return Err(self.give(held, Outcome::Busy));
        }
        self.wake.notify_one();
        if is_first {
            self.expiry.notify_one();
        }
        Ok(receiver)
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let (flight, request) = loop {
                if state.stop {
                    return;
                }
                match state.waiting.take(|reply| !reply.is_closed()) {
                    Some(next) => break next,
                    None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(state);
            let signed = catch_unwind(AssertUnwindSafe(|| self.sign(&request)));
            let signed = signed.unwrap_or_else(|_| {
                tracing::error!("signing on demand panicked; the request is told internalError");
                Outcome::Refused(ErrorStatus::InternalError)
            });
            let outcome = catch_unwind(AssertUnwindSafe(|| self.or_held(&request, signed.clone()))).unwrap_or(signed);
            let replies = self.lock().waiting.finish(flight);
            for reply in replies {
                let _ = reply.send(outcome.clone());
            }
        }
    }

    /// Answers those who have waited for too long: a signer may be slower than a client waits.
    fn expire(&self) {
        let mut state = self.lock();
        while !state.stop {
            let now = monotonic();
            let (expired, next) = state.waiting.expire(now);
            if expired.is_empty() {
                state = match next {
                    None => self.expiry.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(at) => {
                        let waited = self.expiry.wait_timeout(state, at.saturating_duration_since(now));
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            }
            drop(state);
            for (request, reply) in expired {
                let held = catch_unwind(AssertUnwindSafe(|| self.or_held(&request, Outcome::Busy)));
                let _ = reply.send(held.unwrap_or(Outcome::Busy));
            }
            state = self.lock();
        }
    }

    fn look(&self, request: &Request<'_>, now: Timestamp) -> Result<Asked, ErrorStatus> {
        let (issuer, decisions) = decide(request, &self.store.routes(), &self.issuers.load(), now)?;
        let epoch = issuer.epoch();
        let key = request.first.hash.filter(|_| request.count == 1).map(|algorithm| CacheKey {
            issuer: issuer.number(),
            algorithm,
            serial: request.first.serial,
        });
        let echoes_nonce = issuer.slot().live().policy.echoes_nonce_of(request);
        Ok(Asked { issuer, decisions, key, echoes_nonce, epoch })
    }

    /// An answer that has been signed before, says what the sources say, has not run out, has not been forgotten, and was made
    /// under the same rule book: whoever signed it may have been refused under another.
    fn held(&self, asked: &Asked, now: Timestamp) -> Option<Cached> {
        let held = self.cache.get(&asked.key?)?;
        let is_valid = (held.answer.this_update..held.answer.next_update).contains(&now);
        let profile = asked.issuer.view().settings.profile;
        let is_usable = is_valid && held.epoch == asked.epoch && held.settings.profile == profile;
        (is_usable && asked.decisions == [held.decision]).then_some(held)
    }

    /// Whether it need not be signed again.
    fn is_fresh(&self, held: &Cached, asked: &Asked, now: Timestamp) -> bool {
        now < held.answer.refresh_at && held.settings == asked.issuer.view().settings
    }

    /// An answer that is held, or else this.
    fn give(&self, held: Option<Cached>, or: Outcome) -> Outcome {
        held.map_or(or, |held| {
            self.cached.fetch_add(1, Ordering::Relaxed);
            Outcome::Shared(held.answer)
        })
    }

    /// Until it runs out, what is held is better than an error.
    fn or_held(&self, request: &[u8], outcome: Outcome) -> Outcome {
        use ErrorStatus::{InternalError, TryLater};
        if !matches!(outcome, Outcome::Busy | Outcome::Refused(TryLater | InternalError)) {
            return outcome;
        }
        let now = self.clock.now();
        let asked = Request::parse(request).ok().and_then(|request| self.look(&request, now).ok());
        self.give(asked.and_then(|asked| self.held(&asked, now)), outcome)
    }

    fn sign(&self, request: &[u8]) -> Outcome {
        let Ok(now) = self.clock.to_sign() else { return Outcome::Refused(ErrorStatus::TryLater) };
        let signed = Request::parse(request).map_err(RequestError::status).and_then(|request| {
            let asked = self.look(&request, now)?;
            let nonce = request.nonce.filter(|_| asked.echoes_nonce);
            let held = self.held(&asked, now).filter(|held| nonce.is_none() && self.is_fresh(held, &asked, now));
            if held.is_some() {
                return Ok(self.give(held, Outcome::Busy)); // signed for somebody else in the meantime
            }
            let (answer, settings) = self.sign_now(&request, &asked, nonce, now)?;
            if nonce.is_some() {
                return Ok(Outcome::Once(answer.response));
            }
            if let (Some(key), [decision]) = (asked.key, asked.decisions.as_slice()) {
                let (decision, epoch) = (*decision, asked.epoch);
                self.cache.insert(key, Cached { answer: answer.clone(), decision, settings, epoch });
            }
            Ok(Outcome::Shared(answer))
        });
        signed.unwrap_or_else(Outcome::Refused)
    }

    /// Gives with the answer the settings that it was made by: others may be in use by the end of it.
    fn sign_now(
        &self,
        request: &Request<'_>,
        asked: &Asked,
        nonce: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<(SignedAnswer, Arc<IssuerSettings>), ErrorStatus> {
        let Asked { issuer, decisions, .. } = asked;
        let view = issuer.view();
        let later = ErrorStatus::TryLater;
        let (Some(signer), Some(algorithm)) = (&view.signer, request.first.hash) else { return Err(later) };
        let is_provisional = decisions.iter().any(Decision::is_provisional);
        let cadence = view.settings.cadence();
        let cadence = if is_provisional { cadence.provisional() } else { cadence };
        let newest = decisions.iter().map(Decision::event).max().unwrap_or(Timestamp::EPOCH);
        let before = asked.key.and_then(|key| self.cache.get(&key)).map(|held| held.answer.this_update);
        let live = issuer.slot().live();
        let wave = live.wave(algorithm);
        let served = request.cert_ids().filter_map(|id| wave?.this_update(&id.serial)).chain(before);
        let newest = served.filter(|at| *at <= now).map(after).chain([newest]).max().unwrap_or(newest);
        let dates = cadence.dates(now, signer.life(), newest).map_err(|fault| {
            issuer.note_on_demand(Some(fault.to_string()));
            later
        })?;
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
            issuer.note_on_demand(Some(format!("on demand: {error}")));
            ErrorStatus::InternalError
        })?;
        issuer.note_on_demand(None);
        template.response(&singles, &extensions, &signature, &mut response);
        self.signed.fetch_add(1, Ordering::Relaxed);
        record(issuer, &template, singles.len(), if nonce.is_some() { "on demand, with a nonce" } else { "on demand" });
        let place = crate::store::hash(&request.first.serial);
        let answer = SignedAnswer {
            response: Bytes::from(response),
            this_update: dates.this_update,
            next_update: dates.next_update,
            refresh_at: if is_provisional {
                now.plus(dates.next_update.since(now) / 2)
            } else {
                cadence.due(&dates, place)
            },
            status: decisions.first().map_or(CertStatus::Unknown, |decision| decision.status),
            is_provisional,
        };
        Ok((answer, view.settings.clone()))
    }
}
