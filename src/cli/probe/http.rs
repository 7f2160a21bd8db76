//! One HTTP/1.1 exchange, bounded in time and size: what an OCSP client needs and no more.

use crate::time::monotonic;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The most octets of a response head.
const MAX_HEAD: usize = 16 * 1024;
/// The most octets of a response, head included.
const MAX_RESPONSE: usize = (1 << 20) + MAX_HEAD;
/// The most header fields.
const MAX_FIELDS: usize = 64;

/// `http://host[:port][/path]`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port as in the URL, for the Host field.
    pub(super) authority: String,
    /// Host and port to connect to.
    address: String,
    /// The path, beginning with `/`.
    pub(super) path: String,
}

/// A response to a request.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Url {
    /// Reads a URL.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(format!("{text:?} is not an http:// URL (OCSP is plain HTTP; its answers are signed)"));
        };
        if !rest.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'?' | b'@')) {
            return Err(format!("{text:?}: a query, fragment, user or space does not belong in an OCSP URL"));
        }
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let with_port = after_host.contains(':');
        if authority.is_empty() || authority.starts_with(':') || authority.ends_with(':') {
            return Err(format!("{text:?} names no host"));
        }
        let address = if with_port { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Url { authority: authority.to_owned(), address, path: path.to_owned() })
    }
}

impl Reply {
    /// The value of a field, if it is there once or more; the first.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// POSTs `body`, or GETs `path`; everything within `timeout`.
pub(super) fn exchange(url: &Url, path: &str, body: Option<&[u8]>, timeout: Duration) -> Result<Reply, String> {
    let deadline = monotonic().checked_add(timeout).ok_or("the time-out is too long")?;
    let mut stream = connect(url, deadline)?;
    let mut message = match body {
        None => format!("GET {path} HTTP/1.1\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n",
            body.len()
        ),
    }
    .into_bytes();
    let host = &url.authority;
    message.extend(
        format!("Host: {host}\r\nAccept: application/ocsp-response\r\nUser-Agent: stillgood-probe\r\nConnection: close\r\n\r\n")
            .bytes(),
    );
    message.extend(body.unwrap_or_default());
    let told = |what: &'static str| move |e: io::Error| format!("{what} {host}: {}", reason(&e));
    stream
        .set_write_timeout(Some(left(deadline)?))
        .and_then(|()| stream.write_all(&message))
        .map_err(told("sending to"))?;
    receive(&mut stream, deadline).map_err(|e| format!("{host}: {e}"))
}

fn connect(url: &Url, deadline: Instant) -> Result<TcpStream, String> {
    let told = |e: &io::Error| format!("connecting to {}: {}", url.address, reason(e));
    let mut last = format!("{} has no address", url.address);
    for address in url.address.to_socket_addrs().map_err(|e| told(&e))? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(e) => last = told(&e),
        }
    }
    Err(last)
}

fn receive(stream: &mut TcpStream, deadline: Instant) -> Result<Reply, String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    loop {
        if let Some(reply) = parse(&bytes, false)? {
            return Ok(reply);
        }
        stream.set_read_timeout(Some(left(deadline)?)).map_err(|e| e.to_string())?;
        match stream.read(&mut piece) {
            Ok(0) => {
                return parse(&bytes, true)?.ok_or_else(|| "the connection ended before the response did".to_owned());
            }
            Ok(n) => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("waiting for the response: {}", reason(&e))),
        }
        if bytes.len() > MAX_RESPONSE {
            return Err(format!("the response is longer than {MAX_RESPONSE} octets"));
        }
    }
}

/// The reply in what has come so far; `None` when more is needed. `ended`: nothing more will come.
fn parse(bytes: &[u8], ended: bool) -> Result<Option<Reply>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let head_len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD => return Err("the response head is too long".into()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(format!("not an HTTP response: {e}")),
    };
    let code = head.code.unwrap_or(0);
    let fields: Vec<(String, String)> =
        head.headers.iter().map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).trim().to_owned())).collect();
    let rest = bytes.get(head_len..).unwrap_or_default();
    if code == 100 {
        return parse(rest, ended);
    }
    let mut reply = Reply { code, fields, body: Vec::new() };
    let chunked = reply.field("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
    let length = reply.field("content-length").map(|v| v.parse::<usize>().map_err(|_| format!("Content-Length {v:?}")));
    reply.body = match (chunked, length.transpose()?) {
        (true, _) => match dechunk(rest)? {
            Some(body) => body,
            None => return Ok(None),
        },
        (false, Some(length)) => match rest.get(..length) {
            Some(body) => body.to_vec(),
            None => return Ok(None),
        },
        (false, None) if ended => rest.to_vec(),
        (false, None) => return Ok(None),
    };
    Ok(Some(reply))
}

/// The content of chunks (RFC 9112 §7.1); `None` when more is needed.
fn dechunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((_, 0))) => return Ok(Some(body)),
            Ok(httparse::Status::Complete((at, size))) => {
                let size = usize::try_from(size).ok().filter(|s| *s <= MAX_RESPONSE).ok_or("a chunk is too long")?;
                let Some(chunk) = rest.get(at..at + size) else { return Ok(None) };
                body.extend_from_slice(chunk);
                let Some(after) = rest.get(at + size + 2..) else { return Ok(None) };
                rest = after;
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("the chunks of the response cannot be read".to_owned()),
        }
    }
}

fn left(deadline: Instant) -> Result<Duration, String> {
    match deadline.saturating_duration_since(monotonic()) {
        Duration::ZERO => Err("timed out".to_owned()),
        left => Ok(left),
    }
}

fn reason(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "timed out".to_owned(),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |text| Url::parse(text).map(|u| (u.authority, u.address, u.path));
        let parts = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(url("http://h"), parts("h", "h:80", "/"));
        assert_eq!(url("http://h:81/ocsp"), parts("h:81", "h:81", "/ocsp"));
        assert_eq!(url("http://[::1]:81/"), parts("[::1]:81", "[::1]:81", "/"));
        assert_eq!(url("http://[::1]/x"), parts("[::1]", "[::1]:80", "/x"));
        for bad in ["https://h", "h", "http://", "http:///x", "http://:80", "http://u@h", "http://h/?q", "http://h /"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn replies_are_read_in_every_framing() {
        let body = |text: &str, ended| parse(text.as_bytes(), ended).unwrap().map(|r| r.body);
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", false), Some(b"ab".to_vec()));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false), None);
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nab", false), None);
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nab", true), Some(b"ab".to_vec()));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
        assert_eq!(body(chunks, false), Some(b"ab".to_vec()));
        for cut in 0..chunks.len() - 5 {
            assert_eq!(body(&chunks[..cut], false), None, "{cut}");
        }
        assert_eq!(
            body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            Some(vec![])
        );
        assert!(parse(b"SSH-2.0-x\r\n", false).is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", false).is_err());
    }
}
