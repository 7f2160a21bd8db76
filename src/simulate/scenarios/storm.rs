//! The retired-CA storm of 28 October 2020.

use super::super::agenda::{DAY, Ms, SECOND};
use super::super::scenario::{Outcome, Runs, Scenario, Verdict, minutes, no_parts, verdict};
use super::super::setup::{Age, CaSetup, Customers, Deed, Field, Refusal, Says, Setup, Slot, days};
use crate::registry::State;
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

pub(super) const RETIRED_CA_STORM: Scenario = Scenario {
    name: "retired-ca-storm",
    title: "signers of six destroyed CAs are renewed, and the issuing service backs off for everyone",
    text: "The keys of six CAs have been destroyed. At 14:00 the OCSP servers renew their signers, those six among them. \
           The front-end was not told, forwards the impossible requests, and the issuing servers back off after many \
           failures. The queue grows; synchronous customers time out after 6 seconds. From 14:15 on the six CAs are taken \
           out of the configuration and servers restarted, which asks for everything at once. At 14:45 most of them are \
           stopped; from 15:30 on they come back one by one; at 15:30 and 16:00 a third of the queues each is parked, and at 16:20 \
           queued again.",
    departures: &[
        "The day between the destruction and the renewal is cut to 15 seconds, so that it falls between two looks at the \
         registry.",
        "The numbers of servers (12), issuers (60), issuing servers (6), their speed (0.4 s each), the customers (3 a \
         second) and the time-out of an OCSP server (60 s) are not in the text; neither is the rule of the back-off (here: \
         10 failures within a minute rest a server for two minutes, and a failed job is given to two others).",
        "Operators of the model act only while more than 100 jobs wait, and at the times of the text.",
        "Our nodes would have spread this work over ten days; an operator's `renew --all` at 14:00 gives them the same work \
         at the same moment.",
    ],
    setup,
    parts: no_parts,
    fewest: NODES,
    judge,
};

pub(super) const RETIRED_CA_UNTOLD: Scenario = Scenario {
    name: "retired-ca-untold",
    title: "the same storm, and the registry's update is lost to our nodes as it was to the front-end",
    text: "The world of retired-ca-storm, in which the word that six issuers are disabled never reaches our nodes either. They \
           ask for the six in their turn, are told that it cannot be done, and park these six slots alone. Run for twelve days.",
    departures: &[
        "As retired-ca-storm; and the CA says in words that it cannot issue. What it said in the incident is left open: worlds \
         in which it says no more than that something went wrong, that it does not know who asks, or nothing, are run beside it.",
        "No operator of ours orders everything at once: the signers are renewed at their places in ten days, which is what \
         keeps the failures apart.",
    ],
    setup: setup_untold,
    parts: parts_untold,
    fewest: NODES,
    judge: judge_untold,
};

const STRANGER: &str = "as by who does not know us (HTTP 401)";
/// Where a label that does not know us is taken for the service, there is an alarm for each of the six on each node; two of
/// them in a row, and nobody between, cannot be told from it.
const MOST_WIDE: usize = 18;
const RETIRED: Range<usize> = 0..6;
const HEALTHY: Range<usize> = 6..60;
const NODES: usize = 12;
/// 13:30 UTC.
const START: Timestamp = Timestamp::from_unix(1_603_891_800);
const AGE: Duration = days(15);

/// A time of the 28 October.
fn at(hour: u64, minute: u64) -> Ms {
    minutes((hour * 60 + minute).saturating_sub(13 * 60 + 30))
}

fn setup() -> Setup {
    let life = days(45);
    let mut script = vec![
        (at(14, 0) - 15 * SECOND, Deed::DestroyKeys(RETIRED)),
        (
            at(14, 0) - 15 * SECOND,
            Deed::Publish { issuers: RETIRED, says: Says::State(State::Disabled), late: 0, lost_to: 0..0 },
        ),
        (at(14, 0), Deed::RenewAll(0..NODES)),
        (at(14, 45), Deed::Stop { nodes: 3..NODES, if_over: 100 }),
        (at(15, 30), Deed::ParkQueue { queue: 0, if_over: 100 }),
        (at(16, 0), Deed::ParkQueue { queue: 1, if_over: 100 }),
        (at(16, 20), Deed::Resubmit),
    ];
    // The roll-out takes from 14:15 to 14:29; after 15:30 servers are brought online slowly.
    for node in 0..NODES {
        let minute = 15 + node as u64 * 14 / NODES as u64;
        script.push((at(14, minute), Deed::Restart { nodes: node..node + 1, dropping: RETIRED, adding: 0..0 }));
    }
    for node in 3..NODES {
        script.push((at(15, 30) + minutes(5 * (node as u64 - 2)), Deed::Start(node..node + 1)));
    }
    Setup {
        start: START,
        length: at(18, 0),
        nodes: NODES,
        issuers: 60,
        life,
        age: Age::Same(AGE),
        field: Field {
            fraction: (AGE.as_secs() + 1_800) as f64 / life.as_secs() as f64,
            retry: 30 * SECOND,
            timeout: 60 * SECOND,
            ..Field::default()
        },
        ca: CaSetup {
            queues: 3,
            servers: 6,
            service: 400,
            backoff: Some((10, 60 * SECOND, 120 * SECOND)),
            hand_over: 2,
            remembers: false,
            refusal: Refusal::Silence,
            ..CaSetup::default()
        },
        customers: Some(Customers { every: 333, accounts: 100, account_rate: 4, ..Customers::default() }),
        script,
        recovery: Duration::from_secs(3_600),
        ..Setup::default()
    }
}

fn setup_untold() -> Setup {
    let storm = setup();
    let told = |deed: &Deed| matches!(deed, Deed::Publish { .. } | Deed::RenewAll(_));
    let age = days(20);
    Setup {
        length: 12 * DAY,
        age: Age::Same(age),
        field: Field { fraction: (age.as_secs() + 1_800) as f64 / storm.life.as_secs() as f64, ..storm.field },
        ca: CaSetup { refusal: Refusal::Clear, ..storm.ca },
        recovery: days(2),
        // Fewer of them: what they feel is shown by the other storm.
        customers: storm.customers.map(|c| Customers { every: 4_000, ..c }),
        script: storm.script.into_iter().filter(|(_, deed)| !told(deed)).collect(),
        ..setup()
    }
}

/// The same without the six failures; and with failures that are called nothing but an error, or nothing at all.
fn parts_untold() -> Vec<Setup> {
    let untold = setup_untold();
    let healthy = |deed: &Deed| !matches!(deed, Deed::DestroyKeys(_));
    let script = untold.script.iter().filter(|(_, deed)| healthy(deed)).cloned().collect();
    let refusing = |refusal| Setup { ca: CaSetup { refusal, ..untold.ca.clone() }, ..untold.clone() };
    vec![
        Setup { script, ..untold.clone() },
        refusing(Refusal::Opaque),
        refusing(Refusal::Stranger),
        refusing(Refusal::Silence),
    ]
}

fn judge(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let (calm, storm) = (field.worst_failing(0, at(13, 59)), field.worst_failing(at(14, 0), at(16, 0)));
    let lasted = field.minutes_failing(50.0);
    let late = field.worst_failing(at(17, 30), at(18, 0));
    let (before, after) = (ours.asked(&RETIRED, 0, at(14, 1)), ours.asked(&RETIRED, at(14, 1), Ms::MAX));
    let rate = runs.setup.agent.rate.count as u64 * NODES as u64;
    let of = |slot: &Slot| HEALTHY.contains(&slot.wrapping_sub(1));
    let keys: BTreeSet<_> =
        ours.measure.sent.iter().filter(|s| of(&s.slot)).map(|s| (s.node, s.slot, s.order)).collect();
    let orders = keys.len();
    let renewed = ours.measure.installed.iter().filter(|(.., slot)| of(slot)).count();
    let open = ours.measure.open.iter().filter(|(_, slot)| of(slot)).count();
    vec![
        verdict(
            "outage",
            calm < 1.0 && storm > 90.0,
            format!("before 14:00 {calm:.0} % of calls fail, then up to {storm:.0} %"),
        ),
        verdict(
            "outage",
            (60..180).contains(&lasted),
            format!("for {lasted} minutes more than half of them fail (text: 14:00 to 16:10)"),
        ),
        verdict("outage", field.totals.longest_queue > 1_000, format!("{} jobs wait", field.totals.longest_queue)),
        verdict("outage", late < 5.0, format!("after 17:30 {late:.0} % fail")),
        verdict("outage", field.totals.expired == 0, "as in the text, no responder is affected".to_owned()),
        verdict(
            "A1",
            ours.most_each(&RETIRED, 0, Ms::MAX) <= 1 && after == 0,
            format!(
                "{before} requests for the six before the next look, at most {} for one signer (1 is allowed: what left before the word \
                 was there); {after} after it",
                ours.most_each(&RETIRED, 0, Ms::MAX)
            ),
        ),
        verdict("A2", ours.totals.hurt == 0, format!("{} calls of customers fail", ours.totals.hurt)),
        verdict(
            "A4",
            ours.totals.peak_per_minute <= rate,
            format!(
                "at most {} requests a minute, {rate} are allowed: {NODES} nodes at {} each, used to the full while the work of ten days is \
                 due at once",
                ours.totals.peak_per_minute,
                rate / NODES as u64
            ),
        ),
        verdict(
            "A5",
            orders == renewed + open,
            format!(
                "{orders} keys for the other {}: one for each of {renewed} new signers, and {open} whose order is open",
                HEALTHY.len()
            ),
        ),
        verdict("A9", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
    ]
}

fn judge_untold(runs: &Runs<'_>) -> Vec<Verdict> {
    let (field, ours) = (runs.field, runs.ours);
    let storm = field.worst_failing(at(14, 0), at(16, 0));
    let wanted = ours.asked(&RETIRED, 0, Ms::MAX);
    let most = ours.most_a_day(&RETIRED);
    let healthy = ours.asked(&HEALTHY, 0, Ms::MAX);
    let renewed = ours.totals.renewed as usize;
    let wide =
        ours.measure.alarms.iter().filter(|(_, _, slot)| slot.is_none_or(|s| !RETIRED.contains(&(s - 1)))).count();
    let mut verdicts = vec![
        verdict("outage", storm > 50.0, format!("up to {storm:.0} % of the customers' calls fail")),
        verdict("A2", healthy == renewed, format!("{healthy} requests for {renewed} new signers of healthy issuers")),
        verdict("A2", ours.totals.hurt == 0, format!("{} calls of customers fail", ours.totals.hurt)),
        verdict("A2", wide == 0, format!("{wide} alarms are about anything but the six")),
        verdict(
            "A3",
            most <= 1,
            format!("{wanted} requests for the six in twelve days, at most {most} a day for each"),
        ),
        verdict("A9", ours.totals.late == 0, format!("{} signers in use too late", ours.totals.late)),
    ];
    let governor = runs.setup.agent.limits.submissions_per_day as usize;
    if let [control, opaque, stranger, silent] = runs.parts {
        let without = control.first_asked(&HEALTHY);
        let moved = |run: &Outcome| {
            let with = run.first_asked(&HEALTHY);
            let apart = without.iter().map(|(slot, at)| with.get(slot).map_or(Ms::MAX, |other| at.abs_diff(*other)));
            apart.max().unwrap_or(Ms::MAX) / SECOND
        };
        let apart = moved(ours);
        verdicts.push(verdict(
            "A2",
            without.len() == HEALTHY.len() * NODES && apart <= 60,
            format!(
                "beside a world without the six failures, no request for the other 54 moves by more than {apart} s"
            ),
        ));
        for (what, part, at_most) in
            [("by an error (HTTP 500)", opaque, governor), (STRANGER, stranger, 2), ("not at all", silent, governor)]
        {
            let (done, most) = (part.first_asked(&HEALTHY).len(), part.most_a_day(&RETIRED));
            let is_wide = |slot: &Option<Slot>| slot.is_none_or(|s| !RETIRED.contains(&(s - 1)));
            let wide = part.measure.alarms.iter().filter(|(.., slot)| is_wide(slot)).count();
            let renewed: BTreeSet<_> = part
                .measure
                .installed
                .iter()
                .filter(|(_, _, slot)| HEALTHY.contains(&(slot - 1)))
                .map(|(_, n, s)| (*n, *s))
                .collect();
            verdicts.push(verdict(
                "A2",
                renewed.len() == done && done == HEALTHY.len() * NODES && part.totals.hurt == 0 && most <= at_most && (what != STRANGER || wide <= MOST_WIDE),
                format!(
                    "where the six are answered {what}: {} healthy signers are renewed, none moved by more than {} s, at most {most} requests a \
                     day for one of the six, {} calls of customers fail, {wide} alarms are about anything but the six",
                    renewed.len(),
                    moved(part),
                    part.totals.hurt
                ),
            ));
        }
    }
    verdicts
}
