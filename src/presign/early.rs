//! Requests that come before their issuer's files have been looked at: they wait for that, instead of being told to ask again.

use super::answer::Outcome;
use super::demand::Shared;
use crate::ocsp::Request;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{oneshot, watch};

/// A request that waits. It takes one of as many places as the queue has.
pub(super) struct Early {
    shared: Arc<Shared>,
    request: Bytes,
    looks: Vec<watch::Receiver<bool>>,
}

impl Early {
    /// `None` if there is nothing to wait for, or no place.
    pub(super) fn of(shared: &Arc<Shared>, request: &Bytes) -> Option<Self> {
        let parsed = Request::parse(request).ok()?;
        let (routes, issuers) = (shared.store.routes(), shared.issuers.load());
        let mut looks = Vec::new();
        for id in parsed.cert_ids() {
            looks.extend(routes.candidates(&id).filter_map(|slot| issuers.get(slot.id())?.look_to_come()));
        }
        if looks.is_empty() {
            return None;
        }
        let most = shared.settings.queue;
        if shared.early.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1)).is_err() {
            shared.shed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Early { shared: shared.clone(), request: request.clone(), looks })
    }

    /// Asks once the files have been looked at, or the issuer has been taken out.
    pub(super) async fn ask(mut self) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        for look in &mut self.looks {
            let _ = look.wait_for(|is_over| *is_over).await;
        }
        self.shared.ask(self.request.clone())
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.shared.early.fetch_sub(1, Ordering::Relaxed);
    }
}
