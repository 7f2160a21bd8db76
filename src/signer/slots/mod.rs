//! Signer slots: where the signers that are ordered from CAs lie, one slot for each issuer.
//!
//! A slot has three places. *current* signs. *next* is verified and waits for its time. *previous* signed before, and is kept
//! until the last response it signed has run out. What fills a place is an order: its key, its request, its certificate.
//!
//! ```text
//! signers/{issuer}/slot.json              which order is current, next, previous
//! signers/{issuer}/{order}.key            PKCS#8, readable by its owner only
//! signers/{issuer}/{order}.csr            the request, the same octets each time it is sent
//! signers/{issuer}/{order}.pem            the certificate, and its chain if one came
//! signers/{issuer}/….unreadable-1         could not be used, kept for people
//! ```
//!
//! Every file is written aside, synced, renamed, and its directory synced. A signer changes by one rename of `slot.json`; the
//! order that loses its place by that is named in it until its key has been written over and removed. So after a crash at
//! any point the slot holds the old signer or the new one, complete, and an order has the one key it began with.
//!
//! One process writes to a directory at a time; `state_dir` is locked for that.

mod disk;
mod error;
mod load;
mod name;
mod order;
mod pointer;
mod slot;

pub use error::{SlotError, SlotFault};
pub use order::{OrderFiles, Prepared};
pub use slot::{Installed, Slot};

use disk::{Disk, LocalDisk};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// All slots below one directory. Cheap to clone.
#[derive(Clone)]
pub struct Slots(Arc<Shared>);

struct Shared {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    closed: Option<String>,
    slots: Mutex<HashMap<String, Slot>>,
}

impl Slots {
    /// Reads every slot below `dir`, which is made if it is not there. What an earlier process left half done is finished; what
    /// cannot be used is set aside by name and told, and its slot falls back to what can be used.
    ///
    /// # Errors
    /// If the directory cannot be made or listed.
    pub fn open(dir: &Path) -> io::Result<(Self, Vec<SlotFault>)> {
        let disk = Arc::new(LocalDisk);
        disk.create_dir(dir)?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk.sync_dir(parent)?;
        }
        Self::load(disk, dir, None)
    }

    /// Reads every slot below `dir` and changes nothing, then or later; a directory that is not there has no slots.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub fn look(dir: &Path) -> io::Result<(Self, Vec<SlotFault>)> {
        Self::load(Arc::new(LocalDisk), dir, Some("it was opened only to be looked at"))
    }

    /// The slot of this issuer, made when it is new; nothing is on disk before its first order.
    pub fn slot(&self, issuer: &str) -> Slot {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let inner = load::fresh(self.0.disk.clone(), &self.0.root, issuer, self.0.closed.clone());
            Slot(Arc::new(inner))
        };
        slots.entry(issuer.to_owned()).or_insert_with(fresh).clone()
    }

    /// The names of all slots, sorted.
    pub fn names(&self) -> Vec<String> {
        let slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = slots.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn load(disk: Arc<dyn Disk>, root: &Path, closed: Option<&str>) -> io::Result<(Self, Vec<SlotFault>)> {
        let mut faults = Vec::new();
        let mut slots = HashMap::new();
        let names = match disk.names(root) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        for name in names.iter().filter(|name| name::is_slot(name) && disk.is_dir(&root.join(name))) {
            let slot = load::load(disk.clone(), root, name, closed, &mut faults);
            slots.insert(name.clone(), Slot(Arc::new(slot)));
        }
        let closed = closed.map(str::to_owned);
        Ok((Slots(Arc::new(Shared { root: root.into(), disk, closed, slots: Mutex::new(slots) })), faults))
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({})", self.0.root.display())
    }
}

#[cfg(test)]
mod tests;
