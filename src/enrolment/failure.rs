//! What a failed attempt says: how far it reaches, whether asking again can help, and one line for people.

use std::fmt;
use std::time::Duration;

/// How far a failure reaches. State attaches to it and no wider: one CA's refusal is no reason to leave another alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// This order alone: what came back for it is unusable.
    Item,
    /// The issuer or its profile: other issuers of the same service are not concerned.
    Issuer,
    /// The service as a whole: it cannot be reached, is overloaded, or cannot be trusted.
    Endpoint,
    /// The credential by which we prove ourselves to the service.
    OwnCredential,
    /// This machine: processes, descriptors, randomness.
    Local,
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing was issued, and the same order may succeed later.
    Transient,
    /// The same order will fail again until somebody changes something.
    Permanent,
    /// The CA may or may not have issued. Only the same order may be asked again, never a new one.
    Unknown,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How far it reaches.
    pub scope: Scope,
    /// Whether asking again can help.
    pub kind: Kind,
    /// How long the other side wants to be left alone, if it said so; at most [`MAX_RETRY_AFTER`](super::MAX_RETRY_AFTER).
    pub retry_after: Option<Duration>,
    message: String,
}

impl Failure {
    /// The longest message, in octets.
    pub const MAX_LEN: usize = 500;

    /// A failure; of a long message only the beginning is kept, and control characters are escaped.
    pub fn new(scope: Scope, kind: Kind, message: impl Into<String>) -> Self {
        Failure { scope, kind, retry_after: None, message: printable(&message.into(), Self::MAX_LEN) }
    }

    /// With how long the other side wants to be left alone.
    #[must_use]
    pub fn after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after.map(|d| d.min(super::MAX_RETRY_AFTER));
        self
    }

    /// What happened and what to do: one line, at most [`Failure::MAX_LEN`] octets, without secrets.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Item => "item",
            Scope::Issuer => "issuer",
            Scope::Endpoint => "endpoint",
            Scope::OwnCredential => "own credential",
            Scope::Local => "local",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Transient => "transient",
            Kind::Permanent => "permanent",
            Kind::Unknown => "outcome unknown",
        })
    }
}

/// Foreign text as one line for logs and terminals: control characters escaped, runs of blanks made one, at most `max`
/// octets and `…` where it was cut.
pub(super) fn printable(text: &str, max: usize) -> String {
    const CUT: &str = "…";
    let mut out = String::with_capacity(text.len().min(max));
    for word in text.split_ascii_whitespace() {
        let before = out.len();
        if !out.is_empty() {
            out.push(' ');
        }
        for c in word.chars() {
            // Characters that reorder what a terminal shows are as bad as those that command it.
            let harmless = !c.is_control()
                && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if harmless {
                out.push(c)
            } else {
                out.extend(c.escape_unicode())
            }
            if out.len() > max {
                break;
            }
        }
        if out.len() > max {
            let mut end = max.saturating_sub(CUT.len());
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end.max(before.min(end)));
            out.push_str(CUT);
            break;
        }
    }
    out
}

/// The beginning of foreign octets as text, for a message.
pub(super) fn excerpt(octets: &[u8], max: usize) -> String {
    let some = octets.get(..octets.len().min(max.saturating_mul(4))).unwrap_or_default();
    printable(&String::from_utf8_lossy(some), max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn foreign_text_cannot_command_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\r\nb\u{202e}c", 100), "a\\u{1b}[2J b\\u{202e}c");
        assert_eq!(excerpt(b"\xff\x00ok", 100), "\u{fffd}\\u{0}ok");
    }

    proptest! {
        #[test]
        fn messages_are_bounded_and_one_line(text in "\\PC{0,50}[\\x00-\\x20]{0,9}.{0,400}", max in 8_usize..300) {
            let line = printable(&text.repeat(3), max);
            prop_assert!(line.len() <= max, "{}", line.len());
            prop_assert!(!line.contains(|c: char| c.is_control()));
        }
    }
}
