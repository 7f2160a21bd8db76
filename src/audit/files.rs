//! The files of the trail: `audit.jsonl` is written to, `audit.000001.jsonl` and so on were put aside, the oldest first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file that is written to.
pub(super) fn current(dir: &Path) -> PathBuf {
    dir.join("audit.jsonl")
}

/// The file that was put aside under this number.
pub(super) fn aside(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("audit.{number:06}.jsonl"))
}

/// All files that were put aside, the oldest first.
pub(super) fn numbered(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("audit.")?.strip_suffix(".jsonl")?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
