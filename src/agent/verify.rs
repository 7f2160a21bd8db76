//! What a certificate that came for an order must be, before it is staged.

use super::parts::Trial;
use crate::config::HumanDuration;
use crate::ocsp::Profile;
use crate::registry::Issuer;
use crate::renewal::SignerLife;
use crate::signer::slots::Installed;
use crate::signer::{RsaPadding, SignerKind, SigningKey, check};
use crate::time::Timestamp;
use crate::x509::{Certificate, oid};
use std::sync::Arc;
use std::time::Duration;

/// A certificate may begin to be valid so much later than now: the CA's clock may be ahead.
const EARLY: Duration = Duration::from_secs(600);

/// What renewal needs to know of a certificate.
pub(super) fn life_of(certificate: &Certificate) -> SignerLife {
    SignerLife {
        serial: certificate.serial(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
    }
}

/// The moment at which a new certificate is judged: its notBefore where that is a little ahead.
fn judged_at(certificate: &Certificate, now: Timestamp) -> Timestamp {
    let from = certificate.not_before();
    if from > now && from <= now.plus(EARLY) { from } else { now }
}

/// Whether a new signer passes: the self-check of its profile, a delegated signer with nocheck, a life that is worth it, and
/// the trial. The error is for people.
pub(super) fn signer(
    issuer: &Arc<Issuer>,
    certificate: &Certificate,
    key: SigningKey,
    padding: RsaPadding,
    margin: Duration,
    trial: &dyn Trial,
    now: Timestamp,
) -> Result<SignerLife, String> {
    let key = Arc::new(key.with_padding(padding));
    let at = judged_at(certificate, now);
    let facts =
        check(&issuer.certificate, certificate, &*key, issuer.response.profile, at).map_err(|e| e.to_string())?;
    if facts.kind == SignerKind::Ca {
        return Err("the CA sent a certificate for its own key".to_owned());
    }
    // RFC 6960 leaves the choice; the others recommend nocheck or require it, and it was asked for.
    if certificate.nocheck().is_none() && issuer.response.profile != Profile::Rfc6960 {
        return Err(format!(
            "the certificate lacks id-pkix-ocsp-nocheck, which was asked for and which {} wants; have the CA add it",
            issuer.response.profile.name()
        ));
    }
    let reserve = issuer.response.validity.saturating_add(issuer.response.refresh).saturating_add(margin);
    let left = certificate.not_after().since(at);
    if left <= reserve {
        return Err(format!(
            "the certificate has {} to live, and must have more than validity {} + refresh {} + margin {}; have the CA issue it for longer, or shorten these",
            HumanDuration(left),
            HumanDuration(issuer.response.validity),
            HumanDuration(issuer.response.refresh),
            HumanDuration(margin)
        ));
    }
    trial.attempt(issuer, certificate, &key, at)?;
    for warning in &facts.warnings {
        tracing::warn!(issuer = %issuer.id, serial = %certificate.serial(), "{warning}");
    }
    Ok(life_of(certificate))
}

/// Whether a signer that is in use may sign for the issuer as its record is now. When it may is for the schedule.
pub(super) fn may_sign(issuer: &Issuer, signer: &Installed) -> Result<(), String> {
    let certificate = &signer.certificate;
    let at = certificate.not_before();
    check(&issuer.certificate, certificate, &*signer.key, issuer.response.profile, at)
        .map(drop)
        .map_err(|e| e.to_string())
}

/// Whether a new client certificate of our own can take the place of `current`.
pub(super) fn credential(
    current: Option<&Certificate>,
    certificate: &Certificate,
    key: &SigningKey,
    margin: Duration,
    now: Timestamp,
) -> Result<SignerLife, String> {
    if !key.matches(certificate) {
        return Err("the certificate is not for the key that was ordered".to_owned());
    }
    let at = judged_at(certificate, now);
    if !certificate.is_valid_at(at) {
        return Err(format!(
            "the certificate is valid from {} to {}, and it is {now} here",
            certificate.not_before(),
            certificate.not_after()
        ));
    }
    // RFC 5280 §4.2.1.12: what it names, it is restricted to.
    if certificate.extended_key_usage().is_some_and(|usages| !usages.contains(&oid::KP_CLIENT_AUTH)) {
        return Err("the certificate lacks the extended key usage clientAuth".to_owned());
    }
    let left = certificate.not_after().since(at);
    if left <= margin {
        return Err(format!(
            "the certificate has {} to live, and is to be renewed {} before its end: it would be due at once",
            HumanDuration(left),
            HumanDuration(margin)
        ));
    }
    if let Some(current) = current.filter(|c| c.subject_der() != certificate.subject_der()) {
        return Err(format!(
            "the certificate is for {}, and the one in use for {}: simplereenroll keeps the subject",
            certificate.subject(),
            current.subject()
        ));
    }
    Ok(life_of(certificate))
}
