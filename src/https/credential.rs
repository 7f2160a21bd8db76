//! The certificate by which we prove ourselves: watched, checked here before anyone is asked, replaced without a restart.

use crate::signer::RsaPadding;
use crate::signer::files::{
    FileError, MAX_CERTIFICATE_FILE_LEN, load_pair, read_key_file, read_public_file, write_key,
};
use crate::time::{Clock, Timestamp};
use crate::x509::{Certificate, pem};
use arc_swap::ArcSwapOption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::fs::File;
use std::io::Write;
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
    /// A new one could not be written.
    #[error(
        "our client certificate for {owner} cannot be replaced: {file}: {reason}; its directory must be writable for this process"
    )]
    NotKept {
        /// What it is for.
        owner: String,
        /// The file, or its directory.
        file: PathBuf,
        /// Why.
        reason: String,
        /// The system's number for it, where it is the system's.
        errno: Option<i32>,
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

    /// Puts a new certificate (PEM, a chain may follow) and its key (PKCS#8) in the place of the old ones. Both are on disk
    /// under names of their own before the first is moved, so that after a crash at any point either the old pair is
    /// there or the new one can be completed, which reading does.
    pub fn install(&self, certificate_pem: &str, key_pkcs8: &[u8]) -> Result<(), CredentialError> {
        let unusable = |reason: String| CredentialError::Unusable { owner: self.owner.clone(), reason };
        let not_kept = |file: &Path, e: &std::io::Error| {
            let (owner, file) = (self.owner.clone(), file.to_owned());
            CredentialError::NotKept { owner, file, reason: e.to_string(), errno: e.raw_os_error() }
        };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |e: std::io::Error| not_kept(&path, &e)
        };
        let (certificate, key) = (beside(&self.certificate), beside(&self.key));
        match std::fs::remove_file(&key) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&key)(e)),
            _ => {}
        }
        write_key(&key, key_pkcs8).map_err(|e| match e {
            FileError::Io { path, source } => not_kept(&path, &source),
            other => unusable(other.to_string()),
        })?;
        let written = File::create(&certificate)
            .and_then(|mut file| file.write_all(certificate_pem.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(io(&certificate))?;
        load_pair(&certificate, &key, RsaPadding::default()).map_err(|e| unusable(e.to_string()))?;
        std::fs::rename(&certificate, &self.certificate).map_err(io(&self.certificate))?;
        std::fs::rename(&key, &self.key).map_err(io(&self.key))?;
        for path in [&self.certificate, &self.key] {
            let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory).and_then(|d| d.sync_all()).map_err(io(directory))?;
        }
        Ok(())
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
        let mut pair = load_pair(&self.certificate, &self.key, RsaPadding::default());
        if let Err(FileError::Mismatch { .. }) = pair {
            let new_key = beside(&self.key);
            // An installation that a crash cut in two.
            if load_pair(&self.certificate, &new_key, RsaPadding::default()).is_ok()
                && std::fs::rename(&new_key, &self.key).is_ok()
            {
                pair = load_pair(&self.certificate, &self.key, RsaPadding::default());
            }
        }
        let (certificate, _) = pair.map_err(|e| e.to_string())?;
        let bytes = read_public_file(&self.certificate, MAX_CERTIFICATE_FILE_LEN).map_err(|e| e.to_string())?;
        let in_key = |e: &dyn std::fmt::Display| format!("{}: {e}", self.key.display());
        let mut chain = pem::decode(&bytes, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(|e| e.to_string())?;
        chain.truncate(MAX_CHAIN);
        let key = read_key_file(&self.key).map_err(|e| e.to_string())?;
        let blocks;
        let key_der = if pem::is_der(&key) {
            key.as_slice()
        } else {
            blocks = pem::blocks(&key).map_err(|e| in_key(&e))?;
            let block = blocks.iter().find(|b| b.label.ends_with("PRIVATE KEY"));
            block.map(|b| b.der.as_slice()).unwrap_or_default()
        };
        // Borrowed: what rustls and ring make of it is theirs, and no other copy is left behind.
        let key_der = PrivateKeyDer::try_from(key_der).map_err(|e| in_key(&e))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key_der).map_err(|e| in_key(&e))?;
        let certified = CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key);
        Ok(Loaded { stamp, certificate, certified: Arc::new(certified) })
    }
}

/// The name under which a new file is written before it takes the place of the old one.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// What was read from the two files.
pub(super) struct Loaded {
    stamp: (Option<Stamp>, Option<Stamp>),
    certificate: Certificate,
    pub(super) certified: Arc<CertifiedKey>,
}

/// By what a changed file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    len: u64,
}

impl Stamp {
    /// Of a file as it is now; `None` when it cannot be looked at.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let m = std::fs::metadata(path).ok()?;
        let (modified, changed) = ((m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()));
        Some(Stamp { modified, changed, inode: m.ino(), len: m.len() })
    }

    /// When the file became what it is, by this machine's clock.
    pub(crate) fn changed(&self) -> Timestamp {
        Timestamp::from_unix(self.changed.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::Serial;
    use crate::signer::{KeyKind, SigningKey};
    use crate::time::ManualClock;
    use crate::x509::issue::{CertificateSpec, name};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn pair(serial: u8) -> (String, Vec<u8>) {
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let serial = Serial::from_unsigned(&[serial]).unwrap();
        let to = NOW.plus(Duration::from_secs(86_400));
        let der = CertificateSpec::ca(name(&[]), key.spki_der(), serial, NOW, to).sign(&key).unwrap();
        (pem::encode("CERTIFICATE", &der), pkcs8.to_vec())
    }

    #[test]
    fn an_installation_cut_in_two_at_any_point_leaves_one_whole_pair() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("agent.pem"), directory.path().join("agent.key"));
        let fresh = || ClientCredential::new("main", &certificate, &key, Arc::new(ManualClock::at(NOW)));
        let serial = || fresh().certificate().unwrap().serial().to_string();
        let ((old, old_key), (new, new_key)) = (pair(1), pair(2));
        fresh().install(&old, &old_key).unwrap();
        let running = fresh();
        assert_eq!((serial(), running.check()), ("01".to_owned(), Ok(())));

        // Before the first is moved: both new files are there and do no harm.
        write_key(&beside(&key), &new_key).unwrap();
        std::fs::write(beside(&certificate), &new).unwrap();
        assert_eq!(serial(), "01");
        // Between the two moves.
        std::fs::rename(beside(&certificate), &certificate).unwrap();
        assert_eq!(serial(), "02");
        assert!(!beside(&key).exists());
        // Once more, over what is there, seen by whoever has it in use.
        let (newest, newest_key) = pair(3);
        running.install(&newest, &newest_key).unwrap();
        assert_eq!((running.certificate().unwrap().serial().to_string(), serial()), ("03".to_owned(), "03".to_owned()));
    }

    #[test]
    fn a_pair_that_does_not_fit_is_not_installed() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("agent.pem"), directory.path().join("agent.key"));
        let credential = ClientCredential::new("main", &certificate, &key, Arc::new(ManualClock::at(NOW)));
        let ((one, one_key), (two, _)) = (pair(1), pair(2));
        credential.install(&one, &one_key).unwrap();
        assert!(credential.install(&two, &one_key).unwrap_err().to_string().contains("not the private key"));
        assert_eq!(credential.certificate().unwrap().serial().to_string(), "01");
    }
}
