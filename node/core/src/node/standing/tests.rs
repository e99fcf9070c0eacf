//! One node with one replica, fed by hand: lost promises, and when what is set aside may go.

use ghostlight_protocol::ids::{LogIndex, Term};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{Control, Heartbeat};

use super::super::tests::bench::by_hand::{ByHand, ME, P, replica, row};
use super::*;
use crate::io::{Input, StoreInput};
use crate::replica::{GroupSettings, LogBounds};

fn discards(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Store(StoreEffect::DiscardCondemned(P)))
}

fn condemns(effects: &[Effect]) -> usize {
    let told = effects.iter().filter(|effect| {
        matches!(effect, Effect::Store(StoreEffect::Condemn { partition, .. }) if *partition == P)
    });
    told.count()
}

#[test]
fn a_commit_past_what_is_here_condemns_the_replica_and_nothing_else() {
    let mut bench = ByHand::new();
    assert_eq!(condemns(&bench.heartbeat(1, 5)), 0, "what is here");
    let effects = bench.heartbeat(1, 6);
    assert_eq!(condemns(&effects), 1, "{effects:?}");
    let event = effects
        .iter()
        .any(|e| matches!(e, Effect::Event(Event::Condemned { partition, why }) if *partition == P && why.contains("i6")));
    assert!(event, "{effects:?}");
    let answers = effects.iter().any(|effect| {
        matches!(effect, Effect::Send { frame: Frame::Control(control), .. } if !control.answers.is_empty())
    });
    assert!(!answers, "it is silent at once");
    assert!(bench.core.cluster.as_ref().unwrap().slot(P).is_none());
    // The store's word comes later, and changes nothing; nor does the leader that goes on.
    let told = bench.feed(Input::Store(StoreInput::Condemned {
        partition: P,
        floor: PeerId(2),
        why: String::new(),
    }));
    assert_eq!(told, []);
    assert_eq!(condemns(&bench.heartbeat(1, 7)), 0);
}

#[test]
fn every_control_frame_names_what_is_condemned() {
    let mut bench = ByHand::new();
    bench.heartbeat(1, 6);
    let told = |effects: Vec<Effect>| -> Vec<usize> {
        let frames = effects.into_iter().filter_map(|effect| match effect {
            Effect::Send {
                frame: Frame::Control(control),
                ..
            } => Some(control.condemned.len()),
            _ => None,
        });
        frames.collect()
    };
    let mut frames = told(bench.run(9));
    bench.core.announce(Default::default());
    frames.extend(told(bench.feed(Input::Tick)));
    assert!(frames.len() > 3, "{frames:?}");
    assert!(frames.iter().all(|condemned| *condemned == 1), "{frames:?}");
}

#[test]
fn the_word_of_the_store_about_an_earlier_stint_does_not_end_the_fresh_one() {
    let mut bench = ByHand::new();
    bench.heartbeat(1, 6);
    bench.heartbeat(4, 0);
    bench.feed(Input::Store(StoreInput::Condemned {
        partition: P,
        floor: PeerId(2),
        why: String::new(),
    }));
    let slot = bench.core.cluster.as_ref().unwrap().slot(P);
    assert_eq!(slot.map(|slot| slot.group.peer()), Some(PeerId(4)));
}

#[test]
fn what_is_set_aside_goes_when_the_group_has_replaced_it_and_not_before() {
    let mut bench = ByHand::new();
    bench.heartbeat(1, 6);
    let effects = bench.heartbeat(4, 0);
    let created = effects.iter().any(
        |e| matches!(e, Effect::Store(StoreEffect::Create { peer, .. }) if *peer == PeerId(4)),
    );
    assert!(created, "{effects:?}");
    assert!(!discards(&effects), "an empty learner has replaced nothing");
    assert!(!discards(&bench.run(3 * ASK_TICKS)));
    bench.installed(row(8, &[(1, 1), (2, 2), (3, 3), (4, 1)]));
    assert!(
        !discards(&bench.run(3 * ASK_TICKS)),
        "the old peer still votes"
    );
    bench.installed(row(9, &[(2, 2), (3, 3), (4, 1)]));
    assert!(discards(&bench.run(2 * ASK_TICKS)));
    assert!(!discards(&bench.run(2 * ASK_TICKS)), "once");
}

#[test]
fn what_a_node_says_as_the_peer_of_another_is_not_looked_at() {
    let beat = |from: u64, node: u64, to: u64| {
        let mut bench = ByHand::new();
        let heartbeat = Heartbeat {
            partition: u32::from(P.0),
            from,
            to,
            term: 900,
            commit: 5,
            ..Heartbeat::default()
        };
        let control = Control {
            heartbeats: vec![heartbeat],
            ..Control::default()
        };
        let from = NodeId(u128::from(node));
        bench.feed(Input::Frame {
            from,
            frame: Frame::Control(control),
        })
    };
    let changes = |effects: &[Effect]| {
        let writes = |e: &&Effect| {
            matches!(
                e,
                Effect::Store(StoreEffect::Persist { .. } | StoreEffect::Destroy { .. })
            )
        };
        effects.iter().filter(writes).count()
    };
    assert!(
        changes(&beat(2, 2, 1)) > 0,
        "a new term, from whom it comes"
    );
    assert!(
        changes(&beat(2, 2, 7)) > 0,
        "a later stint here, from whom it comes"
    );
    // Node 3 has a peer of its own; it is not node 2.
    assert_eq!(changes(&beat(2, 3, 1)), 0, "no new term");
    assert_eq!(changes(&beat(2, 3, 7)), 0, "nothing is deleted");
    // What is for node 3's peer is for no later stint of this one.
    assert_eq!(changes(&beat(2, 2, 3)), 0, "nothing is deleted for another");
}

#[test]
fn replaced_means_durable_and_not_in_the_middle_of_a_change() {
    let settings = GroupSettings {
        seed: 5,
        log: LogBounds::default(),
    };
    let slot = |durable: u64, row: PartitionRow| {
        let mut slot = Slot::recovered(Instant(0), &replica(4, row), settings);
        slot.durable_membership = durable;
        slot
    };
    let after = row(9, &[(2, 2), (3, 3), (4, 1)]);
    assert!(has_replaced(&slot(9, after.clone()), ME, PeerId(2)));
    assert!(!has_replaced(&slot(8, after.clone()), ME, PeerId(2)));
    assert!(!has_replaced(&slot(9, after.clone()), ME, PeerId(5)));
    let mut joint = after;
    joint.membership.as_mut().unwrap().voters_outgoing = vec![2, 3];
    assert!(!has_replaced(&slot(9, joint), ME, PeerId(2)));
}

#[test]
fn a_group_that_went_on_elsewhere_is_asked_and_its_word_lets_the_rest_go() {
    let mut bench = ByHand::new();
    bench.heartbeat(1, 6);
    let asked = bench.run(2 * ASK_TICKS);
    let ask = AskReplica {
        partition: u32::from(P.0),
        peer: 1,
    };
    let sent = asked
        .iter()
        .any(|e| matches!(e, Effect::Send { frame: Frame::AskReplica(a), .. } if *a == ask));
    assert!(sent, "{asked:?}");
    let standing = |peer| {
        Frame::ReplicaStanding(ReplicaStanding {
            partition: u32::from(P.0),
            peer,
            membership_index: 9,
            next_peer: 5,
        })
    };
    let from = NodeId(2);
    let frame = standing(0);
    assert!(!discards(&bench.feed(Input::Frame { from, frame })));
    let frame = standing(1);
    assert!(discards(&bench.feed(Input::Frame { from, frame })));
}

/// The commit of `LogIndex(5)`, term 5, is the synthetic start.
#[test]
fn the_bench_begins_where_it_says() {
    let bench = ByHand::new();
    let slot = bench.core.cluster.as_ref().unwrap().slot(P).unwrap();
    let last = slot.group.last();
    assert_eq!((last.index, last.term), (LogIndex(5), Term(5)));
}
