//! The metrics of renewal.

use super::exposition::{Exposition, Kind};
use crate::agent::{Handle, Tally};
use crate::renewal::{Cause, Hold, Park, Reach, SlotId, SlotView, Standing};
use std::collections::BTreeMap;

/// What the agent published at its last pass.
pub(super) fn metrics(agent: &Handle, e: &mut Exposition) {
    let (snapshot, view) = (agent.snapshot(), agent.view());
    signers(&snapshot.slots, e);
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

/// What is known of each issuer's signer. Of issuers that are gone nothing is to be renewed: the core remembers them, and says so
/// to nobody here.
fn signers(slots: &[SlotView], e: &mut Exposition) {
    let signers = || {
        let those = slots.iter().filter(|slot| !matches!(slot.standing, Standing::Retired | Standing::Removed));
        those.filter_map(|slot| match &slot.slot {
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
        "stillgood_renewal_state",
        Kind::Gauge,
        "1 for the state of an issuer's renewal, with the reason why it waits, if it does.",
    );
    for (issuer, slot) in signers() {
        family.sample("", &[("issuer", issuer), ("state", slot.phase), ("reason", reason(slot))], 1);
    }
}

/// Why a slot waits, in one word. What the registry says comes first: one that is not to be asked for waits for nothing else.
fn reason(slot: &SlotView) -> &'static str {
    match (slot.standing, &slot.hold) {
        (Standing::Active, Hold::Parked { why: Park::Refused, .. }) => "refused",
        (Standing::Active, Hold::Parked { why: Park::Rejected, .. }) => "rejected",
        (Standing::Active, Hold::Parked { why: Park::Governor, .. }) => "governor",
        (Standing::Active, Hold::Backoff { .. }) => "backoff",
        (Standing::Active, Hold::None) if slot.phase == "staged" => "activation",
        (Standing::Active, Hold::None) => "none",
        (other, _) => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::IssuerId;
    use crate::time::Timestamp;

    fn parked(id: &str, standing: Standing) -> SlotView {
        let at = Timestamp::from_unix(1_795_269_600);
        SlotView {
            slot: SlotId::Signer(IssuerId::new(id).unwrap()),
            endpoint: None,
            standing,
            phase: "ordered",
            order: None,
            hold: Hold::Parked { why: Park::Refused, text: "no such profile".into(), since: at, canary: at },
            life: None,
            schedule: None,
            next: None,
            awaits_approval: false,
            active_from: None,
            deadline: at,
            failures: 1,
            last_failure: None,
            submissions_today: 0,
            issuances_today: 0,
            cause: Cause::Scheduled,
        }
    }

    #[test]
    fn an_issuer_that_is_gone_is_told_nothing_of_and_one_that_is_not_to_be_asked_for_is_not_parked() {
        let slots = [
            parked("kept", Standing::Active),
            parked("stopped", Standing::Disabled),
            parked("held", Standing::Held(8)),
            parked("broken", Standing::Quarantined),
            parked("retired", Standing::Retired),
            parked("removed", Standing::Removed),
        ];
        let mut e = Exposition::default();
        signers(&slots, &mut e);
        let text = e.finish();
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            series,
            [
                "stillgood_renewal_state{issuer=\"kept\",state=\"ordered\",reason=\"refused\"} 1",
                "stillgood_renewal_state{issuer=\"stopped\",state=\"ordered\",reason=\"disabled\"} 1",
                "stillgood_renewal_state{issuer=\"held\",state=\"ordered\",reason=\"held\"} 1",
                "stillgood_renewal_state{issuer=\"broken\",state=\"ordered\",reason=\"quarantined\"} 1",
            ]
        );
    }
}
