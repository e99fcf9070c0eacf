//! Requests: recorded answers, reused ids, closed sessions, large replies, expiry.

use bytes::Bytes;
use prost::Message;

use super::bed::{Bed, actor, committed, request, sequence, session, write_turn};
use crate::closed::ClosedRange;
use crate::command::{DedupRecord, Expire, Kind, SessionRow, TurnCommit, TurnKind};
use crate::family::{Family, dedup_key, due_key, session_key, state_key};
use crate::hash::{domain, hash128};
use crate::limits::{
    CLOSED_STEP, DEDUP_AGE_MAX, DERIVED_AGE_MAX, RECORDED_REPLY_BYTES_MAX, SESSION_ROW_AGE_MAX,
};
use crate::outcome::{AppError, TurnAnswer};
use crate::replica::apply::{EntryOutcome, SkipReason, TurnOutcome};
use crate::request::RequestId;
use crate::time::Age;

fn asked(id: &RequestId, digest: u8, base: u64, value: &str) -> TurnCommit {
    TurnCommit {
        request: request(id, digest),
        ..write_turn(&actor("a"), base, "k", value)
    }
}

fn closing(number: u64, closed_below: u64) -> TurnCommit {
    let mut turn = asked(&sequence(number), 1, 0, "v");
    turn.kind = TurnKind::RecordOnly as i32;
    turn.request.as_mut().unwrap().closed_below = closed_below;
    turn
}

fn every_kind() -> [RequestId; 3] {
    [
        sequence(1),
        RequestId::outside(b"order-7").unwrap(),
        RequestId::Derived(77),
    ]
}

#[test]
fn a_repeated_request_gets_the_recorded_answer() {
    for id in every_kind() {
        let mut bed = Bed::new();
        assert_eq!(committed(&bed.turn(asked(&id, 1, 0, "first"))), Some(1));
        let before = bed.clone();
        // Whatever it was built on now: the answer is the first one's.
        for base in [0, 1] {
            let outcome = bed.turn(asked(&id, 1, base, "second"));
            let first = TurnAnswer::reply(Bytes::from_static(b"first"));
            assert_eq!(
                outcome,
                TurnOutcome::Skipped(SkipReason::Recorded(first)),
                "{id:?}"
            );
        }
        let outcome = bed.turn(asked(&id, 2, 1, "other content"));
        assert_eq!(
            outcome,
            TurnOutcome::Skipped(SkipReason::IdReused),
            "{id:?}"
        );
        assert_eq!(bed.rows, before.rows);
        bed.check_counters();
    }
}

#[test]
fn ids_are_scoped_as_they_should_be() {
    // A session numbers a whole partition; other ids belong to one actor.
    for (id, expected) in every_kind().iter().zip([None, Some(1), Some(1)]) {
        let mut bed = Bed::new();
        bed.turn(asked(id, 1, 0, "v"));
        let mut other = asked(id, 1, 0, "v");
        other.actor = actor("b").to_bytes();
        assert_eq!(committed(&bed.turn(other)), expected, "{id:?}");
    }
}

#[test]
fn a_skipped_turn_leaves_no_record() {
    let mut bed = Bed::new();
    assert_eq!(committed(&bed.turn(asked(&sequence(1), 1, 5, "v"))), None);
    assert!(
        bed.rows.0.is_empty(),
        "the same id may run again: {:?}",
        bed.rows
    );
    assert_eq!(
        committed(&bed.turn(asked(&sequence(1), 1, 0, "v"))),
        Some(1)
    );
}

#[test]
fn errors_are_recorded_like_replies() {
    let mut bed = Bed::new();
    let answer = TurnAnswer::app(AppError {
        name: "Short".to_owned(),
        ..AppError::default()
    });
    let mut turn = asked(&sequence(1), 1, 0, "");
    turn.kind = TurnKind::RecordOnly as i32;
    turn.answer = Some(answer.clone());
    bed.turn(turn.clone());
    assert_eq!(
        bed.turn(turn),
        TurnOutcome::Skipped(SkipReason::Recorded(answer))
    );
    assert_eq!(bed.get(Family::State, &state_key(&actor("a"), b"k")), None);
}

#[test]
fn large_replies_leave_a_digest() {
    for (length, kept) in [
        (0, true),
        (RECORDED_REPLY_BYTES_MAX, true),
        (RECORDED_REPLY_BYTES_MAX + 1, false),
    ] {
        let mut bed = Bed::new();
        let body = Bytes::from(vec![b'x'; length]);
        let mut turn = asked(&sequence(1), 1, 0, "v");
        turn.answer = Some(TurnAnswer::reply(body.clone()));
        bed.turn(turn.clone());
        let key = dedup_key(&actor("a"), &sequence(1));
        let record = DedupRecord::decode(bed.get(Family::Dedup, &key).unwrap()).unwrap();
        let expected = if kept {
            TurnAnswer::reply(body.clone())
        } else {
            TurnAnswer::default()
        };
        assert_eq!(record.answer, Some(expected.clone()), "{length}");
        let digest = hash128(domain::REPLY, &[&body]).to_be_bytes().to_vec();
        assert_eq!(
            record.reply_digest,
            if kept { vec![] } else { digest },
            "{length}"
        );
        assert_eq!(
            bed.turn(turn),
            TurnOutcome::Skipped(SkipReason::Recorded(expected))
        );
        bed.check_counters();
    }
}

#[test]
fn closed_sequences_never_run_again() {
    let mut bed = Bed::new();
    for number in 1..=20 {
        assert!(committed(&bed.turn(closing(number, 0))).is_some());
    }
    assert_eq!(bed.count(Family::Dedup), 20);
    // Sequence 21 says that 1 to 19 have their answers.
    bed.turn(closing(21, 20));
    assert_eq!(bed.count(Family::Dedup), 2);
    bed.check_counters();
    for (number, expected) in [(1, true), (19, true), (20, false), (21, false), (22, false)] {
        let outcome = bed.turn(closing(number, 0));
        let closed = outcome == TurnOutcome::Skipped(SkipReason::SessionClosed);
        assert_eq!(closed, expected, "sequence {number}: {outcome:?}");
    }
    // A floor never sinks.
    bed.turn(closing(23, 2));
    assert_eq!(session_row(&mut bed).closed_below, 20);
}

fn session_row(bed: &mut Bed) -> SessionRow {
    let row = bed.get(Family::Session, &session_key(session())).unwrap();
    SessionRow::decode(row).unwrap()
}

/// A row for each turn would be the dearest part of a small turn.
#[test]
fn a_session_is_written_in_steps() {
    let mut bed = Bed::new();
    let step = CLOSED_STEP as u64;
    for number in 1..=step {
        bed.turn(closing(number, number));
        assert_eq!(session_row(&mut bed).closed_below, 1, "{number}");
    }
    assert_eq!(bed.count(Family::Dedup), step);
    // Not yet closed, so each is still known.
    let outcome = bed.turn(closing(1, 0));
    assert!(
        matches!(outcome, TurnOutcome::Skipped(SkipReason::Recorded(_))),
        "{outcome:?}"
    );
    bed.turn(closing(step + 1, step + 1));
    assert_eq!(session_row(&mut bed).closed_below, step + 1);
    assert_eq!(bed.count(Family::Dedup), 1);
    // A session in use is known to be so.
    bed.pass(SESSION_ROW_AGE_MAX.as_millis() as u64);
    bed.turn(closing(step + 2, step + 2));
    let row = session_row(&mut bed);
    assert_eq!((row.closed_below, row.age_ms), (step + 2, bed.row.age_ms));
    bed.check_counters();
}

#[test]
fn closing_many_is_bounded_and_goes_on_with_the_next_entry() {
    let mut bed = Bed::new();
    let mut floors = Vec::new();
    for number in [3_001, 3_002, 3_003, 3_004] {
        bed.turn(closing(number, 3_001));
        floors.push(session_row(&mut bed).closed_below);
    }
    assert_eq!(floors, [1_025, 2_049, 3_001, 3_001]);
}

#[test]
fn a_request_does_not_close_itself() {
    let mut bed = Bed::new();
    assert!(committed(&bed.turn(closing(3, 9))).is_some());
    let outcome = bed.turn(closing(3, 9));
    assert!(
        matches!(outcome, TurnOutcome::Skipped(SkipReason::Recorded(_))),
        "{outcome:?}"
    );
    bed.check_counters();
}

#[test]
fn records_expire_by_their_own_age_alone() {
    let day = DEDUP_AGE_MAX.as_millis() as u64;
    let minutes = DERIVED_AGE_MAX.as_millis() as u64;
    let [in_session, outside, derived] = every_kind();
    for (id, limit) in [(in_session, day), (outside, day), (derived, minutes)] {
        for (age, gone) in [(limit - 1, false), (limit, true)] {
            let mut bed = Bed::new();
            bed.pass(50);
            bed.turn(asked(&id, 1, 0, "v"));
            bed.pass(age);
            let key = dedup_key(&actor("a"), &id);
            let expire = Expire {
                dedup_keys: vec![key.clone(), Bytes::from_static(b"none")],
                ..Expire::default()
            };
            assert_eq!(bed.apply(Kind::Expire(expire)), EntryOutcome::Expired);
            assert_eq!(
                bed.get(Family::Dedup, &key).is_none(),
                gone,
                "{id:?} at {age}"
            );
            bed.check_counters();
        }
    }
}

#[test]
fn a_record_goes_with_the_row_that_says_when_it_is_due() {
    let [in_session, outside, derived] = every_kind();
    for (id, limit) in [
        (in_session, None),
        (outside, Some(DEDUP_AGE_MAX)),
        (derived, Some(DERIVED_AGE_MAX)),
    ] {
        let mut bed = Bed::new();
        bed.pass(50);
        bed.turn(asked(&id, 1, 0, "v"));
        let key = dedup_key(&actor("a"), &id);
        let due = limit.map(|limit| due_key(Age(50 + limit.as_millis() as u64), &key));
        let rows = bed
            .rows
            .0
            .keys()
            .filter(|(family, _)| *family == Family::Dedup);
        let rows: Vec<Bytes> = rows.map(|(_, key)| key.clone()).collect();
        let mut expected: Vec<Bytes> = [Some(key.clone()), due].into_iter().flatten().collect();
        expected.sort();
        assert_eq!(rows, expected, "{id:?}");
        bed.pass(DEDUP_AGE_MAX.as_millis() as u64);
        let dedup_keys = vec![key];
        let session_keys = vec![session_key(session())];
        bed.apply(Kind::Expire(Expire {
            dedup_keys,
            session_keys,
            ..Expire::default()
        }));
        assert_eq!(
            (bed.count(Family::Dedup), bed.row.dedup_bytes),
            (0, 0),
            "{id:?}"
        );
        // The id may be used again.
        assert_eq!(committed(&bed.turn(asked(&id, 2, 1, "v"))), Some(2));
        bed.check_counters();
    }
}

#[test]
fn a_record_of_a_session_stays_while_the_session_is_in_use() {
    let mut bed = Bed::new();
    bed.turn(asked(&sequence(1), 1, 0, "v"));
    bed.pass(DEDUP_AGE_MAX.as_millis() as u64);
    bed.turn(asked(&sequence(2), 1, 1, "v"));
    let expire = Expire {
        dedup_keys: vec![dedup_key(&actor("a"), &sequence(1))],
        ..Expire::default()
    };
    bed.apply(Kind::Expire(expire));
    let outcome = bed.turn(asked(&sequence(1), 1, 0, "v"));
    assert!(
        matches!(outcome, TurnOutcome::Skipped(SkipReason::Recorded(_))),
        "{outcome:?}"
    );
}

#[test]
fn ranges_are_closed_above_a_call_that_runs_for_long() {
    let mut bed = Bed::new();
    for number in 2..=29 {
        bed.turn(closing(number, 1));
    }
    // The first still runs; 2 to 14 and 16 to 28 have their answers.
    let ranges = [(2, 15), (16, 29)].map(|(first, end)| ClosedRange { first, end });
    let mut telling = closing(30, 1);
    telling.request.as_mut().unwrap().closed_ranges = ranges.to_vec();
    bed.turn(telling);
    assert_eq!(bed.count(Family::Dedup), 3, "15, 29 and 30");
    bed.check_counters();
    for number in 1..=32 {
        let before = bed.clone();
        let outcome = bed.turn(closing(number, 1));
        let closed = outcome == TurnOutcome::Skipped(SkipReason::SessionClosed);
        let known = matches!(outcome, TurnOutcome::Skipped(SkipReason::Recorded(_)));
        let expected = (
            matches!(number, 2..=14 | 16..=28),
            matches!(number, 15 | 29 | 30),
        );
        assert_eq!((closed, known), expected, "sequence {number}: {outcome:?}");
        bed = before;
    }
    // The long one ends at last: one floor again.
    bed.turn(closing(1, 1));
    bed.pass(SESSION_ROW_AGE_MAX.as_millis() as u64);
    bed.turn(closing(31, 30));
    let row = session_row(&mut bed);
    assert_eq!((row.closed_below, row.closed_ranges), (30, vec![]));
    bed.check_counters();
}

#[test]
fn sessions_expire_when_idle() {
    let day = DEDUP_AGE_MAX.as_millis() as u64;
    for (idle, gone) in [(day - 1, false), (day, true)] {
        let mut bed = Bed::new();
        bed.turn(asked(&sequence(1), 1, 0, "v"));
        bed.pass(day);
        // Its use now begins the idle time anew.
        bed.turn(asked(&sequence(2), 1, 1, "v"));
        bed.pass(idle);
        let key = session_key(session());
        let expire = Expire {
            session_keys: vec![key.clone(), Bytes::from_static(b"none")],
            ..Expire::default()
        };
        bed.apply(Kind::Expire(expire));
        assert_eq!(
            bed.get(Family::Session, &key).is_none(),
            gone,
            "idle {idle}"
        );
    }
}
