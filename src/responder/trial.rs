//! Trying a signer out before anyone relies on it.

use crate::client;
use crate::ocsp::HashAlgorithm;
use crate::presign::{self, ActiveSigner, Issuer};
use crate::signer::{self, RsaPadding, Signer, SignerFacts, SigningKey};
use crate::store::{self, Segment};
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
    let ca = &*issuer.certificate();
    let facts = signer::check(ca, certificate, &*key, profile, now).map_err(|refused| refused.to_string())?;
    let signer = Arc::new(ActiveSigner::new(key, certificate.clone(), ca));
    // Nobody is ever asked about this serial under this CA, so nothing that could be served is signed.
    let (hash, serial) = (HashAlgorithm::Sha256, ca.serial());
    let response = presign::trial(issuer, signer.clone(), serial, hash, now).map_err(|e| e.to_string())?;
    let asked = client::Asked { hash, serial, nonce: None };
    match client::verify(&response, &asked, ca, now, client::DEFAULT_SKEW) {
        Ok(_) => Ok((signer, facts)),
        Err(flaws) => Err(format!("a test response does not verify: {}", in_words(&flaws))),
    }
}

/// Reads one answer back from what is served, another one as time goes on, and verifies it as a strict client would. Whether
/// it has run out is not asked here.
pub(super) fn read_back(
    issuer: &Issuer,
    segment: &Segment,
    algorithm: HashAlgorithm,
    now: Timestamp,
) -> Result<(), String> {
    let keys = segment.keys();
    let nth = usize::try_from(now.unix().unsigned_abs()).unwrap_or(0).checked_rem(keys.len()).unwrap_or(0);
    let Some((serial, status)) = keys.iter().nth(nth) else { return Ok(()) };
    let mut response = Vec::new();
    let found = segment.find(&serial, store::hash(&serial)).filter(|hit| hit.status == status);
    if found.and_then(|hit| segment.write_response(&serial, hit, &mut response)).is_none() {
        return Err(format!("serial {serial} cannot be found again"));
    }
    let dates = segment.template().spec();
    let at = now.min(dates.next_update).max(dates.this_update);
    let asked = client::Asked { hash: algorithm, serial, nonce: None };
    client::verify(&response, &asked, &issuer.certificate(), at, client::DEFAULT_SKEW)
        .map(drop)
        .map_err(|flaws| format!("serial {serial}: {}", in_words(&flaws)))
}

fn in_words(flaws: &[impl ToString]) -> String {
    flaws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
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
