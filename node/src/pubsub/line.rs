//! One subscription at work: events of a bus become letters, answers become verdicts.
//!
//! What the bus does not do by itself is done here: dead letters of a bus without redelivery,
//! expiry, routes. Events are handled as many at a time as the bus lets out; their order is the
//! bus's business.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use super::stop::{self, Stop, Trying};
use super::target::{Handed, Letter, Said, Target};
use super::wanted::Wanted;
use super::{options, stamp};
use crate::clock::wall_now;
use crate::topics::{
    Delivery, Event, Feature, Promise, Publish, PublishOutcome, Subscribe, Subscription, Verdict,
};

/// How long a dead letter may take to be published.
const DEAD_LETTER_TIME_MAX: Duration = Duration::from_secs(30);
/// What did not reach its application is tried again after so long, and so often; then it counts as
/// failed. An application that nobody reaches is withdrawn long before.
pub(super) const UNSENT_PAUSE: Duration = Duration::from_millis(100);
pub(super) const UNSENT_TIMES: u32 = 100;
/// Name of the component among the metadata of an event.
pub(super) const PUBSUB_NAME: &str = "pubsubName";

/// What became of an event at its application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The last word on it.
    Said(Said),
    /// It had failed when the subscription ended, and why: to be tried again, by whoever subscribes
    /// then.
    Failed(String),
    /// The subscription ended before anybody saw it.
    Unseen,
}

impl Ended {
    /// With what was said at last. What has begun when the subscription ends may end well or not; a
    /// failure is nobody's last word then, and makes no dead letter.
    pub(super) fn of(said: Said, stop: &Stop) -> Self {
        match said {
            Said::Done | Said::Never(_) => Self::Said(said),
            said if !stop.is_set() => Self::Said(said),
            Said::Again(why) | Said::Failed(_, why) => Self::Failed(why),
            Said::Unsent(_) => Self::Unseen,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) component: Arc<Component>,
    /// What it subscribes to: with wildcards, events have topics of their own.
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
        let commits = component.has(Feature::Forward)
            && component.bus.promise(&topic) == Promise::AtLeastOnce;
        if actor.is_some() && !commits {
            return Err(format!(
                "{place}: events of {topic} ({}) cannot go to actors: only Ghostlight's own durable topics commit with \
                 their turns",
                component.kind
            ));
        }
        Ok(Self {
            dead_letter_topic: dead_letter_topic.map(name).transpose()?,
            routes: Routes::compile(&wanted.rules, wanted.default_path.clone())
                .map_err(|error| format!("{place}: {error}"))?,
            payload: payload(&wanted.metadata).map_err(|error| format!("{place}: {error}"))?,
            subscribe: options::subscribe(
                owner,
                &component,
                &wanted,
                topic.clone(),
                actor.as_ref(),
            )
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

    /// Handles events until the bus ends the subscription, or it is to stop. What the application
    /// has begun ends first; what it has not seen goes back, and counts as no delivery.
    pub(super) async fn run(&self, subscription: Subscription, stop: &Stop) {
        let (stopper, stopping) = stop::pair();
        let mut left = Vec::new();
        // No tasks: a runtime begins those in whatever order. What is handled side by side is begun
        // as it came, so that a stream has the events of one publisher in their order, with a key
        // and without.
        let mut under_way = FuturesUnordered::new();
        // Dropped before what it has delivered, however this ends.
        let mut subscription = subscription;
        loop {
            tokio::select! {
                () = stop.wait() => break,
                delivery = subscription.next() => match delivery {
                    Some(delivery) => under_way.push(self.handle(delivery, &stopping)),
                    None => break,
                },
                Some(rest) = under_way.next() => left.extend(rest),
            }
        }
        stopper.stop();
        while let Some(rest) = under_way.next().await {
            left.extend(rest);
        }
        drop(subscription);
        drop(left);
    }

    /// Whether its events go to the application, and not to actors.
    pub(super) fn is_for_application(&self) -> bool {
        self.actor.is_none()
    }

    /// What is left is to be dropped after its subscription.
    async fn handle(&self, delivery: Delivery, stop: &Stop) -> Option<Delivery> {
        if let Some(actor) = &self.actor {
            self.forward(actor, delivery);
            return None;
        }
        let letter = match self.letter(&delivery) {
            Ok(letter) => letter,
            Err(said) => {
                self.settle(delivery, said).await;
                return None;
            }
        };
        let mut ended = self.deliver(&letter, stop).await;
        for _ in 0..UNSENT_TIMES {
            if !matches!(ended, Ended::Said(Said::Unsent(_))) || !self.is_kept() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(UNSENT_PAUSE) => {}
                () = stop.wait() => {}
            }
            ended = self.deliver(&letter, stop).await;
        }
        self.conclude(delivery, ended).await
    }

    /// Whether its bus keeps events until they are handled: then one that its application cannot
    /// have seen waits for it.
    pub(super) fn is_kept(&self) -> bool {
        self.component.bus.promise(&self.topic) == Promise::AtLeastOnce
    }

    /// Gives the verdict; what comes back is to be dropped after its subscription.
    pub(super) async fn conclude(&self, delivery: Delivery, ended: Ended) -> Option<Delivery> {
        match ended {
            Ended::Said(said) => self.settle(delivery, said).await,
            Ended::Failed(why) => delivery.retry(why),
            // The bus that ends it waits for this one; else it goes with the subscription.
            Ended::Unseen => return (!delivery.is_over()).then_some(delivery),
        }
        None
    }

    /// Makes a message to an actor of it. What cannot be one never can: it is a dead letter.
    fn forward(&self, actor: &ActorRoute, delivery: Delivery) {
        let envelope = self.envelope(&delivery);
        let message = envelope.and_then(|envelope| actor.message(&envelope).map_err(Said::Never));
        match message {
            Ok(message) => delivery.forward(message),
            Err(Said::Again(why) | Said::Failed(_, why) | Said::Never(why) | Said::Unsent(why)) => {
                tracing::warn!(topic = %self.topic, why, "an event is for no actor");
                delivery.discard(why);
            }
            Err(Said::Done) => delivery.ack(),
        }
    }

    async fn deliver(&self, letter: &Letter, stop: &Stop) -> Ended {
        let (trying, failed) = (Trying::default(), Mutex::new(None));
        let noted = |said: Said| {
            if let Said::Again(why) = &said {
                *lock(&failed) = Some(why.clone());
            }
            said
        };
        let attempt = || -> BoxFuture<'_, Attempt<Said>> {
            Box::pin(async {
                let _trying = trying.begin();
                let handed = Handed::default();
                let answer = self.target.deliver(letter, &handed);
                match stop.guard(&handed, answer).await {
                    None => Attempt::Over(ends()),
                    Some(said @ (Said::Done | Said::Never(_))) => Attempt::Over(said),
                    Some(Said::Failed(with, why)) => {
                        let said = noted(Said::Again(why));
                        self.component.inbound.failed(said, with)
                    }
                    Some(said @ (Said::Again(_) | Said::Unsent(_))) => Attempt::Failed(noted(said)),
                }
            })
        };
        let attempts = self
            .component
            .inbound
            .run(attempt, |cut| noted(cut_off(cut)));
        let said = stop.between(&trying, attempts).await;
        let said = match (said.unwrap_or_else(ends), lock(&failed).take()) {
            // Another attempt had reached it.
            (Said::Unsent(_), Some(why)) => Said::Again(why),
            (said, _) => said,
        };
        Ended::of(said, stop)
    }

    /// The envelope of an event that is not over.
    fn envelope(&self, delivery: &Delivery) -> Result<Envelope, Said> {
        let event = &delivery.event;
        let envelope = match self.payload {
            Payload::Raw => {
                let place = Place {
                    pubsub: &self.component.name,
                    topic: delivery.topic.topic(),
                    source: "",
                };
                Envelope::of_raw(&event.data, place, &event.attributes, stamp())
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
    pub(super) fn opened(&self, delivery: &Delivery) -> Result<(Envelope, String), Said> {
        let mut envelope = self.envelope(delivery)?;
        if delivery.missed > 0 {
            envelope.missed(delivery.missed);
        }
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

    fn letter(&self, delivery: &Delivery) -> Result<Letter, Said> {
        let (envelope, path) = self.opened(delivery)?;
        Ok(Letter {
            envelope,
            path,
            topic: delivery.topic.topic().to_owned(),
            pubsub: self.component.name.clone(),
            metadata: self.metadata(&delivery.event),
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
            Said::Again(why) | Said::Failed(_, why) | Said::Unsent(why) => Verdict::Retry(why),
            Said::Never(why) => Verdict::Drop(why),
        };
        self.note(&verdict);
        match &self.dead_letter_topic {
            Some(topic) if !self.component.redelivers(&self.topic) => {
                match self.bury(topic, delivery.event.clone()).await {
                    Ok(()) => delivery.ack(),
                    // Neither handled nor a letter: it is not over.
                    Err(why) => delivery.retry(why),
                }
            }
            Some(_) | None => delivery.settle(verdict),
        }
    }

    /// Makes a dead letter of the event.
    ///
    /// # Errors
    /// It may be none; why.
    async fn bury(&self, topic: &TopicName, event: Event) -> Result<(), String> {
        let publish = Publish {
            topic: topic.clone(),
            event,
            dedup: None,
            name: None,
            ttl: None,
            timeout: Some(DEAD_LETTER_TIME_MAX),
            retention: None,
        };
        let why = match self.component.bus.publish(publish).await {
            PublishOutcome::Done(_) => return Ok(()),
            PublishOutcome::NotRun(refusal) => refusal.detail,
            PublishOutcome::Unknown { detail, .. } => detail,
        };
        tracing::warn!(
            topic = %self.topic,
            dead_letter_topic = %topic,
            why,
            "a dead letter could not be published: its event comes again"
        );
        Err(format!("its dead letter could not be published: {why}"))
    }

    fn note(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Ack | Verdict::Forward(_) | Verdict::GiveBack => {}
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
    match cut {
        Cut::Late(timeout) => Said::Again(format!(
            "no answer within {timeout:?}, the policy's timeout"
        )),
        Cut::Open => Said::Unsent("circuit breaker is open".to_owned()),
    }
}

fn ends() -> Said {
    Said::Unsent("the subscription ends".to_owned())
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
