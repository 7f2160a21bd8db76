//! The expired client certificate of 29 May 2020.

use super::super::agenda::Ms;
use super::super::scenario::{Runs, Scenario, Verdict, minutes, verdict};
use super::super::setup::{Age, CREDENTIAL, CaSetup, Customers, Deed, Setup, days};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const EXPIRED_CLIENT_CREDENTIAL: Scenario = Scenario {
    name: "expired-client-credential",
    title: "the certificate by which a fleet proves itself to the service expires, and everything stops",
    text: "The client certificate of the application servers is made by hand and watched by nobody. It expires at 16:21; every \
           call that needs the service behind it fails, renewals and customers alike. The cause is found at 16:49, a new \
           certificate is made at 16:52, and by 17:01 it is everywhere.",
    departures: &[
        "In the incident the service behind the certificate handed out secrets; here it is the CA service, and the customers' \
         calls go through the fleet and its certificate.",
        "The certificate's whole life (90 days) is not in the text. The model begins 45 days before its end.",
    ],
    setup,
    judge,
};

const NODES: usize = 8;
/// 29 May 2020, 16:21 UTC.
const EXPIRY: Timestamp = Timestamp::from_unix(1_590_769_260);
const LEFT: Duration = days(45);

fn after_expiry(minute: u64) -> Ms {
    LEFT.as_millis() as Ms + minutes(minute)
}

fn setup() -> Setup {
    // A minute after 16:58 each: the roll-out to servers that are running.
    let roll_out =
        |node: usize| (after_expiry(37) + minutes(node as u64) / 2, Deed::Replace(node..node + 1, CREDENTIAL));
    Setup {
        start: EXPIRY.minus(LEFT),
        length: after_expiry(6 * 60),
        nodes: NODES,
        issuers: 20,
        age: Age::Even(days(25)),
        credential: Some((days(90), LEFT)),
        customers_need_credential: true,
        ca: CaSetup::default(),
        customers: Some(Customers { every: 20_000, accounts: 64, ..Customers::default() }),
        script: (0..NODES).map(roll_out).collect(),
        ..Setup::default()
    }
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let calm = field.worst_failing(0, after_expiry(0));
    let storm = field.worst_failing(after_expiry(0), Ms::MAX);
    let end = after_expiry(0);
    let mut nodes: BTreeMap<usize, Ms> = BTreeMap::new();
    for (at, node, _) in ours.measure.installed.iter().filter(|(_, _, slot)| *slot == CREDENTIAL) {
        nodes.entry(*node).or_insert(*at);
    }
    let last = nodes.values().max().copied().unwrap_or(Ms::MAX);
    let days_before = end.saturating_sub(last) / super::super::agenda::DAY;
    let signers = ours.measure.installed.iter().filter(|(_, _, slot)| *slot != CREDENTIAL).count();
    vec![
        verdict(
            "outage",
            calm < 1.0 && storm > 30.0,
            format!(
                "before 16:21 {calm:.0} % of the customers' calls fail, then up to {storm:.0} % of a curve's point"
            ),
        ),
        verdict("outage", field.totals.hurt > 100, format!("{} calls fail", field.totals.hurt)),
        verdict(
            "E1",
            nodes.len() == runs.setup.nodes && days_before >= 9,
            format!(
                "{} of {} nodes renew it, the last {days_before} days before its end",
                nodes.len(),
                runs.setup.nodes
            ),
        ),
        verdict("E1", signers > 0, format!("{signers} signers are renewed meanwhile")),
        verdict(
            "E3",
            ours.totals.hurt == 0 && ours.totals.expired == 0,
            format!("{} calls of customers fail, {} signers expire", ours.totals.hurt, ours.totals.expired),
        ),
    ]
}
