//! Where the log goes and how it looks.

use crate::config::LogFormat;
use clap::ValueEnum;
use std::io::IsTerminal;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait until standard error takes them, 300 octets each and seldom more: 2 MB.
const QUEUE: usize = 8_192;

/// How log lines are written, on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        }
    }
}

/// The log of this process. Dropped, it writes what waits; a reader that takes nothing is not waited for longer than a second.
#[derive(Debug)]
pub(super) struct Log {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Counts the lines that found the queue full and are lost.
    pub(super) fn lines_dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let dropped = self.dropped.clone();
        move || dropped.dropped_lines() as u64
    }
}

/// Starts logging to standard error. `STILLGOOD_LOG` sets the level (`debug`, or `info,stillgood::presign=debug`).
///
/// Those who log do not wait: a thread writes, because a pipe that nobody reads would stop whoever writes into it, and the
/// workers of the endpoint log too.
pub(super) fn start(format: LogFormat) -> Log {
    let filter = EnvFilter::try_from_env("STILLGOOD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let log = Log { dropped: writer.error_counter(), _writer: guard };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second subscriber in one process (tests) is harmless.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    log
}
