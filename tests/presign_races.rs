//! What happens while something is being signed: sources that change, signers that come and go, clocks that are set, disks
//! that fail. A signer that waits at a gate makes each moment repeatable.

mod common;

use common::{DAY, Lab, Watched, eventually, long_serial, request, revoked};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stillgood::ocsp::{CertStatus, HashAlgorithm, Request};
use stillgood::presign::{ActiveSigner, Issuer, IssuerSettings, PresignSettings, Presigner, Table, Unlisted};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};

const LIMIT: Duration = Duration::from_secs(60);

/// Signs once it is let through.
struct Gate {
    open: Mutex<usize>,
    turn: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Gate { open: Mutex::new(0), turn: Condvar::new(), waiting: 0.into() })
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while *open == 0 {
            open = self.turn.wait(open).unwrap();
        }
        *open -= 1;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    fn let_through(&self, n: usize) {
        *self.open.lock().unwrap() = n;
        self.turn.notify_all();
    }

    fn wait_until_someone_waits(&self) {
        eventually(LIMIT, "a thread at the gate", || self.waiting.load(Ordering::SeqCst) > 0);
    }
}

/// A test that fails must not leave a thread at the gate, which its presigner would wait for.
struct OpenedAtTheEnd(Arc<Gate>);

impl Drop for OpenedAtTheEnd {
    fn drop(&mut self) {
        self.0.let_through(ALL);
    }
}

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    store: Store,
    issuer: Arc<Issuer>,
    presigner: Presigner,
}

fn bench_of(lab: Lab, workers: usize, dir: Option<&Path>, now: Timestamp) -> Bench {
    let clock = Arc::new(ManualClock::at(now));
    let settings = PresignSettings { workers, background_nice: 0, segments: dir.map(Path::to_path_buf) };
    let presigner = Presigner::start(&settings, clock.clone());
    let issuer = lab.issuer("ca", IssuerSettings::default());
    presigner.add(&issuer);
    let store = Store::default();
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    Bench { lab, clock, store, issuer, presigner }
}

fn bench(workers: usize, dir: Option<&Path>) -> Bench {
    bench_of(Lab::new("Race"), workers, dir, SystemClock.now())
}

impl Bench {
    fn status(&self, n: u64) -> Option<CertStatus> {
        let der = request(&self.lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
        match self.store.answer(&Request::parse(&der).unwrap(), self.clock.now(), &mut Vec::new()) {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    }

    fn use_gate(&self, gate: &Arc<Gate>) {
        let gate = gate.clone();
        let before = move || {
            gate.pass();
            Ok(())
        };
        let key = Arc::new(Watched { key: self.lab.signer_key.clone(), before });
        let signer = ActiveSigner::new(key, self.lab.signer.clone(), &self.lab.ca);
        self.presigner.set_signer(&self.issuer, Some(Arc::new(signer)));
    }

    fn table(&self, n: u64, revoked_ones: &[u64]) {
        let bits = self.issuer.view().table.as_ref().map_or(Table::bits_for(n as usize, None), |table| table.bits());
        self.table_of(n, revoked_ones, bits);
    }

    fn table_of(&self, n: u64, revoked_ones: &[u64], bits: u8) {
        let status = |i| if revoked_ones.contains(&i) { revoked(when()) } else { CertStatus::Good };
        let entries: Vec<_> = (0..n).map(|i| (long_serial(i), status(i))).collect();
        self.presigner.set_table(&self.issuer, Table::build(&entries, bits, Unlisted::NotIssued).unwrap());
    }

    fn settle(&self) {
        common::settle(&self.presigner);
    }
}

fn when() -> Timestamp {
    Timestamp::from_unix(1_700_000_000)
}

const ALL: usize = usize::MAX;

#[test]
fn a_status_that_changes_back_while_its_change_is_signed_is_served_as_it_is_now() {
    let b = bench(1, None);
    let gate = Gate::new();
    gate.let_through(ALL);
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table(100, &[5]);
    b.settle();
    gate.let_through(0);
    b.table(100, &[]); // taken off hold
    gate.wait_until_someone_waits();
    b.table(100, &[5]); // and revoked again, while "good" is being signed
    gate.let_through(ALL);
    b.settle();
    assert_eq!(b.status(5), Some(revoked(when())));
}

#[test]
fn a_slice_that_was_being_signed_when_a_status_changed_back_does_not_bring_the_old_one_back() {
    let b = bench(1, None);
    let gate = Gate::new();
    gate.let_through(ALL);
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table(3, &[]);
    b.settle();
    gate.let_through(0);
    b.clock.set(b.clock.now().plus(DAY)); // a refresh begins, of three entries
    gate.wait_until_someone_waits();
    b.table(3, &[1]);
    b.table(2, &[1]); // and one is withdrawn
    gate.let_through(ALL);
    b.settle();
    assert_eq!((b.status(0), b.status(1), b.status(2)), (Some(CertStatus::Good), Some(revoked(when())), None));
}

#[test]
fn a_revocation_goes_out_between_the_signatures_of_a_slice() {
    let b = bench(1, None);
    let gate = Gate::new();
    gate.let_through(ALL);
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table(1000, &[]);
    b.settle();
    gate.let_through(0);
    b.clock.set(b.clock.now().plus(DAY));
    gate.wait_until_someone_waits();
    b.table(1000, &[7]);
    gate.let_through(100); // a tenth of the slice
    eventually(LIMIT, "revoked", || b.status(7) == Some(revoked(when())));
    gate.let_through(ALL);
    b.settle();
    assert_eq!(b.status(7), Some(revoked(when())));
}

#[test]
fn a_revocation_overtakes_new_certificates_and_each_change_is_signed_once() {
    for workers in [1, 3] {
        let b = bench(workers, None);
        let gate = Gate::new();
        gate.let_through(ALL);
        b.use_gate(&gate);
        let _opened = OpenedAtTheEnd(gate.clone());
        b.table_of(2000, &[], 0);
        b.settle();
        let before = b.presigner.signed();
        gate.let_through(0);
        // As they come, one file after another; each is read several times while the signer is slow.
        for n in [2200, 2400] {
            for _ in 0..3 {
                b.table_of(n, &[], 0);
            }
            gate.wait_until_someone_waits();
        }
        for _ in 0..3 {
            b.table_of(2400, &[7, 2300], 0);
        }
        // One thread gets there with a fifth of the signatures; several may get none of them for the revocation.
        gate.let_through(if workers == 1 { 80 } else { ALL });
        eventually(LIMIT, "revoked", || [7, 2300].iter().all(|n| b.status(*n) == Some(revoked(when()))));
        b.table_of(2400, &[7, 2300], 0);
        gate.let_through(ALL);
        b.settle();
        assert!((2000..2400).all(|n| b.status(n).is_some()));
        assert_eq!(b.status(2300), Some(revoked(when())));
        let signed = b.presigner.signed() - before;
        // Whoever has a change in hand when it changes again signs it for nothing.
        let most = 401 + workers as u64;
        assert!((401..=most).contains(&signed), "{signed} signatures for 401 changes, of which one came twice");
    }
}

#[test]
fn a_slice_that_became_due_twice_is_signed_once() {
    let b = bench(2, None);
    let gate = Gate::new();
    gate.let_through(ALL);
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table_of(100, &[], 0);
    b.settle();
    let before = b.presigner.signed();
    gate.let_through(0);
    let all: Vec<u64> = (0..2000).collect();
    for _ in 0..3 {
        b.table_of(2000, &all, 0); // too many to be signed one by one
        gate.wait_until_someone_waits();
    }
    gate.let_through(ALL);
    b.settle();
    assert_eq!(b.presigner.signed() - before, 2000);
}

#[test]
fn what_takes_the_place_of_an_answer_is_dated_after_it() {
    let b = bench(1, None);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(3, &[]);
    b.settle();
    let this_update =
        || b.issuer.slot().live().wave(HashAlgorithm::Sha1).unwrap().this_update(&long_serial(1)).unwrap();
    let now = b.clock.now();
    let on_hold: Vec<_> =
        (0..3).map(|n| (long_serial(n), if n == 1 { revoked(now) } else { CertStatus::Good })).collect();
    b.presigner.set_table(&b.issuer, Table::build(&on_hold, 0, Unlisted::NotIssued).unwrap());
    eventually(LIMIT, "revoked", || b.status(1) == Some(revoked(now)));
    b.settle();
    assert_eq!(this_update(), now);
    let mut before = now;
    for (later, n) in [(10, 3), (20, 6)] {
        b.clock.set(now.plus(Duration::from_secs(later)));
        b.table_of(n, &[], 0); // of so few the slice is signed again too, as a whole
        eventually(LIMIT, "off hold", || b.status(1) == Some(CertStatus::Good) && b.status(n - 1).is_some());
        b.settle();
        assert!(this_update() > before, "{later} seconds later");
        before = this_update();
    }
    // The CA revoked it when it revoked another one, and tells so only now.
    let late = [(long_serial(1), revoked(now)), (long_serial(2), revoked(now))];
    b.presigner.set_table(&b.issuer, Table::build(&late, 0, Unlisted::NotIssued).unwrap());
    eventually(LIMIT, "revoked", || b.status(1) == Some(revoked(now)));
    assert!(this_update() > before && this_update() <= b.clock.now());
}

#[test]
fn a_slice_is_signed_by_one_thread_at_a_time() {
    let b = bench(3, None);
    let gate = Gate::new();
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table(50, &[]);
    gate.wait_until_someone_waits();
    for _ in 0..5 {
        b.table(50, &[]); // never signed, so it becomes due again each time
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 1);
    gate.let_through(ALL);
    b.settle();
}

#[test]
fn a_revocation_that_came_while_there_was_no_signer_is_signed_when_there_is_one() {
    let b = bench(1, None);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(100, &[]);
    b.settle();
    b.presigner.set_signer(&b.issuer, None);
    b.table(100, &[9]);
    eventually(LIMIT, "told", || b.presigner.fault("ca").is_some());
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    eventually(Duration::from_secs(5), "revoked", || b.status(9) == Some(revoked(when())));
}

#[test]
fn a_revocation_does_not_wait_for_a_change_of_slicing() {
    let b = bench(1, None);
    let gate = Gate::new();
    gate.let_through(ALL);
    b.use_gate(&gate);
    let _opened = OpenedAtTheEnd(gate.clone());
    b.table_of(2000, &[], 0);
    b.settle();
    gate.let_through(0);
    b.table_of(2000, &[11], 2); // cut anew and revoked at once
    gate.let_through(100);
    eventually(LIMIT, "revoked", || b.status(11) == Some(revoked(when())));
    gate.let_through(ALL);
    b.settle();
}

#[test]
fn after_the_clock_was_set_back_nothing_is_served_that_is_not_valid_yet() {
    let start = SystemClock.now();
    let b = bench_of(Lab::with("Clock", stillgood::signer::KeyKind::EcdsaP256, start, 30 * DAY), 1, None, start);
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.clock.set(start.plus(DAY));
    b.table(100, &[4]);
    b.settle();
    b.clock.set(start); // it had been a day fast
    assert!(b.status(4).is_none(), "thisUpdate lies a day ahead");
    eventually(LIMIT, "signed anew", || b.status(4) == Some(revoked(when())) && b.status(5).is_some());
}

#[test]
fn a_slicing_that_was_given_up_is_not_served_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let b = bench(1, Some(tmp.path()));
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table_of(2000, &[], 2);
    b.settle();
    b.table_of(1000, &[], 0); // fewer entries, fewer slices
    b.settle();
    b.table_of(1000, &[8], 0);
    eventually(LIMIT, "revoked", || b.status(8).is_some_and(|status| status != CertStatus::Good));
    b.clock.set(b.clock.now().plus(DAY)); // absorbed
    eventually(LIMIT, "absorbed", || {
        b.issuer.slot().live().wave(HashAlgorithm::Sha1).is_some_and(|wave| wave.overlay_len() == 0)
    });
    b.settle();
    let (lab, now) = (b.lab, b.clock.now());
    drop(b.presigner);
    let again = bench_of(lab, 1, Some(tmp.path()), now);
    assert_eq!(again.status(8), Some(revoked(when())), "before any source is read");
    assert_eq!(again.status(1500), None);
    let dir = std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "one slice and nothing else");
}

#[test]
fn many_small_changes_do_not_leave_a_segment_each() {
    let tmp = tempfile::tempdir().unwrap();
    let b = bench(1, Some(tmp.path()));
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table_of(1000, &[], 0);
    b.settle();
    for n in 0..200 {
        b.table_of(1001 + n, &[], 0);
        eventually(LIMIT, "served", || b.status(1000 + n).is_some());
    }
    b.settle();
    let segments = b.issuer.slot().live().wave(HashAlgorithm::Sha1).unwrap().segments().len();
    assert!(segments <= 70, "{segments} segments");
    let dir = std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(dir).unwrap().count();
    assert_eq!(files, segments, "absorbed overlays leave no file");
    assert!((0..1200).all(|n| b.status(n).is_some()));
}

#[test]
fn a_disk_that_takes_no_more_leaves_no_file_that_says_otherwise() {
    let tmp = tempfile::tempdir().unwrap();
    let b = bench(1, Some(tmp.path()));
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(100, &[]);
    b.settle();
    let dir = std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path();
    // What cannot be renamed into place stands for a full disk: both names are directories that are not empty.
    for n in 2..10 {
        std::fs::create_dir_all(dir.join(format!("sha1-overlay-{n}.seg/x"))).unwrap();
    }
    b.table(100, &[6]);
    eventually(LIMIT, "served", || b.status(6) == Some(revoked(when())));
    b.settle();
    let (lab, now) = (b.lab, b.clock.now());
    drop(b.presigner);
    assert!(std::fs::read_dir(&dir).unwrap().flatten().all(|e| e.path().extension().is_some_and(|x| x == "seg")));
    let again = bench_of(lab, 1, Some(tmp.path()), now);
    assert_ne!(again.status(6), Some(CertStatus::Good), "a revoked certificate is good again after a restart");
}

#[test]
fn a_pipe_among_the_segments_does_not_stop_the_start() {
    let tmp = tempfile::tempdir().unwrap();
    let b = bench(1, Some(tmp.path()));
    b.presigner.set_signer(&b.issuer, Some(b.lab.active_signer()));
    b.table(10, &[]);
    b.settle();
    let dir = std::fs::read_dir(tmp.path()).unwrap().next().unwrap().unwrap().path();
    assert!(std::process::Command::new("mkfifo").arg(dir.join("sha1-0-9.seg")).status().unwrap().success());
    std::fs::write(dir.join("sha1-0-8.seg"), "").unwrap();
    std::fs::create_dir(dir.join("sha1-0-7.seg")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.join("sha1-0-6.seg")).unwrap();
    let issuer = b.lab.issuer("ca", IssuerSettings::default());
    assert_eq!(b.presigner.add(&issuer).len(), 4, "each is named");
    assert!(issuer.slot().live().wave(HashAlgorithm::Sha1).is_some());
}
