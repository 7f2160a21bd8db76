//! Why sources cannot be used.

use super::{ReadError, Source};
use crate::x509::crl::{CrlError, CrlVerifyError, EntryError};
use crate::x509::pem::PemError;
use std::fmt;

/// Sources that could not be used; nothing was loaded. Whoever has an older set should go on with it.
#[derive(Debug, thiserror::Error)]
pub struct LoadError {
    /// Each source that failed, in their order. At least one.
    pub faults: Vec<SourceError>,
}

/// One source that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{source_file}: {fault}")]
pub struct SourceError {
    /// Which one.
    pub source_file: Source,
    /// Why.
    pub fault: SourceFault,
}

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// The file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Neither PEM nor DER.
    #[error("expected a CRL in PEM (X509 CRL) or DER: {0}")]
    Pem(#[from] PemError),
    /// Which one would count?
    #[error("{0} CRLs in one PEM file; give each its own file")]
    SeveralCrls(usize),
    /// Not a CRL that can be used.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// Not this issuer's.
    #[error(transparent)]
    Verify(#[from] CrlVerifyError),
    /// An entry because of which the whole CRL must not be used.
    #[error("{0}")]
    Entry(EntryError),
    /// An index with lines, of which none says whom it is about.
    #[error(
        "none of its {lines} lines can be read, so it is no index, or a damaged one; put the right file in its place (line {number}: {why})"
    )]
    NoLine {
        /// How many cannot be read.
        lines: u64,
        /// The number of the first.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It can be read, and whoever asked for it has judged otherwise.
    #[error("{0}")]
    Refused(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "; " })?;
            fault.fmt(f)?;
        }
        Ok(())
    }
}
