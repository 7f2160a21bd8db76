//! Where a slot is to be found, and before whom it is asked for.

use super::id::{EndpointId, SlotId};
use crate::time::Timestamp;

/// In which index of the core a slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Nowhere,
    Timer(Timestamp),
    /// And when its rank is another.
    Queue(EndpointId, Rank, Option<Timestamp>),
}

/// The order of an endpoint's queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub class: Class,
    /// Behind those that have been turned away less often, with a round less where it is urgent: or one whose requests make the service fail
    /// would take the turns of the others.
    pub round: u32,
    pub deadline: Timestamp,
    pub slot: SlotId,
}

/// Our credential before all; what is parked behind all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Credential,
    Ordinary,
    Canary,
}
