//! CFSSL's `authsign` against the real server (`cfssl serve`, Debian's golang-cfssl), and against one that lies.
//!
//! Where there is no `cfssl`, the tests say so and pass.

mod common;

use common::Lab;
use common::cfssl::{Cfssl, KEY, write_secret};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::config;
use stillgood::enrolment::{Kind, Order, Outcome, Purpose, Scope, accept, build};
use stillgood::ocsp::Profile;
use stillgood::signer::{KeyKind, SigningKey, check};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::Certificate;
use stillgood::x509::issue::{Attribute, name, ocsp_signer_request};

const LONG: Duration = Duration::from_secs(20);
fn order(ca: &Certificate, profile: &str) -> (SigningKey, Order) {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject =
        name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, "signer")]);
    let order = Order {
        id: "order-1".into(),
        issuer: "issuer-1".into(),
        profile: profile.into(),
        purpose: Purpose::Signer,
        csr_der: ocsp_signer_request(&subject, &key.spki_der(), &key).unwrap(),
        spki_der: key.spki_der(),
        issuer_certificate: Some(Arc::new(ca.clone())),
        leave: Default::default(),
    };
    (key, order)
}

fn submit(port: u16, auth_key: &Path, order: &Order) -> Outcome {
    let settings = config::Enrolment {
        protocol: config::Protocol::Cfssl {
            url: format!("http://127.0.0.1:{port}"),
            auth_key: auth_key.to_owned(),
            trust: None,
        },
        connect_timeout: LONG,
        timeout: LONG,
        max_in_flight: 1,
        rate: config::Rate { count: 30, per: Duration::from_secs(60) },
        daily_requests: 1000,
    };
    let service = build("cfssl", &settings, Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(service.submit(order, Instant::now() + LONG))
}

fn failed(outcome: Outcome) -> (Scope, Kind, String) {
    match outcome {
        Outcome::Failed(f) => (f.scope, f.kind, f.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_real_server_issues_a_signer_that_may_sign() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Cfssl::start(directory.path()) else { return };
    let secret = directory.path().join("agent.key");
    write_secret(&secret, &format!("{KEY}\n"), 0o600);
    let (key, order) = order(&server.ca, "ocsp");
    for _ in 0..2 {
        let Outcome::Issued(certificates) = submit(server.port, &secret, &order) else { panic!() };
        let certificate = accept(&order, &certificates).unwrap();
        let facts = check(&server.ca, &certificate, &key, Profile::Cabf, SystemClock.now()).unwrap();
        assert_eq!(facts.not_after.since(SystemClock.now()).as_secs() / 86_400, 29);
    }
}

#[test]
fn what_the_real_server_refuses_is_classified() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = Cfssl::start(directory.path()) else { return };
    let secret = directory.path().join("agent.key");
    write_secret(&secret, KEY, 0o600);
    let (_, unknown) = order(&server.ca, "no-such-profile");
    let (scope, kind, text) = failed(submit(server.port, &secret, &unknown));
    assert_eq!((scope, kind), (Scope::Issuer, Kind::Permanent), "{text}");
    assert!(text.contains("no-such-profile") && text.contains("code 5100"), "{text}");

    let (_, known) = order(&server.ca, "ocsp");
    write_secret(&secret, &KEY.replace('0', "1"), 0o600);
    let (scope, kind, text) = failed(submit(server.port, &secret, &known));
    assert_eq!((scope, kind), (Scope::OwnCredential, Kind::Permanent), "{text}");
    assert!(text.contains("invalid token") && text.contains("agent.key"), "{text}");

    let port = server.port;
    drop(server);
    let (scope, kind, text) = failed(submit(port, &secret, &known));
    assert_eq!((scope, kind), (Scope::Endpoint, Kind::Transient), "{text}");
}

#[test]
fn a_shared_key_that_cannot_be_used_is_named_without_a_word_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::new("CA");
    let (_, order) = order(&lab.ca, "ocsp");
    let secret = directory.path().join("agent.key");
    for (text, mode, words) in
        [("sesame", 0o600, "not a key in hexadecimal"), (KEY, 0o644, "chmod 600"), ("", 0o600, "not a key")]
    {
        write_secret(&secret, text, mode);
        let (scope, kind, message) = failed(submit(1, &secret, &order));
        assert_eq!((scope, kind), (Scope::OwnCredential, Kind::Permanent));
        assert!(message.contains(words) && message.contains("agent.key"), "{message}");
        assert!(text.is_empty() || !message.contains(text), "{message}");
    }
}

#[test]
fn an_answer_that_is_not_cfssls_is_named() {
    use {Kind::*, Scope::*};
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::new("CA");
    let (_, order) = order(&lab.ca, "ocsp");
    let secret = directory.path().join("agent.key");
    write_secret(&secret, KEY, 0o600);
    for (status, body, scope, kind, words) in [
        ("200 OK", "<html>sign in</html>", Item, Unknown, "not CFSSL's JSON"),
        ("200 OK", r#"{"success":true,"result":{"certificate":"none"}}"#, Item, Unknown, "unusable"),
        ("200 OK", r#"{"success":true,"result":null}"#, Issuer, Permanent, "no reason given"),
        ("404 Not Found", "404 page not found", Issuer, Permanent, "404 page not found"),
        ("503 Busy", "", Endpoint, Transient, "503"),
        ("500 Error", r#"{"success":false,"errors":[{"code":1,"message":"HSM"}]}"#, Issuer, Transient, "HSM (code 1)"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).unwrap();
                seen.extend_from_slice(&piece[..n]);
            }
            let len = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}").unwrap();
        });
        let (s, k, text) = failed(submit(port, &secret, &order));
        server.join().unwrap();
        assert_eq!((s, k), (scope, kind), "{status} {body}: {text}");
        assert!(text.contains(words), "{text}");
    }
}
