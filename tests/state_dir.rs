//! A state directory that is open to others, and files that may not grow.

mod common;

use common::eventually;
use common::serving::{operate, port, prepare, start_logging_to, write_config, write_registry};
use common::site::Said;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const LAB: &str = "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"ca-keys\"";

#[test]
fn a_state_directory_that_others_may_write_to_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "");
    let (state, log) = (dir.path().join("state"), dir.path().join("log"));
    std::fs::create_dir(&state).unwrap();
    let check = || operate(dir.path(), &["check"]);
    for (mode, is_open) in [(0o777, true), (0o770, true), (0o750, false), (0o700, false)] {
        std::fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(check().contains(&format!("has mode {mode:04o}: others can replace what lies there")), is_open);
    }
    std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).unwrap();
    let _serving = start_logging_to(dir.path(), admin, &log);
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("has mode 0777: ") && said.contains(&format!("chmod 0700 {}", state.display())), "{said}");
}

#[test]
fn files_that_may_not_grow_end_nothing_and_a_command_that_applies_is_not_recorded_as_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    std::fs::create_dir(dir.path().join("ca-keys")).unwrap();
    let (admin, log) = (port(), dir.path().join("log"));
    write_config(dir.path(), admin, LAB);
    let mut serving = start_logging_to(dir.path(), admin, &log);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));

    // Room for the audit trail, and not for the ledger.
    let process = Pid::from_child(&serving.child);
    let limit = Rlimit { current: Some(4 << 10), maximum: None };
    prlimit(Some(process), Resource::Fsize, limit).unwrap();
    let mut pause = Command::new(env!("CARGO_BIN_EXE_stillgood"));
    let pause = pause.args(["pause", "--all", "--for", "1h", "--reason", "test", "--config"]);
    let pause = pause.arg(dir.path().join("stillgood.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&pause.stderr);
    assert_eq!(pause.status.code(), Some(7), "{said}");
    assert!(said.contains("could not be written to the ledger"), "{said}");
    assert!(serving.child.try_wait().unwrap().is_none(), "it goes on");
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    let said = operate(dir.path(), &["status"]);
    assert!(said.contains("the ledger of orders cannot be written") && said.contains("is paused until"), "{said}");
    let trail = std::fs::read_to_string(dir.path().join("state/audit/audit.jsonl")).unwrap();
    let command = trail.lines().find(|line| line.contains("\"command\"")).expect("it is recorded");
    assert!(command.contains("\"done\"") && command.contains("it applies now"), "{command}");
}
