//! The public endpoint: OCSP over HTTP (RFC 6960 Appendix A, RFC 9919 §6 and §7.2).
//!
//! It knows `ocsp`, `time` and the traits in `source`; where answers come from is not its business, and it waits for
//! nobody but an on-demand signer.
//!
//! Decisions and header values are made in one place (`http`, `caching`, `reply`), so the two ways of speaking HTTP, our
//! fast path and hyper, cannot differ.

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
mod registry;
mod reply;
mod server;
mod service;
mod source;
mod stats;
mod timer;
mod worker;

pub use limits::Limits;
pub use listen::StartError;
pub use mount::{MountError, Mounts};
pub use server::{Handle, Server, Settings};
pub use service::Service;
pub use source::{Answer, Freshness, Live, OnDemand, Source, StatusKind};
pub use stats::{Event, HASHES, LATENCY_BOUNDS_MICROS, MethodKind, Outcome, Snapshot, Stats};
