//! The store on an engine: what it gives back after it was opened again.

use bytes::Bytes;
use ghostlight_protocol::family::{Family, outbox_key, state_key};
use ghostlight_protocol::ids::{LogIndex, PartitionId, PeerId};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::wire::hello::NodeRecord;

use super::Bed;
use super::material::{
    ME, actor, advance, all_families, at, command, entry, founded, hard_state, identity, items,
    turn, write,
};
use crate::engine::{Cf, Engine, Limit};
use crate::error::{Remedy, StorageError};
use crate::reader::{PageEnd, Reader};
use crate::store::{Condemned, Staged, Store};

const P: PartitionId = PartitionId(2);

pub(super) fn run<B: Bed>(make: &impl Fn() -> B) {
    a_founded_node_comes_back(&make());
    entries_are_replaced_from_the_first_new_one(&make());
    applied_rows_can_be_read(&make());
    several_partitions_apply_in_one_batch(&make());
    the_log_is_cut_at_the_front(&make());
    a_replica_is_deleted_for_good(&make());
    a_snapshot_makes_an_equal_copy(&make());
    equal_rows_have_equal_digests(&make());
    chunks_come_in_order_or_not_at_all(&make());
    a_condemned_replica_makes_room_for_its_successor(&make());
    the_node_remembers_itself(&make());
}

fn a_founded_node_comes_back<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    assert_eq!(store.peer(P), Some(PeerId(1)));
    let row = store.row(P).unwrap().clone();
    assert_eq!((row.applied_index, row.applied_term), (5, 5));
    let refused = store.create_replica(P, PeerId(9)).unwrap_err();
    assert_eq!(refused.remedy(), Remedy::Refuse);
    drop(store);
    let (_, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.identity, Some(identity()));
    assert_eq!(recovered.replicas.len(), 4);
    assert!(recovered.condemned.is_empty() && recovered.tombstones.is_empty());
    let replica = &recovered.replicas[2];
    assert_eq!((replica.partition, replica.peer), (P, PeerId(1)));
    assert_eq!((replica.truncated, replica.tail.len()), (at(5, 5), 0));
    // Trap 17: the synthetic start needs this hard state.
    assert_eq!(
        (replica.hard_state.term.0, replica.hard_state.commit.0),
        (5, 5)
    );
    assert_eq!(replica.row, Some(row));
}

fn entries_are_replaced_from_the_first_new_one<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    let old: Vec<_> = (6..=20)
        .map(|index| entry(at(6, index), vec![6; 100]))
        .collect();
    store
        .persist(&[write(2, 1, Some(hard_state(6, 7)), old.clone())])
        .unwrap();
    let new: Vec<_> = (10..=12)
        .map(|index| entry(at(8, index), vec![8; 50]))
        .collect();
    let others = [entry(at(6, 6), "other")];
    store
        .persist(&[
            write(2, 1, Some(hard_state(8, 6)), new.clone()),
            write(3, 1, Some(hard_state(6, 5)), others.to_vec()),
        ])
        .unwrap();
    let expected: Vec<_> = old[..4].iter().chain(&new).cloned().collect();
    drop(store);
    let (_, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.replicas[2].tail, expected);
    assert_eq!(recovered.replicas[3].tail, others);
    let hard = recovered.replicas[2].hard_state;
    assert_eq!(hard, hard_state(8, 7), "a commit index never goes back");
}

fn applied_rows_can_be_read<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    let row = advance(&mut store, 2, 1, &all_families(6, 6, 10));
    assert_eq!(
        (row.applied_index, row.inbox_rows, row.outbox_rows),
        (11, 1, 3)
    );
    let reader = store.reader();
    let key = state_key(&actor("a"), b"value");
    let found = reader.get(P, Family::State, &key).unwrap();
    assert_eq!(found.unwrap(), [3; 10][..]);
    assert_eq!(reader.get(P, Family::State, b"none").unwrap(), None);
    assert_eq!(
        reader.get(PartitionId(1), Family::State, &key).unwrap(),
        None
    );
    assert_eq!(reader.partition_row(P).unwrap().unwrap(), row);
    let prefix = 3u16.to_be_bytes();
    let scan = |after: Option<&[u8]>, rows| -> Vec<Bytes> {
        let found = reader
            .scan(P, Family::Outbox, &prefix, after, Limit::rows(rows))
            .unwrap();
        found.rows.into_iter().map(|(key, _)| key).collect()
    };
    let keys: Vec<_> = (1..=3)
        .map(|sequence| outbox_key(PartitionId(3), sequence))
        .collect();
    assert_eq!(scan(None, 10), keys);
    assert_eq!(scan(None, 2), keys[..2]);
    assert_eq!(scan(Some(&keys[0]), 10), keys[1..]);
    assert!(scan(Some(&keys[2]), 10).is_empty());
    // A page that is short because its rows are large is not the end.
    for (rows, bytes, found, end) in [
        (10, 1 << 20, 3, PageEnd::End),
        (3, 1 << 20, 3, PageEnd::More),
        (10, 1, 1, PageEnd::More),
    ] {
        let limit = Limit { rows, bytes };
        let page = reader
            .scan(P, Family::Outbox, &prefix, None, limit)
            .unwrap();
        assert_eq!((page.rows.len(), page.end), (found, end), "{limit:?}");
    }
    drop((store, reader));
    let (store, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.replicas[2].row, Some(row));
    // Trap 15: applied is never past commit, though Raft was never asked to write this commit.
    assert_eq!(recovered.replicas[2].hard_state.commit, LogIndex(11));
    assert_eq!(recovered.replicas[2].tail.len(), 6);
    let found = store.reader().get(P, Family::State, &key).unwrap();
    assert_eq!(found.unwrap(), [3; 10][..]);
}

fn several_partitions_apply_in_one_batch<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    let entries = [entry(
        at(6, 6),
        command(6, turn(&actor("a"), 0, 1, "1".into(), 0)),
    )];
    let writes: Vec<_> = (0..4)
        .map(|p| write(p, 1, Some(hard_state(6, 6)), entries.to_vec()))
        .collect();
    store.persist(&writes).unwrap();
    let work: Vec<_> = (0..4).map(|p| (PartitionId(p), items(&entries))).collect();
    let mut out = Vec::new();
    store.apply_many(&work, &mut out).unwrap();
    assert_eq!(out.len(), 4);
    for (position, (partition, position_at, outcome)) in out.iter().enumerate() {
        assert_eq!(usize::from(partition.0), position);
        assert_eq!(*position_at, at(6, 6));
        assert!(matches!(outcome, EntryOutcome::Turns(turns) if turns.len() == 1));
    }
    let key = state_key(&actor("a"), b"value");
    for partition in (0..4).map(PartitionId) {
        assert!(
            store
                .reader()
                .get(partition, Family::State, &key)
                .unwrap()
                .is_some()
        );
    }
}

fn the_log_is_cut_at_the_front<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    let many: Vec<_> = (6..=12_006)
        .map(|index| entry(at(6, index), Bytes::new()))
        .collect();
    advance(&mut store, 2, 1, &many);
    // A short run by points, a long one as a range.
    for (through, left) in [(8, 11_998), (8, 11_998), (7, 11_998), (11_000, 1_006)] {
        store.truncate_log(P, at(6, through)).unwrap();
        drop(store);
        let recovered;
        (store, recovered) = Store::open(bed.open()).unwrap();
        let tail = &recovered.replicas[2].tail;
        assert_eq!(tail.len(), left, "cut through {through}");
        assert_eq!(tail[0].at.index, LogIndex(through.max(8) + 1));
    }
    drop(store);
    let (_, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.replicas[2].truncated, at(6, 11_000));
    assert_eq!(recovered.replicas[2].tail[..], many[10_995..]);
}

fn a_replica_is_deleted_for_good<B: Bed>(bed: &B) {
    let mut store = founded(bed.open(), 4);
    advance(&mut store, 2, 1, &all_families(6, 6, 10));
    advance(&mut store, 3, 1, &all_families(6, 6, 10));
    store.destroy_replica(P, PeerId(5)).unwrap();
    assert_eq!(store.peer(P), None);
    // A write that was on its way is dropped.
    store
        .persist(&[write(2, 1, None, vec![entry(at(6, 12), "late")])])
        .unwrap();
    store
        .apply(P, &items(&[entry(at(6, 12), "late")]), &mut Vec::new())
        .unwrap();
    drop(store);
    let engine = bed.open();
    let left = rows_of(&engine, P);
    assert_eq!(left.len(), 1, "only the tombstone is left: {left:?}");
    assert!(rows_of(&engine, PartitionId(3)).len() > 15);
    let (mut store, recovered) = Store::open(engine).unwrap();
    assert_eq!(recovered.replicas.len(), 3);
    assert_eq!(recovered.tombstones[&P], PeerId(5));
    let refused = store.create_replica(P, PeerId(4)).unwrap_err();
    assert!(matches!(
        refused,
        StorageError::BelowTombstone {
            floor: PeerId(5),
            ..
        }
    ));
    let begun = store.create_replica(P, PeerId(6)).unwrap();
    assert_eq!((begun.row.clone(), begun.peer), (None, PeerId(6)));
    assert_eq!(store.create_replica(P, PeerId(6)).unwrap(), begun);
    // Trap 12: a learner keeps its hard state before its first snapshot.
    store
        .persist(&[write(2, 6, Some(hard_state(9, 0)), vec![])])
        .unwrap();
    drop(store);
    let (mut store, recovered) = Store::open(bed.open()).unwrap();
    let begun = &recovered.replicas[2];
    assert_eq!((begun.peer, begun.row.clone()), (PeerId(6), None));
    assert_eq!(begun.hard_state, hard_state(9, 0));
    // A tombstone never sinks.
    store.destroy_replica(P, PeerId(2)).unwrap();
    drop(store);
    let (_, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.tombstones[&P], PeerId(7));
}

fn rows_of<E: Engine>(engine: &E, partition: PartitionId) -> Vec<(Cf, Bytes)> {
    let (from, to) = (partition.0.to_be_bytes(), (partition.0 + 1).to_be_bytes());
    let mut all = Vec::new();
    for cf in [Cf::Raft, Cf::Log, Cf::State, Cf::Dedup, Cf::Outbox] {
        let rows = engine
            .scan(cf, &from, &to, Limit::rows(usize::MAX))
            .unwrap();
        all.extend(rows.into_iter().map(|(key, _)| (cf, key)));
    }
    all
}

/// All rows of a partition, through its snapshot.
pub(super) fn snapshot<E: Engine>(reader: &Reader<E>, bytes_max: usize) -> Vec<Bytes> {
    let mut snapshot = reader.open_snapshot(P).unwrap().unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = snapshot.next_chunk(bytes_max).unwrap() {
        chunks.push(chunk);
    }
    assert_eq!(snapshot.chunks(), chunks.len() as u64);
    assert!(snapshot.next_chunk(bytes_max).unwrap().is_none());
    chunks
}

fn stage<E: Engine>(store: &mut Store<E>, peer: u64, transfer: u64, chunks: &[Bytes]) {
    for (number, chunk) in (0..).zip(chunks) {
        let staged = store
            .stage_chunk(P, PeerId(peer), transfer, number, chunk.clone())
            .unwrap();
        assert_eq!(staged, Staged::Taken { next: number + 1 });
    }
}

fn a_snapshot_makes_an_equal_copy<B: Bed>(bed: &B) {
    let mut source = founded(crate::memory::MemoryDisk::new(5).open(), 4);
    let mut row = advance(&mut source, 2, 1, &all_families(6, 6, 1_000));
    let whole = snapshot(&source.reader(), 1 << 20);
    let chunks = snapshot(&source.reader(), 700);
    assert!(
        whole.len() == 1 && chunks.len() > 5,
        "{} and {}",
        whole.len(),
        chunks.len()
    );

    let (mut store, _) = Store::open(bed.open()).unwrap();
    store.create_replica(P, PeerId(4)).unwrap();
    stage(&mut store, 4, 77, &chunks[..3]);
    assert!(
        store
            .reader()
            .get(P, Family::State, &state_key(&actor("a"), b"value"))
            .unwrap()
            .is_none()
    );
    stage(&mut store, 4, 78, &chunks);
    let count = chunks.len() as u64;
    let install = |store: &mut Store<B::Engine>, transfer, at, count| {
        store.install(P, PeerId(4), transfer, hard_state(6, 11), at, count)
    };
    for (transfer, position, count) in [
        (77, at(6, 11), count),
        (78, at(6, 12), count),
        (78, at(6, 11), count + 1),
    ] {
        let refused = install(&mut store, transfer, position, count).unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Refuse, "{refused}");
    }
    assert_eq!(install(&mut store, 78, at(6, 11), count).unwrap(), row);
    assert_eq!(snapshot(&store.reader(), 1 << 20), whole);
    // The copy goes on as the original does.
    for original_and_copy in 0..2 {
        let next = [entry(
            at(7, 12),
            command(7, turn(&actor("a"), 2, 4, "next".into(), 1)),
        )];
        if original_and_copy == 0 {
            row = advance(&mut source, 2, 1, &next);
        } else {
            assert_eq!(advance(&mut store, 2, 4, &next), row);
        }
    }
    assert_eq!(
        snapshot(&store.reader(), 1 << 20),
        snapshot(&source.reader(), 1 << 20)
    );
    drop(store);
    let (_, recovered) = Store::open(bed.open()).unwrap();
    let copy = &recovered.replicas[0];
    assert_eq!(
        (copy.peer, copy.truncated, copy.tail.len()),
        (PeerId(4), at(6, 11), 1)
    );
    assert_eq!(copy.row, Some(row));
}

/// All rows of `P`, digested in steps.
fn digest<E: Engine>(reader: &Reader<E>, bytes_max: usize) -> u128 {
    let mut snapshot = reader.open_snapshot(P).unwrap().expect("it has data");
    let mut digest = 0;
    while let Some(next) = snapshot.digest_next(digest, bytes_max).unwrap() {
        digest = next;
    }
    digest
}

fn equal_rows_have_equal_digests<B: Bed>(bed: &B) {
    let mut source = founded(crate::memory::MemoryDisk::new(5).open(), 4);
    advance(&mut source, 2, 1, &all_families(6, 6, 1_000));
    let expected = digest(&source.reader(), 1 << 20);
    assert_eq!(
        digest(&source.reader(), 100),
        expected,
        "however it is read"
    );
    // Applied here, or installed here.
    let engine = bed.open();
    let mut store = founded(engine.clone(), 4);
    advance(&mut store, 2, 1, &all_families(6, 6, 1_000));
    assert_eq!(digest(&store.reader(), 1 << 20), expected);
    store.create_replica(PartitionId(9), PeerId(4)).unwrap();
    let chunks = snapshot(&source.reader(), 1 << 20);
    for (number, chunk) in (0..).zip(&chunks) {
        let staged = store.stage_chunk(PartitionId(9), PeerId(4), 1, number, chunk.clone());
        assert!(matches!(staged, Ok(Staged::Taken { .. })));
    }
    let count = chunks.len() as u64;
    let installed = store.install(
        PartitionId(9),
        PeerId(4),
        1,
        hard_state(6, 11),
        at(6, 11),
        count,
    );
    installed.unwrap();
    let mut copy = store
        .reader()
        .open_snapshot(PartitionId(9))
        .unwrap()
        .unwrap();
    assert_eq!(copy.digest_next(0, 1 << 20).unwrap(), Some(expected));
    // A row that goes without a word leaves every checksum right.
    let row = rows_of(&engine, P)
        .into_iter()
        .rev()
        .find_map(|(cf, key)| (cf == Cf::State && key.len() > 3).then_some(key));
    let mut batch = crate::engine::WriteBatch::default();
    batch.delete(Cf::State, &row.expect("it has state"));
    engine
        .write(&batch, crate::engine::Durability::Buffered)
        .unwrap();
    assert_ne!(digest(&store.reader(), 1 << 20), expected);
}

fn chunks_come_in_order_or_not_at_all<B: Bed>(bed: &B) {
    let mut source = founded(crate::memory::MemoryDisk::new(5).open(), 4);
    advance(&mut source, 2, 1, &all_families(6, 6, 1_000));
    let chunks = snapshot(&source.reader(), 700);
    let (mut store, _) = Store::open(bed.open()).unwrap();
    store.create_replica(P, PeerId(4)).unwrap();
    let mut stage = |peer, transfer, number: u64, chunk: &Bytes| {
        let staged = store
            .stage_chunk(P, PeerId(peer), transfer, number, chunk.clone())
            .unwrap();
        match staged {
            Staged::Taken { next } => ("taken", next),
            Staged::Refused { next, .. } => ("refused", next),
        }
    };
    let mut flipped = chunks[1].to_vec();
    flipped[40] ^= 1;
    let rows = [
        (4, 1, 1, chunks[1].clone(), ("refused", 0)),
        (4, 1, 0, chunks[0].clone(), ("taken", 1)),
        (4, 1, 0, chunks[0].clone(), ("taken", 1)),
        (4, 1, 1, flipped.into(), ("refused", 1)),
        (4, 1, 1, chunks[2].clone(), ("refused", 1)),
        (4, 1, 1, chunks[1].slice(..20), ("refused", 1)),
        (4, 1, 1, Bytes::new(), ("refused", 1)),
        (4, 1, 1, chunks[1].clone(), ("taken", 2)),
        (4, 1, 3, chunks[3].clone(), ("refused", 2)),
        (3, 1, 2, chunks[2].clone(), ("refused", 0)),
        (4, 2, 2, chunks[2].clone(), ("refused", 0)),
        (4, 2, 0, chunks[0].clone(), ("taken", 1)),
        (4, 1, 2, chunks[2].clone(), ("refused", 0)),
    ];
    for (line, (peer, transfer, number, chunk, expected)) in rows.into_iter().enumerate() {
        assert_eq!(
            stage(peer, transfer, number, &chunk),
            expected,
            "line {line}"
        );
    }
    store.discard_staging(P).unwrap();
    drop(store);
    let engine = bed.open();
    assert_eq!(rows_of(&engine, P).len(), 2, "a stint and its hard state");
}

fn a_condemned_replica_makes_room_for_its_successor<B: Bed>(bed: &B) {
    let mut source = founded(crate::memory::MemoryDisk::new(5).open(), 4);
    let row = advance(&mut source, 2, 1, &all_families(6, 6, 10));
    let chunks = snapshot(&source.reader(), 1 << 20);

    let mut store = founded(bed.open(), 4);
    advance(&mut store, 2, 1, &all_families(6, 6, 10));
    let condemned = store.condemn(P, "a test says so").unwrap().unwrap();
    assert_eq!((condemned.partition, condemned.peer), (P, PeerId(1)));
    assert_eq!(store.condemn(P, "again").unwrap(), None);
    assert!(store.create_replica(P, PeerId(1)).is_err());
    store.create_replica(P, PeerId(2)).unwrap();
    drop(store);
    let engine = bed.open();
    assert!(
        rows_of(&engine, P).len() > 15,
        "what is condemned is set aside"
    );
    let (mut store, recovered) = Store::open(engine).unwrap();
    let why = "a test says so".to_owned();
    assert_eq!(
        recovered.condemned,
        [Condemned {
            partition: P,
            peer: PeerId(1),
            why
        }]
    );
    assert_eq!(recovered.replicas[2].row, None);
    stage(&mut store, 2, 1, &chunks);
    store
        .install(P, PeerId(2), 1, hard_state(6, 11), at(6, 11), 1)
        .unwrap();
    store.discard_condemned(P).unwrap();
    store.discard_condemned(P).unwrap();
    drop(store);
    let (mut store, recovered) = Store::open(bed.open()).unwrap();
    assert!(recovered.condemned.is_empty());
    assert_eq!(
        (
            recovered.replicas[2].peer,
            recovered.replicas[2].row.clone()
        ),
        (PeerId(2), Some(row))
    );
    assert_eq!(snapshot(&store.reader(), 1 << 20), chunks);
    store.destroy_replica(P, PeerId(3)).unwrap();
    drop(store);
    assert_eq!(rows_of(&bed.open(), P).len(), 1);
}

fn the_node_remembers_itself<B: Bed>(bed: &B) {
    let (mut store, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.identity, None);
    assert!(store.addresses().unwrap().is_empty());
    let mut identity = identity();
    store.save_identity(&identity).unwrap();
    identity.generation = 2;
    identity.replaces = ME.to_bytes().to_vec();
    store.save_identity(&identity).unwrap();
    let node = NodeRecord {
        node: ME.to_bytes().to_vec(),
        address: "127.0.0.1:7400".to_owned(),
        ..NodeRecord::default()
    };
    store.save_addresses(std::slice::from_ref(&node)).unwrap();
    let room = store.reader().room().unwrap();
    assert!(
        0 < room.free_bytes && room.free_bytes <= room.total_bytes,
        "{room:?}"
    );
    drop(store);
    let (store, recovered) = Store::open(bed.open()).unwrap();
    assert_eq!(recovered.identity, Some(identity));
    assert_eq!(store.addresses().unwrap(), [node]);
}
