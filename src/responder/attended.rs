//! That somebody reads an issuer's files, and since when.

use super::known::Known;
use super::managed::Managed;
use crate::time::{Timestamp, monotonic};
use std::time::{Duration, Instant};

/// Somebody reads the files.
#[derive(Clone, Copy)]
pub(super) struct Busy {
    since: Timestamp,
    began: Instant,
    /// It has been told that this takes long.
    is_told: bool,
}

impl Busy {
    /// The fault that it is if it has taken for longer than `late`.
    pub(super) fn fault(self, late: Duration) -> Option<String> {
        (self.began.elapsed() >= late).then(|| {
            format!(
                "its files have been read since {} and that has not ended: a file system hangs or a source is very large; what was read before is used on",
                self.since
            )
        })
    }

    /// The same the first time.
    pub(super) fn news(&mut self, late: Duration) -> Option<String> {
        let fault = self.fault(late).filter(|_| !self.is_told);
        self.is_told |= fault.is_some();
        fault
    }
}

/// Says that an issuer's files are being read, for as long as it lives.
pub(super) struct Attended<'a> {
    managed: &'a Managed,
    /// Where it is said.
    place: fn(&mut Known) -> &mut Option<Busy>,
}

impl<'a> Attended<'a> {
    pub(super) fn by(managed: &'a Managed, place: fn(&mut Known) -> &mut Option<Busy>, now: Timestamp) -> Self {
        *place(&mut managed.known()) = Some(Busy { since: now, began: monotonic(), is_told: false });
        Attended { managed, place }
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        let busy = (self.place)(&mut self.managed.known()).take();
        if busy.is_some_and(|busy| busy.is_told) {
            tracing::info!(issuer = self.managed.spec().id, "its files have been read after all");
        }
    }
}
