//! CertID: which certificate is asked about (RFC 6960 §4.1.1).

use super::Serial;
use ring::digest;

/// A hash algorithm a CertID may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum HashAlgorithm {
    /// 20 octets; what most clients still ask with.
    Sha1 = 0,
    /// 32 octets; what RFC 9919 §3.1.1 wants of clients.
    Sha256 = 1,
    /// 48 octets.
    Sha384 = 2,
    /// 64 octets.
    Sha512 = 3,
}

impl HashAlgorithm {
    /// All of them, in the order of their discriminants.
    pub const ALL: [HashAlgorithm; 4] =
        [HashAlgorithm::Sha1, HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];

    /// Octets of a digest.
    pub const fn output_len(self) -> usize {
        match self {
            HashAlgorithm::Sha1 => 20,
            HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha384 => 48,
            HashAlgorithm::Sha512 => 64,
        }
    }

    /// The content octets of its OBJECT IDENTIFIER.
    pub const fn oid(self) -> &'static [u8] {
        match self {
            HashAlgorithm::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            HashAlgorithm::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
            HashAlgorithm::Sha384 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
            HashAlgorithm::Sha512 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        }
    }

    /// The algorithm with these OBJECT IDENTIFIER content octets, if it is one we know.
    pub fn from_oid(oid: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.oid() == oid)
    }

    /// The one with this discriminant.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The name used in configuration, metrics and files: `sha1`, `sha256`, …
    pub const fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha1 => "sha1",
            HashAlgorithm::Sha256 => "sha256",
            HashAlgorithm::Sha384 => "sha384",
            HashAlgorithm::Sha512 => "sha512",
        }
    }

    /// The digest of `data`.
    pub fn digest(self, data: &[u8]) -> digest::Digest {
        digest::digest(
            match self {
                HashAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                HashAlgorithm::Sha256 => &digest::SHA256,
                HashAlgorithm::Sha384 => &digest::SHA384,
                HashAlgorithm::Sha512 => &digest::SHA512,
            },
            data,
        )
    }
}

/// One CertID of a request, borrowed from its bytes.
///
/// Compared and looked up by value: AlgorithmIdentifier parameters NULL and absent mean the same (RFC 5754 §2), so the
/// DER of a CertID is never a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertId<'a> {
    /// `None` for an algorithm we do not know: the request is well formed, but nothing can be found under it.
    pub hash: Option<HashAlgorithm>,
    /// Hash of the issuer's name. Its length fits `hash` where that is known.
    pub name_hash: &'a [u8],
    /// Hash of the issuer's public key bits.
    pub key_hash: &'a [u8],
    /// The certificate's serial number.
    pub serial: Serial,
    /// The whole DER of the CertID, tag and length included, to be echoed in a live answer.
    pub der: &'a [u8],
}

/// A digest of up to 64 octets, by value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashValue {
    len: u8,
    octets: [u8; 64],
}

impl HashValue {
    /// The digest of `data` under `algorithm`.
    pub fn of(algorithm: HashAlgorithm, data: &[u8]) -> Self {
        let digest = algorithm.digest(data);
        let mut octets = [0; 64];
        for (to, from) in octets.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        HashValue { len: algorithm.output_len() as u8, octets }
    }

    /// A digest that was made earlier; `None` if it has not the algorithm's length.
    pub fn from_bytes(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Self> {
        let mut octets = [0; 64];
        octets.get_mut(..digest.len())?.copy_from_slice(digest);
        (digest.len() == algorithm.output_len()).then_some(HashValue { len: algorithm.output_len() as u8, octets })
    }

    /// The digest's octets.
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl std::fmt::Debug for HashValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The two hashes by which requests under one hash algorithm name an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuerHashes {
    /// The algorithm of both.
    pub algorithm: HashAlgorithm,
    /// Hash of the DER of the issuer's subject name.
    pub name: HashValue,
    /// Hash of the issuer's subjectPublicKey bits, without tag, length and unused-bits octet (RFC 6960 §4.1.1, App. B).
    pub key: HashValue,
}

impl IssuerHashes {
    /// Hashes the DER of a subject name and the bits of a subject public key.
    pub fn new(algorithm: HashAlgorithm, name_der: &[u8], key_bits: &[u8]) -> Self {
        IssuerHashes { algorithm, name: HashValue::of(algorithm, name_der), key: HashValue::of(algorithm, key_bits) }
    }
}
