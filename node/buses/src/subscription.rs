//! A subscription: a stream of deliveries, each of which wants a verdict.
//!
//! A bus hands deliveries out as it likes ([`SubscriptionFeed`]), or keeps them until they are
//! asked for ([`Source`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::{CREDIT_BYTES_DEFAULT, CREDIT_EVENTS_DEFAULT};
use ghostlight_protocol::text;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::{ForActor, Order, Purpose, TopicName};
use tokio::sync::{mpsc, watch};

use super::bus::SubscribeError;
use super::event::Event;
use super::source::{Source, Taken};

/// What a subscriber wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// From where.
    pub topic: TopicName,
    /// Together with whom.
    pub group: Group,
    /// Whether a group that is there is served from now on as is said below.
    pub existing: Existing,
    /// Where a new group begins; one that exists goes on where it stands.
    pub start: Start,
    /// Which events wait for each other.
    pub order: Order,
    /// How many events it holds at once without a verdict.
    pub credits: Credits,
    /// Deliveries of one event, the first included, before it is a dead letter; `None`: 10.
    pub max_deliver: Option<u32>,
    /// Who gives up an event that fails.
    pub give_up: GiveUp,
    /// Topic of the same component for dead letters; `None`: those whose deliveries all failed are
    /// parked with the group (`dead-letters list`), dropped and expired ones are passed over.
    pub dead_letter_topic: Option<String>,
    /// First pause before a redelivery, and the longest; `None`: 100 ms, doubling to 30 s.
    pub retry_pauses: Option<(Duration, Duration)>,
    /// `Forward`: every delivery that succeeds ends with [`Delivery::forward`]. Of a bus with
    /// `Feature::Forward` alone.
    pub purpose: Purpose,
    /// What the subscription says beside that, for the bus that knows it: RabbitMQ's `queueType`,
    /// `maxPriority` and `queueName`.
    pub metadata: BTreeMap<String, String>,
}

/// Who shares the events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Group {
    /// Each event goes to one subscriber of this name, on whatever node (`consumerID`, else the
    /// app-id).
    Shared(String),
    /// Each event goes to every node that has a subscriber of this name; within a node it goes to
    /// one. The cursor is kept for ten minutes after the node has gone.
    EachNode(String),
}

/// What a subscriber does to a group that is there. Of Ghostlight's own topics alone: another bus
/// has its own rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// It is served as this subscriber says.
    Change,
    /// It is served as it was: this one looks on, and what it says counts where there is no group
    /// yet.
    Leave,
}

impl Group {
    /// What a bus elsewhere calls it: there a node's own group needs a name that no other node's
    /// has.
    #[must_use]
    pub fn name_on(&self, instance: &str) -> String {
        match self {
            Self::Shared(name) => name.clone(),
            Self::EachNode(name) => format!("{name}-{instance}"),
        }
    }
}

/// Who gives up an event that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GiveUp {
    /// The bus: after `max_deliver` deliveries, or as its component says.
    Bus,
    /// The subscriber, by dead letters of its own: what it asks for again comes again, however
    /// often.
    Subscriber,
}

/// Where a new group begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// At the oldest event that is kept.
    First,
    /// After the newest one.
    Last,
    /// At the first one appended at or after a time.
    Time(WallTime),
}

/// Bounds of what one subscriber holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credits {
    /// Events.
    pub events: u32,
    /// Bytes of their payloads; one event may exceed them alone.
    pub bytes: u64,
}

impl Default for Credits {
    fn default() -> Self {
        Self {
            events: CREDIT_EVENTS_DEFAULT,
            bytes: CREDIT_BYTES_DEFAULT,
        }
    }
}

impl Subscribe {
    /// A subscription with every default.
    #[must_use]
    pub fn new(topic: TopicName, group: impl Into<String>) -> Self {
        Self {
            topic,
            group: Group::Shared(group.into()),
            existing: Existing::Change,
            start: Start::First,
            order: Order::Key,
            credits: Credits::default(),
            max_deliver: None,
            give_up: GiveUp::Bus,
            dead_letter_topic: None,
            retry_pauses: None,
            purpose: Purpose::Handle,
            metadata: BTreeMap::new(),
        }
    }

    /// For buses whose log is not the actors': they cannot settle an event with the message that it
    /// becomes.
    ///
    /// # Errors
    /// When events are to become messages to actors.
    pub fn handled_here(&self) -> Result<(), SubscribeError> {
        match self.purpose {
            Purpose::Handle => Ok(()),
            Purpose::Forward => Err(SubscribeError {
                code: Code::InvalidArgument,
                detail: format!(
                    "topic \"{}\": only topics of Ghostlight's own components give each event to an actor exactly \
                     once; leave actorType out, and let a route call the actor",
                    self.topic.topic()
                ),
            }),
        }
    }

    /// A subscription whose events become messages to actors: each exactly once, in the order of
    /// its topic partition.
    #[must_use]
    pub fn for_actors(topic: TopicName, group: impl Into<String>) -> Self {
        Self {
            order: Order::Partition,
            purpose: Purpose::Forward,
            ..Self::new(topic, group)
        }
    }
}

/// What became of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Done: never again.
    Ack,
    /// Not now: again after a pause, up to `max_deliver` times.
    Retry(String),
    /// Never: to the dead-letter topic if there is one, else passed over.
    Drop(String),
    /// It becomes a message to an actor, in the very entry that settles it.
    Forward(Box<ForActor>),
    /// Handed to nobody before the subscription ended: for whoever else subscribes, and counted as
    /// no delivery.
    GiveBack,
}

/// A verdict on its way to the bus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    /// What the bus called the delivery.
    pub token: u64,
    /// The verdict.
    pub verdict: Verdict,
}

/// One event for one subscriber. Dropped without a verdict it counts as `Retry`, and as `GiveBack`
/// once its subscription is over.
#[derive(Debug)]
pub struct Delivery {
    /// The topic.
    pub topic: TopicName,
    /// Topic partition; 0 on external buses.
    pub partition: u16,
    /// Its offset there; on external buses whatever counts there.
    pub offset: u64,
    /// 1 for its first delivery to the group.
    pub attempt: u32,
    /// When it was published, by the publisher's node.
    pub published: WallTime,
    /// Events of this subscription that were lost just before this one; none on a bus that loses
    /// none.
    pub missed: u64,
    /// The event.
    pub event: Event,
    settle: Settle,
}

#[derive(Debug)]
struct Settle {
    token: u64,
    /// Who gets the verdict; nobody any more once it is given.
    judge: Judge,
    life: Arc<watch::Sender<Life>>,
}

#[derive(Debug)]
enum Judge {
    Feed(mpsc::Sender<Settlement>),
    Source(Arc<dyn Source>),
    Nobody,
}

/// How long a subscription lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Goes,
    /// Its bus ends it.
    Ended,
    /// Its subscriber has gone.
    Left,
}

impl Settle {
    fn say(&mut self, verdict: Verdict) {
        match std::mem::replace(&mut self.judge, Judge::Nobody) {
            Judge::Feed(settlements) => {
                // There is room for as many verdicts as deliveries are out; a bus that has gone
                // wants none.
                drop(settlements.try_send(Settlement {
                    token: self.token,
                    verdict,
                }));
            }
            Judge::Source(source) => source.settled(&verdict),
            Judge::Nobody => {}
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        let verdict = match *self.life.borrow() {
            Life::Goes => {
                let why = "the subscriber dropped the delivery without a verdict";
                Verdict::Retry(why.to_owned())
            }
            Life::Ended | Life::Left => Verdict::GiveBack,
        };
        self.say(verdict);
    }
}

impl Delivery {
    /// Done.
    pub fn ack(self) {
        self.settle(Verdict::Ack);
    }

    /// Again, after a pause.
    pub fn retry(self, reason: impl Into<String>) {
        self.settle(Verdict::Retry(reason.into()));
    }

    /// Never again.
    pub fn discard(self, reason: impl Into<String>) {
        self.settle(Verdict::Drop(reason.into()));
    }

    /// It becomes a message to an actor.
    pub fn forward(self, to: ForActor) {
        self.settle(Verdict::Forward(Box::new(to)));
    }

    /// Gives the verdict. Its reason is cut to what can be kept.
    pub fn settle(mut self, verdict: Verdict) {
        self.settle.say(match verdict {
            Verdict::Retry(reason) => Verdict::Retry(text::cut(reason)),
            Verdict::Drop(reason) => Verdict::Drop(text::cut(reason)),
            Verdict::Ack | Verdict::Forward(_) | Verdict::GiveBack => verdict,
        });
    }

    /// Whether its subscription is over: what was not begun should be dropped, others get it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.settle.life.borrow() != Life::Goes
    }
}

/// The subscriber's end. Dropped, it unsubscribes: what it holds is delivered to others, and
/// counted as no delivery.
#[derive(Debug)]
pub struct Subscription {
    deliveries: Deliveries,
    paused: Arc<AtomicBool>,
    life: Arc<watch::Sender<Life>>,
    ended: watch::Receiver<Life>,
}

#[derive(Debug)]
enum Deliveries {
    Queue(mpsc::Receiver<Delivery>),
    Source(Arc<dyn Source>),
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // Before what waits in the queue is dropped.
        self.life.send_replace(Life::Left);
        if let Deliveries::Source(source) = &self.deliveries {
            source.left();
        }
    }
}

/// By which the owner of a source ends its subscription.
#[derive(Clone, Debug)]
pub struct Ending(Arc<watch::Sender<Life>>);

impl Ending {
    /// As [`SubscriptionFeed::end`].
    pub fn end(&self) {
        self.0.send_if_modified(|life| {
            let goes = *life == Life::Goes;
            if goes {
                *life = Life::Ended;
            }
            goes
        });
    }
}

/// The bus's end.
#[derive(Debug)]
pub struct SubscriptionFeed {
    /// Deliveries go in here; closed when the subscriber has gone.
    deliveries: mpsc::Sender<Delivery>,
    settled: mpsc::Sender<Settlement>,
    paused: Arc<AtomicBool>,
    life: Arc<watch::Sender<Life>>,
}

/// Tells when a subscriber has gone.
#[derive(Debug)]
pub struct Farewell(watch::Receiver<Life>);

impl Farewell {
    /// Returns when it has; its verdicts up to then are on their way out of the channel.
    pub async fn wait(&mut self) {
        // Without a sender nobody is there either.
        drop(self.0.wait_for(|life| *life == Life::Left).await);
    }
}

impl Subscription {
    /// The two ends, and where verdicts come out. `events` deliveries may be out at once.
    #[must_use]
    pub fn channel(events: u32) -> (SubscriptionFeed, Self, mpsc::Receiver<Settlement>) {
        let room = (events as usize).max(1);
        let (deliveries, receiver) = mpsc::channel(room);
        let (settled, settlements) = mpsc::channel(room);
        let paused = Arc::new(AtomicBool::new(false));
        let (life, ended) = watch::channel(Life::Goes);
        let life = Arc::new(life);
        let feed = SubscriptionFeed {
            deliveries,
            settled,
            paused: Arc::clone(&paused),
            life: Arc::clone(&life),
        };
        let subscription = Self {
            deliveries: Deliveries::Queue(receiver),
            paused,
            life,
            ended,
        };
        (feed, subscription, settlements)
    }

    /// Of a bus that keeps its events until they are asked for, and what ends it.
    #[must_use]
    pub fn of_source(source: Arc<dyn Source>) -> (Ending, Self) {
        let (life, ended) = watch::channel(Life::Goes);
        let life = Arc::new(life);
        let subscription = Self {
            deliveries: Deliveries::Source(source),
            paused: Arc::new(AtomicBool::new(false)),
            life: Arc::clone(&life),
            ended,
        };
        (Ending(life), subscription)
    }

    /// The next delivery; `None`: the bus has ended the subscription. What was not taken by then is
    /// given back; what was may still get its verdict.
    pub async fn next(&mut self) -> Option<Delivery> {
        let deliveries = match &mut self.deliveries {
            Deliveries::Queue(deliveries) => deliveries,
            Deliveries::Source(source) => {
                let source = Arc::clone(source);
                return self.next_of(&source).await;
            }
        };
        tokio::select! {
            biased;
            // The sender lives as long as this.
            _ = self.ended.wait_for(|life| *life != Life::Goes) => {}
            delivery = deliveries.recv() => return delivery,
        }
        while deliveries.try_recv().is_ok() {}
        None
    }

    async fn next_of(&mut self, source: &Arc<dyn Source>) -> Option<Delivery> {
        loop {
            if self.is_over() {
                return None;
            }
            if !self.paused.load(Ordering::Relaxed)
                && let Some(taken) = source.take()
            {
                return Some(self.delivery(source, taken));
            }
            tokio::select! {
                // The sender lives as long as this.
                _ = self.ended.wait_for(|life| *life != Life::Goes) => return None,
                () = source.ready().notified() => {}
            }
        }
    }

    fn delivery(&self, source: &Arc<dyn Source>, taken: Taken) -> Delivery {
        let Taken { content, missed } = taken;
        Delivery {
            topic: content.topic,
            partition: content.partition,
            offset: content.offset,
            attempt: content.attempt,
            published: content.published,
            missed,
            event: content.event,
            settle: Settle {
                token: 0,
                judge: Judge::Source(Arc::clone(source)),
                life: Arc::clone(&self.life),
            },
        }
    }

    /// Whether the bus has ended it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.life.borrow() != Life::Goes
    }

    /// Returns when the bus has ended it, which [`Subscription::next`] says as well.
    pub async fn over(&self) {
        let mut ended = self.ended.clone();
        // The sender lives as long as this.
        drop(ended.wait_for(|life| *life != Life::Goes).await);
    }

    /// From now on nothing new is delivered to this subscriber; what it holds keeps its lease.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Deliveries go on.
    pub fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        if let Deliveries::Source(source) = &self.deliveries {
            source.ready().notify_one();
        }
    }
}

impl SubscriptionFeed {
    /// Hands a delivery over.
    ///
    /// # Errors
    /// The subscriber has gone, or more deliveries are out than it asked for: nothing was
    /// delivered.
    #[expect(
        clippy::result_large_err,
        reason = "what was not delivered goes back to its owner"
    )]
    pub fn deliver(&self, token: u64, content: Content) -> Result<(), Content> {
        let Ok(permit) = self.deliveries.try_reserve() else {
            return Err(content);
        };
        let Content {
            topic,
            partition,
            offset,
            attempt,
            published,
            event,
        } = content;
        permit.send(Delivery {
            topic,
            partition,
            offset,
            attempt,
            published,
            missed: 0,
            event,
            settle: Settle {
                token,
                judge: Judge::Feed(self.settled.clone()),
                life: Arc::clone(&self.life),
            },
        });
        Ok(())
    }

    /// Whether the subscriber has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.deliveries.is_closed()
    }

    /// Resolves when the subscriber has gone.
    pub async fn closed(&self) {
        self.deliveries.closed().await;
    }

    /// Tells when the subscriber has gone.
    #[must_use]
    pub fn farewell(&self) -> Farewell {
        Farewell(self.life.subscribe())
    }

    /// Whether the subscriber has gone, and nobody takes its verdicts any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.is_closed() && self.settled.is_closed()
    }

    /// The bus ends the subscription: the subscriber takes nothing new, and gives back what it has
    /// not begun.
    pub fn end(&self) {
        Ending(Arc::clone(&self.life)).end();
    }

    /// Whether the subscriber wants nothing new at the moment.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

/// What a delivery says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// As in [`Delivery`].
    pub topic: TopicName,
    /// As in [`Delivery`].
    pub partition: u16,
    /// As in [`Delivery`].
    pub offset: u64,
    /// As in [`Delivery`].
    pub attempt: u32,
    /// As in [`Delivery`].
    pub published: WallTime,
    /// As in [`Delivery`].
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(offset: u64) -> Content {
        Content {
            topic: TopicName::new("default", "pubsub", "orders").unwrap(),
            partition: 0,
            offset,
            attempt: 1,
            published: WallTime(5),
            event: Event::default(),
        }
    }

    #[tokio::test]
    async fn every_delivery_has_one_verdict() {
        let (feed, mut subscription, mut settled) = Subscription::channel(4);
        for token in 0..4 {
            feed.deliver(token, content(token)).unwrap();
        }
        assert_eq!(feed.deliver(4, content(4)), Err(content(4)), "no room");
        let verdicts = [
            Verdict::Ack,
            Verdict::Retry("busy".to_owned()),
            Verdict::Drop("bad".to_owned()),
        ];
        for verdict in &verdicts {
            subscription.next().await.unwrap().settle(verdict.clone());
        }
        drop(subscription.next().await);
        for (token, verdict) in verdicts.into_iter().enumerate() {
            let token = token as u64;
            assert_eq!(settled.recv().await, Some(Settlement { token, verdict }));
        }
        let last = settled.recv().await.unwrap();
        assert!(matches!(last.verdict, Verdict::Retry(_)), "{last:?}");
        drop(subscription);
        assert!(feed.is_closed());
        assert_eq!(feed.deliver(5, content(5)), Err(content(5)));
    }

    /// What is left when a subscription is over by either side: nothing of it counts as a failure.
    #[tokio::test]
    async fn what_was_not_begun_is_given_back() {
        for ends in ["subscriber", "bus"] {
            let (feed, mut subscription, mut settled) = Subscription::channel(4);
            for token in 0..3 {
                feed.deliver(token, content(token)).unwrap();
            }
            let taken = subscription.next().await.unwrap();
            let begun = subscription.next().await.unwrap();
            if ends == "bus" {
                feed.end();
                assert!(subscription.next().await.is_none());
            } else {
                drop(subscription);
            }
            assert!(taken.is_over());
            drop(taken);
            begun.ack();
            let mut verdicts = Vec::new();
            for _ in 0..3 {
                let Settlement { token, verdict } = settled.recv().await.unwrap();
                verdicts.push((token, verdict));
            }
            verdicts.sort_by_key(|(token, _)| *token);
            let wanted = [
                (0, Verdict::GiveBack),
                (1, Verdict::Ack),
                (2, Verdict::GiveBack),
            ];
            assert_eq!(verdicts, wanted, "{ends}");
        }
    }

    #[tokio::test]
    async fn a_reason_is_cut_whoever_gives_it() {
        let (feed, mut subscription, mut settled) = Subscription::channel(1);
        feed.deliver(0, content(0)).unwrap();
        let delivery = subscription.next().await.unwrap();
        delivery.settle(Verdict::Drop("x".repeat(1 << 20)));
        let Verdict::Drop(reason) = settled.recv().await.unwrap().verdict else {
            panic!("dropped")
        };
        assert!(reason.len() <= 1 << 12, "{}", reason.len());
    }
}
