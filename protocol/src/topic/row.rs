//! Rows of topics.

use bytes::Bytes;
use prost::Message;

use super::event::TopicEvent;
use super::group::{AckSet, GroupSettings};
use crate::canary::{self, Canary};
use crate::closed::ClosedRange;
use crate::limits::{RETENTION_AGE_DEFAULT, RETENTION_BYTES_DEFAULT};

/// A topic partition. Offsets count from 0, one for each event; `first .. next` are kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TopicRow {
    /// Offset that the next event gets.
    #[prost(uint64, tag = "1")]
    pub next: u64,
    /// Lowest offset that is kept: where the first batch begins.
    #[prost(uint64, tag = "2")]
    pub first: u64,
    /// Bytes of the batches that are kept.
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    /// When the last batch was appended.
    #[prost(uint64, tag = "5")]
    pub last_ms: u64,
    /// Events older than this go, in milliseconds; 0: `RETENTION_AGE_DEFAULT`.
    #[prost(uint64, tag = "6")]
    pub retention_ms: u64,
    /// Bytes above which the oldest events go; 0: `RETENTION_BYTES_DEFAULT`.
    #[prost(uint64, tag = "7")]
    pub retention_bytes: u64,
    /// Its groups.
    #[prost(uint64, tag = "8")]
    pub groups: u64,
    /// Log age when the first batch that is kept was appended; absent: none is kept. Not a wall
    /// time: a clock that is set right would make events old that were just acknowledged.
    #[prost(uint64, optional, tag = "9")]
    pub first_age_ms: Option<u64>,
    /// Number of the oldest name that is remembered; names are counted from 0.
    #[prost(uint64, tag = "10")]
    pub names_first: u64,
    /// Number that the next name gets.
    #[prost(uint64, tag = "11")]
    pub names_next: u64,
    /// Log age at which names are looked through for old ones; 0: none is remembered.
    #[prost(uint64, tag = "12")]
    pub names_due_ms: u64,
    /// Names with lower numbers say nothing any more: their topic was deleted.
    #[prost(uint64, tag = "13")]
    pub names_void: u64,
    /// 1: the topic was deleted, and not used since. The row stays, so that no offset is given
    /// again.
    #[prost(uint32, tag = "14")]
    pub gone: u32,
}

impl TopicRow {
    /// Age above which its events go, in milliseconds.
    #[must_use]
    pub fn age_max_ms(&self) -> u64 {
        match self.retention_ms {
            0 => RETENTION_AGE_DEFAULT.as_millis() as u64,
            ms if canary::sings(Canary::TrimmedEarly) => ms / 2,
            ms => ms,
        }
    }

    /// Bytes above which its oldest events go.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        match self.retention_bytes {
            0 => RETENTION_BYTES_DEFAULT,
            bytes => bytes,
        }
    }

    /// When its first batch is over its age, in log age; `None`: none is kept.
    #[must_use]
    pub fn due_age_ms(&self) -> Option<u64> {
        let first = self.first_age_ms?;
        Some(first.saturating_add(self.age_max_ms()))
    }

    /// Whether a batch of it is older than its events may be, at a log age.
    #[must_use]
    pub fn outlives(&self, batch: &TopicBatch, age_ms: u64) -> bool {
        let due = |appended: u64| appended.saturating_add(self.age_max_ms());
        batch
            .appended_age_ms
            .is_some_and(|appended| due(appended) <= age_ms)
    }
}

/// Events that were appended together: offsets `base .. base + events.len()`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TopicBatch {
    /// Offset of the first event.
    #[prost(uint64, tag = "1")]
    pub base: u64,
    /// The log's wall time when it was appended, by which times are sought.
    #[prost(uint64, tag = "2")]
    pub appended_ms: u64,
    /// The events.
    #[prost(message, repeated, tag = "3")]
    pub events: Vec<TopicEvent>,
    /// Log age when it was appended. Without one a batch goes for its size alone.
    #[prost(uint64, optional, tag = "4")]
    pub appended_age_ms: Option<u64>,
}

/// An event that was published under a name; its row stands under the name.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct NamedEvent {
    /// Its offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Log age when it was appended.
    #[prost(uint64, tag = "2")]
    pub age_ms: u64,
    /// Number of its name.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// A name that is remembered; its row stands under its number, so that the oldest is found.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NamePlace {
    /// The name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// Log age when it was remembered.
    #[prost(uint64, tag = "2")]
    pub age_ms: u64,
}

/// A group of subscribers in one topic partition.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GroupRow {
    /// Every lower offset is settled.
    #[prost(uint64, tag = "1")]
    pub floor: u64,
    /// Settled ranges above it.
    #[prost(message, repeated, tag = "2")]
    pub settled: Vec<ClosedRange>,
    /// Offsets whose delivery has failed, ascending.
    #[prost(message, repeated, tag = "3")]
    pub attempts: Vec<Attempts>,
    /// How it is served.
    #[prost(message, optional, tag = "4")]
    pub settings: Option<GroupSettings>,
    /// Another one with each seek, larger than all before it: what was delivered before counts for
    /// nothing.
    #[prost(uint64, tag = "5")]
    pub epoch: u64,
    /// 1: nothing is delivered.
    #[prost(uint32, tag = "6")]
    pub paused: u32,
    /// Dead letters parked and not yet dealt with.
    #[prost(uint64, tag = "7")]
    pub letters: u64,
    /// Events that became dead letters, parked or published elsewhere, since the group was made.
    #[prost(uint64, tag = "8")]
    pub dead: u64,
    /// Log age when a subscriber was last known.
    #[prost(uint64, tag = "9")]
    pub used_age_ms: u64,
}

impl GroupRow {
    /// What is settled.
    #[must_use]
    pub fn acks(&self) -> AckSet {
        AckSet::new(self.floor, &self.settled)
    }

    /// Writes what is settled, and forgets the attempts of settled offsets.
    pub fn set_acks(&mut self, acks: &AckSet) {
        self.floor = acks.floor();
        self.settled = acks.ranges().to_vec();
        self.attempts.retain(|a| !acks.contains(a.offset));
    }

    /// Kept events that are not settled.
    #[must_use]
    pub fn lag(&self, topic: &TopicRow) -> u64 {
        let from = self.floor.max(topic.first);
        let above = self.settled.iter().map(|range| {
            let end = range.end.min(topic.next);
            end.saturating_sub(range.first.max(from))
        });
        topic.next.saturating_sub(from).saturating_sub(above.sum())
    }

    /// Failed deliveries of an offset.
    #[must_use]
    pub fn attempts_of(&self, offset: u64) -> u32 {
        let found = self.attempts.binary_search_by_key(&offset, |a| a.offset);
        found.map_or(0, |at| self.attempts[at].count)
    }

    /// Counts one more failed delivery.
    pub fn count_attempt(&mut self, offset: u64) -> u32 {
        match self.attempts.binary_search_by_key(&offset, |a| a.offset) {
            Ok(at) => {
                let count = &mut self.attempts[at].count;
                *count = count.saturating_add(1);
                *count
            }
            Err(at) => {
                self.attempts.insert(at, Attempts { offset, count: 1 });
                1
            }
        }
    }
}

/// How often the delivery of an event has failed.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Attempts {
    /// Its offset.
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    /// Failed deliveries.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// An event that a group could not be given.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeadTopicLetter {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub event: Option<TopicEvent>,
    /// Its offset in the topic partition.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// Deliveries that failed.
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    /// What the last one said.
    #[prost(string, tag = "4")]
    pub reason: String,
    /// The log's wall time when it was given up, for people.
    #[prost(uint64, tag = "5")]
    pub dead_ms: u64,
    /// Canonical key of the topic partition it comes from.
    #[prost(bytes = "bytes", tag = "6")]
    pub topic: Bytes,
    /// The group.
    #[prost(string, tag = "7")]
    pub group: String,
    /// Log age when it was given up.
    #[prost(uint64, tag = "8")]
    pub dead_age_ms: u64,
}
