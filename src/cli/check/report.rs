//! What `check` found.

use super::access;
use super::contact::{self, Contact, Ordered};
use super::service::Service;
use crate::cli::shield;
use crate::cli::show::relative;
use crate::cli::sync;
use crate::config::{Config, Fault, HumanDuration, Position, Protocol, RegistrySource};
use crate::registry::{Document, Issuer, RecordRules, SignerSource, State, last_good, read_bounded, would_refuse};
use crate::signer::slots::Slots;
use crate::signer::{self, RsaPadding, SigningKey, files};
use crate::status::{self, Source};
use crate::time::Timestamp;
use crate::x509::Certificate;
use crate::x509::crl::Freshness;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Everything that was found; the form of `--json`.
#[derive(Debug, Default, serde::Serialize)]
pub(super) struct Report {
    /// No fault.
    pub(super) ok: bool,
    /// What must be mended.
    pub(super) faults: Vec<Fault>,
    /// What should be looked at.
    pub(super) warnings: Vec<Fault>,
    /// The generation of the registry, if one could be read.
    pub(super) generation: Option<u64>,
    /// The issuers that would be served.
    pub(super) issuers: Vec<IssuerReport>,
    /// Ids that are retired.
    pub(super) retired: Vec<String>,
    /// What a service that runs on this configuration says; nothing where the configuration cannot be used.
    pub(super) service: Option<Service>,
    /// What the CA services distribute, where they were to be asked.
    pub(super) contacts: Vec<Contact>,
    /// What signers are ordered of whom.
    #[serde(skip)]
    pub(super) ordered: Vec<Ordered>,
}

/// One issuer that would be served.
#[derive(Debug, serde::Serialize)]
pub(super) struct IssuerReport {
    id: String,
    state: &'static str,
    profile: &'static str,
    subject: String,
    signer: String,
    certificates: Option<u64>,
    revoked: Option<u64>,
}

impl Report {
    /// Reads everything.
    pub(super) fn of(config: &Config, now: Timestamp) -> Self {
        let mut report = Report { warnings: config.warnings.clone(), ..Report::default() };
        report.faults.extend(access::state_dir(&config.state_dir));
        enrolments(config, &mut report);
        if let Some(error) = crate::admin::control::too_long(&config.admin.socket) {
            report.warnings.push(Fault::of_file(&config.file, error.to_string()));
        }
        if let Some(doubt) = shield::open_to_others(&config.state_dir) {
            report.warnings.push(Fault::of_file(&config.file, doubt));
        }
        match &config.registry.source {
            RegistrySource::File(file) => registry(config, file, now, &mut report),
            RegistrySource::Https(url) => server(config, url, now, &mut report),
        }
        report.ok = report.faults.is_empty();
        report
    }

    /// Asks a service that runs on this configuration how much it watches.
    pub(super) fn ask(&mut self, config: &Config) {
        self.service = Some(Service::ask(config, &mut self.faults, &mut self.warnings));
        self.ok = self.faults.is_empty();
    }

    /// Asks the EST services for the CA certificates that they distribute.
    pub(super) fn contact(&mut self, config: &Config) {
        self.contacts = contact::est(config, &self.ordered, &mut self.faults, &mut self.warnings);
        self.ok = self.faults.is_empty();
    }

    /// The last lines for people.
    pub(super) fn summary(&self, config: &Path, now: Timestamp) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        for issuer in &self.issuers {
            let IssuerReport { id, state, profile, subject, signer, .. } = issuer;
            let _ = writeln!(out, "{id}: {state}, {profile}, {subject}; signer {signer}{}", issuer.counts());
        }
        out.extend(self.contacts.iter().map(Contact::line));
        out.extend(self.service.iter().map(|service| service.line(now)));
        let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        let _ = writeln!(
            out,
            "{}: {}, {}, {} to serve, {} retired",
            config.display(),
            count(self.faults.len(), "error"),
            count(self.warnings.len(), "warning"),
            count(self.issuers.len(), "issuer"),
            self.retired.len()
        );
        out
    }
}

impl IssuerReport {
    fn counts(&self) -> String {
        match (self.certificates, self.revoked) {
            (Some(all), Some(revoked)) => format!("; {all} certificates listed, {revoked} of them revoked"),
            _ => String::new(),
        }
    }
}

fn registry(config: &Config, file: &Path, now: Timestamp, report: &mut Report) {
    match read_bounded(file, crate::registry::MAX_LEN) {
        Ok(bytes) => document(config, file, &bytes, true, now, report),
        Err(e) => report.faults.push(Fault::of_file(file, format!("the registry cannot be read: {e}"))),
    }
}

/// Of a registry behind a URL: what is needed to fetch it, and the copy of what was fetched last.
fn server(config: &Config, url: &str, now: Timestamp, report: &mut Report) {
    let mut fault = |key: &str, text: String| {
        report.faults.push(Fault::of_file(&config.file, format!("registry.{key}: {text}")));
    };
    if let Some(Err(e)) = config.registry.trust.as_deref().map(can_be_read) {
        fault("trust", format!("{}: {e}", config.registry.trust.clone().unwrap_or_default().display()));
    }
    if let Some((certificate, key)) = &config.registry.client {
        match files::load_pair(certificate, key, RsaPadding::default()) {
            Ok((c, _)) if !c.is_valid_at(now) => {
                let text = format!("{}: it ended {}", certificate.display(), relative(c.not_after(), now));
                fault("client_certificate", text);
            }
            Ok((c, _)) => {
                // As the alert for our own certificates at a CA service has it.
                let last = (c.not_after().since(c.not_before()) / 10).min(WEEK);
                if now.plus(last) > c.not_after() {
                    let ends = relative(c.not_after(), now);
                    let text = format!(
                        "registry.client_certificate: {}: it ends {ends}, and nobody renews it; without it the registry cannot be read",
                        certificate.display()
                    );
                    report.warnings.push(Fault::of_file(&config.file, text));
                }
            }
            Err(e) => fault("client_certificate", e.to_string()),
        }
    }
    match last_good(&config.state_dir) {
        Ok(Some(bytes)) => {
            let text = "nobody was contacted: this is about the copy of what was fetched last";
            report.warnings.push(Fault::of_file(url, text));
            document(config, Path::new(url), &bytes, false, now, report);
        }
        Ok(None) => {
            let text = "nobody was contacted, and no copy is there yet: its issuers have not been checked";
            report.warnings.push(Fault::of_file(url, text));
        }
        Err(e) => report.faults.push(Fault::of_file(&config.state_dir, format!("the registry's copy: {e}"))),
    }
}

fn document(config: &Config, file: &Path, bytes: &[u8], is_next: bool, now: Timestamp, report: &mut Report) {
    let document = match Document::parse(bytes, file, &RecordRules::of(config)) {
        Ok(document) => document,
        Err(faults) => {
            report.faults.extend(faults.0);
            return;
        }
    };
    if let Some(why) = is_next.then(|| would_refuse(&config.state_dir, document.number(), bytes)).flatten() {
        report.faults.push(Fault::of_file(file, why));
    }
    let generation = document.resolve(&mut |path| read_bounded(path, files::MAX_CERTIFICATE_FILE_LEN));
    report.generation = Some(generation.number);
    report.faults.extend(generation.quarantined.into_iter().flat_map(|q| q.faults));
    report.warnings.extend(generation.notes);
    report.retired = generation.tombstones.iter().map(|t| t.id.to_string()).collect();
    let slots = slots(config, report);
    for issuer in &generation.issuers {
        let found = Looked { file, issuer, slots: &slots, now }.at_everything(config, report);
        report.issuers.push(found);
        if let (State::Active, SignerSource::Enrolled { enrolment, profile }) = (issuer.state, &issuer.signer_source) {
            let (enrolment, profile) = (enrolment.clone(), profile.clone());
            report.ordered.push(Ordered { issuer: issuer.clone(), enrolment, profile });
        }
    }
    if generation.issuers.is_empty() {
        let text = "no issuer is active or disabled and usable: every request will be answered unauthorized";
        report.warnings.push(Fault::of_file(file, text));
    }
}

/// What has been ordered before.
fn slots(config: &Config, report: &mut Report) -> Option<Slots> {
    let (dir, seen) = sync::look_at_slots(&config.state_dir);
    match seen {
        Ok((slots, faults)) => {
            report
                .warnings
                .extend(faults.into_iter().map(|f| Fault::of_file(&f.path, format!("{}: {}", f.slot, f.text))));
            Some(slots)
        }
        Err(e) => {
            report.faults.push(Fault::of_file(&dir, format!("the signers that were ordered cannot be listed: {e}")));
            None
        }
    }
}

/// One issuer under the glass.
struct Looked<'a> {
    file: &'a Path,
    issuer: &'a Issuer,
    slots: &'a Option<Slots>,
    now: Timestamp,
}

impl Looked<'_> {
    fn told(&self, text: &str) -> Fault {
        Fault::at(self.file, self.issuer.at, format!("{}: {text}", self.issuer.id))
    }

    fn at_everything(&self, config: &Config, report: &mut Report) -> IssuerReport {
        let Issuer { id, state, certificate, response, .. } = self.issuer;
        if self.now > certificate.not_after() {
            let text = format!("the CA certificate expired {}", relative(certificate.not_after(), self.now));
            report.warnings.push(self.told(&text));
        }
        let signer = self.at_signer(config, report);
        let (certificates, revoked) = self.at_status(report).unzip();
        let subject = certificate.subject();
        let (state, profile) = (state.name(), response.profile.name());
        IssuerReport { id: id.to_string(), state, profile, subject, signer, certificates, revoked }
    }

    fn at_signer(&self, config: &Config, report: &mut Report) -> String {
        match &self.issuer.signer_source {
            SignerSource::Files { certificate, key } => self.at_files(certificate, key, config, report),
            SignerSource::Enrolled { enrolment, profile } => {
                if let (Some(Protocol::Local { ca_keys, validity }), State::Active) =
                    (config.enrolment.get(enrolment).map(|e| &e.protocol), self.issuer.state)
                {
                    let response = &self.issuer.response;
                    let least =
                        response.validity.saturating_add(response.refresh).saturating_add(config.renewal.margin);
                    if *validity <= least {
                        let (validity, least) = (HumanDuration(*validity), HumanDuration(least));
                        report.faults.push(self.told(&format!(
                            "enrolment {enrolment} issues for {validity}, and a signer must live for more than {least}: validity, refresh and renewal.margin together"
                        )));
                    }
                    let key = ca_keys.join(format!("{}.key", self.issuer.id));
                    if let Err(e) =
                        files::load_key(&key, self.issuer.signer.rsa_padding, Some(&self.issuer.certificate))
                    {
                        report.faults.push(self.told(&format!("the CA key for enrolment {enrolment}: {e}")));
                    } else {
                        self.at_owner(&key, config, report);
                    }
                }
                let source = format!("ordered from {enrolment} as {profile}");
                let slot = self.slots.as_ref().map(|slots| slots.slot(self.issuer.id.as_str()));
                match slot.and_then(|slot| slot.current()) {
                    Some(current) => {
                        let key = current.key.with_padding(self.issuer.signer.rsa_padding);
                        let found = self.at_pair(&current.certificate, &key, report);
                        format!("{found}, order {}, {source}", current.order)
                    }
                    None => format!("{source}, none there yet"),
                }
            }
        }
    }

    fn at_files(&self, certificate: &Path, key: &Path, config: &Config, report: &mut Report) -> String {
        let key_file = key;
        let loaded = files::load_pair(certificate, key, self.issuer.signer.rsa_padding);
        let (certificate, key) = match loaded {
            Ok(pair) => pair,
            Err(e) => {
                report.faults.push(self.told(&format!("the signer: {e}")));
                return "not usable".to_owned();
            }
        };
        self.at_owner(key_file, config, report);
        self.at_pair(&certificate, &key, report)
    }

    /// Root reads every key here, and `serve` gives that up.
    fn at_owner(&self, key: &Path, config: &Config, report: &mut Report) {
        match access::foreign_key(key, &config.state_dir) {
            Some((true, why)) => report.faults.push(self.told(&why)),
            Some((false, why)) => report.warnings.push(self.told(&why)),
            None => {}
        }
    }

    fn at_pair(&self, certificate: &Certificate, key: &SigningKey, report: &mut Report) -> String {
        let response = &self.issuer.response;
        match signer::check(&self.issuer.certificate, certificate, key, response.profile, self.now) {
            Ok(facts) => {
                report.warnings.extend(facts.warnings.iter().map(|w| self.told(&w.to_string())));
                let life = (facts.not_before, facts.not_after);
                // As planned, where it is to end.
                if let (Err(spent), State::Active) =
                    (sync::settings(response).cadence().dates(self.now, life, Timestamp::EPOCH), self.issuer.state)
                {
                    report.faults.push(self.told(&format!("{spent}; put a new signer in its place")));
                    return "not usable".to_owned();
                }
                let left = facts.not_after.since(self.now);
                if left < response.validity.saturating_add(response.refresh) {
                    let text = format!(
                        "the signer's certificate ends {}, and a response must not outlive it: answers become shorter; renew it",
                        relative(facts.not_after, self.now)
                    );
                    report.warnings.push(self.told(&text));
                }
                let ends = relative(facts.not_after, self.now);
                format!("{} ({}, ends {ends})", certificate.subject(), facts.algorithm.name())
            }
            Err(refused) => {
                report.faults.extend(refused.faults.iter().map(|f| self.told(&f.to_string())));
                report.warnings.extend(refused.warnings.iter().map(|w| self.told(&w.to_string())));
                "not usable".to_owned()
            }
        }
    }

    /// How many certificates the sources list, and how many of them as revoked.
    fn at_status(&self, report: &mut Report) -> Option<(u64, u64)> {
        let files = &self.issuer.status;
        let indexes = files.index.iter().cloned().map(Source::Index);
        let sources: Vec<Source> = indexes.chain(files.crl.iter().cloned().map(Source::Crl)).collect();
        let set = match status::load(&self.issuer.certificate, &sources, self.now) {
            Ok(set) => status::StatusSet { crls_are_complete: files.crls_are_complete, ..set },
            Err(error) => {
                report.faults.extend(error.faults.iter().map(|f| self.told(&f.to_string())));
                return None;
            }
        };
        for source in &set.sources {
            let quarantine = source.quarantine();
            for bad in &quarantine.first {
                let (file, number) = (source.source.path(), bad.number);
                report.warnings.push(match &source.facts {
                    status::SourceFacts::Index(_) => {
                        let line = usize::try_from(number).unwrap_or(usize::MAX);
                        let text = format!("{}: the line is left out: {}", self.issuer.id, bad.why);
                        Fault::at(file, Position { line, column: 1 }, text)
                    }
                    _ => Fault::of_file(file, format!("{}: entry {number} is left out: {}", self.issuer.id, bad.why)),
                });
            }
            let more = quarantine.total.saturating_sub(quarantine.first.len() as u64);
            if more > 0 {
                let text = format!("{}: and {more} more that cannot be read", self.issuer.id);
                report.warnings.push(Fault::of_file(source.source.path(), text));
            }
            match &source.facts {
                status::SourceFacts::Crl(crl) => {
                    self.at_crl_dates(crl, source.source.path(), set.may_say_good(self.now), report);
                }
                status::SourceFacts::Index(_) if source.entries == 0 => {
                    let (id, unissued) = (&self.issuer.id, self.issuer.response.unissued.name());
                    let others = if sources.len() > 1 { " that no other source lists" } else { "" };
                    let text = format!("{id}: no certificate is listed: every one{others} is answered {unissued}");
                    report.warnings.push(Fault::of_file(source.source.path(), text));
                }
                status::SourceFacts::Index(_) => {}
            }
        }
        report.warnings.extend(set.scope_gap().or_else(|| set.unattributed_lines()).map(|gap| self.told(&gap)));
        let revoked = set.entries.iter().filter(|e| e.is_revoked()).count();
        Some((set.entries.len() as u64, revoked as u64))
    }

    fn at_crl_dates(&self, crl: &status::CrlFacts, path: &Path, may_say_good: bool, report: &mut Report) {
        let id = &self.issuer.id;
        let text = match (crl.freshness(self.now), crl.next_update) {
            (Freshness::Current, _) => return,
            (Freshness::Expired, Some(next)) => {
                format!("{id}: the CRL's nextUpdate {next} was {}", relative(next, self.now))
            }
            _ => format!("{id}: the CRL's thisUpdate {} lies in the future", crl.this_update),
        };
        let so = if may_say_good { "" } else { "; nothing will be called good until there is a current one" };
        report.warnings.push(Fault::of_file(path, format!("{text}{so}")));
    }
}

/// The files that `[enrolment.*]` names are there.
fn enrolments(config: &Config, report: &mut Report) {
    for (name, enrolment) in &config.enrolment {
        let paths: Vec<&Path> = match &enrolment.protocol {
            Protocol::Local { ca_keys, .. } => {
                if !ca_keys.is_dir() {
                    let text = format!("enrolment.{name}.ca_keys: {} is not a directory", ca_keys.display());
                    report.faults.push(Fault::of_file(&config.file, text));
                }
                continue;
            }
            Protocol::Command { command } => {
                let program = command.first().map(Path::new);
                program.filter(|p| p.is_absolute()).into_iter().collect()
            }
            Protocol::Est { trust, client, basic, .. } => {
                let client = client.iter().flat_map(|c| [c.certificate.as_path(), c.key.as_path()]);
                let password = basic.iter().map(|b| b.password_file.as_path());
                std::iter::once(trust.as_path()).chain(client).chain(password).collect()
            }
            Protocol::Cfssl { auth_key, trust, .. } => {
                std::iter::once(auth_key.as_path()).chain(trust.as_deref()).collect()
            }
        };
        for path in paths {
            if let Err(e) = can_be_read(path) {
                let text = format!("enrolment.{name}: {}: {e}", path.display());
                report.faults.push(Fault::of_file(&config.file, text));
            }
        }
    }
}

/// Whether a file can be read; it is not.
fn can_be_read(path: &Path) -> io::Result<()> {
    // Asked by name first: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path).map(drop)
}
