//! The binary as a process, with issuers whose signers come from a misbehaving EST server.

use super::est_server::EstServer;
use super::serving::{self, Serving};
use super::site::{index_line, post};
use super::{long_serial, request};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillgood::audit::AuditEvent;
use stillgood::client::{self, Asked};
use stillgood::ocsp::{CertStatus, HashAlgorithm};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::Certificate;

/// How many certificates each issuer has.
pub const CERTIFICATES: u64 = 3;

/// Files of a service, and the process while it runs.
pub struct Fleet {
    pub dir: PathBuf,
    pub est: EstServer,
    pub labels: Vec<String>,
    /// Lines for `[renewal]`.
    pub renewal: String,
    /// Lines for `[enrolment.main]`, beside protocol, URL and credential.
    pub enrolment: String,
    admin: SocketAddr,
    process: Option<Serving>,
}

impl Fleet {
    /// Nothing runs yet. Issuers are `ca-0` and so on.
    pub fn new(dir: &Path, issuers: usize) -> Self {
        let labels: Vec<String> = (0..issuers).map(|i| format!("ca-{i}")).collect();
        let est = EstServer::start(dir, &labels.iter().map(String::as_str).collect::<Vec<_>>());
        let index: String = (0..CERTIFICATES).map(|n| index_line(n, false)).collect();
        std::fs::write(dir.join("index.txt"), index).unwrap();
        let records: Vec<String> = labels.iter().map(|label| record(label, "active")).collect();
        let registry = format!(r#"{{ "generation": 1, "issuers": [ {} ] }}"#, records.join(",\n"));
        std::fs::write(dir.join("issuers.json"), registry).unwrap();
        let admin = serving::port();
        let (renewal, enrolment) = (String::new(), String::new());
        Fleet { dir: dir.to_owned(), est, labels, renewal, enrolment, admin, process: None }
    }

    /// Starts the process and waits until it answers requests.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let text = format!(
            "state_dir = \"state\"\n[endpoint]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"{}\"\n\
             [registry]\nsource = \"issuers.json\"\nrefresh = \"5s\"\nmax_age = \"1m\"\n\
             [response]\nvalidity = \"1m\"\nrefresh = \"20s\"\nbackdate = \"0s\"\n\
             [renewal]\n{}\n[enrolment.main]\nprotocol = \"est\"\nurl = \"{}\"\ntrust = \"roots.pem\"\n\
             client_certificate = \"agent.pem\"\nclient_key = \"agent.key\"\n{}\n",
            self.admin,
            self.renewal,
            self.est.url(),
            self.enrolment
        );
        std::fs::write(self.dir.join("stillgood.toml"), text).unwrap();
        self.process = Some(serving::start_logging_to(&self.dir, self.admin, &self.log_file()));
    }

    /// Ends the process as a loss of power would.
    pub fn kill(&mut self) {
        // It kills, and does not ask.
        self.process = None;
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn endpoint(&self) -> SocketAddr {
        self.process.as_ref().expect("it runs").endpoint
    }

    /// What a path of the admin listener says.
    pub fn admin(&self, path: &str) -> String {
        self.process.as_ref().expect("it runs").admin(path)
    }

    pub fn ca(&self, label: &str) -> &Certificate {
        &self.est.ca(label).certificate
    }

    /// What is wrong with the answer for a certificate of an issuer, as a strict client sees it.
    pub fn ask(&self, label: &str, n: u64) -> Result<(), String> {
        ask(self.endpoint(), self.ca(label), n)
    }

    /// The audit trail so far.
    pub fn audit(&self) -> Vec<AuditEvent> {
        let text = std::fs::read_to_string(self.audit_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn audit_file(&self) -> PathBuf {
        self.dir.join("state/audit/audit.jsonl")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
            let from = log.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("---- the end of its log ----\n{}", &log[from..]);
        }
    }
}

pub fn record(label: &str, state: &str) -> String {
    format!(
        r#"{{ "id": "{label}", "state": "{state}", "certificate": "{label}.pem", "enrolment": "main", "profile": "{label}",
             "status": {{ "index": "index.txt" }} }}"#
    )
}

/// What is wrong with the answer for a certificate of an issuer, as a strict client sees it: it is good, or there is a fault.
pub fn ask(endpoint: SocketAddr, ca: &Certificate, n: u64) -> Result<(), String> {
    let (hash, serial) = (HashAlgorithm::Sha1, long_serial(n));
    let (_, response) = post(endpoint, &request(&ca.issuer_hashes(hash), &[serial], None));
    let asked = Asked { hash, serial, nonce: None };
    match client::verify(&response, &asked, ca, SystemClock.now(), Duration::from_secs(1)) {
        Ok(verified) if verified.status == CertStatus::Good => Ok(()),
        Ok(verified) => Err(format!("it is not good: {:?}", verified.status)),
        Err(flaws) => Err(flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}
