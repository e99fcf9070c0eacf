//! State that an application writes outside a turn: it counts only if its object has what the
//! leader has, and nothing is on the way.

use ghostlight_protocol::call::{
    AnswerKind, Ask as Operate, Done, Operation, OperationReply, StateChange,
};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::replica::apply::read_version;
use prost::Message;

use super::harness::*;
use crate::turns::{Caller, TurnsInput};

/// What the actor is doing when the write arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Nothing,
    ATurnRuns,
    AnEntryIsInFlight,
    AnotherLeader,
}

/// The actor is at version 1, in its first activation.
fn held() -> Bench {
    let mut bench = Bench::new();
    bench.call(cart_call(1));
    let turn = bench.turn().turn;
    bench.end(turn, answered("", &[("k", "turn")]));
    bench.settle();
    bench.answers.clear();
    bench
}

impl Bench {
    fn write(&mut self, attempt: u32, (term, activation, version): (u64, u64, u64)) -> Caller {
        let ask = Ask {
            attempt,
            ..cart_call(9)
        };
        let from = ask.caller;
        let mut request = ask.request();
        let change = StateChange {
            term,
            activation,
            version,
            writes: vec![put("k", "outside")],
        };
        request.operation = Some(Operation {
            ask: Some(Operate::StateWrite(change)),
        });
        self.feed(TurnsInput::Call { from, request });
        from
    }

    fn written(&mut self, caller: Caller) -> OperationReply {
        match self.answer(caller) {
            AnswerKind::Reply(body) => OperationReply::decode(body).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn version(&self) -> u64 {
        let row = &self.rows.0[&(Family::Version, cart().to_bytes())];
        read_version(row).unwrap()
    }
}

#[test]
fn state_outside_a_turn_commits_with_a_record() {
    let mut bench = held();
    let caller = bench.write(1, (6, 1, 1));
    bench.flush();
    bench.silent();
    assert_eq!(bench.version(), 1, "it is not applied yet");
    bench.apply_one();
    let first = bench.written(caller);
    assert_eq!((first.done(), first.version), (Done::Yes, 2));
    assert_eq!(bench.version(), 2);
    assert_eq!(bench.state(&cart(), b"k").unwrap(), "outside");
    // The version that it names is over by now: it hears what it heard.
    let caller = bench.write(2, (6, 1, 1));
    bench.settle();
    assert_eq!(bench.written(caller), first);
    assert_eq!(bench.version(), 2);
    // The next turn is built on it.
    bench.call(cart_call(2));
    assert_eq!(bench.turn().token.base.0, 2);
}

#[test]
fn state_outside_a_turn_is_refused_unless_its_object_is_the_one_that_counts() {
    for (meanwhile, change) in [
        (Meanwhile::Nothing, (5, 1, 1)),
        (Meanwhile::Nothing, (7, 1, 1)),
        (Meanwhile::Nothing, (6, 2, 1)),
        (Meanwhile::Nothing, (6, 1, 0)),
        (Meanwhile::Nothing, (6, 1, 2)),
        (Meanwhile::ATurnRuns, (6, 1, 1)),
        // Also if it knows what is in flight.
        (Meanwhile::AnEntryIsInFlight, (6, 1, 1)),
        (Meanwhile::AnEntryIsInFlight, (6, 1, 2)),
        // An activation that the next leader has not begun.
        (Meanwhile::AnotherLeader, (7, 1, 1)),
    ] {
        let mut bench = held();
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::ATurnRuns => {
                bench.call(cart_call(2));
                bench.turn();
            }
            Meanwhile::AnEntryIsInFlight => {
                bench.call(cart_call(2));
                let turn = bench.turn().turn;
                bench.end(turn, answered("", &[("k", "turn")]));
            }
            Meanwhile::AnotherLeader => bench.depose(0),
        }
        bench.flush();
        let entries = bench.log.len();
        let caller = bench.write(1, change);
        bench.flush();
        assert_eq!(bench.log.len(), entries, "{meanwhile:?} {change:?}");
        bench.settle();
        let reply = bench.written(caller);
        assert_eq!(reply.done(), Done::NotHeld, "{meanwhile:?} {change:?}");
        assert_eq!(bench.state(&cart(), b"k").unwrap(), "turn");
    }
}
