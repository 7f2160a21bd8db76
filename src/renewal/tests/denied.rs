//! We are not accepted (HTTP 401): by one label, or by the service.

use super::super::*;
use super::service::DAY;
use super::service::*;
use std::time::Duration;

const HOUR: i64 = 3_600;

fn not_us() -> Says {
    fails(Scope::OwnCredential, Kind::Permanent)
}

/// `issuers` that are due, those of `bad` by their deadlines the first, and told that we are not known.
fn with_bad(issuers: usize, bad: usize) -> Service {
    let mut s = Service::new(issuers, 30);
    for n in 0..bad {
        let life = s.life(&signer(n), -35 * DAY, 40 * DAY);
        s.tell(Event::Signer { slot: signer(n), life: Some(life) }).unwrap();
        s.says.insert(signer(n), not_us());
    }
    s
}

fn is_held(s: &Service) -> bool {
    s.core.snapshot(s.now).endpoints[0].state.contains("does not accept us")
}

fn is_parked(s: &Service, n: usize) -> bool {
    matches!(s.view(&signer(n)).hold, Hold::Parked { why: Park::Refused, .. })
}

fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// With our client certificate, which signers are not ordered for, and which is valid for 30 days more.
fn own_credential(s: &mut Service) -> SlotId {
    s.specs[0].credential = Some(CredentialSpec { profile: Some("agent".to_owned()), margin: days(1) });
    let own = SlotId::Credential(endpoint("main"));
    s.life(&own, -10 * DAY, 40 * DAY);
    s.ledger.clear();
    s.kill();
    own
}

#[test]
fn a_label_that_does_not_know_us_holds_nobody_else_and_is_parked_when_it_is_sure() {
    let mut s = with_bad(20, 1);
    for _ in 0..60 {
        s.run(60);
        assert!(!is_held(&s), "{}", s.core.snapshot(s.now).endpoints[0].state);
    }
    assert!((1..20).all(|n| s.asked(&signer(n)) == 1 && s.view(&signer(n)).phase == "idle"));
    let last = s.log.iter().filter(|(_, r)| r.slot != signer(0)).map(|(at, _)| at.unix() - START).max();
    assert!(last < Some(600), "the others were done after {last:?} s");
    assert_eq!(s.log.iter().take(2).filter(|(_, r)| r.slot == signer(0)).count(), 1, "another is asked for next");
    assert!(is_parked(&s, 0) && s.asked(&signer(0)) == 2, "once in doubt, once to be sure");
    assert!(s.notices.iter().all(|n| !n.text.contains("the service does not accept us")));
    s.run(10 * DAY);
    assert!((9..=12).contains(&s.asked(&signer(0))), "{}", s.asked(&signer(0)));
}

#[test]
fn where_no_label_knows_us_the_service_is_held_after_the_second() {
    let mut s = with_bad(20, 20);
    s.run(HOUR / 2);
    assert_eq!(s.log.len(), 2);
    assert!(is_held(&s) && s.log[0].1.slot != s.log[1].1.slot);
    assert!((0..20).all(|n| !is_parked(&s, n)), "they are not to blame");
    assert_eq!(s.notices.iter().filter(|n| n.alarm && n.text.contains("the service does not accept us")).count(), 1);
    s.says.clear();
    s.run(HOUR);
    assert!(
        (0..20).all(|n| s.view(&signer(n)).phase == "idle"),
        "the CA was put right: within the hour all are renewed"
    );
}

#[test]
fn two_labels_that_follow_each_other_hold_the_others_once_for_an_hour_and_never_again() {
    let mut s = with_bad(20, 2);
    s.run(60);
    assert!(is_held(&s));
    s.run(HOUR + 600);
    assert!((2..20).all(|n| s.view(&signer(n)).phase == "idle"), "another finds out that it was them");
    assert!(is_parked(&s, 0) && is_parked(&s, 1));
    // Their requests of the day follow each other, too.
    for _ in 0..10 * 24 {
        s.run(HOUR);
        assert!(!is_held(&s), "{}", s.core.snapshot(s.now).endpoints[0].state);
    }
    assert!(s.asked(&signer(0)) > 8);
}

#[test]
fn who_is_alone_is_parked_after_two_requests_and_the_next_one_in_need_finds_out_for_all() {
    let mut s = with_bad(1, 1);
    s.run(DAY - HOUR);
    assert!(is_parked(&s, 0) && s.log.len() == 2);
    for n in 1..4 {
        s.change(|issuers| issuers.push(spec(n)));
        s.says.insert(signer(n), not_us());
        s.life(&signer(n), -30 * DAY, 40 * DAY);
    }
    s.sync();
    for n in 1..4 {
        s.tell(Event::Signer { slot: signer(n), life: s.lives.get(&signer(n)).copied() }).unwrap();
    }
    s.run(HOUR / 2);
    assert!(s.log.len() == 3 && is_held(&s), "what was said to the first still counts: {}", s.log.len());
}

#[test]
fn a_restart_between_the_first_and_the_second_forgets_neither() {
    let mut s = with_bad(20, 20);
    s.specs[0].rate = crate::config::Rate { count: 1, per: Duration::from_secs(600) };
    s.ledger.clear();
    s.kill();
    while s.log.len() < 2 {
        s.run(60);
        s.kill();
    }
    for _ in 0..50 {
        s.run(60);
        s.kill();
    }
    assert!(s.log.len() == 2 && is_held(&s), "{}", s.log.len());
}

#[test]
fn what_we_find_out_here_of_our_own_credential_holds_all_at_once() {
    let mut s = Service::new(20, 30);
    s.says.extend((0..20).map(|n| (signer(n), fails(Scope::OwnCredential, Kind::Transient))));
    s.run(1);
    assert!(is_held(&s) && s.log.len() == 1);
    s.says.clear();
    s.run(2 * HOUR);
    assert!((0..20).all(|n| s.view(&signer(n)).phase == "idle"));
}

#[test]
fn another_certificate_of_ours_is_tried_where_the_former_one_was_refused() {
    let mut s = with_bad(20, 1);
    let own = own_credential(&mut s);
    s.run(HOUR);
    assert!(is_parked(&s, 0) && s.asked(&signer(0)) == 2);
    // The same one, seen again by a new process.
    s.kill();
    s.run(HOUR);
    assert!(is_parked(&s, 0) && s.asked(&signer(0)) == 2);
    s.says.clear();
    let life = s.life(&own, -60, 40 * DAY);
    s.tell(Event::Signer { slot: own, life: Some(life) }).unwrap();
    s.run(HOUR);
    assert_eq!((s.asked(&signer(0)), s.view(&signer(0)).phase), (3, "idle"));
}

#[test]
fn a_password_that_was_changed_after_the_refusal_is_tried_and_an_older_one_is_not() {
    for bad in [1, 20] {
        let mut s = with_bad(20, bad);
        let before = s.now.minus(Duration::from_secs(1));
        s.run(HOUR / 2);
        let sent = s.log.len();
        s.tell(Event::Secret { endpoint: endpoint("main"), changed: before }).unwrap();
        s.run(HOUR / 4);
        assert_eq!((s.log.len(), s.asked(&signer(0)).min(1)), (sent, 1), "{bad}: an older one");
        s.says.clear();
        s.tell(Event::Secret { endpoint: endpoint("main"), changed: s.now }).unwrap();
        s.run(HOUR / 2);
        assert!((0..20).all(|n| s.view(&signer(n)).phase == "idle"), "{bad}");
    }
}

#[test]
fn the_label_of_our_own_certificate_keeps_no_signer_waiting() {
    let mut s = Service::new(20, 30);
    let own = own_credential(&mut s);
    s.says.insert(own.clone(), not_us());
    let life = s.life(&own, -36 * DAY, 40 * DAY);
    s.tell(Event::Signer { slot: own.clone(), life: Some(life) }).unwrap();
    s.run(HOUR);
    assert!((0..20).all(|n| s.view(&signer(n)).phase == "idle"));
    assert!(matches!(s.view(&own).hold, Hold::Parked { .. }) && s.asked(&own) == 1);
}

#[test]
fn unpark_ends_what_is_held_because_we_were_not_accepted() {
    for reach in [Reach::All, Reach::Endpoint(endpoint("main"))] {
        let mut s = with_bad(20, 20);
        s.run(60);
        assert!(is_held(&s));
        s.command(Command::Unpark { reach: reach.clone() }).unwrap();
        s.run(60);
        assert_eq!(s.log.len(), 4, "{reach}: two more find out that nothing has changed");
        s.says.clear();
        s.command(Command::Unpark { reach }).unwrap();
        s.run(HOUR);
        assert!((0..20).all(|n| s.view(&signer(n)).phase == "idle"));
    }
}
