//! What happens between a request that has been read and its answer, and behind it: lookup and assembly, signing,
//! signing ahead, a warm start, and finding what a new index changes.
//!
//! `cargo bench --bench store`; `STILLGOOD_BENCH_LARGE=1` adds five million certificates, which takes about 2 GB.
//!
//! Stores are put together from segments whose signatures are filler but for the first of each, which a warm start
//! verifies; signing a million answers would take half a minute and measure nothing that is measured here.

#[path = "../tests/common/mod.rs"]
mod common;

use bytes::Bytes;
use common::{DAY, Lab, long_serial, request, revoked};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::ocsp::{
    CertStatus, HashAlgorithm, Profile, Request, ResponderId, Serial, Single, Template, TemplateSpec,
};
use stillgood::presign::{IssuerSettings, PresignSettings, Presigner, Table, Unlisted};
use stillgood::status::{StatusEntry, StatusSet};
use stillgood::store::{Part, Routes, Segment, SegmentDir, SegmentMeta, Store, Wave};
use stillgood::time::{Clock, SystemClock, Timestamp};

/// Entries of one measured stretch of signing: about half a second.
const SIGNED: u64 = 16_384;

fn status(n: u64) -> CertStatus {
    if n.is_multiple_of(100) { revoked(Timestamp::from_unix(1_790_000_000)) } else { CertStatus::Good }
}

fn entries(n: u64) -> Vec<(Serial, CertStatus)> {
    (0..n).map(|i| (long_serial(i), status(i))).collect()
}

fn template(lab: &Lab, now: Timestamp) -> Template {
    Template::new(TemplateSpec {
        issuer: lab.hashes(HashAlgorithm::Sha1),
        responder: ResponderId::Key(lab.signer.responder_key_hash()),
        this_update: now.minus(Duration::from_secs(300)),
        next_update: now.plus(4 * DAY),
        produced_at: now,
        algorithm: lab.signer_key.algorithm(),
        certificate: Some(lab.signer.der().to_vec()),
        single_extensions: Vec::new(),
    })
}

/// A segment for every slice of the table.
fn segments(lab: &Lab, issuer_key: [u8; 32], table: &Table, now: Timestamp) -> Vec<Segment> {
    let template = template(lab, now);
    let (settings, bits) = (IssuerSettings::default().fingerprint(), table.bits());
    (0..1 << bits)
        .map(|index| {
            let keys = table.slice(index as usize).expect("a slice").clone();
            let mut raw: Vec<u8> = Vec::new();
            if let Some((serial, status)) = keys.iter().next() {
                let mut tbs = Vec::new();
                template.tbs(&[Single::new(&serial, status)], &[], &mut tbs);
                lab.signer_key.sign_raw(&tbs, &mut raw).expect("a signature");
            }
            let filler = (raw.len()..keys.len() * 64).map(|i| (i * 31) as u8 | 0x40);
            let raw: Vec<u8> = raw.iter().copied().chain(filler).collect();
            let (part, sequence) = (Part::Slice { bits, index }, u64::from(index) + 1);
            let meta = SegmentMeta { issuer_key, part, sequence, refresh_at: now.plus(DAY), settings };
            Segment::new(meta, template.clone(), keys, Bytes::from(raw)).expect("a segment")
        })
        .collect()
}

fn wave(segments: Vec<Segment>, bits: u8) -> Wave {
    segments.into_iter().fold(Wave::empty(bits), |wave, segment| wave.with(Arc::new(segment)))
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup and assemble");
    let lab = Lab::new("Bench");
    let now = SystemClock.now();
    let der = request(&lab.hashes(HashAlgorithm::Sha1), &[long_serial(0)], None);
    let large = std::env::var_os("STILLGOOD_BENCH_LARGE").map(|_| 5_000_000);
    for n in [10_000, 1_000_000].into_iter().chain(large) {
        let table = Table::build(&entries(n), Table::bits_for(n as usize, None), Unlisted::NotIssued).expect("a table");
        let issuer = lab.issuer("bench", IssuerSettings::default());
        let wave = Arc::new(wave(segments(&lab, *issuer.key_id(), &table, now), table.bits()));
        issuer.slot().update(|live| live.with_wave(HashAlgorithm::Sha1, Some(wave.clone())));
        let store = Store::default();
        store.set_routes(Routes::new(vec![issuer.slot().clone()]));
        let mut request = Request::parse(&der).expect("a request");
        let mut out = Vec::new();
        let mut i = 0_u64;
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| {
                // A step that is prime to both sizes visits every entry, none twice before all others.
                i = (i + 3_999_971) % n;
                request.first.serial = long_serial(i);
                out.clear();
                store.answer(black_box(&request), now, &mut out)
            })
        });
        // Nothing was asked where a filter left this bench out.
        assert!(i == 0 || out.len() > 500, "answers were found");
    }
}

fn bare_key() -> EcdsaKeyPair {
    let rng = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).expect("a key")
}

fn sign(c: &mut Criterion) {
    let lab = Lab::new("Bench");
    let template = template(&lab, SystemClock.now());
    let (key, rng) = (bare_key(), ring::rand::SystemRandom::new());
    let mut tbs = Vec::new();
    template.tbs(&[Single::new(&long_serial(1), CertStatus::Good)], &[], &mut tbs);
    let mut group = c.benchmark_group("sign");
    group.bench_function("bare ring, ECDSA P-256", |b| b.iter(|| key.sign(&rng, black_box(&tbs)).is_ok()));
    let mut raw = Vec::new();
    group.bench_function("one entry of a wave", |b| {
        b.iter(|| {
            tbs.clear();
            raw.clear();
            template.tbs(&[Single::new(&long_serial(1), CertStatus::Good)], &[], &mut tbs);
            lab.signer_key.sign_raw(black_box(&tbs), &mut raw).is_ok()
        })
    });
}

/// Signing ahead on one thread, from the order to sign to everything being served, against a loop that does nothing but
/// sign as many messages of the same length.
fn presign(c: &mut Criterion) {
    let lab = Lab::new("Bench");
    let table = Table::build(&entries(SIGNED), 3, Unlisted::NotIssued).expect("a table");
    let ahead = || {
        let settings = PresignSettings { workers: 1, background_nice: 0, segments: None };
        let presigner = Presigner::start(&settings, Arc::new(SystemClock));
        let issuer = lab.issuer("bench", IssuerSettings::default());
        presigner.add(&issuer);
        presigner.set_signer(&issuer, Some(lab.active_signer()));
        let start = Instant::now();
        presigner.set_table(&issuer, table.clone());
        while presigner.stats().signed < SIGNED {
            std::thread::sleep(Duration::from_millis(1));
        }
        start.elapsed()
    };
    let (key, rng) = (bare_key(), ring::rand::SystemRandom::new());
    let mut tbs = Vec::new();
    template(&lab, SystemClock.now()).tbs(&[Single::new(&long_serial(1), CertStatus::Good)], &[], &mut tbs);
    let bare = || {
        let start = Instant::now();
        for _ in 0..SIGNED {
            black_box(key.sign(&rng, black_box(&tbs)).is_ok());
        }
        start.elapsed()
    };
    let mut ratios: Vec<f64> = (0..5).map(|_| bare().as_secs_f64() / ahead().as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let [least, .., most] = ratios.as_slice() else { return };
    println!("presign throughput: {:.3} [{least:.3}, {most:.3}] of a bare signing loop; goal at least 0.9", ratios[2]);

    let mut group = c.benchmark_group("presign");
    group.sample_size(10).throughput(Throughput::Elements(SIGNED));
    group.bench_function("ahead, one thread", |b| b.iter_custom(|n| (0..n).map(|_| ahead()).sum()));
    group.bench_function("bare ring loop", |b| b.iter_custom(|n| (0..n).map(|_| bare()).sum()));
}

/// From files to being served: mapped, checksums compared, the first signature of each file verified.
fn warm(c: &mut Criterion) {
    let lab = Lab::new("Bench");
    let now = SystemClock.now();
    let n = 1_000_000;
    let table = Table::build(&entries(n), Table::bits_for(n as usize, None), Unlisted::NotIssued).expect("a table");
    let dir = tempfile::tempdir().expect("a directory");
    write(&lab, &table, now, dir.path());
    let mut group = c.benchmark_group("warm start");
    group.sample_size(10).throughput(Throughput::Elements(n));
    group.bench_function(BenchmarkId::from_parameter(n), |b| {
        b.iter_custom(|times| {
            (0..times)
                .map(|_| {
                    let segments = Some(dir.path().to_path_buf());
                    let settings = PresignSettings { workers: 1, background_nice: 0, segments };
                    let presigner = Presigner::start(&settings, Arc::new(SystemClock));
                    let issuer = lab.issuer("bench", IssuerSettings::default());
                    let start = Instant::now();
                    let refused = presigner.add(&issuer);
                    let elapsed = start.elapsed();
                    let live = issuer.slot().live();
                    assert!(refused.is_empty() && live.wave(HashAlgorithm::Sha1).is_some_and(|w| w.is_complete()));
                    elapsed
                })
                .sum()
        })
    });
}

fn write(lab: &Lab, table: &Table, now: Timestamp, dir: &Path) {
    let issuer = lab.issuer("bench", IssuerSettings::default());
    let files = SegmentDir::new(dir);
    for segment in segments(lab, *issuer.key_id(), table, now) {
        files.write(&segment).expect("a file");
    }
}

/// A new index with one revocation more: cut into slices, compared with what is served.
fn difference(c: &mut Criterion) {
    let lab = Lab::new("Bench");
    let now = SystemClock.now();
    let n = 1_000_000;
    let old = entries(n);
    let table = Table::build(&old, Table::bits_for(n as usize, None), Unlisted::NotIssued).expect("a table");
    let wave = wave(segments(&lab, [0; 32], &table, now), table.bits());
    let mut new: Vec<StatusEntry> = old.iter().map(|(serial, status)| StatusEntry::new(*serial, *status)).collect();
    new[500_001] = StatusEntry::new(old[500_001].0, revoked(now));
    new.sort_by_key(|entry| entry.serial);
    let set = StatusSet {
        entries: new,
        withheld: Vec::new(),
        knows_issued: true,
        crls_are_complete: false,
        sources: Vec::new(),
    };
    let mut group = c.benchmark_group("a revocation among a million");
    group.sample_size(10);
    group.bench_function("table", |b| b.iter(|| Table::of(black_box(&set), Some(wave.bits()), Profile::Rfc9919)));
    let mut table = Table::of(&set, Some(wave.bits()), Profile::Rfc9919).expect("a table");
    group.bench_function("share", |b| b.iter(|| black_box(table.clone()).share_with(&wave)));
    table.share_with(&wave);
    assert_eq!(table.difference(&wave).changed.len(), 1);
    group.bench_function("difference", |b| b.iter(|| table.difference(black_box(&wave))));
}

criterion_group!(benches, lookup, sign, presign, warm, difference);
criterion_main!(benches);
