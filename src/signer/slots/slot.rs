//! One slot: what signs, what will, what did.

use super::disk::Disk;
use super::error::SlotError;
use super::name::{self, CERTIFICATE, KEY, POINTER, REQUEST};
use super::order::{OrderFiles, is_absent, load_pair};
use super::pointer::{Pointer, Previous};
use crate::signer::SigningKey;
use crate::time::Timestamp;
use crate::x509::Certificate;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A complete signer: a certificate and its key.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The certificate.
    pub certificate: Certificate,
    /// Its key; an RSA key signs with PKCS#1 v1.5 until [`SigningKey::with_padding`] says otherwise.
    pub key: Arc<SigningKey>,
    /// The order it came from.
    pub order: String,
}

/// The place of one issuer's signers. Cheap to clone; reading what is current takes no lock, changing it waits for the disk.
///
/// Each change is one step on disk: after a crash at any point the slot holds what it held before or what it was to hold,
/// and each change may be asked for again.
#[derive(Clone)]
pub struct Slot(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    /// Why nothing may be written.
    pub(super) closed: Option<String>,
    pub(super) state: Mutex<State>,
    pub(super) view: ArcSwap<View>,
}

/// What is on disk, as far as is known.
#[derive(Default)]
pub(super) struct State {
    pub(super) pointer: Pointer,
    /// The directory and the pointer file exist.
    pub(super) is_ready: bool,
    /// A pointer may have been written that is not the one in `pointer`.
    pub(super) is_unsure: bool,
}

/// What others see of a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) version: u64,
    pub(super) current: Option<Arc<Installed>>,
    pub(super) next: Option<Arc<Installed>>,
    pub(super) previous: Option<Arc<Installed>>,
    pub(super) previous_until: Option<Timestamp>,
    pub(super) gone: Option<Timestamp>,
}

impl Slot {
    /// The slot's name: its issuer.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What signs.
    pub fn current(&self) -> Option<Arc<Installed>> {
        self.0.view.load().current.clone()
    }

    /// What will sign.
    pub fn next(&self) -> Option<Arc<Installed>> {
        self.0.view.load().next.clone()
    }

    /// What signed before, as long as it is kept.
    pub fn previous(&self) -> Option<Arc<Installed>> {
        self.0.view.load().previous.clone()
    }

    /// Until when [`Slot::previous`] is kept.
    pub fn previous_until(&self) -> Option<Timestamp> {
        self.0.view.load().previous_until
    }

    /// Since when its issuer has been gone from the registry, as [`Slot::set_gone`] noted.
    pub fn gone_since(&self) -> Option<Timestamp> {
        self.0.view.load().gone
    }

    /// Grows whenever [`Slot::current`] changes; 0 while there has been none.
    pub fn version(&self) -> u64 {
        self.0.view.load().version
    }

    /// The files of an order of this slot.
    pub fn order(&self, id: &str) -> OrderFiles {
        OrderFiles { slot: self.0.clone(), order: id.to_owned() }
    }

    /// Orders with files on disk that have no place: open ones, and those that nobody knows any more.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn open_orders(&self) -> Result<Vec<String>, SlotError> {
        let state = self.0.state();
        let names = match self.0.disk.names(&self.0.dir) {
            Ok(names) => names,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(super::disk::io_error(&self.0.dir, source).into()),
        };
        let orders = names.iter().filter_map(|file| name::order_of(file)).map(|(order, _)| order.to_owned());
        let open: BTreeSet<String> = orders.filter(|order| !state.pointer.holds(order)).collect();
        Ok(open.into_iter().collect())
    }

    /// Puts the order's key and certificate in place as what will sign. An order that was staged before and is not current is
    /// destroyed.
    ///
    /// # Errors
    /// If its key or its certificate is missing or they do not belong together, or if it cannot be written.
    pub fn stage(&self, id: &str) -> Result<(), SlotError> {
        let mut state = self.0.open_state()?;
        let view = self.0.view.load_full();
        let is_at = |place: &Option<Arc<Installed>>| place.as_ref().is_some_and(|i| i.order == id);
        if is_at(&view.current) || is_at(&view.next) {
            return Ok(());
        }
        let next = Arc::new(self.0.load(id)?);
        let pointer = Pointer { next: Some(id.to_owned()), ..state.pointer.clone() };
        self.0.commit(&mut state, pointer)?;
        self.0.view.store(Arc::new(View { next: Some(next), ..(*view).clone() }));
        self.0.destroy_leaving(&mut state);
        Ok(())
    }

    /// Makes what is staged current, in one step. What was current becomes previous, and is kept until `previous_until`: not
    /// before the last response it signed has run out. What was previous is destroyed.
    ///
    /// # Errors
    /// [`SlotError::NotStaged`] if another order or none is staged; others if it cannot be written. What is current stays
    /// then.
    pub fn activate(&self, id: &str, previous_until: Timestamp) -> Result<(), SlotError> {
        let mut state = self.0.open_state()?;
        let view = self.0.view.load_full();
        if view.current.as_ref().is_some_and(|current| current.order == id) {
            return Ok(());
        }
        let next = view.next.clone().filter(|next| next.order == id);
        let next = match next {
            Some(next) => next,
            // It is staged, and could not be read when the slot was opened.
            None if state.pointer.next.as_deref() == Some(id) => Arc::new(self.0.load(id)?),
            None => return Err(SlotError::NotStaged(id.to_owned())),
        };
        let previous = view.current.as_ref().map(|c| Previous { order: c.order.clone(), until: previous_until });
        let pointer = Pointer { current: Some(id.to_owned()), previous, ..Pointer::default() };
        self.0.commit(&mut state, pointer)?;
        self.0.view.store(Arc::new(View {
            version: view.version + 1,
            current: Some(next),
            next: None,
            previous: view.current.clone(),
            previous_until: view.current.as_ref().map(|_| previous_until),
            gone: None,
        }));
        self.0.destroy_leaving(&mut state);
        Ok(())
    }

    /// Destroys what signed before, once its time has passed: its key is written over and removed. Gives its order if it
    /// did. It is kept while it has to stand in for a current one that cannot be read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn retire_previous(&self, now: Timestamp) -> Result<Option<String>, SlotError> {
        let mut state = self.0.open_state()?;
        self.0.destroy_leaving(&mut state);
        let view = self.0.view.load_full();
        let stands_in = |order: &str| view.current.as_ref().is_none_or(|current| current.order == order);
        let past = state.pointer.previous.as_ref().filter(|p| p.until <= now && !stands_in(&p.order));
        let Some(order) = past.map(|p| p.order.clone()) else {
            return Ok(None);
        };
        let pointer = Pointer { previous: None, ..state.pointer.clone() };
        self.0.commit(&mut state, pointer)?;
        self.0.view.store(Arc::new(View { previous: None, previous_until: None, ..(*view).clone() }));
        self.0.destroy_leaving(&mut state);
        Ok(Some(order))
    }

    /// Notes since when its issuer is gone, or that it is not, across restarts. A slot without any order notes nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_gone(&self, since: Option<Timestamp>) -> Result<(), SlotError> {
        let mut state = self.0.open_state()?;
        if state.pointer.gone == since || (!state.is_ready && since.is_some()) {
            return Ok(());
        }
        let pointer = Pointer { gone: since, ..state.pointer.clone() };
        self.0.commit(&mut state, pointer)?;
        let view = self.0.view.load_full();
        self.0.view.store(Arc::new(View { gone: since, ..(*view).clone() }));
        self.0.destroy_leaving(&mut state);
        Ok(())
    }

    /// Destroys what signed, signs and would sign: keys are written over and removed. Gives their orders. Open orders stay.
    ///
    /// # Errors
    /// If it cannot be written; nothing signs any more all the same once [`Slot::current`] is none, and the rest is done when this is
    /// called again, or at the next start.
    pub fn empty(&self) -> Result<Vec<String>, SlotError> {
        let mut state = self.0.open_state()?;
        let orders: Vec<String> = state.pointer.all().map(str::to_owned).collect();
        if state.pointer.places().next().is_some() {
            let gone = state.pointer.gone;
            self.0.commit(&mut state, Pointer { gone, ..Pointer::default() })?;
            let version = self.version() + 1;
            self.0.view.store(Arc::new(View { version, gone, ..View::default() }));
        }
        for order in &orders {
            self.0.destroy(order)?;
        }
        state.pointer.leaving.clear();
        Ok(orders)
    }

    /// Whether there is anything that [`Slot::empty`] would destroy, be it readable or not.
    pub fn is_filled(&self) -> bool {
        self.0.state().pointer.all().next().is_some()
    }

    /// Destroys an order that has not become current: its key is written over and removed. An order that is not there is no
    /// fault.
    ///
    /// # Errors
    /// [`SlotError::InUse`] if it is current or previous; others if it cannot be written.
    pub fn cancel(&self, id: &str) -> Result<(), SlotError> {
        if !name::is_order(id) {
            return Err(SlotError::Name(id.to_owned()));
        }
        let mut state = self.0.open_state()?;
        let next = state.pointer.next.clone().filter(|next| next != id);
        let pointer = Pointer { next, ..state.pointer.clone() };
        if pointer.holds(id) {
            return Err(SlotError::InUse(id.to_owned()));
        }
        if pointer.next != state.pointer.next {
            self.0.commit(&mut state, pointer)?;
            let view = self.0.view.load_full();
            let next = view.next.clone().filter(|next| next.order != id);
            self.0.view.store(Arc::new(View { next, ..(*view).clone() }));
        }
        self.0.destroy(id)?;
        self.0.destroy_leaving(&mut state);
        Ok(())
    }
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to be changed. What was left open by a failure is settled first.
    pub(super) fn open_state(&self) -> Result<MutexGuard<'_, State>, SlotError> {
        match &self.closed {
            Some(why) => Err(SlotError::Closed { slot: self.name.clone(), why: why.clone() }),
            None => {
                let mut state = self.state();
                if state.is_unsure {
                    let pointer = state.pointer.clone();
                    self.commit(&mut state, pointer)?;
                }
                Ok(state)
            }
        }
    }

    /// Makes the directory, with a pointer file in it before anything else: where orders lie without one, it was lost.
    pub(super) fn make_ready(&self, state: &mut State) -> Result<(), SlotError> {
        if state.is_ready {
            return Ok(());
        }
        let root = self.dir.parent().unwrap_or(&self.dir);
        let made = self.disk.create_dir(&self.dir).and_then(|()| self.disk.sync_dir(root));
        made.map_err(|source| super::disk::io_error(&self.dir, source))?;
        self.disk.put(&self.dir.join(POINTER), &state.pointer.to_json())?;
        state.is_ready = true;
        Ok(())
    }

    /// Writes the pointer file. Orders that lose their place by it are destroyed, in this process or the next.
    pub(super) fn commit(&self, state: &mut State, mut pointer: Pointer) -> Result<(), SlotError> {
        let leaving: BTreeSet<&str> = state.pointer.all().filter(|order| !pointer.holds(order)).collect();
        pointer.leaving = leaving.into_iter().map(str::to_owned).collect();
        self.make_ready(state)?;
        state.is_unsure = true;
        self.disk.put(&self.dir.join(POINTER), &pointer.to_json())?;
        state.is_unsure = false;
        state.pointer = pointer;
        Ok(())
    }

    /// Destroys what has lost its place. What does not succeed is named in the pointer file until it does.
    pub(super) fn destroy_leaving(&self, state: &mut State) {
        state.pointer.leaving.retain(|order| match self.destroy(order) {
            Ok(()) => false,
            Err(error) => {
                tracing::error!(issuer = self.name, order, "not destroyed, and tried again later: {error}");
                true
            }
        });
    }

    /// The key first.
    fn destroy(&self, order: &str) -> Result<(), SlotError> {
        for extension in [KEY, REQUEST, CERTIFICATE] {
            self.disk.destroy(&name::file(&self.dir, order, extension))?;
        }
        Ok(())
    }

    fn load(&self, order: &str) -> Result<Installed, SlotError> {
        if !name::is_order(order) {
            return Err(SlotError::Name(order.to_owned()));
        }
        load_pair(&*self.disk, &self.dir, order).map_err(|fault| match &fault {
            crate::signer::files::FileError::Io { path, .. } if is_absent(&fault) => {
                SlotError::Missing { order: order.to_owned(), file: path.clone() }
            }
            _ => fault.into(),
        })
    }
}

/// The same slot of the same directory.
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view.load();
        let order = view.current.as_ref().map_or("none", |current| current.order.as_str());
        write!(f, "Slot({}, current {order})", self.name)
    }
}
