//! What the check is told of a node besides its requests: by operators, the registry, the clock, and by what came of its orders.

use super::super::agenda::Ms;
use super::super::setup::{CREDENTIAL, Slot};
use super::Check;
use crate::renewal::OrderId;
use crate::time::Timestamp;

impl Check {
    pub(in super::super) fn unreadable(&mut self, ms: Ms, node: usize, slot: Slot, order: OrderId) {
        self.note(ms, node, slot, "what comes cannot be read", Some(order));
        if let Some(node) = self.nodes.get_mut(node) {
            node.waits.unreadable(slot);
        }
    }

    /// What came did not pass, and the node knows.
    pub(in super::super) fn rejected(&mut self, ms: Ms, node: usize, slot: Slot) {
        self.note(ms, node, slot, "what came does not pass", None);
        if let Some(node) = self.nodes.get_mut(node) {
            node.parks.rejected(slot);
        }
    }

    /// An operator approves what has come of this order.
    pub(in super::super) fn approved(&mut self, node: usize, slot: Slot, order: Option<OrderId>) {
        if let Some(of) = self.slot(node, slot) {
            of.approved = order;
        }
    }

    pub(in super::super) fn first_asked(&self, node: usize, slot: Slot) -> Option<Timestamp> {
        self.nodes.get(node)?.waits.first_asked(slot)
    }

    /// What was counted by the former time says nothing any more.
    pub(in super::super) fn clock_set(&mut self, ms: Ms, node: usize, by: i64, is_running: bool) {
        self.note(ms, node, CREDENTIAL, "the clock jumps", None);
        self.grant_anew(node);
        if let Some(node) = self.nodes.get_mut(node) {
            node.acceptance.begins_anew();
            node.parks.begins_anew();
            node.waits.begins_anew();
            node.seconds.clear();
            node.pause.clock_set(ms, by, is_running);
            node.begun = None;
        }
    }

    /// An operator grants the budgets anew.
    pub(in super::super) fn pardon(&mut self, node: usize) {
        self.proves_itself_anew(node);
        self.grant_anew(node);
        if let Some(node) = self.nodes.get_mut(node) {
            node.parks.lift_all();
            node.waits.lift_all();
        }
    }

    fn grant_anew(&mut self, node: usize) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.departures.clear();
        for slot in &mut node.slots {
            slot.sent.clear();
            slot.issued.clear();
        }
    }

    /// A change of its registry record lifts a park. It grants no budget anew: a registry that changes to and fro would do so
    /// time and again.
    pub(in super::super) fn freed(&mut self, node: usize, slot: Slot) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.parks.freed(slot);
            node.waits.freed(slot);
        }
    }

    /// An operator wants everything renewed, what was refused included.
    pub(in super::super) fn ordered(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.parks.ordered();
        }
    }

    /// By another certificate of its own than before.
    pub(in super::super) fn proves_itself_anew(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.acceptance.begins_anew();
            node.parks.proves_itself_anew();
            node.waits.proves_itself_anew();
        }
    }

    pub(in super::super) fn paused(&mut self, ms: Ms, node: usize, until: Ms) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.pause.begins(ms, until);
        }
    }

    /// The process of a node ends: a pause that was over by then is so for the next.
    pub(in super::super) fn ends(&mut self, ms: Ms, node: usize) {
        self.note(ms, node, CREDENTIAL, "the process ends", None);
        if let Some(node) = self.nodes.get_mut(node) {
            node.pause.ended(ms);
        }
    }

    pub(in super::super) fn is_paused(&self, node: usize, ms: Ms) -> bool {
        self.nodes.get(node).is_some_and(|n| n.pause.is_on(ms))
    }

    /// A pause ends before its time.
    pub(in super::super) fn resumed(&mut self, ms: Ms, node: usize) {
        if let Some(place) = self.nodes.get_mut(node).filter(|n| n.pause.is_on(ms)) {
            place.pause.ends();
            self.ramp(ms, node);
        }
    }
}
