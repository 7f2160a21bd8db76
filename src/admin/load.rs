//! Whether clients are turned away: what was counted in the last minutes, looked at now and then.

use crate::endpoint::{Event, Outcome, Snapshot};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looks that are remembered, and how far they are apart: together five minutes, as in the alert rules.
const SAMPLES: usize = 21;
const APART: Duration = Duration::from_secs(15);
/// Less than this says nothing: after a start the first requests come before the first signatures.
const ENOUGH: Duration = Duration::from_secs(60);
/// More than one request in so many without an answer is too much.
const ONE_IN: u64 = 20;

/// The outcome of a request that nobody had an answer for.
const LATER: &str = "tryLater";

/// What is counted of requests and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    requests: u64,
    later: u64,
    refused: u64,
}

impl Counts {
    pub(super) fn of(counted: &Snapshot) -> Self {
        Counts {
            requests: Outcome::ALL.iter().map(|outcome| counted.outcome(*outcome)).sum(),
            later: Outcome::ALL.iter().filter(|o| o.name() == LATER).map(|outcome| counted.outcome(*outcome)).sum(),
            refused: counted.event(Event::RefusedFull) + counted.event(Event::AcceptError),
        }
    }

    /// What has been counted since; `None`: these are the counters of other listeners.
    fn since(self, before: Counts) -> Option<Counts> {
        Some(Counts {
            requests: self.requests.checked_sub(before.requests)?,
            later: self.later.checked_sub(before.later)?,
            refused: self.refused.checked_sub(before.refused)?,
        })
    }
}

/// The counts of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Load(Mutex<VecDeque<(Instant, Counts)>>);

impl Load {
    /// Looks at the counters.
    pub(super) fn note(&self, counts: Counts, now: Instant) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|(_, before)| counts.since(*before).is_none()) {
            samples.clear();
        }
        if samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= APART) {
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back((now, counts));
        }
    }

    /// In words, how clients are turned away; empty: they are not.
    pub(super) fn worries(&self) -> Vec<String> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((from, before)), Some((to, counts))) = (samples.front(), samples.back()) else { return Vec::new() };
        let span = to.saturating_duration_since(*from);
        let Some(Counts { requests, later, refused }) = counts.since(*before).filter(|_| span >= ENOUGH) else {
            return Vec::new();
        };
        let minutes = span.as_secs().div_ceil(60);
        let mut worries = Vec::new();
        if later.saturating_mul(ONE_IN) > requests {
            worries.push(format!(
                "{later} of {requests} requests of the last {minutes} min were answered tryLater: there is no answer for them, \
                 or more is asked for than may be signed on demand"
            ));
        }
        if refused > 0 {
            worries.push(format!(
                "{refused} connections of the last {minutes} min were refused: every place is taken, or the system has none \
                 to give"
            ));
        }
        worries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(load: &Load, start: Instant, seconds: u64, requests: u64, later: u64, refused: u64) {
        load.note(Counts { requests, later, refused }, start + Duration::from_secs(seconds));
    }

    #[test]
    fn one_request_in_twenty_without_an_answer_and_every_refused_connection_is_told_while_it_lasts() {
        let (load, start) = (Load::default(), Instant::now());
        at(&load, start, 0, 0, 0, 0);
        at(&load, start, 30, 100, 100, 0);
        assert!(load.worries().is_empty(), "a start is no trouble yet");
        at(&load, start, 60, 2_000, 100, 0);
        assert!(load.worries().is_empty(), "one in twenty is borne");
        at(&load, start, 75, 2_010, 110, 3);
        let worries = load.worries();
        assert!(worries[0].contains("110 of 2010 requests of the last 2 min were answered tryLater"), "{worries:?}");
        assert!(worries[1].contains("3 connections"), "{worries:?}");
        for n in 6..40 {
            at(&load, start, n * 15, 3_000, 110, 3);
        }
        assert!(load.worries().is_empty(), "that is over");
        assert_eq!(load.0.lock().unwrap().len(), SAMPLES);
    }

    #[test]
    fn the_outcome_that_is_counted_is_one_there_is() {
        assert_eq!(Outcome::ALL.iter().filter(|outcome| outcome.name() == LATER).count(), 1);
    }

    #[test]
    fn other_listeners_begin_anew() {
        let (load, start) = (Load::default(), Instant::now());
        at(&load, start, 0, 0, 0, 0);
        at(&load, start, 120, 100, 100, 100);
        assert_eq!(load.worries().len(), 2);
        at(&load, start, 135, 5, 0, 0);
        assert!(load.worries().is_empty());
    }
}
