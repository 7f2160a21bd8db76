//! `serve` as a process: it starts with whatever it can, says what is missing, and is told by signals.

mod common;

use common::eventually;
use common::serving::{
    Serving, asking, index, port, prepare, start, start_logging_to, start_unread, write_config, write_registry,
};
use common::site::{Said, read, write_index, write_signer, write_signer_for};
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use stillgood::signer::KeyKind;

const LIMIT: Duration = Duration::from_secs(30);

fn serve(dir: &Path, admin: SocketAddr) -> Serving {
    write_config(dir, admin, "");
    start(dir, admin, |_| {})
}

#[test]
fn a_registry_that_is_a_pipe_or_missing_is_told_and_taken_over_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    assert!(Command::new("mkfifo").arg(dir.path().join("issuers.json")).status().unwrap().success());
    let serving = serve(dir.path(), port());
    assert_eq!(serving.said(&lab, 3), Said::Error(6));
    eventually(LIMIT, "told", || serving.readyz().contains("not a regular file"));
    write_registry(dir.path(), 1, "active");
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn an_issuer_whose_record_breaks_is_served_on_through_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), port());
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    write_registry(dir.path(), 2, "activ");
    // It is active still: nothing of its end is wanted.
    let told = "issuer ca: its registry record cannot be used since ";
    eventually(LIMIT, "told below ready", || serving.readyz().contains(told));
    assert!(serving.readyz().contains("200 OK"));
    assert!(serving.admin("/metrics").contains("stillgood_issuer_active{issuer=\"ca\"} 1"));
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    serving.signal("HUP");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(serving.said(&lab, 3), Said::Revoked, "a reload is not a restart");
}

#[test]
fn it_answers_without_the_admin_listener_and_tries_that_again() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let serving = serve(dir.path(), taken.local_addr().unwrap());
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    drop(taken);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn it_stops_promptly_while_everything_is_being_signed() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 1);
    write_signer(dir.path(), &lab, KeyKind::EcdsaP384); // a slow one: it takes many seconds
    std::fs::write(dir.path().join("index.txt"), index(60_000)).unwrap();
    write_registry(dir.path(), 1, "active");
    let mut serving = serve(dir.path(), port());
    eventually(LIMIT, "signing has begun", || serving.readyz().contains("not everything has been signed"));
    let began = Instant::now();
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// The log of a short run in which each of some requests is asked once.
fn log_of(more: &str, asked: u64) -> String {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, more);
    let log = dir.path().join("log");
    let mut serving = start_logging_to(dir.path(), admin, &log);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    for n in 0..asked {
        serving.said(&lab, n);
    }
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    std::fs::read_to_string(log).unwrap()
}

#[test]
fn no_request_is_logged_unless_wished_for() {
    let log = log_of("workers = 1", 10);
    assert!(log.contains("answering OCSP requests") && !log.contains(" answered method="), "{log}");
}

#[test]
fn one_request_in_so_many_is_logged_as_json_without_the_clients_address() {
    let log = log_of("workers = 1\n[log]\nformat = \"json\"\nrequests = 4", 10);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let requests: Vec<_> = lines.iter().filter(|line| line["target"] == "request").collect();
    assert_eq!(requests.len(), 2, "{log}");
    assert_eq!(requests[0]["serial"], common::long_serial(3).to_string());
    assert_eq!((&requests[0]["method"], &requests[0]["result"]), (&"POST".into(), &"ready".into()));
    assert_eq!((&requests[0]["hash"], &requests[0]["certificates"]), (&"sha1".into(), &1.into()));
    assert!(!requests[0].to_string().contains("127.0.0.1"), "{}", requests[0]);
}

#[test]
fn what_holds_keys_leaves_no_core_file_and_lets_nobody_look_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let _lab = prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), port());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // What is not dumpable belongs to root, whoever runs it.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(format!("/proc/{}/environ", serving.child.id())).unwrap().uid(), 0);
}

/// What the kernel says of each thread under this name.
fn of_threads(serving: &Serving, name: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", serving.child.id())).unwrap();
    let of =
        |status: String| status.lines().find_map(|line| line.strip_prefix(&format!("{name}:\t")).map(str::to_owned));
    let all: Vec<_> = threads
        .map(|thread| of(std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap()).unwrap())
        .collect();
    assert!(all.len() > 3, "{all:?}");
    all
}

fn assert_no_capabilities(serving: &Serving) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let all = of_threads(serving, set);
        assert!(all.iter().all(|held| held == "0000000000000000"), "{set}: {all:?}");
    }
}

#[test]
fn privileges_are_given_up_unless_a_command_may_need_them_and_root_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    for (more, command) in [("", false), ("[enrolment.lab]\nprotocol = \"command\"\ncommand = [\"/bin/true\"]", true)] {
        write_config(dir.path(), admin, more);
        let log = dir.path().join("log");
        let serving = start_logging_to(dir.path(), admin, &log);
        eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
        let no_new = of_threads(&serving, "NoNewPrivs");
        let expected = if !command || rustix::thread::no_new_privs().unwrap() { "1" } else { "0" };
        assert!(no_new.iter().all(|no_new| no_new == expected), "{no_new:?}");
        assert_no_capabilities(&serving);
        let is_root = rustix::process::geteuid().is_root();
        // What a program that is started could still gain.
        let bounds = of_threads(&serving, "CapBnd");
        let all_gone = bounds.iter().all(|bound| bound == "0000000000000000");
        assert!(!is_root || all_gone != command, "{bounds:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap().contains("this process runs as root"), is_root);
    }
}

#[test]
fn a_privileged_port_is_taken_at_the_start_and_the_privilege_given_up_so_that_another_one_takes_a_restart() {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if TcpListener::bind("127.0.0.1:1023").is_err() || text.trim() != "1024" {
        eprintln!("not tested: this user may not take port 1023, or everybody may");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let free_from =
        |from: u16| (from..1024).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("one is free");
    let admin_port = free_from(600);
    let (admin, first) = (SocketAddr::from(([127, 0, 0, 1], admin_port)), free_from(admin_port + 1));
    let listen_on = |port: u16| {
        write_config(dir.path(), admin, "");
        let text = std::fs::read_to_string(dir.path().join("stillgood.toml")).unwrap();
        std::fs::write(dir.path().join("stillgood.toml"), text.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")))
            .unwrap();
    };
    listen_on(first);
    let log = dir.path().join("log");
    let serving = start_logging_to(dir.path(), admin, &log);
    assert_eq!(serving.endpoint.port(), first);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    assert_no_capabilities(&serving);

    listen_on(free_from(first + 1));
    eventually(LIMIT, "the reload is refused", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("the configuration is refused and the one in use stays: cannot listen on 127.0.0.1:")
            && text.contains("was given up after the start, so that this takes a restart")
    });
    assert_eq!(serving.said(&lab, 3), Said::Revoked, "what it listened on goes on");
}

#[test]
fn a_start_without_a_usable_key_is_ready_with_what_is_held_and_says_that_nothing_can_be_signed() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let mut before = serve(dir.path(), port());
    eventually(LIMIT, "ready", || before.readyz().ends_with("\r\n\r\nready\n"));
    before.signal("TERM");
    assert!(before.child.wait().unwrap().success());
    // A key, and not that of the certificate.
    let certificate = std::fs::read(dir.path().join("ocsp.pem")).unwrap();
    write_signer(dir.path(), &lab, KeyKind::EcdsaP256);
    std::fs::write(dir.path().join("ocsp.pem"), certificate).unwrap();

    let serving = serve(dir.path(), port());
    eventually(LIMIT, "it is told", || serving.readyz().contains("nothing can be signed"));
    let text = serving.readyz();
    assert!(text.contains("200 OK") && text.contains("\nready\nissuer ca: nothing can be signed: "), "{text}");
    assert!(text.contains("ocsp.key") && text.contains("; what is held is served until 2"), "{text}");
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
}

#[test]
fn a_disabled_issuer_whose_signer_has_run_out_does_not_make_the_process_unready() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 5);
    write_signer_for(dir.path(), &lab, KeyKind::EcdsaP256, Duration::from_secs(30));
    write_registry(dir.path(), 1, "disabled");
    let admin = port();
    write_config(dir.path(), admin, "[response]\nvalidity = \"60s\"\nrefresh = \"20s\"\nbackdate = \"5s\"");
    let mut serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "served while the signer lasts", || serving.said(&lab, 3) == Said::Revoked);
    eventually(2 * LIMIT, "and no longer", || serving.said(&lab, 3) == Said::Error(3));
    let has_ended = |serving: &Serving| {
        let text = serving.readyz();
        assert!(text.contains("200 OK"), "{text}");
        text.contains("\nready\nissuer ca: disabled, and no longer answered for: ") && text.contains("; retire it\n")
    };
    eventually(LIMIT, "it is told", || has_ended(&serving));
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    // Nor after a start, which finds an expired signer.
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "the issuer is looked at", || serving.readyz().contains("issuer ca: "));
    eventually(LIMIT, "it is told again", || has_ended(&serving));
    let metrics = serving.admin("/metrics");
    for line in [
        "stillgood_ready 1",
        "stillgood_issuer_active{issuer=\"ca\"} 0",
        "stillgood_items{kind=\"issuer\",state=\"unreadable\"} 0",
        "stillgood_items{kind=\"issuer\",state=\"checked\"} 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
    }
    let mut status = Command::new(env!("CARGO_BIN_EXE_stillgood"));
    let status = status.args(["status", "--config"]).arg(dir.path().join("stillgood.toml")).output().unwrap();
    assert_eq!(status.status.code(), Some(0), "{}", String::from_utf8_lossy(&status.stdout));
    // One that is to be renewed does; nobody is answered then.
    write_registry(dir.path(), 2, "active");
    eventually(LIMIT, "not ready", || serving.readyz().contains("503 "));
    assert!(serving.admin("/readyz/any").contains("503 "), "{}", serving.admin("/readyz/any"));
    assert!(serving.admin("/metrics").contains("\nstillgood_issuer_active{issuer=\"ca\"} 1\n"));
}

#[test]
fn one_issuer_in_trouble_makes_it_unready_and_takes_it_out_of_no_load_balancer() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 5);
    let other = common::Lab::new("Other");
    std::fs::write(dir.path().join("other.pem"), stillgood::x509::pem::encode("CERTIFICATE", other.ca.der())).unwrap();
    let record = |id: &str, certificate: &str, index: &str| {
        format!(
            r#"{{ "id": "{id}", "state": "active", "certificate": "{certificate}", "status": {{ "index": "{index}" }},
                "signer": {{ "certificate": "ocsp.pem", "key": "ocsp.key" }} }}"#
        )
    };
    let registry = |generation: u64, records: &[String]| {
        let text = format!(r#"{{ "generation": {generation}, "issuers": [ {} ] }}"#, records.join(", "));
        std::fs::write(dir.path().join("issuers.new"), text).unwrap();
        std::fs::rename(dir.path().join("issuers.new"), dir.path().join("issuers.json")).unwrap();
    };
    registry(1, &[record("ca", "ca.pem", "index.txt"), record("other", "other.pem", "gone.txt")]);
    let admin = port();
    write_config(dir.path(), admin, "");
    let config = std::fs::read_to_string(dir.path().join("stillgood.toml")).unwrap();
    let config = config.replace("[registry]\n", "[registry]\nmax_change = 1.0\n");
    std::fs::write(dir.path().join("stillgood.toml"), config).unwrap();
    let serving = start(dir.path(), admin, |_| {});
    let any = || serving.admin("/readyz/any");
    eventually(LIMIT, "in service", || any().ends_with("\r\n\r\nserving\n"));
    let text = serving.readyz();
    assert!(text.contains("503 ") && text.contains("issuer other: ") && !text.contains("issuer ca: "), "{text}");
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    // With nobody left to answer for it is out.
    registry(2, &[record("other", "other.pem", "gone.txt")]);
    eventually(LIMIT, "out of service", || any().contains("503 ") && any().contains("issuer other: "));
    // Where no issuer is wanted, nothing is missing.
    registry(3, &[]);
    eventually(LIMIT, "in service again", || any().contains("200 OK"));
}

#[test]
fn an_agent_that_cannot_be_started_is_told_while_everything_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    std::fs::create_dir_all(dir.path().join("state/ledger.redb")).unwrap();
    std::fs::create_dir(dir.path().join("ca-keys")).unwrap();
    let admin = port();
    write_config(dir.path(), admin, "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"ca-keys\"");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    eventually(LIMIT, "only the agent is missing", || {
        let text = serving.readyz();
        text.contains("503 ") && text.contains("ledger.redb") && !text.contains("issuer ca")
    });
    let running = || {
        serving.admin("/metrics").lines().find(|line| line.starts_with("stillgood_agent_running ")).map(str::to_owned)
    };
    assert_eq!(running().as_deref(), Some("stillgood_agent_running 0"));
    // Nor is it taken for one that nobody wants.
    let verb = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stillgood"));
        command.arg(name).arg("--config").arg(dir.path().join("stillgood.toml")).output().unwrap()
    };
    let status = verb("status");
    let said = String::from_utf8_lossy(&status.stdout);
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.contains("the renewal agent does not run") && said.contains("ledger.redb"), "{said}");
    let plan = verb("plan");
    let said = String::from_utf8_lossy(&plan.stderr);
    assert_eq!(plan.status.code(), Some(5), "{said}");
    assert!(said.contains("ledger.redb") && !said.contains("[enrolment"), "{said}");
    assert!(serving.admin("/status").contains("does not run, so that no signer is renewed"));
    // Where no CA service is wanted any more, nothing is missing.
    write_config(dir.path(), admin, "");
    serving.signal("HUP");
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(running(), None);
}

/// GET over a connection of its own: the head and the body.
fn get(to: SocketAddr, target: &str, fields: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(to).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end..].to_vec())
}

#[test]
fn a_revocation_is_served_to_a_cache_that_has_the_answer_from_before() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), port());
    // Signed ahead, and not on demand.
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(serving.said(&lab, 7), Said::Good);
    let path = data_encoding::BASE64.encode(&asking(&lab, 7)).replace('+', "%2B").replace('/', "%2F");
    let target = format!("/{}", path.replace('=', "%3D"));
    let (head, _) = get(serving.endpoint, &target, "");
    let etag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("an ETag").to_owned();
    let known = format!("If-None-Match: {etag}\r\n");
    let (head, body) = get(serving.endpoint, &target, &known);
    assert!(head.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{head}");

    write_index(dir.path(), 50, &[3, 7]);
    eventually(LIMIT, "revoked", || serving.said(&lab, 7) == Said::Revoked);
    let (head, body) = get(serving.endpoint, &target, &known);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(read(&body), [Said::Revoked]);
    assert!(!head.contains(&etag), "{head}");
    // The ETag is of one certificate: another's is not modified by this one's.
    let other = data_encoding::BASE64.encode(&asking(&lab, 8)).replace('+', "%2B").replace('/', "%2F");
    let (head, body) = get(serving.endpoint, &format!("/{}", other.replace('=', "%3D")), &known);
    assert!(head.starts_with("HTTP/1.1 200 ") && read(&body) == [Said::Good], "{head}");
}

#[test]
fn nothing_of_the_operators_side_is_reachable_at_the_public_port() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), port());
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    for path in ["/metrics", "/readyz", "/healthz", "/status", "/status.json"] {
        let (head, body) = get(serving.admin, path, "");
        assert!(head.starts_with("HTTP/1.1 200 ") && !body.is_empty(), "{path} is an operator's: {head}");
        // As it is, behind a mount, and in spellings that go another way through the endpoint.
        let host = serving.endpoint;
        for target in [path.to_owned(), format!("/ocsp{path}"), format!("/{path}"), format!("http://{host}{path}")] {
            for fields in ["", "Accept: text/html\r\n"] {
                let (head, body) = get(serving.endpoint, &target, fields);
                assert!(head.to_lowercase().contains("content-type: application/ocsp-response"), "{target}: {head}");
                assert_eq!(body, [0x30, 3, 0x0a, 1, 1], "{target}: malformedRequest");
            }
        }
    }
    // The greeting says no more than that.
    let (_, body) = get(serving.endpoint, "/", "Accept: text/html\r\n");
    let greeting = String::from_utf8(body).unwrap();
    assert!(greeting.lines().count() == 1 && !greeting.contains('<'), "{greeting}");
}

/// The lines that were lost, as counted.
fn lines_dropped(serving: &Serving) -> u64 {
    let page = serving.admin("/metrics");
    let value = page.lines().find_map(|line| line.strip_prefix("stillgood_log_lines_dropped_total "));
    value.expect("the counter").parse().unwrap()
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_what_is_lost_is_counted() {
    // A pipe takes some 500 lines, the queue in front of it 8 192.
    const BATCHES: usize = 120;
    const BATCH: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "workers = 1\nmax_requests_per_connection = 100000\n[log]\nrequests = 1");
    let (mut serving, mut log) = start_unread(dir.path(), admin, |_| {});
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    assert_eq!(lines_dropped(&serving), 0);

    let body = asking(&lab, 3);
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let batch = [head.as_bytes(), &body].concat().repeat(BATCH);
    let mut stream = TcpStream::connect(serving.endpoint).unwrap();
    stream.set_read_timeout(Some(2 * LIMIT)).unwrap();
    for n in 0..BATCHES {
        stream.write_all(&batch).unwrap();
        let (mut answers, mut buffer) = (Vec::new(), [0; 16_384]);
        while answers.windows(12).filter(|w| w == b"HTTP/1.1 200").count() < BATCH {
            let len = stream.read(&mut buffer).unwrap_or_else(|e| panic!("no answer in batch {n}: {e}"));
            assert!(len > 0, "closed in batch {n}");
            answers.extend_from_slice(&buffer[..len]);
        }
    }
    assert!(lines_dropped(&serving) > 0);
    assert_eq!(serving.said(&lab, 3), Said::Revoked);

    // Whoever reads again gets whole lines, and the last word.
    for _ in 0..8_000 {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0 && line.ends_with('\n'), "{line}");
    }
    serving.signal("TERM");
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(serving.child.wait().unwrap().success());
    assert!(rest.lines().last().is_some_and(|line| line.contains("SIGTERM: stopping")), "{rest}");
}

#[test]
fn what_ends_the_start_is_the_last_word_behind_a_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    let text = format!(
        "state_dir = \"state\"\n[registry]\nsource = \"issuers.json\"\n[endpoint]\nlisten = [\"{taken}\"]\n[admin]\nlisten = \"0.0.0.0:1\"\n"
    );
    std::fs::write(dir.path().join("stillgood.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillgood"));
    let output = command.args(["serve", "--config"]).arg(dir.path().join("stillgood.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("0.0.0.0:1 is not loopback"), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains("another process listens there")), "{said}");
}
