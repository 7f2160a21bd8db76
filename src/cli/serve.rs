//! `serve`: endpoint, presigner and admin listener in one process.

use super::logging::Format;
use super::running::{Options, run as run_until_stopped};
use crate::config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// Serve OCSP responses for the issuers of a registry.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals: TERM and INT stop after the requests in progress have been answered; HUP reads the configuration \
    and the registry again. A configuration that is refused changes nothing.\n\n\
    Example:\n  stillgood check --config stillgood.toml && stillgood serve --config stillgood.toml"
)]
pub(super) struct Args {
    /// The configuration file (TOML); deploy/stillgood.example.toml shows every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines are written to standard error, instead of what [log] says; STILLGOOD_LOG sets the level.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<Format>,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> ExitCode {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!(
                "{faults}\nNothing was started. `stillgood check --config {}` tells more.",
                args.config.display()
            );
            return ExitCode::FAILURE;
        }
    };
    let log = args.log.map_or(config.log.format, Into::into);
    match run_until_stopped(config, &Options { progress: true, started: None, log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stillgood serve: {error}");
            ExitCode::FAILURE
        }
    }
}
