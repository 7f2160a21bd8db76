//! A fleet of one's own: the calendar of its requests, and what a dead CA would do to it.

use super::agenda::{DAY, HOUR, MINUTE, Ms};
use super::check::Violation;
use super::measure::{Sent, Totals};
use super::scenario::{Outcome, outcome};
use super::setup::{Age, Agent, CaSetup, CaState, Deed, Setup};
use super::world::Policy;
use crate::config::HumanDuration;
use crate::renewal::{CredentialSpec, EndpointSpec, IssuerSpec, Limits};
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
    pub issuers: Vec<OwnIssuer>,
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
    /// Who says so.
    pub life_is: LifeIs,
    /// The service takes no connection for so long, a third into the run.
    pub ca_down: Option<Duration>,
}

/// One issuer of a user's own.
#[derive(Clone, Debug)]
pub struct OwnIssuer {
    /// What the agent is told of it.
    pub spec: IssuerSpec,
    /// How old its responses become before they are signed again.
    pub refresh: Duration,
}

/// Whence the life of a signer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeIs {
    /// From the command line.
    Said,
    /// From the service's section in the configuration.
    Configured,
    /// Nobody has said it.
    Assumed,
}

/// What became of it in one life of a signer, or two if the CA was down.
#[derive(Clone, Debug, Serialize)]
pub struct OwnReport {
    /// The service.
    pub service: String,
    /// What nobody has said and the run takes for granted, a sentence each.
    pub assumptions: Vec<String>,
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

/// A staged signer that needs an approval gets it at the next of these.
fn approvals(life: Duration) -> Duration {
    Duration::from_secs(86_400).min(life / 20)
}

impl Own {
    /// Why a life of this length is of no use: by the issuer that asks for the most of it, and by our own certificate.
    fn fault(&self) -> Result<Duration, String> {
        let new = |i: &OwnIssuer| reserve(&i.spec).saturating_add(i.refresh);
        let longest = self.issuers.iter().max_by_key(|i| new(i)).ok_or("no issuer is enrolled there")?;
        let (validity, refresh) = (HumanDuration(longest.spec.validity), HumanDuration(longest.refresh));
        let (life, margin) = (HumanDuration(self.life), HumanDuration(longest.spec.margin));
        if self.life.saturating_sub(new(longest)) < Duration::from_secs(3_600) {
            return Err(format!(
                "[enrolment.{}]: a life of {life} leaves nothing for issuer {} beside validity {validity}, refresh {refresh} and margin \
                 {margin}; write a longer --life",
                self.service.id, longest.spec.id
            ));
        }
        if let Some(own) = self.renewed_credential().filter(|own| self.life <= own.margin.saturating_mul(2)) {
            return Err(format!(
                "[enrolment.{}]: a client certificate of {life} leaves nothing beside twice its margin {}; write a longer --life",
                self.service.id,
                HumanDuration(own.margin)
            ));
        }
        Ok(self.life.saturating_sub(reserve(&longest.spec)))
    }

    /// One that nobody renews would end the run by its own end.
    fn renewed_credential(&self) -> Option<&CredentialSpec> {
        self.service.credential.as_ref().filter(|own| own.profile.is_some())
    }

    fn needs_approval(&self) -> usize {
        self.issuers.iter().filter(|i| i.spec.needs_approval).count()
    }

    /// What nobody has said and the run takes for granted.
    fn assumptions(&self) -> Vec<String> {
        let mut all = Vec::new();
        let life = HumanDuration(self.life);
        match self.life_is {
            LifeIs::Said => all.push(format!("signers are valid for {life}, as --life says")),
            LifeIs::Configured => {
                all.push(format!("signers are valid for {life}, as validity in [enrolment.{}] says", self.service.id))
            }
            LifeIs::Assumed => {
                all.push(format!("signers are valid for {life}: the CA decides, and nobody has said so; write --life"));
            }
        }
        all.push(
            "they were issued evenly over the time in which a fleet is renewed once; the real ones are not looked at"
                .to_owned(),
        );
        match (&self.service.credential, self.renewed_credential()) {
            (_, Some(own)) => all.push(format!(
                "our client certificate is valid for {life} as well, half of which has passed, and keeps margin {}",
                HumanDuration(own.margin)
            )),
            (Some(_), None) => {
                all.push("our client certificate, which somebody else renews, never expires".to_owned());
            }
            (None, None) => {}
        }
        let waiting = self.needs_approval();
        if waiting > 0 {
            all.push(format!(
                "{waiting} of {} issuers have approval = \"required\": an operator approves every {}, on every node",
                self.issuers.len(),
                HumanDuration(approvals(self.life))
            ));
        }
        all.push(
            "the service answers within its time-out, or is down; every clock is right; the registry does not change"
                .to_owned(),
        );
        all
    }

    /// Runs it under our policy. The error is a world that cannot be.
    pub fn run(&self, seed: u64) -> Result<OwnReport, String> {
        let usable = self.fault()?;
        let longest =
            self.issuers.iter().map(|i| &i.spec).max_by_key(|i| reserve(i)).ok_or("no issuer is enrolled there")?;
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(Ms::MAX);
        let down = self.ca_down.map(|d| (ms(self.life) / 3, ms(self.life) / 3 + ms(d)));
        let length = ms(self.life) + down.map_or(0, |(_, to)| to);
        let mut script = down
            .map_or_else(Vec::new, |(from, to)| vec![(from, Deed::Ca(CaState::Refuses)), (to, Deed::Ca(CaState::Up))]);
        if self.needs_approval() > 0 {
            let every = ms(approvals(self.life)).max(MINUTE);
            script.extend((1..=length / every).map(|n| (n * every, Deed::Approve(0..self.nodes))));
        }
        let setup = Setup {
            start: self.start,
            length,
            nodes: self.nodes,
            issuers: self.issuers.len(),
            own: Some(self.issuers.iter().map(|i| i.spec.clone()).collect()),
            refreshes: self.issuers.iter().map(|i| i.refresh).collect(),
            life: self.life,
            validity: longest.validity,
            margin: longest.margin,
            // As old as a fleet's signers are that has been renewed for long.
            age: Age::Even(usable.mul_f64((self.limits.window.start + self.limits.window.end) / 2.0)),
            credential: self.renewed_credential().map(|_| (self.life, self.life / 2)),
            credential_margin: self.renewed_credential().map(|own| own.margin),
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
                let reserve = issuer
                    .map_or(self.service.credential.as_ref().map_or(Duration::ZERO, |c| c.margin), |i| {
                        reserve(&i.spec)
                    });
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
            assumptions: self.assumptions(),
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
