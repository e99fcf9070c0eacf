//! Rows that the writer wrote lately: each turn reads the version of its actor, the floor of its
//! session and the record it closes, and nearly always it was this writer that wrote them last.
//!
//! Two generations of bounded size: what is found in the older one moves to the younger; when that
//! is full it becomes the older one. Holds nothing that the engine does not: what is not here is
//! read.
//!
//! **Invariant:** only rows of batches that the engine has taken are here, the last value of each.
//! **Absent:** families that are read once, and absent rows.

use std::collections::HashMap;

use bytes::Bytes;
use ghostlight_protocol::family::Family;

/// Bytes of keys and values of one generation, with what a map entry costs.
const GENERATION_BYTES_MAX: usize = 8 << 20;
/// What an entry costs beside its bytes, about.
const ENTRY_BYTES: usize = 96;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RecentRows {
    young: HashMap<Box<[u8]>, Bytes>,
    old: HashMap<Box<[u8]>, Bytes>,
    young_bytes: usize,
}

/// A change that the engine has not taken yet: full key, and the new value if there is one.
pub(super) type Fresh = (Box<[u8]>, Option<Bytes>);

impl RecentRows {
    /// Whether rows of this family are kept.
    pub(super) fn keeps(family: Family) -> bool {
        match family {
            Family::Version
            | Family::Dedup
            | Family::Session
            | Family::Mark
            | Family::Topic
            | Family::Group => true,
            Family::Partition
            | Family::State
            | Family::Outbox
            | Family::Inbox
            | Family::DeadLetter
            | Family::Fact
            | Family::Schedule
            | Family::Due
            | Family::TopicBatch
            | Family::TopicLetter
            | Family::EventName => false,
        }
    }

    /// The row under a full key, if it was written lately.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Bytes> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The engine has taken these.
    pub(super) fn wrote(&mut self, fresh: impl IntoIterator<Item = Fresh>) {
        for (key, value) in fresh {
            self.old.remove(&key);
            match value {
                Some(value) => self.insert(key, value),
                None => {
                    if let Some(before) = self.young.remove(&key) {
                        self.young_bytes -= weight(&key, &before);
                    }
                }
            }
        }
    }

    /// Rows were changed by other means.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn insert(&mut self, key: Box<[u8]>, value: Bytes) {
        let bytes = weight(&key, &value);
        if self.young_bytes + bytes > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
            self.old.remove(&key);
        }
        let key_bytes = key.len();
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(key, value) {
            self.young_bytes -= key_bytes + before.len() + ENTRY_BYTES;
        }
    }
}

fn weight(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> Box<[u8]> {
        number.to_be_bytes().into()
    }

    fn value(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn the_last_value_counts_in_every_generation() {
        let mut rows = RecentRows::default();
        rows.wrote([(key(1), Some(value(1))), (key(2), Some(value(2)))]);
        let large = Bytes::from(vec![0; GENERATION_BYTES_MAX / 2]);
        // Row 1 is in the older generation now, then overwritten, then deleted.
        rows.wrote([(key(3), Some(large.clone())), (key(4), Some(large.clone()))]);
        assert_eq!(rows.get(&key(1)), Some(&value(1)));
        rows.wrote([(key(1), Some(value(9)))]);
        assert_eq!(rows.get(&key(1)), Some(&value(9)));
        rows.wrote([(key(1), None), (key(2), None)]);
        assert_eq!((rows.get(&key(1)), rows.get(&key(2))), (None, None));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut rows = RecentRows::default();
        let row = Bytes::from(vec![0; 1_000]);
        for number in 0..100_000 {
            rows.wrote([(key(number), Some(row.clone()))]);
            assert!(rows.young_bytes <= GENERATION_BYTES_MAX);
        }
        let kept = rows.young.len() + rows.old.len();
        assert!(kept <= 2 * GENERATION_BYTES_MAX / 1_000, "{kept}");
        assert!(rows.get(&key(99_999)).is_some());
        assert!(rows.get(&key(0)).is_none());
    }
}
