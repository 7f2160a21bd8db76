//! What an operator wants to know about an issuer.

use super::managed::NONE_YET;
use super::spec::{IssuerSpec, SignerOrigin};
use crate::ocsp::Profile;
use crate::status::{CLOCK_TOLERANCE, SourceFacts, SourceReport};
use crate::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// How it is said that what is to sign is there, and does not sign yet.
const ISSUED: &str = "a signer has been issued";

/// An issuer as of the last look at its files.
#[derive(Clone, Debug, Serialize)]
pub struct IssuerReport {
    /// Its name in the registry.
    pub id: String,
    /// Its subject, for people.
    pub subject: String,
    /// The rule book of its responses.
    pub profile: Profile,
    /// The signer in use; `None` while there is none.
    pub signer: Option<SignerReport>,
    /// Why the signer that is there was not taken into use, if it was not.
    pub signer_fault: Option<String>,
    /// Its sources, as they were last read.
    pub sources: Vec<SourceSummary>,
    /// Why its sources were not taken over, if they were not (the previous statuses are used on); or why nothing can be called
    /// good by them.
    pub status_fault: Option<String>,
    /// Why the last signing failed, if it did, be it ahead or on demand; or why the next one would.
    pub signing_fault: Option<String>,
    /// Revocations that could not be signed: what was signed before them is not given any more, but `tryLater`.
    pub held_back: usize,
    /// Why an answer that was read back from what is served does not verify, if it does not.
    pub answer_fault: Option<String>,
    /// Segment files of an earlier process that were refused, each with its reason.
    pub refused_segments: Vec<String>,
    /// Serials known.
    pub entries: usize,
    /// Of these, how many are revoked.
    pub revoked: usize,
    /// Whether a source lists what was issued.
    pub knows_issued: bool,
    /// thisUpdate of the oldest slice that is served.
    pub oldest_this_update: Option<Timestamp>,
    /// nextUpdate of the slice that runs out first.
    pub runs_out: Option<Timestamp>,
    /// Whether everything known has been signed once.
    pub is_complete: bool,
    /// From thisUpdate to nextUpdate of its answers, in seconds.
    pub validity_secs: u64,
    /// An answer is signed again at the latest so long after its thisUpdate, in seconds.
    pub refresh_secs: u64,
    /// From when on the oldest slice should long have been signed again: two thirds of what refresh leaves of validity are over.
    pub late_from: Option<Timestamp>,
    /// How long the oldest revocation that its sources name, and that is served as something else, has waited; 0: none does.
    pub revocation_waits_secs: u64,
    /// Its signer is ordered from a CA service, and not the operator's to replace.
    pub is_ordered: bool,
    /// Its signer gets no successor: its answers end with it, as is wanted.
    pub is_disabled: bool,
}

impl IssuerReport {
    /// Why it cannot answer for everything it should at `now`, if so. Without a signer it answers until what it holds has run out.
    pub fn cannot_answer(&self, now: Timestamp) -> Option<String> {
        let why = || self.trouble().unwrap_or("not everything has been signed yet").to_owned();
        // What an earlier process signed is served, but of all else it is not known yet whether it was issued or revoked.
        if self.sources.is_empty() {
            let fault = self.status_fault.as_deref().or_else(|| self.trouble());
            return Some(fault.unwrap_or("its statuses have not been read yet").to_owned());
        }
        if !self.is_complete {
            return Some(why());
        }
        if let Some(fault) = &self.answer_fault {
            return Some(format!("a signed answer that is served does not verify: {fault}"));
        }
        if let Some(at) = self.runs_out.filter(|at| *at <= now) {
            return Some(format!("what was signed ahead ran out at {at}: {}", why()));
        }
        if self.knows_issued {
            return None;
        }
        // Good answers are signed when they are asked for, and rest on a current list.
        if let Some(why) = self.cannot_sign() {
            return Some(why);
        }
        self.sources.iter().find_map(|source| match source.next_update {
            Some(at) if at < now => Some(format!("CRL {}: expired; no answer can say good", source.file)),
            _ if source.is_ahead(now) => {
                let (file, at) = (&source.file, source.data_time);
                Some(format!("CRL {file}: not valid before {at} by our clock; no answer can say good"))
            }
            _ => None,
        })
    }

    /// Whether what it lacks at `now` is being read or signed, as far as is known.
    pub fn is_under_way(&self, now: Timestamp) -> bool {
        let is_missing = self.sources.is_empty() || !self.is_complete || self.runs_out.is_some_and(|at| at <= now);
        is_missing && self.trouble().is_none()
    }

    /// Why nothing can be signed for it now, though what is held answers on; `None`: there is a signer whose test response was
    /// verified before it was taken into use, it has life left, and the last signing went well.
    pub fn cannot_sign(&self) -> Option<String> {
        let why = match &self.signer {
            None => self.signer_fault.as_deref().unwrap_or("there is no signer"),
            Some(_) => self.signing_fault.as_deref()?,
        };
        let until = self.runs_out.map(|at| format!("; what is held is served until {at}")).unwrap_or_default();
        let but = match self.held_back {
            0 => String::new(),
            1 => "; 1 revocation that cannot be signed is answered tryLater".into(),
            n => format!("; {n} revocations that cannot be signed are answered tryLater"),
        };
        Some(format!("nothing can be signed: {why}{until}{but}"))
    }

    /// Whether it is disabled and no answer of full life can be signed any more: what it lacks from then on is its end, as planned.
    pub fn is_ending(&self, now: Timestamp) -> bool {
        let last = now.plus(Duration::from_secs(self.validity_secs));
        self.is_disabled && self.signer.as_ref().is_none_or(|signer| signer.not_after <= last)
    }

    /// Whether it has no signer, and that is because none has been issued or is used yet.
    pub fn waits_for_signer(&self) -> bool {
        let is_awaited = |fault: &str| fault == NONE_YET || fault.starts_with(ISSUED);
        self.signer.is_none() && self.signer_fault.as_deref().is_some_and(is_awaited)
    }

    /// Whether it can answer for everything it knows and go on doing so; if not, why.
    pub fn trouble(&self) -> Option<&str> {
        if self.signer.is_none() && self.signer_fault.is_none() && self.signing_fault.is_none() && !self.is_complete {
            return Some("there is no signer");
        }
        let faults = [&self.signer_fault, &self.status_fault, &self.signing_fault, &self.answer_fault];
        faults.into_iter().flatten().map(String::as_str).next()
    }
}

/// Of a slot in which nothing signs yet: what is in place, and what it waits for.
pub(super) fn not_in_use(spec: &IssuerSpec, fault: String) -> String {
    let next = match &spec.signer {
        Some(SignerOrigin::Slot { slot, .. }) if fault == NONE_YET => slot.next(),
        _ => None,
    };
    next.map_or(fault, |next| {
        format!(
            "{ISSUED}, serial {}, and is not in use yet: it is used from activation_skew after its notBefore, {}, and not before \
             it is approved where that is required; `stillgood explain {}` says when",
            next.certificate.serial(),
            next.certificate.not_before(),
            spec.id
        )
    })
}

/// A signer in use.
#[derive(Clone, Debug, Serialize)]
pub struct SignerReport {
    /// Its certificate's subject.
    pub subject: String,
    /// Its certificate's serial number.
    pub serial: String,
    /// The order it came from; `None` if the operator gave it.
    pub order: Option<String>,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// What it signs with.
    pub algorithm: &'static str,
    /// Whether it is the CA itself.
    pub is_ca: bool,
    /// What should be put right when it is renewed.
    pub warnings: Vec<String>,
}

/// A status source as it was last read.
#[derive(Clone, Debug, Serialize)]
pub struct SourceSummary {
    /// `index` or `CRL`.
    pub kind: &'static str,
    /// Its file.
    pub file: String,
    /// As of when its words are.
    pub data_time: Timestamp,
    /// How many entries were used.
    pub entries: u64,
    /// How many lines or entries could not be read.
    pub quarantined: u64,
    /// The first of them, in words.
    pub first_quarantined: Option<String>,
    /// The first few of them, in words.
    pub quarantined_first: Vec<String>,
    /// A CRL's nextUpdate.
    pub next_update: Option<Timestamp>,
    /// Whether that has passed.
    pub is_expired: bool,
}

impl SourceSummary {
    /// Of so many lines or entries that cannot be read it is told what is wrong.
    const LISTED: usize = 5;

    /// Whether it is a CRL that is not valid yet at `now`.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.kind == "CRL" && self.data_time > now.plus(CLOCK_TOLERANCE)
    }

    pub(super) fn of(report: &SourceReport, now: Timestamp) -> Self {
        let next_update = match &report.facts {
            SourceFacts::Crl(facts) => facts.next_update,
            SourceFacts::Index(_) => None,
        };
        let quarantine = report.quarantine();
        let unit = if report.source.kind() == "index" { "line" } else { "entry" };
        let words = quarantine.first.iter().map(|q| format!("{unit} {}: {}", q.number, q.why));
        let quarantined_first: Vec<String> = words.take(Self::LISTED).collect();
        SourceSummary {
            kind: report.source.kind(),
            file: report.source.path().display().to_string(),
            data_time: report.data_time,
            entries: report.entries,
            quarantined: quarantine.total,
            first_quarantined: quarantined_first.first().cloned(),
            quarantined_first,
            next_update,
            is_expired: next_update.is_some_and(|t| t < now),
        }
    }
}
