//! The connections of one worker: what each is at, and which to close to make room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::task::AbortHandle;

/// How many connections are looked at to find the one to close. A sample is enough: when there is a crowd of silent
/// clients, the sample is full of them.
const SAMPLE: usize = 64;
/// How many samples are taken where all connections in the first are at work.
const MAX_SAMPLES: usize = 16;

/// How much longer, in milliseconds, a client that takes no answers counts as having kept us waiting than one that we owe
/// nothing: the honest ones of a crowd have only just come.
const BLOCKED_AHEAD: u64 = 10_000;

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Accepted, and nothing has come.
    Fresh = 0,
    /// Between requests.
    Idle = 1,
    /// A request has begun to come.
    Reading = 2,
    /// A request is being answered.
    Busy = 3,
    /// hyper has the answer and sends it.
    Sending = 4,
    /// hyper has the head of a request, and not all of its body.
    Body = 5,
    /// The client does not take what we send.
    Blocked = 6,
}

impl Phase {
    /// Whether it is the client that keeps us waiting.
    fn waits_for_client(self) -> bool {
        match self {
            Phase::Fresh | Phase::Idle | Phase::Reading | Phase::Body | Phase::Blocked => true,
            Phase::Busy | Phase::Sending => false,
        }
    }
}

/// What one connection is at, and since when, in milliseconds since the worker began. Written by the connection's task,
/// read by its worker's.
#[derive(Debug)]
pub(super) struct Activity(AtomicU64);

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Vec<Option<Entry>>,
    free: Vec<usize>,
    open: usize,
    cursor: usize,
}

#[derive(Debug)]
struct Entry {
    activity: Arc<Activity>,
    task: Option<AbortHandle>,
}

impl Activity {
    pub(super) fn fresh(millis: u64) -> Self {
        let activity = Activity(AtomicU64::new(0));
        activity.set(Phase::Fresh, millis);
        activity
    }

    pub(super) fn set(&self, phase: Phase, millis: u64) {
        self.0.store(millis << 8 | phase as u64, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.0.load(Relaxed) & 0xff {
            0 => Phase::Fresh,
            1 => Phase::Idle,
            2 => Phase::Reading,
            3 => Phase::Busy,
            4 => Phase::Sending,
            5 => Phase::Body,
            _ => Phase::Blocked,
        }
    }

    fn since(&self) -> u64 {
        self.0.load(Relaxed) >> 8
    }

    /// By what those that wait are put in order; the least goes first.
    fn turn_to_go(&self) -> u64 {
        self.since().saturating_add(if self.phase() == Phase::Blocked { 0 } else { BLOCKED_AHEAD })
    }
}

impl Registry {
    /// Takes a connection in; gives its slot.
    pub(super) fn insert(&mut self, activity: Arc<Activity>) -> usize {
        let entry = Some(Entry { activity, task: None });
        self.open += 1;
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot)
        {
            *place = entry;
            return slot;
        }
        self.slots.push(entry);
        self.slots.len() - 1
    }

    /// Names the task of a connection.
    pub(super) fn set_task(&mut self, slot: usize, task: AbortHandle) {
        if let Some(Some(entry)) = self.slots.get_mut(slot) {
            entry.task = Some(task);
        }
    }

    pub(super) fn remove(&mut self, slot: usize) {
        if self.slots.get_mut(slot).and_then(Option::take).is_some() {
            self.open -= 1;
            self.free.push(slot);
        }
    }

    /// Connections there are.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Of the next few connections, the one that has waited for its client for longest, to be aborted; `None` when all
    /// that were looked at are at work. Its slot stays taken until its task has ended, but it is not offered twice.
    pub(super) fn take_idlest(&mut self) -> Option<AbortHandle> {
        (0..MAX_SAMPLES).find_map(|_| self.take_idlest_of_sample())
    }

    fn take_idlest_of_sample(&mut self) -> Option<AbortHandle> {
        let len = self.slots.len();
        let sample = (0..len.min(SAMPLE)).map(|n| (self.cursor + n) % len);
        let idlest = sample
            .filter_map(|slot| {
                let entry = self.slots.get(slot)?.as_ref()?;
                (entry.activity.phase().waits_for_client() && entry.task.is_some())
                    .then(|| (entry.activity.turn_to_go(), slot))
            })
            .min();
        self.cursor = (self.cursor + SAMPLE).checked_rem(len).unwrap_or(0);
        let (_, slot) = idlest?;
        self.slots.get_mut(slot)?.as_mut()?.task.take()
    }

    /// The tasks of the connections that `wanted` picks by phase and by the time they have been in it, each once.
    pub(super) fn take_tasks(&mut self, now: u64, wanted: impl Fn(Phase, u64) -> bool) -> Vec<AbortHandle> {
        let entries = self.slots.iter_mut().flatten();
        entries
            .filter(|e| wanted(e.activity.phase(), now.saturating_sub(e.activity.since())))
            .filter_map(|e| e.task.take())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_has_waited_longest_is_closed_and_none_at_work() {
        let mut registry = Registry::default();
        assert!(registry.take_idlest().is_none());
        let phases =
            [Phase::Busy, Phase::Idle, Phase::Reading, Phase::Fresh, Phase::Sending, Phase::Body, Phase::Blocked];
        let mut tasks = Vec::new();
        for (phase, since) in phases.into_iter().cycle().zip((0..700u64).rev()) {
            let activity = Arc::new(Activity::fresh(0));
            activity.set(phase, since);
            assert_eq!((activity.phase(), activity.since()), (phase, since));
            let slot = registry.insert(activity);
            tasks.push(tokio::spawn(std::future::pending::<()>()));
            registry.set_task(slot, tasks[slot].abort_handle());
        }
        // Of the first sample, slots 0 to 63, this is the one that has for longest not taken its answer.
        let first = registry.take_idlest().unwrap();
        assert_eq!(first.id(), tasks[62].abort_handle().id());
        let mut taken = 1;
        while registry.take_idlest().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 500, "all that wait, each once");
        assert_eq!(registry.open(), 700);
    }

    #[tokio::test]
    async fn who_takes_no_answers_goes_before_who_has_just_come() {
        let mut registry = Registry::default();
        let mut tasks = Vec::new();
        let phases = [(Phase::Fresh, 20_000), (Phase::Blocked, 29_000), (Phase::Idle, 1_000), (Phase::Blocked, 30_000)];
        for (phase, since) in phases {
            let activity = Arc::new(Activity::fresh(0));
            activity.set(phase, since);
            let slot = registry.insert(activity);
            tasks.push(tokio::spawn(std::future::pending::<()>()).abort_handle());
            registry.set_task(slot, tasks[slot].clone());
        }
        let gone: Vec<_> = std::iter::from_fn(|| registry.take_idlest()).map(|task| task.id()).collect();
        assert_eq!(gone, [2, 1, 0, 3].map(|slot: usize| tasks[slot].id()));
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut registry = Registry::default();
        let slots: Vec<_> = (0..3).map(|_| registry.insert(Arc::new(Activity::fresh(0)))).collect();
        assert_eq!(slots, [0, 1, 2]);
        registry.remove(1);
        registry.remove(1);
        assert_eq!(registry.open(), 2);
        assert_eq!(registry.insert(Arc::new(Activity::fresh(0))), 1);
        assert_eq!(registry.insert(Arc::new(Activity::fresh(0))), 3);
    }
}
