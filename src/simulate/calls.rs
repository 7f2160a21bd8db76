//! Calls of the CA, by the fleet and by customers: from dialling to the end.

use super::agenda::{Ms, SECOND};
use super::ca::{Answer, Effect, Incoming};
use super::check::{Asked, Leaving};
use super::measure::Sent;
use super::node::News;
use super::setup::{CREDENTIAL, Slot};
use super::world::{Call, Event, Party, Place, Policy, World};
use crate::enrolment::{Kind, Scope, met};
use crate::renewal::{Cause, IssuerSpec, OrderId, Phase};
use std::time::Duration;

/// How long an answer is on its way.
const NETWORK: Ms = 10;

impl World {
    pub(super) fn call(&mut self, node: usize, slot: Slot, order: OrderId, attempt: u32, cause: Option<Cause>) {
        self.hang_up(node, slot);
        let Some(place) = self.nodes.get(node) else { return };
        let turn = place.turn;
        let refused = slot != CREDENTIAL && self.setup.credential.is_some() && !self.credential_is_valid(node);
        if let (Policy::Ours, Some(heard)) = (self.policy, place.process.heard()) {
            let leaving = Leaving {
                ms: self.now,
                now: place.clock.at(self.now),
                node,
                slot,
                order,
                attempt,
                in_flight: place.calls.len() + 1,
                heard,
                issuer: self.authority.issuers().get(slot.wrapping_sub(1)).map(|i: &IssuerSpec| &i.id),
                record: place.process.record(slot),
                credential: place.lives.first().copied().flatten(),
            };
            self.check.leaves(&leaving);
        }
        let deadline = place.lives.get(slot).copied().flatten().map(|life| life.not_after);
        self.measure.sent(Sent { at: self.now, node, slot, order, cause, deadline });
        let timeout = match self.policy {
            Policy::Ours => self.setup.agent.timeout,
            Policy::Field => self.setup.field.timeout,
        };
        let party = Party::Agent { node, turn, slot, order, attempt };
        let call = self.dial(party, timeout, refused, Some((order, slot)));
        if let Some(place) = self.nodes.get_mut(node) {
            place.calls.insert(slot, call);
            self.in_flight += 1;
            self.most_in_flight = self.most_in_flight.max(self.in_flight);
        }
    }

    fn dial(&mut self, party: Party, timeout: Ms, refused: bool, order: Option<(OrderId, Slot)>) -> u64 {
        self.next_call += 1;
        let call = self.next_call;
        let mut effects = Vec::new();
        let connected = if refused {
            effects.push(Effect::Answer(call, Answer::NotAccepted));
            false
        } else {
            self.ca.arrive(Incoming { call, order }, self.now, &mut effects)
        };
        self.calls.insert(call, Call { party, connected });
        self.agenda.enter(self.now + timeout, Event::TimeOut { call });
        let totals = &mut self.measure.totals;
        totals.longest_queue = totals.longest_queue.max(self.ca.queue());
        totals.most_connections = totals.most_connections.max(self.ca.connections);
        self.follow(effects);
        call
    }

    pub(super) fn follow(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Answer(call, answer) => self.agenda.enter(self.now + NETWORK, Event::Reply { call, answer }),
                Effect::Server { server, turn, at } => self.agenda.enter(at, Event::Server { server, turn }),
            }
        }
    }

    /// The caller closes what still hangs.
    pub(super) fn hang_up(&mut self, node: usize, slot: Slot) {
        let open = self.nodes.get_mut(node).and_then(|n| n.calls.remove(&slot));
        self.in_flight -= usize::from(open.is_some());
        if open.and_then(|call| self.calls.remove(&call)).is_some_and(|call| call.connected) {
            self.ca.close();
        }
    }

    pub(super) fn conclude(&mut self, id: u64, answer: Answer) {
        let Some(call) = self.calls.remove(&id) else { return };
        let leaks = self.policy == Policy::Field && self.setup.field.leaks;
        match call.party {
            Party::Agent { node, .. } if leaks && call.connected => {
                if let Some(place) = self.nodes.get_mut(node) {
                    place.leaked += 1;
                }
            }
            _ if call.connected => self.ca.close(),
            _ => {}
        }
        match call.party {
            Party::Agent { node, turn, slot, order, attempt } => {
                let was_open = self.nodes.get(node).is_some_and(|n| n.calls.get(&slot) == Some(&id));
                if let Some(place) = self.nodes.get_mut(node).filter(|_| was_open) {
                    place.calls.remove(&slot);
                    self.in_flight -= 1;
                }
                if !self.is_running(node, turn) {
                    return;
                }
                let unusable = self.policy == Policy::Ours && self.ill_formed.get(slot).copied().unwrap_or(false);
                if unusable {
                    self.check.unreadable(self.now, node, slot, order);
                } else {
                    let is_noted = was_open && self.awaits(node, slot, order, attempt);
                    let asked = self.asked(node, slot, &answer, is_noted);
                    self.check.answered(self.now, node, slot, order, (&answer, asked));
                }
                if unusable || !matches!(answer, Answer::Issued(_) | Answer::Later(_)) {
                    self.measure.failed.push((self.now, node, slot));
                }
                let returns = was_open && self.returns(node, slot, order, attempt, &answer);
                self.with(node, |process, here| process.hear(News::Answer { slot, order, attempt, answer }, here));
                if returns {
                    self.check.ramp(self.now, node);
                }
            }
            Party::Customer { retries, account } => {
                if !matches!(answer, Answer::Issued(_)) {
                    self.customer_failed(retries, account);
                }
            }
        }
    }

    /// Whether this is the answer by which a node learns that a service it had given up is back.
    fn returns(&self, node: usize, slot: Slot, order: OrderId, attempt: u32, answer: &Answer) -> bool {
        let answered = match answer.met().map(met) {
            None => true,
            Some(failure) => matches!(failure.scope, Scope::Item | Scope::Issuer) && failure.kind != Kind::Unknown,
        };
        let is_open = |place: &Place| place.process.breaker_is_open();
        answered && self.awaits(node, slot, order, attempt) && self.nodes.get(node).is_some_and(is_open)
    }

    /// Whether the node is sure to take note of an answer to this request.
    fn awaits(&self, node: usize, slot: Slot, order: OrderId, attempt: u32) -> bool {
        let awaited = |place: &Place| match place.process.record(slot).map(|r| &r.phase) {
            Some(Phase::InFlight(o)) => o.id == order && o.attempts == attempt,
            _ => false,
        };
        let is_sure = |place: &Place| !place.disk_is_full && place.process.has_all_on_disk() && awaited(place);
        self.nodes.get(node).is_some_and(is_sure)
    }

    /// For how long a node must leave the CA alone by this answer. It may ask again after a quarter of the time that it has, or of
    /// the slot that has the least; who is late already has nothing to lose, and waits for up to as long as polls are apart.
    fn asked(&self, node: usize, slot: Slot, answer: &Answer, is_noted: bool) -> Asked {
        let seconds = match answer {
            Answer::Busy(seconds) | Answer::Later(Some(seconds)) => *seconds,
            _ => 0,
        };
        let nothing = Asked { is_noted, ..Asked::default() };
        let Some(place) = self.nodes.get(node) else { return nothing };
        let (Some(heard), limits) = (place.process.heard(), &self.setup.agent.limits) else { return nothing };
        let now = place.clock.at(self.now);
        let issuer = |slot: Slot| self.authority.issuers().get(slot.wrapping_sub(1));
        let wait = |slot: Slot| {
            let reserve = match (issuer(slot), self.setup.credential) {
                (Some(issuer), _) => issuer.validity.saturating_add(issuer.margin),
                (None, Some((life, _))) => self.setup.credential_margin(life),
                (None, None) => Duration::ZERO,
            };
            let deadline = match place.lives.get(slot).copied().flatten() {
                Some(life) => Some(life.not_after.minus(reserve)),
                None => self.check.first_asked(node, slot).map(|first| first.plus(limits.new_issuer_grace)),
            };
            let has_signer = place.lives.get(slot).is_some_and(Option::is_some);
            let most = match deadline.map(|deadline| deadline.since(now)) {
                Some(left) if left.is_zero() => limits.poll_cap,
                // Of an issuer without a signer it is not known when it was seen first.
                Some(left) if has_signer => (left / 4).max(limits.backoff_base),
                _ => limits.backoff_base,
            };
            Duration::from_secs(seconds).min(most)
        };
        let may_be_asked = |slot: &Slot| match *slot {
            CREDENTIAL => self.setup.credential.is_some(),
            slot => heard.says_active(issuer(slot).map(|issuer| &issuer.id)),
        };
        let own = wait(slot);
        let all = (0..place.lives.len()).filter(may_be_asked).map(wait).min().map_or(own, |all| all.min(own));
        Asked { is_noted, own, all }
    }

    fn credential_is_valid(&self, node: usize) -> bool {
        let own = self.nodes.get(node).and_then(|n| n.lives.first().copied().flatten());
        own.is_some_and(|life| life.not_after >= self.at(self.now))
    }

    pub(super) fn customer(&mut self, retries: u32, account: usize) {
        let Some(customers) = &self.setup.customers else { return };
        let (timeout, most) = (customers.timeout, customers.account_rate);
        self.measure.totals.calls += 1;
        if let Some(failed) = self.failed_calls.get_mut(account) {
            failed.retain(|at| at + 60 * SECOND > self.now);
            if failed.len() >= most {
                self.measure.totals.limited += 1;
                return;
            }
        }
        let refused = self.setup.customers_need_credential && !self.credential_is_valid(account % self.nodes.len());
        self.dial(Party::Customer { retries, account }, timeout, refused, None);
    }

    fn customer_failed(&mut self, retries: u32, account: usize) {
        self.measure.totals.hurt += 1;
        if let Some(failed) = self.failed_calls.get_mut(account) {
            failed.push(self.now);
        }
        if let (Some(retries), Some(customers)) = (retries.checked_sub(1), &self.setup.customers) {
            self.agenda.enter(self.now + customers.retry, Event::CallAgain { retries, account });
        }
    }
}
