//! Two hundred issuers of one CA service, of which twenty fail in every way: the others do not notice, and the service sees
//! no more than was configured.
//!
//! Two minutes with short backoffs: what is parked is asked once, and the rate and the places on the wire hold. That it is at most once
//! a day, and that the limits of a plain configuration hold, is shown over two months by tests/agent_fleet_days.rs.

mod common;

use common::est_server::{Logged, Mode};
use common::fleet::{Fleet, ask};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stillgood::audit::{About, What};

const ISSUERS: usize = 200;
const RATE: usize = 10;
const MAX_IN_FLIGHT: usize = 4;
/// Validity of answers and margin, as in the configuration below and in the fleet's.
const RESERVE: u64 = 60 + 5;
const LIFE: u64 = 160;

/// What twenty CAs do, and whether asking again may help.
fn failures() -> Vec<(Mode, bool)> {
    let (permanent, transient) = (false, true);
    vec![
        (Mode::WrongKey, permanent),
        (Mode::WrongIssuer, permanent),
        (Mode::Expired, permanent),
        (Mode::NoEku, permanent),
        (Mode::NoNocheck, permanent),
        (Mode::Life(Duration::from_secs(30)), permanent),
        (Mode::Status(400, ""), permanent),
        (Mode::Status(403, ""), permanent),
        (Mode::Redirect, permanent),
        (Mode::Garbage, transient),
        (Mode::Html, transient),
        (Mode::Empty, transient),
        (Mode::Huge, transient),
        (Mode::Endless, transient),
        (Mode::Drip, transient),
        (Mode::CutOff, transient),
        (Mode::Hang, transient),
        (Mode::Reset, transient),
        (Mode::NotHttp, transient),
        (Mode::Status(500, ""), transient),
    ]
}

/// The most requests that began within a time of each other.
fn busiest(log: &[Logged], within: Duration) -> usize {
    let mut times: Vec<Duration> = log.iter().map(|l| l.at).collect();
    times.sort();
    let until = |from: &Duration| times.partition_point(|t| *t < *from + within);
    times.iter().enumerate().map(|(i, from)| until(from) - i).max().unwrap_or(0)
}

/// When each signer became active, by issuer.
fn activations(fleet: &Fleet) -> BTreeMap<String, Vec<i64>> {
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for event in fleet.audit().into_iter().filter(|event| event.what == What::Activated) {
        if let About::Issuer(id) = &event.about {
            all.entry(id.clone()).or_default().push(event.at.unix());
        }
    }
    all
}

#[test]
fn of_two_hundred_issuers_twenty_fail_in_every_way_and_the_others_are_renewed_on_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::new(dir.path(), ISSUERS);
    fleet.renewal = "margin = \"5s\"\nactivation_skew = \"0s\"\nramp = \"5s\"\nbackoff = [\"1s\", \"20s\"]".into();
    fleet.enrolment =
        format!("connect_timeout = \"1s\"\ntimeout = \"2s\"\nmax_in_flight = {MAX_IN_FLIGHT}\nrate = \"{RATE}/s\"");
    let fresh = Mode::Fresh { life: Duration::from_secs(LIFE), after: Duration::ZERO };
    for label in &fleet.labels {
        fleet.est.set(label, fresh.clone());
    }
    fleet.start();
    common::eventually(Duration::from_secs(90), "every issuer has a signer", || activations(&fleet).len() == ISSUERS);
    common::eventually(Duration::from_secs(20), "every issuer answers", || {
        fleet.labels.iter().all(|label| fleet.ask(label, 0).is_ok())
    });

    let failing: BTreeMap<&str, (Mode, bool)> =
        fleet.labels.iter().step_by(ISSUERS / 20).map(String::as_str).zip(failures()).collect();
    assert_eq!(failing.len(), 20);
    for (label, (mode, _)) in &failing {
        fleet.est.set(label, mode.clone());
    }
    let before = fleet.est.log().len();
    let done = AtomicBool::new(false);
    let (gaps, asked) = std::thread::scope(|scope| {
        let prober = scope.spawn(|| {
            let (mut gaps, mut asked) = (Vec::new(), 0_usize);
            let cas: Vec<_> = fleet.labels.iter().map(|label| (label, fleet.ca(label), fleet.endpoint())).collect();
            while !done.load(Ordering::Relaxed) {
                for (label, ca, endpoint) in &cas {
                    asked += 1;
                    if let Err(fault) = ask(*endpoint, ca, asked as u64 % common::fleet::CERTIFICATES) {
                        gaps.push(format!("{label}: {fault}"));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            (gaps, asked)
        });
        let limit = Instant::now() + Duration::from_secs(120);
        let is_renewed = |(label, times): (&String, &Vec<i64>)| failing.contains_key(label.as_str()) || times.len() > 1;
        while !activations(&fleet).iter().all(is_renewed) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(500));
        }
        done.store(true, Ordering::Relaxed);
        prober.join().unwrap()
    });
    assert!(gaps.is_empty(), "{} of {asked} answers: {:?}", gaps.len(), &gaps[..gaps.len().min(10)]);

    for (label, times) in &activations(&fleet) {
        if let Some((mode, _)) = failing.get(label.as_str()) {
            assert_eq!(times.len(), 1, "{label} in mode {mode:?} got a signer");
            continue;
        }
        assert!(times.len() > 1, "{label} was not renewed");
        let took = times[1] - times[0];
        assert!(
            took < (LIFE - RESERVE) as i64,
            "{label} was renewed after {took} s, and its deadline is {LIFE} - {RESERVE}"
        );
    }

    let log = fleet.est.log();
    let (second, ten) = (busiest(&log, Duration::from_secs(1)), busiest(&log, Duration::from_secs(10)));
    println!(
        "{} requests, {second} in the busiest second, {ten} in the busiest ten, {} connections at most, {asked} answers",
        log.len(),
        fleet.est.most_open()
    );
    // By the agent's own clock, to the second: what the rate grants, one more, and what a thread that begins late brings from the
    // second before.
    let left: Vec<i64> =
        fleet.audit().iter().filter(|event| event.what == What::Request).map(|event| event.at.unix()).collect();
    for within in [1, 2, 5, 10, 30, 60] {
        let most = left.iter().map(|from| left.iter().filter(|at| (*from..*from + within).contains(*at)).count()).max();
        let granted = RATE * within as usize + 1 + RATE;
        assert!(most.unwrap_or(0) <= granted, "{most:?} requests left within {within} s, and {granted} may");
    }
    let at_a_time = log.iter().map(|l| l.in_flight).max().unwrap_or(0);
    assert!(at_a_time <= MAX_IN_FLIGHT, "{at_a_time} requests at a time");
    // At the CA, where on a loaded machine some come late.
    assert!(second <= 4 * RATE, "{second} requests within a second");
    assert!(ten <= 14 * RATE, "{ten} requests within ten seconds");
    assert!(fleet.est.most_open() <= MAX_IN_FLIGHT, "{} connections", fleet.est.most_open());
    for (label, (mode, may_help)) in &failing {
        let asked = log[before..].iter().filter(|l| l.label == **label).count();
        println!("{label} {mode:?}: {asked}");
        assert!(asked >= 1, "{label} was never due");
        assert!(*may_help || asked == 1, "{label} is parked by {mode:?} and was asked {asked} times");
        // The governor of the default configuration.
        assert!(asked <= 48, "{label} in mode {mode:?} was asked {asked} times");
    }
}
