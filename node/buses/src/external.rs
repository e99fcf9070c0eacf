//! What the components of all external buses have in common: a connection that is kept, room for so
//! many publishes, and the part of [`Bus`] that only hands over to a [`System`].
//!
//! Absent: what a system makes of events and groups.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use tokio::sync::Semaphore;

use crate::bus::{Bus, BusFuture, Feature, Standing, SubscribeError};
use crate::component::Declared;
use crate::event::{BulkPublish, Event, EventName, Publish, PublishOutcome};
use crate::keeper::{Dial, Keeper};
use crate::outcomes::within;
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};

/// A system elsewhere as the bus of a component.
pub(crate) trait System: Sized + Send + Sync + 'static {
    /// Its type in YAML.
    const KIND: &'static str;
    /// Publishes under way on one component; more are refused.
    const PUBLISHES_MAX: usize;
    /// What it does by itself.
    const FEATURES: &'static [Feature];

    /// A component's metadata, read.
    type Options: Send + Sync + 'static;
    /// How to come to a connection.
    type Dial: Dial;

    /// Reads the metadata.
    ///
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    fn read(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<(Arc<Self::Options>, Self::Dial), String>;

    /// Publishes to a topic; one outcome for each event, in order.
    fn send(
        bus: &External<Self>,
        topic: &str,
        events: Vec<Outgoing>,
    ) -> impl Future<Output = Vec<PublishOutcome>> + Send;

    /// Subscribes.
    fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> impl Future<Output = Result<Subscription, SubscribeError>> + Send;
}

/// A component that such a system serves.
pub(crate) struct External<S: System> {
    pub(crate) options: Arc<S::Options>,
    pub(crate) keeper: Arc<Keeper<S::Dial>>,
    pub(crate) room: Arc<Semaphore>,
}

/// An event on its way to a system.
pub(crate) struct Outgoing {
    pub(crate) event: Event,
    /// What its publisher calls it; `None`: nothing.
    pub(crate) name: Option<Name>,
    pub(crate) ttl: Option<Duration>,
}

/// What a publisher calls what it publishes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    /// This publish.
    Publish(String),
    /// The event.
    Event(EventName),
}

impl<S: System> External<S> {
    /// The bus of a component. It connects by itself.
    ///
    /// # Errors
    /// As [`System::read`].
    pub(crate) fn open(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<Arc<dyn Bus>, String> {
        let (options, dial) = S::read(declared, settings)?;
        Ok(Arc::new(Self {
            options,
            keeper: Arc::new(Keeper::new(&declared.name, dial)),
            room: Arc::new(Semaphore::new(S::PUBLISHES_MAX)),
        }))
    }

    /// The connection, for a subscriber: a system that is away is said to be, at once.
    ///
    /// # Errors
    /// It is.
    pub(crate) async fn connection(&self) -> Result<<S::Dial as Dial>::Connection, SubscribeError> {
        self.keeper.connection().await.map_err(not_there)
    }
}

/// A subscription that the system cannot begin now.
pub(crate) fn not_there(detail: String) -> SubscribeError {
    SubscribeError {
        code: Code::BusUnavailable,
        detail,
    }
}

/// What the publisher says: the name of the publish, or the event's.
fn given(publish: Option<&Bytes>, event: Option<EventName>) -> Option<Name> {
    match publish {
        Some(name) => Some(Name::Publish(String::from_utf8_lossy(name).into_owned())),
        None => event.map(Name::Event),
    }
}

impl<S: System> Bus for External<S> {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async move {
            let outgoing = Outgoing {
                name: given(publish.dedup.as_ref(), publish.name),
                event: publish.event,
                ttl: publish.ttl,
            };
            let sent = S::send(self, publish.topic.topic(), vec![outgoing]);
            let mut outcomes = within(publish.timeout, 1, sent).await;
            // One for each event.
            outcomes.pop().unwrap_or(PublishOutcome::Done(None))
        })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move {
            let entries = bulk.entries.into_iter().map(|entry| Outgoing {
                name: given(None, entry.name),
                event: entry.event,
                ttl: entry.ttl,
            });
            let events: Vec<_> = entries.collect();
            let count = events.len();
            within(
                bulk.timeout,
                count,
                S::send(self, bulk.topic.topic(), events),
            )
            .await
        })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async move {
            subscribe.handled_here()?;
            S::subscribe(self, subscribe).await
        })
    }

    fn features(&self) -> &'static [Feature] {
        S::FEATURES
    }

    fn standing(&self) -> Standing {
        self.keeper.standing()
    }
}
