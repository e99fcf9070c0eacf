#![doc = include_str!("../README.md")]

mod reads;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ghostlight_core::io::{Applied, InstallWrite, StageVerdict, StoreEffect, StoreInput};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::ApplyItem;
use ghostlight_storage::{Engine, NodeIdentity, Remedy, StorageError, Store};

pub use reads::{PAGE_BYTES, RowsFound, read_rows};
pub use sending::Snapshots;

/// The one writer of a node's store.
pub struct Disk<E: Engine> {
    store: Store<E>,
    identity: NodeIdentity,
}

/// What became of a staged snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Installed {
    Yes,
    No,
}

impl<E: Engine> Disk<E> {
    /// Takes over an opened store.
    #[must_use]
    pub fn new(store: Store<E>, identity: NodeIdentity) -> Self {
        Self { store, identity }
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
                mut writes,
                marks,
            } => {
                for install in installs {
                    let InstallWrite {
                        partition, peer, ..
                    } = install;
                    if self.install(&install, out)? == Installed::No {
                        // They stand on the snapshot.
                        writes.retain(|w| (w.partition, w.peer) != (partition, peer));
                    }
                }
                self.store.put_marks(marks.own, marks.others.as_ref());
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
        }
        Ok(())
    }

    fn install(
        &mut self,
        install: &InstallWrite,
        out: &mut Vec<StoreInput>,
    ) -> Result<Installed, StorageError> {
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
                Ok(Installed::Yes)
            }
            // Nothing has changed, so nothing is wrong with what is here.
            Err(StorageError::SnapshotInvalid { why, .. }) => {
                match self.store.read_back(partition) {
                    Ok(Some(replica)) if replica.peer == peer => {
                        let replica = Box::new(replica);
                        out.push(StoreInput::InstallRefused { replica, why });
                    }
                    // Its stint has ended: nobody waits for it.
                    Ok(_) => {}
                    Err(error) => self.condemn_or_end(error, out)?,
                }
                Ok(Installed::No)
            }
            Err(error) => {
                self.condemn_or_end(error, out)?;
                Ok(Installed::No)
            }
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
                Err(error) => self.condemn_or_end(error, out)?,
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
        self.condemn_or_end(error, out)
    }

    fn condemn_or_end(
        &mut self,
        error: StorageError,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        match error.remedy() {
            Remedy::Condemn(partition) => self.condemn(partition, error.to_string(), out),
            Remedy::EndProcess | Remedy::Refuse => Err(error),
        }
    }

    fn condemn(
        &mut self,
        partition: PartitionId,
        why: String,
        out: &mut Vec<StoreInput>,
    ) -> Result<(), StorageError> {
        if let Some(condemned) = self.store.condemn(partition, &why)? {
            let floor = condemned.peer.after_condemned();
            out.push(StoreInput::Condemned {
                partition,
                floor,
                why,
            });
        }
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
