//! A registry behind a URL, followed by the public interface: what a server may do, and what is known meanwhile.

mod common;

use common::est_server::Ca;
use common::eventually;
use common::registry_server::{Mode, RegistryServer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::config::Config;
use stillgood::registry::{ApproveError, Handle, Looked, Settings, State, Sync};
use stillgood::time::SystemClock;
use stillgood::x509::pem::encode as pem;

const LIMIT: Duration = Duration::from_secs(20);

struct Place {
    dir: tempfile::TempDir,
    server: RegistryServer,
}

impl Place {
    fn new(mutual: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = RegistryServer::start(dir.path(), mutual);
        std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", Ca::new("Test").certificate.der())).unwrap();
        Place { dir, server }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn publish(&self, generation: u64, states: &[&str]) {
        self.server.publish(&document(generation, states));
    }

    /// What `more` says stands in `[registry]`.
    fn settings(&self, more: &str) -> Settings {
        let text = format!(
            "[registry]\nsource = \"{}\"\ntrust = \"web-roots.pem\"\nrefresh = \"1s\"\nmax_age = \"8s\"\nconnect_timeout = \"1s\"\n{more}",
            self.server.url()
        );
        Settings::of(&Config::parse(&text, &self.path().join("x.toml")).unwrap())
    }

    fn start(&self, more: &str) -> (Sync, Handle) {
        let more = if more.contains("timeout = ") { more.to_owned() } else { format!("{more}\ntimeout = \"2s\"") };
        Sync::start(self.settings(&more), &self.path().join("state"), Arc::new(SystemClock)).unwrap()
    }
}

fn document(generation: u64, states: &[&str]) -> String {
    let record = |(n, state): (usize, &&str)| {
        format!(
            r#"{{"id":"ca-{n}","state":"{state}","certificate":"ca.pem","signer":{{"certificate":"s","key":"k"}},"status":{{"crl":"x"}}}}"#
        )
    };
    let list: Vec<_> = states.iter().enumerate().map(record).collect();
    format!("{{\"generation\":{generation},\"issuers\":[{}]}}", list.join(",\n"))
}

fn in_use(handle: &Handle) -> u64 {
    handle.view().current.as_ref().map_or(0, |generation| generation.number)
}

fn held(handle: &Handle) -> u64 {
    handle.view().held.as_ref().map_or(0, |held| held.generation.number)
}

#[test]
fn a_document_is_fetched_once_and_asked_for_conditionally_from_then_on() {
    let place = Place::new(true);
    place.publish(1, &["active"]);
    let (_sync, handle) = place.start("client_certificate = \"web-client.pem\"\nclient_key = \"web-client.key\"");
    eventually(LIMIT, "fetched", || in_use(&handle) == 1);
    let first = handle.view().synced.unwrap();
    eventually(LIMIT, "asked again", || place.server.not_modified() >= 2);
    eventually(LIMIT, "304 refreshes the age", || handle.view().synced.unwrap() > first);
    assert_eq!(place.server.asked(), place.server.not_modified() + 1);
    assert_eq!(place.server.open(), 1, "one connection");
    place.publish(2, &["active", "disabled"]);
    eventually(LIMIT, "changed", || in_use(&handle) == 2);
    assert_eq!((handle.view().fault.clone(), handle.view().looks.taken), (None, 2));
}

#[test]
fn nothing_a_server_does_changes_what_is_in_use_and_each_is_told_apart() {
    let place = Place::new(false);
    place.publish(3, &["active"]);
    let (_sync, handle) = place.start("timeout = \"1500ms\"");
    eventually(LIMIT, "fetched", || in_use(&handle) == 3);
    place.publish(4, &["active", "active"]);
    let table: &[(Mode, &str)] = &[
        (Mode::Status(500), "the server answered 500 Internal Server Error"),
        (Mode::Status(404), "the server answered 404 Not Found"),
        (Mode::Redirect, "redirects are not followed; if it has moved to \"/pki/elsewhere.json\", name that"),
        (Mode::Garbage, "not UTF-8 at octet 0"),
        (Mode::Gzip, "the server sent it as \"gzip\""),
        (Mode::Huge, "the response is larger than 67108864 octets"),
        (Mode::Endless, "localhost:"),
        (Mode::Drip, "out of time while reading the response"),
        (Mode::CutOff, "the connection broke while reading the response"),
        (Mode::Hang, "out of time while waiting for the response"),
        (Mode::Reset, "the connection broke while waiting for the response"),
        (Mode::NotHttp, "not usable HTTP"),
    ];
    for (mode, expected) in table {
        place.server.set(mode.clone());
        // A reload looks at once, whatever the backoff.
        handle.change(place.settings("timeout = \"1500ms\""));
        let fault = || handle.view().fault.clone().unwrap_or_default();
        eventually(LIMIT, expected, || fault().contains(expected));
        assert!(fault().starts_with(&place.server.url()), "{}", fault());
        assert_eq!(in_use(&handle), 3, "{mode:?}");
        eventually(LIMIT, "closed", || place.server.open() <= 1);
    }
    place.server.set(Mode::Ok);
    handle.change(place.settings(""));
    eventually(LIMIT, "well again", || in_use(&handle) == 4 && handle.view().fault.is_none());
}

#[test]
fn a_server_that_was_never_told_what_we_have_cannot_answer_304() {
    let place = Place::new(false);
    place.server.set(Mode::Always304);
    let (_sync, handle) = place.start("");
    eventually(LIMIT, "refused", || handle.view().fault.as_ref().is_some_and(|f| f.contains("answered 304")));
    assert_eq!((in_use(&handle), handle.view().synced), (0, None));
}

#[test]
fn a_server_without_entity_tags_is_read_in_full() {
    let place = Place::new(false);
    place.server.set(Mode::NoEtag);
    place.publish(1, &["active"]);
    let (_sync, handle) = place.start("");
    eventually(LIMIT, "read again", || handle.view().looks.unchanged >= 2);
    assert_eq!((in_use(&handle), place.server.not_modified()), (1, 0));
}

#[test]
fn a_server_of_another_ca_or_one_that_wants_a_certificate_is_told_in_one_line() {
    let place = Place::new(true);
    place.publish(1, &["active"]);
    let (_sync, handle) = place.start("");
    let fault = || handle.view().fault.clone().unwrap_or_default();
    eventually(LIMIT, "wants a certificate", || fault().contains("does not accept our client certificate"));
    let other = Ca::new("Somebody else");
    std::fs::write(place.path().join("web-roots.pem"), pem("CERTIFICATE", other.certificate.der())).unwrap();
    handle.change(place.settings(""));
    eventually(LIMIT, "not trusted", || fault().contains("the certificate of localhost:") && !fault().contains('\n'));
    std::fs::remove_file(place.path().join("web-roots.pem")).unwrap();
    handle.change(place.settings("client_certificate = \"gone.pem\"\nclient_key = \"gone.key\""));
    eventually(LIMIT, "no credential", || {
        fault().contains("our client certificate for the registry cannot be used") && fault().contains("gone.pem")
    });
}

#[test]
fn a_server_that_fails_is_asked_less_and_less_often() {
    let place = Place::new(false);
    place.server.set(Mode::Status(503));
    let (_sync, handle) = place.start("");
    eventually(LIMIT, "four looks", || handle.view().looks.unreadable >= 4);
    let times = place.server.times();
    let gaps: Vec<Duration> = times.windows(2).map(|w| w[1] - w[0]).collect();
    // Twice refresh, at most a quarter of max_age; from half of it on.
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(950)), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= Duration::from_millis(3_500)), "{gaps:?}");
}

#[test]
fn a_look_on_demand_is_answered_by_its_deadline_whatever_the_server_does() {
    let place = Place::new(false);
    place.publish(1, &["active"]);
    let (_sync, handle) = place.start("timeout = \"5s\"");
    eventually(LIMIT, "fetched", || in_use(&handle) == 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let look = |patience: Duration| runtime.block_on(handle.look_now(Instant::now() + patience));

    place.publish(2, &["active", "disabled"]);
    std::thread::sleep(Duration::from_millis(1_100)); // a look that has just been is good enough
    match look(LIMIT) {
        Looked::Read { view, .. } => assert_eq!(view.current.as_ref().map(|g| g.number), Some(2)),
        other => panic!("{other:?}"),
    }
    let asked = place.server.asked();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert!(matches!(handle.look_now_blocking(LIMIT), Looked::Read { .. })));
        }
    });
    assert!(place.server.asked() - asked <= 3, "looks that come together share one");

    place.server.set(Mode::Hang);
    std::thread::sleep(Duration::from_millis(1_100));
    let began = Instant::now();
    match look(Duration::from_millis(300)) {
        Looked::NotRead(why) => assert_eq!(why, "the registry was not read in time"),
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(matches!(handle.look_now_blocking(Duration::from_millis(100)), Looked::NotRead(_)));
    // While the look hangs everything else goes on.
    let approved = runtime.block_on(handle.approve(9, "alice"));
    assert!(matches!(approved, Err(ApproveError::NothingHeld)), "{approved:?}");
    assert_eq!(in_use(&handle), 2);
    place.server.set(Mode::Ok);
    handle.change(place.settings("timeout = \"5s\""));
    eventually(Duration::from_secs(3), "a reload ends a look that hangs", || handle.view().fault.is_none());
    assert!(matches!(look(LIMIT), Looked::Read { .. }));
}

#[test]
fn paths_of_a_document_from_a_server_stay_in_their_directory() {
    let place = Place::new(false);
    let with = |path: &str| document(1, &["active"]).replace("\"ca.pem\"", &format!("{path:?}"));
    for bad in ["/etc/ssl/ca.pem", "../ca.pem", "certs/../../ca.pem"] {
        place.server.publish(&with(bad));
        let state = tempfile::tempdir().unwrap();
        let (_sync, handle) = Sync::start(place.settings(""), state.path(), Arc::new(SystemClock)).unwrap();
        eventually(LIMIT, "read", || in_use(&handle) == 1);
        let generation = handle.view().current.clone().unwrap();
        assert_eq!((generation.issuers.len(), generation.quarantined.len()), (0, 1), "{bad}");
        let why = generation.quarantined[0].faults[0].to_string();
        assert!(why.contains("leads out of") && why.contains("[registry] base"), "{why}");
    }
    std::fs::create_dir(place.path().join("certs")).unwrap();
    std::fs::rename(place.path().join("ca.pem"), place.path().join("certs/ca.pem")).unwrap();
    place.publish(1, &["active"]);
    let (_sync, handle) = place.start("base = \"certs\"");
    eventually(LIMIT, "read", || in_use(&handle) == 1);
    assert_eq!(handle.view().current.as_ref().unwrap().issuers.len(), 1);
}

#[test]
fn what_is_known_survives_a_restart_without_the_server_and_a_move_to_a_file() {
    let place = Place::new(false);
    place.publish(5, &["active", "active"]);
    let synced = {
        let (_sync, handle) = place.start("");
        eventually(LIMIT, "fetched", || in_use(&handle) == 5);
        handle.view().synced.unwrap()
    };
    place.server.set(Mode::Status(500));
    std::thread::sleep(Duration::from_millis(1_100));
    let (_sync, handle) = place.start("");
    assert_eq!((in_use(&handle), handle.view().synced), (5, Some(synced)), "the copy, at once, as old as it is");
    eventually(LIMIT, "told", || handle.view().fault.is_some());
    assert_eq!((in_use(&handle), handle.view().synced), (5, Some(synced)));

    std::fs::write(place.path().join("issuers.json"), document(4, &["active"])).unwrap();
    let file = Config::parse("", &place.path().join("x.toml")).unwrap();
    handle.change(Settings::of(&file));
    let fault = || handle.view().fault.clone().unwrap_or_default();
    eventually(LIMIT, "the file is older", || fault().contains("generation 4 is older than 5"));
    assert_eq!(in_use(&handle), 5);
    std::fs::write(place.path().join("issuers.json"), document(6, &["active"])).unwrap();
    eventually(LIMIT, "the file", || in_use(&handle) == 6 && handle.view().fault.is_none());
}

#[test]
fn a_mass_change_is_held_stops_renewal_at_once_and_is_approved_once() {
    let place = Place::new(false);
    let mut states = vec!["active"; 20];
    place.publish(1, &states);
    let guard = "max_change = 0.2\nsmall_change = 3";
    let (sync, handle) = place.start(guard);
    eventually(LIMIT, "fetched", || in_use(&handle) == 1);
    states[..4].fill("disabled");
    place.publish(2, &states);
    eventually(LIMIT, "4 of 20 pass", || in_use(&handle) == 2);
    states[4..14].fill("disabled");
    place.publish(3, &states);
    eventually(LIMIT, "held", || held(&handle) == 3);
    let active = |view: &stillgood::registry::View| {
        let count = |g: &stillgood::registry::Generation| {
            g.issuers.iter().filter(|i| i.state == State::Active && i.stopped.is_none()).count()
        };
        (count(view.current.as_ref().unwrap()), count(view.renewable.as_ref().unwrap()))
    };
    assert_eq!(active(&handle.view()), (16, 6), "what is held stops renewal, and nothing else");
    let synced = handle.view().synced;
    eventually(LIMIT, "read on", || handle.view().synced > synced);
    assert_eq!((in_use(&handle), held(&handle), handle.view().looks.held), (2, 3, 1), "once");

    drop((sync, handle));
    place.server.set(Mode::Status(500));
    let (sync, handle) = place.start(guard);
    assert_eq!((in_use(&handle), held(&handle), active(&handle.view())), (2, 3, (16, 6)), "a restart, no server");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(matches!(runtime.block_on(handle.approve(2, "eve")), Err(ApproveError::Another(3))));
    runtime.block_on(handle.approve(3, "alice")).unwrap();
    assert_eq!((in_use(&handle), held(&handle), active(&handle.view())), (3, 0, (6, 6)));
    drop((sync, handle));
    place.server.set(Mode::Ok);
    let (_sync, handle) = place.start(guard);
    eventually(LIMIT, "read", || handle.view().looks.unchanged > 0);
    assert_eq!((in_use(&handle), held(&handle)), (3, 0), "nobody asks again");
}
