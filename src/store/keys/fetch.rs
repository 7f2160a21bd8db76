//! What a lookup reads, fetched before it is made: where each step reads, the step before it tells.

use super::super::map::{CACHE_LINE, prefetch};
use super::Keys;
use crate::ocsp::Serial;

impl Keys {
    /// Has the memory fetch what the other two of this kind read first.
    #[inline]
    pub(in super::super) fn prefetch(&self) {
        prefetch(self);
        self.groups.here.iter().for_each(prefetch);
    }

    /// Has the memory fetch where the bucket of a serial begins.
    #[inline]
    pub(in super::super) fn prefetch_table(&self, serial: &Serial, hash: u64) {
        let Some(group) = self.group_of(serial) else { return };
        let (bucket, _) = group.bucket_of(hash);
        if let Some(off) = group.offs.as_ref().and_then(|offs| offs.get(bucket)) {
            prefetch(off);
        }
    }

    /// Has the memory fetch the serials of the bucket of a serial.
    #[inline]
    pub(in super::super) fn prefetch_serials(&self, serial: &Serial, hash: u64) {
        let Some(group) = self.group_of(serial) else { return };
        let Some((from, to, _)) = group.place(&self.region, hash) else { return };
        let at = |entry: u32| group.keys as usize + entry as usize * serial.magnitude().len();
        for line in (at(from) / CACHE_LINE * CACHE_LINE..at(to)).step_by(CACHE_LINE) {
            self.region.get(line).into_iter().for_each(prefetch);
        }
    }
}
