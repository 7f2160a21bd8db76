//! Enrolment by a program: what each exit code and each kind of output means, and that nothing is left behind.

mod common;

use common::{Lab, eventually, serial};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillgood::enrolment::{Command, Enrolment, Kind, Order, Outcome, Purpose, Scope, Validity, accept, sign};
use stillgood::signer::{KeyKind, SigningKey};
use stillgood::time::{Clock, SystemClock};
use stillgood::x509::issue::{Attribute, name, ocsp_signer_request};
use stillgood::x509::pem;

const LONG: Duration = Duration::from_secs(20);

fn order(lab: &Lab) -> Order {
    let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
    let subject = name(&[(Attribute::CommonName, "signer")]);
    Order {
        id: "order-7".into(),
        issuer: "issuer-1".into(),
        profile: "ocsp".into(),
        purpose: Purpose::Signer,
        csr_der: ocsp_signer_request(&subject, &key.spki_der(), &key).unwrap(),
        spki_der: key.spki_der(),
        issuer_certificate: Some(Arc::new(lab.ca.clone())),
        leave: Default::default(),
    }
}

fn script(text: &str) -> Command {
    within(text, LONG)
}

fn within(text: &str, timeout: Duration) -> Command {
    Command::new("script", vec!["/bin/sh".into(), "-c".into(), text.into()], timeout, 2)
}

fn run(command: &Command, order: &Order) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(command.submit(order, Instant::now() + LONG));
    assert_eq!(command.connections(), 0);
    outcome
}

fn failed(outcome: Outcome) -> (Scope, Kind, String) {
    match outcome {
        Outcome::Failed(f) => (f.scope, f.kind, f.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    // A zombie has no command line.
    std::fs::read(format!("/proc/{}/cmdline", pid.trim())).map_or(true, |line| line.is_empty())
}

#[test]
fn a_program_that_issues_is_given_the_request_and_the_order() {
    let directory = tempfile::tempdir().unwrap();
    let lab = Lab::new("CA");
    let order = order(&lab);
    let issued = sign(&order, &lab.ca, &lab.ca_key, serial(9), SystemClock.now(), Validity::default()).unwrap();
    let answer = directory.path().join("answer.pem");
    std::fs::write(&answer, pem::encode("CERTIFICATE", lab.ca.der()) + &pem::encode("CERTIFICATE", &issued)).unwrap();
    let seen = directory.path().join("seen");
    let text = format!(
        "cat >{0}; echo \"$STILLGOOD_ORDER $STILLGOOD_ISSUER $STILLGOOD_PROFILE\" >>{0}; cat {1}",
        seen.display(),
        answer.display()
    );
    let Outcome::Issued(certificates) = run(&script(&text), &order) else { panic!() };
    assert_eq!(certificates, [issued.clone(), lab.ca.der().to_vec()], "the one for our key comes first");
    assert_eq!(accept(&order, &certificates).unwrap().der(), issued);
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen, pem::encode("CERTIFICATE REQUEST", &order.csr_der) + "order-7 issuer-1 ocsp\n");
}

#[test]
fn each_exit_code_has_its_own_meaning() {
    use {Kind::*, Scope::*};
    let order = order(&Lab::new("CA"));
    for (code, scope, kind) in [
        (69, Endpoint, Transient),
        (75, Item, Transient),
        (77, Issuer, Permanent),
        (78, Endpoint, Permanent),
        (1, Item, Transient),
        (127, Item, Transient),
    ] {
        let (s, k, text) = failed(run(&script(&format!("echo 'no such  profile' >&2; exit {code}")), &order));
        assert_eq!((s, k), (scope, kind), "exit code {code}: {text}");
        assert!(text.ends_with("it said: no such profile"), "{text}");
        assert!(text.contains(&code.to_string()) && text.contains("order-7"), "{text}");
    }
    let waiting = |after| Outcome::Waiting { retry_after: after, handle: None };
    assert_eq!(run(&script("exit 76"), &order), waiting(None));
    assert_eq!(run(&script("echo 90; exit 76"), &order), waiting(Some(Duration::from_secs(90))));
    assert_eq!(run(&script("echo 99999999999; exit 76"), &order), waiting(Some(stillgood::enrolment::MAX_RETRY_AFTER)));
}

#[test]
fn output_that_is_no_certificate_leaves_the_outcome_unknown() {
    let order = order(&Lab::new("CA"));
    for (text, word) in [
        ("true", "it is empty"),
        ("echo done", "begins \"done\""),
        ("echo '<html>sign in</html>'", "page for people"),
        ("cat /dev/zero", "more than 524288 octets"),
        ("kill -9 $$", "signal 9"),
    ] {
        let (scope, kind, message) = failed(run(&script(text), &order));
        assert_eq!((scope, kind), (Scope::Item, Kind::Unknown), "{text}: {message}");
        assert!(message.contains(word), "{text}: {message}");
    }
}

#[test]
fn messages_stay_short_and_printable_whatever_the_program_writes() {
    let order = order(&Lab::new("CA"));
    let noisy = "i=0; while [ $i -lt 3000 ]; do printf 'line \\033[2J %s\\n' $i >&2; i=$((i+1)); done; exit 1";
    let (_, _, text) = failed(run(&script(noisy), &order));
    assert!(text.len() <= 500 && text.contains("2999") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let order = order(&Lab::new("CA"));
    for program in ["/nonexistent/sign", "/etc/passwd", "/etc"] {
        let command = Command::new("script", vec![program.into()], LONG, 1);
        let (scope, kind, text) = failed(run(&command, &order));
        assert_eq!((scope, kind), (Scope::Endpoint, Kind::Permanent), "{text}");
        assert!(text.contains(program) && text.contains("enrolment.script.command"), "{text}");
    }
}

#[test]
fn at_the_deadline_the_whole_process_group_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let order = order(&Lab::new("CA"));
    let (child, grandchild) = (directory.path().join("child"), directory.path().join("grandchild"));
    let text = format!("echo $$ >{}; sleep 600 & echo $! >{}; wait", child.display(), grandchild.display());
    let began = Instant::now();
    let (scope, kind, message) = failed(run(&within(&text, Duration::from_millis(500)), &order));
    assert_eq!((scope, kind), (Scope::Endpoint, Kind::Unknown), "{message}");
    assert!(began.elapsed() < Duration::from_secs(5));
    eventually(LONG, "both are killed", || is_gone(&child) && is_gone(&grandchild));
}

#[test]
fn a_process_left_behind_does_not_hold_up_the_answer_and_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let order = order(&Lab::new("CA"));
    let left = directory.path().join("left");
    let began = Instant::now();
    let (_, _, text) = failed(run(&script(&format!("sleep 600 & echo $! >{}; exit 77", left.display())), &order));
    assert!(text.contains("refused") && began.elapsed() < Duration::from_secs(5), "{text}");
    eventually(LONG, "it is killed", || is_gone(&left));
}

#[test]
fn an_attempt_that_is_dropped_kills_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let order = order(&Lab::new("CA"));
    let pid = directory.path().join("pid");
    let command = script(&format!("echo $$ >{}; exec sleep 600", pid.display()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let submitted = command.submit(&order, Instant::now() + LONG);
        let stopped = async {
            while std::fs::read_to_string(&pid).map_or(true, |text| !text.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(command.connections(), 1);
        };
        tokio::select! {
            outcome = submitted => panic!("{outcome:?}"),
            () = stopped => {}
        }
    });
    assert_eq!(command.connections(), 0);
    eventually(LONG, "it is killed", || is_gone(&pid));
}

#[test]
fn no_more_programs_run_than_configured() {
    let order = order(&Lab::new("CA"));
    let command = within("sleep 0.2; exit 75", Duration::from_secs(10));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Instant::now() + LONG;
    let began = Instant::now();
    runtime.block_on(async {
        let watch = async {
            let mut most = 0;
            while began.elapsed() < Duration::from_millis(500) {
                most = most.max(command.connections());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        };
        let (a, b, c, d, most) = tokio::join!(
            command.submit(&order, deadline),
            command.submit(&order, deadline),
            command.submit(&order, deadline),
            command.submit(&order, deadline),
            watch
        );
        for outcome in [a, b, c, d] {
            assert_eq!(failed(outcome).1, Kind::Transient);
        }
        assert_eq!(most, 2);
    });
    assert!(began.elapsed() >= Duration::from_millis(400), "two at a time");
}

#[test]
fn a_program_is_not_started_for_an_order_that_was_withdrawn() {
    let directory = tempfile::tempdir().unwrap();
    let order = order(&Lab::new("CA"));
    let started = directory.path().join("started");
    let command = script(&format!("touch {}; exit 75", started.display()));
    assert!(order.leave.withdraw());
    let (scope, kind, text) = failed(run(&command, &order));
    assert!((scope, kind) == (Scope::Issuer, Kind::Transient) && text.contains("withdrawn"), "{text}");
    assert!(!started.exists());
}
