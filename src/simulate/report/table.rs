//! For the terminal.

use super::super::scenario::{Report, Scenario};
use super::figures;
use std::fmt::Write;

/// The figures of both policies side by side, and every verdict.
pub fn table(scenario: &Scenario, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}: {}", scenario.name, scenario.title);
    let _ = writeln!(out, "  the field: {}", report.field_policy);
    let _ = writeln!(out, "  {:<32}{:>14}{:>14}", format!("seed {}", report.seed), "the field", "stillgood");
    for (name, field, ours) in figures(report) {
        let _ = writeln!(out, "  {name:<32}{field:>14}{ours:>14}");
    }
    for verdict in &report.verdicts {
        let sign = if verdict.holds { "ok    " } else { "FAILED" };
        let _ = writeln!(out, "  {sign}  {:<7} {}", verdict.row, verdict.text);
    }
    for violation in &report.ours.violations {
        let _ = writeln!(out, "{violation}");
    }
    out
}
