//! The state of everything, for status pages, metrics and `--json`.

use super::core::Core;
use super::event::{Cause, Pause};
use super::gate::Gate;
use super::id::{EndpointId, OrderId, SlotId};
use super::schedule::{Schedule, SignerLife};
use super::slot::{Hold, Known, Phase, Standing};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// When.
    pub now: Timestamp,
    /// The generation of the registry in use.
    pub generation: Option<u64>,
    /// When the registry was last read successfully.
    pub synced_at: Option<Timestamp>,
    /// There is fresh evidence; without it nothing starts.
    pub evidence_is_fresh: bool,
    /// What is paused.
    pub pauses: Vec<Pause>,
    /// The services.
    pub endpoints: Vec<EndpointView>,
    /// The slots; credentials first.
    pub slots: Vec<SlotView>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointView {
    /// Its name.
    pub id: EndpointId,
    /// `ok`, or why nothing leaves for it now, as for a signer that is due and not urgent.
    pub state: String,
    /// What `state` says is only its rate or its places: the next request leaves as configured, and nothing is wrong.
    pub is_pace: bool,
    /// The breaker is open.
    pub open: bool,
    /// Endpoint-scope failures in a row.
    pub failures: u32,
    /// Places taken: on the wire or being prepared.
    pub in_flight: u32,
    /// Places of the moment.
    pub in_flight_limit: u32,
    /// The part of the rate that is granted now, up to 1.
    pub rate_share: f64,
    /// Slots that wait for it.
    pub queued: usize,
    /// Requests within a day.
    pub attempts_today: u32,
    /// Requests since the start, by cause.
    pub requests: BTreeMap<&'static str, u64>,
    /// Signers that became active since the start. Requests ÷ this is what a signer costs.
    pub signer_changes: u64,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlotView {
    /// Which.
    pub slot: SlotId,
    /// Whom it asks.
    pub endpoint: Option<EndpointId>,
    /// What the registry says.
    pub standing: Standing,
    /// Where it is.
    pub phase: &'static str,
    /// Its open order.
    pub order: Option<OrderId>,
    /// Why it waits.
    pub hold: Hold,
    /// Its certificate.
    pub life: Option<SignerLife>,
    /// Its calendar.
    pub schedule: Option<Schedule>,
    /// The certificate that is to follow: it has come, passed every check, and is not in use yet.
    pub next: Option<SignerLife>,
    /// The certificate that is to follow is in place and waits for an operator's approve.
    pub awaits_approval: bool,
    /// From when on what is in place may become active, an approval apart.
    pub active_from: Option<Timestamp>,
    /// When the next signer must be in use.
    pub deadline: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them, in words.
    pub last_failure: Option<String>,
    /// Requests within a day.
    pub submissions_today: u32,
    /// Certificates within a day.
    pub issuances_today: u32,
    /// The cause of the next request, if there were one now.
    pub cause: Cause,
}

impl Core {
    /// The state of everything now.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let mut changes: BTreeMap<&EndpointId, u64> = BTreeMap::new();
        for slot in self.slots.values() {
            if let Some(terms) = &slot.terms {
                *changes.entry(&terms.endpoint).or_default() += slot.changes;
            }
        }
        Snapshot {
            now,
            generation: self.evidence.generation,
            synced_at: self.evidence.synced,
            evidence_is_fresh: self.evidence_is_fresh(now),
            pauses: self.pauses.values().cloned().collect(),
            endpoints: self
                .endpoints
                .iter()
                .map(|(id, e)| (id, e, self.endpoint_gate(id, now).err()))
                .map(|(id, e, gate)| EndpointView {
                    id: id.clone(),
                    state: gate.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string),
                    is_pace: gate.as_ref().is_some_and(Gate::is_pace),
                    open: e.is_open(&self.limits),
                    failures: e.failures,
                    in_flight: e.taken(),
                    in_flight_limit: e.in_flight_limit(),
                    rate_share: e.pace.share(now),
                    queued: e.queue.len(),
                    attempts_today: e.attempts.within_a_day(now),
                    requests: e.requests.iter().map(|(cause, n)| (cause.name(), *n)).collect(),
                    signer_changes: changes.get(id).copied().unwrap_or(0),
                })
                .collect(),
            slots: self.slots.keys().filter_map(|id| self.slot_view(id, now)).collect(),
        }
    }

    /// The state of one slot now; `None`: there is no such slot.
    pub fn slot_view(&self, id: &SlotId, now: Timestamp) -> Option<SlotView> {
        let slot = self.slots.get(id)?;
        Some(SlotView {
            slot: id.clone(),
            endpoint: slot.terms.as_ref().map(|t| t.endpoint.clone()),
            standing: slot.standing,
            phase: slot.phase.name(),
            order: slot.phase.order().map(|o| o.id),
            hold: slot.hold.clone(),
            life: match slot.known {
                Known::Present(life) => Some(life),
                _ => None,
            },
            schedule: slot.schedule,
            next: slot.next().copied(),
            awaits_approval: matches!(slot.phase, Phase::Staged { approved: false, .. }),
            active_from: self.active_from(slot),
            deadline: slot.deadline(self.limits.new_issuer_grace),
            failures: slot.failures,
            last_failure: slot.last_failure.as_ref().map(|(_, failure)| failure.to_string()),
            submissions_today: slot.submissions.within_a_day(now),
            issuances_today: slot.issuances.within_a_day(now),
            cause: self.cause(id, now),
        })
    }
}
