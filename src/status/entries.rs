//! One serial number's status in 28 octets, and lists of them.

use crate::ocsp::{CertStatus, Reason, Serial};
use crate::time::Timestamp;

/// A serial number and its status: good or revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StatusEntry {
    /// The certificate.
    pub serial: Serial,
    packed: Packed,
}

// A million of them are held per issuer: keep them small.
const _: () = assert!(size_of::<StatusEntry>() == 28);

/// First octet: what; for a revocation the other five: seconds since [`Timestamp::MIN`], big-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Packed([u8; 6]);

const GOOD: u8 = 0x00;
const WITHHELD: u8 = 0x01;
const REVOKED: u8 = 0x80;
const REVOKED_NO_REASON: u8 = 0xff;

impl StatusEntry {
    /// An entry for one certificate.
    pub fn new(serial: Serial, status: CertStatus) -> Self {
        let packed = match status {
            CertStatus::Good => [GOOD, 0, 0, 0, 0, 0],
            CertStatus::Unknown => [WITHHELD, 0, 0, 0, 0, 0],
            CertStatus::Revoked { at, reason } => {
                let what = reason.map_or(REVOKED_NO_REASON, |r| REVOKED | r as u8);
                let [.., a, b, c, d, e] = at.unix().saturating_sub(Timestamp::MIN.unix()).to_be_bytes();
                [what, a, b, c, d, e]
            }
        };
        StatusEntry { serial, packed: Packed(packed) }
    }

    /// The status. `Unknown` occurs only while a set is being put together, never in a finished one.
    pub fn status(&self) -> CertStatus {
        let Packed([what, a, b, c, d, e]) = self.packed;
        let seconds = i64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let at = Timestamp::from_unix(seconds.saturating_add(Timestamp::MIN.unix()));
        match what {
            GOOD => CertStatus::Good,
            WITHHELD => CertStatus::Unknown,
            REVOKED_NO_REASON => CertStatus::Revoked { at, reason: None },
            code => CertStatus::Revoked { at, reason: Reason::from_code(code & !REVOKED) },
        }
    }

    /// Whether the status is revoked.
    pub fn is_revoked(&self) -> bool {
        let Packed([what, ..]) = self.packed;
        what >= REVOKED
    }

    /// How much it weighs against another word on the same serial: good, withheld, revoked.
    fn weight(&self) -> u8 {
        let Packed([what, ..]) = self.packed;
        what.min(REVOKED)
    }
}

impl std::fmt::Debug for StatusEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusEntry").field("serial", &self.serial).field("status", &self.status()).finish()
    }
}

/// What is different for one serial number between two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// In the new list only.
    Added(StatusEntry),
    /// In both, with another status. This is the new one.
    Changed(StatusEntry),
    /// In the old list only.
    Removed(Serial),
}

/// What is different between two lists that are sorted by serial number and hold each only once, as those of a
/// [`StatusSet`](super::StatusSet) are. Allocates nothing; a million entries take some milliseconds.
pub fn changes<'a>(old: &'a [StatusEntry], new: &'a [StatusEntry]) -> impl Iterator<Item = Change> + 'a {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => a.serial.cmp(&b.serial),
            };
            match order {
                std::cmp::Ordering::Less => return old.next().map(|e| Change::Removed(e.serial)),
                std::cmp::Ordering::Greater => return new.next().map(|e| Change::Added(*e)),
                std::cmp::Ordering::Equal => {
                    let (before, after) = (old.next()?, new.next()?);
                    if before != after {
                        return Some(Change::Changed(*after));
                    }
                }
            }
        }
    })
}

/// Sorts by serial number and leaves one entry for each: the weightiest word, of equals the last.
/// The withheld ones are taken out and returned.
pub(super) fn settle(entries: &mut Vec<StatusEntry>) -> Vec<Serial> {
    entries.sort_by(|a, b| order(&a.serial, &b.serial)); // stable: later words stay behind earlier ones
    entries.dedup_by(|later, kept| {
        if later.serial != kept.serial {
            return false;
        }
        if later.weight() >= kept.weight() {
            *kept = *later;
        }
        true
    });
    let mut withheld = Vec::new();
    entries.retain(|e| {
        let keep = e.packed.0 != [WITHHELD, 0, 0, 0, 0, 0];
        if !keep {
            withheld.push(e.serial);
        }
        keep
    });
    withheld
}

/// The order of [`Serial`], decided for almost all pairs without comparing octet by octet.
#[inline]
fn order(a: &Serial, b: &Serial) -> std::cmp::Ordering {
    let quick = |s: &Serial| {
        let [a, b, c, d, e, f, g, h, ..] = *s.padded();
        (s.is_negative(), s.magnitude().len(), u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    };
    quick(a).cmp(&quick(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(crate) fn status() -> impl Strategy<Value = CertStatus> {
        let reason = proptest::option::of((0_usize..10).prop_map(|i| Reason::ALL[i]));
        prop_oneof![
            Just(CertStatus::Good),
            Just(CertStatus::Unknown),
            (Timestamp::MIN.unix()..=Timestamp::MAX.unix(), reason)
                .prop_map(|(at, reason)| CertStatus::Revoked { at: Timestamp::from_unix(at), reason }),
        ]
    }

    fn list() -> impl Strategy<Value = Vec<StatusEntry>> {
        proptest::collection::vec((0_u8..12, status()), 0..40).prop_map(|all| {
            all.into_iter().map(|(n, s)| StatusEntry::new(Serial::from_unsigned(&[n]).unwrap(), s)).collect()
        })
    }

    proptest! {
        #[test]
        fn a_packed_status_is_read_back(status in status()) {
            let entry = StatusEntry::new(Serial::from_unsigned(&[1]).unwrap(), status);
            prop_assert_eq!(entry.status(), status);
            prop_assert_eq!(entry.is_revoked(), matches!(status, CertStatus::Revoked { .. }));
        }

        #[test]
        fn the_quick_order_is_the_order_of_serials(
            a in proptest::collection::vec(0_u8..3, 1..=20), b in proptest::collection::vec(0_u8..3, 1..=20)
        ) {
            let (a, b) = (Serial::from_unsigned(&a).unwrap(), Serial::from_unsigned(&b).unwrap());
            prop_assert_eq!(order(&a, &b), a.cmp(&b));
        }

        #[test]
        fn settling_keeps_the_last_revocation_else_withholds_else_says_good(all in list()) {
            let mut entries = all.clone();
            let withheld = settle(&mut entries);
            for n in 0..12 {
                let serial = Serial::from_unsigned(&[n]).unwrap();
                let words = || all.iter().filter(|e| e.serial == serial);
                let expected = words().rev().find(|e| e.is_revoked())
                    .or_else(|| words().find(|e| e.status() == CertStatus::Unknown))
                    .or_else(|| words().next());
                let kept: Vec<_> = entries.iter().filter(|e| e.serial == serial).collect();
                match expected.map(super::StatusEntry::status) {
                    None => prop_assert!(kept.is_empty() && !withheld.contains(&serial)),
                    Some(CertStatus::Unknown) => prop_assert!(kept.is_empty() && withheld.contains(&serial)),
                    Some(_) => prop_assert_eq!(kept, vec![expected.unwrap()]),
                }
            }
        }

        #[test]
        fn applying_the_changes_to_the_old_list_gives_the_new(a in list(), b in list()) {
            let (mut a, mut b) = (a, b);
            settle(&mut a);
            settle(&mut b);
            let mut map: BTreeMap<Serial, StatusEntry> = a.iter().map(|e| (e.serial, *e)).collect();
            for change in changes(&a, &b) {
                match change {
                    Change::Added(e) => prop_assert!(map.insert(e.serial, e).is_none()),
                    Change::Changed(e) => prop_assert!(map.insert(e.serial, e).is_some_and(|old| old != e)),
                    Change::Removed(s) => prop_assert!(map.remove(&s).is_some()),
                }
            }
            prop_assert_eq!(map.into_values().collect::<Vec<_>>(), b);
        }
    }
}
