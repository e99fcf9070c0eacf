//! Where everything lies: column family and key of each record.
//!
//! Every key of a partition begins with the partition (u16, big endian); the next byte is a family
//! of `protocol::family` or, from 0x80, a kind of record that is this replica's own and never
//! travels. Log keys carry the peer instead, so that the log of a condemned stint stays apart from
//! its successor's.

use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, PartitionId, PeerId};

use crate::engine::Cf;

/// Version of everything written here. A disk with a higher one is left alone.
pub(crate) const DISK_FORMAT: u32 = 1;

/// `Cf::Meta`: the disk format, u32.
pub(crate) const FORMAT_KEY: &[u8] = b"format";
/// `Cf::Meta`: the encoded `NodeIdentity`.
pub(crate) const IDENTITY_KEY: &[u8] = b"identity";
/// `Cf::Meta`: the encoded `AddressBook`.
pub(crate) const ADDRESSES_KEY: &[u8] = b"addresses";
/// `Cf::Meta`: the node's own mark, u64.
pub(crate) const MARK_KEY: &[u8] = b"mark";
/// `Cf::Meta`: the encoded `MarkList` of what others have told.
pub(crate) const MARKS_KEY: &[u8] = b"marks";

/// Kinds of a replica's own records in `Cf::Raft`, and of staged chunks in `Cf::State`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Own {
    /// The stint: peer id, and where the log begins.
    Stint = 0x80,
    /// Term, vote and commit.
    HardState = 0x81,
    /// Smallest peer id that may exist here.
    Tombstone = 0x82,
    /// One for each condemned stint, its peer id appended.
    Condemned = 0x83,
    /// Present while a snapshot is being installed.
    Installing = 0x84,
    /// Chunks of an incoming snapshot, by number.
    Staged = 0xf0,
}

/// The column family of a family of rows.
pub(crate) fn cf_of(family: Family) -> Cf {
    match family {
        Family::Partition => Cf::Raft,
        Family::State
        | Family::Version
        | Family::Fact
        | Family::Schedule
        | Family::Due
        | Family::Topic
        | Family::Group => Cf::State,
        Family::Dedup | Family::Session | Family::EventName => Cf::Dedup,
        Family::Outbox
        | Family::Inbox
        | Family::Mark
        | Family::DeadLetter
        | Family::TopicBatch
        | Family::TopicLetter => Cf::Outbox,
    }
}

/// Bytes before the family's own key.
pub(crate) const ROW_PREFIX_BYTES: usize = 3;
/// Bytes of a log key.
const LOG_KEY_BYTES: usize = 18;

pub(crate) fn row_prefix(partition: PartitionId, family: Family) -> [u8; ROW_PREFIX_BYTES] {
    prefix(partition, family as u8)
}

/// Writes the full key of a row into `key`, replacing what it held.
pub(crate) fn row_key_into(
    key: &mut Vec<u8>,
    partition: PartitionId,
    family: Family,
    inner: &[u8],
) {
    key.clear();
    key.extend_from_slice(&row_prefix(partition, family));
    key.extend_from_slice(inner);
}

pub(crate) fn own_key(partition: PartitionId, own: Own) -> [u8; ROW_PREFIX_BYTES] {
    prefix(partition, own as u8)
}

fn prefix(partition: PartitionId, kind: u8) -> [u8; ROW_PREFIX_BYTES] {
    let [high, low] = partition.0.to_be_bytes();
    [high, low, kind]
}

/// The key of an own record that exists several times: condemned stints by peer, chunks by number.
pub(crate) fn numbered_key(partition: PartitionId, own: Own, number: u64) -> [u8; 11] {
    let mut key = [0; 11];
    key[..3].copy_from_slice(&own_key(partition, own));
    key[3..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn log_key(
    partition: PartitionId,
    peer: PeerId,
    index: LogIndex,
) -> [u8; LOG_KEY_BYTES] {
    let mut key = [0; LOG_KEY_BYTES];
    key[..2].copy_from_slice(&partition.0.to_be_bytes());
    key[2..10].copy_from_slice(&peer.0.to_be_bytes());
    key[10..].copy_from_slice(&index.0.to_be_bytes());
    key
}

pub(crate) fn log_index(key: &[u8]) -> Option<LogIndex> {
    let bytes = key.get(10..LOG_KEY_BYTES)?.try_into().ok()?;
    Some(LogIndex(u64::from_be_bytes(bytes)))
}

/// All log keys of one stint.
pub(crate) fn log_range(partition: PartitionId, peer: PeerId) -> (Vec<u8>, Vec<u8>) {
    let from = log_key(partition, peer, LogIndex(0));
    let to = log_key(partition, PeerId(peer.0 + 1), LogIndex(0));
    (from.to_vec(), to.to_vec())
}

/// The first key after all keys with `prefix`.
///
/// # Panics
/// When there is none: partitions end far below 65,535, so a key never begins with two bytes of
/// 255.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            return key;
        }
    }
    panic!("no key comes after {prefix:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_kinds_are_apart_from_families() {
        for family in Family::ALL {
            assert!((family as u8) < Own::Stint as u8, "{family:?}");
        }
    }

    #[test]
    fn keys_sort_by_number() {
        let low = log_key(PartitionId(7), PeerId(1), LogIndex(255));
        let high = log_key(PartitionId(7), PeerId(1), LogIndex(256));
        let (from, to) = log_range(PartitionId(7), PeerId(1));
        assert!(from[..] <= low[..] && low < high && high[..] < to[..]);
        assert_eq!(log_index(&high), Some(LogIndex(256)));
        assert_eq!(after(&[1, 255, 255]), vec![2]);
        assert_eq!(after(&[1, 2]), vec![1, 3]);
    }
}
