//! Tables that fit: columns give way in an order of their own until the paper is wide enough.

use super::draw::Life;
use super::{Paper, Tone, cut, pad, width};

/// Columns between two columns.
const GAP: usize = 2;
/// The narrowest a bar is of use.
const MIN_BAR: usize = 14;
/// Wider, a bar says nothing more.
const MAX_BAR: usize = 48;
/// What is left of a name at least.
const MIN_NAME: usize = 8;

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// How a column gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Give {
    /// Its cells use their short form.
    Shorten,
    /// It is left out.
    Drop,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
}

/// One place in a row.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Text {
        long: String,
        short: String,
        tone: Tone,
    },
    /// Takes what width is left over.
    Bar(Life),
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let long = text.into();
        Cell::Text { short: long.clone(), long, tone: Tone::Plain }
    }

    /// With another form for narrow paper.
    pub(crate) fn or(self, brief: impl Into<String>) -> Self {
        match self {
            Cell::Text { long, tone, .. } => Cell::Text { long, short: brief.into(), tone },
            bar => bar,
        }
    }

    pub(crate) fn in_tone(self, tone: Tone) -> Self {
        match self {
            Cell::Text { long, short, .. } => Cell::Text { long, short, tone },
            bar => bar,
        }
    }

    fn fit(&self, paper: &Paper, brief: bool) -> String {
        match self {
            Cell::Text { short, .. } if brief => paper.plain(short),
            Cell::Text { long, .. } => paper.plain(long),
            Cell::Bar(_) => String::new(),
        }
    }
}

/// Its cells, and what stands below them.
type Row = (Vec<Cell>, Vec<(String, Tone)>);

/// Rows under titles, each with notes below it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    /// What gives way, the first to do so first.
    gives: Vec<(usize, Give)>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Long,
    Short,
    Gone,
}

impl Table {
    pub(crate) fn new(columns: Vec<Column>, gives: Vec<(usize, Give)>) -> Self {
        Table { columns, gives, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>, notes: Vec<(String, Tone)>) {
        self.rows.push((cells, notes));
    }

    /// The whole table.
    pub(crate) fn render(&self, paper: &Paper) -> String {
        let mut states = vec![State::Long; self.columns.len()];
        for (column, give) in &self.gives {
            if self.total(paper, &states) <= paper.width {
                break;
            }
            if let Some(state) = states.get_mut(*column) {
                *state = if *give == Give::Drop { State::Gone } else { State::Short };
            }
        }
        let over = self.total(paper, &states).saturating_sub(paper.width);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let wide = self.wide(paper, column, states.get(column).copied().unwrap_or(State::Long));
                // Names come first and are what can be cut.
                if column == 0 { wide.saturating_sub(over).max(MIN_NAME.min(wide)) } else { wide }
            })
            .collect();
        let left = paper.width.saturating_sub(self.total(paper, &states));
        let bar = (MIN_BAR + left).min(MAX_BAR);
        let place = |column: usize| (states.get(column).copied().unwrap_or(State::Gone), widths.get(column).copied());
        let mut out = String::new();
        let mut titles = String::new();
        for (column, of) in self.columns.iter().enumerate() {
            let (state, Some(width)) = place(column) else { continue };
            if state != State::Gone {
                titles.push_str(&pad(of.title, width, of.align));
                titles.push_str(&" ".repeat(GAP));
            }
        }
        out.push_str(&paper.paint(Tone::Faint, titles.trim_end()));
        out.push('\n');
        for (cells, notes) in &self.rows {
            let mut line = String::new();
            for (column, (cell, of)) in cells.iter().zip(&self.columns).enumerate() {
                let (state, Some(wide)) = place(column) else { continue };
                match cell {
                    _ if state == State::Gone => continue,
                    Cell::Bar(life) => line.push_str(&life.draw(paper, bar)),
                    Cell::Text { tone, .. } => {
                        let text = cut(&cell.fit(paper, state == State::Short), wide, paper.unicode);
                        let padded = pad(&text, wide, of.align);
                        // The padding is not painted, so that it can be trimmed.
                        line.push_str(&padded.replacen(&text, &paper.paint(*tone, &text), 1));
                    }
                }
                line.push_str(&" ".repeat(GAP));
            }
            out.push_str(line.trim_end());
            out.push('\n');
            for (note, tone) in notes {
                out.push_str(&paper.wrap(note, 4, *tone));
            }
        }
        out
    }

    fn total(&self, paper: &Paper, states: &[State]) -> usize {
        let there = states.iter().enumerate().filter(|(_, state)| **state != State::Gone);
        let (n, sum) = there.fold((0, 0), |(n, sum), (at, state)| (n + 1, sum + self.wide(paper, at, *state)));
        sum + GAP * usize::saturating_sub(n, 1)
    }

    fn wide(&self, paper: &Paper, column: usize, state: State) -> usize {
        let title = self.columns.get(column).map_or(0, |of| width(of.title));
        let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column));
        cells.fold(title, |most, cell| {
            most.max(match cell {
                Cell::Bar(_) => MIN_BAR,
                text => width(&text.fit(paper, state == State::Short)),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |title, align| Column { title, align };
        let columns = vec![column("NAME", Align::Left), column("COUNT", Align::Right), column("WHEN", Align::Left)];
        let mut table = Table::new(columns, vec![(2, Give::Shorten), (2, Give::Drop), (1, Give::Drop)]);
        table.row(
            vec![Cell::text("issuing-ca-1"), Cell::text("7"), Cell::text("in 3d4h (2026-11-24 18:00Z)").or("in 3d4h")],
            vec![("parked since long ago, because its profile is disabled".into(), Tone::Warn)],
        );
        table
    }

    fn at(width: usize) -> String {
        table().render(&Paper { width, colour: false, unicode: true })
    }

    #[test]
    fn columns_give_way_in_their_order() {
        assert_eq!(
            at(80),
            "NAME          COUNT  WHEN\n\
             issuing-ca-1      7  in 3d4h (2026-11-24 18:00Z)\n    parked since long ago, because its profile is disabled\n"
        );
        assert!(at(40).contains("issuing-ca-1      7  in 3d4h\n"), "{}", at(40));
        assert!(at(25).starts_with("NAME          COUNT\n"), "{}", at(25));
        assert!(at(12).starts_with("NAME\nissuing-ca-1\n"), "{}", at(12));
        assert!(at(10).contains("issuing-c…\n"), "{}", at(10));
    }

    #[test]
    fn no_line_is_wider_than_the_paper() {
        for width in 14..100 {
            for line in at(width).lines() {
                assert!(super::width(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colour_changes_no_width() {
        let paper = Paper { width: 80, colour: true, unicode: true };
        let mut coloured = table().render(&paper);
        while let Some(start) = coloured.find('\x1b') {
            let end = coloured[start..].find('m').unwrap();
            coloured.replace_range(start..=start + end, "");
        }
        assert_eq!(coloured, at(80));
    }
}
