//! Serial number → status, per issuer, from the files that a CA keeps: OpenSSL's `index.txt` and CRLs.
//!
//! [`load`] reads all sources of one issuer into a [`StatusSet`]; [`Watch`] tells when to do it again. A source that
//! cannot be used fails the whole load with the file's name in the error. [`load_usable`] gives what the others say all the same,
//! for a caller that has an older set: [`StatusSet::keep`] adds to the new one what must not be lost of it.
//!
//! # How sources are combined
//! For one serial number, over all sources and all lines or entries:
//! 1. A revocation wins over "issued", however old it is. So a certificate taken off hold is answered good once *no*
//!    source says revoked any more: with an index and a CRL, after the next CRL.
//! 2. Of several revocations the newest source's counts: the later thisUpdate of a CRL or modification time of an index.
//!    The revocation date does not decide, since a CA may set it back (BR §7.2.2) and correct a reason. Between sources
//!    of the same second the one listed later counts; within one source the later line or entry.
//! 3. A line or entry that names a serial but cannot be read ([`Consequence::Withheld`]) wins over "issued": nothing is
//!    said of that certificate rather than something that may be wrong. It loses to a revocation.
//!
//! A serial that no source lists was not issued, if there is an index and each of its lines names a certificate
//! ([`StatusSet::unattributed_lines`]); good, if there are only CRLs and they are current and
//! cover every certificate ([`StatusSet::good_within`]); and nothing is known of it otherwise.
//!
//! Sources of different times may be listed in any order; the result is the same.

mod entries;
mod fault;
mod file;
pub mod index;
mod load;
mod watch;

pub use entries::{Change, StatusEntry, changes};
pub use fault::{LoadError, SourceError, SourceFault};
pub use file::{Fingerprint, ReadError};
pub use index::{IndexReport, IndexStatus};
pub use load::{
    CLOCK_TOLERANCE, CrlFacts, Found, Judge, Judgement, MAX_CRL_BYTES, MAX_INDEX_BYTES, Source, SourceFacts,
    SourceReport, StatusSet, load, load_usable,
};
pub use watch::Watch;

use crate::ocsp::Serial;

/// What of a source could not be read. The rest of it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Quarantine {
    /// How many lines or entries.
    pub total: u64,
    /// The first [`Quarantine::MAX_LISTED`] of them.
    pub first: Vec<Quarantined>,
}

/// One line or entry that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// The line of an index or the entry of a CRL, counted from 1.
    pub number: u64,
    /// The certificate it is about, where that can be told.
    #[serde(serialize_with = "serial_text")]
    pub serial: Option<Serial>,
    /// What is wrong with it.
    pub why: String,
    /// What follows for the certificate.
    pub consequence: Consequence,
}

/// What follows from a line or entry that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consequence {
    /// It is passed over: whom it is about cannot be told.
    Ignored,
    /// Nothing is said of the certificate, neither good nor revoked, unless another line says revoked.
    Withheld,
    /// The revocation and its date are clear, only the reason is not: revoked without a reason.
    RevokedWithoutReason,
}

impl Quarantine {
    /// How many are kept to be shown.
    pub const MAX_LISTED: usize = 100;

    /// Counts one more; `why` is asked only if it will be listed.
    fn add(&mut self, number: u64, serial: Option<Serial>, consequence: Consequence, why: impl FnOnce() -> String) {
        self.total = self.total.saturating_add(1);
        if self.first.len() < Self::MAX_LISTED {
            self.first.push(Quarantined { number, serial, why: why(), consequence });
        }
    }
}

#[allow(clippy::ref_option, reason = "serde's signature")]
fn serial_text<S: serde::Serializer>(serial: &Option<Serial>, serializer: S) -> Result<S::Ok, S::Error> {
    match serial {
        Some(serial) => serializer.collect_str(serial),
        None => serializer.serialize_none(),
    }
}
