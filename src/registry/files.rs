//! Certificates of CAs, read with a time limit: a file system that hangs costs a thread and the issuers whose certificates lie
//! there, and not the look at the others.

use super::memory::read_bounded;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the first file that hangs is waited for in one look, and each further one.
const PATIENCE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];
/// So many directories may hang at a time, each with a thread. What lies elsewhere is not read then.
const MAX_HUNG: usize = 64;

type Read = dyn Fn(&Path, usize) -> io::Result<Vec<u8>> + Send + Sync;

/// Reads files on a thread beside. A thread that does not return is left behind; until it does, nothing else of its directory is
/// read.
pub(super) struct Files {
    read: Arc<Read>,
    patience: [Duration; 2],
    reader: Option<Reader>,
    /// Directories that hang: by which file, as long as its thread lives.
    hung: HashMap<PathBuf, (PathBuf, Weak<()>)>,
    /// In the present look.
    has_waited: bool,
}

/// A thread that reads what it is asked for. It ends when nobody asks any more.
struct Reader {
    ask: SyncSender<(PathBuf, usize)>,
    answers: Receiver<io::Result<Vec<u8>>>,
    alive: Weak<()>,
}

impl Default for Files {
    fn default() -> Self {
        Self::with(Arc::new(read_bounded), PATIENCE)
    }
}

impl Files {
    fn with(read: Arc<Read>, patience: [Duration; 2]) -> Self {
        Files { read, patience, reader: None, hung: HashMap::new(), has_waited: false }
    }

    /// A new look begins.
    pub(super) fn begin(&mut self) {
        self.has_waited = false;
        self.hung.retain(|_, (_, thread)| thread.strong_count() > 0);
    }

    /// A regular file of at most `max` octets. The text of the error is the same as long as the same file hangs.
    pub(super) fn read(&mut self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        let directory = path.parent().unwrap_or(path);
        if let Some((first, _)) = self.hung.get(directory) {
            return Err(hangs(first));
        }
        if self.hung.len() >= MAX_HUNG {
            let text = format!("not read: file systems hang at {MAX_HUNG} places already");
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::start(self.read.clone())?,
        };
        let gone = || io::Error::other("reading it made its thread end; report this with the file");
        reader.ask.send((path.to_owned(), max)).map_err(|_| gone())?;
        let [first, further] = self.patience;
        match reader.answers.recv_timeout(if self.has_waited { further } else { first }) {
            Ok(answer) => {
                self.reader = Some(reader);
                answer
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                self.has_waited = true;
                tracing::error!("{}: {}", path.display(), hangs(path));
                self.hung.insert(directory.to_owned(), (path.to_owned(), reader.alive));
                Err(hangs(path))
            }
        }
    }
}

impl Reader {
    fn start(read: Arc<Read>) -> io::Result<Self> {
        // It is asked one thing at a time, and may answer when nobody waits any more.
        let (ask, asked) = sync_channel::<(PathBuf, usize)>(1);
        let (answer, answers) = sync_channel(1);
        let life = Arc::new(());
        let alive = Arc::downgrade(&life);
        std::thread::Builder::new().name("registry-read".to_owned()).spawn(move || {
            let _life = life;
            while let Ok((path, max)) = asked.recv() {
                if answer.send(read(&path, max)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Reader { ask, answers, alive })
    }
}

fn hangs(path: &Path) -> io::Error {
    let text = format!("its file system does not answer (asked for {}); it is read again once it does", path.display());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("hung", &self.hung).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Mutex, PoisonError};
    use std::time::Instant;

    /// Files of which some hang until told otherwise.
    #[derive(Clone, Default)]
    pub(in super::super) struct Mount(pub(in super::super) Arc<Mutex<Vec<PathBuf>>>);

    impl Mount {
        pub(in super::super) fn hang(&self, paths: &[&Path]) {
            *self.0.lock().unwrap() = paths.iter().map(|p| (*p).to_owned()).collect();
        }

        /// Waits no longer than 200 and 20 ms for them.
        pub(in super::super) fn files(&self) -> Files {
            let hung = self.0.clone();
            let hangs = move |path: &Path| {
                hung.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|dir| path.starts_with(dir))
            };
            let read = move |path: &Path, max: usize| {
                while hangs(path) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                read_bounded(path, max)
            };
            Files::with(Arc::new(read), [Duration::from_millis(200), Duration::from_millis(20)])
        }
    }

    #[test]
    fn what_hangs_costs_its_directory_one_wait_and_the_others_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for place in ["good", "bad", "worse"] {
            std::fs::create_dir(at(place)).unwrap();
            (0..50).for_each(|n| std::fs::write(at(&format!("{place}/{n}")), place).unwrap());
        }
        let mount = Mount::default();
        mount.hang(&[&at("bad"), &at("worse")]);
        let mut files = mount.files();
        for look in 0..3 {
            let start = Instant::now();
            files.begin();
            for n in 0..50 {
                assert_eq!(files.read(&at(&format!("good/{n}")), 100).unwrap(), b"good");
                for place in ["bad", "worse"] {
                    let text = files.read(&at(&format!("{place}/{n}")), 100).unwrap_err().to_string();
                    assert!(
                        text.contains(&format!("does not answer (asked for {})", at(place).join("0").display())),
                        "{text}"
                    );
                }
            }
            assert!(start.elapsed() < Duration::from_secs(5), "look {look}: 100 files do not wait one after the other");
        }
        assert_eq!(files.hung.len(), 2, "a thread for each");
        mount.hang(&[]);
        let start = Instant::now();
        while files.hung.values().any(|(_, thread)| thread.strong_count() > 0) {
            assert!(start.elapsed() < Duration::from_secs(20), "they end");
            std::thread::sleep(Duration::from_millis(2));
        }
        files.begin();
        assert_eq!(files.read(&at("bad/7"), 100).unwrap(), b"bad");
        assert!(files.read(&at("bad/7"), 2).unwrap_err().to_string().contains("longer than 2 octets"));
    }
}
