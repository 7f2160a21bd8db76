//! A year without trouble, many new issuers at once, and clocks that jump.

use super::super::agenda::{DAY, HOUR, MINUTE, Ms};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, CaSetup, Customers, Deed, Field, Says, Setup, days};
use crate::registry::State;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(super) const CALM_YEAR: Scenario = Scenario {
    name: "calm-year",
    title: "50 nodes with 300 issuers each and nothing to disturb them",
    text: "All signers were issued on the day on which the fleet was set up, and nothing goes wrong for a year. The field renews \
           all of them in one minute, again and again; ours spreads them once and for all.",
    departures: &["No incident."],
    setup: || Setup {
        length: days(365).as_millis() as Ms,
        nodes: 50,
        issuers: 300,
        life: days(90),
        age: Age::Same(days(1)),
        field: Field { starts_anew: false, ..Field::default() },
        ca: CaSetup { servers: 64, ..CaSetup::default() },
        ..Setup::default()
    },
    parts: no_parts,
    fewest: 2,
    judge: judge_calm,
};

pub(super) const MASS_ONBOARDING: Scenario = Scenario {
    name: "mass-onboarding",
    title: "1000 issuers are added at once, and six are dropped",
    text: "At 01:00 the registry names 1000 issuers more, and six less. The field takes over the configuration and restarts: \
           every server asks for every signer at once, while customers wait in the same queue. Ours stops asking for the six, \
           and holds the rest for an operator, who approves at 01:10; no process begins anew.",
    departures: &["No incident; it is the restart of the retired-CA storm, alone and with more issuers."],
    setup: setup_onboarding,
    parts: no_parts,
    fewest: NODES,
    judge: judge_onboarding,
};

pub(super) const CLOCK_JUMP: Scenario = Scenario {
    name: "clock-jump",
    title: "three of six nodes have their clocks set by a month, by minus a year and by five minutes",
    text: "At noon of the third day the clock of the first node jumps 30 days ahead, that of the second a year back and that of \
           the third 5 minutes ahead; six hours later they are right again, and an operator unparks what was parked.",
    departures: &["No incident."],
    setup: setup_clocks,
    parts: no_parts,
    fewest: JUMPING.end + 1,
    judge: judge_clocks,
};

fn judge_calm(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let slots = (runs.setup.nodes * runs.setup.issuers) as u64;
    // The first renewal of each slot: all certificates were issued together.
    let mut first: BTreeMap<(usize, usize), Ms> = BTreeMap::new();
    for s in &ours.measure.sent {
        first.entry((s.node, s.slot)).or_insert(s.at);
    }
    let (from, to) = (first.values().min().copied().unwrap_or(0), first.values().max().copied().unwrap_or(1));
    let mut buckets = vec![0_u64; 100];
    for at in first.values() {
        let bucket = usize::try_from((at - from) * 100 / (to - from + 1)).unwrap_or(0);
        if let Some(bucket) = buckets.get_mut(bucket) {
            *bucket += 1;
        }
    }
    let (busiest, mean) = (buckets.iter().max().copied().unwrap_or(0), slots as f64 / 100.0);
    let window = runs.setup.agent.limits.window;
    let usable = (runs.setup.life - runs.setup.validity - runs.setup.margin).as_secs_f64() / 86_400.0;
    let width = (to - from) as f64 / DAY as f64;
    // They were a day old at the beginning.
    let (last, closes) = (to as f64 / DAY as f64 + 1.0, usable * window.end + 0.1);
    let planned = usable * (window.end - window.start);
    vec![
        verdict(
            "outage",
            field.totals.peak_per_minute >= slots / 2,
            format!("the field's {slots} requests come within minutes: {} in one", field.totals.peak_per_minute),
        ),
        verdict(
            "A7",
            busiest as f64 <= 2.0 * mean,
            format!("the busiest hundredth of the first renewals holds {busiest}, the mean is {mean:.0}"),
        ),
        verdict("A7", width > 0.9 * planned, format!("they are spread over {width:.1} days, {planned:.1} are planned")),
        verdict(
            "A8",
            last <= closes,
            format!(
                "the last of them begins on day {last:.1} of its signer's life, and the window closes on day {closes:.1}"
            ),
        ),
        verdict(
            "B2",
            ours.totals.requests <= ours.totals.renewed + runs.setup.nodes as u64,
            format!(
                "{} requests for {} new signers, the difference under way",
                ours.totals.requests, ours.totals.renewed
            ),
        ),
        verdict(
            "A8",
            ours.totals.late == 0 && ours.totals.expired == 0,
            format!("{} signers in use too late", ours.totals.late),
        ),
    ]
}

const OLD: usize = 100;
const NEW: Range<usize> = OLD..OLD + 1_000;
const DROPPED: Range<usize> = 0..6;
const NODES: usize = 4;
const APPROVED: Ms = HOUR + 10 * MINUTE;

fn setup_onboarding() -> Setup {
    Setup {
        length: 5 * HOUR,
        nodes: NODES,
        issuers: NEW.end,
        absent: NEW,
        age: Age::Same(days(5)),
        ca: CaSetup { remembers: false, ..CaSetup::default() },
        customers: Some(Customers { every: 500, ..Customers::default() }),
        script: vec![
            (HOUR, Deed::Propose(vec![(DROPPED, Says::Gone), (NEW, Says::State(State::Active))])),
            (HOUR, Deed::RollOut { nodes: 0..NODES, dropping: DROPPED, adding: NEW }),
            (APPROVED, Deed::Accept),
        ],
        recovery: Duration::from_secs(2 * 3_600),
        ..Setup::default()
    }
}

fn judge_onboarding(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let storm = field.worst_failing(HOUR, 3 * HOUR);
    let new: Vec<Ms> =
        ours.measure.installed.iter().filter(|(_, _, slot)| NEW.contains(&(slot - 1))).map(|(at, ..)| *at).collect();
    let took = new.iter().max().copied().unwrap_or(Ms::MAX).saturating_sub(APPROVED) / minutes(1);
    let wanted = runs.setup.nodes * NEW.len();
    let rate = u64::from(runs.setup.agent.rate.count) * runs.setup.nodes as u64;
    let first = ours.asked(&(0..NEW.end), APPROVED, APPROVED + minutes(1)) as u64;
    let (held, early) = (ours.measure.held.first(), ours.asked(&NEW, 0, APPROVED));
    let dropped = ours.asked(&DROPPED, HOUR + minutes(1), Ms::MAX);
    vec![
        verdict("outage", storm > 50.0, format!("up to {storm:.0} % of the customers' calls fail")),
        verdict(
            "A4",
            ours.totals.peak_per_minute <= rate,
            format!("at most {} requests a minute, {rate} are allowed", ours.totals.peak_per_minute),
        ),
        verdict("A4", first <= rate / 5, format!("{first} in the first minute after the approval: a ramp")),
        verdict(
            "B3",
            held.is_some_and(|(at, _)| *at == HOUR) && early == 0,
            format!(
                "held for an operator: {}; {early} requests for the new ones before he approves",
                held.map_or("nothing", |(_, what)| what.as_str())
            ),
        ),
        verdict("B3", dropped == 0, format!("{dropped} requests for the six that are dropped, held or not")),
        verdict(
            "A4",
            new.len() == wanted && took < 90,
            format!("{} of {wanted} new signers {took} minutes after it", new.len()),
        ),
        verdict("A2", ours.totals.hurt == 0, format!("{} calls of customers fail", ours.totals.hurt)),
    ]
}

const JUMP: Ms = 2 * DAY + 12 * HOUR;
const JUMPING: Range<usize> = 0..3;

fn setup_clocks() -> Setup {
    let (month, year, little) = (30 * DAY as i64, 365 * DAY as i64, 5 * minutes(1) as i64);
    let mut script = Vec::new();
    for (node, by) in [(0, month), (1, -year), (2, little)] {
        script.push((JUMP, Deed::ClockJump(node..node + 1, by)));
        script.push((JUMP + 6 * HOUR, Deed::ClockJump(node..node + 1, -by)));
    }
    script.push((JUMP + 7 * HOUR, Deed::Unpark(JUMPING)));
    Setup {
        length: 20 * DAY,
        nodes: 6,
        issuers: 100,
        age: Age::Even(days(20)),
        field: Field { starts_anew: false, ..Field::default() },
        script,
        ..Setup::default()
    }
}

fn judge_clocks(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let limit = runs.setup.agent.limits.issuances_per_day as usize;
    let during = |outcome: &super::super::scenario::Outcome| {
        let of = |s: &&super::super::measure::Sent| s.node == 0 && (JUMP..JUMP + 6 * HOUR).contains(&s.at);
        outcome.measure.sent.iter().filter(of).count()
    };
    let (field_during, ours_during) = (during(field), during(ours));
    let allowed = limit * runs.setup.issuers;
    let rate = u64::from(runs.setup.agent.rate.count) * runs.setup.nodes as u64;
    vec![
        verdict(
            "outage",
            field_during > 10 * allowed,
            format!("the node that is a month ahead sends {field_during} requests in six hours"),
        ),
        verdict("B1", ours_during <= allowed, format!("ours sends {ours_during}, at most {limit} for a signer")),
        verdict(
            "A4",
            ours.totals.peak_per_minute <= rate,
            format!("at most {} requests a minute, {rate} are allowed", ours.totals.peak_per_minute),
        ),
        verdict("A8", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
    ]
}
