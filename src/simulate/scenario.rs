//! A scenario: a world, what is done to it, and what must be seen of it under either policy.

use super::agenda::{MINUTE, Ms};
use super::check::Violation;
use super::measure::{Measure, Minute, Sample, Sent, Totals};
use super::scenarios;
use super::setup::{Setup, Slot};
use super::world::{Policy, World};
use crate::renewal::Cause;
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One world that can be run under both policies.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// The name on the command line.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// What happened, and what is shown.
    pub text: &'static str,
    /// Where the model departs from what is known of the incident.
    pub departures: &'static [&'static str],
    pub(super) setup: fn() -> Setup,
    /// Further worlds that are run under our policy only, for what one world cannot show.
    pub(super) parts: fn() -> Vec<Setup>,
    /// With fewer nodes what must be seen cannot be.
    pub(super) fewest: usize,
    pub(super) judge: fn(&Runs<'_>) -> Vec<Verdict>,
}

/// What one policy made of a world.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Sums.
    pub totals: Totals,
    /// Curves.
    pub samples: Vec<Sample>,
    /// What must not happen, and did; looked for under our policy only.
    pub violations: Vec<Violation>,
    /// The most requests of the fleet on the wire at a time.
    pub most_in_flight: usize,
    /// How many slots were found in order after the last fault; none if the run ends too early to ask.
    pub in_order: Option<usize>,
    #[serde(skip)]
    pub(super) measure: Log,
}

/// What happened one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub sent: Vec<Sent>,
    pub alarms: Vec<(Ms, usize, Option<Slot>)>,
    pub installed: Vec<(Ms, usize, Slot)>,
    /// Requests that failed.
    pub failed: Vec<(Ms, usize, Slot)>,
    /// What a node said when it was asked why.
    pub explained: Vec<(Ms, usize, Slot, String)>,
    /// Generations of the registry that were held for an operator.
    pub held: Vec<(Ms, String)>,
    /// Slots whose order is open at the end, by the ledger of our nodes.
    pub open: BTreeSet<(usize, Slot)>,
    /// When each certificate that is in use at the end expires.
    pub ends: Vec<Timestamp>,
    /// Minutes in which anything was asked for.
    pub minutes: Vec<Minute>,
}

/// Whether something holds that must.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The behaviour it is about, as `A1`; `outage` for what the field must show.
    pub row: &'static str,
    /// What was looked at, with figures.
    pub text: String,
    /// It holds.
    pub holds: bool,
}

/// Both policies in one world.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// The seed that repeats it.
    pub seed: u64,
    /// The time of day at its beginning.
    pub start: Timestamp,
    /// Its length in seconds.
    pub length_secs: u64,
    /// The numbers of the field's policy here, in words.
    pub field_policy: String,
    /// The policy of the field.
    pub field: Outcome,
    /// Ours.
    pub ours: Outcome,
    /// Ours in further worlds of the scenario, as far as sums go.
    pub parts: Vec<Totals>,
    /// The outage under the policy of the field, and what must hold under ours.
    pub verdicts: Vec<Verdict>,
}

/// What verdicts are made from.
pub(super) struct Runs<'a> {
    pub setup: &'a Setup,
    pub field: &'a Outcome,
    pub ours: &'a Outcome,
    pub parts: &'a [Outcome],
}

/// No further worlds.
pub(super) fn no_parts() -> Vec<Setup> {
    Vec::new()
}

impl Scenario {
    /// All of them, the incidents first.
    pub fn all() -> Vec<Scenario> {
        scenarios::all()
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Scenario> {
        Self::all().into_iter().find(|s| s.name == name)
    }

    /// Runs it under both policies. The error is a world that cannot be.
    /// `nodes` makes the fleet smaller, for a quick look or a slow machine.
    pub fn run(&self, seed: u64, nodes: Option<usize>) -> Result<Report, String> {
        let mut setup = (self.setup)();
        if let Some(few) = nodes.filter(|n| *n < self.fewest) {
            return Err(format!(
                "{}: --nodes {few}: what must be seen needs {} nodes at least",
                self.name, self.fewest
            ));
        }
        setup.nodes = nodes.map_or(setup.nodes, |n| n.min(setup.nodes));
        let field = outcome(setup.clone(), Policy::Field, seed)?;
        let ours = outcome(setup.clone(), Policy::Ours, seed)?;
        let part = |part: Setup| outcome(Setup { nodes: part.nodes.min(setup.nodes), ..part }, Policy::Ours, seed);
        let parts: Vec<Outcome> = (self.parts)().into_iter().map(part).collect::<Result<_, String>>()?;
        let mut verdicts = (self.judge)(&Runs { setup: &setup, field: &field, ours: &ours, parts: &parts });
        let violations: usize = parts.iter().chain([&ours]).map(|o| o.violations.len()).sum();
        let text = format!("{violations} violations of what must hold at every step");
        verdicts.push(Verdict { row: "steps", text, holds: violations == 0 });
        let text = match ours.in_order {
            Some(count) => format!(
                "{count} slots are looked at {} after the last fault or operator's word, and what is due is done",
                crate::config::HumanDuration(setup.recovery)
            ),
            None => "the run ends before it can be asked whether all is in order again".to_owned(),
        };
        verdicts.push(Verdict {
            row: "progress",
            text,
            holds: ours.in_order.is_some_and(|n| n > 0) && violations == 0,
        });
        Ok(Report {
            scenario: self.name,
            seed,
            start: setup.start,
            length_secs: setup.length / 1_000,
            field_policy: setup.field.in_words(),
            field,
            ours,
            parts: parts.into_iter().map(|part| part.totals).collect(),
            verdicts,
        })
    }
}

impl Report {
    /// Every verdict holds.
    pub fn passes(&self) -> bool {
        self.verdicts.iter().all(|v| v.holds)
    }
}

/// Runs a world to its end.
pub(super) fn outcome(setup: Setup, policy: Policy, seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(setup, policy, seed)?;
    world.run();
    let slots = world.setup.issuers + 1;
    let mut open = BTreeSet::new();
    for (node, place) in world.nodes.iter().enumerate() {
        for (slot, record) in (0..slots).filter_map(|slot| Some((slot, place.process.record(slot)?))) {
            if record.phase.order().is_some() {
                open.insert((node, slot));
            }
        }
    }
    let ends = world.nodes.iter().flat_map(|n| n.lives.iter().skip(1).flatten()).map(|life| life.not_after).collect();
    let (most_in_flight, in_order) = (world.most_in_flight, world.in_order);
    let Measure { totals, samples, sent, alarms, installed, failed, explained, held, minutes, .. } = world.measure;
    let measure = Log { sent, alarms, installed, failed, explained, held, open, ends, minutes };
    Ok(Outcome { totals, samples, violations: world.check.violations, most_in_flight, in_order, measure })
}

/// A verdict.
pub(super) fn verdict(row: &'static str, holds: bool, text: String) -> Verdict {
    Verdict { row, text, holds }
}

impl Outcome {
    /// Requests between two moments for issuers, counted from 0.
    pub(super) fn asked(&self, issuers: &Range<usize>, from: Ms, to: Ms) -> usize {
        let of = |s: &&Sent| issuers.contains(&s.slot.wrapping_sub(1)) && (from..to).contains(&s.at);
        self.measure.sent.iter().filter(of).count()
    }

    /// The most requests of one slot within any day that begins with one of them.
    pub(super) fn most_a_day(&self, issuers: &Range<usize>) -> usize {
        let mut times: BTreeMap<(usize, Slot), Vec<Ms>> = BTreeMap::new();
        for s in self.measure.sent.iter().filter(|s| issuers.contains(&s.slot.wrapping_sub(1))) {
            times.entry((s.node, s.slot)).or_default().push(s.at);
        }
        let day = super::agenda::DAY;
        let most = |times: &Vec<Ms>| {
            let within = |from: &Ms| times.iter().filter(|t| **t >= *from && **t < from + day).count();
            times.iter().map(within).max().unwrap_or(0)
        };
        times.values().map(most).max().unwrap_or(0)
    }

    /// The most requests of one slot between two moments.
    pub(super) fn most_each(&self, issuers: &Range<usize>, from: Ms, to: Ms) -> usize {
        let mut counts: BTreeMap<(usize, Slot), usize> = BTreeMap::new();
        let within = |s: &&Sent| issuers.contains(&s.slot.wrapping_sub(1)) && (from..to).contains(&s.at);
        for s in self.measure.sent.iter().filter(within) {
            *counts.entry((s.node, s.slot)).or_default() += 1;
        }
        counts.values().max().copied().unwrap_or(0)
    }

    /// When each slot of these issuers was asked for first.
    pub(super) fn first_asked(&self, issuers: &Range<usize>) -> BTreeMap<(usize, Slot), Ms> {
        let mut first = BTreeMap::new();
        for s in self.measure.sent.iter().filter(|s| issuers.contains(&s.slot.wrapping_sub(1))) {
            first.entry((s.node, s.slot)).or_insert(s.at);
        }
        first
    }

    /// Requests by cause, in words.
    pub(super) fn by_cause(&self, issuers: &Range<usize>) -> BTreeMap<&'static str, usize> {
        let mut causes = BTreeMap::new();
        for s in self.measure.sent.iter().filter(|s| issuers.contains(&s.slot.wrapping_sub(1))) {
            *causes.entry(s.cause.map_or("none", Cause::name)).or_default() += 1;
        }
        causes
    }

    /// The share of customers' calls that failed in the worst whole minute between two moments, per cent.
    pub(super) fn worst_failing(&self, from: Ms, to: Ms) -> f64 {
        let within = self.measure.minutes.iter().filter(|m| (from / MINUTE..to / MINUTE).contains(&m.at));
        within.filter_map(|m| m.failing).fold(0.0, f64::max)
    }

    /// Minutes in which more than so many per cent of the calls failed.
    pub(super) fn minutes_failing(&self, more_than: f64) -> usize {
        self.measure.minutes.iter().filter(|m| m.failing.is_some_and(|f| f > more_than)).count()
    }

    /// Calm minutes between two of these make them two times of trouble.
    pub(super) fn times_of_failing(&self, more_than: f64, calm: u64) -> usize {
        let bad = self.measure.minutes.iter().filter(|m| m.failing.is_some_and(|f| f > more_than)).map(|m| m.at);
        bad.fold((0, None), |(times, last): (usize, Option<u64>), at| {
            (times + usize::from(last.is_none_or(|last| at > last + calm)), Some(at))
        })
        .0
    }
}

/// Minutes of a time of day within a world that begins at another, as virtual time.
pub(super) const fn minutes(n: u64) -> Ms {
    n * MINUTE
}
