//! The gateway: takes calls from clients and from turns, finds the leader, and does not let go of a
//! call until it has an honest answer.
//!
//! `gateway/calls.rs` decides; this file holds the words it speaks. `NotRun` leaves only if every
//! attempt is known not to have run; an attempt without an answer makes the outcome `Unknown` at
//! the deadline. Absent: how frames travel, the routing table (it asks `Routes`) and what a call
//! does at its leader.

mod busy;
mod calls;
mod firsts;
mod pending;
mod retry;
mod sessions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{Ask, CallAnswer, CallRequest, LeaderHint, Metadata, Stamp};
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::Instant;

pub use self::calls::{Gateway, GatewayCounters, GatewaySettings};
pub(crate) use self::pending::key_of as call_key;
use crate::hosts::words::AppTicket;
use crate::turn_io::TurnId;
use crate::turns::NestedCall;

/// The shell's number of a client's call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallTicket(pub u64);

/// Who waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Waiter {
    /// A client of this node.
    Client(CallTicket),
    /// A turn that runs on this node.
    Turn {
        /// The turn.
        turn: TurnId,
        /// Which of its asks.
        ask: u32,
    },
    /// An application beside this node, for its actor's rows.
    App(AppTicket),
}

/// A call as a client of this node makes it. Names are checked already.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientCall {
    /// The called actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body, within the limit.
    pub body: Bytes,
    /// The client's own request id.
    pub request_id: Option<Bytes>,
    /// When the client stops waiting.
    pub deadline: Option<Instant>,
    /// What `cx.now` and `cx.rng` will show.
    pub stamp: Stamp,
    /// What travels beside the body to an application.
    pub metadata: Vec<Metadata>,
}

/// What the gateway needs to know about the cluster; implemented by the node core over the routing
/// table.
pub trait Routes {
    /// The leader of a partition and its term, as far as known.
    fn leader(&self, partition: PartitionId) -> Option<(Term, NodeId)>;
    /// Nodes worth asking, best first; may include this one.
    fn candidates(&self, partition: PartitionId) -> Vec<NodeId>;
    /// Whether frames to a node have a way at the moment (this node itself: always).
    fn reachable(&self, node: NodeId) -> Reachable;
}

/// See [`Routes::reachable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reachable {
    /// Connected, and heard from lately.
    Yes,
    /// Not connected, or its control connection is silent for 400 ms.
    No,
}

/// What the gateway is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum GatewayInput {
    /// A client calls.
    Call {
        /// The shell's number.
        ticket: CallTicket,
        /// The call.
        call: ClientCall,
    },
    /// A turn calls.
    Nested(NestedCall),
    /// An application asks for rows of an actor, or changes them.
    Operate {
        /// The shell's number of the application's call.
        ticket: AppTicket,
        /// The actor.
        actor: ActorKey,
        /// The partition that is asked; `None`: the actor's own.
        partition: Option<PartitionId>,
        /// What.
        ask: Ask,
    },
    /// The client has gone.
    Hangup(CallTicket),
    /// The turn that called is over or deposed: nobody waits.
    TurnGone(TurnId),
    /// A node answered an attempt.
    Answer {
        /// Which node.
        from: NodeId,
        /// The answer.
        answer: CallAnswer,
    },
    /// Somebody leads a partition; calls in flight to an older leadership are sent again.
    Leader(LeaderHint),
    /// A node cannot be reached or is silent: calls in flight to it ask the other replicas.
    Silent(NodeId),
    /// A frame to this node could not be queued: this attempt certainly did not arrive.
    NotSent {
        /// The node.
        to: NodeId,
        /// `CallRequest::call` of the attempt.
        call: u64,
    },
    /// A deadline has passed.
    Tick,
}

/// What the gateway wants.
#[derive(Clone, PartialEq, Debug)]
pub enum GatewayEffect {
    /// Send a call; `to` may be this node: then hand it to the local partition.
    Send {
        /// Receiver.
        to: NodeId,
        /// The attempt.
        request: CallRequest,
    },
    /// Tell the node that ran an attempt that nobody waits any more.
    Hangup {
        /// Receiver.
        to: NodeId,
        /// The partition.
        partition: PartitionId,
        /// `CallRequest::call` of the attempt.
        call: u64,
    },
    /// The call is over.
    Done {
        /// Who waited.
        waiter: Waiter,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// Nothing is known about a partition's leader: ask a node for its routing table.
    AskRoutes(NodeId),
    /// All that lead have more to do than they can: until then, clients that can wait for no longer
    /// than `patience` ([`crate::patience`]) would be refused.
    Overrun {
        /// Until when.
        until: Instant,
        /// See above.
        patience: Duration,
    },
}
