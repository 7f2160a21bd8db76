//! Issuing, for a lab CA, a demonstration and tests: certificates, certification requests, CRLs.
//!
//! Pure: keys, serial numbers and times are arguments. Public TLS CAs have their own software; what is issued here is
//! conformant all the same, since it is what the self-check of a signer is tried on.

mod certificate;
mod crl;
mod extension;
mod name;
mod request;

pub use certificate::CertificateSpec;
pub use crl::{CrlEntry, CrlSpec};
pub use extension::ExtensionSpec;
pub use name::{Attribute, name, signer_name};
pub use request::{
    CertificationRequest, RequestError, certification_request, ocsp_signer_request, reenrolment_request,
};

use super::{SignError, Signer};
use crate::asn1::{put_header, put_tlv, tag, tlv};
use crate::time::{Timestamp, format_generalized};

/// `SEQUENCE { toBeSigned, signatureAlgorithm, signature }`, the outer form of all three (RFC 5280 §4.1.1).
fn signed(to_be_signed: &[u8], key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let algorithm = key.algorithm();
    let mut raw = Vec::with_capacity(algorithm.raw_len());
    key.sign_raw(to_be_signed, &mut raw)?;
    let mut content = Vec::with_capacity(to_be_signed.len() + raw.len() + 128);
    content.extend_from_slice(to_be_signed);
    content.extend_from_slice(algorithm.identifier_der());
    put_header(&mut content, tag::BIT_STRING, algorithm.wire_len(&raw) + 1);
    content.push(0);
    algorithm.write_wire(&raw, &mut content);
    Ok(tlv(tag::SEQUENCE, &content))
}

/// Time (RFC 5280 §4.1.2.5): UTCTime through 2049, GeneralizedTime after (and before 1950).
fn put_time(out: &mut Vec<u8>, t: Timestamp) {
    /// 1950-01-01T00:00:00Z and 2050-01-01T00:00:00Z.
    const UTC_TIME: std::ops::Range<i64> = -631_152_000..2_524_608_000;
    let generalized = format_generalized(t);
    match generalized.get(2..) {
        Some(short) if UTC_TIME.contains(&t.unix()) => put_tlv(out, tag::UTC_TIME, short),
        _ => put_tlv(out, tag::GENERALIZED_TIME, &generalized),
    }
}

/// An INTEGER of a small unsigned number, in its shortest form.
fn put_unsigned(out: &mut Vec<u8>, n: u64) {
    let octets = n.to_be_bytes();
    let zeros = octets.iter().take_while(|b| **b == 0).count().min(7);
    let magnitude = octets.get(zeros..).unwrap_or_default();
    let sign = magnitude.first().is_some_and(|b| *b >= 0x80);
    put_header(out, tag::INTEGER, magnitude.len() + usize::from(sign));
    if sign {
        out.push(0);
    }
    out.extend_from_slice(magnitude);
}
