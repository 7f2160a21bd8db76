//! Looks at the world from outside: the points of the curves, and whether everything is in order at the end.

use super::agenda::{DAY, HOUR};
use super::authority::Reading;
use super::setup::CREDENTIAL;
use super::world::World;
use std::time::Duration;

impl World {
    pub(super) fn sample(&mut self) {
        let now = self.at(self.now);
        let reserve = self.setup.validity.saturating_add(self.setup.margin);
        let mut slack: Option<i64> = None;
        for place in &self.nodes {
            for (slot, life) in place.lives.iter().enumerate() {
                let Some(life) = life else { continue };
                let left = match slot {
                    CREDENTIAL if self.setup.customers_need_credential => life.not_after.seconds_since(now),
                    CREDENTIAL => continue,
                    _ if !self.authority.is_active(slot.wrapping_sub(1)) => continue,
                    _ => life.not_after.minus(reserve).seconds_since(now),
                };
                slack = Some(slack.map_or(left, |least| least.min(left)));
            }
        }
        self.measure.sample(self.now, self.ca.queue(), self.ca.connections, slack);
    }

    /// After the faults have ended, everything that was due has been renewed.
    pub(super) fn check_progress(&mut self) {
        let last = self.setup.script.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let recovery = u64::try_from(self.setup.recovery.as_millis()).unwrap_or(DAY);
        if last + recovery > self.now {
            return;
        }
        let now = self.at(self.now);
        let reserve = self.setup.validity.saturating_add(self.setup.margin);
        let patience = Duration::from_millis(recovery.max(HOUR));
        for node in 0..self.nodes.len() {
            for slot in 1..self.setup.issuers + 1 {
                let exempt = self.hangs_check.get(slot).copied().unwrap_or(false)
                    || !self.authority.is_active(slot - 1)
                    || self.ca.cannot_issue(slot)
                    || matches!(self.authority.read(node, self.now), Reading::Nothing);
                let Some(place) = self.nodes.get(node).filter(|n| n.up && !exempt) else { continue };
                let fault = match place.lives.get(slot).copied().flatten() {
                    None => Some("it has no signer, and nothing stands in the way".to_owned()),
                    Some(life) => {
                        let usable = life.not_after.minus(reserve).since(life.not_before);
                        let closes = life.not_before.plus(usable.mul_f64(self.setup.agent.limits.window.end));
                        let overdue = now.seconds_since(closes.plus(patience));
                        (overdue > 0).then(|| format!("overdue for {overdue} s, and nothing stands in the way"))
                    }
                };
                if let Some(fault) = fault {
                    self.check.violated(self.now, node, slot, fault);
                }
            }
        }
    }
}
