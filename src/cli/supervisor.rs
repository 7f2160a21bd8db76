//! What a service manager gives and is told: listening sockets, readiness, the watchdog.
//!
//! These are systemd's protocols, sd_listen_fds(3) and sd_notify(3), which other managers speak too. Without one in the
//! environment nothing here does anything.

use crate::endpoint::Pulse;
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

    /// Says that all is well, if that is due and every worker has its turns. To be called often, by whoever must have turns
    /// too: who stops calling is started anew by the manager.
    pub(super) fn feed(&mut self, workers: &Pulse) {
        let Some(every) = self.feed_every else { return };
        let now = monotonic();
        let is_due = self.fed.is_none_or(|fed| now.saturating_duration_since(fed) >= every);
        if is_due && workers.fault(Pulse::OVERDUE).is_none() {
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
    use crate::admin::{self, AdminHandle, State};
    use crate::endpoint::{Answer, Handle, Server, Service, Settings, Source};
    use crate::ocsp::{ErrorStatus, Request};
    use crate::presign::DemandSettings;
    use crate::responder::{Responder, ResponderSettings};
    use crate::time::{Clock, SystemClock, Timestamp};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::{Arc, Mutex};

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
        let endpoint = endpoint(Arc::new(Blocking::default()));
        let workers = endpoint.pulse();
        let (mut without, from) = supervisor(None);
        without.feed(&workers);
        assert_eq!(heard(&from), None);
        let (mut with, from) = supervisor(Some(Duration::from_secs(3600)));
        with.feed(&workers);
        with.feed(&workers);
        assert_eq!((heard(&from), heard(&from)), (Some("WATCHDOG=1".into()), None));
        let (mut always, from) = supervisor(Some(Duration::ZERO));
        always.feed(&workers);
        always.feed(&workers);
        assert_eq!((heard(&from), heard(&from)), (Some("WATCHDOG=1".into()), Some("WATCHDOG=1".into())));
    }

    /// A source that keeps the worker's thread as long as the test wants.
    #[derive(Default)]
    struct Blocking(Mutex<()>);

    impl Source for Blocking {
        fn answer(&self, _: &Request<'_>, _: Timestamp, _: &mut Vec<u8>) -> Answer {
            drop(self.0.lock());
            Answer::Refused(ErrorStatus::TryLater)
        }
    }

    fn endpoint(source: Arc<Blocking>) -> Handle {
        let settings = Settings { listen: vec!["127.0.0.1:0".parse().unwrap()], workers: 1, ..Settings::default() };
        Server::start(&Service::new(source), settings).unwrap()
    }

    /// The first line of what the admin listener says.
    fn says(admin: &AdminHandle, path: &str) -> String {
        let mut stream = TcpStream::connect(admin.address()).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn eventually(what: &str, happens: impl Fn() -> bool) {
        let began = monotonic();
        while !happens() {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn a_worker_that_hangs_is_not_alive_and_its_watchdog_is_not_fed() {
        let source = Arc::new(Blocking::default());
        let endpoint = endpoint(source.clone());
        let workers = endpoint.pulse();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let responder = Responder::start(ResponderSettings {
            state_dir: None,
            presign_workers: 1,
            background_nice: 0,
            demand: DemandSettings::default(),
            clock: clock.clone(),
        });
        let state = Arc::new(State::new(responder, &endpoint, Arc::default(), clock));
        let admin = admin::start("127.0.0.1:0".parse().unwrap(), state).unwrap();
        let (mut supervisor, manager) = supervisor(Some(Duration::ZERO));
        supervisor.feed(&workers);
        assert_eq!(heard(&manager), Some("WATCHDOG=1".into()));
        assert!(says(&admin, "/healthz").contains("200 OK"));

        let held = source.0.lock().unwrap();
        let mut client = TcpStream::connect(endpoint.addresses()[0]).unwrap();
        let serial_1 = "30423040303e303c303a300906052b0e03021a05000414111111111111111111111111111111111111111104142222222222222222222222222222222222222222020101";
        let body = data_encoding::HEXLOWER.decode(serial_1.as_bytes()).unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        eventually("it is noticed", || says(&admin, "/healthz").contains("503 "));
        let hangs = "worker 0 of 1 of the endpoint hangs: silent for 1";
        assert!(says(&admin, "/healthz").contains(hangs) && says(&admin, "/readyz").contains(hangs));
        supervisor.feed(&workers);
        assert_eq!(heard(&manager), None, "not fed");

        drop(held);
        eventually("it is at work again", || says(&admin, "/healthz").contains("200 OK"));
        supervisor.feed(&workers);
        assert_eq!(heard(&manager), Some("WATCHDOG=1".into()));
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
