//! Verifying a response as a strict client would (RFC 6960 §3.2, RFC 9919 §5). Pure.

use super::response::{Basic, Body, Malformed, ResponderName, Response, Single, algorithm_name, extension_name};
use crate::asn1::{tag, whole};
use crate::ocsp::{CertStatus, ErrorStatus, HashAlgorithm, Serial};
use crate::time::Timestamp;
use crate::x509::{Certificate, KeyUsage, VerifyError, verify as verify_signature};
use std::time::Duration;

/// How much the clocks of responder and client may differ: what OpenSSL, nginx and Apache httpd allow.
pub const DEFAULT_SKEW: Duration = Duration::from_secs(300);
/// id-pkix-ocsp-nonce, content octets.
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// The arc of all OCSP extensions, id-pkix-ocsp; any in it is understood well enough not to matter here.
const OCSP_ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01];

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The CertID's hash algorithm.
    pub hash: HashAlgorithm,
    /// The certificate.
    pub serial: Serial,
    /// The octets of the nonce, inside the OCTET STRING.
    pub nonce: Option<&'a [u8]>,
}

/// A response that is right in every respect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it says.
    pub status: CertStatus,
    /// As of when.
    pub this_update: Timestamp,
    /// Until when; `None`: newer information is always there (RFC 6960 §4.2.2.1).
    pub next_update: Option<Timestamp>,
    /// When it was signed.
    pub produced_at: Timestamp,
    /// Who signed.
    pub signer: SignerRole,
    /// The signer's subject.
    pub signer_subject: String,
    /// The end of the signer's certificate.
    pub signer_not_after: Timestamp,
    /// The signature algorithm's name.
    pub algorithm: String,
    /// What became of the nonce.
    pub nonce: NonceEcho,
    /// Not against RFC 6960, and still a reason for some clients or a root programme to object.
    pub warnings: Vec<Flaw>,
}

/// On what authority a response was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerRole {
    /// The CA's own key.
    Ca,
    /// A responder that the CA has certified for it.
    Delegated,
}

/// What became of the nonce in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceEcho {
    /// There was none.
    NotAsked,
    /// It came back.
    Echoed,
    /// The response has none, as pre-signed ones do not (RFC 9919 §3.2.1).
    Absent,
}

/// Something wrong with a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The responder says it cannot answer.
    #[error("the responder answers {}{}", .0.name(), advice(*.0))]
    ErrorStatus(ErrorStatus),
    /// A response status that does not exist.
    #[error("response status {0} does not exist (RFC 6960 §4.2.1)")]
    UnknownStatus(u8),
    /// Not id-pkix-ocsp-basic.
    #[error("the response type is {0}, not id-pkix-ocsp-basic")]
    OtherType(String),
    /// No SingleResponse has the CertID that was asked for.
    #[error("no answer for the CertID that was asked: {0}")]
    NotAsked(String),
    /// Nobody that could have signed.
    #[error("the certificate of responder {0} is neither in the response nor the issuer")]
    NoSigner(String),
    /// The signature.
    #[error("the signature of the response is not valid: {0}")]
    Signature(VerifyError),
    /// The signer's certificate is not of the issuer that was asked about.
    #[error("the signer {subject} was not certified by the issuer itself (RFC 6960 §4.2.2.2): {why}")]
    NotIssued {
        /// The signer.
        subject: String,
        /// Why not.
        why: String,
    },
    /// The delegated signer lacks the purpose.
    #[error("the signer {0} has no extended key usage OCSPSigning (RFC 6960 §4.2.2.2)")]
    NoOcspSigning(String),
    /// Its keyUsage does not let it sign.
    #[error("the signer {0} has a keyUsage without digitalSignature (RFC 5280 §4.2.1.3)")]
    NoDigitalSignature(String),
    /// Outside its own life.
    #[error("the signer {subject} is valid from {not_before} to {not_after}, and now is {now}")]
    SignerNotValid {
        /// The signer.
        subject: String,
        /// Its notBefore.
        not_before: Timestamp,
        /// Its notAfter.
        not_after: Timestamp,
        /// The time of checking.
        now: Timestamp,
    },
    /// Not yet.
    #[error("{field} {at} lies in the future: now is {now}")]
    Future {
        /// thisUpdate or producedAt.
        field: &'static str,
        /// Its value.
        at: Timestamp,
        /// The time of checking.
        now: Timestamp,
    },
    /// No longer.
    #[error("nextUpdate {at} is past: now is {now}")]
    Stale {
        /// nextUpdate.
        at: Timestamp,
        /// The time of checking.
        now: Timestamp,
    },
    /// In the wrong order.
    #[error("nextUpdate {next} is not after thisUpdate {this}")]
    Order {
        /// thisUpdate.
        this: Timestamp,
        /// nextUpdate.
        next: Timestamp,
    },
    /// Another nonce than ours: somebody else's answer, or an old one.
    #[error("the nonce is not the one that was sent")]
    WrongNonce,
    /// An extension we must understand and do not.
    #[error("critical extension {0} is not understood")]
    Critical(String),
    /// Only a warning.
    #[error("there is no nextUpdate; clients of the lightweight profile refuse that (RFC 9919 §3.2.4)")]
    NoNextUpdate,
    /// Only a warning.
    #[error("thisUpdate {this} is after producedAt {produced}")]
    ProducedEarlier {
        /// thisUpdate.
        this: Timestamp,
        /// producedAt.
        produced: Timestamp,
    },
    /// Only a warning.
    #[error("nextUpdate {next} is after the signer's notAfter {not_after} (Mozilla Root Store Policy §6)")]
    OutlivesSigner {
        /// nextUpdate.
        next: Timestamp,
        /// The signer's notAfter.
        not_after: Timestamp,
    },
    /// Only a warning.
    #[error("{0} certificates come with the response; some clients look at the first only")]
    SeveralCertificates(usize),
}

fn advice(status: ErrorStatus) -> &'static str {
    match status {
        ErrorStatus::Unauthorized => ": it has no record of this issuer or certificate, or is not permitted to answer",
        ErrorStatus::TryLater => {
            ": it is overloaded, has no valid signer at the moment, or cannot read the status of the certificate"
        }
        ErrorStatus::MalformedRequest => ": it does not understand the request",
        ErrorStatus::InternalError => ": it is in trouble",
        ErrorStatus::SigRequired => ": it wants signed requests",
    }
}

/// Verifies a response to a request about one certificate of `issuer`, at `now`, clocks differing by `skew` at most.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn verify(
    response: &[u8],
    asked: &Asked<'_>,
    issuer: &Certificate,
    now: Timestamp,
    skew: Duration,
) -> Result<Verified, Vec<Flaw>> {
    let parsed = Response::parse(response).map_err(|e| vec![Flaw::Malformed(e)])?;
    let basic = match parsed.body {
        Body::Basic(basic) => basic,
        Body::Error(status) => return Err(vec![Flaw::ErrorStatus(status)]),
        Body::UnknownStatus(status) => return Err(vec![Flaw::UnknownStatus(status)]),
        Body::OtherType(oid) => return Err(vec![Flaw::OtherType(oid)]),
    };
    let mut flaws = Vec::new();
    let mut warnings = Vec::new();
    let signer = find_signer(&basic, issuer, &mut flaws);
    if let Some((certificate, role)) = &signer {
        check_signer(certificate, *role, issuer, now, skew, &mut flaws, &mut warnings);
        let signed = verify_signature(certificate.spki_der(), basic.signature_algorithm, basic.tbs, basic.signature);
        flaws.extend(signed.err().map(Flaw::Signature));
    }
    let single = find_single(&basic, asked, issuer, &mut flaws);
    if let Some(single) = single {
        check_times(single, &basic, signer.as_ref().map(|(c, _)| c), now, skew, &mut flaws, &mut warnings);
        critical(&single.extensions, &mut flaws);
    }
    critical(&basic.extensions, &mut flaws);
    let nonce = check_nonce(&basic, asked.nonce, &mut flaws);
    if basic.certificates.len() > 1 {
        warnings.push(Flaw::SeveralCertificates(basic.certificates.len()));
    }
    match (single, signer) {
        (Some(single), Some((certificate, role))) if flaws.is_empty() => Ok(Verified {
            status: single.status,
            this_update: single.this_update,
            next_update: single.next_update,
            produced_at: basic.produced_at,
            signer: role,
            signer_subject: certificate.subject(),
            signer_not_after: certificate.not_after(),
            algorithm: algorithm_name(basic.signature_algorithm),
            nonce,
            warnings,
        }),
        _ => Err(flaws),
    }
}

fn find_single<'s, 'a>(
    basic: &'s Basic<'a>,
    asked: &Asked<'_>,
    issuer: &Certificate,
    flaws: &mut Vec<Flaw>,
) -> Option<&'s Single<'a>> {
    let hashes = issuer.issuer_hashes(asked.hash);
    let found = basic.singles.iter().find(|s| s.is_about(&hashes, &asked.serial));
    if found.is_none() {
        let same_serial = basic.singles.iter().find(|s| s.serial == asked.serial);
        flaws.push(Flaw::NotAsked(match same_serial {
            None => format!("serial number {} is not among the {} answers", asked.serial, basic.singles.len()),
            Some(s) if s.hash != Some(asked.hash) => format!(
                "the answer has a {} CertID, asked was {}",
                s.hash.map_or("strange", HashAlgorithm::name),
                asked.hash.name()
            ),
            Some(_) => "the answer is about another issuer's certificate with this serial number".to_owned(),
        }));
    }
    found
}

/// The certificate that ResponderID names, and on what authority it may sign.
fn find_signer(basic: &Basic<'_>, issuer: &Certificate, flaws: &mut Vec<Flaw>) -> Option<(Certificate, SignerRole)> {
    let named = |c: &Certificate| match basic.responder {
        ResponderName::Key(hash) => c.responder_key_hash() == hash,
        ResponderName::Name(name) => c.subject_der() == name,
    };
    if named(issuer) {
        return Some((issuer.clone(), SignerRole::Ca));
    }
    let found = basic.certificates.iter().filter_map(|der| Certificate::from_der(der).ok()).find(named);
    match found {
        Some(certificate) if certificate.spki_der() == issuer.spki_der() => Some((certificate, SignerRole::Ca)),
        Some(certificate) => Some((certificate, SignerRole::Delegated)),
        None => {
            let name = match basic.responder {
                ResponderName::Key(hash) => format!("with key hash {}", data_encoding::HEXLOWER.encode(hash)),
                ResponderName::Name(_) => "named by its subject".to_owned(),
            };
            flaws.push(Flaw::NoSigner(name));
            None
        }
    }
}

fn check_signer(
    certificate: &Certificate,
    role: SignerRole,
    issuer: &Certificate,
    now: Timestamp,
    skew: Duration,
    flaws: &mut Vec<Flaw>,
    warnings: &mut Vec<Flaw>,
) {
    let subject = || certificate.subject();
    if role == SignerRole::Delegated {
        if certificate.issuer_der() != issuer.subject_der() {
            let why = format!("its issuer is {}", certificate.issuer());
            flaws.push(Flaw::NotIssued { subject: subject(), why });
        } else if let Err(e) = certificate.verify_signed_by(issuer) {
            flaws.push(Flaw::NotIssued { subject: subject(), why: e.to_string() });
        }
        if !certificate.is_ocsp_signer() {
            flaws.push(Flaw::NoOcspSigning(subject()));
        }
        if now.plus(skew) < certificate.not_before() || now.minus(skew) > certificate.not_after() {
            let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
            flaws.push(Flaw::SignerNotValid { subject: subject(), not_before, not_after, now });
        }
    }
    if certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::DIGITAL_SIGNATURE)) {
        // Clients accept a CA's own signature whatever its keyUsage; BR §7.1.2.10.7 does not.
        let list = if role == SignerRole::Ca { warnings } else { flaws };
        list.push(Flaw::NoDigitalSignature(subject()));
    }
}

fn check_times(
    single: &Single<'_>,
    basic: &Basic<'_>,
    signer: Option<&Certificate>,
    now: Timestamp,
    skew: Duration,
    flaws: &mut Vec<Flaw>,
    warnings: &mut Vec<Flaw>,
) {
    let latest = now.plus(skew);
    for (field, at) in [("thisUpdate", single.this_update), ("producedAt", basic.produced_at)] {
        if at > latest {
            flaws.push(Flaw::Future { field, at, now });
        }
    }
    match single.next_update {
        None => warnings.push(Flaw::NoNextUpdate),
        Some(next) => {
            if next <= single.this_update {
                flaws.push(Flaw::Order { this: single.this_update, next });
            }
            if next < now.minus(skew) {
                flaws.push(Flaw::Stale { at: next, now });
            }
            if let Some(signer) = signer.filter(|s| next > s.not_after()) {
                warnings.push(Flaw::OutlivesSigner { next, not_after: signer.not_after() });
            }
        }
    }
    if single.this_update > basic.produced_at {
        warnings.push(Flaw::ProducedEarlier { this: single.this_update, produced: basic.produced_at });
    }
}

fn check_nonce(basic: &Basic<'_>, asked: Option<&[u8]>, flaws: &mut Vec<Flaw>) -> NonceEcho {
    let Some(asked) = asked else { return NonceEcho::NotAsked };
    match basic.extensions.iter().find(|e| e.oid == NONCE) {
        None => NonceEcho::Absent,
        Some(echo) if whole(echo.value, tag::OCTET_STRING) == Ok(asked) => NonceEcho::Echoed,
        Some(_) => {
            flaws.push(Flaw::WrongNonce);
            NonceEcho::Absent
        }
    }
}

fn critical(extensions: &[super::Extension<'_>], flaws: &mut Vec<Flaw>) {
    let strange = extensions.iter().filter(|e| e.critical && !e.oid.starts_with(OCSP_ARC));
    flaws.extend(strange.map(|e| Flaw::Critical(extension_name(e.oid))));
}

#[cfg(test)]
mod tests;
