//! What is read from disks, and what is written there for others: snapshots that arrive, and
//! records behind checksums that are right.

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{
    ClusterId, LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term,
};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::wire::hello::new_descriptor;
use ghostlight_storage::{
    Cf, Durability, Engine, MemoryDisk, MemoryEngine, NodeIdentity, Staged, StorageError, Store,
    WriteBatch,
};
use prost::Message;

use crate::{Decoder, pieces};

/// Chunks of a snapshot, which is then installed.
pub(crate) const CHUNK: Decoder = Decoder {
    name: "chunk",
    what: "chunks of snapshots",
    take: chunk,
    valid: || vec![chunk_input(FOUNDED, &[&founded_chunk()])],
};

/// A disk that is opened.
pub(crate) const DISK: Decoder = Decoder {
    name: "disk",
    what: "records on a disk",
    take: disk,
    valid: || {
        let row = PartitionRow::founded(NodeId(1)).encode_to_vec();
        let words = |words: &[u64]| {
            words
                .iter()
                .flat_map(|w| w.to_be_bytes())
                .collect::<Vec<u8>>()
        };
        let entry = [&[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0][..], b"data"].concat();
        let log_key = [&[0, 0][..], &words(&[1, 6])].concat();
        vec![
            disk_input(&[(Cf::Raft, &[0, 0, Family::Partition as u8], &row)]),
            disk_input(&[(Cf::Log, &log_key, &entry)]),
            disk_input(&[(Cf::Meta, b"mark", &words(&[9]))]),
        ]
    },
};

const HERE: PartitionId = PartitionId(0);
const PEER: PeerId = PeerId(1);
/// Where the log of a founded group begins.
const FOUNDED: LogPosition = LogPosition {
    index: LogIndex(5),
    term: Term(5),
};

/// The checksum of a chunk, and where what it covers begins.
const SUM: std::ops::Range<usize> = 1..5;

/// A disk with a founded cluster of one partition.
fn founded() -> (MemoryDisk, Store<MemoryEngine>) {
    let disk = MemoryDisk::new(1);
    let (mut store, _) = Store::open(disk.open()).expect("an empty store opens");
    let mut identity = NodeIdentity::new(NodeId(1), "n1");
    identity.cluster = Some(new_descriptor(ClusterId(7), NodeId(1), 1, 3));
    store.found(1, &identity).expect("founding");
    (disk, store)
}

/// A chunk with the rows of a founded partition; its checksum is made right where it is fed.
fn founded_chunk() -> Vec<u8> {
    let row = |family: Family, key: &[u8], value: &[u8]| {
        let lengths = [key.len() as u32, value.len() as u32].map(u32::to_be_bytes);
        [&[family as u8][..], &lengths[0], &lengths[1], key, value].concat()
    };
    let rows = [
        row(
            Family::Partition,
            b"",
            &PartitionRow::founded(NodeId(1)).encode_to_vec(),
        ),
        row(Family::State, b"k", b"value"),
        row(Family::Inbox, b"", b""),
    ];
    let head = [&[1, 0, 0, 0, 0][..], &[0; 8], &[0, 0, 0, 3]].concat();
    [head, rows.concat()].concat()
}

/// The input in which these chunks arrive, of a snapshot at this position.
#[must_use]
pub fn chunk_input(at: LogPosition, chunks: &[&[u8]]) -> Vec<u8> {
    let mut input = (at.index.0 as u16).to_be_bytes().to_vec();
    input.push(at.term.0 as u8);
    input.extend(pieces::join(chunks));
    input
}

fn chunk(bytes: &[u8]) {
    let Some((&[high, low, term], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let at = LogPosition {
        index: LogIndex(u64::from(u16::from_be_bytes([high, low]))),
        term: Term(u64::from(term)),
    };
    let (disk, mut store) = founded();
    let mut chunks = 0;
    for piece in pieces::split(rest) {
        let staged = store.stage_chunk(HERE, PEER, 7, chunks, sealed(piece));
        match staged.expect("this disk does not fail") {
            Staged::Taken { next } => assert_eq!(next, chunks + 1, "a chunk is lost"),
            Staged::Refused { next, why } => {
                assert_eq!(next, chunks, "{why}");
                break;
            }
        }
        chunks += 1;
    }
    let hard_state = HardState {
        term: at.term.max(FOUNDED.term),
        vote: PeerId(0),
        commit: at.index,
    };
    let before = store.row(HERE).cloned();
    match store.install(HERE, PEER, 7, hard_state, at, chunks) {
        Ok(row) => assert_eq!(row.applied(), (at.index, at.term)),
        Err(StorageError::SnapshotInvalid { .. }) => {
            assert_eq!(
                store.row(HERE),
                before.as_ref(),
                "a refused snapshot changes a row"
            );
        }
        Err(error) => panic!("a snapshot does what no disk does: {error}"),
    }
    let (_, recovered) = Store::open(disk.open()).expect("it opens again");
    assert_eq!(recovered.condemned, [], "what was installed is condemned");
}

/// The chunk with a checksum that is right.
fn sealed(chunk: &[u8]) -> Bytes {
    let mut chunk = chunk.to_vec();
    if chunk.len() > SUM.end {
        let sum = crc32fast::hash(&chunk[SUM.end..]);
        chunk[SUM].copy_from_slice(&sum.to_be_bytes());
    }
    chunk.into()
}

/// The input that writes these records to a founded disk.
///
/// # Panics
/// When a key is longer than 255 bytes.
#[must_use]
pub fn disk_input(records: &[(Cf, &[u8], &[u8])]) -> Vec<u8> {
    let records = records.iter().map(|(cf, key, payload)| {
        let length = u8::try_from(key.len()).expect("a short key");
        [&[*cf as u8, length][..], key, payload].concat()
    });
    pieces::join(&records.collect::<Vec<_>>())
}

fn disk(bytes: &[u8]) {
    let (disk, store) = founded();
    drop(store);
    let engine = disk.open();
    let mut batch = WriteBatch::default();
    for record in pieces::split(bytes) {
        let Some((&[cf, length], rest)) = record.split_first_chunk() else {
            continue;
        };
        let Some(cf) = Cf::ALL.get(usize::from(cf)) else {
            continue;
        };
        let (key, payload) = rest.split_at(usize::from(length).min(rest.len()));
        batch.put(*cf, key, &[payload]);
    }
    let written = engine.write(&batch, Durability::Synced);
    written.expect("this disk does not fail");
    let Ok((store, first)) = Store::open(engine) else {
        return;
    };
    drop(store);
    let (_, second) = Store::open(disk.open()).expect("it opened before");
    assert_eq!(first, second, "opening again finds something else");
}
