//! The engine of real nodes: one RocksDB in a data directory of our own.
//!
//! Every call may block on the disk; none belongs on an async worker thread. The write-ahead log is
//! recovered by cutting a torn tail and refusing anything else that is damaged: RocksDB's default
//! would silently stop at a flipped byte and drop synced entries and votes of every group after it.

mod data_dir;
mod options;
mod view;

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DB, ErrorKind, ReadOptions, WriteOptions};

use crate::engine::{
    Cf, Change, Durability, Engine, EngineError, Limit, Read, Room, Row, WriteBatch,
};
pub use data_dir::{DataDir, DataDirError};
pub use view::RocksView;

/// An open database; clones share it. The directory stays locked until the last one is gone.
#[derive(Clone)]
pub struct RocksEngine {
    shared: Arc<Shared>,
}

struct Shared {
    // Declared before the directory, so that the database is closed before the lock is given up.
    db: DB,
    dir: DataDir,
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksEngine({})", self.shared.dir.path().display())
    }
}

impl RocksEngine {
    /// Opens the database in a locked directory, and makes it if it is not there.
    ///
    /// # Errors
    /// `Corrupt` when RocksDB says that its files are damaged; else what the disk said.
    pub fn open(dir: DataDir) -> Result<Self, DataDirError> {
        Self::open_with(dir, Recovery::Whole)
    }

    /// Opens a database whose write-ahead log is damaged, with what it has before the damage. What
    /// was synced after it is lost: whoever opens it so must ask the others whether that was
    /// anything.
    ///
    /// # Errors
    /// `Corrupt` when more than the end of the log is damaged; else what the disk said.
    pub fn open_up_to_damage(dir: DataDir) -> Result<Self, DataDirError> {
        Self::open_with(dir, Recovery::UpToDamage)
    }

    fn open_with(dir: DataDir, recovery: Recovery) -> Result<Self, DataDirError> {
        let database = dir.database();
        if dir.is_headless() {
            let why = "the file CURRENT is missing".to_owned();
            return Err(dir.open_failed(&EngineError::Corrupt(why)));
        }
        let cfs = options::column_families();
        let db = DB::open_cf_descriptors(&options::database(recovery), &database, cfs)
            .map_err(|error| dir.open_failed(&classify_open(&error)))?;
        dir.sync()?;
        Ok(Self {
            shared: Arc::new(Shared { db, dir }),
        })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &DataDir {
        &self.shared.dir
    }
}

/// How much of a damaged write-ahead log is good enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recovery {
    /// All but a torn end.
    Whole,
    /// What stands before the damage.
    UpToDamage,
}

fn handle(db: &DB, cf: Cf) -> &ColumnFamily {
    db.cf_handle(cf.name())
        .expect("every column family is opened with the database")
}

impl Read for RocksEngine {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let db = &self.shared.db;
        let value = db
            .get_pinned_cf(handle(db, cf), key)
            .map_err(|error| classify(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError> {
        let db = &self.shared.db;
        let iterator = db.raw_iterator_cf_opt(handle(db, cf), range(from, to));
        collect(iterator, limit)
    }
}

impl Engine for RocksEngine {
    type View = RocksView;

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), EngineError> {
        let db = &self.shared.db;
        let mut rocks = rocksdb::WriteBatch::with_capacity_bytes(batch.bytes() + 1_024);
        for change in batch.changes() {
            match change {
                Change::Put { cf, key, value } => rocks.put_cf(handle(db, cf), key, value),
                Change::Delete { cf, key } => rocks.delete_cf(handle(db, cf), key),
                Change::DeleteRange { cf, from, to } => {
                    rocks.delete_range_cf(handle(db, cf), from, to);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        db.write_opt(rocks, &options)
            .map_err(|error| classify(&error))
    }

    fn view(&self) -> RocksView {
        RocksView::new(Arc::clone(&self.shared))
    }

    fn room(&self) -> Result<Room, EngineError> {
        self.shared.dir.room()
    }

    fn write_note(&self, note: &[u8]) -> Result<(), EngineError> {
        self.shared.dir.write_note(note)
    }
}

fn range(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

fn collect(
    mut iterator: rocksdb::DBRawIteratorWithThreadMode<'_, DB>,
    limit: Limit,
) -> Result<Vec<Row>, EngineError> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        bytes += key.len() + value.len();
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if rows.len() >= limit.rows || bytes >= limit.bytes {
            return Ok(rows);
        }
        iterator.next();
    }
    iterator.status().map_err(|error| classify(&error))?;
    Ok(rows)
}

/// While opening, a file that another one names and that is not there is damage too.
fn classify_open(error: &rocksdb::Error) -> EngineError {
    match classify(error) {
        EngineError::Io(text) if text.contains("No such file or directory") => {
            EngineError::Corrupt(text)
        }
        other => other,
    }
}

/// Sorts RocksDB's errors, of which only the text says what the operating system said.
fn classify(error: &rocksdb::Error) -> EngineError {
    sort(error.kind(), error.to_string())
}

fn sort(kind: ErrorKind, text: String) -> EngineError {
    let says = |words: &str| text.contains(words);
    match kind {
        ErrorKind::Corruption => EngineError::Corrupt(text),
        _ if says("No space left") || says("Disk quota exceeded") => EngineError::NoSpace(text),
        _ if says("Read-only file system") || says("Permission denied") => {
            EngineError::ReadOnly(text)
        }
        _ => EngineError::Io(text),
    }
}

#[cfg(test)]
mod tests;
