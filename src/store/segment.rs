//! A segment: one wave's signed statuses for one slice of one issuer, immutable, the same octets in memory and on disk.
//!
//! Little-endian. A file that is torn, foreign or damaged fails its checksum or a bound and is refused as a whole; nothing in
//! it is served.
//!
//! ```text
//! "stillgood.seg.2\n" │ u32 head length │ head │ u32 keys length │ zeros │ keys (see keys.rs) │ u32 signatures length │
//! zeros │ signatures: entries × raw length │ SHA-256 of everything before it
//! ```
//!
//! The zeros let keys and signatures begin at multiples of 64.

use super::Hit;
use super::keys::{ALIGNMENT, Keys, KeysError};
use super::map::{CACHE_LINE, prefetch};
use super::wave::Wave;
use crate::ocsp::{
    CertStatus, HashAlgorithm, HashValue, IssuerHashes, ResponderId, Serial, SignatureAlgorithm, Single, Template,
    TemplateSpec,
};
use crate::time::Timestamp;
use bytes::Bytes;
use ring::digest;

const MAGIC: &[u8; 16] = b"stillgood.seg.2\n";
const CHECKSUM_LEN: usize = 32;

/// What a segment is, beside its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// SHA-256 of the issuer's SubjectPublicKeyInfo and its id in the registry: an issuer is a CA key, not a name, and two
    /// records may share a key.
    pub issuer_key: [u8; 32],
    /// Which part of the issuer's serials it covers.
    pub part: Part,
    /// Counts up per issuer; of two segments that know a serial, the higher is newer.
    pub sequence: u64,
    /// When the next signing of these entries is planned.
    pub refresh_at: Timestamp,
    /// Fingerprint of the settings that shaped it (profile, validity, …): when they change, it is signed again.
    pub settings: u64,
}

/// Which serials a segment covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// All serials whose hash begins with these `bits` bits.
    Slice {
        /// How many leading bits of the hash choose the slice, 0 to 16.
        bits: u8,
        /// Their value.
        index: u32,
    },
    /// Changes signed at once, which the next wave absorbs.
    Overlay,
}

impl Part {
    /// The slice a hash belongs to.
    #[inline]
    pub const fn slice_of(hash: u64, bits: u8) -> usize {
        if bits == 0 { 0 } else { (hash >> (64 - bits as u32)) as usize }
    }
}

/// What is fetched from memory before an answer, one after the other: where the next lies is read from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The segment itself.
    Segment,
    /// Where the bucket of the serial begins.
    Table,
    /// The serials of the bucket.
    Serials,
    Signature,
}

impl Fetched {
    /// All of them, in order.
    pub(super) const ALL: [Fetched; 4] = [Fetched::Segment, Fetched::Table, Fetched::Serials, Fetched::Signature];
}

/// Signed statuses under one template.
#[derive(Clone, Debug)]
#[repr(C, align(64))] // what an answer reads comes first, on as few cache lines as may be
pub struct Segment {
    keys: Keys,
    signatures: Bytes,
    raw_len: usize,
    this_update: Timestamp,
    next_update: Timestamp,
    refresh_at: Timestamp,
    template: Template,
    meta: SegmentMeta,
}

/// Why octets are not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// It does not begin as a segment of this version does.
    #[error("not a segment file of this version")]
    Foreign,
    /// It ends early.
    #[error("the file is cut off")]
    Truncated,
    /// The checksum is not that of the octets.
    #[error("the checksum does not match: the file is damaged")]
    Checksum,
    /// A field has an impossible value although the checksum fits.
    #[error("the {0} cannot be right")]
    Field(&'static str),
    /// The serial number table.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl Segment {
    /// Puts a segment together from what was signed. `signatures` holds one raw signature per entry of `keys`, in its
    /// order.
    pub fn new(meta: SegmentMeta, template: Template, keys: Keys, signatures: Bytes) -> Result<Self, SegmentError> {
        let raw_len = template.spec().algorithm.raw_len();
        if Some(signatures.len()) != keys.len().checked_mul(raw_len) {
            return Err(SegmentError::Field("number of signatures"));
        }
        let TemplateSpec { this_update, next_update, .. } = *template.spec();
        let refresh_at = meta.refresh_at;
        Ok(Segment { keys, signatures, raw_len, this_update, next_update, refresh_at, template, meta })
    }

    /// thisUpdate and nextUpdate of its responses, and when the next are planned.
    #[inline]
    pub(super) fn dates(&self) -> (Timestamp, Timestamp, Timestamp) {
        (self.this_update, self.next_update, self.refresh_at)
    }

    /// What it covers and when it is due.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// What its responses have in common.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Holds what its template has in common with those of `wave` together with them.
    pub(crate) fn share_with(&mut self, wave: &Wave) {
        if let Some(other) = wave.slices().iter().flatten().next() {
            self.template.share_with(other.template());
        }
    }

    /// Its serials and statuses.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Looks a serial up; `hash` is [`hash`](fn@super::hash) of it.
    #[inline]
    pub fn find(&self, serial: &Serial, hash: u64) -> Option<Hit> {
        // The signature lies elsewhere than the serial: where it probably is can be fetched while serials are compared.
        self.keys.find_near(serial, hash, |entry| {
            let guess = entry as usize * self.raw_len;
            for at in [guess, guess.saturating_add(self.raw_len), guess.saturating_sub(self.raw_len)] {
                self.signatures.get(at).into_iter().for_each(prefetch);
            }
        })
    }

    /// Has the memory fetch a part of what an answer about a serial will read, without waiting for it.
    #[inline]
    pub(super) fn prefetch(&self, serial: &Serial, hash: u64, part: Fetched) {
        match part {
            Fetched::Segment => {
                self.keys.prefetch();
                prefetch(&self.signatures);
                prefetch(&self.template);
                prefetch(self.template.dates());
            }
            Fetched::Table => self.keys.prefetch_table(serial, hash),
            Fetched::Serials => self.keys.prefetch_serials(serial, hash),
            Fetched::Signature => {
                let Some(hit) = self.keys.find(serial, hash) else { return };
                let start = hit.index as usize * self.raw_len;
                for at in (start..start + self.raw_len).step_by(CACHE_LINE) {
                    self.signatures.get(at).into_iter().for_each(prefetch);
                }
            }
        }
    }

    /// Appends the OCSPResponse for an entry found in this segment, and gives [`Template::validator`] of it. `None`, with
    /// nothing appended, if there is no such entry.
    #[inline]
    pub fn write_response(&self, serial: &Serial, hit: Hit, out: &mut Vec<u8>) -> Option<[u8; 32]> {
        let start = hit.index as usize * self.raw_len;
        let signature = self.signatures.get(start..start + self.raw_len)?;
        self.template.response(&[Single::new(serial, hit.status)], &[], signature, out);
        Some(self.template.validator(signature))
    }

    /// Serials, statuses and raw signatures, in order.
    pub fn entries(&self) -> impl Iterator<Item = (Serial, CertStatus, &[u8])> + '_ {
        self.keys.iter().zip(self.signatures.chunks_exact(self.raw_len.max(1))).map(|((s, c), sig)| (s, c, sig))
    }

    /// The octets of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = self.head();
        let mut out = Vec::with_capacity(
            MAGIC.len()
                + 12
                + head.len()
                + self.keys.region().len()
                + self.signatures.len()
                + 2 * ALIGNMENT
                + CHECKSUM_LEN,
        );
        out.extend_from_slice(MAGIC);
        put_block(&mut out, &head);
        for octets in [self.keys.region(), &self.signatures] {
            put_u32(&mut out, octets.len());
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend_from_slice(octets);
        }
        let checksum = digest::digest(&digest::SHA256, &out);
        out.extend_from_slice(checksum.as_ref());
        out
    }

    /// Reads the octets of a file. The segment keeps sharing them; nothing large is copied.
    pub fn parse(file: Bytes) -> Result<Self, SegmentError> {
        if !file.starts_with(MAGIC) {
            return Err(SegmentError::Foreign);
        }
        let body = file.len().checked_sub(CHECKSUM_LEN).ok_or(SegmentError::Truncated)?;
        let (content, checksum) = file.split_at_checked(body).ok_or(SegmentError::Truncated)?;
        let mut at = MAGIC.len();
        let head = next_block(content, &mut at)?;
        let keys = next_aligned_block(content, &mut at)?;
        let signatures = next_aligned_block(content, &mut at)?;
        if at != content.len() {
            return Err(SegmentError::Truncated);
        }
        if digest::digest(&digest::SHA256, content).as_ref() != checksum {
            return Err(SegmentError::Checksum);
        }
        let (meta, template) = parse_head(content.get(head).ok_or(SegmentError::Truncated)?)?;
        Self::new(meta, template, Keys::parse(file.slice(keys))?, file.slice(signatures))
    }

    fn head(&self) -> Vec<u8> {
        let (m, s) = (&self.meta, self.template.spec());
        let mut out = Vec::new();
        out.extend_from_slice(&m.issuer_key);
        let (kind, bits, index) = match m.part {
            Part::Slice { bits, index } => (0, bits, index),
            Part::Overlay => (1, 0, 0),
        };
        out.extend_from_slice(&[kind, bits, s.issuer.algorithm as u8, s.algorithm.code()]);
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&m.sequence.to_le_bytes());
        out.extend_from_slice(&m.settings.to_le_bytes());
        for t in [m.refresh_at, s.this_update, s.next_update, s.produced_at] {
            out.extend_from_slice(&t.unix().to_le_bytes());
        }
        put_u32(&mut out, s.algorithm.raw_len());
        put_block(&mut out, s.issuer.name.as_bytes());
        put_block(&mut out, s.issuer.key.as_bytes());
        match &s.responder {
            ResponderId::Key(hash) => put_block(&mut out, &[b"k", &hash[..]].concat()),
            ResponderId::Name(name) => put_block(&mut out, &[b"n", &name[..]].concat()),
        }
        put_block(&mut out, s.certificate.as_deref().unwrap_or_default());
        put_block(&mut out, &s.single_extensions);
        out
    }
}

fn parse_head(head: &[u8]) -> Result<(SegmentMeta, Template), SegmentError> {
    let mut at = 0;
    let issuer_key: [u8; 32] = fixed(head, &mut at)?;
    let [kind, bits, hash_code, algorithm_code]: [u8; 4] = fixed(head, &mut at)?;
    let index = u32::from_le_bytes(fixed(head, &mut at)?);
    let sequence = u64::from_le_bytes(fixed(head, &mut at)?);
    let settings = u64::from_le_bytes(fixed(head, &mut at)?);
    let mut time = || fixed(head, &mut at).map(|octets| Timestamp::from_unix(i64::from_le_bytes(octets)));
    let (refresh_at, this_update, next_update, produced_at) = (time()?, time()?, time()?, time()?);
    let raw_len = u32::from_le_bytes(fixed(head, &mut at)?) as usize;

    let part = match kind {
        0 if bits <= 16 && u64::from(index) < 1 << bits => Part::Slice { bits, index },
        1 => Part::Overlay,
        _ => return Err(SegmentError::Field("slice")),
    };
    let algorithm =
        SignatureAlgorithm::from_code(algorithm_code, raw_len).ok_or(SegmentError::Field("signature algorithm"))?;
    let hash_algorithm = HashAlgorithm::from_index(hash_code).ok_or(SegmentError::Field("hash algorithm"))?;
    let mut block = || next_block(head, &mut at).map(|range| head.get(range).unwrap_or_default());
    let hash_value =
        |octets: &[u8]| HashValue::from_bytes(hash_algorithm, octets).ok_or(SegmentError::Field("issuer hash"));
    let issuer = IssuerHashes { algorithm: hash_algorithm, name: hash_value(block()?)?, key: hash_value(block()?)? };
    let responder = match block()? {
        [b'k', hash @ ..] => ResponderId::Key(hash.try_into().map_err(|_| SegmentError::Field("responder id"))?),
        [b'n', name @ ..] => ResponderId::Name(name.to_vec()),
        _ => return Err(SegmentError::Field("responder id")),
    };
    let certificate = Some(block()?.to_vec()).filter(|c| !c.is_empty());
    let single_extensions = block()?.to_vec();
    if at != head.len() {
        return Err(SegmentError::Field("header"));
    }
    let spec = TemplateSpec {
        issuer,
        responder,
        this_update,
        next_update,
        produced_at,
        algorithm,
        certificate,
        single_extensions,
    };
    Ok((SegmentMeta { issuer_key, part, sequence, refresh_at, settings }, Template::new(spec)))
}

fn put_u32(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_block(out: &mut Vec<u8>, octets: &[u8]) {
    put_u32(out, octets.len());
    out.extend_from_slice(octets);
}

fn fixed<const N: usize>(input: &[u8], at: &mut usize) -> Result<[u8; N], SegmentError> {
    let octets = input.get(*at..*at + N).and_then(|b| b.try_into().ok()).ok_or(SegmentError::Truncated)?;
    *at += N;
    Ok(octets)
}

fn next_block(input: &[u8], at: &mut usize) -> Result<std::ops::Range<usize>, SegmentError> {
    let len = u32::from_le_bytes(fixed(input, at)?) as usize;
    let end = at.checked_add(len).filter(|end| *end <= input.len()).ok_or(SegmentError::Truncated)?;
    let range = *at..end;
    *at = end;
    Ok(range)
}

/// The same where zeros stand before the octets, so that they begin at a multiple of [`ALIGNMENT`].
fn next_aligned_block(input: &[u8], at: &mut usize) -> Result<std::ops::Range<usize>, SegmentError> {
    let len = u32::from_le_bytes(fixed(input, at)?) as usize;
    let start = at.next_multiple_of(ALIGNMENT);
    let zeros = input.get(*at..start).ok_or(SegmentError::Truncated)?;
    if zeros.iter().any(|octet| *octet != 0) {
        return Err(SegmentError::Field("space between blocks"));
    }
    let end = start.checked_add(len).filter(|end| *end <= input.len()).ok_or(SegmentError::Truncated)?;
    *at = end;
    Ok(start..end)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ocsp::Reason;
    use crate::store::hash;
    use proptest::prelude::*;

    pub(in crate::store) fn segment(n: u32, by_name: bool) -> Segment {
        let entries: Vec<_> = (0..n)
            .map(|i| {
                let status = if i % 7 == 3 {
                    CertStatus::Revoked { at: Timestamp::from_unix(i64::from(i)), reason: Some(Reason::Superseded) }
                } else {
                    CertStatus::Good
                };
                (Serial::from_unsigned(&(i + 1).to_be_bytes()).unwrap(), status)
            })
            .collect();
        let keys = Keys::build(&entries).unwrap();
        let template = Template::new(TemplateSpec {
            issuer: IssuerHashes::new(HashAlgorithm::Sha256, b"name", b"key"),
            responder: if by_name { ResponderId::Name(vec![0x30, 0]) } else { ResponderId::Key([0x30; 20]) },
            this_update: Timestamp::from_unix(1_000),
            next_update: Timestamp::from_unix(2_000),
            produced_at: Timestamp::from_unix(1_300),
            algorithm: SignatureAlgorithm::EcdsaP256Sha256,
            certificate: Some(vec![0x30, 1, 2]),
            single_extensions: Vec::new(),
        });
        let meta = SegmentMeta {
            issuer_key: [9; 32],
            part: Part::Slice { bits: 3, index: 5 },
            sequence: 77,
            refresh_at: Timestamp::from_unix(1_500),
            settings: 42,
        };
        let signatures: Vec<u8> = (0..keys.len() * 64).map(|i| i as u8).collect();
        Segment::new(meta, template, keys, Bytes::from(signatures)).unwrap()
    }

    #[test]
    fn a_segment_survives_the_disk_octet_for_octet() {
        for by_name in [false, true] {
            let before = segment(100, by_name);
            let after = Segment::parse(Bytes::from(before.to_bytes())).unwrap();
            assert_eq!(after.meta(), before.meta());
            assert_eq!(after.template().spec(), before.template().spec());
            assert_eq!(after.to_bytes(), before.to_bytes());
            for (serial, status, _) in before.entries() {
                let hit = after.find(&serial, hash(&serial)).unwrap();
                assert_eq!(hit.status, status);
                let mut a = Vec::new();
                let tags = [&after, &before].map(|segment| segment.write_response(&serial, hit, &mut a).unwrap());
                let (after, before) = a.split_at(a.len() / 2);
                assert_eq!(after, before);
                assert_eq!(tags[0], tags[1]);
            }
        }
    }

    proptest! {
        #[test]
        fn a_torn_or_damaged_file_is_refused(at in any::<proptest::sample::Index>(), bit in 0_u8..8, cut in any::<proptest::sample::Index>()) {
            let mut octets = segment(40, false).to_bytes();
            let cut_off = octets[..cut.index(octets.len())].to_vec();
            prop_assert!(Segment::parse(Bytes::from(cut_off)).is_err());
            let i = at.index(octets.len());
            octets[i] ^= 1 << bit;
            prop_assert!(Segment::parse(Bytes::from(octets)).is_err());
        }
    }
}
