use crate::ocsp::{CertId, ErrorStatus, HashAlgorithm, Request, RequestError, general};
use rasn_ocsp::OcspRequest;
use rasn_pkix::Extensions;

/// The straight and the general path agree; what they say agrees with itself, and with a typed decoder of other hands.
pub fn request(data: &[u8]) {
    let parsed = Request::parse(data);
    assert_eq!(parsed, general::parse(data), "the two paths disagree");
    let input = data.strip_suffix(line_ends(data)).unwrap_or(data);
    let typed = (data.len() <= Request::MAX_LEN).then(|| rasn::der::decode::<OcspRequest>(input).ok()).flatten();
    match parsed {
        Ok(request) => {
            consistent(data, &request);
            match typed {
                Some(typed) => same(&request, &typed),
                None => assert!(beyond_the_typed_decoder(data, &request), "only the typed decoder refuses it"),
            }
        }
        Err(error) => {
            assert!(matches!(error.status(), ErrorStatus::MalformedRequest | ErrorStatus::Unauthorized));
            if let Some(typed) = typed {
                justified(error, &typed);
            }
        }
    }
}

/// The CR and LF at the end, which may also be the last octets of the DER itself.
fn line_ends(data: &[u8]) -> &[u8] {
    let mut len = data.len();
    if let [0x30, rest @ ..] = data {
        let der = match *rest {
            [n @ 0..=0x7f, ..] => 2 + usize::from(n),
            [0x81, n, ..] => 3 + usize::from(n),
            [0x82, a, b, ..] => 4 + usize::from(u16::from_be_bytes([a, b])),
            _ => len,
        };
        if data.get(der..).is_some_and(|tail| tail.iter().all(|b| matches!(b, b'\r' | b'\n'))) {
            len = der;
        }
    }
    data.get(len..).unwrap_or_default()
}

/// What a parsed request promises by its documentation.
fn consistent(data: &[u8], request: &Request<'_>) {
    let ids: Vec<CertId<'_>> = request.cert_ids().collect();
    assert!((1..=Request::MAX_CERT_IDS).contains(&ids.len()));
    assert_eq!(ids.len(), request.count);
    assert_eq!(ids.first(), Some(&request.first));
    for id in &ids {
        assert!(data.windows(id.der.len()).any(|w| std::ptr::eq(w, id.der)), "the CertID is not in the input");
        if let Some(hash) = id.hash {
            assert_eq!((id.name_hash.len(), id.key_hash.len()), (hash.output_len(), hash.output_len()));
        }
    }
    if let Some(octets) = request.nonce_octets() {
        assert!((1..=Request::MAX_NONCE).contains(&octets.len()));
    }
    let preferred = request.preferred_signature_oids().count();
    assert!(preferred <= request.preferred_algorithms.map_or(0, <[u8]>::len));
}

/// Both accept: the fields are the same.
fn same(request: &Request<'_>, typed: &OcspRequest) {
    assert_eq!(request.signed, typed.optional_signature.is_some());
    assert_eq!(request.count, typed.tbs_request.request_list.len());
    for (ours, theirs) in request.cert_ids().zip(&typed.tbs_request.request_list) {
        let theirs = &theirs.req_cert;
        assert_eq!(ours.name_hash, theirs.issuer_name_hash.as_ref());
        assert_eq!(ours.key_hash, theirs.issuer_key_hash.as_ref());
        let mut serial = vec![0x02, 0];
        ours.serial.write_der_content(&mut serial);
        if let [_, len, content @ ..] = serial.as_mut_slice() {
            *len = u8::try_from(content.len()).unwrap_or(u8::MAX);
        }
        assert_eq!(rasn::der::encode(&theirs.serial_number).ok(), Some(serial), "serial number");
        let oid = rasn::der::encode(&theirs.hash_algorithm.algorithm).unwrap_or_default();
        assert_eq!(ours.hash, HashAlgorithm::from_oid(oid.get(2..).unwrap_or_default()));
    }
    let nonce = extension(typed.tbs_request.request_extensions.as_ref(), &[1, 3, 6, 1, 5, 5, 7, 48, 1, 2]);
    assert_eq!(request.nonce, nonce, "nonce");
    let preferred = extension(typed.tbs_request.request_extensions.as_ref(), &[1, 3, 6, 1, 5, 5, 7, 48, 1, 8]);
    assert_eq!(request.preferred_algorithms.is_some(), preferred.is_some(), "preferred algorithms");
}

/// Only we refuse. For the faults that do not lie in the encoding, the typed decoder must have seen the same.
fn justified(error: RequestError, typed: &OcspRequest) {
    let tbs = &typed.tbs_request;
    let extensions = || tbs.request_list.iter().filter_map(|r| r.single_request_extensions.as_ref());
    let extensions = || extensions().chain(tbs.request_extensions.as_ref());
    match error {
        RequestError::TooLong | RequestError::TrailingData => panic!("the typed decoder cannot have read it: {error}"),
        RequestError::EmptyList => assert!(tbs.request_list.is_empty()),
        RequestError::TooManyCertIds => assert!(tbs.request_list.len() > Request::MAX_CERT_IDS),
        RequestError::TooManyExtensions(_) => assert!(extensions().any(|e| e.len() > Request::MAX_EXTENSIONS)),
        RequestError::DuplicateExtension(_) => assert!(
            extensions().any(|e| e.iter().enumerate().any(|(i, a)| e.iter().take(i).any(|b| a.extn_id == b.extn_id)))
        ),
        RequestError::UnknownCritical(_) => assert!(extensions().any(|e| e.iter().any(|e| e.critical))),
        RequestError::NonceLength(_) => assert!(
            extension(tbs.request_extensions.as_ref(), &[1, 3, 6, 1, 5, 5, 7, 48, 1, 2])
                .is_some_and(|v| v.is_empty() || v.len() <= 3 || v.len() > Request::MAX_NONCE)
        ),
        RequestError::BasicNotAcceptable => {
            assert!(extension(tbs.request_extensions.as_ref(), &[1, 3, 6, 1, 5, 5, 7, 48, 1, 4]).is_some());
        }
        RequestError::Version => assert_ne!(tbs.version, rasn::types::Integer::from(0)),
        RequestError::DigestLength { octets, .. } => assert!(
            tbs.request_list
                .iter()
                .any(|r| { r.req_cert.issuer_name_hash.len() == octets || r.req_cert.issuer_key_hash.len() == octets })
        ),
        RequestError::NotDer(_) | RequestError::HashParameters(_) | RequestError::Serial(_) => {}
    }
}

/// The octets of the extension with these arcs.
fn extension<'a>(extensions: Option<&'a Extensions>, arcs: &[u32]) -> Option<&'a [u8]> {
    extensions?.iter().find(|e| *e.extn_id == *arcs).map(|e| e.extn_value.as_ref())
}

/// What only the typed decoder refuses, and rightly is not refused here: content that is tolerated unread (requestorName,
/// optionalSignature, parameters of unknown algorithms), an empty Extensions, and object identifiers with an arc beyond
/// 32 bits.
fn beyond_the_typed_decoder(data: &[u8], request: &Request<'_>) -> bool {
    let has_requestor_name = data.contains(&0xa1);
    let empty_extensions = data.windows(4).any(|w| matches!(w, [0xa0 | 0xa2, 2, 0x30, 0]));
    let long_arc = data.windows(4).any(|w| w.iter().all(|b| *b >= 0x80));
    let unknown_hash = || request.cert_ids().any(|id| id.hash.is_none());
    request.signed || has_requestor_name || empty_extensions || long_arc || unknown_hash()
}
