//! One issuer and its files: what has been read of them, what is watched, what went wrong.

use super::attended::Attended;
use super::files::{Files, Part, SignerFiles, free};
use super::guard::judge;
use super::known::{self, Known, ReadBack};
use super::report::{IssuerReport, SignerReport, SourceSummary, not_in_use};
use super::spec::{IssuerSpec, SignerOrigin};
use super::statuses::{Before, take};
use super::trial::{self, Bench};
use crate::presign::{Issuer, Presigner};
use crate::signer::{RsaPadding, SignerKind, files};
use crate::status::{Judge, Source, SourceError, SourceReport, StatusSet};
use crate::time::Timestamp;
use crate::x509::Certificate;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often an answer is read back though nothing was signed: a damaged disk shows.
const READ_BACK_EVERY: Duration = Duration::from_secs(600);

/// What is said of a slot that is still empty.
pub(super) const NONE_YET: &str = "no signer has been issued yet";

/// Reads an issuer's sources: [`status::load_usable`], or what a test puts there.
pub(super) type Load =
    dyn Fn(&Certificate, &[Source], Timestamp, &Judge<'_>) -> (StatusSet, Vec<SourceError>) + Send + Sync;

/// What whoever reads files needs. It keeps nothing of the responder alive: a file system may keep a reader for ever.
pub(super) struct Reader {
    pub(super) presigner: Weak<Presigner>,
    pub(super) load: Box<Load>,
    /// Each thread that looks at files holds it.
    pub(super) at_work: Arc<()>,
}

/// An issuer under the responder's care, by one spec. Another spec makes another of these for the same [`Issuer`].
pub(super) struct Managed {
    spec: IssuerSpec,
    issuer: Arc<Issuer>,
    files: Files,
    /// Whoever read the same files under an earlier spec when this one came.
    before: Weak<Managed>,
    /// Held for moments.
    known: Mutex<Known>,
    /// Another spec has taken its place, or it has been taken out: what a reader still brings is not wanted.
    is_over: AtomicBool,
    /// Held by a reader while it hands over, so that what was read under an earlier spec never comes last.
    handing_over: Arc<Mutex<()>>,
    refused_segments: Vec<String>,
}

impl Managed {
    /// Serves at once what an earlier process signed. No file of the issuer's is touched.
    pub(super) fn new(spec: IssuerSpec, presigner: &Presigner) -> Self {
        let issuer = Arc::new(Issuer::new(&spec.id, spec.certificate.clone(), spec.settings.clone()));
        issuer.expect_look();
        let refused = presigner.add(&issuer);
        for file in &refused {
            tracing::warn!(issuer = spec.id, "{file}");
        }
        Managed {
            issuer,
            files: Files::new(&spec),
            before: Weak::new(),
            known: Mutex::default(),
            is_over: AtomicBool::new(false),
            handing_over: Arc::default(),
            refused_segments: refused.iter().map(ToString::to_string).collect(),
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

    /// What takes its place under another spec of the same CA. Waits for no reader: one that is at work is left alone, and what
    /// it brings is not used. As long as it is out, none is sent to the same files: it would be held up beside it.
    pub(super) fn succeeded_by(self: &Arc<Self>, spec: IssuerSpec, presigner: &Presigner) -> Arc<Self> {
        if self.spec == spec {
            return self.clone();
        }
        self.end();
        let (status, signer) = (free(&self.files.status), free(&self.files.signer));
        let mut status = status.map(|mut part| std::mem::replace(&mut *part, Files::status_of(&spec)));
        let mut signer = signer.map(|mut part| std::mem::replace(&mut *part, Files::signer_of(&spec)));
        // The profile decides which reasons may be given, and what a signer must be.
        let same_profile = spec.settings.profile == self.spec.settings.profile;
        let same_scope = spec.crls_are_complete == self.spec.crls_are_complete;
        if spec.sources != self.spec.sources || !same_scope || !same_profile {
            status = None;
        }
        if spec.signer != self.spec.signer || !same_profile {
            signer = None;
        }
        let mut status = status.unwrap_or_else(|| Files::status_of(&spec));
        let mut signer = signer.unwrap_or_else(|| Files::signer_of(&spec));
        if spec.certificate != self.spec.certificate {
            // A renewed one: the signer, and lists, must hold under it too.
            presigner.set_certificate(&self.issuer, &spec.certificate);
            signer.part.wanted = true;
            status.wanted = true;
        }
        presigner.set_settings(&self.issuer, spec.settings.clone());
        let before = match self.files.reads_signer() || self.files.reads_status() {
            _ if !Files::are_same(&spec, &self.spec) => Weak::new(),
            true => Arc::downgrade(self),
            false => self.before.clone(),
        };
        let mut known = self.known().clone();
        known.reads_signer = known.reads_signer.filter(|_| before.strong_count() > 0);
        known.reads_status = known.reads_status.filter(|_| before.strong_count() > 0);
        known.has_new_sources |= spec.sources != self.spec.sources;
        Arc::new(Managed {
            issuer: self.issuer.clone(),
            files: Files { status: Mutex::new(status), signer: Mutex::new(signer) },
            before,
            known: Mutex::new(known),
            is_over: AtomicBool::new(false),
            handing_over: self.handing_over.clone(),
            refused_segments: self.refused_segments.clone(),
            spec,
        })
    }

    /// What a reader still brings is not wanted.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    /// It is changed as a whole, by one assignment after another that cannot fail.
    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what was read to those who use it, unless it is of no use any more.
    fn hand_over<T>(&self, reader: &Reader, give: impl FnOnce(&Presigner) -> T) -> Option<T> {
        let presigner = reader.presigner.upgrade()?;
        let _one_by_one = self.handing_over.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.is_over.load(Ordering::SeqCst)).then(|| give(&presigner))
    }

    /// Reads what changed, but for what somebody else is reading, or was before a reload. The signer first: without it nothing that the statuses bring
    /// could be signed. True if statuses were read, which takes memory for a moment.
    pub(super) fn poll(&self, reader: &Reader, now: Timestamp) -> bool {
        if self.is_over.load(Ordering::SeqCst) {
            return false;
        }
        let before = self.before.upgrade();
        let is_out = |reads: fn(&Files) -> bool| before.as_ref().is_some_and(|before| reads(&before.files));
        if !is_out(Files::reads_signer)
            && let Some(mut files) = free(&self.files.signer)
        {
            let _busy = Attended::by(self, |known| &mut known.reads_signer, now);
            self.poll_signer(&mut files, reader, now);
        }
        let status = if is_out(Files::reads_status) { None } else { free(&self.files.status) };
        let Some(mut status) = status else { return false };
        let _busy = Attended::by(self, |known| &mut known.reads_status, now);
        let read = status.is_due(now);
        if read {
            // On a thread of its own: the memory that reading takes is given back when the thread ends.
            let taken = thread::scope(|scope| {
                let since = status.changed_since;
                let read = move || self.read_status(reader, now, since);
                match thread::Builder::new().name("read".into()).spawn_scoped(scope, read) {
                    Ok(reading) => reading.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    Err(error) => Err(format!("cannot start the thread that reads them: {error}")),
                }
            });
            self.settle_status(&mut status, taken, now);
        }
        self.issuer.mark_looked_at();
        read
    }

    fn poll_signer(&self, files: &mut SignerFiles, reader: &Reader, now: Timestamp) {
        files.part.wanted |= self.slot_has_changed(files);
        if !files.part.is_due(now) {
            return;
        }
        let fault = self.read_signer(files, reader, now).err();
        // The signer in use has passed the check of another rule book, which does not count under this one.
        let profile = self.known().signer_profile;
        if fault.is_some() && profile.is_some_and(|profile| profile != self.spec.settings.profile) {
            self.hand_over(reader, |presigner| {
                let mut known = self.known();
                known.signer = None;
                known.signer_profile = None;
                drop(known);
                presigner.set_signer(&self.issuer, None);
            });
        }
        let is_news = files.part.settled(fault, now);
        self.known().signer_fault.clone_from(&files.part.fault);
        if is_news && let Some(fault) = &files.part.fault {
            let held = match self.issuer.view().signer.is_some() {
                true => "the signer in use stays",
                false => "nothing can be signed",
            };
            if fault == NONE_YET {
                tracing::warn!(issuer = self.spec.id, "{fault}; {held}");
            } else {
                tracing::error!(issuer = self.spec.id, "signer refused: {fault}; {held}");
            }
        }
    }

    fn settle_status(&self, status: &mut Part, taken: Result<Option<String>, String>, now: Timestamp) {
        let (is_taken, fault) = match taken {
            Ok(fault) => (true, fault),
            Err(fault) => (false, Some(fault)),
        };
        let is_news = status.settled(fault, now);
        self.known().status_fault.clone_from(&status.fault);
        let held = match is_taken {
            true => "what is known already is used on, with what the other sources say",
            false => "the previous ones are used on",
        };
        if is_taken {
            status.changed_since = None;
        }
        if is_news && let Some(fault) = &status.fault {
            tracing::error!(issuer = self.spec.id, "statuses not taken over: {fault}; {held}");
        }
    }

    /// Reads an answer back from the slice that was signed last, when that is another one than before or the last time is
    /// long ago. Asks nothing of the issuer's files, so that it goes on where those hang.
    pub(super) fn read_back(&self, now: Timestamp) {
        let live = self.issuer.slot().live();
        let hashes = self.spec.settings.certid_hashes.iter();
        let waves = hashes.filter_map(|algorithm| live.wave(*algorithm).map(|wave| (*algorithm, wave)));
        let slices = waves.flat_map(|(algorithm, wave)| wave.slices().iter().flatten().map(move |s| (algorithm, s)));
        let newest = slices.filter(|(_, s)| !s.keys().is_empty()).max_by_key(|(_, s)| s.meta().sequence);
        let Some((algorithm, segment)) = newest else {
            self.known().answer = None;
            return;
        };
        let sequence = segment.meta().sequence;
        let before = self.known().answer.clone();
        let is_known = |done: &&ReadBack| done.sequence == sequence && now.since(done.at) < READ_BACK_EVERY;
        if before.as_ref().filter(is_known).is_some() {
            return;
        }
        let fault = trial::read_back(&self.issuer, segment, algorithm, now).err();
        if let Some(fault) = &fault
            && before.and_then(|before| before.fault).as_ref() != Some(fault)
        {
            tracing::error!(issuer = self.spec.id, "a signed answer that is served does not verify: {fault}");
        }
        self.known().answer = Some(ReadBack { sequence, at: now, fault });
    }

    /// After a panic while its files were read.
    pub(super) fn panicked(&self, now: Timestamp) {
        tracing::error!(issuer = self.spec.id, "reading this issuer's files panicked; the others go on");
        let Some(mut status) = free(&self.files.status) else { return };
        status.settled(Some("reading its files panicked; see the log".into()), now);
        self.known().status_fault.clone_from(&status.fault);
    }

    /// Tells once of a reader that has been at it for longer than `late`.
    pub(super) fn tell_if_late(&self, late: Duration) {
        let mut known = self.known();
        let Known { reads_signer, reads_status, .. } = &mut *known;
        for fault in [reads_signer, reads_status].into_iter().flatten().filter_map(|busy| busy.news(late)) {
            tracing::error!(issuer = self.spec.id, "{fault}");
        }
    }

    fn read_signer(&self, files: &mut SignerFiles, reader: &Reader, now: Timestamp) -> Result<(), String> {
        let (certificate, key, order, origin) = match &self.spec.signer {
            None => {
                self.hand_over(reader, |presigner| {
                    self.known().signer = None;
                    presigner.set_signer(&self.issuer, None);
                });
                return Ok(());
            }
            Some(SignerOrigin::Files(pair)) => {
                let loaded = files::load_pair(&pair.certificate, &pair.key, pair.padding);
                let (certificate, key) = loaded.map_err(|error| error.to_string())?;
                (certificate, key, None, pair.certificate.display().to_string())
            }
            Some(SignerOrigin::Slot { slot, padding }) => {
                // Before the signer: a change in between is seen at the next look.
                files.slot_version = Some(slot.version());
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
        self.hand_over(reader, |presigner| {
            tracing::info!(issuer = self.spec.id, serial = report.serial, not_after = %report.not_after, from = origin, "signer in use");
            let mut known = self.known();
            known.signer = Some(report);
            known.signer_profile = Some(self.spec.settings.profile);
            drop(known);
            presigner.set_signer(&self.issuer, Some(signer));
        });
        Ok(())
    }

    /// Whether another signer has become current in the slot since it was last looked at.
    fn slot_has_changed(&self, files: &SignerFiles) -> bool {
        match &self.spec.signer {
            Some(SignerOrigin::Slot { slot, .. }) => files.slot_version != Some(slot.version()),
            _ => false,
        }
    }

    /// Takes over what can be read. Gives what is wrong with the rest.
    fn read_status(&self, reader: &Reader, now: Timestamp, since: Option<Instant>) -> Result<Option<String>, String> {
        let (before, has_new_sources) = {
            let known = self.known();
            (known.reports.clone(), known.has_new_sources)
        };
        let judge = |report: &SourceReport| judge(&before, report, now);
        let (set, faults) = (reader.load)(&self.spec.certificate, &self.spec.sources, now, &judge);
        let set = StatusSet { crls_are_complete: self.spec.crls_are_complete, ..set };
        let live = self.issuer.slot().live();
        let hashes = &self.spec.settings.certid_hashes;
        let served = hashes.iter().filter_map(|algorithm| live.wave(*algorithm).cloned()).collect();
        let kept_in = reader.presigner.upgrade().and_then(|presigner| presigner.kept_in(&self.issuer));
        let view = self.issuer.view();
        let before = Before { table: view.table.as_deref(), reports: &before, has_new_sources, served, kept_in };
        let taken = take(set, faults, &self.spec.sources, &before, self.spec.settings.profile)?;
        let table = taken.table;
        let is_whole = taken.fault.is_none();
        if let (Some(before), true) = (before.table, is_whole && !has_new_sources) {
            let unrevoked = before.unrevoked_in(&table);
            if unrevoked > 0 {
                tracing::warn!(
                    issuer = self.spec.id,
                    unrevoked,
                    "certificates that were revoked are so no more: taken off hold, expired and dropped from a CRL, or lost"
                );
            }
        }
        drop(view);
        let read = taken.sources.map(|read| {
            let summaries = read.reports.iter().map(|report| SourceSummary::of(report, now)).collect::<Vec<_>>();
            known::tell(&self.spec.id, &summaries, read.unlisted_fault.as_deref());
            (read, summaries)
        });
        self.hand_over(reader, |presigner| {
            let mut known = self.known();
            if let Some((read, summaries)) = read {
                (known.sources, known.reports) = (summaries, read.reports.into());
                known.unlisted_fault = read.unlisted_fault;
                known.has_new_sources &= !is_whole;
            }
            drop(known);
            let (entries, revoked) = (table.len(), table.revoked());
            let changed = presigner.set_table_since(&self.issuer, table, since);
            tracing::info!(issuer = self.spec.id, entries, revoked, changed, "statuses read");
        });
        Ok(taken.fault)
    }

    /// What signing ahead may not have come upon: answers are signed on demand only, or nothing is due yet.
    fn cannot_sign(&self, now: Timestamp) -> Option<String> {
        let view = self.issuer.view();
        let dates = view.settings.cadence().dates(now, view.signer.as_ref()?.life(), Timestamp::EPOCH);
        let spent = dates.err().map(|fault| fault.to_string());
        spent.or_else(|| self.issuer.demand_fault().map(|fault| fault.to_string()))
    }

    pub(super) fn report(&self, presigner: &Presigner, late: Duration, now: Timestamp) -> IssuerReport {
        let known = self.known().clone();
        let overdue = [known.reads_status, known.reads_signer].into_iter().flatten().find_map(|busy| busy.fault(late));
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
            signer: known.signer,
            signer_fault: known.signer_fault.map(|fault| not_in_use(&self.spec, fault)),
            sources: known.sources,
            status_fault: overdue.or(known.status_fault).or(known.unlisted_fault),
            signing_fault: presigner.fault(&self.spec.id).or_else(|| self.cannot_sign(now)),
            held_back: live.held_back.len(),
            answer_fault: known.answer.and_then(|answer| answer.fault),
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
            revocation_waits_secs: presigner.revocation_waits(&self.issuer).as_secs(),
            is_ordered: matches!(self.spec.signer, Some(SignerOrigin::Slot { .. })),
            is_disabled: self.spec.is_disabled,
        }
    }
}
