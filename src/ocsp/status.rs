//! What can be said of a certificate, and what can be said instead.

use crate::time::Timestamp;

/// CRLReason (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[repr(u8)]
pub enum Reason {
    /// Never written: RFC 5280 wants the field left out instead.
    Unspecified = 0,
    /// The subject's private key is, or may be, known to others.
    KeyCompromise = 1,
    /// The CA's private key is, or may be, known to others.
    CaCompromise = 2,
    /// The subject's name or other data changed.
    AffiliationChanged = 3,
    /// The certificate was replaced.
    Superseded = 4,
    /// The certificate is no longer needed.
    CessationOfOperation = 5,
    /// On hold; may come back.
    CertificateHold = 6,
    /// Taken off hold; only in delta CRLs.
    RemoveFromCrl = 8,
    /// A privilege in the certificate was withdrawn.
    PrivilegeWithdrawn = 9,
    /// An attribute authority's key is compromised.
    AaCompromise = 10,
}

impl Reason {
    /// All reasons, in the order of their codes.
    pub const ALL: [Reason; 10] = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::CaCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
        Reason::CertificateHold,
        Reason::RemoveFromCrl,
        Reason::PrivilegeWithdrawn,
        Reason::AaCompromise,
    ];

    /// The reason with this ENUMERATED value; 7 is unused.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|r| *r as u8 == code)
    }

    /// The name RFC 5280 and `index.txt` use: `keyCompromise`, `superseded`, …
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Unspecified => "unspecified",
            Reason::KeyCompromise => "keyCompromise",
            Reason::CaCompromise => "CACompromise",
            Reason::AffiliationChanged => "affiliationChanged",
            Reason::Superseded => "superseded",
            Reason::CessationOfOperation => "cessationOfOperation",
            Reason::CertificateHold => "certificateHold",
            Reason::RemoveFromCrl => "removeFromCRL",
            Reason::PrivilegeWithdrawn => "privilegeWithdrawn",
            Reason::AaCompromise => "AACompromise",
        }
    }

    /// The reason with this name, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(name))
    }
}

/// CertStatus (RFC 6960 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertStatus {
    /// Not revoked, as far as the responder knows (RFC 6960 §2.2).
    Good,
    /// Revoked, or on hold.
    Revoked {
        /// revocationTime.
        at: Timestamp,
        /// revocationReason; `None` leaves the field out, which is how `unspecified` is said.
        reason: Option<Reason>,
    },
    /// The responder does not know the certificate.
    Unknown,
}

impl CertStatus {
    /// Whether it is revoked, or on hold.
    pub const fn is_revoked(&self) -> bool {
        matches!(self, CertStatus::Revoked { .. })
    }
}

/// OCSPResponseStatus other than `successful` (RFC 6960 §4.2.1). Value 4 is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorStatus {
    /// The request does not follow the syntax.
    MalformedRequest = 1,
    /// The responder's own state is at fault.
    InternalError = 2,
    /// Able in principle, not now.
    TryLater = 3,
    /// The request must be signed.
    SigRequired = 5,
    /// Not permitted, or no authoritative answer here (RFC 9919 §3.2.3).
    Unauthorized = 6,
}

impl ErrorStatus {
    /// All of them.
    pub const ALL: [ErrorStatus; 5] = [
        ErrorStatus::MalformedRequest,
        ErrorStatus::InternalError,
        ErrorStatus::TryLater,
        ErrorStatus::SigRequired,
        ErrorStatus::Unauthorized,
    ];

    /// The five octets of the whole OCSPResponse: `30 03 0A 01 xx`, unsigned and without responseBytes.
    pub const fn response(self) -> &'static [u8; 5] {
        match self {
            ErrorStatus::MalformedRequest => &[0x30, 0x03, 0x0a, 0x01, 1],
            ErrorStatus::InternalError => &[0x30, 0x03, 0x0a, 0x01, 2],
            ErrorStatus::TryLater => &[0x30, 0x03, 0x0a, 0x01, 3],
            ErrorStatus::SigRequired => &[0x30, 0x03, 0x0a, 0x01, 5],
            ErrorStatus::Unauthorized => &[0x30, 0x03, 0x0a, 0x01, 6],
        }
    }

    /// The name in RFC 6960: `malformedRequest`, `internalError`, …
    pub const fn name(self) -> &'static str {
        match self {
            ErrorStatus::MalformedRequest => "malformedRequest",
            ErrorStatus::InternalError => "internalError",
            ErrorStatus::TryLater => "tryLater",
            ErrorStatus::SigRequired => "sigRequired",
            ErrorStatus::Unauthorized => "unauthorized",
        }
    }
}
