//! Topics: appended once, settled once, buried with the cursor, kept as long as they should be.

mod age;
mod deleted;
mod names;

use bytes::Bytes;
use prost::Message;

use super::bed::{Bed, HERE, MapRows, TERM, actor, request, sequence, write_turn};
use crate::actor::ActorKey;
use crate::closed::ClosedRange;
use crate::command::{Accept, Command, Envelope, Kind, Send};
use crate::family::{self, DueKind, Family};
use crate::limits::{DEAD_LETTER_AGE_MAX, GROUPS_PER_TOPIC_MAX};
use crate::replica::apply::{
    EntryOutcome, Published, SkipReason, TopicOutcome, TopicRefusal, TurnOutcome,
};
use crate::request::RequestId;
use crate::topic::{
    Append, DeadEvent, DeadTopicLetter, Forward, GroupLetters, GroupName, GroupPut, GroupRow,
    GroupSettings, IdleGroup, PublishBody, PublishItem, PublishReply, PutGroup, Redrive, RedriveTo,
    Seek, Settle, StartFrom, TopicAct, TopicBatch, TopicEvent, TopicName, TopicOp, TopicOps,
    TopicRow, Trim,
};

const WEEK_MS: u64 = 7 * 24 * 3_600_000;

fn topic() -> ActorKey {
    let name = TopicName::new("default", "pubsub", "orders").unwrap();
    name.partition(3).key()
}

fn event(data: &str) -> TopicEvent {
    TopicEvent {
        data: Bytes::copy_from_slice(data.as_bytes()),
        source: "shop".to_owned(),
        ..TopicEvent::default()
    }
}

fn publish(id: Option<&RequestId>, data: &[&str]) -> PublishItem {
    PublishItem {
        request: id.and_then(|id| request(id, 1)),
        body: Some(PublishBody {
            events: data.iter().map(|data| event(data)).collect(),
            ..PublishBody::default()
        }),
    }
}

fn idle(group: &str, watched_ms: u64) -> TopicAct {
    TopicAct::Idle(IdleGroup {
        group: group.to_owned(),
        watched_ms,
    })
}

fn name(group: &str) -> GroupName {
    GroupName {
        group: group.to_owned(),
    }
}

fn put(group: &str, settings: GroupSettings) -> TopicAct {
    TopicAct::Put(GroupPut {
        put: Some(PutGroup {
            group: group.to_owned(),
            settings: Some(settings),
        }),
        start_offset: 0,
    })
}

fn range(first: u64, end: u64) -> ClosedRange {
    ClosedRange { first, end }
}

fn op(act: TopicAct) -> TopicOp {
    TopicOp {
        topic: topic().to_bytes(),
        request: None,
        act: Some(act),
    }
}

impl Bed {
    fn ops(&mut self, wall_ms: u64, ops: Vec<TopicOp>) -> Vec<TopicOutcome> {
        let command = Command {
            leader_term: TERM,
            age_step_ms: 0,
            wall_ms,
            kind: Some(Kind::Topics(TopicOps { ops })),
        };
        match self.apply_bytes(TERM, &command.encode_to_vec()) {
            EntryOutcome::Topics(outcomes) => {
                self.check_topics();
                outcomes
            }
            other => panic!("operations gave {other:?}"),
        }
    }

    fn act(&mut self, act: TopicAct) -> TopicOutcome {
        self.ops(0, vec![op(act)]).remove(0)
    }

    fn publish(&mut self, wall_ms: u64, data: &[&str]) -> TopicOutcome {
        let publishes = vec![publish(None, data)];
        self.ops(wall_ms, vec![op(TopicAct::Append(Append { publishes }))])
            .remove(0)
    }

    fn topic_row(&mut self) -> TopicRow {
        let bytes = self.get(Family::Topic, topic().as_bytes());
        bytes.map_or_else(TopicRow::default, |bytes| TopicRow::decode(bytes).unwrap())
    }

    fn group_row(&mut self, group: &str) -> Option<GroupRow> {
        let bytes = self.get(Family::Group, &family::group_key(&topic(), group))?;
        Some(GroupRow::decode(bytes).unwrap())
    }

    /// All events of the topic partition that are kept, with their offsets.
    fn events(&self) -> Vec<(u64, String)> {
        let mut events = Vec::new();
        for ((family, key), value) in &self.rows.0 {
            if *family == Family::TopicBatch && key.starts_with(topic().as_bytes()) {
                let batch = TopicBatch::decode(value.clone()).unwrap();
                let texts = batch
                    .events
                    .iter()
                    .map(|e| String::from_utf8_lossy(&e.data).into_owned());
                events.extend((batch.base..).zip(texts));
            }
        }
        events
    }

    /// The row says what the batches are, and what is due is what the rows say.
    #[track_caller]
    fn check_topics(&mut self) {
        let row = self.topic_row();
        let mut at = row.first;
        let mut bytes = 0;
        let mut first_age = None;
        let mut due = Vec::new();
        for ((family, key), value) in &self.rows.0 {
            match family {
                Family::TopicBatch if key.starts_with(topic().as_bytes()) => {
                    let batch = TopicBatch::decode(value.clone()).unwrap();
                    assert_eq!(batch.base, at, "batches follow each other");
                    at += batch.events.len() as u64;
                    assert_eq!(*key, family::batch_key(&topic(), at - 1));
                    bytes += (key.len() + value.len()) as u64;
                    first_age = first_age.or(batch.appended_age_ms);
                }
                Family::Topic => {
                    let row = TopicRow::decode(value.clone()).unwrap();
                    let ms = row.due_age_ms();
                    due.extend(ms.map(|ms| family::due_row_key(DueKind::Retention, ms, key)));
                    let ms = Some(row.names_due_ms).filter(|ms| *ms > 0);
                    due.extend(ms.map(|ms| family::due_row_key(DueKind::EventNames, ms, key)));
                }
                Family::TopicLetter => {
                    let died = DeadTopicLetter::decode(value.clone()).unwrap().dead_age_ms;
                    let ms = died + DEAD_LETTER_AGE_MAX.as_millis() as u64;
                    due.push(family::due_row_key(DueKind::Letter, ms, key));
                }
                Family::Group => {
                    let row = GroupRow::decode(value.clone()).unwrap();
                    let idle = row.settings.unwrap_or_default().idle_ms;
                    if idle > 0 {
                        let ms = row.used_age_ms + idle;
                        due.push(family::due_row_key(DueKind::Group, ms, key));
                    }
                }
                _ => {}
            }
        }
        let kept = (row.next, row.bytes, row.first_age_ms);
        assert_eq!(kept, (at, bytes, first_age));
        due.sort();
        let kept = self.rows.0.keys().filter(|(f, _)| *f == Family::Due);
        let kept: Vec<Bytes> = kept.map(|(_, key)| key.clone()).collect();
        assert_eq!(kept, due);
        assert_eq!(self.row.topics, self.count(Family::Topic));
        self.check_counters();
    }
}

#[track_caller]
fn group(outcome: TopicOutcome) -> GroupRow {
    match outcome {
        TopicOutcome::Group(changed) | TopicOutcome::Settled(changed) => {
            changed.row.expect("the group is there")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publish_is_appended_once_whatever_repeats_it() {
    let mut bed = Bed::new();
    let ids = [
        sequence(1),
        sequence(2),
        RequestId::outside(b"order-7").unwrap(),
    ];
    let items = |ids: &[&RequestId]| {
        let publishes = ids.iter().map(|id| publish(Some(id), &["x", "y"]));
        op(TopicAct::Append(Append {
            publishes: publishes.collect(),
        }))
    };
    let outcomes = bed.ops(5, vec![items(&[&ids[0], &ids[2]]), items(&[&ids[1]])]);
    let firsts: Vec<Vec<Published>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            TopicOutcome::Appended { results, .. } => results.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let at = |first| Published::At {
        reply: PublishReply::at(3, vec![first, first + 1]),
        fresh: 2,
    };
    assert_eq!(firsts, [vec![at(0), at(2)], vec![at(4)]]);
    assert_eq!(bed.count(Family::TopicBatch), 2, "one batch for each entry");
    // All of them again, in one entry with a new one: only that is appended, and the records
    // answer.
    let fresh = sequence(3);
    let again = items(&[&ids[2], &fresh, &ids[1], &ids[0], &fresh]);
    let TopicOutcome::Appended { results, appended } = bed.ops(6, vec![again]).remove(0) else {
        panic!("an append");
    };
    let told: Vec<Option<u64>> = results
        .iter()
        .map(|result| match result {
            Published::At { reply, .. } => Some(reply.first),
            Published::Skipped(SkipReason::Recorded(answer)) => {
                assert_ne!(*answer, crate::outcome::TurnAnswer::default());
                None
            }
            Published::Skipped(other) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [None, Some(6), None, None, None]);
    assert_eq!(appended.unwrap().row.next, 8);
    assert_eq!(bed.events().len(), 8);
    // The same id in another topic partition is another publish.
    let elsewhere = TopicName::new("default", "pubsub", "orders").unwrap();
    let other = TopicOp {
        topic: elsewhere.partition(4).key().to_bytes(),
        ..items(&[&ids[2]])
    };
    let outcome = bed.ops(6, vec![other]).remove(0);
    assert!(
        matches!(&outcome, TopicOutcome::Appended { results, .. }
            if matches!(&results[..], [Published::At { reply, .. }] if reply.first == 0)),
        "{outcome:?}"
    );
}

#[test]
fn events_that_leave_turns_are_appended_in_their_entries() {
    let mut bed = Bed::new();
    let body = PublishBody {
        events: vec![event("from a turn")],
        ..PublishBody::default()
    };
    let send = |destination: u16| Send {
        destination: u32::from(destination),
        actor: topic().to_bytes(),
        method: "publish".to_owned(),
        body: body.encode_to_vec().into(),
    };
    let mut turn = write_turn(&actor("a"), 0, "k", "v");
    turn.sends = vec![send(HERE.0), send(HERE.0 + 1), send(HERE.0)];
    let TurnOutcome::Committed {
        outbox, appended, ..
    } = bed.turn(turn)
    else {
        panic!("it commits");
    };
    assert_eq!((outbox.len(), appended.len()), (1, 2));
    let mut refused = write_turn(&actor("a"), 0, "k", "v");
    refused.sends = vec![send(HERE.0)];
    assert!(matches!(bed.turn(refused), TurnOutcome::Skipped(_)));
    assert_eq!(
        bed.topic_row().next,
        2,
        "a turn that does not count sends nothing"
    );
    let envelope = |sequence, actor: &ActorKey| Envelope {
        actor: actor.to_bytes(),
        body: body.encode_to_vec().into(),
        sequence,
        ..Envelope::default()
    };
    let accept = Accept {
        source: 3,
        source_epoch: 0,
        first: 1,
        messages: vec![
            envelope(1, &topic()),
            envelope(2, &actor("b")),
            envelope(3, &topic()),
        ],
    };
    for appended_now in [2, 0] {
        let outcome = bed.apply(Kind::Accept(accept.clone()));
        let EntryOutcome::Accepted {
            through, appended, ..
        } = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!((through, appended.len()), (3, appended_now));
    }
    assert_eq!((bed.count(Family::Inbox), bed.events().len()), (1, 4));
    bed.check_topics();
}

#[test]
fn a_group_begins_where_it_says() {
    let mut bed = Bed::new();
    bed.publish(5, &["a", "b", "c"]);
    for (start, start_offset, floor) in [
        (StartFrom::First, 9, 0),
        (StartFrom::Last, 9, 3),
        (StartFrom::Time, 2, 2),
        (StartFrom::Time, 99, 3),
    ] {
        let settings = GroupSettings {
            start: start as i32,
            ..GroupSettings::default()
        };
        let put = GroupPut {
            put: Some(PutGroup {
                group: format!("{start:?}{start_offset}"),
                settings: Some(settings.clone()),
            }),
            start_offset,
        };
        let row = group(bed.act(TopicAct::Put(put.clone())));
        assert_eq!(row.floor, floor, "{start:?} {start_offset}");
        // Put again, it stays where it is and keeps its epoch.
        bed.publish(6, &["d"]);
        let again = group(bed.act(TopicAct::Put(put)));
        assert_eq!((again.floor, again.epoch), (floor, row.epoch));
        let trim = TopicAct::Trim(Trim::default());
        assert!(matches!(bed.act(trim), TopicOutcome::Trimmed(_)));
        bed = Bed::new();
        bed.publish(5, &["a", "b", "c"]);
    }
    let mut row = bed.topic_row();
    row.groups = GROUPS_PER_TOPIC_MAX as u64;
    let MapRows(rows) = &mut bed.rows;
    let value = row.encode_to_vec().into();
    rows.insert((Family::Topic, topic().to_bytes()), value);
    let refused = bed.act(put("one more", GroupSettings::default()));
    assert_eq!(refused, TopicOutcome::Refused(TopicRefusal::GroupsFull));
}

fn settle(epoch: u64) -> Settle {
    Settle {
        group: "g".to_owned(),
        epoch,
        ..Settle::default()
    }
}

fn dead(offset: u64, send: Option<Send>) -> DeadEvent {
    DeadEvent {
        offset,
        attempts: 10,
        reason: "no".to_owned(),
        park: send.is_none().then(|| event("bad")),
        send,
    }
}

#[test]
fn verdicts_count_once_and_only_in_their_epoch() {
    let mut bed = Bed::new();
    bed.publish(5, &["a", "b", "c", "d", "e", "f"]);
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    let acted = Settle {
        done: vec![range(0, 1), range(3, 99)],
        failed: vec![1, 1, 4, 77],
        ..settle(epoch)
    };
    let row = group(bed.act(TopicAct::Settle(acted.clone())));
    assert_eq!((row.floor, row.settled.clone()), (1, vec![range(3, 6)]));
    assert_eq!((row.attempts_of(1), row.attempts_of(4)), (2, 0));
    let topic_row = bed.topic_row();
    assert_eq!(row.lag(&topic_row), 2);
    let forward = |offset| Forward {
        offset,
        send: Some(Send {
            destination: u32::from(HERE.0) + 1,
            actor: actor("a").to_bytes(),
            ..Send::default()
        }),
    };
    let buried = Settle {
        dead: vec![dead(1, None), dead(0, None)],
        forwards: vec![forward(2), forward(4), forward(2)],
        ..settle(epoch)
    };
    for outbox in [1, 0] {
        let outcome = bed.act(TopicAct::Settle(buried.clone()));
        let TopicOutcome::Settled(changed) = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(changed.outbox.len(), outbox, "forwarded once");
        let row = group(outcome);
        assert_eq!((row.floor, row.letters, row.dead), (6, 1, 1));
    }
    for stale in [epoch - 1, epoch + 1] {
        let outcome = bed.act(TopicAct::Settle(Settle {
            epoch: stale,
            ..acted.clone()
        }));
        assert_eq!(outcome, TopicOutcome::Refused(TopicRefusal::Overtaken));
    }
    let seek = Seek {
        group: "g".to_owned(),
        offset: Some(2),
        ..Seek::default()
    };
    let row = group(bed.act(TopicAct::Seek(seek.clone())));
    assert_eq!((row.floor, row.settled.len()), (2, 0));
    assert!(row.epoch > epoch, "what is out counts for nothing");
    let far = Seek {
        offset: Some(7),
        ..seek
    };
    let (first, next) = (0, 6);
    let refusal = TopicRefusal::OutOfRange { first, next };
    assert_eq!(bed.act(TopicAct::Seek(far)), TopicOutcome::Refused(refusal));
    assert_eq!(group(bed.act(TopicAct::Pause(name("g")))).paused, 1);
    assert_eq!(group(bed.act(TopicAct::Resume(name("g")))).paused, 0);
}

#[test]
fn a_letter_goes_to_its_topic_or_is_parked_and_driven_again() {
    let mut bed = Bed::new();
    bed.publish(5, &["a", "b", "c"]);
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    let body = PublishBody {
        events: vec![event("bad")],
        ..PublishBody::default()
    };
    let send = |destination| Send {
        destination: u32::from(destination),
        actor: topic().to_bytes(),
        method: "publish".to_owned(),
        body: body.encode_to_vec().into(),
    };
    let acted = Settle {
        dead: vec![
            dead(0, Some(send(HERE.0))),
            dead(1, Some(send(HERE.0 + 1))),
            dead(2, None),
        ],
        ..settle(epoch)
    };
    let outcome = bed.act(TopicAct::Settle(acted));
    let TopicOutcome::Settled(changed) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((changed.outbox.len(), changed.appended.len()), (1, 1));
    let row = changed.row.unwrap();
    assert_eq!((row.floor, row.dead, row.letters), (3, 3, 1));
    let redrive = |to: RedriveTo| {
        TopicAct::Redrive(Redrive {
            group: "g".to_owned(),
            offsets: vec![2, 55],
            to: to as i32,
        })
    };
    let outcome = bed.act(redrive(RedriveTo::Group));
    let TopicOutcome::Group(changed) = outcome else {
        panic!("{outcome:?}");
    };
    let batch = &changed.appended[0].batch;
    assert_eq!((batch.base, batch.events[0].only_group.as_str()), (4, "g"));
    assert_eq!((changed.row.unwrap().letters, changed.taken), (0, 1));
    let next = bed.topic_row().next;
    let again = bed.act(redrive(RedriveTo::Group));
    assert!(matches!(again, TopicOutcome::Group(changed) if changed.taken == 0));
    assert_eq!(bed.topic_row().next, next, "a letter is driven once");
}

#[test]
fn a_parked_letter_goes_when_it_is_old_or_its_group_goes() {
    let mut bed = Bed::new();
    bed.publish(5, &["a", "b", "c", "d", "e"]);
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    let acted = Settle {
        dead: vec![dead(3, None), dead(4, None)],
        ..settle(epoch)
    };
    bed.act(TopicAct::Settle(acted));
    let over = || {
        op(TopicAct::LettersOver(GroupLetters {
            group: "g".to_owned(),
            offsets: vec![3],
        }))
    };
    bed.until(WEEK_MS - 1);
    bed.ops(5 + 2 * WEEK_MS, vec![over()]);
    assert_eq!(
        bed.count(Family::TopicLetter),
        2,
        "too young, whatever a clock says"
    );
    bed.until(WEEK_MS);
    bed.ops(5 + 2 * WEEK_MS, vec![over()]);
    assert_eq!(bed.group_row("g").unwrap().letters, 1);
    let delete = |offsets| {
        TopicAct::Delete(GroupLetters {
            group: "g".to_owned(),
            offsets,
        })
    };
    assert_eq!(
        group(bed.act(delete(vec![]))).letters,
        1,
        "its letters first"
    );
    let gone = bed.act(delete(vec![4]));
    assert!(matches!(gone, TopicOutcome::Group(changed) if changed.row.is_none()));
    assert_eq!((bed.group_row("g"), bed.topic_row().groups), (None, 0));
}

#[test]
fn only_the_oldest_batches_go_and_only_when_they_are_over() {
    let mut bed = Bed::new();
    for (age, data) in [(5, "a"), (6, "b"), (50, "c")] {
        bed.until(age);
        bed.publish(0, &[data, data]);
    }
    let trim = |last: &[u64], next_last| {
        op(TopicAct::Trim(Trim {
            last: last.to_vec(),
            next_last,
            delete: 0,
        }))
    };
    for (age, asked, next_last, first) in [
        (5 + WEEK_MS - 1, &[1][..], Some(3), 0),
        // Not the oldest one; not the end of a batch.
        (5 + WEEK_MS, &[3], Some(5), 0),
        (5 + WEEK_MS, &[0], Some(3), 0),
        // What is said to follow does not.
        (5 + WEEK_MS, &[1], Some(5), 2),
        (6 + WEEK_MS, &[3, 5], Some(5), 4),
        (50 + WEEK_MS, &[5], None, 6),
    ] {
        bed.until(age);
        let outcome = bed.apply_trim(trim(asked, next_last));
        assert_eq!(outcome.first, first, "{asked:?} at {age}");
    }
    let row = bed.topic_row();
    assert_eq!((row.next, row.bytes, row.due_age_ms()), (6, 0, None));
    bed.publish(0, &["d"]);
    assert_eq!(bed.events(), [(6, "d".to_owned())], "offsets go on");
    // A bound on bytes lets young ones go.
    let body = PublishBody {
        events: vec![event("e")],
        retention_bytes: 1,
        retention_ms: 1_000,
        names: Vec::new(),
    };
    let publishes = vec![PublishItem {
        request: None,
        body: Some(body),
    }];
    bed.ops(0, vec![op(TopicAct::Append(Append { publishes }))]);
    let row = bed.apply_trim(trim(&[6, 7], None));
    assert_eq!((row.first, row.age_max_ms()), (8, 1_000));
    // A group that is behind goes on where the log begins.
    let epoch = group(bed.act(put("g", GroupSettings::default()))).epoch;
    assert_eq!(group(bed.act(TopicAct::Settle(settle(epoch)))).floor, 8);
}

impl Bed {
    /// The log is so old now.
    fn until(&mut self, age_ms: u64) {
        self.pass(age_ms - self.row.age_ms);
    }

    /// At a wall time at which everything would be old.
    fn apply_trim(&mut self, trim: TopicOp) -> TopicRow {
        let command = Command {
            leader_term: TERM,
            wall_ms: 1_700_000_000_000,
            kind: Some(Kind::Topics(TopicOps { ops: vec![trim] })),
            ..Command::default()
        };
        // Not by `ops`: a wrong word about what follows leaves an age that is too early, which a
        // later trim mends.
        match self.apply_bytes(TERM, &command.encode_to_vec()) {
            EntryOutcome::Topics(mut outcomes) => match outcomes.remove(0) {
                TopicOutcome::Trimmed(row) => row,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_group_that_says_so_goes_when_nobody_uses_it() {
    let mut bed = Bed::new();
    let settings = GroupSettings {
        idle_ms: 600_000,
        ..GroupSettings::default()
    };
    let epoch = group(bed.act(put("g", settings))).epoch;
    bed.pass(599_999);
    assert!(group(bed.act(idle("g", u64::MAX))).used_age_ms > 0);
    bed.pass(400_000);
    group(bed.act(TopicAct::Settle(settle(epoch))));
    bed.pass(599_999);
    group(bed.act(idle("g", u64::MAX)));
    bed.pass(600_000);
    // A leader that has just opened knows nobody: its subscribers may be on their way.
    group(bed.act(idle("g", 599_999)));
    bed.pass(600_000);
    let gone = bed.act(idle("g", 600_000));
    assert!(matches!(gone, TopicOutcome::Group(changed) if changed.row.is_none()));
    let never = bed.act(put("h", GroupSettings::default()));
    group(never);
    bed.pass(1 << 40);
    group(bed.act(idle("h", u64::MAX)));
}

/// Any operation, near what is there.
fn any_act(bed: &mut Bed, draw: &mut dyn FnMut(u64) -> u64) -> TopicAct {
    let row = bed.topic_row();
    let epoch = bed.group_row("g").map_or(0, |row| row.epoch);
    let near = |draw: &mut dyn FnMut(u64) -> u64| draw(row.next + 3);
    match draw(10) {
        0..=2 => {
            let id = sequence(1 + draw(20));
            let publishes = vec![publish(Some(&id), &["x"; 3][..1 + draw(3) as usize])];
            TopicAct::Append(Append { publishes })
        }
        3 => put(
            "g",
            GroupSettings {
                idle_ms: draw(2) * 50,
                ..GroupSettings::default()
            },
        ),
        4 => TopicAct::Seek(Seek {
            group: "g".to_owned(),
            offset: Some(near(draw)),
            ..Seek::default()
        }),
        5 | 6 => {
            let first = near(draw);
            TopicAct::Settle(Settle {
                done: vec![range(first, first + draw(3))],
                failed: vec![near(draw)],
                dead: vec![dead(near(draw), None)],
                ..settle(epoch)
            })
        }
        7 => TopicAct::Trim(Trim {
            last: vec![row.first, row.first + 1],
            next_last: Some(row.first + 2),
            delete: draw(2) as u32,
        }),
        8 => TopicAct::Redrive(Redrive {
            group: "g".to_owned(),
            offsets: vec![near(draw), near(draw)],
            to: draw(2) as i32,
        }),
        _ => idle("g", u64::MAX),
    }
}

/// Any operations in any order, on two replicas of which one comes from the other's rows half way.
#[test]
fn replicas_agree_and_rows_stay_true() {
    for seed in 0..300_u64 {
        let mut state = seed;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut bed = Bed::new();
        let mut other = Bed::new();
        for step in 0..60 {
            let row = bed.topic_row();
            let act = any_act(&mut bed, &mut draw);
            let age = match draw(3) {
                0 => WEEK_MS / 10,
                _ => draw(40),
            };
            let wall_ms = 1 + step;
            let command = Command {
                leader_term: TERM,
                age_step_ms: age,
                wall_ms,
                kind: Some(Kind::Topics(TopicOps { ops: vec![op(act)] })),
            };
            let data = command.encode_to_vec();
            let floor = bed.group_row("g").map(|row| (row.epoch, row.floor));
            let outcome = bed.apply_bytes(TERM, &data);
            if step == 30 {
                other = bed.clone();
            } else {
                assert_eq!(other.apply_bytes(TERM, &data), outcome, "seed {seed}");
            }
            assert_eq!(bed, other, "seed {seed}, step {step}");
            let after = bed.topic_row();
            assert!(after.next >= row.next && after.first >= row.first);
            if let (Some((epoch, floor)), Some(now)) = (floor, bed.group_row("g"))
                && now.epoch == epoch
            {
                assert!(now.floor >= floor, "seed {seed}: a floor went back");
            }
            // A wrong `next_last` leaves a time that is too early, which a later trim mends;
            // everything else is exact.
            if !matches!(outcome, EntryOutcome::Topics(ref o) if matches!(o[0], TopicOutcome::Trimmed(_)))
            {
                bed.check_counters();
            }
        }
    }
}
