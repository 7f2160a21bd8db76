//! An operator's word.

use super::super::event::{Command, Ignored, Pause, Reach};
use super::super::id::{EndpointId, SlotId};
use super::super::slot::{Hold, Known, Park, Phase, Slot};
use super::Core;
use crate::time::Timestamp;

impl Core {
    pub(super) fn command(&mut self, command: Command, now: Timestamp) -> Result<usize, Ignored> {
        match command {
            Command::Pause(pause) => self.pause(pause, now),
            Command::Resume { reach } => {
                if self.pauses.remove(&reach).is_none() {
                    return Err(Ignored::NothingConcerned(reach));
                }
                Ok(self.resumed(&reach, now))
            }
            Command::Renew { reach } => self.renew(reach, now),
            Command::Unpark { reach } => self.unpark(reach, now),
            Command::Approve { slot } => self.approve(&slot, now),
        }
    }

    fn pause(&mut self, pause: Pause, now: Timestamp) -> Result<usize, Ignored> {
        if pause.until <= now {
            return Err(Ignored::PauseOver(pause.until));
        }
        self.known(&pause.reach)?;
        let reach = pause.reach.clone();
        self.pauses.insert(reach.clone(), Pause { since: Some(now), ..pause });
        self.dirty_pauses = true;
        let concerned = self.all_within(&reach);
        concerned.iter().for_each(|id| self.settle(id, now));
        Ok(concerned.len())
    }

    /// A ramp for each endpoint the pause had concerned.
    fn resumed(&mut self, reach: &Reach, now: Timestamp) -> usize {
        self.dirty_pauses = true;
        self.restart_pace(reach, now);
        let concerned = self.all_within(reach);
        concerned.iter().for_each(|id| self.settle(id, now));
        concerned.len()
    }

    /// Pauses end by themselves.
    pub(super) fn end_pauses(&mut self, now: Timestamp) {
        let over: Vec<Reach> = self.pauses.values().filter(|p| p.until <= now).map(|p| p.reach.clone()).collect();
        for reach in over {
            self.pauses.remove(&reach);
            self.resumed(&reach, now);
            self.tell(reach, false, "the pause has ended by itself".to_owned());
        }
    }

    fn renew(&mut self, reach: Reach, now: Timestamp) -> Result<usize, Ignored> {
        let mut count = 0;
        for id in self.all_within(&reach) {
            let active = self.is_active(&id);
            let governed = |slot: &Slot| matches!(slot.hold, Hold::Parked { why: Park::Governor, .. });
            let unapproved = |slot: &Slot| matches!(slot.phase, Phase::Staged { approved: false, .. });
            if active && self.slots.get(&id).is_some_and(|slot| unapproved(slot) && !governed(slot)) {
                let text = "an operator wants another certificate: the one that waited for approval is dropped";
                self.drop_order(&id, text);
                self.tell(Reach::Slot(id.clone()), false, text.to_owned());
            }
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let governed = governed(slot);
            let wanting = matches!(slot.phase, Phase::Idle | Phase::Due | Phase::Ordered(_) | Phase::Waiting(..));
            if !active || governed || !wanting || slot.known == Known::Nothing {
                continue;
            }
            count += 1;
            slot.forced = true;
            slot.hold = Hold::None;
            slot.alarmed = false;
            self.dirty.insert(id.clone());
            self.settle(&id, now);
        }
        if count == 0 { Err(Ignored::NothingConcerned(reach)) } else { Ok(count) }
    }

    fn unpark(&mut self, reach: Reach, now: Timestamp) -> Result<usize, Ignored> {
        let mut count = 0;
        for id in self.all_within(&reach) {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let is_clean = slot.hold == Hold::None && slot.failures == 0 && slot.denied_at().is_none();
            if is_clean && slot.submissions.is_empty() {
                continue;
            }
            count += 1;
            slot.pardon();
            self.dirty.insert(id.clone());
            self.settle(&id, now);
        }
        if !matches!(reach, Reach::Slot(_)) {
            for id in self.endpoints_within(&reach) {
                if let Some(endpoint) = self.endpoints.get_mut(&id) {
                    endpoint.pardon(now);
                    self.dirty_endpoints.insert(id);
                    count += 1;
                }
            }
        }
        self.restart_pace(&reach, now);
        if count == 0 { Err(Ignored::NothingConcerned(reach)) } else { Ok(count) }
    }

    fn approve(&mut self, id: &SlotId, now: Timestamp) -> Result<usize, Ignored> {
        let slot = self.slots.get_mut(id).ok_or_else(|| Ignored::UnknownSlot(id.clone()))?;
        let spent = slot.spent_at().is_some_and(|at| at <= now);
        match &mut slot.phase {
            Phase::Staged { approved, .. } if !*approved && !spent => *approved = true,
            _ => return Err(Ignored::NothingConcerned(Reach::Slot(id.clone()))),
        }
        self.dirty.insert(id.clone());
        self.settle(id, now);
        Ok(1)
    }

    fn known(&self, reach: &Reach) -> Result<(), Ignored> {
        match reach {
            Reach::Slot(id) if !self.slots.contains_key(id) => Err(Ignored::UnknownSlot(id.clone())),
            Reach::Endpoint(id) if !self.endpoints.contains_key(id) => Err(Ignored::UnknownEndpoint(id.clone())),
            _ => Ok(()),
        }
    }

    fn all_within(&self, reach: &Reach) -> Vec<SlotId> {
        match reach {
            Reach::Slot(id) => self.slots.contains_key(id).then(|| id.clone()).into_iter().collect(),
            _ => self.slots.keys().filter(|id| self.within(reach, id)).cloned().collect(),
        }
    }

    fn endpoints_within(&self, reach: &Reach) -> Vec<EndpointId> {
        match reach {
            Reach::All => self.endpoints.keys().cloned().collect(),
            Reach::Endpoint(id) => vec![id.clone()],
            Reach::Slot(id) => {
                self.slots.get(id).and_then(|s| s.terms.as_ref()).map(|t| t.endpoint.clone()).into_iter().collect()
            }
        }
    }

    fn restart_pace(&mut self, reach: &Reach, now: Timestamp) {
        for id in self.endpoints_within(reach) {
            if let Some(endpoint) = self.endpoints.get_mut(&id) {
                endpoint.pace.restart(now);
            }
        }
    }
}
