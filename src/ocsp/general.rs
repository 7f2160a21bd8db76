//! The whole grammar of OCSPRequest (RFC 6960 §4.1.1), strictly: the authority on what is refused, and why.
//!
//! A walk on plain slices like the straight one, without its shortcuts, so it allocates nothing and does not recurse.
//! A typed decoder is not used here on purpose: it would take needless encodings (non-minimal lengths and integers)
//! that must be refused, and refuse what must be answered (an ignorable extension whose OBJECT IDENTIFIER has an arc
//! beyond 32 bits; odd certificates beside a signature that is not looked at). It is the other opinion in the
//! differential tests instead (`fuzzing.rs`).

use super::request::{Place, Request, RequestError};
use super::{CertId, HashAlgorithm, Serial};
use crate::asn1::{self, NotDer, Reader, tag};

/// id-pkix-ocsp-basic, -nonce, -response, -service-locator and -pref-sig-algs: OBJECT IDENTIFIER content octets.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
const ACCEPTABLE_RESPONSES: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x04];
const SERVICE_LOCATOR: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x07];
const PREFERRED_ALGORITHMS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x08];

/// GeneralName has the alternatives [0] to [8] (RFC 5280 §4.2.1.6).
const LAST_GENERAL_NAME: u8 = 8;

/// One Extension (RFC 5280 §4.2).
#[derive(Clone, Copy)]
struct Extension<'a> {
    oid: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// What requestExtensions say to us.
#[derive(Default)]
struct Wishes<'a> {
    nonce: Option<&'a [u8]>,
    preferred_algorithms: Option<&'a [u8]>,
}

/// Reads a request; see [`Request::parse`].
pub(crate) fn parse(input: &[u8]) -> Result<Request<'_>, RequestError> {
    if input.len() > Request::MAX_LEN {
        return Err(RequestError::TooLong);
    }
    let mut whole = Reader::new(input);
    let mut outer = Reader::new(whole.expect(tag::SEQUENCE).map_err(at(Place::OcspRequest))?);
    if !whole.rest().iter().all(|b| matches!(b, b'\r' | b'\n')) {
        return Err(RequestError::TrailingData);
    }
    let tbs = outer.expect(tag::SEQUENCE).map_err(at(Place::TbsRequest))?;
    let signature = outer.optional(tag::context(0)).map_err(at(Place::Signature))?;
    outer.end().map_err(at(Place::OcspRequest))?;

    let mut tbs = Reader::new(tbs);
    if let Some(version) = tbs.optional(tag::context(0)).map_err(at(Place::Version))? {
        check_version(version)?;
    }
    if let Some(name) = tbs.optional(tag::context(1)).map_err(at(Place::RequestorName))? {
        check_general_name(name).map_err(at(Place::RequestorName))?;
    }
    let list = tbs.expect(tag::SEQUENCE).map_err(at(Place::RequestList))?;
    let extensions = tbs.optional(tag::context(2)).map_err(at(Place::RequestExtensions))?;
    tbs.end().map_err(at(Place::TbsRequest))?;

    let (first, count) = request_list(list)?;
    let wishes = extensions.map(request_extensions).transpose()?.unwrap_or_default();
    if let Some(signature) = signature {
        check_signature(signature).map_err(at(Place::Signature))?;
    }
    Ok(Request {
        first,
        count,
        list,
        nonce: wishes.nonce,
        signed: signature.is_some(),
        preferred_algorithms: wishes.preferred_algorithms,
    })
}

/// The next CertID of a requestList that was validated before, and what follows it.
pub(super) fn next_cert_id(list: &[u8]) -> Option<(CertId<'_>, &[u8])> {
    let mut requests = Reader::new(list);
    let mut request = Reader::new(requests.expect(tag::SEQUENCE).ok()?);
    let cert_id = cert_id(&mut request).ok()?;
    Some((cert_id, requests.rest()))
}

/// The octets inside the OCTET STRING if extnValue is one, all of it if not (RFC 2560 clients).
pub(super) fn nonce_octets(value: &[u8]) -> &[u8] {
    asn1::whole(value, tag::OCTET_STRING).unwrap_or(value)
}

/// The sigIdentifier algorithms of a PreferredSignatureAlgorithms content that was validated before.
pub(super) fn preferred_signature_oids(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut list = Reader::new(content);
    std::iter::from_fn(move || {
        let mut preferred = Reader::new(list.expect(tag::SEQUENCE).ok()?);
        let mut algorithm = Reader::new(preferred.expect(tag::SEQUENCE).ok()?);
        algorithm.expect(tag::OID).ok()
    })
}

fn at(place: Place) -> impl Fn(NotDer) -> RequestError {
    move |NotDer| RequestError::NotDer(place)
}

/// `Version ::= INTEGER { v1(0) }`. DER leaves a default out, but old macOS clients write it.
fn check_version(explicit: &[u8]) -> Result<(), RequestError> {
    match asn1::whole(explicit, tag::INTEGER).map_err(at(Place::Version))? {
        [0] => Ok(()),
        _ => Err(RequestError::Version),
    }
}

/// One element with the tag of a GeneralName. What is in it does not matter: an unsigned request is answered as if
/// there were no requestorName (RFC 9919 §3.1.2).
fn check_general_name(explicit: &[u8]) -> Result<(), NotDer> {
    let mut reader = Reader::new(explicit);
    let name = reader.any()?;
    reader.end()?;
    let context_specific = name.tag & 0xc0 == 0x80;
    if context_specific && name.tag & 0x1f <= LAST_GENERAL_NAME { Ok(()) } else { Err(NotDer) }
}

/// `Signature ::= SEQUENCE { AlgorithmIdentifier, BIT STRING, certs [0] EXPLICIT SEQUENCE OF Certificate OPTIONAL }`.
/// Neither verified nor looked into.
fn check_signature(explicit: &[u8]) -> Result<(), NotDer> {
    let mut signature = Reader::new(asn1::whole(explicit, tag::SEQUENCE)?);
    algorithm_identifier(&mut signature)?;
    match signature.expect(tag::BIT_STRING)? {
        [0] | [0..=7, _, ..] => {}
        _ => return Err(NotDer),
    }
    if let Some(certs) = signature.optional(tag::context(0))? {
        let mut certs = Reader::new(asn1::whole(certs, tag::SEQUENCE)?);
        while !certs.is_empty() {
            certs.expect(tag::SEQUENCE)?;
        }
    }
    signature.end()
}

/// `requestList SEQUENCE OF Request`: the first CertID, and how many there are.
fn request_list(list: &[u8]) -> Result<(CertId<'_>, usize), RequestError> {
    let mut requests = Reader::new(list);
    let mut first = None;
    let mut count = 0;
    while !requests.is_empty() {
        count += 1;
        if count > Request::MAX_CERT_IDS {
            return Err(RequestError::TooManyCertIds);
        }
        let mut request = Reader::new(requests.expect(tag::SEQUENCE).map_err(at(Place::RequestList))?);
        let cert_id = cert_id(&mut request)?;
        if let Some(extensions) = request.optional(tag::context(0)).map_err(at(Place::SingleExtensions))? {
            single_extensions(extensions)?;
        }
        request.end().map_err(at(Place::RequestList))?;
        first.get_or_insert(cert_id);
    }
    Ok((first.ok_or(RequestError::EmptyList)?, count))
}

/// `CertID ::= SEQUENCE { AlgorithmIdentifier, issuerNameHash, issuerKeyHash, serialNumber }`.
fn cert_id<'a>(request: &mut Reader<'a>) -> Result<CertId<'a>, RequestError> {
    let not_der = at(Place::CertId);
    let whole = request.expect_tlv(tag::SEQUENCE).map_err(&not_der)?;
    let mut reader = Reader::new(whole.content);
    let (oid, parameters) = algorithm_identifier(&mut reader).map_err(&not_der)?;
    let name_hash = reader.expect(tag::OCTET_STRING).map_err(&not_der)?;
    let key_hash = reader.expect(tag::OCTET_STRING).map_err(&not_der)?;
    let serial = reader.expect(tag::INTEGER).map_err(&not_der)?;
    reader.end().map_err(&not_der)?;
    let hash = HashAlgorithm::from_oid(oid);
    if let Some(hash) = hash {
        if !matches!(parameters, [] | [tag::NULL, 0]) {
            return Err(RequestError::HashParameters(hash));
        }
        for digest in [name_hash, key_hash] {
            if digest.len() != hash.output_len() {
                return Err(RequestError::DigestLength { hash, octets: digest.len() });
            }
        }
    }
    Ok(CertId { hash, name_hash, key_hash, serial: Serial::from_der_content(serial)?, der: whole.der })
}

/// The OBJECT IDENTIFIER of an AlgorithmIdentifier, and the DER of its parameters (empty when absent).
fn algorithm_identifier<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), NotDer> {
    let mut algorithm = Reader::new(reader.expect(tag::SEQUENCE)?);
    let oid = object_identifier(&mut algorithm)?;
    let parameters = algorithm.rest();
    if !algorithm.is_empty() {
        algorithm.any()?;
    }
    algorithm.end()?;
    Ok((oid, parameters))
}

/// The content octets of an OBJECT IDENTIFIER: at least one arc, each complete and in its shortest form (X.690 §8.19).
fn object_identifier<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], NotDer> {
    let oid = reader.expect(tag::OID)?;
    let mut starts = true;
    for &octet in oid {
        if starts && octet == 0x80 {
            return Err(NotDer);
        }
        starts = octet < 0x80;
    }
    if starts && !oid.is_empty() { Ok(oid) } else { Err(NotDer) }
}

/// requestExtensions: the nonce, what the client can read, and what it would like.
fn request_extensions(explicit: &[u8]) -> Result<Wishes<'_>, RequestError> {
    let place = Place::RequestExtensions;
    let mut wishes = Wishes::default();
    each_extension(explicit, place, |extension| {
        match extension.oid {
            NONCE => {
                let octets = nonce_octets(extension.value).len();
                if !(1..=Request::MAX_NONCE).contains(&octets) {
                    return Err(RequestError::NonceLength(octets));
                }
                wishes.nonce = Some(extension.value);
            }
            ACCEPTABLE_RESPONSES => check_acceptable_responses(extension.value)?,
            PREFERRED_ALGORITHMS => {
                let list = preferred_algorithms(extension.value);
                wishes.preferred_algorithms = Some(list.map_err(at(Place::PreferredSignatureAlgorithms))?);
            }
            _ if extension.critical => return Err(RequestError::UnknownCritical(place)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(wishes)
}

/// singleRequestExtensions: nothing in them changes an answer. A service locator (RFC 6960 §4.4.6) asks for routing,
/// and the CertID already routes; some clients put the nonce here, where it means nothing.
fn single_extensions(explicit: &[u8]) -> Result<(), RequestError> {
    let place = Place::SingleExtensions;
    each_extension(explicit, place, |extension| match extension.oid {
        NONCE | SERVICE_LOCATOR => Ok(()),
        _ if extension.critical => Err(RequestError::UnknownCritical(place)),
        _ => Ok(()),
    })
}

/// Reads `Extensions` in its explicit tag. None at all is tolerated. Syntax and duplicates of the whole list are
/// checked before any extension is acted upon: a list that is no list is malformed, whatever it would have said.
fn each_extension<'a>(
    explicit: &'a [u8],
    place: Place,
    mut act: impl FnMut(Extension<'a>) -> Result<(), RequestError>,
) -> Result<(), RequestError> {
    let not_der = at(place);
    let list = asn1::whole(explicit, tag::SEQUENCE).map_err(&not_der)?;
    let mut seen: [&[u8]; Request::MAX_EXTENSIONS] = [&[]; Request::MAX_EXTENSIONS];
    let mut slots = seen.iter_mut();
    let mut reader = Reader::new(list);
    while !reader.is_empty() {
        let extension = extension(&mut reader).map_err(&not_der)?;
        *slots.next().ok_or(RequestError::TooManyExtensions(place))? = extension.oid;
    }
    for (i, oid) in seen.iter().enumerate() {
        if !oid.is_empty() && seen.iter().skip(i + 1).any(|other| other == oid) {
            return Err(RequestError::DuplicateExtension(place));
        }
    }
    let mut reader = Reader::new(list);
    while !reader.is_empty() {
        act(extension(&mut reader).map_err(&not_der)?)?;
    }
    Ok(())
}

fn extension<'a>(list: &mut Reader<'a>) -> Result<Extension<'a>, NotDer> {
    let mut reader = Reader::new(list.expect(tag::SEQUENCE)?);
    let oid = object_identifier(&mut reader)?;
    let critical = match reader.optional(tag::BOOLEAN)? {
        None | Some([0x00]) => false,
        Some([0xff]) => true,
        Some(_) => return Err(NotDer),
    };
    let value = reader.expect(tag::OCTET_STRING)?;
    reader.end()?;
    Ok(Extension { oid, critical, value })
}

/// `AcceptableResponses ::= SEQUENCE OF OBJECT IDENTIFIER` (RFC 6960 §4.4.3).
fn check_acceptable_responses(value: &[u8]) -> Result<(), RequestError> {
    let not_der = at(Place::AcceptableResponses);
    let mut list = Reader::new(asn1::whole(value, tag::SEQUENCE).map_err(&not_der)?);
    let mut basic = false;
    while !list.is_empty() {
        basic |= object_identifier(&mut list).map_err(&not_der)? == BASIC;
    }
    if basic { Ok(()) } else { Err(RequestError::BasicNotAcceptable) }
}

/// `PreferredSignatureAlgorithms ::= SEQUENCE OF SEQUENCE { sigIdentifier AlgorithmIdentifier, pubKeyAlgIdentifier
/// SMIMECapability OPTIONAL }` (RFC 6960 §4.4.7.1). Gives the content of the outer SEQUENCE.
fn preferred_algorithms(value: &[u8]) -> Result<&[u8], NotDer> {
    let content = asn1::whole(value, tag::SEQUENCE)?;
    let mut list = Reader::new(content);
    while !list.is_empty() {
        let mut preferred = Reader::new(list.expect(tag::SEQUENCE)?);
        algorithm_identifier(&mut preferred)?;
        if !preferred.is_empty() {
            algorithm_identifier(&mut preferred)?; // SMIMECapability has the same shape (RFC 8551 §2.5.2)
        }
        preferred.end()?;
    }
    Ok(content)
}
