//! A scenario: a world, what is done to it, and what must be seen of it under either policy.

use super::agenda::{MINUTE, Ms};
use super::check::Violation;
use super::measure::{Measure, Sample, Sent, Totals};
use super::scenarios;
use super::setup::{Setup, Slot};
use super::world::{Policy, World};
use crate::renewal::Hold;
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
    #[serde(skip)]
    pub(super) measure: Log,
}

/// What happened one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub sent: Vec<Sent>,
    pub alarms: Vec<(Ms, usize, Option<Slot>)>,
    pub installed: Vec<(Ms, usize, Slot)>,
    /// Slots that are in trouble at the end, by the ledger of our nodes.
    pub troubled: BTreeSet<(usize, Slot)>,
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
    /// The policy of the field.
    pub field: Outcome,
    /// Ours.
    pub ours: Outcome,
    /// The outage under the policy of the field, and what must hold under ours.
    pub verdicts: Vec<Verdict>,
}

/// What verdicts are made from.
pub(super) struct Runs<'a> {
    pub setup: &'a Setup,
    pub field: &'a Outcome,
    pub ours: &'a Outcome,
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
        setup.nodes = nodes.map_or(setup.nodes, |n| n.clamp(1, setup.nodes));
        let field = outcome(setup.clone(), Policy::Field, seed)?;
        let ours = outcome(setup.clone(), Policy::Ours, seed)?;
        let mut verdicts = (self.judge)(&Runs { setup: &setup, field: &field, ours: &ours });
        let text = format!("{} violations of what must hold at every step", ours.violations.len());
        verdicts.push(Verdict { row: "steps", text, holds: ours.violations.is_empty() });
        Ok(Report {
            scenario: self.name,
            seed,
            start: setup.start,
            length_secs: setup.length / 1_000,
            field,
            ours,
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
    let mut troubled = BTreeSet::new();
    for (node, place) in world.nodes.iter().enumerate() {
        let in_trouble =
            |slot: &Slot| place.process.record(*slot).is_some_and(|r| r.failures > 0 || r.hold != Hold::None);
        troubled.extend((0..slots).filter(in_trouble).map(|slot| (node, slot)));
    }
    let most_in_flight = world.most_in_flight;
    let Measure { totals, samples, sent, alarms, installed, .. } = world.measure;
    let measure = Log { sent, alarms, installed, troubled };
    Ok(Outcome { totals, samples, violations: world.check.violations, most_in_flight, measure })
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

    /// The share of customers' calls that failed at its worst between two moments, per cent.
    pub(super) fn worst_failing(&self, from: Ms, to: Ms) -> f64 {
        let within = self.samples.iter().filter(|s| (from / 1_000..to / 1_000).contains(&s.at));
        within.filter_map(|s| s.failing).fold(0.0, f64::max)
    }

    /// Minutes of the curves in which more than so many per cent of the calls failed.
    pub(super) fn minutes_failing(&self, more_than: f64) -> u64 {
        let step = self.samples.get(1).map_or(0, |s| s.at);
        self.samples.iter().filter(|s| s.failing.is_some_and(|f| f > more_than)).count() as u64 * step / 60
    }
}

/// Minutes of a time of day within a world that begins at another, as virtual time.
pub(super) const fn minutes(n: u64) -> Ms {
    n * MINUTE
}
