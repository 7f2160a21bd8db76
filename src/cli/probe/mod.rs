//! `probe`: asks a responder as a client and verifies everything.

mod http;
mod outcome;

use super::print;
use crate::client::{Asked, DEFAULT_SKEW, Flaw, request, verify};
use crate::config::HumanDuration;
use crate::ocsp::{ErrorStatus, HashAlgorithm, Serial};
use crate::signer::files::load_certificate;
use crate::time::{Clock, SystemClock, monotonic};
use crate::x509::Certificate;
use clap::ValueEnum;
use http::{Reply, Url, exchange};
use outcome::{Level, Outcome};
use ring::rand::{SecureRandom, SystemRandom};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The exit code when nothing can be said.
pub(super) const UNKNOWN: u8 = 3;
/// RFC 9654 §2.1: at least 32 octets in new clients.
const NONCE_LEN: usize = 32;
/// RFC 9919 §6: GET for requests up to so many characters, URL included.
const MAX_GET: usize = 255;
/// Longer is not probing any more.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Asks a responder as a client and verifies everything.
///
/// Sends one request over plain HTTP, GET or POST as RFC 9919 chooses, and verifies what comes back as a strict client
/// would: the CertID is the one asked about, the signature is valid, the signer is the issuer or certified by it for OCSP
/// signing, thisUpdate and nextUpdate fit the present (5 minutes of skew), the nonce is ours, the HTTP fields are right.
/// Prints one line with performance data, as monitoring systems want it, and one more line for each further finding.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stillgood probe --url http://ocsp.example --issuer ca.pem --cert server.pem
  stillgood probe --url http://127.0.0.1:8080 --issuer ca.pem --serial 1A2B --nonce
  stillgood probe --url http://ocsp.example --issuer ca.pem --cert old.pem --expect revoked
  stillgood probe --url http://ocsp.example --issuer ca.pem --cert server.pem --warning 2d --critical 1d

Exit codes (those of monitoring plug-ins):
  0 OK        a valid answer with the expected status
  1 WARNING   valid, but nextUpdate is nearer than --warning, or something is doubtful
  2 CRITICAL  no answer, an invalid or an unexpected one, or nextUpdate is nearer than --critical
  3 UNKNOWN   the probe itself cannot work: a file, an address, the command line")]
pub(super) struct Args {
    /// The responder, as in the certificate's AIA extension
    #[arg(long, value_name = "URL")]
    url: String,
    /// The CA certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    issuer: PathBuf,
    /// The certificate to ask about, PEM or DER
    #[arg(long, value_name = "FILE", required_unless_present = "serial", conflicts_with = "serial")]
    cert: Option<PathBuf>,
    /// The serial number to ask about, in hexadecimal
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// Always ask by GET
    #[arg(long, conflicts_with = "post")]
    get: bool,
    /// Always ask by POST
    #[arg(long)]
    post: bool,
    /// Send a nonce of 32 octets; an answer without one is fine (RFC 9919), one with another nonce is not
    #[arg(long)]
    nonce: bool,
    /// Hash algorithm of the CertID
    #[arg(long, value_enum, default_value_t = Hash::Sha1)]
    hash: Hash,
    /// The status that is right
    #[arg(long, value_enum, default_value_t = Expect::Good)]
    expect: Expect,
    /// WARNING when nextUpdate is nearer than this, e.g. 2d
    #[arg(long, value_name = "DURATION")]
    warning: Option<HumanDuration>,
    /// CRITICAL when nextUpdate is nearer than this, e.g. 1d
    #[arg(long, value_name = "DURATION")]
    critical: Option<HumanDuration>,
    /// How long the whole exchange may take
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    timeout: HumanDuration,
    /// For machines: one JSON object instead of the line
    #[arg(long)]
    json: bool,
}

/// `--hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// `--expect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Expect {
    Good,
    Revoked,
    Unknown,
    /// The error unauthorized: no record, as for a serial number that was never issued (RFC 9919 §3.2.3).
    Unauthorized,
    /// Any status is right.
    Any,
}

impl Hash {
    fn algorithm(self) -> HashAlgorithm {
        match self {
            Hash::Sha1 => HashAlgorithm::Sha1,
            Hash::Sha256 => HashAlgorithm::Sha256,
            Hash::Sha384 => HashAlgorithm::Sha384,
            Hash::Sha512 => HashAlgorithm::Sha512,
        }
    }
}

pub(super) fn run(args: &Args) -> ExitCode {
    let outcome = ask(args).unwrap_or_else(|why| Outcome::only(Level::Unknown, why));
    print(&if args.json { outcome.json() } else { outcome.lines(args) });
    ExitCode::from(outcome.level().code())
}

/// What is needed to ask.
struct Question {
    url: Url,
    issuer: Certificate,
    serial: Serial,
    nonce: Option<[u8; NONCE_LEN]>,
}

impl Question {
    fn of(args: &Args) -> Result<Self, String> {
        let url = Url::parse(&args.url)?;
        if args.timeout.0.is_zero() || args.timeout.0 > MAX_TIMEOUT {
            return Err(format!("--timeout {} is out of bounds: up to 10m", args.timeout));
        }
        let issuer = load_certificate(&args.issuer).map_err(|e| format!("--issuer {e}"))?;
        let serial = match (&args.cert, &args.serial) {
            (Some(path), _) => {
                let certificate = load_certificate(path).map_err(|e| format!("--cert {e}"))?;
                if let Err(e) = certificate.verify_signed_by(&issuer) {
                    return Err(format!("--cert {} was not issued by --issuer: {e}", path.display()));
                }
                certificate.serial()
            }
            (None, Some(hex)) => Serial::from_hex(hex).map_err(|e| format!("--serial {hex:?}: {e}"))?,
            (None, None) => return Err("give --cert or --serial".to_owned()),
        };
        let mut octets = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut octets).map_err(|_| "the system gives no random octets")?;
        Ok(Question { url, issuer, serial, nonce: args.nonce.then_some(octets) })
    }
}

/// Asks and judges; the error is for what keeps the probe itself from working.
fn ask(args: &Args) -> Result<Outcome, String> {
    let question = Question::of(args)?;
    let hash = args.hash.algorithm();
    let nonce = question.nonce.as_ref().map(<[u8; NONCE_LEN]>::as_slice);
    let der = request(&question.issuer.issuer_hashes(hash), &question.serial, nonce);
    let get = get_path(&question.url.path, &der);
    let url_len = "http://".len() + question.url.authority.len() + get.len();
    let by_get = args.get || (!args.post && url_len <= MAX_GET);

    let started = monotonic();
    let exchanged = if by_get {
        exchange(&question.url, &get, None, args.timeout.0)
    } else {
        exchange(&question.url, &question.url.path, Some(&der), args.timeout.0)
    };
    let elapsed = monotonic().saturating_duration_since(started);
    let method = if by_get { "GET" } else { "POST" };
    let reply = match exchanged {
        Ok(reply) => reply,
        Err(why) => return Ok(Outcome::only(Level::Critical, why).by(method, elapsed)),
    };
    let now = SystemClock.now();
    let mut outcome = Outcome::default().by(method, elapsed);
    if reply.code != 200 {
        outcome.add(Level::Critical, format!("HTTP status {} instead of 200", reply.code));
        return Ok(outcome);
    }
    let asked = Asked { hash, serial: question.serial, nonce };
    match verify(&reply.body, &asked, &question.issuer, now, DEFAULT_SKEW) {
        Ok(verified) => {
            outcome.judge(&verified, args, now);
            outcome::judge_fields(&mut outcome, &reply, &verified, by_get && !args.nonce, now);
            outcome.verified = Some((verified, now));
        }
        Err(flaws)
            if args.expect == Expect::Unauthorized && flaws == [Flaw::ErrorStatus(ErrorStatus::Unauthorized)] =>
        {
            outcome.add(Level::Ok, "unauthorized, as expected".to_owned());
        }
        Err(flaws) => flaws.into_iter().for_each(|flaw| outcome.add(Level::Critical, flaw.to_string())),
    }
    Ok(outcome)
}

/// `{path}/{base64, percent-encoded}` (RFC 6960 App. A.1).
fn get_path(path: &str, der: &[u8]) -> String {
    let mut out = path.trim_end_matches('/').to_owned();
    out.push('/');
    for c in data_encoding::BASE64.encode(der).chars() {
        match c {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}
