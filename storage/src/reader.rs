//! Reading from other threads: committed rows, every record checked.
//!
//! A reader sees what the writer has written, durable or not. Who may be served what is not decided
//! here. The rows of a condemned replica have no partition row; nobody may ask for the others.

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::wire::hello::NodeRecord;
use prost::Message;

use crate::engine::{Cf, Engine, EngineError, Limit, Read, Room};
use crate::error::StorageError;
use crate::identity::{AddressBook, NodeIdentity};
use crate::layout::{
    ADDRESSES_KEY, IDENTITY_KEY, ROW_PREFIX_BYTES, after, cf_of, row_key_into, row_prefix,
};
use crate::record;
use crate::snapshot::SnapshotReader;

/// What one scan returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Keys and values, ascending.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Whether there is more.
    pub end: PageEnd,
}

/// Whether a scan came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageEnd {
    /// The limit stopped it: there may be more rows after the last.
    More,
    /// There are no more rows.
    End,
}

/// A handle for reading. Clones are cheap and may live on any thread.
#[derive(Clone, Debug)]
pub struct Reader<E> {
    engine: E,
}

impl<E: Engine> Reader<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine }
    }

    /// Reads one row.
    ///
    /// # Errors
    /// `Damaged`: condemn that replica. Else the engine failed.
    pub fn get(
        &self,
        partition: PartitionId,
        family: Family,
        key: &[u8],
    ) -> Result<Option<Bytes>, StorageError> {
        let mut full = Vec::with_capacity(ROW_PREFIX_BYTES + key.len());
        row_key_into(&mut full, partition, family, key);
        get_row(&self.engine, partition, family, &full)
    }

    /// Reads rows of a family whose key begins with `prefix` and comes after `after_key`,
    /// ascending; keys come without partition and family.
    ///
    /// # Errors
    /// `Damaged`: condemn that replica. Else the engine failed.
    pub fn scan(
        &self,
        partition: PartitionId,
        family: Family,
        prefix: &[u8],
        after_key: Option<&[u8]>,
        limit: Limit,
    ) -> Result<Page, StorageError> {
        let mut from = Vec::with_capacity(ROW_PREFIX_BYTES + prefix.len());
        row_key_into(&mut from, partition, family, prefix);
        let to = after(&from);
        if let Some(key) = after_key {
            let mut next = Vec::with_capacity(ROW_PREFIX_BYTES + key.len() + 1);
            row_key_into(&mut next, partition, family, key);
            next.push(0);
            from = from.max(next);
        }
        scan_page(&self.engine, partition, family, &from, &to, limit)
    }

    /// Reads where a replica stands; `None`: none lives here, or it has no data.
    ///
    /// # Errors
    /// `Damaged`: condemn that replica. Else the engine failed.
    pub fn partition_row(
        &self,
        partition: PartitionId,
    ) -> Result<Option<PartitionRow>, StorageError> {
        partition_row(&self.engine, partition)
    }

    /// Opens a snapshot of everything replicated of a partition; `None`: there is no data here.
    ///
    /// # Errors
    /// `Damaged`: condemn that replica. Else the engine failed.
    pub fn open_snapshot(
        &self,
        partition: PartitionId,
    ) -> Result<Option<SnapshotReader<E::View>>, StorageError> {
        SnapshotReader::open(self.engine.view(), partition)
    }

    /// How much room the disk has. May take as long as a file system that hangs.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn room(&self) -> Result<Room, StorageError> {
        self.engine
            .room()
            .map_err(StorageError::engine("ask for the room on the disk"))
    }

    pub(crate) fn identity(&self) -> Result<Option<NodeIdentity>, StorageError> {
        node_record(&self.engine, IDENTITY_KEY, "its identity")
    }

    pub(crate) fn addresses(&self) -> Result<Vec<NodeRecord>, StorageError> {
        let book: Option<AddressBook> =
            node_record(&self.engine, ADDRESSES_KEY, "the address book")?;
        Ok(book.unwrap_or_default().nodes)
    }
}

/// A damaged file is a damaged replica; any other error of the disk is the node's.
pub(crate) fn read_failed(
    error: EngineError,
    partition: PartitionId,
    doing: &'static str,
) -> StorageError {
    match error {
        EngineError::Corrupt(what) => StorageError::Damaged { partition, what },
        source => StorageError::Engine { doing, source },
    }
}

pub(crate) fn get_row<R: Read>(
    engine: &R,
    partition: PartitionId,
    family: Family,
    full_key: &[u8],
) -> Result<Option<Bytes>, StorageError> {
    let cf = cf_of(family);
    let value = engine
        .get(cf, full_key)
        .map_err(|error| read_failed(error, partition, "read a row"))?;
    value
        .map(|value| open_row(partition, family, full_key, value))
        .transpose()
}

pub(crate) fn scan_rows<R: Read>(
    engine: &R,
    partition: PartitionId,
    family: Family,
    from: &[u8],
    to: &[u8],
    limit: Limit,
) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
    Ok(scan_page(engine, partition, family, from, to, limit)?.rows)
}

fn scan_page<R: Read>(
    engine: &R,
    partition: PartitionId,
    family: Family,
    from: &[u8],
    to: &[u8],
    limit: Limit,
) -> Result<Page, StorageError> {
    let rows = engine
        .scan(cf_of(family), from, to, limit)
        .map_err(|error| read_failed(error, partition, "read rows"))?;
    let end = if limit.stopped(&rows) {
        PageEnd::More
    } else {
        PageEnd::End
    };
    let rows: Result<_, StorageError> = rows
        .into_iter()
        .map(|(key, value)| {
            let value = open_row(partition, family, &key, value)?;
            Ok((key.slice(ROW_PREFIX_BYTES..), value))
        })
        .collect();
    Ok(Page { rows: rows?, end })
}

fn open_row(
    partition: PartitionId,
    family: Family,
    full_key: &[u8],
    value: Bytes,
) -> Result<Bytes, StorageError> {
    record::open(cf_of(family), full_key, value).map_err(|_| StorageError::Damaged {
        partition,
        what: format!(
            "row {} of {family:?}",
            full_key[ROW_PREFIX_BYTES..].escape_ascii()
        ),
    })
}

pub(crate) fn partition_row<R: Read>(
    engine: &R,
    partition: PartitionId,
) -> Result<Option<PartitionRow>, StorageError> {
    let key = row_prefix(partition, Family::Partition);
    let Some(bytes) = get_row(engine, partition, Family::Partition, &key)? else {
        return Ok(None);
    };
    PartitionRow::decode(bytes)
        .map(Some)
        .map_err(|_| StorageError::Damaged {
            partition,
            what: "its partition row".to_owned(),
        })
}

/// Reads a record of the node itself.
pub(crate) fn node_record<R: Read, M: Message + Default>(
    engine: &R,
    key: &[u8],
    what: &'static str,
) -> Result<Option<M>, StorageError> {
    let value = engine
        .get(Cf::Meta, key)
        .map_err(StorageError::engine("read the node's own records"))?;
    let Some(value) = value else {
        return Ok(None);
    };
    let payload =
        record::open(Cf::Meta, key, value).map_err(|_| StorageError::NodeDamaged { what })?;
    M::decode(payload)
        .map(Some)
        .map_err(|_| StorageError::NodeDamaged { what })
}
