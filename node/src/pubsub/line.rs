//! One subscription at work: events of a bus become letters, answers become verdicts.
//!
//! What the bus does not do by itself is done here: dead letters of a bus without redelivery, expiry, routes. Events are handled
//! as many at a time as the bus lets out; their order is the bus's business.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use ghostlight_protocol::topic::TopicName;

use super::actor_route::ActorRoute;
use super::envelope::{Envelope, Place};
use super::metadata::{Metadata, Payload, payload};
use super::policy::{Attempt, Cut};
use super::registry::{Component, Owner};
use super::routes::Routes;
use super::scopes::Act;
use super::target::{Letter, Said, Target};
use super::wanted::Wanted;
use super::{options, stamp};
use crate::clock::wall_now;
use crate::topics::{
    Delivery, Event, Feature, Publish, PublishOutcome, Subscribe, Subscription, Verdict,
};

/// How long a dead letter may take to be published.
const DEAD_LETTER_TIME_MAX: Duration = Duration::from_secs(30);
/// Name of the component among the metadata of an event.
const PUBSUB_NAME: &str = "pubsubName";

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) component: Arc<Component>,
    pub(super) topic: TopicName,
    dead_letter_topic: Option<TopicName>,
    pub(super) wanted: Wanted,
    routes: Routes,
    actor: Option<ActorRoute>,
    pub(super) payload: Payload,
    pub(super) target: Arc<dyn Target>,
    subscribe: Subscribe,
}

impl Line {
    /// Checks what is wanted.
    ///
    /// # Errors
    /// A sentence: the application may not, or a name, a rule or an option is none.
    pub(super) fn new(
        owner: &Owner,
        component: Arc<Component>,
        wanted: Wanted,
        target: Arc<dyn Target>,
    ) -> Result<Self, String> {
        let Wanted { topic, place, .. } = &wanted;
        if !component.scopes.allow(Act::Subscribe, &owner.app_id, topic) {
            return Err(format!(
                "{place}: topic {topic} of {} is not allowed for app id {}",
                component.name, owner.app_id
            ));
        }
        let name = |topic: &str| {
            TopicName::new(&owner.namespace, &component.name, topic)
                .map_err(|error| format!("{place}: {error}"))
        };
        let dead_letter_topic = wanted.dead_letter_topic.as_deref();
        let topic = name(topic)?;
        let actor = ActorRoute::of(&wanted.metadata, &owner.namespace)
            .map_err(|error| format!("{place}: {error}"))?;
        if actor.is_some() && !component.has(Feature::Forward) {
            return Err(format!(
                "{place}: events of {} ({}) cannot go to actors: only Ghostlight's own topics commit with their turns",
                component.name, component.kind
            ));
        }
        Ok(Self {
            dead_letter_topic: dead_letter_topic.map(name).transpose()?,
            routes: Routes::compile(&wanted.rules, wanted.default_path.clone())
                .map_err(|error| format!("{place}: {error}"))?,
            payload: payload(&wanted.metadata).map_err(|error| format!("{place}: {error}"))?,
            subscribe: options::subscribe(&component, &wanted, topic.clone(), actor.as_ref())
                .map_err(|error| format!("{place}: {error}"))?,
            actor,
            topic,
            component,
            wanted,
            target,
        })
    }

    /// What the bus is asked for.
    pub(super) fn subscribe(&self) -> Subscribe {
        self.subscribe.clone()
    }

    /// Handles events until the bus ends the subscription.
    pub(super) async fn run(&self, mut subscription: Subscription) {
        // No tasks: a runtime begins those in whatever order. What is handled side by side is begun as it came, so that
        // a stream has the events of one publisher in their order, with a key and without.
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => under_way.push(self.handle(delivery)),
                    None => return,
                },
                Some(()) = under_way.next() => {}
            }
        }
    }

    /// Whether its events go to the application, and not to actors.
    pub(super) fn is_for_application(&self) -> bool {
        self.actor.is_none()
    }

    async fn handle(&self, delivery: Delivery) {
        if let Some(actor) = &self.actor {
            return self.forward(actor, delivery);
        }
        let said = match self.letter(&delivery.event) {
            Ok(letter) => self.deliver(&letter).await,
            Err(said) => said,
        };
        self.settle(delivery, said).await;
    }

    /// Makes a message to an actor of it. What cannot be one never can: it is a dead letter.
    fn forward(&self, actor: &ActorRoute, delivery: Delivery) {
        let envelope = self.envelope(&delivery.event);
        let message = envelope.and_then(|envelope| actor.message(&envelope).map_err(Said::Never));
        match message {
            Ok(message) => delivery.forward(message),
            Err(Said::Again(why) | Said::Never(why)) => {
                tracing::warn!(topic = %self.topic, why, "an event is for no actor");
                delivery.discard(why);
            }
            Err(Said::Done) => delivery.ack(),
        }
    }

    async fn deliver(&self, letter: &Letter) -> Said {
        let attempt = || -> BoxFuture<'_, Attempt<Said>> {
            Box::pin(async {
                match self.target.deliver(letter).await {
                    Said::Again(why) => Attempt::Failed(Said::Again(why)),
                    said => Attempt::Over(said),
                }
            })
        };
        self.component.inbound.run(attempt, cut_off).await
    }

    /// The envelope of an event that is not over.
    fn envelope(&self, event: &Event) -> Result<Envelope, Said> {
        let envelope = match self.payload {
            Payload::Raw => {
                let place = Place {
                    pubsub: &self.component.name,
                    topic: self.topic.topic(),
                    source: "",
                };
                Envelope::of_raw(&event.data, place, stamp())
            }
            Payload::Wrapped => Envelope::parse(&event.data)
                .map_err(|why| Said::Again(format!("the event cannot be read: {why}")))?,
        };
        if envelope.is_expired(wall_now()) {
            return Err(Said::Never("it has expired".to_owned()));
        }
        Ok(envelope)
    }

    /// The envelope of an event, and the path that it goes to.
    ///
    /// # Errors
    /// It goes nowhere; what becomes of it.
    pub(super) fn opened(&self, event: &Event) -> Result<(Envelope, String), Said> {
        let envelope = self.envelope(event)?;
        let path = match self.wanted.rules.is_empty() {
            true => self.wanted.default_path.as_deref(),
            false => self
                .routes
                .path(&envelope.to_json())
                .map_err(|why| Said::Again(why.to_string()))?,
        };
        match path {
            Some(path) => Ok((envelope, path.to_owned())),
            None => Err(Said::Never(
                "no route matches, and there is no default".to_owned(),
            )),
        }
    }

    fn letter(&self, event: &Event) -> Result<Letter, Said> {
        let (envelope, path) = self.opened(event)?;
        Ok(Letter {
            envelope,
            path,
            topic: self.topic.topic().to_owned(),
            pubsub: self.component.name.clone(),
            metadata: self.metadata(event),
        })
    }

    /// What travels beside an event.
    pub(super) fn metadata(&self, event: &Event) -> Metadata {
        let mut metadata = event.attributes.clone();
        metadata.insert(PUBSUB_NAME.to_owned(), self.component.name.clone());
        metadata
    }

    /// Gives the verdict; where the bus keeps no dead letters, they are published first.
    pub(super) async fn settle(&self, delivery: Delivery, said: Said) {
        let verdict = match said {
            Said::Done => return delivery.ack(),
            Said::Again(why) => Verdict::Retry(why),
            Said::Never(why) => Verdict::Drop(why),
        };
        self.note(&verdict);
        let buried = match &self.dead_letter_topic {
            Some(topic) if !self.component.has(Feature::Redelivery) => {
                self.bury(topic, delivery.event.clone()).await
            }
            Some(_) | None => false,
        };
        match buried {
            true => delivery.ack(),
            false => delivery.settle(verdict),
        }
    }

    /// Whether the event is a dead letter now.
    async fn bury(&self, topic: &TopicName, event: Event) -> bool {
        let publish = Publish {
            topic: topic.clone(),
            event,
            dedup: None,
            ttl: None,
            timeout: Some(DEAD_LETTER_TIME_MAX),
            retention: None,
        };
        match self.component.bus.publish(publish).await {
            PublishOutcome::Done(_) => true,
            failed => {
                tracing::warn!(
                    topic = %self.topic,
                    dead_letter_topic = %topic,
                    ?failed,
                    "a dead letter could not be published"
                );
                false
            }
        }
    }

    fn note(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Ack | Verdict::Forward(_) => {}
            Verdict::Retry(why) => {
                tracing::debug!(topic = %self.topic, why, "an event was not taken");
            }
            Verdict::Drop(why) => {
                tracing::warn!(topic = %self.topic, why, "an event is dropped");
            }
        }
    }
}

/// What it means to be cut off by a policy.
pub(super) fn cut_off(cut: Cut) -> Said {
    Said::Again(match cut {
        Cut::Late(timeout) => format!("no answer within {timeout:?}, the policy's timeout"),
        Cut::Open => "circuit breaker is open".to_owned(),
    })
}
