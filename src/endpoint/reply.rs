//! One reply: its status, its header fields and its body, said once for the fast path and for hyper.

use super::caching::Caching;
use crate::ocsp::ErrorStatus;
use crate::time::{HttpDate, Timestamp, format_http_date};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http_body_util::Full;

/// The media type of every OCSP answer, without parameters: some clients compare the whole value (RFC 6960 A.2).
const OCSP_RESPONSE: &str = "application/ocsp-response";
const TEXT: &str = "text/plain; charset=utf-8";
const GREETING: &[u8] =
    b"An OCSP responder (RFC 6960). Ask by POST, or by GET with the base64 of the request as the path.\n";
const METHODS: &[u8] = b"Use GET, HEAD or POST.\n";
/// For an answer without authority, RFC 9919 §7.2 wants one of these; for one with a nonce nothing else makes sense.
const NO_STORE: &str = "no-cache, no-store";

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// 200 with a signed answer, which is kept beside this value.
    Signed(Caching),
    /// 200 with a signed answer that nobody may keep.
    SignedOnce,
    /// 304.
    NotModified(Caching),
    /// 200 with an OCSP error: clients do not look into HTTP errors for one.
    Refused(ErrorStatus),
    /// 200 with a word about what this is.
    Greeting,
    /// 405.
    MethodNotAllowed,
}

/// What is said about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1 that goes on: nothing is said.
    Implied,
    /// HTTP/1.0 that goes on.
    KeepAlive,
    /// This is the last answer.
    Close,
}

/// The present time as an HTTP-date, written once per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct DateCache {
    at: Timestamp,
    text: HttpDate,
}

/// A header field name as both writers need it.
struct Field {
    wire: &'static str,
    name: HeaderName,
}

static CONTENT_TYPE: Field = Field { wire: "Content-Type: ", name: header::CONTENT_TYPE };
static CONTENT_LENGTH: Field = Field { wire: "Content-Length: ", name: header::CONTENT_LENGTH };
static DATE: Field = Field { wire: "Date: ", name: header::DATE };
static LAST_MODIFIED: Field = Field { wire: "Last-Modified: ", name: header::LAST_MODIFIED };
static EXPIRES: Field = Field { wire: "Expires: ", name: header::EXPIRES };
static ETAG: Field = Field { wire: "ETag: ", name: header::ETAG };
static CACHE_CONTROL: Field = Field { wire: "Cache-Control: ", name: header::CACHE_CONTROL };
static ALLOW: Field = Field { wire: "Allow: ", name: header::ALLOW };

impl Persistence {
    /// What is said about a connection that goes on or not.
    pub(super) fn of(goes_on: bool, http_1_0: bool) -> Self {
        match (goes_on, http_1_0) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Implied,
        }
    }
}

impl Reply {
    /// The status line without its version.
    fn status(&self) -> (http::StatusCode, &'static str) {
        match self {
            Reply::NotModified(_) => (http::StatusCode::NOT_MODIFIED, " 304 Not Modified\r\n"),
            Reply::MethodNotAllowed => (http::StatusCode::METHOD_NOT_ALLOWED, " 405 Method Not Allowed\r\n"),
            _ => (http::StatusCode::OK, " 200 OK\r\n"),
        }
    }

    /// The body that a GET would get; `signed` is the signed answer, if there is one.
    fn body<'a>(&self, signed: &'a [u8]) -> &'a [u8] {
        match self {
            Reply::Signed(_) | Reply::SignedOnce => signed,
            Reply::NotModified(_) => &[],
            Reply::Refused(status) => status.response(),
            Reply::Greeting => GREETING,
            Reply::MethodNotAllowed => METHODS,
        }
    }

    /// Every header field but those about the connection, in the order they are sent.
    fn fields(&self, body_len: usize, date: &HttpDate, mut field: impl FnMut(&'static Field, &[u8])) {
        let content_type = match self {
            Reply::Signed(_) | Reply::SignedOnce | Reply::Refused(_) => Some(OCSP_RESPONSE),
            Reply::Greeting | Reply::MethodNotAllowed => Some(TEXT),
            Reply::NotModified(_) => None,
        };
        if let Some(content_type) = content_type {
            field(&CONTENT_TYPE, content_type.as_bytes());
            field(&CONTENT_LENGTH, Short::new().number(u64::try_from(body_len).unwrap_or(u64::MAX)).as_bytes());
        }
        field(&DATE, date);
        match self {
            Reply::Signed(caching) | Reply::NotModified(caching) => {
                field(&LAST_MODIFIED, &format_http_date(caching.last_modified));
                field(&EXPIRES, &format_http_date(caching.expires));
                field(&ETAG, &caching.etag);
                let value = Short::new()
                    .text("max-age=")
                    .number(u64::from(caching.max_age))
                    .text(", public, no-transform, must-revalidate");
                field(&CACHE_CONTROL, value.as_bytes());
            }
            Reply::SignedOnce | Reply::Refused(_) => field(&CACHE_CONTROL, NO_STORE.as_bytes()),
            Reply::Greeting => field(&CACHE_CONTROL, b"max-age=43200"),
            Reply::MethodNotAllowed => {
                field(&ALLOW, b"GET, HEAD, POST");
                field(&CACHE_CONTROL, NO_STORE.as_bytes());
            }
        }
    }

    /// Appends the whole response as HTTP/1.x to `out`.
    pub(super) fn write(
        &self,
        signed: &[u8],
        head_only: bool,
        http_1_0: bool,
        persistence: Persistence,
        date: &HttpDate,
        out: &mut Vec<u8>,
    ) {
        let body = self.body(signed);
        out.reserve(512 + body.len());
        out.extend_from_slice(if http_1_0 { b"HTTP/1.0" } else { b"HTTP/1.1" });
        match self {
            Reply::Signed(caching) => write_signed(caching, body.len(), date, out),
            _ => {
                out.extend_from_slice(self.status().1.as_bytes());
                self.fields(body.len(), date, |field, value| {
                    out.extend_from_slice(field.wire.as_bytes());
                    out.extend_from_slice(value);
                    out.extend_from_slice(b"\r\n");
                });
            }
        }
        out.extend_from_slice(match persistence {
            Persistence::Implied => b"\r\n",
            Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
            Persistence::Close => b"Connection: close\r\n\r\n",
        });
        if !head_only {
            out.extend_from_slice(body);
        }
    }

    /// The same for hyper. `signed` is empty when the reply has no signed answer.
    pub(super) fn into_response(self, signed: Bytes, head_only: bool, date: &HttpDate) -> http::Response<Full<Bytes>> {
        let body = match self {
            Reply::Signed(_) | Reply::SignedOnce => signed,
            Reply::NotModified(_) => Bytes::new(),
            Reply::Refused(status) => Bytes::from_static(status.response()),
            Reply::Greeting => Bytes::from_static(GREETING),
            Reply::MethodNotAllowed => Bytes::from_static(METHODS),
        };
        let mut response = http::Response::new(Full::default());
        *response.status_mut() = self.status().0;
        self.fields(body.len(), date, |field, value| {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                response.headers_mut().insert(field.name.clone(), value);
            }
        });
        if !head_only {
            *response.body_mut() = Full::new(body);
        }
        response
    }
}

/// What [`Reply::fields`] says of a signed answer, which nearly every answer is, in few copies of sizes that the compiler knows.
fn write_signed(caching: &Caching, body_len: usize, date: &HttpDate, out: &mut Vec<u8>) {
    out.extend_from_slice(b" 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: ");
    out.extend_from_slice(Short::new().number(u64::try_from(body_len).unwrap_or(u64::MAX)).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\nLast-Modified: ");
    out.extend_from_slice(&format_http_date(caching.last_modified));
    out.extend_from_slice(b"\r\nExpires: ");
    out.extend_from_slice(&format_http_date(caching.expires));
    out.extend_from_slice(b"\r\nETag: ");
    out.extend_from_slice(&caching.etag);
    out.extend_from_slice(b"\r\nCache-Control: max-age=");
    out.extend_from_slice(Short::new().number(u64::from(caching.max_age)).as_bytes());
    out.extend_from_slice(b", public, no-transform, must-revalidate\r\n");
}

impl DateCache {
    pub(super) const fn new() -> Self {
        DateCache { at: Timestamp::EPOCH, text: *b"Thu, 01 Jan 1970 00:00:00 GMT" }
    }

    /// `now` as an HTTP-date.
    pub(super) fn at(&mut self, now: Timestamp) -> HttpDate {
        if self.at != now {
            *self = DateCache { at: now, text: format_http_date(now) };
        }
        self.text
    }
}

/// A short text put together on the stack; what does not fit is cut, and everything put in here fits.
struct Short {
    octets: [u8; 80],
    len: usize,
}

impl Short {
    fn new() -> Self {
        Short { octets: [0; 80], len: 0 }
    }

    fn text(mut self, text: &str) -> Self {
        if let Some(free) = self.octets.get_mut(self.len..self.len + text.len()) {
            free.copy_from_slice(text.as_bytes());
            self.len += text.len();
        }
        self
    }

    fn number(mut self, n: u64) -> Self {
        // The last digit first, from the end of a field that holds any number.
        let mut digits = [b'0'; 20];
        let (mut left, mut at) = (n, digits.len());
        while let Some(place) = at.checked_sub(1) {
            at = place;
            if let Some(digit) = digits.get_mut(place) {
                *digit = b'0' + (left % 10) as u8;
            }
            left /= 10;
            if left == 0 {
                break;
            }
        }
        let digits = digits.get(at..).unwrap_or_default();
        if let Some(free) = self.octets.get_mut(self.len..self.len + digits.len()) {
            free.copy_from_slice(digits);
            self.len += digits.len();
        }
        self
    }

    fn as_bytes(&self) -> &[u8] {
        self.octets.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHING: Caching = Caching {
        last_modified: Timestamp::from_unix(784_111_777),
        expires: Timestamp::from_unix(784_111_777 + 3600),
        max_age: 3599,
        etag: *b"\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
    };
    const REPLIES: [Reply; 6] = [
        Reply::Signed(CACHING),
        Reply::SignedOnce,
        Reply::NotModified(CACHING),
        Reply::Refused(ErrorStatus::TryLater),
        Reply::Greeting,
        Reply::MethodNotAllowed,
    ];

    fn written(reply: Reply, head_only: bool) -> String {
        let mut out = Vec::new();
        let date = DateCache::new().at(Timestamp::from_unix(784_111_777));
        reply.write(b"DER", head_only, false, Persistence::Implied, &date, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_signed_answer_says_everything_a_cache_wants_to_know() {
        assert_eq!(
            written(Reply::Signed(CACHING), false),
            "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 3\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Expires: Sun, 06 Nov 1994 09:49:37 GMT\r\n\
             ETag: \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\r\n\
             Cache-Control: max-age=3599, public, no-transform, must-revalidate\r\n\r\nDER"
        );
    }

    #[test]
    fn an_error_is_http_200_and_is_not_kept() {
        let text = written(Reply::Refused(ErrorStatus::TryLater), false);
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 5\r\n")
        );
        assert!(text.contains("Cache-Control: no-cache, no-store\r\n"));
        assert!(text.ends_with("\r\n\r\n0\u{3}\n\u{1}\u{3}"));
    }

    #[test]
    fn both_writers_say_the_same() {
        for reply in REPLIES {
            for head_only in [false, true] {
                let wire = written(reply, head_only);
                let (head, body) = wire.split_once("\r\n\r\n").unwrap();
                let date = DateCache::new().at(Timestamp::from_unix(784_111_777));
                let response = reply.into_response(Bytes::from_static(b"DER"), head_only, &date);
                let mut lines = head.split("\r\n");
                assert_eq!(lines.next().unwrap(), format!("HTTP/1.1 {}", response.status()));
                let lines: Vec<_> = lines.map(|l| l.split_once(": ").unwrap()).collect();
                assert_eq!(lines.len(), response.headers().len());
                for (name, value) in lines {
                    assert_eq!(response.headers().get(name).unwrap(), value, "{reply:?}");
                }
                assert_eq!(format!("{:?}", response.body()), format!("{:?}", Full::new(Bytes::from(body.to_owned()))));
            }
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for n in [0, 1, 9, 10, 99, 100, 10_000, u64::from(u32::MAX), u64::MAX / 2, u64::MAX] {
            assert_eq!(Short::new().number(n).as_bytes(), n.to_string().as_bytes());
        }
    }
}
