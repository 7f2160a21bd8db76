//! Renewal, sans-IO.

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
