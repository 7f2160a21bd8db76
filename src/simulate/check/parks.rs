//! What is parked is asked for once a day, whatever parked it, and nothing lifts a park but what may.

use super::super::agenda::{DAY, Ms, SECOND};
use super::super::ca::Answer;
use super::super::setup::{CREDENTIAL, Slot};
use crate::renewal::{Hold, Park, SlotRecord};

/// The slots of one node.
#[derive(Clone, Debug)]
pub(super) struct Parks {
    slots: Vec<Parked>,
}

#[derive(Clone, Debug, Default)]
struct Parked {
    /// The CA has said no, or what came did not pass, and no certificate has come since.
    refused: bool,
    /// Its ledger has said so, and nothing has lifted it since.
    why: Option<Park>,
    /// We were not accepted when it was asked for last: another credential of ours lifts what came of that.
    denied: bool,
    last_sent: Option<Ms>,
}

impl Parked {
    /// An operator, the registry, or a certificate that came.
    fn lift(&mut self) {
        (self.refused, self.why) = (false, None);
    }
}

fn parked(record: Option<&SlotRecord>) -> Option<Park> {
    match record?.hold {
        Hold::Parked { why, .. } => Some(why),
        _ => None,
    }
}

impl Parks {
    pub(super) fn new(slots: usize) -> Self {
        Parks { slots: vec![Parked::default(); slots] }
    }

    /// What the ledger says of a slot now.
    pub(super) fn written(&mut self, slot: Slot, record: Option<&SlotRecord>) {
        if let (Some(of), Some(why)) = (self.slots.get_mut(slot), parked(record)) {
            of.why = Some(why);
        }
    }

    pub(super) fn is_parked(&self, slot: Slot) -> bool {
        self.slots.get(slot).is_some_and(|of| of.why.is_some())
    }

    pub(super) fn answered(&mut self, slot: Slot, answer: &Answer) {
        let Some(of) = self.slots.get_mut(slot) else { return };
        match answer {
            Answer::Issued(_) => {
                of.refused = false;
                // What only an operator or the registry lifts is not lifted by success.
                of.why = of.why.filter(|why| *why == Park::Governor);
            }
            Answer::Refused => of.refused = true,
            Answer::NotAccepted | Answer::Unauthorized => of.refused |= slot == CREDENTIAL,
            // That it takes the order says nothing of what it will say in the end.
            Answer::Later(_) => return,
            _ => {}
        }
        of.denied = matches!(answer, Answer::NotAccepted | Answer::Unauthorized);
    }

    /// What came did not pass.
    pub(super) fn rejected(&mut self, slot: Slot) {
        if let Some(of) = self.slots.get_mut(slot) {
            of.refused = true;
        }
    }

    /// What is wrong with a request that leaves now.
    pub(super) fn leaves(&mut self, ms: Ms, slot: Slot, record: Option<&SlotRecord>) -> Option<String> {
        self.written(slot, record);
        let of = self.slots.get_mut(slot)?;
        // The node counts in whole seconds.
        let again = of.last_sent.replace(ms).is_some_and(|last| ms + SECOND <= last + DAY);
        match of.why {
            _ if !again => None,
            Some(why) => Some(format!("parked ({why:?}), and asked twice within a day")),
            None => of.refused.then(|| "refused or rejected, and asked twice within a day".to_owned()),
        }
    }

    /// Its issuer came back to the registry, or is gone from it.
    pub(super) fn freed(&mut self, slot: Slot) {
        if let Some(of) = self.slots.get_mut(slot) {
            of.lift();
        }
    }

    /// An operator wants everything renewed: that lifts what he need not lift by name.
    pub(super) fn ordered(&mut self) {
        self.slots.iter_mut().filter(|of| of.why != Some(Park::Governor)).for_each(Parked::lift);
    }

    /// Another credential of ours is in place.
    pub(super) fn proves_itself_anew(&mut self) {
        self.slots.iter_mut().filter(|of| of.denied && of.why != Some(Park::Governor)).for_each(Parked::lift);
    }

    /// An operator lifts all, or the process has forgotten what it could not write.
    pub(super) fn lift_all(&mut self) {
        self.slots.iter_mut().for_each(Parked::lift);
    }

    /// A day ago was another time by the clock that was set.
    pub(super) fn begins_anew(&mut self) {
        self.slots.fill(Parked::default());
    }
}
