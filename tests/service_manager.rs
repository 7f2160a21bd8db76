//! What a service manager gives and hears: sockets that listen already, readiness, the watchdog.
#![cfg(target_os = "linux")]

mod common;

use common::serving::{Serving, asking, port, prepare, start, write_config, write_registry};
use common::site::{Said, post, read};
use common::{Lab, eventually};
use rustix::io::{FdFlags, fcntl_setfd};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// The part of a service manager: it holds the sockets, and hears.
struct Manager {
    dir: tempfile::TempDir,
    lab: Lab,
    sockets: Vec<TcpListener>,
    names: &'static str,
    notify: UnixDatagram,
    admin: SocketAddr,
}

impl Manager {
    fn new(sockets: usize, names: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lab = prepare(dir.path(), 50);
        write_registry(dir.path(), 1, "active");
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let sockets: Vec<_> = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for socket in &sockets {
            fcntl_setfd(socket, FdFlags::empty()).unwrap();
        }
        let admin = port();
        write_config(dir.path(), admin, "workers = 2");
        Manager { dir, lab, sockets, names, notify, admin }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn start(&self) -> Serving {
        start(self.path(), self.admin, |command| {
            command.env("NOTIFY_SOCKET", self.path().join("notify")).env("WATCHDOG_USEC", "2000000");
            if let Some(first) = self.sockets.first() {
                // The descriptors of one test follow each other, unless another test opens one in between; then one is enough.
                let consecutive = self.sockets.iter().zip(first.as_raw_fd()..).all(|(s, fd)| s.as_raw_fd() == fd);
                assert!(consecutive, "descriptors in a row");
                command
                    .env("LISTEN_FDS", self.sockets.len().to_string())
                    .env("LISTEN_FDS_FIRST_FD", first.as_raw_fd().to_string())
                    .env("LISTEN_FDNAMES", self.names);
            }
        })
    }

    fn heard(&self) -> String {
        let mut octets = [0; 1024];
        let len = self.notify.recv(&mut octets).expect("a word within the limit");
        String::from_utf8_lossy(&octets[..len]).into_owned()
    }

    /// What is heard next that is not the watchdog's.
    fn state(&self) -> String {
        std::iter::repeat_with(|| self.heard()).find(|word| word != "WATCHDOG=1").unwrap()
    }
}

#[test]
fn readiness_reload_and_stop_are_told_and_the_watchdog_is_fed() {
    let manager = Manager::new(0, "");
    let mut serving = manager.start();
    assert_eq!(manager.state(), format!("READY=1\nSTATUS=answering on {}", serving.endpoint));
    assert_eq!(manager.heard(), "WATCHDOG=1");
    assert_eq!(manager.heard(), "WATCHDOG=1");
    serving.signal("HUP");
    assert!(manager.state().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(manager.state().starts_with("READY=1\n"));
    serving.signal("TERM");
    assert!(manager.state().starts_with("STOPPING=1\n"));
    assert!(serving.child.wait().unwrap().success());
}

#[test]
fn sockets_that_were_handed_over_take_the_place_of_the_configured_addresses() {
    let manager = Manager::new(1, "ocsp");
    let serving = manager.start();
    assert_eq!(serving.endpoint, manager.sockets[0].local_addr().unwrap());
    eventually(LIMIT, "served", || serving.said(&manager.lab, 3) == Said::Revoked);
    // A reload that would open other sockets keeps to those it was given.
    write_config(manager.path(), manager.admin, "workers = 3");
    serving.signal("HUP");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(serving.said(&manager.lab, 3), Said::Revoked);
}

#[test]
fn the_socket_named_admin_is_for_the_admin_listener() {
    let mut manager = Manager::new(1, "admin");
    manager.admin = manager.sockets[0].local_addr().unwrap();
    let serving = manager.start();
    assert_ne!(serving.endpoint, manager.admin, "the endpoint is where the configuration says");
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
}

/// Clients come without a pause, each with a connection of its own, while the process is ended and started again.
#[test]
fn a_restart_on_sockets_that_stay_refuses_no_connection() {
    const RESTARTS: usize = 3;
    let manager = Manager::new(1, "ocsp");
    let address = manager.sockets[0].local_addr().unwrap();
    let mut serving = manager.start();
    eventually(LIMIT, "ready", || serving.readyz().contains("200 OK"));
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (over, asked, lab) = (&over, &asked, &manager.lab);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    // `post` fails the test where it is refused, reset or left without an answer.
                    let said = read(&post(address, &asking(lab, client + 2)).1).remove(0);
                    assert_eq!(said, if client == 1 { Said::Revoked } else { Said::Good });
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = Over(&over);
        for _ in 0..RESTARTS {
            let before = asked.load(Relaxed);
            eventually(LIMIT, "traffic", || asked.load(Relaxed) > before + 100);
            serving.signal("TERM");
            assert!(serving.child.wait().unwrap().success());
            serving = manager.start();
        }
        let before = asked.load(Relaxed);
        eventually(LIMIT, "traffic after it", || asked.load(Relaxed) > before + 100);
    });
    println!("{} answers over {RESTARTS} restarts, none missing", asked.load(Relaxed));
}

/// Ends the clients however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn what_is_no_listening_socket_is_refused_by_its_name() {
    let manager = Manager::new(0, "");
    let file = std::fs::File::open(manager.path().join("ca.pem")).unwrap();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stillgood"))
        .args(["serve", "--config"])
        .arg(manager.path().join("stillgood.toml"))
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", file.as_raw_fd().to_string())
        .env("LISTEN_FDNAMES", "something")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("'something'") && said.contains("ListenStream="), "{said}");
}
