//! What has come and is not in use yet.

use super::super::*;
use super::service::DAY;
use super::service::*;
use crate::time::Timestamp;

#[test]
fn what_has_come_for_a_parked_slot_is_in_use_as_soon_as_it_may_be() {
    let mut s = Service::with(Limits { issuances_per_day: 1, ..Limits::default() }, 1, 30);
    s.says.insert(signer(0), Says::Issue(3_600));
    s.run(60);
    assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Governor, .. }));
    s.says.clear();
    s.valid_from = 240;
    s.run(26 * 3_600);
    let view = s.view(&signer(0));
    let (asked, _) = s.log[1];
    let life = view.life.unwrap();
    assert!(matches!(view.hold, Hold::Parked { .. }) && view.phase == "idle", "{view:?}");
    assert_eq!(life.not_before.seconds_since(asked), 240);
    let (at, _) = s.activated.last().unwrap();
    assert!((540..=541).contains(&at.seconds_since(asked)), "in use {} s after it came", at.seconds_since(asked));
}

fn waiting_for_approval(life: i64) -> Service {
    let mut s = Service::new(1, 30);
    s.change(|issuers| issuers[0].needs_approval = true);
    s.sync();
    s.says.insert(signer(0), Says::Issue(life));
    s.run(60);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0))), ("staged", 1));
    s
}

#[test]
fn what_nobody_approves_in_time_is_dropped_with_an_alarm_and_ordered_anew() {
    // Of nine days, five must be left.
    let mut s = waiting_for_approval(9 * DAY);
    s.run(4 * DAY - 700);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0)), s.cancelled.len()), ("staged", 1, 0));
    s.says.clear();
    s.run(600);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0)), s.cancelled.len()), ("staged", 2, 1));
    assert!(s.notices.iter().any(|n| n.alarm && n.text.contains("was not approved by")), "{:?}", s.notices);
    s.command(Command::Approve { slot: signer(0) }).unwrap();
    s.run(60);
    assert_eq!(s.view(&signer(0)).phase, "idle");
    assert!(s.view(&signer(0)).life.unwrap().not_after > s.now.plus(39 * limits::DAY));
}

#[test]
fn an_approval_that_comes_too_late_puts_nothing_into_use() {
    let mut s = waiting_for_approval(9 * DAY);
    s.now = Timestamp::from_unix(s.now.unix() + 10 * DAY);
    assert!(s.command(Command::Approve { slot: signer(0) }).is_err());
    s.run(60);
    assert!(s.activated.is_empty(), "{:?}", s.activated);
}

#[test]
fn what_cannot_be_put_into_use_in_time_is_never_put_into_use() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Issue(9 * DAY));
    // Valid in a day; and the machine was off when it became so.
    s.valid_from = DAY;
    s.run(60);
    assert_eq!(s.view(&signer(0)).phase, "staged");
    s.now = Timestamp::from_unix(s.now.unix() + 6 * DAY);
    s.kill();
    s.says.clear();
    s.valid_from = -600;
    s.run(60);
    assert_eq!((s.activated.len(), s.cancelled.len(), s.view(&signer(0)).phase), (1, 1, "idle"));
    assert!(s.view(&signer(0)).life.unwrap().not_after > s.now.plus(39 * limits::DAY));
}

#[test]
fn an_approval_that_is_required_from_now_on_holds_what_is_staged_already() {
    let mut s = Service::new(1, 30);
    // Valid in an hour: it is in place, and nobody had to approve it.
    s.valid_from = 3_600;
    s.run(60);
    assert_eq!(s.view(&signer(0)).phase, "staged");
    s.change(|issuers| issuers[0].needs_approval = true);
    s.sync();
    s.run(7_200);
    s.kill();
    s.run(DAY);
    assert_eq!((s.view(&signer(0)).phase, s.activated.len()), ("staged", 0));
    assert!(s.notices.iter().any(|n| n.text.contains("waits for approval")), "{:?}", s.notices);
    s.command(Command::Approve { slot: signer(0) }).unwrap();
    // What an operator has approved is not held again by a registry that says the same.
    s.change(|issuers| issuers[0].margin += std::time::Duration::ZERO);
    s.sync();
    s.run(60);
    assert_eq!((s.view(&signer(0)).phase, s.activated.len()), ("idle", 1));
}

#[test]
fn renew_drops_what_waits_for_approval_and_says_so() {
    let mut s = waiting_for_approval(40 * DAY);
    let first = s.view(&signer(0)).order;
    s.command(Command::Renew { reach: Reach::Slot(signer(0)) }).unwrap();
    s.run(60);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0)), s.cancelled.len()), ("staged", 2, 1));
    assert_ne!(s.view(&signer(0)).order, first);
    assert!(s.notices.iter().any(|n| !n.alarm && n.text.contains("waited for approval is dropped")));
    assert_eq!(s.log[1].1.cause, Cause::Operator);
}

#[test]
fn an_issuer_with_another_key_under_the_same_name_is_ordered_for_at_once_and_is_urgent() {
    let mut s = Service::new(2, 0);
    s.run(3_600);
    assert_eq!(s.log.len(), 0);
    s.change(|issuers| issuers[0].rest = 7);
    s.sync();
    s.tell(Event::Signer { slot: signer(0), life: None }).unwrap();
    s.run(60);
    assert_eq!((s.log.len(), s.log[0].1.cause, s.view(&signer(0)).phase), (1, Cause::Urgent, "idle"));
}

#[test]
fn what_was_ordered_before_the_record_changed_is_checked_again_and_does_not_park() {
    let mut s = waiting_for_approval(40 * DAY);
    s.says.insert(signer(0), Says::Bad);
    s.change(|issuers| issuers[0].rest = 7);
    s.sync();
    s.deaf = vec![Step::Prepare];
    s.run(10);
    assert_eq!((s.view(&signer(0)).phase, s.view(&signer(0)).hold, s.cancelled.len()), ("preparing", Hold::None, 1));
    s.deaf.clear();
    s.run(600);
    // What the new record gets does not pass either: that parks.
    assert_eq!(s.asked(&signer(0)), 2);
    assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Rejected, .. }));
}

#[test]
fn a_key_made_for_the_former_record_is_not_sent() {
    let mut s = Service::new(1, 39);
    s.deaf = vec![Step::Prepare];
    s.run(1);
    let first = s.view(&signer(0)).order.unwrap();
    s.change(|issuers| issuers[0].rest = 7);
    s.sync();
    s.deaf.clear();
    s.run(60);
    assert_eq!((s.cancelled.clone(), s.log.len()), (vec![first], 1));
    assert_ne!(s.log[0].1.order, first);
}

#[test]
fn a_registry_that_changes_to_and_fro_grants_no_budget() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Issue(3_600));
    for _ in 0..200 {
        s.change(|issuers| issuers[0].rest += 1);
        s.sync();
        s.run(600);
        s.change(|issuers| issuers[0].state = crate::registry::State::Disabled);
        s.sync();
        s.change(|issuers| issuers[0].state = crate::registry::State::Active);
    }
    let parked = s.notices.iter().filter(|n| n.alarm && n.text.starts_with("parked")).count();
    assert!(parked <= 2, "{parked} alarms for one reason");
    let days = (200 * 600 / DAY + 1) as usize;
    assert!(s.asked(&signer(0)) <= days * s.core.limits().issuances_per_day as usize, "{}", s.asked(&signer(0)));
    s.says.clear();
    s.run(26 * 3_600);
    assert_eq!(s.view(&signer(0)).phase, "idle");
}

#[test]
fn it_is_told_from_when_on_what_is_in_place_is_used() {
    let mut s = Service::new(1, 30);
    s.change(|issuers| issuers[0].needs_approval = true);
    s.sync();
    s.says.insert(signer(0), Says::Issue(30 * DAY));
    s.valid_from = 240;
    s.run(60);
    let from = s.view(&signer(0)).active_from.unwrap();
    assert_eq!(from, s.view(&signer(0)).next.unwrap().not_before.plus(Limits::default().activation_skew));
    let said = |s: &Service| s.core.explain(&signer(0), s.now).unwrap().reasons.join("; ");
    assert!(
        said(&s).contains(&format!("waits for an operator's approve; it becomes active at {from}")),
        "{}",
        said(&s)
    );
    s.command(Command::Approve { slot: signer(0) }).unwrap();
    assert!(said(&s).contains(&format!("is in place and becomes active at {from}")), "{}", said(&s));
    s.run(from.seconds_since(s.now) - 1);
    assert!(s.activated.is_empty());
    s.run(2);
    assert_eq!(s.activated.len(), 1);
}
