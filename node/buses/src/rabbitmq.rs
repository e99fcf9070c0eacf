//! `pubsub.rabbitmq`: topics as exchanges, groups as queues bound to them, in the layout of Dapr's component.
//!
//! The queue is `<consumerID>-<topic>`; with `enableDeadLetter` there are `dlx-<queue>` and `dlq-<queue>` beside it. Differs
//! from Dapr: every publish is confirmed, whatever `publisherConfirm` says; an event that is to come again rests in the
//! process that holds it, so that its deliveries are counted.
//! Absent: queue types and priorities by a subscription's metadata (queues are classic); `reconnectWaitSeconds`.

mod group;
mod line;
mod link;
mod options;
mod words;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use tokio::sync::Semaphore;

use crate::bus::{Bus, BusFuture, Feature, Standing, SubscribeError};
use crate::component::Declared;
use crate::event::{BulkPublish, Event, Publish, PublishOutcome};
use crate::keeper::Keeper;
use crate::outcomes::{busy, unavailable, unknown, within};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use group::Wanted;
use line::{Dialer, Fate, Line};
use options::Options;

/// Events on their way to the server of one component; more are refused.
const PUBLISHES_MAX: usize = 4_096;
/// Longest name of an exchange or a key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest prefix before a topic in the name of a queue or an exchange, without the group's name: `dlx-` and a dash.
const PREFIX_BYTES_MAX: usize = 5;

/// See the module.
pub(crate) struct RabbitMq {
    options: Arc<Options>,
    keeper: Arc<Keeper<Dialer>>,
    room: Semaphore,
}

impl RabbitMq {
    /// Its type in YAML.
    pub(crate) const KIND: &str = "pubsub.rabbitmq";

    /// Reads the metadata.
    ///
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(crate) fn open(declared: &Declared, settings: &mut Settings) -> Result<Self, String> {
        let options = Options::read(&declared.consumer, &declared.instance, settings)?;
        let options = Arc::new(options);
        let dialer = Dialer {
            options: Arc::clone(&options),
        };
        Ok(Self {
            keeper: Arc::new(Keeper::new(&declared.name, dialer)),
            options,
            room: Semaphore::new(PUBLISHES_MAX),
        })
    }

    async fn send(
        &self,
        topic: &str,
        events: Vec<(Event, Option<Duration>)>,
    ) -> Vec<PublishOutcome> {
        let count = events.len();
        if topic.len() > NAME_BYTES_MAX {
            let detail = format!("a topic on RabbitMQ has at most {NAME_BYTES_MAX} bytes");
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, detail));
            return vec![refusal; count];
        }
        if self.room.available_permits() == 0 {
            return vec![busy(PUBLISHES_MAX); count];
        }
        let line = match self.keeper.connection().await {
            Ok(line) => line,
            Err(why) => return vec![unavailable(why); count],
        };
        if let Err(why) = line.declare(topic, &self.options.exchange).await {
            return vec![unavailable(why); count];
        }
        let sent = events
            .into_iter()
            .map(|(event, ttl)| self.send_one(&line, topic, event, ttl));
        join_all(sent).await
    }

    async fn send_one(
        &self,
        line: &Line,
        topic: &str,
        event: Event,
        ttl: Option<Duration>,
    ) -> PublishOutcome {
        let Ok(_place) = self.room.acquire().await else {
            return busy(PUBLISHES_MAX);
        };
        let key = words::routing_key(&event);
        if key.len() > NAME_BYTES_MAX {
            let detail = format!("routingKey has at most {NAME_BYTES_MAX} bytes");
            return PublishOutcome::NotRun(NotRun::new(Code::InvalidArgument, detail));
        }
        let properties = words::properties(&event, ttl, self.options.delivery);
        match line
            .publish(topic, key, event.data.to_vec(), properties)
            .await
        {
            Fate::Taken => PublishOutcome::Done(None),
            Fate::Refused(why) => unavailable(why),
            Fate::Lost(why) => unknown(format!("{why}; RabbitMQ may have the event")),
        }
    }
}

impl Bus for RabbitMq {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async move {
            let events = vec![(publish.event, publish.ttl)];
            let sent = self.send(publish.topic.topic(), events);
            let mut outcomes = within(publish.timeout, 1, sent).await;
            // One for each event.
            outcomes.pop().unwrap_or(PublishOutcome::Done(None))
        })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move {
            let entries = bulk.entries.into_iter();
            let events: Vec<_> = entries.map(|entry| (entry.event, entry.ttl)).collect();
            let count = events.len();
            within(bulk.timeout, count, self.send(bulk.topic.topic(), events)).await
        })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async move {
            subscribe.handled_here()?;
            let group = subscribe.group.name_on(&self.options.instance);
            let whole = PREFIX_BYTES_MAX + group.len() + subscribe.topic.topic().len();
            if whole > NAME_BYTES_MAX {
                return Err(SubscribeError {
                    code: Code::InvalidTopic,
                    detail: format!(
                        "group and topic make a queue's name, which on RabbitMQ has at most {NAME_BYTES_MAX} bytes"
                    ),
                });
            }
            // A server that is away is said to be, at once.
            let here = self.keeper.connection().await;
            here.map_err(|detail| SubscribeError {
                code: Code::BusUnavailable,
                detail,
            })?;
            group::subscribe(Wanted {
                options: Arc::clone(&self.options),
                keeper: Arc::clone(&self.keeper),
                subscribe,
            })
            .await
        })
    }

    fn features(&self) -> &'static [Feature] {
        &[Feature::MessageTtl]
    }

    fn standing(&self) -> Standing {
        self.keeper.standing()
    }
}
