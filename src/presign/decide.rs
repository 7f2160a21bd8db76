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
/// `unauthorized` as a whole; different CertID hashes of one CA do not. Of several certificates, those of which nothing
/// would have been said alone are `unknown`, as long as something is said of one: the others' answers are not withheld for them.
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
    let first = candidates(&request.first);
    let of_first = decide_among(&first, &request.first, now);
    if request.count == 1 {
        return of_first.map(|(issuer, decision)| (issuer.clone(), vec![decision]));
    }
    let speaker = match (&of_first, first.first()) {
        (Ok((issuer, _)), _) => (*issuer).clone(),
        (Err(_), Some(issuer)) => issuer.clone(),
        (Err(_), None) => return Err(ErrorStatus::Unauthorized),
    };
    let mut decisions = Vec::with_capacity(request.count);
    let mut is_answered = false;
    for id in request.cert_ids() {
        let same_key = |issuer: &Arc<Issuer>| issuer.certificate().spki_der() == speaker.certificate().spki_der();
        let own: Vec<_> = candidates(&id).into_iter().filter(same_key).collect();
        if own.is_empty() {
            return Err(ErrorStatus::Unauthorized);
        }
        decisions.push(match decide_among(&own, &id, now) {
            Ok((_, decision)) => {
                is_answered = true;
                decision
            }
            Err(ErrorStatus::Unauthorized) => {
                Decision { status: CertStatus::Unknown, extended_revoke: false, known: false }
            }
            Err(other) => return Err(other),
        });
    }
    if is_answered { Ok((speaker, decisions)) } else { Err(ErrorStatus::Unauthorized) }
}

/// What is said of one certificate where several records may name its CA: the first that lists the serial speaks, wherever it
/// stands: that it is missing from another's CRL is no word on it. Where none lists it and one of them cannot tell whether it would,
/// nothing is said; else the first whose CRLs are good for what they do not list; else the first that says something of what was
/// not issued.
fn decide_among<'i>(
    issuers: &'i [Arc<Issuer>],
    id: &CertId<'_>,
    now: Timestamp,
) -> Result<(&'i Arc<Issuer>, Decision), ErrorStatus> {
    let (mut of_unrevoked, mut of_unissued) = (None, None);
    let mut is_unclear = false;
    for issuer in issuers {
        match decide_one(issuer, id, now) {
            Ok((Ground::Listed, decision)) => return Ok((issuer, decision)),
            Ok((Ground::NotRevoked, decision)) => {
                of_unrevoked.get_or_insert((issuer, decision));
            }
            Ok((Ground::NotIssued, decision)) => {
                of_unissued.get_or_insert((issuer, decision));
            }
            Err(status) => is_unclear |= status == ErrorStatus::TryLater,
        }
    }
    if is_unclear { Err(ErrorStatus::TryLater) } else { of_unrevoked.or(of_unissued).ok_or(ErrorStatus::Unauthorized) }
}

/// What a decision of one record rests on.
enum Ground {
    Listed,
    NotRevoked,
    NotIssued,
}

fn decide_one(issuer: &Issuer, id: &CertId<'_>, now: Timestamp) -> Result<(Ground, Decision), ErrorStatus> {
    let view = issuer.view();
    // Until its sources have been read nothing can be said of an issuer's certificates.
    let table = view.table.as_ref().ok_or(ErrorStatus::TryLater)?;
    let known = |status| Decision { status, extended_revoke: false, known: true };
    match table.verdict(&id.serial, now) {
        Verdict::Listed(status) => Ok((Ground::Listed, known(status))),
        Verdict::NotRevoked => Ok((Ground::NotRevoked, known(CertStatus::Good))),
        Verdict::Withheld => Err(ErrorStatus::TryLater),
        Verdict::NotIssued => unissued(&view.settings).map(|decision| (Ground::NotIssued, decision)),
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

#[cfg(test)]
mod tests;
