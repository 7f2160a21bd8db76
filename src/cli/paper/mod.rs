//! What verbs write on for people: a terminal of some width, with or without colour, or a pipe.
//!
//! Colour only where a terminal reads and `NO_COLOR` is not set; drawn lines only where the locale is UTF-8. What others
//! have sent (a CA's error, a reason somebody typed) passes [`clean`] first: no escape sequence reaches a terminal.

mod draw;
mod table;

pub(crate) use draw::{Life, histogram};
pub(crate) use table::{Align, Cell, Column, Give, Table};

use super::show::relative;
use crate::time::Timestamp;
use anstyle::{AnsiColor, Style};
use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What a pipe gets, as it has no width: a common terminal's.
const PIPE_WIDTH: usize = 100;
/// Narrower than this nothing can be laid out.
const MIN_WIDTH: usize = 40;
/// Wider than this no line can be read.
const MAX_WIDTH: usize = 200;

/// Where something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paper {
    /// Columns.
    pub(crate) width: usize,
    /// Colour may be used.
    pub(crate) colour: bool,
    /// More than ASCII may be used.
    pub(crate) unicode: bool,
}

/// What a piece of text says by its colour; never by its colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Faint,
    Strong,
    Good,
    Warn,
    Bad,
    Mark,
}

impl Paper {
    /// Standard output.
    pub(crate) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find(|name| set(name));
        let locale = locale.and_then(|name| std::env::var(name).ok()).unwrap_or_default().to_ascii_lowercase();
        let width = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
        let columns = || std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Paper {
            width: width.or_else(columns).unwrap_or(PIPE_WIDTH).clamp(MIN_WIDTH, MAX_WIDTH),
            colour: is_terminal && !dumb && !set("NO_COLOR"),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// The text in this tone.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Mark => AnsiColor::Cyan.on_default(),
        };
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// The text in lines no wider than the paper, each after `indent` columns.
    pub(crate) fn wrap(&self, text: &str, indent: usize, tone: Tone) -> String {
        let room = self.width.saturating_sub(indent).max(10);
        let mut out = String::new();
        for line in wrap(&self.plain(text), room) {
            out.push_str(&" ".repeat(indent));
            out.push_str(&self.paint(tone, &line));
            out.push('\n');
        }
        out
    }

    /// A line `name  text`, with the text wrapped beside the name.
    pub(crate) fn pair(&self, name: &str, text: &str, tone: Tone) -> String {
        const NAME: usize = 11;
        let wrapped = self.wrap(text, NAME, tone);
        let rest = wrapped.get(NAME..).unwrap_or_default();
        format!("{}{rest}", self.paint(Tone::Faint, &pad(name, NAME, Align::Left)))
    }

    /// Without what this paper cannot show.
    pub(crate) fn plain(&self, text: &str) -> String {
        let text = clean(text);
        if self.unicode { text } else { text.replace('…', "...").replace('–', "-").replace('→', "->") }
    }

    /// A headline.
    pub(crate) fn title(&self, text: &str) -> String {
        format!("\n{}", self.wrap(text, 0, Tone::Strong))
    }
}

/// `in 3d4h (2026-11-24 18:00Z)`.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", relative(at, now), stamp(at))
}

/// `2026-11-24 18:00Z`: to the minute.
pub(crate) fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {}Z", text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default())
}

/// `2 issuers`, `1 issuer`.
pub(crate) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The text in one line without anything that a terminal would obey: control characters and those that turn the direction
/// of writing are spaces.
pub(crate) fn clean(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|c| if obeyed(c) { ' ' } else { c }).collect()
}

fn width(text: &str) -> usize {
    text.width()
}

fn pad(text: &str, to: usize, align: Align) -> String {
    let room = " ".repeat(to.saturating_sub(width(text)));
    if align == Align::Left { format!("{text}{room}") } else { format!("{room}{text}") }
}

/// The text in at most `to` columns; what is cut is shown to be.
fn cut(text: &str, to: usize, unicode: bool) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mark = if unicode { "…" } else { "~" };
    let mut out = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > to {
            break;
        }
        out.push(c);
    }
    out + mark
}

/// The text in lines of at most `room` columns, broken at spaces where there are any.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word;
        while let Some(line) = lines.last_mut() {
            let gap = usize::from(!line.is_empty());
            if width(line) + gap + width(word) <= room {
                line.push_str(if gap == 1 { " " } else { "" });
                line.push_str(word);
                break;
            }
            if !line.is_empty() {
                lines.push(String::new());
                continue;
            }
            // A word wider than the line.
            let mut end = 0;
            let mut taken = 0;
            for (at, c) in word.char_indices() {
                taken += c.width().unwrap_or(0);
                if taken > room && at > 0 {
                    break;
                }
                end = at + c.len_utf8();
            }
            let (head, tail) = word.split_at_checked(end).unwrap_or((word, ""));
            line.push_str(head);
            if tail.is_empty() {
                break;
            }
            lines.push(String::new());
            word = tail;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Paper = Paper { width: 42, colour: false, unicode: true };

    #[test]
    fn nothing_that_others_sent_is_obeyed_by_a_terminal() {
        let nasty = "a\x1b[2Jb\u{9b}31mc\r\nd\u{202e}e\x07";
        let cleaned = clean(nasty);
        assert!(!cleaned.contains(|c: char| c.is_control() || c == '\u{202e}'), "{cleaned:?}");
        assert!(PLAIN.wrap(nasty, 0, Tone::Plain).lines().all(|l| !l.contains('\x1b')));
        let mut table = Table::new(vec![Column { title: "NAME", align: Align::Left }], vec![]);
        table.row(vec![Cell::text(nasty)], vec![(nasty.into(), Tone::Bad)]);
        assert!(table.render(&PLAIN).lines().all(|line| !line.contains(|c: char| c.is_control())));
    }

    #[test]
    fn colour_is_used_only_where_it_may_be() {
        assert_eq!(PLAIN.paint(Tone::Bad, "x"), "x");
        let painted = Paper { colour: true, ..PLAIN }.paint(Tone::Bad, "x");
        assert!(painted.starts_with('\x1b') && painted.ends_with("\x1b[0m"), "{painted:?}");
    }

    #[test]
    fn text_goes_beside_its_name() {
        let text = PLAIN.pair("registry", "generation 7, read a moment ago and found usable", Tone::Plain);
        assert_eq!(text, "registry   generation 7, read a moment ago\n           and found usable\n");
    }

    #[test]
    fn times_are_told_relative_and_absolute() {
        let now = Timestamp::from_unix(1_795_269_600);
        assert_eq!(when(now.plus(std::time::Duration::from_secs(3_660)), now), "in 1h1m (2026-11-21 15:01Z)");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_paper_and_nothing_is_lost(text in "[a-zäあ ]{0,200}", room in 3_usize..60) {
            let lines = wrap(&text, room);
            prop_assert!(lines.iter().all(|line| width(line) <= room), "{:?}", lines);
            let letters = |t: &str| t.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
            prop_assert!(width(&cut(&text, room, true)) <= room);
        }
    }
}
