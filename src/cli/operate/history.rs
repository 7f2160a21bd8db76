//! `history`: what happened, from the audit trail.

use super::super::paper::{Paper, Tone, count, stamp};
use super::{EXITS, Trouble, Where, tell};
use crate::admin::control::{Call, Target};
use crate::audit::{self, About, AuditEvent, Filter, History, Outcome, What, Whom};
use crate::config::HumanDuration;
use crate::time::{Clock, SystemClock, Timestamp};
use std::process::ExitCode;

/// Show what was done to which signer, when, by whom, and why: the audit trail.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("The newest is last. With --config it is read from the files where no service answers.\n\n\
    Examples:\n  stillgood history --config stillgood.toml\n  stillgood history issuing-ca-1 --since 2d --config stillgood.toml\n  \
    stillgood history --endpoint main --limit 500 --json --socket state/admin.sock\n\n{EXITS}"))]
pub(in super::super) struct Args {
    #[command(flatten)]
    service: Where,
    /// Only what concerns this issuer.
    #[arg(value_name = "ISSUER", conflicts_with = "endpoint")]
    issuer: Option<String>,
    /// Only what concerns this CA service: its requests, and our client certificate there.
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// Only what is younger than this: "90m", "2d", "1w".
    #[arg(long, value_name = "DURATION")]
    since: Option<HumanDuration>,
    /// At most so many events, the newest; 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

/// Runs the verb.
pub(in super::super) fn run(args: &Args) -> ExitCode {
    let now = SystemClock.now();
    let about = match (&args.issuer, &args.endpoint) {
        (Some(id), _) => Some(Target::Issuer(id.clone())),
        (None, Some(name)) => Some(Target::Endpoint(name.clone())),
        (None, None) => None,
    };
    let since = args.since.map(|span| now.minus(span.0));
    let limit = usize::from(args.limit);
    let asked = args.service.ask::<History>(&Call::History { about, since, limit });
    match asked.or_else(|trouble| from_files(args, trouble, since, limit)) {
        Ok(history) => {
            args.service.show(&history, |paper| render(&history, now, paper));
            if let Some(hint) = args.issuer.as_ref().or(args.endpoint.as_ref()).and_then(|name| unknown(name, &history))
            {
                crate::cli::print_error(&hint);
            }
            ExitCode::SUCCESS
        }
        Err(trouble) => tell("history", args.service.json, &trouble),
    }
}

/// What is about everything is shown for every name, also for one that there never was.
fn unknown(name: &str, history: &History) -> Option<String> {
    let is_named = |event: &AuditEvent| event.about != About::All || event.endpoint.as_deref() == Some(name);
    (!history.more && !history.events.iter().any(is_named)).then(|| {
        format!("history: none of these events names {name}: nothing happened to it, or there is no such name; `stillgood status` has the names\n")
    })
}

/// What happened can be read when nothing runs any more, which is when one wants to know.
fn from_files(args: &Args, trouble: Trouble, since: Option<Timestamp>, limit: usize) -> Result<History, Trouble> {
    let (Trouble::Unreachable(text), Ok((_, Some(dir)))) = (&trouble, args.service.find()) else {
        return Err(trouble);
    };
    let about = match (&args.issuer, &args.endpoint) {
        (Some(id), _) => Some(Whom::Issuer(id.clone())),
        (None, name) => name.clone().map(Whom::Endpoint),
    };
    match audit::history(&dir, &Filter { about, since, limit }) {
        Ok(history) if dir.is_dir() => {
            crate::cli::print_error(&format!("{text}\nread from {}:\n", dir.display()));
            Ok(history)
        }
        Ok(_) => Err(trouble),
        Err(error) => Err(Trouble::Failed(format!("{text}; and {} cannot be read: {error}", dir.display()))),
    }
}

/// For people.
pub(super) fn render(history: &History, now: Timestamp, paper: &Paper) -> String {
    let mut out = String::new();
    if history.events.is_empty() {
        out.push_str("Nothing was written down that fits.\n");
    }
    if history.more {
        out.push_str(&paper.wrap("there are older events; --limit and --since show them", 0, Tone::Faint));
    }
    if history.unreadable > 0 {
        let lines = count(usize::try_from(history.unreadable).unwrap_or(usize::MAX), "line");
        let text = format!("{lines} of the trail cannot be read: cut short by a crash or a full disk, or not ours");
        out.push_str(&paper.wrap(&text, 0, Tone::Warn));
    }
    out + &lines(&history.events, now, paper)
}

/// An event a line, with its words wrapped beside its time; the day is written where it changes.
pub(super) fn lines(events: &[AuditEvent], now: Timestamp, paper: &Paper) -> String {
    const TIME: usize = 11;
    let mut out = String::new();
    let mut day = String::new();
    for event in events {
        let at = event.at.to_string();
        let (date, time) = (at.get(..10).unwrap_or_default(), at.get(11..).unwrap_or_default());
        if date != day {
            let today = if stamp(now).starts_with(date) { " (today)" } else { "" };
            out.push_str(&paper.paint(Tone::Strong, &format!("{date}{today}")));
            out.push('\n');
            date.clone_into(&mut day);
        }
        let text = paper.wrap(&sentence(event), TIME, tone(event));
        out.push_str(&paper.paint(Tone::Faint, &format!("{time:<TIME$}")));
        out.push_str(text.get(TIME..).unwrap_or_default());
    }
    out
}

fn sentence(event: &AuditEvent) -> String {
    let mut out = format!("{}: {}", event.about, event.what.name());
    if let Some(outcome) = event.outcome {
        out.push_str(&format!(" {}", outcome.name()));
    }
    if let Some(attempt) = event.attempt {
        out.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(cause) = &event.cause {
        out.push_str(&format!(", cause {cause}"));
    }
    if let Some(endpoint) = &event.endpoint {
        out.push_str(&format!(", at {endpoint}"));
    }
    if let Some(serial) = &event.serial {
        out.push_str(&format!(", serial {serial}"));
    }
    if let Some(order) = &event.order {
        out.push_str(&format!(", order {order}"));
    }
    if !event.text.is_empty() {
        out.push_str(&format!(": {}", event.text));
    }
    if event.who != "agent" {
        out.push_str(&format!(" [{}]", event.who));
    }
    out
}

fn tone(event: &AuditEvent) -> Tone {
    match (event.alarm, event.outcome, event.what) {
        (true, _, _) | (_, Some(Outcome::Refused), _) => Tone::Bad,
        (_, Some(Outcome::Failed | Outcome::Unknown | Outcome::Held), _) => Tone::Warn,
        (_, _, What::Activated) => Tone::Good,
        (_, _, What::Command) => Tone::Mark,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_event_is_about_is_said_to_be_none() {
        let event = |about| AuditEvent::new(Timestamp::EPOCH, "agent", What::Started, about);
        let mut history = History { events: vec![event(About::All)], ..History::default() };
        assert!(unknown("nope", &history).unwrap().contains("names nope"));
        history.events.push(event(About::Issuer("a-ca".into())));
        assert_eq!(unknown("a-ca", &history), None);
        // Who has older events than these may be among them.
        assert_eq!(unknown("nope", &History { more: true, ..History::default() }), None);
    }
}
