//! Events that leave a turn: `cx.publish("orders", &order)`.
//!
//! An event is a message to its topic partition, so it commits with the turn or not at all, and is
//! appended exactly once: with the turn's own entry if the log is in the actor's partition, else by
//! the entry that accepts it. It travels in the envelope that Dapr's subscribers expect
//! (CloudEvents 1.0 as JSON); its id and time come from the request's first attempt, so that a turn
//! that runs again publishes the same event.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::limits::EVENT_HEADER_BYTES_MAX;
use ghostlight_protocol::topic::{PublishBody, TopicEvent, TopicName, TopicPartition};
use prost::Message;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::sdk::body::Body;
use crate::sdk::events::EventHandler;
use crate::sdk::turn::ReadTurn;
use crate::turn_io::OutMessage;

/// Component that a topic is of when none is named.
pub const PUBSUB_DEFAULT: &str = "pubsub";
/// Media type of an event with its envelope.
const CLOUD_EVENT: &str = "application/cloudevents+json";
const TYPE_DEFAULT: &str = "com.dapr.event.sent";
/// Method of a message to a topic partition; says nothing.
const METHOD: &str = "publish";

/// Where an event goes, and what is said beside it. A topic's name alone is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pubsub: String,
    name: String,
    key: Option<String>,
    kind: Option<String>,
}

impl Topic {
    /// A topic of the component `pubsub`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            pubsub: PUBSUB_DEFAULT.to_owned(),
            name: name.into(),
            key: None,
            kind: None,
        }
    }

    /// Of another component. It must be one that Ghostlight serves itself: there alone is the log
    /// that a turn commits with.
    #[must_use]
    pub fn of(mut self, pubsub: impl Into<String>) -> Self {
        self.pubsub = pubsub.into();
        self
    }

    /// Events with the same key keep their order. Without one those of this actor do.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The event's type, for rules of subscribers; without it `com.dapr.event.sent`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }
}

impl Topic {
    /// Whether a subscription is for it.
    pub(super) fn is(&self, handler: &EventHandler) -> bool {
        (self.pubsub.as_str(), self.name.as_str()) == (handler.pubsub, handler.topic)
    }
}

impl From<&str> for Topic {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Topic {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// CloudEvents' attributes, in the order of their names.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    datacontenttype: &'static str,
    id: &'a str,
    pubsubname: &'a str,
    source: &'a str,
    specversion: &'static str,
    time: &'a str,
    topic: &'a str,
    r#type: &'a str,
}

/// The message that carries an event; `place`: how many effects the turn staged before it.
///
/// # Errors
/// A text: a name that cannot be one, an event that cannot be encoded, too much beside its data.
pub(super) fn message(
    cx: &ReadTurn,
    to: Topic,
    event: &impl Body,
    place: usize,
) -> Result<OutMessage, String> {
    let body = event.to_body()?;
    let actor = cx.actor();
    let name = TopicName::new(actor.namespace(), &to.pubsub, &to.name)
        .map_err(|error| error.to_string())?;
    let source = format!("{}/{}", actor.actor_type(), actor.actor_id());
    let id = hash128(
        domain::EVENT_ID,
        &[
            actor.as_bytes(),
            &cx.request_id().to_bytes(),
            &(place as u64).to_be_bytes(),
        ],
    );
    let text = std::str::from_utf8(&body).ok();
    let json = text.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let envelope = Envelope {
        data: json,
        data_base64: json.is_none().then(|| STANDARD.encode(&body)),
        datacontenttype: match json {
            Some(_) => "application/json",
            None => "application/octet-stream",
        },
        id: &format!("{id:032x}"),
        pubsubname: &to.pubsub,
        source: &source,
        specversion: "1.0",
        time: &rfc3339(cx.now()),
        topic: &to.name,
        r#type: to.kind.as_deref().unwrap_or(TYPE_DEFAULT),
    };
    let data = serde_json::to_vec(&envelope).map_err(|error| error.to_string())?;
    let topic = name.partition_for(to.key.as_ref().unwrap_or(&source).as_bytes());
    let event = TopicEvent {
        key: to.key.map(Bytes::from),
        data: data.into(),
        content_type: CLOUD_EVENT.to_owned(),
        published_ms: cx.now().0,
        source,
        ..TopicEvent::default()
    };
    let header = event.encoded_len() - event.data.len();
    if header > EVENT_HEADER_BYTES_MAX {
        return Err(format!(
            "key and source of an event have {header} bytes, at most {EVENT_HEADER_BYTES_MAX} are allowed"
        ));
    }
    let body = PublishBody {
        events: vec![event],
        ..PublishBody::default()
    };
    Ok(OutMessage {
        actor: topic.key(),
        method: METHOD.to_owned(),
        body: body.encode_to_vec().into(),
    })
}

/// An event that a turn published, as tests see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublishedEvent {
    /// Where it goes.
    pub topic: TopicPartition,
    /// The event.
    pub event: TopicEvent,
}

impl PublishedEvent {
    /// The event that a message carries; `None`: it is one for an actor.
    #[must_use]
    pub fn of(message: &OutMessage) -> Option<Self> {
        let topic = TopicPartition::of_key(&message.actor)?;
        let body = PublishBody::decode(message.body.clone()).ok()?;
        let event = body.events.into_iter().next()?;
        Some(Self { topic, event })
    }

    /// What was published, without its envelope.
    #[must_use]
    pub fn data(&self) -> Bytes {
        #[derive(serde::Deserialize)]
        struct Data<'a> {
            #[serde(borrow)]
            data: Option<&'a RawValue>,
            #[serde(default)]
            data_base64: String,
        }
        match serde_json::from_slice::<Data<'_>>(&self.event.data) {
            Ok(Data {
                data: Some(json), ..
            }) => Bytes::copy_from_slice(json.get().as_bytes()),
            Ok(Data { data_base64, .. }) => STANDARD.decode(data_base64).unwrap_or_default().into(),
            Err(_) => self.event.data.clone(),
        }
    }
}
