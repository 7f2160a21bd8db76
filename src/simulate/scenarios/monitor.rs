//! The ill-formed certificate of March 2017.

use super::super::agenda::{DAY, HOUR, Ms};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, verdict};
use super::super::setup::{Age, CaSetup, Deed, Field, Says, Setup, Slot, days};
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const ILL_FORMED_CERTIFICATE: Scenario = Scenario {
    name: "ill-formed-certificate",
    title: "one certificate that cannot be read hangs the loop that watches all of them",
    text: "One loop looks at 1000 certificates a day and renews those within 30 days of their end. Two days on, the 300th cannot \
           be read: the loop hangs there, and nothing behind it is looked at. The job that fails goes unnoticed until the \
           certificates expire at 12:00 on 31 March; that is noticed at 12:28 and put right at 13:40, 100 minutes later.",
    departures: &[
        "In the incident one certificate expired; in the model all behind the 300th do, since all were issued together.",
        "Ours has, beside the registry record that cannot be read, a second fault: what checks the new certificate of the 500th \
         issuer never returns.",
        "That the alarm of an overdue pass is raised (D2) is for the driver, which the model replaces; what is shown is that \
         the items in trouble can be named.",
    ],
    setup,
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
    let unreadable =
        Deed::Publish { issuers: UNREADABLE - 1..UNREADABLE, says: Says::Unreadable, late: 0, lost_to: 0..0 };
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
            (2 * DAY, unreadable),
            (HOUR, Deed::HangsCheck(HANGING, true)),
            (after_expiry(100), Deed::Replace(0..1, UNREADABLE)),
            (after_expiry(100), Deed::Restart { nodes: 0..1, dropping: 0..0, adding: 0..0 }),
        ],
        ..Setup::default()
    }
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let behind = (ISSUERS - UNREADABLE) as u64;
    let each = field.totals.unserved_minutes / behind.max(1);
    let expected: BTreeSet<(usize, Slot)> = BTreeSet::from([(0, HANGING)]);
    let renewed: BTreeSet<Slot> = ours.measure.installed.iter().map(|(_, _, slot)| *slot).collect();
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
            ours.totals.late <= 1,
            format!("{} signers in use too late, which is the one whose check hangs", ours.totals.late),
        ),
        verdict(
            "D1",
            ours.measure.troubled == expected,
            format!(
                "in trouble by the ledger: slots {:?}; the other is quarantined by the registry",
                ours.measure.troubled
            ),
        ),
        verdict("D2", ours.totals.alarms > 0, format!("{} alarms", ours.totals.alarms)),
    ]
}
