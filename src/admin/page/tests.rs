use super::*;
use crate::admin::control::{
    AuditReport, EndpointReport, HoldReport, Next, PauseReport, PresignReport, Quarantine, SlotReport, Target,
    WindowReport,
};
use crate::endpoint::Stats;
use std::time::Duration;

const EVIL: &str = "<script>alert(\"1\")</script>'&\u{202e}\u{1b}[2J";

fn now() -> Timestamp {
    Timestamp::from_unix(1_800_000_000)
}

fn hours(n: i64) -> Timestamp {
    Timestamp::from_unix(now().unix() + n * 3_600)
}

fn slot(id: &str, attention: bool) -> SlotReport {
    SlotReport {
        slot: Target::Issuer(id.into()),
        state: "active".into(),
        phase: Some("idle".into()),
        endpoint: Some("main".into()),
        order: None,
        cause: None,
        hold: HoldReport::None,
        attention,
        reasons: if attention { vec!["its CA refuses it".into()] } else { vec![] },
        serial: Some("0a".into()),
        not_before: Some(hours(-100)),
        not_after: Some(hours(100)),
        window: Some(WindowReport {
            opens: hours(10),
            due: hours(20),
            closes: hours(30),
            urgent: hours(40),
            deadline: hours(60),
        }),
        failures: 0,
        last_failure: None,
        requests_today: 0,
        certificates_today: 0,
        entries: Some(3),
        oldest_this_update: Some(hours(-1)),
    }
}

fn status(issuers: Vec<SlotReport>) -> Status {
    let attention = issuers.iter().any(|slot| slot.attention);
    Status {
        now: now(),
        version: "0.1.0".into(),
        pid: 7,
        started: hours(-26),
        attention,
        socket: "/run/stillgood/admin.sock".into(),
        agent: None,
        files: Default::default(),
        registry: RegistryReport { generation: Some(4), synced_at: Some(hours(-1)), fresh: true, ..Default::default() },
        pauses: vec![],
        endpoints: vec![],
        credentials: vec![],
        issuers,
        presign: PresignReport::default(),
        audit: AuditReport::default(),
        next: vec![],
    }
}

fn page(status: &Status) -> String {
    let traffic = Traffic::new(&Stats::default().snapshot(), &Meter::default(), crate::time::monotonic());
    let page = render(status, &traffic);
    assert_well_formed(&page);
    page
}

/// Every element is closed in order, every attribute quoted, no text begins a tag or an entity by accident.
fn assert_well_formed(page: &str) {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let mut open: Vec<&str> = Vec::new();
    while let Some(at) = rest.find('<') {
        let (text, from) = rest.split_at(at);
        assert!(open.last() == Some(&"style") || !text.contains('>'), "{text}");
        assert_entities(text);
        let (tag, after) = from[1..].split_once('>').expect("a tag ends");
        rest = after;
        assert_entities(tag);
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "before {}", &rest[..rest.len().min(80)]);
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

fn assert_entities(text: &str) {
    for (at, _) in text.match_indices('&') {
        assert!(
            ["&lt;", "&gt;", "&amp;", "&quot;", "&#39;"].iter().any(|known| text[at..].starts_with(known)),
            "{text}"
        );
    }
}

#[test]
fn what_others_have_written_is_text_wherever_it_stands() {
    let evil = || EVIL.to_owned();
    let mut one = slot(EVIL, true);
    one.state = evil();
    one.phase = Some(evil());
    one.reasons = vec![evil(); 9];
    let mut parked = slot(EVIL, true);
    parked.hold = HoldReport::Parked { why: evil(), text: evil() + "x", since: now(), canary: hours(1) };
    let mut staged = slot(EVIL, false);
    staged.hold = HoldReport::Approval { serial: evil() };
    let mut status = status(vec![one, parked, staged]);
    status.version = evil();
    status.registry.fault = Some(evil());
    status.registry.held = Some((5, evil()));
    status.registry.quarantined = vec![Quarantine { record: evil(), faults: vec![evil(); 9], served_on_since: None }];
    status.pauses = vec![PauseReport { reach: Target::Endpoint(evil()), until: hours(1), reason: evil(), who: evil() }];
    status.agent = Some(crate::admin::control::AgentReport {
        unreadable: [(evil(), evil())].into(),
        fault: Some(evil()),
        ..Default::default()
    });
    status.audit = AuditReport { lost: 1, fault: Some(evil()) };
    status.presign.oldest_this_update = Some((hours(-1), evil()));
    status.next = vec![Next { attention: true, text: evil(), command: Some(evil()) }];
    status.endpoints = vec![EndpointReport {
        name: evil(),
        state: evil(),
        is_pace: false,
        open: true,
        failures: 1,
        in_flight: 1,
        in_flight_limit: 1,
        rate_share: f64::NAN,
        queued: 0,
        requests_today: 0,
        requests: [].into(),
        signer_changes: 0,
    }];
    let page = page(&status);
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    assert!(page.matches("&lt;script&gt;").count() >= 20);
}

#[test]
fn ten_thousand_issuers_make_a_page_of_a_bounded_size_that_says_what_is_left_out() {
    let many = |attention| (0..10_000).map(|n| slot(&format!("issuing-ca-{n}"), attention)).collect::<Vec<_>>();
    let calm = page(&status(many(false)));
    assert!(calm.len() < 256 << 10, "{}", calm.len());
    let shows = "<code>stillgood status --all --socket /run/stillgood/admin.sock</code> shows them";
    assert!(calm.contains(&format!("and 9900 more with which all is well; {shows}")));
    let mut loud = many(true);
    for slot in &mut loud {
        slot.reasons = vec!["<".repeat(500); 5];
    }
    let mut worst = status(loud);
    worst.next = (0..10_000).map(|n| Next { attention: true, text: n.to_string(), command: None }).collect();
    worst.registry.quarantined =
        vec![Quarantine { record: "<".repeat(500), faults: vec!["<".repeat(500); 9], served_on_since: None }; 10_000];
    let worst = page(&worst);
    assert!(worst.len() < 4 << 20, "{}", worst.len());
    assert!(worst.contains("and 9800 more that need somebody") && worst.contains("10000 things need you"));
    assert!(worst.contains("and 9950 more"));
}

#[test]
fn those_in_trouble_come_first_and_say_so_without_colour() {
    let mut status = status(vec![slot("calm", false), slot("troubled", true)]);
    status.next =
        vec![Next { attention: true, text: "look".into(), command: Some("stillgood explain troubled".into()) }];
    let page = page(&status);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("</span>\u{a0}troubled") < at("<th scope=\"row\">calm"));
    let command = "<code>stillgood explain troubled --socket /run/stillgood/admin.sock</code>";
    for said in [
        "⚠ One thing needs you.",
        command,
        "<tr class=\"why\"><td colspan=\"7\"><ul class=\"bad\"><li>its CA refuses it",
    ] {
        at(said);
    }
}

#[test]
fn an_agent_that_does_not_run_is_not_one_that_is_not_wanted() {
    let mut status = status(vec![slot("ca", false)]);
    status.issuers[0].state = "stopped".into();
    status.issuers[0].phase = None;
    assert!(page(&status).contains("this service renews no signer"));
    status.agent = Some(AgentReport::not_running("ledger.redb: Is a directory".into()));
    status.files.overdue = true;
    let page = page(&status);
    for said in [
        "does not run, so that no signer is renewed: ledger.redb",
        "⚠\u{a0}not renewed now",
        "last looked at since the start",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(!page.contains("this service renews no signer") && !page.contains("renewed by others"));
}

#[test]
fn the_pace_of_requests_is_no_warning_and_what_holds_them_has_room() {
    let mut status = status(vec![]);
    let endpoint = |is_pace, open| EndpointReport {
        name: "main".into(),
        state: "the rate of the service allows the next request at noon".into(),
        is_pace,
        open,
        failures: 0,
        in_flight: 1,
        in_flight_limit: 2,
        rate_share: 1.0,
        queued: 0,
        requests_today: 0,
        requests: [].into(),
        signer_changes: 0,
    };
    status.endpoints = vec![endpoint(true, false)];
    let calm = page(&status);
    assert!(calm.contains("<td class=\"good\">ok</td>") && !calm.contains("at noon"), "{calm}");
    status.endpoints = vec![endpoint(false, false), endpoint(false, true)];
    let held = page(&status);
    assert!(
        held.contains("<td class=\"warn\">⚠ waits</td>") && held.contains("<td class=\"bad\">⚠ open</td>"),
        "{held}"
    );
    assert_eq!(held.matches("<tr class=\"why\"><td colspan=\"7\"").count(), 2);
}

#[test]
fn a_bar_says_in_words_what_it_draws() {
    let page = page(&status(vec![slot("ca", false)]));
    assert!(page.contains("<title>Life of the certificate of ca</title>"));
    assert!(page.contains("<desc>ends in 4d4h; renewal due in 20h, deadline in 2d12h</desc>"));
    assert!(page.contains("<circle class=\"now\" cx=\"110\""), "half of its life is over");
    assert!(page.contains("life good"));
    let mut late = slot("ca", false);
    late.not_after = Some(hours(-1));
    assert!(draw::life(&late, now()).unwrap().contains("life bad"));
    late.not_before = None;
    assert_eq!(draw::life(&late, now()), None);
    late.not_before = late.not_after;
    assert!(draw::life(&late, now()).is_some(), "a life of no length");
}

#[test]
fn the_calendar_counts_every_renewal_once() {
    assert_eq!(draw::calendar(&[], now()), None);
    let dues = [hours(-5), hours(0), hours(1), hours(30), hours(30)];
    let drawn = draw::calendar(&dues, now()).unwrap();
    assert!(drawn.contains("5 renewals, each column 1h, at most 2 in one; 2 due already"), "{drawn}");
    for column in ["now: 2", "in 1h: 1", "in 1d6h: 2"] {
        assert!(drawn.contains(&format!("<title>{column}</title>")), "{drawn}");
    }
    let far = [hours(1), now().plus(Duration::from_secs(800 * 86_400))];
    assert!(draw::calendar(&far, now()).unwrap().contains("1 later than in 7d, not drawn"));
}

#[test]
fn the_page_asks_for_nothing_from_elsewhere() {
    let page = page(&status(vec![slot("ca", false)]));
    for banned in ["<script", "onload=", "src=", "http://", "https://", "url(", "@import", "style=\""] {
        let found = page.find(banned).map(|at| &page[at..(at + 20).min(page.len())]);
        assert!(found.is_none(), "{banned}: {found:?}");
    }
    assert_well_formed(&starting());
}
