//! Certification requests (PKCS#10, RFC 2986).

use super::{ExtensionSpec, signed};
use crate::asn1::{NotDer, Reader, put_tlv, tag, tlv, whole};
use crate::x509::certificate::read_extension;
use crate::x509::public_key::{PublicKeyKind, PublicKeyParts, bit_string};
use crate::x509::verify::{VerifyError, verify};
use crate::x509::{Certificate, KeyUsage, SignError, Signer, oid, pem};

/// The DER of a request for `subject` and the key of `spki`, signed by that key.
pub fn certification_request(
    subject: &[u8],
    spki: &[u8],
    extensions: &[ExtensionSpec],
    key: &dyn Signer,
) -> Result<Vec<u8>, SignError> {
    let mut info = tlv(tag::INTEGER, &[0]);
    info.extend_from_slice(subject);
    info.extend_from_slice(spki);
    let mut attributes = Vec::new();
    if !extensions.is_empty() {
        let mut attribute = tlv(tag::OID, oid::EXTENSION_REQUEST);
        put_tlv(&mut attribute, tag::SET, &ExtensionSpec::list(extensions));
        put_tlv(&mut attributes, tag::SEQUENCE, &attribute);
    }
    put_tlv(&mut info, tag::context(0), &attributes);
    signed(&tlv(tag::SEQUENCE, &info), key)
}

/// A request for a delegated OCSP responder: asks for keyUsage digitalSignature, OCSPSigning and nocheck.
pub fn ocsp_signer_request(subject: &[u8], spki: &[u8], key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let extensions = [
        ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE),
        ExtensionSpec::ocsp_signing(),
        ExtensionSpec::nocheck(),
    ];
    certification_request(subject, spki, &extensions, key)
}

/// A request to replace `current` under a new key, that of `spki`: the same subject and the same subjectAltName, as
/// simplereenroll wants it (RFC 7030 §4.2.2). What else the certificate has is for the CA to put there again.
pub fn reenrolment_request(current: &Certificate, spki: &[u8], key: &dyn Signer) -> Result<Vec<u8>, SignError> {
    let names = current.extension(oid::SUBJECT_ALT_NAME);
    let extensions: Vec<_> = names.iter().map(|e| ExtensionSpec::new(e.oid, e.critical, e.value.to_vec())).collect();
    certification_request(current.subject_der(), spki, &extensions, key)
}

/// A request that was read and whose own signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificationRequest {
    /// The DER of the subject's Name.
    pub subject: Vec<u8>,
    /// The DER of the SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// What kind of key asks.
    pub key_kind: PublicKeyKind,
    /// The extensions asked for (RFC 2985 §5.4.2). What is granted is for the CA to say.
    pub extensions: Vec<ExtensionSpec>,
}

/// Why a certification request is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a file with a request in it.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// Larger than [`CertificationRequest::MAX_LEN`].
    #[error("the certification request has {0} octets; at most {max} are read", max = CertificationRequest::MAX_LEN)]
    TooLarge(usize),
    /// Not a PKCS#10 request.
    #[error("not a PKCS#10 certification request in DER")]
    NotARequest,
    /// It does not prove possession of its key.
    #[error("the certification request is not signed by its own key: {0}")]
    Signature(#[from] VerifyError),
}

impl CertificationRequest {
    /// The largest request that is read, in octets.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Reads PEM or DER and verifies the proof of possession.
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, RequestError> {
        let found = pem::decode(bytes, &["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])?;
        let der = found.first().map(Vec::as_slice).unwrap_or_default();
        if der.len() > Self::MAX_LEN {
            return Err(RequestError::TooLarge(der.len()));
        }
        let (request, parts) = read(der).map_err(|_| RequestError::NotARequest)?;
        verify(&request.spki, parts.algorithm, parts.info, parts.signature)?;
        Ok(request)
    }
}

struct Parts<'a> {
    info: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

fn read(der: &[u8]) -> Result<(CertificationRequest, Parts<'_>), NotDer> {
    let mut outer = Reader::new(whole(der, tag::SEQUENCE)?);
    let info = outer.expect_tlv(tag::SEQUENCE)?;
    let algorithm = outer.expect_tlv(tag::SEQUENCE)?;
    let signature = bit_string(outer.expect(tag::BIT_STRING)?)?;
    outer.end()?;

    let mut fields = Reader::new(info.content);
    if fields.expect(tag::INTEGER)? != [0] {
        return Err(NotDer);
    }
    let subject = fields.expect_tlv(tag::SEQUENCE)?;
    let spki = fields.expect_tlv(tag::SEQUENCE)?;
    // The attributes may not be left out, but requests exist that do.
    let attributes = fields.optional(tag::context(0))?.unwrap_or_default();
    fields.end()?;

    let key = PublicKeyParts::from_spki_der(spki.der).ok_or(NotDer)?;
    let request = CertificationRequest {
        subject: subject.der.to_vec(),
        spki: spki.der.to_vec(),
        key_kind: key.kind,
        extensions: requested_extensions(attributes)?,
    };
    Ok((request, Parts { info: info.der, algorithm: algorithm.der, signature }))
}

fn requested_extensions(attributes: &[u8]) -> Result<Vec<ExtensionSpec>, NotDer> {
    let mut attributes = Reader::new(attributes);
    let mut found = Vec::new();
    while !attributes.is_empty() {
        let mut attribute = Reader::new(attributes.expect(tag::SEQUENCE)?);
        let kind = attribute.expect(tag::OID)?;
        let values = attribute.expect(tag::SET)?;
        attribute.end()?;
        if kind == oid::EXTENSION_REQUEST {
            let mut list = Reader::new(whole(values, tag::SEQUENCE)?);
            while !list.is_empty() {
                let e = read_extension(&mut list)?;
                found.push(ExtensionSpec::new(e.oid, e.critical, e.value.to_vec()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{KeyKind, SigningKey};
    use crate::x509::issue::{Attribute, CertificateSpec, name};

    #[test]
    fn a_request_is_read_back_with_what_it_asks_for() {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = name(&[(Attribute::CommonName, "responder")]);
        let der = ocsp_signer_request(&subject, &key.spki_der(), &key).unwrap();
        let text = pem::encode("CERTIFICATE REQUEST", &der);
        let request = CertificationRequest::from_pem_or_der(text.as_bytes()).unwrap();
        assert_eq!((&request.subject, request.spki), (&subject, key.spki_der()));
        assert_eq!(request.key_kind, PublicKeyKind::P256);
        assert!(request.extensions.contains(&ExtensionSpec::ocsp_signing()));
        assert!(request.extensions.contains(&ExtensionSpec::nocheck()));
        assert!(request.extensions.contains(&ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE)));
    }

    #[test]
    fn a_reenrolment_asks_for_the_same_names_under_the_new_key() {
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let (new, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let serial = crate::ocsp::Serial::from_unsigned(&[1]).unwrap();
        let (from, to) = (crate::time::Timestamp::EPOCH, crate::time::Timestamp::MAX);
        let subject = name(&[(Attribute::CommonName, "agent")]);
        let spec = CertificateSpec::ca(subject.clone(), ca_key.spki_der(), serial, from, to);
        let names = ExtensionSpec::dns_names(&["agent.example"]);
        for (spec, names) in [(spec.clone(), vec![]), (spec.with(names.clone()), vec![names])] {
            let current = spec.issue(&ca_key).unwrap();
            let der = reenrolment_request(&current, &new.spki_der(), &new).unwrap();
            let request = CertificationRequest::from_pem_or_der(&der).unwrap();
            assert_eq!((request.subject, request.extensions), (subject.clone(), names));
            assert_eq!(request.spki, new.spki_der());
        }
    }

    #[test]
    fn a_request_signed_by_another_key_or_cut_off_is_refused() {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let (other, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let der = certification_request(&name(&[]), &key.spki_der(), &[], &other).unwrap();
        let refused = CertificationRequest::from_pem_or_der(&der);
        assert_eq!(refused, Err(RequestError::Signature(VerifyError::BadSignature)));
        let der = certification_request(&name(&[]), &key.spki_der(), &[], &key).unwrap();
        assert!(CertificationRequest::from_pem_or_der(&der).unwrap().extensions.is_empty());
        for len in 0..der.len() {
            assert!(CertificationRequest::from_pem_or_der(&der[..len]).is_err());
        }
    }
}
