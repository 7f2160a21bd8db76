//! Rules of the profiles and guards against damaged sources, seen from outside.

mod common;

use common::site::{LIMIT, Said, basic, site, write_crl, write_index, write_limited_crl, write_signer_for};
use common::{DAY, Lab, eventually, long_serial};
use der07::Encode;
use std::sync::Arc;
use stillgood::ocsp::{HashAlgorithm, Profile};
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::KeyKind;
use stillgood::time::{Clock, ManualClock, SystemClock};
use stillgood::x509::pem::encode as pem;
use x509_ocsp::CertStatus;

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;

#[test]
fn an_index_cut_short_is_not_taken_over() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 499) == Said::Good);
    write_index(site.dir.path(), 100, &[3]);
    eventually(LIMIT, "told", || {
        site.responder.reports()[0]
            .status_fault
            .as_ref()
            .is_some_and(|f| f.contains("index.txt: 400 of 500") && f.contains("cut short"))
    });
    assert_eq!(site.said(SHA1, 499), Said::Good);
    std::fs::write(site.dir.path().join("index.txt"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(site.said(SHA1, 499), Said::Good, "an empty file empties nothing");
    write_index(site.dir.path(), 480, &[3]);
    let whole = std::fs::read(site.dir.path().join("index.txt")).unwrap();
    std::fs::write(site.dir.path().join("index.txt"), whole.get(..whole.len() - 2).unwrap()).unwrap();
    eventually(LIMIT, "told of the last line", || {
        site.responder.reports()[0].status_fault.as_ref().is_some_and(|f| f.contains("the last line has no end"))
    });
    assert_eq!(site.said(SHA1, 499), Said::Good, "a few that are missing behind half a line");
    write_index(site.dir.path(), 480, &[3]);
    eventually(LIMIT, "taken over", || site.said(SHA1, 499) == Said::Error(6));
    assert_eq!(site.said(SHA1, 479), Said::Good);
}

#[test]
fn one_bad_line_is_named_and_its_neighbours_are_served() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let path = site.dir.path().join("index.txt");
    let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    lines[7] = "V\tnot a date, not a serial".into();
    std::fs::write(site.dir.path().join("index.new"), lines.join("\n") + "\n").unwrap();
    std::fs::rename(site.dir.path().join("index.new"), &path).unwrap();
    eventually(LIMIT, "named", || {
        let reports = site.responder.reports();
        let source = &reports[0].sources[0];
        source.quarantined == 1 && source.first_quarantined.as_ref().is_some_and(|q| q.contains("line 8"))
    });
    assert_eq!(site.said(SHA1, 6), Said::Good);
    assert_eq!(site.said(SHA1, 8), Said::Good);
}

#[test]
fn under_cabf_a_hold_is_served_as_a_revocation_without_a_reason() {
    let settings = IssuerSettings { profile: Profile::Cabf, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let path = site.dir.path().join("index.txt");
    let text = std::fs::read_to_string(&path).unwrap().replacen("keyCompromise", "certificateHold", 1);
    std::fs::write(site.dir.path().join("index.new"), text).unwrap();
    std::fs::rename(site.dir.path().join("index.new"), &path).unwrap();
    eventually(LIMIT, "no reason (BR §7.2.2, §4.9.13)", || {
        let response = basic(&site.ask(SHA1, &[long_serial(3)], None).1);
        match &response.tbs_response_data.responses[0].cert_status {
            CertStatus::Revoked(info) => info.revocation_reason.is_none(),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn under_cabf_only_nonces_of_16_to_32_octets_are_echoed() {
    let settings = IssuerSettings { profile: Profile::Cabf, answers_nonces: true, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    for (length, echoed) in [(1, false), (15, false), (16, true), (20, true), (32, true), (33, false), (128, false)] {
        let response = basic(&site.ask(SHA1, &[long_serial(5)], Some(&vec![7; length])).1);
        let extensions = response.tbs_response_data.response_extensions.unwrap_or_default();
        assert_eq!(extensions.len(), usize::from(echoed), "{length} octets");
        if let Some(extension) = extensions.first() {
            let inner = der07::asn1::OctetString::new(vec![7; length]).unwrap().to_der().unwrap();
            assert_eq!(extension.extn_value.as_bytes(), inner, "echoed as it came");
        }
    }
}

#[test]
fn a_response_under_each_profile_holds_what_rfc_9919_wants() {
    for profile in [Profile::Rfc6960, Profile::Rfc9919, Profile::Cabf] {
        let site = site(&["index"], IssuerSettings { profile, ..IssuerSettings::default() }, DemandSettings::default());
        eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
        let response = basic(&site.ask(SHA1, &[long_serial(5)], None).1);
        let data = &response.tbs_response_data;
        assert!(matches!(data.responder_id, x509_ocsp::ResponderId::ByKey(_)), "RFC 9919 §3.2.2");
        assert_eq!(response.certs.as_ref().map(Vec::len), Some(1), "exactly the signer's certificate");
        assert_eq!(data.responses.len(), 1);
        assert!(data.response_extensions.is_none(), "RFC 9919 §3.2.1");
        let single = &data.responses[0];
        let seconds = |t: &x509_ocsp::OcspGeneralizedTime| t.0.to_unix_duration().as_secs();
        let next = single.next_update.as_ref().expect("RFC 9919 §3.2.4");
        assert_eq!(seconds(next) - seconds(&single.this_update), 96 * 3600 - 1, "BR §4.9.9 counts both ends");
        assert!(seconds(&single.this_update) <= seconds(&data.produced_at), "RFC 6960 §2.4");
    }
}

#[test]
fn the_archive_cutoff_is_the_issuers_not_before_and_stands_in_the_single_response() {
    let settings = IssuerSettings { archive_cutoff: true, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    for algorithm in [SHA1, HashAlgorithm::Sha256] {
        let response = basic(&site.ask(algorithm, &[long_serial(5)], None).1);
        assert!(response.tbs_response_data.response_extensions.is_none());
        let extensions = response.tbs_response_data.responses[0].single_extensions.clone().expect("RFC 6960 §4.4.4");
        assert_eq!(extensions[0].extn_id.to_string(), "1.3.6.1.5.5.7.48.1.6");
        let time = stillgood::time::format_generalized(site.lab.ca.not_before());
        assert_eq!(extensions[0].extn_value.as_bytes()[2..], time);
    }
}

#[test]
fn sources_that_a_record_names_anew_are_taken_over_however_few_they_list() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let path = |name: &str| site.dir.path().join(name);
    let spec = stillgood::responder::IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
    let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key")).with_crl(path("ca.crl"));
    site.responder.set_issuers(vec![spec]);
    eventually(LIMIT, "the CRL's word", || site.said(SHA1, 9) == Said::Revoked && site.said(SHA1, 3) == Said::Good);
    assert_eq!(site.responder.reports()[0].status_fault, None);
}

#[test]
fn a_crl_of_limited_scope_vouches_for_nobody_until_the_operator_says_that_it_is_all_there_is() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 77) == Said::Good);
    // onlyContainsCACerts: of end entities it knows nothing, and its silence about one must not be read as good.
    write_limited_crl(site.dir.path(), &site.lab, &[9, 10], DAY, &[0x82, 1, 0xff]);
    eventually(LIMIT, "no longer good", || site.said(SHA1, 77) == Said::Error(3));
    eventually(LIMIT, "its own revocations stand", || site.said(SHA1, 10) == Said::Revoked);
    assert_eq!(site.said(HashAlgorithm::Sha256, 78), Said::Error(3));
    eventually(LIMIT, "told", || {
        site.responder.reports()[0].status_fault.as_ref().is_some_and(|fault| {
            fault.contains("ca.crl: onlyContainsCACerts") && fault.contains(r#"write "crl_scope": "complete""#)
        })
    });

    let path = |name: &str| site.dir.path().join(name);
    let spec = stillgood::responder::IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
    let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key")).with_crl(path("ca.crl"));
    site.responder.set_issuers(vec![spec.clone().with_complete_crls()]);
    eventually(LIMIT, "good by the operator's word", || site.said(SHA1, 77) == Said::Good);
    assert_eq!(site.responder.reports()[0].status_fault, None);
    site.responder.set_issuers(vec![spec]);
    eventually(LIMIT, "and not without it", || site.said(SHA1, 77) == Said::Error(3));
    write_crl(site.dir.path(), &site.lab, &[9, 10], DAY);
    eventually(LIMIT, "good by a list without limits", || site.said(SHA1, 77) == Said::Good);
}

#[test]
fn while_a_line_may_be_about_anyone_nothing_is_said_of_what_is_not_listed() {
    use stillgood::ocsp::Unissued::{Good, Revoked, Unauthorized, Unknown};
    for (unissued, said) in
        [(Unauthorized, Said::Error(6)), (Unknown, Said::Unknown), (Good, Said::Good), (Revoked, Said::Revoked)]
    {
        let settings = IssuerSettings { profile: Profile::Rfc6960, unissued, ..IssuerSettings::default() };
        let site = site(&["index"], settings, DemandSettings::default());
        eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
        assert_eq!(site.said(SHA1, 700), said);
        let path = site.dir.path().join("index.txt");
        let whole = std::fs::read_to_string(&path).unwrap();
        let write = |text: String| {
            std::fs::write(site.dir.path().join("index.new"), text).unwrap();
            std::fs::rename(site.dir.path().join("index.new"), &path).unwrap();
        };
        // The revocation of number 600, which was issued meanwhile; its serial number is lost.
        write(format!("{whole}R\t361231235959Z\t251101000000Z\t0x{}\tunknown\t/CN=leaf\n", long_serial(600)));
        eventually(LIMIT, "told", || {
            site.responder.reports()[0]
                .status_fault
                .as_ref()
                .is_some_and(|f| f.contains("index.txt: line 501: serial number"))
        });
        for algorithm in [SHA1, HashAlgorithm::Sha256] {
            assert_eq!(site.said(algorithm, 600), Said::Error(3), "{unissued:?}");
            assert_eq!((site.said(algorithm, 5), site.said(algorithm, 3)), (Said::Good, Said::Revoked));
        }
        // It still is the whole index, and guarded as such.
        write_index(site.dir.path(), 100, &[3]);
        eventually(LIMIT, "refused", || {
            site.responder.reports()[0].status_fault.as_ref().is_some_and(|f| f.contains("cut short"))
        });
        write(whole);
        eventually(LIMIT, "set right", || site.said(SHA1, 600) == said);
        eventually(LIMIT, "the fault is gone", || site.responder.reports()[0].status_fault.is_none());
    }
}

#[test]
fn an_issuer_whose_signer_is_in_its_last_hours_is_told_before_anything_had_to_be_signed() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new("Spent");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer_for(dir.path(), &lab, KeyKind::EcdsaP256, 10 * DAY);
    write_crl(dir.path(), &lab, &[9], 20 * DAY);
    write_index(dir.path(), 20, &[3]);
    let start = SystemClock.now();
    for source in ["crl", "index"] {
        let clock = Arc::new(ManualClock::at(start));
        let responder = Responder::start(ResponderSettings { clock: clock.clone(), ..ResponderSettings::default() });
        let settings = IssuerSettings { profile: Profile::Cabf, ..IssuerSettings::default() };
        let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
        let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key")).with_settings(settings);
        let spec = if source == "crl" { spec.with_crl(path("ca.crl")) } else { spec.with_index(path("index.txt")) };
        responder.set_issuers(vec![spec]);
        let report = || {
            responder.poll();
            responder.reports()[0].clone()
        };
        eventually(LIMIT, "ready", || report().cannot_answer(clock.now()).is_none());
        assert_eq!(report().cannot_sign(), None);
        clock.set(start.plus(10 * DAY).minus(DAY / 4)); // under cabf none is signed in the last eight hours
        let told = report().cannot_sign().expect("nothing can be signed");
        assert!(told.contains("expires at"), "{told}");
        let not_ready = report().cannot_answer(clock.now());
        // What an index lists was signed ahead, and is served until it runs out.
        let runs_out = report().runs_out.is_some_and(|at| at <= clock.now());
        assert_eq!(not_ready.is_some(), source == "crl" || runs_out, "{source}: {not_ready:?}");
    }
}
