//! Snapshots that this node sends: opened, read chunk by chunk, closed; beside the one writer. And
//! those that it only digests, to compare them with what others have.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::io::{Rest, SnapshotEffect, StoreInput, TransferId};
use ghostlight_protocol::ids::{LogPosition, PartitionId};
use ghostlight_protocol::limits::SNAPSHOT_CHUNK_BYTES;
use ghostlight_storage::{Engine, Reader, SnapshotReader, StorageError};

/// The snapshots being sent.
pub struct Snapshots<E: Engine> {
    reader: Reader<E>,
    sending: BTreeMap<TransferId, Sending<E>>,
}

struct Sending<E: Engine> {
    reader: SnapshotReader<E::View>,
    number: u64,
    /// Read ahead, to know whether the one before is the last.
    next: Option<Bytes>,
    /// Of all rows so far, if it is digested.
    digest: u128,
}

impl<E: Engine> Snapshots<E> {
    /// None yet.
    #[must_use]
    pub fn new(reader: Reader<E>) -> Self {
        Self {
            reader,
            sending: BTreeMap::new(),
        }
    }

    /// Performs one effect. No answer: there is nothing to read, and the core gives the transfer
    /// up.
    ///
    /// # Errors
    /// `Damaged`: the replica must be condemned; its transfer is forgotten. Else the store failed.
    pub fn perform(&mut self, effect: SnapshotEffect) -> Result<Option<StoreInput>, StorageError> {
        let (transfer, result) = match effect {
            SnapshotEffect::Open {
                transfer,
                partition,
            } => (transfer, self.open(transfer, partition)),
            SnapshotEffect::ReadChunk(transfer) => (transfer, self.read_chunk(transfer)),
            SnapshotEffect::Digest(transfer) => (transfer, self.digest(transfer)),
            SnapshotEffect::Close(transfer) => {
                self.sending.remove(&transfer);
                (transfer, Ok(None))
            }
        };
        if result.is_err() {
            self.sending.remove(&transfer);
        }
        result
    }

    fn open(
        &mut self,
        transfer: TransferId,
        partition: PartitionId,
    ) -> Result<Option<StoreInput>, StorageError> {
        // Destroyed meanwhile: the transfer stalls and is given up.
        let Some(reader) = self.reader.open_snapshot(partition)? else {
            return Ok(None);
        };
        let row = reader.row();
        let (index, term) = row.applied();
        let membership = row.membership.clone().unwrap_or_default();
        let sending = Sending {
            reader,
            number: 0,
            next: None,
            digest: 0,
        };
        self.sending.insert(transfer, sending);
        let at = LogPosition { index, term };
        Ok(Some(StoreInput::SnapshotOpened {
            transfer,
            at,
            membership,
        }))
    }

    fn read_chunk(&mut self, transfer: TransferId) -> Result<Option<StoreInput>, StorageError> {
        let Some(sending) = self.sending.get_mut(&transfer) else {
            return Ok(None);
        };
        let number = sending.number;
        if number == 0 {
            sending.next = sending.reader.next_chunk(SNAPSHOT_CHUNK_BYTES)?;
        }
        let Some(rows) = sending.next.take() else {
            return Ok(None);
        };
        sending.number += 1;
        sending.next = sending.reader.next_chunk(SNAPSHOT_CHUNK_BYTES)?;
        let rest = if sending.next.is_some() {
            Rest::More
        } else {
            Rest::Last
        };
        Ok(Some(StoreInput::SnapshotChunk {
            transfer,
            number,
            rows,
            rest,
        }))
    }

    fn digest(&mut self, transfer: TransferId) -> Result<Option<StoreInput>, StorageError> {
        let Some(sending) = self.sending.get_mut(&transfer) else {
            return Ok(None);
        };
        let next = sending
            .reader
            .digest_next(sending.digest, SNAPSHOT_CHUNK_BYTES)?;
        let rest = if next.is_some() {
            Rest::More
        } else {
            Rest::Last
        };
        sending.digest = next.unwrap_or(sending.digest);
        Ok(Some(StoreInput::Digested {
            transfer,
            digest: sending.digest,
            rest,
        }))
    }
}
