//! Configuration: TOML in, checked settings out.
//!
//! Unknown keys are errors with a hint, durations are strings with a unit, relative paths are relative to the file, and
//! every fault is told at once, each with its line. Once a [`Config`] exists, its fields keep the relations that the
//! documentation of each states. A complete commented file is `deploy/stillgood.example.toml`; its values are the
//! defaults.

pub(crate) mod document;
mod effective;
mod enrolment;
mod fault;
mod quantity;
mod registry;
mod renewal;
mod response;
mod sections;

pub(crate) use enrolment::plain_name;
pub use enrolment::{BasicCredential, ClientCredential, Enrolment, Protocol};
pub(crate) use fault::Lines;
pub use fault::{Fault, Faults, Position};
pub use quantity::{ByteSize, HumanDuration, NotAQuantity, Rate};
pub use registry::{Registry, RegistrySource};
pub use renewal::{Approval, Backoff, Nocheck, Renewal, Window};
pub use response::{ArchiveCutoff, IssuerDefaults, NoncePolicy, ResponderIdForm, Response, Signer};
pub(crate) use response::{check as check_issuer_settings, doubts as issuer_doubts};
pub(crate) use sections::path;
pub use sections::{Admin, Endpoint, Log, LogFormat, OnDemand, Presign};

/// The defaults, each with its reason, and the bounds.
pub mod defaults {
    pub use super::enrolment::{
        DEFAULT_CONNECT_TIMEOUT, DEFAULT_DAILY_REQUESTS, DEFAULT_LOCAL_VALIDITY, DEFAULT_MAX_IN_FLIGHT, DEFAULT_RATE,
        DEFAULT_TIMEOUT, MAX_ENROLMENTS,
    };
    pub use super::registry::{
        DEFAULT_REGISTRY_CONNECT_TIMEOUT, DEFAULT_REGISTRY_MAX_AGE, DEFAULT_REGISTRY_MAX_CHANGE,
        DEFAULT_REGISTRY_REFRESH, DEFAULT_REGISTRY_SMALL_CHANGE, DEFAULT_REGISTRY_TIMEOUT,
    };
    pub use super::renewal::{
        DEFAULT_ACTIVATION_SKEW, DEFAULT_BACKOFF, DEFAULT_ISSUANCES_PER_DAY, DEFAULT_MARGIN, DEFAULT_RAMP,
        DEFAULT_SUBMISSIONS_PER_DAY, DEFAULT_WINDOW,
    };
    pub use super::response::{
        DEFAULT_BACKDATE, DEFAULT_REFRESH, DEFAULT_VALIDITY, MAX_BACKDATE, MAX_VALIDITY, MIN_REFRESH, MIN_VALIDITY,
    };
    pub use super::sections::*;
}

use document::{Collector, Node, Section};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The most octets a configuration file may have.
pub const MAX_FILE_LEN: u64 = 1 << 20;

/// A configuration that has been read and found sound. It says nothing yet about the files it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// Keys, orders, registry copy, segments, audit trail; one process at a time.
    pub state_dir: PathBuf,
    /// The public listener.
    pub endpoint: Endpoint,
    /// The operator's listener and socket.
    pub admin: Admin,
    /// Which issuers there are.
    pub registry: Registry,
    /// Signer settings where a registry record says nothing else.
    pub signer: Signer,
    /// Response settings where a registry record says nothing else.
    pub response: Response,
    /// Signing while a client waits.
    pub on_demand: OnDemand,
    /// Signing ahead.
    pub presign: Presign,
    /// What is logged, and how.
    pub log: Log,
    /// When signers are renewed.
    pub renewal: Renewal,
    /// Whom to order signers from, by name.
    pub enrolment: BTreeMap<String, Enrolment>,
    /// `[signer]` and `[response]` as written, for the registry to lay records over.
    pub issuer_defaults: IssuerDefaults,
    /// Which keys the file has, in two levels: `registry` and `registry.source`. What is not among them has its default.
    pub written: BTreeSet<String>,
    /// Allowed, but seldom meant.
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads a configuration file. Every fault of the text is in the error, not only the first.
    pub fn load(file: &Path) -> Result<Config, Faults> {
        let mut octets = Vec::new();
        let fault = |e: std::io::Error| Fault::of_file(file, format!("the configuration cannot be read: {e}"));
        let opened = std::fs::File::open(file).map_err(fault)?;
        opened.take(MAX_FILE_LEN + 1).read_to_end(&mut octets).map_err(fault)?;
        if octets.len() as u64 > MAX_FILE_LEN {
            return Err(Fault::of_file(file, format!("longer than {MAX_FILE_LEN} octets: not a configuration")).into());
        }
        let text = String::from_utf8(octets)
            .map_err(|e| Fault::of_file(file, format!("not UTF-8 at octet {}", e.utf8_error().valid_up_to())))?;
        Config::parse(&text, file)
    }

    /// Reads a configuration from text; `file` gives relative paths their base and faults their name. Pure.
    pub fn parse(text: &str, file: &Path) -> Result<Config, Faults> {
        let document = Node::from_toml(text, file)?;
        let base = file.parent().unwrap_or(Path::new(""));
        let out = &mut Collector::new(file);
        let mut root = Section::new("", &document, out);

        let state_dir = root.optional("state_dir", out, |n| path(n, base)).unwrap_or_else(|| base.join("state"));
        let endpoint = Endpoint::read(root.section("endpoint", out), out);
        let admin = Admin::read(root.section("admin", out), base, &state_dir, &endpoint.listen, out);
        let registry = Registry::read(root.section("registry", out), base, out);
        let mut issuer_defaults = IssuerDefaults::default();
        let mut signer_section = root.section("signer", out);
        issuer_defaults.read_signer(&mut signer_section, true, out);
        let mut response_section = root.section("response", out);
        issuer_defaults.read_response(&mut response_section, out);
        let on_demand = OnDemand::read(root.section("on_demand", out), out);
        let presign = Presign::read(root.section("presign", out), out);
        let log = Log::read(root.section("log", out), out);
        let renewal = Renewal::read(root.section("renewal", out), out);
        let enrolment = enrolment::read_all(root.section("enrolment", out), base, out);

        let (signer, response) = (issuer_defaults.signer(), issuer_defaults.response());
        let place = |key: &'static str| match key {
            "key" => signer_section.position(key),
            _ => response_section.position(key),
        };
        check_issuer_settings("", &signer, &response, out, place);
        let mut warnings: Vec<Fault> = issuer_doubts(&response)
            .into_iter()
            .map(|(key, text)| Fault::at(file, place(key), format!("response.{key}: {text}")))
            .collect();
        if let Some(open) = admin.listen.filter(|a| !a.ip().is_loopback()) {
            let text = format!(
                "admin.listen: {open} is not loopback; whoever reaches it reads the status page and the metrics"
            );
            warnings.push(Fault::of_file(file, text));
        }
        signer_section.finish(out);
        response_section.finish(out);
        root.finish(out);

        if !out.faults.is_empty() {
            return Err(Faults::sorted(std::mem::take(&mut out.faults)));
        }
        Ok(Config {
            file: file.to_path_buf(),
            state_dir,
            endpoint,
            admin,
            registry,
            signer,
            response,
            on_demand,
            presign,
            log,
            renewal,
            enrolment,
            issuer_defaults,
            written: document.keys(),
            warnings,
        })
    }
}

#[cfg(test)]
mod tests;
