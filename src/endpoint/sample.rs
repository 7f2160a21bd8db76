//! A log line for one request in so many.
//!
//! The client's address is not in it: who asks about which certificate is for nobody to keep. Where abuse is looked for, a
//! proxy in front has the addresses.

use super::http::{Ask, Body, Scratch};
use super::stats::{MethodKind, Outcome, Shard};
use crate::ocsp::{ErrorStatus, Request};

/// What a sampled request asked about.
pub(super) struct Sample {
    method: &'static str,
    asked: Option<Asked>,
}

struct Asked {
    serial: String,
    hash: &'static str,
    certificates: usize,
    nonce: bool,
}

impl Sample {
    /// Every `every`-th request of a worker; 0 is none. To be called once for each, after it was decided.
    pub(super) fn of(every: u32, shard: &Shard, ask: &Ask<'_>, scratch: &Scratch) -> Option<Self> {
        if every == 0 || !shard.is_sampled(every) {
            return None;
        }
        let der = match (ask.method, ask.body) {
            (MethodKind::Post, Body::Whole(body)) => body,
            (MethodKind::Get | MethodKind::Head, _) => &scratch.decoded,
            _ => &[],
        };
        let asked = Request::parse(der).ok().map(|request| Asked {
            serial: request.first.serial.to_string(),
            hash: request.first.hash.map_or("other", |hash| hash.name()),
            certificates: request.count,
            nonce: request.nonce.is_some(),
        });
        Some(Sample { method: ask.method.name(), asked })
    }

    /// Writes the line, under the target `request`.
    pub(super) fn log(self, outcome: Outcome) {
        let (method, result) = (self.method, outcome.name());
        // What could not be read is in the buffer of an earlier request at best.
        let is_read = !matches!(
            outcome,
            Outcome::Refused(ErrorStatus::MalformedRequest) | Outcome::Greeting | Outcome::MethodNotAllowed
        );
        match self.asked.filter(|_| is_read) {
            Some(Asked { serial, hash, certificates, nonce }) => {
                tracing::info!(target: "request", method, result, serial, hash, certificates, nonce, "answered");
            }
            None => tracing::info!(target: "request", method, result, "answered"),
        }
    }
}
