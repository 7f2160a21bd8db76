//! A CA that is down for two weeks, and one that answers after every time-out.

use super::super::agenda::{DAY, HOUR, Ms, SECOND};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, verdict};
use super::super::setup::{Age, CaSetup, CaState, Deed, Field, Setup, Slot, days};
use std::collections::BTreeSet;

pub(super) const CA_DOWN_TWO_WEEKS: Scenario = Scenario {
    name: "ca-down-two-weeks",
    title: "the CA takes no connection for 14 days",
    text: "10 nodes with 100 issuers each, renewed throughout the month. From the 10th to the 24th day the CA is down. The \
           field asks for everything that is due every ten minutes, and for all of it when the CA is back.",
    departures: &["No incident."],
    setup: || Setup {
        length: 60 * DAY,
        nodes: 10,
        issuers: 100,
        life: days(70),
        age: Age::Even(days(32)),
        field: Field { retry: minutes(10), ..Field::default() },
        ca: CaSetup { servers: 8, ..CaSetup::default() },
        script: vec![(DOWN, Deed::Ca(CaState::Refuses)), (BACK, Deed::Ca(CaState::Up))],
        ..Setup::default()
    },
    judge: judge_down,
};

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
    judge: judge_slow,
};

const DOWN: Ms = 10 * DAY;
const BACK: Ms = 24 * DAY;

fn judge_down(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let all = 0..runs.setup.issuers;
    let nodes = runs.setup.nodes;
    let down = (BACK - DOWN) / DAY;
    let (field_down, ours_down) = (field.asked(&all, DOWN, BACK), ours.asked(&all, DOWN, BACK));
    let per_hour = ours_down as f64 / nodes as f64 / ((BACK - DOWN) / HOUR) as f64;
    let rate = u64::from(runs.setup.agent.rate.count) * nodes as u64;
    let back = ours.asked(&all, BACK, BACK + minutes(1)) as u64;
    let field_back = field.asked(&all, BACK, BACK + minutes(10));
    vec![
        verdict("outage", field_down > 10_000 * nodes, format!("{field_down} requests in vain in {down} days")),
        verdict(
            "A2",
            per_hour <= 3.0,
            format!("{ours_down} requests of ours in {down} days, {per_hour:.1} an hour and node"),
        ),
        verdict("outage", field_back > 20 * nodes, format!("{field_back} within ten minutes when it is back")),
        verdict("A4", back <= rate / 5, format!("{back} requests in the minute after it is back")),
        verdict("A6", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
        verdict("A9", ours.totals.expired == 0, format!("{} expire", ours.totals.expired)),
    ]
}

fn judge_slow(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let slots = (runs.setup.nodes * runs.setup.issuers) as u64;
    let once: BTreeSet<(usize, Slot)> = ours.measure.installed.iter().map(|(_, node, slot)| (*node, *slot)).collect();
    let under_way = ours.totals.orders.saturating_sub(ours.totals.renewed);
    vec![
        verdict(
            "outage",
            field.totals.renewed == 0 && field.totals.orders > 50 * slots,
            format!("{} keys and requests, {} certificates", field.totals.orders, field.totals.renewed),
        ),
        verdict("outage", field.totals.expired == slots, format!("{} of {slots} signers expire", field.totals.expired)),
        verdict(
            "A5",
            once.len() as u64 == slots && under_way <= slots / 10,
            format!("one key for each of {} new signers, {under_way} under way", ours.totals.renewed),
        ),
        verdict("A8", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
    ]
}
