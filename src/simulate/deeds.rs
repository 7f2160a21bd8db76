//! What is done to the world: faults, their ends, and operators.

use super::agenda::{Ms, SECOND};
use super::ca::Answer;
use super::node::{News, NodeClock};
use super::setup::{CREDENTIAL, CaState, Deed, Slot};
use super::world::{Event, World};
use crate::renewal::{Command, Pause, Reach, SignerLife};
use std::ops::Range;
use std::time::Duration;

impl World {
    pub(super) fn done(&mut self, deed: Deed) {
        let mut effects = Vec::new();
        match deed {
            Deed::Publish { issuers, says, late, lost_to } => {
                self.authority.publish(issuers, says, self.now + late, lost_to);
                for node in 0..self.nodes.len() {
                    for slot in 1..=self.setup.issuers {
                        if !self.authority.is_active(slot - 1) {
                            self.served_again(node, slot);
                        }
                    }
                }
                self.look_from(self.now + late);
            }
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
            Deed::Restart { nodes, dropping, adding } => {
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
            Deed::RenewAll(nodes) => nodes.for_each(|node| self.command(node, Command::Renew { reach: Reach::All })),
            Deed::Unpark(nodes) => {
                for node in nodes {
                    self.check.pardon(node);
                    self.command(node, Command::Unpark { reach: Reach::All });
                }
            }
            Deed::Resume(nodes) => {
                for node in nodes {
                    self.check.paused(node, 0);
                    self.command(node, Command::Resume { reach: Reach::All });
                }
            }
            Deed::Pause(nodes, length) => {
                for node in nodes {
                    let Some(place) = self.nodes.get(node).filter(|n| n.up && !n.disk_is_full) else { continue };
                    let until = place.clock.at(self.now).plus(length);
                    self.check.paused(node, place.clock.when(until));
                    let (reason, who) = ("maintenance".to_owned(), "operator".to_owned());
                    self.command(node, Command::Pause(Pause { reach: Reach::All, until, reason, who }));
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

    /// Every node sees at its next regular look what has changed by then.
    fn look_from(&mut self, from: Ms) {
        let refresh = self.setup.agent.refresh.max(SECOND);
        for node in 0..self.nodes.len() {
            let phase = (node as Ms * 7 * SECOND) % refresh;
            let next = (from.saturating_sub(phase).div_ceil(refresh)) * refresh + phase;
            self.agenda.enter(next.max(from), Event::Sync { node });
        }
    }

    fn command(&mut self, node: usize, command: Command) {
        self.with(node, |process, here| process.hear(News::Command(command), here));
    }

    fn end(&mut self, node: usize) {
        let Some(place) = self.nodes.get_mut(node).filter(|n| n.up) else { return };
        place.up = false;
        place.turn += 1;
        place.wake_at = None;
        place.process.end();
        self.check.note(self.now, node, CREDENTIAL, "the process ends", None);
        let open: Vec<Slot> = self.nodes.get(node).map(|n| n.calls.keys().copied().collect()).unwrap_or_default();
        open.into_iter().for_each(|slot| self.hang_up(node, slot));
        // With the process end the connections that it had lost sight of.
        let leaked = self.nodes.get_mut(node).map_or(0, |n| std::mem::take(&mut n.leaked));
        (0..leaked).for_each(|_| self.ca.close());
    }

    fn begin(&mut self, node: usize) {
        let Some(place) = self.nodes.get_mut(node).filter(|n| !n.up) else { return };
        place.up = true;
        self.check.begins(self.now, node);
        self.with(node, |process, here| process.start(here));
    }

    fn set_clock(&mut self, node: usize, by: i64) {
        let Some(place) = self.nodes.get_mut(node) else { return };
        place.clock = NodeClock { offset: place.clock.offset.saturating_add(by), ..place.clock };
        self.check.clock_set(self.now, node);
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
