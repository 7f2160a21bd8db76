//! Reading a request allocates nothing, whichever path reads it; decoding a GET path and looking an answer up only fill
//! their buffers.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use stillgood::ocsp::{HashAlgorithm, Request, decode_get_path};
use stillgood::presign::{IssuerSettings, PresignSettings, Presigner};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, SystemClock};

/// The system's allocator, counting per thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps what `alloc` asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks of it.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_dir(directory).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn reading_any_request_allocates_nothing() {
    assert!(allocations(|| drop(vec![0_u8; 9])) > 0, "the counter counts");
    for der in corpus("request") {
        let mut ids = 0;
        let count = allocations(|| {
            if let Ok(request) = Request::parse(&der) {
                ids = request.cert_ids().count() + request.preferred_signature_oids().count();
            }
        });
        assert_eq!(count, 0, "{ids} CertIDs in {der:02x?}");
    }
}

#[test]
fn decoding_a_path_allocates_nothing_beyond_a_buffer_that_is_large_enough() {
    let mut out = Vec::with_capacity(Request::MAX_LEN);
    for path in corpus("get_path") {
        assert_eq!(
            allocations(|| {
                let _ = decode_get_path(&path, &mut out);
            }),
            0
        );
    }
}

#[test]
fn looking_an_answer_up_allocates_nothing_beyond_a_buffer_that_is_large_enough() {
    let lab = common::Lab::new("Allocations");
    let settings = PresignSettings { workers: 1, background_nice: 0, segments: None };
    let presigner = Presigner::start(&settings, Arc::new(SystemClock));
    let issuer = lab.issuer("ca", IssuerSettings::default());
    assert!(presigner.add(&issuer).is_empty());
    let store = Store::default();
    store.set_routes(Routes::new(vec![issuer.slot().clone()]));
    presigner.set_signer(&issuer, Some(lab.active_signer()));
    presigner.set_table(&issuer, common::table(5000, 10, None));
    common::eventually(Duration::from_secs(60), "signed", || {
        presigner.stats().missing == 0 && presigner.stats().slices > 0
    });
    let mut out = Vec::with_capacity(4096);
    // The first look of a thread at an ArcSwap takes a place in its list.
    let mut ask = |n: u64| {
        let der = common::request(&lab.hashes(HashAlgorithm::Sha1), &[common::long_serial(n)], None);
        let request = Request::parse(&der).unwrap();
        let now = SystemClock.now();
        out.clear();
        let mut lookup = Lookup::NotHere;
        let count = allocations(|| lookup = store.answer(&request, now, &mut out));
        (count, lookup)
    };
    ask(0);
    for n in 0..5000 {
        let (count, lookup) = ask(n);
        assert!(matches!(lookup, Lookup::Ready { .. }), "serial {n}: {lookup:?}");
        assert_eq!(count, 0, "serial {n}");
    }
    assert_eq!(ask(5000), (0, Lookup::NotHere));
}
