use super::*;
use crate::asn1::{put_tlv, tlv};
use crate::x509::oid::REASON_CODE;
use proptest::prelude::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/status/", $name)).as_slice()
    };
}

const FULL: &[u8] = fixture!("full.crl");

fn certificate(pem: &[u8]) -> Certificate {
    Certificate::from_pem_or_der(pem).unwrap()
}

fn ca() -> Certificate {
    certificate(fixture!("ca.pem"))
}

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[n]).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

/// A CRL whose signature is nonsense, from the content of revokedCertificates and of crlExtensions.
fn unsigned_crl(revoked: &[u8], extensions: &[u8]) -> Vec<u8> {
    let algorithm = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
    let mut tbs = tlv(tag::INTEGER, &[1]);
    tbs.extend_from_slice(&algorithm);
    put_tlv(&mut tbs, tag::SEQUENCE, &[]);
    put_tlv(&mut tbs, tag::UTC_TIME, b"260101000000Z");
    put_tlv(&mut tbs, tag::SEQUENCE, revoked);
    if !extensions.is_empty() {
        put_tlv(&mut tbs, tag::context(0), &tlv(tag::SEQUENCE, extensions));
    }
    let mut content = tlv(tag::SEQUENCE, &tbs);
    content.extend_from_slice(&algorithm);
    put_tlv(&mut content, tag::BIT_STRING, &[0; 65]);
    tlv(tag::SEQUENCE, &content)
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut content = tlv(tag::OID, oid);
    if critical {
        put_tlv(&mut content, tag::BOOLEAN, &[0xff]);
    }
    put_tlv(&mut content, tag::OCTET_STRING, value);
    tlv(tag::SEQUENCE, &content)
}

fn entry(serial: &[u8], date: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut content = tlv(tag::INTEGER, serial);
    put_tlv(&mut content, if date.len() == 13 { tag::UTC_TIME } else { tag::GENERALIZED_TIME }, date);
    if !extensions.is_empty() {
        put_tlv(&mut content, tag::SEQUENCE, &extensions.concat());
    }
    tlv(tag::SEQUENCE, &content)
}

const DATE: &[u8] = b"260101000000Z";

/// What the walk says of `bad` between two good entries, which must come out unharmed.
fn between_good_ones(bad: &[u8]) -> EntryError {
    let all = [entry(&[1], DATE, &[]), bad.to_vec(), entry(&[3], DATE, &[])].concat();
    let der = unsigned_crl(&all, &[]);
    let mut entries = Crl::parse(&der).unwrap().entries();
    assert_eq!(entries.next().unwrap().unwrap().serial, serial(1));
    let error = entries.next().unwrap().unwrap_err();
    assert_eq!(error.number, 2);
    assert_eq!(entries.next().unwrap().unwrap().serial, serial(3));
    assert!(entries.next().is_none());
    error
}

#[test]
fn a_list_by_openssl_is_read_with_all_its_reasons() {
    let crl = Crl::parse(FULL).unwrap();
    assert_eq!(crl.verify(&ca()), Ok(()));
    let entries: Vec<RevokedEntry> = crl.entries().map(Result::unwrap).collect();
    let reasons: Vec<_> = entries.iter().map(|e| e.reason).collect();
    assert_eq!(
        reasons,
        [
            None,
            None,
            Some(Reason::KeyCompromise),
            Some(Reason::CaCompromise),
            Some(Reason::AffiliationChanged),
            Some(Reason::Superseded),
            Some(Reason::CessationOfOperation),
            Some(Reason::CertificateHold),
            Some(Reason::CertificateHold),
            Some(Reason::KeyCompromise),
            Some(Reason::CaCompromise),
        ]
    );
    for (n, e) in (16..).zip(&entries) {
        assert_eq!(e.serial, serial(n));
        assert!((0..3600).contains(&crl.this_update.seconds_since(e.at)));
    }
    assert!(crl.number.is_some());
    assert_eq!(crl.authority_key_id, ca().subject_key_id());
    assert_eq!(crl.next_update.unwrap().seconds_since(crl.this_update), 30 * 86_400);
    assert!(crl.entries_hint() >= 8);
}

#[test]
fn signatures_of_every_supported_algorithm_are_verified() {
    let rsa = fixture!("rsa.pem");
    for (crl, issuer) in [
        (fixture!("rsa.crl"), rsa),
        (fixture!("pss.crl"), rsa),
        (fixture!("p384.crl"), fixture!("p384.pem")),
        (fixture!("ed25519.crl"), fixture!("ed25519.pem")),
    ] {
        let crl = Crl::parse(crl).unwrap();
        assert_eq!(crl.verify(&certificate(issuer)), Ok(()));
        assert!(matches!(crl.verify(&ca()), Err(CrlVerifyError::Signature(_))), "same name, another key");
    }
}

#[test]
fn a_list_of_another_issuer_is_refused_with_both_names() {
    let der = unsigned_crl(&[], &[]);
    let error = Crl::parse(&der).unwrap().verify(&ca()).unwrap_err();
    assert!(matches!(error, CrlVerifyError::WrongIssuer { .. }));
    assert!(error.to_string().contains("Example Issuing CA"), "{error}");
}

#[test]
fn lists_that_do_not_speak_for_all_are_refused() {
    let refused = |der| Crl::parse(der).map(|_| ()).unwrap_err();
    assert_eq!(refused(fixture!("indirect.crl")), CrlError::Indirect);
    assert_eq!(refused(fixture!("delta.crl")), CrlError::Delta);
    assert_eq!(refused(fixture!("reasons.crl")), CrlError::OnlySomeReasons);
    assert_eq!(refused(fixture!("attributes.crl")), CrlError::OnlyAttributeCerts);
    assert_eq!(refused(fixture!("unknown.crl")), CrlError::UnknownCriticalExtension("1.2.3.4".into()));
}

#[test]
fn the_scope_of_a_shard_is_told() {
    let crl = Crl::parse(fixture!("shard.crl")).unwrap();
    assert_eq!(crl.scope, CrlScope { distribution_point: true, user_certs_only: true, ca_certs_only: false });
    assert_eq!(Crl::parse(FULL).unwrap().scope, CrlScope::default());
}

#[test]
fn old_and_empty_lists_are_read() {
    let first_version = Crl::parse(fixture!("version1.crl")).unwrap();
    assert_eq!(first_version.entries().map(|e| e.unwrap().serial).collect::<Vec<_>>(), [serial(16)]);
    assert_eq!(first_version.number, None);
    assert_eq!(first_version.verify(&ca()), Ok(()));
    let empty = Crl::parse(fixture!("empty.crl")).unwrap();
    assert_eq!((empty.entries().count(), empty.entries_hint()), (0, 0));
}

#[test]
fn an_extension_may_not_come_twice_nor_too_many() {
    let number = extension(oid::CRL_NUMBER, false, &[2, 1, 1]);
    let twice = unsigned_crl(&[], &[number.clone(), number].concat());
    assert!(matches!(Crl::parse(&twice), Err(CrlError::DuplicateExtension(_))));
    let many: Vec<u8> = (0..=32).flat_map(|n| extension(&[0x2a, n], false, &[])).collect();
    assert_eq!(Crl::parse(&unsigned_crl(&[], &many)).map(|_| ()), Err(CrlError::TooManyExtensions));
}

#[test]
fn a_bad_entry_harms_no_other() {
    let reason = |code| vec![extension(REASON_CODE, false, &[0x0a, 1, code])];
    let case = |bad: &[u8]| {
        let e = between_good_ones(bad);
        (e.fault, e.serial, e.revoked_at.is_some())
    };
    assert_eq!(case(&[0x02, 0]), (EntryFault::Structure, None, false));
    assert_eq!(case(&[0x30, 0]), (EntryFault::Structure, None, false));
    assert_eq!(case(&entry(&[2], b"261301000000Z", &[])), (EntryFault::Date, Some(serial(2)), false));
    assert_eq!(case(&entry(&[2], DATE, &reason(7))), (EntryFault::Reason, Some(serial(2)), true));
    assert_eq!(case(&entry(&[2], DATE, &reason(8))), (EntryFault::RemoveFromCrl, Some(serial(2)), false));
    let unreadable = [vec![0x30, 2, 5, 0]];
    assert_eq!(case(&entry(&[2], DATE, &unreadable)), (EntryFault::Extensions, Some(serial(2)), false));
}

#[test]
fn a_serial_that_der_forbids_is_still_told_by_value() {
    let padded = between_good_ones(&entry(&[0, 0, 2], DATE, &[]));
    assert_eq!((padded.fault.clone(), padded.serial), (EntryFault::Serial(SerialError::NotMinimal), Some(serial(2))));
    let long = between_good_ones(&entry(&[1; 21], DATE, &[]));
    assert_eq!((long.fault.clone(), long.serial), (EntryFault::Serial(SerialError::TooLong), None));
    assert!(!long.may_name_a_certificate() && padded.may_name_a_certificate());
}

#[test]
fn some_faults_condemn_the_list() {
    let foreign = between_good_ones(&entry(&[2], DATE, &[extension(CERTIFICATE_ISSUER, true, &[0x30, 0])]));
    assert_eq!(foreign.fault, EntryFault::CertificateIssuer);
    let critical = between_good_ones(&entry(&[2], DATE, &[extension(&[0x2a, 3], true, &[])]));
    assert_eq!(critical.fault, EntryFault::CriticalExtension("1.2.3".into()));
    assert!(foreign.fault.condemns_the_list() && critical.fault.condemns_the_list());

    let der = unsigned_crl(&[entry(&[1], DATE, &[]), vec![0x30, 0x7f, 0]].concat(), &[]);
    let last = Crl::parse(&der).unwrap().entries().last().unwrap().unwrap_err();
    assert_eq!((last.number, &last.fault), (2, &EntryFault::Broken));
    assert!(last.fault.condemns_the_list());
}

#[test]
fn a_list_expires_the_second_after_its_next_update() {
    assert_eq!(freshness(at(10), Some(at(20)), at(9)), Freshness::NotYetValid);
    assert_eq!(freshness(at(10), Some(at(20)), at(10)), Freshness::Current);
    assert_eq!(freshness(at(10), Some(at(20)), at(20)), Freshness::Current);
    assert_eq!(freshness(at(10), Some(at(20)), at(21)), Freshness::Expired);
    assert_eq!(freshness(at(10), None, Timestamp::MAX), Freshness::Current);
}

proptest! {
    #[test]
    fn a_damaged_list_is_survived_and_never_verifies(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut der = FULL.to_vec();
        for (place, octet) in changes {
            let place = place.index(der.len());
            der[place] = octet;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        if let Ok(crl) = Crl::parse(&der) {
            prop_assert!(crl.entries().count() <= der.len() / 2 + 1);
            if der != FULL {
                prop_assert!(crl.verify(&ca()).is_err());
            }
        }
    }

    #[test]
    fn what_is_revoked_is_read_back(
        list in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..=20), 0_i64..4_000_000_000), 0..20)
    ) {
        let expected: Vec<(Serial, Timestamp)> =
            list.iter().map(|(s, t)| (Serial::from_unsigned(s).unwrap(), at(*t))).collect();
        let mut revoked = Vec::new();
        for (serial, at) in &expected {
            let mut octets = Vec::new();
            serial.write_der_content(&mut octets);
            revoked.extend(entry(&octets, &crate::time::format_generalized(*at), &[]));
        }
        let der = unsigned_crl(&revoked, &[]);
        let crl = Crl::parse(&der).unwrap();
        let found: Vec<_> = crl.entries().map(|e| e.map(|e| (e.serial, e.at)).unwrap()).collect();
        prop_assert!(crl.entries_hint() <= der.len());
        prop_assert_eq!(found, expected);
    }
}
