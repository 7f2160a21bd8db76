//! Clocks that are wrong: what they must not damage.

mod common;

use common::site::LIMIT;
use common::{DAY, Lab, eventually, long_serial, request, revoked};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stillgood::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Request};
use stillgood::presign::{
    Demand, DemandSettings, Issuer, IssuerSettings, Outcome, PresignSettings, Presigner, Table, Timekeeper, Unlisted,
};
use stillgood::signer::KeyKind;
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    keeper: Timekeeper,
    store: Arc<Store>,
    issuer: Arc<Issuer>,
    presigner: Presigner,
    demand: Demand,
}

/// Of a process that started long ago.
fn bench(lab: Lab, dir: &Path, now: Timestamp) -> Bench {
    let clock = Arc::new(ManualClock::at(now));
    let keeper = Timekeeper::from(clock.clone()).settled();
    let settings = PresignSettings { workers: 1, background_nice: 0, segments: Some(dir.to_path_buf()) };
    let presigner = Presigner::start(&settings, keeper.clone());
    let issuer = lab.issuer("ca", IssuerSettings::default());
    assert!(presigner.add(&issuer).is_empty());
    let store = Arc::new(Store::default());
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    let demand = Demand::start(DemandSettings::default(), store.clone(), keeper.clone());
    demand.set_issuers([issuer.clone()]);
    Bench { lab, clock, keeper, store, issuer, presigner, demand }
}

impl Bench {
    fn table(&self, n: u64, is_revoked: impl Fn(u64) -> bool) {
        let status = |i| if is_revoked(i) { revoked(when()) } else { CertStatus::Good };
        let entries: Vec<_> = (0..n).map(|i| (long_serial(i), status(i))).collect();
        self.presigner.set_table(&self.issuer, Table::build(&entries, 2, Unlisted::NotIssued).unwrap());
    }

    fn settle(&self) {
        common::settle(&self.presigner);
    }

    /// As the endpoint asks, by the time that is believed.
    fn answer(&self, n: u64) -> (Lookup, Vec<u8>) {
        let der = request(&self.lab.hashes(SHA1), &[long_serial(n)], None);
        let mut out = Vec::new();
        let lookup = self.store.answer(&Request::parse(&der).unwrap(), self.keeper.now(), &mut out);
        (lookup, out)
    }

    fn status(&self, n: u64) -> Option<CertStatus> {
        match self.answer(n).0 {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    }

    fn on_demand(&self, n: u64) -> Outcome {
        let hashes = self.lab.hashes(HashAlgorithm::Sha256);
        let asked = self.demand.answer(request(&hashes, &[long_serial(n)], None).into());
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(asked)
    }
}

fn when() -> Timestamp {
    Timestamp::from_unix(1_700_000_000)
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let dir = std::fs::read_dir(dir).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn a_clock_that_is_set_back_damages_nothing_that_was_signed_before() {
    let tmp = tempfile::tempdir().unwrap();
    let start = SystemClock.now();
    let b = bench(Lab::with("Back", KeyKind::EcdsaP256, start.minus(20 * DAY), 60 * DAY), tmp.path(), start);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(2000, |n| n == 3);
    b.settle();
    let Outcome::Shared(held) = b.on_demand(7) else { panic!("signed on demand") };
    let (before, on_disk, signed) = (b.answer(5), files(tmp.path()), b.presigner.signed());

    b.clock.set(start.minus(10 * DAY));
    eventually(LIMIT, "told", || b.presigner.fault("ca").is_some_and(|fault| fault.contains("was set back from")));
    std::thread::sleep(Duration::from_millis(2500)); // a signing thread sleeps for a second
    assert_eq!((b.answer(5), b.presigner.signed()), (before, signed));
    assert!(files(tmp.path()) == on_disk);
    assert_eq!(b.on_demand(7), Outcome::Shared(held), "what is held is given");
    assert_eq!(b.on_demand(8), Outcome::Refused(ErrorStatus::TryLater), "nothing is signed");

    // What is revoked meanwhile is not called good.
    b.table(2000, |n| n == 3 || n == 9);
    assert_eq!(
        (b.answer(9).0, b.status(3), b.status(4)),
        (Lookup::OnDemand, Some(revoked(when())), Some(CertStatus::Good))
    );

    b.clock.set(start.plus(Duration::from_secs(60)));
    eventually(LIMIT, "revoked", || b.status(9) == Some(revoked(when())));
    b.settle();
    assert_eq!(b.presigner.fault("ca"), None);
    assert_eq!(b.presigner.signed(), signed + 1);
    assert!(matches!(b.on_demand(8), Outcome::Shared(_)));
}

#[test]
fn a_small_step_back_and_one_that_undoes_a_jump_ahead_are_followed_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    let start = SystemClock.now();
    let b = bench(Lab::with("Small", KeyKind::EcdsaP256, start, 60 * DAY), tmp.path(), start);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(2000, |n| n == 3);
    b.settle();
    let this_update = || match b.answer(5).0 {
        Lookup::Ready { this_update, .. } => Some(this_update),
        _ => None,
    };
    let half_an_hour = start.minus(Duration::from_secs(1800));
    b.clock.set(half_an_hour);
    eventually(LIMIT, "signed by the time half an hour before", || this_update().is_some_and(|at| at <= half_an_hour));
    b.clock.set(start);
    b.settle();
    b.clock.set(start.plus(30 * DAY));
    eventually(LIMIT, "signed a month ahead", || this_update().is_some_and(|at| at > start.plus(29 * DAY)));
    b.settle();
    b.clock.set(start.plus(Duration::from_secs(60)));
    eventually(LIMIT, "signed anew", || this_update().is_some_and(|at| at <= start.plus(Duration::from_secs(60))));
    assert_eq!(b.presigner.fault("ca"), None);
}

#[test]
fn a_boot_with_a_clock_years_ahead_costs_none_of_what_was_signed() {
    let tmp = tempfile::tempdir().unwrap();
    let start = SystemClock.now();
    let b = bench(Lab::with("Ahead", KeyKind::EcdsaP256, start, 30 * DAY), tmp.path(), start);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(2000, |n| n == 3);
    b.settle();
    b.table(2001, |n| n == 3 || n == 4); // an overlay
    eventually(LIMIT, "revoked", || b.status(4) == Some(revoked(when())));
    b.settle();
    let (before, on_disk, lab) = ((b.answer(3), b.answer(4), b.answer(5)), files(tmp.path()), b.lab);
    drop((b.demand, b.presigner));

    let b = bench(lab, tmp.path(), start.plus(3650 * DAY));
    assert_eq!(b.status(5), None, "by this clock it has run out");
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(2001, |n| n == 3 || n == 4);
    eventually(LIMIT, "tried", || b.presigner.fault("ca").is_some());
    assert_eq!(b.presigner.signed(), 0);
    assert!(files(tmp.path()) == on_disk);
    let lab = b.lab;
    drop((b.demand, b.presigner));

    let b = bench(lab, tmp.path(), start.plus(Duration::from_secs(60)));
    assert_eq!((b.answer(3), b.answer(4), b.answer(5)), before, "the clock has been set");
    let lab = b.lab;
    drop((b.demand, b.presigner));

    // What has really run out makes place for what is signed, cut otherwise or not.
    let b = bench(lab, tmp.path(), start.plus(6 * DAY));
    assert_eq!(b.status(5), None);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    let entries: Vec<_> = (0..2000).map(|n| (long_serial(n), CertStatus::Good)).collect();
    b.presigner.set_table(&b.issuer, Table::build(&entries, 0, Unlisted::NotIssued).unwrap());
    b.settle();
    eventually(LIMIT, "one file is left", || files(tmp.path()).into_keys().collect::<Vec<_>>() == ["sha1-0-0.seg"]);
}
