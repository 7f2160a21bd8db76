//! How long HTTP caches may keep an answer (RFC 9919 §7.2).

use super::conditions::ETag;
use super::source::Freshness;
use crate::ocsp::HashAlgorithm;
use crate::time::Timestamp;
use std::time::Duration;

/// Caches come back this long after the planned refresh rather than at it, so that the newer answer is surely in place.
/// It shrinks to a twentieth of the validity where that is less.
pub(super) const REFRESH_GRACE: Duration = Duration::from_secs(300);
/// Apple's client honours a max-age between these two alone.
const APPLE_MIN: i64 = 3_600;
const APPLE_MAX: i64 = 7 * 86_400;
/// A certificate must be known within 15 minutes of its issuance (CA/B BR §4.9.9), whatever was said of it before; its source takes
/// some of them.
const PROVISIONAL_MAX: i64 = 600;
/// The two lowercase digits of every octet.
#[expect(clippy::indexing_slicing, reason = "the compiler computes it, and would say so")]
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = [digits[octet >> 4], digits[octet & 15]];
        octet += 1;
    }
    table
};

/// What the header fields of a cacheable answer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caching {
    /// thisUpdate, as RFC 9919 §7.2 has it (§6 says producedAt; a pre-signed answer has them close). Not after now, which
    /// RFC 9110 §8.8.2.1 forbids.
    pub last_modified: Timestamp,
    /// nextUpdate; of a provisional answer, when `max_age` ends.
    pub expires: Timestamp,
    /// Seconds.
    pub max_age: u32,
    /// [`Freshness::validator`] in hex, strong: Windows' cache keeps only strong ones.
    pub etag: ETag,
}

impl Caching {
    /// `None` when the answer has run out, or says that it ends before it begins.
    pub(super) fn of(freshness: &Freshness, response: &[u8], now: Timestamp) -> Option<Self> {
        let max_age = max_age(freshness, now)?;
        let end = now.plus(Duration::from_secs(u64::from(max_age)));
        Some(Caching {
            last_modified: freshness.this_update.min(now),
            expires: if freshness.is_provisional { end } else { freshness.next_update },
            max_age,
            etag: match &freshness.validator {
                Some(validator) => etag(validator),
                None => etag(HashAlgorithm::Sha256.digest(response).as_ref()),
            },
        })
    }
}

/// Until the planned refresh and a little more, at least an hour and at most a week, always less than what is left until
/// nextUpdate; of a provisional answer ten minutes. `None` when nothing is left.
pub(super) fn max_age(freshness: &Freshness, now: Timestamp) -> Option<u32> {
    let validity = freshness.next_update.seconds_since(freshness.this_update);
    let left = freshness.next_update.seconds_since(now);
    if left <= 0 || validity <= 0 {
        return None;
    }
    if freshness.is_provisional {
        return u32::try_from(PROVISIONAL_MAX.min(left - 1)).ok();
    }
    let grace = i64::try_from(REFRESH_GRACE.as_secs()).unwrap_or(0).min(validity / 20);
    let until_refresh = freshness.refresh_at.seconds_since(now).saturating_add(grace);
    let age = until_refresh.clamp(APPLE_MIN, APPLE_MAX).min(left - 1);
    u32::try_from(age).ok()
}

#[expect(clippy::indexing_slicing, reason = "every octet has its entry")]
fn etag(validator: &[u8]) -> ETag {
    let mut tag = [b'"'; 66];
    let [_, hex @ .., _] = &mut tag;
    for (pair, octet) in hex.as_chunks_mut::<2>().0.iter_mut().zip(validator) {
        *pair = HEX[usize::from(*octet)];
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::super::source::StatusKind;
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_700_000_000;

    fn freshness(this: i64, next: i64, refresh: i64) -> Freshness {
        let at = |offset| Timestamp::from_unix(NOW + offset);
        Freshness {
            this_update: at(this),
            next_update: at(next),
            refresh_at: at(refresh),
            status: StatusKind::Good,
            is_provisional: false,
            validator: None,
        }
    }

    fn age(this: i64, next: i64, refresh: i64) -> Option<u32> {
        max_age(&freshness(this, next, refresh), Timestamp::from_unix(NOW))
    }

    #[test]
    fn max_age_comes_from_the_planned_refresh_and_not_from_next_update() {
        assert_eq!(age(-300, 4 * 86_400, 86_400), Some(86_700));
        assert_eq!(age(-300, 4 * 86_400, 60), Some(3_600), "an hour at least");
        assert_eq!(age(-300, 4 * 86_400, -9_000), Some(3_600), "an overdue refresh");
        assert_eq!(age(-300, 30 * 86_400, 20 * 86_400), Some(7 * 86_400), "a week at most");
        assert_eq!(age(-300, 600, 200), Some(599), "a short validity");
        assert_eq!(age(-300, 100, 86_400), Some(99), "a refresh planned too late");
        assert_eq!(age(-300, 1, -1), Some(0));
    }

    #[test]
    fn an_answer_about_what_was_never_issued_is_kept_for_ten_minutes_at_most() {
        let now = Timestamp::from_unix(NOW);
        let long = Freshness { is_provisional: true, ..freshness(-300, 8 * 3_600, 4 * 3_600) };
        let caching = Caching::of(&long, b"abc", now).unwrap();
        assert_eq!((caching.max_age, caching.expires), (600, now.plus(Duration::from_secs(600))));
        let short = Freshness { is_provisional: true, ..freshness(-300, 400, 200) };
        assert_eq!(max_age(&short, now), Some(399));
        assert_eq!(max_age(&Freshness { is_provisional: true, ..freshness(-300, 0, 200) }, now), None);
    }

    #[test]
    fn an_answer_that_has_run_out_has_no_max_age() {
        assert_eq!(age(-300, 0, 100), None);
        assert_eq!(age(-300, -1, 100), None);
        assert_eq!(age(500, 400, 100), None);
    }

    #[test]
    fn the_entity_tag_is_the_validator_or_the_sha256_in_hex_and_last_modified_is_never_ahead_of_now() {
        let now = Timestamp::from_unix(NOW);
        let caching = Caching::of(&freshness(60, 9_000, 4_000), b"abc", now).unwrap();
        assert_eq!(&caching.etag, b"\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
        assert_eq!(caching.last_modified, now);
        let known = Freshness { validator: Some([0xa5; 32]), ..freshness(60, 9_000, 4_000) };
        assert_eq!(Caching::of(&known, b"abc", now).unwrap().etag[..], *format!("\"{}\"", "a5".repeat(32)).as_bytes());
    }

    proptest! {
        #[test]
        fn max_age_never_reaches_next_update(this in -1_000_000i64..1_000_000, next in -1_000_000i64..1_000_000, refresh: i32) {
            if let Some(age) = age(this, next, i64::from(refresh)) {
                prop_assert!(i64::from(age) < next);
                prop_assert!(i64::from(age) <= APPLE_MAX);
            }
        }
    }
}
