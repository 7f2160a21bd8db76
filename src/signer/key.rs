//! A private key held in memory, by ring.

use super::key_format::{Curve, PrivateKey, key_der, private_key};
use super::rsa_generation;
use crate::asn1::{Reader, put_header, put_tlv, tag, tlv, whole};
use crate::ocsp::SignatureAlgorithm;
use crate::x509::{Certificate, PublicKeyKind, SignError, Signer, oid, pem::PemError};
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The largest key file that is read, in octets.
pub const MAX_KEY_LEN: usize = 64 * 1024;

/// A private key that can sign. Shows nothing of itself when printed.
///
/// It holds the key as ring does, which does not wipe it when dropped; every buffer it was read from is wiped. A clone is
/// another handle to the same key, not a copy of it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Pair,
    algorithm: SignatureAlgorithm,
    public: Box<[u8]>,
    rng: SystemRandom,
}

/// A kind of key to generate or to ask a certificate for, as the configuration names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum KeyKind {
    /// NIST P-256: the smallest responses and the fastest signing.
    #[default]
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    /// NIST P-384.
    #[serde(rename = "ecdsa-p384")]
    EcdsaP384,
    /// RSA with 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA with 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA with 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// Ed25519.
    #[serde(rename = "ed25519")]
    Ed25519,
}

/// How an RSA key signs; always with SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RsaPadding {
    /// RSASSA-PKCS1-v1_5, which every client verifies.
    #[default]
    Pkcs1,
    /// RSASSA-PSS with a salt as long as the hash.
    Pss,
}

/// Why a private key cannot be used. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a file with a key in it.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// No private key among what the file holds.
    #[error(
        "there is no private key in it; expected PKCS#8 (PRIVATE KEY), EC PRIVATE KEY or RSA PRIVATE KEY, PEM or DER"
    )]
    NoKey,
    /// More than one.
    #[error("there is more than one private key in it; keep one to a file")]
    SeveralKeys,
    /// Larger than [`MAX_KEY_LEN`].
    #[error("{0} octets are too many for a private key; at most {MAX_KEY_LEN} are read")]
    TooLarge(usize),
    /// Protected by a passphrase.
    #[error(
        "the private key is encrypted, which is not supported; decrypt it with `openssl pkey -in FILE -out NEW` and protect NEW by file permissions"
    )]
    Encrypted,
    /// The DER is broken, or its parts do not belong together.
    #[error("the private key is damaged")]
    Damaged,
    /// A consistent key that ring refuses.
    #[error("the private key is refused: {0}")]
    Rejected(String),
    /// An EC key without its public point, which cannot be computed here.
    #[error(
        "the EC private key lacks its uncompressed public key; add it with `openssl ec -in FILE -out NEW -conv_form uncompressed`"
    )]
    NoPublicKey,
    /// An EC key without its public point beside a certificate for another key.
    #[error("the private key does not belong to its certificate, or is damaged")]
    OtherCertificate,
    /// A kind of key that cannot sign here.
    #[error("{0} cannot be used; ECDSA P-256 or P-384, RSA 2048 to 4096 or Ed25519 can")]
    Unsupported(String),
    /// A modulus that is too short or too long.
    #[error("an RSA key of {0} bits cannot be used; 2048 to 4096 bits, a multiple of 8, can")]
    RsaSize(usize),
    /// The system's random source failed.
    #[error("the system gave no randomness for a new key")]
    NoRandomness,
}

impl SigningKey {
    /// Reads a private key from a file's bytes: PKCS#8, SEC 1 or PKCS#1, PEM or DER, not encrypted.
    ///
    /// `padding` says how an RSA key signs; other keys have one way only. The caller wipes `bytes`.
    pub fn load(bytes: &[u8], padding: RsaPadding) -> Result<Self, KeyError> {
        Self::load_for(bytes, padding, None)
    }

    /// As [`SigningKey::load`], with the certificate it belongs to, if known: some tools write EC keys without the public
    /// key, which is then taken from the certificate and checked against the private one.
    pub fn load_for(bytes: &[u8], padding: RsaPadding, certificate: Option<&Certificate>) -> Result<Self, KeyError> {
        if bytes.len() > MAX_KEY_LEN {
            return Err(KeyError::TooLarge(bytes.len()));
        }
        let der = key_der(bytes)?;
        let rng = SystemRandom::new();
        let pair = match private_key(&der)? {
            PrivateKey::Rsa(key) => Pair::Rsa(Arc::new(rsa_pair(key)?), padding),
            PrivateKey::Ed25519(pkcs8) => Pair::Ed25519(Arc::new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)?)),
            PrivateKey::Ec { curve, scalar, public } => {
                let scalar = fixed_width(curve, scalar)?;
                let own = public.filter(|point| matches!(point, [0x04, ..]));
                let public = own.or(certificate.map(Certificate::key_bits)).ok_or(KeyError::NoPublicKey)?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(ring_curve(curve), &scalar, public, &rng);
                match pair {
                    Ok(pair) => Pair::Ec(curve, Arc::new(pair)),
                    Err(_) if own.is_none() => return Err(KeyError::OtherCertificate),
                    Err(rejected) => return Err(rejected.into()),
                }
            }
        };
        Ok(Self::from_pair(pair, rng))
    }

    /// Makes a new key and its PKCS#8 document, to be kept in a file. An RSA key takes up to seconds.
    pub fn generate(kind: KeyKind) -> Result<(Self, Zeroizing<Vec<u8>>), KeyError> {
        let rng = SystemRandom::new();
        let by_ring = |document: Result<ring::pkcs8::Document, _>| {
            let document = document.map_err(|_: ring::error::Unspecified| KeyError::NoRandomness)?;
            first_version(document.as_ref()).ok_or(KeyError::Damaged)
        };
        let pkcs8 = match kind {
            KeyKind::EcdsaP256 => by_ring(EcdsaKeyPair::generate_pkcs8(ring_curve(Curve::P256), &rng))?,
            KeyKind::EcdsaP384 => by_ring(EcdsaKeyPair::generate_pkcs8(ring_curve(Curve::P384), &rng))?,
            KeyKind::Ed25519 => by_ring(Ed25519KeyPair::generate_pkcs8(&rng))?,
            KeyKind::Rsa2048 => rsa_generation::generate(2048)?,
            KeyKind::Rsa3072 => rsa_generation::generate(3072)?,
            KeyKind::Rsa4096 => rsa_generation::generate(4096)?,
        };
        Ok((Self::load(&pkcs8, RsaPadding::default())?, pkcs8))
    }

    /// The same key, signing with this padding if it is an RSA key.
    #[must_use]
    pub fn with_padding(&self, padding: RsaPadding) -> Self {
        let pair = match &self.pair {
            Pair::Rsa(key, _) => Pair::Rsa(key.clone(), padding),
            other => other.clone(),
        };
        Self::from_pair(pair, self.rng.clone())
    }

    /// Octets of every signature [`Signer::sign_raw`] makes.
    pub fn raw_len(&self) -> usize {
        self.algorithm.raw_len()
    }

    /// Whether a certificate certifies this very key.
    pub fn matches(&self, certificate: &Certificate) -> bool {
        let same_kind = matches!(
            (&self.pair, certificate.key_kind()),
            (Pair::Ec(Curve::P256, _), PublicKeyKind::P256)
                | (Pair::Ec(Curve::P384, _), PublicKeyKind::P384)
                | (Pair::Rsa(..), PublicKeyKind::Rsa { .. })
                | (Pair::Ed25519(_), PublicKeyKind::Ed25519)
        );
        same_kind && *self.public == *certificate.key_bits()
    }

    /// The DER of its SubjectPublicKeyInfo (RFC 3279 §2.3.1, RFC 5480 §2.1.1, RFC 8410 §4).
    pub fn spki_der(&self) -> Vec<u8> {
        let mut algorithm = Vec::new();
        match &self.pair {
            Pair::Ec(curve, _) => {
                put_tlv(&mut algorithm, tag::OID, oid::EC_PUBLIC_KEY);
                put_tlv(&mut algorithm, tag::OID, if *curve == Curve::P256 { oid::P256 } else { oid::P384 });
            }
            Pair::Rsa(..) => {
                put_tlv(&mut algorithm, tag::OID, oid::RSA_ENCRYPTION);
                put_tlv(&mut algorithm, tag::NULL, &[]);
            }
            Pair::Ed25519(_) => put_tlv(&mut algorithm, tag::OID, oid::ED25519),
        }
        let mut content = tlv(tag::SEQUENCE, &algorithm);
        put_header(&mut content, tag::BIT_STRING, self.public.len() + 1);
        content.push(0);
        content.extend_from_slice(&self.public);
        tlv(tag::SEQUENCE, &content)
    }

    fn from_pair(pair: Pair, rng: SystemRandom) -> Self {
        let (algorithm, public): (_, Box<[u8]>) = match &pair {
            Pair::Ec(Curve::P256, key) => (SignatureAlgorithm::EcdsaP256Sha256, key.public_key().as_ref().into()),
            Pair::Ec(Curve::P384, key) => (SignatureAlgorithm::EcdsaP384Sha384, key.public_key().as_ref().into()),
            Pair::Ed25519(key) => (SignatureAlgorithm::Ed25519, key.public_key().as_ref().into()),
            Pair::Rsa(key, padding) => {
                // At most 512, see `rsa_pair`.
                let modulus_len = u16::try_from(key.public().modulus_len()).unwrap_or(u16::MAX);
                let algorithm = match padding {
                    RsaPadding::Pkcs1 => SignatureAlgorithm::RsaPkcs1Sha256 { modulus_len },
                    RsaPadding::Pss => SignatureAlgorithm::RsaPssSha256 { modulus_len },
                };
                (algorithm, key.public_key().as_ref().into())
            }
        };
        SigningKey { pair, algorithm, public, rng }
    }
}

impl Signer for SigningKey {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn public_key_bits(&self) -> &[u8] {
        &self.public
    }

    fn sign_raw(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SignError> {
        let failed =
            |_: ring::error::Unspecified| SignError("the system gave no randomness, or the key is faulty".into());
        match &self.pair {
            Pair::Ec(_, key) => out.extend_from_slice(key.sign(&self.rng, message).map_err(failed)?.as_ref()),
            Pair::Ed25519(key) => out.extend_from_slice(key.sign(message).as_ref()),
            Pair::Rsa(key, padding) => {
                let padding: &dyn signature::RsaEncoding = match padding {
                    RsaPadding::Pkcs1 => &signature::RSA_PKCS1_SHA256,
                    RsaPadding::Pss => &signature::RSA_PSS_SHA256,
                };
                let start = out.len();
                out.resize(start + self.raw_len(), 0);
                let signed = key.sign(padding, &self.rng, message, out.get_mut(start..).unwrap_or_default());
                if let Err(error) = signed {
                    out.truncate(start);
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }
}

/// The algorithm, nothing else.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm.name())
    }
}

impl From<ring::error::KeyRejected> for KeyError {
    /// ring describes what is wrong in general words, without any of the key.
    fn from(rejected: ring::error::KeyRejected) -> Self {
        KeyError::Rejected(rejected.to_string())
    }
}

#[derive(Clone)]
enum Pair {
    Ec(Curve, Arc<EcdsaKeyPair>),
    Rsa(Arc<RsaKeyPair>, RsaPadding),
    Ed25519(Arc<Ed25519KeyPair>),
}

fn ring_curve(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    }
}

/// Some tools drop leading zeros of the scalar, others add one.
fn fixed_width(curve: Curve, mut scalar: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    while scalar.len() > curve.scalar_len()
        && let [0, rest @ ..] = scalar
    {
        scalar = rest;
    }
    let zeros = curve.scalar_len().checked_sub(scalar.len()).ok_or(KeyError::Damaged)?;
    let mut fixed = Zeroizing::new(Vec::with_capacity(curve.scalar_len()));
    fixed.resize(zeros, 0);
    fixed.extend_from_slice(scalar);
    Ok(fixed)
}

/// PKCS#8 version 1: ring writes Ed25519 keys in version 2, which many tools do not read.
fn first_version(pkcs8: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut fields = Reader::new(whole(pkcs8, tag::SEQUENCE).ok()?);
    let _version = fields.expect(tag::INTEGER).ok()?;
    let algorithm = fields.expect_tlv(tag::SEQUENCE).ok()?;
    let key = fields.expect_tlv(tag::OCTET_STRING).ok()?;
    let mut content = Zeroizing::new(Vec::with_capacity(pkcs8.len()));
    put_tlv(&mut content, tag::INTEGER, &[0]);
    content.extend_from_slice(algorithm.der);
    content.extend_from_slice(key.der);
    Some(Zeroizing::new(tlv(tag::SEQUENCE, &content)))
}

/// Looks at the size first, so that the message is about the size.
fn rsa_pair(key: &[u8]) -> Result<RsaKeyPair, KeyError> {
    let bits = private_modulus_bits(key).ok_or(KeyError::Damaged)?;
    if !(2048..=4096).contains(&bits) || bits % 8 != 0 {
        return Err(KeyError::RsaSize(bits));
    }
    Ok(rsa::KeyPair::from_der(key)?)
}

fn private_modulus_bits(key: &[u8]) -> Option<usize> {
    let mut fields = Reader::new(whole(key, tag::SEQUENCE).ok()?);
    let _version = fields.expect(tag::INTEGER).ok()?;
    let modulus = fields.expect(tag::INTEGER).ok()?;
    let zeros = modulus.iter().take_while(|b| **b == 0).count();
    let magnitude = modulus.get(zeros..)?;
    Some((magnitude.len() * 8).saturating_sub(magnitude.first()?.leading_zeros() as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static KEYS: LazyLock<Vec<Zeroizing<Vec<u8>>>> = LazyLock::new(|| {
        let rsa = include_bytes!("../../tests/fixtures/keys/rsa-2048.pem");
        let mut keys = vec![key_der(rsa).unwrap()];
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
            keys.push(SigningKey::generate(kind).unwrap().1);
        }
        keys
    });

    #[test]
    fn kinds_are_named_as_in_the_configuration() {
        for (kind, name) in [
            (KeyKind::EcdsaP256, "ecdsa-p256"),
            (KeyKind::EcdsaP384, "ecdsa-p384"),
            (KeyKind::Rsa2048, "rsa-2048"),
            (KeyKind::Rsa3072, "rsa-3072"),
            (KeyKind::Rsa4096, "rsa-4096"),
            (KeyKind::Ed25519, "ed25519"),
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), name);
            assert_eq!(serde_json::from_value::<KeyKind>(name.into()).unwrap(), kind);
        }
    }

    #[test]
    fn a_truncated_key_is_refused() {
        for key in KEYS.iter() {
            for len in 0..key.len() {
                assert!(SigningKey::load(&key[..len], RsaPadding::Pkcs1).is_err());
            }
        }
    }

    #[test]
    fn signatures_are_appended() {
        for key in KEYS.iter() {
            let key = SigningKey::load(key, RsaPadding::Pss).unwrap();
            let mut out = vec![1, 2, 3];
            key.sign_raw(b"a", &mut out).unwrap();
            key.sign_raw(b"b", &mut out).unwrap();
            assert_eq!(out.len(), 3 + 2 * key.raw_len());
            assert_eq!(out[..3], [1, 2, 3]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_damage_is_survived(which in 0_usize..4, at: usize, octet: u8) {
            let mut key = KEYS[which].to_vec();
            let at = at % key.len();
            key[at] = octet;
            if let Ok(key) = SigningKey::load(&key, RsaPadding::Pkcs1) {
                let _ = key.sign_raw(b"x", &mut Vec::new());
            }
        }
    }
}
