//! An actor follows its host: what runs is let end, or cut, as its type's drain settings say.

use std::collections::BTreeMap;

use ghostlight_protocol::call::AppReply;
use ghostlight_protocol::wire::frame::Control;
use ghostlight_protocol::wire::hello::{AppTypeRecord, ConnectionKind, NodeRecord};
use ghostlight_protocol::wire::host::{
    End, HostAnswer, HostEnded, HostFrame, HostMessage, HostRole, HostTurn, Said,
};

use super::bench::record;
use super::hosts::INCARNATION;
use super::*;
use crate::io::Input;

/// What a turn may take that runs where its actor should not.
const DRAIN_MS: u64 = 2_000;
/// The hosts; the actor belongs to one of them more than to the other.
const HOSTS: [u64; 2] = [2, 3];

/// A leader without applications, and its two hosts.
struct Moves {
    bench: Bench,
    me: u64,
    worse: u64,
    better: u64,
}

impl Moves {
    /// The better one is not there yet.
    fn new(drain_ms: u64) -> Self {
        let mut both = Self::alone();
        for host in HOSTS {
            both.host(host, 0);
        }
        both.call(1);
        both.pass(200);
        let runs = |host: &u64| !both.runs(*host).is_empty();
        let better = HOSTS.into_iter().find(runs).expect("one of them has it");
        let worse = HOSTS.into_iter().find(|host| *host != better);
        let mut moves = Self {
            worse: worse.expect("there are two"),
            better,
            ..Self::alone()
        };
        moves.host(moves.worse, drain_ms);
        moves
    }

    fn alone() -> Self {
        let (bench, me) = Bench::led(1, 1);
        let [worse, better] = HOSTS;
        Self {
            bench,
            me,
            worse,
            better,
        }
    }

    /// A node with the type connects.
    fn host(&mut self, number: u64, drain_ms: u64) {
        for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
            let peer = NodeRecord {
                app_types: vec![AppTypeRecord {
                    name: "Account".to_owned(),
                    idle_ms: 60_000,
                    drain_ms,
                    depth: 0,
                }],
                ..record(number)
            };
            let connected = Input::Connected {
                peer,
                descriptor: None,
                kind,
            };
            self.bench.feed(self.me, connected);
        }
    }

    /// Time passes, and both hosts are heard of.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 100 {
            for host in HOSTS {
                let frame = Frame::Control(Control::default());
                self.bench.frame(self.me, host, frame);
            }
            self.bench.pass(100);
        }
    }

    fn call(&mut self, n: u64) {
        let account = ActorKey::new("default", "Account", "a").expect("a valid name");
        let call = CallRequest {
            actor: account.to_bytes(),
            ..request(n, "deposit", b"1", 60_000)
        };
        self.bench.frame(self.me, self.worse, Frame::Call(call));
    }

    /// What the leader has said to a host, in order, however often it was sent.
    fn said(&self, host: u64) -> Vec<Said> {
        let sent = self.bench.sent.iter();
        let frames = sent.filter_map(|sent| match &sent.frame {
            Frame::Host(frame) if sent.to == node_id(host) => Some(frame),
            _ => None,
        });
        let mut said = BTreeMap::new();
        for frame in frames.filter(|frame| frame.sender == HostRole::Leader as i32) {
            for (number, message) in (frame.first..).zip(&frame.messages) {
                said.insert((frame.incarnation, number), message.said.clone());
            }
        }
        said.into_values().flatten().collect()
    }

    /// Turns that a host was told to run.
    fn runs(&self, host: u64) -> Vec<HostTurn> {
        let said = self.said(host).into_iter();
        let runs = said.filter_map(|said| match said {
            Said::Run(run) => Some(run.turn),
            _ => None,
        });
        runs.collect()
    }

    /// A host's application answers.
    fn end(&mut self, host: u64, turn: HostTurn) {
        let ended = Said::Ended(HostEnded {
            turn,
            end: Some(End::Answered(HostAnswer {
                reply: Some(AppReply::default()),
                ..HostAnswer::default()
            })),
        });
        let frame = Frame::Host(HostFrame {
            incarnation: INCARNATION,
            first: 1,
            messages: vec![HostMessage { said: Some(ended) }],
            sender: HostRole::Host as i32,
            ..HostFrame::default()
        });
        self.bench.frame(self.me, host, frame);
    }

    /// What the `n`-th call was answered.
    fn answer(&self, n: u64) -> Option<AnswerKind> {
        let answers = answers(&self.bench.sent).into_iter();
        let mut mine = answers.filter(|answer| answer.call == n << 12);
        let answer = mine.next()?.kind.clone();
        assert_eq!(mine.next(), None, "once");
        answer
    }

    /// The actor's activation is over where it was, and the next turn runs where it should.
    #[track_caller]
    fn has_moved(&self, from: HostTurn) {
        let dropped = Said::Drop(from.activation);
        assert_eq!(self.said(self.worse).last(), Some(&dropped));
        let [turn] = self.runs(self.better)[..] else {
            panic!("{:?}", self.said(self.better));
        };
        assert!(turn.activation.number > from.activation.number, "{turn:?}");
    }

    /// Nothing was taken from where the turn runs.
    #[track_caller]
    fn has_not_moved(&self) {
        assert_eq!(self.said(self.worse).len(), 1, "it was told to run, alone");
        assert_eq!(self.said(self.better), []);
        assert_eq!(self.answer(1), None);
    }

    /// A turn runs, another call waits, and the better host connects.
    #[track_caller]
    fn begin(&mut self) -> HostTurn {
        self.call(1);
        self.pass(200);
        let [turn] = self.runs(self.worse)[..] else {
            panic!("{:?}", self.said(self.worse));
        };
        self.call(2);
        self.host(self.better, DRAIN_MS);
        turn
    }
}

/// The second half of the time is for the looks, a second apart, at where actors should be.
#[test]
fn a_turn_goes_on_for_as_long_as_its_type_drains_and_is_cut_then() {
    let mut moves = Moves::new(DRAIN_MS);
    let turn = moves.begin();
    moves.pass(DRAIN_MS - 100);
    moves.has_not_moved();
    moves.pass(1_300);
    match moves.answer(1) {
        Some(AnswerKind::Unknown(unknown)) => {
            assert_eq!(unknown.code, u32::from(Code::OutcomeUnknown.number()));
        }
        other => panic!("{other:?}"),
    }
    moves.has_moved(turn);
}

#[test]
fn a_turn_of_a_type_that_does_not_drain_is_cut_at_the_next_look() {
    let mut moves = Moves::new(0);
    let turn = moves.begin();
    moves.pass(1_100);
    assert!(matches!(moves.answer(1), Some(AnswerKind::Unknown(_))));
    moves.has_moved(turn);
}

#[test]
fn a_turn_that_ends_while_it_drains_is_answered_and_the_actor_moves_then() {
    let mut moves = Moves::new(DRAIN_MS);
    let turn = moves.begin();
    moves.pass(1_500);
    moves.has_not_moved();
    moves.end(moves.worse, turn);
    moves.pass(100);
    assert!(matches!(moves.answer(1), Some(AnswerKind::AppReply(_))));
    moves.has_moved(turn);
}

/// The bound of the plan: five seconds.
#[test]
fn an_idle_activation_follows_its_host() {
    let mut moves = Moves::new(DRAIN_MS);
    moves.call(1);
    moves.pass(200);
    let [turn] = moves.runs(moves.worse)[..] else {
        panic!("{:?}", moves.said(moves.worse));
    };
    moves.end(moves.worse, turn);
    moves.pass(3_000);
    assert!(matches!(moves.answer(1), Some(AnswerKind::AppReply(_))));
    assert_eq!(moves.said(moves.worse).len(), 1, "it stays where it is");
    moves.host(moves.better, DRAIN_MS);
    moves.pass(5_000);
    assert_eq!(
        moves.said(moves.worse).last(),
        Some(&Said::Drop(turn.activation))
    );
    moves.call(2);
    moves.pass(100);
    moves.has_moved(turn);
}
