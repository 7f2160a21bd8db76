//! What a process that holds keys gives up at its start.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core files, and no look into memory by other processes of the same user (ptrace, /proc/PID/mem): both would show keys.
///
/// That children gain no privileges (no_new_privs) is left to the service manager, because a program of `[enrolment.*] command`
/// may need them.
pub(super) fn keep_memory_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "core files cannot be turned off: a crash may write keys to disk");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the memory of this process cannot be closed to others of the same user");
    }
}
