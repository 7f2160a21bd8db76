//! How many requests come, and what they are answered.

use crate::endpoint::{Outcome, Snapshot, StatusKind};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Looks that are remembered, and how far they are apart: the rate is that of the last minutes, however many look.
const SAMPLES: usize = 20;
const APART: Duration = Duration::from_secs(15);

/// Makes a rate of counts that are looked at now and then.
#[derive(Debug, Default)]
pub(in super::super) struct Meter(Mutex<VecDeque<(Instant, u64)>>);

impl Meter {
    /// Requests a second since the oldest look that is remembered, and how long ago that was. `None` at the first look.
    fn rate(&self, total: u64, now: Instant) -> Option<(f64, Duration)> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.back().is_some_and(|(_, before)| *before > total) {
            samples.clear(); // the counters of another endpoint
        }
        let oldest = samples.front().copied();
        if samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= APART) {
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back((now, total));
        }
        let (at, before) = oldest?;
        let span = now.saturating_duration_since(at);
        (span >= Duration::from_secs(1)).then(|| ((total - before) as f64 / span.as_secs_f64(), span))
    }
}

/// What the endpoint has counted.
pub(in super::super) struct Traffic {
    rate: Option<(f64, Duration)>,
    total: u64,
    open: u64,
    outcomes: Vec<(&'static str, u64)>,
    statuses: Vec<(&'static str, u64)>,
}

impl Traffic {
    /// Looks at these counters.
    pub(in super::super) fn new(counted: &Snapshot, meter: &Meter, now: Instant) -> Self {
        let outcomes: Vec<_> = Outcome::ALL.iter().map(|o| (o.name(), counted.outcome(*o))).collect();
        let total = outcomes.iter().map(|(_, n)| n).sum();
        Traffic {
            rate: meter.rate(total, now),
            total,
            open: counted.open(),
            outcomes,
            statuses: StatusKind::ALL.iter().map(|s| (s.name(), counted.status(*s))).collect(),
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        let rate = match self.rate {
            Some((rate, span)) => format!("{rate:.1} requests a second in the last {}", super::span(span.as_secs())),
            None => "the rate is known when the page comes again".to_owned(),
        };
        let _ = write!(
            out,
            "<h2>Requests</h2>\n<p>{rate}; {} since the listeners were opened; {} connections are open.</p>\n",
            self.total, self.open
        );
        for (caption, rows) in
            [("Answers by kind", &self.outcomes), ("Signed answers by certificate status", &self.statuses)]
        {
            let whole: u64 = rows.iter().map(|(_, n)| n).sum();
            let _ = writeln!(
                out,
                "<table class=\"few\"><caption>{caption}</caption><thead><tr><th scope=\"col\">Kind</th><th scope=\"col\" class=\"n\">Number</th>\
                 <th scope=\"col\" class=\"n\">Share</th></tr></thead><tbody>"
            );
            for (name, n) in rows.iter().filter(|(_, n)| *n > 0) {
                let share = *n as f64 * 100.0 / whole as f64;
                let _ = writeln!(
                    out,
                    "<tr><th scope=\"row\">{name}</th><td class=\"n\">{n}</td><td class=\"n\">{share:.1} %</td></tr>"
                );
            }
            if whole == 0 {
                out.push_str("<tr><td colspan=\"3\">none yet</td></tr>\n");
            }
            out.push_str("</tbody></table>\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_minutes_and_begins_anew_with_other_counters() {
        let (meter, start) = (Meter::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(meter.rate(100, at(0)), None);
        assert_eq!(meter.rate(400, at(30)), Some((10.0, Duration::from_secs(30))));
        for n in 2..100 {
            meter.rate(400, at(n * 30));
        }
        assert_eq!(meter.rate(400, at(3_000)).map(|(rate, _)| rate), Some(0.0));
        assert!(meter.0.lock().unwrap().len() <= SAMPLES);
        assert_eq!(meter.rate(7, at(3_010)), None);
    }
}
