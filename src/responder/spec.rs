//! What a responder is told about an issuer.

use crate::presign::IssuerSettings;
use crate::signer::RsaPadding;
use crate::signer::files::{FileError, load_certificate};
use crate::signer::slots::Slot;
use crate::status::Source;
use crate::x509::Certificate;
use std::path::{Path, PathBuf};

/// An issuer to answer for.
#[derive(Clone, Debug, PartialEq)]
pub struct IssuerSpec {
    /// Its name in logs, metrics and the segment directory.
    pub id: String,
    /// Its certificate.
    pub certificate: Certificate,
    /// How its responses are made.
    pub settings: IssuerSettings,
    /// Where its signer is; `None` while there is none.
    pub signer: Option<SignerOrigin>,
    /// Where its statuses are.
    pub sources: Vec<Source>,
    /// Its CRLs cover every certificate together, whatever their issuingDistributionPoint says. Counts where there is no index.
    pub crls_are_complete: bool,
    /// Its signer gets no successor: that its answers end with it is what the operator wants, and no fault.
    pub is_disabled: bool,
}

/// Where a signer is.
#[derive(Clone, Debug, PartialEq)]
pub enum SignerOrigin {
    /// In files that are watched.
    Files(SignerFiles),
    /// In a slot, which somebody else fills. Until there is one, the signer in use before stays.
    Slot {
        /// The slot.
        slot: Slot,
        /// How an RSA key signs.
        padding: RsaPadding,
    },
}

/// A signer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerFiles {
    /// The certificate, PEM or DER; the CA's own where the CA signs itself.
    pub certificate: PathBuf,
    /// The private key, PKCS#8, SEC1 or PKCS#1, PEM or DER, readable by its owner alone.
    pub key: PathBuf,
    /// How an RSA key signs.
    pub padding: RsaPadding,
}

impl IssuerSpec {
    /// An issuer with default settings, without signer and sources yet.
    ///
    /// # Errors
    /// If the file cannot be read or holds no certificate.
    pub fn from_files(id: &str, certificate: &Path) -> Result<Self, FileError> {
        Ok(Self::new(id, load_certificate(certificate)?))
    }

    /// An issuer with default settings, without signer and sources yet.
    pub fn new(id: &str, certificate: Certificate) -> Self {
        let settings = IssuerSettings::default();
        IssuerSpec {
            id: id.to_owned(),
            certificate,
            settings,
            signer: None,
            sources: Vec::new(),
            crls_are_complete: false,
            is_disabled: false,
        }
    }

    /// The same with its signer in these files.
    #[must_use]
    pub fn with_signer(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let padding = RsaPadding::default();
        let files = SignerFiles { certificate: certificate.into(), key: key.into(), padding };
        self.signer = Some(SignerOrigin::Files(files));
        self
    }

    /// The same with what is current in this slot as its signer.
    #[must_use]
    pub fn with_slot(mut self, slot: Slot) -> Self {
        self.signer = Some(SignerOrigin::Slot { slot, padding: RsaPadding::default() });
        self
    }

    /// The same with another OpenSSL `index.txt` among its sources.
    #[must_use]
    pub fn with_index(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Index(path.into()));
        self
    }

    /// The same with another CRL among its sources.
    #[must_use]
    pub fn with_crl(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Crl(path.into()));
        self
    }

    /// The same with its CRLs taken for all that its CA has, whatever they say of their scope.
    #[must_use]
    pub fn with_complete_crls(mut self) -> Self {
        self.crls_are_complete = true;
        self
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: IssuerSettings) -> Self {
        self.settings = settings;
        self
    }
}
