//! What is replicated of topics: one command holds operations on any topic partitions of one
//! partition.
//!
//! What only the leader can know comes as fields: which offset a time stands for, which batches are
//! old, where a dead letter goes. Apply checks each against the rows again.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::event::TopicEvent;
use super::request::{GroupName, Nothing, PublishBody, PutGroup, Redrive, Seek};
use crate::closed::ClosedRange;
use crate::command::{RequestRecord, Send};

/// Operations, in order; each counts or is refused on its own.
#[derive(Clone, PartialEq, Message)]
pub struct TopicOps {
    /// The operations.
    #[prost(message, repeated, tag = "1")]
    pub ops: Vec<TopicOp>,
}

/// One operation on one topic partition.
#[derive(Clone, PartialEq, Message)]
pub struct TopicOp {
    /// Canonical key of the topic partition.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic: Bytes,
    /// The request to record, unless the operation has one for each of its parts or comes from the
    /// leader.
    #[prost(message, optional, tag = "2")]
    pub request: Option<RequestRecord>,
    /// What to do; absent: nothing, and the request is not recorded.
    #[prost(
        oneof = "TopicAct",
        tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    pub act: Option<TopicAct>,
}

/// The variants of [`TopicOp`].
#[derive(Clone, PartialEq, Oneof)]
pub enum TopicAct {
    /// Publishes: their events become one batch.
    #[prost(message, tag = "3")]
    Append(Append),
    /// Makes a group, or changes how it is served.
    #[prost(message, tag = "4")]
    Put(GroupPut),
    /// Moves a group's cursor; a time is resolved to an offset.
    #[prost(message, tag = "5")]
    Seek(Seek),
    /// Delivers nothing to a group from now on.
    #[prost(message, tag = "6")]
    Pause(GroupName),
    /// Delivers again.
    #[prost(message, tag = "7")]
    Resume(GroupName),
    /// Deletes letters of a group, and the group when none is left.
    #[prost(message, tag = "8")]
    Delete(GroupLetters),
    /// Parked letters are appended again, or thrown away.
    #[prost(message, tag = "9")]
    Redrive(Redrive),
    /// Verdicts on deliveries.
    #[prost(message, tag = "10")]
    Settle(Settle),
    /// Batches that are too old or too many.
    #[prost(message, tag = "11")]
    Trim(Trim),
    /// Parked letters that are over their age.
    #[prost(message, tag = "12")]
    LettersOver(GroupLetters),
    /// A group that nobody has used for its time.
    #[prost(message, tag = "13")]
    Idle(IdleGroup),
    /// A group is in use.
    #[prost(message, tag = "14")]
    Touch(GroupName),
    /// Names of events that are over their age.
    #[prost(message, tag = "15")]
    NamesOver(Nothing),
}

/// See [`TopicAct::Append`].
#[derive(Clone, PartialEq, Message)]
pub struct Append {
    /// Each is recorded, and answered, by itself.
    #[prost(message, repeated, tag = "1")]
    pub publishes: Vec<PublishItem>,
}

/// One publish.
#[derive(Clone, PartialEq, Message)]
pub struct PublishItem {
    /// The request to record.
    #[prost(message, optional, tag = "1")]
    pub request: Option<RequestRecord>,
    /// Its events.
    #[prost(message, optional, tag = "2")]
    pub body: Option<PublishBody>,
}

/// See [`TopicAct::Put`].
#[derive(Clone, PartialEq, Message)]
pub struct GroupPut {
    /// The group, and how it is served.
    #[prost(message, optional, tag = "1")]
    pub put: Option<PutGroup>,
    /// Of a new group that starts at a time: the offset that stands for it.
    #[prost(uint64, tag = "2")]
    pub start_offset: u64,
}

/// Letters of a group.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupLetters {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Their offsets.
    #[prost(uint64, repeated, tag = "2")]
    pub offsets: Vec<u64>,
}

/// See [`TopicAct::Settle`].
#[derive(Clone, PartialEq, Message)]
pub struct Settle {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Epoch of the group in which they were delivered; of another one nothing counts.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Offsets that are done.
    #[prost(message, repeated, tag = "3")]
    pub done: Vec<ClosedRange>,
    /// Offsets of which one more delivery has failed.
    #[prost(uint64, repeated, tag = "4")]
    pub failed: Vec<u64>,
    /// Events that the group could not be given.
    #[prost(message, repeated, tag = "5")]
    pub dead: Vec<DeadEvent>,
    /// Events that are forwarded to actors; done by it.
    #[prost(message, repeated, tag = "6")]
    pub forwards: Vec<Forward>,
}

/// An event that becomes a dead letter; done by it.
#[derive(Clone, PartialEq, Message)]
pub struct DeadEvent {
    /// Its offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Deliveries that failed.
    #[prost(uint32, tag = "2")]
    pub attempts: u32,
    /// What the last one said.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// The event, to be parked; absent if it is sent.
    #[prost(message, optional, tag = "4")]
    pub park: Option<TopicEvent>,
    /// The message that carries it to the dead-letter topic.
    #[prost(message, optional, tag = "5")]
    pub send: Option<Send>,
}

/// An event for an actor.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// Its offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// The message for the actor.
    #[prost(message, optional, tag = "2")]
    pub send: Option<Send>,
}

/// See [`TopicAct::Idle`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IdleGroup {
    /// Its name.
    #[prost(string, tag = "1")]
    pub group: String,
    /// For how long its leader has seen that nobody subscribes, in milliseconds: it knows nothing
    /// of the time before its leadership.
    #[prost(uint64, tag = "2")]
    pub watched_ms: u64,
}

/// See [`TopicAct::Trim`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Trim {
    /// Last offsets of the oldest batches, ascending. Apply takes each that is the oldest one and
    /// is due.
    #[prost(uint64, repeated, tag = "1")]
    pub last: Vec<u64>,
    /// Last offset of the batch behind them, if there is one: when it is due is read from it.
    #[prost(uint64, optional, tag = "2")]
    pub next_last: Option<u64>,
    /// 1: whatever their age, because the topic is deleted; when none is left it is gone.
    #[prost(uint32, tag = "3")]
    pub delete: u32,
}
