use super::super::control::tests::fixture::{NOW, Site, at};
use super::super::paper::Paper;
use super::*;
use crate::admin::control::{Control, Explained, Impact, PlanReport, Status, start};
use crate::audit::History;
use std::fs;
use std::path::Path;
use std::time::Duration;

const SERVICE: &str = "--config stillgood.toml";

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What is printed at these widths is what the file says. Run with `STILLGOOD_UPDATE_FIXTURES=1` to write the files anew, and
/// look at the difference.
fn golden(name: &str, render: &dyn Fn(&Paper) -> String) {
    for width in [60, 100, 160] {
        let text = render(&Paper { width, colour: false, unicode: true });
        for line in text.lines().filter(|line| !line.contains("stillgood ")) {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= width, "{name} at {width}: {line}");
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/terminal/{name}-{width}.txt"));
        if std::env::var_os("STILLGOOD_UPDATE_FIXTURES").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, expected, "{}; STILLGOOD_UPDATE_FIXTURES=1 writes it anew", file.display());
    }
    let ascii = render(&Paper { width: 100, colour: false, unicode: false });
    assert!(ascii.is_ascii(), "{name}: {:?}", ascii.chars().find(|c| !c.is_ascii()));
    let coloured = render(&Paper { width: 100, colour: true, unicode: true });
    assert!(coloured.contains('\x1b'), "{name}");
}

#[test]
fn status_is_drawn_for_every_width() {
    let status = Site::new(Some((8, "3 of 5 issuers would change".into()))).status();
    golden("status", &|paper| status::render(&status, SERVICE, false, paper));
}

#[test]
fn a_plan_is_drawn_for_every_width() {
    let plan = block(Site::new(None).desk.plan()).unwrap();
    golden("plan", &|paper| plan::render(&plan, 20, paper));
}

#[test]
fn an_impact_is_drawn_for_every_width() {
    let impact = block(Site::new(None).desk.impact("/etc/stillgood/issuers.new.json".into())).unwrap();
    golden("impact", &|paper| plan::render_impact(&impact, paper));
}

#[test]
fn an_explanation_is_drawn_for_every_width() {
    let site = Site::new(None);
    let explained = block(site.desk.explain(Target::Issuer("parked-ca".into()))).unwrap();
    golden("explain", &|paper| explain::render(&explained, SERVICE, paper));
}

#[test]
fn a_history_is_drawn_for_every_width() {
    let history = block(Site::new(None).desk.history(None, None, 100)).unwrap();
    golden("history", &|paper| history::render(&history, at(NOW), paper));
}

#[test]
fn ten_thousand_issuers_are_drawn_with_those_in_trouble_first() {
    let mut status = Site::new(None).status();
    let idle = status.issuers.iter().find(|slot| slot.slot == Target::Issuer("idle-ca".into())).unwrap().clone();
    for n in 0..10_000 {
        status
            .issuers
            .insert(0, crate::admin::control::SlotReport { slot: Target::Issuer(format!("ca-{n}")), ..idle.clone() });
    }
    let text = status::render(&status, SERVICE, false, &Paper { width: 100, colour: false, unicode: true });
    assert!(text.lines().count() < 120, "{}", text.lines().count());
    assert!(text.find("parked-ca").unwrap() < text.find("ca-9").unwrap());
    assert!(text.contains("more with which all is well; --all writes them out"), "{text}");
    let all = status::render(&status, SERVICE, true, &Paper { width: 100, colour: false, unicode: true });
    assert!(all.contains("ca-7777"));
}

#[test]
fn a_frame_fits_the_terminal_and_keeps_the_verdict_and_what_to_do() {
    let status = Site::new(Some((8, "3 of 5 issuers would change".into()))).status();
    let width = |line: &str| unicode_width::UnicodeWidthStr::width(line);
    for (columns, colour) in [(100, false), (60, true), (40, true)] {
        let paper = Paper { width: columns, colour, unicode: true };
        let whole = status::render(&status, SERVICE, false, &paper);
        assert_eq!(status::frame(&status, SERVICE, false, &paper, None), whole);
        assert_eq!(status::frame(&status, SERVICE, false, &paper, Some(500)), whole);
        for rows in 3..40 {
            let frame = status::frame(&status, SERVICE, false, &paper, Some(rows));
            let plain = status::bare(&frame);
            let taken: usize = plain.lines().map(|line| width(line).div_ceil(columns).max(1)).sum();
            assert!(taken < rows, "{taken} of {rows} rows, {columns} columns:\n{frame}");
            assert!(plain.contains("more line"), "{frame}");
            // The first line is wider than 60 columns.
            let (verdict, first) = ("things need you", "1. generation 8 of the registry");
            assert!(rows < 5 || plain.contains(verdict), "{columns} by {rows}:\n{frame}");
            assert!(rows < 12 || plain.contains(first), "{columns} by {rows}:\n{frame}");
        }
    }
}

#[test]
fn an_agent_that_does_not_run_and_a_service_at_its_pace_are_shown_as_what_they_are() {
    let paper = Paper { width: 100, colour: false, unicode: true };
    let mut status = Site::new(None).status();
    status.endpoints[0].state = "the rate of the service allows the next request at noon".into();
    status.endpoints[0].is_pace = true;
    let text = status::render(&status, SERVICE, false, &paper);
    assert!(text.contains("main      ok ") && !text.contains("at noon"), "{text}");
    status.endpoints[0].is_pace = false;
    assert!(status::render(&status, SERVICE, false, &paper).contains("at noon"));
    status.agent = Some(crate::admin::control::AgentReport::not_running("ledger.redb: Is a directory".into()));
    let text = status::render(&status, SERVICE, false, &paper);
    assert!(text.contains("agent      does not run: no signer is renewed"), "{text}");
}

#[test]
fn a_plan_of_a_year_is_drawn_in_the_width_there_is() {
    let now = at(NOW);
    let by_hour = (0..9_000).map(|hour| (now.plus(Duration::from_secs(hour * 3_600)), 1 + hour as usize % 7)).collect();
    let mut plan = PlanReport { now, entries: vec![], by_hour, left_out: 0, pauses: vec![] };
    plan.entries = block(Site::new(None).desk.plan()).unwrap().entries;
    for width in [40, 60, 100, 200] {
        let text = plan::render(&plan, 3, &Paper { width, colour: false, unicode: true });
        assert!(text.contains("Requests per ") && text.contains("later days"), "{text}");
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= width), "{width}: {text}");
    }
}

#[test]
fn answers_come_over_the_socket_as_they_were_given() {
    let site = Site::new(None);
    let socket = site.dir.path().join("s");
    let _handle = start(&socket, 0o600, site.desk.clone()).unwrap();
    let ask = |call: &Call| client::ask::<serde_json::Value>(&socket, call).unwrap();
    let status: Status = client::ask(&socket, &Call::Status {}).unwrap();
    assert_eq!(Status { pid: 4711, version: "0.1.0".into(), ..status }, site.status());
    let plan: PlanReport = client::ask(&socket, &Call::Plan {}).unwrap();
    assert_eq!(plan, block(site.desk.plan()).unwrap());
    let explain = Call::Explain { slot: Target::Issuer("staged-ca".into()) };
    let _: Explained = client::ask(&socket, &explain).unwrap();
    let _: Impact = client::ask(&socket, &Call::Impact { file: "/x/issuers.new.json".into() }).unwrap();
    let _: History = client::ask(&socket, &Call::History { about: None, since: None, limit: 3 }).unwrap();
    let renew = ask(&Call::Renew { reach: Target::Issuer("idle-ca".into()), reason: "exposed".into() });
    assert_eq!(renew["text"], "idle-ca: 1 signer or credential is renewed now, at the endpoint's rate");
    let given = site.hall.given.lock().unwrap().last().cloned().unwrap();
    assert!(given.0.contains(&format!("pid {}", std::process::id())), "{}", given.0);
}

#[test]
fn json_has_the_fields_that_are_documented() {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VERBS.md")).unwrap();
    let site = Site::new(None);
    let explained = block(site.desk.explain(Target::Issuer("parked-ca".into()))).unwrap();
    let impact = block(site.desk.impact("/x/issuers.new.json".into())).unwrap();
    let history = block(site.desk.history(None, None, 9)).unwrap();
    let answers = [
        serde_json::to_value(site.status()).unwrap(),
        serde_json::to_value(block(site.desk.plan()).unwrap()).unwrap(),
        serde_json::to_value(explained).unwrap(),
        serde_json::to_value(impact).unwrap(),
        serde_json::to_value(history).unwrap(),
    ];
    let mut missing = std::collections::BTreeSet::new();
    for answer in &answers {
        let mut open = vec![answer];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        let is_data = name.contains([':', '-']);
                        if !is_data && !document.contains(&format!("`{name}`")) {
                            missing.insert(name.clone());
                        }
                        open.push(value);
                    }
                }
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
    }
    assert!(missing.is_empty(), "say in docs/VERBS.md what these are: {missing:?}");
}

#[test]
fn a_service_that_cannot_be_reached_is_said_so_with_what_to_do() {
    let tmp = tempfile::tempdir().unwrap();
    let ask = |path: &Path| client::ask::<Status>(path, &Call::Status {}).unwrap_err();
    let gone = tmp.path().join("gone");
    assert!(matches!(ask(&gone), Trouble::Unreachable(text) if text.contains("there is no socket")));
    drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
    assert!(matches!(ask(&gone), Trouble::Unreachable(text) if text.contains("is gone; start it")));
    let long = tmp.path().join("x".repeat(200));
    let Trouble::Unreachable(text) = ask(&long) else { panic!() };
    assert!(text.contains("at most 107"), "{text}");
}

#[test]
fn what_is_to_be_typed_can_be_copied() {
    let place = |config: &str| Where { place: Place { config: Some(config.into()), socket: None }, json: false };
    assert_eq!(place("/etc/stillgood.toml").option(), "--config /etc/stillgood.toml");
    assert_eq!(place("my site/it's.toml").option(), r"--config 'my site/it'\''s.toml'");
}
