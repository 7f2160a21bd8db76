//! The Prometheus text format, version 0.0.4.

use std::fmt::{Display, Write};

/// Metric families written one after the other.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// What kind of family.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { text: &mut self.text, name }
    }

    /// A family with one sample and no labels.
    pub(super) fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample("", &[], value);
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A family in the making.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// One sample; `suffix` is `_bucket`, `_sum`, `_count` or nothing.
    pub(super) fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (n, (key, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{key}=\"", if n == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_as_the_format_wants() {
        let mut e = Exposition::default();
        e.family("x", Kind::Gauge, "help").sample("", &[("a", "q\"b\\c\nd"), ("e", "f")], 1);
        e.single("y", Kind::Counter, "more", 2.5);
        assert_eq!(
            e.finish(),
            "# HELP x help\n# TYPE x gauge\nx{a=\"q\\\"b\\\\c\\nd\",e=\"f\"} 1\n# HELP y more\n# TYPE y counter\ny 2.5\n"
        );
    }
}
