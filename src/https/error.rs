//! What went wrong with an exchange, and how far it had come.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How far an exchange had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// All connections were in use.
    Queued,
    /// Looking up the name, connecting.
    Connecting,
    /// Shaking hands by TLS.
    Handshake,
    /// Sending the request.
    Sending,
    /// Waiting for the head of the response.
    Waiting,
    /// Reading the body of the response.
    Reading,
}

/// Why an exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The server's host and port.
    pub server: String,
    /// How far it had come.
    pub stage: Stage,
    /// Whether any octet of the request had left; if not, the server knows nothing of it.
    pub sent: bool,
    /// What it was.
    pub cause: Cause,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The deadline, or the time for connecting, had passed.
    TimedOut,
    /// The name is not known or nobody takes the connection.
    Unreachable(String),
    /// The server's certificate is not accepted.
    NotTrusted(String),
    /// The server does not accept our certificate, or wants one.
    CredentialRefused(String),
    /// The leave to send it was withdrawn before it was sent.
    Withdrawn,
    /// Our own certificate or key cannot be used; no connection was made.
    Credential(super::CredentialError),
    /// The roots cannot be read; no connection was made.
    Trust(String),
    /// TLS failed otherwise.
    Tls(String),
    /// The connection broke.
    Broken(String),
    /// What came back is not HTTP, or its head is too large.
    NotHttp(String),
    /// The body is larger than allowed.
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { server, stage, .. } = self;
        match &self.cause {
            Cause::TimedOut => write!(f, "{server}: out of time while {stage}"),
            Cause::Unreachable(e) => write!(f, "{server} cannot be reached: {e}"),
            Cause::NotTrusted(e) => write!(f, "the certificate of {server} is not accepted: {e}"),
            Cause::CredentialRefused(e) => write!(f, "{server} does not accept our client certificate: {e}"),
            Cause::Withdrawn => write!(f, "{server}: the request was withdrawn before any of it was sent"),
            Cause::Credential(e) => e.fmt(f),
            Cause::Trust(e) => f.write_str(e),
            Cause::Tls(e) => write!(f, "{server}: TLS failed: {e}"),
            Cause::Broken(e) => write!(f, "{server}: the connection broke while {stage}: {e}"),
            Cause::NotHttp(e) => write!(f, "{server}: what it answered is not usable HTTP: {e}"),
            Cause::TooLarge { limit } => write!(f, "{server}: the response is larger than {limit} octets"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Queued => "waiting for one of our connections to be free",
            Stage::Connecting => "connecting",
            Stage::Handshake => "shaking hands by TLS",
            Stage::Sending => "sending the request",
            Stage::Waiting => "waiting for the response",
            Stage::Reading => "reading the response",
        })
    }
}

/// How far the exchange under way has come, for whoever ends it from outside.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    sent: AtomicBool,
}

impl Progress {
    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// An octet of the request has left.
    pub(super) fn sent_something(&self) {
        if !self.sent.swap(true, Ordering::Relaxed) {
            self.enter(Stage::Waiting);
        }
    }

    pub(super) fn error(&self, server: &str, cause: Cause) -> Error {
        let stages =
            [Stage::Queued, Stage::Connecting, Stage::Handshake, Stage::Sending, Stage::Waiting, Stage::Reading];
        let stage = stages.into_iter().find(|s| *s as u8 == self.stage.load(Ordering::Relaxed));
        Error { server: server.to_owned(), stage: stage.unwrap_or(Stage::Queued), sent: self.sent(), cause }
    }

    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}
