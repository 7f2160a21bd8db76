//! The request loop of 31 May 2020.

use super::super::agenda::{Ms, SECOND};
use super::super::scenario::{Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, CaSetup, Customers, Deed, Field, Setup, days};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(super) const REQUEST_LOOP: Scenario = Scenario {
    name: "request-loop",
    title: "after maintenance every answer calls for the next request, until the RA hangs, again and again",
    text: "Maintenance ends at 18:00. From then on the RA dates the certificates of one product (40 of 100 issuers) into the \
           past, so that each is due for renewal when it arrives: a loop in which every request succeeds. At 18:10 the product \
           is put into maintenance mode; at 19:00 the RA is stable. At 20:00 and 23:30 it is unstable again and restarted, at \
           02:50 and 04:39 its processing is restricted, and a fix is deployed at 10:55.",
    departures: &[
        "In the incident two servers of the CA sent each other requests by a fault of one of them, which loaded a database; here \
         the loop runs between the CA's customers' agents and the RA, which is the part of it that an agent can have.",
        "How many requests there were and what the RA can bear are not in the text: here it issues 5 a second, and hangs when \
         600 jobs wait.",
        "What \"restricts\" means, and when the maintenance mode of the product and the restrictions ended, is not in the text: \
         here each is a maintenance mode of the looping product, until 19:30, 04:20 and 10:55.",
        "Why the RA was well for hours between the times of trouble is not in the text, which calls the failures intermittent and \
         names a high load of the database. Here what the loop leaves in the database slows every issuance to three and a half times \
         its length in the twenty minutes before each of them, until somebody acts. So the times of trouble are put in; that it \
         is trouble is not: without the loop the same slow minutes hurt nobody.",
        "At 18:05 everything is due at once, under our policy by an operator's word.",
    ],
    setup,
    parts: no_parts,
    fewest: NODES,
    judge,
};

const LOOPING: Range<usize> = 0..40;
const NODES: usize = 4;
const ISSUERS: usize = 100;
/// 31 May, 17:00 UTC.
const START: Timestamp = Timestamp::from_unix(1_590_944_400);
const AGE: Duration = days(15);

/// A time after the midnight before the incident.
fn at(hour: u64, minute: u64) -> Ms {
    minutes((hour * 60 + minute).saturating_sub(17 * 60))
}

fn setup() -> Setup {
    let life = days(45);
    let mut script = vec![
        (at(18, 0), Deed::Backdate(Some((LOOPING, days(32))))),
        (at(18, 5), Deed::RenewAll(0..NODES)),
        (at(34, 55), Deed::Backdate(None)),
        (at(35, 0), Deed::Unpark(0..NODES)),
    ];
    for (from, to) in [((18, 10), (19, 30)), ((26, 50), (28, 20)), ((28, 39), (34, 55))] {
        script.push((at(from.0, from.1), Deed::Maintenance(LOOPING)));
        script.push((at(to.0, to.1), Deed::Maintenance(0..0)));
    }
    for (hour, minute) in [(18, 29), (20, 0), (23, 30), (26, 50), (28, 39), (34, 55)] {
        script.push((at(hour, minute), Deed::RestartCa));
    }
    for (hour, minute) in [(20, 0), (23, 30), (26, 50), (28, 39)] {
        let acted = at(hour, minute);
        script.push((acted - minutes(20), Deed::CaSpeed(150)));
        script.push((acted - minutes(10), Deed::CaSpeed(350)));
        script.push((acted, Deed::CaSpeed(100)));
    }
    Setup {
        start: START,
        length: at(38, 0),
        nodes: NODES,
        issuers: ISSUERS,
        life,
        age: Age::Same(AGE),
        field: Field {
            fraction: (AGE.as_secs() + 65 * 60) as f64 / life.as_secs() as f64,
            retry: 45 * SECOND,
            ..Field::default()
        },
        ca: CaSetup { servers: 2, hangs_at: 600, remembers: false, ..CaSetup::default() },
        customers: Some(Customers { every: 1_500, ..Customers::default() }),
        script,
        recovery: Duration::from_secs(2 * 3_600),
        ..Setup::default()
    }
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let calm = field.worst_failing(0, at(18, 0));
    let failing = field.minutes_failing(50.0);
    let late = field.worst_failing(at(36, 0), Ms::MAX);
    let (field_most, most) = (field.most_a_day(&LOOPING), ours.most_a_day(&LOOPING));
    let limit = runs.setup.agent.limits.issuances_per_day as usize;
    let parked: std::collections::BTreeSet<_> =
        ours.measure.alarms.iter().filter_map(|(_, node, slot)| slot.map(|slot| (*node, slot))).collect();
    let named = parked.iter().filter(|(_, slot)| LOOPING.contains(&(slot - 1))).count();
    let times = field.times_of_failing(50.0, 10);
    let before = ours.most_each(&LOOPING, 0, at(34, 55));
    let mut issued: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (at_ms, node, slot) in &ours.measure.installed {
        if LOOPING.contains(&(slot - 1)) && *at_ms < at(34, 55) {
            *issued.entry((*node, *slot)).or_default() += 1;
        }
    }
    let certificates = issued.values().max().copied().unwrap_or(0);
    let causes = ours.by_cause(&LOOPING);
    let changes = ours.measure.installed.iter().filter(|(_, _, slot)| LOOPING.contains(&(slot - 1))).count();
    let others = ours.by_cause(&(LOOPING.end..ISSUERS));
    let ordered = NODES * (ISSUERS - LOOPING.len());
    vec![
        verdict(
            "outage",
            calm < 1.0 && (30..180).contains(&failing) && times == 5,
            format!(
                "before 18:00 {calm:.0} % of calls fail; then more than half of them in {failing} minutes, in {times} times of trouble \
                 (text: 18:10, 20:00, 23:30, 02:50, 04:39)"
            ),
        ),
        verdict("outage", field_most > 50, format!("up to {field_most} requests for one signer in a day")),
        verdict("outage", late < 5.0, format!("after the fix {late:.0} % fail")),
        verdict(
            "B1",
            certificates == limit,
            format!("{certificates} certificates for a looping signer before the fix; {limit} a day are allowed"),
        ),
        verdict(
            "B1",
            most <= runs.setup.agent.limits.submissions_per_day as usize,
            format!(
                "at most {most} requests for one within a day, {before} before the fix: errors of the maintenance mode are asked again"
            ),
        ),
        verdict(
            "B1",
            named == NODES * LOOPING.len(),
            format!("{named} of {} looping signers are parked with an alarm of their own", NODES * LOOPING.len()),
        ),
        verdict(
            "B2",
            others == BTreeMap::from([("operator", ordered)]) && causes.get("scheduled").is_some_and(|n| *n > 0),
            format!(
                "requests by cause: of the looping issuers {causes:?} for {changes} new signers, of the others {others:?}: the loop \
                 is what nobody ordered"
            ),
        ),
        verdict("A2", ours.totals.hurt == 0, format!("{} calls of customers fail", ours.totals.hurt)),
        verdict("A9", ours.totals.expired == 0, format!("{} signers expire", ours.totals.expired)),
    ]
}
