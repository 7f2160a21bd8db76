//! The connection leak of 18 March 2024.

use super::super::agenda::{Ms, SECOND};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, CaSetup, Customers, Deed, Field, Setup, days};
use crate::time::Timestamp;
use std::time::Duration;

pub(super) const CONNECTION_LEAK: Scenario = Scenario {
    name: "connection-leak",
    title: "calls keep their connection when they are over, until the database has none left",
    text: "A component holds more database connections than it needs: those of calls that are over. At 15:10 signers are \
           renewed, and the CA is slow for three minutes. The database has no connection left for anybody until \
           operators allow more of them; at 15:58 the components are restarted.",
    departures: &[
        "In the incident the component was a part of the CA's own backend; here it is the agents that renew signers, which is \
         the part of it that an agent can have.",
        "The number of connections (100) is not in the text. The slow minutes are not either: under them our agents must hold \
         no more connections than they may.",
        "When the limit was raised (here 15:45) is not in the text, nor when the load began that filled the database: \"a few \
         minutes\" before 15:12, here 15:10.",
        "That a call which is cancelled gives its connection back (C2) is for the driver, which the model replaces: \
         tests/agent_est.rs shows it against a real server.",
    ],
    setup,
    parts: no_parts,
    fewest: NODES,
    judge,
};

const NODES: usize = 10;
const MOST: usize = 100;
/// 14:45; the text does not name its time zone.
const START: Timestamp = Timestamp::from_unix(1_710_773_100);
const AGE: Duration = days(15);

fn at(hour: u64, minute: u64) -> Ms {
    minutes((hour * 60 + minute).saturating_sub(14 * 60 + 45))
}

fn setup() -> Setup {
    let life = days(45);
    Setup {
        start: START,
        length: at(17, 30),
        nodes: NODES,
        issuers: 30,
        life,
        age: Age::Same(AGE),
        field: Field {
            fraction: (AGE.as_secs() + 1_500) as f64 / life.as_secs() as f64,
            leaks: true,
            starts_anew: false,
            ..Field::default()
        },
        ca: CaSetup { servers: 8, connections: MOST, remembers: false, ..CaSetup::default() },
        customers: Some(Customers { every: 1_000, ..Customers::default() }),
        script: vec![
            (at(15, 10) - SECOND, Deed::CaSpeed(600)),
            (at(15, 10), Deed::RenewAll(0..NODES)),
            (at(15, 13), Deed::CaSpeed(100)),
            (at(15, 45), Deed::Connections(4 * MOST)),
            (at(15, 58), Deed::Restart { nodes: 0..NODES, dropping: 0..0, adding: 0..0 }),
        ],
        recovery: Duration::from_secs(3_600),
        ..Setup::default()
    }
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let (failing, lasted) = (field.minutes_failing(50.0), 30..50);
    let after_fix = field.worst_failing(at(16, 30), Ms::MAX);
    let allowed = NODES * runs.setup.agent.max_in_flight as usize;
    let slow = ours.worst_failing(at(15, 20), Ms::MAX);
    vec![
        verdict(
            "outage",
            lasted.contains(&failing),
            format!("for {failing} minutes more than half of the customers' calls fail (text: 15:12 to 15:58)"),
        ),
        verdict("outage", after_fix < 5.0, format!("after the restart {after_fix:.0} % fail")),
        verdict(
            "C1",
            ours.most_in_flight <= allowed,
            format!("the fleet holds at most {} connections, {allowed} are allowed", ours.most_in_flight),
        ),
        verdict(
            "A2",
            slow < 5.0,
            format!("with the CA at its usual speed again, at most {slow:.0} % of the customers' calls fail"),
        ),
    ]
}
