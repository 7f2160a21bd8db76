//! What is done to the world: faults, their ends, and operators.

use super::agenda::{MINUTE, Ms, SECOND};
use super::ca::Answer;
use super::node::{News, NodeClock};
use super::setup::{CREDENTIAL, CaState, Deed, Says, Slot};
use super::world::{Event, Policy, World};
use crate::registry::State;
use crate::renewal::{Command, Hold, Pause, Phase, Reach, SignerLife, SlotRecord};
use std::ops::Range;
use std::time::Duration;

fn is_parked(record: Option<&SlotRecord>) -> bool {
    record.is_some_and(|r| matches!(r.hold, Hold::Parked { .. }))
}

impl World {
    pub(super) fn done(&mut self, deed: Deed) {
        let mut effects = Vec::new();
        match deed {
            Deed::Publish { issuers, says, late, lost_to } => self.publish(issuers, says, late, lost_to),
            Deed::Propose(changes) => {
                let impact = self.authority.impact(&changes);
                if self.policy == Policy::Ours && self.setup.guard.holds(&impact) {
                    self.measure.held.push((self.now, impact.to_string()));
                    let stopped = changes.iter().filter(|(_, says)| *says != Says::State(State::Active)).cloned();
                    let stopped: Vec<_> = stopped.collect();
                    self.held = changes;
                    stopped.into_iter().for_each(|(issuers, _)| {
                        self.publish(issuers, Says::State(State::Disabled), 0, 0..0);
                    });
                } else {
                    changes.into_iter().for_each(|(issuers, says)| self.publish(issuers, says, 0, 0..0));
                }
            }
            Deed::Accept => {
                let held = std::mem::take(&mut self.held);
                held.into_iter().for_each(|(issuers, says)| self.publish(issuers, says, 0, 0..0));
            }
            Deed::Maintenance(issuers) => self.ca.maintained = issuers,
            Deed::RegistryDown(down) => {
                self.authority.go_down(down, self.now);
                self.look_from(self.now);
            }
            Deed::DestroyKeys(issuers) => self.ca.destroy(issuers),
            Deed::TellFrontEnd => self.ca.tell_front_end(),
            Deed::Ca(state) => {
                self.ca.state = state;
                if state == CaState::Up {
                    self.ca.go_on(self.now, &mut effects);
                }
            }
            Deed::CaSpeed(speed) => self.ca.speed = speed,
            Deed::RestartCa if !self.ca.is_hung() => {}
            Deed::RestartCa => {
                self.ca.restart();
                self.nodes.iter_mut().for_each(|n| n.leaked = 0);
                for (call, open) in &mut self.calls {
                    open.connected = false;
                    self.agenda.enter(self.now, Event::Reply { call: *call, answer: Answer::Unreachable });
                }
            }
            Deed::Connections(most) => self.ca.set_connections(most),
            Deed::Backdate(backdated) => self.ca.backdated = backdated,
            Deed::ParkQueue { queue, if_over } => {
                if self.ca.queue() > if_over {
                    self.ca.park(queue);
                }
            }
            Deed::Resubmit => self.ca.resubmit(self.now, &mut effects),
            Deed::RollOut { .. } if self.policy != Policy::Field => {}
            Deed::Reload(_) if self.policy != Policy::Ours => {}
            Deed::Reload(nodes) => {
                for node in nodes.filter(|node| self.nodes.get(*node).is_some_and(|n| n.up)).collect::<Vec<usize>>() {
                    self.check.ramp(self.now, node);
                    self.with(node, |process, here| process.hear(News::Reload, here));
                }
            }
            Deed::Crash(node, after) => {
                if let Some(place) = self.nodes.get_mut(node).filter(|n| n.up) {
                    place.crashes_in = Some(after);
                }
            }
            Deed::Restart { nodes, dropping, adding } | Deed::RollOut { nodes, dropping, adding } => {
                for node in nodes {
                    if let Some(place) = self.nodes.get_mut(node) {
                        place.process.configure(dropping.clone(), false);
                        place.process.configure(adding.clone(), true);
                    }
                    if self.nodes.get(node).is_some_and(|n| n.up) {
                        self.end(node);
                        self.begin(node);
                    }
                }
            }
            Deed::Stop { nodes, if_over } => {
                if self.ca.queue() >= if_over {
                    nodes.for_each(|node| self.end(node));
                }
            }
            Deed::Start(nodes) => nodes.for_each(|node| self.begin(node)),
            Deed::ClockJump(nodes, by) => nodes.for_each(|node| self.set_clock(node, by)),
            Deed::DiskFull(nodes, full) => {
                for place in self.nodes.iter_mut().take(nodes.end).skip(nodes.start) {
                    place.process.set_disk(full);
                    place.disk_is_full = full;
                }
            }
            Deed::IllFormed(slot) => {
                if let Some(ill) = self.ill_formed.get_mut(slot) {
                    *ill = true;
                }
            }
            Deed::Replace(nodes, slot) => self.replace(nodes, slot),
            Deed::RenewAll(nodes) => nodes.for_each(|node| {
                self.check.ordered(node);
                let now = self.now;
                if let Some(place) = self.nodes.get_mut(node).filter(|n| n.up && !n.disk_is_full) {
                    let in_use = place.ordered.iter_mut().zip(&place.lives).enumerate();
                    for (slot, (ordered, life)) in in_use {
                        let issuer = self.authority.issuers().get(slot.wrapping_sub(1)).map(|i| &i.id);
                        let has_heard = place.process.heard().is_some_and(|heard| heard.says_active(issuer));
                        let wanted = slot == CREDENTIAL || (self.authority.is_active(slot - 1) && has_heard);
                        if life.is_some() && wanted && !is_parked(place.process.record(slot)) {
                            *ordered = Some(now);
                        }
                    }
                }
                self.command(node, Command::Renew { reach: Reach::All });
            }),
            Deed::Approve(nodes) => nodes.for_each(|node| self.approve(node)),
            Deed::Explain(node, slot) => {
                if let Some(said) = self.why(node, slot) {
                    self.measure.explained.push((self.now, node, slot, said));
                }
            }
            Deed::Unpark(nodes) => {
                for node in nodes {
                    self.check.pardon(node);
                    if let Some(place) = self.nodes.get_mut(node) {
                        // What has parked since it was ordered is no longer wanted.
                        for (slot, ordered) in place.ordered.iter_mut().enumerate() {
                            *ordered = ordered.filter(|_| !is_parked(place.process.record(slot)));
                        }
                    }
                    if self.nodes.get(node).is_some_and(|n| n.up) {
                        self.check.ramp(self.now, node);
                    }
                    self.command(node, Command::Unpark { reach: Reach::All });
                }
            }
            Deed::Resume(nodes) => {
                for node in nodes {
                    self.check.resumed(self.now, node);
                    self.command(node, Command::Resume { reach: Reach::All });
                }
            }
            Deed::Pause(nodes, length) => {
                for node in nodes {
                    let Some(place) = self.nodes.get(node).filter(|n| n.up && !n.disk_is_full) else { continue };
                    let until = place.clock.at(self.now).plus(length);
                    self.check.paused(self.now, node, place.clock.when(until));
                    let (reason, who) = ("maintenance".to_owned(), "operator".to_owned());
                    self.command(node, Command::Pause(Pause { reach: Reach::All, until, reason, who, since: None }));
                }
            }
            Deed::HangsCheck(slot, hangs) => {
                if let Some(place) = self.hangs_check.get_mut(slot) {
                    *place = hangs;
                }
            }
        }
        self.follow(effects);
    }

    fn publish(&mut self, issuers: Range<usize>, says: Says, late: Ms, lost_to: Range<usize>) {
        self.authority.publish(issuers, says, self.now + late, lost_to);
        for node in 0..self.nodes.len() {
            for slot in 1..=self.setup.issuers {
                if !self.authority.is_active(slot - 1) {
                    self.served_again(node, slot);
                    self.no_longer_ordered(node, Some(slot));
                } else if self.has_no_signer(node, slot) {
                    self.not_served(node, slot);
                }
            }
        }
        self.look_from(self.now + late);
    }

    /// Every node sees at its next regular look what has changed by then.
    fn look_from(&mut self, from: Ms) {
        let refresh = self.setup.agent.refresh.max(SECOND);
        for node in 0..self.nodes.len() {
            let phase = (node as Ms * 7 * SECOND) % refresh;
            let next = (from.saturating_sub(phase).div_ceil(refresh)) * refresh + phase;
            self.agenda.enter(next.max(from), Event::Sync { node });
        }
    }

    fn has_no_signer(&self, node: usize, slot: Slot) -> bool {
        let life = self.nodes.get(node).and_then(|n| n.lives.get(slot).copied().flatten());
        life.is_none_or(|life| life.not_after < self.at(self.now))
    }

    fn approve(&mut self, node: usize) {
        for slot in 1..=self.setup.issuers {
            let waits = |r: &SlotRecord| matches!(r.phase, Phase::Staged { approved: false, .. });
            let waiting = self.nodes.get(node).and_then(|n| n.process.record(slot)).is_some_and(waits);
            if let Some(id) = self.names.id(slot).filter(|_| waiting).cloned() {
                let order = self.nodes.get(node).filter(|n| n.up).and_then(|n| n.process.record(slot)?.phase.order());
                let order = order.map(|order| order.id);
                self.check.approved(node, slot, order);
                self.command(node, Command::Approve { slot: id });
            }
        }
    }

    /// Counts down to the end of a process that is to crash. `true`: it has.
    pub(super) fn crashes(&mut self, node: usize) -> bool {
        let Some(place) = self.nodes.get_mut(node).filter(|n| n.up) else { return false };
        match place.crashes_in {
            None => return false,
            Some(0) => {}
            Some(left) => {
                place.crashes_in = Some(left - 1);
                return false;
            }
        }
        self.end(node);
        self.agenda.enter(self.now + MINUTE, Event::Begin { node });
        true
    }

    fn command(&mut self, node: usize, command: Command) {
        self.with(node, |process, here| process.hear(News::Command(command), here));
    }

    fn end(&mut self, node: usize) {
        let Some(place) = self.nodes.get_mut(node).filter(|n| n.up) else { return };
        place.up = false;
        place.turn += 1;
        place.wake_at = None;
        place.crashes_in = None;
        if !place.process.has_all_on_disk() {
            self.check.forgets(node);
        }
        place.process.end();
        self.check.ends(self.now, node);
        let open: Vec<Slot> = self.nodes.get(node).map(|n| n.calls.keys().copied().collect()).unwrap_or_default();
        open.into_iter().for_each(|slot| self.hang_up(node, slot));
        // With the process end the connections that it had lost sight of.
        let leaked = self.nodes.get_mut(node).map_or(0, |n| std::mem::take(&mut n.leaked));
        (0..leaked).for_each(|_| self.ca.close());
    }

    pub(super) fn begin(&mut self, node: usize) {
        let Some(place) = self.nodes.get_mut(node).filter(|n| !n.up) else { return };
        place.up = true;
        self.check.begins(self.now, node);
        self.with(node, |process, here| process.start(here));
    }

    fn set_clock(&mut self, node: usize, by: i64) {
        let Some(place) = self.nodes.get_mut(node) else { return };
        let is_running = place.up;
        place.clock = NodeClock { offset: place.clock.offset.saturating_add(by), ..place.clock };
        self.check.clock_set(self.now, node, by, is_running);
        self.with(node, |process, here| process.hear(News::ClockSet, here));
        self.look_from(self.now);
    }

    fn replace(&mut self, nodes: Range<usize>, slot: Slot) {
        let ill = self.ill_formed.get_mut(slot).is_some_and(std::mem::take);
        let life = match (slot, self.setup.credential) {
            (CREDENTIAL, Some((life, _))) => life,
            _ => self.setup.life,
        };
        for node in nodes {
            let now = self.at(self.now);
            let present = self.nodes.get(node).and_then(|n| n.lives.get(slot).copied().flatten());
            if !ill && present.is_some_and(|life| life.not_after > now) {
                continue;
            }
            let not_before = now.minus(Duration::from_secs(60));
            let life = SignerLife { serial: self.by_hand(), not_before, not_after: not_before.plus(life) };
            self.install(node, slot, life);
            self.with(node, |process, here| process.hear(News::Replaced { slot }, here));
        }
    }
}
