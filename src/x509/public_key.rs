//! SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480, RFC 8410).

use super::oid;
use crate::asn1::{NotDer, Reader, tag, whole};
use std::fmt;

/// What kind of key a SubjectPublicKeyInfo holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// RSA; the size of the modulus in bits. `pss_only` when the key itself is restricted to PSS (RFC 4055 §1.2).
    Rsa {
        /// Bits of the modulus.
        bits: usize,
        /// id-RSASSA-PSS instead of rsaEncryption.
        pss_only: bool,
    },
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521, which cannot be verified here.
    P521,
    /// Ed25519.
    Ed25519,
    /// Any other, by the OBJECT IDENTIFIER of its algorithm or curve.
    Other(String),
}

/// The parts of a SubjectPublicKeyInfo, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyParts<'a> {
    /// What kind it is.
    pub kind: PublicKeyKind,
    /// The value of the BIT STRING without its unused-bits octet: what a CertID and a byKey ResponderID hash.
    pub bits: &'a [u8],
}

impl<'a> PublicKeyParts<'a> {
    /// Reads the DER of a SubjectPublicKeyInfo; `None` when it is not one.
    pub fn from_spki_der(spki_der: &'a [u8]) -> Option<Self> {
        Self::read(spki_der).ok()
    }

    fn read(spki_der: &'a [u8]) -> Result<Self, NotDer> {
        let mut spki = Reader::new(whole(spki_der, tag::SEQUENCE)?);
        let mut algorithm = Reader::new(spki.expect(tag::SEQUENCE)?);
        let bits = bit_string(spki.expect(tag::BIT_STRING)?)?;
        spki.end()?;
        let algorithm_oid = algorithm.expect(tag::OID)?;
        let kind = match algorithm_oid {
            oid::RSA_ENCRYPTION => PublicKeyKind::Rsa { bits: modulus_bits(bits)?, pss_only: false },
            oid::RSASSA_PSS => PublicKeyKind::Rsa { bits: modulus_bits(bits)?, pss_only: true },
            oid::ED25519 => PublicKeyKind::Ed25519,
            oid::EC_PUBLIC_KEY => match algorithm.optional(tag::OID)? {
                Some(oid::P256) => PublicKeyKind::P256,
                Some(oid::P384) => PublicKeyKind::P384,
                Some(oid::P521) => PublicKeyKind::P521,
                Some(curve) => PublicKeyKind::Other(oid::text(curve)),
                None => PublicKeyKind::Other("EC with explicit parameters".to_owned()),
            },
            other => PublicKeyKind::Other(oid::text(other)),
        };
        Ok(PublicKeyParts { kind, bits })
    }
}

impl fmt::Display for PublicKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublicKeyKind::Rsa { bits, pss_only: false } => write!(f, "RSA {bits}"),
            PublicKeyKind::Rsa { bits, pss_only: true } => write!(f, "RSA-PSS {bits}"),
            PublicKeyKind::P256 => f.write_str("ECDSA P-256"),
            PublicKeyKind::P384 => f.write_str("ECDSA P-384"),
            PublicKeyKind::P521 => f.write_str("ECDSA P-521"),
            PublicKeyKind::Ed25519 => f.write_str("Ed25519"),
            PublicKeyKind::Other(name) => f.write_str(name),
        }
    }
}

/// The octets of a BIT STRING that holds whole octets.
pub(crate) fn bit_string(content: &[u8]) -> Result<&[u8], NotDer> {
    match content {
        [0, bits @ ..] => Ok(bits),
        _ => Err(NotDer),
    }
}

/// Bits of the modulus of an RSAPublicKey (RFC 8017 App. A.1.1).
pub(crate) fn modulus_bits(rsa_public_key: &[u8]) -> Result<usize, NotDer> {
    let modulus = Reader::new(whole(rsa_public_key, tag::SEQUENCE)?).expect(tag::INTEGER)?;
    let magnitude = match modulus {
        [0, rest @ ..] => rest,
        all => all,
    };
    let first = magnitude.first().ok_or(NotDer)?;
    Ok((magnitude.len() * 8).saturating_sub(first.leading_zeros() as usize))
}
