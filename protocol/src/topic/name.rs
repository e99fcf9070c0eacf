//! Names of topics, and the reserved actor keys that stand for their partitions.

use std::fmt;
use std::fmt::Write as _;

use crate::actor::{ActorKey, NameError};
use crate::code::Code;
use crate::hash::{domain, hash64, partition_of};
use crate::ids::PartitionId;
use crate::limits::{PUBSUB_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX, TOPIC_PARTITIONS};

/// Actor type of the keys of topic partitions. No actor of it exists, and no client may call one.
pub const TOPIC_TYPE: &str = "ghostlight.topic";
/// Actor type of the keys that ask a partition what topics it holds.
pub const DIRECTORY_TYPE: &str = "ghostlight.topics";

/// A topic: namespace, pub/sub component, topic. Any character may stand in a topic's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicName {
    namespace: String,
    pubsub: String,
    topic: String,
}

/// One log of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub name: TopicName,
    /// Which of its logs, from 0.
    pub number: u16,
}

/// A key that asks one partition of the cluster for the topics in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryKey(pub ActorKey);

impl TopicName {
    /// Checks the names.
    ///
    /// # Errors
    /// A name is empty or too long (`PUBSUB_NAME_BYTES_MAX`, `TOPIC_NAME_BYTES_MAX`).
    pub fn new(namespace: &str, pubsub: &str, topic: &str) -> Result<Self, NameError> {
        let bounds = [
            ("pubsub name", pubsub, PUBSUB_NAME_BYTES_MAX),
            ("topic", topic, TOPIC_NAME_BYTES_MAX),
        ];
        for (what, name, most) in bounds {
            let why = match name.len() {
                0 => "it is empty".to_owned(),
                n if n > most => format!("{n} bytes, at most {most} are allowed"),
                _ => continue,
            };
            let code = Code::InvalidTopic;
            return Err(NameError { what, why, code });
        }
        let name = Self {
            namespace: namespace.to_owned(),
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
        };
        // With escapes it can be longer than a key takes; the namespace is checked with it.
        name.try_key(TOPIC_PARTITIONS)?;
        Ok(name)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pub/sub component.
    #[must_use]
    pub fn pubsub(&self) -> &str {
        &self.pubsub
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its logs.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        (0..TOPIC_PARTITIONS).map(|number| self.partition(number))
    }

    /// One of its logs.
    #[must_use]
    pub fn partition(&self, number: u16) -> TopicPartition {
        TopicPartition {
            name: self.clone(),
            number,
        }
    }

    /// The log that events with this key go to; the key of an event without one is its publisher's
    /// name, so that a publisher's events keep their order.
    #[must_use]
    pub fn partition_for(&self, key: &[u8]) -> TopicPartition {
        let hash = hash64(domain::EVENT_KEY, key);
        self.partition((hash % u64::from(TOPIC_PARTITIONS)) as u16)
    }

    fn try_key(&self, number: u16) -> Result<ActorKey, NameError> {
        let mut id = format!("{number}:");
        escape(&self.pubsub, &mut id);
        id.push(':');
        escape(&self.topic, &mut id);
        ActorKey::new(&self.namespace, TOPIC_TYPE, &id).map_err(|error| NameError {
            what: "topic",
            code: Code::InvalidTopic,
            ..error
        })
    }
}

impl TopicPartition {
    /// The reserved key that stands for it.
    #[must_use]
    pub fn key(&self) -> ActorKey {
        self.name
            .try_key(self.number)
            .expect("checked when the name was built")
    }

    /// Reads a key; `None` if it is not one of a topic partition.
    #[must_use]
    pub fn of_key(key: &ActorKey) -> Option<Self> {
        if !is_topic_key(key) {
            return None;
        }
        let mut parts = key.actor_id().splitn(3, ':');
        let number: u16 = parts.next()?.parse().ok()?;
        let pubsub = unescape(parts.next()?)?;
        let topic = unescape(parts.next()?)?;
        let name = TopicName::new(key.namespace(), &pubsub, &topic).ok()?;
        let found = Self { name, number };
        // One key for one log: no second spelling of it is taken.
        (number < TOPIC_PARTITIONS && found.key() == *key).then_some(found)
    }
}

impl DirectoryKey {
    /// For each partition of the cluster, a key of this namespace that hashes to it.
    #[must_use]
    pub fn all(namespace: &str, partitions: u16) -> Vec<Self> {
        let mut found: Vec<Option<ActorKey>> = vec![None; usize::from(partitions)];
        let mut missing = found.len();
        let mut number = 0_u64;
        while missing > 0 {
            let Ok(key) = ActorKey::new(namespace, DIRECTORY_TYPE, &number.to_string()) else {
                return Vec::new();
            };
            let PartitionId(at) = partition_of(&key, partitions);
            let place = &mut found[usize::from(at)];
            if place.is_none() {
                *place = Some(key);
                missing -= 1;
            }
            number += 1;
        }
        found.into_iter().flatten().map(Self).collect()
    }
}

/// Whether a key belongs to the topics, and not to an actor.
#[must_use]
pub fn is_topic_key(key: &ActorKey) -> bool {
    matches!(key.actor_type(), TOPIC_TYPE | DIRECTORY_TYPE)
}

/// `pubsub/topic`, the form the command line shows.
impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pubsub, self.topic)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.number)
    }
}

/// What no actor's name may have, and what separates the parts.
fn escape(name: &str, out: &mut String) {
    for c in name.chars() {
        if matches!(c, '#' | '?' | '\\' | '%' | ':') || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                write!(out, "%{byte:02x}").expect("a string takes everything");
            }
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn keys_round_trip_whatever_the_names_hold() {
        for topic in [
            "orders",
            "a/b",
            "sensors/+/#",
            "a:b%c\\d?",
            "ä\n€",
            "..",
            "0:1:2",
        ] {
            let name = TopicName::new("default", "pub:sub", topic).unwrap();
            for partition in name.partitions() {
                let key = partition.key();
                assert!(is_topic_key(&key));
                assert_eq!(TopicPartition::of_key(&key), Some(partition), "{topic}");
                assert_eq!(ActorKey::parse(key.to_bytes()).unwrap(), key);
            }
        }
    }

    #[test]
    fn other_keys_are_none() {
        let topic = |id| ActorKey::new("default", TOPIC_TYPE, id).unwrap();
        for id in [
            "orders", "8:p:t", "00:p:t", "1:p:%74", "1:p:%7", "1::t", "-1:p:t",
        ] {
            assert_eq!(TopicPartition::of_key(&topic(id)), None, "{id}");
        }
        let actor = ActorKey::new("default", "counter", "1:p:t").unwrap();
        assert!(!is_topic_key(&actor));
        assert_eq!(TopicPartition::of_key(&actor), None);
    }

    #[test]
    fn wrong_names() {
        for (pubsub, topic) in [
            ("", "t"),
            ("p", ""),
            ("p", &"x".repeat(TOPIC_NAME_BYTES_MAX + 1)),
            (&"x".repeat(PUBSUB_NAME_BYTES_MAX + 1), "t"),
            // Escaped, it is longer than a key takes.
            (
                &"#".repeat(PUBSUB_NAME_BYTES_MAX),
                &"#".repeat(TOPIC_NAME_BYTES_MAX),
            ),
        ] {
            let error = TopicName::new("default", pubsub, topic).unwrap_err();
            assert_eq!(error.code, Code::InvalidTopic);
        }
    }

    #[test]
    fn every_partition_has_a_directory() {
        for partitions in [1, 4, 256] {
            let keys = DirectoryKey::all("default", partitions);
            assert_eq!(keys.len(), usize::from(partitions));
            for (place, DirectoryKey(key)) in keys.iter().enumerate() {
                assert_eq!(partition_of(key, partitions).0 as usize, place);
                assert!(is_topic_key(key));
            }
        }
    }

    #[test]
    fn golden_places() {
        let name = TopicName::new("default", "pubsub", "orders").unwrap();
        let places: Vec<u16> = name
            .partitions()
            .map(|p| partition_of(&p.key(), 256).0)
            .collect();
        let keys: Vec<u16> = ["a", "b", "c", "d"]
            .iter()
            .map(|key| name.partition_for(key.as_bytes()).number)
            .collect();
        assert_eq!(
            (places, keys),
            (GOLDEN_PLACES.to_vec(), GOLDEN_KEYS.to_vec())
        );
        assert_eq!(
            name.partition(3).key().to_bytes(),
            Bytes::from_static(b"\0\x07default\0\x10ghostlight.topic\0\x0f3:pubsub:orders")
        );
    }

    const GOLDEN_PLACES: [u16; 8] = [173, 173, 81, 69, 127, 150, 150, 65];
    const GOLDEN_KEYS: [u16; 4] = [3, 4, 4, 1];
}
