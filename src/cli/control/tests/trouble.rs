//! Whatever wakes somebody is what `status` says, in its words and by its exit status.

use super::fixture::{NOW, Site, at, view};
use super::*;
use crate::admin::control::HoldReport;
use crate::registry::{IssuerId, State};
use crate::renewal::Event;
use crate::responder::SourceSummary;
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// What there is to do, as text; and it is exactly as attention says.
fn pressing(site: &Site) -> Vec<String> {
    let status = site.status();
    let pressing: Vec<String> =
        status.next.iter().filter(|next| next.attention).map(|next| next.text.clone()).collect();
    assert_eq!(status.attention, !pressing.is_empty());
    pressing
}

fn crl(next_update: i64) -> SourceSummary {
    SourceSummary {
        kind: "CRL",
        file: "/srv/ca.crl".into(),
        data_time: at(NOW - 9 * DAY),
        entries: 7,
        quarantined: 0,
        first_quarantined: None,
        quarantined_first: vec![],
        next_update: Some(at(next_update)),
        is_expired: false, // as of when it was read
    }
}

/// The alerts of severity "page" in the rules that are deployed.
fn pages() -> Vec<String> {
    let rules = include_str!("../../../../deploy/prometheus/stillgood.rules.yml");
    let mut alert = "";
    let mut pages = Vec::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alert = name;
        }
        if line.contains("severity: page") {
            pages.push(alert.to_owned());
        }
    }
    assert!(pages.len() > 5, "the rules are no longer written as this test reads them");
    pages
}

type Case = fn() -> Site;

/// A site in which the alert's condition is met.
fn cases() -> BTreeMap<&'static str, (Case, &'static str)> {
    let mut cases: BTreeMap<&'static str, (Case, &'static str)> = BTreeMap::new();
    let mut case = |alert, site: Case, said| cases.insert(alert, (site, said));
    case(
        "StillgoodNotReady",
        || {
            let site = Site::calm();
            site.change(|served| served.missing = vec!["the registry has not been read yet".into()]);
            site
        },
        "not ready: the registry has not been read yet",
    );
    case(
        "StillgoodManyTryLater",
        || {
            let site = Site::calm();
            site.change(|served| served.worries = vec!["60 of 1000 requests were answered tryLater".into()]);
            site
        },
        "tryLater",
    );
    case(
        "StillgoodConnectionsRefused",
        || {
            let site = Site::calm();
            site.change(|served| served.worries = vec!["3 connections were refused".into()]);
            site
        },
        "3 connections",
    );
    case(
        "StillgoodAnswersRunOut",
        || {
            let site = Site::calm();
            site.first(|report| {
                report.oldest_this_update = Some(at(NOW - 3 * DAY));
                report.late_from = Some(at(NOW));
                report.runs_out = Some(at(NOW + DAY));
            });
            site
        },
        "should long have been signed again; they run out at 2026-11-22T14:00:00Z",
    );
    case(
        "StillgoodRevocationWaits",
        || {
            let site = Site::calm();
            site.first(|report| report.revocation_waits_secs = 61);
            site
        },
        "a revocation that its sources name has not been signed for 61 s",
    );
    case(
        "StillgoodSignerDeadline",
        || {
            let site = Site::calm();
            site.first(|report| report.signer.as_mut().unwrap().not_after = at(NOW + 5 * DAY + HOUR));
            site
        },
        "files-ca: its time is short: the next one must be in use by 2026-11-22T14:00:00Z; it is not ours to renew",
    );
    case(
        "StillgoodNoSigner",
        || {
            let site = Site::calm();
            site.first(|report| report.signer = None);
            site
        },
        "there is no signer",
    );
    case(
        "StillgoodCrlExpired",
        || {
            let site = Site::calm();
            site.first(|report| report.sources = vec![crl(NOW - 1)]);
            site
        },
        "CRL /srv/ca.crl expired at 2026-11-21T13:59:59Z",
    );
    case(
        "StillgoodPassOverdue",
        || {
            let site = Site::calm();
            site.change(|served| {
                served.last_pass = Some(at(NOW - 61));
                served.since_last_pass = Duration::from_secs(61);
            });
            site
        },
        "have not been looked at since 2026-11-21T13:58:59Z",
    );
    case(
        "StillgoodAgentDown",
        || {
            let site = Site::calm();
            site.change(|served| served.agent_fault = Some("state/ledger.redb: Is a directory".into()));
            site
        },
        "the renewal agent does not run, so that no signer is renewed; it is tried again each minute: state/ledger.redb",
    );
    case(
        "StillgoodCredentialExpires",
        || {
            let site = Site::new(None);
            let life = crate::renewal::SignerLife {
                serial: crate::ocsp::Serial::from_unsigned(&[9]).unwrap(),
                not_before: at(NOW - 90 * DAY),
                not_after: at(NOW + 7 * DAY - 1),
            };
            let slot = SlotId::Credential(fixture::main_endpoint());
            let event = renewal::Event::Signer { slot, life: Some(life) };
            site.hall.core.lock().unwrap().handle(event, at(NOW)).unwrap();
            site
        },
        "credential of main: its time is short",
    );
    case(
        "StillgoodCredentialFault",
        || {
            let site = Site::new(None);
            *site.hall.credential_faults.lock().unwrap() =
                vec![("main".into(), "agent.key: others can read it".into())];
            site
        },
        "credential of main: it cannot be used: agent.key: others can read it",
    );
    case(
        "StillgoodLedgerFault",
        || {
            let site = Site::new(None);
            site.hall.agent.lock().unwrap().fault = Some("no space left".into());
            site
        },
        "the ledger of orders cannot be written",
    );
    cases
}

#[test]
fn every_condition_that_pages_needs_somebody() {
    assert_eq!(pressing(&Site::calm()), [""; 0], "and nothing else does");
    let cases = cases();
    for alert in pages() {
        // What a process that is gone, or that nobody asks, cannot say.
        if ["StillgoodDown", "StillgoodNotScraped"].contains(&alert.as_str()) {
            continue;
        }
        let (site, said) = cases.get(alert.as_str()).unwrap_or_else(|| panic!("{alert} pages: what does status say?"));
        let next = pressing(&site());
        assert!(next.iter().any(|text| text.contains(said)), "{alert}: {said} in {next:#?}");
    }
}

#[test]
fn a_signer_that_is_files_has_a_window_and_a_deadline() {
    let site = Site::calm();
    let window = site.status().issuers[0].window.unwrap();
    // A hundred days, of which a response and the margin take four days and an hour.
    assert_eq!(window.deadline, at(NOW + 56 * DAY - HOUR));
    assert_eq!((window.opens, window.due), (at(NOW + 8 * DAY - HOUR / 2), at(NOW + 8 * DAY - HOUR / 2)));
    assert!(window.closes < window.urgent && window.urgent < window.deadline);
    site.first(|report| report.signer.as_mut().unwrap().not_after = at(NOW + 2 * HOUR));
    site.first(|report| report.sources = vec![crl(NOW - DAY)]);
    let next = pressing(&site);
    assert_eq!(next.len(), 1, "one issuer is one thing: {next:?}");
    for said in ["which has passed; it is not ours to renew", "CRL /srv/ca.crl expired"] {
        assert!(next[0].contains(said), "{next:?}");
    }
}

/// `stillgood_signer_urgent_seconds` is the `urgent` of this report: StillgoodSignerExpires and StillgoodSignerDeadline come when it has passed.
#[test]
fn whether_it_lives_for_an_hour_or_a_year_a_signer_needs_somebody_from_the_moment_of_its_alert_on() {
    let life_validity_margin = [(HOUR, 600, 120), (7 * DAY, 4 * HOUR, HOUR), (365 * DAY, 4 * DAY, HOUR)];
    for (life, validity, margin) in life_validity_margin {
        let usable = life - validity - margin;
        let site = |urgent: i64| {
            let site = Site::calm();
            site.change(|served| served.renewal.margin = Duration::from_secs(margin.unsigned_abs()));
            site.first(|report| {
                report.validity_secs = validity.unsigned_abs();
                let signer = report.signer.as_mut().unwrap();
                signer.not_before = at(urgent - usable / 10 * 9);
                signer.not_after = at(urgent - usable / 10 * 9 + life);
            });
            site
        };
        let before = site(NOW + 1);
        assert_eq!(before.status().issuers[0].window.unwrap().urgent, at(NOW + 1), "{life}");
        assert_eq!(pressing(&before), [""; 0], "{life}");
        let from = site(NOW);
        assert_eq!(from.status().issuers[0].window.unwrap().urgent, at(NOW), "{life}");
        assert!(pressing(&from)[0].contains("its time is short"), "{life}");
    }
}

#[test]
fn a_disabled_issuer_that_runs_out_as_planned_presses_nobody() {
    let site = Site::calm();
    let expired = |report: &mut IssuerReport| {
        report.signer.as_mut().unwrap().not_after = at(NOW - HOUR);
        report.runs_out = Some(at(NOW - HOUR));
        report.late_from = Some(at(NOW - DAY));
        report.signing_fault = Some("the signer has expired".into());
    };
    site.first(expired);
    assert_ne!(pressing(&site), [""; 0], "an active one does");
    site.first(|report| report.is_disabled = true);
    assert_eq!(pressing(&site), [""; 0]);
    let issuer = site.status().issuers.remove(0);
    assert_eq!((issuer.state.as_str(), issuer.phase.as_deref()), ("disabled", None));
    for said in ["when it has run out, retire it", "ran out at"] {
        assert!(issuer.reasons.iter().any(|reason| reason.contains(said)), "{said}: {:?}", issuer.reasons);
    }
    // Started anew, it has no signer; and an answer that does not verify is no end as planned.
    site.first(|report| (report.signer, report.signer_fault) = (None, Some("expired".into())));
    assert_eq!(pressing(&site), [""; 0]);
    site.first(|report| report.answer_fault = Some("the signature is wrong".into()));
    assert_ne!(pressing(&site), [""; 0]);
    // While its signer lives, what keeps it from signing is a fault.
    let site = Site::calm();
    site.first(|report| (report.is_disabled, report.signing_fault) = (true, Some("the key is gone".into())));
    assert_ne!(pressing(&site), [""; 0]);
}

#[test]
fn an_issuer_whose_record_cannot_be_used_presses_until_the_record_is_mended() {
    let mut site = Site::new(None);
    let mut registry = RegistryView { generation: 8, ..view() };
    registry.issuers.retain(|spec| spec.id.as_str() != "due-ca");
    registry.quarantined = vec![IssuerId::new("due-ca").unwrap()];
    site.hall.core.lock().unwrap().handle(Event::Registry(registry), at(NOW)).unwrap();
    Arc::get_mut(&mut site.desk).unwrap().registry.served_on = Some("due-ca".into());
    site.first(|report| report.signer.as_mut().unwrap().not_after = at(NOW + 6 * DAY));
    let status = site.status();
    let report = status.issuers.iter().find(|report| report.slot == issuer("due-ca")).unwrap();
    assert_eq!((report.state.as_str(), report.attention), ("quarantined", true));
    let explained = block(site.desk.explain(issuer("due-ca"))).unwrap();
    for said in
        ["since 2026-11-21T11:00:00Z: it is served as before", "not renewed until the record is mended", "actve"]
    {
        assert!(report.reasons.iter().any(|reason| reason.contains(said)), "{said}: {:?}", report.reasons);
        assert!(explained.reasons.iter().any(|reason| reason.contains(said)), "{said}: {:?}", explained.reasons);
    }
    assert!(explained.reasons.iter().chain(&report.reasons).all(|reason| !reason.contains("retire")), "{report:?}");
    assert!(pressing(&site).iter().any(|text| text.contains("due-ca: ") && text.contains("mended")));
    // An agent that was started since has not been told of its signer.
    let mut snapshot = site.hall.core.lock().unwrap().snapshot(at(NOW));
    for view in &mut snapshot.slots {
        (view.life, view.schedule) = (None, None);
    }
    let (served, registry) = (site.served.lock().unwrap().clone(), site.desk.registry.report());
    let (_, issuers) = convert::slots(Some(&snapshot), &served, &registry, None, &[], at(NOW));
    let report = issuers.iter().find(|report| report.slot == issuer("due-ca")).unwrap();
    assert!(report.window.is_some() && report.reasons.iter().any(|r| r.contains("its time is short")), "{report:?}");
}

#[test]
fn an_issuer_that_a_held_generation_stops_is_not_called_disabled_and_its_end_presses() {
    let site = Site::new(Some((8, "1 issuers would change, 5 are known: 1 moved (parked-ca)".into())));
    let mut registry = RegistryView { synced_at: at(NOW), ..view() };
    let stopped = registry.issuers.iter_mut().find(|spec| spec.id.as_str() == "parked-ca").unwrap();
    (stopped.state, stopped.held_by) = (State::Disabled, Some(8));
    site.hall.core.lock().unwrap().handle(Event::Registry(registry), at(NOW)).unwrap();
    let status = site.status();
    let report = status.issuers.iter().find(|report| report.slot == issuer("parked-ca")).unwrap();
    assert_eq!(report.state, "held");
    for said in ["stopped by generation 8", "its time is short"] {
        assert!(report.reasons.iter().any(|reason| reason.contains(said)), "{said}: {:?}", report.reasons);
    }
    let explained = block(site.desk.explain(issuer("parked-ca"))).unwrap();
    assert!(explained.reasons[0].starts_with("generation 8 of the registry, which is held"), "{explained:?}");
    for reason in report.reasons.iter().chain(&explained.reasons) {
        assert!(!reason.contains("disabled:") && !reason.contains("retire"), "{reason}");
    }
    let commands: Vec<_> = explained.next.iter().filter_map(|next| next.command.as_deref()).collect();
    assert!(commands.contains(&"stillgood approve --registry 8"), "{commands:?}");
}

#[test]
fn an_agent_that_cannot_be_started_is_not_one_that_is_not_wanted() {
    let site = Site::calm();
    site.change(|served| served.agent_fault = Some("state/ledger.redb: Is a directory".into()));
    site.first(|report| report.is_ordered = true);
    let status = site.status();
    assert_eq!(status.agent.unwrap().down.as_deref(), Some("state/ledger.redb: Is a directory"));
    let issuer = &status.issuers[0];
    assert_eq!((issuer.state.as_str(), issuer.phase.as_deref()), ("stopped", None));
    assert!(issuer.window.is_some() && issuer.reasons[0].contains("does not run"), "{issuer:?}");
    let refusal = block(site.desk.plan()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NoAgent);
    assert!(refusal.text.contains("ledger.redb") && !refusal.text.contains("[enrolment"), "{refusal}");
    let explained = block(site.desk.explain(issuer.slot.clone())).unwrap();
    assert!(!explained.reasons.iter().any(|reason| reason.contains("not renewed by this service")), "{explained:?}");
    assert_eq!(pressing(&site).len(), 1, "{:?}", pressing(&site));
}

#[test]
fn one_record_that_cannot_be_used_is_one_thing_to_do() {
    let site = Site::new(None);
    let before = pressing(&site).len();
    let unreadable = |name: &str, why: &str| (name.to_owned(), why.to_owned());
    site.hall.agent.lock().unwrap().unreadable = [
        unreadable("broken-ca", "issuers.json:31:7: certificate: no such file"),
        // Of a slot that needs somebody already: with it.
        unreadable("parked-ca", "its slot on disk is damaged"),
    ]
    .into();
    let next = pressing(&site);
    assert_eq!(next.len(), before, "{next:?}");
    let status = site.status();
    let parked = status.issuers.iter().find(|slot| slot.slot == issuer("parked-ca")).unwrap();
    assert!(parked.reasons.iter().any(|reason| reason.contains("its slot on disk is damaged")), "{parked:?}");
    let many = (0..9).map(|n| unreadable(&format!("lost-{n}"), "gone"));
    site.hall.agent.lock().unwrap().unreadable = many.collect();
    let next = pressing(&site);
    assert_eq!(next.len(), before + 6);
    assert!(next.iter().any(|text| text == "and 4 more like these"), "{next:?}");
}

#[test]
fn lines_entries_and_segments_that_cannot_be_read_are_named() {
    let site = Site::calm();
    site.first(|report| {
        let listed = (1..=5).map(|n| format!("line {}: no such status", 2_000 + n));
        report.sources = vec![
            SourceSummary {
                kind: "index",
                file: "/srv/index.txt".into(),
                quarantined: 7,
                quarantined_first: listed.collect(),
                next_update: None,
                ..crl(0)
            },
            SourceSummary { quarantined: 1, quarantined_first: vec!["entry 3: no date".into()], ..crl(NOW + DAY) },
        ];
    });
    let status = site.status();
    let reasons = &status.issuers[0].reasons;
    assert_eq!(
        reasons[0],
        "responder: index /srv/index.txt: 7 lines left out that cannot be read: line 2001: no such status; \
         line 2002: no such status; line 2003: no such status; line 2004: no such status; line 2005: no such status; and 2 more"
    );
    assert!(
        reasons[1].contains("CRL /srv/ca.crl")
            && reasons[1].ends_with("1 entry left out that cannot be read: entry 3: no date"),
        "{reasons:?}"
    );
    assert!(status.attention);
    // Segments are signed anew: good to know, and nothing to do.
    site.first(|report| {
        report.sources = vec![crl(NOW + DAY)];
        report.refused_segments = vec!["a.seg: checksum".into(), "b.seg: truncated".into()];
    });
    let status = site.status();
    assert!(!status.attention && status.issuers[0].reasons[0].contains("a.seg: checksum; and 1 more"), "{status:?}");
}

#[test]
fn what_the_responder_says_of_a_parked_issuer_is_told_with_it() {
    let site = Site::new(None);
    site.change(|served| {
        let reports = Arc::make_mut(&mut served.reports);
        reports.iter_mut().find(|report| report.id == "parked-ca").unwrap().sources = vec![crl(NOW - DAY)];
    });
    let status = site.status();
    let parked = status.issuers.iter().find(|slot| slot.slot == issuer("parked-ca")).unwrap();
    assert!(matches!(parked.hold, HoldReport::Parked { .. }));
    assert!(status.next.iter().any(|next| next.text.contains("besides, CRL /srv/ca.crl expired")), "{:?}", status.next);
    assert_eq!(Duration::from_secs(60), PASS_OVERDUE, "as the alert has it");
}

#[test]
fn a_first_signer_in_place_is_told_with_what_it_waits_for() {
    let site = Site::new(None);
    site.change(|served| {
        let report = Arc::make_mut(&mut served.reports).iter_mut().find(|report| report.id == "staged-ca").unwrap();
        (report.signer, report.is_complete) = (None, false);
        report.signer_fault = Some("no signer has been issued yet".into());
    });
    let text = |site: &Site| pressing(site).into_iter().find(|text| text.starts_with("staged-ca")).unwrap();
    assert!(text(&site).ends_with("is in place and waits for your word"), "{}", text(&site));
    let mut snapshot = (*site.hall.snapshot()).clone();
    let view = snapshot.slots.iter_mut().find(|view| view.slot == fixture::signer("staged-ca")).unwrap();
    (view.life, view.awaits_approval, view.active_from) = (None, false, Some(at(NOW + 240)));
    let served = site.served.lock().unwrap().clone();
    let (_, issuers) = convert::slots(Some(&snapshot), &served, &site.desk.registry.report(), None, &[], at(NOW));
    let report = issuers.into_iter().find(|report| report.slot == issuer("staged-ca")).unwrap();
    assert!(
        report.attention && report.reasons[0].ends_with("is in place and is used from 2026-11-21T14:04:00Z"),
        "{report:?}"
    );
    assert!(!report.reasons.iter().any(|reason| reason.contains("no signer has been issued")), "{report:?}");
    // To have it explained is what one does first, and nothing once it is done.
    let mut status = site.status();
    *status.issuers.iter_mut().find(|other| other.slot == issuer("staged-ca")).unwrap() = report;
    let next = advice::of(&status, &[], &[]);
    assert!(next.iter().any(|n| n.command.as_deref() == Some("stillgood explain staged-ca")), "{next:?}");
    assert!(advice::of_explained(&status, &issuer("staged-ca")).is_empty());
}
