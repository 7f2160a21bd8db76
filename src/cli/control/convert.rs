//! From what the parts say to what operators are shown.

use super::{Examined, Served, advice, served};
use crate::admin::control::{
    AgentReport, EndpointReport, HoldReport, Impact, Order, PauseReport, PlanEntry, PlanReport, RegistryReport,
    SlotReport, Target, WindowReport,
};
use crate::audit::About;
use crate::registry::IssuerId;
use crate::renewal::{
    self, EndpointId, EndpointView, Hold, Ignored, Park, Pause, Plan, Reach, Schedule, SlotId, SlotView, Snapshot,
    Standing,
};
use crate::responder::IssuerReport;
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// How what is wrong with a record begins among the reasons of a slot.
pub(super) const RECORD: &str = "its registry record cannot be used";
/// So many CA services are written out.
const NAMED: usize = 3;

/// Credentials and issuers: those that renewal knows, those that are only served, and those whose record cannot be used.
pub(super) fn slots(
    snapshot: Option<&Snapshot>,
    served: &Served,
    registry: &RegistryReport,
    agent: Option<&AgentReport>,
    credential_faults: &[(String, String)],
    now: Timestamp,
) -> (Vec<SlotReport>, Vec<SlotReport>) {
    let reports: BTreeMap<&str, &IssuerReport> = served.reports.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut issuers: BTreeMap<String, SlotReport> = BTreeMap::new();
    let mut credentials = Vec::new();
    for view in snapshot.iter().flat_map(|s| &s.slots) {
        let pauses = snapshot.map(|s| s.pauses.as_slice()).unwrap_or_default();
        let mut report = of_view(view, pauses, now);
        match &view.slot {
            SlotId::Credential(endpoint) => {
                let fault = credential_faults.iter().find(|(of, _)| of == endpoint.as_str());
                if let Some((_, fault)) = fault {
                    report.press(format!("it cannot be used: {fault}"));
                }
                credentials.push(report);
            }
            SlotId::Signer(id) => {
                if let Some(of) = reports.get(id.as_str()) {
                    if view.standing == Standing::Quarantined && view.schedule.is_none() {
                        // An agent started since knows nothing of its signer.
                        served::life(&mut report, of, &served.renewal, now);
                    }
                    served::add(&mut report, of, now);
                }
                // Tombstones are remembered, and of no interest any more.
                if !matches!(view.standing, Standing::Retired | Standing::Removed) {
                    issuers.insert(id.as_str().to_owned(), report);
                }
            }
        }
    }
    let is_down = agent.is_some_and(|agent| agent.down.is_some());
    for of in served.reports.iter() {
        issuers.entry(of.id.clone()).or_insert_with(|| served::only(of, &served.renewal, is_down, now));
    }
    for quarantine in &registry.quarantined {
        if let Some(report) = issuers.get_mut(&quarantine.record) {
            report.state = Standing::Quarantined.name().to_owned();
            let faults = quarantine.faults.join("; ");
            report.press(match quarantine.served_on_since {
                Some(since) => format!(
                    "{RECORD} since {since}: it is served as before, and not renewed until the record is mended: {faults}"
                ),
                None => format!("{RECORD}: {faults}"),
            });
        }
    }
    // What the agent could not look at belongs to the slot that it is about, where there is one.
    for (name, why) in agent.iter().flat_map(|agent| &agent.unreadable) {
        let is_said = |report: &SlotReport| report.reasons.iter().any(|reason| reason.contains(why.as_str()));
        let mut those = credentials.iter_mut().chain(issuers.values_mut());
        if let Some(report) = those.find(|report| report.slot.to_string() == *name && !is_said(report)) {
            report.press(format!("it could not be looked at: {why}"));
        }
    }
    (credentials, issuers.into_values().collect())
}

fn of_view(view: &SlotView, pauses: &[Pause], now: Timestamp) -> SlotReport {
    let mut attention = false;
    let mut reasons = Vec::new();
    let hold = match &view.hold {
        _ if view.awaits_approval => {
            attention = true;
            let serial = view.next.map(|life| life.serial.to_string()).unwrap_or_default();
            reasons.push(format!("certificate {serial} is in place and waits for approve"));
            HoldReport::Approval { serial }
        }
        Hold::None => HoldReport::None,
        Hold::Backoff { until } if *until <= now => HoldReport::None,
        Hold::Backoff { until } => {
            let why = view.last_failure.as_deref().unwrap_or("a failure");
            let failures = view.failures;
            reasons.push(format!("waits until {until} after {failures} failures in a row, the last: {why}"));
            HoldReport::Backoff { until: *until }
        }
        Hold::Parked { why, text, since, canary } => {
            attention = true;
            reasons.push(format!("parked since {since}: {text}; asked once a day, next at {canary}"));
            let why = match why {
                Park::Refused => "refused",
                Park::Rejected => "rejected",
                Park::Governor => "governor",
            };
            HoldReport::Parked { why: why.into(), text: text.clone(), since: *since, canary: *canary }
        }
    };
    if let Some(Pause { until, reason, who, .. }) = pause_of(view, pauses, now) {
        reasons.push(format!("paused until {until} by {who}: {reason}"));
    }
    let active = view.standing == Standing::Active;
    if view.life.is_none() && matches!(view.slot, SlotId::Signer(_)) && active {
        reasons.push(match (view.next, view.active_from) {
            (Some(next), Some(from)) if !view.awaits_approval && from > now => {
                format!("there is no signer yet: certificate {} is in place and is used from {from}", next.serial)
            }
            _ => "there is no signer yet".into(),
        });
    }
    let is_disabled = view.standing == Standing::Disabled;
    if let Some(schedule) = view.schedule.filter(|s| s.urgent <= now && !is_disabled) {
        attention = true;
        reasons.push(short(schedule.deadline, now));
    }
    match view.standing {
        Standing::Unknown => reasons.push("the registry has not been read since the start".into()),
        Standing::Disabled => reasons.push(served::DISABLED.into()),
        Standing::Held(by) => reasons.push(format!(
            "stopped by generation {by} of the registry, which is held: not asked for until that is approved, or put right by a higher one"
        )),
        Standing::Quarantined => attention = true,
        _ => {}
    }
    SlotReport {
        slot: target(&view.slot),
        state: view.standing.name().into(),
        phase: (view.standing != Standing::Watched).then(|| view.phase.to_owned()),
        endpoint: view.endpoint.as_ref().map(ToString::to_string),
        order: view.order.map(|order| order.to_string()),
        cause: (active && view.phase != "idle").then(|| view.cause.name().to_owned()),
        hold,
        attention,
        reasons,
        serial: view.life.map(|life| life.serial.to_string()),
        not_before: view.life.map(|life| life.not_before),
        not_after: view.life.map(|life| life.not_after),
        window: view.schedule.map(window),
        failures: view.failures,
        last_failure: view.last_failure.clone(),
        requests_today: view.submissions_today,
        certificates_today: view.issuances_today,
        entries: None,
        oldest_this_update: None,
    }
}

/// What keeps it from being asked for, by somebody's word.
fn pause_of<'a>(view: &SlotView, pauses: &'a [Pause], now: Timestamp) -> Option<&'a Pause> {
    let covers = |pause: &&Pause| match &pause.reach {
        Reach::All => true,
        Reach::Endpoint(endpoint) => view.endpoint.as_ref() == Some(endpoint),
        Reach::Slot(slot) => *slot == view.slot,
    };
    pauses.iter().filter(|pause| pause.until > now).find(covers)
}

/// Why a certificate presses.
pub(super) fn short(deadline: Timestamp, now: Timestamp) -> String {
    let late = if deadline <= now { ", which has passed" } else { "" };
    format!("its time is short: the next one must be in use by {deadline}{late}")
}

/// A schedule as it is shown.
pub(super) fn window(s: Schedule) -> WindowReport {
    WindowReport { opens: s.opens, due: s.due, closes: s.closes, urgent: s.urgent, deadline: s.deadline }
}

pub(super) fn endpoint(view: &EndpointView) -> EndpointReport {
    EndpointReport {
        name: view.id.to_string(),
        state: view.state.clone(),
        is_pace: view.is_pace,
        open: view.open,
        failures: view.failures,
        in_flight: view.in_flight,
        in_flight_limit: view.in_flight_limit,
        rate_share: view.rate_share,
        queued: view.queued,
        requests_today: view.attempts_today,
        requests: view.requests.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect(),
        signer_changes: view.signer_changes,
    }
}

pub(super) fn pause(pause: &Pause) -> PauseReport {
    let reach = match &pause.reach {
        Reach::All => Target::All,
        Reach::Endpoint(endpoint) => Target::Endpoint(endpoint.to_string()),
        Reach::Slot(slot) => target(slot),
    };
    PauseReport { reach, until: pause.until, reason: pause.reason.clone(), who: pause.who.clone() }
}

pub(super) fn plan(plan: &Plan, pauses: Vec<PauseReport>) -> PlanReport {
    let entries = plan.entries.iter().map(|entry| PlanEntry {
        slot: target(&entry.slot),
        endpoint: entry.endpoint.to_string(),
        at: entry.at,
        deadline: entry.deadline,
        phase: entry.phase.to_owned(),
        cause: entry.cause.name().to_owned(),
    });
    let entries = entries.collect();
    PlanReport { now: plan.now, entries, by_hour: plan.by_hour(), left_out: plan.left_out, pauses }
}

pub(super) fn impact(
    file: String,
    examined: Examined,
    in_use: Option<u64>,
    renewal: Option<&renewal::Impact>,
) -> Impact {
    let changes = examined.changes;
    let names = |ids: &BTreeSet<IssuerId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let unusable = names(&changes.unusable);
    let mut quarantined = examined.quarantined;
    // What worked until now comes first.
    quarantined.sort_by_key(|quarantine| !unusable.contains(&quarantine.record));
    let share = match (changes.changed(), changes.known) {
        (0, _) => 0.0,
        (changed, known) => changed as f64 / known.max(1) as f64,
    };
    Impact {
        file,
        generation: examined.view.generation,
        in_use,
        refused: examined.refused,
        held: examined.held,
        known: changes.known,
        share,
        added: names(&changes.added),
        removed: names(&changes.removed),
        disabled: names(&changes.disabled),
        retired: names(&changes.retired),
        activated: names(&changes.activated),
        moved: names(&changes.moved),
        unusable,
        quarantined,
        cancelled: renewal.map_or(0, |impact| impact.cancelled),
        requests: renewal.map_or(0, |impact| impact.requests),
    }
}

/// Whom a command is about, for the trail.
pub(super) fn about(target: &Target) -> About {
    match target.clone() {
        Target::All => About::All,
        Target::Endpoint(name) => About::Endpoint(name),
        Target::Credential(name) => About::Credential(name),
        Target::Issuer(id) => About::Issuer(id),
    }
}

fn things(count: usize) -> String {
    if count == 1 { "1 signer or credential".to_owned() } else { format!("{count} signers and credentials") }
}

/// What this service renews and a command of this reach is about.
fn within<'a>(about: &'a Target, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a SlotView> {
    let is_meant = move |view: &SlotView| match about {
        Target::All => true,
        Target::Endpoint(name) => view.endpoint.as_ref().is_some_and(|endpoint| endpoint.as_str() == name),
        one => target(&view.slot) == *one,
    };
    snapshot.slots.iter().filter(move |view| view.standing == Standing::Active && is_meant(view))
}

/// What an order to renew did, and what keeps requests from leaving at once.
pub(super) fn renewed(about: &Target, concerned: usize, snapshot: &Snapshot, now: Timestamp) -> String {
    let slots: Vec<&SlotView> = within(about, snapshot).collect();
    let paused: Vec<&Pause> = slots.iter().filter_map(|view| pause_of(view, &snapshot.pauses, now)).collect();
    if let Some(first) = paused.first() {
        let PauseReport { reach, until, reason, who } = pause(first);
        let whom = match paused.len() < slots.len() {
            true => format!("{} of them are not asked for", paused.len()),
            false => "nothing is asked for".to_owned(),
        };
        return format!(
            "{about}: {} to be renewed, but {reach} is paused until {until} by {who}: {reason}; {whom} before that ends: `stillgood \
             resume {}`",
            things(concerned),
            advice::option(&reach)
        );
    }
    let mut text = taken(&Order::Renew(about.clone()), about, concerned);
    let asked: BTreeSet<&EndpointId> = slots.iter().filter_map(|view| view.endpoint.as_ref()).collect();
    let held = snapshot.endpoints.iter().filter(|endpoint| asked.contains(&endpoint.id) && endpoint.state != "ok");
    for endpoint in held.take(NAMED) {
        text.push_str(&format!("; endpoint {}: {}", endpoint.id, endpoint.state));
    }
    text
}

/// Of an order to renew that changes nothing: those that have an order on its way to a new certificate already.
pub(super) fn under_way(about: &Target, snapshot: &Snapshot) -> Option<String> {
    let moves = ["preparing", "in-flight", "issued", "verified", "staged", "activating"];
    let those: Vec<&SlotView> =
        within(about, snapshot).filter(|view| moves.contains(&view.phase) && !view.awaits_approval).collect();
    let first = those.first()?;
    let (count, phase) = (things(those.len()), first.phase);
    let have =
        if those.len() == 1 { format!("has an order under way ({phase})") } else { "have orders under way".into() };
    Some(format!("{about}: nothing new is ordered: {count} {have}"))
}

/// What a command did, in words.
pub(super) fn taken(order: &Order, about: &Target, concerned: usize) -> String {
    let things = things(concerned);
    match order {
        Order::Pause(..) => {
            format!("{about} is paused: {things} are not asked for until then; what is on the wire is finished")
        }
        Order::Resume(_) => format!("{about} is resumed: {things} may be asked for, at a rate that grows slowly"),
        Order::Resign(_) => format!("{about}: everything is signed again"),
        Order::Renew(_) => format!("{about}: {things} are renewed now, at the endpoint's rate"),
        Order::Unpark(_) => format!("{about}: what held {things} is lifted"),
        Order::ApproveSigner(_) => format!("{about}: the staged signer becomes active as soon as its time has come"),
        Order::ApproveRegistry(generation) => format!("generation {generation} is approved"),
    }
    .replace("1 signer or credential are", "1 signer or credential is")
}

/// Why nothing changed, with what to do where that is known.
pub(super) fn ignored(why: &Ignored) -> String {
    match why {
        Ignored::NothingConcerned(reach) => format!(
            "nothing to do for {reach}: no signer within it is in a state that this changes; `stillgood explain` tells the state"
        ),
        other => other.to_string(),
    }
}

pub(super) fn target(slot: &SlotId) -> Target {
    match slot {
        SlotId::Credential(endpoint) => Target::Credential(endpoint.to_string()),
        SlotId::Signer(issuer) => Target::Issuer(issuer.to_string()),
    }
}

pub(super) fn slot(target: &Target) -> Option<SlotId> {
    match reach(target) {
        Ok(Reach::Slot(slot)) => Some(slot),
        _ => None,
    }
}

pub(super) fn reach(target: &Target) -> Result<Reach, String> {
    Ok(match target {
        Target::All => Reach::All,
        Target::Endpoint(name) => Reach::Endpoint(EndpointId::new(name)?),
        Target::Credential(name) => Reach::Slot(SlotId::Credential(EndpointId::new(name)?)),
        Target::Issuer(id) => Reach::Slot(SlotId::Signer(IssuerId::new(id)?)),
    })
}
