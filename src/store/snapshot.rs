//! What is served right now: issuers by the hashes that name them, each with its waves, swapped atomically.

use super::hash;
use super::wave::Wave;
use crate::ocsp::{CertId, CertStatus, HashAlgorithm, IssuerHashes, Request, Serial};
use crate::time::Timestamp;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Everything that can be answered from memory. Reading takes no lock and allocates nothing.
#[derive(Debug, Default)]
pub struct Store {
    routes: ArcSwap<Routes>,
}

/// The issuers, found by (hash algorithm, name hash, key hash).
///
/// A multimap: two records may have the same name and key; the one that comes first in the registry and lists the serial
/// answers.
#[derive(Debug, Default)]
pub struct Routes {
    issuers: Vec<Arc<IssuerSlot>>,
    by_key_hash: HashMap<u64, Vec<(HashAlgorithm, u32)>, BuildHasherDefault<FirstOctets>>,
}

/// One issuer's place in the store. Its identity is fixed; what it serves is swapped.
#[derive(Debug)]
pub struct IssuerSlot {
    id: Arc<str>,
    hashes: [IssuerHashes; 4],
    live: ArcSwap<Live>,
}

/// What an issuer serves.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// How misses and nonces are treated.
    pub policy: Policy,
    /// Serials of which nothing may be said because their record is damaged; sorted. Those not held ready are left to on-demand
    /// signing, which tells them from those that were not issued.
    pub withheld: Arc<[Serial]>,
    /// Serials that do not lie ready as revoked, though the sources say revoked, or that do lie ready and cannot be read about, and
    /// signing that has failed; sorted. They are left to on-demand signing, which says what the sources say or `tryLater`.
    pub held_back: Arc<[Serial]>,
    waves: [Option<Arc<Wave>>; 4],
}

/// What to do where no signed answer lies ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Echo nonces whose octets have a length in this range, which takes live signing (RFC 9654); `None` ignores all.
    pub nonces: Option<(usize, usize)>,
    /// Whether a serial that is not held ready may be signed for on demand, or at least is told to ask again: while no source
    /// has been read it may be one that they know.
    pub signs_misses: bool,
}

impl Policy {
    /// Whether the answer to this request echoes its nonce.
    #[inline]
    pub fn echoes_nonce_of(&self, request: &Request<'_>) -> bool {
        let range = self.nonces.filter(|_| request.nonce.is_some());
        range.is_some_and(|(least, most)| {
            request.nonce_octets().is_some_and(|octets| (least..=most).contains(&octets.len()))
        })
    }
}

/// What is about to be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// The first octets of the CertID's issuerKeyHash.
    key: u64,
    algorithm: HashAlgorithm,
    serial: Serial,
    hash: u64,
}

impl Hint {
    /// What may lie ready for a request: an answer about the first certificate, if its hash is known.
    #[inline]
    pub fn of(request: &Request<'_>) -> Option<Self> {
        let CertId { hash: algorithm, key_hash, serial, .. } = &request.first;
        Some(Hint { key: first_octets(key_hash), algorithm: (*algorithm)?, serial: *serial, hash: hash(serial) })
    }

    #[inline]
    fn issuer(&self) -> (u64, u8) {
        (self.key, self.algorithm as u8)
    }
}

/// What the store has for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The response has been appended.
    Ready {
        /// thisUpdate.
        this_update: Timestamp,
        /// nextUpdate.
        next_update: Timestamp,
        /// When a newer one is planned.
        refresh_at: Timestamp,
        /// What it says.
        status: CertStatus,
        /// What no other response has, see [`Template::validator`](crate::ocsp::Template::validator).
        validator: [u8; 32],
    },
    /// There is no authoritative answer here, and none can be signed.
    NotHere,
    /// Nothing lies ready, but a signer may be able to answer.
    OnDemand,
}

impl Store {
    /// The present routes.
    pub fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// Replaces the routes; readers see either the old or the new ones.
    pub fn set_routes(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// Has the memory fetch what [`Store::answer`] will read, without waiting for it; puts those of an issuer together. Several
    /// at once cost little more than one: what is in the way of one, above all finding out where its pages are, is waited for
    /// together with the others.
    pub fn prefetch(&self, hints: &mut [Hint]) {
        let routes = self.routes.load();
        hints.sort_unstable_by_key(Hint::issuer);
        for hints in hints.chunk_by(|a, b| a.issuer() == b.issuer()) {
            let Some(Hint { key, algorithm, .. }) = hints.first() else { continue };
            let places = routes.by_key_hash.get(key).map_or(&[][..], Vec::as_slice);
            let place = places.iter().find(|(at, _)| at == algorithm);
            let Some(slot) = place.and_then(|(_, n)| routes.issuers.get(*n as usize)) else { continue };
            if let Some(wave) = slot.live.load().wave(*algorithm) {
                wave.prefetch(hints.iter().map(|hint| (&hint.serial, hint.hash)));
            }
        }
    }

    /// Looks the answer to a request up and appends it to `out`. An answer whose nextUpdate has come is never given.
    pub fn answer(&self, request: &Request<'_>, now: Timestamp, out: &mut Vec<u8>) -> Lookup {
        let routes = self.routes.load();
        if request.count > 1 {
            let known = routes.candidates(&request.first).next().is_some();
            return if known { Lookup::OnDemand } else { Lookup::NotHere };
        }
        let h = hash(&request.first.serial);
        let mut verdict = Lookup::NotHere;
        for slot in routes.candidates(&request.first) {
            let live = slot.live.load();
            if live.policy.echoes_nonce_of(request) {
                return Lookup::OnDemand;
            }
            if let Some(found) = live.ready(&request.first, h, now, out) {
                return found;
            }
            if live.policy.signs_misses {
                verdict = Lookup::OnDemand;
            }
        }
        verdict
    }
}

impl Routes {
    /// Issuers in the order of the registry.
    pub fn new(issuers: Vec<Arc<IssuerSlot>>) -> Self {
        let mut by_key_hash: HashMap<u64, Vec<(HashAlgorithm, u32)>, _> = HashMap::default();
        for (n, slot) in issuers.iter().enumerate() {
            for hashes in &slot.hashes {
                let place = by_key_hash.entry(first_octets(hashes.key.as_bytes())).or_default();
                // A registry is bounded far below 2^32 records.
                place.push((hashes.algorithm, n as u32));
            }
        }
        Routes { issuers, by_key_hash }
    }

    /// All issuers, in the order of the registry.
    pub fn issuers(&self) -> &[Arc<IssuerSlot>] {
        &self.issuers
    }

    /// The issuers a CertID may mean, in the order of the registry.
    #[inline]
    pub fn candidates<'s>(&'s self, id: &'s CertId<'_>) -> impl Iterator<Item = &'s Arc<IssuerSlot>> {
        let places = id.hash.and_then(|_| self.by_key_hash.get(&first_octets(id.key_hash))).map(Vec::as_slice);
        places.unwrap_or_default().iter().filter_map(move |(algorithm, n)| {
            let slot = self.issuers.get(*n as usize)?;
            let hashes = slot.hashes.get(*algorithm as usize)?;
            (id.hash == Some(*algorithm)
                && hashes.key.as_bytes() == id.key_hash
                && hashes.name.as_bytes() == id.name_hash)
                .then_some(slot)
        })
    }
}

impl IssuerSlot {
    /// A place for an issuer of which nothing is served yet. `hashes` are in the order of [`HashAlgorithm::ALL`].
    pub fn new(id: &str, hashes: [IssuerHashes; 4], policy: Policy) -> Self {
        IssuerSlot { id: id.into(), hashes, live: ArcSwap::from_pointee(Live { policy, ..Live::default() }) }
    }

    /// The registry's name for it.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The hashes by which requests name it.
    pub fn hashes(&self, algorithm: HashAlgorithm) -> &IssuerHashes {
        let [sha1, sha256, sha384, sha512] = &self.hashes;
        match algorithm {
            HashAlgorithm::Sha1 => sha1,
            HashAlgorithm::Sha256 => sha256,
            HashAlgorithm::Sha384 => sha384,
            HashAlgorithm::Sha512 => sha512,
        }
    }

    /// What it serves now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Swaps what it serves. `change` may run more than once when two writers meet.
    pub fn update(&self, mut change: impl FnMut(&Live) -> Live) {
        self.live.rcu(|live| Arc::new(change(live)));
    }
}

impl Live {
    /// The signed statuses for requests under this hash algorithm, if any are signed ahead.
    pub fn wave(&self, algorithm: HashAlgorithm) -> Option<&Arc<Wave>> {
        self.waves.get(algorithm as usize).and_then(Option::as_ref)
    }

    /// The same with another wave.
    #[must_use]
    pub fn with_wave(&self, algorithm: HashAlgorithm, wave: Option<Arc<Wave>>) -> Self {
        let mut next = self.clone();
        if let Some(place) = next.waves.get_mut(algorithm as usize) {
            *place = wave;
        }
        next
    }

    /// Whether this must not be said of a serial although it lies ready. Without any that is held back it costs one comparison.
    #[inline]
    fn holds_back(&self, serial: &Serial, status: CertStatus) -> bool {
        !self.held_back.is_empty() && !status.is_revoked() && self.held_back.binary_search(serial).is_ok()
    }

    /// `None` if the serial is certainly not listed, so that another record's word on it counts. Where it may be listed, be it that
    /// its answer is not signed yet, has run out or is held back, no record that comes later may speak instead: it is `OnDemand`.
    fn ready(&self, id: &CertId<'_>, h: u64, now: Timestamp, out: &mut Vec<u8>) -> Option<Lookup> {
        let Some(wave) = id.hash.and_then(|algorithm| self.wave(algorithm)) else { return Some(Lookup::OnDemand) };
        let Some((segment, hit, refresh_at)) = wave.find_planned(&id.serial, h) else {
            // Until its slice has been signed a serial may be known although nothing lies ready for it.
            let is_certain = wave.covers(h)
                && self.withheld.binary_search(&id.serial).is_err()
                && self.held_back.binary_search(&id.serial).is_err();
            return (!is_certain).then_some(Lookup::OnDemand);
        };
        if self.holds_back(&id.serial, hit.status) {
            return Some(Lookup::OnDemand);
        }
        let (this_update, next_update, _) = segment.dates();
        // Not past its time, nor before it: a clock that was set back makes answers that no client would take.
        if now >= next_update || now < this_update {
            return Some(Lookup::OnDemand);
        }
        let Some(validator) = segment.write_response(&id.serial, hit, out) else { return Some(Lookup::OnDemand) };
        Some(Lookup::Ready { this_update, next_update, refresh_at, status: hit.status, validator })
    }
}

#[inline]
fn first_octets(digest: &[u8]) -> u64 {
    digest.first_chunk::<8>().map_or(0, |octets| u64::from_le_bytes(*octets))
}

/// Digests are evenly spread already.
#[derive(Default)]
struct FirstOctets(u64);

impl Hasher for FirstOctets {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        self.0 = first_octets(octets);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
