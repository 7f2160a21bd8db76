//! Signers in slots, and the responder that signs with what is current there.

mod common;

use common::site::{LIMIT, Said, post, read, write_index, write_signer};
use common::{DAY, Lab, eventually, long_serial, request, serial};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stillgood::client::{self, Asked, Verified};
use stillgood::endpoint::{Handle, Server, Settings};
use stillgood::ocsp::{HashAlgorithm, Profile};
use stillgood::presign::IssuerSettings;
use stillgood::responder::{IssuerReport, IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::slots::{Slot, SlotFault, Slots};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};
use stillgood::x509::Certificate;
use stillgood::x509::issue::{Attribute, CertificateSpec, ExtensionSpec, name, ocsp_signer_request};

const HOUR: Duration = Duration::from_secs(3600);
const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
const SHA384: HashAlgorithm = HashAlgorithm::Sha384;

fn now() -> Timestamp {
    SystemClock.now()
}

fn subject() -> Vec<u8> {
    name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, "Site OCSP")])
}

/// The certificate that `lab` issues for a key, until then.
fn certificate(lab: &Lab, spki: Vec<u8>, until: Timestamp) -> CertificateSpec {
    CertificateSpec::ocsp_signer(&lab.ca, subject(), spki, serial(77), now().minus(DAY), until)
}

/// An order of the slot whose certificate `lab` has issued.
fn order(slot: &Slot, id: &str, lab: &Lab, until: Timestamp) -> Certificate {
    let make = |key: &SigningKey| ocsp_signer_request(&subject(), &key.spki_der(), key);
    let prepared = slot.order(id).prepare(KeyKind::EcdsaP256, make).unwrap();
    let issued = certificate(lab, prepared.spki_der, until).issue(&lab.ca_key).unwrap();
    slot.order(id).keep_certificate(issued.der(), &[lab.ca.der().to_vec()]).unwrap();
    issued
}

fn stage(slot: &Slot, id: &str, lab: &Lab, until: Timestamp) {
    order(slot, id, lab, until);
    slot.stage(id).unwrap();
}

fn roll_over(slot: &Slot, id: &str, lab: &Lab, until: Timestamp, previous_until: Timestamp) {
    stage(slot, id, lab, until);
    slot.activate(id, previous_until).unwrap();
}

fn open(dir: &Path) -> (Slots, Vec<SlotFault>) {
    Slots::open(&dir.join("signers")).unwrap()
}

/// A responder over an index whose signer is in a slot.
struct Site {
    dir: tempfile::TempDir,
    lab: Lab,
    slot: Slot,
    responder: Responder,
    handle: Handle,
    clock: Arc<dyn Clock>,
}

impl Site {
    fn new(settings: IssuerSettings, clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = Lab::new("Site");
        write_index(dir.path(), 100, &[3]);
        let slot = open(dir.path()).0.slot("ca");
        let responder = Responder::start(ResponderSettings { clock: clock.clone(), ..ResponderSettings::default() });
        let spec = IssuerSpec::new("ca", lab.ca.clone()).with_slot(slot.clone()).with_settings(settings);
        responder.set_issuers(vec![spec.with_index(dir.path().join("index.txt"))]);
        let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        let handle = Server::start(&responder.service(), listen).unwrap();
        Site { dir, lab, slot, responder, handle, clock }
    }

    fn ask(&self, hash: HashAlgorithm, n: u64) -> Vec<u8> {
        post(self.handle.addresses()[0], &request(&self.lab.hashes(hash), &[long_serial(n)], None)).1
    }

    fn said(&self, hash: HashAlgorithm, n: u64) -> Said {
        read(&self.ask(hash, n)).remove(0)
    }

    /// What a strict client makes of an answer.
    fn verified(&self, hash: HashAlgorithm, n: u64, response: &[u8]) -> Verified {
        let asked = Asked { hash, serial: long_serial(n), nonce: None };
        client::verify(response, &asked, &self.lab.ca, self.clock.now(), client::DEFAULT_SKEW).unwrap()
    }

    fn report(&self) -> IssuerReport {
        self.responder.reports()[0].clone()
    }

    fn order_in_use(&self) -> Option<String> {
        self.report().signer.and_then(|signer| signer.order)
    }
}

#[test]
fn answers_change_their_signer_without_a_gap_and_old_ones_stay_good() {
    // Signed again every two seconds, so that the change reaches what is signed ahead before one's eyes.
    let settings = IssuerSettings {
        validity: Duration::from_secs(60),
        refresh: Duration::from_secs(2),
        backdate: Duration::ZERO,
        ..IssuerSettings::default()
    };
    let site = Site::new(settings, Arc::new(SystemClock));
    let (first, second) = (now().plus(20 * DAY), now().plus(30 * DAY));
    roll_over(&site.slot, "o1", &site.lab, first, first);
    site.responder.poll();
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let old = site.ask(SHA1, 5);
    assert_eq!(site.verified(SHA1, 5, &old).signer_not_after, first);

    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut seen, mut n) = (Vec::new(), 0);
            while !done.load(Ordering::Relaxed) {
                // What lies ready, and what is signed on demand.
                for hash in [SHA1, SHA384] {
                    n = (n + 1) % 100;
                    let verified = site.verified(hash, n, &site.ask(hash, n));
                    if seen.last() != Some(&verified.signer_not_after) {
                        seen.push(verified.signer_not_after);
                    }
                }
            }
            seen
        });
        roll_over(&site.slot, "o2", &site.lab, second, now().plus(Duration::from_secs(2)));
        eventually(LIMIT, "taken over", || site.order_in_use().as_deref() == Some("o2"));
        eventually(LIMIT, "what is signed ahead too", || {
            site.verified(SHA1, 5, &site.ask(SHA1, 5)).signer_not_after == second
        });
        done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(seen.contains(&first) && seen.contains(&second), "{seen:?}");
    assert_eq!(site.verified(SHA1, 5, &old).signer_not_after, first, "cached by somebody");

    eventually(LIMIT, "the old key is destroyed", || site.slot.retire_previous(now()).unwrap().is_some());
    let files: Vec<_> = std::fs::read_dir(site.dir.path().join("signers/ca")).unwrap().flatten().collect();
    assert_eq!(files.iter().filter(|f| f.file_name().to_str().unwrap().starts_with("o1")).count(), 0, "{files:?}");
    eventually(LIMIT, "what was signed on demand is kept no longer than until its refresh", || {
        site.verified(SHA384, 6, &site.ask(SHA384, 6)).signer_not_after == second
    });
    assert_eq!(site.verified(SHA1, 5, &old).signer_not_after, first, "without its key it verifies all the same");
}

#[test]
fn a_new_signer_that_does_not_pass_leaves_the_old_one_at_work_and_is_told() {
    let site = Site::new(IssuerSettings::default(), Arc::new(SystemClock));
    assert_eq!(site.report().signer_fault.as_deref(), Some("no signer has been issued yet"));
    let until = now().plus(30 * DAY);
    stage(&site.slot, "o1", &site.lab, until);
    site.responder.poll();
    let fault = site.report().signer_fault.unwrap();
    assert!(fault.starts_with("a signer has been issued, serial ") && site.report().waits_for_signer(), "{fault}");
    site.slot.activate("o1", until).unwrap();
    site.responder.poll();
    assert_eq!((site.order_in_use().as_deref(), site.report().signer_fault), (Some("o1"), None));

    roll_over(&site.slot, "o2", &Lab::new("Foreign"), until, until);
    site.responder.poll();
    let fault = site.report().signer_fault.unwrap();
    assert!(fault.contains("order o2") && fault.contains("RFC 6960 §4.2.2.2"), "{fault}");
    assert_eq!(site.order_in_use().as_deref(), Some("o1"));
    assert_eq!(site.said(SHA384, 5), Said::Good, "it signs on");

    roll_over(&site.slot, "o3", &site.lab, until, until);
    site.responder.poll();
    assert_eq!((site.order_in_use().as_deref(), site.report().signer_fault), (Some("o3"), None));
}

#[test]
fn signers_in_files_stay_in_use_until_the_slot_has_one() {
    let site = Site::new(IssuerSettings::default(), Arc::new(SystemClock));
    write_signer(site.dir.path(), &site.lab, KeyKind::EcdsaP256);
    let path = |file: &str| site.dir.path().join(file);
    let spec = || IssuerSpec::new("ca", site.lab.ca.clone()).with_index(path("index.txt"));
    site.responder.set_issuers(vec![spec().with_signer(path("ocsp.pem"), path("ocsp.key"))]);
    assert_eq!(site.report().signer_fault, None);
    site.responder.set_issuers(vec![spec().with_slot(site.slot.clone())]);
    assert_eq!(site.said(SHA384, 5), Said::Good);
    assert_eq!(site.report().signer_fault.as_deref(), Some("no signer has been issued yet"));
    roll_over(&site.slot, "o1", &site.lab, now().plus(30 * DAY), now());
    site.responder.poll();
    assert_eq!((site.order_in_use().as_deref(), site.report().signer_fault), (Some("o1"), None));
}

#[test]
fn near_the_end_of_a_signer_answers_end_with_it_and_under_cabf_none_is_signed_in_the_last_8_hours() {
    let start = now();
    let clock = Arc::new(ManualClock::at(start));
    let site = Site::new(IssuerSettings { profile: Profile::Cabf, ..IssuerSettings::default() }, clock.clone());
    let end = start.plus(9 * HOUR);
    roll_over(&site.slot, "o1", &site.lab, end, end);
    site.responder.poll();
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    for hash in [SHA1, SHA384] {
        assert_eq!(site.verified(hash, 5, &site.ask(hash, 5)).next_update, Some(end), "MRSP §6");
    }

    clock.set(start.plus(2 * HOUR));
    assert_eq!(site.said(SHA384, 6), Said::Error(3), "BR §4.9.9: tryLater");
    assert_eq!(site.said(SHA1, 6), Said::Good, "it was signed in time");
    clock.set(start.plus(8 * HOUR));
    eventually(LIMIT, "told", || {
        site.report().signing_fault.is_some_and(|f| f.contains("expires at")) || {
            site.responder.poll();
            false
        }
    });
    assert_eq!(site.said(SHA1, 6), Said::Good);

    roll_over(&site.slot, "o2", &site.lab, start.plus(30 * DAY), end);
    site.responder.poll();
    eventually(LIMIT, "what is signed on demand", || site.said(SHA384, 6) == Said::Good);
    eventually(LIMIT, "what is signed ahead too", || {
        site.verified(SHA1, 6, &site.ask(SHA1, 6)).signer_not_after == start.plus(30 * DAY)
    });
    clock.set(end.plus(HOUR));
    assert_eq!(site.said(SHA1, 6), Said::Good, "past the end of the first");
}

#[test]
fn what_an_order_brought_is_tried_out_as_a_client_would() {
    let site = Site::new(IssuerSettings::default(), Arc::new(SystemClock));
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let good = certificate(&site.lab, key.spki_der(), now().plus(30 * DAY));
    let tried = |spec: CertificateSpec, ca_key: &SigningKey| {
        site.responder.try_out("ca", &spec.issue(ca_key).unwrap(), &key, now())
    };
    let refused = |spec: CertificateSpec, why: &str| {
        let error = tried(spec, &site.lab.ca_key).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    assert_eq!(tried(good.clone(), &site.lab.ca_key), Ok(()));
    let foreign = Lab::new("Site");
    assert!(tried(good.clone(), &foreign.ca_key).unwrap_err().contains("not signed by the CA's key"));
    refused(good.clone().without(&ExtensionSpec::ocsp_signing()), "OCSPSigning");
    let long_gone = CertificateSpec { not_before: now().minus(90 * DAY), not_after: now().minus(HOUR), ..good.clone() };
    refused(long_gone, "expired");
    refused(CertificateSpec { not_before: now().plus(HOUR), ..good.clone() }, "not valid before");
    let (other, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let good = good.issue(&site.lab.ca_key).unwrap();
    assert!(site.responder.try_out("ca", &good, &other, now()).unwrap_err().contains("does not belong"));
    assert!(site.responder.try_out("nobody", &good, &key, now()).unwrap_err().contains("not served here"));
    assert_eq!(site.order_in_use(), None, "nothing is taken into use");
}

#[test]
fn after_a_restart_the_slot_signs_with_what_was_current() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new("Again");
    let until = now().plus(30 * DAY);
    {
        let (slots, faults) = open(dir.path());
        assert_eq!(faults, []);
        let slot = slots.slot("ca");
        roll_over(&slot, "o1", &lab, until, until);
        roll_over(&slot, "o2", &lab, until, until);
        order(&slot, "o3", &lab, until);
        slot.stage("o3").unwrap();
    }
    let (slots, faults) = open(dir.path());
    assert_eq!(faults, []);
    let slot = slots.slot("ca");
    let order = |place: Option<Arc<stillgood::signer::slots::Installed>>| place.unwrap().order.clone();
    assert_eq!([order(slot.current()), order(slot.next()), order(slot.previous())], ["o2", "o3", "o1"]);

    // A damaged key: the signer before it signs on, and the file is kept for people.
    drop((slots, slot));
    std::fs::write(dir.path().join("signers/ca/o2.key"), "damaged").unwrap();
    let (slots, faults) = open(dir.path());
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].to_string().contains("o2.key.unreadable-1") && faults[0].text.contains("signs on"), "{faults:?}");
    assert_eq!(order(slots.slot("ca").current()), "o1");
    write_index(dir.path(), 10, &[]);
    let responder = Responder::start(ResponderSettings::default());
    let spec = IssuerSpec::new("ca", lab.ca.clone()).with_slot(slots.slot("ca"));
    responder.set_issuers(vec![spec.with_index(dir.path().join("index.txt"))]);
    assert_eq!(responder.reports()[0].signer.as_ref().unwrap().order.as_deref(), Some("o1"));
    slots.slot("ca").activate("o3", until).unwrap();
    assert_eq!(order(slots.slot("ca").previous()), "o1");
    responder.poll();
    assert_eq!(responder.reports()[0].signer.as_ref().unwrap().order.as_deref(), Some("o3"));
}
