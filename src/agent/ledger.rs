//! The ledger: what renewal must remember over a restart, in one embedded database file.
//!
//! It holds records of slots, endpoints and pauses, no keys: those are in [`signer::slots`](crate::signer::slots), so nothing that
//! signs is lost with it. One transaction per [`Ledger::write`], durable when it returns.

use crate::renewal::Record;
use crate::time::Timestamp;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Records by [`Record::key`], as JSON.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// What could not be read, by key and time, as JSON: kept for people.
const ASIDE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("aside");
/// So many unreadable records are kept.
const MAX_ASIDE: usize = 1_000;
/// So long the keys of what was set aside are given at each start.
const ASIDE_FOR: Duration = Duration::from_secs(30 * 86_400);
/// A record takes about 600 octets; this holds those of ten thousand slots.
const CACHE: usize = 8 << 20;

/// The open ledger.
pub struct Ledger {
    path: PathBuf,
    /// `None` after a fault: opened again at the next use.
    database: Option<Database>,
}

/// What the ledger held when it was opened.
#[derive(Debug, Default)]
pub struct Restored {
    /// The records, each with when it was written.
    pub records: Vec<(Record, Timestamp)>,
    /// What was set aside, and why; for the log, as alarms.
    pub faults: Vec<String>,
    /// The keys of the records that were set aside now or in the last thirty days: which orders they knew is not known.
    pub aside: BTreeSet<String>,
    /// The ledger begins anew: it knows no order, whatever lies on disk.
    pub is_new: bool,
}

/// Why the ledger cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger {path}: {reason}", path = path.display())]
pub struct LedgerError {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// What stands under a key.
#[derive(Serialize, Deserialize)]
struct Entry<R> {
    at: Timestamp,
    record: R,
}

/// What could not be read.
#[derive(Serialize)]
struct Aside<'a> {
    key: &'a str,
    reason: &'a str,
    octets: String,
}

/// Why opening failed.
enum Opening {
    /// The file is no ledger, or a broken one.
    Damaged(String),
    /// The disk, or another process.
    Failed(String),
}

impl Ledger {
    /// Opens the ledger, or begins one. A file that is damaged is renamed aside and a new one begun; a record that cannot be
    /// read is set aside within it. Both are told.
    ///
    /// # Errors
    /// The disk does not let it be read or written, or another process has it.
    pub fn open(path: &Path, now: Timestamp) -> Result<(Ledger, Restored), LedgerError> {
        let mut faults = Vec::new();
        let mut is_new = is_empty(path);
        let mut ledger = Ledger { path: path.to_owned(), database: None };
        let read = match ledger.open_and_read() {
            Err(Opening::Damaged(reason)) => {
                let kept = ledger.put_aside(now)?;
                is_new = true;
                faults.push(format!(
                    "the ledger {} is damaged ({reason}); it is kept as {} and a new one begun: orders that were open are made anew, failure counts and pauses are forgotten, signers are not concerned, and no order's key on disk is destroyed before the next start",
                    path.display(),
                    kept.display()
                ));
                ledger.open_and_read()
            }
            read => read,
        };
        let (records, unreadable) = read.map_err(|e| match e {
            Opening::Damaged(reason) | Opening::Failed(reason) => ledger.error(reason),
        })?;
        if !unreadable.is_empty() {
            ledger.set_aside(&unreadable, now)?;
        }
        for (key, reason, _) in &unreadable {
            faults.push(format!("the record {key} of the ledger cannot be read and is set aside: {reason}; an order that it knew keeps its key for thirty days"));
        }
        let aside = ledger.recently_aside(now)?;
        Ok((ledger, Restored { records, faults, aside, is_new }))
    }

    /// Writes these records over those of the same keys, in one transaction; on disk when it returns.
    ///
    /// # Errors
    /// Nothing of it was written.
    pub fn write(&mut self, records: &[Record], now: Timestamp) -> Result<(), LedgerError> {
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            let value = serde_json::to_vec(&Entry { at: now, record }).map_err(|e| self.error(e.to_string()))?;
            entries.push((record.key(), value));
        }
        self.transaction(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for (key, value) in &entries {
                table.insert(key.as_str(), value.as_slice())?;
            }
            Ok(())
        })
    }

    /// Removes the records of these keys; no such record, no fault.
    pub fn forget(&mut self, keys: &[String]) -> Result<(), LedgerError> {
        self.transaction(|transaction| {
            let mut table = transaction.open_table(RECORDS)?;
            for key in keys {
                table.remove(key.as_str())?;
            }
            Ok(())
        })
    }

    fn error(&self, reason: String) -> LedgerError {
        LedgerError { path: self.path.clone(), reason }
    }

    fn transaction(
        &mut self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), LedgerError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => match guarded(|| open(&self.path)) {
                Ok(Ok(database)) => database,
                Ok(Err(Opening::Damaged(reason) | Opening::Failed(reason))) | Err(reason) => {
                    return Err(self.error(reason));
                }
            },
        };
        let written = guarded(|| -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        });
        match written {
            Ok(Ok(())) => {
                self.database = Some(database);
                Ok(())
            }
            // It refuses everything after a fault; the next use opens it again, which repairs it.
            Ok(Err(e)) => Err(self.error(e.to_string())),
            Err(panic) => Err(self.error(panic)),
        }
    }

    #[allow(clippy::type_complexity, reason = "two lists, used once")]
    fn open_and_read(&mut self) -> Result<(Vec<(Record, Timestamp)>, Vec<(String, String, Vec<u8>)>), Opening> {
        let read = guarded(|| {
            let database = open(&self.path)?;
            let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
            let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
                let transaction = database.begin_write()?;
                transaction.open_table(RECORDS)?;
                transaction.open_table(ASIDE)?;
                transaction.commit()?;
                let transaction = database.begin_read()?;
                for entry in transaction.open_table(RECORDS)?.iter()? {
                    let (key, value) = entry?;
                    entries.push((key.value().to_owned(), value.value().to_vec()));
                }
                Ok(std::mem::take(&mut entries))
            };
            let mut read = read;
            match read() {
                Ok(entries) => Ok((database, entries)),
                Err(redb::Error::Io(e)) => Err(Opening::Failed(e.to_string())),
                Err(e) => Err(Opening::Damaged(e.to_string())),
            }
        });
        let (database, entries) = read.map_err(Opening::Damaged)??;
        self.database = Some(database);
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            match decode(&key, &value) {
                Ok(entry) => records.push(entry),
                Err(reason) => unreadable.push((key, reason, value)),
            }
        }
        Ok((records, unreadable))
    }

    fn set_aside(&mut self, unreadable: &[(String, String, Vec<u8>)], now: Timestamp) -> Result<(), LedgerError> {
        self.transaction(|transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            let mut aside = transaction.open_table(ASIDE)?;
            for (key, reason, value) in unreadable {
                let octets = String::from_utf8_lossy(value).into_owned();
                let text = serde_json::to_vec(&Aside { key, reason, octets }).unwrap_or_default();
                aside.insert(format!("{now} {key}").as_str(), text.as_slice())?;
                records.remove(key.as_str())?;
            }
            let mut count = aside.iter()?.count();
            while count > MAX_ASIDE && aside.pop_first()?.is_some() {
                count -= 1;
            }
            Ok(())
        })
    }

    /// The keys of what was set aside lately, which begin with the time.
    fn recently_aside(&mut self, now: Timestamp) -> Result<BTreeSet<String>, LedgerError> {
        let since = now.minus(ASIDE_FOR).to_string();
        let mut keys = BTreeSet::new();
        self.transaction(|transaction| {
            for entry in transaction.open_table(ASIDE)?.range(since.as_str()..)? {
                keys.extend(entry?.0.value().split_once(' ').map(|(_, key)| key.to_owned()));
            }
            Ok(())
        })?;
        Ok(keys)
    }

    /// Renames the file, so that it is kept for people and in nobody's way.
    fn put_aside(&self, now: Timestamp) -> Result<PathBuf, LedgerError> {
        let mut kept = self.path.clone().into_os_string();
        kept.push(format!(".damaged-{}", now.unix()));
        let kept = PathBuf::from(kept);
        std::fs::rename(&self.path, &kept).map_err(|e| self.error(format!("damaged, and cannot be renamed: {e}")))?;
        Ok(kept)
    }
}

fn open(path: &Path) -> Result<Database, Opening> {
    let failed = |e: io::Error| Opening::Failed(e.to_string());
    let is_new = is_empty(path);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    if is_new {
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
    }
    let backend = FileBackend::new(file);
    let opened = backend.and_then(|backend| {
        Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(backend)
    });
    opened.map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Opening::Failed("another process has it open".to_owned())
        }
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            Opening::Failed(e.to_string())
        }
        // Nothing is wrong with the file: a program of another version would read it.
        e @ (DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted) => Opening::Failed(e.to_string()),
        e => Opening::Damaged(e.to_string()),
    })
}

/// Whether nothing is there: a file without an octet is none either, and is what a crash or a full disk may leave.
fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.len() == 0)
}

fn decode(key: &str, value: &[u8]) -> Result<(Record, Timestamp), String> {
    let entry: Entry<Record> = serde_json::from_slice(value).map_err(|e| e.to_string())?;
    match entry.record.key() {
        own if own == key => Ok((entry.record, entry.at)),
        own => Err(format!("it is a record of {own}")),
    }
}

/// A file that was altered may make the database panic.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| super::work::panic_text(panic.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::renewal::{Pause, Reach};

    const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

    fn pauses(reason: &str) -> Record {
        let (reason, who) = (reason.to_owned(), "alice".to_owned());
        Record::Pauses(vec![Pause { reach: Reach::All, until: NOW, reason, who, since: None }])
    }

    fn endpoint(name: &str) -> Record {
        let json = format!(
            r#"{{"endpoint":{{"endpoint":"{name}","attempts":[],"not_before":"2027-01-15T08:00:00Z","failures":0}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn reopened(path: &Path) -> Restored {
        Ledger::open(path, NOW).unwrap().1
    }

    #[test]
    fn what_was_written_last_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let (mut ledger, restored) = Ledger::open(&path, NOW).unwrap();
        assert!(restored.records.is_empty() && restored.faults.is_empty());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        ledger.write(&[pauses("first"), endpoint("main"), endpoint("other")], NOW).unwrap();
        ledger.write(&[pauses("second")], NOW).unwrap();
        ledger.forget(&["endpoint/other".to_owned()]).unwrap();
        drop(ledger);
        let restored = reopened(&path);
        assert_eq!(restored.records, [(endpoint("main"), NOW), (pauses("second"), NOW)]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_set_aside_by_name_and_the_others_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let (mut ledger, _) = Ledger::open(&path, NOW).unwrap();
        ledger.write(&[pauses("keep")], NOW).unwrap();
        let misplaced = serde_json::to_vec(&Entry { at: NOW, record: pauses("x") }).unwrap();
        ledger
            .transaction(|t| {
                let mut table = t.open_table(RECORDS)?;
                table.insert("signer/broken", b"{".as_slice())?;
                table.insert("signer/misplaced", misplaced.as_slice())?;
                Ok(())
            })
            .unwrap();
        drop(ledger);
        let restored = reopened(&path);
        assert_eq!(restored.records, [(pauses("keep"), NOW)]);
        assert_eq!(restored.faults.len(), 2, "{:?}", restored.faults);
        assert!(restored.faults[0].contains("signer/broken"), "{:?}", restored.faults);
        assert!(restored.faults[1].contains("it is a record of pauses"), "{:?}", restored.faults);
        let later = reopened(&path);
        assert!(later.faults.is_empty());
        let keys = ["signer/broken".to_owned(), "signer/misplaced".to_owned()];
        assert!(restored.aside.iter().eq(&keys) && later.aside.iter().eq(&keys), "{restored:?} {later:?}");
        let much_later = Ledger::open(&path, NOW.plus(ASIDE_FOR).plus(Duration::from_secs(1))).unwrap().1;
        assert!(much_later.aside.is_empty() && !much_later.is_new);
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        let (mut ledger, _) = Ledger::open(&path, NOW).unwrap();
        ledger.write(&[pauses("lost")], NOW).unwrap();
        drop(ledger);
        let whole = std::fs::read(&path).unwrap();
        let zeroed = |range: std::ops::Range<usize>| {
            let mut octets = whole.clone();
            octets[range].fill(0);
            octets
        };
        let cases =
            [b"not a ledger".to_vec(), zeroed(0..64), zeroed(64..whole.len()), whole[..whole.len() / 2].to_vec()];
        for (n, octets) in cases.into_iter().enumerate() {
            std::fs::write(&path, octets).unwrap();
            let later = Timestamp::from_unix(NOW.unix() + i64::try_from(n).unwrap());
            let (mut ledger, restored) = Ledger::open(&path, later).unwrap();
            assert!(restored.records.is_empty() && restored.is_new, "case {n}");
            assert!(restored.faults.iter().any(|f| f.contains("is damaged")), "case {n}: {:?}", restored.faults);
            ledger.write(&[pauses("anew")], later).unwrap();
            drop(ledger);
            assert_eq!(reopened(&path).records.len(), 1);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_file_without_an_octet_is_a_new_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.redb");
        std::fs::write(&path, b"").unwrap();
        let restored = reopened(&path);
        assert!(restored.is_new && restored.faults.is_empty(), "{restored:?}");
        assert!(!reopened(&path).is_new);
    }

    #[test]
    fn a_disk_that_refuses_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let Err(error) = Ledger::open(&directory.path().join("absent/ledger.redb"), NOW) else { panic!() };
        assert!(error.to_string().contains("absent/ledger.redb: No such file"), "{error}");
    }
}
