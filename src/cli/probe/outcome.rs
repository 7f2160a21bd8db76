//! What a probe found, as a level, a line and performance data.

use super::{Args, Expect, Reply};
use crate::cli::show::{relative, roughly};
use crate::client::{CertStatusWords, NonceEcho, SignerRole, Verified};
use crate::ocsp::CertStatus;
use crate::time::{Timestamp, parse_http_date};
use serde_json::json;
use std::fmt::Write;
use std::time::Duration;

/// How bad it is, as monitoring plug-ins say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    #[default]
    Ok,
    Warning,
    Critical,
    Unknown,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    findings: Vec<(Level, String)>,
    method: Option<(&'static str, Duration)>,
    pub(super) verified: Option<(Verified, Timestamp)>,
}

impl Level {
    /// The exit code.
    pub(super) const fn code(self) -> u8 {
        match self {
            Level::Ok => 0,
            Level::Warning => 1,
            Level::Critical => 2,
            Level::Unknown => super::UNKNOWN,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Warning => "WARNING",
            Level::Critical => "CRITICAL",
            Level::Unknown => "UNKNOWN",
        }
    }
}

impl Outcome {
    /// One finding and no more.
    pub(super) fn only(level: Level, text: String) -> Self {
        Outcome { findings: vec![(level, text)], ..Outcome::default() }
    }

    /// How it was asked and how long it took.
    pub(super) fn by(mut self, method: &'static str, elapsed: Duration) -> Self {
        self.method = Some((method, elapsed));
        self
    }

    pub(super) fn add(&mut self, level: Level, text: String) {
        self.findings.push((level, text));
    }

    /// The worst of the findings.
    pub(super) fn level(&self) -> Level {
        self.findings.iter().map(|(level, _)| *level).max_by_key(|level| level.code()).unwrap_or_default()
    }

    /// Holds a valid response against what was expected.
    pub(super) fn judge(&mut self, verified: &Verified, args: &Args, now: Timestamp) {
        let right = matches!(
            (args.expect, verified.status),
            (Expect::Any, _)
                | (Expect::Good, CertStatus::Good)
                | (Expect::Revoked, CertStatus::Revoked { .. })
                | (Expect::Unknown, CertStatus::Unknown)
        );
        if !right {
            let expected = format!("{:?}", args.expect).to_lowercase();
            self.add(Level::Critical, format!("{expected} was expected"));
        }
        if let Some(next) = verified.next_update {
            let left = next.since(now);
            let below = |limit: Option<crate::config::HumanDuration>| limit.filter(|l| left < l.0);
            if let Some(limit) = below(args.critical) {
                self.add(Level::Critical, format!("nextUpdate {} is nearer than {limit}", relative(next, now)));
            } else if let Some(limit) = below(args.warning) {
                self.add(Level::Warning, format!("nextUpdate {} is nearer than {limit}", relative(next, now)));
            }
        }
        for warning in &verified.warnings {
            self.add(Level::Warning, warning.to_string());
        }
    }

    /// The line for the monitoring system, then a line for each further finding.
    pub(super) fn lines(&self, args: &Args) -> String {
        let mut worst_first: Vec<_> = self.findings.iter().collect();
        worst_first.sort_by_key(|(level, _)| std::cmp::Reverse(level.code()));
        let texts: Vec<String> = worst_first.into_iter().map(|(_, text)| one_line(text)).collect();
        let mut out = format!("OCSP {} - ", self.level().name());
        match (&self.verified, texts.first()) {
            (Some((verified, now)), first) => {
                if let Some(first) = first {
                    let _ = write!(out, "{first}; ");
                }
                out.push_str(&one_line(&describe(verified, *now)));
            }
            (None, first) => out.push_str(first.map_or("", String::as_str)),
        }
        if let Some((_, elapsed)) = self.method {
            let _ = write!(out, " | time={:.6}s;;;0;{}", elapsed.as_secs_f64(), args.timeout.0.as_secs());
        }
        if let Some((Verified { next_update: Some(next), .. }, now)) = &self.verified {
            let limit =
                |l: Option<crate::config::HumanDuration>| l.map_or(String::new(), |l| format!("{}:", l.0.as_secs()));
            let (warning, critical) = (limit(args.warning), limit(args.critical));
            let _ = write!(out, " next_update={}s;{warning};{critical};;", next.seconds_since(*now));
        }
        out.push('\n');
        for further in texts.iter().skip(1) {
            let _ = writeln!(out, "{further}");
        }
        out
    }

    /// One JSON object.
    pub(super) fn json(&self) -> String {
        let findings: Vec<_> =
            self.findings.iter().map(|(level, text)| json!({ "level": level.name(), "text": text })).collect();
        let answer = self.verified.as_ref().map(|(v, now)| {
            json!({
                "status": match v.status {
                    CertStatus::Good => "good",
                    CertStatus::Revoked { .. } => "revoked",
                    CertStatus::Unknown => "unknown",
                },
                "revoked_at": match v.status {
                    CertStatus::Revoked { at, .. } => Some(at),
                    _ => None,
                },
                "reason": match v.status {
                    CertStatus::Revoked { reason, .. } => reason.map(crate::ocsp::Reason::name),
                    _ => None,
                },
                "this_update": v.this_update,
                "next_update": v.next_update,
                "next_update_seconds": v.next_update.map(|next| next.seconds_since(*now)),
                "produced_at": v.produced_at,
                "signer": v.signer_subject,
                "signer_role": role(v.signer),
                "signer_not_after": v.signer_not_after,
                "algorithm": v.algorithm,
                "nonce": match v.nonce {
                    NonceEcho::NotAsked => "not asked",
                    NonceEcho::Echoed => "echoed",
                    NonceEcho::Absent => "absent",
                },
            })
        });
        let (method, seconds) = self.method.map(|(m, d)| (m, d.as_secs_f64())).unzip();
        let level = self.level();
        let whole = json!({
            "level": level.name(),
            "exit_code": level.code(),
            "method": method,
            "seconds": seconds,
            "answer": answer,
            "findings": findings,
        });
        format!("{whole:#}\n")
    }
}

/// Holds the HTTP fields against what clients and caches need (RFC 6960 App. A.2, RFC 9919 §6, §7.2).
pub(super) fn judge_fields(outcome: &mut Outcome, reply: &Reply, verified: &Verified, cacheable: bool, now: Timestamp) {
    match reply.field("content-type") {
        Some("application/ocsp-response") => {}
        found => outcome.add(
            Level::Critical,
            format!(
                "Content-Type is {}; nginx and HAProxy want exactly application/ocsp-response",
                found.unwrap_or("absent")
            ),
        ),
    }
    if reply.field("content-length").is_none() {
        outcome.add(Level::Warning, "Content-Length is absent (RFC 6960 App. A.2)".to_owned());
    }
    let Some(next) = verified.next_update.filter(|_| cacheable) else { return };
    let max_age = reply.field("cache-control").and_then(|v| {
        let directive = v.split(',').find_map(|d| d.trim().strip_prefix("max-age="));
        directive.and_then(|n| n.trim_matches('"').parse::<u64>().ok())
    });
    if let Some(age) = max_age.filter(|age| now.plus(Duration::from_secs(*age)) > next) {
        let text = format!("max-age {} lets caches keep the answer beyond its nextUpdate", roughly(age));
        outcome.add(Level::Warning, text);
    }
    let expires = reply.field("expires").and_then(|v| parse_http_date(v.as_bytes()));
    if let Some(at) = expires.filter(|at| *at > next) {
        outcome.add(Level::Warning, format!("Expires {at} lets caches keep the answer beyond its nextUpdate"));
    }
}

fn describe(v: &Verified, now: Timestamp) -> String {
    let next = match v.next_update {
        Some(next) => format!("nextUpdate {}", relative(next, now)),
        None => "no nextUpdate".to_owned(),
    };
    let nonce = match v.nonce {
        NonceEcho::NotAsked => "",
        NonceEcho::Echoed => ", nonce echoed",
        NonceEcho::Absent => ", without our nonce",
    };
    let status = CertStatusWords(v.status);
    format!("{status}, {next}, signed by {} ({}, {}){nonce}", v.signer_subject, role(v.signer), v.algorithm)
}

const fn role(role: SignerRole) -> &'static str {
    match role {
        SignerRole::Ca => "the CA itself",
        SignerRole::Delegated => "delegated",
    }
}

/// A line break or a bar would end the plug-in's text.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '|' { ' ' } else { c }).collect()
}
