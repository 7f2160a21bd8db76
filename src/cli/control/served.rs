//! What the responder says of an issuer: its signer, its sources, its answers.

use super::convert::{short, window};
use crate::admin::control::{HoldReport, SlotReport, Target};
use crate::config::Renewal;
use crate::renewal::{Limits, Schedule, Standing};
use crate::responder::{IssuerReport, SourceSummary};
use crate::time::Timestamp;
use std::time::Duration;

/// How what the responder says begins among the reasons of a slot.
pub(super) const RESPONDER: &str = "responder: ";
/// A revocation that is not served for longer than these seconds needs somebody; the alert StillgoodRevocationWaits says so too.
const REVOCATION_LATE: u64 = 60;
/// What is said of an issuer whose signer this service would renew, if its agent ran.
const STOPPED: &str = "stopped";

/// What is said of an issuer that gets no other signer.
pub(super) const DISABLED: &str =
    "disabled: the signer is used while it lasts, and not renewed; when it has run out, retire it";

/// Adds what the responder knows to what renewal does.
pub(super) fn add(report: &mut SlotReport, of: &IssuerReport, now: Timestamp) {
    report.entries = Some(of.entries);
    report.oldest_this_update = of.oldest_this_update;
    // As planned, unless what is wrong is something else.
    let is_ending = of.is_ending(now) && of.status_fault.is_none() && of.answer_fault.is_none();
    let cannot_answer = of.cannot_answer(now);
    let trouble = cannot_answer.clone().or_else(|| of.trouble().map(str::to_owned));
    // What is in place, and from when on it is used, renewal has said better.
    let is_told = of.waits_for_signer() && report.phase.as_deref() == Some("staged");
    report.attention |= is_told && !is_ending;
    let mut told = |text: String, presses: bool| {
        let text = format!("{RESPONDER}{text}");
        if presses { report.press(text) } else { report.reasons.push(text) }
    };
    if let Some(trouble) = trouble.as_ref().filter(|trouble| !is_told || Some(*trouble) != of.signer_fault.as_ref()) {
        told(trouble.clone(), !is_ending);
    }
    if of.signer.is_none() && trouble.is_none() {
        let text = "there is no signer: what is signed already is served until it runs out, and nothing follows";
        told(text.into(), !is_ending);
    }
    for (source, at) in of.sources.iter().filter_map(|source| Some((source, source.next_update?))) {
        let is_said = trouble.as_ref().is_some_and(|text| text.contains(&source.file) && text.contains("expired"));
        if at < now && !is_said {
            told(format!("CRL {} expired at {at}: put a newer one in its place", source.file), !is_ending);
        }
    }
    for source in of.sources.iter().filter(|source| source.is_ahead(now)) {
        let is_said = trouble.as_ref().is_some_and(|text| text.contains(&source.file));
        if !is_said {
            let (file, at) = (&source.file, source.data_time);
            told(
                format!("CRL {file} is not valid before {at}: one of the clocks, its CA's or ours, is wrong"),
                !is_ending,
            );
        }
    }
    if let (Some(oldest), Some(until), true, None) =
        (of.oldest_this_update, of.runs_out, of.late_from.is_some_and(|from| from <= now), cannot_answer)
    {
        let text = format!(
            "its oldest answers are of {oldest} and should long have been signed again; they run out at {until}"
        );
        told(text, !is_ending);
    }
    if of.revocation_waits_secs > REVOCATION_LATE {
        let waits = of.revocation_waits_secs;
        let text =
            format!("a revocation that its sources name has not been signed for {waits} s: clients are not told of it");
        told(text, true);
    }
    for source in of.sources.iter().filter(|source| source.quarantined > 0) {
        told(quarantined(source), true);
    }
    if let [first, rest @ ..] = of.refused_segments.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
        // Nobody needs to do anything.
        report.reasons.push(format!("{RESPONDER}refused at the start, and signed anew: {first}{more}"));
    }
}

/// The lines of an index or the entries of a CRL that cannot be read, the first of them with the reason.
fn quarantined(source: &SourceSummary) -> String {
    let SourceSummary { kind, file, quarantined, quarantined_first, .. } = source;
    let (one, many) = if *kind == "index" { ("line", "lines") } else { ("entry", "entries") };
    let what = if *quarantined == 1 { one } else { many };
    let listed = quarantined_first.join("; ");
    let more = quarantined.saturating_sub(quarantined_first.len() as u64);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("{kind} {file}: {quarantined} {what} left out that cannot be read: {listed}{more}")
}

/// An issuer that renewal does not know: its signer is somebody else's to renew, or the agent does not run or does not know
/// it yet.
pub(super) fn only(of: &IssuerReport, renewal: &Renewal, is_down: bool, now: Timestamp) -> SlotReport {
    let state = match (of.is_ordered, is_down) {
        _ if of.is_disabled => Standing::Disabled.name(),
        (false, _) => Standing::Watched.name(),
        (true, true) => STOPPED,
        (true, false) => Standing::Unknown.name(),
    };
    let mut report = SlotReport {
        slot: Target::Issuer(of.id.clone()),
        state: state.into(),
        phase: None,
        endpoint: None,
        order: None,
        cause: None,
        hold: HoldReport::None,
        attention: false,
        reasons: Vec::new(),
        serial: None,
        not_before: None,
        not_after: None,
        window: None,
        failures: 0,
        last_failure: None,
        requests_today: 0,
        certificates_today: 0,
        entries: None,
        oldest_this_update: None,
    };
    life(&mut report, of, renewal, now);
    if of.is_disabled {
        report.reasons.push(DISABLED.into());
    } else if of.is_ordered && is_down {
        report.reasons.push("the renewal agent does not run: the signer is used while it lasts".into());
    }
    add(&mut report, of, now);
    report
}

/// Adds the life of the signer in use, which renewal does not know.
pub(super) fn life(report: &mut SlotReport, of: &IssuerReport, renewal: &Renewal, now: Timestamp) {
    let Some(signer) = &of.signer else { return };
    let (not_before, not_after) = (signer.not_before, signer.not_after);
    let reserve = Duration::from_secs(of.validity_secs).saturating_add(renewal.margin);
    let urgent_share = Limits::default().urgent_share.min(1.0 - renewal.window.end);
    let schedule = Schedule::of_others(not_before, not_after, reserve, renewal.window, urgent_share);
    report.serial = Some(signer.serial.clone());
    (report.not_before, report.not_after) = (Some(not_before), Some(not_after));
    report.window = Some(window(schedule));
    // A disabled one gets no successor.
    if schedule.urgent <= now && !of.is_disabled {
        let whose = if of.is_ordered { "" } else { "; it is not ours to renew: put it into its files" };
        report.press(format!("{}{whose}", short(schedule.deadline, now)));
    }
}
