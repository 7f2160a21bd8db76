//! EST against a server that misbehaves in every way it can: each misbehaviour has one exact classification, costs one
//! bounded attempt, and leaves no connection behind.

mod common;

use common::est_server::{AGENT, EstServer, Mode};
use common::{DAY, eventually};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::config;
use stillgood::enrolment::{Enrolment, Est, Failure, Kind, Order, Outcome, Purpose, Scope, accept, build};
use stillgood::https::{Client, Limits, Tls};
use stillgood::ocsp::Profile;
use stillgood::signer::{KeyKind, SignerFault, SigningKey, check};
use stillgood::time::{Clock, ManualClock, SystemClock};
use stillgood::x509::issue::{Attribute, name, ocsp_signer_request, reenrolment_request};
use stillgood::x509::pem;

const LABEL: &str = "ca-1";
/// For what never answers; a busy machine needs some time for what does.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Far longer than any attempt may take.
const LONG: Duration = Duration::from_secs(30);

struct Bench {
    server: EstServer,
    service: Arc<dyn Enrolment>,
    runtime: tokio::runtime::Runtime,
    key: SigningKey,
    order: Order,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(Arc::new(SystemClock), LONG)
    }

    fn with(clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = EstServer::start(directory.path(), &[LABEL, "ca-2"]);
        let service = build("main", &settings(&server, timeout), clock).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (key, order) = order(&server, LABEL);
        Bench { server, service, runtime, key, order, _directory: directory }
    }

    fn submit(&self) -> Outcome {
        self.runtime.block_on(self.service.submit(&self.order, Instant::now() + LONG))
    }

    fn issued(&self) -> Vec<Vec<u8>> {
        match self.submit() {
            Outcome::Issued(certificates) => certificates,
            other => panic!("{other:?}"),
        }
    }

    fn failed(&self) -> Failure {
        match self.submit() {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

fn settings(server: &EstServer, timeout: Duration) -> config::Enrolment {
    let (certificate, key) = server.agent_files();
    let client = config::ClientCredential { certificate, key, profile: Some(AGENT.into()) };
    config::Enrolment {
        protocol: config::Protocol::Est {
            url: server.url(),
            trust: server.directory.join("roots.pem"),
            client: Some(client),
            basic: None,
        },
        connect_timeout: Duration::from_secs(1),
        timeout,
        max_in_flight: 2,
        rate: config::Rate { count: 30, per: Duration::from_secs(60) },
        daily_requests: 1000,
    }
}

fn order(server: &EstServer, label: &str) -> (SigningKey, Order) {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject =
        name(&[(Attribute::Country, "DE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, "signer")]);
    let order = Order {
        id: "order-1".into(),
        issuer: "issuer-1".into(),
        profile: label.into(),
        purpose: Purpose::Signer,
        csr_der: ocsp_signer_request(&subject, &key.spki_der(), &key).unwrap(),
        spki_der: key.spki_der(),
        issuer_certificate: Some(Arc::new(server.ca(label).certificate.clone())),
        leave: Default::default(),
    };
    (key, order)
}

#[test]
fn a_signer_is_issued_over_mutual_tls_and_the_connection_is_used_again() {
    let bench = Bench::new();
    for mode in [Mode::Ok, Mode::ChainFirstInDer, Mode::Slow(Duration::from_millis(100))] {
        bench.server.set(LABEL, mode);
        let certificates = bench.issued();
        let certificate = accept(&bench.order, &certificates).unwrap();
        assert_eq!(certificates[0], certificate.der(), "ours is the first");
        let ca = &bench.server.ca(LABEL).certificate;
        check(ca, &certificate, &bench.key, Profile::Cabf, SystemClock.now()).unwrap();
    }
    let log = bench.server.log();
    assert!(log.iter().all(|l| l.spki == bench.order.spki_der && l.operation == "simpleenroll" && l.label == LABEL));
    assert_eq!((log.len(), bench.server.accepted()), (3, 1));
    assert_eq!((bench.service.connections(), bench.server.open()), (1, 1));
    drop(bench.service);
    eventually(LONG, "the idle connection is closed", || bench.server.open() == 0);
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_costs_nothing() {
    let bench = Bench::new();
    bench.server.set(LABEL, Mode::OkAndClose);
    for n in 1..=3 {
        accept(&bench.order, &bench.issued()).unwrap();
        eventually(LONG, "the server has closed", || bench.server.open() == 0);
        assert_eq!((bench.server.asked(LABEL), bench.server.accepted()), (n, n as u64));
    }
}

#[test]
fn every_misbehaviour_has_its_exact_classification_and_costs_one_bounded_attempt() {
    use {Kind::*, Scope::*};
    let bench = Bench::with(Arc::new(SystemClock), TIMEOUT);
    let cases = [
        (Mode::Garbage, Item, Unknown, "the body is unusable"),
        (Mode::Html, Item, Unknown, "a page for people"),
        (Mode::Empty, Item, Unknown, "it is empty"),
        (Mode::Huge, Item, Unknown, "larger than 524288 octets"),
        (Mode::Endless, Item, Unknown, "larger than 524288 octets"),
        (Mode::Drip, Endpoint, Unknown, "out of time while reading the response"),
        (Mode::CutOff, Endpoint, Unknown, "broke while reading the response"),
        (Mode::Hang, Endpoint, Unknown, "out of time while waiting for the response"),
        (Mode::Reset, Endpoint, Unknown, "broke while waiting for the response"),
        (Mode::NotHttp, Endpoint, Unknown, "not usable HTTP"),
        (Mode::EndlessHead, Endpoint, Unknown, "not usable HTTP"),
        (Mode::Redirect, Issuer, Permanent, "https://elsewhere.example/, which is not followed"),
        (Mode::Status(204, ""), Item, Unknown, "there is no certificate in it"),
        (Mode::Status(400, ""), Issuer, Permanent, "as the test wants it"),
        (Mode::Status(401, ""), OwnCredential, Permanent, "who we are"),
        (Mode::Status(403, ""), Issuer, Permanent, "may not order this"),
        (Mode::Status(404, ""), Issuer, Permanent, "profile"),
        (Mode::Status(422, ""), Issuer, Permanent, "422"),
        (Mode::Status(429, "5"), Endpoint, Transient, "later"),
        (Mode::Status(500, ""), Issuer, Transient, "later"),
        (Mode::Status(503, "7"), Endpoint, Transient, "later"),
    ];
    for (mode, scope, kind, words) in cases {
        bench.server.set(LABEL, mode.clone());
        let (before, began) = (bench.server.asked(LABEL), Instant::now());
        let failure = bench.failed();
        assert_eq!((failure.scope, failure.kind), (scope, kind), "{mode:?}: {failure}");
        assert!(failure.message().contains(words), "{mode:?}: {failure}");
        assert!(failure.message().starts_with("enrolment.main: "), "{failure}");
        assert!(began.elapsed() < TIMEOUT + Duration::from_secs(2), "{mode:?} took {:?}", began.elapsed());
        assert_eq!(bench.server.asked(LABEL), before + 1, "{mode:?}: asked once");
        if let Mode::Status(_, after @ ("5" | "7")) = mode {
            assert_eq!(failure.retry_after, Some(Duration::from_secs(after.parse().unwrap())));
        }
        assert!(bench.service.connections() <= 1, "{mode:?}");
    }
    // Trouble with one label is none with the next, and the same order is still good.
    bench.server.set(LABEL, Mode::Ok);
    accept(&bench.order, &bench.issued()).unwrap();
    assert!(bench.server.log().iter().all(|l| l.spki == bench.order.spki_der), "one key, ever");
    assert!(bench.server.most_open() <= 1, "{}", bench.server.most_open());
}

#[test]
fn a_certificate_that_must_not_sign_is_not_let_through() {
    let bench = Bench::new();
    bench.server.set(LABEL, Mode::WrongKey);
    let failure = accept(&bench.order, &bench.issued()).unwrap_err();
    assert_eq!((failure.scope, failure.kind), (Scope::Item, Kind::Permanent), "{failure}");
    let ca = bench.server.ca(LABEL).certificate.clone();
    for (mode, is_that) in [
        (Mode::WrongIssuer, (|f| matches!(f, SignerFault::BadSignature(_))) as fn(&SignerFault) -> bool),
        (Mode::Expired, |f| matches!(f, SignerFault::Expired(_))),
        (Mode::NotYetValid, |f| matches!(f, SignerFault::NotYetValid(_))),
        (Mode::NoEku, |f| matches!(f, SignerFault::NoOcspSigning)),
    ] {
        bench.server.set(LABEL, mode.clone());
        let certificate = accept(&bench.order, &bench.issued()).unwrap();
        let refused = check(&ca, &certificate, &bench.key, Profile::Rfc6960, SystemClock.now()).unwrap_err();
        assert!(refused.faults.iter().any(is_that), "{mode:?}: {refused:?}");
    }
}

#[test]
fn an_order_that_waits_is_asked_again_with_the_same_request() {
    let bench = Bench::new();
    bench.server.set(LABEL, Mode::Later("90", 2));
    for _ in 0..2 {
        let waiting = Outcome::Waiting { retry_after: Some(Duration::from_secs(90)), handle: None };
        assert_eq!(bench.submit(), waiting);
    }
    accept(&bench.order, &bench.issued()).unwrap();
    let log = bench.server.log();
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|l| l.spki == bench.order.spki_der));

    let at = SystemClock.now().plus(Duration::from_secs(600));
    let date = String::from_utf8(stillgood::time::format_http_date(at).to_vec()).unwrap();
    bench.server.set(LABEL, Mode::Later(date.leak(), 1));
    let Outcome::Waiting { retry_after: Some(after), .. } = bench.submit() else { panic!() };
    assert!((590..=600).contains(&after.as_secs()), "{after:?}");
}

#[test]
fn an_expired_credential_is_told_here_and_nobody_is_asked() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let bench = Bench::with(clock.clone(), LONG);
    bench.issued();
    let accepted = bench.server.accepted();
    let old = bench.service.credential().unwrap().certificate().unwrap();
    clock.set(old.not_after().plus(Duration::from_secs(1)));
    let failure = bench.failed();
    assert_eq!((failure.scope, failure.kind), (Scope::OwnCredential, Kind::Permanent));
    let file = bench.server.agent_files().0;
    let line = format!(
        "our client certificate for enrolment.main ({}, {}, serial {}) expired at {}; it is {} here. Put a new certificate and its key there, they are picked up without a restart; if the time is wrong, set this machine's clock",
        file.display(),
        old.subject(),
        old.serial(),
        old.not_after(),
        clock.now()
    );
    assert_eq!(failure.message(), line);
    clock.set(old.not_before().minus(Duration::from_secs(1)));
    assert_eq!((bench.failed().scope, bench.failed().kind), (Scope::OwnCredential, Kind::Transient));
    assert_eq!((bench.server.accepted(), bench.server.asked(LABEL)), (accepted, 1), "nobody was asked");

    // A way back without a restart.
    clock.set(SystemClock.now());
    let new = bench.server.write_agent(clock.now().minus(DAY), clock.now().plus(DAY));
    bench.issued();
    assert_eq!(bench.server.log().last().unwrap().client, new.serial().to_string());
    assert_eq!(bench.service.connections(), 1, "the connection under the old certificate is closed");
}

#[test]
fn half_a_new_credential_leaves_the_old_one_in_use() {
    let bench = Bench::new();
    bench.issued();
    let first = bench.server.log()[0].client.clone();
    let (certificate, key) = bench.server.agent_files();
    let (old_key, old) = (std::fs::read(&key).unwrap(), std::fs::read(&certificate).unwrap());
    let new = bench.server.write_agent(SystemClock.now().minus(DAY), SystemClock.now().plus(DAY));
    let new_key = std::fs::read(&key).unwrap();
    std::fs::write(&key, &old_key).unwrap();
    bench.issued();
    assert_eq!(bench.server.log()[1].client, first);
    std::fs::write(&key, &new_key).unwrap();
    bench.issued();
    assert_eq!(bench.server.log()[2].client, new.serial().to_string());

    // Without an older one to use, the line says what does not fit.
    std::fs::write(&certificate, &old).unwrap();
    let fresh = build("main", &settings(&bench.server, TIMEOUT), Arc::new(SystemClock)).unwrap();
    let Outcome::Failed(failure) = bench.runtime.block_on(fresh.submit(&bench.order, Instant::now() + LONG)) else {
        panic!()
    };
    assert_eq!(failure.scope, Scope::OwnCredential);
    assert!(failure.message().contains("agent.key: this is not the private key of the certificate"), "{failure}");
}

#[test]
fn a_server_that_does_not_know_our_certificate_is_named_as_such() {
    let bench = Bench::new();
    let other = tempfile::tempdir().unwrap();
    let stranger = EstServer::start(other.path(), &[LABEL]);
    let (certificate, key) = stranger.agent_files();
    std::fs::copy(certificate, bench.server.agent_files().0).unwrap();
    std::fs::copy(key, bench.server.agent_files().1).unwrap();
    let failure = bench.failed();
    assert_eq!((failure.scope, failure.kind), (Scope::OwnCredential, Kind::Permanent), "{failure}");
    assert!(failure.message().contains("does not accept our client certificate"), "{failure}");
    assert_eq!(bench.server.asked(LABEL), 0);
}

#[test]
fn a_server_that_cannot_be_trusted_or_reached_gets_no_request() {
    let bench = Bench::new();
    let other = tempfile::tempdir().unwrap();
    let stranger = EstServer::start(other.path(), &[LABEL]);
    std::fs::copy(stranger.directory.join("roots.pem"), bench.server.directory.join("roots.pem")).unwrap();
    let failure = bench.failed();
    assert_eq!((failure.scope, failure.kind), (Scope::Endpoint, Kind::Permanent), "{failure}");
    assert!(failure.message().contains("enrolment.main.trust"), "{failure}");
    std::fs::remove_file(bench.server.directory.join("roots.pem")).unwrap();
    assert_eq!((bench.failed().scope, bench.failed().kind), (Scope::Endpoint, Kind::Permanent));
    assert_eq!(bench.server.asked(LABEL), 0);

    for (url, words) in
        [("https://localhost:1", "cannot be reached"), ("https://nonexistent.invalid", "cannot be reached")]
    {
        let mut settings = settings(&stranger, TIMEOUT);
        let config::Protocol::Est { url: place, .. } = &mut settings.protocol else { panic!() };
        *place = url.to_owned();
        let service = build("main", &settings, Arc::new(SystemClock)).unwrap();
        let Outcome::Failed(failure) = bench.runtime.block_on(service.submit(&bench.order, Instant::now() + LONG))
        else {
            panic!()
        };
        assert_eq!((failure.scope, failure.kind), (Scope::Endpoint, Kind::Transient), "{failure}");
        assert!(failure.message().contains(words) || failure.message().contains("connecting"), "{failure}");
        assert_eq!(service.connections(), 0);
    }
}

#[test]
fn a_server_that_never_shakes_hands_costs_the_connect_timeout_and_knows_nothing() {
    let bench = Bench::with(Arc::new(SystemClock), LONG);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(&bench.server, LONG);
    let config::Protocol::Est { url, .. } = &mut settings.protocol else { panic!() };
    *url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let service = build("main", &settings, Arc::new(SystemClock)).unwrap();
    let began = Instant::now();
    let Outcome::Failed(failure) = bench.runtime.block_on(service.submit(&bench.order, Instant::now() + LONG)) else {
        panic!()
    };
    assert_eq!((failure.scope, failure.kind), (Scope::Endpoint, Kind::Transient), "{failure}");
    assert!(failure.message().contains("out of time while shaking hands"), "{failure}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn connections_never_exceed_the_maximum_under_faults_and_return_to_idle() {
    let bench = Bench::with(Arc::new(SystemClock), TIMEOUT);
    bench.server.set(LABEL, Mode::Hang);
    let deadline = Instant::now() + LONG;
    for round in [Mode::Hang, Mode::Reset, Mode::Slow(Duration::from_millis(50)), Mode::Drip, Mode::Ok] {
        bench.server.set(LABEL, round);
        bench.runtime.block_on(async {
            let submit = || bench.service.submit(&bench.order, deadline);
            let all = async { tokio::join!(submit(), submit(), submit(), submit(), submit(), submit()) };
            tokio::pin!(all);
            loop {
                tokio::select! {
                    _ = &mut all => break,
                    () = tokio::time::sleep(Duration::from_millis(2)) => assert!(bench.service.connections() <= 2),
                }
            }
        });
    }
    assert_eq!(bench.server.most_open(), 2);
    assert!(bench.service.connections() <= 2);
    eventually(LONG, "only idle ones are left", || bench.server.open() == bench.service.connections());
    drop(bench.service);
    eventually(LONG, "none is left", || bench.server.open() == 0);
}

#[test]
fn a_cancelled_attempt_closes_its_connection() {
    let bench = Bench::with(Arc::new(SystemClock), LONG);
    bench.server.set(LABEL, Mode::Hang);
    bench.runtime.block_on(async {
        let arrived = async {
            while bench.server.asked(LABEL) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(bench.service.connections(), 1);
        };
        tokio::select! {
            outcome = bench.service.submit(&bench.order, Instant::now() + LONG) => panic!("{outcome:?}"),
            () = arrived => {}
        }
    });
    assert_eq!(bench.service.connections(), 0);
    eventually(LONG, "the server sees it closed", || bench.server.open() == 0);
}

#[test]
fn our_own_credential_is_renewed_and_swapped_while_it_is_in_use() {
    let bench = Bench::new();
    bench.issued();
    let credential = bench.service.credential().unwrap();
    let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let order = Order {
        profile: AGENT.into(),
        purpose: Purpose::OwnCredential,
        csr_der: reenrolment_request(&credential.certificate().unwrap(), &key.spki_der(), &key).unwrap(),
        spki_der: key.spki_der(),
        ..bench.order.clone()
    };
    let submitted = bench.service.submit(&order, Instant::now() + LONG);
    let Outcome::Issued(certificates) = bench.runtime.block_on(submitted) else { panic!() };
    let new = accept(&order, &certificates).unwrap();
    credential.install(&pem::encode("CERTIFICATE", new.der()), &pkcs8).unwrap();
    bench.issued();
    let log = bench.server.log();
    assert_eq!(log[1].operation, "simplereenroll");
    assert_eq!(log[1].client, log[0].client);
    assert_eq!(log[2].client, new.serial().to_string());
    assert_eq!(bench.service.connections(), 1);
}

#[test]
fn a_password_is_sent_as_rfc_7617_has_it_and_never_shown() {
    let bench = Bench::new();
    let file = bench.server.directory.join("agent.password");
    std::fs::write(&file, "open:sesame\nsecond line\n").unwrap();
    let mut settings = settings(&bench.server, LONG);
    let config::Protocol::Est { basic, .. } = &mut settings.protocol else { panic!() };
    *basic = Some(config::BasicCredential { user: "agent".into(), password_file: file.clone() });
    let service = build("main", &settings, Arc::new(SystemClock)).unwrap();
    let submit = || bench.runtime.block_on(service.submit(&bench.order, Instant::now() + LONG));
    let Outcome::Failed(failure) = submit() else { panic!() };
    assert_eq!(failure.scope, Scope::OwnCredential);
    assert!(failure.message().contains("chmod 600") && !failure.message().contains("sesame"), "{failure}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(submit(), Outcome::Issued(_)));
    let sent = bench.server.log()[0].authorization.clone().unwrap();
    assert_eq!(sent, format!("Basic {}", data_encoding::BASE64.encode(b"agent:open:sesame")));
}

#[test]
fn the_ca_certificates_of_a_label_are_fetched() {
    let bench = Bench::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tls = Tls::new(bench.server.directory.join("roots.pem"), bench.service.credential().cloned(), clock.clone());
    let limits = Limits { max_connections: 1, connect_timeout: LONG, max_body: 100_000 };
    let est = Est::new("main", Client::new(bench.server.url().parse().unwrap(), Some(tls), limits), LONG, clock);
    let fetch = |label| bench.runtime.block_on(est.cacerts(label, Instant::now() + LONG));
    assert_eq!(fetch(LABEL).unwrap(), [bench.server.ca(LABEL).certificate.der()]);
    assert_eq!(fetch("no-such-ca").unwrap_err().scope, Scope::Issuer);
    assert!(fetch("../x").unwrap_err().message().contains("cannot be part of a path"));
}

#[test]
fn what_is_withdrawn_while_it_waits_for_a_connection_does_not_leave() {
    let bench = Bench::new();
    bench.server.set(LABEL, Mode::Hang);
    let (_, waiting) = order(&bench.server, "ca-2");
    let (_, other) = order(&bench.server, "ca-2");
    // Two of them take all connections there may be.
    let one = Order { leave: Default::default(), ..bench.order.clone() };
    let submit = |order| bench.service.submit(order, Instant::now() + LONG);
    let hang = async { tokio::join!(submit(&bench.order), submit(&one)) };
    let withdraw = async {
        while bench.server.asked(LABEL) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(waiting.leave.withdraw(), "it has not left");
        assert!(!bench.order.leave.withdraw() && !one.leave.withdraw(), "these have");
    };
    let first = async {
        tokio::select! {
            hung = hang => panic!("{hung:?}"),
            () = withdraw => {} // both are dropped: their connections are free
        }
    };
    let ((), waited, went) =
        bench.runtime.block_on(async { tokio::join!(biased; first, submit(&waiting), submit(&other)) });
    let (Outcome::Failed(failure), Outcome::Issued(_)) = (&waited, &went) else { panic!("{waited:?} {went:?}") };
    assert!(failure.message().contains("withdrawn before any of it was sent"), "{failure}");
    assert_eq!(bench.server.asked("ca-2"), 1);
    assert!(!waiting.leave.is_taken() && other.leave.is_taken());
}
