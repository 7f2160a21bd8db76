//! When which entry is signed again, and the workers that do it; never in the way of serving.

mod answer;
mod budget;
mod decide;
mod demand;
mod early;
mod engine;
mod enqueue;
mod hold_back;
mod issuer;
mod lag;
mod queue;
pub mod schedule;
mod sign;
mod table;
mod timekeeper;
mod urgent;
mod waiting;
mod warm;
mod work;

pub use answer::{DemandStats, Outcome, SignedAnswer};
pub use demand::{Demand, DemandSettings};
pub use engine::{PresignSettings, PresignStats, Presigner};
pub use issuer::{ActiveSigner, Issuer, IssuerSettings, View};
pub use lag::{LAG_BOUNDS_MILLIS, LagStats};
pub use sign::{SignFault, trial};
pub use table::{Difference, Table, Unlisted, Verdict};
pub use timekeeper::{SetBack, Timekeeper};
