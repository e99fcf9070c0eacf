//! A batch of changes in one flat buffer: no allocation for each row, and reusable.

use std::ops::Range;

use super::Cf;
use crate::record::{CHECKSUM_BYTES, checksum};

/// Changes that happen together, in order.
#[derive(Clone, Default, Debug)]
pub struct WriteBatch {
    changes: Vec<Entry>,
    buffer: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Entry {
    cf: Cf,
    kind: Kind,
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

/// One change, as an engine reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// Writes a row.
    Put {
        /// Where.
        cf: Cf,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// Deletes a row, which need not exist.
    Delete {
        /// Where.
        cf: Cf,
        /// Its key.
        key: &'a [u8],
    },
    /// Deletes every row with `from <= key < to`.
    DeleteRange {
        /// Where.
        cf: Cf,
        /// First key deleted.
        from: &'a [u8],
        /// First key not deleted.
        to: &'a [u8],
    },
}

impl WriteBatch {
    /// Puts a record: the value is the parts joined, followed by a checksum over place, key and
    /// parts.
    pub fn put(&mut self, cf: Cf, key: &[u8], parts: &[&[u8]]) {
        let key_range = self.append(key);
        let start = self.buffer.len();
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        let sum = checksum(cf, key, &self.buffer[start..]);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        debug_assert!(self.buffer.len() >= start + CHECKSUM_BYTES);
        let value = start..self.buffer.len();
        self.push(cf, Kind::Put, key_range, value);
    }

    /// Puts a value as it is, without a checksum: for engines' own tests and for chunks that carry
    /// one.
    pub fn put_raw(&mut self, cf: Cf, key: &[u8], value: &[u8]) {
        let key = self.append(key);
        let value = self.append(value);
        self.push(cf, Kind::Put, key, value);
    }

    /// Deletes a row, which need not exist.
    pub fn delete(&mut self, cf: Cf, key: &[u8]) {
        let key = self.append(key);
        self.push(cf, Kind::Delete, key, 0..0);
    }

    /// Deletes every row with `from <= key < to`.
    pub fn delete_range(&mut self, cf: Cf, from: &[u8], to: &[u8]) {
        assert!(from < to, "an empty range is deleted in {cf:?}");
        let from = self.append(from);
        let to = self.append(to);
        self.push(cf, Kind::DeleteRange, from, to);
    }

    /// The changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.changes.iter().map(|entry| {
            let cf = entry.cf;
            let key = &self.buffer[entry.key.clone()];
            let value = &self.buffer[entry.value.clone()];
            match entry.kind {
                Kind::Put => Change::Put { cf, key, value },
                Kind::Delete => Change::Delete { cf, key },
                Kind::DeleteRange => Change::DeleteRange {
                    cf,
                    from: key,
                    to: value,
                },
            }
        })
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Empties it for reuse; gives memory back after an unusually large batch.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }

    fn push(&mut self, cf: Cf, kind: Kind, key: Range<usize>, value: Range<usize>) {
        self.changes.push(Entry {
            cf,
            kind,
            key,
            value,
        });
    }
}

/// Buffer kept for the next batch.
const KEPT_BYTES_MAX: usize = 16 << 20;
