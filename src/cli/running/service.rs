//! What changes while a service runs: its configuration, its files, its listeners.

use super::super::agent::{self, RenewalAgent};
use super::super::control::wire::{self, Parts};
use super::super::shield;
use super::super::supervisor::Sockets;
use super::config_file::ConfigFile;
use super::keeper::Work;
use super::registry::Registry;
use super::{GRACE, change, listen, service};
use crate::admin;
use crate::admin::control::{ControlHandle, SocketError};
use crate::config::Config;
use crate::endpoint::{Handle, Pulse};
use crate::responder::Responder;
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
    pub(super) config_file: ConfigFile,
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

impl Service {
    /// Takes the configuration over as it is now, as a whole or not at all.
    fn take_over(&mut self) {
        match self.config_file.read() {
            Ok(Some(next)) => match self.change_to(next) {
                Ok(takes_a_restart) => self.admin_state.config_is_in_use(&takes_a_restart),
                Err(error) => self.refuse(&error),
            },
            Ok(None) => tracing::info!("{} is being written; it is read when it rests", self.config.file.display()),
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&self, error: &str) {
        tracing::error!("the configuration is refused and the one in use stays: {error}");
        self.admin_state.config_is_refused(error);
    }

    /// Gives what has changed and takes a restart.
    fn change_to(&mut self, next: Config) -> Result<Vec<&'static str>, String> {
        if let Some(error) = change::refusal(&self.config, &next) {
            return Err(error);
        }
        let takes_a_restart = change::takes_a_restart(&self.config, &next);
        for what in &takes_a_restart {
            tracing::warn!("{what} has changed: that takes a restart; the rest is taken over");
        }
        if let Some(doubt) = shield::hampers(&self.config, &next) {
            tracing::warn!("{doubt}");
        }
        if let Some(generation) = &self.registry.view().current {
            for (name, issuers) in change::orphaned(&self.config, &next, generation) {
                tracing::warn!(
                    "[enrolment.{name}] is gone from the configuration, and {issuers} issuers get their signers there: none of these                     is renewed until the section is back or their records name another"
                );
            }
        }
        let next = change::without_those(&self.config, next);
        let same_sockets = next.endpoint.listen == self.config.endpoint.listen
            && next.endpoint.workers == self.config.endpoint.workers;
        if same_sockets {
            let service = service(&next, &self.responder)?;
            self.endpoint.lock().iter().for_each(|endpoint| endpoint.replace(&service));
        } else {
            let endpoint = listen(&next, &self.responder, &self.sockets)?;
            self.admin_state.set_endpoint(&endpoint);
            let after = endpoint.addresses().to_vec();
            let before = self.endpoint.exchange(endpoint);
            tell_moved(before.addresses(), &after);
            std::thread::spawn(move || before.shutdown(GRACE));
        }
        self.registry.change(&next);
        self.renewal.change(&next);
        self.shared.store(Arc::new(next.clone()));
        tracing::info!("configuration taken over from {}", next.file.display());
        self.config = next;
        Ok(takes_a_restart)
    }
}

fn tell_moved(before: &[SocketAddr], after: &[SocketAddr]) {
    let (new, gone) = change::moved(before, after);
    for address in new {
        tracing::info!("answering OCSP requests on http://{address}/");
    }
    for address in gone {
        tracing::warn!("no longer listening on http://{address}/: what was begun there is finished");
    }
}

impl Work for Service {
    fn look(&mut self) {
        let _ = self.start_admin(); // told at the start
        let _ = self.start_control();
        self.admin_state.look_at_load();
        if self.config_file.has_changed() {
            self.take_over();
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

    fn reload(&mut self) {
        self.take_over();
    }
}
