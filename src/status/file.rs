//! Reading a source file as one state of it, and telling states apart.

use crate::time::Timestamp;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Tells one state of a file from another without reading it: size, times of change, and which file it is.
///
/// A file replaced by rename differs by its identity, one written in place by its size or times. Two writes in place of the
/// same size within one tick of the file system's clock (some milliseconds) cannot be told apart: write aside and rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    len: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of the inode, where there is one: catches a modification time that was set back.
    changed: (i64, i64),
    device: u64,
    inode: u64,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing of that name.
    #[error("there is no such file; check the path, or wait for it to be published")]
    Missing,
    /// A directory, a pipe, a device.
    #[error("not a regular file")]
    NotAFile,
    /// Beyond the limit for its kind.
    #[error("the file has {len} octets; at most {max} are read")]
    TooLarge {
        /// How large it is.
        len: u64,
        /// How large it may be.
        max: u64,
    },
    /// It was different after reading than before, each time.
    #[error(
        "the file was changed while it was read, {ATTEMPTS} times; write a new file aside and rename it over the old"
    )]
    Changing,
    /// The system says so.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// How often a file that changes under the reader is read again.
const ATTEMPTS: u32 = 3;
/// How long it is left alone in between.
const SETTLE: Duration = Duration::from_millis(50);

impl Fingerprint {
    /// The present state of a file (behind symbolic links); `None` if there is none or it cannot be asked.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|m| Self::from_metadata(&m))
    }

    /// Size in octets.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// When the content was last modified.
    pub fn modified(&self) -> Timestamp {
        Timestamp::from_unix(self.modified.0)
    }

    #[cfg(unix)]
    fn from_metadata(m: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Fingerprint {
            len: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
            device: m.dev(),
            inode: m.ino(),
        }
    }

    #[cfg(not(unix))]
    fn from_metadata(m: &Metadata) -> Self {
        let since = |t: io::Result<std::time::SystemTime>| {
            let since = t.ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
            (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), i64::from(since.subsec_nanos()))
        };
        Fingerprint { len: m.len(), modified: since(m.modified()), changed: since(m.created()), device: 0, inode: 0 }
    }

    /// Whether `later` can be this file with something appended.
    fn has_grown_to(&self, later: &Fingerprint) -> bool {
        (self.device, self.inode) == (later.device, later.inode) && later.len > self.len
    }
}

/// Reads a regular file of at most `max` octets in one state of it.
///
/// `read` gets the open file and its size, and may be called several times. A file that has changed meanwhile is read
/// again, up to three times. If it only grew each time, it is being appended to, and what it held at the beginning of the
/// last attempt counts: an index that never rests must not keep its revocations from being seen.
pub(super) fn read_settled<T>(
    path: &Path,
    max: u64,
    mut read: impl FnMut(&mut dyn io::Read, u64) -> io::Result<T>,
) -> Result<(T, Fingerprint), ReadError> {
    for attempt in 1..=ATTEMPTS {
        // Asked by name first: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(missing)?.is_file() {
            return Err(ReadError::NotAFile);
        }
        let file = File::open(path).map_err(missing)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile);
        }
        let before = Fingerprint::from_metadata(&metadata);
        if before.len > max {
            return Err(ReadError::TooLarge { len: before.len, max });
        }
        let content = read(&mut io::Read::take(&file, before.len), before.len)?;
        let after = Fingerprint::from_metadata(&file.metadata()?);
        if before == after || (attempt == ATTEMPTS && before.has_grown_to(&after)) {
            return Ok((content, before));
        }
        if attempt < ATTEMPTS {
            std::thread::sleep(SETTLE);
        }
    }
    Err(ReadError::Changing)
}

fn missing(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn all(file: &mut dyn Read, _: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        file.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn what_is_no_readable_file_is_refused_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(matches!(read_settled(&path, 9, all), Err(ReadError::Missing)));
        assert!(matches!(read_settled(dir.path(), 9, all), Err(ReadError::NotAFile)));
        std::fs::write(&path, [0; 10]).unwrap();
        assert!(matches!(read_settled(&path, 9, all), Err(ReadError::TooLarge { len: 10, max: 9 })));
        assert_eq!(read_settled(&path, 10, all).unwrap().0, [0; 10]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read_settled(&path, 9, all), Err(ReadError::NotAFile)));
    }

    #[test]
    fn a_file_that_changes_once_under_the_reader_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "old and long").unwrap();
        let mut reads = 0;
        let (content, fingerprint) = read_settled(&path, 99, |file, len| {
            reads += 1;
            if reads == 1 {
                std::fs::write(&path, "new").unwrap();
            }
            all(file, len)
        })
        .unwrap();
        assert_eq!((content.as_slice(), reads), (&b"new"[..], 2));
        assert_eq!(Some(fingerprint), Fingerprint::of(&path));
    }

    #[test]
    fn a_file_that_only_ever_grows_is_read_up_to_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a\n").unwrap();
        let (content, fingerprint) = read_settled(&path, 99, |file, len| {
            let content = all(file, len);
            std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"b\n").unwrap();
            content
        })
        .unwrap();
        assert_eq!(content, b"a\nb\nb\n");
        assert_ne!(Some(fingerprint), Fingerprint::of(&path), "so that it will be read again");
    }

    #[test]
    fn a_file_that_shrinks_each_time_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "aaaaaaaaa").unwrap();
        let result = read_settled(&path, 99, |file, len| {
            let content = all(file, len);
            std::fs::write(&path, vec![b'a'; usize::try_from(len).unwrap() - 1]).unwrap();
            content
        });
        assert!(matches!(result, Err(ReadError::Changing)));
    }
}
