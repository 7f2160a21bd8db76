//! What the CA has asked for: not to be asked for so long.

use super::super::agenda::{Ms, SECOND};
use super::super::ca::Answer;
use super::super::setup::Slot;
use crate::time::Timestamp;
use std::time::Duration;

/// What one node was asked for.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    slots: Vec<Wait>,
    /// Nothing is to be asked of the service before.
    service: Ms,
    /// The service has failed since it last answered anybody, and the node knows.
    is_failing: bool,
}

#[derive(Clone, Debug)]
struct Wait {
    /// It is not to be asked for before.
    until: Ms,
    /// The service has not failed for it since it last took its order well: if it fails now, that is not held to be its own trouble.
    is_clean: bool,
    /// When it was first asked for, by the node's clock: its issuer had been seen by then.
    first_asked: Option<Timestamp>,
}

/// For how long a node must wait at the least, and whether its core has taken note of the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Asked {
    pub is_noted: bool,
    /// As far as this slot has the time.
    pub own: Duration,
    /// As far as every slot has it that may be asked for.
    pub all: Duration,
}

impl Waits {
    pub(super) fn new(slots: usize) -> Self {
        let wait = Wait { until: 0, is_clean: true, first_asked: None };
        Waits { slots: vec![wait; slots], service: 0, is_failing: false }
    }

    pub(super) fn answered(&mut self, ms: Ms, slot: Slot, answer: &Answer, asked: Asked) {
        let Some(of) = self.slots.get_mut(slot) else { return };
        let after = |wait: Duration| ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(Ms::MAX));
        match answer {
            Answer::Issued(_) | Answer::Later(_) | Answer::Refused | Answer::Error => {
                (self.service, self.is_failing) = (0, false);
                let is_later = matches!(answer, Answer::Later(_));
                of.until = if is_later && asked.is_noted { after(asked.own) } else { 0 };
                if is_later || matches!(answer, Answer::Issued(_)) {
                    of.is_clean = asked.is_noted;
                }
            }
            Answer::Unreachable | Answer::Busy(_) | Answer::TimedOut => {
                self.is_failing |= of.is_clean && asked.is_noted;
                of.is_clean = false;
                // Until it answers anybody: where it has just done so, this may be the trouble of this slot alone.
                if matches!(answer, Answer::Busy(_)) && asked.is_noted && self.is_failing {
                    self.service = self.service.max(after(asked.all));
                }
            }
            Answer::NotAccepted | Answer::Unauthorized => of.is_clean = false,
        }
    }

    /// What came cannot be read: it says nothing of the service.
    pub(super) fn unreadable(&mut self, slot: Slot) {
        (self.service, self.is_failing) = (0, false);
        if let Some(of) = self.slots.get_mut(slot) {
            (of.until, of.is_clean) = (0, false);
        }
    }

    /// What is wrong with a request that leaves now.
    pub(super) fn leaves(&mut self, ms: Ms, shown: Timestamp, slot: Slot) -> Option<String> {
        let of = self.slots.get_mut(slot)?;
        of.first_asked.get_or_insert(shown);
        let until = self.service.max(of.until);
        // The node counts in whole seconds.
        (ms + 2 * SECOND < until)
            .then(|| format!("asked for {} s before the CA wants to be asked again", (until - ms) / SECOND))
    }

    /// When the slot was first asked for, by the node's clock.
    pub(super) fn first_asked(&self, slot: Slot) -> Option<Timestamp> {
        self.slots.get(slot)?.first_asked
    }

    /// Its order is over, or the registry has changed.
    pub(super) fn freed(&mut self, slot: Slot) {
        if let Some(of) = self.slots.get_mut(slot) {
            of.until = 0;
        }
    }

    /// Another credential of ours is in place.
    pub(super) fn proves_itself_anew(&mut self) {
        self.slots.iter_mut().for_each(|of| of.until = 0);
    }

    /// An operator lifts all.
    pub(super) fn lift_all(&mut self) {
        self.proves_itself_anew();
        (self.service, self.is_failing) = (0, false);
    }

    /// What was counted by the former time, or was not written, says nothing any more.
    pub(super) fn begins_anew(&mut self) {
        self.lift_all();
        self.slots.iter_mut().for_each(|of| (of.is_clean, of.first_asked) = (false, None));
    }
}
