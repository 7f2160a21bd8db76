//! Which slice is signed next: pure, ordered by due time.

use crate::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Work in order: first what has been due longest.
///
/// Keys name work that recurs; each has at most one due time, the one set last.
#[derive(Debug)]
pub struct Queue<K> {
    due: HashMap<K, Timestamp>,
    heap: BinaryHeap<Reverse<(Timestamp, K)>>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K> {
    /// Work that is due. Its due time is forgotten; set it again when it is done.
    Due(K),
    /// Nothing until then, or until something is added.
    Wait(Option<Timestamp>),
}

impl<K> Default for Queue<K>
where
    K: Ord,
{
    fn default() -> Self {
        Queue { due: HashMap::new(), heap: BinaryHeap::new() }
    }
}

impl<K> Queue<K>
where
    K: Ord + std::hash::Hash + Clone,
{
    /// Makes a key due at a time, unless it is due earlier already.
    pub fn set_due_by(&mut self, key: K, at: Timestamp) {
        if self.due(&key).is_none_or(|due| at < due) {
            self.set_due(key, at);
        }
    }

    /// Sets when a key is due, instead of what was set before.
    pub fn set_due(&mut self, key: K, at: Timestamp) {
        if self.due.insert(key.clone(), at) != Some(at) {
            self.heap.push(Reverse((at, key)));
        }
        // Keys that are set again and again must not fill the heap with times that no longer hold.
        if self.heap.len() > 64 + 2 * self.due.len() {
            self.heap = self.due.iter().map(|(key, at)| Reverse((*at, key.clone()))).collect();
        }
    }

    /// Makes due at `now` what is due later, up to `until`.
    pub fn pull_in(&mut self, now: Timestamp, until: Timestamp) {
        let early: Vec<K> =
            self.due.iter().filter(|(_, at)| **at > now && **at <= until).map(|(key, _)| key.clone()).collect();
        for key in early {
            self.set_due(key, now);
        }
    }

    /// When a key is due.
    pub fn due(&self, key: &K) -> Option<Timestamp> {
        self.due.get(key).copied()
    }

    /// Forgets keys.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.due.retain(|key, _| keep(key));
    }

    /// Takes the next work.
    pub fn poll(&mut self, now: Timestamp) -> Next<K> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if self.due.get(key) != Some(at) {
                self.heap.pop();
                continue;
            }
            if *at > now {
                return Next::Wait(Some(*at));
            }
            let key = key.clone();
            self.heap.pop();
            self.due.remove(&key);
            return Next::Due(key);
        }
        Next::Wait(None)
    }

    /// How much is due now.
    pub fn backlog(&self, now: Timestamp) -> usize {
        self.due.values().filter(|at| **at <= now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_unix(s)
    }

    proptest! {
        #[test]
        fn keys_come_out_once_in_the_order_of_their_last_due_time(sets in proptest::collection::vec((0_u8..20, 0_i64..100), 0..300)) {
            let mut q: Queue<u8> = Queue::default();
            let mut wanted = HashMap::new();
            for (key, at) in sets {
                q.set_due(key, t(at));
                wanted.insert(key, at);
            }
            let mut last = -1;
            while let Next::Due(key) = q.poll(t(1000)) {
                let at = wanted.remove(&key).expect("came out once");
                prop_assert!(at >= last);
                last = at;
            }
            prop_assert!(wanted.is_empty());
        }

        #[test]
        fn nothing_comes_out_before_it_is_due(keys in proptest::collection::vec(1_i64..100, 1..50), now in 0_i64..100) {
            let mut q: Queue<usize> = Queue::default();
            for (i, at) in keys.iter().enumerate() {
                q.set_due(i, t(*at));
            }
            let mut out = 0;
            let next = loop {
                match q.poll(t(now)) {
                    Next::Due(i) => { prop_assert!(keys[i] <= now); out += 1; }
                    other => break other,
                }
            };
            prop_assert_eq!(out, keys.iter().filter(|at| **at <= now).count());
            prop_assert_eq!(next, Next::Wait(keys.iter().filter(|at| **at > now).min().map(|at| t(*at))));
        }
    }
}
