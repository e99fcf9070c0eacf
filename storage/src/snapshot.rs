//! A partition as a stream of chunks, from one consistent view.
//!
//! A chunk names neither partition, node nor cluster: what was streamed can be installed anywhere,
//! also from a backup. Layout: format (u8), checksum of all that follows (u32), number of the chunk
//! (u64), row count (u32), then for each row family (u8), key length (u32), value length (u32),
//! key, value. The first row of chunk 0 is the partition row. Numbers are big endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::rows::digest_row;

use crate::engine::{Limit, Read};
use crate::error::StorageError;
use crate::layout::{after, row_key_into, row_prefix};
use crate::reader::{partition_row, scan_rows};

/// Version of the chunk layout.
const CHUNK_FORMAT: u8 = 1;
/// Bytes before the checksummed part.
const SEALED_FROM: usize = 5;
/// Bytes before the first row.
const CHUNK_HEADER_BYTES: usize = 17;
/// Bytes before a row's key.
const ROW_HEADER_BYTES: usize = 9;
/// Rows of one chunk, at most.
const CHUNK_ROWS_MAX: usize = 4_096;

/// Streams one partition as it was when the snapshot was opened.
#[derive(Debug)]
pub struct SnapshotReader<V> {
    view: V,
    partition: PartitionId,
    row: PartitionRow,
    /// Family to go on with, and the full key to go on from; `None`: all is read.
    cursor: Option<(usize, Vec<u8>)>,
    chunks: u64,
    rows: u64,
}

impl<V: Read> SnapshotReader<V> {
    pub(crate) fn open(view: V, partition: PartitionId) -> Result<Option<Self>, StorageError> {
        let Some(row) = partition_row(&view, partition)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            view,
            partition,
            row,
            cursor: Some((0, row_prefix(partition, Family::ALL[0]).to_vec())),
            chunks: 0,
            rows: 0,
        }))
    }

    /// Applied position, log times, counters and membership of the snapshot.
    #[must_use]
    pub fn row(&self) -> &PartitionRow {
        &self.row
    }

    /// Chunks taken so far; after the last one, the count that `install` wants.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Rows taken so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next chunk: about `bytes_max`, and more only for a single row that is larger.
    /// `None`: the last one was taken before.
    ///
    /// # Errors
    /// `Damaged`: condemn the replica; nothing of it may be sent. Else the engine failed.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        let mut chunk = BytesMut::with_capacity(bytes_max.min(1 << 20) + CHUNK_HEADER_BYTES);
        chunk.put_bytes(0, CHUNK_HEADER_BYTES);
        let mut count = 0;
        while let Some((position, from)) = self.cursor.take() {
            if count >= CHUNK_ROWS_MAX || (count > 0 && chunk.len() >= bytes_max) {
                self.cursor = Some((position, from));
                break;
            }
            let family = Family::ALL[position];
            let limit = Limit {
                rows: CHUNK_ROWS_MAX - count,
                bytes: bytes_max.saturating_sub(chunk.len()).max(1),
            };
            let to = after(&row_prefix(self.partition, family));
            let rows = scan_rows(&self.view, self.partition, family, &from, &to, limit)?;
            let left_out = family == Family::Dedup && canary::sings(Canary::SnapshotWithoutRecords);
            if !left_out {
                for (key, value) in &rows {
                    put_row(&mut chunk, family, key, value);
                }
                count += rows.len();
            }
            self.cursor = match rows.last() {
                Some((key, _)) => {
                    let mut next = from;
                    row_key_into(&mut next, self.partition, family, key);
                    next.push(0);
                    Some((position, next))
                }
                None => Family::ALL
                    .get(position + 1)
                    .map(|next| (position + 1, row_prefix(self.partition, *next).to_vec())),
            };
        }
        if count == 0 {
            return Ok(None);
        }
        chunk[5..13].copy_from_slice(&self.chunks.to_be_bytes());
        chunk[13..17].copy_from_slice(&(count as u32).to_be_bytes());
        chunk[0] = CHUNK_FORMAT;
        let sum = crc32fast::hash(&chunk[SEALED_FROM..]);
        chunk[1..SEALED_FROM].copy_from_slice(&sum.to_be_bytes());
        self.chunks += 1;
        self.rows += count as u64;
        Ok(Some(chunk.freeze()))
    }
}

impl<V: Read> SnapshotReader<V> {
    /// Takes the next rows, about `bytes_max`, into a digest; `None`: all were taken before.
    ///
    /// # Errors
    /// `Damaged`: condemn the replica. Else the engine failed.
    ///
    /// # Panics
    /// When a chunk made here cannot be taken apart: a bug.
    pub fn digest_next(
        &mut self,
        digest: u128,
        bytes_max: usize,
    ) -> Result<Option<u128>, StorageError> {
        let number = self.chunks;
        let Some(chunk) = self.next_chunk(bytes_max)? else {
            return Ok(None);
        };
        let rows = parse_chunk(number, chunk).expect("it was made just now");
        let digest = rows.into_iter().fold(digest, |digest, row| {
            digest_row(digest, row.family, &row.key, &row.value)
        });
        Ok(Some(digest))
    }
}

fn put_row(chunk: &mut BytesMut, family: Family, key: &[u8], value: &[u8]) {
    chunk.reserve(ROW_HEADER_BYTES + key.len() + value.len());
    chunk.put_u8(family as u8);
    chunk.put_u32(key.len() as u32);
    chunk.put_u32(value.len() as u32);
    chunk.put_slice(key);
    chunk.put_slice(value);
}

/// A row of a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkRow {
    pub(crate) family: Family,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
}

/// Checks a received chunk and takes its rows out. The text says what is wrong with it.
pub(crate) fn parse_chunk(number: u64, chunk: Bytes) -> Result<Vec<ChunkRow>, String> {
    if chunk.len() < CHUNK_HEADER_BYTES {
        return Err(format!("chunk {number} has {} bytes", chunk.len()));
    }
    let mut rest = chunk;
    let format = rest.get_u8();
    if format != CHUNK_FORMAT {
        return Err(format!(
            "chunk {number} has format {format}, known is {CHUNK_FORMAT}"
        ));
    }
    if rest.get_u32() != crc32fast::hash(&rest) {
        return Err(format!("chunk {number} does not match its checksum"));
    }
    let found = rest.get_u64();
    if found != number {
        return Err(format!("chunk {found} came as chunk {number}"));
    }
    let count = rest.get_u32() as usize;
    let mut rows = Vec::with_capacity(count.min(CHUNK_ROWS_MAX));
    for position in 0..count {
        let row = take_row(&mut rest);
        rows.push(row.ok_or_else(|| format!("row {position} of chunk {number} is malformed"))?);
    }
    if rest.is_empty() {
        Ok(rows)
    } else {
        Err(format!("chunk {number} has {} bytes too many", rest.len()))
    }
}

fn take_row(rest: &mut Bytes) -> Option<ChunkRow> {
    if rest.len() < ROW_HEADER_BYTES {
        return None;
    }
    let family = Family::from_byte(rest.get_u8())?;
    let (key, value) = (rest.get_u32() as usize, rest.get_u32() as usize);
    if rest.len() < key.checked_add(value)? {
        return None;
    }
    Some(ChunkRow {
        family,
        key: rest.split_to(key),
        value: rest.split_to(value),
    })
}
