//! Turns: the term fence, the version fence, state, messages, and determinism.

use bytes::Bytes;

use super::bed::{Bed, HERE, TERM, actor, committed, request, sequence, write_turn};
use crate::command::{Facts, Kind, Send, StateWrite, TurnCommit, TurnKind, Turns};
use crate::family::{Family, outbox_key, state_key};
use crate::ids::{ActorVersion, LogIndex, LogPosition, PartitionId, Term};
use crate::outcome::TurnAnswer;
use crate::replica::apply::{EntryOutcome, SkipReason, TurnOutcome, apply_command};

fn turns(turns: Vec<TurnCommit>) -> Kind {
    Kind::Turns(Turns { turns })
}

#[test]
fn the_term_fence() {
    let a = actor("a");
    let kind = || turns(vec![write_turn(&a, 0, "k", "v")]);
    for (entry_term, leader_term, counts) in
        [(6, 6, true), (7, 6, false), (6, 7, false), (7, 0, false)]
    {
        let mut bed = Bed::new();
        let outcome = bed.apply_at(entry_term, leader_term, 9, Some(kind()));
        let expected = if counts { 1 } else { 0 };
        assert_eq!(
            bed.count(Family::State),
            expected,
            "{entry_term} {leader_term}"
        );
        assert_eq!(
            outcome == EntryOutcome::Nothing,
            !counts,
            "{entry_term} {leader_term}"
        );
        // The position moves in any case; log time only with an entry that counts.
        assert_eq!(
            (bed.row.applied_index, bed.row.applied_term),
            (6, entry_term)
        );
        assert_eq!(bed.row.age_ms, if counts { 9 } else { 0 });
    }
}

#[test]
fn empty_and_undecodable_entries_move_only_the_position() {
    for data in [&b""[..], b"\xff\xff\xff", b"\x08"] {
        let mut bed = Bed::new();
        let chain = bed.row.chain();
        assert_eq!(
            bed.apply_bytes(TERM, data),
            EntryOutcome::Nothing,
            "{data:?}"
        );
        assert_eq!(bed.row.applied_index, 6);
        assert_eq!((bed.rows.0.len(), bed.row.chain()), (0, chain));
    }
}

#[test]
fn log_time_only_grows() {
    let mut bed = Bed::new();
    for (wall, expected) in [(100, 100), (0, 100), (50, 100), (200, 200)] {
        let command = crate::command::Command {
            leader_term: TERM,
            age_step_ms: 7,
            wall_ms: wall,
            kind: None,
        };
        bed.apply_bytes(TERM, &prost::Message::encode_to_vec(&command));
        assert_eq!(bed.row.wall_ms, expected);
    }
    assert_eq!(bed.row.age_ms, 28);
}

#[test]
fn entries_in_the_wrong_order_are_a_bug() {
    for (term, index) in [(6, 5), (6, 7), (4, 6)] {
        let mut bed = Bed::new();
        let at = LogPosition {
            term: Term(term),
            index: LogIndex(index),
        };
        let result = std::panic::catch_unwind(move || {
            apply_command(HERE, &mut bed.rows, &mut bed.row, at, b"").map(|_| ())
        });
        assert!(result.is_err(), "t{term} i{index}");
    }
}

#[test]
fn the_version_fence() {
    let a = actor("a");
    let mut bed = Bed::new();
    let rows = [
        (0, Some(1)),
        (0, None),
        (2, None),
        (1, Some(2)),
        (u64::MAX, None),
        (2, Some(3)),
    ];
    let mut stored = 0;
    for (base, expected) in rows {
        let before = bed.clone();
        let outcome = bed.turn(write_turn(&a, base, "k", &format!("on {base}")));
        assert_eq!(committed(&outcome), expected, "on {base}");
        match expected {
            Some(version) => stored = version,
            None => {
                let stored = ActorVersion(stored);
                assert_eq!(
                    outcome,
                    TurnOutcome::Skipped(SkipReason::Version { stored })
                );
                assert_eq!(bed.rows, before.rows, "a skipped turn leaves no trace");
                assert_eq!(bed.row.chain(), before.row.chain());
            }
        }
    }
    // Each actor has its own version.
    assert_eq!(
        committed(&bed.turn(write_turn(&actor("b"), 0, "k", "v"))),
        Some(1)
    );
}

#[test]
fn turns_of_one_entry_see_each_other() {
    let a = actor("a");
    let mut bed = Bed::new();
    let EntryOutcome::Turns(outcomes) = bed.apply(turns(vec![
        write_turn(&a, 0, "k", "1"),
        write_turn(&a, 1, "k", "2"),
        write_turn(&a, 1, "k", "stale"),
        write_turn(&a, 2, "other", "3"),
    ])) else {
        panic!("turns");
    };
    let versions: Vec<_> = outcomes.iter().map(committed).collect();
    assert_eq!(versions, [Some(1), Some(2), None, Some(3)]);
    assert_eq!(
        bed.get(Family::State, &state_key(&a, b"k")).unwrap(),
        b"2"[..]
    );
}

#[test]
fn state_rows_are_put_and_deleted() {
    let a = actor("a");
    let mut bed = Bed::new();
    bed.turn(write_turn(&a, 0, "k", "v"));
    let mut delete = write_turn(&a, 1, "k", "v");
    delete.state[0].value = None;
    delete.state.push(StateWrite {
        key: Bytes::from_static(b"empty"),
        value: Some(Bytes::new()),
        ..StateWrite::default()
    });
    bed.turn(delete);
    assert_eq!(bed.get(Family::State, &state_key(&a, b"k")), None);
    assert_eq!(
        bed.get(Family::State, &state_key(&a, b"empty")),
        Some(Bytes::new())
    );
}

#[test]
fn record_only_turns_change_nothing_but_the_record() {
    let a = actor("a");
    let mut bed = Bed::new();
    bed.turn(write_turn(&a, 0, "k", "v"));
    // Not fenced by the version, and what it carries beside the answer is not its to write.
    let mut turn = write_turn(&a, 77, "k", "other");
    turn.kind = TurnKind::RecordOnly as i32;
    turn.request = request(&sequence(1), 1);
    assert_eq!(committed(&bed.turn(turn)), Some(1), "the version stays");
    assert_eq!(
        bed.get(Family::State, &state_key(&a, b"k")).unwrap(),
        b"v"[..]
    );
    assert_eq!(bed.count(Family::Dedup), 1);
    bed.check_counters();
}

#[test]
fn a_malformed_actor_or_request_counts_for_nobody() {
    let a = actor("a");
    let mut wrong_actor = write_turn(&a, 0, "k", "v");
    wrong_actor.actor = Bytes::from_static(b"\0");
    let mut wrong_request = write_turn(&a, 0, "k", "v");
    wrong_request.request = request(&sequence(1), 1);
    wrong_request.request.as_mut().unwrap().id = Bytes::from_static(b"\x09");
    for turn in [wrong_actor, wrong_request] {
        let mut bed = Bed::new();
        assert_eq!(committed(&bed.turn(turn)), None);
        assert!(bed.rows.0.is_empty());
    }
}

#[test]
fn messages_are_numbered_for_each_destination() {
    let a = actor("a");
    let mut bed = Bed::new();
    let send = |destination, body: &str| Send {
        destination,
        actor: actor("b").to_bytes(),
        method: "hear".to_owned(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    let mut numbers = Vec::new();
    for (base, destinations) in [(0, vec![3, 3, 4]), (1, vec![4, 3]), (9, vec![3])] {
        let mut turn = write_turn(&a, base, "k", "v");
        turn.sends = destinations.into_iter().map(|d| send(d, "x")).collect();
        if let TurnOutcome::Committed { outbox, .. } = bed.turn(turn) {
            for (destination, sequence, envelope) in outbox {
                assert_eq!(
                    (envelope.source, envelope.sequence),
                    (u32::from(HERE.0), sequence)
                );
                assert_eq!((envelope.sender, envelope.attempts), (a.to_bytes(), 0));
                assert!(
                    bed.get(Family::Outbox, &outbox_key(destination, sequence))
                        .is_some()
                );
                numbers.push((destination, sequence));
            }
        }
    }
    let p = PartitionId;
    assert_eq!(
        numbers,
        [(p(3), 1), (p(3), 2), (p(4), 1), (p(4), 2), (p(3), 3)]
    );
    bed.check_counters();
}

#[test]
fn facts_are_written_in_order() {
    let mut bed = Bed::new();
    let write = |key: &'static str, value: Option<&'static str>| StateWrite {
        key: Bytes::from_static(key.as_bytes()),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
        ..StateWrite::default()
    };
    let writes = vec![
        write("a", Some("1")),
        write("b", Some("1")),
        write("a", Some("2")),
        write("b", None),
    ];
    assert_eq!(
        bed.apply(Kind::Facts(Facts { writes })),
        EntryOutcome::FactsWritten
    );
    assert_eq!(bed.get(Family::Fact, b"a").unwrap(), b"2"[..]);
    assert_eq!(bed.get(Family::Fact, b"b"), None);
}

#[test]
fn the_chain_tells_every_difference_and_nothing_else() {
    let a = actor("a");
    let run = |value: &str, base: u64| {
        let mut bed = Bed::new();
        let mut turn = write_turn(&a, base, "k", value);
        turn.answer = Some(TurnAnswer::default());
        bed.turn(turn);
        bed.row.chain()
    };
    assert_eq!(
        run("v", 0),
        run("v", 0),
        "the same entries give the same chain"
    );
    assert_ne!(run("v", 0), run("w", 0), "another value is another chain");
    assert_ne!(run("v", 0), run("v", 1), "a skipped turn is another chain");
}
