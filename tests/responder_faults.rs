//! One of an issuer's sources cannot be used: the others are followed all the same, and nothing that is revoked becomes good.

mod common;

use common::site::{LIMIT, Said, Site, files, read, serve, site, write_crl, write_index};
use common::{DAY, Lab, eventually, long_serial};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stillgood::endpoint::{Server, Settings};
use stillgood::ocsp::HashAlgorithm;
use stillgood::presign::{DemandSettings, IssuerSettings};
use stillgood::responder::{IssuerSpec, Responder, ResponderSettings};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};
use stillgood::x509::issue::{CrlEntry, CrlSpec};

const SHA1: HashAlgorithm = HashAlgorithm::Sha1;
const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

fn both() -> Site {
    let site = site(&["index", "crl"], IssuerSettings::default(), DemandSettings::default());
    eventually(LIMIT, "served", || site.said(SHA1, 5) == Said::Good);
    site
}

fn put(site: &Site, file: &str, content: impl AsRef<[u8]>) {
    put_in(site.dir.path(), file, content);
}

fn put_in(dir: &Path, file: &str, content: impl AsRef<[u8]>) {
    std::fs::write(dir.join("aside"), content).unwrap();
    std::fs::rename(dir.join("aside"), dir.join(file)).unwrap();
}

fn fault(site: &Site) -> Option<String> {
    site.responder.reports()[0].status_fault.clone()
}

fn is_told(site: &Site, what: &str) {
    eventually(LIMIT, what, || fault(site).is_some_and(|fault| fault.contains(what)));
}

fn is_mended(site: &Site) {
    eventually(LIMIT, "nothing is wrong any more", || fault(site).is_none());
}

#[test]
fn a_crl_cut_short_keeps_no_revocation_of_the_index_back_and_takes_none_back() {
    let site = both();
    let whole = std::fs::read(site.dir.path().join("ca.crl")).unwrap();
    put(&site, "ca.crl", &whole[..whole.len() / 2]);
    is_told(&site, "ca.crl");

    write_index(site.dir.path(), 501, &[3, 5]);
    eventually(LIMIT, "revoked by the index", || site.said(SHA1, 5) == Said::Revoked);
    assert_eq!(site.said(SHA1, 9), Said::Revoked, "by the CRL as it was last read");
    eventually(LIMIT, "issued", || site.said(SHA1, 500) == Said::Good);
    assert_eq!(site.said(SHA1, 4711), Said::Error(6), "not issued: unauthorized");

    // The CRL may say otherwise of what the index does not revoke any more.
    write_index(site.dir.path(), 502, &[5]);
    eventually(LIMIT, "read", || site.said(SHA1, 501) == Said::Good);
    assert_eq!((site.said(SHA1, 3), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
    let reports = site.responder.reports();
    assert_eq!(reports[0].sources.iter().map(|source| source.entries).collect::<Vec<_>>(), [502, 1]);
    assert_eq!(reports[0].cannot_answer(SystemClock.now()), None);
    is_told(&site, "ca.crl");

    put(&site, "ca.crl", &whole);
    is_mended(&site);
    eventually(LIMIT, "off hold", || site.said(SHA1, 3) == Said::Good);
    assert_eq!((site.said(SHA1, 5), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
}

#[test]
fn an_index_that_is_gone_or_cut_short_keeps_no_revocation_of_the_crl_back() {
    let site = both();
    std::fs::remove_file(site.dir.path().join("index.txt")).unwrap();
    is_told(&site, "index.txt");
    write_crl(site.dir.path(), &site.lab, &[7, 9], DAY);
    eventually(LIMIT, "revoked by the CRL", || site.said(SHA1, 7) == Said::Revoked);
    assert_eq!((site.said(SHA1, 3), site.said(SHA1, 5)), (Said::Revoked, Said::Good));
    assert_eq!(site.said(SHA1, 4711), Said::Error(6), "the index did not list it");

    // Of the lines that are there it is believed who is revoked.
    write_index(site.dir.path(), 100, &[3, 50]);
    is_told(&site, "cut short");
    eventually(LIMIT, "revoked by what is left", || site.said(SHA1, 50) == Said::Revoked);
    assert_eq!((site.said(SHA1, 7), site.said(SHA1, 499)), (Said::Revoked, Said::Good));
    write_index(site.dir.path(), 500, &[3]);
    is_mended(&site);
    eventually(LIMIT, "read", || site.said(SHA1, 50) == Said::Good);
    assert_eq!((site.said(SHA1, 7), site.said(SHA1, 9)), (Said::Revoked, Said::Revoked));
}

#[test]
fn an_old_crl_put_back_keeps_no_revocation_of_the_index_back() {
    let site = both();
    let now = SystemClock.now();
    let old = CrlSpec {
        issuer: site.lab.ca.subject_der().to_vec(),
        this_update: now.minus(DAY),
        next_update: Some(now.plus(DAY)),
        entries: vec![CrlEntry { serial: long_serial(4), revoked_at: now.minus(2 * DAY), reason: None }],
        extensions: vec![CrlSpec::number(1)],
    };
    put(&site, "ca.crl", old.sign(&site.lab.ca_key).unwrap());
    is_told(&site, "put back");
    write_index(site.dir.path(), 500, &[3, 5]);
    eventually(LIMIT, "revoked by the index", || site.said(SHA1, 5) == Said::Revoked);
    assert_eq!((site.said(SHA1, 9), site.said(SHA1, 4)), (Said::Revoked, Said::Good), "the old one is not used");
}

/// A CRL with a thisUpdate so many seconds from now.
fn dated(dir: &Path, lab: &Lab, ahead: i64, revoked: &[u64]) {
    let now = SystemClock.now();
    let this_update = Timestamp::from_unix(now.unix() + ahead);
    let entry = |n: &u64| CrlEntry { serial: long_serial(*n), revoked_at: now.minus(DAY), reason: None };
    let crl = CrlSpec {
        issuer: lab.ca.subject_der().to_vec(),
        this_update,
        next_update: Some(this_update.plus(DAY)),
        entries: revoked.iter().map(entry).collect(),
        extensions: vec![CrlSpec::number(1)],
    };
    put_in(dir, "ca.crl", crl.sign(&lab.ca_key).unwrap());
}

/// An issuer with a CRL only, at a time of ours.
fn only_a_crl(dir: tempfile::TempDir, lab: Lab) -> (Site, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let settings = ResponderSettings { clock: clock.clone(), ..ResponderSettings::default() };
    (serve(dir, lab, &["crl"], IssuerSettings::default(), settings), clock)
}

#[test]
fn a_crl_dated_ahead_of_our_clock_waits_and_its_correction_is_taken() {
    let (dir, lab) = files();
    let (site, clock) = only_a_crl(dir, lab);
    let dated = |ahead, revoked: &[u64]| dated(site.dir.path(), &site.lab, ahead, revoked);
    eventually(LIMIT, "served", || site.said(SHA1, 9) == Said::Revoked);
    // By less than clients allow: it is current.
    dated(200, &[7, 9]);
    eventually(LIMIT, "taken over", || site.said(SHA1, 7) == Said::Revoked);
    assert_eq!((site.said(SHA1, 70), fault(&site)), (Said::Good, None));

    dated(3 * 3600, &[8, 9]);
    is_told(&site, "lies ahead of our clock");
    eventually(LIMIT, "what it revokes is", || site.said(SHA1, 8) == Said::Revoked);
    assert_eq!((site.said(SHA1, 71), site.said(SHA1, 7)), (Said::Good, Said::Revoked));
    assert_eq!(site.responder.reports()[0].cannot_answer(clock.now()), None);

    // A correct one, older than both: neither has been current.
    dated(10, &[9]);
    is_mended(&site);
    eventually(LIMIT, "taken over", || site.said(SHA1, 7) == Said::Good && site.said(SHA1, 8) == Said::Good);
    assert_eq!((site.said(SHA1, 72), site.said(SHA1, 9)), (Said::Good, Said::Revoked));

    // Left alone, it is taken over when its time has come.
    dated(3600, &[]);
    is_told(&site, "lies ahead of our clock");
    assert_eq!(site.said(SHA1, 9), Said::Revoked);
    clock.set(clock.now().plus(Duration::from_secs(3590)));
    is_mended(&site);
    eventually(LIMIT, "taken over", || site.said(SHA1, 9) == Said::Good);
}

#[test]
fn at_a_start_a_crl_dated_ahead_revokes_and_vouches_for_nobody_and_is_told() {
    let (dir, lab) = files();
    dated(dir.path(), &lab, 3600, &[9]);
    let (site, clock) = only_a_crl(dir, lab);
    eventually(LIMIT, "revoked", || site.said(SHA1, 9) == Said::Revoked);
    assert_eq!(site.said(SHA1, 70), Said::Error(3));
    let why = || {
        site.responder.poll();
        site.responder.reports()[0].cannot_answer(clock.now())
    };
    eventually(LIMIT, "told", || why().is_some_and(|why| why.contains("not valid before")));
    dated(site.dir.path(), &site.lab, 0, &[9]);
    eventually(LIMIT, "a correct one is taken over", || why().is_none());
    assert_eq!((site.said(SHA1, 70), fault(&site)), (Said::Good, None));
}

#[test]
fn at_a_start_with_a_bad_crl_what_the_index_revokes_is_revoked_and_nothing_new_is_called_good() {
    for is_warm in [true, false] {
        let first = both();
        let path = |file: &str| first.dir.path().join(file);
        let start = || {
            let responder = Responder::start(ResponderSettings {
                state_dir: is_warm.then(|| path("state")),
                ..ResponderSettings::default()
            });
            let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
            let spec = spec.with_signer(path("ocsp.pem"), path("ocsp.key"));
            responder.set_issuers(vec![spec.with_index(path("index.txt")).with_crl(path("ca.crl"))]);
            responder
        };
        let before = start();
        eventually(LIMIT, "signed", || {
            before.poll();
            before.reports()[0].is_complete
        });
        drop(before);

        let whole = std::fs::read(path("ca.crl")).unwrap();
        put(&first, "ca.crl", "half a CRL");
        write_index(first.dir.path(), 500, &[3, 5]);
        let responder = start();
        let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        let handle = Server::start(&responder.service(), listen).unwrap();
        let said = |algorithm, n| {
            let request = common::request(&first.lab.hashes(algorithm), &[long_serial(n)], None);
            read(&common::site::post(handle.addresses()[0], &request).1).remove(0)
        };
        eventually(LIMIT, "revoked since", || said(SHA1, 5) == Said::Revoked);
        assert_eq!((said(SHA1, 3), said(SHA256, 5)), (Said::Revoked, Said::Revoked));
        assert_eq!(said(SHA1, 6), if is_warm { Said::Good } else { Said::Error(3) }, "what was signed lasts");
        assert_eq!(said(SHA1, 9), if is_warm { Said::Revoked } else { Said::Error(3) }, "only the CRL knows");
        assert_eq!(said(SHA256, 6), Said::Error(3), "the CRL may revoke it");
        assert_eq!(said(SHA1, 4711), Said::Error(3), "it may have been issued");
        let report = || responder.reports()[0].clone();
        assert!(report().cannot_answer(SystemClock.now()).is_some_and(|why| why.contains("ca.crl")));

        put(&first, "ca.crl", &whole);
        eventually(LIMIT, "all is well", || {
            responder.poll();
            report().status_fault.is_none() && report().cannot_answer(SystemClock.now()).is_none()
        });
        assert_eq!((said(SHA1, 6), said(SHA256, 6), said(SHA1, 4711)), (Said::Good, Said::Good, Said::Error(6)));
        assert_eq!((said(SHA1, 5), said(SHA1, 9)), (Said::Revoked, Said::Revoked));
    }
}

/// One process after another over the same files and the same state.
struct Restarts {
    dir: tempfile::TempDir,
    lab: Lab,
    clock: Arc<ManualClock>,
}

/// One of these processes.
struct Process {
    responder: Responder,
    handle: stillgood::endpoint::Handle,
}

impl Restarts {
    fn new() -> Self {
        let (dir, lab) = files();
        Restarts { dir, lab, clock: Arc::new(ManualClock::at(SystemClock.now())) }
    }

    fn start(&self) -> Process {
        let path = |file: &str| self.dir.path().join(file);
        let state_dir = Some(path("state"));
        let responder = Responder::start(ResponderSettings {
            state_dir,
            clock: self.clock.clone(),
            ..ResponderSettings::default()
        });
        responder.set_issuers(vec![self.spec("index.txt")]);
        let listen = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        let handle = Server::start(&responder.service(), listen).unwrap();
        Process { responder, handle }
    }

    fn spec(&self, index: &str) -> IssuerSpec {
        let path = |file: &str| self.dir.path().join(file);
        let spec = IssuerSpec::from_files("ca", &path("ca.pem")).unwrap();
        spec.with_signer(path("ocsp.pem"), path("ocsp.key")).with_index(path(index))
    }

    fn put(&self, content: impl AsRef<[u8]>) {
        put_in(self.dir.path(), "index.txt", content);
    }

    fn said(&self, process: &Process, n: u64) -> Said {
        let request = common::request(&self.lab.hashes(SHA1), &[long_serial(n)], None);
        read(&common::site::post(process.handle.addresses()[0], &request).1).remove(0)
    }

    /// After another look, as long after the one before as a failed source waits.
    fn not_ready(&self, process: &Process) -> Option<String> {
        self.clock.set(self.clock.now().plus(Duration::from_secs(11)));
        process.responder.poll();
        process.responder.reports()[0].cannot_answer(self.clock.now())
    }

    fn is_ready(&self, process: &Process) {
        eventually(LIMIT, "ready", || self.not_ready(process).is_none());
        assert_eq!(process.responder.reports()[0].status_fault, None);
    }
}

#[test]
fn at_a_start_an_index_that_was_emptied_or_is_none_leaves_what_was_signed_and_is_not_ready() {
    let files = Restarts::new();
    let whole = std::fs::read_to_string(files.dir.path().join("index.txt")).unwrap();
    let rest: String = (0..100).map(|n| common::site::index_line(n, n == 50)).collect();
    let spaces = whole.replace('\t', " ");
    let crl = std::fs::read(files.dir.path().join("ca.crl")).unwrap();
    files.is_ready(&files.start());
    let cases: [(&[u8], &str); 5] = [
        (b"", "500 of 500 certificates"),
        (rest.as_bytes(), "400 of 500 certificates"),
        (&whole.as_bytes()[..whole.len() - 90], "the last line has no end"),
        (spaces.as_bytes(), "line 1: 1 fields"),
        (&crl, "can be read"),
    ];
    for (content, told) in cases {
        files.put(content);
        let process = files.start();
        // Also when it is looked at again.
        for _ in 0..3 {
            let why = files.not_ready(&process).expect("not ready");
            assert!(why.contains(told) && why.contains("index.txt"), "{told}: {why}");
        }
        assert_eq!((files.said(&process, 3), files.said(&process, 6)), (Said::Revoked, Said::Good), "{told}");
        assert_eq!((files.said(&process, 499), files.said(&process, 4711)), (Said::Good, Said::Error(3)), "{told}");
        if told.starts_with("400") {
            eventually(LIMIT, "what is left revokes", || files.said(&process, 50) == Said::Revoked);
        }
        files.put(&whole);
        files.is_ready(&process);
        eventually(LIMIT, "all is said", || files.said(&process, 50) == Said::Good);
        assert_eq!((files.said(&process, 3), files.said(&process, 4711)), (Said::Revoked, Said::Error(6)), "{told}");
    }
}

#[test]
fn an_index_that_is_meant_to_be_so_is_taken_by_another_name_or_without_what_was_signed() {
    let files = Restarts::new();
    files.is_ready(&files.start());
    files.put("");
    let process = files.start();
    let why = files.not_ready(&process).expect("not ready");
    drop(process);
    let kept = why.split("remove ").nth(1).and_then(|rest| rest.split(" and ").next()).expect("says what to do");
    std::fs::remove_dir_all(kept).unwrap();
    let process = files.start();
    files.is_ready(&process);
    assert_eq!(files.said(&process, 3), Said::Error(6));

    write_index(files.dir.path(), 500, &[3]);
    files.is_ready(&process);
    eventually(LIMIT, "signed", || files.said(&process, 3) == Said::Revoked);
    drop(process);
    files.put("");
    let process = files.start();
    assert!(files.not_ready(&process).is_some());
    put_in(files.dir.path(), "new.txt", "");
    process.responder.set_issuers(vec![files.spec("new.txt")]);
    files.is_ready(&process);
    eventually(LIMIT, "taken over", || files.said(&process, 3) == Said::Error(6));
}

#[test]
fn a_start_takes_an_index_that_is_empty_from_the_first_and_one_that_lost_a_few() {
    let files = Restarts::new();
    files.put("");
    for _ in 0..2 {
        let process = files.start();
        files.is_ready(&process);
        assert_eq!(files.said(&process, 3), Said::Error(6));
    }
    write_index(files.dir.path(), 500, &[3]);
    let process = files.start();
    files.is_ready(&process);
    eventually(LIMIT, "all are signed", || files.said(&process, 499) == Said::Good);
    drop(process);
    write_index(files.dir.path(), 300, &[3]);
    let process = files.start();
    files.is_ready(&process);
    eventually(LIMIT, "taken over", || files.said(&process, 400) == Said::Error(6));
    assert_eq!((files.said(&process, 3), files.said(&process, 6)), (Said::Revoked, Said::Good));
}

#[test]
fn an_index_of_which_no_line_can_be_read_changes_nothing() {
    let site = both();
    let whole = std::fs::read_to_string(site.dir.path().join("index.txt")).unwrap();
    put(&site, "index.txt", whole.replace('\t', " "));
    is_told(&site, "none of its 500 lines can be read");
    write_crl(site.dir.path(), &site.lab, &[7, 9], DAY);
    eventually(LIMIT, "revoked by the CRL", || site.said(SHA1, 7) == Said::Revoked);
    assert_eq!((site.said(SHA1, 3), site.said(SHA1, 5)), (Said::Revoked, Said::Good));
    assert_eq!(site.said(SHA1, 4711), Said::Error(6), "the index did not list it");
    assert_eq!(site.responder.reports()[0].cannot_answer(SystemClock.now()), None);
    put(&site, "index.txt", whole);
    is_mended(&site);
}
