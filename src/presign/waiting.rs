//! Who waits for which signature: pure. Those who ask for the same answer wait for one signature.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Instant;

/// Requests that wait, at most so many, in the order in which they came. `K` says which answers are the same, `R` is where
/// the answer goes.
#[derive(Debug)]
pub struct Waiting<K, R> {
    most: usize,
    count: usize,
    next: u64,
    order: VecDeque<u64>,
    flights: HashMap<u64, Flight<K, R>>,
    by_key: HashMap<K, u64>,
}

/// One signature, to be made or in the making.
#[derive(Debug)]
struct Flight<K, R> {
    key: Option<K>,
    request: Bytes,
    waiters: Vec<(Instant, R)>,
    /// It is being signed.
    has_begun: bool,
}

impl<K, R> Waiting<K, R>
where
    K: Hash + Eq + Clone,
{
    /// Nobody waits; at most `most` may.
    pub fn new(most: usize) -> Self {
        Waiting { most, count: 0, next: 0, order: VecDeque::new(), flights: HashMap::new(), by_key: HashMap::new() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether another one may wait.
    pub fn has_room(&self) -> bool {
        self.count < self.most
    }

    /// Waits, until then, for a signature that others wait for already. Gives `reply` back if there is none.
    pub fn join(&mut self, key: &K, until: Instant, reply: R) -> Result<(), R> {
        let flight = self.by_key.get(key).and_then(|id| self.flights.get_mut(id));
        let Some(flight) = flight else { return Err(reply) };
        flight.waiters.push((until, reply));
        self.count += 1;
        Ok(())
    }

    /// Waits, until then, for a signature of its own, which those with the same key may join.
    pub fn begin(&mut self, key: Option<K>, request: Bytes, until: Instant, reply: R) {
        let id = self.next;
        self.next += 1;
        if let Some(key) = &key {
            self.by_key.insert(key.clone(), id);
        }
        self.flights.insert(id, Flight { key, request, waiters: vec![(until, reply)], has_begun: false });
        self.order.push_back(id);
        self.count += 1;
    }

    /// The next request to be signed for, as long as somebody still waits for it.
    pub fn take(&mut self, still_waits: impl Fn(&R) -> bool) -> Option<(u64, Bytes)> {
        while let Some(id) = self.order.pop_front() {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            if flight.waiters.iter().any(|(_, reply)| still_waits(reply)) {
                flight.has_begun = true;
                return Some((id, flight.request.clone()));
            }
            self.finish(id);
        }
        None
    }

    /// Ends a signature; gives everybody who waited for it.
    pub fn finish(&mut self, id: u64) -> Vec<R> {
        let Some(flight) = self.flights.remove(&id) else { return Vec::new() };
        if let Some(key) = flight.key.filter(|key| self.by_key.get(key) == Some(&id)) {
            self.by_key.remove(&key);
        }
        self.count -= flight.waiters.len();
        flight.waiters.into_iter().map(|(_, reply)| reply).collect()
    }

    /// Takes out those who have waited for long enough, each with its request, and says when the next one will have.
    pub fn expire(&mut self, now: Instant) -> (Vec<(Bytes, R)>, Option<Instant>) {
        let (mut expired, mut next, mut left) = (Vec::new(), None, Vec::new());
        for (id, flight) in &mut self.flights {
            for (_, reply) in flight.waiters.extract_if(.., |(until, _)| *until <= now) {
                expired.push((flight.request.clone(), reply));
            }
            let first = flight.waiters.iter().map(|(until, _)| *until).min();
            next = next.into_iter().chain(first).min();
            if flight.waiters.is_empty() && !flight.has_begun {
                left.push(*id);
            }
        }
        self.count -= expired.len();
        if !left.is_empty() {
            left.into_iter().for_each(|id| drop(self.finish(id)));
            self.order.retain(|id| self.flights.contains_key(id));
        }
        (expired, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn who_asks_for_what_is_being_signed_joins_and_who_comes_after_it_does_not() {
        let start = crate::time::monotonic();
        let mut waiting: Waiting<&str, u8> = Waiting::new(9);
        assert_eq!(waiting.join(&"a", start, 0), Err(0));
        waiting.begin(Some("a"), Bytes::from("request"), start, 1);
        assert_eq!(waiting.join(&"a", start, 2), Ok(()));
        let (id, request) = waiting.take(|_| true).unwrap();
        assert_eq!(&request[..], b"request");
        assert_eq!(waiting.join(&"a", start, 3), Ok(()), "while it is signed");
        assert_eq!(waiting.take(|_| true), None);
        assert_eq!(waiting.finish(id), [1, 2, 3]);
        assert_eq!(waiting.join(&"a", start, 4), Err(4));
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn nothing_is_signed_that_nobody_waits_for() {
        let start = crate::time::monotonic();
        let later = start + Duration::from_secs(1);
        let mut waiting: Waiting<&str, u8> = Waiting::new(9);
        waiting.begin(Some("gone"), Bytes::new(), later, 1);
        waiting.begin(Some("late"), Bytes::from("late"), start, 2);
        waiting.begin(None, Bytes::from("here"), later, 3);
        assert_eq!(waiting.expire(start), (vec![(Bytes::from("late"), 2)], Some(later)));
        assert_eq!(waiting.order.len(), 2, "what has run out does not fill the queue");
        assert_eq!(waiting.take(|reply| *reply != 1).unwrap().1, "here");
        assert_eq!((waiting.len(), waiting.by_key.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn everybody_is_answered_once_and_the_count_is_right(steps in proptest::collection::vec((0_u8..5, 0_u8..4), 0..200)) {
            let start = crate::time::monotonic();
            let at = |n: usize| start + Duration::from_secs(n as u64);
            let mut waiting: Waiting<u8, usize> = Waiting::new(usize::MAX);
            let (mut asked, mut answered, mut running) = (0, Vec::new(), Vec::new());
            for (n, (what, key)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        if let Err(reply) = waiting.join(&key, at(n + 20), asked) {
                            waiting.begin((key > 0).then_some(key), Bytes::new(), at(n + 20), reply);
                        }
                        asked += 1;
                    }
                    2 => running.extend(waiting.take(|_| true).map(|(id, _)| id)),
                    3 => if let Some(id) = running.pop() { answered.extend(waiting.finish(id)) },
                    _ => answered.extend(waiting.expire(at(n)).0.into_iter().map(|(_, reply)| reply)),
                }
                prop_assert_eq!(waiting.len(), asked - answered.len());
            }
            running.into_iter().for_each(|id| answered.extend(waiting.finish(id)));
            answered.extend(waiting.expire(at(1000)).0.into_iter().map(|(_, reply)| reply));
            answered.sort_unstable();
            prop_assert_eq!(answered, (0..asked).collect::<Vec<_>>());
            prop_assert!(waiting.flights.is_empty() && waiting.by_key.is_empty() && waiting.order.is_empty());
        }
    }
}
