//! A slip in the id of a record.

use super::*;

const BY_DEFAULT: Guard = Guard { max_change: 0.2, small_change: 5 };

#[test]
fn a_record_whose_id_cannot_be_read_does_not_take_its_issuer_away_unasked() {
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active")]);
    let mut source = place.open_with(BY_DEFAULT, 0);
    source.taken(1);
    let sound = fs::read_to_string(place.directory.path().join("r.json")).unwrap();
    let slip = |generation: u64, from: &str, to: &str| {
        let text = sound.replace("\"generation\":1", &format!("\"generation\":{generation}"));
        place.write_text(&text.replace(from, to));
    };
    for (generation, to) in [(2, r#""Id":"b""#), (3, r#""id":"a""#), (4, r#""id":"b b""#)] {
        slip(generation, r#""id":"b""#, to);
        assert_eq!(source.look(2).unwrap(), Change::Held, "{to}");
        let held = source.follower.held().unwrap().impact.to_string();
        assert!(held.contains("1 removed (b); 1 records have no id of their own"), "{held}");
        assert_eq!(ids(&source.current()), ["a", "b"]);
    }
    // Who means it says so; who does not, mends it.
    source.follower.approve(4, "alice", at(3)).unwrap();
    assert_eq!(ids(&source.current()), ["a"]);
    slip(5, "x", "x");
    source.taken(4);
    slip(6, r#""id":"b""#, r#""Id":"b""#);
    assert_eq!(source.look(5).unwrap(), Change::Held);
    slip(7, "x", "y");
    source.taken(6);
    assert_eq!((ids(&source.current()), source.numbers()), (vec!["a", "b"], (7, None)));
}

#[test]
fn a_record_without_an_id_beside_all_that_are_known_holds_nothing_up() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open_with(BY_DEFAULT, 0);
    source.taken(1);
    place.write(2, &[("a", "active"), ("b", "active")]);
    let text = fs::read_to_string(place.directory.path().join("r.json")).unwrap();
    place.write_text(&text.replace(r#""id":"b""#, r#""Id":"b""#));
    assert_eq!(ids(&source.taken(2)), ["a"]);
}
