//! Who may ask now: the only place from which a request leaves.

use super::super::endpoint::Wish;
use super::super::event::{Action, Reach, Request};
use super::super::failure::{Failure, Scope};
use super::super::gate::Gate;
use super::super::id::{EndpointId, OrderId, SlotId};
use super::super::slot::{Hold, Known, Order, Park, Phase, Slot};
use super::{Core, earlier};
use crate::time::Timestamp;
use std::time::Duration;

impl Core {
    /// Lets leave what may, the most urgent first. The answer is when a closed gate opens by itself.
    pub(super) fn dispatch(&mut self, endpoint_id: &EndpointId, now: Timestamp) -> Option<Timestamp> {
        let mut opens = None;
        let mut without_credential = false;
        let (mut instead, mut looked_further) = (None, false);
        // Each round takes its slot out of the queue, so there are no more rounds than slots in it.
        loop {
            let leaves_out = |slot: &SlotId| without_credential && matches!(slot, SlotId::Credential(_));
            let next = instead.take().or_else(|| self.endpoints.get(endpoint_id)?.next(leaves_out).cloned());
            let Some(id) = next else { return opens };
            match self.gate(endpoint_id, &id, now) {
                Ok(()) => {
                    looked_further = false;
                    self.start(&id, endpoint_id, now);
                }
                Err(gate) => {
                    if matches!(gate, Gate::Confirming { .. }) && self.ask_registry(now) {
                        continue;
                    }
                    opens = earlier(opens, gate.opens());
                    if matches!(id, SlotId::Credential(_)) {
                        without_credential = true;
                        continue;
                    }
                    if std::mem::replace(&mut looked_further, true) {
                        return opens;
                    }
                    let (other, later) = self.whom_this_lets_through(endpoint_id, &gate, without_credential, now);
                    opens = earlier(opens, later);
                    instead = other.filter(|other| *other != id);
                    if instead.is_none() {
                        return opens;
                    }
                }
            }
        }
    }

    /// Who waits here and may pass a gate that the one before it may not: our credential, or who is urgent; and when somebody
    /// becomes so.
    fn whom_this_lets_through(
        &self,
        endpoint_id: &EndpointId,
        gate: &Gate,
        without_credential: bool,
        now: Timestamp,
    ) -> (Option<SlotId>, Option<Timestamp>) {
        let Some(endpoint) = self.endpoints.get(endpoint_id) else { return (None, None) };
        let mut waiting = endpoint.queue.iter().map(|rank| &rank.slot);
        match gate {
            Gate::Budget { .. } if !without_credential => {
                (waiting.find(|slot| matches!(slot, SlotId::Credential(_))).cloned(), None)
            }
            Gate::Full { .. } if endpoint.keeps_a_place_free() => {
                let urgent_from =
                    |id: &SlotId| self.slots.get(id).filter(|s| !s.is_parked()).and_then(Slot::urgent_from);
                let mut later = None;
                // Who has failed time and again does not take this place either.
                for id in endpoint.queue.iter().filter(|rank| rank.round == 0).map(|rank| &rank.slot) {
                    match urgent_from(id) {
                        Some(from) if from <= now => return (Some(id.clone()), None),
                        from => later = earlier(later, from),
                    }
                }
                (None, later)
            }
            _ => (None, None),
        }
    }

    /// What stands in the way of this slot's request at this endpoint now, other than the slot itself.
    pub(in super::super) fn gate(&self, endpoint_id: &EndpointId, id: &SlotId, now: Timestamp) -> Result<(), Gate> {
        let Some(slot) = self.slots.get(id) else { return Err(Gate::NoEndpoint(endpoint_id.to_string())) };
        self.paused(&Reach::Slot(id.clone()), now)?;
        let credential = matches!(id, SlotId::Credential(_));
        let urgent_from = slot.urgent_from().filter(|_| !slot.is_parked());
        let urgent = (credential && !slot.is_parked()) || urgent_from.is_some_and(|t| t <= now);
        self.gate_for(endpoint_id, &Wish { credential, urgent, urgent_from }, now)
    }

    /// What stands in the way of a signer's ordinary request at this endpoint now.
    pub(in super::super) fn endpoint_gate(&self, endpoint_id: &EndpointId, now: Timestamp) -> Result<(), Gate> {
        self.gate_for(endpoint_id, &Wish { credential: false, urgent: false, urgent_from: None }, now)
    }

    fn gate_for(&self, endpoint_id: &EndpointId, wish: &Wish, now: Timestamp) -> Result<(), Gate> {
        let endpoint = self.endpoints.get(endpoint_id).ok_or_else(|| Gate::NoEndpoint(endpoint_id.to_string()))?;
        self.paused(&Reach::All, now)?;
        self.paused(&Reach::Endpoint(endpoint_id.clone()), now)?;
        if let Some((until, _, text)) = self.local.as_ref().filter(|(until, ..)| *until > now) {
            return Err(Gate::Local { until: *until, text: text.clone() });
        }
        self.credential_gate(endpoint_id, now)?;
        endpoint.gate(wish, &self.limits, now)?;
        // Last, so that the registry is looked at only when a request could leave.
        if wish.credential { Ok(()) } else { self.evidence_gate(now) }
    }

    fn paused(&self, reach: &Reach, now: Timestamp) -> Result<(), Gate> {
        match self.pauses.get(reach).filter(|p| p.until > now) {
            Some(pause) => {
                let (who, reason) = (pause.who.clone(), pause.reason.clone());
                Err(Gate::Paused { who, until: pause.until, reason })
            }
            None => Ok(()),
        }
    }

    /// Our own certificate is looked at before a connection is made.
    fn credential_gate(&self, endpoint_id: &EndpointId, now: Timestamp) -> Result<(), Gate> {
        let Some(own) = self.slots.get(&SlotId::Credential(endpoint_id.clone())) else { return Ok(()) };
        match own.known {
            Known::Present(life) if life.not_after < now => {
                Err(Gate::CredentialExpired { serial: life.serial, not_after: life.not_after, now })
            }
            Known::Present(life) if life.not_before > now => {
                Err(Gate::CredentialEarly { serial: life.serial, not_before: life.not_before, now })
            }
            _ => Ok(()),
        }
    }

    /// Asks for a look at the registry, unless one is under way. `true`: asked just now.
    fn ask_registry(&mut self, now: Timestamp) -> bool {
        let patience = self.limits.confirm_patience.max(Duration::from_secs(1));
        if self.evidence.asking.is_some_and(|asked| asked.plus(patience) > now) {
            return false;
        }
        self.evidence.asking = Some(now);
        self.actions.push(Action::ConfirmActive);
        true
    }

    /// One step towards the request of a slot whose gates are open: it leaves, or its order is made, or the governor parks
    /// the slot.
    fn start(&mut self, id: &SlotId, endpoint_id: &EndpointId, now: Timestamp) {
        if self.governed(id, now) {
            self.settle(id, now);
            return;
        }
        let cause = self.cause(id, now);
        let next = self.canary(id, now);
        let deadline = self.slots.get(id).map_or(now, |s| s.deadline(self.limits.new_issuer_grace));
        let fresh_id = self.fresh_order(id, now);
        let Some(slot) = self.slots.get_mut(id) else { return };
        let profile = slot.terms.as_ref().map(|t| t.profile.clone()).unwrap_or_default();
        let (order, sends) = match std::mem::replace(&mut slot.phase, Phase::Idle) {
            Phase::Due => {
                slot.orders = slot.orders.saturating_add(1);
                let order = Order { id: fresh_id, cause, opened: now, prepared: false, attempts: 0, polls: 0 };
                (order, false)
            }
            Phase::Ordered(order) if !order.prepared => (order, false),
            Phase::Ordered(mut order) | Phase::Waiting(mut order, _) => {
                order.attempts = order.attempts.saturating_add(1);
                (order, true)
            }
            other => {
                // Only what waits for its endpoint is in a queue.
                slot.phase = other;
                self.settle(id, now);
                return;
            }
        };
        let request = Request {
            slot: id.clone(),
            order: order.id,
            endpoint: endpoint_id.clone(),
            profile,
            cause,
            deadline,
            attempt: order.attempts,
        };
        slot.asked = Some(now);
        slot.occupies = Some(endpoint_id.clone());
        if sends {
            slot.phase = Phase::InFlight(order);
            slot.submissions.add(now);
            if let Hold::Parked { canary, .. } = &mut slot.hold {
                *canary = next;
            }
            self.actions.push(Action::Submit(request));
        } else {
            slot.phase = Phase::Preparing(order);
            self.actions.push(Action::Prepare(request));
        }
        if let Some(endpoint) = self.endpoints.get_mut(endpoint_id) {
            endpoint.occupied.insert(id.clone(), now);
            if sends {
                endpoint.sent(cause, now);
                self.dirty_endpoints.insert(endpoint_id.clone());
            }
        }
        self.dirty.insert(id.clone());
        self.settle(id, now);
    }

    /// The governor: so many submissions and certificates per slot and day, whatever the reason, and however well they end.
    fn governed(&mut self, id: &SlotId, now: Timestamp) -> bool {
        let limits = &self.limits;
        let Some(slot) = self.slots.get_mut(id) else { return true };
        let Some(free) = slot.budget_frees(limits, now) else { return false };
        let opens_order = slot.phase == Phase::Due;
        let too_many_issued = opens_order && slot.issuances.below(limits.issuances_per_day, now).is_some();
        let text = if too_many_issued {
            format!("{} certificates within a day, and it wants another", limits.issuances_per_day)
        } else {
            format!("{} requests within a day", limits.submissions_per_day)
        };
        // Neither a CA that takes its time nor a service that is down is a loop of this slot: it waits for the next budget, and
        // nobody has to lift that.
        let of_others = |(_, failure): &(Timestamp, Failure)| !matches!(failure.scope, Scope::Item | Scope::Issuer);
        let no_loop = matches!(slot.phase, Phase::Waiting(..))
            || (!too_many_issued && slot.last_failure.as_ref().is_some_and(of_others));
        match &mut slot.hold {
            Hold::Parked { canary, .. } => *canary = (*canary).max(free),
            hold if no_loop => *hold = Hold::Backoff { until: free },
            _ => self.park(id, Park::Governor, &text, now),
        }
        true
    }

    fn fresh_order(&self, id: &SlotId, now: Timestamp) -> OrderId {
        let orders = self.slots.get(id).map_or(0, |s| s.orders);
        self.node.mix("order").slot(id).number(u64::from(orders)).number(now.unix().unsigned_abs()).order()
    }
}
