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
    /// Requests of the fleet since the last sample, per minute.
    pub requests: f64,
    /// Failed calls of customers since the last sample, those turned away included, per cent; none without calls.
    pub failing: Option<f64>,
    /// Connections at the CA.
    pub connections: usize,
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
    /// Milliseconds in which an issuer had no valid signer on a node.
    pub unserved: Ms,
    minute: (Ms, u64),
    since: Since,
}

#[derive(Debug, Default)]
struct Since {
    at: Ms,
    requests: u64,
    calls: u64,
    hurt: u64,
}

impl Measure {
    pub(super) fn sent(&mut self, sent: Sent) {
        self.totals.requests += 1;
        let minute = sent.at / MINUTE;
        if self.minute.0 == minute {
            self.minute.1 += 1;
        } else {
            self.minute = (minute, 1);
        }
        self.totals.peak_per_minute = self.totals.peak_per_minute.max(self.minute.1);
        self.sent.push(sent);
    }

    pub(super) fn sample(&mut self, now: Ms, queue: usize, connections: usize, slack: Option<i64>) {
        let t = &self.totals;
        let minutes = now.saturating_sub(self.since.at) as f64 / MINUTE as f64;
        let (requests, calls, hurt) =
            (t.requests - self.since.requests, t.calls - self.since.calls, t.hurt + t.limited - self.since.hurt);
        self.samples.push(Sample {
            at: now / 1_000,
            queue,
            requests: if minutes > 0.0 { requests as f64 / minutes } else { 0.0 },
            failing: (calls > 0).then(|| (hurt as f64 * 100.0 / calls as f64).min(100.0)),
            connections,
            slack,
        });
        self.since = Since { at: now, requests: t.requests, calls: t.calls, hurt: t.hurt + t.limited };
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
