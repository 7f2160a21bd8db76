//! `stillgood probe` and `stillgood inspect` through the binary, against `openssl ocsp` as responder and as client.

#[path = "common/skip.rs"]
mod skip;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const INDEX: &str = "V\t301231235959Z\t\t1A2B\tunknown\t/CN=leaf\n\
    R\t301231235959Z\t260101000000Z,keyCompromise\t1A2C\tunknown\t/CN=gone\n";
const EXTENSIONS: &str = "[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\n\
    [ocsp]\nextendedKeyUsage=OCSPSigning\nnoCheck=ignored\nkeyUsage=critical,digitalSignature\n\
    [req]\ndistinguished_name=dn\n[dn]\n";

/// A CA, a delegated signer and a certificate, all made by openssl, and its responder.
struct World {
    directory: tempfile::TempDir,
    responder: Child,
    port: u16,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.responder.kill();
        let _ = self.responder.wait();
    }
}

impl World {
    /// `None`, loudly, where there is no openssl.
    fn new(signer: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            skip::skipped("probe and inspect", "no openssl on this machine");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs::write(at.join("ext.cnf"), EXTENSIONS).unwrap();
        fs::write(at.join("index.txt"), INDEX).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(
            at,
            &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=CA -days 9 -config ext.cnf -extensions ca"),
        );
        openssl(
            at,
            &format!(
                "req -x509 {key} -keyout o.key -out other.pem -subj /CN=Other -days 9 -config ext.cnf -extensions ca"
            ),
        );
        for (name, serial, extra) in [("leaf", "0x1A2B", ""), ("ocsp", "0x2", "-extfile ext.cnf -extensions ocsp")] {
            openssl(at, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name} -config ext.cnf"));
            openssl(
                at,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -out {name}.pem -days 9 {extra}"
                ),
            );
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let responder = Command::new("openssl")
            .current_dir(at)
            .args(["ocsp", "-index", "index.txt", "-CA", "ca.pem", "-ndays", "4", "-port", &port.to_string()])
            .args(["-rsigner", &format!("{signer}.pem"), "-rkey", &format!("{signer}.key")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let world = World { directory, responder, port };
        let started = Instant::now();
        // A connection without a request would keep openssl waiting for ever, so readiness is asked with one.
        while world.probe(&["--serial", "1A2B", "--timeout", "5s"]).1.contains("Connection refused") {
            assert!(started.elapsed() < Duration::from_secs(20), "openssl ocsp does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(world)
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = stillgood(self.directory.path(), args);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    fn probe(&self, args: &[&str]) -> (Option<i32>, String) {
        let url = format!("http://127.0.0.1:{}", self.port);
        self.run(&[&["probe", "--url", &url, "--issuer", "ca.pem"], args].concat())
    }
}

fn stillgood(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stillgood")).current_dir(directory).args(args).output().unwrap()
}

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(directory).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A responder that says one thing to everyone, `times` times.
fn canned(reply: Vec<u8>, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&reply);
        }
    });
    port
}

fn http(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_healthy_responder_is_ok_by_both_methods_and_hashes() {
    let Some(world) = World::new("ocsp") else { return };
    for args in [
        &["--cert", "leaf.pem"][..],
        &["--serial", "1a2b", "--get", "--hash", "sha256"],
        &["--cert", "leaf.pem", "--post", "--nonce", "--hash", "sha256"],
        &["--cert", "leaf.pem", "--warning", "3d", "--critical", "1d"],
        &["--serial", "1A2C", "--expect", "revoked"],
        &["--serial", "77", "--expect", "unknown"],
    ] {
        let (code, line) = world.probe(args);
        assert_eq!(code, Some(0), "{args:?}: {line}");
        assert!(line.starts_with("OCSP OK - "), "{line}");
        let wanted = if args.contains(&"--expect") { "" } else { "good, nextUpdate in " };
        assert!(line.contains(wanted) && line.contains("signed by CN=ocsp (delegated, ecdsa-with-SHA256)"), "{line}");
        assert!(line.contains(" | time=0.") && line.contains(" next_update=3"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(line.contains("nonce echoed"), args.contains(&"--nonce"), "{line}");
    }
}

#[test]
fn thresholds_and_expectations_decide_the_level() {
    let Some(world) = World::new("ocsp") else { return };
    let (code, line) = world.probe(&["--cert", "leaf.pem", "--warning", "5d"]);
    assert!(
        code == Some(1) && line.starts_with("OCSP WARNING - nextUpdate in ") && line.contains(";432000:;;;"),
        "{line}"
    );
    let (code, line) = world.probe(&["--cert", "leaf.pem", "--warning", "6d", "--critical", "5d"]);
    assert!(code == Some(2) && line.starts_with("OCSP CRITICAL - nextUpdate in "), "{line}");
    let (code, line) = world.probe(&["--serial", "1A2C"]);
    assert!(
        code == Some(2) && line.contains("good was expected; revoked at 2026-01-01T00:00:00Z (keyCompromise)"),
        "{line}"
    );
}

#[test]
fn a_signer_the_ca_has_not_certified_for_it_is_critical() {
    let Some(world) = World::new("leaf") else { return };
    let (code, line) = world.probe(&["--cert", "leaf.pem"]);
    assert!(code == Some(2) && line.contains("the signer CN=leaf has no extended key usage OCSPSigning"), "{line}");
}

#[test]
fn what_keeps_the_probe_from_working_is_unknown() {
    let Some(world) = World::new("ca") else { return };
    for (args, text) in [
        (&["--cert", "none.pem"][..], "none.pem"),
        (&["--cert", "other.pem"], "--cert other.pem was not issued by --issuer"),
        (&["--serial", "xyz"], "not hexadecimal"),
        (&["--serial", "1", "--timeout", "0s"], "--timeout 0s is out of bounds"),
    ] {
        let (code, line) = world.probe(args);
        assert!(code == Some(3) && line.starts_with("OCSP UNKNOWN - ") && line.contains(text), "{args:?}: {line}");
    }
    assert_eq!(world.probe(&[]).0, Some(3), "neither --cert nor --serial");
    assert_eq!(world.probe(&["--serial", "1", "--get", "--post"]).0, Some(3));
    assert_eq!(world.run(&["probe", "--help"]).0, Some(0));
    let (code, line) = world.run(&["probe", "--url", "https://h", "--issuer", "ca.pem", "--serial", "1"]);
    assert!(code == Some(3) && line.contains("is not an http:// URL"), "{line}");
}

#[test]
fn answers_that_are_not_right_are_critical() {
    let Some(world) = World::new("ca") else { return };
    let at = world.directory.path();
    openssl(
        at,
        "ocsp -index index.txt -rsigner ca.pem -rkey ca.key -CA ca.pem -issuer ca.pem -serial 0x1A2B -no_nonce -ndays 1 -respout good.der",
    );
    let good = fs::read(at.join("good.der")).unwrap();
    let cut = &good[..good.len() - 9];
    let mut forged = good.clone();
    // The last digit of producedAt, the first GeneralizedTime.
    let time = forged.windows(2).position(|w| w == [0x18, 0x0f]).unwrap();
    forged[time + 2 + 13] ^= 1;
    let ocsp = "application/ocsp-response";
    for (reply, code, text) in [
        (http(ocsp, &good), 0, "OCSP OK - good, "),
        (http("text/plain", &good), 2, "Content-Type is text/plain"),
        (http(ocsp, &[0x30, 3, 10, 1, 6]), 2, "the responder answers unauthorized: it has no record"),
        (http(ocsp, &[0x30, 3, 10, 1, 3]), 2, "the responder answers tryLater"),
        (http(ocsp, &forged), 2, "the signature of the response is not valid"),
        (http(ocsp, cut), 2, "malformed at octet "),
        (http(ocsp, b""), 2, "malformed at octet 0"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(), 2, "HTTP status 503 instead of 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_vec(), 2, "the connection ended before the response did"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), 2, "not an HTTP response"),
    ] {
        let port = canned(reply, 1);
        let url = format!("http://127.0.0.1:{port}/ocsp");
        let (found, line) = world.run(&["probe", "--url", &url, "--issuer", "ca.pem", "--serial", "1A2B"]);
        assert!(found == Some(code) && line.contains(text), "{text}: {line}");
    }
    let url = format!("http://127.0.0.1:{}", canned(http(ocsp, &[0x30, 3, 10, 1, 6]), 1));
    let expecting = ["probe", "--url", &url, "--issuer", "ca.pem", "--serial", "1", "--expect", "unauthorized"];
    let (code, line) = world.run(&expecting);
    assert!(code == Some(0) && line.starts_with("OCSP OK - unauthorized, as expected | time="), "{line}");
    let url = format!("http://127.0.0.1:{}", canned(http(ocsp, &good), 1));
    let expecting = ["probe", "--url", &url, "--issuer", "ca.pem", "--serial", "1A2B", "--expect", "unauthorized"];
    assert_eq!(world.run(&expecting).0, Some(2), "an answer is not what was expected");
    let (code, line) = world.run(&["probe", "--url", "http://127.0.0.1:1", "--issuer", "ca.pem", "--serial", "1A2B"]);
    assert!(code == Some(2) && line.contains("connecting to 127.0.0.1:1: "), "{line}");
}

#[test]
fn a_silent_responder_costs_the_time_out_and_no_more() {
    let Some(world) = World::new("ca") else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let args = ["probe", "--url", &url, "--issuer", "ca.pem", "--serial", "1", "--timeout", "300ms"];
    let (code, line) = world.run(&args);
    assert!(code == Some(2) && line.contains("timed out"), "{line}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn machines_get_one_json_object() {
    let Some(world) = World::new("ocsp") else { return };
    let (code, text) = world.probe(&["--cert", "leaf.pem", "--nonce", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["level"], &json["exit_code"]), (Some(0), &"OK".into(), &0.into()));
    assert_eq!((&json["answer"]["status"], &json["answer"]["nonce"]), (&"good".into(), &"echoed".into()));
}

#[test]
fn inspect_names_every_field_of_what_openssl_writes() {
    let Some(world) = World::new("ocsp") else { return };
    let at = world.directory.path();
    openssl(at, "ocsp -issuer ca.pem -cert leaf.pem -reqout q.der");
    openssl(
        at,
        "ocsp -index index.txt -rsigner ocsp.pem -rkey ocsp.key -CA ca.pem -reqin q.der -ndays 4 -resp_key_id -respout r.der",
    );
    let (code, text) = world.run(&["inspect", "q.der"]);
    assert_eq!(code, Some(0));
    for part in ["type: OCSP request", "hashAlgorithm: sha1", "serialNumber: 1A2B", "nonce: ", "requestList 1 of 1:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = world.run(&["inspect", "r.der"]);
    assert_eq!(code, Some(0));
    for part in [
        "responseStatus: successful (0)",
        "responderID: byKey ",
        "certStatus: good",
        "validity: 4d",
        "signatureAlgorithm: ecdsa-with-SHA256",
        "signer: CN=ocsp",
        "OCSPSigning: yes",
        "nocheck: yes",
        "responseExtensions 1 of 1: nonce (1.3.6.1.5.5.7.48.1.2)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, json) = world.run(&["inspect", "r.der", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["responses"][0]["certStatus"], "good");
    let der = fs::read(at.join("q.der")).unwrap();
    fs::write(at.join("q.txt"), format!("http://h/ocsp/{}\n", data_encoding::BASE64.encode(&der))).unwrap();
    assert!(world.run(&["inspect", "q.txt"]).1.contains("form: GET path"));
    fs::write(at.join("cut.der"), &der[..40]).unwrap();
    let output = stillgood(at, &["inspect", "cut.der"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("cut.der: cut short: its header promises ") && told.contains("there are 40"), "{told}");
    assert_eq!(stillgood(at, &["inspect", "none"]).status.code(), Some(1));
    assert_eq!(stillgood(at, &["inspect"]).status.code(), Some(2));
}
