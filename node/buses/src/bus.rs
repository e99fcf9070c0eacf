//! What every pub/sub component offers.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::topic::TopicName;

use super::event::{BulkPublish, Publish, PublishOutcome};
use super::subscription::{Subscribe, Subscription};

/// A future of a bus: boxed, so that components of different types stand in one table.
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A pub/sub component: ours, a process-local one, or an external bus.
pub trait Bus: Send + Sync {
    /// Publishes one event.
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome>;

    /// Publishes several; one outcome for each entry, in order.
    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>>;

    /// Subscribes. Resolves when the group exists everywhere: what is published after that is
    /// delivered.
    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>>;

    /// What it can do by itself.
    fn features(&self) -> &'static [Feature];

    /// What it promises of a topic.
    fn promise(&self, _topic: &TopicName) -> Promise {
        Promise::AtLeastOnce
    }

    /// A publish as a message that leaves with what a turn commits; `None`: it cannot, it has no
    /// part in what a turn commits.
    ///
    /// # Errors
    /// A sentence: too much beside the event's data.
    fn message(&self, _publish: Publish) -> Option<Result<TurnMessage, String>> {
        None
    }

    /// Whether it is there. One that is part of this program always is.
    fn standing(&self) -> Standing {
        Standing::Ready
    }
}

/// See [`Bus::message`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnMessage {
    /// Who gets it: a topic partition.
    pub to: ActorKey,
    /// Says nothing, and is there.
    pub method: String,
    /// The event, as the log takes it.
    pub body: Bytes,
}

/// What a bus promises of the events of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Each is delivered until it is acknowledged, as far as the bus can.
    AtLeastOnce,
    /// Each is delivered once or not at all, and nothing of it is kept.
    AtMostOnce,
}

/// Whether a bus is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It takes and gives events.
    Ready,
    /// It has not answered yet.
    Connecting,
    /// It does not answer, or not well; why. It is tried again and again.
    Unreachable(String),
}

/// What a bus does by itself; the API above makes up for the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// `ttl` counts.
    MessageTtl,
    /// Topics with wildcards.
    SubscribeWildcards,
    /// `bulk_publish` is one append.
    BulkPublish,
    /// Events can become messages to actors, exactly once.
    Forward,
    /// Redelivers after `Retry` with its own backoff, and keeps dead letters.
    Redelivery,
}

/// A subscription that did not come about; nothing is left of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct SubscribeError {
    /// Which case.
    pub code: Code,
    /// What failed, why, and what to do.
    pub detail: String,
}
