//! Ephemeral topics as a bus, for components and for the library's users.

use std::sync::Arc;

use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::topic::TopicName;

use super::{Hub, Sent};
use crate::clock::wall_now;
use crate::topics::{
    BulkPublish, Bus, BusFuture, Feature, Promise, Publish, PublishOutcome, Subscribe,
    SubscribeError, Subscription, stored,
};

/// What remains of an event that was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Nothing: who was not there has missed it.
    Nothing,
    /// The topic's last event, for who begins to subscribe later; until its ttl is over, or no node
    /// that keeps it is left.
    LastValue,
}

/// The ephemeral topics of a node; cheap to clone.
///
/// A publish returns at once: the event is on its way to all that want it, and lost to those that
/// are behind. Every subscriber gets every event, whatever its group is called. Names of events
/// (`dedup`) are not remembered.
#[derive(Clone, Debug)]
pub struct Ephemeral {
    hub: Arc<Hub>,
    keep: Keep,
}

impl Ephemeral {
    pub(crate) fn new(hub: Arc<Hub>, keep: Keep) -> Self {
        Self { hub, keep }
    }

    /// Publishes an event, to nobody in particular: how many nodes and subscribers it was sent to
    /// is what this node knows.
    ///
    /// # Errors
    /// Nobody got it: it is over `REQUEST_BODY_BYTES_MAX` or its header over
    /// `EVENT_HEADER_BYTES_MAX`, there is no room for one more last value, or the node does not
    /// run.
    pub fn send(&self, publish: Publish) -> Result<Sent, NotRun> {
        let Publish {
            topic, event, ttl, ..
        } = publish;
        let stored = stored(event.clone(), ttl, wall_now().0);
        self.hub.publish(&topic, event, &stored, self.keep)
    }

    /// Other nodes that want a topic, as far as is known.
    pub(crate) fn reach(&self, topic: &TopicName) -> usize {
        self.hub.reach(topic)
    }

    /// Subscribes: to the topic's last value if it keeps one, then to everything that is published
    /// once every connected node knows of it (at the latest 250 ms after the call).
    /// [`crate::topics::Delivery::missed`] says what was lost.
    ///
    /// # Errors
    /// The node does not run, or has too many subscribers, or events are to go to actors.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        subscribe.handled_here()?;
        self.hub
            .subscribe(&subscribe.topic, subscribe.credits)
            .await
    }
}

impl Bus for Ephemeral {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        let outcome = outcome(self.send(publish));
        Box::pin(async { outcome })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        let outcomes = bulk.entries.into_iter().map(|entry| {
            outcome(self.send(Publish {
                topic: bulk.topic.clone(),
                event: entry.event,
                dedup: None,
                name: entry.name,
                ttl: entry.ttl,
                timeout: None,
                retention: None,
            }))
        });
        let outcomes = outcomes.collect();
        Box::pin(async { outcomes })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(Self::subscribe(self, subscribe))
    }

    fn features(&self) -> &'static [Feature] {
        &[Feature::MessageTtl, Feature::BulkPublish]
    }

    fn promise(&self, _topic: &TopicName) -> Promise {
        Promise::AtMostOnce
    }
}

fn outcome(sent: Result<Sent, NotRun>) -> PublishOutcome {
    match sent {
        Ok(_) => PublishOutcome::Done(None),
        Err(refusal) => PublishOutcome::NotRun(refusal),
    }
}
