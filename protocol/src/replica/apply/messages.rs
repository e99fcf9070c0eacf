//! Rows of messages, counted: every write and deletion of one keeps the partition row's numbers
//! true.

use bytes::Bytes;
use prost::Message;

use crate::command::Envelope;
use crate::family::Family;
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;

/// Where messages are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Outbox,
    Inbox,
    DeadLetters,
}

impl Place {
    fn family(self) -> Family {
        match self {
            Self::Outbox => Family::Outbox,
            Self::Inbox => Family::Inbox,
            Self::DeadLetters => Family::DeadLetter,
        }
    }

    fn count(self, partition: &mut PartitionRow) -> (&mut u64, &mut u64) {
        match self {
            Self::Outbox => (&mut partition.outbox_rows, &mut partition.outbox_bytes),
            Self::Inbox => (&mut partition.inbox_rows, &mut partition.inbox_bytes),
            Self::DeadLetters => (&mut partition.dead_rows, &mut partition.dead_bytes),
        }
    }
}

/// Adds a row that is not there yet.
pub(super) fn add<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    place: Place,
    key: Bytes,
    value: Bytes,
) {
    let (count, bytes) = place.count(partition);
    *count = count.saturating_add(1);
    *bytes = bytes.saturating_add(row_bytes(&key, &value));
    rows.put(place.family(), key, value);
}

/// Deletes a row whose value is known.
pub(super) fn remove<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    place: Place,
    key: Bytes,
    value: &[u8],
) {
    let (count, bytes) = place.count(partition);
    *count = count.saturating_sub(1);
    *bytes = bytes.saturating_sub(row_bytes(&key, value));
    rows.delete(place.family(), key);
}

/// Writes an inbox row again, whose value was `before`.
pub(super) fn rewrite<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    key: Bytes,
    before: &[u8],
    envelope: &Envelope,
) {
    let value = Bytes::from(envelope.encode_to_vec());
    let bytes = partition
        .inbox_bytes
        .saturating_add(row_bytes(&key, &value));
    partition.inbox_bytes = bytes.saturating_sub(row_bytes(&key, before));
    rows.put(Family::Inbox, key, value);
}

pub(super) fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}
