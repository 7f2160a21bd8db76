//! Reading requests, and counting them: the straight walk, the general one, and GET paths, with a typed decoder and a plain base64 decoder
//! beside them for scale.
//!
//! `cargo bench --bench request`

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use stillgood::endpoint::counting_of_a_worker;
use stillgood::ocsp::{Request, decode_get_path};
use stillgood::time::monotonic;

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/requests/{name}.der", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse request");
    for name in ["sha1", "sha256", "sha1-nonce16", "sha256-nonce16", "three-serials", "sha512", "signed"] {
        let der = fixture(name);
        // By reference: a request is looked at where it was made, not moved.
        group.bench_function(name, |b| b.iter(|| black_box(&Request::parse(black_box(&der))).is_ok()));
    }
    let garbage = vec![0x30; 90];
    group.bench_function("garbage", |b| b.iter(|| black_box(&Request::parse(black_box(&garbage))).is_ok()));
    let der = fixture("sha1");
    group.bench_function("sha1 by rasn-ocsp", |b| {
        b.iter(|| rasn::der::decode::<rasn_ocsp::OcspRequest>(black_box(&der)).is_ok())
    });
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode GET path");
    let base64 = data_encoding::BASE64.encode(&fixture("sha1"));
    let escaped = base64.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let twice = escaped.replace('%', "%25");
    let mut out = Vec::with_capacity(Request::MAX_LEN);
    for (name, path) in [("plain", &base64), ("escaped", &escaped), ("escaped twice", &twice)] {
        let path = format!("/{path}");
        group.bench_function(name, |b| b.iter(|| decode_get_path(black_box(path.as_bytes()), &mut out)));
        group.bench_function(format!("{name}, and parse"), |b| {
            b.iter(|| {
                let decoded = decode_get_path(black_box(path.as_bytes()), &mut out).is_ok();
                black_box(&Request::parse(&out)).is_ok() && decoded
            })
        });
    }
    group.bench_function("plain by data-encoding, base64 only", |b| {
        b.iter(|| data_encoding::BASE64.decode(black_box(base64.as_bytes())))
    });
}

/// The same request read with and without all that is counted of it, the two looks at the clock for its latency included.
fn count(c: &mut Criterion) {
    let mut group = c.benchmark_group("counting");
    let der = fixture("sha1");
    group.bench_function("without", |b| b.iter(|| black_box(&Request::parse(black_box(&der))).is_ok()));
    let mut count = counting_of_a_worker();
    group.bench_function("with", |b| {
        b.iter(|| {
            let began = monotonic();
            let is_read = black_box(&Request::parse(black_box(&der))).is_ok();
            count(black_box(monotonic().duration_since(began)));
            is_read
        })
    });
}

criterion_group!(benches, parse, decode, count);
criterion_main!(benches);
