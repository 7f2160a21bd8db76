//! Which files of an issuer are due to be read.

use super::spec::{IssuerSpec, SignerOrigin};
use crate::status::Watch;
use crate::time::{Timestamp, monotonic};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long to wait before something that failed is tried again although its files did not change: a missing mount comes back,
/// a certificate becomes valid.
const RETRY: Duration = Duration::from_secs(10);
/// The longest wait after one failure upon another: reading a large index that stays bad must not take a core.
const MAX_RETRY: Duration = Duration::from_secs(320);

/// The files of an issuer, as its readers see them. Each part is held for as long as reading it takes, which may be for ever: it
/// is tried and never waited for, and where one hangs the other is read on.
pub(super) struct Files {
    pub(super) status: Mutex<Part>,
    pub(super) signer: Mutex<SignerFiles>,
}

/// What a signer is read from.
pub(super) struct SignerFiles {
    pub(super) part: Part,
    /// [`Slot::version`](crate::signer::slots::Slot::version) of the signer that was last looked at.
    pub(super) slot_version: Option<u64>,
}

/// Files that are read together, and how that went.
pub(super) struct Part {
    paths: Vec<PathBuf>,
    /// `None` before the first look: it is for the reader to ask the file system anything.
    watch: Option<Watch>,
    /// Read at the next pass, whatever the watch says.
    pub(super) wanted: bool,
    pub(super) fault: Option<String>,
    /// The look before this one.
    looked_at: Option<Instant>,
    /// When what was not taken over yet was not there; `None`: there is nothing, or nobody looked before.
    pub(super) changed_since: Option<Instant>,
    retry_at: Timestamp,
    /// Failures in a row.
    failures: u32,
}

impl Part {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Part {
            paths,
            watch: None,
            wanted: true,
            fault: None,
            looked_at: None,
            changed_since: None,
            retry_at: Timestamp::MIN,
            failures: 0,
        }
    }

    pub(super) fn is_due(&mut self, now: Timestamp) -> bool {
        let before = self.looked_at.replace(monotonic());
        let changed = match &mut self.watch {
            Some(watch) => !watch.poll().is_empty(),
            None => {
                self.watch = Some(Watch::new(self.paths.iter().cloned()));
                true
            }
        };
        if changed {
            self.changed_since = self.changed_since.or(before);
        }
        // Beyond the longest wait it is the clock that was set back.
        let is_time = now >= self.retry_at || self.retry_at.since(now) > MAX_RETRY;
        let retry = self.fault.is_some() && is_time;
        std::mem::take(&mut self.wanted) || changed || retry
    }

    /// Notes how it went; true if a fault is new and should be told.
    pub(super) fn settled(&mut self, fault: Option<String>, now: Timestamp) -> bool {
        self.retry_at = now.plus(MAX_RETRY.min(RETRY * (1 << self.failures.min(5))));
        if fault.is_none() {
            self.changed_since = None;
        }
        self.failures = if fault.is_some() { self.failures.saturating_add(1) } else { 0 };
        let news = fault.is_some() && self.fault != fault;
        self.fault = fault;
        news
    }
}

impl Files {
    pub(super) fn new(spec: &IssuerSpec) -> Self {
        Files { status: Mutex::new(Files::status_of(spec)), signer: Mutex::new(Files::signer_of(spec)) }
    }

    pub(super) fn status_of(spec: &IssuerSpec) -> Part {
        Part::new(status_paths(spec))
    }

    pub(super) fn signer_of(spec: &IssuerSpec) -> SignerFiles {
        SignerFiles { part: Part::new(signer_paths(spec)), slot_version: None }
    }

    /// Whether two specs name the same.
    pub(super) fn are_same(one: &IssuerSpec, other: &IssuerSpec) -> bool {
        status_paths(one) == status_paths(other) && signer_paths(one) == signer_paths(other)
    }

    /// Whether a reader of the signer is out.
    pub(super) fn reads_signer(&self) -> bool {
        free(&self.signer).is_none()
    }

    /// Whether a reader of the statuses is out.
    pub(super) fn reads_status(&self) -> bool {
        free(&self.status).is_none()
    }
}

fn status_paths(spec: &IssuerSpec) -> Vec<PathBuf> {
    spec.sources.iter().map(|source| source.path().to_path_buf()).collect()
}

fn signer_paths(spec: &IssuerSpec) -> Vec<PathBuf> {
    match &spec.signer {
        Some(SignerOrigin::Files(files)) => vec![files.certificate.clone(), files.key.clone()],
        Some(SignerOrigin::Slot { .. }) | None => Vec::new(),
    }
}

/// Gives it unless somebody reads it.
pub(super) fn free<T>(part: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match part.try_lock() {
        Ok(part) => Some(part),
        Err(TryLockError::Poisoned(part)) => Some(part.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
