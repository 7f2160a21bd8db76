//! Segments on disk: written aside and renamed, mapped on a warm start, refused by name when damaged.
//!
//! No fsync: a segment that a power failure tears fails its checksum and is signed again, which costs CPU time and never an
//! answer. Directory per issuer key, file per part:
//!
//! ```text
//! segments/{first 32 hex digits of the issuer's identity}/{sha1|sha256|…}-{bits}-{slice}.seg
//!                                                            {sha1|sha256|…}-overlay-{sequence}.seg
//! ```

use super::map::map;
use super::segment::{Part, Segment, SegmentError};
use crate::ocsp::HashAlgorithm;
use crate::time::Timestamp;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const EXTENSION: &str = "seg";
/// The most octets a segment file may have; the largest possible one is smaller.
const MAX_FILE_LEN: u64 = 1 << 32;

/// Numbers the files of this process that are being written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Where one process keeps its segments.
#[derive(Clone, Debug)]
pub struct SegmentDir {
    root: PathBuf,
}

/// A segment file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("segment file {}: {fault}; it is not served, its entries are signed again", path.display())]
pub struct RefusedFile {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub fault: RefusedBecause,
}

/// Why a segment file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RefusedBecause {
    /// It cannot be opened or mapped.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not an intact segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// It belongs to another issuer than its directory says.
    #[error("it belongs to another issuer")]
    OtherIssuer,
}

impl SegmentDir {
    /// Segments live under `root`, which is created on the first write.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        SegmentDir { root: root.into() }
    }

    /// Writes a segment aside and renames it into place; gives its path and the segment mapped from there, which takes no
    /// memory but the page cache's.
    pub fn write(&self, segment: &Segment) -> Result<(PathBuf, Segment), RefusedBecause> {
        let dir = self.issuer_dir(&segment.meta().issuer_key);
        create_private(&dir)?;
        let hash = segment.template().spec().issuer.algorithm;
        let path = dir.join(file_name(hash, segment.meta().part, segment.meta().sequence));
        // A name of its own: a file that another thread or process writes under the same one could be renamed, mapped, and
        // then written into.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let aside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        let octets = segment.to_bytes();
        let put = File::create_new(&aside).and_then(|mut file| file.write_all(&octets));
        drop(octets);
        if let Err(error) = put.and_then(|()| fs::rename(&aside, &path)) {
            let _ = fs::remove_file(&aside); // a disk that is full needs it most
            return Err(error.into());
        }
        let mapped = open(&path, &segment.meta().issuer_key)?;
        Ok((path, mapped))
    }

    /// Removes a slice's file, because what it says no longer holds.
    pub fn discard(&self, issuer_key: &[u8; 32], algorithm: HashAlgorithm, part: Part) {
        self.remove(&self.issuer_dir(issuer_key).join(file_name(algorithm, part, 0)));
    }

    /// Removes the files of slices that are cut otherwise than by `bits`.
    pub fn remove_other_slicings(&self, issuer_key: &[u8; 32], algorithm: HashAlgorithm, bits: u8) {
        let Ok(entries) = fs::read_dir(self.issuer_dir(issuer_key)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(algorithm.name())) else { continue };
            let cut = rest
                .strip_prefix('-')
                .and_then(|rest| rest.split_once('-'))
                .and_then(|(cut, _)| cut.parse::<u8>().ok());
            if cut.is_some_and(|cut| cut != bits) {
                self.remove(&entry.path());
            }
        }
    }

    /// Opens every segment of an issuer. Files that cannot be used are reported one by one and left where they are; left-over
    /// temporary files are removed.
    pub fn load(&self, issuer_key: &[u8; 32]) -> (Vec<(PathBuf, Segment)>, Vec<RefusedFile>) {
        let dir = self.issuer_dir(issuer_key);
        let (mut segments, mut refused) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return (segments, refused),
            Err(e) => {
                refused.push(RefusedFile { path: dir, fault: e.into() });
                return (segments, refused);
            }
        };
        for path in entries.filter_map(|entry| entry.ok().map(|e| e.path())) {
            match path.extension().and_then(OsStr::to_str) {
                Some(EXTENSION) => {}
                Some("tmp") => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            match open(&path, issuer_key) {
                Ok(segment) => segments.push((path, segment)),
                Err(fault) => refused.push(RefusedFile { path, fault }),
            }
        }
        (segments, refused)
    }

    /// Removes the directories of issuers that are not in `keep`, unless a file in them was written after `since`: an issuer that
    /// is taken out by mistake finds its segments again.
    pub fn sweep(&self, keep: &[[u8; 32]], since: Timestamp) {
        use std::os::unix::fs::MetadataExt;
        let kept: HashSet<PathBuf> = keep.iter().map(|key| self.issuer_dir(key)).collect();
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for dir in entries.flatten().map(|entry| entry.path()).filter(|dir| !kept.contains(dir)) {
            let Ok(files) = fs::read_dir(&dir) else { continue };
            let files: Vec<_> = files.flatten().collect();
            let is_old = |file: &fs::DirEntry| file.metadata().is_ok_and(|metadata| metadata.mtime() < since.unix());
            if files.iter().all(is_old) {
                files.iter().for_each(|file| self.remove(&file.path()));
                let _ = fs::remove_dir(&dir); // not if something else lies there
            }
        }
    }

    /// Removes a file that has been superseded.
    pub fn remove(&self, path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// Where an issuer's segments are.
    pub fn issuer_dir(&self, issuer_key: &[u8; 32]) -> PathBuf {
        let (short, _) = issuer_key.split_at(16);
        self.root.join(data_encoding::HEXLOWER.encode(short))
    }
}

fn open(path: &Path, issuer_key: &[u8; 32]) -> Result<Segment, RefusedBecause> {
    // Asked by name first: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(SegmentError::Foreign.into());
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_LEN {
        return Err(SegmentError::Foreign.into());
    }
    if metadata.len() == 0 {
        return Err(SegmentError::Truncated.into());
    }
    let segment = Segment::parse(map(&file)?)?;
    if segment.meta().issuer_key != *issuer_key {
        return Err(RefusedBecause::OtherIssuer);
    }
    Ok(segment)
}

fn file_name(hash: HashAlgorithm, part: Part, sequence: u64) -> String {
    let hash = hash.name();
    match part {
        Part::Slice { bits, index } => format!("{hash}-{bits}-{index}.{EXTENSION}"),
        Part::Overlay => format!("{hash}-overlay-{sequence}.{EXTENSION}"),
    }
}

/// Creates a directory, and its missing parents, that only its owner may enter.
pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::super::segment::tests::segment;
    use super::*;

    #[test]
    fn what_an_issuer_left_that_is_gone_is_removed_when_it_is_old() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = SegmentDir::new(tmp.path().join("segments"));
        let (path, _) = dir.write(&segment(5, false)).unwrap();
        dir.sweep(&[[9; 32]], Timestamp::MAX);
        dir.sweep(&[], Timestamp::from_unix(1_000_000));
        assert!(path.exists(), "kept, and young");
        dir.sweep(&[[8; 32]], Timestamp::MAX);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn what_was_written_is_mapped_again_and_the_damaged_file_is_named() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = SegmentDir::new(tmp.path().join("segments"));
        let written = segment(50, false);
        let (path, mapped) = dir.write(&written).unwrap();
        assert_eq!(mapped.to_bytes(), written.to_bytes());
        let (loaded, refused) = dir.load(&[9; 32]);
        assert!(refused.is_empty());
        assert_eq!(loaded[0].1.to_bytes(), written.to_bytes());

        let mut octets = fs::read(&path).unwrap();
        let middle = octets.len() / 2;
        octets[middle] ^= 1;
        fs::write(path.with_file_name("sha256-3-6.seg"), &octets).unwrap();
        fs::write(path.with_file_name("sha256-3-7.seg"), b"").unwrap();
        fs::write(path.with_file_name("half.tmp"), b"x").unwrap();
        let (loaded, refused) = dir.load(&[9; 32]);
        assert_eq!(loaded.len(), 1);
        let mut named: Vec<String> = refused.iter().map(ToString::to_string).collect();
        named.sort();
        assert!(named[0].contains("sha256-3-6.seg") && named[0].contains("damaged"), "{}", named[0]);
        assert!(named[1].contains("sha256-3-7.seg") && named[1].contains("cut off"), "{}", named[1]);
        assert!(!path.with_file_name("half.tmp").exists());
    }
}
