//! An EST server that misbehaves on request: mutual TLS, one label per CA, a mode per label that can be switched while it
//! runs, and a log of every request.
//!
//! Blocking, one thread per connection, written from the RFCs and not from the client. The files it writes into its
//! directory are what an agent needs: `roots.pem`, `agent.pem`, `agent.key`, and `{label}.pem` for each CA.

mod exchange;

use super::{DAY, serial};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use stillgood::signer::files::write_key;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock, Timestamp};
use stillgood::x509::issue::{Attribute, CertificateSpec, CertificationRequest, ExtensionSpec, name};
use stillgood::x509::{Certificate, KeyUsage, pem};

/// The label under which the agent's own certificate is renewed.
pub const AGENT: &str = "agent";
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// What a label does with the next requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Issues.
    Ok,
    /// Issues, but only after so long.
    Slow(Duration),
    /// Issues, and sends the chain first, in DER without base64.
    ChainFirstInDer,
    /// Issues, and ends the connection without having said so.
    OkAndClose,
    /// 202 with this Retry-After for so many requests, then issues.
    Later(&'static str, usize),
    /// A certificate for another key.
    WrongKey,
    /// Issued by a CA of the same name with another key.
    WrongIssuer,
    /// Expired yesterday.
    Expired,
    /// Valid from tomorrow.
    NotYetValid,
    /// Without extKeyUsage.
    NoEku,
    /// Without id-pkix-ocsp-nocheck.
    NoNocheck,
    /// Valid for so long from now.
    Life(Duration),
    /// Issues after a wait; valid from that moment on for so long, and not before.
    Fresh { life: Duration, after: Duration },
    /// 200 with octets that mean nothing.
    Garbage,
    /// 200 with a log-in page.
    Html,
    /// 200 with nothing.
    Empty,
    /// 200 with a body that is announced and sent as 100 MB.
    Huge,
    /// 200 with a body that is not announced and never ends.
    Endless,
    /// 200, one octet of body every 50 ms.
    Drip,
    /// 200, and the connection ends in the middle of the body.
    CutOff,
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// Something that is not HTTP.
    NotHttp,
    /// A head that never ends.
    EndlessHead,
    /// 302 to elsewhere.
    Redirect,
    /// A status with this Retry-After, if not empty, and a text.
    Status(u16, &'static str),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Since the start of the server.
    pub at: Duration,
    /// Which connection.
    pub connection: u64,
    pub label: String,
    pub operation: String,
    /// The SubjectPublicKeyInfo that was asked for; empty when there was no readable request.
    pub spki: Vec<u8>,
    /// The Authorization field.
    pub authorization: Option<String>,
    /// The serial number of the client's certificate.
    pub client: String,
    /// Requests being worked on at that moment, this one included.
    pub in_flight: usize,
}

pub struct Ca {
    pub key: SigningKey,
    pub certificate: Certificate,
}

/// A running server; dropping it ends it.
pub struct EstServer {
    shared: Arc<Shared>,
    pub directory: PathBuf,
    address: SocketAddr,
}

struct Shared {
    tls: Arc<rustls::ServerConfig>,
    cas: HashMap<String, Ca>,
    client_ca: Ca,
    modes: Mutex<HashMap<String, Mode>>,
    log: Mutex<Vec<Logged>>,
    began: Instant,
    port: u16,
    most_open: AtomicUsize,
    accepted: AtomicU64,
    in_flight: AtomicUsize,
    serials: AtomicU64,
    stop: AtomicBool,
}

impl EstServer {
    /// A server with a CA for each label; its files go to `directory`.
    pub fn start(directory: &Path, labels: &[&str]) -> Self {
        let server_ca = Ca::new("TLS root");
        let client_ca = Ca::new("Client root");
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let (from, to) = (now.minus(DAY), now.plus(365 * DAY));
        let server = CertificateSpec::tls_server(
            &server_ca.certificate,
            "localhost",
            "http://localhost/",
            key.spki_der(),
            serial(2),
            from,
            to,
        );
        let server = server.sign(&server_ca.key).unwrap();
        write(&directory.join("roots.pem"), server_ca.certificate.der());
        let cas: HashMap<_, _> = labels.iter().map(|l| ((*l).to_owned(), Ca::new(l))).collect();
        for (label, ca) in &cas {
            write(&directory.join(format!("{label}.pem")), ca.certificate.der());
        }

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(client_ca.certificate.der().to_vec().into()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![server.into(), server_ca.certificate.der().to_vec().into()],
                rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into(),
            )
            .unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tls: Arc::new(tls),
            cas,
            client_ca,
            modes: Mutex::default(),
            log: Mutex::default(),
            began: Instant::now(),
            port: address.port(),
            most_open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            serials: AtomicU64::new(1000),
            stop: AtomicBool::new(false),
        });
        let server = EstServer { shared: shared.clone(), directory: directory.to_owned(), address };
        server.write_agent(from, now.plus(30 * DAY));
        thread::spawn(move || accept(&listener, &shared));
        server
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Switches a label, from the next request on.
    pub fn set(&self, label: &str, mode: Mode) {
        self.shared.modes.lock().unwrap().insert(label.to_owned(), mode);
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Requests so far for one label.
    pub fn asked(&self, label: &str) -> usize {
        self.shared.log.lock().unwrap().iter().filter(|l| l.label == label).count()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        established(self.shared.port)
    }

    /// The most connections that were open at a time.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    pub fn ca(&self, label: &str) -> &Ca {
        &self.shared.cas[label]
    }

    pub fn agent_files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("agent.pem"), self.directory.join("agent.key"))
    }

    /// Writes a client certificate of this validity, over the one that is there.
    pub fn write_agent(&self, not_before: Timestamp, not_after: Timestamp) -> Certificate {
        self.write_agent_of(KeyKind::EcdsaP256, not_before, not_after)
    }

    /// The same, with this kind of key.
    pub fn write_agent_of(&self, kind: KeyKind, not_before: Timestamp, not_after: Timestamp) -> Certificate {
        let (key, pkcs8) = SigningKey::generate(kind).unwrap();
        let certificate = self.shared.client_ca.client(key.spki_der(), self.shared.serial(), not_before, not_after);
        let (certificate_file, key_file) = self.agent_files();
        let _ = std::fs::remove_file(&key_file);
        write_key(&key_file, &pkcs8).unwrap();
        write(&certificate_file, certificate.der());
        certificate
    }
}

impl Drop for EstServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Ca {
    pub fn new(common_name: &str) -> Self {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let now = SystemClock.now();
        let spec =
            CertificateSpec::ca(subject(common_name), key.spki_der(), serial(1), now.minus(DAY), now.plus(3650 * DAY));
        let certificate = spec.issue(&key).unwrap();
        Ca { key, certificate }
    }

    fn client(
        &self,
        spki: Vec<u8>,
        serial: stillgood::ocsp::Serial,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Certificate {
        let spec = CertificateSpec::ocsp_signer(&self.certificate, subject(AGENT), spki, serial, not_before, not_after);
        let spec = spec.without(&ExtensionSpec::nocheck()).with(ExtensionSpec::extended_key_usage(&[CLIENT_AUTH]));
        spec.issue(&self.key).unwrap()
    }
}

impl Shared {
    fn serial(&self) -> stillgood::ocsp::Serial {
        serial(self.serials.fetch_add(1, Ordering::SeqCst))
    }

    /// The certificates for a request, as a mode has them.
    fn issue(&self, label: &str, request: &CertificationRequest, mode: &Mode) -> Vec<Vec<u8>> {
        let now = SystemClock.now();
        let (mut from, mut to) = (now.minus(Duration::from_secs(3600)), now.plus(30 * DAY));
        match mode {
            Mode::Expired => (from, to) = (now.minus(2 * DAY), now.minus(DAY)),
            Mode::NotYetValid => from = now.plus(DAY),
            Mode::Life(life) => to = now.plus(*life),
            Mode::Fresh { life, .. } => (from, to) = (now, now.plus(*life)),
            _ => {}
        }
        let mut spki = request.spki.clone();
        if *mode == Mode::WrongKey {
            spki = SigningKey::generate(KeyKind::EcdsaP256).unwrap().0.spki_der();
        }
        if label == AGENT {
            return vec![self.client_ca.client(spki, self.serial(), from, to).der().to_vec()];
        }
        let ca = &self.cas[label];
        let mut spec =
            CertificateSpec::ocsp_signer(&ca.certificate, request.subject.clone(), spki, self.serial(), from, to);
        match mode {
            Mode::NoEku => spec = spec.without(&ExtensionSpec::ocsp_signing()),
            Mode::NoNocheck => spec = spec.without(&ExtensionSpec::nocheck()),
            _ => {}
        }
        spec = spec.with(ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE));
        let other = Ca::new(label);
        let signed = spec.sign(if *mode == Mode::WrongIssuer { &other.key } else { &ca.key }).unwrap();
        match mode {
            Mode::ChainFirstInDer => vec![ca.certificate.der().to_vec(), signed],
            _ => vec![signed],
        }
    }
}

/// The table is not read in one instant, so a connection closed and one made meanwhile may both stand in it: what is
/// there in each of a few readings was there.
fn steadily_open(port: u16) -> usize {
    let again = (0..3).map(|_| {
        thread::sleep(Duration::from_millis(2));
        established(port)
    });
    again.min().unwrap()
}

/// Connections to a port that neither side has closed, as the kernel knows them: threads notice too late.
fn established(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let is_ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == ESTABLISHED
    };
    table.lines().skip(1).filter(is_ours).count()
}

fn subject(common_name: &str) -> Vec<u8> {
    name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, common_name)])
}

fn write(path: &Path, der: &[u8]) {
    std::fs::write(path, pem::encode("CERTIFICATE", der)).unwrap();
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.most_open.fetch_max(steadily_open(shared.port), Ordering::SeqCst);
        thread::spawn(move || {
            let _ = exchange::connection(stream, id, &shared);
        });
    }
}
