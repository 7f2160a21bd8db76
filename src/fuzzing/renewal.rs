//! Renewal: whatever happens, in whatever order, its limits hold.
//!
//! The octets are a sequence of operations on a small world: time passes, the registry and its reachability change, the CA
//! answers or does not, operators command, the process is killed and restored from its ledger. After every step all
//! actions are carried out by a model of the driver that checks what must hold at that instant.

use crate::config::Rate;
use crate::ocsp::Serial;
use crate::registry::{IssuerId, State};
use crate::renewal::{
    Action, Command, Core, CredentialSpec, EndpointId, EndpointSpec, Event, Failure, Hold, IssuerSpec, Kind, Limits,
    NodeId, OrderId, Pause, Phase, Reach, Record, RegistryView, Request, Scope, SignerLife, SlotId, Step,
};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DAY: i64 = 86_400;
const ISSUERS: u8 = 6;
/// The longest sequence: more finds nothing that is not found in less.
const MAX_STEPS: usize = 2_000;

/// Runs a sequence of operations.
pub fn renewal(data: &[u8]) {
    let mut octets = data.iter().copied();
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        let Some(op) = octets.next() else { break };
        let arg = octets.next().unwrap_or(0);
        world.step(op, arg);
        world.carry_out();
    }
}

struct World {
    core: Core,
    limits: Limits,
    specs: Vec<EndpointSpec>,
    now: Timestamp,
    /// The driver's ledger.
    ledger: BTreeMap<String, Record>,
    /// What the driver was asked for and has not reported.
    asked: Vec<(SlotId, OrderId, Step)>,
    prepared: BTreeSet<OrderId>,
    open: BTreeMap<SlotId, OrderId>,
    registry: RegistryView,
    /// Reads of the registry fail.
    registry_down: bool,
    /// What the core was last told.
    told: Option<RegistryView>,
    looked: Option<Timestamp>,
    lives: BTreeMap<SlotId, SignerLife>,
    serial: u64,
    on_wire: BTreeMap<SlotId, (EndpointId, u32)>,
    departures: BTreeMap<EndpointId, Vec<Timestamp>>,
    /// Of them, those since an operator granted the day's budget anew.
    of_day: BTreeMap<EndpointId, Vec<Timestamp>>,
    submitted: BTreeMap<SlotId, Vec<Timestamp>>,
    issued: BTreeMap<SlotId, Vec<Timestamp>>,
    last_parked: BTreeMap<SlotId, Timestamp>,
}

impl World {
    fn new() -> Self {
        let limits = Limits {
            submissions_per_day: 12,
            issuances_per_day: 3,
            evidence_max_age: Duration::from_secs(900),
            confirm_within: Duration::from_secs(30),
            ..Limits::default()
        };
        assert!(limits.faults().is_empty());
        let endpoint = |name: &str, count, per, max_in_flight, attempts_per_day, credential| EndpointSpec {
            id: EndpointId::new(name).unwrap_or_else(|e| panic!("{e}")),
            rate: Rate { count, per: Duration::from_secs(per) },
            max_in_flight,
            attempts_per_day,
            credential,
        };
        let own = CredentialSpec { profile: Some("agent".to_owned()), margin: Duration::from_secs(3_600) };
        let specs = vec![endpoint("a", 3, 60, 2, 1_000, Some(own)), endpoint("b", 30, 1, 3, 40, None)];
        let registry =
            RegistryView { generation: 1, synced_at: Timestamp::EPOCH, issuers: vec![], quarantined: vec![] };
        let mut world = World {
            core: Core::new(limits.clone(), NodeId::named("node")),
            limits,
            specs,
            now: Timestamp::from_unix(1_800_000_000),
            ledger: BTreeMap::new(),
            asked: Vec::new(),
            prepared: BTreeSet::new(),
            open: BTreeMap::new(),
            registry,
            registry_down: false,
            told: None,
            looked: None,
            lives: BTreeMap::new(),
            serial: 0,
            on_wire: BTreeMap::new(),
            departures: BTreeMap::new(),
            of_day: BTreeMap::new(),
            submitted: BTreeMap::new(),
            issued: BTreeMap::new(),
            last_parked: BTreeMap::new(),
        };
        world.registry.issuers = (0..ISSUERS).map(|n| spec(n, State::Active, n % 2 == 0)).collect();
        for n in 0..ISSUERS {
            world.new_life(&signer(n), i64::from(n) * 3 * DAY - 20 * DAY, 40 * DAY);
        }
        let credential = SlotId::Credential(world.specs[0].id.clone());
        world.new_life(&credential, -10 * DAY, 60 * DAY);
        world.tell_all();
        world
    }

    fn new_life(&mut self, slot: &SlotId, from: i64, seconds: i64) -> SignerLife {
        self.serial += 1;
        let at = |s: i64| Timestamp::from_unix(self.now.unix() + s);
        let serial = Serial::from_unsigned(&self.serial.to_be_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let life = SignerLife { serial, not_before: at(from), not_after: at(from + seconds) };
        self.lives.insert(slot.clone(), life);
        life
    }

    /// What a driver tells a new core.
    fn tell_all(&mut self) {
        let _ = self.core.handle(Event::Endpoints(self.specs.clone()), self.now);
        for record in self.ledger.values().cloned().collect::<Vec<_>>() {
            let text = serde_json::to_string(&record).unwrap_or_else(|e| panic!("{e}"));
            let back: Record = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(back, record, "a record is read back as it was written");
            self.core.handle(Event::Restored(Box::new(back)), self.now).unwrap_or_else(|e| panic!("{e}"));
        }
        self.sync();
        for (slot, life) in self.lives.clone() {
            let _ = self.core.handle(Event::Signer { slot, life: Some(life) }, self.now);
        }
    }

    fn sync(&mut self) {
        if self.registry_down {
            let _ = self.core.handle(Event::NotConfirmed, self.now);
            self.looked = Some(self.now);
            return;
        }
        self.registry.synced_at = self.now;
        if self.core.handle(Event::Registry(self.registry.clone()), self.now).is_ok() {
            self.told = Some(self.registry.clone());
            self.looked = Some(self.now);
        }
    }

    fn step(&mut self, op: u8, arg: u8) {
        let n = arg % ISSUERS;
        match op % 32 {
            0..=5 => self.pass(i64::from(arg) + 1),
            6 | 7 => self.pass(i64::from(arg) * 60),
            8 => self.pass(i64::from(arg) * 3_600),
            9 => {
                // To the next moment of which the core says that it matters.
                let wake = self.core.next_wakeup(self.now).map_or(1, |at| at.seconds_since(self.now));
                self.pass(wake.clamp(0, 40 * DAY));
            }
            10..=13 => self.sync(),
            14 => {
                self.registry.generation += 1;
                let state = [State::Active, State::Disabled, State::Retired][usize::from(arg / ISSUERS) % 3];
                self.registry.issuers.retain(|i| SlotId::Signer(i.id.clone()) != signer(n));
                if arg < 200 {
                    self.registry.issuers.push(spec(n, state, arg & 64 == 0));
                }
            }
            15 => {
                self.registry.generation += 1;
                self.registry.quarantined = if arg & 128 == 0 { vec![] } else { vec![issuer(n)] };
                let quarantined = self.registry.quarantined.clone();
                self.registry.issuers.retain(|i| !quarantined.contains(&i.id));
            }
            16 => self.registry_down = arg & 1 == 1,
            17 => self.command(arg),
            18 => self.kill(),
            19 => {
                let _ = self.core.handle(Event::Endpoints(self.specs.clone()), self.now);
            }
            20 => {
                // The clock is set back; what was counted by the later time no longer says anything.
                self.now = Timestamp::from_unix(self.now.unix() - i64::from(arg) * 3_600 - 61);
                self.departures.clear();
                self.of_day.clear();
                self.submitted.clear();
                self.issued.clear();
                self.last_parked.clear();
            }
            _ => self.report(arg),
        }
    }

    fn pass(&mut self, seconds: i64) {
        self.now = Timestamp::from_unix(self.now.unix() + seconds);
    }

    fn command(&mut self, arg: u8) {
        let reach = match arg % 4 {
            0 => Reach::All,
            1 => Reach::Endpoint(self.specs[usize::from(arg / 8) % 2].id.clone()),
            _ => Reach::Slot(signer(arg / 8 % ISSUERS)),
        };
        let command = match arg / 4 % 5 {
            0 => {
                let until = self.now.plus(Duration::from_secs(u64::from(arg) * 600));
                Command::Pause(Pause {
                    reach,
                    until,
                    reason: "a test".to_owned(),
                    who: "operator".to_owned(),
                    since: None,
                })
            }
            1 => Command::Resume { reach },
            2 => Command::Renew { reach },
            3 => Command::Unpark { reach },
            _ => Command::Approve { slot: signer(arg / 8 % ISSUERS) },
        };
        let pardons = matches!(command, Command::Unpark { .. });
        if self.core.handle(Event::Command(command), self.now).is_ok() && pardons {
            self.of_day.clear();
            self.submitted.clear();
            self.issued.clear();
            self.last_parked.clear();
        }
    }

    /// The process is killed, and the next one begins with what is on disk.
    fn kill(&mut self) {
        self.core = Core::new(self.limits.clone(), NodeId::named("node"));
        self.asked.clear();
        self.on_wire.clear();
        self.told = None;
        self.looked = None;
        self.tell_all();
    }

    /// The driver reports the outcome of something it was asked for.
    fn report(&mut self, arg: u8) {
        if self.asked.is_empty() {
            return;
        }
        let (slot, order, step) = self.asked.remove(usize::from(arg) % self.asked.len());
        let how = arg / 8;
        let failure = |scope, kind| {
            let retry_after = how.is_multiple_of(2).then(|| Duration::from_secs(u64::from(how) * 10_000));
            Failure { retry_after, ..Failure::new(scope, kind, "a failure") }
        };
        let scopes = [Scope::Item, Scope::Issuer, Scope::Endpoint, Scope::OwnCredential, Scope::Local];
        let kinds = [Kind::Transient, Kind::Permanent, Kind::Unknown];
        let failed = failure(scopes[usize::from(how) % 5], kinds[usize::from(arg) % 3]);
        let fails = how >= 20;
        if let Step::Submit(attempt) = step
            && self.on_wire.get(&slot).is_some_and(|(.., on_wire)| *on_wire == attempt)
        {
            self.on_wire.remove(&slot);
        }
        let event = match step {
            // Something of our own was missing, and the request did not leave.
            Step::Submit(attempt) if fails && how >= 28 => {
                Event::NotSent { slot: slot.clone(), order, attempt, failure: failed }
            }
            _ if fails => Event::Failed { slot: slot.clone(), order, step, failure: failed },
            Step::Prepare => {
                self.prepared.insert(order);
                Event::Prepared { slot: slot.clone(), order }
            }
            Step::Submit(attempt) if how >= 16 => {
                let retry_after = Some(Duration::from_secs(u64::from(arg) * 50));
                Event::Later { slot: slot.clone(), order, attempt, retry_after }
            }
            Step::Submit(_) if how == 15 => Event::Present { slot: slot.clone(), order },
            Step::Submit(_) => Event::Issued { slot: slot.clone(), order },
            Step::Verify if how >= 17 => {
                Event::Rejected { slot: slot.clone(), order, text: "the wrong key".to_owned() }
            }
            Step::Verify => {
                // Some CAs issue what is due at once.
                let life = self.new_life(&slot, -600, if how.is_multiple_of(4) { 3_600 } else { 40 * DAY });
                Event::Verified { slot: slot.clone(), order, life }
            }
            Step::Stage => Event::Staged { slot: slot.clone(), order },
            Step::Activate => Event::Activated { slot: slot.clone(), order },
        };
        let issued = matches!(event, Event::Issued { .. } | Event::Present { .. });
        let over = matches!(event, Event::Activated { .. });
        if self.core.handle(event, self.now).is_ok() {
            if issued {
                self.on_wire.remove(&slot); // whatever else of the order is on the wire, the driver closes
                self.issued.entry(slot.clone()).or_default().push(self.now);
            }
            if over {
                self.open.remove(&slot);
            }
        }
    }

    fn carry_out(&mut self) {
        for round in 0.. {
            assert!(round < 100, "the core never comes to rest");
            let actions = self.core.poll(self.now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.carry_out_one(action);
            }
        }
        let wake = self.core.next_wakeup(self.now);
        assert!(wake.is_none_or(|at| at > self.now), "at rest, and still to be polled at once: {wake:?}");
        for slot in &self.core.snapshot(self.now).slots {
            assert!(!self.core.explain(&slot.slot, self.now).unwrap_or_else(|e| panic!("{e}")).reasons.is_empty());
        }
        let plan = self.core.plan(self.now);
        assert_eq!(plan.by_hour().values().sum::<usize>(), plan.entries.len());
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Persist(records) => self.ledger.extend(records.into_iter().map(|r| (r.key(), r))),
            Action::ConfirmActive => self.sync(),
            Action::Prepare(request) => {
                self.may_ask(&request);
                let open = self.open.entry(request.slot.clone()).or_insert(request.order);
                assert_eq!(*open, request.order, "a second order for {}", request.slot);
                let issued = self.within_a_day(&self.issued, &request.slot);
                assert!(issued < self.limits.issuances_per_day as usize, "{issued} certificates, and another order");
                self.asked.push((request.slot, request.order, Step::Prepare));
            }
            Action::Submit(request) => self.submit(request),
            Action::Verify { slot, order } => self.ask(slot, order, Step::Verify),
            Action::Stage { slot, order } => self.ask(slot, order, Step::Stage),
            Action::Activate { slot, order } => self.ask(slot, order, Step::Activate),
            Action::Cancel { slot, order, .. } => {
                assert_eq!(self.open.remove(&slot), Some(order), "only what is open is cancelled");
                self.asked.retain(|(_, asked, _)| *asked != order);
                self.on_wire.remove(&slot);
            }
            Action::HangUp { slot, order } => {
                assert_eq!(self.open.get(&slot), Some(&order), "only what is open is hung up");
                self.on_wire.remove(&slot);
            }
            Action::Tell(notice) => assert!(!notice.text.is_empty()),
        }
    }

    fn ask(&mut self, slot: SlotId, order: OrderId, step: Step) {
        assert_eq!(self.open.get(&slot), Some(&order), "{step:?} of an order that is not open");
        self.asked.push((slot, order, step));
    }

    /// What must hold for everything that begins or makes a request.
    fn may_ask(&self, request: &Request) {
        let SlotId::Signer(issuer) = &request.slot else { return };
        let told = self.told.as_ref().unwrap_or_else(|| panic!("{issuer} is asked for without a registry"));
        let spec = told.issuers.iter().find(|i| i.id == *issuer);
        assert!(spec.is_some_and(|s| s.state == State::Active), "{issuer} is asked for and not active");
        assert!(spec.is_some_and(|s| s.endpoint == request.endpoint), "{issuer} is asked for elsewhere");
        let age = self.now.seconds_since(told.synced_at);
        assert!((0..=900).contains(&age), "the evidence is {age} s old");
        let look = self.looked.map_or(i64::MAX, |t| self.now.seconds_since(t));
        assert!((0..=30).contains(&look), "the last look was {look} s ago");
        let paused = self.core.snapshot(self.now).pauses;
        for pause in paused {
            let concerned = match &pause.reach {
                Reach::All => true,
                Reach::Endpoint(e) => *e == request.endpoint,
                Reach::Slot(s) => *s == request.slot,
            };
            assert!(!concerned || pause.until <= self.now, "{issuer} is asked for in a pause");
        }
    }

    fn submit(&mut self, request: Request) {
        self.may_ask(&request);
        let slot = request.slot.clone();
        assert_eq!(self.open.get(&slot), Some(&request.order), "sent, and not open");
        assert!(self.prepared.contains(&request.order), "sent before key and CSR were on disk");
        let key = match &slot {
            SlotId::Signer(issuer) => format!("signer/{issuer}"),
            SlotId::Credential(endpoint) => format!("credential/{endpoint}"),
        };
        let Some(Record::Slot(record)) = self.ledger.get(&key) else { panic!("sent before it was on disk") };
        let Phase::InFlight(order) = &record.phase else { panic!("sent, and on disk as {:?}", record.phase) };
        assert_eq!((order.id, order.attempts), (request.order, request.attempt), "sent before it was on disk");

        if matches!(record.hold, Hold::Parked { .. }) {
            if let Some(last) = self.last_parked.insert(slot.clone(), self.now) {
                assert!(self.now.seconds_since(last) >= DAY, "parked, and asked twice within a day");
            }
        } else {
            self.last_parked.remove(&slot);
        }
        let sent = self.within_a_day(&self.submitted, &slot);
        assert!(sent < self.limits.submissions_per_day as usize, "{sent} requests, and another");
        self.submitted.entry(slot.clone()).or_default().push(self.now);

        let spec =
            self.specs.iter().find(|s| s.id == request.endpoint).unwrap_or_else(|| panic!("an unknown endpoint"));
        let elsewhere = self.on_wire.insert(slot.clone(), (request.endpoint.clone(), request.attempt));
        assert!(elsewhere.is_none(), "two requests for {slot} at a time");
        let on_wire = self.on_wire.values().filter(|(e, ..)| *e == request.endpoint).count();
        assert!(on_wire <= spec.max_in_flight as usize, "{on_wire} at a time");

        let departures = self.departures.entry(request.endpoint.clone()).or_default();
        departures.push(self.now);
        let of_day = self.of_day.entry(request.endpoint.clone()).or_default();
        of_day.push(self.now);
        let day = of_day.iter().filter(|t| self.now.seconds_since(**t) < DAY).count();
        assert!(day <= spec.attempts_per_day as usize, "{day} requests within a day");
        for (n, from) in (1_u64..).zip(departures.iter().rev().take(200)) {
            let seconds = self.now.since(*from).as_secs() + 1;
            let granted = (u64::from(spec.rate.count) * seconds).div_ceil(spec.rate.per.as_secs()) + 1;
            assert!(n <= granted, "{n} requests in {seconds} s");
        }
        self.asked.push((slot, request.order, Step::Submit(request.attempt)));
    }

    fn within_a_day(&self, times: &BTreeMap<SlotId, Vec<Timestamp>>, slot: &SlotId) -> usize {
        times.get(slot).map_or(0, |t| t.iter().filter(|t| self.now.seconds_since(**t) < DAY).count())
    }
}

fn issuer(n: u8) -> IssuerId {
    IssuerId::new(&format!("ca-{n}")).unwrap_or_else(|e| panic!("{e}"))
}

fn signer(n: u8) -> SlotId {
    SlotId::Signer(issuer(n))
}

fn spec(n: u8, state: State, at_a: bool) -> IssuerSpec {
    IssuerSpec {
        id: issuer(n),
        state,
        endpoint: EndpointId::new(if at_a { "a" } else { "b" }).unwrap_or_else(|e| panic!("{e}")),
        profile: format!("ocsp-{n}"),
        validity: Duration::from_secs(4 * 86_400),
        margin: Duration::from_secs(86_400),
        needs_approval: n == 5,
        rest: 0,
        held_by: None,
    }
}
