//! Condemning: a replica that broke its promises, or may have, ends here and now.
//!
//! Its tombstone rises above it, its votes and row move into one record, its log and rows stay
//! where they are. It is never repaired. A fresh stint may begin at once beside it; the group's
//! snapshot then replaces the rows, and `discard_condemned` deletes what is left.

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{PartitionId, PeerId};
use prost::Message;

use super::replicas::{delete_prefix, delete_rows, put_tombstone};
use super::{Condemned, Store};
use crate::engine::{Cf, Durability, Engine, EngineError, Limit, WriteBatch};
use crate::error::StorageError;
use crate::layout::{Own, after, log_range, numbered_key, own_key, row_prefix};
use crate::record::peer_id;

/// What is kept of a condemned stint, beside its log and rows.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SetAside {
    #[prost(string, tag = "1")]
    pub(super) why: String,
    /// The stored record, as it was found.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) stint: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) hard_state: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) row: Option<Bytes>,
}

impl<E: Engine> Store<E> {
    /// Condemns the replica of a partition, durably. `None`: none lives here.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn condemn(
        &mut self,
        partition: PartitionId,
        why: &str,
    ) -> Result<Option<Condemned>, StorageError> {
        let Some(peer) = self.peer(partition) else {
            return Ok(None);
        };
        let aside = SetAside {
            why: why.to_owned(),
            stint: self.stored(&own_key(partition, Own::Stint))?,
            hard_state: self.stored(&own_key(partition, Own::HardState))?,
            row: self.stored(&row_prefix(partition, Family::Partition))?,
        };
        let floor = self.tombstones.get(&partition).copied().unwrap_or_default();
        let floor = floor.max(peer.after_condemned());
        set_aside(&mut self.batch, partition, peer, floor, &aside);
        self.commit("condemn a replica", Durability::Synced)?;
        self.recent.clear();
        self.replicas.remove(&partition);
        self.tombstones.insert(partition, floor);
        Ok(Some(Condemned {
            partition,
            peer,
            why: why.to_owned(),
        }))
    }

    /// Deletes what is left of a partition's condemned stints, once the group has replaced them.
    /// Does nothing when there are none. Synced.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn discard_condemned(&mut self, partition: PartitionId) -> Result<(), StorageError> {
        let prefix = own_key(partition, Own::Condemned);
        let markers = self
            .engine
            .scan(Cf::Raft, &prefix, &after(&prefix), Limit::rows(usize::MAX))
            .map_err(StorageError::engine("read what is condemned"))?;
        if markers.is_empty() {
            return Ok(());
        }
        for (key, _) in markers {
            if let Some(peer) = condemned_peer(&key) {
                let (from, to) = log_range(partition, peer);
                self.batch.delete_range(Cf::Log, &from, &to);
            }
            self.batch.delete(Cf::Raft, &key);
        }
        // A living replica with data has replaced the rows; else they are still the condemned ones.
        if self.row(partition).is_none() {
            delete_rows(&mut self.batch, partition);
        }
        self.commit("delete a condemned replica", Durability::Synced)
    }

    /// A stored value as it is; a damaged file has none.
    fn stored(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.engine.get(Cf::Raft, key) {
            Ok(value) => Ok(value),
            Err(EngineError::Corrupt(_)) => Ok(None),
            Err(source) => Err(StorageError::Engine {
                doing: "read a replica's records",
                source,
            }),
        }
    }
}

/// The peer in the key of a condemned stint.
pub(super) fn condemned_peer(key: &[u8]) -> Option<PeerId> {
    peer_id(u64::from_be_bytes(key.get(3..)?.try_into().ok()?)).ok()
}

/// Moves a stint's own records aside and raises the tombstone.
pub(super) fn set_aside(
    batch: &mut WriteBatch,
    partition: PartitionId,
    peer: PeerId,
    floor: PeerId,
    aside: &SetAside,
) {
    let key = numbered_key(partition, Own::Condemned, peer.0);
    batch.put(Cf::Raft, &key, &[&aside.encode_to_vec()]);
    for own in [Own::Stint, Own::HardState, Own::Installing] {
        batch.delete(Cf::Raft, &own_key(partition, own));
    }
    batch.delete(Cf::Raft, &row_prefix(partition, Family::Partition));
    delete_prefix(batch, Cf::State, &own_key(partition, Own::Staged));
    put_tombstone(batch, partition, floor);
}
