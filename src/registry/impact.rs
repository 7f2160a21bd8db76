//! What another document would change, and whether that is more than may change unasked. Pure.

use super::{Document, Generation, IssuerId, Quarantined, SignerSource, State, TombstoneCause};
use crate::config;
use crate::x509::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many names of a kind are written out where people read.
const NAMED: usize = 5;

/// What a document would change beside the generation in use. Each issuer is in one of the sets at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Impact {
    /// Issuers that are active or disabled now.
    pub known: usize,
    /// Not known so far, and active or disabled there.
    pub added: BTreeSet<IssuerId>,
    /// Their record is gone.
    pub removed: BTreeSet<IssuerId>,
    /// Active now, disabled there.
    pub disabled: BTreeSet<IssuerId>,
    /// Their record says retired.
    pub retired: BTreeSet<IssuerId>,
    /// Active again: disabled now, or remembered as gone.
    pub activated: BTreeSet<IssuerId>,
    /// Active as before, but with another enrolment, profile or CA certificate, or with signer files instead.
    pub moved: BTreeSet<IssuerId>,
    /// Their record cannot be used.
    pub unusable: BTreeSet<IssuerId>,
    /// Records that cannot be used and have no id, or that of another record: one of them may be an issuer's that seems to be gone.
    pub nameless: usize,
}

/// How much may change without an operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guard {
    /// The share of the known issuers, 0 to 1; 1 holds nothing.
    pub max_change: f64,
    /// Up to so many may change whatever their share.
    pub small_change: usize,
}

/// What a record says, as far as it is compared.
struct Said<'a> {
    state: State,
    asked: Option<(&'a str, &'a str)>,
    /// Where it has been read.
    certificate: Option<&'a Certificate>,
}

impl Said<'_> {
    /// Whether a signer for the one is one for the other.
    fn is_asked_alike(&self, other: &Said<'_>) -> bool {
        let same_ca = match (self.certificate, other.certificate) {
            (Some(a), Some(b)) => a.der() == b.der(),
            _ => true,
        };
        self.asked == other.asked && same_ca
    }
}

impl Impact {
    /// What `candidate` would change.
    pub fn of(current: &Generation, candidate: &Generation) -> Self {
        Impact::between(current, said_by(candidate), &candidate.quarantined)
    }

    /// What a document would change whose certificates have not been read.
    pub fn of_document(current: &Generation, candidate: &Document) -> Self {
        let said = candidate.said().map(|(id, state, source)| {
            (id, Said { state, asked: source.and_then(SignerSource::enrolled), certificate: None })
        });
        let said = said.collect();
        Impact::between(current, said, candidate.quarantined())
    }

    fn between(current: &Generation, said: BTreeMap<&IssuerId, Said<'_>>, quarantined: &[Quarantined]) -> Self {
        let (now, unusable_now, unusable_there) =
            (said_by(current), unusable(&current.quarantined), unusable(quarantined));
        let is_nameless = |q: &&Quarantined| q.id.as_ref().is_none_or(|id| said.contains_key(id));
        let mut impact = Impact { nameless: quarantined.iter().filter(is_nameless).count(), ..Impact::default() };
        for (id, before) in now.iter().filter(|(_, said)| said.state != State::Retired) {
            impact.known += 1;
            let set = match said.get(id) {
                None if unusable_there.contains(id) && unusable_now.contains(id) => continue,
                None if unusable_there.contains(id) => &mut impact.unusable,
                None => &mut impact.removed,
                Some(then) => match (before.state, then.state) {
                    (_, State::Retired) => &mut impact.retired,
                    (State::Active, State::Disabled) => &mut impact.disabled,
                    (State::Disabled, State::Active) => &mut impact.activated,
                    (State::Active, State::Active) if !before.is_asked_alike(then) => &mut impact.moved,
                    _ => continue,
                },
            };
            set.insert((*id).clone());
        }
        // Records that could not be used and are not served, since a restart perhaps: known all the same.
        for id in unusable_now.iter().filter(|id| !now.contains_key(*id)) {
            impact.known += 1;
            let set = match said.get(id) {
                Some(then) if then.state == State::Retired => &mut impact.retired,
                None if !unusable_there.contains(id) => &mut impact.removed,
                _ => continue,
            };
            set.insert((*id).clone());
        }
        let buried: BTreeSet<&IssuerId> = current.tombstones.iter().map(|t| &t.id).collect();
        for (id, then) in said.iter().filter(|(_, then)| then.state != State::Retired) {
            if !now.get(id).is_some_and(|before| before.state != State::Retired) {
                let back = then.state == State::Active && (buried.contains(id) || unusable_now.contains(id));
                let set = if back { &mut impact.activated } else { &mut impact.added };
                set.insert((*id).clone());
            }
        }
        impact
    }

    /// The sets that are not empty, each with its name.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &BTreeSet<IssuerId>)> {
        let kinds = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("disabled", &self.disabled),
            ("retired", &self.retired),
            ("activated", &self.activated),
            ("moved", &self.moved),
            ("unusable", &self.unusable),
        ];
        kinds.into_iter().filter(|(_, issuers)| !issuers.is_empty())
    }

    /// Whether no signer is to be asked for any more as it is now.
    pub fn stops(&self, issuer: &IssuerId) -> bool {
        [&self.removed, &self.disabled, &self.retired, &self.moved, &self.unusable].iter().any(|s| s.contains(issuer))
    }

    /// Whether an issuer that is gone may be one whose id was mistyped.
    fn may_be_a_slip(&self) -> bool {
        self.nameless > 0 && !self.removed.is_empty()
    }

    /// How many issuers change.
    pub fn changed(&self) -> usize {
        self.kinds().map(|(_, issuers)| issuers.len()).sum()
    }
}

/// One line: `7 issuers would change, 60 are known: 6 disabled (a, b, c, d, e, …), 1 removed (f)`.
impl fmt::Display for Impact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} issuers would change, {} are known", self.changed(), self.known)?;
        for (n, (kind, issuers)) in self.kinds().enumerate() {
            let names: Vec<&str> = issuers.iter().take(NAMED).map(IssuerId::as_str).collect();
            let more = if issuers.len() > NAMED { ", …" } else { "" };
            let before = if n == 0 { ": " } else { ", " };
            write!(f, "{before}{} {kind} ({}{more})", issuers.len(), names.join(", "))?;
        }
        if self.may_be_a_slip() {
            write!(
                f,
                "; {} records have no id of their own: a slip in one, perhaps, and no issuer is gone",
                self.nameless
            )?;
        }
        Ok(())
    }
}

impl Guard {
    /// That of a configuration.
    pub fn of(registry: &config::Registry) -> Self {
        Guard { max_change: registry.max_change, small_change: registry.small_change }
    }

    /// Whether an operator is to be asked first: because of how much changes, or because an issuer would go by a slip. Where nothing was
    /// known, there is nothing to guard.
    pub fn holds(&self, impact: &Impact) -> bool {
        let changed = impact.changed();
        impact.known > 0
            && self.max_change < 1.0
            && (impact.may_be_a_slip()
                || changed > self.small_change && changed as f64 > self.max_change * impact.known as f64)
    }
}

fn said_by(generation: &Generation) -> BTreeMap<&IssuerId, Said<'_>> {
    let retired = generation.tombstones.iter().filter(|t| t.cause == TombstoneCause::Retired);
    let retired = retired.map(|t| (&t.id, Said { state: State::Retired, asked: None, certificate: None }));
    let live = generation.issuers.iter().map(|i| {
        // What is not asked for now is asked for anew when its record can be used again.
        let state = if i.stopped.is_some() { State::Disabled } else { i.state };
        (&i.id, Said { state, asked: i.signer_source.enrolled(), certificate: Some(&i.certificate) })
    });
    retired.chain(live).collect()
}

fn unusable(quarantined: &[Quarantined]) -> BTreeSet<&IssuerId> {
    quarantined.iter().filter_map(|q| q.id.as_ref()).collect()
}

#[cfg(test)]
mod tests;
