//! What a topic partition's leader is asked, as the body of a call to its key, and what it answers.

use prost::{Message, Oneof};

use super::event::TopicEvent;
use super::group::GroupSettings;
use super::row::{DeadTopicLetter, GroupRow, TopicRow};
use bytes::Bytes;

/// The body of a call to a topic partition, or to a directory (`List` alone).
#[derive(Clone, PartialEq, Message)]
pub struct TopicRequest {
    /// What is asked.
    #[prost(oneof = "Request", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub request: Option<Request>,
}

/// The variants of [`TopicRequest`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    /// Append events.
    #[prost(message, tag = "1")]
    Publish(PublishBody),
    /// Make a group, or change how it is served.
    #[prost(message, tag = "2")]
    PutGroup(PutGroup),
    /// Move a group's cursor.
    #[prost(message, tag = "3")]
    Seek(Seek),
    /// Deliver nothing to a group, until it is resumed.
    #[prost(message, tag = "4")]
    Pause(GroupName),
    /// Deliver again.
    #[prost(message, tag = "5")]
    Resume(GroupName),
    /// Forget a group, its cursor and its parked letters.
    #[prost(message, tag = "6")]
    DeleteGroup(GroupName),
    /// How the topic partition and its groups stand.
    #[prost(message, tag = "7")]
    Describe(Nothing),
    /// Every topic partition of the asked partition, with its groups.
    #[prost(message, tag = "8")]
    List(Page),
    /// Parked letters of a group.
    #[prost(message, tag = "9")]
    Letters(LettersPage),
    /// Parked letters are delivered again, or thrown away.
    #[prost(message, tag = "10")]
    Redrive(Redrive),
    /// Delete the oldest events of a topic partition without groups, as many as one entry may:
    /// `Described` says what is left. Asked again until none is.
    #[prost(message, tag = "11")]
    DeleteEvents(Nothing),
}

/// Events to append, all or none.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishBody {
    /// The events, at least one.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<TopicEvent>,
    /// Age above which events of the topic go, in milliseconds; 0: as before.
    #[prost(uint64, tag = "2")]
    pub retention_ms: u64,
    /// Bytes above which its oldest events go; 0: as before.
    #[prost(uint64, tag = "3")]
    pub retention_bytes: u64,
    /// Names of the events, in their order, `EVENT_NAME_BYTES` each; an empty one, or one that is
    /// missing: none. An event whose name the topic partition remembers is not appended again.
    /// Messages to topics have none.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub names: Vec<Bytes>,
}

/// See [`Request::PutGroup`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PutGroup {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// How it is served.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<GroupSettings>,
}

/// See [`Request::Seek`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Seek {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Where to: `First`, `Last` or `Time`; ignored if an offset is given.
    #[prost(enumeration = "super::group::StartFrom", tag = "2")]
    pub to: i32,
    /// Of `Time`.
    #[prost(uint64, tag = "3")]
    pub time_ms: u64,
    /// An exact offset.
    #[prost(uint64, optional, tag = "4")]
    pub offset: Option<u64>,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupName {
    /// Its name.
    #[prost(string, tag = "1")]
    pub group: String,
}

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

/// One page of a list.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Page {
    /// Key of the last row of the page before; empty: from the beginning.
    #[prost(bytes = "bytes", tag = "1")]
    pub after: Bytes,
}

/// One page of a group's parked letters.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LettersPage {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Lowest offset wanted.
    #[prost(uint64, tag = "2")]
    pub from: u64,
}

/// See [`Request::Redrive`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Redrive {
    /// The group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Offsets of the letters; at most `REDRIVE_LETTERS_MAX`.
    #[prost(uint64, repeated, tag = "2")]
    pub offsets: Vec<u64>,
    /// What becomes of them.
    #[prost(enumeration = "RedriveTo", tag = "3")]
    pub to: i32,
}

/// What becomes of parked letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum RedriveTo {
    /// Appended to the topic once more, for their group alone, and deleted.
    Group = 0,
    /// Deleted.
    Nowhere = 1,
}

/// A leader's answer; which one follows from the request.
#[derive(Clone, PartialEq, Message)]
pub struct TopicReply {
    /// The answer.
    #[prost(oneof = "Reply", tags = "1, 2, 3, 4, 5")]
    pub reply: Option<Reply>,
}

/// The variants of [`TopicReply`].
#[derive(Clone, PartialEq, Oneof)]
pub enum Reply {
    /// To `Publish`.
    #[prost(message, tag = "1")]
    Published(PublishReply),
    /// To what changes a group: how it stands.
    #[prost(message, tag = "2")]
    Group(GroupReply),
    /// To `Describe`.
    #[prost(message, tag = "3")]
    Described(DescribeReply),
    /// To `List`.
    #[prost(message, tag = "4")]
    Listed(ListReply),
    /// To `Letters`.
    #[prost(message, tag = "5")]
    Letters(LettersReply),
}

/// Where the events of a publish stand: `first .. first + count`, or where `offsets` say.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublishReply {
    /// Topic partition.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Offset of the first event.
    #[prost(uint64, tag = "2")]
    pub first: u64,
    /// Events.
    #[prost(uint64, tag = "3")]
    pub count: u64,
    /// The offset of each, if they do not stand in a row: some were published before.
    #[prost(uint64, repeated, tag = "4")]
    pub offsets: Vec<u64>,
}

impl PublishReply {
    /// The answer to a publish whose events stand at these offsets.
    #[must_use]
    pub fn at(number: u16, offsets: Vec<u64>) -> Self {
        let first = offsets.first().copied().unwrap_or(0);
        let in_a_row = (first..).zip(&offsets).all(|(next, at)| next == *at);
        Self {
            number: u32::from(number),
            first,
            count: offsets.len() as u64,
            offsets: if in_a_row { Vec::new() } else { offsets },
        }
    }

    /// Where the event at this place of the publish stands.
    #[must_use]
    pub fn offset(&self, place: usize) -> u64 {
        let told = self.offsets.get(place).copied();
        told.unwrap_or_else(|| self.first.saturating_add(place as u64))
    }
}

/// A group in one topic partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupReply {
    /// Its name.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Its row.
    #[prost(message, optional, tag = "2")]
    pub row: Option<GroupRow>,
    /// Events not settled.
    #[prost(uint64, tag = "3")]
    pub lag: u64,
    /// Events at subscribers.
    #[prost(uint64, tag = "4")]
    pub in_flight: u64,
    /// Subscribers.
    #[prost(uint64, tag = "5")]
    pub subscribers: u64,
    /// Ids of the nodes they are on, 16 bytes each.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub nodes: Vec<Bytes>,
    /// Deliveries of this leadership that were not the first of their event.
    #[prost(uint64, tag = "7")]
    pub redelivered: u64,
    /// Deliveries of this leadership.
    #[prost(uint64, tag = "8")]
    pub delivered: u64,
    /// Of an operation on parked letters: how many it took.
    #[prost(uint64, tag = "9")]
    pub taken: u64,
}

/// A topic partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DescribeReply {
    /// Its canonical key.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic: Bytes,
    /// Its row.
    #[prost(message, optional, tag = "2")]
    pub row: Option<TopicRow>,
    /// Its groups.
    #[prost(message, repeated, tag = "3")]
    pub groups: Vec<GroupReply>,
}

/// Topic partitions, in the order of their keys.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListReply {
    /// Those of this page.
    #[prost(message, repeated, tag = "1")]
    pub topics: Vec<DescribeReply>,
    /// Ask again after the last of them if it is 1.
    #[prost(uint32, tag = "2")]
    pub more: u32,
}

/// Parked letters, by offset.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LettersReply {
    /// Those of this page.
    #[prost(message, repeated, tag = "1")]
    pub letters: Vec<DeadTopicLetter>,
    /// Ask again from behind the last of them if it is 1.
    #[prost(uint32, tag = "2")]
    pub more: u32,
}
