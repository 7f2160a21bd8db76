//! The response template: whatever is put in comes out again, read by a decoder of other hands, around the very octets that
//! were signed.

use crate::asn1::{tag, tlv};
use crate::ocsp::{
    CertStatus, HashAlgorithm, IssuerHashes, Reason, ResponderId, Serial, SignatureAlgorithm, Single, Template,
    TemplateSpec, nonce_extension,
};
use crate::time::{Timestamp, format_generalized};
use rasn_ocsp::{BasicOcspResponse, CertStatus as Theirs, OcspResponse, OcspResponseStatus, ResponderId as TheirId};

/// The last second of the year 9999: GeneralizedTime has four digits for it.
const LAST_SECOND: u64 = 253_402_300_799;

/// Takes octets as instructions; when they run out there are zeros.
struct Recipe<'a>(&'a [u8]);

impl<'a> Recipe<'a> {
    fn octet(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn octets(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn time(&mut self) -> Timestamp {
        let mut seconds = 0_u64;
        for _ in 0..5 {
            seconds = seconds << 8 | u64::from(self.octet());
        }
        Timestamp::from_unix(i64::try_from(seconds % LAST_SECOND).unwrap_or(0))
    }

    fn status(&mut self) -> CertStatus {
        match self.octet() % 4 {
            0 => CertStatus::Good,
            1 => CertStatus::Unknown,
            _ => CertStatus::Revoked { at: self.time(), reason: Reason::from_code(self.octet()) },
        }
    }

    fn serial(&mut self) -> Serial {
        let len = usize::from(self.octet() % 20) + 1;
        Serial::from_unsigned(self.octets(len))
            .or_else(|_| Serial::from_unsigned(&[1]))
            .unwrap_or_else(|e| panic!("{e}"))
    }

    fn spec(&mut self) -> TemplateSpec {
        let choice = self.octet();
        let hash = HashAlgorithm::from_index(choice & 3).unwrap_or(HashAlgorithm::Sha1);
        let algorithm = match choice >> 2 & 7 {
            0 => SignatureAlgorithm::EcdsaP384Sha384,
            1 => SignatureAlgorithm::Ed25519,
            2 => SignatureAlgorithm::RsaPkcs1Sha256 { modulus_len: 256 },
            3 => SignatureAlgorithm::RsaPssSha256 { modulus_len: 512 },
            _ => SignatureAlgorithm::EcdsaP256Sha256,
        };
        let name = tlv(tag::SEQUENCE, &[]);
        TemplateSpec {
            issuer: IssuerHashes::new(hash, &name, self.octets(8)),
            responder: if choice & 0x20 == 0 { ResponderId::Key([choice; 20]) } else { ResponderId::Name(name) },
            this_update: self.time(),
            next_update: self.time(),
            produced_at: self.time(),
            algorithm,
            certificate: None,
            single_extensions: Vec::new(),
        }
    }
}

/// Makes a response as the octets say, and has it read.
pub fn template(data: &[u8]) {
    let mut recipe = Recipe(data);
    let spec = recipe.spec();
    let count = usize::from(recipe.octet() % 4) + 1;
    let entries: Vec<(Serial, CertStatus)> = (0..count).map(|_| (recipe.serial(), recipe.status())).collect();
    let nonce = match recipe.octet() % 130 {
        0 => Vec::new(),
        len => tlv(tag::OCTET_STRING, recipe.octets(usize::from(len))),
    };
    let extensions = if nonce.is_empty() { Vec::new() } else { nonce_extension(&nonce) };
    let mut raw = recipe.0.to_vec();
    raw.resize(spec.algorithm.raw_len(), 0);

    let template = Template::new(spec.clone());
    let singles: Vec<_> = entries.iter().map(|(serial, status)| Single::new(serial, *status)).collect();
    let (mut tbs, mut response, mut signature) = (Vec::new(), b"before".to_vec(), Vec::new());
    template.tbs(&singles, &extensions, &mut tbs);
    template.response(&singles, &extensions, &raw, &mut response);
    spec.algorithm.write_wire(&raw, &mut signature);
    let Some(response) = response.strip_prefix(b"before") else { panic!("what was there is overwritten") };

    let outer: OcspResponse = rasn::der::decode(response).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outer.status, OcspResponseStatus::Successful);
    let Some(bytes) = outer.bytes else { panic!("no responseBytes") };
    let basic: BasicOcspResponse = rasn::der::decode(&bytes.response).unwrap_or_else(|e| panic!("{e}"));
    // What was signed stands in the response octet for octet, at the front of BasicOCSPResponse.
    let mut content = crate::asn1::Reader::new(&bytes.response);
    let content = content.expect(tag::SEQUENCE).unwrap_or_default();
    assert!(content.starts_with(&tbs), "what is served is not what was signed");
    assert_eq!(rasn::der::encode(&basic.tbs_response_data).ok(), Some(tbs));
    assert_eq!(basic.signature.as_raw_slice(), signature);
    assert!(basic.certs.is_none());

    let read = basic.tbs_response_data;
    match (&spec.responder, &read.responder_id) {
        (ResponderId::Key(hash), TheirId::ByKey(theirs)) => assert_eq!(&hash[..], &theirs[..]),
        (ResponderId::Name(_), TheirId::ByName(_)) => {}
        other => panic!("another responderID: {other:?}"),
    }
    assert!(is(&read.produced_at, spec.produced_at));
    assert_eq!(read.responses.len(), entries.len());
    for ((serial, status), single) in entries.iter().zip(&read.responses) {
        assert_eq!(single.cert_id.issuer_name_hash.as_ref(), spec.issuer.name.as_bytes());
        assert_eq!(single.cert_id.issuer_key_hash.as_ref(), spec.issuer.key.as_bytes());
        let mut integer = Vec::new();
        serial.write_der_content(&mut integer);
        assert_eq!(rasn::der::encode(&single.cert_id.serial_number).ok(), Some(tlv(tag::INTEGER, &integer)));
        assert!(is(&single.this_update, spec.this_update));
        assert!(single.next_update.as_ref().is_some_and(|t| is(t, spec.next_update)));
        match (status, &single.cert_status) {
            (CertStatus::Good, Theirs::Good) | (CertStatus::Unknown, Theirs::Unknown(_)) => {}
            (CertStatus::Revoked { at, reason }, Theirs::Revoked(info)) => {
                assert!(is(&info.revocation_time, *at));
                let said = reason.filter(|r| *r != Reason::Unspecified).map(|r| r as u8);
                assert_eq!(info.revocation_reason.map(|r| r as u8), said);
            }
            other => panic!("another status: {other:?}"),
        }
    }
    assert_eq!(read.response_extensions.is_some(), !extensions.is_empty());
}

fn is(theirs: &rasn::types::GeneralizedTime, ours: Timestamp) -> bool {
    rasn::der::encode(theirs).is_ok_and(|der| der.ends_with(&format_generalized(ours)))
}
