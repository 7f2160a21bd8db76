//! A source that needs no PKI, and a client that sends what it is told, byte for byte.

use bytes::Bytes;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use stillgood::endpoint::{
    Answer, Freshness, Handle, Limits, Live, Mounts, OnDemand, Server, Service, Settings, Source, StatusKind,
};
use stillgood::ocsp::{ErrorStatus, Request};
use stillgood::time::{ManualClock, Timestamp};

/// 2023-11-14T22:13:20Z
pub const NOW: Timestamp = Timestamp::from_unix(1_700_000_000);

// Serials, by what the fake does with them.
pub const READY: u8 = 1;
pub const UNAUTHORIZED: u8 = 2;
pub const LIVE: u8 = 3;
pub const LIVE_ONCE: u8 = 4;
pub const LIVE_REFUSED: u8 = 5;
pub const EXPIRED: u8 = 6;
pub const LIVE_SLOW: u8 = 7;
pub const EMPTY: u8 = 8;
pub const PANICS: u8 = 9;
pub const LARGE: u8 = 10;
pub const LIVE_NEVER: u8 = 11;
pub const REVOKED: u8 = 12;

pub const SLOW: Duration = Duration::from_millis(300);

pub struct Fake;

fn freshness(status: StatusKind) -> Freshness {
    Freshness {
        this_update: NOW.minus(Duration::from_secs(300)),
        next_update: NOW.plus(Duration::from_secs(4 * 86_400)),
        refresh_at: NOW.plus(Duration::from_secs(86_400)),
        status,
        is_provisional: false,
        validator: None,
    }
}

fn serial(request: &Request<'_>) -> u8 {
    request.first.der.last().copied().unwrap()
}

/// The signed answer for a serial: no OCSPResponse, but the endpoint does not look into it.
pub fn signed(serial: u8) -> Vec<u8> {
    let len = if serial == LARGE { 60_000 } else { 600 };
    (0..len).map(|n: u32| (n as u8).wrapping_mul(31) ^ serial).collect()
}

impl Source for Fake {
    fn answer(&self, request: &Request<'_>, _now: Timestamp, out: &mut Vec<u8>) -> Answer {
        assert!(out.is_empty());
        match serial(request) {
            serial @ (READY | LARGE) => {
                out.extend_from_slice(&signed(serial));
                Answer::Ready(freshness(StatusKind::Good))
            }
            REVOKED => {
                out.extend_from_slice(&signed(REVOKED));
                Answer::Ready(freshness(StatusKind::Revoked))
            }
            EXPIRED => {
                out.extend_from_slice(&signed(EXPIRED));
                Answer::Ready(Freshness { next_update: NOW, ..freshness(StatusKind::Good) })
            }
            EMPTY => Answer::Ready(freshness(StatusKind::Good)),
            PANICS => panic!("this source panics when asked to"),
            LIVE | LIVE_ONCE | LIVE_REFUSED | LIVE_SLOW | LIVE_NEVER => {
                out.extend_from_slice(b"to be dropped");
                Answer::OnDemand
            }
            _ => Answer::Refused(ErrorStatus::Unauthorized),
        }
    }
}

impl OnDemand for Fake {
    fn sign(&self, request: Bytes, _now: Timestamp) -> Pin<Box<dyn Future<Output = Live> + Send>> {
        Box::pin(async move {
            let request = Request::parse(&request).unwrap();
            let serial = serial(&request);
            match serial {
                LIVE_ONCE => Live::NotCacheable(signed(serial).into()),
                LIVE_REFUSED => Live::Refused(ErrorStatus::TryLater),
                LIVE_NEVER => std::future::pending().await,
                _ => {
                    if serial == LIVE_SLOW {
                        tokio::time::sleep(SLOW).await;
                    }
                    Live::Cacheable(signed(serial).into(), freshness(StatusKind::Good))
                }
            }
        })
    }
}

pub fn service() -> Service {
    Service::new(Arc::new(Fake))
        .with_on_demand(Arc::new(Fake))
        .with_clock(Arc::new(ManualClock::at(NOW)))
        .with_mounts(Mounts::new(["/ocsp", "/ocsp/ca1"]).unwrap())
}

/// A server on a port of the system's choice.
pub fn serve(service: &Service, fast: bool) -> Handle {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    Server::start(service, Settings { listen, workers: 1, fast_path: fast, ..Settings::default() }).unwrap()
}

/// Runs `test` against a server with the fast path and one without.
pub fn both(limits: Limits, test: impl Fn(&Handle)) {
    for fast in [true, false] {
        eprintln!("fast path: {fast}");
        test(&serve(&service().with_limits(limits.clone()), fast));
    }
}

/// The DER of a request for one serial, with a SHA-1 CertID.
pub fn request(serial: u8) -> Vec<u8> {
    let mut der = vec![0x30, 0x42, 0x30, 0x40, 0x30, 0x3e, 0x30, 0x3c, 0x30, 0x3a];
    der.extend([0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00]);
    for fill in [0x11, 0x22] {
        der.extend([0x04, 0x14]);
        der.extend([fill; 20]);
    }
    der.extend([0x02, 0x01, serial]);
    der
}

pub fn path(serial: u8) -> String {
    data_encoding::BASE64.encode(&request(serial)).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

pub fn get(serial: u8) -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nHost: ocsp.example\r\n\r\n", path(serial)).into_bytes()
}

pub fn post(serial: u8) -> Vec<u8> {
    post_body(&request(serial), "")
}

pub fn post_body(body: &[u8], fields: &str) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: ocsp.example\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub line: String,
    /// Names in lower case; sorted.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The number of an OCSP error, and a check of everything an error must be.
    pub fn error(&self) -> u8 {
        assert_eq!(self.status(), 200, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/ocsp-response"));
        assert_eq!(self.field("cache-control"), Some("no-cache, no-store"));
        assert_eq!((self.field("etag"), self.field("expires"), self.field("last-modified")), (None, None, None));
        match self.body.as_slice() {
            [0x30, 3, 0x0a, 1, code] => *code,
            other => panic!("no OCSP error: {other:02x?}"),
        }
    }
}

pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(handle: &Handle) -> Self {
        Self::to(handle.addresses()[0])
    }

    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    pub fn send(&mut self, octets: &[u8]) -> &mut Self {
        self.stream.write_all(octets).unwrap();
        self
    }

    /// The next reply, `None` when the server has closed.
    pub fn try_reply(&mut self, head_only: bool) -> Option<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                assert!(self.read.is_empty(), "closed within a head: {:?}", String::from_utf8_lossy(&self.read));
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let mut fields: Vec<_> = lines
            .map(|l| l.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        fields.sort();
        let mut reply = Reply { line, fields, body: Vec::new() };
        let len = match (head_only, reply.field("content-length")) {
            (false, Some(len)) => len.parse().unwrap(),
            _ => 0,
        };
        while self.read.len() < len {
            assert!(self.fill(), "closed within a body");
        }
        reply.body = self.read.drain(..len).collect();
        Some(reply)
    }

    pub fn reply(&mut self) -> Reply {
        self.try_reply(false).expect("a reply before the end of the connection")
    }

    /// One request, one reply.
    pub fn ask(&mut self, request: &[u8]) -> Reply {
        self.send(request).reply()
    }

    /// Whether the server closes, now or within the read time-out, without saying more.
    pub fn is_closed(&mut self) -> bool {
        !self.fill() && self.read.is_empty()
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.read.extend_from_slice(&buffer[..n]);
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(e) => panic!("reading a reply: {e}"),
        }
    }
}

/// Waits for something that is about to happen.
pub fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    for _ in 0..400 {
        if happens() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("did not happen within four seconds: {what}");
}
