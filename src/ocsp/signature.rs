//! Signature algorithms a responder signs with: identifiers byte for byte, and the way from raw signatures to the wire.

use crate::asn1::{put_header, tag, tlv_len};

/// A signature algorithm, with what its signatures' sizes follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256; raw form r‖s, 64 octets.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384; raw form r‖s, 96 octets.
    EcdsaP384Sha384,
    /// Ed25519 (RFC 8410); 64 octets.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256 {
        /// Octets of the modulus, which is the size of a signature.
        modulus_len: u16,
    },
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256, salt of 32 octets.
    RsaPssSha256 {
        /// Octets of the modulus, which is the size of a signature.
        modulus_len: u16,
    },
}

impl SignatureAlgorithm {
    /// The whole DER of the AlgorithmIdentifier, byte for byte as CA/B BR §7.1.3.2 wants it: no parameters for ECDSA and
    /// Ed25519, NULL for PKCS#1 v1.5, explicit SHA-256 parameters for PSS.
    pub const fn identifier_der(self) -> &'static [u8] {
        match self {
            Self::EcdsaP256Sha256 => &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
            Self::EcdsaP384Sha384 => &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
            Self::Ed25519 => &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
            Self::RsaPkcs1Sha256 { .. } => {
                &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00]
            }
            Self::RsaPssSha256 { .. } => &[
                0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f,
                0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0xa1, 0x1c,
                0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09,
                0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x20,
            ],
        }
    }

    /// The name used for people and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::EcdsaP384Sha384 => "ecdsa-p384-sha384",
            Self::Ed25519 => "ed25519",
            Self::RsaPkcs1Sha256 { .. } => "rsa-pkcs1-sha256",
            Self::RsaPssSha256 { .. } => "rsa-pss-sha256",
        }
    }

    /// Octets of a raw signature, the same for every signature under one key.
    pub const fn raw_len(self) -> usize {
        match self {
            Self::EcdsaP256Sha256 | Self::Ed25519 => 64,
            Self::EcdsaP384Sha384 => 96,
            Self::RsaPkcs1Sha256 { modulus_len } | Self::RsaPssSha256 { modulus_len } => modulus_len as usize,
        }
    }

    /// A stable code for files.
    pub const fn code(self) -> u8 {
        match self {
            Self::EcdsaP256Sha256 => 1,
            Self::EcdsaP384Sha384 => 2,
            Self::Ed25519 => 3,
            Self::RsaPkcs1Sha256 { .. } => 4,
            Self::RsaPssSha256 { .. } => 5,
        }
    }

    /// The algorithm with this code whose raw signatures have this size.
    pub fn from_code(code: u8, raw_len: usize) -> Option<Self> {
        let modulus_len = u16::try_from(raw_len).ok()?;
        let algorithm = match code {
            1 => Self::EcdsaP256Sha256,
            2 => Self::EcdsaP384Sha384,
            3 => Self::Ed25519,
            4 => Self::RsaPkcs1Sha256 { modulus_len },
            5 => Self::RsaPssSha256 { modulus_len },
            _ => return None,
        };
        (algorithm.raw_len() == raw_len).then_some(algorithm)
    }

    /// Octets [`SignatureAlgorithm::write_wire`] appends for this raw signature.
    #[inline]
    pub fn wire_len(self, raw: &[u8]) -> usize {
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP384Sha384 => {
                let (r, s) = raw.split_at(raw.len() / 2);
                tlv_len(tlv_len(integer_len(r)) + tlv_len(integer_len(s)))
            }
            _ => raw.len(),
        }
    }

    /// Appends the signature as it stands in the BIT STRING: ECDSA as `SEQUENCE { r, s }` (RFC 3279 §2.2.3), the others
    /// as they are.
    #[inline]
    pub fn write_wire(self, raw: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::EcdsaP256Sha256 | Self::EcdsaP384Sha384 => {
                let (r, s) = raw.split_at(raw.len() / 2);
                put_header(out, tag::SEQUENCE, tlv_len(integer_len(r)) + tlv_len(integer_len(s)));
                put_integer(out, r);
                put_integer(out, s);
            }
            _ => out.extend_from_slice(raw),
        }
    }
}

/// Content octets of a DER INTEGER for a big-endian unsigned number of fixed width.
#[inline]
fn integer_len(fixed: &[u8]) -> usize {
    let magnitude = without_leading_zeros(fixed);
    magnitude.len() + usize::from(needs_sign_octet(magnitude))
}

#[inline]
fn put_integer(out: &mut Vec<u8>, fixed: &[u8]) {
    let magnitude = without_leading_zeros(fixed);
    let sign = needs_sign_octet(magnitude);
    put_header(out, tag::INTEGER, magnitude.len() + usize::from(sign));
    if sign {
        out.push(0);
    }
    out.extend_from_slice(magnitude);
}

/// Zero itself keeps no octet here; [`needs_sign_octet`] gives it one.
#[inline]
fn without_leading_zeros(fixed: &[u8]) -> &[u8] {
    let zeros = fixed.iter().take_while(|b| **b == 0).count();
    fixed.get(zeros..).unwrap_or_default()
}

#[inline]
fn needs_sign_octet(magnitude: &[u8]) -> bool {
    magnitude.first().is_none_or(|first| *first >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;
    use der07::Decode;
    use proptest::prelude::*;

    #[test]
    fn codes_and_sizes_name_one_algorithm() {
        for a in [
            SignatureAlgorithm::EcdsaP256Sha256,
            SignatureAlgorithm::EcdsaP384Sha384,
            SignatureAlgorithm::Ed25519,
            SignatureAlgorithm::RsaPkcs1Sha256 { modulus_len: 256 },
            SignatureAlgorithm::RsaPssSha256 { modulus_len: 512 },
        ] {
            assert_eq!(SignatureAlgorithm::from_code(a.code(), a.raw_len()), Some(a));
            assert!(der07::asn1::AnyRef::from_der(a.identifier_der()).is_ok(), "{}", a.name());
        }
        assert_eq!(SignatureAlgorithm::from_code(1, 63), None);
        assert_eq!(SignatureAlgorithm::from_code(9, 64), None);
    }

    proptest! {
        #[test]
        fn ecdsa_signatures_become_the_der_another_library_writes(mut raw in proptest::collection::vec(any::<u8>(), 64), zeros in 0_usize..33) {
            raw.iter_mut().take(zeros).for_each(|b| *b = 0);
            let mut wire = Vec::new();
            let a = SignatureAlgorithm::EcdsaP256Sha256;
            a.write_wire(&raw, &mut wire);
            prop_assert_eq!(wire.len(), a.wire_len(&raw));
            let (r, s) = der07::asn1::AnyRef::from_der(&wire).unwrap().sequence(|seq| {
                use der07::{Reader, asn1::UintRef};
                let r: UintRef<'_> = seq.decode()?;
                let s: UintRef<'_> = seq.decode()?;
                assert!(seq.is_finished());
                Ok((r.as_bytes().to_vec(), s.as_bytes().to_vec()))
            }).unwrap();
            let number = |b: &[u8]| b.iter().skip_while(|x| **x == 0).copied().collect::<Vec<u8>>();
            prop_assert_eq!(number(&r), number(&raw[..32]));
            prop_assert_eq!(number(&s), number(&raw[32..]));
        }
    }
}
