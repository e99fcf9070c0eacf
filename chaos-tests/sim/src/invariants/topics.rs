//! Topics (promise G9): an acknowledged publish reaches every group or its dead letters; order per
//! key without a gap; an offset never means two events; what a group has settled is not delivered
//! again, unless it was moved back; a paused group is given nothing; nothing is deleted before its
//! time; a time means the first event from it on; a group that was deleted and is made anew has
//! nothing of the old one.

mod changes;
mod turns;
mod verdicts;

pub(crate) use verdicts::{Told, compare_lines};

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_core::topics::subscribers::ToldEvent;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::topic::{TopicEvent, TopicPartition};
use ghostlight_protocol::wire::topic::{TopicFrame, TopicSaid};

use crate::heralds::text_of;
use crate::net::Place;

/// A place in a topic: number of the topic partition, offset.
pub(crate) type At = (u16, u64);

/// What has been seen of topics so far.
#[derive(Default, Debug)]
pub(crate) struct Topics {
    /// Which event stands where, and where each event stands.
    events: BTreeMap<At, Bytes>,
    places: BTreeMap<Bytes, At>,
    /// Highest offset that a group was given of each key.
    highest: BTreeMap<(String, u16, Bytes), u64>,
    given: BTreeSet<(String, At)>,
    /// What subscribers said is done.
    done: BTreeSet<(String, At)>,
    /// What each entry is about.
    asked: BTreeMap<(PartitionId, LogIndex), Vec<changes::Asked>>,
    /// The last entry of each partition that was applied anywhere.
    latest: BTreeMap<PartitionId, LogIndex>,
    /// What each place knows of each group.
    known: BTreeMap<(Place, u16, String), changes::Known>,
    /// Where groups were moved to last: what is lower, they need not have.
    moved: BTreeMap<(String, u16), u64>,
    /// Letters that were driven again, and what became of them: events for one group.
    redriven: BTreeSet<(String, At)>,
    copies: BTreeMap<At, (String, Bytes)>,
    /// The lowest offset that is kept.
    first: BTreeMap<u16, u64>,
    /// Millionths by which a monotonic clock is too fast at most.
    pace_max: u64,
    /// When the log says that each event was appended, in milliseconds.
    appended: BTreeMap<At, u64>,
    /// Groups that are there.
    groups: BTreeSet<(String, u16)>,
    /// When each event was first wanted.
    born: BTreeMap<Bytes, u64>,
    turns: turns::Turns,
    verdicts: verdicts::Verdicts,
    /// What was reached since somebody asked.
    pub(crate) reached: Vec<&'static str>,
    /// Partitions of which a turn has published to others, since somebody asked.
    pub(crate) left: BTreeSet<PartitionId>,
}

impl Topics {
    /// Nothing seen yet, by clocks that are too fast by so many millionths at most.
    pub(super) fn new(pace_max: u64) -> Self {
        Self {
            pace_max,
            ..Self::default()
        }
    }

    /// Somebody is about to publish an event.
    pub(crate) fn born(&mut self, data: Bytes, now: u64) {
        self.born.entry(data).or_insert(now);
    }

    /// An event stands at an offset.
    ///
    /// # Errors
    /// It stands elsewhere too, or another one stands there.
    pub(crate) fn stands(&mut self, at: At, data: &Bytes) -> Result<(), String> {
        self.is_at(at, data)?;
        let place = *self.places.entry(data.clone()).or_insert(at);
        if place != at {
            return Err(format!(
                "a publish is appended once: {data:?} stands at {place:?} and at {at:?}"
            ));
        }
        Ok(())
    }

    /// An event as a group has it: one that was driven again stands at two offsets, the second for
    /// that group alone.
    ///
    /// # Errors
    /// It is another group's, or stands where it should not.
    pub(crate) fn stands_for(
        &mut self,
        group: &str,
        at: At,
        event: &TopicEvent,
    ) -> Result<(), String> {
        if event.only_group.is_empty() {
            return self.stands(at, &event.data);
        }
        if event.only_group != group {
            return Err(format!(
                "an event for one group is given to no other: {group} has {at:?} of {}",
                event.only_group
            ));
        }
        self.is_at(at, &event.data)
    }

    fn is_at(&mut self, at: At, data: &Bytes) -> Result<(), String> {
        let event = self.events.entry(at).or_insert_with(|| data.clone());
        if event != data {
            return Err(format!(
                "an offset never means two events: {at:?} is {event:?} and {data:?}"
            ));
        }
        Ok(())
    }

    /// A subscriber of a group is given an event.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn given(&mut self, group: &str, told: &ToldEvent) -> Result<(), String> {
        let at = (told.number, told.offset);
        self.stands_for(group, at, &told.event)?;
        let is_first = self.given.insert((group.to_owned(), at));
        // A group that was moved gets again what it had, and what it had done without.
        if !is_first || self.moved.contains_key(&(group.to_owned(), told.number)) {
            return Ok(());
        }
        // Without a key it is in nobody's order.
        let Some(key) = told.event.key.clone() else {
            return Ok(());
        };
        let key = (group.to_owned(), told.number, key);
        let highest = self.highest.get(&key).copied().unwrap_or(told.offset);
        // A delivery that was long on its way is late, not out of order, if the group has done
        // without it, or if it was kept for its time.
        let done_without = || is_settled(&self.known, group, at) || self.is_trimmed(at);
        if told.offset < highest && !done_without() {
            return Err(format!(
                "order per key, without a gap: {group} is given {at:?} after {highest} of the same key"
            ));
        }
        self.highest.insert(key, highest.max(told.offset));
        Ok(())
    }

    /// A subscriber says that it is done with an event.
    pub(crate) fn done(&mut self, group: &str, at: At) {
        self.done.insert((group.to_owned(), at));
    }

    /// A leader sends something about a topic; `group_of` names the group of a subscriber.
    ///
    /// # Errors
    /// It delivers what it knows to be settled, or to a group that it knows to be paused.
    pub(crate) fn sent(
        &self,
        place: Place,
        frame: &TopicFrame,
        group_of: impl Fn(u64) -> Option<String>,
    ) -> Result<(), String> {
        let (Some(TopicSaid::Deliver(deliver)), Some(number)) =
            (&frame.said, number_of(&frame.topic))
        else {
            return Ok(());
        };
        let Some(group) = group_of(frame.subscriber) else {
            return Ok(());
        };
        let Some(known) = self.known.get(&(place, number, group.clone())) else {
            return Ok(());
        };
        if known.is_paused && !deliver.events.is_empty() {
            return Err(format!(
                "a paused group is given nothing: node {place} sends of topic partition {number} to {group}"
            ));
        }
        let again = deliver
            .events
            .iter()
            .find(|e| known.settled.contains(e.offset));
        again.map_or(Ok(()), |event| {
            Err(format!(
                "what is settled is not delivered again: node {place} sends ({number}, {}) to {group}, and has \
                 applied its settling",
                event.offset
            ))
        })
    }

    /// Compares what was acknowledged with what groups have done and with their dead letters.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn check(
        &self,
        acknowledged: &[(At, Bytes)],
        groups: &[String],
        letters: &BTreeMap<(String, At), TopicEvent>,
    ) -> Result<(), String> {
        for (at, data) in acknowledged {
            if self.events.get(at) != Some(data) {
                return Err(format!(
                    "an acknowledged publish is there: {data:?} was told {at:?}, where {:?} stands",
                    self.events.get(at)
                ));
            }
            for group in groups {
                self.reached(group, *at, data, letters)?;
            }
        }
        for (at, (group, data)) in &self.copies {
            self.reached(group, *at, data, letters)?;
        }
        Ok(())
    }

    fn reached(
        &self,
        group: &str,
        at: At,
        data: &Bytes,
        letters: &BTreeMap<(String, At), TopicEvent>,
    ) -> Result<(), String> {
        let key = (group.to_owned(), at);
        let moved = self.moved.get(&(group.to_owned(), at.0));
        let done_without = moved.is_some_and(|to| at.1 < *to) || self.is_trimmed(at);
        let redriven = self.redriven.contains(&key);
        if self.done.contains(&key) || letters.contains_key(&key) || done_without || redriven {
            return Ok(());
        }
        Err(format!(
            "an acknowledged publish reaches every group or its dead letters: {data:?} at {at:?} did neither in {group}"
        ))
    }

    /// Whether an event was kept for its time, and is not there any more.
    pub(crate) fn is_trimmed(&self, at: At) -> bool {
        self.first.get(&at.0).is_some_and(|first| at.1 < *first)
    }

    /// Offsets of a topic partition at which an event stands that ends so.
    pub(crate) fn ending(&self, number: u16, end: &[u8]) -> Vec<u64> {
        let events = self.events.range((number, 0)..=(number, u64::MAX));
        let such = events.filter(|(_, data)| text_of(data).ends_with(end));
        such.map(|((_, offset), _)| *offset).collect()
    }
}

fn number_of(topic: &Bytes) -> Option<u16> {
    let key = ActorKey::parse(topic.clone()).ok()?;
    TopicPartition::of_key(&key).map(|topic| topic.number)
}

fn is_settled(known: &BTreeMap<(Place, u16, String), changes::Known>, group: &str, at: At) -> bool {
    let mut rows = known.iter();
    rows.any(|((_, number, name), known)| {
        *number == at.0 && name == group && known.settled.contains(at.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(key: &str, offset: u64) -> ToldEvent {
        ToldEvent {
            token: 1,
            number: 3,
            offset,
            attempt: 1,
            event: TopicEvent {
                key: Some(Bytes::copy_from_slice(key.as_bytes())),
                data: Bytes::from(format!("{key}{offset}")),
                ..TopicEvent::default()
            },
        }
    }

    #[test]
    fn order_of_a_key_is_seen() {
        let mut topics = Topics::default();
        for (key, offset) in [("a", 1), ("b", 0), ("a", 4), ("a", 1)] {
            assert_eq!(topics.given("g", &told(key, offset)), Ok(()));
        }
        assert!(
            topics.given("g", &told("a", 2)).is_err(),
            "a gap was filled"
        );
        assert_eq!(topics.given("h", &told("a", 2)), Ok(()), "another group");
    }

    #[test]
    fn an_offset_has_one_event_and_an_event_one_offset() {
        let mut topics = Topics::default();
        let (x, y) = (Bytes::from_static(b"x"), Bytes::from_static(b"y"));
        assert_eq!(topics.stands((1, 0), &x), Ok(()));
        assert_eq!(topics.stands((1, 0), &x), Ok(()));
        assert!(topics.stands((1, 0), &y).is_err());
        assert!(topics.stands((1, 5), &x).is_err());
    }

    #[test]
    fn what_is_neither_done_nor_buried_is_missed() {
        let mut topics = Topics::default();
        let data = Bytes::from_static(b"x");
        topics.stands((1, 0), &data).expect("the first");
        let acknowledged = [((1, 0), data)];
        let groups = ["g".to_owned()];
        let mut letters = BTreeMap::new();
        assert!(topics.check(&acknowledged, &groups, &letters).is_err());
        letters.insert(("g".to_owned(), (1, 0)), TopicEvent::default());
        assert_eq!(topics.check(&acknowledged, &groups, &letters), Ok(()));
        topics.done("g", (1, 0));
        letters.clear();
        assert_eq!(topics.check(&acknowledged, &groups, &letters), Ok(()));
    }
}
