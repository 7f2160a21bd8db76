//! `pause`, `resume`, `renew`, `unpark`, `approve`: an operator's word.

use super::super::paper::{Paper, Tone, when};
use super::{EXITS, ReachArgs, Where, tell, wait};
use crate::admin::control::{Call, Taken, Target};
use crate::config::HumanDuration;
use crate::time::{Clock, SystemClock};
use std::process::ExitCode;

/// Ask for nothing within reach for a while. Answers go on being signed and served; the pause ends by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Requests on the wire are finished. A pause survives a restart, and a second one of the same reach replaces the \
    first. What must rest for longer than 31 days is disabled in the registry.\n\n\
    Examples:\n  stillgood pause --endpoint main --for 4h --reason \"CA maintenance\" --config stillgood.toml\n  \
    stillgood pause --all --for 30m --reason \"HSM moves\" --socket state/admin.sock\n\n{EXITS}"))]
pub(in super::super) struct PauseArgs {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    reach: ReachArgs,
    /// For how long: "30m", "4h", "2d"; at most 31 days.
    #[arg(long = "for", value_name = "DURATION")]
    span: HumanDuration,
    /// Why, in a few words; kept in the audit trail and shown to others.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// End the pause of exactly this reach. What was held leaves at a rate that grows slowly.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Example:\n  stillgood resume --endpoint main --config stillgood.toml\n\n{EXITS}"))]
pub(in super::super) struct ResumeArgs {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    reach: ReachArgs,
    /// Why, in a few words; kept in the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Renew now, at the endpoint's rate. Never for an issuer that the registry does not say is active.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("It lifts a park, but not one for having asked too much: `unpark` does. A certificate that waits for approval \
    is dropped for the new one. With --wait it ends when each signer named \
    has another serial number, or as soon as no more can come about: what is left is parked, paused, or waits for approve.\n\n\
    Examples:\n  stillgood renew --issuer issuing-ca-1 --reason \"key was exposed\" --wait --config stillgood.toml\n  \
    stillgood renew --endpoint main --wait 2h --config stillgood.toml\n  \
    stillgood renew --credential main --config stillgood.toml\n\n{EXITS} 6 waited for, and not all of it is renewed."))]
pub(in super::super) struct RenewArgs {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    reach: ReachArgs,
    /// Why, in a few words; kept in the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Wait until the new ones are in use: "15m", "2h"; 15 minutes where no span is given.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = wait::SPAN)]
    wait: Option<HumanDuration>,
}

/// Lift parks, waits after failures and spent budgets: after the CA's side has been mended.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  stillgood unpark --issuer issuing-ca-1 --config stillgood.toml\n  \
    stillgood unpark --endpoint main --reason \"profile is back\" --config stillgood.toml\n\n{EXITS}"))]
pub(in super::super) struct UnparkArgs {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    reach: ReachArgs,
    /// Why, in a few words; kept in the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Let a staged signer become active, or a held registry into use.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("`status` says what waits; `plan --registry FILE` shows what a registry would change.\n\n\
    Examples:\n  stillgood approve --issuer issuing-ca-1 --config stillgood.toml\n  \
    stillgood approve --registry 8 --reason \"ten CAs retired on purpose\" --config stillgood.toml\n\n{EXITS}"))]
pub(in super::super) struct ApproveArgs {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    what: Approval,
    /// Why, in a few words; kept in the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Approval {
    /// The staged signer of this issuer.
    #[arg(long, value_name = "ID")]
    issuer: Option<String>,
    /// Our staged client certificate at this CA service.
    #[arg(long, value_name = "ENDPOINT")]
    credential: Option<String>,
    /// The held registry of this generation, and no other.
    #[arg(long, value_name = "GENERATION")]
    registry: Option<u64>,
}

/// Runs `pause`.
pub(in super::super) fn pause(args: &PauseArgs) -> ExitCode {
    // Whole seconds, and no less than was said.
    let for_secs = args.span.0.as_secs() + u64::from(args.span.0.subsec_nanos() > 0);
    let call = Call::Pause { reach: args.reach.target(), for_secs, reason: args.reason.clone() };
    give("pause", &args.service, &call)
}

/// Runs `resume`.
pub(in super::super) fn resume(args: &ResumeArgs) -> ExitCode {
    give("resume", &args.service, &Call::Resume { reach: args.reach.target(), reason: args.reason.clone() })
}

/// Runs `renew`.
pub(in super::super) fn renew(args: &RenewArgs) -> ExitCode {
    let reach = args.reach.target();
    let call = Call::Renew { reach: reach.clone(), reason: args.reason.clone() };
    match args.wait {
        Some(span) => wait::renew(&args.service, &reach, &call, span.0),
        None => give("renew", &args.service, &call),
    }
}

/// Runs `unpark`.
pub(in super::super) fn unpark(args: &UnparkArgs) -> ExitCode {
    give("unpark", &args.service, &Call::Unpark { reach: args.reach.target(), reason: args.reason.clone() })
}

/// Runs `approve`.
pub(in super::super) fn approve(args: &ApproveArgs) -> ExitCode {
    let reason = args.reason.clone();
    let call = match &args.what {
        Approval { registry: Some(generation), .. } => Call::ApproveRegistry { generation: *generation, reason },
        Approval { issuer: Some(id), .. } => Call::ApproveSigner { slot: Target::Issuer(id.clone()), reason },
        Approval { credential, .. } => {
            Call::ApproveSigner { slot: Target::Credential(credential.clone().unwrap_or_default()), reason }
        }
    };
    give("approve", &args.service, &call)
}

pub(super) fn give(verb: &str, service: &Where, call: &Call) -> ExitCode {
    match service.ask::<Taken>(call) {
        Ok(taken) => {
            service.show(&taken, |paper| render(&taken, &SystemClock, paper));
            ExitCode::SUCCESS
        }
        Err(trouble) => tell(verb, service.json, &trouble),
    }
}

fn render(taken: &Taken, clock: &dyn Clock, paper: &Paper) -> String {
    let mut out = paper.wrap(&taken.text, 0, Tone::Plain);
    if let Some(until) = taken.until {
        out.push_str(&paper.wrap(&format!("It ends by itself {}.", when(until, clock.now())), 0, Tone::Plain));
    }
    out
}
