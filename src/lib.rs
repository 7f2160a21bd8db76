//! stillgood: an OCSP responder that serves pre-signed responses from memory and keeps its own signers good.
#![deny(unsafe_code)]

mod asn1;
#[doc(hidden)]
pub mod fuzzing;
pub mod config;
pub mod ocsp;
pub mod time;
pub mod x509;
