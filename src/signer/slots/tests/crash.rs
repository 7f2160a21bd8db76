//! What a crash or a failing disk leaves, at every operation of it.

use super::disk::{CrashDisk, Trouble};
use super::*;
use std::collections::{BTreeMap, BTreeSet};

const ROOT: &str = "/signers";

/// A step of the agent.
#[derive(Clone, Debug)]
enum Step {
    Prepare(String),
    Keep(String),
    Stage(String),
    Activate(String),
    Retire,
    Cancel(String),
    /// Its issuer is gone.
    Gone,
    /// And has been for long enough.
    Empty,
}

/// The agent of one slot, and what it knows to be true.
struct Agent {
    disk: Arc<CrashDisk>,
    slot: Slot,
    /// What became current last, and what was becoming it.
    current: Option<String>,
    next: Option<String>,
    prepared: BTreeMap<String, Prepared>,
    /// The text of each key.
    keys: BTreeMap<String, Vec<u8>>,
    /// Orders that are being destroyed, or are.
    doomed: BTreeSet<String>,
    context: String,
}

impl Agent {
    fn new(trouble: Trouble, seed: u64) -> Self {
        let disk = Arc::new(CrashDisk::new(Path::new(ROOT), trouble, seed));
        let slot = Self::opened(&disk, "new");
        Agent {
            disk,
            slot,
            current: None,
            next: None,
            prepared: BTreeMap::new(),
            keys: BTreeMap::new(),
            doomed: BTreeSet::new(),
            context: format!("{trouble:?}, seed {seed}"),
        }
    }

    fn opened(disk: &Arc<CrashDisk>, context: &str) -> Slot {
        let (slots, faults) = Slots::load(disk.clone(), Path::new(ROOT), None).unwrap();
        assert_eq!(faults, [], "{context}: a crash is no fault");
        slots.slot("ca")
    }

    fn try_step(&mut self, step: &Step) -> Result<(), SlotError> {
        match step {
            Step::Prepare(order) => {
                let prepared = self.slot.order(order).prepare(KeyKind::Ed25519, request)?;
                let before = self.prepared.insert(order.clone(), prepared.clone());
                assert!(before.is_none_or(|b| b == prepared), "{}: {order} has another key or request", self.context);
                let text = self.disk.read(&Path::new(ROOT).join("ca").join(format!("{order}.key")), true)?;
                self.keys.insert(order.clone(), text.to_vec());
            }
            Step::Keep(order) => {
                let n = order.trim_start_matches('o').parse().unwrap();
                let certificate = certificate(&self.prepared[order].spki_der, n);
                self.slot.order(order).keep_certificate(certificate.der(), &[])?;
            }
            Step::Stage(order) => self.slot.stage(order)?,
            Step::Activate(order) => {
                self.next = Some(order.clone());
                self.doomed.extend(self.slot.previous().map(|previous| previous.order.clone()));
                self.slot.activate(order, END)?;
                self.current = self.next.take();
            }
            Step::Retire => {
                self.doomed.extend(self.slot.previous().map(|previous| previous.order.clone()));
                self.slot.retire_previous(END)?;
            }
            Step::Cancel(order) => {
                self.doomed.insert(order.clone());
                self.slot.cancel(order)?;
            }
            Step::Gone => self.slot.set_gone(Some(END))?,
            Step::Empty => {
                let places = [self.slot.current(), self.slot.next(), self.slot.previous()];
                self.doomed.extend(places.into_iter().flatten().map(|i| i.order.clone()));
                self.next = self.next.take().or(self.current.take());
                self.slot.empty()?;
                self.next = None;
            }
        }
        Ok(())
    }

    /// Takes a step, through deaths and failures, until it is done.
    fn step(&mut self, step: &Step) {
        for _ in 0..10 {
            let result = self.try_step(step);
            if self.disk.is_dead() {
                self.disk.crash(Trouble::None);
                self.restart();
                continue;
            }
            self.check();
            match result {
                Ok(()) => return,
                Err(SlotError::File(_)) => {}
                Err(error) => panic!("{}: {step:?}: {error}", self.context),
            }
        }
        panic!("{}: {step:?} is never done", self.context);
    }

    fn restart(&mut self) {
        self.slot = Self::opened(&self.disk, &self.context);
        self.check();
        self.check_orders();
    }

    fn check(&self) {
        let (context, now) = (&self.context, self.slot.current().map(|current| current.order.clone()));
        assert!(now == self.current || now == self.next, "{context}: {now:?} of {:?}, {:?}", self.current, self.next);
        assert!(now.is_some() || self.current.is_none(), "{context}: no signer");
    }

    /// Orders that are not given up have the key they began with.
    fn check_orders(&self) {
        let context = &self.context;
        for (order, prepared) in self.prepared.iter().filter(|(order, _)| !self.doomed.contains(*order)) {
            assert_eq!(self.slot.order(order).prepared().unwrap().as_ref(), Some(prepared), "{context}: {order}");
        }
    }

    /// After all steps and one more start nothing is left but the current signer and open orders.
    fn finish(mut self) {
        self.disk.crash(Trouble::None);
        self.restart();
        let names = self.disk.names(&Path::new(ROOT).join("ca")).unwrap();
        assert!(names.iter().all(|n| name::order_of(n).is_some() || n == name::POINTER), "{}: {names:?}", self.context);
        for (order, key) in &self.keys {
            assert_eq!(self.disk.holds(key), !self.doomed.contains(order), "{}: the key of {order}", self.context);
        }
    }
}

fn script() -> Vec<Step> {
    let order = |n: u32| format!("o{n}");
    let whole = |n| [Step::Prepare(order(n)), Step::Keep(order(n)), Step::Stage(order(n)), Step::Activate(order(n))];
    let mut steps: Vec<Step> = (1..=3).flat_map(whole).collect();
    steps.extend([Step::Retire, Step::Prepare(order(4)), Step::Cancel(order(4)), Step::Prepare(order(5))]);
    steps.extend([Step::Keep(order(5)), Step::Stage(order(5)), Step::Cancel(order(5)), Step::Prepare(order(6))]);
    steps
}

fn run(trouble: Trouble, seed: u64) -> u32 {
    let mut agent = Agent::new(trouble, seed);
    for step in script() {
        agent.step(&step);
    }
    let operations = agent.disk.operations();
    assert_eq!(agent.current.as_deref(), Some("o3"));
    assert_eq!(agent.slot.open_orders().unwrap(), ["o6"]);
    agent.finish();
    operations
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_signer_or_the_new_one_and_each_order_its_key() {
    let operations = run(Trouble::None, 0);
    assert!(operations > 150, "{operations}");
    for at in 0..operations {
        for seed in 0..2 {
            run(Trouble::Death(at), seed);
        }
    }
}

#[test]
fn a_crash_while_the_signers_of_an_issuer_that_is_gone_are_destroyed_leaves_all_of_them_or_none() {
    let run = |trouble, seed| {
        let mut agent = Agent::new(trouble, seed);
        for step in script().iter().filter(|step| !matches!(step, Step::Retire)).chain(&[Step::Gone, Step::Empty]) {
            agent.step(step);
        }
        assert_eq!(agent.slot.gone_since(), Some(END));
        assert!(!agent.slot.is_filled() && agent.slot.current().is_none() && agent.slot.previous().is_none());
        assert_eq!(agent.slot.open_orders().unwrap(), ["o6"], "the CA may know of it");
        let operations = agent.disk.operations();
        agent.finish();
        operations
    };
    let operations = run(Trouble::None, 0);
    for at in 100..operations {
        run(Trouble::Death(at), 0);
        run(Trouble::Errors(at, 4), 0);
    }
}

#[test]
fn a_disk_that_fails_for_a_while_leaves_the_old_signer_or_the_new_one() {
    let operations = run(Trouble::None, 0);
    for at in 0..operations {
        for count in [1, 4] {
            run(Trouble::Errors(at, count), 0);
        }
    }
}

#[test]
fn a_step_that_fails_and_is_given_up_leaves_nothing_behind() {
    let order = |n: u32| format!("o{n}");
    let whole = |n| [Step::Prepare(order(n)), Step::Keep(order(n)), Step::Stage(order(n)), Step::Activate(order(n))];
    for at in 0..90 {
        for seed in 0..2 {
            let mut agent = Agent::new(Trouble::None, seed);
            whole(1).iter().for_each(|step| agent.step(step));
            agent.disk.expect(Trouble::Errors(at, 1));
            let is_given_up = whole(2).iter().take(3).any(|step| agent.try_step(step).is_err());
            // The other order comes instead.
            agent.step(&Step::Cancel(order(2)));
            if is_given_up && seed % 2 == 0 {
                whole(3).iter().for_each(|step| agent.step(step));
                agent.step(&Step::Retire);
            }
            agent.finish();
        }
    }
}

#[test]
fn crash_upon_crash_loses_no_signer_and_no_key() {
    for seed in 0..100_u64 {
        let mut random: u64 = seed;
        let mut draw = |below: u64| {
            random = (random ^ (random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9);
            (random >> 33) % below
        };
        let mut agent = Agent::new(Trouble::Death(draw(60) as u32), seed);
        for n in 1..8 {
            let order = format!("o{n}");
            let mut steps = vec![Step::Prepare(order.clone()), Step::Keep(order.clone()), Step::Stage(order.clone())];
            steps.truncate(1 + draw(3) as usize);
            steps.push(if steps.len() == 3 && draw(3) > 0 { Step::Activate(order) } else { Step::Cancel(order) });
            if draw(2) == 0 {
                steps.push(Step::Retire);
            }
            for step in steps {
                agent.step(&step);
                if draw(4) == 0 {
                    // The machine goes down between two steps, or soon.
                    agent.disk.crash(Trouble::None);
                    agent.restart();
                    agent.disk.expect(Trouble::Death(draw(40) as u32));
                }
            }
        }
        agent.disk.crash(Trouble::None);
        agent.restart();
        agent.step(&Step::Retire);
        agent.finish();
    }
}
