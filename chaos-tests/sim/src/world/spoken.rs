//! What nodes say to each other and keep, for whoever collects it: the corpus of the decoders is
//! made of it.

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogPosition, PartitionId};
use ghostlight_storage::{Cf, Limit, Read as _, StorageError};

use super::World;

/// Something that left a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken<'a> {
    /// A frame, as a lane has it.
    Frame(&'a [u8]),
    /// A datagram.
    Datagram(&'a [u8]),
}

/// Hears all of it.
pub type Listener = Box<dyn FnMut(Spoken<'_>)>;

/// What a node keeps.
#[derive(Debug, Default)]
pub struct Kept {
    /// Replicated rows.
    pub rows: Vec<(Family, Bytes, Bytes)>,
    /// A snapshot of each replica: where it stands, and its chunks.
    pub snapshots: Vec<(LogPosition, Vec<Bytes>)>,
    /// Records as they lie on the disk, with their checksums.
    pub records: Vec<(Cf, Bytes, Bytes)>,
}

/// All there is.
const ALL: Limit = Limit {
    rows: 1 << 30,
    bytes: 1 << 30,
};

impl World {
    /// Whoever is to hear what nodes say.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// What the running nodes keep, with chunks of about so many bytes.
    ///
    /// # Errors
    /// A disk is damaged.
    pub fn kept(&self, chunk_bytes: usize) -> Result<Kept, StorageError> {
        let mut kept = Kept::default();
        for node in &self.nodes {
            let Some(process) = &node.process else {
                continue;
            };
            for partition in (0..self.params.partitions).map(PartitionId) {
                for family in Family::ALL {
                    let page = process.reader.scan(partition, family, b"", None, ALL)?;
                    let rows = page.rows.into_iter();
                    kept.rows
                        .extend(rows.map(|(key, value)| (family, key, value)));
                }
                let Some(mut snapshot) = process.reader.open_snapshot(partition)? else {
                    continue;
                };
                let (index, term) = snapshot.row().applied();
                let mut chunks = Vec::new();
                while let Some(chunk) = snapshot.next_chunk(chunk_bytes)? {
                    chunks.push(chunk);
                }
                kept.snapshots.push((LogPosition { index, term }, chunks));
            }
            let engine = node.disk.open();
            for cf in Cf::ALL {
                let rows = engine.scan(cf, b"", &[0xff; 4], ALL);
                let rows = rows.map_err(|source| StorageError::Engine {
                    doing: "read a disk",
                    source,
                });
                let rows = rows?.into_iter();
                kept.records
                    .extend(rows.map(|(key, value)| (cf, key, value)));
            }
        }
        Ok(kept)
    }
}
