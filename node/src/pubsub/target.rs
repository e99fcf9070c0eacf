//! What stands at the end of a subscription: the application, by whatever way it is reached.

use bytes::Bytes;
use futures::future::BoxFuture;

use super::envelope::Envelope;
use super::metadata::Metadata;
pub use super::stop::Handed;
use crate::resources::FailedWith;

/// One event on its way to an application.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its envelope.
    pub envelope: Envelope,
    /// Where in the application.
    pub path: String,
    /// The topic.
    pub topic: String,
    /// The component.
    pub pubsub: String,
    /// What travels beside it.
    pub metadata: Metadata,
}

/// One event of a batch.
#[derive(Clone, Debug)]
pub struct BatchEntry {
    /// Its name in the batch.
    pub id: String,
    /// What it says.
    pub content: BatchContent,
    /// What travels beside it.
    pub metadata: Metadata,
}

/// What an event of a batch says.
#[derive(Clone, Debug)]
pub enum BatchContent {
    /// An event with its envelope.
    Event(Envelope),
    /// A payload that was published without one.
    Raw(Bytes),
}

/// Several events on their way to one path.
#[derive(Clone, Debug)]
pub struct Batch {
    /// A fresh id.
    pub id: String,
    /// Where in the application.
    pub path: String,
    /// The topic.
    pub topic: String,
    /// The component.
    pub pubsub: String,
    /// Metadata of the subscription.
    pub metadata: Metadata,
    /// The events.
    pub entries: Vec<BatchEntry>,
}

/// What an application made of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It is done with it.
    Done,
    /// Not now, and why.
    Again(String),
    /// Not now: it failed with this status; and why.
    Failed(FailedWith, String),
    /// Never, and why.
    Never(String),
    /// It has certainly not seen it, and why.
    Unsent(String),
}

/// An application as the end of a subscription.
pub trait Target: Send + Sync + std::fmt::Debug {
    /// Delivers one event. Before `handed` says that it may have arrived the future can be dropped
    /// without harm.
    fn deliver<'a>(&'a self, letter: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said>;

    /// Delivers several; one answer for each, in order.
    fn deliver_batch<'a>(
        &'a self,
        batch: &'a Batch,
        handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>>;
}
