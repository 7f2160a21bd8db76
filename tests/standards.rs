//! Rows of the standards that only the whole responder can show.

mod common;

use common::site::{LIMIT, Said, basic, post, read, site, write_crl};
use common::{DAY, Lab, eventually, long_serial, request, serial, table};
use std::time::Duration;
use stillgood::ocsp::{HashAlgorithm, Profile, Unissued};
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::IssuerSpec;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{CertificateSpec, CrlEntry, CrlSpec};
use stillgood::x509::pem::encode as pem;
use x509_ocsp::CertStatus;

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
/// RFC 6960 §4.2.1.
const TRY_LATER: Said = Said::Error(3);
const UNAUTHORIZED: Said = Said::Error(6);

/// The element at the front and its content, for lengths below 65536.
fn content(der: &[u8]) -> &[u8] {
    match der[1] {
        n @ 0..=0x7f => &der[2..2 + usize::from(n)],
        0x81 => &der[3..3 + usize::from(der[2])],
        _ => &der[4..4 + usize::from(u16::from_be_bytes([der[2], der[3]]))],
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        0..=0x7f => vec![0x30, low],
        0x80..=0xff => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// RFC 6960 §4.2.2.2: a delegated signer answers for the CA named in the request, so not for two (REQ-15).
#[test]
fn a_request_that_mixes_issuers_is_unauthorized_as_a_whole() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let own = request(&site.lab.hashes(SHA1), &[long_serial(5)], None);
    let foreign = request(&Lab::new("Foreign").hashes(SHA1), &[long_serial(5)], None);
    let list = |der: &[u8]| content(content(content(der))).to_vec();
    for (first, second) in [(&own, &foreign), (&foreign, &own)] {
        let both = sequence(&sequence(&sequence(&[list(first), list(second)].concat())));
        assert_eq!(read(&post(site.to(), &both).1), [UNAUTHORIZED]);
    }
    let twice = sequence(&sequence(&sequence(&[list(&own), list(&own)].concat())));
    assert_eq!(read(&post(site.to(), &twice).1), [Said::Good, Said::Good]);
}

/// RFC 9919 §3.2.3: nothing here can answer under a hash that is not known (REQ-08).
#[test]
fn an_unknown_hash_is_unauthorized() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let mut der = request(&site.lab.hashes(SHA1), &[long_serial(5)], None);
    let sha1 = [0x2b, 0x0e, 0x03, 0x02, 0x1a];
    let at = der.windows(5).position(|w| w == sha1).unwrap();
    der[at + 4] = 0x1b;
    assert_eq!(read(&post(site.to(), &der).1), [UNAUTHORIZED]);
}

/// RFC 6960 §4.1.2: a CA with a new key keeps its name, and its certificates are told apart by the key hash (REQ-09).
#[test]
fn two_cas_of_one_name_are_told_apart_by_their_keys() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let again = Lab::new("Site");
    assert_eq!(again.ca.subject_der(), site.lab.ca.subject_der());
    let path = |name: &str| site.dir.path().join(name);
    std::fs::create_dir(path("again")).unwrap();
    common::site::write_signer(&path("again"), &again, KeyKind::EcdsaP256);
    common::site::write_index(&path("again"), 500, &[5]);
    let old = IssuerSpec::new("old", site.lab.ca.clone())
        .with_signer(path("ocsp.pem"), path("ocsp.key"))
        .with_index(path("index.txt"));
    let new = IssuerSpec::new("new", again.ca.clone())
        .with_signer(path("again/ocsp.pem"), path("again/ocsp.key"))
        .with_index(path("again/index.txt"));
    site.responder.set_issuers(vec![old, new]);
    let ask = |lab: &Lab| read(&post(site.to(), &request(&lab.hashes(SHA1), &[long_serial(5)], None)).1);
    eventually(LIMIT, "both", || ask(&again) == [Said::Revoked] && ask(&site.lab) == [Said::Good]);
}

/// RFC 6960 §2.2, §4.4.8: certificateHold, 1970, extended-revoke in responseExtensions and nowhere else (RSP-13, EXT-08).
#[test]
fn a_revoked_that_was_never_issued_cannot_be_taken_for_a_real_one() {
    let settings =
        IssuerSettings { profile: Profile::Rfc6960, unissued: Unissued::Revoked, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 3) == Said::Revoked);
    let response = basic(&site.ask(SHA1, &[long_serial(4711)], None).1);
    let data = &response.tbs_response_data;
    let CertStatus::Revoked(info) = &data.responses[0].cert_status else { panic!("not revoked") };
    assert_eq!(info.revocation_time.0.to_unix_duration(), Duration::ZERO);
    assert_eq!(info.revocation_reason.map(|r| r as u8), Some(6));
    assert!(data.responses[0].single_extensions.is_none());
    let extensions = data.response_extensions.as_ref().unwrap();
    assert_eq!(extensions.len(), 1);
    assert_eq!(extensions[0].extn_id.to_string(), "1.3.6.1.5.5.7.48.1.9");
    assert!(!extensions[0].critical);
    assert_eq!(extensions[0].extn_value.as_bytes(), [5, 0]);
    let real = basic(&site.ask(SHA1, &[long_serial(3)], None).1);
    assert!(real.tbs_response_data.response_extensions.is_none());
}

/// BR §4.10.1 again: somebody must hear of it.
#[test]
fn revocations_that_are_taken_back_are_counted() {
    let (before, after) = (table(1000, 10, None), table(1000, 20, None));
    assert_eq!(before.unrevoked_in(&after), 50);
    assert_eq!(after.unrevoked_in(&before), 0);
    assert_eq!(before.unrevoked_in(&table(0, 0, None)), 100, "not listed is not revoked");
}

/// BR §4.10.1: what was revoked does not become good because an old list is put back (CAB-11).
#[test]
fn an_old_crl_put_back_is_refused() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 9) == Said::Revoked);
    let now = SystemClock.now();
    let crl = CrlSpec {
        issuer: site.lab.ca.subject_der().to_vec(),
        this_update: now.minus(DAY),
        next_update: Some(now.plus(DAY)),
        entries: vec![CrlEntry { serial: long_serial(4), revoked_at: now.minus(2 * DAY), reason: None }],
        extensions: vec![CrlSpec::number(1)],
    };
    std::fs::write(site.dir.path().join("crl.new"), crl.sign(&site.lab.ca_key).unwrap()).unwrap();
    std::fs::rename(site.dir.path().join("crl.new"), site.dir.path().join("ca.crl")).unwrap();
    eventually(LIMIT, "told", || {
        site.responder.reports()[0].status_fault.as_ref().is_some_and(|f| f.contains("put back"))
    });
    assert_eq!(site.said(SHA1, 9), Said::Revoked);
    write_crl(site.dir.path(), &site.lab, &[4, 9], DAY);
    eventually(LIMIT, "a newer one is taken over", || site.said(SHA1, 4) == Said::Revoked);
    eventually(LIMIT, "nothing is wrong any more", || site.responder.reports()[0].status_fault.is_none());
}

/// A signer that the Baseline Requirements forbid signs nothing under `cabf`, even if it signed under another profile before.
#[test]
fn a_signer_that_passed_under_another_profile_is_not_used_where_it_is_forbidden() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    // Ed25519 is outside BR §6.1.5.
    let (key, pkcs8) = SigningKey::generate(KeyKind::Ed25519).unwrap();
    let (from, until) = (SystemClock.now().minus(DAY), SystemClock.now().plus(30 * DAY));
    let subject = site.lab.signer.subject_der().to_vec();
    let spec = CertificateSpec::ocsp_signer(&site.lab.ca, subject, key.spki_der(), serial(78), from, until);
    let certificate = pem("CERTIFICATE", spec.issue(&site.lab.ca_key).unwrap().der());
    let path = |name: &str| site.dir.path().join(name);
    std::fs::write(path("ocsp.key"), pkcs8.as_slice()).unwrap();
    std::fs::write(path("ocsp.pem"), certificate).unwrap();
    eventually(LIMIT, "taken into use", || {
        site.responder.reports()[0].signer.as_ref().is_some_and(|s| s.algorithm == "ed25519")
    });
    assert_eq!(site.said(HashAlgorithm::Sha256, 5), Said::Good);
    let cabf = IssuerSettings { profile: Profile::Cabf, ..IssuerSettings::default() };
    let spec = IssuerSpec::new("ca", site.lab.ca.clone())
        .with_signer(path("ocsp.pem"), path("ocsp.key"))
        .with_index(path("index.txt"))
        .with_settings(cabf);
    site.responder.set_issuers(vec![spec]);
    let report = &site.responder.reports()[0];
    assert!(report.signer.is_none() && report.signer_fault.as_ref().is_some_and(|f| f.contains("Ed25519")));
    assert_eq!(site.said(HashAlgorithm::Sha256, 6), TRY_LATER, "nothing is signed");
    assert_eq!(site.said(SHA1, 5), Said::Good, "what was signed before is served until it runs out");
    std::thread::sleep(Duration::from_millis(600));
    assert!(site.responder.reports()[0].signer.is_none());
}
