//! A set of serial numbers with their statuses, immutable, searched in place.
//!
//! The octets are the same in memory and in a segment file. Entries are grouped by what makes their records differ in
//! size: the length of the serial, its sign, and whether a revocation goes with it. Good certificates therefore cost
//! their serial and nothing else. Layout, little-endian, offsets from the start of the region:
//!
//! ```text
//! u32 entries │ u32 groups │ groups × { u8 class, 3 × 0, u32 count, u32 buckets, u32 table, u32 keys, u32 info, u32 first }
//! per group:  table: (buckets + 1) × u16   first entry of each bucket; u32 in a group of more than 65 535 entries
//!             zeros to a multiple of 64
//!             keys:  count × serial length magnitudes, ordered by the low half of their hash
//!             info:  count × u64            revoked groups only: revocationTime << 8 | reason (0xFF: none)
//! ```
//!
//! `class` is the serial's length in bits 0–4, its sign in bit 5, "revoked" in bit 6. `first` is the number of the group's
//! first entry, which is where its signatures begin.
//!
//! What a lookup costs among millions of certificates is the memory it has to wait for, one access after the other. So a small
//! copy of the table is kept that stays in the processor's cache, and the place of an entry in its bucket is guessed from its
//! hash: the search begins there, and its signature is fetched while serials are compared.

mod fetch;

use super::hash::hash;
use crate::ocsp::{CertStatus, Reason, Serial};
use crate::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;

/// Entries a bucket holds on average: two cache lines of serials, and few enough that the place in it can be guessed.
const BUCKET_ENTRIES: usize = 8;
/// The most entries a region may hold; positions are 32-bit.
pub const MAX_ENTRIES: usize = 1 << 24;
/// Where serials and signatures begin, in a segment file and in memory: at a multiple of a cache line.
pub(super) const ALIGNMENT: usize = 64;
const REGION_HEADER: usize = 8;
const GROUP_HEADER: usize = 28;
const NEGATIVE: u8 = 0x20;
const REVOKED: u8 = 0x40;
const NO_REASON: u8 = 0xff;

/// An immutable set of (serial, status). Cloning shares the octets.
#[derive(Clone, Debug)]
#[repr(C)] // what a lookup reads lies together
pub struct Keys {
    region: Bytes,
    groups: Groups,
    len: u32,
}

/// A place in a [`Keys`] and what is known there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The entry's number, from 0, which is also the number of its signature.
    pub index: u32,
    /// Good or revoked; never unknown.
    pub status: CertStatus,
}

/// Why octets are not a key region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Lengths and offsets do not fit together.
    #[error("the serial number table is damaged: {0}")]
    Damaged(&'static str),
    /// More than [`MAX_ENTRIES`].
    #[error("more than {MAX_ENTRIES} entries in one segment")]
    TooMany,
}

#[derive(Clone, Debug, Default)]
struct Group {
    /// The table once more, an octet per bucket: by how much its first entry is off from where it would be if all buckets were
    /// equally full. Empty where that does not fit an octet.
    offs: Option<Arc<[i8]>>,
    class: u8,
    count: u32,
    buckets: u32,
    table: u32,
    keys: u32,
    info: u32,
    first: u32,
}

/// The groups, ordered by class. The serials of a CA have one length as a rule: the good and the revoked ones need no second
/// place to look at.
#[derive(Clone, Debug, Default)]
struct Groups {
    here: [Group; 2],
    len: u32,
    more: Option<Arc<[Group]>>,
}

impl Groups {
    #[inline]
    fn iter(&self) -> std::slice::Iter<'_, Group> {
        match &self.more {
            None => self.here.get(..self.len as usize).unwrap_or_default().iter(),
            Some(all) => all.iter(),
        }
    }
}

impl From<Vec<Group>> for Groups {
    fn from(all: Vec<Group>) -> Self {
        let mut here = <[Group; 2]>::default();
        here.iter_mut().zip(&all).for_each(|(to, from)| to.clone_from(from));
        let len = all.len() as u32; // at most 128
        let more = (all.len() > here.len()).then(|| all.into());
        Groups { here, len, more }
    }
}

impl Keys {
    /// Builds a region from entries in any order. `unknown` is not kept. Of two entries for one serial the later wins.
    pub fn build(entries: &[(Serial, CertStatus)]) -> Result<Self, KeysError> {
        if entries.len() > MAX_ENTRIES {
            return Err(KeysError::TooMany);
        }
        let mut order: Vec<(u8, u32, Serial, usize)> = entries
            .iter()
            .enumerate()
            .filter_map(|(i, (serial, status))| Some((class_of(serial, status)?, low(hash(serial)), *serial, i)))
            .collect();
        // A serial listed twice may be in two classes: keep its last mention only. Equal serials have equal hashes, which makes
        // them neighbours in this order.
        order.sort_unstable_by_key(|(_, low, serial, i)| (*low, *serial, *i));
        let mut next = order.iter().skip(1).map(|(.., serial, _)| *serial).collect::<Vec<_>>().into_iter();
        order.retain(|(.., serial, _)| next.next() != Some(*serial));
        // Stable, so that within a class the order of the hashes stays.
        order.sort_by_key(|(class, ..)| *class);

        let runs: Vec<&[(u8, u32, Serial, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let mut region = Vec::with_capacity(region_len(&runs));
        put_u32(&mut region, order.len());
        put_u32(&mut region, runs.len());
        let mut at = REGION_HEADER + runs.len() * GROUP_HEADER;
        let mut first = 0;
        for run in &runs {
            let class = run.first().map_or(0, |e| e.0);
            let (table, keys, info, end) = offsets(class, run.len(), at);
            region.extend_from_slice(&[class, 0, 0, 0]);
            for n in [run.len(), buckets_for(run.len()), table, keys, info, first] {
                put_u32(&mut region, n);
            }
            at = end;
            first += run.len();
        }
        for run in &runs {
            put_table(&mut region, run);
            region.resize(region.len().next_multiple_of(ALIGNMENT), 0);
            for (_, _, serial, _) in *run {
                region.extend_from_slice(serial.magnitude());
            }
            for (_, _, _, i) in *run {
                if let Some((_, CertStatus::Revoked { at, reason })) = entries.get(*i) {
                    region.extend_from_slice(&pack(*at, *reason).to_le_bytes());
                }
            }
        }
        Self::parse(Bytes::from(region))
    }

    /// Reads a region, checking every length and offset, so that a search cannot leave it.
    pub fn parse(region: Bytes) -> Result<Self, KeysError> {
        let damaged = KeysError::Damaged;
        let len = read_u32(&region, 0).ok_or(damaged("no header"))?;
        let count = read_u32(&region, 4).ok_or(damaged("no header"))? as usize;
        if len as usize > MAX_ENTRIES || count > 128 {
            return Err(KeysError::TooMany);
        }
        let mut groups: Vec<Group> = Vec::with_capacity(count);
        let mut at = REGION_HEADER + count * GROUP_HEADER;
        let mut first = 0_u32;
        for i in 0..count {
            let start = REGION_HEADER + i * GROUP_HEADER;
            let field = |n: usize| read_u32(&region, start + 4 * n).ok_or(damaged("a group header is cut off"));
            let class = *region.get(start).ok_or(damaged("a group header is cut off"))?;
            let mut group = Group {
                offs: None,
                class,
                count: field(1)?,
                buckets: field(2)?,
                table: field(3)?,
                keys: field(4)?,
                info: field(5)?,
                first: field(6)?,
            };
            let width = usize::from(class & 0x1f);
            if !(1..=Serial::MAX_LEN).contains(&width) || class & 0x80 != 0 {
                return Err(damaged("a group has an impossible class"));
            }
            if groups.last().is_some_and(|g| g.class >= class) {
                return Err(damaged("the groups are out of order"));
            }
            let n = group.count as usize;
            if n == 0 || n > MAX_ENTRIES || group.buckets as usize != buckets_for(n) || group.first != first {
                return Err(damaged("a group's counts do not fit"));
            }
            let (table, keys, info, end) = offsets(class, n, at);
            if (group.table as usize, group.keys as usize, group.info as usize) != (table, keys, info) {
                return Err(damaged("a group's offsets do not fit"));
            }
            let gap = region.get(table + table_len(n)..keys).ok_or(damaged("its size does not fit its counts"))?;
            if gap.iter().any(|octet| *octet != 0) {
                return Err(damaged("there is something between a table and its serials"));
            }
            let offs = (0..=group.buckets as usize).map(|bucket| off(bucket, group.table_entry(&region, bucket)?));
            group.offs = offs.collect();
            at = end;
            first = first.checked_add(group.count).ok_or(damaged("the counts overflow"))?;
            groups.push(group);
        }
        if at != region.len() || first != len {
            return Err(damaged("its size does not fit its counts"));
        }
        Ok(Keys { region, groups: Groups::from(groups), len })
    }

    /// How many serials.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The octets, as they stand in a file.
    pub fn region(&self) -> &Bytes {
        &self.region
    }

    /// How many of the entries are revoked.
    pub fn revoked(&self) -> usize {
        self.groups.iter().filter(|g| g.class & REVOKED != 0).map(|g| g.count as usize).sum()
    }

    /// Looks a serial up; `hash` is [`hash`](fn@super::hash) of it.
    #[inline]
    pub fn find(&self, serial: &Serial, hash: u64) -> Option<Hit> {
        self.find_near(serial, hash, |_| {})
    }

    /// As [`Keys::find`]; before any serial is compared, `near` is told the number that the entry probably has, so that the
    /// caller can ask the memory for what it will need.
    #[inline]
    pub(super) fn find_near(&self, serial: &Serial, hash: u64, near: impl Fn(u32)) -> Option<Hit> {
        let class = serial_class(serial);
        self.groups
            .iter()
            .filter(|group| group.class & !REVOKED == class)
            .find_map(|group| self.find_in(group, serial.magnitude(), hash, &near))
    }

    /// The group in which a serial lies unless it is revoked.
    #[inline]
    fn group_of(&self, serial: &Serial) -> Option<&Group> {
        let class = serial_class(serial);
        self.groups.iter().find(|group| group.class & !REVOKED == class)
    }

    #[inline]
    fn find_in(&self, group: &Group, magnitude: &[u8], hash: u64, near: impl Fn(u32)) -> Option<Hit> {
        let (from, to, guess) = group.place(&self.region, hash)?;
        near(group.first.wrapping_add(from).wrapping_add(guess));
        let width = magnitude.len();
        let start = group.keys as usize + from as usize * width;
        let candidates = self.region.get(start..group.keys as usize + to as usize * width)?;
        // Most CAs use 16 octets: a comparison of fixed size is no call.
        let offset = match magnitude.as_array::<16>() {
            Some(magnitude) => {
                let candidates = candidates.as_chunks::<16>().0;
                outwards(guess as usize, candidates.len(), |i| candidates.get(i) == Some(magnitude))?
            }
            None => outwards(guess as usize, candidates.len() / width, |i| {
                candidates.get(i * width..(i + 1) * width) == Some(magnitude)
            })?,
        };
        let n = from + u32::try_from(offset).ok()?;
        Some(Hit { index: group.first + n, status: self.status_at(group, n)? })
    }

    #[inline]
    fn status_at(&self, group: &Group, n: u32) -> Option<CertStatus> {
        if group.class & REVOKED == 0 {
            return Some(CertStatus::Good);
        }
        let at = group.info as usize + 8 * n as usize;
        let packed = self.region.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok())?;
        Some(unpack(i64::from_le_bytes(packed)))
    }

    /// All entries in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Serial, CertStatus)> + '_ {
        self.groups.iter().flat_map(move |group| {
            let width = usize::from(group.class & 0x1f);
            (0..group.count).filter_map(move |n| {
                let start = group.keys as usize + n as usize * width;
                let magnitude = self.region.get(start..start + width)?;
                let serial = Serial::from_stored(group.class & NEGATIVE != 0, magnitude).ok()?;
                Some((serial, self.status_at(group, n)?))
            })
        })
    }
}

impl Group {
    /// The bucket of a hash, and the place in it as a share of 2^32.
    #[inline]
    fn bucket_of(&self, hash: u64) -> (usize, u64) {
        bucket_of(low(hash), self.buckets as usize)
    }

    /// The first entry of a hash's bucket and that of the next, and how far behind it the one with this hash probably is.
    #[inline]
    fn place(&self, region: &[u8], hash: u64) -> Option<(u32, u32, u32)> {
        let (bucket, share) = self.bucket_of(hash);
        let (from, to) = self.bucket(region, bucket)?;
        let inside = u64::from(to.checked_sub(from)?) * share;
        Some((from, to, (inside >> 32) as u32))
    }

    /// The first entry of a bucket and that of the next, not checked against each other.
    #[inline]
    fn bucket(&self, region: &[u8], bucket: usize) -> Option<(u32, u32)> {
        let Some(offs) = &self.offs else {
            let (from, to) = (self.table_entry(region, bucket)?, self.table_entry(region, bucket + 1)?);
            return Some((from, to.min(self.count)));
        };
        let [from, to] = *offs.get(bucket..)?.first_chunk()?;
        let even = (bucket * BUCKET_ENTRIES) as u32;
        let next = even + BUCKET_ENTRIES as u32;
        Some((even.checked_add_signed(from.into())?, next.checked_add_signed(to.into())?.min(self.count)))
    }

    /// The first entry of a bucket, as the table has it.
    #[inline]
    fn table_entry(&self, region: &[u8], bucket: usize) -> Option<u32> {
        let table = region.get(self.table as usize..)?;
        if self.count <= u32::from(u16::MAX) {
            table.get(2 * bucket..)?.first_chunk().map(|octets| u16::from_le_bytes(*octets).into())
        } else {
            read_u32(table, 4 * bucket)
        }
    }
}

/// See [`Group::offs`].
fn off(bucket: usize, first: u32) -> Option<i8> {
    i64::from(first).checked_sub(i64::try_from(bucket * BUCKET_ENTRIES).ok()?)?.try_into().ok()
}

/// The first place for which `is_it` holds, beginning at a guess and going to both sides.
#[inline]
fn outwards(guess: usize, len: usize, is_it: impl Fn(usize) -> bool) -> Option<usize> {
    (0..len).find_map(|distance| {
        let above = guess + distance;
        let below = guess.checked_sub(distance);
        if above < len && is_it(above) { Some(above) } else { below.filter(|below| *below < len && is_it(*below)) }
    })
}

fn serial_class(serial: &Serial) -> u8 {
    // A magnitude has at most 20 octets, which fit five bits.
    (serial.magnitude().len() as u8 & 0x1f) | if serial.is_negative() { NEGATIVE } else { 0 }
}

fn class_of(serial: &Serial, status: &CertStatus) -> Option<u8> {
    match status {
        CertStatus::Good => Some(serial_class(serial)),
        CertStatus::Revoked { .. } => Some(serial_class(serial) | REVOKED),
        CertStatus::Unknown => None,
    }
}

/// The half of the hash that orders entries within a region; the other half chooses the slice.
#[inline]
const fn low(hash: u64) -> u32 {
    hash as u32
}

/// The bucket of a hash's low half, and the place in it as a share of 2^32.
#[inline]
const fn bucket_of(low: u32, buckets: usize) -> (usize, u64) {
    let place = low as u64 * buckets as u64;
    ((place >> 32) as usize, place & 0xffff_ffff)
}

const fn buckets_for(count: usize) -> usize {
    count.div_ceil(BUCKET_ENTRIES)
}

/// Octets of a group's table.
const fn table_len(count: usize) -> usize {
    (buckets_for(count) + 1) * if count <= u16::MAX as usize { 2 } else { 4 }
}

/// Where a group's table, keys and info begin, and where the group ends, if it begins at `at`.
fn offsets(class: u8, count: usize, at: usize) -> (usize, usize, usize, usize) {
    let keys = (at + table_len(count)).next_multiple_of(ALIGNMENT);
    let info = keys + count * usize::from(class & 0x1f);
    let end = info + if class & REVOKED != 0 { 8 * count } else { 0 };
    (at, keys, info, end)
}

fn region_len(runs: &[&[(u8, u32, Serial, usize)]]) -> usize {
    runs.iter().fold(REGION_HEADER + runs.len() * GROUP_HEADER, |at, run| {
        offsets(run.first().map_or(0, |e| e.0), run.len(), at).3
    })
}

fn put_table(region: &mut Vec<u8>, run: &[(u8, u32, Serial, usize)]) {
    let buckets = buckets_for(run.len());
    let mut n = 0;
    for bucket in 0..=buckets {
        while run.get(n).is_some_and(|e| bucket_of(e.1, buckets).0 < bucket) {
            n += 1;
        }
        match u16::try_from(run.len()) {
            Ok(_) => region.extend_from_slice(&(n as u16).to_le_bytes()),
            Err(_) => put_u32(region, n),
        }
    }
}

/// Counts and offsets are bounded by [`MAX_ENTRIES`] times the widest record, which fits 32 bits.
fn put_u32(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u32).to_le_bytes());
}

#[inline]
fn read_u32(region: &[u8], at: usize) -> Option<u32> {
    region.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes)
}

fn pack(at: Timestamp, reason: Option<Reason>) -> i64 {
    at.unix() << 8 | i64::from(reason.map_or(NO_REASON, |r| r as u8))
}

fn unpack(packed: i64) -> CertStatus {
    let [code, ..] = packed.to_le_bytes();
    CertStatus::Revoked { at: Timestamp::from_unix(packed >> 8), reason: Reason::from_code(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entries() -> impl Strategy<Value = Vec<(Serial, CertStatus)>> {
        let serial = proptest::collection::vec(any::<u8>(), 1..=20)
            .prop_filter_map("minimal", |b| Serial::from_der_content(&b).ok());
        let revoked = (-10_000_000_000_i64..10_000_000_000, proptest::option::of(1_usize..10)).prop_map(|(at, r)| {
            CertStatus::Revoked { at: Timestamp::from_unix(at), reason: r.map(|i| Reason::ALL[i]) }
        });
        proptest::collection::vec((serial, prop_oneof![Just(CertStatus::Good), revoked]), 0..300)
    }

    proptest! {
        #[test]
        fn every_entry_is_found_and_no_other(list in entries(), other in proptest::collection::vec(any::<u8>(), 1..=20)) {
            let wanted: BTreeMap<Serial, CertStatus> = list.iter().copied().collect();
            let keys = Keys::build(&list).unwrap();
            prop_assert_eq!(keys.len(), wanted.len());
            prop_assert_eq!(keys.revoked(), wanted.values().filter(|s| **s != CertStatus::Good).count());
            for (i, (serial, status)) in keys.iter().enumerate() {
                prop_assert_eq!(wanted.get(&serial), Some(&status));
                let hit = keys.find(&serial, hash(&serial));
                prop_assert_eq!(hit, Some(Hit { index: i as u32, status }));
            }
            let other = Serial::from_unsigned(&other).unwrap();
            prop_assert_eq!(keys.find(&other, hash(&other)).map(|h| h.status), wanted.get(&other).copied());
        }

        #[test]
        fn damaged_octets_are_refused_or_searched_without_a_panic(list in entries(), at in any::<proptest::sample::Index>(), bit in 0_u8..8, cut in any::<proptest::sample::Index>()) {
            let keys = Keys::build(&list).unwrap();
            let mut octets = keys.region().to_vec();
            let i = at.index(octets.len());
            octets[i] ^= 1 << bit;
            if let Ok(damaged) = Keys::parse(Bytes::from(octets.clone())) {
                for (serial, _) in &list {
                    let _ = damaged.find(serial, hash(serial));
                }
                let _ = damaged.iter().count();
            }
            octets.truncate(cut.index(octets.len()));
            prop_assert!(Keys::parse(Bytes::from(octets)).is_err());
        }
    }
}
