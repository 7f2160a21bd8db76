//! Certificates (RFC 5280 §4.1).

use super::{ExtensionSpec, put_time, signed};
use crate::asn1::{put_header, put_tlv, tag, tlv};
use crate::ocsp::{Serial, SignatureAlgorithm};
use crate::time::Timestamp;
use crate::x509::{Certificate, KeyUsage, PublicKeyParts, SignError, Signer};

/// A version 3 certificate to be issued. The fields are public so that any deviation can be made on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSpec {
    /// The serial number; from the caller, who has randomness (64 bits of it at least, BR §7.1).
    pub serial: Serial,
    /// The DER of the issuer's Name.
    pub issuer: Vec<u8>,
    /// The DER of the subject's Name.
    pub subject: Vec<u8>,
    /// The DER of the SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// The first second of its validity.
    pub not_before: Timestamp,
    /// The last second of its validity.
    pub not_after: Timestamp,
    /// In this order; none at all leaves the field out.
    pub extensions: Vec<ExtensionSpec>,
}

impl CertificateSpec {
    /// A self-signed CA that may sign certificates, CRLs and OCSP responses. To be signed by the key of `spki`.
    pub fn ca(subject: Vec<u8>, spki: Vec<u8>, serial: Serial, not_before: Timestamp, not_after: Timestamp) -> Self {
        let usage = KeyUsage::DIGITAL_SIGNATURE.and(KeyUsage::KEY_CERT_SIGN).and(KeyUsage::CRL_SIGN);
        let extensions =
            vec![ExtensionSpec::ca(None), ExtensionSpec::key_usage(usage), ExtensionSpec::subject_key_id(bits(&spki))];
        CertificateSpec { serial, issuer: subject.clone(), subject, spki, not_before, not_after, extensions }
    }

    /// A delegated OCSP responder as RFC 6960 §4.2.2.2, RFC 9919 §3.2.2 and BR §7.1.2.8 want it. To be signed by the key
    /// of `issuer`. For BR the subject has country, organisation and common name.
    pub fn ocsp_signer(
        issuer: &Certificate,
        subject: Vec<u8>,
        spki: Vec<u8>,
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Self {
        let extensions = vec![
            authority_key_id(issuer),
            ExtensionSpec::subject_key_id(bits(&spki)),
            ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE),
            ExtensionSpec::ocsp_signing(),
            ExtensionSpec::nocheck(),
        ];
        let issuer = issuer.subject_der().to_vec();
        CertificateSpec { serial, issuer, subject, spki, not_before, not_after, extensions }
    }

    /// A TLS server for one DNS name, with the address of its issuer's OCSP responder. To be signed by the key of
    /// `issuer`. The subject is empty, so subjectAltName is critical (RFC 5280 §4.2.1.6).
    pub fn tls_server(
        issuer: &Certificate,
        dns_name: &str,
        ocsp_url: &str,
        spki: Vec<u8>,
        serial: Serial,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Self {
        let extensions = vec![
            authority_key_id(issuer),
            ExtensionSpec::subject_key_id(bits(&spki)),
            ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE),
            ExtensionSpec::server_auth(),
            ExtensionSpec { critical: true, ..ExtensionSpec::dns_names(&[dns_name]) },
            ExtensionSpec::ocsp_url(ocsp_url),
        ];
        let issuer = issuer.subject_der().to_vec();
        CertificateSpec { serial, issuer, subject: super::name(&[]), spki, not_before, not_after, extensions }
    }

    /// Replaces the extension of the same kind, or adds it.
    #[must_use]
    pub fn with(mut self, extension: ExtensionSpec) -> Self {
        match self.extensions.iter_mut().find(|e| e.oid == extension.oid) {
            Some(present) => *present = extension,
            None => self.extensions.push(extension),
        }
        self
    }

    /// Leaves out the extension of this kind.
    #[must_use]
    pub fn without(mut self, extension: &ExtensionSpec) -> Self {
        self.extensions.retain(|e| e.oid != extension.oid);
        self
    }

    /// The DER of the certificate, signed by the issuer's key.
    pub fn sign(&self, issuer_key: &dyn Signer) -> Result<Vec<u8>, SignError> {
        signed(&self.tbs(issuer_key.algorithm()), issuer_key)
    }

    /// As [`CertificateSpec::sign`], read back.
    pub fn issue(&self, issuer_key: &dyn Signer) -> Result<Certificate, SignError> {
        Certificate::from_der(&self.sign(issuer_key)?).map_err(|e| SignError(e.to_string()))
    }

    fn tbs(&self, algorithm: SignatureAlgorithm) -> Vec<u8> {
        let mut out = tlv(tag::context(0), &tlv(tag::INTEGER, &[2]));
        put_header(&mut out, tag::INTEGER, self.serial.der_content_len());
        self.serial.write_der_content(&mut out);
        out.extend_from_slice(algorithm.identifier_der());
        out.extend_from_slice(&self.issuer);
        let mut validity = Vec::new();
        put_time(&mut validity, self.not_before);
        put_time(&mut validity, self.not_after);
        put_tlv(&mut out, tag::SEQUENCE, &validity);
        out.extend_from_slice(&self.subject);
        out.extend_from_slice(&self.spki);
        if !self.extensions.is_empty() {
            put_tlv(&mut out, tag::context(3), &ExtensionSpec::list(&self.extensions));
        }
        tlv(tag::SEQUENCE, &out)
    }
}

/// The issuer's own identifier, or the usual one where its certificate has none.
fn authority_key_id(issuer: &Certificate) -> ExtensionSpec {
    match issuer.subject_key_id() {
        Some(id) => ExtensionSpec::authority_key_id(id),
        None => ExtensionSpec::authority_key_id(&issuer.responder_key_hash()),
    }
}

/// The key's bits, nothing for a SubjectPublicKeyInfo that is none: the certificate could not be read back.
fn bits(spki: &[u8]) -> &[u8] {
    PublicKeyParts::from_spki_der(spki).map(|key| key.bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{KeyKind, SigningKey};
    use crate::x509::issue::{Attribute, name};
    use crate::x509::pem;
    use der::{Decode, Encode};

    #[test]
    fn what_is_issued_is_what_another_library_would_encode() {
        for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
            let (key, _) = SigningKey::generate(kind).unwrap();
            let subject = name(&[(Attribute::Country, "SE"), (Attribute::CommonName, "Lab CA")]);
            let start = Timestamp::from_unix(2_524_607_999);
            let end = Timestamp::from_unix(2_524_608_000);
            let ca = CertificateSpec::ca(subject, key.spki_der(), Serial::from_unsigned(&[0x80]).unwrap(), start, end);
            let ca = ca.issue(&key).unwrap();
            assert_eq!(ca.verify_signed_by(&ca), Ok(()));
            assert_eq!((ca.not_before(), ca.not_after()), (start, end));
            assert_eq!(ca.subject(), "CN=Lab CA,C=SE");
            let decoded = x509_cert::Certificate::from_der(ca.der()).unwrap();
            assert_eq!(decoded.to_der().unwrap(), ca.der());
            assert_eq!(Certificate::from_pem_or_der(pem::encode("CERTIFICATE", ca.der()).as_bytes()), Ok(ca));
        }
    }

    #[test]
    fn extensions_are_replaced_and_left_out_by_kind() {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let spec = CertificateSpec::ca(
            name(&[]),
            key.spki_der(),
            Serial::from_unsigned(&[1]).unwrap(),
            Timestamp::EPOCH,
            Timestamp::MAX,
        );
        let changed = spec.with(ExtensionSpec::ca(Some(3))).without(&ExtensionSpec::key_usage(KeyUsage::CRL_SIGN));
        let changed = changed.issue(&key).unwrap();
        assert_eq!(changed.basic_constraints().and_then(|b| b.path_len), Some(3));
        assert_eq!(changed.key_usage(), None);
        assert_eq!(changed.not_after(), Timestamp::MAX);
    }
}
