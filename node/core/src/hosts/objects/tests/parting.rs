//! Reminders that a turn sets at once, and what a change of state that is refused says of its
//! object.

use ghostlight_protocol::code::Code;

use super::*;

/// As by `Promise.all`: nothing says that one waits for the other.
fn set(bed: &mut Bed, name: &str, overwrite: Overwrite) {
    let AppCall::ScheduleSet { kind, wanted, .. } = reminder(overwrite) else {
        unreachable!("a reminder is set");
    };
    let name = name.to_owned();
    bed.call(AppCall::ScheduleSet { kind, name, wanted });
}

fn put(bed: &mut Bed, key: &'static str, value: &'static str) {
    let op = StateOp::Upsert {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        ttl: None,
    };
    bed.call(AppCall::StateTransaction(vec![op]));
    assert_eq!(bed.told(), AppOutcome::Done);
}

/// The one part that the leader is asked for: its number, the values of its writes, its reminders.
#[track_caller]
fn part(bed: &mut Bed) -> (u32, Vec<Bytes>, Vec<String>) {
    let HostEffect::Leader(RunnerInput::Asked { ask, what, .. }) = bed.out.remove(0) else {
        panic!("the leader is asked to commit");
    };
    let TurnAsk::Commit(staged) = what else {
        panic!("{what:?}");
    };
    assert_eq!(bed.out, [], "one part at a time");
    let value = |write: StateWrite| AppValue::decode(write.value.unwrap()).unwrap().data;
    let values = staged.writes.into_iter().map(value).collect();
    let names = staged.schedule.into_iter().map(|write| write.name);
    (ask, values, names.collect())
}

fn tell_part(bed: &mut Bed, turn: TurnId, ask: u32, end: PartEnd) {
    let told = TurnTold::Part(end);
    let effect = RunnerEffect::Tell { turn, ask, told };
    bed.objects.perform(NOW, effect, &mut bed.out);
}

#[test]
fn reminders_that_are_set_at_once_commit_one_after_the_other() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 3);
    let exchange = bed.called();
    put(&mut bed, "k", "1");
    set(&mut bed, "a", Overwrite::Yes);
    let (ask, values, names) = part(&mut bed);
    assert_eq!((values, names), (vec!["1".into()], vec!["a".to_owned()]));
    set(&mut bed, "b", Overwrite::Yes);
    set(&mut bed, "c", Overwrite::Yes);
    assert_eq!(bed.out, [], "they wait");
    put(&mut bed, "k", "2");
    bed.answer(exchange, 200);
    assert_eq!(bed.out, [], "so does the turn's end");
    tell_part(&mut bed, turn, ask, PartEnd::Committed(ActorVersion(4)));
    assert_eq!(bed.told(), AppOutcome::Done);
    let (ask, values, names) = part(&mut bed);
    assert_eq!((values, names), (vec!["2".into()], vec!["b".to_owned()]));
    tell_part(&mut bed, turn, ask, PartEnd::Committed(ActorVersion(5)));
    assert_eq!(bed.told(), AppOutcome::Done);
    let (ask, values, names) = part(&mut bed);
    assert_eq!((values, names), (vec![], vec!["c".to_owned()]));
    tell_part(&mut bed, turn, ask, PartEnd::Committed(ActorVersion(6)));
    assert_eq!(bed.told(), AppOutcome::Done);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("answered");
    };
    assert_eq!(answered.staged, Staged::default());
    bed.run(1, 2, 6);
    bed.called();
}

/// A part that is not taken gives back what it had: older than what was written since.
#[test]
fn a_part_that_is_not_taken_overwrites_nothing_newer() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 3);
    let exchange = bed.called();
    put(&mut bed, "k", "1");
    set(&mut bed, "a", Overwrite::No);
    let (ask, ..) = part(&mut bed);
    put(&mut bed, "k", "2");
    set(&mut bed, "b", Overwrite::Yes);
    tell_part(&mut bed, turn, ask, PartEnd::ScheduleThere);
    assert_eq!(bed.told(), AppOutcome::AlreadyExists);
    let (ask, values, names) = part(&mut bed);
    assert_eq!((values, names), (vec!["2".into()], vec!["b".to_owned()]));
    tell_part(&mut bed, turn, ask, PartEnd::Committed(ActorVersion(4)));
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.answer(exchange, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("answered");
    };
    assert_eq!(answered.staged, Staged::default(), "k stays 2");
}

/// The next leader is asked for the first, and for the second when that is there.
#[test]
fn reminders_that_are_set_without_a_leader_wait_for_the_next_one() {
    let mut bed = Bed::new();
    let request = RequestId::Derived(7);
    let turn = bed.run_call(1, 1, 3, request.clone());
    bed.called();
    bed.depose(turn);
    bed.out.clear();
    set(&mut bed, "a", Overwrite::Yes);
    set(&mut bed, "b", Overwrite::Yes);
    assert_eq!(bed.out, []);
    let turn = bed.run_call(2, 1, 3, request);
    let (ask, _, names) = part(&mut bed);
    assert_eq!(names, ["a"]);
    tell_part(&mut bed, turn, ask, PartEnd::Committed(ActorVersion(4)));
    assert_eq!(bed.told(), AppOutcome::Done);
    let (_, _, names) = part(&mut bed);
    assert_eq!(names, ["b"]);
}

/// Outside a turn: the object keeps a change in its memory that nobody has taken, and its next turn
/// would save it.
#[test]
fn a_refused_change_outside_a_turn_makes_its_object_unclean() {
    let unknown = CallOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: String::new(),
    };
    let outcomes = [
        CallOutcome::NotRun(NotRun::new(Code::MinCopies, "too few copies")),
        CallOutcome::NotRun(NotRun::new(Code::NoLeader, "nobody leads")),
        unknown,
    ];
    for outcome in outcomes {
        let mut bed = Bed::new();
        bed.good_turn(3, 1, 7, None);
        let ticket = bed.call(AppCall::StateTransaction(vec![upsert("k")]));
        bed.out.clear();
        let case = format!("{outcome:?}");
        bed.objects.operated(ticket, outcome, &mut bed.out);
        bed.told();
        bed.run(3, 2, 7);
        let (_, deleted) = bed.asked();
        assert!(deleted, "{case}: it is reset first");
    }
}

/// The API has refused it already: too many operations, or what is none.
#[test]
fn a_change_that_the_api_refused_makes_its_object_unclean() {
    for during in [false, true] {
        let mut bed = Bed::new();
        bed.good_turn(1, 1, 7, None);
        if during {
            bed.run(1, 2, 7);
            let exchange = bed.called();
            bed.call(AppCall::StateRefused);
            assert_eq!(bed.told(), AppOutcome::Done);
            bed.answer(exchange, 200);
            bed.ended();
        } else {
            bed.call(AppCall::StateRefused);
            assert_eq!(bed.told(), AppOutcome::Done);
        }
        bed.run(1, 3, 7);
        let (_, deleted) = bed.asked();
        assert!(deleted, "during a turn: {during}");
    }
}

/// What comes when the turn has its answer is refused, and its object believes it.
#[test]
fn a_change_that_comes_after_the_answer_makes_its_object_unclean() {
    for late in [false, true] {
        let mut bed = Bed::new();
        let turn = bed.run(1, 1, 3);
        let exchange = bed.called();
        bed.get();
        bed.answer(exchange, 200);
        if late {
            assert_eq!(bed.put("k"), AppOutcome::InstanceMissing);
        }
        let told = TurnTold::Value(None);
        let tell = RunnerEffect::Tell { turn, ask: 1, told };
        bed.objects.perform(NOW, tell, &mut bed.out);
        assert_eq!(bed.told(), AppOutcome::Value(None));
        bed.ended();
        bed.run(1, 2, 3);
        let (_, deleted) = bed.asked();
        assert_eq!(deleted, late);
    }
}
