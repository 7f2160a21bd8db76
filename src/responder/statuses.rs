//! What of an issuer's sources is taken into use: all they say; or, where one cannot be used, what is known already and what the others
//! add to it. Pure.
//!
//! Nothing that is revoked becomes good for as long as a source cannot be used: that one may be why it is revoked.

use super::guard::{Listed, refuse_collapse};
use crate::ocsp::Profile;
use crate::presign::Table;
use crate::status::{LoadError, Source, SourceError, SourceReport, StatusEntry, StatusSet};
use crate::store::Wave;
use std::path::PathBuf;
use std::sync::Arc;

/// What is in use.
pub(super) struct Before<'a> {
    pub(super) table: Option<&'a Table>,
    /// What was last read of each source, or of those that an earlier record named.
    pub(super) reports: &'a [SourceReport],
    /// The record names other sources than those that were read: a difference is meant.
    pub(super) has_new_sources: bool,
    /// What is served, for each hash.
    pub(super) served: Vec<Arc<Wave>>,
    /// Where it is kept for the next start.
    pub(super) kept_in: Option<PathBuf>,
}

impl Before<'_> {
    /// How what is served is cut.
    fn bits(&self) -> Option<u8> {
        self.served.first().map(|wave| wave.bits())
    }

    /// Why an index that can be read is not taken over.
    fn collapse(&self, after: &Table, set: &StatusSet) -> Option<String> {
        if self.has_new_sources {
            return None;
        }
        let way_out = match &self.kept_in {
            // A restart alone finds there what was listed.
            Some(dir) => {
                format!("stop the responder, remove {} and start it, or name a new file in the registry", dir.display())
            }
            None => "restart the responder".to_owned(),
        };
        let is_refused = |before| refuse_collapse(before, after, set, &way_out).err();
        match self.table.filter(|table| table.is_whole()) {
            Some(in_use) => is_refused(Listed::Read(in_use)),
            None => self.served.iter().find_map(|wave| is_refused(Listed::Signed(wave))),
        }
    }
}

/// What is to be used from now on.
pub(super) struct Taken {
    pub(super) table: Table,
    /// `None`: still those in use, because of one of the sources nothing is known yet.
    pub(super) sources: Option<Read>,
    /// Why this is not all that the sources say.
    pub(super) fault: Option<String>,
}

/// What was last read of the sources.
pub(super) struct Read {
    pub(super) reports: Vec<SourceReport>,
    /// Why nothing may be said of what they do not list.
    pub(super) unlisted_fault: Option<String>,
}

/// Puts together what could be read of `sources` and what is in use.
///
/// # Errors
/// If nothing can be added to what is in use.
pub(super) fn take(
    mut set: StatusSet,
    faults: Vec<SourceError>,
    sources: &[Source],
    before: &Before<'_>,
    profile: Profile,
) -> Result<Taken, String> {
    let of = |set: &StatusSet| Table::of(set, before.bits(), profile).map_err(|error| error.to_string());
    let (failed, fault): (Vec<Source>, String) = if faults.is_empty() {
        let table = of(&set)?;
        let Some(fault) = before.collapse(&table, &set) else {
            return Ok(Taken { table, sources: Some(Read::of(set)), fault: None });
        };
        // What half a line seems to say does not count.
        set.withheld.clear();
        (sources.iter().filter(|source| matches!(source, Source::Index(_))).cloned().collect(), fault)
    } else {
        let failed = faults.iter().map(|fault| fault.source_file.clone()).collect();
        (failed, LoadError { faults }.to_string())
    };
    if set.sources.is_empty() && set.entries.is_empty() {
        return Err(fault);
    }

    let report_of = |source: &Source, of: &[SourceReport]| of.iter().find(|report| report.source == *source).cloned();
    let is_known = |source: &Source| before.reports.iter().any(|report| report.source == *source);
    let whole = before.table.filter(|table| table.is_whole());
    if let Some(in_use) = whole
        && failed.iter().all(is_known)
    {
        // What they said last is in the table in use.
        set.keep(in_use.iter());
        let last = |source: &Source| match failed.contains(source) {
            true => report_of(source, before.reports),
            false => report_of(source, &set.sources),
        };
        set.sources = sources.iter().filter_map(last).collect();
        return Ok(Taken { table: of(&set)?, sources: Some(Read::of(set)), fault: Some(fault) });
    }
    // What the others call good, one of which nothing is known may have revoked.
    set.entries.retain(StatusEntry::is_revoked);
    if let Some(in_use) = before.table {
        set.keep(in_use.iter());
    }
    let table = match whole {
        Some(in_use) => of(&set)?.with_unlisted(in_use.unlisted),
        None => Table::of_revoked(&set, before.bits(), profile).map_err(|error| error.to_string())?,
    };
    Ok(Taken { table, sources: None, fault: Some(fault) })
}

impl Read {
    fn of(set: StatusSet) -> Self {
        let unlisted_fault = set.scope_gap().or_else(|| set.unattributed_lines());
        Read { reports: set.sources, unlisted_fault }
    }
}
