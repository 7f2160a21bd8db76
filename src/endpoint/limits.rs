//! Everything a client can use up, and how much of it.

use crate::ocsp::Request;
use std::time::Duration;

/// The limits of the endpoint. Sizes are in octets. Values outside the bounds that the fields name are brought inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first octet of a request (or from the accept) to the end of its header section. Slower clients are cut.
    pub header_read: Duration,
    /// From the end of the header section to the end of the body.
    pub body_read: Duration,
    /// How long a connection may stay open with no request in progress. Clients of OCSP ask once or in a burst; proxies
    /// keep connections, and gain little from more than this.
    pub idle: Duration,
    /// How long a client may take none of the octets we want to send. One that takes some each time is served as long as
    /// it takes [`Limits::SLOWEST`] on average.
    pub write: Duration,
    /// How long an answer may take to be signed on demand before the client is told `tryLater`. Clients give up after
    /// 3 s (Apple) to 15 s, and the Baseline Requirements §4.10.2 allow 10 s.
    pub on_demand: Duration,
    /// Start line and header fields together; more is 431. At least 8192, at most 65536.
    pub max_header: usize,
    /// Number of header fields; more is 431.
    pub max_headers: usize,
    /// The request target. A longer one is answered `malformedRequest`: OCSP errors travel in HTTP 200 because clients
    /// do not look into other answers. Targets that do not fit into `max_header` get a bare 431 or 414.
    pub max_target: usize,
    /// The body, after chunks are put together; a longer one is answered `malformedRequest` in HTTP 200 and the
    /// connection is closed. At most [`Request::MAX_LEN`].
    pub max_body: usize,
    /// Open connections, all workers together. When they are used up, a new one takes the place of the one that has kept us
    /// waiting for longest, be it for a request or because it does not take its answers (among a sample, on the same worker);
    /// if there is none, it is refused.
    /// Should be below the limit on open files.
    pub max_connections: usize,
    /// Open connections per client (an IPv4 address or an IPv6 /64); 0 sets no limit. Off by default: behind a proxy or a
    /// carrier's NAT all clients look like one.
    pub max_connections_per_client: usize,
    /// Requests on one connection, after which it is closed, so that clients spread over workers and machines again.
    pub max_requests_per_connection: u32,
}

impl Limits {
    /// The least that `max_header` can be.
    pub const MIN_HEADER: usize = 8_192;
    /// The most that `max_header` can be.
    pub const MAX_HEADER: usize = 65_536;
    /// The least octets a second that a client must take of what we send, beyond what the kernel keeps for it: those of the
    /// slowest of mobile links.
    pub const SLOWEST: u32 = 1_024;
    /// The most that `max_headers` can be.
    pub const MAX_HEADERS: usize = 256;

    /// The time that a client may take for so many octets of ours.
    pub(super) fn time_to_take(octets: usize) -> Duration {
        Duration::from_secs(octets as u64) / Self::SLOWEST
    }

    /// These limits with every value inside its bounds.
    pub(super) fn bounded(mut self) -> Self {
        self.max_header = self.max_header.clamp(Self::MIN_HEADER, Self::MAX_HEADER);
        self.max_headers = self.max_headers.clamp(16, Self::MAX_HEADERS);
        self.max_target = self.max_target.clamp(256, self.max_header);
        self.max_body = self.max_body.clamp(256, Request::MAX_LEN);
        self.max_connections = self.max_connections.max(1);
        self.max_requests_per_connection = self.max_requests_per_connection.max(1);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_read: Duration::from_secs(10),
            body_read: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(10),
            on_demand: Duration::from_secs(5),
            max_header: 16_384,
            max_headers: 64,
            max_target: 14_336,
            max_body: Request::MAX_LEN,
            max_connections: 16_384,
            max_connections_per_client: 0,
            max_requests_per_connection: 100_000,
        }
    }
}
