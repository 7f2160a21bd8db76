//! Extensions to be put into what is issued (RFC 5280 §4.2, RFC 6960 §4.2.2.2.1).

use super::put_unsigned;
use crate::asn1::{put_tlv, tag, tlv};
use crate::ocsp::HashAlgorithm;
use crate::x509::{KeyUsage, oid};

/// An extension to be put into a certificate, a request or a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionSpec {
    /// The content octets of its OBJECT IDENTIFIER.
    pub oid: Vec<u8>,
    /// Whether it is marked critical.
    pub critical: bool,
    /// The octets inside extnValue.
    pub value: Vec<u8>,
}

impl ExtensionSpec {
    /// Any extension, for what has no function here.
    pub fn new(oid: &[u8], critical: bool, value: Vec<u8>) -> Self {
        ExtensionSpec { oid: oid.to_vec(), critical, value }
    }

    /// Critical basicConstraints of a CA.
    pub fn ca(path_len: Option<u8>) -> Self {
        let mut content = tlv(tag::BOOLEAN, &[0xff]);
        if let Some(n) = path_len {
            put_unsigned(&mut content, u64::from(n));
        }
        Self::new(oid::BASIC_CONSTRAINTS, true, tlv(tag::SEQUENCE, &content))
    }

    /// Critical keyUsage.
    pub fn key_usage(usage: KeyUsage) -> Self {
        // A list of named bits ends with its last bit that is set (X.690 §11.2.2).
        let octets = usage.octets();
        let len = octets.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let used = octets.get(..len).unwrap_or_default();
        let unused = used.last().map_or(0, |b| b.trailing_zeros());
        let mut content = vec![u8::try_from(unused).unwrap_or(0)];
        content.extend_from_slice(used);
        Self::new(oid::KEY_USAGE, true, tlv(tag::BIT_STRING, &content))
    }

    /// extKeyUsage with these purposes, each the content octets of an OBJECT IDENTIFIER.
    pub fn extended_key_usage(purposes: &[&[u8]]) -> Self {
        let content: Vec<u8> = purposes.iter().flat_map(|p| tlv(tag::OID, p)).collect();
        Self::new(oid::EXTENDED_KEY_USAGE, false, tlv(tag::SEQUENCE, &content))
    }

    /// extKeyUsage with id-kp-OCSPSigning alone.
    pub fn ocsp_signing() -> Self {
        Self::extended_key_usage(&[oid::KP_OCSP_SIGNING])
    }

    /// extKeyUsage with id-kp-serverAuth alone.
    pub fn server_auth() -> Self {
        Self::extended_key_usage(&[oid::KP_SERVER_AUTH])
    }

    /// id-pkix-ocsp-nocheck with the value NULL.
    pub fn nocheck() -> Self {
        Self::new(oid::OCSP_NOCHECK, false, tlv(tag::NULL, &[]))
    }

    /// subjectKeyIdentifier: SHA-1 of the key's bits (RFC 5280 §4.2.1.2, method 1).
    pub fn subject_key_id(key_bits: &[u8]) -> Self {
        let hash = HashAlgorithm::Sha1.digest(key_bits);
        Self::new(oid::SUBJECT_KEY_IDENTIFIER, false, tlv(tag::OCTET_STRING, hash.as_ref()))
    }

    /// authorityKeyIdentifier with a keyIdentifier alone.
    pub fn authority_key_id(key_id: &[u8]) -> Self {
        let content = tlv(tag::context_primitive(0), key_id);
        Self::new(oid::AUTHORITY_KEY_IDENTIFIER, false, tlv(tag::SEQUENCE, &content))
    }

    /// authorityInfoAccess that names an OCSP responder.
    pub fn ocsp_url(url: &str) -> Self {
        let mut description = tlv(tag::OID, oid::AD_OCSP);
        put_tlv(&mut description, tag::context_primitive(6), url.as_bytes());
        let content = tlv(tag::SEQUENCE, &description);
        Self::new(oid::AUTHORITY_INFO_ACCESS, false, tlv(tag::SEQUENCE, &content))
    }

    /// subjectAltName of these DNS names.
    pub fn dns_names(names: &[&str]) -> Self {
        let content: Vec<u8> = names.iter().flat_map(|n| tlv(tag::context_primitive(2), n.as_bytes())).collect();
        Self::new(oid::SUBJECT_ALT_NAME, false, tlv(tag::SEQUENCE, &content))
    }

    /// cRLDistributionPoints with one URL.
    pub fn crl_url(url: &str) -> Self {
        let full_name = tlv(tag::context(0), &tlv(tag::context_primitive(6), url.as_bytes()));
        let point = tlv(tag::SEQUENCE, &tlv(tag::context(0), &full_name));
        Self::new(oid::CRL_DISTRIBUTION_POINTS, false, tlv(tag::SEQUENCE, &point))
    }

    /// Appends the Extension.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let mut content = tlv(tag::OID, &self.oid);
        if self.critical {
            put_tlv(&mut content, tag::BOOLEAN, &[0xff]);
        }
        put_tlv(&mut content, tag::OCTET_STRING, &self.value);
        put_tlv(out, tag::SEQUENCE, &content);
    }

    /// The Extensions of a list.
    pub(super) fn list(extensions: &[ExtensionSpec]) -> Vec<u8> {
        let mut content = Vec::new();
        extensions.iter().for_each(|e| e.put(&mut content));
        tlv(tag::SEQUENCE, &content)
    }
}
