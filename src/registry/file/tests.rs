use super::*;
use std::fs;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
            fs::write(directory.path().join(format!("{name}.pem")), pem).unwrap();
        }
        Place { directory }
    }

    fn write(&self, generation: u64, records: &[(&str, &str)]) {
        let record = |(id, state): &(&str, &str)| {
            format!(
                r#"{{"id":"{id}","state":"{state}","certificate":"{id}.pem","signer":{{"certificate":"s","key":"k"}},"status":{{"crl":"x"}}}}"#
            )
        };
        let list: Vec<_> = records.iter().map(record).collect();
        self.write_text(&format!("{{\"generation\":{generation},\"issuers\":[{}]}}", list.join(",")));
    }

    fn write_text(&self, text: &str) {
        fs::write(self.directory.path().join("r.json"), text).unwrap();
    }

    fn open(&self) -> FileSource {
        let path = self.directory.path();
        FileSource::open(&path.join("r.json"), &path.join("state"), RecordRules::default()).unwrap()
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
}

fn changed(poll: Poll) -> Arc<Generation> {
    match poll {
        Poll::Changed(generation) => generation,
        other => panic!("{other:?}"),
    }
}

fn refused(poll: Poll) -> String {
    match poll {
        Poll::Refused(faults) => faults.to_string(),
        other => panic!("{other:?}"),
    }
}

fn ids(generation: &Generation) -> Vec<&str> {
    generation.issuers.iter().map(|i| i.id.as_str()).collect()
}

fn buried(generation: &Generation) -> Vec<(&str, TombstoneCause, u64)> {
    generation.tombstones.iter().map(|t| (t.id.as_str(), t.cause, t.generation)).collect()
}

#[test]
fn a_generation_never_goes_back_even_over_a_restart() {
    let place = Place::new();
    place.write(5, &[("a", "active"), ("b", "active")]);
    let mut source = place.open();
    assert_eq!(ids(&changed(source.poll(at(1)))), ["a", "b"]);
    assert!(matches!(source.poll(at(2)), Poll::Unchanged));
    place.write(4, &[("a", "active")]);
    let text = refused(source.poll(at(3)));
    assert!(text.contains("generation 4 is older than 5") && text.contains("publish it as generation 6"), "{text}");
    assert_eq!((source.last_success(), source.current().map(|g| g.number)), (Some(at(2)), Some(5)));

    let mut restarted = place.open();
    let Poll::Restored(generation, faults) = restarted.poll(at(4)) else { panic!() };
    assert_eq!((generation.number, ids(&generation)), (5, vec!["a", "b"]));
    assert!(faults.to_string().contains("generation 4 is older than 5"), "{faults}");
    assert_eq!(restarted.last_success(), None, "a copy is no evidence that the registry is fresh");
}

#[test]
fn one_generation_is_one_content() {
    let place = Place::new();
    place.write(5, &[("a", "active")]);
    let mut source = place.open();
    changed(source.poll(at(1)));
    place.write(5, &[("a", "disabled")]);
    assert!(refused(source.poll(at(2))).contains("raise \"generation\" to 6 with every change"));
    place.write(6, &[("a", "disabled")]);
    changed(source.poll(at(3)));
}

#[test]
fn a_broken_file_changes_nothing_and_a_restart_takes_the_copy() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    changed(place.open().poll(at(1)));
    place.write_text("{ \"generation\": 2,");
    let mut source = place.open();
    let Poll::Restored(generation, faults) = source.poll(at(2)) else { panic!() };
    assert_eq!(ids(&generation), ["a"]);
    assert!(faults.to_string().contains("r.json:1:18: not JSON"), "{faults}");
    assert!(refused(source.poll(at(3))).contains("not JSON"));
    place.write(2, &[("a", "active"), ("b", "active")]);
    assert_eq!(ids(&changed(source.poll(at(4)))), ["a", "b"]);
}

#[test]
fn without_a_copy_a_broken_file_is_refused() {
    let place = Place::new();
    let text = refused(place.open().poll(at(1)));
    assert!(text.contains("r.json: the registry cannot be read: "), "{text}");
}

#[test]
fn retired_and_removed_issuers_are_remembered_over_restarts() {
    use TombstoneCause::{Removed, Retired};
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active"), ("c", "active")]);
    changed(place.open().poll(at(1)));
    place.write(2, &[("a", "active"), ("b", "retired")]);
    assert_eq!(buried(&changed(place.open().poll(at(2)))), [("b", Retired, 2), ("c", Removed, 2)]);
    place.write(3, &[("a", "active"), ("b", "retired")]);
    assert_eq!(buried(&changed(place.open().poll(at(3)))), [("b", Retired, 2), ("c", Removed, 2)]);
    place.write(4, &[("a", "active"), ("b", "active")]);
    let back = changed(place.open().poll(at(4)));
    assert_eq!((ids(&back), buried(&back)), (vec!["a", "b"], vec![("c", Removed, 2)]));
    let notes: Vec<_> = back.notes.iter().map(|n| n.message.as_str()).collect();
    assert_eq!(notes, ["b was retired in generation 2 and is active again"]);
}

#[test]
fn a_record_that_becomes_unusable_is_served_on_and_not_renewed() {
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active")]);
    let mut source = place.open();
    changed(source.poll(at(1)));
    place.write(2, &[("a", "active"), ("b", "actve")]);
    let generation = changed(source.poll(at(2)));
    assert_eq!((ids(&generation), generation.quarantined.len(), buried(&generation)), (vec!["a", "b"], 1, vec![]));
    assert_eq!(generation.issuers.iter().map(|i| i.state).collect::<Vec<_>>(), [State::Active, State::Disabled]);
    assert!(generation.notes.iter().any(|n| n.message.contains("b: its record cannot be used; until a restart")));
    assert!(matches!(source.poll(at(3)), Poll::Unchanged));
    let restarted = changed(place.open().poll(at(4)));
    assert_eq!((ids(&restarted), buried(&restarted)), (vec!["a"], vec![]), "quarantined is not removed");
    place.write(3, &[("a", "active"), ("b", "retired")]);
    assert_eq!(ids(&changed(source.poll(at(5)))), ["a"]);
}

#[test]
fn two_records_of_one_id_do_not_bring_back_the_previous_one() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open();
    changed(source.poll(at(1)));
    place.write(2, &[("a", "active"), ("a", "active")]);
    assert_eq!(ids(&changed(source.poll(at(2)))), ["a"]);
}

#[test]
fn what_would_be_refused_can_be_told_beforehand() {
    let place = Place::new();
    let state = place.directory.path().join("state");
    assert_eq!(would_refuse(&state, 1, b"x"), None);
    assert!(!state.exists(), "looking makes nothing");
    place.write(5, &[("a", "active")]);
    changed(place.open().poll(at(1)));
    let same = fs::read(place.directory.path().join("r.json")).unwrap();
    assert_eq!(would_refuse(&state, 5, &same), None);
    assert!(would_refuse(&state, 5, b"x").is_some_and(|w| w.contains("another content")));
    assert!(would_refuse(&state, 4, b"x").is_some_and(|w| w.contains("is older than 5")));
    assert_eq!(would_refuse(&state, 6, b"x"), None);
}

#[test]
fn a_certificate_that_appears_ends_the_quarantine_without_a_new_generation() {
    let place = Place::new();
    let pem = place.directory.path().join("b.pem");
    let kept = fs::read(&pem).unwrap();
    fs::remove_file(&pem).unwrap();
    place.write(1, &[("a", "active"), ("b", "active")]);
    let mut source = place.open();
    assert_eq!(ids(&changed(source.poll(at(1)))), ["a"]);
    assert!(matches!(source.poll(at(2)), Poll::Unchanged));
    fs::write(&pem, kept).unwrap();
    assert_eq!(ids(&changed(source.poll(at(3)))), ["a", "b"]);
}

#[test]
fn damaged_memory_is_told_and_the_copy_still_holds_the_generation() {
    let place = Place::new();
    place.write(5, &[("a", "active")]);
    changed(place.open().poll(at(1)));
    fs::write(place.directory.path().join("state/registry/memory.json"), "{").unwrap();
    place.write(4, &[("a", "active")]);
    let Poll::Restored(generation, faults) = place.open().poll(at(2)) else { panic!() };
    assert!(faults.to_string().contains("generation 4 is older than 5"), "{faults}");
    assert!(
        generation.notes.iter().any(|n| n.message.contains("the tombstones are forgotten")),
        "{:?}",
        generation.notes
    );
}

#[test]
fn other_rules_take_effect_at_the_next_look() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open();
    changed(source.poll(at(1)));
    let config = crate::config::Config::parse("response.validity = \"5d\"", Path::new("x")).unwrap();
    source.set_rules(RecordRules::of(&config));
    let generation = changed(source.poll(at(2)));
    assert_eq!(generation.issuers[0].response.validity.as_secs(), 5 * 86_400);
}
