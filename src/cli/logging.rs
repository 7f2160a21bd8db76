//! Where the log goes and how it looks.

use crate::config::LogFormat;
use clap::ValueEnum;
use std::ffi::OsStr;
use std::io::IsTerminal;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sets the level.
const VARIABLE: &str = "STILLGOOD_LOG";

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
    let (filter, fault) = filter(std::env::var_os(VARIABLE).as_deref());
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
    if let Some(fault) = fault {
        tracing::warn!("{fault}");
    }
    log
}

/// What is logged by this value of the variable, and what is wrong with it. Empty counts as not set.
fn filter(value: Option<&OsStr>) -> (EnvFilter, Option<String>) {
    let info = || EnvFilter::new("info");
    let Some(value) = value.filter(|value| !value.is_empty()) else { return (info(), None) };
    let text = value.to_string_lossy();
    // To the parser a word that is no level is a part of the program, and everything else would fall silent.
    let words = text.split(',').map(str::trim);
    let no_level = words.filter(|word| !word.contains(['=', '['])).find(|word| word.parse::<LevelFilter>().is_err());
    let parsed = match no_level {
        Some(word) => Err(format!("\"{word}\" is not a level")),
        None => EnvFilter::try_new(&text).map_err(|error| error.to_string()),
    };
    match parsed {
        Ok(filter) => (filter, None),
        Err(error) => {
            let levels =
                "a level is error, warn, info, debug, trace or off, a list is as in info,stillgood::presign=debug";
            (info(), Some(format!("{VARIABLE}={text} cannot be read, and counts as info: {error}; {levels}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_counts_as_info_and_is_told() {
        for good in ["debug", "info,stillgood::presign=debug", "off", "info,audit=off"] {
            let (filter, fault) = filter(Some(OsStr::new(good)));
            assert_eq!((filter.to_string().contains(good.rsplit('=').next().unwrap()), fault), (true, None), "{good}");
        }
        for unset in [None, Some(OsStr::new(""))] {
            let (filter, fault) = filter(unset);
            assert_eq!((filter.to_string().as_str(), fault), ("info", None));
        }
        for wrong in ["info,audit=dbug", "dbug", "info;debug", "=debug"] {
            let (filter, fault) = filter(Some(OsStr::new(wrong)));
            let fault = fault.expect(wrong);
            assert_eq!(filter.to_string(), "info", "{wrong}");
            assert!(fault.starts_with(&format!("STILLGOOD_LOG={wrong} cannot be read")), "{fault}");
        }
    }
}
