//! Names of slots, orders and their files.

use std::path::{Path, PathBuf};

/// The pointer file of a slot.
pub(super) const POINTER: &str = "slot.json";
/// What lies on disk of an order.
pub(super) const KEY: &str = "key";
pub(super) const REQUEST: &str = "csr";
pub(super) const CERTIFICATE: &str = "pem";

/// Whether this can be a slot's directory: 1 to 128 letters, digits, `.`, `_` or `-`, not beginning with a dot. The registry
/// and the configuration let nothing else through.
pub(super) fn is_slot(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether this can be an order: as a slot, without dots, so that an order's files can be told from all others.
pub(super) fn is_order(name: &str) -> bool {
    is_slot(name) && !name.contains('.')
}

/// A file of an order.
pub(super) fn file(dir: &Path, order: &str, extension: &str) -> PathBuf {
    dir.join(format!("{order}.{extension}"))
}

/// The order a file belongs to, and which of its files it is.
pub(super) fn order_of(file: &str) -> Option<(&str, &str)> {
    let (order, extension) = file.split_once('.')?;
    (is_order(order) && [KEY, REQUEST, CERTIFICATE].contains(&extension)).then_some((order, extension))
}
