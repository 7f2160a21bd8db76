//! `stillgood check --contact` through the binary: what EST servers distribute is compared with the registry.

mod common;

use common::est_server::EstServer;
use common::fleet::record;
use common::site::index_line;
use std::path::Path;
use std::process::{Command, Output};

fn check(dir: &Path, more: &[&str]) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillgood"));
    command.args(["check", "--config"]).arg(dir.join("stillgood.toml")).args(more);
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

#[test]
fn est_servers_are_asked_for_their_cas_only_when_told_and_a_ca_that_differs_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path();
    let server = EstServer::start(dir, &["ca-1", "ca-2"]);
    std::fs::write(dir.join("index.txt"), index_line(0, false)).unwrap();
    let confused = record("ca-2", "active").replace(r#""profile": "ca-2""#, r#""profile": "ca-1""#);
    let records = [record("ca-1", "active"), confused].join(", ");
    std::fs::write(dir.join("issuers.json"), format!(r#"{{ "generation": 1, "issuers": [ {records} ] }}"#)).unwrap();
    let config = format!(
        "[registry]\nsource = \"issuers.json\"\n[enrolment.main]\nprotocol = \"est\"\nurl = \"{}\"\ntrust = \"roots.pem\"\n\
         client_certificate = \"agent.pem\"\nclient_key = \"agent.key\"\ntimeout = \"5s\"\n",
        server.url()
    );
    std::fs::write(dir.join("stillgood.toml"), config).unwrap();

    let (output, said) = check(dir, &[]);
    assert!(output.status.success() && !said.contains("distribute"), "{said}");
    assert_eq!(server.accepted(), 0, "nobody is contacted");

    let (output, said) = check(dir, &["--contact"]);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("ca-2: its CA certificate is not among the 1 that enrolment.main distributes for ca-1"),
        "{said}"
    );
    assert!(said.contains("main: ca-1: 1 CA certificates, among them those of 1 of 2 issuers"), "{said}");
    let (output, _) = check(dir, &["--contact", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["contacts"][0]["agree"], serde_json::json!(["ca-1"]), "{json:#}");
    assert_eq!(json["contacts"][0]["differ"], serde_json::json!(["ca-2"]), "{json:#}");

    drop(server);
    let (output, said) = check(dir, &["--contact"]);
    assert!(!output.status.success() && said.contains("the CA certificates for ca-1: enrolment.main:"), "{said}");
}
