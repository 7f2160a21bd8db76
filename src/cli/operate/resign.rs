//! `resign`: everything anew by the signer in use.

use super::command::give;
use super::{EXITS, ReachArgs, Where};
use crate::admin::control::Call;
use std::process::ExitCode;

/// Sign everything that is served again now, by the signer in use: after a key was exposed. What is held is served until then.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("First put another signer into use (`renew`, or new files): this one signs with whatever is in use. Works for signers \
    that are files too. `status` shows what is still due.\n\n\
    Example:\n  stillgood resign --issuer issuing-ca-1 --reason \"key was exposed\" --config stillgood.toml\n\n{EXITS}"))]
pub(in super::super) struct Args {
    #[command(flatten)]
    service: Where,
    #[command(flatten)]
    reach: ReachArgs,
    /// Why, in a few words; kept in the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Runs it.
pub(in super::super) fn run(args: &Args) -> ExitCode {
    give("resign", &args.service, &Call::Resign { reach: args.reach.target(), reason: args.reason.clone() })
}
