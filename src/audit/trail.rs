//! The trail on disk: lines of JSON, only ever appended.

use super::event::{AuditEvent, What, Witness};
use super::files;
use crate::time::Clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of the trail is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailLimits {
    /// A file that would grow beyond this many octets is put aside and a new one begun.
    pub file_size: u64,
    /// Files put aside that are kept; the oldest goes first.
    pub keep: usize,
}

/// The audit trail of a running service: `audit.jsonl` in a directory of its own (0700, the file 0600).
///
/// An event is one `write` of one line. Orders, swaps, commands and what becomes of the registry are on the disk (fsync)
/// when [`Witness::saw`] returns; requests, answers and notices are with the next of those, or when the system likes. A
/// line that cannot be written is lost: that is logged as an error, counted ([`Trail::lost`]), and written
/// into the trail itself when it can be written to again. Nobody who tells the trail of something is stopped by that.
#[derive(Debug)]
pub struct Trail {
    dir: PathBuf,
    state: Mutex<State>,
    lost: AtomicU64,
}

struct State {
    file: Option<File>,
    size: u64,
    /// The file may not end with the end of a line.
    torn: bool,
    limits: TrailLimits,
    clock: Arc<dyn Clock>,
    /// Events lost since the last one that was written, and why the first of them was.
    losing: Option<(u64, String)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("size", &self.size).field("losing", &self.losing).finish_non_exhaustive()
    }
}

impl Trail {
    /// Opens the trail in `dir`, which is made where it does not exist. A last line that a crash cut short is left as it
    /// is, and the next one begins on a line of its own.
    ///
    /// # Errors
    /// If the directory or the file cannot be made or written to.
    pub fn open(dir: &Path, limits: TrailLimits, clock: Arc<dyn Clock>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut state = State { file: None, size: 0, torn: false, limits, clock, losing: None };
        state.file(dir)?;
        if state.torn {
            let file = files::current(dir);
            tracing::warn!(
                "{}: the last line was cut short, by a crash or a full disk; it is left as it is",
                file.display()
            );
        }
        Ok(Trail { dir: dir.to_owned(), state: Mutex::new(state), lost: AtomicU64::new(0) })
    }

    /// Events that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Why events are being lost; `None`: the last one was written.
    pub fn fault(&self) -> Option<String> {
        self.lock().losing.as_ref().map(|(_, why)| why.clone())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held can at worst have cost that line.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Trail {
    fn saw(&self, event: &AuditEvent) {
        let mut state = self.lock();
        let made_up = state.losing.as_ref().map(|(count, why)| {
            let text = format!("{count} events before this could not be written: {why}");
            let mut gap =
                AuditEvent::new(state.clock.now(), "audit", What::Notice, super::event::About::All).saying(text);
            gap.alarm = true;
            gap
        });
        let written = made_up.map_or(Ok(()), |gap| state.append(&self.dir, &gap)).and_then(|()| {
            if state.losing.take().is_some() {
                tracing::info!("the audit trail can be written to again");
            }
            state.append(&self.dir, event)
        });
        if let Err(error) = written {
            self.lost.fetch_add(1, Ordering::Relaxed);
            let trouble = format!("{}: {error}", self.dir.display());
            let (count, _) = state.losing.get_or_insert((0, trouble.clone()));
            *count += 1;
            // The 1st, 2nd, 4th, 8th …: loud, and no flood.
            if count.is_power_of_two() {
                tracing::error!(
                    lost = *count,
                    "the audit trail cannot be written to, and events are lost: {trouble}; renewal goes on"
                );
            }
        }
    }
}

impl State {
    fn append(&mut self, dir: &Path, event: &AuditEvent) -> io::Result<()> {
        let mut file = self.file(dir)?;
        let mut line = line(event)?;
        if std::mem::take(&mut self.torn) {
            line.insert(0, b'\n');
        }
        if self.size > 0 && self.size.saturating_add(line.len() as u64) > self.limits.file_size {
            self.put_aside(dir)?;
            file = self.file(dir)?;
        }
        if let Err(error) = file.write_all(&line) {
            // Part of it may have been written.
            self.torn = true;
            return Err(error);
        }
        self.size += line.len() as u64;
        if event.what.is_lasting() { file.sync_data() } else { Ok(()) }
    }

    /// The file to write to. Opened anew when somebody has moved it away.
    fn file(&mut self, dir: &Path) -> io::Result<File> {
        let path = files::current(dir);
        if let Some(file) = &self.file {
            let (ours, there) = (file.metadata()?, fs::metadata(&path));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
                return file.try_clone();
            }
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
        }
        self.size = metadata.len();
        self.torn = self.size > 0 && last_octet(&mut file)? != b'\n';
        File::open(dir)?.sync_all()?;
        self.file = Some(file.try_clone()?);
        Ok(file)
    }

    /// Gives the present file the next number, and removes the oldest beyond what is kept.
    fn put_aside(&mut self, dir: &Path) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_data()?;
        }
        let old = files::numbered(dir)?;
        let next = old.last().map_or(1, |(number, _)| number.saturating_add(1));
        fs::rename(files::current(dir), files::aside(dir, next))?;
        let beyond = (old.len() + 1).saturating_sub(self.limits.keep.max(1));
        for (_, path) in old.iter().take(beyond) {
            match fs::remove_file(path) {
                Ok(()) => tracing::info!("{}: removed, as more files are not kept", path.display()),
                Err(error) => tracing::error!("{}: cannot be removed: {error}", path.display()),
            }
        }
        Ok(())
    }
}

impl What {
    /// On the disk before anything goes on.
    fn is_lasting(self) -> bool {
        !matches!(self, What::Request | What::Answer | What::Notice | What::Verified | What::Other)
    }
}

fn last_octet(file: &mut File) -> io::Result<u8> {
    let mut octet = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut octet)?;
    Ok(octet[0])
}

fn line(event: &AuditEvent) -> io::Result<Vec<u8>> {
    let cut;
    let event = if event.text.len() > AuditEvent::MAX_TEXT {
        let end = (0..=AuditEvent::MAX_TEXT).rev().find(|n| event.text.is_char_boundary(*n)).unwrap_or(0);
        cut = AuditEvent { text: event.text.get(..end).unwrap_or_default().to_owned() + "…", ..event.clone() };
        &cut
    } else {
        event
    };
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

/// Shared by those who act.
impl<W: Witness + ?Sized> Witness for Arc<W> {
    fn saw(&self, event: &AuditEvent) {
        (**self).saw(event);
    }
}
