//! What the configuration, the registry, the ledger and the signers in use say.

use super::super::event::{EndpointSpec, Ignored, IssuerSpec, Reach, RegistryView};
use super::super::gate::Gate;
use super::super::id::{EndpointId, Mix, SlotId};
use super::super::limits::Limits;
use super::super::record::Record;
use super::super::schedule::SignerLife;
use super::super::slot::{Hold, Known, Phase, Slot, Standing, Terms};
use super::{Core, Endpoint};
use crate::registry::State;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Core {
    /// Other bounds from now on: calendars are reckoned anew. Tell the endpoints after it.
    pub fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        self.limits = limits;
        self.stirred = true;
        let all: Vec<SlotId> = self.slots.keys().cloned().collect();
        all.iter().for_each(|id| self.reschedule(id));
        self.settle_all(now);
    }

    /// Start or reload: a ramp for every endpoint.
    pub(super) fn configure(&mut self, specs: Vec<EndpointSpec>, now: Timestamp) -> usize {
        let mut before = std::mem::take(&mut self.endpoints);
        let mut credentials = BTreeSet::new();
        let count = specs.len();
        for spec in specs {
            let id = spec.id.clone();
            let credential = spec.credential.clone();
            let endpoint = match before.remove(&id) {
                Some(mut endpoint) => {
                    endpoint.reconfigure(spec, now);
                    endpoint
                }
                None => {
                    let mut endpoint = Endpoint::new(spec, &self.limits, now);
                    if let Some(record) = self.restored_endpoints.remove(&id) {
                        endpoint.restore(record, &self.limits, now);
                    }
                    endpoint
                }
            };
            self.endpoints.insert(id.clone(), endpoint);
            if let Some(credential) = credential {
                let slot_id = SlotId::Credential(id.clone());
                let slot = self.slots.entry(slot_id.clone()).or_insert_with(|| Slot::new(now));
                let watched = credential.profile.is_none();
                slot.standing = if watched { Standing::Watched } else { Standing::Active };
                slot.terms = Some(Terms {
                    endpoint: id,
                    profile: credential.profile.unwrap_or_default(),
                    reserve: credential.margin,
                    needs_approval: false,
                });
                self.reschedule(&slot_id);
                credentials.insert(slot_id);
            }
        }
        // A place at an endpoint that is gone is no place; the order goes on where its issuer belongs now.
        let gone: Vec<SlotId> = before.values().flat_map(|e| e.occupied.keys().cloned()).collect();
        for id in gone {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.occupies = None;
            }
        }
        let dropped: Vec<SlotId> = self
            .slots
            .keys()
            .filter(|id| matches!(id, SlotId::Credential(_)) && !credentials.contains(*id))
            .cloned()
            .collect();
        for id in dropped {
            self.withdraw(&id, Standing::Removed, "the configuration no longer has this credential");
        }
        self.settle_all(now);
        count
    }

    pub(super) fn restore(&mut self, record: Record, now: Timestamp) -> Result<usize, Ignored> {
        match record {
            Record::Pauses(pauses) => {
                for mut pause in pauses {
                    self.dirty_pauses |= pause.not_ahead(now);
                    self.pauses.insert(pause.reach.clone(), pause);
                }
                self.settle_all(now);
                Ok(0)
            }
            Record::Endpoint(record) => {
                match self.endpoints.get_mut(&record.endpoint) {
                    Some(endpoint) => endpoint.restore(record, &self.limits, now),
                    None => {
                        self.restored_endpoints.insert(record.endpoint.clone(), record);
                    }
                }
                Ok(0)
            }
            Record::Slot(record) => {
                let id = record.slot.clone();
                let known = self.slots.get(&id);
                if known.is_some_and(|s| s.phase != Phase::Idle || s.orders > 0) {
                    return Err(Ignored::AlreadyAtWork(id.to_string()));
                }
                let mut slot = Slot::restored(record);
                slot.cut_waits(&self.limits, now);
                // A credential's terms come from the configuration, which may have come first.
                if let Some(known) = known {
                    slot.standing = known.standing;
                    slot.terms = known.terms.clone();
                    slot.knows(known.known);
                    slot.schedule = known.schedule;
                    slot.placed = known.placed.clone();
                }
                self.slots.insert(id.clone(), slot);
                self.settle(&id, now);
                Ok(1)
            }
        }
    }

    pub(super) fn registry(&mut self, view: RegistryView, now: Timestamp) -> Result<usize, Ignored> {
        if let Some(have) = self.evidence.generation.filter(|have| *have > view.generation) {
            return Err(Ignored::GenerationWentBack { have, got: view.generation });
        }
        let first_word = self.evidence.generation.is_none();
        self.evidence.generation = Some(view.generation);
        self.evidence.synced = Some(view.synced_at);
        // What a former process read is no look of this one.
        self.evidence.looked = Some(view.synced_at.min(now));
        self.evidence.asking = None;
        self.evidence.unusable = None;

        let mut seen: BTreeSet<SlotId> = view.quarantined.iter().cloned().map(SlotId::Signer).collect();
        for id in &seen {
            self.withdraw(id, Standing::Quarantined, "its registry record cannot be used");
        }
        self.make_room(&view, now);
        let mut joined: BTreeMap<EndpointId, usize> = BTreeMap::new();
        let mut refused: Vec<SlotId> = Vec::new();
        let mut concerned = 0;
        for spec in view.issuers {
            let id = SlotId::Signer(spec.id.clone());
            if !self.slots.contains_key(&id) && self.slots.len() >= self.limits.slots {
                refused.push(id);
                continue;
            }
            concerned += 1;
            let endpoint = spec.endpoint.clone();
            if self.admit(&id, spec, now) {
                *joined.entry(endpoint).or_default() += 1;
            }
            seen.insert(id);
        }
        let missing: Vec<SlotId> =
            self.slots.keys().filter(|id| matches!(id, SlotId::Signer(_)) && !seen.contains(*id)).cloned().collect();
        for id in &missing {
            self.withdraw(id, Standing::Removed, "its registry record is gone");
        }
        for (endpoint, count) in joined {
            if let Some(endpoint) = self.endpoints.get_mut(&endpoint) {
                endpoint.pace.restart(now);
            }
            if !first_word {
                let text = format!("{count} issuers joined by generation {}: the rate begins anew", view.generation);
                self.tell(Reach::Endpoint(endpoint), false, text);
            }
        }
        self.settle_all(now);
        match refused.first() {
            Some(first) => {
                Err(Ignored::TooManySlots { refused: refused.len(), limit: self.limits.slots, first: first.clone() })
            }
            None => Ok(concerned),
        }
    }

    /// Where all that the registry names would be too many beside those that it no longer names, these make room: what is
    /// remembered of them is given up, but for orders.
    fn make_room(&mut self, view: &RegistryView, now: Timestamp) {
        let named = view.issuers.iter().map(|spec| &spec.id).chain(&view.quarantined);
        let named: BTreeSet<SlotId> = named.cloned().map(SlotId::Signer).collect();
        let new = named.iter().filter(|id| !self.slots.contains_key(*id)).count();
        let excess = self.slots.len().saturating_add(new).saturating_sub(self.limits.slots);
        if excess == 0 {
            return;
        }
        let is_spare = |id: &SlotId, slot: &Slot| {
            matches!(id, SlotId::Signer(_)) && !named.contains(id) && matches!(slot.phase, Phase::Idle | Phase::Due)
        };
        let spare = self.slots.iter().filter(|(id, slot)| is_spare(id, slot)).map(|(id, _)| id.clone());
        for id in spare.take(excess).collect::<Vec<_>>() {
            self.withdraw(&id, Standing::Removed, "its registry record is gone");
            // Out of the queue or from behind the timer.
            self.settle(&id, now);
            self.slots.remove(&id);
            self.dirty.remove(&id);
        }
    }

    /// Takes one record over. `true`: its endpoint has one more slot to ask for than before.
    fn admit(&mut self, id: &SlotId, spec: IssuerSpec, now: Timestamp) -> bool {
        let standing = match spec.state {
            State::Active => Standing::Active,
            State::Disabled => spec.held_by.map_or(Standing::Disabled, Standing::Held),
            State::Retired => Standing::Retired,
        };
        let is_new = !self.slots.contains_key(id);
        let slot = self.slots.entry(id.clone()).or_insert_with(|| Slot::new(now));
        let mark = Mix::new(0)
            .octets(spec.endpoint.as_str().as_bytes())
            .octets(spec.profile.as_bytes())
            .number(spec.validity.as_secs())
            .number(spec.margin.as_secs())
            .number(spec.rest)
            .finish();
        let changed = slot.mark != 0 && slot.mark != mark;
        let back = standing == Standing::Active && slot.standing.is_out();
        if changed {
            slot.changed = Some(now);
            // What has come was checked against the former record.
            slot.phase = match std::mem::replace(&mut slot.phase, Phase::Idle) {
                Phase::Verified(order, _) | Phase::Staged { order, .. } => {
                    slot.asked = None;
                    Phase::Issued(order)
                }
                phase => phase,
            };
        }
        if slot.mark != mark {
            slot.mark = mark;
            self.dirty.insert(id.clone());
        }
        let approval_is_new = spec.needs_approval && slot.terms.as_ref().is_some_and(|terms| !terms.needs_approval);
        slot.terms = Some(Terms {
            endpoint: spec.endpoint,
            profile: spec.profile,
            reserve: spec.validity.saturating_add(spec.margin),
            needs_approval: spec.needs_approval,
        });
        let mut waits = false;
        if let Phase::Staged { approved, .. } = &mut slot.phase {
            if !spec.needs_approval {
                *approved = true;
            } else if approval_is_new && std::mem::replace(approved, false) {
                // Nobody has approved this one: it had come when nobody had to.
                waits = true;
                self.dirty.insert(id.clone());
            }
        }
        let unsent = slot.phase.order().is_some_and(|order| order.attempts == 0);
        if waits {
            self.tell(Reach::Slot(id.clone()), false, "a new signer is in place and waits for approval".to_owned());
        }
        if changed && unsent {
            // Its key and request were made for the former record.
            self.drop_order(id, "its registry record has changed before it was sent");
        }
        let slot = self.slots.entry(id.clone()).or_insert_with(|| Slot::new(now));
        if standing != Standing::Active {
            let reason = match standing {
                Standing::Held(by) => format!("generation {by} of the registry, which is held, would change it"),
                _ => format!("the registry says {}", standing.name()),
            };
            self.withdraw(id, standing, &reason);
        } else {
            slot.standing = standing;
            if back {
                slot.in_service |= matches!(slot.known, Known::Present(_));
            }
            if changed || back {
                let was_parked = slot.is_parked();
                if was_parked {
                    slot.lift();
                }
                slot.failures = 0;
                slot.forget_denial();
                // Or a registry that changes to and fro would grant the budgets time and again.
                slot.hold = slot.budget_frees(&self.limits, now).map_or(Hold::None, |until| Hold::Backoff { until });
                if was_parked {
                    let text = "its registry record has changed: no longer parked".to_owned();
                    self.tell(Reach::Slot(id.clone()), false, text);
                }
                self.dirty.insert(id.clone());
            }
        }
        self.reschedule(id);
        standing == Standing::Active && (is_new || back || changed)
    }

    /// The slot is not to be asked for any more. What has not been sent is cancelled; what the CA may know of is kept, and
    /// not asked again; a certificate that has come is used, unless the issuer is gone.
    pub(super) fn withdraw(&mut self, id: &SlotId, standing: Standing, reason: &str) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.standing = standing;
        if standing.is_gone() && (slot.hold != Hold::None || slot.in_service) {
            // It is not asked for, so nothing holds it. If it comes back, it is a new issuer with the budgets of before.
            slot.lift();
            (slot.forced, slot.in_service) = (false, false);
            self.dirty.insert(id.clone());
        }
        let unsent = slot.phase.order().is_some_and(|o| o.attempts == 0);
        let unused =
            matches!(slot.phase, Phase::Issued(_) | Phase::Verified(..) | Phase::Staged { .. } | Phase::Activating(..));
        match slot.phase {
            Phase::Idle => {}
            Phase::Due => slot.phase = Phase::Idle,
            Phase::Preparing(_) if !unsent => {
                // The key is made again when the issuer is back; nobody waits for it now.
                if let Phase::Preparing(order) = std::mem::replace(&mut slot.phase, Phase::Idle) {
                    slot.phase = Phase::Ordered(order);
                }
                slot.asked = None;
                self.vacate(id);
            }
            _ if unsent || (unused && standing.is_gone()) => {
                self.drop_order(id, reason);
            }
            _ => {}
        }
    }

    pub(super) fn confirmed(&mut self, generation: u64, at: Timestamp, now: Timestamp) -> Result<usize, Ignored> {
        if self.evidence.generation != Some(generation) {
            return Err(Ignored::AnotherGeneration { have: self.evidence.generation, got: generation });
        }
        // A look that took place in the future is none.
        self.evidence.synced = self.evidence.synced.filter(|synced| *synced <= now).max(Some(at.min(now)));
        self.evidence.looked = Some(now);
        self.evidence.asking = None;
        self.evidence.unusable = None;
        Ok(0)
    }

    pub(super) fn signer(&mut self, id: &SlotId, life: Option<SignerLife>, now: Timestamp) -> Result<usize, Ignored> {
        let Some(slot) = self.slots.get_mut(id) else { return Err(Ignored::UnknownSlot(id.clone())) };
        let known = life.map_or(Known::Absent, Known::Present);
        let changed = slot.known != known;
        let is_first_word = slot.known == Known::Nothing;
        if slot.knows(known) {
            self.dirty.insert(id.clone());
        }
        self.reschedule(id);
        if let (true, SlotId::Credential(endpoint)) = (changed, id) {
            self.credential_is(endpoint, life.map(|life| life.serial), is_first_word, now);
        }
        self.settle(id, now);
        Ok(1)
    }

    /// Whether the registry was read successfully within `max_age`, and could be used at the last look.
    pub(in super::super) fn evidence_is_fresh(&self, now: Timestamp) -> bool {
        let max_age = self.limits.evidence_max_age;
        let is_usable = self.evidence.unusable.is_none();
        is_usable && self.evidence.synced.is_some_and(|synced| synced <= now && now.since(synced) <= max_age)
    }

    /// Whether there is fresh evidence that what the registry calls active is, right now.
    pub(super) fn evidence_gate(&self, now: Timestamp) -> Result<(), Gate> {
        let Some(synced) = self.evidence.synced else { return Err(Gate::NoEvidence) };
        if synced > now {
            return Err(Gate::FutureEvidence { synced });
        }
        let max_age = self.limits.evidence_max_age;
        if now.since(synced) > max_age {
            return Err(Gate::StaleEvidence { synced, max_secs: max_age.as_secs() });
        }
        let fresh = self.evidence.looked.is_some_and(|t| t <= now && now.since(t) <= self.limits.confirm_within);
        if !fresh {
            let again = self.evidence.asking.map(|t| t.plus(self.limits.confirm_patience.max(Duration::from_secs(1))));
            return Err(Gate::Confirming { again });
        }
        match &self.evidence.unusable {
            Some(text) => {
                let again = self.evidence.looked.map(|t| t.plus(self.limits.confirm_within + Duration::from_secs(1)));
                Err(Gate::UnusableRegistry { again, text: text.clone() })
            }
            None => Ok(()),
        }
    }
}
