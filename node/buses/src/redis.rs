//! `pubsub.redis`: topics as Redis streams, groups as their consumer groups, in the layout of Dapr's component.
//!
//! An entry has the fields `data` (the envelope) and `metadata` (JSON). Group and consumer are both the `consumerID`, so
//! Dapr's sidecars and nodes of Ghostlight may share a group. Differs from Dapr: leases of held entries are renewed, so
//! that `processingTimeout` is about dead processes and not about slow handlers; an entry whose handler failed comes
//! again after `redeliverInterval`, where newer versions of Dapr give it up.
//! Absent: Redis Cluster and Sentinel; a time to live of single events (the envelope's `expiration` does it).

mod dial;
mod group;
mod options;
mod words;

use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;

use crate::bus::{Bus, BusFuture, Feature, Standing, SubscribeError};
use crate::component::Declared;
use crate::event::{BulkPublish, Event, Publish, PublishOutcome};
use crate::keeper::Keeper;
use crate::outcomes::{busy, unavailable, unknown, within};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use dial::Dialer;
use options::Options;

/// Publishes under way on one component; more are refused.
const PUBLISHES_MAX: usize = 4_096;

/// See the module.
pub(crate) struct Redis {
    options: Arc<Options>,
    keeper: Arc<Keeper<Dialer>>,
    room: Semaphore,
}

impl Redis {
    /// Its type in YAML.
    pub(crate) const KIND: &str = "pubsub.redis";

    /// Reads the metadata.
    ///
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(crate) fn open(declared: &Declared, settings: &mut Settings) -> Result<Self, String> {
        let options = Arc::new(Options::read(&declared.instance, settings)?);
        let dialer = Dialer::new(&declared.name, &options)?;
        Ok(Self {
            options,
            keeper: Arc::new(Keeper::new(&declared.name, dialer)),
            room: Semaphore::new(PUBLISHES_MAX),
        })
    }

    async fn add(&self, topic: &str, events: &[Event]) -> Vec<PublishOutcome> {
        let refused = |outcome: PublishOutcome| vec![outcome; events.len()];
        let Ok(_place) = self.room.try_acquire() else {
            return refused(busy(PUBLISHES_MAX));
        };
        let mut connection = match self.keeper.connection().await {
            Ok(connection) => connection,
            Err(why) => return refused(unavailable(why)),
        };
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for event in events {
            pipe.add_command(words::add(topic, event, &self.options));
        }
        let sent: Result<Vec<Result<String, RedisError>>, RedisError> =
            pipe.query_async(&mut connection).await;
        match sent {
            Ok(said) => said.into_iter().map(outcome).collect(),
            Err(error) => {
                if error.is_io_error() {
                    self.keeper.suspect();
                }
                refused(outcome(Err(error)))
            }
        }
    }
}

/// What Redis' answer means for one event.
fn outcome(said: Result<String, RedisError>) -> PublishOutcome {
    match said {
        Ok(_) => PublishOutcome::Done(None),
        Err(error)
            if matches!(
                error.kind(),
                redis::ErrorKind::Server(_) | redis::ErrorKind::Extension
            ) =>
        {
            refusal(&error)
        }
        Err(error) if error.is_connection_refusal() => unavailable(error.to_string()),
        Err(error) => unknown(format!(
            "the connection to Redis broke before it answered ({error}); it may have the event"
        )),
    }
}

/// Redis answered, and did nothing.
fn refusal(error: &RedisError) -> PublishOutcome {
    let detail = format!("Redis refuses the event: {error}");
    PublishOutcome::NotRun(NotRun::new(Code::BusUnavailable, detail))
}

/// The answer to a command on a copy of the connection; a broken one is reported.
async fn ask<T: redis::FromRedisValue>(
    keeper: &Keeper<Dialer>,
    mut connection: MultiplexedConnection,
    command: &redis::Cmd,
) -> Result<T, RedisError> {
    let said = command.query_async(&mut connection).await;
    if let Err(error) = &said
        && RedisError::is_io_error(error)
    {
        keeper.suspect();
    }
    said
}

impl Bus for Redis {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async move {
            let events = [publish.event];
            let added = self.add(publish.topic.topic(), &events);
            let mut outcomes = within(publish.timeout, 1, added).await;
            // One for each event.
            outcomes.pop().unwrap_or(PublishOutcome::Done(None))
        })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move {
            let events: Vec<_> = bulk.entries.into_iter().map(|entry| entry.event).collect();
            let added = self.add(bulk.topic.topic(), &events);
            within(bulk.timeout, events.len(), added).await
        })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(group::subscribe(
            Arc::clone(&self.keeper),
            Arc::clone(&self.options),
            subscribe,
        ))
    }

    fn features(&self) -> &'static [Feature] {
        &[]
    }

    fn standing(&self) -> Standing {
        self.keeper.standing()
    }
}

/// How long Redis may take for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
