//! What is asked of an object while it is told to go, and of one whose process was started again.

use super::*;

impl Bed {
    /// The process whose object is called next.
    #[track_caller]
    fn called_in(&mut self) -> (Exchange, AppInstance) {
        match self.out.remove(0) {
            HostEffect::App(AppEffect::Ask {
                exchange,
                instance,
                request,
            }) => {
                let method = matches!(request.callback, Callback::Method { .. });
                assert!(method, "nothing is reset: {request:?}");
                (exchange, instance)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What the object that goes has in memory is of an older version than what is stored: the leader,
/// which has not heard of its turn, could not tell.
#[test]
fn state_is_not_written_while_its_object_is_told_to_go() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.run(1, 2, 8);
    let reset = bed.deleted();
    assert_eq!(bed.put("k"), AppOutcome::InstanceMissing);
    assert_eq!(bed.out, [], "the leader is not asked");
    // The turn goes on as if nothing had been.
    bed.answer(reset, 200);
    let exchange = bed.called();
    bed.answer(exchange, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("answered");
    };
    assert_eq!(answered.staged, Staged::default());
}

/// When the process before is heard of once more: its connection may say what was under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    BeforeTheNextTurn,
    DuringTheNextTurn,
}

/// An application is started again faster than anybody notices that it had ended.
#[test]
fn a_turn_whose_process_was_started_again_has_no_answer() {
    for late in [Late::BeforeTheNextTurn, Late::DuringTheNextTurn] {
        let mut bed = Bed::new();
        bed.good_turn(1, 1, 7, None);
        bed.run(1, 2, 7);
        let (old, process) = bed.called_in();
        assert_eq!(process, AppInstance(1));
        assert_eq!(bed.put("k"), AppOutcome::Done);
        bed.hosting(2);
        assert!(matches!(bed.ended(), TurnEnd::Lost { .. }), "{late:?}");
        assert_eq!(bed.out, [], "{late:?}: once, and nobody is told to go");
        if late == Late::BeforeTheNextTurn {
            bed.answer(old, 200);
        }
        assert_eq!(bed.out, [], "{late:?}");
        bed.run(1, 3, 7);
        let (exchange, process) = bed.called_in();
        assert_eq!(process, AppInstance(2), "{late:?}");
        if late == Late::DuringTheNextTurn {
            bed.answer(old, 200);
        }
        assert_eq!(bed.out, [], "{late:?}");
        bed.answer(exchange, 500);
        let TurnEnd::Answered(answered) = bed.ended() else {
            panic!("{late:?}: answered");
        };
        assert_eq!(answered.staged, Staged::default(), "{late:?}");
        assert_eq!(
            answered.answer.err().and_then(|e| app_status(&e)),
            Some(500)
        );
        // What succeeded was another process's object: this one is not known to exist.
        bed.run(1, 4, 7);
        assert_eq!(bed.called_in().1, AppInstance(2), "{late:?}");
    }
}

/// The same while an object is told to go: the turn behind that has not begun.
#[test]
fn a_turn_that_waits_for_a_process_that_was_started_again_begins_elsewhere() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.run(1, 2, 8);
    let old = bed.deleted();
    bed.hosting(2);
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    bed.answer(old, 200);
    assert_eq!(bed.out, []);
    bed.run(2, 1, 8);
    assert_eq!(bed.called_in().1, AppInstance(2));
}

/// A turn without a leader has its answer, and waits for a value that it has asked for. When it is
/// cut its object is nobody's.
#[test]
fn a_process_that_has_ended_is_told_nothing() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    let turn = bed.run(1, 2, 7);
    let exchange = bed.called();
    bed.get();
    bed.depose(turn);
    bed.answer(exchange, 200);
    assert_eq!(bed.out, [], "its answer waits, too");
    bed.hosting(2);
    assert_eq!(bed.told(), AppOutcome::InstanceMissing, "who asked hears");
    assert_eq!(bed.out, []);
    bed.run(2, 1, 7);
    assert_eq!(bed.called_in().1, AppInstance(2));
}
