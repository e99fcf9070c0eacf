//! The log of a replica, in our own words: what the consensus engine wants on disk, and what comes
//! back.

use bytes::Bytes;

use crate::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use crate::partition_row::{Membership, PartitionRow};

/// What a replica must never forget: Raft's persistent state besides the log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Whom it voted for in that term; 0: nobody.
    pub vote: PeerId,
    /// Highest index known to be committed. Never beyond the log's end, never below applied.
    pub commit: LogIndex,
}

/// What an entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A `Command`, or Raft's empty entry.
    Command,
    /// A change of the group's membership.
    Membership,
}

/// One log entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// Where it stands.
    pub at: LogPosition,
    /// What it is for.
    pub kind: EntryKind,
    /// Encoded command, or the engine's encoded membership change.
    pub data: Bytes,
    /// The engine's context of the entry: for a change, an encoded `Membership` without its index.
    pub context: Bytes,
}

/// One replica's part of a synced batch.
#[derive(Clone, PartialEq, Debug)]
pub struct LogWrite {
    /// The group.
    pub partition: PartitionId,
    /// The replica's stint.
    pub peer: PeerId,
    /// New hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Entries in index order, without gaps. Everything at or above the first one's index is
    /// replaced.
    pub entries: Vec<LogEntry>,
}

/// One committed entry, ready to be applied to the rows.
#[derive(Clone, PartialEq, Debug)]
pub enum ApplyItem {
    /// Applied by `apply_command`.
    Command {
        /// Its position.
        at: LogPosition,
        /// Encoded command; empty for Raft's own entry.
        data: Bytes,
    },
    /// A membership change; the consensus engine has computed its result.
    Membership {
        /// Its position.
        at: LogPosition,
        /// The membership in force from here on.
        membership: Membership,
    },
}

impl ApplyItem {
    /// Its position in the log.
    #[must_use]
    pub fn at(&self) -> LogPosition {
        match self {
            Self::Command { at, .. } | Self::Membership { at, .. } => *at,
        }
    }
}

/// One replica as the disk gives it back.
#[derive(Clone, PartialEq, Debug)]
pub struct RecoveredReplica {
    /// The group.
    pub partition: PartitionId,
    /// The stint.
    pub peer: PeerId,
    /// Its hard state.
    pub hard_state: HardState,
    /// Last position that was cut from the log's front; the log begins after it.
    pub truncated: LogPosition,
    /// The whole log after `truncated`, in order, or only its end if `tail_from` is higher.
    pub tail: Vec<LogEntry>,
    /// Where it stands; `None`: created for a learner that never got its first snapshot.
    pub row: Option<PartitionRow>,
}
