//! Sources that look like an accident and are not taken over.

use crate::presign::Table;
use crate::status::{CLOCK_TOLERANCE, Judgement, SourceFacts, SourceReport, StatusSet};
use crate::store::{Wave, hash};
use crate::time::Timestamp;

/// From how many certificates on the loss of more than half of them is taken for a damaged file; the loss of all always is.
const COLLAPSE_FROM: usize = 10;

/// What was listed before.
#[derive(Clone, Copy)]
pub(super) enum Listed<'a> {
    /// By the sources when they were read last.
    Read(&'a Table),
    /// At a start: by those from which an earlier process signed this.
    Signed(&'a Wave),
}

impl Listed<'_> {
    /// Whether it was all that was issued. What was signed does not tell by which kind of source; the present ones do.
    fn knows_issued(self, after: &Table) -> bool {
        match self {
            Listed::Read(before) => before.knows_issued(),
            Listed::Signed(_) => after.knows_issued(),
        }
    }

    /// How many there are at most, without a look at each.
    fn at_most(self) -> usize {
        match self {
            Listed::Read(before) => before.len(),
            Listed::Signed(before) => before.segments().iter().map(|segment| segment.keys().len()).sum(),
        }
    }

    /// How many there are, and how many of them are not listed any more.
    fn counts(self, after: &Table) -> (usize, usize) {
        let before = match self {
            Listed::Read(before) => return (before.len(), before.lost_in(after)),
            Listed::Signed(before) => before,
        };
        let (mut all, mut lost) = (0, 0);
        for segment in before.segments() {
            for (serial, _) in segment.keys().iter() {
                // Of several segments that have it one answers.
                if before.find(&serial, hash(&serial)).is_some_and(|(of, _)| std::ptr::eq(of, &*segment)) {
                    all += 1;
                    lost += usize::from(after.status(&serial).is_none());
                }
            }
        }
        (all, lost)
    }
}

/// An index from which most certificates have vanished, or some and the end of its last line, is far more often a file cut short
/// than a CA that forgot them, and taking it over would tell their holders `unauthorized`. So it is after a restart: a full disk
/// empties an index, and the machine is started anew. `way_out` says how it is taken over all the same.
pub(super) fn refuse_collapse(before: Listed<'_>, after: &Table, set: &StatusSet, way_out: &str) -> Result<(), String> {
    let mut indexes = set.sources.iter().filter_map(|source| match &source.facts {
        SourceFacts::Index(index) => Some((source.source.path(), index)),
        SourceFacts::Crl(_) => None,
    });
    let ends_mid_line = indexes.clone().any(|(_, index)| index.ends_mid_line);
    let has_shrunk = after.len() < before.at_most().div_ceil(2);
    if !before.knows_issued(after) || !(has_shrunk || ends_mid_line) {
        return Ok(());
    }
    let (all, lost) = before.counts(after);
    let lost_most = lost == all || (all >= COLLAPSE_FROM && lost > all / 2);
    if lost == 0 || !(lost_most || ends_mid_line) {
        return Ok(());
    }
    let how = if ends_mid_line { " and the last line has no end" } else { "" };
    let file = indexes.next().map(|(path, _)| format!("index {}: ", path.display())).unwrap_or_default();
    Err(format!(
        "{file}{lost} of {all} certificates are no longer listed{how}: the file looks cut short; if it is meant, {way_out}"
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
