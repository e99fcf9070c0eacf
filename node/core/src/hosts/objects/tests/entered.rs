//! Calls of a chain that enter the running turn of their actor.

use super::*;

#[test]
fn a_call_inside_a_turn_takes_what_is_staged_and_the_turn_goes_on() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let outer = bed.called();
    bed.put("a");
    bed.enter(turn, 1);
    let inner = bed.called();
    bed.put("b");
    bed.answer(inner, 200);
    let (ask, entry, end) = bed.left();
    assert_eq!((ask, entry), (1, 1));
    let TurnEnd::Answered(answered) = end else {
        panic!("{end:?}");
    };
    let keys: Vec<_> = answered
        .staged
        .writes
        .iter()
        .map(|w| w.key.clone())
        .collect();
    assert_eq!(keys, ["a", "b"]);
    // Its own answer waits until the leader has spoken.
    bed.put("c");
    bed.answer(outer, 200);
    assert_eq!(bed.out, []);
    bed.tell(turn, ask, PartEnd::Committed(ActorVersion(9)));
    let end = bed.ended();
    let TurnEnd::Answered(answered) = end else {
        panic!("{end:?}");
    };
    let keys: Vec<_> = answered
        .staged
        .writes
        .iter()
        .map(|w| w.key.clone())
        .collect();
    assert_eq!(keys, ["c"]);
    bed.good_turn(1, 2, 10, None);
}

#[test]
fn what_a_leader_refused_of_a_call_inside_is_staged_again_and_its_object_unclean() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let outer = bed.called();
    bed.enter(turn, 1);
    let inner = bed.called();
    bed.put("b");
    bed.answer(inner, 500);
    let (ask, _, _) = bed.left();
    let refusal = NotRun::new(ghostlight_protocol::code::Code::MinCopies, "few");
    bed.tell(turn, ask, PartEnd::Refused(refusal));
    bed.answer(outer, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!();
    };
    assert_eq!(answered.staged.writes.len(), 1);
    bed.run(1, 2, 8);
    bed.deleted();
}

#[test]
fn a_call_that_comes_after_its_turn_or_does_not_arrive_has_not_run() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let outer = bed.called();
    for sent in [Sent::CertainlyNot, Sent::Maybe] {
        bed.enter(turn, 1);
        let inner = bed.called();
        bed.silent(inner, sent);
        let (_, _, end) = bed.left();
        assert_eq!(
            matches!(end, TurnEnd::NotStarted { .. }),
            sent == Sent::CertainlyNot
        );
    }
    bed.answer(outer, 200);
    bed.ended();
    bed.enter(turn, 3);
    assert!(matches!(bed.left(), (0, 3, TurnEnd::NotStarted { .. })));
}
