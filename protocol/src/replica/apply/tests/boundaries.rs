//! Between partitions: accept, run once, trim, fail, dead letter.

use bytes::Bytes;
use prost::Message;

use super::bed::{Bed, actor, committed, write_turn};
use crate::command::{
    Accept, DeadLetter, DeadLetterReason, Envelope, Expire, InboxFailed, Kind, Send, TrimOutbox,
    TurnKind,
};
use crate::family::{Family, inbox_key, outbox_key};
use crate::ids::PartitionId;
use crate::limits::DEAD_LETTER_AGE_MAX;
use crate::partition_row::Kept;
use crate::replica::apply::{EntryOutcome, SkipReason, TurnOutcome};

const SOURCE: u32 = 3;

fn message(sequence: u64) -> Envelope {
    Envelope {
        actor: actor("a").to_bytes(),
        method: "hear".to_owned(),
        body: Bytes::from(sequence.to_string()),
        source: SOURCE,
        sequence,
        // A source that claims failed attempts is not believed.
        attempts: 9,
        ..Envelope::default()
    }
}

/// Accepts `first .. first + count`; gives the mark and the sequences that were new.
fn accept(bed: &mut Bed, source_epoch: u64, first: u64, count: u64) -> (u64, Vec<u64>) {
    let messages = (first..first + count).map(message).collect();
    let accept = Accept {
        source: SOURCE,
        source_epoch,
        first,
        messages,
    };
    match bed.apply(Kind::Accept(accept)) {
        EntryOutcome::Accepted {
            source,
            through,
            messages,
            appended,
        } => {
            assert_eq!(appended, [], "no message is for a topic");
            assert_eq!(source, PartitionId(SOURCE as u16));
            for (inbox_sequence, envelope) in &messages {
                let row = bed.get(Family::Inbox, &inbox_key(*inbox_sequence)).unwrap();
                assert_eq!(Envelope::decode(row).as_ref(), Ok(envelope));
                assert_eq!(envelope.attempts, 0);
            }
            (
                through,
                messages.into_iter().map(|(_, m)| m.sequence).collect(),
            )
        }
        other => panic!("accept gave {other:?}"),
    }
}

#[test]
fn accept_takes_exactly_what_follows_the_mark() {
    let mut bed = Bed::new();
    let rows: [(u64, u64, u64, u64, &[u64]); 9] = [
        (0, 2, 3, 0, &[]),
        (0, 1, 2, 2, &[1, 2]),
        (0, 1, 2, 2, &[]),
        (0, 2, 3, 4, &[3, 4]),
        (0, 6, 1, 4, &[]),
        (0, 5, 0, 4, &[]),
        (0, 5, 1, 5, &[5]),
        // Another recovery epoch of the source numbers anew.
        (1, 1, 1, 1, &[1]),
        (0, 6, 1, 6, &[6]),
    ];
    for (line, (epoch, first, count, through, new)) in rows.into_iter().enumerate() {
        let found = accept(&mut bed, epoch, first, count);
        assert_eq!(found, (through, new.to_vec()), "line {line}");
        bed.check_counters();
    }
    assert_eq!((bed.row.inbox_next, bed.row.inbox_rows), (8, 7));
}

#[test]
fn an_accepted_message_runs_once() {
    for kind in [TurnKind::Write, TurnKind::RecordOnly] {
        let mut bed = Bed::new();
        accept(&mut bed, 0, 1, 2);
        let run = |bed: &mut Bed, base, inbox_sequence| {
            let mut turn = write_turn(&actor("a"), base, "k", "v");
            turn.kind = kind as i32;
            turn.inbox_sequence = inbox_sequence;
            bed.turn(turn)
        };
        if kind == TurnKind::Write {
            let outcome = run(&mut bed, 5, 1);
            assert!(matches!(
                outcome,
                TurnOutcome::Skipped(SkipReason::Version { .. })
            ));
            assert_eq!(bed.row.inbox_rows, 2, "a skipped turn leaves the message");
        }
        assert!(committed(&run(&mut bed, 0, 1)).is_some());
        let again = run(&mut bed, 1, 1);
        assert_eq!(again, TurnOutcome::Skipped(SkipReason::MessageGone));
        assert_eq!(bed.row.inbox_rows, 1);
        bed.check_counters();
        // Accepted before, and gone: its mark remembers it.
        assert_eq!(accept(&mut bed, 0, 1, 2), (2, vec![]));
    }
}

fn filled_outbox(messages: u64) -> Bed {
    let mut bed = Bed::new();
    let mut turn = write_turn(&actor("a"), 0, "k", "v");
    let send = Send {
        destination: 4,
        actor: actor("b").to_bytes(),
        ..Send::default()
    };
    turn.sends = vec![send; messages as usize];
    assert!(committed(&bed.turn(turn)).is_some());
    bed
}

fn trim(bed: &mut Bed, destination: u32, through: u64) -> u64 {
    let trim = TrimOutbox {
        destination,
        through,
    };
    match bed.apply(Kind::TrimOutbox(trim)) {
        EntryOutcome::OutboxTrimmed { through, .. } => through,
        other => panic!("trim gave {other:?}"),
    }
}

#[test]
fn trim_deletes_what_was_accepted_and_no_more() {
    let mut bed = filled_outbox(5);
    for (destination, through, expected, left) in [
        (4, 0, 0, 5),
        (4, 2, 2, 3),
        (4, 1, 2, 3),
        (9, 3, 0, 3),
        (4, u64::MAX, 5, 0),
        (4, 5, 5, 0),
    ] {
        assert_eq!(
            trim(&mut bed, destination, through),
            expected,
            "through {through}"
        );
        assert_eq!(bed.row.outbox_rows, left, "through {through}");
        bed.check_counters();
    }
    // Numbers go on after the trim.
    let mut turn = write_turn(&actor("a"), 1, "k", "v");
    turn.sends = vec![Send {
        destination: 4,
        ..Send::default()
    }];
    bed.turn(turn);
    assert!(
        bed.get(Family::Outbox, &outbox_key(PartitionId(4), 6))
            .is_some()
    );
}

#[test]
fn a_large_trim_is_bounded() {
    let mut bed = filled_outbox(5_000);
    assert_eq!(trim(&mut bed, 4, 5_000), 4_096);
    assert_eq!(bed.row.outbox_rows, 904);
    assert_eq!(trim(&mut bed, 4, 5_000), 5_000);
    bed.check_counters();
}

fn fail(bed: &mut Bed, inbox_sequence: u64, reason: Option<&str>) -> Option<u32> {
    let failed = InboxFailed {
        inbox_sequence,
        dead_letter: reason.map(|error| DeadLetterReason {
            error: error.to_owned(),
        }),
    };
    match bed.apply(Kind::InboxFailed(failed)) {
        EntryOutcome::InboxFailed { envelope, .. } => envelope.map(|envelope| envelope.attempts),
        other => panic!("a failure gave {other:?}"),
    }
}

#[test]
fn failures_are_counted_until_the_message_is_given_up() {
    let mut bed = Bed::new();
    accept(&mut bed, 0, 1, 2);
    assert_eq!(fail(&mut bed, 1, None), Some(1));
    assert_eq!(fail(&mut bed, 1, None), Some(2));
    assert_eq!(bed.row.inbox_rows, 2);
    bed.pass(5);
    assert_eq!(fail(&mut bed, 1, Some("Short")), None);
    let row = bed.get(Family::DeadLetter, &inbox_key(1)).unwrap();
    let letter = DeadLetter::decode(row).unwrap();
    let envelope = letter.envelope.unwrap();
    assert_eq!((envelope.sequence, envelope.attempts), (1, 3));
    assert_eq!((letter.error.as_str(), letter.age_ms), ("Short", 5));
    bed.check_counters();
    let before = bed.clone();
    for reason in [None, Some("again")] {
        assert_eq!(fail(&mut bed, 1, reason), None, "it is gone");
        assert_eq!(fail(&mut bed, 99, reason), None, "it never was");
    }
    assert_eq!(bed.rows, before.rows);
    bed.check_counters();
}

#[test]
fn dead_letters_go_by_age_and_each_is_looked_at_again() {
    let mut bed = Bed::new();
    accept(&mut bed, 0, 1, 2);
    fail(&mut bed, 1, Some("Early"));
    let week = DEAD_LETTER_AGE_MAX.as_millis() as u64;
    bed.pass(week - 1);
    fail(&mut bed, 2, Some("Late"));
    assert_eq!(bed.row.dead_letters().rows, 2);
    // (log time that passes, letters left)
    for (passes, left) in [(0, 2), (1, 1), (week - 2, 1), (1, 0), (0, 0)] {
        bed.pass(passes);
        let expire = Expire {
            dead_letter_keys: vec![inbox_key(1), inbox_key(2)],
            ..Expire::default()
        };
        assert_eq!(bed.apply(Kind::Expire(expire)), EntryOutcome::Expired);
        assert_eq!(bed.row.dead_letters().rows, left, "after {passes} ms more");
        bed.check_counters();
    }
    assert_eq!(bed.row.dead_letters(), Kept::default());
}

#[test]
fn a_trim_counts_what_it_deletes() {
    let mut bed = Bed::new();
    let mut turn = write_turn(&actor("a"), 0, "k", "v");
    turn.sends = (1..=3)
        .map(|n| Send {
            destination: 2,
            actor: actor("b").to_bytes(),
            method: "hear".to_owned(),
            body: vec![0; n * 100].into(),
        })
        .collect();
    assert!(committed(&bed.turn(turn)).is_some());
    bed.check_counters();
    for through in [1, 1, 3] {
        let trim = TrimOutbox {
            destination: 2,
            through,
        };
        bed.apply(Kind::TrimOutbox(trim));
        bed.check_counters();
    }
    assert_eq!(bed.row.outbox(), Kept::default());
}
