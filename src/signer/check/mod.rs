//! The check every signer must pass before it signs for anyone, in one pure function.
//!
//! A signer that clients refuse is worse than none: its responses are cached before anyone notices. So everything a client
//! will look at is looked at first (RFC 6960 §4.2.2.2, RFC 5280 §6), everything the profile's rule book forbids is named
//! with its clause, and a test signature goes the way a client's verification goes.

mod cabf;
mod fault;

pub use fault::{SignerFault, SignerRefused};

use crate::ocsp::{Profile, SignatureAlgorithm};
use crate::time::Timestamp;
use crate::x509::{Certificate, KeyUsage, PublicKeyKind, Signer, VerifyError, oid, verify};

/// On whose authority a signer signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignerKind {
    /// By a certificate that the CA issued to it (RFC 6960 §4.2.2.2).
    Delegated,
    /// It is the CA's own key.
    Ca,
}

/// What is known of a signer that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerFacts {
    /// On whose authority it signs.
    pub kind: SignerKind,
    /// What it signs with.
    pub algorithm: SignatureAlgorithm,
    /// The byKey ResponderID: SHA-1 of the key's bits (RFC 6960 §4.2.1).
    pub key_hash: [u8; 20],
    /// The first second it may sign in.
    pub not_before: Timestamp,
    /// No response may be valid for longer than this.
    pub not_after: Timestamp,
    /// What should be put right when it is renewed.
    pub warnings: Vec<SignerFault>,
}

/// Checks that `key` with `certificate` may sign responses for `issuer` under `profile` at `now`.
///
/// The signer may be the CA itself: then `certificate` is the CA's, or another one for the same key.
pub fn check(
    issuer: &Certificate,
    certificate: &Certificate,
    key: &dyn Signer,
    profile: Profile,
    now: Timestamp,
) -> Result<SignerFacts, SignerRefused> {
    let mut findings = Findings { profile, faults: Vec::new(), warnings: Vec::new() };
    let kind = if issuer.spki_der() == certificate.spki_der() { SignerKind::Ca } else { SignerKind::Delegated };

    match kind {
        SignerKind::Ca => ca_itself(issuer, &mut findings),
        SignerKind::Delegated => {
            issued_by(issuer, certificate, &mut findings);
            delegated(certificate, &mut findings);
            if profile == Profile::Cabf {
                cabf::delegated(issuer, certificate, &mut findings);
            }
        }
    }
    validity(issuer, certificate, now, &mut findings);
    key_kind(certificate, &mut findings);
    possession(certificate, key, &mut findings);

    let Findings { faults, warnings, .. } = findings;
    if !faults.is_empty() {
        return Err(SignerRefused { faults, warnings });
    }
    Ok(SignerFacts {
        kind,
        algorithm: key.algorithm(),
        key_hash: certificate.responder_key_hash(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        warnings,
    })
}

/// What has been found so far.
struct Findings {
    profile: Profile,
    faults: Vec<SignerFault>,
    warnings: Vec<SignerFault>,
}

impl Findings {
    fn fault_if(&mut self, wrong: bool, fault: SignerFault) {
        if wrong {
            self.faults.push(fault);
        }
    }

    fn warn_if(&mut self, unwise: bool, fault: SignerFault) {
        if unwise {
            self.warnings.push(fault);
        }
    }

    /// A fault under the Baseline Requirements, a warning elsewhere.
    fn cabf_fault_if(&mut self, wrong: bool, fault: SignerFault) {
        if self.profile == Profile::Cabf { self.fault_if(wrong, fault) } else { self.warn_if(wrong, fault) }
    }
}

/// RFC 5280 §4.2.1.3: no keyUsage restricts nothing. BR §7.1.2.10.7 has every CA name its usages.
fn ca_itself(issuer: &Certificate, findings: &mut Findings) {
    let may_sign = match issuer.key_usage() {
        Some(usage) => usage.contains(KeyUsage::DIGITAL_SIGNATURE),
        None => findings.profile != Profile::Cabf,
    };
    findings.fault_if(!may_sign, SignerFault::CaMayNotSign);
}

/// Issued directly by this CA, under this key (RFC 6960 §4.2.2.2).
fn issued_by(issuer: &Certificate, certificate: &Certificate, findings: &mut Findings) {
    findings.fault_if(
        certificate.issuer_der() != issuer.subject_der(),
        SignerFault::WrongIssuer { found: certificate.issuer(), expected: issuer.subject() },
    );
    // Certificates before version 3 cannot say that they are a CA's.
    let is_ca = issuer.version() < 3 || issuer.basic_constraints().is_some_and(|b| b.ca);
    let may_issue = issuer.key_usage().is_none_or(|usage| usage.contains(KeyUsage::KEY_CERT_SIGN));
    findings.fault_if(!is_ca || !may_issue, SignerFault::IssuerNotCa);
    match certificate.verify_signed_by(issuer) {
        Ok(()) => {}
        Err(VerifyError::Sha1) => findings.faults.push(SignerFault::Sha1),
        Err(e @ (VerifyError::BadSignature | VerifyError::Mismatch { .. })) => {
            findings.faults.push(SignerFault::BadSignature(e));
        }
        Err(e) => findings.faults.push(SignerFault::UnverifiableSignature(e)),
    }
    if let (Some(authority), Some(ca)) = (certificate.authority_key_id(), issuer.subject_key_id()) {
        findings.fault_if(authority != ca, SignerFault::AuthorityKeyIdDiffers);
    }
}

/// What every client looks at in a delegated signer's certificate.
fn delegated(certificate: &Certificate, findings: &mut Findings) {
    findings.fault_if(!certificate.is_ocsp_signer(), SignerFault::NoOcspSigning);
    findings.fault_if(
        certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::DIGITAL_SIGNATURE)),
        SignerFault::NoDigitalSignature,
    );
    match certificate.nocheck() {
        None => findings.cabf_fault_if(true, SignerFault::NoNocheck),
        Some(nocheck) => {
            findings.fault_if(!nocheck.is_null, SignerFault::NocheckNotNull);
            findings.cabf_fault_if(nocheck.critical, SignerFault::NocheckCritical);
        }
    }
    findings.cabf_fault_if(certificate.basic_constraints().is_some_and(|b| b.ca), SignerFault::SignerIsCa);
    for e in certificate.extensions() {
        let known = matches!(
            e.oid,
            oid::KEY_USAGE
                | oid::EXTENDED_KEY_USAGE
                | oid::BASIC_CONSTRAINTS
                | oid::CERTIFICATE_POLICIES
                | oid::SUBJECT_ALT_NAME
                | oid::NAME_CONSTRAINTS
                | oid::AUTHORITY_KEY_IDENTIFIER
                | oid::OCSP_NOCHECK
        );
        findings.warn_if(e.critical && !known, SignerFault::CriticalExtension(e.name()));
        let unwise = matches!(e.oid, oid::AUTHORITY_INFO_ACCESS | oid::CRL_DISTRIBUTION_POINTS);
        findings.warn_if(unwise && findings.profile == Profile::Rfc9919, SignerFault::NotRecommended(e.name()));
    }
}

fn validity(issuer: &Certificate, certificate: &Certificate, now: Timestamp, findings: &mut Findings) {
    findings.fault_if(now < certificate.not_before(), SignerFault::NotYetValid(certificate.not_before()));
    findings.fault_if(now > certificate.not_after(), SignerFault::Expired(certificate.not_after()));
    let issuer_expired = issuer != certificate && now > issuer.not_after();
    findings.warn_if(issuer_expired, SignerFault::IssuerExpired(issuer.not_after()));
}

fn key_kind(certificate: &Certificate, findings: &mut Findings) {
    let kind = certificate.key_kind();
    let (allowed, instead) = match findings.profile {
        Profile::Cabf => {
            let allowed = match kind {
                PublicKeyKind::Rsa { bits, pss_only: false } => *bits >= 2048 && bits % 8 == 0,
                PublicKeyKind::P256 | PublicKeyKind::P384 => true,
                _ => false,
            };
            (allowed, "RSA of 2048 bits or more, ECDSA P-256 or P-384")
        }
        Profile::Rfc6960 | Profile::Rfc9919 => {
            let allowed = match kind {
                PublicKeyKind::Rsa { bits, .. } => *bits >= 2048,
                PublicKeyKind::P256 | PublicKeyKind::P384 | PublicKeyKind::Ed25519 => true,
                PublicKeyKind::P521 | PublicKeyKind::Other(_) => false,
            };
            (allowed, "RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519")
        }
    };
    findings.fault_if(!allowed, SignerFault::KeyNotAllowed(kind.to_string(), instead));
}

/// The key is the certificate's and works: what it signs is verified by the certificate alone.
fn possession(certificate: &Certificate, key: &dyn Signer, findings: &mut Findings) {
    if key.public_key_bits() != certificate.key_bits() {
        findings.faults.push(SignerFault::KeyMismatch);
    } else if let Err(reason) = test_sign(certificate, key) {
        findings.faults.push(SignerFault::TestSignature(reason));
    }
}

fn test_sign(certificate: &Certificate, key: &dyn Signer) -> Result<(), String> {
    const MESSAGE: &[u8] = b"stillgood: may this key sign?";
    let algorithm = key.algorithm();
    let mut raw = Vec::new();
    key.sign_raw(MESSAGE, &mut raw).map_err(|e| e.to_string())?;
    if raw.len() != algorithm.raw_len() {
        return Err(format!("the signature has {} octets instead of {}", raw.len(), algorithm.raw_len()));
    }
    let mut wire = Vec::new();
    algorithm.write_wire(&raw, &mut wire);
    verify(certificate.spki_der(), algorithm.identifier_der(), MESSAGE, &wire).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
