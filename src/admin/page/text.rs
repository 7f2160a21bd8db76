//! Text that others have written, and times, as HTML.

use crate::time::Timestamp;
use std::fmt::{self, Write as _};

/// Characters of one text; the rest is left out.
const MAX_CHARS: usize = 400;

/// Escaped for the content of an element and for an attribute in quotation marks. What controls a terminal or the direction
/// of writing is shown as U+FFFD.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, c) in self.0.chars().enumerate() {
            if n == MAX_CHARS {
                return f.write_char('…');
            }
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{fffe}'
                | '\u{ffff}' => {
                    f.write_char('\u{fffd}')?;
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Seconds in the two largest units that matter: `3d23h`, `4h`, `59s`.
pub(super) fn span(seconds: u64) -> String {
    let (large, n, small, rest) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3_600 => ('m', seconds / 60, 's', seconds % 60),
        3_600..86_400 => ('h', seconds / 3_600, 'm', seconds % 3_600 / 60),
        _ => ('d', seconds / 86_400, 'h', seconds % 86_400 / 3_600),
    };
    if rest == 0 { format!("{n}{large}") } else { format!("{n}{large}{rest}{small}") }
}

/// `in 3d4h`, `2h5m ago` or `now`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.seconds_since(now);
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {}", span(seconds.unsigned_abs())),
        _ => format!("{} ago", span(seconds.unsigned_abs())),
    }
}

/// A time: how far away for everybody, the exact one on top of it.
pub(super) fn time(at: Timestamp, now: Timestamp) -> String {
    format!("<time datetime=\"{at}\" title=\"{at}\">{}</time>", relative(at, now))
}

/// `1 issuer`, `2 issuers`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
