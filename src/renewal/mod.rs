//! Renewal, sans-IO.

mod backoff;
mod count;
mod failure;
mod id;
mod limits;
mod pace;
mod schedule;

pub use count::DayCount;
pub use failure::{Failure, Kind, Scope};
pub use id::{EndpointId, NodeId, OrderId, SlotId};
pub use limits::{DAY, Limits};
pub use schedule::{Schedule, SignerLife};
