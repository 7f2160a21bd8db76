//! What becomes of requests that are signed for on demand, and how many there were.

use crate::ocsp::{CertStatus, ErrorStatus};
use crate::time::Timestamp;
use bytes::Bytes;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A signed response that others may be given too.
    Shared(SignedAnswer),
    /// A signed response that is for this request alone: it echoes a nonce.
    Once(Bytes),
    /// An OCSP error.
    Refused(ErrorStatus),
    /// The budget is spent, or the queue is full.
    Busy,
}

/// A response signed on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAnswer {
    /// The DER of the OCSPResponse.
    pub response: Bytes,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// When it will be signed again if it is asked for.
    pub refresh_at: Timestamp,
    /// What it says of the (first) certificate.
    pub status: CertStatus,
    /// It speaks of a certificate that was never issued, and is wrong as soon as it is: nobody should keep it for long.
    pub is_provisional: bool,
}

/// Counters of on-demand signing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DemandStats {
    /// Signatures made since the start.
    pub signed: u64,
    /// Requests answered from the cache since the start.
    pub cached: u64,
    /// Requests since the start for which the budget was spent or the queue full. They were turned away, unless an answer
    /// was held for them that had not run out.
    pub shed: u64,
    /// Requests waiting now.
    pub waiting: usize,
    /// Octets in the cache now, its own bookkeeping included.
    pub cache_weight: u64,
}
