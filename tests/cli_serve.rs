//! `serve` as a process: it starts with whatever it can, says what is missing, and is told by signals.

mod common;

use common::site::{Said, index_line, post, read, write_index, write_signer};
use common::{Lab, eventually, long_serial, request};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stillgood::ocsp::HashAlgorithm;
use stillgood::signer::KeyKind;
use stillgood::x509::pem::encode as pem;

const LIMIT: Duration = Duration::from_secs(30);

struct Serving {
    child: Child,
    endpoint: SocketAddr,
    admin: SocketAddr,
    lab: Lab,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port, as far as can be told.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn prepare(dir: &Path, certificates: u64) -> Lab {
    let lab = Lab::new("Serve");
    std::fs::write(dir.join("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer(dir, &lab, KeyKind::EcdsaP256);
    write_index(dir, certificates, &[3]);
    lab
}

fn write_registry(dir: &Path, generation: u64, state: &str) {
    let text = format!(
        r#"{{ "generation": {generation}, "issuers": [ {{ "id": "ca", "state": "{state}", "certificate": "ca.pem",
            "signer": {{ "certificate": "ocsp.pem", "key": "ocsp.key" }}, "status": {{ "index": "index.txt" }} }} ] }}"#
    );
    std::fs::write(dir.join("issuers.new"), text).unwrap();
    std::fs::rename(dir.join("issuers.new"), dir.join("issuers.json")).unwrap();
}

fn serve(dir: &Path, lab: Lab, admin: SocketAddr) -> Serving {
    let text = format!(
        "state_dir = \"state\"\n[endpoint]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"{admin}\"\n[registry]\nsource = \"issuers.json\"\n"
    );
    std::fs::write(dir.join("stillgood.toml"), text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_stillgood"))
        .args(["serve", "--config"])
        .arg(dir.join("stillgood.toml"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    let endpoint = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended:\n{seen}");
        seen.push_str(&line);
        if let Some((_, rest)) = line.split_once("answering OCSP requests on http://") {
            break rest.split('/').next().unwrap().parse().unwrap();
        }
    };
    // Its log must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Serving { child, endpoint, admin, lab }
}

impl Serving {
    fn said(&self, n: u64) -> Said {
        let request = request(&self.lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
        read(&post(self.endpoint, &request).1).remove(0)
    }

    fn readyz(&self) -> String {
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return String::new() };
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }
}

#[test]
fn a_registry_that_is_a_pipe_or_missing_is_told_and_taken_over_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    assert!(Command::new("mkfifo").arg(dir.path().join("issuers.json")).status().unwrap().success());
    let serving = serve(dir.path(), lab, port());
    assert_eq!(serving.said(3), Said::Error(6));
    eventually(LIMIT, "told", || serving.readyz().contains("not a regular file"));
    write_registry(dir.path(), 1, "active");
    eventually(LIMIT, "served", || serving.said(3) == Said::Revoked);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn an_issuer_whose_record_breaks_is_served_on_through_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), lab, port());
    eventually(LIMIT, "served", || serving.said(3) == Said::Revoked);
    write_registry(dir.path(), 2, "activ");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(serving.said(3), Said::Revoked);
    serving.signal("HUP");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(serving.said(3), Said::Revoked, "a reload is not a restart");
}

#[test]
fn it_answers_without_the_admin_listener_and_tries_that_again() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let serving = serve(dir.path(), lab, taken.local_addr().unwrap());
    eventually(LIMIT, "served", || serving.said(3) == Said::Revoked);
    drop(taken);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn it_stops_promptly_while_everything_is_being_signed() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 1);
    write_signer(dir.path(), &lab, KeyKind::EcdsaP384); // a slow one: it takes many seconds
    let index: String = (0..60_000).map(|n| index_line(n, false)).collect();
    std::fs::write(dir.path().join("index.txt"), index).unwrap();
    write_registry(dir.path(), 1, "active");
    let mut serving = serve(dir.path(), lab, port());
    eventually(LIMIT, "signing has begun", || serving.readyz().contains("not everything has been signed"));
    let began = Instant::now();
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
