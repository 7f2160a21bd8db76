//! Certificate revocation lists (RFC 5280 §5.1).

use super::{ExtensionSpec, put_time, put_unsigned, signed};
use crate::asn1::{put_header, put_tlv, tag, tlv};
use crate::ocsp::{Reason, Serial, SignatureAlgorithm};
use crate::time::Timestamp;
use crate::x509::{SignError, Signer, oid};

/// A version 2 CRL to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSpec {
    /// The DER of the issuer's Name.
    pub issuer: Vec<u8>,
    /// When it is issued.
    pub this_update: Timestamp,
    /// When the next one will be there at the latest; RFC 5280 requires it, `None` leaves it out.
    pub next_update: Option<Timestamp>,
    /// What is revoked; empty leaves the field out.
    pub entries: Vec<CrlEntry>,
    /// Extensions of the list, usually authorityKeyIdentifier and [`CrlSpec::number`].
    pub extensions: Vec<ExtensionSpec>,
}

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial number.
    pub serial: Serial,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why; `None` writes no reasonCode, which stands for unspecified.
    pub reason: Option<Reason>,
}

impl CrlSpec {
    /// The cRLNumber extension (RFC 5280 §5.2.3).
    pub fn number(number: u64) -> ExtensionSpec {
        let mut value = Vec::new();
        put_unsigned(&mut value, number);
        ExtensionSpec::new(oid::CRL_NUMBER, false, value)
    }

    /// The DER of the CRL, signed by the issuer's key.
    pub fn sign(&self, issuer_key: &dyn Signer) -> Result<Vec<u8>, SignError> {
        signed(&self.tbs(issuer_key.algorithm()), issuer_key)
    }

    fn tbs(&self, algorithm: SignatureAlgorithm) -> Vec<u8> {
        let mut out = tlv(tag::INTEGER, &[1]);
        out.extend_from_slice(algorithm.identifier_der());
        out.extend_from_slice(&self.issuer);
        put_time(&mut out, self.this_update);
        if let Some(t) = self.next_update {
            put_time(&mut out, t);
        }
        if !self.entries.is_empty() {
            let mut entries = Vec::with_capacity(self.entries.len().saturating_mul(52));
            self.entries.iter().for_each(|e| e.put(&mut entries));
            put_tlv(&mut out, tag::SEQUENCE, &entries);
        }
        if !self.extensions.is_empty() {
            put_tlv(&mut out, tag::context(0), &ExtensionSpec::list(&self.extensions));
        }
        tlv(tag::SEQUENCE, &out)
    }
}

impl CrlEntry {
    fn put(&self, out: &mut Vec<u8>) {
        let mut content = Vec::with_capacity(64);
        put_header(&mut content, tag::INTEGER, self.serial.der_content_len());
        self.serial.write_der_content(&mut content);
        put_time(&mut content, self.revoked_at);
        if let Some(reason) = self.reason {
            let value = tlv(tag::ENUMERATED, &[reason as u8]);
            let extension = ExtensionSpec::new(oid::REASON_CODE, false, value);
            content.extend_from_slice(&ExtensionSpec::list(&[extension]));
        }
        put_tlv(out, tag::SEQUENCE, &content);
    }
}
