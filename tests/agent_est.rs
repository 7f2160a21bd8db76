//! The binary against an EST server that misbehaves in every way it can: each misbehaviour costs one bounded attempt for one
//! issuer, is named by `explain`, and leaves the signer in use alone.

mod common;

use common::est_server::{AGENT, EstServer, Mode};
use common::fleet::ask;
use common::serving::{self, SEEDED, Serving, operate, port, signer_of, start};
use common::site::write_index;
use common::{DAY, eventually, serial};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use stillgood::signer::KeyKind;
use stillgood::time::{Clock, SystemClock};

/// A machine with two cores and much else to do.
const LONG: Duration = Duration::from_secs(90);
/// Within this time nobody is asked a second time.
const QUIET: Duration = Duration::from_secs(3);

struct Bench {
    directory: tempfile::TempDir,
    est: EstServer,
    admin: std::net::SocketAddr,
}

impl Bench {
    /// An issuer for each label, each with its own CA service (all at one server), so that one's trouble is its own; each with a
    /// signer that is due.
    fn new(labels: &[String], client_profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<&str> = labels.iter().map(String::as_str).collect();
        let est = EstServer::start(directory.path(), &names);
        let bench = Bench { est, admin: port(), directory };
        write_index(bench.path(), 3, &[]);
        let records = labels.iter().map(|label| {
            serde_json::json!({ "id": label, "state": "active", "certificate": format!("{label}.pem"),
                "enrolment": label, "profile": label, "status": { "index": "index.txt" } })
        });
        let registry = serde_json::json!({ "generation": 1, "issuers": records.collect::<Vec<_>>() });
        std::fs::write(bench.path().join("issuers.json"), registry.to_string()).unwrap();
        let mut config = format!(
            "state_dir = \"state\"\n[admin]\nlisten = \"{}\"\n[registry]\nsource = \"issuers.json\"\n[endpoint]\nlisten = [\"127.0.0.1:0\"]\n\
             [response]\nvalidity = \"1h\"\nrefresh = \"20m\"\n\
             [renewal]\nmargin = \"5m\"\nactivation_skew = \"0s\"\nramp = \"0s\"\nbackoff = [\"7d\", \"7d\"]\n",
            bench.admin
        );
        for label in labels {
            let url = bench.est.url();
            write!(
                config,
                "[enrolment.{label}]\nprotocol = \"est\"\nurl = \"{url}\"\ntrust = \"roots.pem\"\nclient_certificate = \"agent.pem\"\n\
                 client_key = \"agent.key\"\n{client_profile}timeout = \"20s\"\nconnect_timeout = \"20s\"\nrate = \"50/s\"\n"
            )
            .unwrap();
        }
        std::fs::write(bench.path().join("stillgood.toml"), config).unwrap();
        labels.iter().for_each(|label| bench.seed(label));
        bench
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn start(&self) -> Serving {
        start(self.path(), self.admin, |_| {})
    }

    fn seed(&self, label: &str) {
        let ca = self.est.ca(label);
        serving::seed(self.path(), label, &ca.certificate, &ca.key);
    }

    /// The lines of the audit trail about an issuer.
    fn trail(&self, about: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("state/audit/audit.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.contains(&format!("{{\"issuer\":\"{about}\"}}"))).map(str::to_owned).collect()
    }

    fn told(&self, about: &str, words: &str) -> bool {
        self.trail(about).iter().any(|line| line.contains(words))
    }
}

fn metric(serving: &Serving, beginning: &str) -> Option<f64> {
    let page = serving.admin("/metrics");
    let line = page.lines().find(|line| line.starts_with(beginning))?.to_owned();
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn every_misbehaviour_costs_one_bounded_attempt_is_named_and_leaves_the_signer_alone() {
    // The mode, the reason that the metrics give, and words from the audit trail.
    let cases: Vec<(Mode, &str, &str)> = vec![
        (Mode::Garbage, "backoff", "the body is unusable"),
        (Mode::Html, "backoff", "a page for people"),
        (Mode::Empty, "backoff", "it is empty"),
        (Mode::Huge, "backoff", "larger than 524288 octets"),
        (Mode::Endless, "backoff", "larger than 524288 octets"),
        (Mode::Drip, "backoff", "out of time while reading the response"),
        (Mode::CutOff, "backoff", "broke while reading the response"),
        (Mode::Hang, "backoff", "out of time while waiting for the response"),
        (Mode::Reset, "backoff", "broke while waiting for the response"),
        (Mode::NotHttp, "backoff", "not usable HTTP"),
        (Mode::EndlessHead, "backoff", "not usable HTTP"),
        (Mode::Redirect, "refused", "https://elsewhere.example/, which is not followed"),
        (Mode::Status(204, ""), "backoff", "there is no certificate in it"),
        (Mode::Status(400, ""), "refused", "as the test wants it"),
        (Mode::Status(401, ""), "backoff", "who we are"),
        (Mode::Status(403, ""), "refused", "may not order this"),
        (Mode::Status(404, ""), "refused", "profile"),
        (Mode::Status(429, "3600"), "backoff", "later"),
        (Mode::Status(500, ""), "backoff", "later"),
        (Mode::Status(503, "3600"), "backoff", "later"),
        (Mode::WrongKey, "refused", "no certificate for the key that was ordered"),
        (Mode::WrongIssuer, "rejected", "is not signed by the CA's key"),
        (Mode::Expired, "rejected", "expired at"),
        (Mode::NotYetValid, "rejected", "not valid before"),
        (Mode::NoEku, "rejected", "lacks the extended key usage OCSPSigning"),
        (Mode::NoNocheck, "rejected", "lacks id-pkix-ocsp-nocheck"),
        (
            Mode::Life(Duration::from_secs(4_000)),
            "rejected",
            "must have more than validity 1h + refresh 20m + margin 5m",
        ),
        (Mode::Later("3600", 9), "none", "\"outcome\":\"later\""),
    ];
    let labels: Vec<String> = (0..cases.len()).map(|n| format!("bad-{n}")).collect();
    let mut all = labels.clone();
    all.push("good".to_owned());
    let bench = Bench::new(&all, "");
    for (label, (mode, ..)) in labels.iter().zip(&cases) {
        bench.est.set(label, mode.clone());
    }
    let serving = bench.start();
    let seeded = serial(SEEDED).to_string();

    for (label, (mode, reason, words)) in labels.iter().zip(&cases) {
        eventually(LONG, &format!("{mode:?}: {words}"), || bench.told(label, words));
        eventually(LONG, &format!("{mode:?}: {reason}"), || {
            let of_issuer = format!("stillgood_renewal_state{{issuer=\"{label}\",");
            let page = serving.admin("/metrics");
            page.lines().any(|l| l.starts_with(&of_issuer) && l.contains(&format!("reason=\"{reason}\"")))
        });
    }
    eventually(LONG, "the good one is renewed", || {
        !["", seeded.as_str()].contains(&signer_of(&serving, "good").as_str())
    });
    std::thread::sleep(QUIET);
    for (label, (mode, _, words)) in labels.iter().zip(&cases) {
        assert_eq!(bench.est.asked(label), 1, "{mode:?}: one attempt\n{:#?}", bench.trail(label));
        assert_eq!(signer_of(&serving, label), seeded, "{mode:?}: the signer in use");
        assert!(!bench.told(label, "\"activated\""), "{mode:?}");
        assert_eq!(ask(serving.endpoint, &bench.est.ca(label).certificate, 0), Ok(()), "{mode:?}: it is answered");
        let explained = operate(bench.path(), &["explain", label]);
        // Not only in the audit trail, whose last events stand below.
        let explained = explained.split("What happened last").next().unwrap_or_default();
        let words = if matches!(mode, Mode::Later(..)) { "and decides later" } else { *words };
        assert!(explained.contains(words), "{mode:?}: {words:?} is not in\n{explained}");
    }
    assert_eq!(bench.est.asked("good"), 1);
    let (signers, all) = (all.len(), 2 * all.len());
    let covered = format!("issuers {signers} active; files: last pass");
    let checked = operate(bench.path(), &["check"]);
    assert!(checked.contains(&covered), "{covered}: {checked}");
    assert!(checked.contains(&format!("{all} of {all} signers and credentials looked at")), "{checked}");
    eventually(LONG, "no connection is left", || bench.est.open() == 0);
    assert_eq!(metric(&serving, "stillgood_agent_abandoned_threads"), Some(0.0));
    assert!(serving.readyz().contains("ready"), "{}", serving.readyz());
}

#[test]
fn our_own_certificate_is_renewed_first_and_the_signers_are_ordered_by_the_new_one() {
    let labels = ["one".to_owned()];
    let bench = Bench::new(&labels, &format!("client_profile = \"{AGENT}\"\n"));
    let now = SystemClock.now();
    let old = bench.est.write_agent_of(KeyKind::Rsa2048, now.minus(25 * DAY), now.plus(3 * DAY));
    let (old, kind) = (old.serial().to_string(), old.key_kind().clone());
    let serving = bench.start();
    let seeded = serial(SEEDED).to_string();
    eventually(LONG, "the signer is renewed", || !["", seeded.as_str()].contains(&signer_of(&serving, "one").as_str()));
    eventually(LONG, "the credential is renewed", || {
        metric(&serving, "stillgood_credential_not_after_seconds")
            .is_some_and(|at| at > now.plus(20 * DAY).unix() as f64)
    });
    let log = bench.est.log();
    let first = log.first().unwrap();
    assert_eq!((first.label.as_str(), first.operation.as_str()), (AGENT, "simplereenroll"), "item zero comes first");
    assert_eq!(first.client, old);
    let new = stillgood::signer::files::load_certificate(&bench.path().join("agent.pem")).unwrap();
    assert_eq!(*new.key_kind(), kind, "what the CA has accepted before");
    // Its files are gone from the orders: the key lies where the connection reads it, and nowhere else.
    let orders = bench.path().join("state/credentials/one");
    eventually(LONG, "the order's files are destroyed", || {
        std::fs::read_dir(&orders).is_ok_and(|d| d.filter_map(Result::ok).all(|f| f.file_name() == "slot.json"))
    });
    assert_eq!((bench.est.asked(AGENT), bench.est.asked("one")), (1, 1));
}

#[test]
fn an_expired_credential_asks_nobody_and_a_new_file_is_enough() {
    let labels = ["one".to_owned()];
    let bench = Bench::new(&labels, "");
    let now = SystemClock.now();
    bench.est.write_agent(now.minus(30 * DAY), now.minus(DAY));
    let serving = bench.start();
    eventually(LONG, "the fault is seen", || metric(&serving, "stillgood_credential_fault") == Some(1.0));
    std::thread::sleep(QUIET);
    assert_eq!(bench.est.asked("one"), 0);
    let seeded = serial(SEEDED).to_string();
    assert_eq!(signer_of(&serving, "one"), seeded);
    assert!(serving.readyz().contains("ready"), "serving is not touched: {}", serving.readyz());

    let new = bench.est.write_agent(now.minus(DAY), now.plus(30 * DAY)).serial().to_string();
    eventually(LONG, "the signer is renewed", || signer_of(&serving, "one") != seeded);
    assert_eq!(bench.est.log().last().unwrap().client, new);
}

#[test]
fn killed_while_it_waits_for_the_ca_it_asks_again_with_the_same_key() {
    let labels = ["one".to_owned()];
    let bench = Bench::new(&labels, "");
    bench.est.set("one", Mode::Hang);
    let keys = || bench.est.log().into_iter().map(|l| l.spki).collect::<HashSet<_>>();
    for round in 1..=4 {
        // A former process may have been killed before it asked; the rate of one in the ledger allows the next at once.
        let mut serving = bench.start();
        eventually(LONG, "it asks", || bench.est.asked("one") >= round);
        serving.child.kill().unwrap();
        serving.child.wait().unwrap();
    }
    assert_eq!(keys().len(), 1, "one key for one order");
    bench.est.set("one", Mode::Ok);
    let serving = bench.start();
    let seeded = serial(SEEDED).to_string();
    eventually(LONG, "the signer is renewed", || !["", seeded.as_str()].contains(&signer_of(&serving, "one").as_str()));
    assert_eq!(keys().len(), 1, "one key for one order");
    assert!(bench.told("one", "\"cause\":\"retry\""));
}
