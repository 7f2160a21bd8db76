//! What went wrong: whose trouble it is, and whether asking again can help.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whose trouble a failure is. State attaches to that and no wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// This order: its CSR, its certificate, the answer to it.
    Item,
    /// This issuer: its profile is disabled, its CA does not issue.
    Issuer,
    /// The whole service: no connection, overload, maintenance.
    Endpoint,
    /// The service does not accept us: our client certificate or secret.
    OwnCredential,
    /// This machine: disk, key store.
    Local,
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It may pass.
    Transient,
    /// The answer was no, and will be.
    Permanent,
    /// No answer: the request may have been carried out. The same order is asked again.
    Unknown,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose trouble.
    pub scope: Scope,
    /// Whether asking again can help.
    pub kind: Kind,
    /// The other side named a time (Retry-After): not to be asked before.
    pub retry_after: Option<Duration>,
    /// Exactly what happened, for people; cut to [`Failure::MAX_TEXT`].
    pub text: String,
}

impl Failure {
    /// The most octets of [`Failure::text`]: what a stranger sent must not fill the ledger.
    pub const MAX_TEXT: usize = 500;

    /// A failure without a time named; the text is cut to its limit.
    pub fn new(scope: Scope, kind: Kind, text: &str) -> Self {
        Failure { scope, kind, retry_after: None, text: text.to_owned() }.cut()
    }

    /// With the text cut to its limit.
    pub(super) fn cut(mut self) -> Self {
        let end = (0..=Self::MAX_TEXT.min(self.text.len())).rev().find(|n| self.text.is_char_boundary(*n));
        self.text.truncate(end.unwrap_or(0));
        self
    }
}

impl Scope {
    /// The name in metrics and `--json`.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Item => "item",
            Scope::Issuer => "issuer",
            Scope::Endpoint => "endpoint",
            Scope::OwnCredential => "own-credential",
            Scope::Local => "local",
        }
    }
}

impl Kind {
    /// The name in metrics and `--json`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Transient => "transient",
            Kind::Permanent => "permanent",
            Kind::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} failure, {})", self.text, self.scope.name(), self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sent_is_cut_at_a_character() {
        let failure = Failure::new(Scope::Item, Kind::Transient, &"ä".repeat(400));
        assert_eq!(failure.text.len(), 500);
        assert_eq!(Failure::new(Scope::Item, Kind::Unknown, &format!("a{}", "ä".repeat(400))).text.len(), 499);
    }
}
