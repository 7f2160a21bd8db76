use super::*;
use crate::ocsp::{CertStatus, HashAlgorithm, Serial};
use crate::presign::IssuerSettings;
use crate::signer::KeyKind;
use crate::status::Source;
use crate::store::Lookup;
use crate::x509::issue::{Attribute, CertificateSpec, name};
use std::sync::atomic::AtomicBool;

const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(60);

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[n]).unwrap()
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let began = monotonic();
    while !is() {
        assert!(began.elapsed() < LIMIT, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A CA that signs its answers itself, with an index in a directory.
struct Ca {
    dir: tempfile::TempDir,
    key: SigningKey,
    certificate: Certificate,
}

impl Ca {
    fn new(cn: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let certificate = Self::certified(cn, &key, 10);
        std::fs::write(dir.path().join("ca.der"), certificate.der()).unwrap();
        std::fs::write(dir.path().join("ca.key"), pkcs8.as_slice()).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(dir.path().join("ca.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let ca = Ca { dir, key, certificate };
        ca.index("index.txt", &["V\t1\t\t01", "V\t1\t\t02"]);
        ca
    }

    fn certified(cn: &str, key: &SigningKey, days_ago: u32) -> Certificate {
        let now = SystemClock.now();
        let subject = name(&[(Attribute::CommonName, cn)]);
        CertificateSpec::ca(subject, key.spki_der(), serial(1), now.minus(days_ago * DAY), now.plus(90 * DAY))
            .issue(key)
            .unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn index(&self, file: &str, lines: &[&str]) {
        let text: String = lines.iter().map(|line| format!("{line}\tunknown\t/CN=x\n")).collect();
        std::fs::write(self.path("aside"), text).unwrap();
        std::fs::rename(self.path("aside"), self.path(file)).unwrap();
    }

    fn spec(&self, id: &str, index: &str) -> IssuerSpec {
        IssuerSpec::new(id, self.certificate.clone())
            .with_signer(self.path("ca.der"), self.path("ca.key"))
            .with_index(self.path(index))
    }

    fn ask(&self, responder: &Responder, n: u8) -> (Lookup, Vec<u8>) {
        let hashes = self.certificate.issuer_hashes(HashAlgorithm::Sha1);
        let der = crate::client::request(&hashes, &serial(n), None);
        let request = crate::ocsp::Request::parse(&der).unwrap();
        let mut out = Vec::new();
        (responder.store().answer(&request, SystemClock.now(), &mut out), out)
    }

    /// Whether the answer about a certificate is ready, and which.
    fn said(&self, responder: &Responder, n: u8) -> Option<CertStatus> {
        match self.ask(responder, n).0 {
            Lookup::Ready { status, .. } => Some(status),
            Lookup::NotHere | Lookup::OnDemand => None,
        }
    }

    fn answer(&self, responder: &Responder, n: u8) -> Option<Vec<u8>> {
        let (lookup, out) = self.ask(responder, n);
        matches!(lookup, Lookup::Ready { .. }).then_some(out)
    }

    fn is_revoked(&self, responder: &Responder, n: u8) -> bool {
        matches!(self.said(responder, n), Some(CertStatus::Revoked { .. }))
    }
}

/// A responder for which reading a file named `hung` does not end before it is told to.
fn hanging(pace: Pace) -> (Responder, Arc<AtomicBool>) {
    let released = Arc::new(AtomicBool::new(false));
    let until = released.clone();
    let load = move |issuer: &Certificate, sources: &[Source], now: Timestamp, judge: &status::Judge<'_>| {
        let hangs = |source: &Source| source.path().file_name() == Some("hung".as_ref());
        while sources.iter().any(hangs) && !until.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        status::load_usable(issuer, sources, now, judge)
    };
    (Responder::start_with(ResponderSettings::default(), Box::new(load), pace), released)
}

fn quick() -> Pace {
    let ms = Duration::from_millis;
    Pace { patience: ms(300), impatience: ms(100), late: ms(600) }
}

fn fault(responder: &Responder, id: &str) -> Option<String> {
    responder.reports().iter().find(|report| report.id == id).and_then(|report| report.status_fault.clone())
}

#[test]
fn a_source_that_hangs_is_named_and_keeps_nobody_else_waiting() {
    let (stuck, well) = (Ca::new("Stuck"), Ca::new("Well"));
    stuck.index("hung", &["V\t1\t\t01"]);
    let (responder, released) = hanging(quick());
    responder.set_issuers(vec![stuck.spec("stuck", "hung"), well.spec("well", "index.txt")]);
    eventually("the other is served", || well.said(&responder, 1).is_some());
    eventually("the fault is told", || fault(&responder, "stuck").is_some_and(|f| f.contains("has not ended")));
    eventually("it is not the other's", || fault(&responder, "well").is_none());
    well.index("index.txt", &["R\t1\t260101000000Z\t01", "V\t1\t\t02"]);
    eventually("the other's revocation is served", || well.is_revoked(&responder, 1));
    assert!(responder.last_pass().is_some());

    // Whoever takes over the registry is not kept waiting either, and what it brings is used.
    let third = Ca::new("Third");
    let began = monotonic();
    let specs = vec![stuck.spec("stuck", "hung"), third.spec("third", "index.txt"), well.spec("well", "index.txt")];
    responder.adopt_issuers(specs.clone());
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    eventually("the new one is served", || third.said(&responder, 1).is_some());
    assert_eq!(stuck.said(&responder, 1), None);

    released.store(true, Ordering::SeqCst);
    eventually("served after all", || stuck.said(&responder, 1).is_some());
    eventually("the fault has gone", || fault(&responder, "stuck").is_none());
}

#[test]
fn a_signer_is_taken_into_use_although_a_source_hangs() {
    let ca = Ca::new("Half");
    ca.index("hung", &["V\t1\t\t01"]);
    let (responder, released) = hanging(quick());
    let unsigned = IssuerSpec { signer: None, ..ca.spec("half", "hung") };
    let signer = || responder.reports()[0].signer.as_ref().map(|signer| signer.serial.clone());
    let of_signer = || responder.reports()[0].signer_fault.clone();
    let nowhere = unsigned.with_signer(ca.path("signer.der"), ca.path("ca.key"));
    responder.set_issuers(vec![nowhere]);
    eventually("the source hangs", || fault(&responder, "half").is_some());
    assert!(signer().is_none() && of_signer().is_some());
    std::fs::copy(ca.path("ca.der"), ca.path("signer.der")).unwrap();
    eventually("the signer is there", || signer().is_some() && of_signer().is_none());
    assert!(fault(&responder, "half").is_some_and(|fault| fault.contains("has not ended")), "the source hangs on");
    released.store(true, Ordering::SeqCst);
    eventually("served", || ca.said(&responder, 1).is_some());
}

#[test]
fn another_source_is_read_although_the_one_before_it_hangs_and_what_that_brings_late_is_not_used() {
    let ca = Ca::new("Moved");
    ca.index("hung", &["V\t1\t\t01"]);
    let (responder, released) = hanging(quick());
    responder.set_issuers(vec![ca.spec("moved", "hung")]);
    eventually("the fault is told", || fault(&responder, "moved").is_some());
    ca.index("index.txt", &["R\t1\t260101000000Z\t01", "V\t1\t\t02"]);
    responder.set_issuers(vec![ca.spec("moved", "index.txt")]);
    eventually("the other file's word", || ca.is_revoked(&responder, 1));
    eventually("the fault has gone", || fault(&responder, "moved").is_none());
    released.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(50));
        assert!(ca.is_revoked(&responder, 1) && ca.said(&responder, 2).is_some());
    }
}

#[test]
fn however_often_the_settings_change_one_reader_at_most_is_held_up_by_the_files_of_an_issuer() {
    let ca = Ca::new("Changed");
    ca.index("hung", &["V\t1\t\t01"]);
    let (responder, released) = hanging(quick());
    responder.set_issuers(vec![ca.spec("changed", "hung")]);
    let at_work = || Arc::strong_count(&responder.running.inner.reader.at_work) - 1;
    eventually("the fault is told", || fault(&responder, "changed").is_some() && at_work() == 1);
    let settings =
        |hours: u64| IssuerSettings { validity: Duration::from_secs(hours * 3600), ..IssuerSettings::default() };
    for hours in [72, 60, 48] {
        responder.set_issuers(vec![ca.spec("changed", "hung").with_settings(settings(hours))]);
        thread::sleep(quick().patience * 2);
        eventually("no other reader stays", || at_work() == 1);
        assert!(fault(&responder, "changed").is_some_and(|fault| fault.contains("has not ended")), "it is told on");
    }
    released.store(true, Ordering::SeqCst);
    eventually("read under the last spec", || ca.said(&responder, 1).is_some());
    eventually("the fault has gone", || fault(&responder, "changed").is_none());
    assert_eq!(responder.reports()[0].validity_secs, 48 * 3600);
}

#[test]
fn a_responder_stops_although_a_source_hangs() {
    let ca = Ca::new("Stop");
    ca.index("hung", &["V\t1\t\t01"]);
    let (responder, released) = hanging(Pace { patience: LIMIT * 10, ..quick() });
    responder.adopt_issuers(vec![ca.spec("stop", "hung")]);
    let reader = Arc::downgrade(&responder.running.inner.reader);
    let at_work = || reader.upgrade().map_or(0, |reader| Arc::strong_count(&reader.at_work));
    eventually("a reader is at work", || at_work() > 1);
    let began = monotonic();
    drop(responder);
    assert!(began.elapsed() < LIMIT / 2, "took {:?}", began.elapsed());
    released.store(true, Ordering::SeqCst);
    eventually("the reader has ended", || at_work() == 0);
}

#[test]
fn a_renewed_ca_certificate_is_taken_into_use() {
    let ca = Ca::new("Renewed");
    let responder = Responder::start(ResponderSettings::default());
    let settings = IssuerSettings { archive_cutoff: true, ..IssuerSettings::default() };
    let spec = ca.spec("renewed", "index.txt").with_settings(settings);
    responder.set_issuers(vec![spec.clone()]);
    let cutoff = |certificate: &Certificate| crate::time::format_generalized(certificate.not_before()).to_vec();
    let answered_with = |certificate: &Certificate| {
        let answer = ca.answer(&responder, 1);
        answer.is_some_and(|der| der.windows(15).any(|w| w == cutoff(certificate)))
    };
    eventually("served", || answered_with(&ca.certificate));

    let renewed = Ca::certified("Renewed", &ca.key, 3);
    assert_eq!(renewed.spki_der(), ca.certificate.spki_der());
    responder.set_issuers(vec![IssuerSpec { certificate: renewed.clone(), ..spec.clone() }]);
    eventually("archiveCutoff follows", || answered_with(&renewed));
    let inner = &responder.running.inner;
    assert_eq!(*inner.issuers()[0].issuer().certificate(), renewed);
    assert_eq!(responder.reports()[0].signer_fault, None);
}

#[test]
fn by_a_clock_that_was_set_back_what_is_held_is_served_on_and_the_fault_is_told() {
    use crate::time::ManualClock;
    use std::io::{Read, Write};
    let ca = Ca::new("Back");
    let start = SystemClock.now();
    let clock = Arc::new(ManualClock::at(start));
    let responder = Responder::start(ResponderSettings { clock: clock.clone(), ..ResponderSettings::default() });
    let _ = responder.running.inner.clock.clone().settled();
    responder.set_issuers(vec![ca.spec("ca", "index.txt")]);
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let settings = endpoint::Settings { listen, workers: 1, ..endpoint::Settings::default() };
    let handle = endpoint::Server::start(&responder.service(), settings).unwrap();
    let ask = |n| {
        let der = crate::client::request(&ca.certificate.issuer_hashes(HashAlgorithm::Sha1), &serial(n), None);
        let mut stream = std::net::TcpStream::connect(handle.addresses()[0]).unwrap();
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", der.len());
        stream.write_all(&[head.as_bytes(), &der].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        answer.split_off(body)
    };
    eventually("signed", || ask(1).len() > 100);
    eventually("all is signed", || responder.presign_stats().missing == 0 && responder.presign_stats().backlog == 0);
    let before = ask(1);
    let fault = || {
        responder.poll();
        responder.reports()[0].signing_fault.clone()
    };
    assert_eq!(fault(), None);
    clock.set(start.minus(10 * DAY));
    assert!(fault().is_some_and(|fault| fault.contains("the clock was set back from")));
    assert_eq!(ask(1), before);
    clock.set(start.plus(Duration::from_secs(5)));
    assert_eq!((ask(1), fault()), (before, None));
}
