//! Parts of an application's turn: what was committed on the way stays, and the request is never
//! run again.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::call::{AnswerKind, MayHaveRun};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{
    Accept, DedupRecord, Envelope, IfThere, Kind, ScheduleKind, ScheduleRow, ScheduleWrite, Share,
};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::ActorVersion;
use ghostlight_protocol::outcome::{Answer, TurnAnswer};
use ghostlight_protocol::replica::EntryOutcome;
use prost::Message;

use super::harness::*;
use crate::turn_io::{PartEnd, RunnerEffect, Staged, TurnAsk, TurnEnd, TurnId, TurnTold};
use crate::turns::TurnsInput;

/// State and a reminder, as an application sets one in its turn.
fn staged(value: &str, if_there: IfThere) -> Staged {
    let reminder = ScheduleWrite {
        kind: ScheduleKind::Reminder as i32,
        name: "r".to_owned(),
        row: Some(ScheduleRow {
            due_ms: 5_000,
            ..ScheduleRow::default()
        }),
        if_there: if_there as i32,
    };
    Staged {
        writes: vec![put("k", value)],
        sends: Vec::new(),
        schedule: vec![reminder],
    }
}

impl Bench {
    fn part(&mut self, turn: TurnId, ask: u32, staged: Staged) {
        self.ask(turn, ask, TurnAsk::Commit(Box::new(staged)));
    }

    /// What the host is told of the only part it asked for since the last look.
    #[track_caller]
    fn part_end(&mut self, wanted: u32) -> PartEnd {
        match self.told.pop() {
            Some(RunnerEffect::Tell {
                ask,
                told: TurnTold::Part(end),
                ..
            }) => {
                assert_eq!(ask, wanted);
                end
            }
            other => panic!("{other:?}"),
        }
    }

    /// A turn of a call, of which a part is committed.
    fn turn_with_a_part(&mut self, n: u64) -> TurnId {
        self.call(cart_call(n));
        let turn = self.turn().turn;
        self.part(turn, 1, staged("part", IfThere::Replace));
        assert!(self.told.is_empty(), "not before it is committed");
        self.settle();
        assert_eq!(self.part_end(1), PartEnd::Committed(ActorVersion(1)));
        turn
    }

    fn record(&self, n: u64) -> Option<Answer> {
        let key = family::dedup_key(&cart(), &session(n));
        let record = self.rows.0[&(Family::Dedup, key)].clone();
        DedupRecord::decode(record).unwrap().answer?.answer
    }

    fn reminder(&self) -> Option<Bytes> {
        let key = family::schedule_key(&cart(), ScheduleKind::Reminder, "r");
        self.rows.0.get(&(Family::Schedule, key)).cloned()
    }

    /// Shares of the turns in the oldest entry.
    fn shares(&self) -> Vec<Share> {
        match self.log.front() {
            Some(Kind::Turns(turns)) => turns.turns.iter().map(|turn| turn.share()).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// A request that is sent again is not run, and hears that it was interrupted.
    #[track_caller]
    fn stays_interrupted(&mut self, n: u64) {
        let again = self.call(Ask {
            attempt: 2,
            ..cart_call(n)
        });
        self.settle();
        assert!(self.started.is_empty(), "it is never run again");
        assert_eq!(code(&self.answer(again)), Code::Interrupted);
        assert_eq!(self.state(&cart(), b"k").unwrap(), "part");
    }
}

#[test]
fn a_part_counts_while_its_turn_goes_on() {
    let mut bench = Bench::new();
    bench.turn_with_a_part(1);
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "part");
    assert!(bench.reminder().is_some());
    let interrupted = TurnAnswer::interrupted().answer;
    assert_eq!(bench.record(1), interrupted);
    bench.silent();
    assert!(!bench.engine.settled(), "the turn runs");
}

#[test]
fn a_turn_cut_after_a_part_is_not_run_by_the_next_leader() {
    let mut bench = Bench::new();
    bench.turn_with_a_part(1);
    bench.depose(0);
    let AnswerKind::Redirect(redirect) = bench.answer(caller(1)) else {
        panic!("it is asked again elsewhere");
    };
    assert_eq!(redirect.may_have_run(), MayHaveRun::Yes);
    bench.stays_interrupted(1);
}

#[test]
fn a_turn_lost_after_a_part_is_interrupted() {
    let mut bench = Bench::new();
    let turn = bench.turn_with_a_part(1);
    let detail = "its process died".to_owned();
    bench.end(turn, TurnEnd::Lost { detail });
    bench.settle();
    assert_eq!(code(&bench.answer(caller(1))), Code::Interrupted);
    bench.stays_interrupted(1);
}

#[test]
fn the_answer_of_a_turn_replaces_the_record_of_its_parts() {
    let mut bench = Bench::new();
    let from = bench.call(cart_call(1));
    let turn = bench.turn().turn;
    for (ask, share) in [(1, Share::Part), (2, Share::More)] {
        bench.part(turn, ask, staged("part", IfThere::Replace));
        bench.flush();
        assert_eq!(bench.shares(), [share]);
        bench.apply_one();
        let version = ActorVersion(u64::from(ask));
        assert_eq!(bench.part_end(ask), PartEnd::Committed(version));
    }
    bench.end(turn, answered("done", &[("k", "rest")]));
    bench.flush();
    assert_eq!(bench.shares(), [Share::Rest]);
    bench.silent();
    bench.apply_one();
    assert_eq!(bench.answer(from), reply_of("done"));
    assert!(matches!(bench.record(1), Some(Answer::AppReply(_))));
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "rest");
    let again = bench.call(Ask {
        attempt: 2,
        ..cart_call(1)
    });
    bench.settle();
    assert_eq!(bench.answer(again), reply_of("done"));
    assert!(bench.started.is_empty());
}

/// An answer that changed nothing: without an entry the request would stay interrupted.
#[test]
fn the_answer_of_a_turn_with_parts_is_recorded_also_if_it_changed_nothing() {
    let mut bench = Bench::new();
    let turn = bench.turn_with_a_part(1);
    bench.end(turn, answered("done", &[]));
    bench.settle();
    assert_eq!(bench.answer(caller(1)), reply_of("done"));
    assert!(matches!(bench.record(1), Some(Answer::AppReply(_))));
}

#[test]
fn a_part_that_must_not_replace_a_reminder_writes_nothing_where_one_is() {
    let mut bench = Bench::new();
    let there = ScheduleRow {
        due_ms: 7_000,
        ..ScheduleRow::default()
    };
    let there = Bytes::from(there.encode_to_vec());
    let key = family::schedule_key(&cart(), ScheduleKind::Reminder, "r");
    bench.rows.0.insert((Family::Schedule, key), there.clone());
    let from = bench.call(cart_call(1));
    let turn = bench.turn().turn;
    bench.part(turn, 1, staged("part", IfThere::Skip));
    assert_eq!(bench.part_end(1), PartEnd::ScheduleThere);
    bench.flush();
    assert!(bench.log.is_empty(), "nothing is written");
    // Nothing of it is committed: its turn goes on, and is no interrupted one.
    bench.end(turn, answered("done", &[("k", "whole")]));
    bench.flush();
    assert_eq!(bench.shares(), [Share::Whole]);
    bench.apply_one();
    assert_eq!(bench.answer(from), reply_of("done"));
    assert_eq!(bench.reminder(), Some(there));
}

#[test]
fn a_part_that_must_not_replace_a_reminder_commits_where_there_is_none() {
    let mut bench = Bench::new();
    bench.call(cart_call(1));
    let turn = bench.turn().turn;
    bench.part(turn, 1, staged("part", IfThere::Skip));
    bench.settle();
    assert_eq!(bench.part_end(1), PartEnd::Committed(ActorVersion(1)));
    assert!(bench.reminder().is_some());
}

/// Its process dies while the part waits for its place in the log: nothing of it is left but an
/// entry, which is proposed, and applied or refused, without it.
#[test]
fn a_turn_lost_with_a_part_that_waits_to_be_proposed_is_interrupted() {
    for comes_through in [true, false] {
        let mut bench = Bench::new();
        bench.call(cart_call(1));
        let turn = bench.turn().turn;
        bench.part(turn, 1, staged("part", IfThere::Replace));
        let detail = "its process died".to_owned();
        bench.end(turn, TurnEnd::Lost { detail });
        bench.flush();
        if !comes_through {
            bench.log.pop_back().expect("the part was proposed");
            bench.feed(TurnsInput::Dropped);
        }
        bench.settle();
        assert_eq!(code(&bench.answer(caller(1))), Code::Interrupted);
        assert!(bench.started.is_empty(), "it is not run again");
        let state = bench.state(&cart(), b"k");
        assert_eq!(state.is_some(), comes_through);
    }
}

/// Raft refuses the first part of a call's turn: what its method did meanwhile, nobody can tell.
#[test]
fn a_call_whose_first_part_raft_refused_is_interrupted() {
    let mut bench = Bench::new();
    bench.call(cart_call(1));
    let turn = bench.turn().turn;
    bench.part(turn, 1, staged("refused", IfThere::Replace));
    bench.flush();
    bench.log.pop_back().expect("the part was proposed");
    bench.feed(TurnsInput::Dropped);
    bench.settle();
    assert_eq!(code(&bench.answer(caller(1))), Code::Interrupted);
    assert!(bench.started.is_empty(), "it is not run again");
    assert_eq!(bench.state(&cart(), b"k"), None);
}

/// The turn of a message.
fn message_turn(bench: &mut Bench) -> TurnId {
    let message = Envelope {
        actor: cart().to_bytes(),
        method: "m".to_owned(),
        ..Envelope::default()
    };
    let outcome = bench.apply(Some(Kind::Accept(Accept {
        source: 0,
        source_epoch: 0,
        first: 1,
        messages: vec![message],
    })));
    let EntryOutcome::Accepted { messages, .. } = outcome else {
        panic!("{outcome:?}");
    };
    bench.feed(TurnsInput::Inbox(messages));
    bench.turn().turn
}

/// Nothing of it has come through: it is no dead letter, and runs again after a pause.
#[test]
fn a_message_whose_first_part_raft_refused_is_run_again() {
    let mut bench = Bench::new();
    let turn = message_turn(&mut bench);
    bench.part(turn, 1, staged("refused", IfThere::Replace));
    bench.flush();
    bench.log.pop_back().expect("the part was proposed");
    bench.feed(TurnsInput::Dropped);
    bench.settle();
    assert!(bench.started.is_empty(), "there is a pause");
    assert_eq!(bench.rows.count(Family::DeadLetter), 0);
    bench.now = bench.now + Duration::from_secs(1);
    bench.feed(TurnsInput::Tick);
    let again = bench.turn().turn;
    // Its host still runs what was given up: another pause.
    let detail = "it still runs".to_owned();
    bench.end(again, TurnEnd::NotStarted { detail });
    assert!(bench.started.is_empty(), "there is a pause");
    bench.now = bench.now + Duration::from_secs(1);
    bench.feed(TurnsInput::Tick);
    let last = bench.turn().turn;
    bench.end(last, answered("done", &[("k", "again")]));
    bench.settle();
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "again");
    assert_eq!(bench.rows.count(Family::Inbox), 0);
}

/// How a message's turn is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    ItsHostIsGone,
    ItsLeaderIsDeposed,
}

#[test]
fn a_message_cut_after_a_part_is_one_dead_letter() {
    for cut in [Cut::ItsHostIsGone, Cut::ItsLeaderIsDeposed] {
        let mut bench = Bench::new();
        let turn = message_turn(&mut bench);
        bench.part(turn, 1, staged("part", IfThere::Replace));
        bench.settle();
        assert_eq!(bench.rows.count(Family::Inbox), 1, "its turn goes on");
        match cut {
            Cut::ItsHostIsGone => {
                let detail = "its process died".to_owned();
                bench.end(turn, TurnEnd::Lost { detail });
            }
            Cut::ItsLeaderIsDeposed => bench.depose(0),
        }
        bench.settle();
        assert!(bench.started.is_empty(), "{cut:?}: it is not run again");
        assert_eq!(bench.rows.count(Family::DeadLetter), 1, "{cut:?}");
        assert_eq!(bench.rows.count(Family::Inbox), 0, "{cut:?}");
        assert_eq!(bench.state(&cart(), b"k").unwrap(), "part", "{cut:?}");
        assert!(
            bench.engine.next_deadline().is_none_or(|at| at > bench.now),
            "{cut:?}"
        );
    }
}
