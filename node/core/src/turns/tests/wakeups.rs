//! Firings whose row changes under them, and those whose time has passed.

use bytes::Bytes;
use ghostlight_protocol::call::{Ask as Operate, Operation, ScheduleChange};
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow, ScheduleWrite};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::time::WallTime;
use prost::Message;

use super::harness::*;
use crate::turn_io::{PartEnd, RunnerEffect, Staged, TurnAsk, TurnEnd, TurnTold};
use crate::turns::{Due, Standing, TurnsInput, WakeupEnd};

const KINDS: [ScheduleKind; 2] = [ScheduleKind::Reminder, ScheduleKind::Timer];

fn row(due_ms: u64) -> ScheduleRow {
    ScheduleRow {
        due_ms,
        ..ScheduleRow::default()
    }
}

/// The application sets the row of `r`, or removes it: asked at once, committed with the next
/// entry.
fn ask(bench: &mut Bench, n: u64, kind: ScheduleKind, row: Option<ScheduleRow>) {
    let write = ScheduleWrite {
        kind: kind as i32,
        name: "r".to_owned(),
        row,
        ..ScheduleWrite::default()
    };
    let change = ScheduleChange {
        writes: vec![write],
    };
    let mut request = cart_call(n).request();
    request.operation = Some(Operation {
        ask: Some(Operate::Schedule(change)),
    });
    let from = caller(n);
    bench.feed(TurnsInput::Call { from, request });
}

fn set(bench: &mut Bench, n: u64, kind: ScheduleKind, row: Option<ScheduleRow>) {
    ask(bench, n, kind, row);
    bench.settle();
    bench.answers.clear();
}

fn due(kind: ScheduleKind, row: ScheduleRow) -> Due {
    Due {
        actor: cart(),
        kind,
        name: "r".to_owned(),
        tick: WallTime(row.due_ms),
        row,
        standing: Standing::Stands,
    }
}

fn stored(bench: &Bench, kind: ScheduleKind) -> Option<u64> {
    let key = family::schedule_key(&cart(), kind, "r");
    let row = bench.rows.0.get(&(Family::Schedule, key))?;
    Some(ScheduleRow::decode(row.clone()).unwrap().due_ms)
}

/// A callback that sets its own timer, or its own reminder, anew: what it saved is kept, and so is
/// what it set. Also if what it set is still on its way when it answers.
#[test]
fn a_turn_that_sets_its_own_row_anew_counts() {
    for (kind, early) in KINDS.into_iter().flat_map(|k| [(k, true), (k, false)]) {
        let mut bench = Bench::new();
        set(&mut bench, 1, kind, Some(row(100)));
        bench.feed(TurnsInput::Due(Box::new(due(kind, row(100)))));
        let turn = bench.turn().turn;
        ask(&mut bench, 2, kind, Some(row(5_100)));
        if early {
            bench.settle();
        } else {
            bench.flush();
        }
        bench.end(turn, answered("", &[("k", "v")]));
        bench.settle();
        let case = format!("{kind:?}, committed before its end: {early}");
        assert_eq!(bench.state(&cart(), b"k"), Some(Bytes::from("v")), "{case}");
        assert_eq!(stored(&bench, kind), Some(5_100), "{case}");
        let over: Vec<WakeupEnd> = bench.over.iter().map(|(_, end)| *end).collect();
        assert_eq!(over, [WakeupEnd::Called], "{case}");
    }
}

/// What was written meanwhile does not count if Raft refuses it; the firing's own word does then.
#[test]
fn a_firing_whose_row_is_written_in_vain_moves_its_row_itself() {
    for kind in KINDS {
        let mut bench = Bench::new();
        set(&mut bench, 1, kind, Some(row(100)));
        bench.feed(TurnsInput::Due(Box::new(due(kind, row(100)))));
        let turn = bench.turn().turn;
        ask(&mut bench, 2, kind, Some(row(5_100)));
        bench.end(turn, answered("", &[("k", "v")]));
        bench.flush();
        bench.log.pop_back().expect("the operation was proposed");
        bench.feed(TurnsInput::Dropped);
        bench.settle();
        let again = bench.turn().turn;
        bench.end(again, answered("", &[("k", "v")]));
        bench.settle();
        assert_eq!(
            bench.state(&cart(), b"k"),
            Some(Bytes::from("v")),
            "{kind:?}"
        );
        assert_eq!(stored(&bench, kind), None, "{kind:?}: it fired, once");
    }
}

/// The actor is in a long turn when its timer is set anew or removed: what was due before that does
/// not run.
#[test]
fn a_firing_that_waits_is_over_when_its_row_is_another_one() {
    for (kind, next) in KINDS
        .into_iter()
        .flat_map(|k| [(k, Some(5_100)), (k, None)])
    {
        let mut bench = Bench::new();
        set(&mut bench, 1, kind, Some(row(100)));
        bench.call(cart_call(2));
        let long = bench.turn().turn;
        bench.feed(TurnsInput::Due(Box::new(due(kind, row(100)))));
        set(&mut bench, 3, kind, next.map(row));
        let over: Vec<WakeupEnd> = bench.over.iter().map(|(_, end)| *end).collect();
        assert_eq!(over, [WakeupEnd::Overtaken], "{kind:?} {next:?}");
        bench.end(long, answered("", &[("k", "v")]));
        bench.settle();
        assert!(bench.started.is_empty(), "{kind:?} {next:?}");
        assert_eq!(stored(&bench, kind), next);
    }
}

/// A row whose time is over when its turn would begin ends without a call.
#[test]
fn a_firing_after_the_time_of_its_row_calls_nobody() {
    for (kind, ends_after_ms) in KINDS.into_iter().flat_map(|k| [(k, 1), (k, 0)]) {
        let mut bench = Bench::new();
        let wall = bench.now.0 / 1_000_000;
        let row = ScheduleRow {
            period: "10ms".to_owned(),
            ends_ms: wall + ends_after_ms,
            ..row(wall - 100)
        };
        set(&mut bench, 1, kind, Some(row.clone()));
        bench.feed(TurnsInput::Due(Box::new(due(kind, row))));
        if ends_after_ms > 0 {
            assert_eq!(bench.started.len(), 1, "{kind:?}: it fires while it may");
            continue;
        }
        bench.settle();
        assert!(bench.started.is_empty(), "{kind:?}");
        assert_eq!(stored(&bench, kind), None, "{kind:?}");
        let over: Vec<WakeupEnd> = bench.over.iter().map(|(_, end)| *end).collect();
        assert_eq!(over, [WakeupEnd::Overtaken], "{kind:?}");
        bench.call(cart_call(2));
        assert_eq!(bench.started.len(), 1, "{kind:?}: the actor goes on");
    }
}

/// A native actor sets a reminder, or ends it: with the turn, or not at all.
#[test]
fn a_native_turn_and_its_reminder_are_one() {
    let native = |row: Option<ScheduleRow>| TurnEnd::Ok {
        reply: Bytes::new(),
        writes: Vec::new(),
        sends: Vec::new(),
        schedule: vec![ScheduleWrite {
            kind: ScheduleKind::Reminder as i32,
            name: "r".to_owned(),
            row,
            ..ScheduleWrite::default()
        }],
    };
    let mut bench = Bench::new();
    let mut turn = |n: u64, end: TurnEnd, wanted: Option<u64>| {
        bench.call(cart_call(n));
        let before = stored(&bench, ScheduleKind::Reminder);
        let turn = bench.turn().turn;
        bench.end(turn, end);
        assert_eq!(
            stored(&bench, ScheduleKind::Reminder),
            before,
            "{n}: too early"
        );
        bench.settle();
        assert_eq!(stored(&bench, ScheduleKind::Reminder), wanted, "{n}");
    };
    turn(1, native(Some(row(5_000))), Some(5_000));
    turn(2, app("no"), Some(5_000));
    turn(3, native(Some(row(7_000))), Some(7_000));
    turn(4, native(None), None);
    turn(5, native(None), None);
}

/// A timer is set and nobody waits for it, then a reminder: that one commits when the timer has.
#[test]
fn a_reminder_that_is_set_waits_for_what_is_under_way() {
    let mut bench = Bench::new();
    let from = bench.call(Ask {
        actor: cart(),
        ..Ask::first(1, "a")
    });
    let turn = bench.turn().turn;
    ask(&mut bench, 2, ScheduleKind::Timer, Some(row(900)));
    bench.flush();
    let reminder = ScheduleWrite {
        kind: ScheduleKind::Reminder as i32,
        name: "r".to_owned(),
        row: Some(row(700)),
        ..ScheduleWrite::default()
    };
    let staged = Staged {
        schedule: vec![reminder],
        ..Staged::default()
    };
    bench.told.clear();
    bench.ask(turn, 1, TurnAsk::Commit(Box::new(staged)));
    bench.flush();
    assert_eq!(bench.told, [], "it is not refused");
    assert_eq!(stored(&bench, ScheduleKind::Reminder), None);
    bench.settle();
    assert_eq!(stored(&bench, ScheduleKind::Timer), Some(900));
    assert_eq!(stored(&bench, ScheduleKind::Reminder), Some(700));
    let committed = |effect: &RunnerEffect| {
        let RunnerEffect::Tell { told, .. } = effect else {
            return false;
        };
        matches!(told, TurnTold::Part(PartEnd::Committed(_)))
    };
    assert!(bench.told.iter().any(committed), "{:?}", bench.told);
    bench.end(turn, answered("", &[("k", "v")]));
    bench.settle();
    bench.answer(from);
    assert_eq!(bench.state(&cart(), b"k"), Some(Bytes::from("v")));
}
