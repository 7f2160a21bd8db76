//! How long a revocation takes from the file that names it to the answers: what clients are hurt by when it is long.
//!
//! Watched are revocations of which something else is served at that moment; what is not served yet is right from the first
//! answer on. A change was not there at the look at the files before the one that saw it, so time counts from that look: the
//! most that a client can have waited, up to half a second more than it was.

use super::engine::{Presigner, Shared};
use super::issuer::Issuer;
use super::table::Table;
use crate::ocsp::{CertStatus, HashAlgorithm, Serial};
use crate::time::monotonic;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets of `stillgood_revocation_lag_seconds`, in milliseconds; one more has no bound.
pub const LAG_BOUNDS_MILLIS: [u64; 9] = [250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000];
/// Of an issuer so many are watched at a time. Of a mass revocation the rest is signed with them.
const WATCHED: usize = 4_096;

/// How long revocations took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagStats {
    /// Revocations per bucket, not cumulative; the last has no upper bound. See [`LAG_BOUNDS_MILLIS`].
    pub buckets: [u64; LAG_BOUNDS_MILLIS.len() + 1],
    /// The sum of all.
    pub sum: Duration,
}

/// Counts them as they are served.
#[derive(Debug, Default)]
pub(super) struct Lag {
    buckets: [AtomicU64; LAG_BOUNDS_MILLIS.len() + 1],
    sum_millis: AtomicU64,
}

/// An issuer's revocations that are not served yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// While statuses are taken over: since when they may have been in the files.
    since: Option<Instant>,
    serials: HashMap<Serial, Instant>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the oldest has waited; zero: none does.
    fn oldest(&self, now: Instant) -> Duration {
        let oldest = self.lock().serials.values().min().copied();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Lag {
    fn add(&self, lag: Duration) {
        let millis = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        let bucket = LAG_BOUNDS_MILLIS.iter().position(|bound| millis <= *bound).unwrap_or(LAG_BOUNDS_MILLIS.len());
        if let Some(counter) = self.buckets.get(bucket) {
            counter.fetch_add(1, Relaxed);
            self.sum_millis.fetch_add(millis, Relaxed);
        }
    }

    /// Something has been published for this issuer: what of it was waited for?
    pub(super) fn settle(&self, issuer: &Issuer) {
        let mut state = issuer.waiting().lock();
        if state.serials.is_empty() {
            return;
        }
        let (now, view, live) = (monotonic(), issuer.view(), issuer.slot().live());
        state.serials.retain(|serial, since| {
            // It may have been taken back before it was served.
            let is_wanted =
                view.table.as_ref().is_some_and(|table| table.status(serial).is_some_and(|s| s.is_revoked()));
            let waves = HashAlgorithm::ALL.into_iter().filter_map(|algorithm| live.wave(algorithm));
            let is_served = waves.filter_map(|wave| wave.status(serial)).all(|s| s.is_revoked());
            if is_wanted && is_served {
                self.add(now.saturating_duration_since(*since));
            }
            is_wanted && !is_served
        });
    }
}

impl Shared {
    /// These are to be signed: those of which something else is served are watched from now on.
    pub(super) fn watch_revocations(
        &self,
        issuer: &Issuer,
        algorithm: HashAlgorithm,
        revoked: &[(Serial, CertStatus)],
    ) {
        let mut state = issuer.waiting().lock();
        let Some(since) = state.since else { return };
        let live = issuer.slot().live();
        let Some(wave) = live.wave(algorithm) else { return };
        let is_good = |serial: &Serial| wave.status(serial).is_some_and(|s| !s.is_revoked());
        for (serial, _) in revoked.iter().filter(|(serial, _)| is_good(serial)) {
            if state.serials.len() >= WATCHED {
                return;
            }
            state.serials.entry(*serial).or_insert(since);
        }
    }
}

impl Presigner {
    /// As [`Presigner::set_table`], for statuses that were not in the files at `since` yet; `None`: nobody knows.
    pub fn set_table_since(&self, issuer: &Arc<Issuer>, table: Table, since: Option<Instant>) -> usize {
        issuer.waiting().lock().since = since;
        let changed = self.set_table(issuer, table);
        issuer.waiting().lock().since = None;
        self.shared.lag.settle(issuer);
        changed
    }

    /// How long revocations took, of all issuers since the start.
    pub fn revocation_lag(&self) -> LagStats {
        let lag = &self.shared.lag;
        let mut stats = LagStats { sum: Duration::from_millis(lag.sum_millis.load(Relaxed)), ..LagStats::default() };
        stats.buckets.iter_mut().zip(&lag.buckets).for_each(|(to, from)| *to = from.load(Relaxed));
        stats
    }

    /// How long an issuer's oldest revocation that is not served has waited; zero: none does.
    pub fn revocation_waits(&self, issuer: &Issuer) -> Duration {
        issuer.waiting().oldest(monotonic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_lands_in_the_first_bucket_that_holds_it() {
        let lag = Lag::default();
        for millis in [250, 251, 2_000, 300_001] {
            lag.add(Duration::from_millis(millis));
        }
        let counts: Vec<u64> = lag.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        assert_eq!(counts, [1, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(lag.sum_millis.load(Relaxed), 302_502);
    }
}
