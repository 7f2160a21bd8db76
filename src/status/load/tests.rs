use super::*;
use crate::asn1::{put_tlv, tag, tlv};
use crate::ocsp::Reason;
use crate::signer::{KeyKind, SigningKey};
use crate::x509::issue::{Attribute, CertificateSpec, CrlEntry, CrlSpec, ExtensionSpec, name};
use proptest::prelude::*;
use std::sync::LazyLock;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

struct Ca {
    key: SigningKey,
    certificate: Certificate,
}

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject = name(&[(Attribute::CommonName, "CA")]);
    let spec = CertificateSpec::ca(subject, key.spki_der(), serial(1), hours(-10), hours(10));
    let certificate = spec.issue(&key).unwrap();
    Ca { key, certificate }
});

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[n]).unwrap()
}

fn hours(n: i64) -> Timestamp {
    Timestamp::from_unix(NOW.unix() + n * 3600)
}

fn revoked(n: u8, at: Timestamp, reason: Option<Reason>) -> CrlEntry {
    CrlEntry { serial: serial(n), revoked_at: at, reason }
}

fn crl_spec(this_update: Timestamp, entries: Vec<CrlEntry>) -> CrlSpec {
    CrlSpec {
        issuer: CA.certificate.subject_der().to_vec(),
        this_update,
        next_update: Some(Timestamp::from_unix(this_update.unix() + 3600)),
        entries,
        extensions: vec![CrlSpec::number(7)],
    }
}

/// A directory with sources in it.
struct Files {
    dir: TempDir,
    count: usize,
}

impl Files {
    fn new() -> Self {
        Files { dir: tempfile::tempdir().unwrap(), count: 0 }
    }

    fn write(&mut self, content: impl AsRef<[u8]>) -> PathBuf {
        self.count += 1;
        let path = self.dir.path().join(format!("f{}", self.count));
        std::fs::write(&path, content).unwrap();
        path
    }

    fn crl(&mut self, this_update: Timestamp, entries: Vec<CrlEntry>) -> Source {
        Source::Crl(self.write(crl_spec(this_update, entries).sign(&CA.key).unwrap()))
    }

    fn index(&mut self, modified: Timestamp, lines: &[&str]) -> Source {
        let text: String = lines.iter().map(|line| format!("{line}\tunknown\t/CN=x\n")).collect();
        let path = self.write(text);
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(modified.unix().unsigned_abs());
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        Source::Index(path)
    }
}

fn load_all(sources: &[Source]) -> StatusSet {
    load(&CA.certificate, sources, NOW).unwrap()
}

fn fault(source: Source) -> String {
    let error = load(&CA.certificate, std::slice::from_ref(&source), NOW).unwrap_err().to_string();
    assert!(error.contains(&source.path().display().to_string()), "names the file: {error}");
    error
}

fn said(at: Timestamp, reason: Option<Reason>) -> Found {
    Found::Status(CertStatus::Revoked { at, reason })
}

#[test]
fn an_index_and_a_crl_complete_each_other() {
    let mut files = Files::new();
    let index = files.index(hours(-3), &["V\t1\t\t01", "V\t1\t\t02", "R\t1\t270101000000Z\t03"]);
    let crl =
        files.crl(hours(0), vec![revoked(2, hours(-1), Some(Reason::KeyCompromise)), revoked(9, hours(-2), None)]);
    let set = load_all(&[index, crl]);
    assert_eq!(set.find(&serial(1)), Found::Status(CertStatus::Good));
    assert_eq!(set.find(&serial(2)), said(hours(-1), Some(Reason::KeyCompromise)));
    assert!(matches!(set.find(&serial(3)), Found::Status(CertStatus::Revoked { .. })));
    assert_eq!(set.find(&serial(9)), said(hours(-2), None));
    assert_eq!(set.find(&serial(4)), Found::NotListed);
    assert_eq!((set.entries.len(), set.knows_issued, set.quarantined()), (4, true, 0));
    assert_eq!(set.oldest_data_time(), Some(hours(-3)));
    let facts = set.crls().next().unwrap();
    assert_eq!((facts.entries, facts.number, facts.this_update), (2, Some(serial(7)), hours(0)));
}

#[test]
fn a_revocation_wins_over_a_newer_issued() {
    let mut files = Files::new();
    let crl = files.crl(hours(-8), vec![revoked(1, hours(-9), None)]);
    let index = files.index(hours(-1), &["V\t1\t\t01"]);
    assert_eq!(load_all(&[crl, index]).find(&serial(1)), said(hours(-9), None));
}

#[test]
fn of_two_revocations_the_newest_source_counts_in_any_order_of_sources() {
    let mut files = Files::new();
    // The newer list sets the date back and gives the reason.
    let older = files.crl(hours(-5), vec![revoked(1, hours(-6), None)]);
    let newer = files.crl(hours(-4), vec![revoked(1, hours(-9), Some(Reason::KeyCompromise))]);
    let expected = said(hours(-9), Some(Reason::KeyCompromise));
    assert_eq!(load_all(&[older.clone(), newer.clone()]).find(&serial(1)), expected);
    assert_eq!(load_all(&[newer, older]).find(&serial(1)), expected);
}

#[test]
fn an_index_from_the_future_does_not_outrank_what_is_read_later() {
    let mut files = Files::new();
    let set = load_all(&[files.index(hours(5), &["V\t1\t\t01"])]);
    assert_eq!(set.oldest_data_time(), Some(NOW));
}

#[test]
fn within_an_index_the_last_line_counts_but_never_undoes_a_revocation() {
    let mut files = Files::new();
    let lines = ["R\t1\t260101000000Z\t01", "R\t1\t260102000000Z,superseded\t01", "V\t1\t\t01"];
    let set = load_all(&[files.index(NOW, &lines)]);
    let at = crate::time::parse_utc_time(b"260102000000Z").unwrap();
    assert_eq!(set.find(&serial(1)), said(at, Some(Reason::Superseded)));
    assert_eq!(set.entries.len(), 1);
}

#[test]
fn what_cannot_be_read_is_neither_good_nor_unissued() {
    let mut files = Files::new();
    let index = files.index(NOW, &["V\t1\t\t01", "R\t1\tyesterday\t01", "R\t1\tyesterday\t02", "V\t1\t\t03"]);
    let set = load_all(std::slice::from_ref(&index));
    assert_eq!((set.find(&serial(1)), set.find(&serial(2))), (Found::Withheld, Found::Withheld));
    assert_eq!(set.find(&serial(3)), Found::Status(CertStatus::Good));
    assert_eq!((set.withheld.len(), set.entries.len(), set.quarantined()), (2, 1, 2));
    let crl = files.crl(hours(-9), vec![revoked(2, hours(-9), None)]);
    assert_eq!(load_all(&[index, crl]).find(&serial(2)), said(hours(-9), None));
}

#[test]
fn what_is_kept_of_an_older_set_takes_no_revocation_back_and_adds_what_is_no_longer_listed() {
    let (old, new) = (hours(-9), hours(-1));
    let revoked_at = |at| CertStatus::Revoked { at, reason: None };
    let mut files = Files::new();
    let index = files.index(NOW, &["V\t1\t\t01", "V\t1\t\t02", "V\t1\t\t03", "R\t1\tyesterday\t05"]);
    let crl = files.crl(hours(0), vec![revoked(3, new, None), revoked(4, new, None), revoked(7, new, None)]);
    let mut set = load_all(&[index, crl]);
    let (good, withheld) = (CertStatus::Good, CertStatus::Unknown);
    let before =
        [(1, withheld), (2, revoked_at(old)), (3, good), (4, revoked_at(old)), (5, good), (6, good), (7, withheld)];
    set.keep(before.into_iter().map(|(n, status)| (serial(n), status)));
    let found = (1..=8).map(|n| set.find(&serial(n))).collect::<Vec<_>>();
    let (old, new) = (Found::Status(revoked_at(old)), Found::Status(revoked_at(new)));
    let expected = [Found::Withheld, old, new, old, Found::Withheld, Found::Status(good), new, Found::NotListed];
    assert_eq!(found, expected);
    assert_eq!((set.entries.len(), set.withheld.len()), (5, 2));
}

#[test]
fn without_an_index_good_is_said_only_while_the_list_is_current() {
    let mut files = Files::new();
    let crl = files.crl(hours(-1), vec![revoked(1, hours(-1), None)]);
    let set = load_all(std::slice::from_ref(&crl));
    assert!(!set.knows_issued);
    assert!(set.may_say_good(hours(-1)) && set.may_say_good(hours(0)));
    assert!(!set.may_say_good(hours(-2)), "not valid yet");
    assert!(set.may_say_good(hours(-1).minus(CLOCK_TOLERANCE)), "one clock is a little ahead of the other");
    assert!(!set.may_say_good(hours(1)), "expired");
    assert_eq!(set.crls().next().unwrap().freshness(hours(1)), Freshness::Expired);

    let expired = files.crl(hours(-5), vec![]);
    assert!(!load_all(&[crl.clone(), expired.clone()]).may_say_good(NOW), "each of them must be current");
    let index = files.index(NOW, &["V\t1\t\t01"]);
    assert!(load_all(&[expired, index]).may_say_good(NOW));
    assert!(!load_all(&[]).may_say_good(NOW));
}

/// issuingDistributionPoint with one of its fields.
fn limited_to(field: &[u8]) -> ExtensionSpec {
    ExtensionSpec::new(&[0x55, 0x1d, 0x1c], true, tlv(tag::SEQUENCE, field))
}

#[test]
fn a_list_with_a_limited_scope_vouches_for_nobody_unless_others_or_the_operator_complete_it() {
    let mut files = Files::new();
    let point =
        tlv(tag::context(0), &tlv(tag::context(0), &tlv(tag::context_primitive(6), b"http://ca.example/1.crl")));
    let mut limited = |field: &[u8]| {
        let mut spec = crl_spec(hours(0), vec![revoked(1, hours(-1), None)]);
        spec.extensions.push(limited_to(field));
        Source::Crl(files.write(spec.sign(&CA.key).unwrap()))
    };
    let (users, cas, shard) = (limited(&[0x81, 1, 0xff]), limited(&[0x82, 1, 0xff]), limited(&point));
    let user_shard = limited(&[point.as_slice(), &[0x81, 1, 0xff]].concat());
    for (source, field) in [
        (&users, "onlyContainsUserCerts"),
        (&cas, "onlyContainsCACerts"),
        (&shard, "distributionPoint"),
        (&user_shard, "distributionPoint, onlyContainsUserCerts"),
    ] {
        let set = load_all(std::slice::from_ref(source));
        assert_eq!((set.may_say_good(NOW), set.good_within()), (false, None), "{field}");
        assert_eq!(set.find(&serial(1)), said(hours(-1), None), "what it revokes stands: {field}");
        let gap = set.scope_gap().unwrap();
        let named = format!("({}: {field})", source.path().display());
        assert!(gap.contains(&named) && gap.contains(r#"write "crl_scope": "complete""#), "{gap}");
        let told = StatusSet { crls_are_complete: true, ..set };
        assert_eq!((told.may_say_good(NOW), told.scope_gap()), (true, None), "{field}");
        assert!(!told.may_say_good(hours(2)), "it must be current all the same");
    }
    let covers = |sources: &[&Source]| {
        let set = load_all(&sources.iter().map(|s| (*s).clone()).collect::<Vec<_>>());
        assert_eq!(set.may_say_good(NOW), set.scope_gap().is_none());
        set.may_say_good(NOW)
    };
    assert!(covers(&[&users, &cas]) && !covers(&[&users, &shard]) && !covers(&[&user_shard, &cas]));
    let (whole, index) = (files.crl(hours(0), vec![]), files.index(NOW, &["V\t1\t\t02"]));
    assert!(covers(&[&whole, &shard]) && covers(&[&index, &shard]));
}

#[test]
fn an_expired_list_still_revokes() {
    let mut files = Files::new();
    let set = load_all(&[files.crl(hours(-9), vec![revoked(1, hours(-9), None)])]);
    assert_eq!(set.find(&serial(1)), said(hours(-9), None));
}

#[test]
fn a_list_in_pem_is_read_as_one_in_der() {
    let mut files = Files::new();
    let der = crl_spec(NOW, vec![revoked(1, NOW, None)]).sign(&CA.key).unwrap();
    let pem = pem::encode("X509 CRL", &der);
    let one = files.write(&pem);
    let two = files.write(format!("{pem}{pem}"));
    assert_eq!(load_all(&[Source::Crl(one)]).find(&serial(1)), said(NOW, None));
    assert!(fault(Source::Crl(two)).contains("2 CRLs in one PEM file"));
}

#[test]
fn faults_name_the_file_and_what_was_expected() {
    let mut files = Files::new();
    let missing = files.dir.path().join("missing");
    assert!(fault(Source::Index(missing.clone())).contains("no such file"));
    assert!(fault(Source::Crl(files.dir.path().to_owned())).contains("not a regular file"));
    let text = files.write("hello");
    assert!(fault(Source::Crl(text.clone())).contains("expected a CRL in PEM"));
    let certificate = files.write(pem::encode("CERTIFICATE", CA.certificate.der()));
    assert!(fault(Source::Crl(certificate)).contains("no X509 CRL block"));
    let not_a_crl = files.write([0x30, 0]);
    assert!(fault(Source::Crl(not_a_crl)).contains("not a CRL in DER"));
    let both = load(&CA.certificate, &[Source::Index(missing), Source::Crl(text)], NOW).unwrap_err();
    assert_eq!(both.faults.len(), 2, "all are told at once");
}

#[test]
fn a_list_that_is_not_the_issuers_is_refused() {
    let mut files = Files::new();
    let (other, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let forged = files.write(crl_spec(NOW, vec![]).sign(&other).unwrap());
    assert!(fault(Source::Crl(forged)).contains("does not verify with the issuer's key"));
    let mut spec = crl_spec(NOW, vec![]);
    spec.issuer = name(&[(Attribute::CommonName, "Other CA")]);
    let foreign = files.write(spec.sign(&CA.key).unwrap());
    let error = fault(Source::Crl(foreign));
    assert!(error.contains("CN=Other CA") && error.contains("expected one from \"CN=CA\""), "{error}");
    let mut damaged = crl_spec(NOW, vec![revoked(1, NOW, None)]).sign(&CA.key).unwrap();
    let place = damaged.windows(3).rposition(|w| w == [2, 1, 1]).unwrap() + 2;
    damaged[place] = 2;
    assert!(fault(Source::Crl(files.write(damaged))).contains("does not verify"));
}

/// A signed list whose entries are put in as they are.
fn raw_crl(entries: &[Vec<u8>]) -> Vec<u8> {
    use crate::x509::Signer;
    let mut tbs = tlv(tag::INTEGER, &[1]);
    let algorithm = CA.key.algorithm();
    tbs.extend_from_slice(algorithm.identifier_der());
    tbs.extend_from_slice(CA.certificate.subject_der());
    put_tlv(&mut tbs, tag::GENERALIZED_TIME, &crate::time::format_generalized(NOW));
    put_tlv(&mut tbs, tag::SEQUENCE, &entries.concat());
    let mut content = tlv(tag::SEQUENCE, &tbs);
    let (mut raw, mut wire) = (Vec::new(), vec![0]);
    CA.key.sign_raw(&content, &mut raw).unwrap();
    algorithm.write_wire(&raw, &mut wire);
    content.extend_from_slice(algorithm.identifier_der());
    put_tlv(&mut content, tag::BIT_STRING, &wire);
    tlv(tag::SEQUENCE, &content)
}

fn raw_entry(serial: &[u8], date: &[u8]) -> Vec<u8> {
    let mut content = tlv(tag::INTEGER, serial);
    put_tlv(&mut content, tag::UTC_TIME, date);
    tlv(tag::SEQUENCE, &content)
}

#[test]
fn bad_entries_are_quarantined_and_their_neighbours_used() {
    let mut files = Files::new();
    let good = [raw_entry(&[1], b"260101000000Z"), raw_entry(&[9], b"260101000000Z")];
    let mut with = |bad: Vec<u8>| {
        let [first, last] = good.clone();
        let set = load_all(&[Source::Crl(files.write(raw_crl(&[first, bad, last])))]);
        assert_eq!(set.entries.len(), 2);
        assert_eq!((set.quarantined(), set.sources[0].quarantine().first[0].number), (1, 2));
        set
    };
    let no_date = with(raw_entry(&[5], b"today"));
    assert_eq!((no_date.find(&serial(5)), no_date.may_say_good(NOW)), (Found::Withheld, true));
    let nameless = with(tlv(tag::SEQUENCE, &[]));
    assert!(!nameless.may_say_good(NOW), "it may be about anyone");
    let too_long = with(raw_entry(&[1; 21], b"260101000000Z"));
    assert!(too_long.may_say_good(NOW), "nobody can ask about that one");
}

#[test]
fn an_entry_of_another_issuer_condemns_the_list() {
    let mut files = Files::new();
    let mut issuer = tlv(tag::OID, &[0x55, 0x1d, 0x1d]);
    put_tlv(&mut issuer, tag::BOOLEAN, &[0xff]);
    put_tlv(&mut issuer, tag::OCTET_STRING, &[0x30, 0]);
    let mut content = tlv(tag::INTEGER, &[1]);
    put_tlv(&mut content, tag::UTC_TIME, b"260101000000Z");
    put_tlv(&mut content, tag::SEQUENCE, &tlv(tag::SEQUENCE, &issuer));
    let path = files.write(raw_crl(&[tlv(tag::SEQUENCE, &content)]));
    let error = fault(Source::Crl(path));
    assert!(error.contains("entry 1") && error.contains("indirect"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_sources_of_different_times_does_not_matter(
        lists in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec((0_u8..6, 0_i64..5, any::<bool>()), 0..6)), 1..5),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut files = Files::new();
        let mut sources = Vec::new();
        for (age, (is_index, words)) in (1..).zip(lists) {
            sources.push(if is_index {
                let lines: Vec<String> = words.iter().map(|(n, day, is_revoked)| match is_revoked {
                    true => format!("R\t1\t26010{}000000Z\t{n:02X}", day + 1),
                    false => format!("V\t1\t\t{n:02X}"),
                }).collect();
                files.index(hours(-age), &lines.iter().map(String::as_str).collect::<Vec<_>>())
            } else {
                let entries = words.iter().map(|(n, day, _)| revoked(*n, hours(-day), None)).collect();
                files.crl(hours(-age), entries)
            });
        }
        let one = load_all(&sources);
        let turned = turn.index(sources.len());
        sources.rotate_left(turned);
        let other = load_all(&sources);
        prop_assert_eq!(&one.entries, &other.entries);
        prop_assert!(one.entries.is_sorted_by(|a, b| a.serial < b.serial));
    }
}
