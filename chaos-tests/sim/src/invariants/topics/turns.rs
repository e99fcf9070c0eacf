//! What turns publish (promise G2). An event of a turn stands in its topic once, if the turn
//! counts, and never, if it does not. Those that one partition has for another stand in the order
//! in which they were published, without a gap; those for a topic beside the actor stand there with
//! the turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ghostlight_protocol::command::{Envelope, Send, TurnCommit};
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::replica::{Appended, TurnOutcome};
use ghostlight_protocol::topic::PublishBody;
use ghostlight_protocol::wire::frame::OutboxPush;
use prost::Message as _;

use super::{At, Topics, number_of};
use crate::heralds::text_of;

/// An event in a turn.
#[derive(Clone, Debug)]
struct Published {
    destination: PartitionId,
    number: u16,
    data: Bytes,
}

/// What a turn is about, as far as it matters here.
#[derive(Debug)]
pub(super) struct Asked {
    events: Vec<Published>,
    cause: Cause,
}

/// What a turn runs for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    Call,
    Message,
}

/// An event of a turn that counts, on its way to another partition.
#[derive(Debug)]
struct UnderWay {
    number: u16,
    data: Bytes,
    sequence: u64,
    way: Way,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It lies in its partition.
    Kept,
    /// Its leader has died, and no other node had been sent it.
    Orphaned,
    /// It was sent.
    Sent,
}

/// What turns have published.
#[derive(Default, Debug)]
pub(super) struct Turns {
    asked: BTreeMap<(PartitionId, LogIndex), Vec<Asked>>,
    under_way: BTreeMap<(PartitionId, PartitionId), VecDeque<UnderWay>>,
    /// Where each of their events stands, by what it says, and in which partition its turn ran.
    stand: BTreeMap<Bytes, (At, PartitionId)>,
}

impl Topics {
    /// An entry holds these turns.
    pub(in super::super) fn turns_asked(
        &mut self,
        partition: PartitionId,
        at: LogIndex,
        turns: &[TurnCommit],
    ) {
        let asked: Vec<Asked> = turns.iter().map(Asked::of).collect();
        if asked.iter().any(|turn| !turn.events.is_empty()) {
            self.turns.asked.insert((partition, at), asked);
        }
    }

    /// Turns were applied for the first time anywhere.
    pub(super) fn turns_applied(
        &mut self,
        partition: PartitionId,
        at: LogIndex,
        outcomes: &[TurnOutcome],
    ) -> Result<(), String> {
        let asked = self.turns.asked.remove(&(partition, at));
        let mut asked = asked.unwrap_or_default().into_iter();
        for outcome in outcomes {
            let turn = asked.next();
            let TurnOutcome::Committed {
                outbox, appended, ..
            } = outcome
            else {
                if turn.is_some_and(|turn| !turn.events.is_empty()) {
                    self.reached.push("turn that published did not count");
                }
                continue;
            };
            let turn = turn.unwrap_or(Asked {
                events: Vec::new(),
                cause: Cause::Call,
            });
            self.turn_counts(partition, turn, outbox, appended)?;
        }
        Ok(())
    }

    fn turn_counts(
        &mut self,
        partition: PartitionId,
        turn: Asked,
        outbox: &[(PartitionId, u64, Envelope)],
        appended: &[Appended],
    ) -> Result<(), String> {
        match (turn.events.len(), turn.cause) {
            (0, _) => {}
            (_, Cause::Message) => self.reached.push("turn published for an event"),
            (1, Cause::Call) => {}
            (_, Cause::Call) => self.reached.push("turn published several events"),
        }
        let (beside, elsewhere): (Vec<Published>, Vec<Published>) = turn
            .events
            .into_iter()
            .partition(|event| event.destination == partition);
        let left = outbox
            .iter()
            .filter(|(_, _, envelope)| number_of(&envelope.actor).is_some());
        let mut sequences = left.map(|(_, sequence, _)| *sequence);
        for event in elsewhere {
            self.reached.push("turn published to another partition");
            self.left.insert(partition);
            let way = (partition, event.destination);
            self.turns
                .under_way
                .entry(way)
                .or_default()
                .push_back(UnderWay {
                    number: event.number,
                    data: event.data,
                    sequence: sequences.next().unwrap_or(0),
                    way: Way::Kept,
                });
        }
        let mut beside = beside.into_iter().map(|event| (event.number, event.data));
        for batch in appended {
            self.reached.push("turn published beside its topic");
            self.events_stand(partition, batch, || beside.next())?;
        }
        match beside.next() {
            None => Ok(()),
            Some((number, data)) => Err(format!(
                "what a turn publishes to a topic of its own partition stands with it: {partition} has not appended \
                 {data:?} to topic partition {number}"
            )),
        }
    }

    /// Messages of another partition were accepted for the first time.
    pub(super) fn messages_applied(
        &mut self,
        partition: PartitionId,
        source: PartitionId,
        appended: &[Appended],
    ) -> Result<(), String> {
        for batch in appended {
            let mut queue = self.turns.under_way.remove(&(source, partition));
            let mut orphans = 0;
            let next = || {
                let event = queue.as_mut()?.pop_front()?;
                orphans += usize::from(event.way == Way::Orphaned);
                Some((event.number, event.data))
            };
            self.events_stand(source, batch, next)?;
            if orphans > 0 {
                self.reached.push("publish of a turn outlived its leader");
            }
            if let Some(queue) = queue.filter(|queue| !queue.is_empty()) {
                self.turns.under_way.insert((source, partition), queue);
            }
        }
        Ok(())
    }

    /// A batch was appended: its events are the next ones that turns of a partition have published.
    fn events_stand(
        &mut self,
        source: PartitionId,
        appended: &Appended,
        mut next: impl FnMut() -> Option<(u16, Bytes)>,
    ) -> Result<(), String> {
        let Some(number) = number_of(&appended.topic.to_bytes()) else {
            return Err(format!("{} is no topic partition", appended.topic));
        };
        self.appended(number, std::iter::once(appended));
        for (offset, event) in (appended.batch.base..).zip(&appended.batch.events) {
            let at = (number, offset);
            let expected = next();
            if expected.as_ref() != Some(&(number, event.data.clone())) {
                return Err(format!(
                    "what a turn publishes stands once, and in order, if the turn counts: {:?} is appended at {at:?}, \
                     where {expected:?} of {source} is due",
                    event.data
                ));
            }
            self.stands(at, &event.data)?;
            let stand = &mut self.turns.stand;
            if stand.insert(text_of(&event.data), (at, source)).is_some() {
                return Err(format!(
                    "a turn publishes once: {:?} is there twice",
                    event.data
                ));
            }
        }
        Ok(())
    }

    /// Events were appended of which no turn is known.
    pub(super) fn of_no_turn(
        &self,
        number: u16,
        appended: Option<&Appended>,
    ) -> Result<(), String> {
        let mut events = appended.into_iter().flat_map(|batch| &batch.batch.events);
        match events.find(|event| !event.content_type.is_empty()) {
            None => Ok(()),
            Some(event) => Err(format!(
                "what a turn publishes stands if the turn counts: topic partition {number} has {:?} by no turn",
                event.data
            )),
        }
    }

    /// Messages leave the node of their partition's leader.
    pub(crate) fn pushed(&mut self, push: &OutboxPush) {
        let way = (
            PartitionId(push.source as u16),
            PartitionId(push.destination as u16),
        );
        let sent = push.first..push.first + push.messages.len() as u64;
        let queue = self.turns.under_way.get_mut(&way).into_iter().flatten();
        for event in queue.filter(|event| sent.contains(&event.sequence)) {
            if event.way == Way::Kept {
                event.way = Way::Sent;
            }
        }
    }

    /// The leader of a partition dies. What is for partitions that its own node leads may be with
    /// them already.
    pub(crate) fn leader_dies(&mut self, partition: PartitionId, own: &BTreeSet<PartitionId>) {
        let ways = self.turns.under_way.iter_mut();
        let ways = ways.filter(|((from, to), _)| *from == partition && !own.contains(to));
        for event in ways.flat_map(|(_, queue)| queue) {
            if event.way == Way::Kept {
                event.way = Way::Orphaned;
            }
        }
    }

    /// In which partition the turn ran that has published this.
    pub(super) fn publisher_of(&self, text: &Bytes) -> Option<PartitionId> {
        self.turns.stand.get(text).map(|(_, source)| *source)
    }

    /// Where the events of turns stand.
    pub(crate) fn of_turns(&self) -> impl Iterator<Item = (At, Bytes)> {
        let places = self.turns.stand.values().map(|(at, _)| *at);
        places.filter_map(|at| Some((at, self.events.get(&at)?.clone())))
    }

    /// Compares what turns have published with what follows from the lines of all heralds.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn check_turns(&self, published: &[String]) -> Result<(), String> {
        if let Some((way, queue)) = self.turns.under_way.first_key_value() {
            return Err(format!(
                "what a turn publishes gets to its topic: {way:?} has {queue:?} still"
            ));
        }
        let published: BTreeSet<&[u8]> = published.iter().map(String::as_bytes).collect();
        let stand: BTreeSet<&[u8]> = self.turns.stand.keys().map(AsRef::as_ref).collect();
        let differ: Vec<_> = published.symmetric_difference(&stand).take(8).collect();
        match differ.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "what turns publish stands, and nothing else: of {} published and {} that stand these are not in both: \
                 {differ:?}",
                published.len(),
                stand.len()
            )),
        }
    }
}

impl Asked {
    fn of(turn: &TurnCommit) -> Self {
        Self {
            events: turn.sends.iter().flat_map(events_of).collect(),
            cause: match turn.inbox_sequence {
                0 => Cause::Call,
                _ => Cause::Message,
            },
        }
    }
}

fn events_of(send: &Send) -> Vec<Published> {
    let Some(number) = number_of(&send.actor) else {
        return Vec::new();
    };
    let body = PublishBody::decode(send.body.clone()).unwrap_or_default();
    let events = body.events.into_iter().map(|event| Published {
        destination: PartitionId(send.destination as u16),
        number,
        data: event.data,
    });
    events.collect()
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::actor::ActorKey;
    use ghostlight_protocol::ids::ActorVersion;
    use ghostlight_protocol::topic::{TopicBatch, TopicEvent, TopicRow};

    use super::*;
    use crate::subscribers::topic;

    const HERE: PartitionId = PartitionId(1);
    const THERE: PartitionId = PartitionId(2);

    fn event(text: &str) -> TopicEvent {
        TopicEvent {
            data: Bytes::copy_from_slice(text.as_bytes()),
            ..TopicEvent::default()
        }
    }

    fn key() -> ActorKey {
        topic().partition(3).key()
    }

    /// A turn here that publishes these to a topic in a partition.
    fn turn(to: PartitionId, texts: &[&str]) -> TurnCommit {
        let sends = texts.iter().map(|text| Send {
            destination: u32::from(to.0),
            actor: key().to_bytes(),
            body: PublishBody {
                events: vec![event(text)],
                ..PublishBody::default()
            }
            .encode_to_vec()
            .into(),
            ..Send::default()
        });
        TurnCommit {
            sends: sends.collect(),
            ..TurnCommit::default()
        }
    }

    fn appended(base: u64, text: &str) -> Appended {
        Appended {
            topic: key(),
            batch: TopicBatch {
                base,
                events: vec![event(text)],
                ..TopicBatch::default()
            },
            row: TopicRow::default(),
        }
    }

    fn committed(appended: Vec<Appended>) -> TurnOutcome {
        TurnOutcome::Committed {
            version: ActorVersion(1),
            outbox: Vec::new(),
            schedule: Vec::new(),
            appended,
        }
    }

    fn publish(topics: &mut Topics, at: u64, turn: TurnCommit, outcome: TurnOutcome) -> bool {
        topics.turns_asked(HERE, LogIndex(at), &[turn]);
        topics.turns_applied(HERE, LogIndex(at), &[outcome]).is_ok()
    }

    #[test]
    fn events_of_turns_arrive_once_and_in_order() {
        for (arrive, is_right) in [
            (&["a", "b"][..], true),
            (&["a"], true),
            (&["b"], false),
            (&["a", "a"], false),
            (&["a", "b", "c"], false),
        ] {
            let mut topics = Topics::default();
            let both = turn(THERE, &["a", "b"]);
            assert!(publish(&mut topics, 1, both, committed(Vec::new())));
            let arrive: Vec<Appended> = (0..)
                .zip(arrive)
                .map(|(at, text)| appended(at, text))
                .collect();
            let found = topics.messages_applied(THERE, HERE, &arrive);
            assert_eq!(found.is_ok(), is_right, "{arrive:?}");
        }
    }

    #[test]
    fn an_event_beside_its_turn_stands_with_it() {
        for (stand, is_right) in [(vec!["a"], true), (vec![], false), (vec!["b"], false)] {
            let batches = stand.iter().map(|text| appended(0, text)).collect();
            let mut topics = Topics::default();
            let found = publish(&mut topics, 1, turn(HERE, &["a"]), committed(batches));
            assert_eq!(found, is_right, "{stand:?}");
        }
    }

    #[test]
    fn what_never_counted_never_arrives() {
        let mut topics = Topics::default();
        let skipped = TurnOutcome::Skipped(ghostlight_protocol::replica::SkipReason::MessageGone);
        assert!(publish(&mut topics, 1, turn(THERE, &["a"]), skipped));
        let arrived = topics.messages_applied(THERE, HERE, &[appended(0, "a")]);
        assert!(arrived.is_err());
        assert_eq!(topics.check_turns(&[]), Ok(()));
        assert!(topics.check_turns(&["a".to_owned()]).is_err());
    }
}
