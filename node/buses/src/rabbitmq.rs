//! `pubsub.rabbitmq`: topics as exchanges, groups as queues bound to them, in the layout of Dapr's
//! component.
//!
//! The queue is `<consumerID>-<topic>`; with `enableDeadLetter` there are `dlx-<queue>` and
//! `dlq-<queue>` beside it. Differs from Dapr: every publish is confirmed, whatever
//! `publisherConfirm` says; an event that is to come again rests in the process that holds it, so
//! that its deliveries are counted. Absent: `reconnectWaitSeconds`.

mod confirms;
mod group;
mod line;
mod link;
mod options;
mod queue;
mod words;

use std::sync::Arc;

use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use tokio::time::timeout;

use crate::bus::{Feature, SubscribeError};
use crate::component::Declared;
use crate::event::PublishOutcome;
use crate::external::{External, Outgoing, System};
use crate::outcomes::{ANSWER_TIME_MAX, busy, unavailable, unknown};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use confirms::Fate;
use line::{Dialer, Letter, Line};
use options::Options;
use queue::Queue;

/// Longest name of an exchange or a key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Events on their way to the server of one component; more are refused.
const PUBLISHES_MAX: usize = 4_096;

/// See the module.
pub(crate) enum RabbitMq {}

impl System for RabbitMq {
    const KIND: &'static str = "pubsub.rabbitmq";
    const PUBLISHES_MAX: usize = PUBLISHES_MAX;
    const FEATURES: &'static [Feature] = &[Feature::MessageTtl];

    type Options = Options;
    type Dial = Dialer;

    fn read(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<(Arc<Options>, Dialer), String> {
        let options = Options::read(&declared.consumer, &declared.instance, settings)?;
        let options = Arc::new(options);
        let dialer = Dialer {
            options: Arc::clone(&options),
        };
        Ok((options, dialer))
    }

    async fn send(bus: &External<Self>, topic: &str, events: Vec<Outgoing>) -> Vec<PublishOutcome> {
        let count = events.len();
        if let Err(refusal) = check_topic(topic) {
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, refusal));
            return vec![refusal; count];
        }
        if bus.room.available_permits() == 0 {
            return vec![busy(Self::PUBLISHES_MAX); count];
        }
        let line = match bus.keeper.connection().await {
            Ok(line) => line,
            Err(why) => return vec![unavailable(why); count],
        };
        if let Some(why) = line.refusal() {
            return vec![unavailable(bus.keeper.away(&why)); count];
        }
        if let Err(why) = line.declare(topic, &bus.options.exchange).await {
            return vec![unavailable(why); count];
        }
        let sent = events
            .into_iter()
            .map(|outgoing| send_one(bus, &line, topic, outgoing));
        join_all(sent).await
    }

    async fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        let topic = &subscribe.topic;
        check_topic(topic.topic()).map_err(|detail| SubscribeError {
            code: Code::InvalidTopic,
            detail,
        })?;
        let queue = Queue::of(&subscribe, &bus.options);
        let queue = queue.map_err(|why| SubscribeError {
            code: Code::InvalidArgument,
            detail: format!("topic {topic} on RabbitMQ: {why}"),
        })?;
        bus.connection().await?;
        group::subscribe(bus, subscribe, queue).await
    }
}

/// A topic is the name of an exchange.
fn check_topic(topic: &str) -> Result<(), String> {
    match topic.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "a topic on RabbitMQ has at most {NAME_BYTES_MAX} bytes"
        )),
    }
}

async fn send_one(
    bus: &External<RabbitMq>,
    line: &Line,
    topic: &str,
    outgoing: Outgoing,
) -> PublishOutcome {
    let Outgoing {
        event,
        ttl,
        name: _,
    } = outgoing;
    let place = Arc::clone(&bus.room).acquire_owned();
    let Ok(Ok(place)) = timeout(ANSWER_TIME_MAX, place).await else {
        return busy(RabbitMq::PUBLISHES_MAX);
    };
    let key = words::routing_key(&event);
    if key.len() > NAME_BYTES_MAX {
        let detail = format!("routingKey has at most {NAME_BYTES_MAX} bytes");
        return PublishOutcome::NotRun(NotRun::new(Code::InvalidArgument, detail));
    }
    let properties = words::properties(&event, ttl, bus.options.delivery);
    let letter = Letter {
        exchange: topic.to_owned(),
        key: key.to_owned(),
        data: event.data.to_vec(),
        properties,
    };
    match line.publish(letter, place).await {
        Fate::Taken => PublishOutcome::Done(None),
        Fate::Refused(why) => unavailable(why),
        Fate::Kept => unavailable(bus.keeper.away("the connection broke")),
        Fate::Lost(why) => unknown(format!("{why}; RabbitMQ may have the event")),
    }
}
