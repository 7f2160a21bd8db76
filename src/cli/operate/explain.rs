//! `explain`: why a signer is where it is.

use super::super::paper::{Life, Paper, Tone, count, when};
use super::status::life;
use super::{ATTENTION, EXITS, Trouble, Where, history, next_steps, tell};
use crate::admin::control::{Call, Explained, Target};
use std::process::ExitCode;

/// Show why the signer of an issuer is where it is, what it waits for, and what happened last.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  stillgood explain issuing-ca-1 --config stillgood.toml\n  \
    stillgood explain --credential main --socket state/admin.sock\n\n{EXITS}"))]
pub(in super::super) struct Args {
    #[command(flatten)]
    service: Where,
    /// The issuer's id in the registry.
    #[arg(value_name = "ISSUER", required_unless_present = "credential", conflicts_with = "credential")]
    issuer: Option<String>,
    /// Instead: our own client certificate at this CA service.
    #[arg(long, value_name = "ENDPOINT")]
    credential: Option<String>,
}

/// Runs the verb.
pub(in super::super) fn run(args: &Args) -> ExitCode {
    let slot = match (&args.issuer, &args.credential) {
        (Some(id), _) => Target::Issuer(id.clone()),
        (None, Some(endpoint)) => Target::Credential(endpoint.clone()),
        (None, None) => return tell("explain", args.service.json, &Trouble::Usage("name an issuer".into())),
    };
    match args.service.ask::<Explained>(&Call::Explain { slot }) {
        Ok(explained) => {
            args.service.show(&explained, |paper| render(&explained, &args.service.option(), paper));
            if explained.slot.attention { ExitCode::from(ATTENTION) } else { ExitCode::SUCCESS }
        }
        Err(trouble) => tell("explain", args.service.json, &trouble),
    }
}

/// For people.
pub(super) fn render(explained: &Explained, service: &str, paper: &Paper) -> String {
    let (slot, now) = (&explained.slot, explained.now);
    let tone = if slot.attention { Tone::Bad } else { Tone::Strong };
    let mut out = paper.wrap(&slot.slot.to_string(), 0, tone);
    let phase = slot.phase.as_deref().unwrap_or("not renewed by this service");
    out.push_str(&paper.pair("state", &format!("{}, {phase}", slot.state), Tone::Plain));
    if let Some(endpoint) = &slot.endpoint {
        let (asked, got) = (slot.requests_today as usize, slot.certificates_today as usize);
        let today = format!("{endpoint}; {} and {} today", count(asked, "request"), count(got, "certificate"));
        out.push_str(&paper.pair("endpoint", &today, Tone::Plain));
    }
    if let Some(order) = &slot.order {
        let cause = slot.cause.as_deref().unwrap_or("unknown");
        out.push_str(&paper.pair("order", &format!("{order}, cause {cause}"), Tone::Plain));
    }
    match (&slot.serial, slot.not_before, slot.not_after) {
        (Some(serial), Some(from), Some(to)) => {
            out.push_str(&paper.pair("serial", serial, Tone::Plain));
            out.push_str(&paper.pair("not before", &when(from, now), Tone::Plain));
            if let Some(window) = slot.window {
                out.push_str(&paper.pair("window", &format!("from {}", when(window.opens, now)), Tone::Plain));
                out.push_str(&paper.pair("due", &when(window.due, now), Tone::Plain));
                out.push_str(&paper.pair("urgent", &format!("from {}", when(window.urgent, now)), Tone::Plain));
                out.push_str(&paper.pair("deadline", &when(window.deadline, now), Tone::Plain));
            }
            out.push_str(&paper.pair("not after", &when(to, now), Tone::Plain));
        }
        _ => out.push_str(&paper.pair("serial", "none: there is no certificate", Tone::Bad)),
    }
    if let Some(life) = life(slot, now) {
        out.push('\n');
        out.push_str(&life.draw(paper, paper.width.min(80)));
        out.push('\n');
        out.push_str(&paper.wrap(&Life::legend(paper), 0, Tone::Faint));
    }
    out.push_str(&paper.title("Why"));
    for reason in &explained.reasons {
        let text = paper.wrap(reason, 4, Tone::Plain);
        out.push_str("  - ");
        out.push_str(text.get(4..).unwrap_or_default());
    }
    if !explained.history.is_empty() {
        out.push_str(&paper.title("What happened last"));
        out.push_str(&history::lines(&explained.history, now, paper));
    }
    if !explained.next.is_empty() {
        out.push_str(&paper.title("What to do next"));
        out.push_str(&next_steps(&explained.next, service, paper));
    }
    out
}
