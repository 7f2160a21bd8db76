//! The fast path without its socket: octets in, octets out, for requests that are plain.
//!
//! Whatever is not plain (chunks, Expect, Upgrade, an odd target, a large body, an answer that must be signed) is left to
//! hyper, with every octet that has been read. So this code never has to say that a request is wrong.

use super::conditions::Conditions;
use super::http::{Ask, Body, Decision, Scratch};
use super::reply::{Persistence, Reply};
use super::sample::Sample;
use super::service::Service;
use super::stats::{MethodKind, Outcome};
use crate::ocsp::Request;
use crate::store::Hint;
use crate::time::{HttpDate, Timestamp};
use std::mem::MaybeUninit;

/// Octets that a worker reads at once, and the most that a request may have on this path.
pub(super) const INPUT_LEN: usize = 32 * 1024;
/// No more answers are put together before these octets have been offered to the client: a dozen, so that a client that
/// pipelines does not keep the others waiting.
const OUTPUT_HIGH: usize = 16 * 1024;

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
    manner: Manner,
}

/// A plain request that is alone in its input and has been read, to be answered in the next turn.
#[derive(Debug)]
pub(super) struct Begun {
    /// Its octets, and behind them its DER.
    octets: Vec<u8>,
    len: usize,
    manner: Manner,
}

/// How a request wants its answer.
#[derive(Clone, Copy, Debug)]
struct Manner {
    method: MethodKind,
    http_1_0: bool,
    persistent: bool,
}

impl Manner {
    /// Counts a reply and appends it to `out`; `last`: this connection brings no other. Gives what is said about the connection.
    fn answer(
        self,
        reply: &Reply,
        last: bool,
        service: &Service,
        (scratch, date): (&Scratch, &HttpDate),
        out: &mut Vec<u8>,
    ) -> Persistence {
        service.shard.request(self.method, Outcome::of(reply));
        let persistence = Persistence::of(self.persistent && !last, self.http_1_0);
        reply.write(&scratch.signed, self.method == MethodKind::Head, self.http_1_0, persistence, date, out);
        persistence
    }
}

impl Begun {
    /// The octets of the request and the buffer they are in.
    pub(super) fn into_input(self) -> (Vec<u8>, usize) {
        (self.octets, self.len)
    }

    fn der(&self) -> &[u8] {
        self.octets.get(self.len..).unwrap_or_default()
    }
}

/// Takes the request in `input` into `octets` if it is plain, whole, alone and without conditions, and says in `hints` what it
/// asks for. Otherwise `octets` is given back, for [`advance`] to put answers into.
pub(super) fn begin(
    service: &Service,
    input: &[u8],
    scratch: &mut Scratch,
    hints: &mut Vec<Hint>,
    mut octets: Vec<u8>,
) -> Result<Begun, Vec<u8>> {
    if service.core.log_every != 0 {
        return Err(octets);
    }
    let Parsed::Plain(Plain { ask, len, manner }) = parse(input, service) else { return Err(octets) };
    if len != input.len() || !ask.conditions.is_empty() {
        return Err(octets);
    }
    let Ok(der) = service.core.der(&ask, &mut scratch.decoded) else { return Err(octets) };
    let Ok(request) = Request::parse(der) else { return Err(octets) };
    hints.extend(Hint::of(&request));
    octets.extend_from_slice(input);
    octets.extend_from_slice(der);
    Ok(Begun { octets, len, manner })
}

/// Answers a request that was begun, appending to `out`, which is empty.
pub(super) fn finish(service: &Service, begun: &Begun, turn: Turn, scratch: &mut Scratch, out: &mut Vec<u8>) -> Next {
    let date = scratch.date.at(turn.now);
    let none = Conditions::default();
    let manner = begun.manner;
    let decision =
        service.core.decide_der(begun.der(), manner.method, &none, turn.now, &mut scratch.signed, &service.shard);
    let Decision::Reply(reply) = decision else { return Next::HandOver };
    let last = turn.draining || turn.requests_left <= 1;
    match manner.answer(&reply, last, service, (scratch, &date), out) {
        Persistence::Close => Next::Close { linger: manner.persistent },
        Persistence::KeepAlive | Persistence::Implied => Next::Read(Missing::Everything),
    }
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
        if let Some(sample) = Sample::of(service.core.log_every, &service.shard, &plain.ask, scratch) {
            sample.log(Outcome::of(&reply));
        }
        progress.answered += 1;
        progress.consumed += plain.len;
        let last = turn.draining || progress.answered >= turn.requests_left;
        if plain.manner.answer(&reply, last, service, (scratch, &date), out) == Persistence::Close {
            progress.next = Next::Close { linger: plain.manner.persistent || progress.consumed < input.len() };
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
        manner: Manner { method, http_1_0, persistent: keep_alive && !close },
    })
}

/// Whether a target is in origin form and of characters that every parser of URIs takes as they are: letters, digits and
/// `%+/=-_.~:@!$&'()*,;?`. A sum over chunks, without a branch per octet: the compiler makes vectors of it.
fn is_plain_target(target: &[u8]) -> bool {
    let is_plain = |b: u8| {
        (b.wrapping_sub(b'a') < 26)
            | (b.wrapping_sub(b'$') <= b';' - b'$')
            | (b.wrapping_sub(b'?') <= b'Z' - b'?')
            | (b == b'=')
            | (b == b'_')
            | (b == b'~')
            | (b == b'!')
    };
    let are_plain = |octets: &[u8]| octets.iter().fold(true, |all, b| all & is_plain(*b));
    let (chunks, rest) = target.as_chunks::<32>();
    target.first() == Some(&b'/') && chunks.iter().all(|chunk| are_plain(chunk)) && are_plain(rest)
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

#[cfg(test)]
mod tests {
    use super::super::source::{Answer, Freshness, Source, StatusKind};
    use super::*;
    use crate::ocsp::ErrorStatus;
    use proptest::prelude::*;
    use std::sync::Arc;

    struct Refuses;

    impl Source for Refuses {
        fn answer(&self, _: &Request<'_>, _: Timestamp, _: &mut Vec<u8>) -> Answer {
            Answer::Refused(ErrorStatus::Unauthorized)
        }
    }

    const TURN: Turn = Turn { now: Timestamp::EPOCH, requests_left: 100, draining: false };
    const POST: &[u8] = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    const GET: &[u8] = b"GET /favicon.ico HTTP/1.1\r\nHost: x\r\n\r\n";

    fn run(input: &[u8], turn: Turn) -> (Progress, Vec<u8>) {
        let mut out = Vec::new();
        let service = Service::new(Arc::new(Refuses));
        let progress = Scratch::with(|scratch| advance(&service, input, turn, scratch, &mut out));
        (progress, out)
    }

    /// A source that has an answer for everything, which says what it was asked.
    struct Echoes;

    impl Source for Echoes {
        fn answer(&self, request: &Request<'_>, now: Timestamp, out: &mut Vec<u8>) -> Answer {
            out.extend_from_slice(request.first.serial.magnitude());
            Answer::Ready(Freshness {
                this_update: now,
                next_update: now.plus(std::time::Duration::from_secs(86_400)),
                refresh_at: now.plus(std::time::Duration::from_secs(43_200)),
                status: StatusKind::Good,
                is_provisional: false,
                validator: None,
            })
        }
    }

    /// The DER of a request for serial 0x11.
    fn der() -> Vec<u8> {
        let cert_id = [
            &[0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00][..],
            &[0x04, 20],
            &[7; 20],
            &[0x04, 20],
            &[9; 20],
            &[2, 1, 0x11],
        ];
        let cert_id = cert_id.concat();
        let mut der = cert_id;
        for _ in 0..5 {
            der = [&[0x30, u8::try_from(der.len()).unwrap()][..], &der].concat();
        }
        der
    }

    fn begun(input: &[u8], turn: Turn) -> Option<(Next, Vec<u8>, usize)> {
        let service = Service::new(Arc::new(Echoes));
        let (mut hints, mut out) = (Vec::new(), Vec::new());
        let begun = Scratch::with(|scratch| begin(&service, input, scratch, &mut hints, Vec::new())).ok()?;
        let next = Scratch::with(|scratch| finish(&service, &begun, turn, scratch, &mut out));
        assert_eq!(begun.into_input().1, input.len());
        Some((next, out, hints.len()))
    }

    #[test]
    fn a_request_that_is_begun_is_answered_as_at_once() {
        let der = der();
        let head = |rest: &str| format!("POST / HTTP/1.{rest}Content-Length: {}\r\n\r\n", der.len());
        let get = |rest: &str| format!("GET /{} HTTP/1.{rest}\r\n", data_encoding::BASE64.encode(&der)).into_bytes();
        let post = |rest: &str| [head(rest).as_bytes(), &der].concat();
        let head_of_get = [b"HEAD", get("1\r\n").strip_prefix(b"GET").unwrap()].concat();
        let plain = [
            get("1\r\n"),
            get("1\r\nConnection: close\r\n"),
            get("0\r\n"),
            post("1\r\n"),
            post("0\r\nConnection: keep-alive\r\n"),
            head_of_get,
        ];
        for input in plain {
            for turn in [TURN, Turn { draining: true, ..TURN }, Turn { requests_left: 1, ..TURN }] {
                let service = Service::new(Arc::new(Echoes));
                let mut out = Vec::new();
                let at_once = Scratch::with(|scratch| advance(&service, &input, turn, scratch, &mut out));
                let text = String::from_utf8_lossy(&input).into_owned();
                assert_eq!(begun(&input, turn), Some((at_once.next, out, 1)), "{text}");
                assert!(at_once.consumed == input.len() && at_once.answered == 1, "{text}");
            }
        }
        let cut = get("1\r\n");
        for other in [
            cut[..cut.len() - 1].to_vec(),
            cut.repeat(2),
            get("1\r\nIf-None-Match: *\r\n"),
            get("1\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
            get("1\r\nExpect: 100-continue\r\n"),
            GET.to_vec(),
            POST.to_vec(),
        ] {
            assert!(begun(&other, TURN).is_none(), "{}", String::from_utf8_lossy(&other));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let post = |len| run(&POST[..len], TURN).0.next;
        assert_eq!(post(0), Next::Read(Missing::Everything));
        assert_eq!(post(1), Next::Read(Missing::Header));
        assert_eq!(post(POST.len() - 4), Next::Read(Missing::Header));
        assert_eq!(post(POST.len() - 3), Next::Read(Missing::Body));
        assert_eq!(post(POST.len() - 1), Next::Read(Missing::Body));
        let whole = Progress { consumed: POST.len(), answered: 1, next: Next::Read(Missing::Everything) };
        assert_eq!(run(POST, TURN).0, whole);
    }

    #[test]
    fn the_last_answer_says_so_and_lingers_only_where_the_client_may_talk_on() {
        let closing = [GET, b"GET / HTTP/1.0\r\n\r\n"].concat();
        assert_eq!(run(&closing, TURN).0.next, Next::Close { linger: false });
        assert_eq!(run(&[&closing, GET].concat(), TURN).0.next, Next::Close { linger: true });
        for turn in [Turn { draining: true, ..TURN }, Turn { requests_left: 1, ..TURN }] {
            let (progress, out) = run(&[GET, GET].concat(), turn);
            assert_eq!(progress, Progress { consumed: GET.len(), answered: 1, next: Next::Close { linger: true } });
            assert!(String::from_utf8_lossy(&out).contains("Connection: close\r\n\r\n"));
        }
    }

    #[test]
    fn what_is_not_plain_is_handed_over_whole() {
        for odd in [
            "PUT / HTTP/1.1\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\n\r\n",
            "GET /\"x HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nContent-Length: 10001\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let input = [GET, odd.as_bytes()].concat();
            let (progress, _) = run(&input, TURN);
            assert_eq!(progress, Progress { consumed: GET.len(), answered: 1, next: Next::HandOver }, "{odd:?}");
        }
    }

    #[test]
    fn plain_characters_are_those_of_origin_form() {
        for octet in 0..=u8::MAX {
            let wanted = octet.is_ascii_alphanumeric() || b"%+/=-_.~:@!$&'()*,;?".contains(&octet);
            for (before, after) in [(0, 0), (5, 40), (40, 3)] {
                let target = [b"/", &b"a".repeat(before)[..], &[octet], &b"b".repeat(after)].concat();
                assert_eq!(is_plain_target(&target), wanted, "{octet:#x} after {before}");
            }
        }
        assert!(!is_plain_target(b"a") && !is_plain_target(b""));
    }

    #[test]
    fn output_is_offered_before_it_grows_without_bound() {
        let (progress, out) = run(&GET.repeat(1_000), Turn { requests_left: u32::MAX, ..TURN });
        assert_eq!(progress.next, Next::Write);
        assert!((OUTPUT_HIGH..OUTPUT_HIGH + 1_024).contains(&out.len()), "{}", out.len());
        assert_eq!(progress.consumed, GET.len() * usize::try_from(progress.answered).unwrap());
    }

    proptest! {
        #[test]
        fn no_octets_are_lost_or_made_up(input in proptest::collection::vec(any::<u8>(), 0..300), before: bool) {
            let input = if before { [GET, &input].concat() } else { input };
            let (progress, out) = run(&input, TURN);
            prop_assert!(progress.consumed <= input.len());
            prop_assert_eq!(progress.answered == 0, out.is_empty());
        }

        #[test]
        fn pieces_are_answered_like_the_whole(cut in 0..3 * (GET.len() + POST.len())) {
            let input = [GET, POST].concat().repeat(3);
            let (first, mut out) = run(&input[..cut], TURN);
            let (rest, more) = run(&input[first.consumed..], TURN);
            out.extend(more);
            prop_assert_eq!(out, run(&input, TURN).1);
            prop_assert_eq!(first.answered + rest.answered, 6);
        }
    }
}
