//! What the leader of a topic partition and the nodes of its subscribers say to each other.
//!
//! A subscriber attaches to each topic partition's leader. The leader delivers within its credits;
//! the subscriber's node keeps each verdict, and says it again, until the leader has confirmed that
//! it is committed. Frames may be lost: an `Attach` says everything that the leader must know, and
//! is repeated.

mod roll;

use bytes::Bytes;
use prost::{Message, Oneof};

pub use self::roll::{Mark, Roll};
use crate::call::LeaderHint;
use crate::closed::ClosedRange;
use crate::command::IfThere;
use crate::topic::{Forward, GroupSettings, TopicEvent};

/// One word about one subscriber in one topic partition.
#[derive(Clone, PartialEq, Message)]
pub struct TopicFrame {
    /// The partition that holds the topic partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Canonical key of the topic partition.
    #[prost(bytes = "bytes", tag = "2")]
    pub topic: Bytes,
    /// The subscriber, as its node counts them.
    #[prost(uint64, tag = "3")]
    pub subscriber: u64,
    /// Term of the leadership that it is said to, or by; 0: whichever.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// What is said; absent: unknown to this build.
    #[prost(oneof = "TopicSaid", tags = "5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub said: Option<TopicSaid>,
}

/// The variants of [`TopicFrame`]: the first three and `Present` go to a leader, the others come
/// from it.
#[derive(Clone, PartialEq, Oneof)]
pub enum TopicSaid {
    /// Deliver to it; also: it is still there.
    #[prost(message, tag = "5")]
    Attach(Attach),
    /// It has gone; what it holds is for others.
    #[prost(message, tag = "6")]
    Detach(Detach),
    /// What became of deliveries.
    #[prost(message, tag = "7")]
    Verdicts(Verdicts),
    /// It is attached.
    #[prost(message, tag = "8")]
    Attached(Attached),
    /// It is not.
    #[prost(message, tag = "9")]
    Refused(Refused),
    /// Events.
    #[prost(message, tag = "10")]
    Deliver(Deliver),
    /// Verdicts that are committed.
    #[prost(message, tag = "11")]
    Confirm(Confirm),
    /// Of no single subscriber: who of this node is attached in the partition, in this term.
    #[prost(message, tag = "12")]
    Present(Present),
    /// The answer: who of that node the leader has there.
    #[prost(message, tag = "13")]
    Counted(Counted),
    /// The subscriber is to say what it holds: something was sent to it, and it has said nothing
    /// since.
    #[prost(message, tag = "14")]
    SpeakUp(SpeakUp),
}

/// See [`TopicSaid::Attach`].
#[derive(Clone, PartialEq, Message)]
pub struct Attach {
    /// Its group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// How the group is to be served.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<GroupSettings>,
    /// Events of this topic partition that it takes without a verdict.
    #[prost(uint32, tag = "3")]
    pub credit_events: u32,
    /// Bytes of them; one event may exceed them alone.
    #[prost(uint64, tag = "4")]
    pub credit_bytes: u64,
    /// Epoch of the group in which it got what it holds; 0: it holds nothing.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// Offsets that it holds without a verdict, or whose verdict is not confirmed.
    #[prost(message, repeated, tag = "6")]
    pub held: Vec<ClosedRange>,
    /// `Deliver::number` of the latest that has come from this leadership.
    #[prost(uint64, tag = "7")]
    pub seen: u64,
    /// Whether a group that is there is to be served as `settings` say from now on.
    #[prost(enumeration = "IfThere", tag = "8")]
    pub if_there: i32,
}

/// See [`TopicSaid::Detach`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Detach {}

/// See [`TopicSaid::Verdicts`].
#[derive(Clone, PartialEq, Message)]
pub struct Verdicts {
    /// Epoch of the group in which they were delivered.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Offsets that are done.
    #[prost(message, repeated, tag = "2")]
    pub done: Vec<ClosedRange>,
    /// Deliveries that failed.
    #[prost(message, repeated, tag = "3")]
    pub failed: Vec<FailedDelivery>,
    /// Events that become messages to actors; done by it.
    #[prost(message, repeated, tag = "4")]
    pub forwarded: Vec<Forward>,
}

/// A delivery that failed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FailedDelivery {
    /// The event.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Which of its deliveries, from 1.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
    /// Whether it is to be delivered again.
    #[prost(enumeration = "Failure", tag = "3")]
    pub failure: i32,
    /// Why, for people.
    #[prost(string, tag = "4")]
    pub reason: String,
}

/// See [`FailedDelivery`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Failure {
    /// Again, after a pause.
    Retry = 0,
    /// Never again.
    Drop = 1,
}

/// See [`TopicSaid::Attached`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Attached {
    /// The group's epoch: what is held from another one is void.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
}

/// See [`TopicSaid::Refused`].
#[derive(Clone, PartialEq, Message)]
pub struct Refused {
    /// Number of the code; 0: this node does not lead the partition.
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// The text for people.
    #[prost(string, tag = "2")]
    pub detail: String,
    /// Who leads, as far as known.
    #[prost(message, optional, tag = "3")]
    pub hint: Option<LeaderHint>,
}

/// See [`TopicSaid::Deliver`].
#[derive(Clone, PartialEq, Message)]
pub struct Deliver {
    /// The group's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Counts what this leadership has sent to this subscriber, from 1.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// The events.
    #[prost(message, repeated, tag = "3")]
    pub events: Vec<Delivered>,
}

/// One event.
#[derive(Clone, PartialEq, Message)]
pub struct Delivered {
    /// Its offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Which of its deliveries to the group this is, from 1.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
    /// The event.
    #[prost(message, optional, tag = "3")]
    pub event: Option<TopicEvent>,
}

/// See [`TopicSaid::Confirm`].
#[derive(Clone, PartialEq, Message)]
pub struct Confirm {
    /// The group's epoch.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Offsets that are settled for good.
    #[prost(message, repeated, tag = "2")]
    pub settled: Vec<ClosedRange>,
    /// Offsets whose failed delivery is counted.
    #[prost(uint64, repeated, tag = "3")]
    pub counted: Vec<u64>,
}

/// See [`TopicSaid::Present`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Present {
    /// The answer repeats it.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Who is there.
    #[prost(message, optional, tag = "2")]
    pub roll: Option<Roll>,
}

/// See [`TopicSaid::Counted`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Counted {
    /// Of the `Present` that it answers.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Who is there as the leader has it; absent: it leads in another term.
    #[prost(message, optional, tag = "2")]
    pub roll: Option<Roll>,
}

/// See [`TopicSaid::SpeakUp`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SpeakUp {}
