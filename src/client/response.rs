//! Reading an OCSPResponse (RFC 6960 §4.2.1), strictly and borrowed, with the place of whatever is wrong.

use crate::asn1::{NotDer, Reader, Tlv, tag, whole};
use crate::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Reason, Serial};
use crate::time::{Timestamp, parse_generalized};
use crate::x509::oid;

/// The most octets a response may have.
pub const MAX_LEN: usize = 1 << 20;
/// The most SingleResponses, certificates or extensions in one list that are read.
pub const MAX_ITEMS: usize = 256;
/// id-pkix-ocsp-basic, content octets.
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Where a response stops being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at octet {offset}: {field} is not the DER that RFC 6960 §4.2.1 has there")]
pub struct Malformed {
    /// The field that was expected.
    pub field: &'static str,
    /// Its offset in the response, from 0.
    pub offset: usize,
}

/// An OCSPResponse.
#[derive(Clone, Debug)]
pub struct Response<'a> {
    /// responseStatus and what belongs to it.
    pub body: Body<'a>,
}

/// What a response holds.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// An error, unsigned.
    Error(ErrorStatus),
    /// A status that does not exist (4 is not used).
    UnknownStatus(u8),
    /// successful(0) with a BasicOCSPResponse.
    Basic(Box<Basic<'a>>),
    /// successful(0) with a response type we do not know; its OID.
    OtherType(String),
}

/// A BasicOCSPResponse.
#[derive(Clone, Debug)]
pub struct Basic<'a> {
    /// The octets that are signed: tbsResponseData.
    pub tbs: &'a [u8],
    /// responderID.
    pub responder: ResponderName<'a>,
    /// producedAt.
    pub produced_at: Timestamp,
    /// responses, at least one.
    pub singles: Vec<Single<'a>>,
    /// responseExtensions.
    pub extensions: Vec<Extension<'a>>,
    /// The DER of signatureAlgorithm.
    pub signature_algorithm: &'a [u8],
    /// The octets of the BIT STRING.
    pub signature: &'a [u8],
    /// The DER of each certificate in certs.
    pub certificates: Vec<&'a [u8]>,
}

/// ResponderID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponderName<'a> {
    /// byName: the DER of the name.
    Name(&'a [u8]),
    /// byKey: SHA-1 of the key's bits.
    Key(&'a [u8]),
}

/// A SingleResponse.
#[derive(Clone, Debug)]
pub struct Single<'a> {
    /// The hash algorithm of the CertID; `None` for one we do not know.
    pub hash: Option<HashAlgorithm>,
    /// issuerNameHash.
    pub name_hash: &'a [u8],
    /// issuerKeyHash.
    pub key_hash: &'a [u8],
    /// serialNumber.
    pub serial: Serial,
    /// certStatus.
    pub status: CertStatus,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate.
    pub next_update: Option<Timestamp>,
    /// singleExtensions.
    pub extensions: Vec<Extension<'a>>,
}

/// An Extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The content octets of its OID.
    pub oid: &'a [u8],
    /// Whether it must be understood.
    pub critical: bool,
    /// The content of extnValue.
    pub value: &'a [u8],
}

/// A CertStatus in words.
#[derive(Clone, Copy, Debug)]
pub struct CertStatusWords(pub CertStatus);

/// Reads fields and remembers where it is, for the fault.
struct Cursor<'a> {
    document: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Cursor<'a> {
    fn fault(&self, field: &'static str) -> Malformed {
        // What is read is always a slice of the document.
        let offset = (self.reader.rest().as_ptr() as usize).saturating_sub(self.document.as_ptr() as usize);
        Malformed { field, offset: offset.min(self.document.len()) }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, NotDer>,
    ) -> Result<T, Malformed> {
        let fault = self.fault(field);
        read(&mut self.reader).map_err(|NotDer| fault)
    }

    fn content(&mut self, field: &'static str, tag: u8) -> Result<&'a [u8], Malformed> {
        self.read(field, |r| r.expect(tag))
    }

    fn inside(&mut self, field: &'static str, tag: u8) -> Result<Cursor<'a>, Malformed> {
        let content = self.content(field, tag)?;
        Ok(Cursor { document: self.document, reader: Reader::new(content) })
    }

    fn inside_optional(&mut self, field: &'static str, tag: u8) -> Result<Option<Cursor<'a>>, Malformed> {
        if self.reader.peek() == Some(tag) { self.inside(field, tag).map(Some) } else { Ok(None) }
    }

    fn end(&self, field: &'static str) -> Result<(), Malformed> {
        self.reader.end().map_err(|NotDer| self.fault(field))
    }

    fn time(&mut self, field: &'static str) -> Result<Timestamp, Malformed> {
        self.read(field, |r| parse_generalized(r.expect(tag::GENERALIZED_TIME)?).ok_or(NotDer))
    }

    fn each<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Cursor<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut items = Vec::new();
        while !self.reader.is_empty() {
            if items.len() == MAX_ITEMS {
                return Err(self.fault(field));
            }
            items.push(read(self)?);
        }
        Ok(items)
    }
}

impl<'a> Response<'a> {
    /// Reads a response of at most `MAX_LEN` octets. Nothing may follow it.
    pub fn parse(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut document = Cursor { document: der, reader: Reader::new(der) };
        if der.len() > MAX_LEN {
            return Err(document.fault("OCSPResponse (at most 1 MiB)"));
        }
        let mut outer = document.inside("OCSPResponse", tag::SEQUENCE)?;
        document.end("the end of OCSPResponse")?;
        let status = outer.read("responseStatus", |r| match r.expect(tag::ENUMERATED)? {
            [status] => Ok(*status),
            _ => Err(NotDer),
        })?;
        if status != 0 {
            outer.end("the end of an error response (responseBytes do not belong there)")?;
            let known = ErrorStatus::ALL.into_iter().find(|e| *e as u8 == status);
            return Ok(Response { body: known.map_or(Body::UnknownStatus(status), Body::Error) });
        }
        let mut explicit = outer.inside("responseBytes", tag::context(0))?;
        outer.end("the end of OCSPResponse")?;
        let mut bytes = explicit.inside("responseBytes", tag::SEQUENCE)?;
        explicit.end("the end of responseBytes")?;
        let kind = bytes.content("responseType", tag::OID)?;
        if kind != BASIC {
            return Ok(Response { body: Body::OtherType(oid::text(kind)) });
        }
        let mut octets = bytes.inside("response", tag::OCTET_STRING)?;
        bytes.end("the end of responseBytes")?;
        let basic = basic(&mut octets)?;
        octets.end("the end of BasicOCSPResponse")?;
        Ok(Response { body: Body::Basic(Box::new(basic)) })
    }
}

impl Single<'_> {
    /// Whether this is the answer for that certificate of that issuer.
    pub fn is_about(&self, issuer: &crate::ocsp::IssuerHashes, serial: &Serial) -> bool {
        self.hash == Some(issuer.algorithm)
            && self.name_hash == issuer.name.as_bytes()
            && self.key_hash == issuer.key.as_bytes()
            && self.serial == *serial
    }
}

/// `good`, `unknown`, or `revoked at … (reason)`.
impl std::fmt::Display for CertStatusWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            CertStatus::Good => f.write_str("good"),
            CertStatus::Unknown => f.write_str("unknown"),
            CertStatus::Revoked { at, reason } => {
                write!(f, "revoked at {at} ({})", reason.map_or("no reason given", Reason::name))
            }
        }
    }
}

fn basic<'a>(c: &mut Cursor<'a>) -> Result<Basic<'a>, Malformed> {
    let mut c = c.inside("BasicOCSPResponse", tag::SEQUENCE)?;
    let tbs_at = c.fault("tbsResponseData");
    let tbs = c.reader.clone().expect_tlv(tag::SEQUENCE).map_err(|NotDer| tbs_at)?.der;
    let mut data = c.inside("tbsResponseData", tag::SEQUENCE)?;
    if let Some(mut version) = data.inside_optional("version", tag::context(0))? {
        version.read("version", |r| if r.expect(tag::INTEGER)? == [0] { r.end() } else { Err(NotDer) })?;
    }
    let responder = data.read("responderID", |r| {
        let Tlv { tag: kind, content, .. } = r.any()?;
        match kind {
            0xa1 if whole(content, tag::SEQUENCE).is_ok() => Ok(ResponderName::Name(content)),
            0xa2 => match whole(content, tag::OCTET_STRING)? {
                hash if hash.len() == 20 => Ok(ResponderName::Key(hash)),
                _ => Err(NotDer),
            },
            _ => Err(NotDer),
        }
    })?;
    let produced_at = data.time("producedAt")?;
    let mut list = data.inside("responses", tag::SEQUENCE)?;
    let empty = list.fault("responses (at least one)");
    let singles = list.each("responses", single)?;
    if singles.is_empty() {
        return Err(empty);
    }
    let extensions = explicit_extensions(&mut data, "responseExtensions")?;
    data.end("the end of tbsResponseData")?;

    let signature_algorithm = c.read("signatureAlgorithm", |r| r.expect_tlv(tag::SEQUENCE))?.der;
    let signature = c.read("signature", |r| match r.expect(tag::BIT_STRING)? {
        [0, signature @ ..] => Ok(signature),
        _ => Err(NotDer),
    })?;
    let certificates = match c.inside_optional("certs", tag::context(0))? {
        None => Vec::new(),
        Some(mut explicit) => {
            let mut list = explicit.inside("certs", tag::SEQUENCE)?;
            explicit.end("the end of certs")?;
            list.each("certs", |c| Ok(c.read("a certificate in certs", |r| r.expect_tlv(tag::SEQUENCE))?.der))?
        }
    };
    c.end("the end of BasicOCSPResponse")?;
    Ok(Basic { tbs, responder, produced_at, singles, extensions, signature_algorithm, signature, certificates })
}

fn single<'a>(c: &mut Cursor<'a>) -> Result<Single<'a>, Malformed> {
    let mut c = c.inside("SingleResponse", tag::SEQUENCE)?;
    let mut id = c.inside("certID", tag::SEQUENCE)?;
    let mut algorithm = id.inside("hashAlgorithm", tag::SEQUENCE)?;
    let hash = HashAlgorithm::from_oid(algorithm.content("hashAlgorithm", tag::OID)?);
    let name_hash = id.content("issuerNameHash", tag::OCTET_STRING)?;
    let key_hash = id.content("issuerKeyHash", tag::OCTET_STRING)?;
    let serial = id.read("serialNumber", |r| Serial::from_der_content(r.expect(tag::INTEGER)?).map_err(|_| NotDer))?;
    id.end("the end of certID")?;

    let fault = c.fault("certStatus");
    let Tlv { tag: kind, content, .. } = c.read("certStatus", Reader::any)?;
    let status = match (kind, content) {
        (0x80, []) => CertStatus::Good,
        (0x82, []) => CertStatus::Unknown,
        (0xa1, _) => {
            let mut revoked = Cursor { document: c.document, reader: Reader::new(content) };
            let at = revoked.time("revocationTime")?;
            let reason = match revoked.inside_optional("revocationReason", tag::context(0))? {
                None => None,
                Some(mut explicit) => {
                    Some(explicit.read("revocationReason", |r| match r.expect(tag::ENUMERATED)? {
                        [code] => Reason::from_code(*code).ok_or(NotDer),
                        _ => Err(NotDer),
                    })?)
                }
            };
            revoked.end("the end of RevokedInfo")?;
            CertStatus::Revoked { at, reason }
        }
        _ => return Err(fault),
    };
    let this_update = c.time("thisUpdate")?;
    let next_update = match c.inside_optional("nextUpdate", tag::context(0))? {
        None => None,
        Some(mut explicit) => Some(explicit.time("nextUpdate")?),
    };
    let extensions = explicit_extensions(&mut c, "singleExtensions")?;
    c.end("the end of SingleResponse")?;
    Ok(Single { hash, name_hash, key_hash, serial, status, this_update, next_update, extensions })
}

/// `[1] EXPLICIT Extensions OPTIONAL`, as both lists of a response are.
fn explicit_extensions<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<Vec<Extension<'a>>, Malformed> {
    let Some(mut explicit) = c.inside_optional(field, tag::context(1))? else { return Ok(Vec::new()) };
    let list = explicit.inside(field, tag::SEQUENCE)?;
    explicit.end(field)?;
    let mut list = list;
    list.each(field, |c| one_extension(c, field))
}

fn one_extension<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<Extension<'a>, Malformed> {
    let mut c = c.inside(field, tag::SEQUENCE)?;
    let oid = c.content(field, tag::OID)?;
    let critical = c.read(field, |r| Ok(r.optional(tag::BOOLEAN)?.is_some_and(|b| b != [0])))?;
    let value = c.content(field, tag::OCTET_STRING)?;
    c.end(field)?;
    Ok(Extension { oid, critical, value })
}

/// The extensions in the content of an Extensions SEQUENCE, as far as they can be read.
pub(crate) fn extensions(content: &[u8]) -> Vec<Extension<'_>> {
    let mut c = Cursor { document: content, reader: Reader::new(content) };
    c.each("extensions", |c| one_extension(c, "an extension")).unwrap_or_default()
}

/// The name of an extension met in OCSP, else its dotted OID.
pub(crate) fn extension_name(content: &[u8]) -> String {
    let text = oid::text(content);
    let name = match text.as_str() {
        "1.3.6.1.5.5.7.48.1.2" => "nonce",
        "1.3.6.1.5.5.7.48.1.3" => "CRL references",
        "1.3.6.1.5.5.7.48.1.4" => "acceptable responses",
        "1.3.6.1.5.5.7.48.1.6" => "archive cutoff",
        "1.3.6.1.5.5.7.48.1.7" => "service locator",
        "1.3.6.1.5.5.7.48.1.8" => "preferred signature algorithms",
        "1.3.6.1.5.5.7.48.1.9" => "extended revoke",
        "1.3.36.8.3.13" => "CertHash",
        "1.3.6.1.4.1.311.21.4" => "next publish",
        "2.5.29.21" => "reason code",
        _ => return text,
    };
    format!("{name} ({text})")
}

/// The name of the algorithm in the DER of an AlgorithmIdentifier, else its dotted OID.
pub fn algorithm_name(der: &[u8]) -> String {
    let Ok(name) = whole(der, tag::SEQUENCE).and_then(|content| Reader::new(content).expect(tag::OID)) else {
        return "unreadable".to_owned();
    };
    let known = match name {
        oid::SHA1_WITH_RSA | oid::OIW_SHA1_WITH_RSA => "sha1WithRSAEncryption",
        oid::SHA256_WITH_RSA => "sha256WithRSAEncryption",
        oid::SHA384_WITH_RSA => "sha384WithRSAEncryption",
        oid::SHA512_WITH_RSA => "sha512WithRSAEncryption",
        oid::RSASSA_PSS => "RSASSA-PSS",
        oid::ECDSA_WITH_SHA1 => "ecdsa-with-SHA1",
        oid::ECDSA_WITH_SHA256 => "ecdsa-with-SHA256",
        oid::ECDSA_WITH_SHA384 => "ecdsa-with-SHA384",
        oid::ED25519 => "Ed25519",
        other => return oid::text(other),
    };
    known.to_owned()
}
