//! Worlds at random: which faults there are at all is drawn first, so that each is also seen without the others.

use super::agenda::{DAY, HOUR, MINUTE, Ms, SECOND};
use super::check::Violation;
use super::measure::Totals;
use super::random::Random;
use super::scenario::outcome;
use super::setup::{Age, Agent, CREDENTIAL, CaSetup, CaState, Customers, Deed, Refusal, Says, Setup};
use super::world::Policy;
use crate::config::Rate;
use crate::registry::State;
use crate::renewal::Limits;
use serde::Serialize;
use std::ops::Range;
use std::time::Duration;

/// How long after the last fault everything must be in order.
const RECOVERY: Ms = 3 * DAY;

/// A world that was drawn and run under our policy.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    /// It repeats the world.
    pub seed: u64,
    /// What it is made of, in a line.
    pub what: String,
    /// Sums.
    pub totals: Totals,
    /// What must not happen, and did.
    pub violations: Vec<Violation>,
}

/// Draws a world from this seed and runs it under our policy. The error is a world that cannot be.
pub fn draw(seed: u64) -> Result<Drawn, String> {
    let setup = setup(seed);
    let faults = {
        let mut names: Vec<String> = setup.script.iter().map(|(_, deed)| name(deed)).collect();
        names.sort_unstable();
        names.dedup();
        names.join(" ")
    };
    let what = format!(
        "{} nodes, {} issuers, {} days, {:?}{}; {faults}",
        setup.nodes,
        setup.issuers,
        setup.length / DAY,
        setup.ca.refusal,
        if setup.ca.backoff.is_some() { ", a CA that rests" } else { "" }
    );
    let outcome = outcome(setup, Policy::Ours, seed)?;
    Ok(Drawn { seed, what, totals: outcome.totals, violations: outcome.violations })
}

/// The name of a deed without what it is done to.
fn name(deed: &Deed) -> String {
    let text = format!("{deed:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn setup(seed: u64) -> Setup {
    let r = &mut Random::new(seed, 0x5a);
    let nodes = r.between(1, 3) as usize;
    let issuers = r.between(1, 20) as usize;
    let life_days = r.between(6, 50);
    let life = Duration::from_secs(life_days * 86_400);
    let length = r.between(8, 25) * DAY + RECOVERY;
    let timeout = r.between(5, 60) * SECOND;
    let limits = Limits {
        evidence_max_age: Duration::from_secs(r.between(120, 3_600)),
        confirm_within: Duration::from_secs(r.between(5, 60)),
        ramp: Duration::from_secs(r.between(0, 1_800)),
        submissions_per_day: r.between(24, 60) as u32,
        issuances_per_day: r.between(2, 5) as u32,
        ..Limits::default()
    };
    let refresh = (limits.evidence_max_age.as_millis() as Ms / r.between(2, 10)).max(10 * SECOND);
    let refusal = match r.below(3) {
        0 => Refusal::Clear,
        1 => Refusal::Opaque,
        _ => Refusal::Silence,
    };
    let mut setup = Setup {
        length,
        nodes,
        issuers,
        life,
        validity: life / r.between(8, 16) as u32,
        margin: life / 40,
        age: Age::Even(life * r.between(10, 90) as u32 / 100),
        credential: r.percent(50).then(|| (life * 2, life * r.between(10, 150) as u32 / 100)),
        agent: Agent {
            limits,
            rate: Rate { count: r.between(1, 120) as u32, per: Duration::from_secs(60) },
            max_in_flight: r.between(1, 4) as u32,
            attempts_per_day: r.between(10 * issuers as u64 + 20, 2_000) as u32,
            timeout,
            refresh,
        },
        ca: CaSetup {
            queues: r.between(1, 3) as usize,
            servers: r.between(3, 8) as usize,
            service: r.between(20, timeout / 4),
            backoff: r.percent(30).then(|| (r.between(2, 9) as usize, MINUTE, r.between(1, 10) * MINUTE)),
            hand_over: r.below(3) as u32,
            remembers: r.percent(50),
            refusal,
            ..CaSetup::default()
        },
        customers: r.percent(20).then(|| Customers { every: 5 * MINUTE, ..Customers::default() }),
        recovery: Duration::from_millis(RECOVERY),
        ..Setup::default()
    };
    let end = length - RECOVERY - HOUR;
    (setup.script, setup.troubles) = script(r, &setup, end);
    setup.quiet = Some(RECOVERY);
    more(&mut Random::new(seed, 0x5b), &mut setup, end);
    strangers(&mut Random::new(seed, 0x5c), &mut setup, end);
    setup
}

/// Labels that do not know us, and times in which the service knows nobody; drawn from a sequence of its own, too.
fn strangers(r: &mut Random, setup: &mut Setup, end: Ms) {
    if r.percent(15) {
        setup.ca.refusal = Refusal::Stranger;
        let first = r.index(setup.issuers);
        let keys = Deed::DestroyKeys(first..r.between(first as u64 + 1, setup.issuers as u64) as usize);
        setup.script.push((r.below(end), keys));
    }
    for _ in 0..if r.percent(15) { r.between(1, 3) } else { 0 } {
        let from = r.below(end);
        let to = (from + r.between(MINUTE, 3 * DAY)).min(end);
        setup.script.extend([(from, Deed::Ca(CaState::KnowsNobody)), (to, Deed::Ca(CaState::Up))]);
        setup.troubles.push((from, to));
    }
}

/// Faults that are drawn from a sequence of their own, so that a seed keeps the world it had without them.
fn more(r: &mut Random, setup: &mut Setup, end: Ms) {
    // Half of the worlds do without any.
    let has = |r: &mut Random| r.percent(25);
    if r.percent(50) {
        return;
    }
    if has(r) {
        setup.skews = (0..setup.nodes).map(|_| r.below(600_000) as i64 - 300_000).collect();
    }
    if has(r) && setup.issuers > 2 {
        let first = setup.issuers - r.between(1, setup.issuers as u64 / 2) as usize;
        setup.absent = first..setup.issuers;
        let joining = setup.absent.clone();
        let publish = Deed::Publish { issuers: joining, says: Says::State(State::Active), late: 0, lost_to: 0..0 };
        setup.script.push((r.below(end), publish));
    }
    if has(r) {
        setup.needs_approval = true;
        let every = r.between(1, 24) * HOUR;
        setup.script.extend((1..=setup.length / every).map(|n| (n * every, Deed::Approve(0..setup.nodes))));
    }
    let all = 0..setup.nodes;
    for kind in 0..6 {
        for _ in 0..if has(r) { r.between(1, 3) } else { 0 } {
            let from = r.below(end);
            let longest = [MINUTE, HOUR, DAY].get(r.index(3)).copied().unwrap_or(HOUR);
            let to = (from + r.between(SECOND, longest)).min(end);
            let seconds = r.between(1, 7_200);
            let node = r.index(setup.nodes);
            let (begin, over) = match kind {
                0 => (Deed::Ca(CaState::Busy(seconds)), Deed::Ca(CaState::Up)),
                1 => (Deed::Ca(CaState::Decides(r.percent(50).then_some(seconds))), Deed::Ca(CaState::Up)),
                2 => (Deed::Connections(r.below(3) as usize), Deed::Connections(usize::MAX)),
                3 => (Deed::Reload(all.clone()), Deed::Reload(all.clone())),
                4 => (Deed::Crash(node, r.below(40) as u32), Deed::Crash(node, r.below(5) as u32)),
                _ => {
                    let slot = r.between(1, setup.issuers as u64) as usize;
                    (Deed::IllFormed(slot), Deed::Replace(all.clone(), slot))
                }
            };
            setup.script.extend([(from, begin), (to, over)]);
            setup.troubles.push((from, to));
        }
    }
    if r.percent(30) {
        // No operator lifts anything in the end: what can go on by itself does.
        setup.script.retain(|(_, deed)| !matches!(deed, Deed::Unpark(_) | Deed::Resume(_)));
        setup.attended = false;
    }
}

type Script = Vec<(Ms, Deed)>;

/// Faults and what ends them, and from when to when they last; all is well again at `end`.
fn script(r: &mut Random, setup: &Setup, end: Ms) -> (Script, Vec<(Ms, Ms)>) {
    let (mut script, mut troubles) = (Vec::new(), Vec::new());
    let kinds: Vec<bool> = (0..KINDS).map(|_| r.percent(35)).collect();
    for kind in (0..KINDS).filter(|k| kinds.get(*k as usize).copied().unwrap_or(false)) {
        for _ in 0..r.between(1, 4) {
            let from = r.below(end);
            let longest = [MINUTE, HOUR, DAY, 10 * DAY].get(r.index(4)).copied().unwrap_or(HOUR);
            let to = (from + r.between(SECOND, longest)).min(end);
            fault(kind, r, setup, (from, to), &mut script);
            // What is said of the registry may come later than it is said, and to some never.
            let is_lost = matches!(script.last(), Some((_, Deed::Publish { lost_to, .. })) if !lost_to.is_empty());
            troubles.push((from, if is_lost { end } else { to + 10 * MINUTE }));
        }
    }
    // Everybody hears the registry's last word, and an operator lifts what only an operator lifts.
    script.push((end, Deed::Publish { issuers: 0..0, says: Says::Gone, late: 0, lost_to: 0..0 }));
    for node in 0..setup.nodes {
        script.push((end, Deed::Replace(node..node + 1, CREDENTIAL)));
        script.push((end + HOUR, Deed::Unpark(node..node + 1)));
        script.push((end + HOUR, Deed::Resume(node..node + 1)));
    }
    (script, troubles)
}

const KINDS: u64 = 14;

fn fault(kind: u64, r: &mut Random, setup: &Setup, (from, to): (Ms, Ms), script: &mut Vec<(Ms, Deed)>) {
    let some = |r: &mut Random, of: usize| {
        let first = r.index(of);
        first..r.between(first as u64 + 1, of as u64) as usize
    };
    let (nodes, issuers): (Range<usize>, Range<usize>) = (some(r, setup.nodes), some(r, setup.issuers));
    let slot = r.between(1, setup.issuers as u64) as usize;
    let publish = |r: &mut Random, says| Deed::Publish {
        issuers: issuers.clone(),
        says,
        late: if r.percent(50) { r.below(10 * MINUTE) } else { 0 },
        lost_to: if r.percent(30) { some(r, setup.nodes) } else { 0..0 },
    };
    let mut between = |begin: Deed, over: Deed| script.extend([(from, begin), (to, over)]);
    match kind {
        0 => {
            let says = [Says::State(State::Disabled), Says::State(State::Retired), Says::Gone, Says::Unreadable];
            let says = says.get(r.index(4)).copied().unwrap_or(Says::Gone);
            let (begin, over) = (publish(r, says), publish(r, Says::State(State::Active)));
            between(begin, over);
        }
        1 => between(Deed::RegistryDown(true), Deed::RegistryDown(false)),
        2 => between(Deed::Ca(CaState::Refuses), Deed::Ca(CaState::Up)),
        3 => between(Deed::Ca(CaState::Hangs), Deed::Ca(CaState::Up)),
        4 => between(Deed::CaSpeed(r.between(150, 5_000)), Deed::CaSpeed(100)),
        5 => script.push((from, Deed::DestroyKeys(issuers))),
        6 => between(Deed::Backdate(Some((issuers, setup.life * 4 / 5))), Deed::Backdate(None)),
        7 => script.push((from, Deed::Restart { nodes, dropping: 0..0, adding: 0..0 })),
        8 => between(Deed::Stop { nodes: nodes.clone(), if_over: 0 }, Deed::Start(nodes)),
        9 => {
            let by = match r.below(3) {
                0 => r.between(1, 240_000) as i64,
                1 => -(r.between(1, 3 * DAY) as i64),
                _ => r.between(1, 40 * DAY) as i64,
            };
            between(Deed::ClockJump(nodes.clone(), by), Deed::ClockJump(nodes, -by));
        }
        10 => between(Deed::DiskFull(nodes.clone(), true), Deed::DiskFull(nodes, false)),
        11 => between(Deed::HangsCheck(slot, true), Deed::HangsCheck(slot, false)),
        12 => script.push((from, Deed::Pause(nodes, Duration::from_millis(to - from)))),
        _ => {
            script.push((from, Deed::TellFrontEnd));
            script.push((to, Deed::RenewAll(nodes)));
        }
    }
}
