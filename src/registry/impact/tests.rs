use super::*;
use crate::config::Config;
use crate::registry::RecordRules;
use proptest::prelude::*;
use std::path::Path;

/// Id, state, profile; no profile is a signer in files.
type Record<'a> = (&'a str, &'a str, &'a str);

fn document(records: &[Record<'_>]) -> Document {
    let record = |(id, state, profile): &Record<'_>| {
        let signer = match *profile {
            "" => r#""signer":{"certificate":"s","key":"k"}"#.to_owned(),
            profile => format!(r#""enrolment":"main","profile":"{profile}""#),
        };
        format!(r#"{{"id":"{id}","state":"{state}","certificate":"{id}.pem",{signer},"status":{{"crl":"x"}}}}"#)
    };
    let list: Vec<_> = records.iter().map(record).collect();
    let text = format!("{{\"generation\":1,\"issuers\":[{}]}}", list.join(","));
    let config = "[enrolment.main]\nprotocol = \"local\"\nca_keys = \"k\"";
    let rules = RecordRules::of(&Config::parse(config, Path::new("x")).unwrap());
    Document::parse(text.as_bytes(), Path::new("r"), &rules).unwrap()
}

fn ca(name: &str) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes()
}

fn generation(records: &[Record<'_>]) -> Generation {
    let certificate = one();
    document(records).resolve(&mut |_| Ok(certificate.to_vec()))
}

/// The same for all: what is compared is the record.
fn one() -> &'static [u8] {
    static ONE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    ONE.get_or_init(|| ca("one"))
}

#[test]
fn each_kind_of_change_is_named() {
    let now = generation(&[
        ("same", "active", "p"),
        ("gone", "active", "p"),
        ("off", "active", "p"),
        ("end", "disabled", "p"),
        ("on", "disabled", "p"),
        ("moved", "active", "p"),
        ("files", "active", "p"),
        ("broken", "active", "p"),
        ("was-broken", "actve", "p"),
        ("buried", "retired", ""),
    ]);
    let then = [
        ("same", "active", "p"),
        ("off", "disabled", "p"),
        ("end", "retired", "p"),
        ("on", "active", "p"),
        ("moved", "active", "q"),
        ("files", "active", ""),
        ("broken", "actve", "p"),
        ("was-broken", "actve", "p"),
        ("buried", "active", "p"),
        ("new", "active", "p"),
        ("also-retired", "retired", ""),
    ];
    let impact = Impact::of(&now, &generation(&then));
    let kinds: Vec<(&str, Vec<&str>)> =
        impact.kinds().map(|(k, s)| (k, s.iter().map(IssuerId::as_str).collect())).collect();
    let expected = [
        ("added", vec!["new"]),
        ("removed", vec!["gone"]),
        ("disabled", vec!["off"]),
        ("retired", vec!["end"]),
        ("activated", vec!["buried", "on"]),
        ("moved", vec!["files", "moved"]),
        ("unusable", vec!["broken"]),
    ];
    assert_eq!(kinds, expected);
    assert_eq!((impact.known, impact.changed()), (9, 9));
    assert_eq!(Impact::of_document(&now, &document(&then)), impact);
    let id = |text| IssuerId::new(text).unwrap();
    for (issuer, stops) in
        [("same", false), ("on", false), ("new", false), ("off", true), ("gone", true), ("moved", true)]
    {
        assert_eq!(impact.stops(&id(issuer)), stops, "{issuer}");
    }
    assert!(impact.to_string().starts_with("9 issuers would change, 9 are known: 1 added (new), 1 removed (gone), "));
}

#[test]
fn another_ca_certificate_is_a_move() {
    let records = [("a", "active", "p")];
    let (now, other) = (generation(&records), ca("other"));
    let then = document(&records).resolve(&mut |_| Ok(other.clone()));
    let impact = Impact::of(&now, &then);
    assert!(impact.stops(&now.issuers[0].id) && impact.moved.len() == 1);
}

#[test]
fn other_signer_files_are_no_change() {
    let now = generation(&[("a", "active", "")]);
    assert_eq!(Impact::of(&now, &generation(&[("a", "active", "")])).changed(), 0);
}

#[test]
fn a_small_change_passes_whatever_its_share_and_a_large_one_by_its_share() {
    let ids: Vec<String> = (0..60).map(|n| format!("ca-{n}")).collect();
    let with = |disabled: usize| {
        let state = |n| if n < disabled { "disabled" } else { "active" };
        let records: Vec<Record<'_>> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), state(n), "p")).collect();
        Impact::of_document(
            &generation(&ids.iter().map(|id| (id.as_str(), "active", "p")).collect::<Vec<_>>()),
            &document(&records),
        )
    };
    let guard = Guard { max_change: 0.2, small_change: 5 };
    for (disabled, holds) in [(0, false), (6, false), (12, false), (13, true), (60, true)] {
        assert_eq!(guard.holds(&with(disabled)), holds, "{disabled} of 60");
    }
    assert!(!Guard { max_change: 1.0, small_change: 0 }.holds(&with(60)), "1 holds nothing");
    assert!(!Guard { max_change: 0.0, small_change: 60 }.holds(&with(60)));
    let lab = Impact {
        known: 3,
        removed: [1, 2, 3].map(|n| IssuerId::new(&n.to_string()).unwrap()).into(),
        ..Impact::default()
    };
    assert!(!guard.holds(&lab), "a lab of three");
    let growth =
        Impact { known: 60, added: ids.iter().map(|id| IssuerId::new(id).unwrap()).collect(), ..Impact::default() };
    assert!(guard.holds(&growth), "each new issuer asks for a signer");
}

proptest! {
    #[test]
    fn an_issuer_is_counted_once_and_the_same_document_changes_nothing(
        now in proptest::collection::btree_map("[a-d]", 0_usize..4, 0..5),
        then in proptest::collection::btree_map("[a-d]", 0_usize..4, 0..5),
    ) {
        let records = |map: &BTreeMap<String, usize>| {
            let states = ["active", "disabled", "retired", "broken"];
            map.iter().map(|(id, state)| (id.clone(), states[*state])).collect::<Vec<_>>()
        };
        let (now, then) = (records(&now), records(&then));
        let as_records = |list: &[(String, &'static str)]| {
            generation(&list.iter().map(|(id, state)| (id.as_str(), *state, "p")).collect::<Vec<_>>())
        };
        let (now, then) = (as_records(&now), as_records(&then));
        prop_assert_eq!(Impact::of(&now, &now).changed(), 0);
        let impact = Impact::of(&now, &then);
        let mut all: Vec<&IssuerId> = impact.kinds().flat_map(|(_, set)| set).collect();
        let counted = all.len();
        all.sort();
        all.dedup();
        prop_assert_eq!((all.len(), impact.changed()), (counted, counted));
        for issuer in &now.issuers {
            let then = then.issuers.iter().find(|i| i.id == issuer.id);
            let goes_on = then.is_some_and(|t| t.state == State::Active || t.state == issuer.state);
            prop_assert_eq!(impact.stops(&issuer.id), !goes_on, "{}", issuer.id);
        }
    }
}
