//! The envelope of an event: CloudEvents 1.0 as JSON, with Dapr's rules about what goes in.
//!
//! Pure. Values are kept as they were written, so that numbers lose nothing on their way. Ids and
//! times come in as a [`Stamp`]. Deliberately absent: batches, the binary form, and checks of what
//! a publisher calls an event itself beyond its being an object.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ghostlight_protocol::calendar::{parse_rfc3339, rfc3339};
use ghostlight_protocol::time::WallTime;
use serde_json::value::{RawValue, to_raw_value};

use super::metadata::{Metadata, find};

/// Media type of an event with its envelope.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";
/// Attribute of an event before which others were lost: how many.
pub const MISSED: &str = "ghostlightmissed";
const SPEC_VERSION: &str = "1.0";
const DEFAULT_SOURCE: &str = "Dapr";
const DEFAULT_TYPE: &str = "com.dapr.event.sent";
const DEFAULT_CONTENT_TYPE: &str = "text/plain";
const OCTETS: &str = "application/octet-stream";

/// What makes an envelope unlike every other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// A fresh id.
    pub id: String,
    /// Now.
    pub time: WallTime,
}

/// Where an event is published, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Name of the component.
    pub pubsub: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The publisher's app-id.
    pub source: &'a str,
}

/// W3C trace context of the publish; empty: none.
#[derive(Clone, Copy, Default, Debug)]
pub struct Trace<'a> {
    /// `traceparent`.
    pub parent: &'a str,
    /// `tracestate`.
    pub state: &'a str,
}

/// The payload of a publish.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Its bytes.
    pub data: &'a [u8],
    /// Its media type; empty: none was said.
    pub content_type: &'a str,
}

/// Attributes by name, with `data` or `data_base64` among them.
#[derive(Clone, Debug)]
pub struct Envelope(BTreeMap<String, Box<RawValue>>);

/// It is no JSON object, or its data is not what it says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAnEvent(String);

impl Envelope {
    /// The envelope of a publish: the publisher's own if it says that it brings one, else a new
    /// one.
    ///
    /// # Errors
    /// The publisher's own is no JSON object.
    pub fn of(
        body: Body<'_>,
        place: Place<'_>,
        trace: Trace<'_>,
        metadata: &Metadata,
        stamp: Stamp,
    ) -> Result<Self, NotAnEvent> {
        if media_type(body.content_type) == CLOUD_EVENT {
            return Self::adopted(body.data, place, trace, stamp);
        }
        Ok(Self::wrapped(body, place, trace, metadata, stamp))
    }

    fn wrapped(
        body: Body<'_>,
        place: Place<'_>,
        trace: Trace<'_>,
        metadata: &Metadata,
        stamp: Stamp,
    ) -> Self {
        let over = |name: &str| find(metadata, &format!("cloudevent.{name}"));
        let parent = over("traceparent").or_else(|| over("traceid"));
        let parent = parent.unwrap_or(trace.parent);
        let content_type = match body.content_type {
            "" => DEFAULT_CONTENT_TYPE,
            content_type => content_type,
        };
        let mut envelope = Self(BTreeMap::new());
        for (name, value) in [
            ("id", over("id").unwrap_or(&stamp.id)),
            ("specversion", SPEC_VERSION),
            ("source", over("source").unwrap_or(place.source)),
            ("type", over("type").unwrap_or(DEFAULT_TYPE)),
            ("datacontenttype", content_type),
            ("topic", place.topic),
            ("pubsubname", place.pubsub),
            ("time", &rfc3339(stamp.time)),
            ("traceid", parent),
            ("traceparent", parent),
            ("tracestate", over("tracestate").unwrap_or(trace.state)),
        ] {
            envelope.set(name, value);
        }
        if let Some(subject) = over("subject") {
            envelope.set("subject", subject);
        }
        envelope.put_data(body.data, content_type);
        envelope
    }

    fn put_data(&mut self, data: &[u8], content_type: &str) {
        let kind = media_type(content_type);
        if is_json(&kind) {
            if let Ok(json) = serde_json::from_slice::<Box<RawValue>>(data) {
                self.0.insert("data".to_owned(), json);
                return;
            }
        } else if kind == OCTETS || kind == "application/cloudevents+protobuf" {
            self.set("data_base64", &STANDARD.encode(data));
            return;
        }
        self.set("data", &String::from_utf8_lossy(data));
    }

    /// A publisher's own event: only what it leaves out is filled in.
    fn adopted(
        data: &[u8],
        place: Place<'_>,
        trace: Trace<'_>,
        stamp: Stamp,
    ) -> Result<Self, NotAnEvent> {
        let mut envelope = Self::parse(data)?;
        envelope.set("topic", place.topic);
        envelope.set("pubsubname", place.pubsub);
        let parent = envelope
            .text("traceparent")
            .or_else(|| envelope.text("traceid"));
        let parent = parent.unwrap_or_else(|| trace.parent.to_owned());
        envelope.set("traceid", &parent);
        envelope.set("traceparent", &parent);
        for (name, value) in [
            ("tracestate", trace.state),
            ("source", DEFAULT_SOURCE),
            ("type", DEFAULT_TYPE),
            ("specversion", SPEC_VERSION),
            ("id", &stamp.id),
            ("time", &rfc3339(stamp.time)),
        ] {
            let missing = envelope.0.get(name).is_none_or(|raw| raw.get() == "null");
            if missing {
                envelope.set(name, value);
            }
        }
        Ok(envelope)
    }

    /// The envelope of a payload that was published without one, for a subscriber that expects
    /// none. Its trace travels among the attributes beside it.
    #[must_use]
    pub fn of_raw(data: &[u8], place: Place<'_>, beside: &Metadata, stamp: Stamp) -> Self {
        let mut envelope = Self(BTreeMap::new());
        for (name, value) in [
            ("id", stamp.id.as_str()),
            ("specversion", SPEC_VERSION),
            ("source", DEFAULT_SOURCE),
            ("type", DEFAULT_TYPE),
            ("datacontenttype", OCTETS),
            ("topic", place.topic),
            ("pubsubname", place.pubsub),
            ("time", &rfc3339(stamp.time)),
            ("data_base64", &STANDARD.encode(data)),
        ] {
            envelope.set(name, value);
        }
        let given = |name| find(beside, name).filter(|value| !value.is_empty());
        let parent = given("traceparent").or_else(|| given("traceid"));
        for (name, value) in [
            ("traceid", given("traceid").or(parent)),
            ("traceparent", parent),
            ("tracestate", given("tracestate")),
        ] {
            if let Some(value) = value {
                envelope.set(name, value);
            }
        }
        envelope
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn parse(data: &[u8]) -> Result<Self, NotAnEvent> {
        let parsed = serde_json::from_slice(data);
        parsed
            .map(Self)
            .map_err(|error| NotAnEvent(format!("it is no JSON object: {error}")))
    }

    fn set(&mut self, name: &str, value: &str) {
        let value = to_raw_value(value).expect("a string is JSON");
        self.0.insert(name.to_owned(), value);
    }

    /// Says when it is over.
    pub fn expire(&mut self, at: WallTime) {
        self.set("expiration", &rfc3339(at));
    }

    /// Says how many events before it the subscriber does not get.
    pub fn missed(&mut self, count: u64) {
        let count = to_raw_value(&count).expect("a number is JSON");
        self.0.insert(MISSED.to_owned(), count);
    }

    /// Whether it is over; an expiration that cannot be read is none.
    #[must_use]
    pub fn is_expired(&self, now: WallTime) -> bool {
        let at = self.text("expiration");
        at.and_then(|at| parse_rfc3339(&at))
            .is_some_and(|at| at <= now)
    }

    /// An attribute that is a text and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let text = serde_json::from_str::<String>(self.0.get(name)?.get()).ok();
        text.filter(|text| !text.is_empty())
    }

    /// An attribute as it was written.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|raw| raw.get())
    }

    /// All attributes, in the order of their names.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, raw)| (name.as_str(), raw.get()))
    }

    /// The payload alone: the bytes of `data_base64`, the text of a string, or JSON as it was
    /// written.
    ///
    /// # Errors
    /// `data_base64` is no base64.
    pub fn payload(&self) -> Result<Bytes, NotAnEvent> {
        if let Some(text) = self.text("data_base64") {
            let data = STANDARD.decode(text);
            return data
                .map(Bytes::from)
                .map_err(|error| NotAnEvent(format!("its data_base64 cannot be read: {error}")));
        }
        let Some(raw) = self.raw("data") else {
            return Ok(Bytes::new());
        };
        let kind = media_type(&self.text("datacontenttype").unwrap_or_default());
        let quoted = serde_json::from_str::<String>(raw).ok();
        Ok(match quoted {
            Some(text) if !is_json(&kind) => text.into(),
            _ => Bytes::copy_from_slice(raw.as_bytes()),
        })
    }

    /// As one value of JSON.
    #[must_use]
    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(&self.0).expect("texts by name are JSON")
    }

    /// As rules of routes see it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let fields = self.0.iter();
        let fields = fields.filter_map(|(name, raw)| {
            let value = serde_json::from_str(raw.get()).ok()?;
            Some((name.clone(), value))
        });
        serde_json::Value::Object(fields.collect())
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let json = serde_json::to_vec(&self.0).expect("texts by name are JSON");
        json.into()
    }
}

/// The media type without its parameters, in lower case.
pub(crate) fn media_type(content_type: &str) -> String {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests;
