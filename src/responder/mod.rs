//! The responder as a whole, to be run by the binary or embedded in another program.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
//!
//! let responder = Responder::start(ResponderSettings::default());
//! let issuer = IssuerSpec::from_files("my-ca", "ca.pem".as_ref())?
//!     .with_signer("ocsp.pem", "ocsp.key")
//!     .with_index("index.txt");
//! responder.set_issuers(vec![issuer]);
//! let service = responder.service(); // a hyper service; or hand it to `endpoint::Server::start`
//! # let _ = service;
//! # Ok(())
//! # }
//! ```

mod attended;
mod files;
mod guard;
mod known;
mod managed;
mod pass;
mod report;
mod serve;
mod spec;
mod statuses;
mod trial;

pub use report::{IssuerReport, SignerReport, SourceSummary};
pub use spec::{IssuerSpec, SignerFiles, SignerOrigin};

use crate::endpoint;
use crate::presign::{
    Demand, DemandSettings, DemandStats, LagStats, PresignSettings, PresignStats, Presigner, Timekeeper,
};
use crate::signer::SigningKey;
use crate::status;
use crate::store::{Routes, Store};
use crate::time::{Clock, SystemClock, Timestamp, monotonic};
use crate::x509::Certificate;
use arc_swap::ArcSwap;
use managed::{Load, Managed, Reader};
use pass::{Pace, Pass};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use trial::Bench;

/// How often files are looked at. A revocation is to be served within two seconds of its appearance in a file: half a second
/// of that is spent here, the rest reads and signs.
const POLL: Duration = Duration::from_millis(500);

/// Quiet looks at the files, after something was read or signed, at each of which memory is given back.
const SETTLE_PASSES: u32 = 8;

/// How a responder works.
#[derive(Clone)]
pub struct ResponderSettings {
    /// Where signed segments are kept for a warm start; nowhere if `None`.
    pub state_dir: Option<PathBuf>,
    /// Signing threads while nothing is served yet; 0 means one per core.
    pub presign_workers: usize,
    /// Niceness of the background signing thread, 0 to 19.
    pub background_nice: i32,
    /// Limits of on-demand signing.
    pub demand: DemandSettings,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for ResponderSettings {
    fn default() -> Self {
        ResponderSettings {
            state_dir: None,
            presign_workers: 0,
            background_nice: 10,
            demand: DemandSettings::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Signs ahead, keeps what is signed fresh, follows its files, and answers. Cheap to clone; the last clone stops its threads.
#[derive(Clone)]
pub struct Responder {
    running: Arc<Running>,
}

struct Running {
    inner: Arc<Inner>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Inner {
    store: Arc<Store>,
    presigner: Arc<Presigner>,
    demand: Demand,
    clock: Timekeeper,
    /// Held for moments, and never while a file is read.
    issuers: Mutex<Vec<Arc<Managed>>>,
    reader: Arc<Reader>,
    pace: Pace,
    /// One look at the files at a time.
    looking: Mutex<()>,
    reports: ArcSwap<Vec<IssuerReport>>,
    benches: ArcSwap<HashMap<String, Bench>>,
    started: Instant,
    /// By the time of day and by the monotonic clock.
    last_pass: ArcSwap<Option<(Timestamp, Instant)>>,
    unsettled: AtomicU32,
    signed_before: AtomicU64,
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Responder {
    /// Starts the threads. Nothing is served until [`Responder::set_issuers`] is called.
    pub fn start(settings: ResponderSettings) -> Self {
        Self::start_with(settings, Box::new(status::load_usable), Pace::default())
    }

    fn start_with(settings: ResponderSettings, load: Box<Load>, pace: Pace) -> Self {
        let store = Arc::new(Store::default());
        let presign = PresignSettings {
            workers: settings.presign_workers,
            background_nice: settings.background_nice,
            segments: settings.state_dir.map(|dir| dir.join("segments")),
        };
        let clock = Timekeeper::new(settings.clock);
        let presigner = Arc::new(Presigner::start(&presign, clock.clone()));
        let reader = Reader { presigner: Arc::downgrade(&presigner), load, at_work: Arc::default() };
        let inner = Arc::new(Inner {
            presigner,
            demand: Demand::start(settings.demand, store.clone(), clock.clone()),
            store,
            clock,
            issuers: Mutex::default(),
            reader: Arc::new(reader),
            pace,
            looking: Mutex::default(),
            reports: ArcSwap::default(),
            benches: ArcSwap::default(),
            started: monotonic(),
            last_pass: ArcSwap::default(),
            unsettled: AtomicU32::new(0),
            signed_before: AtomicU64::new(0),
            stop: Mutex::new(false),
            wake: Condvar::new(),
        });
        let watching = inner.clone();
        let watcher = thread::Builder::new().name("watch".into()).spawn(move || watching.watch());
        let watcher =
            watcher.map_err(|error| tracing::error!(%error, "cannot start the thread that watches files")).ok();
        Responder { running: Arc::new(Running { inner, watcher: Mutex::new(watcher) }) }
    }

    /// Replaces the issuers, in the order in which they answer where two know one serial. Those that stay keep what is signed
    /// for them; those that are left out are answered `unauthorized` from this moment. Signers and statuses are read before
    /// this returns, but for those whose files keep their reader waiting.
    pub fn set_issuers(&self, specs: Vec<IssuerSpec>) {
        self.running.inner.adopt(specs);
        self.running.inner.poll();
    }

    /// As [`Responder::set_issuers`], without waiting for signers and statuses to be read: what an earlier process signed is
    /// served at once, the rest follows in the background.
    pub fn adopt_issuers(&self, specs: Vec<IssuerSpec>) {
        self.running.inner.adopt(specs);
        self.running.inner.wake.notify_all();
    }

    /// Looks at all files now instead of within half a second.
    pub fn poll(&self) {
        self.running.inner.poll();
    }

    /// What the endpoint asks, to be mounted in a hyper server or given to [`endpoint::Server::start`].
    pub fn service(&self) -> endpoint::Service {
        endpoint::Service::new(self.running.inner.clone())
            .with_on_demand(self.running.inner.clone())
            .with_clock(Arc::new(self.running.inner.clock.clone()))
    }

    /// The store, for lookups without HTTP.
    pub fn store(&self) -> &Arc<Store> {
        &self.running.inner.store
    }

    /// Each issuer's signer, sources and faults, as of the last look at its files.
    pub fn reports(&self) -> Arc<Vec<IssuerReport>> {
        self.running.inner.reports.load_full()
    }

    /// Tries out a signer that was ordered for an issuer: everything a client and the issuer's profile ask of it at `now` (its
    /// notBefore, where that is later), and a response signed by it and verified as a strict client does. Nothing is taken
    /// into use. Waits for nobody; any thread may call it.
    ///
    /// # Errors
    /// Everything that is wrong, with the clauses offended, in one line.
    pub fn try_out(
        &self,
        issuer: &str,
        certificate: &Certificate,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<(), String> {
        match self.running.inner.benches.load().get(issuer) {
            Some(bench) => bench.try_out(certificate, key, now),
            None => Err(format!("issuer {issuer} is not served here, so that nothing can be signed for it")),
        }
    }

    /// Has everything that is served for an issuer signed again now, by the signer in use, as after the key of the one before
    /// it was exposed. What is held is served until then. Gives how many slices are due; `None`: there is no such issuer.
    pub fn resign(&self, issuer: &str) -> Option<usize> {
        let inner = &self.running.inner;
        let slices = inner.presigner.resign(&inner.benches.load().get(issuer)?.issuer);
        inner.demand.forget(issuer);
        Some(slices)
    }

    /// Counters of signing ahead.
    pub fn presign_stats(&self) -> PresignStats {
        self.running.inner.presigner.stats()
    }

    /// How long revocations took from the look before the one that saw them in a file until they were served.
    pub fn revocation_lag(&self) -> LagStats {
        self.running.inner.presigner.revocation_lag()
    }

    /// Counters of signing on demand.
    pub fn demand_stats(&self) -> DemandStats {
        self.running.inner.demand.stats()
    }

    /// When all files were last looked at; `None` before the first time.
    pub fn last_pass(&self) -> Option<Timestamp> {
        self.running.inner.last_pass.load().map(|(at, _)| at)
    }

    /// How long ago that was, whatever the time of day did meanwhile; since the start, before the first time.
    pub fn since_last_pass(&self) -> Duration {
        let inner = &self.running.inner;
        let from = inner.last_pass.load().map_or(inner.started, |(_, at)| at);
        monotonic().saturating_duration_since(from)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.inner.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.wake.notify_all();
        if let Some(watcher) = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = watcher.join();
        }
    }
}

impl Inner {
    /// It is replaced as a whole, and each issuer's work is behind a panic boundary of its own.
    fn issuers(&self) -> MutexGuard<'_, Vec<Arc<Managed>>> {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for nobody who reads a file of an issuer: whoever calls this may have signals to look after.
    fn adopt(&self, specs: Vec<IssuerSpec>) {
        let mut issuers = self.issuers();
        let mut before: HashMap<String, Arc<Managed>> =
            issuers.drain(..).map(|managed| (managed.spec().id.clone(), managed)).collect();
        for spec in specs {
            let managed = match before.remove(&spec.id) {
                Some(managed) if managed.is_same_ca(&spec) => managed.succeeded_by(spec, &self.presigner),
                other => {
                    // Another CA under the same id: nothing of the one before it may be served.
                    if let Some(managed) = other {
                        managed.end();
                    }
                    self.presigner.remove(&spec.id);
                    Arc::new(Managed::new(spec, &self.presigner))
                }
            };
            issuers.push(managed);
        }
        for (id, managed) in before {
            managed.end();
            self.presigner.remove(&id);
        }
        self.presigner.sweep();
        // What a warm start brought back is served before any source is read.
        self.store.set_routes(Routes::new(issuers.iter().map(|managed| managed.issuer().slot().clone()).collect()));
        let benches = issuers.iter().map(|managed| (managed.spec().id.clone(), managed.bench()));
        self.benches.store(Arc::new(benches.collect()));
        self.demand.set_issuers(issuers.iter().map(|managed| managed.issuer().clone()));
        self.publish_reports(&issuers);
    }

    /// Looks at every issuer's files and takes in what changed. One issuer's trouble is its own. True if one held this up.
    fn poll(&self) -> bool {
        let _one_at_a_time = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let issuers = self.issuers().clone();
        let now = self.clock.now();
        let must_stop = || *self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = Pass::new(issuers.clone(), self.reader.clone(), now).run(&self.pace, must_stop);
        for managed in &issuers {
            managed.tell_if_late(self.pace.late);
            // Nobody waits for files that hang, or that could not be looked at.
            managed.issuer().mark_looked_at();
        }
        let Some(looked) = looked else {
            self.publish_reports(&self.issuers());
            return false;
        };
        if !issuers.is_empty() {
            self.presigner.mark_begun();
        }
        let signed = self.presigner.signed();
        let has_signed = self.signed_before.swap(signed, Ordering::Relaxed) != signed;
        self.settle(looked.has_read || has_signed);
        self.publish_reports(&self.issuers());
        self.last_pass.store(Arc::new(Some((now, monotonic()))));
        looked.was_held_up
    }

    /// Gives back the memory that reading and signing took. mimalloc returns what was freed to the system a second later, but only
    /// when a thread with a heap of its own ends or much more is asked for, which may be a day later: so such a thread is started.
    fn settle(&self, read: bool) {
        if read {
            self.unsettled.store(SETTLE_PASSES, Ordering::Relaxed);
        } else if self.unsettled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let thread = thread::Builder::new().name("settle".into());
            let _ = thread.spawn(|| drop(std::hint::black_box(Box::new(0_u8)))).map(JoinHandle::join);
        }
    }

    fn publish_reports(&self, issuers: &[Arc<Managed>]) {
        let now = self.clock.now();
        let reports = issuers.iter().map(|managed| managed.report(&self.presigner, self.pace.late, now)).collect();
        self.reports.store(Arc::new(reports));
    }

    fn watch(&self) {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pause = POLL;
        while !*stop {
            stop = self.wake.wait_timeout(stop, pause).unwrap_or_else(PoisonError::into_inner).0;
            if !*stop {
                drop(stop);
                let began = monotonic();
                let was_held_up = self.poll();
                // With tens of thousands of files a look takes its time; it must not take a whole core. Waiting takes none.
                pause = if was_held_up { POLL } else { POLL.max(began.elapsed()) };
                stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
