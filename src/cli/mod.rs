//! The command line: one file per verb.

mod demo;
mod logging;
mod running;
mod serve;
mod sync;

use clap::{Parser, Subcommand};
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
    Exit status: 0 done; 1 a fault was found or the work could not be done; 2 the command line cannot be understood. \
    `probe` has those of Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
    }
}
