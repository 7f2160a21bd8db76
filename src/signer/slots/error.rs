//! What can go wrong with slots.

use crate::signer::KeyError;
use crate::signer::files::FileError;
use std::path::PathBuf;

/// Why a slot or an order could not be changed or read. What the disk holds is what it held before, or what was asked for;
/// everything may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The disk, or what lies on it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The slot or the order has a name that cannot be a file's.
    #[error("\"{0}\" cannot name a slot or an order: 1 to 128 letters, digits, '_' or '-' can (slots also '.')")]
    Name(String),
    /// The slot cannot be written to.
    #[error("the slot of {slot} is not written to: {why}")]
    Closed {
        /// The slot.
        slot: String,
        /// Why.
        why: String,
    },
    /// No key could be made.
    #[error("no key could be made: {0}")]
    Generation(KeyError),
    /// The order's request is there and its key is not: another key would make it another order.
    #[error(
        "order {order}: its request is there, but its key {key} is not usable; cancel the order, so that a new one is made"
    )]
    KeyLost {
        /// The order.
        order: String,
        /// Where the key should be.
        key: PathBuf,
    },
    /// The request could not be made.
    #[error("order {order}: the request could not be made: {why}")]
    Request {
        /// The order.
        order: String,
        /// Why.
        why: String,
    },
    /// Something the order should have is not there.
    #[error("order {order}: {file} is not there")]
    Missing {
        /// The order.
        order: String,
        /// The file.
        file: PathBuf,
    },
    /// The order has another certificate, and that one is in a place.
    #[error("order {0}: its certificate is in place and stays; a new certificate takes a new order")]
    Settled(String),
    /// The order is not next.
    #[error("order {0} is not next: it must be staged before it becomes current")]
    NotStaged(String),
    /// The order signs, or did so before.
    #[error("order {0} is in use and cannot be cancelled")]
    InUse(String),
}

/// Something in a slot's directory that could not be used when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signer slot {slot}: {}: {text}", path.display())]
pub struct SlotFault {
    /// The slot.
    pub slot: String,
    /// The file, by the name it had.
    pub path: PathBuf,
    /// What is wrong, what was done, what to do.
    pub text: String,
}
