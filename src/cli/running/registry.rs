//! The registry of a running service: followed by a thread of its own, and handed on.

use super::super::sync;
use crate::admin;
use crate::audit::{About, AuditEvent, Outcome, Trail, What, Witness};
use crate::config::Config;
use crate::registry::{Generation, Handle, Held, Settings, Sync, View};
use crate::responder::Responder;
use crate::signer::slots::Slots;
use crate::time::Clock;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the bar of the first signing waits for the registry.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How often it asks.
const LOOK: Duration = Duration::from_millis(20);

/// The registry as it is followed, and how much of it has been handed on.
pub(super) struct Registry {
    handle: Handle,
    views: watch::Receiver<Arc<View>>,
    revision: u64,
    held: Option<u64>,
    /// Where signers lie that are ordered.
    slots: Slots,
    fault: Option<String>,
    trail: Option<Arc<Trail>>,
    clock: Arc<dyn Clock>,
    _sync: Sync,
}

/// Tells when the registry has changed.
pub(super) struct Changes(watch::Receiver<Arc<View>>);

impl Changes {
    /// Waits until there may be something new to hand on.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Its thread has ended, which a panic alone could do; what is known holds.
            std::future::pending::<()>().await;
        }
    }
}

impl Registry {
    pub(super) fn open(config: &Config, slots: Slots, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let (sync, handle) = Sync::start(Settings::of(config), &config.state_dir, clock.clone())
            .map_err(|error| format!("state_dir {}: {error}", config.state_dir.display()))?;
        let views = handle.subscribe();
        Ok(Registry { handle, views, slots, revision: 0, held: None, fault: None, trail: None, clock, _sync: sync })
    }

    /// What happens from here on is written into this trail.
    pub(super) fn write_into(&mut self, trail: Option<Arc<Trail>>) {
        self.trail = trail;
    }

    /// What is known now.
    pub(super) fn view(&self) -> Arc<View> {
        self.handle.view()
    }

    /// By what others ask for it.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Goes on by another configuration, and looks at once. What is known stays: issuers whose record is broken are served on
    /// as before.
    pub(super) fn change(&self, config: &Config) {
        self.handle.change(Settings::of(config));
    }

    /// By what others learn that there may be something new to hand on.
    pub(super) fn changes(&self) -> Changes {
        Changes(self.views.clone())
    }

    /// Hands on what is new.
    pub(super) fn follow(&mut self, responder: &Responder, status: &ArcSwap<admin::RegistryView>) {
        let view = self.views.borrow_and_update().clone();
        if view.revision != self.revision {
            self.revision = view.revision;
            if let Some(generation) = &view.current {
                let before = status.load().generation.clone();
                if !before.is_some_and(|before| Arc::ptr_eq(&before, generation)) {
                    hand_on(generation, responder, &self.slots);
                    self.tell(Outcome::Done, told(generation));
                }
            }
        }
        let held = view.held.as_ref().map(|held| held.generation.number);
        match &view.held {
            Some(waiting) if self.held != held => {
                tell_held(waiting, &view);
                let number = waiting.generation.number;
                self.tell(Outcome::Held, format!("generation {number}: {}", waiting.impact));
            }
            _ => {}
        }
        self.held = held;
        if let Some(text) = view.fault.as_ref().filter(|text| self.fault.as_ref() != Some(*text)) {
            tracing::error!("the registry is refused and what was known before holds:\n{text}");
            self.tell(Outcome::Refused, text.clone());
        }
        self.fault.clone_from(&view.fault);
        status.store(Arc::new(admin::RegistryView {
            generation: view.current.clone(),
            held: view.held.clone(),
            last_success: view.synced,
            fault: view.fault.clone(),
            looks: view.looks,
        }));
    }

    /// Tells the audit trail.
    fn tell(&self, outcome: Outcome, text: String) {
        if let Some(trail) = &self.trail {
            let event = AuditEvent::new(self.clock.now(), "registry", What::Registry, About::Registry);
            let alarm = outcome != Outcome::Done;
            trail.saw(&AuditEvent { outcome: Some(outcome), alarm, text, ..event });
        }
    }
}

/// A generation that is taken over, for the audit trail.
fn told(generation: &Generation) -> String {
    let (number, issuers, unusable) = (generation.number, generation.issuers.len(), generation.quarantined.len());
    format!("generation {number} is in use: {issuers} issuers, {unusable} records that cannot be used")
}

/// Waits until the source has been looked at once and what it said was handed on, but not for ever.
pub(super) async fn first_look(status: &ArcSwap<admin::RegistryView>) {
    for _ in 0..FIRST_LOOK.as_millis() / LOOK.as_millis() {
        if status.load().looks.by_result().iter().any(|(_, count)| *count > 0) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell_held(held: &Held, view: &View) {
    let in_use = view.current.as_ref().map_or(0, |generation| generation.number);
    tracing::error!(
        generation = held.generation.number,
        "registry held: {}; generation {in_use} stays in use until an operator approves the new one, and what either of them stops is not renewed",
        held.impact
    );
}

fn hand_on(generation: &Generation, responder: &Responder, slots: &Slots) {
    for quarantined in &generation.quarantined {
        for fault in &quarantined.faults {
            tracing::error!(issuer = quarantined.name(), "registry record left out: {fault}");
        }
    }
    for note in &generation.notes {
        tracing::warn!("{note}");
    }
    let issuers = generation.issuers.len();
    tracing::info!(generation = generation.number, issuers, "registry taken over");
    // Reading a large index takes a while; nothing here waits for it.
    responder.adopt_issuers(sync::specs(generation, slots));
}
