//! The responder as a whole, from files to HTTP.

mod common;

use common::site::{LIMIT, Said, basic, index_line, post, read, site, write_crl, write_index, write_signer};
use common::{DAY, Lab, eventually, long_serial, request, serial};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::endpoint::{Handle, Server, Settings};
use stillgood::ocsp::{HashAlgorithm, Profile, Unissued};
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::store::{Segment, SegmentMeta};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::pem::encode as pem;

#[test]
fn an_index_is_served_and_followed() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    assert_eq!(site.said(HashAlgorithm::Sha1, 3), Said::Revoked);
    assert_eq!(site.said(HashAlgorithm::Sha1, 500), Said::Error(6), "not issued: unauthorized");

    write_index(site.dir.path(), 501, &[3, 5]);
    let start = Instant::now();
    eventually(LIMIT, "revoked", || site.said(HashAlgorithm::Sha1, 5) == Said::Revoked);
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    eventually(LIMIT, "issued", || site.said(HashAlgorithm::Sha1, 500) == Said::Good);

    // A file that is no index at all: the previous statuses are used on and the fault is told.
    std::fs::remove_file(site.dir.path().join("index.txt")).unwrap();
    eventually(LIMIT, "told", || {
        site.responder.reports()[0].status_fault.as_ref().is_some_and(|f| f.contains("index.txt"))
    });
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Revoked);
    write_index(site.dir.path(), 501, &[3]);
    eventually(LIMIT, "taken over again", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    eventually(LIMIT, "the fault is gone", || site.responder.reports()[0].status_fault.is_none());
}

#[test]
fn a_certificate_whose_line_cannot_be_read_is_told_to_try_later_and_not_that_it_is_unauthorized() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let lines =
        |n| if n == 5 { index_line(n, true).replace("251101000000Z", "yesterday") } else { index_line(n, false) };
    std::fs::write(site.dir.path().join("index.new"), (0..500).map(lines).collect::<String>()).unwrap();
    std::fs::rename(site.dir.path().join("index.new"), site.dir.path().join("index.txt")).unwrap();
    eventually(LIMIT, "withheld", || {
        let said = site.said(HashAlgorithm::Sha1, 5);
        assert!(matches!(said, Said::Good | Said::Error(3)), "{said:?}");
        said == Said::Error(3)
    });
    assert_eq!(site.said(HashAlgorithm::Sha256, 5), Said::Error(3), "signed on demand, under the same rule");
    assert_eq!(site.said(HashAlgorithm::Sha1, 500), Said::Error(6), "not issued: unauthorized");
}

#[test]
fn an_answer_that_is_served_is_read_back_and_one_that_does_not_verify_is_no_answer() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let report = || site.responder.reports()[0].clone();
    eventually(LIMIT, "read back", || report().is_complete);
    site.responder.poll();
    assert_eq!((report().answer_fault, report().cannot_answer(SystemClock.now())), (None, None));

    // The same slice with other signatures, and once more with its own.
    let slot = site.responder.store().routes().issuers()[0].clone();
    let slice = slot.live().wave(HashAlgorithm::Sha1).unwrap().slices()[0].clone().unwrap();
    let own: Vec<u8> = slice.entries().flat_map(|(_, _, signature)| signature.to_vec()).collect();
    let put = |later: u64, signatures: Vec<u8>| {
        let meta = SegmentMeta { sequence: slice.meta().sequence + later, ..*slice.meta() };
        let segment = Segment::new(meta, slice.template().clone(), slice.keys().clone(), signatures.into()).unwrap();
        let segment = Arc::new(segment);
        slot.update(|live| {
            let wave = live.wave(HashAlgorithm::Sha1).unwrap().with(segment.clone());
            live.with_wave(HashAlgorithm::Sha1, Some(Arc::new(wave)))
        });
        site.responder.poll();
    };
    put(1_000, vec![7; own.len()]);
    let fault = report().cannot_answer(SystemClock.now()).expect("not ready");
    assert!(fault.contains("does not verify: serial ") && fault.contains("signature"), "{fault}");
    assert_eq!(report().trouble(), report().answer_fault.as_deref());
    put(2_000, own);
    assert_eq!(report().cannot_answer(SystemClock.now()), None);
}

#[test]
fn after_a_key_was_exposed_everything_is_signed_anew_by_the_signer_in_use_and_nobody_goes_without_an_answer() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    eventually(LIMIT, "all is signed ahead", || {
        site.responder.poll();
        site.responder.reports()[0].is_complete
    });
    // Signed ahead, and on demand.
    let signers = || {
        [HashAlgorithm::Sha1, HashAlgorithm::Sha256].map(|algorithm| {
            let (_, answer) = site.ask(algorithm, &[long_serial(5)], None);
            assert_eq!(read(&answer), [Said::Good]);
            basic(&answer).tbs_response_data.responder_id
        })
    };
    let [exposed, _] = signers();
    write_signer(site.dir.path(), &site.lab, KeyKind::EcdsaP256);
    // What was never asked for shows who signs now.
    let mut n = 10;
    eventually(LIMIT, "another signer is in use", || {
        n += 1;
        site.responder.poll();
        let (_, answer) = site.ask(HashAlgorithm::Sha384, &[long_serial(n)], None);
        basic(&answer).tbs_response_data.responder_id != exposed
    });
    assert_eq!(signers(), [exposed.clone(), exposed.clone()], "what is held is served on");
    assert_eq!((site.responder.resign("other"), site.responder.resign("ca")), (None, Some(1)));
    eventually(LIMIT, "all is by the new one", || signers().iter().all(|signer| *signer != exposed));
}

#[test]
fn an_issuer_that_has_only_a_crl_is_answered_good_on_demand_and_once() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    // The other may have been asked for before it lay ready.
    let before = site.responder.demand_stats().signed;
    let (_, first) = site.ask(HashAlgorithm::Sha1, &[long_serial(1)], None);
    assert_eq!(read(&first), [Said::Good]);
    for _ in 0..20 {
        assert_eq!(site.ask(HashAlgorithm::Sha1, &[long_serial(1)], None).1, first, "kept, not signed again");
    }
    assert_eq!(site.responder.demand_stats().signed, before + 1);

    // It appears in the next CRL: what was kept must not be given any more.
    write_crl(site.dir.path(), &site.lab, &[1, 9], DAY);
    eventually(LIMIT, "revoked", || site.said(HashAlgorithm::Sha1, 1) == Said::Revoked);
}

#[test]
fn many_who_ask_for_the_same_at_once_cost_one_signature() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    let before = site.responder.demand_stats().signed;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(site.said(HashAlgorithm::Sha1, 12345), Said::Good));
        }
    });
    assert_eq!(site.responder.demand_stats().signed, before + 1);
}

#[test]
fn an_expired_crl_vouches_for_nobody_but_its_revocations_stand() {
    let site = site(&["crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    write_crl(site.dir.path(), &site.lab, &[9], Duration::from_secs(1));
    eventually(LIMIT, "shown as expired", || site.said(HashAlgorithm::Sha1, 77) == Said::Error(3));
    assert_eq!(site.said(HashAlgorithm::Sha1, 9), Said::Revoked);
}

#[test]
fn each_hash_is_answered_in_its_own() {
    let site = site(&["index", "crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    for algorithm in HashAlgorithm::ALL {
        let (_, der) = site.ask(algorithm, &[long_serial(5)], None);
        let single = &basic(&der).tbs_response_data.responses[0];
        assert_eq!(single.cert_id.issuer_name_hash.as_bytes(), site.lab.hashes(algorithm).name.as_bytes());
        assert_eq!(site.said(algorithm, 3), Said::Revoked, "by the index");
        assert_eq!(site.said(algorithm, 9), Said::Revoked, "by the CRL");
        assert_eq!(site.said(algorithm, 4711), Said::Error(6));
    }
}

#[test]
fn several_certificates_are_answered_together_and_foreign_ones_refused() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let all = [long_serial(5), long_serial(3), long_serial(4711), long_serial(5)];
    let (_, der) = site.ask(HashAlgorithm::Sha1, &all, None);
    assert_eq!(read(&der), [Said::Good, Said::Revoked, Said::Unknown, Said::Good]);
    let none = [long_serial(4711), long_serial(4712)];
    assert_eq!(read(&site.ask(HashAlgorithm::Sha1, &none, None).1), [Said::Error(6)]);
    let foreign = Lab::new("Foreign");
    assert_eq!(read(&post(site.to(), &request(&foreign.hashes(HashAlgorithm::Sha1), &all, None)).1), [Said::Error(6)]);
}

#[test]
fn nonces_are_echoed_where_the_issuer_wants_them_and_ignored_elsewhere() {
    let nonce = [0x5a_u8; 32];
    let holds = |der: &[u8]| der.windows(32).any(|w| w == nonce);
    let with = IssuerSettings { answers_nonces: true, ..IssuerSettings::default() };
    let site_with = site(&["index"], with, DemandSettings { rate: 4, ..DemandSettings::default() });
    eventually(LIMIT, "served", || site_with.said(HashAlgorithm::Sha1, 5) == Said::Good);
    eventually(LIMIT, "the next second's budget", || {
        let (head, der) = site_with.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce));
        assert_eq!(read(&der), [Said::Good]);
        if holds(&der) {
            assert!(head.contains("no-store"), "{head}");
        }
        holds(&der)
    });
    // Beyond the budget the answer comes without a nonce instead of not at all.
    let echoed =
        (0..50).filter(|_| holds(&site_with.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce)).1)).count();
    assert!((0..=20).contains(&echoed), "{echoed} of 50 at two a second");

    let without = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || without.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let (head, der) = without.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&nonce));
    assert!(!holds(&der) && head.contains("max-age"), "{head}");
}

#[test]
fn what_was_not_issued_is_answered_as_the_profile_says() {
    for (unissued, said, extended) in [
        (Unissued::Unauthorized, Said::Error(6), false),
        (Unissued::Unknown, Said::Unknown, false),
        (Unissued::Good, Said::Good, false),
        (Unissued::Revoked, Said::Revoked, true),
    ] {
        let settings = IssuerSettings { profile: Profile::Rfc6960, unissued, ..IssuerSettings::default() };
        let site = site(&["index"], settings, DemandSettings::default());
        eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
        let (_, der) = site.ask(HashAlgorithm::Sha1, &[long_serial(4711)], None);
        assert_eq!(read(&der), [said]);
        let oid = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x09];
        assert_eq!(der.windows(oid.len()).any(|w| w == oid), extended, "RFC 6960 §4.4.8");
        if extended {
            let text = String::from_utf8_lossy(&der).into_owned();
            assert!(text.contains("19700101000000Z"));
        }
    }
}

#[test]
fn an_answer_about_what_was_never_issued_is_kept_for_ten_minutes_at_most() {
    let seconds = |t: &x509_ocsp::OcspGeneralizedTime| t.0.to_unix_duration().as_secs();
    for (profile, unissued, validity) in [
        (Profile::Rfc6960, Unissued::Unknown, 900),
        (Profile::Rfc6960, Unissued::Revoked, 900),
        (Profile::Cabf, Unissued::Unknown, 8 * 3600 - 1),
    ] {
        let settings = IssuerSettings { profile, unissued, ..IssuerSettings::default() };
        let site = site(&["index"], settings, DemandSettings::default());
        eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
        // Alone, and with one that is known.
        for serials in [vec![long_serial(4711)], vec![long_serial(5), long_serial(4711)]] {
            let (head, der) = site.ask(HashAlgorithm::Sha1, &serials, None);
            let (_, age) = head.split_once("max-age=").expect("it may be kept");
            let age: u64 = age.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
            assert!((500..=600).contains(&age), "{head}");
            let field = |name: &str| {
                let (_, value) = head.split_once(name).unwrap();
                httpdate(value.lines().next().unwrap().trim())
            };
            assert!((500..=601).contains(&(field("expires:") - field("\ndate:"))), "{head}");
            for single in &basic(&der).tbs_response_data.responses {
                assert_eq!(seconds(single.next_update.as_ref().unwrap()) - seconds(&single.this_update), validity);
            }
        }
        // Once it is issued nothing is left of it here.
        let (head, _) = site.ask(HashAlgorithm::Sha256, &[long_serial(5)], None);
        assert!(!head.contains("max-age=600"), "{head}");
        write_index(site.dir.path(), 5000, &[3]);
        eventually(LIMIT, "issued", || site.said(HashAlgorithm::Sha1, 4711) == Said::Good);
    }
}

fn httpdate(text: &str) -> i64 {
    // tue, 05 mar 2030 10:11:12 gmt
    let mut words = text.split(' ').skip(1);
    let mut next = || words.next().unwrap();
    let (day, month, year, time) = (next(), next(), next(), next());
    let month = "janfebmaraprmayjunjulaugsepoctnovdec".find(month).unwrap() / 3 + 1;
    let digits = format!("{year}{month:02}{day}{}Z", time.replace(':', ""));
    stillgood::time::parse_generalized(digits.as_bytes()).unwrap().unix()
}

#[test]
fn until_its_sources_are_read_an_issuer_says_try_later_of_what_was_not_signed_before() {
    for source in ["crl", "index"] {
        let site = site(&[source], IssuerSettings::default(), DemandSettings::default());
        let path = |name: &str| site.dir.path().join(name);
        let start = |file: &str| {
            let state_dir = Some(path("state"));
            let responder = Responder::start(ResponderSettings { state_dir, ..ResponderSettings::default() });
            let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
            let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key"));
            let spec = if source == "crl" { spec.with_crl(path(file)) } else { spec.with_index(path(file)) };
            responder.set_issuers(vec![spec]);
            let settings = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
            let handle = Server::start(&responder.service(), settings).unwrap();
            (responder, handle)
        };
        let said = |to: &Handle, n: u64| {
            let der = request(&site.lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
            read(&post(to.addresses()[0], &der).1).remove(0)
        };
        let (revoked, file) = if source == "crl" { (9, "ca.crl") } else { (3, "index.txt") };
        let (responder, handle) = start(file);
        eventually(LIMIT, "signed", || said(&handle, revoked) == Said::Revoked);
        eventually(LIMIT, "ready", || responder.reports()[0].cannot_answer(SystemClock.now()).is_none());
        drop((responder, handle));

        let (responder, handle) = start("missing");
        assert_eq!(said(&handle, revoked), Said::Revoked, "what was signed before");
        assert_eq!(said(&handle, 4711), Said::Error(3), "{source}: it may have been issued, or be good");
        let why = responder.reports()[0].cannot_answer(SystemClock.now());
        assert!(why.as_ref().is_some_and(|why| why.contains("missing")), "{why:?}");
        std::fs::copy(path(file), path("missing")).unwrap();
        let then = if source == "crl" { Said::Good } else { Said::Error(6) };
        eventually(LIMIT, "read", || said(&handle, 4711) == then);
        eventually(LIMIT, "ready", || responder.reports()[0].cannot_answer(SystemClock.now()).is_none());
    }
}

#[test]
fn a_flood_of_random_serials_is_shed_and_what_lies_ready_is_served_on() {
    let demand = DemandSettings { rate: 50, queue: 16, cache: 1 << 20, ..DemandSettings::default() };
    let site = site(&["crl"], IssuerSettings::default(), demand);
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 9) == Said::Revoked);
    let mut later = 0;
    for n in 0..3000 {
        match site.said(HashAlgorithm::Sha1, 1_000_000 + n) {
            Said::Error(3) => later += 1,
            other => assert_eq!(other, Said::Good),
        }
        if n % 100 == 0 {
            assert_eq!(site.said(HashAlgorithm::Sha1, 9), Said::Revoked);
        }
    }
    assert!(later > 1000, "only {later} of 3000 were told tryLater at 50 a second");
    assert!(site.responder.demand_stats().cache_weight <= 1 << 20);
}

#[test]
fn a_new_signer_is_taken_into_use_and_a_bad_one_is_not() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    let serial_in_use = || site.responder.reports()[0].signer.as_ref().unwrap().not_before;
    let _ = serial_in_use();
    std::fs::write(site.dir.path().join("ocsp.pem"), "nonsense").unwrap();
    eventually(LIMIT, "refused", || {
        site.responder.reports()[0].signer_fault.as_ref().is_some_and(|f| f.contains("ocsp.pem"))
    });
    assert_eq!(site.said(HashAlgorithm::Sha256, 6), Said::Good, "the signer in use stays, and signs");
    write_signer(site.dir.path(), &site.lab, KeyKind::Ed25519);
    eventually(LIMIT, "taken", || {
        let report = &site.responder.reports()[0];
        report.signer_fault.is_none() && report.signer.as_ref().unwrap().algorithm == "ed25519"
    });
    assert_eq!(site.said(HashAlgorithm::Sha384, 6), Said::Good);
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Good);
}

#[test]
fn an_issuer_that_is_taken_out_is_unauthorized_at_once() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(HashAlgorithm::Sha1, 5) == Said::Good);
    site.responder.set_issuers(Vec::new());
    assert_eq!(site.said(HashAlgorithm::Sha1, 5), Said::Error(6));
}

#[test]
fn the_ca_itself_may_sign_and_puts_no_certificate_in() {
    let dir = tempfile::tempdir().unwrap();
    let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let now = SystemClock.now();
    let name = stillgood::x509::issue::name(&[(stillgood::x509::issue::Attribute::CommonName, "Direct")]);
    let ca = stillgood::x509::issue::CertificateSpec::ca(
        name,
        key.spki_der(),
        serial(1),
        now.minus(DAY),
        now.plus(90 * DAY),
    )
    .issue(&key)
    .unwrap();
    std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", ca.der())).unwrap();
    std::fs::write(dir.path().join("ca.key"), pkcs8.as_slice()).unwrap();
    std::fs::set_permissions(dir.path().join("ca.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    write_index(dir.path(), 10, &[]);
    let responder = Responder::start(ResponderSettings::default());
    let spec = IssuerSpec::from_files("direct", &dir.path().join("ca.pem"))
        .unwrap()
        .with_signer(dir.path().join("ca.pem"), dir.path().join("ca.key"))
        .with_index(dir.path().join("index.txt"));
    responder.set_issuers(vec![spec]);
    let der = request(&ca.issuer_hashes(HashAlgorithm::Sha1), &[long_serial(1)], None);
    let service = Arc::new(responder);
    let mut out = Vec::new();
    eventually(LIMIT, "signed", || {
        out.clear();
        let parsed = stillgood::ocsp::Request::parse(&der).unwrap();
        matches!(service.store().answer(&parsed, SystemClock.now(), &mut out), stillgood::store::Lookup::Ready { .. })
    });
    assert!(basic(&out).certs.is_none(), "RFC 6960 §4.2.1: left out, not empty");
}

/// An issuer with a lab and files of its own.
fn prepared(dir: &std::path::Path, name: &str) -> (Lab, IssuerSpec) {
    let (dir, lab) = (dir.join(name), Lab::new(name));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("ca.pem"), pem("CERTIFICATE", lab.ca.der())).unwrap();
    write_signer(&dir, &lab, KeyKind::EcdsaP256);
    let spec = IssuerSpec::from_files(name, &dir.join("ca.pem")).unwrap();
    (lab, spec.with_signer(dir.join("ocsp.pem"), dir.join("ocsp.key")))
}

#[test]
fn whoever_asks_after_a_restart_before_the_sources_have_been_read_waits_for_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    // Large, and read first, so that what is asked at once comes before that.
    let (large_lab, large) = prepared(dir.path(), "large");
    let (listed_lab, listed) = prepared(dir.path(), "listed");
    let (large_dir, listed_dir) = (dir.path().join("large"), dir.path().join("listed"));
    write_index(&large_dir, 20_000, &[3]);
    write_crl(&listed_dir, &listed_lab, &[9], DAY);
    let specs = vec![large.with_index(large_dir.join("index.txt")), listed.with_crl(listed_dir.join("ca.crl"))];
    let start = || {
        let settings = ResponderSettings { state_dir: Some(dir.path().join("state")), ..ResponderSettings::default() };
        let responder = Responder::start(settings);
        responder.adopt_issuers(specs.clone());
        let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 2, ..Settings::default() };
        let handle = Server::start(&responder.service(), listen).unwrap();
        (responder, handle)
    };
    let ask = |handle: &Handle, lab: &Lab, n| {
        let der = request(&lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
        read(&post(handle.addresses()[0], &der).1).remove(0)
    };
    let (responder, handle) = start();
    eventually(LIMIT, "signed ahead", || {
        let stats = responder.presign_stats();
        stats.missing == 0 && stats.backlog == 0 && stats.slices > 0
    });
    assert_eq!(ask(&handle, &listed_lab, 1), Said::Good);
    handle.shutdown(Duration::ZERO);
    drop(responder);

    // Issued while nobody was there.
    write_index(&large_dir, 20_001, &[3]);
    let (_responder, handle) = start();
    std::thread::scope(|scope| {
        let not_on_the_crl = scope.spawn(|| ask(&handle, &listed_lab, 1));
        let issued_meanwhile = scope.spawn(|| ask(&handle, &large_lab, 20_000));
        let never_issued = scope.spawn(|| ask(&handle, &large_lab, 30_000));
        assert_eq!(ask(&handle, &large_lab, 3), Said::Revoked, "what was signed is served at once");
        assert_eq!(not_on_the_crl.join().unwrap(), Said::Good);
        assert_eq!(issued_meanwhile.join().unwrap(), Said::Good);
        assert_eq!(never_issued.join().unwrap(), Said::Error(6), "not issued: unauthorized");
    });
}
