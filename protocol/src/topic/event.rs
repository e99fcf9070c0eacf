//! One event as it is published, stored and delivered.

use bytes::Bytes;
use prost::Message;

use crate::actor::ActorKey;
use crate::hash::{domain, hash128};

/// An event. What it says is opaque here.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TopicEvent {
    /// Events with the same key keep their order; absent: of its publisher alone.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub key: Option<Bytes>,
    /// The payload, byte for byte.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Media type of the payload.
    #[prost(string, tag = "3")]
    pub content_type: String,
    /// What else travels with it; each name at most once.
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<Attribute>,
    /// Calendar clock of the publisher's node, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "5")]
    pub published_ms: u64,
    /// From when on it is not delivered any more, on the same scale; 0: never.
    #[prost(uint64, tag = "6")]
    pub expires_ms: u64,
    /// Who published it: an app-id, or an actor as `type/id`.
    #[prost(string, tag = "7")]
    pub source: String,
    /// The one group that it is for; empty: for all. Others settle it unseen. Set when a parked
    /// letter is driven again.
    #[prost(string, tag = "8")]
    pub only_group: String,
}

/// The name of an event as it travels: its source and its id, which name one event together
/// (CloudEvents 1.0, 3.1.1).
#[must_use]
pub fn event_name(source: &str, id: &str) -> Bytes {
    let name = hash128(domain::EVENT_NAME, &[source.as_bytes(), id.as_bytes()]);
    Bytes::copy_from_slice(&name.to_be_bytes())
}

/// One attribute of an event.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The message that an event becomes, where a subscription is for actors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForActor {
    /// Which actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
}
