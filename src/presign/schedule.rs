//! When what is signed, and for how long: pure arithmetic.

use crate::time::Timestamp;
use std::time::Duration;

/// The least time a response must still be good for when it is signed, under profiles that set none of their own. Below it
/// an answer would reach the client spent.
pub const MIN_USEFUL: Duration = Duration::from_secs(60);
/// CA/B BR §4.9.9: a validity interval is at least eight hours.
pub const CABF_MIN_VALIDITY: Duration = Duration::from_secs(8 * 3600);
/// How long an answer about a certificate that was never issued holds from its signing, where the profile allows so little. A
/// certificate must be known within 15 minutes of its issuance (CA/B BR §4.9.9), and its source takes some of them.
pub const PROVISIONAL: Duration = Duration::from_secs(10 * 60);

/// How an issuer's responses are dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// From thisUpdate to nextUpdate, both included (CA/B BR §4.9.9): nextUpdate is one second earlier than the sum.
    pub validity: Duration,
    /// Signed again at the latest this long after thisUpdate, or at half of a response's life, if that is earlier.
    pub refresh: Duration,
    /// How far thisUpdate lies before the moment of signing, for clients whose clock is slow.
    pub backdate: Duration,
    /// A response that would live shorter than this is not signed.
    pub least_validity: Duration,
}

/// The three times of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// producedAt.
    pub produced_at: Timestamp,
}

/// Why nothing can be signed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotDate {
    /// The signer's remaining life is too short (CA/B BR §4.9.9 with MRSP §6, or [`MIN_USEFUL`]).
    #[error("the signer's certificate expires at {not_after}: a response signed now could not live long enough")]
    SignerSpent {
        /// Its notAfter.
        not_after: Timestamp,
    },
    /// The signer's certificate is not valid yet.
    #[error("the signer's certificate is valid only from {not_before}")]
    SignerEarly {
        /// Its notBefore.
        not_before: Timestamp,
    },
}

impl Cadence {
    /// The dates of a response signed at `now` under a certificate with this life. `not_before_data` is the newest event it
    /// reports (a revocationTime): thisUpdate is not dated before it, unless it lies in the future.
    ///
    /// nextUpdate never passes the signer's notAfter (Mozilla Root Store Policy §6).
    pub fn dates(
        &self,
        now: Timestamp,
        signer: (Timestamp, Timestamp),
        newest_event: Timestamp,
    ) -> Result<Dates, CannotDate> {
        let (not_before, not_after) = signer;
        if now < not_before {
            return Err(CannotDate::SignerEarly { not_before });
        }
        let backdated = now.minus(self.backdate);
        let this_update = backdated.max(newest_event.min(now));
        let next_update = this_update.plus(self.validity).minus(Duration::from_secs(1)).min(not_after);
        let too_short =
            next_update.since(this_update) + Duration::from_secs(1) < self.least_validity.min(self.validity);
        if too_short || next_update < now.plus(MIN_USEFUL.min(self.validity / 4)) {
            return Err(CannotDate::SignerSpent { not_after });
        }
        Ok(Dates { this_update, next_update, produced_at: now })
    }

    /// The same for answers that hold for [`PROVISIONAL`] only.
    #[must_use]
    pub fn provisional(self) -> Self {
        let short = self.backdate.saturating_add(PROVISIONAL).saturating_add(Duration::from_secs(1));
        Cadence { validity: short.max(self.least_validity).min(self.validity), ..self }
    }

    /// The time between two signings of the same slice: the refresh less the back-dating, so that it is counted from
    /// thisUpdate.
    pub fn period(&self) -> Duration {
        self.refresh.saturating_sub(self.backdate).max(self.refresh / 2).max(Duration::from_secs(1))
    }

    /// When entries signed with these dates are signed again.
    ///
    /// Every slice has its own stable place in the period, drawn from a hash, so that neither signing nor the expiry of
    /// caches bunches, whatever happened at the start: the first time round it comes early, never late. None is due later than
    /// at half of its life: one whose life was cut short by its signer, or if the refresh is more than half of the validity.
    pub fn due(&self, dates: &Dates, place: u64) -> Timestamp {
        let period = self.period().as_secs();
        let phase = scale(place, period);
        let signed = dates.produced_at.unix();
        let since_phase = (signed - i64::try_from(phase).unwrap_or(0)).rem_euclid(i64::try_from(period).unwrap_or(1));
        let in_turn = dates.produced_at.plus(Duration::from_secs(period)).unix() - since_phase;
        let half_life = dates.this_update.plus(dates.next_update.since(dates.this_update) / 2);
        let latest = half_life.max(dates.produced_at.plus(Duration::from_secs(1)));
        Timestamp::from_unix(in_turn).min(latest)
    }
}

/// `place` of 2^64 as a share of `n`.
fn scale(place: u64, n: u64) -> u64 {
    ((u128::from(place) * u128::from(n)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;

    fn cadence(validity_h: u64, refresh_h: u64) -> Cadence {
        Cadence {
            validity: Duration::from_secs(validity_h * HOUR),
            refresh: Duration::from_secs(refresh_h * HOUR),
            backdate: Duration::from_secs(300),
            least_validity: CABF_MIN_VALIDITY,
        }
    }

    fn t(s: i64) -> Timestamp {
        Timestamp::from_unix(s)
    }

    #[test]
    fn the_validity_interval_counts_both_ends() {
        let d = cadence(96, 24).dates(t(1_000_000), (t(0), t(i64::from(i32::MAX))), t(0)).unwrap();
        assert_eq!(d.this_update, t(1_000_000 - 300));
        assert_eq!(d.next_update.seconds_since(d.this_update), 96 * 3600 - 1);
        assert_eq!(d.produced_at, t(1_000_000));
    }

    #[test]
    fn an_answer_about_what_was_never_issued_holds_for_ten_minutes_or_as_briefly_as_the_profile_allows() {
        let life = (t(0), t(i64::from(i32::MAX)));
        let short = Cadence { least_validity: Duration::ZERO, ..cadence(96, 24) }.provisional();
        assert_eq!(short.dates(t(1_000_000), life, t(0)).unwrap().next_update, t(1_000_600));
        let cabf = cadence(96, 24).provisional().dates(t(1_000_000), life, t(0)).unwrap();
        assert_eq!(cabf.next_update.seconds_since(cabf.this_update) + 1, 8 * 3600, "BR §4.9.9");
        let configured = Cadence { validity: Duration::from_secs(400), ..short };
        assert_eq!(configured.provisional().validity, configured.validity, "never longer than it was");
    }

    #[test]
    fn this_update_is_not_dated_before_a_revocation_it_reports() {
        let d = cadence(96, 24).dates(t(1_000_000), (t(0), t(i64::from(i32::MAX))), t(999_990)).unwrap();
        assert_eq!(d.this_update, t(999_990));
        let d = cadence(96, 24).dates(t(1_000_000), (t(0), t(i64::from(i32::MAX))), t(2_000_000)).unwrap();
        assert_eq!(d.this_update, t(1_000_000), "an event in the future does not make thisUpdate future");
    }

    #[test]
    fn a_signer_that_is_not_valid_yet_signs_nothing() {
        let e = cadence(96, 24).dates(t(10), (t(11), t(i64::from(i32::MAX))), t(0));
        assert_eq!(e, Err(CannotDate::SignerEarly { not_before: t(11) }));
    }

    proptest! {
        #[test]
        fn next_update_never_passes_the_signers_not_after(life in 0_i64..2_000_000, validity_h in 8_u64..240) {
            let now = t(10_000_000);
            match cadence(validity_h, validity_h / 2).dates(now, (t(0), now.plus(Duration::from_secs(life as u64))), t(0)) {
                Ok(d) => {
                    prop_assert!(d.next_update <= now.plus(Duration::from_secs(life as u64)));
                    prop_assert!(d.this_update <= d.produced_at);
                    prop_assert!(d.next_update.seconds_since(d.this_update) + 1 >= 8 * 3600);
                }
                Err(_) => prop_assert!(life < 8 * 3600),
            }
        }

        /// CA/B BR §4.9.9, Mozilla and Microsoft at once: 16 h < V ≤ 7 d, signed again by V/2, at least 8 h before nextUpdate
        /// and at most 4 days after thisUpdate.
        #[test]
        fn every_refresh_satisfies_all_root_programmes(
            validity_h in 17_u64..=168, share in 0.05_f64..=0.5, place in any::<u64>(), now in 1_000_000_i64..4_000_000_000,
        ) {
            let c = Cadence { refresh: Duration::from_secs_f64(validity_h as f64 * 3600.0 * share), ..cadence(validity_h, 0) };
            let d = c.dates(t(now), (t(0), Timestamp::MAX), t(0)).unwrap();
            let due = c.due(&d, place);
            prop_assert!(due > d.produced_at);
            prop_assert!(due.since(d.this_update) <= c.refresh.max(Duration::from_secs(1)));
            prop_assert!(due.since(d.this_update) <= Duration::from_secs(validity_h * 1800));
            prop_assert!(d.next_update.since(due) >= Duration::from_secs(8 * 3600));
            prop_assert!(due.since(d.this_update) <= Duration::from_secs(4 * 24 * 3600));
        }

        #[test]
        fn a_slice_keeps_its_place_round_after_round(place in any::<u64>(), now in 1_000_000_i64..4_000_000_000) {
            let c = cadence(96, 24);
            let sign = |at| c.due(&c.dates(at, (t(0), Timestamp::MAX), t(0)).unwrap(), place);
            let first = sign(t(now));
            let second = sign(first);
            prop_assert_eq!(second.since(first), c.period());
        }
    }

    #[test]
    fn a_refresh_of_more_than_half_of_the_validity_is_half_of_it() {
        let c = cadence(96, 72);
        let d = c.dates(t(5_000_000), (t(0), Timestamp::MAX), t(0)).unwrap();
        let latest = (0..1000_u64).map(|i| c.due(&d, i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).max().unwrap();
        assert_eq!(latest.since(d.this_update).as_secs(), 48 * HOUR - 1, "nextUpdate is included");
    }

    #[test]
    fn places_spread_evenly_over_the_period() {
        let c = cadence(96, 24);
        let d = c.dates(t(5_000_000), (t(0), Timestamp::MAX), t(0)).unwrap();
        let mut buckets = [0_u32; 100];
        for i in 0..10_000_u64 {
            let due = c.due(&d, i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let share = due.since(d.produced_at).as_secs_f64() / c.period().as_secs_f64();
            buckets[((share * 100.0) as usize).min(99)] += 1;
        }
        assert!(buckets.iter().all(|n| *n <= 200), "busiest bucket {:?}, twice the mean is 200", buckets.iter().max());
    }
}
