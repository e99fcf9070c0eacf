//! The queues between the threads of a node, and their bounds.
//!
//! Core and disk feed each other. The disk answers each batch of the core with one message, or two
//! if it is to be synced, and the core takes what waits before it hands out the next batch: the
//! queue of answers can never be full. Reads are handed out many at a time; there `reads` keeps
//! core and readers from waiting for each other.

use ghostlight_core::io::{ReadTicket, StoreEffect, StoreInput};
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::PartitionId;

/// Batches that wait for the disk; then the core waits, and its peers with it.
pub const DISK_BATCHES_MAX: usize = 1_024;
/// Answers of the disk and of the reader of snapshots: more than there can be, so that neither
/// waits, also with a few words about the disk's room between them.
pub const DISK_ANSWERS_MAX: usize = 2 * DISK_BATCHES_MAX + SNAPSHOTS_MAX + 64;
/// Steps of snapshots being sent that wait to be read: more than the core wants at once.
pub const SNAPSHOTS_MAX: usize = 256;
/// Reads that wait; then the core waits. From as many on, it also leaves what would read more
/// waiting.
pub const READS_MAX: usize = 16_384;
/// Answers of reads: more than the reads that wait and those in the readers' hands.
pub const READ_ANSWERS_MAX: usize = READS_MAX + READERS + 1;
/// Threads that read.
pub const READERS: usize = 2;
/// What turns ask and how they end; then turns wait.
pub const RUNNER_INPUTS_MAX: usize = 65_536;

const _: () = assert!(DISK_ANSWERS_MAX > 2 * DISK_BATCHES_MAX + 1);
const _: () = assert!(READ_ANSWERS_MAX > READS_MAX + READERS);

/// Work for the disk thread.
pub type DiskBatch = Vec<StoreEffect>;

/// Its answer: the inputs of one batch, or the error that ends the node.
pub type DiskAnswer = Result<Vec<StoreInput>, ghostlight_storage::StorageError>;

/// One read of rows.
#[derive(Debug)]
pub struct ReadJob {
    /// The answer repeats it.
    pub ticket: ReadTicket,
    /// The partition.
    pub partition: PartitionId,
    /// Which rows.
    pub rows: RowsWanted,
}

/// Its answer.
pub type ReadAnswer = (
    ReadTicket,
    PartitionId,
    Result<ghostlight_disk::RowsFound, ghostlight_storage::StorageError>,
);
