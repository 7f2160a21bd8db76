//! What is not tried, said loudly. A file of its own, for tests that need nothing else.

use std::io::Write;

/// Says that something is not tried here, and why, past the harness, which keeps what tests that pass have printed to itself.
/// `tests/run` counts these lines as skipped.
pub fn skipped(what: &str, why: &str) {
    // A line of its own, whatever the harness has begun to write. One write: other tests print at the same time.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {what}: {why}\n").as_bytes());
}
