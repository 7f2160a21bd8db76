//! The registry that a thread follows, as evidence.

use super::{Evidence, Look, Reading};
use crate::registry::{Handle, Looked};
use std::time::Duration;

/// How long a look may take: longer than a server may take to answer by default, and than what hangs is worth.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks by the thread that follows the registry, so that whoever else looks shares it.
#[derive(Debug)]
pub struct Followed {
    registry: Handle,
}

impl Followed {
    /// Asks this registry.
    pub fn new(registry: Handle) -> Self {
        Followed { registry }
    }
}

impl Evidence for Followed {
    fn look(&self) -> Look {
        match self.registry.look_now_blocking(PATIENCE) {
            // What is stopped by a generation that is held is marked in it.
            Looked::Read { view, at } => match view.renewable.clone() {
                Some(generation) => Look::Read(Reading { generation, synced_at: at }),
                None => Look::Nothing("it holds nothing yet".to_owned()),
            },
            Looked::NotRead(why) => Look::Nothing(why),
            Looked::Unusable(why) => Look::Unusable(why),
        }
    }
}
