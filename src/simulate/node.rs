//! One node of the fleet: a process with a disk, run by our core or by the policy of the field.

use super::agenda::Ms;
use super::authority::{Authority, Reading};
use super::ca::Answer;
use super::check::Heard;
use super::setup::Slot;
use crate::renewal::{Cause, Command, OrderId, SignerLife, SlotRecord, Step};
use crate::time::Timestamp;

/// A node in the world. Its process may end at any time; what it has on disk stays.
pub(super) trait Node {
    /// Its process begins, with what is on disk.
    fn start(&mut self, here: &Here<'_>);
    /// Its process ends.
    fn end(&mut self);
    /// The time it asked for has come.
    fn wake(&mut self, here: &Here<'_>);
    fn hear(&mut self, news: News, here: &Here<'_>);
    /// When it wants to be woken, by its own clock.
    fn next_wakeup(&self, here: &Here<'_>) -> Option<Timestamp>;
    /// What it wants done, in order.
    fn wishes(&mut self) -> Vec<Wish>;
    /// What its ledger says of a slot.
    fn record(&self, slot: Slot) -> Option<&SlotRecord>;
    /// What it was told of the registry.
    fn heard(&self) -> Option<&Heard>;
    /// These issuers are in its configuration from the next start on, or no more.
    fn configure(&mut self, _issuers: std::ops::Range<usize>, _wanted: bool) {}
    /// Nothing more can be written.
    fn set_disk(&mut self, _full: bool) {}
    /// Nothing that the ledger should hold is in memory only.
    fn has_all_on_disk(&self) -> bool {
        true
    }
    /// By its ledger, the service has failed so often that it is given up.
    fn breaker_is_open(&self) -> bool {
        false
    }
    /// Why a slot is where it is, in words.
    fn explain(&self, _slot: Slot, _here: &Here<'_>) -> Option<Vec<String>> {
        None
    }
}

/// What a node can see of the world.
pub(super) struct Here<'a> {
    pub node: usize,
    /// The true time.
    pub ms: Ms,
    /// By the node's clock.
    pub now: Timestamp,
    /// What the node's clock shows at a virtual time.
    pub clock: NodeClock,
    pub authority: &'a Authority,
    /// The certificates in use, by slot.
    pub lives: &'a [Option<SignerLife>],
    /// Certificates that make what reads them hang.
    pub ill_formed: &'a [bool],
}

/// A clock that may be wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeClock {
    pub start: Timestamp,
    pub offset: i64,
}

/// Something has happened.
#[derive(Debug)]
pub(super) enum News {
    /// The registry was looked at.
    Registry(Reading),
    /// A local step is done.
    Done { slot: Slot, order: OrderId, step: Step },
    /// The CA has answered, or not in time.
    Answer { slot: Slot, order: OrderId, attempt: u32, answer: Answer },
    /// What checks a new certificate has not returned in its time.
    Hung { slot: Slot, order: OrderId },
    /// Somebody else has put a certificate in place.
    Replaced { slot: Slot },
    /// The configuration is read again.
    Reload,
    /// An operator's word.
    Command(Command),
    /// The clock has been set.
    ClockSet,
}

/// What a node wants done.
#[derive(Debug)]
pub(super) enum Wish {
    ReadRegistry,
    /// A local step; takes a moment.
    Step {
        slot: Slot,
        order: OrderId,
        step: Step,
    },
    /// A request to the CA; an earlier one of the slot that still hangs is closed.
    Call {
        slot: Slot,
        order: OrderId,
        attempt: u32,
        cause: Option<Cause>,
    },
    /// The registry's word lifts what parks it.
    Freed {
        slot: Slot,
    },
    /// The request has been given up.
    HangUp {
        slot: Slot,
    },
    /// The order is over without a certificate; what hangs for it is closed.
    Cancel {
        slot: Slot,
        order: OrderId,
        hang_up: bool,
    },
    /// The registry has named issuers that were not active before: the rate must begin anew from then on.
    Ramp {
        from: Ms,
    },
    /// This certificate is in use from now on.
    Install {
        slot: Slot,
        order: OrderId,
        life: SignerLife,
    },
    /// What came did not pass, and the core has taken note.
    Rejected {
        slot: Slot,
    },
    /// Somebody should act.
    Alarm {
        slot: Option<Slot>,
    },
}

impl NodeClock {
    pub(super) fn at(&self, ms: Ms) -> Timestamp {
        let shown = i64::try_from(ms).unwrap_or(i64::MAX).saturating_add(self.offset);
        Timestamp::from_unix(self.start.unix().saturating_add(shown.div_euclid(1_000)))
    }

    /// The first moment at which it shows this; 0 if that is before the world.
    pub(super) fn when(&self, shown: Timestamp) -> Ms {
        let ms = shown.unix().saturating_sub(self.start.unix()).saturating_mul(1_000).saturating_sub(self.offset);
        u64::try_from(ms).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_wrong_in_both_directions() {
        for offset in [-90_500, 0, 3_250] {
            let clock = NodeClock { start: Timestamp::from_unix(1_000), offset };
            let shown = clock.at(200_000);
            let ms = clock.when(shown);
            assert!(ms <= 200_000 && clock.at(ms) == shown && clock.at(ms - 1) < shown, "{offset}");
        }
    }
}
