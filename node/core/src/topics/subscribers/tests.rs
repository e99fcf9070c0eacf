//! What idle subscriptions cost, and what is found out of them when words, leaders or events are
//! lost: the subscribers of one node and the leaders of all partitions on another one, with a wire
//! between them that loses what a test wants.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::limits::{DELIVERY_LEASE, TOPIC_PARTITIONS};
use ghostlight_protocol::partition_row::Kept;
use ghostlight_protocol::replica::Appended;
use ghostlight_protocol::time::{Age, Instant, WallTime};
use ghostlight_protocol::topic::{
    GroupRow, GroupSettings, TopicBatch, TopicEvent, TopicName, TopicRow,
};
use ghostlight_protocol::wire::topic::{Refused, TopicFrame, TopicSaid};
use prost::Message;

use super::words::WORD_EVERY;
use super::{
    SharedWith, Subscribers, SubscribersEffect, SubscribersInput, Subscribing, SubscriptionId, Told,
};
use crate::gateway::{Reachable, Routes};
use crate::io::Rest;
use crate::topics::leader::{Bounds, Live};
use crate::topics::{Topics, TopicsEffect, TopicsInput, TopicsOpening, UnsentDelivery};
use crate::turns::{Load, RowsWanted, Writes};

const LEADER: NodeId = NodeId(1);
const NODE: NodeId = NodeId(2);
const PARTITIONS: u16 = 4;
const STEP: Duration = Duration::from_millis(100);
const EPOCH: u64 = 9;

/// What the wire does with a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Through,
    Lost,
    /// The leader hears that it was not sent.
    Refused,
}

struct AllLead(Term);

impl Routes for AllLead {
    fn leader(&self, _: PartitionId) -> Option<(Term, NodeId)> {
        Some((self.0, LEADER))
    }

    fn candidates(&self, _: PartitionId) -> Vec<NodeId> {
        vec![LEADER]
    }

    fn reachable(&self, _: NodeId) -> Reachable {
        Reachable::Yes
    }
}

struct Bed {
    now: Instant,
    term: Term,
    subscribers: Subscribers,
    leaders: BTreeMap<PartitionId, Topics>,
    to_leader: VecDeque<TopicFrame>,
    to_node: VecDeque<TopicFrame>,
    way: Box<dyn Fn(&TopicSaid) -> Way>,
    /// Frames that went through.
    said: Vec<TopicSaid>,
    events: usize,
    next: BTreeMap<Bytes, u64>,
}

fn topic(number: u64) -> TopicName {
    TopicName::new("default", "p", &format!("t{number}")).unwrap()
}

fn leader(now: Instant, partition: PartitionId, term: Term) -> Topics {
    let opening = TopicsOpening {
        me: LEADER,
        partition,
        partitions: PARTITIONS,
        term,
        writes: Writes::Taken,
        bounds: Bounds {
            dedup_bytes_max: 1 << 30,
            messages_max: Kept::MAX,
        },
    };
    let mut topics = Topics::open(now, opening);
    topics.note(Some(WallTime(1_000_000)), Age(10_000_000), Load::default());
    topics
}

impl Bed {
    /// Subscriptions to so many topics, attached and idle.
    fn idle(topics: u64) -> Self {
        let now = Instant(1_000_000_000_000);
        let term = Term(3);
        let all = (0..PARTITIONS).map(PartitionId);
        let mut bed = Self {
            now,
            term,
            subscribers: Subscribers::new(NODE, Generation(1), PARTITIONS),
            leaders: all.map(|p| (p, leader(now, p, term))).collect(),
            to_leader: VecDeque::new(),
            to_node: VecDeque::new(),
            way: Box::new(|_| Way::Through),
            said: Vec::new(),
            events: 0,
            next: BTreeMap::new(),
        };
        for number in 0..topics {
            let wants = Subscribing {
                topic: topic(number),
                group: SharedWith::Cluster("g".to_owned()),
                settings: GroupSettings::default(),
                if_there: IfThere::Replace,
                credit_events: 64,
                credit_bytes: 1 << 20,
            };
            let id = SubscriptionId(number);
            bed.feed(SubscribersInput::Subscribe { id, wants });
        }
        bed.pass(Duration::from_secs(15));
        assert_eq!(bed.counted(), topics * u64::from(TOPIC_PARTITIONS));
        bed.said.clear();
        bed
    }

    fn feed(&mut self, input: SubscribersInput) {
        let mut out = Vec::new();
        let routes = AllLead(self.term);
        self.subscribers.handle(self.now, input, &routes, &mut out);
        self.subscribers.flush(self.now, &mut out);
        for effect in out {
            match effect {
                SubscribersEffect::Send { frame, .. } => self.to_leader.push_back(frame),
                SubscribersEffect::Tell(_, Told::Event(_)) => self.events += 1,
                SubscribersEffect::Tell(..) => {}
            }
        }
    }

    fn lead(&mut self, partition: PartitionId, input: TopicsInput) {
        let Some(topics) = self.leaders.get_mut(&partition) else {
            return;
        };
        let mut out = Vec::new();
        topics.handle(self.now, input, &mut out);
        topics.flush(self.now, &mut out);
        for effect in out {
            match effect {
                TopicsEffect::Send { frame, .. } => self.to_node.push_back(frame),
                TopicsEffect::Read { read, rows } => {
                    let rows = match rows {
                        RowsWanted::Keys(keys) => rows_of(keys),
                        RowsWanted::Scan { .. } => Vec::new(),
                    };
                    let rest = Rest::Last;
                    self.lead(partition, TopicsInput::Rows { read, rows, rest });
                }
                TopicsEffect::Propose(_) | TopicsEffect::Answer { .. } => {}
            }
        }
    }

    /// Everything that is on its way arrives, and what comes of it.
    fn settle(&mut self) {
        loop {
            if let Some(frame) = self.to_leader.pop_front() {
                let partition = PartitionId(frame.partition as u16);
                if !self.goes(&frame) {
                    continue;
                }
                if self.leaders.contains_key(&partition) {
                    self.lead(partition, TopicsInput::Frame { from: NODE, frame });
                } else {
                    let said = Some(TopicSaid::Refused(Refused::default()));
                    self.to_node.push_back(TopicFrame { said, ..frame });
                }
            } else if let Some(frame) = self.to_node.pop_front() {
                if self.goes(&frame) {
                    let from = LEADER;
                    self.feed(SubscribersInput::Frame { from, frame });
                }
            } else {
                return;
            }
        }
    }

    fn goes(&mut self, frame: &TopicFrame) -> bool {
        let said = frame.said.clone().expect("frames say something");
        let way = (self.way)(&said);
        if way == Way::Through {
            self.said.push(said);
        }
        if way == Way::Refused {
            let unsent = UnsentDelivery::of(&crate::topics::Frame::Topic(frame.clone()));
            let unsent = unsent.expect("a delivery");
            self.lead(unsent.partition, TopicsInput::NotSent { to: NODE, unsent });
        }
        way == Way::Through
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while self.now < end {
            self.now = self.now + STEP;
            if self
                .subscribers
                .next_deadline()
                .is_some_and(|at| at <= self.now)
            {
                self.feed(SubscribersInput::Tick);
            }
            let due = self.leaders.iter();
            let due =
                due.filter(|(_, topics)| topics.next_deadline().is_some_and(|at| at <= self.now));
            let due: Vec<PartitionId> = due.map(|(partition, _)| *partition).collect();
            for partition in due {
                self.lead(partition, TopicsInput::Tick);
            }
            self.settle();
        }
    }

    /// An event is appended to a topic partition.
    fn publish(&mut self, number: u64) {
        let place = topic(number).partition(0);
        let key = place.key();
        let partition = ghostlight_protocol::hash::partition_of(&key, PARTITIONS);
        let base = self.next.entry(key.to_bytes()).or_default();
        let batch = TopicBatch {
            base: *base,
            appended_ms: 1,
            appended_age_ms: Some(0),
            events: vec![TopicEvent::default()],
        };
        *base += 1;
        let row = TopicRow {
            next: *base,
            first_age_ms: Some(0),
            ..TopicRow::default()
        };
        let (topic, appended) = (key, batch);
        let appended = Appended {
            topic,
            batch: appended,
            row,
        };
        self.lead(partition, TopicsInput::Appended(vec![appended]));
        self.settle();
    }

    /// Subscribers that the leaders have.
    fn counted(&self) -> u64 {
        let groups = self
            .leaders
            .values()
            .flat_map(|topics| topics.groups.values());
        let counts = groups.map(|live| match live {
            Live::Ready(serving) => serving.group.subscribers().count() as u64,
            Live::Loading(_) => 0,
        });
        counts.sum()
    }

    fn count(&self, which: impl Fn(&TopicSaid) -> bool) -> usize {
        self.said.iter().filter(|said| which(said)).count()
    }

    fn attaches(&self) -> usize {
        self.count(|said| matches!(said, TopicSaid::Attach(_)))
    }
}

fn rows_of(keys: Vec<(Family, Bytes)>) -> Vec<(Bytes, Option<Bytes>)> {
    let rows = keys.into_iter().map(|(family, key)| {
        let value = match family {
            Family::Group => GroupRow {
                epoch: EPOCH,
                settings: Some(GroupSettings::default()),
                ..GroupRow::default()
            }
            .encode_to_vec(),
            _ => TopicRow::default().encode_to_vec(),
        };
        (key, Some(Bytes::from(value)))
    });
    rows.collect()
}

/// Forty attachments say nothing for two minutes, and all of them are leased.
#[test]
fn idle_subscriptions_cost_one_word_for_a_partition() {
    let mut bed = Bed::idle(5);
    bed.pass(Duration::from_secs(120));
    let words = bed.count(|said| matches!(said, TopicSaid::Present(_)));
    let expected = 120 / WORD_EVERY.as_secs() as usize * usize::from(PARTITIONS);
    assert!(
        words.abs_diff(expected) <= usize::from(PARTITIONS),
        "{words}"
    );
    assert_eq!(bed.said.len(), 2 * words, "words and their answers alone");
    assert_eq!(bed.counted(), 40);
}

#[test]
fn a_subscriber_that_its_leader_dropped_attaches_after_the_next_word() {
    let mut bed = Bed::idle(5);
    for topics in bed.leaders.values_mut() {
        topics.groups.pop_first();
    }
    assert!(bed.counted() < 40);
    bed.pass(WORD_EVERY + STEP);
    assert_eq!(bed.counted(), 40);
}

/// Its `Detach` is lost. The others go on, it is given up when its lease is over, and they say
/// words again.
#[test]
fn one_that_has_gone_is_kept_by_no_word() {
    let mut bed = Bed::idle(5);
    bed.way = Box::new(|said| match said {
        TopicSaid::Detach(_) => Way::Lost,
        _ => Way::Through,
    });
    let gone = u64::from(TOPIC_PARTITIONS);
    bed.pass(WORD_EVERY);
    bed.feed(SubscribersInput::Unsubscribe(SubscriptionId(4)));
    bed.pass(Duration::from_secs(5));
    assert_eq!(bed.counted(), 40);
    bed.pass(DELIVERY_LEASE);
    assert_eq!(bed.counted(), 40 - gone);
    bed.pass(WORD_EVERY);
    bed.said.clear();
    bed.pass(3 * WORD_EVERY);
    assert_eq!((bed.attaches(), bed.counted()), (0, 40 - gone));
}

/// No word, no answer, or no lease for three minutes: whatever is lost, those who are there are
/// kept.
#[test]
fn lost_words_and_answers_end_no_lease() {
    for lost in [
        |said: &TopicSaid| matches!(said, TopicSaid::Present(_)),
        |said: &TopicSaid| matches!(said, TopicSaid::Counted(_)),
    ] {
        let mut bed = Bed::idle(5);
        bed.way = Box::new(move |said| match lost(said) {
            true => Way::Lost,
            false => Way::Through,
        });
        for _ in 0..1_800 {
            bed.pass(STEP);
            assert_eq!(bed.counted(), 40);
        }
    }
}

#[test]
fn a_leader_of_another_term_is_attached_to() {
    let mut bed = Bed::idle(5);
    bed.term = Term(4);
    for (partition, topics) in &mut bed.leaders {
        *topics = leader(bed.now, *partition, Term(4));
    }
    // Nobody has told the subscribers' node.
    bed.pass(WORD_EVERY + STEP);
    assert_eq!(bed.counted(), 40);
}

#[test]
fn a_node_that_leads_no_more_is_left() {
    let mut bed = Bed::idle(5);
    let leaders = std::mem::take(&mut bed.leaders);
    bed.pass(WORD_EVERY + STEP);
    bed.said.clear();
    bed.pass(Duration::from_secs(2));
    assert!(bed.attaches() >= 40, "{} look for a leader", bed.attaches());
    bed.leaders = leaders;
    bed.pass(Duration::from_secs(2));
    assert_eq!(bed.counted(), 40);
}

/// The epoch that a leader has told of by a frame that was lost is heard of with the next word.
#[test]
fn another_epoch_is_heard_of() {
    let mut bed = Bed::idle(1);
    let before = bed.attaches();
    for topics in bed.leaders.values_mut() {
        for live in topics.groups.values_mut() {
            if let Live::Ready(serving) = live {
                let row = GroupRow {
                    epoch: EPOCH + 1,
                    settings: Some(GroupSettings::default()),
                    ..GroupRow::default()
                };
                serving.group.changed(row, &TopicRow::default());
            }
        }
    }
    bed.pass(WORD_EVERY + STEP);
    assert!(bed.attaches() > before);
    bed.publish(0);
    assert_eq!(bed.events, 1, "it is delivered in the new epoch");
}

#[test]
fn a_first_event_that_was_lost_is_found_out_soon() {
    let mut bed = Bed::idle(1);
    bed.pass(WORD_EVERY);
    bed.way = Box::new(|said| match said {
        TopicSaid::Deliver(_) => Way::Lost,
        _ => Way::Through,
    });
    bed.publish(0);
    bed.way = Box::new(|_| Way::Through);
    assert_eq!(bed.events, 0);
    bed.pass(Duration::from_secs(3));
    assert_eq!(bed.events, 1);
    bed.said.clear();
    bed.pass(Duration::from_secs(9));
    let asked = bed.count(|said| matches!(said, TopicSaid::SpeakUp(_)));
    assert!(
        asked <= 1,
        "one that says what it holds is not asked: {asked}"
    );
}

#[test]
fn an_event_that_could_not_be_sent_comes_as_soon_as_it_can() {
    let mut bed = Bed::idle(1);
    bed.way = Box::new(|said| match said {
        TopicSaid::Deliver(_) => Way::Refused,
        _ => Way::Through,
    });
    bed.publish(0);
    bed.pass(Duration::from_secs(1));
    assert_eq!(bed.events, 0);
    bed.way = Box::new(|_| Way::Through);
    bed.pass(Duration::from_millis(200));
    assert_eq!(bed.events, 1);
}
