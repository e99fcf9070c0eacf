//! Rules of a group that no caller sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::replica::GroupChanged;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::topic::{
    GroupRow, GroupSettings, Order, TopicBatch, TopicEvent, TopicName, TopicRow,
};
use ghostlight_protocol::wire::topic::{Attach, Verdicts as Said};
use prost::Message;

use super::settle::{Along, Home};
use super::{Group, Hunger, Room, SubscriberId};

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
        first_ms: 1,
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
        first_ms: 1,
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
    // 2 is acknowledged; meanwhile retention takes the first batch's front, 0 and 1... and the entry says so.
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
        first_ms: 1,
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
        first_ms: 1,
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
