//! What a process that holds keys gives up at its start.

use crate::config::{Config, Protocol};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, no_new_privs,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// No core files, and no look into memory by other processes of the same user (ptrace, /proc/PID/mem): both would show keys.
/// No new privileges either (setuid programs, file capabilities), unless a program of `[enrolment.*] command` may need them.
/// Gives what the operator should know.
///
/// To be called before there is another thread: each has its privileges for itself.
pub(super) fn give_up(config: &Config) -> Vec<String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let mut doubts = Vec::new();
    if let Err(error) = setrlimit(Resource::Core, none) {
        doubts.push(format!("core files cannot be turned off: a crash may write keys to disk: {error}"));
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        doubts.push(format!("the memory of this process cannot be closed to others of the same user: {error}"));
    }
    if !runs_commands(config)
        && let Err(error) = set_no_new_privs(true)
    {
        doubts.push(format!("what this process starts may gain privileges: {error}"));
    }
    if geteuid().is_root() {
        doubts.push(
            "this process runs as root and need not: whoever takes it over has what belongs to root; it reads and writes only \
            what root may by owner and mode, because it gives up the rest; give it a user of its own, and CAP_NET_BIND_SERVICE \
            for a port below 1024, as deploy/systemd does"
                .to_owned(),
        );
    }
    doubts
}

/// Gives all capabilities up. What takes one, a port below 1024, has been done before. Gives what the operator should know.
///
/// To be called before there is another thread: each has its capabilities for itself, and the first ones hand theirs on.
pub(super) fn drop_capabilities(config: &Config) -> Option<String> {
    let none = CapabilitySet::empty();
    let dropped = capabilities(None).and_then(|held| {
        // What may still be gained by starting a program. Those of a command may need it, if they are started by root.
        if !runs_commands(config) && held.effective.contains(CapabilitySet::SETPCAP) {
            // The kernel says where they end.
            let all = (0..u64::BITS).map(|n| CapabilitySet::from_bits_retain(1 << n));
            for one in all.take_while(|one| capability_is_in_bounding_set(*one).is_ok()) {
                remove_capability_from_bounding_set(one)?;
            }
        }
        // A filter of system calls, as the unit's, may refuse what would change nothing.
        if (held.effective | held.permitted | held.inheritable).is_empty() {
            return Ok(());
        }
        // The ambient ones go with them.
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
    });
    dropped.err().map(|error| format!("the capabilities of this process cannot be given up: {error}"))
}

/// Whether others than its owner may put files into this state directory, in words; not, where there is none.
pub(super) fn open_to_others(state_dir: &Path) -> Option<String> {
    let mode = std::fs::metadata(state_dir).ok()?.permissions().mode();
    (mode & 0o022 != 0).then(|| {
        let dir = state_dir.display();
        format!(
            "state_dir {dir} has mode {:04o}: others can replace what lies there, keys of signers and the ledger too; \
            chmod 0700 {dir}, and look at what is in it",
            mode & 0o7777
        )
    })
}

/// Why a program that `next` names and `config` does not may fail, if it may.
pub(super) fn hampers(config: &Config, next: &Config) -> Option<&'static str> {
    let is_new = runs_commands(next) && !runs_commands(config);
    (is_new && no_new_privs().unwrap_or(false)).then_some(
        "an [enrolment.*] command is new: until a restart its program can gain no privileges (setuid, file capabilities)",
    )
}

/// Whether a CA service is a program that we start.
fn runs_commands(config: &Config) -> bool {
    config.enrolment.values().any(|enrolment| matches!(enrolment.protocol, Protocol::Command { .. }))
}
