//! `[signer]` and `[response]`: what a registry record may override, and the rule books both must keep.

use super::document::{Collector, Node, Section};
use super::fault::Position;
use super::quantity::HumanDuration;
use crate::ocsp::{HashAlgorithm, Profile, Unissued};
use crate::signer::{KeyKind, RsaPadding};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Four days: within every root programme's bounds (8 h to 7 d), and what is left after a day still covers a weekend.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(96 * 3_600);
/// A quarter of the validity: three quarters remain as the outage budget, and half is the most `cabf` allows.
pub const DEFAULT_REFRESH: Duration = DAY;
/// Many verifiers allow clocks to differ by 300 s (OpenSSL, nginx, Apache httpd); this serves those that allow nothing.
pub const DEFAULT_BACKDATE: Duration = Duration::from_secs(300);
/// Shorter answers would be signed faster than people and caches can follow.
pub const MIN_VALIDITY: Duration = MINUTE;
/// A year: an answer that cannot be taken back for longer is a mistake in the unit.
pub const MAX_VALIDITY: Duration = Duration::from_secs(366 * 86_400);
/// Signing everything again more often than this is load without use.
pub const MIN_REFRESH: Duration = Duration::from_secs(10);
/// BR §7.1.2.8.1 lets a CA back-date a responder certificate by a day; an answer has no reason to go further.
pub const MAX_BACKDATE: Duration = DAY;

const KEY_KINDS: [(&str, KeyKind); 5] = [
    ("ecdsa-p256", KeyKind::EcdsaP256),
    ("ecdsa-p384", KeyKind::EcdsaP384),
    ("rsa-2048", KeyKind::Rsa2048),
    ("rsa-3072", KeyKind::Rsa3072),
    ("ed25519", KeyKind::Ed25519),
];
const RSA_PADDINGS: [(&str, RsaPadding); 2] = [("pkcs1", RsaPadding::Pkcs1), ("pss", RsaPadding::Pss)];

/// How a response names its signer (ResponderID, RFC 6960 §4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResponderIdForm {
    /// byKey, SHA-1 of the signer's public key bits; RFC 9919 §3.2.2 requires it.
    #[default]
    Key,
    /// byName, the signer's subject.
    Name,
}

impl ResponderIdForm {
    const NAMES: [(&'static str, ResponderIdForm); 2] =
        [("key", ResponderIdForm::Key), ("name", ResponderIdForm::Name)];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }
}

/// What a nonce in the request does (RFC 9654).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoncePolicy {
    /// Nothing: the pre-signed answer is sent (RFC 9919 §3.2.1).
    #[default]
    Ignore,
    /// An answer with the nonce is signed on demand, within the budget of `[on_demand]`.
    Answer,
}

impl NoncePolicy {
    const NAMES: [(&'static str, NoncePolicy); 2] = [("ignore", NoncePolicy::Ignore), ("answer", NoncePolicy::Answer)];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }
}

const UNISSUED: [(&str, Unissued); 4] = [
    ("unauthorized", Unissued::Unauthorized),
    ("unknown", Unissued::Unknown),
    ("good", Unissued::Good),
    ("revoked", Unissued::Revoked),
];

/// Whether answers say how far back the responder's knowledge reaches (RFC 6960 §4.4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveCutoff {
    /// They do not.
    #[default]
    None,
    /// The archiveCutoff extension, with the notBefore of the issuer's certificate: nothing it issued is ever forgotten
    /// (ETSI EN 319 411-2, CSS-6.3.10-10).
    Issuer,
}

impl ArchiveCutoff {
    const NAMES: [(&'static str, ArchiveCutoff); 2] =
        [("none", ArchiveCutoff::None), ("issuer", ArchiveCutoff::Issuer)];

    /// The name in configuration.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }
}

/// `[signer]`, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signer {
    /// The kind of key made at a renewal. A signer given as files has the key it has.
    pub key: KeyKind,
    /// How RSA keys sign.
    pub rsa_padding: RsaPadding,
}

impl Signer {
    /// The name of `key` in configuration: `ecdsa-p256`, `rsa-2048`, …
    pub fn key_name(&self) -> &'static str {
        name_of(&KEY_KINDS, self.key)
    }

    /// The name of `rsa_padding` in configuration.
    pub fn rsa_padding_name(&self) -> &'static str {
        name_of(&RSA_PADDINGS, self.rsa_padding)
    }
}

/// `[response]`, resolved: each relation between the fields holds and the profile's rules are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The rule book.
    pub profile: Profile,
    /// nextUpdate − thisUpdate, both ends included (BR §4.9.9): nextUpdate is one second earlier than the sum.
    pub validity: Duration,
    /// A response is signed again this long after its thisUpdate, at the latest, and never later than half of its life.
    pub refresh: Duration,
    /// thisUpdate is this much earlier than the time of signing.
    pub backdate: Duration,
    /// CertID hashes that are signed ahead; the others are signed on demand.
    pub certid_hashes: Vec<HashAlgorithm>,
    /// How the responder names itself.
    pub responder_id: ResponderIdForm,
    /// What a nonce does.
    pub nonce: NoncePolicy,
    /// What is said of a serial that was never issued.
    pub unissued: Unissued,
    /// Whether archiveCutoff is told.
    pub archive_cutoff: ArchiveCutoff,
}

/// `[signer]` and `[response]` as written, before defaults: a registry record's keys lie over the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerDefaults {
    pub(super) key: Option<KeyKind>,
    pub(super) rsa_padding: Option<RsaPadding>,
    profile: Option<Profile>,
    validity: Option<Duration>,
    refresh: Option<Duration>,
    backdate: Option<Duration>,
    certid_hashes: Option<Vec<HashAlgorithm>>,
    responder_id: Option<ResponderIdForm>,
    nonce: Option<NoncePolicy>,
    unissued: Option<Unissued>,
    archive_cutoff: Option<ArchiveCutoff>,
}

impl IssuerDefaults {
    /// Reads the keys of `[signer]` over what is there already.
    ///
    /// `with_key`: whether `key` is the kind of key here; beside a certificate it is a file's name.
    pub(crate) fn read_signer(&mut self, section: &mut Section<'_>, with_key: bool, out: &mut Collector) {
        if with_key {
            over(&mut self.key, section.optional("key", out, |n| n.one_of(&KEY_KINDS)));
        } else {
            self.key = None;
        }
        over(&mut self.rsa_padding, section.optional("rsa_padding", out, |n| n.one_of(&RSA_PADDINGS)));
    }

    /// Reads the keys of `[response]` over what is there already.
    pub(crate) fn read_response(&mut self, section: &mut Section<'_>, out: &mut Collector) {
        let profiles = [Profile::Rfc6960, Profile::Rfc9919, Profile::Cabf].map(|p| (p.name(), p));
        over(&mut self.profile, section.optional("profile", out, |n| n.one_of(&profiles)));
        over(&mut self.validity, section.optional("validity", out, |n| duration(n, MIN_VALIDITY, MAX_VALIDITY)));
        over(&mut self.refresh, section.optional("refresh", out, |n| duration(n, MIN_REFRESH, MAX_VALIDITY)));
        over(&mut self.backdate, section.optional("backdate", out, |n| duration(n, Duration::ZERO, MAX_BACKDATE)));
        over(&mut self.certid_hashes, section.optional("certid_hashes", out, certid_hashes));
        over(&mut self.responder_id, section.optional("responder_id", out, |n| n.one_of(&ResponderIdForm::NAMES)));
        over(&mut self.nonce, section.optional("nonce", out, |n| n.one_of(&NoncePolicy::NAMES)));
        over(&mut self.unissued, section.optional("unissued", out, |n| n.one_of(&UNISSUED)));
        over(&mut self.archive_cutoff, section.optional("archive_cutoff", out, |n| n.one_of(&ArchiveCutoff::NAMES)));
    }

    /// The signer settings that follow.
    pub fn signer(&self) -> Signer {
        Signer { key: self.key.unwrap_or_default(), rsa_padding: self.rsa_padding.unwrap_or_default() }
    }

    /// The response settings that follow. Whether they keep the rules is `violations`'s to say.
    pub fn response(&self) -> Response {
        let profile = self.profile.unwrap_or_default();
        Response {
            profile,
            validity: self.validity.unwrap_or(DEFAULT_VALIDITY),
            refresh: self.refresh.unwrap_or(DEFAULT_REFRESH),
            backdate: self.backdate.unwrap_or(DEFAULT_BACKDATE),
            certid_hashes: self.certid_hashes.clone().unwrap_or_else(|| vec![HashAlgorithm::Sha1]),
            responder_id: self.responder_id.unwrap_or_default(),
            nonce: self.nonce.unwrap_or_default(),
            unissued: self.unissued.unwrap_or_else(|| Unissued::default_for(profile)),
            archive_cutoff: self.archive_cutoff.unwrap_or_default(),
        }
    }
}

impl Default for Response {
    fn default() -> Self {
        IssuerDefaults::default().response()
    }
}

/// A broken relation or rule: the key it is about (`response.refresh`), and the text.
pub(crate) type Violation = (&'static str, String);

/// Every relation and profile rule that the settings break.
pub(crate) fn violations(signer: &Signer, response: &Response) -> Vec<Violation> {
    let mut found = Vec::new();
    schedule(response, &mut found);
    match response.profile {
        Profile::Rfc6960 => {}
        Profile::Rfc9919 => lightweight(response, &mut found),
        Profile::Cabf => baseline(signer, response, &mut found),
    }
    found
}

/// Things that are allowed and seldom meant.
pub(crate) fn doubts(response: &Response) -> Vec<Violation> {
    let mut found = Vec::new();
    if response.refresh > response.validity / 2 {
        found.push((
            "refresh",
            format!(
                "refresh {} is more than half of validity {}: answers are signed again at half of it all the same, after {}",
                shown(response.refresh),
                shown(response.validity),
                shown(response.validity / 2)
            ),
        ));
    }
    if response.unissued == Unissued::Good {
        found.push(("unissued", "\"good\" vouches for certificates that were never issued".to_owned()));
    }
    if response.profile == Profile::Rfc9919 && response.unissued == Unissued::Revoked {
        found.push((
            "unissued",
            "\"revoked\" needs the extended-revoke extension (RFC 6960 §4.4.8), and RFC 9919 §3.2.1 says that responseExtensions should not be there".to_owned(),
        ));
    }
    found
}

fn schedule(r: &Response, found: &mut Vec<Violation>) {
    if r.refresh > r.validity / 4 * 3 {
        found.push((
            "refresh",
            format!(
                "refresh {} leaves less than a quarter of validity {} for signing again; refresh must be at most {}",
                shown(r.refresh),
                shown(r.validity),
                shown(r.validity / 4 * 3)
            ),
        ));
    }
    if r.refresh < r.backdate.saturating_add(MIN_REFRESH) {
        found.push((
            "backdate",
            format!(
                "backdate {} makes a response due for signing again as soon as it is signed: it must be at least {} shorter than refresh {}",
                shown(r.backdate),
                shown(MIN_REFRESH),
                shown(r.refresh)
            ),
        ));
    }
}

fn lightweight(r: &Response, found: &mut Vec<Violation>) {
    if r.responder_id == ResponderIdForm::Name {
        found.push((
            "responder_id",
            "RFC 9919 §3.2.2 requires byKey of new responders; write \"key\", or use profile \"rfc6960\"".to_owned(),
        ));
    }
}

fn baseline(signer: &Signer, r: &Response, found: &mut Vec<Violation>) {
    if r.validity < 8 * HOUR {
        found.push((
            "validity",
            format!(
                "validity {} is under the 8h of BR §4.9.9 (CA/B Forum TLS Baseline Requirements)",
                shown(r.validity)
            ),
        ));
    } else if r.validity > 7 * DAY {
        let also =
            if r.validity > 10 * DAY { ", and the 10d of BR §4.9.9 and Mozilla Root Store Policy §6" } else { "" };
        found.push((
            "validity",
            format!("validity {} is over the 7d of the Microsoft Trusted Root Program §3.2.2{also}", shown(r.validity)),
        ));
    }
    if r.refresh > 4 * DAY {
        found.push((
            "refresh",
            format!("refresh {} is over the 4d of BR §4.9.9 and Mozilla Root Store Policy §6", shown(r.refresh)),
        ));
    } else if r.refresh > r.validity / 2 {
        let clause = if r.validity < 16 * HOUR {
            "BR §4.9.9 for validities under 16h"
        } else {
            "the Microsoft Trusted Root Program §3.2.2"
        };
        found.push((
            "refresh",
            format!("refresh {} is over half of validity {}, against {clause}", shown(r.refresh), shown(r.validity)),
        ));
    }
    match r.unissued {
        Unissued::Unauthorized | Unissued::Unknown => {}
        Unissued::Good => found.push((
            "unissued",
            "BR §4.9.9 forbids \"good\" for a serial that was not issued; write \"unauthorized\" or \"unknown\"".to_owned(),
        )),
        Unissued::Revoked => found.push((
            "unissued",
            "\"revoked\" for a serial that was not issued needs certificateHold (RFC 6960 §4.4.8), which BR §7.3 and §7.2.2 forbid; write \"unauthorized\" or \"unknown\"".to_owned(),
        )),
    }
    if signer.key == KeyKind::Ed25519 {
        found.push(("key", "BR §6.1.5 does not allow Ed25519 keys; write \"ecdsa-p256\" or \"rsa-2048\"".to_owned()));
    }
}

/// Collects what the settings break, each at the key it is about. `owner` is the record, or empty for the configuration.
pub(crate) fn check(
    owner: &str,
    signer: &Signer,
    response: &Response,
    out: &mut Collector,
    place: impl Fn(&'static str) -> Position,
) {
    for (key, text) in violations(signer, response) {
        let section = if key == "key" { "signer" } else { "response" };
        let dot = if owner.is_empty() { "" } else { "." };
        out.add(place(key), format!("{owner}{dot}{section}.{key}: {text} (profile {})", response.profile.name()));
    }
}

/// A duration within bounds, both inclusive.
pub(super) fn duration(node: &Node, min: Duration, max: Duration) -> Result<Duration, String> {
    let HumanDuration(d) = node.parsed()?;
    if d < min || d > max {
        return Err(format!("{} is out of bounds; it must be from {} to {}", shown(d), shown(min), shown(max)));
    }
    Ok(d)
}

pub(super) fn shown(d: Duration) -> String {
    HumanDuration(d).to_string()
}

fn certid_hashes(node: &Node) -> Result<Vec<HashAlgorithm>, String> {
    let mut hashes = Vec::new();
    for name in node.strings()? {
        let hash = HashAlgorithm::ALL
            .into_iter()
            .find(|h| h.name() == name)
            .ok_or_else(|| format!("\"{name}\" is not one of \"sha1\", \"sha256\", \"sha384\", \"sha512\""))?;
        if hashes.contains(&hash) {
            return Err(format!("\"{name}\" is given twice"));
        }
        hashes.push(hash);
    }
    if hashes.is_empty() {
        return Err("the list is empty; \"sha1\" is what most clients ask with".to_owned());
    }
    Ok(hashes)
}

fn over<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}
