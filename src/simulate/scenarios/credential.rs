//! The expired client certificate of 29 May 2020.

use super::super::agenda::{DAY, Ms};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, verdict};
use super::super::setup::{Age, CREDENTIAL, CaSetup, CaState, Customers, Deed, Setup, days};
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
         calls go through the fleet and its certificate. Servers that were started meanwhile are left out.",
        "Which file is meant (E2) is said by what opens the connection (tests/agent_est.rs).",
        "The certificate's whole life (90 days) is not in the text. The model begins 45 days before its end.",
        "The model's margin for it is a tenth of its life, nine days; in a configuration it is `renewal.margin` (default 1h). Nine days are \
         therefore what E1 asks for here, and no figure of the incident.",
        "All clocks of the model are right. The text's times are those of people; here the certificate ends for all servers at 16:21:00 \
         and for the service behind them too.",
    ],
    setup,
    parts,
    fewest: NODES,
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
        recovery: Duration::from_secs(4 * 3_600),
        ..Setup::default()
    }
}

/// The CA renews no client certificate, and the new file comes two days after the old one has expired.
fn parts() -> Vec<Setup> {
    let base = setup();
    let put_right =
        |node: usize| (after_expiry(WAIT) + minutes(node as u64), Deed::Replace(node..node + 1, CREDENTIAL));
    let mut script: Vec<(Ms, Deed)> = (0..NODES).map(put_right).collect();
    script.push((after_expiry(WAIT - 60), Deed::Explain(0, CREDENTIAL)));
    (1..=base.issuers).for_each(|slot| script.push((after_expiry(WAIT - 60), Deed::Explain(0, slot))));
    // The CA has withdrawn what it knew of all nodes' certificates, or lost it: they are valid, and not accepted.
    let (from, to) = (10 * DAY, 10 * DAY + REVOKED);
    let revoked = Setup {
        customers: None,
        length: 20 * DAY,
        recovery: days(2),
        script: vec![(from, Deed::Ca(CaState::KnowsNobody)), (to, Deed::Ca(CaState::Up))],
        ..base.clone()
    };
    let unrenewed = Setup {
        length: after_expiry(4 * 24 * 60),
        customers: None,
        ca: CaSetup { no_credentials: true, ..CaSetup::default() },
        recovery: days(1),
        script,
        ..base
    };
    vec![unrenewed, revoked]
}

/// How long the service accepts nobody.
const REVOKED: Ms = 5 * DAY;

/// Minutes from the expiry to the new file.
const WAIT: u64 = 2 * 24 * 60;

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let calm = field.worst_failing(0, after_expiry(0));
    let total = field.worst_failing(after_expiry(1), after_expiry(37));
    let lasted = field.minutes_failing(1.0);
    let end = after_expiry(0);
    let mut nodes: BTreeMap<usize, Ms> = BTreeMap::new();
    for (at, node, _) in ours.measure.installed.iter().filter(|(_, _, slot)| *slot == CREDENTIAL) {
        nodes.entry(*node).or_insert(*at);
    }
    let last = nodes.values().max().copied().unwrap_or(Ms::MAX);
    let days_before = end.saturating_sub(last) / DAY;
    let signers = ours.measure.installed.iter().filter(|(_, _, slot)| *slot != CREDENTIAL).count();
    let mut verdicts = vec![
        verdict(
            "outage",
            calm < 1.0 && total > 99.0 && (37..=41).contains(&lasted),
            format!(
                "before 16:21 {calm:.0} % of the customers' calls fail, then {total:.0} % (text: a total outage) for {lasted} minutes \
                 (text: 16:21 to 17:01)"
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
            "E1",
            ours.totals.hurt == 0 && ours.totals.expired == 0,
            format!("{} calls of customers fail, {} signers expire", ours.totals.hurt, ours.totals.expired),
        ),
    ];
    if let [part, revoked] = runs.parts {
        let back = after_expiry(WAIT);
        let asked = |from, to| part.measure.sent.iter().filter(|s| (from..to).contains(&s.at)).count();
        let renewed = part.measure.installed.iter().filter(|(at, _, _)| *at >= back).count();
        let without = asked(after_expiry(1), back);
        let sentence = part.measure.explained.iter().find_map(|(.., said)| {
            said.split("; ").find(|text| text.contains("our client certificate")).map(|_| {
                let from = said.find("our client certificate").unwrap_or(0);
                said.get(from..).unwrap_or_default().split("picked up").next().unwrap_or_default().to_owned()
                    + "picked up"
            })
        });
        let said = sentence.unwrap_or_default();
        let complete =
            ["serial ", "2020-05-29T16:21:00Z", "it is 2020-05-31T", "put a valid"].iter().all(|t| said.contains(t));
        verdicts.extend([
            verdict("E2", complete, format!("where the CA does not renew it, the node says once it has expired: {said}")),
            verdict(
                "E2",
                without == 0 && renewed > 0,
                format!("in the two days without a valid one {without} requests are sent"),
            ),
            verdict(
                "E3",
                part.totals.late == 0 && part.totals.unserved_minutes == 0 && renewed >= 4,
                format!(
                    "the new file is picked up without a restart: {renewed} signers are renewed after it; {} in use too late, {} minutes unserved",
                    part.totals.late, part.totals.unserved_minutes
                ),
            ),
        ]);
        let within = |at: Ms| (10 * DAY..10 * DAY + REVOKED).contains(&at);
        let mut vain: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, node, _) in revoked.measure.failed.iter().filter(|(at, ..)| within(*at)) {
            *vain.entry(*node).or_default() += 1;
        }
        let (most, back) = (vain.values().max().copied().unwrap_or(0), &revoked.measure.installed);
        let again = back.iter().filter(|(at, ..)| *at >= 10 * DAY + REVOKED).count();
        verdicts.push(verdict(
            "E2",
            (3..=MOST_IN_VAIN).contains(&most) && vain.len() == runs.setup.nodes && again > 0 && revoked.totals.late == 0,
            format!(
                "where the service accepts nobody for five days, at most {most} requests of a node are in vain ({MOST_IN_VAIN} are \
                 allowed): two at once, then one after an hour, after two and every four hours; {again} signers are renewed after it, {} in \
                 use too late",
                revoked.totals.late
            ),
        ));
    }
    verdicts
}

/// Of five days: two at once, one after an hour, one two hours later, and one every four hours of what is left.
const MOST_IN_VAIN: usize = 33;
