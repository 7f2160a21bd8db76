//! What is known of an issuer's files, and what went wrong with them.

use super::attended::Busy;
use super::report::{SignerReport, SourceSummary};
use crate::ocsp::Profile;
use crate::status::SourceReport;
use crate::time::Timestamp;
use std::sync::Arc;

/// What has been read, and what went wrong.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) signer: Option<SignerReport>,
    pub(super) signer_fault: Option<String>,
    /// Under which rule book the signer in use was found good.
    pub(super) signer_profile: Option<Profile>,
    pub(super) sources: Vec<SourceSummary>,
    /// The same in full: what was last read of each source that is in the table in use.
    pub(super) reports: Arc<[SourceReport]>,
    pub(super) status_fault: Option<String>,
    /// Why nothing may be said of what the sources do not list: what CRLs do not cover, or lines that may be about anyone.
    pub(super) unlisted_fault: Option<String>,
    /// The record names other sources than those that were read: a difference is meant.
    pub(super) has_new_sources: bool,
    pub(super) answer: Option<ReadBack>,
    pub(super) reads_signer: Option<Busy>,
    pub(super) reads_status: Option<Busy>,
}

/// An answer that was read back from what is served, and how that went.
#[derive(Clone)]
pub(super) struct ReadBack {
    /// Of the segment it was in.
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) fault: Option<String>,
}

/// Tells of sources that were read what is wrong in them.
pub(super) fn tell(issuer: &str, sources: &[SourceSummary], unlisted_fault: Option<&str>) {
    for source in sources.iter().filter(|source| source.quarantined > 0) {
        tracing::warn!(
            issuer,
            file = source.file,
            quarantined = source.quarantined,
            first = source.first_quarantined,
            "lines or entries that cannot be read are left out; the rest is used"
        );
    }
    if let Some(fault) = unlisted_fault {
        tracing::warn!(issuer, "{fault}");
    }
}
