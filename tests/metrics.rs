//! What `/metrics` of a running process says, held against the tables of docs/METRICS.md.

mod common;

use common::eventually;
use common::fleet::Fleet;
use common::serving::{port, prepare, start, write_config, write_registry};
use common::site::Said;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Families of an exposition: their type, and the labels that occur with the values that do.
fn families(text: &str) -> BTreeMap<String, (String, BTreeMap<String, BTreeSet<String>>)> {
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.insert(name.to_owned(), (kind.to_owned(), BTreeMap::<String, BTreeSet<String>>::new()));
        } else if let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base.filter(|base| families.contains_key(*base)).unwrap_or(name);
            let (_, known) = families.get_mut(name).unwrap_or_else(|| panic!("no TYPE before {line}"));
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").expect("label=\"value\"");
                known.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    families
}

/// Holds a page against the document: types, help texts, labels and their values. Gives the names of the rows that the page
/// does not have.
fn compare(text: &str) -> Vec<String> {
    let families = families(text);
    let document =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let (mut seen, mut absent) = (0, Vec::new());
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, _, labels, _, _] = cells[..] else { panic!("six cells: {line}") };
        let name = name.trim_matches('`');
        let Some((shown, used)) = families.get(name) else {
            absent.push(name.to_owned());
            continue;
        };
        seen += 1;
        assert_eq!(kind, shown, "the type of {name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help text");
        let documented: Vec<&str> = labels.split('`').skip(1).step_by(2).collect();
        for (label, values) in used.iter().filter(|(label, _)| *label != "le") {
            assert!(documented.contains(&label.as_str()), "{name} has a label {label} that its row does not have");
            // A list of values behind a label is complete.
            let behind = labels.split(&format!("`{label}`")).nth(1).and_then(|rest| rest.split(';').next());
            let list: Vec<&str> =
                behind.unwrap_or_default().split(',').map(str::trim).take_while(|v| !v.starts_with('`')).collect();
            if list.first().is_some_and(|first| !first.is_empty()) {
                for value in values {
                    assert!(list.contains(&value.as_str()), "{name}: {label}=\"{value}\" is not in {list:?}");
                }
            }
        }
    }
    assert_eq!(seen, families.len(), "every family has a row");
    assert!(seen > 25, "{seen}");
    absent
}

fn page(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a body").1
}

#[test]
fn the_page_of_metrics_is_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "[response]\nvalidity = \"2d\"\nrefresh = \"12h\"");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(serving.said(&lab, 3), Said::Revoked);

    let answer = serving.admin("/metrics");
    let text = page(&answer);
    let absent = compare(text);
    assert!(absent.iter().all(|name| !name.contains("request_seconds")), "{absent:?}");
    assert!(text.contains("\nstillgood_ready 1\n"), "{text}");
    let ready = r#"stillgood_requests_total{method="POST",result="ready"} 1"#;
    assert!(text.contains(ready), "{text}");
    let never = r#"stillgood_requests_total{method="GET",result="internalError"} 0"#;
    assert!(text.contains(never), "what is watched begins at 0: {text}");

    // What the alerts compare with: the issuer's own settings, and when what is held runs out.
    let value = |series: &str| -> i64 {
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("stillgood_validity_seconds{issuer=\"ca\"}"), 2 * 86_400);
    assert_eq!(value("stillgood_refresh_seconds{issuer=\"ca\"}"), 43_200);
    let life = value("stillgood_runs_out_seconds{") - value("stillgood_oldest_this_update_seconds{");
    assert_eq!(life, 2 * 86_400 - 1, "nextUpdate is the last second");
    // Of a signer that is files too: when the status page turns, and the deadline.
    let of_signer = |what: &str| value(&format!("stillgood_signer_{what}_seconds{{issuer=\"ca\"}}"));
    assert_eq!(of_signer("deadline"), of_signer("not_after") - 2 * 86_400 - 3_600, "validity and margin");
    let usable = of_signer("deadline") - of_signer("not_before");
    assert!((of_signer("urgent") - of_signer("not_before") - usable * 9 / 10).abs() <= 1, "{text}");
    assert!(!text.contains("stillgood_signer_due_seconds{"), "it is not ours to renew: {text}");
    assert_eq!(value("stillgood_audit_lost_total"), 0);
}

#[test]
fn what_becomes_of_nonces_and_how_long_a_revocation_takes_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "[response]\nnonce = \"answer\"");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    let ask = |n: u64, nonce: Option<&[u8]>| {
        let request =
            common::request(&lab.hashes(stillgood::ocsp::HashAlgorithm::Sha1), &[common::long_serial(n)], nonce);
        common::site::post(serving.endpoint, &request);
    };
    ask(1, None);
    ask(1, Some(&[7; 32]));
    ask(60, Some(&[7; 32])); // never issued
    let is_there = |series: &str| page(&serving.admin("/metrics")).contains(&format!("\n{series}\n"));
    for (result, n) in [("echoed", 1), ("leftOut", 0), ("refused", 1)] {
        assert!(
            is_there(&format!("stillgood_nonce_requests_total{{result=\"{result}\"}} {n}")),
            "{}",
            serving.admin("/metrics")
        );
    }
    assert!(is_there("stillgood_revocation_lag_seconds_count 0"), "what was revoked before the start does not count");
    common::site::write_index(dir.path(), 50, &[3, 4]);
    eventually(LIMIT, "revoked", || serving.said(&lab, 4) == Said::Revoked);
    assert!(is_there("stillgood_revocation_lag_seconds_count 1"), "{}", serving.admin("/metrics"));
    assert!(is_there("stillgood_revocation_lag_seconds_bucket{le=\"30\"} 1"));
    eventually(LIMIT, "none waits", || is_there("stillgood_revocation_waiting_seconds{issuer=\"ca\"} 0"));
}

#[test]
fn with_a_renewal_agent_every_metric_that_is_documented_is_there_and_counters_begin_at_0() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::new(dir.path(), 1);
    fleet.start();
    eventually(LIMIT, "an ordered signer signs", || fleet.ask("ca-0", 0).is_ok());
    let issued = r#"stillgood_renewal_requests_total{endpoint="main",cause="new-issuer",result="issued"} 1"#;
    let mut answer = String::new();
    eventually(LIMIT, "the order is counted", || {
        answer = fleet.admin("/metrics");
        answer.contains(issued)
    });
    let text = page(&answer);
    assert_eq!(compare(text), Vec::<String>::new(), "documented and not there");
    for never in [
        r#"stillgood_renewal_requests_total{endpoint="main",cause="retry",result="failed"} 0"#,
        r#"stillgood_renewal_requests_total{endpoint="main",cause="canary",result="unknown"} 0"#,
        r#"stillgood_endpoint_open{endpoint="main"} 0"#,
        r#"stillgood_endpoint_failures{endpoint="main"} 0"#,
    ] {
        assert!(text.contains(never), "{never}: {text}");
    }
}
