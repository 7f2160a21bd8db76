//! TLS as a client: our own roots, our own clock, our own certificate, and files that may change while we run.

use super::credential::{ClientCredential, Loaded, Stamp};
use super::error::Cause;
use crate::signer::files::read_public_file;
use crate::time::Clock;
use crate::x509::pem;
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, RootCertStore};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The most roots that are read from one file: the largest public collections have under 200.
const MAX_ROOTS: usize = 1_000;
/// The largest file of roots, in octets.
const MAX_TRUST_LEN: usize = 4 * 1024 * 1024;

/// How TLS is spoken with one server.
pub struct Tls {
    trust: PathBuf,
    credential: Option<Arc<ClientCredential>>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<Current>>,
}

/// A configuration made of files that have not changed since.
#[derive(Clone)]
struct Current {
    trust: Option<Stamp>,
    loaded: Option<Arc<Loaded>>,
    config: Arc<ClientConfig>,
}

impl Tls {
    /// With the roots in a PEM file, and a certificate of our own if there is one. Nothing is read yet.
    pub fn new(trust: impl Into<PathBuf>, credential: Option<Arc<ClientCredential>>, clock: Arc<dyn Clock>) -> Self {
        Tls { trust: trust.into(), credential, clock, current: Mutex::new(None) }
    }

    /// The credential, to be watched.
    pub fn credential(&self) -> Option<&Arc<ClientCredential>> {
        self.credential.as_ref()
    }

    /// The configuration by the files as they are now, after the local check of our own certificate. The same `Arc` as
    /// last time unless a file has changed.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, Cause> {
        let loaded = self.credential.as_ref().map(|c| c.current()).transpose().map_err(Cause::Credential)?;
        let trust = Stamp::of(&self.trust);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = current.as_ref().filter(|c| c.trust == trust && same(c.loaded.as_ref(), loaded.as_ref())) {
            return Ok(c.config.clone());
        }
        let config = Arc::new(self.build(loaded.as_deref())?);
        *current = Some(Current { trust, loaded, config: config.clone() });
        Ok(config)
    }

    fn build(&self, loaded: Option<&Loaded>) -> Result<ClientConfig, Cause> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(self.clock.clone())))
            .with_safe_default_protocol_versions()
            .map_err(|e| Cause::Tls(e.to_string()))?
            .with_root_certificates(self.roots()?);
        let mut config = match loaded {
            None => builder.with_no_client_auth(),
            Some(loaded) => {
                let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(loaded.certified.clone()));
                builder.with_client_cert_resolver(resolver)
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, Cause> {
        let told = |e: &dyn std::fmt::Display| Cause::Trust(format!("the roots in {}: {e}", self.trust.display()));
        let bytes = read_public_file(&self.trust, MAX_TRUST_LEN).map_err(|e| told(&e))?;
        let found = pem::decode(&bytes, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(|e| told(&e))?;
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(found.into_iter().take(MAX_ROOTS).map(CertificateDer::from));
        match added {
            0 => Err(told(&"none of the certificates in it can be used as a root")),
            _ => Ok(store),
        }
    }
}

fn same(a: Option<&Arc<Loaded>>, b: Option<&Arc<Loaded>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// What an error of a TLS stream means; `None` when it is none of TLS.
pub(super) fn cause(error: &io::Error) -> Option<Cause> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Cause::NotTrusted(error.to_string())
        }
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::NoCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::DecryptError // our certificate or our proof does not verify; our own check of theirs came before
            | Alert::AccessDenied),
        ) => Cause::CredentialRefused(format!("TLS alert {alert:?}")),
        other => Cause::Tls(other.to_string()),
    })
}

/// Our clock as rustls wants it, so that both look at the same time.
struct Time(Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(self.0.now().unix()).ok().map(|s| UnixTime::since_unix_epoch(Duration::from_secs(s)))
    }
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}
