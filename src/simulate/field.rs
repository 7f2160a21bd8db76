//! A node run by the policy that the field uses: a fixed share of life, a fixed retry, no registry, no scopes.

use super::agenda::Ms;
use super::ca::Answer;
use super::check::Heard;
use super::node::{Here, News, Node, Wish};
use super::setup::{CREDENTIAL, Field, Setup, Slot};
use crate::renewal::{OrderId, SignerLife, SlotRecord};
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// A node of the field.
pub(super) struct FieldNode {
    policy: Field,
    node: u64,
    /// What its configuration names.
    configured: Vec<bool>,
    /// What is asked for, by slot.
    open: Vec<Option<OrderId>>,
    timers: BTreeSet<(Timestamp, Slot)>,
    orders: u64,
    started_before: bool,
    wishes: Vec<Wish>,
}

/// The timer of the loop: of no slot.
const LOOP: Slot = usize::MAX;

impl FieldNode {
    pub(super) fn new(setup: &Setup, node: usize) -> Self {
        let slots = setup.issuers + 1;
        let mut configured = vec![true; slots];
        if let Some(first) = configured.first_mut() {
            *first = setup.credential.is_some() && setup.field.watches_credential;
        }
        configured.iter_mut().take(setup.absent.end + 1).skip(setup.absent.start + 1).for_each(|c| *c = false);
        FieldNode {
            policy: setup.field.clone(),
            node: node as u64,
            configured,
            open: vec![None; slots],
            timers: BTreeSet::new(),
            orders: 0,
            started_before: false,
            wishes: Vec::new(),
        }
    }

    fn due(&self, life: &SignerLife) -> Timestamp {
        let whole = life.not_after.since(life.not_before).as_secs_f64();
        life.not_before.plus(Duration::from_secs_f64(whole * self.policy.fraction))
    }

    fn is_configured(&self, slot: Slot) -> bool {
        self.configured.get(slot).copied().unwrap_or(false)
    }

    /// A new key, a new request.
    fn ask(&mut self, slot: Slot) {
        self.orders += 1;
        let order = OrderId::from_number((self.node << 40) | self.orders);
        if let Some(open) = self.open.get_mut(slot) {
            *open = Some(order);
        }
        self.wishes.push(Wish::Call { slot, order, attempt: 1, cause: None });
    }

    fn later(&mut self, slot: Slot, wait: Ms, here: &Here<'_>) {
        self.timers.insert((here.now.plus(Duration::from_millis(wait)), slot));
    }

    fn look(&mut self, slot: Slot, here: &Here<'_>) {
        if !self.is_configured(slot) || self.open.get(slot).is_none_or(Option::is_some) {
            return;
        }
        match here.lives.get(slot).copied().flatten() {
            Some(life) if self.due(&life) > here.now => {
                let due = self.due(&life);
                if self.policy.one_loop.is_none() {
                    self.timers.insert((due, slot));
                }
            }
            _ => self.ask(slot),
        }
    }

    /// One after the other, until one cannot be read.
    fn pass(&mut self, every: Ms, here: &Here<'_>) {
        for slot in CREDENTIAL..self.configured.len() {
            if here.ill_formed.get(slot).copied().unwrap_or(false) {
                break;
            }
            self.look(slot, here);
        }
        // The job is started again the next time, and hangs at the same place.
        self.later(LOOP, every, here);
    }
}

impl Node for FieldNode {
    fn start(&mut self, here: &Here<'_>) {
        self.timers.clear();
        self.wishes.clear();
        self.open.iter_mut().for_each(|open| *open = None);
        let anew = std::mem::replace(&mut self.started_before, true) && self.policy.starts_anew;
        if let Some(every) = self.policy.one_loop {
            self.pass(every, here);
            return;
        }
        for slot in CREDENTIAL..self.configured.len() {
            if anew && self.is_configured(slot) {
                self.ask(slot);
            } else {
                self.look(slot, here);
            }
        }
    }

    fn end(&mut self) {
        self.wishes.clear();
        self.timers.clear();
    }

    fn wake(&mut self, here: &Here<'_>) {
        while let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= here.now) {
            self.timers.remove(&(at, slot));
            match self.policy.one_loop.filter(|_| slot == LOOP) {
                Some(every) => self.pass(every, here),
                None => self.look(slot, here),
            }
        }
    }

    fn hear(&mut self, news: News, here: &Here<'_>) {
        match news {
            News::Answer { slot, order, answer, .. } => {
                let Some(open) = self.open.get_mut(slot).filter(|open| **open == Some(order)) else { return };
                *open = None;
                match answer {
                    Answer::Issued(life) => {
                        self.wishes.push(Wish::Install { slot, order, life });
                        if self.policy.one_loop.is_none() {
                            // What is due already is looked at again as after a failure.
                            let due = self.due(&life).max(here.now.plus(Duration::from_millis(self.policy.retry)));
                            self.timers.insert((due, slot));
                        }
                    }
                    _ => self.later(slot, self.policy.retry, here),
                }
            }
            News::ClockSet => self.wake(here),
            _ => {}
        }
    }

    fn next_wakeup(&self, _here: &Here<'_>) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    fn record(&self, _slot: Slot) -> Option<&SlotRecord> {
        None
    }

    fn heard(&self) -> Option<&Heard> {
        None
    }

    fn configure(&mut self, issuers: Range<usize>, wanted: bool) {
        for configured in self.configured.iter_mut().take(issuers.end + 1).skip(issuers.start + 1) {
            *configured = wanted;
        }
    }
}
