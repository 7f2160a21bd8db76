//! What two minutes of a real fleet (tests/agent_fleet.rs) cannot show: two hundred issuers of one CA service with the limits of a
//! configuration that names none, for two months in virtual time, of which twenty fail in every way all the while.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stillgood::agent::Settings;
use stillgood::config::Config;
use stillgood::ocsp::Serial;
use stillgood::registry::{IssuerId, State};
use stillgood::renewal::*;
use stillgood::time::{Clock, SystemClock, Timestamp};

const ISSUERS: usize = 200;
const DAYS: i64 = 60;
const LIFE: i64 = 30;
const START: i64 = 1_800_000_000;
const SECONDS: i64 = 86_400;
/// What responses and margin need of a signer's life.
const RESERVE: i64 = 5 * SECONDS;

/// What a CA does with each of its requests.
#[derive(Clone, Copy, Debug)]
enum Does {
    Issues,
    Fails(Scope, Kind),
    /// What it issues does not pass.
    IssuesBadly,
    /// Nothing, until the time is over.
    Hangs,
}

const FAILURES: [Does; 7] = [
    Does::Fails(Scope::Item, Kind::Permanent),
    Does::Fails(Scope::Issuer, Kind::Permanent),
    Does::IssuesBadly,
    Does::Fails(Scope::Item, Kind::Unknown),
    Does::Fails(Scope::Issuer, Kind::Transient),
    Does::Fails(Scope::Endpoint, Kind::Transient),
    Does::Hangs,
];

fn slot(n: usize) -> SlotId {
    SlotId::Signer(IssuerId::new(&format!("ca-{n}")).unwrap())
}

fn does(slot: &SlotId) -> Does {
    let n: usize = slot.to_string().trim_start_matches("ca-").parse().unwrap();
    if n.is_multiple_of(10) { FAILURES[n / 10 % FAILURES.len()] } else { Does::Issues }
}

/// A request, from when to when it was on the wire.
struct OnTheWire {
    slot: SlotId,
    from: i64,
    to: i64,
}

struct World {
    core: Core,
    now: i64,
    timeout: i64,
    /// Answers to come, by when and in which order.
    coming: BTreeMap<(i64, usize), Event>,
    lives: BTreeMap<SlotId, SignerLife>,
    log: Vec<OnTheWire>,
    renewed: BTreeMap<SlotId, usize>,
    count: usize,
}

impl World {
    fn life(&mut self, from: i64) -> SignerLife {
        self.count += 1;
        let at = Timestamp::from_unix;
        let serial = Serial::from_unsigned(&self.count.to_be_bytes()).unwrap();
        SignerLife { serial, not_before: at(from), not_after: at(from + LIFE * SECONDS) }
    }

    fn tell(&mut self, event: Event) {
        // What comes too late is ignored, and is no fault.
        let _ = self.core.handle(event, Timestamp::from_unix(self.now));
    }

    fn carry_out(&mut self, action: Action) {
        let event = match action {
            Action::Persist(_) | Action::Tell(_) | Action::Cancel { .. } | Action::HangUp { .. } => return,
            Action::ConfirmActive => Event::Confirmed { generation: 1, at: Timestamp::from_unix(self.now) },
            Action::Prepare(r) => Event::Prepared { slot: r.slot, order: r.order },
            Action::Submit(r) => return self.submit(r),
            Action::Verify { slot, order } => match does(&slot) {
                Does::IssuesBadly => Event::Rejected { slot, order, text: "no nocheck".to_owned() },
                _ => {
                    let life = self.life(self.now - 600);
                    Event::Verified { slot, order, life }
                }
            },
            Action::Stage { slot, order } => Event::Staged { slot, order },
            Action::Activate { slot, order } => {
                if let Some(life) = self.lives.get(&slot) {
                    let deadline = life.not_after.unix() - RESERVE;
                    assert!(self.now <= deadline, "{slot} is renewed {} s too late", self.now - deadline);
                }
                let life = self.life(self.now - 600);
                self.lives.insert(slot.clone(), life);
                *self.renewed.entry(slot.clone()).or_default() += 1;
                Event::Activated { slot, order }
            }
        };
        self.tell(event);
    }

    fn submit(&mut self, request: Request) {
        let Request { slot, order, attempt, .. } = request;
        self.count += 1;
        // At first so fast that the places on the wire would let more through than the rate, later so slowly that it is they that
        // count.
        let is_new = self.now < START + SECONDS;
        let took = if is_new { 1 } else { 1 + (self.count as i64 * 7) % (self.timeout / 3) };
        let failed = |scope, kind| {
            let failure = Failure::new(scope, kind, "it did not work");
            Event::Failed { slot: slot.clone(), order, step: Step::Submit(attempt), failure }
        };
        let (took, event) = match does(&slot) {
            Does::Issues | Does::IssuesBadly => (took, Event::Issued { slot: slot.clone(), order }),
            Does::Fails(scope, kind) => (took, failed(scope, kind)),
            Does::Hangs => (self.timeout, failed(Scope::Endpoint, Kind::Unknown)),
        };
        self.log.push(OnTheWire { slot, from: self.now, to: self.now + took });
        self.coming.insert((self.now + took, self.count), event);
    }

    fn run(&mut self, until: i64) {
        while self.now < until {
            while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let event = entry.remove();
                self.tell(event);
            }
            loop {
                let actions = self.core.poll(Timestamp::from_unix(self.now));
                if actions.is_empty() {
                    break;
                }
                actions.into_iter().for_each(|action| self.carry_out(action));
            }
            let sync = (self.now / 300 + 1) * 300;
            let wake = self.core.next_wakeup(Timestamp::from_unix(self.now)).map_or(until, Timestamp::unix);
            let answer = self.coming.keys().next().map_or(until, |(at, _)| *at);
            self.now = wake.min(sync).min(answer).max(self.now + i64::from(answer > self.now));
            if self.now == sync {
                self.tell(Event::Confirmed { generation: 1, at: Timestamp::from_unix(sync) });
            }
        }
    }
}

#[test]
fn for_two_months_the_limits_hold_at_every_instant_and_what_is_parked_is_asked_at_most_once_a_day() {
    let text = "[enrolment.main]\nprotocol = \"local\"\nca_keys = \"k\"\n";
    let config = Config::parse(text, Path::new("stillgood.toml")).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = Settings::of(&config, &clock, None).unwrap();
    let (limits, service) = (settings.limits.clone(), &settings.services[0]);
    let endpoint = service.spec.clone();
    let timeout = i64::try_from(service.timeout.as_secs()).unwrap();
    let mut world = World {
        core: Core::new(limits.clone(), NodeId::named("node")),
        now: START,
        timeout,
        coming: BTreeMap::new(),
        lives: BTreeMap::new(),
        log: Vec::new(),
        renewed: BTreeMap::new(),
        count: 0,
    };
    let issuer = |n: usize| IssuerSpec {
        id: IssuerId::new(&format!("ca-{n}")).unwrap(),
        state: State::Active,
        endpoint: endpoint.id.clone(),
        profile: "ocsp".to_owned(),
        validity: Duration::from_secs(4 * 86_400),
        margin: Duration::from_secs(86_400),
        needs_approval: false,
        rest: 0,
        held_by: None,
    };
    world.tell(Event::Endpoints(vec![endpoint.clone()]));
    let (synced_at, issuers) = (Timestamp::from_unix(START), (0..ISSUERS).map(issuer).collect());
    world.tell(Event::Registry(RegistryView { generation: 1, synced_at, issuers, quarantined: Vec::new() }));
    for n in 0..ISSUERS {
        // Most are new: nothing but the rate spreads their first requests. Those that fail have a signer whose end comes near, so
        // that they are urgent and take every place on the wire.
        let life = (!matches!(does(&slot(n)), Does::Issues)).then(|| world.life(START - LIFE * SECONDS / 2));
        world.lives.extend(life.map(|life| (slot(n), life)));
        world.tell(Event::Signer { slot: slot(n), life });
    }
    world.run(START + DAYS * SECONDS);

    // On time is asserted at each activation; that there were enough of them, here.
    for n in 0..ISSUERS {
        let renewed = world.renewed.get(&slot(n)).copied().unwrap_or(0);
        match does(&slot(n)) {
            Does::Issues => assert!((3..=6).contains(&renewed), "ca-{n} was renewed {renewed} times"),
            _ => assert_eq!(renewed, 0, "ca-{n}"),
        }
    }
    // At every instant: it can only be exceeded where a request begins.
    let most = endpoint.max_in_flight as usize;
    let per = i64::try_from(endpoint.rate.per.as_secs()).unwrap();
    let granted = endpoint.rate.count as usize;
    let (mut most_seen, mut busiest_minute) = (0, 0);
    for (i, request) in world.log.iter().enumerate() {
        // The log is in the order of time, and none is on the wire for longer than the time-out.
        let near = world.log[..=i].iter().rev().take_while(|r| r.from + timeout >= request.from);
        let in_flight = near.filter(|r| r.to > request.from).count();
        assert!(in_flight <= most, "{in_flight} requests at a time, {} s after the start", request.from - START);
        let minute = world.log[i..].iter().take_while(|r| r.from < request.from + per).count();
        (most_seen, busiest_minute) = (most_seen.max(in_flight), busiest_minute.max(minute));
        assert!(minute <= granted, "{minute} requests within {per} s, {} s after the start", request.from - START);
    }
    let failing: BTreeSet<usize> = (0..ISSUERS).filter(|n| !matches!(does(&slot(*n)), Does::Issues)).collect();
    assert_eq!(failing.len(), 20);
    for n in failing {
        let times: Vec<i64> = world.log.iter().filter(|r| r.slot == slot(n)).map(|r| r.from).collect();
        let busiest = |from: &i64| times.iter().filter(|at| (*from..*from + SECONDS).contains(*at)).count();
        let a_day = times.iter().map(busiest).max().unwrap_or(0);
        let does = does(&slot(n));
        assert!(times.len() > 20, "ca-{n} {does:?}: it is asked, {} times", times.len());
        match does {
            Does::Fails(_, Kind::Permanent) | Does::IssuesBadly => assert_eq!(a_day, 1, "ca-{n} {does:?} is parked"),
            _ => assert!(a_day <= limits.submissions_per_day as usize, "ca-{n} {does:?}: {a_day} within a day"),
        }
    }
    let failed = world.log.iter().filter(|r| !matches!(does(&r.slot), Does::Issues)).count();
    println!(
        "{} requests, {failed} of them for what fails; at most {most_seen} at a time, {busiest_minute} within {per} s",
        world.log.len()
    );
    assert_eq!(most_seen, most, "the limit is reached, so that it is tried");
    assert!(busiest_minute > granted * 3 / 4, "and nearly that of the rate");
}
