//! A disk that dies or fails at any operation, and forgets in a crash what was not synced: octets of files and names in
//! directories apart, each name or not as chance has it.

use super::super::disk::Disk;
use crate::signer::files::FileError;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use zeroize::Zeroizing;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trouble {
    None,
    /// At this operation the process dies.
    Death(u32),
    /// From this operation on so many fail.
    Errors(u32, u32),
}

#[derive(Default)]
pub(super) struct CrashDisk(Mutex<Model>);

#[derive(Default)]
struct Model {
    files: Vec<File>,
    seen: Names,
    lasting: Names,
    /// Changes of names that no sync of their directory has made last.
    pending: Vec<(PathBuf, Change)>,
    operations: u32,
    trouble: Option<Trouble>,
    is_dead: bool,
    random: u64,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct File {
    octets: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone)]
enum Change {
    Dir(PathBuf),
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Unlink(PathBuf),
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Dir(dir) => {
                self.dirs.insert(dir.clone());
            }
            Change::Link(path, file) => {
                self.files.insert(path.clone(), *file);
            }
            Change::Rename(from, to, file) => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
            Change::Unlink(path) => {
                self.files.remove(path);
            }
        }
    }
}

impl Model {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn tick(&mut self) -> io::Result<()> {
        let now = self.operations;
        self.operations += 1;
        match self.trouble {
            Some(Trouble::Death(at)) if now >= at => self.is_dead = true,
            Some(Trouble::Errors(from, count)) if (from..from + count).contains(&now) => {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "full"));
            }
            _ => {}
        }
        if self.is_dead { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    fn change(&mut self, path: &Path, change: Change) {
        self.seen.apply(&change);
        self.pending.push((path.parent().unwrap().to_owned(), change));
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.seen.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl CrashDisk {
    pub(super) fn new(root: &Path, trouble: Trouble, seed: u64) -> Self {
        let disk = CrashDisk::default();
        let mut model = disk.model();
        model.seen.dirs.insert(root.to_owned());
        model.lasting = model.seen.clone();
        model.trouble = Some(trouble);
        model.random = seed ^ 0x9e37_79b9_7f4a_7c15;
        drop(model);
        disk
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }

    pub(super) fn operations(&self) -> u32 {
        self.model().operations
    }

    pub(super) fn is_dead(&self) -> bool {
        self.model().is_dead
    }

    /// The machine loses its power and starts again.
    pub(super) fn crash(&self, next: Trouble) {
        let mut model = self.model();
        let pending = std::mem::take(&mut model.pending);
        for (_, change) in pending {
            if model.random(2) == 0 {
                model.lasting.apply(&change);
            }
        }
        let Names { dirs, mut files } = model.lasting.clone();
        files.retain(|path, _| dirs.contains(path.parent().unwrap()));
        model.lasting = Names { dirs, files };
        model.seen = model.lasting.clone();
        for n in 0..model.files.len() {
            let chance = model.random(3);
            let file = &model.files[n];
            let (new, old) = (file.octets.clone(), file.synced.clone());
            let torn = model.random(new.len() as u64 + 1) as usize;
            let file = &mut model.files[n];
            file.octets = match chance {
                0 => old.clone(),
                1 => new,
                _ => new[..torn].iter().chain(old.get(torn..).unwrap_or_default()).copied().collect(),
            };
            file.synced.clone_from(&file.octets);
        }
        model.is_dead = false;
        drop(model);
        self.expect(next);
    }

    /// What goes wrong next, counted from here.
    pub(super) fn expect(&self, trouble: Trouble) {
        let mut model = self.model();
        model.operations = 0;
        model.trouble = Some(trouble);
    }

    /// Whether these octets are anywhere on the disk, in files that have no name any more too.
    pub(super) fn holds(&self, octets: &[u8]) -> bool {
        self.model().files.iter().any(|file| memchr::memmem::find(&file.octets, octets).is_some())
    }
}

impl Disk for CrashDisk {
    fn read(&self, path: &Path, _private: bool) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let model = self.model();
        let file = model.file(path).map_err(|source| FileError::Io { path: path.into(), source })?;
        Ok(Zeroizing::new(model.files[file].octets.clone()))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let model = self.model();
        if !model.seen.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = model.seen.files.keys().chain(&model.seen.dirs).filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.model().seen.dirs.contains(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut model = self.model();
        model.tick()?;
        if !model.seen.dirs.contains(dir) {
            model.change(dir, Change::Dir(dir.to_owned()));
        }
        Ok(())
    }

    fn write_new(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let mut model = self.model();
        model.tick()?;
        assert!(model.file(path).is_err(), "{} is there", path.display());
        let file = model.files.len();
        model.files.push(File::default());
        model.change(path, Change::Link(path.to_owned(), file));
        model.tick()?;
        model.files[file].octets = octets.to_vec();
        model.tick()?;
        model.files[file].synced = octets.to_vec();
        Ok(())
    }

    fn overwrite(&self, path: &Path) -> io::Result<()> {
        let mut model = self.model();
        let file = model.file(path)?;
        model.tick()?;
        let zeros = vec![0; model.files[file].octets.len()];
        model.files[file].octets.clone_from(&zeros);
        model.tick()?;
        model.files[file].synced = zeros;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut model = self.model();
        let file = model.file(from)?;
        model.tick()?;
        model.change(to, Change::Rename(from.to_owned(), to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut model = self.model();
        model.file(path)?;
        model.tick()?;
        model.change(path, Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut model = self.model();
        model.tick()?;
        let pending = std::mem::take(&mut model.pending);
        for (of, change) in pending {
            if of == dir {
                model.lasting.apply(&change);
            } else {
                model.pending.push((of, change));
            }
        }
        Ok(())
    }
}
