//! A file mapped into memory, read-only: the only unsafe code of the crate.
#![allow(unsafe_code, reason = "a file can be mapped in no other way; argued at the line")]

use bytes::Bytes;
use std::fs::File;
use std::io;

/// The whole of a file as octets that the kernel pages in. The file may be renamed or unlinked afterwards.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: `Mmap::map` is unsafe because the octets behind a shared reference would change, or a read would raise
    // SIGBUS, if someone wrote into or truncated the file while it is mapped. Here nobody does:
    // * segment files are written under a temporary name, closed, and only then renamed to the name that is opened here;
    //   no code of ours opens a segment for writing again: a newer one replaces it by rename, which leaves the mapped
    //   inode as it was;
    // * the state directory is created with mode 0700 and held under an exclusive lock, so no second process of ours
    //   writes there, and no other user can;
    // * the mapping is private to this module's `Bytes`, which hands out only shared slices and unmaps on its last drop.
    // Whoever, as the same user or root, truncates a mapped file by hand can stop this process, as they could with a
    // signal. Damage that leaves the length alone is caught by the checksum when the file is opened.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
