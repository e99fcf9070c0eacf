//! The replicated families of rows, and the keys inside them.
//!
//! One list drives snapshot, deletion and state hash: a family that is not in `Family::ALL` does not
//! exist. A row's full key on disk is partition (u16 big endian), family (u8), then the key built here;
//! all numbers are big endian, so that byte order is numeric order.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::actor::ActorKey;
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
    /// Request id: the recorded answer. And, under a tag of their own, when records are due (`due_key`).
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
}

impl Family {
    /// Every family, in key order.
    pub const ALL: [Self; 10] = [
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

/// Says that a record is over its age at `due`, so that finding those that are needs no look at the others.
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
    fn outbox_keys_sort_by_sequence() {
        let low = outbox_key(PartitionId(3), 255);
        let high = outbox_key(PartitionId(3), 256);
        assert!(low < high);
        assert_eq!(parse_outbox_key(&high), Some((PartitionId(3), 256)));
        assert_eq!(parse_inbox_key(&inbox_key(7)), Some(7));
    }
}
