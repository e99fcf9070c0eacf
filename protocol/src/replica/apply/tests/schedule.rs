//! Reminders, timers, parts of turns, values that end, and actors that are deleted.

use bytes::Bytes;
use prost::Message;

use super::bed::{Bed, HERE, TERM, actor, committed, request, sequence, write_turn};
use crate::command::{
    Accept, AppValue, Command, Envelope, Expire, Fate, Firing, IfThere, Kind, ScheduleKind,
    ScheduleRow, ScheduleWrite, Share, StateWrite, TurnCommit, TurnKind,
};
use crate::family::{self, DueKind, Family};
use crate::outcome::{Answer, TurnAnswer};
use crate::replica::apply::{EntryOutcome, SkipReason, TurnOutcome, is_deleted};
use crate::request::RequestId;

fn due(due_ms: u64) -> ScheduleRow {
    ScheduleRow {
        due_ms,
        ..ScheduleRow::default()
    }
}

fn set(kind: ScheduleKind, name: &str, row: Option<ScheduleRow>) -> ScheduleWrite {
    ScheduleWrite {
        kind: kind as i32,
        name: name.to_owned(),
        row,
        ..ScheduleWrite::default()
    }
}

/// An entry of `a` that changes no state.
fn entry(schedule: Vec<ScheduleWrite>) -> TurnCommit {
    TurnCommit {
        actor: actor("a").to_bytes(),
        kind: TurnKind::RecordOnly as i32,
        schedule,
        ..TurnCommit::default()
    }
}

fn scheduled(bed: &mut Bed, kind: ScheduleKind, name: &str) -> Option<u64> {
    let key = family::schedule_key(&actor("a"), kind, name);
    let row = ScheduleRow::decode(bed.get(Family::Schedule, &key)?).unwrap();
    let due = family::due_row_key(kind.into(), row.due_ms, &key);
    assert!(
        bed.get(Family::Due, &due).is_some(),
        "{name} has no due row"
    );
    Some(row.due_ms)
}

#[test]
fn every_row_has_one_due_row() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let mut bed = Bed::new();
        for (row, want) in [
            (Some(due(50)), Some(50)),
            (Some(due(20)), Some(20)),
            (Some(due(90)), Some(90)),
            (None, None),
            (None, None),
        ] {
            bed.turn(entry(vec![set(kind, "n", row)]));
            assert_eq!(scheduled(&mut bed, kind, "n"), want, "{kind:?}");
            assert_eq!(
                bed.count(Family::Due),
                u64::from(want.is_some()),
                "{kind:?}"
            );
        }
    }
}

#[test]
fn one_that_must_not_be_replaced_skips_its_whole_entry() {
    let mut bed = Bed::new();
    let only_new = |due_ms| ScheduleWrite {
        if_there: IfThere::Skip as i32,
        ..set(ScheduleKind::Reminder, "n", Some(due(due_ms)))
    };
    assert_eq!(committed(&bed.turn(entry(vec![only_new(5)]))), Some(0));
    let before = bed.clone();
    let with_state = TurnCommit {
        schedule: vec![only_new(6)],
        ..write_turn(&actor("a"), 0, "k", "v")
    };
    let skipped = TurnOutcome::Skipped(SkipReason::ScheduleThere);
    assert_eq!(bed.turn(with_state), skipped);
    assert_eq!(bed.rows, before.rows);
    // The other kind has names of its own.
    let timer = ScheduleWrite {
        kind: ScheduleKind::Timer as i32,
        ..only_new(7)
    };
    assert_eq!(committed(&bed.turn(entry(vec![timer]))), Some(0));
}

/// A firing counts once: not after its row has moved, was set anew, or is gone.
#[test]
fn a_firing_counts_only_while_its_row_stands() {
    let fired = |due_ms, attempts, next| TurnCommit {
        firing: Some(Firing {
            kind: ScheduleKind::Reminder as i32,
            name: "n".to_owned(),
            due_ms,
            attempts,
        }),
        ..entry(vec![set(ScheduleKind::Reminder, "n", next)])
    };
    let gone = TurnOutcome::Skipped(SkipReason::FiringGone);
    let mut bed = Bed::new();
    assert_eq!(bed.turn(fired(10, 0, None)), gone, "there is none");
    bed.turn(entry(vec![set(ScheduleKind::Reminder, "n", Some(due(10)))]));
    for (due_ms, attempts) in [(9, 0), (11, 0), (10, 1)] {
        assert_eq!(bed.turn(fired(due_ms, attempts, None)), gone);
        assert_eq!(scheduled(&mut bed, ScheduleKind::Reminder, "n"), Some(10));
    }
    assert_eq!(committed(&bed.turn(fired(10, 0, Some(due(20))))), Some(0));
    assert_eq!(bed.turn(fired(10, 0, Some(due(20)))), gone, "it has fired");
    assert_eq!(scheduled(&mut bed, ScheduleKind::Reminder, "n"), Some(20));
    assert_eq!(committed(&bed.turn(fired(20, 0, None))), Some(0));
    assert_eq!(
        (bed.count(Family::Schedule), bed.count(Family::Due)),
        (0, 0)
    );
}

fn share(id: &RequestId, base: u64, share: Share, answer: TurnAnswer) -> TurnCommit {
    TurnCommit {
        request: request(id, 1),
        share: share as i32,
        answer: Some(answer),
        ..write_turn(&actor("a"), base, &format!("k{base}"), "v")
    }
}

/// Parts commit one after the other; a repeated request is told that it was interrupted, until the
/// rest has brought its answer.
#[test]
fn a_request_with_parts_is_interrupted_until_its_rest() {
    for id in [
        sequence(1),
        RequestId::outside(b"o").unwrap(),
        RequestId::Derived(7),
    ] {
        let mut bed = Bed::new();
        let interrupted = TurnAnswer::interrupted;
        let whole = TurnAnswer::reply(Bytes::from_static(b"done"));
        let recorded = |answer| TurnOutcome::Skipped(SkipReason::Recorded(answer));
        for (base, part) in [(0, Share::Part), (1, Share::More)] {
            let outcome = bed.turn(share(&id, base, part, interrupted()));
            assert_eq!(committed(&outcome), Some(base + 1), "{id:?}");
            bed.check_counters();
            for again in [Share::Whole, Share::Part] {
                let outcome = bed.turn(share(&id, base + 1, again, whole.clone()));
                assert_eq!(outcome, recorded(interrupted()), "{id:?} {again:?}");
            }
            // Another leadership's rest of the same request was built on another version.
            let stale = bed.turn(share(&id, base, Share::Rest, whole.clone()));
            assert!(matches!(
                stale,
                TurnOutcome::Skipped(SkipReason::Version { .. })
            ));
        }
        let outcome = bed.turn(share(&id, 2, Share::Rest, whole.clone()));
        assert_eq!(committed(&outcome), Some(3), "{id:?}");
        bed.check_counters();
        for again in [Share::Whole, Share::Part, Share::More, Share::Rest] {
            let outcome = bed.turn(share(&id, 3, again, whole.clone()));
            assert_eq!(outcome, recorded(whole.clone()), "{id:?} {again:?}");
        }
    }
}

#[test]
fn a_message_of_which_a_part_is_done_says_so() {
    let mut bed = Bed::new();
    bed.apply(Kind::Accept(Accept {
        source: 3,
        first: 1,
        messages: vec![Envelope {
            actor: actor("a").to_bytes(),
            ..Envelope::default()
        }],
        ..Accept::default()
    }));
    let part = |base, share: Share| TurnCommit {
        inbox_sequence: 1,
        share: share as i32,
        ..write_turn(&actor("a"), base, "k", "v")
    };
    assert_eq!(committed(&bed.turn(part(0, Share::Part))), Some(1));
    let row = bed.get(Family::Inbox, &family::inbox_key(1)).unwrap();
    assert_eq!(Envelope::decode(row).unwrap().committed(), Share::Part);
    assert_eq!(committed(&bed.turn(part(1, Share::Rest))), Some(2));
    assert_eq!(bed.count(Family::Inbox), 0);
    bed.check_counters();
}

fn at(bed: &mut Bed, wall_ms: u64, kind: Kind) -> EntryOutcome {
    let command = Command {
        leader_term: TERM,
        age_step_ms: 0,
        wall_ms,
        kind: Some(kind),
    };
    bed.apply_bytes(TERM, &command.encode_to_vec())
}

#[test]
fn a_value_ends_when_its_own_time_is_over() {
    let value = |expires_ms| StateWrite {
        key: Bytes::from_static(b"k"),
        value: Some(
            AppValue {
                data: Bytes::from_static(b"1"),
                expires_ms,
            }
            .encode_to_vec()
            .into(),
        ),
        expires_ms,
    };
    let key = family::state_key(&actor("a"), b"k");
    let due = |ms| family::due_row_key(DueKind::Value, ms, &key);
    let expire = |keys: Vec<Bytes>| {
        Kind::Expire(Expire {
            value_keys: keys,
            ..Expire::default()
        })
    };
    let mut bed = Bed::new();
    let mut write = write_turn(&actor("a"), 0, "x", "y");
    write.state = vec![value(100)];
    assert_eq!(committed(&bed.turn(write.clone())), Some(1));
    // Written again with another time: the row of the first one ends nothing.
    write.base_version = 1;
    write.state = vec![value(300)];
    assert_eq!(committed(&bed.turn(write)), Some(2));
    at(&mut bed, 99, expire(vec![due(100)]));
    assert_eq!(bed.count(Family::Due), 2, "too early");
    at(&mut bed, 100, expire(vec![due(100)]));
    assert_eq!((bed.count(Family::Due), bed.count(Family::State)), (1, 1));
    at(&mut bed, 300, expire(vec![due(300)]));
    assert_eq!((bed.count(Family::Due), bed.count(Family::State)), (0, 0));
}

/// What knows a deleted actor by its version must not take its next life for it.
#[test]
fn a_deleted_actor_keeps_its_version() {
    let mut bed = Bed::new();
    bed.turn(write_turn(&actor("a"), 0, "k", "v"));
    let deleted = |bed: &mut Bed| {
        let row = bed.get(Family::Version, actor("a").as_bytes()).unwrap();
        is_deleted(&row)
    };
    assert!(!deleted(&mut bed));
    let mut delete = write_turn(&actor("a"), 1, "k", "v");
    delete.state[0].value = None;
    delete.fate = Fate::Deleted as i32;
    assert_eq!(committed(&bed.turn(delete.clone())), Some(2));
    assert!(deleted(&mut bed));
    let again = bed.turn(delete);
    assert!(matches!(
        again,
        TurnOutcome::Skipped(SkipReason::Version { .. })
    ));
    assert_eq!(
        committed(&bed.turn(write_turn(&actor("a"), 2, "k", "v"))),
        Some(3)
    );
    assert!(!deleted(&mut bed), "{HERE}: it lives again");
    let answer = TurnAnswer::interrupted().answer;
    assert!(matches!(answer, Some(Answer::Interrupted(_))));
}
