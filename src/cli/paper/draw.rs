//! Bars: the life of a certificate, and how many requests fall into each stretch of time.

use super::{Paper, Tone};
use crate::time::Timestamp;

/// The life of a certificate and what renewal makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) now: Timestamp,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// The window opens, the slot's place in it, the window closes, it is urgent, the deadline.
    pub(crate) window: Option<[Timestamp; 5]>,
}

/// What a cell of the bar stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Past,
    Future,
    Window,
    Due,
    Deadline,
    Beyond,
    Now,
}

impl Mark {
    fn char(self, unicode: bool) -> char {
        match (self, unicode) {
            (Mark::Past, true) => '━',
            (Mark::Future, true) => '─',
            (Mark::Window, true) => '▒',
            (Mark::Due, true) => '◆',
            (Mark::Deadline, true) => '┃',
            (Mark::Beyond, true) => '┄',
            (Mark::Now, true) => '●',
            (Mark::Past, false) => '=',
            (Mark::Future, false) => '-',
            (Mark::Window, false) => '~',
            (Mark::Due, false) => 'D',
            (Mark::Deadline, false) => '|',
            (Mark::Beyond, false) => '.',
            (Mark::Now, false) => 'o',
        }
    }
}

impl Life {
    /// The legend of the bars on this paper.
    pub(crate) fn legend(paper: &Paper) -> String {
        let of = |mark: Mark| mark.char(paper.unicode);
        format!(
            "{} now   {} window   {} due   {} deadline   {} no longer of use for responses",
            of(Mark::Now),
            of(Mark::Window),
            of(Mark::Due),
            of(Mark::Deadline),
            of(Mark::Beyond)
        )
    }

    /// How pressing it is.
    pub(crate) fn tone(&self) -> Tone {
        match self.window {
            _ if self.now >= self.not_after => Tone::Bad,
            Some([.., deadline]) if self.now >= deadline => Tone::Bad,
            Some([_, _, _, urgent, _]) if self.now >= urgent => Tone::Bad,
            Some([_, due, ..]) if self.now >= due => Tone::Warn,
            _ => Tone::Good,
        }
    }

    /// The bar in exactly `width` columns: from notBefore to notAfter.
    pub(crate) fn draw(&self, paper: &Paper, width: usize) -> String {
        let mut out = String::new();
        let mut run = String::new();
        let mut tone = Tone::Plain;
        for mark in self.marks(width) {
            let next = match mark {
                Mark::Now => self.tone(),
                Mark::Window | Mark::Due => Tone::Mark,
                Mark::Deadline => Tone::Strong,
                _ => Tone::Faint,
            };
            if next != tone && !run.is_empty() {
                out.push_str(&paper.paint(tone, &run));
                run.clear();
            }
            tone = next;
            run.push(mark.char(paper.unicode));
        }
        out + &paper.paint(tone, &run)
    }

    fn marks(&self, width: usize) -> Vec<Mark> {
        let life = self.not_after.since(self.not_before).as_secs().max(1);
        let last = width.saturating_sub(1);
        let cell = |at: Timestamp| {
            let place = u128::from(at.since(self.not_before).as_secs()) * width as u128 / u128::from(life);
            usize::try_from(place).unwrap_or(last).min(last)
        };
        let now = cell(self.now);
        let mut marks: Vec<Mark> = (0..width).map(|at| if at < now { Mark::Past } else { Mark::Future }).collect();
        let mut put = |at: usize, mark| {
            if let Some(place) = marks.get_mut(at) {
                *place = mark;
            }
        };
        if let Some([opens, due, closes, _, deadline]) = self.window {
            (cell(opens)..=cell(closes)).for_each(|at| put(at, Mark::Window));
            (cell(deadline) + 1..width).for_each(|at| put(at, Mark::Beyond));
            put(cell(deadline), Mark::Deadline);
            put(cell(due), Mark::Due);
        }
        put(now, Mark::Now);
        marks
    }
}

/// Columns, one per bucket, `height` lines high; the highest bucket fills them. A bucket that has something is never empty.
pub(crate) fn histogram(buckets: &[usize], height: usize, paper: &Paper) -> Vec<String> {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const HALVES: [char; 9] = [' ', '.', '.', '.', ':', ':', ':', '#', '#'];
    let most = buckets.iter().copied().max().unwrap_or(0).max(1);
    let glyphs = if paper.unicode { EIGHTHS } else { HALVES };
    (0..height)
        .rev()
        .map(|line| {
            let text: String = buckets
                .iter()
                .map(|n| {
                    let eighths = (n * height * 8).div_ceil(most);
                    glyphs.get(eighths.saturating_sub(line * 8).min(8)).copied().unwrap_or(' ')
                })
                .collect();
            text.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: Paper = Paper { width: 80, colour: false, unicode: true };
    const ASCII: Paper = Paper { unicode: false, ..PAPER };

    fn life(now: i64) -> Life {
        let at = Timestamp::from_unix;
        Life { now: at(now), not_before: at(0), not_after: at(200), window: Some([100, 110, 130, 150, 160].map(at)) }
    }

    #[test]
    fn a_life_is_drawn_from_not_before_to_not_after() {
        assert_eq!(life(40).draw(&PAPER, 20), "━━━━●─────▒◆▒▒──┃┄┄┄");
        assert_eq!(life(40).draw(&ASCII, 20), "====o-----~D~~--|...");
        assert_eq!(life(-50).draw(&PAPER, 20), "●─────────▒◆▒▒──┃┄┄┄");
        assert_eq!(life(500).draw(&PAPER, 20), "━━━━━━━━━━▒◆▒▒━━┃┄┄●");
        let watched = Life { window: None, ..life(100) };
        assert_eq!(watched.draw(&PAPER, 10), "━━━━━●────");
    }

    #[test]
    fn the_nearer_the_deadline_the_louder() {
        let tones: Vec<Tone> = [40, 115, 155, 170, 300].into_iter().map(|now| life(now).tone()).collect();
        assert_eq!(tones, [Tone::Good, Tone::Warn, Tone::Bad, Tone::Bad, Tone::Bad]);
    }

    #[test]
    fn nothing_breaks_a_bar() {
        let at = Timestamp::from_unix;
        for width in 1..30 {
            for (from, to) in [(0, 0), (100, 0), (i64::MIN, i64::MAX)] {
                let life = Life { not_before: at(from), not_after: at(to), ..life(50) };
                assert_eq!(life.draw(&PAPER, width).chars().count(), width);
            }
        }
    }

    #[test]
    fn a_histogram_shows_every_bucket_that_has_something() {
        assert_eq!(histogram(&[0, 1, 8, 16], 2, &PAPER), ["   █", " ▁██"]);
        assert_eq!(histogram(&[0, 1, 1_000], 1, &PAPER), [" ▁█"]);
        assert_eq!(histogram(&[1, 4, 8], 1, &ASCII), [".:#"]);
        assert_eq!(histogram(&[], 1, &PAPER), [""]);
    }
}
