//! The formats private keys come in: PKCS#8 (RFC 5958), SEC 1 (RFC 5915) and PKCS#1 (RFC 8017 App. A.1.2), PEM or DER.

use super::key::KeyError;
use crate::asn1::{NotDer, Reader, tag, whole};
use crate::x509::{oid, pem};
use zeroize::Zeroizing;

/// What a private key file holds, with the key material borrowed from it.
pub(super) enum PrivateKey<'a> {
    /// An RSAPrivateKey.
    Rsa(&'a [u8]),
    /// The private scalar and, where the file has it, the public point.
    Ec { curve: Curve, scalar: &'a [u8], public: Option<&'a [u8]> },
    /// A whole PKCS#8 document.
    Ed25519(&'a [u8]),
}

/// The curves that can sign here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    /// Octets of a scalar.
    pub(super) const fn scalar_len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }

    fn from_oid(name: &[u8]) -> Result<Self, KeyError> {
        match name {
            oid::P256 => Ok(Curve::P256),
            oid::P384 => Ok(Curve::P384),
            oid::P521 => Err(KeyError::Unsupported("ECDSA P-521".to_owned())),
            other => Err(KeyError::Unsupported(format!("an EC key on curve {}", oid::text(other)))),
        }
    }
}

/// The DER of the one private key in a file.
pub(super) fn key_der(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if pem::is_der(bytes) {
        return Ok(Zeroizing::new(bytes.to_vec()));
    }
    let mut found = None;
    for block in pem::blocks(bytes)? {
        let known = matches!(block.label.as_str(), "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY");
        if block.label == "ENCRYPTED PRIVATE KEY" || (known && block.encrypted) {
            return Err(KeyError::Encrypted);
        }
        if !known && block.label.ends_with("PRIVATE KEY") {
            return Err(KeyError::Unsupported(format!("a {} block", block.label)));
        }
        if known && found.replace(block.der).is_some() {
            return Err(KeyError::SeveralKeys);
        }
    }
    found.ok_or(KeyError::NoKey)
}

/// Tells the three formats apart by their shape; labels are not trusted.
pub(super) fn private_key(der: &[u8]) -> Result<PrivateKey<'_>, KeyError> {
    let damaged = |_: NotDer| KeyError::Damaged;
    let mut fields = Reader::new(whole(der, tag::SEQUENCE).map_err(damaged)?);
    if fields.peek() == Some(tag::SEQUENCE) {
        // EncryptedPrivateKeyInfo ::= SEQUENCE { algorithm SEQUENCE, data OCTET STRING }; nothing else begins so but a
        // certificate and its kin.
        let _algorithm = fields.any().map_err(damaged)?;
        return Err(if fields.peek() == Some(tag::OCTET_STRING) { KeyError::Encrypted } else { KeyError::NoKey });
    }
    let _version = fields.expect(tag::INTEGER).map_err(|_| KeyError::NoKey)?;
    match fields.peek() {
        Some(tag::INTEGER) => Ok(PrivateKey::Rsa(der)),
        Some(tag::OCTET_STRING) => ec_private_key(der, None),
        Some(tag::SEQUENCE) => {
            let mut algorithm = Reader::new(fields.expect(tag::SEQUENCE).map_err(damaged)?);
            let name = algorithm.expect(tag::OID).map_err(damaged)?;
            let key = fields.expect(tag::OCTET_STRING).map_err(damaged)?;
            match name {
                oid::RSA_ENCRYPTION => Ok(PrivateKey::Rsa(key)),
                oid::EC_PUBLIC_KEY => {
                    let curve = algorithm.expect(tag::OID);
                    let curve =
                        curve.map_err(|_| KeyError::Unsupported("an EC key with explicit parameters".into()))?;
                    ec_private_key(key, Some(Curve::from_oid(curve)?))
                }
                oid::ED25519 => Ok(PrivateKey::Ed25519(der)),
                oid::RSASSA_PSS => Err(KeyError::Unsupported(
                    "an RSA key restricted to PSS (id-RSASSA-PSS); a plain RSA key can sign with PSS too".to_owned(),
                )),
                other => Err(KeyError::Unsupported(format!("a key of algorithm {}", oid::text(other)))),
            }
        }
        _ => Err(KeyError::NoKey),
    }
}

/// ECPrivateKey (RFC 5915 §3). The curve comes from the PKCS#8 wrapper or from inside.
fn ec_private_key(der: &[u8], outer: Option<Curve>) -> Result<PrivateKey<'_>, KeyError> {
    let damaged = |_: NotDer| KeyError::Damaged;
    let mut fields = Reader::new(whole(der, tag::SEQUENCE).map_err(damaged)?);
    let _version = fields.expect(tag::INTEGER).map_err(damaged)?;
    let scalar = fields.expect(tag::OCTET_STRING).map_err(damaged)?;
    let inner = match fields.optional(tag::context(0)).map_err(damaged)? {
        Some(parameters) => {
            let name = whole(parameters, tag::OID);
            let name = name.map_err(|_| KeyError::Unsupported("an EC key with explicit parameters".to_owned()))?;
            Some(Curve::from_oid(name)?)
        }
        None => None,
    };
    let public = match fields.optional(tag::context(1)).map_err(damaged)? {
        Some(bits) => match whole(bits, tag::BIT_STRING).map_err(damaged)? {
            [0, point @ ..] => Some(point),
            _ => return Err(KeyError::Damaged),
        },
        None => None,
    };
    match (outer, inner) {
        (Some(a), Some(b)) if a != b => Err(KeyError::Damaged),
        (Some(curve), _) | (None, Some(curve)) => Ok(PrivateKey::Ec { curve, scalar, public }),
        (None, None) => Err(KeyError::Unsupported("an EC key that does not name its curve".to_owned())),
    }
}
