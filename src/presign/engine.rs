//! The workers that sign: all cores while nothing is there yet, in the background afterwards, revocations first.

use super::issuer::{ActiveSigner, Issuer, IssuerSettings};
use super::lag::Lag;
use super::queue::Queue;
use super::table::Table;
use super::timekeeper::Timekeeper;
use super::urgent::{Urgency, Urgent};
use super::warm;
use crate::ocsp::{HashAlgorithm, Serial};
use crate::store::{Part, RefusedFile, Segment, SegmentDir, Wave};
use crate::time::{Clock, Timestamp};
use crate::x509::Certificate;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Changes signed together in one overlay segment: at most a few tens of milliseconds of work.
pub(super) const CHANGES_PER_SEGMENT: usize = 1024;
/// How long the segments of an issuer that has been taken out are kept, should it come back.
const KEEP_LEFT_BEHIND: Duration = Duration::from_secs(30 * 86_400);
/// A signer that comes into use so soon after everything was to be signed again was meant to sign it: a look at its files, or its
/// skew, was still to come.
const RESIGN_AGAIN: Duration = Duration::from_secs(600);
/// One of so many threads stays when everything has been signed once.
const BACKGROUND_SHARE: usize = 4;

/// Signs ahead and keeps what is signed fresh. Stops, and waits for its workers, when dropped.
pub struct Presigner {
    pub(super) shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// How a presigner works.
#[derive(Clone, Debug)]
pub struct PresignSettings {
    /// Threads while nothing is served yet; 0 means one per core. A quarter of them, at least one, go on after that.
    pub workers: usize,
    /// Niceness of the threads that go on, 0 to 19.
    pub background_nice: i32,
    /// Where segments are kept for a warm start; nowhere if `None`.
    pub segments: Option<PathBuf>,
}

/// Counters of a presigner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresignStats {
    /// Signatures made since the start.
    pub signed: u64,
    /// Slices and changes that are due now.
    pub backlog: usize,
    /// Slices that have never been signed.
    pub missing: usize,
    /// Slices there are.
    pub slices: usize,
    /// Attempts that failed since the start.
    pub failures: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SliceKey {
    pub(super) issuer: Arc<str>,
    pub(super) algorithm: HashAlgorithm,
    pub(super) bits: u8,
    pub(super) index: u32,
}

/// Serials to be signed at once, with the status that the sources give them by then.
pub(super) struct Changes {
    pub(super) issuer: Arc<Issuer>,
    pub(super) algorithm: HashAlgorithm,
    pub(super) urgency: Urgency,
    pub(super) serials: Vec<Serial>,
}

impl Changes {
    pub(super) fn group(&self) -> (Arc<str>, HashAlgorithm) {
        (self.issuer.slot().id().clone(), self.algorithm)
    }
}

pub(super) struct Shared {
    pub(super) clock: Timekeeper,
    pub(super) segments: Option<SegmentDir>,
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
    pub(super) signed: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) lag: Lag,
    pub(super) busy: AtomicUsize,
    /// Set under the lock, so that no worker misses it; read without.
    pub(super) stopping: AtomicBool,
    /// Segments cannot be written; told once, until one can.
    pub(super) disk_fault: AtomicBool,
    /// Held by whoever changes what is held back.
    pub(super) holding: Mutex<()>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) urgent: Urgent<(Arc<str>, HashAlgorithm), Serial>,
    pub(super) queue: Queue<SliceKey>,
    pub(super) issuers: HashMap<Arc<str>, Held>,
    /// Slices that a thread is signing, and whether they have become due again meanwhile. Two threads on one slice would
    /// write its file at once.
    pub(super) running: HashMap<SliceKey, bool>,
    /// The latest time seen.
    pub(super) seen: Timestamp,
    /// The clock is not believed.
    pub(super) is_on_hold: bool,
    /// Every issuer's files have been looked at once.
    pub(super) has_begun: bool,
}

pub(super) struct Held {
    pub(super) issuer: Arc<Issuer>,
    /// Overlay files, by sequence, to be removed once absorbed.
    pub(super) overlays: Vec<(HashAlgorithm, u64, PathBuf)>,
    pub(super) fault: Option<String>,
    /// Hashes of which files are left that had run out at the start: they are removed once all is signed.
    pub(super) left_over: Vec<HashAlgorithm>,
}

impl Presigner {
    /// Starts the workers.
    pub fn start(settings: &PresignSettings, clock: impl Into<Timekeeper>) -> Self {
        let shared = Arc::new(Shared {
            clock: clock.into(),
            segments: settings.segments.as_ref().map(SegmentDir::new),
            state: Mutex::default(),
            wake: Condvar::new(),
            signed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lag: Lag::default(),
            busy: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            disk_fault: AtomicBool::new(false),
            holding: Mutex::default(),
        });
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { cores } else { settings.workers };
        let presigner = Presigner { shared, workers: Mutex::default() };
        let nice = settings.background_nice.clamp(0, 19);
        for n in 0..workers {
            // All work while nothing has been signed yet; after that a quarter of them go on, in the background.
            let stays = n < workers.div_ceil(BACKGROUND_SHARE);
            let shared = presigner.shared.clone();
            let spawned = thread::Builder::new().name(format!("presign-{n}")).spawn(move || shared.work(stays, nice));
            match spawned {
                Ok(handle) => presigner.workers.lock().unwrap_or_else(PoisonError::into_inner).push(handle),
                Err(error) => tracing::error!(%error, "cannot start a signing thread"),
            }
        }
        presigner
    }

    /// Takes an issuer in. Segments that an earlier process left are served at once, if they prove intact and its own; gives
    /// the files that did not.
    pub fn add(&self, issuer: &Arc<Issuer>) -> Vec<RefusedFile> {
        let now = self.shared.clock.now();
        let warm = match &self.shared.segments {
            Some(dir) => warm::load(dir, issuer, now),
            None => warm::Warm::default(),
        };
        let mut state = self.shared.lock();
        let held = Held { issuer: issuer.clone(), overlays: warm.overlays, fault: None, left_over: warm.left_over };
        state.issuers.insert(issuer.slot().id().clone(), held);
        for (algorithm, segment) in &warm.due {
            if let Part::Slice { bits, index } = segment.meta().part {
                let key = SliceKey { issuer: issuer.slot().id().clone(), algorithm: *algorithm, bits, index };
                let outdated = segment.meta().settings != issuer.fingerprint(&issuer.view().settings);
                state.queue.set_due(key, if outdated { now } else { segment.meta().refresh_at });
            }
        }
        drop(state);
        self.shared.wake.notify_all();
        warm.refused
    }

    /// Lets an issuer go: nothing more is signed for it. What it serves is for the store's routes to decide.
    pub fn remove(&self, id: &str) {
        let mut state = self.shared.lock();
        if let Some(held) = state.issuers.remove(id) {
            held.issuer.remove();
        }
        state.urgent.retain(|(issuer, _)| &**issuer != id);
        state.queue.retain(|key| &*key.issuer != id);
    }

    /// Removes what issuers left on disk that have been gone for long.
    pub fn sweep(&self) {
        if let Some(dir) = &self.shared.segments {
            let keep: Vec<_> = self.shared.lock().issuers.values().map(|held| *held.issuer.key_id()).collect();
            dir.sweep(&keep, self.shared.clock.now().minus(KEEP_LEFT_BEHIND));
        }
    }

    /// Where what is signed for an issuer is kept for the next start.
    pub fn kept_in(&self, issuer: &Issuer) -> Option<PathBuf> {
        self.shared.segments.as_ref().map(|dir| dir.issuer_dir(issuer.key_id()))
    }

    /// Takes a signer into use, or leaves the issuer without one. What the one before it signed is served on, but where all was
    /// to be signed again a moment ago ([`Presigner::resign`]); slices that waited for a signer are signed now.
    pub fn set_signer(&self, issuer: &Arc<Issuer>, signer: Option<Arc<ActiveSigner>>) {
        let before = issuer.view().signer.clone();
        issuer.update(|view| super::View { signer: signer.clone(), ..view.clone() });
        issuer.note_on_demand(None);
        if let Some(signer) = signer {
            let is_other = before.is_some_and(|before| before.certificate() != signer.certificate());
            if is_other && issuer.was_resigned_within(RESIGN_AGAIN) {
                issuer.begin_epoch();
                self.resign(issuer);
            }
            self.shared.bring_up_to_date(issuer, self.shared.clock.now());
        }
    }

    /// Has everything that is served for an issuer signed again now, by the signer in use; what is held is served until then. If
    /// another signer comes into use within ten minutes, it was meant: then everything is signed once more. Gives how many slices
    /// that are.
    pub fn resign(&self, issuer: &Arc<Issuer>) -> usize {
        let now = self.shared.clock.now();
        issuer.note_resigned();
        let mut slices = 0;
        let mut state = self.shared.lock();
        for algorithm in &issuer.view().settings.certid_hashes {
            self.shared.schedule_all(&mut state, issuer, *algorithm, now);
            slices += issuer.slot().live().wave(*algorithm).map_or(0, |wave| wave.slices().len());
        }
        drop(state);
        self.shared.wake.notify_all();
        slices
    }

    /// Says that every issuer's files have been looked at: once what they brought is signed, signing goes into the background.
    pub fn mark_begun(&self) {
        self.shared.lock().has_begun = true;
    }

    /// Takes new settings into use; everything is signed again under them, in its turn but soon.
    pub fn set_settings(&self, issuer: &Arc<Issuer>, settings: IssuerSettings) {
        if *issuer.view().settings == settings {
            return;
        }
        let settings = Arc::new(settings);
        issuer.update(|view| super::View { settings: settings.clone(), ..view.clone() });
        let view = issuer.view();
        let policy = settings.policy(view.table.as_ref().is_some_and(|table| table.knows_unissued()));
        issuer.slot().update(|live| {
            let mut next = live.clone();
            next.policy = policy;
            for algorithm in HashAlgorithm::ALL {
                if !settings.certid_hashes.contains(&algorithm) {
                    next = next.with_wave(algorithm, None);
                }
            }
            next
        });
        if let Some(table) = &view.table {
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            state.queue.retain(|key| *key.issuer != **issuer.slot().id());
            self.shared.prepare_waves(&mut state, issuer, table, now);
            for algorithm in &settings.certid_hashes {
                self.shared.schedule_all(&mut state, issuer, *algorithm, now);
            }
            drop(state);
            self.shared.wake.notify_all();
        }
    }

    /// Takes a renewed certificate of the same CA into use. What says something of the old one, archiveCutoff, is signed again.
    pub fn set_certificate(&self, issuer: &Arc<Issuer>, certificate: &Certificate) {
        let before = issuer.certificate();
        if *before == *certificate {
            return;
        }
        issuer.set_certificate(certificate.clone());
        let settings = issuer.view().settings.clone();
        if settings.archive_cutoff && before.not_before() != certificate.not_before() {
            issuer.begin_epoch();
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            for algorithm in &settings.certid_hashes {
                self.shared.schedule_all(&mut state, issuer, *algorithm, now);
            }
            drop(state);
            self.shared.wake.notify_all();
        }
    }

    /// Takes new statuses into use: what changed is signed at once, revocations before all else. Gives how many serials
    /// changed.
    pub fn set_table(&self, issuer: &Arc<Issuer>, mut table: Table) -> usize {
        let now = self.shared.clock.now();
        let live = issuer.slot().live();
        let settings = issuer.view().settings.clone();
        for wave in settings.certid_hashes.iter().filter_map(|algorithm| live.wave(*algorithm)) {
            table.share_with(wave);
        }
        let table = Arc::new(table);
        issuer.update(|view| super::View { table: Some(table.clone()), ..view.clone() });
        let policy = settings.policy(table.knows_unissued());
        issuer.slot().update(|live| {
            let mut next = live.clone();
            next.policy = policy;
            next.withheld = table.withheld.as_slice().into();
            next
        });

        self.shared.bring_up_to_date(issuer, now)
    }

    /// Why nothing is signed, or why the last attempt to sign for an issuer failed, if it did.
    pub fn fault(&self, id: &str) -> Option<String> {
        if let Err(set_back) = self.shared.clock.to_sign() {
            return Some(set_back.to_string());
        }
        self.shared.lock().issuers.get(id).and_then(|held| held.fault.clone())
    }

    /// Signatures made since the start.
    pub fn signed(&self) -> u64 {
        self.shared.signed.load(Ordering::Relaxed)
    }

    /// Counters of this moment.
    pub fn stats(&self) -> PresignStats {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        let (mut missing, mut slices) = (0, 0);
        for held in state.issuers.values() {
            let live = held.issuer.slot().live();
            for wave in HashAlgorithm::ALL.into_iter().filter_map(|algorithm| live.wave(algorithm)) {
                slices += wave.slices().len();
                missing += wave.slices().iter().filter(|slice| slice.is_none()).count();
            }
        }
        PresignStats {
            signed: self.shared.signed.load(Ordering::Relaxed),
            backlog: state.urgent.batches(CHANGES_PER_SEGMENT)
                + state.queue.backlog(now)
                + self.shared.busy.load(Ordering::Relaxed),
            missing,
            slices,
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Presigner {
    fn drop(&mut self) {
        let state = self.shared.lock();
        self.shared.stopping.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.wake.notify_all();
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = worker.join();
        }
    }
}

impl State {
    /// Whether there is anything to serve and all of it has been signed, but for what cannot be.
    pub(super) fn has_signed_all_once(&self) -> bool {
        let able = self.issuers.values().filter(|held| held.fault.is_none());
        let mut waves = able.flat_map(|held| {
            let live = held.issuer.slot().live();
            HashAlgorithm::ALL.into_iter().filter_map(move |algorithm| live.wave(algorithm).cloned())
        });
        self.has_begun && waves.next().is_some_and(|first| first.is_complete() && waves.all(|wave| wave.is_complete()))
    }
}

impl Shared {
    /// A worker's panic is caught before the lock could be poisoned by it; state changes are small and complete.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that there is a wave for every hash that is signed ahead, with the table's slicing.
    fn prepare_waves(&self, state: &mut State, issuer: &Arc<Issuer>, table: &Table, now: Timestamp) {
        let settings = issuer.view().settings.clone();
        issuer.slot().update(|live| {
            let mut next = live.clone();
            for algorithm in &settings.certid_hashes {
                let wave = match live.wave(*algorithm) {
                    Some(wave) if wave.bits() == table.bits() => continue,
                    Some(wave) => wave.resliced(table.bits()),
                    None if !table.is_whole() => continue,
                    None => Wave::empty(table.bits()),
                };
                next = next.with_wave(*algorithm, Some(Arc::new(wave)));
            }
            next
        });
        self.schedule_missing(state, issuer, now);
    }

    /// Makes every slice due that should not wait: never signed, run out, not valid yet since the clock was set back, overdue,
    /// or signed under other settings.
    pub(super) fn schedule_missing(&self, state: &mut State, issuer: &Arc<Issuer>, now: Timestamp) {
        let view = issuer.view();
        let live = issuer.slot().live();
        let settings = issuer.fingerprint(&view.settings);
        for algorithm in &view.settings.certid_hashes {
            let Some(wave) = live.wave(*algorithm) else { continue };
            for (index, slice) in wave.slices().iter().enumerate() {
                let at = slice.as_ref().map_or(Some(Timestamp::MIN), |segment| overdue(segment, settings, now));
                if let Some(at) = at {
                    state.queue.set_due_by(slice_key(issuer, *algorithm, wave.bits(), index), at);
                }
            }
            for (serial, segment) in wave.overlay() {
                if let Some(at) = overdue(segment, settings, now) {
                    let index = wave.slice_of(crate::store::hash(serial));
                    state.queue.set_due_by(slice_key(issuer, *algorithm, wave.bits(), index), at);
                }
            }
        }
    }

    fn schedule_all(&self, state: &mut State, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, now: Timestamp) {
        issuer.outdate();
        if let Some(wave) = issuer.slot().live().wave(algorithm) {
            for index in 0..wave.slices().len() {
                state.queue.set_due(slice_key(issuer, algorithm, wave.bits(), index), now);
            }
        }
    }

    /// Makes what is served say what the sources say, as soon as it can be signed. Gives how many serials have to change.
    fn bring_up_to_date(&self, issuer: &Arc<Issuer>, now: Timestamp) -> usize {
        let view = issuer.view();
        let Some(table) = &view.table else { return 0 };
        let mut state = self.lock();
        self.prepare_waves(&mut state, issuer, table, now);
        drop(state);
        let live = issuer.slot().live();
        let mut changed = 0;
        for algorithm in &view.settings.certid_hashes {
            let Some(wave) = live.wave(*algorithm).filter(|wave| wave.bits() == table.bits()) else { continue };
            let difference = table.difference(wave);
            changed = changed.max(difference.changed.len());
            self.enqueue(issuer, *algorithm, table, difference);
        }
        // Whoever fails after this looks at this table.
        let has_failed = self.lock().issuers.get(issuer.slot().id()).is_some_and(|held| held.fault.is_some());
        if view.signer.is_none() || has_failed || self.clock.to_sign().is_err() {
            self.hold_back(issuer);
        } else {
            self.reconsider(issuer);
        }
        self.wake.notify_all();
        changed
    }
}

/// Since when a segment should have been signed again, if so.
pub(super) fn overdue(segment: &Segment, settings: u64, now: Timestamp) -> Option<Timestamp> {
    let (spec, meta) = (segment.template().spec(), segment.meta());
    if spec.next_update <= now || spec.this_update > now {
        Some(Timestamp::MIN)
    } else if meta.settings != settings {
        Some(now)
    } else {
        Some(meta.refresh_at).filter(|at| *at <= now)
    }
}

pub(super) fn slice_key(issuer: &Issuer, algorithm: HashAlgorithm, bits: u8, index: usize) -> SliceKey {
    // A wave has at most 2^12 slices.
    SliceKey { issuer: issuer.slot().id().clone(), algorithm, bits, index: index as u32 }
}
