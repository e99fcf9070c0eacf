//! Rules of the topics of one partition that no caller sees.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{IfThere, Kind};
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::limits::ENTRY_BYTES_MAX;
use ghostlight_protocol::partition_row::Kept;
use ghostlight_protocol::replica::{Appended, GroupChanged, TopicOutcome};
use ghostlight_protocol::time::{Age, Instant, WallTime};
use ghostlight_protocol::topic::{
    GroupRow, GroupSettings, Nothing, TopicAct, TopicBatch, TopicEvent, TopicName, TopicRow,
};
use ghostlight_protocol::wire::topic::{Attach, Refused, TopicFrame, TopicSaid};
use prost::Message;

use super::ask::{Listing, What};
use super::leader::{Bounds, Live, Topics, TopicsOpening};
use super::load::GroupId;
use super::{TopicsEffect, TopicsInput};
use crate::io::Rest;
use crate::turns::{Caller, Load, ReadId, RowsWanted, Writes};

const NOW: Instant = Instant(1_000_000_000_000);

fn topic() -> ActorKey {
    TopicName::new("default", "p", "t")
        .unwrap()
        .partition(0)
        .key()
}

fn open() -> Topics {
    let mut topics = Topics::open(
        NOW,
        TopicsOpening {
            me: NodeId(1),
            partition: PartitionId(0),
            partitions: 4,
            term: Term(3),
            writes: Writes::Taken,
            bounds: Bounds {
                dedup_bytes_max: 1 << 30,
                messages_max: Kept::MAX,
            },
        },
    );
    let load = Load {
        topics: 1,
        ..Load::default()
    };
    topics.note(Some(WallTime(1_000_000)), Age(10_000_000), load);
    topics
}

fn serve(topics: &mut Topics, name: &str, settings: GroupSettings, row: &TopicRow) {
    let id = GroupId::new(&topic(), name);
    let group = GroupRow {
        epoch: 9,
        settings: Some(settings),
        ..GroupRow::default()
    };
    let changed = GroupChanged {
        group: name.to_owned(),
        row: Some(group),
        topic: row.clone(),
        taken: 0,
        outbox: Vec::new(),
        appended: Vec::new(),
    };
    topics.serve(NOW, &id, &changed);
    let Some(Live::Ready(serving)) = topics.groups.get_mut(&id) else {
        panic!("it serves");
    };
    let attach = Attach {
        group: name.to_owned(),
        credit_events: 64,
        credit_bytes: 1 << 20,
        ..Attach::default()
    };
    let subscriber = super::group::SubscriberId {
        node: NodeId(1),
        number: 1 << 32 | 1,
    };
    serving.group.attach(NOW, subscriber, &attach);
}

/// Ten groups with a dead-letter topic; what is appended has expired when it is looked at.
#[test]
fn an_entry_of_verdicts_is_bounded() {
    let mut topics = open();
    let settings = GroupSettings {
        dead_letter_topic: "dead".to_owned(),
        ..GroupSettings::default()
    };
    let row = TopicRow {
        next: 0,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    for group in 0..12 {
        serve(&mut topics, &format!("g{group}"), settings.clone(), &row);
    }
    let event = TopicEvent {
        data: vec![7; 1_000_000].into(),
        expires_ms: 10,
        ..TopicEvent::default()
    };
    let batch = TopicBatch {
        base: 0,
        appended_ms: 1,
        appended_age_ms: Some(0),
        events: vec![event],
    };
    let row = TopicRow { next: 1, ..row };
    let topic = topic();
    let appended = Appended { topic, batch, row };
    let mut out = Vec::new();
    topics.handle(NOW, TopicsInput::Appended(vec![appended]), &mut out);
    let mut out = Vec::new();
    topics.flush(NOW, &mut out);
    topics.flush(NOW + Duration::from_secs(1), &mut out);
    let sizes: Vec<usize> = out
        .iter()
        .filter_map(|effect| match effect {
            TopicsEffect::Propose(Kind::Topics(ops)) => Some(ops.encoded_len()),
            _ => None,
        })
        .collect();
    assert!(
        !sizes.is_empty() && sizes.iter().all(|bytes| *bytes <= ENTRY_BYTES_MAX),
        "{sizes:?}, {ENTRY_BYTES_MAX} are allowed"
    );
}

/// A leadership that has just opened, before any subscriber could attach: its first sweep.
#[test]
fn a_new_leader_drops_no_group_before_its_subscribers_could_attach() {
    let mut topics = open();
    let mut out = Vec::new();
    topics.handle(NOW, TopicsInput::Tick, &mut out);
    let due = family::due_row_key(
        DueKind::Group,
        9_999_999,
        &family::group_key(&topic(), "g@node"),
    );
    for (read, rows) in [
        (1, Vec::new()),
        (2, Vec::new()),
        (3, vec![(due, Some(Bytes::new()))]),
    ] {
        let read = ReadId(read);
        let rest = Rest::Last;
        topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, &mut out);
    }
    topics.flush(NOW, &mut out);
    let watched: Vec<u64> = out
        .iter()
        .filter_map(|effect| match effect {
            TopicsEffect::Propose(Kind::Topics(ops)) => Some(&ops.ops),
            _ => None,
        })
        .flatten()
        .filter_map(|op| match &op.act {
            Some(TopicAct::Idle(idle)) => Some(idle.watched_ms),
            _ => None,
        })
        .collect();
    assert_eq!(
        watched,
        [0],
        "it knows nothing of the time before it opened"
    );
}

/// The sweep's `Idle` is in the log when a subscriber attaches.
#[test]
fn a_group_that_the_sweep_dropped_serves_nobody() {
    let mut topics = open();
    let row = TopicRow {
        next: 0,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let mut out = Vec::new();
    topics.handle(NOW, TopicsInput::Tick, &mut out);
    let due = family::due_row_key(DueKind::Group, 9_999_999, &family::group_key(&topic(), "g"));
    for (read, rows) in [
        (1, Vec::new()),
        (2, Vec::new()),
        (3, vec![(due, Some(Bytes::new()))]),
    ] {
        let read = ReadId(read);
        let rest = Rest::Last;
        topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, &mut out);
    }
    topics.flush(NOW, &mut out);
    // It attaches: the rows that are read still have the group.
    serve(&mut topics, "g", GroupSettings::default(), &row);
    // Now the entry is applied.
    let gone = GroupChanged {
        group: "g".to_owned(),
        row: None,
        topic: row,
        taken: 0,
        outbox: Vec::new(),
        appended: Vec::new(),
    };
    let outcomes = vec![TopicOutcome::Group(gone)];
    topics.handle(NOW, TopicsInput::Applied(outcomes), &mut out);
    let id = GroupId::new(&topic(), "g");
    assert!(
        !matches!(topics.groups.get(&id), Some(Live::Ready(_))),
        "the group is gone from the rows, and is served on"
    );
    let told = out.iter().any(|effect| match effect {
        TopicsEffect::Send { frame, .. } => {
            frame.said == Some(TopicSaid::Refused(Refused::default()))
        }
        _ => false,
    });
    assert!(told, "its subscriber attaches again at once: {out:?}");
}

/// A subscriber whose program has gone is attached for what it owes: it makes no group, and does
/// not keep one from being deleted.
#[test]
fn who_leaves_makes_no_group_and_holds_none_up() {
    for (credit_events, made) in [(0, false), (64, true)] {
        let mut topics = open();
        let mut out = Vec::new();
        let attach = |group: &str| Attach {
            group: group.to_owned(),
            settings: Some(GroupSettings::default()),
            credit_events,
            credit_bytes: 1 << 20,
            ..Attach::default()
        };
        let frame = TopicFrame {
            partition: 0,
            topic: topic().to_bytes(),
            subscriber: 1 << 32 | 7,
            term: 3,
            said: Some(TopicSaid::Attach(attach("g"))),
        };
        let from = NodeId(1);
        topics.handle(NOW, TopicsInput::Frame { from, frame }, &mut out);
        let Some(TopicsEffect::Read { read, .. }) = out.pop() else {
            panic!("{out:?}");
        };
        let rows = vec![
            (topic().to_bytes(), None),
            (family::group_key(&topic(), "g"), None),
        ];
        let rest = Rest::Last;
        topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, &mut out);
        let refused = out.iter().any(|effect| match effect {
            TopicsEffect::Send { frame, .. } => matches!(
                &frame.said,
                Some(TopicSaid::Refused(Refused { code: 503, .. }))
            ),
            _ => false,
        });
        topics.flush(NOW, &mut out);
        let proposed = out
            .iter()
            .any(|effect| matches!(effect, TopicsEffect::Propose(_)));
        assert_eq!(
            (refused, proposed),
            (!made, made),
            "{credit_events}: {out:?}"
        );
        // A group that it is attached to.
        let row = TopicRow::default();
        serve(&mut topics, "h", GroupSettings::default(), &row);
        let Some(Live::Ready(serving)) = topics.groups.get_mut(&GroupId::new(&topic(), "h")) else {
            panic!("it serves");
        };
        let subscriber = super::group::SubscriberId {
            node: NodeId(1),
            number: 1 << 32 | 1,
        };
        serving.group.attach(NOW, subscriber, &attach("h"));
        let unused = topics.check_unused(&topic(), "h");
        assert_eq!(unused.is_ok(), credit_events == 0, "{credit_events}");
    }
}

/// Whoever looks at a group that is there leaves it as it is, ready or not yet loaded; where there
/// is none, it makes one.
#[test]
fn a_subscriber_that_looks_on_does_not_change_its_group() {
    let row = TopicRow::default();
    let ours = GroupSettings {
        max_deliver: 3,
        dead_letter_topic: "dead".to_owned(),
        ..GroupSettings::default()
    };
    let group = GroupRow {
        epoch: 9,
        settings: Some(ours.clone()),
        ..GroupRow::default()
    };
    for (if_there, loaded, there, written) in [
        (IfThere::Replace, true, true, true),
        (IfThere::Skip, true, true, false),
        (IfThere::Replace, false, true, true),
        (IfThere::Skip, false, true, false),
        (IfThere::Replace, false, false, true),
        (IfThere::Skip, false, false, true),
    ] {
        let mut topics = open();
        let mut out = Vec::new();
        if loaded {
            serve(&mut topics, "g", ours.clone(), &row);
        }
        let attach = Attach {
            group: "g".to_owned(),
            settings: Some(GroupSettings::default()),
            if_there: if_there as i32,
            credit_events: 64,
            credit_bytes: 1 << 20,
            ..Attach::default()
        };
        let frame = TopicFrame {
            partition: 0,
            topic: topic().to_bytes(),
            subscriber: 1 << 32 | 7,
            term: 3,
            said: Some(TopicSaid::Attach(attach)),
        };
        let from = NodeId(1);
        topics.handle(NOW, TopicsInput::Frame { from, frame }, &mut out);
        if !loaded {
            let Some(TopicsEffect::Read { read, .. }) = out.pop() else {
                panic!("{out:?}");
            };
            let group = there.then(|| group.encode_to_vec().into());
            let rows = vec![
                (topic().to_bytes(), Some(row.encode_to_vec().into())),
                (family::group_key(&topic(), "g"), group),
            ];
            let rest = Rest::Last;
            topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, &mut out);
        }
        topics.flush(NOW, &mut out);
        let proposes = |effect: &TopicsEffect| matches!(effect, TopicsEffect::Propose(_));
        assert_eq!(
            out.iter().any(proposes),
            written,
            "{if_there:?}, loaded: {loaded}, there: {there}: {out:?}"
        );
    }
}

/// Retention takes what a group is to begin with, while the rows of the group are read.
#[test]
fn a_trim_while_a_group_loads_is_not_forgotten() {
    let mut topics = open();
    let mut out = Vec::new();
    let attach = Attach {
        group: "g".to_owned(),
        credit_events: 64,
        credit_bytes: 1 << 20,
        ..Attach::default()
    };
    let frame = TopicFrame {
        partition: 0,
        topic: topic().to_bytes(),
        subscriber: 1 << 32 | 1,
        term: 3,
        said: Some(TopicSaid::Attach(attach)),
    };
    let from = NodeId(1);
    topics.handle(NOW, TopicsInput::Frame { from, frame }, &mut out);
    let Some(TopicsEffect::Read { read: load, .. }) = out.pop() else {
        panic!("{out:?}");
    };
    // The sweep's trim is in the log, and applied before the rows come.
    let old = TopicRow {
        first: 0,
        next: 20,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let trimmed = TopicRow {
        first: 10,
        ..old.clone()
    };
    topics.trimmed(&topic(), &trimmed);
    let group = GroupRow {
        epoch: 9,
        ..GroupRow::default()
    };
    let rows = vec![
        (topic().to_bytes(), Some(old.encode_to_vec().into())),
        (
            family::group_key(&topic(), "g"),
            Some(group.encode_to_vec().into()),
        ),
    ];
    let (read, rest) = (load, Rest::Last);
    topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, &mut out);
    out.clear();
    // Past the time in which subscribers of before may say what they hold.
    let later = NOW + Duration::from_secs(1);
    topics.handle(later, TopicsInput::Tick, &mut out);
    topics.flush(later, &mut out);
    let after = out.iter().find_map(|effect| match effect {
        TopicsEffect::Read {
            rows: RowsWanted::Scan { family, after, .. },
            ..
        } if *family == Family::TopicBatch => Some(after.clone()),
        _ => None,
    });
    assert_eq!(after, Some(family::batches_after(&topic(), 10)));
}

/// Questions that nobody can answer yet, or at all, are few.
#[test]
fn questions_are_bounded() {
    for (writes, kept) in [(Writes::Taken, 64), (Writes::NoRoom, 0)] {
        let mut topics = open();
        topics.handle(NOW, TopicsInput::Writes(writes), &mut Vec::new());
        let taken = (0..1_000).filter(|call| {
            let from = Caller {
                node: NodeId(2),
                call: *call,
            };
            let what = What::Describe(topic(), Listing::default());
            topics.ask(from, what, topic()).is_ok()
        });
        assert_eq!(taken.count(), kept, "{writes:?}");
    }
}

/// Events over their age, in batches that fill a page each.
#[test]
fn a_sweep_lets_go_all_that_is_over_its_age() {
    let mut topics = open();
    topics.note(
        None,
        Age(1_000_000_000),
        Load {
            topics: 1,
            ..Load::default()
        },
    );
    let mut out = Vec::new();
    topics.handle(NOW, TopicsInput::Tick, &mut out);
    let due = family::due_row_key(DueKind::Retention, 5, topic().as_bytes());
    let mut read = 0;
    let mut feed = |topics: &mut Topics, rows, rest, out: &mut Vec<TopicsEffect>| {
        read += 1;
        let read = ReadId(read);
        topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, out);
    };
    feed(
        &mut topics,
        vec![(due, Some(Bytes::new()))],
        Rest::Last,
        &mut out,
    );
    for _ in [DueKind::Letter, DueKind::Group, DueKind::EventNames] {
        feed(&mut topics, Vec::new(), Rest::Last, &mut out);
    }
    let row = TopicRow {
        next: 100,
        bytes: 100 << 20,
        first_age_ms: Some(0),
        ..TopicRow::default()
    };
    let value = Bytes::from(row.encode_to_vec());
    feed(
        &mut topics,
        vec![(topic().to_bytes(), Some(value))],
        Rest::Last,
        &mut out,
    );
    let batch = TopicBatch {
        base: 0,
        appended_ms: 5,
        appended_age_ms: Some(0),
        events: vec![TopicEvent {
            data: vec![7; 1 << 20].into(),
            ..TopicEvent::default()
        }],
    };
    let rows = vec![(
        family::batch_key(&topic(), 0),
        Some(Bytes::from(batch.encode_to_vec())),
    )];
    feed(&mut topics, rows, Rest::More, &mut out);
    topics.flush(NOW, &mut out);
    out.clear();
    let row = TopicRow { first: 1, ..row };
    topics.handle(
        NOW,
        TopicsInput::Applied(vec![TopicOutcome::Trimmed(row)]),
        &mut out,
    );
    assert!(
        out.iter().any(|e| matches!(e, TopicsEffect::Read { .. })),
        "99 batches more are over, and it rests for a minute"
    );
}

/// Names of more topic partitions than one page has, and more of each than one entry forgets.
#[test]
fn a_sweep_forgets_all_names_that_are_over_their_age() {
    let mut topics = open();
    let mut out = Vec::new();
    topics.handle(NOW, TopicsInput::Tick, &mut out);
    let due = |ms| family::due_row_key(DueKind::EventNames, ms, topic().as_bytes());
    let mut read = 0;
    let mut feed = |topics: &mut Topics, rows, out: &mut Vec<TopicsEffect>| {
        read += 1;
        let (read, rest) = (ReadId(read), Rest::Last);
        topics.handle(NOW, TopicsInput::Rows { read, rows, rest }, out);
        topics.flush(NOW, out);
    };
    for _ in [DueKind::Retention, DueKind::Letter, DueKind::Group] {
        feed(&mut topics, Vec::new(), &mut out);
    }
    for round in 1..=2 {
        out.clear();
        let rows = vec![(due(9_999_999), Some(Bytes::new()))];
        feed(&mut topics, rows, &mut out);
        let acts: Vec<_> = out
            .iter()
            .filter_map(|effect| match effect {
                TopicsEffect::Propose(Kind::Topics(ops)) => Some(&ops.ops),
                _ => None,
            })
            .flatten()
            .map(|op| op.act.clone())
            .collect();
        assert_eq!(acts, [Some(TopicAct::NamesOver(Nothing {}))], "{round}");
        out.clear();
        let outcomes = vec![TopicOutcome::Trimmed(TopicRow::default())];
        topics.handle(NOW, TopicsInput::Applied(outcomes), &mut out);
        let again = out.iter().any(|e| matches!(e, TopicsEffect::Read { .. }));
        assert!(again, "{round}: it looks whether all have gone");
    }
    out.clear();
    feed(
        &mut topics,
        vec![(due(10_000_001), Some(Bytes::new()))],
        &mut out,
    );
    assert_eq!(out, [], "what is young stays, and it rests");
}
