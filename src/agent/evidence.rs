//! The registry that a thread follows, as evidence.

use super::{Evidence, Look};
use crate::registry::{Generation, Handle, Looked};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a look may take: longer than a server may take to answer by default, and than what hangs is worth.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks by the thread that follows the registry, so that whoever else looks shares it.
#[derive(Debug)]
pub struct Followed {
    registry: Handle,
    told: Mutex<Option<Arc<Generation>>>,
}

impl Followed {
    /// Asks this registry.
    pub fn new(registry: Handle) -> Self {
        Followed { registry, told: Mutex::default() }
    }
}

impl Evidence for Followed {
    fn look(&self) -> Look {
        let (view, at) = match self.registry.look_now_blocking(PATIENCE) {
            Looked::Read { view, at } => (view, at),
            Looked::NotRead(why) => return Look::Nothing(why),
        };
        // What is stopped by a generation that is held is disabled in it.
        let Some(generation) = view.renewable.clone() else { return Look::Nothing("it holds nothing yet".to_owned()) };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &generation)) {
            return Look::Same { generation: generation.number, at };
        }
        *told = Some(Arc::clone(&generation));
        Look::Changed { generation, synced_at: at }
    }
}
