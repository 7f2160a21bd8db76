//! stillgood: an OCSP responder that serves pre-signed responses from memory and keeps its own signers good.
#![forbid(unsafe_op_in_unsafe_fn)]
#![deny(unsafe_code)]

pub mod ocsp;
pub mod time;
