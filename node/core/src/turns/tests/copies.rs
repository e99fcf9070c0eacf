//! Too few copies: writes are refused, everything else goes on. And calls of turns that are over.

use bytes::Bytes;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Accept, Envelope, Kind};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::replica::EntryOutcome;

use super::harness::*;
use crate::turn_io::{OutMessage, RunnerEffect, TurnAsk, TurnEnd};
use crate::turns::{TurnsInput, Writes};

const REFUSED: Writes = Writes::FewCopies {
    voters: 1,
    wanted: 2,
};

fn sent() -> TurnEnd {
    let send = OutMessage {
        actor: actor_key("b"),
        method: "m".to_owned(),
        body: Bytes::new(),
    };
    TurnEnd::Ok {
        reply: Bytes::new(),
        writes: Vec::new(),
        sends: vec![send],
        schedule: Vec::new(),
    }
}

fn call_ask() -> TurnAsk {
    TurnAsk::Call {
        actor: actor_key("b"),
        method: "m".to_owned(),
        body: Bytes::new(),
        deadline: None,
        metadata: Vec::new(),
        ordinal: None,
    }
}

fn run(bench: &mut Bench, ask: Ask, end: TurnEnd) -> AnswerKind {
    let caller = bench.call(ask);
    let turn = bench.turn().turn;
    bench.end(turn, end);
    bench.settle();
    bench.answer(caller)
}

#[test]
fn min_copies_refuses_writes_alone() {
    let mut bench = Bench::new();
    bench.feed(TurnsInput::Writes(REFUSED));
    assert_eq!(run(&mut bench, Ask::first(1, "a"), read("1")), reply("1"));
    assert_eq!(run(&mut bench, Ask::again(2, "a"), read("2")), reply("2"));
    let refused = run(&mut bench, Ask::outside(3, "a"), app("No"));
    assert_eq!(refused, AnswerKind::App(error("No")));
    for (n, end) in [(4, wrote("w", "n", "1")), (5, sent())] {
        bench.told.clear();
        let answer = run(&mut bench, Ask::first(n, "a"), end);
        assert_eq!(code(&answer), Code::MinCopies);
        let AnswerKind::NotRun(refusal) = answer else {
            panic!("it certainly has no effect: {answer:?}");
        };
        assert!(refusal.retry_after_ms > 0);
        let resets = bench.told.iter();
        let resets = resets.filter(|e| matches!(e, RunnerEffect::Reset(_)));
        assert_eq!(resets.count(), 1, "what it did in memory is forgotten");
    }
    assert!(bench.state(&actor_key("a"), b"n").is_none());
    bench.feed(TurnsInput::Writes(Writes::Taken));
    let answer = run(&mut bench, Ask::first(6, "a"), wrote("w", "n", "1"));
    assert_eq!(answer, reply("w"));
}

#[test]
fn without_room_writes_are_refused_and_reads_are_served() {
    let mut bench = Bench::new();
    bench.feed(TurnsInput::Writes(Writes::NoRoom));
    assert_eq!(run(&mut bench, Ask::first(1, "a"), read("1")), reply("1"));
    let refused = run(&mut bench, Ask::first(2, "a"), wrote("w", "n", "1"));
    assert_eq!(code(&refused), Code::DiskRoomShort);
    assert!(bench.rows.0.is_empty() && bench.log.is_empty());
    bench.feed(TurnsInput::Writes(Writes::Taken));
    let answer = run(&mut bench, Ask::first(3, "a"), wrote("w", "n", "1"));
    assert_eq!(answer, reply("w"));
}

#[test]
fn min_copies_what_was_on_its_way_into_the_log_commits() {
    let mut bench = Bench::new();
    let caller = bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, wrote("w", "n", "1"));
    bench.feed(TurnsInput::Writes(REFUSED));
    bench.settle();
    assert_eq!(bench.answer(caller), reply("w"));
}

#[test]
fn min_copies_a_writer_that_called_out_is_unknown() {
    let mut bench = Bench::new();
    bench.feed(TurnsInput::Writes(REFUSED));
    let caller = bench.call(Ask::outside(1, "a"));
    let turn = bench.turn().turn;
    bench.ask(turn, 1, call_ask());
    bench.end(turn, wrote("w", "n", "1"));
    bench.settle();
    assert_eq!(code(&bench.answer(caller)), Code::OutcomeUnknown);
    assert!(bench.rows.0.is_empty());
}

#[test]
fn min_copies_messages_wait_and_lose_no_attempt() {
    let mut bench = Bench::new();
    let message = Envelope {
        actor: actor_key("a").to_bytes(),
        method: "m".to_owned(),
        ..Envelope::default()
    };
    let outcome = bench.apply(Some(Kind::Accept(Accept {
        source: 0,
        source_epoch: 0,
        first: 1,
        messages: vec![message.clone(), message],
    })));
    let EntryOutcome::Accepted { messages, .. } = outcome else {
        panic!("{outcome:?}");
    };
    bench.feed(TurnsInput::Inbox(messages));
    // The first runs already when the copies are lost.
    let turn = bench.turn().turn;
    bench.feed(TurnsInput::Writes(REFUSED));
    bench.end(turn, wrote("", "n", "1"));
    bench.settle();
    assert!(bench.started.is_empty() && bench.log.is_empty());
    // Calls that read do not wait behind them.
    assert_eq!(run(&mut bench, Ask::first(1, "a"), read("r")), reply("r"));
    bench.feed(TurnsInput::Writes(Writes::Taken));
    for _ in 0..2 {
        let turn = bench.turn().turn;
        bench.end(turn, wrote("", "n", "1"));
        bench.settle();
    }
    let left = |family| bench.rows.count(family);
    assert_eq!((left(Family::Inbox), left(Family::DeadLetter)), (0, 0));
    assert_eq!(bench.engine.counters().messages_failed, 0);
}

#[test]
fn turn_gone_is_told_of_every_turn_that_called_and_is_over() {
    // Its end, the end of its leadership, and what undoes it: all end its calls.
    for over in ["ends", "deposed", "undone"] {
        let mut bench = Bench::new();
        bench.call(Ask::first(1, "a"));
        let mut turn = bench.turn().turn;
        if over == "undone" {
            bench.call(Ask::first(2, "a"));
            bench.end(turn, wrote("w", "n", "1"));
            turn = bench.turn().turn;
            bench.flush();
        }
        bench.ask(turn, 1, call_ask());
        assert!(bench.gone.is_empty());
        match over {
            "ends" => bench.end(turn, wrote("w", "n", "1")),
            "deposed" => bench.depose(0),
            _ => {
                bench.log.pop_back();
                bench.feed(TurnsInput::Dropped);
            }
        }
        assert_eq!(bench.gone, [turn], "{over}");
    }
    let mut bench = Bench::new();
    run(&mut bench, Ask::first(1, "a"), wrote("w", "n", "1"));
    assert_eq!(bench.gone, [], "nothing is said of turns that did not call");
}

#[test]
fn lost_turn_is_unknown_keeps_nothing_and_is_not_run_again() {
    let lost = || TurnEnd::Lost {
        detail: "the application died".to_owned(),
    };
    for ask in [Ask::first(1, "a"), Ask::again(2, "a"), Ask::outside(3, "a")] {
        let mut bench = Bench::new();
        let caller = bench.call(ask);
        let turn = bench.turn().turn;
        bench.end(turn, lost());
        let answer = bench.answer(caller);
        assert_eq!(code(&answer), Code::OutcomeUnknown);
        let AnswerKind::Unknown(unknown) = answer else {
            panic!("a redirect would send it on: {answer:?}");
        };
        assert!(unknown.detail.contains("the application died"));
        assert_eq!(bench.told, [RunnerEffect::Drop(turn.activation)]);
        bench.settle();
        assert!(bench.started.is_empty() && bench.rows.0.is_empty());
    }
}
