//! `plan`: when what will be renewed, and what another registry would change.

use super::super::paper::{Align, Cell, Column, Give, Paper, Table, Tone, count, histogram, stamp, when};
use super::super::show::relative;
use super::{ATTENTION, EXITS, Trouble, Where, tell};
use crate::admin::control::{Call, Impact, PlanReport};
use crate::time::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

/// Names of a kind that are written out.
const NAMED: usize = 20;
/// Days of the calendar that are written out.
const DAYS: usize = 31;
/// The most hours in a column of the histogram: what comes months from now must not flatten what comes tomorrow.
const PER: usize = 6;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// Show when which signer will be renewed, or what another registry would change.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  stillgood plan --config stillgood.toml\n  \
    stillgood plan --config stillgood.toml --registry issuers.new.json   before it is put in place\n\n\
    With --registry, exit status 1 says that the file would be held or refused, and 4 that no registry can be read from it.\n{EXITS}"))]
pub(in super::super) struct Args {
    #[command(flatten)]
    service: Where,
    /// What this registry would change if it were the one in use. The service reads the file itself.
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// The next requests that are written out.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

/// Runs the verb.
pub(in super::super) fn run(args: &Args) -> ExitCode {
    let done = match &args.registry {
        None => args.service.ask::<PlanReport>(&Call::Plan {}).map(|plan| {
            args.service.show(&plan, |paper| render(&plan, args.limit, paper));
            ExitCode::SUCCESS
        }),
        Some(file) => std::path::absolute(file)
            .map_err(|error| Trouble::Usage(format!("{}: {error}", file.display())))
            .and_then(|file| args.service.ask::<Impact>(&Call::Impact { file }))
            .map(|impact| {
                args.service.show(&impact, |paper| render_impact(&impact, paper));
                let fine = impact.refused.is_empty() && impact.held.is_none();
                if fine { ExitCode::SUCCESS } else { ExitCode::from(ATTENTION) }
            }),
    };
    done.unwrap_or_else(|trouble| tell("plan", args.service.json, &trouble))
}

/// The calendar, for people.
pub(super) fn render(plan: &PlanReport, limit: usize, paper: &Paper) -> String {
    let now = plan.now;
    let mut out = paper.paint(Tone::Strong, &format!("Plan of {}", stamp(now)));
    let left_out = match plan.left_out {
        0 => String::new(),
        n => format!("; {n} not in it: not active, watched only, or nothing known of the certificate"),
    };
    out.push('\n');
    out.push_str(&paper.wrap(
        &format!("{} planned if nothing happens{left_out}", count(plan.entries.len(), "request")),
        0,
        Tone::Plain,
    ));
    for pause in &plan.pauses {
        let text = format!("{} is paused until {}: {}", pause.reach, when(pause.until, now), pause.reason);
        out.push_str(&paper.wrap(&text, 0, Tone::Warn));
    }
    if plan.entries.is_empty() {
        return out;
    }
    out.push_str(&hours(plan, paper));
    out.push_str(&days(plan, paper));
    out.push_str(&paper.title(if plan.entries.len() > limit { "Next requests" } else { "Requests" }));
    out.push_str(&table(plan, limit, paper));
    if plan.entries.len() > limit {
        let text = format!("and {} more; --limit N shows them, --json all", plan.entries.len() - limit);
        out.push_str(&paper.wrap(&text, 0, Tone::Faint));
    }
    out
}

/// Requests by hour, up to [`PER`] hours to a column; what lies beyond is counted.
fn hours(plan: &PlanReport, paper: &Paper) -> String {
    const MARGIN: usize = 7;
    const HEIGHT: usize = 6;
    let start = plan.now.unix() - plan.now.unix().rem_euclid(HOUR);
    let hour = |at: Timestamp| usize::try_from((at.unix() - start) / HOUR).unwrap_or(0);
    let all = plan.by_hour.keys().last().map_or(0, |at| hour(*at)) + 1;
    let room = paper.width.saturating_sub(MARGIN + 1).max(10);
    let per = all.div_ceil(room).clamp(1, PER);
    let columns = all.div_ceil(per).min(room);
    let mut buckets = vec![0_usize; columns];
    let mut later = 0;
    for (at, n) in &plan.by_hour {
        match buckets.get_mut(hour(*at) / per) {
            Some(bucket) => *bucket += n,
            None => later += n,
        }
    }
    let most = buckets.iter().copied().max().unwrap_or(0);
    let each = if per == 1 { "hour".to_owned() } else { format!("{per} hours") };
    let mut out = paper.title(&format!("Requests per {each}"));
    let (wall, corner, floor) = if paper.unicode { ('│', '└', '─') } else { ('|', '+', '-') };
    for (number, line) in histogram(&buckets, HEIGHT, paper).into_iter().enumerate() {
        let scale = if number == 0 { most.to_string() } else { String::new() };
        let text = format!("{scale:>width$} {wall}{}", paper.paint(Tone::Mark, &line), width = MARGIN - 2);
        out.push_str(text.trim_end());
        out.push('\n');
    }
    let line: String = std::iter::repeat_n(floor, columns).collect();
    out.push_str(&format!("{:>width$} {corner}{line}\n", "0", width = MARGIN - 2));
    let end = Timestamp::from_unix(start + HOUR * i64::try_from(columns * per).unwrap_or(0));
    let (from, to) = (stamp(Timestamp::from_unix(start)), stamp(end));
    let axis = if columns >= from.len() + to.len() + 2 {
        format!("{from}{}{to}", " ".repeat(columns - from.len() - to.len()))
    } else {
        let day = |text: &str| text.get(..10).unwrap_or_default().to_owned();
        format!("{} to {}", day(&from), day(&to))
    };
    out.push_str(&paper.paint(Tone::Faint, &format!("{}{axis}", " ".repeat(MARGIN))));
    out.push('\n');
    if later > 0 {
        out.push_str(&paper.wrap(&format!("and {} later", count(later, "request")), MARGIN, Tone::Faint));
    }
    out
}

fn days(plan: &PlanReport, paper: &Paper) -> String {
    let mut days = std::collections::BTreeMap::<i64, usize>::new();
    for (at, n) in &plan.by_hour {
        *days.entry(at.unix().div_euclid(DAY)).or_default() += n;
    }
    let most = days.values().copied().max().unwrap_or(1).max(1);
    let wide = most.to_string().len();
    let room = paper.width.saturating_sub(14 + wide).max(1);
    let mut out = paper.title("Requests by day");
    for (day, n) in days.iter().take(DAYS) {
        let date = stamp(Timestamp::from_unix(day * DAY));
        let length = (n * room).div_ceil(most).min(room);
        let glyph = if paper.unicode { "█" } else { "#" };
        let bar = paper.paint(Tone::Mark, &glyph.repeat(length));
        out.push_str(&format!("{}  {n:>wide$}  {bar}\n", date.get(..10).unwrap_or_default()));
    }
    if days.len() > DAYS {
        let rest: usize = days.values().skip(DAYS).sum();
        out.push_str(&paper.wrap(&format!("and {rest} on {} later days", days.len() - DAYS), 0, Tone::Faint));
    }
    out
}

fn table(plan: &PlanReport, limit: usize, paper: &Paper) -> String {
    let left = |title| Column { title, align: Align::Left };
    let columns = vec![left("SIGNER OF"), left("AT"), left("ENDPOINT"), left("CAUSE"), left("PHASE"), left("DEADLINE")];
    let gives = vec![
        (5, Give::Shorten),
        (4, Give::Drop),
        (1, Give::Shorten),
        (3, Give::Drop),
        (2, Give::Drop),
        (5, Give::Drop),
    ];
    let mut table = Table::new(columns, gives);
    for entry in plan.entries.iter().take(limit) {
        let time = |at: Timestamp| Cell::text(when(at, plan.now)).or(relative(at, plan.now));
        table.row(
            vec![
                Cell::text(entry.slot.to_string()),
                time(entry.at.max(plan.now)),
                Cell::text(&entry.endpoint),
                Cell::text(&entry.cause),
                Cell::text(&entry.phase),
                time(entry.deadline).in_tone(if entry.deadline <= plan.now { Tone::Bad } else { Tone::Plain }),
            ],
            vec![],
        );
    }
    table.render(paper)
}

/// What another registry would change, for people.
pub(super) fn render_impact(impact: &Impact, paper: &Paper) -> String {
    let in_use = impact.in_use.map_or_else(|| "none".to_owned(), |generation| format!("generation {generation}"));
    let mut out =
        paper.wrap(&format!("{}: generation {} (in use: {in_use})", impact.file, impact.generation), 0, Tone::Strong);
    for why in &impact.refused {
        out.push_str(&paper.wrap(&format!("It would be refused: {why}"), 0, Tone::Bad));
    }
    if let Some(why) = &impact.held {
        let text = format!("It would be held until `stillgood approve --registry {}`: {why}", impact.generation);
        out.push_str(&paper.wrap(&text, 0, Tone::Warn));
    }
    let kinds = [
        ("added", &impact.added, "not known so far"),
        ("removed", &impact.removed, "answered unauthorized"),
        ("disabled", &impact.disabled, "asked for no more; served while the signer lasts"),
        ("retired", &impact.retired, "answered unauthorized"),
        ("activated", &impact.activated, "active again"),
        ("moved", &impact.moved, "another enrolment, profile or CA certificate"),
        ("unusable", &impact.unusable, "served on as before, and not renewed"),
    ];
    let changed: usize = kinds.iter().map(|(_, those, _)| those.len()).sum();
    let share = (impact.share * 100.0).round();
    let text = format!("{changed} of {} would change ({share:.0} %).", count(impact.known, "known issuer"));
    out.push_str(&paper.wrap(&text, 0, Tone::Plain));
    for (kind, those, meaning) in kinds.iter().filter(|(_, those, _)| !those.is_empty()) {
        out.push_str(&paper.title(&format!("{} {kind}: {meaning}", those.len())));
        let mut names = those.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        if those.len() > NAMED {
            names.push_str(&format!(" and {} more", those.len() - NAMED));
        }
        out.push_str(&paper.wrap(&names, 2, Tone::Plain));
    }
    if !impact.quarantined.is_empty() {
        out.push_str(&paper.title(&format!("{} cannot be used", count(impact.quarantined.len(), "record"))));
        for quarantine in impact.quarantined.iter().take(NAMED) {
            let text = format!("{}: {}", quarantine.record, quarantine.faults.join("; "));
            out.push_str(&paper.wrap(&text, 2, Tone::Bad));
        }
    }
    let requests = format!(
        "It would cause {} soon, at the endpoints' rates, and cancel {} not sent yet.",
        count(impact.requests, "request"),
        count(impact.cancelled, "order")
    );
    out.push('\n');
    out.push_str(&paper.wrap(&requests, 0, Tone::Plain));
    out
}
