//! Topics (promise G9): an acknowledged publish reaches every group or its dead letters; order per key without a
//! gap; an offset never means two events; what a group has settled is not delivered again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_core::io::Applied;
use ghostlight_core::topics::subscribers::ToldEvent;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::replica::{EntryOutcome, TopicOutcome};
use ghostlight_protocol::topic::{AckSet, TopicEvent, TopicOps, TopicPartition};
use ghostlight_protocol::wire::topic::{TopicFrame, TopicSaid};

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
    /// Topic partitions that an entry is about.
    asked: BTreeMap<(PartitionId, LogIndex), Vec<Bytes>>,
    /// What each place has applied of each group.
    settled: BTreeMap<(Place, u16, String), AckSet>,
}

impl Topics {
    /// An event stands at an offset.
    ///
    /// # Errors
    /// It stands elsewhere too, or another one stands there.
    pub(crate) fn stands(&mut self, at: At, data: &Bytes) -> Result<(), String> {
        let event = self.events.entry(at).or_insert_with(|| data.clone());
        if event != data {
            return Err(format!(
                "an offset never means two events: {at:?} is {event:?} and {data:?}"
            ));
        }
        let place = *self.places.entry(data.clone()).or_insert(at);
        if place != at {
            return Err(format!(
                "a publish is appended once: {data:?} stands at {place:?} and at {at:?}"
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
        self.stands(at, &told.event.data)?;
        if !self.given.insert((group.to_owned(), at)) {
            return Ok(());
        }
        let key = told.event.key.clone().unwrap_or_default();
        let highest = self.highest.entry((group.to_owned(), told.number, key));
        let highest = highest.or_insert(told.offset);
        // A delivery that was long on its way is late, not out of order, if the group has done without it.
        if told.offset < *highest && !is_settled(&self.settled, group, at) {
            return Err(format!(
                "order per key, without a gap: {group} is given {at:?} after {highest} of the same key"
            ));
        }
        *highest = (*highest).max(told.offset);
        Ok(())
    }

    /// A subscriber says that it is done with an event.
    pub(crate) fn done(&mut self, group: &str, at: At) {
        self.done.insert((group.to_owned(), at));
    }

    pub(super) fn asked(&mut self, partition: PartitionId, at: LogIndex, ops: TopicOps) {
        let topics = ops.ops.into_iter().map(|op| op.topic).collect();
        self.asked.insert((partition, at), topics);
    }

    pub(super) fn applied(&mut self, place: Place, applied: &Applied) {
        for (at, outcome) in &applied.outcomes {
            let EntryOutcome::Topics(outcomes) = outcome else {
                continue;
            };
            let Some(topics) = self.asked.get(&(applied.partition, at.index)) else {
                continue;
            };
            for (topic, outcome) in topics.iter().zip(outcomes) {
                let (TopicOutcome::Settled(changed), Some(number)) = (outcome, number_of(topic))
                else {
                    continue;
                };
                if let Some(row) = &changed.row {
                    let key = (place, number, changed.group.clone());
                    self.settled.insert(key, row.acks());
                }
            }
        }
    }

    /// What a place knew goes with its process: its disk may have less.
    pub(super) fn stopped(&mut self, place: Place) {
        self.settled.retain(|(at, ..), _| *at != place);
    }

    /// A leader sends something about a topic; `group_of` names the group of a subscriber.
    ///
    /// # Errors
    /// It delivers what it has itself applied as settled.
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
        let Some(settled) = self.settled.get(&(place, number, group.clone())) else {
            return Ok(());
        };
        let again = deliver.events.iter().find(|e| settled.contains(e.offset));
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
                let key = (group.clone(), *at);
                if !self.done.contains(&key) && !letters.contains_key(&key) {
                    return Err(format!(
                        "an acknowledged publish reaches every group or its dead letters: {data:?} at {at:?} did \
                         neither in {group}"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn number_of(topic: &Bytes) -> Option<u16> {
    let key = ActorKey::parse(topic.clone()).ok()?;
    TopicPartition::of_key(&key).map(|topic| topic.number)
}

fn is_settled(settled: &BTreeMap<(Place, u16, String), AckSet>, group: &str, at: At) -> bool {
    let mut rows = settled.iter();
    rows.any(|((_, number, name), acks)| *number == at.0 && name == group && acks.contains(at.1))
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
