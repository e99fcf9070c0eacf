//! Leaders that change, votes that race, logs that are cut.

use std::collections::BTreeSet;

use ghostlight_protocol::ids::{LogIndex, PartitionId, PeerId};
use ghostlight_protocol::partition_row::Membership;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cluster::Cluster;
use crate::replica::{AllLogs, Heard, LogBounds, LogRoom, Outgoing, ProposeRefused, Role, ranks};

/// Guards `transfer` and `abort_transfer`.
#[test]
fn leadership_is_handed_over_and_given_back() {
    let (mut cluster, leader) = Cluster::led(30, 3);
    cluster.propose(leader, "a");
    let heir = leader % 3 + 1;
    cluster.group(heir).transfer(PeerId(leader));
    cluster.pump(heir);
    assert!(cluster.mail.is_empty(), "only a leader hands over");
    cluster.group(leader).transfer(PeerId(heir));
    cluster.pump(leader);
    cluster.settle();
    assert_eq!(cluster.elect(), heir, "at once");
    cluster.propose(heir, "b");

    // To one that does not answer: refused until given up, and then as before.
    let silent = heir % 3 + 1;
    cluster.cut.insert(silent);
    cluster.propose(heir, "c");
    cluster.group(heir).transfer(PeerId(silent));
    cluster.pump(heir);
    let dropped = cluster.group(heir).propose(b"d".to_vec());
    assert_eq!(dropped, Err(ProposeRefused::Dropped));
    cluster.group(heir).abort_transfer();
    cluster.propose(heir, "d");
    cluster.cut.clear();
    cluster.assert_agree(4);
}

/// Guards everything at once: what was applied anywhere is applied everywhere, whoever leads,
/// whatever was lost on the way. The cluster itself checks one history and one leader per term.
#[test]
fn a_change_of_leaders_drops_nothing_committed() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let voters = [3, 5][seed as usize % 2];
        let mut cluster = Cluster::new(31, voters);
        let mut applied: Vec<bytes::Bytes> = Vec::new();
        for number in 0..40 {
            let node = rng.random_range(1..=voters);
            match rng.random_range(0..8) {
                0 => drop(cluster.cut.insert(node)),
                1 | 2 => cluster.cut.clear(),
                3 => {
                    cluster.crash(node);
                    cluster.restart(node);
                }
                4 => drop(cluster.slow.insert(node)),
                5 => {
                    for node in std::mem::take(&mut cluster.slow) {
                        cluster.persist(node);
                        cluster.pump(node);
                    }
                }
                _ => {}
            }
            let ticks = rng.random_range(0..12);
            cluster.ticks(ticks);
            if let Some(leader) = cluster.leader() {
                // Refused or lost is fine; applied and lost is not.
                let _answer = cluster
                    .group(leader)
                    .propose(format!("{number}").into_bytes());
                cluster.pump(leader);
                cluster.settle();
            }
            let longest = cluster
                .replicas
                .values()
                .map(|r| &r.disk.rows)
                .max_by_key(|r| r.len());
            let longest = longest.expect("not empty");
            assert!(
                longest.len() < applied.len() || longest[..applied.len()] == applied[..],
                "seed {seed}, step {number}: {applied:?} became {longest:?}"
            );
            if longest.len() > applied.len() {
                applied.clone_from(longest);
            }
        }
        cluster.cut.clear();
        for node in std::mem::take(&mut cluster.slow) {
            cluster.persist(node);
            cluster.pump(node);
        }
        let leader = cluster.elect();
        cluster.propose(leader, "last");
        cluster.ticks(5);
        let rows = cluster.at(leader).disk.rows.clone();
        assert_eq!(rows[..applied.len()], applied[..], "seed {seed}");
        assert!(!applied.is_empty(), "seed {seed} did nothing");
        cluster.assert_agree(rows.len());
    }
}

/// Guards `ranks::election_timeout`: distinct in any membership, also a joint one, whoever led
/// last.
#[test]
fn ranked_timeouts_are_distinct_in_any_membership() {
    for seed in 0..3_000 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut some = |most: usize| -> Vec<u64> {
            let count = rng.random_range(1..=most);
            let peers: BTreeSet<u64> = (0..count).map(|_| rng.random_range(1..40)).collect();
            peers.into_iter().collect()
        };
        let joint = seed % 3 == 0;
        let membership = Membership {
            voters: some(5),
            voters_outgoing: if joint { some(5) } else { Vec::new() },
            ..Membership::default()
        };
        let voters: BTreeSet<u64> = membership
            .voters
            .iter()
            .chain(&membership.voters_outgoing)
            .copied()
            .collect();
        let leaders = voters.iter().copied().map(Some).chain([None, Some(99)]);
        for leader in leaders {
            let ticks: BTreeSet<usize> = voters
                .iter()
                .map(|peer| {
                    let partition = PartitionId((seed % 4_096) as u16);
                    let last_leader = leader.map(PeerId);
                    ranks::election_timeout(partition, &membership, PeerId(*peer), last_leader)
                })
                .collect();
            let expected: BTreeSet<usize> = (0..voters.len()).map(|rank| 11 + 2 * rank).collect();
            assert_eq!(
                ticks, expected,
                "seed {seed}, leader {leader:?}: {membership:?}"
            );
        }
    }
}

/// Guards `rank` and the jitter in `tick`: votes that get lost delay an election, they do not stop
/// it.
#[test]
fn candidates_without_verdict_try_again_and_one_wins() {
    for partition in 0..32 {
        let (mut cluster, first) = Cluster::led(partition, 5);
        cluster.crash(first);
        cluster.lose = |mail| matches!(mail.body, Outgoing::Vote(..));
        cluster.ticks(60);
        assert_eq!(cluster.leader(), None);
        cluster.lose = |_| false;
        let mut ticks = 0;
        while cluster.leader().is_none() {
            cluster.tick();
            ticks += 1;
            assert!(ticks < 40, "p{partition}: nobody leads");
        }
    }
}

/// Guards `HeardMemory` in `progress`: the engine forgets who was there at each check of its
/// quorum; a peer that answers counts as heard at every moment, and one that falls silent for as
/// long as the memory lasts.
#[test]
fn who_answers_is_heard_at_every_moment() {
    let (mut cluster, leader) = Cluster::led(35, 3);
    cluster.ticks(4);
    let heard = |cluster: &mut Cluster, node: u64| {
        let progress = cluster.group(leader).progress();
        progress[&PeerId(node)].heard
    };
    let (silent, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    for tick in 0..60 {
        cluster.tick();
        for node in [silent, other] {
            assert_eq!(
                heard(&mut cluster, node),
                Heard::Lately,
                "{node}, tick {tick}"
            );
        }
    }
    cluster.cut.insert(silent);
    let mut lasted = 0;
    while heard(&mut cluster, silent) == Heard::Lately {
        cluster.tick();
        lasted += 1;
        assert_eq!(heard(&mut cluster, other), Heard::Lately, "tick {lasted}");
        assert!(lasted < 40, "remembered for ever");
    }
    assert!((18..=21).contains(&lasted), "remembered for {lasted} ticks");
    // The front of the log waits for it as long, and no longer.
    for number in 0..2_000 {
        cluster.propose(leader, &number.to_string());
    }
    let cut = cluster
        .truncate(leader)
        .expect("nobody near needs it")
        .index;
    assert!(cut > cluster.group(leader).progress()[&PeerId(silent)].matched);
    cluster.cut.clear();
    cluster.ticks(4);
    assert_eq!(heard(&mut cluster, silent), Heard::Lately);
}

/// Guards `truncate` in the first second of a leadership: nobody has been heard then, and that says
/// nothing.
#[test]
fn a_new_leader_cuts_nothing_that_a_peer_may_need() {
    let (mut cluster, leader) = Cluster::led(36, 3);
    cluster.ticks(30);
    for number in 0..2_000 {
        cluster.propose(leader, &number.to_string());
    }
    cluster.cut.insert(leader);
    let next = cluster.elect();
    assert_ne!(next, leader);
    assert_eq!(cluster.truncate(next), None, "it has only begun");
    cluster.ticks(30);
    assert!(cluster.truncate(next).is_some(), "the old leader is silent");
}

/// Guards `truncate`: never past applied, never past a follower that was heard, in steps worth a
/// write, and not waiting for anybody when the log is crowded.
#[test]
fn the_log_is_cut_where_nobody_near_needs_it() {
    let (mut cluster, leader) = Cluster::led(34, 3);
    cluster.ticks(4);
    for number in 0..1_000 {
        cluster.propose(leader, &number.to_string());
    }
    cluster.ticks(10);
    assert_eq!(cluster.truncate(leader), None, "a small step");
    for number in 0..1_000 {
        cluster.propose(leader, &number.to_string());
    }
    cluster.ticks(10);
    let last = cluster.group(leader).last().index;
    let applied = cluster.group(leader).applied();
    assert_eq!(applied, last);
    let cut = cluster.truncate(leader).expect("a large step").index;
    assert_eq!(cut, LogIndex(applied.0 - 512));
    let follower = leader % 3 + 1;
    let cut = cluster
        .truncate(follower)
        .expect("followers cut for themselves")
        .index;
    assert_eq!(cut, LogIndex(applied.0 - 512));
    assert_eq!(cluster.truncate(leader), None, "nothing new");

    // Not applied here: not cut here, however much is committed.
    cluster.lazy.insert(follower);
    for number in 0..2_000 {
        cluster.propose(leader, &number.to_string());
    }
    assert_eq!(cluster.truncate(follower), None);
    cluster.apply(follower);
    cluster.lazy.clear();
    assert!(cluster.truncate(follower).is_some());

    // A follower that answers but whose disk is slow is waited for.
    cluster.ticks(10);
    assert!(cluster.truncate(leader).is_some());
    cluster.slow.insert(follower);
    for number in 0..3_000 {
        cluster.propose(leader, &number.to_string());
    }
    cluster.ticks(10);
    let matched = cluster.group(leader).progress()[&PeerId(follower)].matched;
    let cut = cluster.truncate(leader);
    assert!(
        cut.is_none_or(|cut| cut.index <= matched),
        "{cut:?}, {matched}"
    );
    // Until the log is too long for that.
    for number in 0..10_000 {
        cluster.propose(leader, &number.to_string());
    }
    let cut = cluster.truncate(leader).expect("crowded").index;
    assert!(cut > matched);
    assert_eq!(cut, LogIndex(cluster.group(leader).last().index.0 - 5_000));
    assert_eq!(cluster.group(leader).role(), Role::Leader);
}

/// Guards the memory of a node with many logs: each keeps for peers that are away what the node has
/// room for, and nothing where there is no peer.
#[test]
fn a_log_keeps_what_there_is_room_for_and_nothing_for_nobody() {
    const SCARCE: LogRoom = LogRoom::Scarce { share: 128 << 10 };
    for (seed, nodes, room, kept) in [
        (36, 3, LogRoom::Ample, 512),
        (37, 3, SCARCE, 64),
        (38, 1, LogRoom::Ample, 0),
        (39, 1, SCARCE, 0),
    ] {
        let (mut cluster, leader) = Cluster::led(seed, nodes);
        cluster.ticks(4);
        for number in 0..2_000 {
            cluster.propose(leader, &number.to_string());
        }
        cluster.ticks(10);
        let cut = cluster.truncate_in(leader, room);
        let cut = cut.expect("2,000 entries are more than anybody keeps");
        let left = cluster.group(leader).last().index.0 - cut.index.0;
        assert_eq!(left, kept, "{nodes} nodes, {room:?}");
        // Few entries are not worth a write of the disk.
        cluster.propose(leader, "one more");
        assert_eq!(cluster.truncate_in(leader, room), None);
    }
}

/// Guards the memory of a node with many logs of large entries: 64 entries each would be a
/// gigabyte.
#[test]
fn many_logs_of_large_entries_stay_within_the_bound_of_all() {
    const LOGS: u16 = 256;
    const ENTRY: usize = 60_000;
    let bounds = LogBounds::default();
    let mut logs: Vec<(Cluster, u64)> = (0..LOGS).map(|p| Cluster::led(p, 2)).collect();
    let all = AllLogs::default();
    for (cluster, leader) in &mut logs {
        cluster.group(*leader).count_log_among(&all);
    }
    let large = "x".repeat(ENTRY);
    let mut most = 0;
    for _ in 0..6 {
        for (cluster, leader) in &mut logs {
            cluster.propose(*leader, &large);
            cluster.ticks(1);
        }
        let each = logs.iter_mut();
        let each = each.map(|(cluster, leader)| cluster.group(*leader).log_bytes());
        let each: Vec<usize> = each.collect();
        assert_eq!(all.bytes(), each.iter().sum::<usize>());
        most = most.max(all.bytes());
        let room = bounds.room(all.bytes(), || each.iter().copied());
        for (cluster, leader) in &mut logs {
            cluster.truncate_in(*leader, room);
        }
        assert!(all.bytes() <= bounds.all_bytes_max, "{}", all.bytes());
    }
    assert!(most > bounds.all_bytes_max, "it was never scarce");
    drop(logs);
    assert_eq!(all.bytes(), 0, "a log takes its bytes along");
}

/// One log with much beside many with little: what those do not need is for it.
#[test]
fn what_small_logs_leave_is_for_the_large_ones() {
    let bounds = LogBounds {
        all_bytes_max: 1_000,
        ..LogBounds::default()
    };
    for (logs, share) in [
        (vec![10, 10, 980], None),
        (vec![10, 10, 2_000], Some(980)),
        (vec![10, 600, 2_000], Some(495)),
        (vec![400, 400, 400], Some(333)),
        (vec![2_000], Some(1_000)),
    ] {
        let room = bounds.room(logs.iter().sum(), || logs.iter().copied());
        let expected = share.map_or(LogRoom::Ample, |share| LogRoom::Scarce { share });
        assert_eq!(room, expected, "{logs:?}");
    }
}

/// Guards the bound in bytes: few entries can be many bytes, and a follower without network is not
/// waited for by them either.
#[test]
fn a_log_of_large_entries_is_cut_by_bytes() {
    const ENTRY: usize = 1 << 20;
    let (mut cluster, leader) = Cluster::led(35, 3);
    cluster.ticks(4);
    let large = "x".repeat(ENTRY);
    for _ in 0..8 {
        cluster.propose(leader, &large);
    }
    assert!(cluster.group(leader).is_crowded());
    cluster.truncate(leader).expect("crowded");
    assert!(!cluster.group(leader).is_crowded());

    // A follower that was heard lately holds the cut back, up to the second bound.
    let follower = leader % 3 + 1;
    cluster.cut.insert(follower);
    let matched = cluster.group(leader).progress()[&PeerId(follower)].matched;
    let mut furthest = matched;
    for number in 0..30 {
        cluster.propose(leader, &large);
        let Some(cut) = cluster.truncate(leader) else {
            continue;
        };
        let kept = cluster.group(leader).last().index.0 - cut.index.0;
        furthest = cut.index;
        assert!(kept <= 16, "{kept} MiB are kept after {number}");
        assert!(cut.index <= matched || kept <= 4, "{cut:?} past {matched}");
    }
    assert!(furthest > matched, "the follower needs a snapshot now");
}
