//! Every check has a signer that fails it, and only it.

use super::*;
use crate::asn1::{put_tlv, tag, tlv};
use crate::ocsp::Serial;
use crate::signer::{KeyKind, RsaPadding, SignError, SigningKey};
use crate::x509::issue::{Attribute, CertificateSpec, ExtensionSpec, name};
use std::time::Duration;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const ALL: [Profile; 3] = [Profile::Rfc6960, Profile::Rfc9919, Profile::Cabf];
const RFC: [Profile; 2] = [Profile::Rfc6960, Profile::Rfc9919];
const CABF: [Profile; 1] = [Profile::Cabf];

/// A CA, its delegated signer, and what they would have been issued from.
struct Lab {
    ca_key: SigningKey,
    ca_spec: CertificateSpec,
    key: SigningKey,
    spec: CertificateSpec,
}

fn key(kind: KeyKind) -> SigningKey {
    SigningKey::generate(kind).unwrap().0
}

fn rsa(padding: RsaPadding) -> SigningKey {
    SigningKey::load(include_bytes!("../../../tests/fixtures/keys/rsa-2048.pem"), padding).unwrap()
}

fn subject(common_name: &str) -> Vec<u8> {
    name(&[(Attribute::Country, "SE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, common_name)])
}

fn serial(magnitude: &[u8]) -> Serial {
    Serial::from_unsigned(magnitude).unwrap()
}

impl Lab {
    fn new() -> Self {
        Self::with(key(KeyKind::EcdsaP256), key(KeyKind::EcdsaP256))
    }

    fn with(ca_key: SigningKey, key: SigningKey) -> Self {
        let ca_spec = CertificateSpec::ca(
            subject("Lab CA"),
            ca_key.spki_der(),
            serial(&[1]),
            NOW.minus(DAY * 100),
            NOW.plus(DAY * 1000),
        );
        let ca = ca_spec.issue(&ca_key).unwrap();
        let spec = CertificateSpec::ocsp_signer(
            &ca,
            subject("OCSP"),
            key.spki_der(),
            serial(&[0x7f; 20]),
            NOW.minus(DAY),
            NOW.plus(DAY * 30),
        );
        Lab { ca_key, ca_spec, key, spec }
    }

    fn ca(&self) -> Certificate {
        self.ca_spec.issue(&self.ca_key).unwrap()
    }

    fn signer(&self) -> Certificate {
        self.spec.issue(&self.ca_key).unwrap()
    }

    fn check(&self, profile: Profile) -> Result<SignerFacts, SignerRefused> {
        check(&self.ca(), &self.signer(), &self.key, profile, NOW)
    }

    /// With one change to the signer's certificate.
    fn changed(change: impl FnOnce(CertificateSpec) -> CertificateSpec) -> Self {
        let lab = Lab::new();
        Lab { spec: change(lab.spec), ..lab }
    }

    /// Codes of faults and warnings.
    fn codes(&self, profile: Profile) -> (Vec<&'static str>, Vec<&'static str>) {
        codes(self.check(profile))
    }

    #[track_caller]
    fn refused(&self, profiles: &[Profile], fault: &str) {
        for profile in profiles {
            assert_eq!(self.codes(*profile), (vec![fault], vec![]), "{}", profile.name());
        }
    }

    #[track_caller]
    fn warned(&self, profiles: &[Profile], warning: &str) {
        for profile in profiles {
            assert_eq!(self.codes(*profile), (vec![], vec![warning]), "{}", profile.name());
        }
    }

    #[track_caller]
    fn accepted(&self, profiles: &[Profile]) {
        for profile in profiles {
            assert_eq!(self.codes(*profile), (vec![], vec![]), "{}", profile.name());
        }
    }
}

fn codes(result: Result<SignerFacts, SignerRefused>) -> (Vec<&'static str>, Vec<&'static str>) {
    let names = |list: &[SignerFault]| list.iter().map(SignerFault::code).collect();
    match result {
        Ok(facts) => (vec![], names(&facts.warnings)),
        Err(refused) => {
            assert!(!refused.faults.is_empty());
            assert!(refused.to_string().contains(refused.faults[0].clause()));
            (names(&refused.faults), names(&refused.warnings))
        }
    }
}

#[test]
fn a_conformant_delegated_signer_passes_every_profile() {
    for (ca, signer) in [
        (key(KeyKind::EcdsaP256), key(KeyKind::EcdsaP384)),
        (key(KeyKind::EcdsaP384), key(KeyKind::EcdsaP256)),
        (rsa(RsaPadding::Pkcs1), key(KeyKind::EcdsaP256)),
        (rsa(RsaPadding::Pss), key(KeyKind::EcdsaP256)),
        (key(KeyKind::EcdsaP256), rsa(RsaPadding::Pkcs1)),
        (key(KeyKind::EcdsaP256), rsa(RsaPadding::Pss)),
    ] {
        Lab::with(ca, signer).accepted(&ALL);
    }
    let lab = Lab::new();
    let facts = lab.check(Profile::Cabf).unwrap();
    assert_eq!((facts.kind, facts.algorithm), (SignerKind::Delegated, lab.key.algorithm()));
    assert_eq!((facts.not_before, facts.not_after), (NOW.minus(DAY), NOW.plus(DAY * 30)));
    assert_eq!(facts.key_hash, lab.signer().responder_key_hash());
}

#[test]
fn ed25519_passes_where_the_baseline_requirements_do_not_apply() {
    let lab = Lab::with(key(KeyKind::EcdsaP256), key(KeyKind::Ed25519));
    lab.accepted(&RFC);
    lab.refused(&CABF, "key-not-allowed");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    Lab { key: key(KeyKind::EcdsaP256), ..Lab::new() }.refused(&ALL, "key-mismatch");
}

#[test]
fn a_signer_of_a_ca_with_another_name_is_refused() {
    Lab::changed(|spec| CertificateSpec { issuer: subject("Other CA"), ..spec }).refused(&ALL, "wrong-issuer");
}

#[test]
fn a_signer_under_a_previous_key_of_the_ca_is_refused() {
    let old = Lab::new();
    let renewed = Lab { ca_key: key(KeyKind::EcdsaP256), ..Lab::new() };
    let ca_spec = CertificateSpec { spki: renewed.ca_key.spki_der(), ..renewed.ca_spec.clone() };
    let ca = ca_spec.without(&ExtensionSpec::subject_key_id(&[])).issue(&renewed.ca_key).unwrap();
    for profile in ALL {
        let result = check(&ca, &old.signer(), &old.key, profile, NOW);
        assert_eq!(codes(result), (vec!["bad-signature"], vec![]));
    }
}

#[test]
fn an_authority_key_identifier_of_another_key_is_refused() {
    Lab::changed(|spec| spec.with(ExtensionSpec::authority_key_id(&[9; 20]))).refused(&ALL, "authority-key-id-differs");
}

#[test]
fn an_issuer_that_is_no_ca_is_refused() {
    let lab = Lab::new();
    let ca_spec = lab.ca_spec.clone().without(&ExtensionSpec::ca(None));
    Lab { ca_spec, ..lab }.refused(&ALL, "issuer-not-ca");
    let lab = Lab::new();
    let ca_spec = lab.ca_spec.clone().with(ExtensionSpec::key_usage(KeyUsage::CRL_SIGN));
    Lab { ca_spec, ..lab }.refused(&ALL, "issuer-not-ca");
}

#[test]
fn sha1_under_the_certificate_is_refused() {
    let lab = Lab::with(rsa(RsaPadding::Pkcs1), key(KeyKind::EcdsaP256));
    let der = patched(lab.signer().der(), oid::SHA256_WITH_RSA, oid::SHA1_WITH_RSA);
    let signer = Certificate::from_der(&der).unwrap();
    for profile in RFC {
        assert_eq!(codes(check(&lab.ca(), &signer, &lab.key, profile, NOW)), (vec!["sha1"], vec![]));
    }
    let (faults, _) = codes(check(&lab.ca(), &signer, &lab.key, Profile::Cabf, NOW));
    assert_eq!(faults, ["sha1", "algorithm-identifier"]);
}

#[test]
fn a_signature_that_cannot_be_verified_is_refused() {
    let lab = Lab::with(rsa(RsaPadding::Pkcs1), key(KeyKind::EcdsaP256));
    let md5 = patched(lab.signer().der(), oid::SHA256_WITH_RSA, oid::MD5_WITH_RSA);
    let signer = Certificate::from_der(&md5).unwrap();
    let result = check(&lab.ca(), &signer, &lab.key, Profile::Rfc9919, NOW);
    assert_eq!(codes(result), (vec!["unverifiable-signature"], vec![]));
}

#[test]
fn an_identifier_that_does_not_fit_the_ca_key_is_a_fault_in_cabf() {
    // ECDSA with SHA-256 under a P-384 key is a good signature elsewhere; here it is wrong besides.
    let lab = Lab::with(key(KeyKind::EcdsaP384), key(KeyKind::EcdsaP256));
    let der = patched(lab.signer().der(), oid::ECDSA_WITH_SHA384, oid::ECDSA_WITH_SHA256);
    let signer = Certificate::from_der(&der).unwrap();
    let codes_of = |profile| codes(check(&lab.ca(), &signer, &lab.key, profile, NOW)).0;
    assert_eq!(codes_of(Profile::Cabf), ["bad-signature", "algorithm-identifier"]);
    assert_eq!(codes_of(Profile::Rfc9919), ["bad-signature"]);
}

#[test]
fn delegation_needs_ocsp_signing_itself() {
    Lab::changed(|spec| spec.without(&ExtensionSpec::ocsp_signing())).refused(&ALL, "no-ocsp-signing");
    Lab::changed(|spec| spec.with(ExtensionSpec::server_auth())).refused(&ALL, "no-ocsp-signing");
    let any_purpose: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
    Lab::changed(|spec| spec.with(ExtensionSpec::extended_key_usage(&[any_purpose]))).refused(&ALL, "no-ocsp-signing");
}

#[test]
fn ocsp_signing_must_be_alone_in_cabf() {
    let both = ExtensionSpec::extended_key_usage(&[oid::KP_OCSP_SIGNING, oid::KP_SERVER_AUTH]);
    let lab = Lab::changed(|spec| spec.with(both));
    lab.accepted(&RFC);
    lab.refused(&CABF, "other-purposes");
}

#[test]
fn nocheck_is_advised_and_in_cabf_required() {
    let lab = Lab::changed(|spec| spec.without(&ExtensionSpec::nocheck()));
    lab.warned(&RFC, "no-nocheck");
    lab.refused(&CABF, "no-nocheck");
}

#[test]
fn nocheck_must_hold_null() {
    for value in [vec![], vec![0x05], vec![0x30, 0], vec![5, 0, 5, 0]] {
        Lab::changed(|spec| spec.with(ExtensionSpec { value, ..ExtensionSpec::nocheck() }))
            .refused(&ALL, "nocheck-not-null");
    }
}

#[test]
fn nocheck_should_not_be_critical() {
    let lab = Lab::changed(|spec| spec.with(ExtensionSpec { critical: true, ..ExtensionSpec::nocheck() }));
    lab.warned(&RFC, "nocheck-critical");
    lab.refused(&CABF, "nocheck-critical");
}

#[test]
fn validity_includes_both_its_ends() {
    let later = Timestamp::from_unix(NOW.unix() + 1);
    let earlier = Timestamp::from_unix(NOW.unix() - 1);
    Lab::changed(|spec| CertificateSpec { not_before: later, ..spec }).refused(&ALL, "not-yet-valid");
    Lab::changed(|spec| CertificateSpec { not_after: earlier, ..spec }).refused(&ALL, "expired");
    Lab::changed(|spec| CertificateSpec { not_before: NOW, not_after: NOW, ..spec }).accepted(&ALL);
}

#[test]
fn an_expired_ca_is_reported() {
    let lab = Lab::new();
    let ca_spec = CertificateSpec { not_after: NOW.minus(DAY), ..lab.ca_spec.clone() };
    Lab { ca_spec, ..lab }.warned(&ALL, "issuer-expired");
}

#[test]
fn a_key_usage_without_digital_signature_is_refused() {
    let lab = Lab::changed(|spec| spec.with(ExtensionSpec::key_usage(KeyUsage::CRL_SIGN)));
    lab.refused(&ALL, "no-digital-signature");
}

#[test]
fn key_usage_must_be_critical_and_alone_in_cabf() {
    let usage = ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE);
    let absent = Lab::changed(|spec| spec.without(&usage));
    absent.accepted(&RFC);
    absent.refused(&CABF, "missing-extension");
    let lax = Lab::changed(|spec| spec.with(ExtensionSpec { critical: false, ..usage.clone() }));
    lax.accepted(&RFC);
    lax.refused(&CABF, "key-usage-not-critical");
    let more = ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE.and(KeyUsage::CRL_SIGN));
    let more = Lab::changed(|spec| spec.with(more));
    more.accepted(&RFC);
    more.refused(&CABF, "other-key-usages");
}

#[test]
fn what_the_baseline_requirements_forbid_is_refused_in_cabf_only() {
    let ca_issuers: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    let description = tlv(tag::SEQUENCE, &[tlv(tag::OID, ca_issuers), tlv(tag::context_primitive(6), b"x:")].concat());
    let ca_issuers_access = ExtensionSpec::new(oid::AUTHORITY_INFO_ACCESS, false, tlv(tag::SEQUENCE, &description));
    for (extension, also_unwise) in [
        (ExtensionSpec::dns_names(&["a.example"]), false),
        (ExtensionSpec::new(oid::NAME_CONSTRAINTS, true, vec![0x30, 0]), false),
        (ExtensionSpec::crl_url("http://a.example/crl"), true),
        (ca_issuers_access, true),
    ] {
        let lab = Lab::changed(|spec| spec.with(extension));
        lab.accepted(&[Profile::Rfc6960]);
        lab.refused(&CABF, "forbidden-extension");
        if also_unwise {
            lab.warned(&[Profile::Rfc9919], "not-recommended");
        } else {
            lab.accepted(&[Profile::Rfc9919]);
        }
    }
}

#[test]
fn what_is_not_recommended_is_reported() {
    let aia = Lab::changed(|spec| spec.with(ExtensionSpec::ocsp_url("http://a.example/")));
    aia.accepted(&[Profile::Rfc6960]);
    aia.warned(&[Profile::Rfc9919, Profile::Cabf], "not-recommended");
    let policies = Lab::changed(|spec| spec.with(ExtensionSpec::new(oid::CERTIFICATE_POLICIES, false, vec![0x30, 0])));
    policies.accepted(&RFC);
    policies.warned(&CABF, "not-recommended");
    let critical = Lab::changed(|spec| spec.with(ExtensionSpec::new(&[0x2a, 3], true, vec![5, 0])));
    critical.warned(&RFC, "critical-extension");
    assert_eq!(critical.codes(Profile::Cabf), (vec![], vec!["critical-extension", "not-recommended"]));
    let no_ski = Lab::changed(|spec| spec.without(&ExtensionSpec::subject_key_id(&[])));
    no_ski.accepted(&RFC);
    no_ski.warned(&CABF, "missing-extension");
}

#[test]
fn the_authority_key_identifier_is_required_and_not_critical_in_cabf() {
    let lab = Lab::changed(|spec| spec.without(&ExtensionSpec::authority_key_id(&[])));
    lab.accepted(&RFC);
    lab.refused(&CABF, "missing-extension");
    let id = Lab::new().ca().subject_key_id().unwrap().to_vec();
    assert_eq!(id.len(), 20);
    let lab = Lab::changed(|mut spec| {
        spec.extensions.iter_mut().filter(|e| e.oid == oid::AUTHORITY_KEY_IDENTIFIER).for_each(|e| e.critical = true);
        spec
    });
    lab.accepted(&RFC);
    lab.refused(&CABF, "authority-key-id-critical");
}

#[test]
fn basic_constraints_of_a_signer_are_empty_in_cabf() {
    let of = |value: Vec<u8>| Lab::changed(|spec| spec.with(ExtensionSpec::new(oid::BASIC_CONSTRAINTS, true, value)));
    of(vec![0x30, 0]).accepted(&ALL);
    let explicit_false = of(vec![0x30, 3, 1, 1, 0]);
    explicit_false.accepted(&RFC);
    explicit_false.refused(&CABF, "basic-constraints-not-empty");
    let ca = of(vec![0x30, 3, 1, 1, 0xff]);
    ca.warned(&RFC, "signer-is-ca");
    ca.refused(&CABF, "signer-is-ca");
}

#[test]
fn serial_numbers_are_positive_and_below_2_to_the_159th_in_cabf() {
    for bad in [serial(&[0]), serial(&[0x80; 20]), Serial::from_hex("-1").unwrap()] {
        let lab = Lab::changed(|spec| CertificateSpec { serial: bad, ..spec });
        lab.accepted(&RFC);
        lab.refused(&CABF, "serial-number");
    }
    Lab::changed(|spec| CertificateSpec { serial: serial(&[0x80; 19]), ..spec }).accepted(&ALL);
}

#[test]
fn the_subject_is_complete_in_cabf() {
    use Attribute::{CommonName, Country, Organization};
    let cases: [&[(Attribute, &str)]; 4] = [
        &[(Organization, "Lab"), (CommonName, "OCSP")],
        &[(Country, "SE"), (CommonName, "OCSP")],
        &[(Country, "SE"), (Organization, "Lab")],
        &[(Country, "SE"), (Organization, "Lab"), (CommonName, "")],
    ];
    for attributes in cases {
        let lab = Lab::changed(|spec| CertificateSpec { subject: name(attributes), ..spec });
        lab.accepted(&RFC);
        lab.refused(&CABF, "subject-lacks");
    }
}

#[test]
fn a_certificate_before_version_3_is_no_signer() {
    let lab = Lab::new();
    let bare = CertificateSpec { extensions: vec![], ..lab.spec.clone() }.issue(&lab.ca_key).unwrap();
    let version: &[u8] = &[0xa0, 3, 2, 1, 2];
    let tbs = crate::asn1::whole(bare.tbs_der(), tag::SEQUENCE).unwrap().strip_prefix(version).unwrap();
    let tbs = tlv(tag::SEQUENCE, tbs);
    let mut raw = Vec::new();
    lab.ca_key.sign_raw(&tbs, &mut raw).unwrap();
    let mut signature = vec![0];
    lab.ca_key.algorithm().write_wire(&raw, &mut signature);
    let mut content = [&tbs, bare.signature_algorithm_der()].concat();
    put_tlv(&mut content, tag::BIT_STRING, &signature);
    let first = Certificate::from_der(&tlv(tag::SEQUENCE, &content)).unwrap();
    assert_eq!(first.version(), 1);
    let (faults, _) = codes(check(&lab.ca(), &first, &lab.key, Profile::Cabf, NOW));
    assert_eq!(faults, ["no-ocsp-signing", "no-nocheck", "version", "missing-extension", "missing-extension"]);
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    // The SubjectPublicKeyInfo of an RSA key of 1024 bits; nobody has its private key.
    let modulus = tlv(tag::INTEGER, &[&[0, 0x80][..], &[1; 127]].concat());
    let public = tlv(tag::SEQUENCE, &[modulus, tlv(tag::INTEGER, &[1, 0, 1])].concat());
    let algorithm = tlv(tag::SEQUENCE, &[tlv(tag::OID, oid::RSA_ENCRYPTION), vec![5, 0]].concat());
    let rsa_1024 = [algorithm, tlv(tag::BIT_STRING, &[&[0][..], &public].concat())].concat();
    let algorithm = tlv(tag::SEQUENCE, &[tlv(tag::OID, oid::EC_PUBLIC_KEY), tlv(tag::OID, oid::P521)].concat());
    let p521 = [algorithm, tlv(tag::BIT_STRING, &[&[0][..], &[4; 133]].concat())].concat();
    for spki in [rsa_1024, p521] {
        let spki = tlv(tag::SEQUENCE, &spki);
        let lab = Lab::changed(|spec| CertificateSpec { spki, ..spec });
        for profile in ALL {
            assert_eq!(lab.codes(profile).0, ["key-not-allowed", "key-mismatch"]);
        }
    }
}

/// A module that has the right key and signs wrongly.
struct Faulty<'a> {
    key: &'a SigningKey,
    signature: Option<usize>,
}

impl Signer for Faulty<'_> {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key_bits(&self) -> &[u8] {
        self.key.public_key_bits()
    }

    fn sign_raw(&self, _: &[u8], out: &mut Vec<u8>) -> Result<(), SignError> {
        out.resize(self.signature.ok_or_else(|| SignError("the token was removed".to_owned()))?, 7);
        Ok(())
    }
}

#[test]
fn a_key_that_signs_wrongly_is_refused() {
    let lab = Lab::new();
    for signature in [None, Some(0), Some(63), Some(64)] {
        let faulty = Faulty { key: &lab.key, signature };
        let result = check(&lab.ca(), &lab.signer(), &faulty, Profile::Rfc9919, NOW);
        assert_eq!(codes(result), (vec!["test-signature"], vec![]));
    }
}

#[test]
fn the_ca_itself_signs_only_where_its_key_usage_allows() {
    let lab = Lab::new();
    let of = |spec: CertificateSpec, profile| {
        let ca = spec.issue(&lab.ca_key).unwrap();
        check(&ca, &ca, &lab.ca_key, profile, NOW)
    };
    let lax = lab.ca_spec.clone().without(&ExtensionSpec::key_usage(KeyUsage::CRL_SIGN));
    let strict = lab.ca_spec.clone().with(ExtensionSpec::key_usage(KeyUsage::KEY_CERT_SIGN.and(KeyUsage::CRL_SIGN)));
    for profile in ALL {
        assert_eq!(of(lab.ca_spec.clone(), profile).unwrap().kind, SignerKind::Ca);
        assert_eq!(codes(of(strict.clone(), profile)), (vec!["ca-may-not-sign"], vec![]));
    }
    RFC.iter().for_each(|profile| assert!(of(lax.clone(), *profile).is_ok()));
    assert_eq!(codes(of(lax, Profile::Cabf)).0, ["ca-may-not-sign"]);
}

#[test]
fn another_certificate_for_the_ca_key_is_the_ca_itself() {
    let lab = Lab::new();
    let cross = CertificateSpec { issuer: subject("Root"), subject: subject("Cross"), ..lab.ca_spec.clone() };
    let cross = cross.issue(&key(KeyKind::EcdsaP256)).unwrap();
    let facts = check(&lab.ca(), &cross, &lab.ca_key, Profile::Cabf, NOW).unwrap();
    assert_eq!(facts.kind, SignerKind::Ca);
}

#[test]
fn a_refusal_names_every_fault_and_its_clause() {
    let lab = Lab::changed(|spec| CertificateSpec { issuer: vec![0x30, 0], subject: vec![0x30, 0], ..spec });
    let Err(refused) = lab.check(Profile::Cabf) else { panic!() };
    assert_eq!(
        refused.to_string(),
        "the signer was issued by (empty name), not by CN=Lab CA,O=Lab,C=SE; have this CA issue it directly (RFC 6960 §4.2.2.2); \
         the subject lacks countryName; it must have countryName, organizationName and commonName (BR §7.1.2.10.2); \
         the subject lacks organizationName; it must have countryName, organizationName and commonName (BR §7.1.2.10.2); \
         the subject lacks commonName; it must have countryName, organizationName and commonName (BR §7.1.2.10.2)"
    );
}

/// Replaces an OBJECT IDENTIFIER by one as long.
fn patched(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = der.to_vec();
    let places: Vec<usize> = memchr::memmem::find_iter(der, from).collect();
    assert!(places.len() >= 2 && from.len() == to.len());
    places.into_iter().for_each(|at| out[at..at + to.len()].copy_from_slice(to));
    out
}
