//! Tables for each rule of both sides, and two partitions under loss, duplication and new leaders.

pub(crate) mod model;

use bytes::Bytes;
use ghostlight_protocol::command::{Accept, Envelope, Kind, TrimOutbox};
use ghostlight_protocol::family::outbox_key;
use ghostlight_protocol::ids::{NodeId, PartitionId, RecoveryEpoch};
use ghostlight_protocol::limits::{OUTBOX_FRAME_BYTES_MAX, OUTBOX_FRAME_MESSAGES_MAX};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{OutboxMark, OutboxPush};
use prost::Message;

use super::{Outbox, OutboxEffect, OutboxInput, OutboxSettings};

const HERE: PartitionId = PartitionId(3);
const THERE: PartitionId = PartitionId(5);
const PEER: NodeId = NodeId(77);

fn ms(n: u64) -> Instant {
    Instant(n * 1_000_000)
}

fn message(sequence: u64) -> Envelope {
    Envelope {
        method: "note".to_owned(),
        body: sequence.to_be_bytes().to_vec().into(),
        sequence,
        ..Envelope::default()
    }
}

fn messages(from: u64, to: u64) -> Vec<Envelope> {
    (from..=to).map(message).collect()
}

fn row(destination: PartitionId, sequence: u64) -> (Bytes, Bytes) {
    let value = message(sequence).encode_to_vec().into();
    (outbox_key(destination, sequence), value)
}

/// A pump whose outbox was empty at opening.
fn opened() -> Outbox {
    let mut out = Vec::new();
    let mut pump = Outbox::open(
        HERE,
        RecoveryEpoch(1),
        ms(0),
        OutboxSettings::default(),
        &mut out,
    );
    pump.handle(ms(0), OutboxInput::Rows(Vec::new()), &mut out);
    assert!(pump.settled());
    pump
}

fn feed(pump: &mut Outbox, at: Instant, input: OutboxInput) -> Vec<OutboxEffect> {
    let mut out = Vec::new();
    pump.handle(at, input, &mut out);
    out
}

fn commit(pump: &mut Outbox, at: Instant, from: u64, to: u64) -> Vec<OutboxEffect> {
    let rows = (from..=to).map(|n| (THERE, n, message(n))).collect();
    feed(pump, at, OutboxInput::Committed(rows))
}

fn mark(through: Option<u64>) -> OutboxInput {
    OutboxInput::Mark(OutboxMark {
        source: u32::from(HERE.0),
        source_epoch: 1,
        destination: u32::from(THERE.0),
        through,
        hint: None,
    })
}

fn pushed(from: u64, to: u64) -> OutboxEffect {
    OutboxEffect::Push(OutboxPush {
        source: u32::from(HERE.0),
        source_epoch: 1,
        destination: u32::from(THERE.0),
        first: from,
        messages: messages(from, to),
    })
}

fn trim(through: u64) -> OutboxEffect {
    OutboxEffect::Propose(Kind::TrimOutbox(TrimOutbox {
        destination: u32::from(THERE.0),
        through,
    }))
}

fn trimmed(through: u64) -> OutboxInput {
    OutboxInput::Applied(EntryOutcome::OutboxTrimmed {
        destination: THERE,
        through,
    })
}

#[test]
fn one_push_is_under_way_and_the_next_carries_what_came_meanwhile() {
    let mut pump = opened();
    assert_eq!(commit(&mut pump, ms(0), 1, 2), [pushed(1, 2)]);
    assert_eq!(commit(&mut pump, ms(1), 3, 4), []);
    assert_eq!(feed(&mut pump, ms(2), mark(Some(2))), [pushed(3, 4)]);
}

#[test]
fn a_mark_inside_the_run_sends_the_rest_and_an_old_one_sends_nothing() {
    let mut pump = opened();
    commit(&mut pump, ms(0), 1, 9);
    assert_eq!(feed(&mut pump, ms(1), mark(Some(4))), [pushed(5, 9)]);
    for old in [0, 3, 4] {
        assert_eq!(feed(&mut pump, ms(2), mark(Some(old))), [], "mark {old}");
    }
    assert_eq!(feed(&mut pump, ms(3), mark(Some(9))), []);
}

#[test]
fn silence_and_a_new_leader_push_again() {
    let mut pump = opened();
    commit(&mut pump, ms(0), 1, 3);
    assert_eq!(pump.next_deadline(), Some(ms(500)));
    assert_eq!(feed(&mut pump, ms(499), OutboxInput::Tick), []);
    assert_eq!(feed(&mut pump, ms(500), OutboxInput::Tick), [pushed(1, 3)]);
    // The second pause is twice as long, unless somebody else leads.
    assert_eq!(pump.next_deadline(), Some(ms(1_500)));
    let changed = OutboxInput::LeaderChanged(THERE);
    assert_eq!(feed(&mut pump, ms(700), changed), [pushed(1, 3)]);
    assert_eq!(pump.next_deadline(), Some(ms(1_200)));
    // A node that does not lead says so: not at once, but soon.
    assert_eq!(feed(&mut pump, ms(701), mark(None)), []);
    assert_eq!(pump.next_deadline(), Some(ms(801)));
    assert_eq!(feed(&mut pump, ms(801), OutboxInput::Tick), [pushed(1, 3)]);
}

#[test]
fn a_mark_of_another_epoch_or_partition_counts_for_nothing() {
    let mut pump = opened();
    commit(&mut pump, ms(0), 1, 3);
    for (source, epoch, destination) in [(4, 1, 5), (3, 0, 5), (3, 2, 5), (3, 1, 6), (3, 1, 70_000)]
    {
        let mark = OutboxMark {
            source,
            source_epoch: epoch,
            destination,
            through: Some(3),
            hint: None,
        };
        assert_eq!(feed(&mut pump, ms(1), OutboxInput::Mark(mark)), []);
    }
    assert_eq!(feed(&mut pump, ms(500), OutboxInput::Tick), [pushed(1, 3)]);
}

#[test]
fn trims_are_gathered_one_at_a_time_and_repeated_when_refused() {
    let mut pump = opened();
    commit(&mut pump, ms(0), 1, 2);
    assert_eq!(feed(&mut pump, ms(1), mark(Some(2))), []);
    assert_eq!(pump.next_deadline(), Some(ms(51)));
    assert_eq!(feed(&mut pump, ms(51), OutboxInput::Tick), [trim(2)]);
    assert_eq!(feed(&mut pump, ms(51), OutboxInput::Dropped), []);
    assert_eq!(feed(&mut pump, ms(551), OutboxInput::Tick), [trim(2)]);
    // While one is in the log there is no second one.
    commit(&mut pump, ms(552), 3, 3);
    assert_eq!(feed(&mut pump, ms(553), mark(Some(3))), []);
    assert_eq!(pump.next_deadline(), None);
    assert_eq!(feed(&mut pump, ms(600), trimmed(2)), [trim(3)]);
    assert!(!pump.settled());
    assert_eq!(feed(&mut pump, ms(601), trimmed(3)), []);
    assert!(pump.settled());
    // A settled lane begins anew where it ended.
    assert_eq!(commit(&mut pump, ms(602), 4, 4), [pushed(4, 4)]);
}

#[test]
fn many_accepted_rows_are_trimmed_at_once() {
    let mut pump = opened();
    let most = OUTBOX_FRAME_MESSAGES_MAX as u64;
    assert_eq!(commit(&mut pump, ms(0), 1, most), [pushed(1, most)]);
    assert_eq!(feed(&mut pump, ms(1), mark(Some(most))), [trim(most)]);
}

#[test]
fn a_run_is_bounded_in_number_and_bytes_but_never_empty() {
    let large = |n| Envelope {
        body: vec![0; OUTBOX_FRAME_BYTES_MAX].into(),
        ..message(n)
    };
    // (rows, length of the first run)
    let tables = [
        (messages(1, 300), 256),
        (vec![large(1), message(2)], 1),
        (vec![message(1), large(2)], 1),
        (vec![message(1), message(2), large(3)], 2),
    ];
    for (rows, expected) in tables {
        let mut pump = opened();
        let rows = (1..).zip(rows).map(|(n, row)| (THERE, n, row)).collect();
        let out = feed(&mut pump, ms(0), OutboxInput::Committed(rows));
        let [OutboxEffect::Push(push)] = &out[..] else {
            panic!("one push expected, not {out:?}");
        };
        assert_eq!((push.first, push.messages.len()), (1, expected));
    }
}

#[test]
fn opening_skips_what_finds_no_room_and_reads_it_when_there_is() {
    let settings = OutboxSettings {
        lane_rows: 2,
        page_rows: 3,
        ..OutboxSettings::default()
    };
    let read = |after| OutboxEffect::ReadOutbox { after, limit: 3 };
    let mut out = Vec::new();
    let mut pump = Outbox::open(HERE, RecoveryEpoch(1), ms(0), settings, &mut out);
    assert_eq!(out, [read(None)]);
    // Committed during the scan, for a destination it has not met: the scan may or may not see it.
    let six = PartitionId(6);
    let late = OutboxInput::Committed(vec![(six, 10, message(10))]);
    assert_eq!(feed(&mut pump, ms(0), late), []);
    let page = OutboxInput::Rows((4..=6).map(|n| row(THERE, n)).collect());
    let skip = outbox_key(THERE, u64::MAX);
    assert_eq!(
        feed(&mut pump, ms(0), page),
        [read(Some(skip)), pushed(4, 5)]
    );
    let page = OutboxInput::Rows(vec![row(six, 9)]);
    let out = feed(&mut pump, ms(0), page);
    assert_eq!(out[0], read(Some(outbox_key(six, 9))));
    assert!(matches!(&out[1], OutboxEffect::Push(push) if push.first == 9));
    // The end of the scan: what the scan missed is read again.
    let out = feed(&mut pump, ms(0), OutboxInput::Rows(Vec::new()));
    assert_eq!(out, [read(Some(outbox_key(six, 9)))]);
    feed(&mut pump, ms(0), OutboxInput::Rows(vec![row(six, 10)]));
    // Room in the first lane: its rows are read on, and pushed.
    let out = feed(&mut pump, ms(1), mark(Some(5)));
    assert_eq!(out, [read(Some(outbox_key(THERE, 5)))]);
    let page = OutboxInput::Rows(vec![row(THERE, 6), row(six, 9)]);
    assert_eq!(feed(&mut pump, ms(1), page), [pushed(6, 6)]);
}

#[test]
fn what_is_committed_during_the_scan_is_pushed_after_it_without_a_gap() {
    let mut out = Vec::new();
    let settings = OutboxSettings::default();
    let mut pump = Outbox::open(HERE, RecoveryEpoch(1), ms(0), settings, &mut out);
    assert_eq!(commit(&mut pump, ms(0), 7, 7), []);
    assert_eq!(commit(&mut pump, ms(1), 8, 9), []);
    let read = OutboxEffect::ReadOutbox {
        after: Some(outbox_key(THERE, 6)),
        limit: settings.page_rows,
    };
    let out = feed(&mut pump, ms(2), OutboxInput::Rows(Vec::new()));
    assert_eq!(out, std::slice::from_ref(&read));
    assert!(!pump.settled());
    // A page without the rows is not believed for ever.
    assert_eq!(feed(&mut pump, ms(3), OutboxInput::Rows(Vec::new())), []);
    assert_eq!(feed(&mut pump, ms(503), OutboxInput::Tick), [read]);
    let page = OutboxInput::Rows((7..=9).map(|n| row(THERE, n)).collect());
    assert_eq!(feed(&mut pump, ms(504), page), [pushed(7, 9)]);
}

fn incoming(first: u64, to: u64, from: NodeId, epoch: u64) -> OutboxInput {
    OutboxInput::Push {
        from,
        push: OutboxPush {
            source: u32::from(THERE.0),
            source_epoch: epoch,
            destination: u32::from(HERE.0),
            first,
            messages: messages(first, to),
        },
    }
}

fn accept(first: u64, to: u64, epoch: u64) -> OutboxEffect {
    OutboxEffect::Propose(Kind::Accept(Accept {
        source: u32::from(THERE.0),
        source_epoch: epoch,
        first,
        messages: messages(first, to),
    }))
}

fn accepted(through: u64, new: &[(u64, Envelope)]) -> OutboxInput {
    OutboxInput::Applied(EntryOutcome::Accepted {
        source: THERE,
        through,
        messages: new.to_vec(),
        appended: Vec::new(),
    })
}

fn told(to: NodeId, through: u64, epoch: u64) -> OutboxEffect {
    OutboxEffect::Mark {
        to,
        mark: OutboxMark {
            source: u32::from(THERE.0),
            source_epoch: epoch,
            destination: u32::from(HERE.0),
            through: Some(through),
            hint: None,
        },
    }
}

#[test]
fn the_first_accept_teaches_the_mark_and_later_pushes_are_judged_by_it() {
    let mut pump = opened();
    assert_eq!(
        feed(&mut pump, ms(0), incoming(3, 5, PEER, 1)),
        [accept(3, 5, 1)]
    );
    let new = [(40, message(5))];
    assert_eq!(
        feed(&mut pump, ms(1), accepted(5, &new)),
        [told(PEER, 5, 1), OutboxEffect::Deliver(new.to_vec())]
    );
    // (push, effect): known, gap, partly known, all new
    let table = [
        (incoming(3, 5, PEER, 1), told(PEER, 5, 1)),
        (incoming(7, 8, PEER, 1), told(PEER, 5, 1)),
        (incoming(4, 7, PEER, 1), accept(6, 7, 1)),
    ];
    for (push, effect) in table {
        assert_eq!(feed(&mut pump, ms(2), push), [effect]);
    }
}

#[test]
fn a_push_behind_an_accept_waits_and_a_later_one_replaces_it() {
    let mut pump = opened();
    feed(&mut pump, ms(0), incoming(1, 2, PEER, 1));
    assert_eq!(feed(&mut pump, ms(0), incoming(1, 2, PEER, 1)), []);
    let other = NodeId(78);
    assert_eq!(feed(&mut pump, ms(0), incoming(1, 3, other, 1)), []);
    let new = [(1, message(1)), (2, message(2))];
    assert_eq!(
        feed(&mut pump, ms(1), accepted(2, &new)),
        [
            told(PEER, 2, 1),
            OutboxEffect::Deliver(new.to_vec()),
            accept(3, 3, 1)
        ]
    );
}

#[test]
fn a_dropped_accept_leaves_room_for_the_next_push() {
    let mut pump = opened();
    feed(&mut pump, ms(0), incoming(1, 2, PEER, 1));
    assert_eq!(feed(&mut pump, ms(0), OutboxInput::Dropped), []);
    assert!(pump.settled());
    assert_eq!(
        feed(&mut pump, ms(500), incoming(1, 2, PEER, 1)),
        [accept(1, 2, 1)]
    );
}

#[test]
fn a_recovered_source_begins_a_new_mark_and_its_past_is_fenced() {
    let mut pump = opened();
    feed(&mut pump, ms(0), incoming(1, 2, PEER, 1));
    assert_eq!(feed(&mut pump, ms(0), incoming(1, 1, PEER, 2)), []);
    assert_eq!(
        feed(&mut pump, ms(1), accepted(2, &[])),
        [told(PEER, 2, 1), accept(1, 1, 2)]
    );
    assert_eq!(feed(&mut pump, ms(2), incoming(3, 3, PEER, 1)), []);
    assert_eq!(feed(&mut pump, ms(3), accepted(1, &[])), [told(PEER, 1, 2)]);
}

#[test]
fn pushes_that_are_not_for_this_partition_are_ignored() {
    let mut pump = opened();
    for (source, destination, first) in [(5, 4, 1), (5, 70_000, 1), (70_000, 3, 1), (5, 3, 0)] {
        let push = OutboxPush {
            source,
            source_epoch: 1,
            destination,
            first,
            messages: messages(1, 2),
        };
        let input = OutboxInput::Push { from: PEER, push };
        assert_eq!(feed(&mut pump, ms(0), input), []);
    }
}

#[test]
fn one_proposal_leaves_with_each_input() {
    let mut pump = opened();
    commit(&mut pump, ms(0), 1, 1);
    feed(&mut pump, ms(1), mark(Some(1)));
    // Both are due now: the accept first, the trim with the tick that is asked for at once.
    let out = feed(&mut pump, ms(51), incoming(1, 1, PEER, 1));
    assert_eq!(out, [accept(1, 1, 1)]);
    assert_eq!(pump.next_deadline(), Some(ms(51)));
    assert_eq!(feed(&mut pump, ms(51), OutboxInput::Dropped), [trim(1)]);
    assert_eq!(feed(&mut pump, ms(52), trimmed(1)), []);
    assert!(pump.settled());
}
