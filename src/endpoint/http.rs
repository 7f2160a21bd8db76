//! What is answered: the decisions, from a request that has been read to the reply. No socket and no clock in here.

use super::caching::Caching;
use super::conditions::Conditions;
use super::mount::{Mounts, path_of};
use super::reply::{DateCache, Reply};
use super::source::{Answer, Freshness, Live, OnDemand, Source};
use super::stats::{Event, MethodKind, NonceResult, Outcome, Shard};
use crate::ocsp::{ErrorStatus, GetError, HashAlgorithm, Request, decode_get_path};
use crate::time::{Clock, Timestamp};
use bytes::Bytes;
use std::cell::RefCell;
use std::sync::Arc;

/// Everything that decides an answer.
pub(super) struct Core {
    pub source: Arc<dyn Source>,
    pub on_demand: Option<Arc<dyn OnDemand>>,
    pub clock: Arc<dyn Clock>,
    pub mounts: Mounts,
    /// One request in so many is logged; 0 is none.
    pub log_every: u32,
}

/// A request as far as the answer depends on it. Content-Type, Accept and Host are no part of it: clients send none, or
/// the wrong one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub method: MethodKind,
    /// The raw request target in origin form.
    pub target: &'a [u8],
    /// More octets of target than this are `malformedRequest`.
    pub max_target: usize,
    pub body: Body<'a>,
    pub conditions: Conditions<'a>,
}

/// The body of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Longer than the limit.
    TooLong,
}

/// What is to be done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// This is the answer; the signed part is in [`Scratch::signed`].
    Reply(Reply),
    /// Ask the [`OnDemand`]; a GET's request is in [`Scratch::decoded`], a POST's is its body. Nothing has been counted:
    /// the fast path leaves such a request to hyper, which decides once more. The hash is that of the first CertID; whether there is a nonce.
    OnDemand { hash: Option<HashAlgorithm>, nonce: bool },
}

/// Buffers that one thread uses again and again.
pub(super) struct Scratch {
    /// The DER of a request that came by GET.
    pub decoded: Vec<u8>,
    /// The DER of a signed answer.
    pub signed: Vec<u8>,
    pub date: DateCache,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

impl Core {
    /// Decides about `ask`. Asks the source, and counts the CertID's hash and the status when there is a reply.
    pub(super) fn decide(&self, ask: &Ask<'_>, now: Timestamp, scratch: &mut Scratch, shard: &Shard) -> Decision {
        let Scratch { decoded, signed, .. } = scratch;
        match self.der(ask, decoded) {
            Ok(der) => self.decide_der(der, ask.method, &ask.conditions, now, signed, shard),
            Err(reply) => Decision::Reply(reply),
        }
    }

    /// The DER in `ask`: of a GET decoded into `decoded`, of a POST its body. The error is the reply when there is none.
    pub(super) fn der<'a>(&self, ask: &Ask<'a>, decoded: &'a mut Vec<u8>) -> Result<&'a [u8], Reply> {
        let malformed = Reply::Refused(ErrorStatus::MalformedRequest);
        match (ask.method, ask.body) {
            (MethodKind::Other, _) => Err(Reply::MethodNotAllowed),
            (MethodKind::Post, Body::Whole(body)) => Ok(body),
            (MethodKind::Post, Body::TooLong) => Err(malformed),
            (MethodKind::Get | MethodKind::Head, _) => {
                if ask.target.len() > ask.max_target {
                    return Err(malformed);
                }
                let path = self.mounts.strip(path_of(ask.target));
                match decode_get_path(path, decoded) {
                    Ok(()) => Ok(decoded.as_slice()),
                    Err(GetError::Empty) => Err(Reply::Greeting),
                    Err(error) => Err(Reply::Refused(error.status())),
                }
            }
        }
    }

    /// Decides about the DER of a request, as [`Core::decide`]; the signed part of a reply is put into `signed`.
    pub(super) fn decide_der(
        &self,
        der: &[u8],
        method: MethodKind,
        conditions: &Conditions<'_>,
        now: Timestamp,
        signed: &mut Vec<u8>,
        shard: &Shard,
    ) -> Decision {
        let request = match Request::parse(der) {
            Ok(request) => request,
            Err(error) => return Decision::Reply(Reply::Refused(error.status())),
        };
        signed.clear();
        let reply = match self.source.answer(&request, now, signed) {
            Answer::Ready(freshness) => cacheable(method, conditions, &freshness, signed, now, shard),
            Answer::Refused(status) => Reply::Refused(status),
            Answer::OnDemand if self.on_demand.is_some() => {
                return Decision::OnDemand { hash: request.first.hash, nonce: request.nonce.is_some() };
            }
            Answer::OnDemand => Reply::Refused(ErrorStatus::Unauthorized),
        };
        shard.hash(request.first.hash);
        if request.nonce.is_some() {
            shard.nonce(NonceResult::of(&reply));
        }
        Decision::Reply(reply)
    }
}

/// The reply to a request that was signed on demand, and its signed answer.
pub(super) fn live_reply(ask: &Ask<'_>, live: Live, now: Timestamp, shard: &Shard) -> (Reply, Bytes) {
    match live {
        Live::Cacheable(response, freshness) => {
            (cacheable(ask.method, &ask.conditions, &freshness, &response, now, shard), response)
        }
        Live::NotCacheable(response) if response.is_empty() => {
            (Reply::Refused(ErrorStatus::InternalError), Bytes::new())
        }
        Live::NotCacheable(response) => (Reply::SignedOnce, response),
        Live::Refused(status) => (Reply::Refused(status), Bytes::new()),
    }
}

/// The reply with a signed answer, 304 if the client has it. An answer that has run out is withheld: a source should
/// never offer one, and a client would only distrust us.
fn cacheable(
    method: MethodKind,
    conditions: &Conditions<'_>,
    freshness: &Freshness,
    response: &[u8],
    now: Timestamp,
    shard: &Shard,
) -> Reply {
    if response.is_empty() {
        return Reply::Refused(ErrorStatus::InternalError);
    }
    let Some(caching) = Caching::of(freshness, response, now) else {
        shard.event(Event::Withheld);
        return Reply::Refused(ErrorStatus::TryLater);
    };
    shard.status(freshness.status);
    let conditional = matches!(method, MethodKind::Get | MethodKind::Head);
    if conditional && conditions.not_modified(&caching.etag, caching.last_modified, freshness.status) {
        return Reply::NotModified(caching);
    }
    Reply::Signed(caching)
}

impl MethodKind {
    /// Method names are case-sensitive (RFC 9110 §9.1): `get` is not GET.
    pub(super) fn of(method: &str) -> Self {
        match method {
            "GET" => MethodKind::Get,
            "POST" => MethodKind::Post,
            "HEAD" => MethodKind::Head,
            _ => MethodKind::Other,
        }
    }
}

impl NonceResult {
    /// What became of the nonce of a request that is answered so.
    pub(super) fn of(reply: &Reply) -> Self {
        match reply {
            Reply::SignedOnce => NonceResult::Echoed,
            Reply::Signed(_) | Reply::NotModified(_) => NonceResult::LeftOut,
            Reply::Refused(_) | Reply::Greeting | Reply::MethodNotAllowed => NonceResult::Refused,
        }
    }
}

impl Outcome {
    /// How a reply is counted that did not have to be signed.
    pub(super) fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Signed(_) | Reply::SignedOnce => Outcome::Ready,
            Reply::NotModified(_) => Outcome::NotModified,
            Reply::Refused(status) => Outcome::Refused(*status),
            Reply::Greeting => Outcome::Greeting,
            Reply::MethodNotAllowed => Outcome::MethodNotAllowed,
        }
    }

    /// How a reply is counted that went through the on-demand signer.
    pub(super) fn of_live(reply: &Reply) -> Self {
        match Self::of(reply) {
            Outcome::Ready => Outcome::OnDemand,
            other => other,
        }
    }
}

impl Scratch {
    /// What a buffer may keep between two requests; one that grew beyond is given back.
    const KEEP: usize = 64 * 1024;

    const fn new() -> Self {
        Scratch { decoded: Vec::new(), signed: Vec::new(), date: DateCache::new() }
    }

    /// Lends this thread's buffers. A call from inside `f` gets fresh ones.
    pub(super) fn with<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
        SCRATCH.with(|cell| match cell.try_borrow_mut() {
            Ok(mut scratch) => {
                let result = f(&mut scratch);
                scratch.trim();
                result
            }
            Err(_) => f(&mut Scratch::new()),
        })
    }

    fn trim(&mut self) {
        for buffer in [&mut self.decoded, &mut self.signed] {
            if buffer.capacity() > Self::KEEP {
                *buffer = Vec::new();
            }
        }
    }
}
