//! The fast path without its socket: octets in, octets out, for requests that are plain.
//!
//! Whatever is not plain (chunks, Expect, Upgrade, an odd target, a large body, an answer that must be signed) is left to
//! hyper, with every octet that has been read. So this code never has to say that a request is wrong.

use super::conditions::Conditions;
use super::http::{Ask, Body, Decision, Scratch};
use super::reply::Persistence;
use super::service::Service;
use super::stats::{MethodKind, Outcome};
use crate::time::Timestamp;
use std::mem::MaybeUninit;

/// Octets that a worker reads at once, and the most that a request may have on this path.
pub(super) const INPUT_LEN: usize = 32 * 1024;
/// No more answers are put together before these octets have been offered to the client.
const OUTPUT_HIGH: usize = 64 * 1024;

/// What was done with some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Octets of the input that are dealt with.
    pub consumed: usize,
    /// Requests answered.
    pub answered: u32,
    pub next: Next,
}

/// What the connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More octets.
    Read(Missing),
    /// Nothing but to send what there is; the input is not used up.
    Write,
    /// To be closed once everything is sent. `linger`: the client may be sending still, and an answer must not be lost to
    /// a reset.
    Close { linger: bool },
    /// hyper.
    HandOver,
}

/// What a request that has begun lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// None has begun.
    Everything,
    Header,
    Body,
}

/// The circumstances of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub now: Timestamp,
    /// Requests that this connection may still bring, this one included.
    pub requests_left: u32,
    /// The server is stopping: every answer is the last.
    pub draining: bool,
}

enum Parsed<'a> {
    Plain(Plain<'a>),
    Partial(Missing),
    Odd,
}

struct Plain<'a> {
    ask: Ask<'a>,
    len: usize,
    http_1_0: bool,
    persistent: bool,
}

/// Answers the requests at the front of `input`, appending to `out`.
pub(super) fn advance(
    service: &Service,
    input: &[u8],
    turn: Turn,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Progress {
    let mut progress = Progress { consumed: 0, answered: 0, next: Next::Read(Missing::Everything) };
    let date = scratch.date.at(turn.now);
    loop {
        let rest = input.get(progress.consumed..).unwrap_or_default();
        if rest.is_empty() {
            return progress;
        }
        if out.len() >= OUTPUT_HIGH {
            progress.next = Next::Write;
            return progress;
        }
        let plain = match parse(rest, service) {
            Parsed::Plain(plain) => plain,
            Parsed::Partial(missing) => {
                progress.next = Next::Read(missing);
                return progress;
            }
            Parsed::Odd => {
                progress.next = Next::HandOver;
                return progress;
            }
        };
        let Decision::Reply(reply) = service.core.decide(&plain.ask, turn.now, scratch, &service.shard) else {
            progress.next = Next::HandOver;
            return progress;
        };
        service.shard.request(plain.ask.method, Outcome::of(&reply));
        progress.answered += 1;
        progress.consumed += plain.len;
        let ours = turn.draining || progress.answered >= turn.requests_left;
        let persistence = match (plain.persistent && !ours, plain.http_1_0) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Implied,
        };
        let head_only = plain.ask.method == MethodKind::Head;
        reply.write(&scratch.signed, head_only, plain.http_1_0, persistence, &date, out);
        if persistence == Persistence::Close {
            progress.next = Next::Close { linger: plain.persistent || progress.consumed < input.len() };
            return progress;
        }
    }
}

fn parse<'a>(input: &'a [u8], service: &Service) -> Parsed<'a> {
    let limits = &*service.limits;
    let mut fields = [const { MaybeUninit::uninit() }; super::Limits::MAX_HEADERS];
    let Some(fields) = fields.get_mut(..limits.max_headers) else { return Parsed::Odd };
    let mut head = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut head, input, fields);
    let head_len = match status {
        Ok(httparse::Status::Complete(len)) if len <= limits.max_header => len,
        Ok(httparse::Status::Partial) if input.len() < limits.max_header => return Parsed::Partial(Missing::Header),
        _ => return Parsed::Odd,
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Parsed::Odd;
    };
    let method = MethodKind::of(method);
    let http_1_0 = version == 0;
    if method == MethodKind::Other || !is_plain_target(target.as_bytes()) {
        return Parsed::Odd;
    }
    let mut conditions = Conditions::default();
    let (mut close, mut keep_alive, mut body_len) = (false, !http_1_0, None);
    for field in head.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            6 if is("expect") => return Parsed::Odd,
            7 if is("upgrade") => return Parsed::Odd,
            10 if is("connection") => {
                close |= has_token(field.value, b"close");
                keep_alive |= has_token(field.value, b"keep-alive");
            }
            13 if is("if-none-match") => conditions.add_none_match(field.value),
            14 if is("content-length") => {
                if body_len.is_some() {
                    return Parsed::Odd;
                }
                let Some(len) = decimal(field.value) else { return Parsed::Odd };
                body_len = Some(len);
            }
            17 if is("transfer-encoding") => return Parsed::Odd,
            17 if is("if-modified-since") => conditions.add_modified_since(field.value),
            _ => {}
        }
    }
    let body_len = body_len.unwrap_or(0);
    let len = head_len + body_len;
    if body_len > 0 && method != MethodKind::Post || body_len > limits.max_body || len > INPUT_LEN {
        return Parsed::Odd;
    }
    let Some(body) = input.get(head_len..len) else { return Parsed::Partial(Missing::Body) };
    Parsed::Plain(Plain {
        ask: Ask {
            method,
            target: target.as_bytes(),
            max_target: limits.max_target,
            body: Body::Whole(body),
            conditions,
        },
        len,
        http_1_0,
        persistent: keep_alive && !close,
    })
}

/// Whether a target is in origin form and of characters that every parser of URIs takes as they are.
fn is_plain_target(target: &[u8]) -> bool {
    target.first() == Some(&b'/')
        && target.iter().all(|b| b.is_ascii_alphanumeric() || b"%+/=-_.~:@!$&'()*,;?".contains(b))
}

/// Whether a list of tokens holds this one, whatever its case.
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token))
}

/// At most seven digits and nothing else.
fn decimal(text: &[u8]) -> Option<usize> {
    if !(1..=7).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + usize::from(b - b'0')))
}
