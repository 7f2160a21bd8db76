//! The responder as a whole, from files to HTTP.

mod common;

use common::{DAY, Lab, eventually, long_serial, request, serial};
use der07::Decode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::endpoint::{Handle, Server, Settings};
use stillgood::ocsp::{HashAlgorithm, Profile, Reason, Serial, Unissued};
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::{KeyKind, Signer, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{CrlEntry, CrlSpec};
use stillgood::x509::pem::encode as pem;
use x509_ocsp::{BasicOcspResponse, CertStatus as Status, OcspResponse, OcspResponseStatus};

const LIMIT: Duration = Duration::from_secs(60);

struct Site {
    dir: tempfile::TempDir,
    lab: Lab,
    responder: Responder,
    handle: Handle,
}

fn write_signer(dir: &Path, lab: &Lab, kind: KeyKind) {
    // The lab's own key object cannot be written out again; make a pair whose octets are known.
    let (key, pkcs8) = SigningKey::generate(kind).unwrap();
    let now = SystemClock.now();
    let subject = lab.signer.subject_der().to_vec();
    let spec = stillgood::x509::issue::CertificateSpec::ocsp_signer(
        &lab.ca,
        subject,
        key.spki_der(),
        serial(77),
        now.minus(DAY),
        now.plus(30 * DAY),
    );
    let certificate = spec.issue(&lab.ca_key).unwrap();
    assert_eq!(key.public_key_bits(), certificate.key_bits());
    std::fs::write(dir.join("ocsp.key.new"), pkcs8.as_slice()).unwrap();
    std::fs::set_permissions(dir.join("ocsp.key.new"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.join("ocsp.pem.new"), pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::rename(dir.join("ocsp.key.new"), dir.join("ocsp.key")).unwrap();
    std::fs::rename(dir.join("ocsp.pem.new"), dir.join("ocsp.pem")).unwrap();
}

fn index_line(n: u64, revoked: bool) -> String {
    let (what, when) = if revoked { ("R", "251101000000Z,keyCompromise") } else { ("V", "") };
    format!("{what}\t361231235959Z\t{when}\t{}\tunknown\t/CN=leaf {n}\n", long_serial(n))
}

fn write_index(dir: &Path, n: u64, revoked: &[u64]) {
    let text: String = (0..n).map(|i| index_line(i, revoked.contains(&i))).collect();
    std::fs::write(dir.join("index.new"), text).unwrap();
    std::fs::rename(dir.join("index.new"), dir.join("index.txt")).unwrap();
}

fn write_crl(dir: &Path, lab: &Lab, revoked: &[u64], life: Duration) {
    let now = SystemClock.now();
    let entries = revoked.iter().map(|n| CrlEntry {
        serial: long_serial(*n),
        revoked_at: now.minus(Duration::from_secs(100)),
        reason: Some(Reason::Superseded),
    });
    let crl = CrlSpec {
        issuer: lab.ca.subject_der().to_vec(),
        this_update: now.minus(Duration::from_secs(60)),
        next_update: Some(now.plus(life)),
        entries: entries.collect(),
        extensions: vec![CrlSpec::number(1)],
    };
    std::fs::write(dir.join("crl.new"), crl.sign(&lab.ca_key).unwrap()).unwrap();
    std::fs::rename(dir.join("crl.new"), dir.join("ca.crl")).unwrap();
}

fn site(sources: &[&str], settings: IssuerSettings, demand: DemandSettings) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new("Site");
    std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer(dir.path(), &lab, KeyKind::EcdsaP256);
    write_index(dir.path(), 500, &[3]);
    write_crl(dir.path(), &lab, &[9], DAY);
    let responder = Responder::start(ResponderSettings { demand, ..ResponderSettings::default() });
    let mut spec = IssuerSpec::from_files("ca", &dir.path().join("ca.pem"))
        .unwrap()
        .with_signer(dir.path().join("ocsp.pem"), dir.path().join("ocsp.key"))
        .with_settings(settings);
    for source in sources {
        spec = match *source {
            "index" => spec.with_index(dir.path().join("index.txt")),
            _ => spec.with_crl(dir.path().join("ca.crl")),
        };
    }
    responder.set_issuers(vec![spec]);
    let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 2, ..Settings::default() };
    let handle = Server::start(&responder.service(), listen).unwrap();
    Site { dir, lab, responder, handle }
}

fn post(to: SocketAddr, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8(answer[..at].to_vec()).unwrap().to_ascii_lowercase(), answer[at..].to_vec())
}

#[derive(Debug, PartialEq)]
enum Said {
    Good,
    Revoked,
    Unknown,
    Error(u8),
}

impl Site {
    fn to(&self) -> SocketAddr {
        self.handle.addresses()[0]
    }

    fn ask(&self, algorithm: HashAlgorithm, serials: &[Serial], nonce: Option<&[u8]>) -> (String, Vec<u8>) {
        post(self.to(), &request(&self.lab.hashes(algorithm), serials, nonce))
    }

    fn said(&self, algorithm: HashAlgorithm, n: u64) -> Said {
        let said = read(&self.ask(algorithm, &[long_serial(n)], None).1);
        assert!(said.len() == 1);
        said.into_iter().next().unwrap()
    }
}

/// Reads a response with another library.
fn read(der: &[u8]) -> Vec<Said> {
    let response = OcspResponse::from_der(der).unwrap();
    if response.response_status != OcspResponseStatus::Successful {
        return vec![Said::Error(response.response_status as u8)];
    }
    let basic = basic(der);
    basic
        .tbs_response_data
        .responses
        .iter()
        .map(|single| match single.cert_status {
            Status::Good(_) => Said::Good,
            Status::Revoked(_) => Said::Revoked,
            Status::Unknown(_) => Said::Unknown,
        })
        .collect()
}

fn basic(der: &[u8]) -> BasicOcspResponse {
    let response = OcspResponse::from_der(der).unwrap();
    BasicOcspResponse::from_der(response.response_bytes.unwrap().response.as_bytes()).unwrap()
}

#[test]
fn an_index_is_served_and_followed() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    assert_eq!(site.said(HashAlgorithm::Sha1, 3), Said::Revoked);
    assert_eq!(site.said(HashAlgorithm::Sha1, 500), Said::Error(6), "not issued: unauthorized");

    write_index(site.dir.path(), 501, &[3, 5]);
    let start = Instant::now();
    eventually(LIMIT, "revoked", || site.said(HashAlgorithm::Sha1, 5) == Said::Revoked);
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    eventually(LIMIT, "issued", || site.said(HashAlgorithm::Sha1, 500) == Said::Good);

    // A file that is no index at all: the previous statuses are used on and the fault is told.
    std::fs::remove_file(site.dir.path().join("index.txt")).unwrap();
    eventually(LIMIT, "told", || {
        site.responder.reports()[0].status_fault.as_ref().is_some_and(|f| f.contains("index.txt"))
    });
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Revoked);
    write_index(site.dir.path(), 501, &[3]);
    eventually(LIMIT, "taken over again", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    assert_eq!(site.responder.reports()[0].status_fault, None);
}

#[test]
fn an_issuer_that_has_only_a_crl_is_answered_good_on_demand_and_once() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    let (_, first) = site.ask(HashAlgorithm::Sha1, &[long_serial(1)], None);
    assert_eq!(read(&first), [Said::Good]);
    for _ in 0..20 {
        assert_eq!(site.ask(HashAlgorithm::Sha1, &[long_serial(1)], None).1, first, "kept, not signed again");
    }
    assert_eq!(site.responder.demand_stats().signed, 1);

    // It appears in the next CRL: what was kept must not be given any more.
    write_crl(site.dir.path(), &site.lab, &[1, 9], DAY);
    eventually(LIMIT, "revoked", || site.said(HashAlgorithm::Sha1, 1) == Said::Revoked);
}

#[test]
fn many_who_ask_for_the_same_at_once_cost_one_signature() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    let before = site.responder.demand_stats().signed;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(site.said(HashAlgorithm::Sha1, 12345), Said::Good));
        }
    });
    assert_eq!(site.responder.demand_stats().signed, before + 1);
}

#[test]
fn an_expired_crl_vouches_for_nobody_but_its_revocations_stand() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    write_crl(site.dir.path(), &site.lab, &[9], Duration::from_secs(1));
    eventually(LIMIT, "shown as expired", || site.said(HashAlgorithm::Sha1, 77) == Said::Error(3));
    assert_eq!(site.said(HashAlgorithm::Sha1, 9), Said::Revoked);
}

#[test]
fn each_hash_is_answered_in_its_own() {
    let site = site(&["index", "crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    for algorithm in HashAlgorithm::ALL {
        let (_, der) = site.ask(algorithm, &[long_serial(5)], None);
        let single = &basic(&der).tbs_response_data.responses[0];
        assert_eq!(single.cert_id.issuer_name_hash.as_bytes(), site.lab.hashes(algorithm).name.as_bytes());
        assert_eq!(site.said(algorithm, 3), Said::Revoked, "by the index");
        assert_eq!(site.said(algorithm, 9), Said::Revoked, "by the CRL");
        assert_eq!(site.said(algorithm, 4711), Said::Error(6));
    }
}

#[test]
fn several_certificates_are_answered_together_and_foreign_ones_refused() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let all = [long_serial(5), long_serial(3), long_serial(4711), long_serial(5)];
    let (_, der) = site.ask(HashAlgorithm::Sha1, &all, None);
    assert_eq!(read(&der), [Said::Good, Said::Revoked, Said::Unknown, Said::Good]);
    let none = [long_serial(4711), long_serial(4712)];
    assert_eq!(read(&site.ask(HashAlgorithm::Sha1, &none, None).1), [Said::Error(6)]);
    let foreign = Lab::new("Foreign");
    assert_eq!(read(&post(site.to(), &request(&foreign.hashes(HashAlgorithm::Sha1), &all, None)).1), [Said::Error(6)]);
}

#[test]
fn nonces_are_echoed_where_the_issuer_wants_them_and_ignored_elsewhere() {
    let nonce = [0x5a_u8; 32];
    let holds = |der: &[u8]| der.windows(32).any(|w| w == nonce);
    let with = IssuerSettings { answers_nonces: true, ..IssuerSettings::default() };
    let site_with = site(&["index"], with, DemandSettings { rate: 4, ..DemandSettings::default() });
    eventually(LIMIT, "served", || site_with.said(HashAlgorithm::Sha1, 5) == Said::Good);
    eventually(LIMIT, "the next second's budget", || {
        let (head, der) = site_with.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce));
        assert_eq!(read(&der), [Said::Good]);
        if holds(&der) {
            assert!(head.contains("no-store"), "{head}");
        }
        holds(&der)
    });
    // Beyond the budget the answer comes without a nonce instead of not at all.
    let echoed =
        (0..50).filter(|_| holds(&site_with.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce)).1)).count();
    assert!((0..=20).contains(&echoed), "{echoed} of 50 at two a second");

    let without = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || without.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let (head, der) = without.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce));
    assert!(!holds(&der) && head.contains("max-age"), "{head}");
}

#[test]
fn what_was_not_issued_is_answered_as_the_profile_says() {
    for (unissued, said, extended) in [
        (Unissued::Unauthorized, Said::Error(6), false),
        (Unissued::Unknown, Said::Unknown, false),
        (Unissued::Good, Said::Good, false),
        (Unissued::Revoked, Said::Revoked, true),
    ] {
        let settings = IssuerSettings { profile: Profile::Rfc6960, unissued, ..IssuerSettings::default() };
        let site = site(&["index"], settings, DemandSettings::default());
        eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
        let (_, der) = site.ask(HashAlgorithm::Sha1, &[long_serial(4711)], None);
        assert_eq!(read(&der), [said]);
        let oid = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x09];
        assert_eq!(der.windows(oid.len()).any(|w| w == oid), extended, "RFC 6960 §4.4.8");
        if extended {
            let text = String::from_utf8_lossy(&der).into_owned();
            assert!(text.contains("19700101000000Z"));
        }
    }
}

#[test]
fn a_flood_of_random_serials_is_shed_and_what_lies_ready_is_served_on() {
    let demand = DemandSettings { rate: 50, queue: 16, cache: 1 << 20, ..DemandSettings::default() };
    let site = site(&["crl"], IssuerSettings::default(), demand);
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    let mut later = 0;
    for n in 0..3000 {
        match site.said(HashAlgorithm::Sha1, 1_000_000 + n) {
            Said::Error(3) => later += 1,
            other => assert_eq!(other, Said::Good),
        }
        if n % 100 == 0 {
            assert_eq!(site.said(HashAlgorithm::Sha1, 9), Said::Revoked);
        }
    }
    assert!(later > 1000, "only {later} of 3000 were told tryLater at 50 a second");
    assert!(site.responder.demand_stats().cache_weight <= 1 << 20);
}

#[test]
fn a_new_signer_is_taken_into_use_and_a_bad_one_is_not() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let serial_in_use = || site.responder.reports()[0].signer.as_ref().unwrap().not_before;
    let _ = serial_in_use();
    std::fs::write(site.dir.path().join("ocsp.pem"), "nonsense").unwrap();
    eventually(LIMIT, "refused", || {
        site.responder.reports()[0].signer_fault.as_ref().is_some_and(|f| f.contains("ocsp.pem"))
    });
    assert_eq!(site.said(HashAlgorithm::Sha256, 6), Said::Good, "the signer in use stays, and signs");
    write_signer(site.dir.path(), &site.lab, KeyKind::Ed25519);
    eventually(LIMIT, "taken", || {
        let report = &site.responder.reports()[0];
        report.signer_fault.is_none() && report.signer.as_ref().unwrap().algorithm == "ed25519"
    });
    assert_eq!(site.said(HashAlgorithm::Sha384, 6), Said::Good);
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Good);
}

#[test]
fn an_issuer_that_is_taken_out_is_unauthorized_at_once() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    site.responder.set_issuers(Vec::new());
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Error(6));
}

#[test]
fn the_ca_itself_may_sign_and_puts_no_certificate_in() {
    let dir = tempfile::tempdir().unwrap();
    let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let now = SystemClock.now();
    let name = stillgood::x509::issue::name(&[(stillgood::x509::issue::Attribute::CommonName, "Direct")]);
    let ca = stillgood::x509::issue::CertificateSpec::ca(
        name,
        key.spki_der(),
        serial(1),
        now.minus(DAY),
        now.plus(90 * DAY),
    )
    .issue(&key)
    .unwrap();
    std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", ca.der())).unwrap();
    std::fs::write(dir.path().join("ca.key"), pkcs8.as_slice()).unwrap();
    std::fs::set_permissions(dir.path().join("ca.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    write_index(dir.path(), 10, &[]);
    let responder = Responder::start(ResponderSettings::default());
    let spec = IssuerSpec::from_files("direct", &dir.path().join("ca.pem"))
        .unwrap()
        .with_signer(dir.path().join("ca.pem"), dir.path().join("ca.key"))
        .with_index(dir.path().join("index.txt"));
    responder.set_issuers(vec![spec]);
    let der = request(&ca.issuer_hashes(HashAlgorithm::Sha1), &[long_serial(1)], None);
    let service = Arc::new(responder);
    let mut out = Vec::new();
    eventually(LIMIT, "signed", || {
        out.clear();
        let parsed = stillgood::ocsp::Request::parse(&der).unwrap();
        matches!(service.store().answer(&parsed, SystemClock.now(), &mut out), stillgood::store::Lookup::Ready { .. })
    });
    assert!(basic(&out).certs.is_none(), "RFC 6960 §4.2.1: left out, not empty");
}
