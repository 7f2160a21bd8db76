//! A real CA service: `cfssl serve` (Debian's golang-cfssl), with a CA of its own.

use super::skip::skipped;
use super::{DAY, eventually};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stillgood::time::{Clock, SystemClock, Timestamp};
use stillgood::x509::Certificate;

const LONG: Duration = Duration::from_secs(20);
/// Of the agent.
pub const KEY: &str = "00112233445566778899aabbccddeeff";
const CA: &str = r#"{"CN": "CFSSL CA", "key": {"algo": "ecdsa", "size": 256}, "names": [{"C": "DE", "O": "Lab"}]}"#;

/// Profiles as an operator of a CA writes them, well or not.
fn policy(now: Timestamp) -> String {
    let signer = |more: &str| {
        format!(r#"{{ "usages": ["digital signature", "ocsp signing"], "expiry": "720h", "auth_key": "agent"{more} }}"#)
    };
    let between = |from: Timestamp, to: Timestamp| {
        signer(&format!(r#", "ocsp_no_check": true, "not_before": "{from}", "not_after": "{to}""#))
    };
    format!(
        r#"{{ "signing": {{ "default": {{ "expiry": "24h", "auth_key": "agent" }}, "profiles": {{
            "ocsp": {},
            "server": {{ "usages": ["digital signature", "server auth"], "expiry": "720h", "auth_key": "agent" }},
            "no-usage": {{ "usages": ["digital signature"], "ocsp_no_check": true, "expiry": "720h", "auth_key": "agent" }},
            "no-nocheck": {},
            "short": {{ "usages": ["digital signature", "ocsp signing"], "ocsp_no_check": true, "expiry": "1h", "auth_key": "agent" }},
            "expired": {},
            "not-yet": {} }} }},
        "auth_keys": {{ "agent": {{ "type": "standard", "key": "{KEY}" }} }} }}"#,
        signer(r#", "ocsp_no_check": true"#),
        signer(""),
        between(now.minus(30 * DAY), now.minus(DAY)),
        between(now.plus(DAY), now.plus(30 * DAY)),
    )
}

pub struct Cfssl {
    process: Child,
    pub port: u16,
    pub ca: Certificate,
}

impl Cfssl {
    /// Certificate and key of a new CA, in PEM, by the description in `ca.json`; `None` where there is no `cfssl`.
    pub fn make_ca(directory: &Path) -> Option<(String, String)> {
        let made = Command::new("cfssl").args(["gencert", "-initca", "ca.json"]).current_dir(directory).output();
        let Ok(made) = made else {
            let test = std::thread::current().name().unwrap_or("cfssl").to_owned();
            skipped(&test, "there is no cfssl here; it is in Debian's golang-cfssl");
            return None;
        };
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        Some((text("cert"), text("key")))
    }

    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// Makes a CA and serves it; `None` where there is no `cfssl`.
    pub fn start(directory: &Path) -> Option<Self> {
        std::fs::write(directory.join("ca.json"), CA).unwrap();
        std::fs::write(directory.join("policy.json"), policy(SystemClock.now())).unwrap();
        let (certificate, key) = Self::make_ca(directory)?;
        std::fs::write(directory.join("ca.pem"), &certificate).unwrap();
        write_secret(&directory.join("ca.key"), &key, 0o600);
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
        let ca = Certificate::from_pem_or_der(certificate.as_bytes()).unwrap();
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
