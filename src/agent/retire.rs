//! Keys that nobody needs any more: of former signers once their last answer has run out, and of issuers that are gone from the
//! registry, after a while in which the registry may turn out to have been wrong.

use super::driver::{Driver, Report};
use super::tell::{Teller, about};
use super::work::WorkFault;
use crate::audit::{AuditEvent, Outcome, What};
use crate::registry::{IssuerId, Tombstone};
use crate::renewal::SlotId;
use crate::signer::slots::{Slot, SlotError};
use crate::time::{Timestamp, monotonic};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Three files to be written over, and their directory.
const DESTROY: Duration = Duration::from_secs(30);
/// So long the signers of an issuer that the registry calls retired, or no longer names, are kept. Nothing is answered for it
/// meanwhile; who made a mistake has a week to undo it, with nothing lost.
pub(super) const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// And they are kept until this process has seen for so long, by the monotonic clock, that the issuer is gone; the whole time
/// where it was this process that noted it. A time of day that leaps a week ahead makes the registry's last look fresh as well.
pub const GONE_FOR: Duration = Duration::from_secs(3_600);

/// What is to be done about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Destroy the former signer.
    Previous,
    /// Note since when its issuer has been gone.
    Gone(Timestamp),
    /// Note that its issuer is there.
    Back,
    /// Destroy everything that has a place.
    Everything,
}

/// What was destroyed: orders, with the serial numbers where they are known.
type Destroyed = Vec<(String, Option<String>)>;

impl Driver {
    /// Looks at every slot. One on which a thread still works, be it given up, is left alone: a disk that hangs costs one thread.
    pub(super) fn retire(&mut self, now: Timestamp) {
        self.retiring.retain(|_, work| work.strong_count() > 0);
        let reading = self.reading.as_ref();
        let gone = reading.iter().flat_map(|r| r.generation.tombstones.iter().map(|t| (t.id.as_str(), t)));
        let gone: BTreeMap<&str, &Tombstone> = gone.collect();
        let max_age = self.settings.limits.evidence_max_age;
        let is_fresh = reading.is_some_and(|r| r.synced_at <= now && now.since(r.synced_at) <= max_age);
        let (monotonic_now, gone_for) = (monotonic(), self.parts.gone_for);
        self.gone.retain(|name, _| gone.contains_key(name.as_str()));
        let mut work = Vec::new();
        for name in self.parts.slots.names().into_iter().filter(|name| !self.retiring.contains_key(name)) {
            let slot = self.parts.slots.slot(&name);
            let tombstone = gone.get(name.as_str());
            let is_sure = tombstone.is_some() && {
                let from = self.gone.entry(name.clone()).or_insert_with(|| monotonic_now.checked_add(gone_for));
                from.is_some_and(|from| from <= monotonic_now)
            };
            if let Some(deed) = deed(&slot, tombstone.is_some(), reading.is_some(), is_fresh && is_sure, now) {
                if matches!(deed, Deed::Gone(_)) {
                    self.gone.insert(name, monotonic_now.checked_add(KEPT));
                }
                work.push((slot, deed, tombstone.map(|t| t.generation)));
            }
        }
        for (slot, deed, generation) in work {
            let hold = Arc::new(());
            self.retiring.insert(slot.name().to_owned(), Arc::downgrade(&hold));
            self.carry(slot, deed, generation, hold, now);
        }
    }

    fn carry(&self, slot: Slot, deed: Deed, generation: Option<u64>, hold: Arc<()>, now: Timestamp) {
        let (workers, teller, reports) = (self.workers.clone(), self.teller.clone(), self.reports.clone());
        tokio::spawn(async move {
            let place = slot.clone();
            let work = move || {
                let _hold = hold;
                carry_out(&place, deed, now)
            };
            let name = slot.name().to_owned();
            match workers.compute("retire", DESTROY, work).await.unwrap_or_else(|fault| Err(Trouble::Work(fault))) {
                Ok(orders) => {
                    let text = match (deed, generation) {
                        (Deed::Everything, Some(number)) => {
                            format!("the issuer has been gone since generation {number} of the registry, or longer")
                        }
                        _ => String::new(),
                    };
                    orders.iter().for_each(|order| destroyed(&teller, &name, order, &text));
                    if deed == Deed::Everything {
                        let _ = reports.send(Report::Emptied(name)).await;
                    }
                }
                Err(trouble) => tracing::error!("{name}: {}: {trouble}", deed.in_vain()),
            }
        });
    }

    /// The slot has no signer any more, which the core is told when it hears of the issuer again, or now, if that is so.
    pub(super) fn emptied(&mut self, name: &str) {
        let Ok(id) = IssuerId::new(name) else { return };
        let is_back = self.reading.iter().any(|r| r.generation.issuers.iter().any(|issuer| issuer.id == id));
        let slot = SlotId::Signer(id);
        self.look_anew(&slot);
        if is_back {
            self.tell_signer(slot);
        }
    }
}

impl Deed {
    const fn in_vain(self) -> &'static str {
        match self {
            Deed::Previous => "the former signer is not destroyed",
            Deed::Gone(_) | Deed::Back => "since when its issuer is gone cannot be noted",
            Deed::Everything => "its issuer is gone, and its signers are not destroyed",
        }
    }
}

/// `is_read`: the registry has been read, so that who is not gone is there. `is_sure`: and recently enough to act upon, by both
/// clocks.
fn deed(slot: &Slot, is_gone: bool, is_read: bool, is_sure: bool, now: Timestamp) -> Option<Deed> {
    match slot.gone_since() {
        Some(_) if is_read && !is_gone => return Some(Deed::Back),
        // Or the clock was ahead when that was noted.
        since if is_gone && since.is_none_or(|since| since > now) && slot.is_filled() => return Some(Deed::Gone(now)),
        Some(since) if is_gone && is_sure && now.since(since) >= KEPT && slot.is_filled() => {
            return Some(Deed::Everything);
        }
        _ => {}
    }
    slot.previous_until().is_some_and(|until| until <= now).then_some(Deed::Previous)
}

fn carry_out(slot: &Slot, deed: Deed, now: Timestamp) -> Result<Destroyed, Trouble> {
    let places = [slot.current(), slot.next(), slot.previous()];
    let orders = match deed {
        Deed::Previous => slot.retire_previous(now)?.into_iter().collect(),
        Deed::Gone(since) => slot.set_gone(Some(since)).map(|()| Vec::new())?,
        Deed::Back => slot.set_gone(None).map(|()| Vec::new())?,
        Deed::Everything => slot.empty()?,
    };
    let with_serial = |order: String| {
        let installed = places.iter().flatten().find(|installed| installed.order == order);
        (order, installed.map(|i| i.certificate.serial().to_string()))
    };
    Ok(orders.into_iter().map(with_serial).collect())
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Work(WorkFault),
}

fn destroyed(teller: &Teller, issuer: &str, (order, serial): &(String, Option<String>), text: &str) {
    tracing::info!(order, serial, "{issuer}: the key of a signer that nobody needs any more is destroyed");
    let Ok(issuer) = IssuerId::new(issuer) else { return };
    let event = teller.event(What::Destroyed, about(&SlotId::Signer(issuer))).saying(text);
    let (order, serial) = (Some(order.clone()), serial.clone());
    teller.saw(&AuditEvent { order, serial, outcome: Some(Outcome::Done), ..event });
}

/// Issuers that are gone, and from when on, by the monotonic clock, that may be acted upon.
pub(super) type GoneHere = BTreeMap<String, Option<Instant>>;
/// Slots on which a thread works.
pub(super) type Retiring = BTreeMap<String, Weak<()>>;
