//! Immutable segments of signed statuses, one lookup, atomic swap; the same octets in memory and on disk.

mod disk;
mod hash;
mod keys;
mod map;
mod segment;
mod snapshot;
mod wave;

pub(crate) use disk::create_private;
pub use disk::{RefusedBecause, RefusedFile, SegmentDir};
pub use hash::hash;
pub use keys::{Hit, Keys, KeysError, MAX_ENTRIES};
pub use segment::{Part, Segment, SegmentError, SegmentMeta};
pub use snapshot::{Hint, IssuerSlot, Live, Lookup, Policy, Routes, Store};
pub use wave::{MAX_BITS, Wave};
