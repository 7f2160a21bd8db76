//! The world: nodes, a CA, a registry and customers in virtual time, and what is done to them.

use super::agenda::{Agenda, MINUTE, Ms, SECOND};
use super::authority::Authority;
use super::ca::{Answer, Ca, serial};
use super::check::{Check, New};
use super::field::FieldNode;
use super::measure::Measure;
use super::node::{Here, News, Node, NodeClock, Wish};
use super::ours::{Names, Ours};
use super::random::Random;
use super::setup::{Age, Says, Setup, Slot};
use crate::renewal::{OrderId, SignerLife, Step};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How long a look at the registry takes.
const LOOK: Ms = 50;

/// After so long a check of a new certificate that does not return is given up.
const HUNG: Ms = 60 * SECOND;

/// Whose policy runs the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Field,
    Ours,
}

pub(super) struct World {
    pub setup: Setup,
    pub policy: Policy,
    pub now: Ms,
    pub agenda: Agenda<Event>,
    pub authority: Authority,
    pub ca: Ca,
    pub nodes: Vec<Place>,
    pub calls: BTreeMap<u64, Call>,
    pub next_call: u64,
    pub check: Check,
    pub measure: Measure,
    pub names: Rc<Names>,
    /// Of the customers; the CA has its own.
    pub random: Random,
    pub failed_calls: Vec<Vec<Ms>>,
    pub ill_formed: Vec<bool>,
    pub hangs_check: Vec<bool>,
    /// What the registry would say, if an operator approved.
    pub held: Vec<(std::ops::Range<usize>, Says)>,
    issued_by_hand: u64,
    pub in_flight: usize,
    pub most_in_flight: usize,
    /// How many slots were found in order at the end; none if the run ends before that can be asked.
    pub in_order: Option<usize>,
}

/// A machine of the fleet, with or without its process.
pub(super) struct Place {
    pub process: Box<dyn Node>,
    pub up: bool,
    pub disk_is_full: bool,
    /// Tells the processes of one machine apart.
    pub turn: u64,
    pub clock: NodeClock,
    pub wake_at: Option<Ms>,
    pub lives: Vec<Option<SignerLife>>,
    pub calls: BTreeMap<Slot, u64>,
    /// Connections that are open and that no process knows of any more.
    pub leaked: usize,
    /// Since when an issuer has no valid signer here.
    pub unserved: Vec<Option<Ms>>,
    /// Since when an operator wants a new certificate here.
    pub ordered: Vec<Option<Ms>>,
    /// The process ends after so many more things that it wants done.
    pub crashes_in: Option<u32>,
}

pub(super) struct Call {
    pub party: Party,
    pub connected: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Party {
    Agent { node: usize, turn: u64, slot: Slot, order: OrderId, attempt: u32 },
    Customer { retries: u32, account: usize },
}

/// What can happen next.
#[derive(Debug)]
pub(super) enum Event {
    Wake {
        node: usize,
    },
    /// A new generation, or the end of an outage, is seen by this node.
    Sync {
        node: usize,
    },
    Registry {
        node: usize,
        turn: u64,
    },
    Step {
        node: usize,
        turn: u64,
        slot: Slot,
        order: OrderId,
        step: Step,
    },
    Reply {
        call: u64,
        answer: Answer,
    },
    TimeOut {
        call: u64,
    },
    Server {
        server: usize,
        turn: u64,
    },
    Customer,
    CallAgain {
        retries: u32,
        account: usize,
    },
    /// A signer is in use too late, or has expired.
    Late {
        node: usize,
        slot: Slot,
        not_after: Timestamp,
    },
    Expired {
        node: usize,
        slot: Slot,
        not_after: Timestamp,
    },
    Deed(usize),
    /// What checks a new certificate is given up.
    Hung {
        node: usize,
        turn: u64,
        slot: Slot,
        order: OrderId,
    },
    /// A process that has crashed begins again.
    Begin {
        node: usize,
    },
    Sample,
}

impl World {
    pub(super) fn new(setup: Setup, policy: Policy, seed: u64) -> Result<Self, String> {
        let specs = setup.specs()?;
        let endpoint = specs.first().map(|s| s.endpoint.clone()).ok_or("no issuer is enrolled anywhere")?;
        let names = Rc::new(Names::new(&endpoint, &specs));
        let slots = specs.len() + 1;
        let credential_life = setup.credential.map_or(setup.life, |(life, _)| life);
        let mut world = World {
            policy,
            now: 0,
            agenda: Agenda::new(),
            ca: Ca::new(setup.ca.clone(), setup.start, [setup.life, credential_life], seed),
            nodes: Vec::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            check: Check::new(&setup, seed),
            measure: Measure::default(),
            random: Random::new(seed, 0xc0),
            failed_calls: vec![Vec::new(); setup.customers.as_ref().map_or(0, |c| c.accounts as usize)],
            ill_formed: vec![false; slots],
            hangs_check: vec![false; slots],
            held: Vec::new(),
            issued_by_hand: 0,
            in_flight: 0,
            most_in_flight: 0,
            in_order: None,
            authority: Authority::new(specs),
            names,
            setup,
        };
        world.authority.forget(world.setup.absent.clone());
        let mut random = Random::new(seed, 0x11);
        for node in 0..world.setup.nodes {
            let process: Box<dyn Node> = match policy {
                Policy::Field => Box::new(FieldNode::new(&world.setup, node)),
                Policy::Ours => Box::new(Ours::new(&world.setup, &world.names, node)),
            };
            let lives = world.first_lives(&mut random);
            world.nodes.push(Place {
                process,
                up: true,
                disk_is_full: false,
                turn: 0,
                clock: NodeClock {
                    start: world.setup.start,
                    offset: world.setup.skews.get(node).copied().unwrap_or(0),
                },
                wake_at: None,
                unserved: vec![None; lives.len()],
                ordered: vec![None; lives.len()],
                crashes_in: None,
                lives,
                calls: BTreeMap::new(),
                leaked: 0,
            });
        }
        Ok(world)
    }

    fn first_lives(&mut self, random: &mut Random) -> Vec<Option<SignerLife>> {
        let mut lives = Vec::with_capacity(self.setup.issuers + 1);
        let start = self.setup.start;
        let credential = self.setup.credential.map(|(life, left)| {
            let not_after = start.plus(left);
            SignerLife { serial: self.by_hand(), not_before: not_after.minus(life), not_after }
        });
        lives.push(credential);
        for issuer in 0..self.setup.issuers {
            let age = match self.setup.age {
                Age::Same(age) => age.as_secs(),
                Age::Even(over) => random.below(over.as_secs()),
            };
            let not_before = start.minus(Duration::from_secs(age));
            let life = SignerLife { serial: self.by_hand(), not_before, not_after: not_before.plus(self.setup.life) };
            lives.push((!self.setup.absent.contains(&issuer)).then_some(life));
        }
        lives
    }

    pub(super) fn by_hand(&mut self) -> crate::ocsp::Serial {
        self.issued_by_hand += 1;
        serial(self.issued_by_hand)
    }

    /// The time of day.
    pub(super) fn at(&self, ms: Ms) -> Timestamp {
        self.setup.start.plus(Duration::from_millis(ms))
    }

    /// From the beginning to the end.
    pub(super) fn run(&mut self) {
        let end = self.setup.length;
        for node in 0..self.nodes.len() {
            for slot in 0..self.setup.issuers + 1 {
                self.watch(node, slot);
            }
            self.check.begins(0, node);
            self.with(node, |process, here| process.start(here));
        }
        for (n, (at, _)) in self.setup.script.iter().enumerate() {
            self.agenda.enter(*at, Event::Deed(n));
        }
        let every = self.sampling();
        (0..=end / every).for_each(|n| self.agenda.enter(n * every, Event::Sample));
        if let Some(customers) = &self.setup.customers {
            self.agenda.enter(self.random.exponential(customers.every), Event::Customer);
        }
        while let Some((at, event)) = self.agenda.next(end) {
            self.now = at;
            self.measure.tick(at);
            self.measure.totals.events += 1;
            self.happen(event);
        }
        self.now = end;
        self.measure.tick(end + MINUTE);
        for node in 0..self.nodes.len() {
            (0..self.setup.issuers + 1).for_each(|slot| self.served_again(node, slot));
        }
        if self.policy == Policy::Ours {
            self.in_order = self.check_progress();
        }
        self.measure.finish();
    }

    fn sampling(&self) -> Ms {
        (self.setup.length / 480).max(MINUTE)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node } => {
                if self.nodes.get(node).is_some_and(|n| n.wake_at == Some(self.now)) {
                    if let Some(place) = self.nodes.get_mut(node) {
                        place.wake_at = None;
                    }
                    self.with(node, |process, here| process.wake(here));
                }
            }
            Event::Sync { node } => self.with(node, |process, here| process.wake(here)),
            Event::Registry { node, turn } => {
                if self.is_running(node, turn) {
                    let reading = self.authority.read(node, self.now);
                    self.with(node, |process, here| process.hear(News::Registry(reading), here));
                }
            }
            Event::Step { node, turn, slot, order, step } if self.is_running(node, turn) => {
                self.stepped(node, slot, order, step);
            }
            Event::Step { .. } => {}
            Event::Reply { call, answer } => self.conclude(call, answer),
            Event::TimeOut { call } => self.conclude(call, Answer::TimedOut),
            Event::Server { server, turn } => {
                let mut effects = Vec::new();
                self.ca.server(server, turn, self.now, &mut effects);
                self.follow(effects);
            }
            Event::Customer => {
                if let Some(customers) = &self.setup.customers {
                    let (every, retries) = (customers.every, customers.retries);
                    let account = self.random.index(self.failed_calls.len());
                    self.agenda.enter(self.now + self.random.exponential(every), Event::Customer);
                    self.customer(retries, account);
                }
            }
            Event::CallAgain { retries, account } => self.customer(retries, account),
            Event::Late { node, slot, not_after } => self.late(node, slot, not_after),
            Event::Expired { node, slot, not_after } => self.expired(node, slot, not_after),
            Event::Hung { node, turn, slot, order } => {
                if self.is_running(node, turn) {
                    self.with(node, |process, here| process.hear(News::Hung { slot, order }, here));
                }
            }
            Event::Begin { node } => self.begin(node),
            Event::Deed(n) => {
                if let Some((_, deed)) = self.setup.script.get(n).cloned() {
                    self.done(deed);
                }
            }
            Event::Sample => self.sample(),
        }
    }

    pub(super) fn is_running(&self, node: usize, turn: u64) -> bool {
        self.nodes.get(node).is_some_and(|n| n.up && n.turn == turn)
    }

    /// Lets a running process do something, and does what it wants done.
    pub(super) fn with(&mut self, node: usize, act: impl FnOnce(&mut dyn Node, &Here<'_>)) {
        let mut act = Some(act);
        let mut wishes = Vec::new();
        loop {
            let Some(place) = self.nodes.get_mut(node).filter(|n| n.up) else { return };
            let here = Here {
                node,
                ms: self.now,
                now: place.clock.at(self.now),
                clock: place.clock,
                authority: &self.authority,
                lives: &place.lives,
                ill_formed: &self.ill_formed,
            };
            if let Some(act) = act.take() {
                act(place.process.as_mut(), &here);
            }
            let wake = place.process.next_wakeup(&here).map(|at| place.clock.when(at).max(self.now));
            wishes.extend(place.process.wishes());
            if wishes.is_empty() {
                if wake != place.wake_at {
                    place.wake_at = wake;
                    if let Some(at) = wake {
                        self.agenda.enter(at, Event::Wake { node });
                    }
                }
                return;
            }
            for wish in wishes.drain(..) {
                // What is only noted for the check is nothing that a process may die after.
                let is_done = !matches!(wish, Wish::Rejected { .. });
                self.grant(node, wish);
                if is_done && self.crashes(node) {
                    return;
                }
            }
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        let Some(turn) = self.nodes.get(node).map(|n| n.turn) else { return };
        let (ms, ours) = (self.now, self.policy == Policy::Ours);
        if let Wish::Cancel { slot, .. } | Wish::Alarm { slot: Some(slot) } = &wish
            && let Some(place) = self.nodes.get(node).filter(|place| ours && place.process.has_all_on_disk())
        {
            self.check.written(node, *slot, place.process.record(*slot));
        }
        match wish {
            Wish::ReadRegistry => self.agenda.enter(ms + LOOK, Event::Registry { node, turn }),
            Wish::Step { slot, order, step } => {
                if step == Step::Prepare {
                    self.check.prepares(ms, node, slot, order);
                }
                let takes = if step == Step::Prepare { 200 } else { 20 };
                self.agenda.enter(ms + takes, Event::Step { node, turn, slot, order, step });
            }
            Wish::Call { slot, order, attempt, cause } => self.call(node, slot, order, attempt, cause),
            Wish::HangUp { slot } => self.hang_up(node, slot),
            Wish::Cancel { slot, order, hang_up } => {
                self.check.closes(ms, node, slot, order, "the order is over without a certificate");
                self.no_longer_ordered(node, Some(slot));
                if hang_up {
                    self.hang_up(node, slot);
                }
            }
            Wish::Ramp { from } => self.check.ramp(from, node),
            Wish::Freed { slot } => self.check.freed(node, slot),
            Wish::Rejected { slot } => self.check.rejected(ms, node, slot),
            Wish::Install { slot, order, life } => {
                let present = self.nodes.get(node).and_then(|n| n.lives.get(slot).copied().flatten());
                let same = present == Some(life);
                let issuer = self.authority.issuers().get(slot.wrapping_sub(1));
                let needs_approval = issuer.is_some_and(|issuer| issuer.needs_approval);
                if let (true, Some(place)) = (ours, self.nodes.get_mut(node)) {
                    let shown = place.clock.at(ms);
                    self.check.installs(ms, shown, node, slot, order, New { life: &life, present, needs_approval });
                }
                if !same {
                    self.measure.totals.renewed += 1;
                    self.measure.installed.push((ms, node, slot));
                    self.install(node, slot, life);
                }
            }
            Wish::Alarm { slot } => {
                self.measure.totals.alarms += 1;
                self.measure.alarms.push((ms, node, slot));
                self.no_longer_ordered(node, slot);
            }
        }
    }

    fn stepped(&mut self, node: usize, slot: Slot, order: OrderId, step: Step) {
        if step == Step::Verify && self.hangs_check.get(slot).copied().unwrap_or(false) {
            // It never returns, and the driver gives it up.
            if let Some(turn) = self.nodes.get(node).map(|n| n.turn) {
                self.agenda.enter(self.now + HUNG, Event::Hung { node, turn, slot, order });
            }
            return;
        }
        if step == Step::Prepare {
            self.check.prepared(self.now, node, slot, order);
        }
        self.with(node, |process, here| process.hear(News::Done { slot, order, step }, here));
    }
}
