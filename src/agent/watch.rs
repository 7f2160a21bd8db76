//! What the agent looks at by itself, pass by pass: our own certificates, what is long gone.

use super::driver::{Driver, PUBLISH, Report};
use super::parts::Service;
use super::verify::life_of;
use super::view::{AgentView, Coverage, CredentialView, Tally};
use crate::enrolment::ClientCredential;
use crate::https::Stamp;
use crate::registry::IssuerId;
use crate::renewal::{Cause, EndpointId, Event, Order, OrderId, Phase, Record, SignerLife, SlotId, SlotRecord};
use crate::signer::slots::Slots;
use crate::time::{Timestamp, monotonic};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Reading two small files.
const READ: Duration = Duration::from_secs(30);
/// How often former signers are looked at.
const RETIRE: Duration = Duration::from_secs(15);
/// Records of slots that nobody has spoken of for so long are removed from the ledger.
const LONG_GONE: Duration = Duration::from_secs(30 * 86_400);

/// What a look at our own certificate showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The certificate, where it could be read.
    pub life: Option<SignerLife>,
    /// Why it cannot be used now.
    pub fault: Option<String>,
}

impl Driver {
    /// What is to be done at every pass, beside the core's work.
    pub(super) fn housekeeping(&mut self, now: Timestamp) {
        let since = |at: Option<Instant>| at.map(|at| monotonic().saturating_duration_since(at));
        let pass = Duration::from_secs(AgentView::PASS_SECS);
        if since(self.housekept).is_none_or(|age| age >= pass) {
            self.housekept = Some(monotonic());
            self.keep_house(now);
        }
        let least = if self.is_dirty { PUBLISH } else { pass };
        if since(self.published).is_none_or(|age| age >= least) {
            self.publish(now);
        }
    }

    fn keep_house(&mut self, now: Timestamp) {
        if !self.unsaved.is_empty() {
            self.save(Vec::new());
        }
        self.look_at_credentials();
        if now < self.retired || now.since(self.retired) >= RETIRE {
            self.retired = now;
            self.retire(now);
        }
    }

    /// Looks at what we prove ourselves by, at each service on its own. While a look has not ended, be it given up, there is no
    /// other: a file system that hangs costs one thread.
    pub(super) fn look_at_credentials(&mut self) {
        let is_over = |look: Option<&Weak<()>>| look.is_none_or(|look| look.strong_count() == 0);
        let services = self.services.values().filter(|service| is_over(self.looking.get(&service.spec.id)));
        let services: Vec<Service> = services.cloned().collect();
        for service in services {
            let endpoint = service.spec.id;
            let credential = service.enrolment.credential().cloned();
            let secret = service.enrolment.secret_file().map(Path::to_owned);
            if credential.is_none() && secret.is_none() {
                continue;
            }
            let is_watched = credential.is_some();
            let look = Arc::new(());
            self.looking.insert(endpoint.clone(), Arc::downgrade(&look));
            let (workers, reports) = (self.workers.clone(), self.reports.clone());
            tokio::spawn(async move {
                // Not one of the few places that orders need: whoever waits for a disk needs no processor.
                let seen = workers.look("credential", READ, move || {
                    let _look = look;
                    (credential.map(|credential| look_at(&credential)), secret.map(|file| Stamp::of(&file)))
                });
                let (seen, stamp) = seen.await.unwrap_or_else(|fault| {
                    (is_watched.then(|| Seen { life: None, fault: Some(fault.to_string()) }), None)
                });
                if let Some(stamp) = stamp {
                    let _ = reports.send(Report::Secret { endpoint: endpoint.clone(), stamp }).await;
                }
                if let Some(seen) = seen {
                    let _ = reports.send(Report::Credential { endpoint, seen }).await;
                }
            });
        }
    }

    pub(super) fn secret_seen(&mut self, endpoint: EndpointId, stamp: Option<Stamp>) {
        let before = self.secrets.insert(endpoint.clone(), stamp);
        if let Some(stamp) = stamp
            && before != Some(Some(stamp))
        {
            let changed = match before {
                // While nobody looked: a refusal of before it is none of it.
                None => stamp.changed(),
                Some(_) => {
                    tracing::info!("what we prove ourselves by at {endpoint} has changed");
                    self.teller.now()
                }
            };
            self.tell(Event::Secret { endpoint, changed });
        }
    }

    pub(super) fn credential_seen(&mut self, endpoint: EndpointId, seen: Seen) {
        if !self.services.contains_key(&endpoint) {
            return;
        }
        let before = self.credentials.insert(endpoint.clone(), seen.clone());
        if before.as_ref() == Some(&seen) {
            return;
        }
        match (&seen.fault, before.as_ref().and_then(|b| b.fault.as_ref())) {
            (Some(fault), before) if before != Some(fault) => tracing::error!("{fault}"),
            (None, Some(_)) => tracing::info!("our client certificate for {endpoint} can be used again"),
            _ => {}
        }
        // What cannot be read says nothing of what is in use.
        if seen.life.is_some() && before.and_then(|b| b.life) != seen.life {
            self.tell(Event::Signer { slot: SlotId::Credential(endpoint), life: seen.life });
        }
    }

    /// What a look at a signer in use showed. It counts as looked at once the core knows.
    pub(super) fn signer_seen(&mut self, slot: SlotId, life: Option<SignerLife>, fault: Option<String>) {
        if self.tell(Event::Signer { slot: slot.clone(), life }) {
            match fault {
                Some(fault) => drop(self.unchecked.insert(slot.clone(), fault)),
                None => drop(self.unchecked.remove(&slot)),
            }
            self.seen.insert(slot);
        }
    }

    /// The signer in use is to be looked at again.
    pub(super) fn look_anew(&mut self, slot: &SlotId) {
        self.told.remove(slot);
        self.seen.remove(slot);
        self.unchecked.remove(slot);
    }

    /// Issuers that the registry no longer names are as if they had never been; of a record that cannot be used now, the last one
    /// that could is kept.
    pub(super) fn forget_all_but(&mut self, quarantined: &[IssuerId]) {
        let (enrolled, quarantined) = (&self.enrolled, quarantined.iter().collect::<BTreeSet<_>>());
        let is_named = |id: &IssuerId| enrolled.contains(id) || quarantined.contains(id);
        let is_there = |slot: &SlotId| !matches!(slot, SlotId::Signer(id) if !is_named(id));
        self.issuers.retain(|id, _| is_named(id));
        self.told.retain(is_there);
        self.seen.retain(is_there);
        self.unchecked.retain(|slot, _| is_there(slot));
    }

    /// Orders of our own credentials that the ledger knows to be over.
    pub(super) fn clean_up_spent(&mut self) {
        let now = self.teller.now();
        for (slot, order) in std::mem::take(&mut self.spent) {
            let is_open = self.core.slot_view(&slot, now).is_some_and(|view| view.order == Some(order));
            if is_open {
                self.spent.push((slot, order));
            } else {
                self.destroy(slot, order);
            }
        }
    }

    /// Removes the records of issuers that the registry has not spoken of for a month.
    pub(super) fn forget_what_is_long_gone(&mut self) {
        let Some(generation) = self.reading.as_ref().map(|reading| &reading.generation) else { return };
        let now = self.teller.now();
        let named: BTreeSet<&str> = generation
            .issuers
            .iter()
            .map(|issuer| issuer.id.as_str())
            .chain(generation.quarantined.iter().filter_map(|q| q.id.as_ref().map(IssuerId::as_str)))
            .collect();
        let gone: Vec<String> = self
            .restored
            .iter()
            .filter(|(_, at)| now.since(**at) > LONG_GONE)
            .filter(|(key, _)| key.strip_prefix("signer/").is_some_and(|issuer| !named.contains(issuer)))
            .map(|(key, _)| key.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        match self.ledger.forget(&gone) {
            Ok(()) => tracing::info!("{} ledger records of issuers that are long gone are removed", gone.len()),
            Err(error) => tracing::warn!("{error}"),
        }
        self.restored.retain(|key, _| !gone.contains(key));
    }

    pub(super) fn view(&self, now: Timestamp) -> AgentView {
        let tallies = self.tallies.iter();
        AgentView {
            started: self.started,
            last_pass: now,
            passed: monotonic(),
            coverage: self.coverage(),
            requests: tallies
                .map(|((endpoint, cause, result), count)| Tally {
                    endpoint: endpoint.clone(),
                    cause: *cause,
                    result,
                    count: *count,
                })
                .collect(),
            credentials: self
                .credentials
                .iter()
                .map(|(endpoint, seen)| CredentialView {
                    endpoint: endpoint.clone(),
                    not_after: seen.life.map(|life| life.not_after),
                    fault: seen.fault.clone(),
                })
                .collect(),
            abandoned: self.workers.abandoned(),
            ledger_fault: self.ledger_fault.clone(),
        }
    }

    fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        let mut unreadable = |name: String, why: &str| {
            coverage.unreadable.entry(name).or_insert_with(|| why.to_owned());
        };
        for fault in &self.parts.faults {
            // A signer that came since is good.
            if self.parts.slots.slot(&fault.slot).current().is_none() {
                unreadable(fault.slot.clone(), &fault.text);
            }
        }
        let quarantined = self.reading.iter().flat_map(|reading| &reading.generation.quarantined);
        for record in quarantined {
            let why = record.faults.first().map_or_else(|| "its record cannot be used".to_owned(), ToString::to_string);
            unreadable(record.name(), &why);
        }
        for (endpoint, seen) in &self.credentials {
            if let (None, Some(fault)) = (&seen.life, &seen.fault) {
                unreadable(SlotId::Credential(endpoint.clone()).to_string(), fault);
            }
        }
        for (slot, why) in &self.unchecked {
            unreadable(slot.to_string(), why);
        }
        // What there is: the signers that the registry names, our own certificates, and what is named as unreadable.
        let signers = self.enrolled.iter().map(|id| SlotId::Signer(id.clone()));
        let own = self.services.values().filter(|s| s.enrolment.credential().is_some());
        let own = own.map(|s| SlotId::Credential(s.spec.id.clone()));
        let is_seen = |slot: &SlotId| match slot {
            SlotId::Signer(_) => self.seen.contains(slot),
            SlotId::Credential(endpoint) => self.credentials.contains_key(endpoint),
        };
        let mut named = 0;
        for slot in signers.chain(own) {
            coverage.known += 1;
            if !coverage.unreadable.is_empty() && coverage.unreadable.contains_key(&slot.to_string()) {
                named += 1;
            } else if is_seen(&slot) {
                coverage.checked += 1;
            }
        }
        coverage.known += coverage.unreadable.len() - named;
        coverage
    }
}

fn look_at(credential: &ClientCredential) -> Seen {
    match credential.certificate() {
        Ok(certificate) => {
            Seen { life: Some(life_of(&certificate)), fault: credential.check().err().map(|error| error.to_string()) }
        }
        Err(error) => Seen { life: None, fault: Some(error.to_string()) },
    }
}

/// Destroys orders on disk that nobody knows: they were given up by a process that died before it could do so itself.
/// The orders of a slot whose record was set aside stay: one of them may be open.
pub(super) fn sweep(slots: &Slots, kind: &str, open: &BTreeSet<String>, aside: &BTreeSet<String>) {
    for name in slots.names() {
        if aside.contains(&format!("{kind}/{name}")) {
            tracing::warn!("{name}: its record in the ledger was set aside; none of its orders is destroyed");
            continue;
        }
        let slot = slots.slot(&name);
        let found = slot.open_orders().unwrap_or_else(|error| {
            tracing::error!("{name}: its orders cannot be listed: {error}");
            Vec::new()
        });
        for order in found.into_iter().filter(|order| !open.contains(order)) {
            match slot.cancel(&order) {
                Ok(()) => tracing::info!(order, "{name}: an order that was given up is destroyed"),
                Err(error) => tracing::error!(order, "{name}: an order that was given up is not destroyed: {error}"),
            }
        }
    }
}

/// What is in place as the next signer, which the slots know without a ledger: it goes on from there, and waits for its approval
/// anew where one is needed. Otherwise another would be ordered and take its place.
pub(super) fn staged_orders(slots: &Slots, now: Timestamp) -> Vec<Record> {
    let staged = |name: String| {
        let next = slots.slot(&name).next()?;
        let id = u64::from_str_radix(&next.order, 16).map(OrderId::from_number).ok()?;
        let slot = SlotId::Signer(IssuerId::new(&name).ok()?);
        (id.to_string() == next.order).then(|| {
            tracing::info!(order = next.order, "{slot}: what is in place as its next signer is kept");
            let order = Order { id, cause: Cause::Retry, opened: now, prepared: true, attempts: 1, polls: 0 };
            let life = life_of(&next.certificate);
            let phase = Phase::Staged { order, life, approved: false };
            Record::Slot(SlotRecord::of_first_order(slot, phase, now))
        })
    };
    slots.names().into_iter().filter_map(staged).collect()
}

/// The order of a phase, as its files are named.
pub(super) fn open_order(phase: &Phase) -> Option<String> {
    phase.order().map(|order| OrderId::to_string(&order.id))
}
