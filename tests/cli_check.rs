//! `stillgood check` through the binary: every fault with its place, and the exit code.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use stillgood::ocsp::{Reason, Serial};
use stillgood::signer::slots::Slots;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock, Timestamp};
use stillgood::x509::issue::{Attribute, CertificateSpec, CrlEntry, CrlSpec, ExtensionSpec, name, ocsp_signer_request};
use stillgood::x509::{Certificate, pem};

const INDEX: &str = "V\t20991231235959Z\t\t1A2B\tunknown\t/CN=a\n\
    R\t20991231235959Z\t20260101000000Z,keyCompromise\t1A2C\tunknown\t/CN=b\n";
const REGISTRY: &str = r#"{ "generation": 1, "issuers": [
  { "id": "ca-1", "state": "active", "certificate": "ca.pem",
    "signer": { "certificate": "ocsp.pem", "key": "ocsp.key" },
    "status": { "index": "index.txt", "crl": "ca.crl" } },
  { "id": "old", "state": "retired" } ] }"#;

struct Place {
    directory: tempfile::TempDir,
    ca: Certificate,
    ca_key: SigningKey,
    now: Timestamp,
}

impl Place {
    /// Everything as it should be.
    fn new() -> Self {
        let now = SystemClock.now();
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = name(&[(Attribute::CommonName, "Check CA")]);
        let spec = CertificateSpec::ca(subject, ca_key.spki_der(), serial(1), days(now, -1), days(now, 365));
        let ca = spec.issue(&ca_key).unwrap();
        let place = Place { directory: tempfile::tempdir().unwrap(), ca, ca_key, now };
        place.write("ca.pem", pem::encode("CERTIFICATE", place.ca.der()));
        place.write("index.txt", INDEX);
        place.write("issuers.json", REGISTRY);
        place.write("stillgood.toml", "[registry]\nsource = \"issuers.json\"\n");
        place.crl(days(now, 7));
        place.signer(days(now, 30), |spec| spec);
        place
    }

    fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path().join(file), content).unwrap();
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn crl(&self, next_update: Timestamp) {
        let spec = CrlSpec {
            issuer: self.ca.subject_der().to_vec(),
            this_update: days(self.now, -8),
            next_update: Some(next_update),
            entries: vec![CrlEntry {
                serial: serial(9),
                revoked_at: days(self.now, -9),
                reason: Some(Reason::Superseded),
            }],
            extensions: vec![CrlSpec::number(1)],
        };
        self.write("ca.crl", spec.sign(&self.ca_key).unwrap());
    }

    /// What public CAs publish: a full list that names where it is to be had.
    fn limited_crl(&self) {
        let scope = ExtensionSpec::new(&[0x55, 0x1d, 0x1c], true, vec![0x30, 3, 0x81, 1, 0xff]);
        let spec = CrlSpec {
            issuer: self.ca.subject_der().to_vec(),
            this_update: days(self.now, -1),
            next_update: Some(days(self.now, 7)),
            entries: vec![],
            extensions: vec![CrlSpec::number(1), scope],
        };
        self.write("ca.crl", spec.sign(&self.ca_key).unwrap());
    }

    fn signer(&self, not_after: Timestamp, change: impl FnOnce(CertificateSpec) -> CertificateSpec) {
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = name(&[(Attribute::CommonName, "Check OCSP")]);
        let spki = key.spki_der();
        let spec = CertificateSpec::ocsp_signer(&self.ca, subject, spki, serial(2), days(self.now, -1), not_after);
        self.write("ocsp.pem", pem::encode("CERTIFICATE", &change(spec).sign(&self.ca_key).unwrap()));
        self.write("ocsp.key", &*pkcs8);
        fs::set_permissions(self.path().join("ocsp.key"), Permissions::from_mode(0o600)).unwrap();
    }

    fn check(&self, options: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_stillgood"))
            .current_dir(self.path())
            .args(["check", "--config", "stillgood.toml"])
            .args(options)
            .output()
            .unwrap();
        texts(&output)
    }
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[n]).unwrap()
}

fn days(now: Timestamp, n: i64) -> Timestamp {
    Timestamp::from_unix(now.unix() + n * 86_400)
}

#[test]
fn what_is_right_is_found_right_and_nothing_is_changed() {
    let place = Place::new();
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    let (code, out, err) = place.check(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(
        out.contains("ca-1: active, rfc9919, CN=Check CA; signer CN=Check OCSP (ecdsa-p256-sha256, ends in "),
        "{out}"
    );
    assert!(out.contains("3 certificates listed, 2 of them revoked"), "{out}");
    assert!(out.ends_with("stillgood.toml: 0 errors, 0 warnings, 1 issuer to serve, 1 retired\n"), "{out}");
    assert_eq!(listing(), before);
}

#[test]
fn every_fault_is_told_with_file_and_line() {
    let place = Place::new();
    place.write("stillgood.toml", "[endpoint]\nlisen = []\n[response]\nvalidity = \"1\"\n");
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("error: stillgood.toml:2:1: endpoint.lisen is not a known key; did you mean \"listen\"?\n"),
        "{err}"
    );
    assert!(err.contains("error: stillgood.toml:4:12: response.validity: \"1\" is not a duration"), "{err}");
}

#[test]
fn faults_of_the_registry_and_of_its_files_are_told_together() {
    let place = Place::new();
    let second = r#", { "id": "ca-2", "state": "actve", "status": {} } ] }"#;
    place.write("issuers.json", REGISTRY.replace(" ] }", second));
    place.write("ca.crl", "no CRL");
    place.signer(days(place.now, -1), |spec| spec);
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(1));
    for text in [
        "error: issuers.json:2:3: ca-1: the signer's certificate expired at ",
        "error: issuers.json:2:3: ca-1: CRL ca.crl: expected a CRL in PEM (X509 CRL) or DER",
        "ca-2.state: \"actve\" is not one of \"active\", \"disabled\", \"retired\"; did you mean \"active\"?",
        "ca-2.certificate is missing; write \"certificate\": ",
    ] {
        assert!(err.contains(text), "{text}\n{err}");
    }
}

#[test]
fn a_signer_that_may_not_sign_is_a_fault_and_a_short_life_a_warning() {
    let place = Place::new();
    place.signer(days(place.now, 30), |spec| spec.without(&stillgood::x509::issue::ExtensionSpec::ocsp_signing()));
    let (code, _, err) = place.check(&[]);
    assert!(code == Some(1) && err.contains("lacks the extended key usage OCSPSigning"), "{err}");

    // Half an hour more, so that it is three days for as long as this runs.
    place.signer(days(place.now, 3).plus(std::time::Duration::from_secs(1800)), |spec| spec);
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.starts_with("warning: issuers.json:2:3: ca-1: the signer's certificate ends in 3d, and"), "{err}");

    // What `serve` would not sign with is no warning.
    place.signer(place.now.plus(std::time::Duration::from_secs(38)), |spec| spec);
    let (code, _, err) = place.check(&[]);
    assert!(
        code == Some(1) && err.contains("error: issuers.json:2:3: ca-1: the signer's certificate expires at"),
        "{err}"
    );

    place.signer(days(place.now, 30), |spec| spec);
    fs::set_permissions(place.path().join("ocsp.key"), Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = place.check(&[]);
    assert!(code == Some(1) && err.contains("run `chmod 600 ocsp.key`"), "{err}");
}

#[test]
fn a_crl_that_does_not_cover_everything_is_named_with_what_to_write() {
    let place = Place::new();
    place.limited_crl();
    let (code, _, err) = place.check(&[]);
    assert!(code == Some(0) && !err.contains("crl_scope"), "the index lists what was issued: {err}");
    let only = REGISTRY.replace(r#""index": "index.txt", "crl": "ca.crl""#, r#""crl": "ca.crl""#);
    place.write("issuers.json", &only);
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("warning: issuers.json:2:3: ca-1: the CRLs do not cover every certificate"), "{err}");
    assert!(err.contains(r#"(ca.crl: onlyContainsUserCerts)"#), "{err}");
    assert!(err.contains(r#"write "crl_scope": "complete" beside "crl""#), "{err}");
    let told = only.replace(r#""crl": "ca.crl""#, r#""crl": "ca.crl", "crl_scope": "complete""#);
    place.write("issuers.json", told);
    let (code, _, err) = place.check(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let place = Place::new();
    place.write("index.txt", format!("\u{feff}{INDEX}"));
    place.write("issuers.json", format!("\u{feff}{REGISTRY}"));
    let (code, out, err) = place.check(&[]);
    assert!(code == Some(0) && err.is_empty() && out.contains("3 certificates listed"), "{out}{err}");
}

#[test]
fn expired_lists_and_unreadable_lines_are_warnings() {
    let place = Place::new();
    place.crl(days(place.now, -1));
    place.write("index.txt", format!("{INDEX}nonsense\n"));
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("warning: ca.crl: ca-1: the CRL's nextUpdate ") && err.contains(" was 1d ago\n"), "{err}");
    assert!(err.contains("warning: index.txt:3:1: ca-1: the line is left out: "), "{err}");
}

#[test]
fn an_index_without_a_line_is_a_warning_and_one_without_a_readable_line_a_fault() {
    let place = Place::new();
    place.write("index.txt", "");
    let (code, _, err) = place.check(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("warning: index.txt: ca-1: no certificate is listed: every one"), "{err}");
    for bad in [INDEX.replace('\t', " "), "V\t3612".into(), "\0".repeat(200_000)] {
        place.write("index.txt", &bad);
        let (code, _, err) = place.check(&[]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("error: ") && err.contains("index.txt: none of its "), "{err}");
    }
    // Nothing is wrong with these lines.
    for none in ["\n", "# by hand\n\n", "  \n"] {
        place.write("index.txt", none);
        let (code, _, err) = place.check(&[]);
        assert_eq!(code, Some(0), "{err}");
    }
}

#[test]
fn machines_get_one_json_object() {
    let place = Place::new();
    place.write("ca.crl", "no CRL");
    let (code, out, err) = place.check(&["--json"]);
    assert_eq!((code, err.as_str()), (Some(1), ""));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["ok"], &json["generation"]), (&false.into(), &1.into()));
    assert_eq!(json["faults"][0]["at"]["line"], 2);
    assert_eq!((&json["issuers"][0]["id"], &json["retired"][0]), (&"ca-1".into(), &"old".into()));
}

#[test]
fn the_effective_configuration_is_printed_and_reads_back() {
    let place = Place::new();
    let (code, out, _) = place.check(&["--effective"]);
    assert!(code == Some(0) && out.contains("\n[response]\nprofile = \"rfc9919\"\n"), "{out}");
    place.write("stillgood.toml", &out);
    assert_eq!(place.check(&["--effective"]).1, out);
}

#[test]
fn a_command_line_that_cannot_be_understood_is_2() {
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_stillgood")).args(args).output().unwrap().status.code();
    assert_eq!(run(&["check"]), Some(2));
    assert_eq!(run(&["chek"]), Some(2));
    assert_eq!(run(&["check", "--help"]), Some(0));
    assert_eq!(run(&["check", "--config", "/nonexistent"]), Some(1));
}

#[test]
fn ordered_signers_are_checked_where_they_lie_and_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path().join("ca-keys")).unwrap();
    let (ca_key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject = name(&[(Attribute::CommonName, "Check CA")]);
    let ca =
        CertificateSpec::ca(subject.clone(), ca_key.spki_der(), serial(1), days(place.now, -1), days(place.now, 365));
    let ca = ca.issue(&ca_key).unwrap();
    place.write("ca.pem", pem::encode("CERTIFICATE", ca.der()));
    place.write("ca-keys/ca-1.key", &*pkcs8);
    fs::set_permissions(place.path().join("ca-keys/ca-1.key"), Permissions::from_mode(0o600)).unwrap();
    let record = r#"{ "generation": 1, "issuers": [ { "id": "ca-1", "state": "active", "certificate": "ca.pem",
        "enrolment": "lab", "profile": "ocsp", "status": { "index": "index.txt" } } ] }"#;
    place.write("issuers.json", record);
    let config =
        "[registry]\nsource = \"issuers.json\"\n[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"ca-keys\"\n";
    place.write("stillgood.toml", config);
    let (code, out, err) = place.check(&[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("signer ordered from lab as ocsp, none there yet"), "{out}");

    let signers = place.path().join("state/signers");
    let slot = Slots::open(&signers).unwrap().0.slot("ca-1");
    for (order, issuer_key) in [("o1", &ca_key), ("o2", &place.ca_key)] {
        let make = |key: &SigningKey| ocsp_signer_request(&subject, &key.spki_der(), key);
        let spki = slot.order(order).prepare(KeyKind::EcdsaP256, make).unwrap().spki_der;
        let spec = CertificateSpec::ocsp_signer(&ca, subject.clone(), spki, serial(2), place.now, days(place.now, 30));
        slot.order(order).keep_certificate(&spec.sign(issuer_key).unwrap(), &[]).unwrap();
        slot.stage(order).unwrap();
        slot.activate(order, place.now).unwrap();
        let (code, out, err) = place.check(&[]);
        if order == "o1" {
            assert_eq!(code, Some(0), "{err}");
            assert!(out.contains("), order o1, ordered from lab as ocsp"), "{out}");
        } else {
            assert_eq!(code, Some(1), "{out}");
            assert!(err.contains("the signer's certificate is not signed by the CA's key"), "{err}");
        }
    }
    fs::write(signers.join("ca-1/o2.key"), "damaged").unwrap();
    place.write("stillgood.toml", format!("{config}validity = \"5d\"\n"));
    let (code, out, err) = place.check(&[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("o2.key") && err.contains("the one before it signs on"), "{err}");
    assert!(err.contains("enrolment lab issues for 5d, and a signer must live for more than 121h"), "{err}");
    assert!(out.contains("order o1"), "{out}");
    assert!(signers.join("ca-1/o2.key").exists(), "nothing is set aside by looking");
}

#[test]
fn a_registry_behind_a_url_is_checked_by_its_copy_and_nobody_is_contacted() {
    let place = Place::new();
    let config = "[registry]\nsource = \"https://127.0.0.1:1/issuers.json\"\ntrust = \"roots.pem\"\n";
    place.write("stillgood.toml", config);
    let (code, out, err) = place.check(&[]);
    assert!(code == Some(1) && err.contains("registry.trust: roots.pem: No such file"), "{err}");
    assert!(err.contains("nobody was contacted, and no copy is there yet") && out.contains("0 issuers"), "{err}{out}");

    place.write("roots.pem", pem::encode("CERTIFICATE", place.ca.der()));
    fs::create_dir_all(place.path().join("state/registry")).unwrap();
    place.write("state/registry/last-good.json", REGISTRY);
    let (code, out, err) = place.check(&[]);
    assert!(code == Some(0) && err.contains("the copy of what was fetched last"), "{err}");
    assert!(out.contains("ca-1: active") && out.contains("1 issuer to serve, 1 retired"), "{out}");

    // The signer as client certificate: what counts here is that the pair fits and is valid.
    place.write("stillgood.toml", format!("{config}client_certificate = \"ocsp.pem\"\nclient_key = \"ca.pem\"\n"));
    let (code, _, err) = place.check(&[]);
    assert!(code == Some(1) && err.contains("registry.client_certificate: "), "{err}");
    let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    place.write("client.key", &*pkcs8);
    fs::set_permissions(place.path().join("client.key"), Permissions::from_mode(0o600)).unwrap();
    place
        .write("stillgood.toml", format!("{config}client_certificate = \"client.pem\"\nclient_key = \"client.key\"\n"));
    for (since, left, is_near) in [(1, 5, false), (30, 30, false), (57, 3, true)] {
        let (from, to) = (days(place.now, -since), days(place.now, left));
        let client = CertificateSpec::ca(name(&[]), key.spki_der(), serial(9), from, to).issue(&key).unwrap();
        place.write("client.pem", pem::encode("CERTIFICATE", client.der()));
        let (code, _, err) = place.check(&[]);
        let told = err.contains("registry.client_certificate: ") && err.contains("nobody renews it");
        assert!(code == Some(0) && told == is_near, "{since} {left}: {err}");
    }
    place.write("state/registry/last-good.json", REGISTRY.replace("\"ca.pem\"", "\"../ca.pem\""));
    let (_, _, err) = place.check(&[]);
    assert!(err.contains("https://127.0.0.1:1/issuers.json:2:") && err.contains("leads out of"), "{err}");
}

#[test]
fn a_pipe_is_named_and_not_waited_for() {
    let pipe = |place: &Place, name: &str| {
        let _ = fs::remove_file(place.path().join(name));
        assert!(Command::new("mkfifo").arg(place.path().join(name)).status().unwrap().success());
    };
    for (name, told) in [
        ("issuers.json", "error: issuers.json: the registry cannot be read: not a regular file"),
        ("ca.pem", "ca-1.certificate: ca.pem: not a regular file"),
        ("ca.crl", "ca.crl: not a regular file"),
        ("ocsp.key", "ocsp.key: not a regular file"),
        ("trust.pem", "enrolment.est: trust.pem: not a regular file"),
    ] {
        let place = Place::new();
        place.write("trust.pem", pem::encode("CERTIFICATE", place.ca.der()));
        let est = "[enrolment.est]\nprotocol = \"est\"\nurl = \"https://ca.example\"\ntrust = \"trust.pem\"\n";
        place.write("stillgood.toml", format!("[registry]\nsource = \"issuers.json\"\n{est}"));
        pipe(&place, name);
        let (code, _, err) = place.check(&[]);
        assert!(code == Some(1) && err.contains(told), "{name}: {err}");
    }
}

#[test]
fn a_mount_that_serve_would_refuse_is_a_fault() {
    let place = Place::new();
    for mount in ["/a:b".to_owned(), format!("/{}", "a".repeat(257))] {
        place.write(
            "stillgood.toml",
            format!("[endpoint]\nmounts = [\"{mount}\"]\n[registry]\nsource = \"issuers.json\"\n"),
        );
        let (code, _, err) = place.check(&[]);
        assert!(code == Some(1) && err.contains("2:10: endpoint.mounts: mount prefix"), "{err}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_is_a_fault() {
    let place = Place::new();
    place.write("file", "");
    place.write("stillgood.toml", "state_dir = \"file/state\"\n[registry]\nsource = \"issuers.json\"\n");
    let (code, _, err) = place.check(&[]);
    assert!(
        code == Some(1) && err.contains("error: file/state: state_dir: it is not there, and file does not let it"),
        "{err}"
    );
}
