//! Publishing one event: its metadata read, its envelope made, its topic allowed, then handed to
//! the bus.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::code::{Class, Code};
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::WallTime;

use super::envelope::{Body, Envelope, Place, Trace};
use super::metadata::{Metadata, Payload, Wishes, find, wishes};
use super::policy::{Attempt, Cut};
use super::registry::Component;
use super::{PubSub, fresh_id, stamp};
use crate::api::error_map::pubsub::failed_with;
use crate::api::resilience::Transport;
use crate::topics::{Event, EventName, Feature, Publish, PublishOutcome, TurnMessage};

/// What a publisher says beside the event.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Beside {
    /// Metadata of the request.
    pub metadata: Metadata,
    /// W3C `traceparent`; empty: none.
    pub trace_parent: String,
    /// W3C `tracestate`; empty: none.
    pub trace_state: String,
    /// The publisher's own name of this publish: a second one with the same name publishes nothing.
    pub dedup: Option<Bytes>,
    /// How it came, and how its end is told.
    pub over: Transport,
}

/// Why nothing was published, or why nobody knows whether it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// There are no components.
    NotConfigured,
    /// The name of the component is missing.
    NameEmpty,
    /// There is no such component.
    NotFound,
    /// The topic is missing.
    TopicEmpty,
    /// The topic cannot be one.
    Topic(String),
    /// The application may not publish to the topic.
    Forbidden {
        /// The application.
        app_id: String,
    },
    /// Metadata cannot be read.
    Metadata(String),
    /// What says that it is an event is none.
    CloudEvent(String),
    /// The body of a bulk publish cannot be read.
    Unmarshal(String),
    /// An entry of a bulk publish is not what it says.
    Entries(String),
    /// The bus did not take it, or nobody knows.
    Bus(BusError),
}

/// What a bus says that did not take an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BusError {
    /// It certainly did not.
    NotRun(NotRun),
    /// It may have.
    Unknown {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}

impl BusError {
    /// Whether trying again may help.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::NotRun(refusal) => {
                matches!(refusal.code.class(), Class::Retry | Class::Overloaded)
            }
            Self::Unknown { .. } => true,
        }
    }
}

impl PubSub {
    /// Publishes one event.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        component: &Arc<Component>,
        topic: &str,
        body: Body<'_>,
        beside: Beside,
    ) -> Result<(), PublishError> {
        let publish = self.made(component, topic, body, &beside)?;
        hand_over(component, publish, beside.over).await
    }

    /// The message by which an event leaves with what a turn commits.
    ///
    /// # Errors
    /// See [`PublishError`]; among them that the bus has no part in what a turn commits.
    pub fn message(
        &self,
        component: &Component,
        topic: &str,
        body: Body<'_>,
        beside: &Beside,
    ) -> Result<TurnMessage, PublishError> {
        let publish = self.made(component, topic, body, beside)?;
        message(component, publish)
    }

    fn made(
        &self,
        component: &Component,
        topic: &str,
        body: Body<'_>,
        beside: &Beside,
    ) -> Result<Publish, PublishError> {
        let wishes = read(&beside.metadata)?;
        let mut attributes = beside.metadata.clone();
        let (data, name) =
            self.enveloped(component, topic, body, beside, &wishes, &mut attributes)?;
        Ok(Publish {
            topic: self.allowed(component, topic)?,
            event: self.event(data, body.content_type, &wishes, attributes),
            dedup: beside.dedup.clone(),
            name,
            ttl: wishes.ttl,
            timeout: None,
            retention: None,
        })
    }

    /// The bytes that travel, and the event's name if its publisher gave it an id. A raw payload
    /// gets its trace beside it, among the attributes.
    pub(super) fn enveloped(
        &self,
        component: &Component,
        topic: &str,
        body: Body<'_>,
        beside: &Beside,
        wishes: &Wishes,
        attributes: &mut Metadata,
    ) -> Result<(Bytes, Option<EventName>), PublishError> {
        if wishes.payload == Payload::Raw {
            let given = |name| find(attributes, name).map(str::to_owned);
            let name = given("cloudevent.id").map(|id| EventName {
                source: given("cloudevent.source").unwrap_or_else(|| self.owner.app_id.clone()),
                id,
            });
            for (name, value) in [
                ("traceid", &beside.trace_parent),
                ("tracestate", &beside.trace_state),
            ] {
                if !value.is_empty() {
                    attributes.insert(name.to_owned(), value.clone());
                }
            }
            return Ok((Bytes::copy_from_slice(body.data), name));
        }
        let place = Place {
            pubsub: &component.name,
            topic,
            source: &self.owner.app_id,
        };
        let trace = Trace {
            parent: &beside.trace_parent,
            state: &beside.trace_state,
        };
        let stamp = stamp();
        let (fresh, now) = (stamp.id.clone(), stamp.time);
        let made = Envelope::of(body, place, trace, attributes, stamp);
        let mut envelope = made.map_err(|why| PublishError::CloudEvent(why.to_string()))?;
        if let Some(ttl) = wishes.ttl
            && !component.has(Feature::MessageTtl)
        {
            let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            envelope.expire(WallTime(now.0.saturating_add(millis)));
        }
        let text = |name| envelope.text(name);
        let name = text("id").filter(|id| *id != fresh).map(|id| EventName {
            source: text("source").unwrap_or_default(),
            id,
        });
        Ok((envelope.to_bytes(), name))
    }

    pub(super) fn event(
        &self,
        data: Bytes,
        content_type: &str,
        wishes: &Wishes,
        attributes: BTreeMap<String, String>,
    ) -> Event {
        let content_type = match wishes.payload {
            Payload::Wrapped => super::envelope::CLOUD_EVENT,
            Payload::Raw => content_type,
        };
        Event {
            key: wishes.key.clone(),
            data,
            content_type: content_type.to_owned(),
            source: self.owner.app_id.clone(),
            attributes,
        }
    }
}

/// A publish as a message of a turn.
pub(super) fn message(
    component: &Component,
    publish: Publish,
) -> Result<TurnMessage, PublishError> {
    let refused = |why: String| {
        let refusal = NotRun::new(Code::InvalidArgument, why);
        PublishError::Bus(BusError::NotRun(refusal))
    };
    match component.bus.message(publish) {
        Some(message) => message.map_err(refused),
        None => Err(refused(format!(
            "component {} ({}) has no part in what a turn commits: only Ghostlight's own durable topics have. Publish \
             without Ghostlight-Turn",
            component.name, component.kind
        ))),
    }
}

/// Reads metadata.
pub(super) fn read(metadata: &Metadata) -> Result<Wishes, PublishError> {
    wishes(metadata).map_err(|why| PublishError::Metadata(why.to_string()))
}

/// The name of an event that may be published more than once: its publisher's, or one of its own,
/// so that a bus that knows names takes it once.
pub(super) fn named(component: &Component, name: Option<EventName>) -> Option<EventName> {
    let own = || EventName {
        source: component.name.clone(),
        id: fresh_id(),
    };
    match component.outbound.repeats() {
        true => Some(name.unwrap_or_else(own)),
        false => name,
    }
}

/// Publishes under the component's policy.
pub(super) async fn hand_over(
    component: &Arc<Component>,
    mut publish: Publish,
    over: Transport,
) -> Result<(), PublishError> {
    let policy = &component.outbound;
    publish.name = named(component, publish.name);
    let attempt = || -> BoxFuture<'_, Attempt<Result<(), BusError>>> {
        let publish = publish.clone();
        Box::pin(async {
            match judged(component.bus.publish(publish).await) {
                Err(error) if error.passes() => {
                    let with = failed_with(&error, over);
                    policy.failed(Err(error), with)
                }
                ended => Attempt::Over(ended),
            }
        })
    };
    let published = policy.run(attempt, |cut| Err(cut_off(cut))).await;
    published.map_err(PublishError::Bus)
}

/// What the outcome of a bus means.
pub(super) fn judged(outcome: PublishOutcome) -> Result<(), BusError> {
    match outcome {
        PublishOutcome::Done(_) => Ok(()),
        PublishOutcome::NotRun(refusal) => Err(BusError::NotRun(refusal)),
        PublishOutcome::Unknown { code, detail } => Err(BusError::Unknown { code, detail }),
    }
}

/// What it means to be cut off by a policy.
pub(super) fn cut_off(cut: Cut) -> BusError {
    match cut {
        Cut::Late(timeout) => BusError::Unknown {
            code: Code::OutcomeUnknown,
            detail: format!("no answer within {timeout:?}, the policy's timeout"),
        },
        Cut::Open => BusError::NotRun(NotRun::new(Code::BusUnavailable, "circuit breaker is open")),
    }
}
