//! `[enrolment.*]`: whom to ask for signers.

use super::document::{Collector, Entry, Node, Section};
use super::fault::Position;
use super::quantity::Rate;
use super::response::duration;
use super::sections::path;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A TCP and TLS handshake across the world takes under a second; five allow for a busy CA.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// CAs with an HSM behind a queue take seconds; what takes longer is an unknown outcome and is asked again.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// One order may be slow without holding up the next.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 2;
/// A thousand signers in half an hour, and never a burst.
pub const DEFAULT_RATE: Rate = Rate { count: 30, per: Duration::from_secs(60) };
/// Ten times what a thousand signers need when all are replaced in one day, and no burden for a CA that issues for the web.
pub const DEFAULT_DAILY_REQUESTS: u32 = 10_000;
/// A nocheck signer cannot be revoked, so it lives briefly (RFC 6960 §4.2.2.2.1, RFC 9919 §3.2.2).
pub const DEFAULT_LOCAL_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// More endpoints than this are not kept by hand in one file.
pub const MAX_ENROLMENTS: usize = 1000;
/// Orders at a time at all services together: each on the wire takes a thread until it is answered.
pub const MAX_IN_FLIGHT: u32 = 2000;

/// `[enrolment.NAME]`: one CA service that signers are ordered from.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolment {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// How long a connection may take to stand, TLS included.
    pub connect_timeout: Duration,
    /// How long an answer may take; after that the outcome is unknown and the same order is asked again.
    pub timeout: Duration,
    /// Orders at a time.
    pub max_in_flight: u32,
    /// Orders per interval, whatever the cause.
    pub rate: Rate,
    /// Requests per day, whatever the cause.
    pub daily_requests: u32,
}

/// The protocols, each with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The CA keys are files: `{ca_keys}/{issuer id}.key`; for a lab, a demo, a small PKI.
    Local {
        /// The directory of the keys.
        ca_keys: PathBuf,
        /// How long what is issued lives.
        validity: Duration,
    },
    /// Enrolment over Secure Transport (RFC 7030).
    Est {
        /// `{url}/.well-known/est/{profile}/simpleenroll`.
        url: String,
        /// The roots the server's certificate must chain to; PEM.
        trust: PathBuf,
        /// Our own credential.
        client: Option<ClientCredential>,
        /// HTTP basic authentication, beside or instead of it.
        basic: Option<BasicCredential>,
    },
    /// A program: CSR (PEM) on standard input, certificate (PEM) on standard output.
    Command {
        /// The program and its arguments; no shell is involved.
        command: Vec<String>,
    },
    /// CFSSL's `authsign`.
    Cfssl {
        /// The server.
        url: String,
        /// A file with the hexadecimal HMAC key of the profile.
        auth_key: PathBuf,
        /// The roots the server's certificate must chain to; PEM. Needed for `https://`.
        trust: Option<PathBuf>,
    },
}

/// The credential by which the agent proves itself to a CA service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCredential {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// The label under which it is itself renewed (simplereenroll); `None`: watched only.
    pub profile: Option<String>,
}

/// HTTP basic authentication (RFC 7030 §3.2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicCredential {
    /// The user's name, without a colon (RFC 7617 §2).
    pub user: String,
    /// The file with the password in its first line, readable by its owner only.
    pub password_file: PathBuf,
}

impl Protocol {
    /// The name in configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Protocol::Local { .. } => "local",
            Protocol::Est { .. } => "est",
            Protocol::Command { .. } => "command",
            Protocol::Cfssl { .. } => "cfssl",
        }
    }
}

/// Reads all `[enrolment.*]`.
pub(super) fn read_all(mut s: Section<'_>, base: &Path, out: &mut Collector) -> BTreeMap<String, Enrolment> {
    let entries = s.named_entries();
    if entries.len() > MAX_ENROLMENTS {
        out.add(s.at(), format!("enrolment: more than {MAX_ENROLMENTS} services"));
    }
    let places: BTreeMap<&str, Position> = entries.iter().map(|entry| (entry.key.as_str(), entry.at)).collect();
    let read = entries.into_iter().take(MAX_ENROLMENTS).filter_map(|entry| read_one(entry, base, out));
    let read: BTreeMap<String, Enrolment> = read.collect();
    let in_flight: u32 = read.values().map(|enrolment| enrolment.max_in_flight).sum();
    if in_flight > MAX_IN_FLIGHT {
        let text = format!(
            "enrolment: max_in_flight of all services together is {in_flight}, and no more than {MAX_IN_FLIGHT} requests can be on the wire at a time, since each takes a thread; lower it where it is largest"
        );
        out.add(s.at(), text);
    }
    renewed_twice(&read, &places, out);
    read
}

/// Each would put its own certificate and key in place of the other's, and what one has just got is gone.
fn renewed_twice(read: &BTreeMap<String, Enrolment>, places: &BTreeMap<&str, Position>, out: &mut Collector) {
    let mut renewed: BTreeMap<&Path, &str> = BTreeMap::new();
    for (name, enrolment) in read {
        let Protocol::Est { client: Some(client), .. } = &enrolment.protocol else { continue };
        if client.profile.is_none() {
            continue;
        }
        if let Some(other) = renewed.insert(&client.certificate, name) {
            let text = format!(
                "enrolment.{name}.client_profile: enrolment.{other} renews the same client_certificate; leave client_profile to one of them, and the other uses what that gets"
            );
            out.add(places.get(name.as_str()).copied().unwrap_or(Position::START), text);
        }
    }
}

fn read_one(entry: &Entry, base: &Path, out: &mut Collector) -> Option<(String, Enrolment)> {
    let name = format!("enrolment.{}", entry.key);
    if let Err(message) = plain_name(&entry.key) {
        out.add(entry.at, format!("{name}: {message}"));
    }
    let mut s = Section::new(&name, &entry.node, out);
    let kinds = [("est", Kind::Est), ("command", Kind::Command), ("local", Kind::Local), ("cfssl", Kind::Cfssl)];
    let kind =
        s.required("protocol", "protocol = \"est\" (or \"command\", \"local\", \"cfssl\")", out, |n| n.one_of(&kinds))?;
    let minutes = |n: &Node| duration(n, Duration::from_millis(100), Duration::from_secs(3_600));
    let connect_timeout = s.optional("connect_timeout", out, minutes).unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let timeout = s.optional("timeout", out, minutes).unwrap_or(DEFAULT_TIMEOUT);
    let max_in_flight = s.optional("max_in_flight", out, |n| n.integer(1, 1000)).unwrap_or(DEFAULT_MAX_IN_FLIGHT);
    let rate = s.optional("rate", out, Node::parsed).unwrap_or(DEFAULT_RATE);
    let daily_requests =
        s.optional("daily_requests", out, |n| n.integer(1, 100_000_000)).unwrap_or(DEFAULT_DAILY_REQUESTS);
    let protocol = match kind {
        Kind::Local => {
            let ca_keys = s.required("ca_keys", "ca_keys = \"ca-keys\"", out, |n| path(n, base));
            let life = |n: &Node| duration(n, Duration::from_secs(60), Duration::from_secs(3650 * 86_400));
            let validity = s.optional("validity", out, life).unwrap_or(DEFAULT_LOCAL_VALIDITY);
            ca_keys.map(|ca_keys| Protocol::Local { ca_keys, validity })
        }
        Kind::Est => est(&mut s, base, out),
        Kind::Command => {
            let command = s.required("command", "command = [\"/usr/local/bin/sign\", \"--ca\", \"1\"]", out, command);
            command.map(|command| Protocol::Command { command })
        }
        Kind::Cfssl => cfssl(&mut s, base, out),
    };
    if matches!(kind, Kind::Est | Kind::Cfssl) && connect_timeout > timeout {
        s.fault("connect_timeout", "it is longer than timeout, of which it is a part", out);
    }
    s.finish(out);
    let protocol = protocol?;
    Some((entry.key.clone(), Enrolment { protocol, connect_timeout, timeout, max_in_flight, rate, daily_requests }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Est,
    Command,
    Local,
    Cfssl,
}

fn est(s: &mut Section<'_>, base: &Path, out: &mut Collector) -> Option<Protocol> {
    let url = s.required("url", "url = \"https://ca.example:8443\"", out, |n| url(n, &["https://"]));
    let trust = s.required("trust", "trust = \"ca-roots.pem\"", out, |n| path(n, base));
    let certificate = s.optional("client_certificate", out, |n| path(n, base));
    let key = s.optional("client_key", out, |n| path(n, base));
    let profile = s.optional("client_profile", out, |n| label(n).map(str::to_owned));
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientCredential { certificate, key, profile }),
        (None, None) => {
            if profile.is_some() {
                s.fault("client_profile", "there is no client_certificate to renew", out);
            }
            None
        }
        (Some(_), None) => {
            s.fault("client_certificate", "client_key is missing beside it", out);
            None
        }
        (None, Some(_)) => {
            s.fault("client_key", "client_certificate is missing beside it", out);
            None
        }
    };
    let basic = basic(s, base, out);
    Some(Protocol::Est { url: url?, trust: trust?, client, basic })
}

fn basic(s: &mut Section<'_>, base: &Path, out: &mut Collector) -> Option<BasicCredential> {
    let user = s.optional("http_user", out, |n| match n.string()? {
        text if text.is_empty() || text.contains(|c: char| c == ':' || c.is_control()) => {
            Err("a user's name is not empty and has no colon (RFC 7617 §2)".to_owned())
        }
        text => Ok(text.to_owned()),
    });
    let password_file = s.optional("http_password_file", out, |n| path(n, base));
    match (user, password_file) {
        (Some(user), Some(password_file)) => Some(BasicCredential { user, password_file }),
        (None, None) => None,
        (Some(_), None) => {
            s.fault("http_user", "http_password_file is missing beside it", out);
            None
        }
        (None, Some(_)) => {
            s.fault("http_password_file", "http_user is missing beside it", out);
            None
        }
    }
}

fn cfssl(s: &mut Section<'_>, base: &Path, out: &mut Collector) -> Option<Protocol> {
    let url = s.required("url", "url = \"https://cfssl.example:8888\"", out, |n| url(n, &["https://", "http://"]));
    let auth_key = s.required("auth_key", "auth_key = \"cfssl.key\"", out, |n| path(n, base));
    let trust = s.optional("trust", out, |n| path(n, base));
    if trust.is_none() && url.as_ref().is_some_and(|u| u.starts_with("https://")) {
        s.fault(
            "url",
            "trust is missing beside it; write trust = \"ca-roots.pem\", the roots the server chains to",
            out,
        );
    }
    Some(Protocol::Cfssl { url: url?, auth_key: auth_key?, trust })
}

fn command(node: &Node) -> Result<Vec<String>, String> {
    let words = node.strings()?;
    match words.first() {
        Some(program) if !program.is_empty() && !words.iter().any(|w| w.contains('\0')) => {
            Ok(words.into_iter().map(str::to_owned).collect())
        }
        _ => Err("expected the program and its arguments, as in [\"/usr/local/bin/sign\", \"--ca\", \"1\"]".to_owned()),
    }
}

pub(super) fn url(node: &Node, schemes: &[&str]) -> Result<String, String> {
    let text = node.string()?;
    let authority =
        schemes.iter().find_map(|s| text.strip_prefix(s)).map(|rest| rest.split('/').next().unwrap_or(rest));
    let visible = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@'));
    match authority {
        Some(host) if !host.is_empty() && visible => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(format!(
            "\"{text}\" is not a URL this can use; write {}host:port, without user, query or fragment",
            schemes.join("host:port or ")
        )),
    }
}

/// A name that becomes part of a path: profile labels.
fn label(node: &Node) -> Result<&str, String> {
    let text = node.string()?;
    plain_name(text).map(|()| text)
}

/// Letters, digits, `.`, `_` and `-`, not beginning with a dot, at most 128: safe in paths, URLs, metrics and on a terminal.
pub(crate) fn plain_name(text: &str) -> Result<(), String> {
    let fits = (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits {
        Ok(())
    } else {
        Err(format!(
            "\"{}\" is not a usable name: 1 to 128 letters, digits, '.', '_' or '-', not beginning with '.'",
            text.escape_debug()
        ))
    }
}
