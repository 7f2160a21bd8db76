//! The process is killed at every edge of an order, a hundred times over: each order keeps its one key, and none is lost.

mod common;

use common::est_server::Mode;
use common::fleet::Fleet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use stillgood::audit::{About, AuditEvent, What};
use stillgood::x509::issue::CertificationRequest;

const ISSUERS: usize = 20;
const KILLS: usize = 100;
/// Validity and refresh of answers are 60 s and 20 s, the margin 1 s: it is due 12 to 18 s after it was issued.
const LIFE: Duration = Duration::from_secs(85);

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
enum Edge {
    /// As soon as such a line is in the audit trail.
    Line(What),
    /// While a request is at the CA.
    AtTheCa,
    /// At any time.
    Whenever,
}

const EDGES: [Edge; 8] = [
    Edge::Line(What::Opened),
    Edge::Line(What::Request),
    Edge::AtTheCa,
    Edge::Line(What::Answer),
    Edge::Line(What::Verified),
    Edge::Line(What::Staged),
    Edge::Line(What::Activated),
    Edge::Whenever,
];

/// Pseudo-random numbers: splitmix64.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn lines(fleet: &Fleet, what: What) -> usize {
    fleet.audit().iter().filter(|event| event.what == what).count()
}

/// Waits for the edge; `false` when it did not come.
fn wait_for(fleet: &Fleet, edge: Edge, seed: &mut Seed) -> bool {
    let limit = Instant::now() + Duration::from_secs(8);
    let count = || match edge {
        Edge::Line(what) => lines(fleet, what),
        Edge::AtTheCa => fleet.est.log().len(),
        Edge::Whenever => 0,
    };
    if let Edge::Whenever = edge {
        std::thread::sleep(Duration::from_millis(seed.below(2_000)));
        return true;
    }
    let before = count();
    while count() == before {
        if Instant::now() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // Some of the time a little later: the next step has begun.
    std::thread::sleep(Duration::from_micros(seed.below(3) * seed.below(2_000)));
    true
}

fn orders(events: &[AuditEvent], what: What, label: &str) -> BTreeSet<String> {
    let of = |e: &&AuditEvent| e.what == what && e.about == About::Issuer(label.to_owned());
    events.iter().filter(of).filter_map(|e| e.order.clone()).collect()
}

/// The orders of an issuer, in the order in which they were first opened.
fn opened(events: &[AuditEvent], label: &str) -> Vec<String> {
    let of = |e: &&AuditEvent| e.what == What::Opened && e.about == About::Issuer(label.to_owned());
    let mut opened: Vec<String> = Vec::new();
    for order in events.iter().filter(of).filter_map(|e| e.order.clone()) {
        if !opened.contains(&order) {
            opened.push(order);
        }
    }
    opened
}

#[test]
fn killed_a_hundred_times_at_every_edge_an_order_keeps_its_key_and_none_is_lost() {
    let number = std::env::var("STILLGOOD_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("STILLGOOD_SEED={number}");
    let mut seed = Seed(number);
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::new(dir.path(), ISSUERS);
    fleet.renewal = "margin = \"1s\"\nactivation_skew = \"0s\"\nramp = \"0s\"\nbackoff = [\"1s\", \"2s\"]\n\
                     submissions_per_day = 10000\nissuances_per_day = 10000"
        .into();
    fleet.enrolment =
        "connect_timeout = \"1s\"\ntimeout = \"2s\"\nmax_in_flight = 4\nrate = \"20/s\"\ndaily_requests = 100000"
            .into();
    for label in &fleet.labels {
        fleet.est.set(label, Mode::Fresh { life: LIFE, after: Duration::from_millis(40) });
    }

    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    for kill in 0..KILLS {
        let edge = EDGES[kill % EDGES.len()];
        fleet.start();
        // Whoever had an answer before the process was killed has one after it.
        let label = &fleet.labels[seed.below(ISSUERS as u64) as usize];
        if !orders(&fleet.audit(), What::Activated, label).is_empty() {
            common::eventually(Duration::from_secs(5), "answered from what is on disk", || fleet.ask(label, 0).is_ok());
        }
        let came = wait_for(&fleet, edge, &mut seed);
        *reached.entry(format!("{edge:?}")).or_default() += usize::from(came);
        fleet.kill();
    }
    println!("killed: {reached:?}");
    for edge in EDGES {
        let times = reached[&format!("{edge:?}")];
        assert!(times >= KILLS / EDGES.len() / 2, "{edge:?} was reached {times} times only");
    }

    // Left alone, every order comes to its end, but for one that has just been opened.
    fleet.start();
    let done = |fleet: &Fleet| {
        let events = fleet.audit();
        fleet.labels.iter().all(|label| {
            let activated = orders(&events, What::Activated, label);
            let without_the_last = opened(&events, label).split_last().map_or(0, |(_, former)| former.len());
            !activated.is_empty() && activated.len() >= without_the_last
        })
    };
    common::eventually(Duration::from_secs(60), "every order has come to its end", || done(&fleet));
    let log = fleet.est.log();
    let events = fleet.audit();
    let (mut keys_in_all, mut requests_in_all, mut keys_compared) = (0, 0, 0);
    for label in &fleet.labels {
        assert!(fleet.ask(label, 1).is_ok(), "{label}: {:?}", fleet.ask(label, 1));
        let mut keys: Vec<&[u8]> = log.iter().filter(|l| l.label == *label).map(|l| l.spki.as_slice()).collect();
        requests_in_all += keys.len();
        keys.dedup();
        let distinct: BTreeSet<&[u8]> = keys.iter().copied().collect();
        assert_eq!(keys.len(), distinct.len(), "{label}: an earlier key was asked for again after a later one");
        let (opened, activated) = (opened(&events, label), orders(&events, What::Activated, label));
        let lost: Vec<_> = opened.iter().filter(|order| !activated.contains(*order)).collect();
        assert!(
            lost.iter().all(|order| Some(*order) == opened.last()),
            "{label}: of {opened:?} {lost:?} never became a signer"
        );
        // Every order that was sent has its one key at the CA, and there is no other key: the n-th order's is the n-th.
        let sent: Vec<&String> = opened.iter().filter(|o| orders(&events, What::Request, label).contains(*o)).collect();
        // The request of one that is open may not have come yet when the log was read.
        let under_way = usize::from(sent.last().is_some_and(|order| !activated.contains(*order)));
        let all = sent.len() - under_way..=sent.len();
        assert!(all.contains(&keys.len()), "{label}: orders {sent:?}, and {} keys at the CA", keys.len());
        for (order, key) in sent.iter().zip(&keys) {
            // The request of one that is open, or whose signer is in use or was the last, is still there.
            if let Ok(csr) = std::fs::read(dir.path().join(format!("state/signers/{label}/{order}.csr"))) {
                let request = CertificationRequest::from_pem_or_der(&csr).unwrap();
                assert_eq!(request.spki.as_slice(), *key, "{label}: order {order} was asked for with another key");
                keys_compared += 1;
            }
        }
        assert!(orders(&events, What::Cancelled, label).is_empty(), "{label}: an order was given up");
        keys_in_all += distinct.len();
    }
    assert!(keys_compared >= ISSUERS, "{keys_compared} orders could be compared with their keys");
    println!("{requests_in_all} requests for {keys_in_all} keys of {ISSUERS} issuers");
    assert!(keys_in_all > 2 * ISSUERS, "too few orders to show anything: {keys_in_all}");
}
