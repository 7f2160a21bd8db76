//! The bodies of the fuzz targets in `fuzz/`. They are here so that ordinary tests run them over the committed corpora
//! (`tests/corpus.rs`). Not part of the public interface.
//!
//! A target takes any octets and panics when a promise is broken; that panic is its verdict.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "the verdict of a target")]

mod crl;
mod get_path;
mod index_txt;
mod pkcs7;
mod renewal;
mod request;
mod segment;
mod template;

pub use crl::crl;
pub use get_path::get_path;
pub use index_txt::index_txt;
pub use pkcs7::pkcs7;
pub use renewal::renewal;
pub use request::request;
pub use segment::segment;
pub use template::template;

/// The name of a target, which is that of its directory in `fuzz/corpus`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("crl", crl),
    ("get_path", get_path),
    ("index_txt", index_txt),
    ("pkcs7", pkcs7),
    ("renewal", renewal),
    ("request", request),
    ("segment", segment),
    ("template", template),
];
