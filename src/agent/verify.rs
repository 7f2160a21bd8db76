//! What a certificate that came for an order must be, before it is staged.

use super::parts::Trial;
use crate::config::{HumanDuration, Nocheck, Renewal};
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
    renewal: &Renewal,
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
    let may_lack_it = issuer.response.profile == Profile::Rfc6960 && renewal.nocheck == Nocheck::Optional;
    if certificate.nocheck().is_none() && !may_lack_it {
        let else_allow = match issuer.response.profile {
            Profile::Rfc6960 => "; or allow it by renewal.nocheck = \"optional\"".to_owned(),
            profile => format!("; the profile {} wants it", profile.name()),
        };
        return Err(format!(
            "the certificate lacks id-pkix-ocsp-nocheck, which was asked for; have the CA add it{else_allow}"
        ));
    }
    let margin = renewal.margin;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::ocsp::Serial;
    use crate::registry::{Document, RecordRules};
    use crate::signer::KeyKind;
    use crate::x509::issue::{Attribute, CertificateSpec, ExtensionSpec, name};
    use std::path::Path;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Anything;

    impl Trial for Anything {
        fn attempt(&self, _: &Arc<Issuer>, _: &Certificate, _: &Arc<SigningKey>, _: Timestamp) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn an_ordered_signer_without_nocheck_is_refused_under_every_profile_unless_it_is_allowed() {
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let serial = |n| Serial::from_unsigned(&[0x7f, n, 1, 1, 1, 1, 1, 1, 1]).unwrap();
        let subject =
            |text| name(&[(Attribute::Country, "SE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, text)]);
        let spec =
            CertificateSpec::ca(subject("Lab"), ca_key.spki_der(), serial(1), NOW.minus(DAY), NOW.plus(1000 * DAY));
        let ca = spec.issue(&ca_key).unwrap();
        let passes = |profile: &str, nocheck: &str, with_nocheck: bool| {
            let text = format!(
                "[response]\nprofile = \"{profile}\"\n[renewal]\nnocheck = \"{nocheck}\"\n\
                 [enrolment.lab]\nprotocol = \"local\"\nca_keys = \"k\"\n"
            );
            let config = Config::parse(&text, Path::new("x.toml")).unwrap();
            let record = r#"{ "id": "one", "state": "active", "certificate": "c", "enrolment": "lab", "profile": "ocsp",
                              "status": { "index": "x" } }"#;
            let document = format!(r#"{{ "generation": 1, "issuers": [ {record} ] }}"#);
            let document =
                Document::parse(document.as_bytes(), Path::new("i.json"), &RecordRules::of(&config)).unwrap();
            let generation = document.resolve(&mut |_| Ok(ca.der().to_vec()));
            let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
            let spki = key.spki_der();
            let spec =
                CertificateSpec::ocsp_signer(&ca, subject("OCSP"), spki, serial(2), NOW.minus(DAY), NOW.plus(30 * DAY));
            let spec = if with_nocheck { spec } else { spec.without(&ExtensionSpec::nocheck()) };
            let certificate = spec.issue(&ca_key).unwrap();
            let issuer = &generation.issuers[0];
            super::signer(issuer, &certificate, key, RsaPadding::default(), &config.renewal, &Anything, NOW).map(drop)
        };
        for profile in ["rfc6960", "rfc9919", "cabf"] {
            assert_eq!(passes(profile, "required", true), Ok(()), "{profile}");
            let refused = passes(profile, "required", false).unwrap_err();
            assert!(refused.contains("nocheck"), "{profile}: {refused}");
            let allowed = passes(profile, "optional", false);
            assert_eq!(allowed.is_ok(), profile == "rfc6960", "{profile}: {allowed:?}");
        }
    }
}
