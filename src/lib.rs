//! stillgood: an OCSP responder that serves pre-signed responses from memory and keeps its own signers good.
#![deny(unsafe_code)]
// What may stop the process or loses sight of an input does not stand in the library; tests may do all of it. Cargo.toml has
// the lints that hold everywhere.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::get_unwrap,
        clippy::exit,
        clippy::print_stdout,
        clippy::print_stderr,
        clippy::disallowed_methods
    )
)]

pub mod admin;
pub mod agent;
mod asn1;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod endpoint;
pub mod enrolment;
#[doc(hidden)]
pub mod fuzzing;
pub mod https;
pub mod ocsp;
pub mod presign;
pub mod registry;
pub mod renewal;
pub mod responder;
pub mod signer;
pub mod simulate;
pub mod status;
pub mod store;
pub mod time;
pub mod x509;
