//! What is told of what is done: to the log, and to the witness.

use crate::audit::{About, AuditEvent, Outcome, What, Witness};
use crate::renewal::{Cause, EndpointId, Failure, Kind, Notice, OrderId, Reach, Request, SlotId};
use crate::time::{Clock, Timestamp};
use std::sync::Arc;

/// Who acts on its own.
const AGENT: &str = "agent";

/// Tells; cheap to clone.
#[derive(Clone)]
pub(super) struct Teller {
    pub witness: Arc<dyn Witness>,
    pub clock: Arc<dyn Clock>,
}

impl Teller {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Something of an order, or of nobody in particular.
    pub(super) fn event(&self, what: What, about: About) -> AuditEvent {
        AuditEvent::new(self.now(), AGENT, what, about)
    }

    pub(super) fn saw(&self, event: &AuditEvent) {
        self.witness.saw(event);
    }

    /// Of a step of an order, and of the certificate with this serial number, where there is one.
    pub(super) fn step(
        &self,
        what: What,
        slot: &SlotId,
        order: OrderId,
        serial: Option<String>,
        ended: (Outcome, &str),
    ) {
        let (outcome, text) = ended;
        let of_slot = self.event(what, about(slot));
        let event = AuditEvent { order: Some(order.to_string()), serial, outcome: Some(outcome), ..of_slot };
        self.saw(&event.saying(text));
    }

    /// Of a request.
    pub(super) fn request(&self, what: What, request: &Request, outcome: Option<Outcome>, text: &str) {
        self.saw(&self.of_request(what, request, outcome).saying(text));
    }

    /// What became of a request: the serial number of the certificate, if one came.
    pub(super) fn answer(&self, request: &Request, serial: Option<String>, outcome: Outcome, text: &str) {
        let event = AuditEvent { serial, ..self.of_request(What::Answer, request, Some(outcome)) };
        self.saw(&event.saying(text));
    }

    fn of_request(&self, what: What, request: &Request, outcome: Option<Outcome>) -> AuditEvent {
        AuditEvent {
            endpoint: Some(request.endpoint.to_string()),
            order: Some(request.order.to_string()),
            cause: Some(request.cause.name().to_owned()),
            attempt: Some(request.attempt),
            outcome,
            ..self.event(what, about(&request.slot))
        }
    }

    /// Something worth knowing.
    pub(super) fn notice(&self, notice: &Notice) {
        let text = &notice.text;
        if notice.alarm {
            tracing::error!("{}: {text}", notice.about);
        } else {
            tracing::info!("{}: {text}", notice.about);
        }
        let event = AuditEvent { alarm: notice.alarm, ..self.event(What::Notice, about_reach(&notice.about)) };
        self.saw(&event.saying(text.clone()));
    }

    /// An alarm about everything.
    pub(super) fn alarm(&self, text: String) {
        self.notice(&Notice { about: Reach::All, alarm: true, text });
    }
}

/// How a request ended, for the metrics.
pub(super) const fn result_of(failure: &Failure) -> &'static str {
    match failure.kind {
        Kind::Transient => "failed",
        Kind::Permanent => "refused",
        Kind::Unknown => "unknown",
    }
}

/// How something ended, for the trail.
pub(super) const fn outcome_of(failure: &Failure) -> Outcome {
    match failure.kind {
        Kind::Transient => Outcome::Failed,
        Kind::Permanent => Outcome::Refused,
        Kind::Unknown => Outcome::Unknown,
    }
}

pub(super) fn about(slot: &SlotId) -> About {
    match slot {
        SlotId::Credential(endpoint) => About::Credential(endpoint.to_string()),
        SlotId::Signer(issuer) => About::Issuer(issuer.to_string()),
    }
}

pub(super) fn about_reach(reach: &Reach) -> About {
    match reach {
        Reach::All => About::All,
        Reach::Endpoint(endpoint) => About::Endpoint(endpoint.to_string()),
        Reach::Slot(slot) => about(slot),
    }
}

/// The key under which requests are counted.
pub(super) type TallyKey = (EndpointId, Cause, &'static str);
