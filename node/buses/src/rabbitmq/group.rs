//! One subscription: a queue of its group, a reader with a connection of its own, and the desk of
//! verdicts.
//!
//! An event is lent for as long as its connection lives. A server gives up a connection on which a
//! handler takes longer than its `consumer_timeout` (30 minutes); nothing can renew that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amqprs::FieldValue;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicNackArguments, BasicQosArguments, Channel,
    ConsumerMessage, QueueDeclareArguments,
};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use ghostlight_protocol::topic::{Order, TopicName};
use tokio::sync::{mpsc, oneshot};

use super::RabbitMq;
use super::line::Dialer;
use super::link::{Link, Words, answered, table};
use super::options::{Acknowledge, Concurrency, DeadLetters, Failure, Options, Restart, Unused};
use super::queue::Queue;
use super::words;
use crate::bus::SubscribeError;
use crate::external::{External, not_there};
use crate::keeper::Keeper;
use crate::pump::{Again, Bounds, Desk, End, Out, Over, Room, Taken, begin, doubling, joined};
use crate::subscription::{Content, GiveUp, Subscribe, Subscription};

/// How long the server may take to know a subscription.
const JOIN_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause before a connection is made again.
const READ_PAUSE: Duration = Duration::from_millis(300);
/// How often it is seen that a connection broke while nothing comes.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// Most events that one subscription holds.
const HELD_MAX: u32 = 1_024;
/// Pauses before redeliveries.
const RESTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// See the module.
pub(super) async fn subscribe(
    bus: &External<RabbitMq>,
    subscribe: Subscribe,
    queue: Queue,
) -> Result<Subscription, SubscribeError> {
    let options = Arc::clone(&bus.options);
    let keeper = Arc::clone(&bus.keeper);
    let out = match (subscribe.order, options.concurrency) {
        (Order::Partition, _) => Out::OneByOne,
        (Order::Key | Order::None, Concurrency::Single) => Out::SideBySide(1),
        (Order::Key | Order::None, Concurrency::Parallel) => {
            Out::SideBySide(subscribe.credits.events.clamp(1, HELD_MAX))
        }
    };
    let bounds = Bounds {
        out,
        held: options.prefetch.unwrap_or(1).max(out.most()),
        renewal: None,
        deliver: subscribe.max_deliver,
    };
    let ledger = Arc::new(Ledger::default());
    let (join, outcome) = oneshot::channel();
    let place = Place {
        ledger: Arc::clone(&ledger),
        failure: match subscribe.give_up {
            GiveUp::Bus => options.failure,
            GiveUp::Subscriber => Failure::Again,
        },
        options: Arc::clone(&options),
    };
    let subscription = begin(place, bounds, |room, taken| {
        let reader = Reader {
            options,
            keeper,
            topic: subscribe.topic,
            queue,
            held: bounds.held,
            ledger,
            room,
            taken,
        };
        reader.run(join)
    });
    let known = joined(outcome, JOIN_TIME_MAX).await;
    known.map_err(|why| not_there(format!("RabbitMQ does not know the subscription: {why}")))?;
    Ok(subscription)
}

/// An event that the server lent.
#[derive(Clone)]
pub(super) struct Handle {
    /// Of the connection that lent it.
    epoch: u64,
    number: u64,
    content: Arc<Content>,
}

/// Hears that the server ends a subscription: its queue was deleted, or moved.
struct Hears(Arc<AtomicBool>);

#[async_trait]
impl ChannelCallback for Hears {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        tracing::debug!("RabbitMQ closed the channel of a subscription: {close}");
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, _: Ack) {}

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {}

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

/// A queue that is consumed.
struct Consumed {
    link: Arc<Link>,
    messages: mpsc::UnboundedReceiver<ConsumerMessage>,
    cancelled: Arc<AtomicBool>,
}

/// The connection that lends, while there is one.
#[derive(Default)]
struct Ledger(Mutex<(u64, Option<Arc<Link>>)>);

impl Ledger {
    fn up(&self, link: Arc<Link>) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        state.1 = Some(link);
        state.0
    }

    fn down(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = None;
    }

    /// The connection that lent it; `None`: it has gone, and the event is the server's again.
    fn of(&self, handle: &Handle) -> Option<Arc<Link>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let link = state.1.as_ref().filter(|_| state.0 == handle.epoch);
        link.filter(|link| link.is_whole()).cloned()
    }
}

struct Place {
    ledger: Arc<Ledger>,
    options: Arc<Options>,
    failure: Failure,
}

/// What the server does with an event that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// It goes to whoever is next.
    Requeue,
    /// It is a dead letter, or gone.
    Reject,
}

impl Place {
    fn is_silent(&self) -> bool {
        self.options.acknowledge == Acknowledge::WhenSent
    }

    async fn acknowledge(&self, handle: &Handle) {
        if let Some(link) = self.ledger.of(handle).filter(|_| !self.is_silent()) {
            let told = link
                .channel()
                .basic_ack(BasicAckArguments::new(handle.number, false));
            // A connection that broke has given the event back.
            drop(answered(told).await);
        }
    }

    async fn refuse(&self, handle: &Handle, then: Then) {
        if let Some(link) = self.ledger.of(handle).filter(|_| !self.is_silent()) {
            let requeue = then == Then::Requeue;
            let arguments = BasicNackArguments::new(handle.number, false, requeue);
            drop(answered(link.channel().basic_nack(arguments)).await);
        }
    }
}

impl Desk for Place {
    type Handle = Handle;

    async fn settle(&mut self, over: Vec<Over<Handle>>) -> usize {
        for Over { handle, end } in &over {
            match end {
                End::Done => self.acknowledge(handle).await,
                End::GivenUp => self.refuse(handle, Then::Reject).await,
            }
        }
        over.len()
    }

    fn rest(&self, attempt: u32) -> Duration {
        match self.failure {
            Failure::Again => doubling(RESTS.0, RESTS.1, attempt),
            Failure::Rejected => Duration::ZERO,
        }
    }

    async fn again(&mut self, handle: Handle, attempt: u32) -> Again<Handle> {
        if !self.is_lent(&handle) {
            return Again::GivenBack;
        }
        match self.failure {
            Failure::Again => {
                let content = Content {
                    attempt: attempt + 1,
                    ..(*handle.content).clone()
                };
                Again::Deliver(handle, Box::new(content))
            }
            Failure::Rejected => {
                if self.options.dead_letters == DeadLetters::Gone {
                    tracing::warn!(
                        topic = %handle.content.topic,
                        "an event whose handler failed is dropped, as its component says"
                    );
                }
                self.refuse(&handle, Then::Reject).await;
                Again::GivenBack
            }
        }
    }

    /// Until its connection breaks: then the server has it, and sends it again.
    fn is_lent(&self, handle: &Handle) -> bool {
        self.ledger.of(handle).is_some() || self.is_silent()
    }

    /// Nothing is lent for a time.
    async fn renew(&mut self, _held: Vec<Handle>) {}

    async fn release(&mut self, held: Vec<Handle>) {
        for handle in &held {
            self.refuse(handle, Then::Requeue).await;
        }
    }
}

struct Reader {
    options: Arc<Options>,
    keeper: Arc<Keeper<Dialer>>,
    topic: TopicName,
    queue: Queue,
    held: u32,
    ledger: Arc<Ledger>,
    room: Room,
    taken: mpsc::Sender<Taken<Handle>>,
}

impl Reader {
    /// Reads until it is ended.
    async fn run(self, joined: oneshot::Sender<Result<(), String>>) {
        let mut joined = Some(joined);
        loop {
            self.keeper.connected().await;
            let why = match self.link().await {
                Ok(consumed) => {
                    if let Some(joined) = joined.take() {
                        // Who waited may have left.
                        drop(joined.send(Ok(())));
                    }
                    self.read(consumed).await
                }
                Err(why) => why,
            };
            self.ledger.down();
            tracing::debug!(topic = %self.topic, "reading from RabbitMQ begins again: {why}");
            if let Some(joined) = joined.take() {
                drop(joined.send(Err(why)));
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// A connection on which the group's queue is consumed.
    async fn link(&self) -> Result<Consumed, String> {
        let purpose = format!("subscriber of {}", self.topic.topic());
        let cancelled = Arc::new(AtomicBool::new(false));
        let hears = Hears(Arc::clone(&cancelled));
        let link = Link::new(&self.options, &purpose, hears).await?;
        self.declare(&link.words()).await?;
        let channel = link.channel();
        // What is sent is bounded by what is not acknowledged. So it always is: without, the whole
        // queue would come at once.
        let ahead = u16::try_from(self.held).unwrap_or(u16::MAX);
        answered(channel.basic_qos(BasicQosArguments::new(0, ahead, false))).await?;
        let mut arguments = BasicConsumeArguments::new(&self.queue.name, "");
        arguments.manual_ack(true);
        let (_, messages) = answered(channel.basic_consume_rx(arguments)).await?;
        Ok(Consumed {
            link: Arc::new(link),
            messages,
            cancelled,
        })
    }

    /// The exchange, the queue, and what belongs to them, as Dapr declares them.
    async fn declare(&self, words: &Words<'_>) -> Result<(), String> {
        let (options, queue) = (&self.options, &self.queue.name);
        let topic = self.topic.topic();
        words.declare_exchange(topic, &options.exchange).await?;
        let mut arguments = vec![("x-queue-type", text(self.queue.kind.word())?)];
        if let Some(most) = self.queue.priorities {
            arguments.push(("x-max-priority", FieldValue::l(most.into())));
        }
        if options.dead_letters == DeadLetters::Kept {
            let (exchange, letters) = (format!("dlx-{queue}"), format!("dlq-{queue}"));
            words.declare_exchange(&exchange, "fanout").await?;
            let mut bounds = vec![("x-queue-mode", text("lazy")?)];
            bounds.extend(self.bounds());
            words.declare_queue(self.named(&letters, bounds)).await?;
            words.bind(&letters, &exchange, "").await?;
            arguments.push(("x-dead-letter-exchange", text(&exchange)?));
        }
        if let Some(ttl) = options.ttl {
            arguments.push(("x-message-ttl", whole(ttl.as_millis().try_into().ok())));
        }
        arguments.extend(self.bounds());
        words.declare_queue(self.named(queue, arguments)).await?;
        words.bind(queue, topic, "").await
    }

    fn bounds(&self) -> Vec<(&'static str, FieldValue)> {
        let length = self
            .options
            .length
            .map(|most| ("x-max-length", whole(Some(most))));
        let bytes = self
            .options
            .bytes
            .map(|most| ("x-max-length-bytes", whole(Some(most))));
        length.into_iter().chain(bytes).collect()
    }

    fn named(&self, queue: &str, arguments: Vec<(&str, FieldValue)>) -> QueueDeclareArguments {
        let mut declare = QueueDeclareArguments::new(queue);
        declare
            .durable(self.options.restart == Restart::Survives)
            .auto_delete(self.options.unused == Unused::Goes)
            .arguments(table(arguments));
        declare
    }

    /// Reads until something is wrong.
    async fn read(&self, consumed: Consumed) -> String {
        let Consumed {
            link,
            mut messages,
            cancelled,
        } = consumed;
        let epoch = self.ledger.up(Arc::clone(&link));
        let broken = async {
            while link.is_whole() && !cancelled.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        };
        tokio::pin!(broken);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                () = &mut broken => None,
            };
            match message {
                Some(message) => self.take(epoch, &link, message).await,
                None => return "the connection broke, or its queue was deleted".to_owned(),
            }
        }
    }

    async fn take(&self, epoch: u64, link: &Link, message: ConsumerMessage) {
        let Some(content) = words::content(&self.topic, &message) else {
            return;
        };
        let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
            // Never closed.
            return;
        };
        let number = content.offset;
        if self.options.acknowledge == Acknowledge::WhenSent {
            let told = link
                .channel()
                .basic_ack(BasicAckArguments::new(number, false));
            // A connection that broke has given the event back: it comes twice.
            drop(answered(told).await);
        }
        let handle = Handle {
            epoch,
            number,
            content: Arc::new(content.clone()),
        };
        let taken = Taken {
            handle,
            content,
            place,
        };
        // There is room for as many as there are places; a pump that has gone ends this task.
        drop(self.taken.send(taken).await);
    }
}

fn text(text: &str) -> Result<FieldValue, String> {
    words::text(text).ok_or_else(|| format!("{text:?} is too long"))
}

fn whole(number: Option<u64>) -> FieldValue {
    FieldValue::l(
        number
            .and_then(|number| number.try_into().ok())
            .unwrap_or(i64::MAX),
    )
}
