use super::*;
use crate::config::Config;
use crate::ocsp::Profile;
use crate::registry::SignerSource;
use proptest::prelude::*;

const GOOD: &str = r#"{ "generation": 7,
  "issuers": [
    { "id": "ca-1", "state": "active", "certificate": "ca-1.pem",
      "enrolment": "main", "profile": "ocsp-ca-1",
      "status": { "index": "ca-1.index.txt" } },
    { "id": "ca-2", "state": "disabled", "certificate": "/pki/ca-2.pem",
      "signer": { "certificate": "s.pem", "key": "s.key", "rsa_padding": "pss" },
      "response": { "profile": "rfc6960", "validity": "2d" },
      "status": { "crl": ["a.crl", "b.crl"], "index": "i", "crl_scope": "complete" } },
    { "id": "ca-3", "state": "retired" } ] }"#;

fn rules() -> RecordRules {
    let text = "[enrolment.main]\nprotocol = \"local\"\nca_keys = \"k\"\n[response]\nvalidity = \"5d\"";
    RecordRules::of(&Config::parse(text, Path::new("/x")).unwrap())
}

fn parse(text: &str) -> Result<Document, Faults> {
    Document::parse(text.as_bytes(), Path::new("/r/i.json"), &rules())
}

fn ca(name: &str, tweak: impl FnOnce(&mut rcgen::CertificateParams)) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    tweak(&mut params);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes()
}

/// The faults of the only record that is not `ca-9`, without the file's name.
fn quarantined(record: &str) -> Vec<String> {
    let neighbour = r#"{"id":"ca-9","state":"retired"}"#;
    let document = parse(&format!("{{\"generation\":1,\"issuers\":[{neighbour},\n{record}]}}")).unwrap();
    assert!(document.records.iter().any(|(_, r)| r.id.as_str() == "ca-9"), "the neighbour is used");
    let faults = document.quarantined.iter().flat_map(|q| &q.faults);
    faults.map(|f| f.to_string().replacen("/r/i.json:", "", 1)).collect()
}

#[test]
fn the_documented_form_is_read() {
    let (one, two) = (ca("one", |_| {}), ca("two", |_| {}));
    let generation = parse(GOOD).unwrap().resolve(&mut |path| match path.to_str() {
        Some("/r/ca-1.pem") => Ok(one.clone()),
        Some("/pki/ca-2.pem") => Ok(two.clone()),
        _ => Err(io::ErrorKind::NotFound.into()),
    });
    assert_eq!((generation.number, generation.quarantined.len(), generation.notes.len()), (7, 0, 0));
    let [a, b] = generation.issuers.as_slice() else { panic!("{generation:?}") };
    assert_eq!((a.id.as_str(), a.state, a.at.line), ("ca-1", State::Active, 3));
    assert_eq!(a.signer_source, SignerSource::Enrolled { enrolment: "main".into(), profile: "ocsp-ca-1".into() });
    assert_eq!(a.status.index, [Path::new("/r/ca-1.index.txt")]);
    assert_eq!((a.response.profile, a.response.validity.as_secs()), (Profile::Rfc9919, 5 * 86_400));
    let files = SignerSource::Files { certificate: "/r/s.pem".into(), key: "/r/s.key".into() };
    assert_eq!((&b.signer_source, b.state, b.signer.rsa_padding_name()), (&files, State::Disabled, "pss"));
    assert_eq!((b.response.profile, b.response.validity.as_secs()), (Profile::Rfc6960, 2 * 86_400));
    assert_eq!(b.response.unissued.name(), "unknown", "it follows the record's profile");
    assert_eq!(b.status.crl, [Path::new("/r/a.crl"), Path::new("/r/b.crl")]);
    assert!(b.status.crls_are_complete && !a.status.crls_are_complete);
    let gone: Vec<_> = generation.tombstones.iter().map(|t| (t.id.as_str(), t.cause, t.generation)).collect();
    assert_eq!(gone, [("ca-3", TombstoneCause::Retired, 7)]);
}

#[test]
fn a_bad_record_is_quarantined_with_its_faults_and_its_neighbour_is_used() {
    let live = r#""state":"active","certificate":"c","status":{"crl":"x"}"#;
    let table: &[(String, &[&str])] = &[
        (
            format!(r#"{{"id":"a","enrolment":"main","profil":"p",{live}}}"#),
            &[
                "2:23: a.enrolment: \"profile\" is missing beside it",
                "2:39: a.profil is not a known key; did you mean \"profile\"?",
            ],
        ),
        (
            r#"{"id":"a","state":"actve"}"#.into(),
            &[
                "2:1: a.certificate is missing; write \"certificate\": \"issuing-ca-1.pem\"",
                "2:1: a.status names no source; write \"status\": { \"index\": \"index.txt\" }, { \"crl\": \"ca.crl\" } or both",
                "2:1: a has no signer; write \"enrolment\" and \"profile\", or \"signer\": { \"certificate\": \"ocsp.pem\", \"key\": \"ocsp.key\" }",
                "2:19: a.state: \"actve\" is not one of \"active\", \"disabled\", \"retired\"; did you mean \"active\"?",
            ],
        ),
        (
            r#"{"id":"a","state":"active","certificate":"c","signer":{"certificate":"s","key":"k"},"status":{"index":"x","crl_scope":"all"}}"#.into(),
            &[
                "2:119: a.status.crl_scope: \"all\" is not one of \"stated\", \"complete\"",
                "2:119: a.status.crl_scope: there is no \"crl\" beside it",
            ],
        ),
        (
            format!(r#"{{"id":"a","signer":{{"certificate":"s","key":"k"}},"enrolment":"main","profile":"p",{live}}}"#),
            &["2:20: a.signer: a record has either signer files or enrolment and profile, not both"],
        ),
        (
            format!(r#"{{"id":"a","signer":{{"certificate":"s"}},{live}}}"#),
            &["2:20: a.signer.key is missing; write \"key\": \"ocsp.key\""],
        ),
        (
            format!(r#"{{"id":"a","enrolment":"mian","profile":"p",{live}}}"#),
            &[
                "2:23: a.enrolment: \"mian\" is not in the configuration; write a section [enrolment.mian] there; did you mean \"main\"?",
            ],
        ),
        (
            format!(
                r#"{{"id":"a","enrolment":"main","profile":"p","response":{{"profile":"cabf","unissued":"good"}},{live}}}"#
            ),
            &[
                "2:84: a.response.unissued: BR §4.9.9 forbids \"good\" for a serial that was not issued; write \"unauthorized\" or \"unknown\" (profile cabf)",
            ],
        ),
        (
            format!(
                r#"{{"id":"a","enrolment":"main","profile":"p","signer":{{"key":"ed25519"}},"response":{{"profile":"cabf"}},{live}}}"#
            ),
            &[
                "2:53: a.signer.key: BR §6.1.5 does not allow Ed25519 keys; write \"ecdsa-p256\" or \"rsa-2048\" (profile cabf)",
            ],
        ),
        (
            format!(r#"{{"id":"a","id":"b","enrolment":"main","profile":"p",{live}}}"#),
            &["2:16: issuer.id is given twice"],
        ),
        (
            format!(r#"{{"id":"../a","enrolment":"main","profile":"p",{live}}}"#),
            &[
                "2:7: issuer.id: \"../a\" is not a usable name: 1 to 128 letters, digits, '.', '_' or '-', not beginning with '.'",
            ],
        ),
        ("[1]".into(), &["2:1: issuer.id is missing; write \"id\": \"issuing-ca-1\""]),
        (
            r#"{"id":"ca-9","state":"retired"}"#.into(),
            &["2:1: ca-9: the id is taken by the record in line 1, which is used"],
        ),
    ];
    for (record, expected) in table {
        let found = quarantined(record);
        match record.as_str() {
            "[1]" => assert!(found.iter().any(|f| f == "2:1: issuer: expected a table, found a list"), "{found:?}"),
            _ => assert_eq!(found, *expected, "{record}"),
        }
    }
}

#[test]
fn what_makes_the_whole_document_useless_is_told_with_its_place() {
    let table: &[(&str, &[&str])] = &[
        ("", &["1:1: not JSON: EOF while parsing a value"]),
        ("[]", &["1:1: not JSON: invalid type: sequence, expected an object"]),
        ("{}", &["1:1: \"generation\": 1 is missing"]),
        ("{\"generation\": 1}", &["1:1: \"issuers\": [] is missing"]),
        (
            "{\"generation\": 0, \"issuers\": []}",
            &["1:16: generation: expected a whole number from 1, raised with every change"],
        ),
        ("{\"generation\": 1, \"issuers\": {}}", &["1:30: issuers: expected a list of records"]),
        (
            "{\"generation\": 1,\n \"version\": 2, \"issuers\": []}",
            &["2:13: \"version\" is not a known key; known here: generation, issuers"],
        ),
        ("{\"generation\": 1, \"generation\": 2, \"issuers\": []}", &["1:33: generation is given twice"]),
        (
            "{\"generation\": 1, \"issuers\": [\n{\"id\": \"ca-1\",\n\"state\": }]}",
            &["3:10: not JSON: expected value (in or after the record ca-1)"],
        ),
    ];
    for (text, expected) in table {
        let found = parse(text).unwrap_err();
        let found: Vec<_> = found.0.iter().map(|f| f.to_string().replacen("/r/i.json:", "", 1)).collect();
        assert_eq!(found, *expected, "{text}");
    }
    let not_utf8 = Document::parse(b"\xff", Path::new("/r/i.json"), &rules()).unwrap_err();
    assert_eq!(not_utf8.to_string(), "/r/i.json: not UTF-8 at octet 0");
}

#[test]
fn a_certificate_that_is_missing_or_not_a_ca_quarantines_its_record_only() {
    let leaf = ca("leaf", |p| p.is_ca = rcgen::IsCa::NoCa);
    let crl_only = ca("crl", |p| p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]);
    let good = ca("good", |_| {});
    let record = |id: &str| {
        format!(
            r#"{{"id":"{id}","state":"active","certificate":"{id}","enrolment":"main","profile":"p","status":{{"crl":"x"}}}}"#
        )
    };
    let list = ["missing", "garbage", "leaf", "crl", "good", "twin"].map(record).join(",\n");
    let document = parse(&format!("{{\"generation\":1,\"issuers\":[{list}]}}")).unwrap();
    let generation = document.resolve(&mut |path| match path.file_name().and_then(|n| n.to_str()) {
        Some("garbage") => Ok(b"garbage".to_vec()),
        Some("leaf") => Ok(leaf.clone()),
        Some("crl") => Ok(crl_only.clone()),
        Some("good" | "twin") => Ok(good.clone()),
        _ => Err(io::ErrorKind::NotFound.into()),
    });
    assert_eq!(generation.issuers.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["good", "twin"]);
    let why: Vec<_> = generation.quarantined.iter().map(|q| (q.name(), q.faults[0].message.clone())).collect();
    for (found, (id, text)) in why.iter().zip([
        ("missing", "missing.certificate: /r/missing: entity not found"),
        ("garbage", "garbage.certificate: /r/garbage: "),
        ("leaf", "leaf.certificate: /r/leaf: this is not a CA certificate"),
        ("crl", "crl.certificate: /r/crl: its keyUsage lacks keyCertSign"),
    ]) {
        assert!(found.0 == id && found.1.starts_with(text), "{found:?}");
    }
    assert_eq!(why.len(), 4);
    let [note] = generation.notes.as_slice() else { panic!("{:?}", generation.notes) };
    assert!(note.message.starts_with("twin has the CA key and name of good; "), "{note}");
}

proptest! {
    #[test]
    fn mutated_documents_never_panic(at in 0_usize..900, with in proptest::collection::vec(any::<u8>(), 0..4), cut in 0_usize..30) {
        let bytes = GOOD.as_bytes();
        let at = at.min(bytes.len());
        let rest = bytes.get(at + cut..).unwrap_or_default();
        let mutated: Vec<u8> = bytes[..at].iter().copied().chain(with).chain(rest.iter().copied()).collect();
        match Document::parse(&mutated, Path::new("i"), &rules()) {
            Ok(document) => prop_assert!(document.records.len() + document.quarantined.len() <= 4),
            Err(faults) => prop_assert!(!faults.0.is_empty()),
        }
    }

    #[test]
    fn arbitrary_json_values_never_panic(key in "[a-z]{1,9}", value in "[\\[\\]{}\":,0-9a-z. -]{0,40}") {
        let text = format!("{{\"generation\":1,\"issuers\":[{{\"id\":\"x\",\"{key}\":{value}}}]}}");
        if let Ok(document) = parse(&text) {
            prop_assert_eq!(document.records.len() + document.quarantined.len(), 1);
        }
    }
}
