//! The endpoint's questions, answered from the store and by signing on demand.

use super::Inner;
use crate::endpoint::{Answer, Freshness, Live, OnDemand, Source, StatusKind};
use crate::ocsp::{CertStatus, ErrorStatus, Request};
use crate::presign::Outcome;
use crate::store::{Hint, Lookup};
use crate::time::Timestamp;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

impl Source for Inner {
    fn answer(&self, request: &Request<'_>, now: Timestamp, out: &mut Vec<u8>) -> Answer {
        match self.store.answer(request, now, out) {
            Lookup::Ready { this_update, next_update, refresh_at, status, validator } => Answer::Ready(Freshness {
                this_update,
                next_update,
                refresh_at,
                status: kind(status),
                is_provisional: false,
                validator: Some(validator),
            }),
            // RFC 9919 §3.2.3: no authoritative record.
            Lookup::NotHere => Answer::Refused(ErrorStatus::Unauthorized),
            Lookup::OnDemand => Answer::OnDemand,
        }
    }

    fn expect(&self, hints: &mut [Hint]) {
        self.store.prefetch(hints);
    }
}

impl OnDemand for Inner {
    fn sign(&self, request: Bytes, now: Timestamp) -> Pin<Box<dyn Future<Output = Live> + Send>> {
        // A nonce that cannot be signed for now, be it that the budget has no room for it, is left out rather than the answer
        // (RFC 9919 §3.2.1): what lies ready without one is better than an error.
        let without_nonce =
            Request::parse(&request).ok().filter(|parsed| parsed.nonce.is_some()).and_then(|mut parsed| {
                parsed.nonce = None;
                let mut out = Vec::new();
                match self.answer(&parsed, now, &mut out) {
                    Answer::Ready(freshness) => Some(Live::Cacheable(Bytes::from(out), freshness)),
                    Answer::Refused(_) | Answer::OnDemand => None,
                }
            });
        let answer = self.demand.answer(request);
        Box::pin(async move {
            match answer.await {
                Outcome::Shared(answer) => Live::Cacheable(
                    answer.response,
                    Freshness {
                        this_update: answer.this_update,
                        next_update: answer.next_update,
                        refresh_at: answer.refresh_at,
                        status: kind(answer.status),
                        is_provisional: answer.is_provisional,
                        validator: None,
                    },
                ),
                Outcome::Once(response) => Live::NotCacheable(response),
                Outcome::Refused(status @ (ErrorStatus::TryLater | ErrorStatus::InternalError)) => {
                    without_nonce.unwrap_or(Live::Refused(status))
                }
                Outcome::Refused(status) => Live::Refused(status),
                Outcome::Busy => without_nonce.unwrap_or(Live::Refused(ErrorStatus::TryLater)),
            }
        })
    }
}

fn kind(status: CertStatus) -> StatusKind {
    match status {
        CertStatus::Good => StatusKind::Good,
        CertStatus::Revoked { .. } => StatusKind::Revoked,
        CertStatus::Unknown => StatusKind::Unknown,
    }
}
