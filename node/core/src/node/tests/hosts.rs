//! A node pair in which each is the other's host: what ends one conversation leaves the other one
//! alone.

use ghostlight_protocol::wire::hello::{AppTypeRecord, ConnectionKind};
use ghostlight_protocol::wire::host::{
    HostActivation, HostFrame, HostMessage, HostRole, HostRun, HostTurn, Said,
};

use super::bench::record;
use super::*;
use crate::io::Input;
use crate::turn_io::{RunnerEffect, RunnerInput, TurnEnd, TurnId};

/// Of node 2's words: of its process of generation 1.
pub(super) const INCARNATION: u64 = (1 << 24) + 1;

/// What a host said to node 2 since the last look, with the incarnation of its sequence.
fn said_as_host(sent: &[Sent]) -> Vec<(u64, Said)> {
    let frames = sent.iter().filter_map(|sent| match &sent.frame {
        Frame::Host(frame) if frame.sender == HostRole::Host as i32 => Some(frame),
        _ => None,
    });
    let said = frames.flat_map(|frame| {
        let said = frame.messages.iter().filter_map(|m| m.said.clone());
        said.map(|said| (frame.incarnation, said))
    });
    said.collect()
}

/// Node 2 leads an actor, and starts the `number`-th turn of an activation here: its `number`-th
/// word.
pub(super) fn run(number: u64) -> Frame {
    let activation = HostActivation {
        partition: 7,
        term: 3,
        number: 1,
    };
    let run = HostRun {
        turn: HostTurn { activation, number },
        actor: counter().to_bytes(),
        method: "add".to_owned(),
        body: Bytes::from_static(b"1"),
        request: request(4 + number, "add", b"1", 1).request_id,
        stamp: Some(Stamp::default()),
        ..HostRun::default()
    };
    Frame::Host(HostFrame {
        incarnation: INCARNATION,
        first: number,
        messages: vec![HostMessage {
            said: Some(Said::Run(run)),
        }],
        sender: HostRole::Leader as i32,
        ..HostFrame::default()
    })
}

/// Node 2 leads an activation whose turn begins here; it goes on until the test ends it.
pub(super) fn run_for_other(bench: &mut Bench, me: u64) -> TurnId {
    bench.at(me).turns = Speed::Held;
    bench.frame(me, 2, run(1));
    match bench.at(me).runs.pop() {
        Some(RunnerEffect::Run(start)) => start.turn,
        other => panic!("it does not run: {other:?}"),
    }
}

/// A peer is silent for longer than a host may be: the turns that it runs for this node have no
/// answer, and what this node ran for it is said again until it is heard.
#[test]
fn a_host_that_is_given_up_still_hears_what_ran_for_it() {
    let (mut bench, me) = Bench::led(1, 1);
    let mut peer = record(2);
    peer.app_types = vec![AppTypeRecord {
        name: "Account".to_owned(),
        idle_ms: 60_000,
        drain_ms: 60_000,
        depth: 0,
    }];
    for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
        let peer = peer.clone();
        let connected = Input::Connected {
            peer,
            descriptor: None,
            kind,
        };
        bench.feed(me, connected);
    }

    // This node leads an actor that runs there.
    let account = ActorKey::new("default", "Account", "a").expect("a valid name");
    let call = CallRequest {
        actor: account.to_bytes(),
        ..request(1, "deposit", b"1", 60_000)
    };
    bench.frame(me, 2, Frame::Call(call));
    bench.pass(20);
    let sent = bench.take_sent();
    let runs = sent.iter().any(|sent| match &sent.frame {
        Frame::Host(frame) => frame.sender == HostRole::Leader as i32 && !frame.messages.is_empty(),
        _ => false,
    });
    assert!(runs, "{sent:?}");

    // And it runs a turn for an actor that the other one leads.
    let turn = run_for_other(&mut bench, me);
    let end = TurnEnd::NotStarted {
        detail: "for the test".to_owned(),
    };
    bench.feed(me, Input::Runner(RunnerInput::Ended { turn, end }));
    let before = said_as_host(&bench.take_sent());
    assert_eq!(before.len(), 1, "{before:?}");

    // Silence: nothing is acknowledged.
    bench.pass(1_500);
    let sent = bench.take_sent();
    let given_up = answers(&sent).iter().any(|answer| {
        matches!(&answer.kind, Some(AnswerKind::Unknown(unknown)) if unknown.code == u32::from(Code::OutcomeUnknown.number()))
    });
    assert!(given_up, "{:?}", answers(&sent));
    let again = said_as_host(&sent);
    assert_eq!(again.last(), before.first(), "in the same sequence");
}

/// Types are those of nodes that are there: who asks for one whose host is gone must not be sent
/// after it.
#[test]
fn types_of_nodes_that_are_gone_are_not_known() {
    let types = |bench: &mut Bench, me: u64| {
        let views = bench.at(me).core.type_views();
        let named = views.into_iter().find(|view| view.actor_type == "Account");
        named.map(|view| view.applications.len())
    };
    for removed in [false, true] {
        let (mut bench, me) = Bench::led(1, 1);
        assert_eq!(types(&mut bench, me), None);
        let mut peer = record(2);
        peer.app_types = vec![AppTypeRecord {
            name: "Account".to_owned(),
            ..AppTypeRecord::default()
        }];
        let connected = Input::Connected {
            peer,
            descriptor: None,
            kind: ConnectionKind::Control,
        };
        bench.feed(me, connected);
        assert_eq!(types(&mut bench, me), Some(1));
        match removed {
            true => drop(bench.at(me).core.removed.insert(node_id(2))),
            // Nothing is heard of it any more, and gossip does not know it.
            false => bench.pass(1_000),
        }
        assert_eq!(types(&mut bench, me), None, "removed: {removed}");
    }
}

/// Who was removed leads nothing here any more, and is told nothing.
#[test]
fn what_a_removed_node_led_here_is_over() {
    let (mut bench, me) = Bench::led(1, 1);
    for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
        bench.connect(me, 2, kind);
    }
    let turn = run_for_other(&mut bench, me);
    bench.pass(5_000);
    assert!(bench.at(me).runs.is_empty(), "its leader may come back");
    bench.at(me).core.removed.insert(node_id(2));
    bench.take_sent();
    bench.pass(1_100);
    let over = bench.at(me).runs.pop();
    assert_eq!(over, Some(RunnerEffect::Depose(turn.activation)));
    bench.take_sent();
    bench.pass(1_000);
    let frames = bench.take_sent().into_iter().map(|sent| sent.frame);
    assert_eq!(
        frames
            .filter(|frame| matches!(frame, Frame::Host(_)))
            .count(),
        0
    );
}
