//! The registry of a running service: looked at, and handed on.

use super::super::sync;
use crate::admin;
use crate::config::{Config, RegistrySource};
use crate::registry::file::{FileSource, Poll};
use crate::registry::{Generation, RecordRules};
use crate::responder::Responder;
use crate::signer::slots::Slots;
use crate::status::Watch;
use crate::time::{Clock, Timestamp};
use arc_swap::ArcSwap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The registry file, looked at when it changes and by interval.
pub(super) struct Registry {
    file: PathBuf,
    source: FileSource,
    watch: Watch,
    clock: Arc<dyn Clock>,
    /// Where signers lie that are ordered.
    slots: Slots,
    refresh: Duration,
    looked: Timestamp,
    fault: Option<String>,
}

impl Registry {
    pub(super) fn open(config: &Config, slots: Slots, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let RegistrySource::File(file) = &config.registry.source else {
            return Err("[registry] source: this version reads registries from files; name a path".into());
        };
        let source = FileSource::open(file, &config.state_dir, RecordRules::of(config))
            .map_err(|error| format!("state_dir {}: {error}", config.state_dir.display()))?;
        let watch = Watch::new([file.clone()]);
        let file = file.clone();
        Ok(Registry {
            file,
            source,
            watch,
            clock,
            slots,
            refresh: config.registry.refresh,
            looked: Timestamp::MIN,
            fault: None,
        })
    }

    pub(super) fn change(&mut self, config: &Config) -> Result<(), String> {
        match &config.registry.source {
            // What is known of it stays: issuers whose record is broken are served on as before.
            RegistrySource::File(file) if *file == self.file => {
                self.source.set_rules(RecordRules::of(config));
                self.refresh = config.registry.refresh;
            }
            _ => *self = Registry::open(config, self.slots.clone(), self.clock.clone())?,
        }
        Ok(())
    }

    /// Looks at the file if it changed, if the interval has passed, or if it must be, and hands on what is new.
    pub(super) fn follow(&mut self, responder: &Responder, status: &ArcSwap<admin::RegistryView>, must: bool) {
        let now = self.clock.now();
        let changed = !self.watch.poll().is_empty();
        if !(must || changed || now < self.looked || now.since(self.looked) >= self.refresh) {
            return;
        }
        self.looked = now;
        let fault = match self.source.poll(now) {
            Poll::Unchanged => None,
            Poll::Changed(generation) => {
                hand_on(&generation, responder, &self.slots);
                None
            }
            Poll::Refused(faults) => Some(faults.to_string()),
            Poll::Restored(generation, faults) => {
                hand_on(&generation, responder, &self.slots);
                Some(faults.to_string())
            }
        };
        if let Some(text) = fault.as_ref().filter(|text| self.fault.as_ref() != Some(*text)) {
            tracing::error!("the registry is refused and what was known before holds:\n{text}");
        }
        self.fault = fault;
        let view = admin::RegistryView {
            generation: self.source.current().cloned(),
            last_success: self.source.last_success(),
            fault: self.fault.clone(),
        };
        status.store(Arc::new(view));
    }
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
