//! The command line: one file per verb.
//!
//! Exit codes are a contract, documented in `--help` and docs/VERBS.md: 0 fine; 1 looked at and not fine, or `serve`, `demo` or
//! `inspect` could not do its work; 2 the command line cannot be understood; 3 to 7 of the verbs that ask a running service
//! (`operate`). `probe` speaks the convention of monitoring plug-ins instead: 0 OK, 1 WARNING, 2 CRITICAL,
//! 3 UNKNOWN, and 3 for a command line it cannot understand.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "verbs talk to people")]

mod agent;
mod check;
mod control;
mod demo;
mod inspect;
mod logging;
mod operate;
mod paper;
mod probe;
mod running;
mod serve;
mod shield;
mod show;
mod simulate;
mod supervisor;
mod sync;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// An OCSP responder that serves pre-signed responses from memory and keeps its own signers good.
#[derive(Debug, Parser)]
#[command(
    name = "stillgood",
    version,
    about,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Start with `stillgood demo`: it makes a small PKI, serves it, and prints what to try.\n\
    Exit status: 0 done; 1 a fault was found, something needs you, or the work could not be done; 2 the command line cannot be \
    understood. Verbs that ask a running service: 3 none answers; 4 it refuses; 5 it renews no signer, or its renewal agent does \
    not run; 6 what `renew --wait` waited for has not come about; 7 it failed. `probe` has those of Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Check(check::Args),
    Inspect(inspect::Args),
    Probe(probe::Args),
    Simulate(simulate::Args),
    Status(operate::StatusArgs),
    Plan(operate::PlanArgs),
    Explain(operate::ExplainArgs),
    History(operate::HistoryArgs),
    Pause(operate::PauseArgs),
    Resume(operate::ResumeArgs),
    Renew(operate::RenewArgs),
    Unpark(operate::UnparkArgs),
    Resign(operate::ResignArgs),
    Approve(operate::ApproveArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // A monitoring system reads 2 as CRITICAL; a slip in its configuration is UNKNOWN.
            let probing = std::env::args_os().nth(1).is_some_and(|verb| verb == "probe");
            let _ = error.print();
            return match error.exit_code() {
                0 => ExitCode::SUCCESS,
                _ if probing => ExitCode::from(probe::UNKNOWN),
                _ => ExitCode::from(2),
            };
        }
    };
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Status(args) => operate::status(&args),
        Command::Plan(args) => operate::plan(&args),
        Command::Explain(args) => operate::explain(&args),
        Command::History(args) => operate::history(&args),
        Command::Pause(args) => operate::pause(&args),
        Command::Resume(args) => operate::resume(&args),
        Command::Renew(args) => operate::renew(&args),
        Command::Unpark(args) => operate::unpark(&args),
        Command::Resign(args) => operate::resign(&args),
        Command::Approve(args) => operate::approve(&args),
    }
}

/// Prints to standard output. A closed pipe (`| head`) is not an error worth a panic.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints to standard error.
fn print_error(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
