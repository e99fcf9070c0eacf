//! The replicated families of rows, and the keys inside them.
//!
//! One list drives snapshot, deletion and state hash: a family that is not in `Family::ALL` does
//! not exist. A row's full key on disk is partition (u16 big endian), family (u8), then the key
//! built here; all numbers are big endian, so that byte order is numeric order.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::actor::ActorKey;
use crate::command::ScheduleKind;
use crate::ids::{PartitionId, RecoveryEpoch};
use crate::limits::{DEDUP_AGE_MAX, DERIVED_AGE_MAX};
use crate::request::{RequestId, Session};
use crate::time::Age;

/// A kind of replicated row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Family {
    /// The partition's one row of counters, times and membership (`partition_row`).
    Partition = 1,
    /// Actor key, then state key: a value.
    State = 2,
    /// Actor key: the actor's version.
    Version = 3,
    /// Request id: the recorded answer. And, under a tag of their own, when records are due
    /// (`due_key`).
    Dedup = 4,
    /// Session: its floor and when it was last used.
    Session = 5,
    /// Destination partition, sequence: a message not yet accepted there.
    Outbox = 6,
    /// Inbox sequence: a message accepted and not yet run.
    Inbox = 7,
    /// Counters of outbox and inbox per other partition.
    Mark = 8,
    /// Inbox sequence: a message that failed for good.
    DeadLetter = 9,
    /// Partition 0 only: the cluster's rarely changed facts.
    Fact = 10,
    /// Actor key, kind, name: a reminder or a timer.
    Schedule = 11,
    /// What is due when: kind, time, then what it is about. No values.
    Due = 12,
    /// Key of a topic partition: where its log begins and ends.
    Topic = 13,
    /// Key of a topic partition, last offset: events that were appended together.
    TopicBatch = 14,
    /// Key of a topic partition, group: what the group has settled.
    Group = 15,
    /// Key of a topic partition, group, offset: a dead letter that is parked with the group.
    TopicLetter = 16,
    /// Key of a topic partition, then a name, or the number that it got: events that were published
    /// lately under a name of their publisher's own.
    EventName = 17,
}

impl Family {
    /// Every family, in key order.
    pub const ALL: [Self; 17] = [
        Self::Partition,
        Self::State,
        Self::Version,
        Self::Dedup,
        Self::Session,
        Self::Outbox,
        Self::Inbox,
        Self::Mark,
        Self::DeadLetter,
        Self::Fact,
        Self::Schedule,
        Self::Due,
        Self::Topic,
        Self::TopicBatch,
        Self::Group,
        Self::TopicLetter,
        Self::EventName,
    ];

    /// Reads the byte of a key.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| *family as u8 == byte)
    }
}

/// Key of the single row of `Family::Partition`.
pub const PARTITION_ROW_KEY: &[u8] = b"";

/// Prefix of all state rows of one actor.
#[must_use]
pub fn state_prefix(actor: &ActorKey) -> Bytes {
    actor.to_bytes()
}

/// One state row of an actor.
#[must_use]
pub fn state_key(actor: &ActorKey, key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(actor.as_bytes().len() + key.len());
    bytes.put_slice(actor.as_bytes());
    bytes.put_slice(key);
    bytes.freeze()
}

/// The dedup record of a request. Sessions are scoped to the partition, other ids to the actor.
#[must_use]
pub fn dedup_key(actor: &ActorKey, id: &RequestId) -> Bytes {
    let id_bytes = id.to_bytes();
    match id {
        RequestId::Session { .. } => id_bytes,
        RequestId::Outside(_) | RequestId::Derived(_) => {
            let mut bytes = BytesMut::with_capacity(id_bytes.len() + actor.as_bytes().len());
            bytes.put_u8(id_bytes[0]);
            bytes.put_slice(actor.as_bytes());
            bytes.put_slice(&id_bytes[1..]);
            bytes.freeze()
        }
    }
}

/// Prefix of the rows that say when records are due, ascending by that.
pub const DUE_PREFIX: &[u8] = &[4];

/// How long a record is kept, in log time; `None`: a session's, which goes with its session.
#[must_use]
pub fn record_age_max(record_key: &[u8]) -> Option<Duration> {
    match record_key.first() {
        Some(2) => Some(DEDUP_AGE_MAX),
        Some(3) => Some(DERIVED_AGE_MAX),
        Some(_) | None => None,
    }
}

/// Says that a record is over its age at `due`, so that finding those that are needs no look at the
/// others.
#[must_use]
pub fn due_key(due: Age, record_key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9 + record_key.len());
    bytes.put_slice(DUE_PREFIX);
    bytes.put_u64(due.0);
    bytes.put_slice(record_key);
    bytes.freeze()
}

/// Reads a `due_key`: when, and the key of the record.
#[must_use]
pub fn parse_due_key(key: &Bytes) -> Option<(Age, Bytes)> {
    let rest = key.strip_prefix(DUE_PREFIX)?;
    let due = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    Some((Age(due), key.slice(DUE_PREFIX.len() + 8..)))
}

/// Prefix of the records of a session, from the session's own key.
#[must_use]
pub fn session_records_prefix(session_key: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + session_key.len());
    bytes.put_u8(1);
    bytes.put_slice(session_key);
    bytes.freeze()
}

/// The row of a session.
#[must_use]
pub fn session_key(session: Session) -> Bytes {
    let mut bytes = BytesMut::with_capacity(24);
    bytes.put_u128(session.gateway.0);
    bytes.put_u64(session.generation.0);
    bytes.freeze()
}

/// Prefix of the reminders, or of the timers, of one actor.
#[must_use]
pub fn schedule_prefix(actor: &ActorKey, kind: ScheduleKind) -> Bytes {
    schedule_key(actor, kind, "")
}

/// One reminder or timer.
#[must_use]
pub fn schedule_key(actor: &ActorKey, kind: ScheduleKind, name: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(actor.as_bytes().len() + 1 + name.len());
    bytes.put_slice(actor.as_bytes());
    bytes.put_u8(kind as u8);
    bytes.put_slice(name.as_bytes());
    bytes.freeze()
}

/// Reads a `schedule_key`.
#[must_use]
pub fn parse_schedule_key(key: &Bytes) -> Option<(ActorKey, ScheduleKind, String)> {
    let (actor, rest) = ActorKey::split(key)?;
    let kind = ScheduleKind::try_from(i32::from(*rest.first()?)).ok()?;
    let name = std::str::from_utf8(&rest[1..]).ok()?;
    Some((actor, kind, name.to_owned()))
}

/// What a row of `Family::Due` is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum DueKind {
    /// A reminder fires.
    Reminder = 1,
    /// A timer fires for the first time.
    Timer = 2,
    /// A state value stops counting.
    Value = 3,
    /// The oldest events of a topic partition are over their age.
    Retention = 4,
    /// A parked letter is over its age.
    Letter = 5,
    /// Nobody has used a group for its time. In log age, not in wall time.
    Group = 6,
    /// The oldest names of a topic partition's events are over their age. In log age.
    EventNames = 7,
}

impl From<ScheduleKind> for DueKind {
    fn from(kind: ScheduleKind) -> Self {
        match kind {
            ScheduleKind::Reminder => Self::Reminder,
            ScheduleKind::Timer => Self::Timer,
        }
    }
}

/// Says that `about` (a key of `Family::Schedule`, or of `Family::State`) is due at `due_ms`.
#[must_use]
pub fn due_row_key(kind: DueKind, due_ms: u64, about: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(9 + about.len());
    bytes.put_u8(kind as u8);
    bytes.put_u64(due_ms);
    bytes.put_slice(about);
    bytes.freeze()
}

/// Prefix of the rows of one kind, ascending by time.
#[must_use]
pub fn due_row_prefix(kind: DueKind) -> Bytes {
    Bytes::copy_from_slice(&[kind as u8])
}

/// Reads a `due_row_key`: when, and what it is about.
#[must_use]
pub fn parse_due_row_key(key: &Bytes) -> Option<(u64, Bytes)> {
    let due = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    Some((due, key.slice(9..)))
}

/// The batch of a topic partition that ends with this offset. By their ends, so that the first
/// batch at or after a key is the one that holds an offset.
#[must_use]
pub fn batch_key(topic: &ActorKey, last: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(topic.as_bytes().len() + 8);
    bytes.put_slice(topic.as_bytes());
    bytes.put_u64(last);
    bytes.freeze()
}

/// The key behind which the batches from the one that holds `offset` stand; `None`: all of them.
#[must_use]
pub fn batches_after(topic: &ActorKey, offset: u64) -> Option<Bytes> {
    offset.checked_sub(1).map(|last| batch_key(topic, last))
}

/// Reads a `batch_key`: the last offset of the batch.
#[must_use]
pub fn batch_end(key: &Bytes) -> Option<u64> {
    let (_, rest) = ActorKey::split(key)?;
    Some(u64::from_be_bytes(rest[..].try_into().ok()?))
}

/// A group of a topic partition. An empty name is the prefix of all of them.
#[must_use]
pub fn group_key(topic: &ActorKey, group: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(topic.as_bytes().len() + group.len());
    bytes.put_slice(topic.as_bytes());
    bytes.put_slice(group.as_bytes());
    bytes.freeze()
}

/// Reads a `group_key`.
#[must_use]
pub fn parse_group_key(key: &Bytes) -> Option<(ActorKey, String)> {
    let (topic, rest) = ActorKey::split(key)?;
    Some((topic, std::str::from_utf8(&rest).ok()?.to_owned()))
}

/// Prefix of the parked letters of a group.
#[must_use]
pub fn letter_prefix(topic: &ActorKey, group: &str) -> Bytes {
    let mut bytes = BytesMut::with_capacity(topic.as_bytes().len() + 10 + group.len());
    bytes.put_slice(topic.as_bytes());
    bytes.put_u16(group.len() as u16);
    bytes.put_slice(group.as_bytes());
    bytes.freeze()
}

/// One parked letter.
#[must_use]
pub fn letter_key(topic: &ActorKey, group: &str, offset: u64) -> Bytes {
    let mut bytes = BytesMut::from(letter_prefix(topic, group));
    bytes.put_u64(offset);
    bytes.freeze()
}

/// Reads a `letter_key`.
#[must_use]
pub fn parse_letter_key(key: &Bytes) -> Option<(ActorKey, String, u64)> {
    let (topic, rest) = ActorKey::split(key)?;
    let length = usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?));
    let group = std::str::from_utf8(rest.get(2..2 + length)?).ok()?;
    let offset = u64::from_be_bytes(rest.get(2 + length..)?.try_into().ok()?);
    Some((topic, group.to_owned(), offset))
}

/// The event of a topic partition that was published under this name.
#[must_use]
pub fn event_name_key(topic: &ActorKey, name: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(topic.as_bytes().len() + 1 + name.len());
    bytes.put_slice(topic.as_bytes());
    bytes.put_u8(b'n');
    bytes.put_slice(name);
    bytes.freeze()
}

/// The name that a topic partition has remembered as its `number`th.
#[must_use]
pub fn event_name_place_key(topic: &ActorKey, number: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(topic.as_bytes().len() + 9);
    bytes.put_slice(topic.as_bytes());
    bytes.put_u8(b'p');
    bytes.put_u64(number);
    bytes.freeze()
}

/// One outgoing message.
#[must_use]
pub fn outbox_key(destination: PartitionId, sequence: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(10);
    bytes.put_u16(destination.0);
    bytes.put_u64(sequence);
    bytes.freeze()
}

/// Reads an `outbox_key`.
#[must_use]
pub fn parse_outbox_key(key: &[u8]) -> Option<(PartitionId, u64)> {
    let destination = u16::from_be_bytes(key.get(..2)?.try_into().ok()?);
    let sequence = u64::from_be_bytes(key.get(2..)?.try_into().ok()?);
    Some((PartitionId(destination), sequence))
}

/// One accepted message; the sequence is the receiving partition's own.
#[must_use]
pub fn inbox_key(sequence: u64) -> Bytes {
    Bytes::copy_from_slice(&sequence.to_be_bytes())
}

/// Reads an `inbox_key`.
#[must_use]
pub fn parse_inbox_key(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// Next sequence this partition gives to messages for `destination`.
#[must_use]
pub fn outbox_next_key(destination: PartitionId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(3);
    bytes.put_u8(b'o');
    bytes.put_u16(destination.0);
    bytes.freeze()
}

/// Highest sequence to `destination` whose row was deleted because it was accepted there.
#[must_use]
pub fn outbox_trimmed_key(destination: PartitionId) -> Bytes {
    let mut bytes = BytesMut::with_capacity(3);
    bytes.put_u8(b't');
    bytes.put_u16(destination.0);
    bytes.freeze()
}

/// Highest sequence accepted from `source` in its recovery epoch.
#[must_use]
pub fn inbox_mark_key(source: PartitionId, epoch: RecoveryEpoch) -> Bytes {
    let mut bytes = BytesMut::with_capacity(11);
    bytes.put_u8(b'i');
    bytes.put_u16(source.0);
    bytes.put_u64(epoch.0);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_listed_once_and_in_order() {
        for (position, family) in Family::ALL.iter().enumerate() {
            assert_eq!(Family::from_byte(*family as u8), Some(*family));
            assert_eq!(*family as usize, position + 1);
        }
        assert_eq!(Family::from_byte(0), None);
    }

    #[test]
    fn due_rows_sort_by_their_time_and_name_their_record() {
        let actor = ActorKey::new("default", "counter", "a").unwrap();
        let record = dedup_key(&actor, &RequestId::Derived(7));
        let (low, high) = (due_key(Age(255), &record), due_key(Age(256), &record));
        assert!(low < high);
        assert_eq!(parse_due_key(&high), Some((Age(256), record.clone())));
        assert_eq!(parse_due_key(&record), None, "a record is no such row");
        assert_eq!(record_age_max(&record), Some(DERIVED_AGE_MAX));
        let outside = dedup_key(&actor, &RequestId::outside(b"o").unwrap());
        assert_eq!(record_age_max(&outside), Some(DEDUP_AGE_MAX));
        let session = Session {
            gateway: crate::ids::NodeId(9),
            generation: crate::ids::Generation(2),
        };
        let sequence = 5;
        let own = dedup_key(&actor, &RequestId::Session { session, sequence });
        assert!(own.starts_with(&session_records_prefix(&session_key(session))));
        assert_eq!(record_age_max(&own), None);
    }

    #[test]
    fn schedule_rows_are_found_from_what_is_due() {
        let actor = ActorKey::new("default", "counter", "a").unwrap();
        for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
            let key = schedule_key(&actor, kind, "a|b");
            assert!(key.starts_with(&schedule_prefix(&actor, kind)));
            let parsed = (actor.clone(), kind, "a|b".to_owned());
            assert_eq!(parse_schedule_key(&key), Some(parsed));
            let (low, high) = (
                due_row_key(kind.into(), 255, &key),
                due_row_key(kind.into(), 256, &key),
            );
            assert!(low < high && low.starts_with(&due_row_prefix(kind.into())));
            assert_eq!(parse_due_row_key(&high), Some((256, key)));
        }
        assert_eq!(parse_due_row_key(&Bytes::from_static(b"12345678")), None);
    }

    #[test]
    fn batches_are_found_from_the_offset_they_hold() {
        let topic = crate::topic::TopicName::new("default", "pubsub", "t");
        let topic = topic.unwrap().partition(3).key();
        let (low, high) = (batch_key(&topic, 255), batch_key(&topic, 256));
        assert!(low < high);
        assert_eq!([&low, &high].map(batch_end), [Some(255), Some(256)]);
        assert_eq!(batches_after(&topic, 0), None);
        for (offset, first) in [(1, &low), (255, &low), (256, &high)] {
            let after = batches_after(&topic, offset).unwrap();
            let found = [&low, &high].into_iter().find(|key| **key > after);
            assert_eq!(found, Some(first), "{offset}");
        }
        let parsed = (topic.clone(), "g".to_owned());
        assert_eq!(parse_group_key(&group_key(&topic, "g")), Some(parsed));
        let key = letter_key(&topic, "g", 9);
        assert!(key.starts_with(&letter_prefix(&topic, "g")));
        assert!(!key.starts_with(&letter_prefix(&topic, "")));
        assert_eq!(parse_letter_key(&key), Some((topic, "g".to_owned(), 9)));
    }

    #[test]
    fn outbox_keys_sort_by_sequence() {
        let low = outbox_key(PartitionId(3), 255);
        let high = outbox_key(PartitionId(3), 256);
        assert!(low < high);
        assert_eq!(parse_outbox_key(&high), Some((PartitionId(3), 256)));
        assert_eq!(parse_inbox_key(&inbox_key(7)), Some(7));
    }
}
