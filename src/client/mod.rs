//! The client's side of OCSP: making a request, reading a response, and verifying it as a strict client would. Pure.
//!
//! It shares no code with the making of responses but the certificate reader and the signature check, so it is the
//! independent opinion of `probe` and of the tests.

mod request;
mod response;
mod verify;

pub use request::request;
pub use response::{
    Basic, Body, CertStatusWords, Extension, Malformed, ResponderName, Response, Single, algorithm_name,
};
pub use verify::{Asked, DEFAULT_SKEW, Flaw, NonceEcho, SignerRole, Verified, verify};

pub(crate) use response::{extension_name, extensions};
