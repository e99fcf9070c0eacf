//! Turns that outlive their leadership.

use std::time::Duration;

use super::*;

fn id(n: u8) -> RequestId {
    RequestId::outside(&[n]).unwrap()
}

fn at(seconds: u64) -> Instant {
    Instant(0) + Duration::from_secs(seconds)
}

/// What the old leader still says, if anything, and when.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Word {
    Before,
    Never,
    After,
}

/// The next leader starts the call again while its method runs: it gets what the method answers,
/// and that ran once.
#[test]
fn a_running_turn_is_adopted() {
    for word in [Word::Before, Word::Never, Word::After] {
        let mut bed = Bed::new();
        let old = bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        assert_eq!(bed.put("a"), AppOutcome::Done);
        if word == Word::Before {
            bed.depose(old);
        }
        assert_eq!(bed.put("b"), AppOutcome::Done, "{word:?}: it goes on");
        let new = bed.run_call(2, 1, 7, id(1));
        if word == Word::After {
            bed.depose(old);
        }
        assert_eq!(bed.out, [], "{word:?}: nothing is asked of the application");
        bed.answer(exchange, 200);
        let [HostEffect::Leader(RunnerInput::Ended { turn, end })] = &bed.out[..] else {
            panic!("{word:?}: {:?}", bed.out);
        };
        assert_eq!(*turn, new, "{word:?}");
        let TurnEnd::Answered(answered) = end else {
            panic!("{word:?}: {end:?}");
        };
        assert_eq!(answered.staged.writes.len(), 2, "{word:?}");
    }
}

/// It was answered, and the leader that heard it was gone before it counted.
#[test]
fn an_answer_that_did_not_count_is_given_again() {
    for deposed_first in [false, true] {
        let mut bed = Bed::new();
        let old = bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        assert_eq!(bed.put("a"), AppOutcome::Done);
        if deposed_first {
            bed.depose(old);
            bed.answer(exchange, 200);
            let goes = bed.deleted();
            assert_eq!(bed.out, [], "there is no leader to tell");
            bed.answer(goes, 200);
        } else {
            bed.answer(exchange, 200);
            bed.ended();
        }
        let new = bed.run_call(2, 1, 7, id(1));
        let [HostEffect::Leader(RunnerInput::Ended { turn, end })] = &bed.out[..] else {
            panic!("{:?}", bed.out);
        };
        assert_eq!(*turn, new);
        let TurnEnd::Answered(answered) = end else {
            panic!("{end:?}");
        };
        assert_eq!(answered.staged.writes.len(), 1);
    }
}

/// What else is started is another call: the method is called for it.
#[test]
fn only_the_same_call_on_the_same_version_is_adopted() {
    for (request, version, what) in [(id(2), 7, "another call"), (id(1), 8, "another version")] {
        let mut bed = Bed::new();
        bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        bed.run_call(2, 1, version, request.clone());
        assert!(matches!(bed.ended(), TurnEnd::Lost { .. }), "{what}");
        assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }), "{what}");
        bed.answer(exchange, 200);
        bed.run_call(2, 2, version, request.clone());
        let goes = bed.deleted();
        bed.answer(goes, 200);
        bed.called();

        let mut bed = Bed::new();
        bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        bed.answer(exchange, 200);
        bed.ended();
        bed.run_call(2, 1, version, request);
        let (_, goes) = bed.asked();
        assert_eq!(goes, version == 8, "{what}");
    }
}

/// What it asked of the old leader is asked of the new one.
#[test]
fn a_value_that_is_waited_for_is_asked_again() {
    let mut bed = Bed::new();
    let old = bed.run_call(1, 1, 7, id(1));
    let exchange = bed.called();
    let key = Bytes::from_static(b"k");
    bed.call(AppCall::StateGet { key: key.clone() });
    bed.out.clear();
    bed.depose(old);
    let new = bed.run_call(2, 1, 7, id(1));
    let what = TurnAsk::Get { key };
    let asked = RunnerInput::Asked {
        turn: new,
        ask: 1,
        what,
    };
    assert_eq!(bed.out, [HostEffect::Leader(asked)]);
    bed.out.clear();
    let tell = RunnerEffect::Tell {
        turn: new,
        ask: 1,
        told: TurnTold::Value(None),
    };
    bed.objects.perform(NOW, tell, &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::Value(None));
    bed.answer(exchange, 200);
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
}

/// A reminder that is on its way to the log may have got there: such a turn is given up, as is one
/// nobody asks for.
#[test]
fn what_may_have_counted_and_what_nobody_wants_is_given_up() {
    for part in [true, false] {
        let mut bed = Bed::new();
        let old = bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        if part {
            bed.call(reminder(Overwrite::Yes));
        }
        bed.out.clear();
        bed.depose(old);
        if part {
            assert_eq!(bed.told(), AppOutcome::InstanceMissing);
        } else {
            bed.objects.tick(at(14), &mut bed.out);
            assert_eq!(bed.put("k"), AppOutcome::Done, "it may still be wanted");
            bed.objects.tick(at(15), &mut bed.out);
        }
        assert_eq!(bed.put("k"), AppOutcome::InstanceMissing, "{part}");
        bed.run_call(2, 1, 7, id(1));
        assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }), "{part}");
        bed.answer(exchange, 200);
        bed.run_call(2, 2, 7, id(1));
        bed.deleted();
    }
}

/// No method is run again because its application died, whoever leads by then.
#[test]
fn the_next_leader_hears_that_the_application_died() {
    let mut bed = Bed::new();
    let old = bed.run_call(1, 1, 7, id(1));
    bed.called();
    bed.depose(old);
    bed.gone(1);
    bed.hosting(2);
    bed.out.clear();
    bed.run_call(2, 1, 7, id(1));
    assert!(matches!(bed.ended(), TurnEnd::Lost { .. }));
    assert_eq!(bed.out, []);
}

/// Answers are kept for a while only, and so many bytes of them.
#[test]
fn answers_that_did_not_count_have_their_bounds() {
    for (after, replayed) in [(4, true), (5, false)] {
        let mut bed = Bed::new();
        bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        bed.answer(exchange, 200);
        bed.ended();
        bed.objects.tick(at(after), &mut bed.out);
        bed.run_call(2, 1, 7, id(1));
        let ended = matches!(bed.out[..], [HostEffect::Leader(_)]);
        assert_eq!(ended, replayed, "after {after} s");
    }
}

/// Two leaders may know two writes by the same version: only the one that counts its own may go on
/// with the object.
#[test]
fn an_object_whose_last_write_may_not_count_is_reset() {
    for (term, number, resets) in [(1, 2, false), (2, 1, true)] {
        let mut bed = Bed::new();
        bed.good_turn(1, 1, 7, Some("k"));
        bed.run_call(term, number, 8, id(2));
        let (_, goes) = bed.asked();
        assert_eq!(goes, resets, "term {term}");
    }
}

/// A reminder that a turn without a leader sets is asked of the next one, which commits it with
/// what was staged before.
#[test]
fn a_reminder_that_never_left_goes_to_the_next_leader() {
    let mut bed = Bed::new();
    let old = bed.run_call(1, 1, 7, id(1));
    let exchange = bed.called();
    assert_eq!(bed.put("a"), AppOutcome::Done);
    bed.depose(old);
    bed.call(reminder(Overwrite::Yes));
    assert_eq!(bed.out, [], "there is nobody to ask");
    let new = bed.run_call(2, 1, 7, id(1));
    let [
        HostEffect::Leader(RunnerInput::Asked {
            turn,
            what: TurnAsk::Commit(staged),
            ..
        }),
    ] = &bed.out[..]
    else {
        panic!("{:?}", bed.out);
    };
    assert_eq!(*turn, new);
    assert_eq!((staged.writes.len(), staged.schedule.len()), (1, 1));
    bed.out.clear();
    let told = TurnTold::Part(PartEnd::Committed(ActorVersion(8)));
    let (turn, ask) = (new, 1);
    bed.objects
        .perform(NOW, RunnerEffect::Tell { turn, ask, told }, &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.answer(exchange, 200);
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
}

/// A method may answer without waiting for a value it has asked for: its object is free when it is
/// given up.
#[test]
fn an_answered_turn_that_is_given_up_does_not_block_its_object() {
    for by_another in [false, true] {
        let mut bed = Bed::new();
        let old = bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        bed.get();
        bed.depose(old);
        bed.answer(exchange, 500);
        assert_eq!(bed.out, [], "its value is still to come");
        if by_another {
            bed.run_call(2, 1, 7, id(2));
            assert_eq!(bed.told(), AppOutcome::InstanceMissing);
            assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
        } else {
            bed.objects.tick(at(15), &mut bed.out);
            assert_eq!(bed.told(), AppOutcome::InstanceMissing);
            let goes = bed.deleted();
            bed.answer(goes, 200);
        }
        bed.run_call(2, 2, 7, id(2));
        if by_another {
            let goes = bed.deleted();
            bed.answer(goes, 200);
        }
        bed.called();
    }
}

/// Whoever knows what became of an answer gets no copy of it: the call is to run.
#[test]
fn the_same_leader_gets_no_answer_twice() {
    for (lost, term, activation, again) in [
        (false, 1, 1, true),
        (false, 1, 2, false),
        (false, 2, 1, false),
        (true, 1, 2, true),
        (true, 2, 1, false),
    ] {
        let mut bed = Bed::new();
        bed.run_call(1, 1, 7, id(1));
        let exchange = bed.called();
        if lost {
            bed.silent(exchange, Sent::Maybe);
        } else {
            bed.answer(exchange, 200);
        }
        bed.ended();
        bed.run_at((term, activation), 2, 7, id(1));
        let asked = matches!(bed.out[..], [HostEffect::App(AppEffect::Ask { .. })]);
        assert_eq!(
            asked, again,
            "lost: {lost}, term {term}, activation {activation}"
        );
    }
}

/// What the leader before wanted next is not begun for it after that.
#[test]
fn a_start_that_waits_for_a_reset_gives_way_to_the_next_leader() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.run_call(1, 2, 7, id(1));
    let exchange = bed.called();
    bed.answer(exchange, 500);
    bed.ended();
    bed.run_call(1, 3, 7, id(2));
    let goes = bed.deleted();
    bed.run_call(2, 1, 7, id(1));
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
    bed.answer(goes, 200);
    assert_eq!(bed.out, [], "nothing runs for a leader of before");
}
