//! Signing the entries of one segment.

use super::issuer::{ActiveSigner, Issuer, View};
use super::schedule::{CannotDate, Dates};
use super::timekeeper::SetBack;
use crate::ocsp::{
    CertStatus, HashAlgorithm, Profile, Serial, Single, Template, TemplateSpec, archive_cutoff_extension,
};
use crate::signer::SignError;
use crate::store::{Keys, KeysError, Part, Segment, SegmentError, SegmentMeta, hash};
use crate::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Why entries were not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignFault {
    /// There is no signer that has passed its self-check.
    #[error("there is no usable signer")]
    NoSigner,
    /// The signer's life does not allow it now.
    #[error(transparent)]
    Dates(#[from] CannotDate),
    /// The clock is not believed.
    #[error(transparent)]
    Clock(#[from] SetBack),
    /// The key failed.
    #[error("signing failed: {0}")]
    Key(#[from] SignError),
    /// The system has no thread for it.
    #[error("no thread to sign in: {0}")]
    Thread(#[from] std::io::Error),
    /// A bug.
    #[error("signing panicked; see the log")]
    Panicked,
    /// It is no longer wanted: the process stops, or the issuer has been let go.
    #[error("signing was called off")]
    CalledOff,
    /// The segment could not be put together.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The segment could not be put together.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// `between` is asked after so many signatures: with RSA a slice takes seconds, and a revocation must not wait for it.
const BETWEEN: usize = 32;

/// Signs every entry of `keys` under one template. An error of `between` ends it.
#[allow(clippy::too_many_arguments, reason = "what is signed, as what, when: a struct would only name them twice")]
pub fn segment(
    issuer: &Issuer,
    view: &View,
    algorithm: HashAlgorithm,
    part: Part,
    keys: Keys,
    sequence: u64,
    now: Timestamp,
    mut between: impl FnMut() -> Result<(), SignFault>,
) -> Result<Segment, SignFault> {
    let signer = view.signer.as_deref().ok_or(SignFault::NoSigner)?;
    let cadence = view.settings.cadence();
    let served = newest_served(issuer, algorithm, part, &keys, now).map_or(Timestamp::EPOCH, after);
    let newest = newest_event(&keys, now).max(served);
    let dates = cadence.dates(now, signer.life(), newest)?;
    // Before the certificate is looked at: were it renewed in between, this would be signed once too often.
    let settings = issuer.fingerprint(&view.settings);
    let template = template(issuer, view, signer, algorithm, &dates);
    let mut signatures = Vec::with_capacity(keys.len() * signer.key().algorithm().raw_len());
    let mut tbs = Vec::with_capacity(512);
    for (n, (serial, status)) in keys.iter().enumerate() {
        if n % BETWEEN == BETWEEN - 1 {
            between()?;
        }
        tbs.clear();
        template.tbs(&[Single::new(&serial, status)], &[], &mut tbs);
        signer.key().sign_raw(&tbs, &mut signatures)?;
    }
    let meta = SegmentMeta {
        issuer_key: *issuer.key_id(),
        part,
        sequence,
        refresh_at: cadence.due(&dates, place(issuer, algorithm, part)),
        settings,
    };
    Ok(Segment::new(meta, template, keys, Bytes::from(signatures))?)
}

/// The DER of a response that `signer` would give, for a serial that is served to nobody: to be verified before the signer is taken
/// into use.
pub fn trial(
    issuer: &Issuer,
    signer: Arc<ActiveSigner>,
    serial: Serial,
    algorithm: HashAlgorithm,
    now: Timestamp,
) -> Result<Vec<u8>, SignFault> {
    let view = View { signer: Some(signer), ..(*issuer.view()).clone() };
    let keys = Keys::build(&[(serial, CertStatus::Good)])?;
    let segment = segment(issuer, &view, algorithm, Part::Overlay, keys, 0, now, || Ok(()))?;
    let mut response = Vec::new();
    if let Some(hit) = segment.find(&serial, hash(&serial)) {
        segment.write_response(&serial, hit, &mut response);
    }
    Ok(response)
}

/// Where each signing is recorded: one event for a segment, one for an answer on demand. At the level `info` under `cabf`, whose
/// rule book demands the record (CA/B BR §5.4.1), and at `debug` under the others.
pub const AUDIT: &str = "audit";

/// Records what was signed under a template.
pub fn record(issuer: &Issuer, template: &Template, certificates: usize, what: &str) {
    let spec = template.spec();
    macro_rules! record {
        ($level:expr) => {
            tracing::event!(
                target: AUDIT,
                $level,
                issuer = issuer.id(),
                hash = spec.issuer.algorithm.name(),
                certificates,
                responder = %spec.responder,
                algorithm = spec.algorithm.name(),
                this_update = %spec.this_update,
                next_update = %spec.next_update,
                "signed: {what}"
            )
        };
    }
    match issuer.view().settings.profile {
        Profile::Cabf => record!(tracing::Level::INFO),
        Profile::Rfc6960 | Profile::Rfc9919 => record!(tracing::Level::DEBUG),
    }
}

/// The octets around an entry, for an issuer's present signer.
pub fn template(
    issuer: &Issuer,
    view: &View,
    signer: &ActiveSigner,
    algorithm: HashAlgorithm,
    dates: &Dates,
) -> Template {
    Template::new(TemplateSpec {
        issuer: *issuer.slot().hashes(algorithm),
        responder: signer.responder_id(view.settings.responder_by_name),
        this_update: dates.this_update,
        next_update: dates.next_update,
        produced_at: dates.produced_at,
        algorithm: signer.key().algorithm(),
        certificate: signer.embedded(),
        single_extensions: if view.settings.archive_cutoff {
            archive_cutoff_extension(issuer.certificate().not_before())
        } else {
            Vec::new()
        },
    })
}

/// The newest revocationTime that is not in the future.
fn newest_event(keys: &Keys, now: Timestamp) -> Timestamp {
    let revoked = keys.iter().filter_map(|(_, status)| match status {
        CertStatus::Revoked { at, .. } if at <= now => Some(at),
        _ => None,
    });
    if keys.revoked() == 0 { Timestamp::EPOCH } else { revoked.max().unwrap_or(Timestamp::EPOCH) }
}

/// The newest thisUpdate of what is served by now, as long as it is not in the future: who sees a certificate come off hold must
/// not be given an answer that claims to be older than the one before it.
fn newest_served(
    issuer: &Issuer,
    algorithm: HashAlgorithm,
    part: Part,
    keys: &Keys,
    now: Timestamp,
) -> Option<Timestamp> {
    let live = issuer.slot().live();
    let wave = live.wave(algorithm)?;
    let date = |segment: &Segment| segment.template().spec().this_update;
    let served = |serial: &Serial| wave.find(serial, hash(serial)).map(|(segment, _)| date(segment));
    let past = |at: &Timestamp| *at <= now;
    match part {
        Part::Overlay => keys.iter().filter_map(|(serial, _)| served(&serial)).filter(past).max(),
        Part::Slice { bits, index } => {
            let slice = wave.slices().get(index as usize).filter(|_| bits == wave.bits()).and_then(Option::as_ref);
            let overlaid = wave.overlay().filter(|(serial, _)| Part::slice_of(hash(serial), bits) == index as usize);
            overlaid.map(|(_, segment)| date(segment)).chain(slice.map(|slice| date(slice))).filter(past).max()
        }
    }
}

/// The least thisUpdate of what takes the place of an answer with this one: two answers of one date are one to a client that asks
/// by Last-Modified. Where that would be in the future, [`Cadence::dates`](super::schedule::Cadence::dates) dates both alike.
pub fn after(this_update: Timestamp) -> Timestamp {
    this_update.plus(Duration::from_secs(1))
}

/// A slice's stable place in the refresh period.
fn place(issuer: &Issuer, algorithm: HashAlgorithm, part: Part) -> u64 {
    let (bits, index) = match part {
        Part::Slice { bits, index } => (bits, index),
        Part::Overlay => (0xff, 0),
    };
    let mut seed = [0_u8; 20];
    let [i0, i1, i2, i3] = index.to_be_bytes();
    let tail = [algorithm as u8, bits, i0, i1, i2, i3];
    for (to, from) in seed.iter_mut().zip(issuer.key_id().iter().take(14).chain(&tail)) {
        *to = *from;
    }
    crate::ocsp::Serial::from_stored(false, &seed).map_or(0, |serial| hash(&serial))
}
