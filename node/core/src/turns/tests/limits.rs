//! The bounds of the defaults, reached.

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::limits::{
    ENTRY_BYTES_MAX, MAILBOX_CALLS_MAX, REQUEST_BODY_BYTES_MAX, SPECULATION_BYTES_MAX,
    SPECULATION_TURNS_MAX,
};

use super::harness::*;
use crate::turn_io::{OutMessage, TurnEnd};

fn writes(bytes: usize) -> TurnEnd {
    TurnEnd::Ok {
        reply: Bytes::new(),
        writes: vec![StateWrite {
            key: Bytes::from_static(b"n"),
            value: Some(vec![7; bytes].into()),
            ..StateWrite::default()
        }],
        sends: Vec::new(),
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
