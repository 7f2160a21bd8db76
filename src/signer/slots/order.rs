//! What lies on disk of one order: its key, its request, its certificate.

use super::disk::Disk;
use super::error::SlotError;
use super::name::{self, CERTIFICATE, KEY, REQUEST};
use super::slot::{Inner, Installed};
use crate::signer::files::{FileError, MAX_CERTIFICATE_FILE_LEN};
use crate::signer::{KeyError, KeyKind, RsaPadding, SigningKey};
use crate::x509::issue::CertificationRequest;
use crate::x509::{Certificate, CertificateError, pem};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The PEM label of a request (RFC 7468 §7).
const REQUEST_LABEL: &str = "CERTIFICATE REQUEST";

/// The files of one order of one slot. What is written is on disk when a call returns.
///
/// All calls use the disk and wait for it; making an RSA key takes seconds.
#[derive(Clone, Debug)]
pub struct OrderFiles {
    pub(super) slot: Arc<Inner>,
    pub(super) order: String,
}

/// An order that can be sent: its key and its request are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The request (PKCS#10), the same octets each time.
    pub csr_der: Vec<u8>,
    /// The SubjectPublicKeyInfo of its key.
    pub spki_der: Vec<u8>,
}

impl OrderFiles {
    /// Makes the order's key and its request, or finds what was made before: an order has one key, ever.
    ///
    /// `make` gives the DER of the request for the key. It is called only if there is no request yet.
    ///
    /// # Errors
    /// [`SlotError::KeyLost`] if there is a request whose key is gone or damaged; others when something cannot be made or
    /// written.
    pub fn prepare<E: Display>(
        &self,
        kind: KeyKind,
        make: impl FnOnce(&SigningKey) -> Result<Vec<u8>, E>,
    ) -> Result<Prepared, SlotError> {
        let mut state = self.slot.open_state()?;
        self.slot.make_ready(&mut state)?;
        if let Some(prepared) = self.find()? {
            return Ok(prepared);
        }
        let (disk, key_file) = (&*self.slot.disk, self.path(KEY)?);
        let key = match load_key(disk, &key_file) {
            Ok(key) => key,
            Err(fault) => {
                if !is_absent(&fault) {
                    // No request was made from it, so nobody knows this key.
                    set_aside(disk, &key_file, fault)?;
                }
                let (key, pkcs8) = SigningKey::generate(kind).map_err(SlotError::Generation)?;
                let text = Zeroizing::new(pem::encode("PRIVATE KEY", &pkcs8));
                disk.put(&key_file, text.as_bytes())?;
                key
            }
        };
        let no_request = |why: String| SlotError::Request { order: self.order.clone(), why };
        let csr_der = make(&key).map_err(|e| no_request(e.to_string()))?;
        let spki_der = key.spki_der();
        let made = CertificationRequest::from_pem_or_der(&csr_der).map_err(|e| no_request(e.to_string()))?;
        if made.spki != spki_der {
            return Err(no_request("it is for another key".to_owned()));
        }
        disk.put(&self.path(REQUEST)?, pem::encode(REQUEST_LABEL, &csr_der).as_bytes())?;
        Ok(Prepared { csr_der, spki_der })
    }

    /// What [`OrderFiles::prepare`] has made; `None` if it has not, or not to the end.
    ///
    /// # Errors
    /// As for [`OrderFiles::prepare`].
    pub fn prepared(&self) -> Result<Option<Prepared>, SlotError> {
        let _state = self.slot.state();
        self.find()
    }

    /// Keeps the certificate that came for this order, and its chain. One that came before is replaced, as long as it has no
    /// place in the slot: a CA that is asked again may issue again.
    ///
    /// # Errors
    /// If `der` is no certificate, if the whole is larger than [`MAX_CERTIFICATE_FILE_LEN`], or if it cannot be written. Whether the
    /// certificate is any good is not looked at.
    pub fn keep_certificate(&self, der: &[u8], chain: &[Vec<u8>]) -> Result<(), SlotError> {
        let mut state = self.slot.open_state()?;
        let file = self.path(CERTIFICATE)?;
        let damaged = |source: CertificateError| FileError::Certificate { path: file.clone(), source };
        let certificate = Certificate::from_der(der).map_err(damaged)?;
        if state.pointer.holds(&self.order) {
            let kept = load_certificate(&*self.slot.disk, &file)?;
            return if kept == certificate { Ok(()) } else { Err(SlotError::Settled(self.order.clone())) };
        }
        let all = std::iter::once(der).chain(chain.iter().map(Vec::as_slice));
        let text: String = all.map(|der| pem::encode("CERTIFICATE", der)).collect();
        if text.len() > MAX_CERTIFICATE_FILE_LEN {
            return Err(FileError::TooLarge { path: file, limit: MAX_CERTIFICATE_FILE_LEN }.into());
        }
        self.slot.make_ready(&mut state)?;
        Ok(self.slot.disk.put(&file, text.as_bytes())?)
    }

    /// The certificate that came for this order, if one did.
    pub fn certificate(&self) -> Result<Option<Certificate>, SlotError> {
        match load_certificate(&*self.slot.disk, &self.path(CERTIFICATE)?) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(fault) if is_absent(&fault) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The order's key; an RSA key signs with PKCS#1 v1.5 until [`SigningKey::with_padding`] says otherwise.
    ///
    /// # Errors
    /// [`SlotError::Missing`] if there is none; others if it cannot be read.
    pub fn key(&self) -> Result<SigningKey, SlotError> {
        let file = self.path(KEY)?;
        match load_key(&*self.slot.disk, &file) {
            Err(fault) if is_absent(&fault) => Err(SlotError::Missing { order: self.order.clone(), file }),
            other => Ok(other?),
        }
    }

    /// The certificate with its chain as PEM, and the key as PKCS#8, to be put where somebody else reads them.
    ///
    /// # Errors
    /// If either is missing or cannot be read.
    pub fn export(&self) -> Result<(String, Zeroizing<Vec<u8>>), SlotError> {
        let (disk, key, certificate) = (&*self.slot.disk, self.path(KEY)?, self.path(CERTIFICATE)?);
        let chain = disk.read(&certificate, false)?;
        let text = String::from_utf8_lossy(&chain).into_owned();
        let octets = disk.read(&key, true)?;
        let blocks = pem::blocks(&octets).map_err(|e| FileError::Key { path: key.clone(), source: e.into() })?;
        let pkcs8 = blocks.into_iter().find(|block| block.label == "PRIVATE KEY").map(|block| block.der);
        match pkcs8 {
            Some(der) => Ok((text, Zeroizing::new(der.to_vec()))),
            None => Err(FileError::Key { path: key, source: KeyError::NoKey }.into()),
        }
    }

    fn find(&self) -> Result<Option<Prepared>, SlotError> {
        let (disk, file) = (&*self.slot.disk, self.path(REQUEST)?);
        let octets = match disk.read(&file, false) {
            Err(fault) if is_absent(&fault) => return Ok(None),
            other => other?,
        };
        let key = self.path(KEY)?;
        let spki_der = match load_key(disk, &key) {
            Ok(key) => key.spki_der(),
            Err(fault) if is_absent(&fault) || is_damage(&fault) => {
                return Err(SlotError::KeyLost { order: self.order.clone(), key });
            }
            Err(fault) => return Err(fault.into()),
        };
        let request = CertificationRequest::from_pem_or_der(&octets).ok().filter(|r| r.spki == spki_der);
        let der = pem::decode(&octets, &[REQUEST_LABEL]).ok().and_then(|found| found.into_iter().next());
        // A damaged request is made again, from the same key.
        Ok(request.and(der).map(|csr_der| Prepared { csr_der, spki_der }))
    }

    fn path(&self, extension: &str) -> Result<PathBuf, SlotError> {
        if name::is_order(&self.order) && name::is_slot(&self.slot.name) {
            Ok(name::file(&self.slot.dir, &self.order, extension))
        } else {
            Err(SlotError::Name(format!("{}/{}", self.slot.name.escape_debug(), self.order.escape_debug())))
        }
    }
}

/// A key with the certificate that belongs to it.
pub(super) fn load_pair(disk: &dyn Disk, dir: &Path, order: &str) -> Result<Installed, FileError> {
    let (key, certificate) = (name::file(dir, order, KEY), name::file(dir, order, CERTIFICATE));
    let (signing_key, loaded) = (load_key(disk, &key)?, load_certificate(disk, &certificate)?);
    if !signing_key.matches(&loaded) {
        return Err(FileError::Mismatch { certificate, key });
    }
    Ok(Installed { certificate: loaded, key: Arc::new(signing_key), order: order.to_owned() })
}

/// Whether the file is not there.
pub(super) fn is_absent(fault: &FileError) -> bool {
    matches!(fault, FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Whether what is in the file is at fault, and not the way to it.
pub(super) fn is_damage(fault: &FileError) -> bool {
    match fault {
        FileError::TooLarge { .. }
        | FileError::Certificate { .. }
        | FileError::Key { .. }
        | FileError::Mismatch { .. } => true,
        FileError::Io { .. } | FileError::NotAFile(_) | FileError::Permissions { .. } => false,
    }
}

/// Renames a damaged file; what cannot be read for another reason stays and is the caller's fault to report.
fn set_aside(disk: &dyn Disk, path: &Path, fault: FileError) -> Result<(), SlotError> {
    if !is_damage(&fault) {
        return Err(fault.into());
    }
    let to = disk.set_aside(path)?;
    tracing::warn!("{fault}; it is kept as {}", to.display());
    Ok(())
}

fn load_key(disk: &dyn Disk, path: &Path) -> Result<SigningKey, FileError> {
    let octets = disk.read(path, true)?;
    SigningKey::load(&octets, RsaPadding::default()).map_err(|source| FileError::Key { path: path.into(), source })
}

fn load_certificate(disk: &dyn Disk, path: &Path) -> Result<Certificate, FileError> {
    let octets = disk.read(path, false)?;
    Certificate::from_pem_or_der(&octets).map_err(|source| FileError::Certificate { path: path.into(), source })
}
