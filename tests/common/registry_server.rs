//! A web server with one document that misbehaves on request: TLS with a client certificate or without, conditional requests, a
//! mode that can be switched while it runs, and a log.
//!
//! Blocking, one thread per connection, written from RFC 9110 and not from the client. The files a client needs are in its
//! directory: `web-roots.pem`, `web-client.pem`, `web-client.key`.

use super::est_server::Ca;
use super::{DAY, serial};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use stillgood::signer::files::write_key;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{CertificateSpec, ExtensionSpec};
use stillgood::x509::pem;

const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// A connection on which nothing comes for so long is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// What is done with the next requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// The document; 304 if the client has it.
    Ok,
    /// The document, never an ETag.
    NoEtag,
    /// 304 whatever was asked.
    Always304,
    /// This status and a short text.
    Status(u16),
    /// 302 to this server's own document under another name.
    Redirect,
    /// 200 with octets that mean nothing.
    Garbage,
    /// 200 with a Content-Encoding that was not asked for.
    Gzip,
    /// 200, announced and sent as 100 MB.
    Huge,
    /// 200, in chunks, without an end.
    Endless,
    /// 200, one octet every 50 ms.
    Drip,
    /// The document, cut off in the middle of what was announced.
    CutOff,
    /// Reads the request and says nothing.
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// Something that is not HTTP.
    NotHttp,
}

/// A running server; dropping it ends it.
pub struct RegistryServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    pub directory: PathBuf,
}

struct Shared {
    tls: Arc<rustls::ServerConfig>,
    mode: Mutex<Mode>,
    document: Mutex<Vec<u8>>,
    /// When each request came, and whether it was answered by 304.
    log: Mutex<Vec<(Instant, bool)>>,
    open: AtomicUsize,
    stop: AtomicBool,
}

impl RegistryServer {
    /// A server whose files go to `directory`; it asks for a client certificate if it is `mutual`.
    pub fn start(directory: &Path, mutual: bool) -> Self {
        let (server_ca, client_ca) = (Ca::new("Web root"), Ca::new("Web client root"));
        let now = SystemClock.now();
        let (from, to) = (now.minus(DAY), now.plus(30 * DAY));
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let host = "localhost";
        let spec = CertificateSpec::tls_server(
            &server_ca.certificate,
            host,
            "http://localhost/",
            key.spki_der(),
            serial(2),
            from,
            to,
        );
        let certificate = spec.sign(&server_ca.key).unwrap();
        write_pem(&directory.join("web-roots.pem"), server_ca.certificate.der());

        let (client_key, client_pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = server_ca.certificate.subject_der().to_vec();
        let client =
            CertificateSpec::ocsp_signer(&client_ca.certificate, subject, client_key.spki_der(), serial(3), from, to);
        let client = client.without(&ExtensionSpec::nocheck()).with(ExtensionSpec::extended_key_usage(&[CLIENT_AUTH]));
        write_pem(&directory.join("web-client.pem"), client.issue(&client_ca.key).unwrap().der());
        write_key(&directory.join("web-client.key"), &client_pkcs8).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client_ca.certificate.der().to_vec().into()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        let tls = builder.with_single_cert(vec![certificate.into()], key.into()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tls: Arc::new(tls),
            mode: Mutex::new(Mode::Ok),
            document: Mutex::default(),
            log: Mutex::default(),
            open: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let server = RegistryServer { shared: shared.clone(), address, directory: directory.to_owned() };
        thread::spawn(move || accept(&listener, &shared));
        server
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/pki/issuers.json", self.address.port())
    }

    /// Publishes a document, from the next request on.
    pub fn publish(&self, document: &str) {
        *self.shared.document.lock().unwrap() = document.as_bytes().to_vec();
    }

    /// Switches, from the next request on.
    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.shared.log.lock().unwrap().len()
    }

    /// When requests came.
    pub fn times(&self) -> Vec<Instant> {
        self.shared.log.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }

    /// Requests so far that were answered by 304.
    pub fn not_modified(&self) -> usize {
        self.shared.log.lock().unwrap().iter().filter(|(_, not_modified)| *not_modified).count()
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let shared = shared.clone();
        thread::spawn(move || {
            shared.open.fetch_add(1, Ordering::SeqCst);
            // A client that goes away is what the tests are about.
            let _ = connection(tcp, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

type Stream = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

fn connection(tcp: TcpStream, shared: &Shared) -> io::Result<()> {
    tcp.set_read_timeout(Some(FORGET))?;
    tcp.set_nodelay(true)?;
    let tls = rustls::ServerConnection::new(shared.tls.clone()).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    while let Some(head) = head(&mut stream)? {
        if !answer(&mut stream, shared, &head)? {
            return Ok(());
        }
    }
    Ok(())
}

fn head(stream: &mut Stream) -> io::Result<Option<String>> {
    let mut octets = Vec::new();
    let mut piece = [0; 1024];
    while !octets.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            n => octets.extend_from_slice(&piece[..n]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&octets).into_owned()))
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
}

/// Answers as the mode has it; `false` when the connection is to end.
fn answer(stream: &mut Stream, shared: &Shared, head: &str) -> io::Result<bool> {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    assert!(head.starts_with("GET /pki/issuers.json HTTP/1.1\r\n"), "{head}");
    let (mode, document) = (shared.mode.lock().unwrap().clone(), shared.document.lock().unwrap().clone());
    let etag = format!("\"{:016x}\"", document.iter().fold(7_u64, |h, b| h.wrapping_mul(31) ^ u64::from(*b)));
    let has_it = field(head, "if-none-match").is_some_and(|known| known == etag);
    let not_modified = mode == Mode::Ok && has_it || mode == Mode::Always304;
    shared.log.lock().unwrap().push((Instant::now(), not_modified));
    if not_modified {
        stream.write_all(format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n").as_bytes())?;
        return Ok(true);
    }
    match mode {
        Mode::Ok => reply(stream, "200 OK", &format!("ETag: {etag}\r\n"), &document),
        Mode::NoEtag | Mode::Always304 => reply(stream, "200 OK", "", &document),
        Mode::Status(status) => reply(stream, &format!("{status} Status"), "", b"as the test wants it"),
        Mode::Redirect => reply(stream, "302 Found", "Location: /pki/elsewhere.json\r\n", b""),
        Mode::Garbage => reply(stream, "200 OK", "", &[0xff, 0, 1, 2, 3]),
        Mode::Gzip => reply(stream, "200 OK", "Content-Encoding: gzip\r\n", &document),
        Mode::Huge => {
            stream.write_all(format!("{OK}Content-Length: 100000000\r\n\r\n").as_bytes())?;
            (0..1600).try_for_each(|_| stream.write_all(&[b' '; 62_500])).map(|()| false)
        }
        Mode::Endless => {
            stream.write_all(format!("{OK}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            while !shared.stop.load(Ordering::SeqCst) {
                stream.write_all(&[b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat())?;
            }
            Ok(false)
        }
        Mode::Drip => {
            stream.write_all(format!("{OK}Content-Length: 2000\r\n\r\n").as_bytes())?;
            while !closed_within(stream, Duration::from_millis(50)) && !shared.stop.load(Ordering::SeqCst) {
                stream.write_all(b" ")?;
            }
            Ok(false)
        }
        Mode::CutOff => {
            let half = &document[..document.len() / 2];
            stream.write_all(format!("{OK}ETag: {etag}\r\nContent-Length: {}\r\n\r\n", document.len()).as_bytes())?;
            stream.write_all(half).map(|()| false)
        }
        Mode::Hang => {
            closed_within(stream, FORGET);
            Ok(false)
        }
        Mode::Reset => {
            socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO))?;
            Ok(false)
        }
        Mode::NotHttp => stream.write_all(b"220 mail.example ESMTP\r\n\r\n").map(|()| false),
    }
}

fn reply(stream: &mut Stream, status: &str, fields: &str, body: &[u8]) -> io::Result<bool> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    stream.flush().map(|()| true)
}

/// Waits, and returns early with `true` when the client has closed.
fn closed_within(stream: &Stream, wait: Duration) -> bool {
    let _ = stream.sock.set_read_timeout(Some(wait));
    let closed = match stream.sock.peek(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    };
    let _ = stream.sock.set_read_timeout(Some(FORGET));
    closed
}

fn write_pem(path: &Path, der: &[u8]) {
    std::fs::write(path, pem::encode("CERTIFICATE", der)).unwrap();
}
