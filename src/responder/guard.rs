//! Sources that look like an accident and are not taken over.

use crate::presign::Table;
use crate::status::{CLOCK_TOLERANCE, Judgement, SourceFacts, SourceReport, StatusSet};
use crate::time::Timestamp;

/// From how many certificates on the loss of more than half of them is taken for a damaged file; the loss of all always is.
const COLLAPSE_FROM: usize = 10;

/// An index from which most certificates have vanished, or some and the end of its last line, is far more often a file cut short
/// than a CA that forgot them, and taking it over would tell their holders `unauthorized`.
pub(super) fn refuse_collapse(before: &Table, after: &Table, set: &StatusSet) -> Result<(), String> {
    let ends_mid_line =
        set.sources.iter().any(|s| matches!(&s.facts, SourceFacts::Index(index) if index.ends_mid_line));
    let has_shrunk = after.len() < before.len().div_ceil(2);
    if !before.knows_issued() || !(has_shrunk || ends_mid_line) {
        return Ok(());
    }
    let lost = before.lost_in(after);
    let lost_most = lost == before.len() || (before.len() >= COLLAPSE_FROM && lost > before.len() / 2);
    if lost == 0 || !(lost_most || ends_mid_line) {
        return Ok(());
    }
    let how = if ends_mid_line { " and the last line has no end" } else { "" };
    Err(format!(
        "{lost} of {} certificates are no longer listed{how}: the file looks cut short; if it is meant, restart the responder",
        before.len()
    ))
}

/// A CRL older than the one that has been in use under the same name is an old one put back: what was revoked in between would
/// seem good again. One dated ahead of our clock would have nothing called good until then, so the one before it is used on until its
/// time has come; where there is none before it, its dates decide. What it revokes is revoked, whatever clock is wrong.
pub(super) fn judge(before: &[SourceReport], new: &SourceReport, now: Timestamp) -> Judgement {
    let Some(old) = before.iter().find(|old| old.source == new.source) else { return Judgement::Whole };
    let of = new.data_time;
    if !matches!(new.facts, SourceFacts::Crl(_)) {
        Judgement::Whole
    } else if of > now.plus(CLOCK_TOLERANCE) {
        Judgement::Revocations(format!(
            "its thisUpdate {of} lies ahead of our clock: what it revokes is revoked, and otherwise the list before it is used until then; set right whichever clock is wrong, or issue the list anew"
        ))
    } else if old.data_time > of && old.data_time <= now {
        Judgement::Nothing(format!(
            "its thisUpdate {of} is before {}, that of the list in use: an old list has been put back; if it is meant, restart the responder",
            old.data_time
        ))
    } else {
        Judgement::Whole
    }
}
