//! An HTTPS client for the few services an agent talks to: bounded in connections, time and size, and exact about what went
//! wrong.
//!
//! One [`Client`] speaks to one server. It never has more than its maximum of connections open, idle ones included. Every
//! exchange ends by its deadline. A connection lives inside the future that uses it, so that dropping the future closes
//! it then and there; nothing is left running. Redirects are not followed and nothing is sent twice: whether a request may be
//! repeated is for the caller to say, who learns whether any of it was sent.

mod connection;
mod credential;
mod error;
mod leave;
mod pool;
mod tls;
mod url;

pub(crate) use credential::Stamp;
pub use credential::{ClientCredential, CredentialError};
pub use error::{Cause, Error, Stage};
pub use leave::Leave;
pub use pool::Client;
pub use tls::Tls;
pub use url::{Url, UrlError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use std::time::Duration;

/// The most octets of a response head.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most header fields of a response.
pub const MAX_FIELDS: usize = 64;
/// A connection that was not used for so long is closed: servers close theirs later than that (Apache after 5 s, nginx after
/// 75), so that it is rarely closed under a request that was just sent.
pub const IDLE: Duration = Duration::from_secs(4);

/// What bounds a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections open at a time, in use and idle together.
    pub max_connections: usize,
    /// How long a connection may take to stand: name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// The most octets of a response body.
    pub max_body: usize,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST, …
    pub method: Method,
    /// The path after the URL's own, beginning with `/`.
    pub path: String,
    /// Fields beside Host and Content-Length.
    pub fields: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

/// A response, complete.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a field if it is there and plain text; the first.
    pub fn field(&self, name: http::header::HeaderName) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }
}
