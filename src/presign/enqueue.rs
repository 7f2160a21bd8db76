//! What differs from the sources is made urgent work, or due with its slice.

use super::engine::{CHANGES_PER_SEGMENT, Shared, slice_key};
use super::issuer::Issuer;
use super::table::{Difference, Table};
use super::urgent::Urgency;
use crate::ocsp::{HashAlgorithm, Serial};
use crate::store::{Keys, Part};
use crate::time::Timestamp;
use std::sync::Arc;

/// A slice of which more than this share changed is signed anew as a whole, beside what must go out at once.
const RESIGN_SHARE: usize = 4;

impl Shared {
    /// The lock is given back in between: there may be very many.
    pub(super) fn push_urgent(
        &self,
        issuer: &Arc<Issuer>,
        algorithm: HashAlgorithm,
        serials: impl Iterator<Item = Serial>,
        urgency: Urgency,
    ) {
        let mut serials = serials.peekable();
        let group = (issuer.slot().id().clone(), algorithm);
        while serials.peek().is_some() {
            let mut state = self.lock();
            if !state.issuers.get(&group.0).is_some_and(|held| Arc::ptr_eq(&held.issuer, issuer)) {
                return; // it has been let go
            }
            serials.by_ref().take(CHANGES_PER_SEGMENT).for_each(|serial| state.urgent.push(&group, serial, urgency));
        }
    }

    pub(super) fn enqueue(
        &self,
        issuer: &Arc<Issuer>,
        algorithm: HashAlgorithm,
        table: &Table,
        difference: Difference,
    ) {
        let Difference { changed, stale_slices } = difference;
        let slice_of = |serial: &Serial| Part::slice_of(crate::store::hash(serial), table.bits());
        let mut per_slice = vec![0_usize; 1 << table.bits()];
        for (serial, _) in &changed {
            if let Some(n) = per_slice.get_mut(slice_of(serial)) {
                *n += 1;
            }
        }
        let as_a_whole = |index: usize| {
            let n = per_slice.get(index).copied().unwrap_or(0);
            table.is_whole() && n * RESIGN_SHARE > table.slice(index).map_or(0, Keys::len)
        };
        let (mut revoked, mut others): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|(_, status)| status.is_revoked());
        self.watch_revocations(issuer, algorithm, &revoked);
        // A few go out at once even so; of very many, each is signed once and not twice.
        for some in [&mut revoked, &mut others] {
            if some.len() > CHANGES_PER_SEGMENT {
                some.retain(|(serial, _)| !as_a_whole(slice_of(serial)));
            }
        }
        for (some, urgency) in [(revoked, Urgency::Revoked), (others, Urgency::Changed)] {
            self.push_urgent(issuer, algorithm, some.iter().map(|(serial, _)| *serial), urgency);
        }
        let mut state = self.lock();
        let whole = (0..per_slice.len()).filter(|index| as_a_whole(*index));
        for index in whole.chain(stale_slices) {
            state.queue.set_due(slice_key(issuer, algorithm, table.bits(), index), Timestamp::MIN);
        }
    }
}
