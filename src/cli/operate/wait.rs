//! `renew --wait`: until the new certificates are in use, or it is known why they will not be.

use super::super::paper::{Paper, Tone, count};
use super::super::show::roughly;
use super::{NOT_YET, Where, tell};
use crate::admin::control::{Call, HoldReport, PauseReport, SlotReport, Status, Taken, Target};
use crate::time::{Timestamp, monotonic};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// How long is waited where nothing else is said: a CA that answers at once, and activation_skew twice over.
pub(super) const SPAN: &str = "15m";
/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);

/// What became of it; also what `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    /// What was ordered, in words.
    text: String,
    /// What has a new certificate in use.
    renewed: Vec<Renewed>,
    /// What has not.
    missing: Vec<Missing>,
}

impl Outcome {
    /// All that was named is renewed; nothing at all is not all.
    fn is_whole(&self) -> bool {
        self.missing.is_empty() && !self.renewed.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Renewed {
    slot: Target,
    before: Option<String>,
    serial: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Missing {
    slot: Target,
    why: String,
}

/// Orders the renewal, and waits for no longer than `span`.
pub(super) fn renew(service: &Where, reach: &Target, call: &Call, span: Duration) -> ExitCode {
    let mut wait = match service.ask::<Status>(&Call::Status {}) {
        Ok(status) => Wait::new(&status, reach),
        Err(trouble) => return tell("renew", service.json(), &trouble),
    };
    let text = match service.ask::<Taken>(call) {
        Ok(taken) => taken.text,
        Err(trouble) => return tell("renew", service.json(), &trouble),
    };
    let say = |text: &str, tone: Tone| {
        if !service.json() {
            super::super::print(&Paper::of_stdout().wrap(text, 0, tone));
        }
    };
    say(&text, Tone::Plain);
    let began = monotonic();
    loop {
        let status = match service.ask::<Status>(&Call::Status {}) {
            Ok(status) => status,
            Err(trouble) => return tell("renew", service.json(), &trouble),
        };
        let is_time = began.elapsed() >= span;
        let is_over = wait.look(&status) || is_time;
        let took = roughly(began.elapsed().as_secs());
        for Renewed { slot, before, serial } in wait.news() {
            let before = before.as_deref().map_or_else(String::new, |before| format!(", after {before}"));
            say(&format!("{slot}: {serial} is in use{before}; that took {took}"), Tone::Good);
        }
        if is_over {
            let outcome = Outcome { text, renewed: wait.renewed.clone(), missing: wait.missing(&status) };
            if is_time && !outcome.missing.is_empty() {
                say(&format!("{} not renewed within {took}:", count(outcome.missing.len(), "item")), Tone::Strong);
            }
            if outcome.missing.is_empty() && outcome.renewed.is_empty() {
                say(
                    "nothing that was named was active when the command was given: `stillgood status` says why",
                    Tone::Bad,
                );
            }
            for Missing { slot, why } in &outcome.missing {
                say(&format!("{slot} is not renewed: {why}"), Tone::Bad);
            }
            if service.json() {
                service.show(&outcome, |_| String::new());
            }
            return if outcome.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(NOT_YET) };
        }
        std::thread::sleep(EVERY);
    }
}

/// Who is waited for.
#[derive(Debug)]
struct Wait {
    /// The serial number of the certificate that is to be replaced, where there is one.
    open: BTreeMap<Target, Option<String>>,
    renewed: Vec<Renewed>,
    /// How many of `renewed` have been told.
    told: usize,
    /// When the service was first asked after it had taken the command.
    since: Option<Timestamp>,
}

impl Wait {
    /// For everything within reach that this service renews now.
    fn new(before: &Status, reach: &Target) -> Self {
        let slots = before.credentials.iter().chain(&before.issuers);
        let those = slots.filter(|slot| slot.state == "active" && slot.phase.is_some() && covers(reach, slot));
        let open = those.map(|slot| (slot.slot.clone(), slot.serial.clone())).collect();
        Wait { open, renewed: Vec::new(), told: 0, since: None }
    }

    /// Notes who has another certificate. True if nothing more will come about.
    fn look(&mut self, status: &Status) -> bool {
        for slot in status.credentials.iter().chain(&status.issuers) {
            let Some(serial) = &slot.serial else { continue };
            let is_new = self.open.get(&slot.slot).is_some_and(|before| before.as_ref() != Some(serial));
            if is_new && let Some(before) = self.open.remove(&slot.slot) {
                self.renewed.push(Renewed { slot: slot.slot.clone(), before, serial: serial.clone() });
            }
        }
        let since = *self.since.get_or_insert(status.now);
        // What the agent published before it had the command says nothing yet.
        let is_known = match &status.agent {
            Some(agent) => agent.down.is_some() || agent.last_pass.is_some_and(|at| at > since),
            None => true,
        };
        is_known && self.open.keys().all(|slot| stuck(slot, status).is_some())
    }

    /// Who has another certificate since this was last asked.
    fn news(&mut self) -> Vec<Renewed> {
        let news = self.renewed.get(self.told..).unwrap_or_default().to_vec();
        self.told = self.renewed.len();
        news
    }

    fn missing(&self, status: &Status) -> Vec<Missing> {
        let why = |slot: &Target| {
            stuck(slot, status).unwrap_or_else(|| match found(slot, status) {
                Some(report) => {
                    let mut reasons = report.reasons.clone();
                    reasons.extend(queued(report, status));
                    if reasons.is_empty() {
                        reasons.push(format!("it is {}", report.phase.as_deref().unwrap_or("unknown")));
                    }
                    reasons.join("; ")
                }
                None => "the service does not know it any more".into(),
            })
        };
        self.open.keys().map(|slot| Missing { slot: slot.clone(), why: why(slot) }).collect()
    }
}

fn found<'a>(slot: &Target, status: &'a Status) -> Option<&'a SlotReport> {
    status.credentials.iter().chain(&status.issuers).find(|report| report.slot == *slot)
}

/// What it waits for at its CA service, where it has not been asked for.
fn queued(report: &SlotReport, status: &Status) -> Option<String> {
    let waits = matches!(report.phase.as_deref(), Some("due" | "ordered")) && report.hold == HoldReport::None;
    let endpoint = status.endpoints.iter().find(|endpoint| report.endpoint.as_ref() == Some(&endpoint.name));
    let endpoint = endpoint.filter(|endpoint| waits && endpoint.state != "ok")?;
    let (name, queued, state) = (&endpoint.name, endpoint.queued, &endpoint.state);
    Some(format!("it waits for its place among {queued} at endpoint {name}: {state}"))
}

/// Whether a command or a pause of this reach concerns the slot.
fn covers(reach: &Target, slot: &SlotReport) -> bool {
    match reach {
        Target::All => true,
        Target::Endpoint(name) => slot.endpoint.as_ref() == Some(name),
        one => slot.slot == *one,
    }
}

/// Why it stays as it is until somebody does something; `None`: it may yet be renewed by itself.
fn stuck(slot: &Target, status: &Status) -> Option<String> {
    if let Some(fault) = status.agent.as_ref().and_then(|agent| agent.down.as_ref()) {
        return Some(format!("the renewal agent does not run: {fault}"));
    }
    let Some(report) = found(slot, status) else { return Some("the service does not know it any more".into()) };
    let pause = status.pauses.iter().find(|pause| covers(&pause.reach, report));
    match (&report.hold, pause) {
        (HoldReport::Parked { text, .. }, _) => Some(format!("parked: {text}")),
        (HoldReport::Approval { serial }, _) => Some(format!("certificate {serial} is in place and waits for approve")),
        (_, Some(PauseReport { until, who, reason, .. })) => Some(format!("paused until {until} by {who}: {reason}")),
        _ if report.state == "held" => Some("stopped by the generation of the registry that is held".into()),
        _ if report.state != "active" => Some(format!("its record in the registry: {}", report.state)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::control::tests::fixture::{NOW, Site, at};
    use super::*;

    fn issuer(id: &str) -> Target {
        Target::Issuer(id.into())
    }

    /// The same a while later, after a pass of the agent.
    fn later(status: &Status) -> Status {
        let mut later = status.clone();
        later.now = at(NOW + 10);
        later.agent.as_mut().unwrap().last_pass = Some(at(NOW + 9));
        later
    }

    #[test]
    fn it_is_over_when_each_has_another_serial_number_and_no_sooner() {
        let status = Site::new(None).status();
        let mut wait = Wait::new(&status, &issuer("idle-ca"));
        assert!(!wait.look(&status) && !wait.look(&later(&status)), "activations of the past do not count");
        let mut renewed = later(&status);
        let slot = renewed.issuers.iter_mut().find(|slot| slot.slot == issuer("idle-ca")).unwrap();
        let before = slot.serial.replace("0B".into());
        assert!(wait.look(&renewed));
        let one = Renewed { slot: issuer("idle-ca"), before, serial: "0B".into() };
        assert_eq!((wait.news(), wait.news()), (vec![one], vec![]));
        assert!(wait.missing(&renewed).is_empty());
    }

    #[test]
    fn what_nobody_lifts_is_not_waited_for_and_told_with_its_reason() {
        let status = Site::new(None).status();
        for (id, why) in [
            ("parked-ca", "parked: the profile ocsp is disabled (HTTP 403)"),
            ("paused-ca", "paused until 2026-11-21T16:00:00Z by alice (uid 1000, pid 4711): its HSM is serviced"),
            ("staged-ca", "certificate 7A31C50790E4 is in place and waits for approve"),
        ] {
            let mut wait = Wait::new(&status, &issuer(id));
            assert!(!wait.look(&status), "{id}: as it was before the command");
            assert!(wait.look(&later(&status)), "{id}");
            assert_eq!(wait.missing(&status), [Missing { slot: issuer(id), why: why.into() }]);
        }
    }

    #[test]
    fn of_all_those_that_can_be_renewed_are_waited_for() {
        let status = Site::new(None).status();
        let wait = Wait::new(&status, &Target::All);
        assert_eq!(wait.open.len(), 6, "five issuers and a credential, and not the one whose signer is files");
        assert_eq!(Wait::new(&status, &Target::Endpoint("main".into())).open, wait.open);
        assert!(Wait::new(&status, &Target::Endpoint("other".into())).open.is_empty());
        assert!(!{ wait }.look(&later(&status)), "one that is idle may yet be renewed");
    }

    #[test]
    fn what_waits_for_its_place_is_told_with_the_rate() {
        let mut status = later(&Site::new(None).status());
        let wait = Wait::new(&status, &issuer("idle-ca"));
        let slot = status.issuers.iter_mut().find(|slot| slot.slot == issuer("idle-ca")).unwrap();
        slot.phase = Some("due".into());
        status.endpoints[0].state =
            "the rate of the service (10 % of it at present) allows the next request at T".into();
        status.endpoints[0].queued = 7;
        let why = &wait.missing(&status)[0].why;
        assert!(why.contains("waits for its place among 7 at endpoint main: the rate of the service (10 %"), "{why}");
    }

    #[test]
    fn nothing_renewed_is_no_success() {
        let status = Site::new(None).status();
        let mut wait = Wait::new(&status, &issuer("files-ca"));
        wait.look(&status);
        assert!(wait.look(&later(&status)), "there is nothing to wait for");
        let outcome = |renewed| Outcome { text: String::new(), renewed, missing: wait.missing(&status) };
        assert!(!outcome(vec![]).is_whole());
        let one = Renewed { slot: issuer("idle-ca"), before: None, serial: "0B".into() };
        assert!(outcome(vec![one]).is_whole());
    }
}
