//! How much memory reading a CRL takes, at its peak.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stillgood::ocsp::Serial;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::status::{Source, StatusEntry, load};
use stillgood::time::Timestamp;
use stillgood::x509::issue::{Attribute, CertificateSpec, CrlEntry, CrlSpec, name};
use stillgood::x509::pem;

/// The system's allocator, counting octets. One test in this file, so that nobody else's are counted.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(held, Ordering::SeqCst);
        // SAFETY: the caller keeps what `alloc` asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller keeps what `dealloc` asks of it.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: u64 = 50_000;

#[test]
fn a_crl_in_pem_takes_its_text_and_its_der_at_most_or_its_der_and_its_entries() {
    let now = Timestamp::from_unix(1_800_000_000);
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let day = Duration::from_secs(86_400);
    let serial = |n: u64| Serial::from_unsigned(&(u128::from(n) << 64 | 1 << 126).to_be_bytes()).unwrap();
    let subject = name(&[(Attribute::CommonName, "CA")]);
    let ca =
        CertificateSpec::ca(subject, key.spki_der(), serial(0), now.minus(day), now.plus(day)).issue(&key).unwrap();
    let entry = |n| CrlEntry { serial: serial(n), revoked_at: now.minus(day), reason: None };
    let crl = CrlSpec {
        issuer: ca.subject_der().to_vec(),
        this_update: now,
        next_update: Some(now.plus(day)),
        entries: (1..=ENTRIES).map(entry).collect(),
        extensions: vec![CrlSpec::number(1)],
    };
    let der = crl.sign(&key).unwrap();
    let text = pem::encode("X509 CRL", &der);
    let dir = tempfile::tempdir().unwrap();
    let (in_der, in_pem) = (dir.path().join("der"), dir.path().join("pem"));
    std::fs::write(&in_der, &der).unwrap();
    std::fs::write(&in_pem, &text).unwrap();
    let entries = ENTRIES as usize * size_of::<StatusEntry>();
    let slack = 256 * 1024;
    // Putting a list in order takes half of it again.
    let der_and_entries = (der.len() + entries * 5 / 4).max(entries * 3 / 2);
    for (path, most) in [(in_der, der_and_entries), (in_pem, der_and_entries.max(text.len() + der.len() * 33 / 32))] {
        let before = HELD.load(Ordering::SeqCst);
        PEAK.store(before, Ordering::SeqCst);
        let set = load(&ca, &[Source::Crl(path.clone())], now).unwrap();
        let peak = PEAK.load(Ordering::SeqCst) - before;
        assert_eq!(set.entries.len() as u64, ENTRIES);
        println!("{}: {} of text, {} of DER, {entries} of entries: peak {peak}", path.display(), text.len(), der.len());
        assert!(peak <= most + slack, "{}: peak {peak}, at most {most}", path.display());
    }
}
