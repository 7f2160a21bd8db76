//! A real CA service: `cfssl serve` (Debian's golang-cfssl), with a CA of its own.

use super::eventually;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stillgood::x509::Certificate;

const LONG: Duration = Duration::from_secs(20);
/// Of the agent.
pub const KEY: &str = "00112233445566778899aabbccddeeff";
const CA: &str = r#"{"CN": "CFSSL CA", "key": {"algo": "ecdsa", "size": 256}, "names": [{"C": "DE", "O": "Lab"}]}"#;
const POLICY: &str = r#"{
  "signing": {
    "default": {"expiry": "24h", "auth_key": "agent"},
    "profiles": {
      "server": {"usages": ["digital signature", "server auth"], "expiry": "720h", "auth_key": "agent"},
      "ocsp": {
        "usages": ["digital signature", "ocsp signing"], "expiry": "720h", "ocsp_no_check": true, "auth_key": "agent"
      }
    }
  },
  "auth_keys": {"agent": {"type": "standard", "key": "00112233445566778899aabbccddeeff"}}
}"#;

pub struct Cfssl {
    process: Child,
    pub port: u16,
    pub ca: Certificate,
}

impl Cfssl {
    /// Makes a CA and serves it; `None` where there is no `cfssl`.
    pub fn start(directory: &Path) -> Option<Self> {
        std::fs::write(directory.join("ca.json"), CA).unwrap();
        std::fs::write(directory.join("policy.json"), POLICY).unwrap();
        let made = Command::new("cfssl").args(["gencert", "-initca", "ca.json"]).current_dir(directory).output();
        let Ok(made) = made else {
            println!("SKIPPED cfssl: there is no cfssl here; it is in Debian's golang-cfssl");
            return None;
        };
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        std::fs::write(directory.join("ca.pem"), text("cert")).unwrap();
        std::fs::write(directory.join("ca.key"), text("key")).unwrap();
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("cfssl")
            .args(["serve", "-address", "127.0.0.1", "-ca", "ca.pem", "-ca-key", "ca.key", "-config", "policy.json"])
            .args(["-port", &port.to_string()])
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ca = Certificate::from_pem_or_der(text("cert").as_bytes()).unwrap();
        let server = Cfssl { process, port, ca };
        eventually(LONG, "cfssl listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(server)
    }
}

impl Drop for Cfssl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn write_secret(path: &Path, text: &str, mode: u32) {
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
