//! What the signing threads do: take the next work, sign, publish, keep the file for the next start.

use super::engine::{Changes, Shared, SliceKey, slice_key};
use super::issuer::Issuer;
use super::queue::Next;
use super::sign::{self, SignFault};
use crate::ocsp::HashAlgorithm;
use crate::store::{Keys, Part, Segment};
use crate::time::Timestamp;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How long to wait before a slice that could not be signed is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// The longest sleep of an idle worker: a clock that jumps is noticed within it.
const MAX_SLEEP: Duration = Duration::from_secs(1);

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
                match state.queue.poll(now) {
                    Next::Wait(until) => {
                        if !in_background && state.has_signed_all_once() {
                            if !stays {
                                return;
                            }
                            in_background = true;
                            give_way(nice);
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
        sign::record(issuer, segment.template(), segment.keys().len(), if overlay { "changes" } else { "slice" });
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
        if let Some(wave) = issuer.slot().live().wave(algorithm) {
            segment.share_with(wave);
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
        let needed: HashSet<u64> = wave.overlay_serials().map(|(_, sequence)| sequence).collect();
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

/// From here on the endpoint's threads go first.
fn give_way(nice: i32) {
    if nice > 0
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        tracing::warn!(%error, "cannot lower the priority of a signing thread");
    }
}
