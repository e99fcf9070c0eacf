//! One partition's rows under a batch that is not written yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::Rows;

use super::recent::{Fresh, RecentRows};
use crate::engine::{Engine, WriteBatch};
use crate::error::StorageError;
use crate::layout::{cf_of, row_key_into};
use crate::reader::get_row;

/// Rows as apply sees them: what it wrote so far over what the engine holds.
pub(super) struct Overlay<'a, E> {
    engine: &'a E,
    recent: &'a RecentRows,
    partition: PartitionId,
    /// By family number minus 1; `None` stands for a deletion.
    written: [BTreeMap<Bytes, Option<Bytes>>; Family::ALL.len()],
    /// Reused for every key that is read.
    key: Vec<u8>,
}

impl<'a, E: Engine> Overlay<'a, E> {
    pub(super) fn new(engine: &'a E, recent: &'a RecentRows, partition: PartitionId) -> Self {
        Self {
            engine,
            recent,
            partition,
            written: Default::default(),
            key: Vec::new(),
        }
    }

    /// Moves everything written into a batch; what is worth remembering, to `fresh`.
    pub(super) fn write_to(mut self, batch: &mut WriteBatch, fresh: &mut Vec<Fresh>) {
        for family in Family::ALL {
            let cf = cf_of(family);
            for (inner, value) in &self.written[family as usize - 1] {
                row_key_into(&mut self.key, self.partition, family, inner);
                match value {
                    Some(value) => batch.put(cf, &self.key, &[value]),
                    None => batch.delete(cf, &self.key),
                }
                if RecentRows::keeps(family) {
                    fresh.push((self.key.as_slice().into(), value.clone()));
                }
            }
        }
    }
}

impl<E: Engine> Rows for Overlay<'_, E> {
    type Error = StorageError;

    fn get(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if let Some(value) = self.written[family as usize - 1].get(key) {
            return Ok(value.clone());
        }
        row_key_into(&mut self.key, self.partition, family, key);
        if RecentRows::keeps(family)
            && let Some(value) = self.recent.get(&self.key)
        {
            return Ok(Some(value.clone()));
        }
        get_row(self.engine, self.partition, family, &self.key)
    }

    fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.written[family as usize - 1].insert(key, Some(value));
    }

    fn delete(&mut self, family: Family, key: Bytes) {
        self.written[family as usize - 1].insert(key, None);
    }
}
