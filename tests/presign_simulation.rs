//! The presigner and the store against a model: random changes of sources, signers, settings, clock and files, restarts in
//! between. After each the answers must be those of the model.
//!
//! A failure prints its seed: `STILLGOOD_SEED=… cargo test --test presign_simulation`. `STILLGOOD_STEPS` makes the walk longer.

mod common;

use common::site::basic;
use common::{DAY, Lab, eventually, long_serial, request, revoked, serial};
use der07::Encode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::ocsp::{CertStatus, HashAlgorithm, Request};
use stillgood::presign::{ActiveSigner, Issuer, IssuerSettings, PresignSettings, Presigner, Table, Unlisted};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::store::{Lookup, Routes, Store};
use stillgood::time::{Clock, ManualClock, SystemClock, Timestamp};
use stillgood::x509::issue::{Attribute, CertificateSpec, name};
use stillgood::x509::{Certificate, verify};

const LIMIT: Duration = Duration::from_secs(60);
const SERIALS: u64 = 300;
const STEPS: u64 = 150;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct World {
    random: Random,
    dir: PathBuf,
    clock: Arc<ManualClock>,
    lab: Lab,
    store: Store,
    issuer: Arc<Issuer>,
    presigner: Option<Presigner>,
    // The model.
    listed: BTreeMap<u64, CertStatus>,
    bits: u8,
    settings: IssuerSettings,
    signer: Option<(Arc<ActiveSigner>, Timestamp)>,
}

impl World {
    fn new(seed: u64, dir: &Path) -> Self {
        let now = SystemClock.now();
        let lab = Lab::with("World", KeyKind::EcdsaP256, now, 30 * DAY);
        let settings = IssuerSettings::default();
        let issuer = lab.issuer("world", settings.clone());
        let mut world = World {
            random: Random(seed | 1),
            dir: dir.to_path_buf(),
            clock: Arc::new(ManualClock::at(now)),
            lab,
            store: Store::default(),
            issuer,
            presigner: None,
            listed: (0..SERIALS / 2).map(|n| (n, CertStatus::Good)).collect(),
            bits: 0,
            settings,
            signer: None,
        };
        world.start();
        world.swap_signer();
        world.hand_over_table();
        world
    }

    fn presigner(&self) -> &Presigner {
        self.presigner.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new process in the same directory, which has read nothing yet.
    fn start(&mut self) {
        self.presigner = None;
        let settings = PresignSettings { workers: 2, background_nice: 0, segments: Some(self.dir.clone()) };
        let presigner = Presigner::start(&settings, self.clock.clone());
        self.issuer = self.lab.issuer("world", self.settings.clone());
        presigner.add(&self.issuer);
        self.store.set_routes(Routes::new(vec![self.issuer.slot().clone()]));
        self.presigner = Some(presigner);
    }

    fn hand_over_table(&self) {
        let entries: Vec<_> = self.listed.iter().map(|(n, status)| (long_serial(*n), *status)).collect();
        let table = Table::build(&entries, self.bits, Unlisted::NotIssued).unwrap();
        self.presigner().set_table(&self.issuer, table);
    }

    fn hand_over_signer(&self) {
        self.presigner().set_signer(&self.issuer, self.signer.as_ref().map(|(signer, _)| signer.clone()));
    }

    fn change_table(&mut self) {
        let many = if self.random.one_in(8) { SERIALS } else { 6 };
        for _ in 0..=self.random.below(many) {
            let n = self.random.below(SERIALS);
            match self.random.below(4) {
                0 => drop(self.listed.remove(&n)),
                1 => drop(self.listed.insert(n, CertStatus::Good)),
                _ => {
                    let at = self.now().minus(Duration::from_secs(self.random.below(100_000)));
                    self.listed.insert(n, revoked(at));
                }
            }
        }
        if self.random.one_in(6) {
            self.bits = self.random.below(4) as u8;
        }
        self.hand_over_table();
    }

    fn swap_signer(&mut self) {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let now = self.now();
        let until = now.plus(Duration::from_secs(600 + self.random.below(10 * 86_400)));
        let subject = name(&[(Attribute::CommonName, "World OCSP")]);
        let from = now.minus(3 * DAY);
        let spec = CertificateSpec::ocsp_signer(&self.lab.ca, subject, key.spki_der(), serial(3), from, until);
        let certificate = spec.issue(&self.lab.ca_key).unwrap();
        let signer = Arc::new(ActiveSigner::new(Arc::new(key), certificate, &self.lab.ca));
        self.signer = Some((signer, until));
        self.hand_over_signer();
    }

    fn change_settings(&mut self) {
        let hours = [20, 48, 96][self.random.below(3) as usize];
        self.settings.validity = Duration::from_secs(hours * 3600);
        self.settings.refresh = self.settings.validity / 4;
        self.settings.certid_hashes = match self.random.below(3) {
            0 => vec![HashAlgorithm::Sha1],
            1 => vec![HashAlgorithm::Sha256],
            _ => vec![HashAlgorithm::Sha1, HashAlgorithm::Sha256],
        };
        self.presigner().set_settings(&self.issuer, self.settings.clone());
    }

    fn set_clock(&mut self) {
        let now = self.now();
        let hours = |random: &mut Random, n: u64| Duration::from_secs(random.below(n * 3600));
        let next = match self.random.below(6) {
            0 => now.minus(hours(&mut self.random, 12)),
            1 => now.plus(hours(&mut self.random, 60)),
            _ => now.plus(hours(&mut self.random, 8)),
        };
        self.clock.set(next);
    }

    /// What was served is served again, octet for octet, before anything has been read.
    fn restart(&mut self) {
        self.presigner = None; // waits for what is being written
        let before = self.everything();
        self.start();
        let after = self.everything();
        let settings = self.settings.certid_hashes.clone();
        for ((algorithm, n), octets) in before.iter().filter(|((algorithm, _), _)| settings.contains(algorithm)) {
            assert_eq!(after.get(&(*algorithm, *n)), Some(octets), "{algorithm:?} {n} is not served as before");
        }
        self.hand_over_signer();
        self.hand_over_table();
    }

    fn damage(&mut self) {
        self.presigner = None;
        let dir = std::fs::read_dir(&self.dir).into_iter().flatten().flatten().next().map(|entry| entry.path());
        let mut files: Vec<_> =
            dir.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap().flatten()).map(|f| f.path()).collect();
        files.sort();
        for path in files {
            if !self.random.one_in(3) {
                continue;
            }
            let mut octets = std::fs::read(&path).unwrap();
            let at = self.random.below(octets.len().max(1) as u64) as usize;
            // Written anew, as by a restore: the file of before may still be mapped.
            std::fs::remove_file(&path).unwrap();
            match self.random.below(4) {
                0 => {}
                1 => std::fs::write(&path, &octets[..at]).unwrap(),
                2 if !octets.is_empty() => {
                    octets[at] ^= 1 << self.random.below(8);
                    std::fs::write(&path, octets).unwrap();
                }
                _ => std::fs::write(&path, "").unwrap(),
            }
        }
        self.start();
        self.hand_over_signer();
        self.hand_over_table();
    }

    fn step(&mut self) -> &'static str {
        match self.random.below(20) {
            0..=8 => self.done("table", Self::change_table),
            9..=11 => self.done("clock", Self::set_clock),
            12..=13 => self.done("signer", Self::swap_signer),
            14 => self.done("no signer", |world| {
                world.signer = None;
                world.hand_over_signer();
            }),
            15..=16 => self.done("settings", Self::change_settings),
            17..=18 => self.done("restart", Self::restart),
            _ => self.done("damage", Self::damage),
        }
    }

    fn done(&mut self, what: &'static str, act: impl FnOnce(&mut Self)) -> &'static str {
        act(self);
        what
    }

    fn ask(&self, algorithm: HashAlgorithm, n: u64, out: &mut Vec<u8>) -> Lookup {
        let der = request(&self.lab.hashes(algorithm), &[long_serial(n)], None);
        self.store.answer(&Request::parse(&der).unwrap(), self.now(), out)
    }

    fn everything(&self) -> BTreeMap<(HashAlgorithm, u64), Vec<u8>> {
        let mut all = BTreeMap::new();
        for algorithm in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
            for n in 0..SERIALS {
                let mut out = Vec::new();
                if let Lookup::Ready { this_update, next_update, .. } = self.ask(algorithm, n, &mut out) {
                    assert!(this_update <= self.now() && self.now() < next_update, "not valid now");
                    all.insert((algorithm, n), out);
                }
            }
        }
        all
    }

    fn can_sign(&self) -> bool {
        self.signer.as_ref().is_some_and(|(_, until)| *until > self.now().plus(Duration::from_secs(120)))
    }

    fn quiesce(&self) {
        let able = self.can_sign();
        eventually(LIMIT, "quiet", || {
            let stats = self.presigner().stats();
            stats.backlog == 0 && (!able || stats.missing == 0)
        });
    }

    /// True when nothing stands out.
    fn holds(&self) -> Result<(), String> {
        for algorithm in self.settings.certid_hashes.iter().copied() {
            for n in 0..SERIALS {
                let mut out = Vec::new();
                let said = match self.ask(algorithm, n, &mut out) {
                    Lookup::Ready { status, .. } => Some(status),
                    Lookup::NotHere => None,
                    Lookup::OnDemand => return Err(format!("{algorithm:?} {n}: not ready")),
                };
                if said != self.listed.get(&n).copied() {
                    return Err(format!("{algorithm:?} {n}: {said:?} instead of {:?}", self.listed.get(&n)));
                }
            }
        }
        Ok(())
    }

    fn verify_some(&mut self) {
        let all = self.everything();
        for ((_, n), der) in all.iter().filter(|_| self.random.one_in(50)) {
            let response = basic(der);
            let certificate = response.certs.as_ref().unwrap()[0].to_der().unwrap();
            let certificate = Certificate::from_der(&certificate).unwrap();
            certificate.verify_signed_by(&self.lab.ca).unwrap();
            let data = &response.tbs_response_data;
            let next = data.responses[0].next_update.as_ref().unwrap().0.to_unix_duration().as_secs() as i64;
            assert!(next <= certificate.not_after().unix(), "{n}: past the signer's notAfter");
            let algorithm = response.signature_algorithm.to_der().unwrap();
            let signature = response.signature.raw_bytes();
            verify(certificate.spki_der(), &algorithm, &data.to_der().unwrap(), signature).unwrap();
        }
    }
}

#[test]
fn whatever_happens_the_answers_are_those_of_the_sources() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("STILLGOOD_SEED").unwrap_or_else(|| SystemClock.now().unix() as u64 * 1_000_003);
    let steps = number("STILLGOOD_STEPS").unwrap_or(STEPS);
    println!("STILLGOOD_SEED={seed}");
    let tmp = tempfile::tempdir().unwrap();
    let mut world = World::new(seed, tmp.path());
    let mut story = Vec::new();
    let mut settled = 0;
    for n in 0..steps {
        story.push(world.step());
        if world.random.one_in(3) {
            continue; // the next comes while this is still being signed
        }
        world.quiesce();
        let recent = &story[story.len().saturating_sub(8)..];
        if world.can_sign() {
            // A clock that was set back is noticed within a second.
            let began = Instant::now();
            while let Err(wrong) = world.holds() {
                let story = format!("STILLGOOD_SEED={seed}, step {n}, after {recent:?}: {wrong}");
                assert!(began.elapsed() < Duration::from_secs(5), "{story}");
                std::thread::sleep(Duration::from_millis(20));
            }
            settled += 1;
        }
        world.verify_some();
    }
    assert!(settled > steps / 5, "only {settled} of {steps} steps were looked at");
}
