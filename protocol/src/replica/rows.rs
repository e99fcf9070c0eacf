//! The rows of one partition, as apply sees them.

use bytes::Bytes;

use crate::family::Family;

/// Read and write access to one partition's rows, with everything written so far visible.
///
/// The store implements it over a batch that it later writes in one piece; nothing is visible outside
/// before that.
pub trait Rows {
    /// What can go wrong while reading: the store is broken, and the node must stop.
    type Error;

    /// Reads one row.
    ///
    /// # Errors
    /// When the store cannot be read or a record is damaged; nothing has changed.
    fn get(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// Writes one row.
    fn put(&mut self, family: Family, key: Bytes, value: Bytes);

    /// Deletes one row, which need not exist.
    fn delete(&mut self, family: Family, key: Bytes);
}
