//! The audit trail: who did what to which signer, when, and why.
//!
//! Whoever acts tells a [`Witness`]; the witness of a running service is the [`Trail`] on disk, and [`history`] reads it
//! back. The events are plain data and name things by their text, so that every part may tell of what it does and an old
//! trail can be read for ever.

mod event;
mod files;
mod read;
mod trail;

pub use event::{About, AuditEvent, Outcome, What, Witness};
pub use read::{Filter, History, MAX_EVENTS, Whom, history};
pub use trail::{Trail, TrailLimits};

#[cfg(test)]
mod tests;
