//! Whom, when and how often: the registry, the calendar, the rate.

use super::super::*;
use super::service::DAY;
use super::service::*;
use crate::registry::State;
use std::time::Duration;

#[test]
fn a_signer_is_renewed_at_its_place_and_the_next_one_becomes_active() {
    let mut s = Service::new(1, 0);
    let due = s.view(&signer(0)).schedule.unwrap().due;
    s.run(due.unix() - START - 1);
    assert_eq!(s.asked(&signer(0)), 0);
    s.run(120);
    assert_eq!(s.log.len(), 1);
    assert_eq!(s.log[0].1.cause, Cause::Scheduled);
    assert!(s.log[0].0 >= due);
    let view = s.view(&signer(0));
    assert_eq!((view.phase, view.life), ("idle", s.lives.get(&signer(0)).copied()));
    assert!(view.schedule.unwrap().due > s.now);
}

#[test]
fn over_a_year_no_deadline_passes_and_no_request_is_wasted() {
    let mut s = Service::new(60, 10);
    s.sync_every = 3_600;
    for _ in 0..52 {
        s.run(7 * DAY);
        for n in 0..60 {
            assert!(s.view(&signer(n)).deadline > s.now);
        }
    }
    let changes = s.core.snapshot(s.now).endpoints[0].signer_changes;
    assert_eq!(s.log.len() as u64, changes);
    assert!((60 * 12..60 * 24).contains(&changes), "{changes}");
}

#[test]
fn a_retired_issuer_is_never_asked() {
    let mut s = Service::new(60, 30);
    s.change(|issuers| {
        for (n, state) in [State::Retired, State::Disabled].into_iter().cycle().take(6).enumerate() {
            issuers[n].state = state;
        }
    });
    s.sync();
    s.run(60 * DAY);
    for n in 0..6 {
        assert_eq!(s.asked(&signer(n)), 0);
    }
    assert!((6..60).all(|n| s.asked(&signer(n)) > 0));
    assert!(s.explain(&signer(0)).contains("retired"), "{}", s.explain(&signer(0)));
}

#[test]
fn a_removed_issuer_is_never_asked_and_not_forgotten() {
    let mut s = Service::new(3, 30);
    s.change(|issuers| issuers.truncate(2));
    s.sync();
    s.run(30 * DAY);
    assert_eq!(s.asked(&signer(2)), 0);
    assert!(s.explain(&signer(2)).contains("no longer in the registry"));
}

#[test]
fn a_quarantined_record_stops_renewal_of_that_issuer_only() {
    let mut s = Service::new(2, 30);
    s.registry.quarantined = vec![spec(0).id];
    s.change(|issuers| {
        issuers.remove(0);
    });
    s.sync();
    s.run(DAY);
    assert_eq!((s.asked(&signer(0)), s.asked(&signer(1))), (0, 1));
}

#[test]
fn without_fresh_evidence_nothing_starts_and_the_reason_is_told() {
    let mut s = Service::new(5, 30);
    (s.unreachable, s.sync_every) = (true, 30);
    s.now = crate::time::Timestamp::from_unix(START + 901);
    s.run(5 * DAY);
    assert_eq!(s.log.len(), 0);
    assert!(s.explain(&signer(0)).contains("no fresh evidence"), "{}", s.explain(&signer(0)));
    s.unreachable = false;
    s.run(DAY);
    assert_eq!(s.log.len(), 5);
}

#[test]
fn a_registry_that_does_not_answer_stops_renewal_only_when_the_evidence_is_old() {
    let mut s = Service::new(40, 38);
    (s.unreachable, s.sync_every) = (true, 30);
    s.run(DAY);
    assert!(!s.log.is_empty());
    assert!(s.log.iter().all(|(at, _)| at.unix() <= START + 900), "{:?}", s.log.last());
}

#[test]
fn the_registry_is_looked_at_again_right_before_a_request() {
    let mut s = Service::new(1, 0);
    s.sync_every = 600;
    let due = s.view(&signer(0)).schedule.unwrap().due.unix() - START;
    s.run(due - 1);
    assert_eq!(s.looks, 0);
    s.change(|issuers| issuers[0].state = State::Disabled);
    s.run(300);
    assert_eq!((s.looks, s.log.len()), (1, 0), "the look before the request found it disabled");
}

#[test]
fn what_was_read_before_a_restart_is_looked_at_again_before_anything_leaves() {
    let mut s = Service::new(3, 30);
    s.registry.synced_at = s.now.minus(Duration::from_secs(120));
    s.registry.generation = 2;
    s.tell(Event::Registry(s.registry.clone())).unwrap();
    let actions = s.core.poll(s.now);
    assert!(actions.contains(&Action::ConfirmActive), "{actions:?}");
    assert!(actions.iter().all(|a| !matches!(a, Action::Prepare(_) | Action::Submit(_))), "{actions:?}");
}

#[test]
fn evidence_from_the_future_is_none() {
    let mut s = Service::new(1, 30);
    s.registry.synced_at = s.now.plus(Duration::from_secs(3_600));
    s.registry.generation = 2;
    s.tell(Event::Registry(s.registry.clone())).unwrap();
    assert!(s.core.poll(s.now).iter().all(|a| !matches!(a, Action::Prepare(_) | Action::Submit(_))));
    assert!(s.explain(&signer(0)).contains("yet to come"), "{}", s.explain(&signer(0)));
}

#[test]
fn the_registry_never_goes_back() {
    let mut s = Service::new(1, 0);
    s.registry.generation = 0;
    let again = s.tell(Event::Registry(s.registry.clone()));
    assert_eq!(again, Err(Ignored::GenerationWentBack { have: 1, got: 0 }));
    let other = s.tell(Event::Confirmed { generation: 2, at: s.now });
    assert_eq!(other, Err(Ignored::AnotherGeneration { have: Some(1), got: 2 }));
}

#[test]
fn an_order_that_was_not_sent_is_cancelled_when_its_issuer_is_disabled() {
    let mut s = Service::new(1, 39);
    s.deaf = vec![Step::Prepare];
    s.run(1);
    assert_eq!(s.view(&signer(0)).phase, "preparing");
    s.change(|issuers| issuers[0].state = State::Disabled);
    s.sync();
    s.run(1);
    assert_eq!((s.view(&signer(0)).phase, s.cancelled.len(), s.log.len()), ("idle", 1, 0));
}

#[test]
fn an_issuer_that_a_held_generation_stops_is_not_asked_for_and_its_end_alarms() {
    let mut s = Service::new(1, 39);
    s.change(|issuers| (issuers[0].state, issuers[0].held_by) = (State::Disabled, Some(3)));
    s.sync();
    s.run(DAY / 2);
    assert_eq!((s.log.len(), s.view(&signer(0)).standing), (0, Standing::Held(3)));
    let explained = s.core.explain(&signer(0), s.now).unwrap();
    assert!(explained.alarming && explained.reasons[0].contains("generation 3 of the registry, which is held"));
    assert_eq!(serde_json::to_value(explained.standing).unwrap(), "held");
    s.change(|issuers| (issuers[0].state, issuers[0].held_by) = (State::Active, None));
    s.run(DAY / 2);
    assert_eq!(s.log.len(), 1);
}

#[test]
fn an_order_the_ca_may_know_is_kept_and_asked_again_when_the_issuer_is_back() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Silence);
    s.run(60);
    s.change(|issuers| issuers[0].state = State::Disabled);
    s.run(2 * DAY);
    assert_eq!((s.asked(&signer(0)), s.cancelled.len()), (1, 0));
    s.says.clear();
    s.change(|issuers| issuers[0].state = State::Active);
    s.run(DAY);
    assert_eq!((s.asked(&signer(0)), s.orders(&signer(0))), (2, 1));
    assert_eq!(s.view(&signer(0)).phase, "idle");
}

#[test]
fn three_hundred_new_issuers_never_exceed_the_rate() {
    let mut s = Service::new(60, 0);
    s.run(3_600);
    s.change(|issuers| {
        issuers.drain(0..6);
        issuers.extend((100..400).map(spec));
    });
    s.sync();
    for n in 100..400 {
        s.tell(Event::Signer { slot: signer(n), life: None }).unwrap();
    }
    s.run(DAY);
    assert_eq!(s.log.len(), 300);
    assert!(s.log.iter().all(|(_, r)| r.cause == Cause::NewIssuer));
    assert!(s.busiest(60) <= 31, "{}", s.busiest(60));
    let first: Vec<i64> = s.log.iter().map(|(t, _)| t.unix()).take(4).collect();
    assert!(first[3] - first[0] > 30, "a ramp begins slowly: {first:?}");
}

#[test]
fn a_restart_is_a_ramp_and_moves_no_place() {
    let mut s = Service::new(300, 39);
    s.run(600);
    let sent = s.log.len();
    let places = |s: &Service| (0..300).map(|n| s.view(&signer(n)).schedule.unwrap().due).collect::<Vec<_>>();
    let before = places(&s);
    s.kill();
    assert_eq!(places(&s), before);
    s.run(60);
    assert!(s.log.len() - sent <= 6, "{} in the first minute", s.log.len() - sent);
    assert!(s.busiest(60) <= 31);
    s.run(DAY);
    assert!((0..300).all(|n| s.asked(&signer(n)) == 1));
}

#[test]
fn when_capacity_is_short_the_earliest_deadline_goes_first_and_nothing_with_slack_expires() {
    let mut s = Service::new(0, 0);
    s.specs[0].rate = crate::config::Rate { count: 1, per: Duration::from_secs(3_600) };
    s.specs[0].max_in_flight = 1;
    s.change(|issuers| issuers.extend((0..200).map(spec)));
    for n in 0..200 {
        // Deadlines four hours apart, the first in half a day; all are due.
        s.life(&signer(n), -35 * DAY, 40 * DAY + DAY / 2 + n as i64 * 4 * 3_600);
    }
    s.start();
    s.run(40 * DAY);
    for n in 0..200 {
        let sent = s.log.iter().find(|(_, r)| r.slot == signer(n)).unwrap();
        assert!(sent.0 < sent.1.deadline, "ca-{n}");
    }
    let order: Vec<_> = s.log.iter().take(10).map(|(_, r)| r.slot.clone()).collect();
    assert_eq!(order, (0..10).map(signer).collect::<Vec<_>>());
}

#[test]
fn a_place_is_kept_for_the_most_urgent() {
    let mut s = Service::new(3, 0);
    s.life(&signer(0), -26 * DAY, 40 * DAY);
    s.life(&signer(1), -26 * DAY, 40 * DAY);
    s.life(&signer(2), -34 * DAY, 40 * DAY);
    s.says.extend((0..3).map(|n| (signer(n), Says::Silence)));
    for n in [0, 1] {
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
    }
    s.run(200);
    assert_eq!(s.log.len(), 1, "of two places the last is kept free");
    s.tell(Event::Signer { slot: signer(2), life: s.lives.get(&signer(2)).copied() }).unwrap();
    s.run(20);
    assert_eq!((s.log.len(), s.asked(&signer(2))), (2, 1));
    assert_eq!(s.log[1].1.cause, Cause::Urgent);
}

#[test]
fn a_signer_too_far_from_its_not_before_waits_and_one_that_needs_approval_too() {
    let mut s = Service::new(1, 30);
    s.change(|issuers| issuers[0].needs_approval = true);
    s.sync();
    s.run(DAY);
    assert_eq!(s.view(&signer(0)).phase, "staged");
    assert!(s.explain(&signer(0)).contains("approve"));
    s.kill();
    s.run(DAY);
    assert_eq!((s.view(&signer(0)).phase, s.asked(&signer(0))), ("staged", 1));
    s.command(Command::Approve { slot: signer(0) }).unwrap();
    s.run(1);
    assert_eq!(s.view(&signer(0)).phase, "idle");
}

#[test]
fn an_issuer_of_whose_signer_nothing_is_known_is_not_asked_for() {
    let mut s = Service::new(1, 30);
    s.change(|issuers| issuers.push(spec(1)));
    s.run(DAY);
    assert_eq!(s.asked(&signer(1)), 0);
    s.tell(Event::Signer { slot: signer(1), life: None }).unwrap();
    s.run(DAY);
    assert_eq!(s.log.iter().find(|(_, r)| r.slot == signer(1)).unwrap().1.cause, Cause::NewIssuer);
}

/// What holds a slot ends with its issuer: a page of parked issuers names none that is gone.
#[test]
fn an_issuer_that_is_retired_is_not_parked_any_more_and_comes_back_within_its_budget() {
    let limits = Limits { submissions_per_day: 2, ..Limits::default() };
    for state in [Some(State::Retired), None] {
        let mut s = Service::with(limits.clone(), 2, 30);
        s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
        s.run(60);
        assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { .. }));
        let there = s.registry.issuers[0].clone();
        s.change(|issuers| match state {
            Some(state) => issuers[0].state = state,
            None => drop(issuers.remove(0)),
        });
        s.run(600);
        assert_eq!(s.view(&signer(0)).hold, Hold::None);
        s.kill();
        assert_eq!(s.view(&signer(0)).hold, Hold::None, "the ledger has it");
        for _ in 0..10 {
            s.change(|issuers| {
                issuers.retain(|i| i.id != there.id);
                issuers.insert(0, there.clone());
            });
            s.run(600);
            s.change(|issuers| drop(issuers.remove(0)));
            s.run(600);
        }
        assert_eq!(s.asked(&signer(0)), 2, "a registry to and fro grants no budget");
    }
}

#[test]
fn what_is_refused_after_its_issuer_is_gone_parks_nothing() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), Says::Silence);
    s.run(30);
    let r = s.log[0].1.clone();
    s.change(|issuers| issuers[0].state = State::Retired);
    s.sync();
    let failure = Failure::new(Scope::Issuer, Kind::Permanent, "it is retired");
    let event = Event::Failed { slot: signer(0), order: r.order, step: Step::Submit(r.attempt), failure };
    s.tell(event).unwrap();
    s.run(60);
    assert_eq!(s.view(&signer(0)).hold, Hold::None);
    assert!(s.notices.iter().all(|n| !n.alarm), "{:?}", s.notices);
}

/// Its key file is broken, or its CA has another key: clients are without answers, unlike those of an issuer that is new.
#[test]
fn a_signer_that_is_lost_may_use_the_place_for_what_is_urgent_and_one_that_never_was_may_not() {
    for is_found_at_the_start in [true, false] {
        let mut s = Service::new(3, 0);
        s.run(60);
        s.life(&signer(0), -30 * DAY, 40 * DAY);
        s.says.extend((0..9).map(|n| (signer(n), Says::Silence)));
        s.tell(Event::Signer { slot: signer(0), life: s.lives.get(&signer(0)).copied() }).unwrap();
        s.run(2);
        assert_eq!(s.log.len(), 1, "one place of two is taken");
        s.change(|issuers| issuers.push(spec(3)));
        s.sync();
        s.tell(Event::Signer { slot: signer(3), life: None }).unwrap();
        s.run(120);
        assert_eq!((s.log.len(), s.view(&signer(3)).cause), (1, Cause::NewIssuer), "the other is kept");
        s.lives.remove(&signer(2));
        if is_found_at_the_start {
            s.kill();
        } else {
            s.tell(Event::Signer { slot: signer(2), life: None }).unwrap();
        }
        assert_eq!(s.view(&signer(2)).cause, Cause::Urgent);
        assert!(s.explain(&signer(2)).contains("cannot be used any more"), "{}", s.explain(&signer(2)));
        let before = s.log.len();
        s.run(120);
        let asked: Vec<_> = s.log[before..].iter().map(|(_, r)| (r.slot.clone(), r.cause)).collect();
        assert_eq!(asked.first(), Some(&(signer(2), Cause::Urgent)), "{asked:?}");
        assert!(asked.iter().all(|(slot, _)| *slot != signer(3)), "{asked:?}");
    }
}

#[test]
fn a_lost_signer_of_an_issuer_that_was_retired_meanwhile_is_that_of_a_new_one() {
    let mut s = Service::new(1, 0);
    s.run(60);
    s.change(|issuers| issuers[0].state = State::Retired);
    s.sync();
    s.tell(Event::Signer { slot: signer(0), life: None }).unwrap();
    s.change(|issuers| issuers[0].state = State::Active);
    s.sync();
    assert_eq!(s.view(&signer(0)).cause, Cause::NewIssuer);
}
