//! What the core is told, and what it asks for.

use super::failure::Failure;
use super::id::{EndpointId, OrderId, SlotId};
use super::record::Record;
use super::schedule::SignerLife;
use crate::config::Rate;
use crate::registry::{IssuerId, State};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A CA service and what it may be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSpec {
    /// Its name.
    pub id: EndpointId,
    /// Requests per interval, whatever their cause; evenly spaced.
    pub rate: Rate,
    /// Requests at a time; halved when the service is overloaded, and slowly grown back. At least 1; from 2 on, one place
    /// is kept for what is urgent.
    pub max_in_flight: u32,
    /// Requests per day, whatever their cause: a multiple of what a day of the calendar needs, less than what hurts. A tenth
    /// at the most is kept for our own credential, where it is renewed there.
    pub attempts_per_day: u32,
    /// Our own client certificate there, where there is one.
    pub credential: Option<CredentialSpec>,
}

/// Our client certificate at an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSpec {
    /// Under what label it is renewed; `None`: it is watched only.
    pub profile: Option<String>,
    /// It is to be renewed this long before its notAfter at the latest.
    pub margin: Duration,
}

/// An issuer whose signer is ordered from an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSpec {
    /// Its name.
    pub id: IssuerId,
    /// Only [`State::Active`] is asked for.
    pub state: State,
    /// The generation of the registry that is held and would not have it asked for as it is, if that and nothing else is why
    /// its state is [`State::Disabled`] here.
    pub held_by: Option<u64>,
    /// Whom to ask.
    pub endpoint: EndpointId,
    /// What the service calls this kind of certificate.
    pub profile: String,
    /// How long a response is valid: no response may outlive its signer.
    pub validity: Duration,
    /// What must be left beyond that.
    pub margin: Duration,
    /// A new signer becomes active only after an operator approves.
    pub needs_approval: bool,
    /// A digest of whatever else of the record decides which signer is accepted: the CA's certificate, the kind of key, the
    /// settings of responses. Another one means that the record has changed, which lifts a park.
    pub rest: u64,
}

/// One generation of the registry, as far as it concerns renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryView {
    /// Its number; never goes back.
    pub generation: u64,
    /// When the source was last read successfully (not when the document changed): the age of the evidence.
    pub synced_at: Timestamp,
    /// Issuers with enrolment; a record that is retired may be left out.
    pub issuers: Vec<IssuerSpec>,
    /// Records that cannot be used at present: not renewed, and their knowledge is kept.
    pub quarantined: Vec<IssuerId>,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// All CA services of the configuration: at start and after a reload.
    Endpoints(Vec<EndpointSpec>),
    /// What the ledger holds; before anything else is told of that slot.
    Restored(Box<Record>),
    /// The registry was read and holds this.
    Registry(RegistryView),
    /// The registry was looked at and is still of this generation.
    Confirmed {
        /// The generation seen.
        generation: u64,
        /// When.
        at: Timestamp,
    },
    /// The registry was looked at in vain: it could not be read. What was read last holds until it is too old.
    NotConfirmed,
    /// The registry was looked at, and what is there cannot be used, in words: what was read last says nothing any more of what is
    /// active, until the registry is told or confirmed again.
    Unusable(String),
    /// The certificate in use in this slot; `None`: there is none. Until this is told, nothing starts.
    Signer {
        /// The slot.
        slot: SlotId,
        /// Its certificate.
        life: Option<SignerLife>,
    },
    /// What we prove ourselves by at this service, and is no certificate of ours (a password, a shared key), is as it is since then.
    Secret {
        /// The service.
        endpoint: EndpointId,
        /// When its file was last changed.
        changed: Timestamp,
    },
    /// Key and CSR of the order are on disk.
    Prepared {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// The CA has accepted the order and will decide later.
    Later {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// [`Request::attempt`] of the request this answers.
        attempt: u32,
        /// Not to be asked before.
        retry_after: Option<Duration>,
    },
    /// The CA has sent a certificate, and it is on disk.
    Issued {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// The certificate of the order had come before, and nobody was asked: as [`Event::Issued`], and says nothing of the service.
    Present {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// The request did not leave, and nobody was asked: as [`Event::Failed`], and says nothing of the service.
    NotSent {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// [`Request::attempt`] of the request that did not leave.
        attempt: u32,
        /// What happened.
        failure: Failure,
    },
    /// The certificate passed every check.
    Verified {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// The certificate.
        life: SignerLife,
    },
    /// The certificate did not pass, now or when it was to be made the current one: the signer in use stays, and the slot
    /// parks, unless the order is older than the last change of its registry record.
    Rejected {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// What is wrong with it.
        text: String,
    },
    /// The certificate and its key are in place as the next signer.
    Staged {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// The next signer is the current one.
    Activated {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// What was asked for this order did not succeed. Late reports of steps that were given up are told apart by the step.
    Failed {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// Which step.
        step: Step,
        /// What happened.
        failure: Failure,
    },
    /// An operator's word.
    Command(Command),
}

/// What the driver can be asked to do for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// [`Action::Prepare`].
    Prepare,
    /// [`Action::Submit`] with this [`Request::attempt`].
    Submit(u32),
    /// [`Action::Verify`].
    Verify,
    /// [`Action::Stage`].
    Stage,
    /// [`Action::Activate`].
    Activate,
}

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Everything.
    All,
    /// All slots of an endpoint.
    Endpoint(EndpointId),
    /// One slot.
    Slot(SlotId),
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::All => f.write_str("everything"),
            Reach::Endpoint(endpoint) => write!(f, "endpoint {endpoint}"),
            Reach::Slot(slot) => write!(f, "{slot}"),
        }
    }
}

/// Nothing within its reach is asked for until it ends, which it does by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is paused.
    pub reach: Reach,
    /// When it ends.
    pub until: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who.
    pub who: String,
    /// When it was given; the core notes it. Should the clock turn out to have been ahead, it lasts as long as it was meant to
    /// from when that is seen. Records of former versions lack it.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

impl Pause {
    /// `true`: it was given by a clock that was ahead, and is moved to now.
    pub(super) fn not_ahead(&mut self, now: Timestamp) -> bool {
        let Some(since) = self.since.replace(self.since.map_or(now, |since| since.min(now))) else { return true };
        let ahead = since > now;
        if ahead {
            self.until = self.until.min(now.plus(self.until.since(since)));
        }
        ahead
    }
}

/// An operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Replaces a pause of the same reach.
    Pause(Pause),
    /// Ends the pause of exactly this reach.
    Resume {
        /// What was paused.
        reach: Reach,
    },
    /// Renew now, at the endpoint's rate. Lifts a park, but for that of the governor.
    Renew {
        /// What.
        reach: Reach,
    },
    /// Lifts parks, backoffs and holds, and grants the day's budget anew: of slots, and of the endpoints within its reach.
    Unpark {
        /// What.
        reach: Reach,
    },
    /// A staged signer may become active.
    Approve {
        /// Whose.
        slot: SlotId,
    },
}

/// Why a request is made; every request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its place in the calendar has come.
    Scheduled,
    /// The end of its usable life is near, or it had a signer that cannot be used any more.
    Urgent,
    /// An operator said so.
    Operator,
    /// The issuer has had no signer yet.
    NewIssuer,
    /// The same order again, after a failure, an unknown outcome, or "later".
    Retry,
    /// The one request that finds out whether what refused still does.
    Canary,
}

impl Cause {
    /// All, in the order of their declaration.
    pub const ALL: [Cause; 6] =
        [Cause::Scheduled, Cause::Urgent, Cause::Operator, Cause::NewIssuer, Cause::Retry, Cause::Canary];

    /// The name in logs, metrics and the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Scheduled => "scheduled",
            Cause::Urgent => "urgent",
            Cause::Operator => "operator",
            Cause::NewIssuer => "new-issuer",
            Cause::Retry => "retry",
            Cause::Canary => "canary",
        }
    }
}

/// A request to be made of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For which slot.
    pub slot: SlotId,
    /// By which order: its key and CSR.
    pub order: OrderId,
    /// Whom.
    pub endpoint: EndpointId,
    /// Under which label.
    pub profile: String,
    /// Why.
    pub cause: Cause,
    /// When the slot's next signer must be in use.
    pub deadline: Timestamp,
    /// How often this order has been sent, this time included.
    pub attempt: u32,
}

/// What the driver is to do, in the order given. What it cannot do it reports as [`Event::Failed`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write these in one transaction, durably, before any later action is carried out. If that fails, carry out none of
    /// the later ones and report [`Scope::Local`](super::Scope::Local) failures for the orders they name.
    Persist(Vec<Record>),
    /// Look at the registry now; answer [`Event::Registry`], [`Event::Confirmed`], [`Event::NotConfirmed`] or
    /// [`Event::Unusable`].
    ConfirmActive,
    /// Make a key and a CSR and write both under the order's id; if they are there already, keep them. Answer
    /// [`Event::Prepared`].
    Prepare(Request),
    /// Send the order's CSR, the same octets each time. Answer [`Event::Later`], [`Event::Issued`] once the certificate is
    /// on disk, or [`Event::Failed`]; where nothing was sent, [`Event::Present`] or [`Event::NotSent`]. One request per order at a time: an earlier one that still hangs is closed first.
    Submit(Request),
    /// The request of the order that is on the wire has been given up: close it, before any later action is carried out and
    /// even if a [`Action::Persist`] before failed. Its place is given to another. No answer; one that came all the same is
    /// reported.
    HangUp {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// Check the certificate of the order. Answer [`Event::Verified`] or [`Event::Rejected`].
    Verify {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// Put certificate and key in place as the next signer. Answer [`Event::Staged`].
    Stage {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// Make the next signer the current one, in one step; a second time is no fault. Answer [`Event::Activated`].
    Activate {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
    },
    /// The order is over without a signer: what is still to be done for it is left, its key destroyed. No answer.
    Cancel {
        /// The slot.
        slot: SlotId,
        /// Its order.
        order: OrderId,
        /// Why.
        reason: String,
    },
    /// For logs, the audit trail and alarms.
    Tell(Notice),
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Whom it is about.
    pub about: Reach,
    /// Somebody should act.
    pub alarm: bool,
    /// What.
    pub text: String,
}

/// Why an event changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// No such slot.
    #[error("{0} is not known; the registry and the configuration name no such slot")]
    UnknownSlot(SlotId),
    /// No such endpoint.
    #[error("endpoint {0} is not known; the configuration has no [enrolment.{0}]")]
    UnknownEndpoint(EndpointId),
    /// The slot has another order, or none.
    #[error("{slot} has no open order {order}")]
    NotThisOrder {
        /// The slot.
        slot: SlotId,
        /// The order that was named.
        order: OrderId,
    },
    /// The order is not at the step the event reports.
    #[error("{slot} is {phase}: it does not wait for \"{event}\"")]
    NotNow {
        /// The slot.
        slot: SlotId,
        /// Where it is.
        phase: &'static str,
        /// What was reported.
        event: &'static str,
    },
    /// The registry never goes back.
    #[error("generation {got} of the registry is older than {have}, which has been used; it never goes back")]
    GenerationWentBack {
        /// The newest used.
        have: u64,
        /// The one offered.
        got: u64,
    },
    /// The generation confirmed is not the one in use.
    #[error("generation {got} was confirmed, and {have:?} is in use; hand over the registry itself")]
    AnotherGeneration {
        /// The one in use.
        have: Option<u64>,
        /// The one confirmed.
        got: u64,
    },
    /// A ledger record came after the slot had begun to move.
    #[error("{0} is at work already; ledger records come first")]
    AlreadyAtWork(String),
    /// The end of a pause lies in the past.
    #[error("the pause would have ended at {0}")]
    PauseOver(Timestamp),
    /// Nothing is within the reach of the command.
    #[error("nothing to do for {0}")]
    NothingConcerned(Reach),
    /// [`Limits::slots`](super::Limits::slots) is reached.
    #[error("{refused} issuers are beyond the limit of {limit} slots, from {first} on")]
    TooManySlots {
        /// How many were refused.
        refused: usize,
        /// The limit.
        limit: usize,
        /// The first of them.
        first: SlotId,
    },
}
