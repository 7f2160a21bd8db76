//! A CA that is down for two weeks, and one that answers after every time-out.

use super::super::agenda::{DAY, HOUR, Ms, SECOND};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, Agent, CaSetup, CaState, Deed, Field, Setup, Slot, days};
use crate::config::Rate;
use crate::renewal::OrderId;
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const CA_DOWN_TWO_WEEKS: Scenario = Scenario {
    name: "ca-down-two-weeks",
    title: "the CA takes no connection for 14 days",
    text: "10 nodes with 100 issuers each, renewed throughout the month. From the 10th to the 24th day the CA is down. The \
           field asks for everything that is due every ten minutes, and for all of it when the CA is back.",
    departures: &[
        "No incident. What clients feel of an agent that is stuck (A9) is measured at a real endpoint (benches/latency): here it is \
         counted when a signer is there to sign with.",
    ],
    setup: setup_down,
    parts: parts_down,
    fewest: 5,
    judge: judge_down,
};

fn setup_down() -> Setup {
    Setup {
        length: 60 * DAY,
        nodes: 10,
        issuers: 100,
        life: days(70),
        age: Age::Even(days(32)),
        field: Field { retry: minutes(10), ..Field::default() },
        ca: CaSetup { servers: 8, ..CaSetup::default() },
        script: vec![(DOWN, Deed::Ca(CaState::Refuses)), (BACK, Deed::Ca(CaState::Up))],
        ..Setup::default()
    }
}

/// Capacity for one signer in twenty a day when it is back; and a CA that never comes back.
fn parts_down() -> Vec<Setup> {
    let base = setup_down();
    let short =
        Agent { rate: Rate { count: 5, per: days(1) }, attempts_per_day: 5, max_in_flight: 1, ..base.agent.clone() };
    let never = Setup {
        length: 80 * DAY,
        nodes: PART,
        script: vec![(DOWN, Deed::Ca(CaState::Refuses))],
        recovery: days(1_000),
        ..base.clone()
    };
    vec![Setup { agent: short, nodes: PART, length: 70 * DAY, recovery: days(30), ..base }, never]
}

pub(super) const SLOW_CA: Scenario = Scenario {
    name: "slow-ca",
    title: "every answer comes after ten times the time-out",
    text: "The CA needs five minutes for a certificate, and both policies wait for 30 seconds. The field makes a new key and a new \
           request each time and never gets an answer to any; ours asks for the same order again and finds it done.",
    departures: &[
        "No incident. The CA knows an order that it is asked for again, as RFC 7030 wants for its \"later\".",
    ],
    setup: || Setup {
        length: 26 * DAY,
        nodes: 3,
        issuers: 20,
        age: Age::Same(days(20)),
        field: Field { retry: minutes(5), fraction: 0.5, ..Field::default() },
        ca: CaSetup { servers: 100, service: 300 * SECOND, ..CaSetup::default() },
        ..Setup::default()
    },
    parts: no_parts,
    fewest: 1,
    judge: judge_slow,
};

/// Nodes of the further worlds.
const PART: usize = 2;
const DOWN: Ms = 10 * DAY;
const BACK: Ms = 24 * DAY;

fn judge_down(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let all = 0..runs.setup.issuers;
    let nodes = runs.setup.nodes;
    let down = (BACK - DOWN) / DAY;
    let (field_down, ours_down) = (field.asked(&all, DOWN, BACK), ours.asked(&all, DOWN, BACK));
    let per_hour = ours_down as f64 / nodes as f64 / ((BACK - DOWN) / HOUR) as f64;
    let mut ramps = Vec::new();
    for node in 0..nodes {
        let sent: Vec<Ms> = ours.measure.sent.iter().filter(|s| s.node == node && s.at >= BACK).map(|s| s.at).collect();
        let answered = sent.first().copied().unwrap_or(Ms::MAX);
        let within = |time: Ms| sent.iter().filter(|at| **at <= answered.saturating_add(time)).count();
        ramps.push((within(minutes(1)), within(HOUR)));
    }
    let (minute, hour) = (ramps.iter().map(|r| r.0).max().unwrap_or(0), ramps.iter().map(|r| r.1).min().unwrap_or(0));
    let rate = runs.setup.agent.rate.count;
    let field_back = field.asked(&all, BACK, BACK + minutes(10));
    let mut verdicts = vec![
        verdict("outage", field_down > 10_000 * nodes, format!("{field_down} requests in vain in {down} days")),
        verdict(
            "A2",
            per_hour <= 3.0,
            format!("{ours_down} requests of ours in {down} days, {per_hour:.1} an hour and node"),
        ),
        verdict("outage", field_back > 20 * nodes, format!("{field_back} within ten minutes when it is back")),
        verdict(
            "A4",
            minute <= rate as usize / 5 && hour > 10,
            format!(
                "a node that hears from it again sends at most {minute} in the first minute (the rate is {rate}), and at least {hour} in the hour"
            ),
        ),
        verdict(
            "A6",
            ours.totals.late == 0,
            format!("{} signers in use too late, {} expire", ours.totals.late, ours.totals.expired),
        ),
    ];
    if let [short, never] = runs.parts {
        verdicts.push(verdict(
            "A6",
            short.totals.late == 0
                && short.most_each(&all, 0, Ms::MAX) < 30
                && short.totals.renewed as usize >= PART * runs.setup.issuers,
            format!(
                "with capacity for 5 % of the signers a day: {} renewed in all, {} in use too late",
                short.totals.renewed, short.totals.late
            ),
        ));
        let end = runs.setup.start.plus(Duration::from_secs(80 * 86_400));
        let expected: u64 =
            never.measure.ends.iter().map(|not_after| end.since(*not_after).as_secs()).sum::<u64>() / 60;
        let expired = never.measure.ends.iter().filter(|not_after| **not_after < end).count() as u64;
        let first = never.measure.ends.iter().min().map_or(0, |at| at.since(runs.setup.start).as_secs() / 86_400);
        let warned = never.measure.alarms.first().map_or(Ms::MAX, |(at, ..)| *at / DAY);
        verdicts.push(verdict(
            "A9",
            never.totals.expired == expired && never.totals.unserved_minutes == expected && warned < first,
            format!(
                "where it never comes back, the first alarm is on day {warned}, the first signer is spent on day {first}; then \
                 {} minutes are unserved, which are those after the end of each certificate and no more",
                never.totals.unserved_minutes
            ),
        ));
    }
    verdicts
}

fn judge_slow(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let slots = (runs.setup.nodes * runs.setup.issuers) as u64;
    let once: BTreeSet<(usize, Slot)> = ours.measure.installed.iter().map(|(_, node, slot)| (*node, *slot)).collect();
    let orders: BTreeSet<(usize, Slot, OrderId)> =
        ours.measure.sent.iter().map(|s| (s.node, s.slot, s.order)).collect();
    let open = ours.measure.open.len();
    vec![
        verdict(
            "outage",
            field.totals.renewed == 0 && field.totals.orders > 50 * slots,
            format!("{} keys and requests, {} certificates", field.totals.orders, field.totals.renewed),
        ),
        verdict("outage", field.totals.expired == slots, format!("{} of {slots} signers expire", field.totals.expired)),
        verdict(
            "A5",
            once.len() as u64 == slots && orders.len() == ours.measure.installed.len() + open,
            format!(
                "{} keys in {} requests: one for each of {} new signers, and {open} whose order is open",
                orders.len(),
                ours.totals.requests,
                ours.totals.renewed
            ),
        ),
        verdict("A8", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
    ]
}
