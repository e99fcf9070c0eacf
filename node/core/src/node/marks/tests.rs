use bytes::Bytes;
use ghostlight_protocol::ids::ClusterId;
use ghostlight_protocol::replica::log::{LogWrite, RecoveredReplica};
use ghostlight_protocol::wire::frame::{Control, RaftMessage, RaftMessages, SnapshotChunk};
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord, new_descriptor};
use raft::eraftpb::{self, MessageType};

use super::*;
use crate::io::{Event, HaltReason, Input, StoreEffect, StoreInput};
use crate::node::tests::bench::by_hand::{ByHand, P, replica, row};
use crate::node::tests::bench::{node_id, record};
use crate::replica::{Heard, Role};

/// The nonce of the process under test, and of the one before it.
const NOW: u64 = 77;
const BEFORE: u64 = 66;
/// What its disk gave back.
const MARK: u64 = 50;
/// The nonce of peers that greet.
const GREETED: u64 = 5;

fn told(mark: u64, nonce: u64) -> Told {
    Told {
        mark: Mark(mark),
        nonce,
    }
}

/// Node 1 of three, started for the second time.
fn again(trust: Trust) -> ByHand {
    let replicas: Vec<RecoveredReplica> = vec![replica(1, row(5, &[(1, 1), (2, 2), (3, 3)]))];
    let start = Start {
        partitions: None,
        record: NodeRecord {
            generation: 2,
            nonce: NOW,
            ..record(1)
        },
        descriptor: Some(new_descriptor(ClusterId(9), node_id(2), 2, 3)),
        seeds: Vec::new(),
        addresses: Vec::new(),
        replicas,
        condemned: Vec::new(),
        tombstones: BTreeMap::new(),
        marks: Found {
            own: Mark(MARK),
            others: BTreeMap::from([(node_id(3), told(9, 5))]),
        },
        trust,
        seed: 1,
        min_copies: 1,
        turns: crate::turns::Settings::default(),
        log: crate::replica::LogBounds::default(),
    };
    ByHand::begun(start)
}

fn connect(bed: &mut ByHand, peer: u64) -> Vec<Effect> {
    let peer = NodeRecord {
        nonce: GREETED,
        ..record(peer)
    };
    bed.feed(Input::Connected {
        peer,
        descriptor: None,
        kind: ConnectionKind::Control,
    })
}

fn word(bed: &mut ByHand, from: u64, told: Told) -> Vec<Effect> {
    let frame = Frame::Mark(MarkWord::yours(told));
    bed.feed(Input::Frame {
        from: node_id(from),
        frame,
    })
}

/// An engine message of another voter, whose peer has its node's number. Its log is as long as the
/// one here.
fn raft(from: u64, told: Told, kind: MessageType, term: u64) -> Input {
    let mut message = eraftpb::Message {
        from,
        to: 1,
        term,
        log_term: 5,
        index: 5,
        ..eraftpb::Message::default()
    };
    message.set_msg_type(kind);
    let message = RaftMessage {
        partition: u32::from(P.0),
        message: Bytes::from(prost11::Message::encode_to_vec(&message)),
    };
    Input::Frame {
        from: node_id(from),
        frame: Frame::Raft(RaftMessages {
            messages: vec![message],
            mark: told.mark.0,
            nonce: told.nonce,
        }),
    }
}

/// A candidate of a later term asks for a vote, as the process that greeted.
fn asks_for_a_vote(from: u64) -> Input {
    raft(from, told(1, GREETED), MessageType::MsgRequestVote, 50)
}

/// The batch that is to be synced.
fn batch(effects: &[Effect]) -> Option<(PersistTicket, Vec<LogWrite>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Store(StoreEffect::Persist { ticket, writes, .. }) => {
            Some((*ticket, writes.clone()))
        }
        _ => None,
    })
}

/// Whom engine messages are sent to.
fn engine_speaks_to(effects: &[Effect]) -> Vec<NodeId> {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Send {
            to,
            frame: Frame::Raft(_),
            ..
        } => Some(*to),
        _ => None,
    });
    sent.collect()
}

/// The disk has all that it was given.
fn sync(bed: &mut ByHand, mut effects: Vec<Effect>) {
    while let Some((ticket, _)) = batch(&effects) {
        effects = bed.feed(Input::Store(StoreInput::Persisted(ticket)));
    }
}

fn answers(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Send { frame: Frame::Control(control), .. } if !control.answers.is_empty())
    })
}

fn promises(effects: &[Effect]) -> bool {
    let speaks = |effect: &Effect| {
        let raft = matches!(
            effect,
            Effect::Send {
                frame: Frame::Raft(_),
                ..
            }
        );
        raft || matches!(effect, Effect::Store(StoreEffect::Persist { .. }))
    };
    answers(effects) || effects.iter().any(speaks)
}

fn halted(effects: &[Effect]) -> Option<Code> {
    effects.iter().find_map(|effect| match effect {
        Effect::Halt(HaltReason::Refused { code, .. }) => Some(*code),
        _ => None,
    })
}

#[test]
fn a_node_that_is_told_more_than_it_has_ends_before_it_promises_anything() {
    let rows = [
        // As much, or less: a peer saves what it is told later, and its disk may be an old one too.
        (told(MARK, BEFORE), None),
        (told(MARK - 1, BEFORE), None),
        (told(0, 0), None),
        (told(MARK + 1, BEFORE), Some(Code::PromisesLost)),
        // Of another node's directory that was copied: any other process.
        (told(MARK + 1_000, 1), Some(Code::PromisesLost)),
        // What this process told, it has.
        (told(MARK + 1, NOW), None),
    ];
    for (told, expected) in rows {
        let mut bed = again(Trust::Whole);
        let first = connect(&mut bed, 2);
        assert!(!promises(&first), "{told:?}");
        assert!(!promises(&bed.heartbeat(1, 0)), "{told:?}: not met yet");
        let heard = word(&mut bed, 2, told);
        assert_eq!(halted(&heard), expected, "{told:?}");
        let goes_on = promises(&bed.heartbeat(1, 0));
        assert_eq!(goes_on, expected.is_none(), "{told:?}");
    }
}

/// A directory was copied, and the copy has greeted: its original still speaks over the connection
/// before.
#[test]
fn another_process_than_the_one_that_greeted_is_remembered_and_not_listened_to() {
    let rows = [(5, true), (6, false)];
    for (nonce, answered) in rows {
        let mut bed = again(Trust::Whole);
        connect(&mut bed, 2);
        word(&mut bed, 2, told(0, 0));
        let heard = bed.heartbeat_of(told(33, nonce), 1, 0);
        assert_eq!(promises(&heard), answered, "{nonce}");
        let words = heard.iter().filter_map(|effect| match effect {
            Effect::Send {
                to,
                frame: Frame::Mark(word),
                ..
            } if *to == node_id(2) => Some(word.told()),
            _ => None,
        });
        let expected = (!answered).then_some(told(33, nonce));
        assert!(words.eq(expected), "{nonce}: who greeted has lost that");
        assert!(!promises(&bed.heartbeat_of(told(33, 6), 1, 0)));
    }
}

/// A copy had greeted, with the same run, and is gone; this node knows its original from then on.
#[test]
fn the_process_that_greets_last_is_listened_to_also_with_the_run_of_another() {
    let mut bed = again(Trust::Whole);
    connect(&mut bed, 2);
    let original = NodeRecord {
        nonce: 6,
        ..record(2)
    };
    bed.feed(Input::Connected {
        peer: original,
        descriptor: None,
        kind: ConnectionKind::Control,
    });
    word(&mut bed, 2, told(0, 0));
    assert!(promises(&bed.heartbeat_of(told(33, 6), 1, 0)));
    assert!(!promises(&bed.heartbeat_of(told(34, GREETED), 1, 0)));
}

/// Nothing that a peer says in Raft counts before it has told what it remembers: the vote that it
/// asks for may have been given to another one, by what is lost.
#[test]
fn no_vote_is_given_to_a_peer_that_has_not_told() {
    let mut bed = again(Trust::Whole);
    connect(&mut bed, 2);
    assert!(!promises(&bed.feed(asks_for_a_vote(2))));
    assert!(!promises(&bed.run(2)), "nor later");
    word(&mut bed, 2, told(0, 0));
    let asked = bed.feed(asks_for_a_vote(2));
    let (ticket, writes) = batch(&asked).expect("the vote is to be synced");
    let votes: Vec<(u64, PeerId)> = writes
        .iter()
        .filter_map(|write| write.hard_state)
        .map(|state| (state.term.0, state.vote))
        .collect();
    assert_eq!(votes, [(50, PeerId(2))]);
    assert_eq!(engine_speaks_to(&asked), [], "not before it is synced");
    let synced = bed.feed(Input::Store(StoreInput::Persisted(ticket)));
    assert_eq!(engine_speaks_to(&synced), [node_id(2)]);
}

#[test]
fn a_replica_in_doubt_votes_for_nobody_until_all_other_voters_have_told() {
    let mut bed = again(Trust::InDoubt);
    for peer in [2, 3] {
        connect(&mut bed, peer);
    }
    assert!(!promises(&bed.feed(asks_for_a_vote(2))));
    word(&mut bed, 2, told(MARK, BEFORE));
    assert!(!promises(&bed.feed(asks_for_a_vote(2))));
    word(&mut bed, 3, told(MARK - 3, BEFORE));
    assert!(promises(&bed.feed(asks_for_a_vote(2))));
}

/// The engine messages of two processes with one id would be counted as one's.
#[test]
fn an_engine_message_of_another_process_than_the_one_that_greeted_is_not_looked_at() {
    let mut bed = again(Trust::Whole);
    connect(&mut bed, 2);
    word(&mut bed, 2, told(0, 0));
    let other = raft(2, told(33, 6), MessageType::MsgRequestVote, 50);
    assert!(!promises(&bed.feed(other)));
    assert!(promises(&bed.feed(asks_for_a_vote(2))));
}

#[test]
fn no_snapshot_is_taken_from_a_peer_that_has_not_told() {
    let chunk = || Input::Frame {
        from: node_id(2),
        frame: Frame::SnapshotChunk(SnapshotChunk {
            partition: u32::from(P.0),
            to_peer: 1,
            transfer: 7,
            number: 0,
            rows: Bytes::new(),
            last: None,
            term: 6,
        }),
    };
    let stages = |effects: &[Effect]| {
        let store = |e: &Effect| matches!(e, Effect::Store(StoreEffect::Stage { .. }));
        effects.iter().any(store)
    };
    let mut bed = again(Trust::Whole);
    connect(&mut bed, 2);
    assert!(!stages(&bed.feed(chunk())));
    word(&mut bed, 2, told(0, 0));
    assert!(stages(&bed.feed(chunk())));
}

/// A leader takes answers to heartbeats for voices of its quorum.
#[test]
fn a_peer_that_has_not_told_is_nobody_to_a_leader_that_it_answers() {
    let mut bed = again(Trust::Whole);
    for peer in [2, 3] {
        connect(&mut bed, peer);
    }
    word(&mut bed, 3, told(0, 0));
    // The other one elects it.
    let effects = bed.run(40);
    sync(&mut bed, effects);
    for kind in [
        MessageType::MsgRequestPreVoteResponse,
        MessageType::MsgRequestVoteResponse,
    ] {
        let effects = bed.feed(raft(3, told(1, GREETED), kind, 6));
        sync(&mut bed, effects);
    }
    let group = |bed: &ByHand| {
        let slot = bed.core.cluster.as_ref().and_then(|c| c.slot(P));
        let group = &slot.expect("a replica").group;
        (group.role(), group.progress())
    };
    assert_eq!(group(&bed).0, Role::Leader);
    let answer = || Input::Frame {
        from: node_id(2),
        frame: Frame::Control(Control {
            answers: vec![Heartbeat {
                partition: u32::from(P.0),
                from: 2,
                to: 1,
                term: 6,
                ..Heartbeat::default()
            }],
            mark: 1,
            nonce: GREETED,
            ..Control::default()
        }),
    };
    for (told_before, heard) in [(false, Heard::No), (true, Heard::Lately)] {
        if told_before {
            word(&mut bed, 2, told(0, 0));
        }
        bed.feed(answer());
        let progress = group(&bed).1;
        assert_eq!(progress[&PeerId(2)].heard, heard, "told: {told_before}");
    }
}

#[test]
fn the_first_word_is_what_is_remembered_of_the_other() {
    let mut bed = again(Trust::Whole);
    for (peer, remembered) in [(2, told(0, 0)), (3, told(9, 5))] {
        let effects = connect(&mut bed, peer);
        let first = effects.iter().find_map(|effect| match effect {
            Effect::Send { to, frame, .. } if *to == node_id(peer) => Some(frame.clone()),
            _ => None,
        });
        assert_eq!(first, Some(Frame::Mark(MarkWord::yours(remembered))));
    }
}

#[test]
fn a_batch_has_the_next_mark_and_what_others_told_since_the_last() {
    let mut bed = again(Trust::Whole);
    connect(&mut bed, 2);
    word(&mut bed, 2, told(0, 0));
    // Of a process that this node has not met: its greeting said nonce 5.
    let control = Control {
        mark: 33,
        nonce: 6,
        ..Control::default()
    };
    bed.feed(Input::Frame {
        from: node_id(2),
        frame: Frame::Control(control),
    });
    // A later term is a promise.
    let wrote = bed.heartbeat(1, 0);
    let found = wrote.iter().find_map(|effect| match effect {
        Effect::Store(StoreEffect::Persist { ticket, marks, .. }) => Some((*ticket, marks.clone())),
        _ => None,
    });
    let (ticket, marks) = found.expect("a batch");
    assert_eq!(marks.own, Mark(MARK + 1));
    let others = BTreeMap::from([(node_id(2), told(33, 6)), (node_id(3), told(9, 5))]);
    assert_eq!(marks.others, Some(others));
    assert!(!answers(&wrote), "not before it is synced");
    let left = bed.feed(Input::Store(StoreInput::Persisted(ticket)));
    let marks: Vec<(u64, u64)> = left
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send {
                frame: Frame::Control(control),
                ..
            } => Some((control.mark, control.nonce)),
            _ => None,
        })
        .collect();
    assert_eq!(
        marks,
        [(MARK + 1, NOW)],
        "what leaves after the sync says so"
    );
}

#[test]
fn a_replica_in_doubt_is_silent_until_all_other_voters_have_told() {
    let mut bed = again(Trust::InDoubt);
    for peer in [2, 3] {
        connect(&mut bed, peer);
    }
    word(&mut bed, 2, told(MARK, BEFORE));
    assert!(!promises(&bed.heartbeat(1, 0)));
    assert!(!promises(&bed.run(60)), "and it stands for no election");
    assert!(!promises(&word(&mut bed, 3, told(MARK - 3, BEFORE))));
    assert!(promises(&bed.run(60)), "it takes part again");
}

#[test]
fn a_group_that_goes_on_without_a_replica_in_doubt_replaces_it() {
    let mut bed = again(Trust::InDoubt);
    connect(&mut bed, 2);
    word(&mut bed, 2, told(MARK, BEFORE));
    let condemned = |effects: &[Effect]| {
        effects.iter().any(
            |e| matches!(e, Effect::Event(Event::Condemned { partition, .. }) if *partition == P),
        )
    };
    bed.run(190);
    assert!(!condemned(&bed.heartbeat(1, 0)));
    bed.run(20);
    assert!(condemned(&bed.heartbeat(1, 0)));
}
