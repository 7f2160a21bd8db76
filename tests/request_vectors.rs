//! What of RFC 6960 §4.1, RFC 9654 and RFC 9919 §3.1 a request can show, rule by rule.

mod request_support;

use request_support::*;
use stillgood::ocsp::{ErrorStatus, HashAlgorithm, Place, Request, RequestError, Serial, SerialError};

fn error(parts: &Parts) -> RequestError {
    let der = parts.der();
    stillgood::fuzzing::request(&der);
    Request::parse(&der).unwrap_err()
}

/// Parses, and has both paths and the typed decoder agree on it.
fn accepted<T>(parts: &Parts, look: impl FnOnce(Request<'_>) -> T) -> T {
    let der = parts.der();
    stillgood::fuzzing::request(&der);
    look(Request::parse(&der).unwrap_or_else(|e| panic!("{e}: {der:02x?}")))
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/requests/{name}.der", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn req_01_requests_made_by_openssl_are_read() {
    let serial = Serial::from_hex("4d1c0ffee0ddba11c0de0123456789ab").unwrap();
    for (name, hash, nonce, signed) in [
        ("sha1", HashAlgorithm::Sha1, None, false),
        ("sha1-nonce16", HashAlgorithm::Sha1, Some(16), false),
        ("sha256", HashAlgorithm::Sha256, None, false),
        ("sha256-nonce16", HashAlgorithm::Sha256, Some(16), false),
        ("sha384", HashAlgorithm::Sha384, None, false),
        ("sha512", HashAlgorithm::Sha512, None, false),
        ("signed", HashAlgorithm::Sha1, Some(16), true),
        ("signed-no-certs", HashAlgorithm::Sha1, None, true),
    ] {
        let der = fixture(name);
        let request = Request::parse(&der).unwrap();
        assert_eq!((request.first.hash, request.first.serial), (Some(hash), serial), "{name}");
        assert_eq!(request.nonce_octets().map(<[u8]>::len), nonce, "{name}");
        assert_eq!((request.signed, request.count), (signed, 1), "{name}");
        assert_eq!(request.first.der.first_chunk(), Some(&[0x30, request.first.der[1]]), "{name}");
    }
    let der = fixture("serial-20-octets");
    assert_eq!(Request::parse(&der).unwrap().first.serial.to_string(), "FF00112233445566778899AABBCCDDEEFF001122");
}

#[test]
fn req_03_only_version_1_exists() {
    for (version, expected) in [
        (&[0x02, 1, 1][..], RequestError::Version),
        (&[0x02, 1, 0xff], RequestError::Version),
        (&[0x02, 2, 1, 0], RequestError::Version),
        (&[0x02, 0], RequestError::Version),
        (&[0x02, 1, 0, 0], RequestError::NotDer(Place::Version)),
        (&[0x0a, 1, 0], RequestError::NotDer(Place::Version)),
        (&[], RequestError::NotDer(Place::Version)),
    ] {
        let parts = Parts { before: tlv(0xa0, &[version]), ..Parts::new(&[sha1_id(&[7])]) };
        assert_eq!(error(&parts), expected, "{version:02x?}");
        assert_eq!(expected.status(), ErrorStatus::MalformedRequest);
    }
}

#[test]
fn req_04_an_explicit_default_version_is_accepted() {
    let parts = Parts { before: vec![0xa0, 3, 2, 1, 0], ..Parts::new(&[sha1_id(&[7])]) };
    let serial = accepted(&parts, |request| request.first.serial);
    assert_eq!(serial, Serial::from_hex("7").unwrap());
    // As old macOS clients begin it.
    assert!(parts.der().windows(9).any(|w| w == [0xa0, 3, 2, 1, 0, 0x30, 62, 0x30, 60]));
}

#[test]
fn req_05_an_empty_list_is_malformed() {
    assert_eq!(error(&Parts::new(&[])), RequestError::EmptyList);
    assert_eq!(RequestError::EmptyList.status(), ErrorStatus::MalformedRequest);
}

#[test]
fn req_07_null_and_absent_parameters_mean_the_same() {
    for hash in HashAlgorithm::ALL {
        let null = Parts::new(&[cert_id(hash, &[5, 0], &[7])]);
        let absent = Parts::new(&[cert_id(hash, &[], &[7])]);
        let key =
            |r: Request<'_>| (r.first.hash, r.first.name_hash.to_vec(), r.first.key_hash.to_vec(), r.first.serial);
        assert_eq!(accepted(&null, key), accepted(&absent, key));
        assert_ne!(accepted(&null, |r| r.first.der.to_vec()), accepted(&absent, |r| r.first.der.to_vec()));
        for other in [&[5, 1, 0][..], &[0x30, 0], &[5, 0, 5, 0]] {
            let refused = error(&Parts::new(&[cert_id(hash, other, &[7])]));
            assert!(matches!(refused, RequestError::HashParameters(_) | RequestError::NotDer(Place::CertId)));
        }
    }
}

#[test]
fn req_08_every_known_hash_is_read_and_its_digests_must_fit() {
    for hash in HashAlgorithm::ALL {
        let id = algorithm(hash.oid(), &[5, 0]);
        let right = vec![0x11; hash.output_len()];
        for octets in [0, hash.output_len() - 1, hash.output_len() + 1] {
            let wrong = vec![0x11; octets];
            let expected = RequestError::DigestLength { hash, octets };
            assert_eq!(error(&Parts::new(&[raw_cert_id(&id, &wrong, &right, &[7])])), expected);
            assert_eq!(error(&Parts::new(&[raw_cert_id(&id, &right, &wrong, &[7])])), expected);
            assert_eq!(error(&Parts::new(&[sha1_id(&[1]), raw_cert_id(&id, &right, &wrong, &[7])])), expected);
            assert_eq!(expected.status(), ErrorStatus::MalformedRequest);
        }
        assert_eq!(accepted(&Parts::new(&[raw_cert_id(&id, &right, &right, &[7])]), |r| r.first.hash), Some(hash));
    }
}

#[test]
fn req_08_an_unknown_hash_is_well_formed() {
    for parameters in [&[][..], &[5, 0], &[0x30, 3, 2, 1, 9]] {
        for id in [UNKNOWN, UUID, b"\x2b\x0e\x03\x02\x1b"] {
            let parts = Parts::new(&[raw_cert_id(&algorithm(id, parameters), &[1; 7], &[2; 9], &[7])]);
            let found = accepted(&parts, |r| (r.first.hash, r.first.name_hash.len(), r.first.key_hash.len()));
            assert_eq!(found, (None, 7, 9));
        }
    }
    let broken: [&[u8]; 4] = [&[], &[0x80, 1], &[0x2b, 0x83], &[0x2b, 0x80, 1]];
    for id in broken {
        let parts = Parts::new(&[raw_cert_id(&algorithm(id, &[]), &[1; 7], &[2; 9], &[7])]);
        assert_eq!(error(&parts), RequestError::NotDer(Place::CertId), "{id:02x?}");
    }
}

#[test]
fn req_10_an_unknown_extension_is_ignored_unless_it_is_critical() {
    for id in [UNKNOWN, UUID] {
        for critical in [None, Some(0x00)] {
            let wanted = [extension(id, critical, b"?"), nonce(16)];
            assert_eq!(accepted(&Parts::with_extensions(&wanted), |r| r.nonce_octets().map(<[u8]>::len)), Some(16));
            accepted(&Parts::with_single_extensions(&[extension(id, critical, b"?")]), |_| ());
        }
        let critical = extension(id, Some(0xff), b"?");
        let at_request = error(&Parts::with_extensions(&[nonce(16), critical.clone()]));
        assert_eq!(at_request, RequestError::UnknownCritical(Place::RequestExtensions));
        assert_eq!(at_request.status(), ErrorStatus::Unauthorized);
        let at_single = error(&Parts::with_single_extensions(&[critical]));
        assert_eq!(at_single, RequestError::UnknownCritical(Place::SingleExtensions));
        assert_eq!(at_single.status(), ErrorStatus::Unauthorized);
    }
    // Only 00 and FF are DER (X.690 §11.1).
    let odd = Parts::with_extensions(&[extension(UNKNOWN, Some(0x01), b"?")]);
    assert_eq!(error(&odd), RequestError::NotDer(Place::RequestExtensions));
}

#[test]
fn req_10_a_critical_extension_that_is_understood_is_accepted() {
    let nonce = extension(NONCE, Some(0xff), &tlv(4, &[&[1; 32]]));
    assert_eq!(accepted(&Parts::with_extensions(&[nonce]), |r| r.nonce_octets().map(<[u8]>::len)), Some(32));
}

#[test]
fn req_10_one_extension_twice_is_malformed() {
    for parts in [
        Parts::with_extensions(&[nonce(16), nonce(16)]),
        Parts::with_extensions(&[extension(UNKNOWN, None, b"1"), nonce(16), extension(UNKNOWN, None, b"2")]),
    ] {
        assert_eq!(error(&parts), RequestError::DuplicateExtension(Place::RequestExtensions));
    }
    let single = Parts::with_single_extensions(&[extension(UNKNOWN, None, b"1"), extension(UNKNOWN, None, b"2")]);
    assert_eq!(error(&single), RequestError::DuplicateExtension(Place::SingleExtensions));
    assert_eq!(error(&single).status(), ErrorStatus::MalformedRequest);
}

#[test]
fn empty_extensions_are_tolerated() {
    accepted(&Parts::with_extensions(&[]), |r| assert_eq!(r.nonce, None));
    accepted(&Parts::with_single_extensions(&[]), |_| ());
}

#[test]
fn req_12_a_requestor_name_without_signature_is_as_if_absent() {
    let plain = Parts::new(&[sha1_id(&[7])]);
    let fields = |r: Request<'_>| (r.first.der.to_vec(), r.count, r.nonce.map(<[u8]>::to_vec), r.signed);
    let directory_name = tlv(0xa4, &[&sequence(&[])]);
    for name in [&directory_name[..], b"\x81\x03a@b", b"\x86\x09http://a/", b"\x82\x01\xff", b"\x88\x01\x2a"] {
        let parts = Parts { before: tlv(0xa1, &[name]), ..plain.clone() };
        assert_eq!(accepted(&parts, fields), accepted(&plain, fields), "{name:02x?}");
    }
    for name in [&b""[..], b"\x04\x01a", b"\x89\x01a", b"\x81\x01a\x81\x01a", b"\x81\x05a"] {
        let parts = Parts { before: tlv(0xa1, &[name]), ..plain.clone() };
        assert_eq!(error(&parts), RequestError::NotDer(Place::RequestorName), "{name:02x?}");
    }
}

#[test]
fn req_11_a_signature_is_tolerated_unverified_but_must_have_its_shape() {
    let bits = tlv(3, &[&[0, 1, 2, 3]]);
    let certs = |certs: &[&[u8]]| tlv(0xa0, &[&sequence(certs)]);
    let id = algorithm(ECDSA_SHA256, &[]);
    for signature in [
        sequence(&[&id, &bits]),
        sequence(&[&id, &bits, &certs(&[])]),
        sequence(&[&id, &bits, &certs(&[&sequence(&[b"anything"]), &sequence(&[])])]),
        sequence(&[&id, &tlv(3, &[&[0]])]),
    ] {
        accepted(&Parts { signature: Some(signature), ..Parts::new(&[sha1_id(&[7])]) }, |r| assert!(r.signed));
    }
    for signature in [
        vec![],
        sequence(&[&id]),
        sequence(&[&bits, &id]),
        sequence(&[&id, &tlv(3, &[])]),
        sequence(&[&id, &tlv(3, &[&[8, 1]])]),
        sequence(&[&id, &tlv(3, &[&[1]])]),
        sequence(&[&id, &bits, &certs(&[b"\x04\x00"])]),
        sequence(&[&id, &bits, &sequence(&[])]),
        [sequence(&[&id, &bits]), sequence(&[])].concat(),
    ] {
        let parts = Parts { signature: Some(signature), ..Parts::new(&[sha1_id(&[7])]) };
        assert_eq!(error(&parts), RequestError::NotDer(Place::Signature));
    }
}

#[test]
fn req_14_every_certificate_asked_about_is_there_in_order_duplicates_too() {
    let serials: Vec<u8> = vec![3, 1, 3, 2];
    let ids: Vec<_> = serials.iter().map(|s| sha1_id(&[*s])).collect();
    let found =
        accepted(&Parts::new(&ids), |r| r.cert_ids().map(|id| (id.serial, id.der.to_vec())).collect::<Vec<_>>());
    let expected: Vec<_> = serials.iter().map(|s| (Serial::from_unsigned(&[*s]).unwrap(), sha1_id(&[*s]))).collect();
    assert_eq!(found, expected);

    let der = fixture("two-issuers-two-hashes");
    let hashes: Vec<_> = Request::parse(&der).unwrap().cert_ids().map(|id| id.hash).collect();
    assert_eq!(hashes, [Some(HashAlgorithm::Sha1), Some(HashAlgorithm::Sha256)]);
}

#[test]
fn req_14_more_certificates_than_the_limit_are_malformed() {
    let ids = |n| Parts::new(&vec![sha1_id(&[7]); n]);
    assert_eq!(accepted(&ids(Request::MAX_CERT_IDS), |r| r.cert_ids().count()), Request::MAX_CERT_IDS);
    assert_eq!(error(&ids(Request::MAX_CERT_IDS + 1)), RequestError::TooManyCertIds);
    assert_eq!(RequestError::TooManyCertIds.status(), ErrorStatus::MalformedRequest);
}

#[test]
fn req_16_everything_has_a_limit() {
    let extensions = |n: usize| {
        let list: Vec<_> = (0..n).map(|i| extension(&[0x2a, i as u8 + 1], None, b"")).collect();
        Parts::with_extensions(&list)
    };
    accepted(&extensions(Request::MAX_EXTENSIONS), |_| ());
    let refused = error(&extensions(Request::MAX_EXTENSIONS + 1));
    assert_eq!(refused, RequestError::TooManyExtensions(Place::RequestExtensions));

    let filled = |n| Parts::with_extensions(&[extension(UNKNOWN, None, &vec![0; n])]);
    let overhead = filled(9_000).der().len() - 9_000;
    accepted(&filled(Request::MAX_LEN - overhead), |_| ());
    assert_eq!(error(&filled(Request::MAX_LEN - overhead + 1)), RequestError::TooLong);
}

#[test]
fn req_16_serials_of_up_to_20_octets_of_any_sign_are_read() {
    let serial = |content: &[u8]| Parts::new(&[sha1_id(content)]);
    let longest = [&[0x00][..], &[0xff; 20]].concat();
    for (content, text) in [
        (&[0][..], "00"),
        (&[0x7f], "7F"),
        (&[0, 0x80], "80"),
        (&[0x80], "-80"),
        (&[0xff], "-01"),
        (&[0x11; 20], "1111111111111111111111111111111111111111"),
        (&longest, "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"),
    ] {
        assert_eq!(accepted(&serial(content), |r| r.first.serial.to_string()), text);
    }
    for (content, fault) in [
        (&[][..], SerialError::Empty),
        (&[0, 1], SerialError::NotMinimal),
        (&[0xff, 0x80], SerialError::NotMinimal),
        (&[0x11; 21], SerialError::TooLong),
        (&[0x11; 30], SerialError::TooLong),
    ] {
        assert_eq!(error(&serial(content)), RequestError::Serial(fault));
        assert_eq!(RequestError::Serial(fault).status(), ErrorStatus::MalformedRequest);
    }
}

#[test]
fn req_17_faults_of_the_encoding_are_malformed_and_name_their_place() {
    let der = Parts::new(&[sha1_id(&[7])]).der();
    let with = |from: usize, to: usize, octets: &[u8]| {
        let mut bad = der.clone();
        bad.splice(from..to, octets.iter().copied());
        bad
    };
    let indefinite = [&[0x30, 0x80][..], &der[2..], &[0, 0]].concat();
    for (bad, place) in [
        (vec![], Place::OcspRequest),
        (b"GET / HTTP/1.0".to_vec(), Place::OcspRequest),
        (indefinite, Place::OcspRequest),
        (with(1, 2, &[0x81, der[1]]), Place::OcspRequest),
        (with(3, 4, &[0xff]), Place::TbsRequest),
        (with(2, 3, &[0x31]), Place::TbsRequest),
        (with(4, 5, &[0x31]), Place::RequestList),
        (with(6, 7, &[0x31]), Place::RequestList),
        (with(8, 9, &[0x31]), Place::CertId),
    ] {
        stillgood::fuzzing::request(&bad);
        let refused = Request::parse(&bad).unwrap_err();
        assert_eq!(refused, RequestError::NotDer(place), "{bad:02x?}");
        assert_eq!(refused.status(), ErrorStatus::MalformedRequest);
    }
}

#[test]
fn req_17_every_truncation_is_malformed() {
    for name in ["sha1", "sha256-nonce16", "three-serials", "signed"] {
        let der = fixture(name);
        for len in 0..der.len() {
            let refused = Request::parse(&der[..len]).unwrap_err();
            assert_eq!(refused.status(), ErrorStatus::MalformedRequest, "{name} cut to {len}");
        }
    }
}

#[test]
fn req_17_line_ends_after_the_request_are_ignored_and_nothing_else_is() {
    let mut parts = Parts::new(&[sha1_id(&[0x0a])]); // its own last octet is a line feed
    let expected = accepted(&parts, |r| r.first.der.to_vec());
    for after in [&b"\n"[..], b"\r\n", b"\r\n\r\n"] {
        parts.after = after.to_vec();
        assert_eq!(accepted(&parts, |r| r.first.der.to_vec()), expected);
    }
    for after in [&b"\0"[..], b" ", b"\n\0", b"\x30\x00"] {
        parts.after = after.to_vec();
        assert_eq!(error(&parts), RequestError::TrailingData);
    }
}

#[test]
fn non_02_to_05_a_nonce_has_1_to_128_octets() {
    for len in [1, 15, 16, 20, 32, 33, 64, 128] {
        assert_eq!(accepted(&Parts::with_extensions(&[nonce(len)]), |r| r.nonce_octets().map(<[u8]>::len)), Some(len));
    }
    for len in [0, 129, 200] {
        let refused = error(&Parts::with_extensions(&[nonce(len)]));
        assert_eq!(refused, RequestError::NonceLength(len));
        assert_eq!(refused.status(), ErrorStatus::MalformedRequest);
    }
}

#[test]
fn non_08_a_nonce_is_echoed_verbatim_raw_ones_too() {
    let wrapped = tlv(4, &[&[0x5a; 20]]);
    assert_eq!(accepted(&Parts::with_extensions(&[nonce(20)]), |r| r.nonce.map(<[u8]>::to_vec)), Some(wrapped));
    for raw in [&[0xa7; 32][..], &[0x04], &[0x04, 9, 1], &[0x04, 1, 1, 1], &[1; 128]] {
        let found = accepted(&Parts::with_extensions(&[extension(NONCE, None, raw)]), |r| {
            (r.nonce.map(<[u8]>::to_vec), r.nonce_octets().map(<[u8]>::to_vec))
        });
        assert_eq!(found, (Some(raw.to_vec()), Some(raw.to_vec())));
    }
    for raw in [&[][..], &[1; 129]] {
        let parts = Parts::with_extensions(&[extension(NONCE, None, raw)]);
        assert_eq!(error(&parts), RequestError::NonceLength(raw.len()));
    }
}

#[test]
fn non_01_a_nonce_at_the_single_level_is_ignored() {
    for value in [&tlv(4, &[&[1; 16]])[..], &[]] {
        for critical in [None, Some(0xff)] {
            let parts = Parts::with_single_extensions(&[extension(NONCE, critical, value)]);
            accepted(&parts, |r| assert_eq!(r.nonce, None));
        }
    }
}

#[test]
fn ext_03_a_client_must_be_able_to_read_basic_responses() {
    let list = |ids: &[&[u8]]| {
        let ids: Vec<u8> = ids.iter().flat_map(|id| oid(id)).collect();
        Parts::with_extensions(&[extension(ACCEPTABLE_RESPONSES, None, &sequence(&[&ids]))])
    };
    accepted(&list(&[BASIC]), |_| ());
    accepted(&list(&[UNKNOWN, BASIC]), |_| ());
    for other in [list(&[]), list(&[UNKNOWN])] {
        assert_eq!(error(&other), RequestError::BasicNotAcceptable);
        assert_eq!(error(&other).status(), ErrorStatus::Unauthorized);
    }
    let broken = Parts::with_extensions(&[extension(ACCEPTABLE_RESPONSES, None, BASIC)]);
    assert_eq!(error(&broken), RequestError::NotDer(Place::AcceptableResponses));
}

#[test]
fn ext_06_a_service_locator_is_accepted_and_ignored() {
    for critical in [None, Some(0xff)] {
        accepted(&Parts::with_single_extensions(&[extension(SERVICE_LOCATOR, critical, b"?")]), |_| ());
    }
}

#[test]
fn ext_07_preferred_algorithms_are_read_in_their_order() {
    let preferred = |ids: &[Vec<u8>]| {
        let value = sequence(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Parts::with_extensions(&[extension(PREFERRED_ALGORITHMS, None, &value)])
    };
    let p256 = algorithm(b"\x2a\x86\x48\xce\x3d\x02\x01", &oid(b"\x2a\x86\x48\xce\x3d\x03\x01\x07"));
    let ecdsa = sequence(&[&algorithm(ECDSA_SHA256, &[]), &p256]);
    let rsa = sequence(&[&algorithm(RSA_SHA256, &[5, 0])]);
    let oids = |r: Request<'_>| r.preferred_signature_oids().map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(accepted(&preferred(&[ecdsa.clone(), rsa.clone()]), oids), [ECDSA_SHA256, RSA_SHA256]);
    assert_eq!(accepted(&preferred(&[rsa, ecdsa]), oids), [RSA_SHA256, ECDSA_SHA256]);
    assert!(accepted(&preferred(&[]), oids).is_empty());
    assert!(accepted(&Parts::new(&[sha1_id(&[7])]), oids).is_empty());
    let bare = preferred(&[algorithm(ECDSA_SHA256, &[])]);
    assert_eq!(error(&bare), RequestError::NotDer(Place::PreferredSignatureAlgorithms));
}

#[test]
fn what_is_said_of_a_bad_request_names_the_part() {
    let said = error(&Parts::with_extensions(&[nonce(129)])).to_string();
    assert_eq!(said, "the nonce has 129 octets; 1 to 128 are allowed");
    let said = error(&Parts::with_single_extensions(&[extension(UNKNOWN, Some(0xff), b"")])).to_string();
    assert_eq!(said, "singleRequestExtensions has a critical extension that is not understood");
}
