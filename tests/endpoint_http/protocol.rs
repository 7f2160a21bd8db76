//! HTTP and OCSP over it: methods, targets, header fields, versions.

use super::util::*;
use std::net::Shutdown;
use stillgood::endpoint::{Event, Limits, MethodKind, Outcome, StatusKind};

#[test]
fn a_ready_answer_comes_by_get_and_post_with_every_field_a_cache_wants() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for ask in [get(READY), post(READY)] {
            let reply = client.ask(&ask);
            assert_eq!(reply.line, "HTTP/1.1 200 OK");
            assert_eq!(reply.body, signed(READY));
            let digest = ring::digest::digest(&ring::digest::SHA256, &reply.body);
            let etag = format!("\"{}\"", data_encoding::HEXLOWER.encode(digest.as_ref()));
            let expected = [
                ("cache-control", "max-age=86700, public, no-transform, must-revalidate"),
                ("content-length", "600"),
                ("content-type", "application/ocsp-response"),
                ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
                ("etag", &etag),
                ("expires", "Sat, 18 Nov 2023 22:13:20 GMT"),
                ("last-modified", "Tue, 14 Nov 2023 22:08:20 GMT"),
            ];
            assert_eq!(reply.fields, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        }
        let stats = server.stats().snapshot();
        assert_eq!(stats.requests(MethodKind::Get, Outcome::Ready), 1);
        assert_eq!(stats.requests(MethodKind::Post, Outcome::Ready), 1);
        assert_eq!(stats.status(StatusKind::Good), 2);
        assert_eq!(stats.hashes(), [2, 0, 0, 0, 0]);
        assert_eq!(stats.open(), 1);
        soon("both are timed", || server.stats().snapshot().latency.iter().sum::<u64>() == 2);
    });
}

#[test]
fn every_spelling_of_a_get_finds_the_same_answer() {
    let raw = data_encoding::BASE64.encode(&request(READY));
    let escaped = path(READY);
    let unpadded = raw.trim_end_matches('=').to_owned();
    let host = "http://ocsp.example:80";
    let spellings = [
        format!("/{raw}"),
        format!("//{raw}"),
        format!("///{escaped}"),
        format!("/{escaped}"),
        format!("/{}", escaped.replace('%', "%25")),
        format!("/{escaped}/"),
        format!("/{escaped}?a=/b"),
        format!("/{unpadded}"),
        format!("/{}", unpadded.replace('+', "-").replace('/', "_")),
        format!("/{}", raw.replace('+', "%20")),
        format!("/{escaped}%0D%0A"),
        format!("/ocsp/{raw}"),
        format!("/ocsp//{raw}"),
        format!("/ocsp/ca1/{escaped}"),
        format!("//ocsp/ca1/{escaped}"),
        format!("{host}/{raw}"),
        format!("{host}//{raw}"),
        format!("HTTP://OCSP.example/ocsp/{escaped}"),
    ];
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for target in &spellings {
            let reply = client.ask(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            assert_eq!(reply.body, signed(READY), "{target}");
        }
    });
}

#[test]
fn head_says_what_get_says_and_sends_no_body() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for serial in [READY, UNAUTHORIZED, LIVE, LIVE_ONCE] {
            let by_get = client.ask(&get(serial));
            let head = [b"HEAD".as_slice(), &get(serial)[3..]].concat();
            let by_head = client.send(&head).try_reply(true).unwrap();
            assert_eq!((by_head.line, by_head.fields), (by_get.line, by_get.fields));
        }
        assert_eq!(client.ask(&get(READY)).body, signed(READY), "the connection is still in step");
    });
}

#[test]
fn the_root_greets_and_other_methods_are_told_which_are_allowed() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for target in ["/", "//", "/ocsp", "/ocsp/ca1/", "/?x", "/%20"] {
            let reply = client.ask(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            assert_eq!((reply.status(), reply.field("cache-control")), (200, Some("max-age=43200")), "{target}");
            assert!(reply.field("content-type").unwrap().starts_with("text/plain"));
        }
        for method in ["PUT", "DELETE", "OPTIONS", "get", "post", "PROPFIND"] {
            let mut client = Client::connect(server);
            let reply = client.ask(format!("{method} /{} HTTP/1.1\r\nHost: x\r\n\r\n", path(READY)).as_bytes());
            assert_eq!((reply.status(), reply.field("allow")), (405, Some("GET, HEAD, POST")), "{method}");
        }
        for line in ["OPTIONS * HTTP/1.1", "CONNECT x:80 HTTP/1.1", "TRACE / HTTP/1.0"] {
            assert_eq!(Client::connect(server).ask(format!("{line}\r\n\r\n").as_bytes()).status(), 405, "{line}");
        }
        assert_eq!(server.stats().snapshot().requests(MethodKind::Other, Outcome::MethodNotAllowed), 9);
    });
}

#[test]
fn ocsp_errors_are_http_200_and_are_not_cached() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        assert_eq!(client.ask(&get(UNAUTHORIZED)).error(), 6);
        assert_eq!(client.ask(&post(LIVE_REFUSED)).error(), 3);
        assert_eq!(client.ask(&get(EXPIRED)).error(), 3, "nothing is served at its nextUpdate");
        assert_eq!(client.ask(&get(EMPTY)).error(), 2);
        for bad in ["/favicon.ico", "/MEow", "/%zz", "/wrong/prefix/MEIw"] {
            assert_eq!(client.ask(format!("GET {bad} HTTP/1.1\r\n\r\n").as_bytes()).error(), 1, "{bad}");
        }
        assert_eq!(client.ask(&post_body(b"no DER", "")).error(), 1);
        assert_eq!(client.ask(&post_body(b"", "")).error(), 1);
        assert_eq!(client.ask(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n").error(), 1, "no body at all");
        assert_eq!(server.stats().snapshot().event(Event::Withheld), 1);
    });
}

#[test]
fn the_content_type_of_a_request_does_not_matter() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for fields in [
            "",
            "Content-Type: application/ocsp-request\r\n",
            "Content-Type: application/ocsp-request; charset=utf-8\r\n",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: \r\n",
            "Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\n",
        ] {
            assert_eq!(client.ask(&post_body(&request(READY), fields)).body, signed(READY), "{fields}");
        }
    });
}

#[test]
fn a_client_that_has_the_answer_is_told_so() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        let full = client.ask(&get(READY));
        let etag = full.field("etag").unwrap();
        let date = full.field("last-modified").unwrap();
        let conditional = |field: String| [&get(READY)[..get(READY).len() - 2], field.as_bytes(), b"\r\n\r\n"].concat();
        for hit in [
            format!("If-None-Match: {etag}"),
            format!("if-none-match: \"x\", W/{etag}"),
            format!("If-None-Match: \"x\"\r\nIf-None-Match: {etag}"),
            "If-None-Match: *".to_owned(),
            format!("If-Modified-Since: {date}"),
        ] {
            let reply = client.ask(&conditional(hit.clone()));
            assert_eq!(reply.status(), 304, "{hit}");
            let without_content = |f: &&(String, String)| !f.0.starts_with("content-");
            assert_eq!(
                reply.fields.iter().collect::<Vec<_>>(),
                full.fields.iter().filter(without_content).collect::<Vec<_>>()
            );
        }
        for miss in [
            "If-None-Match: \"x\"".to_owned(),
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"),
            "If-Modified-Since: Tue, 14 Nov 2023 22:08:19 GMT".to_owned(),
            "If-Modified-Since: yesterday".to_owned(),
        ] {
            assert_eq!(client.ask(&conditional(miss.clone())), full, "{miss}");
        }
        let by_post = post_body(&request(READY), &format!("If-None-Match: {etag}\r\n"));
        assert_eq!(client.ask(&by_post).status(), 200, "a POST is never conditional");
        assert_eq!(server.stats().snapshot().outcome(Outcome::NotModified), 5);
    });
}

#[test]
fn an_http_1_0_client_gets_a_length_and_the_end_of_the_connection() {
    both(Limits::default(), |server| {
        for ask in [
            format!("GET /{} HTTP/1.0\r\n\r\n", path(READY)),
            format!("GET /{} HTTP/1.0\r\nHost:\r\nConnection: close\r\n\r\n", path(READY)),
            format!("GET /{} HTTP/1.1\r\nHost: ?!\r\nConnection: x, Close\r\n\r\n", path(LIVE)),
            format!("GET /{} HTTP/1.0\r\n\r\n", path(UNAUTHORIZED)),
        ] {
            let mut client = Client::connect(server);
            let reply = client.ask(ask.as_bytes());
            assert_eq!(&reply.line[..8], &ask[ask.find("HTTP").unwrap()..][..8], "{ask}");
            assert_eq!(reply.field("connection"), Some("close"), "{ask}");
            assert!(reply.field("content-length").is_some() && reply.field("transfer-encoding").is_none());
            assert!(client.is_closed());
        }
        let mut client = Client::connect(server);
        let ask = format!("GET /{} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", path(READY));
        for _ in 0..3 {
            assert_eq!(client.ask(ask.as_bytes()).field("connection"), Some("keep-alive"));
        }
    });
}

#[test]
fn openssl_as_it_asks_is_answered() {
    both(Limits::default(), |server| {
        let body = request(READY);
        let head = format!(
            "POST / HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut client = Client::connect(server);
        client.send(head.as_bytes());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let (first, second) = body.split_at(30);
        client.send(first);
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(client.ask(second).body, signed(READY));
        assert!(client.is_closed());
    });
}

#[test]
fn chunked_bodies_and_expectations_are_understood() {
    both(Limits::default(), |server| {
        let body = request(READY);
        let mut client = Client::connect(server);
        let (first, second) = body.split_at(20);
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for chunk in [first, second] {
            client.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        assert_eq!(client.ask(b"0\r\n\r\n").body, signed(READY));

        client.send(
            format!("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
        );
        assert_eq!(client.reply().line, "HTTP/1.1 100 Continue");
        assert_eq!(client.ask(&body).body, signed(READY));
        assert_eq!(client.ask(&get(READY)).body, signed(READY), "the connection goes on");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    both(Limits::default(), |server| {
        let serials = [READY, REVOKED, UNAUTHORIZED, READY, LIVE_SLOW, REVOKED, LIVE, LARGE, READY];
        let all: Vec<u8> =
            serials.iter().enumerate().flat_map(|(n, s)| if n % 2 == 0 { get(*s) } else { post(*s) }).collect();
        let mut client = Client::connect(server);
        client.send(&all);
        for serial in serials {
            let reply = client.reply();
            if serial == UNAUTHORIZED {
                assert_eq!(reply.error(), 6);
            } else {
                assert_eq!(reply.body, signed(serial));
            }
        }
    });
}

#[test]
fn a_request_that_comes_octet_by_octet_is_answered() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for octet in [b"\r\n".to_vec(), post(READY), get(REVOKED)].concat() {
            client.send(&[octet]);
        }
        assert_eq!(client.reply().body, signed(READY));
        assert_eq!(client.reply().body, signed(REVOKED));
    });
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answers() {
    both(Limits::default(), |server| {
        for serial in [READY, LIVE_SLOW] {
            let mut client = Client::connect(server);
            client.send(&[get(serial), post(serial)].concat());
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.reply().body, signed(serial));
            assert_eq!(client.reply().body, signed(serial));
            assert!(client.is_closed());
        }
    });
}

#[test]
fn live_answers_are_cached_unless_they_carry_a_nonce() {
    both(Limits::default(), |server| {
        let mut client = Client::connect(server);
        for ask in [get(LIVE), post(LIVE)] {
            let reply = client.ask(&ask);
            assert_eq!(reply.body, signed(LIVE));
            assert_eq!(reply.field("cache-control"), Some("max-age=86700, public, no-transform, must-revalidate"));
        }
        let once = client.ask(&post(LIVE_ONCE));
        assert_eq!(once.body, signed(LIVE_ONCE));
        assert_eq!(once.field("cache-control"), Some("no-cache, no-store"));
        assert_eq!((once.field("etag"), once.field("expires")), (None, None));
        assert_eq!(server.stats().snapshot().outcome(Outcome::OnDemand), 3);
    });
}

#[test]
fn without_a_signer_nobody_here_has_authority() {
    use std::sync::Arc;
    use stillgood::endpoint::Service;
    for fast in [true, false] {
        let keyless = Service::new(Arc::new(Fake)).with_clock(Arc::new(stillgood::time::ManualClock::at(NOW)));
        let server = serve(&keyless, fast);
        assert_eq!(Client::connect(&server).ask(&get(LIVE)).error(), 6);
        assert_eq!(Client::connect(&server).ask(&get(READY)).body, signed(READY));
    }
}

#[test]
fn a_source_that_panics_costs_one_connection() {
    both(Limits::default(), |server| {
        let mut bystander = Client::connect(server);
        assert_eq!(bystander.ask(&get(READY)).body, signed(READY));
        let mut client = Client::connect(server);
        client.send(&get(PANICS));
        assert!(client.is_closed());
        assert_eq!(bystander.ask(&get(READY)).body, signed(READY));
        assert_eq!(Client::connect(server).ask(&get(READY)).body, signed(READY));
        soon("the panic is counted", || server.stats().snapshot().event(Event::Panicked) == 1);
    });
}

#[test]
fn what_is_not_http_gets_400_and_the_end() {
    both(Limits::default(), |server| {
        for noise in
            ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"]
        {
            let mut client = Client::connect(server);
            client.send(noise.as_bytes());
            assert_eq!(client.reply().status(), 400, "{noise:?}");
            assert!(client.is_closed());
        }
        let mut client = Client::connect(server);
        client.send(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef");
        assert_eq!(client.reply().status(), 400, "two lengths");
    });
}
