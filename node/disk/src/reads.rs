//! Reads of rows for the core, from any thread.

use bytes::Bytes;
use ghostlight_core::io::Rest;
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::{Engine, Limit, PageEnd, Reader, StorageError};

/// Bytes of one page of a scan, as stored; the row that reaches it is the last.
pub const PAGE_BYTES: usize = 1 << 20;

/// Rows for the core, and whether a scan has more.
pub type RowsFound = (Vec<(Bytes, Option<Bytes>)>, Rest);

/// Reads what the core wants: for keys, one row each in their order; for a scan, the rows found, up
/// to its own limit or `page_bytes`.
///
/// # Errors
/// A damaged row: its replica must be condemned; or the store failed.
pub fn read_rows<E: Engine>(
    reader: &Reader<E>,
    partition: PartitionId,
    wanted: &RowsWanted,
    page_bytes: usize,
) -> Result<RowsFound, StorageError> {
    match wanted {
        RowsWanted::Keys(keys) => {
            let rows: Result<_, StorageError> = keys
                .iter()
                .map(|(family, key)| Ok((key.clone(), reader.get(partition, *family, key)?)))
                .collect();
            Ok((rows?, Rest::Last))
        }
        RowsWanted::Scan {
            family,
            prefix,
            after,
            limit,
        } => {
            let limit = Limit {
                rows: *limit,
                bytes: page_bytes,
            };
            let page = reader.scan(partition, *family, prefix, after.as_deref(), limit)?;
            let rest = match page.end {
                PageEnd::More => Rest::More,
                PageEnd::End => Rest::Last,
            };
            let rows = page.rows.into_iter().map(|(key, value)| (key, Some(value)));
            Ok((rows.collect(), rest))
        }
    }
}
