//! What opening does with what it cannot use, and what is refused.

use super::*;
use crate::signer::files::FileError;
use std::os::unix::fs::PermissionsExt;

/// A slot with an order in each of its places, and an open one; closed again.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path()).slot("ca"));
    dir
}

fn opened(dir: &Path) -> (Slot, Vec<String>) {
    let (slots, faults) = Slots::open(dir).unwrap();
    (slots.slot("ca"), faults.iter().map(ToString::to_string).collect())
}

fn damage(dir: &Path, file: &str) {
    fs::write(dir.join("ca").join(file), "damaged").unwrap();
}

#[test]
fn a_damaged_current_signer_is_replaced_by_the_one_before_it_until_the_next() {
    for file in ["b.key", "b.pem"] {
        let dir = filled();
        damage(dir.path(), file);
        let (slot, faults) = opened(dir.path());
        assert_eq!(places(&slot), at("a", "c", ""), "{file}");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(file) && faults[0].contains(&format!("{file}.unreadable-1")), "{faults:?}");
        assert!(faults[0].contains("the one before it signs on"), "{faults:?}");
        assert_eq!(slot.retire_previous(END).unwrap(), None, "it stands in");

        slot.activate("c", END).unwrap();
        assert_eq!(places(&slot), at("c", "", "a"));
        let (slot, faults) = opened(dir.path());
        assert_eq!((places(&slot), faults), (at("c", "", "a"), vec![]));
        assert!(files(&dir.path().join("ca")).iter().all(|f| !f.starts_with("b.") || f.contains("unreadable")));
    }
}

#[test]
fn without_one_before_it_there_is_no_signer_and_nothing_unapproved_takes_its_place() {
    let dir = filled();
    opened(dir.path()).0.retire_previous(END).unwrap();
    damage(dir.path(), "b.key");
    let (slot, faults) = opened(dir.path());
    assert_eq!(places(&slot), at("", "c", ""));
    assert!(faults[0].contains("a new one is needed"), "{faults:?}");
}

#[test]
fn a_lost_pointer_is_replaced_by_the_newest_complete_signer_and_that_is_told() {
    for damaged in [true, false] {
        let dir = filled();
        fs::remove_file(dir.path().join("ca/c.pem")).unwrap();
        let pointer = dir.path().join("ca/slot.json");
        if damaged { fs::write(&pointer, "{\"current\": \"../b\"}") } else { fs::remove_file(&pointer) }.unwrap();
        let (slot, faults) = opened(dir.path());
        assert_eq!(places(&slot), at("b", "", ""));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("slot.json") && faults[1].contains("this is the newest"), "{faults:?}");
        let (again, faults) = opened(dir.path());
        assert_eq!((places(&again), faults), (at("b", "", ""), vec![]), "once is enough");
        assert_eq!(again.open_orders().unwrap(), ["a", "c", "d"]);
    }
}

#[test]
fn a_key_that_others_may_read_is_not_used_and_stays_where_it_is() {
    let dir = filled();
    let key = dir.path().join("ca/b.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (slot, faults) = opened(dir.path());
    assert_eq!(places(&slot), at("a", "c", ""));
    assert!(faults[0].contains("chmod 600"), "{faults:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(places(&opened(dir.path()).0), at("b", "c", "a"), "as it was");
}

#[test]
fn a_pointer_that_cannot_be_read_now_is_left_alone_and_the_slot_is_not_written_to() {
    let dir = filled();
    let pointer = dir.path().join("ca/slot.json");
    fs::rename(&pointer, dir.path().join("kept")).unwrap();
    fs::create_dir(&pointer).unwrap();
    let (slot, faults) = opened(dir.path());
    assert_eq!(places(&slot), at("c", "", ""), "something signs");
    assert!(faults[0].contains("nothing is written to this slot"), "{faults:?}");
    assert!(matches!(slot.stage("c"), Err(SlotError::Closed { .. })));
    assert!(matches!(slot.cancel("d"), Err(SlotError::Closed { .. })));
}

#[test]
fn one_slot_that_is_damaged_is_no_other_ones_trouble() {
    let dir = filled();
    fs::write(dir.path().join("a file"), "").unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("other/slot.json"), "{").unwrap();
    let (slots, faults) = Slots::open(dir.path()).unwrap();
    assert_eq!(slots.names(), ["ca", "other"]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((places(&slots.slot("ca")), places(&slots.slot("other"))), (at("b", "c", "a"), at("", "", "")));
}

#[test]
fn leftovers_are_removed_and_looking_changes_nothing() {
    let dir = filled();
    let ca = dir.path().join("ca");
    let left = ["d.key.tmp", "e.key.destroyed", "slot.json.tmp"];
    left.iter().for_each(|name| fs::write(ca.join(name), "half a key").unwrap());
    let before = files(&ca);
    let (slots, faults) = Slots::look(dir.path()).unwrap();
    assert_eq!((places(&slots.slot("ca")), faults), (at("b", "c", "a"), vec![]));
    assert_eq!(files(&ca), before);
    for result in
        [slots.slot("ca").cancel("d"), slots.slot("new").order("a").prepare(KeyKind::Ed25519, request).map(|_| ())]
    {
        assert!(matches!(result, Err(SlotError::Closed { .. })), "{result:?}");
    }
    assert_eq!(files(dir.path()), ["ca"]);
    assert_eq!(Slots::look(&dir.path().join("nowhere")).unwrap().0.names(), [""; 0]);
    open(dir.path());
    assert_eq!(files(&ca).len(), before.len() - left.len());
}

#[test]
fn an_order_whose_key_is_lost_gets_no_other_key() {
    let dir = filled();
    for damaged in [true, false] {
        let key = dir.path().join("ca/d.key");
        if damaged { fs::write(&key, "damaged") } else { fs::remove_file(&key) }.unwrap();
        let order = open(dir.path()).slot("ca").order("d");
        for result in [order.prepare(KeyKind::Ed25519, request).map(Some), order.prepared()] {
            assert!(matches!(&result, Err(SlotError::KeyLost { order, .. }) if order == "d"), "{result:?}");
        }
    }
    let slot = open(dir.path()).slot("ca");
    slot.cancel("d").unwrap();
    slot.order("d").prepare(KeyKind::Ed25519, request).unwrap();
}

#[test]
fn a_damaged_request_is_made_again_from_the_same_key() {
    let dir = filled();
    let order = open(dir.path()).slot("ca").order("d");
    let before = order.prepared().unwrap().unwrap();
    damage(dir.path(), "d.csr");
    assert_eq!(order.prepared().unwrap(), None);
    assert_eq!(order.prepare(KeyKind::EcdsaP256, request).unwrap().spki_der, before.spki_der);
}

#[test]
fn what_does_not_fit_together_is_refused_and_changes_nothing() {
    let dir = filled();
    let slot = open(dir.path()).slot("ca");
    let order = slot.order("d");
    assert!(matches!(slot.stage("d"), Err(SlotError::Missing { .. })), "it has no certificate");
    assert!(matches!(slot.stage("nobody"), Err(SlotError::Missing { .. })));
    assert!(matches!(slot.order("nobody").key(), Err(SlotError::Missing { .. })));
    assert!(slot.order("nobody").certificate().unwrap().is_none());
    assert!(matches!(slot.activate("d", END), Err(SlotError::NotStaged(_))));
    for used in ["a", "b"] {
        assert!(matches!(slot.cancel(used), Err(SlotError::InUse(_))));
    }
    let (other, _) = SigningKey::generate(KeyKind::Ed25519).unwrap();
    order.keep_certificate(certificate(&other.spki_der(), 9).der(), &[]).unwrap();
    assert!(matches!(slot.stage("d"), Err(SlotError::File(FileError::Mismatch { .. }))));
    let placed = slot.order("b").keep_certificate(certificate(&other.spki_der(), 9).der(), &[]);
    assert!(matches!(placed, Err(SlotError::Settled(_))), "{placed:?}");
    assert!(matches!(order.keep_certificate(b"no certificate", &[]), Err(SlotError::File(_))));
    let foreign = slot.order("e").prepare(KeyKind::Ed25519, |_| request(&other));
    assert!(matches!(&foreign, Err(SlotError::Request { why, .. }) if why.contains("another key")), "{foreign:?}");
    assert_eq!(places(&slot), at("b", "c", "a"));
    slot.cancel("c").unwrap();
    assert_eq!(places(&slot), at("b", "", "a"));
}

#[test]
fn no_name_leads_out_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let slots = open(&dir.path().join("signers"));
    for bad in ["", ".", "..", "../x", "a/b", "/etc", "a\0", ".hidden", "ä", &"a".repeat(129)] {
        let refused = slots.slot(bad).order("a").prepare(KeyKind::Ed25519, request);
        assert!(matches!(refused, Err(SlotError::Closed { .. })), "{bad:?}: {refused:?}");
        let slot = slots.slot("ca");
        for refused in [
            slot.order(bad).prepare(KeyKind::Ed25519, request).map(|_| ()),
            slot.order(bad).key().map(|_| ()),
            slot.order(bad).certificate().map(|_| ()),
            slot.stage(bad),
            slot.cancel(bad),
        ] {
            assert!(matches!(refused, Err(SlotError::Name(_))), "{bad:?}: {refused:?}");
        }
    }
    assert_eq!(files(dir.path()), ["signers"]);
    assert!(matches!(slots.slot("ca").stage("slot.json"), Err(SlotError::Name(_))), "an order has no dots");
}
