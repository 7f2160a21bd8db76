//! `status`: how everything is, and what to do next.

use super::super::paper::{Align, Cell, Column, Give, Life, Paper, Table, Tone, count, stamp, when};
use super::super::show::{relative, roughly};
use super::{ATTENTION, EXITS, Where, next_steps, tell};
use crate::admin::control::{AgentReport, Call, EndpointReport, HoldReport, SlotReport, Status, Target};
use crate::time::Timestamp;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

/// How often `--watch` looks again.
const EVERY: Duration = Duration::from_secs(2);
/// Issuers with which all is well are written out up to so many.
const QUIET: usize = 40;

/// Show how issuers, CA services and the registry are, and what to do next.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  stillgood status --config stillgood.toml\n  stillgood status --socket state/admin.sock --watch\n  \
    stillgood status --config stillgood.toml --json | jq '.issuers[] | select(.attention)'\n\n{EXITS}"))]
pub(in super::super) struct Args {
    #[command(flatten)]
    service: Where,
    /// Look again every two seconds, until it is interrupted.
    #[arg(long)]
    watch: bool,
    /// Write out every issuer; otherwise only the first of those with which all is well.
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
pub(in super::super) fn run(args: &Args) -> ExitCode {
    if args.watch {
        return watch(args);
    }
    match args.service.ask::<Status>(&Call::Status {}) {
        Ok(status) => {
            args.service.show(&status, |paper| render(&status, &args.service.option(), args.all, paper));
            if status.attention { ExitCode::from(ATTENTION) } else { ExitCode::SUCCESS }
        }
        Err(trouble) => tell("status", args.service.json, &trouble),
    }
}

fn watch(args: &Args) -> ExitCode {
    let mut out = std::io::stdout();
    let clears = out.is_terminal() && !args.service.json;
    loop {
        let text = match args.service.ask::<Status>(&Call::Status {}) {
            Ok(status) if args.service.json => serde_json::to_string(&status).unwrap_or_default() + "\n",
            Ok(status) => {
                let rows = if clears { rows() } else { None };
                frame(&status, &args.service.option(), args.all, &Paper::of_stdout(), rows)
            }
            // It may come back.
            Err(trouble @ super::Trouble::Unreachable(_)) if clears => format!("{trouble}\n"),
            Err(trouble) => return tell("status", args.service.json, &trouble),
        };
        // Home, the text, and whatever stood below it cleared: no flicker.
        let text = if clears { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS; // nobody reads any more
        }
        std::thread::sleep(EVERY);
    }
}

/// Rows of the terminal.
fn rows() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(_, height)| usize::from(height.0))
}

/// As [`render`], in so many rows: where they are too few, what to do next comes before the rest, and the end is cut off, so
/// that the verdict stays where it is.
pub(super) fn frame(status: &Status, service: &str, all: bool, paper: &Paper, rows: Option<usize>) -> String {
    let whole = render(status, service, all, paper);
    let taken = |line: &str| unicode_width::UnicodeWidthStr::width(bare(line).as_str()).div_ceil(paper.width).max(1);
    // The cursor stands below the last line.
    let Some(room) = rows.map(|rows| rows.saturating_sub(1).max(2)) else { return whole };
    if whole.lines().map(taken).sum::<usize>() <= room {
        return whole;
    }
    let mut parts = head(status, paper);
    if !status.next.is_empty() {
        parts.truncate(parts.trim_end().len());
        parts.push('\n');
        parts.push_str(&paper.title("What to do next"));
        parts.push_str(&next_steps(&status.next, service, paper));
        parts.push('\n');
    }
    parts.push_str(&body(status, all, paper));
    let (mut out, mut left) = (String::new(), room.saturating_sub(1));
    let mut lines = parts.lines();
    let mut cut = 0;
    for line in lines.by_ref() {
        let Some(rest) = left.checked_sub(taken(line)) else {
            cut = 1;
            break;
        };
        left = rest;
        out.push_str(line);
        out.push('\n');
    }
    cut += lines.count();
    let more = format!("{}; without --watch all is shown", count(cut, "more line"));
    out.push_str(&paper.paint(Tone::Faint, more.get(..paper.width.min(more.len())).unwrap_or_default()));
    out.push('\n');
    out
}

/// Without what sets colours.
pub(super) fn bare(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// For people.
pub(super) fn render(status: &Status, service: &str, all: bool, paper: &Paper) -> String {
    let mut out = head(status, paper);
    out.push_str(&body(status, all, paper));
    if !status.next.is_empty() {
        out.push_str(&paper.title("What to do next"));
        out.push_str(&next_steps(&status.next, service, paper));
    }
    out
}

fn body(status: &Status, all: bool, paper: &Paper) -> String {
    let mut out = facts(status, paper);
    if !status.endpoints.is_empty() {
        out.push('\n');
        out.push_str(&endpoints(&status.endpoints, paper));
    }
    let slots: Vec<&SlotReport> = status.credentials.iter().chain(&status.issuers).collect();
    if !slots.is_empty() {
        out.push('\n');
        out.push_str(&issuers(&slots, status.now, all, paper));
    }
    out
}

fn head(status: &Status, paper: &Paper) -> String {
    let up = roughly(status.now.since(status.started).as_secs());
    let name = format!("stillgood {}, process {}, up {up}", status.version, status.pid);
    let at = stamp(status.now);
    let gap = paper.width.saturating_sub(name.len() + at.len()).max(2);
    let (tone, text) = match status.next.iter().filter(|next| next.attention).count() {
        0 => (Tone::Good, "All is well.".to_owned()),
        1 => (Tone::Bad, "One thing needs you.".to_owned()),
        n => (Tone::Bad, format!("{n} things need you.")),
    };
    format!("{}{}{}\n{}\n\n", paper.paint(Tone::Strong, &name), " ".repeat(gap), at, paper.paint(tone, &text))
}

fn facts(status: &Status, paper: &Paper) -> String {
    let now = status.now;
    let mut out = String::new();
    let registry = &status.registry;
    let read = registry.synced_at.map_or_else(|| "never read".to_owned(), |at| format!("read {}", when(at, now)));
    let mut text = match registry.generation {
        Some(generation) => format!("generation {generation}, {read}, {}", count(status.issuers.len(), "issuer")),
        None => format!("none, {read}"),
    };
    if !registry.quarantined.is_empty() {
        let those = count(registry.quarantined.len(), "record");
        text.push_str(&format!("; {those} cannot be used"));
    }
    if let Some((generation, _)) = &registry.held {
        text.push_str(&format!("; generation {generation} waits for approve"));
    }
    let bad = registry.fault.is_some() || registry.held.is_some() || !registry.quarantined.is_empty();
    out.push_str(&paper.pair("registry", &text, if bad { Tone::Warn } else { Tone::Plain }));
    match &status.agent {
        Some(AgentReport { down: Some(_), .. }) => {
            out.push_str(&paper.pair("agent", "does not run: no signer is renewed", Tone::Bad));
        }
        Some(agent) => {
            let pass =
                agent.last_pass.map_or_else(|| "no pass yet".into(), |at| format!("last pass {}", relative(at, now)));
            let seen = format!("{} of {} signers and credentials looked at", agent.checked, agent.known);
            let tone = if agent.overdue || agent.fault.is_some() || !agent.unreadable.is_empty() {
                Tone::Bad
            } else {
                Tone::Plain
            };
            out.push_str(&paper.pair("agent", &format!("{pass}; {seen}"), tone));
        }
        None => out.push_str(&paper.pair("agent", "none: this service renews no signer", Tone::Plain)),
    }
    let presign = &status.presign;
    let mut text = match presign.backlog {
        0 => "nothing waits".to_owned(),
        n => format!("{n} slices and changes are due"),
    };
    if let Some((at, id)) = &presign.oldest_this_update {
        text.push_str(&format!("; oldest thisUpdate {} of {id}", when(*at, now)));
    }
    if presign.missing > 0 {
        text.push_str(&format!("; {} never signed yet", count(presign.missing, "slice")));
    }
    out.push_str(&paper.pair("signing", &text, if presign.missing > 0 { Tone::Warn } else { Tone::Plain }));
    if status.audit.lost > 0 {
        let fault = status.audit.fault.as_deref().unwrap_or("it can be written to again");
        let text = format!("{} events lost: {fault}", status.audit.lost);
        out.push_str(&paper.pair("audit", &text, Tone::Bad));
    }
    for pause in &status.pauses {
        let text = format!("{} until {}, by {}: {}", pause.reach, when(pause.until, now), pause.who, pause.reason);
        out.push_str(&paper.pair("paused", &text, Tone::Warn));
    }
    out
}

fn endpoints(endpoints: &[EndpointReport], paper: &Paper) -> String {
    let left = |title| Column { title, align: Align::Left };
    let right = |title| Column { title, align: Align::Right };
    let columns = vec![
        left("ENDPOINT"),
        left("STATE"),
        right("IN FLIGHT"),
        right("RATE"),
        right("TODAY"),
        right("QUEUED"),
        right("RENEWED"),
    ];
    let mut table = Table::new(columns, vec![(6, Give::Drop), (5, Give::Drop), (3, Give::Drop), (4, Give::Drop)]);
    for endpoint in endpoints {
        let (state, notes) = match endpoint.state.as_str() {
            _ if endpoint.is_pace => (Cell::text("ok").in_tone(Tone::Good), vec![]),
            "ok" => (Cell::text("ok").in_tone(Tone::Good), vec![]),
            why if endpoint.open => (Cell::text("open").in_tone(Tone::Bad), vec![(why.to_owned(), Tone::Bad)]),
            why => (Cell::text("waits").in_tone(Tone::Warn), vec![(why.to_owned(), Tone::Warn)]),
        };
        let share = (endpoint.rate_share.clamp(0.0, 1.0) * 100.0).round();
        table.row(
            vec![
                Cell::text(&endpoint.name),
                state,
                Cell::text(format!("{} of {}", endpoint.in_flight, endpoint.in_flight_limit)),
                Cell::text(format!("{share:.0} %")),
                Cell::text(endpoint.requests_today.to_string()),
                Cell::text(endpoint.queued.to_string()),
                Cell::text(endpoint.signer_changes.to_string()),
            ],
            notes,
        );
    }
    table.render(paper)
}

fn issuers(slots: &[&SlotReport], now: Timestamp, all: bool, paper: &Paper) -> String {
    let left = |title| Column { title, align: Align::Left };
    let columns = vec![
        left("SIGNER OF"),
        left("STATE"),
        left("PHASE"),
        left("DUE"),
        left("DEADLINE"),
        left("NOT AFTER"),
        left("LIFE"),
        left("SERIAL"),
    ];
    let gives = vec![
        (7, Give::Drop),
        (5, Give::Shorten),
        (5, Give::Drop),
        (4, Give::Shorten),
        (3, Give::Shorten),
        (2, Give::Shorten),
        (1, Give::Drop),
        (4, Give::Drop),
        (6, Give::Drop),
    ];
    let mut table = Table::new(columns, gives);
    let (loud, quiet): (Vec<&SlotReport>, Vec<&SlotReport>) = slots.iter().copied().partition(|s| s.attention);
    let shown = if all { quiet.len() } else { QUIET.min(quiet.len()) };
    for slot in loud.into_iter().chain(quiet.iter().copied().take(shown)) {
        let tone = if slot.attention { Tone::Bad } else { Tone::Faint };
        let notes = slot.reasons.iter().map(|reason| (reason.clone(), tone)).collect();
        table.row(row(slot, now), notes);
    }
    let mut out = table.render(paper);
    if shown < quiet.len() {
        let rest = format!("and {} more with which all is well; --all writes them out", quiet.len() - shown);
        out.push_str(&paper.wrap(&rest, 0, Tone::Faint));
    }
    if out.contains(['●', 'o']) && paper.width >= 60 {
        out.push_str(&paper.wrap(&Life::legend(paper), 0, Tone::Faint));
    }
    out
}

fn row(slot: &SlotReport, now: Timestamp) -> Vec<Cell> {
    let name = match &slot.slot {
        Target::Credential(endpoint) => Cell::text(format!("credential of {endpoint}")).or(format!("({endpoint})")),
        other => Cell::text(other.to_string()),
    };
    let time =
        |at: Option<Timestamp>| at.map_or_else(|| Cell::text(""), |at| Cell::text(when(at, now)).or(relative(at, now)));
    let life = life(slot, now);
    let pressing = life.map_or(Tone::Plain, |life| life.tone());
    let pressing = if pressing == Tone::Good { Tone::Plain } else { pressing };
    vec![
        if slot.attention { name.in_tone(Tone::Strong) } else { name },
        Cell::text(&slot.state).in_tone(if slot.state == "active" { Tone::Plain } else { Tone::Faint }),
        phase(slot),
        time(slot.window.map(|window| window.due)).in_tone(pressing),
        time(slot.window.map(|window| window.deadline)),
        time(slot.not_after),
        life.map_or_else(|| Cell::text(""), Cell::Bar),
        Cell::text(slot.serial.clone().unwrap_or_default()).in_tone(Tone::Faint),
    ]
}

/// The phase, or what holds it, which is what one wants to see.
fn phase(slot: &SlotReport) -> Cell {
    match (&slot.hold, slot.phase.as_deref()) {
        (HoldReport::Parked { .. }, _) => Cell::text("parked").in_tone(Tone::Bad),
        (HoldReport::Approval { .. }, _) => Cell::text("staged").in_tone(Tone::Warn),
        (HoldReport::Backoff { .. }, _) => Cell::text("backs off").or("backoff").in_tone(Tone::Warn),
        (HoldReport::None, Some(phase)) => {
            Cell::text(phase).in_tone(if phase == "idle" { Tone::Plain } else { Tone::Mark })
        }
        (HoldReport::None, None) if slot.state != "watched" => Cell::text("-").in_tone(Tone::Faint),
        (HoldReport::None, None) => Cell::text("not ours").or("-").in_tone(Tone::Faint),
    }
}

/// The bar of a slot that has a certificate.
pub(super) fn life(slot: &SlotReport, now: Timestamp) -> Option<Life> {
    let window = slot.window.map(|w| [w.opens, w.due, w.closes, w.urgent, w.deadline]);
    Some(Life { now, not_before: slot.not_before?, not_after: slot.not_after?, window })
}
