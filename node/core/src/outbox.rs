//! Moving messages from one partition's outbox into another's inbox: exactly once, in order.
//!
//! `outbox/source.rs` pushes committed rows and trims what was accepted; `outbox/destination.rs`
//! accepts. Both keep only what they can learn again from rows and marks: a new leadership begins
//! anew. Absent: routing, running the accepted messages, and any bound on admitted turns' sends.

mod destination;
mod pump;
mod source;
#[cfg(test)]
pub(crate) mod tests;

use bytes::Bytes;
use ghostlight_protocol::command::{Envelope, Kind};
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::wire::frame::{OutboxMark, OutboxPush};

pub use self::pump::{Outbox, OutboxCounters, OutboxSettings};

/// What the pump of one led partition is fed (source and destination side alike).
#[derive(Clone, PartialEq, Debug)]
pub enum OutboxInput {
    /// Rows of `Family::Outbox` from the store, asked for by `OutboxEffect::ReadOutbox`. A page may
    /// be shorter than the limit; only an empty one says that nothing follows.
    Rows(Vec<(Bytes, Bytes)>),
    /// Turns of this leadership committed these messages.
    Committed(Vec<(PartitionId, u64, Envelope)>),
    /// Another partition pushes to this one.
    Push {
        /// Node of its leader.
        from: NodeId,
        /// The messages.
        push: OutboxPush,
    },
    /// A destination tells its mark.
    Mark(OutboxMark),
    /// An entry proposed by this leadership was applied (`Accepted`, `OutboxTrimmed`).
    Applied(EntryOutcome),
    /// Raft refused the latest proposal of the pump. Fed before anything else: `handle` and `open`
    /// push at most one `Propose` each.
    Dropped,
    /// The leader of a destination changed: push again to it.
    LeaderChanged(PartitionId),
    /// A deadline has passed.
    Tick,
}

/// What the pump wants.
#[derive(Clone, PartialEq, Debug)]
pub enum OutboxEffect {
    /// Send to the leader of `push.destination`, wherever it is (it may be this node).
    Push(OutboxPush),
    /// Answer the node that pushed.
    Mark {
        /// Receiver; may be this node.
        to: NodeId,
        /// The mark.
        mark: OutboxMark,
    },
    /// Put this into the log (`Accept`, `TrimOutbox`).
    Propose(Kind),
    /// Read a page of outbox rows after this key (ascending, all destinations).
    ReadOutbox {
        /// Last key of the page before.
        after: Option<Bytes>,
        /// Most rows.
        limit: usize,
    },
    /// New messages for this partition's actors, in inbox order.
    Deliver(Vec<(u64, Envelope)>),
}
