//! What follows from the generations before.

use super::super::document::Document;
use super::super::memory::{MAX_TOMBSTONES, Memory};
use super::super::{Generation, Issuer, IssuerId, KeyDigest, Stopped, Tombstone, TombstoneCause};
use super::Follower;
use crate::config::Fault;
use crate::time::Timestamp;
use crate::x509::Certificate;
use ring::digest::{Context, SHA256, digest};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

impl Follower {
    /// Reads the certificates; also the digest of all that was read.
    pub(super) fn resolve(&mut self, document: Document, bytes: &[u8]) -> (Generation, [u8; 32]) {
        let Follower { files, memory, .. } = self;
        files.begin();
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        let mut read = |path: &Path| {
            let read = files.read(path, Certificate::MAX_LEN * 2);
            // Content and failure are kept apart, and so are neighbours.
            let seen = read.as_ref().map_or_else(|e| digest(&SHA256, e.to_string().as_bytes()), |b| digest(&SHA256, b));
            context.update(&[u8::from(read.is_ok())]);
            context.update(seen.as_ref());
            read
        };
        let retired = memory.tombstones.iter().filter(|t| t.cause == TombstoneCause::Retired);
        let retired: HashMap<KeyDigest, &Tombstone> = retired.filter_map(|t| Some((t.key?, t))).collect();
        let known: HashSet<&IssuerId> = memory.known.iter().collect();
        let generation = document.resolve_after(&mut read, &|id, key| {
            let gone = retired.get(&key).filter(|gone| gone.id != *id && !known.contains(id))?;
            Some(format!(
                "this CA key was retired as {0} in generation {1} and does not come back under another id; if it shall, give the record the id {0}",
                gone.id, gone.generation
            ))
        });
        let mut fingerprint = [0; 32];
        fingerprint.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        (generation, fingerprint)
    }

    /// An issuer whose record has become unusable is served on as its last good record says: a slip of the pen must not
    /// take it off the network. It is not renewed, since nothing says any more that it is active; nor that it is not, so that
    /// its end is nobody's wish.
    pub(super) fn serve_on(&self, generation: &mut Generation, now: Timestamp) {
        let Some(previous) = self.current() else { return };
        let spoken_of: HashSet<&IssuerId> =
            generation.issuers.iter().map(|i| &i.id).chain(generation.tombstones.iter().map(|t| &t.id)).collect();
        let known: HashMap<&IssuerId, &Arc<Issuer>> = previous.issuers.iter().map(|i| (&i.id, i)).collect();
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for quarantined in &generation.quarantined {
            let Some(id) = quarantined.id.as_ref().filter(|id| !spoken_of.contains(id)) else { continue };
            let Some(issuer) = known.get(id).filter(|_| seen.insert(id)) else { continue };
            let text =
                format!("{id}: its record cannot be used; until a restart it is served as before, and not renewed");
            let note = match quarantined.faults.first().and_then(|f| f.at) {
                Some(at) => Fault::at(&self.name, at, text),
                None => Fault::of_file(&self.name, text),
            };
            let stopped = issuer.stopped.unwrap_or(Stopped::Unusable(now));
            kept.push((note, Arc::new(Issuer { stopped: Some(stopped), ..Issuer::clone(issuer) })));
        }
        for (note, issuer) in kept {
            generation.notes.push(note);
            generation.issuers.push(issuer);
        }
    }

    /// Adds the tombstones of before and of what is gone, and notes those that are back.
    pub(super) fn remember(&self, generation: &mut Generation, ids: &HashSet<IssuerId>, digest: &str) -> Memory {
        let retired: HashMap<IssuerId, usize> =
            generation.tombstones.iter().enumerate().map(|(n, t)| (t.id.clone(), n)).collect();
        let live: HashMap<&IssuerId, &Arc<Issuer>> = generation.issuers.iter().map(|i| (&i.id, i)).collect();
        for old in &self.memory.tombstones {
            if let Some(tombstone) = retired.get(&old.id).and_then(|n| generation.tombstones.get_mut(*n)) {
                // The first generation in which it was gone is the one to remember.
                tombstone.generation = old.generation;
                tombstone.key = old.key.or(tombstone.key);
            } else if let Some(back) = live.get(&old.id) {
                let gone = match old.cause {
                    TombstoneCause::Retired => "retired",
                    TombstoneCause::Removed => "removed",
                };
                let text = format!(
                    "{} was {gone} in generation {} and is {} again",
                    old.id,
                    old.generation,
                    back.state.name()
                );
                generation.notes.push(Fault::at(&self.name, back.at, text));
            } else if !ids.contains(&old.id) {
                generation.tombstones.push(old.clone());
            }
        }
        let was: HashMap<&IssuerId, KeyDigest> = self
            .current()
            .map(|was| was.issuers.iter().map(|issuer| (&issuer.id, KeyDigest::of(&issuer.certificate))).collect())
            .unwrap_or_default();
        // What was in use tells the key better than a certificate that stands in a record for nobody any more.
        for tombstone in &mut generation.tombstones {
            tombstone.key = was.get(&tombstone.id).copied().or(tombstone.key);
        }
        let buried: HashSet<IssuerId> = generation.tombstones.iter().map(|t| t.id.clone()).collect();
        for id in self.memory.known.iter().filter(|id| !ids.contains(id) && !buried.contains(id)) {
            let number = generation.number;
            generation.tombstones.push(Tombstone {
                id: id.clone(),
                cause: TombstoneCause::Removed,
                generation: number,
                key: was.get(id).copied(),
            });
        }
        let surplus = generation.tombstones.len().saturating_sub(MAX_TOMBSTONES);
        if surplus > 0 {
            generation.tombstones.sort_by_key(|t| t.generation);
            generation.tombstones.drain(..surplus);
        }
        // A record that could not be used and never was is nothing that one can miss, or go on with.
        let before: HashSet<&IssuerId> = self.memory.known.iter().collect();
        let is_known = |id: &&IssuerId| !retired.contains_key(*id) && (live.contains_key(*id) || before.contains(*id));
        let mut known: Vec<IssuerId> = ids.iter().filter(is_known).cloned().collect();
        known.sort();
        Memory {
            generation: generation.number,
            digest: digest.to_owned(),
            known,
            tombstones: generation.tombstones.clone(),
            held: self.memory.held.clone().filter(|held| held.generation > generation.number),
        }
    }
}
