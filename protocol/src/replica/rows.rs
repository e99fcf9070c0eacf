//! The rows of one partition, as apply sees them.

use bytes::Bytes;

use crate::family::Family;
use crate::hash::{domain, hash128};

/// Version of what apply writes for the same entries: raised with every change of it. Replicas of
/// builds that differ here do not compare their rows.
pub const ROWS_VERSION: u32 = 5;

/// Adds one row to a digest of all rows of a partition, which begins with 0 and takes them in key
/// order. Replicas that have applied the same entries have the same digest, however they came to
/// their rows.
#[must_use]
pub fn digest_row(digest: u128, family: Family, key: &[u8], value: &[u8]) -> u128 {
    let before = digest.to_be_bytes();
    hash128(domain::ROWS, &[&before, &[family as u8], key, value])
}

/// Read and write access to one partition's rows, with everything written so far visible.
///
/// The store implements it over a batch that it later writes in one piece; nothing is visible
/// outside before that.
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
