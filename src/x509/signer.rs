//! What signs: a key, wherever it is kept.

use crate::ocsp::SignatureAlgorithm;

/// A private key that signs. Implemented by keys from files; a hardware module may implement it too.
pub trait Signer: Send + Sync {
    /// The one algorithm it signs with.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// The public key's bits, as in the BIT STRING of a SubjectPublicKeyInfo without the unused-bits octet.
    fn public_key_bits(&self) -> &[u8];

    /// Signs `message` (hashing included) and appends the raw signature, always [`SignatureAlgorithm::raw_len`] octets:
    /// ECDSA as r‖s of fixed width, RSA as long as its modulus, Ed25519 64 octets. On an error nothing is appended.
    fn sign_raw(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SignError>;
}

/// A key would not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing failed: {0}")]
pub struct SignError(pub String);
