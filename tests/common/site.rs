//! A responder over files of a lab, served over HTTP, and its answers read with another library.

use super::{DAY, Lab, long_serial, request, serial};
use der07::Decode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use stillgood::endpoint::{Handle, Server, Settings};
use stillgood::ocsp::{HashAlgorithm, Reason, Serial};
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::{KeyKind, Signer, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{CrlEntry, CrlSpec, ExtensionSpec};
use stillgood::x509::pem::encode as pem;
use x509_ocsp::{BasicOcspResponse, CertStatus as Status, OcspResponse, OcspResponseStatus};

pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Site {
    pub dir: tempfile::TempDir,
    pub lab: Lab,
    pub responder: Responder,
    pub handle: Handle,
}

pub fn write_signer(dir: &Path, lab: &Lab, kind: KeyKind) {
    write_signer_for(dir, lab, kind, 30 * DAY);
}

/// A signer that has so long to live.
pub fn write_signer_for(dir: &Path, lab: &Lab, kind: KeyKind, life: Duration) {
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
        now.plus(life),
    );
    let certificate = spec.issue(&lab.ca_key).unwrap();
    assert_eq!(key.public_key_bits(), certificate.key_bits());
    std::fs::write(dir.join("ocsp.key.new"), pkcs8.as_slice()).unwrap();
    std::fs::set_permissions(dir.join("ocsp.key.new"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.join("ocsp.pem.new"), pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::rename(dir.join("ocsp.key.new"), dir.join("ocsp.key")).unwrap();
    std::fs::rename(dir.join("ocsp.pem.new"), dir.join("ocsp.pem")).unwrap();
}

pub fn index_line(n: u64, revoked: bool) -> String {
    let (what, when) = if revoked { ("R", "251101000000Z,keyCompromise") } else { ("V", "") };
    format!("{what}\t361231235959Z\t{when}\t{}\tunknown\t/CN=leaf {n}\n", long_serial(n))
}

pub fn write_index(dir: &Path, n: u64, revoked: &[u64]) {
    let text: String = (0..n).map(|i| index_line(i, revoked.contains(&i))).collect();
    std::fs::write(dir.join("index.new"), text).unwrap();
    std::fs::rename(dir.join("index.new"), dir.join("index.txt")).unwrap();
}

pub fn write_crl(dir: &Path, lab: &Lab, revoked: &[u64], life: Duration) {
    write_limited_crl(dir, lab, revoked, life, &[]);
}

/// `scope`: the fields of an issuingDistributionPoint.
pub fn write_limited_crl(dir: &Path, lab: &Lab, revoked: &[u64], life: Duration, scope: &[u8]) {
    let now = SystemClock.now();
    let entries = revoked.iter().map(|n| CrlEntry {
        serial: long_serial(*n),
        revoked_at: now.minus(Duration::from_secs(100)),
        reason: Some(Reason::Superseded),
    });
    let mut extensions = vec![CrlSpec::number(1)];
    if !scope.is_empty() {
        let content = [&[0x30, u8::try_from(scope.len()).unwrap()], scope].concat();
        extensions.push(ExtensionSpec::new(&[0x55, 0x1d, 0x1c], true, content));
    }
    let crl = CrlSpec {
        issuer: lab.ca.subject_der().to_vec(),
        this_update: now.minus(Duration::from_secs(60)),
        next_update: Some(now.plus(life)),
        entries: entries.collect(),
        extensions,
    };
    std::fs::write(dir.join("crl.new"), crl.sign(&lab.ca_key).unwrap()).unwrap();
    std::fs::rename(dir.join("crl.new"), dir.join("ca.crl")).unwrap();
}

pub fn site(sources: &[&str], settings: IssuerSettings, demand: DemandSettings) -> Site {
    let (dir, lab) = files();
    serve(dir, lab, sources, settings, ResponderSettings { demand, ..ResponderSettings::default() })
}

/// What a site is made of.
pub fn files() -> (tempfile::TempDir, Lab) {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new("Site");
    std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer(dir.path(), &lab, KeyKind::EcdsaP256);
    write_index(dir.path(), 500, &[3]);
    write_crl(dir.path(), &lab, &[9], DAY);
    (dir, lab)
}

pub fn serve(
    dir: tempfile::TempDir,
    lab: Lab,
    sources: &[&str],
    settings: IssuerSettings,
    responder: ResponderSettings,
) -> Site {
    let responder = Responder::start(responder);
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

pub fn post(to: SocketAddr, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8(answer[..at].to_vec()).unwrap().to_ascii_lowercase(), answer[at..].to_vec())
}

#[derive(Debug, PartialEq)]
pub enum Said {
    Good,
    Revoked,
    Unknown,
    Error(u8),
}

impl Site {
    pub fn to(&self) -> SocketAddr {
        self.handle.addresses()[0]
    }

    pub fn ask(&self, algorithm: HashAlgorithm, serials: &[Serial], nonce: Option<&[u8]>) -> (String, Vec<u8>) {
        post(self.to(), &request(&self.lab.hashes(algorithm), serials, nonce))
    }

    pub fn said(&self, algorithm: HashAlgorithm, n: u64) -> Said {
        let said = read(&self.ask(algorithm, &[long_serial(n)], None).1);
        assert!(said.len() == 1);
        said.into_iter().next().unwrap()
    }
}

/// Reads a response with another library.
pub fn read(der: &[u8]) -> Vec<Said> {
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

pub fn basic(der: &[u8]) -> BasicOcspResponse {
    let response = OcspResponse::from_der(der).unwrap();
    BasicOcspResponse::from_der(response.response_bytes.unwrap().response.as_bytes()).unwrap()
}
