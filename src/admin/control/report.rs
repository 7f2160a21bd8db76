//! What operators are shown; also what `--json` prints. Fields are added, and keep their meaning within a version of the
//! protocol. Times are RFC 3339 in UTC, durations whole seconds.

use super::Target;
use crate::audit::AuditEvent;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When.
    pub now: Timestamp,
    /// The version of the service.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub started: Timestamp,
    /// Somebody should act: there is something in `next` that is marked so.
    pub attention: bool,
    /// The socket on which operators are answered.
    #[serde(default)]
    pub socket: PathBuf,
    /// The agent; `None`: no issuer has its signer renewed by this process.
    pub agent: Option<AgentReport>,
    /// The look at the files of signers and statuses.
    #[serde(default)]
    pub files: FilesReport,
    /// The registry.
    pub registry: RegistryReport,
    /// What is paused.
    pub pauses: Vec<PauseReport>,
    /// CA services.
    pub endpoints: Vec<EndpointReport>,
    /// Our client certificates.
    pub credentials: Vec<SlotReport>,
    /// Issuers, by name.
    pub issuers: Vec<SlotReport>,
    /// Signing ahead.
    pub presign: PresignReport,
    /// The audit trail.
    pub audit: AuditReport,
    /// What an operator would do, the most urgent first.
    pub next: Vec<Next>,
}

/// The look at the files of signers and statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesReport {
    /// When all of them were last looked at.
    pub last_pass: Option<Timestamp>,
    /// That is so long ago that the look must hang.
    pub overdue: bool,
}

/// The agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Why it does not run, though the configuration names CA services.
    #[serde(default)]
    pub down: Option<String>,
    /// When it last went through everything.
    pub last_pass: Option<Timestamp>,
    /// Its last pass is so long ago that it must be stuck.
    pub overdue: bool,
    /// Slots it knows.
    pub known: u64,
    /// Slots whose certificate it could look at.
    pub checked: u64,
    /// The others, by name, with the reason.
    pub unreadable: BTreeMap<String, String>,
    /// Why the ledger cannot be written; nothing is asked for until it can.
    pub fault: Option<String>,
}

impl AgentReport {
    /// Of an agent that is wanted and does not run.
    pub fn not_running(fault: String) -> Self {
        AgentReport { down: Some(fault), overdue: true, ..AgentReport::default() }
    }
}

/// The registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryReport {
    /// The generation in use.
    pub generation: Option<u64>,
    /// When its source was last read successfully.
    pub synced_at: Option<Timestamp>,
    /// That is recent enough for renewals to start.
    pub fresh: bool,
    /// Why the last reading was refused, if it was.
    pub fault: Option<String>,
    /// A generation that waits for `approve`, and what it would change, in words.
    pub held: Option<(u64, String)>,
    /// Records that cannot be used.
    pub quarantined: Vec<Quarantine>,
}

/// A record that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Its id, or `#3` for the fourth record.
    pub record: String,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// Since when its issuer is served on as the last good record says, and not renewed, if it is.
    #[serde(default)]
    pub served_on_since: Option<Timestamp>,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseReport {
    /// What is paused.
    pub reach: Target,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub who: String,
}

/// A CA service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// Its name.
    pub name: String,
    /// `ok`, or why nothing leaves for it now.
    pub state: String,
    /// What `state` says is only its rate or its places: nothing is wrong.
    #[serde(default)]
    pub is_pace: bool,
    /// It has failed so often that only single requests find out whether it is back.
    pub open: bool,
    /// Failures of the whole service in a row.
    pub failures: u32,
    /// Requests on the wire or being prepared.
    pub in_flight: u32,
    /// The most at a time, at present.
    pub in_flight_limit: u32,
    /// The part of the configured rate that is granted now, up to 1.
    pub rate_share: f64,
    /// Slots that wait for it.
    pub queued: usize,
    /// Requests within the last day.
    pub requests_today: u32,
    /// Requests since the start, by cause.
    pub requests: BTreeMap<String, u64>,
    /// Signers that became active since the start.
    pub signer_changes: u64,
}

/// An issuer with its signer, or one of our client certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotReport {
    /// Which.
    pub slot: Target,
    /// What the registry says: `active`, `disabled`, `quarantined`, … `watched` for a certificate that somebody else renews,
    /// `stopped` for one that this service would renew if its agent ran.
    pub state: String,
    /// Where it is on its way to the next certificate: `idle`, `due`, `ordered`, … `None`: somebody else renews it.
    pub phase: Option<String>,
    /// The CA service it asks.
    pub endpoint: Option<String>,
    /// The open order.
    pub order: Option<String>,
    /// Why the next request would be made.
    pub cause: Option<String>,
    /// What holds it.
    pub hold: HoldReport,
    /// Somebody should act.
    pub attention: bool,
    /// In words: why it is not as it should be. Empty: all is well.
    pub reasons: Vec<String>,
    /// The serial number of the certificate in use, hexadecimal.
    pub serial: Option<String>,
    /// The certificate's notBefore.
    pub not_before: Option<Timestamp>,
    /// The certificate's notAfter.
    pub not_after: Option<Timestamp>,
    /// Its renewal calendar.
    pub window: Option<WindowReport>,
    /// Failures in a row.
    pub failures: u32,
    /// The last of them.
    pub last_failure: Option<String>,
    /// Requests within the last day.
    pub requests_today: u32,
    /// Certificates within the last day.
    pub certificates_today: u32,
    /// Serials known. `None` for a credential, and for an issuer that is not served.
    pub entries: Option<usize>,
    /// thisUpdate of the oldest response served.
    pub oldest_this_update: Option<Timestamp>,
}

impl SlotReport {
    /// Adds a reason why somebody should act.
    pub fn press(&mut self, reason: String) {
        self.attention = true;
        self.reasons.push(reason);
    }
}

/// Where in the life of its certificate a slot is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowReport {
    /// The window opens.
    pub opens: Timestamp,
    /// Its place: renewal begins.
    pub due: Timestamp,
    /// The window closes.
    pub closes: Timestamp,
    /// From here on it is urgent.
    pub urgent: Timestamp,
    /// The next certificate must be in use.
    pub deadline: Timestamp,
}

/// What holds a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum HoldReport {
    /// Nothing.
    #[default]
    None,
    /// It waits after a failure.
    Backoff {
        /// Until then.
        until: Timestamp,
    },
    /// It was refused: one request a day finds out whether it still would be.
    Parked {
        /// `refused`, `rejected` or `governor`.
        why: String,
        /// In words.
        text: String,
        /// Since when.
        since: Timestamp,
        /// The next request, not before.
        canary: Timestamp,
    },
    /// A signer is staged and waits for `approve`.
    Approval {
        /// Its serial number.
        serial: String,
    },
}

/// Signing ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignReport {
    /// Slices and changes that are due now.
    pub backlog: usize,
    /// Slices that have never been signed.
    pub missing: usize,
    /// Slices there are.
    pub slices: usize,
    /// Signatures since the start.
    pub signed: u64,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// thisUpdate of the oldest response of all, and whose.
    pub oldest_this_update: Option<(Timestamp, String)>,
}

/// The audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Events that could not be written since the start.
    pub lost: u64,
    /// Why events are being lost now.
    pub fault: Option<String>,
}

/// Something an operator would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// It should be done; otherwise it is only good to know.
    pub attention: bool,
    /// What is the matter.
    pub text: String,
    /// What to type, without the options that name the service; `None`: it is not mended by a command.
    pub command: Option<String>,
}

/// The calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// When it was made.
    pub now: Timestamp,
    /// One per slot that will be renewed, the earliest first.
    pub entries: Vec<PlanEntry>,
    /// Requests by hour: the beginning of each hour that has any. What is overdue counts for the present hour.
    pub by_hour: BTreeMap<Timestamp, usize>,
    /// Slots that are not in it: not active, watched only, or nothing known of their certificate.
    pub left_out: usize,
    /// What is paused.
    pub pauses: Vec<PauseReport>,
}

/// One slot's next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Which slot.
    pub slot: Target,
    /// Whom it asks.
    pub endpoint: String,
    /// Not before this.
    pub at: Timestamp,
    /// The next certificate must be in use.
    pub deadline: Timestamp,
    /// Where it is.
    pub phase: String,
    /// Why the request will be made.
    pub cause: String,
}

/// What another registry would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// Its file.
    pub file: String,
    /// Its generation.
    pub generation: u64,
    /// The generation in use.
    pub in_use: Option<u64>,
    /// Why it would not be used at all; empty: it would.
    pub refused: Vec<String>,
    /// It changes so much that it would be held for `approve`, in words.
    pub held: Option<String>,
    /// Issuers known now.
    pub known: usize,
    /// The share of those that change.
    pub share: f64,
    /// Not known so far.
    pub added: Vec<String>,
    /// Their record is gone.
    pub removed: Vec<String>,
    /// Active, and to be disabled: signed and served while the signer lasts, asked for no more.
    pub disabled: Vec<String>,
    /// To be retired: answered `unauthorized`.
    pub retired: Vec<String>,
    /// To become active again.
    pub activated: Vec<String>,
    /// Another enrolment, profile or CA certificate.
    pub moved: Vec<String>,
    /// A record that was usable is not.
    pub unusable: Vec<String>,
    /// All records that cannot be used, with what is wrong.
    pub quarantined: Vec<Quarantine>,
    /// Orders not sent yet that would be cancelled.
    pub cancelled: usize,
    /// Requests that would follow soon, at the endpoints' rates.
    pub requests: usize,
}

/// Why a slot is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// When.
    pub now: Timestamp,
    /// The slot.
    pub slot: SlotReport,
    /// Sentences, the most important first.
    pub reasons: Vec<String>,
    /// Its last events, the newest last.
    pub history: Vec<AuditEvent>,
    /// What an operator would do.
    pub next: Vec<Next>,
}

/// A command was carried out, or is being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// What was done, in words.
    pub text: String,
    /// When it ends by itself, for a pause.
    pub until: Option<Timestamp>,
}
