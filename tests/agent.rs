//! The agent with a lab's CA behind it, in a time of the test's own: renewal, restarts, operators, and what makes our own code
//! spin or panic.

mod agent_support;

use agent_support::*;
use std::collections::HashSet;
use std::time::Duration;
use stillgood::agent::{AgentView, CommandError};
use stillgood::renewal::{Command, Hold, Ignored, Park, Pause, Reach};
use stillgood::time::monotonic;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_new_issuer_gets_a_signer_and_it_is_renewed_within_its_window() {
    let bench = Bench::new(&["one"]);
    let running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    let first = running.signer("one");
    assert_eq!(bench.asked("one").len(), 1);

    // The usable life ends 4 days and an hour before notAfter; the window is its second half up to three quarters.
    bench.advance(12 * DAY, &running);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.signer("one"), first, "not before its window");
    bench.advance(8 * DAY, &running);
    eventually("it is renewed", || running.signer("one") != first);
    assert_eq!(bench.asked("one").iter().collect::<HashSet<_>>().len(), 2, "a new key for each");
    let former = running.slots.slot("one").previous().map(|p| p.certificate.serial().to_string());
    assert_eq!(former, first, "kept until its last response has run out");

    bench.advance(5 * DAY, &running);
    eventually("the former key is destroyed", || running.slots.slot("one").previous().is_none());
    eventually("that is told", || bench.memory.told("\"destroyed\""));
    // Every event about a certificate names it.
    let second = running.signer("one").unwrap();
    let named = |what: &str, serial: &str| {
        let is_of = |line: &String| {
            line.contains(&format!("\"what\":\"{what}\"")) && line.contains(&format!("\"serial\":\"{serial}\""))
        };
        bench.memory.lines().iter().any(is_of)
    };
    for what in ["answer", "verified", "staged", "activated"] {
        assert!(named(what, first.as_deref().unwrap()) && named(what, &second), "{what}: {:#?}", bench.memory.lines());
    }
    assert!(named("destroyed", first.as_deref().unwrap()) && !named("destroyed", &second));
    let requests = running.handle.view().requests.clone();
    let causes: Vec<_> = requests.iter().map(|t| (t.cause.name(), t.result, t.count)).collect();
    assert_eq!(causes, [("scheduled", "issued", 1), ("new-issuer", "issued", 1)]);
}

#[test]
fn a_restart_resumes_the_order_that_was_on_the_wire_with_the_same_key() {
    // Whatever it waits for, backoffs included, passes.
    let minutes = |bench: &Bench, running: &Running| bench.advance(Duration::from_secs(600), running);
    let bench = Bench::new(&["one"]);
    bench.set("one", Mode::Hang);
    for _ in 0..3 {
        let mut running = bench.start();
        let before = bench.asked("one").len();
        eventually("it asks", || {
            minutes(&bench, &running);
            bench.asked("one").len() > before
        });
        running.stop();
    }
    bench.set("one", Mode::Issue);
    let running = bench.start();
    eventually("it has a signer", || {
        minutes(&bench, &running);
        running.signer("one").is_some()
    });
    assert_eq!(bench.asked("one").iter().collect::<HashSet<_>>().len(), 1, "one key, ever");
}

#[test]
fn an_answer_on_which_our_own_code_spins_or_panics_costs_its_issuer_only() {
    let ids: Vec<String> = (0..20).map(|n| format!("ca-{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let bench = Bench::new(&names);
    bench.set("ca-3", Mode::Spin);
    bench.set("ca-5", Mode::Panic);
    bench.verdict.0.lock().unwrap().insert("ca-7".into(), "panic".into());
    let running = bench.start();
    let good = || names.iter().filter(|n| !["ca-3", "ca-5", "ca-7"].contains(n));
    eventually("the others have signers", || good().all(|n| running.signer(n).is_some()));
    eventually("the panic is named", || running.reasons("ca-5").contains("an answer like no other"));
    eventually("the other panic is named", || running.reasons("ca-7").contains("a certificate like no other"));
    for name in ["ca-3", "ca-5", "ca-7"] {
        assert_eq!((bench.asked(name).len(), running.signer(name)), (1, None), "{name}");
    }
    assert!(!running.handle.view().is_overdue(monotonic()), "the agent goes on");
    bench.set("ca-3", Mode::Issue);
    eventually("what spun ends, late and welcome", || running.signer("ca-3").is_some());
}

#[test]
fn a_leap_of_the_clock_neither_raises_the_alarm_of_an_overdue_pass_nor_hides_one() {
    let bench = Bench::new(&["one"]);
    let running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    let overdue = Duration::from_secs(AgentView::OVERDUE_SECS + 1);
    bench.clock.set(START.plus(3650 * DAY));
    assert!(!running.handle.view().is_overdue(monotonic()), "years are a moment");
    let passed = running.handle.view().passed;
    eventually("and it goes on", || running.handle.view().passed > passed);

    // Its thread hangs in what is told: whoever writes the trail does not come back.
    let hung = bench.memory.0.lock().unwrap();
    let unpark = Command::Unpark { reach: Reach::All };
    running.wait(async {
        let command = running.handle.command(unpark, "alice".into(), String::new());
        assert!(tokio::time::timeout(Duration::from_secs(1), command).await.is_err(), "it hangs");
    });
    bench.clock.set(START.minus(DAY));
    let passed = running.handle.view().passed;
    std::thread::sleep(Duration::from_secs(AgentView::PASS_SECS + 1));
    let view = running.handle.view();
    assert_eq!(view.passed, passed, "no pass since");
    assert!(!view.is_overdue(passed + overdue - Duration::from_secs(1)));
    assert!(view.is_overdue(passed + overdue), "though the clock shows the day before");
    drop(hung);
    eventually("it goes on", || running.handle.view().passed > passed);
}

#[test]
fn a_certificate_that_a_client_would_not_accept_parks_the_issuer_and_the_signer_stays() {
    let bench = Bench::new(&["one"]);
    let running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    let first = running.signer("one");
    bench.verdict.0.lock().unwrap().insert("one".into(), "a test response does not verify".into());
    bench.advance(20 * DAY, &running);
    eventually("it is parked", || running.reasons("one").contains("a test response does not verify"));
    assert_eq!(running.signer("one"), first);
    let parked =
        |slots: &[stillgood::renewal::SlotView]| matches!(slots[0].hold, Hold::Parked { why: Park::Rejected, .. });
    eventually("that is published", || parked(&running.handle.snapshot().slots));
    bench.advance(12 * HOUR, &running);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.asked("one").len(), 2, "at most one request a day");

    bench.verdict.0.lock().unwrap().clear();
    let unpark = Command::Unpark { reach: Reach::Slot(slot("one")) };
    running.wait(running.handle.command(unpark, "alice".into(), "the CA was put right".into())).unwrap();
    eventually("it is renewed", || running.signer("one") != first);
    assert!(bench.memory.told("\"who\":\"alice\"") && bench.memory.told("the CA was put right"));
}

#[test]
fn a_ca_that_has_another_key_is_asked_for_a_signer_at_once() {
    let bench = Bench::new(&["one", "two"]);
    let mut running = bench.start();
    eventually("both have signers", || running.signer("one").is_some() && running.signer("two").is_some());
    let same = generation(2, &["one", "two"], &bench.lab.ca, "");
    bench.current.0.lock().unwrap().generation = same;
    bench.advance(HOUR, &running);
    let renewed = generation(3, &["one", "two"], &rekeyed(), "");
    bench.current.0.lock().unwrap().generation = renewed;
    bench.advance(HOUR, &running);
    // The lab has its old key still, so what comes does not pass; that it is asked is what matters here.
    eventually("it is parked", || running.reasons("one").contains("parked"));
    assert_eq!((bench.asked("one").len(), bench.asked("two").len()), (2, 2));
    running.stop();
    let restarted = bench.start();
    eventually("a restart finds the same", || restarted.reasons("one").contains("parked"));
    assert_eq!(bench.asked("one").len(), 2);
}

#[test]
fn another_password_ends_a_refusal_of_ours_without_an_operator() {
    let bench = Bench::new(&["one"]);
    std::fs::write(&bench.lab.secret, "wrong").unwrap();
    bench.set("one", Mode::Unproven);
    let running = bench.start();
    eventually("it is refused", || running.reasons("one").contains("who are you?"));
    // A second look tells one label that does not know us from a service that does not, and settles it.
    bench.advance(HOUR, &running);
    eventually("a second look", || running.reasons("one").contains("parked"));
    let asked = bench.asked("one").len();
    assert_eq!(asked, 2);
    bench.advance(HOUR, &running);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.asked("one").len(), asked, "the same is not shown again");
    bench.set("one", Mode::Issue);
    std::fs::write(&bench.lab.secret, "right, and longer").unwrap();
    eventually("it is asked with the new one", || running.signer("one").is_some());
}

#[test]
fn a_certificate_of_another_ca_key_cannot_be_approved() {
    let approval = r#", "approval": "required""#;
    let bench = Bench::new(&["one"]);
    bench.current.0.lock().unwrap().generation = generation(2, &["one"], &bench.lab.ca, approval);
    let running = bench.start();
    eventually("it waits for an approval", || running.slots.slot("one").next().is_some());
    bench.current.0.lock().unwrap().generation = generation(3, &["one"], &rekeyed(), approval);
    bench.advance(HOUR, &running);
    // What was staged is checked by the new record, does not pass, and is dropped before anybody can approve it.
    eventually("it is told", || bench.memory.told("ordered before its registry record changed, and dropped"));
    let approve = Command::Approve { slot: slot("one") };
    let nothing = running.wait(running.handle.command(approve, "alice".into(), "looks good".into()));
    assert!(nothing.is_err() && !bench.memory.told("\"activated\""), "{nothing:?}");
    assert_eq!(running.signer("one"), None);
}

#[test]
fn a_ca_whose_certificates_are_always_due_is_stopped_by_the_governor() {
    let bench = Bench::new(&["one"]);
    bench.set("one", Mode::AlwaysDue);
    // A reserve that a life of two days from now meets.
    let current = generation(2, &["one"], &bench.lab.ca, r#", "response": { "validity": "12h", "refresh": "6h" }"#);
    bench.current.0.lock().unwrap().generation = current;
    let running = bench.start();
    eventually("it is parked", || running.reasons("one").contains("certificates within a day"));
    let limit = bench.limits.issuances_per_day as usize;
    assert_eq!(bench.asked("one").len(), limit);
    bench.advance(12 * HOUR, &running);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bench.asked("one").len(), limit);
    assert!(bench.memory.told("\"alarm\":true"));
}

#[test]
fn a_pause_is_kept_over_a_restart_and_ends_by_itself() {
    let bench = Bench::new(&["one"]);
    let mut running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    let first = running.signer("one");
    let pause = Pause {
        reach: Reach::All,
        until: START.plus(25 * DAY),
        reason: "maintenance".into(),
        who: "alice".into(),
        since: None,
    };
    let told = running.wait(running.handle.command(Command::Pause(pause), "alice".into(), "maintenance".into()));
    assert_eq!(told, Ok(1));
    running.stop();
    assert_eq!(
        running.wait(running.handle.plan()).unwrap_err().to_string().split(':').next(),
        Some("the renewal agent does not answer")
    );
    assert!(running.handle.is_gone());

    let running = bench.start();
    bench.advance(20 * DAY, &running);
    eventually("it is due", || running.reasons("one").contains("maintenance"));
    assert_eq!(running.signer("one"), first);
    bench.advance(5 * DAY, &running);
    eventually("it is renewed", || running.signer("one") != first);
    let nothing =
        running.wait(running.handle.command(Command::Resume { reach: Reach::All }, "bob".into(), String::new()));
    assert_eq!(nothing, Err(CommandError::Ignored(Ignored::NothingConcerned(Reach::All))));
}

#[test]
fn where_approval_is_required_the_new_signer_waits_for_an_operator() {
    let bench = Bench::new(&["one"]);
    bench.current.0.lock().unwrap().generation = generation(2, &["one"], &bench.lab.ca, r#", "approval": "required""#);
    let running = bench.start();
    eventually("it is staged", || running.slots.slot("one").next().is_some());
    eventually("it waits", || running.reasons("one").contains("waits for an operator's approve"));
    assert_eq!(running.signer("one"), None);
    running
        .wait(running.handle.command(Command::Approve { slot: slot("one") }, "alice".into(), String::new()))
        .unwrap();
    eventually("it is in use", || running.signer("one").is_some());
}

#[test]
fn a_ledger_that_cannot_be_written_lets_nothing_leave() {
    let bench = Bench::new(&["one"]);
    let mut running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    running.stop();
    // A directory in the place of the file.
    std::fs::rename(bench.path().join("ledger.redb"), bench.path().join("ledger.kept")).unwrap();
    std::fs::create_dir(bench.path().join("ledger.redb")).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.start()));
    assert!(refused.is_err(), "no ledger, no agent");
    assert_eq!(bench.asked("one").len(), 1);
}

#[test]
fn a_damaged_ledger_costs_no_signer() {
    let bench = Bench::new(&["one"]);
    let mut running = bench.start();
    eventually("it has a signer", || running.signer("one").is_some());
    let first = running.signer("one");
    running.stop();
    std::fs::write(bench.path().join("ledger.redb"), b"garbage").unwrap();
    let running = bench.start();
    assert_eq!(running.signer("one"), first);
    assert!(bench.memory.told("is damaged"));
    bench.advance(20 * DAY, &running);
    eventually("it is renewed", || running.signer("one") != first);
}

#[test]
fn a_certificate_that_cannot_be_written_is_not_asked_for_again() {
    let bench = Bench::new(&["one"]);
    bench.set("one", Mode::Hang);
    let running = bench.start();
    eventually("it is asked for", || !bench.asked("one").is_empty());
    let [order] = running.slots.slot("one").open_orders().unwrap().try_into().unwrap();
    // A directory where the certificate is to be written.
    let in_the_way = bench.path().join(format!("signers/one/{order}.pem.tmp"));
    std::fs::create_dir(&in_the_way).unwrap();
    bench.set("one", Mode::Issue);
    let refusals = || bench.memory.lines().iter().filter(|line| line.contains("directory")).count();
    for refusal in 1..=3 {
        eventually("it is tried again", || {
            bench.advance(HOUR, &running);
            std::thread::sleep(Duration::from_millis(100));
            refusals() >= refusal
        });
    }
    let asked = bench.asked("one").len();
    assert!(running.signer("one").is_none());
    std::fs::remove_dir(&in_the_way).unwrap();
    eventually("it is written", || {
        bench.advance(HOUR, &running);
        running.signer("one").is_some()
    });
    assert_eq!((asked, bench.asked("one").len()), (1, 1), "the answer that came late is the only one");
    assert!(bench.memory.told("had come before: nothing was sent"));
}

/// Two orders on the wire, then an order in the second slot that nobody knows; the keys of these three.
fn three_orders(bench: &Bench) -> [std::path::PathBuf; 3] {
    ["one", "two"].iter().for_each(|issuer| bench.set(issuer, Mode::Hang));
    let mut running = bench.start();
    eventually("both are asked for", || ["one", "two"].iter().all(|n| !bench.asked(n).is_empty()));
    running.stop();
    let key = |issuer: &str| {
        let [order] = running.slots.slot(issuer).open_orders().unwrap().try_into().unwrap();
        bench.path().join(format!("signers/{issuer}/{order}.key"))
    };
    let unknown = bench.path().join("signers/two/00000000000000ff.key");
    let keys = [key("one"), key("two"), unknown];
    std::fs::copy(&keys[1], &keys[2]).unwrap();
    keys
}

#[test]
fn a_record_that_was_set_aside_does_not_cost_its_order_the_key() {
    let bench = Bench::new(&["one", "two"]);
    let [one, two, unknown] = three_orders(&bench);
    let ledger = redb::Database::open(bench.path().join("ledger.redb")).unwrap();
    let change = ledger.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("records");
    change.open_table(table).unwrap().insert("signer/one", b"{".as_slice()).unwrap().unwrap();
    change.commit().unwrap();
    drop(ledger);
    for start in 0..2 {
        bench.start().stop();
        assert!(bench.memory.told("signer/one of the ledger cannot be read"));
        assert!(one.exists(), "start {start}: it may be open");
        assert!(two.exists(), "start {start}: it is open");
        assert!(!unknown.exists(), "start {start}: nobody knows it");
    }
}

#[test]
fn a_ledger_begun_anew_destroys_no_order() {
    let bench = Bench::new(&["one", "two"]);
    let keys = three_orders(&bench);
    std::fs::write(bench.path().join("ledger.redb"), b"garbage").unwrap();
    bench.start().stop();
    assert!(keys.iter().all(|key| key.exists()), "{keys:?}");
    assert!(bench.memory.told("no order's key on disk is destroyed before the next start"));
}

#[test]
fn a_signer_in_place_as_the_next_one_outlives_the_ledger() {
    let approval = r#", "approval": "required""#;
    for lost in [&b"garbage"[..], b""] {
        let bench = Bench::new(&["one"]);
        bench.current.0.lock().unwrap().generation = generation(1, &["one"], &bench.lab.ca, approval);
        let next = |running: &Running| running.slots.slot("one").next().map(|next| next.order.clone());
        let mut running = bench.start();
        eventually("it waits for approval", || running.reasons("one").contains("waits for an operator's approve"));
        let order = next(&running);
        running.stop();
        std::fs::write(bench.path().join("ledger.redb"), lost).unwrap();
        // An order of another moment has another number.
        bench.clock.set(START.plus(HOUR));
        bench.current.0.lock().unwrap().synced_at = START.plus(HOUR);
        // The second start knows of it by the ledger that the first one began.
        for start in 0..2 {
            let mut running = bench.start();
            eventually("it still does", || running.reasons("one").contains("waits for an operator's approve"));
            assert_eq!((next(&running), bench.asked("one").len()), (order.clone(), 1), "start {start}");
            running.stop();
        }
        let running = bench.start();
        let approve = Command::Approve { slot: slot("one") };
        eventually("it is approved", || {
            running.wait(running.handle.command(approve.clone(), "alice".into(), String::new())).is_ok()
        });
        eventually("it is in use", || running.signer("one").is_some());
        assert_eq!(running.slots.slot("one").current().map(|current| current.order.clone()), order);
    }
}

#[test]
fn an_issuer_that_left_the_registry_is_not_asked_for_even_before_the_agent_is_told() {
    let bench = Bench::new(&["one", "two"]);
    let running = bench.start();
    eventually("both have signers", || ["one", "two"].iter().all(|n| running.signer(n).is_some()));
    let due = |n: &str| {
        let snapshot = running.handle.snapshot();
        snapshot.slots.iter().find(|s| s.slot == slot(n)).and_then(|s| s.schedule).map(|s| s.due)
    };
    eventually("both have a place in the calendar", || ["one", "two"].iter().all(|n| due(n).is_some()));
    let (next, other) = if due("one") < due("two") { ("one", "two") } else { ("two", "one") };
    let first = running.signer(next);
    let minute = Duration::from_secs(60);
    let before = due(next).unwrap().minus(minute);
    bench.advance(before.since(START), &running);
    eventually("it is read", || running.handle.snapshot().synced_at == Some(before));
    // Nobody tells the agent that the record is gone: the look before the request does.
    bench.current.0.lock().unwrap().generation = generation(2, &[other], &bench.lab.ca, "");
    bench.clock.set(before.plus(2 * minute));
    eventually("it has looked", || running.handle.snapshot().generation == Some(2));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((bench.asked(next).len(), running.signer(next)), (1, first));
}

#[test]
fn the_keys_of_an_issuer_that_is_retired_are_destroyed_after_a_week_in_which_the_registry_may_have_been_wrong() {
    let bench = Bench::new(&["one", "two"]);
    let mut running = bench.start();
    eventually("both have signers", || ["one", "two"].iter().all(|n| running.signer(n).is_some()));
    let first = running.signer("one");
    let gone_since = |running: &Running| running.slots.slot("one").gone_since();
    let mut number = 1;
    let mut says = |running: &Running, retired: &[&str], active: &[&str], after: Duration| {
        number += 1;
        bench.current.0.lock().unwrap().generation = generation_without(number, retired, active, &bench.lab.ca, "");
        bench.advance(after, running);
    };
    says(&running, &["one"], &["two"], HOUR);
    eventually("that is noted", || gone_since(&running) == Some(START.plus(HOUR)));
    // A slip, put right in time.
    bench.advance(6 * DAY, &running);
    says(&running, &[], &["one", "two"], HOUR);
    eventually("that too", || gone_since(&running).is_none());
    assert_eq!(running.signer("one"), first);

    says(&running, &["one"], &["two"], HOUR);
    eventually("it is noted again", || gone_since(&running).is_some());
    running.stop();
    let mut running = bench.start();
    bench.advance(7 * DAY - HOUR, &running);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.signer("one"), first, "not before the time is over");
    // The time is over, and nobody knows what the registry says by now: it was read hours ago.
    bench.clock.set(bench.current.0.lock().unwrap().synced_at.plus(6 * HOUR));
    std::thread::sleep(Duration::from_secs(AgentView::PASS_SECS + 1));
    assert_eq!(running.signer("one"), first, "only while the registry is fresh");
    bench.advance(HOUR, &running);
    std::thread::sleep(Duration::from_secs(AgentView::PASS_SECS + 1));
    assert_eq!(running.signer("one"), first, "the time of day alone is not believed");
    running.stop();
    *bench.gone_for.lock().unwrap() = Duration::ZERO;
    let mut running = bench.start();
    bench.advance(Duration::from_secs(60), &running);
    eventually("it is destroyed", || running.signer("one").is_none());
    let keys = || {
        let names = std::fs::read_dir(bench.path().join("signers/one")).unwrap();
        names.map(|n| n.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    eventually("with its files", || keys() == ["slot.json"]);
    let told = format!("\"serial\":\"{}\",\"outcome\":\"done\"", first.unwrap());
    let is_told =
        |line: &String| line.contains("\"destroyed\"") && line.contains(&told) && line.contains("generation 4");
    eventually("that is told", || bench.memory.lines().iter().any(is_told));
    assert!(running.signer("two").is_some());

    says(&running, &[], &["one", "two"], HOUR);
    eventually("it is back, and has another", || running.signer("one").is_some());
    running.stop();
}
