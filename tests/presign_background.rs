//! Who signs what once everything has been signed: whole slices a thread that gives way, revocations one that does not. Alone in
//! its process, as it looks at the process's threads.
#![cfg(target_os = "linux")]

mod common;

use common::{Lab, Watched, eventually, long_serial, request, revoked, table};
use std::fs::DirEntry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use stillgood::ocsp::{CertStatus, HashAlgorithm, Request};
use stillgood::presign::{IssuerSettings, PresignSettings, Presigner, Table, Unlisted};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, SystemClock};

const LIMIT: Duration = Duration::from_secs(60);
const NICE: i32 = 5;

/// The nice value of this process's thread of this name.
fn nice(name: &str) -> Option<i32> {
    let of = |task: DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let is_it = head.split_once('(')?.1 == name;
        rest.split_ascii_whitespace().nth(16)?.parse().ok().filter(|_| is_it)
    };
    std::fs::read_dir("/proc/self/task").unwrap().find_map(|task| of(task.ok()?))
}

#[test]
fn what_is_urgent_is_signed_while_a_thread_that_gives_way_signs_a_slice() {
    let mut lab = Lab::new("U");
    // A key that takes its time on threads that sign slices, as RSA does on a busy machine.
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = is_slow.clone();
    let before = move || {
        while slow.load(Ordering::SeqCst) && thread::current().name() == Some("presign-slice") {
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    lab.signer_key = Arc::new(Watched { key: lab.signer_key.clone(), before });
    let settings = PresignSettings { workers: 2, background_nice: NICE, segments: None };
    let presigner = Presigner::start(&settings, Arc::new(SystemClock) as Arc<dyn Clock>);
    let issuer = lab.issuer("ca-1", IssuerSettings::default());
    assert!(presigner.add(&issuer).is_empty());
    let store = Store::default();
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    let status = |n| {
        let der = request(&lab.hashes(HashAlgorithm::Sha1), &[long_serial(n)], None);
        match store.answer(&Request::parse(&der).unwrap(), SystemClock.now(), &mut Vec::new()) {
            Lookup::Ready { status, .. } => Some(status),
            _ => None,
        }
    };
    presigner.set_signer(&issuer, Some(lab.active_signer()));
    presigner.set_table(&issuer, table(1000, 0, None));
    presigner.mark_begun();
    let is_idle = || presigner.stats().backlog == 0 && presigner.stats().missing == 0;
    eventually(LIMIT, "all is signed, and one of two threads has ended", || is_idle() && nice("presign-1").is_none());
    let usual = nice("presign-0").expect("the thread that stays");

    is_slow.store(true, Ordering::SeqCst);
    let less = NICE.max(usual);
    eventually(LIMIT, "a thread that gives way signs a slice", || {
        // It may not have noticed yet that all is signed, and have signed this one itself.
        if is_idle() {
            presigner.resign(&issuer);
        }
        nice("presign-slice") == Some(less)
    });
    let signed = presigner.stats().signed;
    let when = SystemClock.now().minus(Duration::from_secs(1));
    let entries: Vec<_> =
        (0..1000).map(|n| (long_serial(n), if n == 77 { revoked(when) } else { CertStatus::Good })).collect();
    let bits = issuer.view().table.as_ref().unwrap().bits();
    presigner.set_table(&issuer, Table::build(&entries, bits, Unlisted::NotIssued).unwrap());
    eventually(LIMIT, "the revocation is served", || status(77) == Some(revoked(when)));
    assert_eq!(presigner.stats().signed, signed + 1, "the slice is still being signed");
    assert_eq!((nice("presign-0"), nice("presign-slice")), (Some(usual), Some(less)));

    is_slow.store(false, Ordering::SeqCst);
    eventually(LIMIT, "the slice is signed", is_idle);
    assert!(presigner.stats().signed > signed + 1 && status(77) == Some(revoked(when)));
}
