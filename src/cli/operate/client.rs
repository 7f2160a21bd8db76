//! The other end of the control socket.

use crate::admin::control::{Answer, Call, MAX_REQUEST, Refusal, RefusalKind, Request, VERSION};
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The service gives up after 20 seconds, and says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The state of 100 000 issuers, with a kilobyte for each.
const MAX_ANSWER: u64 = 128 << 20;
/// How often a busy service is asked, and how long is waited before each further time.
const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_millis(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Trouble {
    /// What was typed cannot be used.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// The service says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The answer cannot be used.
    #[error("{0}")]
    Failed(String),
}

/// Asks the service at `socket` once; a busy one a few times.
pub(in crate::cli) fn ask<T: DeserializeOwned>(socket: &Path, call: &Call) -> Result<T, Trouble> {
    let mut tries = 0;
    loop {
        tries += 1;
        match ask_once(socket, call) {
            Err(Trouble::Refused(refusal)) if refusal.kind == RefusalKind::Busy && tries < TRIES => {
                std::thread::sleep(PATIENCE * tries);
            }
            answer => return answer,
        }
    }
}

fn ask_once<T: DeserializeOwned>(socket: &Path, call: &Call) -> Result<T, Trouble> {
    let at = socket.display();
    let mut stream = UnixStream::connect(socket).map_err(|error| Trouble::Unreachable(why(socket, &error)))?;
    let lost = |error: io::Error| {
        let text = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("the service at {at} did not answer within {} s", ANSWER_TIMEOUT.as_secs())
            }
            _ => format!("the service at {at} broke the connection off: {error}"),
        };
        Trouble::Unreachable(text)
    };
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
    let request = Request { v: VERSION, call: call.clone() };
    let mut line = serde_json::to_vec(&request).map_err(|error| Trouble::Failed(error.to_string()))?;
    line.push(b'\n');
    if line.len() > MAX_REQUEST {
        return Err(Trouble::Usage(format!("that is longer than a request may be, {MAX_REQUEST} octets")));
    }
    // A busy service answers and closes before it has read anything: the answer counts, not the failure to write.
    let written = stream.write_all(&line);
    let mut answer = Vec::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer);
    match (read, written) {
        (Ok(0), Err(error)) | (Err(error), _) => return Err(lost(error)),
        (Ok(0), Ok(())) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
        (Ok(_), _) => {}
    }
    let garbled = |error: serde_json::Error| {
        Trouble::Failed(format!(
            "the answer of the service at {at} cannot be read ({error}); is it of another version?"
        ))
    };
    let answer: Answer<'_> = serde_json::from_slice(&answer).map_err(garbled)?;
    match (answer.result, answer.refusal) {
        (_, Some(refusal)) => Err(refusal.into()),
        (Some(result), None) => serde_json::from_str(result.get()).map_err(garbled),
        (None, None) => Err(Trouble::Failed(format!("the service at {at} answered nothing"))),
    }
}

/// Why nobody can be reached there, and what to do.
fn why(socket: &Path, error: &io::Error) -> String {
    let at = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "no service answers: there is no socket {at}; start it with `stillgood serve`, or name another socket"
            )
        }
        io::ErrorKind::ConnectionRefused => {
            format!(
                "no service answers at {at}: the process that made this socket is gone; start it with `stillgood serve`"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("{at} may be used only by the user the service runs as; try again as that user")
        }
        _ => match crate::admin::control::too_long(socket) {
            Some(error) => error.to_string(),
            None => format!("no service can be reached at {at}: {error}"),
        },
    }
}
