//! Slots on a real directory.

mod crash;
mod disk;
mod faults;

use super::*;
use crate::ocsp::Serial;
use crate::signer::{KeyKind, SigningKey};
use crate::time::Timestamp;
use crate::x509::Certificate;
use crate::x509::issue::{Attribute, CertificateSpec, certification_request, name};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::LazyLock;

const END: Timestamp = Timestamp::from_unix(2_000_000_000);

/// A certificate for this key; `n` is its serial and orders it in time.
pub(super) fn certificate(spki: &[u8], n: u64) -> Certificate {
    static CA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(KeyKind::Ed25519).unwrap().0);
    let subject = name(&[(Attribute::CommonName, "signer")]);
    let from = Timestamp::from_unix(1_000_000_000 + i64::try_from(n).unwrap());
    CertificateSpec::ca(subject, spki.to_vec(), Serial::from_unsigned(&n.to_be_bytes()).unwrap(), from, END)
        .issue(&*CA)
        .unwrap()
}

pub(super) fn request(key: &SigningKey) -> Result<Vec<u8>, String> {
    certification_request(&name(&[]), &key.spki_der(), &[], key).map_err(|e| e.to_string())
}

/// An order in each of the places, and an open one.
pub(super) fn fill(slot: &Slot) {
    for (order, n) in [("a", 1), ("b", 2)] {
        complete(slot, order, n);
        slot.stage(order).unwrap();
        slot.activate(order, END).unwrap();
    }
    complete(slot, "c", 3);
    slot.stage("c").unwrap();
    slot.order("d").prepare(KeyKind::Ed25519, request).unwrap();
}

/// An order that has its certificate.
pub(super) fn complete(slot: &Slot, order: &str, n: u64) -> Certificate {
    let files = slot.order(order);
    let prepared = files.prepare(KeyKind::Ed25519, request).unwrap();
    let certificate = certificate(&prepared.spki_der, n);
    files.keep_certificate(certificate.der(), &[]).unwrap();
    certificate
}

fn open(dir: &Path) -> Slots {
    let (slots, faults) = Slots::open(dir).unwrap();
    assert_eq!(faults, []);
    slots
}

fn places(slot: &Slot) -> [Option<String>; 3] {
    [slot.current(), slot.next(), slot.previous()].map(|place| place.map(|i| i.order.clone()))
}

fn at(current: &str, next: &str, previous: &str) -> [Option<String>; 3] {
    [current, next, previous].map(|order| (!order.is_empty()).then(|| order.to_owned()))
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_order_becomes_next_current_and_previous_and_is_destroyed_in_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(dir.path());
    let slot = slots.slot("ca");
    assert_eq!((places(&slot), slot.version()), (at("", "", ""), 0));
    complete(&slot, "a", 1);
    slot.stage("a").unwrap();
    assert_eq!((places(&slot), slot.version()), (at("", "a", ""), 0));
    slot.activate("a", END).unwrap();
    assert_eq!((places(&slot), slot.version()), (at("a", "", ""), 1));
    let second = complete(&slot, "b", 2);
    slot.stage("b").unwrap();
    slot.activate("b", END).unwrap();
    assert_eq!((places(&slot), slot.version(), slot.previous_until()), (at("b", "", "a"), 2, Some(END)));

    let again = open(dir.path()).slot("ca");
    assert_eq!((places(&again), again.version(), again.previous_until()), (at("b", "", "a"), 1, Some(END)));
    assert_eq!(again.current().unwrap().certificate, second);
    assert_eq!(again.retire_previous(END.minus(std::time::Duration::from_secs(1))).unwrap(), None);
    assert_eq!(again.retire_previous(END).unwrap().as_deref(), Some("a"));
    assert_eq!(places(&again), at("b", "", ""));
    assert_eq!(files(&dir.path().join("ca")), ["b.csr", "b.key", "b.pem", "slot.json"]);
}

#[test]
fn that_its_issuer_is_gone_is_remembered_until_it_is_back_and_then_all_that_has_a_place_is_destroyed() {
    let dir = tempfile::tempdir().unwrap();
    let slot = open(dir.path()).slot("ca");
    slot.set_gone(Some(END)).unwrap();
    assert!(files(dir.path()).is_empty() && !slot.is_filled(), "nothing to remember it for");
    fill(&slot);
    slot.set_gone(Some(END)).unwrap();
    let again = open(dir.path()).slot("ca");
    assert_eq!((again.gone_since(), places(&again)), (Some(END), at("b", "c", "a")));
    again.set_gone(None).unwrap();
    assert_eq!(open(dir.path()).slot("ca").gone_since(), None);
    again.set_gone(Some(END)).unwrap();
    let before = again.version();
    let mut destroyed = again.empty().unwrap();
    destroyed.sort();
    assert_eq!((destroyed, places(&again)), (vec!["a".into(), "b".into(), "c".into()], at("", "", "")));
    assert!(again.version() > before, "whoever uses it takes notice");
    assert_eq!(files(&dir.path().join("ca")), ["d.csr", "d.key", "slot.json"], "the CA may know of d");
    assert_eq!(again.empty().unwrap(), Vec::<String>::new());
    // It is back, and has a signer again.
    complete(&again, "e", 4);
    again.stage("e").unwrap();
    again.activate("e", END).unwrap();
    assert_eq!((places(&again), again.gone_since()), (at("e", "", ""), None));
}

#[test]
fn keys_and_directories_are_the_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("signers");
    let slot = open(&root).slot("ca");
    complete(&slot, "a", 1);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("ca"), mode("ca/a.key")), (0o700, 0o700, 0o600));
}

#[test]
fn every_step_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let slot = open(dir.path()).slot("ca");
    let prepared = slot.order("a").prepare(KeyKind::EcdsaP256, request).unwrap();
    let never = |_: &SigningKey| -> Result<Vec<u8>, String> { Err("asked for twice".to_owned()) };
    assert_eq!(slot.order("a").prepare(KeyKind::EcdsaP384, never).unwrap(), prepared);
    let certificate = certificate(&prepared.spki_der, 1);
    for _ in 0..2 {
        slot.order("a").keep_certificate(certificate.der(), &[]).unwrap();
        slot.stage("a").unwrap();
    }
    for _ in 0..2 {
        slot.activate("a", END).unwrap();
        slot.stage("a").unwrap();
    }
    slot.order("a").keep_certificate(certificate.der(), &[]).unwrap();
    assert_eq!((places(&slot), slot.version()), (at("a", "", ""), 1));
    for _ in 0..2 {
        slot.cancel("b").unwrap();
    }
}

#[test]
fn a_staged_signer_that_could_not_be_read_becomes_current_once_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let slot = open(dir.path()).slot("ca");
    complete(&slot, "a", 1);
    slot.stage("a").unwrap();
    let key = dir.path().join("ca/a.key");
    let set_mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o644);
    let (slots, faults) = Slots::open(dir.path()).unwrap();
    let slot = slots.slot("ca");
    assert_eq!((faults.len(), places(&slot)), (1, at("", "", "")));
    let refused = slot.activate("a", END).unwrap_err();
    assert!(matches!(refused, SlotError::File(crate::signer::files::FileError::Permissions { .. })), "{refused}");
    assert!(matches!(slot.activate("b", END), Err(SlotError::NotStaged(_))));
    set_mode(0o600);
    slot.activate("a", END).unwrap();
    assert_eq!((places(&slot), slot.version()), (at("a", "", ""), 1));
}
