//! One description of a thing, printed for people (indented lines) or for machines (JSON).

use crate::time::Timestamp;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Something to show.
#[derive(Clone, Debug)]
pub(crate) enum Show {
    /// One line.
    Text(String),
    /// A number, which stays one in JSON.
    Number(u64),
    /// Named parts, in order.
    Fields(Vec<(&'static str, Show)>),
    /// Things of one kind.
    List(Vec<Show>),
}

impl Show {
    pub(crate) fn text(text: impl std::fmt::Display) -> Self {
        Show::Text(text.to_string())
    }

    /// Octets as hexadecimal.
    pub(crate) fn hex(octets: &[u8]) -> Self {
        Show::Text(data_encoding::HEXUPPER.encode(octets))
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Show::Text(text) => Value::String(text.clone()),
            Show::Number(n) => Value::from(*n),
            Show::Fields(fields) => {
                Value::Object(fields.iter().map(|(name, s)| ((*name).to_owned(), s.to_json())).collect::<Map<_, _>>())
            }
            Show::List(items) => Value::Array(items.iter().map(Show::to_json).collect()),
        }
    }

    /// Indented lines, `name: value`.
    pub(crate) fn to_lines(&self) -> String {
        let mut out = String::new();
        if let Show::Fields(fields) = self {
            for (name, show) in fields {
                show.write(name, 0, &mut out);
            }
        }
        out
    }

    fn write(&self, name: &str, depth: usize, out: &mut String) {
        // Writing to a String cannot fail.
        let indent = "  ".repeat(depth);
        let _ = match self {
            Show::Text(text) => writeln!(out, "{indent}{name}: {text}"),
            Show::Number(n) => writeln!(out, "{indent}{name}: {n}"),
            Show::Fields(fields) => {
                let _ = writeln!(out, "{indent}{name}:");
                for (name, show) in fields {
                    show.write(name, depth + 1, out);
                }
                Ok(())
            }
            Show::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    item.write(&format!("{name} {} of {}", i + 1, items.len()), depth, out);
                }
                Ok(())
            }
        };
    }
}

/// Seconds in the two largest units that matter: `3d23h`, `4h`, `59s`.
pub(crate) fn roughly(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let mut rest = seconds;
    let mut out = String::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        let n = rest / size;
        rest %= size;
        if n > 0 || out.is_empty() {
            let _ = write!(out, "{n}{unit}");
        }
    }
    out
}

/// `in 3d4h`, `2h5m ago` or `now`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.seconds_since(now);
    let text = roughly(seconds.unsigned_abs());
    if seconds == 0 {
        return "now".to_owned();
    }
    if seconds < 0 { format!("{text} ago") } else { format!("in {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_661, "1h1m"), (345_599, "3d23h"), (86_400, "1d"), (86_401, "1d")]
        {
            assert_eq!(roughly(seconds), text, "{seconds}");
        }
        assert_eq!(relative(Timestamp::from_unix(0), Timestamp::from_unix(61)), "1m1s ago");
    }

    #[test]
    fn people_and_machines_see_the_same() {
        let show = Show::Fields(vec![
            ("a", Show::Number(1)),
            ("b", Show::List(vec![Show::Fields(vec![("c", Show::text("x"))]), Show::text("y")])),
        ]);
        assert_eq!(show.to_lines(), "a: 1\nb 1 of 2:\n  c: x\nb 2 of 2: y\n");
        assert_eq!(show.to_json().to_string(), r#"{"a":1,"b":[{"c":"x"},"y"]}"#);
    }
}
