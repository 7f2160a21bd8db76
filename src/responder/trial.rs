//! Trying a signer out before anyone relies on it.

use crate::client;
use crate::ocsp::HashAlgorithm;
use crate::presign::{self, ActiveSigner, Issuer};
use crate::signer::{self, RsaPadding, Signer, SignerFacts, SigningKey};
use crate::time::Timestamp;
use crate::x509::Certificate;
use std::sync::Arc;

/// Checks that certificate and key may sign for the issuer, signs a response, and reads it as a strict client would, along a
/// path that shares nothing with the one that signs.
pub(super) fn try_out(
    issuer: &Issuer,
    certificate: &Certificate,
    key: Arc<dyn Signer>,
    now: Timestamp,
) -> Result<(Arc<ActiveSigner>, SignerFacts), String> {
    let profile = issuer.view().settings.profile;
    let ca = issuer.certificate();
    let facts = signer::check(ca, certificate, &*key, profile, now).map_err(|refused| refused.to_string())?;
    let signer = Arc::new(ActiveSigner::new(key, certificate.clone(), ca));
    // Nobody is ever asked about this serial under this CA, so nothing that could be served is signed.
    let (hash, serial) = (HashAlgorithm::Sha256, ca.serial());
    let response = presign::trial(issuer, signer.clone(), serial, hash, now).map_err(|e| e.to_string())?;
    let asked = client::Asked { hash, serial, nonce: None };
    match client::verify(&response, &asked, ca, now, client::DEFAULT_SKEW) {
        Ok(_) => Ok((signer, facts)),
        Err(flaws) => {
            let flaws: Vec<String> = flaws.iter().map(ToString::to_string).collect();
            Err(format!("a test response does not verify: {}", flaws.join("; ")))
        }
    }
}

/// An issuer for which ordered signers can be tried out.
pub(super) struct Bench {
    pub(super) issuer: Arc<Issuer>,
    pub(super) padding: RsaPadding,
}

impl Bench {
    /// As [`try_out`], with the padding that the issuer's signer will use.
    pub(super) fn try_out(&self, certificate: &Certificate, key: &SigningKey, now: Timestamp) -> Result<(), String> {
        try_out(&self.issuer, certificate, Arc::new(key.with_padding(self.padding)), now).map(|_| ())
    }
}
