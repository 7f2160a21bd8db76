//! Opening a slot: what is on disk, what of it can be used, what is done about the rest.

use super::disk::{Disk, io_error};
use super::error::SlotFault;
use super::name::{self, CERTIFICATE, POINTER};
use super::order::{is_absent, is_damage, load_pair};
use super::pointer::Pointer;
use super::slot::{Inner, Installed, State, View};
use crate::signer::files::FileError;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A slot that has nothing on disk yet.
pub(super) fn fresh(disk: Arc<dyn Disk>, root: &Path, name: &str, closed: Option<String>) -> Inner {
    let closed = if name::is_slot(name) { closed } else { Some("no issuer can have this name".to_owned()) };
    Inner {
        name: name.to_owned(),
        dir: root.join(name),
        disk,
        closed,
        state: Mutex::default(),
        view: ArcSwap::default(),
    }
}

/// Reads a slot. If `read_only`, nothing is renamed, removed or written, then or later.
pub(super) fn load(
    disk: Arc<dyn Disk>,
    root: &Path,
    name: &str,
    read_only: Option<&str>,
    faults: &mut Vec<SlotFault>,
) -> Inner {
    let inner = fresh(disk, root, name, read_only.map(str::to_owned));
    let mut loading = Loading { slot: &inner, faults, closed: inner.closed.clone() };
    let (state, view) = loading.all();
    let closed = loading.closed;
    Inner { closed, state: Mutex::new(state), view: ArcSwap::from_pointee(view), ..inner }
}

struct Loading<'a> {
    slot: &'a Inner,
    faults: &'a mut Vec<SlotFault>,
    closed: Option<String>,
}

impl Loading<'_> {
    fn all(&mut self) -> (State, View) {
        let names = match self.slot.disk.names(&self.slot.dir) {
            Ok(names) => names,
            Err(source) => {
                let fault = io_error(&self.slot.dir, source);
                self.fault(&self.slot.dir.clone(), format!("{fault}; nothing of it is used until a restart"));
                self.closed.get_or_insert_with(|| fault.to_string());
                return Default::default();
            }
        };
        self.clean(&names);
        let Some(pointer) = self.pointer(&names) else {
            return self.without_pointer(&names);
        };
        let mut state = State { pointer, is_ready: true, is_unsure: false };
        if self.closed.is_none() {
            self.slot.destroy_leaving(&mut state);
        }
        let current = state.pointer.current.clone();
        let next = state.pointer.next.clone().and_then(|order| self.place(&order, "the next signer", "it is let go"));
        let previous = state.pointer.previous.clone();
        let held = previous.as_ref().and_then(|p| {
            self.place(&p.order, "the signer before the current one", "nothing stands in for the current one")
        });
        let gone = state.pointer.gone;
        let mut view =
            View { next, previous_until: previous.map(|p| p.until), previous: held, gone, ..View::default() };
        if let Some(order) = current {
            let so = if view.previous.is_some() { "the one before it signs on" } else { "a new one is needed" };
            view.current = self.place(&order, "the current signer", so);
            if view.current.is_none() {
                view.current = view.previous.take();
            }
        }
        if view.previous.is_none() {
            view.previous_until = None;
        }
        view.version = u64::from(view.current.is_some());
        (state, view)
    }

    /// Finishes what an earlier process left half done.
    fn clean(&mut self, names: &[String]) {
        if self.closed.is_some() {
            return;
        }
        for name in names {
            let path = self.slot.dir.join(name);
            if let Err(error) = self.slot.disk.clean(&path) {
                self.fault(&path, format!("left over, and cannot be removed: {error}"));
            }
        }
    }

    /// `None` if it is gone or damaged.
    fn pointer(&mut self, names: &[String]) -> Option<Pointer> {
        let path = self.slot.dir.join(POINTER);
        let why = match self.slot.disk.read(&path, false) {
            Ok(octets) => match Pointer::parse(&octets) {
                Ok(pointer) => return Some(pointer),
                Err(why) => why,
            },
            Err(fault) if is_absent(&fault) => {
                if orders(names).next().is_some() {
                    self.fault(&path, "is gone, and orders are there".to_owned());
                }
                return None;
            }
            Err(fault) if is_damage(&fault) => fault.to_string(),
            Err(fault) => {
                self.fault(&path, format!("{fault}; nothing is written to this slot until a restart"));
                self.closed.get_or_insert_with(|| fault.to_string());
                return None;
            }
        };
        self.set_aside(&path, &why);
        None
    }

    /// Which order was current is not known: the newest certificate with its key is taken.
    fn without_pointer(&mut self, names: &[String]) -> (State, View) {
        let pairs = orders(names).filter_map(|order| load_pair(&*self.slot.disk, &self.slot.dir, order).ok());
        let age = |i: &Installed| (i.certificate.not_before(), i.certificate.not_after(), i.order.clone());
        let newest = pairs.max_by_key(age).map(Arc::new);
        let mut state = State { is_ready: newest.is_some(), ..State::default() };
        if let Some(newest) = &newest {
            let file = name::file(&self.slot.dir, &newest.order, CERTIFICATE);
            self.fault(&file, "of all complete signers this is the newest: it is taken for the current one".to_owned());
            let pointer = Pointer { current: Some(newest.order.clone()), ..Pointer::default() };
            match self.closed {
                Some(_) => state.pointer = pointer,
                None => {
                    if let Err(error) = self.slot.commit(&mut state, pointer.clone()) {
                        self.fault(&self.slot.dir.join(POINTER), error.to_string());
                        state.pointer = pointer;
                    }
                }
            }
        }
        let version = u64::from(newest.is_some());
        (state, View { version, current: newest, ..View::default() })
    }

    /// Key and certificate of an order that has a place.
    fn place(&mut self, order: &str, what: &str, so: &str) -> Option<Arc<Installed>> {
        match load_pair(&*self.slot.disk, &self.slot.dir, order) {
            Ok(installed) => Some(Arc::new(installed)),
            Err(fault) => {
                let path = faulty_file(&fault);
                let text = format!("{what} cannot be used: {fault}; {so}");
                if is_damage(&fault) {
                    self.set_aside(&path, &text)
                } else {
                    self.fault(&path, text)
                }
                None
            }
        }
    }

    fn set_aside(&mut self, path: &Path, why: &str) {
        if self.closed.is_some() {
            return self.fault(path, why.to_owned());
        }
        match self.slot.disk.set_aside(path) {
            Ok(to) => self.fault(path, format!("{why}; it is kept as {}", to.display())),
            Err(error) => self.fault(path, format!("{why}; it cannot be set aside: {error}")),
        }
    }

    fn fault(&mut self, path: &Path, text: String) {
        self.faults.push(SlotFault { slot: self.slot.name.clone(), path: path.into(), text });
    }
}

/// The orders that have files.
fn orders(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().filter_map(|name| name::order_of(name)).map(|(order, _)| order).collect::<BTreeSet<_>>().into_iter()
}

/// The file to blame.
fn faulty_file(fault: &FileError) -> PathBuf {
    match fault {
        FileError::Io { path, .. }
        | FileError::TooLarge { path, .. }
        | FileError::Permissions { path, .. }
        | FileError::Certificate { path, .. }
        | FileError::Key { path, .. }
        | FileError::NotAFile(path)
        | FileError::Mismatch { certificate: path, .. } => path.clone(),
    }
}
