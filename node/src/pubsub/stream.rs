//! Subscriptions that come by a stream: events go out on it, verdicts come back on it, its end ends
//! them.
//!
//! Each stream is a subscription of its own. Events are known by their ids; two under way with the
//! same id are answered in the order in which they were sent. What has no verdict when the stream
//! ends was not taken.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::PubSub;
use super::grpc_words;
use super::line::Line;
use super::metadata::Metadata;
use super::publish::PublishError;
use super::target::{Batch, Handed, Letter, Said, Target};
use super::wanted::Wanted;
use crate::api::grpc::dapr::proto::runtime::v1 as pb;
use crate::api::sidecar::SubscriptionOrigin;
use crate::topics::{SubscribeError, Subscription};

/// Events that wait to be written to one stream.
pub const STREAM_EVENTS_MAX: usize = 64;

/// What a stream asks for at its beginning.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Asked {
    /// Name of the component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Metadata of the subscription.
    pub metadata: Metadata,
    /// Where dead letters go; empty: nowhere.
    pub dead_letter_topic: String,
}

/// Why a stream gets no subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamError {
    /// There is no such component.
    NotFound(PublishError),
    /// What is asked is not possible, or not allowed: a sentence.
    Refused(String),
    /// The bus refuses.
    Bus(SubscribeError),
}

/// A stream that is subscribed.
#[derive(Debug)]
pub struct Streamed {
    /// Events for the stream.
    pub events: mpsc::Receiver<pb::TopicEventRequest>,
    /// Where verdicts go.
    pub verdicts: Verdicts,
    line: Arc<Line>,
    subscription: Subscription,
    _listed: Listed,
}

/// The verdicts that a stream owes.
#[derive(Clone, Debug)]
pub struct Verdicts(Arc<StreamTarget>);

/// Takes the subscription out of metadata when it ends.
#[derive(Debug)]
struct Listed {
    pubsub: Arc<PubSub>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.pubsub.subscriptions.streaming().remove(&self.number);
    }
}

#[derive(Debug)]
struct StreamTarget {
    events: mpsc::Sender<pb::TopicEventRequest>,
    waiting: Mutex<HashMap<String, VecDeque<Waiting>>>,
    numbers: AtomicU64,
}

/// Who waits for a verdict.
#[derive(Debug)]
struct Waiting {
    number: u64,
    answer: oneshot::Sender<Said>,
}

/// Takes a delivery out of those that wait when it is over, however it ends: a later verdict is
/// about another one.
struct Registered<'a> {
    target: &'a StreamTarget,
    id: String,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiting = self.target.waiting();
        if let Some(queue) = waiting.get_mut(&self.id) {
            queue.retain(|one| one.number != self.number);
            if queue.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}

impl StreamTarget {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, id: String) -> (Registered<'_>, oneshot::Receiver<Said>) {
        let (answer, said) = oneshot::channel();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { number, answer };
        let mut all = self.waiting();
        all.entry(id.clone()).or_default().push_back(waiting);
        let target = self;
        (Registered { target, id, number }, said)
    }
}

impl PubSub {
    /// Subscribes a stream. Nothing is delivered before [`Streamed::run`].
    ///
    /// # Errors
    /// See [`StreamError`]; nothing is left of it.
    pub async fn stream(self: &Arc<Self>, asked: Asked) -> Result<Streamed, StreamError> {
        self.find(&asked.pubsub, &asked.topic)
            .map_err(StreamError::NotFound)?;
        let wanted = Wanted {
            pubsub: asked.pubsub,
            topic: asked.topic,
            metadata: asked.metadata,
            rules: Vec::new(),
            default_path: Some("/".to_owned()),
            dead_letter_topic: Some(asked.dead_letter_topic).filter(|topic| !topic.is_empty()),
            bulk: None,
            origin: SubscriptionOrigin::Streaming,
            place: format!("a stream of {}", self.owner.app_id),
        };
        let view = wanted.view();
        let (events, outgoing) = mpsc::channel(STREAM_EVENTS_MAX);
        let target = Arc::new(StreamTarget {
            events,
            waiting: Mutex::default(),
            numbers: AtomicU64::new(0),
        });
        let end: Arc<dyn Target> = Arc::clone(&target) as Arc<dyn Target>;
        let line = self.line(&self.owner, wanted, &end);
        let line = Arc::new(line.map_err(StreamError::Refused)?);
        let subscription = line.component.bus.subscribe(line.subscribe());
        let subscription = subscription.await.map_err(StreamError::Bus)?;
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.subscriptions.streaming().insert(number, view);
        Ok(Streamed {
            events: outgoing,
            verdicts: Verdicts(target),
            line,
            subscription,
            _listed: Listed {
                pubsub: Arc::clone(self),
                number,
            },
        })
    }
}

impl Streamed {
    /// Splits it into what delivers (until the bus ends it, or it is dropped), and the events to be
    /// written.
    pub fn run(
        self,
    ) -> (
        impl Future<Output = ()> + Send,
        mpsc::Receiver<pb::TopicEventRequest>,
        Verdicts,
    ) {
        let Self {
            events,
            verdicts,
            line,
            subscription,
            _listed: listed,
        } = self;
        let running = async move {
            let _listed = listed;
            // Ends with its stream: then this is dropped.
            let stop = line.component.retired.stop();
            line.run(subscription, &stop).await;
        };
        (running, events, verdicts)
    }
}

impl Verdicts {
    /// The verdict on an event. One that nobody waits for says nothing.
    pub fn say(&self, id: &str, said: Said) {
        let mut waiting = self.0.waiting();
        let Some(queue) = waiting.get_mut(id) else {
            return;
        };
        while let Some(first) = queue.pop_front() {
            // Whoever waited may have given it up.
            if first.answer.send(said.clone()).is_ok() {
                break;
            }
        }
        if queue.is_empty() {
            waiting.remove(id);
        }
    }
}

impl Target for StreamTarget {
    fn deliver<'a>(&'a self, letter: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let event = match grpc_words::event(letter) {
                Ok(event) => event,
                Err(why) => return Said::Again(why.to_string()),
            };
            let (_registered, said) = self.register(event.id.clone());
            let gone = || Said::Unsent("the stream has ended".to_owned());
            let Ok(room) = self.events.reserve().await else {
                return gone();
            };
            handed.set();
            room.send(event);
            said.await.unwrap_or_else(|_| gone())
        })
    }

    fn deliver_batch<'a>(
        &'a self,
        batch: &'a Batch,
        _handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        // A stream never asks for batches.
        let why = "a stream takes no batches";
        let said = batch.entries.iter().map(|_| Said::Again(why.to_owned()));
        let said = said.collect();
        Box::pin(async { said })
    }
}
