//! Why a slot is where it is, and what it waits for, in words.

use super::core::Core;
use super::event::{Ignored, Reach};
use super::gate::Gate;
use super::id::SlotId;
use super::slot::{Hold, Known, Park, Phase, Slot, Standing};
use crate::time::Timestamp;
use serde::Serialize;

/// The answer to "why not?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whom it is about.
    pub slot: SlotId,
    /// Where it is.
    pub phase: &'static str,
    /// What the registry or the configuration says of it.
    pub standing: Standing,
    /// Somebody should act.
    pub alarming: bool,
    /// Sentences, the most important first; at least one.
    pub reasons: Vec<String>,
}

impl Core {
    /// Everything that stands between this slot and its next signer, and what is known of both.
    pub fn explain(&self, id: &SlotId, now: Timestamp) -> Result<Explanation, Ignored> {
        let slot = self.slots.get(id).ok_or_else(|| Ignored::UnknownSlot(id.clone()))?;
        let mut reasons = Vec::new();
        let mut alarming = slot.is_parked();
        standing(slot, &mut reasons);
        hold(slot, now, &mut reasons);
        reasons.push(phase(slot, self.active_from(slot).filter(|from| *from > now), now));
        let asks = matches!(slot.phase, Phase::Due | Phase::Ordered(_) | Phase::Waiting(..));
        match &slot.terms {
            Some(terms) if asks && slot.standing == Standing::Active => {
                if let Err(gate) = self.gate(&terms.endpoint, id, now) {
                    alarming |= gate.is_alarming();
                    reasons.push(format!("endpoint {}: {gate}", terms.endpoint));
                } else if slot.held_until().is_none_or(|until| until <= now) {
                    reasons.push(format!("endpoint {}: nothing stands in the way", terms.endpoint));
                }
                let ahead = self
                    .endpoints
                    .get(&terms.endpoint)
                    .map_or(0, |e| e.queue.iter().take_while(|rank| rank.slot != *id).count());
                if ahead > 0 && slot.held_until().is_none_or(|until| until <= now) {
                    reasons.push(format!("{ahead} with an earlier deadline are before it"));
                }
            }
            _ => {
                if let Some(pause) = self.pauses.get(&Reach::Slot(id.clone())).filter(|p| p.until > now) {
                    let (who, reason) = (pause.who.clone(), pause.reason.clone());
                    reasons.push(Gate::Paused { who, until: pause.until, reason }.to_string());
                }
            }
        }
        alarming |= certificate(slot, now, &mut reasons);
        if let Some((at, failure)) = &slot.last_failure {
            reasons.push(format!("last failure, at {at}, {} in a row: {failure}", slot.failures.max(1)));
        }
        Ok(Explanation { slot: id.clone(), phase: slot.phase.name(), standing: slot.standing, alarming, reasons })
    }
}

fn standing(slot: &Slot, reasons: &mut Vec<String>) {
    let text = match slot.standing {
        Standing::Active => return,
        Standing::Unknown => "the registry has not been read since the start: nothing is asked for without its word",
        Standing::Disabled => "the registry says disabled: nothing is asked for; the signer is used while it lasts",
        Standing::Held(by) => {
            reasons.push(format!(
                "generation {by} of the registry, which is held, would change whether or how it is asked for: nothing is asked for until that generation is approved, or a higher one puts it right; the signer is used while it lasts"
            ));
            return;
        }
        Standing::Retired => "the registry says retired: nothing is asked for",
        Standing::Removed => "it is no longer in the registry: nothing is asked for",
        Standing::Quarantined => "its registry record cannot be used: nothing is asked for until it can",
        Standing::Watched => "it is watched only: client_profile is not set, so someone else must renew it",
    };
    reasons.push(text.to_owned());
}

fn hold(slot: &Slot, now: Timestamp, reasons: &mut Vec<String>) {
    match &slot.hold {
        Hold::Parked { why, text, since, canary } => {
            let lifts = match why {
                Park::Governor => "an operator's unpark or a change of its registry record lifts it",
                _ => "a change of its registry record, unpark, or a good answer to the request of the day lifts it",
            };
            reasons.push(format!("parked since {since}: {text}; {lifts}; asked once a day, next at {canary}"));
        }
        Hold::Backoff { until } if *until > now => {
            let failures = slot.failures.saturating_add(slot.turned_away).max(1);
            reasons.push(format!("backs off until {until} after {failures} failures in a row"));
        }
        _ => {}
    }
}

/// `from`: when what is in place may become active, if that is yet to come.
fn phase(slot: &Slot, from: Option<Timestamp>, now: Timestamp) -> String {
    match &slot.phase {
        Phase::Idle => match (&slot.known, &slot.schedule) {
            (Known::Nothing, _) => "it is not known yet what certificate it has".to_owned(),
            (_, Some(s)) => format!(
                "renewal begins at {}, its place between {} and {}, unless something above forbids it",
                s.due, s.opens, s.closes
            ),
            _ => "there is nothing to do".to_owned(),
        },
        Phase::Due => "it is to be renewed, and no order has been opened".to_owned(),
        Phase::Preparing(o) => format!("key and CSR of order {} are being made", o.id),
        Phase::Ordered(o) if o.attempts == 0 => format!("order {} is on disk and has not been sent", o.id),
        Phase::Ordered(o) => {
            format!("order {} has been sent {} times without a final answer; the same is asked again", o.id, o.attempts)
        }
        Phase::InFlight(o) => format!("order {} is on the wire, for the {}. time", o.id, o.attempts),
        Phase::Waiting(o, _) => match slot.held_until().filter(|until| *until > now) {
            Some(until) => format!("the CA has accepted order {} and decides later; asked again at {until}", o.id),
            None => format!("the CA has accepted order {}; it is to be asked again", o.id),
        },
        Phase::Issued(o) => format!("a certificate for order {} has come and is being checked", o.id),
        Phase::Verified(o, life) => format!("certificate {} of order {} passed every check", life.serial, o.id),
        Phase::Staged { life, approved: false, .. } => {
            let soonest =
                from.map_or_else(String::new, |from| format!("; it becomes active at {from} at the earliest"));
            format!("certificate {} is in place and waits for an operator's approve{soonest}", life.serial)
        }
        Phase::Staged { life, .. } => {
            let at = from.map_or_else(|| "now".to_owned(), |from| format!("at {from}"));
            format!(
                "certificate {} is in place and becomes active {at}: no earlier than activation_skew after its notBefore, {}",
                life.serial, life.not_before
            )
        }
        Phase::Activating(_, life) => format!("certificate {} is being made the current one", life.serial),
    }
}

/// `true`: its time is short.
fn certificate(slot: &Slot, now: Timestamp, reasons: &mut Vec<String>) -> bool {
    match (&slot.known, &slot.schedule) {
        (Known::Absent, _) if slot.is_lost() => {
            reasons.push("the signer it had cannot be used any more: there is nothing to sign with".to_owned());
            return true;
        }
        (Known::Absent, _) => reasons.push("it has no signer: there is nothing to sign with".to_owned()),
        (Known::Present(life), Some(s)) => {
            let (serial, not_after) = (life.serial, life.not_after);
            let late = if now >= s.deadline { ", which has passed" } else { "" };
            reasons.push(format!(
                "certificate {serial} expires at {not_after}; the next one must be in use by {}{late}",
                s.deadline
            ));
            return now >= s.urgent;
        }
        _ => {}
    }
    false
}
