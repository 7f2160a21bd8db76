//! `check`: reads everything a configuration names, changes nothing, and contacts nobody but the service that runs on it, and the
//! EST servers where it is told to.

mod access;
mod contact;
mod report;
mod service;

use super::{print, print_error};
use crate::config::{Config, Fault};
use crate::time::{Clock, SystemClock};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads everything and tells what is wrong.
///
/// Reads the configuration, the registry, the issuer certificates, the signers (each passes the check it must pass before
/// it signs, test signature included) and the status sources. Changes nothing and contacts nobody, except that a service that runs
/// on this configuration is asked, over its socket and for 5 seconds at most, how much it watches. So it may be run beside a serving
/// process and before a deployment. With --contact the EST servers are asked for the CA certificates that they distribute, by the
/// credentials of the configuration; nothing is ordered. Every fault is printed as file:line:column: what, and what to do.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stillgood check --config stillgood.toml
  stillgood check --config stillgood.toml --json | jq .faults
  stillgood check --config stillgood.toml --contact
  stillgood check --config stillgood.toml --effective

Exit codes: 0 no fault (there may be warnings), 1 at least one fault, 2 the command line cannot be understood.")]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// For machines: one JSON object with ok, faults, warnings, issuers and service
    #[arg(long)]
    json: bool,
    /// Also ask the EST servers, for a minute at most, which CA certificates they distribute: whether they can be reached, accept us, and
    /// know the CAs of the registry
    #[arg(long)]
    contact: bool,
    /// Print the configuration as it takes effect, defaults included, and stop
    #[arg(long, conflicts_with = "json")]
    effective: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => return finish(args, &Report { faults: faults.0, ..Report::default() }),
    };
    if args.effective {
        print(&config.effective_toml());
        return ExitCode::SUCCESS;
    }
    let mut report = Report::of(&config, SystemClock.now());
    report.ask(&config);
    if args.contact {
        report.contact(&config);
    }
    finish(args, &report)
}

fn finish(args: &Args, report: &Report) -> ExitCode {
    if args.json {
        match serde_json::to_string_pretty(report) {
            Ok(text) => print(&format!("{text}\n")),
            Err(e) => print_error(&format!("{e}\n")),
        }
    } else {
        let lines = |faults: &[Fault], kind: &str| faults.iter().map(|f| format!("{kind}: {f}\n")).collect::<String>();
        print_error(&lines(&report.faults, "error"));
        print_error(&lines(&report.warnings, "warning"));
        print(&report.summary(&args.config, SystemClock.now()));
    }
    if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
