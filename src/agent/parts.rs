//! What the agent is made of, and what it needs of others.

use crate::audit::Witness;
use crate::config::Renewal;
use crate::enrolment::Enrolment;
use crate::registry::{Generation, Issuer};
use crate::renewal::{EndpointSpec, Limits};
use crate::signer::SigningKey;
use crate::signer::slots::{SlotFault, Slots};
use crate::time::{Clock, Timestamp};
use crate::x509::Certificate;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A CA service: what it may be asked, and by whom.
#[derive(Clone)]
pub struct Service {
    /// What renewal knows of it.
    pub spec: EndpointSpec,
    /// Who asks.
    pub enrolment: Arc<dyn Enrolment>,
    /// No attempt takes longer.
    pub timeout: Duration,
}

/// What follows from the configuration; all of it can be changed while the agent runs ([`Handle::configure`](super::Handle::configure)).
#[derive(Clone)]
pub struct Settings {
    /// The bounds of renewal.
    pub limits: Limits,
    /// `[renewal]` as it applies to issuers.
    pub renewal: Renewal,
    /// The CA services.
    pub services: Vec<Service>,
}

/// What stays the same as long as the agent runs.
pub struct Parts {
    /// The name of this node: its places in the calendar follow from it.
    pub node: String,
    /// The file of the ledger.
    pub ledger: PathBuf,
    /// The signers of issuers.
    pub slots: Slots,
    /// The orders for our own credentials, one slot per CA service; a directory of its own.
    pub credentials: Slots,
    /// What could not be used when these were opened.
    pub faults: Vec<SlotFault>,
    /// Who tries new signers out.
    pub trial: Arc<dyn Trial>,
    /// Who looks at the registry.
    pub evidence: Arc<dyn Evidence>,
    /// Who is told everything that is to be remembered.
    pub witness: Arc<dyn Witness>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// For so long by the monotonic clock this process must have seen that an issuer is gone before its keys are destroyed:
    /// [`GONE_FOR`](super::GONE_FOR), but in tests.
    pub gone_for: Duration,
}

/// Tries a signer out before it is staged.
pub trait Trial: Send + Sync + 'static {
    /// Signs a response as the responder would and verifies it by a path that shares nothing with the one that signs. The
    /// error says what a client would not accept. It may block; it is given up after a while.
    fn attempt(
        &self,
        issuer: &Arc<Issuer>,
        certificate: &Certificate,
        key: &Arc<SigningKey>,
        now: Timestamp,
    ) -> Result<(), String>;
}

/// Looks at the registry, right before a request leaves.
pub trait Evidence: Send + Sync + 'static {
    /// Reads the registry now. It may block; it is given up after a while.
    fn look(&self) -> Look;
}

/// What a look at the registry showed.
#[derive(Clone, Debug)]
pub enum Look {
    /// It was read.
    Read(Reading),
    /// It could not be read; in words. What was read last holds until it is too old.
    Nothing(String),
    /// It was read, and what it says cannot be used; in words. Nothing is asked for until it can.
    Unusable(String),
}

/// The registry as it was read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What may be asked for: where nothing has changed, the same as before.
    pub generation: Arc<Generation>,
    /// When the source was read.
    pub synced_at: Timestamp,
}
