//! The issuer registry: what it says, from when on, and who hears of it.

use super::agenda::Ms;
use super::setup::Says;
use crate::registry::{Impact, State};
use crate::renewal::{IssuerSpec, RegistryView};
use crate::time::Timestamp;
use std::ops::Range;

/// All generations so far, and when the registry could not be read.
#[derive(Debug)]
pub(super) struct Authority {
    says: Vec<Says>,
    specs: Vec<IssuerSpec>,
    generations: Vec<Generation>,
    /// From when to when; an outage that lasts has no end.
    outages: Vec<(Ms, Ms)>,
}

#[derive(Debug)]
struct Generation {
    visible: Ms,
    lost_to: Range<usize>,
    view: RegistryView,
}

/// What a look at the registry gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// This generation.
    Generation(u64),
    /// It cannot be read.
    Nothing,
}

impl Authority {
    /// With these issuers in its first generation.
    pub(super) fn new(specs: Vec<IssuerSpec>) -> Self {
        let says = specs.iter().map(|s| Says::State(s.state)).collect();
        let mut authority = Authority { says, specs, generations: Vec::new(), outages: Vec::new() };
        authority.publish(0..0, Says::Gone, 0, 0..0);
        authority
    }

    /// What these changes would do, by the same reckoning as for a real registry.
    pub(super) fn impact(&self, changes: &[(Range<usize>, Says)]) -> Impact {
        let live = |says: &Says| matches!(says, Says::State(State::Active | State::Disabled));
        let mut impact = Impact { known: self.says.iter().filter(|says| live(says)).count(), ..Impact::default() };
        for (issuers, then) in changes {
            let of = self.says.iter().zip(&self.specs).take(issuers.end).skip(issuers.start);
            for (now, spec) in of.filter(|(now, _)| *now != then) {
                let set = match (live(now), then) {
                    (true, Says::Gone) => &mut impact.removed,
                    (true, Says::Unreadable) => &mut impact.unusable,
                    (true, Says::State(State::Retired)) => &mut impact.retired,
                    (true, Says::State(State::Disabled)) => &mut impact.disabled,
                    (true, Says::State(State::Active)) => &mut impact.activated,
                    (false, Says::State(State::Active | State::Disabled)) => &mut impact.added,
                    (false, _) => continue,
                };
                set.insert(spec.id.clone());
            }
        }
        impact
    }

    /// A new generation, which can be read from `visible` on, but never by the nodes it is lost to.
    pub(super) fn publish(&mut self, issuers: Range<usize>, says: Says, visible: Ms, lost_to: Range<usize>) {
        for said in self.says.iter_mut().take(issuers.end).skip(issuers.start) {
            *said = says;
        }
        let of = |wanted: fn(Says) -> bool| {
            self.says.iter().zip(&self.specs).filter(move |(says, _)| wanted(**says)).map(|(says, spec)| (*says, spec))
        };
        let issuers = of(|s| matches!(s, Says::State(_))).map(|(says, spec)| match says {
            Says::State(state) => IssuerSpec { state, ..spec.clone() },
            _ => spec.clone(),
        });
        let view = RegistryView {
            generation: self.generations.len() as u64 + 1,
            synced_at: Timestamp::EPOCH,
            issuers: issuers.collect(),
            quarantined: of(|s| s == Says::Unreadable).map(|(_, spec)| spec.id.clone()).collect(),
        };
        // A later one is never seen before an earlier one.
        let visible = self.generations.last().map_or(visible, |g| g.visible.max(visible));
        self.generations.push(Generation { visible, lost_to, view });
    }

    /// The first generation does without these issuers.
    pub(super) fn forget(&mut self, issuers: Range<usize>) {
        if !issuers.is_empty() {
            self.generations.clear();
            self.publish(issuers, Says::Gone, 0, 0..0);
        }
    }

    pub(super) fn go_down(&mut self, down: bool, now: Ms) {
        let lasting = self.outages.last_mut().filter(|(_, to)| *to == Ms::MAX);
        match (down, lasting) {
            (true, None) => self.outages.push((now, Ms::MAX)),
            (false, Some((_, to))) => *to = now,
            _ => {}
        }
    }

    /// What node `node` reads at this moment.
    pub(super) fn read(&self, node: usize, at: Ms) -> Reading {
        if self.outages.iter().rev().any(|(from, to)| (*from..*to).contains(&at)) {
            return Reading::Nothing;
        }
        self.generations
            .iter()
            .rev()
            .find(|g| g.visible <= at && !g.lost_to.contains(&node))
            .map_or(Reading::Nothing, |g| Reading::Generation(g.view.generation))
    }

    /// A generation as it was read at `synced_at`.
    pub(super) fn view(&self, generation: u64, synced_at: Timestamp) -> Option<RegistryView> {
        let found = self.generations.get(usize::try_from(generation.checked_sub(1)?).ok()?)?;
        Some(RegistryView { synced_at, ..found.view.clone() })
    }

    /// The newest of the regular looks up to `now` that could read anything: those of a node are `refresh` apart.
    pub(super) fn last_success(&self, now: Ms, phase: Ms, refresh: Ms) -> Option<Ms> {
        let look = |at: Ms| at.checked_sub(phase).map(|t| t - t % refresh + phase);
        let mut at = look(now)?;
        for (from, to) in self.outages.iter().rev() {
            if (*from..*to).contains(&at) {
                at = look(from.checked_sub(1)?)?;
            }
        }
        Some(at)
    }

    /// Whether the newest word, heard or not, is that this issuer is active.
    pub(super) fn is_active(&self, issuer: usize) -> bool {
        self.says.get(issuer) == Some(&Says::State(State::Active))
    }

    pub(super) fn issuers(&self) -> &[IssuerSpec] {
        &self.specs
    }
}

#[cfg(test)]
mod tests {
    use super::super::setup::Setup;
    use super::*;

    #[test]
    fn an_update_may_come_late_or_never_and_an_outage_hides_all() {
        let mut authority = Authority::new(Setup::default().specs().unwrap());
        authority.publish(0..2, Says::State(State::Disabled), 5_000, 1..2);
        assert_eq!(authority.read(0, 4_999), Reading::Generation(1));
        assert_eq!(authority.read(0, 5_000), Reading::Generation(2));
        assert_eq!(authority.read(1, 9_000), Reading::Generation(1));
        authority.go_down(true, 10_000);
        assert_eq!(authority.read(0, 10_000), Reading::Nothing);
        assert_eq!(authority.last_success(12_500, 500, 1_000), Some(9_500));
        authority.go_down(false, 12_000);
        assert_eq!(authority.read(0, 12_000), Reading::Generation(2));
        assert_eq!(authority.last_success(12_500, 500, 1_000), Some(12_500));
        assert_eq!(authority.last_success(12_499, 500, 1_000), Some(9_500));
        let view = authority.view(2, Timestamp::EPOCH).unwrap();
        assert_eq!(view.issuers.iter().filter(|i| i.state == State::Disabled).count(), 2);
        assert!(!authority.is_active(1) && authority.is_active(2));
    }
}
