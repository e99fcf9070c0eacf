//! Events for native actors: one subscription for each `#[on_event]` method of the types that this
//! node hosts.
//!
//! All nodes that host a type share its groups. The actor that an event is for is computed here,
//! from the event's data; the leader of the log makes a message of it, in the entry that settles
//! the event. An event that names no actor is a dead letter of the group.

use bytes::Bytes;
use ghostlight_core::sdk::{ActorRegistry, EventHandler};
use ghostlight_protocol::actor::ActorKey;
use tokio::task::JoinHandle;

use crate::handle::NodeHandle;
use crate::pubsub::envelope::{CLOUD_EVENT, Envelope};
use crate::topics::{Event, ForActor, Subscribe, Subscription, TopicName, keep};

/// The subscriptions of a node's native actors; they end with it.
#[derive(Debug, Default)]
pub(crate) struct Events(Vec<JoinHandle<()>>);

impl Drop for Events {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// One of them.
struct Line {
    namespace: String,
    actor_type: &'static str,
    handler: &'static EventHandler,
}

impl Events {
    /// Subscribes for every type.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn begin(registry: &ActorRegistry, namespace: &str, handle: &NodeHandle) -> Self {
        let tasks = registry.events().map(|(actor_type, handler)| {
            let line = Line {
                namespace: namespace.to_owned(),
                actor_type,
                handler,
            };
            tokio::spawn(line.keep(handle.clone()))
        });
        Self(tasks.collect())
    }
}

impl Line {
    async fn keep(self, handle: NodeHandle) {
        let EventHandler { pubsub, topic, .. } = self.handler;
        let topic = match TopicName::new(&self.namespace, pubsub, topic) {
            Ok(topic) => topic,
            Err(error) => {
                return tracing::error!(handler = ?self.handler, "no subscription: {error}");
            }
        };
        let wanted = Subscribe::for_actors(topic, self.handler.group(self.actor_type));
        let line = &self;
        keep(&handle, &wanted, |subscription| line.run(subscription)).await;
    }

    async fn run(&self, mut subscription: Subscription) {
        while let Some(delivery) = subscription.next().await {
            match self.message(&delivery.event) {
                Ok(message) => delivery.forward(message),
                Err(why) => {
                    tracing::warn!(handler = ?self.handler, why, "an event is for no actor");
                    delivery.discard(why);
                }
            }
        }
    }

    /// The message that an event becomes.
    fn message(&self, event: &Event) -> Result<ForActor, String> {
        let body = data_of(event)?;
        let id = (self.handler.actor_id)(&body)
            .map_err(|why| format!("its data is not what the method takes: {why}"))?;
        let actor = ActorKey::new(&self.namespace, self.actor_type, &id)
            .map_err(|error| format!("{id:?} is no actor's id: {error}"))?;
        Ok(ForActor {
            actor,
            method: self.handler.method.to_owned(),
            body,
        })
    }
}

/// What was published: out of its envelope, if it has one.
fn data_of(event: &Event) -> Result<Bytes, String> {
    match Envelope::parse(&event.data) {
        Ok(envelope) if event.content_type == CLOUD_EVENT => {
            envelope.payload().map_err(|why| why.to_string())
        }
        Ok(_) | Err(_) => Ok(event.data.clone()),
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_core::samples;

    use super::*;

    fn line() -> Line {
        let registry = samples::registry();
        let (actor_type, handler) = registry.events().next().expect("one sample is subscribed");
        Line {
            namespace: "default".to_owned(),
            actor_type,
            handler,
        }
    }

    fn event(content_type: &str, data: &'static str) -> Event {
        Event {
            data: Bytes::from_static(data.as_bytes()),
            content_type: content_type.to_owned(),
            ..Event::default()
        }
    }

    #[test]
    fn data_is_the_same_with_and_without_an_envelope() {
        let plain = r#"{"of":"apples","amount":3}"#;
        let wrapped = r#"{"data":{"of":"apples","amount":3},"datacontenttype":"application/json"}"#;
        for event in [
            event("application/json", plain),
            event(CLOUD_EVENT, wrapped),
        ] {
            let message = line().message(&event).unwrap();
            assert_eq!(message.actor.to_string(), "tally/apples");
            assert_eq!(
                (message.method.as_str(), &message.body[..]),
                ("count", plain.as_bytes())
            );
        }
    }

    #[test]
    fn what_names_no_actor_says_why() {
        for (data, words) in [
            ("", "the body is empty"),
            ("7", "not what the method takes"),
            (r#"{"of":"a?b","amount":1}"#, "a?b"),
            (r#"{"of":"","amount":1}"#, "no actor's id"),
        ] {
            let why = line().message(&event("", data)).unwrap_err();
            assert!(why.contains(words), "{data}: {why}");
        }
    }
}
