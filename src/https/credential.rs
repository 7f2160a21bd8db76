//! The certificate by which we prove ourselves: watched, checked here before anyone is asked, replaced without a restart.

use crate::signer::RsaPadding;
use crate::signer::files::{load_pair, read_key_file};
use crate::time::{Clock, Timestamp};
use crate::x509::{Certificate, pem};
use arc_swap::ArcSwapOption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most certificates of a chain that are sent along.
const MAX_CHAIN: usize = 10;

/// A client certificate and its key in two PEM files. New files are noticed and used from the next request on.
pub struct ClientCredential {
    owner: String,
    certificate: PathBuf,
    key: PathBuf,
    clock: Arc<dyn Clock>,
    loaded: ArcSwapOption<Loaded>,
}

/// Why our own credential cannot be used. One line that says whose it is, which file, which serial number, what time it
/// was and is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Its validity is over.
    #[error(
        "our client certificate for {owner} ({file}, {subject}, serial {serial}) expired at {not_after}; it is {now} here. Put a new certificate and its key there, they are picked up without a restart; if the time is wrong, set this machine's clock"
    )]
    Expired {
        /// What it is for.
        owner: String,
        /// The certificate's file.
        file: PathBuf,
        /// Its subject.
        subject: String,
        /// Its serial number.
        serial: String,
        /// When it expired.
        not_after: Timestamp,
        /// What time we think it is.
        now: Timestamp,
    },
    /// Its validity has not begun.
    #[error(
        "our client certificate for {owner} ({file}, {subject}, serial {serial}) is not valid before {not_before}; it is {now} here. Wait, or set this machine's clock"
    )]
    NotYetValid {
        /// What it is for.
        owner: String,
        /// The certificate's file.
        file: PathBuf,
        /// Its subject.
        subject: String,
        /// Its serial number.
        serial: String,
        /// When it begins.
        not_before: Timestamp,
        /// What time we think it is.
        now: Timestamp,
    },
    /// The files cannot be used.
    #[error("our client certificate for {owner} cannot be used: {reason}")]
    Unusable {
        /// What it is for.
        owner: String,
        /// What is wrong, with the file's name.
        reason: String,
    },
}

impl ClientCredential {
    /// The credential for `owner`, the name of a service as messages call it. Nothing is read yet.
    pub fn new(
        owner: impl Into<String>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        ClientCredential {
            owner: owner.into(),
            certificate: certificate.into(),
            key: key.into(),
            clock,
            loaded: ArcSwapOption::empty(),
        }
    }

    /// The file of the certificate.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate
    }

    /// The file of the key.
    pub fn key_file(&self) -> &Path {
        &self.key
    }

    /// The certificate in use, whether valid or not; reads the files if they have changed.
    pub fn certificate(&self) -> Result<Certificate, CredentialError> {
        self.newest(self.clock.now()).map(|loaded| loaded.certificate.clone())
    }

    /// Whether it can be used now.
    pub fn check(&self) -> Result<(), CredentialError> {
        self.current().map(drop)
    }

    /// What is to be used now, after the check.
    pub(super) fn current(&self) -> Result<Arc<Loaded>, CredentialError> {
        let now = self.clock.now();
        let loaded = self.newest(now)?;
        let c = &loaded.certificate;
        let (owner, file) = (self.owner.clone(), self.certificate.clone());
        let (subject, serial) = (c.subject(), c.serial().to_string());
        if now > c.not_after() {
            return Err(CredentialError::Expired { owner, file, subject, serial, not_after: c.not_after(), now });
        }
        if now < c.not_before() {
            return Err(CredentialError::NotYetValid { owner, file, subject, serial, not_before: c.not_before(), now });
        }
        Ok(loaded)
    }

    /// The files as they are now. While they do not fit together, for example between the writing of the one and of
    /// the other, what was loaded last stays in use as long as it is valid.
    fn newest(&self, now: Timestamp) -> Result<Arc<Loaded>, CredentialError> {
        let stamp = (Stamp::of(&self.certificate), Stamp::of(&self.key));
        let last = self.loaded.load_full();
        if let Some(last) = last.as_ref().filter(|l| l.stamp == stamp) {
            return Ok(last.clone());
        }
        match self.load(stamp) {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                self.loaded.store(Some(loaded.clone()));
                Ok(loaded)
            }
            Err(reason) => match last {
                Some(last) if last.certificate.is_valid_at(now) => Ok(last),
                _ => Err(CredentialError::Unusable { owner: self.owner.clone(), reason }),
            },
        }
    }

    fn load(&self, stamp: (Option<Stamp>, Option<Stamp>)) -> Result<Loaded, String> {
        // Says exactly what is wrong: mode, format, which key belongs to which certificate.
        let (certificate, _) =
            load_pair(&self.certificate, &self.key, RsaPadding::default()).map_err(|e| e.to_string())?;
        let bytes = std::fs::read(&self.certificate).map_err(|e| format!("{}: {e}", self.certificate.display()))?;
        let in_key = |e: &dyn std::fmt::Display| format!("{}: {e}", self.key.display());
        let mut chain = pem::decode(&bytes, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(|e| e.to_string())?;
        chain.truncate(MAX_CHAIN);
        let key = read_key_file(&self.key).map_err(|e| e.to_string())?;
        let key_der = match pem::is_der(&key) {
            true => PrivateKeyDer::try_from(key.to_vec()),
            false => {
                let blocks = pem::blocks(&key).map_err(|e| in_key(&e))?;
                let block = blocks.into_iter().find(|b| b.label.ends_with("PRIVATE KEY"));
                PrivateKeyDer::try_from(block.map(|b| b.der.to_vec()).unwrap_or_default())
            }
        };
        let key_der = key_der.map_err(|e| in_key(&e))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key_der).map_err(|e| in_key(&e))?;
        let certified = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key);
        Ok(Loaded { stamp, certificate, certified: Arc::new(certified) })
    }
}

/// What was read from the two files.
pub(super) struct Loaded {
    stamp: (Option<Stamp>, Option<Stamp>),
    certificate: Certificate,
    pub(super) certified: Arc<CertifiedKey>,
}

/// By what a changed file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    len: u64,
}

impl Stamp {
    /// Of a file as it is now; `None` when it cannot be looked at.
    pub(super) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let m = std::fs::metadata(path).ok()?;
        let (modified, changed) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        Some(Stamp { modified, changed, inode: m.ino(), len: m.len() })
    }
}
