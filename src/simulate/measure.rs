//! What is counted while a world runs.

use super::agenda::{MINUTE, Ms};
use super::setup::Slot;
use crate::renewal::{Cause, OrderId};
use crate::time::Timestamp;
use serde::Serialize;

/// Sums over a whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Requests for certificates that the fleet sent to the CA.
    pub requests: u64,
    /// The most of them within one minute.
    pub peak_per_minute: u64,
    /// Requests that no certificate in use came of.
    pub wasted: u64,
    /// Certificates that came into use.
    pub renewed: u64,
    /// Calls of the CA's other customers, repeated ones included.
    pub calls: u64,
    /// Calls of them that failed: no answer in their time (503), or no connection.
    pub hurt: u64,
    /// Calls that were turned away because the customer's account had failed too often (429).
    pub limited: u64,
    /// The longest queue at the CA.
    pub longest_queue: usize,
    /// The most connections at a time.
    pub most_connections: usize,
    /// Signers that expired in use.
    pub expired: u64,
    /// Signers that were in use when less than a response's validity was left of them.
    pub late: u64,
    /// Minutes in which an issuer had no valid signer on a node, over all of them.
    pub unserved_minutes: u64,
    /// Notices that somebody should act.
    pub alarms: u64,
    /// Orders opened, each with a key of its own.
    pub orders: u64,
    /// Events of the simulation.
    pub events: u64,
}

/// One point of the curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds from the beginning.
    pub at: u64,
    /// Jobs that wait at the CA.
    pub queue: usize,
    /// Requests of the fleet in the busiest whole minute since the last sample.
    pub requests: u64,
    /// Failed calls of customers in the worst of these minutes, those turned away included, per cent; none without calls.
    pub failing: Option<f64>,
    /// Connections at the CA.
    pub connections: usize,
    /// Issuers, times nodes, that have no valid signer.
    pub unserved: usize,
    /// Seconds until the first signer must be replaced; negative: it should have been.
    pub slack: Option<i64>,
}

/// A request of the fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub at: Ms,
    pub node: usize,
    pub slot: Slot,
    pub order: OrderId,
    pub cause: Option<Cause>,
    /// The end of the certificate in use; none if there is none.
    pub deadline: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Measure {
    pub totals: Totals,
    pub samples: Vec<Sample>,
    pub sent: Vec<Sent>,
    /// Alarms, with their slot where they have one.
    pub alarms: Vec<(Ms, usize, Option<Slot>)>,
    /// When each new certificate came into use.
    pub installed: Vec<(Ms, usize, Slot)>,
    /// Requests of ours that failed, with their slot.
    pub failed: Vec<(Ms, usize, Slot)>,
    /// What a node has said of a slot when it was asked why.
    pub explained: Vec<(Ms, usize, Slot, String)>,
    /// Generations of the registry that an operator had to approve, with what they would change.
    pub held: Vec<(Ms, String)>,
    /// Milliseconds in which an issuer had no valid signer on a node.
    pub unserved: Ms,
    /// Minutes in which anything was asked for.
    pub minutes: Vec<Minute>,
    counted: Counted,
    /// The worst of the minutes since the last sample.
    worst: (u64, Option<f64>),
}

/// One whole minute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Minute {
    /// Its number from the beginning.
    pub at: u64,
    /// Failed calls of customers, those turned away included, per cent; none without calls.
    pub failing: Option<f64>,
}

/// What had been counted when the present minute began.
#[derive(Debug, Default)]
struct Counted {
    minute: u64,
    requests: u64,
    calls: u64,
    hurt: u64,
}

impl Measure {
    pub(super) fn sent(&mut self, sent: Sent) {
        self.totals.requests += 1;
        self.sent.push(sent);
    }

    /// Time has come to here: a minute may be over.
    pub(super) fn tick(&mut self, now: Ms) {
        let minute = now / MINUTE;
        if minute == self.counted.minute {
            return;
        }
        let (t, before) = (&self.totals, &self.counted);
        let (requests, calls, hurt) =
            (t.requests - before.requests, t.calls - before.calls, t.hurt + t.limited - before.hurt);
        let failing = (calls > 0).then(|| (hurt as f64 * 100.0 / calls as f64).min(100.0));
        if requests + calls > 0 {
            self.minutes.push(Minute { at: before.minute, failing });
            let worse = failing.into_iter().chain(self.worst.1).reduce(f64::max);
            self.worst = (self.worst.0.max(requests), worse);
        }
        self.counted = Counted { minute, requests: t.requests, calls: t.calls, hurt: t.hurt + t.limited };
        self.totals.peak_per_minute = self.totals.peak_per_minute.max(requests);
    }

    pub(super) fn sample(&mut self, now: Ms, queue: usize, connections: usize, unserved: usize, slack: Option<i64>) {
        let (requests, failing) = std::mem::take(&mut self.worst);
        let sample = Sample { at: now / 1_000, queue, requests, failing, connections, unserved, slack };
        self.samples.push(sample);
    }

    pub(super) fn finish(&mut self) {
        self.totals.wasted = self.totals.requests.saturating_sub(self.totals.renewed);
        let mut orders: Vec<(usize, OrderId)> = self.sent.iter().map(|s| (s.node, s.order)).collect();
        orders.sort_unstable();
        orders.dedup();
        self.totals.orders = orders.len() as u64;
        self.totals.unserved_minutes = self.unserved / MINUTE;
    }
}
