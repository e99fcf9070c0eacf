//! A RocksDB snapshot that keeps its database open.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::SnapshotWithThreadMode;

use super::{Shared, classify, collect, handle, range};
use crate::engine::{Cf, EngineError, Limit, Read, Row};

/// A consistent view of the database. It holds back compaction of what it sees: do not keep it.
pub struct RocksView {
    // Declared before `shared`: fields are dropped in this order, so the snapshot goes before its
    // database.
    snapshot: SnapshotWithThreadMode<'static, rocksdb::DB>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for RocksView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksView({})", self.snapshot.sequence_number())
    }
}

impl RocksView {
    #[expect(
        unsafe_code,
        reason = "the binding ties a snapshot to a borrow of its database"
    )]
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let snapshot = shared.db.snapshot();
        // SAFETY: the snapshot borrows `shared.db`, which lives on the heap behind an `Arc` that
        // this struct keeps and never gives out mutably; the database therefore neither moves nor
        // closes while the snapshot exists, and field order drops the snapshot first. Only the
        // lifetime changes.
        let snapshot = unsafe {
            std::mem::transmute::<
                SnapshotWithThreadMode<'_, rocksdb::DB>,
                SnapshotWithThreadMode<'static, rocksdb::DB>,
            >(snapshot)
        };
        Self { snapshot, shared }
    }
}

impl Read for RocksView {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self
            .snapshot
            .get_pinned_cf(handle(&self.shared.db, cf), key)
            .map_err(|error| classify(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError> {
        let mut options = range(from, to);
        // A snapshot reads everything once; it must not push hot blocks out of the cache.
        options.fill_cache(false);
        let iterator = self
            .snapshot
            .raw_iterator_cf_opt(handle(&self.shared.db, cf), options);
        collect(iterator, limit)
    }
}
