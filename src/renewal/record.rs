//! What survives a restart. The driver writes these to the ledger as they are and gives them back at the start.

use super::count::DayCount;
use super::event::Pause;
use super::failure::Failure;
use super::id::{EndpointId, SlotId};
use super::slot::{Hold, Phase, Slot};
use crate::ocsp::Serial;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One entry of the ledger; a later one of the same [`Record::key`] replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "slots are nearly all of the records; boxing them would cost every one")]
pub enum Record {
    /// Of a slot.
    Slot(SlotRecord),
    /// Of an endpoint.
    Endpoint(EndpointRecord),
    /// All pauses.
    Pauses(Vec<Pause>),
}

impl Record {
    /// Its place in the ledger: unique per slot and endpoint.
    pub fn key(&self) -> String {
        match self {
            Record::Slot(r) => match &r.slot {
                SlotId::Credential(endpoint) => format!("credential/{endpoint}"),
                SlotId::Signer(issuer) => format!("signer/{issuer}"),
            },
            Record::Endpoint(r) => format!("endpoint/{}", r.endpoint),
            Record::Pauses(_) => "pauses".to_owned(),
        }
    }
}

/// What is remembered of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Which.
    pub slot: SlotId,
    /// Where it is, with its order.
    pub phase: Phase,
    /// Why it waits.
    pub hold: Hold,
    /// An operator wants it renewed.
    pub forced: bool,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub last_failure: Option<(Timestamp, Failure)>,
    /// Requests within a day.
    pub submissions: DayCount,
    /// Certificates within a day.
    pub issuances: DayCount,
    /// Orders ever opened; makes the next id.
    pub orders: u32,
    /// When its issuer was first seen.
    pub first_seen: Timestamp,
    /// A hash of what the registry said of it: a change lifts a park.
    pub mark: u64,
    /// How often in a row the service failed as a whole when it was asked for this slot.
    #[serde(default)]
    pub turned_away: u32,
    /// It has had a signer: one that is lost is urgent, and one that never was is not.
    #[serde(default)]
    pub in_service: bool,
}

impl SlotRecord {
    /// Of a slot with its first order, of which nothing else is known.
    pub fn of_first_order(slot: SlotId, phase: Phase, first_seen: Timestamp) -> Self {
        SlotRecord { phase, orders: 1, ..Slot::new(first_seen).record(&slot) }
    }
}

/// What is remembered of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Which.
    pub endpoint: EndpointId,
    /// Requests within a day.
    pub attempts: DayCount,
    /// No request before this: the rate holds over a restart.
    pub not_before: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// No request before this, and why: the service failed.
    #[serde(default)]
    pub hold: Option<(Timestamp, String)>,
    /// No request before this, and why: it does not accept us.
    #[serde(default)]
    pub refused: Option<(Timestamp, String)>,
    /// The certificate that it did not accept: another one lifts that.
    #[serde(default)]
    pub refused_as: Option<Serial>,
    /// When it last did not accept us: a password that was changed after it lifts that.
    #[serde(default)]
    pub refused_at: Option<Timestamp>,
    /// The slots for which it did not, since it last answered any.
    #[serde(default)]
    pub denied: BTreeSet<SlotId>,
    /// Places of the moment, in thousandths; 0: not known.
    #[serde(default)]
    pub places: u32,
}
