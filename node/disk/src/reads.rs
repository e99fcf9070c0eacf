//! Reads of rows for the core, from any thread.

use bytes::Bytes;
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::{Engine, Limit, Reader, StorageError};

/// Reads what the core wants: for keys, one row each in their order; for a scan, the rows found.
///
/// # Errors
/// A damaged row: its replica must be condemned; or the store failed.
pub fn read_rows<E: Engine>(
    reader: &Reader<E>,
    partition: PartitionId,
    wanted: &RowsWanted,
) -> Result<Vec<(Bytes, Option<Bytes>)>, StorageError> {
    match wanted {
        RowsWanted::Keys(keys) => keys
            .iter()
            .map(|(family, key)| Ok((key.clone(), reader.get(partition, *family, key)?)))
            .collect(),
        RowsWanted::Scan {
            family,
            prefix,
            after,
            limit,
        } => {
            let limit = Limit::rows(*limit);
            let rows = reader.scan(partition, *family, prefix, after.as_deref(), limit)?;
            Ok(rows
                .into_iter()
                .map(|(key, value)| (key, Some(value)))
                .collect())
        }
    }
}
