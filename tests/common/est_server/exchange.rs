//! One connection of the misbehaving EST server: reading requests, answering them as the mode has it.

use super::{AGENT, Logged, Mode, Shared};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::time::Duration;
use stillgood::x509::issue::CertificationRequest;
use stillgood::x509::{Certificate, pkcs7};

/// A connection on which nothing comes for so long is forgotten.
const FORGET: Duration = Duration::from_secs(120);

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

/// A connection, and whether it has a request that is being worked on.
struct Stream<'a> {
    tls: Tls,
    shared: &'a Shared,
    at_work: bool,
}

impl Stream<'_> {
    fn begins(&mut self) -> usize {
        self.at_work = true;
        self.shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Called before the last of an answer is sent: whoever has it may ask again before this thread runs the next time.
    fn is_over(&mut self) {
        if std::mem::take(&mut self.at_work) {
            self.shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl Deref for Stream<'_> {
    type Target = Tls;
    fn deref(&self) -> &Tls {
        &self.tls
    }
}

impl DerefMut for Stream<'_> {
    fn deref_mut(&mut self) -> &mut Tls {
        &mut self.tls
    }
}

pub(super) fn connection(tcp: TcpStream, id: u64, shared: &Shared) -> io::Result<()> {
    tcp.set_read_timeout(Some(FORGET))?;
    tcp.set_nodelay(true)?;
    let tls = rustls::ServerConnection::new(shared.tls.clone()).map_err(io::Error::other)?;
    let mut stream = Stream { tls: Tls::new(tls, tcp), shared, at_work: false };
    while let Some((head, body)) = request(&mut stream)? {
        let now_in_flight = stream.begins();
        let answered = answer(&mut stream, id, shared, &head, &body, now_in_flight);
        stream.is_over();
        if !answered? {
            return Ok(());
        }
    }
    Ok(())
}

/// The head and the body of the next request.
fn request(stream: &mut Stream<'_>) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut octets = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = octets.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&octets[..end]).into_owned();
            let len = field(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            let mut body = octets.split_off(end + 4);
            while body.len() < len {
                match stream.read(&mut piece)? {
                    0 => return Ok(None),
                    n => body.extend_from_slice(&piece[..n]),
                }
            }
            return Ok(Some((head, body)));
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            n => octets.extend_from_slice(&piece[..n]),
        }
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).next()
}

/// Answers as the mode has it; `false` when the connection is to end.
fn answer(
    stream: &mut Stream<'_>,
    id: u64,
    shared: &Shared,
    head: &str,
    body: &[u8],
    in_flight: usize,
) -> io::Result<bool> {
    let line = head.lines().next().unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/.well-known/est/").split('/').collect();
    let (label, operation) = match parts.as_slice() {
        [label, operation] => (*label, *operation),
        _ => ("", path),
    };
    let text: Vec<u8> = body.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    let csr = data_encoding::BASE64.decode(&text).ok().and_then(|d| CertificationRequest::from_pem_or_der(&d).ok());
    let client = stream.conn.peer_certificates().and_then(|c| c.first()).map(|c| Certificate::from_der(c).unwrap());
    shared.log.lock().unwrap().push(Logged {
        at: shared.began.elapsed(),
        connection: id,
        label: label.to_owned(),
        operation: operation.to_owned(),
        spki: csr.as_ref().map(|c| c.spki.clone()).unwrap_or_default(),
        authorization: field(head, "authorization"),
        client: client.map(|c| c.serial().to_string()).unwrap_or_default(),
        in_flight,
    });
    if operation == "cacerts" && shared.cas.contains_key(label) {
        return issued(stream, &[shared.cas[label].certificate.der().to_vec()]);
    }
    let known = label == AGENT || shared.cas.contains_key(label);
    let right = if label == AGENT { "simplereenroll" } else { "simpleenroll" };
    let Some(csr) = csr.filter(|_| known && operation == right && line.starts_with("POST ")) else {
        return reply(stream, "404 Not Found", &[], b"no such label");
    };
    let mode = {
        let mut modes = shared.modes.lock().unwrap();
        let mode = modes.entry(label.to_owned()).or_insert(Mode::Ok);
        let now = mode.clone();
        if let Mode::Later(after, left) = now {
            *mode = if left > 1 { Mode::Later(after, left - 1) } else { Mode::Ok };
        }
        now
    };
    misbehave(stream, shared, label, &csr, &mode)
}

fn misbehave(
    stream: &mut Stream<'_>,
    shared: &Shared,
    label: &str,
    csr: &CertificationRequest,
    mode: &Mode,
) -> io::Result<bool> {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\n";
    match mode {
        Mode::Slow(wait) | Mode::Fresh { after: wait, .. } if !wait.is_zero() => {
            if closed_within(stream, *wait) {
                return Ok(false);
            }
            issued(stream, &shared.issue(label, csr, mode))
        }
        Mode::ChainFirstInDer => {
            let certificates = shared.issue(label, csr, mode);
            let bag = pkcs7::certs_only(&certificates.iter().map(Vec::as_slice).collect::<Vec<_>>());
            reply(stream, "200 OK", &[("Content-Type", "application/pkcs7-mime")], &bag)
        }
        Mode::OkAndClose => issued(stream, &shared.issue(label, csr, mode)).map(|_| false),
        Mode::Later(after, _) => reply(stream, "202 Accepted", &[("Retry-After", after)], b""),
        Mode::Garbage => reply(stream, "200 OK", &[], &[0x30, 0x82, 0xff, 0xff, 1, 2, 3]),
        Mode::Html => {
            reply(stream, "200 OK", &[("Content-Type", "text/html")], b"<!DOCTYPE html><title>Log in</title>")
        }
        Mode::Empty => reply(stream, "200 OK", &[], b""),
        Mode::Huge => {
            stream.write_all(format!("{OK}Content-Length: 100000000\r\n\r\n").as_bytes())?;
            (0..1600).try_for_each(|_| stream.write_all(&[b'A'; 62_500])).map(|()| false)
        }
        Mode::Endless => {
            stream.write_all(format!("{OK}Connection: close\r\n\r\n").as_bytes())?;
            loop {
                stream.write_all(&[b'A'; 16_384])?;
            }
        }
        Mode::Drip => {
            stream.write_all(format!("{OK}Content-Length: 2000\r\n\r\n").as_bytes())?;
            while !closed_within(stream, Duration::from_millis(50)) && !shared.stop.load(Ordering::SeqCst) {
                stream.write_all(b"A")?;
            }
            Ok(false)
        }
        Mode::CutOff => {
            stream.write_all(format!("{OK}Content-Length: 2000\r\n\r\nMIIB").as_bytes())?;
            Ok(false)
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
        Mode::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(&[b"X-Filler: ".as_slice(), &[b'a'; 1000], b"\r\n"].concat())?;
            }
        }
        Mode::Redirect => reply(stream, "302 Found", &[("Location", "https://elsewhere.example/")], b""),
        Mode::Status(status, "") => reply(stream, &format!("{status} Status"), &[], b"as the test wants it"),
        Mode::Status(status, after) => {
            reply(stream, &format!("{status} Status"), &[("Retry-After", after)], b"as the test wants it")
        }
        _ => issued(stream, &shared.issue(label, csr, mode)),
    }
}

/// Waits, and returns early with `true` when the client has closed.
fn closed_within(stream: &Stream<'_>, wait: Duration) -> bool {
    let _ = stream.sock.set_read_timeout(Some(wait));
    let closed = match stream.sock.peek(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    };
    let _ = stream.sock.set_read_timeout(Some(FORGET));
    closed
}

fn issued(stream: &mut Stream<'_>, certificates: &[Vec<u8>]) -> io::Result<bool> {
    let bag = pkcs7::certs_only(&certificates.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let text = data_encoding::BASE64_MIME.encode(&bag);
    let kind = ("Content-Type", "application/pkcs7-mime; smime-type=certs-only");
    reply(stream, "200 OK", &[kind, ("Content-Transfer-Encoding", "base64")], text.as_bytes())
}

fn reply(stream: &mut Stream<'_>, status: &str, fields: &[(&str, &str)], body: &[u8]) -> io::Result<bool> {
    let mut message = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in fields {
        message += &format!("{name}: {value}\r\n");
    }
    message += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.is_over();
    stream.write_all(&[message.as_bytes(), body].concat())?;
    stream.flush().map(|()| true)
}
