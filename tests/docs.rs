//! What the documents promise about names that the code has.

use std::collections::BTreeSet;

fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Metric names in a text, histogram suffixes taken off.
fn metrics(text: &str) -> BTreeSet<&str> {
    let names = ["stillgood_", "process_"].into_iter().flat_map(|start| text.match_indices(start));
    names
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
            rest[..end].trim_end_matches("_bucket")
        })
        .collect()
}

/// Names of metrics as string literals of the code.
fn exported() -> BTreeSet<String> {
    let mut code = String::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin"), &mut code);
    // What stands between two quotes, wherever a literal begins: a character literal may be a quote itself.
    let literals = code.match_indices('"').filter_map(|(at, _)| code[at + 1..].split_once('"').map(|(text, _)| text));
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let is_metric = |text: &&str| (text.starts_with("stillgood_") || text.starts_with("process_")) && is_name(text);
    literals.filter(is_metric).map(str::to_owned).collect()
}

/// The rows of the tables of METRICS.md: name, type, unit, labels, meaning, alerts.
fn rows(document: &str) -> Vec<[&str; 6]> {
    document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let mut cells: [&str; 6] = cells.try_into().unwrap_or_else(|_| panic!("six cells: {line}"));
            cells[0] = cells[0].trim_matches('`');
            cells
        })
        .collect()
}

/// Alerts of the rules file with their lines up to the next.
fn alerts(rules: &str) -> Vec<(&str, &str)> {
    let parts = rules.split("- alert: ").skip(1);
    parts.map(|part| (part.lines().next().unwrap_or_default(), part)).collect()
}

#[test]
fn every_metric_is_explained_and_every_explained_metric_is_there() {
    let document = read("docs/METRICS.md");
    let exported = exported();
    assert!(exported.len() > 20, "{exported:?}");
    let mut explained: BTreeSet<String> = BTreeSet::new();
    for [name, ..] in rows(&document) {
        assert!(explained.insert(name.to_owned()), "{name} has two rows");
    }
    assert_eq!(exported.difference(&explained).collect::<Vec<_>>(), Vec::<&String>::new(), "no row in docs/METRICS.md");
    let gone: Vec<_> = explained.difference(&exported).collect();
    assert!(gone.is_empty(), "docs/METRICS.md explains what is not exported: {gone:?}");
}

#[test]
fn every_alert_uses_metrics_that_are_there_and_stands_in_their_rows() {
    let (rules, document) = (read("deploy/prometheus/stillgood.rules.yml"), read("docs/METRICS.md"));
    let rows = rows(&document);
    let alerts = alerts(&rules);
    assert!(alerts.len() >= 30, "{}", alerts.len());
    for (alert, text) in &alerts {
        let expr = text.lines().find_map(|line| line.trim().strip_prefix("expr: ")).expect("an expression");
        for metric in metrics(expr) {
            let row =
                rows.iter().find(|row| row[0] == metric).unwrap_or_else(|| panic!("{alert}: {metric} is unknown"));
            assert!(
                row[5].contains(&format!("(OPERATIONS.md#{})", alert.to_lowercase())),
                "{alert} in the row of {metric}"
            );
        }
    }
    for [name, .., links] in &rows {
        for target in links.split("(OPERATIONS.md#").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (_, text) =
                alerts.iter().find(|(alert, _)| alert.to_lowercase() == target).expect("an alert of that name");
            assert!(metrics(text).contains(name), "{target} does not look at {name}");
        }
    }
}

#[test]
fn every_alert_is_explained_and_tested_both_ways() {
    let rules = read("deploy/prometheus/stillgood.rules.yml");
    let (operations, tests) = (read("docs/OPERATIONS.md"), read("deploy/prometheus/stillgood.test.yml"));
    let section =
        operations.split("\n## Alerts\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("## Alerts");
    let mut explained: BTreeSet<&str> = section.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for (alert, text) in alerts(&rules) {
        assert!(explained.remove(alert), "docs/OPERATIONS.md has no heading {alert}");
        assert!(text.contains(&format!("runbook: docs/OPERATIONS.md#{}\n", alert.to_lowercase())), "{alert}");
        let severity = ["page", "ticket"].into_iter().find(|s| text.contains(&format!("severity: {s} ")));
        let entry = section.split(&format!("### {alert}\n")).nth(1).unwrap_or_default();
        assert!(entry.starts_with(&format!("*{}.* ", severity.expect("a severity"))), "the severity of {alert}");
        for name in [format!("name: {alert} comes\n"), format!("name: {alert} does not come\n")] {
            assert!(tests.contains(&name), "stillgood.test.yml has no test {name}");
        }
    }
    assert!(explained.is_empty(), "explained, and no alert: {explained:?}");
}

#[test]
fn the_dashboard_shows_metrics_that_are_there() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/stillgood.json")).unwrap();
    let document = read("docs/METRICS.md");
    let known: BTreeSet<&str> = rows(&document).iter().map(|row| row[0]).collect();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut queries, mut ids) = (0, BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have one id");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries += 1;
            let expr = target["expr"].as_str().unwrap();
            let used: BTreeSet<&str> = metrics(expr)
                .into_iter()
                .map(|name| name.trim_end_matches("_sum").trim_end_matches("_count"))
                .collect();
            assert!(!used.is_empty(), "{expr}");
            assert!(used.is_subset(&known), "{}: {expr}", panel["title"]);
        }
    }
    assert!(queries > 20, "{queries}");
}

#[test]
fn every_label_value_of_connections_and_results_is_listed() {
    let document = read("docs/METRICS.md");
    let rows = rows(&document);
    let labels = |name: &str| rows.iter().find(|row| row[0] == name).expect("a row")[3];
    for event in stillgood::endpoint::Event::ALL {
        assert!(labels("stillgood_connection_events_total").contains(event.name()), "{}", event.name());
    }
    for outcome in stillgood::endpoint::Outcome::ALL {
        assert!(labels("stillgood_requests_total").contains(outcome.name()), "{}", outcome.name());
    }
    for cause in stillgood::renewal::Cause::ALL {
        assert!(labels("stillgood_renewal_requests_total").contains(cause.name()), "{}", cause.name());
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in [
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/OPERATIONS.md",
        "docs/METRICS.md",
        "docs/THREATS.md",
        "docs/CHANGELOG.md",
        "docs/howto/openssl-ca.md",
        "docs/howto/est-ca.md",
        "docs/howto/from-openssl-ocsp.md",
        "docs/howto/behind-a-cdn.md",
        "docs/howto/key-compromise.md",
        "docs/howto/removing-a-ca.md",
    ] {
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
                let slug = |line: &str| {
                    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
                    line.trim_start_matches('#')
                        .trim()
                        .to_lowercase()
                        .chars()
                        .filter(kept)
                        .collect::<String>()
                        .replace(' ', "-")
                };
                let known = linked.lines().filter(|l| l.starts_with('#')).any(|l| slug(l) == anchor);
                assert!(known, "{document}: no heading for #{anchor}");
            }
        }
    }
}

/// The decisions table and the threats name tests; they must exist.
#[test]
fn every_test_that_the_decisions_and_the_threats_name_exists() {
    let architecture = read("docs/ARCHITECTURE.md");
    let decisions = architecture.split("## Decisions").nth(1).expect("a section Decisions");
    assert!(named_tests(decisions) > 50);
    assert!(named_tests(&read("docs/THREATS.md")) > 30);
}

/// How many tests a text names, all of which exist.
fn named_tests(text: &str) -> usize {
    let mut sources = String::new();
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    collect(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut sources);
    let (mut named, keys) = (0, read("deploy/stillgood.example.toml"));
    for word in text.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 3 && !word.contains(' '))
    {
        if keys.contains(word) {
            continue;
        }
        named += 1;
        assert!(sources.contains(&format!("fn {word}(")), "there is no test {word}");
    }
    named
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
