//! What is to be said of the certificates in a request, before anything is signed: pure.

use super::issuer::{Issuer, IssuerSettings};
use super::table::Verdict;
use crate::ocsp::{CertId, CertStatus, ErrorStatus, Reason, Request, Unissued};
use crate::store::{IssuerSlot, Routes};
use crate::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// What is said of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decision {
    pub(super) status: CertStatus,
    /// The response must carry the extended-revoke extension (RFC 6960 §4.4.8).
    pub(super) extended_revoke: bool,
    /// Whether the certificate is one the sources account for.
    known: bool,
}

impl Decision {
    /// Whether it is wrong as soon as the certificate is issued: what is good then was good before.
    pub(super) fn is_provisional(&self) -> bool {
        !self.known && self.status != CertStatus::Good
    }

    /// The event it reports, for the dates.
    pub(super) fn event(&self) -> Timestamp {
        match self.status {
            CertStatus::Revoked { at, .. } => at,
            CertStatus::Good | CertStatus::Unknown => Timestamp::EPOCH,
        }
    }
}

/// Decides for every certificate of a request, in its order.
///
/// One delegated signer speaks for one CA key (RFC 6960 §4.2.2.2), so certificates of another CA in the same request make it
/// `unauthorized` as a whole; different CertID hashes of one CA do not. Of several certificates, those without a record are `unknown` where the profile would have
/// refused them alone, as long as at least one has a record: the others' answers are not withheld for them.
pub(super) fn decide(
    request: &Request<'_>,
    routes: &Routes,
    issuers: &HashMap<Arc<str>, Arc<Issuer>>,
    now: Timestamp,
) -> Result<(Arc<Issuer>, Vec<Decision>), ErrorStatus> {
    let candidates = |id: &CertId<'_>| -> Vec<Arc<Issuer>> {
        // Routes and issuers are swapped one after the other: another CA may have taken the id over in between.
        let of =
            |slot: &Arc<IssuerSlot>| issuers.get(slot.id()).filter(|issuer| Arc::ptr_eq(issuer.slot(), slot)).cloned();
        routes.candidates(id).filter_map(of).collect()
    };
    // Where two records name the same CA, the first one that knows the serial speaks.
    let first = candidates(&request.first);
    let mut refusal = ErrorStatus::Unauthorized;
    let mut spokesman: Option<(Arc<Issuer>, Decision)> = None;
    for issuer in &first {
        match decide_one(issuer, &request.first, now) {
            Ok(decision) if decision.known => {
                spokesman = Some((issuer.clone(), decision));
                break;
            }
            Ok(decision) => {
                spokesman.get_or_insert((issuer.clone(), decision));
            }
            Err(ErrorStatus::TryLater) => refusal = ErrorStatus::TryLater,
            Err(_) => {}
        }
    }
    if request.count == 1 {
        return spokesman.map(|(issuer, decision)| (issuer, vec![decision])).ok_or(refusal);
    }
    let speaker = match (&spokesman, first.first()) {
        (Some((issuer, _)), _) => issuer.clone(),
        (None, Some(issuer)) => issuer.clone(),
        (None, None) => return Err(ErrorStatus::Unauthorized),
    };
    let mut decisions = Vec::with_capacity(request.count);
    for id in request.cert_ids() {
        let same_key = |issuer: &Arc<Issuer>| issuer.certificate().spki_der() == speaker.certificate().spki_der();
        let own: Vec<_> = candidates(&id).into_iter().filter(same_key).collect();
        if own.is_empty() {
            return Err(ErrorStatus::Unauthorized);
        }
        let mut best = Err(ErrorStatus::Unauthorized);
        for issuer in &own {
            best = decide_one(issuer, &id, now);
            if matches!(best, Ok(decision) if decision.known) {
                break;
            }
        }
        decisions.push(match best {
            Err(ErrorStatus::Unauthorized) => {
                Decision { status: CertStatus::Unknown, extended_revoke: false, known: false }
            }
            other => other?,
        });
    }
    if decisions.iter().any(|decision| decision.known) { Ok((speaker, decisions)) } else { Err(refusal) }
}

fn decide_one(issuer: &Issuer, id: &CertId<'_>, now: Timestamp) -> Result<Decision, ErrorStatus> {
    let view = issuer.view();
    // Until its sources have been read nothing can be said of an issuer's certificates.
    let table = view.table.as_ref().ok_or(ErrorStatus::TryLater)?;
    let known = |status| Ok(Decision { status, extended_revoke: false, known: true });
    match table.verdict(&id.serial, now) {
        Verdict::Listed(status) => known(status),
        Verdict::NotRevoked => known(CertStatus::Good),
        Verdict::Withheld => Err(ErrorStatus::TryLater),
        Verdict::NotIssued => unissued(&view.settings),
    }
}

fn unissued(settings: &IssuerSettings) -> Result<Decision, ErrorStatus> {
    let said = |status, extended_revoke| Ok(Decision { status, extended_revoke, known: false });
    match settings.unissued {
        Unissued::Unauthorized => Err(ErrorStatus::Unauthorized),
        Unissued::Unknown => said(CertStatus::Unknown, false),
        Unissued::Good => said(CertStatus::Good, false),
        // RFC 6960 §2.2: 1 January 1970 and certificateHold, so that it cannot be taken for a real revocation.
        Unissued::Revoked => {
            said(CertStatus::Revoked { at: Timestamp::EPOCH, reason: Some(Reason::CertificateHold) }, true)
        }
    }
}
