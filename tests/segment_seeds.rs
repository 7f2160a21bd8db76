//! Keeps the committed seeds of the fuzz target `segment` what they are: the same entries under the same dates.
//!
//! After a change of the file format: `WRITE_SEEDS=1 cargo test --test segment_seeds` writes them anew.

use bytes::Bytes;
use std::path::Path;
use stillgood::ocsp::{
    CertStatus, HashAlgorithm, IssuerHashes, Reason, ResponderId, Serial, SignatureAlgorithm, Template, TemplateSpec,
};
use stillgood::store::{Keys, Part, Segment, SegmentMeta};
use stillgood::time::Timestamp;

fn segment(entries: &[(Serial, CertStatus)], part: Part, algorithm: SignatureAlgorithm, by_name: bool) -> Vec<u8> {
    let keys = Keys::build(entries).unwrap();
    let name = b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02CA";
    let template = Template::new(TemplateSpec {
        issuer: IssuerHashes::new(HashAlgorithm::Sha1, name, b"key"),
        responder: if by_name { ResponderId::Name(name.to_vec()) } else { ResponderId::Key([7; 20]) },
        this_update: Timestamp::from_unix(1_800_000_000),
        next_update: Timestamp::from_unix(1_800_345_599),
        produced_at: Timestamp::from_unix(1_800_000_300),
        algorithm,
        certificate: by_name.then(|| vec![0x30, 1, 2]),
        single_extensions: Vec::new(),
    });
    let refresh_at = Timestamp::from_unix(1_800_086_400);
    let meta = SegmentMeta { issuer_key: [9; 32], part, sequence: 3, refresh_at, settings: 42 };
    let signatures: Vec<u8> = (0..keys.len() * algorithm.raw_len()).map(|i| i as u8).collect();
    Segment::new(meta, template, keys, Bytes::from(signatures)).unwrap().to_bytes()
}

fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let revoked = CertStatus::Revoked { at: Timestamp::from_unix(1_700_000_000), reason: Some(Reason::Superseded) };
    let serial = |octets: &[u8]| Serial::from_unsigned(octets).unwrap();
    let mixed: Vec<_> = (1..=6_u8)
        .map(|n| (serial(&[n; 16][..usize::from(n) * 2]), if n % 3 == 0 { revoked } else { CertStatus::Good }))
        .collect();
    let many: Vec<_> = (1..=9_u8).map(|n| (serial(&[n, 1]), CertStatus::Good)).collect();
    let slice = |index| Part::Slice { bits: 3, index };
    let p256 = SignatureAlgorithm::EcdsaP256Sha256;
    vec![
        ("empty", segment(&[], slice(0), p256, false)),
        ("mixed", segment(&mixed, slice(5), p256, true)),
        ("one-class", segment(&many, slice(7), SignatureAlgorithm::Ed25519, false)),
        ("overlay", segment(&mixed[2..3], Part::Overlay, SignatureAlgorithm::EcdsaP384Sha384, false)),
        ("keys", Keys::build(&mixed).unwrap().region().to_vec()),
    ]
}

#[test]
fn the_committed_seeds_are_segments_of_the_present_format() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/segment");
    for (name, octets) in seeds() {
        let path = corpus.join(name);
        if std::env::var_os("WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(&path, &octets).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == octets, "{} is of another format", path.display());
    }
}
