//! Calls of a chain that enter the running turn of their actor: one test for each rule.

use ghostlight_protocol::call::{AnswerKind, MayHaveRun, Metadata};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::ActorVersion;

use super::harness::*;
use crate::turn_io::{PartEnd, RunnerEffect, TurnAsk, TurnEnd, TurnEntry, TurnId, TurnTold};
use crate::turns::entered::CHAIN_ID;
use crate::turns::{Caller, ReentrantTypes, TurnsInput};

fn bench(depth: u32) -> Bench {
    let mut bench = Bench::new();
    let types = [("cart".to_owned(), depth)];
    let types = types.into_iter().filter(|(_, depth)| *depth > 0);
    bench.engine.note_reentrant(&ReentrantTypes::new(types));
    bench
}

/// The `n`-th call, of this chain.
fn call_of(bench: &mut Bench, n: u64, attempt: u32, chain: Option<&str>) -> Caller {
    let ask = Ask {
        actor: cart(),
        attempt,
        ..Ask::first(n, "a")
    };
    let from = ask.caller;
    let mut request = ask.request();
    request.metadata = chain.into_iter().map(named).collect();
    bench.feed(TurnsInput::Call { from, request });
    from
}

fn named(chain: &str) -> Metadata {
    Metadata {
        name: CHAIN_ID.to_owned(),
        value: chain.to_owned(),
    }
}

#[track_caller]
fn entry(bench: &mut Bench) -> TurnEntry {
    match bench.told.pop() {
        Some(RunnerEffect::Enter(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

fn leave(bench: &mut Bench, turn: TurnId, ask: u32, entry: u32, end: TurnEnd) {
    let end = Box::new(end);
    bench.ask(turn, ask, TurnAsk::Left { entry, end });
}

/// What the host was told about an ask.
#[track_caller]
fn told(bench: &mut Bench, wanted: u32) -> TurnTold {
    let found = bench
        .told
        .iter()
        .position(|effect| matches!(effect, RunnerEffect::Tell { ask, .. } if *ask == wanted));
    match bench.told.remove(found.expect("it was told")) {
        RunnerEffect::Tell { told, .. } => told,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_of_the_same_chain_enters_and_commits_what_the_turn_has_staged() {
    let mut bench = bench(3);
    let outer = call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    let inner = call_of(&mut bench, 2, 1, Some("r"));
    assert!(bench.started.is_empty(), "it is no turn of its own");
    let entered = entry(&mut bench);
    assert_eq!((entered.turn, entered.entry), (turn, 1));
    assert_eq!(entered.metadata, [named("r")]);
    leave(&mut bench, turn, 1, 1, answered("inner", &[("k", "1")]));
    bench.silent();
    bench.settle();
    assert_eq!(bench.answer(inner), reply_of("inner"));
    let committed = TurnTold::Part(PartEnd::Committed(ActorVersion(2)));
    assert_eq!(told(&mut bench, 1), committed);
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "1");
    bench.end(turn, answered("outer", &[("k", "2")]));
    bench.settle();
    assert_eq!(bench.answer(outer), reply_of("outer"));
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "2");
    // Both are recorded.
    for (n, wanted) in [(1, "outer"), (2, "inner")] {
        let again = call_of(&mut bench, n, 2, Some("r"));
        bench.settle();
        assert_eq!(bench.answer(again), reply_of(wanted));
    }
    assert!(bench.started.is_empty());
}

#[test]
fn others_wait_and_so_do_all_where_the_type_is_not_reentrant() {
    for (depth, outer, inner) in [
        (3, Some("r"), Some("s")),
        (3, Some("r"), None),
        (3, None, Some("r")),
        (0, Some("r"), Some("r")),
        (0, None, None),
    ] {
        let mut bench = bench(depth);
        call_of(&mut bench, 1, 1, outer);
        let turn = bench.turn().turn;
        call_of(&mut bench, 2, 1, inner);
        assert!(bench.told.is_empty(), "{depth} {outer:?} {inner:?}");
        bench.end(turn, answered("outer", &[]));
        bench.settle();
        assert_ne!(bench.turn().turn, turn);
    }
}

#[test]
fn a_turn_without_a_chain_begins_one() {
    let mut bench = bench(2);
    call_of(&mut bench, 1, 1, None);
    let start = bench.turn();
    let [Metadata { name, value }] = &start.metadata[..] else {
        panic!("{:?}", start.metadata);
    };
    assert_eq!(name, CHAIN_ID);
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{value}");
    call_of(&mut bench, 2, 1, Some(value));
    entry(&mut bench);
}

#[test]
fn no_more_than_the_depth_are_inside_at_once() {
    let mut bench = bench(2);
    call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    call_of(&mut bench, 2, 1, Some("r"));
    entry(&mut bench);
    let third = call_of(&mut bench, 3, 1, Some("r"));
    assert_eq!(code(&bench.answer(third)), Code::ChainTooDeep);
    leave(&mut bench, turn, 1, 1, answered("", &[]));
    bench.told.clear();
    call_of(&mut bench, 4, 1, Some("r"));
    assert_eq!(entry(&mut bench).entry, 2);
}

#[test]
fn an_answer_that_changed_nothing_needs_no_entry_and_interrupts_nothing() {
    let mut bench = bench(2);
    let before = bench.row.applied_index;
    call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    let inner = call_of(&mut bench, 2, 1, Some("r"));
    entry(&mut bench);
    leave(&mut bench, turn, 1, 1, answered("read", &[]));
    assert_eq!(told(&mut bench, 1), TurnTold::Part(PartEnd::Nothing));
    bench.silent();
    bench.settle();
    assert_eq!(bench.answer(inner), reply_of("read"));
    assert_eq!(bench.row.applied_index, before, "no entry");
}

/// An application calls itself until its depth is refused: the refusal's round is confirmed before
/// the calls outside of it fail one after the other.
#[test]
fn an_answer_whose_round_is_confirmed_already_leaves_at_once() {
    let mut bench = bench(3);
    call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    let inner = call_of(&mut bench, 2, 1, Some("r"));
    entry(&mut bench);
    // Another actor's answer has the round confirmed.
    let other = bench.call(Ask::first(3, "other"));
    let reading = bench.turn().turn;
    bench.end(reading, read("r"));
    bench.settle();
    bench.answer(other);
    leave(&mut bench, turn, 1, 1, answered("inner", &[]));
    assert_eq!(bench.answer(inner), reply_of("inner"));
}

/// Calls that join their turns tell who waits for them. A call back is no cycle where it may enter.
#[test]
fn a_call_back_that_may_enter_is_no_cycle() {
    for (chain, enters) in [(Some("r"), true), (Some("s"), false), (None, false)] {
        let mut bench = bench(3);
        call_of(&mut bench, 1, 1, Some("r"));
        bench.turn();
        let ask = Ask {
            actor: cart(),
            chain: vec![cart(), actor_key("wallet")],
            ..Ask::first(2, "a")
        };
        let from = ask.caller;
        let mut request = ask.request();
        request.metadata = chain.into_iter().map(named).collect();
        bench.feed(TurnsInput::Call { from, request });
        if enters {
            entry(&mut bench);
            continue;
        }
        bench.settle();
        assert_eq!(code(&bench.answer(from)), Code::Cycle, "{chain:?}");
    }
}

/// The turn that was entered is cut after something of it is committed: it is never run again.
#[test]
fn a_turn_that_was_entered_is_interrupted_when_its_leadership_ends() {
    let mut bench = bench(2);
    let outer = call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    let inner = call_of(&mut bench, 2, 1, Some("r"));
    entry(&mut bench);
    leave(&mut bench, turn, 1, 1, answered("inner", &[("k", "1")]));
    bench.settle();
    bench.answer(inner);
    bench.depose(0);
    let AnswerKind::Redirect(redirect) = bench.answer(outer) else {
        panic!("it is asked again elsewhere");
    };
    assert_eq!(redirect.may_have_run(), MayHaveRun::Yes);
    let again = call_of(&mut bench, 1, 2, Some("r"));
    bench.settle();
    assert_eq!(code(&bench.answer(again)), Code::Interrupted);
    assert!(bench.started.is_empty());
}

#[test]
fn a_call_inside_has_no_answer_when_its_turn_is_lost() {
    let lost = || TurnEnd::Lost { detail: "x".into() };
    let not_started = || TurnEnd::NotStarted { detail: "x".into() };
    for (of_entry, wanted) in [
        (Some(lost()), Code::OutcomeUnknown),
        (Some(not_started()), Code::NoHost),
        (None, Code::Interrupted),
    ] {
        let mut bench = bench(2);
        call_of(&mut bench, 1, 1, Some("r"));
        let turn = bench.turn().turn;
        let inner = call_of(&mut bench, 2, 1, Some("r"));
        entry(&mut bench);
        match of_entry {
            Some(end) => leave(&mut bench, turn, 0, 1, end),
            None => bench.end(turn, lost()),
        }
        bench.settle();
        assert_eq!(code(&bench.answer(inner)), wanted);
    }
}

/// Two are answered while the first one's entry is on its way: the second waits for it.
#[test]
fn answers_inside_a_turn_leave_one_after_the_other() {
    let mut bench = bench(3);
    call_of(&mut bench, 1, 1, Some("r"));
    let turn = bench.turn().turn;
    let first = call_of(&mut bench, 2, 1, Some("r"));
    let second = call_of(&mut bench, 3, 1, Some("r"));
    leave(&mut bench, turn, 1, 1, answered("first", &[("a", "1")]));
    leave(&mut bench, turn, 2, 2, answered("second", &[("b", "2")]));
    bench.settle();
    assert_eq!(bench.answer(first), reply_of("first"));
    assert_eq!(bench.answer(second), reply_of("second"));
    let committed = TurnTold::Part(PartEnd::Committed(ActorVersion(3)));
    assert_eq!(told(&mut bench, 2), committed);
    assert_eq!(bench.state(&cart(), b"b").unwrap(), "2");
}
