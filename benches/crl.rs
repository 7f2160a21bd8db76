//! How fast status sources are read, at a million certificates: the walk over a CRL's entries, the parse of an
//! index.txt, and the whole load of each from a file (entries sorted and put together).
//!
//! `cargo bench --bench crl`. The files are made in the process and in a directory for temporary files.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use stillgood::ocsp::{Reason, Serial};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::status::{Source, index, load};
use stillgood::time::{Timestamp, format_generalized};
use stillgood::x509::Certificate;
use stillgood::x509::crl::Crl;
use stillgood::x509::issue::{Attribute, CertificateSpec, CrlEntry, CrlSpec, name};

const CERTIFICATES: u64 = 1_000_000;
const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// 16 octets without order, as a CA's random serial numbers are.
fn serial(n: u64) -> Serial {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let octets = [mix(n).to_be_bytes(), mix(!n).to_be_bytes()].concat();
    Serial::from_unsigned(&octets).expect("16 octets")
}

fn revoked_at(n: u64) -> Timestamp {
    Timestamp::from_unix(1_790_000_000 + i64::try_from(n * 7_919 % 8_000_000).expect("small"))
}

fn index_txt() -> Vec<u8> {
    let mut text = String::new();
    for n in 0..CERTIFICATES {
        let date = format_generalized(revoked_at(n));
        let date = std::str::from_utf8(&date[2..]).expect("digits");
        let (kind, revocation) = if n % 20 == 0 { ("R", format!("{date},superseded")) } else { ("V", String::new()) };
        text += &format!(
            "{kind}\t271231235959Z\t{revocation}\t{}\tunknown\t/C=XX/O=Example/CN=host-{n}.example.com\n",
            serial(n)
        );
    }
    text.into_bytes()
}

fn crl_der(issuer: &Certificate, key: &SigningKey) -> Vec<u8> {
    let entries = (0..CERTIFICATES)
        .map(|n| CrlEntry { serial: serial(n), revoked_at: revoked_at(n), reason: Some(Reason::Superseded) })
        .collect();
    let next_update = Some(Timestamp::from_unix(NOW.unix() + 86_400));
    let issuer = issuer.subject_der().to_vec();
    let spec = CrlSpec { issuer, this_update: NOW, next_update, entries, extensions: vec![CrlSpec::number(1)] };
    spec.sign(key).expect("a CRL")
}

fn sources(c: &mut Criterion) {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).expect("a key");
    let subject = name(&[(Attribute::CommonName, "Bench CA")]);
    let year = Timestamp::from_unix(NOW.unix() + 31_536_000);
    let spec = CertificateSpec::ca(subject, key.spki_der(), serial(0), NOW, year);
    let issuer = spec.issue(&key).expect("a CA");
    let crl = crl_der(&issuer, &key);
    let index_txt = index_txt();
    println!("CRL: {} octets, index: {} octets, {CERTIFICATES} certificates each", crl.len(), index_txt.len());

    let mut group = c.benchmark_group("status sources");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(crl.len() as u64));
    group.bench_function("walk the entries of a CRL", |b| {
        b.iter(|| Crl::parse(&crl).expect("a CRL").entries().filter(|e| black_box(e).is_ok()).count())
    });
    group.bench_function("verify the signature of a CRL", |b| {
        b.iter(|| Crl::parse(&crl).expect("a CRL").verify(&issuer).expect("its signature"))
    });
    group.throughput(Throughput::Bytes(index_txt.len() as u64));
    group.bench_function("parse an index", |b| {
        b.iter(|| index::parse(&index_txt, &mut |serial, status| _ = black_box((serial, status))))
    });

    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, content: &[u8]| -> PathBuf {
        let path: &Path = dir.path();
        let path = path.join(name);
        std::fs::write(&path, content).expect("a file");
        path
    };
    let index_source = Source::Index(file("index.txt", &index_txt));
    let crl_source = Source::Crl(file("ca.crl", &crl));
    for (what, sources) in [
        ("load an index", vec![index_source.clone()]),
        ("load a CRL", vec![crl_source.clone()]),
        ("load both", vec![index_source, crl_source]),
    ] {
        let octets: u64 = sources.iter().map(|s| std::fs::metadata(s.path()).expect("a file").len()).sum();
        group.throughput(Throughput::Bytes(octets));
        group.bench_function(what, |b| b.iter(|| load(&issuer, &sources, NOW).expect("a set").entries.len()));
    }
    group.finish();
}

criterion_group!(benches, sources);
criterion_main!(benches);
