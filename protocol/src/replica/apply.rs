//! Applies one committed command to a partition's rows: pure, deterministic, the same on every
//! replica.
//!
//! The rules (each closes a hole through which data was lost or doubled):
//! - A command counts only if it carries the term Raft gave its entry: no forwarded or stale
//!   proposal.
//! - A request that has a record is skipped, and the record's answer is what counts.
//! - A session's sequence below its floor is closed: skipped, never run again.
//! - A write turn is skipped unless the stored version equals the version it was built on.
//! - A turn for an accepted message is skipped unless the message's row still exists.
//! - `Accept` takes exactly the messages that follow the mark of their source.
//!
//! Absent: conf changes (the Raft wrapper computes them) and any notion of now.

mod inbox;
mod messages;
mod schedule;
mod topics;
mod turn;

pub use topics::{Appended, GroupChanged, Published, TopicOutcome, TopicRefusal};
pub use turn::{Outbox, is_deleted, read_version};

use bytes::Bytes;
use prost::Message;

use crate::command::{Command, Envelope, Kind, ScheduleWrite};
use crate::family::Family;
use crate::hash::{domain, hash128};
use crate::ids::{ActorVersion, LogPosition, PartitionId};
use crate::outcome::TurnAnswer;
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;

/// What applying an entry did, for the leader that waits for it.
#[derive(Clone, PartialEq, Debug)]
pub enum EntryOutcome {
    /// An empty entry, or one of another term: only the position moved.
    Nothing,
    /// One result for each turn, in order.
    Turns(Vec<TurnOutcome>),
    /// Messages that were new, now in the inbox; `through` is the mark after it.
    Accepted {
        /// Partition that sent them.
        source: PartitionId,
        /// Highest sequence accepted from it so far.
        through: u64,
        /// Inbox sequence and message of each new one.
        messages: Vec<(u64, Envelope)>,
        /// Batches that new ones have appended to topics.
        appended: Vec<Appended>,
    },
    /// The outbox of a destination is empty up to and including this sequence.
    OutboxTrimmed {
        /// The destination.
        destination: PartitionId,
        /// Highest sequence deleted.
        through: u64,
    },
    /// A message's failure was counted; `None`: it went to the dead letters, or was gone.
    InboxFailed {
        /// Its inbox sequence.
        inbox_sequence: u64,
        /// The row as it stands.
        envelope: Option<Envelope>,
    },
    /// Rows were expired.
    Expired,
    /// Facts were written.
    FactsWritten,
    /// One result for each operation on a topic partition, in order.
    Topics(Vec<TopicOutcome>),
}

/// What became of one turn.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnOutcome {
    /// It counts.
    Committed {
        /// The actor's version after it.
        version: ActorVersion,
        /// Its messages, now in the outbox: destination, sequence, message.
        outbox: Vec<(PartitionId, u64, Envelope)>,
        /// The reminders and timers that it has set and removed.
        schedule: Vec<ScheduleWrite>,
        /// Batches that it has appended to topics of its own partition.
        appended: Vec<Appended>,
    },
    /// It does not count.
    Skipped(SkipReason),
}

/// Why a turn does not count.
#[derive(Clone, PartialEq, Debug)]
pub enum SkipReason {
    /// Its request was answered before; this is the recorded answer.
    Recorded(TurnAnswer),
    /// Its request id was used for other content.
    IdReused,
    /// Its session has closed this sequence.
    SessionClosed,
    /// It was built on another version than the stored one.
    Version {
        /// What is stored.
        stored: ActorVersion,
    },
    /// The message it ran is no longer in the inbox.
    MessageGone,
    /// The reminder or timer that it ran has been removed, set anew, or has fired elsewhere.
    FiringGone,
    /// A reminder of that name is there already.
    ScheduleThere,
}

/// Applies the entry at `at`. Updates `partition` (which the caller writes with the rows).
///
/// An empty `data` is Raft's own empty entry. Undecodable data is impossible after the log's
/// checksum was verified, and applies as nothing on every replica alike.
///
/// # Errors
/// The store could not be read: the node must stop; the batch must be dropped.
///
/// # Panics
/// When entries do not come in order: that would be a bug of the caller.
pub fn apply_command<R: Rows>(
    id: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
    at: LogPosition,
    data: &[u8],
) -> Result<EntryOutcome, R::Error> {
    assert_eq!(
        at.index.0,
        partition.applied_index + 1,
        "{id}: entries apply in order, {at:?}"
    );
    assert!(
        at.term.0 >= partition.applied_term,
        "{id}: terms never go back, {at:?}"
    );
    partition.applied_index = at.index.0;
    partition.applied_term = at.term.0;
    let Ok(command) = Command::decode(data) else {
        return Ok(EntryOutcome::Nothing);
    };
    if command.leader_term != at.term.0 {
        return Ok(EntryOutcome::Nothing);
    }
    partition.age_ms = partition.age_ms.saturating_add(command.age_step_ms);
    partition.wall_ms = partition.wall_ms.max(command.wall_ms);
    let mut chained = Chained {
        rows,
        chain: partition.chain(),
    };
    let outcome = match command.kind {
        None => EntryOutcome::Nothing,
        Some(Kind::Turns(turns)) => {
            let mut outcomes = Vec::with_capacity(turns.turns.len());
            for turn in turns.turns {
                outcomes.push(turn::apply(id, &mut chained, partition, turn)?);
            }
            EntryOutcome::Turns(outcomes)
        }
        Some(Kind::Accept(accept)) => inbox::accept(&mut chained, partition, accept)?,
        Some(Kind::TrimOutbox(trim)) => inbox::trim(&mut chained, partition, trim)?,
        Some(Kind::InboxFailed(failed)) => inbox::failed(&mut chained, partition, failed)?,
        Some(Kind::Expire(expire)) => {
            turn::expire(&mut chained, partition, expire)?;
            EntryOutcome::Expired
        }
        Some(Kind::Facts(facts)) => {
            for write in facts.writes {
                match write.value {
                    Some(value) => chained.put(Family::Fact, write.key, value),
                    None => chained.delete(Family::Fact, write.key),
                }
            }
            EntryOutcome::FactsWritten
        }
        Some(Kind::Topics(ops)) => {
            let mut outcomes = Vec::with_capacity(ops.ops.len());
            for op in ops.ops {
                outcomes.push(topics::apply(id, &mut chained, partition, op)?);
            }
            EntryOutcome::Topics(outcomes)
        }
    };
    partition.state_chain = chained.chain.to_be_bytes().to_vec();
    Ok(outcome)
}

/// Rows whose every change is also hashed into the partition's chain.
struct Chained<'a, R> {
    rows: &'a mut R,
    chain: u128,
}

impl<R: Rows> Rows for Chained<'_, R> {
    type Error = R::Error;

    fn get(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, R::Error> {
        self.rows.get(family, key)
    }

    fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.chain = hash128(
            domain::STATE,
            &[&self.chain.to_be_bytes(), &[family as u8, 1], &key, &value],
        );
        self.rows.put(family, key, value);
    }

    fn delete(&mut self, family: Family, key: Bytes) {
        self.chain = hash128(
            domain::STATE,
            &[&self.chain.to_be_bytes(), &[family as u8, 0], &key],
        );
        self.rows.delete(family, key);
    }
}

#[cfg(test)]
mod tests;
