//! Raft's synchronous `Storage`, in memory: the whole log above the truncated position.
//!
//! The disk holds the same entries; this copy exists because the engine reads synchronously. It is
//! bounded by truncation (`replica::truncation`). Snapshots are never kept here: a wanted one is
//! noted, built by the store, and offered once.
//!
//! Absent: any I/O. What is appended here before its sync is exactly what the engine expects of
//! `advance_append_async`.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ghostlight_protocol::ids::{LogIndex, LogPosition, PeerId, Term};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError, util};

/// Bytes of all logs of a node: kept where their entries come and go, so that nobody adds them up.
#[derive(Clone, Default, Debug)]
pub struct AllLogs(Arc<AtomicUsize>);

impl AllLogs {
    /// As of now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one log has of them; it goes with the log.
#[derive(Default)]
struct Share {
    bytes: usize,
    of: AllLogs,
}

impl Share {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.of.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.of.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn move_to(&mut self, all: &AllLogs) {
        let bytes = self.bytes;
        self.take(bytes);
        self.of = all.clone();
        self.add(bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.take(self.bytes);
    }
}

/// The log of one replica, as the engine sees it.
pub(super) struct TailLog {
    initial: RaftState,
    truncated: LogPosition,
    entries: VecDeque<Entry>,
    share: Share,
    snapshots: RefCell<BTreeMap<u64, SnapshotSlot>>,
}

/// Where a snapshot for one peer stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum SnapshotSlot {
    /// The engine asked; the store has not been told yet.
    Wanted,
    /// The store is opening it.
    Opening,
    /// Opened: the engine may send it.
    Ready(Box<Snapshot>),
}

impl TailLog {
    pub(super) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        truncated: LogPosition,
        entries: VecDeque<Entry>,
    ) -> Self {
        let mut share = Share::default();
        share.add(entries.iter().map(entry_bytes).sum());
        let log = Self {
            initial: RaftState {
                hard_state,
                conf_state,
            },
            truncated,
            entries,
            share,
            snapshots: RefCell::default(),
        };
        for (expected, entry) in (truncated.index.0 + 1..).zip(&log.entries) {
            assert_eq!(entry.index, expected, "a recovered log has no gaps");
        }
        log
    }

    pub(super) fn truncated(&self) -> LogPosition {
        self.truncated
    }

    pub(super) fn last(&self) -> LogPosition {
        self.entries
            .back()
            .map_or(self.truncated, |e| position(e.index, e.term))
    }

    pub(super) fn bytes(&self) -> usize {
        self.share.bytes
    }

    /// Its bytes count among these from now on.
    pub(super) fn count_among(&mut self, all: &AllLogs) {
        self.share.move_to(all);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The index above which at most so many bytes and entries stand.
    pub(super) fn newest_within(&self, bytes: usize, entries: usize) -> LogIndex {
        let (mut left, mut count) = (self.share.bytes, self.entries.len());
        let mut through = self.truncated.index;
        for entry in &self.entries {
            if left <= bytes && count <= entries {
                break;
            }
            left -= entry_bytes(entry);
            count -= 1;
            through = LogIndex(entry.index);
        }
        through
    }

    /// Appends entries, replacing everything at or above the first one's index.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.truncated.index.0 && first.index <= self.last().index.0 + 1,
            "appending {} to a log of {:?}..={:?}",
            first.index,
            self.truncated,
            self.last()
        );
        while self
            .entries
            .back()
            .is_some_and(|last| last.index >= first.index)
        {
            if let Some(replaced) = self.entries.pop_back() {
                self.share.take(entry_bytes(&replaced));
            }
        }
        self.share.add(entries.iter().map(entry_bytes).sum());
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to and including `through`; returns its position if there was anything to
    /// forget.
    pub(super) fn truncate(&mut self, through: LogIndex) -> Option<LogPosition> {
        if through <= self.truncated.index {
            return None;
        }
        assert!(
            through <= self.last().index,
            "truncating {through} beyond {:?}",
            self.last()
        );
        while self.entries.front().is_some_and(|e| e.index <= through.0) {
            if let Some(gone) = self.entries.pop_front() {
                self.share.take(entry_bytes(&gone));
                self.truncated = position(gone.index, gone.term);
            }
        }
        Some(self.truncated)
    }

    /// Begins again after an installed snapshot.
    pub(super) fn reset(&mut self, at: LogPosition) {
        self.entries.clear();
        self.share.take(self.share.bytes);
        self.truncated = at;
    }

    /// Peers for which the engine wants a snapshot that nobody builds yet; marks them as being
    /// built.
    pub(super) fn take_wanted_snapshots(&mut self) -> Vec<PeerId> {
        let mut wanted = Vec::new();
        for (peer, slot) in self.snapshots.get_mut() {
            if *slot == SnapshotSlot::Wanted {
                *slot = SnapshotSlot::Opening;
                wanted.push(PeerId(*peer));
            }
        }
        wanted
    }

    pub(super) fn set_snapshot(&mut self, to: PeerId, snapshot: Snapshot) {
        self.snapshots
            .get_mut()
            .insert(to.0, SnapshotSlot::Ready(Box::new(snapshot)));
    }

    pub(super) fn clear_snapshot(&mut self, to: PeerId) {
        self.snapshots.get_mut().remove(&to.0);
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.truncated.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

impl Storage for TailLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last().index.0 + 1,
            "entries up to {high} of {:?}",
            self.last()
        );
        let first = (low - self.truncated.index.0 - 1) as usize;
        let count = (high - low) as usize;
        let mut entries: Vec<Entry> = self
            .entries
            .iter()
            .skip(first)
            .take(count)
            .cloned()
            .collect();
        util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index.0 {
            return Ok(self.truncated.term.0);
        }
        match self.at(index) {
            Some(entry) => Ok(entry.term),
            None if index < self.truncated.index.0 => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index.0)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let mut snapshots = self.snapshots.borrow_mut();
        match snapshots.get(&to) {
            Some(SnapshotSlot::Ready(snapshot))
                if snapshot.get_metadata().index >= request_index.max(self.truncated.index.0) =>
            {
                Ok(snapshot.as_ref().clone())
            }
            Some(SnapshotSlot::Wanted | SnapshotSlot::Opening) => {
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
            Some(SnapshotSlot::Ready(_)) | None => {
                snapshots.insert(to, SnapshotSlot::Wanted);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

pub(super) fn position(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    // The engine's own fields, roughly.
    entry.data.len() + entry.context.len() + 48
}
