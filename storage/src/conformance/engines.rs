//! The engine alone: order, bounds, atomicity, views, and what a reopening finds.

use bytes::Bytes;

use super::Bed;
use crate::engine::{Cf, Durability, Engine, Limit, Read, Row, WriteBatch};

const ALL: Limit = Limit {
    rows: usize::MAX,
    bytes: usize::MAX,
};

pub(super) fn run<B: Bed>(make: &impl Fn() -> B) {
    batches_apply_in_order(&make());
    scans_keep_their_bounds(&make());
    column_families_are_apart(&make());
    views_do_not_move(&make());
    reopening_finds_everything(&make());
}

fn rows<R: Read>(engine: &R, cf: Cf) -> Vec<(Vec<u8>, Vec<u8>)> {
    let plain = |(key, value): Row| (key.to_vec(), value.to_vec());
    let rows = engine.scan(cf, &[], &[255; 4], ALL).unwrap();
    rows.into_iter().map(plain).collect()
}

fn write<E: Engine>(engine: &E, durability: Durability, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::default();
    fill(&mut batch);
    engine.write(&batch, durability).unwrap();
}

fn batches_apply_in_order<B: Bed>(bed: &B) {
    let engine = bed.open();
    assert_eq!(engine.get(Cf::State, b"a").unwrap(), None);
    write(&engine, Durability::Synced, |batch| {
        for key in [b"a", b"b", b"c", b"d", b"e"] {
            batch.put_raw(Cf::State, key, b"old");
        }
    });
    write(&engine, Durability::Buffered, |batch| {
        batch.put_raw(Cf::State, b"c", b"lost");
        batch.delete_range(Cf::State, b"b", b"d");
        batch.put_raw(Cf::State, b"b", b"new");
        batch.delete(Cf::State, b"e");
        batch.delete(Cf::State, b"never");
        batch.put_raw(Cf::State, b"a", b"");
    });
    let expected = [(&b"a"[..], &b""[..]), (b"b", b"new"), (b"d", b"old")];
    let found = rows(&engine, Cf::State);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((key, value), expected) in found.iter().zip(expected) {
        assert_eq!((&key[..], &value[..]), expected);
    }
    assert_eq!(
        engine.get(Cf::State, b"b").unwrap(),
        Some(Bytes::from_static(b"new"))
    );
}

fn scans_keep_their_bounds<B: Bed>(bed: &B) {
    let engine = bed.open();
    write(&engine, Durability::Buffered, |batch| {
        for number in 0..100u8 {
            batch.put_raw(Cf::Log, &[7, number], &[number; 10]);
        }
    });
    let scan = |from: &[u8], to: &[u8], rows, bytes| -> Vec<u8> {
        let found = engine
            .scan(Cf::Log, from, to, Limit { rows, bytes })
            .unwrap();
        found.iter().map(|(key, _)| key[1]).collect()
    };
    let max = usize::MAX;
    assert_eq!(scan(&[7, 5], &[7, 9], max, max), [5, 6, 7, 8]);
    assert_eq!(scan(&[7, 5], &[7, 9], 2, max), [5, 6]);
    assert_eq!(scan(&[7, 98], &[8], max, max), [98, 99]);
    assert_eq!(
        scan(&[7], &[8], max, 25),
        [0, 1, 2],
        "the row that reaches the limit is the last"
    );
    assert_eq!(scan(&[7], &[8], max, 1), [0], "at least one");
    assert!(scan(&[6], &[7], max, max).is_empty());
    assert!(scan(&[8], &[9], max, max).is_empty());
}

fn column_families_are_apart<B: Bed>(bed: &B) {
    let engine = bed.open();
    write(&engine, Durability::Buffered, |batch| {
        for cf in Cf::ALL {
            batch.put_raw(cf, b"key", cf.name().as_bytes());
        }
    });
    write(&engine, Durability::Buffered, |batch| {
        batch.delete_range(Cf::Raft, b"k", b"l");
    });
    for cf in Cf::ALL {
        let found = engine.get(cf, b"key").unwrap();
        let expected = (cf != Cf::Raft).then(|| Bytes::from_static(cf.name().as_bytes()));
        assert_eq!(found, expected, "{cf:?}");
    }
}

fn views_do_not_move<B: Bed>(bed: &B) {
    let engine = bed.open();
    write(&engine, Durability::Buffered, |batch| {
        batch.put_raw(Cf::State, b"a", b"1");
        batch.put_raw(Cf::Dedup, b"b", b"1");
    });
    let view = engine.view();
    write(&engine, Durability::Buffered, |batch| {
        batch.put_raw(Cf::State, b"a", b"2");
        batch.put_raw(Cf::State, b"c", b"2");
        batch.delete_range(Cf::Dedup, b"a", b"z");
    });
    drop(engine);
    // The view lives on its own, on any thread.
    let seen = std::thread::spawn(move || {
        (
            view.get(Cf::State, b"a").unwrap(),
            rows(&view, Cf::State),
            rows(&view, Cf::Dedup),
        )
    });
    let (a, state, dedup) = seen.join().unwrap();
    assert_eq!(a.unwrap(), b"1"[..]);
    assert_eq!(state, [(b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(dedup, [(b"b".to_vec(), b"1".to_vec())]);
}

fn reopening_finds_everything<B: Bed>(bed: &B) {
    let engine = bed.open();
    assert!(engine.room().unwrap().free_bytes > 0);
    write(&engine, Durability::Synced, |batch| {
        batch.put_raw(Cf::Meta, b"synced", b"1")
    });
    write(&engine, Durability::Buffered, |batch| {
        batch.put_raw(Cf::Meta, b"buffered", b"2")
    });
    engine.write_note(b"note").unwrap();
    drop(engine);
    // A killed process loses nothing that it handed to the operating system.
    let engine = bed.open();
    assert_eq!(engine.get(Cf::Meta, b"synced").unwrap().unwrap(), b"1"[..]);
    assert_eq!(
        engine.get(Cf::Meta, b"buffered").unwrap().unwrap(),
        b"2"[..]
    );
}
