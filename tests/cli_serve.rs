//! `serve` as a process: it starts with whatever it can, says what is missing, and is told by signals.

mod common;

use common::eventually;
use common::serving::{Serving, index, port, prepare, start, write_config, write_registry};
use common::site::{Said, write_signer};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use stillgood::signer::KeyKind;

const LIMIT: Duration = Duration::from_secs(30);

fn serve(dir: &Path, admin: SocketAddr) -> Serving {
    write_config(dir, admin, "");
    start(dir, admin, |_| {})
}

#[test]
fn a_registry_that_is_a_pipe_or_missing_is_told_and_taken_over_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    assert!(Command::new("mkfifo").arg(dir.path().join("issuers.json")).status().unwrap().success());
    let serving = serve(dir.path(), port());
    assert_eq!(serving.said(&lab, 3), Said::Error(6));
    eventually(LIMIT, "told", || serving.readyz().contains("not a regular file"));
    write_registry(dir.path(), 1, "active");
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn an_issuer_whose_record_breaks_is_served_on_through_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let serving = serve(dir.path(), port());
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    write_registry(dir.path(), 2, "activ");
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(serving.said(&lab, 3), Said::Revoked);
    serving.signal("HUP");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(serving.said(&lab, 3), Said::Revoked, "a reload is not a restart");
}

#[test]
fn it_answers_without_the_admin_listener_and_tries_that_again() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 50);
    write_registry(dir.path(), 1, "active");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let serving = serve(dir.path(), taken.local_addr().unwrap());
    eventually(LIMIT, "served", || serving.said(&lab, 3) == Said::Revoked);
    drop(taken);
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

#[test]
fn it_stops_promptly_while_everything_is_being_signed() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 1);
    write_signer(dir.path(), &lab, KeyKind::EcdsaP384); // a slow one: it takes many seconds
    std::fs::write(dir.path().join("index.txt"), index(60_000)).unwrap();
    write_registry(dir.path(), 1, "active");
    let mut serving = serve(dir.path(), port());
    eventually(LIMIT, "signing has begun", || serving.readyz().contains("not everything has been signed"));
    let began = Instant::now();
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
