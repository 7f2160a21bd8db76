mod buried;
mod hangs;
mod slips;

use super::*;
use crate::registry::TombstoneCause;
use proptest::prelude::*;
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

    fn open(&self) -> Watched<'_> {
        self.open_with(HOLDS_NOTHING, 0)
    }

    fn open_with(&self, guard: Guard, now: i64) -> Watched<'_> {
        let path = self.directory.path();
        let (name, state, rules) = (path.join("r.json"), path.join("state"), RecordRules::default());
        Watched { place: self, follower: Follower::open(&name, &state, rules, guard, at(now)).unwrap() }
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.directory.path().join("state/registry").join(name)
    }
}

const HOLDS_NOTHING: Guard = Guard { max_change: 1.0, small_change: 0 };
/// Holds every change.
const STRICT: Guard = Guard { max_change: 0.0, small_change: 0 };

/// A follower that is shown the file of its place.
struct Watched<'a> {
    place: &'a Place,
    follower: Follower,
}

impl Watched<'_> {
    fn look(&mut self, now: i64) -> Result<Change, Faults> {
        let bytes = fs::read(self.place.directory.path().join("r.json")).unwrap();
        self.follower.consider(&bytes, false, at(now))
    }

    fn taken(&mut self, now: i64) -> Arc<Generation> {
        assert_eq!(self.look(now).unwrap(), Change::Taken);
        self.current()
    }

    fn unchanged(&mut self, now: i64) {
        assert_eq!(self.look(now).unwrap(), Change::None);
    }

    fn refused(&mut self, now: i64) -> String {
        self.look(now).unwrap_err().to_string()
    }

    fn current(&self) -> Arc<Generation> {
        self.follower.current().unwrap().clone()
    }

    fn numbers(&self) -> (u64, Option<u64>) {
        (self.current().number, self.follower.held().map(|held| held.generation.number))
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds)
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
    assert_eq!(ids(&source.taken(1)), ["a", "b"]);
    source.unchanged(2);
    place.write(4, &[("a", "active")]);
    let text = source.refused(3);
    assert!(text.contains("generation 4 is older than 5") && text.contains("publish it as generation 6"), "{text}");
    assert_eq!((source.follower.synced(), source.numbers()), (Some(at(2)), (5, None)));

    let mut restarted = place.open_with(HOLDS_NOTHING, 4);
    assert_eq!((restarted.numbers(), ids(&restarted.current())), ((5, None), vec!["a", "b"]));
    assert!(restarted.refused(4).contains("generation 4 is older than 5"));
    assert_eq!(restarted.numbers(), (5, None));
}

#[test]
fn one_generation_is_one_content() {
    let place = Place::new();
    place.write(5, &[("a", "active")]);
    let mut source = place.open();
    source.taken(1);
    place.write(5, &[("a", "disabled")]);
    assert!(source.refused(2).contains("raise \"generation\" to 6 with every change"));
    place.write(6, &[("a", "disabled")]);
    source.taken(3);
}

#[test]
fn a_broken_file_changes_nothing_and_a_restart_takes_the_copy() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    place.open().taken(1);
    place.write_text("{ \"generation\": 2,");
    let mut source = place.open();
    assert_eq!(ids(&source.current()), ["a"]);
    assert!(source.refused(3).contains("r.json:1:18: not JSON"));
    assert_eq!(ids(&source.current()), ["a"]);
    place.write(2, &[("a", "active"), ("b", "active")]);
    assert_eq!(ids(&source.taken(4)), ["a", "b"]);
}

#[test]
fn two_records_of_one_id_do_not_bring_back_the_previous_one() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open();
    source.taken(1);
    place.write(2, &[("a", "active"), ("a", "active")]);
    assert_eq!(ids(&source.taken(2)), ["a"]);
}

#[test]
fn what_would_be_refused_can_be_told_beforehand() {
    let place = Place::new();
    let state = place.directory.path().join("state");
    assert_eq!(would_refuse(&state, 1, b"x"), None);
    assert!(!state.exists(), "looking makes nothing");
    place.write(5, &[("a", "active")]);
    place.open().taken(1);
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
    assert_eq!(ids(&source.taken(1)), ["a"]);
    source.unchanged(2);
    fs::write(&pem, kept).unwrap();
    assert_eq!(ids(&source.taken(3)), ["a", "b"]);
}

#[test]
fn damaged_memory_is_told_and_the_copy_still_holds_the_generation() {
    let place = Place::new();
    place.write(5, &[("a", "active")]);
    place.open().taken(1);
    fs::write(place.directory.path().join("state/registry/memory.json"), "{").unwrap();
    place.write(4, &[("a", "active")]);
    let mut source = place.open();
    assert!(source.refused(2).contains("generation 4 is older than 5"));
    let generation = source.current();
    assert!(
        generation.notes.iter().any(|n| n.message.contains("the tombstones are forgotten")),
        "{:?}",
        generation.notes
    );
}

#[test]
fn a_copy_that_cannot_be_used_is_named_itself() {
    let place = Place::new();
    place.write(5, &[("a", "active")]);
    place.open().taken(1);
    let copy = place.kept("last-good.json");
    fs::write(&copy, "}").unwrap();
    let mut source = place.open();
    source.taken(2);
    let told: Vec<String> = source.current().notes.iter().map(ToString::to_string).collect();
    let wanted = format!("{}:1:1: the copy of the registry cannot be used: not JSON", copy.display());
    assert!(told.iter().any(|note| note.starts_with(&wanted)), "{told:?}");
}

#[test]
fn other_rules_take_effect_at_once_and_on_what_is_held_too() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open_with(STRICT, 0);
    source.taken(1);
    place.write(2, &[("a", "active"), ("b", "active")]);
    assert_eq!(source.look(2).unwrap(), Change::Held);
    let config = crate::config::Config::parse("response.validity = \"5d\"", Path::new("x")).unwrap();
    let name = place.directory.path().join("r.json");
    assert_eq!(source.follower.set_terms(&name, RecordRules::of(&config), STRICT, at(2)), Change::Taken);
    let validity = |generation: &Generation| generation.issuers[0].response.validity.as_secs();
    assert_eq!((validity(&source.current()), source.numbers()), (5 * 86_400, (1, Some(2))));
    assert_eq!(source.look(3).unwrap(), Change::Held);
    assert_eq!(validity(&source.follower.held().unwrap().generation), 5 * 86_400);
}

#[test]
fn a_copy_is_as_old_as_it_is() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open();
    source.taken(1_000);
    source.unchanged(1_059);
    assert_eq!(place.open_with(HOLDS_NOTHING, 5_000).follower.synced(), Some(at(1_000)), "noted once a minute");
    source.unchanged(1_060);
    assert_eq!(place.open_with(HOLDS_NOTHING, 5_000).follower.synced(), Some(at(1_060)));
    assert_eq!(place.open_with(HOLDS_NOTHING, 1_059).follower.synced(), None, "the clock was set back");
    fs::write(place.kept("synced.json"), "{\"sha256\":\"00\",\"at\":\"1970-01-01T00:18:00Z\"}").unwrap();
    assert_eq!(place.open_with(HOLDS_NOTHING, 5_000).follower.synced(), None, "of another document");
    fs::write(place.kept("synced.json"), "{\"sha").unwrap();
    assert_eq!(place.open_with(HOLDS_NOTHING, 5_000).follower.synced(), None, "torn");
}

#[test]
fn a_large_change_is_held_until_it_is_approved() {
    let place = Place::new();
    place.write(1, &[("a", "active"), ("b", "active"), ("c", "active")]);
    let guard = Guard { max_change: 0.5, small_change: 1 };
    let mut source = place.open_with(guard, 0);
    source.taken(1);
    place.write(2, &[("a", "active"), ("b", "active"), ("c", "disabled")]);
    source.taken(2);
    place.write(3, &[("a", "disabled"), ("b", "retired"), ("c", "disabled")]);
    assert_eq!(source.look(3).unwrap(), Change::Held);
    assert_eq!(source.numbers(), (2, Some(3)));
    source.unchanged(4);
    let held = source.follower.held().unwrap().clone();
    assert_eq!(held.impact.to_string(), "2 issuers would change, 3 are known: 1 disabled (a), 1 retired (b)");
    assert_eq!((held.since, source.follower.synced()), (at(3), Some(at(4))), "what is held was read all the same");

    let states = |generation: &Generation| generation.issuers.iter().map(|i| i.state).collect::<Vec<_>>();
    assert_eq!(states(&source.current()), [State::Active, State::Active, State::Disabled]);
    let renewable = source.follower.renewable().unwrap();
    let stopped: Vec<_> = renewable.issuers.iter().map(|i| i.stopped).collect();
    assert_eq!(stopped, [Some(Stopped::Held(3)), Some(Stopped::Held(3)), None], "at once, and c is disabled anyhow");
    assert_eq!(states(&renewable), states(&source.current()), "which is in use");

    let wrong = source.follower.approve(2, "eve", at(5)).unwrap_err();
    assert!(wrong.to_string().contains("generation 3 is held"), "{wrong}");
    source.follower.approve(3, "alice", at(5)).unwrap();
    assert_eq!((source.numbers(), ids(&source.current())), ((3, None), vec!["a", "c"]));
    assert!(matches!(source.follower.approve(3, "alice", at(5)), Err(ApproveError::NothingHeld)));
    assert!(!place.kept("held.json").exists());
    let mut restarted = place.open_with(guard, 6);
    assert_eq!(restarted.numbers(), (3, None));
    restarted.unchanged(6);
}

#[test]
fn the_first_generation_is_not_held_nor_one_after_an_empty_one() {
    let place = Place::new();
    place.write(1, &[]);
    let mut source = place.open_with(STRICT, 0);
    source.taken(1);
    place.write(2, &[("a", "active"), ("b", "active"), ("c", "active")]);
    assert_eq!(source.taken(2).issuers.len(), 3);
}

#[test]
fn what_is_held_is_held_over_a_restart_and_not_followed_by_what_was_before() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let first = fs::read(place.directory.path().join("r.json")).unwrap();
    let mut source = place.open_with(STRICT, 0);
    source.taken(1);
    place.write(2, &[("a", "disabled")]);
    assert_eq!(source.look(2).unwrap(), Change::Held);
    let mut restarted = place.open_with(STRICT, 3);
    assert_eq!(restarted.numbers(), (1, Some(2)));
    assert_eq!((restarted.follower.held().unwrap().since, restarted.follower.synced()), (at(2), Some(at(2))));
    restarted.unchanged(3);
    fs::write(place.directory.path().join("r.json"), first).unwrap();
    assert!(restarted.refused(4).contains("generation 1 is older than 2, which is held"));
    place.write(2, &[("a", "retired")]);
    assert!(restarted.refused(5).contains("generation 2 is held with another content"));
    assert_eq!(restarted.numbers(), (1, Some(2)));
    // Loosened by a reload, and a restart.
    assert_eq!(place.open_with(HOLDS_NOTHING, 6).numbers(), (2, None));
}

#[test]
fn a_newer_generation_takes_the_place_of_what_is_held() {
    let place = Place::new();
    let guard = Guard { max_change: 0.0, small_change: 1 };
    place.write(1, &[("a", "active"), ("b", "active")]);
    let mut source = place.open_with(guard, 0);
    source.taken(1);
    place.write(2, &[]);
    assert_eq!(source.look(2).unwrap(), Change::Held);
    place.write(3, &[("a", "disabled"), ("b", "disabled")]);
    assert_eq!(source.look(3).unwrap(), Change::Held);
    assert!(matches!(source.follower.approve(2, "alice", at(4)), Err(ApproveError::Another(3))));
    assert_eq!((source.numbers(), source.follower.held().unwrap().since), ((1, Some(3)), at(3)));
    place.write(4, &[("a", "active"), ("b", "disabled")]);
    source.taken(4);
    assert_eq!((source.numbers(), place.open_with(guard, 5).numbers()), ((4, None), (4, None)));
}

#[test]
fn an_approval_that_cannot_be_written_down_is_refused() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open_with(STRICT, 0);
    source.taken(1);
    place.write(2, &[("a", "disabled")]);
    assert_eq!(source.look(2).unwrap(), Change::Held);
    // A directory in the place of the file that is written aside.
    fs::create_dir(place.kept("memory.new")).unwrap();
    assert!(matches!(source.follower.approve(2, "alice", at(3)), Err(ApproveError::NotKept(_))));
    assert_eq!(source.numbers(), (1, Some(2)));
    source.unchanged(4);
    fs::remove_dir(place.kept("memory.new")).unwrap();
    source.follower.approve(2, "alice", at(5)).unwrap();
    assert_eq!(source.numbers(), (2, None));
}

/// The files as they are after a crash between any two writes.
#[test]
fn a_crash_at_any_write_loses_nothing_that_was_told() {
    let place = Place::new();
    place.write(1, &[("a", "active")]);
    let mut source = place.open_with(STRICT, 0);
    source.taken(1);
    let memory_of_1 = fs::read(place.kept("memory.json")).unwrap();
    // Holding: the document is there, the memory of it is not.
    place.write(2, &[("a", "disabled")]);
    assert_eq!(source.look(2).unwrap(), Change::Held);
    let (memory_of_2, held) =
        (fs::read(place.kept("memory.json")).unwrap(), fs::read(place.kept("held.json")).unwrap());
    fs::write(place.kept("memory.json"), &memory_of_1).unwrap();
    assert_eq!(place.open_with(STRICT, 3).numbers(), (1, Some(2)));
    // The memory of it is there, and it is gone: its number still counts.
    fs::write(place.kept("memory.json"), &memory_of_2).unwrap();
    fs::remove_file(place.kept("held.json")).unwrap();
    let mut restarted = place.open_with(STRICT, 3);
    assert_eq!(restarted.numbers(), (1, None));
    assert_eq!(restarted.look(4).unwrap(), Change::Held);
    assert!(place.kept("held.json").exists());
    // Approving: written down, and nothing more.
    let text = String::from_utf8(memory_of_2.clone()).unwrap();
    let approved = text.replace("\"since\"", "\"approved\": [\"alice\", \"1970-01-01T00:00:05Z\"], \"since\"");
    assert_ne!(approved, text);
    fs::write(place.kept("memory.json"), approved).unwrap();
    assert_eq!(place.open_with(STRICT, 5).numbers(), (2, None));
    // Taking over: the document is there, the memory of it is not, and what was held is not removed.
    fs::write(place.kept("memory.json"), &memory_of_2).unwrap();
    fs::write(place.kept("held.json"), &held).unwrap();
    let mut restarted = place.open_with(STRICT, 6);
    assert_eq!(restarted.numbers(), (2, None));
    restarted.unchanged(6);
    // A file that is written aside and never renamed does not matter.
    fs::write(place.kept("last-good.new"), "{ \"generation\": 9").unwrap();
    assert_eq!(place.open_with(STRICT, 7).numbers(), (2, None));
}

#[derive(Clone, Debug)]
enum Doing {
    Publish { generation: u64, states: [u8; 3] },
    Garbage(u8),
    Restart { strict: bool },
    Approve(u64),
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        6 => (1_u64..12, any::<[u8; 3]>()).prop_map(|(generation, states)| Doing::Publish { generation, states }),
        1 => any::<u8>().prop_map(Doing::Garbage),
        2 => any::<bool>().prop_map(|strict| Doing::Restart { strict }),
        2 => (1_u64..12).prop_map(Doing::Approve),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_generation_never_goes_back_whatever_is_published_and_however_often_it_restarts(
        doings in proptest::collection::vec(doing(), 1..25),
    ) {
        let place = Place::new();
        let mut source = place.open_with(STRICT, 0);
        let mut contents: std::collections::HashMap<u64, Vec<u8>> = std::collections::HashMap::new();
        let (mut in_use, mut seen) = (0, 0);
        for (now, doing) in (1_i64..).zip(doings) {
            match doing {
                Doing::Publish { generation, states } => {
                    let states = states.map(|s| ["active", "disabled", "retired", "broken"][usize::from(s) % 4]);
                    let records: Vec<_> = ["a", "b", "c"].into_iter().zip(states).collect();
                    place.write(generation, &records);
                    let bytes = fs::read(place.directory.path().join("r.json")).unwrap();
                    if source.follower.consider(&bytes, now % 2 == 0, at(now)).is_ok() {
                        prop_assert!(generation >= seen, "{generation} after {seen}");
                        let content = contents.entry(generation).or_insert_with(|| bytes.clone());
                        prop_assert_eq!(&*content, &bytes, "one number is one content");
                    } else {
                        prop_assert!(generation <= seen);
                    }
                }
                Doing::Garbage(octet) => {
                    prop_assert!(source.follower.consider(&[octet; 9], false, at(now)).is_err());
                }
                Doing::Restart { strict } => {
                    let before = source.follower.current().map(|g| g.number);
                    let held = source.follower.held().map(|h| h.generation.number);
                    source = place.open_with(if strict { STRICT } else { HOLDS_NOTHING }, now);
                    let after = source.follower.current().map(|g| g.number);
                    prop_assert!(after == before || !strict && after == held, "{before:?} {held:?} {after:?}");
                }
                Doing::Approve(generation) => {
                    let held = source.follower.held().map(|h| h.generation.number);
                    prop_assert_eq!(source.follower.approve(generation, "x", at(now)).is_ok(), held == Some(generation));
                }
            }
            let number = source.follower.current().map_or(0, |g| g.number);
            prop_assert!(number >= in_use, "{number} after {in_use}");
            in_use = number;
            seen = seen.max(number).max(source.follower.held().map_or(0, |h| h.generation.number));
        }
    }
}
