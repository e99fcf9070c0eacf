//! Damaged records: only the replica they belong to is condemned, and for good.

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, PartitionId, PeerId};

use super::for_seeds;
use crate::conformance::material::{
    ME, actor, advance, all_families, at, command, entry, founded, hard_state, items, turn, write,
};
use crate::engine::{Cf, Durability, Engine, EngineError, Limit, Read, Room, Row, WriteBatch};
use crate::error::{Remedy, StorageError};
use crate::layout::{FORMAT_KEY, IDENTITY_KEY, Own, after, log_key, own_key, row_prefix};
use crate::memory::{MemoryDisk, MemoryEngine, MemoryView};
use crate::record::Stint;
use crate::store::{Recovered, Store, put_hard_state, put_stint};

const P: PartitionId = PartitionId(1);

fn filled(seed: u64) -> MemoryDisk {
    let disk = MemoryDisk::new(seed);
    let mut store = founded(disk.open(), 3);
    for partition in 0..3 {
        advance(&mut store, partition, 1, &all_families(6, 6, 20));
    }
    disk
}

fn key(index: u64) -> Vec<u8> {
    log_key(P, PeerId(1), LogIndex(index)).to_vec()
}

fn recover(disk: &MemoryDisk) -> Recovered {
    Store::open(disk.open()).unwrap().1
}

/// Everything about the other replicas is as before, and this one can never come back as it was.
#[track_caller]
fn assert_only_p_is_condemned(disk: &MemoryDisk, why: &str) {
    let before = recover(&filled(1));
    let found = recover(disk);
    assert_eq!(found.condemned.len(), 1, "{why}: {:?}", found.condemned);
    assert_eq!(
        (found.condemned[0].partition, found.condemned[0].peer),
        (P, PeerId(1))
    );
    assert!(
        found.condemned[0].why.contains(why),
        "{why}: {:?}",
        found.condemned
    );
    let others: Vec<_> = before
        .replicas
        .into_iter()
        .filter(|r| r.partition != P)
        .collect();
    assert_eq!(found.replicas, others, "{why}");
    assert_eq!(found.tombstones[&P], PeerId(2));
    assert_eq!(recover(disk), found, "{why}: opening again finds the same");
    let (mut store, _) = Store::open(disk.open()).unwrap();
    assert!(store.create_replica(P, PeerId(1)).is_err());
    store.create_replica(P, PeerId(2)).unwrap();
}

#[test]
fn a_flipped_bit_condemns_one_replica() {
    for seed in 0..40 {
        let rows: [(Cf, Vec<u8>, &str); 5] = [
            (Cf::Log, key(6), "log entry i6 is damaged"),
            (Cf::Log, key(11), "log entry i11 is damaged"),
            (
                Cf::Raft,
                own_key(P, Own::HardState).to_vec(),
                "its hard state is damaged",
            ),
            (
                Cf::Raft,
                own_key(P, Own::Stint).to_vec(),
                "its stint is damaged",
            ),
            (
                Cf::Raft,
                row_prefix(P, Family::Partition).to_vec(),
                "its partition row is damaged",
            ),
        ];
        for (cf, key, why) in rows {
            let disk = filled(seed);
            assert!(disk.flip_bit(cf, &key));
            assert_only_p_is_condemned(&disk, why);
        }
    }
}

#[test]
fn the_tombstone_is_found_from_any_record_that_is_left() {
    let own = |own| own_key(P, own).to_vec();
    let row = row_prefix(P, Family::Partition).to_vec();
    let disk = filled(1);
    disk.flip_bit(Cf::Raft, &own(Own::Stint));
    disk.flip_bit(Cf::Raft, &own(Own::HardState));
    assert_only_p_is_condemned(&disk, "its stint is damaged");
    // Nobody can say which peer it was: the whole database is in doubt.
    let disk = filled(1);
    for key in [own(Own::Stint), own(Own::HardState), row] {
        disk.flip_bit(Cf::Raft, &key);
    }
    let refused = Store::open(disk.open()).unwrap_err();
    assert!(
        matches!(refused, StorageError::NodeDamaged { .. }),
        "{refused}"
    );
}

#[test]
fn misplaced_and_missing_records_are_found() {
    let disk = filled(1);
    assert!(disk.swap_values(Cf::Log, &key(7), &key(8)));
    assert_only_p_is_condemned(&disk, "log entry i7 is damaged");
    let write = |fill: &dyn Fn(&mut WriteBatch)| {
        let disk = filled(1);
        let mut batch = WriteBatch::default();
        fill(&mut batch);
        disk.open().write(&batch, Durability::Synced).unwrap();
        disk
    };
    let disk = write(&|batch| batch.delete(Cf::Log, &key(8)));
    assert_only_p_is_condemned(&disk, "log entry i8 is missing");
    let disk = write(&|batch| batch.delete(Cf::Log, &key(11)));
    assert_only_p_is_condemned(&disk, "the log ends at i10, before commit i11");
    // The commit index alone says nothing: what is applied is committed.
    let disk = write(&|batch| put_hard_state(batch, P, PeerId(1), hard_state(6, 9)));
    let (_, recovered) = Store::open(disk.open()).unwrap();
    let replica = recovered.replicas.iter().find(|r| r.partition == P);
    assert_eq!(replica.unwrap().hard_state.commit, LogIndex(11));
    let disk = write(&|batch| put_hard_state(batch, P, PeerId(1), hard_state(5, 11)));
    assert_only_p_is_condemned(&disk, "its term t5 is older than the log's t6");
    let truncated = Stint {
        peer: PeerId(1),
        truncated: at(5, 6),
    };
    let disk = write(&|batch| put_stint(batch, P, truncated));
    assert_eq!(
        recover(&disk).condemned,
        [],
        "a cut inside the log is no damage"
    );
    let truncated = Stint {
        peer: PeerId(1),
        truncated: at(5, 11),
    };
    let disk = write(&|batch| put_stint(batch, P, truncated));
    assert_only_p_is_condemned(&disk, "the rows are those of");
}

#[test]
fn damage_to_the_node_itself_refuses_the_start() {
    for key in [IDENTITY_KEY, FORMAT_KEY] {
        let disk = filled(1);
        assert!(disk.flip_bit(Cf::Meta, key));
        let refused = Store::open(disk.open()).unwrap_err();
        assert_eq!(refused.remedy(), Remedy::EndProcess, "{refused}");
        assert!(
            matches!(refused, StorageError::NodeDamaged { .. }),
            "{refused}"
        );
    }
    let disk = filled(1);
    let mut batch = WriteBatch::default();
    batch.put(Cf::Meta, FORMAT_KEY, &[&99u64.to_be_bytes()]);
    disk.open().write(&batch, Durability::Synced).unwrap();
    let refused = Store::open(disk.open()).unwrap_err();
    assert!(
        matches!(refused, StorageError::Newer { found: 99, .. }),
        "{refused}"
    );
    let note = crate::identity::Note::open(&disk.note().unwrap()).unwrap();
    assert_eq!(
        note.identity.unwrap().id(),
        Some(ME),
        "the note still says who it was"
    );
}

#[test]
fn a_damaged_row_is_never_served_and_stops_only_its_replica() {
    for_seeds("a_damaged_row_is_never_served", 30, |seed| {
        let disk = filled(seed);
        let (mut store, _) = Store::open(disk.open()).unwrap();
        let prefix = row_prefix(P, Family::Version);
        let damaged_key = disk.flip_any_bit(Cf::State, &prefix).unwrap();
        let refused = store
            .reader()
            .get(P, Family::Version, &damaged_key[3..])
            .unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Condemn(P));
        let mut snapshot = store.reader().open_snapshot(P).unwrap().unwrap();
        assert_eq!(
            snapshot.next_chunk(1 << 20).unwrap_err().remedy(),
            Remedy::Condemn(P)
        );
        let name = match damaged_key.ends_with(b"a") {
            true => "a",
            false => "b",
        };
        apply_around_damage(&mut store, name);
    });
}

fn apply_around_damage(store: &mut Store<MemoryEngine>, name: &str) {
    let data = command(6, turn(&actor(name), 2, 9, Bytes::from_static(b"new"), 0));
    let entries = [entry(at(6, 12), data)];
    let writes: Vec<_> = (0..3)
        .map(|p| write(p, 1, Some(hard_state(6, 12)), entries.to_vec()))
        .collect();
    store.persist(&writes).unwrap();
    let work = |skip: Option<PartitionId>| -> Vec<_> {
        let all = (0..3).map(PartitionId).filter(|p| Some(*p) != skip);
        all.map(|p| (p, items(&entries))).collect()
    };
    let mut out = Vec::new();
    let refused = store.apply_many(&work(None), &mut out).unwrap_err();
    assert_eq!((refused.remedy(), out.len()), (Remedy::Condemn(P), 0));
    assert_eq!(
        store.row(PartitionId(0)).unwrap().applied_index,
        11,
        "nothing was applied"
    );
    let condemned = store.condemn(P, &refused.to_string()).unwrap().unwrap();
    assert_eq!(condemned.peer, PeerId(1));
    store.apply_many(&work(Some(P)), &mut out).unwrap();
    assert_eq!(
        (out.len(), store.row(PartitionId(0)).unwrap().applied_index),
        (2, 12)
    );
}

/// An engine with one damaged file: scans that touch its keys say so.
#[derive(Clone)]
struct DamagedFile {
    sound: MemoryEngine,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Read for DamagedFile {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.sound.get(cf, key)
    }

    fn scan(&self, cf: Cf, from: &[u8], to: &[u8], limit: Limit) -> Result<Vec<Row>, EngineError> {
        if cf == Cf::State && from < &self.to[..] && to > &self.from[..] {
            return Err(EngineError::Corrupt("block checksum mismatch".to_owned()));
        }
        self.sound.scan(cf, from, to, limit)
    }
}

impl Engine for DamagedFile {
    type View = MemoryView;

    fn write(&self, batch: &WriteBatch, durability: Durability) -> Result<(), EngineError> {
        self.sound.write(batch, durability)
    }

    fn view(&self) -> MemoryView {
        self.sound.view()
    }

    fn room(&self) -> Result<Room, EngineError> {
        self.sound.room()
    }

    fn write_note(&self, note: &[u8]) -> Result<(), EngineError> {
        self.sound.write_note(note)
    }
}

#[test]
fn a_damaged_block_where_staged_chunks_would_be_condemns_that_replica_alone() {
    let disk = filled(1);
    let from = own_key(P, Own::Staged).to_vec();
    let engine = || DamagedFile {
        sound: disk.open(),
        to: after(&from),
        from: from.clone(),
    };
    let (_, found) = Store::open(engine()).unwrap();
    assert_eq!(found.condemned.len(), 1, "{:?}", found.condemned);
    assert_eq!(found.condemned[0].partition, P);
    assert!(found.condemned[0].why.contains("block checksum mismatch"));
    assert_eq!(found.replicas.len(), 2);
    let (_, again) = Store::open(engine()).unwrap();
    assert_eq!(
        again.condemned, found.condemned,
        "nothing is left to condemn"
    );
    assert_only_p_is_condemned(&disk, "its staged snapshot");
}
