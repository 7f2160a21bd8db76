//! The incidents, replayed: the real renewal core in virtual time.
//!
//! A world is a fleet of nodes, a CA side (a front-end, queues, issuing servers that rest after many failures, a database
//! with so many connections), a registry whose updates may be late or lost, and synchronous customers who share the queue.
//! Faults and operators' actions come from a script or from a seed. Each node is run either by
//! [`renewal::Core`](crate::renewal::Core), itself and not a copy of it, or by the policy that the field uses; the world is
//! the same for both, so that a scenario first shows the outage and then that it does not happen.
//!
//! * Time is virtual, in milliseconds, and jumps from event to event; a core is woken when it said so. One seed repeats a run.
//! * At every step of ours what must hold is checked against what the node was told and did, and after the last fault, that
//!   everything due has been renewed. A violation names seed, time, node, slot and the events before it.
//! * The driver is modelled: a ledger that survives crashes, keys, calls with a time-out, the look at the registry. What a
//!   file system or a TLS library does is not.

mod agenda;
mod authority;
mod ca;
mod calls;
mod check;
mod deeds;
mod field;
mod look;
mod measure;
mod node;
mod ours;
mod own;
mod random;
pub mod report;
mod scenario;
mod scenarios;
mod setup;
mod world;
mod worlds;

pub use check::Violation;
pub use measure::{Sample, Totals};
pub use own::{Down, LifeIs, Own, OwnIssuer, OwnReport};
pub use scenario::{Outcome, Report, Scenario, Verdict};
pub use worlds::{Drawn, draw};
