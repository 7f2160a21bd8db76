//! `stillgood simulate` through the binary: exit codes, files, JSON, and the user's own issuers.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use stillgood::ocsp::Serial;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{Attribute, CertificateSpec, name};
use stillgood::x509::pem;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stillgood")).arg("simulate").args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

#[test]
fn the_scenarios_are_named_and_an_unknown_one_is_a_slip() {
    let list = simulate(&["--list"]);
    assert!(list.status.success() && text(&list.stdout).contains("retired-ca-storm"));
    let unknown = simulate(&["no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("--list"), "{}", text(&unknown.stderr));
}

#[test]
fn without_a_name_the_five_outages_are_replayed_and_drawn_where_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillgood"));
        command.arg("simulate").args(words).current_dir(dir.path()).output().unwrap()
    };
    let pictures = || {
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    // For machines: nothing but what is printed.
    assert!(run(&["connection-leak", "--json"]).status.success());
    assert_eq!(pictures(), [""; 0]);
    let all = run(&["--nodes", "12"]);
    let shown = text(&all.stdout);
    let outages =
        ["connection-leak", "expired-client-credential", "ill-formed-certificate", "request-loop", "retired-ca-storm"];
    let expected: Vec<String> = outages.iter().map(|name| format!("{name}.svg")).collect();
    assert_eq!(pictures(), expected, "{shown}");
    for name in &expected {
        assert!(shown.contains(&format!("picture: {name}\n")), "{shown}");
        assert!(fs::read_to_string(dir.path().join(name)).unwrap().starts_with("<svg"));
    }
    assert!(all.status.success(), "{shown}");
}

#[test]
fn a_scenario_prints_both_policies_and_draws_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let run = simulate(&["connection-leak", "--out", dir.path().to_str().unwrap()]);
    let shown = text(&run.stdout);
    assert!(run.status.success(), "{shown}");
    assert!(shown.contains("the field") && shown.contains("ok      C1"), "{shown}");
    let picture = fs::read_to_string(dir.path().join("connection-leak.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("prefers-color-scheme:dark"), "{picture}");
    let json: serde_json::Value = serde_json::from_slice(&simulate(&["connection-leak", "--json"]).stdout).unwrap();
    assert_eq!(json[0]["scenario"], "connection-leak");
    assert!(json[0]["ours"]["samples"].as_array().unwrap().len() > 100);
}

#[test]
fn worlds_at_random_break_no_rule() {
    let run = simulate(&["--worlds", "5", "--seed", "3"]);
    assert!(run.status.success() && text(&run.stdout).contains("0 break a rule"), "{}", text(&run.stdout));
    let run = simulate(&["--worlds", "5", "--seed", "3", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let seeds: Vec<u64> = json.as_array().unwrap().iter().map(|world| world["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [3, 4, 5, 6, 7], "one object for each world");
}

fn own(dir: &Path) {
    let now = SystemClock.now();
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject = name(&[(Attribute::CommonName, "Own CA")]);
    let serial = Serial::from_unsigned(&[1]).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let ca = CertificateSpec::ca(subject, key.spki_der(), serial, now.minus(day), now.plus(day * 365)).issue(&key);
    fs::write(dir.join("ca.pem"), pem::encode("CERTIFICATE", ca.unwrap().der())).unwrap();
    let config = "[registry]\nsource = \"issuers.json\"\n[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"keys\"\n";
    fs::write(dir.join("stillgood.toml"), config).unwrap();
    let registry = r#"{ "generation": 1, "issuers": [ { "id": "ca-1", "state": "active", "certificate": "ca.pem",
        "enrolment": "lab", "profile": "ocsp", "status": { "index": "index.txt" } } ] }"#;
    fs::write(dir.join("issuers.json"), registry).unwrap();
}

#[test]
fn ones_own_issuers_are_told_what_a_dead_ca_would_do() {
    let dir = tempfile::tempdir().unwrap();
    own(dir.path());
    let config = dir.path().join("stillgood.toml");
    let config = config.to_str().unwrap();
    let survived = simulate(&["--config", config, "--nodes", "10", "--life", "90d", "--ca-down", "10d"]);
    let shown = text(&survived.stdout);
    assert!(survived.status.success(), "{shown}{}", text(&survived.stderr));
    assert!(shown.contains("[enrolment.lab]: 10 signers") && shown.contains("requests in vain"), "{shown}");
    let again = |start: &str| {
        let run = simulate(&["--config", config, "--nodes", "10", "--seed", "5", "--start", start, "--json"]);
        assert!(run.status.success(), "{}", text(&run.stderr));
        run.stdout
    };
    assert_eq!(again("1800000000"), again("1800000000"), "the same seed and start repeat a run");
    assert_ne!(again("1800000000"), again("1800500000"));
    let dead = simulate(&["--config", config, "--nodes", "10", "--ca-down", "80d", "--json"]);
    assert_eq!(dead.status.code(), Some(1), "signers expire");
    let json: serde_json::Value = serde_json::from_slice(&dead.stdout).unwrap();
    assert!(json[0]["totals"]["expired"].as_u64().unwrap() > 0, "{json}");
    let late = simulate(&[
        "--config",
        config,
        "--nodes",
        "10",
        "--life",
        "30d",
        "--ca-down",
        "16d",
        "--start",
        "1800000000",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&late.stdout).unwrap();
    let totals = &json[0]["totals"];
    assert!(totals["late"].as_u64().unwrap() > 0 && totals["expired"] == 0, "{totals}");
    assert_eq!(late.status.code(), Some(1), "a signer whose responses outlive it");
}

/// The assumptions of a run of one's own issuers, and whether it says that all is well.
fn assumed(dir: &Path, arguments: &[&str]) -> (serde_json::Value, bool) {
    let config = dir.join("stillgood.toml");
    let run =
        simulate(&[&["--config", config.to_str().unwrap(), "--start", "1800000000", "--json"], arguments].concat());
    let json: serde_json::Value =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", text(&run.stderr)));
    (json[0].clone(), run.status.success())
}

#[test]
fn what_nobody_has_said_is_told_before_the_figures() {
    let dir = tempfile::tempdir().unwrap();
    own(dir.path());
    let (json, fine) = assumed(dir.path(), &[]);
    let all = json["assumptions"].to_string();
    assert!(fine && all.contains("valid for 30d, as validity in [enrolment.lab] says"), "{all}");
    assert!(!all.contains("client certificate") && !all.contains("approval"), "{all}");
    let (json, _) = assumed(dir.path(), &["--life", "40d"]);
    assert!(json["assumptions"].to_string().contains("40d, as --life says"), "{json}");
    let config = dir.path().join("stillgood.toml");
    let run = simulate(&["--config", config.to_str().unwrap()]);
    let shown = text(&run.stdout);
    let told = shown.find("assumed: signers are valid for 30d").unwrap_or_else(|| panic!("{shown}"));
    assert!(told < shown.find("requests").unwrap(), "{shown}");
    // Of a service that does not say it, nobody knows.
    fs::write(
        &config,
        "[registry]\nsource = \"issuers.json\"\n[enrolment.lab]\nprotocol = \"command\"\ncommand = [\"/bin/true\"]\n",
    )
    .unwrap();
    let (json, _) = assumed(dir.path(), &[]);
    assert!(json["assumptions"][0].as_str().unwrap().contains("90d: the CA decides, and nobody has said so"), "{json}");
}

#[test]
fn signers_that_need_an_approval_get_it_and_that_is_told() {
    let dir = tempfile::tempdir().unwrap();
    own(dir.path());
    let file = dir.path().join("issuers.json");
    let registry = fs::read_to_string(&file).unwrap();
    fs::write(&file, registry.replace("\"state\":", "\"approval\": \"required\", \"state\":")).unwrap();
    let (json, fine) = assumed(dir.path(), &["--nodes", "5"]);
    let all = json["assumptions"].to_string();
    assert!(all.contains("1 of 1 issuers have approval") && all.contains("approves every 1d"), "{all}");
    assert!(fine && json["totals"]["renewed"].as_u64().unwrap() >= 5, "{json}");
    assert_eq!(json["totals"]["expired"], 0);
}

#[test]
fn a_life_that_a_new_signer_would_be_refused_for_is_named_with_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    own(dir.path());
    let file = dir.path().join("issuers.json");
    let registry = fs::read_to_string(&file).unwrap();
    let with = r#""response": { "validity": "6d", "refresh": "3d" }, "state":"#;
    fs::write(&file, registry.replace("\"state\":", with)).unwrap();
    let config = dir.path().join("stillgood.toml");
    let run = simulate(&["--config", config.to_str().unwrap(), "--life", "9d"]);
    let told = text(&run.stderr);
    assert!(!run.status.success(), "{told}");
    for what in ["[enrolment.lab]", "issuer ca-1", "validity 6d", "refresh 3d", "--life"] {
        assert!(told.contains(what), "{what}: {told}");
    }
    let (_, fine) = assumed(dir.path(), &["--life", "20d"]);
    assert!(fine);
}
