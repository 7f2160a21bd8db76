//! The workers that sign: all cores while nothing is there yet, in the background afterwards, revocations first.

use super::issuer::{ActiveSigner, Issuer, IssuerSettings};
use super::queue::{Next, Queue};
use super::sign::{self, SignFault};
use super::table::Table;
use super::warm;
use crate::ocsp::{CertStatus, HashAlgorithm, Serial};
use crate::store::{Keys, Part, RefusedFile, Segment, SegmentDir, Wave};
use crate::time::{Clock, Timestamp};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Changes signed together in one overlay segment: at most a few tens of milliseconds of work.
const CHANGES_PER_SEGMENT: usize = 1024;
/// A slice of which more than this share changed is signed anew as a whole, beside what must go out at once.
const RESIGN_SHARE: usize = 4;
/// How long to wait before a slice that could not be signed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// The longest sleep of an idle worker: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Signs ahead and keeps what is signed fresh. Stops, and waits for its workers, when dropped.
pub struct Presigner {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// How a presigner works.
#[derive(Clone, Debug)]
pub struct PresignSettings {
    /// Threads while nothing is served yet; 0 means one per core.
    pub workers: usize,
    /// Niceness of the one background thread after that, 0 to 19.
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
struct SliceKey {
    issuer: Arc<str>,
    algorithm: HashAlgorithm,
    bits: u8,
    index: u32,
}

struct Changes {
    issuer: Arc<Issuer>,
    algorithm: HashAlgorithm,
    entries: Vec<(Serial, CertStatus)>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    segments: Option<SegmentDir>,
    state: Mutex<State>,
    wake: Condvar,
    signed: AtomicU64,
    failures: AtomicU64,
    busy: AtomicUsize,
}

#[derive(Default)]
struct State {
    queue: Queue<SliceKey, Changes>,
    issuers: HashMap<Arc<str>, Held>,
    stop: bool,
}

struct Held {
    issuer: Arc<Issuer>,
    /// Overlay files, by sequence, to be removed once absorbed.
    overlays: Vec<(HashAlgorithm, u64, PathBuf)>,
    fault: Option<String>,
}

impl Presigner {
    /// Starts the workers.
    pub fn start(settings: &PresignSettings, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            clock,
            segments: settings.segments.as_ref().map(SegmentDir::new),
            state: Mutex::default(),
            wake: Condvar::new(),
            signed: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
        });
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = if settings.workers == 0 { cores } else { settings.workers };
        let presigner = Presigner { shared, workers: Mutex::default() };
        for n in 0..workers {
            // The first worker stays for ever, in the background; the others leave it alone unless slices are missing.
            let nice = if n == 0 { settings.background_nice.clamp(0, 19) } else { 0 };
            let shared = presigner.shared.clone();
            let spawned = thread::Builder::new().name(format!("presign-{n}")).spawn(move || shared.work(n == 0, nice));
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
        let held = Held { issuer: issuer.clone(), overlays: warm.overlays, fault: None };
        state.issuers.insert(issuer.slot().id().clone(), held);
        for (algorithm, segment) in &warm.due {
            if let Part::Slice { bits, index } = segment.meta().part {
                let key = SliceKey { issuer: issuer.slot().id().clone(), algorithm: *algorithm, bits, index };
                let outdated = segment.meta().settings != issuer.view().settings.fingerprint();
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
        state.queue.retain(|key| &*key.issuer != id);
    }

    /// Takes a signer into use, or leaves the issuer without one. What the one before it signed is served on; slices that
    /// waited for a signer are signed now.
    pub fn set_signer(&self, issuer: &Arc<Issuer>, signer: Option<Arc<ActiveSigner>>) {
        issuer.update(|view| super::View { signer: signer.clone(), ..view.clone() });
        if signer.is_some() && issuer.view().table.is_some() {
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            self.shared.schedule_missing(&mut state, issuer, now);
            drop(state);
            self.shared.wake.notify_all();
        }
    }

    /// Takes new settings into use; everything is signed again under them, in its turn but soon.
    pub fn set_settings(&self, issuer: &Arc<Issuer>, settings: IssuerSettings) {
        let view = issuer.view();
        if *view.settings == settings {
            return;
        }
        let settings = Arc::new(settings);
        issuer.update(|view| super::View { settings: settings.clone(), ..view.clone() });
        let knows_issued = view.table.as_ref().is_none_or(|table| table.knows_issued());
        let policy = settings.policy(knows_issued);
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
        let policy = settings.policy(table.knows_issued());
        issuer.slot().update(|live| {
            let mut next = live.clone();
            next.policy = policy;
            next
        });

        let mut state = self.shared.lock();
        self.shared.prepare_waves(&mut state, issuer, &table, now);
        drop(state);
        let live = issuer.slot().live();
        let mut changed = 0;
        for algorithm in &settings.certid_hashes {
            let Some(wave) = live.wave(*algorithm).filter(|wave| wave.bits() == table.bits()) else { continue };
            let difference = table.difference(wave);
            changed = changed.max(difference.changed.len());
            self.shared.enqueue(issuer, *algorithm, &table, difference, now);
        }
        self.shared.wake.notify_all();
        changed
    }

    /// Why the last attempt to sign for an issuer failed, if it did.
    pub fn fault(&self, id: &str) -> Option<String> {
        self.shared.lock().issuers.get(id).and_then(|held| held.fault.clone())
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
            backlog: state.queue.backlog(now) + self.shared.busy.load(Ordering::Relaxed),
            missing,
            slices,
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Presigner {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A worker's panic is caught before the lock could be poisoned by it; state changes are small and complete.
    fn lock(&self) -> MutexGuard<'_, State> {
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
                    None => Wave::empty(table.bits()),
                };
                next = next.with_wave(*algorithm, Some(Arc::new(wave)));
            }
            next
        });
        self.schedule_missing(state, issuer, now);
    }

    /// Makes every slice due that was never signed or has run out, those that wait after a failure too.
    fn schedule_missing(&self, state: &mut State, issuer: &Arc<Issuer>, now: Timestamp) {
        let view = issuer.view();
        let live = issuer.slot().live();
        for algorithm in &view.settings.certid_hashes {
            let Some(wave) = live.wave(*algorithm) else { continue };
            for (index, slice) in wave.slices().iter().enumerate() {
                let key = slice_key(issuer, *algorithm, wave.bits(), index);
                if slice.as_ref().is_none_or(|segment| segment.template().spec().next_update <= now) {
                    state.queue.set_due(key, Timestamp::MIN);
                }
            }
        }
    }

    fn schedule_all(&self, state: &mut State, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, now: Timestamp) {
        if let Some(wave) = issuer.slot().live().wave(algorithm) {
            for index in 0..wave.slices().len() {
                state.queue.set_due(slice_key(issuer, algorithm, wave.bits(), index), now);
            }
        }
    }

    fn enqueue(
        &self,
        issuer: &Arc<Issuer>,
        algorithm: HashAlgorithm,
        table: &Table,
        difference: super::Difference,
        now: Timestamp,
    ) {
        let mut changed = difference.changed;
        // Revocations are what clients are hurt by when they are late.
        changed.sort_by_key(|(_, status)| !matches!(status, CertStatus::Revoked { .. }));
        let mut per_slice = vec![0_usize; 1 << table.bits()];
        for (serial, _) in &changed {
            if let Some(n) = per_slice.get_mut(Part::slice_of(crate::store::hash(serial), table.bits())) {
                *n += 1;
            }
        }
        let mut state = self.lock();
        for chunk in changed.chunks(CHANGES_PER_SEGMENT) {
            state.queue.push_urgent(Changes { issuer: issuer.clone(), algorithm, entries: chunk.to_vec() });
        }
        for (index, n) in per_slice.into_iter().enumerate() {
            if n * RESIGN_SHARE > table.slice(index).map_or(0, Keys::len) {
                state.queue.set_due(slice_key(issuer, algorithm, table.bits(), index), now);
            }
        }
        for index in difference.stale_slices {
            state.queue.set_due(slice_key(issuer, algorithm, table.bits(), index), now);
        }
    }

    fn work(&self, permanent: bool, nice: i32) {
        let mut lowered = false;
        loop {
            let mut state = self.lock();
            let next = loop {
                if state.stop {
                    return;
                }
                let now = self.clock.now();
                match state.queue.poll(now) {
                    Next::Wait(until) => {
                        if permanent && !lowered && nice > 0 && !state.issuers.is_empty() {
                            // Everything has been signed once: from here on this thread gives way to the endpoint's.
                            lowered = true;
                            if let Err(error) = rustix::process::setpriority_process(None, nice) {
                                tracing::warn!(%error, "cannot lower the priority of the signing thread");
                            }
                        }
                        let sleep = until.map_or(MAX_SLEEP, |until| until.since(now).min(MAX_SLEEP));
                        let sleep = sleep.max(Duration::from_millis(10));
                        state = self.wake.wait_timeout(state, sleep).unwrap_or_else(PoisonError::into_inner).0;
                    }
                    next => break next,
                }
            };
            self.busy.fetch_add(1, Ordering::Relaxed);
            drop(state);
            // One issuer's trouble must not end the signing for all others.
            if catch_unwind(AssertUnwindSafe(|| self.run(next))).is_err() {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!("a signing job panicked; the others go on");
            }
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn run(&self, next: Next<SliceKey, Changes>) {
        let now = self.clock.now();
        match next {
            Next::Wait(_) => {}
            Next::Urgent(Changes { issuer, algorithm, entries }) => {
                if issuer.is_removed() {
                    return;
                }
                let sequence = issuer.next_sequence();
                let result = Keys::build(&entries).map_err(SignFault::from).and_then(|keys| {
                    sign::segment(&issuer, &issuer.view(), algorithm, Part::Overlay, keys, sequence, now)
                });
                match result {
                    Ok(segment) => self.publish(&issuer, algorithm, segment),
                    Err(fault) => {
                        // The slices these changes belong to are signed as soon as signing works again.
                        let bits = issuer.slot().live().wave(algorithm).map_or(0, |wave| wave.bits());
                        let slices = entries.iter().map(|(s, _)| Part::slice_of(crate::store::hash(s), bits));
                        let keys = slices.map(|index| slice_key(&issuer, algorithm, bits, index)).collect();
                        self.failed(&issuer, keys, now, &fault);
                    }
                }
            }
            Next::Due(key) => self.sign_slice(key, now),
        }
    }

    fn sign_slice(&self, key: SliceKey, now: Timestamp) {
        let Some(issuer) = self.lock().issuers.get(&key.issuer).map(|held| held.issuer.clone()) else { return };
        // The number is drawn before the statuses are looked at: whatever is laid over this later is newer.
        let sequence = issuer.next_sequence();
        let view = issuer.view();
        let Some(table) = view.table.clone() else {
            return self.failed(&issuer, vec![key], now, &SignFault::NoStatus);
        };
        if table.bits() != key.bits || !view.settings.certid_hashes.contains(&key.algorithm) {
            return; // cut differently by now; other keys stand for these entries
        }
        let part = Part::Slice { bits: key.bits, index: key.index };
        let Some(keys) = table.slice(key.index as usize).cloned() else { return };
        match sign::segment(&issuer, &view, key.algorithm, part, keys, sequence, now) {
            Ok(segment) => {
                let due = segment.meta().refresh_at;
                self.publish(&issuer, key.algorithm, segment);
                let mut state = self.lock();
                if !issuer.is_removed() && state.queue.due(&key).is_none() {
                    state.queue.set_due(key, due);
                }
            }
            Err(fault) => self.failed(&issuer, vec![key], now, &fault),
        }
    }

    fn publish(&self, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, mut segment: Segment) {
        self.signed.fetch_add(segment.keys().len() as u64, Ordering::Relaxed);
        let part = segment.meta().part;
        let overlay = part == Part::Overlay;
        let sequence = segment.meta().sequence;
        let mut written = None;
        if let Some(dir) = &self.segments {
            match dir.write(&segment) {
                // The file's pages are what is kept; the allocator gets its memory back.
                Ok((path, mapped)) => (written, segment) = (Some(path), mapped),
                Err(error) => {
                    tracing::warn!(issuer = issuer.id(), %error, "cannot keep a segment for the next start; it is served");
                }
            }
        }
        if let Part::Slice { index, .. } = part {
            issuer.update(|view| {
                let shared = view.table.as_ref().and_then(|table| table.sharing(index as usize, segment.keys()));
                super::View { table: shared.map(Arc::new).or_else(|| view.table.clone()), ..view.clone() }
            });
        }
        let segment = Arc::new(segment);
        let mut held_wave = None;
        issuer.slot().update(|live| {
            let Some(wave) = live.wave(algorithm) else { return live.clone() };
            let wave = Arc::new(wave.with(segment.clone()));
            held_wave = Some(wave.clone());
            live.with_wave(algorithm, Some(wave))
        });
        let mut state = self.lock();
        let Some(held) = state.issuers.get_mut(issuer.slot().id()) else { return };
        held.fault = None;
        if let (Some(path), true) = (written, overlay) {
            held.overlays.push((algorithm, sequence, path));
        }
        let Some(wave) = held_wave else { return };
        if held.overlays.is_empty() || overlay {
            return;
        }
        let needed: std::collections::HashSet<u64> = wave.overlay_serials().map(|(_, sequence)| sequence).collect();
        held.overlays.retain(|(of, sequence, path)| {
            let keep = *of != algorithm || needed.contains(sequence);
            if let (false, Some(dir)) = (keep, &self.segments) {
                dir.remove(path);
            }
            keep
        });
    }

    fn failed(&self, issuer: &Arc<Issuer>, keys: Vec<SliceKey>, now: Timestamp, fault: &SignFault) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let text = fault.to_string();
        let mut state = self.lock();
        for key in keys {
            state.queue.set_due(key, now.plus(RETRY));
        }
        if let Some(held) = state.issuers.get_mut(issuer.slot().id())
            && held.fault.as_ref() != Some(&text)
        {
            tracing::warn!(issuer = issuer.id(), fault = text, "cannot sign; what is held is served until it runs out");
            held.fault = Some(text);
        }
    }
}

fn slice_key(issuer: &Issuer, algorithm: HashAlgorithm, bits: u8, index: usize) -> SliceKey {
    // A wave has at most 2^12 slices.
    SliceKey { issuer: issuer.slot().id().clone(), algorithm, bits, index: index as u32 }
}
