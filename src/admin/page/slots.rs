//! Issuers and client certificates: those in trouble first, and of the others as many as a page may hold.

use super::super::control::{HoldReport, SlotReport, Status};
use super::draw;
use super::text::{Text, time};
use crate::time::Timestamp;
use std::fmt::Write as _;

/// Slots that need somebody.
const LOUD: usize = 200;
/// Slots with which all is well.
const QUIET: usize = 100;
/// Reasons of one slot.
const REASONS: usize = 4;

pub(super) fn issuers(status: &Status, out: &mut String) {
    let all = status.credentials.iter().chain(&status.issuers);
    let (loud, quiet): (Vec<&SlotReport>, Vec<&SlotReport>) = all.partition(|slot| slot.attention);
    out.push_str("<h2>Issuers and their signers</h2>\n");
    if loud.is_empty() && quiet.is_empty() {
        out.push_str("<p>none</p>\n");
        return;
    }
    let _ = write!(
        out,
        "<table class=\"rows slots\"><caption>{}</caption><thead><tr><th scope=\"col\">Signer of</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Life</th><th scope=\"col\" class=\"wide\">Due</th><th scope=\"col\" class=\"wide\">Deadline</th>\
         <th scope=\"col\" class=\"wide\">notAfter</th><th scope=\"col\" class=\"wide\">Oldest thisUpdate</th></tr></thead>\n<tbody>\n",
        draw::LEGEND
    );
    for slot in loud.iter().take(LOUD).chain(quiet.iter().take(QUIET)) {
        row(slot, status.now, out);
    }
    out.push_str("</tbody></table>\n");
    for (there_are, shown, what) in
        [(loud.len(), LOUD, "that need somebody"), (quiet.len(), QUIET, "with which all is well")]
    {
        if there_are > shown {
            let _ = writeln!(
                out,
                "<p>and {} more {what}; <code>stillgood status --all{}</code> shows them</p>",
                there_are - shown,
                Text(&super::socket_option(status))
            );
        }
    }
}

fn row(slot: &SlotReport, now: Timestamp, out: &mut String) {
    let at = |at: Option<Timestamp>| at.map_or_else(|| "–".to_owned(), |at| time(at, now));
    let (tone, held) = held(slot);
    // Beside the bar where there is no room for the other columns.
    let in_words = slot.window.map_or_else(String::new, |window| {
        let (due, deadline) = (time(window.due, now), time(window.deadline, now));
        format!("<small class=\"narrow faint\"><span>due {due},</span> <span>deadline {deadline}</span></small>")
    });
    let _ = writeln!(
        out,
        "<tr><th scope=\"row\">{}{}</th><td>{}<br/><span class=\"{tone}\">{held}</span></td><td>{}{}</td><td class=\"wide\">{}</td>\
         <td class=\"wide\">{}</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td></tr>",
        // No line ends between the mark and the name.
        if slot.attention { "<span class=\"bad\">⚠</span>\u{a0}" } else { "" },
        Text(&slot.slot.to_string()),
        Text(&slot.state),
        draw::life(slot, now).unwrap_or_else(|| "no certificate".to_owned()),
        in_words,
        at(slot.window.map(|window| window.due)),
        at(slot.window.map(|window| window.deadline)),
        at(slot.not_after),
        at(slot.oldest_this_update)
    );
    let tone_of_reasons = if slot.attention { "bad" } else { "faint" };
    // What is parked says its reason there already, as a rule.
    let parked = match &slot.hold {
        HoldReport::Parked { text, .. } if !slot.reasons.iter().any(|reason| reason.contains(text)) => Some(text),
        _ => None,
    };
    if parked.is_some() || !slot.reasons.is_empty() {
        // In a row of their own, so that they leave the columns their width.
        let _ = write!(out, "<tr class=\"why\"><td colspan=\"7\"><ul class=\"{tone_of_reasons}\">");
        for reason in parked.into_iter().chain(&slot.reasons).take(REASONS) {
            let _ = write!(out, "<li>{}</li>", Text(reason));
        }
        if slot.reasons.len() > REASONS {
            let _ = write!(out, "<li>and {} more</li>", slot.reasons.len() - REASONS);
        }
        out.push_str("</ul></td></tr>\n");
    }
}

/// What holds the slot, or else its phase.
fn held(slot: &SlotReport) -> (&'static str, String) {
    match (&slot.hold, slot.phase.as_deref()) {
        (HoldReport::Parked { why, .. }, _) => ("bad", format!("⚠\u{a0}parked: {}", Text(why))),
        // Its serial number is among the reasons.
        (HoldReport::Approval { .. }, _) => ("warn", "⚠\u{a0}waits for approve".to_owned()),
        (HoldReport::Backoff { .. }, _) => ("warn", "⚠\u{a0}backs off".to_owned()),
        (HoldReport::None, Some(phase)) => ("faint", Text(phase).to_string()),
        (HoldReport::None, None) if slot.state == "disabled" => ("faint", "not renewed any more".to_owned()),
        (HoldReport::None, None) if slot.state != "watched" => ("warn", "⚠\u{a0}not renewed now".to_owned()),
        (HoldReport::None, None) => ("faint", "renewed by others".to_owned()),
    }
}
