//! The small key-value engine under everything else: ordered keys, atomic batches, consistent
//! views.
//!
//! An engine knows nothing of partitions, logs or checksums; it keeps what it is given, in the
//! order in which it is given: of all batches written, those that survive a crash are a prefix that
//! includes the last synced one. That is the only guarantee `Store` builds on.

mod batch;

use bytes::Bytes;

pub use batch::{Change, WriteBatch};

/// A column family: a key space of its own, tuned for what it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Cf {
    /// The node's own facts.
    Meta = 0,
    /// Hard states, stints, tombstones and partition rows: small and hot.
    Raft = 1,
    /// Log entries: written once, read rarely, deleted soon.
    Log = 2,
    /// State rows, actor versions, cluster facts, and chunks of incoming snapshots.
    State = 3,
    /// Recorded answers and sessions.
    Dedup = 4,
    /// Messages between partitions.
    Outbox = 5,
}

impl Cf {
    /// Every column family.
    pub const ALL: [Self; 6] = [
        Self::Meta,
        Self::Raft,
        Self::Log,
        Self::State,
        Self::Dedup,
        Self::Outbox,
    ];

    /// Its name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Raft => "raft",
            Self::Log => "log",
            Self::State => "state",
            Self::Dedup => "dedup",
            Self::Outbox => "outbox",
        }
    }
}

/// When a write is safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It and everything before it is on disk when the call returns.
    Synced,
    /// It survives a crash only together with everything before it, and perhaps not at all.
    Buffered,
}

/// Where a scan stops. It returns at least one row if there is one. A short page is therefore not
/// the end: it may be short in rows because they are large; [`Limit::stopped`] tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Rows, at most.
    pub rows: usize,
    /// Bytes of keys and values; the row that reaches it is the last.
    pub bytes: usize,
}

impl Limit {
    /// A bound on rows, and a mebibyte or the row that crosses it.
    #[must_use]
    pub fn rows(rows: usize) -> Self {
        Self {
            rows,
            bytes: 1 << 20,
        }
    }

    /// Whether a scan that returned these rows was stopped by the limit; if not, there are no more.
    #[must_use]
    pub fn stopped(self, rows: &[Row]) -> bool {
        let bytes = |row: &Row| row.0.len() + row.1.len();
        rows.len() >= self.rows || rows.iter().map(bytes).sum::<usize>() >= self.bytes
    }
}

/// Key and value as stored.
pub type Row = (Bytes, Bytes);

/// What went wrong in an engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine found its own files damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The disk is full.
    #[error("the disk is full: {0}")]
    NoSpace(String),
    /// The disk does not take writes.
    #[error("the disk is read-only: {0}")]
    ReadOnly(String),
    /// Any other error of the disk or the operating system.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The handle belongs to a run that has ended: only the simulated disk says so.
    #[error("the handle was closed by a crash")]
    Closed,
}

/// Reading: from the present, or from a view of the past.
pub trait Read {
    /// Reads one value.
    ///
    /// # Errors
    /// The disk failed or is damaged.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Reads rows with `from <= key < to`, ascending, until the limit. One scan is consistent in
    /// itself.
    ///
    /// # Errors
    /// The disk failed or is damaged.
    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError>;
}

/// A database. Clones share it.
pub trait Engine: Read + Clone + Send + Sync + 'static {
    /// A consistent view that lives on its own.
    type View: Read + Send + 'static;

    /// Writes a batch as one atom.
    ///
    /// # Errors
    /// Nothing is known about the batch, and no later write may succeed: the process must end.
    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), EngineError>;

    /// The state as of now.
    fn view(&self) -> Self::View;

    /// How much room the disk has for this process. May take as long as a file system that hangs.
    ///
    /// # Errors
    /// The operating system does not say.
    fn room(&self) -> Result<Room, EngineError>;

    /// Keeps a small note outside of the database, durably, for the day the database cannot be
    /// opened.
    ///
    /// # Errors
    /// The note may be the old one or the new one.
    fn write_note(&self, note: &[u8]) -> Result<(), EngineError>;
}

/// Room on the disk that an engine lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that can still be written without privileges.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}
