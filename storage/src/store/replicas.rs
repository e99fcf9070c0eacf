//! Replicas come and go: founding, a learner's empty beginning, removal.

use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::limits::FIRST_SNAPSHOT;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::replica::log::RecoveredReplica;
use prost::Message;

use super::{Replica, Store, put_hard_state, put_stint};
use crate::engine::{Cf, Durability, Engine, WriteBatch};
use crate::error::StorageError;
use crate::identity::{NodeIdentity, Note};
use crate::layout::{IDENTITY_KEY, Own, after, cf_of, log_range, own_key, row_prefix};

/// Whether the rows of a partition go with its replica's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rows {
    Delete,
    Keep,
}

impl<E: Engine> Store<E> {
    /// Founds a cluster: this node becomes the only voter of every partition. One synced batch.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    ///
    /// # Panics
    /// When replicas exist already, or the identity has no valid node id.
    pub fn found(
        &mut self,
        partitions: u16,
        identity: &NodeIdentity,
    ) -> Result<Vec<RecoveredReplica>, StorageError> {
        assert!(
            self.replicas.is_empty() && self.tombstones.is_empty(),
            "a disk that has or had replicas founds nothing"
        );
        let founder = identity.id().expect("a node that founds has an id");
        let start = LogPosition {
            index: LogIndex(FIRST_SNAPSHOT.0),
            term: Term(FIRST_SNAPSHOT.1),
        };
        let row = PartitionRow::founded(founder);
        let encoded_row = row.encode_to_vec();
        let mut founded = Vec::with_capacity(usize::from(partitions));
        for partition in (0..partitions).map(PartitionId) {
            let replica = Replica {
                peer: PeerId(1),
                hard_state: HardState {
                    term: start.term,
                    vote: PeerId(0),
                    commit: start.index,
                },
                truncated: start,
                last: start.index,
                row: Some(row.clone()),
                staging: None,
            };
            let batch = &mut self.batch;
            put_stint(batch, partition, replica.stint());
            put_hard_state(batch, partition, replica.peer, replica.hard_state);
            batch.put(
                Cf::Raft,
                &row_prefix(partition, Family::Partition),
                &[&encoded_row],
            );
            founded.push(replica.recovered(partition, Vec::new()));
            self.replicas.insert(partition, replica);
        }
        self.batch
            .put(Cf::Meta, IDENTITY_KEY, &[&identity.encode_to_vec()]);
        self.commit("found the cluster", Durability::Synced)?;
        let note = Note {
            identity: Some(identity.clone()),
            nodes: Vec::new(),
        };
        self.engine
            .write_note(&note.seal())
            .map_err(StorageError::engine("write the note beside the database"))?;
        Ok(founded)
    }

    /// Begins a replica without data: a learner that waits for its first snapshot. Synced, so that
    /// its peer id survives. Beginning the same one again changes nothing.
    ///
    /// # Errors
    /// `BelowTombstone` or `ReplicaExists`: refused, nothing changed. Else the engine failed.
    pub fn create_replica(
        &mut self,
        partition: PartitionId,
        peer: PeerId,
    ) -> Result<RecoveredReplica, StorageError> {
        if let Some(present) = self.replicas.get(&partition) {
            if present.peer == peer && present.row.is_none() && present.last == LogIndex(0) {
                return Ok(present.recovered(partition, Vec::new()));
            }
            return Err(StorageError::ReplicaExists {
                partition,
                peer,
                present: present.peer,
            });
        }
        let floor = self
            .tombstones
            .get(&partition)
            .copied()
            .unwrap_or(PeerId(1));
        if peer < floor {
            return Err(StorageError::BelowTombstone {
                partition,
                peer,
                floor,
            });
        }
        let replica = Replica {
            peer,
            hard_state: HardState::default(),
            truncated: LogPosition::default(),
            last: LogIndex(0),
            row: None,
            staging: None,
        };
        put_stint(&mut self.batch, partition, replica.stint());
        put_hard_state(&mut self.batch, partition, peer, replica.hard_state);
        self.commit("begin a replica", Durability::Synced)?;
        let recovered = replica.recovered(partition, Vec::new());
        self.replicas.insert(partition, replica);
        Ok(recovered)
    }

    /// Deletes a replica and all its data, on the word of its group; peers below `tombstone` can
    /// never exist here again. Synced, one batch. Without a replica only the tombstone is written.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn destroy_replica(
        &mut self,
        partition: PartitionId,
        tombstone: PeerId,
    ) -> Result<(), StorageError> {
        let mut floor = self
            .tombstones
            .get(&partition)
            .copied()
            .unwrap_or_default()
            .max(tombstone);
        self.recent.clear();
        if let Some(replica) = self.replicas.remove(&partition) {
            floor = floor.max(PeerId(replica.peer.0 + 1));
            // Without a row, the rows here are those of a condemned stint.
            let rows = match replica.row {
                Some(_) => Rows::Delete,
                None => Rows::Keep,
            };
            delete_replica(&mut self.batch, partition, replica.peer, rows);
        }
        put_tombstone(&mut self.batch, partition, floor);
        self.tombstones.insert(partition, floor);
        self.commit("delete a replica", Durability::Synced)
    }
}

pub(super) fn put_tombstone(batch: &mut WriteBatch, partition: PartitionId, floor: PeerId) {
    let key = own_key(partition, Own::Tombstone);
    batch.put(Cf::Raft, &key, &[&floor.0.to_be_bytes()]);
}

/// Deletes everything of a replica but its tombstone and what is condemned.
fn delete_replica(batch: &mut WriteBatch, partition: PartitionId, peer: PeerId, rows: Rows) {
    for own in [Own::Stint, Own::HardState, Own::Installing] {
        batch.delete(Cf::Raft, &own_key(partition, own));
    }
    delete_prefix(batch, Cf::State, &own_key(partition, Own::Staged));
    let (from, to) = log_range(partition, peer);
    batch.delete_range(Cf::Log, &from, &to);
    if rows == Rows::Delete {
        delete_rows(batch, partition);
    }
}

/// Deletes the rows of every family.
pub(super) fn delete_rows(batch: &mut WriteBatch, partition: PartitionId) {
    for family in Family::ALL {
        let prefix = row_prefix(partition, family);
        if family == Family::Partition {
            batch.delete(cf_of(family), &prefix);
        } else {
            delete_prefix(batch, cf_of(family), &prefix);
        }
    }
}

pub(super) fn delete_prefix(batch: &mut WriteBatch, cf: Cf, prefix: &[u8]) {
    batch.delete_range(cf, prefix, &after(prefix));
}
