//! What fails: scopes, kinds, the governor, the breaker, our own credential.

use super::super::*;
use super::service::DAY;
use super::service::*;
use crate::time::Timestamp;
use std::time::Duration;

#[test]
fn the_trouble_of_six_issuers_moves_no_request_of_the_others() {
    let times = |troubled: bool| {
        let mut s = Service::new(60, 0);
        if troubled {
            s.says.extend((0..6).map(|n| (signer(n), fails(Scope::Issuer, Kind::Permanent))));
        }
        s.run(30 * DAY);
        let others = s.log.iter().filter(|(_, r)| !(0..6).any(|n| r.slot == signer(n)));
        others.map(|(at, r)| (r.slot.clone(), *at)).collect::<Vec<_>>()
    };
    let (calm, troubled) = (times(false), times(true));
    assert_eq!(calm.len(), troubled.len());
    for ((slot, a), (other, b)) in calm.iter().zip(&troubled) {
        assert_eq!(slot, other);
        // The rate is shared: a request of another may take the same two seconds.
        assert!(a.seconds_since(*b).abs() <= 4, "{slot}: {a} and {b}");
    }
}

#[test]
fn a_permanent_refusal_parks_and_costs_at_most_one_request_a_day() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    s.run(60);
    assert_eq!(s.asked(&signer(0)), 1);
    s.kill();
    s.run(10 * DAY);
    assert!((9..=11).contains(&s.asked(&signer(0))), "{}", s.asked(&signer(0)));
    assert!(s.log.windows(2).all(|w| w[1].0.seconds_since(w[0].0) >= DAY));
    assert!(s.log.iter().skip(1).all(|(_, r)| r.cause == Cause::Canary));
    assert_eq!(s.notices.iter().filter(|n| n.alarm).count(), 1, "{:?}", s.notices);
    assert!(s.explain(&signer(0)).contains("it did not work"));
    s.says.clear();
    s.run(2 * DAY);
    assert_eq!((s.view(&signer(0)).phase, s.view(&signer(0)).hold), ("idle", Hold::None));
}

#[test]
fn between_two_requests_for_a_parked_slot_there_is_more_than_a_day() {
    let mut s = Service::new(100, 30);
    s.says.extend((0..100).map(|n| (signer(n), fails(Scope::Issuer, Kind::Permanent))));
    s.run(30 * DAY);
    for n in 0..100 {
        let times: Vec<i64> = s.log.iter().filter(|(_, r)| r.slot == signer(n)).map(|(t, _)| t.unix()).collect();
        assert!(times.len() > 25 && times.windows(2).all(|w| w[1] - w[0] > DAY), "ca-{n}: {times:?}");
    }
}

#[test]
fn a_refusal_after_renew_is_told_like_the_first() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    let alarms = |s: &Service| s.notices.iter().filter(|n| n.alarm && n.text.starts_with("parked")).count();
    s.run(60);
    assert_eq!(alarms(&s), 1);
    s.command(Command::Renew { reach: Reach::All }).unwrap();
    s.run(60);
    assert_eq!((s.asked(&signer(0)), alarms(&s)), (2, 2));
}

#[test]
fn a_change_of_its_record_unparks_an_issuer_and_a_change_of_another_does_not() {
    let mut s = Service::new(2, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    s.run(600);
    s.change(|issuers| issuers[1].profile = "another".to_owned());
    s.run(600);
    assert_eq!(s.asked(&signer(0)), 1);
    s.change(|issuers| issuers[0].profile = "another".to_owned());
    s.run(600);
    assert_eq!(s.asked(&signer(0)), 2);
    assert_eq!(s.log.last().unwrap().1.profile, "another");
    // Its CA's certificate, the kind of key, a setting.
    s.change(|issuers| issuers[0].rest = 1);
    s.run(600);
    assert_eq!(s.asked(&signer(0)), 3);
    s.change(|issuers| issuers[0].validity += Duration::from_secs(60));
    s.run(600);
    assert_eq!(s.asked(&signer(0)), 4);
}

#[test]
fn an_unknown_outcome_is_asked_again_with_the_same_order_over_restarts_too() {
    let mut s = Service::new(1, 20);
    s.run(10 * DAY - 1);
    s.log.clear();
    s.life(&signer(0), -30 * DAY, 40 * DAY);
    s.kill();
    s.says.insert(signer(0), fails(Scope::Item, Kind::Unknown));
    for _ in 0..20 {
        s.run(3_600);
        s.kill();
    }
    assert!(s.asked(&signer(0)) > 5);
    assert_eq!(s.orders(&signer(0)), 1);
    assert!(s.log.iter().skip(1).all(|(_, r)| r.cause == Cause::Retry));
}

#[test]
fn an_answer_that_comes_after_the_request_was_given_up_is_used() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Silence);
    s.run(30);
    let (slot, order) = (signer(0), s.log[0].1.order);
    s.run(301);
    assert_eq!(s.view(&slot).phase, "ordered");
    s.tell(Event::Issued { slot: slot.clone(), order }).unwrap();
    s.says.clear();
    s.run(60);
    assert_eq!((s.view(&slot).phase, s.asked(&slot)), ("idle", 1));
    assert!(matches!(s.tell(Event::Issued { slot, order }), Err(Ignored::NotThisOrder { .. })));
}

#[test]
fn a_certificate_that_does_not_pass_keeps_the_old_signer_alarms_and_does_not_loop() {
    let mut s = Service::new(1, 30);
    let old = s.view(&signer(0)).life;
    s.says.insert(signer(0), Says::Bad);
    s.run(DAY - 60);
    assert_eq!(s.asked(&signer(0)), 1);
    assert_eq!(s.view(&signer(0)).life, old);
    assert!(s.notices.iter().any(|n| n.alarm && n.text.contains("another key")));
    s.run(5 * DAY);
    assert!(s.asked(&signer(0)) <= 6);
}

#[test]
fn the_governor_stops_a_ca_that_issues_what_is_already_due() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Issue(3_600));
    s.run(DAY / 2);
    assert_eq!(s.asked(&signer(0)), s.core.limits().issuances_per_day as usize);
    assert!(s.notices.iter().any(|n| n.alarm && n.text.contains("within a day")));
    s.run(10 * DAY);
    assert!(s.asked(&signer(0)) <= 4 + 11, "a good answer does not lift it: {}", s.asked(&signer(0)));
    s.says.clear();
    assert!(s.command(Command::Renew { reach: Reach::Slot(signer(0)) }).is_err());
    s.command(Command::Unpark { reach: Reach::Slot(signer(0)) }).unwrap();
    s.run(60);
    assert_eq!(s.view(&signer(0)).hold, Hold::None);
}

#[test]
fn the_governor_bounds_submissions_too() {
    let limits = Limits { submissions_per_day: 10, ..Limits::default() };
    let mut s = Service::with(limits, 1, 30);
    s.says.insert(signer(0), fails(Scope::Item, Kind::Transient));
    // An operator's script that will not wait.
    for _ in 0..100 {
        let _ = s.command(Command::Renew { reach: Reach::All });
        s.run(600);
    }
    assert_eq!(s.asked(&signer(0)), 10);
    assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Governor, .. }));
}

#[test]
fn a_ca_that_decides_later_is_asked_the_same_and_not_too_often() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Later(1));
    s.run(3 * DAY);
    assert_eq!(s.orders(&signer(0)), 1);
    assert!((60..110).contains(&s.asked(&signer(0))), "{}", s.asked(&signer(0)));
    assert!(s.explain(&signer(0)).contains("decides later"));
    s.says.clear();
    s.run(DAY);
    assert_eq!((s.orders(&signer(0)), s.view(&signer(0)).phase), (1, "idle"));
}

/// A registration authority with a queue: it takes every order, and a person refuses it before the next poll.
#[test]
fn an_order_that_is_taken_and_then_refused_costs_one_request_a_day_and_one_alarm() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    s.run(60);
    let since = |s: &Service| match s.view(&signer(0)).hold {
        Hold::Parked { since, .. } => since,
        hold => panic!("not parked: {hold:?}"),
    };
    let first = since(&s);
    let answers = [Says::Later(60), fails(Scope::Issuer, Kind::Permanent)];
    for n in 0..20 * 24 {
        let polls = s.view(&signer(0)).phase == "waiting";
        s.says.insert(signer(0), answers[usize::from(polls)].clone());
        s.run(3_600);
        assert_eq!(since(&s), first, "in hour {n}");
    }
    assert!((18..=21).contains(&s.asked(&signer(0))), "{}", s.asked(&signer(0)));
    assert!(s.log.windows(2).all(|w| w[1].0.seconds_since(w[0].0) > DAY), "{:?}", s.log);
    assert!(s.orders(&signer(0)) >= 9, "each order is taken once and refused once");
    assert_eq!(s.notices.iter().filter(|n| n.alarm).count(), 1, "{:?}", s.notices);
    s.says.clear();
    s.run(2 * DAY);
    assert_eq!((s.view(&signer(0)).phase, s.view(&signer(0)).hold), ("idle", Hold::None));
}

#[test]
fn a_parked_order_that_is_taken_and_then_issued_is_used() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    s.run(60);
    s.says.insert(signer(0), Says::Later(60));
    s.run(DAY + 7_200);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0))), ("waiting", 2));
    let Hold::Parked { canary, .. } = s.view(&signer(0)).hold else { panic!("{:?}", s.view(&signer(0)).hold) };
    let said = s.explain(&signer(0));
    assert!(said.contains(&format!("decides later; asked again at {canary}")), "{said}");
    s.says.clear();
    s.run(DAY + 7_200);
    let view = s.view(&signer(0));
    assert_eq!((view.phase, view.hold, s.asked(&signer(0)), s.activated.len()), ("idle", Hold::None, 3, 1));
}

#[test]
fn a_retry_after_is_kept_and_cannot_outlive_the_signer() {
    let mut s = Service::new(1, 20);
    s.life(&signer(0), -30 * DAY, 40 * DAY);
    s.kill();
    s.says.insert(signer(0), Says::Later(7_200));
    s.run(DAY);
    assert!(s.log.len() > 3 && s.log.windows(2).all(|w| w[1].0.seconds_since(w[0].0) >= 7_200));
    s.says.insert(signer(0), Says::Later(u64::MAX));
    s.run(DAY);
    s.says.clear();
    s.run(3 * DAY);
    assert!(s.view(&signer(0)).deadline > s.now, "renewed before its deadline");
}

#[test]
fn past_its_deadline_a_slot_keeps_to_a_retry_after_and_has_the_others_keep_to_it() {
    let busy = Failure {
        retry_after: Some(Duration::from_secs(3_600)),
        ..Failure::new(Scope::Endpoint, Kind::Transient, "busy")
    };
    for (says, most) in [(Says::Later(3_600), 2), (Says::Fail(busy), 1)] {
        // Two issuers without a signer, which are wanted at once: there is no slack from the beginning.
        let mut s = Service::with(Limits { new_issuer_grace: Duration::ZERO, ..Limits::default() }, 2, 0);
        s.lives.clear();
        s.kill();
        s.says.extend((0..2).map(|n| (signer(n), says.clone())));
        s.run(DAY / 2);
        let within =
            |from: Timestamp| s.log.iter().filter(|(at, _)| (0..3_600).contains(&at.seconds_since(from))).count();
        assert!(s.log.len() > 3 && s.log.iter().all(|(at, _)| within(*at) <= most), "{says:?}: {:?}", s.log);
    }
}

#[test]
fn who_alone_is_told_to_come_back_later_does_so_while_the_others_are_answered() {
    let mut s = Service::new(40, 30);
    let busy = Failure::new(Scope::Endpoint, Kind::Transient, "busy");
    s.says.insert(signer(0), Says::Fail(Failure { retry_after: Some(Duration::from_secs(7_200)), ..busy }));
    s.run(DAY);
    let times: Vec<i64> = s.log.iter().filter(|(_, r)| r.slot == signer(0)).map(|(at, _)| at.unix()).collect();
    assert!(times.len() > 3 && times.windows(2).all(|w| w[1] - w[0] >= 7_200), "{times:?}");
    assert_eq!(s.activated.len(), 39);
}

#[test]
fn an_endpoint_that_is_down_costs_few_requests_and_its_return_is_a_ramp() {
    let mut s = Service::new(200, 34);
    s.says.extend((0..200).map(|n| (signer(n), fails(Scope::Endpoint, Kind::Transient))));
    s.run(DAY / 2);
    let during = s.log.len();
    assert!((10..60).contains(&during), "{during}");
    assert!(s.core.snapshot(s.now).endpoints[0].open);
    assert!((0..200).all(|n| s.view(&signer(n)).failures == 0), "the slots are not to blame");
    assert!(s.explain(&signer(0)).contains("breaker open"), "{}", s.explain(&signer(0)));
    s.says.clear();
    s.run(DAY / 4);
    assert!(s.log.iter().any(|(_, r)| r.cause == Cause::Canary));
    assert_eq!(s.log.len() - during, 200);
    assert!(s.busiest(60) <= 31);
}

#[test]
fn twenty_issuers_that_fail_in_every_way_do_not_delay_the_other_hundred_and_eighty() {
    let mut s = Service::new(200, 10);
    for n in 0..20 {
        let says = match n % 5 {
            0 => Says::Silence,
            1 => Says::Bad,
            2 => fails(Scope::Issuer, Kind::Permanent),
            3 => fails(Scope::Item, Kind::Transient),
            _ => fails(Scope::Item, Kind::Unknown),
        };
        s.says.insert(signer(n), says);
    }
    s.sync_every = 300;
    s.run(24 * DAY);
    for n in 20..200 {
        let (at, request) = s.log.iter().find(|(_, r)| r.slot == signer(n)).unwrap();
        assert_eq!(request.cause, Cause::Scheduled);
        assert!(request.deadline.seconds_since(*at) > 5 * DAY, "ca-{n}");
    }
    for n in (0..20).filter(|n| matches!(n % 5, 1 | 2)) {
        let times: Vec<i64> = s.log.iter().filter(|(_, r)| r.slot == signer(n)).map(|(t, _)| t.unix()).collect();
        assert!(!times.is_empty() && times.windows(2).all(|w| w[1] - w[0] >= DAY), "ca-{n}: {times:?}");
    }
}

#[test]
fn overload_halves_what_is_in_flight_and_it_grows_back_slowly() {
    let mut s = Service::new(100, 34);
    s.specs[0].max_in_flight = 8;
    s.ledger.clear();
    s.kill();
    let limit = |s: &Service| s.core.snapshot(s.now).endpoints[0].in_flight_limit;
    assert_eq!(limit(&s), 8);
    s.says.extend((0..100).map(|n| (signer(n), fails(Scope::Endpoint, Kind::Transient))));
    s.run(2);
    assert_eq!(limit(&s), 4);
    s.says.clear();
    s.run(100);
    let (after, answers) = (limit(&s), s.log.len());
    assert!((4..8).contains(&after) && answers > 3, "{after} after {answers}");
    s.run(DAY);
    assert_eq!(limit(&s), 8);
}

#[test]
fn a_full_disk_holds_everything_briefly_and_blames_nobody() {
    let mut s = Service::new(5, 30);
    s.deaf = vec![Step::Prepare];
    let actions = s.core.poll(s.now);
    let Some(Action::Prepare(r)) = actions.iter().find(|a| matches!(a, Action::Prepare(_))) else {
        panic!("{actions:?}")
    };
    let failure = Failure::new(Scope::Local, Kind::Transient, "no space left on the disk");
    s.tell(Event::Failed { slot: r.slot.clone(), order: r.order, step: Step::Prepare, failure }).unwrap();
    let (slot, other) = (r.slot.clone(), (0..5).map(signer).find(|id| *id != r.slot).unwrap());
    assert!(s.explain(&other).contains("no space left"), "{}", s.explain(&other));
    s.deaf.clear();
    s.run(3_600);
    assert_eq!(s.log.len(), 5);
    assert_eq!(s.orders(&slot), 1);
    assert_eq!(s.core.snapshot(s.now).endpoints[0].failures, 0);
}

fn with_credential(age: i64) -> (Service, SlotId) {
    let mut s = Service::new(20, 30);
    s.specs[0].credential =
        Some(CredentialSpec { profile: Some("agent".to_owned()), margin: Duration::from_secs(86_400) });
    let own = SlotId::Credential(endpoint("main"));
    s.life(&own, -age * DAY, 40 * DAY);
    s.ledger.clear();
    s.kill();
    (s, own)
}

#[test]
fn our_own_credential_is_renewed_first() {
    let (mut s, own) = with_credential(34);
    s.run(3_600);
    assert_eq!(s.log[0].1.slot, own);
    assert_eq!((s.log.len(), s.asked(&own)), (21, 1));
}

#[test]
fn an_expired_credential_sends_nothing_says_exactly_why_and_is_picked_up_when_replaced() {
    let (mut s, own) = with_credential(41);
    s.run(DAY);
    assert_eq!(s.log.len(), 0);
    let serial = s.lives[&own].serial.to_string();
    let words = s.explain(&signer(0));
    assert!(words.contains("expired at") && words.contains(&serial), "{words}");
    let life = s.life(&own, -60, 40 * DAY);
    s.tell(Event::Signer { slot: own, life: Some(life) }).unwrap();
    s.run(3_600);
    assert_eq!(s.log.len(), 20);
}

#[test]
fn a_service_that_does_not_accept_us_is_asked_six_times_a_day_at_most_until_the_credential_changes() {
    let (mut s, own) = with_credential(0);
    s.says.extend((0..20).map(|n| (signer(n), fails(Scope::OwnCredential, Kind::Permanent))));
    s.run(600);
    assert_eq!(s.log.len(), 2, "one puts it in doubt, another holds it");
    s.run(2 * DAY);
    assert_eq!(s.log.len(), 15, "after an hour, after two and every four hours another finds out");
    assert!(
        (0..20).all(|n| s.view(&signer(n)).failures == 0 && !matches!(s.view(&signer(n)).hold, Hold::Parked { .. }))
    );
    s.run(10 * DAY);
    assert!((30..=75).contains(&s.log.len()), "at most six a day: {}", s.log.len());
    assert!(s.explain(&signer(0)).contains("does not accept us"), "{}", s.explain(&signer(0)));
    s.says.clear();
    let life = s.life(&own, -60, 40 * DAY);
    s.tell(Event::Signer { slot: own, life: Some(life) }).unwrap();
    s.run(3_600);
    assert!((0..20).all(|n| s.view(&signer(n)).phase == "idle"));
}

#[test]
fn an_issuer_that_makes_the_service_fail_does_not_keep_the_others_from_their_turn() {
    let mut s = Service::new(20, 30);
    // By its deadline the first; the front-end says 500 to it, and only to it.
    for n in 0..3 {
        s.life(&signer(n), -31 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
        s.says.insert(signer(n), fails(Scope::Endpoint, Kind::Transient));
    }
    s.run(2 * DAY);
    assert!((3..20).all(|n| s.asked(&signer(n)) == 1 && s.view(&signer(n)).phase == "idle"));
    assert!(s.orders(&signer(0)) == 1 && s.asked(&signer(0)) < 60, "{}", s.asked(&signer(0)));
}

#[test]
fn an_issuer_for_which_the_service_fails_while_it_answers_others_puts_it_in_doubt_no_more() {
    let mut s = Service::new(40, 30);
    for n in 0..6 {
        s.life(&signer(n), -31 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
        s.says.insert(signer(n), fails(Scope::Endpoint, Kind::Transient));
    }
    s.run(DAY);
    let mut in_doubt = 0;
    for _ in 0..48 {
        s.run(1_800);
        in_doubt += usize::from(s.core.snapshot(s.now).endpoints[0].failures > 0);
    }
    assert!(in_doubt <= 2, "of 48 half hours {in_doubt} found the service in doubt");
    assert!((0..6).all(|n| s.asked(&signer(n)) > 5), "they are asked again all the same");
}

#[test]
fn a_parked_slot_repeats_a_step_that_fails_here_after_a_while_and_not_at_once() {
    let mut s = Service::with(Limits { issuances_per_day: 1, ..Limits::default() }, 1, 30);
    s.says.insert(signer(0), Says::Issue(3_600));
    s.run(60);
    assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Governor, .. }));
    s.says.insert(signer(0), Says::Silence);
    s.run(27 * 3_600);
    let order = s.view(&signer(0)).order.unwrap();
    s.tell(Event::Issued { slot: signer(0), order }).unwrap();
    let mut verified = 0;
    for _ in 0..50 {
        for action in s.core.poll(s.now) {
            if let Action::Verify { slot, order } = action {
                verified += 1;
                let failure = Failure::new(Scope::Local, Kind::Transient, "the disk is full");
                s.tell(Event::Failed { slot, order, step: Step::Verify, failure }).unwrap();
            }
        }
    }
    assert_eq!(verified, 1);
    s.run(600);
    assert_eq!(s.view(&signer(0)).phase, "idle", "and then it goes on");
}
