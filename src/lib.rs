//! stillgood: an OCSP responder that serves pre-signed responses from memory and keeps its own signers good.
#![deny(unsafe_code)]

pub mod admin;
mod asn1;
pub mod cli;
pub mod client;
pub mod config;
pub mod endpoint;
#[doc(hidden)]
pub mod fuzzing;
pub mod ocsp;
pub mod presign;
pub mod registry;
pub mod responder;
pub mod signer;
pub mod status;
pub mod store;
pub mod time;
pub mod x509;
