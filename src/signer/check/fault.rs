//! What can be wrong with a signer, each with a stable code, the clause it offends and what to do.

use crate::time::Timestamp;
use crate::x509::VerifyError;

/// One thing that is wrong, or unwise, about a signer. Which of the two depends on the profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerFault {
    /// The certificate certifies another key.
    #[error("the private key does not belong to the certificate; give the pair that was made together")]
    KeyMismatch,
    /// The issuer named in the certificate is not the CA.
    #[error("the signer was issued by {found}, not by {expected}; have this CA issue it directly")]
    WrongIssuer {
        /// The issuer in the signer's certificate.
        found: String,
        /// The CA's subject.
        expected: String,
    },
    /// The CA's certificate is not one of a CA, or may not sign certificates.
    #[error("the issuer's certificate is not that of a CA that may sign certificates; give the CA's own certificate")]
    IssuerNotCa,
    /// The CA's certificate has run out.
    #[error("the CA's certificate expired at {0}; clients will not accept responses under it")]
    IssuerExpired(Timestamp),
    /// The signature under the CA's key is wrong.
    #[error(
        "the signer's certificate is not signed by the CA's key: {0}; after a re-key, each CA key needs its own signer"
    )]
    BadSignature(VerifyError),
    /// The signature under the CA's key is of a kind that is not verified here.
    #[error("the CA's signature on the signer's certificate cannot be verified: {0}")]
    UnverifiableSignature(VerifyError),
    /// The certificate is signed over SHA-1.
    #[error("the signer's certificate is signed with SHA-1; have it issued again with SHA-256 or better")]
    Sha1,
    /// extKeyUsage lacks id-kp-OCSPSigning; nothing else stands in for it.
    #[error("the signer's certificate lacks the extended key usage OCSPSigning; have it issued for OCSP signing")]
    NoOcspSigning,
    /// id-pkix-ocsp-nocheck is missing.
    #[error(
        "the signer's certificate lacks id-pkix-ocsp-nocheck, so clients may ask whether the signer itself is revoked; have it issued with nocheck"
    )]
    NoNocheck,
    /// id-pkix-ocsp-nocheck holds something else than NULL.
    #[error("the value of id-pkix-ocsp-nocheck is not NULL (05 00); have the certificate issued again")]
    NocheckNotNull,
    /// id-pkix-ocsp-nocheck is critical.
    #[error("id-pkix-ocsp-nocheck is marked critical; have the certificate issued with it non-critical")]
    NocheckCritical,
    /// Its validity has not begun.
    #[error("the signer's certificate is not valid before {0}; wait, or check this machine's clock")]
    NotYetValid(Timestamp),
    /// Its validity is over.
    #[error("the signer's certificate expired at {0}; renew it")]
    Expired(Timestamp),
    /// A key that the profile does not allow.
    #[error("a key of {0} may not sign responses; use {1}")]
    KeyNotAllowed(String, &'static str),
    /// The AuthorityKeyIdentifier names another key.
    #[error(
        "authorityKeyIdentifier is not the CA's subjectKeyIdentifier; the signer belongs to another key of this CA"
    )]
    AuthorityKeyIdDiffers,
    /// A delegated signer whose keyUsage forbids signing responses.
    #[error("the signer's keyUsage lacks digitalSignature; have it issued with digitalSignature")]
    NoDigitalSignature,
    /// A CA whose keyUsage does not let it sign responses itself.
    #[error("the CA itself may not sign responses: its keyUsage lacks digitalSignature; use a delegated signer")]
    CaMayNotSign,
    /// The key did not sign a test message so that the certificate's key verifies it.
    #[error("the key failed to sign a test response: {0}")]
    TestSignature(String),
    /// An extension that clients need not know is critical, so they must refuse the certificate.
    #[error("the extension {0} is marked critical, but clients need not know it and will refuse the signer")]
    CriticalExtension(String),
    /// The signer is itself a CA.
    #[error("the delegated signer's certificate is that of a CA; have it issued as an end entity")]
    SignerIsCa,
    /// authorityInfoAccess or cRLDistributionPoints beside nocheck.
    #[error("the extension {0} is not wanted in a signer's certificate; leave it out next time")]
    NotRecommended(String),
    /// An extension that must not be there.
    #[error("the extension {0} must not be in a signer's certificate; have it issued without")]
    Forbidden(String),
    /// An extension that must be there.
    #[error("the extension {0} is missing; have the certificate issued with it")]
    Missing(&'static str),
    /// Not X.509 version 3.
    #[error("the signer's certificate has version {0}; it must be 3")]
    Version(u8),
    /// Zero, negative, or 2^159 and more.
    #[error("the serial number must be greater than 0 and less than 2^159; have the certificate issued again")]
    SerialNumber,
    /// extKeyUsage names other purposes beside OCSPSigning.
    #[error("the extended key usage must be OCSPSigning and nothing else; have it issued without the others")]
    OtherPurposes,
    /// keyUsage has other bits beside digitalSignature.
    #[error("keyUsage must be digitalSignature and nothing else; have it issued without the others")]
    OtherKeyUsages,
    /// keyUsage is not critical.
    #[error("keyUsage must be critical")]
    KeyUsageNotCritical,
    /// authorityKeyIdentifier is critical.
    #[error("authorityKeyIdentifier must not be critical")]
    AuthorityKeyIdCritical,
    /// basicConstraints holds anything but an empty SEQUENCE.
    #[error("basicConstraints must be an empty SEQUENCE (30 00)")]
    BasicConstraintsNotEmpty,
    /// The subject lacks a naming attribute.
    #[error("the subject lacks {0}; it must have countryName, organizationName and commonName")]
    SubjectLacks(&'static str),
    /// The AlgorithmIdentifier is not byte for byte one of those allowed for the CA's key.
    #[error("the certificate's signature algorithm identifier is not one allowed for the CA's key of {0}")]
    AlgorithmIdentifier(String),
}

impl SignerFault {
    /// A stable name for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::KeyMismatch => "key-mismatch",
            Self::WrongIssuer { .. } => "wrong-issuer",
            Self::IssuerNotCa => "issuer-not-ca",
            Self::IssuerExpired(_) => "issuer-expired",
            Self::BadSignature(_) => "bad-signature",
            Self::UnverifiableSignature(_) => "unverifiable-signature",
            Self::Sha1 => "sha1",
            Self::NoOcspSigning => "no-ocsp-signing",
            Self::NoNocheck => "no-nocheck",
            Self::NocheckNotNull => "nocheck-not-null",
            Self::NocheckCritical => "nocheck-critical",
            Self::NotYetValid(_) => "not-yet-valid",
            Self::Expired(_) => "expired",
            Self::KeyNotAllowed(..) => "key-not-allowed",
            Self::AuthorityKeyIdDiffers => "authority-key-id-differs",
            Self::NoDigitalSignature => "no-digital-signature",
            Self::CaMayNotSign => "ca-may-not-sign",
            Self::TestSignature(_) => "test-signature",
            Self::CriticalExtension(_) => "critical-extension",
            Self::SignerIsCa => "signer-is-ca",
            Self::NotRecommended(_) => "not-recommended",
            Self::Forbidden(_) => "forbidden-extension",
            Self::Missing(_) => "missing-extension",
            Self::Version(_) => "version",
            Self::SerialNumber => "serial-number",
            Self::OtherPurposes => "other-purposes",
            Self::OtherKeyUsages => "other-key-usages",
            Self::KeyUsageNotCritical => "key-usage-not-critical",
            Self::AuthorityKeyIdCritical => "authority-key-id-critical",
            Self::BasicConstraintsNotEmpty => "basic-constraints-not-empty",
            Self::SubjectLacks(_) => "subject-lacks",
            Self::AlgorithmIdentifier(_) => "algorithm-identifier",
        }
    }

    /// Where it is written. "BR" are the CA/B Forum's TLS Baseline Requirements, "MRSP" Mozilla's Root Store Policy.
    pub const fn clause(&self) -> &'static str {
        match self {
            Self::KeyMismatch => "RFC 6960 §3.2",
            Self::WrongIssuer { .. } => "RFC 6960 §4.2.2.2",
            Self::IssuerNotCa => "RFC 5280 §6.1.4",
            Self::IssuerExpired(_) | Self::NotYetValid(_) | Self::Expired(_) => "RFC 5280 §4.1.2.5",
            Self::BadSignature(_) | Self::UnverifiableSignature(_) => "RFC 6960 §4.2.2.2",
            Self::Sha1 => "BR §7.1.3.2.1, MRSP §5.1.3",
            Self::NoOcspSigning => "RFC 6960 §4.2.2.2",
            Self::NoNocheck => "RFC 6960 §4.2.2.2.1, RFC 9919 §3.2.2, BR §7.1.2.8.6, MRSP §5.2",
            Self::NocheckNotNull | Self::NocheckCritical => "RFC 6960 §4.2.2.2.1, BR §7.1.2.8.6",
            Self::KeyNotAllowed(..) => "BR §6.1.5, MRSP §5.1",
            Self::AuthorityKeyIdDiffers => "RFC 5280 §4.2.1.1",
            Self::NoDigitalSignature => "RFC 5280 §4.2.1.3",
            Self::CaMayNotSign => "RFC 5280 §4.2.1.3, BR §7.1.2.10.7",
            Self::TestSignature(_) => "RFC 6960 §3.2",
            Self::CriticalExtension(_) => "RFC 5280 §4.2",
            Self::SignerIsCa | Self::BasicConstraintsNotEmpty => "BR §7.1.2.8.4",
            Self::NotRecommended(_) => "RFC 9919 §3.2.2, BR §7.1.2.8.2",
            Self::Forbidden(_) | Self::Missing(_) | Self::KeyUsageNotCritical | Self::AuthorityKeyIdCritical => {
                "BR §7.1.2.8.2"
            }
            Self::Version(_) | Self::SerialNumber => "BR §7.1.2.8",
            Self::OtherPurposes => "BR §7.1.2.8.5, MRSP §7.5.1, Microsoft Trusted Root Program §3.1.18",
            Self::OtherKeyUsages => "BR §7.1.2.8.7",
            Self::SubjectLacks(_) => "BR §7.1.2.10.2",
            Self::AlgorithmIdentifier(_) => "BR §7.1.3.2",
        }
    }
}

/// Why a signer may not be used: at least one fault, and what is unwise besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerRefused {
    /// What must be put right. Never empty.
    pub faults: Vec<SignerFault>,
    /// What should be put right.
    pub warnings: Vec<SignerFault>,
}

/// All faults in one line, each with its clause.
impl std::fmt::Display for SignerRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{fault} ({})", fault.clause())?;
        }
        Ok(())
    }
}

impl std::error::Error for SignerRefused {}
