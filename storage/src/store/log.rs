//! The log: one synced batch for all groups, and cutting its front.

use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId};
use ghostlight_protocol::replica::LogWrite;

use super::{Store, put_hard_state, put_stint};
use crate::engine::{Cf, Durability, Engine};
use crate::error::StorageError;
use crate::layout::log_key;
use crate::record::put_entry;

/// Runs of entries above this are deleted as a range: range deletions slow every read across them,
/// but so many point deletions are worse.
const POINT_DELETES_MAX: u64 = 10_000;

impl<E: Engine> Store<E> {
    /// Makes entries and hard states of any groups durable: one batch, one sync. When it returns,
    /// what depends on them may be sent.
    ///
    /// Entries at or above the first one given are replaced. A write for a stint that has ended is
    /// dropped. A commit index never goes back.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    ///
    /// # Panics
    /// When entries have gaps, or would replace what is committed: a bug of the caller.
    pub fn persist(&mut self, writes: &[LogWrite]) -> Result<(), StorageError> {
        for write in writes {
            self.collect(write);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.commit("write the log", Durability::Synced)
    }

    fn collect(&mut self, write: &LogWrite) {
        let partition = write.partition;
        let Some(replica) = self
            .replicas
            .get_mut(&partition)
            .filter(|r| r.peer == write.peer)
        else {
            let ended = self
                .tombstones
                .get(&partition)
                .is_some_and(|floor| write.peer < *floor);
            assert!(
                ended,
                "{partition}: a write for peer {}, which never lived here",
                write.peer
            );
            return;
        };
        if let (Some(first), Some(last)) = (write.entries.first(), write.entries.last()) {
            let (first, last) = (first.at.index, last.at.index);
            assert!(
                first > replica.hard_state.commit && first <= replica.last.next(),
                "{partition}: entries from {first} do not fit commit {} and log end {}",
                replica.hard_state.commit,
                replica.last
            );
            for (expected, entry) in (first.0..).zip(&write.entries) {
                assert_eq!(
                    entry.at.index.0, expected,
                    "{partition}: entries have a gap"
                );
                let key = log_key(partition, replica.peer, entry.at.index);
                put_entry(&mut self.batch, &key, entry);
            }
            for index in last.0 + 1..=replica.last.0 {
                let key = log_key(partition, replica.peer, LogIndex(index));
                self.batch.delete(Cf::Log, &key);
            }
            replica.last = last;
        }
        if let Some(mut hard_state) = write.hard_state {
            hard_state.commit = hard_state.commit.max(replica.hard_state.commit);
            replica.hard_state = hard_state;
            put_hard_state(&mut self.batch, partition, replica.peer, hard_state);
        }
        if let Some(last) = write.entries.last() {
            let term = replica.hard_state.term;
            assert!(
                last.at.term <= term,
                "{partition}: {:?} is past term {term}",
                last.at
            );
        }
        replica.check_invariants(partition);
    }

    /// Cuts the log's front through a position that is applied. Buffered: the cut may be lost in a
    /// crash and is then made again. Cutting less than before changes nothing.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    ///
    /// # Panics
    /// When the position is not applied yet.
    pub fn truncate_log(
        &mut self,
        partition: PartitionId,
        through: LogPosition,
    ) -> Result<(), StorageError> {
        let Some(replica) = self.replicas.get_mut(&partition) else {
            return Ok(());
        };
        if through.index <= replica.truncated.index {
            return Ok(());
        }
        let applied = replica.applied();
        assert!(
            through.index <= applied,
            "{partition}: a cut through {} past applied {applied}",
            through.index
        );
        let key = |index| log_key(partition, replica.peer, LogIndex(index));
        let (from, to) = (replica.truncated.index.0 + 1, through.index.0 + 1);
        if to - from > POINT_DELETES_MAX {
            self.batch.delete_range(Cf::Log, &key(from), &key(to));
        } else {
            for index in from..to {
                self.batch.delete(Cf::Log, &key(index));
            }
        }
        replica.truncated = through;
        put_stint(&mut self.batch, partition, replica.stint());
        replica.check_invariants(partition);
        self.commit("cut the log", Durability::Buffered)
    }

    /// The stint that lives here.
    #[must_use]
    pub fn peer(&self, partition: PartitionId) -> Option<PeerId> {
        self.replicas.get(&partition).map(|replica| replica.peer)
    }
}
