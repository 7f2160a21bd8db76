//! What changes while a service runs: its configuration, its files, its listeners.

use super::super::agent::{self, RenewalAgent};
use super::super::control::wire::{self, Parts};
use super::super::shield;
use super::super::supervisor::Sockets;
use super::keeper::Work;
use super::registry::Registry;
use super::{GRACE, listen, service};
use crate::admin;
use crate::admin::control::{ControlHandle, SocketError};
use crate::config::Config;
use crate::endpoint::{Handle, Pulse};
use crate::responder::Responder;
use crate::status::Watch;
use crate::time::Clock;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The endpoint, for those who change it and those who watch and stop it: these wait for no file.
pub(super) struct Endpoint(Mutex<Option<Handle>>);

impl Endpoint {
    pub(super) fn new(handle: Handle) -> Self {
        Endpoint(Mutex::new(Some(handle)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The signs of life of its workers; none after it was taken.
    pub(super) fn pulse(&self) -> Option<Pulse> {
        self.lock().as_ref().map(Handle::pulse)
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.lock().as_ref().map_or_else(Vec::new, |handle| handle.addresses().to_vec())
    }

    /// Takes it, to be stopped. Nothing comes into its place.
    pub(super) fn take(&self) -> Option<Handle> {
        self.lock().take()
    }

    /// Puts `next` into its place; gives the one that is to be stopped.
    fn exchange(&self, next: Handle) -> Handle {
        match &mut *self.lock() {
            Some(handle) => std::mem::replace(handle, next),
            None => next,
        }
    }
}

/// What runs, and what it was configured by.
pub(super) struct Service {
    pub(super) config: Config,
    pub(super) config_watch: Watch,
    pub(super) responder: Responder,
    pub(super) registry: Registry,
    /// Sockets that were handed over at the start.
    pub(super) sockets: Sockets,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) admin: Option<admin::AdminHandle>,
    pub(super) admin_state: Arc<admin::State>,
    pub(super) status: Arc<ArcSwap<admin::RegistryView>>,
    pub(super) renewal: RenewalAgent,
    /// The configuration in use, for those who look at it from another thread.
    pub(super) shared: Arc<ArcSwap<Config>>,
    pub(super) control: Option<ControlHandle>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Service {
    pub(super) fn start_admin(&mut self) -> Result<(), admin::AdminError> {
        if self.admin.is_some() {
            return Ok(());
        }
        let admin = match (self.sockets.admin.take(), self.config.admin.listen) {
            (Some(socket), _) => Some(admin::start_on(socket, self.admin_state.clone())?),
            (None, Some(address)) => Some(admin::start(address, self.admin_state.clone())?),
            (None, None) => None,
        };
        if let Some(admin) = admin {
            tracing::info!("health, readiness and metrics on http://{}/", admin.address());
            self.admin = Some(admin);
        }
        Ok(())
    }

    pub(super) fn start_control(&mut self) -> Result<(), SocketError> {
        if self.control.is_none() {
            self.control = Some(wire::open(Parts {
                config: self.shared.clone(),
                agent: Box::new({
                    // The page holds whoever asks.
                    let admin = Arc::downgrade(&self.admin_state);
                    move || admin.upgrade().and_then(|admin| admin.agent())
                }),
                registry: self.registry.handle(),
                responder: self.responder.clone(),
                trail: self.renewal.trail(),
                clock: self.clock.clone(),
                page: self.admin_state.clone(),
            })?);
        }
        Ok(())
    }

    /// Tells the agent what is known of the registry, and the admin listener of the agent.
    pub(super) fn follow_renewal(&mut self) {
        self.renewal.follow(&self.config, agent::reading(&self.registry.view()));
        self.admin_state.set_agent(self.renewal.handle(), self.renewal.fault());
    }
}

impl Work for Service {
    fn look(&mut self) {
        let _ = self.start_admin(); // told at the start
        let _ = self.start_control();
        self.admin_state.look_at_load();
        if !self.config_watch.poll().is_empty() {
            self.reload();
        }
        self.follow_renewal();
    }

    fn registry_changed(&mut self) {
        self.registry.follow(&self.responder, &self.status);
        self.follow_renewal();
    }

    fn stop(&mut self) {
        self.renewal.stop();
    }

    /// Takes a changed configuration over as a whole, or not at all.
    fn reload(&mut self) {
        let file = self.config.file.clone();
        if std::fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
            let file = file.display();
            tracing::error!("the configuration is refused and the one in use stays: {file} is not a regular file");
            return;
        }
        let mut next = match Config::load(&file) {
            Ok(next) => next,
            Err(faults) => {
                tracing::error!("the configuration is refused and the one in use stays:\n{faults}");
                return;
            }
        };
        for (what, changed) in [
            ("state_dir", next.state_dir != self.config.state_dir),
            ("[admin]", next.admin != self.config.admin),
            ("[presign]", next.presign != self.config.presign),
            ("[on_demand]", next.on_demand != self.config.on_demand),
            ("[log] format", next.log.format != self.config.log.format),
        ] {
            if changed {
                tracing::warn!("{what} has changed: that takes a restart; the rest is taken over");
            }
        }
        if let Some(doubt) = shield::hampers(&self.config, &next) {
            tracing::warn!("{doubt}");
        }
        next.state_dir.clone_from(&self.config.state_dir);
        next.admin.clone_from(&self.config.admin);
        next.presign.clone_from(&self.config.presign);
        next.on_demand.clone_from(&self.config.on_demand);
        next.log.format = self.config.log.format;
        let same_sockets = next.endpoint.listen == self.config.endpoint.listen
            && next.endpoint.workers == self.config.endpoint.workers;
        if same_sockets {
            match service(&next, &self.responder) {
                Ok(service) => self.endpoint.lock().iter().for_each(|endpoint| endpoint.replace(&service)),
                Err(error) => {
                    tracing::error!("the configuration is refused and the one in use stays: {error}");
                    return;
                }
            }
        } else {
            match listen(&next, &self.responder, &self.sockets) {
                Ok(endpoint) => {
                    self.admin_state.set_endpoint(&endpoint);
                    let before = self.endpoint.exchange(endpoint);
                    std::thread::spawn(move || before.shutdown(GRACE));
                }
                Err(error) => {
                    tracing::error!("the configuration is refused and the one in use stays: {error}");
                    return;
                }
            }
        }
        self.registry.change(&next);
        self.renewal.change(&next);
        self.shared.store(Arc::new(next.clone()));
        self.config = next;
        tracing::info!("configuration taken over from {}", file.display());
    }
}
