//! What a service manager gives and is told: listening sockets, readiness, the watchdog.
//!
//! These are systemd's protocols, sd_listen_fds(3) and sd_notify(3), which other managers speak too. Without one in the
//! environment nothing here does anything.

use crate::time::monotonic;
use listenfd::ListenFd;
use socket2::SockRef;
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::time::{Duration, Instant};

/// The name (`FileDescriptorName=`) of the socket that is for the admin listener. All others are for the endpoint.
const ADMIN: &str = "admin";
/// How often the watchdog is fed within its interval: two may be missed.
const FEEDS: u32 = 4;

/// Sockets that listen already when the process starts. They outlive it, so that a restart refuses nobody.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) endpoint: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

impl Sockets {
    /// Those that were handed to this process.
    pub(super) fn inherited() -> Result<Self, String> {
        let mut given = ListenFd::from_env();
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut sockets = Sockets::default();
        for index in 0..given.len() {
            let name = names.get(index).copied().unwrap_or_default();
            let fault = |why: &dyn std::fmt::Display| {
                format!(
                    "socket number {index} ('{name}') that was handed over by LISTEN_FDS cannot be used: {why}; name TCP \
                    addresses in ListenStream=, and no Accept=yes"
                )
            };
            let Some(socket) = given.take_tcp_listener(index).map_err(|error| fault(&error))? else { continue };
            if !SockRef::from(&socket).is_listener().map_err(|error| fault(&error))? {
                return Err(fault(&"it does not listen"));
            }
            match (name, &sockets.admin) {
                (ADMIN, None) => sockets.admin = Some(socket),
                (ADMIN, Some(_)) => return Err(fault(&"there is one for the admin listener already")),
                _ => sockets.endpoint.push(socket),
            }
        }
        Ok(sockets)
    }

    /// Other handles to the endpoint's sockets.
    pub(super) fn for_endpoint(&self) -> Result<Vec<TcpListener>, String> {
        let cloned: std::io::Result<_> = self.endpoint.iter().map(TcpListener::try_clone).collect();
        cloned.map_err(|error| format!("a socket that was handed over cannot be used again: {error}"))
    }
}

/// Whoever started this process and wants to know how it is.
#[derive(Debug)]
pub(super) struct Supervisor {
    to: Option<UnixDatagram>,
    feed_every: Option<Duration>,
    fed: Option<Instant>,
}

impl Supervisor {
    /// By NOTIFY_SOCKET and WATCHDOG_USEC.
    pub(super) fn from_env() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let socket = connect(&name);
            socket.map_err(|error| tracing::warn!("NOTIFY_SOCKET {}: {error}", name.display())).ok()
        });
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval = number("WATCHDOG_USEC").filter(|usec| is_for_us && *usec > 0).map(Duration::from_micros);
        Supervisor { to, feed_every: interval.map(|interval| interval / FEEDS), fed: None }
    }

    /// Requests are answered, on these addresses.
    pub(super) fn ready(&self, addresses: &[SocketAddr]) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.tell(&format!("READY=1\nSTATUS=answering on {}", addresses.join(", ")));
    }

    /// The configuration is being read again; [`Supervisor::ready`] ends it.
    pub(super) fn reloading(&self) {
        // The manager tells by this time whether the word is an answer to its own wish.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Requests in progress are answered, and then the process ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Says that all is well, if that is due. To be called often, and only while all is well: whoever stops calling is
    /// started anew by the manager.
    pub(super) fn feed(&mut self) {
        let Some(every) = self.feed_every else { return };
        let now = monotonic();
        if self.fed.is_none_or(|fed| now.saturating_duration_since(fed) >= every) {
            self.fed = Some(now);
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, state: &str) {
        if let Some(to) = &self.to
            && let Err(error) = to.send(state.as_bytes())
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }
}

/// A socket to the manager; a name that begins with `@` is in the abstract name space.
fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes() {
        [b'@', name @ ..] => socket.connect_addr(&net::SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(name)?,
    }
    // A manager that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(feed_every: Option<Duration>) -> (Supervisor, UnixDatagram) {
        let (to, from) = UnixDatagram::pair().unwrap();
        from.set_nonblocking(true).unwrap();
        (Supervisor { to: Some(to), feed_every, fed: None }, from)
    }

    fn heard(from: &UnixDatagram) -> Option<String> {
        let mut octets = [0; 512];
        from.recv(&mut octets).ok().map(|len| String::from_utf8_lossy(&octets[..len]).into_owned())
    }

    #[test]
    fn the_manager_is_told_each_state_in_one_datagram() {
        let (supervisor, from) = supervisor(None);
        supervisor.ready(&["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
        supervisor.reloading();
        supervisor.stopping();
        assert_eq!(heard(&from).unwrap(), "READY=1\nSTATUS=answering on 127.0.0.1:80, [::1]:80");
        let reloading = heard(&from).unwrap();
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
        assert!(micros.parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(heard(&from).unwrap(), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn the_watchdog_is_fed_only_where_there_is_one_and_not_more_often_than_it_needs() {
        let (mut without, from) = supervisor(None);
        without.feed();
        assert_eq!(heard(&from), None);
        let (mut with, from) = supervisor(Some(Duration::from_secs(3600)));
        with.feed();
        with.feed();
        assert_eq!((heard(&from), heard(&from)), (Some("WATCHDOG=1".into()), None));
        let (mut always, from) = supervisor(Some(Duration::ZERO));
        always.feed();
        always.feed();
        assert_eq!((heard(&from), heard(&from)), (Some("WATCHDOG=1".into()), Some("WATCHDOG=1".into())));
    }

    #[test]
    fn a_manager_in_the_abstract_name_space_is_reached() {
        let name = format!("stillgood-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        manager.set_nonblocking(true).unwrap();
        let to = connect(OsStr::new(&format!("@{name}"))).unwrap();
        to.send(b"READY=1").unwrap();
        assert_eq!(heard(&manager).unwrap(), "READY=1");
        assert!(connect(OsStr::new("/nowhere/to/be/found")).is_err());
    }
}
