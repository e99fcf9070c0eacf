//! Entries of a stream: how an event is written, and read back.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::topic::TopicName;
use redis::{Cmd, Value};

use super::options::{Options, Trim};
use crate::clock::wall_now;
use crate::event::Event;
use crate::subscription::Content;

const DATA: &str = "data";
const METADATA: &str = "metadata";

/// The command that adds an event.
pub(super) fn add(topic: &str, event: &Event, options: &Options) -> Cmd {
    let mut add = redis::cmd("XADD");
    add.arg(topic);
    match options.trim {
        Trim::Nothing => {}
        Trim::Length(most) => {
            add.arg("MAXLEN").arg("~").arg(most);
        }
        Trim::Age(age) => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let oldest = wall_now().0.saturating_sub(age);
            add.arg("MINID").arg("~").arg(oldest);
        }
    }
    add.arg("*").arg(DATA).arg(&event.data[..]);
    if !event.attributes.is_empty()
        && let Ok(metadata) = serde_json::to_string(&event.attributes)
    {
        add.arg(METADATA).arg(metadata);
    }
    add
}

/// What an entry says. One without data is an empty event: somebody else wrote it.
pub(super) fn content(
    topic: &TopicName,
    id: &str,
    fields: &HashMap<String, Value>,
    attempt: u32,
) -> Content {
    let bytes = |name| match fields.get(name) {
        Some(Value::BulkString(bytes)) => &bytes[..],
        _ => &[],
    };
    let attributes: BTreeMap<String, String> =
        serde_json::from_slice(bytes(METADATA)).unwrap_or_default();
    // Ids are `milliseconds-number`.
    let millis = id.split('-').next().and_then(|text| text.parse().ok());
    let millis = millis.unwrap_or_default();
    Content {
        topic: topic.clone(),
        partition: 0,
        offset: millis,
        attempt,
        published: WallTime(millis),
        event: Event {
            data: Bytes::copy_from_slice(bytes(DATA)),
            attributes,
            ..Event::default()
        },
    }
}
