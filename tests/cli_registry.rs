//! `serve` as a process whose registry comes from a server, is held, or is being written when it is killed.

mod common;

use common::eventually;
use common::registry_server::{Mode, RegistryServer};
use common::serving::{Serving, port, prepare, start};
use common::site::Said;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// Writes a configuration with these keys in `[registry]`.
fn configure(dir: &Path, admin: SocketAddr, registry: &str) {
    let text = format!(
        "state_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[endpoint]\nlisten = [\"127.0.0.1:0\"]\n[registry]\nrefresh = \"1s\"\nmax_age = \"8s\"\n{registry}\n"
    );
    std::fs::write(dir.join("stillgood.new"), text).unwrap();
    std::fs::rename(dir.join("stillgood.new"), dir.join("stillgood.toml")).unwrap();
}

/// The CA of the lab, and so many others beside it, each with a state.
fn document(generation: u64, state: &str, others: &[&str]) -> String {
    let record = |id: &str, state: &str| {
        format!(
            r#"{{ "id": "{id}", "state": "{state}", "certificate": "ca.pem",
                "signer": {{ "certificate": "ocsp.pem", "key": "ocsp.key" }}, "status": {{ "index": "index.txt" }} }}"#
        )
    };
    let others = others.iter().enumerate().map(|(n, state)| record(&format!("other-{n}"), state));
    let records: Vec<String> = std::iter::once(record("ca", state)).chain(others).collect();
    format!("{{ \"generation\": {generation}, \"issuers\": [ {} ] }}", records.join(",\n"))
}

fn publish(dir: &Path, document: &str) {
    std::fs::write(dir.join("issuers.new"), document).unwrap();
    std::fs::rename(dir.join("issuers.new"), dir.join("issuers.json")).unwrap();
}

/// The value of a metric without labels.
fn metric(serving: &Serving, name: &str) -> Option<u64> {
    let page = serving.admin("/metrics");
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn generation(serving: &Serving) -> Option<u64> {
    metric(serving, "stillgood_registry_generation")
}

#[test]
fn a_registry_server_that_hangs_delays_neither_start_nor_reload_nor_stop() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    let server = RegistryServer::start(dir.path(), true);
    server.publish(&document(1, "active", &[]));
    let admin = port();
    let source = |more: &str| {
        let url = server.url();
        let keys =
            "trust = \"web-roots.pem\"\nclient_certificate = \"web-client.pem\"\nclient_key = \"web-client.key\"";
        configure(dir.path(), admin, &format!("source = \"{url}\"\n{keys}\ntimeout = \"30s\"\n{more}"));
    };
    source("");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    eventually(LIMIT, "asked again", || server.not_modified() > 0);
    drop(serving);

    // From its first moment on: what the copy says is served at once.
    server.set(Mode::Hang);
    let before = server.asked();
    let began = Instant::now();
    let mut serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually(LIMIT, "it hangs", || server.asked() > before);
    // Reloading takes a change over, and gives the look up that hangs.
    server.set(Mode::Ok);
    server.publish(&document(2, "retired", &[]));
    let began = Instant::now();
    source("small_change = 7");
    eventually(LIMIT, "taken over", || serving.said(&lab, 3) == Said::Error(6));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // It is shown a moment after it is in use: the audit trail is written in between.
    eventually(LIMIT, "shown", || generation(&serving) == Some(2));

    server.set(Mode::Hang);
    let before = server.asked();
    eventually(LIMIT, "it hangs", || server.asked() > before);
    let began = Instant::now();
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_generation_that_is_held_is_shown_served_around_and_taken_over_when_the_guard_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    let (all, admin) = (["active"; 9], port());
    publish(dir.path(), &document(1, "active", &all));
    configure(dir.path(), admin, "source = \"issuers.json\"");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    assert_eq!(metric(&serving, "stillgood_registry_held"), Some(0));
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));

    publish(dir.path(), &document(2, "retired", &["disabled"; 9]));
    eventually(LIMIT, "held", || metric(&serving, "stillgood_registry_held") == Some(2));
    assert_eq!(metric(&serving, "stillgood_registry_held_issuers"), Some(10));
    assert_eq!((generation(&serving), serving.said(&lab, 3)), (Some(1), Said::Revoked));
    let page = serving.admin("/status.json");
    let body = page.split_once("\r\n\r\n").unwrap().1;
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    let held = &status["registry_held"];
    assert_eq!((&status["generation"], &held["generation"]), (&1.into(), &2.into()));
    assert_eq!(held["by_kind"]["retired"], serde_json::json!(["ca"]));
    assert_eq!(held["by_kind"]["disabled"].as_array().map(Vec::len), Some(9));
    assert!(held["changes"].as_str().unwrap().starts_with("10 issuers would change, 10 are known: "), "{held}");
    assert_eq!(status["registry_fault"], serde_json::Value::Null);
    assert!(serving.readyz().contains("200 OK"), "everything is answered");
    assert!(metric(&serving, "stillgood_registry_age_seconds").unwrap() < 8, "what is held was read all the same");

    configure(dir.path(), admin, "source = \"issuers.json\"\nmax_change = 1.0");
    eventually(LIMIT, "taken over", || generation(&serving) == Some(2));
    assert_eq!(metric(&serving, "stillgood_registry_held"), Some(0));
    eventually(LIMIT, "retired", || !serving.admin("/status.json").contains("\"id\": \"ca\""));
}

#[test]
fn killed_while_it_writes_it_starts_with_the_last_good_one_and_never_with_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    let admin = port();
    configure(dir.path(), admin, "source = \"issuers.json\"\nmax_change = 1.0");
    // Large enough that a write takes a while.
    let others = vec!["retired"; 5_000];
    let mut number = 10;
    for round in 0_u64..6 {
        number += 1;
        publish(dir.path(), &document(number, "active", &others));
        let mut serving = start(dir.path(), admin, |_| {});
        eventually(LIMIT, "taken over", || generation(&serving) == Some(number));
        number += 1;
        publish(dir.path(), &document(number, "active", &others));
        // Somewhere between the noticing and the last of the writes; each round elsewhere.
        let wait = Instant::now();
        let last_good = dir.path().join("state/registry/last-good.new");
        while !last_good.exists() && wait.elapsed() < Duration::from_secs(2) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round * 3));
        serving.child.kill().unwrap();
        serving.child.wait().unwrap();
        drop(serving);

        publish(dir.path(), "{ \"generation\": 1, \"issuers\": [] }");
        let serving = start(dir.path(), admin, |_| {});
        eventually(LIMIT, "the copy", || generation(&serving).is_some());
        let copy = generation(&serving).unwrap();
        assert!(copy == number || copy == number - 1, "round {round}: {copy} after {number}");
        eventually(LIMIT, "refused", || metric(&serving, "stillgood_registry_fault") == Some(1));
        let status = serving.admin("/status.json");
        assert!(status.contains(&format!("generation 1 is older than {copy}")), "round {round}: {status}");
    }
}
