//! The fast path and hyper answer the same octets with the same status, header fields and body.

use super::util::*;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::Shutdown;
use std::sync::OnceLock;
use stillgood::endpoint::{Event, Handle, Limits};

/// One server of each kind for all cases.
fn servers() -> &'static [Handle; 2] {
    static SERVERS: OnceLock<[Handle; 2]> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let service = service().with_limits(Limits { max_headers: 20, max_target: 1_000, ..Limits::default() });
        [serve(&service, true), serve(&service, false)]
    })
}

/// Everything a server says to `octets`, sent in two pieces, after which our side is closed.
fn replies(server: &Handle, octets: &[u8], cut: usize) -> Vec<Reply> {
    let mut client = Client::connect(server);
    let (first, second) = octets.split_at(cut.min(octets.len()));
    client.send(first);
    if !second.is_empty() {
        std::thread::sleep(std::time::Duration::from_micros(300));
        // The server may have closed already, having seen enough.
        let _ = std::io::Write::write_all(&mut client.stream, second);
    }
    let _ = client.stream.shutdown(Shutdown::Write);
    let head_only = octets.starts_with(b"HEAD");
    // Whether hyper says 400 to a broken header or just closes depends on the pieces it comes in.
    std::iter::from_fn(|| client.try_reply(head_only)).filter(|reply| reply.status() != 400).collect()
}

fn agree(octets: &[u8], cut: usize) -> Vec<Reply> {
    let [fast, general] = servers().each_ref().map(|server| replies(server, octets, cut));
    assert_eq!(fast, general, "{}", String::from_utf8_lossy(octets));
    fast
}

fn serials() -> impl Strategy<Value = u8> {
    select(vec![READY, READY, READY, REVOKED, UNAUTHORIZED, LIVE, LIVE_ONCE, EXPIRED])
}

fn targets() -> impl Strategy<Value = String> {
    let prefix = select(vec!["/", "/", "/", "//", "/ocsp/", "http://x/", "/?", "/no/", ""]);
    let suffix = prop_oneof![
        8 => select(vec!["", "", "", "?query", "/", "#fragment", "%0a"]).prop_map(str::to_owned),
        1 => "[ -~]{1,3}",
        1 => Just("/".repeat(1_000)),
    ];
    (prefix, serials(), any::<bool>(), suffix).prop_map(|(prefix, serial, escaped, suffix)| {
        let data = if escaped { path(serial) } else { data_encoding::BASE64.encode(&request(serial)) };
        format!("{prefix}{data}{suffix}")
    })
}

fn fields() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just("Host: ocsp.example".to_owned()),
        Just("Connection: close".to_owned()),
        Just("Connection: keep-alive".to_owned()),
        Just("connection: X , Keep-Alive,CLOSE".to_owned()),
        Just("Connection: Upgrade\r\nUpgrade: h2c".to_owned()),
        Just("If-None-Match: *".to_owned()),
        Just("If-None-Match: \"x\"".to_owned()),
        Just("If-Modified-Since: Tue, 14 Nov 2023 22:08:20 GMT".to_owned()),
        Just("Content-Type: text/plain".to_owned()),
        Just("Expect: 200-ok".to_owned()),
        Just("Content-Length: 0".to_owned()),
        Just("Content-Length: +1".to_owned()),
        Just("Content-Length: ".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("X: y\r\n".repeat(19) + "X: y"),
        "[!-~]{1,3}: [ -~\t]{0,5}",
    ];
    proptest::collection::vec(field, 0..4).prop_map(|fields| fields.iter().map(|f| format!("{f}\r\n")).collect())
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let version = select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "http/1.1"]);
    let by_get = (select(vec!["GET", "GET", "GET", "HEAD", "get", "PUT"]), targets(), version.clone(), fields())
        .prop_map(|(method, target, version, fields)| {
            format!("{method} {target} {version}\r\n{fields}\r\n").into_bytes()
        });
    let body = prop_oneof![
        4 => serials().prop_map(request),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => select(vec![10_000, 10_001]).prop_map(|len| vec![0x30; len]),
    ];
    let by_post = (version, fields(), body, -1i64..2).prop_map(|(version, fields, body, more)| {
        let len = (body.len() as i64 + if more == -1 { 0 } else { more }).max(0);
        let head = format!("POST / {version}\r\n{fields}Content-Length: {len}\r\n\r\n");
        [head.as_bytes(), &body].concat()
    });
    prop_oneof![by_get, by_post]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn one_request_gets_one_answer_whoever_reads_it(request in requests(), cut in 0usize..400) {
        agree(&request, cut);
    }

    #[test]
    fn a_damaged_request_gets_the_same_answer(
        post: bool, serial in serials(), at in 0usize..200, octet: u8, cut in 0usize..400,
    ) {
        let mut request = if post { post_body(&request(serial), "Connection: close\r\n") } else { get(serial) };
        let at = at % request.len();
        request[at] = octet;
        agree(&request, cut);
    }

    #[test]
    fn a_train_of_requests_gets_the_same_answers(train in proptest::collection::vec((serials(), any::<bool>()), 1..12), cut in 0usize..2_000) {
        let octets: Vec<u8> = train.iter().flat_map(|(serial, by_get)| if *by_get { get(*serial) } else { post(*serial) }).collect();
        prop_assert_eq!(agree(&octets, cut).len(), train.len());
    }
}

#[test]
fn the_fast_path_is_taken_by_what_clients_send() {
    let server = serve(&service(), true);
    let requests = [
        get(READY),
        post(READY),
        get(UNAUTHORIZED),
        post_body(&request(READY), "Content-Type: application/ocsp-request\r\nConnection: Keep-Alive\r\n"),
        format!("GET /{} HTTP/1.0\r\n\r\n", path(READY)).into_bytes(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ];
    for request in requests {
        assert_eq!(Client::connect(&server).ask(&request).status(), 200);
    }
    assert_eq!(server.stats().snapshot().event(Event::HandedOver), 0);
    assert_eq!(Client::connect(&server).ask(&get(LIVE)).status(), 200);
    assert_eq!(server.stats().snapshot().event(Event::HandedOver), 1);
}
