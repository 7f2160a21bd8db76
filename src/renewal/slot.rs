//! One slot: where its order is, why it waits, what is known of it.
//!
//! An order exists only inside the phases that have one, so a slot cannot have two, and none can be sent that was not
//! prepared.

use super::count::DayCount;
use super::event::{Cause, Ignored, Step};
use super::failure::{Failure, Scope};
use super::id::{EndpointId, OrderId, SlotId};
use super::limits::{DAY, Limits};
use super::rank::Placed;
use super::record::SlotRecord;
use super::schedule::{Schedule, SignerLife};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An open order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id; key and CSR are kept under it.
    pub id: OrderId,
    /// Why it was opened.
    pub cause: Cause,
    /// When it was opened.
    pub opened: Timestamp,
    /// Key and CSR are known to be on disk.
    pub prepared: bool,
    /// How often it was sent. From 1 on the CA may know it.
    pub attempts: u32,
    /// How often the CA said "later".
    pub polls: u32,
}

/// Where a slot is on its way to the next signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing to do before its place in the calendar.
    Idle,
    /// To be renewed; no order yet.
    Due,
    /// Key and CSR are being made and written.
    Preparing(Order),
    /// To be sent, for the first time or again.
    Ordered(Order),
    /// Sent; no answer yet.
    InFlight(Order),
    /// The CA will decide later: to be sent again, the same.
    Waiting(Order, Timestamp),
    /// A certificate has come and is being checked.
    Issued(Order),
    /// It passed, and is being put in place.
    Verified(Order, SignerLife),
    /// It is in place, and waits for its time or an approval.
    Staged {
        /// The order.
        order: Order,
        /// The certificate.
        life: SignerLife,
        /// An operator has approved.
        approved: bool,
    },
    /// It is being made the current one.
    Activating(Order, SignerLife),
}

/// Why nothing is asked for now, as far as the slot itself is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Nothing holds it.
    #[default]
    None,
    /// After a failure that may pass.
    Backoff {
        /// Until then.
        until: Timestamp,
    },
    /// Until the registry changes or an operator says so; one request a day finds out whether the reason still holds.
    Parked {
        /// Why.
        why: Park,
        /// In words.
        text: String,
        /// Since when.
        since: Timestamp,
        /// The next such request is not sent before.
        canary: Timestamp,
    },
}

/// Why a slot is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Park {
    /// The CA said no.
    Refused,
    /// The certificate did not pass.
    Rejected,
    /// It asked, or got, too much within a day. Only an operator or the registry lifts this.
    Governor,
}

/// What the registry says of an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing yet since the start.
    Unknown,
    /// To be renewed.
    Active,
    /// Not to be asked for; a certificate that has come is used.
    Disabled,
    /// Active, and not to be asked for while the generation of this number is held, which would change that. Its end is not wanted.
    Held(u64),
    /// Gone on purpose.
    Retired,
    /// Its record is gone.
    Removed,
    /// Its record cannot be used.
    Quarantined,
    /// A credential that is watched only.
    Watched,
}

impl Standing {
    /// The name in `--json`.
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Unknown => "unknown",
            Standing::Active => "active",
            Standing::Disabled => "disabled",
            Standing::Held(_) => "held",
            Standing::Retired => "retired",
            Standing::Removed => "removed",
            Standing::Quarantined => "quarantined",
            Standing::Watched => "watched",
        }
    }

    /// Positively said to be no longer renewed: coming back from it is a change of the registry.
    pub(super) fn is_out(self) -> bool {
        matches!(self, Standing::Disabled | Standing::Held(_) | Standing::Retired | Standing::Removed)
    }

    /// Nothing of it is used any more.
    pub(super) fn is_gone(self) -> bool {
        matches!(self, Standing::Retired | Standing::Removed)
    }
}

impl Serialize for Standing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What the driver has told of the certificate in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Absent,
    Present(SignerLife),
}

/// What the registry or the configuration wants of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub endpoint: EndpointId,
    pub profile: String,
    /// What must be left of a certificate at its deadline.
    pub reserve: Duration,
    pub needs_approval: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub standing: Standing,
    pub terms: Option<Terms>,
    pub mark: u64,
    pub known: Known,
    /// It has had a signer since its issuer was last seen first: somebody relies on it.
    pub in_service: bool,
    pub schedule: Option<Schedule>,
    pub first_seen: Timestamp,
    /// When its registry record changed last, since the start.
    pub changed: Option<Timestamp>,
    pub phase: Phase,
    pub hold: Hold,
    pub forced: bool,
    pub failures: u32,
    /// How often in a row the service failed as a whole when it was asked for this slot.
    pub turned_away: u32,
    pub last_failure: Option<(Timestamp, Failure)>,
    pub submissions: DayCount,
    pub issuances: DayCount,
    pub orders: u32,
    /// The endpoint of which it takes a place.
    pub occupies: Option<EndpointId>,
    /// When the driver was asked for the step it is at.
    pub asked: Option<Timestamp>,
    /// A step of this machine that failed is not repeated before; a hold says nothing of it where the slot is parked.
    pub again: Option<Timestamp>,
    pub placed: Placed,
    /// Signers that became active since the start.
    pub changes: u64,
    pub alarmed: bool,
}

impl Slot {
    pub(super) fn new(first_seen: Timestamp) -> Self {
        Slot {
            standing: Standing::Unknown,
            terms: None,
            mark: 0,
            known: Known::Nothing,
            in_service: false,
            schedule: None,
            first_seen,
            changed: None,
            phase: Phase::Idle,
            hold: Hold::None,
            forced: false,
            failures: 0,
            turned_away: 0,
            last_failure: None,
            submissions: DayCount::default(),
            issuances: DayCount::default(),
            orders: 0,
            occupies: None,
            asked: None,
            again: None,
            placed: Placed::Nowhere,
            changes: 0,
            alarmed: false,
        }
    }

    /// From the ledger. What was under way when the record was written is at the step before, and is done again: the
    /// driver's steps can be repeated, and a request that may have left is the same request.
    pub(super) fn restored(record: SlotRecord) -> Self {
        let phase = match record.phase {
            Phase::Due => Phase::Idle,
            Phase::Preparing(order) | Phase::InFlight(order) => Phase::Ordered(order),
            Phase::Activating(order, life) => Phase::Staged { order, life, approved: true },
            phase => phase,
        };
        Slot {
            mark: record.mark,
            phase,
            // The alarm was raised when it was parked.
            alarmed: matches!(record.hold, Hold::Parked { .. }),
            hold: record.hold,
            forced: record.forced,
            failures: record.failures,
            turned_away: record.turned_away,
            last_failure: record.last_failure,
            submissions: record.submissions,
            issuances: record.issuances,
            orders: record.orders,
            in_service: record.in_service,
            ..Slot::new(record.first_seen)
        }
    }

    pub(super) fn record(&self, slot: &SlotId) -> SlotRecord {
        SlotRecord {
            slot: slot.clone(),
            phase: self.phase.clone(),
            hold: self.hold.clone(),
            forced: self.forced,
            failures: self.failures,
            last_failure: self.last_failure.clone(),
            submissions: self.submissions.clone(),
            issuances: self.issuances.clone(),
            orders: self.orders,
            first_seen: self.first_seen,
            mark: self.mark,
            turned_away: self.turned_away,
            in_service: self.in_service,
        }
    }

    /// When the next signer must be in use.
    pub(super) fn deadline(&self, grace: Duration) -> Timestamp {
        self.schedule.map_or_else(|| self.first_seen.plus(grace), |s| s.deadline)
    }

    /// From when on it is urgent; a signer that does not exist yet is wanted, but no one relies on it.
    pub(super) fn urgent_from(&self) -> Option<Timestamp> {
        self.schedule.map(|s| s.urgent).or_else(|| self.is_lost().then_some(self.first_seen))
    }

    /// It has had a signer, and has none that can be used: its key is lost, or its CA has another.
    pub(super) fn is_lost(&self) -> bool {
        self.known == Known::Absent && self.in_service
    }

    /// What the driver says of its certificate. `true`: for the first time it has one.
    pub(super) fn knows(&mut self, known: Known) -> bool {
        self.known = known;
        matches!(known, Known::Present(_)) && !std::mem::replace(&mut self.in_service, true)
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.hold, Hold::Parked { .. })
    }

    /// Until when the slot's own hold or the CA's "later" keeps it from asking.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let held = match &self.hold {
            Hold::None => None,
            Hold::Backoff { until } => Some(*until),
            Hold::Parked { canary, .. } => Some(*canary),
        };
        match &self.phase {
            Phase::Waiting(_, until) => held.max(Some(*until)),
            _ => held,
        }
    }

    /// From when on a step of this machine may be taken. A park is about asking: it delays nothing that has come.
    pub(super) fn steps_from(&self) -> Option<Timestamp> {
        if self.is_parked() { self.again } else { self.held_until().max(self.again) }
    }

    /// The certificate that has passed every check and is to follow.
    pub(super) fn next(&self) -> Option<&SignerLife> {
        match &self.phase {
            Phase::Verified(_, life) | Phase::Staged { life, .. } | Phase::Activating(_, life) => Some(life),
            _ => None,
        }
    }

    /// When that certificate is of no use any more; one that is being made the current one may be so already.
    pub(super) fn spent_at(&self) -> Option<Timestamp> {
        let life = self.next().filter(|_| !matches!(self.phase, Phase::Activating(..)))?;
        Some(life.not_after.minus(self.terms.as_ref()?.reserve))
    }

    /// Waits are cut to the longest there are, and what was counted in hours yet to come counts now: the clock may have
    /// been set back, with or without a restart between.
    pub(super) fn cut_waits(&mut self, limits: &Limits, now: Timestamp) {
        self.submissions.not_ahead(now);
        self.issuances.not_ahead(now);
        self.again = self.again.map(|t| t.min(now.plus(DAY)));
        self.changed = self.changed.map(|t| t.min(now));
        self.first_seen = self.first_seen.min(now);
        if let Some((at, _)) = &mut self.last_failure {
            *at = (*at).min(now);
        }
        match &mut self.hold {
            Hold::None => {}
            Hold::Backoff { until } => *until = (*until).min(now.plus(limits.backoff_cap.max(DAY))),
            Hold::Parked { canary, .. } => *canary = (*canary).min(now.plus(DAY + Duration::from_secs(1))),
        }
        if let Phase::Waiting(_, until) = &mut self.phase {
            *until = (*until).min(now.plus(DAY));
        }
    }

    /// When the day's budget has room again; `None`: it has.
    pub(super) fn budget_frees(&self, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
        let opens_order = matches!(self.phase, Phase::Idle | Phase::Due);
        let issued = self.issuances.below(limits.issuances_per_day, now).filter(|_| opens_order);
        self.submissions.below(limits.submissions_per_day, now).max(issued)
    }

    /// Forgets failures and holds, and grants the day's budget anew.
    pub(super) fn pardon(&mut self) {
        self.submissions.clear();
        self.issuances.clear();
        self.lift();
    }

    /// When we were not accepted, if that is its last failure.
    pub(super) fn denied_at(&self) -> Option<Timestamp> {
        self.last_failure.as_ref().filter(|(_, f)| f.scope == Scope::OwnCredential).map(|(at, _)| *at)
    }

    /// We prove ourselves by something else now: its refusal says nothing any more.
    pub(super) fn forgive_denial(&mut self) {
        match self.hold {
            // What only an operator lifts.
            Hold::Parked { why: Park::Governor, .. } => self.forget_denial(),
            _ => self.lift(),
        }
    }

    /// What is said of us next is said for the first time.
    pub(super) fn forget_denial(&mut self) {
        self.last_failure = self.last_failure.take().filter(|(_, f)| f.scope != Scope::OwnCredential);
    }

    /// The CA took the order well: what held the slot is over, but for what only an operator lifts.
    pub(super) fn lift_park(&mut self) {
        self.forget_denial();
        if !matches!(self.hold, Hold::Parked { why: Park::Governor, .. }) {
            self.hold = Hold::None;
            self.alarmed = false;
        }
    }

    /// Forgets failures and holds. What was asked and got today is not forgotten.
    pub(super) fn lift(&mut self) {
        self.forget_denial();
        self.hold = Hold::None;
        self.failures = 0;
        self.turned_away = 0;
        self.alarmed = false;
        if let Phase::Waiting(_, until) = &mut self.phase {
            *until = Timestamp::MIN;
        }
    }
}

impl Phase {
    /// The name in `--json` and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Due => "due",
            Phase::Preparing(_) => "preparing",
            Phase::Ordered(_) => "ordered",
            Phase::InFlight(_) => "in-flight",
            Phase::Waiting(..) => "waiting",
            Phase::Issued(_) => "issued",
            Phase::Verified(..) => "verified",
            Phase::Staged { .. } => "staged",
            Phase::Activating(..) => "activating",
        }
    }

    /// The open order.
    pub const fn order(&self) -> Option<&Order> {
        match self {
            Phase::Idle | Phase::Due => None,
            Phase::Preparing(order)
            | Phase::Ordered(order)
            | Phase::InFlight(order)
            | Phase::Waiting(order, _)
            | Phase::Issued(order)
            | Phase::Verified(order, _)
            | Phase::Staged { order, .. }
            | Phase::Activating(order, _) => Some(order),
        }
    }

    /// What the driver was asked for last, if it can still report on that.
    pub(super) const fn awaits(&self) -> Option<Step> {
        match self {
            Phase::Idle | Phase::Due | Phase::Ordered(_) | Phase::Waiting(..) | Phase::Staged { .. } => None,
            Phase::Preparing(_) => Some(Step::Prepare),
            Phase::InFlight(order) => Some(Step::Submit(order.attempts)),
            Phase::Issued(_) => Some(Step::Verify),
            Phase::Verified(..) => Some(Step::Stage),
            Phase::Activating(..) => Some(Step::Activate),
        }
    }

    /// The phase after an event, by way of `step`, which gives back what it cannot use. An event for another order or
    /// another phase changes nothing and is named.
    pub(super) fn step(
        &mut self,
        slot: &SlotId,
        order: OrderId,
        event: &'static str,
        step: impl FnOnce(Phase) -> Result<Phase, Phase>,
    ) -> Result<(), Ignored> {
        if self.order().is_none_or(|o| o.id != order) {
            return Err(Ignored::NotThisOrder { slot: slot.clone(), order });
        }
        match step(std::mem::replace(self, Phase::Idle)) {
            Ok(next) => {
                *self = next;
                Ok(())
            }
            Err(same) => {
                let phase = same.name();
                *self = same;
                Err(Ignored::NotNow { slot: slot.clone(), phase, event })
            }
        }
    }
}
