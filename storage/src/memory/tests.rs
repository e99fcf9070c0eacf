//! Tests of the simulated disk: what crashes lose, and what they never lose.

use super::*;

fn put(engine: &MemoryEngine, key: &[u8], durability: Durability) -> Result<(), EngineError> {
    let mut batch = WriteBatch::default();
    batch.put_raw(Cf::State, key, key);
    engine.write(&batch, durability)
}

fn keys(disk: &MemoryDisk) -> usize {
    disk.open()
        .scan(Cf::State, &[0], &[255], Limit::rows(1_000))
        .unwrap()
        .len()
}

#[test]
fn crashes_lose_only_a_suffix_of_what_was_not_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        for kind in [
            CrashKind::Process,
            CrashKind::PowerLoss,
            CrashKind::PowerLossAll,
            CrashKind::TornTail,
        ] {
            let disk = MemoryDisk::new(seed);
            let engine = disk.open();
            put(&engine, &[1], Durability::Buffered).unwrap();
            put(&engine, &[2], Durability::Synced).unwrap();
            for key in 3..=6 {
                put(&engine, &[key], Durability::Buffered).unwrap();
            }
            let report = disk.crash(kind);
            assert_eq!(report.kept + report.lost, 4, "seed {seed} {kind:?}");
            let found = keys(&disk);
            assert_eq!(found, 2 + report.kept, "seed {seed} {kind:?}");
            for key in 1..=found as u8 {
                let value = disk.open().get(Cf::State, &[key]).unwrap();
                assert!(value.is_some(), "seed {seed} {kind:?}: a hole at {key}");
            }
            match kind {
                CrashKind::Process => assert_eq!(report.lost, 0),
                CrashKind::PowerLossAll => assert_eq!(report.kept, 0),
                CrashKind::PowerLoss => {
                    seen.insert(report.kept);
                }
                CrashKind::TornTail => assert_eq!(report.torn, 1),
            }
            assert_eq!(
                put(&engine, &[9], Durability::Synced),
                Err(EngineError::Closed)
            );
        }
    }
    assert_eq!(seen.len(), 5, "every suffix is lost by some seed: {seen:?}");
}

#[test]
fn a_damaged_log_loses_what_stands_from_the_damage_on() {
    let (mut tails, mut most) = (0, 0);
    for seed in 0..200 {
        let disk = MemoryDisk::new(seed);
        assert_eq!(disk.damage_log(), LogDamage::None, "seed {seed}");
        let engine = disk.open();
        for key in 1..=9 {
            let durability = [Durability::Buffered, Durability::Synced][usize::from(key % 3 == 0)];
            put(&engine, &[key], durability).unwrap();
        }
        disk.crash(CrashKind::PowerLossAll);
        let lost = match disk.damage_log() {
            LogDamage::None => panic!("seed {seed}: the log is not empty"),
            LogDamage::Tail => 1,
            LogDamage::Within { lost } => lost,
        };
        assert_eq!(keys(&disk), 9 - lost, "seed {seed}");
        for key in 1..=(9 - lost) as u8 {
            assert!(disk.open().get(Cf::State, &[key]).unwrap().is_some());
        }
        tails += usize::from(lost == 1);
        most = most.max(lost);
        put(&disk.open(), &[1], Durability::Synced).unwrap();
    }
    assert!(tails > 0 && most == 9, "{tails} tails, {most} lost at most");
}

#[test]
fn crashes_undo_overwrites_and_range_deletes() {
    let disk = MemoryDisk::new(1);
    let engine = disk.open();
    for key in 1..=5 {
        put(&engine, &[key], Durability::Synced).unwrap();
    }
    let mut batch = WriteBatch::default();
    batch.delete_range(Cf::State, &[2], &[4]);
    batch.put_raw(Cf::State, &[3], b"new");
    batch.delete(Cf::State, &[5]);
    engine.write(&batch, Durability::Buffered).unwrap();
    assert_eq!(keys(&disk), 3);
    disk.crash(CrashKind::PowerLossAll);
    assert_eq!(keys(&disk), 5);
    assert_eq!(disk.open().get(Cf::State, &[3]).unwrap().unwrap(), [3][..]);
}

#[test]
fn a_failed_write_poisons_the_run_and_a_failed_sync_is_in_doubt() {
    let mut survived = 0;
    for seed in 0..100 {
        let disk = MemoryDisk::new(seed);
        let engine = disk.open();
        disk.fail(Operation::Sync, 2, Fault::Io);
        put(&engine, &[1], Durability::Synced).unwrap();
        let failed = put(&engine, &[2], Durability::Synced).unwrap_err();
        assert!(matches!(failed, EngineError::Io(_)), "{failed}");
        assert_eq!(put(&engine, &[3], Durability::Buffered), Err(failed));
        disk.crash(CrashKind::Process);
        survived += keys(&disk) - 1;
        put(&disk.open(), &[4], Durability::Synced).unwrap();
    }
    assert!((20..80).contains(&survived), "{survived} of 100");
}

#[test]
fn views_images_and_faults() {
    let disk = MemoryDisk::new(3);
    let engine = disk.open();
    put(&engine, &[1], Durability::Synced).unwrap();
    let view = engine.view();
    let image = disk.image();
    put(&engine, &[2], Durability::Synced).unwrap();
    assert_eq!(view.get(Cf::State, &[2]).unwrap(), None);
    assert!(disk.flip_bit(Cf::State, &[1]));
    assert!(!disk.flip_bit(Cf::State, &[9]));
    assert_ne!(engine.get(Cf::State, &[1]).unwrap().unwrap(), [1][..]);
    assert_eq!(view.get(Cf::State, &[1]).unwrap().unwrap(), [1][..]);
    assert!(disk.swap_values(Cf::State, &[1], &[2]));
    assert_eq!(engine.get(Cf::State, &[1]).unwrap().unwrap(), [2][..]);
    disk.restore(&image);
    assert_eq!(keys(&disk), 1);
    assert_eq!(engine.get(Cf::State, &[1]), Err(EngineError::Closed));
    let engine = disk.open();
    disk.fail(Operation::Read, 1, Fault::Io);
    assert!(engine.get(Cf::State, &[1]).is_err());
    assert!(engine.get(Cf::State, &[1]).is_ok());
    disk.set_room(Room {
        free_bytes: 0,
        total_bytes: 1,
    });
    let full = put(&engine, &[2], Durability::Buffered).unwrap_err();
    assert!(matches!(full, EngineError::NoSpace(_)), "{full}");
    disk.set_pace(Pace::Slow(7));
    assert_eq!(disk.pace(), Pace::Slow(7));
    engine.write_note(b"note").unwrap_or_else(|e| panic!("{e}"));
    disk.wipe(KeepNote::Kept);
    assert_eq!(
        (keys(&disk), disk.note().as_deref()),
        (0, Some(&b"note"[..]))
    );
}
