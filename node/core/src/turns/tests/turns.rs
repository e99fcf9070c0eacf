//! How turns start, see state, call out, speculate and end idle: one test for each rule.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, MayHaveRun, Stamp};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::limits::NESTED_CALL_DEADLINE;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::request::{RequestId, request_digest};

use super::harness::*;
use crate::turn_io::{RunnerEffect, Staged, TurnAsk, TurnEnd, TurnId, TurnTold};
use crate::turns::activation::Actor;
use crate::turns::{Settings, TurnsInput};

fn call_ask(target: &str) -> TurnAsk {
    TurnAsk::Call {
        actor: actor_key(target),
        method: "m".to_owned(),
        body: Bytes::new(),
        deadline: None,
        metadata: Vec::new(),
        ordinal: None,
    }
}

fn told(bench: &mut Bench) -> TurnTold {
    match bench.told.pop() {
        Some(RunnerEffect::Tell { told, .. }) => told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn version_is_read_once_and_then_counted() {
    let mut bench = Bench::new();
    let key = (Family::Version, actor_key("a").to_bytes());
    let stored = Bytes::copy_from_slice(&7_u64.to_be_bytes());
    bench.rows.0.insert(key.clone(), stored);
    for n in 1..=3 {
        bench.call(Ask::first(n, "a"));
        let start = bench.turn();
        assert_eq!(start.token.base.0, 6 + n);
        bench.end(start.turn, wrote("w", "n", "1"));
    }
    bench.settle();
    assert_eq!(bench.answers.len(), 3);
    assert_eq!(bench.rows.0[&key][..], 10_u64.to_be_bytes());
}

#[test]
fn speculation_runs_on_uncommitted_results_within_its_bounds() {
    for (turns, bytes, started) in [(2, 1 << 20, 3), (64, 1, 2), (0, 0, 1)] {
        let mut bench = Bench::with(Settings {
            speculation_turns_max: turns,
            speculation_bytes_max: bytes,
            ..Settings::default()
        });
        for n in 1..=5 {
            bench.call(Ask::first(n, "a"));
        }
        bench.call(Ask::first(6, "other"));
        let mut count = 0;
        while let Some(start) = bench.started.pop_front() {
            count += usize::from(start.actor == actor_key("a"));
            bench.end(start.turn, wrote("w", "n", "1"));
        }
        assert_eq!(count, started, "{turns} turns, {bytes} bytes");
        while bench.answers.len() < 6 {
            bench.flush();
            bench.apply_one();
            while let Some(start) = bench.started.pop_front() {
                bench.end(start.turn, wrote("w", "n", "1"));
            }
        }
    }
}

/// Nothing can hold back what an application does outside: its next turn waits for the log.
#[test]
fn an_applications_next_turn_starts_when_the_last_one_is_committed() {
    let mut bench = Bench::new();
    for n in [1, 2] {
        bench.call(cart_call(n));
    }
    let first = bench.turn();
    bench.end(first.turn, answered("one", &[("k", "1")]));
    assert!(bench.started.is_empty(), "ended is not committed");
    bench.flush();
    assert!(bench.started.is_empty(), "proposed is not committed");
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), reply_of("one"));
    let second = bench.turn();
    assert_eq!((second.request, second.token.base.0), (session(2), 1));
    assert_eq!(second.turn.activation, first.turn.activation);
}

/// The object has what did not come into the log: only another activation goes on.
#[test]
fn an_applications_next_turn_starts_elsewhere_when_the_last_one_is_dropped() {
    let mut bench = Bench::new();
    for n in [1, 2] {
        bench.call(cart_call(n));
    }
    let first = bench.turn().turn;
    bench.end(first, answered("one", &[("k", "1")]));
    bench.flush();
    assert!(bench.started.is_empty(), "proposed is not refused");
    bench.log.pop_back().expect("the turn was proposed");
    bench.feed(TurnsInput::Dropped);
    let AnswerKind::Redirect(redirect) = bench.answer(caller(1)) else {
        panic!("it is asked again");
    };
    assert_eq!(redirect.may_have_run(), MayHaveRun::No);
    let drop = RunnerEffect::Drop(first.activation);
    assert!(bench.told.contains(&drop));
    let second = bench.turn();
    assert_eq!((second.request, second.token.base.0), (session(2), 0));
    assert!(second.turn.activation > first.activation);
}

#[test]
fn speculation_reads_see_committed_rows_under_uncommitted_writes() {
    let mut bench = Bench::new();
    for (key, value) in [("a", "0"), ("b", "0"), ("c", "0"), ("d", "0"), ("zz", "0")] {
        let key = family::state_key(&actor_key("a"), key.as_bytes());
        bench
            .rows
            .0
            .insert((Family::State, key), Bytes::from(value));
    }
    bench.call(Ask::first(1, "a"));
    bench.call(Ask::first(2, "a"));
    let one = bench.turn().turn;
    let gone = |key: &'static str| StateWrite {
        key: Bytes::from(key),
        value: None,
        ..StateWrite::default()
    };
    bench.end(
        one,
        TurnEnd::Ok {
            reply: Bytes::new(),
            writes: vec![
                gone("a"),
                gone("b"),
                put("c", "1"),
                put("cc", "1"),
                put("e", "1"),
            ],
            sends: Vec::new(),
            schedule: Vec::new(),
        },
    );
    let two = bench.turn().turn;
    for (key, value) in [("a", None), ("c", Some("1")), ("d", Some("0")), ("x", None)] {
        let key = Bytes::from(key);
        bench.ask(two, 1, TurnAsk::Get { key });
        assert_eq!(told(&mut bench), TurnTold::Value(value.map(Bytes::from)));
    }
    let all = [("c", "1"), ("cc", "1"), ("d", "0"), ("e", "1"), ("zz", "0")];
    for limit in 1..=6 {
        let mut after = None;
        let mut seen = Vec::new();
        loop {
            let scan = TurnAsk::Scan {
                prefix: Bytes::new(),
                after: after.clone(),
                limit,
            };
            bench.ask(two, 2, scan);
            let TurnTold::Rows(rows) = told(&mut bench) else {
                panic!();
            };
            assert!(rows.len() <= limit);
            let last = rows.is_empty();
            after = rows.last().map(|(key, _)| key.clone()).or(after);
            seen.extend(rows);
            if last {
                break;
            }
        }
        let all = all.map(|(k, v)| (Bytes::from(k), Bytes::from(v)));
        assert_eq!(seen, all, "pages of {limit}");
    }
}

#[test]
fn skipped_turn_takes_everything_built_on_it_and_no_caller_is_lost() {
    let mut bench = Bench::new();
    // Somebody else has used id 1 of the session for the same content: only apply can tell.
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, wrote("old", "n", "1"));
    bench.settle();
    assert_eq!(bench.answer(caller(1)), reply("old"));

    for n in 1..=4 {
        bench.call(Ask::first(n, "a"));
    }
    for (n, value) in [(1, "2"), (2, "3")] {
        let start = bench.turn();
        assert_eq!(start.request, session(n));
        bench.end(start.turn, wrote(value, "n", value));
        bench.flush();
    }
    let held = bench.turn().turn;
    bench.end(held, read("3"));
    let running = bench.turn().turn;
    bench.apply_one();
    assert_eq!(bench.answer(caller(1)), reply("old"));
    assert!(bench.told.contains(&RunnerEffect::Drop(running.activation)));
    assert!(bench.started.is_empty());
    bench.apply_one();
    for n in 2..=4 {
        let start = bench.turn();
        assert_eq!(start.request, session(n), "in their old order");
        bench.end(start.turn, wrote("new", "n", "9"));
    }
    bench.settle();
    for n in 2..=4 {
        assert_eq!(bench.answer(caller(n)), reply("new"));
    }
    assert_eq!(bench.engine.counters().turns_rerun, 3);
}

#[test]
fn first_call_of_a_turn_waits_until_earlier_turns_are_committed() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    bench.call(Ask::first(2, "a"));
    let one = bench.turn().turn;
    bench.end(one, wrote("w", "n", "1"));
    let two = bench.turn().turn;
    bench.ask(two, 1, call_ask("b"));
    bench.flush();
    assert!(bench.calls.is_empty());
    bench.apply_one();
    assert_eq!(bench.calls.len(), 1);
    bench.ask(two, 2, call_ask("c"));
    assert_eq!(bench.calls.len(), 2, "and no later one");
    let outcome = CallOutcome::Reply(Bytes::from_static(b"r"));
    bench.feed(TurnsInput::Called {
        turn: two,
        ask: 1,
        outcome: outcome.clone(),
    });
    assert_eq!(told(&mut bench), TurnTold::Called(outcome));
}

#[test]
fn nested_calls_are_derived_from_their_request_alone() {
    let mut calls = Vec::new();
    for attempt in [1, 2] {
        let mut bench = Bench::new();
        bench.call(Ask {
            attempt,
            remaining_ms: 60_000,
            chain: vec![actor_key("z")],
            ..Ask::first(1, "a")
        });
        let turn = bench.turn().turn;
        bench.ask(turn, 1, call_ask("b"));
        bench.ask(turn, 2, call_ask("b"));
        assert_eq!(bench.calls[0].deadline, bench.now + NESTED_CALL_DEADLINE);
        calls.push(std::mem::take(&mut bench.calls));
    }
    let [first, again] = &calls[..] else {
        panic!();
    };
    for (one, two) in first.iter().zip(again) {
        assert_eq!((one.attempt, two.attempt), (1, 2));
        assert_eq!((&one.request, one.stamp), (&two.request, two.stamp));
        assert_eq!(one.chain, ["z", "a"].map(actor_key));
        assert_eq!(one.stamp.wall_ms, 77);
    }
    assert_ne!(first[0].request, first[1].request);
    assert_ne!(first[0].stamp.seed, first[1].stamp.seed);
    let own = (&actor_key("a"), &session(1));
    let id = RequestId::derived(own, 0, &actor_key("b"), "m", b"");
    assert_eq!(first[0].request, id);
    // Another actor whose request has the same id makes another call of it.
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "c"));
    let turn = bench.turn().turn;
    bench.ask(turn, 1, call_ask("b"));
    assert_ne!(bench.calls[0].request, id);

    let mut bench = Bench::new();
    bench.call(Ask {
        remaining_ms: 5,
        ..Ask::first(1, "a")
    });
    let turn = bench.turn().turn;
    bench.ask(turn, 1, call_ask("b"));
    let turns_own = bench.now + Duration::from_millis(5);
    assert_eq!(bench.calls[0].deadline, turns_own);
}

#[test]
fn pause_starts_nothing_lets_what_runs_end_and_serves_running_turns() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.feed(TurnsInput::Pause);
    bench.call(Ask::first(2, "b"));
    bench.call(Ask::first(3, "a"));
    assert!(bench.started.is_empty());
    assert!(!bench.engine.settled());
    bench.ask(turn, 1, call_ask("c"));
    assert_eq!(bench.calls.len(), 1, "a running turn may still call");
    bench.call(Ask {
        chain: vec![actor_key("a")],
        ..Ask::first(4, "c")
    });
    let nested = bench.turn();
    assert_eq!(nested.request, session(4), "the running turn waits for it");
    bench.end(nested.turn, wrote("c", "n", "1"));
    bench.end(turn, wrote("a", "n", "1"));
    assert!(!bench.engine.settled());
    bench.settle();
    assert!(bench.engine.settled());
    assert_eq!(bench.answers.len(), 2);
    assert!(bench.started.is_empty());
    bench.feed(TurnsInput::Resume);
    assert_eq!(bench.started.len(), 2);
}

#[test]
fn pause_lets_a_serving_call_pass_what_waits_ahead_of_it() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let turn = bench.turn().turn;
    bench.feed(TurnsInput::Pause);
    bench.call(Ask::first(2, "c"));
    bench.call(Ask::first(3, "c"));
    bench.ask(turn, 1, call_ask("c"));
    bench.call(Ask {
        chain: vec![actor_key("a")],
        ..Ask::first(4, "c")
    });
    let nested = bench.turn();
    assert_eq!(nested.request, session(4), "the running turn waits for it");
    bench.end(nested.turn, wrote("c", "n", "1"));
    bench.end(turn, wrote("a", "n", "1"));
    bench.settle();
    assert!(bench.engine.settled(), "the handover goes on");
    assert!(bench.started.is_empty());
    bench.feed(TurnsInput::Resume);
    for n in [2, 3] {
        let start = bench.turn();
        assert_eq!(start.request, session(n), "the others keep their order");
        bench.end(start.turn, wrote("c", "n", "1"));
        bench.settle();
    }
}

/// A runner of the leadership before speaks late, and the next one counts its activations and turns
/// by the same numbers.
#[test]
fn whatever_an_older_leaderships_turn_says_changes_nothing_under_the_next() {
    let mut bench = Bench::new();
    bench.call(Ask::first(1, "a"));
    let old = bench.turn().turn;
    bench.ask(old, 1, call_ask("b"));
    bench.depose(0);
    bench.answers.clear();
    bench.calls.clear();
    bench.told.clear();
    bench.call(Ask::first(2, "a"));
    let new = bench.turn().turn;
    let numbers = |turn: TurnId| (turn.activation.number, turn.number);
    assert_eq!((numbers(old), numbers(new)), ((1, 1), (1, 1)));

    let key = Bytes::from_static(b"n");
    bench.ask(old, 2, TurnAsk::Get { key });
    bench.ask(old, 3, call_ask("b"));
    let commit = Staged {
        writes: vec![put("n", "old")],
        ..Staged::default()
    };
    bench.ask(old, 4, TurnAsk::Commit(Box::new(commit)));
    bench.feed(TurnsInput::Called {
        turn: old,
        ask: 1,
        outcome: CallOutcome::Reply(Bytes::new()),
    });
    bench.feed(TurnsInput::Deactivate(old.activation));
    bench.end(old, wrote("old", "n", "old"));
    bench.settle();
    assert_eq!(bench.told, [], "nothing is told, and nothing dropped");
    assert_eq!(bench.calls, []);
    bench.silent();
    assert_eq!(bench.state(&actor_key("a"), b"n"), None);

    bench.end(new, wrote("new", "n", "new"));
    bench.settle();
    assert_eq!(bench.answer(caller(2)), reply("new"));
    assert_eq!(bench.state(&actor_key("a"), b"n").unwrap(), "new");
    assert_eq!(bench.told, [], "the activation goes on");
}

#[test]
fn idle_activations_are_dropped_by_time_and_by_number() {
    let mut bench = Bench::with(Settings {
        idle: Duration::from_secs(10),
        activations_max: 2,
        ..Settings::default()
    });
    let mut last = bench.now;
    for (n, actor) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        bench.call(Ask::first(n, actor));
        let turn = bench.turn().turn;
        bench.end(turn, wrote("w", "n", "1"));
        bench.settle();
        last = bench.now;
        bench.now = bench.now + Duration::from_secs(1);
    }
    let names = |bench: &Bench| -> Vec<String> {
        let mut names: Vec<String> = bench
            .engine
            .activations()
            .map(|view| view.actor.actor_id().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&bench), ["a", "c"], "b was used least recently");
    let due = bench.engine.next_deadline().unwrap();
    assert_eq!(due, last + Duration::from_secs(9));
    bench.now = due;
    bench.feed(TurnsInput::Tick);
    assert_eq!(names(&bench), ["c"]);
    bench.now = bench.now + Duration::from_secs(10);
    bench.feed(TurnsInput::Tick);
    assert!(names(&bench).is_empty());
    assert_eq!(bench.engine.next_deadline(), None);
    assert_eq!(bench.engine.counters().activations_evicted, 3);

    // All busy: refused, not unbounded.
    for n in 10..=12 {
        bench.call(Ask::first(n, &format!("x{n}")));
    }
    bench.answers.retain(|(to, _)| *to == caller(12));
    assert_eq!(code(&bench.answer(caller(12))), Code::MailboxFull);
}

#[test]
fn idle_activation_takes_at_most_a_kibibyte() {
    // Its name, its row and index in the table of actors (which may have grown to twice its need),
    // its entries in the tables of activations and of idle ones, and what its mailbox keeps.
    let name = actor_key(&"x".repeat(64)).as_bytes().len();
    let row = size_of::<Actor>() + 2 * (size_of::<Box<Actor>>() + size_of::<ActorKey>() + 24);
    let entries = 2 * (size_of::<ActorKey>() + 24) + 2 * (size_of::<ActorKey>() + 24);
    let mailbox = 2 * 8 * 8;
    let bytes = name + row + entries + mailbox;
    assert!(bytes <= 1_024, "{bytes}: {}", size_of::<Actor>());
}

#[test]
fn same_inputs_give_the_same_effects() {
    let run = || {
        let mut bench = Bench::new();
        for n in 1..=200 {
            bench.call(Ask::first(n, &format!("x{}", n % 17)));
        }
        while let Some(start) = bench.started.pop_front() {
            bench.end(start.turn, wrote("w", "n", "1"));
        }
        bench.flush();
        let log = format!("{:?}", bench.log);
        bench.depose(0);
        (log, format!("{:?} {:?}", bench.answers, bench.told))
    };
    assert_eq!(run(), run());
}

#[test]
fn record_carries_the_digest_of_the_request() {
    let mut bench = Bench::new();
    bench.call(Ask::outside(1, "a"));
    let turn = bench.turn().turn;
    bench.end(turn, wrote("w", "n", "1"));
    bench.settle();
    assert!(matches!(bench.answer(caller(1)), AnswerKind::Reply(_)));
    let id = Ask::outside(1, "a").id;
    let key = (Family::Dedup, family::dedup_key(&actor_key("a"), &id));
    let record: ghostlight_protocol::command::DedupRecord =
        prost::Message::decode(bench.rows.0[&key].clone()).unwrap();
    let digest = request_digest(&actor_key("a"), "m", b"");
    assert_eq!(record.digest[..], digest.to_be_bytes());
}

#[test]
fn an_outside_id_has_one_seed_whatever_its_gateway_drew() {
    let seed = |drawn: u64, n: u64, actor: &str| {
        let mut bench = Bench::new();
        let mut request = Ask::outside(n, actor).request();
        request.stamp = Some(Stamp {
            wall_ms: 77,
            seed: drawn,
        });
        let from = caller(n);
        bench.feed(TurnsInput::Call { from, request });
        let stamp = bench.turn().stamp;
        assert_eq!(stamp.wall_ms, 77);
        stamp.seed
    };
    assert_eq!(seed(1, 1, "a"), seed(2, 1, "a"));
    assert_ne!(seed(1, 1, "a"), seed(1, 2, "a"), "another id");
    assert_ne!(seed(1, 1, "a"), seed(1, 1, "b"), "another actor");
}
