//! Which document is in use: never backwards, remembered across restarts, and not too different from the one before.

mod before;

use super::document::Document;
use super::files::Files;
use super::memory::{HeldNote, Memory, Synced, Vault};
use super::{Generation, Guard, Impact, Issuer, IssuerId, RecordRules, State, Stopped};
use crate::config::{Fault, Faults};
use crate::time::Timestamp;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often it is written down that the source still says the same: a restart makes the registry look older by as much.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// The copy of the document that was in use last, if there is one. Changes nothing.
pub fn last_good(state_dir: &Path) -> io::Result<Option<Vec<u8>>> {
    Vault::look(state_dir).document()
}

/// Whether a process with this state directory would refuse the document because of what it has seen: why, if so. Changes
/// nothing.
pub fn would_refuse(state_dir: &Path, number: u64, document: &[u8]) -> Option<String> {
    let memory = Vault::look(state_dir).memory().ok().flatten()?;
    memory.refusal(number, &sha256(document))
}

/// What a document changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is in use now.
    Taken,
    /// It waits for an operator; the one before stays in use.
    Held,
}

/// A generation that waits for an operator.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it would be.
    pub generation: Arc<Generation>,
    /// What it would change.
    pub impact: Impact,
    /// When it was first seen.
    pub since: Timestamp,
}

/// Why an approval was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// No generation waits.
    #[error("no generation of the registry is held")]
    NothingHeld,
    /// Another one waits, which the operator has not seen.
    #[error("generation {0} is held, not the one that was approved; look at what it changes, and approve that")]
    Another(u64),
    /// The approval cannot be written down: a restart would hold the generation again.
    #[error("the approval cannot be kept in the state directory: {0}")]
    NotKept(io::Error),
    /// It could be used when it came, and cannot be any more.
    #[error("it cannot be used any more:\n{0}")]
    Unusable(Faults),
    /// The registry's thread does not answer.
    #[error("the registry is busy: {0}")]
    Busy(String),
}

/// What has been seen of a registry. It is shown documents, whoever fetched them, and decides:
///
/// * a higher generation, or the same document with other certificates or rules: used ([`Change::Taken`]);
/// * a higher generation that would change more than the [`Guard`] lets through: held ([`Change::Held`]) until it is
///   [approved](Follower::approve), a higher one comes, or the guard is changed. The first generation is never held;
/// * a lower generation than one that was used or held, or the same generation with another content: refused. One number is
///   one content, or two machines that read at different times would disagree for ever;
/// * a record that has become unusable: the rest is used, and the issuer is served on as the last good record says, but
///   not renewed ([`Stopped::Unusable`](super::Stopped));
/// * unreadable, not JSON, too long: refused, the previous one stays.
///
/// After a restart it begins with the copy under the state directory, as old as it is.
#[derive(Debug)]
pub struct Follower {
    name: PathBuf,
    rules: RecordRules,
    guard: Guard,
    vault: Vault,
    files: Files,
    memory: Memory,
    current: Option<InUse>,
    held: Option<Waiting>,
    /// Digest of the last document that was found usable.
    usable: Option<String>,
    synced: Option<Timestamp>,
    noted: Option<Synced>,
    /// The copy on disk is behind.
    unsaved: bool,
    /// So is that of what is held.
    held_unsaved: bool,
    /// What is wrong with the state directory, told with the first generation.
    startup: Vec<Fault>,
    revision: u64,
}

#[derive(Debug)]
struct InUse {
    generation: Arc<Generation>,
    /// Digest of everything it was made of: document, certificates.
    fingerprint: [u8; 32],
    document: Arc<[u8]>,
}

#[derive(Debug)]
struct Waiting {
    held: Arc<Held>,
    fingerprint: [u8; 32],
    document: Arc<[u8]>,
}

impl Follower {
    /// Goes on from what is kept under `state_dir`. `name` is what faults call the registry: its file, or its URL.
    ///
    /// # Errors
    /// When `{state_dir}/registry` cannot be made or read.
    pub fn open(name: &Path, state_dir: &Path, rules: RecordRules, guard: Guard, now: Timestamp) -> io::Result<Self> {
        let vault = Vault::open(state_dir)?;
        let mut startup = Vec::new();
        let memory = match vault.memory() {
            Ok(memory) => memory.unwrap_or_default(),
            Err(e) => {
                // The copy of the document still holds the generation back; only the tombstones are lost.
                let text = format!("{e}; the tombstones are forgotten and the file is written anew");
                startup.push(Fault::of_file(vault.memory_path(), text));
                Memory::default()
            }
        };
        let mut follower = Follower {
            name: name.to_path_buf(),
            rules,
            guard,
            vault,
            files: Files::default(),
            memory,
            current: None,
            held: None,
            usable: None,
            synced: None,
            noted: None,
            unsaved: false,
            held_unsaved: false,
            startup,
            revision: 0,
        };
        follower.take_the_copies(now)?;
        Ok(follower)
    }

    /// The state of the registry that holds, once there is one.
    pub fn current(&self) -> Option<&Arc<Generation>> {
        self.current.as_ref().map(|current| &current.generation)
    }

    /// The generation that waits for an operator, if one does.
    pub fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref().map(|waiting| &waiting.held)
    }

    /// By what signers may be asked for: what is in use, marked there what is stopped by what is held.
    pub fn renewable(&self) -> Option<Arc<Generation>> {
        let current = self.current()?;
        let Some(held) = self.held() else { return Some(Arc::clone(current)) };
        let mut generation = Generation::clone(current);
        let stopped = Some(Stopped::Held(held.generation.number));
        let is_stopped = |issuer: &Issuer| {
            issuer.state == State::Active && issuer.stopped.is_none() && held.impact.stops(&issuer.id)
        };
        for issuer in generation.issuers.iter_mut().filter(|issuer| is_stopped(issuer)) {
            *issuer = Arc::new(Issuer { stopped, ..Issuer::clone(issuer) });
        }
        Some(Arc::new(generation))
    }

    /// When the source was last read and found usable, be it in use or held: the age of the registry counts from here. It is
    /// remembered across restarts.
    pub fn synced(&self) -> Option<Timestamp> {
        self.synced
    }

    /// What faults call the registry.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Grows with each change of [`Follower::current`] or [`Follower::held`].
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Goes on under another name, other rules for records, another guard. What is in use is looked at again by those
    /// rules; what is held, at the next document.
    pub fn set_terms(&mut self, name: &Path, rules: RecordRules, guard: Guard, now: Timestamp) -> Change {
        self.guard = guard;
        self.usable = None;
        if rules == self.rules && name == self.name {
            return Change::None;
        }
        self.name = name.to_path_buf();
        self.rules = rules;
        // What is read by other rules is another content.
        if let Some(current) = &mut self.current {
            current.fingerprint = [0; 32];
        }
        if let Some(waiting) = &mut self.held {
            waiting.fingerprint = [0; 32];
        }
        self.look_again(now)
    }

    /// Takes a document, holds it or refuses it. Blocks for as long as reading the certificates takes: a file system that hangs for
    /// 5 s at most, each further one for 1 s; the records whose certificates lie there cannot be used then. If it is `quick`,
    /// a document that is the same as before is not looked at any further: neither time stamps nor lengths tell every change
    /// of a certificate's file, so that they are read otherwise each time.
    pub fn consider(&mut self, document: &[u8], quick: bool, now: Timestamp) -> Result<Change, Faults> {
        let digest = sha256(document);
        let change = match quick && self.usable.as_ref() == Some(&digest) {
            true => Change::None,
            false => {
                self.usable = None;
                self.decide(document, &digest, now)?
            }
        };
        self.note(&digest, now);
        self.usable = Some(digest);
        Ok(change)
    }

    /// Takes the generation over that is held. Once written down, no restart asks again.
    pub fn approve(&mut self, generation: u64, who: &str, now: Timestamp) -> Result<(), ApproveError> {
        let (Some(waiting), Some(note)) = (&self.held, &mut self.memory.held) else {
            return Err(ApproveError::NothingHeld);
        };
        let number = waiting.held.generation.number;
        if number != generation {
            return Err(ApproveError::Another(number));
        }
        note.approved = Some((who.to_owned(), now));
        let document = Arc::clone(&waiting.document);
        if let Err(e) = self.vault.remember(&self.memory) {
            if let Some(note) = &mut self.memory.held {
                note.approved = None;
            }
            return Err(ApproveError::NotKept(e));
        }
        self.decide(&document, &sha256(&document), now).map(drop).map_err(ApproveError::Unusable)
    }

    fn decide(&mut self, bytes: &[u8], digest: &str, now: Timestamp) -> Result<Change, Faults> {
        let document = Document::parse(bytes, &self.name, &self.rules)?;
        if let Some(why) = self.memory.refusal(document.number(), digest) {
            return Err(Fault::of_file(&self.name, why).into());
        }
        let ids = document.ids();
        let (generation, fingerprint) = self.resolve(document, bytes);
        match self.impact_to_hold(&generation, digest) {
            None => Ok(self.take(generation, &ids, fingerprint, bytes, digest, now)),
            Some(impact) => {
                // The source no longer shows what is in use; its certificates and rules may have changed all the same.
                let taken = self.look_again(now);
                Ok(match self.hold(generation, impact, fingerprint, bytes, digest, now) {
                    Change::None => taken,
                    held => held,
                })
            }
        }
    }

    fn impact_to_hold(&self, generation: &Generation, digest: &str) -> Option<Impact> {
        let current = self.current()?;
        let approved = self.memory.held.as_ref().is_some_and(|h| h.sha256 == digest && h.approved.is_some());
        if generation.number <= self.memory.generation || approved {
            return None;
        }
        Some(Impact::of(current, generation)).filter(|impact| self.guard.holds(impact))
    }

    fn take(
        &mut self,
        mut generation: Generation,
        ids: &HashSet<IssuerId>,
        fingerprint: [u8; 32],
        bytes: &[u8],
        digest: &str,
        now: Timestamp,
    ) -> Change {
        let same = self.current.as_ref().is_some_and(|current| current.fingerprint == fingerprint);
        let memory = self.remember(&mut generation, ids, digest);
        if memory != self.memory || self.unsaved {
            // Serving goes on without the copy; the next look tries again to write it.
            match self.vault.keep(bytes, &memory) {
                Ok(()) => self.unsaved = false,
                Err(e) => {
                    self.unsaved = true;
                    generation.notes.push(self.not_saved(&e));
                }
            }
            self.memory = memory;
        }
        if self.memory.held.is_none() && self.held.take().is_some() {
            self.revision += 1;
        }
        if same {
            return Change::None;
        }
        self.serve_on(&mut generation, now);
        generation.notes.append(&mut self.startup);
        self.current = Some(InUse { generation: Arc::new(generation), fingerprint, document: bytes.into() });
        self.revision += 1;
        Change::Taken
    }

    fn hold(
        &mut self,
        mut generation: Generation,
        impact: Impact,
        fingerprint: [u8; 32],
        bytes: &[u8],
        digest: &str,
        now: Timestamp,
    ) -> Change {
        let before = self.memory.held.take().filter(|note| note.sha256 == digest);
        let is_known = before.is_some();
        let note = before.unwrap_or_else(|| HeldNote {
            generation: generation.number,
            sha256: digest.to_owned(),
            since: now,
            approved: None,
        });
        let since = note.since;
        self.memory.held = Some(note);
        if !is_known || self.held_unsaved {
            match self.vault.hold(bytes, &self.memory) {
                Ok(()) => self.held_unsaved = false,
                Err(e) => {
                    self.held_unsaved = true;
                    generation.notes.push(self.not_saved(&e));
                }
            }
        }
        if self.held.as_ref().is_some_and(|w| w.fingerprint == fingerprint && w.held.impact == impact) {
            return Change::None;
        }
        let held = Arc::new(Held { generation: Arc::new(generation), impact, since });
        self.held = Some(Waiting { held, fingerprint, document: bytes.into() });
        self.revision += 1;
        Change::Held
    }

    /// Looks at what is in use again, by the rules and certificates of now.
    fn look_again(&mut self, now: Timestamp) -> Change {
        let Some(current) = &self.current else { return Change::None };
        let bytes = Arc::clone(&current.document);
        let Ok(document) = Document::parse(&bytes, &self.name, &self.rules) else { return Change::None };
        let ids = document.ids();
        let (generation, fingerprint) = self.resolve(document, &bytes);
        self.take(generation, &ids, fingerprint, &bytes, &sha256(&bytes), now)
    }

    fn not_saved(&self, error: &io::Error) -> Fault {
        let text = format!(
            "the registry's copy cannot be kept: {error}; a restart with a broken registry would find an older one"
        );
        Fault::of_file(self.vault.memory_path(), text)
    }

    fn note(&mut self, digest: &str, now: Timestamp) {
        self.synced = Some(now);
        let due = self
            .noted
            .as_ref()
            .is_none_or(|noted| noted.sha256 != digest || now < noted.at || now.since(noted.at) >= NOTE_EVERY);
        if due {
            let synced = Synced { sha256: digest.to_owned(), at: now };
            // A disk that takes nothing is told by the copy; without this the registry is older after a restart than it is.
            let _ = self.vault.write_synced(&synced);
            self.noted = Some(synced);
        }
    }

    /// Begins with the copies. A document may be one generation ahead of the memory (a crash between the two writes), or all
    /// there is.
    fn take_the_copies(&mut self, now: Timestamp) -> io::Result<()> {
        let copy = self.vault.document()?;
        if let Some(bytes) = &copy
            && let Ok(document) = Document::parse(bytes, &self.name, &self.rules)
            && document.number() > self.memory.generation
        {
            self.memory.generation = document.number();
            self.memory.digest = sha256(bytes);
        }
        let mut waiting = self.vault.held()?.filter(|bytes| {
            let digest = sha256(bytes);
            let number = Document::parse(bytes, &self.name, &self.rules).map_or(0, |document| document.number());
            let seen = self.memory.held.as_ref().map_or(self.memory.generation, |held| held.generation);
            number > seen || self.memory.held.as_ref().is_some_and(|held| held.sha256 == digest)
        });
        if self.memory.held.as_ref().is_some_and(|held| held.generation <= self.memory.generation) {
            self.memory.held = None;
            waiting = None;
        }
        // What waits is shown after what is in use.
        let note = self.memory.held.take();
        if let Some(bytes) = copy {
            self.restore(&bytes, self.vault.document_path(), now);
        }
        // The memory may just have been written without it.
        self.held_unsaved = note.is_some();
        self.memory.held = note;
        if let Some(bytes) = waiting {
            self.restore(&bytes, self.vault.held_path(), now);
        }
        let synced = self.vault.synced().filter(|synced| synced.at <= now);
        let held = self.memory.held.as_ref().map(|held| &held.sha256);
        self.synced = synced
            .filter(|s| self.current.is_some() && (s.sha256 == self.memory.digest || Some(&s.sha256) == held))
            .map(|s| s.at);
        Ok(())
    }

    fn restore(&mut self, bytes: &[u8], from: PathBuf, now: Timestamp) {
        let Err(faults) = self.decide(bytes, &sha256(bytes), now) else { return };
        // Read under the name of the source, where its faults are looked for otherwise.
        self.startup.extend(faults.0.into_iter().map(|fault| Fault {
            file: if fault.file == self.name { from.clone() } else { fault.file },
            message: format!("the copy of the registry cannot be used: {}", fault.message),
            ..fault
        }));
    }
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests;
