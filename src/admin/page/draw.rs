//! Pictures: the life of a certificate and the calendar. What they show is said in words too.

use super::super::control::{SlotReport, WindowReport};
use super::text::{Text, count, relative, span};
use crate::time::Timestamp;
use std::fmt::Write as _;

/// Units of a bar's width.
const WIDTH: i64 = 220;
/// Columns of the calendar, the last one for all that comes later aside.
const COLUMNS: usize = 48;
/// What a column may stand for, in seconds.
const STEPS: [i64; 9] = [60, 300, 900, 3_600, 10_800, 21_600, 86_400, 2 * 86_400, 7 * 86_400];

/// What the signs in a bar mean.
pub(super) const LEGEND: &str = "Filled: what is over; box: the window in which it is renewed; ◆ due; ▼ and line: deadline; \
     ● now. The bar goes from notBefore to notAfter.";

/// The bar of a slot that has a certificate.
pub(super) fn life(slot: &SlotReport, now: Timestamp) -> Option<String> {
    let (from, to) = (slot.not_before?, slot.not_after?);
    let whole = to.seconds_since(from).max(1);
    let place = |at: Timestamp| {
        let gone = i128::from(at.seconds_since(from)) * i128::from(WIDTH) / i128::from(whole);
        i64::try_from(gone.clamp(0, i128::from(WIDTH))).unwrap_or(WIDTH)
    };
    let x = place(now);
    let mut said =
        if now > to { format!("ended {}", relative(to, now)) } else { format!("ends {}", relative(to, now)) };
    let mut marks = String::new();
    let mut tone = if now > to { "bad" } else { "good" };
    if let Some(WindowReport { opens, due, closes, urgent, deadline }) = slot.window {
        let (left, right) = (place(opens), place(closes));
        let (d, end) = (place(due), place(deadline));
        let _ = write!(
            marks,
            "<rect class=\"window\" x=\"{left}\" y=\"3\" width=\"{}\" height=\"14\"/>\
             <path class=\"due\" d=\"M{d} 6l4 4l-4 4l-4 -4z\"/>\
             <path class=\"deadline\" d=\"M{end} 20V3l-4 -3h8l-4 3\"/>",
            (right - left).max(2)
        );
        let _ = write!(said, "; renewal due {}, deadline {}", relative(due, now), relative(deadline, now));
        if now >= urgent {
            tone = "bad";
        } else if now >= closes {
            tone = "warn";
        }
    }
    Some(format!(
        "<svg class=\"life {tone}\" viewBox=\"-5 0 230 20\" width=\"230\" height=\"20\" role=\"img\">\
         <title>Life of the certificate of {}</title><desc>{}</desc>\
         <rect class=\"track\" x=\"0\" y=\"7\" width=\"{WIDTH}\" height=\"6\"/><rect class=\"gone\" x=\"0\" y=\"7\" width=\"{x}\" \
         height=\"6\"/>{marks}<circle class=\"now\" cx=\"{x}\" cy=\"10\" r=\"3.5\"/></svg>",
        Text(&slot.slot.to_string()),
        Text(&said)
    ))
}

/// Renewals by time, and the same in words. `None`: none is to come.
pub(super) fn calendar(dues: &[Timestamp], now: Timestamp) -> Option<String> {
    let away: Vec<i64> = dues.iter().map(|due| due.seconds_since(now).max(0)).collect();
    let far = *away.iter().max()?;
    let limit = i64::try_from(COLUMNS).unwrap_or(i64::MAX);
    let step = STEPS.into_iter().find(|step| far / step < limit).unwrap_or(7 * 86_400);
    let mut columns = [0_usize; COLUMNS];
    let mut later = 0_usize;
    for seconds in away {
        match usize::try_from(seconds / step).ok().and_then(|n| columns.get_mut(n)) {
            Some(column) => *column += 1,
            None => later += 1,
        }
    }
    let overdue = dues.iter().filter(|due| **due <= now).count();
    let most = columns.iter().copied().max().unwrap_or(0).max(1);
    let used = columns.iter().rposition(|n| *n > 0).map_or(1, |last| last + 1);
    let each = span(step.unsigned_abs());
    let ends = relative(now.plus(std::time::Duration::from_secs(step.unsigned_abs() * used as u64)), now);
    let mut said = format!("{}, each column {each}, at most {most} in one", count(dues.len(), "renewal"));
    if overdue > 0 {
        let _ = write!(said, "; {overdue} due already, in the first column");
    }
    if later > 0 {
        let _ = write!(said, "; {later} later than {ends}, not drawn");
    }
    let mut bars = String::new();
    let wide = 480 / used.clamp(20, COLUMNS);
    for (n, many) in columns.iter().enumerate().take(used).filter(|(_, many)| **many > 0) {
        let height = (many * 80 / most).max(2);
        let from = relative(now.plus(std::time::Duration::from_secs(step.unsigned_abs() * n as u64)), now);
        let _ = write!(
            bars,
            "<rect class=\"bar\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"><title>{from}: {many}</title></rect>",
            n * wide,
            94 - height,
            wide - 2
        );
    }
    // Room for the word beside `now`.
    let right = (used * wide).max(120);
    Some(format!(
        "<p>{said}.</p>\n<svg class=\"calendar\" viewBox=\"0 -8 480 124\" role=\"img\"><title>Renewal calendar</title>\
         <desc>{said}</desc>{bars}<path class=\"axis\" d=\"M0 95H480\"/><text x=\"0\" y=\"108\">now</text>\
         <text x=\"{right}\" y=\"108\" text-anchor=\"end\">{ends}</text><text x=\"0\" y=\"10\">{most}</text></svg>\n"
    ))
}
