//! A service that does not accept us: whose trouble that is, and what ends it.

use super::super::endpoint::{Denial, Trouble};
use super::super::event::Reach;
use super::super::failure::Failure;
use super::super::id::{EndpointId, SlotId};
use super::super::slot::{Known, Slot};
use super::Core;
use crate::ocsp::Serial;
use crate::time::Timestamp;

impl Core {
    /// The service did not accept us when it was asked for this slot; `again`: as the last time.
    pub(super) fn denied(
        &mut self,
        endpoint_id: &EndpointId,
        id: &SlotId,
        failure: &Failure,
        again: bool,
        now: Timestamp,
    ) -> Denial {
        let (slack, seed) = (self.least_slack(endpoint_id, id, now), self.endpoint_seed(endpoint_id, now));
        let own = match self.slots.get(&SlotId::Credential(endpoint_id.clone())).map(|own| own.known) {
            Some(Known::Present(life)) => Some(life.serial),
            _ => None,
        };
        let Some(endpoint) = self.endpoints.get_mut(endpoint_id) else { return Denial::OfSlot };
        let trouble =
            Trouble { kind: failure.kind, retry_after: failure.retry_after, text: &failure.text, slack, seed };
        let denial = endpoint.denied(id, again, &trouble, own, (&self.limits, now));
        self.dirty_endpoints.insert(endpoint_id.clone());
        if denial == Denial::OfService {
            let text = format!("the service does not accept us: {}", failure.text);
            self.tell(Reach::Endpoint(endpoint_id.clone()), true, text);
        }
        denial
    }

    /// This is our certificate there now, and was not before; or it is not known what was, and it is the first word of it.
    pub(super) fn credential_is(
        &mut self,
        endpoint_id: &EndpointId,
        own: Option<Serial>,
        is_first_word: bool,
        now: Timestamp,
    ) {
        let Some(endpoint) = self.endpoints.get(endpoint_id) else { return };
        if !(is_first_word && endpoint.was_refused_as(own)) {
            self.forgive_denials(endpoint_id, None, now);
        }
    }

    /// Our password or shared key was last changed then: what was refused before is none of it.
    pub(super) fn secret(&mut self, endpoint_id: &EndpointId, changed: Timestamp, now: Timestamp) -> usize {
        if !self.endpoints.contains_key(endpoint_id) {
            return 0;
        }
        self.forgive_denials(endpoint_id, Some(changed), now);
        1
    }

    /// Another credential is in place: what the refusals of the former one hold is asked for again. Where it is known when it
    /// changed, those of before.
    fn forgive_denials(&mut self, endpoint_id: &EndpointId, changed: Option<Timestamp>, now: Timestamp) {
        let is_over = |refused: Option<Timestamp>| match (refused, changed) {
            (Some(refused), Some(changed)) => changed >= refused,
            (refused, None) => refused.is_some(),
            (None, Some(_)) => false,
        };
        let Some(endpoint) = self.endpoints.get_mut(endpoint_id) else { return };
        if is_over(endpoint.refused_at()) && endpoint.credential_changed(now) {
            self.dirty_endpoints.insert(endpoint_id.clone());
        }
        let here = |slot: &Slot| slot.terms.as_ref().is_some_and(|terms| terms.endpoint == *endpoint_id);
        let lifted = self.slots.iter().filter(|(_, slot)| here(slot) && is_over(slot.denied_at()));
        let lifted: Vec<SlotId> = lifted.map(|(id, _)| id.clone()).collect();
        for id in lifted {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.forgive_denial();
            self.dirty.insert(id.clone());
            self.settle(&id, now);
        }
    }
}
