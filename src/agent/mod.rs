//! The renewal agent: carries out what [`renewal`](crate::renewal) decides.
//!
//! One thread with an event loop of its own holds the core. What it is told, and what the core answers, goes through that
//! thread; everything that may block, spin or panic on data of others runs beside it, each piece alone on a thread with a time
//! limit (`work`). Nobody who serves requests waits for any of it, and when the thread is gone, every method of its
//! [`Handle`] says so.
//!
//! * What the core wants remembered is in the ledger before anything that relies on it is done ([`Ledger`]).
//! * Keys, requests and certificates of orders are in [`signer::slots`](crate::signer::slots); a signer passes the self-check and
//!   a [`Trial`] before it is staged.
//! * Our own client certificates are renewed by the same machine, first; files that an operator replaces are noticed.
//! * The signers of an issuer that the registry has called retired, or not named, for a week are destroyed with their keys.
//! * [`Handle::view`] says when the agent last completed a pass and what it could not look at.

mod driver;
mod evidence;
mod handle;
mod ledger;
mod order;
mod parts;
mod retire;
mod settings;
mod steps;
mod tell;
mod thread;
mod verify;
mod view;
mod watch;
mod work;

pub use evidence::Followed;
pub use handle::{CommandError, Gone, Handle};
pub use ledger::{Ledger, LedgerError, Restored};
pub use parts::{Evidence, Look, Parts, Reading, Service, Settings, Trial};
pub use retire::GONE_FOR;
pub use thread::{Agent, AgentError};
pub use view::{AgentView, Coverage, CredentialView, Tally, view_of};
