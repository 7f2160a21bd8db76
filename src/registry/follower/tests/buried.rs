//! Issuers that are gone, and what may come after them.

use super::*;

#[test]
fn retired_and_removed_issuers_are_remembered_over_restarts() {
    use TombstoneCause::{Removed, Retired};
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active"), ("c", "active")]);
    place.open().taken(1);
    place.write(2, &[("a", "active"), ("b", "retired")]);
    assert_eq!(buried(&place.open().taken(2)), [("b", Retired, 2), ("c", Removed, 2)]);
    place.write(3, &[("a", "active"), ("b", "retired")]);
    assert_eq!(buried(&place.open().taken(3)), [("b", Retired, 2), ("c", Removed, 2)]);
    place.write(4, &[("a", "active"), ("b", "active")]);
    let back = place.open().taken(4);
    assert_eq!((ids(&back), buried(&back)), (vec!["a", "b"], vec![("c", Removed, 2)]));
    let notes: Vec<_> = back.notes.iter().map(|n| n.message.as_str()).collect();
    assert_eq!(notes, ["b was retired in generation 2 and is active again"]);
}

#[test]
fn a_retired_ca_key_does_not_come_back_under_another_id() {
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active")]);
    place.open().taken(1);
    place.write(2, &[("a", "active"), ("b", "retired")]);
    place.open().taken(2);
    let b = place.directory.path().join("b.pem");
    fs::copy(&b, place.directory.path().join("other.pem")).unwrap();
    fs::remove_file(&b).unwrap();
    place.write(3, &[("a", "active"), ("other", "active")]);
    let generation = place.open().taken(3);
    assert_eq!(ids(&generation), ["a"]);
    let why = generation.quarantined[0].faults[0].to_string();
    assert!(why.contains("was retired as b in generation 2") && why.contains("give the record the id b"), "{why}");
    // Neither the next look nor a restart takes what was refused for something known.
    place.write(4, &[("a", "active"), ("other", "active")]);
    assert_eq!(ids(&place.open().taken(4)), ["a"]);
    fs::copy(place.directory.path().join("other.pem"), &b).unwrap();
    place.write(5, &[("a", "active"), ("b", "active")]);
    assert_eq!(ids(&place.open().taken(5)), ["a", "b"], "the operator says positively that it is back");
}

#[test]
fn retiring_one_of_two_records_of_a_ca_key_leaves_the_other() {
    let place = Place::new();
    fs::copy(place.directory.path().join("a.pem"), place.directory.path().join("twin.pem")).unwrap();
    place.write(1, &[("a", "active"), ("twin", "active")]);
    place.open().taken(1);
    for number in 2..4 {
        place.write(number, &[("a", "retired"), ("twin", "active")]);
        assert_eq!(ids(&place.open().taken(2)), ["twin"]);
    }
}
