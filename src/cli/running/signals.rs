//! What the system tells a running service.

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// From now on a write beyond the limit on the size of a file (`ulimit -f`) fails, as one to a full disk does, and does not end the
/// process. What it starts gets the system's way back.
///
/// Within a runtime, and before anything is written.
pub(super) fn outlive_limit_on_files() -> Result<(), String> {
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // What takes the signal in the place of the system stays when the listener goes.
    signal(kind).map(drop).map_err(cannot_listen)
}

fn cannot_listen(error: std::io::Error) -> String {
    format!("cannot listen to signals: {error}")
}

/// The signals a service listens to.
pub(super) struct Signals {
    term: Listener,
    int: Listener,
    hup: Listener,
}

impl Signals {
    pub(super) fn new() -> Result<Self, String> {
        let of = |kind| signal(kind).map_err(cannot_listen);
        Ok(Signals {
            term: of(SignalKind::terminate())?,
            int: of(SignalKind::interrupt())?,
            hup: of(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop("SIGTERM"),
            _ = self.int.recv() => Signal::Stop("SIGINT"),
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}

/// What a signal asks for.
pub(super) enum Signal {
    Reload,
    Stop(&'static str),
}
