//! A slip in a record.

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

#[test]
fn a_record_that_becomes_unusable_is_served_on_and_not_renewed() {
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active")]);
    let mut source = place.open();
    source.taken(1);
    place.write(2, &[("a", "active"), ("b", "actve")]);
    let generation = source.taken(2);
    assert_eq!((ids(&generation), generation.quarantined.len(), buried(&generation)), (vec!["a", "b"], 1, vec![]));
    let stopped = |generation: &Generation| generation.issuers.iter().map(|i| (i.state, i.stopped)).collect::<Vec<_>>();
    let (active, unusable) = ((State::Active, None), (State::Active, Some(Stopped::Unusable(at(2)))));
    assert_eq!(stopped(&generation), [active, unusable], "nobody has said that b is to end");
    assert!(generation.notes.iter().any(|n| n.message.contains("b: its record cannot be used; until a restart")));
    source.unchanged(3);
    let restarted = place.open().current();
    assert_eq!((ids(&restarted), buried(&restarted)), (vec!["a"], vec![]), "quarantined is not removed");
    place.write(3, &[("a", "active"), ("b", "atcive")]);
    assert_eq!(stopped(&source.taken(4)), [active, unusable], "since the first time");
    place.write(4, &[("a", "active"), ("b", "active")]);
    assert_eq!(stopped(&source.taken(5)), [active, active]);
    place.write(5, &[("a", "active"), ("b", "retired")]);
    assert_eq!(ids(&source.taken(6)), ["a"]);
}

#[test]
fn a_reload_that_makes_a_record_unusable_ends_nobody() {
    let place = Place::new();
    place.write_text(
        r#"{"generation":1,"issuers":[{"id":"a","state":"active","certificate":"a.pem","enrolment":"main","profile":"p","status":{"crl":"x"}}]}"#,
    );
    let rules = |name: &str| {
        let config = format!("[enrolment.{name}]\nprotocol = \"local\"\nca_keys = \"k\"");
        RecordRules::of(&crate::config::Config::parse(&config, Path::new("x")).unwrap())
    };
    let mut source = place.open_with(STRICT, 0);
    let name = place.directory.path().join("r.json");
    source.follower.set_terms(&name, rules("main"), STRICT, at(1));
    assert_eq!(source.taken(1).issuers[0].stopped, None);
    assert_eq!(source.follower.set_terms(&name, rules("mian"), STRICT, at(2)), Change::Taken);
    let issuer = source.current().issuers[0].clone();
    assert_eq!((issuer.state, issuer.stopped), (State::Active, Some(Stopped::Unusable(at(2)))));
    assert_eq!(source.follower.set_terms(&name, rules("main"), STRICT, at(3)), Change::Taken);
    assert_eq!(source.current().issuers[0].stopped, None);
}
