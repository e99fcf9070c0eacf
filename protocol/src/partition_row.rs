//! The one row that every apply rewrites: where a partition stands.
//!
//! It is replicated (it travels in snapshots), and it is written in the same batch as the rows of
//! the entries it counts, so that a crash can never separate the two.

use prost::Message;

use crate::ids::{LogIndex, NodeId, PeerId, RecoveryEpoch, Term};
use crate::limits::{FIRST_SNAPSHOT, PARTITION_MESSAGE_BYTES_MAX, PARTITION_MESSAGES_MAX};

/// Applied position, log times, counters and membership of a partition.
#[derive(Clone, PartialEq, Message)]
pub struct PartitionRow {
    /// Index of the last applied entry.
    #[prost(uint64, tag = "1")]
    pub applied_index: u64,
    /// Term of that entry.
    #[prost(uint64, tag = "2")]
    pub applied_term: u64,
    /// Log time in milliseconds; only grows.
    #[prost(uint64, tag = "3")]
    pub age_ms: u64,
    /// Latest wall time a leader wrote, in milliseconds since the epoch; only grows.
    #[prost(uint64, tag = "4")]
    pub wall_ms: u64,
    /// Raised by recovery from a lost majority.
    #[prost(uint64, tag = "5")]
    pub recovery_epoch: u64,
    /// Who replicates this partition.
    #[prost(message, optional, tag = "6")]
    pub membership: Option<Membership>,
    /// Sequence that the next accepted message gets.
    #[prost(uint64, tag = "7")]
    pub inbox_next: u64,
    /// Chain hash over all applied row operations, 16 bytes big endian.
    #[prost(bytes = "vec", tag = "8")]
    pub state_chain: Vec<u8>,
    /// Bytes of dedup records, of what says when they are due, and of sessions.
    #[prost(uint64, tag = "9")]
    pub dedup_bytes: u64,
    /// Messages waiting in the outbox.
    #[prost(uint64, tag = "10")]
    pub outbox_rows: u64,
    /// Messages waiting in the inbox.
    #[prost(uint64, tag = "11")]
    pub inbox_rows: u64,
    /// Bytes of the rows in the outbox, keys included.
    #[prost(uint64, tag = "12")]
    pub outbox_bytes: u64,
    /// The same for the inbox.
    #[prost(uint64, tag = "13")]
    pub inbox_bytes: u64,
    /// Messages that failed for good and are kept.
    #[prost(uint64, tag = "14")]
    pub dead_rows: u64,
    /// Bytes of their rows.
    #[prost(uint64, tag = "15")]
    pub dead_bytes: u64,
    /// Topic partitions.
    #[prost(uint64, tag = "16")]
    pub topics: u64,
}

/// Messages of a partition that are kept in one place, and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Kept {
    /// How many.
    pub rows: u64,
    /// Their rows in bytes.
    pub bytes: u64,
}

impl Kept {
    /// Bound of each place; see `limits`.
    pub const MAX: Self = Self {
        rows: PARTITION_MESSAGES_MAX,
        bytes: PARTITION_MESSAGE_BYTES_MAX,
    };

    /// Whether no more should come. What is admitted already may still be added.
    #[must_use]
    pub fn is_full(self, max: Self) -> bool {
        self.rows >= max.rows || self.bytes >= max.bytes
    }
}

/// The replication group of a partition, as of `index`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Membership {
    /// Log index of the change that made it so.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Peers that vote.
    #[prost(uint64, repeated, tag = "2")]
    pub voters: Vec<u64>,
    /// Peers that only follow.
    #[prost(uint64, repeated, tag = "3")]
    pub learners: Vec<u64>,
    /// The old voters while a joint change is in force, else empty.
    #[prost(uint64, repeated, tag = "4")]
    pub voters_outgoing: Vec<u64>,
    /// Voters that become learners when the joint change ends.
    #[prost(uint64, repeated, tag = "5")]
    pub learners_next: Vec<u64>,
    /// Where each peer lives, ascending by peer.
    #[prost(message, repeated, tag = "6")]
    pub peers: Vec<Peer>,
    /// Id that the next added peer gets; ids are never reused.
    #[prost(uint64, tag = "7")]
    pub next_peer: u64,
}

/// A peer and its node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Peer {
    /// Raft peer id.
    #[prost(uint64, tag = "1")]
    pub peer: u64,
    /// Node id, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub node: Vec<u8>,
}

impl PartitionRow {
    /// The row of a partition that `founder` begins alone: a synthetic snapshot at index 5, term 5.
    #[must_use]
    pub fn founded(founder: NodeId) -> Self {
        Self {
            applied_index: FIRST_SNAPSHOT.0,
            applied_term: FIRST_SNAPSHOT.1,
            membership: Some(Membership {
                index: FIRST_SNAPSHOT.0,
                voters: vec![1],
                peers: vec![Peer {
                    peer: 1,
                    node: founder.to_bytes().to_vec(),
                }],
                next_peer: 2,
                ..Membership::default()
            }),
            inbox_next: 1,
            state_chain: vec![0; 16],
            ..Self::default()
        }
    }

    /// The applied position.
    #[must_use]
    pub fn applied(&self) -> (LogIndex, Term) {
        (LogIndex(self.applied_index), Term(self.applied_term))
    }

    /// What waits to be accepted elsewhere.
    #[must_use]
    pub fn outbox(&self) -> Kept {
        Kept {
            rows: self.outbox_rows,
            bytes: self.outbox_bytes,
        }
    }

    /// What waits to be run here.
    #[must_use]
    pub fn inbox(&self) -> Kept {
        Kept {
            rows: self.inbox_rows,
            bytes: self.inbox_bytes,
        }
    }

    /// What failed for good.
    #[must_use]
    pub fn dead_letters(&self) -> Kept {
        Kept {
            rows: self.dead_rows,
            bytes: self.dead_bytes,
        }
    }

    /// The recovery epoch.
    #[must_use]
    pub fn epoch(&self) -> RecoveryEpoch {
        RecoveryEpoch(self.recovery_epoch)
    }

    /// The chain hash.
    #[must_use]
    pub fn chain(&self) -> u128 {
        <[u8; 16]>::try_from(&self.state_chain[..]).map_or(0, u128::from_be_bytes)
    }
}

impl Membership {
    /// The node of a peer.
    #[must_use]
    pub fn node_of(&self, peer: PeerId) -> Option<NodeId> {
        self.peers
            .iter()
            .find(|p| p.peer == peer.0)
            .and_then(|p| NodeId::from_slice(&p.node))
    }

    /// The peer on a node.
    #[must_use]
    pub fn peer_on(&self, node: NodeId) -> Option<PeerId> {
        self.nodes().find(|(_, n)| *n == node).map(|(peer, _)| peer)
    }

    /// Every peer with its node, ascending by peer.
    pub fn nodes(&self) -> impl Iterator<Item = (PeerId, NodeId)> + '_ {
        self.peers
            .iter()
            .filter_map(|p| Some((PeerId(p.peer), NodeId::from_slice(&p.node)?)))
    }

    /// Whether a joint change is in force.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether a peer votes, in the incoming or the outgoing half.
    #[must_use]
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer.0) || self.voters_outgoing.contains(&peer.0)
    }
}
