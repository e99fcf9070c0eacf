//! Events as records of Kafka, and back: the envelope is the value, the partition key is the key,
//! metadata travels in headers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::TopicName;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rdkafka::Message;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};

use super::options::Headers;
use crate::clock::wall_now;
use crate::event::Event;
use crate::subscription::Content;

/// Metadata of a publish that is the record's key.
const KEYS: [&str; 2] = ["partitionKey", "__key"];
/// Begin of the names under which subscribers hear where an event was.
const PLACE: &str = "__";

/// What goes into headers.
pub(super) fn headers(event: &Event, how: Headers) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &event.attributes {
        if KEYS.iter().any(|key| key.eq_ignore_ascii_case(name)) || name.starts_with(PLACE) {
            continue;
        }
        let value = match how {
            Headers::AsTheyAre => Cow::Borrowed(value.as_str()),
            Headers::Escaped => utf8_percent_encode(value, NON_ALPHANUMERIC).into(),
        };
        headers = headers.insert(Header {
            key: name,
            value: Some(value.as_bytes()),
        });
    }
    headers
}

/// The record's key; `None`: it goes to any partition.
pub(super) fn key(event: &Event) -> Option<&str> {
    let named = |wanted: &&str| {
        let mut all = event.attributes.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    let written = || KEYS.iter().find_map(named);
    let key = event.key.as_deref();
    key.or_else(|| written().map(|(_, value)| value.as_str()))
        .filter(|key| !key.is_empty())
}

/// What a record says.
pub(super) fn content(topic: &TopicName, record: &impl Message, how: Headers) -> Content {
    let mut attributes = BTreeMap::new();
    for header in record
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
    {
        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
        let value = match how {
            Headers::AsTheyAre => value.into_owned(),
            Headers::Escaped => percent_decode_str(&value).decode_utf8_lossy().into_owned(),
        };
        attributes.insert(header.key.to_owned(), value);
    }
    let key = record
        .key()
        .map(|key| String::from_utf8_lossy(key).into_owned());
    let millis = record.timestamp().to_millis();
    let places = [
        ("__topic", record.topic().to_owned()),
        ("__partition", record.partition().to_string()),
        ("__offset", record.offset().to_string()),
    ];
    attributes.extend(places.map(|(name, value)| (name.to_owned(), value)));
    attributes.extend(key.clone().map(|key| ("__key".to_owned(), key)));
    attributes.extend(millis.map(|time| ("__timestamp".to_owned(), time.to_string())));
    Content {
        topic: topic.clone(),
        partition: u16::try_from(record.partition()).unwrap_or_default(),
        offset: u64::try_from(record.offset()).unwrap_or_default(),
        // Kafka counts no deliveries.
        attempt: 1,
        published: millis
            .and_then(|time| u64::try_from(time).ok())
            .map_or_else(wall_now, WallTime),
        event: Event {
            key,
            data: Bytes::copy_from_slice(record.payload().unwrap_or_default()),
            attributes,
            ..Event::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was() {
        let pairs = [
            ("colour", "grün & rot"),
            ("partitionKey", "k1"),
            ("__offset", "no"),
        ];
        let event = Event {
            data: Bytes::from_static(b"{}"),
            attributes: pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            ..Event::default()
        };
        assert_eq!(key(&event), Some("k1"));
        for how in [Headers::AsTheyAre, Headers::Escaped] {
            let record = OwnedMessage::new(
                Some(event.data.to_vec()),
                key(&event).map(|key| key.as_bytes().to_vec()),
                "orders".to_owned(),
                Timestamp::CreateTime(7),
                3,
                41,
                Some(headers(&event, how)),
            );
            let topic = TopicName::new("default", "bus", "orders").unwrap();
            let content = content(&topic, &record, how);
            let wanted = [
                ("colour", "grün & rot"),
                ("__key", "k1"),
                ("__topic", "orders"),
                ("__partition", "3"),
                ("__offset", "41"),
                ("__timestamp", "7"),
            ];
            let wanted: BTreeMap<_, _> = wanted.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
            assert_eq!(content.event.attributes, wanted, "{how:?}");
            assert_eq!(
                (content.partition, content.offset, content.published),
                (3, 41, WallTime(7))
            );
        }
    }
}
