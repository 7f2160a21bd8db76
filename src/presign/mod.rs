//! When which entry is signed again, and the workers that do it; never in the way of serving.

mod engine;
mod issuer;
mod queue;
pub mod schedule;
mod sign;
mod table;
mod warm;

pub use engine::{PresignSettings, PresignStats, Presigner};
pub use issuer::{ActiveSigner, Issuer, IssuerSettings, Unissued, View};
pub use sign::SignFault;
pub use table::{Difference, Table, Verdict};
