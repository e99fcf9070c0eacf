//! Traps 9 to 17.

use std::process::Command;

use ghostlight_protocol::ids::{LogIndex, PeerId, Term};
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::wire::frame::Heartbeat;
use raft::{Error, GetEntriesContext, Storage as _, StorageError};

use super::cluster::{Cluster, Snapshots, node_id};
use super::disk::Disk;
use super::{learner, panic_of, swap};
use crate::replica::tail::{TailLog, position};
use crate::replica::{
    Change, Group, GroupSettings, LogBounds, Outgoing, Promise, Role, SnapshotResult, convert,
};

fn starts(disk: &Disk) -> Group {
    let partition = ghostlight_protocol::ids::PartitionId(9);
    Group::new(
        &disk.recovered(partition),
        &GroupSettings {
            seed: 1,
            log: LogBounds::default(),
        },
    )
}

/// A disk with entries 6 to 9, of which 8 are committed and applied.
fn used_disk() -> Disk {
    let (mut cluster, leader) = Cluster::led(9, 1);
    for data in ["a", "b", "c"] {
        cluster.propose(leader, data);
    }
    cluster.crash(leader);
    let disk = cluster.disk(leader);
    assert_eq!((disk.last().index.0, disk.applied().0), (9, 9));
    disk
}

/// Guards the assert in `Group::new`: said in our words, before the engine says it in its own.
#[test]
fn trap_09_a_commit_index_outside_the_log_does_not_start() {
    let good = used_disk();
    assert_eq!(starts(&good).commit(), LogIndex(9));
    let mut bad = good.clone();
    bad.hard_state.commit = LogIndex(10);
    let said = panic_of(|| starts(&bad));
    assert!(said.contains("commit i10, last i9"), "{said}");
    let mut bad = good.clone();
    bad.log.pop();
    let said = panic_of(|| starts(&bad));
    assert!(said.contains("commit i9, last i8"), "{said}");
    let mut bad = good;
    bad.log.remove(1);
    let said = panic_of(|| starts(&bad));
    assert!(said.contains("no gaps"), "{said}");
}

/// Guards `snapshot_over`: after any outcome the engine asks again; without one it waits for ever.
#[test]
fn trap_10_a_snapshot_that_failed_is_sent_again() {
    let (mut cluster, leader) = Cluster::led(10, 1);
    cluster.propose(leader, "a");
    cluster.start(2, Disk::empty(PeerId(2)));
    cluster.snapshots = Snapshots::Held;
    cluster.change(leader, &learner(2));
    cluster.until("the first wish", |c| !c.replicas[&leader].wanted.is_empty());

    // Never opened.
    cluster.at(leader).wanted.clear();
    cluster.ticks(100);
    assert!(
        cluster.at(leader).wanted.is_empty(),
        "one wish until it is over"
    );
    cluster.give_up(leader, PeerId(2), SnapshotResult::Failed);
    cluster.until("wanted again", |c| !c.replicas[&leader].wanted.is_empty());

    // Lost under way; then lost although it was reported to have arrived.
    for result in [SnapshotResult::Failed, SnapshotResult::Arrived] {
        cluster.open_wanted(leader);
        cluster.pump(leader);
        let sent = cluster.mail.len();
        cluster
            .mail
            .retain(|mail| !matches!(mail.body, Outgoing::Snapshot { .. }));
        assert_eq!(sent - cluster.mail.len(), 1, "{result:?}: sent once");
        cluster.ticks(100);
        assert!(cluster.at(leader).wanted.is_empty(), "{result:?}: paused");
        let pending = cluster.group(leader).progress()[&PeerId(2)].pending_snapshot;
        assert!(pending.is_some(), "{result:?}");
        cluster.give_up(leader, PeerId(2), result);
        cluster.until("wanted again", |c| !c.replicas[&leader].wanted.is_empty());
    }
    cluster.snapshots = Snapshots::Carried;
    cluster.pump(leader);
    cluster.assert_agree(1);
}

/// Guards `step_message`, which drops the engine's errors but not its panics.
#[test]
fn trap_11_what_the_engine_calls_fatal_ends_the_process() {
    let (mut cluster, leader) = Cluster::led(11, 3);
    let follower = if leader == 1 { 2 } else { 1 };
    let impossible = Heartbeat {
        partition: 11,
        from: leader,
        to: follower,
        term: cluster.group(leader).term().0,
        commit: 1_000,
        context: bytes::Bytes::new(),
    };
    // A commit past the log would be fatal; it is seen before, and says that a promise was lost.
    let group = cluster.group(follower);
    let (last, commit) = (group.last().index, group.commit());
    let lost = Promise::Lost {
        acknowledged: LogIndex(1_000),
        last,
    };
    assert_eq!(group.step_heartbeat(node_id(leader), &impossible), lost);
    assert_eq!(group.commit(), commit);
    // Nobody but a leader of the group knows what was promised.
    let rows = [
        (node_id(9), impossible.clone()),
        (
            node_id(leader),
            Heartbeat {
                from: 9,
                ..impossible.clone()
            },
        ),
        (
            node_id(leader),
            Heartbeat {
                term: 1,
                ..impossible.clone()
            },
        ),
        (
            node_id(leader),
            Heartbeat {
                to: 9,
                ..impossible.clone()
            },
        ),
    ];
    for (from, heartbeat) in rows {
        assert_eq!(
            group.step_heartbeat(from, &heartbeat),
            Promise::Kept,
            "{heartbeat:?}"
        );
    }
    let applied = cluster.group(leader).applied();
    let said = panic_of(|| cluster.group(leader).set_applied(LogIndex(applied.0 - 1)));
    assert!(said.contains("applied goes forward"), "{said}");
}

/// Guards the write of a hard state by a replica without members, and `applied`, which only the
/// store moves.
#[test]
fn trap_12_a_learner_keeps_its_vote_and_nobody_campaigns_with_an_unapplied_change() {
    let (mut cluster, leader) = Cluster::led(12, 1);
    cluster.start(2, Disk::empty(PeerId(2)));
    cluster.snapshots = Snapshots::Held;
    cluster.change(leader, &learner(2));
    cluster.ticks(10);
    let term = cluster.group(leader).term();
    assert!(!cluster.group(2).is_initialized());
    assert_eq!(
        cluster.at(2).disk.term(),
        term,
        "synced before the first snapshot"
    );
    cluster.crash(2);
    cluster.restart(2);
    assert_eq!(cluster.group(2).term(), term, "a restart keeps it");
    cluster.ticks(60);
    assert_eq!(cluster.group(2).term(), term, "it never campaigns");

    let mut cluster = Cluster::new(12, 3);
    cluster.group(1).campaign();
    assert_eq!(cluster.elect(), 1);
    cluster.lazy = [2, 3].into();
    cluster.change(1, &learner(4));
    cluster.ticks(5);
    cluster.crash(1);
    for _ in 0..60 {
        cluster.tick();
        for node in [2, 3] {
            let role = cluster.group(node).role();
            assert!(matches!(role, Role::Follower { .. }), "n{node}: {role:?}");
        }
    }
    for node in [2, 3] {
        cluster.apply(node);
    }
    cluster.lazy.clear();
    cluster.elect();
}

/// Guards the asserts of `engine_change` about what a group may become.
#[test]
fn trap_13_no_change_passes_through_two_voters() {
    let mut cluster = Cluster::new(13, 3);
    cluster.group(1).campaign();
    assert_eq!(cluster.elect(), 1);
    let last = cluster.group(1).last();
    let two = panic_of(|| cluster.group(1).change(&swap(&[], &[3])));
    assert!(two.contains("two voters"), "{two}");
    let voter = panic_of(|| cluster.group(1).change(&Change::RemoveLearner(PeerId(3))));
    assert!(voter.contains("not a learner"), "{voter}");
    assert_eq!(cluster.group(1).last(), last);

    let (mut alone, leader) = Cluster::led(13, 1);
    alone.start(2, Disk::empty(PeerId(2)));
    alone.change(leader, &learner(2));
    alone.ticks(10);
    let two = panic_of(|| alone.group(1).change(&swap(&[2], &[])));
    assert!(two.contains("two voters"), "{two}");
    // One for one is a replacement.
    alone.change(leader, &swap(&[2], &[1]));
    alone.ticks(5);
    assert!(alone.group(leader).membership().is_joint());
    alone.group(leader).transfer(PeerId(2));
    alone.pump(leader);
    alone.settle();
    assert_eq!(alone.elect(), 2);
    alone.change(2, &Change::LeaveJoint);
    alone.crash(1);
    alone.propose(2, "a");
    assert_eq!(alone.at(2).disk.rows.len(), 1);
}

/// Guards the discarding logger in `Group::new`: the engine has much to say and nobody to say it
/// to.
#[test]
fn trap_14_the_engine_writes_no_log_of_its_own() {
    let this = std::env::current_exe().expect("a test is a program");
    let grown = "replica::traps::first::trap_08_one_founder_grows_to_three_voters";
    let child = Command::new(this)
        .args(["--exact", grown, "--nocapture", "--test-threads=1"])
        .env("RUST_LOG", "trace")
        .output()
        .expect("it starts again");
    let said = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("1 passed"), "{said}");
    for word in [
        "became",
        "raft_id",
        "INFO",
        "DEBG",
        "configuration",
        "election",
    ] {
        assert!(!said.contains(word), "{word}: {said}");
    }
}

/// Guards `ready`: a commit index alone is not synced, and applying is what brings it to the disk.
#[test]
fn trap_15_a_replica_starts_again_wherever_applying_stopped() {
    for stop in 0..6 {
        let (mut cluster, leader) = Cluster::led(15, 3);
        cluster.ticks(4);
        let node = if leader == 1 { 2 } else { 1 };
        cluster.lazy.insert(node);
        for data in ["a", "b", "c", "d", "e"] {
            cluster.propose(leader, data);
        }
        cluster.ticks(4);
        for _ in 0..stop {
            cluster.apply_one(node);
        }
        cluster.crash(node);
        let disk = cluster.disk(node);
        assert_eq!(disk.rows.len(), stop);
        assert!(disk.applied() <= disk.hard_state.commit);
        cluster.lazy.clear();
        cluster.restart(node);
        assert_eq!(cluster.group(node).applied(), disk.applied(), "stop {stop}");
        cluster.assert_agree(5);
    }
    let mut torn = used_disk();
    torn.hard_state.commit = LogIndex(8);
    let said = panic_of(|| starts(&torn));
    assert!(said.contains("applied i9, commit i8"), "{said}");
}

/// Guards `TailLog::entries` and `truncate`: nothing above the cut is ever cold; below it, a
/// snapshot.
#[test]
fn trap_16_entries_are_warm_above_the_cut_and_snapshots_below() {
    let entries: Vec<_> = (6..=2_000)
        .map(|index| raft::eraftpb::Entry {
            index,
            term: 5,
            data: vec![7; 10],
            ..Default::default()
        })
        .collect();
    let hard_state = convert::engine_hard_state(HardState::default());
    let mut log = TailLog::new(
        hard_state,
        Default::default(),
        position(5, 5),
        entries.into(),
    );
    for cut in [5, 6, 900, 1_999] {
        log.truncate(LogIndex(cut));
        for low in [6, 7, 100, 901, 1_500, 1_999] {
            let context = GetEntriesContext::empty(true);
            let found = log.entries(low, 2_001, None, context);
            if low > cut {
                assert_eq!(
                    found.expect("warm").len() as u64,
                    2_001 - low,
                    "{low} of {cut}"
                );
            } else {
                assert_eq!(
                    found,
                    Err(Error::Store(StorageError::Compacted)),
                    "{low} of {cut}"
                );
            }
        }
    }

    // In a group: one that slept through the cut is served by a snapshot, one that did not by the
    // log.
    for (entries, by_snapshot) in [(300, 0), (1_500, 1)] {
        let (mut cluster, leader) = Cluster::led(16, 3);
        cluster.ticks(4);
        let asleep = if leader == 1 { 2 } else { 1 };
        cluster.cut.insert(asleep);
        cluster.ticks(30);
        let leader = cluster.elect();
        for number in 0..entries {
            cluster.propose(leader, &number.to_string());
        }
        cluster.ticks(4);
        cluster.truncate(leader);
        cluster.cut.clear();
        cluster.assert_agree(entries);
        assert_eq!(cluster.snapshots_sent, by_snapshot, "{entries} entries");
    }
}

/// Guards the recovered hard state in `Group::new`: index 5, term 5, and nothing before.
#[test]
fn trap_17_the_synthetic_start_needs_its_hard_state() {
    let disk = Disk::founded(PeerId(1), 1);
    assert_eq!(disk.last(), position(5, 5));
    let group = starts(&disk);
    assert_eq!(
        (group.term(), group.commit(), group.applied()),
        (Term(5), LogIndex(5), LogIndex(5))
    );
    let mut bare = disk;
    bare.hard_state = HardState::default();
    let said = panic_of(|| starts(&bare));
    assert!(said.contains("applied i5, commit i0"), "{said}");

    let (mut cluster, leader) = Cluster::led(17, 1);
    assert_eq!(cluster.group(leader).last(), position(6, 6));
    cluster.propose(leader, "first");
    assert_eq!(cluster.at(leader).disk.last(), position(7, 6));
    cluster.assert_agree(1);
}
