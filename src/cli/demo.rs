//! `demo`: a small PKI, served at once, with a list of things to try.

use super::running::{Options, run as run_until_stopped};
use super::{print, print_error};
use crate::admin::control::shell_word;
use crate::config::Config;
use crate::config::LogFormat;
use crate::ocsp::{Reason, Serial};
use crate::signer::{KeyKind, SigningKey, files};
use crate::time::{Clock, SystemClock, Timestamp};
use crate::x509::issue::{Attribute, CertificateSpec, CrlEntry, CrlSpec, name};
use crate::x509::{Certificate, pem};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// Every so many certificates of the index one is revoked.
const REVOKED_EVERY: u32 = 100;
/// The file that says a directory was made by this verb.
const CONFIG: &str = "stillgood.toml";

/// Make a demo PKI, serve it, and print what to try.
///
/// Two CAs: one whose OpenSSL index.txt lists every certificate, so that all answers are signed ahead; one that has only a
/// CRL, so that good answers are signed when first asked for. Their signers live for minutes and are renewed before your
/// eyes. Nothing here is meant for production.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stillgood demo\n  stillgood demo --certs 1000000          a million certificates\n  \
    stillgood demo --listen 127.0.0.1:9080  another port"
)]
pub(super) struct Args {
    /// Where the PKI, the registry and the configuration are made; an existing demo there is served again.
    #[arg(long, value_name = "DIR", default_value = "demo")]
    dir: PathBuf,
    /// Where to answer OCSP requests; the admin listener takes the next port. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// How many certificates the first CA has issued.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=20_000_000))]
    certs: u32,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> ExitCode {
    match prepare(args).and_then(|config| {
        let dir = args.dir.clone();
        let started = move |addresses: &[SocketAddr], admin: Option<SocketAddr>| {
            if let (Some(address), Some(admin)) = (addresses.first(), admin) {
                print(&(what_to_try(&dir, *address, admin) + "\n"));
            }
        };
        run_until_stopped(config, &Options { progress: true, started: Some(&started), log: LogFormat::Text })
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("stillgood demo: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn prepare(args: &Args) -> Result<Config, String> {
    let dir = &args.dir;
    let config_file = dir.join(CONFIG);
    if dir.exists() && !dir.is_dir() {
        return Err(format!("{} is not a directory; name one with --dir, or one that is to be made", dir.display()));
    }
    if !config_file.exists() {
        let empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
        if !empty {
            return Err(format!(
                "{} is not empty and holds no demo; name another directory with --dir, or empty it",
                dir.display()
            ));
        }
        print_error(&format!("making a demo PKI with {} certificates in {}/\n", args.certs, dir.display()));
        crate::store::create_private(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        make(args)?;
    }
    // Written last and anew each time: it marks a complete demo, and holds the address asked for now.
    write(&config_file, configuration(args, admin_beside(args.listen)?).as_bytes())?;
    Config::load(&config_file).map_err(|faults| faults.to_string())
}

/// An address that has one for the admin listener beside it.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|e: std::net::AddrParseError| e.to_string())?;
    admin_beside(address).map(|_| address)
}

/// The next port; one that the system chooses beside one that it chooses.
fn admin_beside(listen: SocketAddr) -> Result<SocketAddr, String> {
    let port = match listen.port() {
        0 => 0,
        port => {
            port.checked_add(1).ok_or("the admin listener takes the next port, and there is none; take a lower one")?
        }
    };
    Ok(SocketAddr::new(listen.ip(), port))
}

/// Signers that are renewed every few minutes: of a life of 16 minutes, 10 belong to the last response and half a one is the
/// margin, so that the window lies two to four minutes after the beginning.
fn configuration(args: &Args, admin: SocketAddr) -> String {
    // Everything is signed again within `refresh`: a million takes a core a minute, and must not take all of it.
    let minutes = 10 + u64::from(args.certs / 200_000);
    format!(
        r#"# Made by `stillgood demo`. deploy/stillgood.example.toml explains every key.
state_dir = "state"

[endpoint]
listen = ["{}"]

[admin]
listen = "{admin}"

[registry]
source = "issuers.json"

[response]
validity = "{minutes}m"
refresh = "{}m"
backdate = "1m"

# For watching only: real signers live for weeks.
[renewal]
margin = "30s"
activation_skew = "0s"
ramp = "0s"
submissions_per_day = 2000
issuances_per_day = 2000

[enrolment.demo]
protocol = "local"
ca_keys = "ca-keys"
validity = "{}m"
"#,
        args.listen,
        minutes * 2 / 5,
        minutes * 8 / 5
    )
}

struct Ca {
    key: SigningKey,
    certificate: Certificate,
}

fn make(args: &Args) -> Result<(), String> {
    let now = SystemClock.now();
    let dir = &args.dir;
    let url = format!("http://{}/ocsp", args.listen);
    let rng = SystemRandom::new();

    let full = ca(dir, "demo-ca", "Stillgood Demo CA", now, &rng)?;
    let leaf = |ca: &Ca, file: &str, host: &str| -> Result<Serial, String> {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).map_err(|e| e.to_string())?;
        let serial = random_serial(&rng)?;
        let spec = CertificateSpec::tls_server(
            &ca.certificate,
            host,
            &url,
            key.spki_der(),
            serial,
            now.minus(DAY),
            now.plus(90 * DAY),
        );
        let der = spec.sign(&ca.key).map_err(|e| e.to_string())?;
        write(&dir.join(file), pem::encode("CERTIFICATE", &der).as_bytes())?;
        Ok(serial)
    };
    let mut index = String::with_capacity(args.certs as usize * 90);
    let good = leaf(&full, "good.pem", "good.demo.example")?;
    let revoked = leaf(&full, "revoked.pem", "revoked.demo.example")?;
    let expires = utc(now.plus(90 * DAY));
    let when = utc(now.minus(Duration::from_secs(3600)));
    let mut line = |serial: Serial, revoked: bool, subject: &str| {
        let (kind, field) = if revoked { ('R', format!("{when},keyCompromise")) } else { ('V', String::new()) };
        // Writing to a String cannot fail.
        let _ = writeln!(index, "{kind}\t{expires}\t{field}\t{serial}\tunknown\t/CN={subject}");
    };
    line(good, false, "good.demo.example");
    line(revoked, true, "revoked.demo.example");
    for n in 2..args.certs {
        line(random_serial(&rng)?, n % REVOKED_EVERY == 0, "filler");
    }
    write(&dir.join("index.txt"), index.as_bytes())?;

    let listed = ca(dir, "demo-crl-ca", "Stillgood Demo CRL CA", now, &rng)?;
    leaf(&listed, "crl-good.pem", "good.crl.demo.example")?;
    let revoked = leaf(&listed, "crl-revoked.pem", "revoked.crl.demo.example")?;
    let crl = CrlSpec {
        issuer: listed.certificate.subject_der().to_vec(),
        this_update: now.minus(Duration::from_secs(60)),
        next_update: Some(now.plus(30 * DAY)),
        entries: vec![CrlEntry { serial: revoked, revoked_at: now.minus(DAY), reason: Some(Reason::Superseded) }],
        extensions: vec![CrlSpec::number(1)],
    };
    let der = crl.sign(&listed.key).map_err(|e| e.to_string())?;
    write(&dir.join("demo-crl-ca.crl"), pem::encode("X509 CRL", &der).as_bytes())?;

    let registry = serde_json::json!({
        "generation": 1,
        "issuers": [
            { "id": "demo-ca", "state": "active", "certificate": "demo-ca.pem",
              "enrolment": "demo", "profile": "ocsp",
              "status": { "index": "index.txt" } },
            { "id": "demo-crl-ca", "state": "active", "certificate": "demo-crl-ca.pem",
              "enrolment": "demo", "profile": "ocsp",
              "status": { "crl": "demo-crl-ca.crl" } },
        ],
    });
    write(&dir.join("issuers.json"), format!("{registry:#}\n").as_bytes())
}

/// A CA, its files written.
fn ca(dir: &Path, id: &str, common_name: &str, now: Timestamp, rng: &SystemRandom) -> Result<Ca, String> {
    let (key, pkcs8) = SigningKey::generate(KeyKind::EcdsaP256).map_err(|e| e.to_string())?;
    let organization = (Attribute::Organization, "Stillgood Demo");
    let subject = name(&[(Attribute::Country, "XX"), organization, (Attribute::CommonName, common_name)]);
    let from = now.minus(DAY);
    let spec = CertificateSpec::ca(subject, key.spki_der(), random_serial(rng)?, from, now.plus(3650 * DAY));
    let certificate = spec.issue(&key).map_err(|e| e.to_string())?;
    write(&dir.join(format!("{id}.pem")), pem::encode("CERTIFICATE", certificate.der()).as_bytes())?;
    let keys = dir.join("ca-keys");
    crate::store::create_private(&keys).map_err(|e| format!("{}: {e}", keys.display()))?;
    files::write_key(&keys.join(format!("{id}.key")), &pkcs8).map_err(|e| e.to_string())?;
    Ok(Ca { key, certificate })
}

/// 127 random bits below a leading one: positive, of constant length, never doubled.
fn random_serial(rng: &SystemRandom) -> Result<Serial, String> {
    let mut octets = [0_u8; 16];
    rng.fill(&mut octets).map_err(|_| "the system gives no randomness".to_owned())?;
    let [first, ..] = &mut octets;
    *first = *first & 0x3f | 0x40;
    Serial::from_unsigned(&octets).map_err(|e| e.to_string())
}

/// `YYMMDDHHMMSSZ`, as `index.txt` wants it.
fn utc(t: Timestamp) -> String {
    let full = crate::time::format_generalized(t);
    String::from_utf8_lossy(full.get(2..).unwrap_or_default()).into_owned()
}

fn write(path: &Path, octets: &[u8]) -> Result<(), String> {
    fs::write(path, octets).map_err(|e| format!("{}: {e}", path.display()))
}

/// How this program was called: it need not be where a shell looks for programs.
fn this_program() -> String {
    let name = std::env::args_os().next().filter(|name| !name.is_empty());
    shell_word(&name.map_or_else(|| "stillgood".to_owned(), |name| name.to_string_lossy().into_owned()))
}

fn what_to_try(dir: &Path, address: SocketAddr, admin: SocketAddr) -> String {
    let (d, this) = (shell_word(&dir.display().to_string()), this_program());
    format!(
        "\nServing http://{address}/. Try, in another terminal:\n\n\
         # ask with OpenSSL and verify the answer\n\
         openssl ocsp -issuer {d}/demo-ca.pem -CAfile {d}/demo-ca.pem -url http://{address}/ \\\n    \
             -cert {d}/good.pem -cert {d}/revoked.pem\n\n\
         # the other CA has only a CRL: good answers are signed when first asked for\n\
         openssl ocsp -issuer {d}/demo-crl-ca.pem -CAfile {d}/demo-crl-ca.pem -url http://{address}/ -cert {d}/crl-good.pem\n\n\
         # revoke good.pem: the first line of {d}/index.txt becomes R; the answer follows within two seconds\n\
         sed -i \"1s/^V\\t\\([0-9Z]*\\)\\t\\t/R\\t\\1\\t$(date -u +%y%m%d%H%M%SZ),superseded\\t/\" {d}/index.txt\n\n\
         # how everything is, in a browser\n\
         http://{admin}/\n\n\
         # the same in a terminal, with what to type next; --watch goes on telling it\n\
         {this} status --config {d}/{CONFIG}\n\
         {this} status --config {d}/{CONFIG} --watch\n\n\
         # what a monitoring system sees\n\
         curl -s http://{admin}/readyz; curl -s http://{admin}/metrics | grep ^stillgood_presign\n\n\
         # both signers are renewed every two to four minutes: watch their serial numbers change, and no answer missing\n\
         curl -s http://{admin}/status.json | grep '\"serial\"'; tail -n 5 {d}/state/audit/audit.jsonl\n\n\
         Stop with Ctrl-C. The files stay in {d}/; the next start serves them at once.\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_one_for_the_admin_listener_beside_it_is_refused() {
        let beside = |text: &str| address(text).and_then(admin_beside).map(|address| address.to_string());
        assert_eq!(beside("127.0.0.1:9080").as_deref(), Ok("127.0.0.1:9081"));
        assert_eq!(beside("[::1]:0").as_deref(), Ok("[::1]:0"));
        assert!(beside("127.0.0.1:65535").unwrap_err().contains("take a lower one"));
        assert!(address("localhost:1").is_err());
    }

    #[test]
    fn a_demo_is_not_made_where_there_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let args = Args { dir: file, listen: SocketAddr::from(([127, 0, 0, 1], 0)), certs: 2 };
        assert!(
            prepare(&args)
                .unwrap_err()
                .ends_with("f is not a directory; name one with --dir, or one that is to be made")
        );
    }
}
