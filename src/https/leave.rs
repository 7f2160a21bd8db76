//! Leave for one request, which can be taken back until its first octet is about to leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const GIVEN: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Leave for one request: whoever sends it takes the leave at the last moment, and until then whoever gave it can withdraw it.
/// Clones are the same leave.
#[derive(Clone, Debug, Default)]
pub struct Leave(Arc<AtomicU8>);

impl Leave {
    /// The request is about to leave. `false`: it must not.
    #[must_use]
    pub fn take(&self) -> bool {
        self.change(GIVEN, TAKEN) != WITHDRAWN
    }

    /// Nothing of the request has left after all.
    pub fn put_back(&self) {
        self.change(TAKEN, GIVEN);
    }

    /// Withdraws it. `true`: the request has not left, and will not.
    pub fn withdraw(&self) -> bool {
        self.change(GIVEN, WITHDRAWN) != TAKEN
    }

    /// Whether the request has left, or is about to.
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::SeqCst) == TAKEN
    }

    /// What it was before.
    fn change(&self, from: u8, to: u8) -> u8 {
        self.0.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|was| was)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_leaves_or_its_leave_is_withdrawn_and_never_both() {
        let (sender, giver) = (Leave::default(), Leave::default());
        assert!(sender.take() && !sender.withdraw() && sender.is_taken());
        assert!(giver.withdraw() && !giver.take() && !giver.is_taken());
        sender.put_back();
        assert!(!sender.is_taken() && sender.clone().withdraw() && !sender.take());
        sender.put_back();
        assert!(!sender.take(), "for good");
    }
}
