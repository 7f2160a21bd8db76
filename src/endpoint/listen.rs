//! Listening sockets.

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel holds for one listener until we accept them. The kernel's own limit
/// (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 4_096;

/// Why the endpoint cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No address and no socket.
    #[error("the endpoint has no address to listen on; name at least one, such as 0.0.0.0:80")]
    Nowhere,
    /// A socket for this address cannot be made.
    #[error("cannot listen on {address}: {source}; {remedy}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A socket that was handed over cannot be used.
    #[error("cannot use listening socket number {index} that was handed over: {source}")]
    Socket {
        /// Its place in [`super::Settings::sockets`].
        index: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A worker cannot be started.
    #[error(
        "cannot start worker {index} of the endpoint: {source}; lower the number of workers or raise the limits on threads and open files"
    )]
    Worker {
        /// Which.
        index: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// Sockets for `address`, one per worker, all on one port (the kernel's choice when it is 0).
///
/// They share the port by SO_REUSEPORT, which would let a second process of the same user join silently. So unless
/// `share_port`, a socket that shares with nobody must be possible first.
pub(super) fn bind(address: SocketAddr, workers: usize, share_port: bool) -> Result<Vec<TcpListener>, StartError> {
    let failed = |source: io::Error| StartError::Listen { address, remedy: remedy(&source), source };
    let mut address = address;
    if !share_port && address.port() != 0 {
        socket(address, false).map_err(failed)?;
    }
    let mut listeners = Vec::new();
    for _ in 0..workers {
        let socket = socket(address, true).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr().map_err(failed)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// A handle for each worker to a socket that somebody else has bound and listens on.
pub(super) fn share(listener: &TcpListener, workers: usize) -> io::Result<Vec<TcpListener>> {
    listener.set_nonblocking(true)?;
    SockRef::from(listener).set_tcp_nodelay(true)?;
    (0..workers).map(|_| listener.try_clone()).collect()
}

/// Raises the soft limit on open files to `wanted`, if the hard limit allows; gives what the limit is then.
pub(super) fn open_files(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < wanted {
        let raised = limit.maximum.unwrap_or(u64::MAX).min(wanted);
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }).is_ok() {
            current = raised;
        }
    }
    usize::try_from(current).unwrap_or(usize::MAX)
}

/// A bound socket.
fn socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Otherwise [::]:80 would take 0.0.0.0:80 too, and they could not both be named.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it (`ss -ltnp` shows which), or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: grant CAP_NET_BIND_SERVICE, use socket activation, or choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "no interface has this address: check it against `ip address`",
        _ => "check the address and the limits of the process",
    }
}
