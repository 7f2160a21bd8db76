//! What is wrong with a file, and where.

use std::fmt;
use std::path::PathBuf;

/// A place in a text file; both count from 1, columns in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in octets, from 1.
    pub column: usize,
}

impl Position {
    /// Where every file begins.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// Where the lines of a text begin, so that the place of an offset is a search and not a count: a registry of ten
/// thousand records asks for a hundred thousand places.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Lines { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// The place of the octet at `offset`; the end of the text for an offset beyond it.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        Position { line, column: offset - start + 1 }
    }

    /// The place of `part`, which is a slice of the text itself.
    pub(crate) fn position_of(&self, part: &str) -> Position {
        self.position((part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize))
    }
}

/// One thing that is wrong (or doubtful) in a file: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The place in it, where there is one.
    pub at: Option<Position>,
    /// What is wrong and what to do; begins with the key it is about, where there is one.
    pub message: String,
}

impl Fault {
    /// A fault of the whole file.
    pub fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Fault { file: file.into(), at: None, message: message.into() }
    }

    /// A fault at a place in a file.
    pub fn at(file: impl Into<PathBuf>, at: Position, message: impl Into<String>) -> Self {
        Fault { file: file.into(), at: Some(at), message: message.into() }
    }
}

/// `file:line:column: message`, as compilers print it and editors understand it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(at) = self.at {
            write!(f, ":{}:{}", at.line, at.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a file: at least one [`Fault`], in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// The list with faults in the order of their places.
    pub(crate) fn sorted(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        Faults(faults)
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Faults(vec![fault])
    }
}

/// One fault a line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_octets_from_one() {
        let text = "a\nbc = x\n";
        let lines = Lines::new(text);
        assert_eq!(lines.position(0), Position::START);
        assert_eq!(lines.position(1), Position { line: 1, column: 2 });
        assert_eq!(lines.position(2), Position { line: 2, column: 1 });
        assert_eq!(lines.position_of(&text[7..]), Position { line: 2, column: 6 });
        assert_eq!(lines.position(999), Position { line: 3, column: 1 });
        assert_eq!(Lines::new("").position(0), Position::START);
    }
}
