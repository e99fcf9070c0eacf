//! An in-memory engine on a simulated disk: deterministic, seeded, and as unreliable as asked for.
//!
//! The disk outlives its engines. Every write is one record of a write-ahead log; a synced write
//! makes all records before it durable. A crash keeps a prefix of the records that includes every
//! durable one. Faults are asked for by the test: errors on the n-th operation, a full or stalled
//! disk, flipped bits, misplaced values, an old image restored.

mod disk;
mod faults;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::engine::{Cf, Durability, Engine, EngineError, Limit, Read, Room, Row, WriteBatch};
use disk::Disk;
pub use disk::DiskImage;
pub use faults::{CrashKind, CrashReport, Fault, LogDamage, Operation, Pace};

/// One column family's rows.
type Table = BTreeMap<Bytes, Bytes>;
/// All rows; cloning shares them until one side writes.
type Tables = [Arc<Table>; Cf::ALL.len()];

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    disk: Arc<Mutex<Disk>>,
}

/// An engine on a [`MemoryDisk`], until that disk crashes.
#[derive(Clone, Debug)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
    /// The disk's run in which it was opened.
    run: u64,
}

/// The rows as they were.
#[derive(Clone, Debug)]
pub struct MemoryView {
    tables: Tables,
}

impl MemoryDisk {
    /// An empty disk; everything random about it comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new(seed))),
        }
    }

    /// Opens the disk. Engines opened since the last crash share it.
    #[must_use]
    pub fn open(&self) -> MemoryEngine {
        MemoryEngine {
            disk: Arc::clone(&self.disk),
            run: self.lock().run,
        }
    }

    /// Ends every engine, and loses what `kind` loses. Faults that were asked for are over.
    pub fn crash(&self, kind: CrashKind) -> CrashReport {
        self.lock().crash(kind)
    }

    /// Makes the `nth` operation of a kind from now fail (1: the next one).
    pub fn fail(&self, operation: Operation, nth: u64, fault: Fault) {
        self.lock().faults.arm(operation, nth, fault);
    }

    /// Makes nothing fail any more that has not failed yet.
    pub fn disarm(&self) {
        self.lock().faults.disarm();
    }

    /// Sets how fast the disk is. The disk itself never waits: whoever simulates time asks for it.
    pub fn set_pace(&self, pace: Pace) {
        self.lock().faults.pace = pace;
    }

    /// How fast the disk is.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.lock().faults.pace
    }

    /// Sets the room that engines report, and without any refuses writes.
    pub fn set_room(&self, room: Room) {
        self.lock().faults.room = room;
    }

    /// Ends every engine, and flips a bit of a random record among the latest in the log's file.
    pub fn damage_log(&self) -> LogDamage {
        self.lock().damage_log()
    }

    /// Flips one random bit of a stored value. Returns whether there was such a row.
    pub fn flip_bit(&self, cf: Cf, key: &[u8]) -> bool {
        self.lock().flip_bit(cf, key)
    }

    /// Flips one random bit of a random value among those whose key begins with `prefix`; returns
    /// its key.
    pub fn flip_any_bit(&self, cf: Cf, prefix: &[u8]) -> Option<Bytes> {
        self.lock().flip_any_bit(cf, prefix)
    }

    /// Exchanges two stored values, as a misdirected write does. Returns whether both rows exist.
    pub fn swap_values(&self, cf: Cf, one: &[u8], other: &[u8]) -> bool {
        self.lock().swap_values(cf, one, other)
    }

    /// A copy of everything, as of now.
    #[must_use]
    pub fn image(&self) -> DiskImage {
        self.lock().image()
    }

    /// Ends every engine and puts an earlier image in place: a rollback.
    pub fn restore(&self, image: &DiskImage) {
        self.lock().restore(image);
    }

    /// Ends every engine and empties the disk, as if it had been replaced. The note stays on
    /// request.
    pub fn wipe(&self, note: KeepNote) {
        self.lock().wipe(note);
    }

    /// The note kept outside of the database.
    #[must_use]
    pub fn note(&self) -> Option<Bytes> {
        self.lock().note.clone()
    }

    /// Writes and syncs so far, for measurements and to place faults.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let disk = self.lock();
        (disk.faults.writes, disk.faults.syncs)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }
}

/// What a replaced disk keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepNote {
    /// The database was moved aside; the note beside it is still there.
    Kept,
    /// All is gone.
    Lost,
}

// A poisoned lock means that a test thread panicked; the data is still what was written.
fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryEngine {
    fn reading(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let mut disk = lock(&self.disk);
        if disk.run != self.run {
            return Err(EngineError::Closed);
        }
        disk.faults.read()?;
        Ok(disk)
    }
}

impl Read for MemoryEngine {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.reading()?.tables[cf as usize].get(key).cloned())
    }

    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError> {
        Ok(scan_table(
            &self.reading()?.tables[cf as usize],
            from,
            to,
            limit,
        ))
    }
}

impl Engine for MemoryEngine {
    type View = MemoryView;

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), EngineError> {
        let mut disk = lock(&self.disk);
        if disk.run != self.run {
            return Err(EngineError::Closed);
        }
        disk.write(batch, durability)
    }

    fn view(&self) -> MemoryView {
        MemoryView {
            tables: lock(&self.disk).tables.clone(),
        }
    }

    fn room(&self) -> Result<Room, EngineError> {
        Ok(lock(&self.disk).faults.room)
    }

    fn write_note(&self, note: &[u8]) -> Result<(), EngineError> {
        let mut disk = lock(&self.disk);
        if disk.run != self.run {
            return Err(EngineError::Closed);
        }
        disk.note = Some(Bytes::copy_from_slice(note));
        Ok(())
    }
}

impl Read for MemoryView {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.tables[cf as usize].get(key).cloned())
    }

    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError> {
        Ok(scan_table(&self.tables[cf as usize], from, to, limit))
    }
}

fn scan_table(table: &Table, from: &[u8], to: &[u8], limit: Limit) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    if from >= to {
        return rows;
    }
    for (key, value) in table.range::<[u8], _>((
        std::ops::Bound::Included(from),
        std::ops::Bound::Excluded(to),
    )) {
        bytes += key.len() + value.len();
        rows.push((key.clone(), value.clone()));
        if rows.len() >= limit.rows || bytes >= limit.bytes {
            break;
        }
    }
    rows
}

#[cfg(test)]
mod tests;
