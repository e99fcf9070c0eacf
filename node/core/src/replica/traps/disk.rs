//! A disk in memory with the store's rules: what is written is durable, what is applied is a batch.

use bytes::Bytes;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::{ApplyItem, HardState, LogEntry, LogWrite};

use super::cluster::node_id;
use crate::replica::Install;
use crate::replica::tail::position;

/// Everything of one replica that outlives a crash.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) peer: PeerId,
    pub(super) hard_state: HardState,
    pub(super) truncated: LogPosition,
    pub(super) log: Vec<LogEntry>,
    pub(super) row: Option<PartitionRow>,
    /// Applied commands, in order, without Raft's own.
    pub(super) rows: Vec<Bytes>,
}

/// What a snapshot carries beside the engine's message.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub(super) row: PartitionRow,
    pub(super) rows: Vec<Bytes>,
}

impl Disk {
    /// A learner that has had nothing yet.
    pub(super) fn empty(peer: PeerId) -> Self {
        Self {
            peer,
            hard_state: HardState::default(),
            truncated: position(0, 0),
            log: Vec::new(),
            row: None,
            rows: Vec::new(),
        }
    }

    /// The synthetic start with voters 1 to `voters`, each on the node of its number.
    pub(super) fn founded(peer: PeerId, voters: u64) -> Self {
        let mut row = PartitionRow::founded(node_id(1));
        row.membership = Some(Membership {
            index: row.applied_index,
            voters: (1..=voters).collect(),
            peers: (1..=voters).map(at_home).collect(),
            next_peer: voters + 1,
            ..Membership::default()
        });
        let start = position(row.applied_index, row.applied_term);
        Self {
            hard_state: HardState {
                term: start.term,
                vote: PeerId(0),
                commit: start.index,
            },
            truncated: start,
            row: Some(row),
            ..Self::empty(peer)
        }
    }

    pub(super) fn last(&self) -> LogPosition {
        self.log.last().map_or(self.truncated, |entry| entry.at)
    }

    pub(super) fn write(&mut self, write: LogWrite) {
        if let Some(mut hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "a term goes back");
            hard_state.commit = hard_state.commit.max(self.hard_state.commit);
            self.hard_state = hard_state;
        }
        let Some(first) = write.entries.first().map(|entry| entry.at.index) else {
            return;
        };
        assert!(
            first > self.hard_state.commit.min(self.last().index)
                && first.0 <= self.last().index.0 + 1,
            "{:?}: entries from {first} on a log that ends at {:?}",
            self.peer,
            self.last()
        );
        self.log.retain(|entry| entry.at.index < first);
        self.log.extend(write.entries);
    }

    pub(super) fn install(&mut self, install: &Install, carried: Carried) {
        assert_eq!(
            carried.row.applied(),
            (install.at.index, install.at.term),
            "the staged rows are those of the message"
        );
        self.hard_state = HardState {
            commit: install.at.index,
            ..install.hard_state
        };
        self.truncated = install.at;
        self.log.clear();
        self.row = Some(carried.row);
        self.rows = carried.rows;
    }

    /// Applies one entry; commit never stays below applied (trap 15).
    pub(super) fn apply(&mut self, item: ApplyItem) {
        let at = item.at();
        let durable = self.log.iter().any(|entry| entry.at == at);
        assert!(durable, "{:?} applies {at:?}, not durable here", self.peer);
        let row = self.row.as_mut().expect("only initialized replicas apply");
        assert_eq!(at.index.0, row.applied_index + 1, "applied without gaps");
        (row.applied_index, row.applied_term) = (at.index.0, at.term.0);
        match item {
            ApplyItem::Command { data, .. } if data.is_empty() => {}
            ApplyItem::Command { data, .. } => self.rows.push(data),
            ApplyItem::Membership { membership, .. } => row.membership = Some(membership),
        }
        self.hard_state.commit = self.hard_state.commit.max(at.index);
    }

    pub(super) fn truncate(&mut self, through: LogPosition) {
        self.log.retain(|entry| entry.at.index > through.index);
        self.truncated = through;
    }

    pub(super) fn applied(&self) -> LogIndex {
        self.row.as_ref().map_or(LogIndex(0), |row| row.applied().0)
    }

    pub(super) fn recovered(&self, partition: PartitionId) -> RecoveredReplica {
        RecoveredReplica {
            partition,
            peer: self.peer,
            hard_state: self.hard_state,
            truncated: self.truncated,
            tail: self.log.clone(),
            row: self.row.clone(),
        }
    }

    pub(super) fn term(&self) -> Term {
        self.hard_state.term
    }
}

fn at_home(peer: u64) -> Peer {
    Peer {
        peer,
        node: node_id(peer).to_bytes().to_vec(),
    }
}
