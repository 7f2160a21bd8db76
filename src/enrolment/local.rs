//! A CA whose key is a file: for a lab, a demonstration, a small PKI.

use super::{Enrolment, Failure, Kind, Order, Outcome, Purpose, Scope, Submitted};
use crate::config::defaults::DEFAULT_LOCAL_VALIDITY;
use crate::ocsp::Serial;
use crate::signer::files::{FileError, load_key};
use crate::signer::{RsaPadding, Signer};
use crate::time::{Clock, Timestamp};
use crate::x509::Certificate;
use crate::x509::issue::{CertificateSpec, CertificationRequest};
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As the configuration has it.
pub const DEFAULT_LIFE: Duration = DEFAULT_LOCAL_VALIDITY;
/// Clocks of clients are behind by minutes; the Baseline Requirements allow a day at most (BR §7.1.2.8.1).
pub const DEFAULT_BACKDATE: Duration = Duration::from_secs(3_600);

/// How long an issued certificate lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From the moment of issuing until notAfter; never beyond the CA's own.
    pub life: Duration,
    /// notBefore lies this long before the moment of issuing; never before the CA's own.
    pub backdate: Duration,
}

/// Issues from CA keys in files `{ca_keys}/{issuer id}.key`, each readable by its owner only.
pub struct Local {
    name: String,
    ca_keys: PathBuf,
    validity: Validity,
    clock: Arc<dyn Clock>,
}

impl Local {
    /// The service `name` with the keys in a directory.
    pub fn new(name: impl Into<String>, ca_keys: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Local { name: name.into(), ca_keys: ca_keys.into(), validity: Validity::default(), clock }
    }

    /// With another life of what is issued.
    #[must_use]
    pub fn with_validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// Where the key of an issuer is.
    pub fn key_file(&self, issuer: &str) -> PathBuf {
        self.ca_keys.join(format!("{issuer}.key"))
    }

    fn issue(&self, order: &Order) -> Result<Vec<u8>, Failure> {
        let refused = |text: String| Failure::new(Scope::Issuer, Kind::Permanent, text);
        if order.purpose == Purpose::OwnCredential {
            return Err(refused(format!("{}: CA keys in files need no client credential", self.name)));
        }
        let issuer = order.issuer_certificate.as_deref().ok_or_else(|| {
            refused(format!("order {} for {}: the CA's certificate is not known", order.id, order.issuer))
        })?;
        let path = self.key_file(&order.issuer);
        let key = load_key(&path, RsaPadding::default(), Some(issuer)).map_err(|e| unreadable(&order.issuer, &e))?;
        if !key.matches(issuer) {
            return Err(refused(format!(
                "{}: this is not the key of {}; put the CA's own key there",
                path.display(),
                issuer.subject()
            )));
        }
        let serial = random_serial()?;
        sign(order, issuer, &key, serial, self.clock.now(), self.validity)
    }
}

impl Validity {
    /// This life. What lives briefly is dated back by little, or it would seem to have been in use for long.
    pub fn of(life: Duration) -> Self {
        Validity { life, backdate: DEFAULT_BACKDATE.min(life / 20) }
    }
}

impl Default for Validity {
    fn default() -> Self {
        Validity { life: DEFAULT_LIFE, backdate: DEFAULT_BACKDATE }
    }
}

impl Enrolment for Local {
    fn submit<'a>(&'a self, order: &'a Order, _deadline: Instant) -> Submitted<'a> {
        // A small file and one signature: nothing that a deadline would have to cut.
        Box::pin(async move {
            if !order.leave.take() {
                let text = format!("{}: order {} was withdrawn", self.name, order.id);
                return Outcome::Failed(Failure::new(Scope::Issuer, Kind::Transient, text));
            }
            match self.issue(order) {
                Ok(der) => Outcome::Issued(vec![der]),
                Err(failure) => Outcome::Failed(failure),
            }
        })
    }

    fn endpoint(&self) -> &str {
        &self.name
    }

    fn connections(&self) -> usize {
        0
    }

    fn max_connections(&self) -> usize {
        0
    }
}

/// Issues the signer that an order asks for, as BR §7.1.2.8 and RFC 9919 §3.2.2 want it. The request must prove
/// possession of its key (RFC 2986 §3); of what else it asks for, only the subject is granted.
///
/// # Errors
/// [`Scope::Item`] for a bad request, [`Scope::Issuer`] for a CA that cannot issue (any more).
pub fn sign(
    order: &Order,
    issuer: &Certificate,
    ca_key: &dyn Signer,
    serial: Serial,
    now: Timestamp,
    validity: Validity,
) -> Result<Vec<u8>, Failure> {
    let bad_request = |text: String| Failure::new(Scope::Item, Kind::Permanent, format!("order {}: {text}", order.id));
    let request = CertificationRequest::from_pem_or_der(&order.csr_der).map_err(|e| bad_request(e.to_string()))?;
    if request.spki != order.spki_der {
        return Err(bad_request("the request is for another key than the order".to_owned()));
    }
    let not_before = now.minus(validity.backdate).max(issuer.not_before());
    let not_after = now.plus(validity.life).min(issuer.not_after());
    if not_after <= now {
        let text = format!("{} expired at {}; it can issue nothing any more", issuer.subject(), issuer.not_after());
        return Err(Failure::new(Scope::Issuer, Kind::Permanent, text));
    }
    CertificateSpec::ocsp_signer(issuer, request.subject, request.spki, serial, not_before, not_after)
        .sign(ca_key)
        .map_err(|e| Failure::new(Scope::Issuer, Kind::Transient, format!("{}: {e}", issuer.subject())))
}

/// 126 bits of randomness, positive and always 16 octets (BR §7.1: at least 64 bits).
fn random_serial() -> Result<Serial, Failure> {
    let none = |_| Failure::new(Scope::Local, Kind::Transient, "the system gave no randomness for a serial number");
    let mut octets = [0_u8; 16];
    SystemRandom::new().fill(&mut octets).map_err(none)?;
    let [first, ..] = &mut octets;
    *first = *first & 0x3f | 0x40;
    Serial::from_unsigned(&octets).map_err(|e| Failure::new(Scope::Local, Kind::Permanent, e.to_string()))
}

/// A key that is gone is gone for its issuer only.
fn unreadable(issuer: &str, error: &FileError) -> Failure {
    let kind = match error {
        FileError::Io { source, .. } if source.kind() != io::ErrorKind::NotFound => Kind::Transient,
        _ => Kind::Permanent,
    };
    let text = match error {
        FileError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => missing(issuer, path),
        other => other.to_string(),
    };
    Failure::new(Scope::Issuer, kind, text)
}

fn missing(issuer: &str, path: &Path) -> String {
    format!(
        "{}: there is no such file, so {issuer} cannot issue; put the CA's key there, or mark the issuer disabled in the registry",
        path.display()
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ocsp::Profile;
    use crate::signer::{KeyKind, SigningKey, check, files::write_key};
    use crate::time::ManualClock;
    use crate::x509::issue::{Attribute, certification_request, name, ocsp_signer_request};
    use std::os::unix::fs::PermissionsExt;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn subject(common_name: &str) -> Vec<u8> {
        name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, common_name)])
    }

    pub(in super::super) fn ca(common_name: &str) -> (SigningKey, Certificate) {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let serial = Serial::from_unsigned(&[1]).unwrap();
        let spec =
            CertificateSpec::ca(subject(common_name), key.spki_der(), serial, NOW.minus(YEAR), NOW.plus(10 * YEAR));
        let ca = spec.issue(&key).unwrap();
        (key, ca)
    }

    pub(in super::super) fn order_for(key: &SigningKey, ca: &Certificate) -> Order {
        Order {
            id: "order-1".to_owned(),
            issuer: "lab".to_owned(),
            profile: "ocsp".to_owned(),
            purpose: Purpose::Signer,
            csr_der: ocsp_signer_request(&subject("OCSP"), &key.spki_der(), key).unwrap(),
            spki_der: key.spki_der(),
            issuer_certificate: Some(Arc::new(ca.clone())),
            leave: Default::default(),
        }
    }

    fn wait(submitted: Submitted<'_>) -> Outcome {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(submitted)
    }

    fn failed(outcome: Outcome) -> (Scope, Kind, String) {
        match outcome {
            Outcome::Failed(f) => (f.scope, f.kind, f.message().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_issued_passes_the_strictest_check_without_a_warning() {
        let (ca_key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP384).unwrap();
        let serial = Serial::from_unsigned(&[1]).unwrap();
        let ca = CertificateSpec::ca(subject("Lab"), ca_key.spki_der(), serial, NOW.minus(YEAR), NOW.plus(YEAR));
        let ca = ca.issue(&ca_key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write_key(&directory.path().join("lab.key"), &pkcs8).unwrap();
        let local = Local::new("lab-service", directory.path(), Arc::new(ManualClock::at(NOW)));
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let order = order_for(&key, &ca);

        let mut serials = Vec::new();
        for _ in 0..2 {
            let Outcome::Issued(issued) = wait(local.submit(&order, crate::time::monotonic())) else { panic!() };
            let certificate = super::super::accept(&order, &issued).unwrap();
            let facts = check(&ca, &certificate, &key, Profile::Cabf, NOW).unwrap();
            assert_eq!(facts.warnings, []);
            assert_eq!(certificate.not_before(), NOW.minus(DEFAULT_BACKDATE));
            assert_eq!(certificate.not_after(), NOW.plus(DEFAULT_LIFE));
            serials.push(certificate.serial());
        }
        assert_ne!(serials[0], serials[1]);
        assert_eq!(serials[0].der_content_len(), 16);
    }

    #[test]
    fn a_signer_never_outlives_its_ca_and_an_expired_ca_issues_nothing() {
        let (ca_key, ca) = ca("Lab");
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let order = order_for(&key, &ca);
        let serial = Serial::from_unsigned(&[1]).unwrap();
        let late = ca.not_after().minus(Duration::from_secs(5));
        let der = sign(&order, &ca, &ca_key, serial, late, Validity::default()).unwrap();
        assert_eq!(Certificate::from_der(&der).unwrap().not_after(), ca.not_after());
        let failure = sign(&order, &ca, &ca_key, serial, ca.not_after(), Validity::default()).unwrap_err();
        assert_eq!((failure.scope, failure.kind), (Scope::Issuer, Kind::Permanent));
    }

    #[test]
    fn a_request_without_proof_of_possession_is_refused() {
        let (ca_key, ca) = ca("Lab");
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let (other, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let serial = Serial::from_unsigned(&[1]).unwrap();
        let mut order = order_for(&key, &ca);
        order.csr_der = certification_request(&subject("OCSP"), &key.spki_der(), &[], &other).unwrap();
        let failure = sign(&order, &ca, &ca_key, serial, NOW, Validity::default()).unwrap_err();
        assert_eq!((failure.scope, failure.kind), (Scope::Item, Kind::Permanent));
        assert!(failure.message().contains("not signed by its own key"), "{failure}");

        let mut order = order_for(&key, &ca);
        order.spki_der = other.spki_der();
        assert!(sign(&order, &ca, &ca_key, serial, NOW, Validity::default()).is_err());
    }

    #[test]
    fn trouble_with_a_ca_key_concerns_its_issuer_only() {
        let (ca_key, ca) = ca("Lab");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lab.key");
        let local = Local::new("lab-service", directory.path(), Arc::new(ManualClock::at(NOW)));
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let order = order_for(&key, &ca);
        drop(ca_key);

        let (scope, kind, text) = failed(wait(local.submit(&order, crate::time::monotonic())));
        assert_eq!((scope, kind), (Scope::Issuer, Kind::Permanent));
        assert!(text.contains("lab.key: there is no such file"), "{text}");

        write_key(&path, &pkcs8).unwrap();
        let (scope, kind, text) = failed(wait(local.submit(&order, crate::time::monotonic())));
        assert_eq!((scope, kind), (Scope::Issuer, Kind::Permanent));
        assert!(text.contains("this is not the key of"), "{text}");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (_, _, text) = failed(wait(local.submit(&order, crate::time::monotonic())));
        assert!(text.contains("chmod 600"), "{text}");
    }
}
