//! What the loop asks of those who use the node from inside its process: programs that call and
//! subscribe, applications, operators, and whoever runs turns.
//!
//! The product's are in the node (`shell/guests.rs` there); a simulation has clients and sample
//! actors instead.

use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminTicket};
use ghostlight_core::gateway::CallTicket;
use ghostlight_core::hosts::words::AppEffect;
use ghostlight_core::io::{Input, Now};
use ghostlight_core::topics::subscribers::{SubscriptionId, Told};
use ghostlight_core::turn_io::RunnerEffect;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::ephemeral::InterestFrame;
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord};
use ghostlight_transport::LinkHandle;

/// See the module. Nothing here may wait, but for [`next`](Self::next).
pub trait Guests {
    /// Something that one of them says.
    type Word;

    /// What is said next; may never come. Dropped and asked again at any time.
    fn next(&mut self) -> impl Future<Output = Self::Word>;

    /// A turn of the loop begins.
    fn turn_begins(&mut self);

    /// A word that waits already; `None`: none, or there have been enough in this turn of the loop.
    fn waiting(&mut self) -> Option<Self::Word>;

    /// Takes a word; what the core is to hear is pushed to `out`.
    fn take(&mut self, now: Now, word: Self::Word, out: &mut Vec<Input>);

    /// The node has ended: a word that certainly led to nothing.
    fn refuse(&mut self, word: Self::Word);

    /// No more words are taken: refuses those that wait, and those to come.
    fn close(&mut self);

    /// The core speaks to them; what it is to hear at once is pushed to `out`.
    fn tell(&mut self, effect: GuestEffect, out: &mut Vec<Input>);

    /// Turns that the core wanted may begin, while the loop goes on.
    fn begin_turns(&mut self);

    /// Time has passed, a tick of the core's at least.
    fn tick(&mut self, now: Instant, out: &mut Vec<Input>);

    /// All that lead have more to do than they can: for `pause`, calls that can wait for no longer
    /// than `patience` need not come.
    fn overrun(&mut self, _pause: Duration, _patience: Duration) {}

    /// A connection is up.
    fn connected(&mut self, _now: Instant, _peer: &NodeRecord, _link: &LinkHandle) {}

    /// A connection is gone.
    fn disconnected(&mut self, _now: Instant, _node: NodeId, _kind: ConnectionKind) {}

    /// What a peer wants of ephemeral topics; it is within the border.
    fn said(&mut self, _now: Instant, _from: NodeId, _said: InterestFrame) {}

    /// Once a second: tells metrics what they have counted.
    fn measure(&self) {}
}

/// What the core has for them.
#[derive(Debug)]
pub enum GuestEffect {
    /// For whoever runs turns.
    Runner(RunnerEffect),
    /// For the applications beside this node.
    App(AppEffect),
    /// For a program that subscribes to topics.
    Subscriber(SubscriptionId, Told),
    /// A client's call is over.
    Reply {
        /// The number that it was given.
        ticket: CallTicket,
        /// The outcome.
        outcome: CallOutcome,
    },
    /// An operator's answer.
    AdminReply {
        /// The number that the request was given.
        ticket: AdminTicket,
        /// The answer.
        answer: AdminAnswer,
    },
}

/// Both clocks, as whoever drives the loop has them.
pub trait Clocks {
    /// Monotonic.
    fn now(&self) -> Instant;

    /// Of the calendar; may jump.
    fn wall(&self) -> WallTime;

    /// The standard library's form of an instant, for timers.
    fn to_std(&self, at: Instant) -> std::time::Instant;
}
