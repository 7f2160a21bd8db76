//! An issuer's statuses, cut into the same slices as its signed segments, and what differs between the two.

use crate::ocsp::{CertStatus, Profile, Reason, Serial};
use crate::status::StatusSet;
use crate::store::{Keys, KeysError, MAX_BITS, Part, Segment, Wave, hash};
use crate::time::Timestamp;

/// Entries a slice should hold: enough that its file and template weigh nothing, few enough that signing one takes tens of
/// milliseconds.
const SLICE_ENTRIES: usize = 2048;

/// What an issuer's sources say, immutable. Octets that a signed segment holds as well are shared with it, not kept twice.
#[derive(Clone, Debug)]
pub struct Table {
    bits: u8,
    slices: Vec<Keys>,
    /// What may be said of serials that are not listed.
    pub unlisted: Unlisted,
    /// Serials of which nothing may be said because their record is damaged; sorted.
    pub withheld: Vec<Serial>,
}

/// What an issuer's sources allow to be said of a serial they do not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// They list what was issued: it was not.
    NotIssued,
    /// They list what was issued, but whom some of the lines are about cannot be told: it may be one of those.
    Unclear,
    /// They list what was revoked: it is good, within these times ([`StatusSet::good_within`], both included).
    Good {
        /// Not before.
        from: Timestamp,
        /// Not after.
        until: Timestamp,
    },
    /// They cannot be relied on for it: a list is damaged, or together they do not cover every certificate.
    Nothing,
    /// One of them could not be read since the start, and only what the others revoke is listed. Of all else nothing new is said;
    /// what was signed before lasts until it runs out.
    Unread,
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
    /// Nothing can be said of it: its record is damaged, or the list of the revoked is out of date or partial.
    Withheld,
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

    /// What the sources of an issuer say, cut as `in_use` if that still suits.
    ///
    /// Under `cabf` a reason that CA/B BR §7.2.2 and §4.9.13 do not permit (certificateHold, removeFromCRL, aACompromise) is left
    /// out of the answer; the revocation itself is not.
    pub fn of(set: &StatusSet, in_use: Option<u8>, profile: Profile) -> Result<Self, KeysError> {
        let unlisted = match set.good_within() {
            _ if set.knows_issued && set.unattributed_lines().is_some() => Unlisted::Unclear,
            _ if set.knows_issued => Unlisted::NotIssued,
            Some((from, until)) => Unlisted::Good { from, until },
            None => Unlisted::Nothing,
        };
        let bits = Table::bits_for(set.entries.len(), in_use);
        let entry = |n: usize| set.entries.get(n).map(|entry| (entry.serial, permitted(entry.status(), profile)));
        let mut table = Table::build_from(set.entries.len(), entry, bits, unlisted)?;
        table.withheld.clone_from(&set.withheld);
        Ok(table)
    }

    /// What they revoke or withhold while one of them could not be read since the start: see [`Unlisted::Unread`]. What is served is
    /// not cut otherwise for it.
    pub fn of_revoked(set: &StatusSet, in_use: Option<u8>, profile: Profile) -> Result<Self, KeysError> {
        let entries: Vec<_> = set.entries.iter().filter(|entry| entry.is_revoked()).collect();
        let entry = |n: usize| entries.get(n).map(|entry| (entry.serial, permitted(entry.status(), profile)));
        let bits = in_use.unwrap_or_else(|| Table::bits_for(entries.len(), None));
        let mut table = Table::build_from(entries.len(), entry, bits, Unlisted::Unread)?;
        table.withheld.clone_from(&set.withheld);
        Ok(table)
    }

    /// The same, with another word on what is not listed.
    pub fn with_unlisted(self, unlisted: Unlisted) -> Self {
        Table { unlisted, ..self }
    }

    /// Builds the slices. Of two entries for one serial the later wins.
    pub fn build(entries: &[(Serial, CertStatus)], bits: u8, unlisted: Unlisted) -> Result<Self, KeysError> {
        Self::build_from(entries.len(), |n| entries.get(n).copied(), bits, unlisted)
    }

    /// Sorts numbers instead of entries, so that building takes little more memory than what it builds.
    fn build_from(
        len: usize,
        entry: impl Fn(usize) -> Option<(Serial, CertStatus)>,
        bits: u8,
        unlisted: Unlisted,
    ) -> Result<Self, KeysError> {
        let bits = bits.min(MAX_BITS);
        let slice_of = |n: usize| entry(n).map_or(0, |(serial, _)| Part::slice_of(hash(&serial), bits));
        let mut ends = vec![0_u32; 1 << bits];
        for n in 0..len {
            if let Some(count) = ends.get_mut(slice_of(n)) {
                *count = count.checked_add(1).ok_or(KeysError::TooMany)?;
            }
        }
        let mut sum = 0_u32;
        for end in &mut ends {
            let count = *end;
            *end = sum;
            sum = sum.checked_add(count).ok_or(KeysError::TooMany)?;
        }
        let mut order = vec![0_u32; len];
        for n in 0..len {
            if let Some(next) = ends.get_mut(slice_of(n)) {
                if let Some(place) = order.get_mut(*next as usize) {
                    *place = u32::try_from(n).map_err(|_| KeysError::TooMany)?;
                }
                *next += 1;
            }
        }
        let mut slices = Vec::with_capacity(1 << bits);
        let mut part = Vec::new();
        let mut start = 0;
        for end in ends {
            part.clear();
            let numbers = order.get(start as usize..end as usize).unwrap_or_default();
            part.extend(numbers.iter().filter_map(|n| entry(*n as usize)));
            slices.push(Keys::build(&part)?);
            start = end;
        }
        Ok(Table { bits, slices, unlisted, withheld: Vec::new() })
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
        match (self.status(serial), self.unlisted) {
            (Some(status), _) => Verdict::Listed(status),
            (None, _) if self.withheld.binary_search(serial).is_ok() => Verdict::Withheld,
            (None, Unlisted::NotIssued) => Verdict::NotIssued,
            (None, Unlisted::Good { from, until }) if (from..=until).contains(&now) => Verdict::NotRevoked,
            (None, Unlisted::Good { .. } | Unlisted::Unclear | Unlisted::Nothing | Unlisted::Unread) => {
                Verdict::Withheld
            }
        }
    }

    /// The status of a serial that is listed.
    pub fn status(&self, serial: &Serial) -> Option<CertStatus> {
        let h = hash(serial);
        let hit = self.slices.get(Part::slice_of(h, self.bits)).and_then(|keys| keys.find(serial, h));
        hit.map(|hit| hit.status)
    }

    /// How many of the serials listed here are not listed in a newer table.
    pub fn lost_in(&self, newer: &Table) -> usize {
        let missing = |serial: &Serial| {
            let h = hash(serial);
            newer.slices.get(Part::slice_of(h, newer.bits)).is_none_or(|keys| keys.find(serial, h).is_none())
        };
        self.slices.iter().flat_map(Keys::iter).filter(|(serial, _)| missing(serial)).count()
    }

    /// How many of the serials that are revoked here are not revoked in a newer table.
    pub fn unrevoked_in(&self, newer: &Table) -> usize {
        let stays = |serial: &Serial| {
            let h = hash(serial);
            let keys = newer.slices.get(Part::slice_of(h, newer.bits));
            keys.and_then(|keys| keys.find(serial, h)).is_some_and(|hit| hit.status.is_revoked())
        };
        let with = self.slices.iter().filter(|keys| keys.revoked() > 0).flat_map(Keys::iter);
        with.filter(|(serial, status)| status.is_revoked() && !stays(serial)).count()
    }

    /// All it says: listed serials, and with `Unknown` those of which nothing may be said.
    pub fn iter(&self) -> impl Iterator<Item = (Serial, CertStatus)> + '_ {
        let withheld = self.withheld.iter().map(|serial| (*serial, CertStatus::Unknown));
        self.slices.iter().flat_map(Keys::iter).chain(withheld)
    }

    /// Whether all sources have been read once, so that slices can be signed from it.
    pub fn is_whole(&self) -> bool {
        self.unlisted != Unlisted::Unread
    }

    /// Whether the sources list what was issued.
    pub fn knows_issued(&self) -> bool {
        matches!(self.unlisted, Unlisted::NotIssued | Unlisted::Unclear)
    }

    /// Whether what is not listed is known not to have been issued.
    pub fn knows_unissued(&self) -> bool {
        self.unlisted == Unlisted::NotIssued
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

    /// The same with the octets of one slice shared with a segment that was made from it; `None` if they differ by now.
    pub fn sharing(&self, index: usize, keys: &Keys) -> Option<Self> {
        let same = self.slices.get(index).is_some_and(|mine| mine.region() == keys.region());
        same.then(|| {
            let mut next = self.clone();
            if let Some(slice) = next.slices.get_mut(index) {
                *slice = keys.clone();
            }
            next
        })
    }

    /// Compares what is served with what the table says. What is not served at all because its slice was never signed is left
    /// out: it is due anyway.
    pub fn difference(&self, wave: &Wave) -> Difference {
        let mut overlaid: Vec<Vec<Serial>> = vec![Vec::new(); self.slices.len()];
        for (serial, _) in wave.overlay() {
            if let Some(slice) = overlaid.get_mut(Part::slice_of(hash(serial), self.bits)) {
                slice.push(*serial);
            }
        }
        let mut difference = Difference::default();
        for (index, overlaid) in overlaid.iter().enumerate() {
            self.compare_slice(wave, index, overlaid, &mut difference);
        }
        difference
    }

    /// Compares what is served of some serials with what the table says.
    pub fn difference_of(&self, wave: &Wave, serials: &[Serial]) -> Difference {
        let mut difference = Difference::default();
        for serial in serials {
            let (says, served) = (self.status(serial), wave.status(serial));
            match says {
                Some(status) if served != Some(status) => difference.changed.push((*serial, status)),
                None if served.is_some() => difference.stale_slices.push(Part::slice_of(hash(serial), self.bits)),
                _ => {}
            }
        }
        difference
    }

    /// Serials that a wave does not answer as revoked, though they are revoked here, or answers with something else although nothing
    /// may be said of them. Those of slices that were never signed are left out.
    pub fn wrongly_good(&self, wave: &Wave) -> Vec<Serial> {
        let revoked = |(serial, status): (Serial, CertStatus)| status.is_revoked().then_some(serial);
        let changed = self.difference(wave).changed.into_iter().filter_map(revoked);
        changed.chain(self.withheld.iter().copied()).filter(|serial| self.is_wrongly_good(wave, serial)).collect()
    }

    /// Whether a wave answers so for a serial.
    pub fn is_wrongly_good(&self, wave: &Wave, serial: &Serial) -> bool {
        match (self.status(serial), wave.status(serial)) {
            (Some(status), Some(served)) => status.is_revoked() && !served.is_revoked(),
            // Not listed when its slice was signed: taken for that it would be good, not issued, or left to another record.
            (Some(status), None) => status.is_revoked() && wave.covers(hash(serial)),
            (None, served) => {
                served.is_some_and(|served| !served.is_revoked()) && self.withheld.binary_search(serial).is_ok()
            }
        }
    }

    /// Compares what a slice has brought into a wave with what the table says by now.
    pub fn difference_after(&self, wave: &Wave, segment: &Segment) -> Difference {
        let mut difference = Difference::default();
        // Cut differently by now, other slices stand for it.
        if let Part::Slice { bits, index } = segment.meta().part
            && bits == self.bits
            && bits == wave.bits()
        {
            let index = index as usize;
            let here = |serial: &&Serial| Part::slice_of(hash(serial), bits) == index;
            let overlaid: Vec<Serial> = wave.overlay().map(|(serial, _)| serial).filter(here).copied().collect();
            self.compare_slice(wave, index, &overlaid, &mut difference);
        }
        difference
    }

    /// `overlaid` are the serials of the wave's overlay that belong to this slice.
    fn compare_slice(&self, wave: &Wave, index: usize, overlaid: &[Serial], difference: &mut Difference) {
        let (Some(keys), Some(slice)) = (self.slices.get(index), wave.slices().get(index)) else { return };
        let Some(segment) = slice else {
            // Another slicing may still serve them, or the overlay.
            if wave.serves_unsigned_slices() {
                let outdated = |serial: &Serial, status| wave.status(serial).is_some_and(|served| served != status);
                difference.changed.extend(keys.iter().filter(|(serial, status)| outdated(serial, *status)));
            }
            return;
        };
        let same = segment.keys().region() == keys.region();
        if same && overlaid.is_empty() {
            return;
        }
        difference.changed.extend(keys.iter().filter(|(serial, status)| wave.status(serial) != Some(*status)));
        let listed = |serial: &Serial| keys.find(serial, hash(serial)).is_some();
        if (!same && segment.keys().iter().any(|(serial, _)| !listed(&serial))) || !overlaid.iter().all(listed) {
            difference.stale_slices.push(index);
        }
    }
}

fn permitted(status: CertStatus, profile: Profile) -> CertStatus {
    match status {
        CertStatus::Revoked {
            at,
            reason: Some(Reason::CertificateHold | Reason::RemoveFromCrl | Reason::AaCompromise),
        } if profile == Profile::Cabf => CertStatus::Revoked { at, reason: None },
        status => status,
    }
}
