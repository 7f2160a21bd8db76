//! A picture of a run: four curves, both policies, light or dark as the reader's page is.

use super::super::measure::Sample;
use super::super::scenario::{Report, Scenario};
use crate::time::Timestamp;
use std::fmt::Write;
use std::time::Duration;

const WIDTH: i64 = 860;
const LEFT: i64 = 150;
const PLOT: i64 = 680;
const HEIGHT: i64 = 84;
const GAP: i64 = 34;
const TOP: i64 = 64;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#222}.t{font-size:15px;font-weight:600}.q{fill:#555}\
.g{stroke:#ddd;fill:none}.f{stroke:#c2410c;fill:none;stroke-width:1.5}.o{stroke:#0369a1;fill:none;stroke-width:2}\
.b{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e5e5e5}.q{fill:#aaa}.g{stroke:#3a3a3a}.f{stroke:#fb923c}\
.o{stroke:#38bdf8}.b{fill:#161616}}";

struct Panel {
    name: &'static str,
    unit: &'static str,
    of: fn(&Sample) -> Option<f64>,
}

const PANELS: [Panel; 5] = [
    Panel { name: "queue at the CA", unit: "jobs", of: |s| Some(s.queue as f64) },
    Panel { name: "requests", unit: "busiest minute", of: |s| Some(s.requests as f64) },
    Panel { name: "customers' calls", unit: "% failing, at worst", of: |s| s.failing },
    Panel { name: "least slack", unit: "days", of: |s| s.slack.map(|slack| slack as f64 / 86_400.0) },
    Panel { name: "without a signer", unit: "issuers x nodes", of: |s| Some(s.unserved as f64) },
];

/// The picture of a report.
pub fn svg(scenario: &Scenario, report: &Report) -> String {
    let shown: Vec<&Panel> = PANELS
        .iter()
        .filter(|p| {
            let samples = report.field.samples.iter().chain(&report.ours.samples);
            let values: Vec<f64> = samples.filter_map(p.of).collect();
            values.iter().any(|v| *v != 0.0)
        })
        .collect();
    let height = TOP + shown.len() as i64 * (HEIGHT + GAP) + 10;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"b\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"t\" x=\"14\" y=\"24\">{0}</text>\n<text x=\"14\" y=\"44\" class=\"q\">{1}</text>\n\
         <path class=\"f\" d=\"M{2} 20h24\"/><text x=\"{3}\" y=\"24\">the field</text>\n\
         <path class=\"o\" d=\"M{4} 20h24\"/><text x=\"{5}\" y=\"24\">stillgood</text>",
        scenario.name,
        escaped(scenario.title),
        WIDTH - 210,
        WIDTH - 180,
        WIDTH - 104,
        WIDTH - 74
    );
    for (n, panel) in shown.iter().enumerate() {
        let top = TOP + n as i64 * (HEIGHT + GAP);
        draw(panel, report, top, n + 1 == shown.len(), &mut out);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(panel: &Panel, report: &Report, top: i64, is_last: bool, out: &mut String) {
    let values = || report.field.samples.iter().chain(&report.ours.samples).filter_map(panel.of);
    let high = nice(values().fold(0.0, f64::max)).max(1.0);
    let low = 0.0 - nice(-values().fold(0.0, f64::min));
    let y = |value: f64| top + HEIGHT - ((value - low) / (high - low) * HEIGHT as f64).round() as i64;
    let _ = writeln!(
        out,
        "<text x=\"14\" y=\"{}\">{}</text><text x=\"14\" y=\"{}\" class=\"q\">{}</text>",
        top + 16,
        panel.name,
        top + 32,
        panel.unit
    );
    for value in if low < 0.0 { vec![low, 0.0, high] } else { vec![low, high] } {
        let _ = writeln!(
            out,
            "<path class=\"g\" d=\"M{LEFT} {0}h{PLOT}\"/><text x=\"{1}\" y=\"{2}\" text-anchor=\"end\" class=\"q\">{value}</text>",
            y(value),
            LEFT - 6,
            y(value) + 4
        );
    }
    for tick in 0..=6 {
        let at = report.length_secs * tick / 6;
        let x = LEFT + PLOT * tick as i64 / 6;
        let _ = write!(out, "<path class=\"g\" d=\"M{x} {top}v{HEIGHT}\"/>");
        if is_last {
            let label = label(report.start, at, report.length_secs);
            let _ = write!(
                out,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" class=\"q\">{label}</text>",
                top + HEIGHT + 18
            );
        }
    }
    for (class, outcome) in [("f", &report.field), ("o", &report.ours)] {
        let path = path(&outcome.samples, panel, report.length_secs, &y);
        if !path.is_empty() {
            let _ = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    out.push('\n');
}

/// A line through the points; what lies between two of the same height is left out.
fn path(samples: &[Sample], panel: &Panel, length: u64, y: &dyn Fn(f64) -> i64) -> String {
    let mut points: Vec<(i64, i64)> = Vec::new();
    for sample in samples {
        let Some(value) = (panel.of)(sample) else { continue };
        let x = LEFT + (sample.at as f64 / length.max(1) as f64 * PLOT as f64).round() as i64;
        let point = (x, y(value));
        if let [.., (_, before), last] = points.as_mut_slice()
            && *before == point.1
            && last.1 == point.1
        {
            *last = point;
        } else {
            points.push(point);
        }
    }
    let mut out = String::new();
    for (n, (x, y)) in points.iter().enumerate() {
        let _ = write!(out, "{}{x} {y}", if n == 0 { "M" } else { "L" });
    }
    out
}

/// The next of 1, 2, 5, 10, 20, … that is not less; at least 1.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let mut scale = 1.0;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if step * scale >= value {
                return step * scale;
            }
        }
        scale *= 10.0;
    }
}

/// A time of day in a short world, a day in a long one.
fn label(start: Timestamp, at: u64, length: u64) -> String {
    if length > 3 * 86_400 {
        return format!("day {:.0}", at as f64 / 86_400.0);
    }
    let text = start.plus(Duration::from_secs(at)).to_string();
    text.get(11..16).unwrap_or_default().to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let nice_ones = [0.0, 0.3, 1.0, 7.0, 11.0, 99.0, 13_978.0].map(nice);
        assert_eq!(nice_ones, [0.0, 1.0, 1.0, 10.0, 20.0, 100.0, 20_000.0]);
        assert_eq!(label(Timestamp::from_unix(1_603_891_800), 1_800, 16_200), "14:00");
        assert_eq!(label(Timestamp::EPOCH, 10 * 86_400, 60 * 86_400), "day 10");
    }
}
