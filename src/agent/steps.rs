//! Carrying out what the core asks for, in its order.

use super::driver::{Driver, Report, Wire};
use super::order::{Answer, Job};
use super::parts::{Look, Service};
use super::tell::{Teller, about, outcome_of, result_of};
use super::work::{Threads, WorkFault};
use crate::audit::{AuditEvent, Outcome, What};
use crate::enrolment::Leave;
use crate::registry::IssuerId;
use crate::renewal::{Action, Event, Failure, Kind, OrderId, Record, Request, Scope, SlotId, Step};
use crate::signer::slots::SlotError;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// Making a key and writing three files; RSA keys take seconds.
const PREPARE: Duration = Duration::from_secs(120);
/// Reading two small files, a dozen signatures.
const VERIFY: Duration = Duration::from_secs(60);
/// Writing a pointer file.
const SWAP: Duration = Duration::from_secs(60);
/// What a request may take beyond the service's own time-out, for the disk.
const BESIDE_THE_WIRE: Duration = Duration::from_secs(30);
/// How long a request that is dropped may take to end.
const DROP: Duration = Duration::from_secs(5);
/// Threads of a service beyond its requests at a time: of requests that were given up, and whose threads have not ended.
const HUNG: usize = 8;

impl Driver {
    /// Carries out what the core wants done. Where the ledger cannot be written, nothing that relies on it is done.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        let mut is_saved = self.unsaved.is_empty();
        for action in actions {
            match action {
                Action::Persist(records) => is_saved = self.save(records),
                Action::Tell(notice) => self.teller.notice(&notice),
                Action::HangUp { slot, order } => self.hang_up(&slot, order),
                action if !is_saved => self.refuse(action),
                Action::ConfirmActive => self.confirm(),
                Action::Prepare(request) => self.prepare(request),
                Action::Submit(request) => self.submit(request),
                Action::Verify { slot, order } => self.verify(slot, order),
                Action::Stage { slot, order } => self.stage(slot, order),
                Action::Activate { slot, order } => self.activate(slot, order),
                Action::Cancel { slot, order, reason } => self.cancel(slot, order, &reason),
            }
        }
    }

    /// Writes these, and what could not be written before. `false`: not on disk.
    pub(super) fn save(&mut self, records: Vec<Record>) -> bool {
        self.unsaved.extend(records.into_iter().map(|record| (record.key(), record)));
        if self.unsaved.is_empty() {
            return true;
        }
        let all: Vec<Record> = self.unsaved.values().cloned().collect();
        match self.ledger.write(&all, self.teller.now()) {
            Ok(()) => {
                for key in self.unsaved.keys() {
                    self.restored.remove(key);
                }
                self.unsaved.clear();
                if self.ledger_fault.take().is_some() {
                    tracing::info!("the ledger can be written again");
                }
                self.clean_up_spent();
                true
            }
            Err(error) => {
                if self.ledger_fault.as_deref() != Some(error.reason.as_str()) {
                    self.teller.alarm(format!("{error}; nothing is asked for until it can be written"));
                }
                self.ledger_fault = Some(error.reason);
                false
            }
        }
    }

    /// The disk is full, or worse: reported for what would have been done.
    fn refuse(&mut self, action: Action) {
        let text = self.ledger_fault.clone().unwrap_or_else(|| "the ledger cannot be written".to_owned());
        let failed = |slot, order, step| {
            let failure = Failure::new(Scope::Local, Kind::Transient, &format!("the ledger cannot be written: {text}"));
            Event::Failed { slot, order, step, failure }
        };
        let event = match action {
            Action::ConfirmActive => Event::NotConfirmed,
            Action::Prepare(r) => failed(r.slot, r.order, Step::Prepare),
            Action::Submit(r) => failed(r.slot, r.order, Step::Submit(r.attempt)),
            Action::Verify { slot, order } => failed(slot, order, Step::Verify),
            Action::Stage { slot, order } => failed(slot, order, Step::Stage),
            Action::Activate { slot, order } => failed(slot, order, Step::Activate),
            // Its files are found and destroyed at the next start.
            Action::Cancel { .. } | Action::HangUp { .. } | Action::Persist(_) | Action::Tell(_) => return,
        };
        self.tell(event);
    }

    fn confirm(&mut self) {
        let (workers, reports, evidence) = (self.workers.clone(), self.reports.clone(), self.parts.evidence.clone());
        let patience = self.settings.limits.confirm_patience;
        tokio::spawn(async move {
            let look = workers.registry("look", patience, move || evidence.look()).await;
            let look = look.unwrap_or_else(|fault| Look::Nothing(fault.to_string()));
            let _ = reports.send(Report::Looked(look)).await;
        });
    }

    fn prepare(&mut self, request: Request) {
        let Some(job) = self.needed(&request.slot, request.order, Step::Prepare) else { return };
        let (workers, reports, teller) = (self.workers.clone(), self.reports.clone(), self.teller.clone());
        tokio::spawn(async move {
            let done = workers.compute("prepare", PREPARE, move || job.prepare()).await;
            let (slot, order) = (request.slot.clone(), request.order);
            let event = match flat(done, Scope::Local, Kind::Transient) {
                Ok(()) => {
                    let text = format!("for {} as {}", request.endpoint, request.profile);
                    teller.request(What::Opened, &request, Some(Outcome::Done), &text);
                    Event::Prepared { slot, order }
                }
                Err(failure) => {
                    teller.request(What::Opened, &request, Some(outcome_of(&failure)), &failure.text);
                    Event::Failed { slot, order, step: Step::Prepare, failure }
                }
            };
            let _ = reports.send(Report::Step(event)).await;
        });
    }

    fn submit(&mut self, request: Request) {
        let step = Step::Submit(request.attempt);
        let Some(job) = self.needed(&request.slot, request.order, step) else { return };
        let Some(service) = self.services.get(&request.endpoint).cloned() else {
            self.lacking(&request.slot, request.order, step);
            return;
        };
        let earlier = self.wires.remove(&request.slot);
        let threads = self.threads(&service);
        let leave = Leave::default();
        let its_leave = leave.clone();
        let (workers, reports, teller) = (self.workers.clone(), self.reports.clone(), self.teller.clone());
        let runtime = tokio::runtime::Handle::current();
        let (drop, mut dropped) = oneshot::channel();
        let (slot, wire_order, endpoint, attempt) =
            (request.slot.clone(), request.order, request.endpoint.clone(), request.attempt);
        let task = tokio::spawn(async move {
            end(earlier).await;
            if dropped.try_recv().is_ok() {
                return;
            }
            tracing::info!(
                order = %request.order, attempt = request.attempt, cause = request.cause.name(), profile = request.profile,
                "{}: asking {}", request.slot, request.endpoint
            );
            teller.request(What::Request, &request, None, "");
            let (profile, limit) = (request.profile.clone(), service.timeout + BESIDE_THE_WIRE);
            let leave = its_leave.clone();
            let work = move || job.submit(&service, &profile, leave, &runtime, dropped);
            // What makes our reading of an answer panic would do so again: the order is given up and the slot parks. What
            // hangs may have been carried out.
            let answer = match workers.run(&threads, "submit", limit, work).await {
                Ok(answer) => answer,
                // It is for what this service answers that our code hangs, so it is held, and nobody else.
                Err(fault @ WorkFault::AllTaken { .. }) => {
                    Answer::Failed(Failure::new(Scope::Endpoint, Kind::Transient, &fault.to_string()))
                }
                Err(fault) => {
                    let failure = failure_of_work(&fault, Scope::Item, Kind::Unknown);
                    // Nobody knows any more what would be sent later.
                    if its_leave.withdraw() { Answer::NotSent(failure) } else { Answer::Failed(failure) }
                }
            };
            if let Some((event, result)) = told(&teller, &request, answer) {
                let tally = result.map(|result| (request.endpoint, request.cause, result));
                let _ = reports.send(Report::Answer { event, tally }).await;
            }
        });
        self.wires.insert(slot, Wire { order: wire_order, attempt, endpoint, leave, drop, task });
    }

    /// Those of a service: one for each request it may have at a time, and some for what hangs.
    fn threads(&mut self, service: &Service) -> Threads {
        let endpoint = &service.spec.id;
        let most = usize::try_from(service.spec.max_in_flight).unwrap_or(usize::MAX).clamp(1, 100_000) + HUNG;
        let kept = self.threads.get(endpoint).filter(|threads| threads.most() == most).cloned();
        let threads = kept.unwrap_or_else(|| Threads::new(&format!("requests to {endpoint}"), most));
        self.threads.insert(endpoint.clone(), threads.clone());
        threads
    }

    /// Hangs up on requests of which nothing has left, for issuers that are not active (any more).
    pub(super) fn withdraw(&mut self, active: &BTreeSet<IssuerId>) {
        let is_out = |slot: &SlotId| matches!(slot, SlotId::Signer(id) if !active.contains(id));
        let out: Vec<SlotId> = self
            .wires
            .iter()
            .filter(|(slot, wire)| is_out(slot) && wire.leave.withdraw())
            .map(|(s, _)| s.clone())
            .collect();
        for slot in out {
            let Some(wire) = self.wires.remove(&slot) else { continue };
            let _ = wire.drop.send(());
            let text = "the registry no longer calls it active: its request was withdrawn before any of it was sent";
            tracing::info!(order = %wire.order, attempt = wire.attempt, "{slot}: {text}");
            let event = self.teller.event(What::Answer, about(&slot));
            let event = AuditEvent { order: Some(wire.order.to_string()), outcome: Some(Outcome::Failed), ..event };
            self.teller.saw(&event.saying(text));
            let failure = Failure::new(Scope::Issuer, Kind::Transient, text);
            self.tell(Event::NotSent { slot, order: wire.order, attempt: wire.attempt, failure });
        }
    }

    fn hang_up(&mut self, slot: &SlotId, order: OrderId) {
        if self.wires.get(slot).is_some_and(|wire| wire.order == order)
            && let Some(wire) = self.wires.remove(slot)
        {
            let _ = wire.drop.send(());
        }
    }

    fn verify(&mut self, slot: SlotId, order: OrderId) {
        let Some(job) = self.needed(&slot, order, Step::Verify) else { return };
        let (workers, reports, teller) = (self.workers.clone(), self.reports.clone(), self.teller.clone());
        let trial = self.parts.trial.clone();
        tokio::spawn(async move {
            let now = teller.now();
            let (read, mut serial) = oneshot::channel();
            let work = move || {
                // First, so that one on which the rest hangs or panics is named. Nobody may be waiting any more.
                let _ = read.send(job.serial());
                job.verify(&*trial, now)
            };
            let done = workers.compute("verify", VERIFY, work).await;
            let serial = serial.try_recv().ok().flatten();
            let verdict = match done {
                Ok(verdict) => verdict,
                Err(fault @ (WorkFault::NoThread { .. } | WorkFault::AllTaken { .. })) => {
                    Err(failure_of_work(&fault, Scope::Local, Kind::Transient))
                }
                // A certificate that our own code hangs or panics on is not taken into use.
                Err(fault) => Ok(Err(fault.to_string())),
            };
            let event = match verdict {
                Ok(Ok(life)) => {
                    let text = format!("serial {}, valid from {} to {}", life.serial, life.not_before, life.not_after);
                    teller.step(What::Verified, &slot, order, serial, (Outcome::Done, &text));
                    Event::Verified { slot, order, life }
                }
                Ok(Err(text)) => {
                    teller.step(What::Verified, &slot, order, serial, (Outcome::Refused, &text));
                    Event::Rejected { slot, order, text }
                }
                Err(failure) => Event::Failed { slot, order, step: Step::Verify, failure },
            };
            let _ = reports.send(Report::Step(event)).await;
        });
    }

    fn stage(&mut self, slot: SlotId, order: OrderId) {
        let Some(job) = self.needed(&slot, order, Step::Stage) else { return };
        let (workers, reports, teller) = (self.workers.clone(), self.reports.clone(), self.teller.clone());
        tokio::spawn(async move {
            let done = workers.compute("stage", SWAP, move || job.stage().map(|()| job.serial())).await;
            let event = match flat(done, Scope::Local, Kind::Transient) {
                Ok(serial) => {
                    teller.step(What::Staged, &slot, order, serial, (Outcome::Done, ""));
                    Event::Staged { slot, order }
                }
                Err(failure) => Event::Failed { slot, order, step: Step::Stage, failure },
            };
            let _ = reports.send(Report::Step(event)).await;
        });
    }

    fn activate(&mut self, slot: SlotId, order: OrderId) {
        let Some(job) = self.needed(&slot, order, Step::Activate) else { return };
        if matches!(slot, SlotId::Credential(_)) {
            // Its files serve to install it again, should the ledger not learn that it is.
            self.spent.push((slot.clone(), order));
        }
        let (workers, reports, teller) = (self.workers.clone(), self.reports.clone(), self.teller.clone());
        tokio::spawn(async move {
            let now = teller.now();
            let done = workers.compute("activate", SWAP, move || job.activate(now).map(|()| job.serial())).await;
            let event = match flat(done, Scope::Local, Kind::Transient) {
                Ok(serial) => {
                    tracing::info!(%order, serial, "{slot}: the new certificate is in use");
                    teller.step(What::Activated, &slot, order, serial, (Outcome::Done, ""));
                    Event::Activated { slot, order }
                }
                Err(failure) => {
                    teller.step(What::Activated, &slot, order, None, (Outcome::Failed, &failure.text));
                    Event::Failed { slot, order, step: Step::Activate, failure }
                }
            };
            let _ = reports.send(Report::Step(event)).await;
        });
    }

    fn cancel(&mut self, slot: SlotId, order: OrderId, reason: &str) {
        let event = self.teller.event(What::Cancelled, about(&slot));
        self.teller.saw(&AuditEvent { order: Some(order.to_string()), ..event.saying(reason) });
        self.destroy(slot, order);
    }

    /// Ends what is on the wire for the order and destroys its files.
    pub(super) fn destroy(&mut self, slot: SlotId, order: OrderId) {
        let wire = match self.wires.get(&slot) {
            Some(wire) if wire.order == order => self.wires.remove(&slot),
            _ => None,
        };
        let place = match &slot {
            SlotId::Signer(issuer) => self.parts.slots.slot(issuer.as_str()),
            SlotId::Credential(endpoint) => self.parts.credentials.slot(endpoint.as_str()),
        };
        let (workers, reports, unkept) = (self.workers.clone(), self.reports.clone(), self.unkept.clone());
        tokio::spawn(async move {
            end(wire).await;
            let id = order.to_string();
            unkept.forget(&id);
            let done = workers.compute("cancel", SWAP, move || place.cancel(&id)).await;
            match done {
                Ok(Ok(())) => {}
                Ok(Err(SlotError::InUse(_))) => tracing::warn!(%order, "{slot}: not destroyed, since it is in use"),
                Ok(Err(error)) => tracing::error!(%order, "{slot}: not destroyed before the next start: {error}"),
                Err(fault) => tracing::error!(%order, "{slot}: not destroyed before the next start: {fault}"),
            }
            let _ = reports.send(Report::Cleaned).await;
        });
    }

    fn needed(&mut self, slot: &SlotId, order: OrderId, step: Step) -> Option<Job> {
        let job = self.job(slot, order);
        if job.is_none() {
            self.lacking(slot, order, step);
        }
        job
    }

    fn lacking(&mut self, slot: &SlotId, order: OrderId, step: Step) {
        let text = match slot {
            SlotId::Signer(_) => "the registry has had no usable record of it since the start",
            SlotId::Credential(_) => "the configuration no longer has this credential",
        };
        let failure = Failure::new(Scope::Issuer, Kind::Transient, text);
        let slot = slot.clone();
        self.tell(match step {
            Step::Submit(attempt) => Event::NotSent { slot, order, attempt, failure },
            step => Event::Failed { slot, order, step, failure },
        });
    }
}

/// Drops a request and waits, briefly, until its connection is closed.
async fn end(wire: Option<Wire>) {
    if let Some(wire) = wire {
        let _ = wire.drop.send(());
        let _ = tokio::time::timeout(DROP, wire.task).await;
    }
}

/// What the core and the witness are told of an answer, and how the request is counted, where one was sent; `None`: nobody wants
/// to know.
fn told(teller: &Teller, request: &Request, answer: Answer) -> Option<(Event, Option<&'static str>)> {
    let (slot, order, attempt) = (request.slot.clone(), request.order, request.attempt);
    let was_sent = !matches!(answer, Answer::Present(_) | Answer::NotSent(_));
    let mut came = None;
    let (event, result, outcome, text) = match answer {
        Answer::Dropped => return None,
        Answer::Issued(serial) => {
            let text = format!("certificate {serial}");
            came = Some(serial);
            (Event::Issued { slot, order }, "issued", Outcome::Done, text)
        }
        Answer::Present(serial) => {
            let text = format!("certificate {serial} had come before: nothing was sent");
            came = Some(serial);
            (Event::Present { slot, order }, "issued", Outcome::Done, text)
        }
        Answer::NotSent(failure) => {
            let (result, outcome, text) = (result_of(&failure), outcome_of(&failure), format!("not sent: {failure}"));
            (Event::NotSent { slot, order, attempt, failure }, result, outcome, text)
        }
        Answer::Later { retry_after, text } => {
            (Event::Later { slot, order, attempt, retry_after }, "later", Outcome::Later, text)
        }
        Answer::Failed(failure) => {
            let (result, outcome, text) = (result_of(&failure), outcome_of(&failure), failure.to_string());
            (Event::Failed { slot, order, step: Step::Submit(attempt), failure }, result, outcome, text)
        }
    };
    match outcome {
        Outcome::Done | Outcome::Later => tracing::info!(%order, attempt, "{}: {result} {text}", request.slot),
        _ => tracing::warn!(%order, attempt, "{}: {result}: {text}", request.slot),
    }
    teller.answer(request, came, outcome, &text);
    Some((event, was_sent.then_some(result)))
}

fn flat<T>(done: Result<Result<T, Failure>, WorkFault>, scope: Scope, kind: Kind) -> Result<T, Failure> {
    done.unwrap_or_else(|fault| Err(failure_of_work(&fault, scope, kind)))
}

/// Our own code hung or panicked.
fn failure_of_work(fault: &WorkFault, scope: Scope, kind: Kind) -> Failure {
    let (scope, kind) = match fault {
        WorkFault::NoThread { .. } | WorkFault::AllTaken { .. } => (Scope::Local, Kind::Transient),
        WorkFault::Panicked { .. } => (Scope::Item, Kind::Permanent),
        WorkFault::TimedOut { .. } => (scope, kind),
    };
    Failure::new(scope, kind, &fault.to_string())
}
