//! The hand-made seeds of the fuzz corpora `request` and `get_path`. The files are committed; this holds them to what is
//! built here, and writes them anew when WRITE_SEEDS is set.

mod request_support;

use request_support::*;
use std::path::PathBuf;
use stillgood::ocsp::HashAlgorithm;

/// A request, its name, and whether it is one that is answered.
fn requests() -> Vec<(&'static str, bool, Vec<u8>)> {
    let one = || Parts::new(&[sha1_id(&[0x4d, 0x1c])]);
    let single = |e: Vec<u8>| Parts::with_single_extensions(&[e]).der();
    let whole = |e: Vec<u8>| Parts::with_extensions(&[e]).der();
    let before = |octets: Vec<u8>| Parts { before: octets, ..one() }.der();
    let preferred =
        sequence(&[&sequence(&[&algorithm(ECDSA_SHA256, &[])]), &sequence(&[&algorithm(RSA_SHA256, &[5, 0])])]);
    let unknown_hash = raw_cert_id(&algorithm(UNKNOWN, &[0x30, 0]), &[1; 28], &[2; 28], &[7]);
    vec![
        ("explicit-version", true, before(vec![0xa0, 3, 2, 1, 0])),
        ("version-2", false, before(vec![0xa0, 3, 2, 1, 1])),
        ("sha1-parameters-absent", true, Parts::new(&[cert_id(HashAlgorithm::Sha1, &[], &[0x4d, 0x1c])]).der()),
        ("sha256-parameters-absent", true, Parts::new(&[cert_id(HashAlgorithm::Sha256, &[], &[0x4d, 0x1c])]).der()),
        ("requestor-directory-name", true, before(tlv(0xa1, &[&tlv(0xa4, &[&sequence(&[])])]))),
        ("requestor-uri", true, before(tlv(0xa1, &[b"\x86\x09http://a/"]))),
        ("unknown-hash", true, Parts::new(&[unknown_hash]).der()),
        ("negative-serial", true, Parts::new(&[sha1_id(&[0x80])]).der()),
        ("serial-21-octets", false, Parts::new(&[sha1_id(&[0x11; 21])]).der()),
        ("many-certificates", true, Parts::new(&vec![sha1_id(&[7]); 32]).der()),
        ("too-many-certificates", false, Parts::new(&vec![sha1_id(&[7]); 33]).der()),
        ("empty-list", false, Parts::new(&[]).der()),
        ("nonce-32", true, whole(nonce(32))),
        ("nonce-empty", false, whole(nonce(0))),
        ("nonce-129", false, whole(nonce(129))),
        ("nonce-raw", true, whole(extension(NONCE, None, &[0xa7; 16]))),
        ("nonce-critical", true, whole(extension(NONCE, Some(0xff), &tlv(4, &[&[1; 16]])))),
        ("nonce-critical-false", true, whole(extension(NONCE, Some(0x00), &tlv(4, &[&[1; 16]])))),
        ("nonce-twice", false, Parts::with_extensions(&[nonce(16), nonce(16)]).der()),
        ("nonce-at-single-level", true, single(nonce(16))),
        ("extensions-empty", true, Parts::with_extensions(&[]).der()),
        ("unknown-critical", false, whole(extension(UNKNOWN, Some(0xff), b"?"))),
        ("unknown-critical-at-single-level", false, single(extension(UNKNOWN, Some(0xff), b"?"))),
        ("arc-of-128-bits", true, whole(extension(UUID, None, b"?"))),
        ("service-locator", true, single(extension(SERVICE_LOCATOR, None, &sequence(&[])))),
        ("acceptable-responses", true, whole(extension(ACCEPTABLE_RESPONSES, None, &sequence(&[&oid(BASIC)])))),
        ("basic-not-acceptable", false, whole(extension(ACCEPTABLE_RESPONSES, None, &sequence(&[&oid(UNKNOWN)])))),
        ("preferred-algorithms", true, whole(extension(PREFERRED_ALGORITHMS, None, &preferred))),
        ("line-end", true, Parts { after: b"\r\n".to_vec(), ..one() }.der()),
        ("indefinite-length", false, b"\x30\x80\x30\x00\x00\x00".to_vec()),
        ("length-not-minimal", false, [&[0x30, 0x81, 0x02], &sequence(&[])[..]].concat()),
    ]
}

fn paths() -> Vec<(&'static str, bool, Vec<u8>)> {
    let slashes = "MEQwQjBAMD4wPDAJBgUrDgMCGgUABBQAAAAAAAAAAAAAAAAAAAAAAAAAAAQUAAAAAAAAAAAAAAAAAAAAAAAAAAACAwP//A==";
    let plus = slashes.replace("//", "+/");
    let bare = slashes.trim_end_matches('=');
    let once = slashes.replace('/', "%2F").replace('=', "%3D");
    let paths = [
        ("slashes", true, format!("/{slashes}")),
        ("two-slashes-before", true, format!("//{slashes}/")),
        ("mount", false, format!("/ocsp/{slashes}")),
        ("plus", true, format!("/{plus}")),
        ("plus-as-space", true, format!("/{}", plus.replace('+', "%20"))),
        ("escaped", true, format!("/{once}")),
        ("escaped-twice", true, format!("/{}", once.replace('%', "%25"))),
        ("escaped-thrice", false, format!("/{}", once.replace('%', "%2525"))),
        ("unpadded", true, format!("/{bare}")),
        ("unpadded-slash", true, format!("/{bare}/")),
        ("url-safe", true, format!("/{}", bare.replace('/', "_"))),
        ("line-ends", true, format!("/{}\r\n{}%0d%0a", &slashes[..64], &slashes[64..])),
        ("query", true, format!("/{slashes}?a=%zz")),
        ("cut-short", false, format!("/{}", &slashes[..50])),
        ("root", false, "/".to_owned()),
        ("favicon", false, "/favicon.ico".to_owned()),
        ("broken-escape", false, format!("/{}%4", &slashes[..50])),
    ];
    paths.map(|(name, good, path)| (name, good, path.into_bytes())).into()
}

fn hold(target: &str, seeds: &[(&str, bool, Vec<u8>)]) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    for (name, _, octets) in seeds {
        let file = directory.join(name);
        if std::env::var_os("WRITE_SEEDS").is_some() {
            std::fs::write(&file, octets).unwrap();
        }
        let found = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}; run with WRITE_SEEDS=1", file.display()));
        assert!(found == *octets, "{} is not what is built here; run with WRITE_SEEDS=1", file.display());
    }
}

#[test]
fn request_seeds_are_what_they_are_called() {
    for (name, good, der) in requests() {
        assert_eq!(stillgood::ocsp::Request::parse(&der).is_ok(), good, "{name}");
    }
    hold("request", &requests());
}

#[test]
fn get_path_seeds_are_what_they_are_called() {
    for (name, good, path) in paths() {
        let mut out = Vec::new();
        assert_eq!(stillgood::ocsp::decode_get_path(&path, &mut out).is_ok(), good, "{name}");
    }
    hold("get_path", &paths());
}
