//! What is written down.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that was done, or decided, and by whom. One line of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// Who: `agent`, `registry`, or an operator as the socket knows them (`alice (uid 1000, pid 4711)`).
    pub who: String,
    /// What kind of thing.
    pub what: What,
    /// To whom.
    pub about: About,
    /// Of which CA service, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// By which order: 16 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// Why a request was made: the name of a `renewal::Cause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How often the order had been sent, this time included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The serial number of the certificate concerned, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// How it ended, where it can end in more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Somebody should act.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alarm: bool,
    /// In words: what happened, or an operator's reason; at most [`AuditEvent::MAX_TEXT`] octets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl AuditEvent {
    /// The most octets of [`AuditEvent::text`] that are written: what a stranger sent must not fill the trail.
    pub const MAX_TEXT: usize = 2_000;

    /// An event with nothing but what every event has.
    pub fn new(at: Timestamp, who: impl Into<String>, what: What, about: About) -> Self {
        AuditEvent {
            at,
            who: who.into(),
            what,
            about,
            endpoint: None,
            order: None,
            cause: None,
            attempt: None,
            serial: None,
            outcome: None,
            alarm: false,
            text: String::new(),
        }
    }

    /// With these words.
    #[must_use]
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The agent began to work.
    Started,
    /// The agent stopped in good order.
    Stopped,
    /// An operator's command, carried out or refused.
    Command,
    /// A generation of the registry was taken over, held, refused or approved.
    Registry,
    /// Key and CSR of a new order are on disk.
    Opened,
    /// A request leaves for a CA service.
    Request,
    /// What became of a request.
    Answer,
    /// The certificate of an order passed every check, or did not.
    Verified,
    /// Certificate and key are in place as the next signer.
    Staged,
    /// The next signer became the current one.
    Activated,
    /// An order was given up.
    Cancelled,
    /// The key of a former signer was destroyed.
    Destroyed,
    /// Something worth knowing, in the words of the text.
    Notice,
    /// Written by a later version.
    #[serde(other)]
    Other,
}

impl What {
    /// The name in the trail and in `history`.
    pub const fn name(self) -> &'static str {
        match self {
            What::Started => "started",
            What::Stopped => "stopped",
            What::Command => "command",
            What::Registry => "registry",
            What::Opened => "opened",
            What::Request => "request",
            What::Answer => "answer",
            What::Verified => "verified",
            What::Staged => "staged",
            What::Activated => "activated",
            What::Cancelled => "cancelled",
            What::Destroyed => "destroyed",
            What::Notice => "notice",
            What::Other => "other",
        }
    }
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// The CA will decide later.
    Later,
    /// It did not succeed, and may when it is tried again.
    Failed,
    /// The answer was no.
    Refused,
    /// No answer: it may have been carried out.
    Unknown,
    /// It waits for an operator.
    Held,
    /// Written by a later version.
    #[serde(other)]
    Other,
}

impl Outcome {
    /// The name in the trail and in `history`.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Later => "later",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Unknown => "unknown",
            Outcome::Held => "held",
            Outcome::Other => "other",
        }
    }
}

/// To whom something happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// Everything.
    All,
    /// The registry.
    Registry,
    /// A CA service: a name in `[enrolment.*]`.
    Endpoint(String),
    /// Our own client certificate at a CA service.
    Credential(String),
    /// The signer of an issuer.
    Issuer(String),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::All => f.write_str("everything"),
            About::Registry => f.write_str("registry"),
            About::Endpoint(name) => write!(f, "endpoint {name}"),
            About::Credential(name) => write!(f, "credential of {name}"),
            About::Issuer(id) => f.write_str(id),
        }
    }
}

/// Is told everything that is to be remembered. It must return soon and can neither fail nor stop who tells it.
pub trait Witness: Send + Sync {
    /// Takes note of the event.
    fn saw(&self, event: &AuditEvent);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> AuditEvent {
        let about = About::Issuer("issuing-ca-1".into());
        AuditEvent::new(Timestamp::from_unix(0), "agent", What::Activated, about)
    }

    #[test]
    fn an_event_is_one_line_without_what_is_not_known() {
        let line = serde_json::to_string(&event()).unwrap();
        assert_eq!(
            line,
            r#"{"at":"1970-01-01T00:00:00Z","who":"agent","what":"activated","about":{"issuer":"issuing-ca-1"}}"#
        );
        assert_eq!(serde_json::from_str::<AuditEvent>(&line).unwrap(), event());
        let two_lines = serde_json::to_string(&event().saying("a\nb")).unwrap();
        assert!(!two_lines.contains('\n'), "{two_lines}");
    }

    #[test]
    fn what_a_later_version_wrote_is_still_an_event() {
        let line =
            r#"{"at":"1970-01-01T00:00:00Z","who":"x","what":"escrowed","about":"all","outcome":"odd","new":[1]}"#;
        let event: AuditEvent = serde_json::from_str(line).unwrap();
        assert_eq!((event.what, event.outcome), (What::Other, Some(Outcome::Other)));
    }

    #[test]
    fn names_are_those_of_the_trail() {
        for what in [What::Started, What::Command, What::Opened, What::Destroyed, What::Notice] {
            assert_eq!(serde_json::to_string(&what).unwrap(), format!("\"{}\"", what.name()));
        }
        for outcome in [Outcome::Done, Outcome::Later, Outcome::Held] {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), format!("\"{}\"", outcome.name()));
        }
    }
}
