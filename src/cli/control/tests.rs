pub(in crate::cli) mod fixture;
mod trouble;

use super::*;
use crate::admin::control::HoldReport;
use fixture::{NOW, Site, at, signer};
use std::time::Duration;

fn caller() -> Caller {
    Caller { uid: 1000, name: Some("alice".into()), pid: Some(4711) }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn give(site: &Site, order: Order, reason: &str) -> Result<Taken, Refusal> {
    block(site.desk.command(caller(), Command { order, reason: reason.into() }))
}

fn issuer(id: &str) -> Target {
    Target::Issuer(id.into())
}

#[test]
fn every_phase_is_shown_with_its_reason_and_what_to_do() {
    let status = Site::new(None).status();
    let of = |id: &str| status.issuers.iter().find(|report| report.slot == issuer(id)).unwrap();
    let seen: Vec<_> =
        status.issuers.iter().map(|r| (r.slot.to_string(), r.state.as_str(), r.phase.as_deref())).collect();
    let expected = [
        ("due-ca", "active", Some("waiting")),
        ("files-ca", "watched", None),
        ("idle-ca", "active", Some("idle")),
        ("parked-ca", "active", Some("due")),
        ("paused-ca", "active", Some("due")),
        ("staged-ca", "active", Some("staged")),
    ];
    assert_eq!(seen, expected.map(|(id, state, phase)| (id.to_owned(), state, phase)));
    assert!(
        matches!(&of("parked-ca").hold, HoldReport::Parked { why, text, .. } if why == "refused" && text.contains("403"))
    );
    assert!(matches!(of("staged-ca").hold, HoldReport::Approval { .. }));
    assert!(of("paused-ca").reasons.iter().any(|r| r.contains("alice") && r.contains("HSM")));
    assert!(of("idle-ca").reasons.is_empty() && !of("idle-ca").attention);
    assert_eq!(status.credentials.len(), 1);
    let commands: Vec<_> = status.next.iter().filter_map(|next| next.command.as_deref()).collect();
    for command in [
        "stillgood approve --issuer staged-ca",
        "stillgood unpark --issuer parked-ca",
        "stillgood resume --issuer paused-ca",
    ] {
        assert!(commands.contains(&command), "{command} in {commands:?}");
    }
    assert!(status.next.iter().any(|next| next.text.contains("broken-ca cannot be used")));
    assert!(status.attention);
}

#[test]
fn a_pause_takes_hold_at_once_and_is_known_by_who_and_why() {
    let site = Site::new(None);
    let pause = Order::Pause(Target::Endpoint("main".into()), Duration::from_secs(4 * 3_600));
    let taken = give(&site, pause, "the CA is moved").unwrap();
    assert_eq!(taken.until, Some(at(NOW + 4 * 3_600)));
    assert!(
        taken.text.starts_with("endpoint main is paused: 6 signers and credentials are not asked for"),
        "{}",
        taken.text
    );
    let status = site.status();
    let pause = status.pauses.iter().find(|p| p.reach == Target::Endpoint("main".into())).unwrap();
    assert_eq!((pause.who.as_str(), pause.reason.as_str()), ("alice (uid 1000, pid 4711)", "the CA is moved"));
    assert_eq!(site.hall.given.lock().unwrap().last().unwrap().1, "the CA is moved");
    give(&site, Order::Resume(Target::Endpoint("main".into())), "").unwrap();
    assert_eq!(site.status().pauses.len(), 1);
}

#[test]
fn an_order_to_renew_names_what_keeps_it_and_joins_what_is_under_way() {
    let site = Site::new(None);
    let paused = give(&site, Order::Renew(issuer("paused-ca")), "").unwrap().text;
    assert_eq!(
        paused,
        "paused-ca: 1 signer or credential to be renewed, but paused-ca is paused until 2026-11-21T16:00:00Z by \
         alice (uid 1000, pid 4711): its HSM is serviced; nothing is asked for before that ends: `stillgood resume --issuer paused-ca`"
    );
    let idle = give(&site, Order::Renew(issuer("idle-ca")), "").unwrap().text;
    assert!(idle.starts_with("idle-ca: 1 signer or credential is renewed now, at the endpoint's rate"), "{idle}");
    site.hall.core.lock().unwrap().poll(at(NOW));
    let again = give(&site, Order::Renew(issuer("idle-ca")), "").map(|taken| taken.text);
    let joined = "idle-ca: nothing new is ordered: 1 signer or credential has an order under way (preparing)";
    assert_eq!(again.as_deref().ok(), Some(joined), "{again:?}");
    let all = give(&site, Order::Renew(Target::All), "").unwrap().text;
    assert!(all.contains("1 of them are not asked for"), "{all}");
}

#[test]
fn a_park_is_lifted_and_a_staged_signer_approved() {
    let site = Site::new(None);
    give(&site, Order::Unpark(issuer("parked-ca")), "profile is back").unwrap();
    give(&site, Order::ApproveSigner(issuer("staged-ca")), "").unwrap();
    let status = site.status();
    assert!(status.issuers.iter().all(|r| matches!(r.hold, HoldReport::None)), "{:?}", status.issuers);
    let again = give(&site, Order::ApproveSigner(issuer("staged-ca")), "").unwrap_err();
    assert_eq!(again.kind, RefusalKind::Refused);
    assert!(again.text.contains("nothing to do for staged-ca"), "{}", again.text);
}

#[test]
fn what_there_is_not_is_refused_by_name() {
    let site = Site::new(None);
    for (order, wanted) in [
        (Order::Pause(issuer("no-ca"), Duration::from_secs(60)), "no-ca is not known"),
        (Order::Pause(Target::Endpoint("x".into()), Duration::from_secs(60)), "no [enrolment.x]"),
        (Order::Resume(Target::All), "nothing to do for everything"),
        (Order::Renew(issuer("../etc")), "letters"),
        (Order::ApproveRegistry(9), "no generation of the registry is held"),
    ] {
        let refusal = give(&site, order, "x").unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Refused);
        assert!(refusal.text.contains(wanted), "{wanted}: {}", refusal.text);
    }
    assert!(block(site.desk.explain(issuer("no-ca"))).unwrap_err().text.contains("no-ca is not known"));
}

#[test]
fn signing_anew_reaches_whom_it_names_and_is_written_down() {
    let site = Site::new(None);
    let text = give(&site, Order::Resign(issuer("idle-ca")), "key exposed").unwrap().text;
    assert!(text.contains("2 slices of 1 issuer are signed again"), "{text}");
    let all = give(&site, Order::Resign(Target::All), "").unwrap().text;
    assert!(all.contains("12 slices of 6 issuers"), "{all}");
    let at_main = give(&site, Order::Resign(Target::Endpoint("main".into())), "").unwrap().text;
    assert!(!at_main.contains("of 6 issuers"), "files-ca is ordered nowhere: {at_main}");
    for nobody in [issuer("no-ca"), Target::Credential("main".into())] {
        let refusal = give(&site, Order::Resign(nobody), "").unwrap_err();
        assert!(refusal.kind == RefusalKind::Refused && refusal.text.contains("no issuer is served"), "{refusal}");
    }
    let history = block(site.desk.history(None, None, 5)).unwrap();
    let told: Vec<_> = history.events.iter().map(|e| (e.outcome, e.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(Outcome::Done), "resign idle-ca: key exposed"),
            (Some(Outcome::Done), "resign everything"),
            (Some(Outcome::Done), "resign endpoint main"),
            (Some(Outcome::Refused), "resign no-ca"),
            (Some(Outcome::Refused), "resign credential of main"),
        ]
    );
}

#[test]
fn an_approval_of_a_registry_is_written_down_whether_it_is_taken_or_not() {
    let site = Site::new(Some((8, "3 of 5 issuers would change".into())));
    assert!(site.status().next[0].text.contains("generation 8 of the registry is held: 3 of 5"));
    give(&site, Order::ApproveRegistry(9), "").unwrap_err();
    give(&site, Order::ApproveRegistry(8), "on purpose").unwrap();
    let history = block(site.desk.history(None, None, 2)).unwrap();
    let outcomes: Vec<_> = history.events.iter().map(|e| (e.outcome, e.who.as_str(), e.text.as_str())).collect();
    let who = "alice (uid 1000, pid 4711)";
    let refused = "approve generation 9; no generation of the registry is held";
    assert_eq!(
        outcomes,
        [(Some(Outcome::Refused), who, refused), (Some(Outcome::Done), who, "approve generation 8: on purpose")]
    );
}

#[test]
fn without_an_agent_what_needs_one_says_so_and_the_rest_works() {
    let site = Site::new(None);
    let desk = Desk {
        agent: Box::new(|| None::<fixture::Hall>),
        registry: fixture::Paper::default(),
        served: Box::new({
            let desk = site.desk.clone();
            move || (desk.served)()
        }),
        look: Box::new(|| Box::pin(async {})),
        resign: Box::new(|id| (id == "files-ca").then_some(3)),
        trail: site.desk.trail.clone(),
        clock: site.desk.clock.clone(),
        started: at(NOW),
        socket: "/run/stillgood/admin.sock".into(),
    };
    let status = block(desk.status()).unwrap();
    assert!(status.agent.is_none() && status.issuers.len() == 6 && status.endpoints.is_empty());
    assert!(status.issuers.iter().all(|report| report.phase.is_none()));
    assert_eq!(block(desk.plan()).unwrap_err().kind, RefusalKind::NoAgent);
    let pause = Command { order: Order::Pause(Target::All, Duration::from_secs(1)), reason: "x".into() };
    let refusal = block(desk.command(caller(), pause)).unwrap_err();
    assert!(refusal.kind == RefusalKind::NoAgent && refusal.text.contains("[enrolment.*]"), "{refusal}");
    let explained = block(desk.explain(issuer("files-ca"))).unwrap();
    assert!(explained.reasons[0].contains("not renewed by this service"), "{:?}", explained.reasons);
    assert_eq!(block(desk.history(None, None, 100)).unwrap().events.len(), 5);
}

#[test]
fn an_explanation_comes_with_what_happened_last_and_what_to_do() {
    let site = Site::new(None);
    let explained = block(site.desk.explain(issuer("parked-ca"))).unwrap();
    assert!(explained.reasons[0].starts_with("parked since 2026-11-21T11:00:"), "{:?}", explained.reasons);
    assert_eq!(explained.history.last().unwrap().outcome, Some(Outcome::Refused));
    assert_eq!(explained.next[0].command.as_deref(), Some("stillgood unpark --issuer parked-ca"));
    let idle = block(site.desk.explain(issuer("idle-ca"))).unwrap();
    assert_eq!(idle.next[0].command.as_deref(), Some("stillgood renew --issuer idle-ca"));
    let credential = block(site.desk.explain(Target::Credential("main".into()))).unwrap();
    assert_eq!(credential.slot.serial.as_deref(), Some("7A31C50190E4"));
}

#[test]
fn another_registry_is_compared_with_what_is_known() {
    let site = Site::new(None);
    let impact = block(site.desk.impact("/tmp/issuers.new.json".into())).unwrap();
    assert_eq!((impact.generation, impact.in_use, impact.known), (8, Some(7), 6));
    assert_eq!((impact.added, impact.removed), (vec!["fresh-ca".to_owned()], vec!["parked-ca".to_owned()]));
    assert_eq!((impact.disabled, impact.moved), (vec!["idle-ca".to_owned()], vec!["due-ca".to_owned()]));
    assert!(impact.held.is_some() && impact.requests >= 1);
    assert!(site.hall.core.lock().unwrap().slot_view(&signer("fresh-ca"), at(NOW)).is_none(), "only looked at");
    assert!(block(site.desk.impact("/tmp/nothing".into())).unwrap_err().text.contains("no such file"));
}

#[test]
fn a_hundred_parked_issuers_do_not_fill_the_screen_with_advice() {
    let site = Site::new(None);
    let mut status = site.status();
    let parked = status.issuers.iter().find(|r| r.slot == issuer("parked-ca")).unwrap().clone();
    status.issuers.extend((0..100).map(|n| SlotReportOf(parked.clone()).named(&format!("ca-{n}"))));
    let next = advice::of(&status, &[], &[]);
    assert!(next.len() < 15, "{}", next.len());
    assert!(next.iter().any(|n| n.text == "and 96 more like these"), "{next:?}");
}

struct SlotReportOf(crate::admin::control::SlotReport);

impl SlotReportOf {
    fn named(self, id: &str) -> crate::admin::control::SlotReport {
        crate::admin::control::SlotReport { slot: issuer(id), ..self.0 }
    }
}
