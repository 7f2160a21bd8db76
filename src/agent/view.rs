//! What the agent shows of itself, and how renewal sees a registry.

use super::parts::Reading;
use crate::config::{Approval, Renewal};
use crate::ocsp::HashAlgorithm;
use crate::registry::{Issuer, IssuerId, SignerSource, State, Stopped};
use crate::renewal::{Cause, EndpointId, IssuerSpec, RegistryView};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The agent at the end of its last pass.
#[derive(Clone, Debug, Serialize)]
pub struct AgentView {
    /// When the agent was started.
    pub started: Timestamp,
    /// When it last completed a pass, by the time of day; it makes one every few seconds.
    pub last_pass: Timestamp,
    /// The same moment by [`time::monotonic`](crate::time::monotonic), which no leap of the time of day moves and which stands
    /// still while the machine sleeps. When this is long ago, the agent hangs or is dead.
    #[serde(skip)]
    pub passed: Instant,
    /// How much of what there is it could look at in that pass.
    pub coverage: Coverage,
    /// Requests since the start.
    pub requests: Vec<Tally>,
    /// Our own client certificates.
    pub credentials: Vec<CredentialView>,
    /// Threads that were given up and have not ended: each holds an item that the code hung on.
    pub abandoned: usize,
    /// Why the last transaction of the ledger failed; nothing leaves until one succeeds.
    pub ledger_fault: Option<String>,
}

impl AgentView {
    /// A pass is made at least this often, in seconds.
    pub const PASS_SECS: u64 = 5;
    /// A pass that is older than this is overdue: the longest that a slow disk may hold it up.
    pub const OVERDUE_SECS: u64 = 60;

    /// Whether the last pass is longer ago than it should be; `now` is a reading of [`time::monotonic`](crate::time::monotonic).
    pub fn is_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.passed).as_secs() > Self::OVERDUE_SECS
    }
}

/// Of how many items something is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Signers and credentials there are, unusable records included.
    pub known: usize,
    /// Those that could be looked at.
    pub checked: usize,
    /// The others, by name, with the reason.
    pub unreadable: BTreeMap<String, String>,
}

impl Coverage {
    /// How many were neither checked nor named as unreadable.
    pub fn unseen(&self) -> usize {
        self.known.saturating_sub(self.checked.saturating_add(self.unreadable.len()))
    }
}

/// How often an endpoint was asked for one reason, and with what result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Whom.
    pub endpoint: EndpointId,
    /// Why.
    pub cause: Cause,
    /// How it ended: one of [`Tally::RESULTS`].
    pub result: &'static str,
    /// How often.
    pub count: u64,
}

impl Tally {
    /// How a request can end.
    pub const RESULTS: [&str; 5] = ["issued", "later", "failed", "refused", "unknown"];
}

/// One of our own client certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialView {
    /// For which CA service.
    pub endpoint: EndpointId,
    /// When it expires, where it could be read.
    pub not_after: Option<Timestamp>,
    /// Why it cannot be used now.
    pub fault: Option<String>,
}

/// What renewal is to know of a registry. Issuers whose signers are files are the operator's; a record that cannot be used now
/// says nothing, even where its predecessor is served on.
pub fn view_of(reading: &Reading, renewal: &Renewal) -> RegistryView {
    let generation = &reading.generation;
    let mut quarantined: BTreeSet<IssuerId> = generation.quarantined.iter().filter_map(|q| q.id.clone()).collect();
    let issuers = generation.issuers.iter().filter_map(|issuer| {
        // A second record of one id is quarantined beside the first, which is used.
        let held_by = match issuer.stopped {
            Some(Stopped::Unusable(_)) => return None,
            Some(Stopped::Held(generation)) => Some(generation),
            None => None,
        };
        let SignerSource::Enrolled { enrolment, profile } = &issuer.signer_source else { return None };
        let spec = IssuerSpec {
            id: issuer.id.clone(),
            state: if held_by.is_some() { State::Disabled } else { issuer.state },
            held_by,
            endpoint: EndpointId::new(enrolment).ok()?,
            profile: profile.clone(),
            validity: issuer.response.validity,
            margin: renewal.margin,
            needs_approval: issuer.approval == Approval::Required,
            rest: digest(issuer),
        };
        quarantined.remove(&issuer.id);
        Some(spec)
    });
    let issuers: Vec<IssuerSpec> = issuers.collect();
    let quarantined = quarantined.into_iter().collect();
    RegistryView { generation: generation.number, synced_at: reading.synced_at, issuers, quarantined }
}

/// Of what of a record, besides whom to ask and how long a signer must live, decides which signer is accepted.
fn digest(issuer: &Issuer) -> u64 {
    let settings = format!("{:?} {:?}", issuer.signer, issuer.response);
    let whole = HashAlgorithm::Sha256.digest(&[issuer.certificate.der(), settings.as_bytes()].concat());
    whole.as_ref().iter().take(8).fold(0, |number, octet| number << 8 | u64::from(*octet))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_neither_checked_nor_named_has_not_been_seen() {
        let named = |n: usize| (0..n).map(|n| (n.to_string(), "why".to_owned())).collect();
        let of =
            |known, checked, unreadable| super::Coverage { known, checked, unreadable: named(unreadable) }.unseen();
        assert_eq!((of(3, 2, 1), of(3, 1, 1), of(0, 0, 0)), (0, 1, 0));
    }

    use super::*;
    use crate::config::Config;
    use crate::ocsp::Serial;
    use crate::registry::{Document, Quarantined, RecordRules};
    use crate::signer::{KeyKind, SigningKey};
    use crate::x509::issue::{CertificateSpec, name};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    #[test]
    fn renewal_sees_enrolled_issuers_and_nothing_of_a_record_that_cannot_be_used() {
        let (key, _) = SigningKey::generate(KeyKind::EcdsaP256).unwrap();
        let (serial, day) = (Serial::from_unsigned(&[1]).unwrap(), Duration::from_secs(86_400));
        let ca = CertificateSpec::ca(name(&[]), key.spki_der(), serial, NOW, NOW.plus(day)).issue(&key).unwrap();
        let text = "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"k\"\n[renewal]\nmargin = \"2h\"";
        let config = Config::parse(text, Path::new("x.toml")).unwrap();
        let record = |id: &str, state: &str, more: &str| {
            format!(r#"{{ "id": "{id}", "state": "{state}", "certificate": "c", "status": {{ "crl": "x" }}, {more} }}"#)
        };
        let ordered = r#""enrolment": "lab", "profile": "ocsp""#;
        let records = [
            record("on", "active", ordered),
            record("asks", "active", &format!(r#"{ordered}, "approval": "required""#)),
            record("off", "disabled", ordered),
            record("held", "active", ordered),
            record("files", "active", r#""signer": { "certificate": "s", "key": "k" }"#),
            record("on", "active", ordered), // the id is taken
            record("broken", "actve", ordered),
            record("served-on", "active", ordered),
        ];
        let text = format!(r#"{{ "generation": 3, "issuers": [ {} ] }}"#, records.join(", "));
        let document = Document::parse(text.as_bytes(), Path::new("i.json"), &RecordRules::of(&config)).unwrap();
        let mut generation = document.resolve(&mut |_| Ok(ca.der().to_vec()));
        // Its record was good once.
        let served_on = Arc::make_mut(generation.issuers.last_mut().unwrap());
        served_on.stopped = Some(Stopped::Unusable(NOW));
        let quarantined = Quarantined { id: Some(served_on.id.clone()), index: 7, faults: vec![] };
        generation.quarantined.push(quarantined);
        // A generation that is held stops this one.
        let held = generation.issuers.iter().position(|issuer| issuer.id.as_str() == "held").unwrap();
        Arc::make_mut(&mut generation.issuers[held]).stopped = Some(Stopped::Held(4));
        let generation = Arc::new(generation);
        let view = view_of(&Reading { generation, synced_at: NOW }, &config.renewal);
        let seen: Vec<_> = view.issuers.iter().map(|i| (i.id.as_str(), i.state, i.needs_approval, i.held_by)).collect();
        let expected = [
            ("on", State::Active, false, None),
            ("asks", State::Active, true, None),
            ("off", State::Disabled, false, None),
            ("held", State::Disabled, false, Some(4)),
        ];
        assert_eq!(seen, expected);
        assert_eq!(view.quarantined.iter().map(IssuerId::as_str).collect::<Vec<_>>(), ["broken", "served-on"]);
        assert_eq!((view.generation, view.issuers[0].margin), (3, Duration::from_secs(7_200)));
    }
}
