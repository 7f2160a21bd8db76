//! One record: keys in, a checked record or its faults out. Pure.

use super::{IssuerId, SignerSource, State, StatusFiles};
use crate::config::document::{Collector, Node, Section, did_you_mean};
use crate::config::{
    Approval, Config, Fault, IssuerDefaults, Position, RegistrySource, Response, Signer, check_issuer_settings,
    issuer_doubts, plain_name,
};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The most files of one kind a record may name as status sources.
const MAX_STATUS_FILES: usize = 64;

/// What records are checked against: it comes from the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordRules {
    /// `[signer]` and `[response]` as the configuration has them.
    pub defaults: IssuerDefaults,
    /// The names of `[enrolment.*]`.
    pub enrolments: BTreeSet<String>,
    /// `[renewal]` approval.
    pub approval: Approval,
    /// For a document from elsewhere: its paths are relative to this directory, and one that leads out of it is a fault. Whoever
    /// serves a registry shall not choose which of this machine's files are read. `None`: relative to the document's own
    /// directory, and as free as whoever may write there.
    pub confined: Option<PathBuf>,
}

impl RecordRules {
    /// The rules that follow from a configuration.
    pub fn of(config: &Config) -> Self {
        RecordRules {
            defaults: config.issuer_defaults.clone(),
            enrolments: config.enrolment.keys().cloned().collect(),
            approval: config.renewal.approval,
            confined: match config.registry.source {
                RegistrySource::Https(_) => Some(config.registry.base.clone()),
                RegistrySource::File(_) => None,
            },
        }
    }
}

/// A record that is sound in itself; its certificate has not been read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: IssuerId,
    pub(super) at: Position,
    pub(super) content: Content,
    pub(super) notes: Vec<Fault>,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// The CA certificate, where one is named still.
    Retired(Option<PathBuf>),
    Live(Box<Live>),
}

/// What stands in the record of an active or disabled issuer.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) certificate: PathBuf,
    pub(super) certificate_at: Position,
    pub(super) signer_source: SignerSource,
    pub(super) status: StatusFiles,
    pub(super) signer: Signer,
    pub(super) response: Response,
    pub(super) approval: Approval,
}

/// Reads one record; the error is its id, where it has one, and every fault.
pub(super) fn read(node: &Node, file: &Path, rules: &RecordRules) -> Result<Record, (Option<IssuerId>, Vec<Fault>)> {
    let base = Base { directory: file.parent().unwrap_or(Path::new("")), confined: rules.confined.as_deref() };
    let base = &base;
    let out = &mut Collector::new(file);
    let mut s = Section::new("issuer", node, out);
    let id = s.required("id", "\"id\": \"issuing-ca-1\"", out, |n| IssuerId::new(n.string()?));
    if let Some(id) = &id {
        s.rename(id.as_str());
    }
    let states = [State::Active, State::Disabled, State::Retired].map(|s| (s.name(), s));
    let state = s.required("state", "\"state\": \"active\"", out, |n| n.one_of(&states));
    let certificate_at = s.position("certificate");
    let (certificate, status) = if state == Some(State::Retired) {
        // A tombstone needs nothing but its id; what else stands there is still checked for its form.
        (s.optional("certificate", out, |n| base.path(n)), status(&mut s, base, false, out))
    } else {
        let certificate = s.required("certificate", "\"certificate\": \"issuing-ca-1.pem\"", out, |n| base.path(n));
        (certificate, status(&mut s, base, true, out))
    };

    let mut settings = rules.defaults.clone();
    let source = signer_source(&mut s, base, state != Some(State::Retired), &mut settings, rules, out);
    let approval = approval(&mut s, rules, out);
    let mut response_section = s.section("response", out);
    settings.read_response(&mut response_section, out);
    let (signer, response) = (settings.signer(), settings.response());
    let signer_at = s.position("signer");
    let own = |key: &'static str| if key == "key" { signer_at } else { response_section.position(key) };
    check_issuer_settings(s.name(), &signer, &response, out, own);
    let doubts = issuer_doubts(&response).into_iter().filter(|(key, _)| response_section.has(key));
    let notes: Vec<Fault> =
        doubts.map(|(key, text)| Fault::at(file, own(key), format!("{}.response.{key}: {text}", s.name()))).collect();
    response_section.finish(out);
    s.finish(out);

    let content = match (state, certificate, source) {
        (Some(State::Retired), certificate, _) => Some(Content::Retired(certificate)),
        (Some(state), Some(certificate), Some(signer_source)) => {
            let live = Live { state, certificate, certificate_at, signer_source, status, signer, response, approval };
            Some(Content::Live(Box::new(live)))
        }
        _ => None,
    };
    match (id, content) {
        (Some(id), Some(content)) if out.faults.is_empty() => Ok(Record { id, at: node.at, content, notes }),
        (id, _) => {
            if out.faults.is_empty() {
                out.add(node.at, "the record cannot be used");
            }
            Err((id, std::mem::take(&mut out.faults)))
        }
    }
}

fn status(s: &mut Section<'_>, base: &Base<'_>, needed: bool, out: &mut Collector) -> StatusFiles {
    let mut section = s.section("status", out);
    let mut read = |key| section.optional(key, out, |n| base.paths(n)).unwrap_or_default();
    let (index, crl) = (read("index"), read("crl"));
    let scopes = [("stated", false), ("complete", true)];
    let crls_are_complete = section.optional("crl_scope", out, |n| n.one_of(&scopes)).unwrap_or(false);
    if section.has("crl_scope") && !section.has("crl") {
        section.fault("crl_scope", "there is no \"crl\" beside it", out);
    }
    let files = StatusFiles { index, crl, crls_are_complete };
    if needed && !section.has("index") && !section.has("crl") {
        let text = format!(
            "{}.status names no source; write \"status\": {{ \"index\": \"index.txt\" }}, {{ \"crl\": \"ca.crl\" }} or both",
            s.name()
        );
        out.add(section.at(), text);
    }
    section.finish(out);
    files
}

/// Whether an operator approves each new signer. Signers that are files are the operator's anyway.
fn approval(s: &mut Section<'_>, rules: &RecordRules, out: &mut Collector) -> Approval {
    let own = s.optional("approval", out, Approval::read);
    if own.is_some() && !s.has("enrolment") {
        s.fault("approval", "there is no \"enrolment\" beside it, so nothing is renewed that could be approved", out);
    }
    own.unwrap_or(rules.approval)
}

/// Either `signer` with files (which may hold overrides beside them) or `enrolment` and `profile`.
fn signer_source(
    s: &mut Section<'_>,
    base: &Base<'_>,
    needed: bool,
    settings: &mut IssuerDefaults,
    rules: &RecordRules,
    out: &mut Collector,
) -> Option<SignerSource> {
    let enrolment = s.optional("enrolment", out, |n| {
        let name = n.string()?;
        if rules.enrolments.contains(name) {
            return Ok(name.to_owned());
        }
        let hint = did_you_mean(name, rules.enrolments.iter().map(String::as_str));
        Err(format!(
            "\"{}\" is not in the configuration; write a section [enrolment.{0}] there{hint}",
            name.escape_debug()
        ))
    });
    let profile = s.optional("profile", out, |n| {
        let label = n.string()?;
        plain_name(label).map(|()| label.to_owned())
    });
    let mut section = s.section("signer", out);
    let certificate = section.optional("certificate", out, |n| base.path(n));
    // "key" names a file beside "certificate" and a kind of key otherwise: a signer given as files has the key it has.
    let files = section.has("certificate");
    let key = if files { section.required("key", "\"key\": \"ocsp.key\"", out, |n| base.path(n)) } else { None };
    settings.read_signer(&mut section, !files, out);
    section.finish(out);
    match (files, s.has("enrolment"), s.has("profile")) {
        (true, false, false) => Some(SignerSource::Files { certificate: certificate?, key: key? }),
        (false, true, true) => Some(SignerSource::Enrolled { enrolment: enrolment?, profile: profile? }),
        (false, true, false) => {
            s.fault("enrolment", "\"profile\" is missing beside it", out);
            None
        }
        (false, false, true) => {
            s.fault("profile", "\"enrolment\" is missing beside it", out);
            None
        }
        (true, ..) => {
            s.fault("signer", "a record has either signer files or enrolment and profile, not both", out);
            None
        }
        (false, false, false) if needed => {
            let text = format!(
                "{} has no signer; write \"enrolment\" and \"profile\", or \"signer\": {{ \"certificate\": \"ocsp.pem\", \"key\": \"ocsp.key\" }}",
                s.name()
            );
            out.add(s.at(), text);
            None
        }
        (false, false, false) => None,
    }
}

/// Where the paths of a document begin, and whether they must stay there.
struct Base<'a> {
    directory: &'a Path,
    confined: Option<&'a Path>,
}

impl Base<'_> {
    fn path(&self, node: &Node) -> Result<PathBuf, String> {
        self.join(node.string()?)
    }

    fn paths(&self, node: &Node) -> Result<Vec<PathBuf>, String> {
        let names = node.strings()?;
        if names.is_empty() || names.len() > MAX_STATUS_FILES {
            return Err(format!("expected 1 to {MAX_STATUS_FILES} paths, found {}", names.len()));
        }
        names.into_iter().map(|name| self.join(name)).collect()
    }

    fn join(&self, name: &str) -> Result<PathBuf, String> {
        if name.is_empty() || name.contains('\0') {
            return Err("a path is empty or holds a NUL".to_owned());
        }
        let Some(base) = self.confined else { return Ok(self.directory.join(name)) };
        let stays = Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if stays {
            Ok(base.join(name))
        } else {
            Err(format!(
                "\"{}\" leads out of {}: a registry from a URL names files relative to it, without \"..\" ([registry] base)",
                name.escape_debug(),
                base.display()
            ))
        }
    }
}
