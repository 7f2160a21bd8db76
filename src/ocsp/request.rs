//! OCSPRequest (RFC 6960 §4.1.1), borrowed from the bytes that came.
//!
//! Two paths read the same grammar into the same [`Request`]. [`Request::parse`] first tries the *straight* walk of this
//! file: the shape nearly every client sends (unsigned, known hash, at most a nonce). It only ever says "yes" or "not my
//! shape"; every refusal, and everything unusual, is the word of the strict general path in `general.rs`, which is the
//! authority. So the straight walk may be removed without changing any answer, and a differential fuzz target holds it
//! to that.
//!
//! Where the standards leave a choice:
//!
//! * An explicitly encoded default version (`A0 03 02 01 00`, old macOS clients) is accepted, as are `critical FALSE`
//!   and an empty Extensions; otherwise DER is required (X.690 §10).
//! * An extension that is critical and unknown is answered `unauthorized`, at either level: the request follows the
//!   syntax, but there is no authoritative answer to it here (RFC 6960 §4.1.2 names no status; RFC 9919 §3.2.3).
//!   AcceptableResponses without id-pkix-ocsp-basic is the same case (RFC 6960 §4.4.3).
//! * Understood in requestExtensions: nonce, AcceptableResponses, PreferredSignatureAlgorithms. Understood in
//!   singleRequestExtensions, though they change no answer: service locator, and a misplaced nonce.
//! * Requestor name and signature are tolerated and looked at no deeper than their outer shape (RFC 9919 §3.1.2).
//! * An unknown hash algorithm is well formed ([`CertId::hash`] is `None`); a digest that does not fit a known one, or
//!   parameters other than NULL or absent (RFC 5754 §2), are malformed.
//! * CR and LF after the request are ignored: hand-made POST bodies have them.

use super::general;
use super::{CertId, ErrorStatus, HashAlgorithm, Serial, SerialError};
use crate::asn1::tag;

/// A request that has been read and found well formed. Borrows the input; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Content of the PreferredSignatureAlgorithms sequence (RFC 6960 §4.4.7.1), already validated, if any;
    /// [`Request::preferred_signature_oids`] reads it.
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
    #[error("the request is longer than {} octets", Request::MAX_LEN)]
    TooLong,
    /// Not the DER that RFC 6960 §4.1.1 has at this place.
    #[error("{0} is not the DER that RFC 6960 has there")]
    NotDer(Place),
    /// Something other than CR and LF follows.
    #[error("something follows after the request")]
    TrailingData,
    /// Only v1(0) exists.
    #[error("the version is not v1(0)")]
    Version,
    /// requestList holds one or more Requests.
    #[error("the requestList is empty")]
    EmptyList,
    /// More than [`Request::MAX_CERT_IDS`] certificates.
    #[error("the requestList has more than {} entries", Request::MAX_CERT_IDS)]
    TooManyCertIds,
    /// Parameters of a known hash algorithm are NULL or absent (RFC 5754 §2).
    #[error("the {} hash algorithm of a CertID has parameters other than NULL", .0.name())]
    HashParameters(HashAlgorithm),
    /// issuerNameHash or issuerKeyHash does not fit the hash algorithm.
    #[error("a CertID has a {} digest of {octets} octets", .hash.name())]
    DigestLength {
        /// The CertID's hash algorithm.
        hash: HashAlgorithm,
        /// Octets found.
        octets: usize,
    },
    /// The serialNumber of a CertID (RFC 5280 §4.1.2.2).
    #[error("in a CertID {0}")]
    Serial(#[from] SerialError),
    /// More than [`Request::MAX_EXTENSIONS`] extensions in one list.
    #[error("{0} has more than {max} extensions", max = Request::MAX_EXTENSIONS)]
    TooManyExtensions(Place),
    /// One extension twice in one list (RFC 5280 §4.2).
    #[error("{0} has the same extension twice")]
    DuplicateExtension(Place),
    /// RFC 9654 §2.1: 1 to 128 octets.
    #[error("the nonce has {0} octets; 1 to {max} are allowed", max = Request::MAX_NONCE)]
    NonceLength(usize),
    /// Critical, and not understood (RFC 6960 §4.1.2).
    #[error("{0} has a critical extension that is not understood")]
    UnknownCritical(Place),
    /// AcceptableResponses leaves out id-pkix-ocsp-basic, which is all there is (RFC 6960 §4.4.3).
    #[error("the client does not accept id-pkix-ocsp-basic responses")]
    BasicNotAcceptable,
}

/// A part of an OCSPRequest, as RFC 6960 §4.1.1 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The whole.
    OcspRequest,
    /// tbsRequest.
    TbsRequest,
    /// version.
    Version,
    /// requestorName.
    RequestorName,
    /// requestList, or one Request in it.
    RequestList,
    /// reqCert.
    CertId,
    /// singleRequestExtensions.
    SingleExtensions,
    /// requestExtensions.
    RequestExtensions,
    /// The value of the AcceptableResponses extension.
    AcceptableResponses,
    /// The value of the PreferredSignatureAlgorithms extension.
    PreferredSignatureAlgorithms,
    /// optionalSignature.
    Signature,
}

impl<'a> Request<'a> {
    /// The most octets a request may have.
    pub const MAX_LEN: usize = 10_000;
    /// The most certificates one request may ask about.
    pub const MAX_CERT_IDS: usize = 32;
    /// The most extensions in requestExtensions, and in each singleRequestExtensions.
    pub const MAX_EXTENSIONS: usize = 16;
    /// The most octets of a nonce (RFC 9654 §2.1).
    pub const MAX_NONCE: usize = 128;

    /// Reads a request. Allocates nothing; the work is bounded by [`Request::MAX_LEN`].
    ///
    /// # Errors
    /// What is wrong and where; [`RequestError::status`] is what the client is told.
    #[inline]
    pub fn parse(input: &'a [u8]) -> Result<Self, RequestError> {
        // Built where it is returned: moving a request costs as much as reading one.
        let Some(Straight { first, count, list, nonce }) = straight(input) else {
            return general::parse(input);
        };
        let Ok(serial) = Serial::from_der_content(first.serial) else {
            return general::parse(input);
        };
        let RawCertId { hash, name_hash, key_hash, der, .. } = first;
        let first = CertId { hash: Some(hash), name_hash, key_hash, serial, der };
        Ok(Request { first, count, list, nonce, signed: false, preferred_algorithms: None })
    }

    /// All CertIDs, in the order of the request. Duplicates are kept.
    pub fn cert_ids(&self) -> CertIds<'a> {
        CertIds { rest: self.list }
    }

    /// The octets of the nonce without the OCTET STRING around them, if there is one around them: 1 to 128.
    /// To be echoed is [`Request::nonce`], not this.
    pub fn nonce_octets(&self) -> Option<&'a [u8]> {
        self.nonce.map(general::nonce_octets)
    }

    /// The sigIdentifier OBJECT IDENTIFIERs (content octets) of PreferredSignatureAlgorithms, most wanted first
    /// (RFC 6960 §4.4.7). Empty without that extension.
    pub fn preferred_signature_oids(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        general::preferred_signature_oids(self.preferred_algorithms.unwrap_or_default())
    }
}

impl RequestError {
    /// What the client is told.
    pub fn status(self) -> ErrorStatus {
        match self {
            RequestError::UnknownCritical(_) | RequestError::BasicNotAcceptable => ErrorStatus::Unauthorized,
            RequestError::TooLong
            | RequestError::NotDer(_)
            | RequestError::TrailingData
            | RequestError::Version
            | RequestError::EmptyList
            | RequestError::TooManyCertIds
            | RequestError::HashParameters(_)
            | RequestError::DigestLength { .. }
            | RequestError::Serial(_)
            | RequestError::TooManyExtensions(_)
            | RequestError::DuplicateExtension(_)
            | RequestError::NonceLength(_) => ErrorStatus::MalformedRequest,
        }
    }
}

impl<'a> Iterator for CertIds<'a> {
    type Item = CertId<'a>;

    fn next(&mut self) -> Option<CertId<'a>> {
        let (cert_id, rest) = general::next_cert_id(self.rest)?;
        self.rest = rest;
        Some(cert_id)
    }
}

impl std::iter::FusedIterator for CertIds<'_> {}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::OcspRequest => "the OCSPRequest",
            Place::TbsRequest => "tbsRequest",
            Place::Version => "version",
            Place::RequestorName => "requestorName",
            Place::RequestList => "requestList",
            Place::CertId => "a CertID",
            Place::SingleExtensions => "singleRequestExtensions",
            Place::RequestExtensions => "requestExtensions",
            Place::AcceptableResponses => "AcceptableResponses",
            Place::PreferredSignatureAlgorithms => "PreferredSignatureAlgorithms",
            Place::Signature => "optionalSignature",
        })
    }
}

/// The explicitly encoded default version.
const V1: &[u8] = &[0xa0, 0x03, 0x02, 0x01, 0x00];

/// AlgorithmIdentifiers of the hash algorithms clients use, without their SEQUENCE header: parameters NULL, and absent.
const SHA1_NULL: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
const SHA1: &[u8] = &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256_NULL: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];
const SHA256: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// The whole OBJECT IDENTIFIER id-pkix-ocsp-nonce.
const NONCE: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];

/// What the straight walk finds.
struct Straight<'a> {
    first: RawCertId<'a>,
    count: usize,
    list: &'a [u8],
    nonce: Option<&'a [u8]>,
}

/// A CertID whose serial number is still octets.
struct RawCertId<'a> {
    hash: HashAlgorithm,
    name_hash: &'a [u8],
    key_hash: &'a [u8],
    serial: &'a [u8],
    der: &'a [u8],
}

/// The shape seen in practice; `None` is not a refusal, only "not that shape".
#[inline(always)]
fn straight(input: &[u8]) -> Option<Straight<'_>> {
    if input.len() > Request::MAX_LEN {
        return None;
    }
    let tbs = only(only(input, tag::SEQUENCE)?, tag::SEQUENCE)?;
    let (list, extensions) = element(tbs.strip_prefix(V1).unwrap_or(tbs), tag::SEQUENCE)?;
    let (request, mut more) = element(list, tag::SEQUENCE)?;
    let first = straight_cert_id(request)?;
    let mut count = 1;
    while !more.is_empty() {
        let request;
        (request, more) = element(more, tag::SEQUENCE)?;
        Serial::from_der_content(straight_cert_id(request)?.serial).ok()?;
        count += 1;
        if count > Request::MAX_CERT_IDS {
            return None;
        }
    }
    let nonce = match extensions {
        [] => None,
        some => Some(straight_nonce(some)?),
    };
    Some(Straight { first, count, list, nonce })
}

/// Reads a Request's content that is nothing but a CertID under SHA-1 or SHA-256.
#[inline(always)]
fn straight_cert_id(request: &[u8]) -> Option<RawCertId<'_>> {
    let (algorithm, rest) = element(only(request, tag::SEQUENCE)?, tag::SEQUENCE)?;
    let hash = if algorithm == SHA1_NULL || algorithm == SHA1 {
        HashAlgorithm::Sha1
    } else if algorithm == SHA256_NULL || algorithm == SHA256 {
        HashAlgorithm::Sha256
    } else {
        return None;
    };
    let (name_hash, rest) = element(rest, tag::OCTET_STRING)?;
    let (key_hash, rest) = element(rest, tag::OCTET_STRING)?;
    let serial = only(rest, tag::INTEGER)?;
    (name_hash.len() == hash.output_len() && key_hash.len() == hash.output_len()).then_some(RawCertId {
        hash,
        name_hash,
        key_hash,
        serial,
        der: request,
    })
}

/// Reads requestExtensions that hold nothing but a non-critical, properly wrapped nonce; gives its extnValue.
#[inline(always)]
fn straight_nonce(extensions: &[u8]) -> Option<&[u8]> {
    let extension = only(only(only(extensions, tag::context(2))?, tag::SEQUENCE)?, tag::SEQUENCE)?;
    let value = only(extension.strip_prefix(NONCE)?, tag::OCTET_STRING)?;
    let octets = only(value, tag::OCTET_STRING)?;
    (1..=Request::MAX_NONCE).contains(&octets.len()).then_some(value)
}

/// The content of the element with this tag at the front, and what follows. Lengths of up to 255 octets, or two octets
/// for lists of CertIDs.
#[inline(always)]
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    match *input {
        [t, len @ 0..=0x7f, ref rest @ ..] if t == tag => rest.split_at_checked(usize::from(len)),
        [t, 0x81, len @ 0x80..=0xff, ref rest @ ..] if t == tag => rest.split_at_checked(usize::from(len)),
        [t, 0x82, a @ 1..=0xff, b, ref rest @ ..] if t == tag => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([a, b])))
        }
        _ => None,
    }
}

/// The content of the element with this tag that is the whole input.
#[inline(always)]
fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    match element(input, tag)? {
        (content, []) => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/fixtures/requests/{name}.der", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn corpus(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/fuzz/corpus/request/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_straight_walk_takes_what_nearly_every_client_sends() {
        for name in
            ["sha1", "sha1-nonce16", "sha256", "sha256-nonce16", "serial-1", "serial-20-octets", "three-serials"]
        {
            assert!(straight(&fixture(name)).is_some(), "{name}");
        }
        for name in ["explicit-version", "sha1-parameters-absent", "sha256-parameters-absent", "nonce-32"] {
            assert!(straight(&corpus(name)).is_some(), "{name}");
        }
    }

    #[test]
    fn the_straight_walk_leaves_everything_else_to_the_general_one() {
        for name in ["signed", "signed-no-certs", "sha384", "sha512"] {
            assert!(straight(&fixture(name)).is_none(), "{name}");
        }
        for name in ["nonce-raw", "nonce-129", "nonce-critical", "line-end", "requestor-uri", "too-many-certificates"] {
            assert!(straight(&corpus(name)).is_none(), "{name}");
        }
    }
}
