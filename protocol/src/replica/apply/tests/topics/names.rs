//! Names of events: what is published again under one is not appended again, for a while and among
//! so many.

use super::*;
use crate::limits::{EVENT_NAME_AGE_MAX, EVENT_NAMES_MAX, EVENT_NAMES_SWEPT_MAX};
use crate::replica::rows::Rows;
use crate::topic::{NamePlace, NamedEvent, Nothing, PublishReply, event_name};

const WINDOW_MS: u64 = EVENT_NAME_AGE_MAX.as_millis() as u64;

/// Events by their names; an empty one: none.
fn named(names: &[&str]) -> PublishItem {
    let name = |name: &&str| match *name {
        "" => Bytes::new(),
        name => event_name("shop", name),
    };
    PublishItem {
        request: None,
        body: Some(PublishBody {
            events: names.iter().map(|name| event(name)).collect(),
            names: names.iter().map(name).collect(),
            ..PublishBody::default()
        }),
    }
}

impl Bed {
    /// One entry, `age_step_ms` after the one before.
    fn named(&mut self, age_step_ms: u64, publishes: Vec<PublishItem>) -> TopicOutcome {
        self.aged(age_step_ms, TopicAct::Append(Append { publishes }))
    }

    fn aged(&mut self, age_step_ms: u64, act: TopicAct) -> TopicOutcome {
        let command = Command {
            leader_term: TERM,
            age_step_ms,
            wall_ms: 5,
            kind: Some(Kind::Topics(TopicOps { ops: vec![op(act)] })),
        };
        let EntryOutcome::Topics(mut outcomes) = self.apply_bytes(TERM, &command.encode_to_vec())
        else {
            panic!("operations on topics");
        };
        self.check_topics();
        self.check_names();
        outcomes.remove(0)
    }

    /// Each number between the first and the next has its name, and nothing else is remembered.
    fn check_names(&mut self) {
        let row = self.topic_row();
        let mut known = 0;
        for number in row.names_first..row.names_next {
            let key = family::event_name_place_key(&topic(), number);
            let place = self
                .get(Family::EventName, &key)
                .expect("a number has a name");
            let place = NamePlace::decode(place).unwrap();
            let key = family::event_name_key(&topic(), &place.name);
            let event = self
                .get(Family::EventName, &key)
                .expect("a name has an event");
            let event = NamedEvent::decode(event).unwrap();
            known += u64::from(event.number == number);
        }
        let numbers = row.names_next - row.names_first;
        assert_eq!(self.count(Family::EventName), numbers + known);
        assert_eq!(row.names_due_ms > 0, numbers > 0);
    }
}

/// The offsets of one publish, and how many of its events are new.
#[track_caller]
fn stands(outcome: TopicOutcome) -> Vec<(Vec<u64>, usize)> {
    let TopicOutcome::Appended { results, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let stands = results.into_iter().map(|result| match result {
        Published::At { reply, fresh } => {
            let places = 0..reply.count as usize;
            (places.map(|place| reply.offset(place)).collect(), fresh)
        }
        Published::Skipped(why) => panic!("{why:?}"),
    });
    stands.collect()
}

#[test]
fn an_event_is_appended_once_under_its_name() {
    let mut bed = Bed::new();
    // In one publish, in one entry, in a later one; what has no name is always new.
    let outcome = bed.named(0, vec![named(&["a", "b", "a", ""]), named(&["b"])]);
    assert_eq!(
        stands(outcome),
        [(vec![0, 1, 0, 2], 3), (vec![1], 0)],
        "once in an entry"
    );
    let outcome = bed.named(9, vec![named(&["b", "c", "", "a"])]);
    assert_eq!(stands(outcome), [(vec![1, 3, 4, 0], 2)]);
    let outcome = bed.named(9, vec![named(&["c"])]);
    let TopicOutcome::Appended { appended, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(*appended, None, "nothing is new: no batch");
    assert_eq!(stands(outcome), [(vec![3], 0)]);
    let texts: Vec<String> = bed.events().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["a", "b", "", "c", ""]);
    // The same id of another publisher names another event.
    assert_ne!(event_name("shop", "a"), event_name("till", "a"));
    assert_ne!(event_name("shop", "a"), event_name("sho", "pa"));
}

#[test]
fn the_record_of_a_request_tells_the_same_places() {
    let mut bed = Bed::new();
    bed.named(0, vec![named(&["a", "b"])]);
    let id = RequestId::outside(b"r").unwrap();
    let again = PublishItem {
        request: request(&id, 1),
        ..named(&["new", "a"])
    };
    assert_eq!(stands(bed.named(0, vec![again.clone()])), [(vec![2, 0], 1)]);
    let TopicOutcome::Appended { results, .. } = bed.named(0, vec![again]) else {
        panic!("an append");
    };
    let Published::Skipped(SkipReason::Recorded(answer)) = &results[0] else {
        panic!("{results:?}");
    };
    let Some(crate::outcome::Answer::Reply(body)) = &answer.answer else {
        panic!("{answer:?}");
    };
    let reply = crate::topic::TopicReply::decode(body.clone())
        .unwrap()
        .reply;
    let wanted = PublishReply::at(3, vec![2, 0]);
    assert_eq!(reply, Some(crate::topic::Reply::Published(wanted)));
}

#[test]
fn a_name_is_remembered_for_its_time_of_the_log() {
    let mut bed = Bed::new();
    bed.named(7, vec![named(&["a"])]);
    let again = bed.named(WINDOW_MS - 1, vec![named(&["a"])]);
    assert_eq!(
        stands(again),
        [(vec![0], 0)],
        "a repetition extends nothing"
    );
    let late = bed.named(1, vec![named(&["a"])]);
    assert_eq!(stands(late), [(vec![1], 1)], "it is another event now");
    // The number of the first one goes; the name stays, for it came again.
    let after = bed.named(1, vec![named(&["b", "a"])]);
    assert_eq!(stands(after), [(vec![2, 1], 1)]);
    assert_eq!(bed.topic_row().names_first, 1);
}

/// Full but for one place: the numbers in between stand for names that nobody asks for.
#[test]
fn so_many_names_are_remembered_and_no_more() {
    let mut bed = Bed::new();
    bed.named(0, vec![named(&["first", "second"])]);
    let row = TopicRow {
        names_next: EVENT_NAMES_MAX - 1,
        ..bed.topic_row()
    };
    let value = Bytes::from(row.encode_to_vec());
    bed.rows.put(Family::Topic, topic().to_bytes(), value);
    for (name, first) in [("x", 0), ("y", 1)] {
        let publishes = vec![named(&[name])];
        bed.act(TopicAct::Append(Append { publishes }));
        assert_eq!(bed.topic_row().names_first, first, "{name}");
    }
    let publishes = vec![named(&["second", "first"])];
    let found = bed.act(TopicAct::Append(Append { publishes }));
    assert_eq!(stands(found), [(vec![1, 4], 1)], "the oldest has gone");
}

#[test]
fn the_sweep_forgets_the_names_of_a_topic_that_rests() {
    let mut bed = Bed::new();
    let count = EVENT_NAMES_SWEPT_MAX + 10;
    let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bed.named(3, vec![named(&names)]);
    bed.named(5, vec![named(&["late"])]);
    let over = || TopicAct::NamesOver(Nothing {});
    for (step, left, due) in [
        (WINDOW_MS - 6, count + 1, 3 + WINDOW_MS),
        (1, 11, 3 + WINDOW_MS),
        (0, 1, 8 + WINDOW_MS),
        (4, 1, 8 + WINDOW_MS),
        (1, 0, 0),
    ] {
        bed.aged(step, over());
        let row = bed.topic_row();
        let remembered = (row.names_next - row.names_first) as usize;
        assert_eq!((remembered, row.names_due_ms), (left, due));
    }
    assert_eq!(bed.count(Family::EventName), 0);
}
