//! Admission, records, answers: one test for each rule.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, CallAnswer, MayHaveRun};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::Kind;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::limits::{CALL_CHAIN_MAX, CLOSED_STEP, TEXT_BYTES_MAX};
use ghostlight_protocol::outcome::{AppError, NotRun};
use ghostlight_protocol::request::RequestId;
use prost::Message;

use super::harness::*;
use crate::turn_io::{OutMessage, RunnerEffect, TurnAsk, TurnEnd, TurnStart};
use crate::turns::{Caller, Settings, TurnsInput};

/// Runs a call alone, to its end.
fn run(bench: &mut Bench, ask: Ask, end: TurnEnd) -> AnswerKind {
    let caller = bench.call(ask);
    let turn = bench.turn().turn;
    bench.end(turn, end);
    bench.settle();
    bench.answer(caller)
}

fn redirected(answer: &AnswerKind) -> MayHaveRun {
    match answer {
        AnswerKind::Redirect(redirect) => redirect.may_have_run(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn dedup_a_first_attempt_of_a_session_needs_no_lookup_and_all_others_do() {
    let mut bench = Bench::new();
    bench.reads = Reads::ByHand;
    bench.call(Ask::first(1, "a"));
    assert_eq!(bench.asked.len(), 1, "only the version: {:?}", bench.asked);
    bench.asked.clear();
    let derived = Ask {
        id: RequestId::Derived(7),
        ..Ask::first(4, "a")
    };
    for ask in [Ask::again(2, "a"), Ask::outside(3, "a"), derived] {
        bench.call(ask);
        assert_eq!(bench.asked.len(), 1);
        bench.asked.clear();
    }
}

#[test]
fn dedup_a_recorded_request_gets_its_answer_but_only_after_a_read_index() {
    let mut bench = Bench::new();
    assert_eq!(
        run(&mut bench, Ask::first(1, "a"), wrote("one", "n", "1")),
        reply("one")
    );
    let again = bench.call(Ask {
        caller: caller(50),
        ..Ask::again(1, "a")
    });
    assert!(bench.started.is_empty());
    bench.silent();
    bench.flush();
    bench.silent();
    bench.confirm();
    assert_eq!(bench.answer(again), reply("one"));
}

#[test]
fn dedup_the_same_id_with_other_content_is_refused_recorded_or_in_flight() {
    let mut bench = Bench::new();
    run(&mut bench, Ask::outside(1, "a"), wrote("one", "n", "1"));
    let other = |call| Ask {
        caller: caller(call),
        body: Bytes::from_static(b"other"),
        ..Ask::outside(1, "a")
    };
    let to = bench.call(other(2));
    bench.settle();
    assert_eq!(code(&bench.answer(to)), Code::RequestIdReused);

    bench.call(Ask::outside(3, "a"));
    let to = bench.call(Ask {
        id: Ask::outside(3, "a").id,
        ..other(4)
    });
    assert_eq!(code(&bench.answer(to)), Code::RequestIdReused);
}

#[test]
fn dedup_a_request_in_flight_is_joined_and_every_caller_gets_the_answer() {
    let mut bench = Bench::new();
    let first = bench.call(Ask::first(1, "a"));
    let second = bench.call(Ask {
        caller: caller(2),
        ..Ask::again(1, "a")
    });
    let turn = bench.turn().turn;
    let other = Caller {
        node: NodeId(3),
        call: 1,
    };
    bench.end(turn, wrote("one", "n", "1"));
    bench.flush();
    bench.call(Ask {
        caller: other,
        ..Ask::again(1, "a")
    });
    bench.call(Ask {
        caller: other,
        ..Ask::again(1, "a")
    });
    assert!(bench.started.is_empty(), "it runs once");
    bench.settle();
    for caller in [first, second, other] {
        assert_eq!(bench.answer(caller), reply("one"));
    }
    assert_eq!(bench.engine.counters().turns_started, 1);
}

#[test]
fn dedup_a_closed_session_sequence_is_unknown_and_never_runs() {
    let mut bench = Bench::new();
    run(&mut bench, Ask::first(1, "a"), wrote("one", "n", "1"));
    // Enough that the session's row says so.
    let last = CLOSED_STEP as u64 + 1;
    let closing = Ask {
        closed_below: last,
        ..Ask::first(last, "a")
    };
    run(&mut bench, closing, wrote("two", "n", "2"));
    let late = bench.call(Ask {
        caller: caller(9),
        ..Ask::again(1, "a")
    });
    bench.settle();
    assert_eq!(code(&bench.answer(late)), Code::SessionClosed);

    // A first attempt is not looked up: apply is what refuses it.
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, wrote("three", "n", "3"));
    bench.settle();
    assert_eq!(code(&bench.answer(caller(1))), Code::SessionClosed);
    assert_eq!(bench.state(&actor_key("a"), b"n").unwrap(), "2");
}

#[test]
fn mailbox_is_bounded_and_first_come_first_served() {
    let mut bench = Bench::with(Settings {
        mailbox_calls_max: 2,
        ..Settings::default()
    });
    for n in 1..=4 {
        bench.call(Ask::first(n, "a"));
    }
    let full = bench.answer(caller(4));
    assert_eq!(code(&full), Code::MailboxFull);
    assert!(matches!(full, AnswerKind::NotRun(n) if n.retry_after_ms > 0));
    for n in 1..=3 {
        let start = bench.turn();
        assert_eq!(start.request, session(n));
        bench.end(start.turn, read("r"));
    }
}

/// A turn that waits for another must not be refused by what waits for turns to end.
#[test]
fn calls_that_serve_a_running_turn_are_exempt_from_admission() {
    let mut bench = Bench::with(Settings {
        mailbox_calls_max: 1,
        dedup_bytes_max: 1,
        activations_max: 1,
        ..Settings::default()
    });
    run(&mut bench, Ask::outside(1, "a"), wrote("one", "n", "1"));
    bench.call(Ask::first(2, "a"));
    bench.call(Ask::first(3, "a"));
    let nested = |n: u64, attempt: u32, actor: &str| Ask {
        id: RequestId::Derived(u128::from(n)),
        attempt,
        chain: vec![actor_key("somebody")],
        ..Ask::first(n, actor)
    };
    // The mailbox is full; so are the records; and no further actor has room.
    bench.call(nested(4, 1, "a"));
    bench.call(nested(5, 2, "a"));
    bench.call(nested(6, 2, "b"));
    bench.silent();
    bench.call(Ask::first(7, "a"));
    assert_eq!(code(&bench.answer(caller(7))), Code::MailboxFull);
    while let Some(start) = bench.started.pop_front() {
        bench.end(start.turn, wrote("w", "n", "1"));
        bench.settle();
    }
    for n in 2..=6 {
        assert_eq!(bench.answer(caller(n)), reply("w"), "call {n}");
    }
}

#[test]
fn mailbox_drops_expired_calls_when_their_turn_comes() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let late = bench.call(Ask {
        remaining_ms: 50,
        ..Ask::first(2, "a")
    });
    let turn = bench.turn().turn;
    bench.now = bench.now + Duration::from_millis(51);
    bench.end(turn, read("r"));
    assert_eq!(code(&bench.answer(late)), Code::DeadlineExpired);
    assert!(bench.started.is_empty());
}

#[test]
fn mailbox_hangup_removes_a_waiting_call_unless_somebody_joined() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    bench.call(Ask::first(2, "a"));
    bench.call(Ask::first(3, "a"));
    let joined = bench.call(Ask {
        caller: caller(30),
        ..Ask::again(3, "a")
    });
    for n in 1..=3 {
        bench.feed(TurnsInput::Hangup(caller(n)));
    }
    let turn = bench.turn().turn;
    bench.end(turn, wrote("one", "n", "1"));
    let start = bench.turn();
    assert_eq!(start.request, session(3), "2 has left, 1 was running");
    bench.end(start.turn, wrote("three", "n", "3"));
    bench.settle();
    assert_eq!(bench.answer(joined), reply("three"));
    // Whoever has gone hears that it is over, so that its gateway may close the request.
    for n in [1, 3] {
        assert_eq!(code(&bench.answer(caller(n))), Code::OutcomeUnknown);
    }
    assert_eq!(redirected(&bench.answer(caller(2))), MayHaveRun::No);
    bench.silent();
    // So does one that nobody knows here.
    bench.feed(TurnsInput::Hangup(caller(77)));
    assert_eq!(redirected(&bench.answer(caller(77))), MayHaveRun::No);
}

#[test]
fn dedup_full_refuses_long_lived_records_only() {
    let mut bench = Bench::with(Settings {
        dedup_bytes_max: 10,
        ..Settings::default()
    });
    run(&mut bench, Ask::outside(1, "a"), wrote("one", "n", "1"));
    for (n, ask) in [
        (2, Ask::outside(2, "a")),
        (
            3,
            Ask {
                id: RequestId::Derived(3),
                ..Ask::first(3, "a")
            },
        ),
    ] {
        bench.call(ask);
        bench.settle();
        assert_eq!(code(&bench.answer(caller(n))), Code::DedupFull);
    }
    let known = Ask {
        caller: caller(4),
        ..Ask::outside(1, "a")
    };
    bench.call(known);
    bench.settle();
    assert_eq!(bench.answer(caller(4)), reply("one"), "recorded before");
    run(&mut bench, Ask::first(5, "a"), wrote("five", "n", "5"));
}

#[test]
fn chain_longer_than_its_bound_is_refused() {
    let mut bench = Bench::new();
    let chain = |n: usize| (0..n).map(|i| actor_key(&format!("c{i}"))).collect();
    bench.call(Ask {
        chain: chain(CALL_CHAIN_MAX + 1),
        ..Ask::first(1, "a")
    });
    assert_eq!(code(&bench.answer(caller(1))), Code::ChainTooDeep);
    bench.call(Ask {
        chain: chain(CALL_CHAIN_MAX),
        ..Ask::first(2, "a")
    });
    bench.turn();
}

#[test]
fn cycle_is_named_and_leaves_like_any_answer() {
    let mut bench = Bench::new();
    let cyclic = Ask {
        chain: ["0", "1", "2"].map(actor_key).to_vec(),
        ..Ask::first(1, "1")
    };
    let caller = bench.call(cyclic);
    assert!(bench.started.is_empty());
    bench.silent();
    bench.flush();
    bench.silent();
    bench.confirm();
    let answer = bench.answer(caller);
    assert_eq!(code(&answer), Code::Cycle);
    let AnswerKind::NotRun(refusal) = answer else {
        panic!();
    };
    let text = refusal.detail;
    assert!(
        text.starts_with("counter/1 -> counter/2 -> counter/1:"),
        "{text}"
    );
}

#[test]
fn read_makes_no_entry_and_needs_a_round_begun_after_it_arrived() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let one = bench.turn().turn;
    bench.end(one, read("1"));
    bench.flush();
    // The second arrives while the first round is in flight: that round is too old for it.
    bench.call(Ask::first(2, "a"));
    let two = bench.turn().turn;
    bench.end(two, read("2"));
    bench.flush();
    assert_eq!(bench.confirms.len(), 1, "one in flight");
    bench.silent();
    bench.confirm();
    assert_eq!(bench.answer(caller(1)), reply("1"));
    bench.silent();
    bench.flush();
    bench.confirm();
    assert_eq!(bench.answer(caller(2)), reply("2"));
    assert!(bench.log.is_empty());
}

#[test]
fn read_of_a_request_sent_before_is_recorded() {
    let mut bench = Bench::new();
    bench.call(Ask::again(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, read("1"));
    bench.flush();
    assert_eq!(bench.log.len(), 1);
    bench.silent();
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), reply("1"));
}

#[test]
fn nothing_leaves_before_earlier_turns_of_the_actor_are_committed() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    bench.call(Ask::first(2, "a"));
    bench.call(Ask::first(3, "a"));
    let ends = [wrote("w", "n", "1"), read("r"), app("No")];
    for end in ends {
        let turn = bench.turn().turn;
        bench.end(turn, end);
    }
    bench.call(Ask {
        chain: vec![actor_key("a")],
        ..Ask::first(4, "a")
    });
    bench.flush();
    bench.confirm();
    bench.silent();
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), reply("w"));
    assert_eq!(bench.answer(caller(2)), reply("r"));
    assert_eq!(bench.answer(caller(3)), AnswerKind::App(error("No")));
    assert_eq!(code(&bench.answer(caller(4))), Code::Cycle);
}

#[test]
fn app_error_is_recorded_when_the_id_may_come_again() {
    let derived = Ask {
        id: RequestId::Derived(3),
        ..Ask::first(3, "a")
    };
    for (ask, entries) in [
        (Ask::first(1, "a"), 0),
        (Ask::outside(2, "a"), 1),
        (derived, 1),
        (Ask::again(4, "a"), 1),
    ] {
        let mut bench = Bench::new();
        let caller = bench.call(ask.clone());
        let turn = bench.turn().turn;
        bench.end(turn, app("No"));
        let reset = RunnerEffect::Reset(turn.activation);
        assert!(bench.told.contains(&reset));
        bench.flush();
        bench.silent();
        assert_eq!(bench.log.len(), entries, "{ask:?}");
        bench.settle();
        assert_eq!(bench.answer(caller), AnswerKind::App(error("No")));
    }
}

#[test]
fn app_error_held_without_a_record_is_recorded_if_the_request_comes_again_meanwhile() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, app("No"));
    bench.flush();
    bench.call(Ask::again(1, "a"));
    bench.confirm();
    bench.silent();
    bench.flush();
    assert_eq!(bench.log.len(), 1);
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), AnswerKind::App(error("No")));
}

#[test]
fn app_error_that_is_recorded_waits_for_the_writes_it_rests_on() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    bench.call(Ask::outside(2, "a"));
    let one = bench.turn().turn;
    bench.end(one, wrote("w", "n", "1"));
    let two = bench.turn().turn;
    bench.end(two, app("No"));
    bench.flush();
    let Some(Kind::Turns(turns)) = bench.log.front() else {
        panic!();
    };
    assert_eq!(turns.turns.len(), 1, "the write alone");
    bench.log.pop_back();
    bench.feed(TurnsInput::Dropped);
    // What it rested on never was: it runs again.
    assert_eq!(redirected(&bench.answer(caller(1))), MayHaveRun::No);
    let again = bench.turn();
    assert_eq!(again.request, Ask::outside(2, "a").id);
}

#[test]
fn panic_drops_the_activation_and_refusal_keeps_nothing() {
    let mut bench = Bench::new();
    let answer = run(
        &mut bench,
        Ask::first(1, "a"),
        TurnEnd::Panicked {
            message: "boom".to_owned(),
        },
    );
    assert!(matches!(answer, AnswerKind::App(e) if e.name == "Panicked"));
    assert!(matches!(bench.told[..], [RunnerEffect::Drop(_)]));
    let refusal = NotRun::new(Code::UnknownMethod, "no such method");
    bench.call(Ask::outside(2, "a"));
    let start: TurnStart = bench.turn();
    assert_eq!(start.turn.number, 1, "a new activation");
    bench.end(start.turn, TurnEnd::Refused(refusal));
    assert_eq!(code(&bench.answer(caller(2))), Code::UnknownMethod);
    bench.settle();
    assert!(bench.rows.0.is_empty());
}

/// A text may be as long as the body it quotes. Each of these once ended the lane of its answer, or
/// the node.
#[test]
fn limits_texts_of_runners_are_cut_before_anything_carries_them() {
    let text = "\u{fffd}".repeat(4 << 20);
    let panicked = TurnEnd::Panicked {
        message: text.clone(),
    };
    let refused = TurnEnd::Refused(NotRun {
        code: Code::InvalidArgument,
        detail: text.clone(),
        retry_after: None,
    });
    let app = TurnEnd::App(AppError {
        name: text.clone(),
        message: text.clone(),
        payload: Bytes::from_static(b"kept"),
    });
    for (n, end) in [panicked, refused, app].into_iter().enumerate() {
        let mut bench = Bench::new();
        // Of a repeatable id: what can be recorded is.
        let n = n as u64 + 1;
        let answer = run(&mut bench, Ask::outside(n, "a"), end.clone());
        let size = CallAnswer {
            call: 1,
            kind: Some(answer.clone()),
        }
        .encoded_len();
        assert!(size < 4 * TEXT_BYTES_MAX, "{size} bytes");
        if let AnswerKind::App(error) = &answer {
            assert!(error.message.contains("[cut, "), "{}", error.message);
            assert!(error.payload.is_empty() || error.payload == "kept");
        }
        let largest = bench.rows.0.values().map(Bytes::len).max();
        assert!(largest.unwrap_or(0) < 4 * TEXT_BYTES_MAX, "{largest:?}");
    }
}

/// `NotRun` would be a lie: what the turn called may have committed.
#[test]
fn refusal_after_a_call_is_not_told_as_not_run() {
    let mut bench = Bench::new();
    for (n, called) in [(1, false), (2, true)] {
        bench.call(Ask::first(n, "a"));
        let turn = bench.turn().turn;
        if called {
            let call = TurnAsk::Call {
                actor: actor_key("b"),
                method: "m".to_owned(),
                body: Bytes::new(),
                deadline: None,
                metadata: Vec::new(),
                ordinal: None,
            };
            bench.ask(turn, 1, call);
            assert_eq!(bench.calls.len(), 1);
        }
        let refusal = NotRun::new(Code::InvalidArgument, "not like that");
        bench.end(turn, TurnEnd::Refused(refusal));
        bench.settle();
        match bench.answer(caller(n)) {
            AnswerKind::NotRun(told) if !called => {
                assert_eq!(told.code, u32::from(Code::InvalidArgument.number()));
            }
            AnswerKind::App(error) if called => {
                assert_eq!(error.name, "Refused");
                assert!(error.message.contains("not like that"));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A call that an application's host counts finds its answer again when its turn is run again, also
/// where it changed nothing: it goes out as one that may have been made before, which is what has
/// its answer recorded.
#[test]
fn a_call_that_a_host_counts_may_have_been_made_before() {
    for (ordinal, attempt) in [(None, 1), (Some(0), 2)] {
        let mut bench = Bench::new();
        bench.call(Ask::first(1, "a"));
        let turn = bench.turn().turn;
        let call = TurnAsk::Call {
            actor: actor_key("b"),
            method: "m".to_owned(),
            body: Bytes::new(),
            deadline: None,
            metadata: Vec::new(),
            ordinal,
        };
        bench.ask(turn, 1, call);
        let attempts: Vec<u32> = bench.calls.iter().map(|call| call.attempt).collect();
        assert_eq!(attempts, [attempt], "{ordinal:?}");
    }
}

#[test]
fn close_tells_each_caller_what_may_have_happened() {
    let mut bench = Bench::new();
    for (n, actor) in [(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "d")] {
        bench.call(Ask::first(n, actor));
    }
    let starts: Vec<TurnStart> = bench.started.drain(..).collect();
    // Of an application: one whose turn runs, and one that has not begun.
    for n in [6, 7] {
        let actor = ActorKey::new("default", "cart", "a").unwrap();
        bench.call(Ask {
            actor,
            ..Ask::first(n, "a")
        });
    }
    bench.end(starts[0].turn, wrote("w", "n", "1"));
    let call = TurnAsk::Call {
        actor: actor_key("x"),
        method: "m".to_owned(),
        body: Bytes::new(),
        deadline: None,
        metadata: Vec::new(),
        ordinal: None,
    };
    bench.ask(starts[1].turn, 1, call);
    bench.flush();
    bench.end(starts[3].turn, read("r"));
    bench.told.clear();
    bench.depose(0);
    for (n, may) in [
        (1, MayHaveRun::Yes),
        (3, MayHaveRun::No),
        (4, MayHaveRun::No),
        (5, MayHaveRun::No),
        (6, MayHaveRun::Yes),
        (7, MayHaveRun::No),
    ] {
        assert_eq!(redirected(&bench.answer(caller(n))), may, "{n}");
    }
    assert_eq!(code(&bench.answer(caller(2))), Code::OutcomeUnknown);
    assert_eq!(bench.told.len(), 5, "every activation is dropped");
}

#[test]
fn dropped_proposal_redirects_its_turns_and_runs_again_what_was_built_on_them() {
    let mut bench = Bench::new();
    for n in 1..=4 {
        bench.call(Ask::first(n, "a"));
    }
    for end in [wrote("1", "n", "1"), wrote("2", "n", "2")] {
        let turn = bench.turn().turn;
        bench.end(turn, end);
        bench.flush();
    }
    let turn = bench.turn().turn;
    bench.end(turn, read("3"));
    let running = bench.turn();
    bench.log.pop_back();
    bench.feed(TurnsInput::Dropped);
    assert_eq!(redirected(&bench.answer(caller(2))), MayHaveRun::No);
    let drop = RunnerEffect::Drop(running.turn.activation);
    assert!(bench.told.contains(&drop));
    assert!(bench.started.is_empty(), "the log has yet to speak about 1");
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), reply("1"));
    let again = bench.turn();
    assert_eq!((again.request, again.token.base.0), (session(3), 1));
    bench.end(running.turn, wrote("4", "n", "4"));
    assert!(bench.started.is_empty(), "the old turn counts for nothing");
}

#[test]
fn limits_a_turn_too_large_is_rolled_back_and_proposals_are_split() {
    let mut bench = Bench::with(Settings {
        entry_bytes_max: 1_000,
        turn_sends_max: 2,
        ..Settings::default()
    });
    let big = "x".repeat(1_000);
    let answer = run(&mut bench, Ask::first(1, "a"), wrote("w", "n", &big));
    assert_eq!(code(&answer), Code::TurnTooLarge);
    assert!(
        bench
            .told
            .iter()
            .any(|e| matches!(e, RunnerEffect::Reset(_)))
    );
    let send = OutMessage {
        actor: actor_key("b"),
        method: "m".to_owned(),
        body: Bytes::new(),
    };
    let sends = TurnEnd::Ok {
        reply: Bytes::new(),
        writes: Vec::new(),
        sends: vec![send; 3],
        schedule: Vec::new(),
    };
    let answer = run(&mut bench, Ask::first(2, "a"), sends);
    assert_eq!(code(&answer), Code::TurnTooLarge);
    assert!(bench.rows.0.is_empty());

    for n in 3..9 {
        bench.call(Ask::first(n, &format!("a{n}")));
    }
    while let Some(start) = bench.started.pop_front() {
        bench.end(start.turn, wrote("w", "n", &big[..300]));
    }
    bench.flush();
    assert_eq!(bench.log.len(), 1);
    assert!(bench.engine.next_deadline().is_some(), "the rest follows");
    bench.settle();
    assert_eq!(bench.answers.len(), 6);
}

#[test]
fn dropped_proposal_takes_back_what_was_split_off_behind_it() {
    let mut bench = Bench::with(Settings {
        entry_bytes_max: 1_000,
        ..Settings::default()
    });
    for n in 1..=3 {
        bench.call(Ask::first(n, "a"));
        let turn = bench.turn().turn;
        bench.end(turn, wrote("w", "n", &"x".repeat(400)));
    }
    bench.flush();
    bench.log.pop_back();
    bench.feed(TurnsInput::Dropped);
    let redirects = bench.answers.len();
    assert!((1..3).contains(&redirects), "only what was proposed");
    let again = bench.turn();
    assert_eq!(again.request, session(redirects as u64 + 1));
    assert_eq!(again.token.base.0, 0, "it was built on what never was");
    bench.end(again.turn, wrote("w", "n", "1"));
    bench.started.clear();
    bench.settle();
    assert!(
        bench
            .answers
            .contains(&(caller(redirects as u64 + 1), reply("w")))
    );
}
