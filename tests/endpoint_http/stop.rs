//! Starting and stopping: no request in progress is lost, and what cannot start says why.

use super::util::*;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::endpoint::{Event, Limits, Mounts, Server, Service, Settings, StartError};

const GRACE: Duration = Duration::from_secs(5);

fn local() -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap()]
}

#[test]
fn a_stop_answers_what_has_been_asked() {
    for fast in [true, false] {
        let server = serve(&service(), fast);
        let address = server.addresses()[0];
        let mut waiting: Vec<_> = (0..20).map(|_| Client::connect(&server)).collect();
        for client in &mut waiting {
            client.send(&[get(LIVE_SLOW), get(READY)].concat());
        }
        let mut halfway = Client::connect(&server);
        let post = post(READY);
        halfway.send(&post[..40]);
        let mut idle = Client::connect(&server);
        assert_eq!(idle.ask(&get(READY)).field("connection"), None);
        std::thread::sleep(SLOW / 3);
        server.stop(GRACE);
        let mut late = Client::to(address); // may be in the kernel's queue still, or refused
        let _ = std::io::Write::write_all(&mut late.stream, &get(READY));
        let began = Instant::now();
        assert!(idle.is_closed());
        assert!(began.elapsed() < GRACE / 2);
        assert_eq!(halfway.ask(&post[40..]).field("connection"), Some("close"));
        for client in &mut waiting {
            let reply = client.reply();
            assert_eq!(
                (reply.body.as_slice(), reply.field("connection")),
                (signed(LIVE_SLOW).as_slice(), Some("close"))
            );
            assert!(client.is_closed());
        }
        server.shutdown(GRACE);
        assert!(began.elapsed() < GRACE / 2, "nothing was left to wait for: {:?}", began.elapsed());
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn connections_in_the_queue_are_served_before_the_end() {
    for fast in [true, false] {
        let server = serve(&service(), fast);
        let mut clients: Vec<_> = (0..200).map(|_| Client::connect(&server)).collect();
        for client in &mut clients {
            client.send(&get(READY));
        }
        server.shutdown(GRACE);
        for client in &mut clients {
            assert_eq!(client.reply().body, signed(READY));
        }
    }
}

#[test]
fn what_hangs_is_cut_when_the_grace_is_over() {
    for fast in [true, false] {
        let server = serve(&service().with_limits(Limits { on_demand: GRACE * 10, ..Limits::default() }), fast);
        let mut client = Client::connect(&server);
        client.send(&get(LIVE_NEVER));
        std::thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        server.shutdown(Duration::from_millis(300));
        assert!((Duration::from_millis(300)..GRACE / 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(client.is_closed());
    }
}

#[test]
fn a_dropped_handle_stops_the_server() {
    let server = serve(&service(), true);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&get(READY)).status(), 200);
    drop(server);
    assert!(client.is_closed());
}

#[test]
fn an_address_in_use_is_named_with_a_remedy() {
    let server = serve(&service(), true);
    let address = server.addresses()[0];
    let again = || Settings { listen: vec![address], workers: 1, ..Settings::default() };
    let error = Server::start(&service(), again()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("another process listens there"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings { listen: vec![taken.local_addr().unwrap()], share_port: true, ..Settings::default() };
    assert!(matches!(Server::start(&service(), settings), Err(StartError::Listen { .. })), "it does not share");
    let elsewhere = Settings { listen: vec!["192.0.2.1:8080".parse().unwrap()], ..Settings::default() };
    let error = Server::start(&service(), elsewhere).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:8080") && error.contains("no interface has this address"), "{error}");
    assert!(matches!(Server::start(&service(), Settings::default()), Err(StartError::Nowhere)));
}

#[test]
fn a_server_takes_over_the_port_of_another() {
    let old = serve(&service(), true);
    let address = old.addresses()[0];
    let settings = Settings { listen: vec![address], workers: 2, share_port: true, ..Settings::default() };
    let new = Server::start(&service(), settings).unwrap();
    old.shutdown(GRACE);
    for _ in 0..20 {
        assert_eq!(Client::to(address).ask(&get(READY)).body, signed(READY));
    }
    assert!(new.is_running());
    assert_eq!(new.stats().snapshot().hashes()[0], 20);
}

#[test]
fn a_new_configuration_holds_from_the_next_request_on_and_closes_nothing() {
    for fast in [true, false] {
        let server = serve(&service(), fast);
        let ask = format!("GET /new/{} HTTP/1.1\r\nHost: x\r\n\r\n", path(READY)).into_bytes();
        let mut client = Client::connect(&server);
        assert_eq!(client.ask(&ask).error(), 1);
        let mut waiting = Client::connect(&server);
        waiting.send(&get(LIVE_SLOW));
        std::thread::sleep(SLOW / 3);
        let limits = Limits { max_connections: 2, ..Limits::default() };
        server.replace(&service().with_mounts(Mounts::new(["new"]).unwrap()).with_limits(limits));
        assert_eq!(client.ask(&ask).body, signed(READY));
        assert_eq!(waiting.reply().body, signed(LIVE_SLOW));
        assert_eq!(server.stats().snapshot().hashes()[0], 2, "counted on");
        assert_eq!(Client::connect(&server).ask(&get(READY)).status(), 200);
        assert_eq!(server.stats().snapshot().event(Event::Evicted), 1);
    }
}

#[test]
fn several_addresses_workers_and_handed_over_sockets_serve_together() {
    let handed = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = vec!["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    let settings = Settings { listen, workers: 3, sockets: vec![handed], ..Settings::default() };
    let server = Server::start(&service(), settings).unwrap();
    assert_eq!(server.addresses().len(), 3);
    for address in server.addresses() {
        for _ in 0..20 {
            assert_eq!(Client::to(*address).ask(&get(READY)).body, signed(READY), "{address}");
        }
    }
    assert_eq!(server.stats().snapshot().hashes()[0], 60);
    server.shutdown(GRACE);
}

#[test]
fn ipv4_and_ipv6_can_be_named_with_the_same_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = serve(&service(), true);
    let port = server.addresses()[0].port();
    let listen = vec![SocketAddr::new("::".parse().unwrap(), port)];
    let six = Server::start(&service(), Settings { listen, workers: 1, ..Settings::default() }).unwrap();
    let address = SocketAddr::new("::1".parse().unwrap(), port);
    assert_eq!(Client::to(address).ask(&get(READY)).body, signed(READY));
    assert_eq!(six.stats().snapshot().hashes()[0], 1);
    assert_eq!(Client::connect(&server).ask(&get(READY)).body, signed(READY));
}

#[test]
fn the_service_can_be_mounted_in_another_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let service = service();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(local()[0])).unwrap();
    let address = listener.local_addr().unwrap();
    let mounted = service.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, mounted.clone()));
            }
        })
    });
    let mut client = Client::to(address);
    assert_eq!(client.ask(&get(READY)).body, signed(READY));
    assert_eq!(client.ask(&post(LIVE)).body, signed(LIVE));
    assert_eq!(client.ask(&post_body(&[0; 20_000], "")).error(), 1);
    assert_eq!(service.stats().snapshot().hashes()[0], 2);
}

#[test]
fn the_service_answers_a_request_in_memory() {
    use http_body_util::{BodyExt, Full};
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let service = Service::new(Arc::new(Fake)).with_clock(Arc::new(stillgood::time::ManualClock::at(NOW)));
    let body = Full::new(bytes::Bytes::from(request(READY)));
    let request = http::Request::post("/any/path").body(body).unwrap();
    let response = runtime.block_on(service.answer(request));
    assert_eq!(response.status(), 200);
    let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
    assert_eq!(body, signed(READY));
}

/// A source that takes the worker's thread and does not give it back for a while.
struct Hangs;

impl stillgood::endpoint::Source for Hangs {
    fn answer(
        &self,
        _: &stillgood::ocsp::Request<'_>,
        _: stillgood::time::Timestamp,
        _: &mut Vec<u8>,
    ) -> stillgood::endpoint::Answer {
        std::thread::sleep(Duration::from_secs(4));
        stillgood::endpoint::Answer::Refused(stillgood::ocsp::ErrorStatus::TryLater)
    }
}

#[test]
fn a_worker_that_hangs_is_noticed_and_one_that_only_waits_is_not() {
    let within = Duration::from_millis(2_500);
    let server = serve(&Service::new(Arc::new(Hangs)), true);
    std::thread::sleep(within);
    assert!(server.is_responsive(within), "idle");
    let mut client = Client::connect(&server);
    client.send(&get(READY));
    std::thread::sleep(within + Duration::from_millis(700));
    assert!(!server.is_responsive(within) && server.is_running(), "hanging");
    client.reply();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(server.is_responsive(within), "at work again");
}
