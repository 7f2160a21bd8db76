use super::*;
use crate::ocsp::{ResponderId, Single as NewSingle, Template, TemplateSpec, nonce_extension};
use crate::signer::{KeyKind, SigningKey};
use crate::x509::Signer;
use crate::x509::issue::{Attribute, CertificateSpec, ExtensionSpec, name};
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;

struct Ca {
    key: SigningKey,
    certificate: Certificate,
}

struct World {
    ca: Ca,
    other: Ca,
    signer_key: SigningKey,
    signer: CertificateSpec,
    serial: Serial,
}

/// What a test changes about an otherwise right response.
struct Turn<'w> {
    world: &'w World,
    signer: Certificate,
    key: &'w SigningKey,
    spec: TemplateSpec,
    status: CertStatus,
    extensions: Vec<u8>,
}

fn at(offset: i64) -> Timestamp {
    Timestamp::from_unix(NOW + offset)
}

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[n]).unwrap()
}

impl Ca {
    fn new(cn: &str) -> Self {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = name(&[(Attribute::CommonName, cn)]);
        let spec = CertificateSpec::ca(subject, key.spki_der(), serial(1), at(-9_000_000), at(9_000_000));
        let certificate = spec.issue(&key).unwrap();
        Ca { key, certificate }
    }
}

impl World {
    fn new() -> Self {
        let (ca, other) = (Ca::new("CA"), Ca::new("Other"));
        let (signer_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let signer = CertificateSpec::ocsp_signer(
            &ca.certificate,
            name(&[(Attribute::CommonName, "Responder")]),
            signer_key.spki_der(),
            serial(2),
            at(-90_000),
            at(900_000),
        );
        World { ca, other, signer_key, signer, serial: serial(77) }
    }

    fn turn(&self) -> Turn<'_> {
        self.turn_by(self.signer.issue(&self.ca.key).unwrap(), &self.signer_key)
    }

    fn turn_by<'w>(&'w self, signer: Certificate, key: &'w SigningKey) -> Turn<'w> {
        let spec = TemplateSpec {
            issuer: self.ca.certificate.issuer_hashes(HashAlgorithm::Sha1),
            responder: ResponderId::Key(signer.responder_key_hash()),
            this_update: at(-600),
            next_update: at(86_400),
            produced_at: at(-300),
            algorithm: key.algorithm(),
            certificate: Some(signer.der().to_vec()),
            single_extensions: Vec::new(),
        };
        Turn { world: self, signer, key, spec, status: CertStatus::Good, extensions: Vec::new() }
    }
}

impl Turn<'_> {
    fn response(&self) -> Vec<u8> {
        let template = Template::new(self.spec.clone());
        let single = [NewSingle::new(&self.world.serial, self.status)];
        let (mut tbs, mut raw, mut response) = (Vec::new(), Vec::new(), Vec::new());
        template.tbs(&single, &self.extensions, &mut tbs);
        self.key.sign_raw(&tbs, &mut raw).unwrap();
        template.response(&single, &self.extensions, &raw, &mut response);
        response
    }

    fn verify_asking(&self, asked: &Asked<'_>) -> Result<Verified, Vec<String>> {
        verify(&self.response(), asked, &self.world.ca.certificate, at(0), DEFAULT_SKEW)
            .map_err(|flaws| flaws.iter().map(ToString::to_string).collect())
    }

    fn verify(&self) -> Result<Verified, Vec<String>> {
        self.verify_asking(&self.asked())
    }

    fn asked(&self) -> Asked<'static> {
        Asked { hash: HashAlgorithm::Sha1, serial: self.world.serial, nonce: None }
    }

    fn flaw(&self) -> String {
        match self.verify() {
            Err(flaws) if flaws.len() == 1 => flaws.concat(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_right_response_is_verified_with_all_it_says() {
    let world = World::new();
    let verified = world.turn().verify().unwrap();
    assert_eq!(
        (verified.status, verified.signer, verified.nonce),
        (CertStatus::Good, SignerRole::Delegated, NonceEcho::NotAsked)
    );
    assert_eq!((verified.this_update, verified.next_update), (at(-600), Some(at(86_400))));
    assert!(verified.signer_subject.contains("Responder"), "{}", verified.signer_subject);
    assert_eq!((verified.algorithm.as_str(), verified.warnings), ("ecdsa-with-SHA256", vec![]));
    let mut by_name = world.turn();
    by_name.spec.responder = ResponderId::Name(by_name.signer.subject_der().to_vec());
    by_name.status = CertStatus::Revoked { at: at(-9), reason: None };
    assert_eq!(by_name.verify().unwrap().status, by_name.status);
}

#[test]
fn the_ca_itself_may_sign() {
    let world = World::new();
    let mut turn = world.turn_by(world.ca.certificate.clone(), &world.ca.key);
    turn.spec.certificate = None;
    assert_eq!(turn.verify().unwrap().signer, SignerRole::Ca);
}

#[test]
fn a_signer_must_be_the_issuers_own_and_be_allowed() {
    let world = World::new();
    let issued = |spec: &CertificateSpec| spec.issue(&world.ca.key).unwrap();
    let flaw = |certificate| world.turn_by(certificate, &world.signer_key).flaw();

    let foreign = world.signer.issue(&world.other.key).unwrap();
    assert!(flaw(foreign).contains("was not certified by the issuer itself"));
    let mut other_name = world.signer.clone();
    other_name.issuer = world.other.certificate.subject_der().to_vec();
    assert!(flaw(issued(&other_name)).contains("its issuer is "));
    let no_purpose = world.signer.clone().without(&ExtensionSpec::ocsp_signing());
    assert!(flaw(issued(&no_purpose)).contains("no extended key usage OCSPSigning"));
    let cert_sign_only = world.signer.clone().with(ExtensionSpec::key_usage(KeyUsage::KEY_CERT_SIGN));
    assert!(flaw(issued(&cert_sign_only)).contains("keyUsage without digitalSignature"));
    let mut expired = world.signer.clone();
    expired.not_after = at(-301);
    let flaws = world.turn_by(issued(&expired), &world.signer_key).verify().unwrap_err();
    assert!(flaws.iter().any(|f| f.contains("is valid from")), "{flaws:?}");
    let mut absent = world.turn();
    absent.spec.certificate = None;
    assert!(absent.flaw().contains("is neither in the response nor the issuer"));
}

#[test]
fn times_are_held_against_now_with_the_skew() {
    let world = World::new();
    let flaw = |change: &dyn Fn(&mut TemplateSpec)| {
        let mut turn = world.turn();
        change(&mut turn.spec);
        turn.verify().err().unwrap_or_default().join("; ")
    };
    assert_eq!(flaw(&|s| s.next_update = at(-300)), "");
    assert!(flaw(&|s| s.next_update = at(-301)).starts_with("nextUpdate "));
    assert_eq!(flaw(&|s| (s.this_update, s.produced_at) = (at(300), at(300))), "");
    assert!(flaw(&|s| s.this_update = at(301)).starts_with("thisUpdate "));
    assert!(flaw(&|s| s.produced_at = at(301)).starts_with("producedAt "));
    assert!(flaw(&|s| s.next_update = s.this_update).contains("is not after thisUpdate"));
}

#[test]
fn doubtful_and_allowed_is_a_warning() {
    let world = World::new();
    let mut turn = world.turn();
    (turn.spec.produced_at, turn.spec.next_update) = (at(-700), at(900_001));
    let warnings = turn.verify().unwrap().warnings;
    assert!(matches!(warnings.as_slice(), [Flaw::OutlivesSigner { .. }, Flaw::ProducedEarlier { .. }]), "{warnings:?}");
}

#[test]
fn the_answer_must_be_about_what_was_asked() {
    let world = World::new();
    let turn = world.turn();
    let flaw = |asked: Asked<'_>| turn.verify_asking(&asked).unwrap_err().concat();
    assert!(flaw(Asked { serial: serial(78), ..turn.asked() }).contains("serial number 4E is not among the 1 answers"));
    assert!(
        flaw(Asked { hash: HashAlgorithm::Sha256, ..turn.asked() }).contains("has a sha1 CertID, asked was sha256")
    );
    let mut foreign = world.turn();
    foreign.spec.issuer = world.other.certificate.issuer_hashes(HashAlgorithm::Sha1);
    assert!(foreign.flaw().contains("another issuer's certificate"));
}

#[test]
fn a_nonce_comes_back_or_is_absent_but_never_another() {
    let world = World::new();
    let asked = |turn: &Turn<'_>| Asked { nonce: Some(b"0123456789abcdef"), ..turn.asked() };
    let mut turn = world.turn();
    assert_eq!(turn.verify_asking(&asked(&turn)).unwrap().nonce, NonceEcho::Absent);
    turn.extensions = nonce_extension(b"\x04\x100123456789abcdef");
    assert_eq!(turn.verify_asking(&asked(&turn)).unwrap().nonce, NonceEcho::Echoed);
    turn.extensions = nonce_extension(b"\x04\x10fedcba9876543210");
    assert_eq!(turn.verify_asking(&asked(&turn)), Err(vec![Flaw::WrongNonce.to_string()]));
}

#[test]
fn errors_and_garbage_are_told() {
    let world = World::new();
    let turn = world.turn();
    let flaws = |der: &[u8]| verify(der, &turn.asked(), &world.ca.certificate, at(0), DEFAULT_SKEW).unwrap_err();
    for status in ErrorStatus::ALL {
        assert_eq!(flaws(status.response()), [Flaw::ErrorStatus(status)]);
    }
    assert_eq!(flaws(&[0x30, 3, 10, 1, 4]), [Flaw::UnknownStatus(4)]);
    assert_eq!(flaws(b""), [Flaw::Malformed(Malformed { field: "OCSPResponse", offset: 0 })]);
    let mut trailing = turn.response();
    trailing.push(0);
    let end = trailing.len() - 1;
    assert_eq!(flaws(&trailing), [Flaw::Malformed(Malformed { field: "the end of OCSPResponse", offset: end })]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_single_changed_octet_is_accepted_with_another_meaning(with in 1_u8..=255) {
        let world = World::new();
        let turn = world.turn();
        let good = turn.verify().unwrap();
        let der = turn.response();
        for i in 0..der.len() {
            let mut changed = der.clone();
            changed[i] ^= with;
            // What is not signed (the certificate's outer form, the algorithm's parameters) may still fail or not matter.
            if let Ok(verified) = verify(&changed, &turn.asked(), &world.ca.certificate, at(0), DEFAULT_SKEW) {
                prop_assert_eq!((verified.status, verified.this_update, verified.next_update), (good.status, good.this_update, good.next_update));
            }
        }
    }

    #[test]
    fn cut_responses_never_panic(at_part in 0.0..1.0_f64) {
        let turn_world = World::new();
        let der = turn_world.turn().response();
        let cut = (der.len() as f64 * at_part) as usize;
        prop_assert!(Response::parse(&der[..cut]).is_err());
    }
}
