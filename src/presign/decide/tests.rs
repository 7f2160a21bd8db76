use super::*;
use crate::client;
use crate::ocsp::{HashAlgorithm, Profile, Serial};
use crate::presign::{ActiveSigner, PresignSettings, Presigner, Table, Unlisted};
use crate::signer::{KeyKind, SigningKey};
use crate::store::{Lookup, Store};
use crate::time::ManualClock;
use crate::x509::Certificate;
use crate::x509::issue::{Attribute, CertificateSpec, name};
use std::time::{Duration, Instant};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);
const REVOKED: CertStatus = CertStatus::Revoked { at: Timestamp::from_unix(1_700_000_000), reason: None };
const GOOD: CertStatus = CertStatus::Good;
/// What CRLs that are good for everything else say of it.
const UNREVOKED: Unlisted = Unlisted::Good { from: Timestamp::MIN, until: Timestamp::MAX };
const SERIALS: u64 = 8;

fn serial(n: u64) -> Serial {
    Serial::from_unsigned(&n.to_be_bytes()).unwrap()
}

fn table(entries: &[(u64, CertStatus)], unlisted: Unlisted) -> Table {
    let entries: Vec<_> = entries.iter().map(|(n, status)| (serial(*n), *status)).collect();
    Table::build(&entries, 1, unlisted).unwrap()
}

/// A CA of which two records tell.
struct Ca {
    certificate: Certificate,
    signer: Arc<ActiveSigner>,
}

impl Ca {
    fn new() -> Self {
        let (from, until) = (NOW.minus(Duration::from_secs(86_400)), NOW.plus(Duration::from_secs(90 * 86_400)));
        let subject = |cn| name(&[(Attribute::CommonName, cn)]);
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let spec = CertificateSpec::ca(subject("Two"), ca_key.spki_der(), serial(1), from, until);
        let certificate = spec.issue(&ca_key).unwrap();
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let spec = CertificateSpec::ocsp_signer(&certificate, subject("OCSP"), key.spki_der(), serial(2), from, until);
        let signer = Arc::new(ActiveSigner::new(Arc::new(key), spec.issue(&ca_key).unwrap(), &certificate));
        Ca { certificate, signer }
    }
}

/// Both records, in the order of the registry.
struct Two<'c> {
    ca: &'c Ca,
    presigner: Presigner,
    store: Store,
    records: [Arc<Issuer>; 2],
    issuers: HashMap<Arc<str>, Arc<Issuer>>,
}

impl<'c> Two<'c> {
    fn new(ca: &'c Ca, settings: [IssuerSettings; 2]) -> Self {
        let presign = PresignSettings { workers: 1, background_nice: 0, segments: None };
        let presigner = Presigner::start(&presign, Arc::new(ManualClock::at(NOW)));
        let [first, second] = settings;
        let record = |id, settings| Arc::new(Issuer::new(id, ca.certificate.clone(), settings));
        let records = [record("first", first), record("second", second)];
        let store = Store::default();
        store.set_routes(Routes::new(records.iter().map(|issuer| issuer.slot().clone()).collect()));
        for issuer in &records {
            presigner.add(issuer);
        }
        let issuers = records.iter().map(|issuer| (issuer.slot().id().clone(), issuer.clone())).collect();
        Two { ca, presigner, store, records, issuers }
    }

    fn sign(&self, record: usize, is_able: bool) {
        self.presigner.set_signer(&self.records[record], is_able.then(|| self.ca.signer.clone()));
    }

    fn set(&self, record: usize, table: Table) {
        self.presigner.set_table(&self.records[record], table);
    }

    /// Waits until all is signed that can be.
    fn settle(&self) {
        let began = Instant::now();
        while self.presigner.stats().backlog > 0 {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the store says, and what is to be said.
    fn ask(&self, algorithm: HashAlgorithm, n: u64) -> (Lookup, Result<CertStatus, ErrorStatus>) {
        let der = client::request(self.records[0].slot().hashes(algorithm), &serial(n), None);
        let request = Request::parse(&der).unwrap();
        let said = self.store.answer(&request, NOW, &mut Vec::new());
        let decided = decide(&request, &self.store.routes(), &self.issuers, NOW);
        (said, decided.map(|(_, decisions)| decisions[0].status))
    }
}

fn settings(certid_hashes: &[HashAlgorithm], unissued: Unissued) -> IssuerSettings {
    let certid_hashes = certid_hashes.to_vec();
    IssuerSettings { profile: Profile::Rfc6960, unissued, certid_hashes, ..IssuerSettings::default() }
}

fn plain() -> IssuerSettings {
    settings(&[HashAlgorithm::Sha1], Unissued::Unauthorized)
}

fn status(said: Lookup) -> Option<CertStatus> {
    match said {
        Lookup::Ready { status, .. } => Some(status),
        Lookup::NotHere | Lookup::OnDemand => None,
    }
}

#[test]
fn a_record_that_lists_a_certificate_goes_before_one_whose_crl_does_not_wherever_it_stands() {
    let ca = Ca::new();
    for (crl, index) in [(0, 1), (1, 0)] {
        let two = Two::new(&ca, [plain(), plain()]);
        two.sign(crl, true);
        two.sign(index, true);
        two.set(crl, table(&[(3, REVOKED)], UNREVOKED));
        two.set(index, table(&[(1, GOOD), (2, REVOKED)], Unlisted::NotIssued));
        two.settle();
        for (n, wanted) in [(1, GOOD), (2, REVOKED), (3, REVOKED)] {
            let (said, decided) = two.ask(HashAlgorithm::Sha1, n);
            assert_eq!((status(said), decided), (Some(wanted), Ok(wanted)), "{n}");
            assert_eq!(two.ask(HashAlgorithm::Sha256, n), (Lookup::OnDemand, Ok(wanted)), "{n}");
        }
        assert_eq!(two.ask(HashAlgorithm::Sha1, 4), (Lookup::OnDemand, Ok(GOOD)), "no CRL and no index names it");
        // What the index says by now nobody knows.
        two.set(index, table(&[], Unlisted::Unclear));
        two.settle();
        assert_eq!(two.ask(HashAlgorithm::Sha1, 2), (Lookup::OnDemand, Err(ErrorStatus::TryLater)));
    }
}

#[test]
fn what_the_first_record_cannot_sign_is_not_left_to_the_second() {
    let ca = Ca::new();
    let two = Two::new(&ca, [plain(), plain()]);
    two.sign(1, true);
    two.set(0, table(&[(2, REVOKED)], Unlisted::NotIssued));
    two.set(1, table(&[(2, GOOD), (3, GOOD)], Unlisted::NotIssued));
    two.settle();
    assert_eq!(two.ask(HashAlgorithm::Sha1, 2), (Lookup::OnDemand, Ok(REVOKED)), "it never had a signer");
    two.sign(0, true);
    two.settle();
    assert_eq!(status(two.ask(HashAlgorithm::Sha1, 2).0), Some(REVOKED));
    assert_eq!(status(two.ask(HashAlgorithm::Sha1, 3).0), Some(GOOD), "which the first certainly does not list");
    two.sign(0, false);
    two.set(0, table(&[(2, REVOKED), (3, REVOKED)], Unlisted::NotIssued));
    two.settle();
    assert_eq!(two.ask(HashAlgorithm::Sha1, 3), (Lookup::OnDemand, Ok(REVOKED)), "it lost its signer");
    two.sign(0, true);
    two.settle();
    assert_eq!(status(two.ask(HashAlgorithm::Sha1, 3).0), Some(REVOKED));
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// One that lists everything the other does, as good only what it has as good.
    fn table_after(&mut self, before: Option<&Table>) -> Table {
        let unlisted = [Unlisted::NotIssued, Unlisted::NotIssued, UNREVOKED, Unlisted::Unclear, Unlisted::Nothing];
        let unlisted = unlisted[self.below(unlisted.len() as u64) as usize];
        let (mut entries, mut withheld) = (Vec::new(), Vec::new());
        for n in 0..SERIALS {
            let was = before.and_then(|before| before.status(&serial(n)));
            match (was, self.below(8)) {
                (Some(REVOKED), _) | (_, 0 | 1) => entries.push((n, REVOKED)),
                (_, 2) => withheld.push(serial(n)),
                (Some(GOOD), _) | (None, 3 | 4) => entries.push((n, GOOD)),
                _ => {}
            }
        }
        let mut table = table(&entries, unlisted);
        table.withheld = withheld;
        table
    }
}

#[test]
fn what_lies_ready_is_what_would_be_decided_over_two_records() {
    use HashAlgorithm::{Sha1, Sha256};
    let ca = Ca::new();
    let mut ready = 0;
    for seed in 0..150 {
        let dice = &mut Dice(seed);
        let mut some = || {
            let hashes = [&[Sha1][..], &[Sha1, Sha256], &[Sha256]][dice.below(3) as usize];
            let unissued = [Unissued::Unauthorized, Unissued::Unknown, Unissued::Good][dice.below(3) as usize];
            settings(hashes, unissued)
        };
        let two = Two::new(&ca, [some(), some()]);
        let mut can_sign = [true; 2];
        for turn in 0..3 {
            for record in [0, 1] {
                can_sign[record] = dice.below(4) > 0 && (can_sign[record] || turn == 0);
                two.sign(record, can_sign[record]);
                if dice.below(8) > 0 {
                    let before = two.records[record].view().table.clone();
                    two.set(record, dice.table_after(before.as_deref()));
                }
            }
            two.settle();
            for (algorithm, n) in (0..SERIALS).flat_map(|n| [(Sha1, n), (Sha256, n)]) {
                let (said, decided) = two.ask(algorithm, n);
                let at = format!("seed {seed}, turn {turn}, {algorithm:?}, serial {n}, signers {can_sign:?}");
                match (said, decided) {
                    (Lookup::OnDemand, _) => {}
                    (Lookup::Ready { status, .. }, Ok(decided)) if status == decided => ready += 1,
                    (Lookup::NotHere, Err(ErrorStatus::Unauthorized)) => {}
                    // Other news than revocations wait for a signer.
                    (Lookup::Ready { status: REVOKED, .. }, _) if can_sign != [true; 2] => {}
                    (Lookup::NotHere, decided) if can_sign != [true; 2] && decided != Ok(REVOKED) => {}
                    (said, decided) => panic!("{at}: {said:?} lies ready, and {decided:?} is to be said"),
                }
            }
        }
    }
    assert!(ready > 1000, "{ready} answers lay ready");
}
