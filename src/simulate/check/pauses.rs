//! The pause of one node: it lasts as long as it was meant to, whatever becomes of the clock.

use super::super::agenda::{Ms, SECOND};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paused {
    /// When it was given and when it ends, in milliseconds of the world by the node's present clock.
    pause: Option<(i64, i64)>,
    /// The node may see a clock that was set as of its last look at the registry, so long ago at the most.
    refresh: i64,
}

impl Paused {
    pub(super) fn new(refresh: Ms) -> Self {
        Paused { pause: None, refresh: signed(refresh) }
    }

    pub(super) fn begins(&mut self, now: Ms, until: Ms) {
        self.pause = Some((signed(now), signed(until)));
    }

    pub(super) fn is_on(&self, now: Ms) -> bool {
        self.pause.is_some_and(|(_, until)| until > signed(now))
    }

    pub(super) fn ends(&mut self) {
        self.pause = None;
    }

    /// When it ended, if it has ended by itself: it is none any more.
    pub(super) fn ended(&mut self, now: Ms) -> Option<Ms> {
        let (_, until) = self.pause.take_if(|(_, until)| *until <= signed(now))?;
        u64::try_from(until).ok()
    }

    /// The node's clock jumps by so much; a process that is running sees it.
    pub(super) fn clock_set(&mut self, now: Ms, by: i64, is_running: bool) {
        if is_running {
            self.ended(now);
        }
        self.pause = self.pause.map(|(since, until)| (since.saturating_sub(by), until.saturating_sub(by)));
        if is_running {
            self.seen(now);
        }
    }

    /// A process that was not running at the time sees what became of the clock.
    pub(super) fn seen(&mut self, now: Ms) {
        let now = signed(now);
        if let Some((since, until)) = &mut self.pause
            && *since > now
        {
            // The node counts in whole seconds.
            *until = (now + (*until - *since)).saturating_sub(self.refresh + 2 * signed(SECOND));
            *since = now;
        }
    }
}

fn signed(ms: Ms) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_given_by_a_clock_that_was_ahead_lasts_as_long_as_it_was_meant_to() {
        let mut pause = Paused::default();
        pause.begins(1_000_000, 1_060_000);
        pause.clock_set(1_010_000, -9_000_000, true);
        assert!(pause.is_on(1_067_000) && !pause.is_on(1_069_000));
        pause.clock_set(1_020_000, 60_000, true);
        assert!(!pause.is_on(1_020_000));
        pause.clock_set(1_030_000, -60_000, true);
        assert!(!pause.is_on(1_030_000), "what has ended does not begin again");
    }
}
