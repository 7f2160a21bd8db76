//! Certificate revocation lists (RFC 5280 §5), pure: a streaming walk over the bytes as they are.
//!
//! The header and the extensions are read at once, the entries one by one as they are asked for, so that a list of a
//! million entries costs no memory of its own.
//!
//! What is refused as a whole, because an answer drawn from it could be wrong: indirect CRLs, delta CRLs, lists
//! that cover only some reasons or only attribute certificates, and lists with critical extensions that are not known
//! here (RFC 5280 §5.2, §5.3). One entry that cannot be read is reported by its number and does not harm its neighbours.

mod scope;

pub use scope::CrlScope;

use super::certificate::{name_text, read_extension};
use super::public_key::bit_string;
use super::{Certificate, Extension, KeyUsage, VerifyError, oid, verify};
use crate::asn1::{NotDer, Reader, tag, whole};
use crate::ocsp::{Reason, Serial, SerialError};
use crate::time::{Timestamp, parse_generalized, parse_utc_time};

const ISSUER_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x12];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 0x2e];
const HOLD_INSTRUCTION: &[u8] = &[0x55, 0x1d, 0x17];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 0x18];

/// A CRL that has been read up to its entries. Borrows the input; nothing is copied.
///
/// Nothing in it may be believed before [`Crl::verify`].
#[derive(Clone, Debug)]
pub struct Crl<'a> {
    /// The issuer's Name, the whole element in DER.
    pub issuer_der: &'a [u8],
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate. RFC 5280 §5.1.2.5 wants it; some lists do without.
    pub next_update: Option<Timestamp>,
    /// crlNumber (§5.2.3), which has the limits of a serial number.
    pub number: Option<Serial>,
    /// The keyIdentifier of authorityKeyIdentifier (§5.2.1).
    pub authority_key_id: Option<&'a [u8]>,
    /// Which certificates the list is about.
    pub scope: CrlScope,
    /// The whole tbsCertList element: what is signed.
    pub tbs_der: &'a [u8],
    /// The AlgorithmIdentifier element of the signature.
    pub signature_algorithm_der: &'a [u8],
    /// The octets of the signature.
    pub signature: &'a [u8],
    revoked: &'a [u8],
}

/// How a CRL's dates stand to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freshness {
    /// thisUpdate ≤ now ≤ nextUpdate, or no nextUpdate is given.
    Current,
    /// nextUpdate is past.
    Expired,
    /// thisUpdate is still to come.
    NotYetValid,
}

/// Why a CRL cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// A field is not what RFC 5280 §5.1 says.
    #[error("not a CRL in DER: {0} cannot be read; the file may be cut off or something else")]
    Field(&'static str),
    /// The signature algorithm is named twice and differently (RFC 5280 §5.1.1.2).
    #[error("the CRL names two different signature algorithms; they must be the same")]
    AlgorithmsDiffer,
    /// Extensions in a version 1 list.
    #[error("the CRL has extensions but says version 1")]
    Version,
    /// More than [`Crl::MAX_EXTENSIONS`].
    #[error("the CRL has more than {max} extensions", max = Crl::MAX_EXTENSIONS)]
    TooManyExtensions,
    /// An extension occurs twice.
    #[error("the CRL has the extension {0} twice")]
    DuplicateExtension(String),
    /// An extension that must be understood cannot be read.
    #[error("the CRL's extension {0} cannot be read")]
    Extension(&'static str),
    /// RFC 5280 §5.2: must not be used.
    #[error("the CRL has the critical extension {0}, which is not known here, so nothing may be concluded from it")]
    UnknownCriticalExtension(String),
    /// It lists changes only.
    #[error("this is a delta CRL, which lists changes only; give the complete (base) CRL instead")]
    Delta,
    /// It lists certificates of other issuers.
    #[error("this is an indirect CRL, which may list certificates of other issuers; give the CA's own CRL instead")]
    Indirect,
    /// issuingDistributionPoint has onlySomeReasons.
    #[error("the CRL covers only some revocation reasons; give the CA's CRL for all reasons instead")]
    OnlySomeReasons,
    /// issuingDistributionPoint has onlyContainsAttributeCerts.
    #[error("the CRL covers attribute certificates only; give the CA's CRL for public-key certificates instead")]
    OnlyAttributeCerts,
}

/// Why a CRL is not the word of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlVerifyError {
    /// Another name, octet for octet.
    #[error("the CRL is from \"{found}\", expected one from \"{expected}\"")]
    WrongIssuer {
        /// The issuer certificate's subject.
        expected: String,
        /// The CRL's issuer.
        found: String,
    },
    /// RFC 5280 §6.3.3 (f).
    #[error("the issuer's certificate has a keyUsage without cRLSign, so it may not sign CRLs")]
    MayNotSignCrls,
    /// The right name, but another key, or a damaged list.
    #[error("the CRL does not verify with the issuer's key: {0}")]
    Signature(#[from] VerifyError),
}

/// One entry of revokedCertificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedEntry {
    /// userCertificate.
    pub serial: Serial,
    /// revocationDate.
    pub at: Timestamp,
    /// reasonCode; `None` when absent, and for `unspecified`, which says the same.
    pub reason: Option<Reason>,
}

/// An entry that cannot be used as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number}: {fault}")]
pub struct EntryError {
    /// Which one, counted from 1.
    pub number: u64,
    /// Its serial number, where that can be told.
    pub serial: Option<Serial>,
    /// revocationDate, where only the reason is unclear: revoked it is.
    pub revoked_at: Option<Timestamp>,
    /// What is wrong.
    pub fault: EntryFault,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// The list is broken here; nothing after it can be read. The last item of [`Entries`].
    #[error("the list of entries is broken here; the CRL may be damaged")]
    Broken,
    /// Not a serial number, a date and perhaps extensions.
    #[error("not a serial number, a date and perhaps extensions")]
    Structure,
    /// The serial number breaks RFC 5280 §4.1.2.2 or DER.
    #[error(transparent)]
    Serial(#[from] SerialError),
    /// revocationDate.
    #[error("the revocation date cannot be read")]
    Date,
    /// crlEntryExtensions.
    #[error("the entry's extensions cannot be read")]
    Extensions,
    /// A reasonCode that is not assigned.
    #[error("the reason code is none of RFC 5280 section 5.3.1")]
    Reason,
    /// removeFromCRL is for delta CRLs only (RFC 5280 §5.3.1).
    #[error("removeFromCRL has no meaning in a complete CRL")]
    RemoveFromCrl,
    /// The entry names its own issuer: the list is indirect (RFC 5280 §5.3.3).
    #[error("the entry names an issuer of its own: this is an indirect CRL, give the CA's own CRL instead")]
    CertificateIssuer,
    /// RFC 5280 §5.3: the list must not be used.
    #[error("the entry has the critical extension {0}, which is not known here, so the CRL must not be used")]
    CriticalExtension(String),
}

impl EntryError {
    /// Whether the entry may revoke a certificate that someone can ask about. One with a serial number of more than 20
    /// octets cannot: no [`Serial`] is equal to it.
    pub fn may_name_a_certificate(&self) -> bool {
        !matches!(self.fault, EntryFault::Serial(SerialError::TooLong))
    }
}

impl EntryFault {
    /// Whether the whole list must not be used.
    pub fn condemns_the_list(&self) -> bool {
        matches!(self, EntryFault::Broken | EntryFault::CertificateIssuer | EntryFault::CriticalExtension(_))
    }
}

impl<'a> Crl<'a> {
    /// The most CRL extensions that are read.
    pub const MAX_EXTENSIONS: usize = 32;
    /// The most extensions of one entry that are read.
    pub const MAX_ENTRY_EXTENSIONS: usize = 16;

    /// Reads DER. Nothing may follow the CRL. Entries are not looked at yet.
    pub fn parse(der: &'a [u8]) -> Result<Self, CrlError> {
        let field = |name| move |_: NotDer| CrlError::Field(name);
        let mut outer = Reader::new(whole(der, tag::SEQUENCE).map_err(field("CertificateList"))?);
        let tbs = outer.expect_tlv(tag::SEQUENCE).map_err(field("tbsCertList"))?;
        let algorithm = outer.expect_tlv(tag::SEQUENCE).map_err(field("signatureAlgorithm"))?;
        let signature = outer.expect(tag::BIT_STRING).and_then(bit_string).map_err(field("signatureValue"))?;
        outer.end().map_err(field("CertificateList"))?;

        let mut fields = Reader::new(tbs.content);
        let version = fields.optional(tag::INTEGER).map_err(field("version"))?;
        if !matches!(version, None | Some([1])) {
            return Err(CrlError::Field("version"));
        }
        let inner = fields.expect_tlv(tag::SEQUENCE).map_err(field("signature"))?;
        if inner.der != algorithm.der {
            return Err(CrlError::AlgorithmsDiffer);
        }
        let issuer = fields.expect_tlv(tag::SEQUENCE).map_err(field("issuer"))?;
        let this_update = time(&mut fields).map_err(field("thisUpdate"))?;
        let next_update = match fields.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => Some(time(&mut fields).map_err(field("nextUpdate"))?),
            _ => None,
        };
        let revoked = fields.optional(tag::SEQUENCE).map_err(field("revokedCertificates"))?.unwrap_or_default();
        let extensions = fields.optional(tag::context(0)).map_err(field("crlExtensions"))?;
        fields.end().map_err(field("tbsCertList"))?;
        if extensions.is_some() && version.is_none() {
            return Err(CrlError::Version);
        }
        let mut crl = Crl {
            issuer_der: issuer.der,
            this_update,
            next_update,
            number: None,
            authority_key_id: None,
            scope: CrlScope::default(),
            tbs_der: tbs.der,
            signature_algorithm_der: algorithm.der,
            signature,
            revoked,
        };
        if let Some(list) = extensions {
            crl.read_extensions(whole(list, tag::SEQUENCE).map_err(field("crlExtensions"))?)?;
        }
        Ok(crl)
    }

    /// The entries, in their order.
    pub fn entries(&self) -> Entries<'a> {
        Entries { list: Reader::new(self.revoked), number: 0, date: (&[], Timestamp::EPOCH) }
    }

    /// About how many entries there are, from the first one's size: for reserving memory. Never more than the octets
    /// could hold.
    pub fn entries_hint(&self) -> usize {
        let first = Reader::new(self.revoked).any().map_or(0, |tlv| tlv.der.len());
        self.revoked.len().checked_div(first).unwrap_or(0).min(self.revoked.len() / MIN_ENTRY_LEN)
    }

    /// Whether this is what `issuer` says: its name octet for octet, its right to sign CRLs, its signature.
    /// Dates are not looked at; see [`Crl::freshness`].
    pub fn verify(&self, issuer: &Certificate) -> Result<(), CrlVerifyError> {
        if self.issuer_der != issuer.subject_der() {
            return Err(CrlVerifyError::WrongIssuer { expected: issuer.subject(), found: name_text(self.issuer_der) });
        }
        if issuer.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::CRL_SIGN)) {
            return Err(CrlVerifyError::MayNotSignCrls);
        }
        Ok(verify(issuer.spki_der(), self.signature_algorithm_der, self.tbs_der, self.signature)?)
    }

    /// How the dates stand to `now`.
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        freshness(self.this_update, self.next_update, now)
    }

    fn read_extensions(&mut self, list: &'a [u8]) -> Result<(), CrlError> {
        let mut list = Reader::new(list);
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            if seen.len() == Self::MAX_EXTENSIONS {
                return Err(CrlError::TooManyExtensions);
            }
            let extension = read_extension(&mut list).map_err(|_| CrlError::Field("crlExtensions"))?;
            if seen.contains(&extension.oid) {
                return Err(CrlError::DuplicateExtension(extension.name()));
            }
            seen.push(extension.oid);
            self.read_extension(extension)?;
        }
        Ok(())
    }

    fn read_extension(&mut self, extension: Extension<'a>) -> Result<(), CrlError> {
        match extension.oid {
            oid::CRL_NUMBER => {
                let number = whole(extension.value, tag::INTEGER).map_err(|_| CrlError::Extension("crlNumber"))?;
                self.number = Some(Serial::from_der_content(number).map_err(|_| CrlError::Extension("crlNumber"))?);
            }
            oid::AUTHORITY_KEY_IDENTIFIER => {
                let read = || Reader::new(whole(extension.value, tag::SEQUENCE)?).optional(tag::context_primitive(0));
                self.authority_key_id = read().map_err(|_| CrlError::Extension("authorityKeyIdentifier"))?;
            }
            ISSUING_DISTRIBUTION_POINT => self.scope = CrlScope::read(extension.value)?,
            DELTA_CRL_INDICATOR => return Err(CrlError::Delta),
            ISSUER_ALT_NAME | FRESHEST_CRL | oid::AUTHORITY_INFO_ACCESS => {}
            _ if extension.critical => return Err(CrlError::UnknownCriticalExtension(extension.name())),
            _ => {}
        }
        Ok(())
    }
}

/// How dates of a CRL stand to `now`.
pub fn freshness(this_update: Timestamp, next_update: Option<Timestamp>, now: Timestamp) -> Freshness {
    match next_update {
        _ if now < this_update => Freshness::NotYetValid,
        Some(next) if now > next => Freshness::Expired,
        _ => Freshness::Current,
    }
}

/// The shortest entry there can be: SEQUENCE, one-octet serial, UTCTime.
const MIN_ENTRY_LEN: usize = 2 + 3 + 15;

/// The entries of a CRL, read as they are asked for.
///
/// An entry that cannot be used is an `Err` with its number and the walk goes on, except after [`EntryFault::Broken`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    list: Reader<'a>,
    number: u64,
    /// The last date's octets and what they mean: lists come with runs of equal days.
    date: (&'a [u8], Timestamp),
}

impl Iterator for Entries<'_> {
    type Item = Result<RevokedEntry, EntryError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.list.is_empty() {
            return None;
        }
        self.number += 1;
        let Ok(entry) = self.list.any() else {
            self.list = Reader::new(&[]);
            return Some(Err(self.error(None, EntryFault::Broken)));
        };
        if entry.tag != tag::SEQUENCE {
            return Some(Err(self.error(None, EntryFault::Structure)));
        }
        Some(self.entry(entry.content))
    }
}

impl<'a> Entries<'a> {
    #[inline]
    fn entry(&mut self, content: &'a [u8]) -> Result<RevokedEntry, EntryError> {
        let mut fields = Reader::new(content);
        let octets = fields.expect(tag::INTEGER).map_err(|_| self.error(None, EntryFault::Structure))?;
        // A serial number in a form that DER forbids still names a certificate, of which nothing good may be said.
        let serial =
            Serial::from_der_content(octets).map_err(|e| self.error(by_value(octets), EntryFault::Serial(e)))?;
        let at = self.date(&mut fields).map_err(|fault| self.error(Some(serial), fault))?;
        let reason = match fields.is_empty() {
            true => None,
            false => entry_extensions(fields).map_err(|fault| {
                let revoked_at = (fault == EntryFault::Reason).then_some(at);
                EntryError { revoked_at, ..self.error(Some(serial), fault) }
            })?,
        };
        Ok(RevokedEntry { serial, at, reason })
    }

    #[inline]
    fn date(&mut self, fields: &mut Reader<'a>) -> Result<Timestamp, EntryFault> {
        let date = fields.any().map_err(|_| EntryFault::Structure)?;
        if date.der == self.date.0 {
            return Ok(self.date.1);
        }
        let at = match date.tag {
            tag::UTC_TIME => parse_utc_time(date.content),
            tag::GENERALIZED_TIME => parse_generalized(date.content),
            _ => return Err(EntryFault::Structure),
        }
        .ok_or(EntryFault::Date)?;
        self.date = (date.der, at);
        Ok(at)
    }

    #[cold]
    fn error(&self, serial: Option<Serial>, fault: EntryFault) -> EntryError {
        EntryError { number: self.number, serial, revoked_at: None, fault }
    }
}

/// crlEntryExtensions: the reason, if one is given.
#[inline]
fn entry_extensions(mut fields: Reader<'_>) -> Result<Option<Reason>, EntryFault> {
    let unreadable = |_: NotDer| EntryFault::Extensions;
    let mut list = Reader::new(fields.expect(tag::SEQUENCE).map_err(unreadable)?);
    fields.end().map_err(unreadable)?;
    let mut reason = Ok(None);
    let mut left = Crl::MAX_ENTRY_EXTENSIONS;
    while !list.is_empty() {
        left = left.checked_sub(1).ok_or(EntryFault::Extensions)?;
        let extension = read_extension(&mut list).map_err(unreadable)?;
        match extension.oid {
            oid::REASON_CODE => reason = read_reason(extension.value),
            CERTIFICATE_ISSUER => return Err(EntryFault::CertificateIssuer),
            INVALIDITY_DATE | HOLD_INSTRUCTION => {}
            _ if extension.critical => return Err(EntryFault::CriticalExtension(extension.name())),
            _ => {}
        }
    }
    reason
}

#[inline]
fn read_reason(value: &[u8]) -> Result<Option<Reason>, EntryFault> {
    let Ok([code]) = whole(value, tag::ENUMERATED) else { return Err(EntryFault::Reason) };
    match Reason::from_code(*code) {
        Some(Reason::Unspecified) => Ok(None),
        Some(Reason::RemoveFromCrl) => Err(EntryFault::RemoveFromCrl),
        Some(reason) => Ok(Some(reason)),
        None => Err(EntryFault::Reason),
    }
}

/// The number that octets with needless leading ones stand for, if it is one a certificate can have.
fn by_value(mut octets: &[u8]) -> Option<Serial> {
    while let [0, next, ..] = octets
        && *next < 0x80
    {
        octets = octets.get(1..)?;
    }
    while let [0xff, next, ..] = octets
        && *next >= 0x80
    {
        octets = octets.get(1..)?;
    }
    Serial::from_der_content(octets).ok()
}

fn time(fields: &mut Reader<'_>) -> Result<Timestamp, NotDer> {
    let time = fields.any()?;
    match time.tag {
        tag::UTC_TIME => parse_utc_time(time.content),
        tag::GENERALIZED_TIME => parse_generalized(time.content),
        _ => None,
    }
    .ok_or(NotDer)
}

#[cfg(test)]
mod tests;
