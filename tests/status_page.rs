//! The status page of a running process.

mod common;

use common::eventually;
use common::serving::{port, prepare, start, write_config, write_registry};
use common::site::Said;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn get(to: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_browser_sees_how_everything_is_and_a_terminal_the_list_of_paths() {
    let dir = tempfile::tempdir().unwrap();
    let lab = prepare(dir.path(), 20);
    write_registry(dir.path(), 1, "active");
    let admin = port();
    write_config(dir.path(), admin, "");
    let serving = start(dir.path(), admin, |_| {});
    eventually(LIMIT, "it is ready", || serving.readyz().contains(" 200 OK"));
    assert_eq!(serving.said(&lab, 1), Said::Good);
    assert_eq!(serving.said(&lab, 3), Said::Revoked);

    let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
    eventually(LIMIT, "the issuer is on the page", || get(admin, "/", browser).contains("<th scope=\"row\">ca"));
    let page = get(admin, "/", browser);
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for line in [
        "http/1.1 200 ok",
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "vary: accept",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    for text in ["generation 1", "Oldest thisUpdate", "of ca", "<svg class=\"life", "renewed by others"] {
        assert!(body.contains(text), "{text}: {body}");
    }
    for row in [("ready", 2), ("good", 1), ("revoked", 1)] {
        let row = format!("<th scope=\"row\">{}</th><td class=\"n\">{}</td>", row.0, row.1);
        assert!(body.contains(&row), "{row}: {body}");
    }
    assert!(get(admin, "/status", "*/*").contains("<h1>stillgood</h1>"));
    let plain = get(admin, "/", "*/*");
    assert!(plain.contains("text/plain") && plain.contains("/status "), "{plain}");

    // A record that cannot be used, with a name that is HTML.
    let text = std::fs::read_to_string(dir.path().join("issuers.json")).unwrap();
    let bad = text.replace("\"generation\": 1", "\"generation\": 2").replace(
        "[ {",
        "[ { \"id\": \"<script>alert(1)</script>\", \"state\": \"active\", \"certificate\": \"none.pem\" }, {",
    );
    std::fs::write(dir.path().join("issuers.json"), bad).unwrap();
    eventually(LIMIT, "the record is on the page", || get(admin, "/status", "*/*").contains("quarantined: record"));
    let page = get(admin, "/status", "*/*");
    assert!(!page.contains("<script") && page.contains("generation 2"), "{page}");
    assert!(page.contains("⚠ One thing needs you."), "{page}");
}
