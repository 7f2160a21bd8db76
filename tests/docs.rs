//! What the documents promise about names that the code has.

use std::collections::BTreeSet;

fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Metric names in a text, histogram suffixes taken off.
fn metrics(text: &str) -> BTreeSet<&str> {
    text.match_indices("stillgood_")
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
            rest[..end].trim_end_matches("_bucket")
        })
        .collect()
}

#[test]
fn every_metric_is_explained_and_every_explained_metric_is_there() {
    let (code, operations) = (read("src/admin/metrics.rs"), read("docs/OPERATIONS.md"));
    let exported = metrics(&code);
    assert!(exported.len() > 20, "{exported:?}");
    assert_eq!(exported, metrics(&operations), "src/admin/metrics.rs and docs/OPERATIONS.md");
    for name in exported {
        assert!(operations.contains(&format!("| `{name}` |")), "{name} has no row in the table of docs/OPERATIONS.md");
    }
}

#[test]
fn every_label_value_of_connections_and_results_is_listed() {
    let operations = read("docs/OPERATIONS.md");
    let row = |name: &str| {
        let start = format!("| `{name}` |");
        operations.lines().find(|line| line.starts_with(&start)).expect("a row").to_owned()
    };
    let events = row("stillgood_connection_events_total");
    for event in stillgood::endpoint::Event::ALL {
        assert!(events.contains(event.name()), "{}", event.name());
    }
    let results = row("stillgood_requests_total");
    for outcome in stillgood::endpoint::Outcome::ALL {
        assert!(results.contains(outcome.name()), "{}", outcome.name());
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in ["README.md", "docs/ARCHITECTURE.md", "docs/OPERATIONS.md", "docs/THREATS.md", "docs/CHANGELOG.md"]
    {
        let text = read(document);
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..];
            let target = target.split(')').next().unwrap_or_default();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let path = if file.is_empty() { dir.clone() } else { dir.parent().unwrap().join(file) };
            assert!(path.exists(), "{document}: {target} is not there");
            if !anchor.is_empty() {
                let linked = std::fs::read_to_string(&path).unwrap();
                let slug = |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
                let known = linked.lines().filter(|l| l.starts_with('#')).any(|l| slug(l) == anchor);
                assert!(known, "{document}: no heading for #{anchor}");
            }
        }
    }
}

/// The decisions table names tests; they must exist.
#[test]
fn every_test_that_the_decisions_name_exists() {
    let architecture = read("docs/ARCHITECTURE.md");
    let table = architecture.split("## Decisions").nth(1).expect("a section Decisions");
    let mut sources = String::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut sources);
    let mut named = 0;
    for word in table.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 3 && !word.contains(' '))
    {
        named += 1;
        assert!(sources.contains(&format!("fn {word}(")), "there is no test {word}");
    }
    assert!(named > 50, "only {named} tests are named");
}

fn collect(dir: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
