//! Which issuers there are and which of them are active.
//!
//! A registry is a JSON document whose `generation` never goes back. It becomes an immutable [`Generation`] in two steps:
//! [`Document::parse`] is pure and checks every record by itself, [`Document::resolve`] reads the issuer certificates. A
//! record that cannot be used is quarantined with its faults and its neighbours are used. A [`Follower`] decides which of
//! the documents it is shown is in use, and remembers across restarts; [`Sync`] shows it what a file or a server says.
//!
//! What becomes of a record:
//! * `active`, `disabled`: in [`Generation::issuers`], in the order of the document.
//! * `retired`: in [`Generation::tombstones`]. Nothing is signed or served for it; requests get `unauthorized`.
//! * gone from the document: a tombstone too ([`TombstoneCause::Removed`]), from the moment its absence is seen. Removing
//!   a record and retiring it have the same effect; retiring says it on purpose.
//! * unusable: quarantined. If the issuer was served before, it is served on as the last good record says, until a restart,
//!   and not renewed (see [`Follower`]);
//! * a tombstone whose id comes back as active or disabled is used again, and that is noted: the document is the word of
//!   the operator, and it says so positively;
//! * a record that brings the CA key of a retired issuer back under another id is quarantined, unless it was served beside it
//!   before: an issuer is a key, not a name, and that one was given up on purpose.

mod document;
mod files;
mod follower;
mod impact;
mod memory;
mod pace;
mod record;
mod source;
mod sync;

pub(crate) use memory::read_bounded;

pub use document::{Document, MAX_ISSUERS, MAX_LEN};
pub use follower::{ApproveError, Change, Follower, Held, last_good, would_refuse};
pub use impact::{Guard, Impact};
pub use record::RecordRules;
pub use sync::{Handle, Looked, Looks, Settings, Sync, View};

use crate::config::{Approval, Fault, Position, Response, Signer};
use crate::time::Timestamp;
use crate::x509::Certificate;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of an issuer in registry, commands, metrics and files: 1 to 128 letters, digits, `.`, `_` or `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerId(Arc<str>);

impl IssuerId {
    /// The id with this text, if it is one.
    pub fn new(text: &str) -> Result<Self, String> {
        crate::config::plain_name(text).map(|()| IssuerId(text.into()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for IssuerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for IssuerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        IssuerId::new(&text).map_err(serde::de::Error::custom)
    }
}

/// What may be done for an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Renew, sign and serve.
    Active,
    /// Never ask for a signer; sign and serve while the present one lasts.
    Disabled,
    /// Nothing; requests get `unauthorized`.
    Retired,
}

impl State {
    /// The name in the registry.
    pub const fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Disabled => "disabled",
            State::Retired => "retired",
        }
    }
}

/// Where an issuer's signer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignerSource {
    /// The operator renews it; the files are watched.
    Files {
        /// The signer's certificate, PEM or DER. May be the CA's own.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// It is ordered from a CA service.
    Enrolled {
        /// A name in `[enrolment.*]`.
        enrolment: String,
        /// What the service calls this kind of certificate.
        profile: String,
    },
}

impl SignerSource {
    /// Enrolment and profile, where it is ordered.
    pub fn enrolled(&self) -> Option<(&str, &str)> {
        match self {
            SignerSource::Enrolled { enrolment, profile } => Some((enrolment, profile)),
            SignerSource::Files { .. } => None,
        }
    }
}

/// Where an issuer's statuses come from; at least one file in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFiles {
    /// OpenSSL `index.txt` files: they know what was issued.
    pub index: Vec<PathBuf>,
    /// CRLs, PEM or DER: they know what was revoked.
    pub crl: Vec<PathBuf>,
    /// `"crl_scope": "complete"`: the CRLs cover every certificate together, whatever their issuingDistributionPoint says.
    pub crls_are_complete: bool,
}

/// An issuer to sign and serve for.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its name.
    pub id: IssuerId,
    /// [`State::Active`] or [`State::Disabled`].
    pub state: State,
    /// The CA certificate.
    pub certificate: Certificate,
    /// The file of the CA certificate.
    pub certificate_file: PathBuf,
    /// Where its signer comes from.
    pub signer_source: SignerSource,
    /// Where its statuses come from.
    pub status: StatusFiles,
    /// Signer settings: the configuration's with the record's over them.
    pub signer: Signer,
    /// Response settings: the configuration's with the record's over them.
    pub response: Response,
    /// Whether an operator approves each new signer.
    pub approval: Approval,
    /// Where its record stands in the document.
    pub at: Position,
    /// Why it is not renewed for now, whatever its state says.
    pub stopped: Option<Stopped>,
}

/// Why no signer is asked for though nobody has said that the issuer is no longer active: its end is not wanted, and presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Its record cannot be used since then, and it is served on as the last good one says.
    Unusable(Timestamp),
    /// The generation of this number, which is held, would not have it asked for as it is now. In
    /// [`View::renewable`] only.
    Held(u64),
}

/// Why an issuer is remembered and not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TombstoneCause {
    /// Its record says `retired`.
    Retired,
    /// Its record is gone.
    Removed,
}

/// An issuer that was, remembered so that it is not taken for one never heard of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tombstone {
    /// Its name.
    pub id: IssuerId,
    /// How it went.
    pub cause: TombstoneCause,
    /// The generation in which it was first seen gone.
    pub generation: u64,
    /// Which CA key it was, where that is known: an issuer is a key, not a name.
    pub key: Option<KeyDigest>,
}

/// SHA-256 of a CA's SubjectPublicKeyInfo, in hexadecimal where it is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// That of the key in a certificate.
    pub fn of(certificate: &Certificate) -> Self {
        let mut octets = [0; 32];
        octets.iter_mut().zip(digest(&SHA256, certificate.spki_der()).as_ref()).for_each(|(to, from)| *to = *from);
        KeyDigest(octets)
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for KeyDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for KeyDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let octets = HEXLOWER.decode(text.as_bytes()).ok().and_then(|octets| octets.try_into().ok());
        octets.map(KeyDigest).ok_or_else(|| serde::de::Error::custom("a SHA-256 digest has 64 hexadecimal digits"))
    }
}

/// A record that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// Its id, where one could be read.
    pub id: Option<IssuerId>,
    /// Its place in the list, from 0.
    pub index: usize,
    /// What is wrong; at least one. Faults of a file it names carry that file's name.
    pub faults: Vec<Fault>,
}

impl Quarantined {
    /// The id, or `#3` for the fourth record without one.
    pub fn name(&self) -> String {
        self.id.as_ref().map_or_else(|| format!("#{}", self.index), ToString::to_string)
    }
}

/// One state of the registry, complete and immutable.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its number in the document.
    pub number: u64,
    /// Issuers to sign and serve for, in the order of the document.
    pub issuers: Vec<Arc<Issuer>>,
    /// Issuers that are remembered only.
    pub tombstones: Vec<Tombstone>,
    /// Records that cannot be used.
    pub quarantined: Vec<Quarantined>,
    /// Allowed, and worth telling: two records with one CA key and name, doubtful settings, a tombstone that is back.
    pub notes: Vec<Fault>,
}
