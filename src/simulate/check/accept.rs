//! A service that does not accept us: one slot may be told so, and another to be sure; then nothing is asked for an hour.

use super::super::agenda::{HOUR, Ms, SECOND};
use super::super::ca::Answer;
use super::super::setup::{CREDENTIAL, Slot};
use std::collections::BTreeSet;

/// What one node has heard of who it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptance {
    /// Slots whose last answer was that we are not accepted. What is said to them again says nothing new.
    strangers: BTreeSet<Slot>,
    /// Those of them that were told so since the last answer of another kind to anybody.
    fresh: BTreeSet<Slot>,
    /// When the second of these was.
    sure: Option<Ms>,
}

impl Acceptance {
    pub(super) fn answered(&mut self, ms: Ms, slot: Slot, parked: bool, answer: &Answer) {
        match answer {
            Answer::NotAccepted | Answer::Unauthorized => {
                if self.strangers.insert(slot) {
                    self.fresh.insert(slot);
                }
                if self.fresh.len() > 1 {
                    self.sure = Some(ms);
                }
            }
            Answer::Issued(_) | Answer::Later(_) | Answer::Refused | Answer::Error => {
                // That the order of a parked slot is taken lifts nothing: what is said to it in the end is said again.
                if !(parked && matches!(answer, Answer::Later(_))) {
                    self.strangers.remove(&slot);
                }
                self.fresh.clear();
                self.sure = None;
            }
            Answer::Unreachable | Answer::Busy(_) | Answer::TimedOut => {
                self.strangers.remove(&slot);
            }
        }
    }

    /// What is wrong with a request that leaves now.
    pub(super) fn leaves(&self, ms: Ms, slot: Slot) -> Option<String> {
        // The node counts in whole seconds.
        let since = self.sure.map(|sure| ms.saturating_sub(sure)).filter(|since| since + 2 * SECOND < HOUR)?;
        (slot != CREDENTIAL)
            .then(|| format!("asked for {} s after the service did not accept us twice", since / SECOND))
    }

    /// Another credential, an operator's word, a clock that is set: what was held is open. Who was told what is known all the same.
    pub(super) fn begins_anew(&mut self) {
        (self.fresh, self.sure) = (BTreeSet::new(), None);
    }

    /// The process ended with something unwritten: what is said next of any of these slots may have been said before.
    pub(super) fn forgets(&mut self, slots: usize) {
        self.begins_anew();
        self.strangers = (0..slots).collect();
    }
}
