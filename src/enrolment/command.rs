//! A program of the operator's: request on standard input, certificate on standard output.
//!
//! The program gets the PKCS#10 request in PEM on standard input, and in its environment `STILLGOOD_ORDER` (the order's id:
//! the same id is the same order, and a program that has answered it may answer the same again), `STILLGOOD_ISSUER` (the
//! registry's id) and `STILLGOOD_PROFILE`. It is started directly, without a shell, in a process group of its own, which is
//! killed as a whole at the deadline. Its exit code says how it went:
//!
//! | code | means |
//! |---|---|
//! | 0 | issued: PEM or DER of the certificate on standard output; a chain may follow |
//! | 69 `EX_UNAVAILABLE` | the CA cannot be reached: the whole service is left alone for a while |
//! | 75 `EX_TEMPFAIL` | not now: this order is tried again |
//! | 76 | the CA has the request and has not decided: the same order is asked again; standard output may hold the seconds to wait |
//! | 77 `EX_NOPERM` | the CA refuses this issuer or profile: it is parked |
//! | 78 `EX_CONFIG` | the program is not set up: nobody is helped by asking again |
//! | any other | failed without saying how: this order is tried again |
//!
//! The last lines of standard error are shown to the operator.

use super::failure::{excerpt, printable};
use super::{Enrolment, Failure, Kind, MAX_RETRY_AFTER, Order, Outcome, Purpose, Scope, Submitted, body};
use crate::x509::pem;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command as Process};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

/// The CA cannot be reached (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: i32 = 69;
/// Try again (`EX_TEMPFAIL`).
pub const EXIT_TRY_AGAIN: i32 = 75;
/// The CA has the request and has not decided.
pub const EXIT_WAITING: i32 = 76;
/// Refused (`EX_NOPERM`).
pub const EXIT_REFUSED: i32 = 77;
/// The program is not set up (`EX_CONFIG`).
pub const EXIT_NOT_SET_UP: i32 = 78;

/// The last octets of standard error that are kept.
const MAX_STDERR: usize = 4 * 1024;
/// Of these, what is shown in a message.
const SHOWN_STDERR: usize = 300;
/// Once the program has ended, what it left in its pipes is there; only a process it left behind keeps them open.
const PIPE_GRACE: Duration = Duration::from_millis(500);

/// Asks by running a program.
pub struct Command {
    name: String,
    argv: Vec<String>,
    timeout: Duration,
    max: usize,
    slots: Semaphore,
}

impl Command {
    /// The service `name`: the program with its arguments, how long it may take, how many may run at a time.
    pub fn new(name: impl Into<String>, argv: Vec<String>, timeout: Duration, max_in_flight: usize) -> Self {
        let max = max_in_flight.max(1);
        Command { name: name.into(), argv, timeout, max, slots: Semaphore::new(max) }
    }

    async fn run(&self, order: &Order, deadline: Instant) -> Outcome {
        if order.purpose == Purpose::OwnCredential {
            let text = format!("{}: a program has no client credential to renew", self.name);
            return Outcome::Failed(Failure::new(Scope::Issuer, Kind::Permanent, text));
        }
        let now = crate::time::monotonic();
        let deadline = tokio::time::Instant::from_std(deadline.min(now.checked_add(self.timeout).unwrap_or(deadline)));
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            let text = format!("{}: {} programs are still running; it is tried again", self.name, self.max);
            return Outcome::Failed(Failure::new(Scope::Endpoint, Kind::Transient, text));
        };
        if !order.leave.take() {
            let text = format!("{}: order {} was withdrawn before the program was started", self.name, order.id);
            return Outcome::Failed(Failure::new(Scope::Issuer, Kind::Transient, text));
        }
        let mut running = match self.start(order) {
            Ok(running) => running,
            Err(e) => {
                order.leave.put_back();
                return Outcome::Failed(self.not_started(&e));
            }
        };
        let csr = pem::encode("CERTIFICATE REQUEST", &order.csr_der);
        let mut output = Output::default();
        match timeout_at(deadline, running.finish(csr.as_bytes(), &mut output)).await {
            Ok(Ok(status)) => self.outcome(order, status, &output),
            Ok(Err(e)) => {
                let text = format!("{}: waiting for {}: {e}", self.name, self.program());
                Outcome::Failed(Failure::new(Scope::Local, Kind::Unknown, text))
            }
            Err(_) => {
                let text = format!(
                    "{}: {} did not end in time and was killed, so the outcome is not known; the same order is asked again. Raise enrolment.{}.timeout if the CA needs longer{}",
                    self.name,
                    self.program(),
                    self.name,
                    output.said()
                );
                Outcome::Failed(Failure::new(Scope::Endpoint, Kind::Unknown, text))
            }
        }
    }

    fn start(&self, order: &Order) -> io::Result<Running> {
        let mut argv = self.argv.iter();
        let program = argv.next().ok_or(io::ErrorKind::NotFound)?;
        let child = Process::new(program)
            .args(argv)
            .env("STILLGOOD_ORDER", &order.id)
            .env("STILLGOOD_ISSUER", &order.issuer)
            .env("STILLGOOD_PROFILE", &order.profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Running { group: Group(group), child })
    }

    fn not_started(&self, e: &io::Error) -> Failure {
        use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
        let text = format!("{}: {} cannot be started: {e}", self.name, self.program());
        match e.kind() {
            NotFound | PermissionDenied | IsADirectory => {
                let text = format!("{text}; put right enrolment.{}.command, or the file's mode", self.name);
                Failure::new(Scope::Endpoint, Kind::Permanent, text)
            }
            _ => Failure::new(Scope::Local, Kind::Transient, text),
        }
    }

    fn outcome(&self, order: &Order, status: ExitStatus, output: &Output) -> Outcome {
        let said = output.said();
        let program = self.program();
        let failed = |scope, kind, what: String| {
            let text = format!("{}: {program}, order {} for {}: {what}{said}", self.name, order.id, order.issuer);
            Outcome::Failed(Failure::new(scope, kind, text))
        };
        if output.too_long {
            let what = format!("it wrote more than {} octets; at most that many are read", body::MAX_LEN);
            return failed(Scope::Item, Kind::Unknown, what);
        }
        match (status.code(), status.signal()) {
            (Some(0), _) => match body::certificates(&output.stdout) {
                Ok(certificates) => Outcome::Issued(super::accept::ours_first(order, certificates)),
                Err(e) => failed(Scope::Item, Kind::Unknown, format!("exit code 0, but its output is unusable: {e}")),
            },
            (Some(EXIT_WAITING), _) => {
                let seconds = str::from_utf8(&output.stdout).ok().and_then(|text| text.trim().parse().ok());
                let retry_after = seconds.map(|s| Duration::from_secs(s).min(MAX_RETRY_AFTER));
                Outcome::Waiting { retry_after, handle: None }
            }
            (Some(EXIT_TRY_AGAIN), _) => failed(Scope::Item, Kind::Transient, "not now (exit code 75)".to_owned()),
            (Some(EXIT_UNAVAILABLE), _) => {
                failed(Scope::Endpoint, Kind::Transient, "the CA cannot be reached (exit code 69)".to_owned())
            }
            (Some(EXIT_REFUSED), _) => failed(Scope::Issuer, Kind::Permanent, "refused (exit code 77)".to_owned()),
            (Some(EXIT_NOT_SET_UP), _) => {
                failed(Scope::Endpoint, Kind::Permanent, "the program is not set up (exit code 78)".to_owned())
            }
            (Some(code), _) => failed(Scope::Item, Kind::Transient, format!("it failed with exit code {code}")),
            (None, signal) => {
                let what = format!("it was killed by signal {}", signal.unwrap_or_default());
                failed(Scope::Item, Kind::Unknown, what)
            }
        }
    }

    fn program(&self) -> String {
        printable(self.argv.first().map_or("", String::as_str), 128)
    }
}

impl Enrolment for Command {
    fn submit<'a>(&'a self, order: &'a Order, deadline: Instant) -> Submitted<'a> {
        Box::pin(self.run(order, deadline))
    }

    fn endpoint(&self) -> &str {
        &self.name
    }

    fn connections(&self) -> usize {
        self.max.saturating_sub(self.slots.available_permits())
    }

    fn max_connections(&self) -> usize {
        self.max
    }
}

/// What a program wrote.
#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    too_long: bool,
    /// Its last octets.
    stderr: Vec<u8>,
}

impl Output {
    /// The last lines of standard error, for a message.
    fn said(&self) -> String {
        let text = excerpt(&self.stderr, 3 * MAX_STDERR);
        let tail = text.len().checked_sub(SHOWN_STDERR).map(|from| text.char_indices().find(|(at, _)| *at >= from));
        match tail {
            Some(Some((at, _))) => format!("; it said: …{}", text.get(at..).unwrap_or_default()),
            _ if text.is_empty() => String::new(),
            _ => format!("; it said: {text}"),
        }
    }
}

/// A program under way. Dropped before it has ended, it and what it started are killed: the group first, while the child
/// that names it still exists.
struct Running {
    group: Group,
    child: Child,
}

impl Running {
    /// Feeds it, collects what it writes, waits for its end.
    async fn finish(&mut self, input: &[u8], output: &mut Output) -> io::Result<ExitStatus> {
        let (stdin, stdout, stderr) = (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take());
        let Output { stdout: out, too_long, stderr: err } = output;
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read its input is free not to.
                let _ = stdin.write_all(input).await;
            }
        };
        let pipes = async { tokio::join!(feed, all(stdout, out, too_long), last(stderr, err)) };
        tokio::pin!(pipes);
        let status = tokio::select! {
            biased;
            status = self.child.wait() => status?,
            _ = &mut pipes => {
                let status = self.child.wait().await?;
                self.group.0 = None;
                return Ok(status);
            }
        };
        if timeout(PIPE_GRACE, &mut pipes).await.is_ok() {
            // Nobody is left who could write; its process id may name another process by now.
            self.group.0 = None;
        }
        Ok(status)
    }
}

/// A process group that is killed when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads up to the limit. Beyond it the pipe is closed, which ends a program that goes on writing.
async fn all(pipe: Option<impl AsyncRead + Unpin>, out: &mut Vec<u8>, too_long: &mut bool) {
    let Some(pipe) = pipe else { return };
    let mut pipe = pipe.take(body::MAX_LEN as u64 + 1);
    let _ = pipe.read_to_end(out).await;
    *too_long = out.len() > body::MAX_LEN;
}

/// Reads everything and keeps the end.
async fn last(pipe: Option<impl AsyncRead + Unpin>, out: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = pipe.read(&mut piece).await {
        out.extend_from_slice(piece.get(..n).unwrap_or_default());
        out.drain(..out.len().saturating_sub(MAX_STDERR));
    }
}
