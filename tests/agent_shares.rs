//! What one CA, one issuer or one look must not take from the others: threads, evidence, the word of the registry. And what the
//! agent says of what it has looked at.

mod agent_support;

use agent_support::*;
use std::time::{Duration, Instant};
use stillgood::agent::Look;
use stillgood::renewal::Limits;
use stillgood::time::Clock;

/// More requests on the wire than there were threads in all.
const MANY: usize = 520;

#[test]
fn hundreds_of_requests_that_hang_take_no_thread_from_the_steps_of_the_others() {
    let names: Vec<String> = (0..MANY).map(|n| format!("ca-{n}")).collect();
    let mut bench = Bench::new(&names.iter().map(String::as_str).chain(["good"]).collect::<Vec<_>>());
    (bench.max_in_flight, bench.timeout) = (1000, Duration::from_secs(600));
    names.iter().for_each(|name| bench.set(name, Mode::Hang));
    bench.set("good", Mode::Unreachable);
    let running = bench.start();
    // The rate lets a hundred leave in each second of the test's own time.
    let asked = || bench.lab.asked.lock().unwrap().len();
    let start = Instant::now();
    while asked() < MANY {
        assert!(start.elapsed() < 4 * LONG, "{} are on the wire", asked());
        std::thread::sleep(Duration::from_millis(400));
        bench.clock.set(bench.clock.now().plus(Duration::from_secs(1)));
    }
    bench.set("good", Mode::Issue);
    eventually("the good one has a signer", || running.signer("good").is_some());
    assert!(!bench.memory.told("trouble of this machine"), "no thread was missing");
}

#[test]
fn a_request_that_has_not_left_when_its_issuer_is_disabled_does_not_leave() {
    let bench = Bench::new(&["one", "two"]);
    ["one", "two"].iter().for_each(|name| bench.set(name, Mode::Unreachable));
    let running = bench.start();
    let is_dialling = |name: &str| bench.lab.dialling.lock().unwrap().contains_key(name);
    eventually("both are being connected to", || is_dialling("one") && is_dialling("two"));
    let disabled = generation(2, &["two"], &bench.lab.ca, "");
    bench.current.0.lock().unwrap().generation = disabled;
    running.handle.registry(bench.current.0.lock().unwrap().clone());
    eventually("it is hung up", || bench.memory.told("its request was withdrawn before any of it was sent"));
    ["one", "two"].iter().for_each(|name| bench.set(name, Mode::Issue));
    eventually("the other has a signer", || running.signer("two").is_some());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((bench.asked("one").len(), bench.asked("two").len()), (0, 1));
    assert_eq!(running.signer("one"), None);
}

#[test]
fn a_look_that_finds_what_cannot_be_used_lets_nothing_leave_and_one_in_vain_goes_by_the_last_sync() {
    let mut bench = Bench::new(&["one"]);
    // The look of the start counts no more.
    bench.limits = Limits { confirm_within: Duration::from_secs(1), ..bench.limits };
    bench.clock.set(START.plus(Duration::from_secs(5)));
    *bench.current.1.lock().unwrap() = Some(Look::Unusable("a comma is missing".into()));
    let running = bench.start();
    eventually("it waits", || running.reasons("one").contains("a comma is missing"));
    assert!(running.reasons("one").contains("nobody knows what is active"), "{}", running.reasons("one"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(bench.asked("one").is_empty());
    assert!(!running.handle.snapshot().evidence_is_fresh);
    // Put right: that is found without anybody's help.
    *bench.current.1.lock().unwrap() = None;
    bench.clock.set(START.plus(Duration::from_secs(10)));
    eventually("it is asked for", || running.signer("one").is_some());

    let bench = { Bench { current: bench.current.clone(), ..Bench::new(&["one"]) } };
    bench.clock.set(START.plus(Duration::from_secs(100)));
    *bench.current.1.lock().unwrap() = Some(Look::Nothing("no route to it".into()));
    let running = bench.start();
    eventually("it goes by the sync", || !bench.asked("one").is_empty());
    drop(running);
}

#[test]
fn a_signer_that_nobody_has_looked_at_is_counted_and_one_that_is_gone_is_not() {
    let hung = ["a", "b", "c", "d"];
    let bench = Bench::new(&["one", "two"]);
    hung.iter().for_each(|name| drop(bench.verdict.0.lock().unwrap().insert((*name).into(), "hang".into())));
    let running = bench.start();
    eventually("both have signers", || ["one", "two"].iter().all(|n| running.signer(n).is_some()));
    let coverage = || {
        let view = running.handle.view();
        (view.coverage.known, view.coverage.checked, view.coverage.unseen())
    };
    let says = |number: u64, issuers: &[&str], ca: &stillgood::x509::Certificate| {
        let mut current = bench.current.0.lock().unwrap();
        current.generation = generation(number, issuers, ca, "");
        running.handle.registry(current.clone());
    };
    eventually("both are looked at", || coverage() == (2, 2, 0));
    // Whoever looks at certificates hangs, and then the CA has another key: may the signers in use go on?
    let more = [&["one", "two"], &hung[..]].concat();
    says(2, &more, &bench.lab.ca);
    eventually("four are being tried out", || {
        hung.iter().all(|name| running.reasons(name).contains("is being checked"))
    });
    eventually("what has no signer has been looked at", || coverage() == (6, 6, 0));
    says(3, &more, &rekeyed());
    eventually("nobody has looked", || coverage() == (6, 4, 2));
    says(4, &["one", "a", "b", "c", "d"], &rekeyed());
    eventually("who is gone is not missed", || coverage().0 == 5);
    bench.verdict.0.lock().unwrap().clear();
    eventually("all are looked at", || coverage() == (5, 5, 0));
}
