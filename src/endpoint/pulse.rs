//! Whether the workers of an endpoint have their turns.

use super::worker::Worker;
use crate::time::monotonic;
use std::sync::Arc;
use std::time::Duration;

/// The signs of life of an endpoint's workers. Cheap to clone.
#[derive(Clone)]
pub struct Pulse(pub(super) Arc<[Arc<Worker>]>);

impl Pulse {
    /// A worker gives a sign of life every second; one that has given none for so long hangs.
    pub const OVERDUE: Duration = Duration::from_secs(10);

    /// Which worker has given no sign of life for longer than `within`, in words; `None` while all have their turns. Less
    /// than a few seconds says nothing.
    pub fn fault(&self, within: Duration) -> Option<String> {
        let now = monotonic();
        self.0.iter().enumerate().find_map(|(index, worker)| {
            let silent = worker.silent_for(now);
            let (secs, count) = (silent.as_secs(), self.0.len());
            (silent > within).then(|| format!("worker {index} of {count} of the endpoint hangs: silent for {secs} s"))
        })
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pulse").field(&self.0.len()).finish()
    }
}
