//! Time: the only module that reads the clock, and the time formats of the field.
//!
//! Everything else takes `now` as a [`Timestamp`] argument. A [`Clock`] is handed to the edges (endpoint, presigner,
//! admin) so that tests can run in a time of their own.

mod format;

pub use format::{HttpDate, format_generalized, format_http_date, parse_generalized, parse_http_date, parse_utc_time};

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time in whole seconds since 1970-01-01T00:00:00Z, without leap seconds; may be negative.
///
/// OCSP has no finer unit: GeneralizedTime carries seconds and no fraction (RFC 6960 §4.2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, the revocationTime of a certificate that was never issued (RFC 6960 §4.4.8).
    pub const EPOCH: Timestamp = Timestamp(0);
    /// 9999-12-31T23:59:59Z, the last instant GeneralizedTime can name ("no well-defined end", RFC 5280 §4.1.2.5).
    pub const MAX: Timestamp = Timestamp(253_402_300_799);
    /// 0000-01-01T00:00:00Z, the first instant GeneralizedTime can name.
    pub const MIN: Timestamp = Timestamp(-62_167_219_200);

    /// Seconds since the Unix epoch, clamped to what GeneralizedTime can express.
    pub const fn from_unix(seconds: i64) -> Self {
        if seconds > Self::MAX.0 {
            Self::MAX
        } else if seconds < Self::MIN.0 {
            Self::MIN
        } else {
            Timestamp(seconds)
        }
    }

    /// Seconds since the Unix epoch.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// `self + d`, in whole seconds (a fraction is cut), saturating at [`Timestamp::MAX`].
    pub fn plus(self, d: Duration) -> Self {
        Self::from_unix(self.0.saturating_add(i64::try_from(d.as_secs()).unwrap_or(i64::MAX)))
    }

    /// `self − d`, in whole seconds (a fraction is cut), saturating at [`Timestamp::MIN`].
    pub fn minus(self, d: Duration) -> Self {
        Self::from_unix(self.0.saturating_sub(i64::try_from(d.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Seconds from `earlier` to `self`; negative when `self` is the earlier one.
    pub fn seconds_since(self, earlier: Timestamp) -> i64 {
        self.0 - earlier.0
    }

    /// The time from `earlier` to `self`, zero when `self` is not later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_secs(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

/// RFC 3339 in UTC, for people and logs: `2026-11-20T10:05:58Z`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let g = format_generalized(*self);
        let s = |r: std::ops::Range<usize>| std::str::from_utf8(g.get(r).unwrap_or_default()).unwrap_or_default();
        write!(f, "{}-{}-{}T{}:{}:{}Z", s(0..4), s(4..6), s(6..8), s(8..10), s(10..12), s(12..14))
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads what [`Display`](std::fmt::Display) writes: RFC 3339 in UTC, whole seconds.
impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'-' | b':' | b'T')).collect();
        parse_generalized(&digits)
            .filter(|t| t.to_string() == *text)
            .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not a time such as 2026-11-20T10:05:58Z")))
    }
}

/// A reading of the machine's monotonic clock, for measuring how long something took and for time-outs; it names no time of
/// day.
#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Timestamp::from_unix(seconds)
    }
}

/// A clock that stands still until it is told otherwise, for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        ManualClock(AtomicI64::new(now.unix()))
    }

    /// Sets the time shown from now on.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.unix(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.0.load(Ordering::SeqCst))
    }
}
