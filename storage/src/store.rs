//! All of a node's replicas on one engine: the one place that knows what the bytes mean.
//!
//! One thread owns a store and is the only writer; other threads read through [`Reader`]. What is
//! cached here is only what that one writer wrote. Append batches are synced, apply batches are
//! not: they share one write-ahead log, so that an applied row never survives without the log
//! before it.
//!
//! Absent: threads, queues, and any decision about what should be replicated where.

mod apply;
mod condemn;
mod install;
mod log;
mod node;
mod open;
mod overlay;
mod recent;
mod replicas;

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId};
use ghostlight_protocol::marks::Marks;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::{HardState, LogEntry};

use crate::engine::{Cf, Durability, Engine, WriteBatch};
use crate::error::StorageError;
use crate::identity::NodeIdentity;
use crate::layout::{Own, own_key};
use crate::reader::Reader;
use crate::record::{Stint, encode_hard_state};
pub use install::Staged;

/// The store of one node.
#[derive(Debug)]
pub struct Store<E> {
    engine: E,
    replicas: BTreeMap<PartitionId, Replica>,
    tombstones: BTreeMap<PartitionId, PeerId>,
    /// Reused by every write.
    batch: WriteBatch,
    recent: recent::RecentRows,
    /// Staged snapshots up to this size are installed in one batch.
    install_batch_bytes_max: usize,
}

/// What a store finds when it is opened.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recovered {
    /// Who the node is; `None`: the disk is new.
    pub identity: Option<NodeIdentity>,
    /// The replicas that are whole, ascending by partition.
    pub replicas: Vec<RecoveredReplica>,
    /// The ones that are not, now or since an earlier start, ascending by partition.
    pub condemned: Vec<Condemned>,
    /// Smallest peer id that may exist here, where one is set.
    pub tombstones: BTreeMap<PartitionId, PeerId>,
    /// The node's own mark, and those that others have told.
    pub marks: Marks,
}

/// A replica that broke its promises, or may have. Its data is set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condemned {
    /// The group.
    pub partition: PartitionId,
    /// The stint that ended.
    pub peer: PeerId,
    /// What is damaged.
    pub why: String,
}

/// What the writer knows of one living replica without reading.
#[derive(Debug)]
struct Replica {
    peer: PeerId,
    hard_state: HardState,
    /// The log begins after it.
    truncated: LogPosition,
    /// Index of the last entry, or that of `truncated`.
    last: LogIndex,
    row: Option<PartitionRow>,
    staging: Option<install::Staging>,
}

impl Replica {
    fn applied(&self) -> LogIndex {
        self.row
            .as_ref()
            .map_or(LogIndex(0), |row| LogIndex(row.applied_index))
    }

    fn stint(&self) -> Stint {
        Stint {
            peer: self.peer,
            truncated: self.truncated,
        }
    }

    fn recovered(&self, partition: PartitionId, tail: Vec<LogEntry>) -> RecoveredReplica {
        RecoveredReplica {
            partition,
            peer: self.peer,
            hard_state: self.hard_state,
            truncated: self.truncated,
            tail,
            row: self.row.clone(),
        }
    }

    /// Every relation between the parts that recovery checks too.
    fn check_invariants(&self, partition: PartitionId) {
        let (applied, commit) = (self.applied(), self.hard_state.commit);
        assert!(
            self.truncated.index <= applied,
            "{partition}: log cut at {} past applied {applied}",
            self.truncated.index
        );
        assert!(
            applied <= commit,
            "{partition}: applied {applied} past commit {commit}"
        );
        assert!(
            commit <= self.last,
            "{partition}: commit {commit} past log end {}",
            self.last
        );
    }
}

/// Staged snapshots up to this size are installed in one batch; above it, in steps behind a marker.
const INSTALL_BATCH_BYTES_MAX: usize = 8 << 20;

impl<E: Engine> Store<E> {
    /// A handle for reading from other threads.
    #[must_use]
    pub fn reader(&self) -> Reader<E> {
        Reader::new(self.engine.clone())
    }

    /// Where a replica stands; `None` if none lives here, or it has no data yet.
    #[must_use]
    pub fn row(&self, partition: PartitionId) -> Option<&PartitionRow> {
        self.replicas.get(&partition)?.row.as_ref()
    }

    /// Writes the collected batch; whatever happens, the next one begins empty.
    fn commit(&mut self, doing: &'static str, durability: Durability) -> Result<(), StorageError> {
        let result = self.engine.write(&self.batch, durability);
        self.batch.clear();
        result.map_err(StorageError::engine(doing))
    }
}

fn put_stint(batch: &mut WriteBatch, partition: PartitionId, stint: Stint) {
    batch.put(
        Cf::Raft,
        &own_key(partition, Own::Stint),
        &[&stint.encode()],
    );
}

fn put_hard_state(
    batch: &mut WriteBatch,
    partition: PartitionId,
    peer: PeerId,
    hard_state: HardState,
) {
    let key = own_key(partition, Own::HardState);
    batch.put(Cf::Raft, &key, &[&encode_hard_state(peer, hard_state)]);
}

#[cfg(test)]
mod tests;
