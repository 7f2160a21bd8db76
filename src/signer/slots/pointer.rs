//! The pointer file: which orders are current, next and previous.

use super::name::is_order;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Which order fills which place of a slot; `slot.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// What signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<String>,
    /// What will sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// What signed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Previous>,
    /// Orders that have lost their place and are being destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leaving: Vec<String>,
    /// Since when the registry has been saying that there is no such issuer any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gone: Option<Timestamp>,
}

/// The signer before this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    /// Its order.
    pub(super) order: String,
    /// It is kept until then.
    pub(super) until: Timestamp,
}

impl Pointer {
    /// Reads what [`Pointer::to_json`] wrote.
    pub(super) fn parse(octets: &[u8]) -> Result<Self, String> {
        let pointer: Pointer = serde_json::from_slice(octets).map_err(|e| e.to_string())?;
        if let Some(order) = pointer.all().find(|order| !is_order(order)) {
            return Err(format!("\"{}\" is not the name of an order", order.escape_debug()));
        }
        Ok(pointer)
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The orders that have a place.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_ref().map(|p| &p.order);
        [self.current.as_ref(), self.next.as_ref(), previous].into_iter().flatten().map(String::as_str)
    }

    /// These, and the orders that had one.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.places().chain(self.leaving.iter().map(String::as_str))
    }

    /// Whether the order has a place.
    pub(super) fn holds(&self, order: &str) -> bool {
        self.places().any(|o| o == order)
    }
}
