//! OCSPRequest (RFC 6960 §4.1.1), borrowed from the bytes that came.

use super::{CertId, ErrorStatus};

/// A request that has been read and found well formed. Borrows the input; nothing is copied.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The first (and almost always only) CertID.
    pub first: CertId<'a>,
    /// How many certificates are asked about, at least 1, at most [`Request::MAX_CERT_IDS`].
    pub count: usize,
    /// The content of requestList, already validated.
    pub(super) list: &'a [u8],
    /// extnValue content of the nonce extension, verbatim (normally a DER OCTET STRING; RFC 2560 clients put raw octets),
    /// its length already checked (RFC 9654 §2.1).
    pub nonce: Option<&'a [u8]>,
    /// Whether an optionalSignature is present. It is not verified (RFC 9919 §3.1.2 permits that).
    pub signed: bool,
    /// Content of the PreferredSignatureAlgorithms extension (RFC 6960 §4.4.7), if any.
    pub preferred_algorithms: Option<&'a [u8]>,
}

/// The CertIDs of a request, in its order.
#[derive(Clone, Debug)]
pub struct CertIds<'a> {
    pub(super) rest: &'a [u8],
}

/// Why a request cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`Request::MAX_LEN`] octets.
    #[error("longer than {} octets", Request::MAX_LEN)]
    TooLong,
}

impl Request<'_> {
    /// The most octets a request may have.
    pub const MAX_LEN: usize = 10_000;
    /// The most certificates one request may ask about.
    pub const MAX_CERT_IDS: usize = 32;
}

impl RequestError {
    /// What the client is told.
    pub fn status(self) -> ErrorStatus {
        match self {
            RequestError::TooLong => ErrorStatus::MalformedRequest,
        }
    }
}
