//! Verifying a signature by a certificate's key (RFC 5280 §4.1.1.3), by ring.
//!
//! RSA PKCS#1 v1.5 and PSS with SHA-256, -384 and -512 and 2048 to 8192 bits; ECDSA with P-256 and P-384 and SHA-256 and
//! -384 in any combination; Ed25519.

use super::oid;
use super::public_key::{PublicKeyKind, PublicKeyParts};
use crate::asn1::{NotDer, Reader, tag, whole};
use crate::ocsp::HashAlgorithm;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// The fewest bits of an RSA modulus (BR §6.1.5, and ring's limit).
pub const MIN_RSA_BITS: usize = 2048;
/// The most bits of an RSA modulus.
pub const MAX_RSA_BITS: usize = 8192;

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature does not fit message and key.
    #[error("the signature is wrong: not made by this key over these bytes")]
    BadSignature,
    /// A signature over a SHA-1 hash, which proves nothing any more (BR §7.1.3.2.1, MRSP §5.1.3).
    #[error("signed with SHA-1, which is not accepted; have it signed again with SHA-256 or better")]
    Sha1,
    /// An algorithm that is not verified here.
    #[error("signature algorithm {0} is not supported")]
    UnsupportedSignature(String),
    /// A key that is not verified with here.
    #[error("public key algorithm {0} is not supported")]
    UnsupportedKey(String),
    /// A modulus outside [`MIN_RSA_BITS`] to [`MAX_RSA_BITS`].
    #[error("an RSA key of {0} bits is not accepted; {MIN_RSA_BITS} to {MAX_RSA_BITS} are")]
    RsaSize(usize),
    /// For example an RSA signature with an EC key.
    #[error("a signature by {signature} cannot come from a key of {key}")]
    Mismatch {
        /// The signature's algorithm.
        signature: String,
        /// The key's.
        key: String,
    },
    /// Something is not the DER it should be.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
}

/// Verifies `signature` (the octets of the BIT STRING) over `message` by the key in a SubjectPublicKeyInfo, with the
/// algorithm that an AlgorithmIdentifier names; both in DER.
pub fn verify(
    spki_der: &[u8],
    signature_algorithm_der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), VerifyError> {
    let key = PublicKeyParts::from_spki_der(spki_der).ok_or(VerifyError::Malformed("the public key"))?;
    let scheme = Scheme::read(signature_algorithm_der)?;
    let algorithm = scheme.with_key(&key.kind)?;
    UnparsedPublicKey::new(algorithm, key.bits).verify(message, signature).map_err(|_| VerifyError::BadSignature)
}

/// A signature algorithm as its AlgorithmIdentifier gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1(HashAlgorithm),
    Pss(HashAlgorithm),
    Ecdsa(HashAlgorithm),
    Ed25519,
}

impl Scheme {
    fn read(algorithm_der: &[u8]) -> Result<Self, VerifyError> {
        let malformed = |_: NotDer| VerifyError::Malformed("the signature algorithm");
        let mut reader = Reader::new(whole(algorithm_der, tag::SEQUENCE).map_err(malformed)?);
        let name = reader.expect(tag::OID).map_err(malformed)?;
        let parameters = reader.rest();
        let no_parameters = || match parameters {
            [] => Ok(()),
            _ => Err(VerifyError::Malformed("the signature algorithm's parameters")),
        };
        // RFC 4055 §5: NULL is right, absent must be accepted.
        let null_parameters = || match parameters {
            [] | [tag::NULL, 0] => Ok(()),
            _ => Err(VerifyError::Malformed("the signature algorithm's parameters")),
        };
        match name {
            oid::SHA256_WITH_RSA => null_parameters().map(|()| Scheme::Pkcs1(HashAlgorithm::Sha256)),
            oid::SHA384_WITH_RSA => null_parameters().map(|()| Scheme::Pkcs1(HashAlgorithm::Sha384)),
            oid::SHA512_WITH_RSA => null_parameters().map(|()| Scheme::Pkcs1(HashAlgorithm::Sha512)),
            oid::RSASSA_PSS => pss(parameters),
            oid::ECDSA_WITH_SHA256 => no_parameters().map(|()| Scheme::Ecdsa(HashAlgorithm::Sha256)),
            oid::ECDSA_WITH_SHA384 => no_parameters().map(|()| Scheme::Ecdsa(HashAlgorithm::Sha384)),
            oid::ED25519 => no_parameters().map(|()| Scheme::Ed25519),
            oid::SHA1_WITH_RSA | oid::OIW_SHA1_WITH_RSA | oid::ECDSA_WITH_SHA1 => Err(VerifyError::Sha1),
            oid::MD5_WITH_RSA => Err(VerifyError::UnsupportedSignature("md5WithRSAEncryption".to_owned())),
            other => Err(VerifyError::UnsupportedSignature(oid::text(other))),
        }
    }

    fn with_key(self, key: &PublicKeyKind) -> Result<&'static dyn VerificationAlgorithm, VerifyError> {
        use HashAlgorithm::{Sha1, Sha256, Sha384, Sha512};
        use PublicKeyKind::{Ed25519, Other, P256, P384, P521, Rsa};
        if let Rsa { bits, .. } = key
            && !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(bits)
        {
            return Err(VerifyError::RsaSize(*bits));
        }
        Ok(match (self, key) {
            (_, P521 | Other(_)) => return Err(VerifyError::UnsupportedKey(key.to_string())),
            (Scheme::Pkcs1(Sha256), Rsa { pss_only: false, .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Scheme::Pkcs1(Sha384), Rsa { pss_only: false, .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Scheme::Pkcs1(Sha512), Rsa { pss_only: false, .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Scheme::Pss(Sha256), Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA256,
            (Scheme::Pss(Sha384), Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA384,
            (Scheme::Pss(Sha512), Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA512,
            (Scheme::Ecdsa(Sha256), P256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Scheme::Ecdsa(Sha384), P256) => &signature::ECDSA_P256_SHA384_ASN1,
            (Scheme::Ecdsa(Sha256), P384) => &signature::ECDSA_P384_SHA256_ASN1,
            (Scheme::Ecdsa(Sha384), P384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Scheme::Ed25519, Ed25519) => &signature::ED25519,
            (Scheme::Pkcs1(Sha1) | Scheme::Pss(Sha1) | Scheme::Ecdsa(Sha1), _) => return Err(VerifyError::Sha1),
            _ => return Err(VerifyError::Mismatch { signature: self.name().to_owned(), key: key.to_string() }),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Pkcs1(_) => "RSA PKCS#1 v1.5",
            Scheme::Pss(_) => "RSA-PSS",
            Scheme::Ecdsa(_) => "ECDSA",
            Scheme::Ed25519 => "Ed25519",
        }
    }
}

/// RSASSA-PSS-params (RFC 4055 §3.1): one hash for message and mask, a salt as long as that hash, trailer 1.
fn pss(parameters: &[u8]) -> Result<Scheme, VerifyError> {
    let (hash, fits) = pss_hash(parameters).map_err(|_| VerifyError::Malformed("the RSASSA-PSS parameters"))?;
    match hash {
        None | Some(HashAlgorithm::Sha1) => Err(VerifyError::Sha1),
        Some(hash) if fits => Ok(Scheme::Pss(hash)),
        Some(_) => Err(VerifyError::UnsupportedSignature(
            "RSASSA-PSS whose mask hash or salt length differs from its hash".to_owned(),
        )),
    }
}

/// The hash, and whether everything else fits it. No hash given means SHA-1.
fn pss_hash(parameters: &[u8]) -> Result<(Option<HashAlgorithm>, bool), NotDer> {
    let mut fields = Reader::new(whole(parameters, tag::SEQUENCE)?);
    let Some(hash) = fields.optional(tag::context(0))? else { return Ok((None, false)) };
    let hash = Reader::new(whole(hash, tag::SEQUENCE)?).expect(tag::OID)?;
    let mut mask_fits = false;
    if let Some(mask) = fields.optional(tag::context(1))? {
        let mut mask = Reader::new(whole(mask, tag::SEQUENCE)?);
        let is_mgf1 = mask.expect(tag::OID)? == oid::MGF1;
        mask_fits = is_mgf1 && Reader::new(mask.expect(tag::SEQUENCE)?).expect(tag::OID)? == hash;
    }
    let salt = fields.optional(tag::context(2))?.map(|s| whole(s, tag::INTEGER)).transpose()?.unwrap_or(&[20]);
    let trailer = fields.optional(tag::context(3))?.map(|s| whole(s, tag::INTEGER)).transpose()?.unwrap_or(&[1]);
    fields.end()?;
    // An algorithm we do not know never fits; SHA-512 stands in for its name only.
    let Some(hash) = HashAlgorithm::from_oid(hash) else { return Ok((Some(HashAlgorithm::Sha512), false)) };
    let salt_fits = matches!(salt, [n] if usize::from(*n) == hash.output_len());
    Ok((Some(hash), mask_fits && salt_fits && trailer == [1]))
}
