//! The CA side: a front-end, queues, issuing servers that rest after many failures, and a database with so many connections.

use super::agenda::Ms;
use super::random::Random;
use super::setup::{CREDENTIAL, CaSetup, CaState, Refusal, Slot};
use crate::enrolment::Met;
use crate::ocsp::Serial;
use crate::renewal::{OrderId, SignerLife};
use crate::time::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// Beyond this the front-end says "busy" at once: the model's memory is bounded as everything else.
const MOST_WAITING: usize = 100_000;

#[derive(Debug)]
pub(super) struct Ca {
    setup: CaSetup,
    start: Timestamp,
    life: Duration,
    credential_life: Duration,
    pub state: CaState,
    /// Hundredths of the usual time.
    pub speed: u64,
    hung: bool,
    queues: Vec<VecDeque<u64>>,
    parked: VecDeque<u64>,
    resubmitted: bool,
    jobs: HashMap<u64, Job>,
    servers: Vec<Server>,
    /// Issuers whose keys are destroyed, counted from 0.
    destroyed: BTreeSet<usize>,
    told: bool,
    /// Issuers whose orders are not taken at present.
    pub maintained: Range<usize>,
    /// Certificates of these issuers are dated so long ago.
    pub backdated: Option<(Range<usize>, Duration)>,
    /// What was issued, and what is waiting, by order: where the CA remembers them.
    issued: HashMap<OrderId, SignerLife>,
    waiting: HashMap<OrderId, u64>,
    /// Orders to which it has said "later".
    accepted: HashSet<OrderId>,
    pub connections: usize,
    next_job: u64,
    serial: u64,
    random: Random,
}

/// One request as it reaches the CA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    pub call: u64,
    /// Whose signer: none for a customer's certificate.
    pub order: Option<(OrderId, Slot)>,
}

#[derive(Debug)]
struct Job {
    call: u64,
    order: Option<(OrderId, Slot)>,
    handed: u32,
}

#[derive(Debug, Default)]
struct Server {
    at_work: Option<u64>,
    rests_until: Ms,
    failures: VecDeque<Ms>,
    /// Tells its present work from what was lost in a restart.
    turn: u64,
}

/// What the CA says to a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Issued(SignerLife),
    /// The issuer is disabled.
    Refused,
    /// HTTP 500, whatever that may mean.
    Error,
    /// No connection, or no place.
    Unreachable,
    /// It does not accept the credential, and makes no connection.
    NotAccepted,
    /// It does not know who asks (HTTP 401).
    Unauthorized,
    /// Overloaded (HTTP 503), and asks for so many seconds.
    Busy(u64),
    /// It has the order and decides later (HTTP 202); not to be asked before, in seconds.
    Later(Option<u64>),
    /// None, within the caller's time.
    TimedOut,
}

impl Answer {
    /// What a client has met with; none for an answer that is no failure.
    pub(super) fn met(&self) -> Option<Met> {
        Some(match self {
            Answer::Issued(_) | Answer::Later(_) => return None,
            Answer::Refused => Met::Status(403, None),
            Answer::Error => Met::Status(500, None),
            Answer::Unreachable => Met::Unreachable,
            Answer::NotAccepted => Met::CredentialRefused,
            Answer::Unauthorized => Met::Status(401, None),
            Answer::Busy(seconds) => Met::Status(503, Some(*seconds)),
            Answer::TimedOut => Met::Unanswered,
        })
    }
}

/// What follows from a step of the CA.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Answer(u64, Answer),
    /// The server is done with this turn, or rested, then.
    Server {
        server: usize,
        turn: u64,
        at: Ms,
    },
}

impl Ca {
    pub(super) fn new(setup: CaSetup, start: Timestamp, [life, credential_life]: [Duration; 2], seed: u64) -> Self {
        Ca {
            start,
            credential_life,
            life,
            state: CaState::Up,
            speed: 100,
            hung: false,
            queues: vec![VecDeque::new(); setup.queues.max(1)],
            parked: VecDeque::new(),
            resubmitted: false,
            jobs: HashMap::new(),
            servers: (0..setup.servers.max(1)).map(|_| Server::default()).collect(),
            setup,
            destroyed: BTreeSet::new(),
            told: false,
            maintained: 0..0,
            backdated: None,
            issued: HashMap::new(),
            waiting: HashMap::new(),
            accepted: HashSet::new(),
            connections: 0,
            next_job: 0,
            serial: 1 << 32,
            random: Random::new(seed, 0xca),
        }
    }

    /// Jobs that wait.
    pub(super) fn queue(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    pub(super) fn is_hung(&self) -> bool {
        self.hung
    }

    /// A call arrives. `true`: it has a connection, which [`Ca::close`] gives back.
    pub(super) fn arrive(&mut self, incoming: Incoming, now: Ms, out: &mut Vec<Effect>) -> bool {
        let Incoming { call, order } = incoming;
        if self.state == CaState::Refuses || self.connections >= self.setup.connections {
            out.push(Effect::Answer(call, Answer::Unreachable));
            return false;
        }
        self.connections += 1;
        if self.state == CaState::Hangs || self.hung {
            return true;
        }
        if self.state == CaState::KnowsNobody {
            out.push(Effect::Answer(call, Answer::Unauthorized));
            return true;
        }
        if let Some((id, slot)) = order {
            if self.maintained.contains(&slot.wrapping_sub(1)) {
                out.push(Effect::Answer(call, Answer::Error));
                return true;
            }
            if (self.is_destroyed(slot) && self.told) || (slot == CREDENTIAL && self.setup.no_credentials) {
                out.push(Effect::Answer(call, Answer::Refused));
                return true;
            }
            if let Some(life) = self.issued.get(&id) {
                out.push(Effect::Answer(call, Answer::Issued(*life)));
                return true;
            }
            if let Some(job) = self.waiting.get(&id).and_then(|job| self.jobs.get_mut(job)) {
                job.call = call;
                return true;
            }
        }
        match self.state {
            CaState::Busy(seconds) => {
                out.push(Effect::Answer(call, Answer::Busy(seconds)));
                return true;
            }
            CaState::Decides(seconds) if order.is_some_and(|(id, _)| self.accepted.insert(id)) => {
                out.push(Effect::Answer(call, Answer::Later(seconds)));
                return true;
            }
            _ => {}
        }
        if self.queue() >= MOST_WAITING {
            out.push(Effect::Answer(call, Answer::Unreachable));
            return true;
        }
        self.next_job += 1;
        let job = self.next_job;
        self.jobs.insert(job, Job { call, order, handed: 0 });
        if let (true, Some((id, _))) = (self.setup.remembers, order) {
            self.waiting.insert(id, job);
        }
        let queue = self.random.index(self.queues.len());
        self.enqueue(job, queue, now, out);
        true
    }

    /// The caller has gone, or has its answer. What it asked for stays in the queue.
    pub(super) fn close(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    fn enqueue(&mut self, job: u64, queue: usize, now: Ms, out: &mut Vec<Effect>) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.push_back(job);
        }
        if self.queue() >= self.setup.hangs_at {
            self.hung = true;
            return;
        }
        let free = (0..self.servers.len()).filter(|s| s % self.queues.len() == queue).find(|s| self.is_free(*s, now));
        if let Some(server) = free {
            self.take(server, now, out);
        }
    }

    fn is_free(&self, server: usize, now: Ms) -> bool {
        self.servers.get(server).is_some_and(|s| s.at_work.is_none() && s.rests_until <= now)
    }

    /// A free server takes the next job of its queue.
    fn take(&mut self, server: usize, now: Ms, out: &mut Vec<Effect>) {
        if self.hung || matches!(self.state, CaState::Refuses | CaState::Hangs) {
            return;
        }
        let queue = server % self.queues.len();
        let own = self.queues.get_mut(queue).and_then(VecDeque::pop_front);
        let Some(job) = own.or_else(|| if self.resubmitted { self.parked.pop_front() } else { None }) else { return };
        let time = self.setup.service.saturating_mul(self.speed) / 100;
        let time = self.random.between(time / 2, time + time / 2).max(1);
        if let Some(s) = self.servers.get_mut(server) {
            s.at_work = Some(job);
            s.turn += 1;
            out.push(Effect::Server { server, turn: s.turn, at: now + time });
        }
    }

    /// A server is done with its job, or has rested.
    pub(super) fn server(&mut self, server: usize, turn: u64, now: Ms, out: &mut Vec<Effect>) {
        let Some(s) = self.servers.get_mut(server).filter(|s| s.turn == turn) else { return };
        if let Some(job) = s.at_work.take() {
            self.finish(job, server, now, out);
        }
        if self.is_free(server, now) {
            self.take(server, now, out);
        } else if let Some(s) = self.servers.get_mut(server).filter(|s| s.at_work.is_none()) {
            s.turn += 1;
            out.push(Effect::Server { server, turn: s.turn, at: s.rests_until });
        }
    }

    fn finish(&mut self, id: u64, server: usize, now: Ms, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let call = job.call;
        let Some((order, slot)) = job.order else {
            self.jobs.remove(&id);
            let life = self.certificate(None, now);
            out.push(Effect::Answer(call, Answer::Issued(life)));
            return;
        };
        if !self.destroyed.contains(&slot.wrapping_sub(1)) {
            self.jobs.remove(&id);
            self.waiting.remove(&order);
            let life = self.certificate(Some(slot), now);
            if self.setup.remembers {
                self.issued.insert(order, life);
            }
            out.push(Effect::Answer(call, Answer::Issued(life)));
            return;
        }
        let handed = job.handed < self.setup.hand_over;
        job.handed += 1;
        if let (Some((failures, within, rest)), Some(s)) = (self.setup.backoff, self.servers.get_mut(server)) {
            s.failures.push_back(now);
            while s.failures.front().is_some_and(|at| at + within < now) {
                s.failures.pop_front();
            }
            if s.failures.len() >= failures {
                s.failures.clear();
                s.rests_until = now + rest;
            }
        }
        if handed {
            self.enqueue(id, (server + 1) % self.queues.len(), now, out);
            return;
        }
        self.jobs.remove(&id);
        self.waiting.remove(&order);
        match self.setup.refusal {
            Refusal::Clear => out.push(Effect::Answer(call, Answer::Refused)),
            Refusal::Opaque => out.push(Effect::Answer(call, Answer::Error)),
            Refusal::Stranger => out.push(Effect::Answer(call, Answer::Unauthorized)),
            Refusal::Silence => {}
        }
    }

    fn certificate(&mut self, slot: Option<Slot>, now: Ms) -> SignerLife {
        self.serial += 1;
        let of = |issuers: &Range<usize>| slot.is_some_and(|s| issuers.contains(&s.wrapping_sub(1)));
        let back = self.backdated.as_ref().filter(|(issuers, _)| of(issuers)).map_or(Duration::ZERO, |(_, by)| *by);
        let life = if slot == Some(CREDENTIAL) { self.credential_life } else { self.life };
        let not_before = self.start.plus(Duration::from_millis(now)).minus(back);
        SignerLife { serial: serial(self.serial), not_before, not_after: not_before.plus(life) }
    }

    /// Nothing can be issued in this slot, or nothing that lasts.
    pub(super) fn cannot_issue(&self, slot: Slot) -> bool {
        let of = |(issuers, _): &(Range<usize>, Duration)| issuers.contains(&slot.wrapping_sub(1));
        self.backdated.as_ref().is_some_and(of) || self.is_destroyed(slot)
    }

    fn is_destroyed(&self, slot: Slot) -> bool {
        self.destroyed.contains(&slot.wrapping_sub(1))
    }

    pub(super) fn destroy(&mut self, issuers: Range<usize>) {
        self.destroyed.extend(issuers);
    }

    pub(super) fn tell_front_end(&mut self) {
        self.told = true;
    }

    pub(super) fn set_connections(&mut self, most: usize) {
        self.setup.connections = most;
    }

    /// What waits in this queue is put aside.
    pub(super) fn park(&mut self, queue: usize) {
        if let Some(queue) = self.queues.get_mut(queue) {
            self.parked.extend(queue.drain(..));
        }
    }

    /// What was put aside is issued whenever a server has nothing else to do; what cannot be issued is left out.
    pub(super) fn resubmit(&mut self, now: Ms, out: &mut Vec<Effect>) {
        let of = |job: &u64| self.jobs.get(job).and_then(|j| j.order).map(|(_, slot)| slot);
        let destroyed = &self.destroyed;
        self.parked.retain(|job| of(job).is_none_or(|slot| !destroyed.contains(&slot.wrapping_sub(1))));
        self.resubmitted = true;
        self.go_on(now, out);
    }

    /// What waits is lost, and all connections are closed.
    pub(super) fn restart(&mut self) {
        self.hung = false;
        self.connections = 0;
        self.jobs.clear();
        self.waiting.clear();
        self.queues.iter_mut().for_each(VecDeque::clear);
        for server in &mut self.servers {
            *server = Server { turn: server.turn + 1, ..Server::default() };
        }
    }

    /// After a change of state: who is free goes on.
    pub(super) fn go_on(&mut self, now: Ms, out: &mut Vec<Effect>) {
        for server in 0..self.servers.len() {
            if self.is_free(server, now) {
                self.take(server, now, out);
            }
        }
    }
}

/// The serial number with this value.
pub(super) fn serial(number: u64) -> Serial {
    // Eight octets are never too long; and if they were, one is not.
    Serial::from_unsigned(&number.to_be_bytes()).or_else(|_| Serial::from_unsigned(&[1])).unwrap_or_else(|_| serial(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(ca: &mut Ca, effects: &mut Vec<Effect>, end: Ms) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        loop {
            let mut turns = Vec::new();
            for effect in std::mem::take(effects) {
                match effect {
                    Effect::Answer(call, answer) => answers.push((call, answer)),
                    Effect::Server { server, turn, at } if at <= end => turns.push((at, server, turn)),
                    Effect::Server { .. } => {}
                }
            }
            if turns.is_empty() {
                return answers;
            }
            turns.sort_unstable();
            turns.into_iter().for_each(|(at, server, turn)| ca.server(server, turn, at, effects));
        }
    }

    fn order(n: u64, slot: Slot) -> Incoming {
        Incoming { call: n, order: Some((OrderId::from_number(n), slot)) }
    }

    #[test]
    fn one_server_that_fails_often_rests_and_healthy_requests_wait_with_it() {
        let setup = CaSetup { servers: 1, backoff: Some((3, 60_000, 60_000)), service: 100, ..CaSetup::default() };
        let mut ca = Ca::new(setup, Timestamp::EPOCH, [Duration::from_secs(1); 2], 1);
        ca.destroy(0..1);
        let mut effects = Vec::new();
        (1..=3).for_each(|n| assert!(ca.arrive(order(n, 1), 0, &mut effects)));
        ca.arrive(order(4, 2), 0, &mut effects);
        let early = run(&mut ca, &mut effects, 50_000);
        assert_eq!(early.iter().map(|(call, _)| *call).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(early.iter().all(|(_, a)| *a == Answer::Refused));
        assert_eq!(ca.queue(), 1);
    }

    #[test]
    fn keys_that_are_destroyed_stay_destroyed() {
        let mut ca = Ca::new(CaSetup::default(), Timestamp::EPOCH, [Duration::from_secs(1); 2], 1);
        ca.destroy(0..2);
        ca.destroy(4..5);
        assert_eq!([1, 2, 3, 5, 6].map(|slot| ca.cannot_issue(slot)), [true, true, false, true, false]);
    }

    #[test]
    fn an_order_that_was_issued_is_known_again_and_a_full_database_takes_nobody() {
        let mut ca =
            Ca::new(CaSetup { connections: 2, ..CaSetup::default() }, Timestamp::EPOCH, [Duration::from_secs(9); 2], 1);
        let mut effects = Vec::new();
        ca.arrive(order(1, 1), 0, &mut effects);
        let first = run(&mut ca, &mut effects, Ms::MAX);
        assert!(ca.arrive(Incoming { call: 2, ..order(1, 1) }, 5_000, &mut effects));
        let again = run(&mut ca, &mut effects, Ms::MAX);
        assert_eq!(first[0].1, again[0].1);
        assert!(!ca.arrive(order(3, 3), 6_000, &mut effects), "both connections are taken");
        ca.close();
        assert!(ca.arrive(order(3, 3), 6_000, &mut effects));
    }
}
