//! Movement, balance, zones, weights, golden lists. Fixed ids: the same result on every run and
//! machine.

use std::collections::BTreeMap;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::hash::{hash64, partition_of};
use proptest::prelude::*;

use super::*;

fn id(n: u64) -> NodeId {
    let half = |salt: u8| u128::from(hash64(salt, &n.to_le_bytes()));
    NodeId((half(1) << 64) | half(2))
}

fn plain(nodes: impl IntoIterator<Item = u64>) -> Vec<Candidate> {
    nodes
        .into_iter()
        .map(|n| Candidate::new(id(n), 1, ""))
        .collect()
}

fn table(ring: &Ring, candidates: &[Candidate]) -> PreferenceTable {
    PreferenceTable::compute(ring, candidates)
}

/// Checks a join in both directions; gives (moved primaries, moved copies, all copies).
#[track_caller]
fn check_join(ring: &Ring, before: &[Candidate], joiner: &Candidate) -> (usize, usize, usize) {
    let mut after = before.to_vec();
    after.push(joiner.clone());
    let (old, new) = (table(ring, before), table(ring, &after));
    let (mut primaries, mut copies, mut total) = (0, 0, 0);
    for (p, list) in new.iter() {
        let was = old.list(p);
        if list.first() != was.first() {
            assert_eq!(
                list[0], joiner.node,
                "{p}: a primary moved between old nodes"
            );
            primaries += 1;
        }
        let gained: Vec<_> = list.iter().filter(|n| !was.contains(n)).collect();
        let lost = was.iter().filter(|n| !list.contains(n)).count();
        assert!(
            gained.iter().all(|n| **n == joiner.node),
            "{p}: {was:?} -> {list:?}"
        );
        let room = was.len() < usize::from(ring.factor());
        assert_eq!(
            lost,
            if room { 0 } else { gained.len() },
            "{p}: {was:?} -> {list:?}"
        );
        copies += gained.len();
        total += list.len();
    }
    (primaries, copies, total)
}

#[test]
fn golden_lists() {
    let ring = Ring::new(256, 512, 3);
    let nodes: Vec<_> = (1..=5_u128)
        .map(|n| Candidate::new(NodeId(n), 1, ""))
        .collect();
    let found: Vec<Vec<u128>> = [0, 1, 17, 255]
        .map(|p| ring.preference_list(PartitionId(p), &nodes))
        .iter()
        .map(|list| list.iter().map(|n| n.0).collect())
        .collect();
    assert_eq!(found, GOLDEN);
    let table = table(&ring, &nodes);
    let digest: Vec<u8> = table
        .iter()
        .flat_map(|(_, list)| list.iter().map(|n| n.0 as u8))
        .collect();
    assert_eq!(hash64(0, &digest), GOLDEN_DIGEST);
}

const GOLDEN: [[u128; 3]; 4] = [[4, 2, 1], [4, 5, 3], [1, 5, 2], [3, 4, 1]];
const GOLDEN_DIGEST: u64 = 12_175_924_231_513_438_380;

#[test]
fn a_join_moves_only_to_the_new_node_and_within_the_bound() {
    for n in [1_u64, 2, 3, 5, 10, 20] {
        let ring = Ring::new(1_024, 512, 3);
        let nodes = plain(0..n);
        let joiner = Candidate::new(id(n), 1, "");
        let (primaries, copies, total) = check_join(&ring, &nodes, &joiner);
        let bound = 1.15 / (n + 1) as f64 + 0.02;
        let moved = primaries as f64 / 1_024.0;
        assert!(moved <= bound, "n={n}: primaries moved {moved} > {bound}");
        assert!(primaries > 0, "n={n}: the new node leads nothing");
        if n >= 3 {
            let moved = copies as f64 / total as f64;
            assert!(moved <= bound, "n={n}: copies moved {moved} > {bound}");
        }
    }
}

#[test]
fn a_hundred_thousand_keys() {
    let keys: Vec<ActorKey> = (0..100_000)
        .map(|k| ActorKey::new("default", "counter", &format!("key-{k}")).unwrap())
        .collect();
    for n in [3_u64, 5, 10] {
        let ring = Ring::new(1_024, 512, 3);
        let (old, new) = (table(&ring, &plain(0..n)), table(&ring, &plain(0..=n)));
        let mut moved = 0;
        for key in &keys {
            let p = partition_of(key, 1_024);
            if old.list(p)[0] != new.list(p)[0] {
                assert_eq!(new.list(p)[0], id(n));
                moved += 1;
            }
        }
        let (share, bound) = (f64::from(moved) / 1e5, 1.15 / (n + 1) as f64 + 0.02);
        assert!(share <= bound, "n={n}: {share} > {bound}");
    }
}

#[test]
fn balance() {
    for n in [3_u64, 5, 10] {
        let table = table(&Ring::new(1_024, 512, 3), &plain(0..n));
        let mut primaries: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut copies: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (_, list) in table.iter() {
            *primaries.entry(list[0]).or_default() += 1;
            for node in list {
                *copies.entry(*node).or_default() += 1;
            }
        }
        for (what, counts, share, bound) in [
            ("primaries", &primaries, 1.0, 1.30),
            ("copies", &copies, 3.0, 1.15),
        ] {
            let mean = 1_024.0 * share / n as f64;
            let max = *counts.values().max().unwrap() as f64;
            assert_eq!(counts.len() as u64, n);
            assert!(max / mean <= bound, "n={n}: {what} max/mean {}", max / mean);
        }
    }
}

#[test]
fn weights_are_proportional_and_an_edge_holds_nothing() {
    let ring = Ring::new(4_096, 512, 1);
    let nodes: Vec<_> = [0, 1, 2, 4]
        .map(|w| Candidate::new(id(u64::from(w)), w, ""))
        .into();
    let table = table(&ring, &nodes);
    let share = |n| table.iter().filter(|(_, list)| list[0] == id(n)).count() as f64 / 4_096.0;
    assert_eq!(share(0), 0.0);
    for (n, expected) in [(1, 1.0 / 7.0), (2, 2.0 / 7.0), (4, 4.0 / 7.0)] {
        assert!(
            (share(n) - expected).abs() < 0.03,
            "weight {n}: {}",
            share(n)
        );
    }
    // As hosts, edges count like weight 1 and nothing else changes.
    let as_hosts = PreferenceTable::compute_hosts(&ring, &nodes);
    let hosted = as_hosts.iter().filter(|(_, list)| list[0] == id(0)).count();
    assert!(
        (hosted as f64 / 4_096.0 - 1.0 / 8.0).abs() < 0.03,
        "{hosted}"
    );
    let unit = PreferenceTable::compute_hosts(&ring, &[Candidate::new(id(1), 0, "")]);
    assert!(unit.iter().all(|(_, list)| list == [id(1)]));
}

#[test]
fn zones_spread_and_keep_the_first_choice() {
    let ring = Ring::new(1_024, 512, 3);
    let zone = |n: u64| ["a", "b", "c"][n as usize % 3];
    let zoned: Vec<_> = (0..7).map(|n| Candidate::new(id(n), 1, zone(n))).collect();
    let (with, without) = (table(&ring, &zoned), table(&ring, &plain(0..7)));
    for (p, list) in with.iter() {
        assert_eq!(list[0], without.list(p)[0], "{p}");
        let zone_of = |node| zoned.iter().find(|c| c.node == node).unwrap().zone.as_str();
        let zones: BTreeSet<&str> = list.iter().map(|n| zone_of(*n)).collect();
        assert_eq!(zones.len(), 3, "{p}: {list:?}");
    }
    // Two zones for three copies: both are used, and the third copy goes to the next node.
    let two: Vec<_> = (0..6)
        .map(|n| Candidate::new(id(n), 1, ["a", "b"][n as usize % 2]))
        .collect();
    for (p, list) in table(&ring, &two).iter() {
        let zone_of = |node: &NodeId| two.iter().find(|c| c.node == *node).unwrap().zone.as_str();
        let zones: BTreeSet<&str> = list.iter().map(zone_of).collect();
        assert_eq!((list.len(), zones.len()), (3, 2), "{p}");
    }
}

#[test]
fn few_nodes_and_none() {
    let ring = Ring::new(16, 8, 3);
    assert!(table(&ring, &[]).list(PartitionId(3)).is_empty());
    let edge = [Candidate::new(id(1), 0, "")];
    assert!(table(&ring, &edge).list(PartitionId(3)).is_empty());
    let two = table(&ring, &plain(0..2));
    assert!(two.iter().all(|(_, list)| list.len() == 2));
    // Order and doubles do not matter.
    let mut shuffled = plain([4, 2, 3, 1]);
    shuffled.extend(plain([2, 4]));
    assert_eq!(table(&ring, &shuffled), table(&ring, &plain(1..=4)));
    let list = ring.preference_list(PartitionId(5), &plain(1..=4));
    assert_eq!(list, table(&ring, &plain(1..=4)).list(PartitionId(5)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// On any join every list changes by the new node alone; a leave is the same, read backwards.
    #[test]
    fn movement_is_exact(
        nodes in proptest::collection::btree_map(0_u64..1_000, (1_u32..4, 0_usize..4), 1..9),
        joiner in 1_000_u64..2_000, weight in 1_u32..4, zone in 0_usize..4, factor in 1_u8..6,
    ) {
        let zones = ["", "a", "b", "c"];
        let ring = Ring::new(64, 16, factor);
        let nodes: Vec<_> =
            nodes.iter().map(|(n, (w, z))| Candidate::new(id(*n), *w, zones[*z])).collect();
        check_join(&ring, &nodes, &Candidate::new(id(joiner), weight, zones[zone]));
    }
}
