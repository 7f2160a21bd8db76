//! A program under attack: what its honest clients see, what its gauges and its memory do, and the clients that attack it.

use super::common::serving::{Serving, asking, port, prepare, start, write_config};
use super::common::site::{Said, read, write_crl};
use super::common::{DAY, Lab, eventually, serial};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use stillgood::ocsp::Serial;

/// How long each attack goes on.
pub const ATTACK: Duration = Duration::from_secs(4);
/// Places for connections; attackers want more.
pub const PLACES: usize = 600;
pub const CROWD: usize = 1_500;
/// Places where all of them are taken by clients that do not read, and what these cost the kernel.
pub const FEW_PLACES: usize = 100;
/// How far a worker's connections may be above the places for a moment: what it accepts at one turn of its event loop,
/// before those that make room have left.
pub const TURNOVER: usize = 2 * 128;
/// What an attack may add to resident memory: 70 KiB for each place, the queue and cache on demand, and some air.
pub const MOST: u64 = 48 << 20;
/// The slowest answer to an honest client, of an unoptimised build on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Of an optimised one: Apple's clients give up after three seconds.
pub const OPTIMISED_PATIENCE: Duration = Duration::from_secs(3);
/// How long honest clients are watched before an attack.
pub const CALM: Duration = Duration::from_secs(1);
/// What is left to honest clients, of the requests that they make in calm times: one in so many.
pub const SHARE: u64 = 300;
/// The same of an optimised build.
pub const OPTIMISED_SHARE: u64 = 30;
/// What is looked at again and again during an attack.
pub const GAUGES: [&str; 3] =
    ["stillgood_connections", "stillgood_on_demand_cache_bytes", "stillgood_on_demand_waiting"];

/// One at a time: each wants the machine for itself.
static TURN: Mutex<()> = Mutex::new(());

pub struct Target {
    pub serving: Serving,
    pub lab: Lab,
    pub crl_lab: Lab,
    _dir: tempfile::TempDir,
}

/// A service with an issuer whose certificates are signed ahead and one that signs everything on demand and answers nonces.
pub fn target() -> Target {
    target_with(PLACES, "1s")
}

pub fn target_with(places: usize, write_timeout: &str) -> Target {
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
        "workers = 2\nmax_connections = {places}\nheader_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"2s\"\n\
         write_timeout = \"{write_timeout}\"\n[on_demand]\nrate = \"200/s\"\nqueue = 64\ncache = \"1MiB\"\n"
    );
    write_config(dir.path(), admin, &more);
    let serving = start(dir.path(), admin, |_| {});
    eventually(Duration::from_secs(30), "ready", || serving.readyz().contains("200 OK"));
    Target { serving, lab, crl_lab, _dir: dir }
}

/// What honest clients saw, and what memory did.
#[derive(Default)]
pub struct Figures {
    asked: AtomicU64,
    faults: Mutex<Vec<String>>,
    slowest_micros: AtomicU64,
    peak: AtomicU64,
}

pub fn is_optimised() -> bool {
    std::env::var_os("STILLGOOD_UNDER_TEST").is_some()
}

impl Target {
    /// Lets `attack` run in `threads` threads, each told when it is over, while honest clients ask.
    pub fn under(&self, name: &str, threads: usize, attack: impl Fn(usize, &AtomicBool) -> u64 + Sync) -> Page {
        let calm = self.calm();
        let (figures, over) = (Figures::default(), AtomicBool::new(false));
        let before = self.resident();
        let done = AtomicU64::new(0);
        let mut highest = BTreeMap::new();
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
                for _ in 0..10 {
                    figures.peak.fetch_max(self.resident(), Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
                let page = self.page();
                for gauge in GAUGES {
                    let value = page.value(gauge);
                    highest.entry(gauge).and_modify(|highest: &mut f64| *highest = highest.max(value)).or_insert(value);
                }
            }
            over.store(true, Relaxed);
        });
        let (asked, peak) = (figures.asked.load(Relaxed), figures.peak.load(Relaxed));
        let slowest = Duration::from_micros(figures.slowest_micros.load(Relaxed));
        let faults = figures.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        println!(
            "| {name} | {} | {calm} | {asked} | {} | {:.1} | {:.1} → {:.1} |",
            done.load(Relaxed),
            faults.len(),
            slowest.as_secs_f64() * 1e3,
            mib(before),
            mib(peak)
        );
        assert_eq!(faults, Vec::<String>::new(), "{name}: honest clients");
        let (share, patience) = if is_optimised() { (OPTIMISED_SHARE, OPTIMISED_PATIENCE) } else { (SHARE, PATIENCE) };
        assert!(asked >= calm / share, "{name}: only {asked} honest requests in {ATTACK:?}, {calm} in calm times");
        assert!(slowest < patience, "{name}: the slowest took {slowest:?}");
        assert!(peak < before + MOST, "{name}: {before} octets grew to {peak}");
        assert!(self.serving.readyz().contains("200 OK"), "{name}: still ready");
        Page { highest, ..self.page() }
    }

    pub fn page(&self) -> Page {
        Page { text: self.serving.admin("/metrics"), highest: BTreeMap::new() }
    }

    /// Requests that honest clients make in the time of an attack, when there is none.
    pub fn calm(&self) -> u64 {
        let (figures, over) = (Figures::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for honest in 0..2 {
                let (figures, over) = (&figures, &over);
                scope.spawn(move || self.honest(honest, figures, over));
            }
            std::thread::sleep(CALM);
            over.store(true, Relaxed);
        });
        figures.asked.into_inner() * ATTACK.as_secs() / CALM.as_secs()
    }

    /// Asks for what lies ready, over a connection of its own each time and sometimes over one that is kept.
    pub fn honest(&self, client: u64, figures: &Figures, over: &AtomicBool) {
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

    pub fn endpoint(&self) -> SocketAddr {
        self.serving.endpoint
    }

    /// Resident octets of the process.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.serving.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Figures {
    pub fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < 20 {
            faults.push(what);
        }
    }
}

pub fn fresh(target: &Target, body: &[u8]) -> std::io::Result<(Said, TcpStream)> {
    let mut stream = connect(target.endpoint())?;
    Ok((ask(&mut stream, body)?, stream))
}

pub fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Asks on a connection that stays open, and reads the one answer.
pub fn ask(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<Said> {
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

/// The page of metrics, after an attack, and how high the gauges were during it.
pub struct Page {
    pub text: String,
    pub highest: BTreeMap<&'static str, f64>,
}

impl Page {
    pub fn value(&self, series: &str) -> f64 {
        let line = self.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in {}", self.text)).parse().unwrap()
    }

    /// The most that was seen of a gauge while the attackers were there.
    pub fn highest(&self, gauge: &str) -> f64 {
        self.highest[gauge]
    }

    /// Whether the attackers had the places, and no more than these.
    pub fn was_full(&self, places: usize) -> bool {
        let most = self.highest("stillgood_connections");
        (places as f64 * 0.9..=(places + TURNOVER) as f64).contains(&most)
    }

    pub fn event(&self, event: &str) -> f64 {
        self.value(&format!("stillgood_connection_events_total{{event=\"{event}\"}}"))
    }
}

/// Numbers without a pattern, the same in every run.
pub fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

pub fn any_serial(seed: &mut u64) -> Serial {
    serial(random(seed) >> 1)
}

/// Lets this process have as many files open as the crowd needs.
pub fn room() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(8_192);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
}

pub fn turn() -> std::sync::MutexGuard<'static, ()> {
    room();
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a crowd of connections open, opens again what is closed, and lets `poke` do something to each in turn.
pub fn crowd(
    to: SocketAddr,
    size: usize,
    over: &AtomicBool,
    poke: impl Fn(&mut TcpStream) -> std::io::Result<()>,
) -> u64 {
    crowd_by(connect, to, size, over, poke)
}

pub fn crowd_by(
    connect: impl Fn(SocketAddr) -> std::io::Result<TcpStream>,
    to: SocketAddr,
    size: usize,
    over: &AtomicBool,
    poke: impl Fn(&mut TcpStream) -> std::io::Result<()>,
) -> u64 {
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

/// A connection of which the kernel keeps little on either side: small segments, a small window.
pub fn narrow(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(4_096)?;
    socket.set_tcp_mss(536)?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Sends as much of `batch` again and again as is taken, without waiting.
pub fn stuff(stream: &mut TcpStream, batch: &[u8]) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    match stream.write(batch) {
        // Where only a piece was taken the next does not go on behind it: such a client is told off, and comes again.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Asks for one thing after the other over kept connections, and reads the answers.
pub fn flood(to: SocketAddr, over: &AtomicBool, seed: u64, next: impl Fn(&mut u64) -> Vec<u8>) -> u64 {
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
