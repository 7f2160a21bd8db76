//! Each signing is recorded for whoever must keep a record (CA/B BR §5.4.1).

mod common;

use common::site::{LIMIT, Said, site};
use common::{eventually, long_serial};
use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};
use stillgood::ocsp::{HashAlgorithm, Profile};
use stillgood::presign::{DemandSettings, IssuerSettings};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What all tests of this file log.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("info,audit=debug"));
    subscriber.with_ansi(false).with_writer(move || writer.clone()).init();
    log
});

/// The lines of this level about signings.
fn lines(level: &str) -> Vec<String> {
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let wanted = format!(" {level} audit: signed");
    text.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
}

#[test]
fn under_cabf_each_signing_is_recorded_by_default() {
    assert_eq!(lines("INFO"), [""; 0]);
    let settings = IssuerSettings { profile: Profile::Cabf, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || {
        site.said(HashAlgorithm::Sha1, 5) == Said::Good && site.responder.presign_stats().missing == 0
    });
    site.ask(HashAlgorithm::Sha256, &[long_serial(6)], None);
    let count = |what: &str| lines("INFO").iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("signed: slice"), site.responder.presign_stats().slices);
    assert_eq!(count("on demand") as u64, site.responder.demand_stats().signed);
    assert!(count("on demand") > 0);
}

#[test]
fn each_signing_is_recorded() {
    let lines = || lines("DEBUG");
    let _ = lines();
    let settings = IssuerSettings { answers_nonces: true, ..IssuerSettings::default() };
    let site = site(&["index"], settings, DemandSettings::default());
    eventually(LIMIT, "served", || {
        site.said(HashAlgorithm::Sha1, 5) == Said::Good && site.responder.presign_stats().missing == 0
    });
    let slices = lines().iter().filter(|line| line.contains("signed: slice")).count();
    assert_eq!(slices, site.responder.presign_stats().slices);
    assert!(lines()[0].contains("issuer=\"ca\""), "{:?}", lines());

    site.ask(HashAlgorithm::Sha1, &[long_serial(5)], Some(&[1; 32]));
    site.ask(HashAlgorithm::Sha256, &[long_serial(6), long_serial(7)], None);
    let on_demand: Vec<_> = lines().into_iter().filter(|line| line.contains("on demand")).collect();
    assert!(on_demand.iter().any(|l| l.contains("with a nonce") && l.contains("certificates=1")), "{on_demand:?}");
    let two = on_demand.iter().find(|l| l.contains("certificates=2")).expect("two certificates");
    for field in ["hash=\"sha256\"", "responder=", "algorithm=\"ecdsa-p256-sha256\"", "this_update=", "next_update="] {
        assert!(two.contains(field), "{field} in {two}");
    }
}
