//! A node ends: what still runs there for others.

use std::time::Duration;

use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::ids::ClusterId;
use ghostlight_protocol::wire::frame::{OrderAnswer, OrderStage};
use ghostlight_protocol::wire::hello::{ConnectionKind, Duty, NodeRecord, new_descriptor};
use ghostlight_protocol::wire::host::{End, HostFrame, HostRole, Said, Wish};

use super::bench::by_hand::ByHand;
use super::bench::{record, start};
use super::hosts::{INCARNATION, run, run_for_other};
use super::*;
use crate::admin::{AdminRequest, AdminTicket};
use crate::hosts::words::{
    AnswerKind, AppAnswer, AppEffect, AppInput, AppInstance, AppType, Callback, Drains, Exchange,
    Reentrancy,
};
use crate::io::{Effect, Input};
use crate::turn_io::{RunnerEffect, RunnerInput, TurnEnd};

/// Turns of node 2's actors that have ended, as this node says, and the last frame about it.
fn ended(bench: &mut Bench) -> (Vec<(u64, End)>, Option<HostFrame>) {
    let sent = bench.take_sent();
    let frames = sent.iter().filter_map(|sent| match &sent.frame {
        Frame::Host(frame) if frame.sender == HostRole::Host as i32 => Some(frame.clone()),
        _ => None,
    });
    let frames: Vec<HostFrame> = frames.collect();
    let said = frames.iter().flat_map(|frame| &frame.messages);
    let ended = said.filter_map(|message| match &message.said {
        Some(Said::Ended(ended)) => Some((ended.turn.number, ended.end.clone()?)),
        _ => None,
    });
    (ended.collect(), frames.last().cloned())
}

/// It is told to end while a turn runs there for another leader: that turn goes on, its leader
/// hears how it ended, and no other one begins.
#[test]
fn a_node_that_ends_finishes_what_runs_there_for_others() {
    let (mut bench, me) = Bench::led(1, 1);
    for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
        bench.connect(me, 2, kind);
    }
    let turn = run_for_other(&mut bench, me);
    let deadline = bench.now.instant + Duration::from_secs(30);
    bench.feed(me, Input::Shutdown { deadline });
    bench.take_sent();
    bench.frame(me, 2, run(2));
    assert!(bench.at(me).runs.is_empty(), "nothing new begins");
    let (said, _) = ended(&mut bench);
    assert!(matches!(&said[..], [(2, End::NotStarted(_))]), "{said:?}");
    assert!(bench.ended.is_empty(), "a turn runs");

    let detail = "for the test".to_owned();
    let end = TurnEnd::NotStarted { detail };
    bench.feed(me, Input::Runner(RunnerInput::Ended { turn, end }));
    bench.pass(100);
    assert!(bench.ended.is_empty(), "its leader has not heard yet");
    let (said, last) = ended(&mut bench);
    assert_eq!(said.last().map(|(number, _)| *number), Some(1));
    let last = last.expect("it was just said");
    let heard = HostFrame {
        incarnation: INCARNATION,
        first: 3,
        taken_incarnation: last.incarnation,
        taken: last.first + last.messages.len() as u64 - 1,
        sender: HostRole::Leader as i32,
        ..HostFrame::default()
    };
    bench.frame(me, 2, Frame::Host(heard));
    bench.pass(100);
    assert!(bench.ended.contains(&node_id(me)), "nobody waits for it");
}

/// Sidecars come and go: one that is told to end is gone for the others at once, and not when
/// gossip has missed it.
#[test]
fn an_edge_that_ends_says_goodbye() {
    let (mut bench, leader) = Bench::led(2, 1);
    let edge = 3 - leader;
    bench.pass(2_000);
    let state = |bench: &mut Bench| bench.at(leader).core.member_state(node_id(edge));
    assert_eq!(state(&mut bench), MemberState::Alive);
    let core = &mut bench.at(edge).core;
    core.record.weight = 0;
    let cluster = core.cluster.as_mut().expect("a member");
    cluster.slots.iter_mut().for_each(|slot| *slot = None);
    let deadline = bench.now.instant + Duration::from_secs(30);
    bench.feed(edge, Input::Shutdown { deadline });
    bench.pass(600);
    assert!(bench.ended.contains(&node_id(edge)), "it ends");
    assert_eq!(state(&mut bench), MemberState::Down);
    let told = bench.at(leader).core.links.link(node_id(edge));
    let duty = told.map(|link| link.record.duty());
    assert_eq!(duty, Some(Duty::Leaving));
}

/// Dapr's sidecar tells the objects of its application to go when it ends; so does a node, which
/// waits for that no longer than a sidecar would.
#[test]
fn objects_of_applications_are_told_to_go_before_their_node_ends() {
    // (whether the application answers, when the node has ended, in ticks)
    for (answers, by) in [(true, 3), (false, 101)] {
        let mut bed = ByHand::new();
        let cart = AppType {
            name: "cart".to_owned(),
            idle: Duration::from_secs(3_600),
            drain: Duration::from_secs(2),
            drains: Drains::Yes,
            depth: Reentrancy::Off,
        };
        let actor = ActorKey::new("default", "cart", "a").expect("a valid name");
        bed.feed(Input::App(AppInput::Hosting {
            app: "shop".to_owned(),
            instance: AppInstance(1),
            types: vec![cart],
            objects: vec![actor.clone()],
            living: Vec::new(),
        }));
        let deadline = bed.now.instant + Duration::from_secs(30);
        let mut said = bed.feed(Input::Shutdown { deadline });
        let asked: Vec<Exchange> = said
            .iter()
            .filter_map(|effect| match effect {
                Effect::App(AppEffect::Ask {
                    exchange, request, ..
                }) if request.actor == actor && request.callback == Callback::Deactivate => {
                    Some(*exchange)
                }
                _ => None,
            })
            .collect();
        let [exchange] = asked[..] else {
            panic!("told to go once: {said:?}")
        };
        let halts = |said: &[Effect]| said.iter().any(|effect| matches!(effect, Effect::Halt(_)));
        said.extend(bed.run(2));
        assert!(!halts(&said), "{answers}: the object has not gone");
        if answers {
            let answer = AppAnswer::Answered {
                status: 200,
                headers: Vec::new(),
                body: Bytes::new(),
                kind: AnswerKind::Plain,
                wish: Wish::GoesOn,
            };
            bed.feed(Input::App(AppInput::Answered { exchange, answer }));
        }
        assert!(halts(&bed.run(by - 2)), "{answers}: it ends");
    }
}

/// An edge that leaves has no copies that would have to move first. What runs there for others goes
/// on all the same, and nothing new begins.
#[test]
fn a_node_that_leaves_finishes_what_runs_there_for_others() {
    let descriptor = new_descriptor(ClusterId(9), node_id(2), 2, 3);
    let mut begun = start(1, descriptor, Vec::new());
    begun.record.weight = 0;
    let mut bed = ByHand::begun(begun);
    for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
        bed.feed(Input::Connected {
            peer: record(2),
            descriptor: None,
            kind,
        });
    }
    let from = node_id(2);
    let runs = |said: &[Effect]| {
        let turns = said.iter().filter_map(|effect| match effect {
            Effect::Runner(RunnerEffect::Run(start)) => Some(start.turn),
            _ => None,
        });
        turns.collect::<Vec<_>>()
    };
    let frame = run(1);
    let turns = runs(&bed.feed(Input::Frame { from, frame }));
    let [turn] = turns[..] else {
        panic!("it runs: {turns:?}")
    };
    let halts = |said: &[Effect]| said.iter().any(|effect| matches!(effect, Effect::Halt(_)));
    let request = AdminRequest::Leave { node: None };
    let ticket = AdminTicket(1);
    let mut said = bed.feed(Input::Admin { ticket, request });
    said.extend(bed.run(16));
    assert!(!halts(&said), "a turn runs");
    let answered = |said: &[Effect]| {
        let answers = said.iter();
        answers
            .filter(|effect| matches!(effect, Effect::AdminReply { .. }))
            .count()
    };
    assert_eq!(answered(&said), 0, "it has not left");
    let frame = run(2);
    assert_eq!(
        runs(&bed.feed(Input::Frame { from, frame })),
        [],
        "nothing new begins"
    );
    let detail = "for the test".to_owned();
    let end = TurnEnd::NotStarted { detail };
    bed.feed(Input::Runner(RunnerInput::Ended { turn, end }));
    // Nobody acknowledges it here: its leader is silent by then, and is waited for no longer.
    let said = bed.run(60);
    assert_eq!(answered(&said), 1);
    assert!(halts(&said), "it has left");
}

/// Another node was ordered to leave, and works on it. That its connection breaks for a moment
/// changes nothing; a run of it that was not told is another matter.
#[test]
fn an_order_survives_a_connection_that_blinks_and_no_restart() {
    let mut bed = ByHand::new();
    let ticket = AdminTicket(1);
    let node = node_id(2);
    let wanted = Some(format!("{node:?}"));
    let request = AdminRequest::Leave { node: wanted };
    let said = bed.feed(Input::Admin { ticket, request });
    let number = said.iter().find_map(|effect| match effect {
        Effect::Send {
            frame: Frame::Order(order),
            ..
        } => Some(order.number),
        _ => None,
    });
    let taken = OrderAnswer {
        number: number.expect("it is handed on"),
        stage: OrderStage::Taken as i32,
        ..OrderAnswer::default()
    };
    let frame = Frame::OrderAnswer(taken);
    bed.feed(Input::Frame { from: node, frame });
    for (generation, answered) in [(1, false), (2, true)] {
        let kind = ConnectionKind::Control;
        let mut said = bed.feed(Input::Disconnected { node, kind });
        said.extend(bed.run(2));
        let peer = NodeRecord {
            generation,
            ..record(2)
        };
        said.extend(bed.feed(Input::Connected {
            peer,
            descriptor: None,
            kind,
        }));
        said.extend(bed.run(300));
        let answers = |effect: &Effect| matches!(effect, Effect::AdminReply { .. });
        assert_eq!(said.iter().any(answers), answered, "run {generation}");
    }
}
