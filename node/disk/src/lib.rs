#![doc = include_str!("../README.md")]

mod reads;

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::io::{
    Applied, InstallWrite, Rest, StageVerdict, StoreEffect, StoreInput, TransferId,
};
use ghostlight_protocol::ids::{LogPosition, PartitionId};
use ghostlight_protocol::limits::SNAPSHOT_CHUNK_BYTES;
use ghostlight_protocol::replica::ApplyItem;
use ghostlight_storage::{Engine, NodeIdentity, Remedy, SnapshotReader, StorageError, Store};

pub use reads::{PAGE_BYTES, RowsFound, read_rows};

/// The one writer of a node's store.
pub struct Disk<E: Engine> {
    store: Store<E>,
    identity: NodeIdentity,
    sending: BTreeMap<TransferId, Sending<E>>,
}

struct Sending<E: Engine> {
    reader: SnapshotReader<E::View>,
    number: u64,
    /// Read ahead, to know whether the one before is the last.
    next: Option<Bytes>,
}

impl<E: Engine> Disk<E> {
    /// Takes over an opened store.
    #[must_use]
    pub fn new(store: Store<E>, identity: NodeIdentity) -> Self {
        Self {
            store,
            identity,
            sending: BTreeMap::new(),
        }
    }

    /// Performs effects in their order; answers are pushed to `out`.
    ///
    /// # Errors
    /// The process must end: what is on the disk is not known any more.
    pub fn perform(
        &mut self,
        effects: Vec<StoreEffect>,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        for effect in effects {
            self.perform_one(effect, out)?;
        }
        Ok(())
    }

    fn perform_one(
        &mut self,
        effect: StoreEffect,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        match effect {
            StoreEffect::SaveDescriptor(descriptor) => {
                self.identity.cluster = Some(descriptor);
                self.store.save_identity(&self.identity)?;
            }
            StoreEffect::SaveAddresses(nodes) => self.store.save_addresses(&nodes)?,
            StoreEffect::Persist {
                ticket,
                installs,
                writes,
            } => {
                for install in installs {
                    self.install(&install, out)?;
                }
                self.store.persist(&writes)?;
                out.push(StoreInput::Persisted(ticket));
            }
            StoreEffect::Apply(work) => self.apply(work, out)?,
            StoreEffect::Create { partition, peer } => {
                self.store.create_replica(partition, peer)?;
            }
            StoreEffect::Stage {
                partition,
                peer,
                transfer,
                number,
                rows,
            } => {
                let staged = self
                    .store
                    .stage_chunk(partition, peer, transfer.0, number, rows)?;
                let verdict = match staged {
                    ghostlight_storage::Staged::Taken { .. } => StageVerdict::Whole,
                    ghostlight_storage::Staged::Refused { .. } => StageVerdict::Refused,
                };
                out.push(StoreInput::Staged {
                    partition,
                    peer,
                    transfer,
                    number,
                    verdict,
                });
            }
            StoreEffect::Truncate { partition, through } => {
                self.store.truncate_log(partition, through)?;
            }
            StoreEffect::Destroy {
                partition,
                tombstone,
            } => {
                self.store.destroy_replica(partition, tombstone)?;
                out.push(StoreInput::Destroyed(partition));
            }
            StoreEffect::Condemn { partition, why } => self.condemn(partition, why, out)?,
            StoreEffect::DiscardCondemned(partition) => self.store.discard_condemned(partition)?,
            StoreEffect::OpenSnapshot {
                transfer,
                partition,
            } => {
                self.open_snapshot(transfer, partition, out)?;
            }
            StoreEffect::ReadChunk(transfer) => self.read_chunk(transfer, out)?,
            StoreEffect::CloseSnapshot(transfer) => {
                self.sending.remove(&transfer);
            }
        }
        Ok(())
    }

    fn install(
        &mut self,
        install: &InstallWrite,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        let InstallWrite {
            partition,
            peer,
            transfer,
            chunks,
            at,
            hard_state,
        } = *install;
        match self
            .store
            .install(partition, peer, transfer.0, hard_state, at, chunks)
        {
            Ok(row) => {
                out.push(StoreInput::Installed { partition, row });
                Ok(())
            }
            Err(error) => self.condemn_or_end(error, Some(partition), out),
        }
    }

    /// Applies all groups in one batch. A damaged row condemns its replica; the others go on.
    fn apply(
        &mut self,
        mut work: Vec<(PartitionId, Vec<ApplyItem>)>,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        work = merge(work);
        let mut outcomes = Vec::new();
        loop {
            outcomes.clear();
            work.retain(|(partition, _)| self.store.row(*partition).is_some());
            match self.store.apply_many(&work, &mut outcomes) {
                Ok(()) => break,
                Err(error) => self.condemn_or_end(error, None, out)?,
            }
        }
        let mut applied: Vec<Applied> = Vec::with_capacity(work.len());
        let mut rest = outcomes.into_iter().peekable();
        for (partition, _) in work {
            let mut outcomes = Vec::new();
            while let Some((_, at, outcome)) = rest.next_if(|(p, ..)| *p == partition) {
                outcomes.push((at, outcome));
            }
            let Some(row) = self.store.row(partition).cloned() else {
                continue;
            };
            applied.push(Applied {
                partition,
                outcomes,
                row,
            });
        }
        out.push(StoreInput::Applied(applied));
        Ok(())
    }

    /// A read from another thread found a damaged record: its replica is condemned.
    ///
    /// # Errors
    /// The process must end: what is on the disk is not known any more.
    pub fn read_failed(
        &mut self,
        error: StorageError,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        self.condemn_or_end(error, None, out)
    }

    fn condemn_or_end(
        &mut self,
        error: StorageError,
        partition: Option<PartitionId>,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        let partition = match (error.remedy(), partition) {
            (Remedy::Condemn(partition), _) | (Remedy::Refuse, Some(partition)) => partition,
            (Remedy::EndProcess, _) | (Remedy::Refuse, None) => return Err(error),
        };
        self.condemn(partition, error.to_string(), out)
    }

    fn condemn(
        &mut self,
        partition: PartitionId,
        why: String,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        if let Some(condemned) = self.store.condemn(partition, &why)? {
            let floor = ghostlight_protocol::ids::PeerId(condemned.peer.0 + 1);
            out.push(StoreInput::Condemned {
                partition,
                floor,
                why,
            });
        }
        Ok(())
    }

    fn open_snapshot(
        &mut self,
        transfer: TransferId,
        partition: PartitionId,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        let opened = match self.store.reader().open_snapshot(partition) {
            Ok(opened) => opened,
            Err(error) => return self.condemn_or_end(error, None, out),
        };
        // Destroyed meanwhile: the transfer stalls and is given up.
        let Some(mut reader) = opened else {
            return Ok(());
        };
        let row = reader.row();
        let (index, term) = row.applied();
        let membership = row.membership.clone().unwrap_or_default();
        let next = match reader.next_chunk(SNAPSHOT_CHUNK_BYTES) {
            Ok(next) => next,
            Err(error) => return self.condemn_or_end(error, None, out),
        };
        self.sending.insert(
            transfer,
            Sending {
                reader,
                number: 0,
                next,
            },
        );
        let at = LogPosition { index, term };
        out.push(StoreInput::SnapshotOpened {
            transfer,
            at,
            membership,
        });
        Ok(())
    }

    fn read_chunk(
        &mut self,
        transfer: TransferId,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        let Some(sending) = self.sending.get_mut(&transfer) else {
            return Ok(());
        };
        let Some(rows) = sending.next.take() else {
            return Ok(());
        };
        let number = sending.number;
        sending.number += 1;
        match sending.reader.next_chunk(SNAPSHOT_CHUNK_BYTES) {
            Ok(next) => sending.next = next,
            Err(error) => return self.condemn_or_end(error, None, out),
        }
        let rest = if sending.next.is_some() {
            Rest::More
        } else {
            Rest::Last
        };
        out.push(StoreInput::SnapshotChunk {
            transfer,
            number,
            rows,
            rest,
        });
        Ok(())
    }
}

/// Each partition once, its items in order.
fn merge(work: Vec<(PartitionId, Vec<ApplyItem>)>) -> Vec<(PartitionId, Vec<ApplyItem>)> {
    let mut merged: BTreeMap<PartitionId, Vec<ApplyItem>> = BTreeMap::new();
    for (partition, items) in work {
        merged.entry(partition).or_default().extend(items);
    }
    merged.into_iter().collect()
}
