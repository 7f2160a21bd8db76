//! Changes that go before everything else: pure. Each waits at most once, so that there are never more than there are serials.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Bound::{Excluded, Unbounded};

/// How urgent a change is; what is less is more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Revocations are what clients are hurt by when they are late.
    Revoked,
    /// Another status, or a serial that is new.
    Changed,
    /// Nothing has changed, but it lies in too small a segment.
    Gathered,
}

impl Urgency {
    const ALL: [Urgency; 3] = [Urgency::Revoked, Urgency::Changed, Urgency::Gathered];
}

/// What waits to be signed and what is being signed, by group (an issuer and a hash). More urgent things come out first,
/// whenever they came; groups take turns.
#[derive(Debug)]
pub struct Urgent<G, T> {
    groups: HashMap<G, Group<T>>,
    turns: [VecDeque<G>; 3],
}

#[derive(Debug)]
struct Group<T> {
    lanes: [Lane<T>; 3],
    signing: HashMap<T, Urgency>,
}

#[derive(Debug)]
struct Lane<T> {
    items: BTreeSet<T>,
    /// Where the last batch ended: the next begins behind it, so that nothing waits for ever.
    end: Option<T>,
    has_turn: bool,
}

impl<G, T> Default for Urgent<G, T> {
    fn default() -> Self {
        Urgent { groups: HashMap::new(), turns: Default::default() }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        let lane = || Lane { items: BTreeSet::new(), end: None, has_turn: false };
        Group { lanes: [lane(), lane(), lane()], signing: HashMap::new() }
    }
}

impl<G, T> Urgent<G, T>
where
    G: Hash + Eq + Clone,
    T: Hash + Ord + Copy,
{
    /// Adds an item, unless it waits already and is as urgent, or is being signed as just that. Whoever signs looks again
    /// after [`Urgent::done`] whether what was signed still holds.
    pub fn push(&mut self, group: &G, item: T, urgency: Urgency) {
        let place = self.groups.entry(group.clone()).or_default();
        if place.signing.get(&item).is_some_and(|as_what| *as_what == urgency || urgency == Urgency::Gathered) {
            return;
        }
        for (as_what, lane) in Urgency::ALL.into_iter().zip(&mut place.lanes) {
            if as_what < urgency {
                if lane.items.contains(&item) {
                    return;
                }
            } else if as_what > urgency {
                lane.items.remove(&item);
            } else {
                lane.items.insert(item);
            }
        }
        self.give_turn(group, urgency);
    }

    /// Takes up to `most` items of one group that are at least so urgent, and as urgent as each other.
    pub fn take(&mut self, most: usize, least: Urgency) -> Option<(G, Urgency, Vec<T>)> {
        for urgency in Urgency::ALL.into_iter().filter(|urgency| *urgency <= least) {
            while let Some(group) = self.turns.get_mut(urgency as usize).and_then(VecDeque::pop_front) {
                let Some(place) = self.groups.get_mut(&group) else { continue };
                let Some(lane) = place.lanes.get_mut(urgency as usize) else { continue };
                lane.has_turn = false;
                let behind = lane.end.map_or(Unbounded, Excluded);
                let mut items: Vec<T> = lane.items.range((behind, Unbounded)).take(most).copied().collect();
                let again = most.saturating_sub(items.len());
                items
                    .extend(lane.items.iter().take_while(|item| lane.end.is_some_and(|end| **item <= end)).take(again));
                for item in &items {
                    lane.items.remove(item);
                    place.signing.insert(*item, urgency);
                }
                lane.end = items.last().copied().filter(|_| !lane.items.is_empty());
                self.give_turn(&group, urgency);
                if !items.is_empty() {
                    return Some((group, urgency, items));
                }
                self.clear(&group);
            }
        }
        None
    }

    /// They have been signed, or given up.
    pub fn done(&mut self, group: &G, items: &[T]) {
        if let Some(place) = self.groups.get_mut(group) {
            for item in items {
                place.signing.remove(item);
            }
        }
        self.clear(group);
    }

    /// Forgets groups.
    pub fn retain(&mut self, keep: impl Fn(&G) -> bool) {
        self.groups.retain(|group, _| keep(group));
        self.turns.iter_mut().for_each(|turns| turns.retain(&keep));
    }

    /// How many batches of at most `most` items wait.
    pub fn batches(&self, most: usize) -> usize {
        let lanes = self.groups.values().flat_map(|place| &place.lanes);
        lanes.map(|lane| lane.items.len().div_ceil(most.max(1))).sum()
    }

    fn give_turn(&mut self, group: &G, urgency: Urgency) {
        let place = self.groups.get_mut(group).and_then(|place| place.lanes.get_mut(urgency as usize));
        if let Some(lane) = place.filter(|lane| !lane.has_turn && !lane.items.is_empty())
            && let Some(turns) = self.turns.get_mut(urgency as usize)
        {
            lane.has_turn = true;
            turns.push_back(group.clone());
        }
    }

    fn clear(&mut self, group: &G) {
        let is_idle = |lane: &Lane<T>| lane.items.is_empty() && !lane.has_turn;
        if self.groups.get(group).is_some_and(|place| place.signing.is_empty() && place.lanes.iter().all(is_idle)) {
            self.groups.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Urgency::{Changed, Gathered, Revoked};
    use proptest::prelude::*;

    fn of(items: &[(u32, Urgency)]) -> Urgent<&'static str, u32> {
        let mut urgent = Urgent::default();
        items.iter().for_each(|(item, urgency)| urgent.push(&"ca", *item, *urgency));
        urgent
    }

    #[test]
    fn a_revocation_overtakes_what_came_before_it() {
        let mut urgent = of(&[(1, Gathered), (2, Changed), (3, Changed), (4, Revoked), (2, Revoked)]);
        assert_eq!(urgent.batches(1), 4);
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Revoked, vec![2, 4])));
        assert_eq!(urgent.take(9, Revoked), None);
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Changed, vec![3])));
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Gathered, vec![1])));
        assert_eq!(urgent.take(9, Gathered), None);
    }

    #[test]
    fn nothing_waits_twice_nor_while_it_is_signed_as_what_it_is() {
        let mut urgent = of(&[(1, Changed), (1, Changed), (1, Gathered)]);
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Changed, vec![1])));
        urgent.push(&"ca", 1, Changed);
        urgent.push(&"ca", 1, Gathered);
        assert_eq!(urgent.take(9, Gathered), None);
        urgent.push(&"ca", 1, Revoked); // while "good" is being signed
        urgent.push(&"ca", 1, Changed);
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Revoked, vec![1])));
        urgent.done(&"ca", &[1]);
        urgent.push(&"ca", 1, Changed);
        assert_eq!(urgent.take(9, Gathered), Some(("ca", Changed, vec![1])));
        urgent.done(&"ca", &[1]);
        assert!(urgent.groups.is_empty());
    }

    #[test]
    fn what_comes_later_does_not_keep_others_waiting_for_ever() {
        let mut urgent = of(&[(5, Changed), (6, Changed), (7, Changed)]);
        let mut seen = Vec::new();
        for low in 0..4 {
            let (group, _, items) = urgent.take(1, Gathered).unwrap();
            urgent.done(&group, &items);
            seen.extend(items);
            urgent.push(&"ca", low, Changed);
        }
        assert_eq!(seen, [5, 6, 7, 0]);
        urgent.push(&"other", 1, Changed);
        urgent.take(1, Gathered);
        assert_eq!(urgent.take(1, Gathered).unwrap().0, "other", "groups take turns");
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_in_the_order_of_its_urgency(
            pushed in proptest::collection::vec((0_u8..3, 0_u32..40, 0_usize..3), 0..200), most in 1_usize..9,
        ) {
            let mut urgent: Urgent<u8, u32> = Urgent::default();
            let mut wanted = HashMap::new();
            for (group, item, urgency) in pushed {
                let urgency = Urgency::ALL[urgency];
                urgent.push(&group, item, urgency);
                let as_what = wanted.entry((group, item)).or_insert(urgency);
                *as_what = urgency.min(*as_what);
            }
            let mut last = Revoked;
            while let Some((group, urgency, items)) = urgent.take(most, Gathered) {
                prop_assert!(urgency >= last && items.len() <= most);
                last = urgency;
                for item in &items {
                    prop_assert_eq!(wanted.remove(&(group, *item)), Some(urgency));
                }
                urgent.done(&group, &items);
            }
            prop_assert!(wanted.is_empty() && urgent.groups.is_empty());
        }
    }
}
