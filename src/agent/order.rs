//! The steps of one order. Each runs on a thread of its own: it waits for the disk or the CA, and reads what others sent.

use super::parts::{Service, Trial};
use super::verify;
use crate::config::Renewal;
use crate::enrolment::{self, ClientCredential, CredentialError, Leave, Outcome, Purpose, accept};
use crate::registry::Issuer;
use crate::renewal::{Failure, Kind, Scope, SignerLife};
use crate::signer::slots::{OrderFiles, Prepared, Slot, SlotError};
use crate::signer::{KeyError, KeyKind, check, files::FileError};
use crate::time::{Timestamp, monotonic};
use crate::x509::issue::{ocsp_signer_request, reenrolment_request, signer_name};
use crate::x509::{Certificate, PublicKeyKind};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// The most certificates of a chain that are kept beside our own credential.
const MAX_CHAIN: usize = 9;
/// So many orders may have a certificate that waits for the disk.
const MAX_UNKEPT: usize = 10_000;

/// What an order is for.
#[derive(Clone)]
pub(super) enum Target {
    /// An issuer's signer.
    Signer(Arc<Issuer>),
    /// Our own client certificate.
    Credential(Arc<ClientCredential>),
}

/// One order of one slot.
#[derive(Clone)]
pub(super) struct Job {
    pub target: Target,
    pub slot: Slot,
    /// As its files are named.
    pub order: String,
    /// What must be left of a credential of ours.
    pub margin: Duration,
    /// What a signer must be.
    pub renewal: Renewal,
    pub unkept: Unkept,
}

/// Certificates that came and could not be written, with their chains, by order: the CA is not asked for them again.
#[derive(Clone, Default)]
pub(super) struct Unkept(Arc<Mutex<BTreeMap<String, Came>>>);

type Came = (Certificate, Vec<Vec<u8>>);

impl Unkept {
    fn came(&self, order: &str) -> Option<Came> {
        self.orders().get(order).cloned()
    }

    /// The order has its certificate on disk, or is over.
    pub(super) fn forget(&self, order: &str) {
        self.orders().remove(order);
    }

    fn put(&self, order: &str, came: Came) {
        let mut orders = self.orders();
        if orders.len() < MAX_UNKEPT {
            orders.insert(order.to_owned(), came);
        }
    }

    fn orders(&self) -> MutexGuard<'_, BTreeMap<String, Came>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a request.
pub(super) enum Answer {
    /// The certificate is on disk; its serial number.
    Issued(String),
    /// It had come before, and nobody was asked.
    Present(String),
    /// The CA decides later.
    Later { retry_after: Option<Duration>, text: String },
    /// Anything else.
    Failed(Failure),
    /// It did not leave, and nobody was asked.
    NotSent(Failure),
    /// Nobody wants to know any more.
    Dropped,
}

/// What is on disk of an order that is to be sent.
enum Found {
    Request(Prepared),
    /// Its serial number.
    Certificate(String),
}

impl Job {
    fn files(&self) -> OrderFiles {
        self.slot.order(&self.order)
    }

    /// Key and CSR, made or found.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
        let made = match &self.target {
            Target::Signer(issuer) => {
                let current = self.slot.current();
                let subject =
                    current.map_or_else(|| signer_name(&issuer.certificate), |c| c.certificate.subject_der().to_vec());
                self.files().prepare(issuer.signer.key, |key| ocsp_signer_request(&subject, &key.spki_der(), key))
            }
            Target::Credential(credential) => {
                let current = credential
                    .certificate()
                    .map_err(|e| Failure::new(Scope::OwnCredential, Kind::Transient, &e.to_string()))?;
                let kind = kind_like(current.key_kind());
                self.files().prepare(kind, |key| reenrolment_request(&current, &key.spki_der(), key))
            }
        };
        made.map(drop).map_err(|e| failure_of(&e))
    }

    /// One request, unless its answer is on disk already; it takes its leave when it is sent.
    pub(super) fn submit(
        &self,
        service: &Service,
        profile: &str,
        leave: Leave,
        runtime: &Handle,
        mut dropped: oneshot::Receiver<()>,
    ) -> Answer {
        let prepared = match self.find() {
            Ok(Found::Request(prepared)) => prepared,
            Ok(Found::Certificate(serial)) => return Answer::Present(serial),
            Err(failure) => return Answer::NotSent(failure),
        };
        match self.ask(prepared, service, profile, &leave, runtime, &mut dropped) {
            // It can have answered only what has left; what it is like, it shows by not even letting it leave.
            Ok(Answer::Failed(failure))
                if !leave.is_taken()
                    && failure.kind != Kind::Unknown
                    && matches!(failure.scope, Scope::Item | Scope::Issuer) =>
            {
                Answer::NotSent(failure)
            }
            Ok(answer) => answer,
            Err(failure) => Answer::Failed(failure),
        }
    }

    /// What is to be sent, or what came of it before: a process that died between keeping the certificate and saying so has not
    /// asked in vain.
    fn find(&self) -> Result<Found, Failure> {
        let files = self.files();
        let lost = || Failure::new(Scope::Item, Kind::Permanent, &format!("order {}: its request is gone", self.order));
        let prepared = files.prepared().map_err(|e| failure_of(&e))?.ok_or_else(lost)?;
        if let Ok(Some(kept)) = files.certificate()
            && kept.spki_der() == prepared.spki_der
        {
            return Ok(Found::Certificate(kept.serial().to_string()));
        }
        if let Some(came) = self.unkept.came(&self.order) {
            let serial = came.0.serial().to_string();
            self.keep(came)?;
            return Ok(Found::Certificate(serial));
        }
        Ok(Found::Request(prepared))
    }

    fn ask(
        &self,
        prepared: Prepared,
        service: &Service,
        profile: &str,
        leave: &Leave,
        runtime: &Handle,
        dropped: &mut oneshot::Receiver<()>,
    ) -> Result<Answer, Failure> {
        let (issuer, purpose, issuer_certificate) = match &self.target {
            Target::Signer(i) => (i.id.to_string(), Purpose::Signer, Some(Arc::new(i.certificate.clone()))),
            Target::Credential(_) => (service.enrolment.endpoint().to_owned(), Purpose::OwnCredential, None),
        };
        let order = enrolment::Order {
            id: self.order.clone(),
            issuer,
            profile: profile.to_owned(),
            purpose,
            csr_der: prepared.csr_der,
            spki_der: prepared.spki_der,
            issuer_certificate,
            leave: leave.clone(),
        };
        let outcome = runtime.block_on(async {
            let deadline = monotonic() + service.timeout;
            tokio::select! {
                biased;
                _ = dropped => None,
                outcome = service.enrolment.submit(&order, deadline) => Some(outcome),
            }
        });
        match outcome {
            None => Ok(Answer::Dropped),
            Some(Outcome::Issued(came)) => {
                let certificate = accept(&order, &came).map_err(|f| translated(&f))?;
                let chain = match &self.target {
                    Target::Signer(_) => Vec::new(),
                    Target::Credential(_) => chain_of(&certificate, &came),
                };
                let serial = certificate.serial().to_string();
                self.keep((certificate, chain))?;
                Ok(Answer::Issued(serial))
            }
            Some(Outcome::Waiting { retry_after, handle }) => {
                let text = handle.map_or_else(String::new, |handle| format!("the CA calls it {handle}"));
                Ok(Answer::Later { retry_after, text })
            }
            Some(Outcome::Failed(failure)) => Ok(Answer::Failed(translated(&failure))),
        }
    }

    /// Writes the certificate that came; if that may succeed later, it is remembered until then.
    fn keep(&self, came: Came) -> Result<(), Failure> {
        let kept = self.files().keep_certificate(came.0.der(), &came.1).map_err(|e| failure_of(&e));
        match &kept {
            Err(failure) if failure.kind == Kind::Transient => self.unkept.put(&self.order, came),
            _ => self.unkept.forget(&self.order),
        }
        kept
    }

    /// Every check of the certificate that came. The inner error is the certificate's, the outer one this machine's.
    pub(super) fn verify(&self, trial: &dyn Trial, now: Timestamp) -> Result<Result<SignerLife, String>, Failure> {
        let files = self.files();
        let read = files.certificate().and_then(|certificate| Ok((certificate, files.key()?)));
        let (certificate, key) = match read {
            Ok((Some(certificate), key)) => (certificate, key),
            Ok((None, _)) => return Ok(Err("the certificate that came is no longer on disk".to_owned())),
            Err(e) => {
                let failure = failure_of(&e);
                return if failure.kind == Kind::Transient { Err(failure) } else { Ok(Err(failure.text)) };
            }
        };
        Ok(match &self.target {
            Target::Signer(issuer) => {
                verify::signer(issuer, &certificate, key, issuer.signer.rsa_padding, &self.renewal, trial, now)
            }
            Target::Credential(credential) => {
                verify::credential(credential.certificate().ok().as_ref(), &certificate, &key, self.margin, now)
            }
        })
    }

    /// The serial number of the certificate that came, as long as it can be read.
    pub(super) fn serial(&self) -> Option<String> {
        self.files().certificate().ok().flatten().map(|certificate| certificate.serial().to_string())
    }

    /// In place as the next one. Our own credential has no such place.
    pub(super) fn stage(&self) -> Result<(), Failure> {
        match &self.target {
            Target::Signer(_) => self.slot.stage(&self.order).map_err(|e| failure_of(&e)),
            Target::Credential(_) => Ok(()),
        }
    }

    /// The current one from now on.
    pub(super) fn activate(&self, now: Timestamp) -> Result<(), Failure> {
        match &self.target {
            Target::Signer(issuer) => {
                self.still_fits(issuer, now)?;
                let until = now.plus(issuer.response.validity);
                self.slot.activate(&self.order, until).map_err(|e| failure_of(&e))
            }
            Target::Credential(credential) => {
                let (certificate, key) = self.files().export().map_err(|e| failure_of(&e))?;
                // A directory that we may not write into is no trouble of the other slots.
                credential.install(&certificate, &key).map_err(|e| {
                    let errno = match &e {
                        CredentialError::NotKept { errno, .. } => *errno,
                        _ => None,
                    };
                    let everywhere = errno.is_some_and(|errno| concerns_all(&io::Error::from_raw_os_error(errno)));
                    // A directory that is read-only for us (as under a hardened unit) is no broken disk.
                    let scope = if everywhere && errno != Some(Errno::ROFS.raw_os_error()) {
                        Scope::Local
                    } else {
                        Scope::Item
                    };
                    Failure::new(scope, Kind::Transient, &e.to_string())
                })
            }
        }
    }

    /// It may have waited, for an approval or with the process: the CA may have another key by now, or its own time be over.
    fn still_fits(&self, issuer: &Issuer, now: Timestamp) -> Result<(), Failure> {
        let failed = |text: &str| Failure::new(Scope::Item, Kind::Permanent, text);
        let files = self.files();
        let certificate = files.certificate().map_err(|e| failure_of(&e))?;
        let certificate = certificate.ok_or_else(|| failed("its certificate is no longer on disk"))?;
        let key = files.key().map_err(|e| failure_of(&e))?;
        let profile = issuer.response.profile;
        check(&issuer.certificate, &certificate, &key, profile, now).map(drop).map_err(|e| failed(&e.to_string()))
    }
}

/// The kind of key that takes the place of one of ours: the same, which the CA has accepted before. An RSA key gets the next of the
/// sizes that are made; what cannot be made (P-521) becomes P-256.
fn kind_like(current: &PublicKeyKind) -> KeyKind {
    match current {
        PublicKeyKind::Rsa { bits: 0..=2048, .. } => KeyKind::Rsa2048,
        PublicKeyKind::Rsa { bits: 2049..=3072, .. } => KeyKind::Rsa3072,
        PublicKeyKind::Rsa { .. } => KeyKind::Rsa4096,
        PublicKeyKind::P384 => KeyKind::EcdsaP384,
        PublicKeyKind::Ed25519 => KeyKind::Ed25519,
        PublicKeyKind::P256 | PublicKeyKind::P521 | PublicKeyKind::Other(_) => KeyKind::EcdsaP256,
    }
}

/// The certificates beside ours that can be read.
fn chain_of(ours: &Certificate, came: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let others = came.iter().filter(|der| der.as_slice() != ours.der() && Certificate::from_der(der).is_ok());
    others.take(MAX_CHAIN).cloned().collect()
}

/// A fault of slots as renewal sees it: what concerns every slot is this machine's trouble, anything else the order's own.
pub(super) fn failure_of(error: &SlotError) -> Failure {
    let (scope, kind) = match error {
        SlotError::File(FileError::Io { source, .. }) if concerns_all(source) => (Scope::Local, Kind::Transient),
        SlotError::File(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            (Scope::Item, Kind::Permanent)
        }
        // One slot that cannot be used must not hold up the others.
        SlotError::File(FileError::Io { .. } | FileError::Permissions { .. } | FileError::NotAFile(_))
        | SlotError::Name(_)
        | SlotError::Closed { .. } => (Scope::Item, Kind::Transient),
        SlotError::Generation(KeyError::NoRandomness) => (Scope::Local, Kind::Transient),
        SlotError::Generation(_) => (Scope::Issuer, Kind::Permanent),
        SlotError::File(_)
        | SlotError::KeyLost { .. }
        | SlotError::Request { .. }
        | SlotError::Missing { .. }
        | SlotError::Settled(_)
        | SlotError::NotStaged(_)
        | SlotError::InUse(_) => (Scope::Item, Kind::Permanent),
    };
    Failure::new(scope, kind, &error.to_string())
}

/// The disk is full, broken or read-only, or the machine or this process has run out of something.
fn concerns_all(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(error.kind(), OutOfMemory | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
        || matches!(errno, Some(Errno::IO | Errno::MFILE | Errno::NFILE))
}

fn translated(failure: &enrolment::Failure) -> Failure {
    let scope = match failure.scope {
        enrolment::Scope::Item => Scope::Item,
        enrolment::Scope::Issuer => Scope::Issuer,
        enrolment::Scope::Endpoint => Scope::Endpoint,
        enrolment::Scope::OwnCredential => Scope::OwnCredential,
        enrolment::Scope::Local => Scope::Local,
    };
    let kind = match failure.kind {
        enrolment::Kind::Transient => Kind::Transient,
        enrolment::Kind::Permanent => Kind::Permanent,
        enrolment::Kind::Unknown => Kind::Unknown,
    };
    Failure { retry_after: failure.retry_after, ..Failure::new(scope, kind, failure.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_of_ours_keeps_its_kind_of_key() {
        let rsa = |bits| kind_like(&PublicKeyKind::Rsa { bits, pss_only: false });
        assert_eq!([1024, 2048, 3072, 4096, 8192].map(rsa), {
            use KeyKind::*;
            [Rsa2048, Rsa2048, Rsa3072, Rsa4096, Rsa4096]
        });
        for (kind, made) in [
            (PublicKeyKind::P256, KeyKind::EcdsaP256),
            (PublicKeyKind::P384, KeyKind::EcdsaP384),
            (PublicKeyKind::P521, KeyKind::EcdsaP256),
            (PublicKeyKind::Ed25519, KeyKind::Ed25519),
        ] {
            assert_eq!(kind_like(&kind), made);
        }
    }

    #[test]
    fn only_what_concerns_every_slot_is_this_machines_trouble() {
        let of = |error: SlotError| {
            let failure = failure_of(&error);
            (failure.scope, failure.kind)
        };
        let io = |errno: Errno| of(FileError::Io { path: "x".into(), source: errno.into() }.into());
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(io(errno), (Scope::Local, Kind::Transient), "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP] {
            assert_eq!(io(errno), (Scope::Item, Kind::Transient), "{errno}");
        }
        assert_eq!(io(Errno::NOENT), (Scope::Item, Kind::Permanent));
        let own = [
            SlotError::Closed { slot: "x".into(), why: "y".into() },
            FileError::NotAFile("x".into()).into(),
            FileError::Permissions { path: "x".into(), mode: 0o644 }.into(),
        ];
        for error in own {
            assert_eq!(of(error), (Scope::Item, Kind::Transient));
        }
    }
}
