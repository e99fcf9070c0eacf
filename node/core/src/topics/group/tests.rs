//! Rules of a group that no caller sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::command::Send;
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::limits::{BATCH_BYTES_MAX, GROUP_WINDOW};
use ghostlight_protocol::replica::GroupChanged;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::topic::{
    Attempts, Forward, GroupRow, GroupSettings, Order, Purpose, TopicBatch, TopicEvent, TopicName,
    TopicRow,
};
use ghostlight_protocol::wire::topic::{Attach, FailedDelivery, Verdicts as Said};
use prost::Message;

use super::settle::{Along, Home};
use super::{Group, Hunger, Room, Sent, SubscriberId, Word};

const NOW: Instant = Instant(1_000_000_000);
const S: SubscriberId = SubscriberId {
    node: NodeId(1),
    number: 1 << 32 | 1,
};

fn batch(
    base: u64,
    count: u64,
    key: &'static str,
    bytes: usize,
    expires_ms: u64,
) -> Arc<TopicBatch> {
    let event = TopicEvent {
        key: Some(Bytes::from_static(key.as_bytes())),
        data: vec![7; bytes].into(),
        source: "s".to_owned(),
        expires_ms,
        ..TopicEvent::default()
    };
    Arc::new(TopicBatch {
        base,
        appended_ms: 1,
        appended_age_ms: Some(0),
        events: vec![event; count as usize],
    })
}

fn row(floor: u64, settings: GroupSettings) -> GroupRow {
    GroupRow {
        floor,
        epoch: 9,
        settings: Some(settings),
        ..GroupRow::default()
    }
}

fn group(row: GroupRow, topic: &TopicRow) -> Group {
    let mut group = Group::new(NOW, row, topic, Duration::ZERO);
    let home = Home {
        node: NodeId(1),
        topic: TopicName::new("default", "p", "t").unwrap().partition(0),
        partitions: 4,
    };
    group.set_home(home, "g");
    let attach = Attach {
        group: "g".to_owned(),
        credit_events: 64,
        credit_bytes: 1 << 20,
        ..Attach::default()
    };
    group.attach(NOW, S, &attach);
    group
}

fn done(first: u64, end: u64) -> Said {
    Said {
        epoch: 9,
        done: vec![ClosedRange { first, end }],
        failed: Vec::new(),
        ..Said::default()
    }
}

/// A group whose cursor is more than a window behind what retention has left.
#[test]
fn a_group_that_retention_has_overtaken_goes_on() {
    let topic = TopicRow {
        first: 20_000,
        next: 20_010,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let group = group(row(0, GroupSettings::default()), &topic);
    assert_eq!(group.hunger(), Hunger::From(20_000));
}

/// Retention takes what is out at a subscriber; then the subscriber acknowledges it.
#[test]
fn an_ack_of_what_retention_took_frees_its_lane() {
    let topic = TopicRow {
        next: 3,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let settings = GroupSettings {
        order: Order::Key as i32,
        ..GroupSettings::default()
    };
    let mut group = group(row(0, settings.clone()), &topic);
    // Offsets 0 and 1 have one key, 2 another.
    group.read([batch(0, 2, "x", 8, 0), batch(2, 1, "y", 8, 0)]);
    let sent = group.drive(NOW, None, Room::Some);
    let out: Vec<u64> = sent
        .iter()
        .flat_map(|s| s.deliver.events.iter().map(|e| e.offset))
        .collect();
    assert_eq!(out, [0, 2], "1 waits for 0");
    // 2 is acknowledged; meanwhile retention takes the first batch's front, 0 and 1... and the
    // entry says so.
    group.verdicts(NOW, S, &done(2, 3));
    let settle = group
        .propose(NOW + Duration::from_secs(1), Along::WithAppend)
        .unwrap();
    assert_eq!(settle.done.len(), 1);
    let topic = TopicRow { first: 1, ..topic };
    group.trimmed(1);
    let mut after = row(1, settings);
    after.settled = vec![ClosedRange { first: 2, end: 3 }];
    let changed = GroupChanged {
        group: "g".to_owned(),
        row: Some(after),
        topic,
        taken: 0,
        outbox: Vec::new(),
        appended: Vec::new(),
    };
    group.settled(NOW, Some(&changed));
    // Now 0 is acknowledged.
    group.verdicts(NOW, S, &done(0, 1));
    let sent = group.drive(NOW, None, Room::Some);
    let out: Vec<u64> = sent
        .iter()
        .flat_map(|s| s.deliver.events.iter().map(|e| e.offset))
        .collect();
    assert_eq!(
        (out, group.in_flight()),
        (vec![1], 1),
        "the next of the key goes"
    );
}

/// A seek back while a page of the log is being read.
#[test]
fn a_page_read_before_a_seek_skips_nothing() {
    let topic = TopicRow {
        next: 6_000,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let mut group = group(row(5_000, GroupSettings::default()), &topic);
    assert_eq!(group.hunger(), Hunger::From(5_000));
    // The read is under way; the seek is applied.
    let mut sought = row(0, GroupSettings::default());
    sought.epoch = 10;
    group.changed(sought, &topic);
    assert_eq!(group.hunger(), Hunger::From(0));
    // The page comes.
    group.read([batch(5_000, 1_000, "x", 8, 0)]);
    assert_eq!(
        group.hunger(),
        Hunger::From(0),
        "0..5000 are still to be delivered"
    );
}

/// Expired events for a dead-letter topic: how much of them is held.
#[test]
fn letters_on_their_way_are_bounded_in_bytes() {
    let topic = TopicRow {
        next: 9_000,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let settings = GroupSettings {
        dead_letter_topic: "dead".to_owned(),
        ..GroupSettings::default()
    };
    let mut group = group(row(0, settings), &topic);
    let wall = Some(WallTime(1_000));
    let mut entry = 0;
    for page in 0..90 {
        group.read([batch(page * 100, 100, "x", 16 << 10, 10)]);
        group.drive(NOW, wall, Room::Some);
        // One entry is in the log all the while.
        if let Some(settle) = group.propose(NOW + Duration::from_secs(1), Along::No) {
            assert_eq!(entry, 0);
            entry = settle.encoded_len();
        }
        if group.hunger() == Hunger::Nothing && page < 89 {
            return; // Bounded.
        }
    }
    panic!("nothing stops it: 9000 events of 16 KiB are held, {entry} bytes of them in the log");
}

fn offsets(sent: &[Sent]) -> Vec<u64> {
    let events = sent.iter().flat_map(|sent| &sent.deliver.events);
    events.map(|event| event.offset).collect()
}

/// Nothing can be written down: what is acknowledged meanwhile is bounded, and comes again at most
/// a window.
#[test]
fn a_group_whose_verdicts_are_not_written_stops_at_its_window() {
    let topic = TopicRow {
        next: 50_000,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let settings = GroupSettings {
        order: Order::None as i32,
        ..GroupSettings::default()
    };
    let mut group = group(row(0, settings), &topic);
    let mut acknowledged = 0;
    let mut deliver = |group: &mut Group| {
        loop {
            let sent = offsets(&group.drive(NOW, None, Room::Some));
            for offset in &sent {
                group.verdicts(NOW, S, &done(*offset, offset + 1));
                acknowledged = offset + 1;
            }
            match group.hunger() {
                Hunger::From(offset) => group.read([batch(offset, 64, "x", 8, 0)]),
                Hunger::Nothing if sent.is_empty() => return acknowledged,
                Hunger::Nothing => {}
            }
        }
    };
    let stopped = deliver(&mut group);
    assert_eq!(stopped, GROUP_WINDOW);
    // Written down, it goes on.
    let settle = group.propose(NOW, Along::WithAppend).unwrap();
    assert_eq!(
        settle.done,
        [ClosedRange {
            first: 0,
            end: stopped
        }]
    );
    let changed = GroupChanged {
        group: "g".to_owned(),
        row: Some(row(stopped, group.settings().clone())),
        topic,
        taken: 0,
        outbox: Vec::new(),
        appended: Vec::new(),
    };
    group.settled(NOW, Some(&changed));
    assert_eq!(deliver(&mut group), 2 * GROUP_WINDOW);
}

/// What is large waits for no moment at which its subscriber has nothing else.
#[test]
fn no_event_is_overtaken_for_its_size() {
    let topic = TopicRow {
        next: 4,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let settings = GroupSettings {
        order: Order::None as i32,
        ..GroupSettings::default()
    };
    let mut group = group(row(0, settings), &topic);
    let attach = Attach {
        group: "g".to_owned(),
        epoch: 9,
        credit_events: 64,
        credit_bytes: 512 << 10,
        ..Attach::default()
    };
    group.attach(NOW, S, &attach);
    let sizes = [400 << 10, 200 << 10, 50 << 10, 1];
    group.read(
        (0..)
            .zip(sizes)
            .map(|(base, bytes)| batch(base, 1, "x", bytes, 0)),
    );
    let first = offsets(&group.drive(NOW, None, Room::Some));
    assert_eq!(
        first,
        [0, 1],
        "the one that reaches the bound may exceed it"
    );
    group.verdicts(NOW, S, &done(0, 1));
    assert_eq!(offsets(&group.drive(NOW, None, Room::Some)), [2, 3]);
}

/// A leader forgot a subscriber that had seen ten frames; it attaches again, in the same
/// leadership.
#[test]
fn what_is_under_way_to_a_subscriber_that_was_forgotten_is_not_taken_back() {
    let topic = TopicRow {
        next: 1,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let mut group = group(row(0, GroupSettings::default()), &topic);
    group.detach(S);
    let attach = Attach {
        group: "g".to_owned(),
        epoch: 9,
        seen: 10,
        credit_events: 64,
        credit_bytes: 1 << 20,
        ..Attach::default()
    };
    group.attach(NOW, S, &attach);
    group.read([batch(0, 1, "x", 8, 0)]);
    let sent = group.drive(NOW, None, Room::Some);
    assert_eq!((offsets(&sent), sent[0].deliver.number), (vec![0], 11));
    // It renews before the frame has come.
    group.attach(NOW, S, &attach);
    assert_eq!(group.in_flight(), 1);
}

/// A failure was counted by a leader that did not live to say so. Its subscriber, attached again,
/// still holds the event and says its verdict again: the pause of a counted failure runs, and
/// nobody waits for a lease.
#[test]
fn a_failure_that_the_leader_before_has_counted_pauses_its_event() {
    let topic = TopicRow {
        next: 1,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let counted = GroupRow {
        attempts: vec![Attempts {
            offset: 0,
            count: 1,
        }],
        ..row(0, GroupSettings::default())
    };
    let mut group = group(counted, &topic);
    group.detach(S);
    let attach = Attach {
        group: "g".to_owned(),
        epoch: 9,
        held: vec![ClosedRange { first: 0, end: 1 }],
        credit_events: 64,
        credit_bytes: 1 << 20,
        ..Attach::default()
    };
    group.attach(NOW, S, &attach);
    group.read([batch(0, 1, "x", 8, 0)]);
    assert!(group.drive(NOW, None, Room::Some).is_empty(), "S holds it");
    let failed = Said {
        epoch: 9,
        failed: vec![FailedDelivery {
            offset: 0,
            attempt: 1,
            ..FailedDelivery::default()
        }],
        ..Said::default()
    };
    group.verdicts(NOW, S, &failed);
    let known = group.take_known();
    assert_eq!(known[&S].counted, [0], "it is told again");
    assert!(group.drive(NOW, None, Room::Some).is_empty(), "it pauses");
    let later = NOW + Duration::from_millis(500);
    let sent = group.drive(later, None, Room::Some);
    assert_eq!(offsets(&sent), [0]);
    assert_eq!(sent[0].deliver.events[0].attempt, 2);
    // Said once more, it does not take back what is out by now.
    group.verdicts(later, S, &failed);
    assert_eq!(group.in_flight(), 1);
}

/// A node is silent for a second. Its idle subscriber does not know that, says nothing for twenty
/// seconds more, and gets what comes as soon as its node speaks; of another run of the node nothing
/// is believed.
#[test]
fn an_idle_subscriber_is_there_again_when_its_node_speaks() {
    for (run, delivered) in [(1, 1), (2, 0)] {
        let topic = TopicRow::default();
        let mut group = group(row(0, GroupSettings::default()), &topic);
        group.heard(NOW, S.node, Word::Silence);
        let later = NOW + Duration::from_secs(1);
        assert!(group.drive(later, None, Room::Some).is_empty());
        assert_eq!(group.takers().count(), 0, "nobody is there");
        group.appended(&batch(0, 1, "x", 8, 0), 8);
        assert!(group.drive(later, None, Room::Some).is_empty());
        group.heard(later, S.node, Word::Speech(Generation(run)));
        let sent = group.drive(later, None, Room::Some);
        assert_eq!(offsets(&sent).len(), delivered, "run {run}");
    }
}

/// Events of many keys become messages, all but the first, and then the first: no entry holds more
/// than it may.
#[test]
fn forwards_that_waited_for_an_open_event_go_in_portions() {
    const COUNT: u64 = 3_000;
    let topic = TopicRow {
        next: COUNT,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let settings = GroupSettings {
        order: Order::None as i32,
        purpose: Purpose::Forward as i32,
        ..GroupSettings::default()
    };
    let mut group = group(row(0, settings), &topic);
    let attach = Attach {
        group: "g".to_owned(),
        epoch: 9,
        credit_events: COUNT as u32,
        credit_bytes: 1 << 30,
        ..Attach::default()
    };
    group.attach(NOW, S, &attach);
    let forward = |offset| Said {
        epoch: 9,
        forwarded: vec![Forward {
            offset,
            send: Some(Send {
                destination: 0,
                actor: ActorKey::new("default", "t", "a").unwrap().to_bytes(),
                method: "m".to_owned(),
                body: vec![7; 2_048].into(),
            }),
        }],
        ..Said::default()
    };
    group.read([batch(0, COUNT, "x", 8, 0)]);
    let sent = offsets(&group.drive(NOW, None, Room::Some));
    assert_eq!(sent.len(), COUNT as usize);
    for offset in 1..COUNT {
        group.verdicts(NOW, S, &forward(offset));
    }
    assert!(
        group.propose(NOW, Along::WithAppend).is_none(),
        "the first is open"
    );
    group.verdicts(NOW, S, &forward(0));
    let (mut floor, mut entries) = (0, 0);
    while let Some(settle) = group.propose(NOW, Along::WithAppend) {
        assert!(settle.encoded_len() <= 2 * BATCH_BYTES_MAX);
        let offsets: Vec<u64> = settle.forwards.iter().map(|f| f.offset).collect();
        let end = floor + offsets.len() as u64;
        assert_eq!(offsets, (floor..end).collect::<Vec<u64>>(), "in order");
        if entries == 1 {
            // Raft refuses one of them.
            group.settle_dropped(NOW);
            entries += 1;
            continue;
        }
        (floor, entries) = (end, entries + 1);
        let changed = GroupChanged {
            group: "g".to_owned(),
            row: Some(row(floor, group.settings().clone())),
            topic: topic.clone(),
            taken: 0,
            outbox: Vec::new(),
            appended: Vec::new(),
        };
        group.settled(NOW, Some(&changed));
    }
    assert_eq!(floor, COUNT);
    assert!(entries > 5, "{entries}");
}
