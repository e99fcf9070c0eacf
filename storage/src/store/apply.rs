//! Committed entries become rows: rows and partition row in one batch.

use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{ApplyItem, EntryOutcome, apply_command};
use prost::Message;

use super::Store;
use super::overlay::Overlay;
use super::recent::Fresh;
use crate::engine::{Cf, Durability, Engine};
use crate::error::StorageError;
use crate::layout::row_prefix;

impl<E: Engine> Store<E> {
    /// Applies committed entries of one partition, in order; pushes what each did. Buffered.
    ///
    /// # Errors
    /// As [`Store::apply_many`].
    pub fn apply(
        &mut self,
        partition: PartitionId,
        items: &[ApplyItem],
        out: &mut Vec<(LogPosition, EntryOutcome)>,
    ) -> Result<(), StorageError> {
        let mut fresh = Vec::new();
        let applied = self.collect_applied(partition, items, out, &mut fresh);
        self.finish_apply(applied.map(|row| row.into_iter().collect()), fresh)
    }

    /// Applies committed entries of several partitions, each named once, in one batch. Buffered.
    ///
    /// # Errors
    /// `Damaged`: a row of that partition does not match its checksum; nothing of the whole call
    /// was applied, so condemn that replica and apply the others again. Else the engine failed.
    ///
    /// # Panics
    /// When entries are out of order or not in the log, or the replica has no data: a bug of the
    /// caller.
    pub fn apply_many(
        &mut self,
        work: &[(PartitionId, Vec<ApplyItem>)],
        out: &mut Vec<(PartitionId, LogPosition, EntryOutcome)>,
    ) -> Result<(), StorageError> {
        let begin = out.len();
        let mut rows = Vec::with_capacity(work.len());
        let mut outcomes = Vec::new();
        let mut collected = Ok(());
        let mut fresh = Vec::new();
        for (partition, items) in work {
            assert!(
                rows.iter()
                    .all(|(named, _): &(PartitionId, _)| named != partition),
                "{partition} is named twice"
            );
            match self.collect_applied(*partition, items, &mut outcomes, &mut fresh) {
                Ok(row) => rows.extend(row),
                Err(error) => {
                    collected = Err(error);
                    break;
                }
            }
            out.extend(
                outcomes
                    .drain(..)
                    .map(|(at, outcome)| (*partition, at, outcome)),
            );
        }
        let finished = self.finish_apply(collected.map(|()| rows), fresh);
        if finished.is_err() {
            out.truncate(begin);
        }
        finished
    }

    /// Adds one partition's changes to the batch; gives its row as it will be.
    fn collect_applied(
        &mut self,
        partition: PartitionId,
        items: &[ApplyItem],
        out: &mut Vec<(LogPosition, EntryOutcome)>,
        fresh: &mut Vec<Fresh>,
    ) -> Result<Option<(PartitionId, PartitionRow)>, StorageError> {
        if items.is_empty() {
            return Ok(None);
        }
        let Some(replica) = self.replicas.get(&partition) else {
            // Its stint ended while the entries were on their way here.
            let ended = self.tombstones.contains_key(&partition);
            assert!(
                ended,
                "{partition}: entries for a replica that never lived here"
            );
            return Ok(None);
        };
        let mut row = replica
            .row
            .clone()
            .expect("entries are applied to a replica with data");
        let mut overlay = Overlay::new(&self.engine, &self.recent, partition);
        let begin = out.len();
        for item in items {
            match apply_item(partition, &mut overlay, &mut row, item) {
                Ok(outcome) => out.push((item.at(), outcome)),
                Err(error) => {
                    out.truncate(begin);
                    return Err(error);
                }
            }
        }
        assert!(
            row.applied_index <= replica.last.0,
            "{partition}: applied {} past log end {}",
            row.applied_index,
            replica.last
        );
        overlay.write_to(&mut self.batch, fresh);
        let key = row_prefix(partition, Family::Partition);
        self.batch.put(Cf::Raft, &key, &[&row.encode_to_vec()]);
        Ok(Some((partition, row)))
    }

    fn finish_apply(
        &mut self,
        collected: Result<Vec<(PartitionId, PartitionRow)>, StorageError>,
        fresh: Vec<Fresh>,
    ) -> Result<(), StorageError> {
        let rows = match collected {
            Ok(rows) => rows,
            Err(error) => {
                self.batch.clear();
                return Err(error);
            }
        };
        if self.batch.is_empty() {
            return Ok(());
        }
        self.commit("apply entries", Durability::Buffered)?;
        self.recent.wrote(fresh);
        for (partition, row) in rows {
            let replica = self
                .replicas
                .get_mut(&partition)
                .expect("it was applied just now");
            let commit = &mut replica.hard_state.commit;
            *commit = (*commit).max(LogIndex(row.applied_index));
            replica.row = Some(row);
            replica.check_invariants(partition);
        }
        Ok(())
    }
}

fn apply_item<E: Engine>(
    partition: PartitionId,
    overlay: &mut Overlay<'_, E>,
    row: &mut PartitionRow,
    item: &ApplyItem,
) -> Result<EntryOutcome, StorageError> {
    match item {
        ApplyItem::Command { at, data } => apply_command(partition, overlay, row, *at, data),
        ApplyItem::Membership { at, membership } => {
            assert_eq!(
                at.index.0,
                row.applied_index + 1,
                "{partition}: entries apply in order, {at:?}"
            );
            row.applied_index = at.index.0;
            row.applied_term = at.term.0;
            row.membership = Some(membership.clone());
            Ok(EntryOutcome::Nothing)
        }
    }
}
