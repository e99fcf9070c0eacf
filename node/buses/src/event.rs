//! What is published.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::topic::TopicName;

/// One event. What it says is opaque to the topic.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// Events with the same key keep their order (publish metadata `partitionKey`). Without one the
    /// events of one `source` stay on one topic partition.
    pub key: Option<String>,
    /// The payload, byte for byte.
    pub data: Bytes,
    /// Its media type; may be empty.
    pub content_type: String,
    /// Who publishes: the app-id.
    pub source: String,
    /// Whatever else must reach the subscriber; with key, source and content type at most
    /// `EVENT_HEADER_BYTES_MAX` bytes.
    pub attributes: BTreeMap<String, String>,
}

/// One publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub event: Event,
    /// The publisher's own name of this publish, at most 256 bytes: a second publish to the same
    /// topic partition with the same one within 24 h appends nothing and is answered as the first
    /// was.
    pub dedup: Option<Bytes>,
    /// The publisher's own name of the event.
    pub name: Option<EventName>,
    /// After this the event is not delivered any more; it becomes a dead letter where the group has
    /// a topic for those, else it is passed over.
    pub ttl: Option<Duration>,
    /// How long the publisher waits; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// What the topic keeps from now on; `None`: as before, at first a week and 1 GiB per topic
    /// partition.
    pub retention: Option<Retention>,
}

/// The name that a publisher gave an event: its source and its id, which are of one event alone
/// (CloudEvents 1.0, 3.1.1). In Ghostlight's own topics a second event of that name in the same
/// topic partition is not appended, and is answered as the first was: for two minutes, and among
/// the last 100,000 names. JetStream knows it as `Nats-Msg-Id`; other buses know no names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventName {
    /// Whose.
    pub source: String,
    /// Which.
    pub id: String,
}

/// Several events for one topic: one append for each topic partition that they fall on, each all or
/// nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BulkPublish {
    /// Where to.
    pub topic: TopicName,
    /// The events, in order.
    pub entries: Vec<BulkEntry>,
    /// As in [`Publish`].
    pub timeout: Option<Duration>,
    /// As in [`Publish`].
    pub retention: Option<Retention>,
}

/// One of a bulk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BulkEntry {
    /// The event.
    pub event: Event,
    /// As in [`Publish`].
    pub name: Option<EventName>,
    /// As in [`Publish`].
    pub ttl: Option<Duration>,
}

/// What a topic keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Events older than this go.
    pub age: Duration,
    /// Above so many bytes in one topic partition the oldest events go.
    pub bytes: u64,
}

/// Where an event was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Topic partition.
    pub partition: u16,
    /// Its offset there.
    pub offset: u64,
}

/// How a publish ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishOutcome {
    /// Appended, and on disk on a majority. External buses have no offsets to tell.
    Done(Option<Published>),
    /// Certainly not appended.
    NotRun(NotRun),
    /// May have been appended: publish again only with the same `dedup`.
    Unknown {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}
