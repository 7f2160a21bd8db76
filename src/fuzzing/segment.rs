//! Segments: any octets are survived; in what is accepted every entry is found where it says, and nothing else is.

use crate::ocsp::Serial;
use crate::store::{Keys, MAX_ENTRIES, Segment, hash};
use bytes::Bytes;
use ring::digest;

/// Octets of the checksum at the end of a segment.
const CHECKSUM_LEN: usize = 32;

/// Reads a segment, as it is and with the checksum put right, and the octets of a key region alone: a checksum keeps
/// accidents away from the reader behind it, and mutations too.
pub fn segment(data: &[u8]) {
    read(Bytes::copy_from_slice(data));
    let body = data.get(..data.len().saturating_sub(CHECKSUM_LEN)).unwrap_or_default();
    read(Bytes::from([body, digest::digest(&digest::SHA256, body).as_ref()].concat()));
    if let Ok(keys) = Keys::parse(Bytes::copy_from_slice(data)) {
        found(&keys);
    }
}

fn read(file: Bytes) {
    let Ok(segment) = Segment::parse(file.clone()) else { return };
    assert_eq!(Segment::parse(Bytes::from(segment.to_bytes())).map(|s| s.to_bytes()), Ok(segment.to_bytes()));
    found(segment.keys());
    assert!(segment.entries().count() <= segment.keys().len() && segment.keys().len() <= MAX_ENTRIES);
    let mut out = Vec::new();
    for (serial, _, _) in segment.entries() {
        if let Some(hit) = segment.find(&serial, hash(&serial)) {
            out.clear();
            assert!(segment.write_response(&serial, hit, &mut out).is_some(), "an entry without its signature");
            assert!(out.len() > segment.template().spec().algorithm.raw_len() / 2);
        }
    }
}

/// A table may be nonsense under a right checksum, made by nobody who wishes us well; a search still ends, within bounds, and
/// what it finds is what is written there.
fn found(keys: &Keys) {
    let entries: Vec<_> = keys.iter().collect();
    assert!(entries.len() <= keys.len());
    for (serial, _) in &entries {
        if let Some(hit) = keys.find(serial, hash(serial)) {
            assert!((hit.index as usize) < keys.len());
            assert!(entries.contains(&(*serial, hit.status)), "found what is not there");
        }
    }
    // Rebuilt from what was read, it is a right one: everything is found, under its own number.
    let rebuilt = Keys::build(&entries).unwrap_or_else(|error| panic!("{error}"));
    let listed: Vec<_> = rebuilt.iter().collect();
    for (number, (serial, status)) in listed.iter().enumerate() {
        let hit = rebuilt.find(serial, hash(serial));
        assert_eq!(hit.map(|hit| (hit.index as usize, hit.status)), Some((number, *status)));
    }
    for (serial, _) in &entries {
        assert!(rebuilt.find(serial, hash(serial)).is_some(), "{serial} is lost");
    }
    if let Ok(other) = Serial::from_unsigned(&[0x15; 20])
        && !entries.iter().any(|(serial, _)| *serial == other)
    {
        assert_eq!(keys.find(&other, hash(&other)), None);
    }
}
