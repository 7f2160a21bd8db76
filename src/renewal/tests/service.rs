//! A node with a driver and a CA service that answers at once, as it is told, in virtual time.

use super::super::*;
use crate::config::Rate;
use crate::ocsp::Serial;
use crate::registry::{IssuerId, State};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

pub const DAY: i64 = 86_400;
pub const START: i64 = 1_800_000_000;

/// What the service says.
#[derive(Clone, Debug)]
pub enum Says {
    /// A certificate of so many seconds.
    Issue(i64),
    /// A certificate that does not pass.
    Bad,
    /// Later.
    Later(u64),
    /// A failure.
    Fail(Failure),
    /// It is not asked: its certificate had come before.
    Present,
    /// It is not asked, because of this.
    NotSent(Failure),
    /// Nothing at all.
    Silence,
}

pub struct Service {
    pub core: Core,
    pub now: Timestamp,
    pub registry: RegistryView,
    pub specs: Vec<EndpointSpec>,
    /// What is said to whom; others get a certificate of 40 days.
    pub says: BTreeMap<SlotId, Says>,
    /// Every request, in order.
    pub log: Vec<(Timestamp, Request)>,
    pub notices: Vec<Notice>,
    pub cancelled: Vec<OrderId>,
    pub hung_up: Vec<OrderId>,
    pub ledger: BTreeMap<String, Record>,
    pub lives: BTreeMap<SlotId, SignerLife>,
    /// The registry cannot be reached.
    pub unreachable: bool,
    /// What it says cannot be used.
    pub unusable: bool,
    /// The registry is read this often; zero: never by itself.
    pub sync_every: i64,
    pub looks: usize,
    /// notBefore of what is issued, seconds from when it is.
    pub valid_from: i64,
    pub activated: Vec<(Timestamp, SlotId)>,
    /// Steps that are not carried out.
    pub deaf: Vec<Step>,
    serial: u64,
}

pub fn signer(n: usize) -> SlotId {
    SlotId::Signer(IssuerId::new(&format!("ca-{n}")).unwrap())
}

pub fn endpoint(name: &str) -> EndpointId {
    EndpointId::new(name).unwrap()
}

pub fn spec(n: usize) -> IssuerSpec {
    let SlotId::Signer(id) = signer(n) else { unreachable!() };
    IssuerSpec {
        id,
        state: State::Active,
        endpoint: endpoint("main"),
        profile: format!("ocsp-{n}"),
        validity: Duration::from_secs(4 * 86_400),
        margin: Duration::from_secs(86_400),
        needs_approval: false,
        rest: 0,
        held_by: None,
    }
}

pub fn fails(scope: Scope, kind: Kind) -> Says {
    Says::Fail(Failure::new(scope, kind, "it did not work"))
}

impl Service {
    /// `issuers` active issuers at `main`, with certificates of 40 days that are `age` days old.
    pub fn new(issuers: usize, age: i64) -> Self {
        Self::with(Limits::default(), issuers, age)
    }

    pub fn with(limits: Limits, issuers: usize, age: i64) -> Self {
        let mut s = Service {
            core: Core::new(limits, NodeId::named("node")),
            now: Timestamp::from_unix(START),
            registry: RegistryView {
                generation: 1,
                synced_at: Timestamp::EPOCH,
                issuers: (0..issuers).map(spec).collect(),
                quarantined: vec![],
            },
            specs: vec![EndpointSpec {
                id: endpoint("main"),
                rate: Rate { count: 30, per: Duration::from_secs(60) },
                max_in_flight: 2,
                attempts_per_day: 10_000,
                credential: None,
            }],
            says: BTreeMap::new(),
            log: vec![],
            notices: vec![],
            cancelled: vec![],
            hung_up: vec![],
            ledger: BTreeMap::new(),
            lives: BTreeMap::new(),
            unreachable: false,
            unusable: false,
            sync_every: 300,
            looks: 0,
            valid_from: -600,
            activated: vec![],
            deaf: vec![],
            serial: 0,
        };
        for n in 0..issuers {
            s.life(&signer(n), -age * DAY, 40 * DAY);
        }
        s.start();
        s
    }

    /// Gives the slot a certificate; the core is not told.
    pub fn life(&mut self, slot: &SlotId, from: i64, seconds: i64) -> SignerLife {
        self.serial += 1;
        let life = SignerLife {
            serial: Serial::from_unsigned(&self.serial.to_be_bytes()).unwrap(),
            not_before: Timestamp::from_unix(self.now.unix() + from),
            not_after: Timestamp::from_unix(self.now.unix() + from + seconds),
        };
        self.lives.insert(slot.clone(), life);
        life
    }

    pub fn tell(&mut self, event: Event) -> Result<usize, Ignored> {
        self.core.handle(event, self.now)
    }

    pub fn command(&mut self, command: Command) -> Result<usize, Ignored> {
        self.tell(Event::Command(command))
    }

    pub fn start(&mut self) {
        self.tell(Event::Endpoints(self.specs.clone())).unwrap();
        for record in self.ledger.values().cloned().collect::<Vec<_>>() {
            self.tell(Event::Restored(Box::new(record))).unwrap();
        }
        self.sync();
        let slots: Vec<SlotId> = self.core.snapshot(self.now).slots.into_iter().map(|s| s.slot).collect();
        for slot in slots {
            let life = self.lives.get(&slot).copied();
            self.tell(Event::Signer { slot, life }).unwrap();
        }
    }

    /// Killed, and started again from the ledger.
    pub fn kill(&mut self) {
        self.core = Core::new(self.core.limits().clone(), NodeId::named("node"));
        self.start();
    }

    pub fn sync(&mut self) {
        if self.unusable {
            self.tell(Event::Unusable("a comma is missing".to_owned())).unwrap();
            return;
        }
        if self.unreachable {
            self.tell(Event::NotConfirmed).unwrap();
            return;
        }
        // As a driver does: what has not changed is confirmed, not told again.
        let (generation, at) = (self.registry.generation, self.now);
        if self.tell(Event::Confirmed { generation, at }).is_err() {
            self.registry.synced_at = self.now;
            let _ = self.tell(Event::Registry(self.registry.clone()));
        }
    }

    /// Changes the registry, which the core does not see before the next look.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<IssuerSpec>)) {
        self.registry.generation += 1;
        change(&mut self.registry.issuers);
    }

    /// Time passes; the driver follows the core's own wake-ups and syncs the registry.
    pub fn run(&mut self, seconds: i64) {
        let end = self.now.unix() + seconds;
        loop {
            self.drive();
            let wake = self.core.next_wakeup(self.now).map_or(end, Timestamp::unix);
            let sync = match self.sync_every {
                0 => end,
                every => (self.now.unix() / every + 1) * every,
            };
            let next = wake.min(sync).min(end);
            assert!(next > self.now.unix() || next == end, "a wake-up in the past");
            self.now = Timestamp::from_unix(next);
            if next >= end {
                self.drive();
                return;
            }
            if next == sync {
                self.sync();
            }
        }
    }

    pub fn drive(&mut self) {
        for _ in 0..10_000 {
            let actions = self.core.poll(self.now);
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.carry_out(action));
        }
        panic!("the core never comes to rest");
    }

    fn carry_out(&mut self, action: Action) {
        let event = match action {
            Action::Persist(records) => {
                self.ledger.extend(records.into_iter().map(|r| (r.key(), r)));
                return;
            }
            Action::ConfirmActive => {
                self.looks += 1;
                self.sync();
                return;
            }
            Action::Tell(notice) => return self.notices.push(notice),
            Action::Cancel { order, .. } => return self.cancelled.push(order),
            Action::HangUp { order, .. } => return self.hung_up.push(order),
            Action::Prepare(r) => {
                if self.deaf.contains(&Step::Prepare) {
                    return;
                }
                Event::Prepared { slot: r.slot, order: r.order }
            }
            Action::Submit(r) => {
                self.log.push((self.now, r.clone()));
                let (slot, order, attempt) = (r.slot.clone(), r.order, r.attempt);
                match self.says.get(&slot).cloned().unwrap_or(Says::Issue(40 * DAY)) {
                    Says::Issue(_) | Says::Bad => Event::Issued { slot, order },
                    Says::Later(seconds) => {
                        Event::Later { slot, order, attempt, retry_after: Some(Duration::from_secs(seconds)) }
                    }
                    Says::Fail(failure) => Event::Failed { slot, order, step: Step::Submit(attempt), failure },
                    Says::Present => Event::Present { slot, order },
                    Says::NotSent(failure) => Event::NotSent { slot, order, attempt, failure },
                    Says::Silence => return,
                }
            }
            Action::Verify { slot, order } => match self.says.get(&slot) {
                Some(Says::Bad) => Event::Rejected { slot, order, text: "it is for another key".to_owned() },
                says => {
                    let seconds = if let Some(Says::Issue(seconds)) = says { *seconds } else { 40 * DAY };
                    let life = self.life(&slot, self.valid_from, seconds);
                    Event::Verified { slot, order, life }
                }
            },
            Action::Stage { slot, order } => Event::Staged { slot, order },
            Action::Activate { slot, order } => {
                self.activated.push((self.now, slot.clone()));
                Event::Activated { slot, order }
            }
        };
        self.tell(event).unwrap();
    }

    /// How often the slot was asked for.
    pub fn asked(&self, slot: &SlotId) -> usize {
        self.log.iter().filter(|(_, r)| r.slot == *slot).count()
    }

    /// The different orders sent for the slot.
    pub fn orders(&self, slot: &SlotId) -> usize {
        let orders = self.log.iter().filter(|(_, r)| r.slot == *slot).map(|(_, r)| r.order);
        orders.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The most requests within any span of so many seconds.
    pub fn busiest(&self, seconds: i64) -> usize {
        let times: Vec<i64> = self.log.iter().map(|(t, _)| t.unix()).collect();
        let from = |t: &i64| times.iter().filter(|u| (0..seconds).contains(&(*u - t))).count();
        times.iter().map(from).max().unwrap_or(0)
    }

    pub fn view(&self, slot: &SlotId) -> SlotView {
        self.core.slot_view(slot, self.now).unwrap()
    }

    pub fn explain(&self, slot: &SlotId) -> String {
        self.core.explain(slot, self.now).unwrap().reasons.join("\n")
    }
}
