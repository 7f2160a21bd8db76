//! The binary gets its signers from a real CA service, `cfssl serve` (Debian's golang-cfssl), or does not, in every way in
//! which its configuration and its process can go wrong.
//!
//! Where there is no `cfssl`, the tests say so past the harness, and pass.

mod common;

use common::cfssl::{Cfssl, KEY, write_secret};
use common::fleet::ask;
use common::serving::{SEEDED, Serving, operate, port, signer_of, start_logging_to};
use common::site::index_line;
use common::{eventually, serial, serving};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stillgood::audit::{About, AuditEvent, Outcome, What};
use stillgood::signer::{RsaPadding, files};

/// A machine with two cores and much else to do.
const LIMIT: Duration = Duration::from_secs(60);
/// Within this time nobody is asked a second time.
const QUIET: Duration = Duration::from_secs(3);
const WRONG_KEY: &str = "ffeeddccbbaa99887766554433221100";

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

/// An issuer, the profile it asks for, whom it asks and with which key, and in what words the failure is named.
struct Case {
    id: &'static str,
    profile: &'static str,
    url: String,
    secret: &'static str,
    words: &'static str,
}

/// Whether a connection to this port has octets that nobody has read.
fn has_unread(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).any(|fields| {
        let [_, local, _, "01", queues, ..] = fields[..] else { return false };
        local.ends_with(&format!(":{port:04X}")) && !queues.ends_with(":00000000")
    })
}

#[test]
fn whatever_a_real_ca_service_does_wrong_costs_one_attempt_is_named_and_leaves_the_signer_alone() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let server = |name: &str| {
        std::fs::create_dir(dir.join(name)).unwrap();
        Cfssl::start(&dir.join(name))
    };
    let Some(good) = server("good") else { return };
    let (Some(paused), Some(killed)) = (server("paused"), server("killed")) else { panic!("there was a cfssl") };
    paused.signal("STOP");
    killed.signal("STOP");
    let at = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    let of = |id, profile, words| Case { id, profile, url: at(good.port, ""), secret: "agent.secret", words };
    let to = |id, url, words| Case { id, profile: "ocsp", url, secret: "agent.secret", words };
    let cases = [
        of("server", "server", "lacks the extended key usage OCSPSigning"),
        of("no-usage", "no-usage", "lacks the extended key usage OCSPSigning"),
        of("no-nocheck", "no-nocheck", "lacks id-pkix-ocsp-nocheck"),
        of("short", "short", "must have more than validity 1h + refresh 20m + margin 5m"),
        of("expired", "expired", "expired at"),
        of("not-yet", "not-yet", "not valid before"),
        of("unknown", "no-such-profile", "(code 5100)"),
        of("other-ca", "ocsp", "is not signed by the CA's key"),
        Case { secret: "wrong.secret", ..of("wrong-key", "ocsp", "invalid token") },
        to("lost", at(good.port, "/elsewhere"), "404 page not found"),
        to("moved", at(good.port, "/."), "which is not followed"),
        to("closed", at(port().port(), ""), "refused"),
        to("paused", at(paused.port, ""), "out of time"),
        to("killed", at(killed.port, ""), "broke"),
    ];
    let renewed = of("renewed", "ocsp", "");

    write_secret(&dir.join("agent.secret"), KEY, 0o600);
    write_secret(&dir.join("wrong.secret"), WRONG_KEY, 0o600);
    // A CA of the same name, whose signer the service cannot issue.
    let (other, other_key) = Cfssl::make_ca(&dir.join("good")).unwrap();
    std::fs::write(dir.join("other.pem"), &other).unwrap();
    write_secret(&dir.join("other.key"), &other_key, 0o600);
    let load = |file: &str| {
        let key = files::load_key(&dir.join(file).with_extension("key"), RsaPadding::default(), None).unwrap();
        (files::load_certificate(&dir.join(file).with_extension("pem")).unwrap(), key)
    };
    let (good_ca, other_ca) = (load("good/ca"), load("other"));
    let ca_of = |id: &str| if id == "other-ca" { &other_ca } else { &good_ca };
    let mut settings =
        "[response]\nvalidity = \"1h\"\nrefresh = \"20m\"\n[renewal]\nmargin = \"5m\"\nactivation_skew = \"0s\"\n\
        ramp = \"0s\"\nbackoff = [\"7d\", \"7d\"]\n"
            .to_owned();
    let mut records = Vec::new();
    for (n, Case { id, profile, url, secret, .. }) in cases.iter().chain([&renewed]).enumerate() {
        // All records but one are of one CA: each certificate is in the index of one record, which answers for it.
        std::fs::write(dir.join(format!("{id}.txt")), index_line(n as u64, false)).unwrap();
        let certificate = if *id == "other-ca" { "other.pem" } else { "good/ca.pem" };
        records.push(serde_json::json!({ "id": id, "state": "active", "certificate": certificate, "enrolment": id,
            "profile": profile, "status": { "index": format!("{id}.txt") } }));
        write!(
            settings,
            "[enrolment.{id}]\nprotocol = \"cfssl\"\nurl = \"{url}\"\nauth_key = \"{secret}\"\ntimeout = \"15s\"\n\
             connect_timeout = \"15s\"\nrate = \"50/s\"\n"
        )
        .unwrap();
        serving::seed(dir, id, &ca_of(id).0, &ca_of(id).1);
    }
    let registry = serde_json::json!({ "generation": 1, "issuers": records });
    std::fs::write(dir.join("issuers.json"), registry.to_string()).unwrap();
    let admin = port();
    serving::write_config(dir, admin, &settings);
    let running: Serving = start_logging_to(dir, admin, &dir.join("log"));
    let _log = LogOnPanic(dir.join("log"));

    let events = |id: &str| -> Vec<AuditEvent> {
        let about = About::Issuer(id.to_owned());
        audit(dir).into_iter().filter(|event| event.about == about).collect()
    };
    let ended = |id: &str| {
        let is_end = |e: &AuditEvent| {
            matches!(e.what, What::Answer | What::Verified) && !matches!(e.outcome, Some(Outcome::Done) | None)
        };
        events(id).into_iter().find(is_end)
    };
    eventually(LIMIT, "all have been asked", || {
        cases.iter().all(|case| events(case.id).iter().any(|event| event.what == What::Request))
    });
    eventually(LIMIT, "the one that stands still has the request", || has_unread(killed.port));
    killed.signal("KILL");
    for case in &cases {
        eventually(LIMIT, case.words, || ended(case.id).is_some_and(|event| event.text.contains(case.words)));
    }
    let seeded = serial(SEEDED).to_string();
    eventually(LIMIT, "the good one is renewed", || {
        !["", seeded.as_str()].contains(&signer_of(&running, "renewed").as_str())
    });
    std::thread::sleep(QUIET);
    for (n, case) in cases.iter().enumerate() {
        let events = events(case.id);
        let count = |what: What| events.iter().filter(|event| event.what == what).count();
        assert_eq!((count(What::Request), count(What::Activated)), (1, 0), "{}: {events:#?}", case.id);
        let explained = operate(dir, &["explain", case.id]);
        // Not only in the audit trail, whose last events stand below.
        let explained = explained.split("What happened last").next().unwrap_or_default();
        assert!(explained.contains(case.words), "{}: {:?} is not in\n{explained}", case.id, case.words);
        assert_eq!(signer_of(&running, case.id), seeded, "{}: the signer in use", case.id);
        assert_eq!(ask(running.endpoint, &ca_of(case.id).0, n as u64), Ok(()), "{}: it is answered", case.id);
    }
    assert!(running.readyz().contains("ready"), "{}", running.readyz());
}

#[test]
fn where_there_is_no_cfssl_that_is_said_past_the_harness_and_counted() {
    let test = "a_signer_of_a_real_ca_is_refused_while_it_may_not_sign_and_renewed_and_kept_when_the_ca_is_gone";
    let harness =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).env("PATH", "").output().unwrap();
    let said = String::from_utf8_lossy(&harness.stderr).into_owned();
    assert!(harness.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("SKIPPED ")).collect();
    assert_eq!(lines, [format!("SKIPPED {test}: there is no cfssl here; it is in Debian's golang-cfssl")]);
}
