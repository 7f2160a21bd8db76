//! Which files have changed: asked by metadata at the caller's pace, which works on every file system.

use super::Fingerprint;
use std::path::{Path, PathBuf};

/// The files of a set of sources, and the state in which each was last reported (or first seen).
///
/// Make it *before* the first load, then [`poll`](Watch::poll) it at most every half second and load what it names. Since a
/// file is looked at before it is loaded, a change that comes in between is reported by the next poll: nothing is missed,
/// and at worst a file is loaded once too often. A file that could not be used is not reported again until it changes.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    files: Vec<(PathBuf, State)>,
}

/// A file that disappears or appears has changed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Seen(Option<Fingerprint>),
    Retry,
}

impl Watch {
    /// Remembers the present state of these files; doubles are watched once.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut watch = Watch::default();
        watch.set_paths(paths);
        watch
    }

    /// Watches these files from now on. Those watched already keep their state; new ones count as seen as they are now.
    pub fn set_paths(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut files: Vec<(PathBuf, State)> = Vec::new();
        for path in paths {
            if files.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let state = match self.files.iter().find(|(known, _)| *known == path) {
                Some((_, state)) => *state,
                None => State::Seen(Fingerprint::of(&path)),
            };
            files.push((path, state));
        }
        self.files = files;
    }

    /// The files that are in another state than when they were last reported, in the order in which they were given.
    pub fn poll(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, state) in &mut self.files {
            let present = State::Seen(Fingerprint::of(path));
            if *state != present {
                *state = present;
                changed.push(path.clone());
            }
        }
        changed
    }

    /// Reports a file at the next poll even if it does not change: for a failure that may pass by itself.
    pub fn retry(&mut self, path: &Path) {
        for (known, state) in &mut self.files {
            if known == path {
                *state = State::Retry;
            }
        }
    }

    /// The watched files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").unwrap();
        let mut watch = Watch::new([a.clone(), b.clone(), a.clone()]);
        assert_eq!(watch.paths().count(), 2);
        assert!(watch.poll().is_empty());

        fs::write(&a, "12").unwrap();
        assert_eq!(watch.poll(), [a.as_path()]);
        assert!(watch.poll().is_empty());

        fs::write(&b, "").unwrap();
        assert_eq!(watch.poll(), [b.as_path()], "a file that appears");
        fs::remove_file(&b).unwrap();
        assert_eq!(watch.poll(), [b.as_path()], "a file that disappears");
        assert!(watch.poll().is_empty());
    }

    #[test]
    fn a_file_replaced_by_one_of_the_same_size_and_date_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("a"), dir.path().join("a.new"));
        fs::write(&path, "1").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut watch = Watch::new([path.clone()]);
        fs::write(&aside, "2").unwrap();
        fs::File::options().write(true).open(&aside).unwrap().set_modified(modified).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(watch.poll(), [path.as_path()]);
    }

    #[test]
    fn files_already_watched_keep_their_state_when_others_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "1").unwrap();
        let mut watch = Watch::new([a.clone()]);
        fs::write(&a, "12").unwrap();
        watch.set_paths([b.clone(), a.clone()]);
        assert_eq!(watch.poll(), [a.as_path()]);
        watch.set_paths([b.clone()]);
        fs::write(&a, "123").unwrap();
        assert!(watch.poll().is_empty());
        watch.retry(&b);
        assert_eq!(watch.poll(), [b.as_path()]);
        assert!(watch.poll().is_empty());
    }
}
