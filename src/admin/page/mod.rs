//! The status page: what `status` says in a terminal, in a browser. HTML and inline SVG from the same report, no script,
//! nothing loaded from elsewhere, and of a bounded size however many issuers there are.

mod draw;
mod slots;
mod text;
mod traffic;

pub(super) use traffic::{Meter, Traffic};

use super::control::{AgentReport, RegistryReport, Status, shell_word};
use crate::time::Timestamp;
use std::fmt::Write as _;
use text::{Text, count, relative, span, time};

/// Seconds until a browser asks for the page again.
const REFRESH: u32 = 30;
/// Lines of each list but that of the issuers; what is left out is counted.
const LINES: usize = 50;
/// Faults of one record.
const FAULTS: usize = 5;
/// What the page may do: have a style, and nothing else.
pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("style.css");

/// The page of this moment.
pub(super) fn render(status: &Status, traffic: &Traffic) -> String {
    let now = status.now;
    let pressing = status.next.iter().filter(|next| next.attention).count();
    let (tone, verdict) = match pressing {
        0 => ("good", "✓ All is well.".to_owned()),
        1 => ("bad", "⚠ One thing needs you.".to_owned()),
        n => ("bad", format!("⚠ {n} things need you.")),
    };
    let mut out = head(if pressing == 0 { "all is well".to_owned() } else { format!("({pressing}) needs you") });
    let _ = write!(
        out,
        "<h1>stillgood</h1>\n<p class=\"faint\">version {}, process {}, up {}; as of {now}, again every {REFRESH} s. \
         All times are UTC.</p>\n<p class=\"verdict {tone}\">{verdict}</p>\n",
        Text(&status.version),
        status.pid,
        span(now.since(status.started).as_secs())
    );
    next(status, &mut out);
    facts(status, &mut out);
    registry(&status.registry, now, &mut out);
    pauses(status, &mut out);
    slots::issuers(status, &mut out);
    calendar(status, &mut out);
    traffic.write(&mut out);
    endpoints(status, &mut out);
    out.push_str(
        "<nav aria-label=\"Other pages\"><p class=\"faint\"><a href=\"/readyz\">readyz</a> · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/status.json\">status.json</a></p></nav>\n</main></body></html>\n",
    );
    out
}

/// What is shown before there is a report.
pub(super) fn starting() -> String {
    head("starting".to_owned())
        + "<h1>stillgood</h1>\n<p>The service is starting; this page comes again.</p>\n</main></body></html>\n"
}

fn head(title: String) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>stillgood: {title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/><meta name=\"robots\" content=\"noindex\"/>\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\"/><style>{STYLE}</style></head>\n<body><main>\n"
    )
}

fn next(status: &Status, out: &mut String) {
    if status.next.is_empty() {
        return;
    }
    // With it a command can be copied as it stands.
    let option = socket_option(status);
    out.push_str("<h2>What to do next</h2>\n<ol class=\"next\">\n");
    for step in status.next.iter().take(LINES) {
        // No line ends between the mark and the name.
        let (tone, mark) = if step.attention { ("bad", "⚠\u{a0}") } else { ("", "") };
        let _ = write!(out, "<li><span class=\"{tone}\">{mark}{}</span>", Text(&step.text));
        if let Some(command) = &step.command {
            let _ = write!(out, "<br/><code>{}{}</code>", Text(command), Text(&option));
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n");
    left_out(status.next.len(), out);
}

/// What a command needs, so that it means this service.
fn socket_option(status: &Status) -> String {
    format!(" --socket {}", shell_word(&status.socket.display().to_string()))
}

fn facts(status: &Status, out: &mut String) {
    let now = status.now;
    out.push_str("<h2>How it is</h2>\n<dl>\n");
    let mut fact = |name: &str, tone: &str, text: String| {
        let mark = if tone.is_empty() { "" } else { "⚠ " };
        let _ = writeln!(out, "<dt>{name}</dt><dd class=\"{tone}\">{mark}{text}</dd>");
    };
    let registry = &status.registry;
    let read = registry.synced_at.map_or_else(|| "never read".to_owned(), |at| format!("last read {}", time(at, now)));
    let generation = registry.generation.map_or_else(|| "none".to_owned(), |n| format!("generation {n}"));
    let issuers = count(status.issuers.len(), "issuer");
    fact("Registry", "", format!("{generation}, {read}, {issuers}"));
    if status.agent.is_some() && !registry.fresh {
        fact("", "warn", "not read recently enough for renewals to start".to_owned());
    }
    match &status.agent {
        None => fact("Agent", "", "none: this service renews no signer".to_owned()),
        Some(AgentReport { down: Some(fault), .. }) => {
            fact("Agent", "bad", format!("does not run, so that no signer is renewed: {}", Text(fault)));
        }
        Some(agent) => {
            let pass =
                agent.last_pass.map_or_else(|| "no pass yet".into(), |at| format!("last pass {}", time(at, now)));
            let seen = format!("{} of {} signers and credentials looked at", agent.checked, agent.known);
            let late = if agent.overdue { "; it is overdue" } else { "" };
            fact("Agent", if agent.overdue { "bad" } else { "" }, format!("{pass}; {seen}{late}"));
            if let Some(fault) = &agent.fault {
                fact("", "bad", format!("the ledger cannot be written: {}", Text(fault)));
            }
            // Records that cannot be used have a list of their own.
            let is_told = |name: &str| registry.quarantined.iter().any(|quarantine| quarantine.record == name);
            for (name, why) in agent.unreadable.iter().filter(|(name, _)| !is_told(name)).take(LINES) {
                fact("", "bad", format!("{}: {}", Text(name), Text(why)));
            }
        }
    }
    if status.files.overdue {
        let since = status.files.last_pass.map_or_else(|| "since the start".into(), |at| time(at, now));
        fact("Files", "bad", format!("last looked at {since}: a change in them is not seen"));
    }
    let presign = &status.presign;
    let due = match presign.backlog {
        0 => "nothing waits".to_owned(),
        n => format!("{n} slices and changes are due"),
    };
    let failed = if presign.failures > 0 { format!("; {} attempts failed", presign.failures) } else { String::new() };
    fact("Signing", "", format!("{due}; {} signed since the start{failed}", presign.signed));
    if presign.missing > 0 {
        fact("", "warn", format!("{} never signed yet", count(presign.missing, "slice")));
    }
    match &presign.oldest_this_update {
        Some((at, id)) => fact("Oldest thisUpdate", "", format!("{} of {}", time(*at, now), Text(id))),
        None => fact("Oldest thisUpdate", "", "no response is held".to_owned()),
    }
    if status.audit.lost > 0 || status.audit.fault.is_some() {
        let fault = status.audit.fault.as_deref().unwrap_or("it can be written to again");
        fact("Audit trail", "bad", format!("{} events lost: {}", status.audit.lost, Text(fault)));
    }
    out.push_str("</dl>\n");
}

fn registry(registry: &RegistryReport, now: Timestamp, out: &mut String) {
    if registry.fault.is_none() && registry.held.is_none() && registry.quarantined.is_empty() {
        return;
    }
    out.push_str("<h2>Held back from the registry</h2>\n<ul>\n");
    if let Some(fault) = &registry.fault {
        let since = registry.synced_at.map_or_else(String::new, |at| format!(" (last read {})", relative(at, now)));
        let _ = writeln!(out, "<li class=\"bad\">⚠ the last reading was refused{since}: {}</li>", Text(fault));
    }
    if let Some((generation, changes)) = &registry.held {
        let _ = writeln!(out, "<li class=\"warn\">⚠ generation {generation} waits for approve: {}</li>", Text(changes));
    }
    for record in registry.quarantined.iter().take(LINES) {
        let _ = write!(out, "<li class=\"bad\">⚠ quarantined: record {}", Text(&record.record));
        for (n, fault) in record.faults.iter().take(FAULTS).enumerate() {
            let _ = write!(out, "{} {}", if n == 0 { ":" } else { ";" }, Text(fault));
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ul>\n");
    left_out(registry.quarantined.len(), out);
}

fn pauses(status: &Status, out: &mut String) {
    if status.pauses.is_empty() {
        return;
    }
    out.push_str("<h2>Paused</h2>\n<ul>\n");
    for pause in status.pauses.iter().take(LINES) {
        let _ = writeln!(
            out,
            "<li class=\"warn\">⚠ {} until {}, by {}: {}</li>",
            Text(&pause.reach.to_string()),
            time(pause.until, status.now),
            Text(&pause.who),
            Text(&pause.reason)
        );
    }
    out.push_str("</ul>\n");
    left_out(status.pauses.len(), out);
}

fn calendar(status: &Status, out: &mut String) {
    let renewed = status.credentials.iter().chain(&status.issuers).filter(|slot| slot.phase.is_some());
    let dues: Vec<Timestamp> =
        renewed.filter(|slot| slot.state == "active").filter_map(|slot| Some(slot.window?.due)).collect();
    if let Some(picture) = draw::calendar(&dues, status.now) {
        out.push_str("<h2>Renewal calendar</h2>\n");
        out.push_str(&picture);
    }
}

fn endpoints(status: &Status, out: &mut String) {
    if status.endpoints.is_empty() {
        return;
    }
    out.push_str(
        "<h2>CA services</h2>\n<table class=\"rows\"><thead><tr><th scope=\"col\">Service</th><th scope=\"col\">State</th>\
         <th scope=\"col\" class=\"n wide\">In flight</th><th scope=\"col\" class=\"n wide\">Rate</th><th scope=\"col\" class=\"n\">Today</th>\
         <th scope=\"col\" class=\"n wide\">Queued</th><th scope=\"col\" class=\"n wide\">Renewed</th></tr></thead>\n<tbody>\n",
    );
    for endpoint in status.endpoints.iter().take(LINES) {
        let (tone, state) = match endpoint.state.as_str() {
            "ok" => ("good", "ok"),
            _ if endpoint.is_pace => ("good", "ok"),
            _ if endpoint.open => ("bad", "⚠ open"),
            _ => ("warn", "⚠ waits"),
        };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"{tone}\">{state}</td><td class=\"n wide\">{} of {}</td><td class=\"n wide\">{:.0} %</td>\
             <td class=\"n\">{}</td><td class=\"n wide\">{}</td><td class=\"n wide\">{}</td></tr>",
            Text(&endpoint.name),
            endpoint.in_flight,
            endpoint.in_flight_limit,
            endpoint.rate_share.clamp(0.0, 1.0) * 100.0,
            endpoint.requests_today,
            endpoint.queued,
            endpoint.signer_changes
        );
        if state != "ok" {
            let state = Text(&endpoint.state);
            let _ = writeln!(out, "<tr class=\"why\"><td colspan=\"7\" class=\"{tone}\">{state}</td></tr>");
        }
    }
    out.push_str("</tbody></table>\n");
    left_out(status.endpoints.len(), out);
}

/// Says what a list of [`LINES`] does not show.
fn left_out(there_are: usize, out: &mut String) {
    if there_are > LINES {
        let _ = writeln!(out, "<p>and {} more</p>", there_are - LINES);
    }
}

#[cfg(test)]
mod tests;
