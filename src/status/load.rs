//! All sources of one issuer, read and put together.

use super::entries::settle;
use super::fault::{LoadError, SourceError, SourceFault};
use super::file::read_settled;
use super::index::{IndexParser, IndexReport, IndexStatus};
use super::{Consequence, Fingerprint, Quarantine, StatusEntry};
use crate::ocsp::{CertStatus, Serial};
use crate::time::Timestamp;
use crate::x509::Certificate;
use crate::x509::crl::{Crl, CrlScope, EntryError, Freshness, freshness};
use crate::x509::pem;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// By so much a CRL's thisUpdate may lie ahead of our clock: as clients allow for an answer's.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// The largest index that is read, in octets: some 300 million lines. It is read in pieces and never held.
pub const MAX_INDEX_BYTES: u64 = 32 << 30;
/// The largest CRL file that is read, in octets: some 25 million entries. It is held while it is read.
pub const MAX_CRL_BYTES: u64 = 1 << 30;

/// The most that is read of an index at once, in octets.
const PIECE: usize = 256 * 1024;
/// The most memory that is reserved on a file's word, in entries; more is taken as they come.
const MAX_RESERVED: usize = 32 << 20;

/// Where an issuer's statuses come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// OpenSSL's `index.txt`: knows every certificate that was issued.
    Index(PathBuf),
    /// A CRL in PEM or DER, not a delta: knows what was revoked.
    Crl(PathBuf),
}

impl Source {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Source::Index(path) | Source::Crl(path) => path,
        }
    }

    /// `index` or `CRL`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Source::Index(_) => "index",
            Source::Crl(_) => "CRL",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.path().display())
    }
}

/// What the sources of one issuer say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet {
    /// Good and revoked certificates, sorted by serial number, each once.
    pub entries: Vec<StatusEntry>,
    /// Certificates of which nothing may be said (see [`Consequence::Withheld`]), sorted. Not among the entries.
    pub withheld: Vec<Serial>,
    /// An index is among the sources: what is not in `entries` was not issued.
    pub knows_issued: bool,
    /// Somebody who knows the CA says that its CRLs here cover every certificate together, whatever they say of themselves.
    pub crls_are_complete: bool,
    /// What was read, in the order of the sources.
    pub sources: Vec<SourceReport>,
}

/// What one source gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport {
    /// Which one.
    pub source: Source,
    /// The state of the file that was read.
    pub fingerprint: Fingerprint,
    /// As of when its words are: thisUpdate of a CRL; of an index when it was modified, but not later than it was read.
    pub data_time: Timestamp,
    /// How many lines or entries were used.
    pub entries: u64,
    /// What is particular to its kind.
    pub facts: SourceFacts,
}

/// What is particular to a kind of source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFacts {
    /// Of an index.
    Index(IndexReport),
    /// Of a CRL.
    Crl(CrlFacts),
}

/// What is to know of a CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlFacts {
    /// thisUpdate.
    pub this_update: Timestamp,
    /// nextUpdate, where there is one.
    pub next_update: Option<Timestamp>,
    /// crlNumber, where there is one.
    pub number: Option<Serial>,
    /// How many entries were used.
    pub entries: u64,
    /// Which certificates it is about.
    pub scope: CrlScope,
    /// Entries that could not be read.
    pub quarantined: Quarantine,
    /// Those of them of which it cannot be told whom they revoke.
    pub unattributed: u64,
}

/// What a set says of one serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Good or revoked.
    Status(CertStatus),
    /// Named by a line or entry that cannot be read: say nothing.
    Withheld,
    /// Not there. With [`StatusSet::knows_issued`]: not issued. Otherwise: good, if [`StatusSet::may_say_good`].
    NotListed,
}

/// How much of a source that can be read is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// All of it.
    Whole,
    /// What it revokes; otherwise it counts as one that cannot be used, and why.
    Revocations(String),
    /// None of it, and why.
    Nothing(String),
}

/// Judges a source that can be read, by what is known of it.
pub type Judge<'a> = dyn Fn(&SourceReport) -> Judgement + 'a;

/// Reads all sources and puts them together; how is said [here](super#how-sources-are-combined).
///
/// CRLs must be `issuer`'s, by name and signature. One whose nextUpdate is past is used all the same, since what it
/// revokes stays revoked; see [`StatusSet::may_say_good`]. All sources are tried, so that the error names every
/// fault. Blocks while it reads; a file that is changing is waited for, 100 ms at most.
///
/// # Errors
/// If any source cannot be used.
pub fn load(issuer: &Certificate, sources: &[Source], now: Timestamp) -> Result<StatusSet, LoadError> {
    let (set, faults) = load_usable(issuer, sources, now, &|_| Judgement::Whole);
    if faults.is_empty() { Ok(set) } else { Err(LoadError { faults }) }
}

/// As [`load`], but of the sources that can be used, and what is wrong with the others. What those may revoke is not in the set: see
/// [`StatusSet::keep`].
pub fn load_usable(
    issuer: &Certificate,
    sources: &[Source],
    now: Timestamp,
    judge: &Judge<'_>,
) -> (StatusSet, Vec<SourceError>) {
    let mut reports = Vec::new();
    let mut lists = Vec::new();
    let mut faults = Vec::new();
    for source in sources {
        let loaded = match source {
            Source::Index(path) => load_index(path, now),
            Source::Crl(path) => load_crl(path, issuer),
        };
        let refused = |fault| SourceError { source_file: source.clone(), fault };
        let Loaded { list, fingerprint, data_time, entries, facts } = match loaded {
            Ok(loaded) => loaded,
            Err(fault) => {
                faults.push(refused(fault));
                continue;
            }
        };
        let report = SourceReport { source: source.clone(), fingerprint, data_time, entries, facts };
        match judge(&report) {
            Judgement::Whole => {
                lists.push((data_time, list));
                reports.push(report);
            }
            Judgement::Revocations(why) => {
                lists.push((data_time, list));
                faults.push(refused(SourceFault::Refused(why)));
            }
            Judgement::Nothing(why) => faults.push(refused(SourceFault::Refused(why))),
        }
    }
    // Stable: of sources of one time the one listed later has the later word.
    lists.sort_by_key(|(data_time, _)| *data_time);
    let mut lists = lists.into_iter().map(|(_, list)| list);
    let mut entries = lists.next().unwrap_or_default();
    for mut list in lists {
        entries.append(&mut list);
    }
    let withheld = settle(&mut entries);
    entries.shrink_to_fit();
    let knows_issued = sources.iter().any(|s| matches!(s, Source::Index(_)));
    (StatusSet { entries, withheld, knows_issued, crls_are_complete: false, sources: reports }, faults)
}

impl StatusSet {
    /// What the set says of a certificate.
    pub fn find(&self, serial: &Serial) -> Found {
        if let Ok(at) = self.entries.binary_search_by(|e| e.serial.cmp(serial))
            && let Some(entry) = self.entries.get(at)
        {
            return Found::Status(entry.status());
        }
        if self.withheld.binary_search(serial).is_ok() { Found::Withheld } else { Found::NotListed }
    }

    /// Adds what was known before and must not be lost while a source cannot be used (`Unknown`: nothing may be said of it). A revocation
    /// stays as it was known, so none is taken back; beside it what the set revokes or withholds counts, and what it lists first.
    pub fn keep(&mut self, known: impl Iterator<Item = (Serial, CertStatus)>) {
        // Most are in both, and are not held twice.
        let lacks = |(serial, status): &(Serial, CertStatus)| match (status, self.find(serial)) {
            (CertStatus::Revoked { .. }, found) => found != Found::Status(*status),
            (CertStatus::Unknown, Found::Status(said)) => !said.is_revoked(),
            (_, found) => found == Found::NotListed,
        };
        let kept: Vec<StatusEntry> =
            known.filter(lacks).map(|(serial, status)| StatusEntry::new(serial, status)).collect();
        let withheld = std::mem::take(&mut self.withheld);
        self.entries.reserve_exact(withheld.len().saturating_add(kept.len()));
        self.entries.extend(withheld.into_iter().map(|serial| StatusEntry::new(serial, CertStatus::Unknown)));
        self.entries.extend(kept);
        self.withheld = settle(&mut self.entries);
    }

    /// Whether "good" may be signed at `now`.
    ///
    /// With an index: yes. It lists what was issued and has no end date, so a good answer rests on it, and an expired CRL
    /// beside it takes nothing away. With CRLs only: within [`StatusSet::good_within`]. Revoked may be said always.
    pub fn may_say_good(&self, now: Timestamp) -> bool {
        self.knows_issued || self.good_within().is_some_and(|(from, until)| (from..=until).contains(&now))
    }

    /// From when until when, both included, CRLs alone let a serial be called good that none of them lists: while every one
    /// of them is current (thisUpdate ≤ now ≤ nextUpdate, or without nextUpdate), thisUpdate less [`CLOCK_TOLERANCE`].
    ///
    /// Never, if there is none, if one has an entry of which it cannot be told whom it revokes, or if together they do not
    /// cover every certificate ([`StatusSet::scope_gap`]). "Good" then rests on a certificate's absence, which an expired,
    /// damaged or partial list does not prove.
    pub fn good_within(&self) -> Option<(Timestamp, Timestamp)> {
        if self.crls().any(|crl| crl.unattributed > 0) || !self.covers_everything() {
            return None;
        }
        let from = self.crls().map(|crl| crl.this_update).max()?.minus(CLOCK_TOLERANCE);
        Some((from, self.crls().filter_map(|crl| crl.next_update).min().unwrap_or(Timestamp::MAX)))
    }

    fn covers_everything(&self) -> bool {
        self.crls_are_complete || CrlScope::cover_everything(self.crls().map(|crl| crl.scope))
    }

    /// Where CRLs are all there is and do not cover every certificate by their own words: which, and what to do.
    pub fn scope_gap(&self) -> Option<String> {
        if self.knows_issued || self.sources.is_empty() || self.covers_everything() {
            return None;
        }
        let limited = self.sources.iter().filter_map(|source| match &source.facts {
            SourceFacts::Crl(facts) => Some(format!("{}: {}", source.source.path().display(), facts.scope)),
            SourceFacts::Index(_) => None,
        });
        Some(format!(
            "the CRLs do not cover every certificate by their issuingDistributionPoint ({}), so what they do not list is answered tryLater and not good; if they are all that the CA has for the certificates asked about, write \"crl_scope\": \"complete\" beside \"crl\"; else add its other CRLs or an index",
            limited.collect::<Vec<_>>().join("; ")
        ))
    }

    /// Where it cannot be told whom some lines of an index are about: which, and what to do. What is not listed may have been issued
    /// or revoked by one of them, so that nothing may be said of it.
    pub fn unattributed_lines(&self) -> Option<String> {
        let lines: Vec<String> = self
            .indexes()
            .filter_map(|(path, index)| {
                let first = index.first_unattributed.as_deref()?;
                let more = index.unattributed.saturating_sub(1);
                let more = if more > 0 { format!(", and {more} more") } else { String::new() };
                Some(format!("index {}: {first}{more}", path.display()))
            })
            .collect();
        (!lines.is_empty()).then(|| format!(
            "whom a line is about cannot be told, so that every certificate that is not listed is answered tryLater: {}; set the line right or take it out",
            lines.join("; ")
        ))
    }

    /// The indexes among the sources.
    fn indexes(&self) -> impl Iterator<Item = (&Path, &IndexReport)> {
        self.sources.iter().filter_map(|s| match &s.facts {
            SourceFacts::Index(index) => Some((s.source.path(), index)),
            SourceFacts::Crl(_) => None,
        })
    }

    /// The CRLs among the sources.
    pub fn crls(&self) -> impl Iterator<Item = &CrlFacts> {
        self.sources.iter().filter_map(|s| match &s.facts {
            SourceFacts::Crl(facts) => Some(facts),
            SourceFacts::Index(_) => None,
        })
    }

    /// As of when the oldest source's words are; `None` without sources.
    pub fn oldest_data_time(&self) -> Option<Timestamp> {
        self.sources.iter().map(|s| s.data_time).min()
    }

    /// How many lines and entries of all sources could not be read.
    pub fn quarantined(&self) -> u64 {
        self.sources.iter().map(|s| s.quarantine().total).sum()
    }
}

impl SourceReport {
    /// What could not be read of it.
    pub fn quarantine(&self) -> &Quarantine {
        match &self.facts {
            SourceFacts::Index(report) => &report.quarantined,
            SourceFacts::Crl(facts) => &facts.quarantined,
        }
    }
}

impl CrlFacts {
    /// How its dates stand to `now`.
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        freshness(self.this_update, self.next_update, now)
    }
}

/// One source, read.
struct Loaded {
    list: Vec<StatusEntry>,
    fingerprint: Fingerprint,
    data_time: Timestamp,
    entries: u64,
    facts: SourceFacts,
}

fn load_index(path: &Path, now: Timestamp) -> Result<Loaded, SourceFault> {
    let ((list, report), fingerprint) = read_settled(path, MAX_INDEX_BYTES, read_index)?;
    // Lines of blanks are about nobody, and half a line may be about anyone.
    let has_content = report.unattributed > 0 || report.ends_mid_line;
    if list.is_empty()
        && has_content
        && let Some(first) = report.quarantined.first.first()
    {
        let (lines, number, why) = (report.quarantined.total, first.number, first.why.clone());
        return Err(SourceFault::NoLine { lines, number, why });
    }
    Ok(Loaded {
        list,
        fingerprint,
        data_time: fingerprint.modified().min(now),
        entries: report.issued.saturating_add(report.revoked),
        facts: SourceFacts::Index(report),
    })
}

fn read_index(file: &mut dyn Read, len: u64) -> io::Result<(Vec<StatusEntry>, IndexReport)> {
    let mut piece = vec![0; PIECE];
    let mut read = read_piece(file, &mut piece)?;
    // Room for as many lines as the first piece lets expect, and a little more: a vector that grows holds all twice.
    let lines = memchr::memchr_iter(b'\n', piece.get(..read).unwrap_or_default()).count() as u64;
    let pieces = len.checked_div(read as u64).unwrap_or(0);
    let expected = pieces.saturating_add(1).saturating_mul(lines + lines / 16);
    let mut list = Vec::with_capacity(usize::try_from(expected).unwrap_or(MAX_RESERVED).min(MAX_RESERVED));
    let mut parser = IndexParser::new(|serial, status| {
        let status = match status {
            IndexStatus::Issued => CertStatus::Good,
            IndexStatus::Revoked { at, reason } => CertStatus::Revoked { at, reason },
            IndexStatus::Withheld => CertStatus::Unknown,
        };
        list.push(StatusEntry::new(serial, status));
    });
    while read > 0 {
        parser.feed(piece.get(..read).unwrap_or_default());
        read = read_piece(file, &mut piece)?;
    }
    let report = parser.finish();
    Ok((list, report))
}

/// 0 at the end.
fn read_piece(file: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(piece) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn load_crl(path: &Path, issuer: &Certificate) -> Result<Loaded, SourceFault> {
    let (bytes, fingerprint) = read_settled(path, MAX_CRL_BYTES, |file, len| {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    })?;
    // Text is let go before the list is walked: beside it and the entries there is only the DER.
    let der = match pem::is_der(&bytes) {
        true => bytes,
        false => single_crl(bytes)?,
    };
    let crl = Crl::parse(&der)?;
    crl.verify(issuer)?;
    let (list, facts) = read_entries(&crl)?;
    Ok(Loaded { list, fingerprint, data_time: crl.this_update, entries: facts.entries, facts: SourceFacts::Crl(facts) })
}

/// The only CRL in PEM text, which is given back when it has been decoded.
fn single_crl(text: Vec<u8>) -> Result<Vec<u8>, SourceFault> {
    let found = pem::decode(&text, &["X509 CRL"])?;
    drop(text);
    <[Vec<u8>; 1]>::try_from(found).map(|[der]| der).map_err(|several| SourceFault::SeveralCrls(several.len()))
}

fn read_entries(crl: &Crl<'_>) -> Result<(Vec<StatusEntry>, CrlFacts), SourceFault> {
    let mut list = Vec::with_capacity(crl.entries_hint().min(MAX_RESERVED));
    let mut facts = CrlFacts {
        this_update: crl.this_update,
        next_update: crl.next_update,
        number: crl.number,
        entries: 0,
        scope: crl.scope,
        quarantined: Quarantine::default(),
        unattributed: 0,
    };
    for entry in crl.entries() {
        match entry {
            Ok(e) => {
                facts.entries += 1;
                list.push(StatusEntry::new(e.serial, CertStatus::Revoked { at: e.at, reason: e.reason }));
            }
            Err(e) if e.fault.condemns_the_list() => return Err(SourceFault::Entry(e)),
            Err(e) => quarantine(e, &mut list, &mut facts),
        }
    }
    Ok((list, facts))
}

fn quarantine(error: EntryError, list: &mut Vec<StatusEntry>, facts: &mut CrlFacts) {
    let consequence = match (error.serial, error.revoked_at) {
        (Some(serial), Some(at)) => {
            facts.entries += 1;
            list.push(StatusEntry::new(serial, CertStatus::Revoked { at, reason: None }));
            Consequence::RevokedWithoutReason
        }
        (Some(serial), None) => {
            list.push(StatusEntry::new(serial, CertStatus::Unknown));
            Consequence::Withheld
        }
        (None, _) => {
            facts.unattributed += u64::from(error.may_name_a_certificate());
            Consequence::Ignored
        }
    };
    facts.quarantined.add(error.number, error.serial, consequence, || error.fault.to_string());
}

#[cfg(test)]
mod tests;
