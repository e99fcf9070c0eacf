//! The subscribers of one node: attached to the leader of each topic partition, wherever it is.
//!
//! A verdict is kept, and said again, until its leader has confirmed that it is committed; a new
//! leader hears what is held and what was said. So the death of a leader makes no event come twice
//! to a subscriber that lives. While nothing comes, one word is said for all of a partition
//! (`words.rs`). Absent: routing (it asks `Routes`), how events reach the program that subscribes,
//! and whether that program still wants any.

mod attachment;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::{Class, Code};
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::limits::{LEADER_WAIT_MAX, TOPIC_PARTITIONS};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::{ForActor, GroupSettings, TopicEvent, TopicName};
use ghostlight_protocol::wire::topic::{TopicFrame, TopicSaid};

use self::attachment::{Attachment, Heard, Kept};
use self::words::Words;
use crate::gateway::Routes;

/// Subscriptions of one node.
pub const SUBSCRIPTIONS_MAX: usize = 16_384;
/// A group of one node outlives it for so long.
const EACH_NODE_IDLE: Duration = Duration::from_secs(600);
/// Bits of a subscription's number that count; the generation of its node stands above them.
pub(super) const NUMBER_BITS: u32 = 32;

/// A subscription of this node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriptionId(pub u64);

/// What one subscriber wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribing {
    /// From where.
    pub topic: TopicName,
    /// Together with whom.
    pub group: SharedWith,
    /// How its group is served.
    pub settings: GroupSettings,
    /// Whether a group that is there is served so from now on, or stays as it is.
    pub if_there: IfThere,
    /// Events that it holds without a verdict.
    pub credit_events: u32,
    /// Bytes of them.
    pub credit_bytes: u64,
}

/// Who shares the events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SharedWith {
    /// All subscribers of this name.
    Cluster(String),
    /// Those of this name on this node.
    Node(String),
}

/// What a program says of one delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Done.
    Ack,
    /// Again, after a pause.
    Retry(String),
    /// Never again.
    Drop(String),
    /// It becomes a message to an actor, and is done by that.
    Forward(Box<ForActor>),
}

/// What it is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum SubscribersInput {
    /// A program subscribes.
    Subscribe {
        /// The shell's number, another one for each.
        id: SubscriptionId,
        /// What it wants.
        wants: Subscribing,
    },
    /// It has gone, or wants nothing more.
    Unsubscribe(SubscriptionId),
    /// Its verdict on a delivery.
    Verdict {
        /// Whose.
        id: SubscriptionId,
        /// `Told::Event::token`.
        token: u64,
        /// The verdict.
        said: Said,
    },
    /// It was handed to nobody, and its subscription ends: others get it, and it counts as no
    /// delivery.
    GiveBack {
        /// Whose.
        id: SubscriptionId,
        /// `Told::Event::token`.
        token: u64,
    },
    /// The node ends: nothing new is taken, and what is held is settled or given back.
    Close,
    /// A leader speaks.
    Frame {
        /// Which node.
        from: NodeId,
        /// What it says.
        frame: TopicFrame,
    },
    /// Somebody leads a partition.
    Leader {
        /// Which.
        partition: PartitionId,
        /// In which term.
        term: Term,
    },
    /// A connection to a node was made anew: what was on its way may be lost.
    Connected(NodeId),
    /// A deadline has passed.
    Tick,
}

/// What it wants.
#[derive(Clone, PartialEq, Debug)]
pub enum SubscribersEffect {
    /// Speak to a leader, or to who may be one; it may be this node.
    Send {
        /// Receiver.
        to: NodeId,
        /// What.
        frame: TopicFrame,
    },
    /// Tell the program that subscribes.
    Tell(SubscriptionId, Told),
}

/// What a subscriber hears.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    /// Its group exists in every topic partition: what is published from now on is delivered.
    Ready,
    /// Nothing comes any more: the node ends. What was begun may get its verdict, the rest is to be
    /// given back.
    Ending,
    /// The subscription is over; nothing is left of it.
    Over {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
    /// An event.
    Event(Box<ToldEvent>),
}

/// One delivery.
#[derive(Clone, PartialEq, Debug)]
pub struct ToldEvent {
    /// Names it in its verdict.
    pub token: u64,
    /// Topic partition.
    pub number: u16,
    /// Its offset.
    pub offset: u64,
    /// 1 for the first delivery to the group.
    pub attempt: u32,
    /// The event.
    pub event: TopicEvent,
}

/// See the module.
#[derive(Debug)]
pub struct Subscribers {
    me: NodeId,
    generation: Generation,
    partitions: u16,
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Which attachments a partition has.
    places: BTreeMap<PartitionId, BTreeSet<Place>>,
    due: BTreeSet<(Instant, Place)>,
    words: Words,
    /// Attachments with verdicts that were not said yet.
    unsaid: BTreeSet<Place>,
    numbers: BTreeMap<u64, SubscriptionId>,
    last: u64,
    service: Service,
}

/// Whether events are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Open,
    /// The node ends.
    Closing,
}

/// One attachment.
type Place = (SubscriptionId, u16);

#[derive(Debug)]
struct Subscription {
    wants: Subscribing,
    group: String,
    number: u64,
    attachments: Vec<Attachment>,
    stage: Stage,
    last_token: u64,
    tokens: BTreeMap<u64, (u16, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not attached everywhere yet.
    Beginning {
        until: Instant,
    },
    Ready,
    /// Its program has gone, and verdicts of it are not confirmed: what it has acknowledged must
    /// not come to others.
    Leaving {
        until: Instant,
    },
}

impl Subscribers {
    /// Of node `me` in its run `generation`.
    #[must_use]
    pub fn new(me: NodeId, generation: Generation, partitions: u16) -> Self {
        Self {
            me,
            generation,
            partitions,
            subscriptions: BTreeMap::new(),
            places: BTreeMap::new(),
            due: BTreeSet::new(),
            words: Words::default(),
            unsaid: BTreeSet::new(),
            numbers: BTreeMap::new(),
            last: 0,
            service: Service::Open,
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Instant,
        input: SubscribersInput,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        match input {
            SubscribersInput::Subscribe { id, wants } => {
                self.subscribe(now, id, wants, routes, out);
            }
            SubscribersInput::Unsubscribe(id) => match self.service {
                Service::Open => self.leave(now, id, out),
                Service::Closing => self.give_all_back(id),
            },
            SubscribersInput::Verdict { id, token, said } => self.verdict(now, id, token, said),
            SubscribersInput::GiveBack { id, token } => self.give_back(id, token),
            SubscribersInput::Close => self.close(now, out),
            SubscribersInput::Frame { from, frame } if frame.topic.is_empty() => {
                self.partition_frame(now, from, &frame, routes, out);
            }
            SubscribersInput::Frame { from, frame } => self.frame(now, from, frame, routes, out),
            SubscribersInput::Leader { partition, term } => {
                for place in self.places_of(partition) {
                    if self.at(place).is_some_and(|a| a.term() < term) {
                        self.attach(now, place, routes, out);
                    }
                }
            }
            SubscribersInput::Connected(node) => self.renew_at(now, node, out),
            SubscribersInput::Tick => {
                self.tick(now, routes, out);
                self.tick_words(now, out);
            }
        }
    }

    /// Says what was not said yet.
    pub fn flush(&mut self, now: Instant, out: &mut Vec<SubscribersEffect>) {
        for place in std::mem::take(&mut self.unsaid) {
            let Some(subscription) = self.subscriptions.get_mut(&place.0) else {
                continue;
            };
            if let Some(attachment) = subscription.attachments.get_mut(usize::from(place.1)) {
                out.extend(attachment.say_verdicts(now, Kept::Unsaid));
                let (group, wants) = (&subscription.group, &subscription.wants);
                out.extend(attachment.say_returned(now, group, wants));
            }
            self.reschedule(place);
        }
    }

    /// Whether `flush` has something to say.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// When to call `handle` with `Tick`, if nothing else happens first.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let own = self.due.first().map(|(at, _)| *at);
        [own, self.words.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the leaders know, while the node ends, that nothing is held here: no verdict is lost
    /// with it, and nothing that it had counts as failed.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        let all = self.subscriptions.values();
        let mut attachments = all.flat_map(|subscription| &subscription.attachments);
        attachments.all(Attachment::is_settled)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    fn subscribe(
        &mut self,
        now: Instant,
        id: SubscriptionId,
        mut wants: Subscribing,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        if self.service == Service::Closing {
            let told = Told::Over {
                code: Code::ShuttingDown,
                detail: "this node is ending. Ask another node".to_owned(),
            };
            return out.push(SubscribersEffect::Tell(id, told));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let told = Told::Over {
                code: Code::TopicBusy,
                detail: format!(
                    "this node has {SUBSCRIPTIONS_MAX} subscriptions, which is as many as it may have; end \
                     some, or subscribe at another node"
                ),
            };
            return out.push(SubscribersEffect::Tell(id, told));
        }
        let group = match &wants.group {
            SharedWith::Cluster(name) => name.clone(),
            SharedWith::Node(name) => {
                wants.settings.idle_ms = EACH_NODE_IDLE.as_millis() as u64;
                format!("{name}@{:?}", self.me)
            }
        };
        self.last += 1;
        let number = (self.generation.0 << NUMBER_BITS) | self.last;
        let attachments = wants.topic.partitions().map(|topic| {
            let key = topic.key();
            let partition = partition_of(&key, self.partitions);
            Attachment::new(now, partition, key, &group, number)
        });
        let attachments: Vec<Attachment> = attachments.collect();
        for (at, attachment) in (0..).zip(&attachments) {
            let place = (id, at);
            let partition = attachment.partition();
            self.places.entry(partition).or_default().insert(place);
            self.words.begin(now, partition);
        }
        let until = now + LEADER_WAIT_MAX;
        self.numbers.insert(number, id);
        self.subscriptions.insert(
            id,
            Subscription {
                wants,
                group,
                number,
                attachments,
                stage: Stage::Beginning { until },
                last_token: 0,
                tokens: BTreeMap::new(),
            },
        );
        for at in 0..TOPIC_PARTITIONS {
            self.attach(now, (id, at), routes, out);
        }
    }

    fn at(&self, (id, at): Place) -> Option<&Attachment> {
        let subscription = self.subscriptions.get(&id)?;
        subscription.attachments.get(usize::from(at))
    }

    fn at_mut(&mut self, (id, at): Place) -> Option<&mut Attachment> {
        let subscription = self.subscriptions.get_mut(&id)?;
        subscription.attachments.get_mut(usize::from(at))
    }

    fn places_of(&self, partition: PartitionId) -> Vec<Place> {
        let places = self.places.get(&partition);
        places.map_or_else(Vec::new, |places| places.iter().copied().collect())
    }

    /// Asks whoever may lead.
    fn attach(
        &mut self,
        now: Instant,
        place: Place,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let Some(subscription) = self.subscriptions.get_mut(&place.0) else {
            return;
        };
        let Some(attachment) = subscription.attachments.get_mut(usize::from(place.1)) else {
            return;
        };
        out.extend(attachment.search(now, &subscription.group, &subscription.wants, routes));
        self.reschedule(place);
    }

    fn reschedule(&mut self, place: Place) {
        let Some(attachment) = self.at_mut(place) else {
            return;
        };
        let (before, after) = attachment.reschedule();
        if let Some(at) = before {
            self.due.remove(&(at, place));
        }
        if let Some(at) = after {
            self.due.insert((at, place));
        }
    }

    fn tick(&mut self, now: Instant, routes: &dyn Routes, out: &mut Vec<SubscribersEffect>) {
        while let Some((at, place)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some(subscription) = self.subscriptions.get_mut(&place.0) else {
                continue;
            };
            if let Stage::Leaving { until } = subscription.stage
                && until <= now
            {
                self.end(place.0, out);
                continue;
            }
            if let Stage::Beginning { until } = subscription.stage
                && until <= now
            {
                let detail = format!(
                    "{}: no leader of all its partitions was found in time. Nothing is subscribed; try \
                     again, and see whether a majority of the nodes is up",
                    subscription.wants.topic
                );
                let code = Code::NoLeader;
                self.end(place.0, out);
                let told = Told::Over { code, detail };
                out.push(SubscribersEffect::Tell(place.0, told));
                continue;
            }
            let Some(attachment) = subscription.attachments.get_mut(usize::from(place.1)) else {
                continue;
            };
            attachment.forget_deadline();
            let said = attachment.due(now, &subscription.group, &subscription.wants, routes);
            out.extend(said);
            self.reschedule(place);
        }
    }

    fn renew_at(&mut self, now: Instant, node: NodeId, out: &mut Vec<SubscribersEffect>) {
        for (id, subscription) in &mut self.subscriptions {
            for (at, attachment) in (0..).zip(&mut subscription.attachments) {
                if attachment.leader() == Some(node) {
                    let renew = attachment.renew(now, &subscription.group, &subscription.wants);
                    out.extend(renew);
                    out.extend(attachment.say_verdicts(now, Kept::All));
                    self.unsaid.insert((*id, at));
                }
            }
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        from: NodeId,
        frame: TopicFrame,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let Some(place) = self.place_of(&frame.topic, frame.subscriber) else {
            return Self::disown(from, &frame, out);
        };
        let Some(subscription) = self.subscriptions.get_mut(&place.0) else {
            return;
        };
        let Some(attachment) = subscription.attachments.get_mut(usize::from(place.1)) else {
            return;
        };
        let term = Term(frame.term);
        let heard = attachment.hear(now, from, term, frame.said);
        match heard {
            Heard::Nothing => {}
            Heard::Attached { void } => {
                for token in void {
                    subscription.tokens.remove(&token);
                }
                let said = attachment.say_verdicts(now, Kept::All);
                out.extend(said);
                let all = subscription.attachments.iter().all(Attachment::is_attached);
                if all && matches!(subscription.stage, Stage::Beginning { .. }) {
                    subscription.stage = Stage::Ready;
                    out.push(SubscribersEffect::Tell(place.0, Told::Ready));
                }
            }
            Heard::Lost => self.attach(now, place, routes, out),
            Heard::Refused { code, detail } => {
                self.refused(now, place, code, detail);
            }
            Heard::Events { events, gap } => {
                for event in events {
                    subscription.last_token += 1;
                    let token = subscription.last_token;
                    let offset = event.offset;
                    if let Some(before) = attachment.hold(&event, token) {
                        subscription.tokens.remove(&before);
                    }
                    subscription.tokens.insert(token, (place.1, offset));
                    let told = ToldEvent {
                        token,
                        number: place.1,
                        offset,
                        attempt: event.attempt,
                        event: event.event.unwrap_or_default(),
                    };
                    let told = Told::Event(Box::new(told));
                    out.push(SubscribersEffect::Tell(place.0, told));
                }
                if gap {
                    out.extend(attachment.renew(now, &subscription.group, &subscription.wants));
                }
                self.unsaid.insert(place);
            }
            Heard::AskedToSpeak => {
                out.extend(attachment.renew(now, &subscription.group, &subscription.wants));
            }
            Heard::Confirmed(tokens) => {
                for token in tokens {
                    subscription.tokens.remove(&token);
                }
            }
        }
        if let Some((code, detail)) = self.over(place) {
            self.end(place.0, out);
            let told = Told::Over { code, detail };
            out.push(SubscribersEffect::Tell(place.0, told));
            return;
        }
        self.reschedule(place);
        self.end_if_left(place.0, out);
    }

    /// An answer to a word about a whole partition.
    fn partition_frame(
        &mut self,
        now: Instant,
        from: NodeId,
        frame: &TopicFrame,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let Ok(partition) = u16::try_from(frame.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        match &frame.said {
            Some(TopicSaid::Counted(counted)) => self.counted(now, from, partition, *counted, out),
            Some(TopicSaid::Refused(_)) => self.does_not_lead(now, from, partition, routes, out),
            Some(
                TopicSaid::Attach(_)
                | TopicSaid::Detach(_)
                | TopicSaid::Verdicts(_)
                | TopicSaid::Attached(_)
                | TopicSaid::Deliver(_)
                | TopicSaid::Confirm(_)
                | TopicSaid::Present(_)
                | TopicSaid::SpeakUp(_),
            )
            | None => {}
        }
    }

    /// A refusal that trying again does not change ends the subscription.
    fn refused(&mut self, now: Instant, place: Place, code: Code, detail: String) {
        if let Some(attachment) = self.at_mut(place) {
            attachment.refused(now, code, detail);
        }
    }

    fn over(&self, place: Place) -> Option<(Code, String)> {
        let (code, detail) = self.at(place)?.refusal()?;
        let again = matches!(
            code.class(),
            Class::Retry | Class::Overloaded | Class::Unknown
        );
        (!again).then(|| (*code, detail.clone()))
    }

    fn place_of(&self, topic: &Bytes, number: u64) -> Option<Place> {
        let id = self.numbers.get(&number)?;
        let subscription = self.subscriptions.get(id)?;
        let mut attachments = (0..).zip(&subscription.attachments);
        let (at, _) = attachments.find(|(_, attachment)| attachment.is_of(topic))?;
        Some((*id, at))
    }

    /// A leader delivers to a subscriber that has gone.
    fn disown(from: NodeId, frame: &TopicFrame, out: &mut Vec<SubscribersEffect>) {
        if let Some(TopicSaid::Deliver(_) | TopicSaid::Attached(_) | TopicSaid::SpeakUp(_)) =
            frame.said
        {
            let frame = TopicFrame {
                said: Some(TopicSaid::Detach(
                    ghostlight_protocol::wire::topic::Detach {},
                )),
                ..frame.clone()
            };
            out.push(SubscribersEffect::Send { to: from, frame });
        }
    }

    fn verdict(&mut self, now: Instant, id: SubscriptionId, token: u64, said: Said) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        // Void, because the group was moved meanwhile.
        let Some((at, offset)) = subscription.tokens.get(&token).copied() else {
            return;
        };
        if let Some(attachment) = subscription.attachments.get_mut(usize::from(at)) {
            attachment.verdict(now, offset, token, said);
            self.unsaid.insert((id, at));
        }
    }

    fn give_back(&mut self, id: SubscriptionId, token: u64) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let Some((at, offset)) = subscription.tokens.remove(&token) else {
            return;
        };
        if let Some(attachment) = subscription.attachments.get_mut(usize::from(at)) {
            attachment.give_back(offset, token);
            self.unsaid.insert((id, at));
        }
    }

    /// Its program has gone: what has no verdict gets none.
    fn give_all_back(&mut self, id: SubscriptionId) {
        let subscription = self.subscriptions.get(&id);
        let tokens = subscription.map(|s| s.tokens.keys().copied().collect());
        let tokens: Vec<u64> = tokens.unwrap_or_default();
        for token in tokens {
            if self.is_open(id, token) {
                self.give_back(id, token);
            }
        }
    }

    fn is_open(&self, id: SubscriptionId, token: u64) -> bool {
        let subscription = self.subscriptions.get(&id);
        let place = subscription.and_then(|s| s.tokens.get(&token));
        place.is_some_and(|(at, offset)| {
            let attachment = self.at((id, *at));
            attachment.is_some_and(|attachment| attachment.is_open(*offset))
        })
    }

    /// Its program has gone. It stays until the leaders have confirmed what the program said,
    /// within bounds.
    fn leave(&mut self, now: Instant, id: SubscriptionId, out: &mut Vec<SubscribersEffect>) {
        let Some(subscription) = self.subscriptions.get(&id) else {
            return;
        };
        if !subscription.attachments.iter().any(Attachment::owes) {
            return self.end(id, out);
        }
        self.give_all_back(id);
        let Some(subscription) = self.subscriptions.get_mut(&id) else {
            return;
        };
        let until = now + LEADER_WAIT_MAX;
        subscription.stage = Stage::Leaving { until };
        let mut places = Vec::new();
        for (at, attachment) in (0..).zip(&mut subscription.attachments) {
            out.extend(attachment.close(now, &subscription.group, &subscription.wants));
            places.push((id, at));
        }
        for place in places {
            self.reschedule(place);
        }
    }

    fn end_if_left(&mut self, id: SubscriptionId, out: &mut Vec<SubscribersEffect>) {
        let left = self.subscriptions.get(&id).is_some_and(|subscription| {
            let leaving = matches!(subscription.stage, Stage::Leaving { .. });
            leaving && !subscription.attachments.iter().any(Attachment::owes)
        });
        if left {
            self.end(id, out);
        }
    }

    fn close(&mut self, now: Instant, out: &mut Vec<SubscribersEffect>) {
        if self.service == Service::Closing {
            return;
        }
        self.service = Service::Closing;
        let mut places = Vec::new();
        for (id, subscription) in &mut self.subscriptions {
            for (at, attachment) in (0..).zip(&mut subscription.attachments) {
                out.extend(attachment.close(now, &subscription.group, &subscription.wants));
                places.push((*id, at));
            }
            out.push(SubscribersEffect::Tell(*id, Told::Ending));
        }
        for place in places {
            self.reschedule(place);
        }
    }

    fn end(&mut self, id: SubscriptionId, out: &mut Vec<SubscribersEffect>) {
        let Some(mut subscription) = self.subscriptions.remove(&id) else {
            return;
        };
        self.numbers.remove(&subscription.number);
        for (at, attachment) in (0..).zip(&mut subscription.attachments) {
            let place = (id, at);
            if let Some(places) = self.places.get_mut(&attachment.partition()) {
                places.remove(&place);
                if places.is_empty() {
                    self.places.remove(&attachment.partition());
                    self.words.end(attachment.partition());
                }
            }
            self.unsaid.remove(&place);
            if let Some(due) = attachment.forget_deadline() {
                self.due.remove(&(due, place));
            }
            out.extend(attachment.say_verdicts(Instant::default(), Kept::Unsaid));
            out.extend(attachment.detach());
        }
    }
}
