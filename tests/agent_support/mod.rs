//! The agent as a library: issuers of a lab, CA services that do what a test wants, a witness that remembers.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillgood::agent::{Agent, Evidence, Handle, Look, Parts, Reading, Service, Settings, Trial};
use stillgood::audit::{AuditEvent, Witness};
use stillgood::config::{Config, Rate};
use stillgood::enrolment::{Enrolment, Failure, Kind, Order, Outcome, Scope, Submitted, Validity, sign};
use stillgood::ocsp::Serial;
use stillgood::registry::{Document, Generation, Issuer, IssuerId, RecordRules};
use stillgood::renewal::{EndpointId, EndpointSpec, Limits, SlotId};
use stillgood::signer::slots::Slots;
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, ManualClock, Timestamp};
use stillgood::x509::Certificate;
use stillgood::x509::issue::{Attribute, CertificateSpec, name};

pub const START: Timestamp = Timestamp::from_unix(1_800_000_000);
pub const DAY: Duration = Duration::from_secs(86_400);
/// A machine with two cores and much else to do.
pub const LONG: Duration = Duration::from_secs(60);

/// What the CA does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Issues for 30 days.
    Issue,
    /// Issues what is to be renewed at once.
    AlwaysDue,
    /// Does not answer before the deadline.
    Hang,
    /// As it is when nobody takes the connection: hangs, and the request does not leave before the deadline.
    Unreachable,
    /// Its answer makes the reader spin.
    Spin,
    /// Its answer makes the reader panic.
    Panic,
    /// Does not believe that we are who we say.
    Unproven,
}

/// The CAs behind one service.
pub struct Lab {
    pub ca_key: SigningKey,
    pub ca: Certificate,
    pub modes: Mutex<BTreeMap<String, Mode>>,
    /// Issuer and SubjectPublicKeyInfo of every request.
    pub asked: Mutex<Vec<(String, Vec<u8>)>>,
    /// How often it was to be asked, whether or not the request left.
    pub dialling: Mutex<BTreeMap<String, usize>>,
    /// What is shown to it as proof; it looks at the mode only.
    pub secret: PathBuf,
    clock: Arc<ManualClock>,
}

impl Enrolment for Lab {
    fn submit<'a>(&'a self, order: &'a Order, deadline: Instant) -> Submitted<'a> {
        Box::pin(async move {
            let mode = || self.modes.lock().unwrap().get(&order.issuer).copied().unwrap_or(Mode::Issue);
            *self.dialling.lock().unwrap().entry(order.issuer.clone()).or_default() += 1;
            while mode() == Mode::Unreachable && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if !order.leave.take() {
                return Outcome::Failed(Failure::new(Scope::Issuer, Kind::Transient, "withdrawn"));
            }
            self.asked.lock().unwrap().push((order.issuer.clone(), order.spki_der.clone()));
            let mode = mode();
            match mode {
                Mode::Hang => tokio::time::sleep_until(deadline.into()).await,
                Mode::Spin => loop {
                    // Not even a place where the future could be dropped.
                    std::thread::sleep(Duration::from_millis(10));
                    if self.modes.lock().unwrap().get(&order.issuer) != Some(&Mode::Spin) {
                        break;
                    }
                },
                Mode::Panic => panic!("an answer like no other"),
                Mode::Unproven => {
                    let failure = Failure::new(Scope::OwnCredential, Kind::Permanent, "who are you?");
                    return Outcome::Failed(failure);
                }
                Mode::Issue | Mode::AlwaysDue | Mode::Unreachable => {}
            }
            let validity = match mode {
                Mode::AlwaysDue => Validity { life: 2 * DAY, backdate: 60 * DAY },
                _ => Validity { life: 30 * DAY, backdate: Duration::ZERO },
            };
            let count = self.asked.lock().unwrap().len() as u64;
            let serial = Serial::from_unsigned(&(1000 + count).to_be_bytes()).unwrap();
            Outcome::Issued(vec![sign(order, &self.ca, &self.ca_key, serial, self.clock.now(), validity).unwrap()])
        })
    }

    fn endpoint(&self) -> &str {
        "lab"
    }

    fn connections(&self) -> usize {
        0
    }

    fn max_connections(&self) -> usize {
        1000
    }

    fn secret_file(&self) -> Option<&Path> {
        Some(&self.secret)
    }
}

/// Remembers everything.
#[derive(Default)]
pub struct Memory(pub Mutex<Vec<AuditEvent>>);

impl Witness for Memory {
    fn saw(&self, event: &AuditEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Memory {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|e| serde_json::to_string(e).unwrap()).collect()
    }

    pub fn told(&self, words: &str) -> bool {
        self.lines().iter().any(|line| line.contains(words))
    }
}

/// A responder that accepts everything, or says why not.
#[derive(Default)]
pub struct Verdict(pub Mutex<BTreeMap<String, String>>);

impl Trial for Verdict {
    fn attempt(&self, issuer: &Arc<Issuer>, _: &Certificate, _: &Arc<SigningKey>, _: Timestamp) -> Result<(), String> {
        let verdict = self.0.lock().unwrap().get(issuer.id.as_str()).cloned();
        match verdict.as_deref() {
            Some("panic") => panic!("a certificate like no other"),
            Some("hang") => {
                while self.0.lock().unwrap().get(issuer.id.as_str()).is_some_and(|verdict| verdict == "hang") {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(())
            }
            Some(why) => Err(why.to_owned()),
            None => Ok(()),
        }
    }
}

/// The registry as it was last set, or what is wrong with it.
pub struct Current(pub Mutex<Reading>, pub Mutex<Option<Look>>);

impl Evidence for Current {
    fn look(&self) -> Look {
        self.1.lock().unwrap().clone().unwrap_or_else(|| Look::Read(self.0.lock().unwrap().clone()))
    }
}

pub struct Bench {
    pub directory: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub lab: Arc<Lab>,
    pub memory: Arc<Memory>,
    pub verdict: Arc<Verdict>,
    pub current: Arc<Current>,
    pub limits: Limits,
    /// Requests at a time.
    pub max_in_flight: u32,
    /// How long one may take.
    pub timeout: Duration,
    /// How long the next process must have seen that an issuer is gone.
    pub gone_for: Mutex<Duration>,
}

impl Bench {
    pub fn new(issuers: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let (ca_key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let subject = name(&[(Attribute::CommonName, "Lab")]);
        let serial = Serial::from_unsigned(&[1]).unwrap();
        let spec =
            CertificateSpec::ca(subject, ca_key.spki_der(), serial, START.minus(90 * DAY), START.plus(3650 * DAY));
        let ca = spec.issue(&ca_key).unwrap();
        let current = Reading { generation: generation(1, issuers, &ca, ""), synced_at: START };
        let limits = Limits {
            ramp: Duration::ZERO,
            activation_skew: Duration::ZERO,
            // No step seems to have taken too long because the clock was set: those that hang are given up by the clock that
            // nobody sets.
            step_patience: 36_500 * DAY,
            ..Limits::default()
        };
        let (modes, asked) = (Mutex::default(), Mutex::default());
        Bench {
            lab: Arc::new(Lab {
                ca_key,
                ca,
                modes,
                asked,
                dialling: Mutex::default(),
                secret: directory.path().join("secret"),
                clock: clock.clone(),
            }),
            directory,
            clock,
            memory: Arc::default(),
            verdict: Arc::default(),
            current: Arc::new(Current(Mutex::new(current), Mutex::default())),
            limits,
            max_in_flight: 16,
            timeout: Duration::from_secs(2),
            gone_for: Mutex::new(stillgood::agent::GONE_FOR),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn settings(&self) -> Settings {
        let spec = EndpointSpec {
            id: EndpointId::new("lab").unwrap(),
            rate: Rate { count: 100, per: Duration::from_secs(1) },
            max_in_flight: self.max_in_flight,
            attempts_per_day: 10_000,
            credential: None,
        };
        let service = Service { spec, enrolment: self.lab.clone(), timeout: self.timeout };
        let renewal = stillgood::config::Renewal::default();
        Settings { limits: self.limits.clone(), renewal, services: vec![service] }
    }

    pub fn start(&self) -> Running {
        let slots = Slots::open(&self.path().join("signers")).unwrap();
        let (credentials, _) = Slots::open(&self.path().join("credentials")).unwrap();
        let parts = Parts {
            node: "node-1".into(),
            ledger: self.path().join("ledger.redb"),
            slots: slots.0.clone(),
            credentials,
            faults: slots.1,
            trial: self.verdict.clone(),
            evidence: self.current.clone(),
            witness: self.memory.clone(),
            clock: self.clock.clone(),
            gone_for: *self.gone_for.lock().unwrap(),
        };
        let (agent, handle) = Agent::start(self.settings(), parts).unwrap();
        handle.registry(self.current.0.lock().unwrap().clone());
        Running { agent: Some(agent), handle, slots: slots.0 }
    }

    pub fn set(&self, issuer: &str, mode: Mode) {
        self.lab.modes.lock().unwrap().insert(issuer.to_owned(), mode);
    }

    pub fn asked(&self, issuer: &str) -> Vec<Vec<u8>> {
        self.lab.asked.lock().unwrap().iter().filter(|(i, _)| i == issuer).map(|(_, spki)| spki.clone()).collect()
    }

    /// Another time of day; the registry is read again. No step is under way then.
    pub fn advance(&self, by: Duration, running: &Running) {
        let slots: Vec<SlotId> =
            self.current.0.lock().unwrap().generation.issuers.iter().map(|i| slot(i.id.as_str())).collect();
        let phases = || -> Vec<&str> {
            let phase =
                |slot: &SlotId| running.wait(running.handle.explain(slot.clone())).map_or("unknown", |e| e.phase);
            slots.iter().map(phase).collect()
        };
        let is_step = |phase: &&str| ["preparing", "issued", "verified", "activating"].contains(phase);
        eventually("no step is under way", || {
            let phases = phases();
            !phases.contains(&"unknown") && !phases.iter().any(is_step)
        });
        let now = self.clock.now().plus(by);
        self.clock.set(now);
        let mut current = self.current.0.lock().unwrap();
        current.synced_at = now;
        running.handle.registry(current.clone());
    }
}

pub struct Running {
    pub agent: Option<Agent>,
    pub handle: Handle,
    pub slots: Slots,
}

impl Running {
    pub fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            assert!(agent.stop(LONG), "it stops");
        }
    }

    /// The serial number of the signer in use.
    pub fn signer(&self, issuer: &str) -> Option<String> {
        self.slots.slot(issuer).current().map(|c| c.certificate.serial().to_string())
    }

    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    pub fn reasons(&self, issuer: &str) -> String {
        self.wait(self.handle.explain(slot(issuer))).map(|e| e.reasons.join("\n")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop(Duration::from_secs(5));
        }
    }
}

pub fn slot(issuer: &str) -> SlotId {
    SlotId::Signer(IssuerId::new(issuer).unwrap())
}

/// Another key under the name of the lab's CA.
pub fn rekeyed() -> Certificate {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let serial = Serial::from_unsigned(&[2]).unwrap();
    let subject = name(&[(Attribute::CommonName, "Lab")]);
    let spec = CertificateSpec::ca(subject, key.spki_der(), serial, START.minus(DAY), START.plus(3650 * DAY));
    spec.issue(&key).unwrap()
}

/// A generation with these issuers; `more` stands in each record.
pub fn generation(number: u64, issuers: &[&str], ca: &Certificate, more: &str) -> Arc<Generation> {
    generation_without(number, &[], issuers, ca, more)
}

/// The same, and these are retired.
pub fn generation_without(
    number: u64,
    retired: &[&str],
    issuers: &[&str],
    ca: &Certificate,
    more: &str,
) -> Arc<Generation> {
    let text = "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"k\"\n";
    let config = Config::parse(text, Path::new("stillgood.toml")).unwrap();
    let record = |id: &&str| {
        format!(
            r#"{{ "id": "{id}", "state": "active", "certificate": "{id}.pem", "enrolment": "lab", "profile": "ocsp",
                "status": {{ "crl": "x.crl" }}{more} }}"#
        )
    };
    let gone = retired.iter().map(|id| format!(r#"{{ "id": "{id}", "state": "retired" }}"#));
    let records: Vec<String> = issuers.iter().map(record).chain(gone).collect();
    let text = format!(r#"{{ "generation": {number}, "issuers": [ {} ] }}"#, records.join(", "));
    let document = Document::parse(text.as_bytes(), Path::new("issuers.json"), &RecordRules::of(&config)).unwrap();
    let generation = document.resolve(&mut |_| Ok(ca.der().to_vec()));
    assert!(generation.quarantined.is_empty(), "{:?}", generation.quarantined);
    Arc::new(generation)
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
