//! A configuration that changes under a serving process: taken over as a whole, or refused and told.

mod common;

use common::eventually;
use common::serving::{port, prepare, start_logging_to, write_config, write_registry};
use common::site::Said;
use std::net::TcpStream;
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
