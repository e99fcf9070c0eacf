//! Installing snapshots: a crash at every single write leaves the old replica, the new one, or a
//! condemned one, and never a mixture that passes for whole.

use bytes::Bytes;
use ghostlight_protocol::ids::{PartitionId, PeerId};

use super::for_seeds;
use crate::conformance::material::{advance, all_families, at, founded, hard_state};
use crate::error::StorageError;
use crate::memory::{CrashKind, Fault, MemoryDisk, MemoryEngine, Operation};
use crate::reader::Reader;
use crate::store::{Staged, Store};

const P: PartitionId = PartitionId(0);

fn chunks(reader: &Reader<MemoryEngine>, bytes_max: usize) -> Vec<Bytes> {
    let mut snapshot = reader.open_snapshot(P).unwrap().unwrap();
    std::iter::from_fn(|| snapshot.next_chunk(bytes_max).unwrap()).collect()
}

/// A replica with rows and a log of its own, and the snapshot that shall replace it.
fn lagging(seed: u64) -> (MemoryDisk, Vec<Bytes>) {
    let mut source = founded(MemoryDisk::new(1).open(), 1);
    advance(&mut source, 0, 1, &all_families(6, 6, 300));
    let snapshot = chunks(&source.reader(), 200);
    let disk = MemoryDisk::new(seed);
    let mut store = founded(disk.open(), 1);
    advance(&mut store, 0, 1, &all_families(6, 6, 300)[..2]);
    // Recovery makes durable what it finds, so that the applied rows are.
    disk.crash(CrashKind::Process);
    (disk, snapshot)
}

fn receive(
    store: &mut Store<MemoryEngine>,
    snapshot: &[Bytes],
    batch_bytes_max: usize,
) -> Result<(), StorageError> {
    store.install_batch_bytes_max = batch_bytes_max;
    for (number, chunk) in (0..).zip(snapshot) {
        let staged = store.stage_chunk(P, PeerId(1), 9, number, chunk.clone())?;
        assert_eq!(staged, Staged::Taken { next: number + 1 });
    }
    let count = snapshot.len() as u64;
    store
        .install(P, PeerId(1), 9, hard_state(6, 11), at(6, 11), count)
        .map(|_| ())
}

#[test]
fn a_crash_at_every_step_leaves_one_or_the_other() {
    let mut condemned = 0;
    for (kind, batch_bytes_max) in [
        (CrashKind::Process, 0),
        (CrashKind::PowerLossAll, 0),
        (CrashKind::PowerLoss, 0),
        (CrashKind::TornTail, 0),
        (CrashKind::PowerLoss, usize::MAX),
        (CrashKind::Process, usize::MAX),
    ] {
        for_seeds("a_crash_at_every_step", 4, |seed| {
            for nth in 1.. {
                let (disk, snapshot) = lagging(seed);
                let (mut store, _) = Store::open(disk.open()).unwrap();
                let old = chunks(&store.reader(), 1 << 20);
                disk.fail(Operation::Write, nth, Fault::Io);
                let result = receive(&mut store, &snapshot, batch_bytes_max);
                disk.crash(kind);
                match outcome(&disk, &old) {
                    Outcome::Condemned => condemned += 1,
                    Outcome::Old => assert!(result.is_err(), "an installed snapshot is lost"),
                    Outcome::New => {}
                }
                if result.is_ok() {
                    break;
                }
            }
        });
    }
    assert!(
        condemned > 0,
        "no crash fell between the marker and the end"
    );
}

#[derive(PartialEq, Debug)]
enum Outcome {
    Old,
    New,
    Condemned,
}

fn outcome(disk: &MemoryDisk, old: &[Bytes]) -> Outcome {
    let (mut store, recovered) = Store::open(disk.open()).unwrap();
    if let [condemned] = &recovered.condemned[..] {
        assert_eq!((recovered.replicas.len(), condemned.peer), (0, PeerId(1)));
        assert!(condemned.why.contains("interrupted"), "{}", condemned.why);
        assert_eq!(store.reader().partition_row(P).unwrap(), None);
        // Its successor gets the snapshot, and is whole.
        store.create_replica(P, PeerId(2)).unwrap();
        return Outcome::Condemned;
    }
    let replica = &recovered.replicas[0];
    let found = chunks(&store.reader(), 1 << 20);
    match replica.row.as_ref().unwrap().applied_index {
        7 => {
            assert_eq!(found, old);
            Outcome::Old
        }
        11 => {
            let mut source = founded(MemoryDisk::new(1).open(), 1);
            advance(&mut source, 0, 1, &all_families(6, 6, 300));
            assert_eq!(found, chunks(&source.reader(), 1 << 20));
            assert_eq!((replica.truncated, replica.tail.len()), (at(6, 11), 0));
            Outcome::New
        }
        other => panic!("applied {other} was never a state of this replica"),
    }
}

#[test]
fn both_ways_of_installing_give_the_same() {
    let install = |batch_bytes_max| {
        let (disk, snapshot) = lagging(3);
        let (mut store, _) = Store::open(disk.open()).unwrap();
        receive(&mut store, &snapshot, batch_bytes_max).unwrap();
        disk.crash(CrashKind::PowerLossAll);
        let (store, recovered) = Store::open(disk.open()).unwrap();
        (recovered, chunks(&store.reader(), 1 << 20))
    };
    assert_eq!(install(0), install(usize::MAX));
}

#[test]
fn a_staged_chunk_that_the_disk_changed_is_found() {
    for_seeds("a_staged_chunk_that_the_disk_changed", 20, |seed| {
        let (disk, snapshot) = lagging(seed);
        let (mut store, _) = Store::open(disk.open()).unwrap();
        for (number, chunk) in (0..).zip(&snapshot) {
            store
                .stage_chunk(P, PeerId(1), 9, number, chunk.clone())
                .unwrap();
        }
        let staged = crate::layout::own_key(P, crate::layout::Own::Staged);
        disk.flip_any_bit(crate::engine::Cf::State, &staged)
            .unwrap();
        let before = chunks(&store.reader(), 1 << 20);
        let count = snapshot.len() as u64;
        let result = store.install(P, PeerId(1), 9, hard_state(6, 11), at(6, 11), count);
        assert!(matches!(
            result,
            Err(StorageError::Damaged { partition: P, .. })
        ));
        assert_eq!(
            chunks(&store.reader(), 1 << 20),
            before,
            "nothing was changed"
        );
    });
}
