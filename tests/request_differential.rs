//! The request parser against two others: rasn-ocsp (inside the fuzz target's body) and x509-ocsp, on generated requests
//! and on mutated ones. Where they differ, the difference must be one that is listed and meant.

mod request_support;

use der07::{Decode, Encode};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use request_support::*;
use stillgood::ocsp::{HashAlgorithm, Place, Request, RequestError, SerialError};

/// Holds our verdict against that of x509-ocsp.
fn compare(der: &[u8]) {
    stillgood::fuzzing::request(der);
    let theirs = x509_ocsp::OcspRequest::from_der(der);
    match (Request::parse(der), theirs) {
        (Ok(ours), Ok(theirs)) => same(&ours, &theirs),
        (Err(error), Ok(theirs)) => assert!(meant(der, error, &theirs), "only we refuse: {error}: {der:02x?}"),
        (Ok(ours), Err(error)) => assert!(tolerated(der, &ours), "only they refuse: {error}: {der:02x?}"),
        (Err(_), Err(_)) => {}
    }
}

fn same(ours: &Request<'_>, theirs: &x509_ocsp::OcspRequest) {
    assert_eq!(ours.signed, theirs.optional_signature.is_some());
    assert_eq!(ours.count, theirs.tbs_request.request_list.len());
    for (ours, theirs) in ours.cert_ids().zip(&theirs.tbs_request.request_list) {
        let theirs = &theirs.req_cert;
        assert_eq!(ours.name_hash, theirs.issuer_name_hash.as_bytes());
        assert_eq!(ours.key_hash, theirs.issuer_key_hash.as_bytes());
        let mut serial = Vec::new();
        ours.serial.write_der_content(&mut serial);
        assert_eq!(serial, theirs.serial_number.as_bytes());
        assert_eq!(ours.hash, HashAlgorithm::from_oid(theirs.hash_algorithm.oid.as_bytes()));
        assert_eq!(ours.der, theirs.to_der().unwrap(), "what is echoed is the DER of the CertID");
    }
    let extensions = theirs.tbs_request.request_extensions.as_deref().unwrap_or_default();
    let value = |id: &[u8]| extensions.iter().find(|e| e.extn_id.as_bytes() == id).map(|e| e.extn_value.as_bytes());
    assert_eq!(ours.nonce, value(NONCE));
    assert_eq!(ours.preferred_algorithms.is_some(), value(PREFERRED_ALGORITHMS).is_some());
}

/// They read it and we refuse. They check types, we check what the types mean; of the encoding we are stricter only in
/// the values of extensions that they leave unread, and in two corners.
fn meant(der: &[u8], error: RequestError, theirs: &x509_ocsp::OcspRequest) -> bool {
    match error {
        RequestError::EmptyList => theirs.tbs_request.request_list.is_empty(),
        RequestError::TooManyCertIds => theirs.tbs_request.request_list.len() > Request::MAX_CERT_IDS,
        RequestError::HashParameters(_)
        | RequestError::DigestLength { .. }
        | RequestError::TooManyExtensions(_)
        | RequestError::DuplicateExtension(_)
        | RequestError::NonceLength(_)
        | RequestError::UnknownCritical(_)
        | RequestError::BasicNotAcceptable
        | RequestError::TooLong
        | RequestError::NotDer(Place::AcceptableResponses | Place::PreferredSignatureAlgorithms) => true,
        // They count the content octets, one more than 20 for a sign; we count those of the magnitude.
        RequestError::Serial(SerialError::TooLong) => {
            theirs.tbs_request.request_list.iter().any(|r| r.req_cert.serial_number.as_bytes().len() == 21)
        }
        RequestError::Serial(_) => false,
        // They skip elements with a context-specific tag below the one that may come next, and read arcs of object
        // identifiers that are not in their shortest form.
        RequestError::NotDer(_) => theirs.to_der().is_ok_and(|again| again != der) || oids(theirs).any(padded_arc),
        RequestError::TrailingData | RequestError::Version => false,
    }
}

/// The content octets of the object identifiers we look at.
fn oids(theirs: &x509_ocsp::OcspRequest) -> impl Iterator<Item = &[u8]> {
    let tbs = &theirs.tbs_request;
    let hashes = tbs.request_list.iter().map(|r| &r.req_cert.hash_algorithm.oid);
    let single = tbs.request_list.iter().filter_map(|r| r.single_request_extensions.as_ref()).flatten();
    let extensions = single.chain(tbs.request_extensions.iter().flatten()).map(|e| &e.extn_id);
    let signature = theirs.optional_signature.iter().map(|s| &s.signature_algorithm.oid);
    hashes.chain(extensions).chain(signature).map(der07::asn1::ObjectIdentifier::as_bytes)
}

fn padded_arc(oid: &[u8]) -> bool {
    let starts = std::iter::once(true).chain(oid.iter().map(|octet| *octet < 0x80));
    starts.zip(oid).any(|(starts, octet)| starts && *octet == 0x80)
}

/// We read it and they refuse: what is tolerated unread, line ends, long arcs, and first arcs above 2.39.
fn tolerated(der: &[u8], ours: &Request<'_>) -> bool {
    let requestor_name = der.contains(&0xa1);
    let long_arc = der.windows(4).any(|w| w.iter().all(|b| *b >= 0x80));
    let first_arc = der.windows(3).any(|w| matches!(w, [6, _, 120..=255]));
    let line_end = matches!(der.last(), Some(b'\r' | b'\n'));
    ours.signed || requestor_name || long_arc || first_arc || line_end || ours.cert_ids().any(|id| id.hash.is_none())
}

/// Requests that are mostly well formed, with everything the grammar has.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let before = prop_oneof![
        20 => Just(vec![]),
        4 => Just(vec![0xa0, 3, 2, 1, 0]),
        1 => Just(vec![0xa0, 3, 2, 1, 1]),
        2 => Just(tlv(0xa1, &[b"\x81\x03a@b"])),
        2 => Just(tlv(0xa1, &[&tlv(0xa4, &[&sequence(&[])])])),
    ];
    let signature = sequence(&[&algorithm(ECDSA_SHA256, &[]), &tlv(3, &[&[0, 1, 2, 3]])]);
    let request =
        (cert_ids(), prop_oneof![4 => Just(None), 1 => extensions().prop_map(Some)]).prop_map(|(id, single)| {
            let single = single.map_or(vec![], |list| tlv(0xa0, &[&sequence(&[&list])]));
            [id, single].concat()
        });
    let request = request.boxed();
    let list = prop_oneof![
        8 => prop::collection::vec(request.clone(), 1..4),
        1 => prop::collection::vec(request, 0..40),
    ];
    let after = prop_oneof![20 => Just(vec![]), 2 => Just(b"\r\n".to_vec()), 1 => Just(vec![0])];
    let extensions = prop_oneof![2 => Just(None), 3 => extensions().prop_map(Some)];
    (before, list, extensions, prop::option::weighted(0.1, Just(signature)), after).prop_map(
        |(before, requests, extensions, signature, after)| {
            Parts { before, requests, extensions, signature, after }.der()
        },
    )
}

fn cert_ids() -> impl Strategy<Value = Vec<u8>> {
    let parameters = prop_oneof![10 => Just(vec![5, 0]), 10 => Just(vec![]), 1 => Just(vec![0x30, 0])];
    let hash = prop_oneof![
        6 => select(HashAlgorithm::ALL.to_vec()).prop_map(|h| (h.oid().to_vec(), h.output_len())),
        1 => (select(vec![UNKNOWN.to_vec(), UUID.to_vec()]), 0_usize..70),
    ];
    let off_by = prop_oneof![20 => Just(0), 1 => Just(1_usize)];
    (hash, parameters, off_by, any::<u8>(), serials()).prop_map(|((id, len), parameters, off_by, fill, serial)| {
        raw_cert_id(&algorithm(&id, &parameters), &vec![fill; len + off_by], &vec![!fill; len], &serial)
    })
}

fn serials() -> impl Strategy<Value = Vec<u8>> {
    let plain =
        (1_u8..0x80, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(first, rest)| [vec![first], rest].concat());
    prop_oneof![9 => plain, 1 => prop::collection::vec(any::<u8>(), 0..23)]
}

fn extensions() -> impl Strategy<Value = Vec<u8>> {
    let id =
        select(vec![NONCE, NONCE, NONCE, ACCEPTABLE_RESPONSES, SERVICE_LOCATOR, PREFERRED_ALGORITHMS, UNKNOWN, UUID]);
    let value = prop_oneof![
        3 => (1_usize..131).prop_map(|n| tlv(4, &[&vec![0x5a; n]])),
        1 => prop::collection::vec(any::<u8>(), 0..140),
        1 => Just(sequence(&[&oid(BASIC)])),
        1 => Just(sequence(&[&sequence(&[&algorithm(ECDSA_SHA256, &[])])])),
    ];
    let critical = prop_oneof![20 => Just(None), 3 => Just(Some(0x00)), 3 => Just(Some(0xff)), 1 => Just(Some(0x01))];
    let one = (id, critical, value).prop_map(|(id, critical, value)| extension(id, critical, &value));
    prop::collection::vec(one, 0..4).prop_map(|list| list.concat())
}

/// One change to octets that may be anything.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
}

fn mutations() -> impl Strategy<Value = Mutation> {
    let octet =
        prop_oneof![any::<u8>(), select(vec![0x00, 0x01, 0x7f, 0x80, 0x81, 0xff, 0x30, 0xa0, 0xa1, 0xa2, 0x04])];
    prop_oneof![
        3 => (any::<Index>(), octet.clone()).prop_map(|(at, to)| Mutation::Set(at, to)),
        3 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => (any::<Index>(), 1_usize..6).prop_map(|(at, len)| Mutation::Remove(at, len)),
        1 => (any::<Index>(), prop::collection::vec(octet, 1..4)).prop_map(|(at, new)| Mutation::Insert(at, new)),
        1 => (any::<Index>(), 1_usize..40).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

fn mutate(der: &mut Vec<u8>, mutation: &Mutation) {
    let bound = der.len().max(1);
    match mutation {
        _ if der.is_empty() => {}
        Mutation::Set(at, to) => der[at.index(bound)] = *to,
        Mutation::Flip(at, bit) => der[at.index(bound)] ^= 1 << bit,
        Mutation::Remove(at, len) => {
            let at = at.index(bound);
            der.drain(at..bound.min(at + len));
        }
        Mutation::Insert(at, new) => {
            let at = at.index(bound);
            der.splice(at..at, new.iter().copied());
        }
        Mutation::Repeat(at, len) => {
            let at = at.index(bound);
            let again = der[at..bound.min(at + len)].to_vec();
            der.splice(at..at, again);
        }
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/request");
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_three_parsers_agree_on_the_corpus() {
    for der in fixtures() {
        compare(&der);
    }
}

#[test]
fn generated_requests_are_accepted_often_enough_to_mean_something() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted =
        (0..1_000).filter(|_| Request::parse(&requests().new_tree(&mut runner).unwrap().current()).is_ok()).count();
    assert!((150..850).contains(&accepted), "{accepted} of 1000");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_three_parsers_agree_on_generated_requests(der in requests()) {
        compare(&der);
    }

    #[test]
    fn the_three_parsers_agree_on_mutated_requests(
        der in select(fixtures()),
        mutations in prop::collection::vec(mutations(), 1..4),
    ) {
        let mut der = der;
        mutations.iter().for_each(|m| mutate(&mut der, m));
        compare(&der);
    }
}
