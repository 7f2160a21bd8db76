//! What can stand between a slot that is due and its request; each in words that say what to do.

use crate::ocsp::Serial;
use crate::time::Timestamp;

/// One reason why a request does not leave now.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Gate {
    #[error("no [enrolment.{0}] in the configuration: nobody to ask")]
    NoEndpoint(String),
    #[error("paused by {who} until {until}: {reason}")]
    Paused { who: String, until: Timestamp, reason: String },
    #[error("the registry has not been read since the start: no evidence that the issuer is active")]
    NoEvidence,
    #[error(
        "the registry was last read at {synced}, which is older than {max_secs} s: no fresh evidence that the issuer is active"
    )]
    StaleEvidence { synced: Timestamp, max_secs: u64 },
    #[error("the registry was last read at {synced}, which is yet to come: the clock went back; it is read again")]
    FutureEvidence { synced: Timestamp },
    #[error(
        "what the registry's source says now cannot be used, so nobody knows what is active: {text}; put it right, it is read \
         again by itself"
    )]
    UnusableRegistry { again: Option<Timestamp>, text: String },
    #[error("the registry is being read again first")]
    Confirming { again: Option<Timestamp> },
    #[error(
        "our client certificate for it, serial {serial}, expired at {not_after}, and it is {now}: nothing is sent; \
         put a valid certificate and key in place, they are picked up"
    )]
    CredentialExpired { serial: Serial, not_after: Timestamp, now: Timestamp },
    #[error("our client certificate for it, serial {serial}, is valid only from {not_before}, and it is {now}")]
    CredentialEarly { serial: Serial, not_before: Timestamp, now: Timestamp },
    #[error(
        "the service does not accept us: {text}; asked again at {until}, when our credential changes, or after unpark"
    )]
    CredentialRefused { until: Timestamp, text: String },
    #[error("this machine has trouble of its own until {until}: {text}")]
    Local { until: Timestamp, text: String },
    #[error("the service is held until {until}{}: {text}", if *.open { " (breaker open)" } else { "" })]
    Held { until: Timestamp, open: bool, text: String },
    #[error("one request at a time until the service has answered")]
    Probing,
    #[error("the service's budget of {limit} requests a day is spent until {until}{}", but(*.kept))]
    Budget { until: Timestamp, limit: u32, kept: u32 },
    #[error("{taken} of {places} places at the service are taken")]
    Full { taken: u32, places: u32, urgent_from: Option<Timestamp> },
    #[error("the rate of the service ({:.0} % of it at present) allows the next request at {until}", .share * 100.0)]
    Rate { until: Timestamp, share: f64 },
}

fn but(kept: u32) -> String {
    if kept == 0 { String::new() } else { format!(", but for {kept} that are kept for our own certificate") }
}

impl Gate {
    /// When to look again, if nothing happens before; `None`: an event will say.
    pub(super) fn opens(&self) -> Option<Timestamp> {
        match self {
            Gate::Paused { until, .. }
            | Gate::CredentialRefused { until, .. }
            | Gate::Local { until, .. }
            | Gate::Held { until, .. }
            | Gate::Budget { until, .. }
            | Gate::Rate { until, .. } => Some(*until),
            Gate::CredentialEarly { not_before, .. } => Some(*not_before),
            Gate::Full { urgent_from, .. } => *urgent_from,
            Gate::Confirming { again } | Gate::UnusableRegistry { again, .. } => *again,
            Gate::NoEndpoint(_)
            | Gate::NoEvidence
            | Gate::StaleEvidence { .. }
            | Gate::FutureEvidence { .. }
            | Gate::CredentialExpired { .. }
            | Gate::Probing => None,
        }
    }

    /// It is how requests are spaced when all is well, and goes away by itself.
    pub(super) fn is_pace(&self) -> bool {
        matches!(self, Gate::Full { .. } | Gate::Rate { .. } | Gate::Confirming { .. })
    }

    /// Somebody has to act for it to go away.
    pub(super) fn is_alarming(&self) -> bool {
        matches!(
            self,
            Gate::NoEndpoint(_)
                | Gate::StaleEvidence { .. }
                | Gate::UnusableRegistry { .. }
                | Gate::CredentialExpired { .. }
                | Gate::CredentialRefused { .. }
                | Gate::Held { open: true, .. }
                | Gate::Budget { .. }
        )
    }
}
