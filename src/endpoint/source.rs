//! What the endpoint asks of the rest of the program: answers held ready, and answers signed now.

use crate::ocsp::{CertStatus, ErrorStatus, Request};
use crate::store::Hint;
use crate::time::Timestamp;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// Where answers come from that need no key: a store of pre-signed responses.
pub trait Source: Send + Sync + 'static {
    /// Appends the DER of an OCSPResponse to `out` when the answer is held ready.
    ///
    /// Called on the serving threads for every request, so it must not block, wait for a lock or do IO. `out` is empty
    /// when it is called, and whatever it holds is dropped unless the result is [`Answer::Ready`].
    fn answer(&self, request: &Request<'_>, now: Timestamp, out: &mut Vec<u8>) -> Answer;

    /// Says what will be asked in the next few microseconds, so that what the answers take can be fetched from memory
    /// meanwhile. Nothing need be done, and a request may not come. Their order means nothing and may be changed.
    fn expect(&self, hints: &mut [Hint]) {
        let _ = hints;
    }
}

/// What a [`Source`] has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `out` holds a signed OCSPResponse that HTTP caches may keep.
    Ready(Freshness),
    /// The client gets an unsigned error.
    Refused(ErrorStatus),
    /// The answer must be signed now, or it is not known here whether it can be. Without an [`OnDemand`] the client is
    /// told `unauthorized`: nobody here can answer with authority (RFC 6960 §2.3, RFC 9919 §3.2.3), and `tryLater` would
    /// invite it to ask a keyless process again for what that process will never have.
    OnDemand,
}

/// How long an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// thisUpdate; becomes Last-Modified.
    pub this_update: Timestamp,
    /// nextUpdate; becomes Expires. Nothing is served at or after it.
    pub next_update: Timestamp,
    /// When a newer answer is planned to be in place; max-age is made from it (RFC 9919 §7.2).
    pub refresh_at: Timestamp,
    /// What the answer says; counted.
    pub status: StatusKind,
    /// It speaks of a certificate that was never issued, and is wrong as soon as it is: caches keep it for ten minutes at most.
    pub is_provisional: bool,
    /// 32 octets that an answer of other octets never has; becomes the ETag. `None`: the SHA-256 of the answer, as RFC 9919 §7.2
    /// recommends, which takes a tenth of the CPU time of a request to compute.
    pub validator: Option<[u8; 32]>,
}

/// CertStatus without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StatusKind {
    /// Not revoked.
    Good = 0,
    /// Revoked or on hold.
    Revoked = 1,
    /// Not known.
    Unknown = 2,
}

/// Whoever can sign an answer now. A keyless process has none.
pub trait OnDemand: Send + Sync + 'static {
    /// Signs the answer to `request`, the DER of a request that [`Request::parse`] accepted.
    ///
    /// The future runs on a serving thread: it should wait, not compute. It must end by itself; the endpoint gives up on
    /// it after [`super::Limits::on_demand`] and tells the client `tryLater`.
    fn sign(&self, request: Bytes, now: Timestamp) -> Pin<Box<dyn Future<Output = Live> + Send>>;
}

/// What an [`OnDemand`] has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// The DER of a signed OCSPResponse that HTTP caches may keep.
    Cacheable(Bytes, Freshness),
    /// The DER of a signed OCSPResponse for this request alone (it carries a nonce); sent with `no-store`.
    NotCacheable(Bytes),
    /// The client gets an unsigned error.
    Refused(ErrorStatus),
}

impl StatusKind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [StatusKind; 3] = [StatusKind::Good, StatusKind::Revoked, StatusKind::Unknown];

    /// The name in RFC 6960 and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            StatusKind::Good => "good",
            StatusKind::Revoked => "revoked",
            StatusKind::Unknown => "unknown",
        }
    }
}

impl From<CertStatus> for StatusKind {
    fn from(status: CertStatus) -> Self {
        match status {
            CertStatus::Good => StatusKind::Good,
            CertStatus::Revoked { .. } => StatusKind::Revoked,
            CertStatus::Unknown => StatusKind::Unknown,
        }
    }
}
