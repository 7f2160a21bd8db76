//! A small PKI and a way to ask, shared by the tests.
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod cfssl;
pub mod est_server;
pub mod fleet;
pub mod registry_server;
pub mod serving;
pub mod site;
pub mod skip;

use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::ocsp::{CertStatus, HashAlgorithm, IssuerHashes, Reason, Serial, SignatureAlgorithm};
use stillgood::presign::{ActiveSigner, Issuer, IssuerSettings, Presigner, Table, Unlisted};
use stillgood::signer::{KeyKind, SignError, Signer, SigningKey};
use stillgood::time::{Clock, SystemClock, Timestamp};
use stillgood::x509::Certificate;
use stillgood::x509::issue::{Attribute, CertificateSpec, name};

pub const DAY: Duration = Duration::from_secs(86_400);

pub fn serial(n: u64) -> Serial {
    Serial::from_unsigned(&n.to_be_bytes()).unwrap()
}

/// 16 octets that look random, as public CAs issue them.
pub fn long_serial(n: u64) -> Serial {
    let mut octets = [0_u8; 16];
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03;
    for chunk in octets.chunks_mut(8) {
        x ^= x >> 31;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29) ^ n;
        chunk.copy_from_slice(&x.to_be_bytes());
    }
    octets[0] = octets[0] & 0x3f | 0x40;
    Serial::from_unsigned(&octets).unwrap()
}

pub fn revoked(at: Timestamp) -> CertStatus {
    CertStatus::Revoked { at, reason: Some(Reason::KeyCompromise) }
}

/// A CA with a delegated signer.
pub struct Lab {
    pub ca_key: SigningKey,
    pub ca: Certificate,
    pub signer_key: Arc<dyn Signer>,
    pub signer: Certificate,
}

impl Lab {
    pub fn new(common_name: &str) -> Self {
        Self::with(common_name, KeyKind::EcdsaP256, SystemClock.now(), 30 * DAY)
    }

    pub fn with(common_name: &str, kind: KeyKind, now: Timestamp, signer_life: Duration) -> Self {
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = |cn: &str| {
            name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, cn)])
        };
        let from = now.minus(DAY);
        let ca = CertificateSpec::ca(subject(common_name), ca_key.spki_der(), serial(1), from, now.plus(3650 * DAY))
            .issue(&ca_key)
            .unwrap();
        let (signer_key, _) = SigningKey::generate(kind).unwrap();
        let spec = CertificateSpec::ocsp_signer(
            &ca,
            subject(&format!("{common_name} OCSP")),
            signer_key.spki_der(),
            serial(2),
            from,
            now.plus(signer_life),
        );
        let signer = spec.issue(&ca_key).unwrap();
        Lab { ca_key, ca, signer_key: Arc::new(signer_key), signer }
    }

    pub fn issuer(&self, id: &str, settings: IssuerSettings) -> Arc<Issuer> {
        Arc::new(Issuer::new(id, self.ca.clone(), settings))
    }

    pub fn active_signer(&self) -> Arc<ActiveSigner> {
        Arc::new(ActiveSigner::new(self.signer_key.clone(), self.signer.clone(), &self.ca))
    }

    pub fn hashes(&self, algorithm: HashAlgorithm) -> IssuerHashes {
        self.ca.issuer_hashes(algorithm)
    }
}

/// A table of `n` long serials of which every `revoked_every`-th is revoked.
pub fn table(n: u64, revoked_every: u64, in_use: Option<u8>) -> Table {
    let entries: Vec<_> = (0..n)
        .map(|i| {
            let dead = revoked_every != 0 && i % revoked_every == 0;
            (long_serial(i), if dead { revoked(Timestamp::from_unix(1_700_000_000)) } else { CertStatus::Good })
        })
        .collect();
    let bits = Table::bits_for(entries.len(), in_use);
    Table::build(&entries, bits, Unlisted::NotIssued).unwrap()
}

/// The DER of a request for these serials, written independently of the library's own writer.
pub fn request(hashes: &IssuerHashes, serials: &[Serial], nonce: Option<&[u8]>) -> Vec<u8> {
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            n @ 0..=127 => out.push(n as u8),
            n @ 128..=255 => out.extend([0x81, n as u8]),
            n => out.extend([0x82, (n >> 8) as u8, n as u8]),
        }
        out.extend_from_slice(content);
        out
    }
    let list: Vec<u8> = serials
        .iter()
        .flat_map(|serial| {
            let algorithm = tlv(0x30, &[tlv(0x06, hashes.algorithm.oid()), vec![0x05, 0]].concat());
            let mut content = Vec::new();
            serial.write_der_content(&mut content);
            let id =
                [algorithm, tlv(0x04, hashes.name.as_bytes()), tlv(0x04, hashes.key.as_bytes()), tlv(0x02, &content)]
                    .concat();
            tlv(0x30, &tlv(0x30, &id))
        })
        .collect();
    let mut tbs = tlv(0x30, &list);
    if let Some(nonce) = nonce {
        let oid = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
        let extension = tlv(0x30, &[oid.to_vec(), tlv(0x04, &tlv(0x04, nonce))].concat());
        tbs.extend(tlv(0xa2, &tlv(0x30, &extension)));
    }
    tlv(0x30, &tlv(0x30, &tbs))
}

/// A key with something to do before each signature: wait, or fail.
pub struct Watched<F> {
    pub key: Arc<dyn Signer>,
    pub before: F,
}

impl<F: Fn() -> Result<(), SignError> + Send + Sync> Signer for Watched<F> {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key_bits(&self) -> &[u8] {
        self.key.public_key_bits()
    }

    fn sign_raw(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), SignError> {
        (self.before)()?;
        self.key.sign_raw(message, out)
    }
}

/// Waits until everything is signed ahead.
pub fn settle(presigner: &Presigner) {
    eventually(Duration::from_secs(60), "all signed", || {
        let stats = presigner.stats();
        stats.backlog == 0 && stats.missing == 0 && stats.slices > 0
    });
}

/// Waits until something holds, at most for `limit`.
pub fn eventually(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
