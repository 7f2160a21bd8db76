//! A signer from two files: its certificate and its private key.

use super::key::{KeyError, MAX_KEY_LEN, RsaPadding, SigningKey};
use crate::x509::{Certificate, CertificateError, pem};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest certificate file that is read, in octets; it may hold a chain and text.
pub const MAX_CERTIFICATE_FILE_LEN: usize = 1024 * 1024;

/// Why a certificate or a key could not be loaded from its file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("{path}: {source}{}", whose(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("{0}: not a regular file")]
    NotAFile(PathBuf),
    /// Too large to be what it should be.
    #[error("{path}: larger than {limit} octets, which is the most that is read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Group or others may read the key.
    #[error(
        "{path}: a private key must be readable by its owner only, but its mode is {mode:04o}; run `chmod 600 {path}`"
    )]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a certificate.
    #[error("{path}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
    /// Not a usable key.
    #[error("{path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// Certificate and key do not belong together.
    #[error("{key}: this is not the private key of the certificate in {certificate}")]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// What to do where somebody else's file is not for us.
fn whose(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "; it is to be read by the service's user: `chown USER {}`, or run this as its owner",
                path.display()
            )
        }
        _ => String::new(),
    }
}

/// Loads a certificate (the first in the file) and its private key, and makes sure that they belong together.
///
/// Whether the certificate may sign responses is not looked at here; [`check`](super::check::check) does.
pub fn load_pair(certificate: &Path, key: &Path, padding: RsaPadding) -> Result<(Certificate, SigningKey), FileError> {
    let loaded = load_certificate(certificate)?;
    let signing_key = load_key(key, padding, Some(&loaded))?;
    if !signing_key.matches(&loaded) {
        return Err(FileError::Mismatch { certificate: certificate.into(), key: key.into() });
    }
    Ok((loaded, signing_key))
}

/// Loads the first certificate in a file.
pub fn load_certificate(path: &Path) -> Result<Certificate, FileError> {
    let bytes = read_public_file(path, MAX_CERTIFICATE_FILE_LEN)?;
    Certificate::from_pem_or_der(&bytes).map_err(|source| FileError::Certificate { path: path.into(), source })
}

/// Loads a private key from a file that only its owner may read. `certificate` helps where the file lacks the public key.
pub fn load_key(path: &Path, padding: RsaPadding, certificate: Option<&Certificate>) -> Result<SigningKey, FileError> {
    let bytes = read_key_file(path)?;
    SigningKey::load_for(&bytes, padding, certificate).map_err(|source| FileError::Key { path: path.into(), source })
}

/// The octets of a key file that only its owner may read, for whoever needs the key in a form of its own. A shared
/// secret is kept the same way.
pub(crate) fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, MAX_KEY_LEN, |mode| match mode & 0o077 {
        0 => Ok(()),
        _ => Err(FileError::Permissions { path: path.into(), mode: mode & 0o7777 }),
    })
}

/// Writes a new private key (PKCS#8) as PEM to a file that only its owner may read, and makes sure it is on disk.
///
/// A file that exists is never written over.
pub fn write_key(path: &Path, pkcs8: &[u8]) -> Result<(), FileError> {
    let io = |source| FileError::Io { path: path.into(), source };
    let text = Zeroizing::new(pem::encode("PRIVATE KEY", pkcs8));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    // The name is on disk once the directory is.
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(io)
}

/// Reads a file that anybody may read.
pub(crate) fn read_public_file(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    read(path, limit, |_| Ok(()))
}

/// Reads a bounded regular file in one piece; the mode is that of the file which is read, not of what replaces it.
pub(super) fn read(
    path: &Path,
    limit: usize,
    permits: impl FnOnce(u32) -> Result<(), FileError>,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let io = |source| FileError::Io { path: path.into(), source };
    // Asked before it is opened, since opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(FileError::NotAFile(path.into()));
    }
    let file = File::open(path).map_err(io)?;
    permits(file.metadata().map_err(io)?.mode())?;
    // Room for all that is read, so that a key is never left behind by a vector that grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.min(MAX_KEY_LEN) + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > limit {
        return Err(FileError::TooLarge { path: path.into(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocsp::Serial;
    use crate::signer::KeyKind;
    use crate::time::Timestamp;
    use crate::x509::issue::{CertificateSpec, name};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Files { dir: tempfile::tempdir().unwrap() };
            for n in ["1", "2"] {
                let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
                let serial = Serial::from_unsigned(&[1]).unwrap();
                let ca = CertificateSpec::ca(name(&[]), key.spki_der(), serial, Timestamp::EPOCH, Timestamp::MAX);
                fs::write(files.path(&format!("{n}.pem")), pem::encode("CERTIFICATE", &ca.sign(&key).unwrap()))
                    .unwrap();
                fs::write(files.path(&format!("{n}.key")), &*pkcs8).unwrap();
                files.mode(&format!("{n}.key"), 0o600);
            }
            files
        }

        fn path(&self, file: &str) -> PathBuf {
            self.dir.path().join(file)
        }

        fn mode(&self, file: &str, mode: u32) {
            fs::set_permissions(self.path(file), Permissions::from_mode(mode)).unwrap();
        }

        fn pair(&self, certificate: &str, key: &str) -> Result<(), FileError> {
            load_pair(&self.path(certificate), &self.path(key), RsaPadding::Pkcs1).map(|_| ())
        }
    }

    #[test]
    fn a_pair_that_belongs_together_is_loaded() {
        let files = Files::new();
        files.pair("1.pem", "1.key").unwrap();
        files.mode("1.key", 0o400);
        files.pair("1.pem", "1.key").unwrap();
    }

    #[test]
    fn a_written_key_is_read_back_and_never_written_over() {
        let files = Files::new();
        let (key, pkcs8) = SigningKey::generate(KeyKind::Ed25519).unwrap();
        let path = files.path("new.key");
        write_key(&path, &pkcs8).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let read = load_key(&path, RsaPadding::Pkcs1, None).unwrap();
        assert_eq!(super::super::Signer::public_key_bits(&read), super::super::Signer::public_key_bits(&key));
        assert!(
            matches!(write_key(&path, &pkcs8), Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists)
        );
    }

    #[test]
    fn a_key_that_group_or_others_may_read_is_refused_with_advice() {
        let files = Files::new();
        for mode in [0o640, 0o604, 0o644, 0o660, 0o610] {
            files.mode("1.key", mode);
            let error = files.pair("1.pem", "1.key").unwrap_err();
            assert!(matches!(&error, FileError::Permissions { mode: m, .. } if *m == mode), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", files.path("1.key").display())), "{error}");
        }
    }

    #[test]
    fn every_fault_names_its_file() {
        let files = Files::new();
        fs::write(files.path("large"), vec![b' '; MAX_KEY_LEN + 1]).unwrap();
        files.mode("large", 0o600);
        let error = |certificate, key| files.pair(certificate, key).unwrap_err();
        assert!(matches!(error("1.pem", "2.key"), FileError::Mismatch { .. }));
        assert!(matches!(error("none", "1.key"), FileError::Io { path, .. } if path == files.path("none")));
        assert!(matches!(error("1.pem", "."), FileError::NotAFile(path) if path == files.path(".")));
        assert!(matches!(error("1.pem", "large"), FileError::TooLarge { path, .. } if path == files.path("large")));
        assert!(matches!(error("large", "1.key"), FileError::Certificate { path, .. } if path == files.path("large")));
        files.mode("2.pem", 0o600);
        assert!(
            matches!(error("1.pem", "2.pem"), FileError::Key { path, source: KeyError::NoKey } if path == files.path("2.pem"))
        );
    }
}
