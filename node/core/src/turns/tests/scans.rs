//! Pages of state rows: committed ones under uncommitted ones, however the store cuts its pages.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::family::{self, Family};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::*;
use crate::turn_io::{RunnerEffect, TurnAsk, TurnEnd, TurnId, TurnTold};

const SEEDS: u64 = 400;

type Map = BTreeMap<Bytes, Bytes>;

/// Walks all rows under a prefix as the SDK does: until a page is empty.
fn walk(bench: &mut Bench, turn: TurnId, prefix: &Bytes, limit: usize) -> Vec<(Bytes, Bytes)> {
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let scan = TurnAsk::Scan {
            prefix: prefix.clone(),
            after: after.clone(),
            limit,
        };
        bench.ask(turn, 1, scan);
        let Some(RunnerEffect::Tell {
            told: TurnTold::Rows(rows),
            ..
        }) = bench.told.pop()
        else {
            panic!("{:?}", bench.told);
        };
        assert!(rows.len() <= limit);
        let Some((last, _)) = rows.last() else {
            return seen;
        };
        after = Some(last.clone());
        seen.extend(rows);
    }
}

fn random_key(rng: &mut ChaCha8Rng) -> Bytes {
    let length = rng.random_range(1..=3);
    (0..length).map(|_| rng.random_range(b'a'..=b'c')).collect()
}

fn random_value(rng: &mut ChaCha8Rng) -> Bytes {
    vec![b'v'; rng.random_range(0..40)].into()
}

/// A turn on top of `uncommitted` turns before it, and what it must see.
fn stage(seed: u64, rng: &mut ChaCha8Rng) -> (Bench, TurnId, Map) {
    let mut bench = Bench::new();
    let mut map = Map::new();
    for _ in 0..rng.random_range(0..20) {
        let (key, value) = (random_key(rng), random_value(rng));
        let row = family::state_key(&actor_key("a"), &key);
        bench.rows.0.insert((Family::State, row), value.clone());
        map.insert(key, value);
    }
    let uncommitted = rng.random_range(0..4);
    for n in 0..=uncommitted {
        bench.call(Ask::first(n + 1, "a"));
    }
    for _ in 0..uncommitted {
        let mut writes = BTreeMap::new();
        for _ in 0..rng.random_range(1..6) {
            let value = rng.random_bool(0.6).then(|| random_value(rng));
            writes.insert(random_key(rng), value);
        }
        for (key, value) in &writes {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        let writes = writes.into_iter().map(|(key, value)| StateWrite {
            key,
            value,
            ..StateWrite::default()
        });
        let turn = bench.turn().turn;
        let end = TurnEnd::Ok {
            reply: Bytes::new(),
            writes: writes.collect(),
            sends: Vec::new(),
            schedule: Vec::new(),
        };
        bench.end(turn, end);
    }
    assert!(bench.log.is_empty(), "seed {seed}: nothing is committed");
    let turn = bench.turn().turn;
    (bench, turn, map)
}

#[test]
fn scan_pages_of_any_cut_equal_the_reference_map_under_random_overlays() {
    for seed in 0..SEEDS {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let (mut bench, turn, map) = stage(seed, rng);
        bench.page_bytes = rng.random_range(1..200);
        for prefix in ["", "a", "b", "ab"] {
            let limit = rng.random_range(1..8);
            let expected: Vec<_> = map
                .iter()
                .filter(|(key, _)| key.starts_with(prefix.as_bytes()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let seen = walk(&mut bench, turn, &Bytes::from(prefix), limit);
            assert_eq!(
                seen, expected,
                "seed {seed}: prefix {prefix:?}, pages of {limit} rows or {} bytes",
                bench.page_bytes
            );
        }
    }
}
