//! `pubsub.jetstream`: topics as subjects of NATS streams, groups as durable pull consumers.
//!
//! The stream is looked up by its subject and not made: what it keeps is its operator's business.
//! Differs from Dapr: pull consumers named by group and topic, so that instances of an application
//! share events without further settings; leases that are renewed while a handler works; message
//! ids that say topic, source and id, because a stream forgets the second of two events with one of
//! them, and names are of one event only together. Absent: push consumers with their flow control
//! and heartbeats; a time to live of single events (the envelope's `expiration` does it).

mod dial;
mod group;
mod options;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use serde::Deserialize;

use crate::bus::{Feature, SubscribeError};
use crate::component::Declared;
use crate::event::{Event, EventName, PublishOutcome};
use crate::external::{External, Name, Outgoing, System};
use crate::outcomes::{busy, unavailable, unknown};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use dial::Dialer;
use options::Options;

/// Events of a bulk that are on their way at once.
const WINDOW_MAX: usize = 512;
/// How long a server may take to let a client in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long JetStream may take for an answer while its connection lives: a disk that is slow to
/// sync is no reason to call what it keeps unknown.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Media type of an event with its envelope.
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// Header by which a stream knows an event that it has already.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// See the module.
pub(crate) enum JetStream {}

impl System for JetStream {
    const KIND: &'static str = "pubsub.jetstream";
    const PUBLISHES_MAX: usize = 4_096;
    const FEATURES: &'static [Feature] = &[];

    type Options = Options;
    type Dial = Dialer;

    fn read(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<(Arc<Options>, Dialer), String> {
        let options = Arc::new(Options::read(&declared.instance, settings)?);
        let dialer = Dialer::new(&options)?;
        Ok((options, dialer))
    }

    async fn send(bus: &External<Self>, topic: &str, events: Vec<Outgoing>) -> Vec<PublishOutcome> {
        if !is_subject(topic) {
            let detail = format!(
                "{topic:?} is no subject of NATS: no spaces, no wildcards, no empty words between dots"
            );
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, detail));
            return vec![refusal; events.len()];
        }
        let mut outcomes = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        loop {
            let window: Vec<_> = events.by_ref().take(WINDOW_MAX).collect();
            if window.is_empty() {
                return outcomes;
            }
            outcomes.extend(send_window(bus, topic, window).await);
        }
    }

    async fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        group::subscribe(bus, subscribe).await
    }
}

async fn send_window(
    bus: &External<JetStream>,
    topic: &str,
    window: Vec<Outgoing>,
) -> Vec<PublishOutcome> {
    let count = window.len();
    let Ok(_places) = bus.room.try_acquire_many(count.min(WINDOW_MAX) as u32) else {
        return vec![busy(JetStream::PUBLISHES_MAX); count];
    };
    let line = match bus.keeper.connection().await {
        Ok(line) => line,
        Err(why) => return vec![unavailable(why); count],
    };
    let work = async {
        let mut sent = Vec::with_capacity(count);
        for outgoing in window {
            sent.push(hand_over(&line.context, topic, outgoing).await);
        }
        let outcomes = sent.into_iter().map(|sent| async {
            match sent {
                Ok(acknowledgement) => outcome(acknowledgement.await.map(|_| ()), topic),
                Err(error) => outcome(Err(error), topic),
            }
        });
        join_all(outcomes).await
    };
    tokio::select! {
        biased;
        outcomes = work => outcomes,
        () = line.gone() => {
            let why = "the connection to NATS broke before it answered; it may have the event";
            vec![unknown(why); count]
        }
    }
}

async fn hand_over(
    context: &Context,
    topic: &str,
    outgoing: Outgoing,
) -> Result<PublishAckFuture, PublishError> {
    let Outgoing {
        event,
        name,
        ttl: _,
    } = outgoing;
    let mut headers = HeaderMap::new();
    for (name, value) in &event.attributes {
        // What cannot be a header stays behind, as with Dapr: it is in the envelope where it
        // matters.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
    let name = name.or_else(|| own_name(&event).map(Name::Event));
    if let Some(name) = name
        && let Ok(id) = message_id(topic, &name).parse::<HeaderValue>()
    {
        headers.insert(MESSAGE_ID, id);
    }
    let topic = topic.to_owned();
    context
        .publish_with_headers(topic, headers, event.data)
        .await
}

/// What the server's answer means for one event.
fn outcome(said: Result<(), PublishError>, topic: &str) -> PublishOutcome {
    let Err(error) = said else {
        return PublishOutcome::Done(None);
    };
    let refused = |code, detail: String| PublishOutcome::NotRun(NotRun::new(code, detail));
    match error.kind() {
        PublishErrorKind::StreamNotFound => unavailable(format!(
            "no stream of NATS takes the subject {topic}. Make one that does, or wait until it has a leader"
        )),
        PublishErrorKind::MaxPayloadExceeded => refused(
            Code::BodyTooLarge,
            "the event is larger than max_payload of the server".to_owned(),
        ),
        PublishErrorKind::MaxAckPending => busy(JetStream::PUBLISHES_MAX),
        // The stream's own answer.
        _ if error
            .source()
            .is_some_and(|why| why.is::<jetstream::Error>()) =>
        {
            refused(
                Code::BusUnavailable,
                format!("NATS refuses the event: {error}"),
            )
        }
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::Other => unknown(format!(
            "NATS did not take the event ({error}); it may have it"
        )),
    }
}

/// By which a stream knows a repetition: other topics, sources and ids make other ones.
fn message_id(topic: &str, name: &Name) -> String {
    let id = match name {
        Name::Publish(name) => serde_json::json!([topic, name]),
        Name::Event(EventName { source, id }) => serde_json::json!([topic, source, id]),
    };
    id.to_string()
}

/// The name that an event has in its envelope. What has none may have an `id` of whatever meaning.
fn own_name(event: &Event) -> Option<EventName> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default)]
        source: String,
        id: String,
    }
    let kind = event.content_type.split(';').next().unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(CLOUD_EVENT) {
        return None;
    }
    let Envelope { source, id } = serde_json::from_slice(&event.data).ok()?;
    Some(EventName { source, id })
}

/// Whether it may be published to.
fn is_subject(topic: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    !topic.contains(bad) && topic.split('.').all(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn subjects() {
        for (topic, wanted) in [
            ("orders", true),
            ("orders.eu.new", true),
            ("orders/new", true),
            ("a..b", false),
            ("", false),
            ("a b", false),
            ("orders.*", false),
            ("orders.>", false),
        ] {
            assert_eq!(is_subject(topic), wanted, "{topic}");
        }
    }

    #[test]
    fn names_come_from_envelopes_alone() {
        let both = r#"{"id":"e1","source":"till","data":1}"#;
        let name = |source: &str| {
            Some(EventName {
                source: source.to_owned(),
                id: "e1".to_owned(),
            })
        };
        for (content_type, data, wanted) in [
            ("application/cloudevents+json", both, name("till")),
            (
                "Application/CloudEvents+JSON; charset=utf-8",
                both,
                name("till"),
            ),
            ("application/cloudevents+json", r#"{"id":"e1"}"#, name("")),
            ("application/cloudevents+json", r#"{"id":7}"#, None),
            ("application/cloudevents+json", "raw", None),
            ("application/json", both, None),
            ("", both, None),
        ] {
            let event = Event {
                content_type: content_type.to_owned(),
                data: data.as_bytes().to_vec().into(),
                ..Event::default()
            };
            assert_eq!(own_name(&event), wanted, "{content_type} {data}");
        }
    }

    #[test]
    fn what_is_named_otherwise_is_another_event() {
        let event = |source: &str, id: &str| {
            let (source, id) = (source.to_owned(), id.to_owned());
            Name::Event(EventName { source, id })
        };
        let all = [
            ("orders", event("a", "b/c")),
            ("orders", event("a/b", "c")),
            ("orders/a", event("b", "c")),
            ("orders", event("", "c")),
            ("orders", Name::Publish("c".to_owned())),
        ];
        let ids: BTreeSet<_> = all
            .iter()
            .map(|(topic, name)| message_id(topic, name))
            .collect();
        assert_eq!(ids.len(), all.len(), "{ids:?}");
    }
}
