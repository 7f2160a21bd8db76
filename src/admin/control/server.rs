//! The server at the socket: one thread, few connections, short requests.

use super::call::{Answer, Call, Refusal, RefusalKind, Request, Target, VERSION};
use super::peer::Caller;
use super::socket::{Bound, SocketError};
use super::{Command, Control, Order};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot};

/// Octets of a request, its end of line included: a reason of a few sentences and two names.
pub const MAX_REQUEST: usize = 16 << 10;
/// Connections at a time; operators are few, and each asks once.
const MAX_CONNECTIONS: usize = 32;
/// From connecting, or the last answer, to the end of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// For the work: the slowest is the history of a rare issuer in a trail of its full length.
const WORK_TIMEOUT: Duration = Duration::from_secs(20);
/// For the client to take the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause: what is to rest for longer is to be disabled in the registry.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(31 * 86_400);
/// Octets of a reason.
const MAX_REASON: usize = 1_000;

/// A running control socket; stops when dropped, and removes its file.
#[derive(Debug)]
pub struct ControlHandle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens at `path` on a thread of its own. The file has this mode, 0o600 for the owner of this process alone.
///
/// # Errors
/// If another process answers there, the path cannot be a socket's, or the system refuses.
pub fn start<C: Control>(path: &Path, mode: u32, control: Arc<C>) -> Result<ControlHandle, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let (listener, bound) = Bound::new(path, mode)?;
    listener.set_nonblocking(true).map_err(io)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let _bound = bound;
            runtime.block_on(async {
                let listener = match UnixListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "the control socket cannot be used"),
                };
                tokio::select! {
                    () = accept(listener, control) => {}
                    _ = stopped => {}
                }
            });
            // What still works in the background is not waited for.
            runtime.shutdown_background();
        })
        .map_err(io)?;
    Ok(ControlHandle { stop: Some(stop), thread: Some(thread) })
}

async fn accept<C: Control>(listener: UnixListener, control: Arc<C>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            let text = format!("{MAX_CONNECTIONS} connections are open; ask again");
            // One packet into an empty socket buffer: taken at once or not at all.
            let _ = stream.try_write(refusal(RefusalKind::Busy, text).as_bytes());
            continue;
        };
        let control = control.clone();
        tokio::spawn(async move {
            converse(stream, &*control).await;
            drop(place);
        });
    }
}

/// Answers one request after the other until the client has no more, is slow, or cannot be understood.
async fn converse<C: Control>(mut stream: UnixStream, control: &C) {
    let caller = match stream.peer_cred() {
        Ok(peer) => Caller::of(peer.uid(), peer.pid()),
        Err(error) => return tracing::warn!(%error, "the kernel does not say who connected to the control socket"),
    };
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut from).take(MAX_REQUEST as u64);
        let read = tokio::time::timeout(REQUEST_TIMEOUT, limited.read_until(b'\n', &mut line)).await;
        let (answer, last) = match read {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) if line.last() == Some(&b'\n') => {
                let work = tokio::time::timeout(WORK_TIMEOUT, answer(&line, &caller, control)).await;
                let late = || refusal(RefusalKind::Failed, format!("no answer within {} s", WORK_TIMEOUT.as_secs()));
                (work.unwrap_or_else(|_| late()), false)
            }
            Ok(Ok(n)) if n >= MAX_REQUEST => {
                (refusal(RefusalKind::Malformed, format!("a request has at most {MAX_REQUEST} octets")), true)
            }
            Ok(Ok(_)) => (refusal(RefusalKind::Malformed, "a request ends with the end of a line"), true),
            Err(_) => {
                let text = format!("no complete request within {} s", REQUEST_TIMEOUT.as_secs());
                (refusal(RefusalKind::Malformed, text), true)
            }
        };
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, to.write_all(answer.as_bytes())).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer<C: Control>(line: &[u8], caller: &Caller, control: &C) -> String {
    let malformed = |text| refusal(RefusalKind::Malformed, text);
    // The version first: a later one may ask for what this one cannot read.
    let version = serde_json::from_slice::<Version>(line);
    match version {
        Ok(Version { v }) if v != VERSION => {
            return malformed(format!("version {v} of the protocol; this service speaks version {VERSION}"));
        }
        Err(error) => return malformed(format!("not a request: {error}")),
        Ok(_) => {}
    }
    match serde_json::from_slice::<Request>(line) {
        Ok(request) => match call(request.call, caller, control).await {
            Ok(answer) => answer,
            Err(Refusal { kind, text }) => refusal(kind, text),
        },
        Err(error) => malformed(format!("not a request: {error}")),
    }
}

#[derive(serde::Deserialize)]
struct Version {
    v: u32,
}

async fn call<C: Control>(call: Call, caller: &Caller, control: &C) -> Result<String, Refusal> {
    let command = |order, reason: String| async move {
        let reason = reason.trim().to_owned();
        if reason.len() > MAX_REASON {
            return Err(Refusal::new(RefusalKind::Malformed, format!("reason: at most {MAX_REASON} octets")));
        }
        result(&control.command(caller.clone(), Command { order, reason }).await?)
    };
    match call {
        Call::Status {} => result(&control.status().await?),
        Call::Plan {} => result(&control.plan().await?),
        Call::Impact { file } if !file.is_absolute() => {
            Err(Refusal::new(RefusalKind::Malformed, "file: the path is not absolute"))
        }
        Call::Impact { file } => result(&control.impact(file).await?),
        Call::Explain { slot } => result(&control.explain(one(slot)?).await?),
        Call::History { about, since, limit } => result(&control.history(about, since, limit).await?),
        Call::Pause { reason, .. } if reason.trim().is_empty() => {
            Err(Refusal::new(RefusalKind::Malformed, "reason: a pause says why"))
        }
        Call::Pause { for_secs, .. } if for_secs == 0 || for_secs > MAX_PAUSE.as_secs() => {
            let text = format!(
                "the length of a pause (--for, for_secs): from 1 s to {} days; what is to rest for longer is to be disabled in the registry",
                MAX_PAUSE.as_secs() / 86_400
            );
            Err(Refusal::new(RefusalKind::Malformed, text))
        }
        Call::Pause { reach, for_secs, reason } => {
            command(Order::Pause(reach, Duration::from_secs(for_secs)), reason).await
        }
        Call::Resume { reach, reason } => command(Order::Resume(reach), reason).await,
        Call::Renew { reach, reason } => command(Order::Renew(reach), reason).await,
        Call::Resign { reach, reason } => command(Order::Resign(reach), reason).await,
        Call::Unpark { reach, reason } => command(Order::Unpark(reach), reason).await,
        Call::ApproveSigner { slot, reason } => command(Order::ApproveSigner(one(slot)?), reason).await,
        Call::ApproveRegistry { generation, reason } => command(Order::ApproveRegistry(generation), reason).await,
    }
}

/// A slot, not a group of them.
fn one(slot: Target) -> Result<Target, Refusal> {
    match slot {
        Target::All | Target::Endpoint(_) => {
            Err(Refusal::new(RefusalKind::Malformed, "slot: name one issuer or one credential"))
        }
        slot => Ok(slot),
    }
}

fn result<T: Serialize>(value: &T) -> Result<String, Refusal> {
    let failed = |error: serde_json::Error| Refusal::new(RefusalKind::Failed, error.to_string());
    let raw = serde_json::value::to_raw_value(value).map_err(failed)?;
    line(&Answer { v: VERSION, result: Some(&raw), refusal: None }).map_err(failed)
}

fn refusal(kind: RefusalKind, text: impl Into<String>) -> String {
    line(&Answer { v: VERSION, result: None, refusal: Some(Refusal::new(kind, text)) }).unwrap_or_default()
}

fn line(answer: &Answer<'_>) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string(answer)? + "\n")
}
