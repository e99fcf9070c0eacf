//! Topics at work: the topic partitions of one partition during one leadership, and the subscribers
//! of one node.
//!
//! `leader.rs` serves publishes and what operators ask, and has the groups that somebody subscribes
//! to; `group.rs` decides who gets which event; `sweep.rs` lets go what is too old.
//! `subscribers.rs` is the other side: it attaches to each topic partition's leader, and keeps
//! verdicts until they are committed. A topic, or a group, that nobody uses is in no memory here
//! and costs no tick; subscribers that get nothing cost one word for all of a node and partition
//! (`subscribers/words.rs`, `leases.rs`). Absent: routing, frames' ways, the store; they are asked
//! by effects.

mod ask;
mod group;
mod leader;
mod leases;
mod load;
mod proposals;
mod requests;
pub mod subscribers;
mod sweep;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, CallRequest};
use ghostlight_protocol::command::Kind;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::replica::{Appended, TopicOutcome};
use ghostlight_protocol::topic::{DIRECTORY_TYPE, TOPIC_TYPE};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::topic::{TopicFrame, TopicSaid};

pub use self::leader::{Bounds, TopicCounters, Topics, TopicsOpening};
use crate::io::Rest;
use crate::turns::{Caller, ReadId, RowsWanted, Writes};

/// What the topics of a partition are fed.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicsInput {
    /// A gateway asks something of a topic partition.
    Call {
        /// Who asks.
        from: Caller,
        /// For what.
        request: CallRequest,
    },
    /// A subscriber's node speaks.
    Frame {
        /// Which node.
        from: NodeId,
        /// What it says.
        frame: TopicFrame,
    },
    /// A delivery could not be queued for its subscriber's node: it certainly was not sent.
    NotSent {
        /// Which node.
        to: NodeId,
        /// What was not sent.
        unsent: UnsentDelivery,
    },
    /// Nothing is heard of a node, or frames to it may be lost.
    NodeSilent(NodeId),
    /// It is heard again, in this run.
    NodeHeard(NodeId, Generation),
    /// The rows of a `TopicsEffect::Read`.
    Rows {
        /// Which read.
        read: ReadId,
        /// As `TurnsInput::RowsRead` has them.
        rows: Vec<(Bytes, Option<Bytes>)>,
        /// Whether more may follow.
        rest: Rest,
    },
    /// Operations that this leadership proposed were applied, in the order of their proposals.
    Applied(Vec<TopicOutcome>),
    /// Turns, or messages from other partitions, have appended.
    Appended(Vec<Appended>),
    /// Raft refused the latest `Propose` synchronously.
    Dropped,
    /// Propose nothing until `Resume`.
    Pause,
    /// The handover was given up.
    Resume,
    /// Whether writes are taken.
    Writes(Writes),
    /// A deadline has passed.
    Tick,
}

/// A frame with events that was not sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnsentDelivery {
    /// The partition whose leader meant it.
    pub partition: PartitionId,
    /// In which term.
    pub term: Term,
    /// Canonical key of the topic partition.
    pub topic: Bytes,
    /// The subscriber, as its node counts them.
    pub subscriber: u64,
    /// `Deliver::number`.
    pub number: u64,
}

impl UnsentDelivery {
    /// What a frame that was not sent was to deliver, if it was.
    #[must_use]
    pub fn of(frame: &Frame) -> Option<Self> {
        let Frame::Topic(frame) = frame else {
            return None;
        };
        let Some(TopicSaid::Deliver(deliver)) = &frame.said else {
            return None;
        };
        Some(Self {
            partition: PartitionId(u16::try_from(frame.partition).ok()?),
            term: Term(frame.term),
            topic: frame.topic.clone(),
            subscriber: frame.subscriber,
            number: deliver.number,
        })
    }
}

/// What they want.
#[derive(Clone, PartialEq, Debug)]
pub enum TopicsEffect {
    /// Put this into the log. If Raft refuses, `TopicsInput::Dropped` follows at once.
    Propose(Kind),
    /// Read committed rows.
    Read {
        /// The answer repeats it.
        read: ReadId,
        /// Which.
        rows: RowsWanted,
    },
    /// Answer a gateway.
    Answer {
        /// Whom.
        to: Caller,
        /// What.
        kind: AnswerKind,
    },
    /// Speak to a subscriber's node.
    Send {
        /// Which; it may be this one.
        to: NodeId,
        /// What.
        frame: TopicFrame,
    },
}

/// Whether a call is for the topics of its partition, by the canonical key of its actor.
#[must_use]
pub fn is_for_topics(actor: &[u8]) -> bool {
    matches!(ActorKey::type_in(actor), Some(TOPIC_TYPE | DIRECTORY_TYPE))
}
