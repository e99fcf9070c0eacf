//! Accepted messages: in order, exactly once, with backoff and an end.

use bytes::Bytes;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Accept, Envelope, Kind, ScheduleKind, ScheduleRow};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::limits::{INBOX_ATTEMPTS_MAX, TEXT_BYTES_MAX};
use ghostlight_protocol::outcome::{AppError, NotRun};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::time::WallTime;

use super::harness::*;
use crate::turn_io::TurnEnd;
use crate::turns::inbox::{MESSAGES_MAX, message_request, pause};
use crate::turns::{Due, Load, Standing, TurnsInput};

/// Accepts messages for the named actors.
fn accept(bench: &mut Bench, first: u64, actors: &[&str]) {
    let messages = actors.iter().map(|actor| Envelope {
        actor: actor_key(actor).to_bytes(),
        method: "m".to_owned(),
        ..Envelope::default()
    });
    let outcome = bench.apply(Some(Kind::Accept(Accept {
        source: 0,
        source_epoch: 0,
        first,
        messages: messages.collect(),
    })));
    let EntryOutcome::Accepted { messages, .. } = outcome else {
        panic!("{outcome:?}");
    };
    bench.feed(TurnsInput::Inbox(messages));
}

fn count(bench: &Bench, family: Family) -> usize {
    bench.rows.count(family)
}

fn refused() -> TurnEnd {
    TurnEnd::Refused(NotRun::new(Code::UnknownActorType, "not here"))
}

#[test]
fn messages_run_in_order_and_their_rows_go_with_their_commit() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a", "b"]);
    let starts: Vec<_> = bench.started.drain(..).collect();
    assert_eq!(starts.len(), 2, "one of each actor");
    assert_eq!(starts[0].request, message_request(P0, 1));
    assert_eq!(starts[1].request, message_request(P0, 3));
    bench.end(starts[0].turn, wrote("", "n", "1"));
    let second = bench.turn();
    assert_eq!(second.request, message_request(P0, 2));
    bench.end(second.turn, read("changes nothing"));
    bench.end(starts[1].turn, wrote("", "n", "1"));
    assert_eq!(count(&bench, Family::Inbox), 3);
    bench.settle();
    assert_eq!(count(&bench, Family::Inbox), 0);
    assert_eq!(count(&bench, Family::Dedup), 0, "a message needs no record");
    assert!(bench.engine.settled());
}

#[test]
fn message_refused_by_the_actor_is_dead_at_once() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a"]);
    let turn = bench.turn().turn;
    bench.end(turn, app("No"));
    bench.flush();
    assert!(bench.started.is_empty(), "the next waits for the log");
    bench.apply_one();
    assert_eq!(count(&bench, Family::DeadLetter), 1);
    assert_eq!(bench.turn().request, message_request(P0, 2));
}

#[test]
fn message_that_cannot_run_is_tried_again_with_growing_pauses_then_dead() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a"]);
    for attempt in 1..=INBOX_ATTEMPTS_MAX {
        let start = bench.turn();
        assert_eq!(start.request, message_request(P0, 1), "the order is kept");
        let end = if attempt % 2 == 0 {
            refused()
        } else {
            TurnEnd::Panicked {
                message: "boom".to_owned(),
            }
        };
        bench.end(start.turn, end);
        bench.settle();
        if attempt == INBOX_ATTEMPTS_MAX {
            break;
        }
        // Calls do not wait for it.
        bench.call(Ask::first(u64::from(attempt), "a"));
        let turn = bench.turn().turn;
        bench.end(turn, read("r"));
        bench.settle();
        assert_eq!(bench.answer(caller(u64::from(attempt))), reply("r"));
        assert!(bench.started.is_empty());
        let due = bench.engine.next_deadline().unwrap();
        assert_eq!(due, bench.now + pause(attempt));
        bench.now = due;
        bench.feed(TurnsInput::Tick);
    }
    assert_eq!(count(&bench, Family::DeadLetter), 1);
    assert_eq!(bench.turn().request, message_request(P0, 2));
    assert_eq!(pause(1).as_millis(), 100);
    assert_eq!(pause(30).as_secs(), 10);
}

/// The dead letter carries the message and the reason; together they must fit into a snapshot's
/// frame.
#[test]
fn failing_message_holds_back_messages_and_no_wakeup() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a"]);
    let turn = bench.turn().turn;
    bench.end(turn, refused());
    bench.settle();
    assert!(bench.started.is_empty(), "both wait for the pause to end");
    let due = Due {
        actor: actor_key("a"),
        kind: ScheduleKind::Reminder,
        name: "r".to_owned(),
        row: ScheduleRow {
            due_ms: 100,
            ..ScheduleRow::default()
        },
        tick: WallTime(100),
        standing: Standing::Stands,
    };
    bench.feed(TurnsInput::Due(Box::new(due)));
    let fired = bench.turn();
    assert_eq!(fired.method, "r");
    bench.end(fired.turn, read(""));
    bench.settle();
    assert!(bench.started.is_empty(), "the messages wait on");
    bench.now = bench.engine.next_deadline().unwrap();
    bench.feed(TurnsInput::Tick);
    assert_eq!(bench.turn().request, message_request(P0, 1));
}

#[test]
fn message_that_dies_of_a_long_text_leaves_a_dead_letter_of_bounded_size() {
    let text = "x".repeat(9 << 20);
    let panicked = TurnEnd::Panicked {
        message: text.clone(),
    };
    let refused = TurnEnd::Refused(NotRun {
        code: Code::InvalidArgument,
        detail: text.clone(),
        retry_after: None,
    });
    let app = TurnEnd::App(AppError {
        name: "Long".to_owned(),
        message: text,
        payload: Bytes::new(),
    });
    for end in [panicked, refused, app] {
        let mut bench = Bench::new();
        accept(&mut bench, 1, &["a"]);
        while count(&bench, Family::DeadLetter) == 0 {
            let turn = bench.turn().turn;
            bench.end(turn, end.clone());
            bench.settle();
            if let Some(due) = bench.engine.next_deadline() {
                bench.now = due;
                bench.feed(TurnsInput::Tick);
            }
        }
        let largest = bench.rows.0.values().map(Bytes::len).max();
        assert!(largest < Some(2 * TEXT_BYTES_MAX), "{largest:?}");
    }
}

#[test]
fn message_has_the_time_of_the_log_and_the_same_seed_under_every_leader() {
    let stamp = |own_clock: u64| {
        let mut bench = Bench::new();
        bench.engine.note(WallTime(own_clock), Load::default());
        bench.row.wall_ms = 1_234;
        accept(&mut bench, 1, &["a"]);
        bench.turn().stamp
    };
    assert_eq!(stamp(5).wall_ms, 1_234);
    assert_eq!(stamp(5), stamp(6));
}

#[test]
fn message_whose_row_is_gone_is_forgotten_and_what_was_built_on_it_undone() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a"]);
    let turn = bench.turn().turn;
    bench.end(turn, wrote("", "n", "1"));
    bench.call(Ask::first(1, "a"));
    let on_top = bench.turn().turn;
    bench.end(on_top, wrote("2", "n", "2"));
    bench.flush();
    bench
        .rows
        .0
        .retain(|(family, _), _| *family != Family::Inbox);
    bench.apply_one();
    let again = bench.turn();
    assert_eq!((again.request, again.token.base.0), (session(1), 0));
    bench.end(again.turn, wrote("1", "n", "1"));
    bench.settle();
    assert_eq!(bench.answer(caller(1)), reply("1"));
    assert!(bench.engine.settled());
}

#[test]
fn message_survives_a_refused_proposal_in_order() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a"]);
    for _ in 0..2 {
        let turn = bench.turn().turn;
        bench.end(turn, wrote("", "n", "1"));
    }
    bench.flush();
    bench.log.clear();
    bench.feed(TurnsInput::Dropped);
    assert!(
        bench.started.is_empty(),
        "not at once: Raft has just refused"
    );
    bench.now = bench.engine.next_deadline().unwrap();
    bench.feed(TurnsInput::Tick);
    for sequence in [1, 2] {
        let start = bench.turn();
        assert_eq!(start.request, message_request(P0, sequence));
        bench.end(start.turn, wrote("", "n", "1"));
    }
    bench.settle();
    assert_eq!(count(&bench, Family::Inbox), 0);
}

#[test]
fn message_failure_waits_for_what_it_rests_on() {
    let mut bench = Bench::new();
    accept(&mut bench, 1, &["a", "a"]);
    let one = bench.turn().turn;
    bench.end(one, wrote("", "n", "1"));
    let two = bench.turn().turn;
    bench.end(two, app("No"));
    bench.flush();
    bench.flush();
    assert_eq!(bench.log.len(), 1, "the write alone");
    bench.apply_one();
    bench.flush();
    assert!(matches!(bench.log.front(), Some(Kind::InboxFailed(_))));
    bench.settle();
    assert_eq!(count(&bench, Family::DeadLetter), 1);
}

#[test]
fn message_without_an_actor_is_dead() {
    let mut bench = Bench::new();
    let outcome = bench.apply(Some(Kind::Accept(Accept {
        source: 0,
        source_epoch: 0,
        first: 1,
        messages: vec![Envelope {
            actor: Bytes::from_static(b"?"),
            ..Envelope::default()
        }],
    })));
    let EntryOutcome::Accepted { messages, .. } = outcome else {
        panic!();
    };
    bench.feed(TurnsInput::Inbox(messages));
    bench.settle();
    assert_eq!(count(&bench, Family::DeadLetter), 1);
    assert_eq!(count(&bench, Family::Inbox), 0);
}

#[test]
fn messages_beyond_memory_stay_in_the_store_and_none_is_lost() {
    let mut bench = Bench::new();
    // Pages are cut by bytes: a short one is not the end of the inbox.
    bench.page_bytes = 1_000;
    let actors = vec!["a"; MESSAGES_MAX + 100];
    accept(&mut bench, 1, &actors);
    accept(&mut bench, 1 + actors.len() as u64, &["a"; 50]);
    let mut ran = 0;
    while let Some(start) = bench.started.pop_front() {
        ran += 1;
        assert_eq!(start.request, message_request(P0, ran));
        bench.end(start.turn, wrote("", "n", "1"));
        if bench.started.is_empty() {
            bench.settle();
        }
    }
    assert_eq!(ran, MESSAGES_MAX as u64 + 150);
    assert_eq!(count(&bench, Family::Inbox), 0);
    accept(&mut bench, 1 + ran, &["a"]);
    assert_eq!(bench.turn().request, message_request(P0, ran + 1));
    assert!(
        !bench
            .answers
            .iter()
            .any(|(_, a)| matches!(a, AnswerKind::Reply(_)))
    );
}
