//! The binary gets its signer from a real CA service, `cfssl serve` (Debian's golang-cfssl).
//!
//! Where there is no `cfssl`, the test says so and passes.

mod common;

use common::cfssl::{Cfssl, KEY, write_secret};
use common::fleet::ask;
use common::serving::{Serving, port, start_logging_to};
use common::site::index_line;
use common::{eventually, serving};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stillgood::audit::{AuditEvent, What};

const LIMIT: Duration = Duration::from_secs(40);

fn write_registry(dir: &Path, generation: u64, profile: &str) {
    let text = format!(
        r#"{{ "generation": {generation}, "issuers": [ {{ "id": "ca", "state": "active", "certificate": "ca.pem",
            "enrolment": "main", "profile": "{profile}", "status": {{ "index": "index.txt" }} }} ] }}"#
    );
    std::fs::write(dir.join("issuers.new"), text).unwrap();
    std::fs::rename(dir.join("issuers.new"), dir.join("issuers.json")).unwrap();
}

/// Shows the log of the process when the test fails.
struct LogOnPanic(std::path::PathBuf);

impl Drop for LogOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.0).unwrap_or_default());
        }
    }
}

fn audit(dir: &Path) -> Vec<AuditEvent> {
    let text = std::fs::read_to_string(dir.join("state/audit/audit.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn count(dir: &Path, what: What) -> usize {
    audit(dir).iter().filter(|event| event.what == what).count()
}

/// An operator's command; its output.
fn operate(dir: &Path, words: &[&str]) -> String {
    let config = dir.join("stillgood.toml");
    let output =
        Command::new(env!("CARGO_BIN_EXE_stillgood")).args(words).arg("--config").arg(config).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_signer_of_a_real_ca_is_refused_while_it_may_not_sign_and_renewed_and_kept_when_the_ca_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let Some(server) = Cfssl::start(dir) else { return };
    let ca = server.ca.clone();
    write_secret(&dir.join("agent.secret"), KEY, 0o600);
    std::fs::write(dir.join("index.txt"), index_line(0, false) + &index_line(1, false)).unwrap();
    write_registry(dir, 1, "server");
    let settings = format!(
        "[renewal]\nramp = \"0s\"\nactivation_skew = \"0s\"\nbackoff = [\"1s\", \"2s\"]\n[enrolment.main]\nprotocol = \"cfssl\"\n\
         url = \"http://127.0.0.1:{}\"\nauth_key = \"agent.secret\"\ntimeout = \"5s\"\nrate = \"10/s\"",
        server.port
    );
    let admin = port();
    serving::write_config(dir, admin, &settings);
    let running: Serving = start_logging_to(dir, admin, &dir.join("log"));

    // A certificate for a server: it comes, is looked at, and is not used.
    let _log = LogOnPanic(dir.join("log"));
    eventually(LIMIT, "refused", || count(dir, What::Verified) == 1);
    let explained = operate(dir, &["explain", "ca"]);
    assert!(explained.contains("extKeyUsage") || explained.contains("OCSPSigning"), "{explained}");
    assert!(ask(running.endpoint, &ca, 0).is_err());
    assert_eq!(count(dir, What::Activated), 0);

    // The record is put right, and nothing else is needed.
    write_registry(dir, 2, "ocsp");
    eventually(LIMIT, "a signer", || count(dir, What::Activated) == 1);
    eventually(LIMIT, "answers", || ask(running.endpoint, &ca, 0).is_ok());

    let renewed = operate(dir, &["renew", "--issuer", "ca"]);
    eventually(LIMIT, &format!("renewed: {renewed}"), || count(dir, What::Activated) == 2);

    // The CA is gone: the order fails, and the signer in use stays.
    drop(server);
    let answers = count(dir, What::Answer);
    operate(dir, &["renew", "--issuer", "ca"]);
    eventually(LIMIT, "asked in vain", || count(dir, What::Answer) > answers);
    assert_eq!(count(dir, What::Activated), 2);
    assert!(ask(running.endpoint, &ca, 1).is_ok());
    let explained = operate(dir, &["explain", "ca"]);
    assert!(explained.contains("127.0.0.1") || explained.contains("refused"), "{explained}");
}
