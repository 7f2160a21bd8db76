//! An issuer's statuses, cut into the same slices as its signed segments, and what differs between the two.

use crate::ocsp::{CertStatus, Serial};
use crate::store::{Keys, KeysError, MAX_BITS, Part, Wave, hash};
use crate::time::Timestamp;

/// Entries a slice should hold: enough that its file and template weigh nothing, few enough that signing one takes tens of
/// milliseconds.
const SLICE_ENTRIES: usize = 2048;

/// What an issuer's sources say, immutable. Octets that a signed segment holds as well are shared with it, not kept twice.
#[derive(Clone, Debug)]
pub struct Table {
    bits: u8,
    slices: Vec<Keys>,
    /// Whether the sources list what was issued, so that a serial they do not mention was not.
    pub knows_issued: bool,
    /// Until when a serial that is not mentioned may be called good, where the sources list only revocations (the CRL's
    /// nextUpdate).
    pub good_until: Timestamp,
}

/// What a table says of a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is listed.
    Listed(CertStatus),
    /// Not listed, and everything issued would be.
    NotIssued,
    /// Not listed among the revoked, and that is all the sources know.
    NotRevoked,
    /// Not listed among the revoked, but that word is too old to rely on.
    TooOld,
}

/// What has to be signed so that what is served says what a table says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Serials whose served status is another, or that are not served at all.
    pub changed: Vec<(Serial, CertStatus)>,
    /// Slices that serve a serial which is no longer listed.
    pub stale_slices: Vec<usize>,
}

impl Table {
    /// The number of slice bits for this many entries. A slicing that is in use is kept until it is off by a factor of four, so
    /// that growth does not sign everything again at each doubling.
    pub fn bits_for(entries: usize, in_use: Option<u8>) -> u8 {
        let wanted = (entries / SLICE_ENTRIES).next_power_of_two().trailing_zeros() as u8;
        let wanted = wanted.min(MAX_BITS);
        in_use.filter(|bits| bits.abs_diff(wanted) < 2).unwrap_or(wanted)
    }

    /// Builds the slices. Of two entries for one serial the later wins.
    pub fn build(
        entries: impl Iterator<Item = (Serial, CertStatus)> + Clone,
        bits: u8,
        knows_issued: bool,
        good_until: Timestamp,
    ) -> Result<Self, KeysError> {
        let bits = bits.min(MAX_BITS);
        let mut counts = vec![0_usize; 1 << bits];
        for (serial, _) in entries.clone() {
            if let Some(n) = counts.get_mut(Part::slice_of(hash(&serial), bits)) {
                *n += 1;
            }
        }
        let mut parts: Vec<Vec<(Serial, CertStatus)>> = counts.into_iter().map(Vec::with_capacity).collect();
        for (serial, status) in entries {
            if let Some(part) = parts.get_mut(Part::slice_of(hash(&serial), bits)) {
                part.push((serial, status));
            }
        }
        let slices = parts.into_iter().map(|part| Keys::build(&part)).collect::<Result<_, _>>()?;
        Ok(Table { bits, slices, knows_issued, good_until })
    }

    /// The number of hash bits that choose a slice.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// A slice's serials and statuses.
    pub fn slice(&self, index: usize) -> Option<&Keys> {
        self.slices.get(index)
    }

    /// How many serials are listed.
    pub fn len(&self) -> usize {
        self.slices.iter().map(Keys::len).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them are revoked.
    pub fn revoked(&self) -> usize {
        self.slices.iter().map(Keys::revoked).sum()
    }

    /// What the sources say of a serial.
    pub fn verdict(&self, serial: &Serial, now: Timestamp) -> Verdict {
        let h = hash(serial);
        match self.slices.get(Part::slice_of(h, self.bits)).and_then(|keys| keys.find(serial, h)) {
            Some(hit) => Verdict::Listed(hit.status),
            None if self.knows_issued => Verdict::NotIssued,
            None if now < self.good_until => Verdict::NotRevoked,
            None => Verdict::TooOld,
        }
    }

    /// Shares the octets of slices that are the same in a wave, so that each is held once.
    pub fn share_with(&mut self, wave: &Wave) {
        if wave.bits() != self.bits {
            return;
        }
        for (mine, signed) in self.slices.iter_mut().zip(wave.slices()) {
            if let Some(segment) = signed
                && segment.keys().region() == mine.region()
            {
                *mine = segment.keys().clone();
            }
        }
    }

    /// Compares what is served with what the table says. Slices that were never signed are left out: they are due anyway.
    pub fn difference(&self, wave: &Wave) -> Difference {
        let mut overlaid: Vec<Vec<Serial>> = vec![Vec::new(); self.slices.len()];
        for (serial, _) in wave.overlay_serials() {
            if let Some(slice) = overlaid.get_mut(Part::slice_of(hash(serial), self.bits)) {
                slice.push(*serial);
            }
        }
        let mut difference = Difference::default();
        for (index, (keys, overlaid)) in self.slices.iter().zip(&overlaid).enumerate() {
            let Some(Some(segment)) = wave.slices().get(index) else { continue };
            let same = segment.keys().region() == keys.region();
            if same && overlaid.is_empty() {
                continue;
            }
            difference.changed.extend(keys.iter().filter(|(serial, status)| wave.status(serial) != Some(*status)));
            let listed = |serial: &Serial| keys.find(serial, hash(serial)).is_some();
            if (!same && segment.keys().iter().any(|(serial, _)| !listed(&serial))) || !overlaid.iter().all(listed) {
                difference.stale_slices.push(index);
            }
        }
        difference
    }
}
