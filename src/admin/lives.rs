//! How the lives of signers and of our own client certificates are divided, for alerts that fit a life of an hour as one of a year.
//!
//! From the report of which the status page is made, so that an alert and the page turn at the same moment.

use super::control::{SlotReport, Status, Target};
use super::exposition::{Exposition, Kind};
use crate::time::Timestamp;

/// What the status page says of them now.
pub(super) fn metrics(status: &Status, e: &mut Exposition) {
    family(
        e,
        ("stillgood_signer_not_before_seconds", "notBefore of the signer in use, in seconds since the epoch."),
        ("issuer", &status.issuers),
        |slot| slot.not_before,
    );
    family(
        e,
        (
            "stillgood_signer_urgent_seconds",
            "When somebody must look after the next signer, in seconds since the epoch.",
        ),
        ("issuer", &status.issuers),
        |slot| Some(slot.window?.urgent),
    );
    family(
        e,
        (
            "stillgood_signer_deadline_seconds",
            "When the next signer must be in use: notAfter - validity - margin, in seconds since the epoch.",
        ),
        ("issuer", &status.issuers),
        |slot| Some(slot.window?.deadline),
    );
    family(
        e,
        (
            "stillgood_credential_urgent_seconds",
            "When somebody must look after our own client certificate at a CA service, in seconds since the epoch.",
        ),
        ("endpoint", &status.credentials),
        |slot| Some(slot.window?.urgent),
    );
}

fn family(
    e: &mut Exposition,
    (name, help): (&'static str, &str),
    (label, slots): (&str, &[SlotReport]),
    of: impl Fn(&SlotReport) -> Option<Timestamp>,
) {
    let mut family = e.family(name, Kind::Gauge, help);
    for slot in slots {
        if let (Target::Issuer(id) | Target::Credential(id), Some(at)) = (&slot.slot, of(slot)) {
            family.sample("", &[(label, id)], at.unix());
        }
    }
}
