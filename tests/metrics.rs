//! What `/metrics` of a running process says, held against the tables of docs/METRICS.md.

mod common;

use common::eventually;
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

#[test]
fn the_page_of_metrics_is_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(serving.said(&lab, 3), Said::Revoked);

    let page = serving.admin("/metrics");
    let (_, text) = page.split_once("\r\n\r\n").expect("a body");
    let families = families(text);
    let document =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let mut seen = 0;
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, _, labels, _, _] = cells[..] else { panic!("six cells: {line}") };
        let name = name.trim_matches('`');
        let Some((shown, used)) = families.get(name) else { continue };
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
    assert!(text.contains("\nstillgood_ready 1\n"), "{text}");
    let ready = r#"stillgood_requests_total{method="POST",result="ready"} 1"#;
    assert!(text.contains(ready), "{text}");
    let never = r#"stillgood_requests_total{method="GET",result="internalError"} 0"#;
    assert!(text.contains(never), "what is watched begins at 0: {text}");
}
