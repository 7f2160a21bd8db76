//! Every number that bounds renewal, with how to compute it.

use crate::config::Window;
use std::time::Duration;

/// A day: the time over which budgets are counted, and the least time between two requests for a parked slot.
pub const DAY: Duration = Duration::from_secs(86_400);

/// The bounds of renewal on this node; those of one CA service are in [`EndpointSpec`](super::EndpointSpec).
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// In which part of its usable life a signer is renewed.
    pub window: Window,
    /// A registry sync older than this is no evidence that an issuer is active: nothing starts. Longer than the longest
    /// outage of the registry that should not stop renewal, shorter than a retired CA may be asked.
    pub evidence_max_age: Duration,
    /// The registry is looked at again when the last look is older than this at the moment a request is to leave. A second or
    /// two: requests of one moment share a look; zero: before each second's requests.
    pub confirm_within: Duration,
    /// How long that look may take before it counts as failed.
    pub confirm_patience: Duration,
    /// The first backoff after a failure is drawn from zero to this; each further one from twice as much.
    pub backoff_base: Duration,
    /// No backoff is drawn from more than this; near the deadline from less: an eighth of the slack.
    pub backoff_cap: Duration,
    /// The share of a signer's usable life, at its end, in which its renewal is urgent. Less than what the window leaves.
    pub urgent_share: f64,
    /// Submissions per slot and day, polls included: the most a slot may ask in the worst of days. More than the 24 polls
    /// of a CA that needs a day to decide. Once a quarter of them is spent, waits are as long as spends half of them in a day.
    pub submissions_per_day: u32,
    /// Certificates per slot and day. Two are plausible (an operator renews what was just renewed); a loop has more.
    pub issuances_per_day: u32,
    /// A signer that does not exist yet is wanted within this time from the first sight of its issuer; it orders the queue.
    pub new_issuer_grace: Duration,
    /// After a discontinuity (start, reload, resume, an endpoint that is back, issuers added) an endpoint's rate grows
    /// from a tenth to its whole over this time.
    pub ramp: Duration,
    /// So many failures of an endpoint in a row open its breaker.
    pub breaker_failures: u32,
    /// An open breaker tries again at the latest after this.
    pub breaker_cap: Duration,
    /// What the driver was asked to do is taken for failed (a request: for unknown) after this. Longer than the longest
    /// time-out of an endpoint.
    pub step_patience: Duration,
    /// A certificate becomes active no earlier than this after its notBefore, for clients whose clock is slow.
    pub activation_skew: Duration,
    /// Where a CA says "later" again and again, the time between two polls grows up to this.
    pub poll_cap: Duration,
    /// Slots known, those of removed issuers included; what comes beyond is refused by name.
    pub slots: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let (minutes, hours) = (|n: u64| Duration::from_secs(n * 60), |n: u64| Duration::from_secs(n * 3_600));
        Limits {
            window: Window { start: 0.50, end: 0.75 },
            evidence_max_age: minutes(15),
            confirm_within: Duration::from_secs(2),
            confirm_patience: Duration::from_secs(30),
            backoff_base: minutes(1),
            backoff_cap: hours(6),
            urgent_share: 0.10,
            submissions_per_day: 48,
            issuances_per_day: 4,
            new_issuer_grace: hours(4),
            ramp: minutes(15),
            breaker_failures: 3,
            breaker_cap: hours(1),
            step_patience: minutes(5),
            activation_skew: minutes(5),
            poll_cap: hours(1),
            slots: 200_000,
        }
    }
}

impl Limits {
    /// What contradicts itself in these limits, one sentence each; none: they can be used.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, text: &str| {
            if !holds {
                faults.push(text.to_owned());
            }
        };
        let w = self.window;
        must(0.0 < w.start && w.start < w.end && w.end <= 0.95, "window: wanted 0 < start < end <= 0.95");
        must(
            0.0 < self.urgent_share && self.urgent_share + w.end < 1.0 + 1e-9,
            "urgent_share: wanted more than 0 and no more than the window leaves (1 - end)",
        );
        must(self.confirm_within <= self.evidence_max_age, "confirm_within: longer than evidence_max_age");
        must(self.backoff_base >= Duration::from_secs(1), "backoff_base: less than a second");
        must(self.backoff_base <= self.backoff_cap, "backoff_base: longer than backoff_cap");
        must(self.backoff_base <= self.breaker_cap, "backoff_base: longer than breaker_cap");
        must(self.submissions_per_day > 0, "submissions_per_day: 0 would renew nothing");
        must(self.issuances_per_day > 0, "issuances_per_day: 0 would renew nothing");
        must(self.issuances_per_day <= self.submissions_per_day, "issuances_per_day: more than submissions_per_day");
        must(self.breaker_failures > 0, "breaker_failures: 0 would keep the breaker open");
        must(self.step_patience >= Duration::from_secs(1), "step_patience: less than a second");
        must(self.poll_cap >= self.backoff_base, "poll_cap: shorter than backoff_base");
        must(self.confirm_patience >= Duration::from_secs(1), "confirm_patience: less than a second");
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_do_not_contradict_each_other() {
        assert_eq!(Limits::default().faults(), Vec::<String>::new());
    }

    #[test]
    fn limits_that_contradict_each_other_are_named() {
        let zero = Duration::ZERO;
        let bad = Limits { backoff_cap: zero, issuances_per_day: 99, urgent_share: 0.3, ..Limits::default() };
        let faults = bad.faults().join("\n");
        for name in ["backoff_base", "issuances_per_day", "urgent_share"] {
            assert!(faults.contains(name), "{name} in {faults}");
        }
    }
}
