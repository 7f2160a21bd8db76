use super::*;
use crate::audit::History;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Answers, and remembers what it was told.
#[derive(Default)]
struct Noted(Mutex<Vec<(Caller, Command)>>);

impl Control for Noted {
    async fn status(&self) -> Result<Status, Refusal> {
        Err(Refusal::new(RefusalKind::NoAgent, "there is none"))
    }

    async fn plan(&self) -> Result<PlanReport, Refusal> {
        let now = Timestamp::from_unix(0);
        Ok(PlanReport { now, entries: vec![], by_hour: [(now, 3)].into(), left_out: 0, pauses: vec![] })
    }

    async fn impact(&self, file: PathBuf) -> Result<Impact, Refusal> {
        Ok(Impact { file: file.display().to_string(), ..Impact::default() })
    }

    async fn explain(&self, slot: Target) -> Result<Explained, Refusal> {
        Err(Refusal::new(RefusalKind::Refused, format!("{slot} is not known")))
    }

    async fn history(&self, _: Option<Target>, _: Option<Timestamp>, _: usize) -> Result<History, Refusal> {
        // A service that hangs.
        std::future::pending().await
    }

    async fn command(&self, caller: Caller, command: Command) -> Result<Taken, Refusal> {
        self.0.lock().unwrap().push((caller, command));
        Ok(Taken { text: "done".into(), until: None })
    }
}

struct Site {
    tmp: tempfile::TempDir,
    noted: Arc<Noted>,
    _handle: ControlHandle,
}

impl Site {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let noted = Arc::new(Noted::default());
        let handle = start(&tmp.path().join("s"), 0o600, noted.clone()).unwrap();
        Site { tmp, noted, _handle: handle }
    }

    fn path(&self) -> std::path::PathBuf {
        self.tmp.path().join("s")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// All that comes back until the server closes.
    fn say(&self, octets: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may close before it has read all of it.
        let _ = stream.write_all(octets);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn call(&self, call: &str) -> String {
        self.say(format!("{{\"v\":1,\"call\":{call}}}\n").as_bytes())
    }
}

#[test]
fn a_question_is_a_line_and_its_answer_too() {
    let site = Site::new();
    let plan = r#"{"v":1,"result":{"now":"1970-01-01T00:00:00Z","entries":[],"by_hour":{"1970-01-01T00:00:00Z":3},"left_out":0,"pauses":[]}}"#;
    assert_eq!(site.call(r#"{"verb":"plan"}"#), format!("{plan}\n"));
    let two = "{\"v\":1,\"call\":{\"verb\":\"plan\"}}\n".repeat(2);
    assert_eq!(site.say(two.as_bytes()), format!("{plan}\n{plan}\n"), "one connection, two questions");
    let refused = site.call(r#"{"verb":"explain","slot":{"issuer":"x"}}"#);
    assert_eq!(refused, "{\"v\":1,\"refusal\":{\"kind\":\"refused\",\"text\":\"x is not known\"}}\n");
    assert!(site.call(r#"{"verb":"status"}"#).contains("no-agent"));
}

#[test]
fn a_command_comes_with_who_gave_it() {
    let site = Site::new();
    site.call(r#"{"verb":"pause","reach":"all","for_secs":60,"reason":" the CA moves "}"#);
    let noted = site.noted.0.lock().unwrap();
    let (caller, command) = noted.first().unwrap();
    assert_eq!(caller.pid, Some(std::process::id().cast_signed()));
    assert_eq!(command.order, Order::Pause(Target::All, Duration::from_secs(60)));
    assert_eq!(command.reason, "the CA moves");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_is_wanted() {
    let site = Site::new();
    for (call, wanted) in [
        (r#"{"verb":"pause","reach":"all","for_secs":60,"reason":" "}"#, "a pause says why"),
        (r#"{"verb":"pause","reach":"all","for_secs":0,"reason":"x"}"#, "from 1 s to 31 days"),
        (r#"{"verb":"pause","reach":"all","for_secs":99999999,"reason":"x"}"#, "disabled in the registry"),
        (r#"{"verb":"explain","slot":"all"}"#, "name one issuer"),
        (r#"{"verb":"approve-signer","slot":{"endpoint":"x"},"reason":""}"#, "name one issuer"),
        (r#"{"verb":"impact","file":"issuers.json"}"#, "not absolute"),
        (r#"{"verb":"stop"}"#, "unknown variant"),
    ] {
        let answer = site.call(call);
        assert!(answer.contains("\"malformed\"") && answer.contains(wanted), "{call}: {answer}");
    }
    let long = format!(r#"{{"verb":"renew","reach":"all","reason":"{}"}}"#, "x".repeat(2_000));
    assert!(site.call(&long).contains("at most 1000 octets"));
    assert!(site.noted.0.lock().unwrap().is_empty());
}

#[test]
fn another_version_is_named_before_anything_else() {
    let answer = Site::new().say(b"{\"v\":2,\"call\":{\"verb\":\"dance\"},\"urgent\":true}\n");
    assert!(answer.contains("version 2 of the protocol; this service speaks version 1"), "{answer}");
}

#[test]
fn garbage_is_answered_and_costs_nobody_else_anything() {
    let site = Site::new();
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\n", b"\0\0\0\0\n", b"\xff\xfe\n", b"[[[[[[[[\n", b"{}\n", b"no end"]
    {
        assert!(site.say(garbage).contains("\"malformed\""), "{garbage:?}");
    }
    let deep = [b"[".repeat(10_000), b"\n".to_vec()].concat();
    assert!(site.say(&deep).contains("\"malformed\""));
    assert!(site.call(r#"{"verb":"plan"}"#).contains("result"));
}

#[test]
fn a_megabyte_without_an_end_is_cut_off() {
    let site = Site::new();
    let mut stream = site.connect();
    let _ = stream.write_all(&vec![b'x'; 1 << 20]);
    let mut line = String::new();
    // The server closes with unread octets, which may cost the answer: what matters is that it closes.
    let _ = BufReader::new(&stream).read_line(&mut line);
    assert!(line.is_empty() || line.contains("at most 16384 octets"), "{line}");
    assert!(site.call(r#"{"verb":"plan"}"#).contains("result"));
}

#[test]
fn the_slow_are_told_and_sent_away() {
    let site = Site::new();
    let mut stream = site.connect();
    stream.write_all(b"{\"v\":1,").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no complete request within 5 s"), "{answer}");
}

#[test]
fn what_hangs_in_the_service_is_given_up() {
    let answer = Site::new().call(r#"{"verb":"history","about":null,"since":null,"limit":1}"#);
    assert!(answer.contains("no answer within 20 s"), "{answer}");
}

#[test]
fn a_thousand_connections_are_bounded_and_pass() {
    let site = Site::new();
    let mut idle: Vec<UnixStream> = (0..1_000).map(|_| site.connect()).collect();
    let mut last = idle.pop().unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"busy\"") && answer.contains("32 connections are open"), "{answer}");
    drop(idle);
    // Their places are given back as the server notices.
    let answered = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        site.call(r#"{"verb":"plan"}"#).contains("result")
    });
    assert!(answered);
}

#[test]
fn the_socket_goes_with_the_server() {
    let Site { tmp, _handle, .. } = Site::new();
    drop(_handle);
    assert!(!tmp.path().join("s").exists());
    assert!(start(Path::new("/proc/nowhere/s"), 0o600, Arc::new(Noted::default())).is_err());
}
