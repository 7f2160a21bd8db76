//! What the signing threads do: take the next work, sign, publish, keep the file for the next start.

use super::engine::{CHANGES_PER_SEGMENT, Changes, Held, Shared, SliceKey, State, overdue, slice_key};
use super::issuer::Issuer;
use super::queue::Next;
use super::sign::{self, SignFault};
use super::table::{Difference, Table};
use super::urgent::Urgency;
use crate::ocsp::{HashAlgorithm, Serial};
use crate::store::{Keys, Part, Segment, SegmentDir, Wave};
use crate::time::{Clock, Timestamp};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long to wait before a slice that could not be signed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// The longest sleep of an idle worker: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// A clock set back by more than this makes responses that are not valid yet; back-dating hides less.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// How often a thread looks whether the slice is signed that another signs for it, should it miss the word.
const LOOK_AT_HAND: Duration = Duration::from_millis(50);
/// So many small overlay segments are signed together anew: each holds a template and a mapped file.
const MAX_SMALL_OVERLAYS: usize = 64;

/// What a thread does next.
enum Job {
    Changes(Changes),
    Slice(SliceKey),
}

/// Changes that are being signed; let go when dropped. What was lost with a panic is due again after a while.
struct InHand<'s> {
    shared: &'s Shared,
    changes: &'s Changes,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.shared.lock().urgent.done(&self.changes.group(), &self.changes.serials);
        if thread::panicking() {
            self.shared.failed(&self.changes.issuer, slices_of(self.changes), &SignFault::Panicked);
        }
    }
}

impl Shared {
    /// A signing thread, until the presigner stops or, unless it `stays`, until everything has been signed once.
    pub(super) fn work(&self, stays: bool, nice: i32) {
        let mut background = None;
        loop {
            let mut state = self.lock();
            let job = loop {
                if self.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(now) = self.clock.to_sign() else {
                    state = self.wait_for_the_clock(state);
                    continue;
                };
                state.is_on_hold = false;
                self.notice_step(&mut state, now);
                if let Some(changes) = next_changes(&mut state, Urgency::Gathered) {
                    break Job::Changes(changes);
                }
                match state.queue.poll(now) {
                    Next::Wait(until) => {
                        if background.is_none() && state.has_signed_all_once() {
                            if !stays {
                                return;
                            }
                            background = Some(nice);
                        }
                        state = self.sleep(state, until.map_or(MAX_SLEEP, |until| until.since(now)));
                    }
                    Next::Due(key) => match state.running.get_mut(&key) {
                        Some(again) => *again = true,
                        None => {
                            state.running.insert(key.clone(), false);
                            break Job::Slice(key);
                        }
                    },
                }
            };
            self.busy.fetch_add(1, Ordering::Relaxed);
            drop(state);
            // One issuer's trouble must not end the signing for all others.
            if catch_unwind(AssertUnwindSafe(|| self.run(&job, background))).is_err() {
                tracing::error!("a signing job panicked; the others go on");
                self.panicked(&job);
            }
            if let Job::Slice(key) = job {
                let mut state = self.lock();
                if state.running.remove(&key) == Some(true) {
                    state.queue.set_due(key, Timestamp::MIN);
                }
            }
            self.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn sleep<'s>(&self, state: MutexGuard<'s, State>, until: Duration) -> MutexGuard<'s, State> {
        let sleep = until.clamp(Duration::from_millis(10), MAX_SLEEP);
        self.wake.wait_timeout(state, sleep).unwrap_or_else(PoisonError::into_inner).0
    }

    /// While the clock is not believed nothing is signed, and what has been revoked meanwhile is not called good.
    fn wait_for_the_clock<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        if !std::mem::replace(&mut state.is_on_hold, true) {
            let issuers: Vec<_> = state.issuers.values().map(|held| held.issuer.clone()).collect();
            drop(state);
            issuers.iter().for_each(|issuer| self.hold_back(issuer));
            state = self.lock();
        }
        self.sleep(state, MAX_SLEEP)
    }

    /// After the clock was set back and is believed, what was signed in the future is signed again.
    fn notice_step(&self, state: &mut State, now: Timestamp) {
        if now.plus(CLOCK_STEP) < state.seen {
            tracing::warn!(from = %state.seen, to = %now, "the clock was set back; what is not valid yet is signed again");
            let issuers: Vec<_> = state.issuers.values().map(|held| held.issuer.clone()).collect();
            for issuer in issuers {
                self.schedule_missing(state, &issuer, now);
            }
            // What failed is to be tried again soon by this clock, not by the one before.
            state.queue.pull_in(now, state.seen.plus(RETRY));
            state.seen = now;
        }
        state.seen = state.seen.max(now);
    }

    fn run(&self, job: &Job, background: Option<i32>) {
        match job {
            Job::Changes(changes) => self.sign_changes(changes),
            Job::Slice(key) => self.sign_slice(key, background),
        }
    }

    /// What was lost with a panic is due again after a while.
    fn panicked(&self, job: &Job) {
        let Job::Slice(key) = job else { return };
        let issuer = self.lock().issuers.get(&key.issuer).map(|held| held.issuer.clone());
        if let Some(issuer) = issuer {
            self.failed(&issuer, vec![key.clone()], &SignFault::Panicked);
        }
    }

    /// Whether to go on signing; takes no lock.
    fn is_wanted(&self, issuer: &Issuer) -> Result<(), SignFault> {
        let called_off = self.stopping.load(Ordering::Relaxed) || issuer.is_removed();
        if called_off { Err(SignFault::CalledOff) } else { Ok(()) }
    }

    /// Between two signatures: whether to go on, and first what is at least so urgent.
    fn between(&self, issuer: &Issuer, before: Option<Urgency>) -> Result<(), SignFault> {
        loop {
            self.is_wanted(issuer)?;
            let changes = before.and_then(|least| next_changes(&mut self.lock(), least));
            match changes {
                Some(changes) => self.sign_changes(&changes),
                None => return Ok(()),
            }
        }
    }

    /// Has a slice signed by a thread that gives way to the endpoint's, and meanwhile signs what is urgent on this one. The other
    /// thread takes no lock: on a busy machine it may not run for seconds, and whoever wanted the lock would wait as long.
    fn in_background(
        &self,
        nice: i32,
        sign: impl FnOnce() -> Result<Segment, SignFault> + Send,
    ) -> Result<Segment, SignFault> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let hand = thread::Builder::new().name("presign-slice".into()).spawn_scoped(scope, || {
                give_way(nice);
                let signed = catch_unwind(AssertUnwindSafe(sign));
                done.store(true, Ordering::Release);
                self.wake.notify_all();
                signed.unwrap_or(Err(SignFault::Panicked))
            })?;
            while !done.load(Ordering::Acquire) {
                let mut state = self.lock();
                match next_changes(&mut state, Urgency::Gathered) {
                    Some(changes) => {
                        drop(state);
                        self.sign_changes(&changes);
                    }
                    // Without the lock it cannot be told for certain.
                    None => drop(self.wake.wait_timeout(state, LOOK_AT_HAND)),
                }
            }
            hand.join().unwrap_or(Err(SignFault::Panicked))
        })
    }

    fn sign_changes(&self, changes: &Changes) {
        let Changes { issuer, algorithm, urgency, serials } = changes;
        let in_hand = InHand { shared: self, changes };
        // The number is drawn before the statuses are looked at: whatever is laid over this later is newer.
        let sequence = issuer.next_sequence();
        let view = issuer.view();
        let Some(table) = view.table.as_ref().filter(|_| !issuer.is_removed()) else { return };
        let live = issuer.slot().live();
        // Another signature may have brought it about in the meantime.
        let is_served = |serial: &Serial, status| {
            *urgency != Urgency::Gathered && live.wave(*algorithm).and_then(|wave| wave.status(serial)) == Some(status)
        };
        let entry =
            |serial: &Serial| Some((*serial, table.status(serial).filter(|status| !is_served(serial, *status))?));
        let entries: Vec<_> = serials.iter().filter_map(entry).collect();
        if !view.settings.certid_hashes.contains(algorithm) {
            return;
        }
        // They may be no longer listed, or served already.
        if !entries.is_empty() {
            let now = match self.clock.to_sign() {
                Ok(now) => now,
                Err(set_back) => return self.failed(issuer, slices_of(changes), &set_back.into()),
            };
            let before = match urgency {
                Urgency::Revoked => None,
                Urgency::Changed => Some(Urgency::Revoked),
                Urgency::Gathered => Some(Urgency::Changed),
            };
            let signed = Keys::build(&entries).map_err(SignFault::from).and_then(|keys| {
                let between = || self.between(issuer, before);
                sign::segment(issuer, &view, *algorithm, Part::Overlay, keys, sequence, now, between)
            });
            match signed {
                Ok(segment) => drop(self.publish(issuer, *algorithm, segment)),
                // The slices these changes belong to are signed as soon as signing works again.
                Err(fault) => return self.failed(issuer, slices_of(changes), &fault),
            }
        }
        // Let go before the table is looked at again: what changes from then on is queued by whoever changes it. All of them are
        // compared: one that was left out may have been wanted again since.
        drop(in_hand);
        self.look_again(issuer, *algorithm, |table, wave| table.difference_of(wave, serials));
        let live = issuer.slot().live();
        if let Some(wave) = live.wave(*algorithm).filter(|_| !entries.is_empty()) {
            self.gather_small_overlays(issuer, *algorithm, wave);
        }
    }

    fn sign_slice(&self, key: &SliceKey, background: Option<i32>) {
        let Some(issuer) = self.lock().issuers.get(&key.issuer).map(|held| held.issuer.clone()) else { return };
        let sequence = issuer.next_sequence();
        let view = issuer.view();
        // Without statuses there is nothing to sign; all that is due is made due again when they come.
        let Some(table) = &view.table else { return };
        if !table.is_whole() {
            return self.wait_for_statuses(&issuer, key);
        }
        if table.bits() != key.bits || !view.settings.certid_hashes.contains(&key.algorithm) {
            return; // cut differently by now; other keys stand for these entries
        }
        let part = Part::Slice { bits: key.bits, index: key.index };
        let Some(keys) = table.slice(key.index as usize).cloned() else { return };
        let now = match self.clock.to_sign() {
            Ok(now) => now,
            Err(set_back) => return self.failed(&issuer, vec![key.clone()], &set_back.into()),
        };
        if let Some(due) = signed_until(&issuer, key, table, now) {
            self.lock().queue.set_due_by(key.clone(), due);
            return; // another thread signed it when it had become due twice
        }
        let sign = |between: &mut dyn FnMut() -> Result<(), SignFault>| {
            sign::segment(&issuer, &view, key.algorithm, part, keys, sequence, now, between)
        };
        let signed = match background {
            None => sign(&mut || self.between(&issuer, Some(Urgency::Gathered))),
            Some(nice) => self.in_background(nice, || sign(&mut || self.is_wanted(&issuer))),
        };
        match signed {
            Ok(segment) => {
                let due = segment.meta().refresh_at;
                if let Some(segment) = self.publish(&issuer, key.algorithm, segment) {
                    self.look_again(&issuer, key.algorithm, |table, wave| table.difference_after(wave, &segment));
                }
                let mut state = self.lock();
                if !issuer.is_removed() && state.queue.due(key).is_none() {
                    state.queue.set_due(key.clone(), due);
                }
            }
            Err(fault) => self.failed(&issuer, vec![key.clone()], &fault),
        }
    }

    /// What a slice says is not known yet: it stays as it is, and keeps its turn.
    fn wait_for_statuses(&self, issuer: &Issuer, key: &SliceKey) {
        let live = issuer.slot().live();
        let wave = live.wave(key.algorithm).filter(|wave| wave.bits() == key.bits);
        if let Some(Some(segment)) = wave.and_then(|wave| wave.slices().get(key.index as usize)) {
            let at = segment.meta().refresh_at.max(self.clock.now().plus(RETRY));
            self.lock().queue.set_due_by(key.clone(), at);
        }
    }

    /// Serves a segment and keeps its file; gives it back if it is served.
    fn publish(&self, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, mut segment: Segment) -> Option<Arc<Segment>> {
        self.signed.fetch_add(segment.keys().len() as u64, Ordering::Relaxed);
        let part = segment.meta().part;
        let what = if part == Part::Overlay { "changes" } else { "slice" };
        sign::record(issuer, segment.template(), segment.keys().len(), what);
        let live = issuer.slot().live();
        let before = live.wave(algorithm).filter(|wave| wave.takes(part))?;
        if issuer.is_removed() {
            return None;
        }
        let mut written = None;
        if let Some(dir) = &self.segments {
            match dir.write(&segment) {
                // The file's pages are what is kept; the allocator gets its memory back.
                Ok((path, mapped)) => {
                    self.disk_fault.store(false, Ordering::Relaxed);
                    (written, segment) = (Some(path), mapped);
                }
                Err(error) => {
                    if !self.disk_fault.swap(true, Ordering::Relaxed) {
                        tracing::warn!(issuer = issuer.id(), %error, "cannot keep segments for the next start; they are served");
                    }
                    discard_outdated(dir, issuer, algorithm, before, &segment);
                }
            }
        }
        if let Part::Slice { index, .. } = part {
            issuer.update(|view| {
                let shared = view.table.as_ref().and_then(|table| table.sharing(index as usize, segment.keys()));
                super::View { table: shared.map(Arc::new).or_else(|| view.table.clone()), ..view.clone() }
            });
        }
        if let Some(wave) = issuer.slot().live().wave(algorithm) {
            segment.share_with(wave);
        }
        let segment = Arc::new(segment);
        issuer.slot().update(|live| match live.wave(algorithm) {
            Some(wave) => live.with_wave(algorithm, Some(Arc::new(wave.with(segment.clone())))),
            None => live.clone(),
        });
        self.released_by(issuer, &segment);
        self.lag.settle(issuer);
        let live = issuer.slot().live();
        let after = live.wave(algorithm)?;
        let mut state = self.lock();
        let held = state.issuers.get_mut(issuer.slot().id()).filter(|held| Arc::ptr_eq(&held.issuer, issuer))?;
        held.fault = None;
        if let (Some(path), Part::Overlay) = (written, part) {
            held.overlays.push((algorithm, segment.meta().sequence, path));
        }
        if let Some(dir) = &self.segments {
            tidy(dir, held, algorithm, before.is_between_slicings());
        }
        if part == Part::Overlay {
            // They may run out before their slices are due, when the signer had little life left.
            let spec = segment.template().spec();
            let half_life = spec.this_update.plus(spec.next_update.since(spec.this_update) / 2);
            let slices: HashSet<usize> =
                segment.keys().iter().map(|(serial, _)| after.slice_of(crate::store::hash(&serial))).collect();
            for index in slices {
                state.queue.set_due_by(slice_key(issuer, algorithm, after.bits(), index), half_life);
            }
        }
        Some(segment)
    }

    /// The sources may have been read again while this was signed.
    fn look_again(
        &self,
        issuer: &Arc<Issuer>,
        algorithm: HashAlgorithm,
        difference: impl FnOnce(&Table, &Wave) -> Difference,
    ) {
        let (view, live) = (issuer.view(), issuer.slot().live());
        if let (Some(table), Some(wave), false) = (&view.table, live.wave(algorithm), issuer.is_removed()) {
            self.enqueue(issuer, algorithm, table, difference(table, wave));
        }
    }

    /// A CA that issues one certificate at a time would leave a segment for each until the next wave.
    fn gather_small_overlays(&self, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, wave: &Wave) {
        let mut by_segment: HashMap<u64, Vec<_>> = HashMap::new();
        for (serial, segment) in wave.overlay() {
            by_segment.entry(segment.meta().sequence).or_default().push(*serial);
        }
        by_segment.retain(|_, serials| serials.len() < CHANGES_PER_SEGMENT / 2);
        if by_segment.len() < MAX_SMALL_OVERLAYS {
            return;
        }
        self.push_urgent(issuer, algorithm, by_segment.into_values().flatten(), Urgency::Gathered);
    }

    fn failed(&self, issuer: &Arc<Issuer>, keys: Vec<SliceKey>, fault: &SignFault) {
        if matches!(fault, SignFault::CalledOff) {
            return;
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        let text = fault.to_string();
        let at = self.clock.now().plus(RETRY);
        let mut state = self.lock();
        for key in keys {
            // What became due meanwhile, because a signer has come, say, does not wait.
            state.queue.set_due_by(key, at);
        }
        if let Some(held) = state.issuers.get_mut(issuer.slot().id())
            && held.fault.as_ref() != Some(&text)
        {
            tracing::warn!(issuer = issuer.id(), fault = text, "cannot sign; what is held is served until it runs out");
            held.fault = Some(text);
            drop(state);
            self.hold_back(issuer);
        }
    }
}

fn next_changes(state: &mut State, least: Urgency) -> Option<Changes> {
    while let Some((group, urgency, serials)) = state.urgent.take(CHANGES_PER_SEGMENT, least) {
        if let Some(held) = state.issuers.get(&group.0) {
            return Some(Changes { issuer: held.issuer.clone(), algorithm: group.1, urgency, serials });
        }
        state.urgent.done(&group, &serials);
    }
    None
}

/// When a slice is due, if it is not due yet and says what the table says.
fn signed_until(issuer: &Issuer, key: &SliceKey, table: &Table, now: Timestamp) -> Option<Timestamp> {
    let live = issuer.slot().live();
    let wave = live.wave(key.algorithm).filter(|wave| wave.bits() == key.bits)?;
    let segment = wave.slices().get(key.index as usize)?.as_ref()?;
    let is_same = table.slice(key.index as usize)?.region() == segment.keys().region();
    let is_overlaid = wave.overlay().any(|(serial, _)| wave.slice_of(crate::store::hash(serial)) == key.index as usize);
    let is_due = overdue(segment, issuer.fingerprint(&issuer.view().settings), now).is_some();
    let is_outdated = issuer.is_outdated(segment.meta().sequence);
    (is_same && !is_overlaid && !is_due && !is_outdated).then_some(segment.meta().refresh_at)
}

/// The slices that changes belong to.
fn slices_of(changes: &Changes) -> Vec<SliceKey> {
    let Changes { issuer, algorithm, serials, .. } = changes;
    let bits = issuer.slot().live().wave(*algorithm).map_or(0, |wave| wave.bits());
    let slices: HashSet<usize> = serials.iter().map(|s| Part::slice_of(crate::store::hash(s), bits)).collect();
    slices.into_iter().map(|index| slice_key(issuer, *algorithm, bits, index)).collect()
}

/// A segment that cannot be written must not leave files that say something else: the next start would serve them.
fn discard_outdated(dir: &SegmentDir, issuer: &Issuer, algorithm: HashAlgorithm, before: &Wave, segment: &Segment) {
    match segment.meta().part {
        Part::Slice { index, .. } => {
            let old = before.slices().get(index as usize).and_then(Option::as_ref);
            if old.is_some_and(|old| old.keys().region() != segment.keys().region()) {
                dir.discard(issuer.key_id(), algorithm, segment.meta().part);
            }
        }
        Part::Overlay => {
            let bits = before.bits();
            for (serial, _) in segment.keys().iter() {
                let index = before.slice_of(crate::store::hash(&serial)) as u32;
                dir.discard(issuer.key_id(), algorithm, Part::Slice { bits, index });
            }
        }
    }
}

/// Removes files that nothing needs any more: overlays that have been absorbed, slices of the slicing before this one.
/// Under the lock, so that no other thread publishes meanwhile what this one would take for absorbed.
fn tidy(dir: &SegmentDir, held: &mut Held, algorithm: HashAlgorithm, was_between_slicings: bool) {
    let live = held.issuer.slot().live();
    let Some(wave) = live.wave(algorithm) else { return };
    if !held.overlays.is_empty() {
        let needed: HashSet<u64> = wave.overlay().map(|(_, segment)| segment.meta().sequence).collect();
        let absorbed =
            |(of, sequence, _): &(HashAlgorithm, u64, PathBuf)| *of == algorithm && !needed.contains(sequence);
        held.overlays.iter().filter(|overlay| absorbed(overlay)).for_each(|(_, _, path)| dir.remove(path));
        held.overlays.retain(|overlay| !absorbed(overlay));
    }
    let is_left_over = wave.is_complete() && held.left_over.contains(&algorithm);
    if was_between_slicings && !wave.is_between_slicings() || is_left_over {
        held.left_over.retain(|of| *of != algorithm);
        dir.remove_other_slicings(held.issuer.key_id(), algorithm, wave.bits());
    }
}

/// From here on the endpoint's threads go first.
fn give_way(nice: i32) {
    // A process that was started behind others stays there.
    if nice > rustix::process::getpriority_process(None).unwrap_or(0)
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        tracing::warn!(%error, "cannot lower the priority of a signing thread");
    }
}
