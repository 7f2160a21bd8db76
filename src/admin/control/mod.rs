//! Operator commands over a Unix socket.
//!
//! The permissions of the socket (0600 unless configured) are the access control: whoever may open it may do everything, and is known by user
//! and process id (SO_PEERCRED), which the audit trail keeps. The protocol is one JSON object on a line for each request
//! and one for its answer:
//!
//! ```text
//! → {"v":1,"call":{"verb":"explain","slot":{"issuer":"issuing-ca-1"}}}
//! ← {"v":1,"result":{"slot":{"issuer":"issuing-ca-1"},"phase":"idle",…}}
//! ← {"v":1,"refusal":{"kind":"refused","text":"issuing-ca-9 is not known; …"}}
//! ```
//!
//! Requests have at most [`MAX_REQUEST`] octets; connections, their number and every wait are bounded. What is asked is
//! answered by a [`Control`], which knows the service; this part knows only how to be asked.

mod call;
mod peer;
mod report;
mod server;
mod socket;

pub use call::{Answer, Call, Refusal, RefusalKind, Request, Target, VERSION, shell_word};
pub use peer::Caller;
pub use report::{
    AgentReport, AuditReport, EndpointReport, Explained, FilesReport, HoldReport, Impact, Next, PauseReport, PlanEntry,
    PlanReport, PresignReport, Quarantine, RegistryReport, SlotReport, Status, Taken, WindowReport,
};
pub use server::{ControlHandle, MAX_REQUEST, start};
pub use socket::{SocketError, too_long};

use crate::audit::History;
use crate::time::Timestamp;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// What operators may ask and tell a running service. Answers are complete and at one moment; they may take a while, as one
/// that reads files does, and are given up by the server after its time-out.
pub trait Control: Send + Sync + 'static {
    /// How everything is.
    fn status(&self) -> impl Future<Output = Result<Status, Refusal>> + Send;
    /// The calendar of requests.
    fn plan(&self) -> impl Future<Output = Result<PlanReport, Refusal>> + Send;
    /// What the registry in this file would change if it were the one in use. The service reads the file by itself.
    fn impact(&self, file: PathBuf) -> impl Future<Output = Result<Impact, Refusal>> + Send;
    /// Why a slot is where it is.
    fn explain(&self, slot: Target) -> impl Future<Output = Result<Explained, Refusal>> + Send;
    /// What happened.
    fn history(
        &self,
        about: Option<Target>,
        since: Option<Timestamp>,
        limit: usize,
    ) -> impl Future<Output = Result<History, Refusal>> + Send;
    /// Carries a command out, and has it written down by whom and why.
    fn command(&self, caller: Caller, command: Command) -> impl Future<Output = Result<Taken, Refusal>> + Send;
}

/// An operator's word, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What is to be done.
    pub order: Order,
    /// Why, in the operator's words; may be empty where no reason is demanded.
    pub reason: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ask for nothing within reach, for so long.
    Pause(Target, Duration),
    /// End the pause of exactly this reach.
    Resume(Target),
    /// Renew now.
    Renew(Target),
    /// Sign everything that is served again now.
    Resign(Target),
    /// Lift parks, backoffs and holds.
    Unpark(Target),
    /// The staged signer may become active.
    ApproveSigner(Target),
    /// The held generation of the registry may be used.
    ApproveRegistry(u64),
}

#[cfg(test)]
mod tests;
