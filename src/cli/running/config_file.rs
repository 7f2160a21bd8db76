//! The configuration file of a running service: when it has changed, and what it says.

use crate::config::Config;
use crate::status::Watch;
use std::path::PathBuf;

/// The file, followed. What is being written is left alone: nearly any beginning of a configuration is one too.
pub(super) struct ConfigFile {
    file: PathBuf,
    watch: Watch,
    is_changing: bool,
}

impl ConfigFile {
    /// Of a file that has been read; its present state counts as known.
    pub(super) fn new(file: PathBuf) -> Self {
        ConfigFile { watch: Watch::new([file.clone()]), file, is_changing: false }
    }

    /// Whether it has changed and was the same in two looks one after the other since.
    pub(super) fn has_changed(&mut self) -> bool {
        let changes = !self.watch.poll().is_empty();
        std::mem::replace(&mut self.is_changing, changes) && !changes
    }

    /// What it says now; nothing if it was written to meanwhile, which [`has_changed`](Self::has_changed) tells again once it rests.
    pub(super) fn read(&mut self) -> Result<Option<Config>, String> {
        self.watch.poll();
        // Asked by name first: opening a pipe would wait for its writer.
        if std::fs::metadata(&self.file).is_ok_and(|metadata| !metadata.is_file()) {
            self.is_changing = false;
            return Err(format!("{} is not a regular file", self.file.display()));
        }
        let read = Config::load(&self.file);
        self.is_changing = !self.watch.poll().is_empty();
        if self.is_changing {
            return Ok(None);
        }
        read.map(Some).map_err(|faults| format!("\n{faults}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_is_told_once_and_when_the_file_rests() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stillgood.toml");
        fs::write(&path, "state_dir = \"s\"\n").unwrap();
        let mut file = ConfigFile::new(path.clone());
        assert!(!file.has_changed());
        let longer = |n: usize| fs::write(&path, format!("state_dir = \"s\"\n{}", "#\n".repeat(n))).unwrap();
        longer(1);
        assert!(!file.has_changed(), "seen for the first time");
        longer(2);
        assert!(!file.has_changed(), "it does not rest");
        assert!(file.has_changed());
        assert!(!file.has_changed(), "told before");
    }

    #[test]
    fn what_was_read_at_once_is_not_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stillgood.toml");
        let mut file = ConfigFile::new(path.clone());
        fs::write(&path, "[log]\nrequests = 7\n").unwrap();
        assert!(!file.has_changed());
        assert_eq!(file.read().unwrap().unwrap().log.requests, 7);
        assert!(!file.has_changed() && !file.has_changed());
        fs::remove_file(&path).unwrap();
        assert!(file.read().unwrap_err().contains("cannot be read"));
        fs::create_dir(&path).unwrap();
        assert!(file.read().unwrap_err().contains("not a regular file"));
    }
}
