//! All signed statuses of one issuer under one CertID hash: slices, and an overlay of what changed since.

use super::segment::{Fetched, Part, Segment};
use super::{Hit, hash};
use crate::ocsp::{CertStatus, Serial};
use crate::time::Timestamp;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// The most slices, as a power of two.
pub const MAX_BITS: u8 = 12;

/// An immutable view; every change makes a new one that shares the segments.
#[derive(Clone, Debug)]
pub struct Wave {
    bits: u8,
    slices: Vec<Option<Arc<Segment>>>,
    overlay: Overlay,
    /// The view under another slicing, asked for slices that have not been signed under this one yet.
    before: Option<Arc<Wave>>,
}

type Overlay = HashMap<Serial, (Arc<Segment>, Hit), BuildHasherDefault<SerialHasher>>;

impl Wave {
    /// A view in which nothing has been signed, cut into 2^`bits` slices; `bits` is at most [`MAX_BITS`].
    pub fn empty(bits: u8) -> Self {
        let bits = bits.min(MAX_BITS);
        Wave { bits, slices: vec![None; 1 << bits], overlay: Overlay::default(), before: None }
    }

    /// The number of hash bits that choose a slice.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The slices, in order; `None` is one that has not been signed yet.
    pub fn slices(&self) -> &[Option<Arc<Segment>>] {
        &self.slices
    }

    /// The slice a serial with this hash belongs to.
    #[inline]
    pub fn slice_of(&self, hash: u64) -> usize {
        Part::slice_of(hash, self.bits)
    }

    /// Whether every slice has been signed under this slicing.
    pub fn is_complete(&self) -> bool {
        self.slices.iter().all(Option::is_some)
    }

    /// Whether a serial with this hash that is not found is known not to be listed: its slice has been signed.
    #[inline]
    pub fn covers(&self, hash: u64) -> bool {
        self.slices.get(self.slice_of(hash)).is_some_and(Option::is_some)
    }

    /// The newest signed status of a serial; `hash` is [`hash`](fn@super::hash) of it.
    #[inline]
    pub fn find(&self, serial: &Serial, hash: u64) -> Option<(&Segment, Hit)> {
        self.find_planned(serial, hash).map(|(segment, hit, _)| (segment, hit))
    }

    /// The same, and when it is planned to be signed again. What lies in the overlay is signed again with its slice: were it the
    /// overlay's own time, caches would come back for all that changed together at one instant.
    #[inline]
    pub fn find_planned(&self, serial: &Serial, hash: u64) -> Option<(&Segment, Hit, Timestamp)> {
        if !self.overlay.is_empty()
            && let Some((segment, hit)) = self.overlay.get(serial)
        {
            let (this_update, next_update, planned) = segment.dates();
            // Where the signer had little life left the slice does not wait for its turn.
            let half_life = this_update.plus(next_update.since(this_update) / 2);
            let slice = self.slices.get(self.slice_of(hash)).and_then(Option::as_ref);
            return Some((segment, *hit, slice.map_or(planned, |slice| slice.dates().2.min(half_life))));
        }
        match self.slices.get(self.slice_of(hash)) {
            Some(Some(segment)) => segment.find(serial, hash).map(|hit| (&**segment, hit, segment.dates().2)),
            _ => self.before.as_ref().and_then(|before| before.find_planned(serial, hash)),
        }
    }

    /// Has the memory fetch what answers about serials will probably read; each goes with [`hash`](fn@super::hash) of it.
    pub(super) fn prefetch<'s>(&self, serials: impl Iterator<Item = (&'s Serial, u64)> + Clone) {
        // What all of them read first, then what all of them read next: so they wait together, and not each for itself.
        for part in Fetched::ALL {
            for (serial, hash) in serials.clone() {
                if let Some(Some(segment)) = self.slices.get(self.slice_of(hash)) {
                    segment.prefetch(serial, hash, part);
                }
            }
        }
    }

    /// The newest thisUpdate of what is served for a serial and of the slice it belongs to: no longer listed, it may have been
    /// served until that slice was signed.
    pub fn this_update(&self, serial: &Serial) -> Option<Timestamp> {
        let h = hash(serial);
        let slice = self.slices.get(self.slice_of(h)).and_then(Option::as_ref).map(|slice| slice.dates().0);
        self.find(serial, h).map(|(segment, _)| segment.dates().0).max(slice)
    }

    /// The status that is being served for a serial.
    pub fn status(&self, serial: &Serial) -> Option<CertStatus> {
        self.find(serial, hash(serial)).map(|(_, hit)| hit.status)
    }

    /// How many serials the overlay holds.
    pub fn overlay_len(&self) -> usize {
        self.overlay.len()
    }

    /// The serials the overlay holds, with the segment each is in.
    pub fn overlay(&self) -> impl Iterator<Item = (&Serial, &Segment)> {
        self.overlay.iter().map(|(serial, (segment, _))| (serial, &**segment))
    }

    /// Whether serials of slices that have not been signed may be served all the same.
    pub fn serves_unsigned_slices(&self) -> bool {
        self.before.is_some() || !self.overlay.is_empty()
    }

    /// Whether it still asks the slicing before it.
    pub fn is_between_slicings(&self) -> bool {
        self.before.is_some()
    }

    /// Every segment that is still needed.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        let mut all: Vec<Arc<Segment>> = self.slices.iter().flatten().cloned().collect();
        all.extend(self.overlay.values().map(|(segment, _)| segment.clone()));
        if let Some(before) = &self.before {
            all.extend(before.segments());
        }
        all.sort_by_key(|segment| Arc::as_ptr(segment) as usize);
        all.dedup_by(|a, b| Arc::ptr_eq(a, b));
        all
    }

    /// Puts a signed segment in: a slice takes the place of the one before it and absorbs what the overlay held for it, unless
    /// that is newer; an overlay segment is laid over everything older. A slice under another slicing is ignored, unless it is the one before,
    /// which is served until this one is complete.
    #[must_use]
    pub fn with(&self, segment: Arc<Segment>) -> Self {
        let mut next = self.clone();
        let sequence = segment.meta().sequence;
        match segment.meta().part {
            Part::Slice { bits, index } => {
                let index = index as usize;
                if bits != next.bits {
                    // Its file is on disk already, in the place of the one before: what a restart would serve is served now.
                    if let Some(before) = next.before.as_ref().filter(|before| before.bits == bits) {
                        next.before = Some(Arc::new(before.with(segment)));
                        next.absorb(bits, index, sequence);
                    }
                    return next;
                }
                let Some(slot) = next.slices.get_mut(index) else { return next };
                if slot.as_ref().is_some_and(|held| held.meta().sequence > sequence) {
                    return next;
                }
                *slot = Some(segment);
                next.absorb(bits, index, sequence);
                if next.is_complete() {
                    next.before = None;
                }
            }
            Part::Overlay => {
                for (serial, _) in segment.keys().iter() {
                    let h = hash(&serial);
                    let newer = next.find(&serial, h).is_some_and(|(held, _)| held.meta().sequence > sequence);
                    if let Some(hit) = segment.find(&serial, h).filter(|_| !newer) {
                        next.overlay.insert(serial, (segment.clone(), hit));
                    }
                }
            }
        }
        next
    }

    /// Lets go of what the overlay holds for a slice that was begun later.
    fn absorb(&mut self, bits: u8, index: usize, sequence: u64) {
        self.overlay
            .retain(|serial, (held, _)| Part::slice_of(hash(serial), bits) != index || held.meta().sequence > sequence);
    }

    /// Whether a segment of this part would be put in: any overlay, and slices of this slicing.
    pub fn takes(&self, part: Part) -> bool {
        match part {
            Part::Slice { bits, .. } => bits == self.bits,
            Part::Overlay => true,
        }
    }

    /// Starts over with another slicing. What was signed under this one goes on being served until the new slices are there.
    #[must_use]
    pub fn resliced(self: &Arc<Self>, bits: u8) -> Self {
        let mut next = Wave::empty(bits);
        next.overlay = self.overlay.clone();
        // Of two slicings that were both interrupted only the more complete one is worth asking.
        let mut before = self;
        while let Some(older) = &before.before
            && before.slices.iter().all(Option::is_none)
        {
            before = older;
        }
        next.before = Some(before.clone());
        next
    }
}

/// Takes the store's own hash; serial numbers are already spread by it.
#[derive(Default)]
pub struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for chunk in octets.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0.rotate_left(23) ^ n ^ 0x9e37_79b9_7f4a_7c15) * 0xd1b5_4a32_d192_ed03_u128;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::{HashAlgorithm, IssuerHashes, ResponderId, SignatureAlgorithm, Template, TemplateSpec};
    use crate::store::{Keys, SegmentMeta};
    use bytes::Bytes;

    const REVOKED: CertStatus = CertStatus::Revoked { at: Timestamp::EPOCH, reason: None };

    fn serial(n: u32) -> Serial {
        Serial::from_unsigned(&n.to_be_bytes()).unwrap()
    }

    fn segment(part: Part, sequence: u64, entries: &[(Serial, CertStatus)]) -> Arc<Segment> {
        planned(part, sequence, entries, Timestamp::MAX)
    }

    fn planned(part: Part, sequence: u64, entries: &[(Serial, CertStatus)], refresh_at: Timestamp) -> Arc<Segment> {
        let keys = Keys::build(entries).unwrap();
        let template = Template::new(TemplateSpec {
            issuer: IssuerHashes::new(HashAlgorithm::Sha1, b"name", b"key"),
            responder: ResponderId::Key([0; 20]),
            this_update: Timestamp::EPOCH,
            next_update: Timestamp::MAX,
            produced_at: Timestamp::EPOCH,
            algorithm: SignatureAlgorithm::Ed25519,
            certificate: None,
            single_extensions: Vec::new(),
        });
        let meta = SegmentMeta { issuer_key: [0; 32], part, sequence, refresh_at, settings: 0 };
        let signatures = Bytes::from(vec![0; 64 * keys.len()]);
        Arc::new(Segment::new(meta, template, keys, signatures).unwrap())
    }

    fn slice(wave: &Wave, index: usize, sequence: u64, n: u32, revoked: &[u32]) -> Arc<Segment> {
        let entries: Vec<_> = (0..n)
            .map(|i| (serial(i), if revoked.contains(&i) { REVOKED } else { CertStatus::Good }))
            .filter(|(s, _)| wave.slice_of(hash(s)) == index)
            .collect();
        segment(Part::Slice { bits: wave.bits(), index: index as u32 }, sequence, &entries)
    }

    #[test]
    fn a_revocation_in_the_overlay_is_served_until_a_newer_slice_absorbs_it() {
        let mut wave = Wave::empty(2);
        for i in 0..4 {
            wave = wave.with(slice(&wave, i, 1, 1000, &[]));
        }
        wave = wave.with(segment(Part::Overlay, 5, &[(serial(17), REVOKED)]));
        assert_eq!(wave.status(&serial(17)), Some(REVOKED));
        let of_17 = wave.slice_of(hash(&serial(17)));

        let stale = wave.with(slice(&wave, of_17, 4, 1000, &[]));
        assert_eq!(stale.status(&serial(17)), Some(REVOKED), "a slice that began earlier must not undo it");

        let absorbed = wave.with(slice(&wave, of_17, 6, 1000, &[17]));
        assert_eq!(absorbed.overlay_len(), 0);
        assert_eq!(absorbed.status(&serial(17)), Some(REVOKED));
        assert_eq!(absorbed.status(&serial(18)), Some(CertStatus::Good));
        assert_eq!(absorbed.status(&serial(1000)), None);
        assert_eq!(absorbed.segments().len(), 4);
    }

    #[test]
    fn what_lies_in_the_overlay_is_planned_with_its_slice() {
        let t = Timestamp::from_unix;
        let changed: Vec<_> = (0..100).map(|n| (serial(n), REVOKED)).collect();
        let mut wave = Wave::empty(2).with(planned(Part::Overlay, 9, &changed, t(7)));
        let plan = |wave: &Wave, n| wave.find_planned(&serial(n), hash(&serial(n))).unwrap().2;
        assert_eq!(plan(&wave, 5), t(7), "there is no slice yet");
        for index in 0..4_u32 {
            let part = Part::Slice { bits: 2, index };
            wave = wave.with(planned(part, 1, &[], t(100 + i64::from(index))));
        }
        for n in 0..100 {
            assert_eq!(plan(&wave, n), t(100 + wave.slice_of(hash(&serial(n))) as i64));
        }
    }

    #[test]
    fn an_older_overlay_does_not_cover_a_newer_slice() {
        let wave = Wave::empty(0);
        let wave = wave.with(slice(&wave, 0, 9, 10, &[3]));
        let wave = wave.with(segment(Part::Overlay, 8, &[(serial(3), CertStatus::Good)]));
        assert_eq!(wave.status(&serial(3)), Some(REVOKED));
    }

    #[test]
    fn a_slice_that_was_being_signed_when_the_slicing_changed_is_served_as_after_a_restart() {
        let one = Wave::empty(0);
        let one =
            Arc::new(one.with(slice(&one, 0, 1, 500, &[5])).with(segment(Part::Overlay, 2, &[(serial(6), REVOKED)])));
        let four = one.resliced(2);
        let late = four.with(slice(&one, 0, 3, 500, &[5, 7]));
        assert_eq!((late.bits(), late.overlay_len(), late.is_between_slicings()), (2, 0, true));
        assert_eq!([5, 6, 7].map(|n| late.status(&serial(n))), [Some(REVOKED), Some(CertStatus::Good), Some(REVOKED)]);
        let older = late.with(slice(&one, 0, 2, 500, &[]));
        assert_eq!(older.status(&serial(7)), Some(REVOKED), "one that began earlier changes nothing");
        let other = four.with(slice(&Wave::empty(1), 1, 9, 500, &[]));
        assert_eq!(
            (other.status(&serial(5)), other.overlay_len()),
            (Some(REVOKED), 1),
            "neither this slicing nor the one before"
        );
    }

    #[test]
    fn everything_is_served_while_the_slicing_changes() {
        let one = Wave::empty(0);
        let one = Arc::new(one.with(slice(&one, 0, 1, 500, &[5])));
        let mut four = one.resliced(2);
        for i in 0..4 {
            assert_eq!(four.status(&serial(5)), Some(REVOKED));
            assert_eq!((0..500).filter(|n| four.status(&serial(*n)).is_some()).count(), 500);
            four = four.with(slice(&four, i, 2, 500, &[5]));
        }
        assert!(four.is_complete());
        assert_eq!(four.segments().len(), 4, "the old slicing is let go");
    }
}
