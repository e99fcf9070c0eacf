//! Topics in the node: each open leadership serves its topic partitions, and the node's own
//! subscribers are attached wherever their leaders are.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::topic::{Refused, TopicFrame, TopicSaid};

use super::calls::RouteView;
use super::{Cluster, Local, NodeCore};
use crate::io::{Effect, Lane, Now};
use crate::topics::subscribers::{SubscribersEffect, SubscribersInput, Told};
use crate::topics::{TopicCounters, Topics, TopicsEffect, TopicsInput};
use crate::turns::Load;

/// All frames about topics: in order within a node pair.
const LANE: Lane = Lane::Push;

impl NodeCore {
    pub(super) fn feed_topics(
        &mut self,
        now: Now,
        partition: PartitionId,
        input: TopicsInput,
        out: &mut Vec<Effect>,
    ) {
        let wall = self.links.agreed_wall(now.wall);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let load = slot.row.as_ref().map(Load::of).unwrap_or_default();
        let age = slot.age(now.instant);
        let Some(term) = slot.serving().map(|(term, _)| term) else {
            if let TopicsInput::Call { from, .. } = input {
                self.redirect(from, partition, out);
            }
            return;
        };
        let work = |topics: &mut Topics, effects: &mut Vec<TopicsEffect>| {
            topics.note(wall, age, load);
            topics.handle(now.instant, input, effects);
        };
        self.drive_topics(now, (partition, term), work, out);
    }

    /// Lets the topics of an open leadership do something, counts what it has changed, and does
    /// what they want.
    fn drive_topics(
        &mut self,
        now: Now,
        (partition, term): (PartitionId, Term),
        work: impl FnOnce(&mut Topics, &mut Vec<TopicsEffect>),
        out: &mut Vec<Effect>,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let slot = cluster.slot_mut(partition);
        let Some(serving) = slot.and_then(|slot| slot.serving_mut(term)) else {
            return;
        };
        let topics = &mut serving.topics;
        let mut effects = Vec::new();
        let before = (topics.call_bytes(), topics.counters());
        work(topics, &mut effects);
        let after = (topics.call_bytes(), topics.counters());
        let (due, again) = (topics.next_deadline(), topics.wants_flush());
        if again {
            cluster.topics_touched.insert(partition);
        }
        cluster.recount(before.0, after.0);
        cluster.topic_counts.add(before.1, after.1);
        cluster.set_topics_due(partition, due);
        self.topics_effects(now, partition, term, effects, out);
    }

    /// What has happened to topics at leaders on this node since it began.
    #[must_use]
    pub fn topic_counts(&self) -> TopicCounters {
        let cluster = self.cluster.as_ref();
        cluster.map_or_else(TopicCounters::default, |cluster| cluster.topic_counts)
    }

    /// Subscriptions of this node's programs.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        let cluster = self.cluster.as_ref();
        cluster.map_or(0, |cluster| cluster.subscribers.len())
    }

    /// A leadership has opened: when its topics are to be looked at.
    pub(super) fn topics_opened(&mut self, partition: PartitionId, term: Term) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let slot = cluster.slot_mut(partition);
        let serving = slot.and_then(|slot| slot.serving_mut(term));
        let due = serving.and_then(|serving| serving.topics.next_deadline());
        cluster.set_topics_due(partition, due);
    }

    /// Proposes and delivers, once for all that came in this turn of the loop.
    pub(super) fn flush_topics(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let touched = std::mem::take(&mut cluster.topics_touched);
        for partition in touched {
            let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
            let Some(slot) = slot else { continue };
            let Some(term) = slot.serving().map(|(term, _)| term) else {
                continue;
            };
            let work = |topics: &mut Topics, effects: &mut Vec<TopicsEffect>| {
                topics.flush(now.instant, effects);
            };
            self.drive_topics(now, (partition, term), work, out);
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let mut effects = Vec::new();
        cluster.subscribers.flush(now.instant, &mut effects);
        for effect in effects {
            self.subscribers_effect(effect, out);
        }
        self.settle(now, out);
    }

    pub(super) fn topics_effects(
        &mut self,
        now: Now,
        partition: PartitionId,
        term: Term,
        effects: Vec<TopicsEffect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in effects {
            match effect {
                TopicsEffect::Propose(kind) => {
                    if !self.propose(now, partition, term, kind) {
                        self.local
                            .push_front(Local::Topics(partition, TopicsInput::Dropped));
                    }
                }
                TopicsEffect::Read { read, rows } => {
                    self.read_for_topics(partition, term, read, rows, out);
                }
                TopicsEffect::Answer { to, kind } => self.answer(to, kind, out),
                TopicsEffect::Send { to, frame } if to == self.me => {
                    let from = self.me;
                    let input = SubscribersInput::Frame { from, frame };
                    self.local.push_back(Local::Subscribers(input));
                }
                TopicsEffect::Send { to, frame } => out.push(Effect::Send {
                    to,
                    lane: LANE,
                    frame: Frame::Topic(frame),
                }),
            }
        }
    }

    /// What is due by the clock; partitions where nothing is are not looked at.
    pub(super) fn tick_topics(&mut self, now: Now) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let due = cluster.topics_due.iter();
        let due = due.take_while(|(at, _)| *at <= now.instant);
        let due: Vec<PartitionId> = due.map(|(_, partition)| *partition).collect();
        for partition in due {
            cluster.set_topics_due(partition, None);
            self.local
                .push_back(Local::Topics(partition, TopicsInput::Tick));
        }
        let subscribers = cluster.subscribers.next_deadline();
        if subscribers.is_some_and(|at| at <= now.instant) {
            let input = SubscribersInput::Tick;
            self.local.push_back(Local::Subscribers(input));
        }
    }

    pub(super) fn take_topic_frame(
        &mut self,
        from: NodeId,
        frame: TopicFrame,
        out: &mut Vec<Effect>,
    ) {
        match &frame.said {
            Some(
                TopicSaid::Attach(_)
                | TopicSaid::Detach(_)
                | TopicSaid::Verdicts(_)
                | TopicSaid::Present(_),
            ) => {
                self.hand_to_topic_leader(from, frame, out);
            }
            Some(
                TopicSaid::Attached(_)
                | TopicSaid::Refused(_)
                | TopicSaid::Deliver(_)
                | TopicSaid::Confirm(_)
                | TopicSaid::Counted(_)
                | TopicSaid::SpeakUp(_),
            )
            | None => {
                if let Some(TopicSaid::Refused(Refused {
                    hint: Some(hint), ..
                })) = &frame.said
                {
                    self.take_hints(vec![hint.clone()]);
                }
                let input = SubscribersInput::Frame { from, frame };
                self.local.push_back(Local::Subscribers(input));
            }
        }
    }

    fn hand_to_topic_leader(&mut self, from: NodeId, frame: TopicFrame, out: &mut Vec<Effect>) {
        let Ok(partition) = u16::try_from(frame.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        let Some(cluster) = &self.cluster else {
            return;
        };
        if cluster
            .slot(partition)
            .is_some_and(|s| s.serving().is_some())
        {
            let input = TopicsInput::Frame { from, frame };
            self.local.push_back(Local::Topics(partition, input));
            return;
        }
        let refused = Refused {
            hint: cluster.routes.hint(partition),
            ..Refused::default()
        };
        // Of the term that is known: an older one would not be heard.
        let term = refused.hint.as_ref().map_or(frame.term, |hint| hint.term);
        let frame = TopicFrame {
            term,
            said: Some(TopicSaid::Refused(refused)),
            ..frame
        };
        if from == self.me {
            let input = SubscribersInput::Frame { from, frame };
            self.local.push_back(Local::Subscribers(input));
        } else {
            out.push(Effect::Send {
                to: from,
                lane: LANE,
                frame: Frame::Topic(frame),
            });
        }
    }

    pub(super) fn feed_subscribers(
        &mut self,
        now: Now,
        input: SubscribersInput,
        out: &mut Vec<Effect>,
    ) {
        let Some(Cluster {
            subscribers,
            routes,
            table,
            ..
        }) = &mut self.cluster
        else {
            if let SubscribersInput::Subscribe { id, .. } = input {
                let detail =
                    "this node has not joined a cluster yet. Try again, or ask another node";
                let told = Told::Over {
                    code: Code::NotJoined,
                    detail: detail.to_owned(),
                };
                out.push(Effect::Subscriber(id, told));
            }
            return;
        };
        let view = RouteView {
            me: self.me,
            links: &self.links,
            routes,
            table,
        };
        let mut effects = Vec::new();
        subscribers.handle(now.instant, input, &view, &mut effects);
        for effect in effects {
            self.subscribers_effect(effect, out);
        }
    }

    fn subscribers_effect(&mut self, effect: SubscribersEffect, out: &mut Vec<Effect>) {
        match effect {
            SubscribersEffect::Send { to, frame } if to == self.me => {
                self.take_topic_frame(to, frame, out);
            }
            SubscribersEffect::Send { to, frame } => out.push(Effect::Send {
                to,
                lane: LANE,
                frame: Frame::Topic(frame),
            }),
            SubscribersEffect::Tell(id, told) => out.push(Effect::Subscriber(id, told)),
        }
    }

    /// The node ends: its subscribers take nothing more.
    pub(super) fn close_subscribers(&mut self) {
        self.local
            .push_back(Local::Subscribers(SubscribersInput::Close));
    }

    /// Nothing is heard of a node, or frames to it may be lost: leaders count on its subscribers no
    /// longer.
    pub(super) fn topics_silent(&mut self, node: NodeId) {
        for partition in self.partitions_with_subscribers(node) {
            self.local
                .push_back(Local::Topics(partition, TopicsInput::NodeSilent(node)));
        }
    }

    /// A node that was silent speaks.
    pub(super) fn topics_heard(&mut self, node: NodeId) {
        let link = self.links.link(node);
        let Some(run) = link.map(|link| Generation(link.record.generation)) else {
            return;
        };
        for partition in self.partitions_with_subscribers(node) {
            let input = TopicsInput::NodeHeard(node, run);
            self.local.push_back(Local::Topics(partition, input));
        }
    }

    /// At most once for each silence, so that looking at all is no cost.
    fn partitions_with_subscribers(&self, node: NodeId) -> Vec<PartitionId> {
        let slots = self.cluster.iter().flat_map(Cluster::slots);
        let with = slots.filter(|slot| {
            let serving = slot.serving();
            serving.is_some_and(|(_, serving)| serving.topics.knows_node(node))
        });
        with.map(super::Slot::partition).collect()
    }
}

impl Cluster {
    pub(super) fn set_topics_due(&mut self, partition: PartitionId, due: Option<Instant>) {
        let before = match due {
            Some(at) => self.topics_due_of.insert(partition, at),
            None => self.topics_due_of.remove(&partition),
        };
        if before == due {
            return;
        }
        if let Some(at) = before {
            self.topics_due.remove(&(at, partition));
        }
        if let Some(at) = due {
            self.topics_due.insert((at, partition));
        }
    }

    /// A leadership has ended.
    pub(super) fn forget_topics(&mut self, partition: PartitionId) {
        self.set_topics_due(partition, None);
        self.topics_touched.remove(&partition);
    }
}
