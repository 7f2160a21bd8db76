//! `stillgood serve` as a process, over files of a lab.

use super::site::{Said, index_line, post, read, write_index, write_signer};
use super::{DAY, Lab, eventually, long_serial, request, serial};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use stillgood::ocsp::HashAlgorithm;
use stillgood::signer::slots::Slots;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::Certificate;
use stillgood::x509::issue::{CertificateSpec, certification_request, name};
use stillgood::x509::pem::encode as pem;

pub struct Serving {
    pub child: Child,
    pub endpoint: SocketAddr,
    pub admin: SocketAddr,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port, as far as can be told.
pub fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A CA, its signer and an index of so many certificates, of which number 3 is revoked.
pub fn prepare(dir: &Path, certificates: u64) -> Lab {
    let lab = Lab::new("Serve");
    std::fs::write(dir.join("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer(dir, &lab, KeyKind::EcdsaP256);
    write_index(dir, certificates, &[3]);
    lab
}

pub fn write_registry(dir: &Path, generation: u64, state: &str) {
    let text = format!(
        r#"{{ "generation": {generation}, "issuers": [ {{ "id": "ca", "state": "{state}", "certificate": "ca.pem",
            "signer": {{ "certificate": "ocsp.pem", "key": "ocsp.key" }}, "status": {{ "index": "index.txt" }} }} ] }}"#
    );
    std::fs::write(dir.join("issuers.new"), text).unwrap();
    std::fs::rename(dir.join("issuers.new"), dir.join("issuers.json")).unwrap();
}

/// Writes a configuration; `more` stands in `[endpoint]` and behind it.
pub fn write_config(dir: &Path, admin: SocketAddr, more: &str) {
    let text = format!(
        "state_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[registry]\nsource = \"issuers.json\"\n[endpoint]\nlisten = [\"127.0.0.1:0\"]\n{more}\n"
    );
    std::fs::write(dir.join("stillgood.toml"), text).unwrap();
}

/// Starts it on the configuration in `dir` and waits until it listens.
pub fn start(dir: &Path, admin: SocketAddr, prepare: impl FnOnce(&mut Command)) -> Serving {
    let (serving, mut log) = start_unread(dir, admin, prepare);
    // Its log must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    serving
}

/// As [`start`], with the rest of the log for the caller to read.
pub fn start_unread(
    dir: &Path,
    admin: SocketAddr,
    prepare: impl FnOnce(&mut Command),
) -> (Serving, BufReader<ChildStderr>) {
    let mut command = command(dir);
    command.stderr(Stdio::piped());
    prepare(&mut command);
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    let endpoint = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended:\n{seen}");
        seen.push_str(&line);
        if let Some(endpoint) = endpoint_of(&line) {
            break endpoint;
        }
    };
    (Serving { child, endpoint, admin }, log)
}

/// As [`start`], with the log in a file.
pub fn start_logging_to(dir: &Path, admin: SocketAddr, log: &Path) -> Serving {
    let child = command(dir).stderr(std::fs::File::create(log).unwrap()).spawn().unwrap();
    let mut serving = Serving { child, endpoint: admin, admin };
    let listens = |text: String| text.lines().find_map(endpoint_of);
    eventually(Duration::from_secs(30), "it listens", || {
        listens(std::fs::read_to_string(log).unwrap()).map(|endpoint| serving.endpoint = endpoint).is_some()
    });
    serving
}

fn command(dir: &Path) -> Command {
    let binary = std::env::var_os("STILLGOOD_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_stillgood").into());
    let mut command = Command::new(binary);
    command.args(["serve", "--config"]).arg(dir.join("stillgood.toml"));
    command
}

/// The address in the line of the log that says where it listens.
fn endpoint_of(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("answering OCSP requests on http://")?;
    rest.split_once('/')?.0.parse().ok()
}

impl Serving {
    pub fn said(&self, lab: &Lab, n: u64) -> Said {
        read(&post(self.endpoint, &asking(lab, n)).1).remove(0)
    }

    /// What a path of the admin listener says, head and body; empty where nobody listens.
    pub fn admin(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return String::new() };
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    pub fn readyz(&self) -> String {
        self.admin("/readyz")
    }

    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }
}

/// An operator's command to the process that runs on the configuration in `dir`; its output, each run of blanks as one.
pub fn operate(dir: &Path, words: &[&str]) -> String {
    let config = dir.join("stillgood.toml");
    let output =
        Command::new(env!("CARGO_BIN_EXE_stillgood")).args(words).arg("--config").arg(config).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The serial number of the signer that the responder uses for an issuer; empty where there is none.
pub fn signer_of(serving: &Serving, issuer: &str) -> String {
    let page = serving.admin("/status.json");
    let json = page.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let reports = status["issuers"].as_array().cloned().unwrap_or_default();
    let report = reports.iter().find(|r| r["id"] == issuer).cloned().unwrap_or_default();
    report["signer"]["serial"].as_str().unwrap_or_default().to_owned()
}

/// The serial number of a signer put in place by [`seed`].
pub const SEEDED: u64 = 7;

/// Puts a signer of this CA into the issuer's slot that was to be renewed hours ago, and has hours left.
pub fn seed(dir: &Path, issuer: &str, ca: &Certificate, ca_key: &SigningKey) {
    let (slots, faults) = Slots::open(&dir.join("state/signers")).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let slot = slots.slot(issuer);
    let order = slot.order("seeded");
    let prepared =
        order.prepare(KeyKind::EcdsaP256, |key| certification_request(&name(&[]), &key.spki_der(), &[], key)).unwrap();
    let now = SystemClock.now();
    let (from, to) = (now.minus(DAY / 2), now.plus(DAY / 8));
    let subject = ca.subject_der().to_vec();
    let spec = CertificateSpec::ocsp_signer(ca, subject, prepared.spki_der, serial(SEEDED), from, to);
    order.keep_certificate(&spec.sign(ca_key).unwrap(), &[]).unwrap();
    slot.stage("seeded").unwrap();
    slot.activate("seeded", now).unwrap();
}

/// A request for the `n`-th certificate of the index.
pub fn asking(lab: &Lab, n: u64) -> Vec<u8> {
    request(&lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None)
}

/// An index of `n` good certificates, as text.
pub fn index(n: u64) -> String {
    (0..n).map(|n| index_line(n, false)).collect()
}
