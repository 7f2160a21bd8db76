//! One issuer and its files: what has been read of them, what is watched, what went wrong.

use super::report::{IssuerReport, SignerReport, SourceSummary};
use super::spec::{IssuerSpec, SignerOrigin};
use super::trial::{self, Bench};
use crate::ocsp::Profile;
use crate::presign::{Issuer, Presigner, Table};
use crate::signer::{RsaPadding, SignerKind, files};
use crate::status::{self, SourceFacts, StatusSet, Watch};
use crate::time::Timestamp;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long to wait before something that failed is tried again although its files did not change: a missing mount comes back,
/// a certificate becomes valid.
const RETRY: Duration = Duration::from_secs(10);
/// The longest wait after one failure upon another: reading a large index that stays bad must not take a core.
const MAX_RETRY: Duration = Duration::from_secs(320);

/// How often an answer is read back though nothing was signed: a damaged disk shows.
const READ_BACK_EVERY: Duration = Duration::from_secs(600);

/// What is said of a slot that is still empty.
const NONE_YET: &str = "no signer has been issued yet";

/// From how many certificates on the loss of more than half of them is taken for a damaged file; the loss of all always is.
const COLLAPSE_FROM: usize = 10;

/// An issuer under the responder's care.
pub(super) struct Managed {
    spec: IssuerSpec,
    issuer: Arc<Issuer>,
    status: Part,
    signer: Part,
    signer_report: Option<SignerReport>,
    /// [`Slot::version`](crate::signer::slots::Slot::version) of the signer that was last looked at.
    slot_version: Option<u64>,
    /// Under which rule book the signer in use was found good.
    signer_profile: Option<Profile>,
    sources: Vec<SourceSummary>,
    /// The record names other sources than those that were read: a difference is meant.
    has_new_sources: bool,
    /// What its CRLs do not cover, where they are all there is.
    scope_gap: Option<String>,
    refused_segments: Vec<String>,
    answer: Option<ReadBack>,
}

/// An answer that was read back from what is served, and how that went.
struct ReadBack {
    /// Of the segment it was in.
    sequence: u64,
    at: Timestamp,
    fault: Option<String>,
}

/// Files that are read together, and how that went.
struct Part {
    watch: Watch,
    /// Read at the next pass, whatever the watch says.
    wanted: bool,
    fault: Option<String>,
    retry_at: Timestamp,
    /// Failures in a row.
    failures: u32,
}

impl Part {
    fn new(paths: impl IntoIterator<Item = std::path::PathBuf>) -> Self {
        Part { watch: Watch::new(paths), wanted: true, fault: None, retry_at: Timestamp::MIN, failures: 0 }
    }

    fn is_due(&mut self, now: Timestamp) -> bool {
        let changed = !self.watch.poll().is_empty();
        // Beyond the longest wait it is the clock that was set back.
        let is_time = now >= self.retry_at || self.retry_at.since(now) > MAX_RETRY;
        let retry = self.fault.is_some() && is_time;
        std::mem::take(&mut self.wanted) || changed || retry
    }

    /// Notes how it went; true if a fault is new and should be told.
    fn settled(&mut self, fault: Option<String>, now: Timestamp) -> bool {
        self.retry_at = now.plus(MAX_RETRY.min(RETRY * (1 << self.failures.min(5))));
        self.failures = if fault.is_some() { self.failures.saturating_add(1) } else { 0 };
        let news = fault.is_some() && self.fault != fault;
        self.fault = fault;
        news
    }
}

impl Managed {
    pub(super) fn new(spec: IssuerSpec, presigner: &Presigner) -> Self {
        let issuer = Arc::new(Issuer::new(&spec.id, spec.certificate.clone(), spec.settings.clone()));
        let refused = presigner.add(&issuer);
        for file in &refused {
            tracing::warn!(issuer = spec.id, "{file}");
        }
        Managed {
            issuer,
            status: Part::new(status_paths(&spec)),
            signer: Part::new(signer_paths(&spec)),
            signer_report: None,
            slot_version: None,
            signer_profile: None,
            sources: Vec::new(),
            has_new_sources: false,
            scope_gap: None,
            refused_segments: refused.iter().map(ToString::to_string).collect(),
            answer: None,
            spec,
        }
    }

    pub(super) fn spec(&self) -> &IssuerSpec {
        &self.spec
    }

    pub(super) fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// For signers that are ordered for it.
    pub(super) fn bench(&self) -> Bench {
        let padding = match &self.spec.signer {
            Some(SignerOrigin::Slot { padding, .. }) => *padding,
            _ => RsaPadding::default(),
        };
        Bench { issuer: self.issuer.clone(), padding }
    }

    /// Whether the spec speaks of the same CA: an issuer is a key and the name that goes with it.
    pub(super) fn is_same_ca(&self, spec: &IssuerSpec) -> bool {
        self.spec.certificate.spki_der() == spec.certificate.spki_der()
            && self.spec.certificate.subject_der() == spec.certificate.subject_der()
    }

    /// Takes another spec of the same CA.
    pub(super) fn change(&mut self, spec: IssuerSpec, presigner: &Presigner) {
        // The profile decides which reasons may be given, and what a signer must be.
        let same_profile = spec.settings.profile == self.spec.settings.profile;
        let same_sources = spec.sources == self.spec.sources && spec.crls_are_complete == self.spec.crls_are_complete;
        if !same_sources || !same_profile {
            self.status = Part::new(status_paths(&spec));
        }
        self.has_new_sources |= spec.sources != self.spec.sources;
        if spec.signer != self.spec.signer || !same_profile {
            self.signer = Part::new(signer_paths(&spec));
            self.slot_version = None;
        }
        presigner.set_settings(&self.issuer, spec.settings.clone());
        self.spec = spec;
    }

    /// Reads what changed. The signer first: without it nothing that the statuses bring could be signed.
    /// True if statuses were read, which takes memory for a moment.
    pub(super) fn poll(&mut self, presigner: &Presigner, now: Timestamp) -> bool {
        self.signer.wanted |= self.slot_has_changed();
        if self.signer.is_due(now) {
            let fault = self.read_signer(presigner, now).err();
            // The signer in use has passed the check of another rule book, which does not count under this one.
            if fault.is_some() && self.signer_profile.is_some_and(|profile| profile != self.spec.settings.profile) {
                self.signer_report = None;
                self.signer_profile = None;
                presigner.set_signer(&self.issuer, None);
            }
            if self.signer.settled(fault, now)
                && let Some(fault) = &self.signer.fault
            {
                let held = if self.issuer.view().signer.is_some() {
                    "the signer in use stays"
                } else {
                    "nothing can be signed"
                };
                if fault == NONE_YET {
                    tracing::warn!(issuer = self.spec.id, "{fault}; {held}");
                } else {
                    tracing::error!(issuer = self.spec.id, "signer refused: {fault}; {held}");
                }
            }
        }
        let read = self.status.is_due(now);
        if read {
            // On a thread of its own: the memory that reading takes is given back when the thread ends.
            let fault = thread::scope(|scope| {
                let read = || self.read_status(presigner, now);
                match thread::Builder::new().name("read".into()).spawn_scoped(scope, read) {
                    Ok(reading) => reading.join().unwrap_or_else(|panic| resume_unwind(panic)).err(),
                    Err(error) => Some(format!("cannot start the thread that reads them: {error}")),
                }
            });
            if self.status.settled(fault, now)
                && let Some(fault) = &self.status.fault
            {
                tracing::error!(
                    issuer = self.spec.id,
                    "statuses not taken over: {fault}; the previous ones are used on"
                );
            }
        }
        self.read_back(now);
        read
    }

    /// Reads an answer back from the slice that was signed last, when that is another one than before or the last time is
    /// long ago.
    fn read_back(&mut self, now: Timestamp) {
        let live = self.issuer.slot().live();
        let hashes = self.spec.settings.certid_hashes.iter();
        let waves = hashes.filter_map(|algorithm| live.wave(*algorithm).map(|wave| (*algorithm, wave)));
        let slices = waves.flat_map(|(algorithm, wave)| wave.slices().iter().flatten().map(move |s| (algorithm, s)));
        let newest = slices.filter(|(_, s)| !s.keys().is_empty()).max_by_key(|(_, s)| s.meta().sequence);
        let Some((algorithm, segment)) = newest else {
            self.answer = None;
            return;
        };
        let sequence = segment.meta().sequence;
        let is_known = |done: &&ReadBack| done.sequence == sequence && now.since(done.at) < READ_BACK_EVERY;
        if self.answer.as_ref().filter(is_known).is_some() {
            return;
        }
        let fault = trial::read_back(&self.issuer, segment, algorithm, now).err();
        if let Some(fault) = &fault
            && self.answer.as_ref().and_then(|before| before.fault.as_ref()) != Some(fault)
        {
            tracing::error!(issuer = self.spec.id, "a signed answer that is served does not verify: {fault}");
        }
        self.answer = Some(ReadBack { sequence, at: now, fault });
    }

    /// After a panic while its files were read.
    pub(super) fn panicked(&mut self, now: Timestamp) {
        tracing::error!(issuer = self.spec.id, "reading this issuer's files panicked; the others go on");
        self.status.settled(Some("reading its files panicked; see the log".into()), now);
    }

    fn read_signer(&mut self, presigner: &Presigner, now: Timestamp) -> Result<(), String> {
        let (certificate, key, order, origin) = match &self.spec.signer {
            None => {
                self.signer_report = None;
                presigner.set_signer(&self.issuer, None);
                return Ok(());
            }
            Some(SignerOrigin::Files(files)) => {
                let pair = files::load_pair(&files.certificate, &files.key, files.padding);
                let (certificate, key) = pair.map_err(|error| error.to_string())?;
                (certificate, key, None, files.certificate.display().to_string())
            }
            Some(SignerOrigin::Slot { slot, padding }) => {
                // Before the signer: a change in between is seen at the next look.
                self.slot_version = Some(slot.version());
                let installed = slot.current().ok_or(NONE_YET)?;
                let (certificate, key) = (installed.certificate.clone(), installed.key.with_padding(*padding));
                (certificate, key, Some(installed.order.clone()), format!("order {}", installed.order))
            }
        };
        let (signer, facts) = trial::try_out(&self.issuer, &certificate, Arc::new(key), now)
            .map_err(|fault| format!("{origin}: {fault}"))?;
        for warning in &facts.warnings {
            tracing::warn!(issuer = self.spec.id, from = origin, "{warning}");
        }
        let report = SignerReport {
            subject: certificate.subject(),
            serial: certificate.serial().to_string(),
            order,
            not_before: facts.not_before,
            not_after: facts.not_after,
            algorithm: facts.algorithm.name(),
            is_ca: facts.kind == SignerKind::Ca,
            warnings: facts.warnings.iter().map(ToString::to_string).collect(),
        };
        tracing::info!(issuer = self.spec.id, serial = report.serial, not_after = %report.not_after, from = origin, "signer in use");
        self.signer_report = Some(report);
        self.signer_profile = Some(self.spec.settings.profile);
        presigner.set_signer(&self.issuer, Some(signer));
        Ok(())
    }

    /// Whether another signer has become current in the slot since it was last looked at.
    fn slot_has_changed(&self) -> bool {
        match &self.spec.signer {
            Some(SignerOrigin::Slot { slot, .. }) => self.slot_version != Some(slot.version()),
            _ => false,
        }
    }

    fn read_status(&mut self, presigner: &Presigner, now: Timestamp) -> Result<(), String> {
        let set = status::load(&self.spec.certificate, &self.spec.sources, now).map_err(|error| error.to_string())?;
        let set = StatusSet { crls_are_complete: self.spec.crls_are_complete, ..set };
        refuse_step_back(&self.sources, &set)?;
        let live = self.issuer.slot().live();
        let hashes = &self.spec.settings.certid_hashes;
        let in_use = hashes.iter().find_map(|algorithm| live.wave(*algorithm)).map(|wave| wave.bits());
        let table = Table::of(&set, in_use, self.spec.settings.profile).map_err(|error| error.to_string())?;
        if let (Some(before), false) = (&self.issuer.view().table, self.has_new_sources) {
            refuse_collapse(before, &table, &set)?;
            let unrevoked = before.unrevoked_in(&table);
            if unrevoked > 0 {
                tracing::warn!(
                    issuer = self.spec.id,
                    unrevoked,
                    "certificates that were revoked are so no more: taken off hold, expired and dropped from a CRL, or lost"
                );
            }
        }
        self.sources = set.sources.iter().map(|report| SourceSummary::of(report, now)).collect();
        for source in self.sources.iter().filter(|source| source.quarantined > 0) {
            tracing::warn!(
                issuer = self.spec.id,
                file = source.file,
                quarantined = source.quarantined,
                first = source.first_quarantined,
                "lines or entries that cannot be read are left out; the rest is used"
            );
        }
        self.has_new_sources = false;
        self.scope_gap = set.scope_gap();
        if let Some(gap) = &self.scope_gap {
            tracing::warn!(issuer = self.spec.id, "{gap}");
        }
        let (entries, revoked) = (table.len(), table.revoked());
        drop(set);
        let changed = presigner.set_table(&self.issuer, table);
        tracing::info!(issuer = self.spec.id, entries, revoked, changed, "statuses read");
        Ok(())
    }

    pub(super) fn report(&self, presigner: &Presigner) -> IssuerReport {
        let view = self.issuer.view();
        let table = view.table.as_ref();
        let live = self.issuer.slot().live();
        let slices = self.spec.settings.certid_hashes.iter().filter_map(|algorithm| live.wave(*algorithm));
        let slices = slices.flat_map(|wave| wave.slices().iter().flatten());
        let (mut oldest_this_update, mut runs_out) = (None, None);
        for spec in slices.map(|segment| segment.template().spec()) {
            oldest_this_update = Some(spec.this_update.min(oldest_this_update.unwrap_or(Timestamp::MAX)));
            runs_out = Some(spec.next_update.min(runs_out.unwrap_or(Timestamp::MAX)));
        }
        let complete = self
            .spec
            .settings
            .certid_hashes
            .iter()
            .all(|algorithm| live.wave(*algorithm).is_some_and(|wave| wave.is_complete()));
        let (validity, refresh) = (self.spec.settings.validity, self.spec.settings.refresh);
        let late = refresh.saturating_add(validity.saturating_sub(refresh) / 3 * 2);
        IssuerReport {
            id: self.spec.id.clone(),
            subject: self.spec.certificate.subject(),
            profile: self.spec.settings.profile,
            signer: self.signer_report.clone(),
            signer_fault: self.signer.fault.clone(),
            sources: self.sources.clone(),
            status_fault: self.status.fault.clone().or_else(|| self.scope_gap.clone()),
            signing_fault: presigner.fault(&self.spec.id),
            answer_fault: self.answer.as_ref().and_then(|answer| answer.fault.clone()),
            refused_segments: self.refused_segments.clone(),
            entries: table.map_or(0, |table| table.len()),
            revoked: table.map_or(0, |table| table.revoked()),
            knows_issued: table.is_some_and(|table| table.knows_issued()),
            oldest_this_update,
            runs_out,
            is_complete: complete,
            validity_secs: validity.as_secs(),
            refresh_secs: refresh.as_secs(),
            late_from: oldest_this_update.map(|at| at.plus(late)),
            is_ordered: matches!(self.spec.signer, Some(SignerOrigin::Slot { .. })),
        }
    }
}

/// An index from which most certificates have vanished, or some and the end of its last line, is far more often a file cut short
/// than a CA that forgot them, and taking it over would tell their holders `unauthorized`.
fn refuse_collapse(before: &Table, after: &Table, set: &StatusSet) -> Result<(), String> {
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
/// seem good again.
fn refuse_step_back(before: &[SourceSummary], set: &StatusSet) -> Result<(), String> {
    for new in set.sources.iter().filter(|new| matches!(new.facts, SourceFacts::Crl(_))) {
        let file = new.source.path().display().to_string();
        if let Some(old) = before.iter().find(|old| old.file == file && old.data_time > new.data_time) {
            return Err(format!(
                "CRL {file}: its thisUpdate {} is before {}, that of the list in use: an old list has been put back; if it is meant, restart the responder",
                new.data_time, old.data_time
            ));
        }
    }
    Ok(())
}

fn status_paths(spec: &IssuerSpec) -> Vec<std::path::PathBuf> {
    spec.sources.iter().map(|source| source.path().to_path_buf()).collect()
}

fn signer_paths(spec: &IssuerSpec) -> Vec<std::path::PathBuf> {
    match &spec.signer {
        Some(SignerOrigin::Files(files)) => vec![files.certificate.clone(), files.key.clone()],
        Some(SignerOrigin::Slot { .. }) | None => Vec::new(),
    }
}
