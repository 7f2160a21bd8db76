//! Keys, the files and slots they are kept in, and the check a signer must pass before it signs for anyone.

pub mod check;
pub mod files;
mod key;
mod key_format;
mod rsa_generation;
pub mod slots;

pub use crate::x509::{SignError, Signer};
pub use check::{SignerFacts, SignerFault, SignerKind, SignerRefused, check};
pub use key::{KeyError, KeyKind, MAX_KEY_LEN, RsaPadding, SigningKey};
