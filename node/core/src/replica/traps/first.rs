//! Traps 1 to 8.

use ghostlight_protocol::ids::{PartitionId, PeerId};
use prost11::Message as _;
use raft::eraftpb::{Entry, Message, MessageType};

use super::cluster::{Cluster, node_id};
use super::disk::Disk;
use super::{learner, panic_of, swap};
use crate::replica::{Change, Outgoing, ProposeRefused, ReadIndex, Role, ranks};

/// Guards the role check of `propose`, and the list of refused kinds in `step`.
#[test]
fn trap_01_a_proposal_is_never_forwarded() {
    let (mut cluster, leader) = Cluster::led(1, 3);
    let follower = if leader == 1 { 2 } else { 1 };
    let refused = cluster.group(follower).propose(b"a".to_vec());
    assert_eq!(refused, Err(ProposeRefused::NotLeader));
    let refused = cluster.group(follower).change(&learner(4));
    assert_eq!(refused, Err(ProposeRefused::NotLeader));
    cluster.pump(follower);
    assert!(cluster.mail.is_empty(), "{:?}", cluster.mail);

    let last = cluster.group(leader).last();
    for kind in [
        MessageType::MsgPropose,
        MessageType::MsgReadIndex,
        MessageType::MsgTransferLeader,
    ] {
        let mut forwarded = Message {
            from: follower,
            to: leader,
            entries: vec![Entry {
                data: b"forwarded".to_vec(),
                ..Entry::default()
            }],
            ..Message::default()
        };
        forwarded.set_msg_type(kind);
        let bytes = forwarded.encode_to_vec();
        cluster.group(leader).step(node_id(follower), &bytes);
        cluster.pump(leader);
        assert!(cluster.mail.is_empty(), "{kind:?}: {:?}", cluster.mail);
    }
    assert_eq!(cluster.group(leader).last(), last);
    cluster.propose(leader, "a");
    cluster.assert_agree(1);
}

/// Guards the refusal in `read_index`: begun means answered, or leadership is lost.
#[test]
fn trap_02_a_read_that_would_be_dropped_is_refused() {
    let mut cluster = Cluster::new(2, 3);
    cluster.lose = |mail| matches!(mail.body, Outgoing::Append(..));
    cluster.until("a leader without commit", |c| c.leader().is_some());
    let leader = cluster.leader().expect("just seen");
    for node in 1..=3 {
        let read = cluster.group(node).read_index(7);
        assert_eq!(read, ReadIndex::Refused, "n{node}");
    }
    cluster.lose = |_| false;
    assert_eq!(cluster.elect(), leader, "it got through after all");
    let commit = cluster.group(leader).commit();
    assert_eq!(cluster.group(leader).read_index(7), ReadIndex::Begun);
    cluster.pump(leader);
    assert!(cluster.at(leader).reads.is_empty(), "not before a majority");
    cluster.settle();
    assert_eq!(cluster.at(leader).reads, [(7, commit)]);
}

/// Guards the assert on `LeaveJoint`, and the stepping down in `take_change`.
#[test]
fn trap_03_a_leader_that_is_removed_does_not_stay_leader() {
    let mut cluster = Cluster::new(3, 3);
    cluster.group(1).campaign();
    assert_eq!(cluster.elect(), 1);
    cluster.start(4, Disk::empty(PeerId(4)));
    cluster.change(1, &learner(4));
    cluster.ticks(10);
    cluster.change(1, &swap(&[4], &[1]));
    cluster.ticks(5);
    let said = panic_of(|| cluster.group(1).change(&Change::LeaveJoint));
    assert!(said.contains("never removes itself"), "{said}");

    // Another proposes it, fails, and the one to be removed completes its term's work.
    cluster.group(1).transfer(PeerId(2));
    cluster.pump(1);
    cluster.settle();
    assert_eq!(cluster.elect(), 2);
    cluster.cut.insert(3);
    cluster.lose = |mail| mail.to == 2 && matches!(mail.body, Outgoing::Append(..));
    cluster.change(2, &Change::LeaveJoint);
    cluster.cut = [2].into();
    cluster.lose = |_| false;
    for _ in 0..10 {
        cluster.tick_node(3);
        cluster.tick_node(4);
    }
    for _ in 0..40 {
        if cluster.group(1).role() != Role::Leader && !cluster.group(1).membership().is_joint() {
            break;
        }
        cluster.slow.insert(1);
        cluster.tick_node(1);
        if cluster.group(1).role() == Role::Leader {
            // In the log behind its own removal, and not yet on its disk.
            let held = std::mem::take(&mut cluster.mail);
            cluster.persist_one(1);
            let late = cluster.group(1).propose(b"late".to_vec());
            assert_eq!(late, Ok(()));
            cluster.mail.extend(held);
        } else {
            cluster.persist(1);
        }
        cluster.pump(1);
        cluster.settle();
    }
    assert!(!cluster.group(1).membership().is_voter(PeerId(1)));
    assert_eq!(cluster.group(1).role(), Role::Follower { leader: None });
    assert_eq!(
        cluster.group(1).propose(vec![1]),
        Err(ProposeRefused::NotLeader)
    );
    cluster.slow.clear();
    cluster.persist(1);
    cluster.pump(1);
    cluster.settle();
    cluster.crash(1);
    cluster.cut.clear();
    let next = cluster.elect();
    assert_ne!(next, 1);
    cluster.propose(next, "after");
    cluster.until("all have left the joint configuration", |c| {
        c.replicas
            .values()
            .all(|r| r.group.membership().voters == [2, 3, 4])
    });
}

/// Guards the check of the addressee in `step_message`, and the assert that a peer is fresh.
#[test]
fn trap_04_a_wiped_voter_comes_back_as_another_peer() {
    let mut cluster = Cluster::new(4, 3);
    cluster.group(1).campaign();
    assert_eq!(cluster.elect(), 1);
    for data in ["a", "b", "c"] {
        cluster.propose(1, data);
    }
    cluster.crash(3);
    cluster.start(3, Disk::empty(PeerId(4)));
    // The leader still speaks to peer 3, with a commit index that an empty log cannot hold.
    cluster.ticks(40);
    assert_eq!(
        cluster.at(3).disk.term().0,
        0,
        "none of it was for this stint"
    );
    assert_eq!(cluster.group(3).commit().0, 0);

    let used = Change::AddLearner {
        peer: PeerId(3),
        node: node_id(3),
    };
    let said = panic_of(|| cluster.group(1).change(&used));
    assert!(said.contains("not fresh"), "{said}");
    let fresh = Change::AddLearner {
        peer: PeerId(4),
        node: node_id(3),
    };
    cluster.change(1, &fresh);
    cluster.ticks(10);
    cluster.change(1, &swap(&[4], &[3]));
    cluster.ticks(5);
    cluster.change(1, &Change::LeaveJoint);
    cluster.propose(1, "d");
    cluster.assert_agree(4);
    assert_eq!(cluster.group(3).membership().voters, [1, 2, 4]);
}

/// Guards the explicit transition of `Swap`: the driver leaves, whoever leads by then.
#[test]
fn trap_05_a_joint_configuration_is_left_by_the_driver_alone() {
    let mut cluster = Cluster::new(5, 3);
    cluster.group(1).campaign();
    assert_eq!(cluster.elect(), 1);
    cluster.start(4, Disk::empty(PeerId(4)));
    cluster.change(1, &learner(4));
    cluster.ticks(10);
    cluster.change(1, &swap(&[4], &[3]));
    cluster.ticks(50);
    assert!(
        cluster
            .replicas
            .values()
            .all(|r| r.group.membership().is_joint())
    );
    cluster.cut.insert(1);
    let leader = cluster.elect();
    cluster.cut.clear();
    cluster.ticks(50);
    assert!(
        cluster
            .replicas
            .values()
            .all(|r| r.group.membership().is_joint())
    );
    let leader = cluster.leader().unwrap_or(leader);
    // Whoever is not in the incoming half hands over first.
    let leader = if leader == 3 {
        cluster.group(3).transfer(PeerId(2));
        cluster.pump(3);
        cluster.settle();
        cluster.elect()
    } else {
        leader
    };
    assert!(!cluster.group(leader).change_pending());
    cluster.change(leader, &Change::LeaveJoint);
    cluster.until("all left", |c| {
        c.replicas
            .iter()
            .filter(|(node, _)| **node != 3)
            .all(|(_, r)| !r.group.membership().is_joint())
    });
}

/// Guards pre-vote and check-quorum in `config`: a false alarm moves nothing, and one voter needs
/// no lease.
#[test]
fn trap_06_an_early_campaign_changes_nothing() {
    let (mut cluster, leader) = Cluster::led(6, 3);
    let term = cluster.group(leader).term();
    for node in (1..=3).filter(|node| *node != leader) {
        cluster.group(node).campaign();
        cluster.pump(node);
        cluster.settle();
        cluster.ticks(20);
        assert_eq!(cluster.leader(), Some(leader), "n{node}");
        assert_eq!(cluster.group(node).term(), term, "n{node}");
    }
    let mut alone = Cluster::new(6, 1);
    alone.group(1).campaign();
    alone.pump(1);
    assert_eq!(alone.leader(), Some(1));
    assert!(alone.group(1).may_open());
}

/// Guards `Group::rank`: without it the engine draws at random, up to `ELECTION_TICKS_MAX`.
#[test]
fn trap_07_the_first_in_rank_leads_at_once() {
    for partition in 0..128 {
        for voters in [3, 5] {
            let (mut cluster, first) = Cluster::led(partition, voters);
            cluster.ticks(usize::from(partition) % 7);
            let membership = cluster.group(first).membership().clone();
            let heir = (1..=voters)
                .find(|peer| {
                    let (partition, me) = (PartitionId(partition), PeerId(*peer));
                    ranks::election_timeout(partition, &membership, me, Some(PeerId(first))) == 11
                })
                .expect("somebody is first in rank");
            cluster.crash(first);
            let mut ticks = 0;
            while cluster.leader().is_none() {
                cluster.tick();
                ticks += 1;
                assert!(ticks <= 11, "p{partition}, {voters} voters: nobody leads");
            }
            assert_eq!(
                cluster.leader(),
                Some(heir),
                "p{partition}, {voters} voters"
            );
        }
    }
}

/// Guards `engine_change`: two learners, two snapshots, one joint change, with rows that arrive
/// whole.
#[test]
fn trap_08_one_founder_grows_to_three_voters() {
    let (mut cluster, leader) = Cluster::led(8, 1);
    cluster.propose(leader, "a");
    for number in [2, 3] {
        cluster.start(number, Disk::empty(PeerId(number)));
        cluster.change(leader, &learner(number));
        cluster.propose(leader, "more");
        cluster.ticks(10);
        assert!(cluster.group(number).is_initialized(), "peer {number}");
        let voters = &cluster.group(leader).membership().voters;
        assert_eq!(*voters, [1], "never through two voters");
    }
    cluster.change(leader, &swap(&[2, 3], &[]));
    cluster.ticks(5);
    let membership = cluster.group(leader).membership();
    assert_eq!(
        (&membership.voters[..], &membership.voters_outgoing[..]),
        (&[1, 2, 3][..], &[1][..])
    );
    cluster.change(leader, &Change::LeaveJoint);
    cluster.propose(leader, "b");
    cluster.assert_agree(4);
    for node in 1..=3 {
        let membership = cluster.group(node).membership().clone();
        assert_eq!(membership.voters, [1, 2, 3], "n{node}");
        assert!(!membership.is_joint() && membership.learners.is_empty());
        assert_eq!((membership.next_peer, membership.peers.len()), (4, 3));
        for peer in 1..=3 {
            assert_eq!(membership.node_of(PeerId(peer)), Some(node_id(peer)));
        }
    }
    cluster.crash(leader);
    let next = cluster.elect();
    cluster.propose(next, "c");
    cluster.restart(leader);
    cluster.assert_agree(5);
}
