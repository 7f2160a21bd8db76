//! What a run looks like to people: a table, a picture, a page.

mod markdown;
mod svg;
mod table;

pub use markdown::{page, section};
pub use svg::svg;
pub use table::table;

use super::scenario::Report;

/// The figures of a report that people compare: what, under the policy of the field, under ours.
fn figures(report: &Report) -> Vec<(&'static str, String, String)> {
    let of = |f: fn(&super::Totals) -> u64| [thousands(f(&report.field.totals)), thousands(f(&report.ours.totals))];
    let rows: [(&'static str, [String; 2]); 9] = [
        ("requests", of(|t| t.requests)),
        ("requests, at most per minute", of(|t| t.peak_per_minute)),
        ("requests wasted", of(|t| t.wasted)),
        ("new signers", of(|t| t.renewed)),
        ("longest queue at the CA", of(|t| t.longest_queue as u64)),
        ("calls of customers", of(|t| t.calls)),
        ("calls that failed", of(|t| t.hurt + t.limited)),
        ("signers expired", of(|t| t.expired)),
        ("minutes unserved", of(|t| t.unserved_minutes)),
    ];
    let nobody = report.field.totals.calls == 0 && report.ours.totals.calls == 0;
    let shown = |name: &str| !(nobody && name.starts_with("calls"));
    rows.into_iter().filter(|(name, _)| shown(name)).map(|(name, [field, ours])| (name, field, ours)).collect()
}

/// `12 345`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn long_numbers_are_written_in_groups_of_three() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1 000", "1 234 567"]);
    }
}
