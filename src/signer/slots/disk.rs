//! What slots ask of the file system: a few operations, so that tests can put one in its place that dies at any of them and
//! forgets what was not synced.

use crate::signer::MAX_KEY_LEN;
use crate::signer::files::{self, FileError, MAX_CERTIFICATE_FILE_LEN};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names read of one directory; a slot has a dozen files, a node a few thousand slots.
const MAX_NAMES: usize = 100_000;
/// Files still to be written.
const ASIDE: &str = "tmp";
/// Files about to be overwritten and removed.
const DOOMED: &str = "destroyed";
/// So many unreadable files of one name are kept; the last of them is replaced.
const MAX_UNREADABLE: usize = 9;

/// A file system.
pub(super) trait Disk: Send + Sync {
    /// Everything in a regular file; of a private one also that only its owner may read it.
    fn read(&self, path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, FileError>;
    /// The names in a directory.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether it is a directory.
    fn is_dir(&self, path: &Path) -> bool;
    /// Makes a directory and its parents, for the owner only. One that is there is kept.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file for the owner only; what is in it is on disk when this returns.
    fn write_new(&self, path: &Path, octets: &[u8]) -> io::Result<()>;
    /// Writes zeros over everything in it; they are on disk when this returns.
    fn overwrite(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory last.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

impl dyn Disk + '_ {
    /// Puts a file in place in one step: it is there as a whole and for good, or as it was before.
    pub(super) fn put(&self, path: &Path, octets: &[u8]) -> Result<(), FileError> {
        let aside = with_suffix(path, ASIDE);
        self.destroy_file(&aside)?;
        let written = self.write_new(&aside, octets).and_then(|()| self.rename(&aside, path));
        if let Err(source) = written {
            let _ = self.destroy_file(&aside); // a disk that is full needs it most; the next start does it otherwise
            return Err(io_error(path, source));
        }
        self.sync_parent(path)
    }

    /// Removes a file after what was in it has been written over. First its name is changed for good, so that half a key never
    /// stands where a whole one is looked for. No file, no fault.
    pub(super) fn destroy(&self, path: &Path) -> Result<(), FileError> {
        let doomed = with_suffix(path, DOOMED);
        match self.rename(path, &doomed) {
            Ok(()) => self.sync_parent(path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error(path, source)),
        }
        self.destroy_file(&doomed)
    }

    /// Finishes what an earlier process began to write or to destroy, if this is the name of such a file.
    pub(super) fn clean(&self, path: &Path) -> Result<(), FileError> {
        let leftover = path.extension().is_some_and(|e| e == ASIDE || e == DOOMED);
        if leftover { self.destroy_file(path) } else { Ok(()) }
    }

    /// Renames a file that cannot be used, so that it is kept for people and in nobody's way; gives its new name.
    pub(super) fn set_aside(&self, path: &Path) -> Result<PathBuf, FileError> {
        let names = path.parent().and_then(|dir| self.names(dir).ok()).unwrap_or_default();
        let is_taken = |p: &PathBuf| p.file_name().is_some_and(|n| names.iter().any(|name| n == name.as_str()));
        let mut free = (1..=MAX_UNREADABLE).map(|n| with_suffix(path, &format!("unreadable-{n}")));
        let to = free.clone().find(|to| !is_taken(to)).or_else(|| free.next_back()).unwrap_or_else(|| path.into());
        self.rename(path, &to).map_err(|source| io_error(path, source))?;
        self.sync_parent(path)?;
        Ok(to)
    }

    fn destroy_file(&self, path: &Path) -> Result<(), FileError> {
        match self.overwrite(path).and_then(|()| self.remove(path)) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error(path, source)),
        }
    }

    fn sync_parent(&self, path: &Path) -> Result<(), FileError> {
        let dir = path.parent().unwrap_or(Path::new("."));
        self.sync_dir(dir).map_err(|source| io_error(dir, source))
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> FileError {
    FileError::Io { path: path.into(), source }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The machine's.
pub(super) struct LocalDisk;

impl Disk for LocalDisk {
    fn read(&self, path: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
        if private { files::read_key_file(path) } else { files::read(path, MAX_CERTIFICATE_FILE_LEN, |_| Ok(())) }
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.take(MAX_NAMES).map(|entry| entry.map(|e| e.file_name().into_string()));
        // Names that are not text are none of ours.
        names.filter_map(|name| name.map(Result::ok).transpose()).collect()
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn write_new(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(octets)?;
        file.sync_all()
    }

    fn overwrite(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        file.rewind()?;
        // What is larger than a key is no key of ours.
        let zeros = [0; 4096];
        let mut left = length.min(2 * MAX_KEY_LEN as u64);
        while left > 0 {
            let n = left.min(zeros.len() as u64);
            file.write_all(zeros.get(..usize::try_from(n).unwrap_or_default()).unwrap_or_default())?;
            left -= n;
        }
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
