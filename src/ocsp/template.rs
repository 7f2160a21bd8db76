//! The response template: one pure function makes the ResponseData, both when it is signed and when it is served.
//!
//! What is served is therefore by construction what was signed, and all that has to be kept per certificate is its serial
//! number, its status and the raw signature. Everything else (RFC 6960 §4.2.1) is the same for a whole wave and is
//! prepared once as octets; certificates are spliced in as they came, never encoded again.

use super::{CertStatus, HashAlgorithm, IssuerHashes, Serial, SignatureAlgorithm};
use crate::asn1::{put_header, put_tlv, tag, tlv, tlv_len};
use crate::time::{Timestamp, format_generalized};
use std::sync::Arc;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, as a whole element.
const BASIC_OID: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-pkix-ocsp-nonce, 1.3.6.1.5.5.7.48.1.2, as a whole element.
const NONCE_OID: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// id-pkix-ocsp-archive-cutoff, 1.3.6.1.5.5.7.48.1.6, as a whole element.
const ARCHIVE_CUTOFF_OID: &[u8] = &[0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x06];
/// The extended-revoke response extension (RFC 6960 §4.4.8): not critical, NULL.
pub const EXTENDED_REVOKE: &[u8] =
    &[0x30, 0x0f, 0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x09, 0x04, 0x02, 0x05, 0x00];
/// A GeneralizedTime element: tag, length, 15 octets.
const TIME_LEN: usize = 17;

/// How the signer is named in a response (RFC 6960 §4.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponderId {
    /// SHA-1 of the signer's public key bits, whatever the CertID's hash; what RFC 9919 §3.2.2 wants.
    Key([u8; 20]),
    /// The whole DER of the signer's subject name.
    Name(Vec<u8>),
}

/// The key hash in hexadecimal, or `by name`.
impl std::fmt::Display for ResponderId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ResponderId::Key(hash) => hash.iter().try_for_each(|b| write!(f, "{b:02X}")),
            ResponderId::Name(_) => f.write_str("by name"),
        }
    }
}

impl ResponderId {
    fn to_der(&self) -> Vec<u8> {
        match self {
            ResponderId::Key(hash) => tlv(tag::context(2), &tlv(tag::OCTET_STRING, hash)),
            ResponderId::Name(name) => tlv(tag::context(1), name),
        }
    }
}

/// What all responses of one wave have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSpec {
    /// The issuer's hashes, which the CertID repeats; AlgorithmIdentifier parameters are NULL, as most clients send.
    pub issuer: IssuerHashes,
    /// Who signs.
    pub responder: ResponderId,
    /// When the statuses were known to be right.
    pub this_update: Timestamp,
    /// The last second the response may be used.
    pub next_update: Timestamp,
    /// When the responses were signed.
    pub produced_at: Timestamp,
    /// How they are signed.
    pub algorithm: SignatureAlgorithm,
    /// DER of the signer's certificate; `None` when the CA signs itself.
    pub certificate: Option<Vec<u8>>,
    /// Zero or more whole DER Extensions for every SingleResponse.
    pub single_extensions: Vec<u8>,
}

/// A [`TemplateSpec`] turned into the octets around an entry.
#[derive(Clone, Debug)]
#[repr(C)] // what an answer reads comes first, on as few cache lines as may be
pub struct Template {
    shared: Arc<Shared>,
    produced_at: [u8; TIME_LEN],
    /// thisUpdate and nextUpdate.
    times: [u8; 2 * TIME_LEN + 2],
    spec: TemplateSpec,
}

/// The octets that are the same in all templates of a wave.
#[derive(Debug, PartialEq, Eq)]
struct Shared {
    responder: Vec<u8>,
    /// hashAlgorithm, issuerNameHash and issuerKeyHash.
    cert_id: Vec<u8>,
    /// singleExtensions, or nothing.
    extensions: Vec<u8>,
    /// How raw signatures are written.
    signature: SignatureAlgorithm,
    /// signatureAlgorithm.
    algorithm: &'static [u8],
    /// certs, or nothing.
    certs: Vec<u8>,
    /// SHA-256 of what no signature covers, cut short.
    unsigned: [u8; 8],
}

/// One certificate's part of a response.
#[derive(Clone, Copy, Debug)]
pub struct Single<'a> {
    /// Which certificate.
    pub cert_id: SingleCertId<'a>,
    /// What is said of it.
    pub status: CertStatus,
}

/// How the CertID of a [`Single`] is written.
#[derive(Clone, Copy, Debug)]
pub enum SingleCertId<'a> {
    /// From the template's hashes and this serial.
    Serial(&'a Serial),
    /// The DER that was asked with, octet by octet (live answers echo what they were asked).
    Verbatim(&'a [u8]),
}

impl<'a> Single<'a> {
    /// A single under the template's own hashes.
    pub fn new(serial: &'a Serial, status: CertStatus) -> Self {
        Single { cert_id: SingleCertId::Serial(serial), status }
    }
}

impl Template {
    /// Prepares the octets.
    pub fn new(spec: TemplateSpec) -> Self {
        let mut cert_id =
            tlv(tag::SEQUENCE, &[&tlv(tag::OID, spec.issuer.algorithm.oid())[..], &[tag::NULL, 0]].concat());
        put_tlv(&mut cert_id, tag::OCTET_STRING, spec.issuer.name.as_bytes());
        put_tlv(&mut cert_id, tag::OCTET_STRING, spec.issuer.key.as_bytes());

        let mut extensions = Vec::new();
        if !spec.single_extensions.is_empty() {
            put_header(&mut extensions, tag::context(1), tlv_len(spec.single_extensions.len()));
            put_tlv(&mut extensions, tag::SEQUENCE, &spec.single_extensions);
        }

        // RFC 6960 §4.2.1: when there is nothing to put in certs, the field is left out.
        let certs = match &spec.certificate {
            Some(certificate) => tlv(tag::context(0), &tlv(tag::SEQUENCE, certificate)),
            None => Vec::new(),
        };
        let algorithm = spec.algorithm.identifier_der();
        let digest = HashAlgorithm::Sha256.digest(&[algorithm, &certs].concat());
        let unsigned = digest.as_ref().first_chunk().copied().unwrap_or_default();
        let (responder, signature) = (spec.responder.to_der(), spec.algorithm);
        let shared = Shared { responder, cert_id, extensions, signature, algorithm, certs, unsigned };

        let mut times = [0; 2 * TIME_LEN + 2];
        let (this_update, rest) = times.split_at_mut(TIME_LEN);
        let (header, next_update) = rest.split_at_mut(2);
        this_update.copy_from_slice(&time(spec.this_update));
        header.copy_from_slice(&[tag::context(0), TIME_LEN as u8]);
        next_update.copy_from_slice(&time(spec.next_update));
        Template { shared: shared.into(), produced_at: time(spec.produced_at), times, spec }
    }

    /// Holds the octets that are the same in `other` together with it. The templates of a wave differ in their dates alone;
    /// what all of them use stays in the processor's cache.
    pub fn share_with(&mut self, other: &Template) {
        if self.shared == other.shared {
            self.shared = other.shared.clone();
        }
    }

    /// 32 octets that no other response has: the beginning of its signature, which covers all but the signer's certificate, and
    /// a digest of that. Of a signature shorter than 24 octets, of which there is none, all of it and zeros.
    #[inline]
    pub fn validator(&self, raw_signature: &[u8]) -> [u8; 32] {
        let mut validator = [0; 32];
        let (signed, unsigned) = validator.split_at_mut(24);
        match raw_signature.first_chunk::<24>() {
            Some(beginning) => signed.copy_from_slice(beginning),
            None => signed.iter_mut().zip(raw_signature).for_each(|(to, from)| *to = *from),
        }
        unsigned.copy_from_slice(&self.shared.unsigned);
        validator
    }

    /// thisUpdate and nextUpdate as they are written.
    #[inline]
    pub(crate) fn dates(&self) -> &impl Sized {
        &self.times
    }

    /// What it was made of.
    pub fn spec(&self) -> &TemplateSpec {
        &self.spec
    }

    /// Appends the DER of the ResponseData: what is signed.
    ///
    /// `extensions` is zero or more whole DER Extensions for responseExtensions, which RFC 9919 §3.2.1 wants empty.
    pub fn tbs(&self, singles: &[Single<'_>], extensions: &[u8], out: &mut Vec<u8>) {
        let sizes = self.sizes(singles, extensions);
        self.write_tbs(singles, extensions, &sizes, out);
    }

    /// Appends the DER of the whole OCSPResponse for a raw signature over [`Template::tbs`] of the same arguments.
    pub fn response(&self, singles: &[Single<'_>], extensions: &[u8], raw_signature: &[u8], out: &mut Vec<u8>) {
        let sizes = self.sizes(singles, extensions);
        let signature = self.shared.signature.wire_len(raw_signature);
        let basic = tlv_len(sizes.tbs) + self.shared.algorithm.len() + tlv_len(1 + signature) + self.shared.certs.len();
        let bytes = BASIC_OID.len() + tlv_len(tlv_len(basic));
        let body = 3 + tlv_len(tlv_len(bytes));

        out.reserve(tlv_len(body));
        put_header(out, tag::SEQUENCE, body);
        out.extend_from_slice(&[tag::ENUMERATED, 1, 0]);
        put_header(out, tag::context(0), tlv_len(bytes));
        put_header(out, tag::SEQUENCE, bytes);
        out.extend_from_slice(BASIC_OID);
        put_header(out, tag::OCTET_STRING, tlv_len(basic));
        put_header(out, tag::SEQUENCE, basic);
        self.write_tbs(singles, extensions, &sizes, out);
        out.extend_from_slice(self.shared.algorithm);
        put_header(out, tag::BIT_STRING, 1 + signature);
        out.push(0);
        self.shared.signature.write_wire(raw_signature, out);
        out.extend_from_slice(&self.shared.certs);
    }

    fn sizes(&self, singles: &[Single<'_>], extensions: &[u8]) -> Sizes {
        let responses = singles.iter().map(|single| tlv_len(self.single_len(single))).sum();
        let extensions = if extensions.is_empty() { 0 } else { tlv_len(tlv_len(extensions.len())) };
        Sizes { responses, tbs: self.shared.responder.len() + TIME_LEN + tlv_len(responses) + extensions }
    }

    fn single_len(&self, single: &Single<'_>) -> usize {
        let cert_id = match single.cert_id {
            SingleCertId::Serial(serial) => tlv_len(self.shared.cert_id.len() + tlv_len(serial.der_content_len())),
            SingleCertId::Verbatim(der) => der.len(),
        };
        cert_id + status_len(single.status) + self.times.len() + self.shared.extensions.len()
    }

    #[inline]
    fn write_tbs(&self, singles: &[Single<'_>], extensions: &[u8], sizes: &Sizes, out: &mut Vec<u8>) {
        // version is v1, the DEFAULT, and so is not written (RFC 6960 §4.2.2.3 with X.690 §11.5).
        put_header(out, tag::SEQUENCE, sizes.tbs);
        out.extend_from_slice(&self.shared.responder);
        out.extend_from_slice(&self.produced_at);
        put_header(out, tag::SEQUENCE, sizes.responses);
        for single in singles {
            put_header(out, tag::SEQUENCE, self.single_len(single));
            match single.cert_id {
                SingleCertId::Verbatim(der) => out.extend_from_slice(der),
                SingleCertId::Serial(serial) => {
                    put_header(out, tag::SEQUENCE, self.shared.cert_id.len() + tlv_len(serial.der_content_len()));
                    out.extend_from_slice(&self.shared.cert_id);
                    put_header(out, tag::INTEGER, serial.der_content_len());
                    serial.write_der_content(out);
                }
            }
            put_status(out, single.status);
            out.extend_from_slice(&self.times);
            out.extend_from_slice(&self.shared.extensions);
        }
        if !extensions.is_empty() {
            put_header(out, tag::context(1), tlv_len(extensions.len()));
            put_tlv(out, tag::SEQUENCE, extensions);
        }
    }
}

/// Content lengths that both the header and the body need.
struct Sizes {
    responses: usize,
    tbs: usize,
}

/// The nonce Extension for responseExtensions, echoing a request's extnValue content verbatim (RFC 9654 §2.1).
pub fn nonce_extension(extn_value: &[u8]) -> Vec<u8> {
    let mut content = NONCE_OID.to_vec();
    put_tlv(&mut content, tag::OCTET_STRING, extn_value);
    tlv(tag::SEQUENCE, &content)
}

/// The archiveCutoff Extension for singleExtensions (RFC 6960 §4.4.4): how far back the responder's knowledge reaches.
pub fn archive_cutoff_extension(cutoff: Timestamp) -> Vec<u8> {
    let mut content = ARCHIVE_CUTOFF_OID.to_vec();
    put_tlv(&mut content, tag::OCTET_STRING, &tlv(tag::GENERALIZED_TIME, &format_generalized(cutoff)));
    tlv(tag::SEQUENCE, &content)
}

/// A whole GeneralizedTime.
fn time(t: Timestamp) -> [u8; TIME_LEN] {
    let mut octets = [0; TIME_LEN];
    let (header, text) = octets.split_at_mut(2);
    header.copy_from_slice(&[tag::GENERALIZED_TIME, TIME_LEN as u8 - 2]);
    text.copy_from_slice(&format_generalized(t));
    octets
}

/// `unspecified` is said by leaving the reason out (RFC 5280 §5.3.1; CA/B BR §7.3 demands it).
fn written_reason(reason: Option<super::Reason>) -> Option<super::Reason> {
    reason.filter(|r| *r != super::Reason::Unspecified)
}

#[inline]
fn status_len(status: CertStatus) -> usize {
    match status {
        CertStatus::Good | CertStatus::Unknown => 2,
        CertStatus::Revoked { reason, .. } => tlv_len(TIME_LEN + if written_reason(reason).is_some() { 5 } else { 0 }),
    }
}

#[inline]
fn put_status(out: &mut Vec<u8>, status: CertStatus) {
    match status {
        CertStatus::Good => out.extend_from_slice(&[tag::context_primitive(0), 0]),
        CertStatus::Unknown => out.extend_from_slice(&[tag::context_primitive(2), 0]),
        CertStatus::Revoked { at, reason } => {
            let reason = written_reason(reason);
            put_header(out, tag::context(1), TIME_LEN + if reason.is_some() { 5 } else { 0 });
            out.extend_from_slice(&time(at));
            if let Some(reason) = reason {
                out.extend_from_slice(&[tag::context(0), 3, tag::ENUMERATED, 1, reason as u8]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::Reason;
    use der07::{Decode, Encode};
    use proptest::prelude::*;
    use x509_ocsp::{BasicOcspResponse, OcspResponse, ResponseData};

    fn template(algorithm: SignatureAlgorithm, hash: HashAlgorithm, by_name: bool) -> Template {
        let name = [0x30, 0x0d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x02, b'C', b'A'];
        Template::new(TemplateSpec {
            issuer: IssuerHashes::new(hash, &name, b"key"),
            responder: if by_name { ResponderId::Name(name.to_vec()) } else { ResponderId::Key([7; 20]) },
            this_update: Timestamp::from_unix(1_800_000_000),
            next_update: Timestamp::from_unix(1_800_345_599),
            produced_at: Timestamp::from_unix(1_800_000_300),
            algorithm,
            certificate: None,
            single_extensions: Vec::new(),
        })
    }

    fn status() -> impl Strategy<Value = CertStatus> {
        prop_oneof![
            Just(CertStatus::Good),
            Just(CertStatus::Unknown),
            (0_i64..4_000_000_000, proptest::option::of(0_usize..10)).prop_map(|(at, reason)| CertStatus::Revoked {
                at: Timestamp::from_unix(at),
                reason: reason.map(|i| Reason::ALL[i]),
            }),
        ]
    }

    proptest! {
        #[test]
        fn another_library_reads_and_writes_the_same_octets(
            statuses in proptest::collection::vec(status(), 1..4),
            serial in proptest::collection::vec(any::<u8>(), 1..=20),
            raw in proptest::collection::vec(any::<u8>(), 64),
            nonce in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=128)),
            hash in 0_u8..4,
            by_name in any::<bool>(),
        ) {
            let template = template(SignatureAlgorithm::EcdsaP256Sha256, HashAlgorithm::from_index(hash).unwrap(), by_name);
            let serial = Serial::from_unsigned(&serial).unwrap();
            let singles: Vec<_> = statuses.iter().map(|s| Single::new(&serial, *s)).collect();
            let extensions = nonce.map(|n| nonce_extension(&tlv(tag::OCTET_STRING, &n))).unwrap_or_default();
            let (mut tbs, mut response) = (Vec::new(), Vec::new());
            template.tbs(&singles, &extensions, &mut tbs);
            template.response(&singles, &extensions, &raw, &mut response);

            prop_assert_eq!(ResponseData::from_der(&tbs).unwrap().to_der().unwrap(), tbs.clone());
            let outer = OcspResponse::from_der(&response).unwrap();
            prop_assert_eq!(outer.to_der().unwrap(), response);
            let basic = BasicOcspResponse::from_der(outer.response_bytes.unwrap().response.as_bytes()).unwrap();
            prop_assert_eq!(basic.tbs_response_data.to_der().unwrap(), tbs);
            prop_assert_eq!(basic.tbs_response_data.responses.len(), statuses.len());
            let wanted = SignatureAlgorithm::EcdsaP256Sha256.wire_len(&raw);
            prop_assert_eq!(basic.signature.raw_bytes().len(), wanted);
        }
    }

    #[test]
    fn the_certificate_is_spliced_in_as_it_came() {
        let mut spec = template(SignatureAlgorithm::Ed25519, HashAlgorithm::Sha1, false).spec().clone();
        let odd = [0x30, 0x81, 0x03, 0x02, 0x01, 0x05]; // not DER: a re-encoding would change it
        spec.certificate = Some(odd.to_vec());
        let mut out = Vec::new();
        let serial = Serial::from_unsigned(&[5]).unwrap();
        Template::new(spec).response(&[Single::new(&serial, CertStatus::Good)], &[], &[1; 64], &mut out);
        assert!(out.ends_with(&odd));
    }

    #[test]
    fn no_two_responses_have_the_same_validator() {
        let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let validator = |change: fn(&mut TemplateSpec), serial: u8, status| {
            let mut spec = template(SignatureAlgorithm::Ed25519, HashAlgorithm::Sha1, false).spec().clone();
            change(&mut spec);
            let (template, serial) = (Template::new(spec), Serial::from_unsigned(&[serial]).unwrap());
            let mut tbs = Vec::new();
            template.tbs(&[Single::new(&serial, status)], &[], &mut tbs);
            template.validator(key.sign(&tbs).as_ref())
        };
        let revoked = |at, reason| CertStatus::Revoked { at: Timestamp::from_unix(at), reason };
        let of = [
            ("one", validator(|_| {}, 5, CertStatus::Good)),
            ("another serial", validator(|_| {}, 6, CertStatus::Good)),
            ("revoked", validator(|_| {}, 5, revoked(1_700_000_000, None))),
            ("revoked earlier", validator(|_| {}, 5, revoked(1_600_000_000, None))),
            ("a reason", validator(|_| {}, 5, revoked(1_700_000_000, Some(Reason::KeyCompromise)))),
            ("unknown", validator(|_| {}, 5, CertStatus::Unknown)),
            (
                "signed anew",
                validator(
                    |s| s.produced_at = s.produced_at.plus(std::time::Duration::from_secs(1)),
                    5,
                    CertStatus::Good,
                ),
            ),
            (
                "of a later day",
                validator(
                    |s| s.this_update = s.this_update.plus(std::time::Duration::from_secs(1)),
                    5,
                    CertStatus::Good,
                ),
            ),
            // The signature does not cover the certificate that is sent with it.
            ("a certificate", validator(|s| s.certificate = Some(vec![0x30, 1, 1]), 5, CertStatus::Good)),
            ("another certificate", validator(|s| s.certificate = Some(vec![0x30, 1, 2]), 5, CertStatus::Good)),
        ];
        for (n, (name, validator)) in of.iter().enumerate() {
            for (other, its) in &of[..n] {
                assert_ne!(validator, its, "{name}, {other}");
            }
        }
        assert_eq!(of[0].1, validator(|_| {}, 5, CertStatus::Good), "the same octets");
    }

    #[test]
    fn a_single_may_echo_the_cert_id_it_was_asked_with() {
        let template = template(SignatureAlgorithm::Ed25519, HashAlgorithm::Sha1, false);
        let asked = [0x30, 0x03, 0x02, 0x01, 0x09];
        let mut out = Vec::new();
        let single = Single { cert_id: SingleCertId::Verbatim(&asked), status: CertStatus::Good };
        template.tbs(&[single], EXTENDED_REVOKE, &mut out);
        assert!(out.windows(5).any(|w| w == asked));
        assert!(out.ends_with(EXTENDED_REVOKE));
    }
}
