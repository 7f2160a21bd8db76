//! Clients that mean harm, against the program itself on loopback: memory stays bounded, and honest clients get the right
//! answers all the while. Everything here is bounded in number and time.
//!
//! ```sh
//! cargo test --test abuse -- --nocapture        # prints a line of figures for each attack
//! ```
//!
//! `STILLGOOD_UNDER_TEST=path` takes another binary, such as one of `cargo build --release`, which is what the figures of
//! docs/PERFORMANCE.md come from.

mod common;

use common::serving::{Serving, asking, port, prepare, start, write_config};
use common::site::{Said, read, write_crl};
use common::{DAY, Lab, eventually, request, serial};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use stillgood::ocsp::{HashAlgorithm, Serial};

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_secs(4);
/// Places for connections; attackers want more.
const PLACES: usize = 600;
const CROWD: usize = 1_000;
/// What an attack may add to resident memory: about 10 kB for each place, the queue and cache on demand, and some air.
const MOST: u64 = 48 << 20;
/// The slowest answer to an honest client, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: each wants the machine for itself.
static TURN: Mutex<()> = Mutex::new(());

struct Target {
    serving: Serving,
    lab: Lab,
    crl_lab: Lab,
    _dir: tempfile::TempDir,
}

/// A service with an issuer whose certificates are signed ahead and one that signs everything on demand and answers nonces.
fn target() -> Target {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 500);
    let second = dir.path().join("crl");
    std::fs::create_dir(&second).unwrap();
    let crl_lab = prepare(&second, 1);
    write_crl(&second, &crl_lab, &[9], DAY);
    let registry = r#"{ "generation": 1, "issuers": [
        { "id": "ca", "state": "active", "certificate": "ca.pem", "signer": { "certificate": "ocsp.pem", "key": "ocsp.key" },
          "status": { "index": "index.txt" } },
        { "id": "crl", "state": "active", "certificate": "crl/ca.pem",
          "signer": { "certificate": "crl/ocsp.pem", "key": "crl/ocsp.key" }, "status": { "crl": "crl/ca.crl" },
          "response": { "nonce": "answer" } } ] }"#;
    std::fs::write(dir.path().join("issuers.json"), registry).unwrap();
    let admin = port();
    let more = format!(
        "workers = 2\nmax_connections = {PLACES}\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"2s\"\n\
         write_timeout = \"1s\"\n[on_demand]\nrate = \"200/s\"\nqueue = 64\ncache = \"1MiB\"\n"
    );
    write_config(dir.path(), admin, &more);
    let serving = start(dir.path(), admin, |_| {});
    eventually(Duration::from_secs(30), "ready", || serving.readyz().contains("200 OK"));
    Target { serving, lab, crl_lab, _dir: dir }
}

/// What honest clients saw, and what memory did.
#[derive(Default)]
struct Figures {
    asked: AtomicU64,
    faults: Mutex<Vec<String>>,
    slowest_micros: AtomicU64,
    peak: AtomicU64,
}

impl Target {
    /// Lets `attack` run in `threads` threads, each told when it is over, while honest clients ask.
    fn under(&self, name: &str, threads: usize, attack: impl Fn(usize, &AtomicBool) -> u64 + Sync) -> Page {
        let (figures, over) = (Figures::default(), AtomicBool::new(false));
        let before = self.resident();
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (figures, over, done, attack) = (&figures, &over, &done, &attack);
            for thread in 0..threads {
                scope.spawn(move || done.fetch_add(attack(thread, over), Relaxed));
            }
            for honest in 0..2 {
                scope.spawn(move || self.honest(honest, figures, over));
            }
            let began = Instant::now();
            while began.elapsed() < ATTACK {
                figures.peak.fetch_max(self.resident(), Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            over.store(true, Relaxed);
        });
        let (asked, peak) = (figures.asked.load(Relaxed), figures.peak.load(Relaxed));
        let slowest = Duration::from_micros(figures.slowest_micros.load(Relaxed));
        let faults = figures.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        println!(
            "| {name} | {} | {asked} | {} | {:.1} | {:.1} → {:.1} |",
            done.load(Relaxed),
            faults.len(),
            slowest.as_secs_f64() * 1e3,
            mib(before),
            mib(peak)
        );
        assert_eq!(faults, Vec::<String>::new(), "{name}: honest clients");
        assert!(asked > 2, "{name}: only {asked} honest requests in {ATTACK:?}");
        assert!(slowest < PATIENCE, "{name}: the slowest took {slowest:?}");
        assert!(peak < before + MOST, "{name}: {before} octets grew to {peak}");
        assert!(self.serving.readyz().contains("200 OK"), "{name}: still ready");
        Page(self.serving.admin("/metrics"))
    }

    /// Asks for what lies ready, over a connection of its own each time and sometimes over one that is kept.
    fn honest(&self, client: u64, figures: &Figures, over: &AtomicBool) {
        let mut kept: Option<TcpStream> = None;
        for n in 0.. {
            if over.load(Relaxed) {
                return;
            }
            let certificate = (n * 7 + client) % 500;
            let expected = if certificate == 3 { Said::Revoked } else { Said::Good };
            let body = asking(&self.lab, certificate);
            let began = Instant::now();
            let said = match kept.take().filter(|_| n % 4 != 0) {
                // A connection that was kept may have had to make room for another; a client then opens a new one.
                Some(mut stream) => ask(&mut stream, &body).map(|said| (said, stream)).or_else(|_| fresh(self, &body)),
                None => fresh(self, &body),
            };
            figures.slowest_micros.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
            figures.asked.fetch_add(1, Relaxed);
            match said {
                Ok((said, stream)) if said == expected => kept = Some(stream),
                Ok((said, _)) => figures.fault(format!("certificate {certificate}: {said:?}")),
                Err(error) => figures.fault(format!("certificate {certificate}: {error}")),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn endpoint(&self) -> SocketAddr {
        self.serving.endpoint
    }

    /// Resident octets of the process.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serving.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Figures {
    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < 20 {
            faults.push(what);
        }
    }
}

fn fresh(target: &Target, body: &[u8]) -> std::io::Result<(Said, TcpStream)> {
    let mut stream = connect(target.endpoint())?;
    Ok((ask(&mut stream, body)?, stream))
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Asks on a connection that stays open, and reads the one answer.
fn ask(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<Said> {
    stream.write_all(&post(body))?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = answer.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let len = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
            let len: usize = len.ok_or_else(|| std::io::Error::new(ErrorKind::InvalidData, text))?;
            if answer.len() >= head + len {
                return Ok(read(&answer[head..]).remove(0));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
}

/// The page of metrics, after an attack.
struct Page(String);

impl Page {
    fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in {}", self.0)).parse().unwrap()
    }

    fn event(&self, event: &str) -> f64 {
        self.value(&format!("stillgood_connection_events_total{{event=\"{event}\"}}"))
    }
}

/// Numbers without a pattern, the same in every run.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn any_serial(seed: &mut u64) -> Serial {
    serial(random(seed) >> 1)
}

/// Lets this process have as many files open as the crowd needs.
fn room() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(8_192);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    room();
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a crowd of connections open, opens again what is closed, and lets `poke` do something to each in turn.
fn crowd(to: SocketAddr, size: usize, over: &AtomicBool, poke: impl Fn(&mut TcpStream) -> std::io::Result<()>) -> u64 {
    let mut opened = 0;
    let mut connections: Vec<TcpStream> = Vec::new();
    while !over.load(Relaxed) {
        connections.retain_mut(|stream| poke(stream).is_ok());
        for _ in 0..50.min(size - connections.len().min(size)) {
            let Ok(stream) = connect(to) else { break };
            opened += 1;
            connections.push(stream);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    opened
}

#[test]
fn slow_heads_take_no_place_from_honest_clients() {
    let (_turn, target) = (turn(), target());
    let page = target.under("slowloris: a head, one octet at a time", 2, |_, over| {
        crowd(target.endpoint(), CROWD / 2, over, |stream| stream.write_all(b"G"))
    });
    assert!(page.event("readTimeout") + page.event("evicted") + page.event("httpError") > 100.0, "{}", page.0);
    assert!(page.value("stillgood_connections") <= PLACES as f64);
}

#[test]
fn silent_connections_make_room() {
    let (_turn, target) = (turn(), target());
    let page = target.under("idle flood: connections that say nothing", 2, |_, over| {
        crowd(target.endpoint(), CROWD / 2, over, |_| Ok(()))
    });
    assert!(page.event("evicted") > 100.0, "{}", page.0);
    assert!(page.value("stillgood_connections") <= PLACES as f64);
}

/// Sends as much of `batch` again and again as is taken, without waiting.
fn stuff(stream: &mut TcpStream, batch: &[u8]) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    match stream.write(batch) {
        // Where only a piece was taken the next does not go on behind it: such a client is told off, and comes again.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[test]
fn answers_that_nobody_reads_are_not_kept() {
    let (_turn, target) = (turn(), target());
    let batch = post(&asking(&target.lab, 5)).repeat(200);
    let page = target.under("pipelining, answers not read", 2, |_, over| {
        crowd(target.endpoint(), 5, over, |stream| {
            let _ = socket2::SockRef::from(&*stream).set_recv_buffer_size(4_096);
            stuff(stream, &batch)
        })
    });
    assert!(page.event("writeTimeout") > 0.0, "{}", page.0);
}

#[test]
fn a_client_that_pipelines_without_end_has_its_turn_and_no_more() {
    let (_turn, target) = (turn(), target());
    let batch = post(&asking(&target.lab, 5)).repeat(200);
    let page = target.under("pipelining, answers read", 2, |_, over| {
        let mut answers = vec![0; 1 << 20];
        let answers = Mutex::new(&mut answers);
        crowd(target.endpoint(), 10, over, |stream| {
            stuff(stream, &batch)?;
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            match stream.read(&mut answers) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            }
        })
    });
    assert!(page.value("stillgood_request_seconds_count") > 5_000.0);
}

#[test]
fn heads_and_bodies_without_end_are_cut() {
    let (_turn, target) = (turn(), target());
    let filler = vec![b'a'; 64 * 1024];
    let starts: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n",
    ];
    let cut = AtomicUsize::new(0);
    target.under("heads and bodies of a gigabyte", 4, |thread, over| {
        let mut sent = 0;
        while !over.load(Relaxed) {
            let Ok(mut stream) = connect(target.endpoint()) else { continue };
            let mut octets = 0;
            let mut going = stream.write_all(starts[thread]).is_ok();
            while going && octets < 64 << 20 && !over.load(Relaxed) {
                going = stream.write_all(&filler).is_ok();
                octets += filler.len();
            }
            cut.fetch_add(usize::from(!going), Relaxed);
            sent += octets as u64 >> 10;
        }
        sent
    });
    assert!(cut.load(Relaxed) > 4, "connections that sent too much were closed: {}", cut.load(Relaxed));
}

#[test]
fn random_serials_are_shed_and_the_cache_keeps_its_size() {
    let (_turn, target) = (turn(), target());
    let hashes = [target.crl_lab.hashes(HashAlgorithm::Sha1), target.lab.hashes(HashAlgorithm::Sha1)];
    let page = target.under("random serials", 4, |thread, over| {
        flood(target.endpoint(), over, thread as u64, |seed| request(&hashes[thread % 2], &[any_serial(seed)], None))
    });
    assert!(page.value("stillgood_on_demand_shed_total") > 0.0, "{}", page.0);
    assert!(page.value("stillgood_on_demand_cache_bytes") <= f64::from(1 << 20));
    assert!(page.value("stillgood_on_demand_waiting") <= 64.0);
}

#[test]
fn nonces_take_their_share_of_signing_and_no_more() {
    let (_turn, target) = (turn(), target());
    let hashes = target.crl_lab.hashes(HashAlgorithm::Sha1);
    let page = target.under("nonces", 4, |thread, over| {
        flood(target.endpoint(), over, 77 + thread as u64, |seed| {
            request(&hashes, &[serial(5)], Some(&random(seed).to_be_bytes().repeat(4)))
        })
    });
    let signed = page.value("stillgood_on_demand_signed_total");
    assert!(signed > 10.0, "{signed}");
    // Half of 200 a second for nonces, over the attack, its beginning and its end; one answer for each kept certificate.
    assert!(signed < 100.0 * (ATTACK.as_secs_f64() + 4.0) + 10.0, "{signed}");
}

/// Asks for one thing after the other over kept connections, and reads the answers.
fn flood(to: SocketAddr, over: &AtomicBool, seed: u64, next: impl Fn(&mut u64) -> Vec<u8>) -> u64 {
    let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut asked = 0;
    while !over.load(Relaxed) {
        let Ok(mut stream) = connect(to) else { continue };
        while !over.load(Relaxed) && ask(&mut stream, &next(&mut seed)).is_ok() {
            asked += 1;
        }
    }
    asked
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    /// The system has some 28 000 ports for one destination.
    const MOST_CONNECTIONS: u64 = 5_000;
    let (_turn, target) = (turn(), target());
    let page = target.under("connection churn", 4, |thread, over| {
        let mut opened = 0;
        while !over.load(Relaxed) && opened < MOST_CONNECTIONS {
            let Ok(mut stream) = connect(target.endpoint()) else { continue };
            opened += 1;
            match thread {
                // Reset with a request half sent, closed in silence, closed behind a request, all answers unread.
                0 => {
                    let _ = stream.write_all(b"POST / HTTP/1.1\r\nContent-Le");
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                1 => {}
                2 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
                _ => drop(stream.write_all(&post(&asking(&target.lab, 5)))),
            }
        }
        opened
    });
    assert!(page.event("opened") > 1_000.0);
    eventually(Duration::from_secs(10), "all gone", || {
        Page(target.serving.admin("/metrics")).value("stillgood_connections") <= 4.0
    });
    let mut text = String::new();
    for event in ["panicked", "withheld"] {
        write!(text, "{event} {} ", page.event(event)).unwrap();
    }
    assert_eq!(text, "panicked 0 withheld 0 ");
}
