//! The presigner and the store together: signed ahead, refreshed, revoked at once, warm again after a restart.

mod common;

use common::{DAY, Lab, eventually, long_serial, request, revoked, table};
use std::sync::Arc;
use std::time::Duration;
use stillgood::ocsp::{CertStatus, HashAlgorithm, Request};
use stillgood::presign::{ActiveSigner, Issuer, IssuerSettings, PresignSettings, Presigner, Table, Unlisted};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};

const LIMIT: Duration = Duration::from_secs(60);

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    store: Store,
    issuer: Arc<Issuer>,
    presigner: Presigner,
}

fn presigner(clock: &Arc<ManualClock>, dir: Option<&std::path::Path>) -> Presigner {
    let settings = PresignSettings { workers: 2, background_nice: 5, segments: dir.map(std::path::Path::to_path_buf) };
    Presigner::start(&settings, clock.clone())
}

fn bench(dir: Option<&std::path::Path>, lab: Lab, now: Timestamp) -> Bench {
    let clock = Arc::new(ManualClock::at(now));
    let presigner = presigner(&clock, dir);
    let issuer = lab.issuer("ca-1", IssuerSettings::default());
    let refused = presigner.add(&issuer);
    assert!(refused.is_empty(), "{refused:?}");
    let store = Store::default();
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    Bench { lab, clock, store, issuer, presigner }
}

impl Bench {
    fn ask(&self, n: u64) -> Lookup {
        let der = request(&self.lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
        self.store.answer(&Request::parse(&der).unwrap(), self.clock.now(), &mut Vec::new())
    }

    fn status(&self, n: u64) -> Option<CertStatus> {
        match self.ask(n) {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    }

    fn settle(&self) {
        common::settle(&self.presigner);
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

#[test]
fn a_signer_that_comes_just_after_everything_was_to_be_signed_again_signs_it() {
    let b = bench(None, Lab::new("One"), now());
    let signed_by = |n| {
        let live = b.issuer.slot().live();
        let serial = long_serial(n);
        let (segment, _) = live.wave(HashAlgorithm::Sha1)?.find(&serial, stillgood::store::hash(&serial))?;
        Some(segment.template().spec().responder.clone())
    };
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(3000, 10, None));
    b.settle();
    let exposed = signed_by(5).unwrap();

    // Without that it is served on, and replaced as it comes due.
    let other = Lab::new("Two");
    let next = || Some(Arc::new(ActiveSigner::new(other.signer_key.clone(), other.signer.clone(), &b.lab.ca)));
    b.presigner.set_signer(&b.issuer, next());
    b.settle();
    assert_eq!(signed_by(5), Some(exposed.clone()));

    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    assert!(b.presigner.resign(&b.issuer) > 0);
    b.settle();
    assert_eq!(signed_by(5), Some(exposed.clone()));
    b.presigner.set_signer(&b.issuer, next());
    b.settle();
    for n in [5, 6, 2999] {
        assert!(signed_by(n).is_some_and(|signer| signer != exposed), "{n}");
    }
}

#[test]
fn every_known_serial_is_signed_ahead_and_no_other() {
    let b = bench(None, Lab::new("A"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(3000, 10, None));
    b.settle();
    for n in 0..3000 {
        let wanted = if n % 10 == 0 { revoked(Timestamp::from_unix(1_700_000_000)) } else { CertStatus::Good };
        assert_eq!(b.status(n), Some(wanted), "serial {n}");
    }
    assert_eq!(b.ask(3000), Lookup::NotHere);
    assert_eq!(b.presigner.stats().signed, 3000);
}

#[test]
fn a_revocation_is_served_at_once_and_stays_when_its_slice_is_signed_again() {
    let b = bench(None, Lab::new("B"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(9000, 0, None));
    b.settle();
    let signed = b.presigner.stats().signed;
    let when = now().minus(Duration::from_secs(1));
    let entries: Vec<_> =
        (0..9001).map(|n| (long_serial(n), if n == 77 { revoked(when) } else { CertStatus::Good })).collect();
    let bits = b.issuer.view().table.as_ref().unwrap().bits();
    let changed = b.presigner.set_table(&b.issuer, Table::build(&entries, bits, Unlisted::NotIssued).unwrap());
    assert_eq!(changed, 2, "one revoked, one new");
    eventually(LIMIT, "revocation", || b.status(77) == Some(revoked(when)));
    assert_eq!(b.status(9000), Some(CertStatus::Good));
    assert_eq!(b.presigner.stats().signed, signed + 2, "nothing else is signed for it");

    b.clock.set(now().plus(DAY));
    b.settle();
    eventually(LIMIT, "refresh", || b.presigner.stats().signed >= signed + 2 + 9001);
    assert_eq!(b.status(77), Some(revoked(when)));
}

#[test]
fn how_long_a_revocation_waits_for_its_signature_is_told_and_measured_when_it_is_served() {
    let b = bench(None, Lab::new("L"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(3000, 10, None));
    b.settle();
    let when = now().minus(Duration::from_secs(1));
    let revoking = |those: &[u64]| {
        let bits = b.issuer.view().table.as_ref().unwrap().bits();
        let status = |n: u64| if n.is_multiple_of(10) || those.contains(&n) { revoked(when) } else { CertStatus::Good };
        Table::build(&(0..3000).map(|n| (long_serial(n), status(n))).collect::<Vec<_>>(), bits, Unlisted::NotIssued)
            .unwrap()
    };
    let counts = || b.presigner.revocation_lag().buckets;
    let since = |secs: u64| std::time::Instant::now().checked_sub(Duration::from_secs(secs));
    // Of what nobody looked at before it is not known since when it was there; what was revoked all along does not count.
    b.presigner.set_table_since(&b.issuer, revoking(&[7]), None);
    eventually(LIMIT, "served", || b.status(7) == Some(revoked(when)));
    assert_eq!(counts().iter().sum::<u64>(), 0);

    b.presigner.set_signer(&b.issuer, None);
    b.presigner.set_table_since(&b.issuer, revoking(&[7, 8, 9]), since(40));
    assert!(b.presigner.revocation_waits(&b.issuer) >= Duration::from_secs(40));
    // One of them is taken back before it was served, and another comes later.
    b.presigner.set_table_since(&b.issuer, revoking(&[7, 9, 11]), since(3));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(counts().iter().sum::<u64>(), 0, "nothing can be signed");
    assert!(b.presigner.revocation_waits(&b.issuer) >= Duration::from_secs(40), "the oldest");
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    eventually(LIMIT, "served", || b.presigner.revocation_waits(&b.issuer).is_zero());
    assert_eq!(
        (b.status(9), b.status(11), b.status(8)),
        (Some(revoked(when)), Some(revoked(when)), Some(CertStatus::Good))
    );
    assert_eq!(
        counts(),
        [0, 0, 0, 0, 1, 0, 0, 1, 0, 0],
        "3 s and 40 s, on any machine that takes no longer than 2 s and 20 s to sign two"
    );
    assert!(b.presigner.revocation_lag().sum >= Duration::from_secs(43));
}

#[test]
fn everything_is_refreshed_long_before_it_runs_out() {
    let b = bench(None, Lab::new("C"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(5000, 0, None));
    b.settle();
    let start = now();
    for hours in (3..=72).step_by(3) {
        let at = start.plus(Duration::from_secs(hours * 3600));
        b.clock.set(at);
        eventually(LIMIT, "refresh", || {
            (0..5000).step_by(97).all(|n| match b.ask(n) {
                Lookup::Ready { this_update, next_update, .. } => {
                    at.since(this_update) <= Duration::from_secs(24 * 3600)
                        && next_update.since(at) >= Duration::from_secs(8 * 3600)
                }
                _ => false,
            })
        });
    }
}

#[test]
fn what_is_held_is_served_until_it_runs_out_when_the_signer_is_spent_and_no_longer() {
    let start = now();
    let b = bench(None, Lab::with("D", stillgood::signer::KeyKind::EcdsaP256, start, 2 * DAY), start);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(100, 0, None));
    b.settle();
    let Lookup::Ready { next_update, .. } = b.ask(5) else { panic!("not served") };
    assert!(next_update <= b.lab.signer.not_after(), "MRSP §6");
    b.clock.set(b.lab.signer.not_after().minus(Duration::from_secs(1)));
    eventually(LIMIT, "the failure is told", || b.presigner.fault("ca-1").is_some_and(|f| f.contains("expires")));
    assert!(b.status(5).is_some());
    b.clock.set(b.lab.signer.not_after().plus(Duration::from_secs(1)));
    assert_eq!(b.ask(5), Lookup::OnDemand, "never past nextUpdate");
}

#[test]
fn a_warm_start_serves_the_same_octets_without_signing_and_refuses_what_is_damaged_or_foreign() {
    let tmp = tempfile::tempdir().unwrap();
    let start = now();
    let (before, hashes) = {
        let b = bench(Some(tmp.path()), Lab::new("E"), start);
        b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
        b.presigner.set_table(&b.issuer, table(9000, 9, None));
        b.settle();
        let mut octets = Vec::new();
        let der = request(&b.lab.hashes(HashAlgorithm::Sha1), &[long_serial(4)], None);
        b.store.answer(&Request::parse(&der).unwrap(), start, &mut octets);
        drop(b.presigner);
        (octets, b.lab)
    };

    let again = bench(Some(tmp.path()), hashes, start);
    let mut octets = Vec::new();
    let der = request(&again.lab.hashes(HashAlgorithm::Sha1), &[long_serial(4)], None);
    again.store.answer(&Request::parse(&der).unwrap(), start, &mut octets);
    assert_eq!(octets, before);
    again.presigner.set_signer(&again.issuer, Some(again.lab.active_signer()));
    let mut changed = table(9000, 9, Some(2));
    assert_eq!(changed.bits(), 2);
    assert_eq!(again.presigner.set_table(&again.issuer, changed.clone()), 0, "nothing changed, nothing to sign");
    again.settle();
    assert_eq!(again.presigner.stats().signed, 0);
    drop(again.presigner);

    // One file is damaged: it is named, its entries are signed again, the others are served.
    let dir = std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path();
    let victim = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&victim).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 0x40;
    std::fs::write(&victim, bytes).unwrap();
    let clock = Arc::new(ManualClock::at(start));
    let p = presigner(&clock, Some(tmp.path()));
    let issuer = again.lab.issuer("ca-1", IssuerSettings::default());
    let refused = p.add(&issuer);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].path, victim);
    p.set_signer(&issuer, Some(again.lab.active_signer()));
    changed = table(9000, 9, Some(2));
    p.set_table(&issuer, changed);
    eventually(LIMIT, "signed again", || p.stats().missing == 0);
    let signed = p.stats().signed;
    assert!((1500..3500).contains(&signed), "one slice of four, not {signed}");
    drop(p);

    // Another CA of the same record id does not serve them.
    let other = Lab::new("F");
    let p = presigner(&clock, Some(tmp.path()));
    let issuer = other.issuer("ca-1", IssuerSettings::default());
    assert!(p.add(&issuer).is_empty());
    assert!(issuer.slot().live().wave(HashAlgorithm::Sha1).is_none());
}

#[test]
fn growth_changes_the_slicing_without_a_gap() {
    let b = bench(None, Lab::new("G"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(1000, 0, None));
    b.settle();
    b.presigner.set_table(&b.issuer, table(20_000, 0, Some(0)));
    eventually(LIMIT, "new slices", || {
        assert!((0..1000).step_by(13).all(|n| b.status(n).is_some()), "a serial was not served for a moment");
        b.presigner.stats().missing == 0 && b.presigner.stats().backlog == 0
    });
    assert!((0..20_000).step_by(501).all(|n| b.status(n).is_some()));
}

#[test]
fn a_serial_that_is_no_longer_listed_is_no_longer_served() {
    let b = bench(None, Lab::new("H"), now());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.presigner.set_table(&b.issuer, table(500, 0, None));
    b.settle();
    b.presigner.set_table(&b.issuer, table(499, 0, Some(0)));
    eventually(LIMIT, "gone", || b.ask(499) == Lookup::NotHere);
    assert!(b.status(498).is_some());
}
