//! A registry that is a file: followed, never backwards, and remembered across restarts.
//!
//! [`FileSource::poll`] reads the file and the certificates it names, each time: they are small, and neither time stamps
//! nor lengths tell every change. It decides:
//!
//! * nothing changed: [`Poll::Unchanged`];
//! * a higher generation, or the same document with other certificates or rules: [`Poll::Changed`];
//! * a lower generation, or the same generation with another content: refused, the previous one stays. One number is one
//!   content, or two machines that read at different times would disagree for ever;
//! * a record that has become unusable: the rest is used, and the issuer is served on as the last good record says, but
//!   not renewed;
//! * unreadable, not JSON, too long: refused, the previous one stays. After a restart the previous one is the copy under
//!   the state directory.

use super::document::Document;
use super::memory::{MAX_TOMBSTONES, Memory, Vault, read_bounded};
use super::{Generation, Issuer, IssuerId, MAX_LEN, RecordRules, State, Tombstone, TombstoneCause};
use crate::config::{Fault, Faults};
use crate::time::Timestamp;
use crate::x509::Certificate;
use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256, digest};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a process with this state directory would refuse the document because of what it has seen: why, if so. Changes
/// nothing.
pub fn would_refuse(state_dir: &Path, number: u64, document: &[u8]) -> Option<String> {
    let memory = Vault::look(state_dir).memory().ok().flatten()?;
    memory.refusal(number, &HEXLOWER.encode(digest(&SHA256, document).as_ref()))
}

/// What a look at the file brought.
#[derive(Clone, Debug)]
pub enum Poll {
    /// The file says what it said before.
    Unchanged,
    /// There is a new state of the registry.
    Changed(Arc<Generation>),
    /// The file cannot be used. [`FileSource::current`] still holds.
    Refused(Faults),
    /// The file cannot be used, and the copy from before the restart has been taken instead.
    Restored(Arc<Generation>, Faults),
}

/// A registry file and what has been seen of it.
#[derive(Debug)]
pub struct FileSource {
    file: PathBuf,
    rules: RecordRules,
    vault: Vault,
    memory: Memory,
    current: Option<Arc<Generation>>,
    /// Digest of everything the current generation was made of: document, certificates.
    fingerprint: [u8; 32],
    last_success: Option<Timestamp>,
    /// The copy on disk is behind.
    unsaved: bool,
    /// What is wrong with the state directory, told with the first generation.
    startup: Vec<Fault>,
}

impl FileSource {
    /// A source for `file`, with the memory kept under `state_dir`. Reads only the memory.
    ///
    /// # Errors
    /// When `{state_dir}/registry` cannot be made or read.
    pub fn open(file: &Path, state_dir: &Path, rules: RecordRules) -> io::Result<Self> {
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
        let mut source = FileSource {
            file: file.to_path_buf(),
            rules,
            vault,
            memory,
            current: None,
            fingerprint: [0; 32],
            last_success: None,
            unsaved: false,
            startup,
        };
        source.trust_the_copy()?;
        Ok(source)
    }

    /// The state of the registry that holds, once there is one.
    pub fn current(&self) -> Option<&Arc<Generation>> {
        self.current.as_ref()
    }

    /// When the file was last read and found usable: the age of the registry counts from here.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }

    /// Checks records against other rules from the next [`FileSource::poll`] on.
    pub fn set_rules(&mut self, rules: RecordRules) {
        if rules != self.rules {
            self.rules = rules;
            self.fingerprint = [0; 32];
        }
    }

    /// Looks at the file. Blocks for as long as reading it and the certificates takes.
    pub fn poll(&mut self, now: Timestamp) -> Poll {
        match self.read().and_then(|bytes| self.consider(&bytes)) {
            Ok(change) => {
                self.last_success = Some(now);
                change.map_or(Poll::Unchanged, Poll::Changed)
            }
            Err(faults) => match self.current {
                Some(_) => Poll::Refused(faults),
                None => self.restore(faults),
            },
        }
    }

    fn read(&self) -> Result<Vec<u8>, Faults> {
        read_bounded(&self.file, MAX_LEN)
            .map_err(|e| Fault::of_file(&self.file, format!("the registry cannot be read: {e}")).into())
    }

    /// Takes a document or refuses it; `None` when nothing changed.
    fn consider(&mut self, bytes: &[u8]) -> Result<Option<Arc<Generation>>, Faults> {
        let document = Document::parse(bytes, &self.file, &self.rules)?;
        let digest = HEXLOWER.encode(digest(&SHA256, bytes).as_ref());
        if let Some(why) = self.memory.refusal(document.number(), &digest) {
            return Err(Fault::of_file(&self.file, why).into());
        }
        let ids = document.ids();
        let (mut generation, fingerprint) = resolve(document, bytes);
        if self.current.is_some() && fingerprint == self.fingerprint {
            if self.unsaved {
                self.unsaved = self.vault.keep(bytes, &self.memory).is_err();
            }
            return Ok(None);
        }
        let mut memory = self.remember(&mut generation, &ids);
        memory.digest = digest;
        if memory != self.memory {
            // Serving goes on without the copy; the next look tries again to write it.
            self.unsaved = false;
            if let Err(e) = self.vault.keep(bytes, &memory) {
                let text = format!(
                    "the registry's copy cannot be kept: {e}; a restart with a broken registry would find an older one"
                );
                generation.notes.push(Fault::of_file(self.vault.memory_path(), text));
                self.unsaved = true;
            }
            self.memory = memory;
        }
        self.serve_on(&mut generation);
        generation.notes.append(&mut self.startup);
        self.fingerprint = fingerprint;
        let generation = Arc::new(generation);
        self.current = Some(Arc::clone(&generation));
        Ok(Some(generation))
    }

    /// An issuer whose record has become unusable is served on as its last good record says: a slip of the pen must not
    /// take it off the network. It is not renewed, since nothing says any more that it is active.
    fn serve_on(&self, generation: &mut Generation) {
        let Some(previous) = &self.current else { return };
        for quarantined in &generation.quarantined {
            let Some(id) = &quarantined.id else { continue };
            let spoken_of =
                generation.issuers.iter().any(|i| i.id == *id) || generation.tombstones.iter().any(|t| t.id == *id);
            if let Some(issuer) = previous.issuers.iter().find(|i| i.id == *id && !spoken_of) {
                let text =
                    format!("{id}: its record cannot be used; until a restart it is served as before, and not renewed");
                generation.notes.push(match quarantined.faults.first().and_then(|f| f.at) {
                    Some(at) => Fault::at(&self.file, at, text),
                    None => Fault::of_file(&self.file, text),
                });
                generation.issuers.push(Arc::new(Issuer { state: State::Disabled, ..Issuer::clone(issuer) }));
            }
        }
    }

    /// Adds the tombstones of before and of what is gone, and notes those that are back.
    fn remember(&self, generation: &mut Generation, ids: &HashSet<IssuerId>) -> Memory {
        let retired: HashSet<IssuerId> = generation.tombstones.iter().map(|t| t.id.clone()).collect();
        for old in &self.memory.tombstones {
            if retired.contains(&old.id) {
                // The first generation in which it was gone is the one to remember.
                for t in generation.tombstones.iter_mut().filter(|t| t.id == old.id) {
                    t.generation = old.generation;
                }
            } else if let Some(back) = generation.issuers.iter().find(|i| i.id == old.id) {
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
                generation.notes.push(Fault::at(&self.file, back.at, text));
            } else if !ids.contains(&old.id) {
                generation.tombstones.push(old.clone());
            }
        }
        let buried: HashSet<IssuerId> = generation.tombstones.iter().map(|t| t.id.clone()).collect();
        for id in self.memory.known.iter().filter(|id| !ids.contains(id) && !buried.contains(id)) {
            let number = generation.number;
            generation.tombstones.push(Tombstone {
                id: id.clone(),
                cause: TombstoneCause::Removed,
                generation: number,
            });
        }
        let surplus = generation.tombstones.len().saturating_sub(MAX_TOMBSTONES);
        if surplus > 0 {
            generation.tombstones.sort_by_key(|t| t.generation);
            generation.tombstones.drain(..surplus);
        }
        let mut known: Vec<IssuerId> = ids.iter().filter(|id| !retired.contains(id)).cloned().collect();
        known.sort();
        Memory {
            generation: generation.number,
            digest: String::new(),
            known,
            tombstones: generation.tombstones.clone(),
        }
    }

    /// The copy may be one generation ahead of the memory (a crash between the two writes), or all there is.
    fn trust_the_copy(&mut self) -> io::Result<()> {
        let Some(bytes) = self.vault.document()? else { return Ok(()) };
        if let Ok(copy) = Document::parse(&bytes, &self.file, &self.rules)
            && copy.number() > self.memory.generation
        {
            self.memory.generation = copy.number();
            self.memory.digest = HEXLOWER.encode(digest(&SHA256, &bytes).as_ref());
        }
        Ok(())
    }

    /// Falls back to the copy, if there is one that the memory vouches for.
    fn restore(&mut self, mut faults: Faults) -> Poll {
        match self.vault.document() {
            Ok(Some(bytes)) => match self.consider(&bytes) {
                Ok(Some(generation)) => Poll::Restored(generation, faults),
                Ok(None) => Poll::Refused(faults),
                Err(more) => {
                    faults.0.extend(more.0);
                    Poll::Refused(faults)
                }
            },
            Ok(None) => Poll::Refused(faults),
            Err(e) => {
                faults.0.push(Fault::of_file(self.vault.memory_path(), format!("the copy cannot be read: {e}")));
                Poll::Refused(faults)
            }
        }
    }
}

/// Reads the certificates; also the digest of all that was read.
fn resolve(document: Document, bytes: &[u8]) -> (Generation, [u8; 32]) {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    let generation = document.resolve(&mut |path| {
        let read = read_bounded(path, Certificate::MAX_LEN * 2);
        // Content and failure are kept apart, and so are neighbours.
        let seen = read.as_ref().map_or_else(|e| digest(&SHA256, e.to_string().as_bytes()), |b| digest(&SHA256, b));
        context.update(&[u8::from(read.is_ok())]);
        context.update(seen.as_ref());
        read
    });
    let mut fingerprint = [0; 32];
    for (to, from) in fingerprint.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    (generation, fingerprint)
}

#[cfg(test)]
mod tests;
