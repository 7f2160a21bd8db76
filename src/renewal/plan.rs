//! What is to come: the calendar of requests, and what another registry would change.

use super::core::{Core, is_due};
use super::event::{Cause, RegistryView};
use super::id::{EndpointId, SlotId};
use super::slot::{Hold, Phase, Slot, Standing};
use crate::registry::State;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The calendar of a node: what will be asked for, and when, if nothing happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// When it was made.
    pub now: Timestamp,
    /// One per slot that is to be renewed, the earliest first.
    pub entries: Vec<Planned>,
    /// Slots that are not in it: not active, watched only, or nothing known of their certificate.
    pub left_out: usize,
}

/// One slot's next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Which slot.
    pub slot: SlotId,
    /// Whom.
    pub endpoint: EndpointId,
    /// Not before this; what is in the past leaves as soon as the endpoint's limits allow.
    pub at: Timestamp,
    /// The next signer must be in use.
    pub deadline: Timestamp,
    /// Where the slot is.
    pub phase: &'static str,
    /// Why the request will be made.
    pub cause: Cause,
}

impl Plan {
    /// Requests by hour: the beginning of each hour that has any, and how many. What is overdue counts for the present hour.
    pub fn by_hour(&self) -> BTreeMap<Timestamp, usize> {
        let mut hours = BTreeMap::new();
        for entry in &self.entries {
            let at = entry.at.max(self.now).unix();
            *hours.entry(Timestamp::from_unix(at - at.rem_euclid(3_600))).or_default() += 1;
        }
        hours
    }
}

/// What a registry would change, counted before it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Impact {
    /// Issuers known now, those that are gone not counted.
    pub known: usize,
    /// Not known so far; each asks for a signer soon.
    pub added: BTreeSet<SlotId>,
    /// Their record is gone.
    pub removed: BTreeSet<SlotId>,
    /// Active, and to be disabled or retired.
    pub stopped: BTreeSet<SlotId>,
    /// To become active again.
    pub started: BTreeSet<SlotId>,
    /// Another endpoint or profile.
    pub moved: BTreeSet<SlotId>,
    /// A record that was usable is not.
    pub quarantined: BTreeSet<SlotId>,
    /// Orders that were not sent yet and would be cancelled.
    pub cancelled: usize,
    /// Requests that would follow soon, at the endpoints' rates: added, started and already due.
    pub requests: usize,
}

impl Impact {
    /// How many issuers change.
    pub fn changed(&self) -> usize {
        [&self.added, &self.removed, &self.stopped, &self.started, &self.moved, &self.quarantined]
            .iter()
            .map(|s| s.len())
            .sum()
    }

    /// The share of the known issuers that change; 1 where none was known and some come. May exceed 1.
    pub fn share(&self) -> f64 {
        if self.changed() == 0 { 0.0 } else { self.changed() as f64 / self.known.max(1) as f64 }
    }
}

impl Core {
    /// The calendar as it stands.
    pub fn plan(&self, now: Timestamp) -> Plan {
        let mut entries = Vec::with_capacity(self.slots.len());
        for (id, slot) in &self.slots {
            let Some(terms) = slot.terms.as_ref().filter(|_| slot.standing == Standing::Active) else { continue };
            let due = match (&slot.phase, slot.schedule) {
                (Phase::Idle, _) if is_due(slot, now) => now,
                (Phase::Idle, Some(schedule)) => schedule.due,
                (Phase::Idle, None) => continue, // nothing known of its certificate yet
                (Phase::Due | Phase::Preparing(_) | Phase::Ordered(_) | Phase::InFlight(_) | Phase::Waiting(..), _) => {
                    now
                }
                _ => continue, // the certificate has come; nothing more is asked
            };
            entries.push(Planned {
                slot: id.clone(),
                endpoint: terms.endpoint.clone(),
                at: slot.held_until().map_or(due, |held| held.max(due)),
                deadline: slot.deadline(self.limits.new_issuer_grace),
                phase: slot.phase.name(),
                cause: self.cause(id, now),
            });
        }
        entries.sort_by(|a, b| (a.at, a.deadline, &a.slot).cmp(&(b.at, b.deadline, &b.slot)));
        let left_out = self.slots.len() - entries.len();
        Plan { now, entries, left_out }
    }

    /// What this registry would change.
    pub fn impact(&self, view: &RegistryView, now: Timestamp) -> Impact {
        let mut impact = Impact::default();
        let mut seen = BTreeSet::new();
        let unsent = |id: &SlotId| {
            let order = self.slots.get(id).and_then(|s| s.phase.order());
            usize::from(order.is_some_and(|o| o.attempts == 0))
        };
        for issuer in &view.quarantined {
            let id = SlotId::Signer(issuer.clone());
            let is_usable =
                |slot: &Slot| matches!(slot.standing, Standing::Active | Standing::Disabled | Standing::Held(_));
            if self.slots.get(&id).is_some_and(is_usable) {
                impact.cancelled += unsent(&id);
                impact.quarantined.insert(id.clone());
            }
            seen.insert(id);
        }
        for spec in &view.issuers {
            let id = SlotId::Signer(spec.id.clone());
            let active = spec.state == State::Active;
            match self.slots.get(&id).filter(|s| s.standing != Standing::Unknown) {
                None => {
                    impact.added.insert(id.clone());
                    impact.requests += usize::from(active);
                }
                Some(slot) => {
                    let terms = slot.terms.as_ref();
                    let moves = terms.is_some_and(|t| t.endpoint != spec.endpoint || t.profile != spec.profile);
                    let was_active = slot.standing == Standing::Active;
                    if was_active && !active {
                        impact.cancelled += unsent(&id);
                        impact.stopped.insert(id.clone());
                    } else if !was_active && active {
                        impact.requests += usize::from(is_due(slot, now));
                        impact.started.insert(id.clone());
                    } else if moves {
                        impact.requests += usize::from(active && (is_due(slot, now) || slot.hold != Hold::None));
                        impact.moved.insert(id.clone());
                    }
                }
            }
            seen.insert(id);
        }
        for (id, slot) in &self.slots {
            let signer = matches!(id, SlotId::Signer(_));
            let there = !matches!(slot.standing, Standing::Removed | Standing::Retired | Standing::Unknown);
            impact.known += usize::from(signer && there);
            if signer && there && !seen.contains(id) {
                impact.cancelled += unsent(id);
                impact.removed.insert(id.clone());
            }
        }
        impact
    }
}
