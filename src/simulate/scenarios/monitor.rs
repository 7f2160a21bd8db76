//! The ill-formed certificate of March 2017.

use super::super::agenda::{DAY, HOUR, Ms};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, CaSetup, Deed, Field, Setup, Slot, days};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const ILL_FORMED_CERTIFICATE: Scenario = Scenario {
    name: "ill-formed-certificate",
    title: "one certificate that cannot be read hangs the loop that watches all of them",
    text: "One loop looks at 1000 certificates a day and renews those within 30 days of their end. Two days on, the 300th cannot \
           be read: the loop hangs there, and nothing behind it is looked at. The job that fails goes unnoticed until the \
           certificates expire at 12:00 on 31 March; that is noticed at 12:28 and put right at 13:40, 100 minutes later.",
    departures: &[
        "In the incident one certificate expired; in the model all behind the 300th do, since all were issued together.",
        "For our node the ill-formed certificate is the one that the CA sends for the 300th issuer, again and again until 13:40. \
         There is a second fault: what checks the new certificate of the 500th issuer never returns. No code of ours can \
         renew these two: what remains is that both expire, named for weeks, and that an operator has to act.",
        "What our node does with an ill-formed file on its own disk is shown with a real one (tests/agent.rs, \
         tests/signer_slots.rs), and so is the alarm of an overdue pass (D2): the model has no passes that could hang.",
    ],
    setup,
    parts: no_parts,
    fewest: 1,
    judge,
};

const ISSUERS: usize = 1_000;
const LIFE: Duration = days(90);
/// 31 March 2017, 12:00 UTC.
const EXPIRY: Timestamp = Timestamp::from_unix(1_490_961_600);
const LEFT: Duration = days(50);
const UNREADABLE: Slot = 300;
const HANGING: Slot = 500;

/// So long after the certificates that are there at the start have expired.
fn after_expiry(minute: u64) -> Ms {
    LEFT.as_millis() as Ms + minutes(minute)
}

fn setup() -> Setup {
    Setup {
        start: EXPIRY.minus(LEFT),
        length: after_expiry(24 * 60),
        issuers: ISSUERS,
        life: LIFE,
        age: Age::Same(LIFE - LEFT),
        field: Field { fraction: 60.0 / 90.0, one_loop: Some(DAY), ..Field::default() },
        ca: CaSetup { servers: 8, ..CaSetup::default() },
        script: vec![
            (2 * DAY, Deed::IllFormed(UNREADABLE)),
            (HOUR, Deed::HangsCheck(HANGING, true)),
            (LEFT.as_millis() as Ms - DAY, Deed::Explain(0, UNREADABLE)),
            (after_expiry(100), Deed::Replace(0..1, UNREADABLE)),
            (after_expiry(100), Deed::RollOut { nodes: 0..1, dropping: 0..0, adding: 0..0 }),
        ],
        recovery: Duration::from_secs(12 * 3_600),
        ..Setup::default()
    }
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let behind = (ISSUERS - UNREADABLE) as u64;
    let each = field.totals.unserved_minutes / behind.max(1);
    let renewed: BTreeSet<Slot> = ours.measure.installed.iter().map(|(_, _, slot)| *slot).collect();
    let mut first: BTreeMap<Slot, Ms> = BTreeMap::new();
    for (at, _, slot) in &ours.measure.failed {
        first.entry(*slot).or_insert(*at);
    }
    for (at, _, slot) in &ours.measure.alarms {
        first.entry(slot.unwrap_or(0)).or_insert(*at);
    }
    let named: BTreeSet<Slot> = first.keys().copied().collect();
    let last = first.values().max().copied().unwrap_or(Ms::MAX);
    let days_before = (LEFT.as_millis() as Ms).saturating_sub(last) / DAY;
    let said = ours.measure.explained.first().map(|(_, _, _, said)| said.as_str()).unwrap_or_default();
    let said = said.split("last failure").nth(1).map_or(said, |failure| failure.trim_start_matches(", "));
    let others = (1..=ISSUERS).filter(|s| ![UNREADABLE, HANGING].contains(s)).filter(|s| renewed.contains(s)).count();
    vec![
        verdict(
            "outage",
            field.totals.expired >= behind,
            format!("{} signers expire: those behind the one that cannot be read", field.totals.expired),
        ),
        verdict("outage", (95..=110).contains(&each), format!("each is unserved for {each} minutes (text: 100)")),
        verdict("D1", others == ISSUERS - 2, format!("{others} of the {} other signers are renewed", ISSUERS - 2)),
        verdict(
            "D1",
            ours.totals.expired == 2 && ours.totals.late == 2,
            format!(
                "{} signers expire, {} minutes unserved: the two, for which there is nothing to use until somebody acts",
                ours.totals.expired, ours.totals.unserved_minutes
            ),
        ),
        verdict(
            "D1",
            named == BTreeSet::from([UNREADABLE, HANGING]) && days_before > 7,
            format!(
                "slots with a failure or an alarm: {named:?}; the last of them had its first {days_before} days before the end"
            ),
        ),
        verdict(
            "D1",
            said.to_lowercase().contains("unusable"),
            format!("a day before the end the node says of it: {said}"),
        ),
    ]
}
