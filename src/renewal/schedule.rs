//! When a signer is renewed: pure arithmetic on its certificate.
//!
//! A response must not outlive its signer's certificate, so the usable life of a signer ends at its deadline, `notAfter −
//! validity − margin`, and not at notAfter. The window is a share of that life; each slot has one place in it, from the
//! hash of node, slot and certificate serial number: drawn once, the same after a restart, and never bunched.

use super::id::{NodeId, SlotId};
use crate::config::Window;
use crate::ocsp::Serial;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What renewal knows of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerLife {
    /// Its serial number.
    pub serial: Serial,
    /// notBefore.
    pub not_before: Timestamp,
    /// notAfter.
    pub not_after: Timestamp,
}

/// The places in one certificate's life that renewal goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// The window opens.
    pub opens: Timestamp,
    /// The place in the window: renewal starts. Never later than the deadline.
    pub due: Timestamp,
    /// The window closes.
    pub closes: Timestamp,
    /// From here on it is urgent.
    pub urgent: Timestamp,
    /// The next signer must be in use: notAfter − validity − margin. Zero life where that lies before notBefore.
    pub deadline: Timestamp,
}

impl Schedule {
    /// The schedule of this certificate in this slot of this node. `reserve` is what must be left of it at the deadline:
    /// the validity of a response, and the margin.
    pub fn of(
        node: NodeId,
        slot: &SlotId,
        life: &SignerLife,
        reserve: Duration,
        window: Window,
        urgent_share: f64,
    ) -> Self {
        let place = node.mix("place").slot(slot).serial(&life.serial).fraction();
        Self::at((life.not_before, life.not_after), place, reserve, window, urgent_share)
    }

    /// The schedule of a certificate that others renew: people need no place of their own, so it is due when the window opens.
    pub fn of_others(
        not_before: Timestamp,
        not_after: Timestamp,
        reserve: Duration,
        window: Window,
        urgent_share: f64,
    ) -> Self {
        Self::at((not_before, not_after), 0.0, reserve, window, urgent_share)
    }

    fn at(
        (not_before, not_after): (Timestamp, Timestamp),
        place: f64,
        reserve: Duration,
        window: Window,
        urgent_share: f64,
    ) -> Self {
        let deadline = not_after.minus(reserve);
        let start = not_before.min(deadline);
        let usable = deadline.since(start).as_secs() as f64;
        // Rounded down, so never past the deadline.
        let at = |share: f64| start.plus(Duration::from_secs((usable * share.clamp(0.0, 1.0)) as u64));
        Schedule {
            opens: at(window.start),
            due: at(window.start + (window.end - window.start) * place),
            closes: at(window.end),
            urgent: at(1.0 - urgent_share),
            deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::IssuerId;
    use proptest::prelude::*;

    const WINDOW: Window = Window { start: 0.50, end: 0.75 };

    fn slot(n: u32) -> SlotId {
        SlotId::Signer(IssuerId::new(&format!("issuing-ca-{n}")).unwrap())
    }

    fn life(n: u64, from: i64, seconds: i64) -> SignerLife {
        SignerLife {
            serial: Serial::from_unsigned(&n.to_be_bytes()).unwrap(),
            not_before: Timestamp::from_unix(from),
            not_after: Timestamp::from_unix(from + seconds),
        }
    }

    #[test]
    fn the_deadline_leaves_room_for_a_whole_response() {
        let days = |n: i64| n * 86_400;
        let reserve = Duration::from_secs(5 * 86_400);
        let s = Schedule::of(NodeId::named("a"), &slot(1), &life(1, 0, days(45)), reserve, WINDOW, 0.1);
        assert_eq!(s.deadline, Timestamp::from_unix(days(40)));
        assert_eq!((s.opens, s.closes), (Timestamp::from_unix(days(20)), Timestamp::from_unix(days(30))));
        assert_eq!(s.urgent, Timestamp::from_unix(days(36)));
    }

    #[test]
    fn a_life_too_short_for_a_response_is_due_at_once() {
        let s = Schedule::of(NodeId::named("a"), &slot(1), &life(1, 1_000, 60), Duration::from_secs(600), WINDOW, 0.1);
        assert_eq!(s.due, s.deadline);
        assert!(s.due < Timestamp::from_unix(1_000));
    }

    #[test]
    fn of_ten_thousand_slots_the_busiest_hundredth_holds_at_most_twice_the_mean() {
        for (node, sequential) in [("node-1", true), ("node-2", false)] {
            let mut buckets = [0_u32; 100];
            for n in 0..10_000_u32 {
                // All issued at one moment: the worst case.
                let serial = if sequential { u64::from(n) } else { 7 };
                let life = life(serial, 0, 40_000_000);
                let s = Schedule::of(NodeId::named(node), &slot(n), &life, Duration::ZERO, WINDOW, 0.1);
                let bucket = (s.due.unix() - 20_000_000) * 100 / 10_000_000;
                buckets[usize::try_from(bucket).unwrap()] += 1;
            }
            let busiest = buckets.iter().max().unwrap();
            assert!(*busiest <= 200, "{busiest} of a mean of 100");
            assert!(buckets.iter().all(|n| *n > 50), "{buckets:?}");
        }
    }

    #[test]
    fn places_of_one_issuer_on_two_nodes_differ() {
        let life = life(1, 0, 40_000_000);
        let due = |node| Schedule::of(NodeId::named(node), &slot(1), &life, Duration::ZERO, WINDOW, 0.1).due;
        assert_ne!(due("node-1"), due("node-2"));
        assert_eq!(due("node-1"), due("node-1"));
    }

    proptest! {
        #[test]
        fn a_place_is_in_its_window_and_never_later_than_the_deadline(
            serial: u64, from in -1_000_000_000_i64..4_000_000_000, seconds in -1_000_i64..1_000_000_000,
            reserve in 0_u64..100_000_000, start in 0.01_f64..0.9, width in 0.001_f64..0.05,
        ) {
            let window = Window { start, end: start + width };
            let life = life(serial, from, seconds);
            let s = Schedule::of(NodeId::named("n"), &slot(1), &life, Duration::from_secs(reserve), window, 0.04);
            prop_assert!(s.opens <= s.due && s.due <= s.closes && s.closes <= s.deadline, "{s:?}");
            prop_assert!(s.urgent <= s.deadline);
            prop_assert_eq!(s.deadline, life.not_after.minus(Duration::from_secs(reserve)));
        }
    }
}
