//! Operators, crashes, clocks, and what is shown.

use super::super::*;
use super::service::DAY;
use super::service::*;
use crate::registry::State;
use crate::time::Timestamp;

fn pause(reach: Reach, until: i64) -> Command {
    let until = Timestamp::from_unix(until);
    Command::Pause(Pause {
        reach,
        until,
        reason: "the HSM is serviced".to_owned(),
        who: "alice".to_owned(),
        since: None,
    })
}

#[test]
fn a_pause_holds_its_reach_survives_a_restart_and_ends_by_itself_in_a_ramp() {
    for reach in [Reach::All, Reach::Endpoint(endpoint("main")), Reach::Slot(signer(0))] {
        let mut s = Service::new(40, 30);
        s.command(pause(reach.clone(), START + DAY)).unwrap();
        s.run(DAY / 2);
        s.kill();
        s.run(DAY / 2 - 1);
        let paused = if matches!(reach, Reach::Slot(_)) { 1 } else { 40 };
        assert_eq!(s.log.len(), 40 - paused, "{reach}");
        assert!(s.explain(&signer(0)).contains("alice"), "{}", s.explain(&signer(0)));
        s.run(3_600);
        assert_eq!(s.log.len(), 40, "{reach}");
        assert!(s.busiest(60) <= 31);
        assert!(s.core.snapshot(s.now).pauses.is_empty());
    }
}

#[test]
fn a_pause_is_lifted_by_resume_and_one_that_is_over_is_refused() {
    let mut s = Service::new(1, 30);
    assert!(matches!(s.command(pause(Reach::All, START)), Err(Ignored::PauseOver(_))));
    s.command(pause(Reach::All, START + DAY)).unwrap();
    s.run(60);
    assert_eq!(s.log.len(), 0);
    s.command(Command::Resume { reach: Reach::All }).unwrap();
    assert!(s.command(Command::Resume { reach: Reach::All }).is_err());
    s.run(60);
    assert_eq!(s.log.len(), 1);
    let nobody = s.command(pause(Reach::Slot(signer(9)), START + DAY));
    assert_eq!(nobody, Err(Ignored::UnknownSlot(signer(9))));
}

#[test]
fn renew_asks_now_and_never_for_an_issuer_that_is_not_active() {
    let mut s = Service::new(2, 0);
    s.change(|issuers| issuers[1].state = State::Disabled);
    s.sync();
    assert_eq!(s.command(Command::Renew { reach: Reach::All }), Ok(1));
    s.run(60);
    assert_eq!((s.asked(&signer(0)), s.asked(&signer(1))), (1, 0));
    assert_eq!(s.log[0].1.cause, Cause::Operator);
    s.run(DAY);
    assert_eq!(s.log.len(), 1, "once");
}

#[test]
fn a_crash_at_any_step_resumes_the_same_order() {
    // The process dies after so many actions have been carried out; then a whole one takes over.
    for steps in 0..12 {
        let mut s = Service::new(1, 30);
        let mut left = steps;
        'dying: for _ in 0..20 {
            for action in s.core.poll(s.now) {
                if left == 0 {
                    break 'dying;
                }
                left -= 1;
                let event = match action {
                    Action::Persist(records) => {
                        s.ledger.extend(records.into_iter().map(|r| (r.key(), r)));
                        continue;
                    }
                    Action::ConfirmActive => Event::Confirmed { generation: 1, at: s.now },
                    Action::Prepare(r) => Event::Prepared { slot: r.slot, order: r.order },
                    Action::Submit(r) => {
                        s.log.push((s.now, r.clone()));
                        Event::Issued { slot: r.slot, order: r.order }
                    }
                    Action::Verify { slot, order } => {
                        let life = s.life(&slot, -600, 40 * DAY);
                        Event::Verified { slot, order, life }
                    }
                    Action::Stage { slot, order } => Event::Staged { slot, order },
                    Action::Activate { slot, order } => Event::Activated { slot, order },
                    Action::Cancel { .. } | Action::HangUp { .. } | Action::Tell(_) => continue,
                };
                s.tell(event).unwrap();
            }
        }
        let life = s.view(&signer(0)).life;
        s.lives.insert(signer(0), life.unwrap());
        s.kill();
        s.run(DAY);
        assert_eq!(s.view(&signer(0)).phase, "idle", "after {steps}");
        assert!(s.view(&signer(0)).schedule.unwrap().due > s.now, "after {steps}");
        assert_eq!(s.orders(&signer(0)), 1, "after {steps}");
    }
}

#[test]
fn failure_counts_survive_a_restart() {
    let mut s = Service::new(1, 30);
    s.says.insert(signer(0), fails(Scope::Item, Kind::Transient));
    s.run(DAY / 2);
    let before = s.view(&signer(0));
    s.kill();
    let after = s.view(&signer(0));
    assert!(before.failures > 3);
    assert_eq!((after.failures, after.hold, after.order), (before.failures, before.hold, before.order));
}

#[test]
fn a_record_after_the_slot_has_begun_is_refused() {
    let mut s = Service::new(1, 30);
    s.run(60);
    let record = s.ledger.values().find(|r| matches!(r, Record::Slot(_))).unwrap().clone();
    assert!(matches!(s.tell(Event::Restored(Box::new(record))), Err(Ignored::AlreadyAtWork(_))));
}

#[test]
fn a_clock_that_went_back_a_year_does_not_stop_renewal_for_a_year() {
    let mut s = Service::new(3, 30);
    s.says.insert(signer(0), fails(Scope::Endpoint, Kind::Transient));
    s.run(600);
    s.now = Timestamp::from_unix(START - 365 * DAY);
    for n in 0..3 {
        s.life(&signer(n), -38 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
    }
    s.says.clear();
    s.log.clear();
    s.sync();
    s.run(DAY);
    assert_eq!(s.log.len(), 3);
    assert!(s.notices.iter().any(|n| n.alarm && n.text.contains("went back")));
}

#[test]
fn a_pause_given_while_the_clock_was_ahead_lasts_as_long_as_it_was_meant_to() {
    for restarted in [false, true] {
        let mut s = Service::new(2, 30);
        s.now = Timestamp::from_unix(START + 365 * DAY);
        for n in 0..2 {
            s.life(&signer(n), -30 * DAY, 40 * DAY);
        }
        s.ledger.clear();
        s.kill();
        s.command(pause(Reach::All, START + 365 * DAY + 3_600)).unwrap();
        s.run(600);
        s.now = Timestamp::from_unix(START);
        for n in 0..2 {
            s.life(&signer(n), -30 * DAY, 40 * DAY);
        }
        match restarted {
            true => s.kill(),
            false => s.sync(),
        }
        s.run(3_590);
        assert_eq!(s.log.len(), 0, "an hour from now is what is left of it");
        s.kill();
        s.run(600);
        assert_eq!(s.log.len(), 2, "restarted: {restarted}");
    }
}

#[test]
fn a_pause_of_a_ledger_that_does_not_say_since_when_is_read_all_the_same() {
    let old = r#"{"pauses":[{"reach":"all","until":"2027-01-16T08:00:00Z","reason":"the HSM","who":"alice"}]}"#;
    let Record::Pauses(pauses) = serde_json::from_str(old).unwrap() else { panic!("{old}") };
    assert_eq!((pauses[0].until, pauses[0].since), (Timestamp::from_unix(START + DAY), None));
    let mut s = Service::new(1, 30);
    s.ledger.insert("pauses".to_owned(), Record::Pauses(pauses));
    s.kill();
    s.run(DAY - 1);
    assert_eq!(s.log.len(), 0);
    s.run(60);
    assert_eq!(s.log.len(), 1);
}

#[test]
fn an_issuer_first_seen_by_a_clock_that_was_ahead_does_not_rank_behind_for_a_year() {
    let mut s = Service::new(1, 0);
    s.lives.clear();
    s.ledger.clear();
    s.now = Timestamp::from_unix(START + 365 * DAY);
    s.says.insert(signer(0), fails(Scope::Item, Kind::Transient));
    s.kill();
    s.run(60);
    let grace = |s: &Service| s.view(&signer(0)).deadline.seconds_since(s.now);
    assert!(grace(&s) > 3 * 3_600);
    s.now = Timestamp::from_unix(START);
    s.sync();
    assert_eq!(grace(&s), 4 * 3_600);
    s.kill();
    assert_eq!(grace(&s), 4 * 3_600);
}

#[test]
fn a_clock_that_leaps_ahead_makes_no_burst() {
    let mut s = Service::new(100, 0);
    s.run(60);
    s.now = Timestamp::from_unix(s.now.unix() + 30 * DAY);
    s.sync();
    s.run(3_600);
    assert_eq!(s.log.len(), 100);
    assert!(s.busiest(60) <= 31);
}

#[test]
fn the_calendar_tells_what_will_be_asked_and_when() {
    let mut s = Service::new(50, 0);
    let plan = s.core.plan(s.now);
    assert_eq!((plan.entries.len(), plan.left_out), (50, 0));
    assert!(plan.entries.windows(2).all(|w| w[0].at <= w[1].at));
    assert_eq!(plan.by_hour().values().sum::<usize>(), 50);
    s.run(30 * DAY);
    for planned in &plan.entries {
        let (at, _) = s.log.iter().find(|(_, r)| r.slot == planned.slot).unwrap();
        assert!((0..120).contains(&at.seconds_since(planned.at)), "{planned:?} came at {at}");
    }
}

#[test]
fn the_impact_of_a_registry_is_told_before_it_is_used() {
    let s = Service::new(10, 30);
    let mut next = s.registry.clone();
    next.generation = 2;
    next.issuers.remove(9);
    next.issuers[0].state = State::Retired;
    next.issuers[1].profile = "another".to_owned();
    next.issuers.extend([spec(20), spec(21)]);
    let impact = s.core.impact(&next, s.now);
    let sizes = [&impact.added, &impact.removed, &impact.stopped, &impact.moved].map(std::collections::BTreeSet::len);
    assert_eq!((sizes, impact.known, impact.changed()), ([2, 1, 1, 1], 10, 5));
    assert!((impact.share() - 0.5).abs() < 1e-9);
    assert_eq!(impact.requests, 3);
    assert_eq!(s.core.impact(&s.registry, s.now).changed(), 0);
}

#[test]
fn every_reason_and_view_can_be_written_as_json() {
    let mut s = Service::new(3, 30);
    s.says.insert(signer(0), fails(Scope::Issuer, Kind::Permanent));
    s.run(60);
    let json = serde_json::to_string(&(s.core.snapshot(s.now), s.core.plan(s.now))).unwrap();
    assert!(json.contains("\"parked\""), "{json}");
    assert!(matches!(s.core.explain(&signer(9), s.now), Err(Ignored::UnknownSlot(_))));
}

#[test]
fn slots_beyond_the_limit_are_refused_by_name() {
    let mut s = Service::with(Limits { slots: 3, ..Limits::default() }, 2, 0);
    s.change(|issuers| issuers.extend((2..9).map(spec)));
    let refused = s.tell(Event::Registry(RegistryView { synced_at: s.now, ..s.registry.clone() }));
    assert_eq!(refused, Err(Ignored::TooManySlots { refused: 6, limit: 3, first: signer(3) }));
}

#[test]
fn what_a_clock_that_ran_ahead_has_written_does_not_hold_a_restart_for_a_month() {
    for (scope, kind) in [(Scope::Item, Kind::Transient), (Scope::Endpoint, Kind::Transient)] {
        let limits = Limits { submissions_per_day: 3, issuances_per_day: 1, ..Limits::default() };
        let mut s = Service::with(limits, 3, 30);
        s.now = Timestamp::from_unix(START + 30 * DAY);
        s.sync();
        (0..3).for_each(|n| drop(s.says.insert(signer(n), fails(scope, kind))));
        s.run(DAY);
        s.now = Timestamp::from_unix(START);
        s.kill();
        s.says.clear();
        s.log.clear();
        s.run(3 * DAY);
        assert_eq!((0..3).filter(|n| s.asked(&signer(*n)) > 0).count(), 3, "{scope:?}");
    }
}

#[test]
fn who_is_no_longer_named_makes_room_for_who_is() {
    let mut s = Service::with(Limits { slots: 3, ..Limits::default() }, 3, 30);
    for round in 1..5 {
        s.run(10);
        s.change(|issuers| *issuers = (3 * round..3 * round + 3).map(spec).collect());
        let taken = s.tell(Event::Registry(RegistryView { synced_at: s.now, ..s.registry.clone() }));
        assert_eq!(taken, Ok(3), "round {round}");
        assert_eq!(s.core.snapshot(s.now).slots.len(), 3);
        let lives: Vec<_> =
            (3 * round..3 * round + 3).map(|n| (signer(n), s.life(&signer(n), -30 * DAY, 40 * DAY))).collect();
        lives.into_iter().for_each(|(slot, life)| drop(s.tell(Event::Signer { slot, life: Some(life) })));
    }
    s.run(600);
    assert!((12..15).all(|n| s.asked(&signer(n)) == 1), "and they are asked for");
}
