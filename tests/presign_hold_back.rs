//! A revocation that is known and cannot be signed: what was signed before it is not given any more.

mod common;

use common::site::{LIMIT, Said, index_line, site, write_index, write_signer};
use common::{DAY, Lab, Watched, eventually, long_serial, request, revoked};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stillgood::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Request};
use stillgood::presign::{
    ActiveSigner, Demand, DemandSettings, Issuer, IssuerSettings, Outcome, PresignSettings, Presigner, Table, Unlisted,
};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::signer::{KeyKind, SignError};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    issuer: Arc<Issuer>,
    presigner: Presigner,
    demand: Demand,
    /// Fails as long as this is set.
    is_broken: Arc<AtomicBool>,
}

fn bench_of(lab: Lab, dir: Option<&Path>, now: Timestamp) -> Bench {
    let clock = Arc::new(ManualClock::at(now));
    let settings = PresignSettings { workers: 1, background_nice: 0, segments: dir.map(Path::to_path_buf) };
    let presigner = Presigner::start(&settings, clock.clone());
    let both = IssuerSettings { certid_hashes: vec![SHA1, SHA256], ..IssuerSettings::default() };
    let issuer = lab.issuer("ca", both);
    presigner.add(&issuer);
    let store = Arc::new(Store::default());
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    let demand = Demand::start(DemandSettings::default(), store.clone(), clock.clone());
    demand.set_issuers([issuer.clone()]);
    Bench { lab, clock, store, issuer, presigner, demand, is_broken: Arc::default() }
}

impl Bench {
    fn new(dir: Option<&Path>) -> Self {
        bench_of(Lab::new("Held"), dir, SystemClock.now())
    }

    fn sign(&self, is_able: bool) {
        let is_broken = self.is_broken.clone();
        let before = move || {
            if is_broken.load(Ordering::SeqCst) { Err(SignError("the key is broken".into())) } else { Ok(()) }
        };
        let key = Arc::new(Watched { key: self.lab.signer_key.clone(), before });
        let signer = ActiveSigner::new(key, self.lab.signer.clone(), &self.lab.ca);
        self.presigner.set_signer(&self.issuer, is_able.then(|| Arc::new(signer)));
    }

    fn table(&self, n: u64, bits: u8, is_revoked: impl Fn(u64) -> bool) {
        let status = |i| if is_revoked(i) { revoked(when()) } else { CertStatus::Good };
        let entries: Vec<_> = (0..n).map(|i| (long_serial(i), status(i))).collect();
        self.presigner.set_table(&self.issuer, Table::build(&entries, bits, Unlisted::NotIssued).unwrap());
    }

    fn settle(&self) {
        common::settle(&self.presigner);
    }

    fn look(&self, algorithm: HashAlgorithm, n: u64) -> Lookup {
        let der = request(&self.lab.hashes(algorithm), &[long_serial(n)], None);
        self.store.answer(&Request::parse(&der).unwrap(), self.clock.now(), &mut Vec::new())
    }

    fn status(&self, algorithm: HashAlgorithm, n: u64) -> Option<CertStatus> {
        match self.look(algorithm, n) {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    }

    fn held_back(&self) -> usize {
        self.issuer.slot().live().held_back.len()
    }

    fn on_demand(&self, n: u64) -> Outcome {
        let asked = self.demand.answer(request(&self.lab.hashes(SHA1), &[long_serial(n)], None).into());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(asked)
    }
}

fn when() -> Timestamp {
    Timestamp::from_unix(1_700_000_000)
}

#[test]
fn without_a_signer_what_was_signed_before_a_revocation_is_not_given_any_more() {
    let b = Bench::new(None);
    b.sign(true);
    b.table(9000, 2, |n| n == 3);
    b.settle();
    b.sign(false);
    b.table(9000, 2, |n| n == 3 || n == 5);
    for algorithm in [SHA1, SHA256] {
        eventually(LIMIT, "held back", || b.look(algorithm, 5) == Lookup::OnDemand);
        assert_eq!(b.status(algorithm, 3), Some(revoked(when())), "revoked is given on");
        assert_eq!(b.status(algorithm, 6), Some(CertStatus::Good), "so is what has not changed");
    }
    assert_eq!((b.on_demand(5), b.held_back()), (Outcome::Refused(ErrorStatus::TryLater), 1));

    // The sources take it back: what lies ready is right again.
    b.table(9000, 2, |n| n == 3);
    assert_eq!((b.status(SHA1, 5), b.held_back()), (Some(CertStatus::Good), 0));

    b.table(9000, 2, |n| n == 3 || n == 5);
    assert_eq!(b.look(SHA1, 5), Lookup::OnDemand);
    b.sign(true);
    for algorithm in [SHA1, SHA256] {
        eventually(LIMIT, "revoked", || b.status(algorithm, 5) == Some(revoked(when())));
    }
    b.settle();
    assert_eq!(b.held_back(), 0);
}

#[test]
fn where_the_key_fails_very_many_revocations_are_held_back_and_each_is_given_when_it_is_signed() {
    let b = Bench::new(None);
    b.sign(true);
    b.table(20_000, 3, |_| false);
    b.settle();
    b.is_broken.store(true, Ordering::SeqCst);
    b.table(20_000, 3, |n| n % 2 == 0);
    eventually(LIMIT, "held back", || b.held_back() == 10_000);
    for algorithm in [SHA1, SHA256] {
        for n in (0..20_000).step_by(101) {
            let wanted = (n % 2 == 1).then_some(CertStatus::Good);
            assert_eq!(b.status(algorithm, n), wanted, "{n}");
        }
    }
    b.is_broken.store(false, Ordering::SeqCst);
    b.clock.set(b.clock.now().plus(std::time::Duration::from_secs(60)));
    eventually(LIMIT, "all let go", || b.held_back() == 0);
    b.settle();
    for n in (0..20_000).step_by(2) {
        assert_eq!(b.status(SHA256, n), Some(revoked(when())), "{n}");
    }
}

#[test]
fn a_signer_in_its_last_hours_under_cabf_does_not_leave_a_revoked_certificate_good() {
    let start = SystemClock.now();
    let b = bench_of(Lab::with("Spent", KeyKind::EcdsaP256, start, 2 * DAY), None, start);
    b.presigner.set_settings(
        &b.issuer,
        IssuerSettings { profile: stillgood::ocsp::Profile::Cabf, ..IssuerSettings::default() },
    );
    b.sign(true);
    b.table(100, 0, |_| false);
    b.settle();
    b.clock.set(b.lab.signer.not_after().minus(7 * DAY / 24));
    assert_eq!(b.status(SHA1, 5), Some(CertStatus::Good));
    b.table(100, 0, |n| n == 5);
    eventually(LIMIT, "held back", || b.look(SHA1, 5) == Lookup::OnDemand);
    assert_eq!(b.on_demand(5), Outcome::Refused(ErrorStatus::TryLater));
    assert_eq!(b.status(SHA1, 6), Some(CertStatus::Good));
}

#[test]
fn after_a_restart_without_a_signer_an_old_file_does_not_say_good_of_what_is_revoked() {
    let tmp = tempfile::tempdir().unwrap();
    let b = Bench::new(Some(tmp.path()));
    b.sign(true);
    b.table(9000, 2, |_| false);
    b.settle();
    let (lab, now) = (b.lab, b.clock.now());
    drop((b.demand, b.presigner));
    // By the same cut, and by another, while which the old one is asked for what is not signed.
    let mut lab = lab;
    for bits in [2, 3] {
        let again = bench_of(lab, Some(tmp.path()), now);
        assert_eq!(again.status(SHA1, 5), Some(CertStatus::Good), "before any source is read");
        again.table(9000, bits, |n| n == 5);
        assert_eq!(again.look(SHA1, 5), Lookup::OnDemand);
        assert_eq!(again.on_demand(5), Outcome::Refused(ErrorStatus::TryLater));
        assert_eq!(again.status(SHA1, 6), Some(CertStatus::Good));
        lab = again.lab;
    }
}

#[test]
fn from_files_to_http_a_revocation_without_a_signer_is_answered_try_later_and_told() {
    let site = site(&["index"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    let path = |name: &str| site.dir.path().join(name);
    let spec = |signer: &str| {
        let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
        spec.with_signer(path(signer), path("ocsp.key")).with_index(path("index.txt"))
    };
    let start = |signer: &str| {
        let state_dir = Some(path("state"));
        let responder = Responder::start(ResponderSettings { state_dir, ..ResponderSettings::default() });
        responder.set_issuers(vec![spec(signer)]);
        responder
    };
    let said = |responder: &Responder, n| {
        let der = request(&site.lab.hashes(SHA1), &[long_serial(n)], None);
        match responder.store().answer(&Request::parse(&der).unwrap(), SystemClock.now(), &mut Vec::new()) {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    };
    let responder = start("ocsp.pem");
    eventually(LIMIT, "signed ahead", || said(&responder, 5) == Some(CertStatus::Good));
    eventually(LIMIT, "all of it", || responder.presign_stats().missing == 0);
    drop(responder);
    write_index(site.dir.path(), 500, &[3, 5]);
    let responder = start("missing.pem");
    assert_eq!(said(&responder, 5), None, "as soon as the sources have been read");
    assert_eq!(said(&responder, 6), Some(CertStatus::Good));
    responder.poll();
    let report = responder.reports()[0].clone();
    assert_eq!(report.held_back, 1);
    let told = report.cannot_sign().expect("nothing can be signed");
    assert!(told.contains("1 revocation"), "{told}");

    // A line that cannot be read may be a revocation too.
    let lines =
        |n| if n == 7 { index_line(n, true).replace("251101000000Z", "yesterday") } else { index_line(n, n == 5) };
    std::fs::write(path("index.new"), (0..500).map(lines).collect::<String>()).unwrap();
    std::fs::rename(path("index.new"), path("index.txt")).unwrap();
    eventually(LIMIT, "withheld", || said(&responder, 7).is_none());

    write_signer(site.dir.path(), &site.lab, KeyKind::EcdsaP256);
    write_index(site.dir.path(), 500, &[3, 5]);
    responder.set_issuers(vec![spec("ocsp.pem")]);
    eventually(LIMIT, "revoked", || matches!(said(&responder, 5), Some(CertStatus::Revoked { .. })));
    eventually(LIMIT, "good again", || said(&responder, 7) == Some(CertStatus::Good));
    eventually(LIMIT, "none is held back", || {
        responder.poll();
        responder.reports()[0].held_back == 0
    });
}
