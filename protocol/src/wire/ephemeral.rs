//! What nodes say to each other about ephemeral topics: who wants which, and events.
//!
//! Interest goes over the control connection from each node to every other. A node counts its
//! changes; whoever misses one asks for the whole, and whoever is not heard to have it is told
//! again. Events go over a lane of their own, once to each node that wants them, and may be lost.

use bytes::Bytes;
use prost::{Message, Oneof};

/// One word about what a node wants.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InterestFrame {
    /// Run of the sender: what an earlier run said counts no more.
    #[prost(uint64, tag = "1")]
    pub run: u64,
    /// What is said; absent: unknown to this build.
    #[prost(oneof = "InterestSaid", tags = "2, 3, 4, 5")]
    pub said: Option<InterestSaid>,
}

/// The variants of [`InterestFrame`].
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum InterestSaid {
    /// A part of everything that the sender wants.
    #[prost(message, tag = "2")]
    Whole(WholeInterest),
    /// What has changed.
    #[prost(message, tag = "3")]
    Change(InterestChange),
    /// The receiver's interest of this version is known to the sender.
    #[prost(message, tag = "4")]
    Known(InterestVersion),
    /// The sender has missed something, and asks for the whole.
    #[prost(message, tag = "5")]
    Missed(InterestVersion),
}

/// See [`InterestSaid::Whole`]. Parts come in order, from 0.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WholeInterest {
    /// Version of the interest.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Which part.
    #[prost(uint32, tag = "2")]
    pub part: u32,
    /// How many there are.
    #[prost(uint32, tag = "3")]
    pub parts: u32,
    /// Topics of this part.
    #[prost(message, repeated, tag = "4")]
    pub topics: Vec<WantedTopic>,
}

/// See [`InterestSaid::Change`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InterestChange {
    /// Version after the change; before it, it was one less.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The topic as it is now.
    #[prost(message, optional, tag = "2")]
    pub topic: Option<WantedTopic>,
}

/// A version of somebody's interest.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct InterestVersion {
    /// The version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Run of whoever's it is.
    #[prost(uint64, tag = "2")]
    pub run: u64,
}

/// A topic that a node wants.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WantedTopic {
    /// Canonical key of its first topic partition, which stands for its name.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic: Bytes,
    /// Subscribers on the node; 0: it is not wanted any more.
    #[prost(uint32, tag = "2")]
    pub subscribers: u32,
    /// Events that the rings of its subscribers there have let go.
    #[prost(uint64, tag = "3")]
    pub dropped: u64,
}

/// An event on its way to a node that wants it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EphemeralEvent {
    /// As in [`WantedTopic`].
    #[prost(bytes = "bytes", tag = "1")]
    pub topic: Bytes,
    /// The encoded `TopicEvent`: opaque to whoever passes it on.
    #[prost(bytes = "bytes", tag = "2")]
    pub event: Bytes,
    /// Node that published it, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub origin: Bytes,
    /// Its place among that node's events of this topic, from 1. What is missing between two was
    /// lost.
    #[prost(uint64, tag = "4")]
    pub number: u64,
    /// Raised when that node counts anew: with each run, and when it had to forget its counts.
    #[prost(uint64, tag = "6")]
    pub epoch: u64,
    /// Whether it is kept as the topic's last value, and is live or an answer to new interest.
    #[prost(enumeration = "Latch", tag = "5")]
    pub latch: i32,
    /// Nodes that the receiver passes it on to, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub pass_to: Vec<Bytes>,
}

/// What an event means for the last value of its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Latch {
    /// Nothing.
    Passing = 0,
    /// It is the last value from now on.
    LastValue = 1,
    /// It is the last value, told to a node that has just begun to want the topic.
    Replay = 2,
}
