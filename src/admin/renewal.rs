//! The metrics of renewal.

use super::exposition::{Exposition, Kind};
use crate::agent::{Handle, Tally};
use crate::renewal::{Cause, Hold, Park, Reach, SlotId, SlotView};
use std::collections::BTreeMap;

/// What the agent published at its last pass.
pub(super) fn metrics(agent: &Handle, e: &mut Exposition) {
    let (snapshot, view) = (agent.snapshot(), agent.view());
    let signers = || {
        snapshot.slots.iter().filter_map(|slot| match &slot.slot {
            SlotId::Signer(issuer) => Some((issuer.as_str(), slot)),
            SlotId::Credential(_) => None,
        })
    };
    let mut family = e.family(
        "stillgood_signer_due_seconds",
        Kind::Gauge,
        "When the renewal of the signer in use begins, in seconds since the epoch.",
    );
    for (issuer, slot) in signers() {
        if let Some(schedule) = &slot.schedule {
            family.sample("", &[("issuer", issuer)], schedule.due.unix());
        }
    }
    let mut family = e.family(
        "stillgood_signer_deadline_seconds",
        Kind::Gauge,
        "When the next signer must be in use: notAfter - validity - margin, in seconds since the epoch.",
    );
    for (issuer, slot) in signers() {
        family.sample("", &[("issuer", issuer)], slot.deadline.unix());
    }
    let mut family = e.family(
        "stillgood_renewal_state",
        Kind::Gauge,
        "1 for the state of an issuer's renewal, with the reason why it waits, if it does.",
    );
    for (issuer, slot) in signers() {
        family.sample("", &[("issuer", issuer), ("state", slot.phase), ("reason", reason(slot))], 1);
    }
    let mut family =
        e.family("stillgood_renewal_requests_total", Kind::Counter, "Requests to CA services, by cause and result.");
    let mut counted: BTreeMap<_, u64> =
        view.requests.iter().map(|t| ((t.endpoint.as_str(), t.cause.name(), t.result), t.count)).collect();
    // A series that begins at 1 has no increase.
    for endpoint in &snapshot.endpoints {
        for cause in Cause::ALL {
            for result in Tally::RESULTS {
                counted.entry((endpoint.id.as_str(), cause.name(), result)).or_default();
            }
        }
    }
    for ((endpoint, cause, result), count) in counted {
        family.sample("", &[("endpoint", endpoint), ("cause", cause), ("result", result)], count);
    }
    let mut family =
        e.family("stillgood_signer_changes_total", Kind::Counter, "Certificates that became current, by CA service.");
    for endpoint in &snapshot.endpoints {
        family.sample("", &[("endpoint", endpoint.id.as_str())], endpoint.signer_changes);
    }
    let help = "1 if a CA service fails so often that one request at a time finds out whether it is back.";
    let mut family = e.family("stillgood_endpoint_open", Kind::Gauge, help);
    for endpoint in &snapshot.endpoints {
        family.sample("", &[("endpoint", endpoint.id.as_str())], u8::from(endpoint.open));
    }
    let mut family = e.family("stillgood_endpoint_failures", Kind::Gauge, "Failures of a CA service itself, in a row.");
    for endpoint in &snapshot.endpoints {
        family.sample("", &[("endpoint", endpoint.id.as_str())], endpoint.failures);
    }
    let mut family =
        e.family("stillgood_enrolment_connections", Kind::Gauge, "Connections or processes open to a CA service now.");
    for (endpoint, open, _) in agent.connections() {
        family.sample("", &[("endpoint", &endpoint)], open);
    }
    let mut family = e.family(
        "stillgood_credential_not_after_seconds",
        Kind::Gauge,
        "notAfter of our own client certificate at a CA service, in seconds since the epoch.",
    );
    for credential in &view.credentials {
        if let Some(at) = credential.not_after {
            family.sample("", &[("endpoint", credential.endpoint.as_str())], at.unix());
        }
    }
    let mut family =
        e.family("stillgood_credential_fault", Kind::Gauge, "1 if our own client certificate cannot be used now.");
    for credential in &view.credentials {
        let fault = u8::from(credential.fault.is_some());
        family.sample("", &[("endpoint", credential.endpoint.as_str())], fault);
    }
    let mut family = e.family("stillgood_paused", Kind::Gauge, "1 for everything that an operator has paused.");
    for pause in &snapshot.pauses {
        let scope = match &pause.reach {
            Reach::All => "all".to_owned(),
            Reach::Endpoint(endpoint) => format!("endpoint:{endpoint}"),
            Reach::Slot(SlotId::Signer(issuer)) => format!("issuer:{issuer}"),
            Reach::Slot(SlotId::Credential(endpoint)) => format!("credential:{endpoint}"),
        };
        family.sample("", &[("scope", &scope)], 1);
    }
    e.single(
        "stillgood_agent_abandoned_threads",
        Kind::Gauge,
        "Threads that were given up because what they read made them hang.",
        view.abandoned,
    );
    e.single(
        "stillgood_ledger_fault",
        Kind::Gauge,
        "1 if the ledger cannot be written: nothing is asked for until it can.",
        u8::from(view.ledger_fault.is_some()),
    );
}

/// Why a slot waits, in one word.
fn reason(slot: &SlotView) -> &'static str {
    match &slot.hold {
        Hold::Parked { why: Park::Refused, .. } => "refused",
        Hold::Parked { why: Park::Rejected, .. } => "rejected",
        Hold::Parked { why: Park::Governor, .. } => "governor",
        Hold::Backoff { .. } => "backoff",
        Hold::None if slot.phase == "staged" => "activation",
        Hold::None => match slot.standing {
            crate::renewal::Standing::Active => "none",
            other => other.name(),
        },
    }
}
