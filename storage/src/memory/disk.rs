//! The simulated disk itself: rows, and how to take back what a crash loses.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::faults::{CrashKind, CrashReport, Faults, LogDamage};
use super::{KeepNote, Tables};
use crate::engine::{Cf, Change, Durability, EngineError, WriteBatch};

/// What undoes one change: the row as it was before.
type Before = (Cf, Bytes, Option<Bytes>);

/// Records of the log that may still lie in its file: older ones are in tables.
const LOG_RECORDS_MAX: usize = 64;

/// Everything a disk held at one moment.
#[derive(Clone, Debug)]
pub struct DiskImage {
    tables: Tables,
    note: Option<Bytes>,
}

#[derive(Debug)]
pub(super) struct Disk {
    /// All records applied, durable or not.
    pub(super) tables: Tables,
    /// For each record that is not durable yet, in order, how to undo it.
    unsynced: VecDeque<Vec<Before>>,
    /// The same for the latest records before those: a log that is damaged loses them as well.
    synced: VecDeque<Vec<Before>>,
    /// A record whose write or sync failed: it may or may not be found after a crash.
    limbo: Option<WriteBatch>,
    pub(super) note: Option<Bytes>,
    pub(super) faults: Faults,
    rng: ChaCha8Rng,
    /// One more after every crash.
    pub(super) run: u64,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tables: Tables::default(),
            unsynced: VecDeque::new(),
            synced: VecDeque::new(),
            limbo: None,
            note: None,
            faults: Faults::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            run: 0,
        }
    }

    pub(super) fn write(
        &mut self,
        batch: &WriteBatch,
        durability: Durability,
    ) -> Result<(), EngineError> {
        self.faults.write()?;
        if durability == Durability::Synced
            && let Err(error) = self.faults.sync()
        {
            self.limbo = Some(batch.clone());
            return Err(error);
        }
        let undo = self.apply(batch);
        match durability {
            Durability::Synced => {
                self.synced.append(&mut self.unsynced);
                self.logged(undo);
            }
            Durability::Buffered => self.unsynced.push_back(undo),
        }
        Ok(())
    }

    /// One more record is safe in the log's file.
    fn logged(&mut self, undo: Vec<Before>) {
        self.synced.push_back(undo);
        let over = self.synced.len().saturating_sub(LOG_RECORDS_MAX);
        self.synced.drain(..over);
    }

    fn apply(&mut self, batch: &WriteBatch) -> Vec<Before> {
        let mut undo = Vec::new();
        for change in batch.changes() {
            match change {
                Change::Put { cf, key, value } => {
                    // Own allocations: a slice of the batch would keep the whole batch alive.
                    let key = Bytes::copy_from_slice(key);
                    let value = Bytes::copy_from_slice(value);
                    let old = self.table(cf).insert(key.clone(), value);
                    undo.push((cf, key, old));
                }
                Change::Delete { cf, key } => {
                    if let Some((key, old)) = self.table(cf).remove_entry(key) {
                        undo.push((cf, key, Some(old)));
                    }
                }
                Change::DeleteRange { cf, from, to } => {
                    let table = self.table(cf);
                    let range = (Bound::Included(from), Bound::Excluded(to));
                    let keys: Vec<Bytes> = table
                        .range::<[u8], _>(range)
                        .map(|(k, _)| k.clone())
                        .collect();
                    for key in keys {
                        let old = table.remove(&key);
                        undo.push((cf, key, old));
                    }
                }
            }
        }
        undo
    }

    fn table(&mut self, cf: Cf) -> &mut super::Table {
        Arc::make_mut(&mut self.tables[cf as usize])
    }

    pub(super) fn crash(&mut self, kind: CrashKind) -> CrashReport {
        let count = self.unsynced.len();
        let mut torn = 0;
        let kept = match kind {
            CrashKind::Process => count,
            CrashKind::PowerLoss => self.rng.random_range(0..=count),
            CrashKind::PowerLossAll => 0,
            CrashKind::TornTail if count == 0 => 0,
            CrashKind::TornTail => {
                torn = 1;
                self.rng.random_range(0..count)
            }
        };
        for undo in self.unsynced.drain(kept..).rev().collect::<Vec<_>>() {
            self.undo(undo);
        }
        self.synced.append(&mut self.unsynced);
        // The log is a prefix: a record that may be there can only be there when all before it are.
        if let Some(batch) = self.limbo.take()
            && kept == count
            && kind != CrashKind::PowerLossAll
            && self.rng.random_bool(0.5)
        {
            let undo = self.apply(&batch);
            self.logged(undo);
        }
        self.new_run();
        CrashReport {
            kept,
            lost: count - kept,
            torn,
        }
    }

    fn undo(&mut self, undo: Vec<Before>) {
        for (cf, key, before) in undo.into_iter().rev() {
            match before {
                Some(value) => self.table(cf).insert(key, value),
                None => self.table(cf).remove(&key),
            };
        }
    }

    fn new_run(&mut self) {
        self.unsynced.clear();
        self.limbo = None;
        self.faults.new_run();
        self.run += 1;
    }

    /// A bit flips in the log's file: what stands from there on is not read any more. Only between
    /// two runs.
    pub(super) fn damage_log(&mut self) -> LogDamage {
        if self.synced.is_empty() {
            return LogDamage::None;
        }
        let from = self.rng.random_range(0..self.synced.len());
        let lost: Vec<Vec<Before>> = self.synced.drain(from..).collect();
        let count = lost.len();
        for undo in lost.into_iter().rev() {
            self.undo(undo);
        }
        self.new_run();
        match count {
            1 => LogDamage::Tail,
            lost => LogDamage::Within { lost },
        }
    }

    pub(super) fn flip_bit(&mut self, cf: Cf, key: &[u8]) -> bool {
        let Some(value) = self.tables[cf as usize].get(key) else {
            return false;
        };
        let mut bytes = value.to_vec();
        let bit = self.rng.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let key = Bytes::copy_from_slice(key);
        self.table(cf).insert(key, bytes.into());
        true
    }

    pub(super) fn flip_any_bit(&mut self, cf: Cf, prefix: &[u8]) -> Option<Bytes> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let keys: Vec<Bytes> = self.tables[cf as usize]
            .range::<[u8], _>(from)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, _)| key.clone())
            .collect();
        if keys.is_empty() {
            return None;
        }
        let key = keys[self.rng.random_range(0..keys.len())].clone();
        self.flip_bit(cf, &key);
        Some(key)
    }

    pub(super) fn swap_values(&mut self, cf: Cf, one: &[u8], other: &[u8]) -> bool {
        let table = self.table(cf);
        let (Some(a), Some(b)) = (table.get(one).cloned(), table.get(other).cloned()) else {
            return false;
        };
        table.insert(Bytes::copy_from_slice(one), b);
        table.insert(Bytes::copy_from_slice(other), a);
        true
    }

    pub(super) fn image(&self) -> DiskImage {
        DiskImage {
            tables: self.tables.clone(),
            note: self.note.clone(),
        }
    }

    pub(super) fn restore(&mut self, image: &DiskImage) {
        self.new_run();
        self.synced.clear();
        self.tables = image.tables.clone();
        self.note.clone_from(&image.note);
    }

    pub(super) fn wipe(&mut self, note: KeepNote) {
        self.new_run();
        self.synced.clear();
        self.tables = Tables::default();
        if note == KeepNote::Lost {
            self.note = None;
        }
    }
}
