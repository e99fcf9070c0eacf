//! Events as messages of AMQP, and back: the envelope is the body, metadata travels in headers.

use std::time::Duration;

use amqprs::channel::ConsumerMessage;
use amqprs::{
    BasicProperties, DELIVERY_MODE_PERSISTENT, DELIVERY_MODE_TRANSIENT, FieldValue, LongStr,
};
use bytes::Bytes;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::TopicName;

use super::link::table;
use super::options::Delivery;
use crate::clock::wall_now;
use crate::event::Event;
use crate::subscription::Content;

/// Metadata of a publish that says where it goes; nobody else hears it.
const ROUTING_KEY: &str = "routingKey";
/// Metadata of a publish that says what comes first, in queues that know that.
const PRIORITY: &str = "priority";
/// Longest name of a header, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// A text as a header's value.
pub(super) fn text(text: &str) -> Option<FieldValue> {
    LongStr::try_from(text).ok().map(FieldValue::S)
}

/// Which queues an event is for, where the kind of exchange knows that.
pub(super) fn routing_key(event: &Event) -> &str {
    find(event, ROUTING_KEY).unwrap_or_default()
}

fn find<'a>(event: &'a Event, wanted: &str) -> Option<&'a str> {
    let mut all = event.attributes.iter();
    let found = all.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.map(|(_, value)| value.as_str())
}

/// What goes beside the body.
pub(super) fn properties(
    event: &Event,
    ttl: Option<Duration>,
    delivery: Delivery,
) -> BasicProperties {
    let mut properties = BasicProperties::default();
    properties.with_delivery_mode(match delivery {
        Delivery::Transient => DELIVERY_MODE_TRANSIENT,
        Delivery::Persistent => DELIVERY_MODE_PERSISTENT,
    });
    if event.content_type.len() <= NAME_BYTES_MAX {
        properties.with_content_type(&event.content_type);
    }
    if let Some(ttl) = ttl {
        properties.with_expiration(&ttl.as_millis().to_string());
    }
    if let Some(Ok(priority)) = find(event, PRIORITY).map(str::parse) {
        properties.with_priority(priority);
    }
    let headers = event.attributes.iter().filter(|(name, _)| {
        let own = [ROUTING_KEY, PRIORITY].iter();
        name.len() <= NAME_BYTES_MAX && !own.clone().any(|own| own.eq_ignore_ascii_case(name))
    });
    let headers = headers.filter_map(|(name, value)| Some((name.as_str(), text(value)?)));
    properties.with_headers(table(headers));
    properties
}

/// What a message says; `None`: it is none. Its offset is its number on the channel.
pub(super) fn content(topic: &TopicName, message: &ConsumerMessage) -> Option<Content> {
    let delivery = message.deliver.as_ref()?;
    let headers = message
        .basic_properties
        .as_ref()
        .and_then(BasicProperties::headers);
    let headers = headers.into_iter().flat_map(|table| table.as_ref());
    let attributes = headers.filter_map(|(name, value)| match value {
        FieldValue::S(value) => Some((name.to_string(), value.to_string())),
        // Others are not the metadata of a publish.
        _ => None,
    });
    Some(Content {
        topic: topic.clone(),
        partition: 0,
        offset: delivery.delivery_tag(),
        attempt: if delivery.redelivered() { 2 } else { 1 },
        published: published(message),
        event: Event {
            data: Bytes::copy_from_slice(message.content.as_deref().unwrap_or_default()),
            attributes: attributes.collect(),
            ..Event::default()
        },
    })
}

/// Seconds since 1970, where a publisher wrote them.
fn published(message: &ConsumerMessage) -> WallTime {
    let properties = message.basic_properties.as_ref();
    let seconds = properties.and_then(BasicProperties::timestamp);
    seconds.map_or_else(wall_now, |seconds| WallTime(seconds.saturating_mul(1_000)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn metadata_that_steers_is_no_header() {
        let pairs = [("routingKey", "eu"), ("Priority", "7"), ("colour", "grün")];
        let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let event = Event {
            attributes: BTreeMap::from(owned),
            ..Event::default()
        };
        assert_eq!(routing_key(&event), "eu");
        let ttl = Some(Duration::from_millis(1_500));
        let made = properties(&event, ttl, Delivery::Persistent);
        assert_eq!((made.priority(), made.delivery_mode()), (Some(7), Some(2)));
        assert_eq!(made.expiration().map(String::as_str), Some("1500"));
        let headers = made.headers().map(|table| table.as_ref().len());
        assert_eq!(headers, Some(1));
    }
}
