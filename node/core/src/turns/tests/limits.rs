//! The bounds of the defaults, reached.

use bytes::Bytes;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::limits::{
    ENTRY_BYTES_MAX, MAILBOX_CALLS_MAX, REQUEST_BODY_BYTES_MAX, SPECULATION_BYTES_MAX,
    SPECULATION_TURNS_MAX,
};
use ghostlight_protocol::partition_row::Kept;

use super::harness::*;
use crate::turn_io::{OutMessage, TurnEnd};
use crate::turns::{Load, Settings};

fn writes(bytes: usize) -> TurnEnd {
    TurnEnd::Ok {
        reply: Bytes::new(),
        writes: vec![StateWrite {
            key: Bytes::from_static(b"n"),
            value: Some(vec![7; bytes].into()),
            ..StateWrite::default()
        }],
        sends: Vec::new(),
        schedule: Vec::new(),
    }
}

#[test]
fn they_are_those_of_the_design() {
    let kept = (
        ENTRY_BYTES_MAX,
        REQUEST_BODY_BYTES_MAX,
        MAILBOX_CALLS_MAX,
        SPECULATION_TURNS_MAX,
        SPECULATION_BYTES_MAX,
    );
    assert_eq!(kept, (8 << 20, 4 << 20, 4_096, 64, 1 << 20));
}

#[test]
fn mailbox_holds_4096_calls_beside_the_one_that_runs() {
    let mut bench = Bench::new();
    for n in 1..=1 + MAILBOX_CALLS_MAX as u64 {
        bench.call(Ask::first(n, "a"));
    }
    bench.silent();
    let one_more = bench.call(Ask::first(9_999, "a"));
    assert_eq!(code(&bench.answer(one_more)), Code::MailboxFull);
    // Another actor has a mailbox of its own.
    bench.call(Ask::first(10_000, "b"));
    bench.silent();
}

#[test]
fn an_entry_holds_8_mib_and_a_turn_that_leaves_more_is_rolled_back() {
    let room = 4 << 10;
    for (bytes, fits) in [(ENTRY_BYTES_MAX - room, true), (ENTRY_BYTES_MAX, false)] {
        let mut bench = Bench::new();
        let caller = bench.call(Ask::first(1, "a"));
        let turn = bench.turn().turn;
        bench.end(turn, writes(bytes));
        bench.settle();
        let answer = bench.answer(caller);
        if fits {
            assert_eq!(answer, reply(""));
        } else {
            assert_eq!(code(&answer), Code::TurnTooLarge);
        }
        let stored = bench.state(&actor_key("a"), b"n").map(|value| value.len());
        assert_eq!(stored, fits.then_some(bytes));
    }
}

#[test]
fn a_message_holds_as_much_as_a_request() {
    for (bytes, fits) in [
        (REQUEST_BODY_BYTES_MAX, true),
        (REQUEST_BODY_BYTES_MAX + 1, false),
    ] {
        let mut bench = Bench::new();
        let caller = bench.call(Ask::first(1, "a"));
        let turn = bench.turn().turn;
        let send = OutMessage {
            actor: actor_key("b"),
            method: "m".to_owned(),
            body: vec![7; bytes].into(),
        };
        let sends = vec![send];
        bench.end(
            turn,
            TurnEnd::Ok {
                reply: Bytes::new(),
                writes: Vec::new(),
                sends,
                schedule: Vec::new(),
            },
        );
        bench.settle();
        let answer = bench.answer(caller);
        if fits {
            assert_eq!(answer, reply(""));
        } else {
            assert_eq!(code(&answer), Code::TurnTooLarge);
        }
    }
}

/// Turns of one actor that start before anything is committed.
fn started_ahead(end: impl Fn() -> TurnEnd) -> usize {
    let mut bench = Bench::new();
    for n in 1..=2 * SPECULATION_TURNS_MAX as u64 {
        bench.call(Ask::first(n, "a"));
    }
    let mut started = 0;
    while let Some(start) = bench.started.pop_front() {
        started += 1;
        bench.end(start.turn, end());
    }
    started
}

#[test]
fn speculation_ends_at_64_turns_or_1_mib_and_is_always_one_turn() {
    // The first rests on nothing uncommitted.
    assert_eq!(
        started_ahead(|| wrote("w", "n", "1")),
        1 + SPECULATION_TURNS_MAX
    );
    assert_eq!(started_ahead(|| writes(SPECULATION_BYTES_MAX / 4)), 1 + 4);
    assert_eq!(started_ahead(|| writes(3 * SPECULATION_BYTES_MAX)), 1 + 1);
}

#[test]
fn requests_from_outside_are_refused_while_too_many_messages_wait_and_those_of_turns_are_not() {
    let max = Kept {
        rows: 10,
        bytes: 1_000,
    };
    let kept = |rows, bytes| Kept { rows, bytes };
    let nothing = Kept::default();
    // (outbox, inbox, whether a request from outside is refused)
    let table = [
        (nothing, nothing, false),
        (kept(9, 999), kept(9, 999), false),
        (kept(10, 1), nothing, true),
        (kept(1, 1_000), nothing, true),
        (nothing, kept(10, 1), true),
        (nothing, kept(1, 1_000), true),
    ];
    for (outbox, inbox, refused) in table {
        let mut bench = Bench::with(Settings {
            messages_max: max,
            ..Settings::default()
        });
        (bench.row.outbox_rows, bench.row.outbox_bytes) = (outbox.rows, outbox.bytes);
        (bench.row.inbox_rows, bench.row.inbox_bytes) = (inbox.rows, inbox.bytes);
        assert_eq!(Load::of(&bench.row).outbox, outbox);
        let shown = format!("{outbox:?} {inbox:?}");
        let outside = bench.call(Ask::first(1, "a"));
        if refused {
            let answer = bench.answer(outside);
            assert_eq!(code(&answer), Code::MessagesFull, "{shown}");
            let AnswerKind::NotRun(refusal) = answer else {
                panic!("it certainly did not run: {answer:?}");
            };
            assert!(refusal.retry_after_ms > 0, "{shown}");
        } else {
            bench.turn();
        }
        // A turn waits for this one: were it refused, nothing that sends could ever end.
        bench.call(Ask {
            chain: vec![actor_key("caller")],
            ..Ask::first(2, "b")
        });
        bench.turn();
        bench.silent();
    }
}
