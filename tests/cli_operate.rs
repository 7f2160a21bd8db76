//! Operators and a running service: the binary renews its signers from CA keys in files, and is asked and told over its socket.

mod common;

use common::serving::{Serving, port, prepare, start, write_config, write_registry};
use common::site::{write_crl, write_index, write_signer_for};
use common::{DAY, eventually, serial};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{Attribute, CertificateSpec, name};
use stillgood::x509::pem::encode as pem;

/// A machine with two cores and much else to do.
const LONG: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    admin: std::net::SocketAddr,
}

impl Bench {
    /// `plain` is renewed by itself, `careful` after an approval, `keyless` not at all: its CA's key is not where it should be.
    fn new() -> Self {
        let bench = Bench { dir: tempfile::tempdir().unwrap(), admin: port() };
        fs::create_dir(bench.path().join("ca-keys")).unwrap();
        write_index(bench.path(), 3, &[]);
        for id in ["plain", "careful", "keyless"] {
            let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
            let now = SystemClock.now();
            let subject = name(&[(Attribute::CommonName, id)]);
            let spec = CertificateSpec::ca(subject, key.spki_der(), serial(1), now.minus(DAY), now.plus(3650 * DAY));
            let certificate = spec.issue(&key).unwrap();
            fs::write(bench.path().join(format!("{id}.pem")), pem("CERTIFICATE", certificate.der())).unwrap();
            let file = bench.path().join(if id == "keyless" { "elsewhere.key" } else { "ca-keys" });
            let file = if id == "keyless" { file } else { file.join(format!("{id}.key")) };
            fs::write(&file, pkcs8.as_slice()).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        bench.write_registry("issuers.json", 1, &["plain", "careful", "keyless"]);
        let text = format!(
            "state_dir = \"state\"\n[admin]\nlisten = \"{}\"\n[registry]\nsource = \"issuers.json\"\nrefresh = \"1s\"\n\
             [endpoint]\nlisten = [\"127.0.0.1:0\"]\n[response]\nvalidity = \"1h\"\nrefresh = \"20m\"\n\
             [renewal]\nmargin = \"5m\"\nactivation_skew = \"0s\"\nramp = \"0s\"\n\
             [enrolment.lab]\nprotocol = \"local\"\nca_keys = \"ca-keys\"\nvalidity = \"2d\"\nrate = \"50/s\"\n",
            bench.admin
        );
        fs::write(bench.path().join("stillgood.toml"), text).unwrap();
        bench
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write_registry(&self, file: &str, generation: u64, ids: &[&str]) {
        let records = ids.iter().map(|id| {
            let approval = if *id == "careful" { "required" } else { "automatic" };
            serde_json::json!({ "id": id, "state": "active", "certificate": format!("{id}.pem"), "enrolment": "lab",
                "profile": "ocsp", "approval": approval, "status": { "index": "index.txt" } })
        });
        let text = serde_json::json!({ "generation": generation, "issuers": records.collect::<Vec<_>>() }).to_string();
        fs::write(self.path().join(file), text).unwrap();
    }

    fn start(&self) -> Serving {
        start(self.path(), self.admin, |_| {})
    }

    /// A verb about this service.
    fn run(&self, words: &[&str]) -> Output {
        let binary = std::env::var_os("STILLGOOD_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_stillgood").into());
        let mut command = Command::new(binary);
        command.args(words).arg("--config").arg(self.path().join("stillgood.toml"));
        command.env_remove("COLUMNS").env("LC_ALL", "C.UTF-8").output().unwrap()
    }

    fn code(&self, words: &[&str]) -> i32 {
        self.run(words).status.code().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[words, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{words:?}: {e}: {output:?}"))
    }

    fn issuer(&self, id: &str) -> Value {
        let status = self.json(&["status"]);
        let found = status["issuers"].as_array().into_iter().flatten().find(|issuer| issuer["slot"]["issuer"] == id);
        found.cloned().unwrap_or_default()
    }

    fn serial(&self, id: &str) -> Option<String> {
        self.issuer(id)["serial"].as_str().map(str::to_owned)
    }

    /// Waits until every issuer is as far as it comes by itself.
    fn settle(&self) {
        eventually(LONG, "plain has a signer", || self.serial("plain").is_some());
        eventually(LONG, "careful waits", || self.issuer("careful")["hold"]["kind"] == "approval");
        eventually(LONG, "keyless is parked", || self.issuer("keyless")["hold"]["kind"] == "parked");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn operators_see_and_steer_what_is_renewed() {
    let bench = Bench::new();
    let _serving = bench.start();
    bench.settle();

    // What is, and what to do.
    let status = bench.run(&["status"]);
    assert_eq!(status.status.code(), Some(1), "something needs somebody: {status:?}");
    let shown = text(&status);
    for wanted in
        ["stillgood approve --issuer careful --config ", "stillgood unpark --issuer keyless", "ca-keys/keyless.key"]
    {
        assert!(shown.contains(wanted), "{wanted} in\n{shown}");
    }
    assert!(!shown.contains('\x1b'), "no colour into a pipe");
    let mode = fs::metadata(bench.path().join("state/admin.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    // A staged signer becomes active by an operator's word, once.
    let approved = bench.run(&["approve", "--issuer", "careful", "--reason", "looked at it"]);
    assert_eq!(approved.status.code(), Some(0), "{approved:?}");
    eventually(LONG, "careful has a signer", || bench.serial("careful").is_some());
    assert_eq!(bench.code(&["approve", "--issuer", "careful"]), 4);

    // A renewal out of turn.
    let before = bench.serial("plain").unwrap();
    let waited = bench.run(&["renew", "--issuer", "plain", "--reason", "its key may be exposed", "--wait"]);
    assert_eq!(waited.status.code(), Some(0), "{waited:?}");
    let now = bench.serial("plain").unwrap();
    assert_ne!(now, before, "it is over when there is another one, and not before");
    assert!(text(&waited).contains(&format!("plain: {now} is in use, after {before}")), "{waited:?}");

    // A park is lifted when its cause is gone.
    assert_eq!(bench.code(&["explain", "keyless"]), 1);
    fs::rename(bench.path().join("elsewhere.key"), bench.path().join("ca-keys/keyless.key")).unwrap();
    assert_eq!(bench.code(&["unpark", "--issuer", "keyless"]), 0);
    eventually(LONG, "keyless has a signer", || bench.serial("keyless").is_some());
    eventually(LONG, "nothing needs anybody", || bench.code(&["status"]) == 0);
    assert_eq!(bench.code(&["explain", "keyless"]), 0);

    // The calendar, and what another registry would do to it.
    let plan = bench.json(&["plan"]);
    assert_eq!(plan["entries"].as_array().unwrap().len(), 3, "{plan}");
    bench.write_registry("next.json", 2, &["plain", "keyless"]);
    let next = bench.path().join("next.json");
    let impact = bench.json(&["plan", "--registry", next.to_str().unwrap()]);
    assert_eq!(impact["removed"], serde_json::json!(["careful"]), "{impact}");
    assert_eq!((&impact["known"], &impact["requests"]), (&Value::from(3), &Value::from(0)), "{impact}");
    assert_eq!(bench.code(&["plan", "--registry", "/nonexistent"]), 4);

    // Who did what, and why.
    let history = bench.json(&["history", "plain", "--since", "1h"]);
    let events = history["events"].as_array().unwrap();
    let command = events.iter().find(|e| e["what"] == "command").unwrap_or_else(|| panic!("{history}"));
    let who = command["who"].as_str().unwrap();
    assert!(who.contains("uid ") && who.contains("pid "), "{who}");
    assert!(command["text"].as_str().unwrap().contains("its key may be exposed"), "{command}");
    let after = events.iter().skip_while(|e| e["what"] != "command");
    let steps: Vec<&str> = after.filter_map(|e| e["what"].as_str()).collect();
    for step in ["opened", "request", "answer", "verified", "staged", "activated"] {
        assert!(steps.contains(&step), "{step} in {steps:?}");
    }
    let all = text(&bench.run(&["history", "--limit", "500"])).split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in ["looked at it", "registry: registry done: generation 1 is in use: 3 issuers"] {
        assert!(all.contains(wanted), "{wanted} in\n{all}");
    }
}

#[test]
fn a_pause_holds_at_once_survives_a_kill_and_is_lifted() {
    let bench = Bench::new();
    let mut serving = bench.start();
    bench.settle();
    let before = bench.serial("plain").unwrap();
    let began = Instant::now();
    let paused = bench.run(&["pause", "--endpoint", "lab", "--for", "1h", "--reason", "the CA moves"]);
    assert_eq!(paused.status.code(), Some(0), "{paused:?}");
    assert!(text(&paused).contains("endpoint lab is paused"), "{paused:?}");
    assert_eq!(bench.code(&["renew", "--issuer", "plain"]), 0);
    std::thread::sleep(Duration::from_secs(2).saturating_sub(began.elapsed()));
    assert_eq!(bench.serial("plain").as_ref(), Some(&before), "nothing is asked for");
    let explained = text(&bench.run(&["explain", "plain"]));
    assert!(explained.contains("the CA moves"), "{explained}");
    let waited = bench.run(&["renew", "--issuer", "plain", "--wait", "1h", "--json"]);
    assert_eq!(waited.status.code(), Some(6), "what is paused is not waited for: {waited:?}");
    let waited: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert!(waited["missing"][0]["why"].as_str().is_some_and(|why| why.starts_with("paused until ")), "{waited}");
    assert_eq!(waited["renewed"], serde_json::json!([]));

    serving.child.kill().unwrap();
    serving.child.wait().unwrap();
    let gone = bench.run(&["status"]);
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("the process that made this socket is gone"), "{gone:?}");
    let history = bench.run(&["history"]);
    assert_eq!(history.status.code(), Some(0), "read from the files: {history:?}");
    assert!(text(&history).contains("the CA moves"), "{history:?}");

    let _serving = bench.start();
    eventually(LONG, "it answers", || bench.json(&["status"])["pauses"][0]["reason"] == "the CA moves");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(bench.serial("plain").as_ref(), Some(&before), "still paused");
    assert_eq!(bench.code(&["resume", "--endpoint", "lab"]), 0);
    eventually(LONG, "renewed", || bench.serial("plain").is_some_and(|now| now != before));
    assert_eq!(bench.code(&["resume", "--endpoint", "lab"]), 4, "there is no pause any more");
}

#[test]
fn a_pause_ends_by_itself() {
    let bench = Bench::new();
    let _serving = bench.start();
    bench.settle();
    assert_eq!(bench.code(&["pause", "--all", "--for", "2s", "--reason", "a moment"]), 0);
    eventually(LONG, "over", || bench.json(&["status"])["pauses"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_signer_in_files_that_ends_soon_and_an_expired_crl_need_somebody() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 3);
    write_crl(dir.path(), &lab, &[1], DAY);
    let registry = r#"{ "generation": 1, "issuers": [ { "id": "ca", "state": "active", "certificate": "ca.pem",
        "signer": { "certificate": "ocsp.pem", "key": "ocsp.key" }, "status": { "index": "index.txt", "crl": "ca.crl" } } ] }"#;
    fs::write(dir.path().join("issuers.json"), registry).unwrap();
    let bench = Bench { dir, admin: port() };
    write_config(bench.path(), bench.admin, "[response]\nvalidity = \"4d\"");
    let _serving = bench.start();
    eventually(LONG, "all is well", || bench.issuer("ca")["entries"] == 3 && bench.code(&["status"]) == 0);
    assert!(bench.issuer("ca")["window"]["deadline"].is_string());

    write_crl(bench.path(), &lab, &[1], Duration::from_secs(1));
    eventually(LONG, "the CRL is missed", || {
        let status = bench.run(&["status"]);
        text(&status).contains("ca.crl expired at ") && status.status.code() == Some(1)
    });
    write_crl(bench.path(), &lab, &[1], DAY);
    eventually(LONG, "all is well again", || bench.code(&["status"]) == 0);
    write_signer_for(bench.path(), &lab, KeyKind::EcdsaP256, Duration::from_secs(7_200));
    eventually(LONG, "its end is seen to come", || {
        let status = bench.run(&["status"]);
        let words = text(&status).split_whitespace().collect::<Vec<_>>().join(" ");
        words.contains("which has passed; it is not ours to renew") && status.status.code() == Some(1)
    });
}

#[test]
fn every_kind_of_no_has_its_exit_status() {
    let dir = tempfile::tempdir().unwrap();
    let _lab = prepare(dir.path(), 3);
    write_registry(dir.path(), 1, "active");
    let bench = Bench { dir, admin: port() };
    write_config(bench.path(), bench.admin, "");
    let unreachable = bench.run(&["status", "--json"]);
    assert_eq!(unreachable.status.code(), Some(3));
    let said: Value = serde_json::from_slice(&unreachable.stdout).unwrap();
    assert_eq!(said["error"], "unreachable", "{said}");
    let _serving = bench.start();
    eventually(LONG, "well", || bench.issuer("ca")["entries"] == 3 && bench.code(&["status"]) == 0);
    for (words, code) in [
        (&["plan"][..], 5),
        (&["pause", "--all", "--for", "1h", "--reason", "x"], 5),
        (&["renew", "--issuer", "ca"], 5),
        (&["explain", "ca"], 0),
        (&["explain", "nobody"], 4),
        (&["approve", "--registry", "9"], 4),
        (&["history"], 0),
        (&["pause", "--all", "--for", "1h"], 2),
        (&["pause", "--for", "1h", "--reason", "x"], 2),
        (&["pause", "--all", "--issuer", "ca", "--for", "1h", "--reason", "x"], 2),
        (&["pause", "--all", "--for", "soon", "--reason", "x"], 2),
        (&["history", "--limit", "0"], 2),
        (&["status", "--socket", "x"], 2),
    ] {
        let output = bench.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    }
    // What answers and cannot be understood is neither "needs somebody" nor "does not run".
    let odd = bench.path().join("odd.sock");
    let listener = std::os::unix::net::UnixListener::bind(&odd).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut String::new());
            let _ = std::io::Write::write_all(&mut stream, b"{}\n");
        }
    });
    for words in [&["status"][..], &["explain", "ca"], &["plan"], &["resume", "--all"]] {
        let mut verb = Command::new(env!("CARGO_BIN_EXE_stillgood"));
        let output = verb.args(words).arg("--json").arg("--socket").arg(&odd).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{words:?}: {output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["error"], "failed", "{said}");
    }
}

#[test]
fn every_exit_status_is_told_by_help_and_in_the_document() {
    let help = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_stillgood")).args(words).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let document = include_str!("../docs/VERBS.md");
    let exits = |text: &str| text.split_once("Exit status: ").unwrap().1.to_owned();
    for code in 0..=7 {
        assert!(document.contains(&format!("\n| {code} | ")), "{code} in docs/VERBS.md");
        assert!(exits(&help(&[])).contains(&format!("{code} ")), "{code} in --help");
    }
    for verb in ["status", "explain", "plan", "history", "pause", "resume", "renew", "unpark", "resign", "approve"] {
        let said = exits(&help(&[verb]));
        assert!(said.contains("1 something needs you;") && said.contains("7 it failed"), "{verb}: {said}");
    }
}
