//! A fleet of one's own: the calendar of its requests, and what a dead CA would do to it.

use super::agenda::{DAY, HOUR, MINUTE, Ms};
use super::check::Violation;
use super::measure::{Sent, Totals};
use super::scenario::{Outcome, outcome};
use super::setup::{Age, Agent, CaSetup, CaState, Deed, Setup};
use super::world::Policy;
use crate::renewal::{EndpointSpec, IssuerSpec, Limits};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Issuers and limits as a configuration and a registry have them, for one CA service.
#[derive(Clone, Debug)]
pub struct Own {
    /// The time of day at the beginning.
    pub start: Timestamp,
    /// Machines with a signer of their own for each issuer.
    pub nodes: usize,
    /// The issuers, all of this service.
    pub issuers: Vec<IssuerSpec>,
    /// The service and what it may be asked.
    pub service: EndpointSpec,
    /// Its time-out.
    pub timeout: Duration,
    /// The bounds of renewal.
    pub limits: Limits,
    /// How often the registry is read.
    pub refresh: Duration,
    /// How long a signer's certificate is valid; the CA decides, so it has to be said.
    pub life: Duration,
    /// The service takes no connection for so long, a third into the run.
    pub ca_down: Option<Duration>,
}

/// What became of it in one life of a signer, or two if the CA was down.
#[derive(Clone, Debug, Serialize)]
pub struct OwnReport {
    /// The service.
    pub service: String,
    /// Issuers that are renewed, times nodes.
    pub signers: usize,
    /// The time of day at the beginning.
    pub start: Timestamp,
    /// The length in seconds.
    pub length_secs: u64,
    /// Sums.
    pub totals: Totals,
    /// Requests by day, from the beginning.
    pub by_day: Vec<u64>,
    /// How many hours had so many requests.
    pub hours_by_requests: BTreeMap<u64, u64>,
    /// While the CA was down, and what followed.
    pub down: Option<Down>,
    /// What must not happen, and did.
    pub violations: Vec<Violation>,
}

/// A CA that was down.
#[derive(Clone, Debug, Serialize)]
pub struct Down {
    /// From when, in seconds from the beginning.
    pub from_secs: u64,
    /// To when.
    pub to_secs: u64,
    /// Requests in vain.
    pub requests: u64,
    /// The most requests in a minute afterwards.
    pub peak_after: u64,
    /// Hours until the last request for a certificate whose window had closed.
    pub hours_to_catch_up: u64,
}

/// What must be left of a signer when the next one takes over.
fn reserve(issuer: &IssuerSpec) -> Duration {
    issuer.validity.saturating_add(issuer.margin)
}

impl Own {
    /// Runs it under our policy. The error is a world that cannot be.
    pub fn run(&self, seed: u64) -> Result<OwnReport, String> {
        let longest = self.issuers.iter().max_by_key(|i| reserve(i)).ok_or("no issuer is enrolled there")?;
        let usable = self.life.saturating_sub(reserve(longest));
        if usable < Duration::from_secs(3_600) {
            return Err(format!(
                "a life of {} days leaves nothing beside a response's validity and the margin; write a longer --life",
                self.life.as_secs() / 86_400
            ));
        }
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(Ms::MAX);
        let down = self.ca_down.map(|d| (ms(self.life) / 3, ms(self.life) / 3 + ms(d)));
        let length = ms(self.life) + down.map_or(0, |(_, to)| to);
        let script = down
            .map_or_else(Vec::new, |(from, to)| vec![(from, Deed::Ca(CaState::Refuses)), (to, Deed::Ca(CaState::Up))]);
        let setup = Setup {
            start: self.start,
            length,
            nodes: self.nodes,
            issuers: self.issuers.len(),
            own: Some(self.issuers.clone()),
            life: self.life,
            validity: longest.validity,
            margin: longest.margin,
            // As old as a fleet's signers are that has been renewed for long.
            age: Age::Even(usable.mul_f64((self.limits.window.start + self.limits.window.end) / 2.0)),
            // One that nobody renews would end the run by its own end.
            credential: self
                .service
                .credential
                .as_ref()
                .and_then(|own| own.profile.as_ref())
                .map(|_| (self.life, self.life / 2)),
            agent: Agent {
                limits: self.limits.clone(),
                rate: self.service.rate,
                max_in_flight: self.service.max_in_flight,
                attempts_per_day: self.service.attempts_per_day,
                timeout: ms(self.timeout),
                refresh: ms(self.refresh),
            },
            ca: CaSetup { servers: 16, service: 1_000.min(ms(self.timeout) / 2), ..CaSetup::default() },
            script,
            ..Setup::default()
        };
        let outcome = outcome(setup, Policy::Ours, seed)?;
        Ok(self.report(outcome, length, down))
    }

    fn report(&self, outcome: Outcome, length: Ms, down: Option<(Ms, Ms)>) -> OwnReport {
        let sent = || outcome.measure.sent.iter().map(|s| s.at);
        let mut by_day = vec![0; usize::try_from(length / DAY).unwrap_or(0) + 1];
        let mut by_hour: BTreeMap<Ms, u64> = BTreeMap::new();
        let mut by_minute: BTreeMap<Ms, u64> = BTreeMap::new();
        for at in sent() {
            if let Some(day) = usize::try_from(at / DAY).ok().and_then(|day| by_day.get_mut(day)) {
                *day += 1;
            }
            *by_hour.entry(at / HOUR).or_default() += 1;
            *by_minute.entry(at / MINUTE).or_default() += 1;
        }
        let mut hours_by_requests: BTreeMap<u64, u64> = BTreeMap::new();
        for hour in 0..length / HOUR {
            *hours_by_requests.entry(by_hour.get(&hour).copied().unwrap_or(0)).or_default() += 1;
        }
        let down = down.map(|(from, to)| {
            let after = by_minute.range(to / MINUTE..);
            // Requests for what should have been renewed before the end of its window.
            let overdue = |s: &&Sent| {
                let issuer = self.issuers.get(s.slot.wrapping_sub(1));
                let reserve =
                    issuer.map_or(self.service.credential.as_ref().map_or(self.life / 10, |c| c.margin), reserve);
                let kept = reserve + self.life.saturating_sub(reserve).mul_f64(1.0 - self.limits.window.end);
                let now = self.start.plus(Duration::from_millis(s.at));
                s.at >= to && s.deadline.is_some_and(|not_after| not_after.minus(kept) < now)
            };
            let last = outcome.measure.sent.iter().filter(overdue).map(|s| s.at);
            Down {
                from_secs: from / 1_000,
                to_secs: to / 1_000,
                requests: sent().filter(|at| (from..to).contains(at)).count() as u64,
                peak_after: after.map(|(_, n)| *n).max().unwrap_or(0),
                hours_to_catch_up: last.max().map_or(0, |at| (at - to).div_ceil(HOUR)),
            }
        });
        OwnReport {
            service: self.service.id.to_string(),
            signers: self.issuers.len() * self.nodes,
            start: self.start,
            length_secs: length / 1_000,
            totals: outcome.totals,
            by_day,
            hours_by_requests,
            down,
            violations: outcome.violations,
        }
    }
}
