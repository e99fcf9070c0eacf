//! `pubsub.redis`: topics as Redis streams, groups as their consumer groups, in the layout of
//! Dapr's component.
//!
//! An entry has the fields `data` (the envelope) and `metadata` (JSON). Group and consumer are both
//! the `consumerID`, so Dapr's sidecars and nodes of Ghostlight may share a group. Differs from
//! Dapr: leases of held entries are renewed, so that `processingTimeout` is about dead processes
//! and not about slow handlers; an entry whose handler failed comes again after
//! `redeliverInterval`, where newer versions of Dapr give it up. Absent: Redis Cluster and
//! Sentinel; a time to live of single events (the envelope's `expiration` does it).

mod dial;
mod group;
mod held;
mod options;
mod words;

use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use redis::RedisError;
use redis::aio::MultiplexedConnection;

use crate::bus::{Feature, SubscribeError};
use crate::component::Declared;
use crate::event::PublishOutcome;
use crate::external::{External, Outgoing, System};
use crate::keeper::{Keeper, Kept};
use crate::outcomes::{busy, unavailable, unknown};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use dial::Dialer;
use options::Options;

/// See the module.
pub(crate) enum Redis {}

impl System for Redis {
    const KIND: &'static str = "pubsub.redis";
    const PUBLISHES_MAX: usize = 4_096;
    const FEATURES: &'static [Feature] = &[];

    type Options = Options;
    type Dial = Dialer;

    fn read(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<(Arc<Options>, Dialer), String> {
        let options = Arc::new(Options::read(&declared.instance, settings)?);
        let dialer = Dialer::new(&declared.name, &options)?;
        Ok((options, dialer))
    }

    async fn send(bus: &External<Self>, topic: &str, events: Vec<Outgoing>) -> Vec<PublishOutcome> {
        let refused = |outcome: PublishOutcome| vec![outcome; events.len()];
        let Ok(_place) = bus.room.try_acquire() else {
            return refused(busy(Self::PUBLISHES_MAX));
        };
        let Kept {
            mut connection,
            number,
        } = match bus.keeper.kept().await {
            Ok(kept) => kept,
            Err(why) => return refused(unavailable(why)),
        };
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for Outgoing { event, .. } in &events {
            pipe.add_command(words::add(topic, event, &bus.options));
        }
        let sent: Result<Vec<Result<String, RedisError>>, RedisError> =
            pipe.query_async(&mut connection).await;
        match sent {
            Ok(said) => said.into_iter().map(outcome).collect(),
            Err(error) => {
                if error.is_io_error() {
                    bus.keeper.suspect(number);
                }
                refused(outcome(Err(error)))
            }
        }
    }

    async fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        group::subscribe(bus, subscribe).await
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
    mut kept: Kept<MultiplexedConnection>,
    command: &redis::Cmd,
) -> Result<T, RedisError> {
    let said = command.query_async(&mut kept.connection).await;
    if let Err(error) = &said
        && RedisError::is_io_error(error)
    {
        keeper.suspect(kept.number);
    }
    said
}

/// How long Redis may take for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
