//! Receiving a snapshot: chunks are staged out of sight, then replace the replica's data in one
//! piece.
//!
//! Up to a few mebibytes that piece is one synced batch. Above, a marker is written and synced
//! first, then the rows in steps, then the numbers, with the marker's end, synced: whoever finds
//! the marker on opening has half a replica, and condemns it.

use bytes::Bytes;
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogPosition, PartitionId, PeerId};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::HardState;
use prost::Message;

use super::replicas::{delete_prefix, delete_rows};
use super::{Store, put_hard_state, put_stint};
use crate::engine::{Cf, Durability, Engine, WriteBatch};
use crate::error::StorageError;
use crate::layout::{Own, cf_of, log_range, numbered_key, own_key, row_key_into, row_prefix};
use crate::reader::read_failed;
use crate::record;
use crate::snapshot::{ChunkRow, parse_chunk};

/// A transfer that is arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staging {
    transfer: u64,
    next: u64,
    bytes: usize,
}

/// What became of a chunk. `next` is the number wanted next, for the acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Staged {
    /// It is staged, or was before.
    Taken {
        /// Number wanted next.
        next: u64,
    },
    /// It is not what is wanted.
    Refused {
        /// Number wanted next; 0: from the beginning.
        next: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl<E: Engine> Store<E> {
    /// Stages one chunk of a snapshot. Chunk 0 of another transfer discards what was staged before.
    /// Buffered: a crash discards the whole transfer anyway.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn stage_chunk(
        &mut self,
        partition: PartitionId,
        peer: PeerId,
        transfer: u64,
        number: u64,
        chunk: Bytes,
    ) -> Result<Staged, StorageError> {
        let refused = |next, why| Ok(Staged::Refused { next, why });
        let Some(replica) = self.replicas.get_mut(&partition).filter(|r| r.peer == peer) else {
            return refused(0, format!("peer {peer} does not live here"));
        };
        let present = replica
            .staging
            .filter(|staging| staging.transfer == transfer);
        let next = present.map_or(0, |staging| staging.next);
        if number < next {
            return Ok(Staged::Taken { next });
        }
        if number > next {
            return refused(next, format!("chunk {number} came before chunk {next}"));
        }
        if let Err(why) = parse_chunk(number, chunk.clone()) {
            return refused(next, why);
        }
        if present.is_none() && replica.staging.is_some() {
            delete_prefix(&mut self.batch, Cf::State, &own_key(partition, Own::Staged));
        }
        let key = numbered_key(partition, Own::Staged, number);
        self.batch.put(Cf::State, &key, &[&chunk]);
        replica.staging = Some(Staging {
            transfer,
            next: next + 1,
            bytes: present.map_or(0, |staging| staging.bytes) + chunk.len(),
        });
        self.commit("stage a snapshot", Durability::Buffered)?;
        Ok(Staged::Taken { next: next + 1 })
    }

    /// Discards what is staged for a partition.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn discard_staging(&mut self, partition: PartitionId) -> Result<(), StorageError> {
        let Some(replica) = self.replicas.get_mut(&partition) else {
            return Ok(());
        };
        if replica.staging.take().is_none() {
            return Ok(());
        }
        delete_prefix(&mut self.batch, Cf::State, &own_key(partition, Own::Staged));
        self.commit("discard a staged snapshot", Durability::Buffered)
    }

    /// Replaces a replica's rows by the staged ones and empties its log, which then begins after
    /// `at`. Synced. Gives the new partition row.
    ///
    /// # Errors
    /// `SnapshotInvalid`: nothing changed, ask for the snapshot again. `Damaged`: the disk gave
    /// back other chunks than were staged; condemn the replica. Else the engine failed.
    pub fn install(
        &mut self,
        partition: PartitionId,
        peer: PeerId,
        transfer: u64,
        hard_state: HardState,
        at: LogPosition,
        chunks: u64,
    ) -> Result<PartitionRow, StorageError> {
        let bytes = self.check_staged(partition, peer, transfer, at, chunks)?;
        let row = self.check_chunks(partition, at, chunks)?;
        if bytes > self.install_batch_bytes_max {
            let marker = own_key(partition, Own::Installing);
            self.batch
                .put(Cf::Raft, &marker, &[&transfer.to_be_bytes()]);
            self.commit("begin to install a snapshot", Durability::Synced)?;
        }
        self.recent.clear();
        if !canary::sings(Canary::InstallKeepsRows) {
            delete_rows(&mut self.batch, partition);
        }
        for number in 0..chunks {
            let rows = match self.staged_chunk(partition, number) {
                Ok(rows) => rows,
                Err(error) => {
                    self.batch.clear();
                    return Err(error);
                }
            };
            put_rows(&mut self.batch, partition, rows);
            if bytes > self.install_batch_bytes_max {
                self.commit("install a snapshot", Durability::Buffered)?;
            }
        }
        self.finish_install(partition, hard_state, at, row)
    }

    fn check_staged(
        &self,
        partition: PartitionId,
        peer: PeerId,
        transfer: u64,
        at: LogPosition,
        chunks: u64,
    ) -> Result<usize, StorageError> {
        let invalid = |why: String| Err(StorageError::SnapshotInvalid { partition, why });
        let Some(replica) = self.replicas.get(&partition).filter(|r| r.peer == peer) else {
            return invalid(format!("peer {peer} does not live here"));
        };
        if at.index < replica.hard_state.commit {
            let commit = replica.hard_state.commit;
            return invalid(format!("it ends at {}, before commit {commit}", at.index));
        }
        match replica.staging {
            Some(staging) if staging.transfer == transfer && staging.next == chunks => {
                Ok(staging.bytes)
            }
            Some(staging) => invalid(format!(
                "{} chunks of transfer {} are staged, not {chunks} of {transfer}",
                staging.next, staging.transfer
            )),
            None => invalid("nothing is staged".to_owned()),
        }
    }

    /// Reads every staged chunk once before anything is changed; gives the partition row.
    fn check_chunks(
        &mut self,
        partition: PartitionId,
        at: LogPosition,
        chunks: u64,
    ) -> Result<PartitionRow, StorageError> {
        let invalid = |why: String| StorageError::SnapshotInvalid { partition, why };
        let mut row = None;
        for number in 0..chunks {
            for found in self.staged_chunk(partition, number)? {
                if found.family != Family::Partition {
                    continue;
                }
                let decoded = PartitionRow::decode(found.value)
                    .map_err(|_| invalid("its partition row is malformed".to_owned()))?;
                row = Some(decoded);
            }
        }
        let row = row.ok_or_else(|| invalid("it has no partition row".to_owned()))?;
        if (row.applied_index, row.applied_term) != (at.index.0, at.term.0) {
            let applied = row.applied();
            return Err(invalid(format!(
                "its rows are those of {applied:?}, not of {at:?}"
            )));
        }
        if row.membership.is_none() || row.state_chain.len() != 16 {
            return Err(invalid("its partition row lacks a part".to_owned()));
        }
        Ok(row)
    }

    fn staged_chunk(
        &self,
        partition: PartitionId,
        number: u64,
    ) -> Result<Vec<ChunkRow>, StorageError> {
        let damaged = || StorageError::Damaged {
            partition,
            what: format!("chunk {number} of a staged snapshot"),
        };
        let key = numbered_key(partition, Own::Staged, number);
        let value = self
            .engine
            .get(Cf::State, &key)
            .map_err(|error| read_failed(error, partition, "read a staged snapshot"))?
            .ok_or_else(damaged)?;
        let chunk = record::open(Cf::State, &key, value).map_err(|_| damaged())?;
        parse_chunk(number, chunk).map_err(|_| damaged())
    }

    fn finish_install(
        &mut self,
        partition: PartitionId,
        hard_state: HardState,
        at: LogPosition,
        row: PartitionRow,
    ) -> Result<PartitionRow, StorageError> {
        let replica = self.replicas.get_mut(&partition).expect("checked before");
        replica.hard_state = HardState {
            term: hard_state.term.max(at.term),
            vote: hard_state.vote,
            commit: at.index,
        };
        replica.truncated = at;
        replica.last = at.index;
        replica.row = Some(row.clone());
        replica.staging = None;
        replica.check_invariants(partition);
        let batch = &mut self.batch;
        let (from, to) = log_range(partition, replica.peer);
        batch.delete_range(Cf::Log, &from, &to);
        delete_prefix(batch, Cf::State, &own_key(partition, Own::Staged));
        put_stint(batch, partition, replica.stint());
        put_hard_state(batch, partition, replica.peer, replica.hard_state);
        let key = row_prefix(partition, Family::Partition);
        batch.put(Cf::Raft, &key, &[&row.encode_to_vec()]);
        batch.delete(Cf::Raft, &own_key(partition, Own::Installing));
        self.commit("install a snapshot", Durability::Synced)?;
        Ok(row)
    }
}

/// Puts all rows but the partition row, which comes last and makes the replica whole.
fn put_rows(batch: &mut WriteBatch, partition: PartitionId, rows: Vec<ChunkRow>) {
    let mut key = Vec::new();
    for row in rows {
        if row.family != Family::Partition {
            row_key_into(&mut key, partition, row.family, &row.key);
            batch.put(cf_of(row.family), &key, &[&row.value]);
        }
    }
}
