//! What leaves before the sync, and what after; what is synced at all.

use ghostlight_protocol::ids::PeerId;
use ghostlight_protocol::limits::{APPEND_BYTES_MAX, FRAME_HEADER_BYTES_MAX};
use prost11::Message as _;
use raft::eraftpb::{Message, MessageType};

use super::cluster::{Cluster, Snapshots, node_id};
use super::disk::Disk;
use super::{learner, swap};
use crate::replica::{Change, Outgoing, Promise, Role};

fn follower_of(leader: u64) -> u64 {
    if leader == 1 { 2 } else { 1 }
}

fn appends_from(cluster: &Cluster, node: u64) -> usize {
    let appends = |mail: &&super::cluster::Mail| {
        mail.from == node && matches!(mail.body, Outgoing::Append(..))
    };
    cluster.mail.iter().filter(appends).count()
}

/// Guards the filter on `promise` in `one_ready`.
#[test]
fn a_commit_index_alone_is_not_synced() {
    let (mut cluster, leader) = Cluster::led(20, 3);
    let follower = follower_of(leader);
    let before = cluster.group(follower).commit();
    cluster.slow.insert(follower);
    cluster.propose(leader, "a");
    assert_eq!(cluster.at(follower).unsynced.len(), 1, "the entry");
    cluster.persist(follower);
    cluster.pump(follower);
    cluster.settle();
    cluster.ticks(4);
    assert!(cluster.group(follower).commit() > before, "the commit came");
    assert!(
        cluster.at(follower).unsynced.is_empty(),
        "and nothing to sync with it"
    );
}

/// Guards `promise_after`: a heartbeat's answer promises the term alone, and waits only for a term.
#[test]
fn answers_to_heartbeats_leave_before_entries_are_synced_but_not_before_a_term() {
    let (mut cluster, leader) = Cluster::led(21, 3);
    let follower = follower_of(leader);
    cluster.slow.insert(follower);
    cluster.propose(leader, "a");
    assert!(!cluster.at(follower).unsynced.is_empty());
    cluster.group(leader).tick();
    cluster.group(leader).tick();
    cluster.group(leader).tick();
    cluster.pump(leader);
    let answered = |cluster: &mut Cluster| {
        let mut answers = 0;
        while let Some(mail) = cluster.mail.pop_front() {
            let is_answer = matches!(mail.body, Outgoing::HeartbeatAnswer(..));
            answers += usize::from(is_answer && mail.from == follower);
            cluster.deliver(mail);
        }
        answers
    };
    assert_eq!(answered(&mut cluster), 1, "an entry does not hold it");
    assert!(!cluster.at(follower).unsynced.is_empty());

    cluster.persist(follower);
    cluster.pump(follower);
    cluster.settle();
    // A new term, unsynced on the follower: now it waits.
    let term = cluster.group(leader).term().0 + 1;
    let heartbeat = ghostlight_protocol::wire::frame::Heartbeat {
        partition: 21,
        from: leader,
        to: follower,
        term,
        commit: 0,
        context: bytes::Bytes::new(),
    };
    let group = cluster.group(follower);
    assert_eq!(
        group.step_heartbeat(node_id(leader), &heartbeat),
        Promise::Kept
    );
    cluster.pump(follower);
    assert_eq!(cluster.at(follower).unsynced.len(), 1, "the term");
    assert!(cluster.mail.is_empty(), "{:?}", cluster.mail);
    cluster.persist(follower);
    assert_eq!(cluster.mail.len(), 1);
    assert!(matches!(
        cluster.mail[0].body,
        Outgoing::HeartbeatAnswer(..)
    ));
}

/// Guards the held messages of `promise_after` and the order in `persisted`.
#[test]
fn a_follower_acknowledges_only_what_is_synced() {
    let (mut cluster, leader) = Cluster::led(22, 3);
    cluster.ticks(4);
    let followers: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.slow.extend(&followers);
    let commit = cluster.group(leader).commit();
    cluster.propose(leader, "a");
    cluster.propose(leader, "b");
    for node in &followers {
        assert_eq!(appends_from(&cluster, *node), 0);
        assert_eq!(cluster.at(*node).unsynced.len(), 2, "two batches");
    }
    assert_eq!(
        cluster.group(leader).commit(),
        commit,
        "one copy is no majority"
    );
    cluster.persist_one(followers[0]);
    assert_eq!(
        appends_from(&cluster, followers[0]),
        1,
        "for the first batch alone"
    );
    cluster.settle();
    assert_eq!(cluster.group(leader).commit(), commit.next());
    // Lost with the crash: the second batch was promised to nobody.
    cluster.crash(followers[0]);
    cluster.restart(followers[0]);
    cluster.slow.clear();
    cluster.ticks(4);
    cluster.persist(followers[1]);
    cluster.pump(followers[1]);
    cluster.assert_agree(2);
}

/// Guards the leader's own part: its appends leave at once, its own copy counts when synced.
#[test]
fn a_leader_replicates_while_it_syncs() {
    let (mut cluster, leader) = Cluster::led(23, 3);
    cluster.ticks(4);
    cluster.slow.insert(leader);
    let commit = cluster.group(leader).commit();
    cluster.propose(leader, "a");
    assert_eq!(
        cluster.group(leader).commit(),
        commit.next(),
        "by the other two"
    );
    assert_eq!(
        cluster.at(leader).disk.rows.len(),
        0,
        "not applied before it is durable here"
    );
    cluster.persist(leader);
    cluster.pump(leader);
    cluster.assert_agree(1);

    let (mut alone, leader) = Cluster::led(23, 1);
    alone.slow.insert(leader);
    let commit = alone.group(leader).commit();
    alone.propose(leader, "a");
    assert_eq!(
        alone.group(leader).commit(),
        commit,
        "its own sync is the majority"
    );
    alone.persist(leader);
    alone.pump(leader);
    assert_eq!(alone.group(leader).commit(), commit.next());
}

/// Guards the hold on a leader's messages in `promise_after`: a sole voter elects itself in one
/// step, before its vote is synced; after a crash it would lead the same term again with other
/// entries.
#[test]
fn a_sole_voter_says_nothing_before_its_own_vote_is_synced() {
    let (mut cluster, leader) = Cluster::led(24, 1);
    cluster.start(2, Disk::empty(PeerId(2)));
    cluster.change(leader, &learner(2));
    cluster.ticks(10);
    assert!(cluster.group(2).is_initialized());
    cluster.crash(1);
    cluster.restart(1);

    cluster.slow.insert(1);
    cluster.group(1).campaign();
    cluster.pump(1);
    let term = cluster.group(1).term();
    assert_eq!(cluster.group(1).role(), Role::Leader);
    let proposed = cluster.group(1).propose(b"lost".to_vec());
    assert_eq!(proposed, Ok(()));
    cluster.pump(1);
    cluster.ticks(4);
    assert!(
        cluster.group(2).term() < term,
        "the learner has heard of a term that can be lost"
    );
    cluster.crash(1);
    cluster.restart(1);
    cluster.slow.clear();
    cluster.group(1).campaign();
    cluster.pump(1);
    assert_eq!(cluster.group(1).term(), term, "the same term again");
    cluster.propose(1, "kept");
    cluster.propose(1, "next");
    cluster.assert_agree(2);
}

/// Guards the rest of `tick`, `campaign` and `step` while an install is not synced: the engine
/// would look for entries between applied and the snapshot, find them cut, and end the process.
#[test]
fn a_replica_that_installs_does_not_campaign() {
    let (mut cluster, leader) = Cluster::led(25, 3);
    cluster.ticks(4);
    let asleep = follower_of(leader);
    cluster.cut.insert(asleep);
    cluster.ticks(30);
    let leader = cluster.elect();
    for number in 0..1_500 {
        cluster.propose(leader, &number.to_string());
    }
    cluster.ticks(4);
    assert!(cluster.truncate(leader).is_some());
    cluster.cut.clear();
    cluster.slow.insert(asleep);
    for _ in 0..40 {
        cluster.tick();
        let installs =
            |(_, install, _): &(u64, Option<crate::replica::Install>, _)| install.is_some();
        if cluster.at(asleep).unsynced.iter().any(installs) {
            break;
        }
        if cluster.at(asleep).unsynced.len() == 1 {
            // A term on the way there.
            cluster.persist(asleep);
            cluster.pump(asleep);
            cluster.settle();
        }
    }
    assert!(cluster.at(asleep).unsynced[0].1.is_some(), "it installs");
    cluster.cut.insert(leader);
    for _ in 0..60 {
        cluster.tick_node(asleep);
    }
    cluster.group(asleep).campaign();
    let mut now = Message {
        from: leader,
        to: asleep,
        term: cluster.group(asleep).term().0,
        ..Message::default()
    };
    now.set_msg_type(MessageType::MsgTimeoutNow);
    cluster
        .group(asleep)
        .step(node_id(leader), &now.encode_to_vec());
    cluster.pump(asleep);
    let role = cluster.group(asleep).role();
    assert!(matches!(role, Role::Follower { .. }), "{role:?}");

    cluster.slow.clear();
    cluster.persist(asleep);
    cluster.pump(asleep);
    assert_eq!(cluster.at(asleep).disk.rows.len(), 1_500);
    cluster.elect();
    cluster.cut.clear();
    cluster.assert_agree(1_500);
}

/// Guards `Install` and the order in `persisted`: entries behind an unsynced snapshot wait for it.
#[test]
fn entries_behind_a_snapshot_wait_for_it() {
    let (mut cluster, leader) = Cluster::led(26, 1);
    cluster.propose(leader, "a");
    cluster.start(2, Disk::empty(PeerId(2)));
    cluster.snapshots = Snapshots::Held;
    cluster.change(leader, &learner(2));
    cluster.until("a wish", |c| !c.replicas[&leader].wanted.is_empty());
    cluster.slow.insert(2);
    cluster.snapshots = Snapshots::Carried;
    cluster.pump(leader);
    cluster.settle();
    assert!(cluster.at(2).unsynced[0].1.is_some(), "the install");
    assert_eq!(cluster.group(2).applied().0, 0, "not before it is in place");
    cluster.propose(leader, "b");
    cluster.ticks(10);
    assert_eq!(appends_from(&cluster, 2), 0);
    let matched = cluster.group(leader).progress()[&PeerId(2)].matched;
    assert_eq!(matched.0, 0, "nothing was promised");
    cluster.slow.clear();
    cluster.persist(2);
    cluster.pump(2);
    cluster.settle();
    cluster.assert_agree(2);
    cluster.start(3, Disk::empty(PeerId(3)));
    cluster.change(leader, &learner(3));
    cluster.ticks(10);
    cluster.change(leader, &swap(&[2, 3], &[]));
    cluster.ticks(5);
    cluster.change(leader, &Change::LeaveJoint);
    cluster.assert_agree(2);
}

/// Guards `split_append`: the engine merges what one turn of the loop proposes without any bound.
/// Small proposals travel together; large ones in messages that fit into a frame, and arrive.
#[test]
fn what_a_turn_proposes_travels_in_few_messages_of_bounded_size() {
    let (mut cluster, leader) = Cluster::led(25, 3);
    cluster.ticks(4);
    let follower = node_id(follower_of(leader));
    let mut rows = 0;
    let mut propose = |cluster: &mut Cluster, count: usize, bytes: usize| {
        for number in 0..count {
            let mut data = number.to_string().into_bytes();
            data.resize(bytes, b' ');
            assert_eq!(cluster.group(leader).propose(data), Ok(()));
        }
        cluster.pump(leader);
        let appends = cluster.mail.iter().filter_map(|mail| match &mail.body {
            Outgoing::Append(to, message) if *to == follower => Some(message.len()),
            _ => None,
        });
        let sizes: Vec<usize> = appends.collect();
        cluster.settle();
        rows += count;
        cluster.assert_agree(rows);
        sizes
    };
    assert_eq!(propose(&mut cluster, 1_000, 16).len(), 1);
    let sizes = propose(&mut cluster, 12, 1 << 20);
    assert_eq!(sizes.len(), 12, "{sizes:?}");
    let limit = APPEND_BYTES_MAX as usize + FRAME_HEADER_BYTES_MAX;
    assert!(sizes.iter().all(|size| *size <= limit), "{sizes:?}");
    let sizes = propose(&mut cluster, 100, 100 << 10);
    assert_eq!(sizes.len(), 10, "{sizes:?}");
    // An entry that is larger travels alone.
    assert_eq!(propose(&mut cluster, 2, 5 << 20).len(), 2);
}
