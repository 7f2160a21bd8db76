//! What a client cannot use up. The limits are short here so that the tests are.

use super::util::*;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use stillgood::endpoint::{Event, Handle, Limits, Outcome};
use stillgood::ocsp::Request;

const SHORT: Duration = Duration::from_millis(200);
/// Later than this, something else than the limit has cut the connection.
const CUT_BY: Duration = Duration::from_millis(1_500);

#[test]
fn a_silent_client_is_cut() {
    both(Limits { header_read: SHORT, ..Limits::default() }, |server| {
        let began = Instant::now();
        assert!(Client::connect(server).is_closed());
        assert!((SHORT..CUT_BY).contains(&began.elapsed()), "{:?}", began.elapsed());
        soon("it is counted", || server.stats().snapshot().event(Event::ReadTimeout) == 1);
        soon("its place is free", || server.stats().snapshot().open() == 0);
    });
}

#[test]
fn a_header_that_trickles_in_is_cut_however_lively() {
    both(Limits { header_read: SHORT, idle: Duration::from_secs(60), ..Limits::default() }, |server| {
        for before in [false, true] {
            let mut client = Client::connect(server);
            if before {
                assert_eq!(client.ask(&get(READY)).status(), 200);
            }
            let began = Instant::now();
            let drip = client.stream.try_clone().unwrap();
            let dripping = std::thread::spawn(move || {
                use std::io::Write;
                for octet in b"GET /".iter().chain(std::iter::repeat_n(&b'a', 200)) {
                    if (&drip).write_all(&[*octet]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            assert!(client.is_closed());
            assert!((SHORT..CUT_BY).contains(&began.elapsed()), "{:?}", began.elapsed());
            dripping.join().unwrap();
        }
    });
}

#[test]
fn a_body_that_does_not_come_is_408() {
    both(Limits { body_read: SHORT, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        let post = post(READY);
        let began = Instant::now();
        let reply = client.ask(&post[..post.len() - 5]);
        assert_eq!((reply.status(), reply.field("connection")), (408, Some("close")));
        assert!(client.is_closed());
        assert!((SHORT..CUT_BY).contains(&began.elapsed()), "{:?}", began.elapsed());
        soon("it is counted", || server.stats().snapshot().event(Event::ReadTimeout) == 1);
    });
}

#[test]
fn an_idle_connection_is_closed_and_that_is_no_fault() {
    both(Limits { idle: SHORT, header_read: Duration::from_secs(60), ..Limits::default() }, |server| {
        for ask in [READY, LIVE] {
            let mut client = Client::connect(server);
            for _ in 0..3 {
                assert_eq!(client.ask(&get(ask)).status(), 200);
                std::thread::sleep(SHORT / 2);
            }
            let began = Instant::now();
            assert!(client.is_closed());
            assert!(began.elapsed() < CUT_BY, "{:?}", began.elapsed());
        }
        assert_eq!(server.stats().snapshot().event(Event::ReadTimeout), 0);
    });
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    both(Limits { write: SHORT, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        for _ in 0..400 {
            client.send(&get(LARGE)); // 24 MB of answers, more than the kernel keeps
        }
        soon("it is cut", || server.stats().snapshot().event(Event::WriteTimeout) == 1);
        soon("its place is free", || server.stats().snapshot().open() == 0);
    });
}

#[test]
fn a_client_that_reads_slowly_gets_everything() {
    both(Limits { write: SHORT, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        let mut sender = client.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            use std::io::Write;
            sender.write_all(&get(LARGE).repeat(200)).unwrap();
        });
        for n in 0..200 {
            assert_eq!(client.reply().body, signed(LARGE));
            if n % 50 == 0 {
                std::thread::sleep(SHORT / 2);
            }
        }
        sending.join().unwrap();
    });
}

#[test]
fn headers_beyond_the_limits_are_431() {
    both(Limits { max_headers: 20, ..Limits::default() }, |server| {
        let many = "X-Field: 1\r\n".repeat(21);
        let long = format!("X-Field: {}\r\n", "a".repeat(17_000));
        let endless = format!("X-Field: {}", "a".repeat(40_000));
        for fields in [&many, &long, &endless] {
            let mut client = Client::connect(server);
            client.send(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
            assert_eq!(client.reply().status(), 431, "{}…", &fields[..20]);
            assert!(client.is_closed());
        }
        let enough = "X-Field: 1\r\n".repeat(20);
        assert_eq!(Client::connect(server).ask(format!("GET / HTTP/1.1\r\n{enough}\r\n").as_bytes()).status(), 200);
    });
}

#[test]
fn a_header_at_the_very_limit_is_answered_or_cut_and_never_kept() {
    let limits = Limits { header_read: SHORT, idle: Duration::from_secs(60), ..Limits::default() };
    both(limits.clone(), |server| {
        for len in limits.max_header - 2..=limits.max_header + 2 {
            let mut client = Client::connect(server);
            let began = Instant::now();
            client.send(format!("{:a<len$}", "GET / HTTP/1.1\r\nX: ").as_bytes());
            if let Some(reply) = client.try_reply(false) {
                assert_eq!(reply.status(), 431, "{len}");
            }
            assert!(client.is_closed() && began.elapsed() < CUT_BY, "{len}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_body_that_nobody_wants_keeps_no_connection() {
    both(Limits { idle: SHORT, ..Limits::default() }, |server| {
        for method in ["PUT", "GET", "DELETE"] {
            let mut client = Client::connect(server);
            client.send(format!("{method} / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx").as_bytes());
            assert_eq!(client.reply().status(), if method == "GET" { 200 } else { 405 });
            let began = Instant::now();
            assert!(client.is_closed() && began.elapsed() < CUT_BY, "{method}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_target_beyond_the_limit_is_malformed() {
    both(Limits { max_target: 2_000, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        for (slashes, expected) in [(1_000, 200), (2_000, 1)] {
            let target = format!("{}{}", "/".repeat(slashes), path(READY));
            let reply = client.ask(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
            if expected == 200 {
                assert_eq!(reply.body, signed(READY));
            } else {
                assert_eq!(reply.error(), expected);
            }
        }
    });
}

#[test]
fn a_body_beyond_the_limit_is_malformed_and_the_last() {
    let body = vec![0x30; Request::MAX_LEN + 1];
    let chunked = [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        [b"1000\r\n".as_slice(), &[0x30; 0x1000], b"\r\n"].concat().repeat(3),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    both(Limits::default(), |server| {
        for ask in [post_body(&body, ""), post_body(&vec![0; 100_000], ""), chunked.clone()] {
            let mut client = Client::connect(server);
            let reply = client.ask(&ask);
            assert_eq!(reply.error(), 1);
            assert_eq!(reply.field("connection"), Some("close"));
            assert!(client.is_closed());
        }
        let mut client = Client::connect(server);
        assert_eq!(client.ask(&post_body(&body[1..], "")).error(), 1, "as long as allowed");
        assert_eq!(client.ask(&get(READY)).status(), 200);
        let mut client = Client::connect(server);
        client.send(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
        assert_eq!(client.reply().error(), 1, "without having been asked for it");
    });
}

#[test]
fn a_crowd_of_silent_clients_makes_room_for_one_that_asks() {
    both(Limits { max_connections: 8, ..Limits::default() }, |server| {
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(server.addresses()[0]).unwrap()).collect();
        let mut client = Client::connect(server);
        assert_eq!(client.ask(&get(READY)).body, signed(READY));
        soon("the oldest have gone", || server.stats().snapshot().open() <= 8);
        let stats = server.stats().snapshot();
        assert_eq!(stats.event(Event::Opened), 101);
        assert_eq!(stats.event(Event::Evicted), 93);
        assert_eq!(client.ask(&get(READY)).body, signed(READY), "the youngest stays");
        drop(silent);
    });
}

#[test]
fn connections_at_work_are_never_closed_for_a_new_one() {
    both(Limits { max_connections: 4, ..Limits::default() }, |server| {
        let mut busy: Vec<_> = (0..4).map(|_| Client::connect(server)).collect();
        for client in &mut busy {
            client.send(&get(LIVE_SLOW));
        }
        std::thread::sleep(SLOW / 3);
        assert!(Client::connect(server).is_closed());
        for client in &mut busy {
            assert_eq!(client.reply().body, signed(LIVE_SLOW));
        }
        assert_eq!(server.stats().snapshot().event(Event::RefusedFull), 1);
        assert_eq!(Client::connect(server).ask(&get(READY)).body, signed(READY), "now one of them is idle");
    });
}

#[test]
fn a_connection_whose_answers_were_taken_late_is_idle_again() {
    both(Limits { idle: SHORT, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        for _ in 0..100 {
            client.send(&get(LARGE)); // 6 MB of answers, more than the kernel keeps
        }
        client.send(&get(LIVE_SLOW));
        std::thread::sleep(SHORT);
        for _ in 0..100 {
            assert_eq!(client.reply().body, signed(LARGE));
        }
        assert_eq!(client.reply().body, signed(LIVE_SLOW));
        let began = Instant::now();
        assert!(client.is_closed());
        assert!(began.elapsed() < CUT_BY, "{:?}", began.elapsed());
    });
}

/// Clients that want answers and do not take them, so many that they have every place.
fn greedy(server: &Handle, count: usize) -> Vec<Client> {
    let greedy: Vec<_> = (0..count)
        .map(|_| {
            let mut client = Client::connect(server);
            for _ in 0..400 {
                client.send(&get(LARGE)); // 24 MB of answers, more than the kernel keeps
            }
            client
        })
        .collect();
    soon("they are all there", || server.stats().snapshot().event(Event::Opened) == count as u64);
    greedy
}

#[test]
fn clients_that_do_not_take_their_answers_make_room_for_one_that_asks() {
    both(Limits { max_connections: 4, write: Duration::from_secs(600), ..Limits::default() }, |server| {
        let greedy = greedy(server, 4);
        soon("a place is free for one that asks", || {
            let mut client = Client::connect(server);
            let asked = std::io::Write::write_all(&mut client.stream, &get(READY));
            asked.is_ok() && client.try_reply(false).is_some_and(|reply| reply.body == signed(READY))
        });
        assert!(server.stats().snapshot().event(Event::Evicted) > 0);
        drop(greedy);
    });
}

#[test]
fn bodies_that_do_not_come_make_room_for_one_that_asks() {
    both(Limits { max_connections: 4, body_read: Duration::from_secs(600), ..Limits::default() }, |server| {
        let mut begun: Vec<_> = (0..4).map(|_| Client::connect(server)).collect();
        for client in &mut begun {
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        }
        // All of them have their bodies awaited, and none is merely silent.
        std::thread::sleep(SHORT);
        assert_eq!(Client::connect(server).ask(&get(READY)).body, signed(READY));
        assert_eq!(server.stats().snapshot().event(Event::Evicted), 1);
    });
}

#[test]
fn one_client_has_no_more_than_its_share() {
    both(Limits { max_connections_per_client: 3, ..Limits::default() }, |server| {
        let mut clients: Vec<_> = (0..3).map(|_| Client::connect(server)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.ask(&get(READY)).status(), 200));
        assert!(Client::connect(server).is_closed());
        assert_eq!(server.stats().snapshot().event(Event::RefusedClient), 1);
        clients.pop();
        soon("a place is free again", || {
            let mut client = Client::connect(server);
            client.send(&get(READY));
            client.try_reply(false).is_some()
        });
    });
}

#[test]
fn a_connection_ends_after_so_many_requests() {
    both(Limits { max_requests_per_connection: 3, ..Limits::default() }, |server| {
        for serials in [[READY, READY, READY, READY], [READY, LIVE, READY, READY]] {
            let mut client = Client::connect(server);
            client.send(&serials.map(get).concat());
            for n in 1..=3 {
                assert_eq!(client.reply().field("connection"), (n == 3).then_some("close"));
            }
            assert!(client.is_closed());
        }
    });
}

#[test]
fn a_signer_that_does_not_answer_is_not_waited_for() {
    both(Limits { on_demand: SHORT, ..Limits::default() }, |server| {
        let mut client = Client::connect(server);
        assert_eq!(client.ask(&get(LIVE_NEVER)).error(), 3);
        assert_eq!(client.ask(&get(READY)).body, signed(READY));
        assert_eq!(server.stats().snapshot().event(Event::OnDemandTimeout), 1);
    });
}

#[test]
fn waiting_for_a_signer_holds_up_nobody_else() {
    both(Limits::default(), |server| {
        let mut waiting: Vec<_> = (0..50).map(|_| Client::connect(server)).collect();
        for client in &mut waiting {
            client.send(&post(LIVE_SLOW));
        }
        let began = Instant::now();
        assert_eq!(Client::connect(server).ask(&get(READY)).body, signed(READY));
        assert!(began.elapsed() < SLOW / 2, "{:?}", began.elapsed());
        waiting.iter_mut().for_each(|client| assert_eq!(client.reply().body, signed(LIVE_SLOW)));
        assert_eq!(server.stats().snapshot().outcome(Outcome::OnDemand), 50);
    });
}
