//! A service that is away, for longer than a signer has left.

use super::super::*;
use super::service::DAY;
use super::service::*;
use crate::time::Timestamp;
use std::time::Duration;

const HOUR: i64 = 3_600;

/// One issuer whose signer of ten days is five days old, with responses of twelve hours.
fn short_lived(limits: Limits, attempts_per_day: u32) -> Service {
    let mut s = Service::with(limits, 1, 0);
    s.specs[0].attempts_per_day = attempts_per_day;
    s.change(|issuers| {
        issuers[0].validity = Duration::from_secs(12 * 3_600);
        issuers[0].margin = Duration::from_secs(6 * 3_600);
    });
    s.life(&signer(0), -5 * DAY, 10 * DAY);
    s.ledger.clear();
    s.kill();
    s
}

/// The most requests for the slot within a day.
fn busiest_day(s: &Service, slot: &SlotId) -> usize {
    let times: Vec<i64> = s.log.iter().filter(|(_, r)| r.slot == *slot).map(|(t, _)| t.unix()).collect();
    times.iter().map(|from| times.iter().filter(|t| (*from..from + DAY).contains(t)).count()).max().unwrap_or(0)
}

#[test]
fn an_outage_past_the_deadline_parks_nobody_and_the_signer_is_renewed_within_the_hour_after_it() {
    for (scope, kind) in
        [(Scope::Endpoint, Kind::Transient), (Scope::Issuer, Kind::Transient), (Scope::Item, Kind::Unknown)]
    {
        for attempts_per_day in [100, 10_000] {
            let mut s = short_lived(Limits::default(), attempts_per_day);
            s.says.insert(signer(0), fails(scope, kind));
            s.run(112 * HOUR);
            let view = s.view(&signer(0));
            assert!(view.deadline < s.now, "the deadline has passed");
            assert!(!matches!(view.hold, Hold::Parked { .. }), "{scope:?}: {:?}", view.hold);
            assert!(busiest_day(&s, &signer(0)) < 48, "{scope:?}: {}", busiest_day(&s, &signer(0)));
            let before = s.log.len();
            s.says.clear();
            s.run(HOUR + HOUR / 2);
            assert_eq!((s.view(&signer(0)).phase, s.log.len() - before), ("idle", 1), "{scope:?} {attempts_per_day}");
        }
    }
}

#[test]
fn a_ca_that_needs_a_day_to_decide_is_still_polled_when_the_deadline_has_passed() {
    let mut s = short_lived(Limits::default(), 10_000);
    s.run(DAY);
    s.says.insert(signer(0), Says::Later(1));
    s.life(&signer(0), -10 * DAY, 10 * DAY + HOUR);
    s.tell(Event::Signer { slot: signer(0), life: s.lives.get(&signer(0)).copied() }).unwrap();
    s.run(DAY);
    s.says.clear();
    s.run(HOUR + HOUR / 2);
    assert_eq!((s.view(&signer(0)).phase, s.orders(&signer(0))), ("idle", 1));
}

#[test]
fn who_has_spent_the_days_budget_in_an_outage_waits_for_the_next_and_is_not_parked() {
    let mut s = short_lived(Limits { submissions_per_day: 6, ..Limits::default() }, 10_000);
    s.says.insert(signer(0), fails(Scope::Endpoint, Kind::Transient));
    // An operator who asks again and again.
    for _ in 0..50 {
        let _ = s.command(Command::Renew { reach: Reach::All });
        s.run(HOUR / 2);
    }
    assert!((4..=6).contains(&busiest_day(&s, &signer(0))), "{}", busiest_day(&s, &signer(0)));
    assert!(matches!(s.view(&signer(0)).hold, Hold::Backoff { .. }), "{:?}", s.view(&signer(0)).hold);
    s.says.clear();
    s.run(25 * HOUR);
    assert_eq!(s.view(&signer(0)).phase, "idle");
}

#[test]
fn a_label_that_fails_as_if_the_service_did_opens_no_breaker_and_keeps_nobody_waiting() {
    for kind in [Kind::Permanent, Kind::Transient] {
        let mut s = Service::new(6, 30);
        // The first by its deadline, and urgent.
        let life = s.life(&signer(0), -35 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(0), life: Some(life) }).unwrap();
        s.says.insert(signer(0), fails(Scope::Endpoint, kind));
        for _ in 0..120 {
            s.run(60);
            assert!(!s.core.snapshot(s.now).endpoints[0].open, "{kind:?}: the breaker is open");
        }
        assert!((1..6).all(|n| s.asked(&signer(n)) == 1 && s.view(&signer(n)).phase == "idle"), "{kind:?}");
        let last = s.log.iter().filter(|(_, r)| r.slot != signer(0)).map(|(at, _)| at.unix() - START).max();
        assert!(last < Some(600), "{kind:?}: the others were done after {last:?} s");
        if kind == Kind::Permanent {
            assert_eq!(s.asked(&signer(0)), 2, "once in doubt, once to be sure");
            assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Refused, .. }));
        }
    }
}

#[test]
fn while_the_service_is_in_doubt_another_is_asked_next() {
    for worst in 0..20 {
        let mut s = Service::new(20, 30);
        let life = s.life(&signer(worst), -35 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(worst), life: Some(life) }).unwrap();
        s.says.insert(signer(worst), fails(Scope::Endpoint, Kind::Transient));
        s.run(60);
        s.run(120);
        let asked: Vec<_> = s.log.iter().take(3).map(|(_, r)| r.slot == signer(worst)).collect();
        assert!(asked[0] && !asked[1], "{worst}: {asked:?}");
    }
}

#[test]
fn a_service_that_fails_everybody_for_good_opens_its_breaker_and_parks_nobody() {
    let mut s = Service::new(6, 30);
    s.says.extend((0..6).map(|n| (signer(n), fails(Scope::Endpoint, Kind::Permanent))));
    s.run(DAY / 2);
    assert!(s.core.snapshot(s.now).endpoints[0].open);
    assert!((0..6).all(|n| !matches!(s.view(&signer(n)).hold, Hold::Parked { .. })));
    s.says.clear();
    s.run(2 * HOUR);
    assert!((0..6).all(|n| s.view(&signer(n)).phase == "idle"));
}

/// Its own credential, and two issuers; the service may be asked thirty times a day.
fn with_credential(left: i64) -> (Service, SlotId) {
    let mut s = Service::new(2, 0);
    s.specs[0].attempts_per_day = 30;
    s.specs[0].credential =
        Some(CredentialSpec { profile: Some("agent".to_owned()), margin: Duration::from_secs(3_600) });
    let own = SlotId::Credential(endpoint("main"));
    s.life(&own, left - 40 * DAY, 40 * DAY);
    s.ledger.clear();
    s.kill();
    (s, own)
}

#[test]
fn a_part_of_the_budget_is_kept_for_our_own_credential() {
    let (mut s, own) = with_credential(30 * DAY);
    s.life(&signer(0), -36 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: signer(0), life: s.lives.get(&signer(0)).copied() }).unwrap();
    s.says.insert(signer(0), fails(Scope::Item, Kind::Transient));
    // An operator's script that will not wait.
    for _ in 0..60 {
        let _ = s.command(Command::Renew { reach: Reach::Slot(signer(0)) });
        s.run(300);
    }
    assert_eq!(s.asked(&signer(0)), 27);
    assert!(s.explain(&signer(0)).contains("but for 3 that are kept"), "{}", s.explain(&signer(0)));
    let life = s.life(&own, -39 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: own.clone(), life: Some(life) }).unwrap();
    s.run(600);
    assert_eq!((s.asked(&own), s.view(&own).phase), (1, "idle"));
    s.says.clear();
    assert!(s.command(Command::Unpark { reach: Reach::Endpoint(endpoint("main")) }).is_ok());
    s.run(600);
    assert_eq!(s.view(&signer(0)).phase, "idle", "unpark grants the service's budget anew");
}

#[test]
fn in_doubt_and_with_the_budget_of_the_others_spent_our_own_credential_is_asked_for() {
    let (mut s, own) = with_credential(30 * DAY);
    s.life(&signer(0), -36 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: signer(0), life: s.lives.get(&signer(0)).copied() }).unwrap();
    s.says.insert(signer(0), fails(Scope::Item, Kind::Transient));
    for _ in 0..60 {
        let _ = s.command(Command::Renew { reach: Reach::Slot(signer(0)) });
        s.run(300);
    }
    s.says.insert(own.clone(), fails(Scope::Endpoint, Kind::Transient));
    let life = s.life(&own, -39 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: own.clone(), life: Some(life) }).unwrap();
    s.run(60);
    assert_eq!((s.asked(&signer(0)), s.asked(&own)), (27, 1));
    // One for whom it has not failed is preferred, and may not.
    s.life(&signer(1), -36 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: signer(1), life: s.lives.get(&signer(1)).copied() }).unwrap();
    s.says.clear();
    s.run(3 * HOUR);
    assert_eq!((s.view(&own).phase, s.asked(&signer(1))), ("idle", 0));
}

#[test]
fn an_outage_in_which_our_credential_runs_short_of_time_leaves_it_requests_for_its_end() {
    let (mut s, own) = with_credential(4 * DAY);
    s.says.insert(own.clone(), fails(Scope::Endpoint, Kind::Transient));
    s.says.insert(signer(0), fails(Scope::Endpoint, Kind::Transient));
    s.run(4 * DAY - 3 * HOUR);
    s.says.clear();
    s.run(2 * HOUR);
    assert_eq!(s.view(&own).phase, "idle");
    assert!(s.view(&own).life.unwrap().not_after > s.now.plus(39 * limits::DAY));
}

#[test]
fn who_was_hit_by_a_short_outage_is_still_asked_for_by_its_deadline_when_it_is_urgent() {
    let mut s = Service::new(60, 30);
    s.specs[0].rate = crate::config::Rate { count: 1, per: Duration::from_secs(600) };
    s.specs[0].max_in_flight = 1;
    s.ledger.clear();
    for n in 0..6 {
        s.life(&signer(n), -35 * DAY + 6 * HOUR, 40 * DAY);
    }
    s.kill();
    s.says.extend((0..60).map(|n| (signer(n), fails(Scope::Endpoint, Kind::Transient))));
    s.run(6 * HOUR);
    assert!(s.view(&signer(0)).schedule.unwrap().deadline <= s.now.plus(Duration::from_secs(60)));
    s.says.clear();
    let from = s.log.len();
    s.run(6 * HOUR);
    // Ten or so fit into the time. One probe may be for any of them; each of the six waits for no more than its own backoff.
    let place = |n| s.log[from..].iter().position(|(_, r)| r.slot == signer(n));
    let last = (0..6).map(|n| place(n).unwrap_or(usize::MAX)).max();
    assert!(last < Some(12), "{last:?} of {}", s.log.len() - from);
}

#[test]
fn who_becomes_urgent_in_the_queue_no_longer_stands_behind_the_others() {
    let mut s = Service::with(Limits { backoff_cap: Duration::from_secs(60), ..Limits::default() }, 40, 30);
    s.specs[0].rate = crate::config::Rate { count: 1, per: Duration::from_secs(3 * 3_600) };
    s.specs[0].max_in_flight = 1;
    s.ledger.clear();
    // Silence puts it behind all; it becomes urgent after a day.
    s.life(&signer(0), -31 * DAY + DAY / 2, 40 * DAY);
    s.kill();
    s.says.insert(signer(0), fails(Scope::Item, Kind::Unknown));
    s.run(20 * HOUR);
    assert!((3..6).contains(&s.asked(&signer(0))) && s.log.len() > 5, "{} of {}", s.asked(&signer(0)), s.log.len());
    s.says.clear();
    s.run(11 * HOUR);
    assert_eq!(s.view(&signer(0)).phase, "idle", "{}", s.explain(&signer(0)));
}

#[test]
fn who_is_urgent_and_fails_time_and_again_lets_others_go_first() {
    let limits =
        Limits { backoff_base: Duration::from_secs(1), backoff_cap: Duration::from_secs(1), ..Limits::default() };
    let mut s = Service::with(limits, 9, 30);
    s.specs[0].rate = crate::config::Rate { count: 1, per: Duration::from_secs(60) };
    s.ledger.clear();
    s.life(&signer(0), -35 * DAY, 40 * DAY);
    s.kill();
    s.says.insert(signer(0), fails(Scope::Item, Kind::Unknown));
    s.run(6 * HOUR);
    let last = s.log.iter().rposition(|(_, r)| r.slot != signer(0)).unwrap();
    let before = s.log[..last].iter().filter(|(_, r)| r.slot == signer(0)).count();
    assert!(before < 9, "{before} in vain before the last of the others");
    assert!((1..9).all(|n| s.asked(&signer(n)) == 1));
}

#[test]
fn an_order_that_is_taken_well_ends_what_was_held_against_its_slot() {
    let mut s = Service::new(6, 30);
    s.says.insert(signer(0), fails(Scope::Endpoint, Kind::Transient));
    s.run(6 * HOUR);
    let turned_away = |s: &Service| match &s.ledger["signer/ca-0"] {
        Record::Slot(record) => record.turned_away,
        other => panic!("{other:?}"),
    };
    assert!(turned_away(&s) >= 3);
    s.says.insert(signer(0), Says::Later(60));
    s.run(2 * HOUR);
    assert_eq!((s.view(&signer(0)).phase, turned_away(&s)), ("waiting", 0));
}

#[test]
fn the_place_for_what_is_urgent_is_found_by_who_is_though_another_has_an_earlier_deadline() {
    let mut s = Service::new(3, 0);
    // A short life: due, a deadline in two days, and not urgent; a long one: a deadline in three, and urgent.
    s.life(&signer(0), -4 * DAY, 10 * DAY + DAY / 2);
    s.life(&signer(1), -4 * DAY, 10 * DAY + DAY / 2);
    s.life(&signer(2), -360 * DAY, 368 * DAY);
    s.says.extend((0..3).map(|n| (signer(n), Says::Silence)));
    for n in 0..3 {
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
    }
    s.run(250);
    assert_eq!(s.log.iter().map(|(_, r)| r.slot.clone()).collect::<Vec<_>>(), [signer(0), signer(2)]);
}

#[test]
fn what_a_restart_finds_of_a_service_that_does_not_accept_us_or_is_held_still_holds() {
    let (mut s, own) = with_credential(30 * DAY);
    s.life(&signer(0), -36 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: signer(0), life: s.lives.get(&signer(0)).copied() }).unwrap();
    s.says.insert(signer(0), fails(Scope::OwnCredential, Kind::Permanent));
    for _ in 0..20 {
        s.run(HOUR);
        s.kill();
    }
    assert_eq!(s.log.len(), 2, "once in doubt, once to be sure, however often we start");
    // Our certificate was replaced while we were down.
    s.says.clear();
    s.life(&own, -60, 40 * DAY);
    s.kill();
    s.run(HOUR);
    assert_eq!((s.log.len(), s.view(&signer(0)).phase), (3, "idle"));

    let mut s = Service::new(20, 30);
    s.specs[0].max_in_flight = 8;
    s.ledger.clear();
    s.kill();
    s.says.extend((0..20).map(|n| (signer(n), fails(Scope::Endpoint, Kind::Transient))));
    s.run(DAY / 4);
    let before = s.core.snapshot(s.now).endpoints[0].clone();
    assert!(before.in_flight_limit < 8 && before.open);
    s.kill();
    let after = s.core.snapshot(s.now).endpoints[0].clone();
    assert_eq!((after.state, after.in_flight_limit), (before.state, before.in_flight_limit));
}

#[test]
fn a_request_that_a_leap_of_the_clock_gives_up_is_hung_up_before_another_takes_its_place() {
    let mut s = Service::new(2, 39);
    s.specs[0].max_in_flight = 1;
    s.ledger.clear();
    s.kill();
    s.says.extend((0..2).map(|n| (signer(n), Says::Silence)));
    s.run(60);
    assert_eq!((s.log.len(), s.hung_up.len()), (1, 0));
    let order = s.log[0].1.order;
    s.now = Timestamp::from_unix(s.now.unix() + 3_600);
    s.sync();
    let mut actions = Vec::new();
    for _ in 0..3 {
        actions.extend(s.core.poll(s.now));
    }
    let hangs_up = actions.iter().position(|a| matches!(a, Action::HangUp { order: o, .. } if *o == order));
    let next = actions.iter().position(|a| matches!(a, Action::Prepare(_) | Action::Submit(_)));
    assert!(hangs_up.is_some() && next.is_none_or(|next| hangs_up < Some(next)), "{actions:?}");
}

#[test]
fn what_was_asked_of_nobody_closes_no_breaker() {
    let own = |scope, kind| Says::NotSent(Failure::new(scope, kind, "its request is gone"));
    for says in [Says::Present, own(Scope::Item, Kind::Transient), own(Scope::Issuer, Kind::Permanent)] {
        let mut s = Service::new(6, 30);
        let all = |says: Says| (0..6).map(move |n| (signer(n), says.clone()));
        let is_open = |s: &Service| s.core.snapshot(s.now).endpoints[0].open;
        s.says.extend(all(fails(Scope::Endpoint, Kind::Transient)));
        s.run(HOUR);
        assert!(is_open(&s));
        // What was on its way when the process was killed is here, or what was to be sent is not.
        s.says.extend(all(says.clone()));
        let before = s.log.len();
        while s.log.len() == before {
            s.run(70); // not in step with the syncs, or none would fall within
        }
        assert!(is_open(&s), "{says:?}: nobody has answered");
    }
}

#[test]
fn a_registry_that_cannot_be_used_lets_nothing_leave_until_it_can_and_one_that_cannot_be_reached_until_it_is_too_old() {
    let waiting = || {
        let mut s = Service::new(1, 30);
        // The look of the start counts no more.
        s.now = s.now.plus(Duration::from_secs(90));
        s
    };
    let mut s = waiting();
    s.unreachable = true;
    s.run(100);
    assert_eq!(s.asked(&signer(0)), 1, "the sync is young enough");

    let mut s = waiting();
    s.unusable = true;
    s.run(450);
    assert_eq!(s.asked(&signer(0)), 0);
    assert!(s.explain(&signer(0)).contains("a comma is missing"), "{}", s.explain(&signer(0)));
    // That it cannot be reached then makes it no better.
    (s.unusable, s.unreachable) = (false, true);
    s.run(100);
    assert_eq!(s.asked(&signer(0)), 0);
    s.unreachable = false;
    let looks = s.looks;
    s.run(100);
    assert_eq!(s.asked(&signer(0)), 1, "looked at again by itself: {}", s.looks - looks);
}
