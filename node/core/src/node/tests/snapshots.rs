//! Snapshots that arrive while other things are under way.

use super::bench::founded;
use super::*;
use crate::io::{Input, StageVerdict, StoreEffect, StoreInput, TransferId};
use crate::node::snapshots::Transfers;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PeerId};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::wire::frame::{RaftMessage, RaftMessages, SnapshotChunk};
use raft::eraftpb;

/// A term that a leader on node 1 had before, and one that its successor on node 3 has.
const TERMS: [u64; 2] = [50, 60];

fn membership() -> Membership {
    let row = founded(3);
    row.membership.expect("a founded row has one")
}

fn append(index: u64, log_term: u64) -> Frame {
    let mut message = eraftpb::Message {
        from: 1,
        to: 2,
        term: TERMS[0],
        log_term,
        index,
        entries: vec![eraftpb::Entry {
            index: index + 1,
            term: TERMS[0],
            ..eraftpb::Entry::default()
        }],
        ..eraftpb::Message::default()
    };
    message.set_msg_type(eraftpb::MessageType::MsgAppend);
    let message = Bytes::from(prost11::Message::encode_to_vec(&message));
    Frame::Raft(RaftMessages {
        messages: vec![RaftMessage {
            partition: 0,
            message,
        }],
        mark: 0,
        nonce: 0,
    })
}

fn chunk(transfer: u64, number: u64, at: Option<u64>) -> Frame {
    let last = at.map(|index| {
        let membership = membership();
        let mut message = eraftpb::Message {
            from: 3,
            to: 2,
            term: TERMS[1],
            snapshot: Some(eraftpb::Snapshot {
                data: prost::Message::encode_to_vec(&membership),
                metadata: Some(eraftpb::SnapshotMetadata {
                    conf_state: Some(eraftpb::ConfState {
                        voters: membership.voters.clone(),
                        ..eraftpb::ConfState::default()
                    }),
                    index,
                    term: TERMS[1],
                }),
            }),
            ..eraftpb::Message::default()
        };
        message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
        Bytes::from(prost11::Message::encode_to_vec(&message))
    });
    Frame::SnapshotChunk(SnapshotChunk {
        partition: 0,
        to_peer: 2,
        transfer,
        number,
        rows: Bytes::new(),
        last,
        term: TERMS[1],
    })
}

/// Node 2 with a batch on its disk, entries that wait for the next one, and a snapshot behind them.
fn crowded() -> Bench {
    let mut bench = Bench::new(3, 1);
    bench.lose = |_| true;
    bench.at(2).sync = Speed::Held;
    bench.frame(2, 1, append(5, 5));
    bench.frame(2, 1, append(6, TERMS[0]));
    assert_eq!(bench.at(2).held.len(), 1);
    bench.frame(2, 3, chunk(77, 0, Some(100)));
    assert_eq!(bench.at(2).held.len(), 1, "one batch at a time");
    let first = bench.at(2).held.pop_front();
    let Some(StoreEffect::Persist { ticket, .. }) = first else {
        panic!("{first:?}")
    };
    bench.feed(2, Input::Store(StoreInput::Persisted(ticket)));
    bench
}

/// Guards the `retain` in `take_ready`: installs go first, and the store takes no entry below them.
#[test]
fn entries_that_wait_when_a_snapshot_arrives_are_not_written_after_it() {
    let mut bench = crowded();
    let held = bench.at(2).held.pop_front();
    let Some(StoreEffect::Persist {
        installs, writes, ..
    }) = held
    else {
        panic!("{held:?}")
    };
    let positions: Vec<LogPosition> = installs.iter().map(|install| install.at).collect();
    let at = LogPosition {
        index: LogIndex(100),
        term: Term(TERMS[1]),
    };
    assert_eq!(positions, [at]);
    assert_eq!(installs[0].hard_state.term, Term(TERMS[1]));
    assert!(
        writes.iter().all(|write| write.entries.is_empty()),
        "{writes:?}"
    );
}

/// Guards `install_refused`: the engine has taken the snapshot, the disk has not.
#[test]
fn a_replica_whose_snapshot_is_refused_goes_on_from_its_disk() {
    let mut bench = crowded();
    let held = bench.at(2).held.pop_front();
    let Some(StoreEffect::Persist { ticket, .. }) = held else {
        panic!("{held:?}")
    };
    bench.take_sent();
    let row = founded(3);
    let (index, term) = row.applied();
    let replica = ghostlight_protocol::replica::log::RecoveredReplica {
        partition: P,
        peer: PeerId(2),
        hard_state: ghostlight_protocol::replica::HardState {
            term,
            vote: PeerId(0),
            commit: index,
        },
        truncated: LogPosition { index, term },
        tail: Vec::new(),
        row: Some(row),
    };
    let refused = StoreInput::InstallRefused {
        replica: Box::new(replica),
        why: "half of it is missing".to_owned(),
    };
    bench.feed(2, Input::Store(refused));
    bench.feed(2, Input::Store(StoreInput::Persisted(ticket)));
    // Nothing that stands on the snapshot was promised to anybody.
    let answers = bench.take_sent();
    let appends = answers.iter().filter(|s| s.lane == crate::io::Lane::Append);
    assert_eq!(appends.count(), 0);
    let core = &bench.at(2).core;
    let replica = core.replicas().next().expect("it lives");
    assert_eq!((replica.applied, replica.commit), (index, index));
    assert_eq!(replica.last.index, index);
}

/// Guards `Transfers::begin`: receivers and their stores know a transfer by its number alone.
#[test]
fn no_two_transfers_have_one_number() {
    let mut seen = BTreeSet::new();
    for node in 1..=3 {
        for generation in 1..=3 {
            let mut transfers = Transfers::new(node_id(node), Generation(generation));
            for _ in 0..3 {
                assert!(seen.insert(transfers.begin()));
            }
        }
    }
}

/// Guards the receiver's own numbers in `staged`: two senders take turns, so that one chunk is on
/// its way to the disk twice.
#[test]
fn an_answer_of_the_disk_for_an_earlier_chunk_changes_nothing() {
    let mut bench = Bench::new(3, 1);
    bench.lose = |_| true;
    bench.at(2).stage = Speed::Held;
    for (from, transfer) in [(3, 1), (1, 2), (3, 1)] {
        bench.frame(2, from, chunk(transfer, 0, None));
    }
    assert_eq!(bench.at(2).held.len(), 3);
    let staged = |bench: &mut Bench, transfer, number| {
        let input = StoreInput::Staged {
            partition: P,
            peer: PeerId(2),
            transfer: TransferId(transfer),
            number,
            verdict: StageVerdict::Whole,
        };
        bench.feed(2, Input::Store(input));
    };
    // The receiver numbers what begins to arrive: the third is under way now.
    staged(&mut bench, 1, 0);
    staged(&mut bench, 2, 0);
    staged(&mut bench, 3, 0);
    bench.frame(2, 3, chunk(1, 1, None));
    staged(&mut bench, 2, 0);
    staged(&mut bench, 1, 0);
    bench.take_sent();
    staged(&mut bench, 3, 1);
    let sent = bench.take_sent();
    let next = sent.iter().find_map(|sent| match &sent.frame {
        Frame::SnapshotAck(ack) => Some((sent.to, ack.transfer, ack.next)),
        _ => None,
    });
    assert_eq!(next, Some((node_id(3), 1, 2)));
}
