//! `pubsub.kafka`: Kafka topics and consumer groups, by librdkafka; part of builds with the feature
//! `kafka`.
//!
//! Differs from Dapr: the producer is idempotent; a group that is new commits where it begins, so
//! that what is published while none of its members runs is not passed over. Events of a partition
//! are handled one after the other, and one that fails holds up those behind it, unless the
//! subscription says `order: none`. Absent: TLS and what needs it (librdkafka's is OpenSSL), the
//! schema registry, deliveries counted beyond one process.

mod group;
mod ledger;
mod options;
mod producer;
mod reader;
mod words;

use std::sync::Arc;

use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::bus::{Feature, SubscribeError};
use crate::component::Declared;
use crate::event::PublishOutcome;
use crate::external::{External, Outgoing, System};
use crate::outcomes::{busy, unavailable, unknown};
use crate::settings::Settings;
use crate::subscription::{Start, Subscribe, Subscription};
use options::Options;
use producer::Dialer;

/// See the module.
pub(crate) enum Kafka {}

impl System for Kafka {
    const KIND: &'static str = "pubsub.kafka";
    const PUBLISHES_MAX: usize = 4_096;
    const FEATURES: &'static [Feature] = &[Feature::BulkPublish];

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
        if let Err(detail) = check_topic(topic) {
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, detail));
            return vec![refusal; count];
        }
        let Ok(_place) = bus.room.try_acquire() else {
            return vec![busy(Self::PUBLISHES_MAX); count];
        };
        let producer = match bus.keeper.connection().await {
            Ok(producer) => producer,
            Err(why) => return vec![unavailable(why); count],
        };
        let producer = &producer;
        // Handed over in order, before the first answer is waited for.
        let sent: Vec<_> = events
            .into_iter()
            .map(|outgoing| producer.send(topic, &outgoing.event, &bus.options))
            .collect();
        let answers = sent.into_iter().map(|answer| async move {
            match answer {
                Ok(answer) => outcome(answer.await),
                // Not taken, whatever the reason: certainly not published.
                Err(error) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::Fatal) => unavailable(error.to_string()),
                    _ => outcome(Err(error)),
                },
            }
        });
        join_all(answers).await
    }

    async fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        let refuse = |code, detail: String| Err(SubscribeError { code, detail });
        if let Err(detail) = check_topic(subscribe.topic.topic()) {
            return refuse(Code::InvalidTopic, detail);
        }
        if let Start::Time(_) = subscribe.start {
            let detail =
                "a group on Kafka cannot begin at a time; write initialOffset: oldest or newest";
            return refuse(Code::InvalidArgument, detail.to_owned());
        }
        bus.connection().await?;
        group::subscribe(bus, subscribe).await
    }
}

/// What Kafka calls a legal topic.
fn check_topic(topic: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = !topic.is_empty()
        && topic.len() <= 249
        && topic != "."
        && topic != ".."
        && topic.chars().all(legal);
    match good {
        true => Ok(()),
        false => Err(format!(
            "{topic:?} is no topic of Kafka: 1 to 249 ASCII letters, digits, dots, underscores and hyphens"
        )),
    }
}

/// What an answer means for one event.
fn outcome(answer: Result<(), KafkaError>) -> PublishOutcome {
    let error = match answer {
        Ok(()) => return PublishOutcome::Done(None),
        Err(error) => error,
    };
    let refused = |code| {
        let detail = format!("Kafka refuses the event: {error}");
        PublishOutcome::NotRun(NotRun::new(code, detail))
    };
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::QueueFull) => busy(Kafka::PUBLISHES_MAX),
        // Never left this process.
        Some(RDKafkaErrorCode::PurgeQueue) => unavailable(error.to_string()),
        Some(
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed,
        ) => refused(Code::BusUnavailable),
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => refused(Code::InvalidArgument),
        _ => unknown(format!("{error}; Kafka may have the event")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for (topic, wanted) in [
            ("orders", true),
            ("orders.eu_new-1", true),
            ("", false),
            ("orders/eu", false),
            ("..", false),
            (&"x".repeat(250), false),
        ] {
            assert_eq!(check_topic(topic).is_ok(), wanted, "{topic}");
        }
    }

    /// A publish that may have happened is never said not to have.
    #[test]
    fn outcomes() {
        let of = |code| outcome(Err(KafkaError::MessageProduction(code)));
        assert_eq!(outcome(Ok(())), PublishOutcome::Done(None));
        for code in [
            RDKafkaErrorCode::QueueFull,
            RDKafkaErrorCode::PurgeQueue,
            RDKafkaErrorCode::MessageSizeTooLarge,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            assert!(matches!(of(code), PublishOutcome::NotRun(_)), "{code:?}");
        }
        for code in [
            RDKafkaErrorCode::PurgeInflight,
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::NotEnoughReplicasAfterAppend,
            RDKafkaErrorCode::RequestTimedOut,
        ] {
            assert!(
                matches!(of(code), PublishOutcome::Unknown { .. }),
                "{code:?}"
            );
        }
    }
}
