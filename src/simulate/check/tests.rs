//! The checks themselves.

use super::super::ca::serial;
use super::*;
use crate::renewal::{Hold, Park};

#[test]
fn a_ramp_is_worth_a_tenth_at_first_and_about_half_in_all() {
    assert!((ramped(60.0, 900.0) - 6.0).abs() < 1e-9);
    assert!((ramped(900.0, 900.0) - 454.5).abs() < 1e-9);
    assert!((ramped(1_000.0, 900.0) - 554.5).abs() < 1e-9);
}

fn leaving<'a>(ms: Ms, slot: Slot, heard: &'a Heard) -> Leaving<'a> {
    let (now, order) = (Timestamp::from_unix((ms / 1_000) as i64), OrderId::from_number(1));
    Leaving {
        ms,
        now,
        node: 0,
        slot,
        order,
        attempt: 1,
        in_flight: 1,
        heard,
        issuer: None,
        record: None,
        credential: None,
    }
}

fn record(hold: Hold) -> SlotRecord {
    let slot = crate::renewal::SlotId::Credential(crate::renewal::EndpointId::new("main").unwrap());
    SlotRecord { hold, ..SlotRecord::of_first_order(slot, Phase::Due, Timestamp::EPOCH) }
}

/// Whether this request is said to come too soon after the one before it.
fn too_soon(check: &mut Check, leaving: &Leaving<'_>) -> bool {
    check.violations.clear();
    check.leaves(leaving);
    check.violations.iter().any(|v| v.what.contains("asked twice"))
}

fn issued() -> Answer {
    Answer::Issued(SignerLife { serial: serial(1), not_before: Timestamp::EPOCH, not_after: Timestamp::EPOCH })
}

#[test]
fn what_the_ca_has_refused_may_be_asked_once_a_day_whatever_the_ledger_says() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let order = OrderId::from_number(1);
    assert!(!too_soon(&mut check, &leaving(1_000, 1, &heard)));
    check.answered(2_000, 0, 1, order, (&Answer::Refused, Asked::default()));
    assert!(!too_soon(&mut check, &leaving(1_000 + DAY, 1, &heard)));
    assert!(too_soon(&mut check, &leaving(DAY + DAY / 2, 1, &heard)));
    // An order that is taken may be refused in the end.
    check.answered(2 * DAY, 0, 1, order, (&Answer::Later(None), Asked::default()));
    assert!(too_soon(&mut check, &leaving(2 * DAY + 1, 1, &heard)));
    check.answered(2 * DAY + 2, 0, 1, order, (&issued(), Asked::default()));
    assert!(!too_soon(&mut check, &leaving(2 * DAY + 3, 1, &heard)));
}

#[test]
fn what_the_ledger_calls_parked_is_asked_once_a_day_until_what_may_lifts_it() {
    type Lifts = fn(&mut Check);
    let lifts: [(&str, Lifts, [bool; 3]); 5] = [
        ("nothing", |_| (), [false; 3]),
        (
            "a certificate",
            |c| c.answered(5_000, 0, 1, OrderId::from_number(1), (&issued(), Asked::default())),
            [true, true, false],
        ),
        ("renew", |c| c.ordered(0), [true, true, false]),
        ("unpark", |c| c.pardon(0), [true; 3]),
        ("the registry", |c| c.freed(0, 1), [true; 3]),
    ];
    for (name, lift, lifted) in lifts {
        for (why, lifted) in [Park::Refused, Park::Rejected, Park::Governor].into_iter().zip(lifted) {
            let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
            check.leaves(&leaving(1_000, 1, &heard));
            let parked = Hold::Parked { why, text: String::new(), since: Timestamp::EPOCH, canary: Timestamp::EPOCH };
            check.written(0, 1, Some(&record(parked)));
            lift(&mut check);
            // The core no longer says that it is parked.
            let free = record(Hold::None);
            let again = Leaving { record: Some(&free), ..leaving(DAY / 2, 1, &heard) };
            assert_eq!(too_soon(&mut check, &again), !lifted, "{why:?}, lifted by {name}");
        }
    }
}

#[test]
fn a_registry_to_and_fro_grants_no_budget() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let mut beyond = 0;
    for n in 0..60 {
        check.freed(0, 1);
        check.violations.clear();
        check.leaves(&leaving(n * 600_000, 1, &heard));
        beyond += check.violations.iter().filter(|v| v.what.contains("requests within a day, and another")).count();
    }
    assert_eq!(beyond, 60 - 48);
}

#[test]
fn the_rate_begins_anew_when_a_pause_has_ended_by_itself() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let ramps = |check: &Check| check.violations.iter().filter(|v| v.what.contains("no ramp")).count();
    (0..2).for_each(|n| check.leaves(&leaving(n * 2_000, 1, &heard)));
    assert_eq!(ramps(&check), 0);
    check.violations.clear();
    check.paused(0, 0, DAY);
    (0..4).for_each(|n| check.leaves(&leaving(DAY + n * 2_000, 1, &heard)));
    assert!(ramps(&check) > 0);
}

#[test]
fn a_second_order_and_a_request_without_evidence_are_told_with_what_came_before() {
    let mut check = Check::new(&Setup::default(), 7);
    let order = OrderId::from_number;
    check.prepares(1_000, 0, 1, order(1));
    check.prepares(2_000, 0, 1, order(2));
    let heard = Heard::default();
    check.leaves(&Leaving {
        ms: 3_000,
        now: Timestamp::EPOCH,
        node: 0,
        slot: 1,
        order: order(2),
        attempt: 1,
        in_flight: 3,
        heard: &heard,
        issuer: None,
        record: None,
        credential: Some(SignerLife {
            serial: serial(1),
            not_before: Timestamp::from_unix(-9),
            not_after: Timestamp::from_unix(-1),
        }),
    });
    let text: String = check.violations.iter().map(ToString::to_string).collect();
    for what in
        ["a second order", "not say that it is active", "evidence", "on disk", "3 requests at a time", "expired"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert!(text.contains("seed 7") && text.contains("prepare, order 0000000000000001"), "{text}");
}

#[test]
fn who_is_asked_to_wait_waits() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let early = |check: &mut Check, ms, slot| {
        check.violations.clear();
        check.leaves(&leaving(ms, slot, &heard));
        check.violations.iter().any(|v| v.what.contains("before the CA wants"))
    };
    let order = OrderId::from_number(1);
    let (minute, hour) = (std::time::Duration::from_secs(60), std::time::Duration::from_secs(3_600));
    let asked = Asked { is_noted: true, own: hour, all: minute };
    check.answered(0, 0, 1, order, (&Answer::Later(Some(3_600)), asked));
    assert!(early(&mut check, 3_000_000, 1) && !early(&mut check, 3_000_000, 2) && !early(&mut check, 3_600_000, 1));
    // The service as a whole, for as long as nobody is answered.
    check.answered(4_000_000, 0, 2, order, (&Answer::Busy(3_600), asked));
    assert!(early(&mut check, 4_050_000, 3) && !early(&mut check, 4_060_000, 3));
    check.answered(5_000_000, 0, 3, order, (&Answer::Busy(3_600), asked));
    check.answered(5_001_000, 0, 2, order, (&issued(), asked));
    assert!(!early(&mut check, 5_002_000, 3));
    // What the core has not taken note of asks for nothing.
    check.answered(6_000_000, 0, 2, order, (&Answer::Busy(3_600), Asked { is_noted: false, ..asked }));
    assert!(!early(&mut check, 6_001_000, 2));
}

#[test]
fn what_came_and_did_not_pass_is_asked_for_once_a_day_whatever_the_ledger_says() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    assert!(!too_soon(&mut check, &leaving(1_000, 1, &heard)));
    check.answered(2_000, 0, 1, OrderId::from_number(1), (&issued(), Asked::default()));
    check.rejected(3_000, 0, 1);
    assert!(too_soon(&mut check, &leaving(DAY / 2, 1, &heard)));
    check.freed(0, 1);
    assert!(!too_soon(&mut check, &leaving(DAY / 2 + 1, 1, &heard)));
}

#[test]
fn what_nobody_has_approved_is_not_used_where_somebody_is_to() {
    let mut check = Check::new(&Setup::default(), 7);
    let life = SignerLife { serial: serial(1), not_before: Timestamp::EPOCH, not_after: Timestamp::from_unix(4 << 30) };
    let mut used = |order: u64, approved: Option<u64>, needs_approval| {
        let order = OrderId::from_number(order);
        check.violations.clear();
        check.prepares(1_000, 0, 1, order);
        check.approved(0, 1, approved.map(OrderId::from_number));
        check.installs(2_000, Timestamp::EPOCH, 0, 1, order, New { life: &life, present: None, needs_approval });
        check.violations.is_empty()
    };
    assert!(used(1, None, false) && used(2, Some(2), true));
    assert!(!used(3, None, true) && !used(4, Some(3), true));
}
