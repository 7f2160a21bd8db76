//! Renewal, sans-IO: which signer is ordered when, from whom, and why not.
//!
//! [`Core`] is told what happens ([`Event`]) and the time, and says what is to be done ([`Action`]). It has no clock, IO,
//! threads or randomness: a driver carries its actions out, a simulator plays one in virtual time, and the same events at
//! the same times give the same actions. Time is counted in whole seconds, as certificates do; of a rate faster than one a
//! second, those of a second leave together.
//!
//! * A **slot** is one certificate to keep fresh: an issuer's signer, or our own credential at an endpoint, which comes
//!   first. Its usable life ends at `notAfter − validity − margin`; its place in the window of that life is a hash of node,
//!   slot and serial number.
//! * It goes idle → due → preparing → ordered → in flight (→ waiting) → issued → verified → staged → activating → idle. An order
//!   exists only in the phases that have one; what a CA may know of is asked again as it is, never anew.
//! * A request leaves only through all of: the issuer is active by a registry read within `evidence_max_age` and looked at
//!   again within `confirm_within`; no pause; no trouble of this machine; our credential valid; endpoint neither held nor
//!   full; its day's budget; its rate; the slot's own backoff, park and governor.
//! * A failure changes the state of its [`Scope`] and nothing else. Permanent ones park a slot: one request a day.
//! * Every discontinuity (start, reload, resume, a service that is back, issuers added, a clock set back) begins a ramp.
//! * Records are in the ledger before the actions that rely on them ([`Action::Persist`] comes first); a new core is told
//!   them and goes on with the same orders.

mod backoff;
mod core;
mod count;
mod endpoint;
mod event;
mod explain;
mod failure;
mod gate;
mod id;
mod limits;
mod pace;
mod plan;
mod rank;
mod record;
mod schedule;
mod slot;
mod snapshot;

pub use self::core::Core;
pub use count::DayCount;
pub use event::{
    Action, Cause, Command, CredentialSpec, EndpointSpec, Event, Ignored, IssuerSpec, Notice, Pause, Reach,
    RegistryView, Request, Step,
};
pub use explain::Explanation;
pub use failure::{Failure, Kind, Scope};
pub use id::{EndpointId, NodeId, OrderId, SlotId};
pub use limits::{DAY, Limits};
pub use plan::{Impact, Plan, Planned};
pub use record::{EndpointRecord, Record, SlotRecord};
pub use schedule::{Schedule, SignerLife};
pub use slot::{Hold, Order, Park, Phase, Standing};
pub use snapshot::{EndpointView, SlotView, Snapshot};

#[cfg(test)]
mod tests;
