//! What a running service says of how much it watches.

use crate::admin::control::{AgentReport, Call, Status};
use crate::cli::operate::ask;
use crate::cli::show::relative;
use crate::config::{Config, Fault};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long the answer is waited for, in all: connecting, asking, reading.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the service at the socket of the configuration answered.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Service {
    /// Where it was asked.
    socket: PathBuf,
    /// Why nothing is known of it: nobody is there, or there is no answer. The rest says nothing then.
    silent: Option<String>,
    /// Its process.
    pid: Option<u32>,
    /// How many issuers it has in each state of `status`: `active`, `watched` (somebody else renews their signers), `disabled`, …
    issuers: BTreeMap<String, usize>,
    /// When it last looked at all files.
    files_last_pass: Option<Timestamp>,
    /// That is too long ago.
    files_overdue: bool,
    /// The renewal agent; `None`: it has none.
    agent: Option<AgentReport>,
}

impl Service {
    /// Asks. What is wrong with its coverage is added to the faults and warnings.
    pub(super) fn ask(config: &Config, faults: &mut Vec<Fault>, warnings: &mut Vec<Fault>) -> Self {
        let socket = config.admin.socket.clone();
        let answer = within(PATIENCE, socket.clone());
        let is_there = socket.exists();
        match answer {
            Ok(status) => Self::of(socket, &status, faults, warnings),
            Err(why) => {
                // No service is nothing to worry about: this may be run before one is started.
                if is_there && !why.contains("is gone") {
                    warnings.push(Fault::of_file(&socket, why.clone()));
                }
                Service { socket, silent: Some(why), ..Service::default() }
            }
        }
    }

    fn of(socket: PathBuf, status: &Status, faults: &mut Vec<Fault>, warnings: &mut Vec<Fault>) -> Self {
        let mut issuers: BTreeMap<String, usize> = BTreeMap::new();
        for issuer in &status.issuers {
            *issuers.entry(issuer.state.clone()).or_default() += 1;
        }
        let mut fault = |text: String| faults.push(Fault::of_file(&socket, format!("the running service: {text}")));
        let since = |at: Option<Timestamp>| at.map_or_else(|| "none yet".to_owned(), |at| relative(at, status.now));
        if status.files.overdue {
            fault(format!(
                "its look at the files is overdue, the last complete one: {}",
                since(status.files.last_pass)
            ));
        }
        if let Some(agent) = &status.agent {
            if let Some(why) = &agent.down {
                fault(format!("its renewal agent does not run: {why}"));
            } else if agent.overdue {
                fault(format!("the pass of its renewal agent is overdue, the last one: {}", since(agent.last_pass)));
            } else if let unseen @ 1.. = unseen(agent) {
                fault(format!("{unseen} of {} signers and credentials have not been looked at", agent.known));
            }
            let told = |(name, why): (&String, &String)| {
                Fault::of_file(&socket, format!("the running service could not look at {name}: {why}"))
            };
            warnings.extend(agent.unreadable.iter().map(told));
        }
        Service {
            silent: None,
            pid: Some(status.pid),
            issuers,
            files_last_pass: status.files.last_pass,
            files_overdue: status.files.overdue,
            agent: status.agent.clone(),
            socket,
        }
    }

    /// One line for people, and one for each signer that was not looked at.
    pub(super) fn line(&self, now: Timestamp) -> String {
        let at = self.socket.display();
        let Some(pid) = self.pid else {
            return format!("coverage: not known; {}\n", self.silent.as_deref().unwrap_or("nobody was asked"));
        };
        let states: Vec<String> = self.issuers.iter().map(|(state, n)| format!("{n} {state}")).collect();
        let issuers = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
        let ago = |pass: Option<Timestamp>| pass.map_or_else(|| "none yet".to_owned(), |pass| relative(pass, now));
        let mut out = format!("coverage of the service at {at} (pid {pid}): issuers {issuers}; ");
        // Writing to a String cannot fail.
        let _ = write!(out, "files: last pass {}; ", ago(self.files_last_pass));
        let _ = match &self.agent {
            None => writeln!(out, "no renewal agent"),
            Some(AgentReport { down: Some(_), .. }) => writeln!(out, "the renewal agent does not run"),
            Some(agent) => {
                let _ = write!(out, "agent: last pass {}, ", ago(agent.last_pass));
                writeln!(out, "{} of {} signers and credentials looked at", agent.checked, agent.known)
            }
        };
        for (name, why) in self.agent.iter().flat_map(|agent| &agent.unreadable) {
            let _ = writeln!(out, "  not looked at: {name}: {why}");
        }
        out
    }
}

/// How many were neither looked at nor named as unreadable.
fn unseen(agent: &AgentReport) -> u64 {
    let named = u64::try_from(agent.unreadable.len()).unwrap_or(u64::MAX);
    agent.known.saturating_sub(agent.checked.saturating_add(named))
}

/// Asked on a thread of its own, which is left behind when it takes too long: each step has a limit of its own, and their sum has
/// none.
fn within(patience: Duration, socket: PathBuf) -> Result<Status, String> {
    let (answer, answered) = mpsc::sync_channel(1);
    let place = socket.clone();
    let asking = std::thread::Builder::new().name("ask".to_owned()).spawn(move || {
        let _ = answer.send(ask::<Status>(&place, &Call::Status {})); // nobody may be waiting any more
    });
    asking.map_err(|error| error.to_string())?;
    let no_answer = |_| late(&socket, patience);
    answered.recv_timeout(patience).map_err(no_answer)?.map_err(|trouble| trouble.to_string())
}

fn late(socket: &Path, patience: Duration) -> String {
    format!("the service at {} did not answer within {} s", socket.display(), patience.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::control::{AuditReport, FilesReport, PresignReport, RegistryReport};
    use std::io::{BufRead, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    fn config(dir: &Path) -> Config {
        Config::parse("[registry]\nsource = \"i.json\"\n", &dir.join("stillgood.toml")).unwrap()
    }

    fn asked(config: &Config) -> (Service, Vec<String>, Vec<String>) {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        let service = Service::ask(config, &mut faults, &mut warnings);
        let text = |faults: &[Fault]| faults.iter().map(ToString::to_string).collect();
        (service, text(&faults), text(&warnings))
    }

    /// A service that answers once.
    fn answering(config: &Config, status: &Status) -> std::thread::JoinHandle<()> {
        std::fs::create_dir_all(config.admin.socket.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&config.admin.socket);
        let listener = UnixListener::bind(&config.admin.socket).unwrap();
        let line = format!("{{\"v\":1,\"result\":{}}}\n", serde_json::to_string(status).unwrap());
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut call = String::new();
            BufReader::new(&stream).read_line(&mut call).unwrap();
            (&stream).write_all(line.as_bytes()).unwrap();
        })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn status(change: impl FnOnce(&mut Status)) -> Status {
        let agent = AgentReport { last_pass: Some(at(-2)), known: 3, checked: 3, ..AgentReport::default() };
        let mut status = Status {
            now: at(0),
            version: "1".into(),
            pid: 7,
            started: at(-60),
            attention: false,
            socket: "admin.sock".into(),
            agent: Some(agent),
            files: FilesReport { last_pass: Some(at(-1)), overdue: false },
            registry: RegistryReport::default(),
            pauses: Vec::new(),
            endpoints: Vec::new(),
            credentials: Vec::new(),
            issuers: Vec::new(),
            presign: PresignReport::default(),
            audit: AuditReport::default(),
            next: Vec::new(),
        };
        change(&mut status);
        status
    }

    #[test]
    fn where_there_is_no_service_one_line_says_so_and_nothing_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (service, faults, warnings) = asked(&config(dir.path()));
        assert!(faults.is_empty() && warnings.is_empty(), "{faults:?} {warnings:?}");
        let line = service.line(at(0));
        assert!(line.starts_with("coverage: not known; no service answers") && line.lines().count() == 1, "{line}");
    }

    #[test]
    fn a_service_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        std::fs::create_dir_all(config.admin.socket.parent().unwrap()).unwrap();
        let _listener = UnixListener::bind(&config.admin.socket).unwrap();
        let why = within(Duration::from_millis(200), config.admin.socket.clone()).unwrap_err();
        assert!(why.contains("did not answer within"), "{why}");
    }

    #[test]
    fn what_it_does_not_watch_is_told_and_a_pass_that_is_overdue_is_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let told = |change: fn(&mut Status)| {
            let served = answering(&config, &status(change));
            let (service, faults, warnings) = asked(&config);
            served.join().unwrap();
            (service.line(at(0)), faults.join("; "), warnings.join("; "))
        };
        let (line, faults, warnings) = told(|_| {});
        assert_eq!((faults.as_str(), warnings.as_str()), ("", ""));
        assert!(line.contains("files: last pass 1s ago; agent: last pass 2s ago, 3 of 3 signers"), "{line}");

        let (line, faults, warnings) = told(|status| {
            let agent = status.agent.as_mut().unwrap();
            agent.checked = 1;
            agent.unreadable.insert("ca-7".into(), "slot.json: Permission denied".into());
        });
        assert!(line.contains("1 of 3 signers") && line.contains("not looked at: ca-7: slot.json: Permission denied"));
        assert!(faults.contains("1 of 3 signers and credentials have not been looked at"), "{faults}");
        assert!(warnings.contains("could not look at ca-7: slot.json"), "{warnings}");

        let (_, faults, _) = told(|status| status.agent.as_mut().unwrap().overdue = true);
        assert!(faults.contains("the pass of its renewal agent is overdue, the last one: 2s ago"), "{faults}");
        let (line, faults, _) = told(|status| status.agent.as_mut().unwrap().down = Some("no ledger".into()));
        assert!(faults.contains("does not run: no ledger") && line.contains("does not run"), "{faults} {line}");
        let (_, faults, _) = told(|status| status.files.overdue = true);
        assert!(faults.contains("its look at the files is overdue"), "{faults}");
        let (line, faults, _) = told(|status| status.agent = None);
        assert!(faults.is_empty() && line.contains("no renewal agent"), "{faults} {line}");
    }
}
