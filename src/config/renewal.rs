//! `[renewal]`: when signers are renewed, and within which bounds.

use super::document::{Collector, Node, Section, Value};
use super::plain_name;
use super::response::{duration, shown};
use std::time::Duration;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// Half to three quarters of a signer's usable life: early enough for days of outage, late enough not to waste it.
pub const DEFAULT_WINDOW: Window = Window { start: 0.50, end: 0.75 };
/// Time to sign everything again under the next signer, with a clock that is a few minutes off.
pub const DEFAULT_MARGIN: Duration = minutes(60);
/// More than the 24 polls of a CA that needs a day to decide.
pub const DEFAULT_SUBMISSIONS_PER_DAY: u32 = 48;
/// Two are plausible (an operator renews what was just renewed); a loop has more.
pub const DEFAULT_ISSUANCES_PER_DAY: u32 = 4;
/// The skew that most clients tolerate themselves, for those that do not.
pub const DEFAULT_ACTIVATION_SKEW: Duration = minutes(5);
/// Long enough for a person to see a mistake before all of its requests have left.
pub const DEFAULT_RAMP: Duration = minutes(15);
/// A minute is no load; six hours leave four attempts a day.
pub const DEFAULT_BACKOFF: Backoff = Backoff { base: minutes(1), cap: minutes(360) };

/// A part of a signer's usable life, as fractions with 0 < start < end ≤ 0.95.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Not before this fraction.
    pub start: f64,
    /// Not after this fraction, if all goes well.
    pub end: f64,
}

/// Who says that a new signer may become the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Approval {
    /// Nobody needs to.
    #[default]
    Automatic,
    /// An operator, by `stillgood approve`.
    Required,
}

/// Whether a signer that is ordered must carry id-pkix-ocsp-nocheck, where the profile leaves the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nocheck {
    /// It must: clients may otherwise ask for the status of the signer itself, and somebody has to answer.
    #[default]
    Required,
    /// Under `rfc6960` it need not.
    Optional,
}

/// The waits after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait is drawn from zero to this, each further one from twice as much.
    pub base: Duration,
    /// No wait is drawn from more than this.
    pub cap: Duration,
}

/// `[renewal]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Renewal {
    /// In which part of its usable life a signer is renewed.
    pub window: Window,
    /// What must be left of a signer's certificate, beyond the validity of a response, when the next one takes over.
    pub margin: Duration,
    /// Whether an operator approves each new signer; a registry record may say otherwise for itself.
    pub approval: Approval,
    /// Whether a new signer may lack nocheck under `rfc6960`.
    pub nocheck: Nocheck,
    /// Requests per signer and day, polls included; beyond that it is parked.
    pub submissions_per_day: u32,
    /// Certificates per signer and day; beyond that it is parked.
    pub issuances_per_day: u32,
    /// A signer becomes current no earlier than this after its notBefore.
    pub activation_skew: Duration,
    /// After a start, a reload or a repair, the rate of requests grows over this time.
    pub ramp: Duration,
    /// The waits after failures.
    pub backoff: Backoff,
    /// The name of this node; `None`: the host's.
    pub node: Option<String>,
}

impl Default for Renewal {
    fn default() -> Self {
        Renewal {
            window: DEFAULT_WINDOW,
            margin: DEFAULT_MARGIN,
            approval: Approval::default(),
            nocheck: Nocheck::default(),
            submissions_per_day: DEFAULT_SUBMISSIONS_PER_DAY,
            issuances_per_day: DEFAULT_ISSUANCES_PER_DAY,
            activation_skew: DEFAULT_ACTIVATION_SKEW,
            ramp: DEFAULT_RAMP,
            backoff: DEFAULT_BACKOFF,
            node: None,
        }
    }
}

impl Renewal {
    pub(super) fn read(mut s: Section<'_>, out: &mut Collector) -> Self {
        let second = Duration::from_secs(1);
        let day = minutes(1_440);
        let default = Renewal::default();
        let renewal = Renewal {
            window: s.optional("window", out, window).unwrap_or(default.window),
            margin: s.optional("margin", out, |n| duration(n, Duration::ZERO, 90 * day)).unwrap_or(default.margin),
            approval: s.optional("approval", out, Approval::read).unwrap_or(default.approval),
            nocheck: s.optional("nocheck", out, Nocheck::read).unwrap_or(default.nocheck),
            submissions_per_day: s
                .optional("submissions_per_day", out, |n| n.integer(1, 100_000))
                .unwrap_or(default.submissions_per_day),
            issuances_per_day: s
                .optional("issuances_per_day", out, |n| n.integer(1, 100_000))
                .unwrap_or(default.issuances_per_day),
            activation_skew: s
                .optional("activation_skew", out, |n| duration(n, Duration::ZERO, 7 * day))
                .unwrap_or(default.activation_skew),
            ramp: s.optional("ramp", out, |n| duration(n, Duration::ZERO, day)).unwrap_or(default.ramp),
            backoff: s.optional("backoff", out, |n| backoff(n, second, 7 * day)).unwrap_or(default.backoff),
            node: s.optional("node", out, |n| n.string().and_then(|name| plain_name(name).map(|()| name.to_owned()))),
        };
        if renewal.issuances_per_day > renewal.submissions_per_day {
            let key = if s.has("issuances_per_day") { "issuances_per_day" } else { "submissions_per_day" };
            s.fault(key, "issuances_per_day is more than submissions_per_day, so it would bound nothing", out);
        }
        s.finish(out);
        renewal
    }
}

impl Approval {
    /// The name in configuration and registry.
    pub const fn name(self) -> &'static str {
        match self {
            Approval::Automatic => "automatic",
            Approval::Required => "required",
        }
    }

    pub(crate) fn read(node: &Node) -> Result<Self, String> {
        node.one_of(&[Approval::Automatic, Approval::Required].map(|a| (a.name(), a)))
    }
}

impl Nocheck {
    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Nocheck::Required => "required",
            Nocheck::Optional => "optional",
        }
    }

    fn read(node: &Node) -> Result<Self, String> {
        node.one_of(&[Nocheck::Required, Nocheck::Optional].map(|n| (n.name(), n)))
    }
}

fn window(node: &Node) -> Result<Window, String> {
    let error =
        || "expected two fractions of a signer's life, as in [0.50, 0.75], with 0 < first < second <= 0.95".to_owned();
    let Value::Array(items) = &node.value else { return Err(error()) };
    let number = |n: &Node| match n.value {
        Value::Float(f) => Some(f),
        _ => None,
    };
    match items.as_slice() {
        [start, end] => match (number(start), number(end)) {
            (Some(start), Some(end)) if 0.0 < start && start < end && end <= 0.95 => Ok(Window { start, end }),
            _ => Err(error()),
        },
        _ => Err(error()),
    }
}

fn backoff(node: &Node, min: Duration, max: Duration) -> Result<Backoff, String> {
    let error = || "expected the first wait and the longest, as in [\"1m\", \"6h\"]".to_owned();
    let Value::Array(items) = &node.value else { return Err(error()) };
    let [base, cap] = items.as_slice() else { return Err(error()) };
    let (base, cap) = (duration(base, min, max)?, duration(cap, min, max)?);
    if base > cap {
        return Err(format!("the first wait, {}, is longer than the longest, {}", shown(base), shown(cap)));
    }
    Ok(Backoff { base, cap })
}
