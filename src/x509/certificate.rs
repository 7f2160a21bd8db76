//! A certificate, its bytes exactly as they are, and the facts a responder needs of it (RFC 5280 §4.1).

use super::extensions::{self, BasicConstraints, Extension, KeyUsage, NoCheck};
use super::oid;
use super::pem::{self, PemError};
use super::public_key::{PublicKeyKind, PublicKeyParts, bit_string};
use super::verify::{VerifyError, verify};
use crate::asn1::{NotDer, Reader, Tlv, tag, whole};
use crate::ocsp::{HashAlgorithm, IssuerHashes, Serial, SerialError};
use crate::time::{Timestamp, parse_generalized, parse_utc_time};
use std::fmt;
use std::ops::Range;

/// An X.509 certificate: its own DER and where in it everything is.
///
/// Equality is equality of the DER.
#[derive(Clone)]
pub struct Certificate {
    der: Box<[u8]>,
    tbs: Span,
    serial: Serial,
    signature_algorithm: Span,
    signature: Span,
    issuer: Span,
    subject: Span,
    spki: Span,
    key_bits: Span,
    key_kind: PublicKeyKind,
    version: u8,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Box<[ExtensionSpan]>,
    key_usage: Option<KeyUsage>,
    basic_constraints: Option<BasicConstraints>,
}

/// Why bytes are not a usable certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a file with a certificate in it.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Larger than [`Certificate::MAX_LEN`].
    #[error("the certificate has {0} octets; at most {max} are read", max = Certificate::MAX_LEN)]
    TooLarge(usize),
    /// A field is not what RFC 5280 §4.1 says.
    #[error("not a certificate in DER: {0} cannot be read")]
    Field(&'static str),
    /// The serial number is longer than RFC 5280 §4.1.2.2 allows, or not DER.
    #[error("certificate: {0}")]
    Serial(#[from] SerialError),
    /// The signature algorithm is named twice and differently (RFC 5280 §4.1.1.2).
    #[error("the certificate names two different signature algorithms; they must be the same")]
    AlgorithmsDiffer,
    /// An extension occurs twice (RFC 5280 §4.2).
    #[error("the certificate has the extension {0} twice")]
    DuplicateExtension(String),
    /// More than [`Certificate::MAX_EXTENSIONS`].
    #[error("the certificate has more than {max} extensions", max = Certificate::MAX_EXTENSIONS)]
    TooManyExtensions,
    /// An extension we must understand cannot be read.
    #[error("the certificate's extension {0} cannot be read")]
    Extension(String),
}

impl Certificate {
    /// The largest certificate that is read, in octets.
    pub const MAX_LEN: usize = 64 * 1024;
    /// The most extensions that are read.
    pub const MAX_EXTENSIONS: usize = 64;

    /// Reads DER. Nothing may follow the certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > Self::MAX_LEN {
            return Err(CertificateError::TooLarge(der.len()));
        }
        let field = |name| move |_: NotDer| CertificateError::Field(name);
        let span = |part: &[u8]| Span::of(der, part);

        let mut outer = Reader::new(whole(der, tag::SEQUENCE).map_err(field("Certificate"))?);
        let tbs = outer.expect_tlv(tag::SEQUENCE).map_err(field("tbsCertificate"))?;
        let signature_algorithm = outer.expect_tlv(tag::SEQUENCE).map_err(field("signatureAlgorithm"))?;
        let signature = outer.expect(tag::BIT_STRING).and_then(bit_string).map_err(field("signatureValue"))?;
        outer.end().map_err(field("Certificate"))?;

        let mut fields = Reader::new(tbs.content);
        let version = version(&mut fields).map_err(field("version"))?;
        let serial = Serial::from_der_content(fields.expect(tag::INTEGER).map_err(field("serialNumber"))?)?;
        let inner_algorithm = fields.expect_tlv(tag::SEQUENCE).map_err(field("signature"))?;
        if inner_algorithm.der != signature_algorithm.der {
            return Err(CertificateError::AlgorithmsDiffer);
        }
        let issuer = fields.expect_tlv(tag::SEQUENCE).map_err(field("issuer"))?;
        let (not_before, not_after) = validity(&mut fields).map_err(field("validity"))?;
        let subject = fields.expect_tlv(tag::SEQUENCE).map_err(field("subject"))?;
        let spki = fields.expect_tlv(tag::SEQUENCE).map_err(field("subjectPublicKeyInfo"))?;
        let key = PublicKeyParts::from_spki_der(spki.der).ok_or(CertificateError::Field("subjectPublicKeyInfo"))?;
        for unique_id in [1, 2] {
            fields.optional(tag::context_primitive(unique_id)).map_err(field("uniqueID"))?;
        }
        let list = fields.optional(tag::context(3)).map_err(field("extensions"))?;
        fields.end().map_err(field("tbsCertificate"))?;
        let extensions = list.map(|list| read_extensions(der, list)).transpose()?.unwrap_or_default();

        let mut certificate = Certificate {
            tbs: span(tbs.der),
            serial,
            signature_algorithm: span(signature_algorithm.der),
            signature: span(signature),
            issuer: span(issuer.der),
            subject: span(subject.der),
            spki: span(spki.der),
            key_bits: span(key.bits),
            key_kind: key.kind,
            version,
            not_before,
            not_after,
            extensions,
            key_usage: None,
            basic_constraints: None,
            der: der.into(),
        };
        certificate.key_usage = certificate.decoded(oid::KEY_USAGE, KeyUsage::read)?;
        certificate.basic_constraints = certificate.decoded(oid::BASIC_CONSTRAINTS, BasicConstraints::read)?;
        certificate.decoded(oid::EXTENDED_KEY_USAGE, |v| extensions::purposes(v).map(drop))?;
        certificate.decoded(oid::SUBJECT_KEY_IDENTIFIER, |v| whole(v, tag::OCTET_STRING).map(drop))?;
        certificate.decoded(oid::AUTHORITY_KEY_IDENTIFIER, |v| extensions::authority_key_id(v).map(drop))?;
        Ok(certificate)
    }

    /// Reads the first certificate of a PEM file, or DER.
    pub fn from_pem_or_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        let found = pem::decode(bytes, &["CERTIFICATE", "X509 CERTIFICATE"])?;
        Self::from_der(found.first().map(Vec::as_slice).unwrap_or_default())
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The signed part, tag and length included.
    pub fn tbs_der(&self) -> &[u8] {
        self.part(self.tbs)
    }

    /// The AlgorithmIdentifier of the signature.
    pub fn signature_algorithm_der(&self) -> &[u8] {
        self.part(self.signature_algorithm)
    }

    /// The octets of the signature's BIT STRING.
    pub fn signature(&self) -> &[u8] {
        self.part(self.signature)
    }

    /// The issuer's Name.
    pub fn issuer_der(&self) -> &[u8] {
        self.part(self.issuer)
    }

    /// The subject's Name.
    pub fn subject_der(&self) -> &[u8] {
        self.part(self.subject)
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.part(self.spki)
    }

    /// The value of the subjectPublicKey BIT STRING without its unused-bits octet.
    pub fn key_bits(&self) -> &[u8] {
        self.part(self.key_bits)
    }

    /// What kind of key it certifies.
    pub fn key_kind(&self) -> &PublicKeyKind {
        &self.key_kind
    }

    /// 1, 2 or 3.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// The serial number.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second of its validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `now` is within its validity, both ends included (RFC 5280 §4.1.2.5).
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// keyUsage; `None` when absent, which restricts nothing.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.key_usage
    }

    /// The purposes in extKeyUsage as content octets of OBJECT IDENTIFIERs; `None` when absent.
    pub fn extended_key_usage(&self) -> Option<Vec<&[u8]>> {
        self.extension(oid::EXTENDED_KEY_USAGE).and_then(|e| extensions::purposes(e.value).ok())
    }

    /// Whether extKeyUsage names id-kp-OCSPSigning itself; never inferred from anything else (RFC 6960 §4.2.2.2).
    pub fn is_ocsp_signer(&self) -> bool {
        self.extended_key_usage().is_some_and(|purposes| purposes.contains(&oid::KP_OCSP_SIGNING))
    }

    /// basicConstraints; `None` when absent.
    pub fn basic_constraints(&self) -> Option<BasicConstraints> {
        self.basic_constraints
    }

    /// id-pkix-ocsp-nocheck; `None` when absent.
    pub fn nocheck(&self) -> Option<NoCheck> {
        self.extension(oid::OCSP_NOCHECK).map(|e| NoCheck { critical: e.critical, is_null: e.value == [tag::NULL, 0] })
    }

    /// subjectKeyIdentifier; `None` when absent.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.extension(oid::SUBJECT_KEY_IDENTIFIER).and_then(|e| whole(e.value, tag::OCTET_STRING).ok())
    }

    /// The keyIdentifier in authorityKeyIdentifier; `None` when absent.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.extension(oid::AUTHORITY_KEY_IDENTIFIER).and_then(|e| extensions::authority_key_id(e.value).ok().flatten())
    }

    /// All extensions, in their order.
    pub fn extensions(&self) -> impl Iterator<Item = Extension<'_>> {
        self.extensions.iter().map(|e| Extension {
            oid: self.part(e.oid),
            critical: e.critical,
            value: self.part(e.value),
        })
    }

    /// The extension with these OBJECT IDENTIFIER content octets.
    pub fn extension(&self, oid: &[u8]) -> Option<Extension<'_>> {
        self.extensions().find(|e| e.oid == oid)
    }

    /// The subject for people, as RFC 4514 writes it.
    pub fn subject(&self) -> String {
        name_text(self.subject_der())
    }

    /// The issuer for people, as RFC 4514 writes it.
    pub fn issuer(&self) -> String {
        name_text(self.issuer_der())
    }

    /// How requests under this hash name *this certificate as the issuer* (RFC 6960 §4.1.1).
    pub fn issuer_hashes(&self, algorithm: HashAlgorithm) -> IssuerHashes {
        IssuerHashes::new(algorithm, self.subject_der(), self.key_bits())
    }

    /// The KeyHash of a byKey ResponderID: SHA-1 of the key's bits, whatever else uses (RFC 6960 §4.2.1).
    pub fn responder_key_hash(&self) -> [u8; 20] {
        responder_key_hash(self.key_bits())
    }

    /// Verifies that `issuer`'s key signed this certificate; names and validity are not looked at.
    pub fn verify_signed_by(&self, issuer: &Certificate) -> Result<(), VerifyError> {
        verify(issuer.spki_der(), self.signature_algorithm_der(), self.tbs_der(), self.signature())
    }

    fn part(&self, span: Span) -> &[u8] {
        self.der.get(span.range()).unwrap_or_default()
    }

    fn decoded<T>(
        &self,
        oid: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, NotDer>,
    ) -> Result<Option<T>, CertificateError> {
        self.extension(oid).map(|e| read(e.value).map_err(|_| CertificateError::Extension(e.name()))).transpose()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, serial {})", self.subject(), self.serial)
    }
}

/// SHA-1 of a key's bits (RFC 6960 §4.2.1, KeyHash).
pub(crate) fn responder_key_hash(key_bits: &[u8]) -> [u8; 20] {
    let mut hash = [0; 20];
    for (to, from) in hash.iter_mut().zip(HashAlgorithm::Sha1.digest(key_bits).as_ref()) {
        *to = *from;
    }
    hash
}

/// A Name as RFC 4514 writes it; `(empty name)`, or its DER in hexadecimal when it cannot be read.
pub(crate) fn name_text(name_der: &[u8]) -> String {
    use der::Decode;
    match x509_cert::name::Name::from_der(name_der) {
        Ok(name) if name.is_empty() => "(empty name)".to_owned(),
        Ok(name) => name.to_string(),
        Err(_) => format!("#{}", data_encoding::HEXLOWER.encode(name_der)),
    }
}

/// Where a part lies. 32 bits suffice for [`Certificate::MAX_LEN`].
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `part` must have been read from `whole`; anything else gives an empty span or octets of `whole`, never a panic.
    fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        let end = start.wrapping_add(part.len());
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Span { start, end },
            _ => Span { start: 0, end: 0 },
        }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct ExtensionSpan {
    oid: Span,
    critical: bool,
    value: Span,
}

fn version(fields: &mut Reader<'_>) -> Result<u8, NotDer> {
    match fields.optional(tag::context(0))? {
        None => Ok(1),
        Some([tag::INTEGER, 1, n @ 0..=2]) => Ok(n + 1),
        Some(_) => Err(NotDer),
    }
}

fn validity(fields: &mut Reader<'_>) -> Result<(Timestamp, Timestamp), NotDer> {
    let mut both = Reader::new(fields.expect(tag::SEQUENCE)?);
    let times = (time(both.any()?)?, time(both.any()?)?);
    both.end()?;
    Ok(times)
}

fn time(tlv: Tlv<'_>) -> Result<Timestamp, NotDer> {
    match tlv.tag {
        tag::UTC_TIME => parse_utc_time(tlv.content),
        tag::GENERALIZED_TIME => parse_generalized(tlv.content),
        _ => None,
    }
    .ok_or(NotDer)
}

fn read_extensions(der: &[u8], list: &[u8]) -> Result<Box<[ExtensionSpan]>, CertificateError> {
    let unreadable = |_: NotDer| CertificateError::Field("extensions");
    let mut list = Reader::new(whole(list, tag::SEQUENCE).map_err(unreadable)?);
    let mut found: Vec<(&[u8], ExtensionSpan)> = Vec::new();
    while !list.is_empty() {
        if found.len() == Certificate::MAX_EXTENSIONS {
            return Err(CertificateError::TooManyExtensions);
        }
        let e = read_extension(&mut list).map_err(unreadable)?;
        if found.iter().any(|(oid, _)| *oid == e.oid) {
            return Err(CertificateError::DuplicateExtension(e.name()));
        }
        let span = ExtensionSpan { oid: Span::of(der, e.oid), critical: e.critical, value: Span::of(der, e.value) };
        found.push((e.oid, span));
    }
    Ok(found.into_iter().map(|(_, span)| span).collect())
}

/// One Extension from the front of a list; shared with certification requests.
pub(super) fn read_extension<'a>(list: &mut Reader<'a>) -> Result<Extension<'a>, NotDer> {
    let mut fields = Reader::new(list.expect(tag::SEQUENCE)?);
    let oid = fields.expect(tag::OID)?;
    let critical = match fields.optional(tag::BOOLEAN)? {
        None | Some([0]) => false,
        Some([0xff]) => true,
        Some(_) => return Err(NotDer),
    };
    let value = fields.expect(tag::OCTET_STRING)?;
    fields.end()?;
    Ok(Extension { oid, critical, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static CA: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(2));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::OcspSigning];
        params.serial_number = Some(vec![0x80, 1].into());
        params.self_signed(&key).unwrap().der().to_vec()
    });

    #[test]
    fn the_facts_of_a_certificate_another_library_made_are_read() {
        let c = Certificate::from_der(&CA).unwrap();
        assert_eq!(c.version(), 3);
        assert_eq!(c.serial(), Serial::from_hex("8001").unwrap());
        assert_eq!(c.subject(), "CN=rcgen self signed cert");
        assert_eq!(c.subject_der(), c.issuer_der());
        assert_eq!(c.key_kind(), &PublicKeyKind::P384);
        assert_eq!(c.key_bits().len(), 97);
        assert_eq!(c.key_usage(), Some(KeyUsage::KEY_CERT_SIGN.and(KeyUsage::CRL_SIGN)));
        assert_eq!(c.basic_constraints(), Some(BasicConstraints { ca: true, path_len: Some(2) }));
        assert!(c.is_ocsp_signer());
        assert_eq!(c.nocheck(), None);
        assert_eq!(c.subject_key_id().map(<[u8]>::len), Some(20));
        assert_eq!(c.not_before().to_string(), "1975-01-01T00:00:00Z");
        assert!(c.is_valid_at(c.not_after()) && !c.is_valid_at(Timestamp::MAX));
        assert_eq!(c.verify_signed_by(&c), Ok(()));
        assert_eq!(c.der(), &CA[..]);
        assert_eq!(c.issuer_hashes(HashAlgorithm::Sha1).key.as_bytes(), c.responder_key_hash());
        assert_eq!(Certificate::from_pem_or_der(pem::encode("CERTIFICATE", &CA).as_bytes()), Ok(c));
    }

    #[test]
    fn a_truncated_or_lengthened_certificate_is_refused() {
        for len in 0..CA.len() {
            assert!(Certificate::from_der(&CA[..len]).is_err(), "{len}");
        }
        assert_eq!(Certificate::from_der(&[&CA[..], &[0]].concat()), Err(CertificateError::Field("Certificate")));
        let huge = vec![0; Certificate::MAX_LEN + 1];
        assert_eq!(Certificate::from_der(&huge), Err(CertificateError::TooLarge(huge.len())));
    }

    #[test]
    fn a_signature_over_changed_bytes_is_refused() {
        let mut changed = CA.clone();
        let at = memchr::memmem::find(&changed, b"a.example").unwrap();
        changed[at] = b'b';
        let ca = Certificate::from_der(&CA).unwrap();
        let changed = Certificate::from_der(&changed).unwrap();
        assert_eq!(changed.verify_signed_by(&ca), Err(VerifyError::BadSignature));
    }

    proptest! {
        #[test]
        fn any_damage_is_survived(at in 0_usize..400, octet: u8, cut in 0_usize..600) {
            let mut bytes = CA.clone();
            let at = at % bytes.len();
            bytes[at] = octet;
            bytes.truncate(cut.max(bytes.len() / 2));
            if let Ok(c) = Certificate::from_der(&bytes) {
                let _ = (c.subject(), c.extended_key_usage(), c.nocheck(), c.verify_signed_by(&c));
            }
        }
    }
}
