//! What is remembered of the registry across restarts: the last good document, the highest generation, the tombstones.
//!
//! Files under `{state_dir}/registry/`, each written aside, synced and renamed: `last-good.json`, the document octet
//! for octet; `held.json`, one that waits for an operator; `memory.json`, what follows from both; `synced.json`, when the
//! source last said so. A document goes before the memory of it, so that after a crash between the two the memory is at
//! most one generation old and the document says so.

use super::{IssuerId, KeyDigest, Tombstone, TombstoneCause};
use crate::time::Timestamp;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The most tombstones that are remembered; beyond it the oldest are forgotten.
pub(super) const MAX_TOMBSTONES: usize = 100_000;

/// What has been seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The highest generation that was ever used; 0 for none.
    pub(super) generation: u64,
    /// SHA-256 of its document, in hexadecimal.
    pub(super) digest: String,
    /// Ids that were live in it.
    pub(super) known: Vec<IssuerId>,
    /// Issuers that are gone.
    pub(super) tombstones: Vec<Tombstone>,
    /// A higher generation that waits for an operator.
    pub(super) held: Option<HeldNote>,
}

/// What is remembered of a generation that is held.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldNote {
    pub(super) generation: u64,
    pub(super) sha256: String,
    pub(super) since: Timestamp,
    /// Who approved it, and when: it is to be taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approved: Option<(String, Timestamp)>,
}

/// When the source last said what.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Synced {
    pub(super) sha256: String,
    pub(super) at: Timestamp,
}

impl Memory {
    /// Why a document with this number and digest must not follow, if so. One that is held counts like one in use.
    pub(super) fn refusal(&self, number: u64, digest: &str) -> Option<String> {
        let (before, seen, how) = match &self.held {
            Some(held) => (held.generation, held.sha256.as_str(), "is held"),
            None => (self.generation, self.digest.as_str(), "has been in use"),
        };
        let next = before.saturating_add(1);
        if number < before {
            return Some(format!(
                "generation {number} is older than {before}, which {how}; a generation never goes back: to return to an older content, publish it as generation {next}"
            ));
        }
        (number == before && !seen.is_empty() && digest != seen).then(|| {
            format!("generation {number} {how} with another content; raise \"generation\" to {next} with every change")
        })
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    generation: u64,
    sha256: String,
    known: Vec<String>,
    tombstones: Vec<StoredTombstone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<HeldNote>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTombstone {
    id: String,
    cause: TombstoneCause,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyDigest>,
}

/// The directory of these files.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    directory: PathBuf,
}

impl Vault {
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let vault = Self::look(state_dir);
        fs::create_dir_all(&vault.directory)?;
        Ok(vault)
    }

    /// Makes nothing; for looking only.
    pub(super) fn look(state_dir: &Path) -> Self {
        Vault { directory: state_dir.join("registry") }
    }

    pub(super) fn document_path(&self) -> PathBuf {
        self.directory.join("last-good.json")
    }

    pub(super) fn held_path(&self) -> PathBuf {
        self.directory.join("held.json")
    }

    fn synced_path(&self) -> PathBuf {
        self.directory.join("synced.json")
    }

    pub(super) fn memory_path(&self) -> PathBuf {
        self.directory.join("memory.json")
    }

    /// The last good document, if there is one.
    pub(super) fn document(&self) -> io::Result<Option<Vec<u8>>> {
        found(read_bounded(&self.document_path(), super::MAX_LEN))
    }

    /// The memory, if there is one. Damaged memory is an error, never an empty one.
    pub(super) fn memory(&self) -> io::Result<Option<Memory>> {
        let Some(bytes) = found(read_bounded(&self.memory_path(), super::MAX_LEN))? else { return Ok(None) };
        let stored: Stored = serde_json::from_slice(&bytes)?;
        let id = |text: &String| IssuerId::new(text).map_err(io::Error::other);
        let tombstone = |t: &StoredTombstone| {
            Ok::<_, io::Error>(Tombstone { id: id(&t.id)?, cause: t.cause, generation: t.generation, key: t.key })
        };
        Ok(Some(Memory {
            generation: stored.generation,
            digest: stored.sha256,
            known: stored.known.iter().map(id).collect::<Result<_, _>>()?,
            tombstones: stored.tombstones.iter().map(tombstone).collect::<Result<_, _>>()?,
            held: stored.held,
        }))
    }

    /// The document that is held, if there is one.
    pub(super) fn held(&self) -> io::Result<Option<Vec<u8>>> {
        found(read_bounded(&self.held_path(), super::MAX_LEN))
    }

    /// When the source was last read; what cannot be read is not known.
    pub(super) fn synced(&self) -> Option<Synced> {
        serde_json::from_slice(&read_bounded(&self.synced_path(), 4_096).ok()?).ok()
    }

    /// Keeps a document in use and what follows from it.
    pub(super) fn keep(&self, document: &[u8], memory: &Memory) -> io::Result<()> {
        write_atomically(&self.document_path(), document)?;
        self.remember(memory)?;
        if memory.held.is_none() {
            match fs::remove_file(self.held_path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps a document that is held.
    pub(super) fn hold(&self, document: &[u8], memory: &Memory) -> io::Result<()> {
        write_atomically(&self.held_path(), document)?;
        self.remember(memory)
    }

    /// Keeps what follows from documents that are kept already.
    pub(super) fn remember(&self, memory: &Memory) -> io::Result<()> {
        let stored = Stored {
            generation: memory.generation,
            sha256: memory.digest.clone(),
            known: memory.known.iter().map(ToString::to_string).collect(),
            tombstones: memory
                .tombstones
                .iter()
                .map(|t| StoredTombstone { id: t.id.to_string(), cause: t.cause, generation: t.generation, key: t.key })
                .collect(),
            held: memory.held.clone(),
        };
        write_atomically(&self.memory_path(), &serde_json::to_vec_pretty(&stored)?)
    }

    pub(super) fn write_synced(&self, synced: &Synced) -> io::Result<()> {
        write_atomically(&self.synced_path(), &serde_json::to_vec(synced)?)
    }
}

/// Reads a regular file of at most `max` octets.
pub(crate) fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    // Asked by name first: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {max} octets")));
    }
    Ok(bytes)
}

/// Either the old content or the new stands at `path` after a crash, never a part.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
