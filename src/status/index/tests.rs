use super::*;
use proptest::prelude::*;

type Word = (Serial, IndexStatus);

fn read(bytes: &[u8]) -> (Vec<Word>, IndexReport) {
    let mut words = Vec::new();
    let report = parse(bytes, &mut |serial, status| words.push((serial, status)));
    (words, report)
}

fn hex(text: &str) -> Serial {
    Serial::from_hex(text).unwrap()
}

/// The one line of a file, which is quarantined.
fn bad(line: &str) -> (Vec<Word>, super::super::Quarantined) {
    let (words, report) = read(format!("{line}\n").as_bytes());
    assert_eq!(report.quarantined.total, 1, "{line}");
    (words, report.quarantined.first[0].clone())
}

fn revoked(field: &str) -> IndexStatus {
    let (words, report) = read(format!("R\t270101000000Z\t{field}\t01\tunknown\t/CN=x\n").as_bytes());
    assert_eq!(report.quarantined.total, 0, "{field}");
    words[0].1
}

#[test]
fn an_index_by_openssl_is_read_with_all_its_reasons() {
    let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/status/index.txt"));
    let (words, report) = read(file);
    assert_eq!((report.lines, report.issued, report.revoked, report.quarantined.total), (14, 3, 11, 0));
    assert_eq!(words[2], (hex("FF00112233445566778899AABBCCDDEEFF0011"), IndexStatus::Issued));
    let reasons: Vec<_> = words[3..]
        .iter()
        .map(|(_, status)| match status {
            IndexStatus::Revoked { reason, .. } => reason.map(Reason::name),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        None,
        None,
        Some("keyCompromise"),
        Some("CACompromise"),
        Some("affiliationChanged"),
        Some("superseded"),
        Some("cessationOfOperation"),
        Some("certificateHold"),
        Some("certificateHold"),
        Some("keyCompromise"),
        Some("CACompromise"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn revocations_are_read_in_every_spelling() {
    let at = parse_generalized(b"20260203040506Z").unwrap();
    for date in ["260203040506Z", "20260203040506Z"] {
        assert_eq!(revoked(date), IndexStatus::Revoked { at, reason: None });
    }
    let reason = |text: &str| match revoked(&format!("260203040506Z,{text}")) {
        IndexStatus::Revoked { reason, at: found } if found == at => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("KEYcompromise"), Some(Reason::KeyCompromise));
    assert_eq!(reason("privilegeWithdrawn"), Some(Reason::PrivilegeWithdrawn));
    assert_eq!(reason("AACompromise"), Some(Reason::AaCompromise));
    assert_eq!(reason("Unspecified"), None);
    assert_eq!(reason("keytime,20260101000000Z"), Some(Reason::KeyCompromise));
    assert_eq!(reason("CAkeyTime,20260101000000Z"), Some(Reason::CaCompromise));
    assert_eq!(reason("holdInstruction,holdInstructionCallIssuer"), Some(Reason::CertificateHold));
}

#[test]
fn comments_empty_lines_carriage_returns_and_escaped_tabs_are_understood() {
    let file = b"# made by hand\r\n\r\nV\t270101000000Z\t\t0a\tunknown\t/CN=a\\\tb\r\n\nE\t1\t\t0B\tf\t\r\n";
    let (words, report) = read(file);
    assert_eq!(words, [(hex("0a"), IndexStatus::Issued), (hex("0b"), IndexStatus::Issued)]);
    assert_eq!((report.lines, report.issued, report.quarantined.total), (5, 2, 0));
}

#[test]
fn a_line_that_names_a_certificate_but_cannot_be_read_withholds_its_status() {
    for (line, why) in [
        ("R\t1\t\t01\tunknown\t/CN=x", "date"),
        ("R\t1\t261301000000Z\t01\tunknown\t/CN=x", "date"),
        ("R\t1\t260101000000Z,removeFromCRL\t01\tunknown\t/CN=x", "removeFromCRL"),
        ("V\t1\t260101000000Z\t01\tunknown\t/CN=x", "not marked revoked"),
        ("S\t1\t\t01\tunknown\t/CN=x", "neither V, R nor E"),
        ("V\t1\t\t01\tunknown", "5 fields"),
        ("V\t1\t\t01\tunknown\t/CN=x\ty", "7 fields"),
    ] {
        let (words, quarantined) = bad(line);
        assert_eq!(words, [(hex("01"), IndexStatus::Withheld)], "{line}");
        assert_eq!((quarantined.serial, quarantined.consequence), (Some(hex("01")), Consequence::Withheld));
        assert!(quarantined.why.contains(why), "{line}: {}", quarantined.why);
    }
}

#[test]
fn an_unknown_reason_does_not_undo_the_revocation() {
    let (words, quarantined) = bad("R\t1\t260101000000Z,because\t01\tunknown\t/CN=x");
    assert!(matches!(words[..], [(_, IndexStatus::Revoked { reason: None, .. })]));
    assert_eq!(quarantined.consequence, Consequence::RevokedWithoutReason);
}

#[test]
fn a_line_that_names_no_certificate_is_ignored() {
    let long = format!("V\t1\t\t{}\tunknown\t/CN=x", "1".repeat(41));
    for line in ["x", "V\t1\t\t0x1\tunknown\t/", "V\t1\t\t\tunknown\t/", "V\t1\t\t01", "V\t1\t\t1:2\tf\t", &long] {
        let (words, quarantined) = bad(line);
        assert_eq!((words.len(), quarantined.consequence), (0, Consequence::Ignored), "{line}");
    }
}

#[test]
fn a_line_that_may_be_about_anyone_is_counted_and_the_first_is_named() {
    let whole = "# by hand\n\n \t \nV\t1\t\t01\tunknown\t/CN=a\n";
    let long = format!("R\t1\t260101000000Z\t{}\tunknown\t/CN=x\n", "1".repeat(41));
    let withheld = "R\t1\tyesterday\t02\tunknown\t/CN=a\n";
    for (file, unattributed, first) in [
        (whole.to_owned(), 0, None),
        (format!("{whole}{long}{withheld}"), 0, None),
        (format!("{whole}R\t1\t2601"), 0, None),
        (format!("{whole}R\t1\t2601\nV\t1\t\t0x1\tunknown\t/\n"), 2, Some("line 5: 3 fields")),
        (format!("V\t1\t\t0x1\tunknown\t/\n{whole}"), 1, Some("line 1: serial number: ")),
        (format!("{whole}{}\n", "V".repeat(MAX_LINE_LEN + 1)), 1, Some("line 5: longer than ")),
    ] {
        let report = read(file.as_bytes()).1;
        assert_eq!(report.unattributed, unattributed, "{file}");
        let told = report.first_unattributed;
        assert_eq!(told.is_some(), first.is_some(), "{file}");
        assert!(first.is_none_or(|first| told.as_ref().is_some_and(|told| told.starts_with(first))), "{told:?}");
    }
}

#[test]
fn a_last_line_without_an_end_counts_if_it_is_whole() {
    let whole = b"V\t1\t\t01\tunknown\t/CN=a\nR\t1\t260101000000Z\t02\tunknown\t/CN";
    assert_eq!(read(whole).1.quarantined.total, 0);
    for cut in 1..whole.len() - b"\t/CN".len() {
        let (words, report) = read(&whole[..cut]);
        if cut >= 24 {
            assert_eq!(words[0], (hex("01"), IndexStatus::Issued));
            assert!(words[1..].iter().all(|w| *w == (hex("02"), IndexStatus::Withheld)), "{cut}");
        }
        let quarantined = &report.quarantined;
        assert!(quarantined.first.iter().all(|q| q.why.contains("being written")), "{quarantined:?}");
        assert!(quarantined.total == 1 || report.issued == 1, "{cut}");
    }
}

#[test]
fn a_line_without_measure_is_passed_over_and_costs_no_memory() {
    let good = b"V\t1\t\t01\tunknown\t/CN=a\n";
    let mut words = 0;
    let mut parser = IndexParser::new(|_, _| words += 1);
    parser.feed(good);
    for _ in 0..100 {
        parser.feed(&[b'V'; 10_000]);
        assert!(parser.partial.capacity() <= 2 * MAX_LINE_LEN);
    }
    parser.feed(b"\n");
    parser.feed(good);
    let report = parser.finish();
    assert_eq!((words, report.lines, report.quarantined.first[0].number), (2, 3, 2));
    let long = [good.as_slice(), &vec![b'V'; MAX_LINE_LEN + 1], b"\n", good].concat();
    assert_eq!(read(&long).1, report);
}

#[test]
fn only_so_many_bad_lines_are_listed_but_all_are_counted() {
    let (_, report) = read("?\n".repeat(1_000).as_bytes());
    assert_eq!((report.quarantined.total, report.quarantined.first.len()), (1_000, Quarantine::MAX_LISTED));
}

fn line() -> impl Strategy<Value = (String, Option<Word>)> {
    let serial = proptest::collection::vec(any::<u8>(), 1..=20).prop_map(|s| Serial::from_unsigned(&s).unwrap());
    let reason = proptest::option::of((1_usize..10).prop_map(|i| Reason::ALL[i]))
        .prop_filter("not for complete lists", |r| *r != Some(Reason::RemoveFromCrl));
    let good = (serial, proptest::option::of((0_i64..4_000_000_000, reason)), "[a-z\\\\ ]{0,9}").prop_map(
        |(serial, revoked, name)| match revoked {
            None => (format!("V\t1\t\t{serial}\tunknown\t/CN={name}"), Some((serial, IndexStatus::Issued))),
            Some((at, reason)) => {
                let at = Timestamp::from_unix(at);
                let date = String::from_utf8(crate::time::format_generalized(at).to_vec()).unwrap();
                let why = reason.map(|r| format!(",{}", r.name())).unwrap_or_default();
                let status = IndexStatus::Revoked { at, reason };
                (format!("R\t1\t{date}{why}\t{serial}\tunknown\t/CN={name}"), Some((serial, status)))
            }
        },
    );
    prop_oneof![4 => good, 1 => "[g-z\t]{1,20}".prop_map(|bad| (bad, None))]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_bad_lines_cost_no_neighbour(
        lines in proptest::collection::vec(line(), 0..20), piece in 1_usize..50
    ) {
        let file: String = lines.iter().map(|(text, _)| format!("{text}\n")).collect();
        let expected: Vec<Word> = lines.iter().filter_map(|(_, word)| *word).collect();
        let (words, report) = read(file.as_bytes());
        prop_assert_eq!(&words, &expected);
        prop_assert_eq!(report.quarantined.total as usize, lines.len() - expected.len());

        let mut in_pieces = Vec::new();
        let mut parser = IndexParser::new(|serial, status| in_pieces.push((serial, status)));
        file.as_bytes().chunks(piece).for_each(|p| parser.feed(p));
        prop_assert_eq!(parser.finish(), report);
        prop_assert_eq!(in_pieces, expected);
    }

    #[test]
    fn serials_are_read_as_elsewhere(text in "-?[0-9a-fA-F]{0,44}") {
        prop_assert_eq!(read_serial(text.as_bytes()), Serial::from_hex(&text));
    }
}
