//! What goes over the socket.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::path::PathBuf;

use crate::time::Timestamp;

/// The version of the protocol: raised when something that was there goes or changes its meaning.
pub const VERSION: u32 = 1;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub v: u32,
    /// What is asked.
    pub call: Call,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// How everything is.
    Status {},
    /// The calendar.
    Plan {},
    /// What another registry would change.
    Impact {
        /// Its file: an absolute path.
        file: PathBuf,
    },
    /// Why a slot is where it is.
    Explain {
        /// Which: an issuer or a credential.
        slot: Target,
    },
    /// What happened.
    History {
        /// To whom; nobody: to everybody.
        about: Option<Target>,
        /// Not before this.
        since: Option<Timestamp>,
        /// At most so many, the newest.
        limit: usize,
    },
    /// Ask for nothing for a while.
    Pause {
        /// What.
        reach: Target,
        /// For how long, in seconds.
        for_secs: u64,
        /// Why; not empty.
        reason: String,
    },
    /// End a pause.
    Resume {
        /// What was paused.
        reach: Target,
        /// Why; may be empty.
        reason: String,
    },
    /// Renew now.
    Renew {
        /// What.
        reach: Target,
        /// Why; may be empty.
        reason: String,
    },
    /// Sign everything that is served again now.
    Resign {
        /// Whose answers.
        reach: Target,
        /// Why; may be empty.
        reason: String,
    },
    /// Lift parks and backoffs.
    Unpark {
        /// What.
        reach: Target,
        /// Why; may be empty.
        reason: String,
    },
    /// A staged signer may become active.
    ApproveSigner {
        /// Whose.
        slot: Target,
        /// Why; may be empty.
        reason: String,
    },
    /// A held registry may be used.
    ApproveRegistry {
        /// Its generation.
        generation: u64,
        /// Why; may be empty.
        reason: String,
    },
}

/// Who or what is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Everything.
    All,
    /// A CA service and all that is ordered there.
    Endpoint(String),
    /// Our client certificate at a CA service.
    Credential(String),
    /// An issuer.
    Issuer(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::All => f.write_str("everything"),
            Target::Endpoint(name) => write!(f, "endpoint {name}"),
            Target::Credential(name) => write!(f, "credential of {name}"),
            Target::Issuer(id) => f.write_str(id),
        }
    }
}

/// A text as one word of a shell command.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:=@%".contains(c);
    let plain = !text.is_empty() && text.chars().all(is_plain);
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// One answer: a result or a refusal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer<'a> {
    /// [`VERSION`].
    pub v: u32,
    /// What was asked for.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub result: Option<&'a RawValue>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why a request was not carried out; nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: RefusalKind,
    /// Why, and what to do.
    pub text: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Refusal { kind, text: text.into() }
    }
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request cannot be understood.
    Malformed,
    /// It was understood, and names nothing there is, or nothing that can be done now.
    Refused,
    /// No agent runs: none is wanted, or it cannot be started.
    NoAgent,
    /// Too many ask at a time; ask again.
    Busy,
    /// It took too long, or something of the service's own failed.
    Failed,
    /// Said by a later version.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_that_says_its_version() {
        let call = Call::Pause { reach: Target::Endpoint("main".into()), for_secs: 60, reason: "window".into() };
        let line = serde_json::to_string(&Request { v: VERSION, call: call.clone() }).unwrap();
        assert_eq!(
            line,
            r#"{"v":1,"call":{"verb":"pause","reach":{"endpoint":"main"},"for_secs":60,"reason":"window"}}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap().call, call);
        let status = r#"{"v":1,"call":{"verb":"status"}}"#;
        assert_eq!(serde_json::from_str::<Request>(status).unwrap().call, Call::Status {});
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for line in [
            r#"{"v":1,"call":{"verb":"status","all":true}}"#,
            r#"{"v":1,"call":{"verb":"shutdown"}}"#,
            r#"{"v":1,"call":{"verb":"renew","reach":"everything","reason":""}}"#,
            r#"{"v":1,"call":{"verb":"pause","reach":"all","reason":""}}"#,
            r#"{"v":1}"#,
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_answer_is_a_result_or_a_refusal() {
        let raw = serde_json::value::to_raw_value(&[1, 2]).unwrap();
        let answer = Answer { v: VERSION, result: Some(&raw), refusal: None };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"v":1,"result":[1,2]}"#);
        let line = r#"{"v":1,"refusal":{"kind":"rate-limited","text":"x"}}"#;
        let answer: Answer<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(answer.refusal.unwrap().kind, RefusalKind::Other);
    }
}
