//! The checks themselves.

use super::*;

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

#[test]
fn what_the_ca_has_refused_may_be_asked_once_a_day_whatever_the_ledger_says() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let twice = |check: &Check| check.violations.iter().filter(|v| v.what.contains("asked twice")).count();
    check.leaves(&leaving(1_000, 1, &heard));
    check.answered(2_000, 0, 1, OrderId::from_number(1), &Answer::Refused);
    check.leaves(&leaving(1_000 + DAY, 1, &heard));
    assert_eq!(twice(&check), 0);
    check.leaves(&leaving(DAY + DAY / 2, 1, &heard));
    assert_eq!(twice(&check), 1);
    check.answered(2 * DAY, 0, 1, OrderId::from_number(1), &Answer::Later(None));
    check.leaves(&leaving(2 * DAY + 1, 1, &heard));
    assert_eq!(twice(&check), 1);
}

#[test]
fn the_rate_begins_anew_when_a_pause_has_ended_by_itself() {
    let (mut check, heard) = (Check::new(&Setup::default(), 7), Heard::default());
    let ramps = |check: &Check| check.violations.iter().filter(|v| v.what.contains("no ramp")).count();
    (0..2).for_each(|n| check.leaves(&leaving(n * 2_000, 1, &heard)));
    assert_eq!(ramps(&check), 0);
    check.violations.clear();
    check.paused(0, DAY);
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
            serial: crate::simulate::ca::serial(1),
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
