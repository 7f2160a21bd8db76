//! The public endpoint: OCSP over HTTP (RFC 6960 Appendix A, RFC 9919 §6 and §7.2).
//!
//! It knows `ocsp`, `time` and the traits in `source`; where answers come from is not its business, and it waits for
//! nobody but an on-demand signer.
//!
//! Decisions and header values are made in one place (`http`, `caching`, `reply`), so the two ways of speaking HTTP, our
//! fast path and hyper, cannot differ.
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! use stillgood::endpoint::{Limits, Server, Service, Settings, Source};
//!
//! # fn run(source: Arc<dyn Source>) -> Result<(), Box<dyn std::error::Error>> {
//! let service = Service::new(source).with_limits(Limits { max_connections: 1_000, ..Limits::default() });
//! let server = Server::start(&service, Settings { listen: vec!["0.0.0.0:80".parse()?], ..Settings::default() })?;
//! // …
//! server.shutdown(Duration::from_secs(10));
//! # Ok(())
//! # }
//! ```
//!
//! # What is answered
//! * GET, HEAD and POST; anything else, `get` included, is 405 with `Allow`. A POST is answered at every path.
//! * A GET whose path is empty behind its mount prefix is greeted with a line of text, for health checks and people.
//! * OCSP errors are HTTP 200: clients do not read the body of another status. That includes a GET of some other path, a
//!   target over [`Limits::max_target`] and a body over [`Limits::max_body`], all `malformedRequest`. HTTP that cannot be
//!   understood is 400, a header section over the limits 431, a body that does not come 408.
//! * Conditions are honoured for GET and HEAD: If-None-Match by weak comparison, If-Modified-Since by the exact date, and not
//!   of what is revoked.
//! * Request header fields about content (Content-Type, Accept, Host) are not looked at.
//!
//! # Behind a proxy
//! The path must arrive as it was sent: `//` is data in base64. In nginx, `merge_slashes off;` and a `proxy_pass` without
//! a path; elsewhere, no decoding and no cleaning of the path.

mod caching;
mod conditions;
mod connection;
mod fast;
mod gate;
mod general;
mod http;
mod limits;
mod listen;
mod mount;
mod pulse;
mod registry;
mod reply;
mod sample;
mod server;
mod service;
mod socket;
mod source;
mod stats;
mod timer;
mod worker;

pub use limits::Limits;
pub use listen::StartError;
pub use mount::{MountError, Mounts};
pub use pulse::Pulse;
pub use server::{Bound, Handle, Server, Settings};
pub use service::Service;
pub use source::{Answer, Freshness, Live, OnDemand, Source, StatusKind};
#[doc(hidden)]
pub use stats::counting_of_a_worker;
pub use stats::{Event, HASHES, LATENCY_BOUNDS_MICROS, MethodKind, NonceResult, Outcome, Snapshot, Stats};
