//! Certificates, pure: reading them exactly as they are, verifying signatures over them, and issuing them for a lab.
//!
//! Everything is read from the bytes as they stand and nothing is encoded again: a CertID hashes the issuer's name and
//! key as they are in its certificate (RFC 6960 §4.1.1), and a response carries the signer's certificate octet for octet.

mod certificate;
pub mod crl;
mod extensions;
pub mod issue;
pub(crate) mod oid;
pub mod pem;
pub mod pkcs7;
mod public_key;
mod signer;
pub mod verify;

pub use certificate::{Certificate, CertificateError};
pub use extensions::{BasicConstraints, Extension, KeyUsage, NoCheck};
pub use public_key::{PublicKeyKind, PublicKeyParts};
pub use signer::{SignError, Signer};
pub use verify::{VerifyError, verify};
