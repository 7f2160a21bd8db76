//! A warm start: what an earlier process signed is served again, once it has proved to be this issuer's own.

use super::issuer::Issuer;
use crate::ocsp::{HashAlgorithm, ResponderId, Single};
use crate::store::{Part, RefusedBecause, RefusedFile, Segment, SegmentDir, SegmentError, Wave};
use crate::time::Timestamp;
use crate::x509::{Certificate, verify};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a warm start found.
#[derive(Default)]
pub(super) struct Warm {
    /// The segments that are served again; the presigner makes their slices due in turn.
    pub(super) due: Vec<(HashAlgorithm, Arc<Segment>)>,
    /// Files of overlays, to be removed once absorbed.
    pub(super) overlays: Vec<(HashAlgorithm, u64, PathBuf)>,
    /// Hashes of which there are files that have run out by this clock. It may be wrong, as at a boot before it is set: they stay
    /// until others take their place.
    pub(super) left_over: Vec<HashAlgorithm>,
    /// Files that are not served.
    pub(super) refused: Vec<RefusedFile>,
}

/// Loads an issuer's segments and serves them.
pub(super) fn load(dir: &SegmentDir, issuer: &Issuer, now: Timestamp) -> Warm {
    let (found, refused) = dir.load(issuer.key_id());
    let mut warm = Warm { refused, ..Warm::default() };
    let settings = issuer.view().settings.clone();
    let mut certificates = HashMap::new();
    let mut usable: HashMap<HashAlgorithm, Vec<(PathBuf, Segment)>> = HashMap::new();
    for (path, segment) in found {
        let spec = segment.template().spec();
        let algorithm = spec.issuer.algorithm;
        issuer.raise_sequence(segment.meta().sequence);
        if !settings.certid_hashes.contains(&algorithm)
            || segment.keys().is_empty() && segment.meta().part == Part::Overlay
        {
            dir.remove(&path); // of no use to anyone any more
        } else if !is_genuine(&segment, issuer, &mut certificates) {
            warm.refused.push(RefusedFile { path, fault: RefusedBecause::OtherIssuer });
        } else if spec.next_update <= now {
            if segment.meta().part == Part::Overlay {
                warm.overlays.push((algorithm, segment.meta().sequence, path));
            }
            warm.left_over.push(algorithm);
        } else if spec.this_update > now {
            warm.refused.push(RefusedFile { path, fault: SegmentError::Field("thisUpdate").into() });
        } else {
            usable.entry(algorithm).or_default().push((path, segment));
        }
    }
    for (algorithm, segments) in usable {
        let wave = assemble(algorithm, segments, &mut warm);
        issuer.slot().update(|live| live.with_wave(algorithm, Some(wave.clone())));
    }
    warm
}

/// Slices of more than one slicing are there when a change of slicing was interrupted: the newer one is asked first, as it was
/// before.
fn assemble(algorithm: HashAlgorithm, mut segments: Vec<(PathBuf, Segment)>, warm: &mut Warm) -> Arc<Wave> {
    segments.sort_by_key(|(_, segment)| segment.meta().sequence);
    let mut slicings: Vec<(u8, Vec<Segment>)> = Vec::new();
    let mut overlays = Vec::new();
    for (path, segment) in segments {
        match segment.meta().part {
            Part::Slice { bits, .. } => match slicings.iter_mut().find(|(of, _)| *of == bits) {
                Some((_, slices)) => slices.push(segment),
                None => slicings.push((bits, vec![segment])),
            },
            Part::Overlay => {
                warm.overlays.push((algorithm, segment.meta().sequence, path));
                overlays.push(segment);
            }
        }
    }
    // By the newest slice of each.
    slicings.sort_by_key(|(_, slices)| slices.iter().map(|slice| slice.meta().sequence).max());
    let mut wave = Arc::new(Wave::empty(slicings.first().map_or(0, |(bits, _)| *bits)));
    for (bits, slices) in slicings {
        if wave.bits() != bits {
            wave = Arc::new(wave.resliced(bits));
        }
        for mut slice in slices {
            slice.share_with(&wave);
            let slice = Arc::new(slice);
            wave = Arc::new(wave.with(slice.clone()));
            warm.due.push((algorithm, slice));
        }
    }
    // Laid on after all slices: which is newer is told by the sequence, not by the order of loading.
    for mut overlay in overlays {
        overlay.share_with(&wave);
        wave = Arc::new(wave.with(Arc::new(overlay)));
    }
    wave
}

/// Whether the responses in a segment are signed for this issuer: the hashes are its own, the signer's certificate is issued by
/// it (or it signs itself), and the first signature verifies. The checksum vouches for the rest.
fn is_genuine(segment: &Segment, issuer: &Issuer, certificates: &mut HashMap<Vec<u8>, Option<Certificate>>) -> bool {
    let spec = segment.template().spec();
    if spec.issuer != *issuer.slot().hashes(spec.issuer.algorithm) {
        return false;
    }
    let ca = issuer.certificate();
    let signer = match &spec.certificate {
        None => Some(&*ca),
        Some(der) => certificates
            .entry(der.clone())
            .or_insert_with(|| {
                let certificate = Certificate::from_der(der).ok()?;
                certificate.verify_signed_by(&ca).ok()?;
                Some(certificate)
            })
            .as_ref(),
    };
    let Some(signer) = signer else { return false };
    if let ResponderId::Key(hash) = &spec.responder
        && *hash != signer.responder_key_hash()
    {
        return false;
    }
    let Some((serial, status, raw)) = segment.entries().next() else { return true };
    let (mut tbs, mut signature) = (Vec::new(), Vec::new());
    segment.template().tbs(&[Single::new(&serial, status)], &[], &mut tbs);
    spec.algorithm.write_wire(raw, &mut signature);
    verify(signer.spki_der(), spec.algorithm.identifier_der(), &tbs, &signature).is_ok()
}
