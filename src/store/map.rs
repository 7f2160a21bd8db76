//! A file mapped into memory, read-only, and how to have it fetched before it is needed: the only unsafe code of the crate.
#![allow(unsafe_code, reason = "there is no other way to map a file or to prefetch; argued at each line")]

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

/// Octets that the processor fetches at once.
pub(super) const CACHE_LINE: usize = 64;

/// Asks the processor to fetch the cache line in which a place begins, without waiting for it.
#[inline]
pub(super) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it changes nothing that a program can see and raises no fault, whatever the address. It
        // is unsafe only because it takes a pointer, which is that of a place borrowed here.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(place);
}
