//! Answers that are known to be wrong and cannot be signed anew are not given: a revocation that the sources tell must not wait
//! behind a `good` that was signed before it until that runs out.
//!
//! Only when signing has failed: while it works, what is revoked is replaced within moments.

use super::engine::Shared;
use super::issuer::Issuer;
use super::table::Table;
use crate::ocsp::{HashAlgorithm, Serial};
use crate::store::{Live, Part, Segment, Wave, hash};
use std::sync::{Arc, PoisonError};

impl Shared {
    /// After a failure, or when there is no signer: holds everything back that is answered wrongly by what the sources say now.
    pub(super) fn hold_back(&self, issuer: &Issuer) {
        let _one_at_a_time = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = issuer.view().table.clone() else { return };
        let live = issuer.slot().live();
        let still = live.held_back.iter().filter(|serial| is_wrong(&live, &table, serial)).copied();
        let mut held: Vec<Serial> = still.collect();
        // One that is cut otherwise than the table is cut anew first, and looked at after that.
        for wave in waves(&live).filter(|wave| wave.bits() == table.bits()) {
            held.extend(table.wrongly_good(wave));
        }
        held.sort_unstable();
        held.dedup();
        if held.len() > live.held_back.len() {
            tracing::warn!(
                issuer = issuer.id(),
                certificates = held.len(),
                "revocations cannot be signed: the answers from before them are given no more, but tryLater"
            );
        }
        set(issuer, held);
    }

    /// When the sources have been read again: what is not revoked by them any more need not be held back.
    pub(super) fn reconsider(&self, issuer: &Issuer) {
        self.let_go(issuer, |_| true);
    }

    /// When a segment is served: what is answered rightly by now need not be held back.
    pub(super) fn released_by(&self, issuer: &Issuer, segment: &Segment) {
        match segment.meta().part {
            Part::Slice { bits, index } => {
                self.let_go(issuer, |serial| Part::slice_of(hash(serial), bits) == index as usize);
            }
            Part::Overlay => self.let_go(issuer, |serial| segment.find(serial, hash(serial)).is_some()),
        }
    }

    /// Only those of which it may have become otherwise are looked up: there may be very many.
    fn let_go(&self, issuer: &Issuer, may_have_changed: impl Fn(&Serial) -> bool) {
        if issuer.slot().live().held_back.is_empty() {
            return;
        }
        let _one_at_a_time = self.holding.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = issuer.view().table.clone() else { return };
        let live = issuer.slot().live();
        let stays = |serial: &&Serial| !may_have_changed(serial) || is_wrong(&live, &table, serial);
        set(issuer, live.held_back.iter().filter(stays).copied().collect());
    }
}

fn set(issuer: &Issuer, held: Vec<Serial>) {
    if held != *issuer.slot().live().held_back {
        let held: Arc<[Serial]> = held.into();
        issuer.slot().update(|live| {
            let mut next = live.clone();
            next.held_back = held.clone();
            next
        });
    }
}

fn is_wrong(live: &Live, table: &Table, serial: &Serial) -> bool {
    waves(live).any(|wave| table.is_wrongly_good(wave, serial))
}

fn waves(live: &Live) -> impl Iterator<Item = &Wave> {
    HashAlgorithm::ALL.into_iter().filter_map(|algorithm| live.wave(algorithm)).map(Arc::as_ref)
}
