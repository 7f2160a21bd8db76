//! Verbs that talk to a running service over its control socket.

mod client;
mod command;
mod explain;
mod history;
mod plan;
mod resign;
mod status;
mod wait;

pub(super) use command::{ApproveArgs, PauseArgs, RenewArgs, ResumeArgs, UnparkArgs};
pub(super) use command::{approve, pause, renew, resume, unpark};
pub(super) use explain::{Args as ExplainArgs, run as explain};
pub(super) use history::{Args as HistoryArgs, run as history};
pub(super) use plan::{Args as PlanArgs, run as plan};
pub(super) use resign::{Args as ResignArgs, run as resign};
pub(super) use status::{Args as StatusArgs, run as status};

pub(in crate::cli) use self::client::ask;

use self::client::Trouble;
use super::paper::{Paper, Tone};
use crate::admin::control::{Call, Next, RefusalKind, Target, shell_word};
use crate::config::Config;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::process::ExitCode;

/// Something should be looked at.
const ATTENTION: u8 = 1;
/// The command line cannot be understood.
const USAGE: u8 = 2;
/// No service answers at the socket.
const UNREACHABLE: u8 = 3;
/// The service says no: there is no such thing, or nothing to do.
const REFUSED: u8 = 4;
/// No agent runs: the service renews no signer, or its agent cannot be started.
const NO_AGENT: u8 = 5;
/// What was waited for has not come about.
const NOT_YET: u8 = 6;
/// The service could not do it, or what it said cannot be read.
const FAILED: u8 = 7;

/// Exit status of these verbs, for `--help`.
const EXITS: &str = "Exit status: 0 done, and nothing needs you; 1 something needs you; 2 the command line \
cannot be understood; 3 no service answers at the socket; 4 the service refuses: no such name, or nothing to do; 5 the service \
renews no signer, or its renewal agent does not run; 7 it failed.";

/// Which service is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    #[command(flatten)]
    place: Place,
    /// Print JSON; docs/VERBS.md describes the fields.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration file of the service: its [admin] socket is asked.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket of the service.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Where {
    /// The socket, and the directory of the audit trail where the configuration tells it.
    fn find(&self) -> Result<(PathBuf, Option<PathBuf>), Trouble> {
        match (&self.place.socket, &self.place.config) {
            (Some(socket), _) => Ok((socket.clone(), None)),
            (None, Some(file)) => match Config::load(file) {
                Ok(config) => Ok((config.admin.socket.clone(), Some(super::sync::audit_dir(&config.state_dir)))),
                Err(faults) => Err(Trouble::Usage(format!(
                    "{faults}\nThe configuration does not tell the socket; name it with --socket."
                ))),
            },
            (None, None) => Err(Trouble::Usage("name the service with --config or --socket".into())),
        }
    }

    fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Trouble> {
        client::ask(&self.find()?.0, call)
    }

    fn json(&self) -> bool {
        self.json
    }

    /// What to add to a verb so that it means the same service.
    fn option(&self) -> String {
        let (name, path) = match (&self.place.socket, &self.place.config) {
            (Some(socket), _) => ("--socket", socket.display().to_string()),
            (None, Some(file)) => ("--config", file.display().to_string()),
            (None, None) => return String::new(),
        };
        format!("{name} {}", shell_word(&path))
    }

    /// Prints an answer as JSON, or for people.
    fn show<T: Serialize>(&self, answer: &T, render: impl FnOnce(&Paper) -> String) {
        if self.json {
            match serde_json::to_string_pretty(answer) {
                Ok(text) => super::print(&(text + "\n")),
                Err(error) => super::print_error(&format!("{error}\n")),
            }
        } else {
            super::print(&render(&Paper::of_stdout()));
        }
    }
}

/// Whom a command is about.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ReachArgs {
    /// Everything.
    #[arg(long)]
    all: bool,
    /// A CA service, a name in [enrolment.*], and all that is ordered there.
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,
    /// The signer of an issuer.
    #[arg(long, value_name = "ID")]
    issuer: Option<String>,
    /// Our own client certificate at a CA service.
    #[arg(long, value_name = "ENDPOINT")]
    credential: Option<String>,
}

impl ReachArgs {
    fn target(&self) -> Target {
        match self {
            ReachArgs { endpoint: Some(name), .. } => Target::Endpoint(name.clone()),
            ReachArgs { issuer: Some(id), .. } => Target::Issuer(id.clone()),
            ReachArgs { credential: Some(name), .. } => Target::Credential(name.clone()),
            _ => Target::All,
        }
    }
}

/// Says why there is no answer; the exit status tells which kind of why.
fn tell(verb: &str, json: bool, trouble: &Trouble) -> ExitCode {
    let (code, kind) = match trouble {
        Trouble::Usage(_) => (USAGE, "usage"),
        Trouble::Unreachable(_) => (UNREACHABLE, "unreachable"),
        Trouble::Failed(_) => (FAILED, "failed"),
        Trouble::Refused(refusal) => match refusal.kind {
            RefusalKind::Refused | RefusalKind::Malformed => (REFUSED, "refused"),
            RefusalKind::NoAgent => (NO_AGENT, "no-agent"),
            RefusalKind::Busy => (UNREACHABLE, "busy"),
            RefusalKind::Failed | RefusalKind::Other => (FAILED, "failed"),
        },
    };
    if json {
        #[derive(Serialize)]
        struct Shown<'a> {
            error: &'a str,
            text: String,
        }
        let shown = Shown { error: kind, text: trouble.to_string() };
        super::print(&(serde_json::to_string(&shown).unwrap_or_default() + "\n"));
    }
    let text: Vec<String> = trouble.to_string().lines().map(super::paper::clean).collect();
    super::print_error(&format!("stillgood {verb}: {}\n", text.join("\n")));
    ExitCode::from(code)
}

/// What to do next, with what to type.
fn next_steps(next: &[Next], service: &str, paper: &Paper) -> String {
    let mut out = String::new();
    for (number, step) in next.iter().enumerate() {
        let tone = if step.attention { Tone::Warn } else { Tone::Plain };
        let text = paper.wrap(&step.text, 5, tone);
        let mark = format!("{:>3}. ", number + 1);
        out.push_str(&mark);
        out.push_str(text.get(mark.len()..).unwrap_or_default());
        if let Some(command) = &step.command {
            // Not wrapped: it is to be copied.
            let line = paper.plain(&format!("{command} {service}"));
            out.push_str(&format!("       {}\n", paper.paint(Tone::Mark, line.trim_end())));
        }
    }
    out
}

#[cfg(test)]
mod tests;
