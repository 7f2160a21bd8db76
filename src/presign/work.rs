//! What the signing threads do: take the next work, sign, publish, keep the file for the next start.

use super::engine::{CHANGES_PER_SEGMENT, Changes, Held, Shared, SliceKey, State, slice_key};
use super::issuer::Issuer;
use super::queue::Next;
use super::sign::{self, SignFault};
use crate::ocsp::HashAlgorithm;
use crate::store::{Keys, Part, Segment, SegmentDir, Wave};
use crate::time::Timestamp;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait before a slice that could not be signed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// The longest sleep of an idle worker: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// A clock set back by more than this makes responses that are not valid yet; back-dating hides less.
const CLOCK_STEP: Duration = Duration::from_secs(60);
/// So many small overlay segments are signed together anew: each holds a template and a mapped file.
const MAX_SMALL_OVERLAYS: usize = 64;

impl Shared {
    /// A signing thread, until the presigner stops or, unless it `stays`, until everything has been signed once.
    pub(super) fn work(&self, stays: bool, nice: i32) {
        let mut in_background = false;
        loop {
            let mut state = self.lock();
            let next = loop {
                if state.stop {
                    return;
                }
                let now = self.clock.now();
                self.notice_step(&mut state, now);
                match state.queue.poll(now) {
                    Next::Wait(until) => {
                        if !in_background && state.has_signed_all_once() {
                            if !stays {
                                return;
                            }
                            in_background = true;
                            give_way(nice);
                        }
                        state = self.sleep(state, until.map_or(MAX_SLEEP, |until| until.since(now)));
                    }
                    Next::Due(key) => match state.running.get_mut(&key) {
                        Some(again) => *again = true,
                        None => {
                            state.running.insert(key.clone(), false);
                            break Next::Due(key);
                        }
                    },
                    Next::Urgent(changes) => break Next::Urgent(changes),
                }
            };
            self.busy.fetch_add(1, Ordering::Relaxed);
            drop(state);
            // One issuer's trouble must not end the signing for all others.
            if catch_unwind(AssertUnwindSafe(|| self.run(&next))).is_err() {
                tracing::error!("a signing job panicked; the others go on");
                self.panicked(&next);
            }
            if let Next::Due(key) = next {
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

    /// After the clock was set back, what was signed in the future is signed again.
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

    fn run(&self, next: &Next<SliceKey, Changes>) {
        match next {
            Next::Wait(_) => {}
            Next::Urgent(changes) => self.sign_changes(changes),
            Next::Due(key) => self.sign_slice(key),
        }
    }

    /// What was lost with a panic is due again after a while.
    fn panicked(&self, next: &Next<SliceKey, Changes>) {
        let fault = SignFault::Panicked;
        match next {
            Next::Wait(_) => {}
            Next::Urgent(changes) => self.failed(&changes.issuer, slices_of(changes), &fault),
            Next::Due(key) => {
                let issuer = self.lock().issuers.get(&key.issuer).map(|held| held.issuer.clone());
                if let Some(issuer) = issuer {
                    self.failed(&issuer, vec![key.clone()], &fault);
                }
            }
        }
    }

    /// Between two signatures: whether to go on, and revocations first.
    fn between(&self, issuer: &Issuer, is_urgent: bool) -> Result<(), SignFault> {
        loop {
            let mut state = self.lock();
            if state.stop || issuer.is_removed() {
                return Err(SignFault::CalledOff);
            }
            let changes = if is_urgent { None } else { state.queue.pop_urgent() };
            drop(state);
            match changes {
                Some(changes) => self.sign_changes(&changes),
                None => return Ok(()),
            }
        }
    }

    fn sign_changes(&self, changes: &Changes) {
        let Changes { issuer, algorithm, serials } = changes;
        // The number is drawn before the statuses are looked at: whatever is laid over this later is newer.
        let sequence = issuer.next_sequence();
        let view = issuer.view();
        let Some(table) = view.table.as_ref().filter(|_| !issuer.is_removed()) else { return };
        let entries: Vec<_> = serials.iter().filter_map(|serial| Some((*serial, table.status(serial)?))).collect();
        if entries.is_empty() || !view.settings.certid_hashes.contains(algorithm) {
            return; // they are no longer listed
        }
        let now = self.clock.now();
        let result = Keys::build(&entries).map_err(SignFault::from).and_then(|keys| {
            let between = || self.between(issuer, true);
            sign::segment(issuer, &view, *algorithm, Part::Overlay, keys, sequence, now, between)
        });
        match result {
            Ok(segment) => self.publish(issuer, *algorithm, segment),
            // The slices these changes belong to are signed as soon as signing works again.
            Err(fault) => self.failed(issuer, slices_of(changes), &fault),
        }
    }

    fn sign_slice(&self, key: &SliceKey) {
        let Some(issuer) = self.lock().issuers.get(&key.issuer).map(|held| held.issuer.clone()) else { return };
        let sequence = issuer.next_sequence();
        let view = issuer.view();
        // Without statuses there is nothing to sign; all that is due is made due again when they come.
        let Some(table) = &view.table else { return };
        if table.bits() != key.bits || !view.settings.certid_hashes.contains(&key.algorithm) {
            return; // cut differently by now; other keys stand for these entries
        }
        let part = Part::Slice { bits: key.bits, index: key.index };
        let Some(keys) = table.slice(key.index as usize).cloned() else { return };
        let now = self.clock.now();
        let between = || self.between(&issuer, false);
        match sign::segment(&issuer, &view, key.algorithm, part, keys, sequence, now, between) {
            Ok(segment) => {
                let due = segment.meta().refresh_at;
                self.publish(&issuer, key.algorithm, segment);
                let mut state = self.lock();
                if !issuer.is_removed() && state.queue.due(key).is_none() {
                    state.queue.set_due(key.clone(), due);
                }
            }
            Err(fault) => self.failed(&issuer, vec![key.clone()], &fault),
        }
    }

    fn publish(&self, issuer: &Arc<Issuer>, algorithm: HashAlgorithm, mut segment: Segment) {
        self.signed.fetch_add(segment.keys().len() as u64, Ordering::Relaxed);
        let part = segment.meta().part;
        let what = if part == Part::Overlay { "changes" } else { "slice" };
        sign::record(issuer, segment.template(), segment.keys().len(), what);
        let live = issuer.slot().live();
        let Some(before) = live.wave(algorithm).filter(|wave| wave.takes(part)) else { return };
        if issuer.is_removed() {
            return;
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
        let live = issuer.slot().live();
        let Some(after) = live.wave(algorithm) else { return };
        let mut state = self.lock();
        let held = state.issuers.get_mut(issuer.slot().id()).filter(|held| Arc::ptr_eq(&held.issuer, issuer));
        let Some(held) = held else { return };
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
        drop(state);
        // The sources may have been read again while this was signed.
        if let Some(table) = &issuer.view().table {
            let difference = table.difference_after(after, &segment);
            self.enqueue(issuer, algorithm, table, difference);
        }
        if part == Part::Overlay {
            self.gather_small_overlays(issuer, algorithm, after);
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
        let all: Vec<_> = by_segment.into_values().flatten().collect();
        let mut state = self.lock();
        for serials in all.chunks(CHANGES_PER_SEGMENT) {
            state.queue.push_urgent(Changes { issuer: issuer.clone(), algorithm, serials: serials.to_vec() });
        }
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
        }
    }
}

/// The slices that changes belong to.
fn slices_of(changes: &Changes) -> Vec<SliceKey> {
    let Changes { issuer, algorithm, serials } = changes;
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
    if was_between_slicings && !wave.is_between_slicings() {
        dir.remove_other_slicings(held.issuer.key_id(), algorithm, wave.bits());
    }
}

/// From here on the endpoint's threads go first.
fn give_way(nice: i32) {
    if nice > 0
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        tracing::warn!(%error, "cannot lower the priority of a signing thread");
    }
}
