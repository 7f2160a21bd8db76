//! The sections that concern the process: `[endpoint]`, `[admin]`, `[on_demand]`, `[presign]`.

use super::document::{Collector, Node, Section};
use super::quantity::{ByteSize, Rate};
use super::response::duration;
use crate::ocsp::mount_prefix;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Loopback: nothing is open to the world until the operator says so.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Loopback: the status page and the metrics are not for the world.
pub const DEFAULT_ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// Where responders are usually mounted; the root always answers too.
pub const DEFAULT_MOUNT: &str = "/ocsp";
/// A request head fits one packet; ten seconds are for a bad mobile link, not for a client that does not mean it.
pub const DEFAULT_HEADER_TIMEOUT: Duration = seconds(10);
/// A body of at most 10 kB, for the same link.
pub const DEFAULT_BODY_TIMEOUT: Duration = seconds(10);
/// Clients ask in bursts of a page load; a minute keeps the connection for the next one.
pub const DEFAULT_IDLE_TIMEOUT: Duration = seconds(60);
/// A response of 2 kB that is not taken for so long is never taken.
pub const DEFAULT_WRITE_TIMEOUT: Duration = seconds(10);
/// 5 kB each where they are idle; 70 kB, 700 MB in all, where each is stuck within the largest of requests.
pub const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
/// Long enough that handshakes do not show, short enough that a load balancer can even out its connections.
pub const DEFAULT_MAX_REQUESTS_PER_CONNECTION: u32 = 10_000;
/// About a tenth of what one core signs with ECDSA P-256, and about a whole core with RSA-2048.
pub const DEFAULT_ON_DEMAND_RATE: Rate = Rate { count: 1000, per: seconds(1) };
/// One second of the default rate: who waits longer is better served by `tryLater`.
pub const DEFAULT_ON_DEMAND_QUEUE: usize = 1024;
/// Roughly 60 000 answers with their keys and the cache's own books.
pub const DEFAULT_ON_DEMAND_CACHE: ByteSize = ByteSize(64 << 20);
/// Clients give up after a few seconds (browsers 3 s, OpenSSL none); a late answer helps nobody.
pub const DEFAULT_ON_DEMAND_TIMEOUT: Duration = seconds(2);
/// An event has about 250 octets: 60 000 to a file, a year of some 20 renewals a day.
pub const DEFAULT_AUDIT_SIZE: ByteSize = ByteSize(16 << 20);
/// With the default size half a gigabyte at most.
pub const DEFAULT_AUDIT_KEEP: usize = 32;
/// Half-way down: signing gives way to serving and still gets about a tenth of a busy core.
pub const DEFAULT_BACKGROUND_NICE: u8 = 10;
/// A request tells who wants to reach whom: none is logged until the operator says so.
pub const DEFAULT_LOG_REQUESTS: u32 = 0;
/// More threads than any machine this runs on has cores.
pub const MAX_WORKERS: usize = 1024;
/// More addresses than this is a range written out by hand.
pub const MAX_LISTEN: usize = 64;
/// More prefixes than this would be tried for every request.
pub const MAX_MOUNTS: usize = 64;

/// `[endpoint]`: the public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Addresses to listen on, at least one.
    pub listen: Vec<SocketAddr>,
    /// Threads with a runtime of their own; 0 means one per core.
    pub workers: usize,
    /// Path prefixes that are taken off before a GET is decoded, each beginning with `/` and not ending with it. The
    /// root always answers.
    pub mounts: Vec<String>,
    /// From accepting (or the end of the last answer's first octet) to the end of the request head.
    pub header_timeout: Duration,
    /// From the head to the end of the body.
    pub body_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long a client may take none of the octets of an answer.
    pub write_timeout: Duration,
    /// Connections at a time, over all addresses and workers.
    pub max_connections: usize,
    /// After so many requests a connection is closed.
    pub max_requests_per_connection: u32,
    /// Connections at a time of one client (an IPv4 address or an IPv6 /64); 0 sets no limit.
    pub max_connections_per_client: usize,
}

/// `[admin]`: status page, metrics, health and operator commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address; `None` (written `"off"`) for none.
    pub listen: Option<SocketAddr>,
    /// The Unix socket for operator commands; its file permissions are the access control.
    pub socket: PathBuf,
    /// Those permissions: 0o600, or 0o660 for operators of the service's group.
    pub socket_mode: u32,
    /// A file of the audit trail that would grow beyond this is put aside.
    pub audit_size: ByteSize,
    /// Files of the audit trail that were put aside and are kept.
    pub audit_keep: usize,
}

/// `[log]`: what is written to standard error, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look, where the command line says nothing else.
    pub format: LogFormat,
    /// One request in so many is logged, by each worker; 0 is none.
    pub requests: u32,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[on_demand]`: signing while a client waits.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDemand {
    /// Signatures per interval, over all issuers; beyond it the answer is `tryLater`.
    pub rate: Rate,
    /// Requests that may wait for a signature; beyond it the answer is `tryLater`.
    pub queue: usize,
    /// Memory for answers signed on demand.
    pub cache: ByteSize,
    /// How long a request may wait for its signature.
    pub timeout: Duration,
}

/// `[presign]`: signing ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presign {
    /// Threads that sign; 0 means one per core.
    pub workers: usize,
    /// The nice value of those threads once the first round is done, 0 to 19.
    pub background_nice: u8,
}

impl Endpoint {
    pub(super) fn read(mut s: Section<'_>, out: &mut Collector) -> Self {
        let minute = |n: &Node| duration(n, Duration::from_millis(100), seconds(600));
        let endpoint = Endpoint {
            listen: s.optional("listen", out, listen).unwrap_or_else(|| vec![DEFAULT_LISTEN]),
            workers: s.optional("workers", out, workers).unwrap_or(0),
            mounts: s.optional("mounts", out, mounts).unwrap_or_else(|| vec![DEFAULT_MOUNT.to_owned()]),
            header_timeout: s.optional("header_timeout", out, minute).unwrap_or(DEFAULT_HEADER_TIMEOUT),
            body_timeout: s.optional("body_timeout", out, minute).unwrap_or(DEFAULT_BODY_TIMEOUT),
            idle_timeout: s.optional("idle_timeout", out, minute).unwrap_or(DEFAULT_IDLE_TIMEOUT),
            write_timeout: s.optional("write_timeout", out, minute).unwrap_or(DEFAULT_WRITE_TIMEOUT),
            max_connections: s
                .optional("max_connections", out, |n| n.integer(1, 1_000_000))
                .unwrap_or(DEFAULT_MAX_CONNECTIONS),
            max_requests_per_connection: s
                .optional("max_requests_per_connection", out, |n| n.integer(1, 1_000_000_000))
                .unwrap_or(DEFAULT_MAX_REQUESTS_PER_CONNECTION),
            // No limit: behind a proxy or a carrier's NAT all clients look like one.
            max_connections_per_client: s
                .optional("max_connections_per_client", out, |n| n.integer(0, 1_000_000))
                .unwrap_or(0),
        };
        s.finish(out);
        endpoint
    }
}

impl Admin {
    pub(super) fn read(
        mut s: Section<'_>,
        base: &Path,
        state_dir: &Path,
        public: &[SocketAddr],
        out: &mut Collector,
    ) -> Self {
        let listen = s
            .optional("listen", out, |n| match n.string()? {
                "off" => Ok(None),
                text => address(text).map(Some),
            })
            .unwrap_or(Some(DEFAULT_ADMIN_LISTEN));
        let socket = s.optional("socket", out, |n| path(n, base)).unwrap_or_else(|| state_dir.join("admin.sock"));
        if let Some(same) = listen.filter(|a| a.port() != 0 && public.iter().any(|p| overlap(*p, *a))) {
            out.add(
                s.position("listen"),
                format!(
                    "admin.listen: {same} is also in endpoint.listen; the admin pages are never on the public listener"
                ),
            );
        }
        let modes = [("0600", 0o600), ("0660", 0o660)];
        let socket_mode = s.optional("socket_mode", out, |n| n.one_of(&modes)).unwrap_or(0o600);
        let audit_size = s
            .optional("audit_size", out, |n| match n.parsed()? {
                size @ ByteSize(65_536..=1_073_741_824) => Ok(size),
                other => Err(format!("{other} is out of bounds; it must be from 64KiB to 1GiB")),
            })
            .unwrap_or(DEFAULT_AUDIT_SIZE);
        let audit_keep = s.optional("audit_keep", out, |n| n.integer(1, 10_000)).unwrap_or(DEFAULT_AUDIT_KEEP);
        s.finish(out);
        Admin { listen, socket, socket_mode, audit_size, audit_keep }
    }
}

impl Log {
    pub(super) fn read(mut s: Section<'_>, out: &mut Collector) -> Self {
        let formats = [(LogFormat::Text.name(), LogFormat::Text), (LogFormat::Json.name(), LogFormat::Json)];
        let log = Log {
            format: s.optional("format", out, |n| n.one_of(&formats)).unwrap_or_default(),
            requests: s.optional("requests", out, |n| n.integer(0, 1_000_000_000)).unwrap_or(DEFAULT_LOG_REQUESTS),
        };
        s.finish(out);
        log
    }
}

impl LogFormat {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl OnDemand {
    pub(super) fn read(mut s: Section<'_>, out: &mut Collector) -> Self {
        let on_demand = OnDemand {
            rate: s.optional("rate", out, Node::parsed).unwrap_or(DEFAULT_ON_DEMAND_RATE),
            queue: s.optional("queue", out, |n| n.integer(1, 1_000_000)).unwrap_or(DEFAULT_ON_DEMAND_QUEUE),
            cache: s
                .optional("cache", out, |n| match n.parsed()? {
                    size @ ByteSize(65_536..=1_099_511_627_776) => Ok(size),
                    other => Err(format!("{other} is out of bounds; it must be from 64KiB to 1024GiB")),
                })
                .unwrap_or(DEFAULT_ON_DEMAND_CACHE),
            timeout: s
                .optional("timeout", out, |n| duration(n, Duration::from_millis(10), seconds(60)))
                .unwrap_or(DEFAULT_ON_DEMAND_TIMEOUT),
        };
        s.finish(out);
        on_demand
    }
}

impl Presign {
    pub(super) fn read(mut s: Section<'_>, out: &mut Collector) -> Self {
        let presign = Presign {
            workers: s.optional("workers", out, workers).unwrap_or(0),
            background_nice: s
                .optional("background_nice", out, |n| n.integer(0, 19))
                .unwrap_or(DEFAULT_BACKGROUND_NICE),
        };
        s.finish(out);
        presign
    }
}

/// A path, relative to the directory of the file that names it.
pub(crate) fn path(node: &Node, base: &Path) -> Result<PathBuf, String> {
    match node.string()? {
        "" => Err("the path is empty".to_owned()),
        text if text.contains('\0') => Err("a path cannot contain a NUL".to_owned()),
        text => Ok(base.join(text)),
    }
}

fn workers(node: &Node) -> Result<usize, String> {
    node.integer(0, MAX_WORKERS as i128)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is not an address and port; write \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::]:80\"")
    })
}

fn listen(node: &Node) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<SocketAddr> = node.strings()?.into_iter().map(address).collect::<Result<_, _>>()?;
    if addresses.is_empty() || addresses.len() > MAX_LISTEN {
        return Err(format!("expected 1 to {MAX_LISTEN} addresses, found {}", addresses.len()));
    }
    for (i, a) in addresses.iter().enumerate() {
        if a.port() != 0 && addresses.iter().take(i).any(|b| a == b) {
            return Err(format!("{a} is given twice"));
        }
    }
    Ok(addresses)
}

fn mounts(node: &Node) -> Result<Vec<String>, String> {
    let mounts = node.strings()?;
    if mounts.len() > MAX_MOUNTS {
        return Err(format!("expected at most {MAX_MOUNTS} prefixes, found {}", mounts.len()));
    }
    mounts
        .into_iter()
        .map(|m| {
            if m.len() < 2 || !m.starts_with('/') || m.ends_with('/') || m.contains("//") {
                return Err(format!("\"{m}\" is not a path prefix; write \"/ocsp\" (the root needs no entry)"));
            }
            mount_prefix(m).map(|_| m.to_owned()).map_err(|e| e.to_string())
        })
        .collect()
}

/// Whether two addresses cannot both be listened on.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
