//! What an operator would do next, from what is shown.

use super::served::RESPONDER;
use crate::admin::control::{HoldReport, Next, SlotReport, Status, Target};

/// Of a kind at most so many are written out; the rest are counted.
const NAMED: usize = 5;

/// Of one slot at most so many reasons are written out.
const REASONS: usize = 3;

/// For everything, the most urgent first. `worries`: how clients are turned away, and a
/// configuration that is not in use; `missing`: what `/readyz` says.
pub(super) fn of(status: &Status, worries: &[String], missing: &[String]) -> Vec<Next> {
    let mut next = Vec::new();
    next.extend(worries.iter().map(|text| must(text, None)));
    if status.files.overdue {
        let since = status.files.last_pass.map_or_else(|| "since the start".into(), |at| format!("since {at}"));
        let text = format!(
            "the files of signers and statuses have not been looked at {since}: a change in them is not seen; a disk or a mount \
             that hangs, as a rule, and then a restart"
        );
        next.push(must(&text, None));
    }
    registry(status, &mut next);
    if let Some(agent) = &status.agent {
        if let Some(fault) = &agent.down {
            let text = format!(
                "the renewal agent does not run, so that no signer is renewed; it is tried again each minute: {fault}"
            );
            next.push(must(&text, None));
        } else if agent.overdue {
            let text = "the renewal agent does not move: its thread hangs or has ended; the log says why; a dead one is started anew within a minute, one that hangs takes a restart";
            next.push(must(text, None));
        }
        if let Some(fault) = &agent.fault {
            let text =
                format!("the ledger of orders cannot be written, and nothing is asked for until it can: {fault}");
            next.push(must(&text, None));
        }
        // Those of a slot or of a record are told with it.
        let is_told = |name: &str| {
            status.registry.quarantined.iter().any(|quarantine| quarantine.record == name)
                || status
                    .credentials
                    .iter()
                    .chain(&status.issuers)
                    .any(|slot| slot.attention && slot.slot.to_string() == name)
        };
        let those = agent.unreadable.iter().filter(|(name, _)| !is_told(name));
        let those = those.map(|(name, why)| format!("{name} could not be looked at: {}", first_line(why)));
        a_few(those, &mut next);
    }
    if let Some(fault) = &status.audit.fault {
        next.push(must(&format!("the audit trail cannot be written to: {fault}"), None));
    }
    for endpoint in status.endpoints.iter().filter(|endpoint| endpoint.open) {
        let text = format!(
            "endpoint {} has failed {} times in a row and is tried once in a while: {}; when it is well again, do not wait",
            endpoint.name, endpoint.failures, endpoint.state
        );
        next.push(must(&text, Some(format!("stillgood unpark --endpoint {}", endpoint.name))));
    }
    let slots: Vec<&SlotReport> = status.credentials.iter().chain(&status.issuers).collect();
    some(&slots, &|slot| matches!(slot.hold, HoldReport::Approval { .. }), &mut next);
    some(&slots, &|slot| matches!(slot.hold, HoldReport::Parked { .. }), &mut next);
    some(
        &slots,
        &|slot| slot.attention && matches!(slot.hold, HoldReport::None | HoldReport::Backoff { .. }),
        &mut next,
    );
    for pause in &status.pauses {
        let text = format!("{} is paused until {} by {}: {}", pause.reach, pause.until, pause.who, pause.reason);
        let command = format!("stillgood resume {}", option(&pause.reach));
        next.push(Next { attention: false, text, command: Some(command) });
    }
    // Whatever makes it not ready needs somebody, also where nothing above has a word for it.
    if !next.iter().any(|next| next.attention) {
        a_few(missing.iter().map(|line| format!("not ready: {line}")), &mut next);
    }
    next.sort_by_key(|next| !next.attention);
    next
}

/// For one slot that is being explained: to have it explained is no step.
pub(super) fn of_explained(status: &Status, slot: &Target) -> Vec<Next> {
    let found = status.issuers.iter().chain(&status.credentials).find(|report| report.slot == *slot);
    let is_step = |next: &Next| next.command.as_ref().is_none_or(|command| *command != explain(slot));
    found.and_then(one).filter(is_step).into_iter().collect()
}

/// For a slot with which all is well.
pub(super) fn renewable(slot: &Target) -> Next {
    let command = format!("stillgood renew {}", option(slot));
    Next { attention: false, text: "all is well; to have it renewed before its time:".into(), command: Some(command) }
}

/// For the generation that is held, if one is.
pub(super) fn held(status: &Status) -> Option<Next> {
    let (generation, text) = status.registry.held.as_ref()?;
    let text =
        format!("generation {generation} of the registry is held: {text}; look at it, then let it in or mend it");
    Some(must(&text, Some(format!("stillgood approve --registry {generation}"))))
}

fn registry(status: &Status, next: &mut Vec<Next>) {
    let registry = &status.registry;
    next.extend(held(status));
    if let Some(fault) = &registry.fault {
        let text = format!("the registry is not taken over, and what was known before holds: {}", first_line(fault));
        next.push(must(&text, None));
    }
    if status.agent.as_ref().is_some_and(|agent| agent.down.is_none()) && !registry.fresh {
        let text = match registry.synced_at {
            Some(at) => format!(
                "the registry was last read at {at}, which is too long ago: nothing is renewed until it is read again"
            ),
            None => "the registry has not been read since the start: nothing is renewed without it".to_owned(),
        };
        next.push(must(&text, None));
    }
    let known: Vec<&str> = status
        .issuers
        .iter()
        .filter_map(|report| match &report.slot {
            Target::Issuer(id) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let those = registry.quarantined.iter().filter(|q| !known.contains(&q.record.as_str())).map(|quarantine| {
        let why = quarantine.faults.first().map(|fault| first_line(fault)).unwrap_or_default();
        format!("registry record {} cannot be used: {why}", quarantine.record)
    });
    a_few(those, next);
}

/// The first of these lines; the rest is counted.
fn a_few(mut lines: impl Iterator<Item = String>, next: &mut Vec<Next>) {
    next.extend(lines.by_ref().take(NAMED).map(|text| must(&text, None)));
    match lines.count() {
        0 => {}
        rest => next.push(must(&format!("and {rest} more like these"), None)),
    }
}

/// Those of a kind, a few by name.
fn some(slots: &[&SlotReport], is: &dyn Fn(&SlotReport) -> bool, next: &mut Vec<Next>) {
    let mut those = slots.iter().filter(|slot| is(slot));
    next.extend(those.by_ref().take(NAMED).filter_map(|slot| one(slot)));
    let rest = those.count();
    if rest > 0 {
        next.push(must(&format!("and {rest} more like these"), None));
    }
}

fn one(slot: &SlotReport) -> Option<Next> {
    let name = &slot.slot;
    let reasons = || {
        // Pauses are told by themselves.
        let those = || slot.reasons.iter().filter(|reason| !reason.starts_with("paused until "));
        let more = those().count().saturating_sub(REASONS);
        let text = those().take(REASONS).map(|reason| first_line(reason)).collect::<Vec<_>>().join("; ");
        if more == 0 { text } else { format!("{text}; and {more} more") }
    };
    match &slot.hold {
        HoldReport::Approval { serial } => Some(must(
            &format!("{name}: certificate {serial} is in place and waits for your word{}", besides(slot)),
            Some(format!("stillgood approve {}", option(name))),
        )),
        HoldReport::Parked { why, text, .. } if why == "governor" => Some(must(
            &format!(
                "{name} has asked or got too much within a day: {text}; find out why before you let it go on{}",
                besides(slot)
            ),
            Some(format!("stillgood unpark {}", option(name))),
        )),
        HoldReport::Parked { text, .. } => Some(must(
            &format!(
                "{name} is parked: {text}; when the CA's side is mended, do not wait for the request of the day{}",
                besides(slot)
            ),
            Some(format!("stillgood unpark {}", option(name))),
        )),
        _ if slot.attention => {
            let command = slot.phase.as_ref().map(|_| explain(name));
            Some(must(&format!("{name}: {}", reasons()), command))
        }
        _ => None,
    }
}

/// What the responder says of a slot that is held for another reason.
fn besides(slot: &SlotReport) -> String {
    let those = slot.reasons.iter().filter_map(|reason| reason.strip_prefix(RESPONDER));
    those.take(REASONS).fold(String::new(), |text, reason| text + "; besides, " + first_line(reason))
}

fn must(text: &str, command: Option<String>) -> Next {
    Next { attention: true, text: text.to_owned(), command }
}

/// How a verb is told what it is about.
pub(super) fn option(target: &Target) -> String {
    match target {
        Target::All => "--all".to_owned(),
        Target::Endpoint(name) => format!("--endpoint {name}"),
        Target::Credential(name) => format!("--credential {name}"),
        Target::Issuer(id) => format!("--issuer {id}"),
    }
}

fn explain(target: &Target) -> String {
    match target {
        Target::Issuer(id) => format!("stillgood explain {id}"),
        other => format!("stillgood explain {}", option(other)),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
