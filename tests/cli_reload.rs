//! A configuration that changes under a serving process: taken over as a whole, or refused and told.

mod common;

use common::eventually;
use common::serving::{operate, port, prepare, start, start_logging_to, write_config, write_registry};
use common::site::Said;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_configuration_that_is_emptied_or_cut_short_in_place_is_refused_and_one_that_moves_the_listener_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "");
    let (file, log) = (dir.path().join("stillgood.toml"), dir.path().join("log"));
    let whole = std::fs::read_to_string(&file).unwrap();
    let mut serving = start_logging_to(dir.path(), admin, &log);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);

    std::fs::write(&file, "").unwrap();
    eventually(LIMIT, "an empty one is refused", || logged("stillgood.toml has no key at all"));
    std::fs::write(&file, &whole[..whole.find("[registry]").unwrap()]).unwrap();
    eventually(LIMIT, "a cut one is refused", || logged("lacks endpoint.listen, registry.source, which"));
    assert!(!logged("configuration taken over"));
    assert_eq!(serving.said(&lab, 3), Said::Revoked, "it listens where it did");

    let (before, after) = (serving.endpoint, port());
    std::fs::write(&file, whole.replace("127.0.0.1:0", &after.to_string())).unwrap();
    eventually(LIMIT, "taken over", || logged("configuration taken over"));
    assert!(logged(&format!("answering OCSP requests on http://{after}/")));
    assert!(logged(&format!("no longer listening on http://{before}/")));
    serving.endpoint = after;
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    eventually(LIMIT, "nobody listens there", || TcpStream::connect(before).is_err());
}

#[test]
fn a_configuration_that_is_refused_or_takes_a_restart_is_told_wherever_one_looks_and_makes_nothing_unready() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), 5);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "");
    let file = dir.path().join("stillgood.toml");
    let whole = std::fs::read_to_string(&file).unwrap();
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "ready", || serving.readyz().ends_with("\r\n\r\nready\n"));
    let gauge = |kind: &str, value: u8| {
        serving.admin("/metrics").contains(&format!("\nstillgood_config_fault{{kind=\"{kind}\"}} {value}\n"))
    };
    assert!(gauge("refused", 0) && gauge("restart", 0));
    assert!(operate(dir.path(), &["status"]).contains("All is well."));

    // A slip, and another.
    std::fs::write(&file, format!("{whole}lisen = []\nworker = 1\n")).unwrap();
    eventually(LIMIT, "counted", || gauge("refused", 1) && gauge("restart", 0));
    let text = serving.readyz();
    assert!(text.contains("200 OK") && text.contains("\nready\nthe configuration file is refused"), "{text}");
    assert!(serving.admin("/status.json").contains("lisen"), "every fault is there");
    assert!(serving.admin("/status").contains("the configuration file is refused"));
    // By the socket: the file no longer says where that is.
    let mut status = Command::new(env!("CARGO_BIN_EXE_stillgood"));
    let status = status.args(["status", "--socket"]).arg(dir.path().join("state/admin.sock")).output().unwrap();
    let said = String::from_utf8_lossy(&status.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.contains("One thing needs you.") && said.contains("lisen") && said.contains("; and 1 more"), "{said}");

    std::fs::write(&file, format!("{whole}[presign]\nworkers = 1\n")).unwrap();
    eventually(LIMIT, "counted", || gauge("refused", 0) && gauge("restart", 1));
    let said = operate(dir.path(), &["status"]);
    assert!(said.contains("One thing needs you.") && said.contains("only after a restart: [presign]"), "{said}");

    std::fs::write(&file, &whole).unwrap();
    eventually(LIMIT, "as it was", || gauge("refused", 0) && gauge("restart", 0));
    assert!(operate(dir.path(), &["status"]).contains("All is well."));
}
