//! What grows old: events, and parked letters.

use super::*;

/// Events that were stamped while no clock was believed, or before it was set right.
#[test]
fn a_clock_that_is_set_makes_no_event_old() {
    let mut bed = Bed::new();
    bed.publish(0, &["a"]);
    bed.publish(1_000, &["b"]);
    let trim = TopicAct::Trim(Trim {
        last: vec![0, 1],
        next_last: None,
        delete: 0,
    });
    let row = bed.apply_trim(op(trim));
    assert_eq!((row.first, row.next), (0, 2));
}

/// An event that becomes a letter, is sought back to, and becomes one again.
#[test]
fn a_letter_that_dies_again_after_a_seek_is_one_letter() {
    let mut bed = Bed::new();
    bed.publish(5, &["a"]);
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    let once = Settle {
        dead: vec![dead(0, None)],
        ..settle(epoch)
    };
    bed.act(TopicAct::Settle(once));
    let seek = Seek {
        group: "g".to_owned(),
        offset: Some(0),
        ..Seek::default()
    };
    let epoch = group(bed.act(TopicAct::Seek(seek))).epoch;
    let again = Settle {
        dead: vec![dead(0, None)],
        ..settle(epoch)
    };
    // An hour later.
    bed.until(3_600_000);
    let outcome = bed.act(TopicAct::Settle(again));
    let row = group(outcome);
    assert_eq!(bed.count(Family::TopicLetter), 1);
    let dues = bed
        .rows
        .0
        .keys()
        .filter(|(f, k)| *f == Family::Due && k[0] == DueKind::Letter as u8)
        .count();
    assert_eq!((row.letters, dues), (1, 1), "one letter, one due row");
}

/// What is left of it when its time is over.
#[test]
fn the_sweep_ends_with_stale_due_rows() {
    let mut bed = Bed::new();
    bed.publish(5, &["a"]);
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    let die = |epoch| {
        TopicAct::Settle(Settle {
            dead: vec![dead(0, None)],
            ..settle(epoch)
        })
    };
    bed.act(die(epoch));
    let seek = Seek {
        group: "g".to_owned(),
        offset: Some(0),
        ..Seek::default()
    };
    let epoch = group(bed.act(TopicAct::Seek(seek))).epoch;
    bed.until(3_600_000);
    bed.act(die(epoch));
    let over = || {
        TopicAct::LettersOver(GroupLetters {
            group: "g".to_owned(),
            offsets: vec![0],
        })
    };
    // Both letters' weeks are over: everything must be gone.
    bed.until(3_600_000 + 2 * WEEK_MS);
    for _ in 0..3 {
        bed.act(over());
    }
    assert_eq!(bed.count(Family::TopicLetter), 0);
    let row = bed.group_row("g").unwrap();
    assert_eq!(
        (row.letters, bed.count(Family::Due)),
        (0, 1),
        "the retention row alone"
    );
}
